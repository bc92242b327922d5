/* What columns go through before the network sees them: fitted on the training rows, applied to all, in double. */
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Names, for checkpoints -------------------------------------------------------------------------------------- */
struct fit_kind {
    const char *name;
    int32_t count; /* values it fits */
    const char *values[2];
};

static struct fit_kind fit_describe(enum bp_transform_kind kind) {
    switch (kind) {
    case BP_IMPUTE_MEAN:
        return (struct fit_kind){"impute_mean", 1, {"value", NULL}};
    case BP_IMPUTE_MEDIAN:
        return (struct fit_kind){"impute_median", 1, {"value", NULL}};
    case BP_IMPUTE_MOST_FREQUENT:
        return (struct fit_kind){"impute_most_frequent", 1, {"value", NULL}};
    case BP_STANDARDIZE:
        return (struct fit_kind){"standardize", 2, {"mean", "deviation"}};
    case BP_MINMAX:
        return (struct fit_kind){"minmax", 2, {"minimum", "range"}};
    case BP_STRIP:
    case BP_IMPUTE_CONSTANT:
    case BP_DROP:
    case BP_LOG:
    case BP_SCALE:
        break;
    }
    return (struct fit_kind){NULL, 0, {NULL, NULL}};
}

/* ---- One column while it is fitted ------------------------------------------------------------------------------- */
struct fit_column {
    const struct bp_raw *raw;
    const struct bp_column *column;
    double *values;   /* [rows] */
    uint8_t *missing; /* [rows] */
    const int64_t *train;
    int64_t train_rows;
    double *scratch; /* [rows] */
    int64_t known;   /* training values that are not missing, gathered at the start of scratch */
    struct bp_error *error;
};

static int fit_ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

/* Neumaier's compensated sum: the error of each addition is kept and added at the end. */
static double fit_sum(const double *values, int64_t count) {
    double sum = 0, lost = 0;
    for (int64_t i = 0; i < count; i++) {
        double next = sum + values[i];
        lost += fabs(sum) >= fabs(values[i]) ? (sum - next) + values[i] : (values[i] - next) + sum;
        sum = next;
    }
    return sum + lost;
}

static void fit_gather(struct fit_column *fit) {
    fit->known = 0;
    for (int64_t i = 0; i < fit->train_rows; i++)
        if (!fit->missing[fit->train[i]])
            fit->scratch[fit->known++] = fit->values[fit->train[i]];
}

static double fit_median(struct fit_column *fit) {
    qsort(fit->scratch, (size_t)fit->known, sizeof(double), fit_ascending);
    int64_t middle = fit->known / 2;
    if (fit->known % 2 == 1)
        return fit->scratch[middle];
    return (fit->scratch[middle - 1] + fit->scratch[middle]) / 2;
}

static double fit_most_frequent(struct fit_column *fit) {
    qsort(fit->scratch, (size_t)fit->known, sizeof(double), fit_ascending);
    double best = fit->scratch[0];
    int64_t most = 0;
    for (int64_t start = 0, end; start < fit->known; start = end) {
        for (end = start; end < fit->known && fit->scratch[end] == fit->scratch[start];)
            end++;
        if (end - start > most && !(fit->column->kind == BP_CATEGORY && fit->scratch[start] < 0)) {
            most = end - start;
            best = fit->scratch[start];
        }
    }
    return best;
}

static void fit_extremes(const struct fit_column *fit, double *least, double *greatest) {
    *least = *greatest = fit->scratch[0];
    for (int64_t i = 1; i < fit->known; i++) {
        if (fit->scratch[i] < *least)
            *least = fit->scratch[i];
        if (fit->scratch[i] > *greatest)
            *greatest = fit->scratch[i];
    }
}

/* mean, and sqrt(sum((x - mean)^2) / N). */
static void fit_standardize(struct fit_column *fit, double out[2]) {
    double least, greatest, count = (double)fit->known;
    fit_extremes(fit, &least, &greatest);
    if (least == greatest) { /* exactly, not up to the rounding of a sum */
        out[0] = least;
        out[1] = 1;
        return;
    }
    out[0] = fit_sum(fit->scratch, fit->known) / count;
    /* squares are stored before they are summed, so that no compiler fuses the two and changes a bit */
    for (int64_t i = 0; i < fit->known; i++) {
        double difference = fit->scratch[i] - out[0];
        fit->scratch[i] = difference * difference;
    }
    out[1] = sqrt(fit_sum(fit->scratch, fit->known) / count);
}

static void fit_minmax(const struct fit_column *fit, double out[2]) {
    double least, greatest;
    fit_extremes(fit, &least, &greatest);
    out[0] = least;
    out[1] = greatest == least ? 1 : greatest - least;
}

static int fit_transform(struct fit_column *fit, const struct bp_transform *transform, double *out) {
    const char *name = fit_describe(transform->kind).name, *data = fit->raw->data->name;
    if (fit->train_rows == 0)
        return bp_fail(fit->error, "'%s' has no training rows to fit %s of column '%s' on", data, name,
                       fit->column->name);
    fit_gather(fit);
    if (fit->known == 0)
        return bp_fail(fit->error,
                       "%s of column '%s' cannot be fitted: it is missing in all %lld training rows of '%s'", name,
                       fit->column->name, (long long)fit->train_rows, data);
    if (transform->kind == BP_IMPUTE_MEAN)
        out[0] = fit_sum(fit->scratch, fit->known) / (double)fit->known;
    else if (transform->kind == BP_IMPUTE_MEDIAN)
        out[0] = fit_median(fit);
    else if (transform->kind == BP_IMPUTE_MOST_FREQUENT)
        out[0] = fit_most_frequent(fit);
    else if (transform->kind == BP_STANDARDIZE)
        fit_standardize(fit, out);
    else
        fit_minmax(fit, out);
    int pair = fit_describe(transform->kind).count == 2;
    if (!isfinite(out[0]) || (pair && (!isfinite(out[1]) || out[1] <= 0)))
        return bp_fail(fit->error, "%s of column '%s' cannot be fitted: its values in '%s' are too large or too close",
                       name, fit->column->name, data);
    return 1;
}

/* ---- Applying ---------------------------------------------------------------------------------------------------- */
static void fit_fill_missing(struct fit_column *fit, double value) {
    for (int64_t row = 0; row < fit->raw->rows; row++)
        if (fit->missing[row]) {
            fit->values[row] = value;
            fit->missing[row] = 0;
        }
}

static void fit_shift_and_divide(struct fit_column *fit, double shift, double divisor) {
    for (int64_t row = 0; row < fit->raw->rows; row++)
        fit->values[row] = (fit->values[row] - shift) / divisor;
}

static void fit_scale(struct fit_column *fit, double factor) {
    for (int64_t row = 0; row < fit->raw->rows; row++)
        fit->values[row] *= factor;
}

static int fit_take_logarithms(struct fit_column *fit) {
    int64_t rows = fit->raw->rows;
    void (*take)(float *, int64_t) = fit->raw->data->log;
    if (take == NULL)
        return bp_fail(fit->error, "internal error: '%s' has no kernel for log", fit->raw->data->name);
    float *values = bp_allocate(sizeof *values * (size_t)rows, "a column's logarithms", fit->error);
    if (values == NULL)
        return 0;
    for (int64_t row = 0; row < rows; row++) {
        values[row] = fit->missing[row] ? 1.0F : (float)fit->values[row];
        if (values[row] > 0 && isfinite(values[row]))
            continue;
        char place[512];
        bp_raw_place(fit->raw, row, place, sizeof place);
        bp_fail(fit->error, "%s: column '%s': log needs numbers above 0 that float32 can hold, this one is %.9g", place,
                fit->column->name, fit->values[row]);
        free(values);
        return 0;
    }
    take(values, rows);
    for (int64_t row = 0; row < rows; row++)
        fit->values[row] = fit->missing[row] ? 0 : (double)values[row];
    free(values);
    return 1;
}

static int fit_apply(struct fit_column *fit, const struct bp_transform *transform, const double *fitted) {
    switch (transform->kind) {
    case BP_IMPUTE_MEAN:
    case BP_IMPUTE_MEDIAN:
    case BP_IMPUTE_MOST_FREQUENT:
        fit_fill_missing(fit, fitted[0]);
        return 1;
    case BP_IMPUTE_CONSTANT:
        fit_fill_missing(fit, transform->argument);
        return 1;
    case BP_LOG:
        return fit_take_logarithms(fit);
    case BP_STANDARDIZE:
    case BP_MINMAX:
        fit_shift_and_divide(fit, fitted[0], fitted[1]);
        return 1;
    case BP_SCALE:
        fit_scale(fit, transform->argument);
        return 1;
    case BP_STRIP: /* done while reading */
    case BP_DROP:
        return 1;
    }
    return bp_fail(fit->error, "internal error: transform %d of column '%s'", (int)transform->kind, fit->column->name);
}

static int fit_one_column(struct fit_column *fit, double *fitted, int given) {
    for (int32_t i = 0; i < fit->column->transform_count; i++) {
        const struct bp_transform *transform = &fit->column->transforms[i];
        double *out = transform->fitted < 0 ? NULL : fitted + transform->fitted;
        if (out != NULL && !given && !fit_transform(fit, transform, out))
            return 0;
        if (!fit_apply(fit, transform, out))
            return 0;
    }
    return 1;
}

/* ---- Arrays: one mean, one range for all elements of all training rows ------------------------------------------- */
struct fit_array {
    float *values; /* [rows][width] */
    int64_t rows, width;
    const int64_t *train;
    int64_t train_rows;
};

/* Neumaier's sum once more, of (x - shift) or its square. */
static double fit_array_sum(const struct fit_array *array, double shift, int squares) {
    double sum = 0, lost = 0;
    for (int64_t i = 0; i < array->train_rows; i++) {
        const float *row = array->values + array->train[i] * array->width;
        for (int64_t j = 0; j < array->width; j++) {
            double x = (double)row[j] - shift, pair[2] = {x, 0};
            pair[1] = x * x; /* stored before it is summed, so that no compiler fuses the two */
            x = pair[squares];
            double next = sum + x;
            lost += fabs(sum) >= fabs(x) ? (sum - next) + x : (x - next) + sum;
            sum = next;
        }
    }
    return sum + lost;
}

static void fit_array_extremes(const struct fit_array *array, double *least, double *greatest) {
    *least = *greatest = (double)array->values[array->train[0] * array->width];
    for (int64_t i = 0; i < array->train_rows; i++)
        for (int64_t j = 0; j < array->width; j++) {
            double x = (double)array->values[array->train[i] * array->width + j];
            *least = x < *least ? x : *least;
            *greatest = x > *greatest ? x : *greatest;
        }
}

static void fit_array_values(const struct fit_array *array, enum bp_transform_kind kind, double out[2]) {
    double least, greatest, count = (double)array->train_rows * (double)array->width;
    fit_array_extremes(array, &least, &greatest);
    out[0] = least;
    out[1] = greatest == least ? 1 : greatest - least;
    if (kind == BP_MINMAX || greatest == least)
        return;
    out[0] = fit_array_sum(array, 0, 0) / count;
    out[1] = sqrt(fit_array_sum(array, out[0], 1) / count);
}

/* (x - shift) / divisor * factor of every element. */
static void fit_array_apply(const struct fit_array *array, double shift, double divisor, double factor) {
    for (int64_t i = 0; i < array->rows * array->width; i++)
        array->values[i] = (float)(((double)array->values[i] - shift) / divisor * factor);
}

static int fit_one_array(const struct bp_raw *raw, int32_t index, const struct bp_table *table, double *fitted,
                         int given, struct bp_error *error) {
    const struct bp_column *column = &raw->data->columns[index];
    const struct fit_array array = {raw->arrays[index], raw->rows, column->width, table->parts[BP_TRAIN],
                                    table->part_rows[BP_TRAIN]};
    for (int32_t i = 0; i < column->transform_count; i++) {
        const struct bp_transform *transform = &column->transforms[i];
        double *out = transform->fitted < 0 ? NULL : fitted + transform->fitted;
        if (out != NULL && !given) {
            if (array.train_rows == 0)
                return bp_fail(error, "'%s' has no training rows to fit %s of column '%s' on", raw->data->name,
                               fit_describe(transform->kind).name, column->name);
            fit_array_values(&array, transform->kind, out);
            if (!isfinite(out[0]) || !isfinite(out[1]) || out[1] <= 0)
                return bp_fail(error,
                               "%s of column '%s' cannot be fitted: its values in '%s' are too large or too close",
                               fit_describe(transform->kind).name, column->name, raw->data->name);
        }
        if (transform->kind == BP_SCALE)
            fit_array_apply(&array, 0, 1, transform->argument);
        else if (out != NULL)
            fit_array_apply(&array, out[0], out[1], 1);
    }
    return 1;
}

int bp_fit_columns(struct bp_raw *raw, struct bp_table *table, const double *given, struct bp_error *error) {
    const struct bp_data *data = raw->data;
    table->fitted = bp_allocate(sizeof(double) * (size_t)data->fitted_count, "fitted values", error);
    double *scratch = bp_allocate(sizeof(double) * (size_t)raw->rows, "fitting", error);
    int done = table->fitted != NULL && scratch != NULL;
    if (done && given != NULL && data->fitted_count > 0)
        memcpy(table->fitted, given, sizeof(double) * (size_t)data->fitted_count);
    for (int32_t i = 0; i < data->column_count && done; i++) {
        if (raw->arrays[i] != NULL)
            done = fit_one_array(raw, i, table, table->fitted, given != NULL, error);
        if (raw->values[i] == NULL || data->columns[i].kind == BP_WORDS)
            continue;
        struct fit_column fit = {raw,
                                 &data->columns[i],
                                 raw->values[i],
                                 raw->missing[i],
                                 table->parts[BP_TRAIN],
                                 table->part_rows[BP_TRAIN],
                                 scratch,
                                 0,
                                 error};
        done = fit_one_column(&fit, table->fitted, given != NULL);
    }
    free(scratch);
    return done;
}

int bp_transform_column(struct bp_raw *raw, int32_t column, double *fitted, struct bp_error *error) {
    const struct bp_table none = {.data = raw->data};
    if (raw->arrays[column] != NULL)
        return fit_one_array(raw, column, &none, fitted, 1, error);
    struct fit_column fit = {.raw = raw,
                             .column = &raw->data->columns[column],
                             .values = raw->values[column],
                             .missing = raw->missing[column],
                             .error = error};
    return fit_one_column(&fit, fitted, 1);
}

/* ---- Checkpoints ------------------------------------------------------------------------------------------------- */
/* {"age": {"impute_median": {"value": 28}, "standardize": {"mean": 29.7, "deviation": 13}},
    "sex": {"categories": ["FEMALE", "MALE"], "impute_most_frequent": {"value": 1}}}
   A transform that a column has more than once is numbered: "standardize 2". */

static int fit_is_input(const struct bp_data *data, int32_t column) {
    for (int32_t i = 0; i < data->slot_count; i++)
        for (int32_t j = 0; j < data->slots[i].column_count && !data->slots[i].is_target; j++)
            if (data->slots[i].columns[j] == column)
                return 1;
    return 0;
}

static void fit_transform_key(const struct bp_column *column, int32_t index, char *out, size_t size) {
    int nth = 1;
    for (int32_t i = 0; i < index; i++)
        nth += column->transforms[i].kind == column->transforms[index].kind;
    const char *name = fit_describe(column->transforms[index].kind).name;
    if (nth == 1)
        snprintf(out, size, "%s", name);
    else
        snprintf(out, size, "%s %d", name, nth);
}

static void fit_write_categories(const struct bp_column *column, struct bp_text *json) {
    bp_text_printf(json, "\"categories\":[");
    for (int32_t i = 0; i < column->category_count; i++) {
        if (i > 0)
            bp_text_add(json, ",", 1);
        char number[BP_CATEGORY_NUMBER];
        bp_text_json(json, bp_category_name(column, i, number));
    }
    bp_text_add(json, "]", 1);
}

static void fit_write_column(const struct bp_column *column, const double *fitted, struct bp_text *json) {
    const char *comma = "";
    bp_text_add(json, "{", 1);
    if (column->kind == BP_CATEGORY) {
        fit_write_categories(column, json);
        comma = ",";
    }
    for (int32_t i = 0; i < column->transform_count; i++) {
        if (column->transforms[i].fitted < 0)
            continue;
        struct fit_kind kind = fit_describe(column->transforms[i].kind);
        char key[64];
        fit_transform_key(column, i, key, sizeof key);
        bp_text_printf(json, "%s\"%s\":{", comma, key);
        for (int32_t j = 0; j < kind.count; j++) {
            bp_text_printf(json, "%s\"%s\":", j > 0 ? "," : "", kind.values[j]);
            bp_text_number(json, fitted[column->transforms[i].fitted + j]);
        }
        bp_text_add(json, "}", 1);
        comma = ",";
    }
    bp_text_add(json, "}", 1);
}

void bp_fitted_write(const struct bp_data *data, const double *fitted, struct bp_text *json) {
    bp_text_add(json, "{", 1);
    for (int32_t i = 0; i < data->column_count; i++) {
        if (i > 0)
            bp_text_add(json, ",", 1);
        bp_text_json(json, data->columns[i].name);
        bp_text_add(json, ":", 1);
        fit_write_column(&data->columns[i], fitted, json);
    }
    bp_text_add(json, "}", 1);
}

static int fit_read_categories(const struct bp_column *column, const struct bp_json *from, struct bp_error *error) {
    const struct bp_json *list = bp_json_get(from, "categories");
    if (list == NULL || list->kind != BP_JSON_ARRAY)
        return bp_fail(error, "column '%s' is a category here, but not in the checkpoint", column->name);
    if (list->count != column->category_count)
        return bp_fail(error, "column '%s' has %d categories, in the checkpoint %d", column->name,
                       column->category_count, list->count);
    for (int32_t i = 0; i < list->count; i++) {
        const char *text = list->items[i].kind == BP_JSON_STRING ? list->items[i].string : "";
        char number[BP_CATEGORY_NUMBER];
        const char *name = bp_category_name(column, i, number);
        if (strcmp(text, name) != 0)
            return bp_fail(error, "column '%s': category %d is '%s', in the checkpoint '%s'", column->name, i, name,
                           text);
    }
    return 1;
}

static int fit_read_transform(const struct bp_column *column, int32_t index, const struct bp_json *from, double *fitted,
                              struct bp_error *error) {
    struct fit_kind kind = fit_describe(column->transforms[index].kind);
    char key[64];
    fit_transform_key(column, index, key, sizeof key);
    const struct bp_json *values = bp_json_get(from, key);
    if (values == NULL || values->kind != BP_JSON_OBJECT)
        return bp_fail(error, "the checkpoint holds no fitted '%s' for column '%s'", key, column->name);
    for (int32_t j = 0; j < kind.count; j++) {
        const struct bp_json *value = bp_json_get(values, kind.values[j]);
        if (value == NULL || value->kind != BP_JSON_NUMBER || !isfinite(value->number))
            return bp_fail(error, "the checkpoint's '%s' for column '%s' has no number '%s'", key, column->name,
                           kind.values[j]);
        if (j == 1 && value->number <= 0)
            return bp_fail(error, "the checkpoint's '%s' for column '%s': '%s' must be above 0", key, column->name,
                           kind.values[j]);
        fitted[column->transforms[index].fitted + j] = value->number;
    }
    return 1;
}

/* Every fitted transform of the file must be one of ours: leaving one out would feed the network other units. */
static int fit_read_extra(const struct bp_column *column, const struct bp_json *from, struct bp_error *error) {
    for (int32_t i = 0; i < from->count; i++) {
        int found = column->kind == BP_CATEGORY && strcmp(from->keys[i], "categories") == 0;
        for (int32_t j = 0; j < column->transform_count && !found; j++) {
            char key[64];
            if (column->transforms[j].fitted < 0)
                continue;
            fit_transform_key(column, j, key, sizeof key);
            found = strcmp(key, from->keys[i]) == 0;
        }
        if (!found)
            return bp_fail(error, "column '%s' has '%s' in the checkpoint, but not here", column->name, from->keys[i]);
    }
    return 1;
}

static int fit_read_column(const struct bp_data *data, int32_t index, const struct bp_json *json, double *fitted,
                           struct bp_error *error) {
    const struct bp_column *column = &data->columns[index];
    const struct bp_json *from = bp_json_get(json, column->name);
    int fits = 0, is_input = fit_is_input(data, index);
    for (int32_t i = 0; i < column->transform_count; i++)
        fits |= column->transforms[i].fitted >= 0;
    if (from == NULL && !is_input && !fits)
        return 1;
    if (from == NULL || from->kind != BP_JSON_OBJECT)
        return bp_fail(error, "the checkpoint holds no preprocessing for column '%s' of '%s'", column->name,
                       data->name);
    /* a target's classes may differ: a fine-tuned model has its own */
    if (column->kind == BP_CATEGORY && is_input && !fit_read_categories(column, from, error))
        return 0;
    for (int32_t i = 0; i < column->transform_count; i++)
        if (column->transforms[i].fitted >= 0 && !fit_read_transform(column, i, from, fitted, error))
            return 0;
    return fit_read_extra(column, from, error);
}

int bp_fitted_read(const struct bp_data *data, const char *json, size_t length, double *fitted,
                   struct bp_error *error) {
    struct bp_json root;
    memset(&root, 0, sizeof root);
    int done = bp_json_parse(&root, json, length, error);
    if (done && root.kind != BP_JSON_OBJECT)
        done = bp_fail(error, "the checkpoint's preprocessing is not a JSON object");
    for (int32_t i = 0; i < data->column_count && done; i++)
        done = fit_read_column(data, i, &root, fitted, error);
    bp_json_free(&root);
    return done;
}
