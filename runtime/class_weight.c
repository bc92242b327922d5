/* `class_weight balanced`: a class that is half as frequent counts twice as much, and the mean over all rows is 1. */
#include "runtime.h"

static const struct bp_slot *class_weight_slot(const struct bp_data *data, int32_t column, int32_t *index) {
    for (*index = 0; *index < data->slot_count; ++*index)
        if (data->slots[*index].form == BP_SLOT_COLUMNS && data->slots[*index].type == BP_I32 &&
            data->slots[*index].columns[0] == column)
            return &data->slots[*index];
    return NULL;
}

void bp_class_weights_set(struct bp_instance *instance, const struct bp_train *train, const int64_t *rows,
                          int64_t row_count) {
    for (int32_t i = 0; i < train->class_weight_count; i++) {
        const struct bp_data *data = &instance->program->data[train->data]; /* a phase without data has no weights */
        const struct bp_class_weights *weights = &train->class_weights[i];
        const int32_t classes = data->columns[weights->column].category_count;
        double *out = (double *)(void *)(instance->memory + weights->offset);
        int32_t slot, seen = 0;
        for (int32_t k = 0; k < classes; k++)
            out[k] = rows ? 0 : 1; /* without rows, in a bench: all alike */
        if (!rows || !class_weight_slot(data, weights->column, &slot))
            continue;
        const int32_t *indices = instance->tables[train->data].slots[slot];
        for (int64_t row = 0; row < row_count; row++)
            out[indices[rows[row]]] += 1;
        for (int32_t k = 0; k < classes; k++)
            seen += out[k] > 0;
        for (int32_t k = 0; k < classes; k++)
            out[k] = out[k] > 0 ? (double)row_count / (seen * out[k]) : 0;
    }
}
