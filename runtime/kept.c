/* What the frozen layers of a phase give for each row: kept for the whole phase, or made before every batch. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

int bp_reads_kept(const struct bp_function *function, const struct bp_data *data) {
    for (int32_t i = 0; i < function->feed_count; i++)
        if (function->feeds[i].slot >= data->slot_count)
            return 1;
    return 0;
}

int64_t bp_kept_bytes(const struct bp_prefix *prefix, int64_t rows) {
    int64_t width = 0;
    for (int32_t i = 0; i < prefix->value_count; i++)
        width += prefix->values[i].width;
    return rows > 0 && width > INT64_MAX / 4 / rows ? INT64_MAX : width * rows * 4;
}

int bp_kept_start(struct bp_kept *kept, const struct bp_prefix *prefix, struct bp_error *error) {
    memset(kept, 0, sizeof *kept);
    kept->prefix = prefix;
    if (!prefix->function.code)
        return 1;
    kept->own_numbers = bp_allocate((size_t)prefix->function.capacity * sizeof *kept->own_numbers, "rows", error);
    for (int64_t i = 0; kept->own_numbers && i < prefix->function.capacity; i++)
        kept->own_numbers[i] = i;
    kept->numbers = kept->own_numbers;
    return kept->numbers != NULL;
}

static void kept_release(struct bp_kept *kept) {
    for (int32_t i = 0; kept->values && i < kept->prefix->value_count; i++)
        free(kept->values[i]);
    free(kept->values);
    kept->values = NULL;
}

/* Not zeroed: rows that are never used take no memory. */
int bp_kept_reserve(struct bp_kept *kept, int64_t rows) {
    int32_t count = kept->prefix->value_count;
    kept->values = calloc((size_t)count, sizeof *kept->values);
    if (!kept->values || (uint64_t)bp_kept_bytes(kept->prefix, rows) > PTRDIFF_MAX) {
        kept_release(kept);
        return 0;
    }
    for (int32_t i = 0; i < count; i++) {
        kept->values[i] = malloc((size_t)kept->prefix->values[i].width * (size_t)rows * sizeof(float));
        if (!kept->values[i]) {
            kept_release(kept);
            return 0;
        }
    }
    return 1;
}

struct kept_fill {
    const struct bp_kept *kept;
    const char *memory;
    const int64_t *order;
};

static int kept_take(void *argument, int64_t place, int64_t rows) {
    const struct kept_fill *fill = argument;
    for (int32_t i = 0; i < fill->kept->prefix->value_count; i++) {
        const struct bp_kept_value *value = &fill->kept->prefix->values[i];
        const float *from = (const float *)(const void *)(fill->memory + value->offset);
        for (int64_t row = 0; row < rows; row++)
            memcpy(fill->kept->values[i] + fill->order[place + row] * value->width, from + row * value->width,
                   (size_t)value->width * sizeof *from);
    }
    return 1;
}

enum bp_outcome bp_kept_fill(struct bp_kept *kept, struct bp_instance *instance, const struct bp_table *table,
                             const int64_t *order, int64_t rows) {
    struct kept_fill fill = {kept, instance->memory, order};
    struct bp_sweep sweep = {0};
    sweep.instance = instance;
    sweep.function = &kept->prefix->function;
    sweep.memory = instance->memory;
    sweep.table = table;
    sweep.order = order;
    sweep.ascending_by_one = order[rows - 1] - order[0] == rows - 1; /* parts are ascending */
    sweep.rows = rows;
    sweep.batch = kept->prefix->function.capacity;
    sweep.last = (rows + sweep.batch - 1) / sweep.batch;
    sweep.after = kept_take;
    sweep.argument = &fill;
    bp_sweep_run(&sweep);
    return sweep.end == BP_SWEEP_DONE ? BP_OK : BP_INTERRUPTED;
}

void bp_kept_free(struct bp_kept *kept) {
    kept_release(kept);
    free(kept->own_numbers);
    memset(kept, 0, sizeof *kept);
}
