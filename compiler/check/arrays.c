/* Data sets of IDX files: each file holds one column, whose rows are numbers or arrays of one shape. */
#include "checker.h"

#include <stdlib.h>
#include <string.h>

bool reads_arrays(const DataSet *data) {
    return data->file_count > 0 && data->files[0].as;
}

void check_arrays(DataCheck *check, Setting *columns, Setting *missing) {
    const DataSet *data = check->data;
    bool arrays = false;
    for (int i = 0; i < data->file_count; i++)
        arrays |= data->files[i].as != NULL;
    for (int i = 0; arrays && i < data->file_count; i++) {
        const DataFile *file = &data->files[i];
        if (!file->as)
            error_at(file->span, "this file is a table, and another is an IDX file: name its column, as = label");
        else if (!file->header || file->skip || file->delimiter)
            error_at(file->span, "header, skip and delimiter are for tables; this is an IDX file");
        else
            continue;
        check->failed = true;
        return;
    }
    const Setting *other = columns ? columns : missing;
    if (!arrays || !other)
        return;
    error_at(other->keyword_span, columns ? "IDX files have no fields to name: each says what it is, as = image"
                                          : "nothing is missing in IDX files");
    check->failed = true;
}

void array_names(DataCheck *check) {
    const DataSet *data = check->data;
    check->names = arena_array(check->arena, Name, data->file_count);
    check->name_count = 0;
    for (int i = 0; i < data->file_count; i++) {
        if (name_index_find(&check->index, data->files[i].as) >= 0)
            continue;
        name_index_add(check->arena, &check->index, data->files[i].as, check->name_count);
        check->names[check->name_count++] = data->files[i].as;
    }
}

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */
static const char *shape_text(Arena *arena, int rank, const int64_t *dims) {
    const char *text = rank ? "[" : "one number";
    for (int i = 0; i < rank; i++)
        text = arena_printf(arena, "%s%s%lld%s", text, i ? ", " : "", (long long)dims[i], i == rank - 1 ? "]" : "");
    return text;
}

static bool same_shape(int rank, const int64_t *dims, const struct bp_idx *idx) {
    bool same = rank == idx->rank;
    for (int i = 0; same && i < rank; i++)
        same = dims[i] == idx->dims[i];
    return same;
}

/* The file's shape, against what is known of the column: *known, from `where`. */
static bool read_shape(DataCheck *check, DataColumn *column, int index, bool *known, Span *where) {
    const DataFile *file = &check->data->files[index];
    struct bp_error error;
    struct bp_idx idx;
    if (!bp_idx_open(&idx, check->paths[index], file->name, &error)) {
        error_at(file->span, "%s", error.text);
        return false;
    }
    bool fits = !*known || same_shape(column->rank, column->dims, &idx);
    if (!fits) {
        error_at(file->span, "a row of this file is %s, and of '%s' it is %s",
                 shape_text(check->arena, idx.rank, idx.dims), column->name,
                 shape_text(check->arena, column->rank, column->dims));
        note_at(*where, "as it is here");
    }
    if (!*known) {
        column->rank = idx.rank;
        for (int i = 0; i < idx.rank; i++)
            column->dims[i] = idx.dims[i];
        *known = true;
        *where = file->span;
    }
    bp_idx_close(&idx);
    return fits;
}

static bool find_shape(DataCheck *check, Written *written) {
    DataColumn *column = &written->column;
    const Line *line = written->line;
    bool known = column->rank > 0 || (line && (line->category || line->binary));
    int missing = -1;
    Span where = column->span;
    for (int i = 0; i < check->data->file_count; i++) {
        if (check->data->files[i].as != column->name)
            continue;
        if (!check->paths[i])
            missing = i;
        else if (!read_shape(check, column, i, &known, &where))
            return false;
    }
    if (!known)
        error_at(column->span, "the shape of '%s' must be looked up, and '%s' %s; declare it: %s[28, 28]", column->name,
                 shown(check->arena, check->data->files[missing].name), check->missing_file_why[missing], column->name);
    return known;
}

static bool fits_array(DataCheck *check, const Written *written) {
    const Line *line = written->line;
    const DataColumn *column = &written->column;
    const char *shape = shape_text(check->arena, column->rank, column->dims);
    if (!line) {
        error_at(column->span, "a row of '%s' is %s: rows are told apart by a number or a category", column->name,
                 shape);
        return false;
    }
    if (line->target) {
        error_at(column->span, "a row of '%s' is %s: a target is one number or one category", column->name, shape);
        return false;
    }
    for (int i = 0; i < line->transforms.count; i++) {
        const DataTransform *transform = &line->transforms.at[i];
        if (transform->kind == BP_SCALE || transform->kind == BP_STANDARDIZE || transform->kind == BP_MINMAX)
            continue;
        error_at(transform->span, "a row of '%s' is %s: it takes scale, standardize or minmax", column->name, shape);
        return false;
    }
    return true;
}

void find_array(DataCheck *check, Written *written) {
    DataColumn *column = &written->column;
    const Line *line = written->line;
    if (!find_shape(check, written)) {
        check->failed = check->scan_failed = true;
        return;
    }
    if (column->rank == 0) {
        column->category = line && (line->category || line->binary || line->unknown_is_zero);
        return;
    }
    column->kind = BP_ARRAY;
    column->width = 1;
    for (int i = 0; i < column->rank; i++) {
        if (column->dims[i] > INT32_MAX / column->width) {
            error_at(column->span, "a row of '%s' has too many elements", column->name);
            check->failed = true;
            return;
        }
        column->width *= (int)column->dims[i];
    }
    check->failed |= !fits_array(check, written);
}

/* ---- What is in them: for categories that are not declared ------------------------------------------------------- */
static int by_number(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static void scan_values(DataCheck *check, double *values, int64_t count, struct bp_scan_column *column) {
    qsort(values, (size_t)count, sizeof *values, by_number);
    column->numbers = count;
    column->all_numbers = count > 0;
    int distinct = 0;
    for (int64_t i = 0; i < count; i++)
        distinct += i == 0 || values[i] != values[i - 1];
    if (distinct > BP_SCAN_MOST_DISTINCT) {
        column->distinct_overflow = 1;
        return;
    }
    column->distinct = arena_array(check->arena, struct bp_scan_text, distinct + 1);
    for (int64_t i = 0; i < count; i++) {
        if (i == 0 || values[i] != values[i - 1]) {
            const char *text = number_text(check->arena, values[i]);
            column->distinct[column->distinct_count++].text = arena_copy(check->arena, text, strlen(text));
        }
        column->distinct[column->distinct_count - 1].count++;
    }
}

static bool scan_array(DataCheck *check, Name name, struct bp_scan_column *column) {
    double *values = NULL;
    int64_t count = 0;
    bool good = true;
    column->name = arena_copy(check->arena, name, strlen(name));
    for (int i = 0; good && i < check->data->file_count; i++) {
        struct bp_error error;
        struct bp_idx idx;
        if (check->data->files[i].as != name)
            continue;
        if (!bp_idx_open(&idx, check->paths[i], check->data->files[i].name, &error)) {
            error_at(check->data->files[i].span, "%s", error.text);
            check->failed = check->scan_failed = true;
            good = false;
            continue;
        }
        int64_t more = idx.rank == 0 ? idx.rows : 0; /* of arrays nothing is asked */
        double *grown = realloc(values, sizeof *values * (size_t)(count + more + 1));
        if (!grown)
            BUG("out of memory");
        values = grown;
        for (int64_t j = 0; j < more; j++)
            values[count + j] = bp_idx_value(&idx, j);
        count += more;
        bp_idx_close(&idx);
    }
    if (good)
        scan_values(check, values, count, column);
    free(values);
    return good;
}

bool scan_arrays(DataCheck *check) {
    check->scan = (struct bp_scan){.column_count = check->name_count};
    check->scan.columns = arena_array(check->arena, struct bp_scan_column, check->name_count);
    for (int i = 0; i < check->name_count; i++)
        if (!scan_array(check, check->names[i], &check->scan.columns[i]))
            return false;
    return true;
}
