/* What --resume reads: every weight, the optimizer's state, the best weights so far, and where the run stands. It is a
   safetensors file; its metadata "bpc.checkpoint" is JSON. Numbers that must come back to the bit are sixteen
   hexadecimal digits: of a double its bits. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

/* ---- Writing ----------------------------------------------------------------------------------------------------- */
static void checkpoint_bits(struct bp_text *json, uint64_t value) {
    bp_text_printf(json, "\"%016llx\"", (unsigned long long)value);
}

static void checkpoint_double(struct bp_text *json, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    checkpoint_bits(json, bits);
}

static void checkpoint_tables(struct bp_instance *instance, struct bp_text *json) {
    int first = 1;
    bp_text_printf(json, ",\"data\":{");
    for (int32_t i = 0; i < instance->program->data_count; i++) {
        const struct bp_table *table = &instance->tables[i];
        if (!instance->table_loaded[i])
            continue;
        struct bp_text fitted = {0};
        bp_fitted_write(table->data, table->fitted, &fitted);
        bp_text_add(json, ",", first ? 0 : 1);
        bp_text_json(json, table->data->name);
        bp_text_printf(json, ":{\"rows\":%lld,\"split\":", (long long)table->rows);
        checkpoint_bits(json, bp_table_split_hash(table));
        bp_text_printf(json, ",\"fitted\":");
        bp_text_json(json, fitted.at && !fitted.failed ? fitted.at : "");
        bp_text_add(json, "}", 1);
        json->failed |= fitted.failed;
        bp_text_free(&fitted);
        first = 0;
    }
    bp_text_add(json, "}", 1);
}

static void checkpoint_describe(struct bp_instance *instance, const struct bp_progress *progress,
                                struct bp_text *json) {
    const struct bp_program *program = instance->program;
    const struct bp_train *train = &program->trains[progress->train];
    int first = 1;
    bp_text_printf(json, "{\"program\":");
    bp_text_json(json, program->name);
    bp_text_printf(json, ",\"phase\":");
    bp_text_json(json, train->name);
    bp_text_printf(json,
                   ",\"statement\":%d,\"epoch\":%lld,\"batch\":%lld,\"batches\":%lld,\"batch_size\":%lld,\"seed\":",
                   (int)progress->statement, (long long)progress->epoch, (long long)progress->batch,
                   (long long)progress->batches, (long long)train->batch_size);
    checkpoint_bits(json, instance->seed);
    bp_text_printf(json, ",\"stopped\":%s,\"waited\":%lld,\"best_epoch\":%lld,\"best_value\":",
                   progress->stopped ? "true" : "false", (long long)progress->waited, (long long)progress->best_epoch);
    checkpoint_double(json, progress->best_value);
    if (train->plateau.start > 0) {
        bp_text_printf(json, ",\"bad\":%lld,\"cooling\":%lld,\"rate\":", (long long)progress->plateau.bad,
                       (long long)progress->plateau.cooling);
        checkpoint_double(json, progress->plateau.rate);
        bp_text_printf(json, ",\"plateau_best\":");
        checkpoint_double(json, progress->plateau.best);
    }
    bp_text_printf(json, ",\"totals\":[");
    for (int32_t i = 0; i < progress->sum_count; i++) {
        bp_text_add(json, ",", i > 0 ? 1 : 0);
        checkpoint_double(json, progress->totals[i]);
    }
    bp_text_printf(json, "],\"params\":{");
    for (int32_t i = 0; i < program->param_count; i++) {
        bp_text_add(json, ",", i > 0 ? 1 : 0);
        bp_text_json(json, program->params[i].name);
        bp_text_add(json, ":", 1);
        checkpoint_double(json, bp_scalars(instance)[BP_SCALAR_COUNT + i]);
    }
    bp_text_printf(json, "},\"models\":[");
    for (int32_t i = 0; i < program->model_count; i++)
        if (instance->model_ready[i]) {
            bp_text_add(json, ",", first ? 0 : 1);
            bp_text_json(json, program->models[i].name);
            first = 0;
        }
    bp_text_add(json, "]", 1);
    checkpoint_tables(instance, json);
    bp_text_add(json, "}", 1);
}

/* Tensors carry their index: names of two models, or of two states, may be equal. */
static int checkpoint_name(const struct bp_program *program, int32_t tensor, char name[512], struct bp_error *error) {
    int length = snprintf(name, 512, "%d.%s", (int)tensor, program->tensors[tensor].name);
    return length < 512 ||
           bp_fail(error, "the name of '%.200s' is too long for a checkpoint", program->tensors[tensor].name);
}

struct checkpoint_list {
    struct bp_archive_tensor *tensors;
    char (*names)[512];
    int32_t count;
};

static int checkpoint_add(struct bp_instance *instance, struct checkpoint_list *list, int32_t first, int32_t count,
                          struct bp_error *error) {
    for (int32_t i = first; i < first + count; i++, list->count++) {
        const struct bp_tensor *tensor = &instance->program->tensors[i];
        struct bp_archive_tensor *out = &list->tensors[list->count];
        if (!checkpoint_name(instance->program, i, list->names[list->count], error))
            return 0;
        out->name = list->names[list->count];
        out->rank = tensor->rank;
        memcpy(out->shape, tensor->shape, sizeof tensor->shape);
        out->values = bp_tensor_values(instance, i);
        out->layout = tensor->layout;
    }
    return 1;
}

static int checkpoint_list(struct bp_instance *instance, const struct bp_progress *progress,
                           struct checkpoint_list *list, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    const struct bp_train *train = &program->trains[progress->train];
    size_t most = (size_t)train->state_count + 1;
    for (int32_t i = 0; i < program->model_count; i++)
        most += (size_t)program->models[i].tensor_count;
    list->tensors = bp_allocate(most * sizeof *list->tensors, "the list of tensors", error);
    list->names = bp_allocate(most * sizeof *list->names, "the list of tensors", error);
    if (!list->tensors || !list->names)
        return 0;
    for (int32_t i = 0; i < program->model_count; i++)
        if (instance->model_ready[i] &&
            !checkpoint_add(instance, list, program->models[i].first_tensor, program->models[i].tensor_count, error))
            return 0;
    if (!checkpoint_add(instance, list, train->first_state, train->state_count, error))
        return 0;
    if (bp_best_is_kept(&progress->best) && progress->best_epoch > 0) {
        struct bp_archive_tensor best = {.name = "best", .rank = 1, .shape = {progress->best.count}, .best = &progress->best};
        list->tensors[list->count++] = best;
    }
    return 1;
}

int bp_checkpoint_write(struct bp_instance *instance, const struct bp_progress *progress, struct bp_error *error) {
    const char *path = instance->program->trains[progress->train].checkpoint;
    const char *keys[] = {"bpc.version", "bpc.checkpoint"};
    struct bp_text json = {0};
    struct checkpoint_list list = {0};
    checkpoint_describe(instance, progress, &json);
    int ok = !json.failed || bp_fail(error, "%s: out of memory", path);
    if (ok && checkpoint_list(instance, progress, &list, error)) {
        const char *values[] = {instance->program->version, json.at};
        ok = bp_archive_write(path, list.tensors, list.count, keys, values, 2, error);
    } else {
        ok = 0;
    }
    free(list.tensors);
    free(list.names);
    bp_text_free(&json);
    if (ok) {
        struct bp_text line = {0};
        bp_text_printf(&line, "{\"event\":\"checkpoint\",\"path\":");
        bp_text_json(&line, path);
        bp_text_printf(&line, ",\"epoch\":%lld,\"batch\":%lld}", (long long)progress->epoch,
                       (long long)progress->batch);
        ok = bp_log_line(instance->log, &line, error);
    }
    return ok;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */
struct checkpoint_reader {
    struct bp_instance *instance;
    const char *path;
    const struct bp_json *json;
    struct bp_text problems; /* what differs, a line each */
    int damaged;
};

static const struct bp_json *checkpoint_item(struct checkpoint_reader *reader, const char *key,
                                             enum bp_json_kind kind) {
    const struct bp_json *item = bp_json_get(reader->json, key);
    if (item && item->kind == kind)
        return item;
    reader->damaged = 1;
    return NULL;
}

static int64_t checkpoint_integer(struct checkpoint_reader *reader, const char *key) {
    const struct bp_json *item = checkpoint_item(reader, key, BP_JSON_NUMBER);
    if (item && item->is_integer && item->integer >= 0)
        return item->integer;
    reader->damaged = 1;
    return 0;
}

static uint64_t checkpoint_read_bits(struct checkpoint_reader *reader, const struct bp_json *item) {
    char *end = NULL;
    if (!item || item->kind != BP_JSON_STRING || strlen(item->string) != 16 ||
        strspn(item->string, "0123456789abcdef") != 16) {
        reader->damaged = 1;
        return 0;
    }
    return (uint64_t)strtoull(item->string, &end, 16);
}

static double checkpoint_read_double(struct checkpoint_reader *reader, const struct bp_json *item) {
    uint64_t bits = checkpoint_read_bits(reader, item);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void checkpoint_same_name(struct checkpoint_reader *reader, const char *key, const char *ours) {
    const struct bp_json *item = checkpoint_item(reader, key, BP_JSON_STRING);
    if (item && strcmp(item->string, ours) != 0)
        bp_text_printf(&reader->problems, "\n  %s: '%.100s' there, '%s' here", key, item->string, ours);
}

static void checkpoint_seed(struct checkpoint_reader *reader) {
    uint64_t seed = checkpoint_read_bits(reader, bp_json_get(reader->json, "seed"));
    if (!reader->instance->options->seed_given)
        reader->instance->seed = seed;
    else if (reader->instance->seed != seed)
        bp_text_printf(&reader->problems, "\n  seed: %llu there, %llu here", (unsigned long long)seed,
                       (unsigned long long)reader->instance->seed);
}

static void checkpoint_params(struct checkpoint_reader *reader) {
    const struct bp_program *program = reader->instance->program;
    const struct bp_json *params = checkpoint_item(reader, "params", BP_JSON_OBJECT);
    double *values = bp_scalars(reader->instance) + BP_SCALAR_COUNT;
    if (params && params->count != program->param_count)
        bp_text_printf(&reader->problems, "\n  params: %d there, %d here", (int)params->count,
                       (int)program->param_count);
    for (int32_t i = 0; params && i < program->param_count; i++) {
        const struct bp_json *item = bp_json_get(params, program->params[i].name);
        if (!item) {
            bp_text_printf(&reader->problems, "\n  param %s: not there", program->params[i].name);
            continue;
        }
        double value = checkpoint_read_double(reader, item);
        if (!reader->instance->options->param_given[i]) {
            values[i] = value;
        } else if (memcmp(&value, &values[i], sizeof value) != 0) {
            bp_text_printf(&reader->problems, "\n  param %s: ", program->params[i].name);
            bp_text_number(&reader->problems, value);
            bp_text_printf(&reader->problems, " there, ");
            bp_text_number(&reader->problems, values[i]);
            bp_text_printf(&reader->problems, " here");
        }
    }
}

static int checkpoint_models(struct checkpoint_reader *reader, struct bp_error *error) {
    struct bp_instance *instance = reader->instance;
    const struct bp_json *models = checkpoint_item(reader, "models", BP_JSON_ARRAY);
    for (int32_t i = 0; models && i < models->count; i++) {
        const char *name = models->items[i].kind == BP_JSON_STRING ? models->items[i].string : "";
        int32_t found = 0;
        while (found < instance->program->model_count && strcmp(instance->program->models[found].name, name) != 0)
            found++;
        if (found == instance->program->model_count)
            return bp_fail(error, "%s: model '%.100s' is not in this program", reader->path, name);
        instance->model_ready[found] = 1;
    }
    return 1;
}

static int checkpoint_data(struct checkpoint_reader *reader, struct bp_error *error) {
    struct bp_instance *instance = reader->instance;
    const struct bp_json *sets = checkpoint_item(reader, "data", BP_JSON_OBJECT);
    for (int32_t i = 0; sets && i < instance->program->data_count; i++) {
        const struct bp_json *set = bp_json_get(sets, instance->program->data[i].name);
        const struct bp_json *rows = set ? bp_json_get(set, "rows") : NULL,
                             *fitted = set ? bp_json_get(set, "fitted") : NULL;
        if (!set)
            continue;
        if (!rows || !rows->is_integer || !fitted || fitted->kind != BP_JSON_STRING) {
            reader->damaged = 1;
            return 1;
        }
        struct bp_expectation *expected = &instance->expectations[i];
        expected->given = 1;
        expected->rows = rows->integer;
        expected->split = checkpoint_read_bits(reader, bp_json_get(set, "split"));
        expected->fitted = strdup(fitted->string);
        if (!expected->fitted)
            return bp_fail(error, "%s: out of memory", reader->path);
    }
    return 1;
}

static int checkpoint_statement(struct checkpoint_reader *reader, int32_t *statement, struct bp_error *error) {
    const struct bp_program *program = reader->instance->program;
    int64_t index = checkpoint_integer(reader, "statement");
    checkpoint_same_name(reader, "program", program->name);
    if (index >= program->statement_count || program->statements[index].kind != BP_DO_TRAIN)
        return bp_fail(error, "%s: statement %lld of this program trains nothing: it was written by another program",
                       reader->path, (long long)index + 1);
    *statement = (int32_t)index;
    const struct bp_train *train = &program->trains[program->statements[index].index];
    checkpoint_same_name(reader, "phase", train->name);
    int64_t batch_size = checkpoint_integer(reader, "batch_size");
    if (!reader->damaged && batch_size != train->batch_size)
        bp_text_printf(&reader->problems, "\n  batch_size: %lld there, %lld here", (long long)batch_size,
                       (long long)train->batch_size);
    checkpoint_seed(reader);
    checkpoint_params(reader);
    return 1;
}

static void checkpoint_progress(struct checkpoint_reader *reader, struct bp_progress *progress) {
    const struct bp_json *totals = checkpoint_item(reader, "totals", BP_JSON_ARRAY);
    const struct bp_json *stopped = bp_json_get(reader->json, "stopped");
    progress->epoch = checkpoint_integer(reader, "epoch");
    progress->batch = checkpoint_integer(reader, "batch");
    progress->batches = checkpoint_integer(reader, "batches");
    progress->waited = checkpoint_integer(reader, "waited");
    progress->best_epoch = checkpoint_integer(reader, "best_epoch");
    progress->best_value = checkpoint_read_double(reader, bp_json_get(reader->json, "best_value"));
    if (reader->instance->program->trains[progress->train].plateau.start > 0) {
        progress->plateau.bad = checkpoint_integer(reader, "bad");
        progress->plateau.cooling = checkpoint_integer(reader, "cooling");
        progress->plateau.rate = checkpoint_read_double(reader, bp_json_get(reader->json, "rate"));
        progress->plateau.best = checkpoint_read_double(reader, bp_json_get(reader->json, "plateau_best"));
    }
    progress->stopped = stopped && stopped->kind == BP_JSON_TRUE;
    if (progress->batch > progress->batches)
        reader->damaged = 1;
    if (totals && totals->count != progress->sum_count)
        bp_text_printf(&reader->problems, "\n  sums: %d there, %d here", (int)totals->count, (int)progress->sum_count);
    for (int32_t i = 0; totals && i < progress->sum_count && i < totals->count; i++)
        progress->totals[i] = checkpoint_read_double(reader, &totals->items[i]);
}

static int checkpoint_tensor(struct checkpoint_reader *reader, const struct bp_archive *archive, int32_t index,
                             struct bp_error *error) {
    const struct bp_tensor *tensor = &reader->instance->program->tensors[index];
    char name[512];
    if (!checkpoint_name(reader->instance->program, index, name, error))
        return 0;
    const struct bp_archive_entry *entry = bp_archive_find(archive, name);
    int same = entry && entry->rank == tensor->rank;
    for (int32_t i = 0; same && i < tensor->rank; i++)
        same = entry->shape[i] == tensor->shape[i];
    if (!same) {
        bp_text_printf(&reader->problems, "\n  '%s': %s", tensor->name, entry ? "another shape" : "not there");
        return 1;
    }
    return bp_archive_read_tensor(archive, entry, tensor, bp_tensor_values(reader->instance, index), error);
}

static int checkpoint_tensors(struct checkpoint_reader *reader, const struct bp_archive *archive,
                              struct bp_progress *progress, struct bp_error *error) {
    struct bp_instance *instance = reader->instance;
    const struct bp_program *program = instance->program;
    const struct bp_train *train = &program->trains[progress->train];
    for (int32_t m = 0; m < program->model_count; m++)
        for (int32_t i = 0; instance->model_ready[m] && i < program->models[m].tensor_count; i++)
            if (!checkpoint_tensor(reader, archive, program->models[m].first_tensor + i, error))
                return 0;
    for (int32_t i = 0; i < train->state_count; i++)
        if (!checkpoint_tensor(reader, archive, train->first_state + i, error))
            return 0;
    if (progress->best_epoch == 0)
        return 1;
    const struct bp_archive_entry *best = bp_archive_find(archive, "best");
    if (!best || !bp_best_is_kept(&progress->best)) {
        bp_text_printf(&reader->problems, "\n  early_stopping: %s", best ? "there, not here" : "here, not there");
        return 1;
    }
    return bp_archive_read_best(archive, best, &progress->best, error);
}

static int checkpoint_read(struct checkpoint_reader *reader, const struct bp_archive *archive,
                           struct bp_progress *progress, struct bp_error *error) {
    const struct bp_program *program = reader->instance->program;
    int32_t statement = 0;
    if (!checkpoint_statement(reader, &statement, error) || !bp_progress_start(progress, program, statement, error))
        return 0;
    checkpoint_progress(reader, progress);
    if (!checkpoint_models(reader, error) || !checkpoint_data(reader, error))
        return 0;
    if (!reader->damaged && reader->problems.length == 0) {
        for (int32_t i = 0; i < program->model_count; i++) /* what is no tensor is as at the start */
            if (reader->instance->model_ready[i])
                bp_model_init(reader->instance, i);
        bp_call(reader->instance, &program->trains[progress->train].start);
        if (!checkpoint_tensors(reader, archive, progress, error))
            return 0;
    }
    if (reader->damaged)
        return bp_fail(error, "%s: the checkpoint's description is damaged", reader->path);
    if (reader->problems.length > 0)
        return bp_fail(error, "%.200s is the checkpoint of another run:%.780s", reader->path, reader->problems.at);
    return !reader->problems.failed || bp_fail(error, "%s: out of memory", reader->path);
}

int bp_checkpoint_read(struct bp_instance *instance, const char *path, struct bp_progress *progress,
                       struct bp_error *error) {
    struct bp_archive archive;
    struct bp_json json;
    struct bp_error inner;
    memset(progress, 0, sizeof *progress);
    if (!bp_archive_open(&archive, path, error))
        return 0;
    const char *text = bp_archive_metadata(&archive, "bpc.checkpoint");
    struct checkpoint_reader reader = {instance, path, &json, {0}, 0};
    int ok = text ? bp_json_parse(&json, text, strlen(text), &inner) ||
                        bp_fail(error, "%s: the checkpoint's description is damaged: %.700s", path, inner.text)
                  : bp_fail(error, "%s holds weights but no checkpoint of a run, as 'checkpoint' writes it", path);
    ok = ok && checkpoint_read(&reader, &archive, progress, error);
    if (text)
        bp_json_free(&json);
    bp_text_free(&reader.problems);
    bp_archive_close(&archive);
    if (!ok)
        bp_progress_free(progress);
    return ok;
}
