/* Unit tests of compiler/llvm: kernels are built by hand, compiled in memory, run, and what they write is compared to
   the bit with kernel/evaluate.c, which knows nothing of LLVM, and with closed forms. */
#define _XOPEN_SOURCE 700
#include "../../compiler/kernel/share.h"
#include "../../compiler/llvm/llvm.h"
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMORY = 1 << 16, MOST_BUFFERS = 8 };

static Arena *arena;
static Module *module;
static Builder b;
static const LlvmBackend *llvm;
static char cache[64];
static _Alignas(64) char memory[MEMORY];
static uint64_t memory_used;

static void start(void) {
    names_start();
    arena = arena_new();
    module = arena_new_of(arena, Module);
    module->arena = arena;
    memory_used = 0;
    strcpy(cache, "/tmp/bpc-llvm-XXXXXX");
    cr_assert(mkdtemp(cache));
    setenv("XDG_CACHE_HOME", cache, 1);
    void *opened = dlopen(BPC_LLVM_MODULE, RTLD_NOW);
    cr_assert(opened, "%s", dlerror());
    llvm = dlsym(opened, LLVM_BACKEND_SYMBOL);
    cr_assert(llvm && llvm->abi == LLVM_BACKEND_ABI);
    Shapes shapes; /* the module must find these in this program */
    shapes_find(arena, module, &shapes);
    bp_barrier(NULL, 0);
}

static void stop(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", cache);
    cr_assert_eq(system(command), 0);
    arena_free(arena);
    sources_end();
    names_end();
}

TestSuite(llvm, .init = start, .fini = stop, .timeout = 120);

/* ---- Building by hand -------------------------------------------------------------------------------------------- */

static const ValueType f32 = {SCALAR_F32, 1};

static Buffer *buffer_new(const char *name, Scalar scalar, int64_t elements) {
    Buffer *buffer = arena_new_of(arena, Buffer);
    *buffer = (Buffer){.name = name_of(name),
                       .shown = name,
                       .scalar = scalar,
                       .role = BUFFER_TEMPORARY,
                       .rank = 1,
                       .dims = {elements},
                       .elements = elements,
                       .offset = memory_used,
                       .span = SPAN_NONE};
    memory_used += ((uint64_t)elements * (uint64_t)scalar_bytes(scalar) + 63) / 64 * 64;
    cr_assert(memory_used <= MEMORY);
    return buffer;
}

static Kernel *kernel_new(const char *name) {
    Kernel *kernel = arena_new_of(arena, Kernel);
    kernel->name = name_of(name);
    kernel->formula = "made by a test";
    kernel->span = SPAN_NONE;
    b = (Builder){.arena = arena, .module = module, .kernel = kernel, .block = &kernel->body};
    return kernel;
}

static Function *function_new(const char *name, bool parallel) {
    Function *function = arena_new_of(arena, Function);
    *function = (Function){
        .name = name_of(name), .about = "made by a test", .span = SPAN_NONE, .parallel = parallel, .capacity = 64};
    function->steps = arena_array(arena, Step, 64);
    function->buffers = arena_array(arena, Buffer *, MOST_BUFFERS);
    *LIST_ADD(arena, &module->functions) = function;
    return function;
}

static void add_kernel(Function *function, Kernel *kernel) {
    function->steps[function->step_count++] = (Step){.kind = STEP_KERNEL, .kernel = kernel};
    for (int i = 0; i < kernel->buffer_count; i++) {
        bool known = false;
        for (int j = 0; j < function->buffer_count; j++)
            known |= function->buffers[j] == kernel->buffers[i];
        if (!known)
            function->buffers[function->buffer_count++] = kernel->buffers[i];
    }
}

static Value *op(Op which, Value *x, Value *y, Value *z) {
    return value_op(&b, which, x, y, z);
}

static Value *plus(Value *x, int64_t number) {
    return op(OP_INTEGER_ADD, x, value_integer(&b, number), NULL);
}

/* ---- Memory as the evaluator has it ------------------------------------------------------------------------------ */

static double element(const Buffer *buffer, int64_t i) {
    const char *at = memory + buffer->offset + i * scalar_bytes(buffer->scalar);
    float narrow;
    double wide;
    int32_t integer;
    memcpy(&narrow, at, 4);
    memcpy(&integer, at, 4);
    if (buffer->scalar == SCALAR_F32)
        return (double)narrow;
    if (buffer->scalar == SCALAR_I32)
        return integer;
    memcpy(&wide, at, 8);
    return wide;
}

static void put_element(const Buffer *buffer, int64_t i, double number) {
    char *at = memory + buffer->offset + i * scalar_bytes(buffer->scalar);
    float narrow = (float)number;
    int32_t integer = buffer->scalar == SCALAR_I32 ? (int32_t)number : 0;
    if (buffer->scalar == SCALAR_F64)
        memcpy(at, &number, 8);
    else
        memcpy(at, buffer->scalar == SCALAR_I32 ? (void *)&integer : (void *)&narrow, 4);
}

static bool same(double x, double y) {
    return (isnan(x) && isnan(y)) || memcmp(&x, &y, sizeof x) == 0;
}

static LlvmCode *compile(const LlvmOptions *options, bool hot) {
    LlvmWanted wanted[16];
    int count = 0;
    for (int i = 0; i < module->functions.count; i++)
        wanted[count++] = (LlvmWanted){module->functions.at[i]->name, hot, false};
    kernel_verify(module);
    return llvm->compile(module, wanted, count, options);
}

static void call(LlvmCode *code, const char *name, int64_t rows, int32_t threads) {
    bp_code *function = (bp_code *)llvm->find(code, name);
    struct bp_context context = {.memory = memory, .rows = rows, .position = 5, .seed = 7, .step = 3};
    cr_assert(function);
    for (int32_t thread = 0; thread < threads; thread++)
        function(&context, thread, threads);
}

/* The function as machine code, cold and hot, writes what the evaluator writes. */
static void agree(const Function *function, int64_t rows) {
    static char before[MEMORY];
    double *arrays[MOST_BUFFERS];
    memcpy(before, memory, MEMORY);
    for (int i = 0; i < function->buffer_count; i++) {
        const Buffer *buffer = function->buffers[i];
        arrays[i] = arena_array(arena, double, buffer->elements);
        for (int64_t e = 0; e < buffer->elements; e++)
            arrays[i][e] = element(buffer, e);
    }
    function_evaluate_exact(function, arrays, rows, 5, 7, 3);
    for (int hot = 0; hot < 2; hot++) {
        memcpy(memory, before, MEMORY);
        LlvmCode *code = compile(&(LlvmOptions){.level = 3}, hot);
        cr_assert(code);
        call(code, function->name, rows, 1);
        llvm->release(code);
        for (int i = 0; i < function->buffer_count; i++)
            for (int64_t e = 0; e < function->buffers[i]->elements; e++)
                cr_expect(same(element(function->buffers[i], e), arrays[i][e]), "%s: %s[%lld] is %a, not %a",
                          function->name, function->buffers[i]->name, (long long)e, element(function->buffers[i], e),
                          arrays[i][e]);
    }
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */

enum { CASES = 16 };
static const double cases[3][CASES] = {
    {0.0, -0.0, 1.0, -1.0, NAN, INFINITY, -INFINITY, 1e-40, 0.5, -0.5, 2.5, -3.5, 1e30, 7, 3, -2},
    {-0.0, 0.0, NAN, -1.0, 1.0, 2, INFINITY, 3, -0.5, 0.5, 1.5, 7, -1e30, NAN, 0, 4},
    {1, -0.0, 0.25, NAN, 2, -1, 0, 1e-40, 3, -3, 0.125, 9, 1e30, 1, -9, 0.1}};
static const Op real_ops[] = {OP_NEGATE,  OP_ADD,     OP_SUBTRACT,   OP_MULTIPLY, OP_DIVIDE,   OP_FMA,
                              OP_MAXIMUM, OP_MINIMUM, OP_ABSOLUTE,   OP_SIGN,     OP_SQRT,     OP_FLOOR,
                              OP_ROUND,   OP_LESS,    OP_LESS_EQUAL, OP_EQUAL,    OP_NOT_EQUAL};
enum { REAL_OPS = sizeof real_ops / sizeof *real_ops };

static double rounded(double number, bool single) {
    return single ? (double)(float)number : number;
}

/* + - * / and sqrt of floats in double, rounded once more, are right; fma is not. */
static double expected(Op which, int i, bool single) {
    double x = rounded(cases[0][i], single), y = rounded(cases[1][i], single), z = rounded(cases[2][i], single);
    if (which == OP_FMA)
        return single ? (double)fmaf((float)x, (float)y, (float)z) : fma(x, y, z);
    if (op_table[which].class == CLASS_COMPARE)
        return op_evaluate(which, x, y, 0) != 0 ? x : y;
    return rounded(op_evaluate(which, x, y, z), single);
}

static void check_ops(Scalar scalar, int lanes) {
    Buffer *in[3] = {buffer_new("x", scalar, CASES), buffer_new("y", scalar, CASES), buffer_new("z", scalar, CASES)};
    Buffer *out = buffer_new("out", scalar, REAL_OPS * CASES);
    Function *function = function_new("ops", false);
    Kernel *kernel = kernel_new("all_ops");
    Value *at, *loaded[3];
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, CASES), lanes, false, &at);
    for (int i = 0; i < 3; i++)
        loaded[i] = build_let(&b, "v", value_load(&b, in[i], at, lanes));
    for (int i = 0; i < REAL_OPS; i++) {
        int arity = op_table[real_ops[i]].arity;
        Value *value = op(real_ops[i], loaded[0], arity > 1 ? loaded[1] : NULL, arity > 2 ? loaded[2] : NULL);
        if (value->type.scalar == SCALAR_BOOL)
            value = op(OP_WHERE, value, loaded[0], loaded[1]);
        build_store(&b, out, plus(at, i * CASES), value);
    }
    build_end(&b, outer);
    add_kernel(function, kernel);
    for (int i = 0; i < 3 * CASES; i++)
        put_element(in[i / CASES], i % CASES, cases[i / CASES][i % CASES]);
    agree(function, 1);
    for (int i = 0; i < REAL_OPS * CASES; i++) {
        double wanted = expected(real_ops[i / CASES], i % CASES, scalar == SCALAR_F32);
        cr_expect(same(element(out, i), wanted), "%s of case %d in %d lanes is %a, not %a",
                  op_table[real_ops[i / CASES]].name, i % CASES, lanes, element(out, i), wanted);
    }
}

Test(llvm, ops_f32_x1) {
    check_ops(SCALAR_F32, 1);
}
Test(llvm, ops_f32_x8) {
    check_ops(SCALAR_F32, 8);
}
Test(llvm, ops_f32_x16) {
    check_ops(SCALAR_F32, 16);
}
Test(llvm, ops_f64_x1) {
    check_ops(SCALAR_F64, 1);
}
Test(llvm, ops_f64_x4) {
    check_ops(SCALAR_F64, 4);
}
Test(llvm, ops_f64_x16) {
    check_ops(SCALAR_F64, 16);
}

/* Where one side is a number that is known, max and min take a shorter way. */
Test(llvm, extremes_of_known_numbers) {
    Buffer *in = buffer_new("x", SCALAR_F32, CASES), *out = buffer_new("out", SCALAR_F32, 4 * CASES);
    Function *function = function_new("extremes", false);
    Kernel *kernel = kernel_new("extremes_kernel");
    Value *at, *zero = value_number(&b, f32, 0);
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, CASES), 1, false, &at);
    Value *x = build_let(&b, "x", value_load(&b, in, at, 1));
    build_store(&b, out, at, op(OP_MAXIMUM, zero, x, NULL));
    build_store(&b, out, plus(at, CASES), op(OP_MAXIMUM, x, zero, NULL));
    build_store(&b, out, plus(at, 2 * CASES), op(OP_MINIMUM, zero, x, NULL));
    build_store(&b, out, plus(at, 3 * CASES), op(OP_MINIMUM, x, zero, NULL));
    build_end(&b, outer);
    add_kernel(function, kernel);
    for (int i = 0; i < CASES; i++)
        put_element(in, i, cases[0][i]);
    agree(function, 1);
    for (int i = 0; i < CASES; i++) {
        double v = rounded(cases[0][i], true); /* max(a, b) is a > b || a != a ? a : b */
        cr_expect(same(element(out, i), 0 > v ? 0 : v));
        cr_expect(same(element(out, CASES + i), v > 0 || isnan(v) ? v : 0));
        cr_expect(same(element(out, 2 * CASES + i), 0 < v ? 0 : v));
        cr_expect(same(element(out, 3 * CASES + i), v < 0 || isnan(v) ? v : 0));
    }
}

/* ---- Integers ---------------------------------------------------------------------------------------------------- */

static const int32_t words[16] = {0,  1,  -1, 2,         7,         -7,         255,        65536,
                                  12, 99, -2, INT32_MAX, INT32_MIN, 0x12345678, -0x1234567, 31};

static uint32_t integer_row(int row, int32_t signed_x) {
    uint32_t x = (uint32_t)signed_x, k = 0xD2511F53u;
    int64_t wide = signed_x;
    switch (row) {
    case 0:
        return (uint32_t)((uint64_t)x * k >> 32);
    case 1:
        return x * k + (x ^ k);
    case 2:
        return (x & k) - (x | k);
    case 3:
        return x << 7;
    case 4:
        return x >> 9;
    case 5:
        return (uint32_t)(signed_x >> 9);
    case 6:
        return signed_x < 5;
    case 7:
        return x < 5u;
    case 8:
        return (uint32_t)((uint64_t)wide * 0x9E3779B97F4A7C15u >> 32);
    default:
        return (uint32_t)(int32_t)(float)(signed_x / 256);
    }
}
enum { INTEGER_ROWS = 10 };

static void check_integers(int lanes) {
    Buffer *in = buffer_new("x", SCALAR_I32, 16), *out = buffer_new("out", SCALAR_I32, 16 * INTEGER_ROWS);
    Function *function = function_new("integers", false);
    Kernel *kernel = kernel_new("integers_kernel");
    ValueType u = {SCALAR_U32, lanes}, s = {SCALAR_I32, lanes}, wide = {SCALAR_I64, lanes};
    Value *at;
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, 16), lanes, false, &at);
    Value *x = build_let(&b, "x", value_load(&b, in, at, lanes));
    Value *y = build_let(&b, "y", value_bitcast(&b, x, SCALAR_U32));
    Value *rows[INTEGER_ROWS];
#define KEY value_bits(&b, u, 0xD2511F53)
    rows[0] = op(OP_MULTIPLY_HIGH, y, KEY, NULL);
    rows[1] = op(OP_INTEGER_ADD, op(OP_INTEGER_MULTIPLY, y, KEY, NULL), op(OP_BITS_XOR, y, KEY, NULL), NULL);
    rows[2] = op(OP_INTEGER_SUBTRACT, op(OP_BITS_AND, y, KEY, NULL), op(OP_BITS_OR, y, KEY, NULL), NULL);
    rows[3] = op(OP_SHIFT_LEFT, y, value_bits(&b, u, 7), NULL);
    rows[4] = op(OP_SHIFT_RIGHT, y, value_bits(&b, u, 9), NULL);
    rows[5] = value_bitcast(&b, op(OP_SHIFT_RIGHT, x, value_bits(&b, s, 9), NULL), SCALAR_U32);
    rows[6] =
        op(OP_WHERE, op(OP_INTEGER_LESS, x, value_bits(&b, s, 5), NULL), value_bits(&b, u, 1), value_bits(&b, u, 0));
    rows[7] =
        op(OP_WHERE, op(OP_INTEGER_LESS, y, value_bits(&b, u, 5), NULL), value_bits(&b, u, 1), value_bits(&b, u, 0));
    Value *product = op(OP_INTEGER_MULTIPLY, value_convert(&b, x, SCALAR_I64),
                        value_bits(&b, wide, (int64_t)0x9E3779B97F4A7C15), NULL);
    rows[8] = value_convert(&b,
                            op(OP_SHIFT_RIGHT, value_bitcast(&b, product, SCALAR_U64),
                               value_bits(&b, (ValueType){SCALAR_U64, lanes}, 32), NULL),
                            SCALAR_U32);
    Value *bias =
        op(OP_WHERE, op(OP_INTEGER_LESS, x, value_bits(&b, s, 0), NULL), value_bits(&b, s, 255), value_bits(&b, s, 0));
    Value *part = op(OP_SHIFT_RIGHT, op(OP_INTEGER_ADD, x, bias, NULL), value_bits(&b, s, 8), NULL);
    rows[9] = value_bitcast(&b, value_convert(&b, value_convert(&b, part, SCALAR_F32), SCALAR_I32), SCALAR_U32);
    for (int i = 0; i < INTEGER_ROWS; i++)
        build_store(&b, out, plus(at, i * 16), value_bitcast(&b, rows[i], SCALAR_I32));
    build_end(&b, outer);
    add_kernel(function, kernel);
    for (int i = 0; i < 16; i++)
        put_element(in, i, words[i]);
    agree(function, 1);
    for (int row = 0; row < INTEGER_ROWS; row++)
        for (int i = 0; i < 16; i++)
            cr_expect_eq((uint32_t)(int32_t)element(out, row * 16 + i), integer_row(row, words[i]),
                         "row %d of %d in %d lanes", row, words[i], lanes);
}

Test(llvm, integers_x1) {
    check_integers(1);
}
Test(llvm, integers_x4) {
    check_integers(4);
}
Test(llvm, integers_x16) {
    check_integers(16);
}

/* ---- Math functions and draws ------------------------------------------------------------------------------------ */

static void check_math(Scalar scalar, int lanes) {
    static const Op ops[] = {OP_EXP, OP_EXPM1, OP_LOG, OP_LOG1P, OP_TANH, OP_SIN, OP_COS, OP_ERF, OP_POWER};
    enum { OPS = sizeof ops / sizeof *ops, INPUTS = 48 };
    Buffer *in = buffer_new("x", scalar, INPUTS), *out = buffer_new("out", scalar, OPS * INPUTS);
    Function *function = function_new("maths", false);
    Kernel *kernel = kernel_new("maths_kernel");
    Value *at;
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, INPUTS), lanes, false, &at);
    Value *x = build_let(&b, "x", value_load(&b, in, at, lanes));
    for (int i = 0; i < (int)OPS; i++) {
        Value *second = ops[i] == OP_POWER ? value_number(&b, x->type, 1.7) : NULL;
        build_store(&b, out, plus(at, i * INPUTS), op(ops[i], x, second, NULL));
    }
    build_end(&b, outer);
    add_kernel(function, kernel);
    for (int i = 0; i < INPUTS; i++)
        put_element(in, i, i < CASES ? cases[0][i] : (i - 30) * 0.37);
    agree(function, 1);
}

Test(llvm, maths_f32_x1) {
    check_math(SCALAR_F32, 1);
}
Test(llvm, maths_f32_x16) {
    check_math(SCALAR_F32, 16);
}
Test(llvm, maths_f64_x1) {
    check_math(SCALAR_F64, 1);
}
Test(llvm, maths_f64_x8) {
    check_math(SCALAR_F64, 8);
}

Test(llvm, random_draws) {
    Buffer *out = buffer_new("out", SCALAR_F32, 64);
    Function *function = function_new("draws", false);
    Kernel *kernel = kernel_new("draws_kernel");
    Value *at;
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, 32), 1, false, &at);
    Value *row = op(OP_INTEGER_ADD, value_context(&b, CONTEXT_POSITION), at, NULL);
    Value *args[5] = {value_context(&b, CONTEXT_SEED), value_context(&b, CONTEXT_STEP), build_let(&b, "row", row), at,
                      value_bits(&b, (ValueType){SCALAR_U32, 1}, 9)};
    build_store(&b, out, at, value_call(&b, math_uniform(module, 1), args, 5));
    build_store(&b, out, plus(at, 32), value_call(&b, math_normal(module, 1), args, 5));
    build_end(&b, outer);
    add_kernel(function, kernel);
    agree(function, 1);
    cr_expect_neq(element(out, 0), element(out, 1));
}

/* ---- Sums and registers ------------------------------------------------------------------------------------------ */

/* The sum of numbers that round differently in another order. */
Test(llvm, tree_sum_has_one_order) {
    Buffer *in = buffer_new("x", SCALAR_F32, 16), *out = buffer_new("out", SCALAR_F32, 1);
    Function *function = function_new("sums", false);
    Kernel *kernel = kernel_new("sums_kernel");
    build_store(&b, out, value_integer(&b, 0), value_tree(&b, OP_ADD, value_load(&b, in, value_integer(&b, 0), 16)));
    add_kernel(function, kernel);
    float numbers[16];
    for (int i = 0; i < 16; i++) {
        numbers[i] = (float)(i % 3 ? 1e8 / (i + 1) : -3.3e7 * i) + 0.1f * (float)i;
        put_element(in, i, (double)numbers[i]);
    }
    agree(function, 1);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            numbers[i] += numbers[i + half];
    cr_expect(same(element(out, 0), (double)numbers[0]));
}

/* Registers through loops of no, one and many rounds, and through an if: for each row the place of the first greatest.
 */
static Function *control_function(void) {
    Buffer *in = buffer_new("x", SCALAR_F32, 64 * 8), *place = buffer_new("place", SCALAR_I32, 64);
    Buffer *out = buffer_new("out", SCALAR_F32, 64);
    Function *function = function_new("control", false);
    Kernel *kernel = kernel_new("control_kernel");
    Value *row, *column, *inner;
    Block *rows = build_loop(&b, "row", value_integer(&b, 0), value_context(&b, CONTEXT_ROWS), 1, false, &row);
    Value *first = build_let(&b, "first", op(OP_INTEGER_MULTIPLY, row, value_integer(&b, 8), NULL));
    Statement *greatest = build_var(&b, "greatest", value_load(&b, in, first, 1));
    Statement *at = build_var(&b, "at", value_bits(&b, (ValueType){SCALAR_I32, 1}, 0));
    Statement *sum = build_var(&b, "sum", value_number(&b, f32, 0));
    Block *columns = build_loop(&b, "column", value_integer(&b, 1), value_integer(&b, 8), 1, false, &column);
    Value *x = build_let(&b, "x", value_load(&b, in, op(OP_INTEGER_ADD, first, column, NULL), 1));
    Block *choice = build_if(&b, op(OP_LESS, value_read(&b, greatest), x, NULL));
    build_set(&b, greatest, x);
    build_set(&b, at, value_convert(&b, column, SCALAR_I32));
    build_end(&b, choice);
    Value *end = op(OP_INTEGER_MINIMUM, row, column, NULL);
    Block *inners = build_loop(&b, "inner", value_integer(&b, 0), end, 1, false, &inner);
    build_set(&b, sum, op(OP_FMA, x, value_number(&b, f32, 1.1), value_read(&b, sum)));
    build_end(&b, inners);
    build_end(&b, columns);
    build_store(&b, place, row, value_read(&b, at));
    build_store(&b, out, row, value_read(&b, sum));
    build_end(&b, rows);
    add_kernel(function, kernel);
    for (int i = 0; i < 64 * 8; i++)
        put_element(in, i, sin(i * 1.3) * 5);
    return function;
}

Test(llvm, registers_through_control) {
    agree(control_function(), 64);
}

Test(llvm, registers_of_one_row) {
    agree(control_function(), 1);
}

/* All threads together do each round once: each counts. */
Test(llvm, parallel_rounds_are_shared) {
    static const int64_t steps[] = {1, 3};
    Buffer *counts[2] = {buffer_new("ones", SCALAR_F32, 64), buffer_new("threes", SCALAR_F32, 64)};
    Function *function = function_new("count", true);
    for (int i = 0; i < 2; i++) {
        Kernel *kernel = kernel_new(i ? "by_three" : "by_one");
        Value *row;
        Block *outer =
            build_loop(&b, "row", value_integer(&b, 2 * i), value_context(&b, CONTEXT_ROWS), steps[i], true, &row);
        Value *more = op(OP_ADD, value_load(&b, counts[i], row, 1), value_number(&b, f32, 1), NULL);
        build_store(&b, counts[i], row, more);
        build_end(&b, outer);
        kernel->parallel = true;
        add_kernel(function, kernel);
    }
    agree(function, 61);
    LlvmCode *code = compile(&(LlvmOptions){.level = 2}, false);
    cr_assert(code);
    for (int32_t threads = 1; threads < 70; threads += 4) {
        for (int i = 0; i < 128; i++)
            put_element(counts[i / 64], i % 64, 0);
        call(code, "count", 61, threads);
        for (int i = 0; i < 64; i++) {
            cr_expect_eq(element(counts[0], i), i < 61, "%d threads, row %d", threads, i);
            cr_expect_eq(element(counts[1], i), i < 61 && i % 3 == 2, "%d threads by three, row %d", threads, i);
        }
    }
    llvm->release(code);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

static Function *guarded_function(Buffer *x, Buffer *out) {
    Function *function = function_new("guarded", true);
    Kernel *before = kernel_new("before_kernel");
    build_store(&b, out, value_integer(&b, 0), value_number(&b, f32, 1));
    add_kernel(function, before);
    function->steps[function->step_count++] = (Step){.kind = STEP_BARRIER};
    function->steps[function->step_count++] = (Step){.kind = STEP_GUARD, .buffer = x, .element = 2};
    Kernel *behind = kernel_new("behind_kernel");
    build_store(&b, out, value_integer(&b, 1), value_number(&b, f32, 2));
    add_kernel(function, behind);
    return function;
}

Test(llvm, guard_stops_what_is_not_finite) {
    static const double numbers[] = {1, NAN, INFINITY, -INFINITY, 3e38, 1e-45};
    Buffer *x = buffer_new("x", SCALAR_F32, 4), *out = buffer_new("out", SCALAR_F32, 2);
    guarded_function(x, out);
    LlvmCode *code = compile(&(LlvmOptions){.level = 2}, false);
    cr_assert(code);
    for (int i = 0; i < 6; i++) {
        put_element(x, 2, numbers[i]);
        put_element(out, 0, 0);
        put_element(out, 1, 0);
        call(code, "guarded", 1, 3);
        cr_expect_eq(element(out, 0), 1);
        cr_expect_eq(element(out, 1), isfinite(numbers[i]) ? 2 : 0, "%g", numbers[i]);
    }
    llvm->release(code);
}

/* Equal kernels elsewhere in memory are compiled once; what is not wanted first is compiled when it is called. */
Test(llvm, equal_kernels_and_late_functions) {
    Buffer *in = buffer_new("x", SCALAR_F32, 8),
           *outs[2] = {buffer_new("a", SCALAR_F32, 8), buffer_new("c", SCALAR_F32, 8)};
    for (int i = 0; i < 2; i++) {
        Function *function = function_new(i ? "late" : "early", false);
        Kernel *kernel = kernel_new(i ? "late_kernel" : "early_kernel");
        Value *x = value_load(&b, in, value_integer(&b, 0), 8);
        build_store(&b, outs[i], value_integer(&b, 0), op(OP_EXP, x, NULL, NULL));
        add_kernel(function, kernel);
    }
    Text text = {0};
    cr_assert(llvm->print(module, NULL, LLVM_FORM_TEXT, &(LlvmOptions){.level = 2}, &text));
    cr_expect(strstr(text.at, "@early_kernel.kernel("));
    cr_expect_not(strstr(text.at, "late_kernel"));
    text_free(&text);
    for (int i = 0; i < 8; i++)
        put_element(in, i, i * 0.5 - 2);
    LlvmCode *code = llvm->compile(module, &(LlvmWanted){"early", false, false}, 1, &(LlvmOptions){.level = 2});
    cr_assert(code);
    call(code, "late", 1, 1);
    call(code, "early", 1, 1);
    for (int i = 0; i < 8; i++) {
        cr_expect(same(element(outs[0], i), element(outs[1], i)));
        cr_expect(fabs(element(outs[0], i) - exp(i * 0.5 - 2)) < 1e-6 * exp(i * 0.5 - 2));
    }
    cr_expect_null(llvm->find(code, "no_such_function"));
    llvm->release(code);
}

/* ---- The cache and what is wrong --------------------------------------------------------------------------------- */

/* Files of the cache; the path of the last. */
static int cached_files(char path[512]) {
    char folder[128];
    snprintf(folder, sizeof folder, "%s/bpc", cache);
    DIR *listing = opendir(folder);
    int count = 0;
    for (struct dirent *entry; listing && (entry = readdir(listing));)
        if (entry->d_name[0] != '.') {
            snprintf(path, 512, "%s/%s", folder, entry->d_name);
            count++;
        }
    if (listing)
        closedir(listing);
    return count;
}

static void run_control(Function *function) {
    const Buffer *out = function->steps[0].kernel->buffers[2];
    put_element(out, 10, 0);
    LlvmCode *code = compile(&(LlvmOptions){.level = 2}, false);
    cr_assert(code);
    call(code, "control", 64, 1);
    cr_expect_neq(element(out, 10), 0);
    llvm->release(code);
}

/* What a process says that ends by a crash in the function. */
static void crash(const char *function, char said[512]) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* not the test's, nor a sanitizer's */
        dup2(ends[1], STDERR_FILENO);
        LlvmCode *code = llvm->compile(module, &(LlvmWanted){"early", false, false}, 1, &(LlvmOptions){.level = 2});
        struct bp_context nowhere = {.memory = (char *)64, .rows = 1};
        ((bp_code *)(uintptr_t)llvm->find(code, function))(&nowhere, 0, 1);
        _exit(0);
    }
    close(ends[1]);
    ssize_t length = 0, more;
    while ((more = read(ends[0], said + length, (size_t)(511 - length))) > 0)
        length += more;
    said[length] = '\0';
    close(ends[0]);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %d", status);
}

/* A crash names its kernel and the kernel's line, and stays a crash. */
Test(llvm, crash_names_its_kernel) {
    static const char text[] = "bpc 1\n\nmodel Net(x) {\n}\n";
    int source = source_add("net.bp", text, strlen(text));
    for (int i = 0; i < 2; i++) {
        Function *function = function_new(i ? "late" : "early", false);
        Kernel *kernel = kernel_new(i ? "second" : "first");
        kernel->span = (Span){source, i ? 7 : 0, i ? 12 : 3};
        build_store(&b, buffer_new("out", SCALAR_F32, 8), value_integer(&b, 0),
                    value_number(&b, (ValueType){SCALAR_F32, 8}, 1 + i));
        add_kernel(function, kernel);
    }
    char said[512];
    crash("early", said);
    cr_expect_str_eq(said, "net.bp:1: error: segmentation fault in kernel first, which is a bug of bpc\n");
    crash("late", said);
    cr_expect_str_eq(said, "net.bp:3: error: segmentation fault in kernel second, which is a bug of bpc\n");
}

Test(llvm, damaged_cache_is_made_anew) {
    Function *function = control_function();
    char path[512], why[128];
    size_t length, again;
    run_control(function);
    cr_assert_eq(cached_files(path), 1);
    char *good = file_read_whole(path, &length, why, sizeof why);
    cr_assert(good);
    for (size_t place = 0; place < length; place += length / 7) {
        char *bad = arena_copy(arena, good, length);
        bad[place] ^= 0x20;
        cr_assert(file_write_whole(path, bad, place % 2 ? place : length, why, sizeof why));
        run_control(function);
        char *mended = file_read_whole(path, &again, why, sizeof why);
        cr_assert(mended && again == length && memcmp(mended, good, length) == 0, "damaged at %zu", place);
        free(mended);
    }
    cr_expect_eq(cached_files(path), 1);
    free(good);
}

Test(llvm, no_cache_leaves_no_files) {
    char path[512];
    control_function();
    LlvmCode *code = compile(&(LlvmOptions){.level = 2, .no_cache = true}, false);
    cr_assert(code);
    llvm->release(code);
    cr_expect_eq(cached_files(path), 0);
}

Test(llvm, unknown_cpu_is_an_error) {
    control_function();
    Text text = {0};
    cr_expect_null(compile(&(LlvmOptions){.cpu = "pentagon"}, false));
    cr_expect_not(llvm->print(module, NULL, LLVM_FORM_OBJECT, &(LlvmOptions){.cpu = "pentagon"}, &text));
    cr_expect_eq(text.length, 0);
    text_free(&text);
}
