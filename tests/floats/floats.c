/* The mathematics of the kernels against libm, over every float there is.

       floats [--every N] [--pairs N] [--threads N] [--cc "gcc -O3 -march=native"] [--speed] [FUNCTION ...]

   Each function becomes a kernel of 16 lanes, printed as C, compiled as a user's program is, and run over all 2^32
   floats (with --every N over each N-th, and over those beside every power of two), for pow, division and fma over N
   pairs drawn at random and all pairs of special values. The reference is glibc's function in double precision, whose
   own error is below 2^-28 units of a float's last place; what is correctly rounded must agree to the bit. Says the
   greatest error of each in units of the last place and where it is; more than 2, or a NaN, an infinity or a sign of
   zero where libm has none, is a failure. With --speed, the time of an element instead. */
#define _XOPEN_SOURCE 700
#include "../../compiler/emit/emit.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    COUNT = 4096,
    LANES = 16,
    BYTES = COUNT * (int)sizeof(float) + 320, /* not a multiple of a page: loads would seem to depend on stores */
    PLACE = BYTES / (int)sizeof(float),       /* from one array to the next */
    MOST_THREADS = 64,
};

typedef struct Subject {
    const char *name;
    Op op;
    double low, high, second_low, second_high; /* arguments that are timed */
    double (*one)(double x);                   /* the reference */
    bool exact;                                /* correctly rounded */
} Subject;

static const Subject subjects[] = {
    {"exp", OP_EXP, -20, 20, 0, 0, exp, false},
    {"expm1", OP_EXPM1, -20, 20, 0, 0, expm1, false},
    {"log", OP_LOG, 0.001, 1000, 0, 0, log, false},
    {"log1p", OP_LOG1P, -0.9, 1000, 0, 0, log1p, false},
    {"tanh", OP_TANH, -6, 6, 0, 0, tanh, false},
    {"erf", OP_ERF, -4, 4, 0, 0, erf, false},
    {"sin", OP_SIN, -100, 100, 0, 0, sin, false},
    {"cos", OP_COS, -100, 100, 0, 0, cos, false},
    {"sqrt", OP_SQRT, 0.001, 1000, 0, 0, sqrt, true},
    {"pow", OP_POWER, 0.01, 100, -4, 4, NULL, false},
    {"division", OP_DIVIDE, -100, 100, 0.01, 100, NULL, true},
    {"fma", OP_FMA, -100, 100, -100, 100, NULL, true},
};
enum { SUBJECTS = sizeof subjects / sizeof *subjects };

typedef void Code(const struct bp_context *context, int32_t thread, int32_t threads);

static uint64_t every = 1, pairs = 400000000;
static int threads = 2;
static Code *codes[SUBJECTS];

/* ---- The kernels ------------------------------------------------------------------------------------------------- */

static Buffer *buffer_new(Arena *arena, const char *name, int place) {
    Buffer *buffer = arena_new_of(arena, Buffer);
    *buffer = (Buffer){.name = name_of(name),
                       .shown = name,
                       .scalar = SCALAR_F32,
                       .role = BUFFER_TEMPORARY,
                       .rank = 1,
                       .dims = {COUNT},
                       .elements = COUNT,
                       .offset = (uint64_t)place * BYTES,
                       .span = SPAN_NONE};
    return buffer;
}

static void add_function(Module *module, const Subject *subject) {
    Arena *arena = module->arena;
    Function *function = arena_new_of(arena, Function);
    Kernel *kernel = arena_new_of(arena, Kernel);
    kernel->name = name_of(arena_printf(arena, "%s_kernel", subject->name));
    kernel->formula = subject->name;
    kernel->span = function->span = SPAN_NONE;
    function->name = name_of(arena_printf(arena, "map_%s", subject->name));
    function->about = subject->name;
    function->capacity = 1;
    function->steps = arena_array(arena, Step, 1);
    function->steps[function->step_count++] = (Step){.kind = STEP_KERNEL, .kernel = kernel};
    *LIST_ADD(arena, &module->functions) = function;
    Builder b = {.arena = arena, .module = module, .kernel = kernel, .block = &kernel->body};
    static const char *const names[] = {"x", "y", "z"};
    Value *at, *arguments[3] = {0};
    Block *outer = build_loop(&b, "i", value_integer(&b, 0), value_integer(&b, COUNT), LANES, false, &at);
    for (int i = 0; i < op_table[subject->op].arity; i++)
        arguments[i] = value_load(&b, buffer_new(arena, names[i], i), at, LANES);
    build_store(&b, buffer_new(arena, "out", 3), at,
                value_op(&b, subject->op, arguments[0], arguments[1], arguments[2]));
    build_end(&b, outer);
}

/* The text of all of them through the compiler, into this process. */
static void compile(const char *compiler) {
    names_start();
    Arena *arena = arena_new();
    Module *module = arena_new_of(arena, Module);
    module->arena = arena;
    for (int i = 0; i < SUBJECTS; i++)
        add_function(module, &subjects[i]);
    Text text = {0};
    print_c(module, NULL, C_LINKED, &text);
    char folder[] = "/tmp/bpc-floats-XXXXXX", why[256];
    if (!mkdtemp(folder))
        BUG("no temporary folder");
    const char *source = arena_printf(arena, "%s/floats.c", folder),
               *library = arena_printf(arena, "%s/floats.so", folder);
    if (!file_write_whole(source, text.at, strlen(text.at), why, sizeof why))
        BUG("%s", why);
    if (system(arena_printf(arena, "%s -Wall -Wextra -Werror -shared -fPIC %s -o %s -lm", compiler, source, library)) !=
        0) {
        fprintf(stderr, "floats: %s fails on %s\n", compiler, source);
        exit(1);
    }
    void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!opened)
        BUG("%s", dlerror());
    for (int i = 0; i < SUBJECTS; i++) {
        void *found = dlsym(opened, arena_printf(arena, "map_%s", subjects[i].name));
        if (!found)
            BUG("%s", dlerror());
        memcpy(&codes[i], &found, sizeof found);
    }
    if (system(arena_printf(arena, "rm -r %s", folder)) != 0)
        BUG("%s stays", folder);
    text_free(&text);
    arena_free(arena);
    sources_end();
    names_end();
}

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* In units of the last place that a float near `expected` has; infinite where the kind of number differs. */
static double error_of(float got, double expected) {
    float rounded = (float)expected;
    if (isnan(got) || isnan(expected))
        return isnan(got) && isnan(expected) ? 0 : INFINITY;
    if (isinf(expected) || (expected == 0 && got != 0) || signbit(got) != signbit(rounded))
        return bits_of(got) == bits_of(rounded) ? 0 : INFINITY;
    if (isinf(got))
        return isinf(rounded) ? 0 : INFINITY;
    int exponent;
    frexp(expected, &exponent);
    return fabs((double)got - expected) / ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
}

typedef struct Worst {
    double error;
    float x, y, got;
    double expected;
    uint64_t count, wrong; /* compared; more than 2 ulp or of another kind */
} Worst;

static void compare(Worst *worst, const Subject *subject, float x, float y, float got, double expected) {
    worst->count++;
    if (bits_of(got) == bits_of((float)expected))
        return; /* half a unit at most */
    double error = error_of(got, expected);
    bool wrong = error > (subject->exact ? 0.5 : 2);
    worst->wrong += wrong;
    if (error > worst->error) {
        worst->error = error, worst->x = x, worst->y = y;
        worst->got = got, worst->expected = expected;
    }
}

/* ---- Running over the floats ------------------------------------------------------------------------------------- */

typedef struct Work {
    int subject;
    atomic_uint_fast64_t next;
    uint64_t blocks;
    Worst worst[MOST_THREADS];
    atomic_int ids;
} Work;

/* Beside the powers of two, and their negatives. */
static uint32_t edge(uint64_t number) {
    static const int32_t steps[] = {0, 1, 2, 3, -1, -2, -3, 0x400000};
    return (uint32_t)(number / 8 % 512 << 23) + (uint32_t)steps[number % 8];
}
enum { EDGES = 4096 };

static float argument(uint64_t number) {
    return float_of(number < EDGES ? edge(number) : (uint32_t)((number - EDGES) * every));
}

/* splitmix64: Steele, Lea, Flood, 2014. */
static uint64_t mixed(uint64_t number) {
    number = (number + 1) * 0x9E3779B97F4A7C15u;
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9u;
    number = (number ^ number >> 27) * 0x94D049BB133111EBu;
    return number ^ number >> 31;
}

static const float kinds[] = {0,          1,
                              2,          3,
                              0.5f,       1.5f,
                              4,          5,
                              100,        127,
                              149,        0.1f,
                              1.0000001f, 0.99999994f,
                              16777215,   16777216,
                              16777218,   1e10f,
                              1e38f,      0x1p-126f,
                              0x1p-149f,  0x1.fffffep127f,
                              INFINITY,   NAN};
enum { KINDS = sizeof kinds / sizeof *kinds * 2 };

static float kind_of(uint64_t number) {
    float size = kinds[number % KINDS / 2];
    return number % 2 ? -size : size;
}

/* All pairs of special numbers, then any bits, then (pow) what has a finite power. */
static void pair(const Subject *subject, uint64_t number, float *x, float *y, float *z) {
    uint64_t drawn = mixed(number), more = mixed(~number);
    *x = float_of((uint32_t)drawn), *y = float_of((uint32_t)(drawn >> 32)), *z = float_of((uint32_t)more);
    if (number < (uint64_t)KINDS * KINDS * KINDS) {
        *x = kind_of(number), *y = kind_of(number / KINDS), *z = kind_of(number / KINDS / KINDS);
    } else if (subject->op == OP_POWER && number % 8) {
        *x = float_of((uint32_t)(drawn & 0x7FFFFFFF));
        if (number % 4 == 1) /* near 1 */
            *x = 1 + ldexpf((float)(int32_t)(uint32_t)drawn, -31 - (int)(more % 24));
        double log_size = log2((double)*x);
        *y = (float)(((double)(drawn >> 32) * 0x1p-32 * 280 - 152) / log_size);
    } else if (subject->op == OP_FMA && number % 2) { /* a sum that cancels */
        *z = -(*x * *y);
        *z = float_of(bits_of(*z) + (uint32_t)(more % 5) - 2);
    }
}

static void run_block(Work *work, Worst *worst, char *memory, uint64_t block) {
    const Subject *subject = &subjects[work->subject];
    float *x = (float *)(void *)memory, *y = x + PLACE, *z = y + PLACE, *out = z + PLACE;
    for (uint64_t i = 0; i < COUNT; i++) {
        if (subject->one)
            x[i] = argument(block * COUNT + i);
        else
            pair(subject, block * COUNT + i, &x[i], &y[i], &z[i]);
    }
    struct bp_context context = {.memory = memory, .rows = 1};
    codes[work->subject](&context, 0, 1);
    for (int i = 0; i < COUNT; i++) {
        double expected = subject->one               ? subject->one((double)x[i])
                          : subject->op == OP_POWER  ? pow((double)x[i], (double)y[i])
                          : subject->op == OP_DIVIDE ? (double)(x[i] / y[i])
                                                     : (double)fmaf(x[i], y[i], z[i]);
        compare(worst, subject, x[i], y[i], out[i], expected);
    }
}

static void *run_blocks(void *of) {
    Work *work = of;
    Worst *worst = &work->worst[atomic_fetch_add(&work->ids, 1)];
    char *memory = aligned_alloc(64, (size_t)4 * BYTES);
    if (!memory)
        BUG("no memory");
    memset(memory, 0, (size_t)4 * BYTES);
    for (uint64_t block; (block = atomic_fetch_add(&work->next, 1)) < work->blocks;)
        run_block(work, worst, memory, block);
    free(memory);
    return NULL;
}

/* True where it is right. */
static bool check(int number) {
    const Subject *subject = &subjects[number];
    static Work work;
    memset(&work, 0, sizeof work);
    work.subject = number;
    uint64_t all = subject->one ? ((UINT64_C(1) << 32) + every - 1) / every + EDGES : pairs;
    work.blocks = (all + COUNT - 1) / COUNT;
    pthread_t started[MOST_THREADS];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&started[i], NULL, run_blocks, &work) != 0)
            BUG("no thread");
    Worst worst = {0};
    for (int i = 0; i < threads; i++)
        pthread_join(started[i], NULL);
    for (int i = 0; i < threads; i++) {
        uint64_t count = worst.count + work.worst[i].count, wrong = worst.wrong + work.worst[i].wrong;
        if (work.worst[i].error > worst.error)
            worst = work.worst[i];
        worst.count = count, worst.wrong = wrong;
    }
    printf("%-9s %12llu compared  ", subject->name, (unsigned long long)worst.count);
    if (worst.error == 0)
        printf("correctly rounded\n");
    else {
        printf("%.4f ulp at %a", worst.error, (double)worst.x);
        if (!subject->one)
            printf(", %a", (double)worst.y);
        printf(": %a, not %a%s", (double)worst.got, worst.expected, worst.wrong ? "" : "\n");
        if (worst.wrong)
            printf("; WRONG: %llu\n", (unsigned long long)worst.wrong);
    }
    fflush(stdout);
    return worst.wrong == 0;
}

/* ---- Time -------------------------------------------------------------------------------------------------------- */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Nanoseconds an element: the least of 400 runs, since others may use the machine. */
static void measure(int number) {
    const Subject *subject = &subjects[number];
    float *memory = aligned_alloc(64, (size_t)4 * BYTES);
    if (!memory)
        BUG("no memory");
    for (uint64_t i = 0; i < COUNT; i++) {
        double unit = (double)(mixed(i) >> 11) * 0x1p-53, other = (double)(mixed(~i) >> 11) * 0x1p-53;
        memory[i] = (float)(subject->low + unit * (subject->high - subject->low));
        memory[PLACE + i] = (float)(subject->second_low + other * (subject->second_high - subject->second_low));
        memory[2 * PLACE + i] = 1;
    }
    struct bp_context context = {.memory = (char *)memory, .rows = 1};
    double least = INFINITY;
    for (int run = 0; run < 400; run++) {
        double start = seconds();
        for (int i = 0; i < 4; i++)
            codes[number](&context, 0, 1);
        double time = (seconds() - start) / 4 / COUNT * 1e9;
        least = time < least ? time : least;
    }
    printf("%-9s %.3f ns\n", subject->name, least);
    free(memory);
}

int main(int argc, char **argv) {
    const char *compiler = "gcc -O3 -march=native";
    bool speed = false, right = true, named[SUBJECTS] = {0}, any = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(argv[i], "--speed") == 0)
            speed = true;
        else if (strcmp(argv[i], "--every") == 0)
            every = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--pairs") == 0)
            pairs = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(value), i++;
        else if (strcmp(argv[i], "--cc") == 0)
            compiler = value, i++;
        else {
            int k = 0;
            while (k < SUBJECTS && strcmp(subjects[k].name, argv[i]) != 0)
                k++;
            if (k == SUBJECTS) {
                fprintf(stderr, "floats: no function or option '%s'\n", argv[i]);
                return 2;
            }
            named[k] = any = true;
        }
    }
    if (every < 1 || threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "floats: --every needs 1 or more, --threads 1 to %d\n", MOST_THREADS);
        return 2;
    }
    compile(compiler);
    for (int i = 0; i < SUBJECTS; i++) {
        if (any && !named[i])
            continue;
        if (speed)
            measure(i);
        else
            right &= check(i);
    }
    return right ? 0 : 1;
}
