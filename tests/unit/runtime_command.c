/* What surrounds a run of a program: weights from files, output, the command line, predictions of classes; on the program of
   line_program.h and on a softmax classifier whose weights are given. */
#define _GNU_SOURCE
#include "line_program.h"

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
    struct bp_feed feeds[2] = {{0, BP_F32, SOFT_X, BP_ROWS, 0, 0, 0}, {1, BP_I32, SOFT_T, BP_ROWS, 0, 0, 0}};
    struct bp_output result = {"kind", BP_OUTPUT_CLASS, 3, SOFT_P, soft_classes, NULL};
    struct bp_tensor tensor = {"w", 1, 0, {0}, SOFT_W, BP_ROWS};
    struct bp_model model = {.name = "Zoo",
                             .tensor_count = 1,
                             .predict = {"predict", soft_predict, 0, 4, feeds, 1, NULL, NULL, 0},
                             .outputs = &result,
                             .output_count = 1};
    struct bp_metric metrics[3] = {{"accuracy", 1, 1, SOFT_METRICS, NULL, 1},
                                   {"recall", 3, 1, SOFT_METRICS + 8, soft_classes, 1},
                                   {"confusion_matrix", 3, 3, SOFT_METRICS + 32, soft_classes, 0}};
    struct bp_pass pass = {{"measure", soft_measure, 0, 4, feeds, 2, NULL, NULL, 0},
                           {"finish", soft_finish, 0, 1, NULL, 0, NULL, NULL, 0},
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
