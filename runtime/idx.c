/* IDX files, as MNIST's are (LeCun, Cortes and Burges, The MNIST database): two zero bytes, the type, the number of
   axes, the axes' sizes as big-endian 32-bit numbers, then the elements, big-endian, the last axis fastest. The first
   axis is the row. */
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IDX_U8 = 0x08, IDX_I8 = 0x09, IDX_I16 = 0x0b, IDX_I32 = 0x0c, IDX_F32 = 0x0d, IDX_F64 = 0x0e };

static int idx_type_bytes(int type) {
    switch (type) {
    case IDX_U8:
    case IDX_I8:
        return 1;
    case IDX_I16:
        return 2;
    case IDX_I32:
    case IDX_F32:
        return 4;
    case IDX_F64:
        return 8;
    default:
        return 0;
    }
}

static uint64_t idx_bits(const unsigned char *at, int bytes) {
    uint64_t bits = 0;
    for (int i = 0; i < bytes; i++)
        bits = bits << 8 | at[i];
    return bits;
}

int bp_idx_is(const char *bytes, size_t length) {
    const unsigned char *at = (const unsigned char *)bytes;
    return length >= 4 && at[0] == 0 && at[1] == 0 && idx_type_bytes(at[2]) > 0 && at[3] > 0;
}

/* The header's sizes; 0 with an error where they cannot be. */
static int idx_sizes(struct bp_idx *idx, struct bp_error *error) {
    const unsigned char *at = (const unsigned char *)idx->bytes;
    size_t start = 4 + 4 * (size_t)at[3];
    idx->type = at[2];
    idx->rank = at[3] - 1;
    idx->width = 1;
    if (idx->rank > BP_MAX_RANK)
        return bp_fail(error, "%.400s: it has %d axes; a row may have %d", idx->path, idx->rank + 1, BP_MAX_RANK);
    if (idx->length < start)
        return bp_fail(error, "%.400s: it is cut short: the header has %zu bytes, and the file %zu", idx->path, start,
                       idx->length);
    idx->rows = (int64_t)idx_bits(at + 4, 4);
    for (int32_t i = 0; i < idx->rank; i++) {
        idx->dims[i] = (int64_t)idx_bits(at + 8 + 4 * i, 4);
        if (idx->dims[i] == 0 || idx->dims[i] > INT32_MAX / idx->width)
            return bp_fail(error, "%.400s: a row of it has no, or too many, elements", idx->path);
        idx->width *= idx->dims[i];
    }
    uint64_t room = (idx->length - start) / (size_t)idx_type_bytes(idx->type) / (uint64_t)idx->width;
    uint64_t bytes = (uint64_t)idx->rows * (uint64_t)idx->width * (uint64_t)idx_type_bytes(idx->type);
    if ((uint64_t)idx->rows > room || idx->length - start != bytes)
        return bp_fail(error, "%.400s: %lld rows of %lld elements are promised, and the file holds %s", idx->path,
                       (long long)idx->rows, (long long)idx->width, (uint64_t)idx->rows > room ? "fewer" : "more");
    idx->values = at + start;
    return 1;
}

int bp_idx_open(struct bp_idx *idx, const char *path, const char *shown, struct bp_error *error) {
    memset(idx, 0, sizeof *idx);
    idx->path = shown;
    idx->bytes = bp_read_file(path, &idx->length, error);
    if (idx->bytes == NULL)
        return 0;
    if (!bp_idx_is(idx->bytes, idx->length))
        bp_fail(error,
                "%.400s: this is not an IDX file, which begins with two bytes that are 0, a type and a number of axes",
                shown);
    else if (idx_sizes(idx, error))
        return 1;
    bp_idx_close(idx);
    return 0;
}

void bp_idx_close(struct bp_idx *idx) {
    free(idx->bytes);
    idx->bytes = NULL;
}

double bp_idx_value(const struct bp_idx *idx, int64_t element) {
    int bytes = idx_type_bytes(idx->type);
    uint64_t bits = idx_bits(idx->values + element * bytes, bytes);
    uint32_t word = (uint32_t)bits;
    float single;
    double value = 0;
    switch (idx->type) {
    case IDX_U8:
        return (double)bits;
    case IDX_I8:
        return (double)(int8_t)(uint8_t)bits;
    case IDX_I16:
        return (double)(int16_t)(uint16_t)bits;
    case IDX_I32:
        return (double)(int32_t)word;
    case IDX_F32:
        memcpy(&single, &word, sizeof single);
        return (double)single;
    default:
        memcpy(&value, &bits, sizeof value);
        return value;
    }
}
