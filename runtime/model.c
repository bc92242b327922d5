/* The weights of a model: from the seed, from a checkpoint, and into one. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

/* ---- Loading ----------------------------------------------------------------------------------------------------- */
static void model_shape(struct bp_text *text, const int64_t *shape, int32_t rank) {
    bp_text_add(text, "[", 1);
    for (int32_t i = 0; i < rank; i++)
        bp_text_printf(text, "%s%lld", i ? ", " : "", (long long)shape[i]);
    bp_text_add(text, "]", 1);
}

/* `G.fc1.weight` where the name of one of the models saved together stands before it. */
static const struct bp_archive_entry *model_find_prefixed(const struct bp_archive *archive, const char *model,
                                                          size_t length, const char *name) {
    for (int32_t i = 0; i < archive->entry_count; i++) {
        const char *entry = archive->entries[i].name;
        if (strncmp(entry, model, length) == 0 && entry[length] == '.' && strcmp(entry + length + 1, name) == 0)
            return &archive->entries[i];
    }
    return NULL;
}

/* Its name as it is; else behind the model's own name; else behind the only other model's of the file that has it (a
   derived model bears another name than the one saved). */
static const struct bp_archive_entry *model_find(const struct bp_archive *archive, const char *model,
                                                 const char *name) {
    const struct bp_archive_entry *found = bp_archive_find(archive, name);
    if (!found)
        found = model_find_prefixed(archive, model, strlen(model), name);
    const char *models = bp_archive_metadata(archive, "bpc.model");
    int many = 0;
    while (!found && !many && models && *models) {
        size_t length = strcspn(models, ",");
        const struct bp_archive_entry *entry = model_find_prefixed(archive, models, length, name);
        many = 0;
        for (const char *rest = models + length; entry && *rest && !many;) {
            size_t next = strcspn(++rest, ",");
            many = model_find_prefixed(archive, rest, next, name) != NULL;
            rest += next;
        }
        found = many ? NULL : entry;
        models += length + (models[length] == ',');
    }
    return found;
}

static int model_is_transposed(const struct bp_tensor *tensor, const struct bp_archive_entry *entry) {
    return tensor->rank == 2 && entry->rank == 2 && tensor->shape[0] == entry->shape[1] &&
           tensor->shape[1] == entry->shape[0];
}

static int model_same_shape(const struct bp_tensor *tensor, const struct bp_archive_entry *entry) {
    int same = tensor->rank == entry->rank;
    for (int32_t i = 0; same && i < tensor->rank; i++)
        same = tensor->shape[i] == entry->shape[i];
    return same;
}

/* Says what is wrong with the entry for a tensor; nothing when it fits. */
static void model_check(const struct bp_tensor *tensor, const struct bp_archive_entry *entry,
                        struct bp_text *problems) {
    if (!entry) {
        bp_text_printf(problems, "\n  '%s' is missing: ", tensor->name);
        model_shape(problems, tensor->shape, tensor->rank);
    } else if (!model_same_shape(tensor, entry)) {
        bp_text_printf(problems, "\n  '%s' has the shape ", tensor->name);
        model_shape(problems, entry->shape, entry->rank);
        bp_text_printf(problems, ", needed is ");
        model_shape(problems, tensor->shape, tensor->rank);
        if (model_is_transposed(tensor, entry))
            bp_text_printf(problems, ": it is transposed");
    } else if (!bp_archive_is_read(entry)) {
        bp_text_printf(problems, "\n  '%s' is %s, needed is F32 or F64", tensor->name, entry->dtype);
    }
}

/* A file with more than the model has is another model's. Not so for one of several models, and for the counter that
   PyTorch keeps beside batch normalisation. */
static void model_check_rest(const struct bp_model *model, const struct bp_tensor *tensors,
                             const struct bp_archive *archive, struct bp_text *problems) {
    const char *models = bp_archive_metadata(archive, "bpc.model");
    if (models && strchr(models, ','))
        return;
    for (int32_t e = 0; e < archive->entry_count; e++) {
        const char *name = archive->entries[e].name;
        int known = bp_is_counter(name, archive->entries[e].rank);
        for (int32_t i = 0; !known && i < model->tensor_count; i++)
            known = strcmp(name, tensors[i].name) == 0;
        for (int32_t i = 0; !known && i < model->tensor_count; i++) /* behind a prefix */
            known = model_find(archive, model->name, tensors[i].name) == &archive->entries[e];
        if (!known)
            bp_text_printf(problems, "\n  '%s' is in the file, not in the model", name);
    }
}

int bp_model_load(struct bp_instance *instance, int32_t model, const struct bp_archive *archive, const uint8_t *mask,
                  struct bp_error *error) {
    const struct bp_model *described = &instance->program->models[model];
    const struct bp_tensor *tensors = instance->program->tensors + described->first_tensor;
    struct bp_text problems = {0};
    for (int32_t i = 0; i < described->tensor_count; i++)
        if (!mask || mask[i])
            model_check(&tensors[i], model_find(archive, described->name, tensors[i].name), &problems);
    if (!mask)
        model_check_rest(described, tensors, archive, &problems);
    if (problems.failed || problems.length > 0) {
        int fits = !problems.failed && problems.length < 800;
        bp_fail(error, "%.150s does not fit model '%s':%.*s%s", archive->path, described->name, fits ? 800 : 780,
                problems.failed ? " out of memory" : problems.at, fits ? "" : "\n  … and more");
        bp_text_free(&problems);
        return 0;
    }
    for (int32_t i = 0; i < described->tensor_count; i++) {
        float *values = bp_tensor_values(instance, described->first_tensor + i);
        if (mask && !mask[i])
            continue;
        if (!bp_archive_read_tensor(archive, model_find(archive, described->name, tensors[i].name), &tensors[i], values,
                                    error))
            return 0;
        int64_t finite = bp_tensor_finite_prefix(&tensors[i], values);
        if (finite < bp_tensor_count(&tensors[i]))
            return bp_fail(error, "%s: '%s' holds a value that is not finite (element %lld)", archive->path,
                           tensors[i].name, (long long)finite);
    }
    return 1;
}

int bp_model_fitted(const struct bp_data *data, const struct bp_archive *archive, double *fitted,
                    struct bp_error *error) {
    struct bp_text key = {0};
    struct bp_error inner;
    bp_text_printf(&key, "bpc.preprocessing.%s", data->name);
    const char *json = key.failed ? NULL : bp_archive_metadata(archive, key.at);
    bp_text_free(&key);
    if (data->fitted_count == 0)
        return 1;
    if (!json)
        json = bp_archive_metadata(archive, "bpc.preprocessing");
    if (!json)
        return bp_fail(error,
                       "%s holds no fitted values for data '%s' (it was not saved by such a program): say 'refit' "
                       "to fit them afresh",
                       archive->path, data->name);
    if (!bp_fitted_read(data, json, strlen(json), fitted, &inner))
        return bp_fail(error, "%.200s: %.700s", archive->path, inner.text);
    return 1;
}

char *bp_model_vocabulary(const struct bp_data *data, const struct bp_archive *archive, struct bp_error *error) {
    struct bp_text key = {0};
    bp_text_printf(&key, "bpc.vocabulary.%s", data->name);
    const char *json = key.failed ? NULL : bp_archive_metadata(archive, key.at);
    bp_text_free(&key);
    if (!json)
        json = bp_archive_metadata(archive, "bpc.vocabulary");
    if (!json) {
        bp_fail(error, "%s holds no vocabulary for data '%s' (it was not saved by such a program)", archive->path,
                data->name);
        return NULL;
    }
    size_t length = strlen(json) + 1;
    char *copy = bp_allocate(length, "a vocabulary", error);
    if (copy)
        memcpy(copy, json, length);
    return copy;
}

int bp_model_same_split(const struct bp_archive *archive, const struct bp_table *table) {
    const char *text = bp_archive_metadata(archive, "bpc.split");
    struct bp_json json;
    struct bp_error ignored; /* what it says of a split is for a note, no more */
    int same = 1;
    if (!text)
        return 1;
    if (bp_json_parse(&json, text, strlen(text), &ignored)) {
        const struct bp_json *set = bp_json_get(&json, table->data->name),
                             *hash = set ? bp_json_get(set, "hash") : NULL;
        char ours[17];
        snprintf(ours, sizeof ours, "%016llx", (unsigned long long)bp_table_split_hash(table));
        same = !hash || hash->kind != BP_JSON_STRING || strcmp(hash->string, ours) == 0;
    }
    bp_json_free(&json);
    return same;
}

void bp_model_init(struct bp_instance *instance, int32_t model) {
    bp_call(instance, &instance->program->models[model].init);
    instance->model_ready[model] = 1;
}

/* What a training begins with: draws, some of them made orthogonal. */
static int model_first_values(struct bp_instance *instance, int32_t model, struct bp_error *error) {
    const struct bp_model *described = &instance->program->models[model];
    bp_model_init(instance, model);
    for (int32_t i = 0; i < described->tensor_count && described->orthogonal; i++) {
        int32_t tensor = described->first_tensor + i;
        if (described->orthogonal[i] != 0 &&
            !bp_orthogonal(&instance->program->tensors[tensor], bp_tensor_values(instance, tensor),
                           described->orthogonal[i], error)) {
            instance->model_ready[model] = 0;
            return 0;
        }
    }
    return 1;
}

int bp_model_ready(struct bp_instance *instance, int32_t model, struct bp_error *error) {
    const struct bp_model *described = &instance->program->models[model];
    struct bp_archive archive;
    if (instance->model_ready[model])
        return 1;
    int unwritten =
        instance->options->check_grad && described->from && bp_program_saves(instance->program, described->from);
    if (!described->from || unwritten) { /* gradients are right or wrong whatever the weights are */
        return model_first_values(instance, model, error);
    }
    if (!bp_archive_open(&archive, described->from, error))
        return 0;
    int ok = model_first_values(instance, model, error) &&
             bp_model_load(instance, model, &archive, described->loaded, error);
    bp_archive_close(&archive);
    instance->model_ready[model] = (uint8_t)ok;
    return ok;
}

/* ---- Saving ------------------------------------------------------------------------------------------------------ */
enum { MODEL_METADATA = 64 };

struct model_metadata {
    const char *keys[MODEL_METADATA];
    struct bp_text owned_keys[MODEL_METADATA], values[MODEL_METADATA];
    int32_t count;
};

static struct bp_text *model_key(struct model_metadata *metadata, const char *key, const char *suffix) {
    if (metadata->count == MODEL_METADATA)
        return NULL;
    struct bp_text *owned = &metadata->owned_keys[metadata->count];
    bp_text_printf(owned, "%s%s", key, suffix);
    metadata->keys[metadata->count] = owned->failed ? key : owned->at;
    return &metadata->values[metadata->count++];
}

static void model_classes(const struct bp_program *program, const struct bp_save *save, struct bp_text *text) {
    int first = 1;
    bp_text_add(text, "{", 1);
    for (int32_t m = 0; m < save->model_count; m++) {
        const struct bp_model *model = &program->models[save->models[m]];
        for (int32_t o = 0; o < model->output_count; o++) {
            const struct bp_output *output = &model->outputs[o];
            int32_t classes = output->kind == BP_OUTPUT_BINARY ? 2 : output->width;
            struct bp_text key = {0};
            if (output->kind == BP_OUTPUT_NUMBER || !output->classes)
                continue;
            bp_text_printf(&key, "%s%s%s", save->model_count > 1 ? model->name : "", save->model_count > 1 ? "." : "",
                           output->name);
            bp_text_add(text, ",", first ? 0 : 1);
            bp_text_json(text, key.failed ? "" : key.at);
            bp_text_free(&key);
            for (int32_t c = 0; c < classes; c++) {
                bp_text_printf(text, c ? "," : ":[");
                bp_text_json(text, output->classes[c]);
            }
            bp_text_add(text, "]", 1);
            first = 0;
        }
    }
    bp_text_add(text, "}", 1);
}

static int model_saved_before(const struct bp_program *program, const struct bp_save *save, int32_t m) {
    for (int32_t i = 0; i < m; i++)
        if (program->models[save->models[i]].data == program->models[save->models[m]].data)
            return 1;
    return 0;
}

/* What each data set did to the rows, so that the file alone is enough to predict. */
static int model_data_metadata(struct bp_instance *instance, const struct bp_save *save,
                               struct model_metadata *metadata, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    struct bp_text names = {0}, splits = {0};
    int32_t sets = 0;
    int ok = 1;
    for (int32_t m = 0; m < save->model_count; m++)
        sets += program->models[save->models[m]].data >= 0 && !model_saved_before(program, save, m);
    for (int32_t m = 0; ok && m < save->model_count; m++) {
        int32_t index = program->models[save->models[m]].data;
        if (index < 0 || model_saved_before(program, save, m))
            continue;
        ok = bp_instance_table(instance, index, error);
        if (!ok)
            break;
        const struct bp_data *data = &program->data[index];
        struct bp_text *fitted =
            model_key(metadata, sets > 1 ? "bpc.preprocessing." : "bpc.preprocessing", sets > 1 ? data->name : "");
        if (fitted)
            bp_fitted_write(data, instance->tables[index].fitted, fitted);
        ok = fitted != NULL || bp_fail(error, "%s: too many data sets for one file", save->path);
        if (ok && instance->tables[index].vocabulary) {
            struct bp_text *words =
                model_key(metadata, sets > 1 ? "bpc.vocabulary." : "bpc.vocabulary", sets > 1 ? data->name : "");
            ok = words != NULL || bp_fail(error, "%s: too many data sets for one file", save->path);
            if (words)
                bp_text_printf(words, "%s", instance->tables[index].vocabulary);
        }
        bp_text_printf(&names, "%s%s", names.length ? "," : "", data->name);
        if (instance->hosted)
            continue;
        bp_text_add(&splits, splits.length ? "," : "{", 1);
        bp_text_json(&splits, data->name);
        bp_text_printf(&splits, ":{\"seed\":%llu,\"hash\":\"%016llx\"}", (unsigned long long)data->split_seed,
                       (unsigned long long)bp_table_split_hash(&instance->tables[index]));
    }
    if (ok && sets > 0) {
        struct bp_text *data = model_key(metadata, "bpc.data", "");
        struct bp_text *split = instance->hosted ? NULL : model_key(metadata, "bpc.split", "");
        ok = data && (split || instance->hosted) && !names.failed && !splits.failed;
        if (ok)
            bp_text_add(data, names.at, names.length);
        if (ok && split) {
            bp_text_add(split, splits.at, splits.length);
            bp_text_add(split, "}", 1);
        }
        if (!ok) {
            bp_fail(error, "%s: its metadata does not fit", save->path);
        }
    }
    bp_text_free(&names);
    bp_text_free(&splits);
    return ok;
}

static int model_describe(struct bp_instance *instance, const struct bp_save *save, struct model_metadata *metadata,
                          struct bp_error *error) {
    const struct bp_program *program = instance->program;
    bp_text_printf(model_key(metadata, "format", ""), "pt");
    bp_text_printf(model_key(metadata, "bpc.version", ""), "%s", program->version);
    struct bp_text *models = model_key(metadata, "bpc.model", "");
    for (int32_t m = 0; m < save->model_count; m++)
        bp_text_printf(models, "%s%s", m ? "," : "", program->models[save->models[m]].name);
    model_classes(program, save, model_key(metadata, "bpc.classes", ""));
    return model_data_metadata(instance, save, metadata, error);
}

static int model_write(struct bp_instance *instance, const struct bp_save *save, struct model_metadata *metadata,
                       struct bp_error *error) {
    const struct bp_program *program = instance->program;
    const char *values[MODEL_METADATA];
    int32_t count = 0, at = 0;
    int ok = 1;
    for (int32_t m = 0; m < save->model_count; m++)
        count += program->models[save->models[m]].tensor_count;
    struct bp_archive_tensor *tensors =
        bp_allocate(((size_t)count + 1) * sizeof *tensors, "the list of tensors", error);
    struct bp_text *names = bp_allocate(((size_t)count + 1) * sizeof *names, "the list of tensors", error);
    ok = tensors && names;
    for (int32_t m = 0; ok && m < save->model_count; m++) {
        const struct bp_model *model = &program->models[save->models[m]];
        for (int32_t i = 0; i < model->tensor_count; i++, at++) {
            const struct bp_tensor *tensor = &program->tensors[model->first_tensor + i];
            bp_text_printf(&names[at], "%s%s%s", save->model_count > 1 ? model->name : "",
                           save->model_count > 1 ? "." : "", tensor->name);
            ok = ok && !names[at].failed;
            tensors[at].name = names[at].at;
            tensors[at].rank = tensor->rank;
            memcpy(tensors[at].shape, tensor->shape, sizeof tensor->shape);
            tensors[at].values = bp_tensor_values(instance, model->first_tensor + i);
            tensors[at].layout = tensor->layout;
        }
    }
    for (int32_t i = 0; i < metadata->count; i++) {
        ok = ok && !metadata->values[i].failed && !metadata->owned_keys[i].failed;
        values[i] = metadata->values[i].at ? metadata->values[i].at : "";
    }
    ok = ok ? bp_archive_write(save->path, tensors, count, metadata->keys, values, metadata->count, error)
         : tensors && names ? bp_fail(error, "%s: out of memory", save->path)
                            : 0;
    for (int32_t i = 0; names && i < count; i++)
        bp_text_free(&names[i]);
    free(names);
    free(tensors);
    return ok;
}

int bp_model_save(struct bp_instance *instance, const struct bp_save *save, struct bp_error *error) {
    struct model_metadata metadata = {0};
    int ok = model_describe(instance, save, &metadata, error) && model_write(instance, save, &metadata, error);
    for (int32_t i = 0; i < metadata.count; i++) {
        bp_text_free(&metadata.owned_keys[i]);
        bp_text_free(&metadata.values[i]);
    }
    return ok;
}
