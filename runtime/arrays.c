/* A data set of IDX files: each file holds one column of the rows of one part. */
#include "reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct arrays_part {
    struct bp_reader *reader;
    enum bp_part part;
    int64_t first; /* row of the table where the part begins */
};

static int arrays_same_text(const char *a, const char *b) {
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* One row's value of a number or a category, at `row`. */
static int arrays_value(struct bp_reader *reader, int32_t column, const struct bp_idx *idx, int64_t from, int64_t row) {
    double value = bp_idx_value(idx, from);
    char text[40];
    if (!isfinite(value))
        return bp_fail(reader->error, "%.280s: row %lld of '%s' is not a finite number", reader->name,
                       (long long)from + 1, reader->data->columns[column].name);
    if (reader->data->columns[column].kind == BP_NUMBER) {
        reader->raw.values[column][row] = value;
        reader->raw.missing[column][row] = 0;
        return 1;
    }
    struct bp_field field = {.at = text, .length = snprintf(text, sizeof text, "%.17g", value)};
    int64_t before = reader->raw.rows;
    reader->raw.rows = row;
    reader->line = from + 1;
    int done = bp_reader_field(reader, column, &field);
    reader->raw.rows = before;
    return done > 0;
}

static int arrays_row(struct bp_reader *reader, int32_t column, const struct bp_idx *idx, int64_t from, int64_t row) {
    float *to = reader->raw.arrays[column] + row * idx->width;
    for (int64_t i = 0; i < idx->width; i++) {
        to[i] = (float)bp_idx_value(idx, from * idx->width + i);
        if (!isfinite(to[i]))
            return bp_fail(reader->error, "%.280s: row %lld of '%s' holds what float32 cannot: %g", reader->name,
                           (long long)from + 1, reader->data->columns[column].name,
                           bp_idx_value(idx, from * idx->width + i));
    }
    return 1;
}

static int arrays_fits(const struct bp_reader *reader, int32_t column, const struct bp_idx *idx) {
    const struct bp_column *wanted = &reader->data->columns[column];
    int64_t width = wanted->kind == BP_ARRAY ? wanted->width : 1;
    return idx->width == width || bp_fail(reader->error, "%.280s: a row of '%s' has %lld elements, %lld expected",
                                          reader->name, wanted->name, (long long)idx->width, (long long)width);
}

/* Adds the file's rows to its column at row `at` of the table; *rows: how many they are. */
static int arrays_file(struct bp_reader *reader, int32_t column, int64_t at, const char *path, int64_t *rows) {
    struct bp_idx idx;
    if (!bp_idx_open(&idx, path, reader->name, reader->error))
        return 0;
    *rows = idx.rows;
    int done = arrays_fits(reader, column, &idx) && bp_reader_reserve(reader, at + idx.rows);
    int is_array = reader->data->columns[column].kind == BP_ARRAY;
    for (int64_t i = 0; done && i < idx.rows; i++) {
        done = is_array ? arrays_row(reader, column, &idx, i, at + i) : arrays_value(reader, column, &idx, i, at + i);
        if (done)
            reader->raw.places[at + i] = (struct bp_place){reader->file, i + 1};
    }
    bp_idx_close(&idx);
    return done;
}

/* Every file of the part that holds the column, one after the other. Returns its rows, -1 after an error. */
static int64_t arrays_column(const struct arrays_part *part, int32_t column) {
    struct bp_reader *reader = part->reader;
    const struct bp_data *data = reader->data;
    int64_t rows = 0, more;
    for (int32_t i = 0; i < data->file_count; i++) {
        const struct bp_file *file = &data->files[i];
        if (file->part != part->part || !arrays_same_text(file->as, data->columns[column].name))
            continue;
        const char *path = file->path != NULL ? file->path : file->name;
        reader->name = file->name;
        if (i == 0 && reader->options->path != NULL)
            reader->name = path = reader->options->path;
        reader->file = i;
        reader->raw.file_names[i] = reader->name;
        if (!arrays_file(reader, column, part->first + rows, path, &more))
            return -1;
        rows += more;
    }
    return rows;
}

static int arrays_part_files(const struct bp_data *data, enum bp_part part) {
    int count = 0;
    for (int32_t i = 0; i < data->file_count; i++)
        count += data->files[i].part == part;
    return count;
}

static int arrays_read_part(struct bp_reader *reader, enum bp_part part) {
    const struct arrays_part here = {reader, part, reader->raw.rows};
    const struct bp_data *data = reader->data;
    int64_t rows = -1;
    const char *first = NULL;
    for (int32_t i = 0; i < data->column_count; i++) {
        if (!reader->columns[i].wanted)
            continue;
        int64_t here_rows = arrays_column(&here, i);
        if (here_rows < 0)
            return 0;
        if (rows >= 0 && here_rows != rows)
            return bp_fail(reader->error, "data '%s': %lld rows of '%s', but %lld of '%s'", data->name, (long long)rows,
                           first, (long long)here_rows, data->columns[i].name);
        rows = here_rows;
        first = data->columns[i].name;
    }
    for (int64_t i = 0; i < rows; i++)
        reader->raw.parts[here.first + i] = (uint8_t)part;
    reader->raw.rows += rows > 0 ? rows : 0;
    return 1;
}

/* `predict`: one file for the one input. */
static int arrays_read_input(struct bp_reader *reader) {
    int32_t only = -1;
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        if (!reader->columns[i].wanted)
            continue;
        if (only >= 0)
            return bp_fail(reader->error, "predict reads one IDX file, and '%s' and '%s' are in two",
                           reader->data->columns[only].name, reader->data->columns[i].name);
        only = i;
    }
    reader->name = reader->options->path;
    reader->raw.file_names[0] = reader->name;
    reader->file = 0;
    return only < 0 || arrays_file(reader, only, 0, reader->options->path, &reader->raw.rows);
}

int bp_arrays_read(struct bp_reader *reader) {
    const struct bp_data *data = reader->data;
    if (reader->options->predicting && reader->options->path != NULL) {
        if (!arrays_read_input(reader))
            return 0;
    } else {
        for (int part = BP_TRAIN; part < BP_PARTS; part++)
            if (arrays_part_files(data, (enum bp_part)part) > 0 && !arrays_read_part(reader, (enum bp_part)part))
                return 0;
    }
    return reader->raw.rows > 0 || bp_fail(reader->error, "'%s' has no rows", data->name);
}
