/* The kernel representation: constructors, verifier, evaluator, and the math functions against libm in double
 * precision. */
#include "../../compiler/kernel/kernel.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static Module module;

static void start(void) {
    names_start();
    module = (Module){.arena = arena_new()};
}

static void end(void) {
    arena_free(module.arena);
    names_end();
}

TestSuite(kernel, .init = start, .fini = end);
/* BUG() exits with 70; Criterion runs each test in a process of its own. */
#define BROKEN(name) Test(broken, name, .init = start, .fini = end, .exit_code = 70)

static const ValueType F32 = {SCALAR_F32, 1}, F64 = {SCALAR_F64, 1}, I64 = {SCALAR_I64, 1};

/* ---- A function to try things on: out[b, o] = sum over i of weight[o, i] x[b, i], at most 8 rows ----------------- */

enum { ROWS = 8, IN = 4, OUT = 3 };

typedef struct Dense {
    Buffer x, weight, out;
    Buffer *list[3], *written[1];
    Kernel kernel;
    Function function;
    Step steps[4];
    Builder b;
    Value *row, *output, *input;
    Statement *sum;
    Block *outermost, *in_rows, *in_outputs;
} Dense;

static Buffer buffer_of(const char *name, BufferRole role, bool per_row, int64_t first, int64_t second,
                        uint64_t offset) {
    int64_t elements = (per_row ? ROWS : 1) * first * (second ? second : 1);
    return (Buffer){.name = name_of(name),
                    .shown = name,
                    .role = role,
                    .scalar = SCALAR_F32,
                    .per_row = per_row,
                    .rank = second ? 2 : 1,
                    .dims = {first, second},
                    .elements = elements,
                    .offset = offset};
}

static Value *integer_op(Builder *b, Op op, Value *x, Value *y) {
    return value_op(b, op, x, y, NULL);
}

static Value *at(Builder *b, Value *row, int64_t width, Value *column) {
    return integer_op(b, OP_INTEGER_ADD, integer_op(b, OP_INTEGER_MULTIPLY, row, value_integer(b, width)), column);
}

/* The frame: buffers, one kernel without statements, one step. */
static Dense *dense_frame(void) {
    Dense *d = arena_new_of(module.arena, Dense);
    d->x = buffer_of("x", BUFFER_FEED, true, IN, 0, 0);
    d->weight = buffer_of("weight", BUFFER_PARAMETER, false, OUT, IN, 128);
    d->out = buffer_of("out", BUFFER_OUTPUT, true, OUT, 0, 192);
    d->list[0] = &d->x;
    d->list[1] = &d->weight;
    d->list[2] = &d->out;
    d->kernel = (Kernel){.name = name_of("dense"), .formula = "out = weight @ x"};
    d->steps[0] = (Step){.kind = STEP_KERNEL, .kernel = &d->kernel};
    d->function = (Function){.name = name_of("Net_predict"),
                             .about = "the forward pass",
                             .steps = d->steps,
                             .step_count = 1,
                             .buffers = d->list,
                             .buffer_count = 3,
                             .capacity = ROWS};
    *LIST_ADD(module.arena, &module.functions) = &d->function;
    d->b = (Builder){.arena = module.arena, .module = &module, .kernel = &d->kernel, .block = &d->kernel.body};
    return d;
}

static void open_rows(Dense *d, Value *to, bool parallel) {
    d->outermost = build_loop(&d->b, "b", value_integer(&d->b, 0), to, 1, parallel, &d->row);
}

/* The whole kernel, with `extra` added to x's index. */
static Dense *dense_with(int64_t extra, bool parallel) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    d->function.parallel = parallel;
    open_rows(d, value_context(b, CONTEXT_ROWS), parallel);
    d->in_rows = build_loop(b, "o", value_integer(b, 0), value_integer(b, OUT), 1, false, &d->output);
    d->sum = build_var(b, "sum", value_number(b, F32, 0));
    d->in_outputs = build_loop(b, "i", value_integer(b, 0), value_integer(b, IN), 1, false, &d->input);
    Value *x_index = integer_op(b, OP_INTEGER_ADD, at(b, d->row, IN, d->input), value_integer(b, extra));
    Value *x = value_load(b, &d->x, x_index, 1);
    Value *weight = value_load(b, &d->weight, at(b, d->output, IN, d->input), 1);
    build_set(b, d->sum, value_op(b, OP_FMA, weight, x, value_read(b, d->sum)));
    build_end(b, d->in_outputs);
    build_store(b, &d->out, at(b, d->row, OUT, d->output), value_read(b, d->sum));
    build_end(b, d->in_rows);
    build_end(b, d->outermost);
    return d;
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */

Test(kernel, op_table_names_and_values) {
    cr_assert_eq(op_named("max"), OP_MAXIMUM);
    cr_assert_eq(op_named("no such"), OP_COUNT);
    for (int op = 0; op < OP_COUNT; op++)
        cr_assert_eq((int)op_named(op_table[op].name), op, "%s is there twice", op_table[op].name);
    cr_assert(isnan(op_evaluate(OP_MAXIMUM, NAN, 1, 0)) && isnan(op_evaluate(OP_MAXIMUM, 1, NAN, 0)));
    cr_assert(isnan(op_evaluate(OP_MINIMUM, NAN, 1, 0)) && isnan(op_evaluate(OP_MINIMUM, 1, NAN, 0)));
    cr_assert(isnan(op_evaluate(OP_SIGN, NAN, 0, 0)));
    cr_assert_eq(op_evaluate(OP_SIGN, -3, 0, 0), -1);
    cr_assert_eq(op_evaluate(OP_ROUND, 2.5, 0, 0), 2);
    cr_assert_eq(op_evaluate(OP_WHERE, 0, 5, 7), 7);
    cr_assert_eq(op_evaluate(OP_POWER, 2, 10, 0), 1024);
    cr_assert_eq(op_evaluate(OP_NOT_EQUAL, NAN, NAN, 0), 1);
}

/* ---- Constructors ------------------------------------------------------------------------------------------------ */

Test(kernel, integers_fold) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    Value *rows = value_context(b, CONTEXT_ROWS), *zero = value_integer(b, 0), *one = value_integer(b, 1);
    cr_assert_eq(integer_op(b, OP_INTEGER_ADD, rows, zero), rows);
    cr_assert_eq(integer_op(b, OP_INTEGER_ADD, zero, rows), rows);
    cr_assert_eq(integer_op(b, OP_INTEGER_MULTIPLY, one, rows), rows);
    cr_assert_eq(integer_op(b, OP_INTEGER_DIVIDE, rows, one), rows);
    cr_assert_eq(integer_op(b, OP_INTEGER_MULTIPLY, rows, zero)->number.integer, 0);
    Value *product = integer_op(b, OP_INTEGER_MULTIPLY, value_integer(b, 6), value_integer(b, 7));
    cr_assert_eq(product->kind, VALUE_NUMBER);
    cr_assert_eq(product->number.integer, 42);
    Value *sum =
        integer_op(b, OP_INTEGER_ADD, integer_op(b, OP_INTEGER_ADD, rows, value_integer(b, 3)), value_integer(b, 4));
    cr_assert_eq(sum->args[0], rows);
    cr_assert_eq(sum->args[1]->number.integer, 7);
    Value *big = integer_op(b, OP_INTEGER_MULTIPLY, value_integer(b, INT64_MAX), value_integer(b, 2));
    cr_assert_eq(big->kind, VALUE_OP, "an overflow is not folded");
    cr_assert_eq(value_convert(b, rows, SCALAR_I64), rows);
}

Test(kernel, names_are_unique_and_legal) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    Value *first = build_let(b, "double", value_convert(b, value_context(b, CONTEXT_ROWS), SCALAR_F32));
    Value *second = build_let(b, "t", value_op(b, OP_NEGATE, first, NULL, NULL));
    Value *third = build_let(b, "t", value_op(b, OP_NEGATE, second, NULL, NULL));
    Value *like_buffer = build_let(b, "out", value_op(b, OP_NEGATE, third, NULL, NULL));
    cr_assert_str_neq(first->let, "double");
    cr_assert_str_eq(second->let, "t");
    cr_assert_str_eq(third->let, "t_2");
    build_store(b, &d->out, value_integer(b, 0), like_buffer);
    cr_assert_neq(like_buffer->let, d->out.name);
    kernel_verify(&module);
}

Test(kernel, print_reads_well) {
    Dense *d = dense_with(0, true);
    Text text = {0};
    module_print(&module, &text);
    cr_assert(strstr(text.at, "for b in 0 .. rows step 1 parallel\n"), "%s", text.at);
    cr_assert(strstr(text.at, "sum = fma(weight[o * 4 + i], x[b * 4 + i], sum)\n"), "%s", text.at);
    cr_assert(strstr(text.at, "out[b * 3 + o] = sum\n"), "%s", text.at);
    cr_assert(strstr(text.at, "parameter weight : f32[3, 4] at 128\n"), "%s", text.at);
    cr_assert(strstr(text.at, "kernel dense  # out = weight @ x\n"), "%s", text.at);
    cr_assert_eq(d->kernel.buffer_count, 3);
    cr_assert_eq(d->kernel.written_count, 1);
    text_free(&text);
}

/* ---- Verifier ---------------------------------------------------------------------------------------------------- */

Test(kernel, verifier_takes_what_is_right) {
    dense_with(0, true);
    ValueType lanes = {SCALAR_F32, 8};
    for (int op = OP_EXP; op <= OP_POWER; op++) {
        math_function(&module, (Op)op, F32);
        math_function(&module, (Op)op, F64);
        math_function(&module, (Op)op, lanes);
    }
    math_normal(&module, 8);
    math_uniform(&module, 1);
    kernel_verify(&module);
}

/* What stands in an `if` is known in its body, and what where() asks in its branches. */
Test(kernel, verifier_knows_conditions) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    d->outermost = build_loop(b, "b", value_integer(b, 0), value_integer(b, 100), 4, false, &d->row);
    Value *last = integer_op(b, OP_INTEGER_ADD, d->row, value_integer(b, 3));
    Block *outer = build_if(b, integer_op(b, OP_INTEGER_LESS, last, value_context(b, CONTEXT_ROWS)));
    build_store(b, &d->out, integer_op(b, OP_INTEGER_MULTIPLY, d->row, value_integer(b, OUT)), value_number(b, F32, 1));
    build_end(b, outer);
    Value *far = integer_op(b, OP_INTEGER_SUBTRACT, d->row, value_integer(b, 50));
    far = build_let(b, "far", far);
    Value *low = integer_op(b, OP_INTEGER_LESS, far, value_integer(b, 0));
    Value *kept = value_op(b, OP_WHERE, low, value_integer(b, 0), far);
    build_store(b, &d->out, integer_op(b, OP_INTEGER_MINIMUM, kept, value_integer(b, 23)), value_number(b, F32, 1));
    build_end(b, d->outermost);
    kernel_verify(&module);
}

BROKEN(index_too_great) {
    dense_with(1, false);
    kernel_verify(&module);
}

BROKEN(index_negative) {
    dense_with(-1, false);
    kernel_verify(&module);
}

BROKEN(stored_lanes_pass_the_end) { /* loaded ones may: the plan keeps room there */
    Dense *d = dense_frame();
    Value *four = value_load(&d->b, &d->weight, value_integer(&d->b, 9), 4);
    build_store(&d->b, &d->out, value_integer(&d->b, d->out.elements - 3), four);
    kernel_verify(&module);
}

BROKEN(rows_may_be_the_capacity) {
    Dense *d = dense_frame();
    build_store(&d->b, &d->out, at(&d->b, value_context(&d->b, CONTEXT_ROWS), OUT, value_integer(&d->b, 0)),
                value_number(&d->b, F32, 0));
    kernel_verify(&module);
}

BROKEN(shared_without_let) {
    Dense *d = dense_frame();
    Value *load = value_load(&d->b, &d->x, value_integer(&d->b, 0), 1);
    Value *shared = value_op(&d->b, OP_ADD, load, value_number(&d->b, F32, 1), NULL);
    build_store(&d->b, &d->out, value_integer(&d->b, 0), value_op(&d->b, OP_MULTIPLY, shared, shared, NULL));
    kernel_verify(&module);
}

BROKEN(let_of_another_body) {
    Dense *d = dense_frame();
    open_rows(d, value_context(&d->b, CONTEXT_ROWS), false);
    Value *inside = build_let(&d->b, "t", value_load(&d->b, &d->x, at(&d->b, d->row, IN, value_integer(&d->b, 0)), 1));
    build_end(&d->b, d->outermost);
    build_store(&d->b, &d->out, value_integer(&d->b, 0), inside);
    kernel_verify(&module);
}

BROKEN(variable_outside_its_loop) {
    Dense *d = dense_frame();
    open_rows(d, value_context(&d->b, CONTEXT_ROWS), false);
    build_end(&d->b, d->outermost);
    build_store(&d->b, &d->out, d->row, value_number(&d->b, F32, 0));
    kernel_verify(&module);
}

BROKEN(register_of_another_body) {
    Dense *d = dense_with(0, false);
    build_set(&d->b, d->sum, value_number(&d->b, F32, 0));
    kernel_verify(&module);
}

BROKEN(types_differ) {
    Dense *d = dense_frame();
    Value *sum = value_op(&d->b, OP_ADD, value_load(&d->b, &d->x, value_integer(&d->b, 0), 1),
                          value_number(&d->b, F32, 1), NULL);
    sum->args[1] = value_number(&d->b, F64, 1);
    build_store(&d->b, &d->out, value_integer(&d->b, 0), sum);
    kernel_verify(&module);
}

BROKEN(lanes_differ) {
    Dense *d = dense_frame();
    value_op(&d->b, OP_ADD, value_number(&d->b, F32, 1), value_number(&d->b, (ValueType){SCALAR_F32, 8}, 1), NULL);
}

BROKEN(load_of_another_type) {
    Dense *d = dense_with(0, false);
    d->weight.scalar = SCALAR_F64;
    kernel_verify(&module);
}

BROKEN(feed_is_constant) {
    Dense *d = dense_frame();
    build_store(&d->b, &d->x, value_integer(&d->b, 0), value_number(&d->b, F32, 0));
    kernel_verify(&module);
}

BROKEN(parallel_store_to_one_place) {
    Dense *d = dense_frame();
    open_rows(d, value_context(&d->b, CONTEXT_ROWS), true);
    build_store(&d->b, &d->out, value_integer(&d->b, 0), value_number(&d->b, F32, 0));
    build_end(&d->b, d->outermost);
    kernel_verify(&module);
}

/* Row r, element e of a parallel loop over rows: `extra` elements further, `times` the row. */
static void store_by_rows(int64_t times, int64_t width, int64_t extra) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    Value *column;
    d->function.parallel = true;
    d->out.elements = ROWS * OUT * 4;
    open_rows(d, value_context(b, CONTEXT_ROWS), true);
    Block *outer = build_loop(b, "o", value_integer(b, 0), value_integer(b, width), 1, false, &column);
    Value *place = integer_op(b, OP_INTEGER_ADD, at(b, d->row, times, column), value_integer(b, extra));
    build_store(b, &d->out, place, value_number(b, F32, 0));
    build_end(b, outer);
    build_end(b, d->outermost);
    kernel_verify(&module);
}

Test(kernel, rounds_with_pieces_of_their_own) {
    store_by_rows(OUT, OUT, 0);
}

Test(kernel, rounds_whose_pieces_are_shifted) {
    store_by_rows(OUT, OUT, 5);
}

BROKEN(rounds_meet) {
    store_by_rows(OUT, OUT + 1, 0);
}

/* Rows of 2 elements and rows of 3: each alone is fine. */
BROKEN(rounds_share_in_two_ways) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    d->function.parallel = true;
    open_rows(d, value_context(b, CONTEXT_ROWS), true);
    build_store(b, &d->out, at(b, d->row, 2, value_integer(b, 0)), value_number(b, F32, 0));
    build_store(b, &d->out, at(b, d->row, 3, value_integer(b, 0)), value_number(b, F32, 0));
    build_end(b, d->outermost);
    kernel_verify(&module);
}

/* One round reads what the next one writes. */
BROKEN(rounds_read_their_neighbour) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    d->function.parallel = true;
    open_rows(d, value_context(b, CONTEXT_ROWS), true);
    Value *next = value_load(b, &d->out, at(b, d->row, OUT, value_integer(b, OUT)), 1);
    d->out.elements += OUT;
    build_store(b, &d->out, at(b, d->row, OUT, value_integer(b, 0)), next);
    build_end(b, d->outermost);
    kernel_verify(&module);
}

BROKEN(parallel_loop_inside_another) {
    Dense *d = dense_frame();
    open_rows(d, value_context(&d->b, CONTEXT_ROWS), false);
    Value *column;
    Block *outer = build_loop(&d->b, "o", value_integer(&d->b, 0), value_integer(&d->b, OUT), 1, true, &column);
    build_store(&d->b, &d->out, at(&d->b, d->row, OUT, column), value_number(&d->b, F32, 0));
    build_end(&d->b, outer);
    build_end(&d->b, d->outermost);
    kernel_verify(&module);
}

BROKEN(kernel_lists_lack_a_buffer) {
    Dense *d = dense_with(0, false);
    d->kernel.written_count = 0;
    kernel_verify(&module);
}

/* A second kernel that reads what `dense` writes, or writes over bytes that it reads. */
static void second_kernel(Dense *d, Buffer *from, Buffer *to) {
    Kernel *kernel = arena_new_of(module.arena, Kernel);
    kernel->name = name_of("second");
    Builder b = {.arena = module.arena, .module = &module, .kernel = kernel, .block = &kernel->body};
    build_store(&b, to, value_integer(&b, 0), value_load(&b, from, value_integer(&b, 0), 1));
    d->steps[d->function.step_count++] = (Step){.kind = STEP_KERNEL, .kernel = kernel};
}

static void add_buffer(Dense *d, Buffer *buffer) {
    Buffer **list = arena_array(module.arena, Buffer *, 4);
    memcpy(list, d->list, sizeof d->list);
    list[3] = buffer;
    d->function.buffers = list;
    d->function.buffer_count = 4;
}

BROKEN(barrier_missing) {
    Dense *d = dense_with(0, true);
    second_kernel(d, &d->out, &d->out);
    kernel_verify(&module);
}

BROKEN(barrier_missing_for_shared_bytes) {
    Dense *d = dense_with(0, true);
    Buffer other = buffer_of("other", BUFFER_TEMPORARY, false, 4, 0, 64); /* inside x, which the first kernel reads */
    add_buffer(d, &other);
    second_kernel(d, &d->weight, &other);
    kernel_verify(&module);
}

Test(kernel, barrier_makes_it_right) {
    Dense *d = dense_with(0, true);
    Buffer other = buffer_of("other", BUFFER_TEMPORARY, false, 4, 0, 64);
    add_buffer(d, &other);
    d->steps[d->function.step_count++] = (Step){.kind = STEP_BARRIER};
    d->steps[d->function.step_count++] = (Step){.kind = STEP_GUARD, .buffer = &d->out};
    second_kernel(d, &d->out, &other);
    kernel_verify(&module);
}

Test(kernel, serial_functions_need_no_barrier) {
    Dense *d = dense_with(0, false);
    second_kernel(d, &d->out, &d->out);
    kernel_verify(&module);
}

BROKEN(guard_behind_no_barrier) {
    Dense *d = dense_with(0, true);
    d->steps[d->function.step_count++] = (Step){.kind = STEP_GUARD, .buffer = &d->out};
    kernel_verify(&module);
}

BROKEN(guard_behind_the_end) {
    Dense *d = dense_with(0, false);
    d->steps[d->function.step_count++] = (Step){.kind = STEP_GUARD, .buffer = &d->out, .element = ROWS * OUT};
    kernel_verify(&module);
}

BROKEN(division_by_what_may_be_zero) {
    Dense *d = dense_frame();
    open_rows(d, value_context(&d->b, CONTEXT_ROWS), false);
    Value *quotient = integer_op(&d->b, OP_INTEGER_DIVIDE, value_integer(&d->b, 7), d->row);
    build_store(&d->b, &d->out, quotient, value_number(&d->b, F32, 0));
    build_end(&d->b, d->outermost);
    kernel_verify(&module);
}

/* ---- Evaluator --------------------------------------------------------------------------------------------------- */

Test(kernel, evaluator_multiplies_matrices) {
    Dense *d = dense_with(0, true);
    double x[ROWS * IN], weight[OUT * IN], out[ROWS * OUT], *memory[] = {x, weight, out};
    for (int i = 0; i < ROWS * IN; i++)
        x[i] = (double)(0.1f * (float)(i - 7));
    for (int i = 0; i < OUT * IN; i++)
        weight[i] = (double)(0.3f * (float)(5 - i));
    for (int exact = 0; exact < 2; exact++) {
        for (int i = 0; i < ROWS * OUT; i++)
            out[i] = -99;
        (exact ? function_evaluate_exact : function_evaluate)(&d->function, memory, 5, 0, 1, 1);
        for (int b = 0; b < ROWS; b++)
            for (int o = 0; o < OUT; o++) {
                double sum = 0;
                float single = 0;
                for (int i = 0; i < IN; i++) {
                    sum = fma(weight[o * IN + i], x[b * IN + i], sum);
                    single = fmaf((float)weight[o * IN + i], (float)x[b * IN + i], single);
                }
                double expected = b >= 5 ? -99 : exact ? (double)single : sum;
                cr_assert_eq(out[b * OUT + o], expected, "row %d, output %d: %g, not %g", b, o, out[b * OUT + o],
                             expected);
            }
    }
}

Test(kernel, evaluator_stops_at_a_guard) {
    Dense *d = dense_with(0, true);
    Buffer other = buffer_of("other", BUFFER_TEMPORARY, false, 4, 0, 320);
    add_buffer(d, &other);
    d->steps[d->function.step_count++] = (Step){.kind = STEP_BARRIER};
    d->steps[d->function.step_count++] = (Step){.kind = STEP_GUARD, .buffer = &d->out};
    second_kernel(d, &d->x, &other);
    double x[ROWS * IN] = {2}, weight[OUT * IN] = {3}, out[ROWS * OUT] = {0}, seen[4] = {0};
    double *memory[] = {x, weight, out, seen};
    function_evaluate(&d->function, memory, 1, 0, 1, 1);
    cr_assert_eq(seen[0], 2);
    seen[0] = 0;
    weight[0] = INFINITY; /* out[0] only */
    function_evaluate(&d->function, memory, 1, 0, 1, 1);
    cr_assert_eq(seen[0], 0);
    d->steps[2].element = 1;
    function_evaluate(&d->function, memory, 1, 0, 1, 1);
    cr_assert_eq(seen[0], 2);
}

/* ((0+8)+(4+12)) + ((2+10)+(6+14)) + …: 2^24 in lane 0 swallows a 1 that joins it, two that were joined before stay. */
Test(kernel, tree_sum_adds_halves) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    Buffer many = buffer_of("many", BUFFER_TEMPORARY, false, 16, 0, 320);
    add_buffer(d, &many);
    build_store(b, &d->out, value_integer(b, 0), value_tree(b, OP_ADD, value_load(b, &many, value_integer(b, 0), 16)));
    kernel_verify(&module);
    double x[ROWS * IN] = {0}, weight[OUT * IN] = {0}, out[ROWS * OUT] = {0}, lanes[16] = {0x1p24};
    double *memory[] = {x, weight, out, lanes};
    lanes[8] = 1;
    function_evaluate_exact(&d->function, memory, 1, 0, 1, 1);
    cr_assert_eq(out[0], 0x1p24);
    lanes[8] = 0;
    lanes[4] = lanes[12] = 1;
    function_evaluate_exact(&d->function, memory, 1, 0, 1, 1);
    cr_assert_eq(out[0], 0x1p24 + 2);
    function_evaluate(&d->function, memory, 1, 0, 1, 1);
    cr_assert_eq(out[0], 0x1p24 + 2);
}

/* ---- Math -------------------------------------------------------------------------------------------------------- */

/* The distance in units of the last place that a number near `expected` has, at 24 or 53 bits. */
static double ulps(double got, double expected, int digits, int least) {
    if (isnan(expected) || isnan(got))
        return isnan(expected) && isnan(got) ? 0 : INFINITY;
    if (got == expected)
        return !signbit(got) == !signbit(expected) ? 0 : INFINITY;
    int exponent;
    frexp(expected, &exponent);
    exponent -= digits;
    return fabs(got - expected) / ldexp(1, expected == 0 || exponent < least ? least : exponent);
}

static double ulps_f32(float got, double expected) {
    if (isinf(got) && fabs(expected) > (double)0x1.fffffep127f)
        return (got > 0) == (expected > 0) ? 0 : INFINITY;
    if (expected == 0 && got == 0)
        return !signbit(got) == !signbit(expected) ? 0 : INFINITY;
    return ulps((double)got, expected, 24, -149);
}

static float float_of_bits(uint32_t bits) {
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

static const float specials[] = {0.0f,
                                 -0.0f,
                                 1,
                                 -1,
                                 2,
                                 -2,
                                 0.5f,
                                 -0.5f,
                                 INFINITY,
                                 -INFINITY,
                                 NAN,
                                 0x1p-149f,
                                 -0x1p-149f,
                                 0x1p-126f,
                                 0x1.fffffep127f,
                                 -0x1.fffffep127f,
                                 -100,
                                 -103.9f,
                                 -104,
                                 88.7f,
                                 88.8f,
                                 -1.0000001f,
                                 -0.99999994f,
                                 0x1p24f,
                                 16777215,
                                 -16777215,
                                 0x1.921fb6p0f,
                                 0x1.921fb6p+1f,
                                 0x1p16f,
                                 9,
                                 -17};
enum { SPECIALS = sizeof specials / sizeof *specials };

/* 16 arguments at once, every `stride`-th of all floats and the special ones; 16 lanes give what 1 lane gives. */
static void check_unary(Op op, double most, uint32_t stride) {
    const MathFunction *wide = math_function(&module, op, (ValueType){SCALAR_F32, 16});
    const MathFunction *single = math_function(&module, op, F32);
    double worst = 0;
    for (uint64_t from = 0; from < (UINT64_C(1) << 32) + 16 * SPECIALS; from += UINT64_C(16) * stride) {
        Number arguments[1][16], result[16], alone[16];
        for (uint32_t lane = 0; lane < 16; lane++) {
            uint64_t bits = from + (uint64_t)stride * lane;
            bool special = from < UINT64_C(16) * stride * SPECIALS && lane == 0;
            float x = special ? specials[from / (UINT64_C(16) * stride)] : float_of_bits((uint32_t)bits);
            arguments[0][lane].real = (double)x;
        }
        math_evaluate(wide, (const Number(*)[16])arguments, result);
        for (int lane = 0; lane < 16; lane++) {
            double x = arguments[0][lane].real;
            double error = ulps_f32((float)result[lane].real, op_evaluate(op, x, 0, 0));
            cr_assert_lt(error, most, "%s(%a) is %a, not %a: %g ulp", op_table[op].name, x, result[lane].real,
                         op_evaluate(op, x, 0, 0), error);
            worst = error > worst ? error : worst;
        }
        math_evaluate(single, (const Number(*)[16])arguments, alone);
        cr_assert(memcmp(&alone[0], &result[0], sizeof *alone) == 0 || isnan(alone[0].real), "lanes change the bits");
    }
    cr_assert_gt(worst, 0.4, "%s: nothing was compared", op_table[op].name);
}

/* Greatest errors over all 2^32 floats, measured with compiled code: see about() in math.c. */
Test(kernel, exp_f32) {
    check_unary(OP_EXP, 1.06, 49999);
}
Test(kernel, expm1_f32) {
    check_unary(OP_EXPM1, 1.6, 49999);
}
Test(kernel, log_f32) {
    check_unary(OP_LOG, 0.9, 49999);
}
Test(kernel, log1p_f32) {
    check_unary(OP_LOG1P, 1.5, 49999);
}
Test(kernel, tanh_f32) {
    check_unary(OP_TANH, 1.6, 49999);
}
Test(kernel, sin_f32) {
    check_unary(OP_SIN, 1.7, 99991);
}
Test(kernel, cos_f32) {
    check_unary(OP_COS, 1.7, 99991);
}
Test(kernel, erf_f32) {
    check_unary(OP_ERF, 1.1, 49999);
}

static uint64_t random_state = 88172645463325252u;
static double random_unit(void) { /* xorshift: Marsaglia, 2003 */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) * 0x1p-53;
}

static void check_power(const MathFunction *function, double x, double y, double most) {
    Number arguments[2][16], result[16];
    arguments[0][0].real = x;
    arguments[1][0].real = y;
    math_evaluate(function, (const Number(*)[16])arguments, result);
    bool narrow = function->result.scalar == SCALAR_F32;
    double expected = pow(x, y);
    double error = narrow ? ulps_f32((float)result[0].real, expected) : ulps(result[0].real, expected, 53, -1074);
    cr_assert_lt(error, most, "pow(%a, %a) is %a, not %a", x, y, result[0].real, expected);
}

Test(kernel, power) {
    const MathFunction *narrow = math_function(&module, OP_POWER, F32), *wide = math_function(&module, OP_POWER, F64);
    for (int i = 0; i < SPECIALS; i++)
        for (int j = 0; j < SPECIALS; j++) {
            check_power(narrow, (double)specials[i], (double)specials[j], 1.3);
            check_power(wide, (double)specials[i], (double)specials[j], 2.5);
        }
    for (int i = 0; i < 10000; i++) {
        float x = expf((float)(random_unit() * 160 - 80)), y = (float)((random_unit() * 200 - 100) / log((double)x));
        check_power(narrow, (double)x, (double)y, 1.3);
        double near = 1 + ldexp(random_unit() - 0.5, -(int)(random_unit() * 40));
        if (near != 1)
            check_power(wide, near, (random_unit() * 1400 - 700) / log(near), 2.5);
    }
}

static void check_power_of(double base, double y, ValueType type) {
    const MathFunction *any = math_function(&module, OP_POWER, type), *of = math_power_of(&module, base, type);
    Number arguments[2][16], expected[16], result[16];
    arguments[0][0].real = base;
    arguments[1][0].real = y;
    math_evaluate(any, (const Number(*)[16])arguments, expected);
    math_evaluate(of, (const Number(*)[16])(arguments + 1), result);
    cr_assert(memcmp(&result[0], &expected[0], sizeof *result) == 0 ||
                  (isnan(result[0].real) && isnan(expected[0].real)),
              "%s(%a) is %a, not %a", of->name, y, result[0].real, expected[0].real);
}

/* What is worked out when compiling is what the machine would work out. */
Test(kernel, power_of_a_constant) {
    const float bases[] = {0.9f, 0.999f, 1, 2, 1e-3f, 1.5e30f, 0x1p-140f, 0, -0.0f, -2, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        for (int j = 0; j < SPECIALS; j++) {
            check_power_of((double)bases[i], (double)specials[j], F32);
            check_power_of((double)bases[i], (double)specials[j], F64);
        }
        for (int j = 0; j < 50; j++) {
            check_power_of((double)bases[i], (double)(float)(random_unit() * 200 - 100), F32);
            check_power_of((double)bases[i] * 1.0000000001, floor(random_unit() * 1e6), F64);
        }
    }
}

/* f64 within 4 units of the last place: under 1e-15. glibc's own error is below 1. */
static void check_wide(Op op, double most_argument) {
    const MathFunction *function = math_function(&module, op, F64);
    for (int i = 0; i < 20000; i++) {
        double x = (random_unit() * 2 - 1) * ldexp(1, (int)(random_unit() * 40) - 29);
        if (i < SPECIALS)
            x = (double)specials[i];
        Number arguments[1][16], result[16];
        arguments[0][0].real = x;
        math_evaluate(function, (const Number(*)[16])arguments, result);
        double expected = fabs(x) > most_argument ? NAN : op_evaluate(op, x, 0, 0);
        cr_assert_lt(ulps(result[0].real, expected, 53, -1074), 4, "%s(%a) is %a, not %a", op_table[op].name, x,
                     result[0].real, expected);
    }
}

Test(kernel, double_precision) {
    for (int op = OP_EXP; op <= OP_ERF; op++)
        check_wide((Op)op, op == OP_SIN || op == OP_COS ? 0x1p30 : INFINITY);
}

/* ---- Random draws ------------------------------------------------------------------------------------------------ */

static void draw(const MathFunction *function, const uint64_t *of, Number *result) {
    Number arguments[6][16];
    for (int i = 0; i < function->argument_count; i++)
        arguments[i][0].integer = (int64_t)of[i];
    math_evaluate(function, (const Number(*)[16])arguments, result);
}

/* Known answers of the authors' Random123 library, kat_vectors. Order here: seed, step, row, element, stream. */
static const struct {
    uint64_t of[5];
    uint32_t words[2];
} known[] = {
    {{0, 0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d}},
    {{UINT64_MAX, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0x408f276d, 0x41c83b0e}},
    {{0x299f31d0a4093822, 0x13198a2e, 0x85a308d3, 0x243f6a88, 0x03707344}, {0xd16cfe09, 0x94fdcceb}},
};

Test(kernel, draws_are_philox) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        Number result[16];
        draw(math_uniform(&module, 1), known[i].of, result);
        cr_assert_eq(result[0].real, (double)(known[i].words[0] >> 8) * 0x1p-24);
        draw(math_normal(&module, 1), known[i].of, result);
        double u = (double)((known[i].words[0] >> 8) + 1) * 0x1p-24, v = (double)(known[i].words[1] >> 8) * 0x1p-24;
        double expected = sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v);
        cr_assert_lt(ulps_f32((float)result[0].real, expected), 4, "%a, not %a", result[0].real, expected);
    }
}

/* Lane i draws for element + i, across 2^32 too. */
Test(kernel, lanes_draw_for_elements) {
    const uint64_t starts[] = {0, 1000, 0xfffffffcu, UINT64_C(0x1fffffff8)};
    for (size_t i = 0; i < 4; i++) {
        uint64_t of[5] = {7, 3, 5, starts[i], 11};
        Number many[16], one[16];
        draw(math_normal(&module, 8), of, many);
        for (uint64_t lane = 0; lane < 8; lane++) {
            of[3] = starts[i] + lane;
            draw(math_normal(&module, 1), of, one);
            cr_assert_eq(one[0].real, many[lane].real);
        }
    }
}

/* Lane i draws for element + i * apart, across 2^32 too. */
Test(kernel, lanes_draw_for_elements_apart) {
    const uint64_t starts[] = {0, 1000, 0xfffffffcu, UINT64_C(0x1fffffff8)}, distances[] = {1, 784, 0x0fffffff};
    for (size_t i = 0; i < 12; i++) {
        uint64_t of[6] = {7, 3, 5, starts[i % 4], 11, distances[i / 4]};
        Number normals[16], uniforms[16], one[16];
        draw(math_normal_apart(&module, 16), of, normals);
        draw(math_uniform_apart(&module, 16), of, uniforms);
        for (uint64_t lane = 0; lane < 16; lane++) {
            of[3] = starts[i % 4] + lane * distances[i / 4];
            draw(math_normal(&module, 1), of, one);
            cr_assert_eq(one[0].real, normals[lane].real);
            draw(math_uniform(&module, 1), of, one);
            cr_assert_eq(one[0].real, uniforms[lane].real);
        }
    }
}

Test(kernel, high_halves_count) {
    const uint64_t base[5] = {7, 3, 5, 9, 11};
    Number first[16], other[16];
    draw(math_uniform(&module, 1), base, first);
    for (int argument = 0; argument < 4; argument++) {
        uint64_t of[5];
        memcpy(of, base, sizeof of);
        of[argument] |= UINT64_C(1) << 32;
        draw(math_uniform(&module, 1), of, other);
        cr_assert_neq(first[0].real, other[0].real, "argument %d", argument);
    }
}

Test(kernel, normal_has_mean_0_and_variance_1) {
    double sum = 0, squares = 0;
    enum { COUNT = 16000 };
    const MathFunction *normal = math_normal(&module, 16);
    for (uint64_t from = 0; from < COUNT; from += 16) {
        uint64_t of[5] = {1, 2, 3, from, 4};
        Number result[16];
        draw(normal, of, result);
        for (int lane = 0; lane < 16; lane++) {
            sum += result[lane].real;
            squares += result[lane].real * result[lane].real;
        }
    }
    cr_assert_lt(fabs(sum / COUNT), 4 / sqrt(COUNT));
    cr_assert_lt(fabs(squares / COUNT - 1), 4 * sqrt(2.0 / COUNT));
}

/* In a kernel: double arithmetic around a draw, the draw itself as the target has it. */
Test(kernel, evaluator_draws_exactly) {
    Dense *d = dense_frame();
    Builder *b = &d->b;
    Value *arguments[] = {value_context(b, CONTEXT_SEED), value_context(b, CONTEXT_STEP), value_integer(b, 5),
                          value_integer(b, 9), value_number(b, (ValueType){SCALAR_U32, 1}, 11)};
    Value *drawn = value_call(b, math_uniform(&module, 1), arguments, 5);
    Value *tenth = value_op(b, OP_MULTIPLY, drawn, value_number(b, F32, 0.1), NULL);
    build_store(b, &d->out, value_integer(b, 0), tenth);
    build_store(b, &d->out, value_integer(b, 1), value_op(b, OP_EXP, value_number(b, F32, 1), NULL, NULL));
    kernel_verify(&module);
    double x[ROWS * IN] = {0}, weight[OUT * IN] = {0}, out[ROWS * OUT] = {0}, *memory[] = {x, weight, out};
    Number expected[16];
    draw(math_uniform(&module, 1), (const uint64_t[5]){7, 3, 5, 9, 11}, expected);
    function_evaluate(&d->function, memory, 1, 0, 7, 3);
    cr_assert_eq(out[0], expected[0].real * (double)0.1f);
    cr_assert_eq(out[1], exp(1));
    function_evaluate_exact(&d->function, memory, 1, 0, 7, 3);
    cr_assert_eq(out[0], (double)((float)expected[0].real * 0.1f));
    cr_assert_eq(out[1], (double)(float)out[1]);
    cr_assert_lt(ulps_f32((float)out[1], exp(1)), 1.06);
    cr_assert_eq(I64.lanes, 1);
}
