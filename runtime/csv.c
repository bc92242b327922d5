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
    return 1;
}

void bp_csv_close(struct bp_csv *csv) {
    free(csv->text);
    free(csv->fields);
    csv->text = NULL;
    csv->fields = NULL;
    csv->field_count = csv->field_capacity = 0;
}

static int csv_add_field(struct bp_csv *csv, size_t start, size_t end, int32_t quoted, struct bp_error *error) {
    if (end - start > INT32_MAX || csv->field_count == INT32_MAX / 2)
        return bp_fail(error, "%s:%lld: the row is too long", csv->path, (long long)csv->line);
    if (csv->field_count == csv->field_capacity) {
        int32_t capacity = csv->field_capacity == 0 ? 16 : csv->field_capacity * 2;
        struct bp_field *fields = realloc(csv->fields, sizeof *fields * (size_t)capacity);
        if (fields == NULL)
            return bp_fail(error, "%s:%lld: out of memory", csv->path, (long long)csv->line);
        csv->fields = fields;
        csv->field_capacity = capacity;
    }
    csv->fields[csv->field_count++] = (struct bp_field){csv->text + start, (int32_t)(end - start), quoted};
    return 1;
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
    return csv_add_field(csv, start, out, 1, error);
}

static int csv_plain_field(struct bp_csv *csv, struct bp_error *error) {
    size_t start = csv->next;
    while (csv->next < csv->length && csv->text[csv->next] != csv->delimiter && !csv_is_end(csv->text[csv->next]))
        csv->next++;
    size_t end = csv->next;
    while (end > start && csv_is_space(csv, csv->text[end - 1]))
        end--;
    return csv_add_field(csv, start, end, 0, error);
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
    for (;;) {
        while (csv->next < csv->length && csv_is_space(csv, csv->text[csv->next]))
            csv->next++;
        int quoted = csv->next < csv->length && csv->text[csv->next] == '"';
        if (!(quoted ? csv_quoted_field(csv, error) : csv_plain_field(csv, error)))
            return -1;
        if (csv->next == csv->length)
            return 1;
        if (csv->text[csv->next] != csv->delimiter) {
            csv_step_line(csv);
            return 1;
        }
        csv->next++;
    }
}
