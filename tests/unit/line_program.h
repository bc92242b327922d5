/* A program written by hand, a line fitted by gradient descent with momentum, and how a test runs it: for
   runtime_program.c and runtime_command.c. Each test has a folder of its own. */
#ifndef BP_LINE_PROGRAM_H
#define BP_LINE_PROGRAM_H

#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The line: y = W x + b, in memory as a compiler would plan it ------------------------------------------------ */
enum {
    CAPACITY = 8,
    AT_FITTED = (BP_SCALAR_COUNT + 1) * 8, /* behind the one param */
    AT_W = 128,
    AT_B = 192,
    AT_VW = 256,
    AT_VB = 320,
    AT_X = 384,
    AT_Y = 448,
    AT_E = 512
};
enum { AT_SUMS = 576, AT_TOTALS = 640, AT_METRICS = 704, AT_P = 768, AT_STOPS = 832, LINE_BYTES = 1024 };
enum { CHECK_W = 128, CHECK_B = 192, CHECK_GW = 256, CHECK_GB = 320, CHECK_X = 384, CHECK_Y = 512, CHECK_LOSS = 576 };

static struct {
    int scripted;            /* a step only counts up W[0]; val_loss is least in epoch 5 */
    int64_t signal_at;       /* step that raises SIGTERM; -1: none */
    int64_t break_weight_at; /* step whose update writes inf into b; -1: none */
    int64_t break_metric_at; /* step whose sum for mae is inf, though the loss is not; -1: none */
    double gradient_factor;  /* of the check's gradient: not 1 is a wrong derivative */
} hook;

static inline float *floats(const struct bp_context *context, int at) {
    return (float *)(void *)(context->memory + at);
}

static inline double *doubles(const struct bp_context *context, int at) {
    return (double *)(void *)(context->memory + at);
}

static inline void line_init(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)threads;
    if (thread == 0) {
        floats(context, AT_W)[0] = 0.5f + 0.01f * (float)context->seed;
        floats(context, AT_W)[1] = -0.25f;
        floats(context, AT_B)[0] = 0;
    }
}

static inline void line_start(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    floats(context, AT_VW)[0] = floats(context, AT_VW)[1] = floats(context, AT_VB)[0] = 0;
}

/* Each thread its rows; then all wait. */
static inline void line_forward(const struct bp_context *context, int32_t thread, int32_t threads, int with_target) {
    const float *w = floats(context, AT_W), *x = floats(context, AT_X), *b = floats(context, AT_B);
    for (int64_t i = thread; i < context->rows; i += threads) {
        floats(context, AT_P)[i] = w[0] * x[2 * i] + w[1] * x[2 * i + 1] + b[0];
        if (with_target)
            floats(context, AT_E)[i] = floats(context, AT_P)[i] - floats(context, AT_Y)[i];
    }
    bp_barrier(context->team, thread);
}

static inline void line_sums(const struct bp_context *context) {
    const float *e = floats(context, AT_E);
    float *sums = floats(context, AT_SUMS);
    sums[0] = sums[1] = 0;
    for (int64_t i = 0; i < context->rows; i++) {
        sums[0] += e[i] * e[i];
        sums[1] += fabsf(e[i]);
    }
}

static inline void line_update(const struct bp_context *context) {
    const float *e = floats(context, AT_E), *x = floats(context, AT_X);
    float g[3] = {0, 0, 0}, rate = (float)doubles(context, 0)[BP_SCALAR_COUNT];
    float *w[3] = {floats(context, AT_W), floats(context, AT_W) + 1, floats(context, AT_B)};
    float *v[3] = {floats(context, AT_VW), floats(context, AT_VW) + 1, floats(context, AT_VB)};
    for (int64_t i = 0; i < context->rows; i++) {
        g[0] += 2 * e[i] * x[2 * i];
        g[1] += 2 * e[i] * x[2 * i + 1];
        g[2] += 2 * e[i];
    }
    for (int k = 0; k < 3; k++) {
        *v[k] = 0.5f * *v[k] + g[k] / (float)context->rows;
        *w[k] -= rate * *v[k];
    }
    if ((int64_t)context->step == hook.break_weight_at)
        *w[2] = INFINITY;
}

static inline void line_step(const struct bp_context *context, int32_t thread, int32_t threads) {
    if (thread == 0 && (int64_t)context->step == hook.signal_at)
        raise(SIGTERM);
    line_forward(context, thread, threads, 1);
    if (thread != 0)
        return;
    line_sums(context);
    if ((int64_t)context->step == hook.break_metric_at)
        floats(context, AT_SUMS)[1] = INFINITY;
    if (hook.scripted)
        floats(context, AT_W)[0] = (float)context->step + 1;
    else if (isfinite(floats(context, AT_SUMS)[0]))
        line_update(context);
}

static inline void line_measure(const struct bp_context *context, int32_t thread, int32_t threads) {
    line_forward(context, thread, threads, 1);
    if (thread != 0)
        return;
    line_sums(context);
    if (hook.scripted) {
        double epoch = floats(context, AT_W)[0] / doubles(context, 0)[BP_SCALAR_STEPS_PER_EPOCH];
        floats(context, AT_SUMS)[0] = (float)(fabs(epoch - 5) * (double)context->rows);
    }
}

static inline void line_finish(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    for (int i = 0; i < 2; i++)
        doubles(context, AT_METRICS)[i] = doubles(context, AT_TOTALS)[i] / doubles(context, 0)[BP_SCALAR_ROWS];
}

static inline void line_predict(const struct bp_context *context, int32_t thread, int32_t threads) {
    line_forward(context, thread, threads, 0);
}

static inline double line_check_error(const struct bp_context *context, int64_t i) {
    const double *w = doubles(context, CHECK_W), *x = doubles(context, CHECK_X);
    return w[0] * x[2 * i] + w[1] * x[2 * i + 1] + doubles(context, CHECK_B)[0] - doubles(context, CHECK_Y)[i];
}

static inline void line_check_loss(const struct bp_context *context, int32_t thread, int32_t threads) {
    double sum = 0;
    (void)thread, (void)threads;
    for (int64_t i = 0; i < context->rows; i++)
        sum += line_check_error(context, i) * line_check_error(context, i);
    doubles(context, CHECK_LOSS)[0] = sum / (double)context->rows;
    memset(doubles(context, CHECK_X), 0, 16 * (size_t)context->rows); /* a planner may reuse what is read */
}

static inline void line_check_gradient(const struct bp_context *context, int32_t thread, int32_t threads) {
    double g[2] = {0, 0};
    (void)thread, (void)threads;
    for (int64_t i = 0; i < context->rows; i++)
        for (int k = 0; k < 2; k++)
            g[k] += 2 * line_check_error(context, i) * doubles(context, CHECK_X)[2 * i + k] / (double)context->rows;
    for (int k = 0; k < 2; k++)
        doubles(context, CHECK_GW)[k] = g[k] * hook.gradient_factor;
}

static const struct bp_transform line_standardize[2] = {{BP_STANDARDIZE, 0, NULL, 0}, {BP_STANDARDIZE, 0, NULL, 2}};
static const struct bp_column line_columns[3] = {
    {"a", 4, -1, BP_NUMBER, NULL, 0, 0, NULL, 0, &line_standardize[0], 1, 0, 0, 0, 0},
    {"b", 4, -1, BP_NUMBER, NULL, 0, 0, NULL, 0, &line_standardize[1], 1, 0, 0, 0, 0},
    {"y", 5, -1, BP_NUMBER, NULL, 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0}};
static const int32_t line_inputs[2] = {0, 1}, line_target[1] = {2}, line_models[1] = {0}, line_trainable[2] = {0, 1};
static const struct bp_slot line_slots[2] = {{"x", BP_F32, BP_SLOT_COLUMNS, 2, line_inputs, 2, 0},
                                             {"y", BP_F32, BP_SLOT_COLUMNS, 1, line_target, 1, 1}};
static const struct bp_file line_file = {"line.csv", NULL, BP_ALL, 1, 0, 0, NULL};
static const struct bp_data line_data = {.name = "points",
                                         .line = 2,
                                         .files = &line_file,
                                         .file_count = 1,
                                         .columns = line_columns,
                                         .column_count = 3,
                                         .slots = line_slots,
                                         .slot_count = 2,
                                         .train = 0.6,
                                         .validation = 0.2,
                                         .test = 0.2,
                                         .stratify = -1,
                                         .fitted_count = 4,
                                         .fitted_offset = AT_FITTED};
static const struct bp_tensor line_tensors[4] = {{"fc.weight", 9, 2, {1, 2}, AT_W, BP_ROWS},
                                                 {"fc.bias", 9, 1, {1}, AT_B, BP_ROWS},
                                                 {"fc.weight:v", 14, 2, {1, 2}, AT_VW, BP_ROWS},
                                                 {"fc.bias:v", 14, 1, {1}, AT_VB, BP_ROWS}};
static const struct bp_feed line_feeds[2] = {{0, BP_F32, AT_X, BP_ROWS, 0, 0, 0}, {1, BP_F32, AT_Y, BP_ROWS, 0, 0, 0}};
static const struct bp_feed line_check_feeds[2] = {{0, BP_F64, CHECK_X, BP_ROWS, 0, 0, 0},
                                                   {1, BP_F64, CHECK_Y, BP_ROWS, 0, 0, 0}};
static const struct bp_output line_output = {"y", BP_OUTPUT_NUMBER, 1, AT_P, NULL, NULL};
static const struct bp_metric line_metrics[2] = {{"loss", 1, 1, AT_METRICS, NULL, -1},
                                                 {"mae", 1, 1, AT_METRICS + 8, NULL, -1}};
#define LINE_FINISH                                                                                                    \
    { "finish", line_finish, 0, 1, NULL, 0, NULL, NULL, 0 }
static const struct bp_pass line_training = {
    {"step", line_step, 1, CAPACITY, line_feeds, 2, NULL, NULL, 0}, LINE_FINISH, AT_SUMS, AT_TOTALS, 2, NULL, 0};
static const struct bp_pass line_validation = {
    {"measure", line_measure, 1, CAPACITY, line_feeds, 2, NULL, NULL, 0}, LINE_FINISH, AT_SUMS, AT_TOTALS, 2, NULL, 0};
static const struct bp_trace_point line_trace[2] = {{"x", 4, AT_X, BP_ROWS, 0, 2, 0},
                                                    {"fc", 9, AT_P, BP_ROWS, 0, 1, 1}};
static const int32_t line_checked[2] = {0, 1};
static const uint64_t line_check_parameters[2] = {CHECK_W, CHECK_B}, line_check_gradients[2] = {CHECK_GW, UINT64_MAX};
static const struct bp_param line_param = {"lr", 0.05};
static const struct bp_statement line_statements[3] = {{BP_DO_TRAIN, 0}, {BP_DO_EVALUATE, 0}, {BP_DO_SAVE, 0}};

static struct bp_model line_model;
static struct bp_train line_train;
static struct bp_check line_check;
static struct bp_evaluate line_evaluate;
static struct bp_save line_save;
static struct bp_program line;

static char directory[64];

static inline void write_file(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
}

/* y = 2 a - 3 b + 1, on points that look random enough. */
static inline void line_setup(void) {
    memset(&hook, 0, sizeof hook);
    hook.signal_at = hook.break_weight_at = hook.break_metric_at = -1;
    hook.gradient_factor = 1;
    line_model = (struct bp_model){.name = "Line",
                                   .line = 8,
                                   .tensor_count = 2,
                                   .init = {"init", line_init, 1, 1, NULL, 0, NULL, NULL, 0},
                                   .predict = {"predict", line_predict, 1, CAPACITY, line_feeds, 1, NULL, NULL, 0},
                                   .outputs = &line_output,
                                   .output_count = 1};
    line_check = (struct bp_check){NULL,
                                   {"loss", line_check_loss, 0, CAPACITY, line_check_feeds, 2, NULL, NULL, 0},
                                   {"gradient", line_check_gradient, 0, CAPACITY, line_check_feeds, 2, NULL, NULL, 0},
                                   640,
                                   CHECK_LOSS,
                                   line_checked,
                                   line_check_parameters,
                                   line_check_gradients,
                                   2};
    line_train = (struct bp_train){.name = "Line",
                                   .line = 12,
                                   .models = line_models,
                                   .model_count = 1,
                                   .first_state = 2,
                                   .state_count = 2,
                                   .trainable = line_trainable,
                                   .trainable_count = 2,
                                   .start = {"start", line_start, 0, 1, NULL, 0},
                                   .training = {&line_training, 1, line_metrics, 2},
                                   .validation = {&line_validation, 1, line_metrics, 2},
                                   .loss_count = 1,
                                   .epochs = 6,
                                   .batch_size = 5,
                                   .shuffle = 1,
                                   .early_stopping = {.metric = -1},
                                   .flops_per_row = 8,
                                   .trace = {"trace", line_predict, 1, CAPACITY, line_feeds, 1},
                                   .trace_points = line_trace,
                                   .trace_point_count = 2,
                                   .trace_stops = AT_STOPS,
                                   .checks = &line_check,
                                   .check_count = 1};
    line_evaluate =
        (struct bp_evaluate){"Line on points.test", 20, 0, 0, BP_TEST, {&line_validation, 1, line_metrics, 2}};
    line_save = (struct bp_save){21, "line.safetensors", line_models, 1};
    line = (struct bp_program){.abi = BP_ABI,
                               .name = "line",
                               .source = "line.bp",
                               .version = "0",
                               .memory_bytes = LINE_BYTES,
                               .params = &line_param,
                               .param_count = 1,
                               .tensors = line_tensors,
                               .tensor_count = 4,
                               .models = &line_model,
                               .model_count = 1,
                               .data = &line_data,
                               .data_count = 1,
                               .trains = &line_train,
                               .train_count = 1,
                               .evaluates = &line_evaluate,
                               .evaluate_count = 1,
                               .saves = &line_save,
                               .save_count = 1,
                               .statements = line_statements,
                               .statement_count = 3};
    strcpy(directory, "/tmp/bpc-program-XXXXXX");
    cr_assert(mkdtemp(directory) && chdir(directory) == 0);
    FILE *file = fopen("line.csv", "w");
    cr_assert(file);
    fprintf(file, "a,b,y\n");
    for (int i = 0; i < 20; i++) {
        int a = i * 7 % 20, b = i * 13 % 17;
        fprintf(file, "%d,%d,%d\n", a, b, 2 * a - 3 * b + 1);
    }
    fclose(file);
}

static inline void line_teardown(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert(chdir("/") == 0 && system(command) == 0);
}

TestSuite(program, .init = line_setup, .fini = line_teardown);

/* ---- Running ----------------------------------------------------------------------------------------------------- */
static char *output, *errors;

static inline char *read_all(const char *path) {
    struct bp_error error;
    size_t length;
    char *text = bp_read_file(path, &length, &error);
    cr_assert(text, "%s", error.text);
    return text;
}

/* Runs the program on a command line of words; standard output and errors are in `output` and `errors` then. */
static inline int run(const char *words) {
    char *argv[32], copy[512];
    int argc = 1, before[2] = {dup(1), dup(2)};
    snprintf(copy, sizeof copy, "%s", words);
    argv[0] = strdup("line");
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    fflush(stdout);
    cr_assert(freopen("stdout.txt", "w", stdout) && freopen("stderr.txt", "w", stderr));
    int code = bp_main(&line, argc, argv);
    fflush(stdout);
    fflush(stderr);
    dup2(before[0], 1);
    dup2(before[1], 2);
    close(before[0]);
    close(before[1]);
    free(argv[0]);
    free(output);
    free(errors);
    output = read_all("stdout.txt");
    errors = read_all("stderr.txt");
    return code;
}

#define expect_run(code, words)                                                                                        \
    do {                                                                                                               \
        int got = run(words);                                                                                          \
        cr_assert_eq(got, code, "%s: exit %d, not %d: %s", words, got, code, errors);                                  \
    } while (0)
#define expect_in(text, part) cr_assert(strstr(text, part), "'%s' is not in:\n%s", part, text)

/* The n-th line (from 0) of a log whose event is that, parsed. Free it. */
static inline int log_event(const char *path, const char *event, int n, struct bp_json *json) {
    char *text = read_all(path);
    int found = 0;
    for (char *row = strtok(text, "\n"); row && !found; row = strtok(NULL, "\n")) {
        struct bp_error error;
        cr_assert(bp_json_parse(json, row, strlen(row), &error), "%s: %s", row, error.text);
        const struct bp_json *name = bp_json_get(json, "event");
        found = name && strcmp(name->string, event) == 0 && n-- == 0;
        if (!found)
            bp_json_free(json);
    }
    free(text);
    return found;
}

static inline double log_number(const char *path, const char *event, int n, const char *key) {
    struct bp_json json;
    cr_assert(log_event(path, event, n, &json), "no %s %d", event, n);
    const struct bp_json *item = bp_json_get(&json, key);
    cr_assert(item && item->kind == BP_JSON_NUMBER, "no number %s", key);
    double value = item->number;
    bp_json_free(&json);
    return value;
}

static inline void read_line(const char *path, float w[3]) {
    struct bp_archive archive;
    struct bp_error error;
    cr_assert(bp_archive_open(&archive, path, &error), "%s", error.text);
    const struct bp_archive_entry *weight = bp_archive_find(&archive, "fc.weight"),
                                  *bias = bp_archive_find(&archive, "fc.bias");
    cr_assert(weight && bias && weight->rank == 2 && weight->shape[0] == 1 && weight->shape[1] == 2);
    cr_assert(bp_archive_read(&archive, weight, w, 2, &error) && bp_archive_read(&archive, bias, w + 2, 1, &error));
    bp_archive_close(&archive);
}

static inline void expect_same_file(const char *a, const char *b) {
    char command[256];
    snprintf(command, sizeof command, "cmp -s %s %s", a, b);
    cr_assert(system(command) == 0, "%s and %s differ", a, b);
}

#endif
