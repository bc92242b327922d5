/* `predict`: raw rows in, a CSV of predictions out. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct predict_run {
    struct bp_instance *instance;
    const struct bp_model *model;
    struct bp_writer *writer;
    struct bp_text line;
    struct bp_error *error;
};

/* Quoted where a reader would need it. */
static void predict_field(struct bp_text *line, const char *field) {
    size_t length = strlen(field);
    int quote = length == 0 || strpbrk(field, ",\"\r\n") || field[0] == ' ' || field[length - 1] == ' ';
    if (!quote) {
        bp_text_add(line, field, length);
        return;
    }
    bp_text_add(line, "\"", 1);
    for (; *field; field++) {
        bp_text_add(line, field, 1);
        bp_text_add(line, "\"", *field == '"' ? 1 : 0);
    }
    bp_text_add(line, "\"", 1);
}

/* The fewest digits that read back as the same float. */
static void predict_number(struct bp_text *line, float value) {
    char digits[40];
    if (isnan(value) || isinf(value)) {
        const char *word = isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
        bp_text_add(line, word, strlen(word));
        return;
    }
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        float back = strtof(digits, NULL); /* the same locale wrote and reads it */
        if (memcmp(&back, &value, sizeof value) == 0)
            break;
    }
    bp_point(digits);
    bp_text_add(line, digits, strlen(digits));
}

/* ---- Header and rows --------------------------------------------------------------------------------------------- */
static void predict_name(struct bp_text *line, const char *prefix, const char *name, const char *suffix) {
    struct bp_text field = {0};
    bp_text_printf(&field, "%s%s%s%s", prefix, *prefix ? "_" : "", name, suffix);
    bp_text_add(line, ",", line->length > 0 ? 1 : 0);
    predict_field(line, field.failed ? "" : field.at);
    line->failed |= field.failed;
    bp_text_free(&field);
}

static void predict_header(const struct bp_model *model, struct bp_text *line) {
    for (int32_t o = 0; o < model->output_count; o++) {
        const struct bp_output *output = &model->outputs[o];
        const char *prefix = model->output_count > 1 ? output->name : "";
        if (output->kind == BP_OUTPUT_NUMBER) {
            for (int32_t i = 0; i < output->width; i++) {
                char suffix[24] = "";
                if (output->width > 1 && !output->columns)
                    snprintf(suffix, sizeof suffix, "_%d", (int)i);
                predict_name(line, "", output->columns ? output->columns[i] : output->name, suffix);
            }
            continue;
        }
        predict_name(line, prefix, "prediction", "");
        if (output->kind == BP_OUTPUT_BINARY)
            predict_name(line, prefix, "probability", "");
        for (int32_t i = 0; output->kind == BP_OUTPUT_CLASS && i < output->width; i++)
            predict_name(line, prefix, "probability_", output->classes[i]);
    }
    bp_text_add(line, "\n", 1);
}

static void predict_output(const struct bp_output *output, const float *values, struct bp_text *line) {
    int32_t best = 0;
    if (output->kind == BP_OUTPUT_CLASS) {
        for (int32_t i = 1; i < output->width; i++)
            if (values[i] > values[best])
                best = i;
        predict_field(line, output->classes[best]);
        bp_text_add(line, ",", 1);
    } else if (output->kind == BP_OUTPUT_BINARY) {
        predict_field(line, output->classes[values[0] >= 0.5f]);
        bp_text_add(line, ",", 1);
    }
    for (int32_t i = 0; i < output->width; i++) {
        bp_text_add(line, ",", i > 0 ? 1 : 0);
        predict_number(line, values[i]);
    }
}

static int predict_put(struct predict_run *run) {
    int ok = !run->line.failed ? bp_writer_put(run->writer, run->line.at, run->line.length, run->error)
                               : bp_fail(run->error, "out of memory for a line of predictions");
    run->line.length = 0;
    return ok;
}

/* A class must not be guessed from values that are not numbers. */
static int predict_finite(struct predict_run *run, const struct bp_output *output, const float *values, int64_t row) {
    int64_t at = output->kind == BP_OUTPUT_NUMBER ? output->width : bp_finite_prefix(values, output->width);
    return at == output->width ||
           bp_fail(run->error, "row %lld: the probabilities of '%s' are not numbers", (long long)row + 1, output->name);
}

static int predict_rows(void *argument, int64_t place, int64_t rows) {
    struct predict_run *run = argument;
    for (int64_t row = 0; row < rows; row++) {
        for (int32_t o = 0; o < run->model->output_count; o++) {
            const struct bp_output *output = &run->model->outputs[o];
            const float *values = (const float *)(const void *)(run->instance->memory + output->offset);
            if (!predict_finite(run, output, values + row * output->width, place + row))
                return 0;
            bp_text_add(&run->line, ",", o > 0 ? 1 : 0);
            predict_output(output, values + row * output->width, &run->line);
        }
        bp_text_add(&run->line, "\n", 1);
    }
    return predict_put(run);
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */
static int predict_classes(const struct bp_output *output, const struct bp_json *classes) {
    int32_t count = output->kind == BP_OUTPUT_BINARY ? 2 : output->width;
    int same = classes->kind == BP_JSON_ARRAY && classes->count == count;
    for (int32_t i = 0; same && i < count; i++)
        same = classes->items[i].kind == BP_JSON_STRING && strcmp(classes->items[i].string, output->classes[i]) == 0;
    return same;
}

int bp_predict_same_classes(const struct bp_model *model, const struct bp_archive *archive, struct bp_error *error) {
    const char *text = bp_archive_metadata(archive, "bpc.classes");
    struct bp_json json;
    struct bp_error inner;
    int ok = 1;
    if (!text)
        return 1;
    if (!bp_json_parse(&json, text, strlen(text), &inner))
        ok = bp_fail(error, "%s: the metadata bpc.classes is damaged: %.700s", archive->path, inner.text);
    for (int32_t o = 0; ok && o < model->output_count; o++) {
        const struct bp_output *output = &model->outputs[o];
        struct bp_text key = {0};
        bp_text_printf(&key, "%s.%s", model->name, output->name);
        const struct bp_json *classes = bp_json_get(&json, output->name);
        if (!classes && !key.failed)
            classes = bp_json_get(&json, key.at);
        bp_text_free(&key);
        if (classes && output->kind != BP_OUTPUT_NUMBER && !predict_classes(output, classes))
            ok = bp_fail(error, "%s was trained with other classes of '%s' than this program has", archive->path,
                         output->name);
    }
    bp_json_free(&json);
    return ok;
}

static int predict_weights(struct bp_instance *instance, int32_t model, double *fitted, char **vocabulary,
                           struct bp_error *error) {
    const struct bp_model *described = &instance->program->models[model];
    const struct bp_data *data = &instance->program->data[described->data];
    struct bp_archive archive;
    if (!bp_archive_open(&archive, instance->options->weights, error))
        return 0;
    bp_model_init(instance, model);
    int ok = bp_model_load(instance, model, &archive, NULL, error) &&
             bp_predict_same_classes(described, &archive, error) && bp_model_fitted(data, &archive, fitted, error);
    if (ok && bp_data_has_words(data)) {
        *vocabulary = bp_model_vocabulary(data, &archive, error);
        ok = *vocabulary != NULL;
    }
    bp_archive_close(&archive);
    if (ok)
        bp_instance_fitted(instance, described->data, fitted);
    return ok;
}

/* --model, or the only one that can predict, or the only such one that the file names. -1 with an error. */
int32_t bp_predict_model(struct bp_instance *instance, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    const char *wanted = instance->options->model;
    struct bp_text names = {0};
    int32_t found = -1, count = 0;
    for (int32_t i = 0; i < program->model_count; i++) {
        int able = program->models[i].data >= 0 && program->models[i].predict.code;
        if (wanted && strcmp(wanted, program->models[i].name) == 0 && !able)
            bp_fail(error, "model '%s' cannot predict: no data set says what its columns are", wanted);
        if (wanted ? strcmp(wanted, program->models[i].name) != 0 : !able)
            continue;
        bp_text_printf(&names, "%s%s", count ? ", " : "", program->models[i].name);
        count += able;
        found = able ? i : found;
    }
    if (count == 0 && !wanted)
        bp_fail(error, "no model of this program can predict: no data set says what its columns are");
    if (count > 1) {
        bp_fail(error, "several models can predict: say --model NAME (%.800s)", names.failed ? "" : names.at);
        found = -1;
    }
    bp_text_free(&names);
    return found;
}

static enum bp_outcome predict_sweep(struct predict_run *run, const struct bp_table *table) {
    struct bp_sweep sweep = {0};
    sweep.instance = run->instance;
    sweep.function = &run->model->predict;
    sweep.memory = run->instance->memory;
    sweep.table = table;
    sweep.order = table->parts[BP_ALL];
    sweep.rows = table->part_rows[BP_ALL];
    sweep.ascending_by_one = 1; /* predicting keeps every row, in order */
    sweep.batch = run->model->predict.capacity;
    sweep.last = (sweep.rows + sweep.batch - 1) / sweep.batch;
    sweep.after = predict_rows;
    sweep.argument = run;
    predict_header(run->model, &run->line);
    if (!predict_put(run))
        return BP_FAILED;
    bp_sweep_run(&sweep);
    return sweep.end == BP_SWEEP_DONE ? BP_OK : sweep.end == BP_SWEEP_INTERRUPTED ? BP_INTERRUPTED : BP_FAILED;
}

static enum bp_outcome predict_write(struct bp_instance *instance, const struct bp_model *model,
                                     const struct bp_table *table, struct bp_error *error) {
    const char *path = instance->options->output ? instance->options->output : "-";
    if (bp_same_file(path, instance->options->input)) {
        bp_fail(error, "cannot write '%s': it is the file of the rows", path);
        return BP_FAILED;
    }
    struct predict_run run = {instance, model, NULL, {0}, error};
    run.writer = bp_writer_open(path, error);
    if (!run.writer)
        return BP_FAILED;
    enum bp_outcome outcome = predict_sweep(&run, table);
    bp_text_free(&run.line);
    if (outcome != BP_OK)
        bp_writer_abandon(run.writer);
    else if (!bp_writer_commit(run.writer, error))
        outcome = BP_FAILED;
    return outcome;
}

enum bp_outcome bp_predict_run(struct bp_instance *instance, struct bp_error *error) {
    int32_t index = bp_predict_model(instance, error);
    if (index < 0)
        return BP_USAGE;
    const struct bp_model *model = &instance->program->models[index];
    const struct bp_data *data = &instance->program->data[model->data];
    double *fitted = bp_allocate(((size_t)data->fitted_count + 1) * sizeof *fitted, "fitted values", error);
    struct bp_data_options options = {
        .path = instance->options->input, .fitted = fitted, .predicting = 1, .threads = instance->threads};
    char *vocabulary = NULL;
    struct bp_table table;
    enum bp_outcome outcome = BP_FAILED;
    int ready = fitted && predict_weights(instance, index, fitted, &vocabulary, error);
    options.vocabulary = vocabulary;
    if (ready && bp_table_load(&table, data, &options, error)) {
        outcome = predict_write(instance, model, &table, error);
        bp_table_free(&table);
    }
    free(vocabulary);
    free(fitted);
    return outcome;
}
