/* Which field of a file is which column: by the header, or by position. */
#include "reader.h"

#include <stdlib.h>
#include <string.h>

struct locate_name { /* a field's name, to look it up */
    const char *at;
    size_t length;
    int32_t position;
};

static int locate_by_name(const void *left, const void *right) {
    const struct locate_name *a = left, *b = right;
    size_t shared = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->at, b->at, shared);
    if (order != 0)
        return order;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return a->position < b->position ? -1 : a->position > b->position;
}

static int locate_same_name(const struct locate_name *a, const struct locate_name *b) {
    return a->length == b->length && memcmp(a->at, b->at, a->length) == 0;
}

/* The first of the sorted names that is `name`, NULL where none is. */
static const struct locate_name *locate_find_name(const struct locate_name *names, int32_t count, const char *name) {
    struct locate_name wanted = {name, strlen(name), -1};
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (locate_by_name(&names[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && locate_same_name(&names[low], &wanted) ? &names[low] : NULL;
}

static int locate_missing_column(const struct bp_reader *reader, const struct bp_column *column,
                                 const struct bp_field *fields, int32_t count) {
    struct bp_nearest_text nearest = bp_nearest_to(column->name, strlen(column->name));
    struct bp_text list = {0};
    for (int32_t i = 0; i < count; i++) {
        bp_nearest_try(&nearest, fields[i].at, (size_t)fields[i].length);
        if (i < 12)
            bp_text_printf(&list, "%s%s", i > 0 ? ", " : "", bp_quoted_field(&fields[i]).text);
    }
    if (count > 12)
        bp_text_printf(&list, " and %d more", count - 12);
    if (nearest.found.text[0] != '\0')
        bp_fail(reader->error, "%s: there is no column '%s'; did you mean '%s'?", bp_reader_here(reader).text,
                column->name, nearest.found.text);
    else
        bp_fail(reader->error, "%s: there is no column '%s'; this line names %s", bp_reader_here(reader).text,
                column->name, list.at == NULL ? "" : list.at);
    bp_text_free(&list);
    return 0;
}

/* Sorted names of the fields, for look-ups. */
static struct locate_name *locate_sort_names(const struct bp_reader *reader, const struct bp_field *fields,
                                             int32_t count) {
    struct locate_name *names = bp_allocate(sizeof *names * (size_t)count, "column names", reader->error);
    if (names == NULL)
        return NULL;
    for (int32_t i = 0; i < count; i++)
        names[i] = (struct locate_name){fields[i].at, (size_t)fields[i].length, i};
    qsort(names, (size_t)count, sizeof *names, locate_by_name);
    return names;
}

/* Two columns of one name: an error wherever the file is the one that was compiled for; else where we need the name. */
static int locate_check_duplicates(const struct bp_reader *reader, const struct locate_name *names, int32_t count) {
    for (int32_t i = 1; i < count; i++) {
        if (names[i].length == 0 || !locate_same_name(&names[i - 1], &names[i]))
            continue;
        struct bp_quote quote = bp_quoted(names[i].at, (int32_t)names[i].length);
        int wanted = !reader->options->predicting;
        for (int32_t j = 0; j < reader->data->column_count && !wanted; j++)
            wanted = reader->columns[j].wanted && strlen(reader->data->columns[j].name) == names[i].length &&
                     memcmp(reader->data->columns[j].name, names[i].at, names[i].length) == 0;
        if (wanted)
            return bp_fail(reader->error, "%s: two columns are named '%s': fields %d and %d",
                           bp_reader_here(reader).text, quote.text, names[i - 1].position + 1, names[i].position + 1);
    }
    return 1;
}

int bp_locate_by_name(struct bp_reader *reader, const struct bp_field *fields, int32_t count) {
    struct locate_name *names = locate_sort_names(reader, fields, count);
    int done = names != NULL && locate_check_duplicates(reader, names, count);
    for (int32_t i = 0; i < reader->data->column_count && done; i++) {
        if (!reader->columns[i].wanted)
            continue;
        const struct locate_name *found = locate_find_name(names, count, reader->data->columns[i].name);
        if (found == NULL)
            done = locate_missing_column(reader, &reader->data->columns[i], fields, count);
        else
            reader->positions[i] = found->position;
    }
    free(names);
    return done;
}

/* 1 where each column that we need is named in the row, and none of the others' values could be meant. */
int bp_locate_names_all(const struct bp_reader *reader, const struct bp_field *fields, int32_t count) {
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        int found = !reader->columns[i].wanted;
        for (int32_t j = 0; j < count && !found; j++)
            found = bp_field_equal(&fields[j], reader->data->columns[i].name);
        if (!found)
            return 0;
    }
    return 1;
}

/* The field that a column is compiled to be: its own position, or its name's among `columns` of the .bp file. Columns are
 * mostly in the order of the fields, so the search goes on from behind the field that was found last. */
static int32_t locate_compiled_position(const struct bp_data *data, const struct bp_column *column, int32_t *last) {
    if (column->position >= 0)
        return column->position;
    for (int32_t i = 0; i < data->field_count && data->field_names != NULL; i++) {
        int32_t field = (*last + 1 + i) % data->field_count;
        if (strcmp(data->field_names[field], column->name) == 0)
            return *last = field;
    }
    return -1;
}

/* A file without names to predict may lack the targets: how many fields those are, and the positions closed up over
 * them. */
static int32_t locate_positions_without_targets(struct bp_reader *reader) {
    const struct bp_data *data = reader->data;
    int32_t targets = 0, last_target = -1;
    for (int32_t i = 0; i < data->column_count; i++) {
        if (reader->columns[i].wanted || !reader->columns[i].is_target)
            continue;
        targets++;
        int32_t target = locate_compiled_position(data, &data->columns[i], &last_target), last = -1;
        for (int32_t j = 0; j < data->column_count; j++)
            reader->positions[j] -=
                reader->columns[j].wanted && locate_compiled_position(data, &data->columns[j], &last) > target;
    }
    return targets;
}

int bp_locate_by_position(struct bp_reader *reader, int32_t count) {
    const struct bp_data *data = reader->data;
    int32_t last = -1;
    for (int32_t i = 0; i < data->column_count; i++)
        if (reader->columns[i].wanted)
            reader->positions[i] = locate_compiled_position(data, &data->columns[i], &last);
    if (reader->options->predicting && data->field_count > 0 && count < data->field_count) {
        int32_t expected = data->field_count - locate_positions_without_targets(reader);
        if (count != expected)
            return bp_fail(reader->error, "%s: %d field%s, %d expected, or %d without the targets, or a header",
                           bp_reader_here(reader).text, count, count == 1 ? "" : "s", data->field_count, expected);
        reader->field_count = expected;
        return 1;
    }
    reader->field_count = data->field_count > 0 ? data->field_count : count;
    for (int32_t i = 0; i < data->column_count; i++) {
        if (!reader->columns[i].wanted)
            continue;
        if (reader->positions[i] < 0)
            return bp_fail(reader->error, "%s: nothing says which field column '%s' is: a header is needed",
                           bp_reader_here(reader).text, data->columns[i].name);
        if (reader->positions[i] >= reader->field_count)
            return bp_fail(reader->error, "%s: %d fields, but column '%s' is field %d", bp_reader_here(reader).text,
                           count, data->columns[i].name, reader->positions[i] + 1);
    }
    return 1;
}
