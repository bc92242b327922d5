/* What tables hold: names, kinds, distinct texts. Read as data.c reads them, but without a schema. */
#include "scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct scan_rules { /* of one column */
    const char **missing, **strip;
    int missing_count, strip_count;
};

/* An open hash table of one column's distinct texts; the order of its slots never shows. */
struct scan_table {
    int32_t *slots; /* 1 + index into the column's distinct, 0: free */
    uint32_t mask;
};

struct scan_reader {
    struct bp_scan *scan;
    struct scan_rules *rules;  /* [column_count] */
    struct scan_table *tables; /* [column_count] */
    int32_t *capacities;       /* [column_count] of distinct */
    int32_t *columns;          /* [column_count] column that a field of the present file is */
    const char *name;
    struct bp_error *error;
};

/* ---- Distinct texts ---------------------------------------------------------------------------------------------- */
static uint32_t scan_hash(const char *at, size_t length) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)at[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(hash ^ hash >> 32);
}

static char *scan_copy(const char *at, size_t length) {
    char *copy = malloc(length + 1);
    if (copy != NULL) {
        memcpy(copy, at, length);
        copy[length] = '\0';
    }
    return copy;
}

static int scan_no_memory(const struct scan_reader *reader) {
    return bp_fail(reader->error, "%.280s: out of memory", reader->name);
}

/* Twice the room for distinct texts, and a table at most half full. */
static int scan_grow(struct scan_reader *reader, int32_t index) {
    struct bp_scan_column *column = &reader->scan->columns[index];
    struct scan_table *table = &reader->tables[index];
    int32_t capacity = reader->capacities[index] == 0 ? 16 : reader->capacities[index] * 2;
    struct bp_scan_text *distinct = realloc(column->distinct, sizeof *distinct * (size_t)capacity);
    if (distinct == NULL)
        return scan_no_memory(reader);
    column->distinct = distinct;
    reader->capacities[index] = capacity;
    free(table->slots);
    table->slots = calloc((size_t)capacity * 2, sizeof *table->slots);
    if (table->slots == NULL)
        return scan_no_memory(reader);
    table->mask = (uint32_t)capacity * 2 - 1;
    for (int32_t i = 0; i < column->distinct_count; i++) {
        uint32_t slot = scan_hash(distinct[i].text, strlen(distinct[i].text)) & table->mask;
        while (table->slots[slot] != 0)
            slot = (slot + 1) & table->mask;
        table->slots[slot] = i + 1;
    }
    return 1;
}

static int scan_count_text(struct scan_reader *reader, int32_t index, const char *at, size_t length) {
    struct bp_scan_column *column = &reader->scan->columns[index];
    struct scan_table *table = &reader->tables[index];
    if (column->distinct_count == reader->capacities[index] && !scan_grow(reader, index))
        return 0;
    uint32_t slot = scan_hash(at, length) & table->mask;
    for (; table->slots[slot] != 0; slot = (slot + 1) & table->mask) {
        struct bp_scan_text *known = &column->distinct[table->slots[slot] - 1];
        if (strlen(known->text) == length && memcmp(known->text, at, length) == 0) {
            known->count++;
            return 1;
        }
    }
    if (column->distinct_count == BP_SCAN_MOST_DISTINCT) {
        column->distinct_overflow = 1;
        return 1;
    }
    char *copy = scan_copy(at, length);
    if (copy == NULL)
        return scan_no_memory(reader);
    column->distinct[column->distinct_count++] = (struct bp_scan_text){copy, 1};
    table->slots[slot] = column->distinct_count;
    return 1;
}

/* ---- Fields ------------------------------------------------------------------------------------------------------ */
static int scan_is_missing(const struct scan_rules *rules, const char *at, size_t length) {
    double number, code;
    if (length == 0)
        return 1;
    for (int i = 0; i < rules->missing_count; i++) {
        const char *text = rules->missing[i];
        if (strlen(text) == length && memcmp(text, at, length) == 0)
            return 1;
        if (bp_parse_number(text, strlen(text), &code) && bp_parse_number(at, length, &number) && number == code)
            return 1;
    }
    return 0;
}

static size_t scan_strip(const struct scan_rules *rules, const struct bp_field *field) {
    size_t length = (size_t)field->length;
    for (int i = 0; i < rules->strip_count; i++) {
        while (length > 0 && strchr(rules->strip[i], field->at[length - 1]) != NULL)
            length--;
        while (length > 0 && !field->quoted && field->at[length - 1] == ' ')
            length--;
    }
    return length;
}

static int scan_field(struct scan_reader *reader, int32_t index, const struct bp_field *field) {
    struct bp_scan_column *column = &reader->scan->columns[index];
    const struct scan_rules *rules = &reader->rules[index];
    size_t length = (size_t)field->length;
    int missing = scan_is_missing(rules, field->at, length);
    if (!missing && rules->strip_count > 0) {
        length = scan_strip(rules, field);
        missing = scan_is_missing(rules, field->at, length);
    }
    if (missing) {
        column->missing++;
        return 1;
    }
    double number;
    if (!bp_parse_number(field->at, length, &number)) {
        column->texts++;
        return scan_count_text(reader, index, field->at, length);
    }
    if (column->numbers == 0)
        column->least = column->greatest = number;
    column->least = number < column->least ? number : column->least;
    column->greatest = number > column->greatest ? number : column->greatest;
    column->numbers++;
    column->mean += (number - column->mean) / (double)column->numbers;
    column->all_whole &= floor(number) == number;
    return scan_count_text(reader, index, field->at, length);
}

/* ---- Sorting what was found -------------------------------------------------------------------------------------- */
static int scan_by_bytes(const void *left, const void *right) {
    const struct bp_scan_text *a = left, *b = right;
    return strcmp(a->text, b->text);
}

struct scan_number {
    double number;
    int32_t index; /* in the order they were first seen */
};

static int scan_by_number(const void *left, const void *right) {
    const struct scan_number *a = left, *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Sorts by value; spellings of one number become the one that was seen first. */
static int scan_sort_numbers(const struct scan_reader *reader, struct bp_scan_column *column) {
    size_t count = (size_t)column->distinct_count;
    struct scan_number *order = calloc(count + 1, sizeof *order);
    struct bp_scan_text *sorted = calloc(count + 1, sizeof *sorted);
    if (order == NULL || sorted == NULL) {
        free(order);
        free(sorted);
        return scan_no_memory(reader);
    }
    for (size_t i = 0; i < count; i++) {
        order[i].index = (int32_t)i;
        bp_parse_number(column->distinct[i].text, strlen(column->distinct[i].text), &order[i].number);
    }
    qsort(order, count, sizeof *order, scan_by_number);
    int32_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct bp_scan_text *text = &column->distinct[order[i].index];
        if (i > 0 && order[i].number == order[i - 1].number) {
            sorted[kept - 1].count += text->count;
            free(text->text);
        } else {
            sorted[kept++] = *text;
        }
    }
    free(order);
    free(column->distinct);
    column->distinct = sorted;
    column->distinct_count = kept;
    return 1;
}

static int scan_finish(const struct scan_reader *reader) {
    for (int32_t i = 0; i < reader->scan->column_count; i++) {
        struct bp_scan_column *column = &reader->scan->columns[i];
        column->all_numbers = column->texts == 0 && column->numbers > 0;
        column->all_whole &= column->all_numbers;
        if (column->all_numbers) {
            if (!scan_sort_numbers(reader, column))
                return 0;
        } else if (column->distinct_count > 0) {
            qsort(column->distinct, (size_t)column->distinct_count, sizeof *column->distinct, scan_by_bytes);
        }
    }
    return 1;
}

/* ---- Columns ----------------------------------------------------------------------------------------------------- */
static int scan_rule_applies(const struct bp_scan_rule *rule, const char *name) {
    return rule->column == NULL || strcmp(rule->column, name) == 0;
}

static int scan_prepare_rules(struct scan_reader *reader, const struct bp_scan_rule *rules, int count) {
    for (int32_t i = 0; i < reader->scan->column_count; i++) {
        struct scan_rules *own = &reader->rules[i];
        own->missing = calloc((size_t)count + 1, sizeof *own->missing);
        own->strip = calloc((size_t)count + 1, sizeof *own->strip);
        if (own->missing == NULL || own->strip == NULL)
            return scan_no_memory(reader);
        for (int j = 0; j < count; j++) {
            if (!scan_rule_applies(&rules[j], reader->scan->columns[i].name))
                continue;
            if (rules[j].missing != NULL)
                own->missing[own->missing_count++] = rules[j].missing;
            if (rules[j].strip != NULL)
                own->strip[own->strip_count++] = rules[j].strip;
        }
    }
    return 1;
}

static int scan_make_columns(struct scan_reader *reader, int32_t count) {
    size_t size = (size_t)count + 1;
    reader->scan->columns = calloc(size, sizeof *reader->scan->columns);
    reader->rules = calloc(size, sizeof *reader->rules);
    reader->tables = calloc(size, sizeof *reader->tables);
    reader->capacities = calloc(size, sizeof *reader->capacities);
    reader->columns = calloc(size, sizeof *reader->columns);
    if (reader->scan->columns == NULL || reader->rules == NULL || reader->tables == NULL ||
        reader->capacities == NULL || reader->columns == NULL)
        return scan_no_memory(reader);
    reader->scan->column_count = count;
    for (int32_t i = 0; i < count; i++)
        reader->scan->columns[i].all_whole = 1;
    return 1;
}

static int scan_name_column(struct scan_reader *reader, int32_t index, const char *at, size_t length) {
    reader->scan->columns[index].name = scan_copy(at, length);
    return reader->scan->columns[index].name != NULL || scan_no_memory(reader);
}

/* By name, then by place: columns lie in one array, so their addresses are in order. */
static int scan_by_name(const void *left, const void *right) {
    const struct bp_scan_column *a = *(const struct bp_scan_column *const *)left;
    const struct bp_scan_column *b = *(const struct bp_scan_column *const *)right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a > b) - (a < b);
}

/* Sorted, because a table may have as many columns as there are genes. */
static int scan_names_differ(struct scan_reader *reader, const struct bp_csv *csv) {
    const struct bp_scan_column *first = reader->scan->columns;
    size_t count = (size_t)csv->field_count;
    const struct bp_scan_column **sorted = bp_allocate(count * sizeof *sorted, "names of columns", reader->error);
    int differ = sorted != NULL;
    for (size_t i = 0; differ && i < count; i++)
        sorted[i] = &first[i];
    if (differ)
        qsort(sorted, count, sizeof *sorted, scan_by_name);
    for (size_t i = 1; differ && i < count; i++)
        if (*sorted[i]->name != '\0' && strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            differ = bp_fail(reader->error, "%.280s:%lld: two columns are named '%.60s': fields %d and %d",
                             reader->name, (long long)csv->line, sorted[i]->name, (int)(sorted[i - 1] - first) + 1,
                             (int)(sorted[i] - first) + 1);
    free(sorted);
    return differ;
}

/* Names the columns after the first file's header, the field names, or their numbers. */
static int scan_name_columns(struct scan_reader *reader, const struct bp_csv *csv, int header,
                             const char *const *field_names) {
    for (int32_t i = 0; i < csv->field_count; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", i + 1);
        const char *name = field_names != NULL ? field_names[i] : number;
        if (!(field_names == NULL && header
                  ? scan_name_column(reader, i, csv->fields[i].at, (size_t)csv->fields[i].length)
                  : scan_name_column(reader, i, name, strlen(name))))
            return 0;
    }
    return scan_names_differ(reader, csv);
}

/* A further file with a header of its own: its fields are found among the first file's names. */
static int scan_match_columns(struct scan_reader *reader, const struct bp_csv *csv) {
    for (int32_t i = 0; i < csv->field_count; i++) {
        int32_t found = -1;
        for (int32_t j = 0; j < reader->scan->column_count && found < 0; j++) {
            const char *name = reader->scan->columns[j].name;
            if (strlen(name) == (size_t)csv->fields[i].length &&
                memcmp(name, csv->fields[i].at, (size_t)csv->fields[i].length) == 0)
                found = j;
        }
        int again = 0;
        for (int32_t j = 0; j < i; j++)
            again |= reader->columns[j] == found;
        if (found < 0 || again)
            return bp_fail(reader->error, "%.280s:%lld: column '%.*s' is %s", reader->name, (long long)csv->line,
                           csv->fields[i].length > 60 ? 60 : (int)csv->fields[i].length, csv->fields[i].at,
                           again ? "there twice" : "not in the first file");
        reader->columns[i] = found;
    }
    return 1;
}

static int scan_check_count(const struct scan_reader *reader, const struct bp_csv *csv, int32_t expected) {
    return csv->field_count == expected ||
           bp_fail(reader->error, "%.280s:%lld: %d field%s, %d expected", reader->name, (long long)csv->line,
                   csv->field_count, csv->field_count == 1 ? "" : "s", expected);
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */
struct scan_request {
    const char *const *field_names;
    int field_count;
    const struct bp_scan_rule *rules;
    int rule_count;
    int64_t most_rows;
};

static int scan_first_row(struct scan_reader *reader, const struct bp_csv *csv, const struct bp_file *file,
                          const struct scan_request *request) {
    if (request->field_count > 0 && !scan_check_count(reader, csv, request->field_count))
        return 0;
    if (reader->scan->columns == NULL)
        return scan_make_columns(reader, csv->field_count) &&
               scan_name_columns(reader, csv, file->header, request->field_names) &&
               scan_prepare_rules(reader, request->rules, request->rule_count);
    return scan_check_count(reader, csv, reader->scan->column_count);
}

static int scan_row(struct scan_reader *reader, const struct bp_csv *csv) {
    if (!scan_check_count(reader, csv, reader->scan->column_count))
        return 0;
    for (int32_t i = 0; i < csv->field_count; i++)
        if (!scan_field(reader, reader->columns[i], &csv->fields[i]))
            return 0;
    reader->scan->rows++;
    return 1;
}

static int scan_open_file(struct scan_reader *reader, struct bp_csv *csv, const struct bp_file *file,
                          const struct scan_request *request) {
    int row = bp_csv_row(csv, reader->error), first = reader->scan->columns == NULL;
    if (row == 0)
        return bp_fail(reader->error, "%.280s: the file is empty", reader->name);
    if (row < 0 || !scan_first_row(reader, csv, file, request))
        return 0;
    for (int32_t i = 0; i < csv->field_count; i++)
        reader->columns[i] = i;
    if (!first && file->header && request->field_names == NULL && !scan_match_columns(reader, csv))
        return 0;
    for (int skip = file->header; request->most_rows < 0 || reader->scan->rows < request->most_rows; skip = 0) {
        if (!skip && !scan_row(reader, csv))
            return 0;
        row = bp_csv_row(csv, reader->error);
        if (row <= 0)
            return row == 0;
    }
    return 1;
}

static void scan_end(struct scan_reader *reader) {
    for (int32_t i = 0; i < reader->scan->column_count; i++) {
        free((void *)reader->rules[i].missing);
        free((void *)reader->rules[i].strip);
        free(reader->tables[i].slots);
    }
    free(reader->rules);
    free(reader->tables);
    free(reader->capacities);
    free(reader->columns);
}

int bp_scan(const struct bp_file *files, int file_count, const char *const *field_names, int field_count,
            const struct bp_scan_rule *rules, int rule_count, int64_t most_rows, struct bp_scan *scan,
            struct bp_error *error) {
    const struct scan_request request = {field_names, field_count, rules, rule_count, most_rows};
    struct scan_reader reader;
    memset(&reader, 0, sizeof reader);
    memset(scan, 0, sizeof *scan);
    reader.scan = scan;
    reader.error = error;
    int done = 1;
    for (int i = 0; i < file_count && done; i++) {
        struct bp_csv csv;
        reader.name = files[i].name;
        done = bp_csv_open(&csv, files[i].path != NULL ? files[i].path : files[i].name, files[i].delimiter,
                           files[i].skip, error);
        if (!done)
            break;
        csv.path = files[i].name;
        done = scan_open_file(&reader, &csv, &files[i], &request);
        bp_csv_close(&csv);
    }
    done = done && scan_finish(&reader);
    scan_end(&reader);
    if (!done)
        bp_scan_free(scan);
    return done;
}

void bp_scan_free(struct bp_scan *scan) {
    for (int32_t i = 0; i < scan->column_count; i++) {
        for (int32_t j = 0; j < scan->columns[i].distinct_count; j++)
            free(scan->columns[i].distinct[j].text);
        free(scan->columns[i].distinct);
        free(scan->columns[i].name);
    }
    free(scan->columns);
    memset(scan, 0, sizeof *scan);
}
