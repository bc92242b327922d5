/* Comma-separated values: RFC 4180, read in place. A row is cut out of the text that holds it. */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

static int csv_is_end(char c) {
    return c == '\n' || c == '\r';
}

static int csv_is_space(const struct bp_csv *csv, char c) {
    return (c == ' ' || c == '\t') && c != csv->delimiter;
}

/* Steps over one line end: LF, CRLF, or CR alone. */
static void csv_step_line(struct bp_csv *csv) {
    if (csv->text[csv->next] == '\r' && csv->next + 1 < csv->length && csv->text[csv->next + 1] == '\n')
        csv->next++;
    csv->next++;
    csv->next_line++;
}

/* The one of , ; tab | that the first line that is not blank holds most of outside quotes. */
static char csv_detect_delimiter(const struct bp_csv *csv) {
    static const char candidates[] = {',', ';', '\t', '|'};
    size_t counts[sizeof candidates] = {0};
    size_t at = csv->next;
    while (at < csv->length && (csv_is_end(csv->text[at]) || csv->text[at] == ' '))
        at++;
    int quoted = 0;
    for (; at < csv->length && (quoted || !csv_is_end(csv->text[at])); at++) {
        quoted ^= csv->text[at] == '"';
        for (size_t i = 0; i < sizeof candidates && !quoted; i++)
            counts[i] += csv->text[at] == candidates[i];
    }
    size_t best = 0;
    for (size_t i = 1; i < sizeof candidates; i++)
        if (counts[i] > counts[best])
            best = i;
    return candidates[best];
}

int bp_csv_open(struct bp_csv *csv, const char *path, char delimiter, int32_t skip, struct bp_error *error) {
    memset(csv, 0, sizeof *csv);
    csv->path = path;
    csv->next_line = 1;
    csv->text = bp_read_file(path, &csv->length, error);
    if (csv->text == NULL)
        return 0;
    const char *nul = memchr(csv->text, '\0', csv->length);
    if (nul != NULL) {
        bp_fail(error, "%s: byte %zu is 0, so this is not a table as UTF-8 text", path, (size_t)(nul - csv->text));
        bp_csv_close(csv);
        return 0;
    }
    if (csv->length >= 3 && memcmp(csv->text, "\xef\xbb\xbf", 3) == 0)
        csv->next = 3;
    for (int32_t i = 0; i < skip && csv->next < csv->length; i++) {
        while (csv->next < csv->length && !csv_is_end(csv->text[csv->next]))
            csv->next++;
        if (csv->next < csv->length)
            csv_step_line(csv);
    }
    csv->delimiter = delimiter != 0 ? delimiter : csv_detect_delimiter(csv);
    csv->no_numbers = strchr("+-.0123456789", csv->delimiter) != NULL;
    return 1;
}

void bp_csv_close(struct bp_csv *csv) {
    free(csv->text);
    free(csv->fields);
    csv->text = NULL;
    csv->fields = NULL;
    csv->field_count = csv->field_capacity = 0;
}

/* The next field, of so many bytes; NULL: an error. */
static struct bp_field *csv_new_field(struct bp_csv *csv, const char *at, size_t length, struct bp_error *error) {
    if (length > INT32_MAX || csv->field_count == INT32_MAX / 2) {
        bp_fail(error, "%s:%lld: the row is too long", csv->path, (long long)csv->line);
        return NULL;
    }
    if (csv->field_count == csv->field_capacity) {
        int32_t capacity = csv->field_capacity == 0 ? 16 : csv->field_capacity * 2;
        struct bp_field *fields = realloc(csv->fields, sizeof *fields * (size_t)capacity);
        if (fields == NULL) {
            bp_fail(error, "%s:%lld: out of memory", csv->path, (long long)csv->line);
            return NULL;
        }
        csv->fields = fields;
        csv->field_capacity = capacity;
    }
    struct bp_field *field = &csv->fields[csv->field_count++];
    field->at = at;
    field->length = (int32_t)length;
    field->quoted = field->is_number = 0;
    return field;
}

/* Reads on from behind the opening quote; what is quoted moves to the left over the quotes that were doubled. */
static int csv_quoted_field(struct bp_csv *csv, struct bp_error *error) {
    int64_t opened = csv->next_line;
    size_t start = ++csv->next, out = start;
    for (;; csv->next++) {
        if (csv->next == csv->length)
            return bp_fail(error, "%s:%lld: a quote (\") is opened here and never closed", csv->path,
                           (long long)opened);
        char c = csv->text[csv->next];
        if (c == '"') {
            csv->next++;
            if (csv->next == csv->length || csv->text[csv->next] != '"')
                break;
        }
        csv->next_line += c == '\n' || (c == '\r' && csv->text[csv->next + 1] != '\n'); /* the text ends in a NUL */
        csv->text[out++] = c;
    }
    while (csv->next < csv->length && csv_is_space(csv, csv->text[csv->next]))
        csv->next++;
    if (csv->next < csv->length && csv->text[csv->next] != csv->delimiter && !csv_is_end(csv->text[csv->next]))
        return bp_fail(error, "%s:%lld: text follows a closing quote in field %d (a quote within quotes is doubled)",
                       csv->path, (long long)csv->next_line, csv->field_count + 1);
    struct bp_field *field = csv_new_field(csv, csv->text + start, out - start, error);
    if (field != NULL)
        field->quoted = 1;
    return field != NULL;
}

/* Reads on from `at` to the field's end, which it returns; NULL: an error. A number is read in the same go. */
static const char *csv_plain_field(struct bp_csv *csv, const char *at, struct bp_error *error) {
    const char *start = at, *last = csv->text + csv->length;
    const char delimiter = csv->delimiter;
    double value = 0;
    const char *number = csv->no_numbers ? NULL : bp_short_number(start, last, &value);
    at = number != NULL ? number : start;
    while (at < last && *at != delimiter && !csv_is_end(*at))
        at++;
    const char *end = at;
    while (end > start && csv_is_space(csv, end[-1]))
        end--;
    struct bp_field *field = csv_new_field(csv, start, (size_t)(end - start), error);
    if (field == NULL)
        return NULL;
    field->is_number = end == number;
    field->number = value;
    return at;
}

/* Moves to the first line that holds anything; 0 at the end. */
static int csv_skip_blank(struct bp_csv *csv) {
    for (;;) {
        size_t at = csv->next;
        while (at < csv->length && csv_is_space(csv, csv->text[at]))
            at++;
        if (at == csv->length)
            return 0;
        if (!csv_is_end(csv->text[at]))
            return 1;
        csv->next = at;
        csv_step_line(csv);
    }
}

int bp_csv_row(struct bp_csv *csv, struct bp_error *error) {
    if (!csv_skip_blank(csv))
        return 0;
    csv->line = csv->next_line;
    csv->field_count = 0;
    const char *at = csv->text + csv->next, *last = csv->text + csv->length;
    for (;; at++) {
        while (at < last && csv_is_space(csv, *at))
            at++;
        if (at < last && *at == '"') {
            csv->next = (size_t)(at - csv->text);
            at = csv_quoted_field(csv, error) ? csv->text + csv->next : NULL;
        } else {
            at = csv_plain_field(csv, at, error);
        }
        if (at == NULL)
            return -1;
        if (at < last && *at == csv->delimiter)
            continue;
        csv->next = (size_t)(at - csv->text);
        if (at < last)
            csv_step_line(csv);
        return 1;
    }
}
