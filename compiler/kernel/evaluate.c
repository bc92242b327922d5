/* The oracle: runs kernels one statement after the other, loops in order, nothing clever.

   Two ways. As `function_evaluate`: every float is a double, MATH ops are libm's; only the functions of math_random.c
   are run with the bits that the target has. As `function_evaluate_exact`: every f32 operation rounds, MATH ops run
   their functions, so that the result is to the bit what the printed code computes. */
#include "kernel.h"

#include <math.h>
#include <string.h>

enum { MOST_LANES = 16 };

/* What a named value, a register or a loop's variable holds now, by the address of its Value or Statement. */
typedef struct Slot {
    const void *key;
    Number lanes[MOST_LANES];
} Slot;

typedef struct Interpreter {
    Arena *arena;
    const Function *function;
    double **memory; /* of function->buffers */
    int64_t context[6];
    bool exact;
    Slot *slots; /* open addressing, never more than half full */
    size_t capacity, used;
    const Number (*arguments)[MOST_LANES]; /* of the math function that runs */
} Interpreter;

/* ---- Slots
 * ------------------------------------------------------------------------------------------------------------ */

static Slot *find_slot(Slot *slots, size_t capacity, const void *key) {
    size_t index = ((uintptr_t)key >> 4) * 0x9E3779B97F4A7C15u & (capacity - 1);
    while (slots[index].key && slots[index].key != key)
        index = (index + 1) & (capacity - 1);
    return &slots[index];
}

static Number *slot_lanes(Interpreter *m, const void *key) {
    Slot *slot = find_slot(m->slots, m->capacity, key);
    if (slot->key)
        return slot->lanes;
    if (++m->used * 2 > m->capacity) {
        Slot *larger = arena_array(m->arena, Slot, m->capacity * 2);
        for (size_t i = 0; i < m->capacity; i++)
            if (m->slots[i].key)
                *find_slot(larger, m->capacity * 2, m->slots[i].key) = m->slots[i];
        m->slots = larger;
        m->capacity *= 2;
        slot = find_slot(m->slots, m->capacity, key);
    }
    slot->key = key;
    return slot->lanes;
}

static const Number *known_lanes(Interpreter *m, const void *key, const char *what) {
    Slot *slot = find_slot(m->slots, m->capacity, key);
    if (!slot->key)
        BUG("'%s' is read before it has a value", what);
    return slot->lanes;
}

/* ---- Operations on one lane
 * --------------------------------------------------------------------------------------------- */

/* An integer as its type holds it: wrapped to the width, sign- or zero-extended. */
static int64_t wrap(Scalar scalar, uint64_t bits) {
    switch (scalar) {
    case SCALAR_I32:
        return (int32_t)(uint32_t)bits;
    case SCALAR_U32:
        return (int64_t)(uint32_t)bits;
    default:
        return (int64_t)bits;
    }
}

static double rounded(const Interpreter *m, Scalar scalar, double x) {
    return m->exact && scalar == SCALAR_F32 ? (double)(float)x : x;
}

/* f32 arithmetic as float arithmetic: rounding the double result would be the same but for fma. */
static double evaluate_real(const Interpreter *m, Op op, Scalar scalar, const Number *x) {
    if (op == OP_FMA && m->exact && scalar == SCALAR_F32)
        return (double)fmaf((float)x[0].real, (float)x[1].real, (float)x[2].real);
    if (op == OP_DIVIDE && m->exact && scalar == SCALAR_F32)
        return (double)((float)x[0].real / (float)x[1].real);
    return rounded(m, scalar, op_evaluate(op, x[0].real, x[1].real, x[2].real));
}

static int64_t shift_bits(Op op, Scalar scalar, int64_t x, int64_t by) {
    int width = 8 * scalar_bytes(scalar);
    if (by < 0 || by >= width)
        BUG("a shift of %s by %lld", scalar_name(scalar), (long long)by);
    if (op == OP_SHIFT_LEFT)
        return wrap(scalar, (uint64_t)x << by);
    if (scalar == SCALAR_U64)
        return (int64_t)((uint64_t)x >> by);
    return x < 0 ? ~(~x >> by) : x >> by;
}

static int64_t evaluate_integer(Op op, Scalar scalar, int64_t x, int64_t y) {
    uint64_t a = (uint64_t)x, b = (uint64_t)y;
    switch (op) {
    case OP_INTEGER_ADD:
        return wrap(scalar, a + b);
    case OP_INTEGER_SUBTRACT:
        return wrap(scalar, a - b);
    case OP_INTEGER_MULTIPLY:
        return wrap(scalar, a * b);
    case OP_INTEGER_DIVIDE:
    case OP_INTEGER_REMAINDER:
        if (x < 0 || y <= 0)
            BUG("integer division of %lld by %lld", (long long)x, (long long)y);
        return op == OP_INTEGER_DIVIDE ? x / y : x % y;
    case OP_INTEGER_MINIMUM:
        return x < y ? x : y;
    case OP_INTEGER_EQUAL:
        return x == y;
    case OP_INTEGER_LESS:
        return scalar == SCALAR_U64 ? a < b : x < y;
    case OP_MULTIPLY_HIGH:
        return (int64_t)(a * b >> 32);
    case OP_BITS_AND:
        return wrap(scalar, a & b);
    case OP_BITS_OR:
        return wrap(scalar, a | b);
    case OP_BITS_XOR:
        return wrap(scalar, a ^ b);
    case OP_SHIFT_LEFT:
    case OP_SHIFT_RIGHT:
        return shift_bits(op, scalar, x, y);
    default:
        BUG("'%s' is no operation on integers", op_table[op].name);
    }
}

static bool is_float(Scalar scalar) {
    return scalar == SCALAR_F32 || scalar == SCALAR_F64;
}

static Number evaluate_bitcast(Scalar from, Scalar to, Number x) {
    Number result = x;
    uint64_t bits = (uint64_t)x.integer;
    if (from == SCALAR_F32) {
        float single = (float)x.real;
        uint32_t narrow;
        memcpy(&narrow, &single, sizeof narrow);
        bits = narrow;
    } else if (from == SCALAR_F64) {
        memcpy(&bits, &x.real, sizeof bits);
    }
    if (to == SCALAR_F32) {
        uint32_t narrow = (uint32_t)bits;
        float single;
        memcpy(&single, &narrow, sizeof single);
        result.real = (double)single;
    } else if (to == SCALAR_F64) {
        memcpy(&result.real, &bits, sizeof bits);
    } else {
        result.integer = wrap(to, bits);
    }
    return result;
}

static Number evaluate_convert(const Interpreter *m, Scalar from, Scalar to, Number x) {
    Number result = x;
    if (is_float(from) && is_float(to)) {
        result.real = rounded(m, to, x.real);
    } else if (is_float(from)) {
        if (!(x.real > -0x1p63 && x.real < 0x1p63))
            BUG("%g as %s", x.real, scalar_name(to));
        result.integer = wrap(to, (uint64_t)(int64_t)x.real);
    } else if (is_float(to)) {
        double real = from == SCALAR_U64 ? (double)(uint64_t)x.integer : (double)x.integer;
        if (m->exact && to == SCALAR_F32) /* at once: by way of double would round twice */
            real = from == SCALAR_U64 ? (double)(float)(uint64_t)x.integer : (double)(float)x.integer;
        result.real = real;
    } else {
        result.integer = wrap(to, (uint64_t)x.integer);
    }
    return result;
}

/* ---- Values
 * ----------------------------------------------------------------------------------------------------------------- */

static void evaluate_value(Interpreter *m, const Value *value, Number *out);

static void run_math(Interpreter *m, const MathFunction *function, const Number (*arguments)[MOST_LANES], Number *out) {
    const Number(*outer)[MOST_LANES] = m->arguments;
    bool outer_exact = m->exact;
    m->arguments = arguments;
    m->exact = true;
    for (int i = 0; i < function->body.count; i++) {
        const Value *value = function->body.at[i]->value;
        Number lanes[MOST_LANES];
        Value unnamed = *value;
        unnamed.let = NULL;
        evaluate_value(m, &unnamed, lanes);
        memcpy(slot_lanes(m, value), lanes, sizeof lanes);
    }
    evaluate_value(m, function->value, out);
    m->arguments = outer;
    m->exact = outer_exact;
}

static Number evaluate_lane(const Interpreter *m, const Value *value, const Number *x) {
    Scalar of = value->args[0]->type.scalar;
    Number result = {.integer = 0};
    switch (value->op) {
    case OP_BITCAST:
        return evaluate_bitcast(of, value->type.scalar, x[0]);
    case OP_CONVERT:
        return evaluate_convert(m, of, value->type.scalar, x[0]);
    case OP_WHERE:
        return x[0].integer ? x[1] : x[2];
    case OP_AND:
        result.integer = x[0].integer && x[1].integer;
        return result;
    case OP_OR:
        result.integer = x[0].integer || x[1].integer;
        return result;
    case OP_NOT:
        result.integer = !x[0].integer;
        return result;
    default:
        break;
    }
    if (op_table[value->op].class == CLASS_KERNEL)
        result.integer = evaluate_integer(value->op, of, x[0].integer, x[1].integer);
    else if (op_table[value->op].class == CLASS_COMPARE)
        result.integer = op_evaluate(value->op, x[0].real, x[1].real, 0) != 0;
    else
        result.real = evaluate_real(m, value->op, value->type.scalar, x);
    return result;
}

static void evaluate_op(Interpreter *m, const Value *value, const Number (*args)[MOST_LANES], Number *out) {
    if (m->exact && op_table[value->op].class == CLASS_MATH) {
        run_math(m, value->function, args + value_first_argument(value), out);
        return;
    }
    if (value->op == OP_ZIP_LOW || value->op == OP_ZIP_HIGH) {
        for (int lane = 0; lane < value->type.lanes; lane++)
            out[lane] = args[lane % 2][(value->op == OP_ZIP_HIGH ? value->type.lanes / 2 : 0) + lane / 2];
        return;
    }
    for (int lane = 0; lane < value->type.lanes; lane++) {
        Number x[3] = {{.integer = 0}, {.integer = 0}, {.integer = 0}};
        for (int i = 0; i < value->arg_count; i++)
            x[i] = args[i][lane];
        out[lane] = evaluate_lane(m, value, x);
    }
}

static double *buffer_memory(const Interpreter *m, const Buffer *buffer, int64_t index, int lanes) {
    if (index < 0 || index + lanes > buffer->elements)
        BUG("%s: element %lld of %s, which has %lld", m->function->name, (long long)index, buffer->name,
            (long long)buffer->elements);
    for (int i = 0; i < m->function->buffer_count; i++)
        if (m->function->buffers[i] == buffer)
            return m->memory[i] + index;
    BUG("%s touches %s, which it does not list", m->function->name, buffer->name);
}

static void evaluate_load(const Interpreter *m, const Value *value, int64_t index, Number *out) {
    const double *from = buffer_memory(m, value->buffer, index, 1);
    for (int lane = 0; lane < value->type.lanes; lane++) {
        if (index + lane >= value->buffer->elements) { /* past the end, where a kernel masks what it reads */
            out[lane] = (Number){.integer = 0};
            continue;
        }
        if (value->type.scalar == SCALAR_I32)
            out[lane].integer = (int64_t)from[lane];
        else
            out[lane].real = rounded(m, value->type.scalar, from[lane]);
    }
}

/* Halves joined, 16 to 1. */
static void evaluate_tree(const Interpreter *m, const Value *value, const Number *x, Number *out) {
    Number sums[MOST_LANES];
    memcpy(sums, x, sizeof sums);
    for (int half = 8; half >= 1; half /= 2)
        for (int lane = 0; lane < half; lane++)
            sums[lane].real =
                rounded(m, value->type.scalar, op_evaluate(value->op, sums[lane].real, sums[lane + half].real, 0));
    out[0] = sums[0];
}

static void evaluate_with_arguments(Interpreter *m, const Value *value, Number *out) {
    Number args[6][MOST_LANES]; /* as many lanes as each argument has */
    for (int i = 0; i < value->arg_count; i++)
        evaluate_value(m, value->args[i], args[i]);
    switch (value->kind) {
    case VALUE_OP:
        evaluate_op(m, value, (const Number(*)[MOST_LANES])args, out);
        break;
    case VALUE_LOAD:
        evaluate_load(m, value, args[0][0].integer, out);
        break;
    case VALUE_SPLAT:
        for (int lane = 0; lane < value->type.lanes; lane++)
            out[lane] = args[0][0];
        break;
    case VALUE_EXTRACT:
        out[0] = args[0][value->number.integer];
        break;
    case VALUE_TREE:
        evaluate_tree(m, value, args[0], out);
        break;
    case VALUE_CALL:
        run_math(m, value->function, (const Number(*)[MOST_LANES])args, out);
        break;
    default:
        BUG("a value of no kind");
    }
}

static void evaluate_value(Interpreter *m, const Value *value, Number *out) {
    size_t bytes = sizeof *out * (size_t)value->type.lanes;
    if (value->kind == VALUE_ARGUMENT) {
        memcpy(out, m->arguments[value->number.integer], bytes);
    } else if (value->let) {
        memcpy(out, known_lanes(m, value, value->let), bytes);
    } else if (value->kind == VALUE_NUMBER) {
        for (int lane = 0; lane < value->type.lanes; lane++) {
            out[lane].integer = value->number.integer;
            if (is_float(value->type.scalar))
                out[lane].real = value->number.real;
            else
                out[lane].integer = wrap(value->type.scalar, (uint64_t)value->number.integer);
        }
    } else if (value->kind == VALUE_VARIABLE || value->kind == VALUE_REGISTER) {
        memcpy(out, known_lanes(m, value->statement, value->statement->name), bytes);
    } else if (value->kind == VALUE_CONTEXT) {
        out[0].integer = m->context[value->field];
    } else if (value->kind == VALUE_LANES) {
        for (int lane = 0; lane < value->type.lanes; lane++)
            out[lane].integer = lane;
    } else {
        evaluate_with_arguments(m, value, out);
    }
}

/* ---- Statements
 * --------------------------------------------------------------------------------------------------------------- */

static void run_block(Interpreter *m, const Block *block);

static int64_t evaluate_index(Interpreter *m, const Value *index) {
    Number lanes[MOST_LANES];
    evaluate_value(m, index, lanes);
    return lanes[0].integer;
}

static void run_loop(Interpreter *m, const Statement *loop) {
    int64_t from = evaluate_index(m, loop->from), to = evaluate_index(m, loop->to);
    for (int64_t i = from; i < to; i += loop->step) {
        slot_lanes(m, loop)[0].integer = i;
        run_block(m, &loop->body);
    }
}

static void run_store(Interpreter *m, const Statement *store) {
    Number lanes[MOST_LANES];
    evaluate_value(m, store->value, lanes);
    int64_t index = evaluate_index(m, store->index);
    double *to = buffer_memory(m, store->buffer, index, store->value->type.lanes);
    for (int lane = 0; lane < store->value->type.lanes; lane++)
        to[lane] = store->buffer->scalar == SCALAR_I32 ? (double)lanes[lane].integer : lanes[lane].real;
}

static void run_statement(Interpreter *m, const Statement *statement) {
    Number lanes[MOST_LANES];
    memset(lanes, 0, sizeof lanes);
    switch (statement->kind) {
    case STATEMENT_LOOP:
        run_loop(m, statement);
        break;
    case STATEMENT_LET: {
        Value unnamed = *statement->value;
        unnamed.let = NULL;
        evaluate_value(m, &unnamed, lanes);
        memcpy(slot_lanes(m, statement->value), lanes, sizeof lanes);
        break;
    }
    case STATEMENT_VAR:
    case STATEMENT_SET: {
        const Statement *variable = statement->kind == STATEMENT_SET ? statement->target : statement;
        evaluate_value(m, statement->value, lanes);
        memcpy(slot_lanes(m, variable), lanes, sizeof lanes);
        break;
    }
    case STATEMENT_STORE:
        run_store(m, statement);
        break;
    case STATEMENT_IF:
        if (evaluate_index(m, statement->value))
            run_block(m, &statement->body);
        break;
    case STATEMENT_PREFETCH:
    case STATEMENT_COMMENT:
        break;
    }
}

static void run_block(Interpreter *m, const Block *block) {
    for (int i = 0; i < block->count; i++)
        run_statement(m, block->at[i]);
}

static Interpreter interpreter_new(Arena *arena, bool exact) {
    Interpreter machine = {.arena = arena, .exact = exact, .capacity = 256};
    machine.slots = arena_array(arena, Slot, machine.capacity);
    return machine;
}

static void run_function(const Function *function, double **memory, const int64_t context[6], bool exact) {
    Arena *arena = arena_new();
    Interpreter machine = interpreter_new(arena, exact);
    machine.function = function;
    machine.memory = memory;
    memcpy(machine.context, context, sizeof machine.context);
    for (int i = 0; i < function->step_count; i++) {
        const Step *step = &function->steps[i];
        if (step->kind == STEP_KERNEL)
            run_block(&machine, &step->kernel->body);
        else if (step->kind == STEP_WHEN && (context[CONTEXT_STEP] + 1) % step->element != 0)
            while (function->steps[i].kind != STEP_END)
                i++;
        else if (step->kind == STEP_GUARD && !isfinite(*buffer_memory(&machine, step->buffer, step->element, 1)))
            break;
    }
    arena_free(arena);
}

void function_evaluate(const Function *function, double **memory, int64_t rows, int64_t position, uint64_t seed,
                       uint64_t step) {
    int64_t context[6] = {rows, position, (int64_t)seed, (int64_t)step, 0, 1};
    run_function(function, memory, context, false);
}

void function_evaluate_exact(const Function *function, double **memory, int64_t rows, int64_t position, uint64_t seed,
                             uint64_t step) {
    int64_t context[6] = {rows, position, (int64_t)seed, (int64_t)step, 0, 1};
    run_function(function, memory, context, true);
}

Number constant_evaluate(const Value *value) {
    Interpreter machine = {.exact = true};
    Number lanes[MOST_LANES];
    evaluate_value(&machine, value, lanes);
    return lanes[0];
}

void math_evaluate(const MathFunction *function, const Number (*arguments)[16], Number *result) {
    Arena *arena = arena_new();
    Interpreter machine = interpreter_new(arena, true);
    run_math(&machine, function, arguments, result);
    arena_free(arena);
}
