/* The invariants of kernel.h, each a BUG that names function, kernel and statement. Nothing is changed. */
#include "verify.h"

/* ---- Saying where
 * --------------------------------------------------------------------------------------------------------- */

const char *verify_where(const Verifier *v) {
    static const char *const kinds[] = {"loop", "let", "var", "set", "store", "if", "prefetch", "comment"};
    if (!v->kernel && !v->math)
        return arena_printf(v->arena, "function %s", v->function->name);
    const char *name = v->math ? arena_printf(v->arena, "math function %s", v->math->name)
                               : arena_printf(v->arena, "function %s, kernel %s", v->function->name, v->kernel->name);
    if (!v->statement)
        return name;
    const Statement *s = v->statement;
    const char *about = s->kind == STATEMENT_STORE || s->kind == STATEMENT_PREFETCH ? s->buffer->name
                        : s->kind == STATEMENT_LET                                  ? s->value->let
                        : s->kind == STATEMENT_SET && s->target                     ? s->target->name
                        : s->name                                                   ? s->name
                                                                                    : "";
    return arena_printf(v->arena, "%s, statement %d (%s %s)", name, v->statement_number, kinds[s->kind],
                        about ? about : "without a name");
}

static const char *type_text(const Verifier *v, ValueType type) {
    return arena_printf(v->arena, type.lanes == 1 ? "%s" : "%sx%d", scalar_name(type.scalar), type.lanes);
}

/* ---- Types
 * ----------------------------------------------------------------------------------------------------------------- */

static bool same_type(ValueType x, ValueType y) {
    return x.scalar == y.scalar && x.lanes == y.lanes;
}

static bool is_float(Scalar scalar) {
    return scalar == SCALAR_F32 || scalar == SCALAR_F64;
}

static bool is_index(const Value *value) {
    return same_type(value->type, (ValueType){SCALAR_I64, 1});
}

static void want(const Verifier *v, bool holds, const Value *value, const char *what) {
    if (!holds)
        BROKEN(v, "%s (a value of %s)", what, type_text(v, value->type));
}

static void check_cast(const Verifier *v, const Value *value) {
    ValueType from = value->args[0]->type, to = value->type;
    want(v, from.lanes == to.lanes && from.scalar != SCALAR_BOOL && to.scalar != SCALAR_BOOL, value,
         "a cast changes lanes or truth");
    if (value->op == OP_BITCAST)
        want(v, scalar_bytes(from.scalar) == scalar_bytes(to.scalar), value, "a bitcast changes the width");
}

static void check_op(const Verifier *v, const Value *value) {
    const OpInfo *info = &op_table[value->op];
    ValueType first = value->args[0] ? value->args[0]->type : value->type;
    if (info->class == CLASS_LEAF || info->class == CLASS_SHAPE || info->arity != value->arg_count)
        BROKEN(v, "'%s' with %d arguments", info->name, value->arg_count);
    if (value->op == OP_BITCAST || value->op == OP_CONVERT) {
        check_cast(v, value);
        return;
    }
    if (value->op == OP_WHERE) {
        want(v, first.scalar == SCALAR_BOOL && first.lanes == value->type.lanes, value,
             "where asks a truth value of its lanes");
        want(v, same_type(value->args[1]->type, value->type) && same_type(value->args[2]->type, value->type), value,
             "where's branches differ from it");
        return;
    }
    for (int i = 1; i < value->arg_count; i++)
        if (!same_type(first, value->args[i]->type))
            BROKEN(v, "'%s' of %s and %s", info->name, type_text(v, first), type_text(v, value->args[i]->type));
    bool truth = info->class == CLASS_COMPARE || value->op == OP_INTEGER_EQUAL || value->op == OP_INTEGER_LESS;
    want(v, value->type.lanes == first.lanes && value->type.scalar == (truth ? SCALAR_BOOL : first.scalar), value,
         "the result's type does not follow from the arguments");
    bool logic = value->op == OP_AND || value->op == OP_OR || value->op == OP_NOT;
    bool fits = logic                                                 ? first.scalar == SCALAR_BOOL
                : value->op == OP_MULTIPLY_HIGH                       ? first.scalar == SCALAR_U32
                : value->op == OP_ZIP_LOW || value->op == OP_ZIP_HIGH ? first.scalar == SCALAR_F32 && first.lanes == 4
                : info->class == CLASS_KERNEL ? !is_float(first.scalar) && first.scalar != SCALAR_BOOL
                                              : is_float(first.scalar);
    if (value->op == OP_INTEGER_DIVIDE || value->op == OP_INTEGER_REMAINDER || value->op == OP_INTEGER_MINIMUM)
        fits = is_index(value->args[0]);
    if (!fits || value->op == OP_REAL)
        BROKEN(v, "'%s' of %s", info->name, type_text(v, first));
    if (info->class == CLASS_MATH && (!value->function || !same_type(value->function->result, value->type)))
        BROKEN(v, "'%s' without its math function", info->name);
    for (int i = 0; info->class == CLASS_MATH && i < value_first_argument(value); i++)
        want(v, value->args[i]->kind == VALUE_NUMBER, value, "an argument that its math function does not take");
}

static void check_call(const Verifier *v, const Value *value) {
    const MathFunction *function = value->function;
    if (!function || value->arg_count != function->argument_count)
        BROKEN(v, "a call with %d arguments", value->arg_count);
    want(v, same_type(value->type, function->result), value, "a call of another type than its function");
    for (int i = 0; i < value->arg_count; i++)
        if (!same_type(value->args[i]->type, function->arguments[i]))
            BROKEN(v, "argument %d of %s is %s", i + 1, function->name, type_text(v, value->args[i]->type));
}

/* ---- Indices ---------------------------------------------------------------------------------------------------- */

static void check_bounds(Verifier *v, const Buffer *buffer, const Value *index, int lanes) {
    if (!is_index(index))
        BROKEN(v, "an index of %s into %s", type_text(v, index->type), buffer->name);
    Range range = range_of(v, index);
    bool is_map = v->function->is_map && buffer->role == BUFFER_ARGUMENT; /* its length is rows */
    int64_t elements = is_map ? v->function->capacity : buffer->elements;
    bool outside = range.low <= range.high && (range.low < 0 || range.high > elements - lanes);
    if (outside) {
        range = share_range(v, index);
        outside = range.low < 0 || range.high > elements - lanes;
    }
    if (outside)
        BROKEN(v, "%s[%" PRId64 " … %" PRId64 "] of %" PRId64 " elements", buffer->name, range.low,
               range.high + lanes - 1, elements);
}

/* ---- Values: scope, sharing
 * -------------------------------------------------------------------------------------------------- */

static void check_buffer(const Verifier *v, const Buffer *buffer, bool stores) {
    if (!v->kernel)
        BROKEN(v, "a math function touches %s", buffer->name);
    bool listed = false, written = false, in_function = false;
    for (int i = 0; i < v->kernel->buffer_count; i++)
        listed = listed || v->kernel->buffers[i] == buffer;
    for (int i = 0; i < v->kernel->written_count; i++)
        written = written || v->kernel->written[i] == buffer;
    for (int i = 0; i < v->function->buffer_count; i++)
        in_function = in_function || v->function->buffers[i] == buffer;
    if (!listed || (stores && !written))
        BROKEN(v, "the kernel's lists lack %s", buffer->name);
    if (!in_function)
        BROKEN(v, "the function's list lacks %s", buffer->name);
}

static bool is_open(const Verifier *v, const Statement *statement) {
    for (int i = 0; i < v->open.count; i++)
        if (v->open.at[i] == statement)
            return true;
    return false;
}

static void check_leaf(const Verifier *v, const Value *value) {
    if (value->kind == VALUE_VARIABLE && (value->statement->kind != STATEMENT_LOOP || !is_open(v, value->statement)))
        BROKEN(v, "a loop's variable outside its loop");
    if (value->kind == VALUE_REGISTER && (value->statement->kind != STATEMENT_VAR || !is_open(v, value->statement)))
        BROKEN(v, "a register is read where no VAR has declared it");
    if (value->kind == VALUE_REGISTER)
        want(v, same_type(value->type, value->statement->type), value, "a register is read as another type");
    if (value->kind == VALUE_ARGUMENT && (!v->math || value->number.integer >= v->math->argument_count))
        BROKEN(v, "an argument outside a math function");
}

static void check_kind(Verifier *v, const Value *value) {
    ValueType type = value->type, first = value->arg_count ? value->args[0]->type : type;
    want(v, type.lanes == 1 || type.lanes == 4 || type.lanes == 8 || type.lanes == 16, value, "an odd number of lanes");
    switch (value->kind) {
    case VALUE_OP:
        check_op(v, value);
        break;
    case VALUE_LOAD:
        want(v, value->buffer->scalar == type.scalar, value, "a load of another type than its buffer");
        check_buffer(v, value->buffer, false);
        check_bounds(v, value->buffer, value->args[0], 1); /* lanes may pass the end: the plan keeps room */
        share_note(v, value->buffer, value->args[0],
                   value->buffer->panels ? type.lanes : 1); /* masked lanes may pass a row */
        break;
    case VALUE_SPLAT:
        want(v, first.lanes == 1 && first.scalar == type.scalar, value, "a splat of another type");
        break;
    case VALUE_EXTRACT:
        want(v, type.lanes == 1 && first.scalar == type.scalar && value->number.integer < first.lanes, value,
             "no such lane");
        break;
    case VALUE_TREE:
        want(v, type.lanes == 1 && first.lanes == 16 && first.scalar == type.scalar, value,
             "a tree over other than 16 lanes");
        break;
    case VALUE_CALL:
        check_call(v, value);
        break;
    default:
        check_leaf(v, value);
    }
}

static void check_value(Verifier *v, const Value *value);

static void check_expression(Verifier *v, const Value *value) {
    for (int i = 0; i < value->arg_count; i++)
        check_value(v, value->args[i]);
    if (value->arg_count && is_index(value))
        range_of(v, value); /* divisions */
    check_kind(v, value);
}

/* A value where it is used. */
static void check_value(Verifier *v, const Value *value) {
    if (!value)
        BROKEN(v, "a value is missing");
    if (value->let && value->kind != VALUE_ARGUMENT) {
        for (int i = 0; i < v->lets.count; i++)
            if (v->lets.at[i] == value)
                return;
        BROKEN(v, "'%s' is used where no LET before has named it", value->let);
    }
    if (value->arg_count) {
        for (int i = 0; i < v->seen.count; i++)
            if (v->seen.at[i] == value)
                BROKEN(v, "a value of %s is used more than once and has no LET", type_text(v, value->type));
        *LIST_ADD(v->arena, &v->seen) = value;
    }
    check_expression(v, value);
}

/* ---- Statements
 * ----------------------------------------------------------------------------------------------------------------- */

static void claim_name(Verifier *v, Name name) {
    if (!name)
        BROKEN(v, "a name is missing");
    for (int i = 0; i < v->names.count; i++)
        if (v->names.at[i] == name)
            BROKEN(v, "the name '%s' is taken", name);
    for (int i = 0; v->kernel && i < v->kernel->buffer_count; i++)
        if (v->kernel->buffers[i]->name == name)
            BROKEN(v, "'%s' is also a buffer's name", name);
    *LIST_ADD(v->arena, &v->names) = name;
}

static void check_block(Verifier *v, const Block *block, bool outermost);

static void check_loop(Verifier *v, const Statement *loop, bool outermost) {
    claim_name(v, loop->name);
    check_value(v, loop->from);
    check_value(v, loop->to);
    if (!is_index(loop->from) || !is_index(loop->to) || loop->step <= 0)
        BROKEN(v, "the bounds are i64 and the step is positive");
    if (loop->parallel) {
        if (!outermost || v->parallel_loops++)
            BROKEN(v, "a parallel loop stands once in a kernel, and outermost");
        if (!v->kernel->parallel)
            BROKEN(v, "the kernel does not say that it is parallel");
        v->parallel = loop;
    }
    *LIST_ADD(v->arena, &v->open) = loop;
    check_block(v, &loop->body, false);
    v->open.count--;
    if (loop->parallel)
        v->parallel = NULL;
}

static void check_store(Verifier *v, const Statement *store) {
    check_value(v, store->index);
    check_value(v, store->value);
    check_buffer(v, store->buffer, true);
    if (store->buffer->role == BUFFER_FEED || store->buffer->role == BUFFER_SCALARS ||
        store->buffer->role == BUFFER_TOTALS)
        BROKEN(v, "%s is constant and stored to", store->buffer->name);
    if (store->value->type.scalar != store->buffer->scalar)
        BROKEN(v, "%s into %s, which holds %s", type_text(v, store->value->type), store->buffer->name,
               scalar_name(store->buffer->scalar));
    check_bounds(v, store->buffer, store->index, store->value->type.lanes);
    if (v->kernel->parallel && !v->parallel && store->buffer->role != BUFFER_SCRATCH)
        BROKEN(v, "every thread would store to the same place of %s", store->buffer->name);
    share_note(v, store->buffer, store->index, store->value->type.lanes);
}

static void check_statement(Verifier *v, const Statement *statement, bool outermost) {
    switch (statement->kind) {
    case STATEMENT_LOOP:
        check_loop(v, statement, outermost);
        break;
    case STATEMENT_LET:
        if (!statement->value)
            BROKEN(v, "a value is missing");
        claim_name(v, statement->value->let);
        check_expression(v, statement->value);
        *LIST_ADD(v->arena, &v->lets) = statement->value;
        break;
    case STATEMENT_VAR:
        claim_name(v, statement->name);
        check_value(v, statement->value);
        want(v, same_type(statement->type, statement->value->type), statement->value, "a register of another type");
        *LIST_ADD(v->arena, &v->open) = statement;
        break;
    case STATEMENT_SET:
        if (!statement->target || statement->target->kind != STATEMENT_VAR || !is_open(v, statement->target))
            BROKEN(v, "a register is set where no VAR has declared it");
        check_value(v, statement->value);
        want(v, same_type(statement->target->type, statement->value->type), statement->value,
             "a register of another type");
        break;
    case STATEMENT_STORE:
        check_store(v, statement);
        break;
    case STATEMENT_IF: {
        check_value(v, statement->value);
        want(v, same_type(statement->value->type, (ValueType){SCALAR_BOOL, 1}), statement->value,
             "a condition is a bool");
        int facts = v->facts.count;
        range_assume(v, statement->value, true);
        if (!range_is_never(v, statement->value)) /* `if p < 18` where p is 18 */
            check_block(v, &statement->body, false);
        v->facts.count = facts;
        break;
    }
    case STATEMENT_PREFETCH:
        check_value(v, statement->index);
        check_buffer(v, statement->buffer, false);
        check_bounds(v, statement->buffer, statement->index, 1);
        break;
    case STATEMENT_COMMENT:
        break;
    }
}

/* What a body names is gone behind it. */
static void check_block(Verifier *v, const Block *block, bool outermost) {
    int lets = v->lets.count, open = v->open.count;
    for (int i = 0; i < block->count; i++) {
        v->statement = block->at[i];
        v->statement_number++;
        if (v->math && v->statement->kind != STATEMENT_LET)
            BROKEN(v, "a math function is made of LETs");
        check_statement(v, block->at[i], outermost);
    }
    if (!outermost) {
        v->lets.count = lets;
        v->open.count = open;
    }
}

/* ---- Kernels, functions
 * ----------------------------------------------------------------------------------------------------------- */

static void check_kernel(Arena *arena, const Function *function, const Kernel *kernel) {
    Verifier verifier = {.arena = arena, .function = function, .kernel = kernel};
    check_block(&verifier, &kernel->body, true);
    verifier.statement = NULL;
    share_check(&verifier);
    if (kernel->parallel && !verifier.parallel_loops)
        BROKEN(&verifier, "it is called parallel and has no parallel loop");
}

static void check_math(Arena *arena, const Module *module, int at) {
    const MathFunction *function = module->maths.at[at];
    Verifier verifier = {.arena = arena, .math = function};
    check_block(&verifier, &function->body, true);
    verifier.statement = NULL;
    check_value(&verifier, function->value);
    want(&verifier, same_type(function->value->type, function->result), function->value, "it returns another type");
    for (int i = 0; i < at; i++)
        if (module->maths.at[i]->name == function->name)
            BROKEN(&verifier, "its name is taken");
}

/* ARGUMENT buffers are told apart by their address alone. */
static bool overlap(const Buffer *x, const Buffer *y) {
    if (buffer_of_thread(x) || buffer_of_thread(y))
        return false;
    if (x == y)
        return true;
    if (x->role == BUFFER_ARGUMENT || y->role == BUFFER_ARGUMENT)
        return false;
    uint64_t x_end = x->offset + (uint64_t)x->elements * (uint64_t)scalar_bytes(x->scalar);
    uint64_t y_end = y->offset + (uint64_t)y->elements * (uint64_t)scalar_bytes(y->scalar);
    return x->offset < y_end && y->offset < x_end;
}

static const Buffer *conflict(const Kernel *writer, const Kernel *other) {
    for (int i = 0; i < writer->written_count; i++)
        for (int j = 0; j < other->buffer_count; j++)
            if (overlap(writer->written[i], other->buffers[j]))
                return writer->written[i];
    return NULL;
}

static void check_order(const Verifier *v, const Function *function, int first, int at) {
    for (int i = first; i < at; i++) {
        const Kernel *earlier = function->steps[i].kernel, *later = function->steps[at].kernel;
        const Buffer *shared = conflict(earlier, later);
        shared = shared ? shared : conflict(later, earlier);
        if (shared)
            BROKEN(v, "%s and %s both touch %s, and no barrier is between them", earlier->name, later->name,
                   shared->name);
    }
}

static void check_steps(Arena *arena, const Function *function) {
    Verifier verifier = {.arena = arena, .function = function};
    int first = 0; /* of the kernels that no barrier has closed */
    int within = 0;
    for (int i = 0; i < function->step_count; i++) {
        const Step *step = &function->steps[i];
        if (step->kind == STEP_KERNEL) {
            check_kernel(arena, function, step->kernel);
            if (function->parallel)
                check_order(&verifier, function, first, i);
            continue;
        }
        if (step->kind == STEP_GUARD && (!step->buffer || step->element < 0 ||
                                         step->element >= step->buffer->elements || !is_float(step->buffer->scalar)))
            BROKEN(&verifier, "step %d: a guard without a number to look at", i + 1);
        if (step->kind != STEP_BARRIER && function->parallel && i > 0 && function->steps[i - 1].kind == STEP_KERNEL)
            BROKEN(&verifier, "step %d stands behind no barrier", i + 1);
        if (step->kind == STEP_GUARD && i == 0)
            BROKEN(&verifier, "the function begins with a guard on %s", step->buffer->name);
        within += (step->kind == STEP_WHEN) - (step->kind == STEP_END);
        if (within < 0 || within > 1 || (step->kind == STEP_WHEN && step->element < 2))
            BROKEN(&verifier, "step %d: `when` and `end` do not pair", i + 1);
        if (step->kind == STEP_BARRIER || first == i)
            first = i + 1;
    }
    if (within)
        BROKEN(&verifier, "a `when` without its `end` in %s", function->name);
}

static void check_buffers(Arena *arena, const Function *function, uint64_t memory_bytes, uint64_t scratch_bytes) {
    Verifier verifier = {.arena = arena, .function = function};
    for (int i = 0; i < function->buffer_count; i++) {
        const Buffer *buffer = function->buffers[i];
        for (int j = 0; j < i; j++)
            if (function->buffers[j]->name == buffer->name)
                BROKEN(&verifier, "two buffers are called %s", buffer->name);
        if (buffer->scalar != SCALAR_F32 && buffer->scalar != SCALAR_F64 && buffer->scalar != SCALAR_I32)
            BROKEN(&verifier, "%s holds %s", buffer->name, scalar_name(buffer->scalar));
        int64_t elements = buffer->per_row ? function->capacity : 1;
        for (int axis = 0; axis < buffer->rank; axis++)
            elements *= buffer->dims[axis];
        if (buffer->role != BUFFER_ARGUMENT && (buffer->elements < elements || buffer->offset % 64))
            BROKEN(&verifier, "%s has %" PRId64 " elements at %" PRIu64, buffer->name, buffer->elements,
                   buffer->offset);
        uint64_t end = buffer->offset + (uint64_t)buffer->elements * (uint64_t)scalar_bytes(buffer->scalar);
        uint64_t room = memory_bytes + (buffer_of_thread(buffer) ? scratch_bytes : 0);
        if (memory_bytes && !function->is_double && buffer->role != BUFFER_ARGUMENT && end > room)
            BROKEN(&verifier, "%s ends behind the memory", buffer->name);
    }
}

void kernel_verify(const Module *module) {
    Arena *arena = arena_new();
    for (int i = 0; i < module->maths.count; i++)
        check_math(arena, module, i);
    for (int i = 0; i < module->functions.count; i++) {
        check_buffers(arena, module->functions.at[i], module->memory_bytes, module->scratch_bytes);
        check_steps(arena, module->functions.at[i]);
    }
    arena_free(arena);
}
