/* Constructors of the kernel representation. They check types, fold constants of I64 (so that indices print as
   `o * 4 + i`), keep names unique in a kernel, and keep the kernel's lists of buffers. */
#include "kernel.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

const char *scalar_name(Scalar scalar) {
    static const char *const names[] = {"f32", "f64", "i32", "u32", "i64", "u64", "bool"};
    return names[scalar];
}

int scalar_bytes(Scalar scalar) {
    static const int bytes[] = {4, 8, 4, 4, 8, 8, 0};
    return bytes[scalar];
}

static bool is_float(ValueType type) {
    return type.scalar == SCALAR_F32 || type.scalar == SCALAR_F64;
}

static bool is_integer(ValueType type) {
    return !is_float(type) && type.scalar != SCALAR_BOOL;
}

static bool same_type(ValueType x, ValueType y) {
    return x.scalar == y.scalar && x.lanes == y.lanes;
}

static const char *kernel_name(const Builder *b) {
    return b->kernel ? b->kernel->name : "a math function";
}

static void check_lanes(const Builder *b, int lanes) {
    if (lanes != 1 && lanes != 4 && lanes != 8 && lanes != 16)
        BUG("%s: a value of %d lanes", kernel_name(b), lanes);
}

static void check_index(const Builder *b, const Value *index) {
    if (!same_type(index->type, (ValueType){SCALAR_I64, 1}))
        BUG("%s: an index is %s x%d, not i64", kernel_name(b), scalar_name(index->type.scalar), index->type.lanes);
}

static Value *value_new(Builder *b, ValueKind kind, ValueType type) {
    check_lanes(b, type.lanes);
    Value *value = arena_new_of(b->arena, Value);
    value->kind = kind;
    value->type = type;
    return value;
}

/* ---- Names
 * ------------------------------------------------------------------------------------------------------------ */

/* Words that a printer cannot use for a variable. */
static bool is_reserved(const char *name) {
    static const char *const words[] = {
        "auto",   "break",    "case",   "char",     "const",   "continue", "default", "do",       "double", "else",
        "enum",   "extern",   "float",  "for",      "goto",    "if",       "inline",  "int",      "long",   "register",
        "return", "short",    "signed", "sizeof",   "static",  "struct",   "switch",  "typedef",  "union",  "unsigned",
        "void",   "volatile", "while",  "restrict", "asm",     "typeof",   "true",    "false",    "bool",   "NULL",
        "main",   "context",  "memory", "thread",   "threads", "rows",     "seed",    "position", "step",
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i][0] == name[0] && !strcmp(words[i], name))
            return true;
    return false;
}

void build_start_names(Builder *b) {
    b->names.kernel++;
    b->names.count = 0;
}

static LocalName *name_slot(const LocalNames *names, Name name) {
    uint64_t at = (uint64_t)(uintptr_t)name * 0x9E3779B97F4A7C15u >> 32;
    for (;; at++) {
        LocalName *local = &names->at[at & (names->size - 1)];
        if (!local->name || local->kernel != names->kernel || local->name == name)
            return local;
    }
}

static void grow_names(Builder *b) {
    LocalNames larger = {
        .size = b->names.size ? b->names.size * 2 : 32, .count = b->names.count, .kernel = b->names.kernel};
    larger.at = arena_array(b->arena, LocalName, larger.size);
    for (size_t i = 0; i < b->names.size; i++)
        if (b->names.at[i].name && b->names.at[i].kernel == b->names.kernel)
            *name_slot(&larger, b->names.at[i].name) = b->names.at[i];
    b->names = larger;
}

/* Stays where it is until another name is looked up. */
static LocalName *local_name(Builder *b, Name name) {
    if (b->names.count * 2 >= b->names.size)
        grow_names(b);
    LocalName *local = name_slot(&b->names, name);
    if (local->name != name || local->kernel != b->names.kernel) {
        *local = (LocalName){.name = name, .kernel = b->names.kernel, .taken = is_reserved(name)};
        b->names.count++;
    }
    return local;
}

/* The wish as an identifier that nothing in the kernel has yet, to be taken at once: x, x_2, x_3 … */
static Name free_name(Builder *b, const char *wish) {
    enum { NUMBER_LENGTH = 16 };
    char brief[96];
    size_t length = strlen(wish), most = length + 1 + NUMBER_LENGTH;
    char *identifier = most <= sizeof brief ? brief : arena_alloc(b->arena, most), *end = identifier;
    if (isdigit((unsigned char)*wish) || !*wish)
        *end++ = '_';
    for (const char *at = wish; *at; at++)
        *end++ = isalnum((unsigned char)*at) ? *at : '_';
    Name wanted = name_slice(identifier, (size_t)(end - identifier)), name = wanted;
    if (!local_name(b, wanted)->taken)
        return wanted;
    int number = local_name(b, wanted)->tried;
    for (number = number ? number + 1 : 2;; number++) {
        snprintf(end, NUMBER_LENGTH, "_%d", number);
        name = name_of(identifier);
        if (!local_name(b, name)->taken)
            break;
    }
    local_name(b, wanted)->tried = number;
    return name;
}

static void claim_name(Builder *b, Name *slot, const char *wish) {
    *slot = free_name(b, wish);
    LocalName *local = local_name(b, *slot);
    local->taken = true;
    local->slot = slot;
}

/* A local that has the name by chance gets another. */
void build_take_name(Builder *b, Name name) {
    LocalName *local = local_name(b, name);
    Name *slot = local->slot;
    local->taken = true;
    local->slot = NULL;
    if (slot)
        claim_name(b, slot, name);
}

/* ---- Buffers
 * ---------------------------------------------------------------------------------------------------------- */

void buffer_append(Arena *arena, Buffer ***list, int *count, Buffer *buffer) {
    if ((*count & (*count - 1)) == 0) { /* full at each power of two */
        Buffer **larger = arena_array(arena, Buffer *, *count ? *count * 2 : 1);
        if (*count)
            memcpy(larger, *list, sizeof **list * (size_t)*count);
        *list = larger;
    }
    (*list)[(*count)++] = buffer;
}

static void touch_buffer(Builder *b, Buffer *buffer) {
    if (!b->kernel)
        BUG("a math function touches memory: %s", buffer->name);
    if (buffer->toucher == b->kernel)
        return;
    buffer->toucher = b->kernel;
    buffer_append(b->arena, &b->kernel->buffers, &b->kernel->buffer_count, buffer);
    build_take_name(b, buffer->name);
}

void build_rename(Builder *b, Buffer *buffer, Name name) {
    buffer->name = name;
    if (b->kernel && buffer->toucher == b->kernel)
        build_take_name(b, name);
}

/* ---- Leaves
 * ----------------------------------------------------------------------------------------------------------- */

Value *value_number(Builder *b, ValueType type, double number) {
    Value *value = value_new(b, VALUE_NUMBER, type);
    if (is_float(type)) {
        value->number.real = type.scalar == SCALAR_F32 ? (double)(float)number : number;
        return value;
    }
    if (!(number >= -0x1p63 && number < 0x1p64) || number != floor(number))
        BUG("%s: %g is not an integer", kernel_name(b), number);
    value->number.integer = number >= 0x1p63 ? (int64_t)(uint64_t)number : (int64_t)number;
    return value;
}

Value *value_bits(Builder *b, ValueType type, int64_t bits) {
    if (is_float(type))
        BUG("%s: an integer as %s", kernel_name(b), scalar_name(type.scalar));
    Value *value = value_new(b, VALUE_NUMBER, type);
    value->number.integer = bits;
    return value;
}

Value *value_integer(Builder *b, int64_t number) {
    return value_bits(b, (ValueType){SCALAR_I64, 1}, number);
}

Value *value_context(Builder *b, ContextField field) {
    bool is_unsigned = field == CONTEXT_SEED || field == CONTEXT_STEP;
    Value *value = value_new(b, VALUE_CONTEXT, (ValueType){is_unsigned ? SCALAR_U64 : SCALAR_I64, 1});
    value->field = field;
    return value;
}

Value *value_lanes(Builder *b, int lanes) {
    return value_new(b, VALUE_LANES, (ValueType){SCALAR_I32, lanes});
}

Value *value_read(Builder *b, Statement *variable) {
    if (variable->kind != STATEMENT_VAR)
        BUG("%s: a read of what is no register", kernel_name(b));
    Value *value = value_new(b, VALUE_REGISTER, variable->type);
    value->statement = variable;
    return value;
}

/* ---- Operations
 * ------------------------------------------------------------------------------------------------------- */

static ValueType op_type(Builder *b, Op op, Value **args) {
    ValueType type = args[0]->type;
    const char *name = op_table[op].name;
    bool shown = false; /* whether the type fits */
    switch (op) {
    case OP_WHERE:
        if (type.scalar != SCALAR_BOOL || type.lanes != args[1]->type.lanes || !same_type(args[1]->type, args[2]->type))
            BUG("%s: where(%s x%d, %s x%d, %s x%d)", kernel_name(b), scalar_name(type.scalar), type.lanes,
                scalar_name(args[1]->type.scalar), args[1]->type.lanes, scalar_name(args[2]->type.scalar),
                args[2]->type.lanes);
        return args[1]->type;
    case OP_AND:
    case OP_OR:
    case OP_NOT:
        shown = type.scalar == SCALAR_BOOL;
        break;
    case OP_INTEGER_DIVIDE:
    case OP_INTEGER_REMAINDER:
    case OP_INTEGER_MINIMUM:
        shown = same_type(type, (ValueType){SCALAR_I64, 1});
        break;
    case OP_MULTIPLY_HIGH:
        shown = type.scalar == SCALAR_U32;
        break;
    case OP_ZIP_LOW:
    case OP_ZIP_HIGH:
        shown = same_type(type, (ValueType){SCALAR_F32, 4});
        break;
    case OP_REAL:
    case OP_BITCAST:
    case OP_CONVERT:
        BUG("%s: '%s' is made by value_convert or value_bitcast", kernel_name(b), name);
    default:
        shown = op_table[op].class == CLASS_KERNEL ? is_integer(type) : is_float(type);
    }
    for (int i = 1; i < op_table[op].arity; i++)
        if (!same_type(type, args[i]->type))
            BUG("%s: arguments of '%s' are %s x%d and %s x%d", kernel_name(b), name, scalar_name(type.scalar),
                type.lanes, scalar_name(args[i]->type.scalar), args[i]->type.lanes);
    if (!shown)
        BUG("%s: '%s' of %s x%d", kernel_name(b), name, scalar_name(type.scalar), type.lanes);
    bool truth = op_table[op].class == CLASS_COMPARE || op == OP_INTEGER_EQUAL || op == OP_INTEGER_LESS;
    return truth ? (ValueType){SCALAR_BOOL, type.lanes} : type;
}

static bool is_constant(const Value *x, int64_t *number) {
    if (x->kind != VALUE_NUMBER)
        return false;
    *number = x->number.integer;
    return true;
}

/* Integer arithmetic on two constants; false where it would overflow or has no meaning. */
static bool fold_constants(Op op, int64_t x, int64_t y, int64_t *result) {
    switch (op) {
    case OP_INTEGER_ADD:
        return !__builtin_add_overflow(x, y, result);
    case OP_INTEGER_SUBTRACT:
        return !__builtin_sub_overflow(x, y, result);
    case OP_INTEGER_MULTIPLY:
        return !__builtin_mul_overflow(x, y, result);
    case OP_INTEGER_DIVIDE:
        return x >= 0 && y > 0 && ((*result = x / y), true);
    case OP_INTEGER_REMAINDER:
        return x >= 0 && y > 0 && ((*result = x % y), true);
    case OP_INTEGER_MINIMUM:
        return (*result = x < y ? x : y), true;
    default:
        return false;
    }
}

/* An I64 operation in a simpler form, or NULL. Constants go to the right; (x + 1) + 2 is x + 3 unless x + 1 has a name.
 */
static Value *fold_integer(Builder *b, Op op, Value *x, Value *y) {
    int64_t left, right, result;
    bool left_known = is_constant(x, &left), right_known = is_constant(y, &right);
    if (left_known && right_known && fold_constants(op, left, right, &result))
        return value_integer(b, result);
    if (left_known && !right_known && (op == OP_INTEGER_ADD || op == OP_INTEGER_MULTIPLY))
        return value_op(b, op, y, x, NULL);
    if (!right_known)
        return NULL;
    if (op == OP_INTEGER_SUBTRACT && right != INT64_MIN)
        return value_op(b, OP_INTEGER_ADD, x, value_integer(b, -right), NULL);
    if (right == 0 && op == OP_INTEGER_ADD)
        return x;
    if (right == 0 && op == OP_INTEGER_MULTIPLY)
        return y;
    if (right == 1 && (op == OP_INTEGER_MULTIPLY || op == OP_INTEGER_DIVIDE))
        return x;
    if (right == 1 && op == OP_INTEGER_REMAINDER)
        return value_integer(b, 0);
    bool nests = x->kind == VALUE_OP && x->op == op && !x->let && (op == OP_INTEGER_ADD || op == OP_INTEGER_MULTIPLY);
    int64_t inner;
    if (nests && is_constant(x->args[1], &inner) && fold_constants(op, inner, right, &result))
        return value_op(b, op, x->args[0], value_integer(b, result), NULL);
    return NULL;
}

/* Whether it is the same as `x` because of what is constant: choices, truth values, bits that change nothing. */
static Value *fold_choice(Op op, Value *x, Value *y, Value *z) {
    bool known = x->kind == VALUE_NUMBER;
    switch (op) {
    case OP_WHERE:
        if (known)
            return x->number.integer ? y : z;
        return y->kind == VALUE_NUMBER && z->kind == VALUE_NUMBER && y->number.integer == z->number.integer ? y : NULL;
    case OP_AND:
    case OP_OR:
        if (!known && y->kind == VALUE_NUMBER)
            return fold_choice(op, y, x, NULL);
        if (!known)
            return NULL;
        return (x->number.integer != 0) == (op == OP_AND) ? y : x;
    case OP_BITS_XOR:
    case OP_BITS_OR:
        return y->kind == VALUE_NUMBER && y->number.integer == 0 ? x : NULL;
    default:
        return NULL;
    }
}

/* Whether fold_integer has it, or it may have no meaning: a float that no integer holds. */
static bool is_left_alone(const Value *value) {
    bool index = value->op >= OP_INTEGER_ADD && value->op <= OP_INTEGER_MINIMUM;
    return op_table[value->op].class == CLASS_MATH || value->op == OP_ZIP_LOW || value->op == OP_ZIP_HIGH ||
           (index && same_type(value->type, (ValueType){SCALAR_I64, 1})) ||
           (value->op == OP_CONVERT && !is_float(value->type));
}

/* An operation on constants alone, worked out as the target would; but a NaN has the sign that its machine likes. */
static Value *or_folded(Builder *b, Value *value) {
    if (is_left_alone(value))
        return value;
    for (int i = 0; i < value->arg_count; i++)
        if (value->args[i]->kind != VALUE_NUMBER)
            return value;
    Number result = constant_evaluate(value);
    if (is_float(value->type) && isnan(result.real))
        return value;
    Value *folded = value_new(b, VALUE_NUMBER, value->type);
    folded->number.integer = result.integer;
    return folded;
}

Value *value_op(Builder *b, Op op, Value *x, Value *y, Value *z) {
    Value *args[3] = {x, y, z};
    OpClass class = op_table[op].class;
    if (class == CLASS_LEAF || class == CLASS_SHAPE)
        BUG("%s: '%s' is not an operation of a kernel", kernel_name(b), op_table[op].name);
    for (int i = 0; i < 3; i++)
        if ((args[i] != NULL) != (i < op_table[op].arity))
            BUG("%s: '%s' takes %d arguments", kernel_name(b), op_table[op].name, op_table[op].arity);
    ValueType type = op_type(b, op, args);
    if (class == CLASS_KERNEL && same_type(type, (ValueType){SCALAR_I64, 1})) {
        Value *folded = fold_integer(b, op, x, y);
        if (folded)
            return folded;
    }
    Value *folded = fold_choice(op, x, y, z);
    if (folded)
        return folded;
    Value *value = value_new(b, VALUE_OP, type);
    value->op = op;
    value->arg_count = op_table[op].arity;
    memcpy(value->args, args, sizeof args);
    if (class == CLASS_MATH)
        value->function = op == OP_POWER && x->kind == VALUE_NUMBER ? math_power_of(b->module, x->number.real, type)
                                                                    : math_function(b->module, op, type);
    return or_folded(b, value);
}

static Value *value_of_one(Builder *b, ValueKind kind, ValueType type, Value *x) {
    Value *value = value_new(b, kind, type);
    value->args[0] = x;
    value->arg_count = 1;
    return value;
}

Value *value_convert(Builder *b, Value *x, Scalar to) {
    ValueType type = {to, x->type.lanes};
    if (x->type.scalar == to)
        return x;
    if (to == SCALAR_BOOL)
        BUG("%s: %s as a truth value", kernel_name(b), scalar_name(x->type.scalar));
    if (x->type.scalar == SCALAR_BOOL)
        return value_op(b, OP_WHERE, x, value_number(b, type, 1), value_number(b, type, 0));
    Value *value = value_of_one(b, VALUE_OP, type, x);
    value->op = OP_CONVERT;
    return or_folded(b, value);
}

Value *value_bitcast(Builder *b, Value *x, Scalar to) {
    if (x->type.scalar == to)
        return x;
    if (x->kind == VALUE_OP && x->op == OP_BITCAST && !x->let && x->args[0]->type.scalar == to)
        return x->args[0];
    if (scalar_bytes(x->type.scalar) != scalar_bytes(to) || to == SCALAR_BOOL)
        BUG("%s: the bits of %s as %s", kernel_name(b), scalar_name(x->type.scalar), scalar_name(to));
    Value *value = value_of_one(b, VALUE_OP, (ValueType){to, x->type.lanes}, x);
    value->op = OP_BITCAST;
    return or_folded(b, value);
}

Value *value_load(Builder *b, Buffer *buffer, Value *index, int lanes) {
    check_index(b, index);
    touch_buffer(b, buffer);
    Value *value = value_of_one(b, VALUE_LOAD, (ValueType){buffer->scalar, lanes}, index);
    value->buffer = buffer;
    return value;
}

Value *value_splat(Builder *b, Value *x, int lanes) {
    if (x->type.lanes != 1)
        BUG("%s: a splat of %d lanes", kernel_name(b), x->type.lanes);
    if (lanes == 1)
        return x;
    ValueType type = {x->type.scalar, lanes};
    if (x->kind != VALUE_NUMBER)
        return value_of_one(b, VALUE_SPLAT, type, x);
    Value *value = value_new(b, VALUE_NUMBER, type);
    value->number = x->number;
    return value;
}

Value *value_extract(Builder *b, Value *x, int lane) {
    if (lane < 0 || lane >= x->type.lanes)
        BUG("%s: lane %d of %d", kernel_name(b), lane, x->type.lanes);
    if (x->type.lanes == 1)
        return x;
    Value *value = value_of_one(b, VALUE_EXTRACT, (ValueType){x->type.scalar, 1}, x);
    value->number.integer = lane;
    return value;
}

Value *value_tree(Builder *b, Op op, Value *x) {
    if (!is_float(x->type) || x->type.lanes != 16)
        BUG("%s: a tree over %s x%d", kernel_name(b), scalar_name(x->type.scalar), x->type.lanes);
    Value *value = value_of_one(b, VALUE_TREE, (ValueType){x->type.scalar, 1}, x);
    value->op = op;
    return value;
}

Value *value_call(Builder *b, MathFunction *function, Value **args, int count) {
    if (count != function->argument_count)
        BUG("%s: %s takes %d arguments, not %d", kernel_name(b), function->name, function->argument_count, count);
    Value *value = value_new(b, VALUE_CALL, function->result);
    for (int i = 0; i < count; i++) {
        if (!same_type(args[i]->type, function->arguments[i]))
            BUG("%s: argument %d of %s is %s x%d", kernel_name(b), i + 1, function->name,
                scalar_name(args[i]->type.scalar), args[i]->type.lanes);
        value->args[i] = args[i];
    }
    value->arg_count = count;
    value->function = function;
    return value;
}

/* ---- Statements
 * ------------------------------------------------------------------------------------------------------- */

static Statement *statement_new(Builder *b, StatementKind kind) {
    Statement *statement = arena_new_of(b->arena, Statement);
    statement->kind = kind;
    *LIST_ADD(b->arena, b->block) = statement;
    return statement;
}

Value *build_let(Builder *b, const char *name, Value *value) {
    if (value->let || (value->arg_count == 0 && value->kind != VALUE_REGISTER))
        return value;
    statement_new(b, STATEMENT_LET)->value = value;
    claim_name(b, &value->let, name);
    return value;
}

Statement *build_var(Builder *b, const char *name, Value *first) {
    Statement *variable = statement_new(b, STATEMENT_VAR);
    claim_name(b, &variable->name, name);
    variable->type = first->type;
    variable->value = first;
    return variable;
}

void build_set(Builder *b, Statement *variable, Value *value) {
    if (variable->kind != STATEMENT_VAR || !same_type(variable->type, value->type))
        BUG("%s: a register takes %s x%d", kernel_name(b), scalar_name(value->type.scalar), value->type.lanes);
    Statement *set = statement_new(b, STATEMENT_SET);
    set->target = variable;
    set->value = value;
}

void build_store(Builder *b, Buffer *buffer, Value *index, Value *value) {
    check_index(b, index);
    touch_buffer(b, buffer);
    if (value->type.scalar != buffer->scalar)
        BUG("%s: %s into %s, which holds %s", kernel_name(b), scalar_name(value->type.scalar), buffer->name,
            scalar_name(buffer->scalar));
    if (buffer->writer != b->kernel) {
        buffer->writer = b->kernel;
        buffer_append(b->arena, &b->kernel->written, &b->kernel->written_count, buffer);
    }
    Statement *store = statement_new(b, STATEMENT_STORE);
    store->buffer = buffer;
    store->index = index;
    store->value = value;
}

static Block *open_body(Builder *b, Statement *statement) {
    Block *outer = b->block;
    b->block = &statement->body;
    return outer;
}

Block *build_loop(Builder *b, const char *name, Value *from, Value *to, int64_t step, bool parallel, Value **variable) {
    check_index(b, from);
    check_index(b, to);
    if (step <= 0)
        BUG("%s: a loop over '%s' with step %lld", kernel_name(b), name, (long long)step);
    Statement *loop = statement_new(b, STATEMENT_LOOP);
    claim_name(b, &loop->name, name);
    loop->from = from;
    loop->to = to;
    loop->step = step;
    loop->parallel = parallel;
    if (parallel)
        b->kernel->parallel = true;
    *variable = value_new(b, VALUE_VARIABLE, (ValueType){SCALAR_I64, 1});
    (*variable)->statement = loop;
    return open_body(b, loop);
}

Block *build_if(Builder *b, Value *condition) {
    if (!same_type(condition->type, (ValueType){SCALAR_BOOL, 1}))
        BUG("%s: a condition of %s x%d", kernel_name(b), scalar_name(condition->type.scalar), condition->type.lanes);
    Statement *statement = statement_new(b, STATEMENT_IF);
    statement->value = condition;
    return open_body(b, statement);
}

void build_end(Builder *b, Block *outer) {
    b->block = outer;
}

void build_prefetch(Builder *b, Buffer *buffer, Value *index, bool write) {
    check_index(b, index);
    touch_buffer(b, buffer);
    Statement *statement = statement_new(b, STATEMENT_PREFETCH);
    statement->buffer = buffer;
    statement->index = index;
    statement->write = write;
}

void build_comment(Builder *b, const char *text) {
    statement_new(b, STATEMENT_COMMENT)->name = name_of(text);
}
