/* The program half of the runtime, on programs written by hand: a line fitted by gradient descent with momentum, and a
   softmax classifier whose weights are given. What they must give is worked out here, apart from the runtime. */
#define _GNU_SOURCE
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

#include "plateau_cases.h"

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

static float *floats(const struct bp_context *context, int at) {
    return (float *)(void *)(context->memory + at);
}

static double *doubles(const struct bp_context *context, int at) {
    return (double *)(void *)(context->memory + at);
}

static void line_init(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)threads;
    if (thread == 0) {
        floats(context, AT_W)[0] = 0.5f + 0.01f * (float)context->seed;
        floats(context, AT_W)[1] = -0.25f;
        floats(context, AT_B)[0] = 0;
    }
}

static void line_start(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    floats(context, AT_VW)[0] = floats(context, AT_VW)[1] = floats(context, AT_VB)[0] = 0;
}

/* Each thread its rows; then all wait. */
static void line_forward(const struct bp_context *context, int32_t thread, int32_t threads, int with_target) {
    const float *w = floats(context, AT_W), *x = floats(context, AT_X), *b = floats(context, AT_B);
    for (int64_t i = thread; i < context->rows; i += threads) {
        floats(context, AT_P)[i] = w[0] * x[2 * i] + w[1] * x[2 * i + 1] + b[0];
        if (with_target)
            floats(context, AT_E)[i] = floats(context, AT_P)[i] - floats(context, AT_Y)[i];
    }
    bp_barrier(context->team, thread);
}

static void line_sums(const struct bp_context *context) {
    const float *e = floats(context, AT_E);
    float *sums = floats(context, AT_SUMS);
    sums[0] = sums[1] = 0;
    for (int64_t i = 0; i < context->rows; i++) {
        sums[0] += e[i] * e[i];
        sums[1] += fabsf(e[i]);
    }
}

static void line_update(const struct bp_context *context) {
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

static void line_step(const struct bp_context *context, int32_t thread, int32_t threads) {
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

static void line_measure(const struct bp_context *context, int32_t thread, int32_t threads) {
    line_forward(context, thread, threads, 1);
    if (thread != 0)
        return;
    line_sums(context);
    if (hook.scripted) {
        double epoch = floats(context, AT_W)[0] / doubles(context, 0)[BP_SCALAR_STEPS_PER_EPOCH];
        floats(context, AT_SUMS)[0] = (float)(fabs(epoch - 5) * (double)context->rows);
    }
}

static void line_finish(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    for (int i = 0; i < 2; i++)
        doubles(context, AT_METRICS)[i] = doubles(context, AT_TOTALS)[i] / doubles(context, 0)[BP_SCALAR_ROWS];
}

static void line_predict(const struct bp_context *context, int32_t thread, int32_t threads) {
    line_forward(context, thread, threads, 0);
}

static double line_check_error(const struct bp_context *context, int64_t i) {
    const double *w = doubles(context, CHECK_W), *x = doubles(context, CHECK_X);
    return w[0] * x[2 * i] + w[1] * x[2 * i + 1] + doubles(context, CHECK_B)[0] - doubles(context, CHECK_Y)[i];
}

static void line_check_loss(const struct bp_context *context, int32_t thread, int32_t threads) {
    double sum = 0;
    (void)thread, (void)threads;
    for (int64_t i = 0; i < context->rows; i++)
        sum += line_check_error(context, i) * line_check_error(context, i);
    doubles(context, CHECK_LOSS)[0] = sum / (double)context->rows;
    memset(doubles(context, CHECK_X), 0, 16 * (size_t)context->rows); /* a planner may reuse what is read */
}

static void line_check_gradient(const struct bp_context *context, int32_t thread, int32_t threads) {
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
static const struct bp_feed line_feeds[2] = {{0, BP_F32, AT_X, BP_ROWS, 0, 0}, {1, BP_F32, AT_Y, BP_ROWS, 0, 0}};
static const struct bp_feed line_check_feeds[2] = {{0, BP_F64, CHECK_X, BP_ROWS, 0, 0}, {1, BP_F64, CHECK_Y, BP_ROWS, 0, 0}};
static const struct bp_output line_output = {"y", BP_OUTPUT_NUMBER, 1, AT_P, NULL, NULL};
static const struct bp_metric line_metrics[2] = {{"loss", 1, 1, AT_METRICS, NULL, -1},
                                                 {"mae", 1, 1, AT_METRICS + 8, NULL, -1}};
#define LINE_FINISH                                                                                                    \
    { "finish", line_finish, 0, 1, NULL, 0 }
static const struct bp_pass line_training = {
    {"step", line_step, 1, CAPACITY, line_feeds, 2}, LINE_FINISH, AT_SUMS, AT_TOTALS, 2, NULL, 0};
static const struct bp_pass line_validation = {
    {"measure", line_measure, 1, CAPACITY, line_feeds, 2}, LINE_FINISH, AT_SUMS, AT_TOTALS, 2, NULL, 0};
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

static void write_file(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
}

/* y = 2 a - 3 b + 1, on points that look random enough. */
static void line_setup(void) {
    memset(&hook, 0, sizeof hook);
    hook.signal_at = hook.break_weight_at = hook.break_metric_at = -1;
    hook.gradient_factor = 1;
    line_model = (struct bp_model){.name = "Line",
                                   .line = 8,
                                   .tensor_count = 2,
                                   .init = {"init", line_init, 1, 1, NULL, 0},
                                   .predict = {"predict", line_predict, 1, CAPACITY, line_feeds, 1},
                                   .outputs = &line_output,
                                   .output_count = 1};
    line_check = (struct bp_check){NULL,
                                   {"loss", line_check_loss, 0, CAPACITY, line_check_feeds, 2},
                                   {"gradient", line_check_gradient, 0, CAPACITY, line_check_feeds, 2},
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

static void line_teardown(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert(chdir("/") == 0 && system(command) == 0);
}

TestSuite(program, .init = line_setup, .fini = line_teardown);

/* ---- Running ----------------------------------------------------------------------------------------------------- */
static char *output, *errors;

static char *read_all(const char *path) {
    struct bp_error error;
    size_t length;
    char *text = bp_read_file(path, &length, &error);
    cr_assert(text, "%s", error.text);
    return text;
}

/* Runs the program on a command line of words; standard output and errors are in `output` and `errors` then. */
static int run(const char *words) {
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
static int log_event(const char *path, const char *event, int n, struct bp_json *json) {
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

static double log_number(const char *path, const char *event, int n, const char *key) {
    struct bp_json json;
    cr_assert(log_event(path, event, n, &json), "no %s %d", event, n);
    const struct bp_json *item = bp_json_get(&json, key);
    cr_assert(item && item->kind == BP_JSON_NUMBER, "no number %s", key);
    double value = item->number;
    bp_json_free(&json);
    return value;
}

static void read_line(const char *path, float w[3]) {
    struct bp_archive archive;
    struct bp_error error;
    cr_assert(bp_archive_open(&archive, path, &error), "%s", error.text);
    const struct bp_archive_entry *weight = bp_archive_find(&archive, "fc.weight"),
                                  *bias = bp_archive_find(&archive, "fc.bias");
    cr_assert(weight && bias && weight->rank == 2 && weight->shape[0] == 1 && weight->shape[1] == 2);
    cr_assert(bp_archive_read(&archive, weight, w, 2, &error) && bp_archive_read(&archive, bias, w + 2, 1, &error));
    bp_archive_close(&archive);
}

static void expect_same_file(const char *a, const char *b) {
    char command[256];
    snprintf(command, sizeof command, "cmp -s %s %s", a, b);
    cr_assert(system(command) == 0, "%s and %s differ", a, b);
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */
/* The same descent once more, in double, batches of 5, 5 and 2 in file order. */
Test(program, trains_as_worked_out_by_hand) {
    struct bp_table table;
    struct bp_error error;
    struct bp_data_options options = {0};
    cr_assert(bp_table_load(&table, &line_data, &options, &error), "%s", error.text);
    cr_assert_eq(table.part_rows[BP_TRAIN], 12);
    const float *x = table.slots[0], *y = table.slots[1];
    double w[3] = {0.53, -0.25, 0}, v[3] = {0}, loss[6] = {0};
    for (int epoch = 0; epoch < 6; epoch++)
        for (int first = 0; first < 12; first += 5) {
            int rows = 12 - first < 5 ? 12 - first : 5;
            double g[3] = {0};
            for (int i = first; i < first + rows; i++) {
                int64_t row = table.parts[BP_TRAIN][i];
                double e = w[0] * x[2 * row] + w[1] * x[2 * row + 1] + w[2] - y[row];
                loss[epoch] += e * e / 12;
                g[0] += 2 * e * x[2 * row] / rows;
                g[1] += 2 * e * x[2 * row + 1] / rows;
                g[2] += 2 * e / rows;
            }
            for (int k = 0; k < 3; k++) {
                v[k] = 0.5 * v[k] + g[k];
                w[k] -= 0.05 * v[k];
            }
        }
    bp_table_free(&table);
    line_train.shuffle = 0;
    expect_run(0, "--seed 3 --log run.jsonl");
    for (int epoch = 0; epoch < 6; epoch++) {
        double logged = log_number("run.jsonl", "epoch", epoch, "loss");
        cr_assert(fabs(logged - loss[epoch]) <= 1e-4 * loss[epoch], "epoch %d: %g, not %g", epoch + 1, logged,
                  loss[epoch]);
        cr_assert_eq(log_number("run.jsonl", "epoch", epoch, "epoch"), epoch + 1);
    }
    float saved[3];
    read_line("line.safetensors", saved);
    for (int k = 0; k < 3; k++)
        cr_assert(fabs(saved[k] - w[k]) < 1e-3, "%d: %g, not %g", k, (double)saved[k], w[k]);
    cr_assert_eq(log_number("run.jsonl", "start", 0, "parameters"), 3);
    expect_in(output, "epoch 6/6  loss ");
    expect_in(output, "Line on points.test (4 rows)\n  loss  ");
    expect_in(output, "saved Line to line.safetensors\n");
}

Test(program, finds_the_line_and_quiet_prints_nothing) {
    struct bp_json json;
    expect_run(0, "--epochs=200 --quiet --log=run.jsonl --set lr=0.1");
    cr_assert_str_eq(output, "");
    cr_assert_lt(log_number("run.jsonl", "evaluate", 0, "mae"), 1e-3);
    cr_assert(log_event("run.jsonl", "evaluate", 0, &json));
    cr_assert_str_eq(bp_json_get(&json, "split")->string, "test");
    bp_json_free(&json);
    FILE *file = fopen("new.csv", "w");
    fprintf(file, "b,a\n1,1\n0,0\n-4,10\n");
    fclose(file);
    expect_run(0, "predict --weights line.safetensors new.csv -o out.csv --threads 2");
    char *text = read_all("out.csv");
    double got[3], want[3] = {0, 1, 33};
    cr_assert_eq(sscanf(text, "y\n%lf\n%lf\n%lf\n", &got[0], &got[1], &got[2]), 3, "%s", text);
    for (int i = 0; i < 3; i++)
        cr_assert(fabs(got[i] - want[i]) < 1e-3, "%s", text);
    free(text);
    expect_run(0, "predict --weights line.safetensors new.csv");
    char *again = read_all("out.csv");
    cr_assert_str_eq(output, again);
    free(again);
}

Test(program, any_number_of_threads_gives_the_same_bits) {
    expect_run(0, "--threads 1 --quiet");
    rename("line.safetensors", "one");
    expect_run(0, "--threads 2 --quiet");
    expect_same_file("line.safetensors", "one");
    expect_run(0, "--threads=7 --quiet");
    expect_same_file("line.safetensors", "one");
    expect_run(0, "--seed 1 --quiet");
    cr_assert_neq(system("cmp -s line.safetensors one"), 0, "the seed changes nothing");
}

Test(program, is_as_long_in_steps_as_in_epochs) {
    expect_run(0, "--epochs 3 --quiet");
    rename("line.safetensors", "three");
    expect_run(0, "--epochs 100 --steps 9"); /* three steps an epoch; the last to be said counts */
    expect_in(output, "epoch 3/3  loss ");
    expect_same_file("line.safetensors", "three");
    expect_run(0, "--steps Line=9 --steps 2 --quiet");
    expect_same_file("line.safetensors", "three");
    expect_run(0, "--steps 8"); /* the last epoch is a part of one */
    expect_in(output, "epoch 3/3  loss ");
    cr_assert_neq(system("cmp -s line.safetensors three"), 0, "eight steps are as good as nine");
}

Test(program, stops_early_and_restores) {
    hook.scripted = 1;
    line_train.early_stopping = (struct bp_early_stopping){.metric = 0, .better = -1, .patience = 3};
    expect_run(0, "--epochs 100 --log run.jsonl");
    expect_in(output, "stopped after epoch 8: val_loss has not improved for 3 epochs; weights of epoch 5 restored\n");
    float w[3];
    read_line("line.safetensors", w);
    cr_assert_eq(w[0], 15); /* three steps an epoch */
    cr_assert_eq(log_number("run.jsonl", "stop", 0, "epoch"), 8);
    cr_assert_eq(log_number("run.jsonl", "stop", 0, "best_epoch"), 5);
    expect_run(0, "--epochs 7");
    expect_in(output, "weights of epoch 5 restored: its val_loss is the best\n");
    read_line("line.safetensors", w);
    cr_assert_eq(w[0], 15);
    line_train.checkpoint = "run.state"; /* what was best, and how long ago, outlives the run */
    expect_run(0, "--quiet --epochs 6");
    expect_run(0, "--epochs 100 --resume run.state");
    expect_in(output, "stopped after epoch 8: val_loss has not improved for 3 epochs; weights of epoch 5 restored\n");
    read_line("line.safetensors", w);
    cr_assert_eq(w[0], 15);
    line_train.early_stopping.min_delta = 2.5; /* val_loss is 4, 3, 2, …: a gain of 2 is none */
    line_train.early_stopping.patience = 2;
    expect_run(0, "--epochs 100");
    expect_in(output, "stopped after epoch 3: val_loss has not improved for 2 epochs; weights of epoch 1 restored\n");
    line_train.early_stopping.min_delta = 0;
    line_train.early_stopping.start_from_epoch = 7; /* counted from 0: epoch 8 is the first that counts */
    expect_run(0, "--epochs 100");
    expect_in(output, "stopped after epoch 10: val_loss has not improved for 2 epochs; weights of epoch 8 restored\n");
}

/* ---- Values that are not finite ---------------------------------------------------------------------------------- */
Test(program, says_which_update_broke_a_weight) {
    hook.break_weight_at = 4; /* three steps an epoch: batch 2 of epoch 2 */
    expect_run(1, "--log run.jsonl");
    expect_in(errors, "line.bp:12: phase 'Line': the loss of epoch 2, batch 3 is not finite\n"
                      "line.bp:9: the update of batch 2 of epoch 2 made fc.bias[0] inf");
    cr_assert_neq(access("line.safetensors", F_OK), 0, "broken weights were saved");
    cr_assert_eq(log_number("run.jsonl", "stop", 0, "batch"), 2);
    hook.break_weight_at = 17; /* the very last update: no loss shows it */
    expect_run(1, "");
    expect_in(errors, "line.bp:9: phase 'Line': after its last update 'fc.bias' holds a value that is not finite");
}

Test(program, says_where_the_first_bad_value_is) {
    struct bp_transform scale = {BP_SCALE, 1e30, NULL, -1};
    struct bp_column columns[3] = {line_columns[0], line_columns[1], line_columns[2]};
    struct bp_data data = line_data;
    columns[0].transforms = &scale; /* 1e30 squared overflows in the loss, though every value before is finite */
    data.columns = columns;
    data.train = data.validation = data.test = 0;
    line.data = &data;
    line_train.validation.pass_count = 0;
    line_train.shuffle = 0;
    expect_run(1, "--seed 0");
    expect_in(errors, "the loss of epoch 1, batch 1 is not finite; every value before the loss is finite");
    scale.argument = 1.7e37; /* the second row's 7 becomes 1.2e38, and a weight of 3.5 takes it over the edge */
    expect_run(1, "--seed 300");
    expect_in(errors, "line.bp:9: the first value that is not finite is in 'fc', element 0, row 2 of data 'points'");
}

Test(program, a_metric_that_is_not_finite_stops_nothing) {
    expect_run(0, "--quiet --log whole.jsonl");
    rename("line.safetensors", "whole");
    hook.break_metric_at = 4;
    expect_run(0, "--quiet --log run.jsonl --threads 2");
    expect_same_file("line.safetensors", "whole");
    struct bp_json json;
    cr_assert(log_event("run.jsonl", "epoch", 1, &json));
    cr_assert_eq(bp_json_get(&json, "mae")->kind, BP_JSON_NULL);
    bp_json_free(&json);
    for (int epoch = 0; epoch < 6; epoch++)
        cr_assert_eq(log_number("run.jsonl", "epoch", epoch, "loss"),
                     log_number("whole.jsonl", "epoch", epoch, "loss"));
}

/* ---- Checkpoints ------------------------------------------------------------------------------------------------- */
Test(program, a_resumed_run_equals_one_that_never_stopped) {
    line_train.checkpoint = "run.state";
    line_train.checkpoint_every = 2;
    line_train.early_stopping = (struct bp_early_stopping){.metric = 0, .better = -1, .patience = 3};
    expect_run(0, "--quiet --epochs 9 --seed 4 --log whole.jsonl");
    rename("line.safetensors", "whole");
    expect_run(0, "--quiet --epochs 5 --seed 4");
    expect_run(0, "--quiet --epochs 9 --resume run.state --log rest.jsonl");
    expect_same_file("line.safetensors", "whole");
    cr_assert_eq(log_number("rest.jsonl", "epoch", 0, "epoch"), 6);
    cr_assert_eq(log_number("rest.jsonl", "epoch", 0, "loss"), log_number("whole.jsonl", "epoch", 5, "loss"));
    remove("line.safetensors");
    expect_run(0, "--epochs 9 --resume run.state"); /* finished: nothing is trained, the rest is done */
    cr_assert(!strstr(output, "epoch 9/9"));
    expect_same_file("line.safetensors", "whole");
}

Test(program, a_signal_ends_the_step_and_the_run_goes_on_from_there) {
    line_train.checkpoint = "run.state";
    line_train.checkpoint_every = 100;
    expect_run(0, "--quiet --log whole.jsonl --threads 2");
    rename("line.safetensors", "whole");
    for (int64_t step = 3; step < 6; step++) { /* in the middle, and after the last batch, of epoch 2 */
        remove("run.state");
        hook.signal_at = step;
        expect_run(130, "--threads 2");
        expect_in(output, "interrupted in epoch 2; go on with --resume run.state\n");
        cr_assert_neq(access("line.safetensors", F_OK), 0);
        hook.signal_at = -1;
        remove("rest.jsonl");
        expect_run(0, "--quiet --resume run.state --threads 1 --log rest.jsonl");
        expect_same_file("line.safetensors", "whole");
        cr_assert_eq(log_number("rest.jsonl", "epoch", 0, "loss"), log_number("whole.jsonl", "epoch", 1, "loss"));
        remove("line.safetensors");
    }
}

/* Without a checkpoint the work is not lost: what was trained is saved, but not what had no epoch. */
Test(program, a_signal_saves_what_is_to_be_saved) {
    hook.signal_at = 1;
    expect_run(130, "");
    expect_in(output, "interrupted in epoch 1\n");
    cr_assert_neq(access("line.safetensors", F_OK), 0);
    hook.signal_at = 4;
    expect_run(130, "");
    expect_in(output, "interrupted in epoch 2\nsaved ");
    cr_assert_eq(access("line.safetensors", F_OK), 0);
    remove("line.safetensors");
    line_train.early_stopping = (struct bp_early_stopping){.metric = 0, .better = -1, .patience = 3};
    expect_run(130, "");
    expect_in(output, "interrupted in epoch 2\nweights of epoch 1 restored\nsaved ");
    rename("line.safetensors", "best");
    hook.signal_at = -1;
    expect_run(0, "--quiet --epochs 1");
    expect_same_file("line.safetensors", "best");
}

Test(program, a_checkpoint_of_another_run_is_refused) {
    line_train.checkpoint = "run.state";
    expect_run(0, "--quiet --seed 4 --set lr=0.02 --epochs 2");
    expect_run(1, "--resume run.state --seed 5 --set lr=0.03");
    expect_in(errors, "seed: 4 there, 5 here");
    expect_in(errors, "param lr: 0.02 there, 0.03 here");
    line_train.batch_size = 4;
    expect_run(1, "--resume run.state");
    expect_in(errors, "batch_size: 5 there, 4 here");
    line_train.batch_size = 5;
    line.name = "plane";
    expect_run(1, "--resume run.state");
    expect_in(errors, "program: 'line' there, 'plane' here");
    line.name = "line";
    expect_run(1, "--resume line.safetensors");
    expect_in(errors, "no checkpoint");
    expect_run(1, "--resume nowhere");
    expect_in(errors, "nowhere");
    struct bp_data data = line_data;
    data.split_seed = 9;
    line.data = &data;
    expect_run(1, "--resume run.state");
    expect_in(errors, "split otherwise");
    line.data = &line_data;
    FILE *file = fopen("line.csv", "a");
    fprintf(file, "1,1,0\n");
    fclose(file);
    expect_run(1, "--resume run.state");
    expect_in(errors, "has 21 rows, the checkpoint's run had 20");
}

/* ---- Weights from a file ----------------------------------------------------------------------------------------- */
static void write_weights(const char *path, int64_t rows, int64_t columns, int with_bias) {
    static const float values[3] = {7, 8, 9};
    struct bp_archive_tensor tensors[2] = {{"fc.weight", 2, {rows, columns}, values, BP_ROWS, NULL},
                                           {"fc.bias", 1, {1}, values + 2, BP_ROWS, NULL}};
    struct bp_error error;
    cr_assert(bp_archive_write(path, tensors, with_bias ? 2 : 1, NULL, NULL, 0, &error), "%s", error.text);
}

Test(program, weights_that_do_not_fit_are_all_told) {
    write_weights("w", 2, 1, 0);
    FILE *file = fopen("new.csv", "w");
    fprintf(file, "a,b\n1,2\n");
    fclose(file);
    expect_run(1, "predict --weights w new.csv");
    expect_in(errors, "'fc.weight' has the shape [2, 1], needed is [1, 2]: it is transposed");
    expect_in(errors, "'fc.bias' is missing: [1]");
    static const float value = 1;
    const struct bp_archive_tensor more[4] = {{"fc.weight", 2, {1, 2}, (const float[2]){1, 2}, BP_ROWS, NULL},
                                              {"fc.bias", 1, {1}, &value, BP_ROWS, NULL},
                                              {"bn.num_batches_tracked", 0, {0}, &value, BP_ROWS, NULL},
                                              {"fc2.bias", 1, {1}, &value, BP_ROWS, NULL}};
    struct bp_error error;
    cr_assert(bp_archive_write("w", more, 4, NULL, NULL, 0, &error));
    expect_run(1, "predict --weights w new.csv");
    expect_in(errors, "does not fit model 'Line':\n  'fc2.bias' is in the file, not in the model\n");
    write_weights("w", 1, 2, 1);
    expect_run(1, "predict --weights w new.csv");
    expect_in(errors, "holds no fitted values for data 'points'");
    expect_run(1, "predict --weights missing new.csv");
    expect_in(errors, "missing: cannot be opened: No such file or directory");
}

Test(program, a_model_from_a_checkpoint_keeps_what_is_not_replaced) {
    static const uint8_t loaded[2] = {1, 0};
    struct bp_data data = line_data;
    data.refit = 1;
    line.data = &data;
    write_weights("w", 1, 2, 1);
    line_model.from = "w";
    line_model.loaded = loaded;
    line.statements = line_statements + 2; /* save alone */
    line.statement_count = 1;
    expect_run(0, "--seed 0");
    float w[3];
    read_line("line.safetensors", w);
    cr_assert(w[0] == 7 && w[1] == 8 && w[2] == 0);
    data.refit = 0; /* the file has no fitted values, and the program must not make up its own */
    expect_run(1, "");
    expect_in(errors, "say 'refit'");
}

Test(program, another_split_than_the_weights_had_is_noted) {
    static const uint8_t loaded[2] = {1, 1};
    struct bp_data data = line_data;
    expect_run(0, "--quiet");
    rename("line.safetensors", "before");
    line_model.from = "before";
    line_model.loaded = loaded;
    line.data = &data;
    expect_run(0, "");
    cr_assert(!strstr(output, "note:"));
    data.split_seed = 1;
    expect_run(0, "");
    expect_in(output, "note: before was trained on data 'points' split otherwise");
}

Test(program, several_models_are_saved_by_name) {
    struct bp_model models[2] = {line_model, line_model};
    static const int32_t both[2] = {0, 1};
    struct bp_archive archive;
    struct bp_error error;
    models[1].name = "Other";
    line.models = models;
    line.model_count = 2;
    line_save = (struct bp_save){21, "two.safetensors", both, 2};
    expect_run(0, "--quiet");
    cr_assert(bp_archive_open(&archive, "two.safetensors", &error), "%s", error.text);
    cr_assert(bp_archive_find(&archive, "Line.fc.weight") && bp_archive_find(&archive, "Other.fc.bias"));
    cr_assert_str_eq(bp_archive_metadata(&archive, "bpc.model"), "Line,Other");
    cr_assert_str_eq(bp_archive_metadata(&archive, "format"), "pt");
    cr_assert_str_eq(bp_archive_metadata(&archive, "bpc.data"), "points");
    cr_assert_eq(archive.data_start % 8, 0);
    bp_archive_close(&archive);
    expect_run(2, "predict --weights two.safetensors line.csv");
    expect_in(errors, "several models can predict: say --model NAME (Line, Other)");
    expect_run(0, "predict --weights two.safetensors line.csv --model Other");
}

/* ---- Output that cannot be written ------------------------------------------------------------------------------- */
Test(program, what_cannot_be_written_is_said) {
    line_save.path = "no/such/place.safetensors";
    expect_run(1, "--quiet");
    expect_in(errors, "no/such/place.safetensors");
    cr_assert_eq(strcmp(output, ""), 0, "it is said before anything is trained");
    line_save.path = "line.safetensors";
    expect_run(1, "--log no/log.jsonl");
    expect_in(errors, "no/log.jsonl: cannot be written");
    expect_run(1, "--quiet --log /dev/full");
    expect_in(errors, "/dev/full: cannot be written: No space left on device");
    line_train.checkpoint = "no/run.state";
    expect_run(1, "--quiet");
    expect_in(errors, "no/run.state");
}

/* ---- Bench and gradients ----------------------------------------------------------------------------------------- */
Test(program, bench_prints_one_object) {
    static const char *const keys[] = {"us_per_step", "samples_per_second", "gflops",
                                       "threads",     "bytes_planned",      "bytes_peak"};
    struct bp_json json;
    struct bp_error error;
    remove("line.csv"); /* no file is needed */
    expect_run(0, "--bench 50 --threads 2");
    cr_assert(bp_json_parse(&json, output, strlen(output), &error), "%s", error.text);
    cr_assert_eq(json.count, 6);
    for (int i = 0; i < 6; i++)
        cr_assert(bp_json_get(&json, keys[i]) && bp_json_get(&json, keys[i])->number > 0, "%s", keys[i]);
    cr_assert_eq(bp_json_get(&json, "bytes_planned")->number, LINE_BYTES);
    double product = bp_json_get(&json, "us_per_step")->number * bp_json_get(&json, "samples_per_second")->number;
    cr_assert(fabs(product - 5e6) < 1, "a batch is 5 rows");
    bp_json_free(&json);
    expect_run(0, "predict --bench 100");
    cr_assert(bp_json_parse(&json, output, strlen(output), &error), "%s", error.text);
    cr_assert(bp_json_get(&json, "ns_per_row")->number > 0);
    bp_json_free(&json);
    cr_assert_neq(access("line.safetensors", F_OK), 0);
}

Test(program, check_grad_knows_a_wrong_gradient) {
    expect_run(0, "--check-grad");
    expect_in(output, "fc.weight");
    expect_in(output, "  ok\n");
    expect_in(output, "frozen\n");
    hook.gradient_factor = 1.0001;
    expect_run(1, "--check-grad");
    expect_in(output, "WRONG");
    expect_in(errors, "1 gradient is not what finite differences say");
    line_check.loss.code = NULL;
    expect_run(1, "--check-grad");
    expect_in(errors, "holds no gradient to check");
}

/* ---- The command line -------------------------------------------------------------------------------------------- */
Test(program, wrong_commands_exit_2) {
    static const char *const cases[][2] = {
        {"--epoch 3", "unknown option '--epoch', did you mean '--epochs'? try --help"},
        {"--xyzzy", "unknown option '--xyzzy'"},
        {"--epochs", "--epochs needs [PHASE=]N"},
        {"--epochs 0", "--epochs needs a whole number from 1"},
        {"--epochs 3x", "not '3x'"},
        {"--steps 0", "--steps needs a whole number from 1"},
        {"--steps Lime=3", "unknown phase 'Lime'"},
        {"--epochs Lime=3", "unknown phase 'Lime', did you mean 'Line'?"},
        {"--seed -1", "--seed needs a whole number"},
        {"--seed 18446744073709551616", "--seed needs a whole number"},
        {"--threads 0", "--threads needs a whole number from 1 to 1024"},
        {"--quiet=1", "--quiet takes no value"},
        {"--set lr=abc", "--set lr needs a number, not 'abc'"},
        {"--set rl=1", "unknown param 'rl'"},
        {"--data point=x.csv", "unknown data set 'point', did you mean 'points'?"},
        {"--data points", "--data needs NAME=PATH"},
        {"--weights x", "--weights is an option of predict"},
        {"prdict", "unknown command 'prdict', did you mean 'predict'?"},
        {"predict x.csv", "predict needs --weights FILE"},
        {"predict --weights x", "predict needs the file of the rows"},
        {"predict --weights x a b", "predict takes one file"},
        {"--phase Lines", "unknown phase 'Lines', did you mean 'Line'?"},
        {"--resume x --phase Line", "exclude each other"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_run(2, cases[i][0]);
        expect_in(errors, cases[i][1]);
        cr_assert(strchr(errors, '\n') == errors + strlen(errors) - 1, "more than a line: %s", errors);
        cr_assert_str_eq(output, "");
    }
    expect_run(0, "--help");
    expect_in(output, "--check-grad");
    expect_in(output, "params: lr = 0.05");
    expect_run(0, "--version");
    rename("line.csv", "moved.csv");
    expect_run(1, "--quiet");
    expect_in(errors, "line.csv");
    expect_run(0, "--quiet --data points=moved.csv");
}

/* ---- Classes ----------------------------------------------------------------------------------------------------- */
enum { SOFT_W = 128, SOFT_X = 192, SOFT_T = 256, SOFT_P = 320, SOFT_SUMS = 448, SOFT_TOTALS = 576, SOFT_METRICS = 704 };

/* logits: x, 0, -x */
static void soft_predict(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    for (int64_t i = 0; i < context->rows; i++) {
        float x = floats(context, SOFT_X)[i], *p = floats(context, SOFT_P) + 3 * i;
        float e[3] = {expf(x), 1, expf(-x)}, sum = e[0] + e[1] + e[2];
        for (int k = 0; k < 3; k++)
            p[k] = e[k] / sum;
    }
}

static const char *const soft_classes[3] = {"dog, big", "cat", "\xc3\xa9l\xc3\xa9phant"};
static const char *const soft_rows[] = {
    "1", "dog, big", "2", "dog, big", "-1", "cat", "-2", "\xc3\xa9l\xc3\xa9phant", "3", "\xc3\xa9l\xc3\xa9phant"};
static const char *const soft_names[2] = {"x", "kind"};
static int misplaced; /* rows whose place in the data is not what the context says */

static void soft_measure(const struct bp_context *context, int32_t thread, int32_t threads) {
    float *sums = floats(context, SOFT_SUMS);
    soft_predict(context, thread, threads);
    memset(sums, 0, 9 * sizeof *sums);
    for (int64_t i = 0; i < context->rows; i++) {
        const float *p = floats(context, SOFT_P) + 3 * i;
        misplaced += atof(soft_rows[2 * (context->position + i)]) != (double)floats(context, SOFT_X)[i];
        int best = p[1] > p[0] ? 1 : 0;
        best = p[2] > p[best] ? 2 : best;
        sums[3 * ((int32_t *)(void *)(context->memory + SOFT_T))[i] + best] += 1;
    }
}

static void soft_finish(const struct bp_context *context, int32_t thread, int32_t threads) {
    const double *totals = doubles(context, SOFT_TOTALS);
    double *metrics = doubles(context, SOFT_METRICS);
    (void)thread, (void)threads;
    metrics[0] = (totals[0] + totals[4] + totals[8]) / doubles(context, 0)[BP_SCALAR_ROWS];
    for (int k = 0; k < 3; k++)
        metrics[1 + k] = totals[4 * k] / (totals[3 * k] + totals[3 * k + 1] + totals[3 * k + 2]);
    memcpy(metrics + 4, totals, 9 * sizeof *totals);
}

Test(program, classes_are_told_by_name) {
    const int32_t input = 0, target = 1;
    struct bp_column columns[2] = {
        {.name = "x", .position = -1},
        {.name = "kind", .position = -1, .kind = BP_CATEGORY, .categories = soft_classes, .category_count = 3}};
    struct bp_slot slots[2] = {{"x", BP_F32, BP_SLOT_COLUMNS, 1, &input, 1, 0},
                               {"kind", BP_I32, BP_SLOT_COLUMNS, 1, &target, 1, 1}};
    struct bp_data data = {.name = "zoo",
                           .rows = soft_rows,
                           .row_count = 5,
                           .field_count = 2,
                           .field_names = soft_names,
                           .columns = columns,
                           .column_count = 2,
                           .slots = slots,
                           .slot_count = 2,
                           .stratify = -1};
    struct bp_feed feeds[2] = {{0, BP_F32, SOFT_X, BP_ROWS, 0, 0}, {1, BP_I32, SOFT_T, BP_ROWS, 0, 0}};
    struct bp_output result = {"kind", BP_OUTPUT_CLASS, 3, SOFT_P, soft_classes, NULL};
    struct bp_tensor tensor = {"w", 1, 0, {0}, SOFT_W, BP_ROWS};
    struct bp_model model = {.name = "Zoo",
                             .tensor_count = 1,
                             .predict = {"predict", soft_predict, 0, 4, feeds, 1},
                             .outputs = &result,
                             .output_count = 1};
    struct bp_metric metrics[3] = {{"accuracy", 1, 1, SOFT_METRICS, NULL, 1},
                                   {"recall", 3, 1, SOFT_METRICS + 8, soft_classes, 1},
                                   {"confusion_matrix", 3, 3, SOFT_METRICS + 32, soft_classes, 0}};
    struct bp_pass pass = {{"measure", soft_measure, 0, 4, feeds, 2},
                           {"finish", soft_finish, 0, 1, NULL, 0},
                           SOFT_SUMS,
                           SOFT_TOTALS,
                           9,
                           NULL,
                           0};
    struct bp_evaluate evaluate = {"Zoo on zoo.test", 9, 0, 0, BP_TEST, {&pass, 1, metrics, 3}};
    line.tensors = &tensor;
    line.tensor_count = 1;
    line.models = &model;
    line.data = &data;
    line.evaluates = &evaluate;
    line.train_count = 0;
    line.statements = line_statements + 1;
    line.statement_count = 2;
    expect_run(0, "--log run.jsonl");
    cr_assert_eq(misplaced, 0);
    expect_in(output,
              "Zoo on zoo.test (5 rows)\n  accuracy  0.6000\n  recall\n    dog, big  1.0000\n    cat       0.0000\n"
              "    \xc3\xa9l\xc3\xa9phant  0.5000\n"
              "  confusion_matrix (rows: actual, columns: predicted)\n"
              "              dog, big  cat  \xc3\xa9l\xc3\xa9phant\n"
              "    dog, big         2    0         0\n"
              "    cat              0    0         1\n"
              "    \xc3\xa9l\xc3\xa9phant         1    0         1\n");
    char *log = read_all("run.jsonl");
    expect_in(log, "\"confusion_matrix\":[[2,0,0],[0,0,1],[1,0,1]]");
    expect_in(log, "\"recall\":[1,0,0.5]");
    free(log);
    write_file("new.csv", "x\n0\n-1\n", 7);
    expect_run(0, "predict --weights line.safetensors new.csv");
    char *end = NULL;
    cr_assert(
        strncmp(output,
                "prediction,\"probability_dog, big\",probability_cat,probability_\xc3\xa9l\xc3\xa9phant\n\"dog, big\",",
                83) == 0,
        "%s", output);
    cr_assert_eq(strtof(strstr(output, "big\",0") + 5, &end), 1.0f / 3);
    expect_in(output, "\n\xc3\xa9l\xc3\xa9phant,0.0900305");
    static const char *const other[3] = {"cat", "dog, big", "\xc3\xa9l\xc3\xa9phant"};
    result.classes = other;
    expect_run(1, "predict --weights line.safetensors new.csv");
    expect_in(errors, "was trained with other classes of 'kind'");
}

/* ---- reduce_on_plateau ------------------------------------------------------------------------------------------- */

/* PyTorch's rates, to the last bit. */
Test(program, rates_fall_on_a_plateau_as_pytorchs) {
    for (size_t i = 0; i < sizeof plateau_cases / sizeof *plateau_cases; i++) {
        const struct plateau_case *at = &plateau_cases[i];
        struct bp_plateau_state state;
        bp_plateau_start(&at->plateau, &state);
        cr_expect_eq(state.rate, at->plateau.start);
        for (int epoch = 0; epoch < PLATEAU_EPOCHS; epoch++) {
            bp_plateau_step(&at->plateau, &state, at->values[epoch]);
            cr_expect_eq(state.rate, at->rates[epoch], "case %d, epoch %d: %.17g, not %.17g", (int)i, epoch + 1,
                         state.rate, at->rates[epoch]);
        }
    }
}
