/* One run of a program: its block of memory, its data sets as they are loaded, its scalars. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static char *instance_block(const struct bp_program *program, int32_t threads, struct bp_error *error) {
    uint64_t scratch = (uint64_t)(threads > 1 ? threads : 1) * program->scratch_bytes;
    return bp_allocate((size_t)(program->memory_bytes + scratch), "the network", error);
}

int bp_instance_start(struct bp_instance *instance, const struct bp_program *program, const struct bp_options *options,
                      struct bp_log *log, struct bp_error *error) {
    memset(instance, 0, sizeof *instance);
    instance->program = program;
    instance->options = options;
    instance->log = log;
    instance->seed = options->seed;
    instance->threads = options->threads;
    size_t data = (size_t)program->data_count + 1, models = (size_t)program->model_count + 1;
    instance->memory = instance_block(program, instance->threads, error);
    instance->tables = bp_allocate(data * sizeof *instance->tables, "the data sets", error);
    instance->table_loaded = bp_allocate(data, "the data sets", error);
    instance->model_ready = bp_allocate(models, "the models", error);
    instance->expectations = bp_allocate(data * sizeof *instance->expectations, "the data sets", error);
    if (!instance->memory || !instance->tables || !instance->table_loaded || !instance->model_ready ||
        !instance->expectations) {
        bp_instance_free(instance);
        return 0;
    }
    for (int32_t i = 0; i < program->param_count; i++)
        bp_scalars(instance)[BP_SCALAR_COUNT + i] = options->params[i];
    return 1;
}

int bp_instance_threads(struct bp_instance *instance, int32_t threads, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    if (threads > instance->threads && program->scratch_bytes > 0) {
        char *larger = instance_block(program, threads, error);
        if (!larger)
            return 0;
        memcpy(larger, instance->memory, (size_t)program->memory_bytes);
        free(instance->memory);
        instance->memory = larger;
    }
    instance->threads = threads;
    return 1;
}

void bp_instance_free(struct bp_instance *instance) {
    for (int32_t i = 0; instance->table_loaded && i < instance->program->data_count; i++)
        if (instance->table_loaded[i])
            bp_table_free(&instance->tables[i]);
    for (int32_t i = 0; instance->expectations && i < instance->program->data_count; i++)
        free(instance->expectations[i].fitted);
    free(instance->memory);
    free(instance->tables);
    free(instance->table_loaded);
    free(instance->model_ready);
    free(instance->expectations);
    memset(instance, 0, sizeof *instance);
}

double *bp_scalars(struct bp_instance *instance) {
    return (double *)(void *)instance->memory;
}

float *bp_tensor_values(const struct bp_instance *instance, int32_t tensor) {
    return (float *)(void *)(instance->memory + instance->program->tensors[tensor].offset);
}

double bp_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- Data sets --------------------------------------------------------------------------------------------------- */
int bp_program_saves(const struct bp_program *program, const char *path) {
    for (int32_t i = 0; i < program->save_count; i++)
        if (!strcmp(program->saves[i].path, path))
            return 1;
    return 0;
}

/* The checkpoint whose fitted values a data set uses, NULL: it fits its own. Frozen layers must see the units that they
   were trained with, so a model that comes from a checkpoint brings them, unless the program says `refit`. */
static const char *instance_preprocessing(const struct bp_program *program, int32_t data) {
    const struct bp_data *set = &program->data[data];
    if (set->preprocessing_from || set->refit || (set->fitted_count == 0 && !bp_data_has_words(set)))
        return set->preprocessing_from;
    for (int32_t i = 0; i < program->model_count; i++)
        if (program->models[i].from && program->models[i].data == data &&
            !bp_program_saves(program, program->models[i].from))
            return program->models[i].from;
    return NULL;
}

static int instance_load_fitted(const struct bp_data *data, const char *path, double *fitted, char **vocabulary,
                                struct bp_error *error) {
    struct bp_archive archive;
    if (!bp_archive_open(&archive, path, error))
        return 0;
    int ok = bp_model_fitted(data, &archive, fitted, error);
    if (ok && bp_data_has_words(data)) {
        *vocabulary = bp_model_vocabulary(data, &archive, error);
        ok = *vocabulary != NULL;
    }
    bp_archive_close(&archive);
    return ok;
}

int bp_instance_given(struct bp_instance *instance, int32_t data, double *fitted, int *given, struct bp_error *error) {
    const char *path = instance_preprocessing(instance->program, data);
    *given = path != NULL;
    char *vocabulary = NULL; /* a host has no texts */
    int ok = !path || instance_load_fitted(&instance->program->data[data], path, fitted, &vocabulary, error);
    free(vocabulary);
    return ok;
}

/* A resumed run must see the rows that the stopped one saw. */
static int instance_expected(const struct bp_expectation *expected, const struct bp_table *table,
                             struct bp_error *error) {
    const char *name = table->data->name;
    if (!expected->given)
        return 1;
    if (expected->rows != table->rows)
        return bp_fail(error, "data '%s' has %lld rows, the checkpoint's run had %lld", name, (long long)table->rows,
                       (long long)expected->rows);
    if (expected->split != bp_table_split_hash(table))
        return bp_fail(error,
                       "data '%s' is split otherwise than in the checkpoint's run: its test rows would be trained on",
                       name);
    struct bp_text fitted = {0};
    bp_fitted_write(table->data, table->fitted, &fitted);
    int same = !fitted.failed && (!expected->fitted || strcmp(fitted.at ? fitted.at : "", expected->fitted) == 0);
    bp_text_free(&fitted);
    return same ||
           bp_fail(error, "data '%s' gives other fitted values than in the checkpoint's run: its numbers changed",
                   name);
}

/* Rows that are tested here may have been trained on where the weights come from: said aloud, for the file cannot know
   whether data of the same name is the same data. */
static int instance_note_splits(struct bp_instance *instance, int32_t data, struct bp_error *error) {
    for (int32_t i = 0; i < instance->program->model_count; i++) {
        const struct bp_model *model = &instance->program->models[i];
        struct bp_archive archive;
        if (!model->from || model->data != data || bp_program_saves(instance->program, model->from))
            continue;
        if (!bp_archive_open(&archive, model->from, error))
            return 0;
        if (!bp_model_same_split(&archive, &instance->tables[data]))
            bp_say(
                instance->log,
                "note: %s was trained on data '%s' split otherwise: rows tested here may have been trained on there\n",
                model->from, instance->program->data[data].name);
        bp_archive_close(&archive);
    }
    return 1;
}

int bp_instance_table(struct bp_instance *instance, int32_t data, struct bp_error *error) {
    if (instance->table_loaded[data])
        return 1;
    const struct bp_data *set = &instance->program->data[data];
    struct bp_data_options options = {
        .path = instance->options->data_paths[data], .fold = instance->fold, .threads = instance->threads};
    const char *preprocessing = instance_preprocessing(instance->program, data);
    double *fitted = NULL;
    char *vocabulary = NULL;
    int ok = 1;
    if (preprocessing) {
        fitted = bp_allocate(((size_t)set->fitted_count + 1) * sizeof *fitted, "fitted values", error);
        ok = fitted && instance_load_fitted(set, preprocessing, fitted, &vocabulary, error);
        options.fitted = fitted;
        options.vocabulary = vocabulary;
    }
    struct bp_table *table = &instance->tables[data];
    ok = ok && bp_table_load(table, set, &options, error);
    free(vocabulary);
    free(fitted);
    if (!ok)
        return 0;
    instance->table_loaded[data] = 1;
    bp_instance_fitted(instance, data, table->fitted);
    if (table->dropped > 0)
        bp_say(instance->log, "%s: %lld rows dropped for missing values, %lld kept\n", set->name,
               (long long)table->dropped, (long long)table->rows);
    return instance_expected(&instance->expectations[data], table, error) &&
           instance_note_splits(instance, data, error);
}

void bp_instance_forget(struct bp_instance *instance, int32_t data) {
    const struct bp_program *program = instance->program;
    if (instance->table_loaded[data])
        bp_table_free(&instance->tables[data]);
    instance->table_loaded[data] = 0;
    for (int32_t i = 0; i < program->train_count; i++)
        for (int32_t m = 0; program->trains[i].data == data && m < program->trains[i].model_count; m++)
            instance->model_ready[program->trains[i].models[m]] = 0;
}

void bp_instance_fitted(struct bp_instance *instance, int32_t data, const double *fitted) {
    const struct bp_data *set = &instance->program->data[data];
    if (set->fitted_count > 0)
        memcpy(instance->memory + set->fitted_offset, fitted, (size_t)set->fitted_count * sizeof *fitted);
}

static int instance_has_parts(const struct bp_data *data) {
    for (int32_t i = 0; i < data->file_count; i++)
        if (data->files[i].part != BP_ALL)
            return 1;
    return data->folds > 0 || data->train > 0 || data->validation > 0 || data->test > 0;
}

int bp_instance_part(struct bp_instance *instance, int32_t data, enum bp_part part, const int64_t **order,
                     int64_t *rows, struct bp_error *error) {
    static const char *const names[BP_PARTS] = {"training", "validation", "test", "whole"};
    const struct bp_table *table = &instance->tables[data];
    if (!instance_has_parts(table->data))
        part = BP_ALL;
    *order = table->parts[part];
    *rows = table->part_rows[part];
    if (*rows > 0)
        return 1;
    if (part == BP_ALL)
        return bp_fail(error, "data '%s' has no rows", table->data->name);
    return bp_fail(error, "the %s part of data '%s' has no rows (it has %lld in all)", names[part], table->data->name,
                   (long long)table->rows);
}
