/* A table from its files: every field is checked against the schema that was compiled, then parted (split.c), fitted
   and transformed (fit.c), and laid out as the matrices that the kernels read. */
#include "reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void bp_raw_place(const struct bp_raw *raw, int64_t row, char *out, size_t size) {
    const struct bp_place *place = &raw->places[row];
    if (place->file < 0)
        snprintf(out, size, "rows of '%s', row %lld", raw->data->name, (long long)place->line);
    else
        snprintf(out, size, "%s:%lld", raw->file_names[place->file], (long long)place->line);
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */
int bp_reader_resize(struct bp_reader *reader, void **memory, size_t item, int64_t capacity) {
    if ((uint64_t)capacity > PTRDIFF_MAX / item)
        return bp_fail(reader->error, "out of memory: '%s' has too many rows", reader->data->name);
    void *more = realloc(*memory, item * (size_t)capacity);
    if (more == NULL)
        return bp_fail(reader->error, "out of memory: '%s' has more rows than fit (%lld read)", reader->data->name,
                       (long long)reader->raw.rows);
    *memory = more;
    return 1;
}

static int data_is_read(const struct bp_reader *reader, int32_t column) {
    return reader->columns[column].wanted && reader->data->columns[column].kind != BP_ARRAY;
}

/* The columns' values and what is missing lie in one block, which costs fewer pages than many arrays. An odd number of
   cache lines for each: a row's lines fall into different sets of a cache. */
static int data_reserve_columns(struct bp_reader *reader, int64_t rows) {
    enum { LINE = 64, BYTES = sizeof(double) + sizeof(uint8_t) };
    struct bp_raw *raw = &reader->raw;
    size_t count = 0, kept = (size_t)reader->capacity;
    for (int32_t i = 0; i < reader->data->column_count; i++)
        count += (size_t)data_is_read(reader, i);
    if ((uint64_t)rows > (PTRDIFF_MAX / 2 / (count + 1) - LINE) / BYTES)
        return bp_fail(reader->error, "out of memory: '%s' has too many rows", reader->data->name);
    size_t each = ((size_t)rows * BYTES + LINE - 1) / LINE * LINE | LINE;
    char *block = bp_allocate(count * each, "a table's columns", reader->error), *at = block;
    if (block == NULL)
        return bp_fail(reader->error, "out of memory: '%s' has more rows than fit (%lld read)", reader->data->name,
                       (long long)raw->rows);
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        if (!data_is_read(reader, i))
            continue;
        double *values = (double *)(void *)at;
        uint8_t *missing = (uint8_t *)(values + rows);
        if (kept > 0) {
            memcpy(values, raw->values[i], kept * sizeof *values);
            memcpy(missing, raw->missing[i], kept);
        }
        raw->values[i] = values;
        raw->missing[i] = missing;
        at += each;
    }
    free(reader->block);
    reader->block = block;
    return 1;
}

int bp_reader_reserve(struct bp_reader *reader, int64_t rows) {
    if (rows <= reader->capacity)
        return 1;
    struct bp_raw *raw = &reader->raw;
    void *places = raw->places, *parts = raw->parts;
    int done = bp_reader_resize(reader, &places, sizeof *raw->places, rows);
    raw->places = places;
    done = done && bp_reader_resize(reader, &parts, sizeof *raw->parts, rows);
    raw->parts = parts;
    for (int32_t i = 0; i < reader->data->column_count && done; i++) {
        const struct bp_column *column = &reader->data->columns[i];
        if (!reader->columns[i].wanted || column->kind != BP_ARRAY)
            continue;
        void *array = raw->arrays[i];
        done = bp_reader_resize(reader, &array, sizeof(float) * (size_t)column->width, rows);
        raw->arrays[i] = array;
    }
    done = done && data_reserve_columns(reader, rows);
    if (done)
        reader->capacity = rows;
    return done;
}

/* A file has room for each of its lines from its first row on: nothing is copied later, and a small table of many columns is
   not given pages for rows that never come. */
static int data_grow(struct bp_reader *reader, const struct bp_csv *csv) {
    enum { FEW = 32 };
    int64_t before = reader->capacity, rows = reader->raw.rows;
    if (rows < before)
        return 1;
    int64_t capacity = before < FEW ? FEW : before + before / 2;
    return bp_reader_reserve(reader, csv != NULL ? rows + 1 + bp_reader_lines(csv) : capacity);
}

double *bp_reader_stage(const struct bp_reader *reader) {
    size_t columns = (size_t)reader->data->column_count;
    return bp_allocate(sizeof *reader->staged * columns * READER_STAGED, "columns", reader->error);
}

/* A row's numbers go to as many arrays as there are columns, each line of memory touched anew: several rows at once share
   the way. A few columns at a time, so that the staged rows are read by whole lines as well. */
void bp_reader_unstage(struct bp_reader *reader) {
    enum { TOGETHER = 8 };
    int32_t columns = reader->data->column_count;
    int64_t first = reader->first_staged, count = reader->raw.rows - first;
    for (int32_t start = 0; start < columns; start += TOGETHER)
        for (int64_t row = 0; row < count; row++)
            for (int32_t i = start; i < columns && i < start + TOGETHER; i++)
                if (reader->columns[i].plain && reader->columns[i].wanted)
                    reader->raw.values[i][first + row] = reader->staged[row * columns + i];
    reader->first_staged = reader->raw.rows;
}

/* The row that was begun is given up: the next one takes its place. */
static void data_drop_row(struct bp_reader *reader) {
    for (int32_t i = 0; i < reader->data->column_count; i++)
        if (reader->raw.missing[i] != NULL)
            reader->raw.missing[i][reader->raw.rows] = 0;
    reader->dropped++;
}

/* csv: where the row comes from, NULL where from no file. */
static int data_read_row(struct bp_reader *reader, const struct bp_csv *csv, const struct bp_field *fields,
                         int32_t count) {
    if (count != reader->field_count)
        return bp_fail(reader->error, "%s: %d field%s, %d expected", bp_reader_here(reader).text, count,
                       count == 1 ? "" : "s", reader->field_count);
    if (!data_grow(reader, csv))
        return 0;
    if (reader->raw.rows - reader->first_staged == READER_STAGED)
        bp_reader_unstage(reader);
    int kept = 1;
    double *staged = reader->staged + (reader->raw.rows - reader->first_staged) * reader->data->column_count;
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        const struct bp_lookup *column = &reader->columns[i];
        if (!column->wanted)
            continue;
        const struct bp_field *field = &fields[reader->positions[i]];
        if (column->plain && field->is_number) {
            staged[i] = field->number;
            continue;
        }
        int read = bp_reader_field(reader, i, field);
        if (read < 0)
            return 0;
        staged[i] = reader->raw.values[i][reader->raw.rows];
        kept &= read;
    }
    if (!kept) {
        data_drop_row(reader);
        return 1;
    }
    reader->raw.places[reader->raw.rows] = (struct bp_place){reader->name == NULL ? -1 : reader->file, reader->line};
    reader->raw.parts[reader->raw.rows] = (uint8_t)reader->part;
    reader->raw.rows++;
    return 1;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */
/* Finds the columns from the file's first row; *is_data is 1 where that row is data as well. */
static int data_locate(struct bp_reader *reader, const struct bp_file *file, int given, const struct bp_csv *csv,
                       int *is_data) {
    const struct bp_data *data = reader->data;
    *is_data = 0;
    reader->field_count = csv->field_count;
    if (data->field_names == NULL && file->header)
        return bp_locate_by_name(reader, csv->fields, csv->field_count);
    if (given && bp_locate_names_all(reader, csv->fields, csv->field_count))
        return bp_locate_by_name(reader, csv->fields, csv->field_count);
    *is_data = !file->header;
    return bp_locate_by_position(reader, csv->field_count);
}

int bp_reader_rows(struct bp_reader *reader, struct bp_csv *csv) {
    int row;
    while ((row = bp_csv_row(csv, reader->error)) == 1) {
        reader->line = csv->line;
        if (!data_read_row(reader, csv, csv->fields, csv->field_count))
            return 0;
    }
    bp_reader_unstage(reader);
    return row == 0;
}

static int data_read_open_file(struct bp_reader *reader, const struct bp_file *file, int given, struct bp_csv *csv) {
    int64_t before = reader->raw.rows + reader->dropped;
    int is_data = 0, row = bp_csv_row(csv, reader->error);
    reader->line = csv->line;
    if (row < 0)
        return 0;
    if (row == 0)
        return bp_fail(reader->error, "%.280s: the file is empty", reader->name);
    if (!data_locate(reader, file, given, csv, &is_data))
        return 0;
    reader->first_row_is_data = is_data;
    if (is_data && !data_read_row(reader, csv, csv->fields, csv->field_count))
        return 0;
    reader->first_row_is_data = 0;
    if (!bp_reader_rows_in_pieces(reader, csv))
        return 0;
    if (reader->raw.rows + reader->dropped == before)
        return bp_fail(reader->error, "%.280s: there are no rows under the header", reader->name);
    return 1;
}

/* given: the path comes from the command line. */
static int data_read_file(struct bp_reader *reader, const struct bp_file *file, int given) {
    struct bp_csv csv;
    const char *path = file->path != NULL ? file->path : file->name;
    struct bp_error why;
    reader->name = file->name;
    reader->part = file->part;
    reader->raw.file_names[reader->file] = file->name;
    if (!bp_csv_open(&csv, path, file->delimiter, file->skip, &why)) {
        if (given)
            return bp_fail(reader->error, "%.900s", why.text);
        return bp_fail(reader->error, "%.900s (data '%.40s'; --data NAME=PATH names another file)", why.text,
                       reader->data->name);
    }
    csv.path = file->name;
    int done = data_read_open_file(reader, file, given, &csv);
    bp_csv_close(&csv);
    reader->file++;
    return done;
}

static int data_read_inline(struct bp_reader *reader) {
    const struct bp_data *data = reader->data;
    reader->name = NULL;
    reader->part = BP_ALL;
    reader->line = 1;
    if (!bp_locate_by_position(reader, data->field_count))
        return 0;
    struct bp_field *fields = bp_allocate(sizeof *fields * (size_t)data->field_count, "a row", reader->error);
    int done = fields != NULL;
    for (int64_t row = 0; row < data->row_count && done; row++) {
        const char *const *texts = data->rows + row * data->field_count;
        for (int32_t i = 0; i < data->field_count; i++)
            fields[i] = (struct bp_field){.at = texts[i], .length = (int32_t)strlen(texts[i])};
        reader->line = row + 1;
        done = data_read_row(reader, NULL, fields, data->field_count);
    }
    free(fields);
    bp_reader_unstage(reader);
    return done;
}

static int data_read_all(struct bp_reader *reader) {
    const struct bp_data *data = reader->data;
    const char *path = reader->options->path;
    int32_t from = 0;
    if (data->file_count > 0 && data->files[0].as != NULL)
        return bp_arrays_read(reader);
    if (path != NULL) {
        struct bp_file file = {path, path, BP_ALL, data->field_names == NULL, 0, 0, NULL};
        if (data->file_count > 0) {
            file = data->files[0];
            file.name = file.path = path;
        }
        if (!data_read_file(reader, &file, 1))
            return 0;
        from = reader->options->predicting ? data->file_count : 1;
    } else if (data->rows != NULL && !data_read_inline(reader)) {
        return 0;
    }
    for (int32_t i = from; i < data->file_count; i++)
        if (!data_read_file(reader, &data->files[i], 0))
            return 0;
    if (reader->raw.rows > 0)
        return 1;
    if (path == NULL && data->file_count == 0 && data->rows == NULL)
        return bp_fail(reader->error, "data '%s' names no file: say --data %s=FILE", data->name, data->name);
    if (reader->dropped > 0)
        return bp_fail(reader->error, "all %lld rows of '%s' were dropped: each has a missing value",
                       (long long)reader->dropped, data->name);
    return bp_fail(reader->error, "'%s' has no rows", data->name);
}

/* ---- The table --------------------------------------------------------------------------------------------------- */
static void data_mark_columns(struct bp_reader *reader) {
    const struct bp_data *data = reader->data;
    for (int32_t i = 0; i < data->column_count; i++)
        reader->columns[i].wanted = !reader->options->predicting;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < data->slot_count; i++)
            for (int32_t j = 0; j < data->slots[i].column_count && data->slots[i].is_target == !pass; j++) {
                struct bp_lookup *lookup = &reader->columns[data->slots[i].columns[j]];
                lookup->is_target = !pass; /* what is an input as well is an input */
                lookup->wanted |= pass;
            }
}

static int data_start(struct bp_reader *reader) {
    const struct bp_data *data = reader->data;
    size_t columns = (size_t)data->column_count, files = (size_t)data->file_count + 1;
    reader->raw.data = data;
    reader->columns = bp_allocate(sizeof *reader->columns * columns, "columns", reader->error);
    reader->positions = bp_allocate(sizeof *reader->positions * columns, "columns", reader->error);
    reader->staged = bp_reader_stage(reader);
    reader->raw.values = bp_allocate(sizeof *reader->raw.values * columns, "columns", reader->error);
    reader->raw.missing = bp_allocate(sizeof *reader->raw.missing * columns, "columns", reader->error);
    reader->raw.words = bp_allocate(sizeof *reader->raw.words * columns, "columns", reader->error);
    reader->raw.arrays = bp_allocate(sizeof *reader->raw.arrays * columns, "columns", reader->error);
    reader->raw.file_names = bp_allocate(sizeof *reader->raw.file_names * files, "files", reader->error);
    if (reader->columns == NULL || reader->positions == NULL || reader->staged == NULL || reader->raw.values == NULL ||
        reader->raw.missing == NULL || reader->raw.words == NULL || reader->raw.arrays == NULL ||
        reader->raw.file_names == NULL)
        return 0;
    data_mark_columns(reader);
    for (int32_t i = 0; i < data->column_count; i++) {
        const struct bp_column *column = &data->columns[i];
        reader->columns[i].plain = column->kind == BP_NUMBER && column->missing_count == 0;
        if (column->kind == BP_CATEGORY && !bp_lookup_start(&reader->columns[i], column, reader->error))
            return 0;
    }
    return 1;
}

static void data_end(struct bp_reader *reader) {
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        if (reader->columns != NULL)
            free(reader->columns[i].keys);
        if (reader->raw.arrays != NULL)
            free(reader->raw.arrays[i]);
        if (reader->raw.words != NULL)
            bp_words_free(reader->raw.words[i]);
    }
    free(reader->columns);
    free(reader->positions);
    free(reader->staged);
    free(reader->block);
    free(reader->raw.values);
    free(reader->raw.missing);
    free(reader->raw.arrays);
    free(reader->raw.words);
    free((void *)reader->raw.file_names);
    free(reader->raw.places);
    free(reader->raw.parts);
}

/* Rows [start, end) of one column into their places in a slot [rows][width]. */
static int data_fill_column(const struct bp_raw *raw, const struct bp_slot *slot, int32_t within, int64_t start,
                            int64_t end, void *memory, struct bp_error *error) {
    const double *values = raw->values[slot->columns[within]];
    for (int64_t row = start; row < end; row++) {
        int64_t at = row * slot->width + within;
        if (slot->type == BP_I32) {
            ((int32_t *)memory)[at] = (int32_t)values[row];
            continue;
        }
        float value = (float)values[row];
        if (!isfinite(value)) {
            char place[512];
            bp_raw_place(raw, row, place, sizeof place);
            return bp_fail(error, "%s: column '%s': %g is beyond what float32 can hold", place,
                           raw->data->columns[slot->columns[within]].name, values[row]);
        }
        ((float *)memory)[at] = value;
    }
    return 1;
}

/* A block of rows at a time, whose lines stay in the cache while the columns are scattered over them. */
int bp_fill_slot(const struct bp_raw *raw, const struct bp_slot *slot, void *memory, struct bp_error *error) {
    const int64_t block = 64;
    if (slot->form == BP_SLOT_ARRAY) {
        memcpy(memory, raw->arrays[slot->columns[0]], (size_t)(raw->rows * slot->width) * sizeof(float));
        return 1;
    }
    for (int64_t start = 0; start < raw->rows; start += block) {
        int64_t end = start + block < raw->rows ? start + block : raw->rows;
        for (int32_t j = 0; j < slot->width; j++)
            if (!data_fill_column(raw, slot, j, start, end, memory, error))
                return 0;
    }
    return 1;
}

static int data_fill_slots(struct bp_raw *raw, int predicting, struct bp_table *table, struct bp_error *error) {
    const struct bp_data *data = raw->data;
    table->slots = bp_allocate(sizeof *table->slots * (size_t)data->slot_count, "the table", error);
    if (table->slots == NULL)
        return 0;
    for (int32_t i = 0; i < data->slot_count; i++) {
        const struct bp_slot *slot = &data->slots[i];
        if (predicting && slot->is_target)
            continue;
        if (slot->width > 0 && raw->rows > PTRDIFF_MAX / 4 / slot->width)
            return bp_fail(error, "out of memory: '%s' is too large", data->name);
        if (slot->form == BP_SLOT_WORDS || slot->form == BP_SLOT_COUNTS)
            continue;
        if (slot->form == BP_SLOT_ARRAY) { /* as it is: the table owns it from here on */
            table->slots[i] = raw->arrays[slot->columns[0]];
            raw->arrays[slot->columns[0]] = NULL;
            continue;
        }
        table->slots[i] = bp_allocate((size_t)(raw->rows * slot->width) * sizeof(float), slot->name, error);
        if (table->slots[i] == NULL)
            return 0;
        if (!bp_fill_slot(raw, slot, table->slots[i], error))
            return 0;
    }
    return 1;
}

static int data_every_row(struct bp_table *table, int64_t rows, struct bp_error *error) {
    table->parts[BP_ALL] = bp_allocate(sizeof(int64_t) * (size_t)rows, "rows", error);
    if (table->parts[BP_ALL] == NULL)
        return 0;
    for (int64_t row = 0; row < rows; row++)
        table->parts[BP_ALL][row] = row;
    table->part_rows[BP_ALL] = rows;
    return 1;
}

static int data_make_table(struct bp_reader *reader, struct bp_table *table) {
    int predicting = reader->options->predicting;
    table->rows = reader->raw.rows;
    table->dropped = reader->dropped;
    if (predicting && reader->options->fitted == NULL && reader->data->fitted_count > 0)
        return bp_fail(reader->error, "predicting from '%s' needs the values that were fitted in training",
                       reader->data->name);
    if (!(predicting ? data_every_row(table, table->rows, reader->error)
                     : bp_split_rows(&reader->raw, reader->options->fold, table, reader->error)))
        return 0;
    if (predicting && reader->options->vocabulary == NULL && bp_data_has_words(reader->data))
        return bp_fail(reader->error, "predicting from '%s' needs the vocabulary of the training", reader->data->name);
    return bp_fit_columns(&reader->raw, table, reader->options->fitted, reader->error) &&
           data_fill_slots(&reader->raw, predicting, table, reader->error) &&
           (!bp_data_has_words(reader->data) ||
            bp_words_fit(&reader->raw, reader->options->vocabulary, table, reader->error));
}

int bp_table_load(struct bp_table *table, const struct bp_data *data, const struct bp_data_options *options,
                  struct bp_error *error) {
    static const struct bp_data_options as_compiled = {.threads = 1};
    struct bp_reader reader;
    memset(&reader, 0, sizeof reader);
    memset(table, 0, sizeof *table);
    table->data = data;
    reader.data = data;
    reader.options = options != NULL ? options : &as_compiled;
    reader.error = error;
    int done = data_start(&reader) && data_read_all(&reader) && data_make_table(&reader, table);
    data_end(&reader);
    if (!done)
        bp_table_free(table);
    return done;
}

void bp_table_free(struct bp_table *table) {
    for (int32_t i = 0; table->slots != NULL && i < table->data->slot_count; i++)
        free(table->slots[i]);
    free(table->slots);
    for (int part = 0; part < BP_PARTS; part++)
        free(table->parts[part]);
    for (int32_t i = 0; table->starts != NULL && i < table->data->slot_count; i++)
        free(table->starts[i]);
    free(table->starts);
    free(table->vocabulary);
    free(table->fitted);
    memset(table, 0, sizeof *table);
}
