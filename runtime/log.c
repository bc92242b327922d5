/* What a run tells: tidy lines for people, JSON lines for machines. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int bp_log_open(struct bp_log *log, const char *path, int append, int quiet, struct bp_error *error) {
    memset(log, 0, sizeof *log);
    log->quiet = quiet;
    log->path = path;
    if (!path)
        return 1;
    log->file = fopen(path, append ? "a" : "w");
    return log->file != NULL || bp_fail(error, "%s: cannot be written: %s", path, strerror(errno));
}

int bp_log_line(struct bp_log *log, struct bp_text *json, struct bp_error *error) {
    int ok = 1;
    if (log->file) {
        bp_text_add(json, "\n", 1);
        if (json->failed)
            ok = bp_fail(error, "%s: out of memory", log->path);
        else if (fwrite(json->at, 1, json->length, log->file) != json->length || fflush(log->file) != 0)
            ok = bp_fail(error, "%s: cannot be written: %s", log->path, strerror(errno));
    }
    bp_text_free(json);
    return ok;
}

int bp_log_close(struct bp_log *log, struct bp_error *error) {
    FILE *file = log->file;
    log->file = NULL;
    if (file && fclose(file) != 0)
        return bp_fail(error, "%s: cannot be written: %s", log->path, strerror(errno));
    return 1;
}

void bp_say(const struct bp_log *log, const char *format, ...) {
    if (log->quiet)
        return;
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
}

void bp_log_number(struct bp_text *json, double value) {
    if (isfinite(value))
        bp_text_number(json, value);
    else
        bp_text_add(json, "null", 4);
}

static void log_metric_value(struct bp_text *json, const struct bp_metric *metric, const double *values) {
    int vector = metric->rows > 1 || metric->columns > 1, matrix = metric->rows > 1 && metric->columns > 1;
    if (vector)
        bp_text_add(json, "[", 1);
    for (int32_t row = 0; row < metric->rows; row++) {
        bp_text_add(json, ",", row > 0 ? 1 : 0);
        if (matrix)
            bp_text_add(json, "[", 1);
        for (int32_t column = 0; column < metric->columns; column++) {
            bp_text_add(json, ",", column > 0 ? 1 : 0);
            bp_log_number(json, values[(int64_t)row * metric->columns + column]);
        }
        if (matrix)
            bp_text_add(json, "]", 1);
    }
    if (vector)
        bp_text_add(json, "]", 1);
}

void bp_log_metrics(struct bp_text *json, const struct bp_measure *measure, const double *values, const char *prefix) {
    for (int32_t i = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        struct bp_text key = {0};
        bp_text_printf(&key, "%s%s", prefix, metric->name);
        bp_text_add(json, ",", 1);
        if (key.failed)
            json->failed = 1;
        else
            bp_text_json(json, key.at);
        bp_text_free(&key);
        bp_text_add(json, ":", 1);
        log_metric_value(json, metric, values);
        values += (int64_t)metric->rows * metric->columns;
    }
}

/* ---- For people -------------------------------------------------------------------------------------------------- */
void bp_point(char *digits) {
    const char *point = localeconv()->decimal_point;
    size_t length = strlen(point);
    char *at = length > 0 ? strstr(digits, point) : NULL;
    if (at) {
        *at = '.';
        memmove(at + 1, at + length, strlen(at + length) + 1);
    }
}

void bp_text_metric(struct bp_text *text, double value) {
    char digits[64];
    double size = fabs(value);
    if (isnan(value))
        snprintf(digits, sizeof digits, "nan");
    else if (isinf(value))
        snprintf(digits, sizeof digits, value < 0 ? "-inf" : "inf");
    else if (value == 0 || (size >= 0.001 && size < 1e7))
        snprintf(digits, sizeof digits, "%.4f", value);
    else
        snprintf(digits, sizeof digits, "%.3e", value);
    bp_point(digits);
    bp_text_add(text, digits, strlen(digits));
}

/* Characters, not bytes. */
static int log_width(const char *string) {
    int width = 0;
    for (; *string; string++)
        width += ((unsigned char)*string & 0xC0) != 0x80;
    return width;
}

static void log_pad(struct bp_text *text, int width) {
    while (width-- > 0)
        bp_text_add(text, " ", 1);
}

static void log_left(struct bp_text *text, const char *string, int width) {
    bp_text_add(text, string, strlen(string));
    log_pad(text, width - log_width(string));
}

static void log_right(struct bp_text *text, const char *string, int width) {
    log_pad(text, width - log_width(string));
    bp_text_add(text, string, strlen(string));
}

/* A category as a table shows it: one line, at most 24 characters, nothing that would move the terminal's writing. */
struct log_label {
    char text[128];
};

static struct log_label log_shown(const char *label) {
    struct log_label shown = {""};
    size_t used = 0;
    for (int characters = 0; *label; characters++) {
        const unsigned char *at = (const unsigned char *)label;
        size_t length = 1;
        while ((at[length] & 0xC0) == 0x80 && length < 4)
            length++;
        if (characters == 23 && label[length]) {
            memcpy(shown.text + used, "\xE2\x80\xA6", 3); /* … */
            break;
        }
        int bidi = at[0] == 0xE2 &&
                   ((at[1] == 0x80 && (at[2] >= 0xAA || (at[2] | 1) == 0x8F)) || (at[1] == 0x81 && at[2] >= 0xA6));
        if (at[0] < 0x20 || at[0] == 0x7F || (at[0] == 0xC2 && at[1] < 0xA0) || (bidi && at[2] <= 0xAF))
            shown.text[used++] = '?';
        else
            memcpy(shown.text + used, label, length), used += length;
        label += length;
    }
    return shown;
}

static void log_cell(struct bp_text *text, double value, int whole, int width) {
    struct bp_text cell = {0};
    if (whole)
        bp_text_printf(&cell, "%.0f", value);
    else
        bp_text_metric(&cell, value);
    if (cell.failed)
        text->failed = 1;
    else
        log_right(text, cell.at, width);
    bp_text_free(&cell);
}

static int log_all_whole(const double *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(values[i]) < 1e15) || values[i] != floor(values[i]))
            return 0;
    return 1;
}

/* How wide a column of such numbers is. */
static int log_number_width(const double *values, int64_t count, int whole) {
    int width = 0;
    for (int64_t i = 0; i < count; i++) {
        struct bp_text cell = {0};
        log_cell(&cell, values[i], whole, 0);
        if (!cell.failed && log_width(cell.at) > width)
            width = log_width(cell.at);
        bp_text_free(&cell);
    }
    return width;
}

static int log_labels_width(const struct bp_metric *metric, int32_t count) {
    int width = 0;
    for (int32_t i = 0; metric->labels && i < count; i++)
        if (log_width(log_shown(metric->labels[i]).text) > width)
            width = log_width(log_shown(metric->labels[i]).text);
    return width;
}

static void log_matrix(struct bp_text *text, const struct bp_metric *metric, const double *values) {
    int64_t count = (int64_t)metric->rows * metric->columns;
    int labels = log_labels_width(metric, metric->rows), whole = log_all_whole(values, count);
    int cell = log_number_width(values, count, whole);
    bp_text_printf(text, "  %s (rows: actual, columns: predicted)\n", metric->name);
    log_pad(text, 4 + labels);
    for (int32_t column = 0; column < metric->columns; column++) {
        log_pad(text, 2);
        log_right(text, metric->labels ? log_shown(metric->labels[column]).text : "", cell);
    }
    bp_text_add(text, "\n", 1);
    for (int32_t row = 0; row < metric->rows; row++) {
        log_pad(text, 4);
        log_left(text, metric->labels ? log_shown(metric->labels[row]).text : "", labels);
        for (int32_t column = 0; column < metric->columns; column++) {
            int width = metric->labels ? log_width(log_shown(metric->labels[column]).text) : 0;
            log_pad(text, 2);
            log_cell(text, values[(int64_t)row * metric->columns + column], whole, width > cell ? width : cell);
        }
        bp_text_add(text, "\n", 1);
    }
}

static void log_vector(struct bp_text *text, const struct bp_metric *metric, const double *values) {
    int64_t count = (int64_t)metric->rows * metric->columns;
    int labels = log_labels_width(metric, (int32_t)count), cell = log_number_width(values, count, 0);
    bp_text_printf(text, "  %s\n", metric->name);
    for (int64_t i = 0; i < count; i++) {
        log_pad(text, 4);
        if (metric->labels)
            log_left(text, log_shown(metric->labels[i]).text, labels + 2);
        log_cell(text, values[i], 0, cell);
        bp_text_add(text, "\n", 1);
    }
}

void bp_log_table(const struct bp_log *log, const struct bp_measure *measure, const double *values) {
    struct bp_text text = {0};
    int names = 0, numbers = 0;
    const double *at = values;
    for (int32_t i = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        if (metric->rows == 1 && metric->columns == 1) {
            int width = log_number_width(at, 1, 0);
            numbers = width > numbers ? width : numbers;
            names = log_width(metric->name) > names ? log_width(metric->name) : names;
        }
        at += (int64_t)metric->rows * metric->columns;
    }
    for (int32_t i = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        if (metric->rows > 1 && metric->columns > 1) {
            log_matrix(&text, metric, values);
        } else if (metric->rows > 1 || metric->columns > 1) {
            log_vector(&text, metric, values);
        } else {
            log_pad(&text, 2);
            log_left(&text, metric->name, names + 2);
            log_cell(&text, *values, 0, numbers);
            bp_text_add(&text, "\n", 1);
        }
        values += (int64_t)metric->rows * metric->columns;
    }
    if (!text.failed && text.at)
        bp_say(log, "%s", text.at);
    bp_text_free(&text);
}
