/* One field of a table: its category, its number, whether it is missing, and what is said where it is none of these. */
#include "reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A field for a message: cut to a readable length, control bytes shown as '?'. */
struct bp_quote bp_quoted(const char *at, int32_t length) {
    struct bp_quote quote;
    int32_t shown = length > 60 ? 60 : length;
    while (shown < length && shown > 0 && ((unsigned char)at[shown] & 0xc0) == 0x80)
        shown--; /* not within a character */
    for (int32_t i = 0; i < shown; i++)
        quote.text[i] = (unsigned char)at[i] < 0x20 || at[i] == 0x7f ? '?' : at[i];
    snprintf(quote.text + shown, sizeof quote.text - (size_t)shown, "%s", shown < length ? "..." : "");
    return quote;
}

struct bp_quote bp_quoted_field(const struct bp_field *field) {
    return bp_quoted(field->at, field->length);
}

struct bp_quote bp_quoted_name(const char *name) {
    size_t length = strlen(name);
    return bp_quoted(name, (int32_t)(length > 1000 ? 1000 : length));
}

int bp_field_equal(const struct bp_field *field, const char *text) {
    size_t length = strlen(text);
    return (size_t)field->length == length && memcmp(field->at, text, length) == 0;
}

/* The place of the row that is being read. */
struct bp_where bp_reader_here(const struct bp_reader *reader) {
    struct bp_where where;
    if (reader->name == NULL)
        snprintf(where.text, sizeof where.text, "rows of '%.200s', row %lld", reader->data->name,
                 (long long)reader->line);
    else
        snprintf(where.text, sizeof where.text, "%.280s:%lld", reader->name, (long long)reader->line);
    return where;
}

/* ---- Did you mean ------------------------------------------------------------------------------------------------ */
static int field_lower(char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : (unsigned char)c;
}

/* Edits (insert, delete, replace; another case costs nothing) between two texts; 1000 where they are too long to tell.
 */
static int field_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
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
            int replaced = diagonal + (field_lower(a[i - 1]) != field_lower(b[j - 1]));
            int shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return row[b_length];
}

struct bp_nearest_text bp_nearest_to(const char *wrong, size_t length) {
    struct bp_nearest_text nearest;
    nearest.wrong = wrong;
    nearest.wrong_length = length;
    nearest.distance = length < 3 ? 1 : length < 6 ? 2 : 3; /* one less than this is near enough */
    nearest.found.text[0] = '\0';
    return nearest;
}

void bp_nearest_try(struct bp_nearest_text *nearest, const char *candidate, size_t length) {
    int distance = field_distance(nearest->wrong, nearest->wrong_length, candidate, length);
    if (length == 0 || distance >= nearest->distance)
        return;
    nearest->distance = distance;
    nearest->found = bp_quoted(candidate, (int32_t)length);
}

static int field_number(const struct bp_field *field, double *number) {
    if (!field->is_number)
        return bp_parse_number(field->at, (size_t)field->length, number);
    *number = field->number;
    return 1;
}

/* ---- Categories -------------------------------------------------------------------------------------------------- */
static int field_by_text(const void *left, const void *right) {
    const struct bp_lookup_key *a = left, *b = right;
    int order = strcmp(a->text, b->text);
    return order != 0 ? order : a->index < b->index ? -1 : a->index > b->index;
}

static int field_by_number(const void *left, const void *right) {
    const struct bp_lookup_key *a = left, *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

const char *bp_category_name(const struct bp_column *column, int32_t index, char *number) {
    if (column->categories != NULL)
        return column->categories[index];
    snprintf(number, BP_CATEGORY_NUMBER, "%d", (int)index);
    return number;
}

int bp_lookup_start(struct bp_lookup *lookup, const struct bp_column *column, struct bp_error *error) {
    if (column->categories == NULL) { /* a field's number is its index */
        lookup->numeric = 1;
        return 1;
    }
    size_t count = (size_t)column->category_count;
    lookup->keys = bp_allocate(sizeof *lookup->keys * count, "categories", error);
    if (lookup->keys == NULL)
        return 0;
    lookup->numeric = count > 0;
    for (size_t i = 0; i < count; i++) {
        struct bp_lookup_key *key = &lookup->keys[i];
        key->text = column->categories[i];
        key->index = (int32_t)i;
        lookup->numeric &= bp_parse_number(key->text, strlen(key->text), &key->number);
    }
    int (*order)(const void *, const void *) = lookup->numeric ? field_by_number : field_by_text;
    int sorted = 1; /* as the compiler leaves them, but for what binary(…) names first */
    for (size_t i = 1; i < count && sorted; i++)
        sorted = order(&lookup->keys[i - 1], &lookup->keys[i]) < 0;
    if (!sorted)
        qsort(lookup->keys, count, sizeof *lookup->keys, order);
    return 1;
}

/* <0, 0, >0 as the field comes before, at or behind the key. */
static int field_compare_key(const struct bp_field *field, double number, int numeric,
                             const struct bp_lookup_key *key) {
    if (numeric)
        return number < key->number ? -1 : number > key->number;
    size_t length = strlen(key->text), shared = (size_t)field->length < length ? (size_t)field->length : length;
    int order = memcmp(field->at, key->text, shared);
    return order != 0 ? order : (size_t)field->length < length ? -1 : (size_t)field->length > length;
}

/* The index of a field's category, -1 where it is none. */
static int32_t field_find_category(const struct bp_lookup *lookup, int32_t count, const struct bp_field *field) {
    double number = 0;
    if (lookup->numeric && !field_number(field, &number))
        return -1;
    if (lookup->keys == NULL)
        return number >= 0 && number < count && number == (int32_t)number ? (int32_t)number : -1;
    int32_t low = 0, high = count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (field_compare_key(field, number, lookup->numeric, &lookup->keys[middle]) > 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < count && field_compare_key(field, number, lookup->numeric, &lookup->keys[low]) == 0)
        return lookup->keys[low].index;
    return -1;
}

static void field_unknown_category(const struct bp_reader *reader, const struct bp_column *column,
                                   const struct bp_field *field) {
    struct bp_nearest_text nearest = bp_nearest_to(field->at, (size_t)field->length);
    struct bp_text list = {0};
    for (int32_t i = 0; i < column->category_count; i++) {
        char number[BP_CATEGORY_NUMBER];
        const char *name = bp_category_name(column, i, number);
        bp_nearest_try(&nearest, name, strlen(name));
        if (i < 8)
            bp_text_printf(&list, "%s%s", i > 0 ? ", " : "", bp_quoted_name(name).text);
    }
    if (column->category_count > 8)
        bp_text_printf(&list, " and %d more", column->category_count - 8);
    bp_fail(reader->error, "%s: column '%s': '%s' is not one of the categories of '%s' (%s)%s%s%s",
            bp_reader_here(reader).text, column->name, bp_quoted_field(field).text, column->name,
            list.at == NULL ? "" : list.at, nearest.found.text[0] != '\0' ? "; did you mean '" : "", nearest.found.text,
            nearest.found.text[0] != '\0' ? "'?" : "");
    bp_text_free(&list);
}

/* ---- One field --------------------------------------------------------------------------------------------------- */
/* `missing 0` means 0.0 too where the column holds numbers. */
static int field_is_missing(const struct bp_column *column, int by_value, const struct bp_field *field) {
    if (field->length == 0)
        return 1;
    double number, code;
    for (int32_t i = 0; i < column->missing_count; i++) {
        const char *text = column->missing[i];
        if (bp_field_equal(field, text))
            return 1;
        if (by_value && bp_parse_number(text, strlen(text), &code) && field_number(field, &number) && number == code)
            return 1;
    }
    return 0;
}

static void field_strip(const struct bp_column *column, struct bp_field *field) {
    int32_t before = field->length;
    for (int32_t i = 0; i < column->transform_count; i++) {
        if (column->transforms[i].kind != BP_STRIP)
            continue;
        while (field->length > 0 && field->at[field->length - 1] != '\0' &&
               strchr(column->transforms[i].text, field->at[field->length - 1]) != NULL)
            field->length--;
        while (field->length > 0 && !field->quoted && field->at[field->length - 1] == ' ')
            field->length--;
    }
    field->is_number &= field->length == before;
}

/* 1: kept, and filled later; 0: the row is dropped; -1: an error. */
static int field_missing_field(const struct bp_reader *reader, int32_t index) {
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
            bp_fail(reader->error, "%s: the value of '%s' is missing, and a row to predict cannot be dropped",
                    bp_reader_here(reader).text, column->name);
            return -1;
        case BP_STRIP:
        case BP_LOG:
        case BP_STANDARDIZE:
        case BP_MINMAX:
        case BP_SCALE:
            break;
        }
    }
    const char *remedy = reader->columns[index].is_target || column->kind == BP_WORDS ? "drop"
                         : column->kind == BP_CATEGORY                                ? "impute(most_frequent) or drop"
                                                                                      : "impute(median) or drop";
    bp_fail(reader->error, "%s: the value of '%s' is missing; add %s", bp_reader_here(reader).text, column->name,
            remedy);
    return -1;
}

static void field_not_a_number(const struct bp_reader *reader, const struct bp_column *column,
                               const struct bp_field *field) {
    static const char *const codes[] = {"?", "NA", "N/A", "na", "n/a", "NaN", "nan", "NULL", "null", "None", "-"};
    struct bp_quote quote = bp_quoted_field(field);
    const char *before = "", *after = "";
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (bp_field_equal(field, codes[i])) {
            before = "; if it means missing, write: missing \"";
            after = "\"";
        }
    if (reader->first_row_is_data && bp_field_equal(field, column->name))
        bp_fail(reader->error, "%s: column '%s': '%s' is not a number; is this line a header?",
                bp_reader_here(reader).text, column->name, quote.text);
    else if (bp_number_beyond(field->at, (size_t)field->length))
        bp_fail(reader->error, "%s: column '%s': '%s' is beyond the largest number, 1.8e308",
                bp_reader_here(reader).text, column->name, quote.text);
    else
        bp_fail(reader->error, "%s: column '%s': '%s' is not a number%s%s%s", bp_reader_here(reader).text, column->name,
                quote.text, before, *before != '\0' ? quote.text : "", after);
}

/* Writes a field's value at row raw.rows. 1: read; 0: the row is dropped; -1: an error. */
int bp_reader_field(struct bp_reader *reader, int32_t index, const struct bp_field *given) {
    struct bp_field field = *given;
    const struct bp_column *column = &reader->data->columns[index];
    const struct bp_lookup *lookup = &reader->columns[index];
    double *value = &reader->raw.values[index][reader->raw.rows];
    uint8_t *missing = &reader->raw.missing[index][reader->raw.rows];
    int by_value = column->kind == BP_NUMBER || lookup->numeric;
    int is_missing = field_is_missing(column, by_value, &field);
    if (!is_missing && column->kind == BP_CATEGORY) {
        field_strip(column, &field);
        is_missing = field_is_missing(column, by_value, &field);
    }
    *missing = (uint8_t)is_missing;
    *value = 0;
    if (is_missing && column->kind == BP_WORDS) {
        struct bp_field none = {.at = ""};
        if (!bp_words_read(reader, index, &none))
            return -1;
    }
    if (is_missing)
        return field_missing_field(reader, index);
    if (column->kind == BP_WORDS)
        return bp_words_read(reader, index, &field) ? 1 : -1;
    if (column->kind == BP_CATEGORY) {
        int32_t category = field_find_category(lookup, column->category_count, &field);
        *value = category;
        if (category >= 0 || column->unknown_is_zero)
            return 1;
        field_unknown_category(reader, column, &field);
        return -1;
    }
    if (field_number(&field, value))
        return 1;
    field_not_a_number(reader, column, &field);
    return -1;
}
