/* Unit tests of compiler/emit: kernels are built by hand, printed, compiled with every warning an error, run, and what
   they write is compared with closed forms and with op_evaluate. */
#define _XOPEN_SOURCE 700
#include "../../compiler/emit/emit.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef BPC_SOURCE_DIR
#define BPC_SOURCE_DIR "."
#endif

static char folder[64];
static Arena *arena;
static Module *module;
static Builder b;

static void start(void) {
    names_start();
    arena = arena_new();
    module = arena_new_of(arena, Module);
    module->arena = arena;
    strcpy(folder, "/tmp/bpc-emit-XXXXXX");
    cr_assert(mkdtemp(folder));
}

static void stop(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
    arena_free(arena);
    sources_end();
    names_end();
}

TestSuite(emit, .init = start, .fini = stop);

/* ---- Building by hand -------------------------------------------------------------------------------------------- */

static const ValueType f32 = {SCALAR_F32, 1};

static Buffer *buffer_new(const char *name, Scalar scalar, int64_t elements, uint64_t offset) {
    Buffer *buffer = arena_new_of(arena, Buffer);
    *buffer = (Buffer){.name = name_of(name),
                       .shown = name,
                       .scalar = scalar,
                       .role = BUFFER_TEMPORARY,
                       .rank = 1,
                       .dims = {elements},
                       .elements = elements,
                       .offset = offset,
                       .span = SPAN_NONE};
    return buffer;
}

static Kernel *kernel_new(const char *name, const char *formula) {
    Kernel *kernel = arena_new_of(arena, Kernel);
    kernel->name = name_of(name);
    kernel->formula = formula;
    kernel->span = SPAN_NONE;
    b = (Builder){.arena = arena, .module = module, .kernel = kernel, .block = &kernel->body};
    return kernel;
}

static Function *function_new(const char *name, bool parallel) {
    Function *function = arena_new_of(arena, Function);
    function->name = name_of(name);
    function->about = "made by a test";
    function->span = SPAN_NONE;
    function->parallel = parallel;
    function->capacity = 64;
    function->steps = arena_array(arena, Step, 64);
    *LIST_ADD(arena, &module->functions) = function;
    return function;
}

static void add_step(Function *function, StepKind kind, Kernel *kernel, Buffer *buffer) {
    function->steps[function->step_count++] = (Step){.kind = kind, .kernel = kernel, .buffer = buffer};
}

static Value *constant(double number) {
    return value_number(&b, f32, number);
}

static Value *op(Op which, Value *x, Value *y, Value *z) {
    return value_op(&b, which, x, y, z);
}

/* ---- Compiling and running --------------------------------------------------------------------------------------- */

static void write_file(const char *name, const char *text) {
    char path[128], why[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert(file_write_whole(path, text, strlen(text), why, sizeof why), "%s", why);
}

static bool has_command(const char *compiler) {
    char command[128];
    snprintf(command, sizeof command, "%s --version >/dev/null 2>&1", compiler);
    return system(command) == 0;
}

/* "" where there was no complaint. */
static const char *build_complaint(const char *flags, const char *file) {
    char *command = arena_printf(arena, "cd %s && %s %s -o program -lm >log 2>&1", folder, flags, file), why[256];
    int status = system(command);
    size_t length;
    char *log = file_read_whole(arena_printf(arena, "%s/log", folder), &length, why, sizeof why);
    cr_assert(log, "%s", why);
    const char *complaint = arena_printf(arena, "%.4000s%s", log, status && !length ? "failed without a word" : "");
    free(log);
    return complaint;
}

static const char *run_output(void) {
    char why[256];
    cr_assert_eq(system(arena_printf(arena, "cd %s && ./program >out", folder)), 0);
    size_t length;
    char *bytes = file_read_whole(arena_printf(arena, "%s/out", folder), &length, why, sizeof why);
    const char *copy = arena_copy(arena, bytes, length);
    free(bytes);
    return copy;
}

/* A main for the functions of a module: memory is filled by `fill`, shown in hexadecimal. */
static const char main_text[] =
    "#include <stdio.h>\n"
    "#include <stdlib.h>\n"
    "#include <string.h>\n"
    "void bp_barrier(struct bp_team *team, int32_t thread) { (void)team; (void)thread; }\n"
    "static char *block;\n"
    "static void show(const char *name, size_t offset, size_t bytes) {\n"
    "    printf(\"%s\", name);\n"
    "    for (size_t i = 0; i < bytes; i++)\n"
    "        printf(\" %02x\", (unsigned)(unsigned char)block[offset + i]);\n"
    "    printf(\"\\n\");\n"
    "}\n"
    "int main(void) {\n"
    "    block = aligned_alloc(64, BYTES);\n"
    "    memset(block, 0, BYTES);\n"
    "    struct bp_context context = {.memory = block, .rows = ROWS, .seed = 7, .step = 3};\n"
    "    (void)show;\n"
    "    BODY\n"
    "    free(block);\n"
    "    return 0;\n"
    "}\n";

static void write_module(const char *body, int bytes, int rows) {
    Text text = {0};
    print_c(module, NULL, C_LINKED, &text);
    text_printf(&text, "#define BYTES %d\n#define ROWS %d\n#define BODY %s\n%s", bytes, rows, body, main_text);
    write_file("program.c", text.at);
    text_free(&text);
}

static const char *const builds[] = {
    "gcc -O0 -Wall -Wextra -Werror",
    "gcc -O3 -march=native -fopenmp -Wall -Wextra -Wconversion -Werror",
    "gcc -O3 -mavx2 -mfma -Wall -Wextra -Werror",
    "gcc -O2 -std=c11 -Wall -Wextra -Werror",
    "gcc -O1 -fsanitize=undefined -fno-sanitize-recover=all -Wall -Wextra -Werror",
    "clang -O3 -march=native -Wall -Wextra -Wconversion -Werror",
    "clang -O1 -Wall -Wextra -Werror",
    "clang-19 -O3 -march=native -Wall -Wextra -Wconversion -Werror",
    "clang-19 -O2 -mavx2 -mfma -Wall -Wextra -Werror",
};

/* What the module writes, the same from every compiler that is here. */
static const char *run_everywhere(const char *body, int bytes, int rows) {
    write_module(body, bytes, rows);
    const char *first = NULL;
    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++) {
        char compiler[16];
        snprintf(compiler, sizeof compiler, "%.*s", (int)strcspn(builds[i], " "), builds[i]);
        if (!has_command(compiler))
            continue;
        const char *complaint = build_complaint(builds[i], "program.c");
        cr_assert_str_empty(complaint, "%s: %s", builds[i], complaint);
        const char *output = run_output();
        cr_assert(!first || strcmp(first, output) == 0, "%s gives other bits:\n%s\nthan\n%s", builds[i], output, first);
        first = output;
    }
    cr_assert(first, "no compiler is here");
    return first;
}

/* The bytes after a name in what `show` printed. */
static void read_shown(const char *output, const char *name, void *into, size_t bytes) {
    const char *line = strstr(output, name);
    cr_assert(line, "%s is missing in %s", name, output);
    line += strlen(name);
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)into)[i] = (unsigned char)strtoul(line, (char **)(uintptr_t)&line, 16);
}

static bool same_float(float x, float y) {
    return (isnan(x) && isnan(y)) || memcmp(&x, &y, sizeof x) == 0;
}

static bool same_double(double x, double y) {
    return (isnan(x) && isnan(y)) || memcmp(&x, &y, sizeof x) == 0;
}

/* ---- Every op in every number of lanes --------------------------------------------------------------------------- */

enum { CASES = 16 };
static const double first_cases[CASES] = {0.0, -0.0, 1.0, -1.0, NAN,  INFINITY, -INFINITY, 1e-40,
                                          0.5, -0.5, 2.5, -3.5, 1e30, 7,        3,         -2};
static const double second_cases[CASES] = {-0.0, 0.0, NAN, -1.0, 1.0,   2,   INFINITY, 3,
                                           -0.5, 0.5, 1.5, 7,    -1e30, NAN, 0,        4};
static const double third_cases[CASES] = {1, -0.0, 0.25, NAN, 2, -1, 0, 1e-40, 3, -3, 0.125, 9, 1e30, 1, -9, 0.1};

static const Op plain_ops[] = {OP_NEGATE,  OP_ADD,      OP_SUBTRACT, OP_MULTIPLY, OP_DIVIDE, OP_FMA,  OP_MAXIMUM,
                               OP_MINIMUM, OP_ABSOLUTE, OP_SIGN,     OP_SQRT,     OP_FLOOR,  OP_ROUND};
static const Op compare_ops[] = {OP_LESS, OP_LESS_EQUAL, OP_EQUAL, OP_NOT_EQUAL};
enum { PLAIN_OPS = sizeof plain_ops / sizeof *plain_ops, COMPARE_OPS = sizeof compare_ops / sizeof *compare_ops };

static double case_input(const double *cases, int i, bool single) {
    return single ? (double)(float)cases[i] : cases[i];
}

static double expected_value(Op which, double x, double y, double z, bool single) {
    if (which == OP_FMA && single)
        return (double)fmaf((float)x, (float)y, (float)z);
    double value = op_evaluate(which, x, y, z); /* + - * / sqrt of floats in double, rounded once more, are right */
    return single ? (double)(float)value : value;
}

/* One kernel with all ops on the three columns of cases; results behind one another, then comparisons as where(c, x,
 * y). */
static void ops_kernel(Scalar scalar, int lanes, Buffer *columns[3], Buffer *results) {
    Value *at;
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, CASES), lanes, false, &at);
    Value *x = build_let(&b, "x", value_load(&b, columns[0], at, lanes));
    Value *y = build_let(&b, "y", value_load(&b, columns[1], at, lanes));
    Value *z = build_let(&b, "z", value_load(&b, columns[2], at, lanes));
    for (int i = 0; i < PLAIN_OPS; i++) {
        int arity = op_table[plain_ops[i]].arity;
        Value *value = op(plain_ops[i], x, arity > 1 ? y : NULL, arity > 2 ? z : NULL);
        build_store(&b, results, op(OP_INTEGER_ADD, at, value_integer(&b, i * CASES), NULL), value);
    }
    for (int i = 0; i < COMPARE_OPS; i++) {
        Value *truth = op(compare_ops[i], x, y, NULL);
        Value *more = op(OP_OR, op(OP_AND, truth, op(OP_LESS, y, z, NULL), NULL),
                         op(OP_NOT, op(OP_LESS, x, z, NULL), NULL, NULL), NULL);
        Value *where = op(OP_WHERE, more, x, y);
        build_store(&b, results, op(OP_INTEGER_ADD, at, value_integer(&b, (PLAIN_OPS + i) * CASES), NULL), where);
    }
    Value *known = value_number(&b, (ValueType){scalar, lanes}, 0);
    Value *firsts = op(OP_MAXIMUM, known, op(OP_MINIMUM, known, x, NULL), NULL);
    Value *seconds = op(OP_MAXIMUM, op(OP_MINIMUM, x, known, NULL), known, NULL);
    build_store(&b, results, op(OP_INTEGER_ADD, at, value_integer(&b, (PLAIN_OPS + COMPARE_OPS) * CASES), NULL),
                firsts);
    build_store(&b, results, op(OP_INTEGER_ADD, at, value_integer(&b, (PLAIN_OPS + COMPARE_OPS + 1) * CASES), NULL),
                seconds);
    build_end(&b, outer);
}

static double expected_where(Op which, double x, double y, double z) {
    bool truth = op_evaluate(which, x, y, 0) != 0;
    return (truth && y < z) || !(x < z) ? x : y;
}

static double expected_row(int row, int i, bool single) {
    double x = case_input(first_cases, i, single), y = case_input(second_cases, i, single);
    double z = case_input(third_cases, i, single);
    if (row < PLAIN_OPS)
        return expected_value(plain_ops[row], x, y, z, single);
    if (row < PLAIN_OPS + COMPARE_OPS)
        return expected_where(compare_ops[row - PLAIN_OPS], x, y, z);
    if (row == PLAIN_OPS + COMPARE_OPS)
        return op_evaluate(OP_MAXIMUM, 0, op_evaluate(OP_MINIMUM, 0, x, 0), 0);
    return op_evaluate(OP_MAXIMUM, op_evaluate(OP_MINIMUM, x, 0, 0), 0, 0);
}

static const char *fill_text(Scalar scalar) {
    const double *const columns[] = {first_cases, second_cases, third_cases};
    Text text = {0};
    bool single = scalar == SCALAR_F32;
    text_printf(&text, "static const %s input[] = {", single ? "float" : "double");
    for (int column = 0; column < 3; column++)
        for (int i = 0; i < CASES; i++) {
            print_real(&text, case_input(columns[column], i, single), single);
            text_add(&text, ", ");
        }
    text_add(&text, "}; memcpy(block, input, sizeof input);");
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

static void check_ops(Scalar scalar) {
    enum { ROWS = PLAIN_OPS + COMPARE_OPS + 2 };
    static const int lane_counts[] = {1, 4, 8, 16};
    bool single = scalar == SCALAR_F32;
    size_t size = single ? 4 : 8;
    uint64_t column_bytes = CASES * size, result_bytes = ROWS * CASES * size;
    Buffer *columns[3] = {buffer_new("first", scalar, CASES, 0), buffer_new("second", scalar, CASES, column_bytes),
                          buffer_new("third", scalar, CASES, 2 * column_bytes)};
    Function *function = function_new("all_ops", false);
    Text body = {0};
    text_printf(&body, "%s all_ops(&context, 0, 1);", fill_text(scalar));
    for (int i = 0; i < 4; i++) {
        uint64_t offset = 3 * column_bytes + (uint64_t)i * result_bytes;
        Buffer *results = buffer_new(arena_printf(arena, "results%d", i), scalar, ROWS * CASES, offset);
        Kernel *kernel = kernel_new(arena_printf(arena, "ops_x%d", lane_counts[i]), "every op");
        ops_kernel(scalar, lane_counts[i], columns, results);
        add_step(function, STEP_KERNEL, kernel, NULL);
        text_printf(&body, " show(\"x%d:\", %d, %d);", lane_counts[i], (int)offset, (int)result_bytes);
    }
    const char *output = run_everywhere(body.at, (int)(3 * column_bytes + 4 * result_bytes), 1);
    text_free(&body);
    unsigned char bytes[ROWS * CASES * 8];
    for (int i = 0; i < 4; i++) {
        read_shown(output, arena_printf(arena, "x%d:", lane_counts[i]), bytes, result_bytes);
        for (int row = 0; row < ROWS; row++)
            for (int c = 0; c < CASES; c++) {
                double expected = expected_row(row, c, single), got;
                float narrow;
                memcpy(&narrow, bytes + (row * CASES + c) * 4, sizeof narrow);
                memcpy(&got, bytes + (single ? 0 : (row * CASES + c) * 8), sizeof got);
                got = single ? (double)narrow : got;
                bool same = single ? same_float((float)got, (float)expected) : same_double(got, expected);
                cr_expect(same, "row %d case %d x%d: %a, not %a", row, c, lane_counts[i], got, expected);
            }
    }
}

Test(emit, ops_f32) {
    check_ops(SCALAR_F32);
}

Test(emit, ops_f64) {
    check_ops(SCALAR_F64);
}

/* ---- Integers wrap, in any lanes --------------------------------------------------------------------------------- */

static void integer_kernel(Buffer *in, Buffer *out, int lanes) {
    Value *at;
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, 16), lanes, false, &at);
    Value *x = build_let(&b, "x", value_load(&b, in, at, lanes));
    Value *u = build_let(&b, "u", value_bitcast(&b, x, SCALAR_U32));
    Value *three = value_number(&b, (ValueType){SCALAR_I32, lanes}, 3);
    Value *seven = value_number(&b, (ValueType){SCALAR_U32, lanes}, 0xD2511F53);
    Value *results[] = {
        op(OP_INTEGER_MULTIPLY, op(OP_INTEGER_ADD, x, x, NULL), x, NULL),
        op(OP_INTEGER_SUBTRACT, op(OP_SHIFT_LEFT, x, three, NULL), op(OP_SHIFT_RIGHT, x, three, NULL), NULL),
        value_bitcast(&b, op(OP_MULTIPLY_HIGH, u, seven, NULL), SCALAR_I32),
        value_bitcast(&b,
                      op(OP_BITS_XOR, op(OP_SHIFT_RIGHT, u, value_bitcast(&b, three, SCALAR_U32), NULL),
                         op(OP_BITS_OR, u, seven, NULL), NULL),
                      SCALAR_I32),
        op(OP_WHERE, op(OP_INTEGER_LESS, x, three, NULL), x, three),
        op(OP_WHERE, op(OP_INTEGER_EQUAL, u, seven, NULL), three,
           value_convert(
               &b,
               value_convert(&b, op(OP_BITS_AND, x, value_number(&b, (ValueType){SCALAR_I32, lanes}, 0xFFFFF), NULL),
                             SCALAR_F64),
               SCALAR_I32)),
        value_bitcast(
            &b,
            op(OP_ADD, value_convert(&b, u, SCALAR_F32), value_convert(&b, value_lanes(&b, lanes), SCALAR_F32), NULL),
            SCALAR_I32),
        value_convert(&b,
                      op(OP_INTEGER_MULTIPLY, value_convert(&b, x, SCALAR_I64), value_convert(&b, x, SCALAR_I64), NULL),
                      SCALAR_I32),
    };
    for (int i = 0; i < 8; i++)
        if (lanes > 1 || i != 6)
            build_store(&b, out, op(OP_INTEGER_ADD, at, value_integer(&b, i * 16), NULL), results[i]);
    build_end(&b, outer);
}

static uint32_t expected_integer(int row, int32_t x, int lane) {
    uint32_t u = (uint32_t)x, k = 0xD2511F53;
    float sum = (float)u + (float)lane;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    switch (row) {
    case 0:
        return (u + u) * u;
    case 1:
        return (u << 3) - (uint32_t)(x >> 3);
    case 2:
        return (uint32_t)((uint64_t)u * k >> 32);
    case 3:
        return (u >> 3) ^ (u | k);
    case 4:
        return x < 3 ? u : 3;
    case 5:
        return u == k ? 3 : u & 0xFFFFF;
    case 6:
        return bits;
    default:
        return u * u;
    }
}

Test(emit, integers_wrap) {
    static const int32_t input[16] = {0,         1,          -1,         2, INT32_MAX, INT32_MIN,
                                      123456789, -987654321, 3,          4, -3,        (int32_t)0xD2511F53,
                                      65536,     -65536,     0x7FFFFF80, 99};
    Buffer *in = buffer_new("in", SCALAR_I32, 16, 0);
    Function *function = function_new("integers_all", false);
    Text body = {0};
    text_add(&body, "static const int32_t input[] = {");
    for (int i = 0; i < 16; i++)
        text_printf(&body, "(int32_t)%uu, ", (unsigned)input[i]);
    text_add(&body, "}; memcpy(block, input, sizeof input); integers_all(&context, 0, 1);");
    static const int lane_counts[] = {1, 4, 8, 16};
    for (int i = 0; i < 4; i++) {
        Kernel *kernel = kernel_new(arena_printf(arena, "integers_x%d", lane_counts[i]), "integers");
        Buffer *out = buffer_new(arena_printf(arena, "out%d", i), SCALAR_I32, 128, 64 + 512 * (uint64_t)i);
        integer_kernel(in, out, lane_counts[i]);
        add_step(function, STEP_KERNEL, kernel, NULL);
        text_printf(&body, " show(\"x%d:\", %d, 512);", lane_counts[i], 64 + 512 * i);
    }
    const char *output = run_everywhere(body.at, 64 + 512 * 4, 1);
    text_free(&body);
    for (int i = 0; i < 4; i++) {
        uint32_t got[128];
        read_shown(output, arena_printf(arena, "x%d:", lane_counts[i]), got, sizeof got);
        for (int n = 0; n < 128; n++)
            if (lane_counts[i] > 1 || n / 16 != 6)
                cr_expect_eq(got[n], expected_integer(n / 16, input[n % 16], n % 16 % lane_counts[i]),
                             "row %d, %d, x%d", n / 16, input[n % 16], lane_counts[i]);
    }
}

/* ---- Sums, registers, guards, threads ---------------------------------------------------------------------------- */

Test(emit, tree_sum_has_one_order) {
    enum { COUNT = 64 };
    Buffer *in = buffer_new("in", SCALAR_F32, COUNT, 0), *out = buffer_new("out", SCALAR_F32, 2, COUNT * 4);
    Kernel *kernel = kernel_new("sum_all", "out = sum(in)");
    Statement *sum = build_var(&b, "sum", value_number(&b, (ValueType){SCALAR_F32, 16}, 0));
    Value *at;
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, COUNT), 16, false, &at);
    build_set(&b, sum, op(OP_ADD, value_read(&b, sum), value_load(&b, in, at, 16), NULL));
    build_end(&b, outer);
    build_store(&b, out, value_integer(&b, 0), value_tree(&b, OP_ADD, value_read(&b, sum)));
    build_store(&b, out, value_integer(&b, 1), value_extract(&b, value_read(&b, sum), 13));
    Function *function = function_new("sum_step", false);
    add_step(function, STEP_KERNEL, kernel, NULL);
    const char *output = run_everywhere("float x[64]; for (int i = 0; i < 64; i++) x[i] = 1.0f / (float)(i * i + 1);"
                                        " memcpy(block, x, sizeof x); sum_step(&context, 0, 1); show(\"sum\", 256, 8);",
                                        320, 1);
    float lanes[16] = {0}, got[2];
    for (int i = 0; i < COUNT; i++)
        lanes[i % 16] += 1.0f / (float)(i * i + 1);
    float thirteenth = lanes[13];
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] = lanes[i] + lanes[i + half];
    read_shown(output, "sum", got, sizeof got);
    cr_expect(same_float(got[0], lanes[0]), "%a, not %a", (double)got[0], (double)lanes[0]);
    cr_expect(same_float(got[1], thirteenth));
}

/* Every round of a parallel loop is done by one thread, whatever their number. */
Test(emit, parallel_rounds_are_shared) {
    Buffer *count = buffer_new("count", SCALAR_F32, 128, 0);
    count->per_row = true, count->rank = 0;
    Kernel *kernel = kernel_new("count_rows", "count = count + 1");
    Value *row;
    Block *outer = build_loop(&b, "row", value_integer(&b, 3), value_context(&b, CONTEXT_ROWS), 8, true, &row);
    build_store(&b, count, row, op(OP_ADD, value_load(&b, count, row, 1), constant(1), NULL));
    build_end(&b, outer);
    Function *function = function_new("count_step", true);
    add_step(function, STEP_KERNEL, kernel, NULL);
    add_step(function, STEP_BARRIER, NULL, NULL);
    const char *output =
        run_everywhere("for (int n = 1; n <= 9; n++) for (int t = 0; t < n; t++) count_step(&context, t, n);"
                       " show(\"count\", 0, 512);",
                       512, 101);
    float got[128];
    read_shown(output, "count", got, sizeof got);
    for (int i = 0; i < 128; i++)
        cr_expect_eq(got[i], i >= 3 && i < 101 && (i - 3) % 8 == 0 ? 9.0f : 0.0f, "row %d: %g", i, (double)got[i]);
}

Test(emit, guard_stops_what_is_not_finite) {
    Buffer *loss = buffer_new("loss", SCALAR_F32, 2, 0), *after = buffer_new("after", SCALAR_F32, 1, 64);
    Kernel *kernel = kernel_new("update", "after = after + 1");
    build_store(&b, after, value_integer(&b, 0),
                op(OP_ADD, value_load(&b, after, value_integer(&b, 0), 1), constant(1), NULL));
    Function *function = function_new("guarded_step", true);
    add_step(function, STEP_GUARD, NULL, loss);
    function->steps[0].element = 1;
    add_step(function, STEP_KERNEL, kernel, NULL);
    const char *output = run_everywhere(
        "float losses[] = {0.0f, -1.0f, 3e38f, __builtin_inff(), -__builtin_inff(), __builtin_nanf(\"\")};"
        " for (int i = 0; i < 6; i++) { memcpy(block + 4, &losses[i], 4); guarded_step(&context, 0, 2);"
        " guarded_step(&context, 1, 2); } show(\"after\", 64, 4);",
        128, 1);
    float got;
    read_shown(output, "after", &got, sizeof got);
    cr_expect_eq(got, 3.0f); /* of six, three are finite; the kernel is serial: thread 0 alone ran it */
}

/* What math.c makes is within some ulp of libm for every number of lanes: the printing is tested, not the polynomials.
 */
Test(emit, math_functions_print) {
    static const Op ops[] = {OP_EXP, OP_LOG, OP_TANH};
    Buffer *in = buffer_new("in", SCALAR_F32, 16, 0);
    Function *function = function_new("math_step", false);
    Text body = {0};
    text_add(&body,
             "float x[16]; for (int i = 0; i < 16; i++) x[i] = 0.3f * (float)(i + 1); memcpy(block, x, sizeof x);"
             " math_step(&context, 0, 1);");
    for (int i = 0; i < 3; i++)
        for (int lanes = 1, n = 0; lanes <= 16; lanes *= lanes == 1 ? 4 : 2, n++) {
            Buffer *out =
                buffer_new(arena_printf(arena, "out_%d_%d", i, n), SCALAR_F32, 16, 64 + 64 * (uint64_t)(4 * i + n));
            Kernel *kernel = kernel_new(arena_printf(arena, "math_%d_x%d", i, lanes), op_table[ops[i]].name);
            Value *at;
            Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, 16), lanes, false, &at);
            build_store(&b, out, at, op(ops[i], value_load(&b, in, at, lanes), NULL, NULL));
            build_end(&b, outer);
            add_step(function, STEP_KERNEL, kernel, NULL);
            text_printf(&body, " show(\"m%d_%d:\", %d, 64);", i, n, 64 + 64 * (4 * i + n));
        }
    const char *output = run_everywhere(body.at, 1024, 1);
    text_free(&body);
    for (int i = 0; i < 3; i++) {
        float first[16], got[16];
        read_shown(output, arena_printf(arena, "m%d_0:", i), first, sizeof first);
        for (int k = 0; k < 16; k++) {
            double expected = op_evaluate(ops[i], (double)(0.3f * (float)(k + 1)), 0, 0);
            cr_expect(fabs((double)first[k] - expected) <= 4 * (double)FLT_EPSILON * fmax(fabs(expected), 0.1),
                      "%s: %g, not %g", op_table[ops[i]].name, (double)first[k], expected);
        }
        for (int n = 1; n < 4; n++) {
            read_shown(output, arena_printf(arena, "m%d_%d:", i, n), got, sizeof got);
            cr_expect_arr_eq(got, first, sizeof got);
        }
    }
}

/* ---- Strangers' names -------------------------------------------------------------------------------------------- */

static const char *const hostile[] = {
    "*/ int broken = 1; /*",
    "what?\?/",
    "?\?!?\?<?\?>",
    "ends with a backslash \\",
    "%n%s%d",
    "\"quoted\" 'and' \"",
    "two\nlines\r\n#error no",
    "bidi \xE2\x80\xAE here \xE2\x81\xA6 and \xC3\xA9",
    "\xFF\xFE not utf-8 \xC3",
    "tab\tand\001control\177",
    "\\u202e \\\n",
    "/* nested // comment",
};
enum { HOSTILE = sizeof hostile / sizeof *hostile };

static const char hostile_main[] = "#include <stdio.h>\n"
                                   "static void show(const char *text) {\n"
                                   "    for (const char *at = text; *at; at++)\n"
                                   "        printf(\"%02x\", (unsigned)(unsigned char)*at);\n"
                                   "    printf(\"\\n\");\n"
                                   "}\n"
                                   "int bp_main(const struct bp_program *p, int argc, char **argv) {\n"
                                   "    (void)argc, (void)argv;\n"
                                   "    show(p->name);\n"
                                   "    for (int i = 0; i < p->data[0].column_count; i++) {\n"
                                   "        show(p->data[0].columns[i].name);\n"
                                   "        show(p->data[0].columns[i].categories[0]);\n"
                                   "        show(p->data[0].files[i].path);\n"
                                   "    }\n"
                                   "    return 0;\n"
                                   "}\n";

static void hostile_kernels(Function *function) {
    for (int i = 0; i < HOSTILE; i++) {
        Buffer *buffer = buffer_new(hostile[i], SCALAR_F32, 1, 64 * (uint64_t)i);
        Kernel *kernel = kernel_new(arena_printf(arena, "kernel_%d", i), hostile[i]);
        kernel->span = (Span){source_add(hostile[i], "x\n", 2), 0, 1};
        build_comment(&b, hostile[i]);
        build_store(&b, buffer, value_integer(&b, 0), constant(1));
        add_step(function, STEP_KERNEL, kernel, NULL);
        add_step(function, STEP_GUARD, NULL, buffer);
    }
    function->about = hostile[0];
}

Test(emit, hostile_strings_stay_inside) {
    Function *function = function_new("predict_all", false);
    hostile_kernels(function);
    struct bp_column columns[HOSTILE];
    struct bp_file files[HOSTILE];
    for (int i = 0; i < HOSTILE; i++) {
        columns[i] =
            (struct bp_column){.name = hostile[i], .kind = BP_CATEGORY, .categories = &hostile[i], .category_count = 1};
        files[i] = (struct bp_file){.name = hostile[i], .path = hostile[i], .part = BP_TRAIN, .delimiter = '\''};
    }
    struct bp_data data = {
        .name = "d", .files = files, .file_count = HOSTILE, .columns = columns, .column_count = HOSTILE};
    struct bp_model model = {.name = "m", .predict = {.name = "predict_all", .capacity = 1}};
    for (int i = 0; i < HOSTILE; i++) {
        struct bp_program program = {.name = hostile[i],
                                     .source = hostile[i],
                                     .version = "0",
                                     .data = &data,
                                     .data_count = 1,
                                     .models = &model,
                                     .model_count = 1};
        Text text = {0};
        print_c(module, &program, C_LINKED, &text);
        text_add(&text, hostile_main);
        size_t runtime = (size_t)(strstr(text.at, "#if") - text.at),
               ours = (size_t)(strstr(text.at, "Lanes") - text.at);
        for (size_t k = 0; k < text.length; k += k == runtime ? ours - runtime : 1) /* all but the runtime's own text */
            cr_assert((unsigned char)text.at[k] < 0x7F && ((unsigned char)text.at[k] >= 0x20 || text.at[k] == '\n'));
        write_file("program.c", text.at);
        text_free(&text);
        bool trigraphs = i % 2 == 0;
        const char *complaint = build_complaint(
            trigraphs ? "gcc -std=c11 -Wall -Wextra -Werror" : "gcc -Wall -Wextra -Werror", "program.c");
        cr_assert_str_empty(complaint, "%s: %s", hostile[i], complaint);
        Text expected = {0};
        for (int k = -1; k < 3 * HOSTILE; k++) {
            for (const char *at = hostile[k < 0 ? i : k / 3]; *at; at++)
                text_printf(&expected, "%02x", (unsigned)(unsigned char)*at);
            text_add(&expected, "\n");
        }
        cr_expect_str_eq(run_output(), expected.at);
        text_free(&expected);
    }
}

/* Each kernel halves what is there and adds its number: whatever unit it is compiled in, it runs once and in turn. */
Test(emit, units_are_one_program, .timeout = 100) {
    enum { KERNELS = 60, FUNCTIONS = 2, UNITS = 3 };
    Buffer *x = buffer_new("x", SCALAR_F32, 1, 0);
    float expected = 0;
    for (int i = 0; i < KERNELS * FUNCTIONS; i++) {
        static Function *function;
        if (i % KERNELS == 0)
            function = function_new(i ? "second_half" : "first_half", true);
        Kernel *kernel = kernel_new(arena_printf(arena, "kernel_%d", i), NULL);
        Value *half = op(OP_MULTIPLY, value_load(&b, x, value_integer(&b, 0), 1), constant(0.5), NULL);
        build_store(&b, x, value_integer(&b, 0), op(OP_ADD, half, constant(i), NULL));
        add_step(function, STEP_KERNEL, kernel, NULL);
        expected = expected * 0.5f + (float)i;
    }
    Text text = {0};
    cr_assert_eq(print_c_units(module, NULL, UNITS, &text), UNITS);
    text_add(&text, "#if BP_UNIT == 0\n"
                    "#include <stdio.h>\n"
                    "int main(void) {\n"
                    "    char memory[64] = {0};\n"
                    "    struct bp_context context = {.memory = memory, .rows = 1};\n"
                    "    first_half(&context, 0, 1);\n"
                    "    second_half(&context, 0, 1);\n"
                    "    printf(\"%a\", (double)*(float *)memory);\n"
                    "    return 0;\n"
                    "}\n"
                    "#endif\n");
    write_file("program.c", text.at);
    text_free(&text);
    for (int unit = 0; unit < UNITS; unit++) {
        const char *complaint =
            build_complaint(arena_printf(arena, "gcc -Wall -Wextra -Werror -c -DBP_UNIT=%d", unit), "program.c");
        cr_assert_str_empty(complaint, "%d: %s", unit, complaint);
        cr_assert_eq(system(arena_printf(arena, "cd %s && mv program unit%d.o", folder, unit)), 0);
        const char *defines = arena_printf(arena, "cd %s && nm unit%d.o | grep -qi ' t kernel_'", folder, unit);
        cr_expect_eq(system(defines), 0, "unit %d has no kernel", unit);
    }
    cr_assert_str_empty(build_complaint("gcc", "unit0.o unit1.o unit2.o"));
    cr_expect_str_eq(run_output(), arena_printf(arena, "%a", (double)expected));
}

/* Names that C or the runtime has: as buffers, values, kernels, functions. */
static const char *const taken[] = {"int",       "context", "NULL",     "errno",   "unix", "EOF",
                                    "sin",       "main",    "memcpy",   "thread",  "rows", "f32x8",
                                    "float",     "bp_max",  "restrict", "stdin",   "I",    "strtok_r",
                                    "exp_f32x8", "x",       "csv_row",  "tensors", "W",    "printf"};

Test(emit, names_of_c_are_kept_off) {
    enum { TAKEN = sizeof taken / sizeof *taken };
    for (int i = 0; i < TAKEN; i++) {
        Buffer *buffer = buffer_new(taken[i], SCALAR_F32, 8, 64 * (uint64_t)i);
        Kernel *kernel = kernel_new(taken[i], taken[i]);
        Value *at;
        Block *outer =
            build_loop(&b, taken[(i + 1) % TAKEN], value_integer(&b, 0), value_integer(&b, 8), 8, false, &at);
        Value *value = build_let(&b, taken[(i + 2) % TAKEN], value_load(&b, buffer, at, 8));
        Value *more = op(OP_EXP, op(OP_MAXIMUM, value, value_splat(&b, constant(i), 8), NULL), NULL, NULL);
        build_store(&b, buffer, at, build_let(&b, taken[(i + 3) % TAKEN], more));
        build_end(&b, outer);
        Function *function = function_new(arena_printf(arena, "%s_step", taken[i]), false);
        add_step(function, STEP_KERNEL, kernel, NULL);
    }
    function_new("pthread_create", false);
    function_new("read", false);
    Text text = {0};
    print_c(module, NULL, C_STANDALONE, &text);
    write_file("program.c", text.at);
    text_free(&text);
    const char *complaint = build_complaint("gcc -c -O1 -mavx2 -Wall -Wextra -Werror", "program.c");
    cr_expect_str_empty(complaint, "%s", complaint);
}

/* ---- The program as data ----------------------------------------------------------------------------------------- */

static const char numbers_main[] =
    "#include <stdio.h>\n"
    "int bp_main(const struct bp_program *p, int argc, char **argv) {\n"
    "    (void)argc, (void)argv;\n"
    "    for (int i = 0; i < p->param_count; i++)\n"
    "        printf(\"%a \", p->params[i].value);\n"
    "    const struct bp_train *t = p->trains;\n"
    "    printf(\"%d %d %lld %llx %llx\", t->early_stopping.metric, t->early_stopping.better, (long long)t->epochs,\n"
    "           (unsigned long long)p->tensors[0].offset, (unsigned long long)t->checks->gradient_offsets[1]);\n"
    "    printf(\" %d %d %s\", (int)p->tensors[0].shape[1], t->checks->loss.code != 0, t->start.code ? \"start\" : "
    "\"none\");\n"
    "    const struct bp_feed *f = t->checks->loss.feeds;\n"
    "    printf(\" %d %d %lld\", p->tensors[0].layout == BP_PANELS, f->layout == BP_PANELS, (long long)f->stride);\n"
    "    return 0;\n"
    "}\n";

Test(emit, numbers_survive) {
    Function *function = function_new("check_loss", false);
    (void)function;
    static const struct bp_param params[] = {{"a", NAN},   {"b", INFINITY}, {"c", -INFINITY}, {"d", 0.1},
                                             {"e", 1e300}, {"f", 5e-324},   {"g", 3}};
    static const uint64_t offsets[] = {64, UINT64_MAX};
    static const int32_t checked[] = {0, 1};
    static const struct bp_tensor tensor = {
        .name = "w", .rank = 2, .shape = {3, 4}, .offset = UINT64_MAX - 1, .layout = BP_PANELS};
    static const struct bp_feed feed = {.slot = 0, .type = BP_F32, .layout = BP_PANELS, .stride = 5000000000};
    const struct bp_check check = {.loss = {.name = "check_loss", .capacity = 1, .feeds = &feed, .feed_count = 1},
                                   .tensors = checked,
                                   .parameter_offsets = offsets,
                                   .gradient_offsets = offsets,
                                   .tensor_count = 2};
    struct bp_train train = {.name = "t", .epochs = INT64_MIN, .early_stopping = {.metric = -1, .better = -1}};
    train.checks = &check;
    train.check_count = 1;
    struct bp_program program = {.name = "n",
                                 .source = "n.bp",
                                 .version = "0",
                                 .params = params,
                                 .param_count = 7,
                                 .tensors = &tensor,
                                 .tensor_count = 1,
                                 .trains = &train,
                                 .train_count = 1};
    Text text = {0};
    print_c(module, &program, C_LINKED, &text);
    text_add(&text, numbers_main);
    write_file("program.c", text.at);
    text_free(&text);
    const char *complaint = build_complaint("gcc -Wall -Wextra -Wconversion -Werror", "program.c");
    cr_assert_str_empty(complaint, "%s", complaint);
    Text expected = {0};
    for (int i = 0; i < 7; i++)
        text_printf(&expected, "%a ", params[i].value);
    text_printf(&expected, "-1 -1 %lld fffffffffffffffe ffffffffffffffff 4 1 none 1 1 5000000000",
                (long long)INT64_MIN);
    cr_expect_str_eq(run_output(), expected.at);
    text_free(&expected);
}

/* ---- Text inside bpc, one file, executables ---------------------------------------------------------------------- */

Test(emit, embedded_texts_are_the_files) {
    int count = 0;
    for (const struct embedded_file *file = embedded_runtime; file->name; file++, count++) {
        char why[256];
        size_t length;
        char *bytes =
            file_read_whole(arena_printf(arena, "%s/runtime/%s", BPC_SOURCE_DIR, file->name), &length, why, sizeof why);
        cr_assert(bytes, "%s", why);
        cr_expect(length == file->length && strlen(file->text) == length && memcmp(bytes, file->text, length) == 0,
                  "%s", file->name);
        free(bytes);
    }
    cr_expect_gt(count, 2);
}

static const struct bp_program empty_program = {
    .abi = BP_ABI, .name = "empty", .source = "empty.bp", .version = "0", .memory_bytes = 64};

Test(emit, standalone_builds_without_a_warning, .timeout = 200) {
    Text text = {0};
    print_c(module, &empty_program, C_STANDALONE, &text);
    write_file("program.c", text.at);
    text_free(&text);
    static const char *const commands[] = {"gcc -O1 -fopenmp -Wall -Wextra -Werror",
                                           "gcc -O0 -Wall -Wextra -Werror -Wno-unknown-pragmas",
                                           "clang -O1 -Wall -Wextra -Werror", "gcc -O0 -std=c11 -Wall -Wextra -Werror"};
    for (int i = 0; i < 4; i++) {
        if (i == 2 && !has_command("clang"))
            continue;
        const char *complaint = build_complaint(commands[i], "program.c");
        cr_expect_str_empty(complaint, "%s: %s", commands[i], complaint);
    }
    cr_expect_eq(system(arena_printf(arena, "%s/program --help >/dev/null", folder)), 0);
    const char *refused = build_complaint("gcc -O1 -ffast-math", "program.c");
    cr_expect(strstr(refused, "fast-math changes the results"));
}

static int files_in(const char *path) {
    char why[256];
    size_t length;
    cr_assert_eq(system(arena_printf(arena, "ls -A %s | wc -l >%s.count", path, folder)), 0);
    char *bytes = file_read_whole(arena_printf(arena, "%s.count", folder), &length, why, sizeof why);
    int count = atoi(bytes);
    free(bytes);
    unlink(arena_printf(arena, "%s.count", folder));
    return count;
}

Test(emit, native_builds_and_leaves_nothing, .timeout = 200) {
    cr_assert_eq(mkdir(arena_printf(arena, "%s/tmp", folder), 0777), 0);
    setenv("TMPDIR", arena_printf(arena, "%s/tmp", folder), 1);
    Text text = {0};
    print_c(module, &empty_program, C_LINKED, &text);
    const char *output = arena_printf(arena, "%s/-a $(b) 'c", folder);
    NativeOptions options = {.level = 0};
    cr_assert(native_build(&text, output, &options));
    struct stat made;
    cr_assert_eq(stat(output, &made), 0);
    cr_expect(made.st_mode & S_IXUSR);
    cr_expect_eq(files_in(folder), 2); /* the executable and tmp */
    cr_expect_eq(files_in(getenv("TMPDIR")), 0);
    cr_expect_eq(system(arena_printf(arena, "%s/-a* --version >/dev/null", folder)), 0);
    text_free(&text);
    cr_assert_eq(unlink(output), 0);
    options.units = 2; /* each has what BP_UNIT gives it */
    text_add(&text, "#if BP_UNIT == 0\nint one(void);\nint main(void) { return one() - 1; }\n"
                    "#else\nint one(void) { return BP_UNIT; }\n#endif\n");
    cr_assert(native_build(&text, output, &options));
    cr_expect_eq(files_in(folder), 2);
    cr_expect_eq(files_in(getenv("TMPDIR")), 0);
    cr_expect_eq(system(arena_printf(arena, "%s/-a*", folder)), 0);
    text_free(&text);
}

Test(emit, native_says_what_is_wrong) {
    Text text = {0};
    text_add(&text, "int main(void) { return not_declared; }\n");
    cr_assert_eq(mkdir(arena_printf(arena, "%s/tmp", folder), 0777), 0);
    setenv("TMPDIR", arena_printf(arena, "%s/tmp", folder), 1);
    int saved = dup(STDERR_FILENO), log = open(arena_printf(arena, "%s/tmp.log", folder), O_CREAT | O_RDWR, 0600);
    dup2(log, STDERR_FILENO);
    NativeOptions options = {.level = 0};
    setenv("CC", "/nonexistent/cc", 1);
    cr_expect_not(native_build(&text, arena_printf(arena, "%s/out", folder), &options));
    setenv("CC", "gcc -pipe", 1);
    cr_expect_not(native_build(&text, arena_printf(arena, "%s/out", folder), &options));
    cr_expect_not(native_build(&text, arena_printf(arena, "%s/tmp", folder), &options));
    cr_expect_not(native_build(&text, arena_printf(arena, "%s/no/such/place", folder), &options));
    cr_expect_not(native_build(&text, "/dev/null", &options));
    cr_expect_not(native_build(&text, "-", &options));
    unsetenv("CC");
    setenv("PATH", "/nonexistent", 1);
    cr_expect_not(native_build(&text, arena_printf(arena, "%s/out", folder), &options));
    setenv("PATH", "/usr/bin:/bin", 1);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(log);
    char why[256];
    size_t length;
    char *said = file_read_whole(arena_printf(arena, "%s/tmp.log", folder), &length, why, sizeof why);
    static const char *const expected[] = {"the C compiler that CC names does not run: /nonexistent/cc",
                                           "not_declared",
                                           "could not build",
                                           "it is a directory",
                                           "cannot write",
                                           "not a regular file",
                                           "standard output",
                                           "no C compiler found: install gcc or set CC"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        cr_expect(strstr(said, expected[i]), "'%s' is missing in:\n%s", expected[i], said);
    free(said);
    cr_expect_eq(files_in(folder), 2); /* tmp and tmp.log */
    cr_expect_eq(files_in(getenv("TMPDIR")), 0);
    text_free(&text);
}
