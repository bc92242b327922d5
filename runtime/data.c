/* A table from its files: every field is checked against the schema that was compiled, then parted (split.c), fitted
   and transformed (fit.c), and laid out as the matrices that the kernels read. */
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- What is known while reading --------------------------------------------------------------------------------- */
struct data_key { /* a category as it is looked up */
    const char *text;
    double number;
    int32_t index;
};

struct data_lookup {
    struct data_key *keys; /* [category_count] sorted by number where all are numbers, else by bytes */
    int numeric;
    int wanted;    /* read from the files at all */
    int is_target; /* a slot for targets alone holds it */
};

struct data_reader {
    const struct bp_data *data;
    const struct bp_data_options *options;
    struct bp_error *error;
    struct bp_raw raw;
    int64_t capacity, dropped;
    struct data_lookup *columns; /* [column_count] */
    int32_t *positions;          /* [column_count] field in the present file */
    int32_t field_count;         /* fields that a row of the present file has */
    int first_row_is_data;       /* the file has no header, and this row is its first */
    const char *name;            /* of the present file, NULL: `rows` */
    int32_t file;
    int64_t line;
    enum bp_part part;
};

struct data_quote {
    char text[96];
};

struct data_where {
    char text[320];
};

/* A field for a message: cut to a readable length, control bytes shown as '?'. */
static struct data_quote data_quoted(const char *at, int32_t length) {
    struct data_quote quote;
    int32_t shown = length > 60 ? 60 : length;
    while (shown < length && shown > 0 && ((unsigned char)at[shown] & 0xc0) == 0x80)
        shown--; /* not within a character */
    for (int32_t i = 0; i < shown; i++)
        quote.text[i] = (unsigned char)at[i] < 0x20 || at[i] == 0x7f ? '?' : at[i];
    snprintf(quote.text + shown, sizeof quote.text - (size_t)shown, "%s", shown < length ? "..." : "");
    return quote;
}

static struct data_quote data_quoted_field(const struct bp_field *field) {
    return data_quoted(field->at, field->length);
}

static struct data_quote data_quoted_name(const char *name) {
    size_t length = strlen(name);
    return data_quoted(name, (int32_t)(length > 1000 ? 1000 : length));
}

static int data_equal(const struct bp_field *field, const char *text) {
    size_t length = strlen(text);
    return (size_t)field->length == length && memcmp(field->at, text, length) == 0;
}

void bp_raw_place(const struct bp_raw *raw, int64_t row, char *out, size_t size) {
    const struct bp_place *place = &raw->places[row];
    if (place->file < 0)
        snprintf(out, size, "rows of '%s', row %lld", raw->data->name, (long long)place->line);
    else
        snprintf(out, size, "%s:%lld", raw->file_names[place->file], (long long)place->line);
}

/* The place of the row that is being read. */
static struct data_where data_here(const struct data_reader *reader) {
    struct data_where where;
    if (reader->name == NULL)
        snprintf(where.text, sizeof where.text, "rows of '%.200s', row %lld", reader->data->name,
                 (long long)reader->line);
    else
        snprintf(where.text, sizeof where.text, "%.280s:%lld", reader->name, (long long)reader->line);
    return where;
}

/* ---- Did you mean ------------------------------------------------------------------------------------------------ */
static int data_lower(char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

/* Edits (insert, delete, replace; another case costs nothing) between two texts; 1000 where they are too long to tell.
 */
static int data_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    enum { LONGEST = 63 };
    int row[LONGEST + 1];
    if (a_length > LONGEST || b_length > LONGEST)
        return 1000;
    for (size_t j = 0; j <= b_length; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            int replaced = diagonal + (data_lower(a[i - 1]) != data_lower(b[j - 1]));
            int shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return row[b_length];
}

/* Keeps the candidate if it is nearer to `wrong` than all before. */
struct data_nearest {
    const char *wrong;
    size_t wrong_length;
    int distance;
    struct data_quote found;
};

static struct data_nearest data_nearest_to(const char *wrong, size_t length) {
    struct data_nearest nearest;
    nearest.wrong = wrong;
    nearest.wrong_length = length;
    nearest.distance = length < 3 ? 1 : length < 6 ? 2 : 3; /* one less than this is near enough */
    nearest.found.text[0] = '\0';
    return nearest;
}

static void data_try_nearest(struct data_nearest *nearest, const char *candidate, size_t length) {
    int distance = data_distance(nearest->wrong, nearest->wrong_length, candidate, length);
    if (length == 0 || distance >= nearest->distance)
        return;
    nearest->distance = distance;
    nearest->found = data_quoted(candidate, (int32_t)length);
}

/* ---- Categories -------------------------------------------------------------------------------------------------- */
static int data_by_text(const void *left, const void *right) {
    const struct data_key *a = left, *b = right;
    int order = strcmp(a->text, b->text);
    return order != 0 ? order : a->index < b->index ? -1 : a->index > b->index;
}

static int data_by_number(const void *left, const void *right) {
    const struct data_key *a = left, *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int data_prepare_categories(struct data_lookup *lookup, const struct bp_column *column, struct bp_error *error) {
    size_t count = (size_t)column->category_count;
    lookup->keys = bp_allocate(sizeof *lookup->keys * count, "categories", error);
    if (lookup->keys == NULL)
        return 0;
    lookup->numeric = count > 0;
    for (size_t i = 0; i < count; i++) {
        struct data_key *key = &lookup->keys[i];
        key->text = column->categories[i];
        key->index = (int32_t)i;
        lookup->numeric &= bp_parse_number(key->text, strlen(key->text), &key->number);
    }
    qsort(lookup->keys, count, sizeof *lookup->keys, lookup->numeric ? data_by_number : data_by_text);
    return 1;
}

/* <0, 0, >0 as the field comes before, at or behind the key. */
static int data_compare_key(const struct bp_field *field, double number, int numeric, const struct data_key *key) {
    if (numeric)
        return number < key->number ? -1 : number > key->number;
    size_t length = strlen(key->text), shared = (size_t)field->length < length ? (size_t)field->length : length;
    int order = memcmp(field->at, key->text, shared);
    return order != 0 ? order : (size_t)field->length < length ? -1 : (size_t)field->length > length;
}

/* The index of a field's category, -1 where it is none. */
static int32_t data_find_category(const struct data_lookup *lookup, int32_t count, const struct bp_field *field) {
    double number = 0;
    if (lookup->numeric && !bp_parse_number(field->at, (size_t)field->length, &number))
        return -1;
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (data_compare_key(field, number, lookup->numeric, &lookup->keys[middle]) > 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < count && data_compare_key(field, number, lookup->numeric, &lookup->keys[low]) == 0)
        return lookup->keys[low].index;
    return -1;
}

static void data_unknown_category(const struct data_reader *reader, const struct bp_column *column,
                                  const struct bp_field *field) {
    struct data_nearest nearest = data_nearest_to(field->at, (size_t)field->length);
    struct bp_text list = {0};
    for (int32_t i = 0; i < column->category_count; i++) {
        data_try_nearest(&nearest, column->categories[i], strlen(column->categories[i]));
        if (i < 8)
            bp_text_printf(&list, "%s%s", i > 0 ? ", " : "", data_quoted_name(column->categories[i]).text);
    }
    if (column->category_count > 8)
        bp_text_printf(&list, " and %d more", column->category_count - 8);
    bp_fail(reader->error, "%s: column '%s': '%s' is not one of the categories of '%s' (%s)%s%s%s",
            data_here(reader).text, column->name, data_quoted_field(field).text, column->name,
            list.at == NULL ? "" : list.at, nearest.found.text[0] != '\0' ? "; did you mean '" : "", nearest.found.text,
            nearest.found.text[0] != '\0' ? "'?" : "");
    bp_text_free(&list);
}

/* ---- One field --------------------------------------------------------------------------------------------------- */
/* `missing 0` means 0.0 too where the column holds numbers. */
static int data_is_missing(const struct bp_column *column, int by_value, const struct bp_field *field) {
    if (field->length == 0)
        return 1;
    double number, code;
    for (int32_t i = 0; i < column->missing_count; i++) {
        const char *text = column->missing[i];
        if (data_equal(field, text))
            return 1;
        if (by_value && bp_parse_number(text, strlen(text), &code) &&
            bp_parse_number(field->at, (size_t)field->length, &number) && number == code)
            return 1;
    }
    return 0;
}

static void data_strip(const struct bp_column *column, struct bp_field *field) {
    for (int32_t i = 0; i < column->transform_count; i++) {
        if (column->transforms[i].kind != BP_STRIP)
            continue;
        while (field->length > 0 && field->at[field->length - 1] != '\0' &&
               strchr(column->transforms[i].text, field->at[field->length - 1]) != NULL)
            field->length--;
        while (field->length > 0 && !field->quoted && field->at[field->length - 1] == ' ')
            field->length--;
    }
}

/* 1: kept, and filled later; 0: the row is dropped; -1: an error. */
static int data_missing_field(const struct data_reader *reader, int32_t index) {
    const struct bp_column *column = &reader->data->columns[index];
    for (int32_t i = 0; i < column->transform_count; i++) {
        switch (column->transforms[i].kind) {
        case BP_IMPUTE_MEAN:
        case BP_IMPUTE_MEDIAN:
        case BP_IMPUTE_MOST_FREQUENT:
        case BP_IMPUTE_CONSTANT:
            return 1;
        case BP_DROP:
            if (!reader->options->predicting)
                return 0;
            bp_fail(reader->error, "%s: column '%s' is missing, and a row to predict cannot be dropped",
                    data_here(reader).text, column->name);
            return -1;
        case BP_STRIP:
        case BP_LOG:
        case BP_STANDARDIZE:
        case BP_MINMAX:
        case BP_SCALE:
            break;
        }
    }
    const char *remedy = reader->columns[index].is_target ? "drop"
                         : column->kind == BP_CATEGORY    ? "impute(most_frequent) or drop"
                                                          : "impute(median) or drop";
    bp_fail(reader->error, "%s: column '%s' is missing; add %s", data_here(reader).text, column->name, remedy);
    return -1;
}

static void data_not_a_number(const struct data_reader *reader, const struct bp_column *column,
                              const struct bp_field *field) {
    static const char *const codes[] = {"?", "NA", "N/A", "na", "n/a", "NaN", "nan", "NULL", "null", "None", "-"};
    struct data_quote quote = data_quoted_field(field);
    const char *before = "", *after = "";
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (data_equal(field, codes[i])) {
            before = "; if it means missing, write: missing \"";
            after = "\"";
        }
    if (reader->first_row_is_data && data_equal(field, column->name))
        bp_fail(reader->error, "%s: column '%s': '%s' is not a number; is this line a header?", data_here(reader).text,
                column->name, quote.text);
    else if (bp_number_beyond(field->at, (size_t)field->length))
        bp_fail(reader->error, "%s: column '%s': '%s' is beyond the largest number, 1.8e308", data_here(reader).text,
                column->name, quote.text);
    else
        bp_fail(reader->error, "%s: column '%s': '%s' is not a number%s%s%s", data_here(reader).text, column->name,
                quote.text, before, *before != '\0' ? quote.text : "", after);
}

/* Writes a field's value at row raw.rows. 1: read; 0: the row is dropped; -1: an error. */
static int data_read_field(struct data_reader *reader, int32_t index, struct bp_field field) {
    const struct bp_column *column = &reader->data->columns[index];
    const struct data_lookup *lookup = &reader->columns[index];
    double *value = &reader->raw.values[index][reader->raw.rows];
    uint8_t *missing = &reader->raw.missing[index][reader->raw.rows];
    int by_value = column->kind == BP_NUMBER || lookup->numeric;
    int is_missing = data_is_missing(column, by_value, &field);
    if (!is_missing && column->kind == BP_CATEGORY) {
        data_strip(column, &field);
        is_missing = data_is_missing(column, by_value, &field);
    }
    *missing = (uint8_t)is_missing;
    *value = 0;
    if (is_missing)
        return data_missing_field(reader, index);
    if (column->kind == BP_CATEGORY) {
        int32_t category = data_find_category(lookup, column->category_count, &field);
        *value = category;
        if (category >= 0 || column->unknown_is_zero)
            return 1;
        data_unknown_category(reader, column, &field);
        return -1;
    }
    if (bp_parse_number(field.at, (size_t)field.length, value))
        return 1;
    data_not_a_number(reader, column, &field);
    return -1;
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */
static int data_resize(struct data_reader *reader, void **memory, size_t item, int64_t capacity) {
    if ((uint64_t)capacity > PTRDIFF_MAX / item)
        return bp_fail(reader->error, "out of memory: '%s' has too many rows", reader->data->name);
    void *more = realloc(*memory, item * (size_t)capacity);
    if (more == NULL)
        return bp_fail(reader->error, "out of memory: '%s' has more rows than fit (%lld read)", reader->data->name,
                       (long long)reader->raw.rows);
    *memory = more;
    return 1;
}

static int data_grow(struct data_reader *reader) {
    if (reader->raw.rows < reader->capacity)
        return 1;
    int64_t capacity = reader->capacity < 256 ? 256 : reader->capacity + reader->capacity / 2;
    struct bp_raw *raw = &reader->raw;
    void *places = raw->places, *parts = raw->parts;
    int done = data_resize(reader, &places, sizeof *raw->places, capacity);
    raw->places = places;
    done = done && data_resize(reader, &parts, sizeof *raw->parts, capacity);
    raw->parts = parts;
    for (int32_t i = 0; i < reader->data->column_count && done; i++) {
        if (!reader->columns[i].wanted)
            continue;
        void *values = raw->values[i], *missing = raw->missing[i];
        done = data_resize(reader, &values, sizeof(double), capacity);
        raw->values[i] = values;
        done = done && data_resize(reader, &missing, sizeof(uint8_t), capacity);
        raw->missing[i] = missing;
    }
    if (done)
        reader->capacity = capacity;
    return done;
}

static int data_read_row(struct data_reader *reader, const struct bp_field *fields, int32_t count) {
    if (count != reader->field_count)
        return bp_fail(reader->error, "%s: %d field%s, %d expected", data_here(reader).text, count,
                       count == 1 ? "" : "s", reader->field_count);
    if (!data_grow(reader))
        return 0;
    int kept = 1;
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        if (!reader->columns[i].wanted)
            continue;
        int read = data_read_field(reader, i, fields[reader->positions[i]]);
        if (read < 0)
            return 0;
        kept &= read;
    }
    if (!kept) {
        reader->dropped++;
        return 1;
    }
    reader->raw.places[reader->raw.rows] = (struct bp_place){reader->name == NULL ? -1 : reader->file, reader->line};
    reader->raw.parts[reader->raw.rows] = (uint8_t)reader->part;
    reader->raw.rows++;
    return 1;
}

/* ---- Which field is which column --------------------------------------------------------------------------------- */
struct data_name { /* a field's name, to look it up */
    const char *at;
    size_t length;
    int32_t position;
};

static int data_by_name(const void *left, const void *right) {
    const struct data_name *a = left, *b = right;
    size_t shared = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->at, b->at, shared);
    if (order != 0)
        return order;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return a->position < b->position ? -1 : a->position > b->position;
}

static int data_same_name(const struct data_name *a, const struct data_name *b) {
    return a->length == b->length && memcmp(a->at, b->at, a->length) == 0;
}

/* The first of the sorted names that is `name`, NULL where none is. */
static const struct data_name *data_find_name(const struct data_name *names, int32_t count, const char *name) {
    struct data_name wanted = {name, strlen(name), -1};
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (data_by_name(&names[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && data_same_name(&names[low], &wanted) ? &names[low] : NULL;
}

static int data_missing_column(const struct data_reader *reader, const struct bp_column *column,
                               const struct bp_field *fields, int32_t count) {
    struct data_nearest nearest = data_nearest_to(column->name, strlen(column->name));
    struct bp_text list = {0};
    for (int32_t i = 0; i < count; i++) {
        data_try_nearest(&nearest, fields[i].at, (size_t)fields[i].length);
        if (i < 12)
            bp_text_printf(&list, "%s%s", i > 0 ? ", " : "", data_quoted_field(&fields[i]).text);
    }
    if (count > 12)
        bp_text_printf(&list, " and %d more", count - 12);
    if (nearest.found.text[0] != '\0')
        bp_fail(reader->error, "%s: there is no column '%s'; did you mean '%s'?", data_here(reader).text, column->name,
                nearest.found.text);
    else
        bp_fail(reader->error, "%s: there is no column '%s'; this line names %s", data_here(reader).text, column->name,
                list.at == NULL ? "" : list.at);
    bp_text_free(&list);
    return 0;
}

/* Sorted names of the fields, for look-ups. */
static struct data_name *data_sort_names(const struct data_reader *reader, const struct bp_field *fields,
                                         int32_t count) {
    struct data_name *names = bp_allocate(sizeof *names * (size_t)count, "column names", reader->error);
    if (names == NULL)
        return NULL;
    for (int32_t i = 0; i < count; i++)
        names[i] = (struct data_name){fields[i].at, (size_t)fields[i].length, i};
    qsort(names, (size_t)count, sizeof *names, data_by_name);
    return names;
}

/* Two columns of one name: an error wherever the file is the one that was compiled for; else where we need the name. */
static int data_check_duplicates(const struct data_reader *reader, const struct data_name *names, int32_t count) {
    for (int32_t i = 1; i < count; i++) {
        if (names[i].length == 0 || !data_same_name(&names[i - 1], &names[i]))
            continue;
        struct data_quote quote = data_quoted(names[i].at, (int32_t)names[i].length);
        int wanted = !reader->options->predicting;
        for (int32_t j = 0; j < reader->data->column_count && !wanted; j++)
            wanted = reader->columns[j].wanted && strlen(reader->data->columns[j].name) == names[i].length &&
                     memcmp(reader->data->columns[j].name, names[i].at, names[i].length) == 0;
        if (wanted)
            return bp_fail(reader->error, "%s: two columns are named '%s': fields %d and %d", data_here(reader).text,
                           quote.text, names[i - 1].position + 1, names[i].position + 1);
    }
    return 1;
}

static int data_locate_by_name(struct data_reader *reader, const struct bp_field *fields, int32_t count) {
    struct data_name *names = data_sort_names(reader, fields, count);
    int done = names != NULL && data_check_duplicates(reader, names, count);
    for (int32_t i = 0; i < reader->data->column_count && done; i++) {
        if (!reader->columns[i].wanted)
            continue;
        const struct data_name *found = data_find_name(names, count, reader->data->columns[i].name);
        if (found == NULL)
            done = data_missing_column(reader, &reader->data->columns[i], fields, count);
        else
            reader->positions[i] = found->position;
    }
    free(names);
    return done;
}

/* 1 where each column that we need is named in the row, and none of the others' values could be meant. */
static int data_names_all(const struct data_reader *reader, const struct bp_field *fields, int32_t count) {
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        int found = !reader->columns[i].wanted;
        for (int32_t j = 0; j < count && !found; j++)
            found = data_equal(&fields[j], reader->data->columns[i].name);
        if (!found)
            return 0;
    }
    return 1;
}

/* The field that a column is compiled to be: its own position, or its name's among `columns` of the .bp file. */
static int32_t data_compiled_position(const struct bp_data *data, const struct bp_column *column) {
    if (column->position >= 0)
        return column->position;
    for (int32_t i = 0; i < data->field_count && data->field_names != NULL; i++)
        if (strcmp(data->field_names[i], column->name) == 0)
            return i;
    return -1;
}

/* A file without names to predict may lack the targets: how many fields those are, and the positions closed up over
 * them. */
static int32_t data_positions_without_targets(struct data_reader *reader) {
    const struct bp_data *data = reader->data;
    int32_t targets = 0;
    for (int32_t i = 0; i < data->column_count; i++) {
        if (reader->columns[i].wanted || !reader->columns[i].is_target)
            continue;
        targets++;
        for (int32_t j = 0; j < data->column_count; j++)
            reader->positions[j] -= reader->columns[j].wanted && data_compiled_position(data, &data->columns[j]) >
                                                                     data_compiled_position(data, &data->columns[i]);
    }
    return targets;
}

static int data_locate_by_position(struct data_reader *reader, int32_t count) {
    const struct bp_data *data = reader->data;
    for (int32_t i = 0; i < data->column_count; i++)
        if (reader->columns[i].wanted)
            reader->positions[i] = data_compiled_position(data, &data->columns[i]);
    if (reader->options->predicting && data->field_count > 0 && count < data->field_count) {
        int32_t expected = data->field_count - data_positions_without_targets(reader);
        if (count != expected)
            return bp_fail(reader->error, "%s: %d field%s, %d expected, or %d without the targets, or a header",
                           data_here(reader).text, count, count == 1 ? "" : "s", data->field_count, expected);
        reader->field_count = expected;
        return 1;
    }
    reader->field_count = data->field_count > 0 ? data->field_count : count;
    for (int32_t i = 0; i < data->column_count; i++) {
        if (!reader->columns[i].wanted)
            continue;
        if (reader->positions[i] < 0)
            return bp_fail(reader->error, "%s: nothing says which field column '%s' is: a header is needed",
                           data_here(reader).text, data->columns[i].name);
        if (reader->positions[i] >= reader->field_count)
            return bp_fail(reader->error, "%s: %d fields, but column '%s' is field %d", data_here(reader).text, count,
                           data->columns[i].name, reader->positions[i] + 1);
    }
    return 1;
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */
/* Finds the columns from the file's first row; *is_data is 1 where that row is data as well. */
static int data_locate(struct data_reader *reader, const struct bp_file *file, int given, const struct bp_csv *csv,
                       int *is_data) {
    const struct bp_data *data = reader->data;
    *is_data = 0;
    reader->field_count = csv->field_count;
    if (data->field_names == NULL && file->header)
        return data_locate_by_name(reader, csv->fields, csv->field_count);
    if (given && data_names_all(reader, csv->fields, csv->field_count))
        return data_locate_by_name(reader, csv->fields, csv->field_count);
    *is_data = !file->header;
    return data_locate_by_position(reader, csv->field_count);
}

static int data_read_open_file(struct data_reader *reader, const struct bp_file *file, int given, struct bp_csv *csv) {
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
    if (is_data && !data_read_row(reader, csv->fields, csv->field_count))
        return 0;
    reader->first_row_is_data = 0;
    while ((row = bp_csv_row(csv, reader->error)) == 1) {
        reader->line = csv->line;
        if (!data_read_row(reader, csv->fields, csv->field_count))
            return 0;
    }
    if (row < 0)
        return 0;
    if (reader->raw.rows + reader->dropped == before)
        return bp_fail(reader->error, "%.280s: there are no rows under the header", reader->name);
    return 1;
}

/* given: the path comes from the command line. */
static int data_read_file(struct data_reader *reader, const struct bp_file *file, int given) {
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

static int data_read_inline(struct data_reader *reader) {
    const struct bp_data *data = reader->data;
    reader->name = NULL;
    reader->part = BP_ALL;
    reader->line = 1;
    if (!data_locate_by_position(reader, data->field_count))
        return 0;
    struct bp_field *fields = bp_allocate(sizeof *fields * (size_t)data->field_count, "a row", reader->error);
    int done = fields != NULL;
    for (int64_t row = 0; row < data->row_count && done; row++) {
        const char *const *texts = data->rows + row * data->field_count;
        for (int32_t i = 0; i < data->field_count; i++)
            fields[i] = (struct bp_field){texts[i], (int32_t)strlen(texts[i]), 0};
        reader->line = row + 1;
        done = data_read_row(reader, fields, data->field_count);
    }
    free(fields);
    return done;
}

static int data_read_all(struct data_reader *reader) {
    const struct bp_data *data = reader->data;
    const char *path = reader->options->path;
    int32_t from = 0;
    if (path != NULL) {
        struct bp_file file = {path, path, BP_ALL, data->field_names == NULL, 0, 0};
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
static void data_mark_columns(struct data_reader *reader) {
    const struct bp_data *data = reader->data;
    for (int32_t i = 0; i < data->column_count; i++)
        reader->columns[i].wanted = !reader->options->predicting;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < data->slot_count; i++)
            for (int32_t j = 0; j < data->slots[i].width && data->slots[i].is_target == !pass; j++) {
                struct data_lookup *lookup = &reader->columns[data->slots[i].columns[j]];
                lookup->is_target = !pass; /* what is an input as well is an input */
                lookup->wanted |= pass;
            }
}

static int data_start(struct data_reader *reader) {
    const struct bp_data *data = reader->data;
    size_t columns = (size_t)data->column_count, files = (size_t)data->file_count + 1;
    reader->raw.data = data;
    reader->columns = bp_allocate(sizeof *reader->columns * columns, "columns", reader->error);
    reader->positions = bp_allocate(sizeof *reader->positions * columns, "columns", reader->error);
    reader->raw.values = bp_allocate(sizeof *reader->raw.values * columns, "columns", reader->error);
    reader->raw.missing = bp_allocate(sizeof *reader->raw.missing * columns, "columns", reader->error);
    reader->raw.file_names = bp_allocate(sizeof *reader->raw.file_names * files, "files", reader->error);
    if (reader->columns == NULL || reader->positions == NULL || reader->raw.values == NULL ||
        reader->raw.missing == NULL || reader->raw.file_names == NULL)
        return 0;
    data_mark_columns(reader);
    for (int32_t i = 0; i < data->column_count; i++)
        if (data->columns[i].kind == BP_CATEGORY &&
            !data_prepare_categories(&reader->columns[i], &data->columns[i], reader->error))
            return 0;
    return 1;
}

static void data_end(struct data_reader *reader) {
    for (int32_t i = 0; i < reader->data->column_count; i++) {
        if (reader->columns != NULL)
            free(reader->columns[i].keys);
        if (reader->raw.values != NULL)
            free(reader->raw.values[i]);
        if (reader->raw.missing != NULL)
            free(reader->raw.missing[i]);
    }
    free(reader->columns);
    free(reader->positions);
    free(reader->raw.values);
    free(reader->raw.missing);
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
    for (int64_t start = 0; start < raw->rows; start += block) {
        int64_t end = start + block < raw->rows ? start + block : raw->rows;
        for (int32_t j = 0; j < slot->width; j++)
            if (!data_fill_column(raw, slot, j, start, end, memory, error))
                return 0;
    }
    return 1;
}

static int data_fill_slots(const struct bp_raw *raw, int predicting, struct bp_table *table, struct bp_error *error) {
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

static int data_make_table(struct data_reader *reader, struct bp_table *table) {
    int predicting = reader->options->predicting;
    table->rows = reader->raw.rows;
    table->dropped = reader->dropped;
    if (predicting && reader->options->fitted == NULL && reader->data->fitted_count > 0)
        return bp_fail(reader->error, "predicting from '%s' needs the values that were fitted in training",
                       reader->data->name);
    if (!(predicting ? data_every_row(table, table->rows, reader->error)
                     : bp_split_rows(&reader->raw, table, reader->error)))
        return 0;
    return bp_fit_columns(&reader->raw, table, reader->options->fitted, reader->error) &&
           data_fill_slots(&reader->raw, predicting, table, reader->error);
}

int bp_table_load(struct bp_table *table, const struct bp_data *data, const struct bp_data_options *options,
                  struct bp_error *error) {
    static const struct bp_data_options as_compiled = {NULL, NULL, 0};
    struct data_reader reader;
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
    free(table->fitted);
    memset(table, 0, sizeof *table);
}
