/* Checkpoints in the safetensors format: eight bytes of length (little-endian), a JSON header of that length, the data.
   The header maps names to {"dtype", "shape", "data_offsets"} and "__metadata__" to strings. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WEIGHTS_HEADER_MOST = 100 * 1000 * 1000, WEIGHTS_CHUNK = 1 << 14 };

static const struct weights_dtype {
    const char *name;
    uint64_t bytes;
    int type;
} weights_dtypes[] = {{"F32", 4, BP_F32}, {"F64", 8, BP_F64}, {"F16", 2, -1}, {"BF16", 2, -1}, {"I64", 8, -1},
                      {"I32", 4, -1},     {"I16", 2, -1},     {"I8", 1, -1},  {"U64", 8, -1},  {"U32", 4, -1},
                      {"U16", 2, -1},     {"U8", 1, -1},      {"BOOL", 1, -1}};

/* How many batches a batch normalisation has seen: PyTorch counts them in an integer, which is kept in a file as one. It is a
   float in memory, exact up to 2^24, and no other tensor is computed from it. */
int bp_is_counter(const char *name, int32_t rank) {
    static const char counter[] = ".num_batches_tracked";
    size_t length = strlen(name), end = sizeof counter - 1;
    return rank == 0 && length > end && strcmp(name + length - end, counter) == 0;
}

int bp_archive_is_read(const struct bp_archive_entry *entry) {
    return strcmp(entry->dtype, "F32") == 0 || strcmp(entry->dtype, "F64") == 0 ||
           (strcmp(entry->dtype, "I64") == 0 && bp_is_counter(entry->name, entry->rank));
}

static uint64_t weights_little_endian(const unsigned char bytes[8]) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static const struct weights_dtype *weights_find_dtype(const char *name) {
    for (size_t i = 0; i < sizeof weights_dtypes / sizeof *weights_dtypes; i++)
        if (strcmp(weights_dtypes[i].name, name) == 0)
            return &weights_dtypes[i];
    return NULL;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */
/* The shape, and how many elements it holds. */
static int weights_shape(struct bp_archive_entry *entry, const struct bp_json *shape, uint64_t *count, const char *path,
                         struct bp_error *error) {
    if (!shape || shape->kind != BP_JSON_ARRAY)
        return bp_fail(error, "%s: '%s' has no shape", path, entry->name);
    if (shape->count > 8)
        return bp_fail(error, "%s: '%s' has %d dimensions, more than 8", path, entry->name, (int)shape->count);
    *count = 1;
    entry->rank = shape->count;
    for (int32_t i = 0; i < shape->count; i++) {
        const struct bp_json *size = &shape->items[i];
        if (size->kind != BP_JSON_NUMBER || !size->is_integer || size->integer < 0)
            return bp_fail(error, "%s: '%s' has a shape that is not of whole numbers", path, entry->name);
        entry->shape[i] = size->integer;
        if (size->integer > 0 && *count > (UINT64_MAX >> 4) / (uint64_t)size->integer)
            return bp_fail(error, "%s: '%s' has a shape too large for any file", path, entry->name);
        *count *= (uint64_t)size->integer;
    }
    return 1;
}

static int weights_entry(struct bp_archive *archive, struct bp_archive_entry *entry, const char *name,
                         const struct bp_json *value, struct bp_error *error) {
    const char *path = archive->path;
    uint64_t count = 0, data_bytes = archive->file_bytes - archive->data_start;
    entry->name = strdup(name);
    if (!entry->name)
        return bp_fail(error, "%s: out of memory", path);
    const struct bp_json *dtype = bp_json_get(value, "dtype"), *offsets = bp_json_get(value, "data_offsets");
    if (!dtype || dtype->kind != BP_JSON_STRING)
        return bp_fail(error, "%s: '%s' has no dtype", path, name);
    const struct weights_dtype *known = weights_find_dtype(dtype->string);
    if (!known)
        return bp_fail(error, "%s: '%s' has the unknown dtype '%.16s'", path, name, dtype->string);
    entry->type = (enum bp_type)known->type;
    snprintf(entry->dtype, sizeof entry->dtype, "%s", known->name);
    if (!weights_shape(entry, bp_json_get(value, "shape"), &count, path, error))
        return 0;
    if (!offsets || offsets->kind != BP_JSON_ARRAY || offsets->count != 2 || !offsets->items[0].is_integer ||
        !offsets->items[1].is_integer || offsets->items[0].integer < 0 || offsets->items[1].integer < 0)
        return bp_fail(error, "%s: '%s' has no data_offsets of two whole numbers", path, name);
    entry->begin = (uint64_t)offsets->items[0].integer;
    entry->end = (uint64_t)offsets->items[1].integer;
    if (entry->end < entry->begin)
        return bp_fail(error, "%s: the data of '%s' ends before it begins", path, name);
    if (entry->end > data_bytes)
        return bp_fail(error,
                       "%s: the data of '%s' ends at byte %llu, but the file holds %llu bytes of data: truncated?",
                       path, name, (unsigned long long)entry->end, (unsigned long long)data_bytes);
    if (entry->end - entry->begin != count * known->bytes)
        return bp_fail(error, "%s: '%s' has %llu bytes, its shape and dtype need %llu", path, name,
                       (unsigned long long)(entry->end - entry->begin), (unsigned long long)(count * known->bytes));
    return 1;
}

static int weights_metadata(struct bp_archive *archive, const struct bp_json *metadata, struct bp_error *error) {
    if (metadata->kind != BP_JSON_OBJECT)
        return bp_fail(error, "%s: __metadata__ is not an object", archive->path);
    archive->metadata_keys = calloc((size_t)metadata->count + 1, sizeof(char *));
    archive->metadata_values = calloc((size_t)metadata->count + 1, sizeof(char *));
    if (!archive->metadata_keys || !archive->metadata_values)
        return bp_fail(error, "%s: out of memory", archive->path);
    for (int32_t i = 0; i < metadata->count; i++) {
        if (metadata->items[i].kind != BP_JSON_STRING)
            return bp_fail(error, "%s: __metadata__ '%s' is not a string", archive->path, metadata->keys[i]);
        archive->metadata_count++;
        archive->metadata_keys[i] = strdup(metadata->keys[i]);
        archive->metadata_values[i] = strdup(metadata->items[i].string);
        if (!archive->metadata_keys[i] || !archive->metadata_values[i])
            return bp_fail(error, "%s: out of memory", archive->path);
    }
    return 1;
}

static int weights_compare_places(const void *left, const void *right) {
    const struct bp_archive_entry *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Entries in file order cover the data exactly: nothing twice, nothing unnamed. */
static int weights_check_places(struct bp_archive *archive, struct bp_error *error) {
    uint64_t place = 0, data_bytes = archive->file_bytes - archive->data_start;
    qsort(archive->entries, (size_t)archive->entry_count, sizeof *archive->entries, weights_compare_places);
    for (int32_t i = 0; i < archive->entry_count; i++) {
        const struct bp_archive_entry *entry = &archive->entries[i];
        if (entry->begin < place)
            return bp_fail(error, "%s: the data of '%s' and '%s' overlap", archive->path, entry[-1].name, entry->name);
        if (entry->begin > place)
            return bp_fail(error, "%s: %llu bytes before the data of '%s' belong to no tensor", archive->path,
                           (unsigned long long)(entry->begin - place), entry->name);
        place = entry->end;
    }
    if (place != data_bytes)
        return bp_fail(error, "%s: the last %llu bytes belong to no tensor", archive->path,
                       (unsigned long long)(data_bytes - place));
    return 1;
}

static int weights_header(struct bp_archive *archive, const char *text, size_t length, struct bp_error *error) {
    struct bp_json json;
    struct bp_error inner;
    int ok = 0;
    if (!bp_json_parse(&json, text, length, &inner)) {
        bp_fail(error, "%s: the header is damaged: %.800s", archive->path, inner.text);
    } else if (json.kind != BP_JSON_OBJECT) {
        bp_fail(error, "%s: the header is not a JSON object", archive->path);
    } else {
        archive->entries = calloc((size_t)json.count + 1, sizeof *archive->entries);
        ok = archive->entries != NULL || bp_fail(error, "%s: out of memory", archive->path);
        for (int32_t i = 0; ok && i < json.count; i++)
            ok = strcmp(json.keys[i], "__metadata__") == 0
                     ? weights_metadata(archive, &json.items[i], error)
                     : weights_entry(archive, &archive->entries[archive->entry_count++], json.keys[i], &json.items[i],
                                     error);
        ok = ok && weights_check_places(archive, error);
    }
    bp_json_free(&json);
    return ok;
}

static int weights_open_file(struct bp_archive *archive, FILE *file, struct bp_error *error) {
    unsigned char start[8];
    const char *path = archive->path;
    if (fseeko(file, 0, SEEK_END) != 0)
        return bp_fail(error, "%s: not a file that can be read at any place: %s", path, strerror(errno));
    off_t bytes = ftello(file);
    rewind(file);
    if (bytes < 8 || fread(start, 1, 8, file) != 8)
        return bp_fail(error, "%s: not a safetensors file: shorter than 8 bytes, or not readable", path);
    archive->file_bytes = (uint64_t)bytes;
    uint64_t length = weights_little_endian(start);
    if (length > archive->file_bytes - 8)
        return bp_fail(error,
                       "%s: not a safetensors file, or truncated: its header would be %llu bytes, the file has %llu",
                       path, (unsigned long long)length, (unsigned long long)archive->file_bytes);
    if (length > WEIGHTS_HEADER_MOST)
        return bp_fail(error, "%s: its header of %llu bytes is longer than 100 MB", path, (unsigned long long)length);
    archive->data_start = 8 + length;
    char *text = malloc((size_t)length + 1);
    if (!text)
        return bp_fail(error, "%s: out of memory", path);
    int ok = fread(text, 1, (size_t)length, file) == (size_t)length ||
             bp_fail(error, "%s: the header cannot be read: %s", path, strerror(errno));
    ok = ok && weights_header(archive, text, (size_t)length, error);
    free(text);
    return ok;
}

int bp_archive_open(struct bp_archive *archive, const char *path, struct bp_error *error) {
    memset(archive, 0, sizeof *archive);
    archive->path = path;
    FILE *file = fopen(path, "rb");
    if (!file)
        return bp_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    int ok = weights_open_file(archive, file, error);
    fclose(file);
    if (!ok)
        bp_archive_close(archive);
    return ok;
}

void bp_archive_close(struct bp_archive *archive) {
    for (int32_t i = 0; i < archive->entry_count; i++)
        free(archive->entries[i].name);
    for (int32_t i = 0; i < archive->metadata_count; i++) {
        free(archive->metadata_keys[i]);
        free(archive->metadata_values[i]);
    }
    free(archive->entries);
    free(archive->metadata_keys);
    free(archive->metadata_values);
    memset(archive, 0, sizeof *archive);
}

const struct bp_archive_entry *bp_archive_find(const struct bp_archive *archive, const char *name) {
    for (int32_t i = 0; i < archive->entry_count; i++)
        if (strcmp(archive->entries[i].name, name) == 0)
            return &archive->entries[i];
    return NULL;
}

const char *bp_archive_metadata(const struct bp_archive *archive, const char *key) {
    for (int32_t i = 0; i < archive->metadata_count; i++)
        if (strcmp(archive->metadata_keys[i], key) == 0)
            return archive->metadata_values[i];
    return NULL;
}

static int weights_read_doubles(FILE *file, float *out, int64_t count) {
    double chunk[512];
    while (count > 0) {
        size_t n = count < 512 ? (size_t)count : 512;
        if (fread(chunk, sizeof *chunk, n, file) != n)
            return 0;
        for (size_t i = 0; i < n; i++)
            out[i] = (float)chunk[i];
        out += n;
        count -= (int64_t)n;
    }
    return 1;
}

static int weights_read_integers(FILE *file, float *out, int64_t count) {
    int64_t value;
    for (int64_t i = 0; i < count; i++) {
        if (fread(&value, sizeof value, 1, file) != 1)
            return 0;
        out[i] = (float)value;
    }
    return 1;
}

static int weights_read_floats(FILE *file, float *out, int64_t count, const char *dtype) {
    return strcmp(dtype, "F64") == 0   ? weights_read_doubles(file, out, count)
           : strcmp(dtype, "I64") == 0 ? weights_read_integers(file, out, count)
                                       : fread(out, sizeof *out, (size_t)count, file) == (size_t)count;
}

static int weights_read_panels(FILE *file, const struct bp_tensor *tensor, float *stored, const char *dtype) {
    float chunk[WEIGHTS_CHUNK];
    int64_t count = bp_tensor_count(tensor);
    for (int64_t first = 0, n; first < count; first += n) {
        n = count - first < WEIGHTS_CHUNK ? count - first : WEIGHTS_CHUNK;
        if (!weights_read_floats(file, chunk, n, dtype))
            return 0;
        bp_tensor_put(tensor, stored, first, n, chunk);
    }
    return 1;
}

int bp_archive_read(const struct bp_archive *archive, const struct bp_archive_entry *entry, float *out, int64_t count,
                    struct bp_error *error) {
    const struct bp_tensor tensor = {.rank = 1, .shape = {count}, .layout = BP_ROWS};
    return bp_archive_read_tensor(archive, entry, &tensor, out, error);
}

static int weights_read_best(FILE *file, struct bp_best *best, const char *dtype, struct bp_error *error) {
    float chunk[WEIGHTS_CHUNK];
    for (int64_t first = 0, n; first < best->count; first += n) {
        n = best->count - first < WEIGHTS_CHUNK ? best->count - first : WEIGHTS_CHUNK;
        if (!weights_read_floats(file, chunk, n, dtype) || !bp_best_put(best, first, n, chunk, error))
            return 0;
    }
    return 1;
}

/* At its first element. The error then already says what reading it to its end may meet. */
static FILE *weights_open_entry(const struct bp_archive *archive, const struct bp_archive_entry *entry, int64_t count,
                                struct bp_error *error) {
    if (!bp_archive_is_read(entry)) {
        bp_fail(error, "%s: '%s' is %s; F32 or F64 is needed", archive->path, entry->name, entry->dtype);
        return NULL;
    }
    uint64_t there = (entry->end - entry->begin) / (strcmp(entry->dtype, "F32") == 0 ? 4 : 8);
    if (count < 0 || there != (uint64_t)count) {
        bp_fail(error, "%s: '%s' has %llu elements, %lld are needed", archive->path, entry->name,
                (unsigned long long)there, (long long)count);
        return NULL;
    }
    FILE *file = fopen(archive->path, "rb");
    if (!file) {
        bp_fail(error, "%s: cannot be opened: %s", archive->path, strerror(errno));
        return NULL;
    }
    bp_fail(error, "%s: '%s' cannot be read: the file ends early or the disk fails", archive->path, entry->name);
    if (fseeko(file, (off_t)(archive->data_start + entry->begin), SEEK_SET) == 0)
        return file;
    fclose(file);
    return NULL;
}

int bp_archive_read_tensor(const struct bp_archive *archive, const struct bp_archive_entry *entry,
                           const struct bp_tensor *tensor, float *stored, struct bp_error *error) {
    int64_t count = bp_tensor_count(tensor);
    FILE *file = weights_open_entry(archive, entry, count, error);
    if (!file)
        return 0;
    int ok = tensor->layout == BP_ROWS ? weights_read_floats(file, stored, count, entry->dtype)
                                       : weights_read_panels(file, tensor, stored, entry->dtype);
    fclose(file);
    return ok;
}

int bp_archive_read_best(const struct bp_archive *archive, const struct bp_archive_entry *entry, struct bp_best *best,
                         struct bp_error *error) {
    FILE *file = weights_open_entry(archive, entry, best->count, error);
    if (!file)
        return 0;
    int ok = weights_read_best(file, best, entry->dtype, error);
    fclose(file);
    return ok;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */
static struct bp_tensor weights_tensor(const struct bp_archive_tensor *from) {
    struct bp_tensor tensor = {.name = from->name, .rank = from->rank, .layout = from->layout};
    memcpy(tensor.shape, from->shape, sizeof tensor.shape);
    return tensor;
}

static void weights_write_header(struct bp_text *text, const struct bp_archive_tensor *tensors, int32_t count,
                                 const char *const *keys, const char *const *values, int32_t metadata_count) {
    uint64_t place = 0;
    bp_text_add(text, "{", 1);
    if (metadata_count > 0) {
        bp_text_printf(text, "\"__metadata__\":{");
        for (int32_t i = 0; i < metadata_count; i++) {
            bp_text_add(text, ",", i > 0 ? 1 : 0);
            bp_text_json(text, keys[i]);
            bp_text_add(text, ":", 1);
            bp_text_json(text, values[i]);
        }
        bp_text_add(text, "}", 1);
    }
    for (int32_t i = 0; i < count; i++) {
        struct bp_tensor tensor = weights_tensor(&tensors[i]);
        int counts = bp_is_counter(tensors[i].name, tensors[i].rank);
        uint64_t bytes = (uint64_t)bp_tensor_count(&tensor) * (counts ? sizeof(int64_t) : sizeof(float));
        if (i > 0 || metadata_count > 0)
            bp_text_add(text, ",", 1);
        bp_text_json(text, tensors[i].name);
        bp_text_printf(text, ":{\"dtype\":\"%s\",\"shape\":[", counts ? "I64" : "F32");
        for (int32_t d = 0; d < tensors[i].rank; d++)
            bp_text_printf(text, "%s%lld", d ? "," : "", (long long)tensors[i].shape[d]);
        bp_text_printf(text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)place,
                       (unsigned long long)(place + bytes));
        place += bytes;
    }
    bp_text_add(text, "}", 1);
    while (!text->failed && text->length % 8 != 0)
        bp_text_add(text, " ", 1);
}

static int weights_put_tensor(struct bp_writer *writer, const struct bp_archive_tensor *from, struct bp_error *error) {
    struct bp_tensor tensor = weights_tensor(from);
    float chunk[WEIGHTS_CHUNK];
    int64_t count = bp_tensor_count(&tensor);
    for (int64_t first = 0, n; first < count; first += n) {
        const float *at = from->best ? chunk : from->values + first;
        n = count - first < WEIGHTS_CHUNK ? count - first : WEIGHTS_CHUNK;
        if (from->best && !bp_best_get(from->best, first, n, chunk, error))
            return 0;
        if (!from->best && tensor.layout != BP_ROWS) {
            bp_tensor_get(&tensor, from->values, first, n, chunk);
            at = chunk;
        }
        if (bp_is_counter(from->name, from->rank)) {
            int64_t batches = (int64_t)at[0];
            return bp_writer_put(writer, &batches, sizeof batches, error);
        }
        if (!bp_writer_put(writer, at, (size_t)n * sizeof *at, error))
            return 0;
    }
    return 1;
}

static int weights_put(struct bp_writer *writer, const struct bp_text *header, const struct bp_archive_tensor *tensors,
                       int32_t count, struct bp_error *error) {
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header->length >> (8 * i));
    if (!bp_writer_put(writer, length, 8, error) || !bp_writer_put(writer, header->at, header->length, error))
        return 0;
    for (int32_t i = 0; i < count; i++)
        if (!weights_put_tensor(writer, &tensors[i], error))
            return 0;
    return 1;
}

int bp_archive_write(const char *path, const struct bp_archive_tensor *tensors, int32_t count, const char *const *keys,
                     const char *const *values, int32_t metadata_count, struct bp_error *error) {
    struct bp_text header = {0};
    weights_write_header(&header, tensors, count, keys, values, metadata_count);
    int ok = !header.failed || bp_fail(error, "%s: out of memory for the header", path);
    struct bp_writer *writer = ok ? bp_writer_open(path, error) : NULL;
    ok = writer != NULL;
    if (ok && !weights_put(writer, &header, tensors, count, error)) {
        bp_writer_abandon(writer);
        ok = 0;
    } else if (ok) {
        ok = bp_writer_commit(writer, error);
    }
    bp_text_free(&header);
    return ok;
}
