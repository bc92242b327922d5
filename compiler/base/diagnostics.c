#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "base.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ERRORS_SHOWN = 20, LINE_SHOWN = 160, WARNINGS_KEPT = 256 };

static struct {
    int errors;
    bool silent; /* the last error was beyond the limit, so its notes are silent too */
    struct {
        Span span;
        const char *format;
    } warned[WARNINGS_KEPT];
    int warnings;
} state;

typedef struct Colours {
    const char *strong, *mark, *plain;
} Colours;

static Colours colours_for(const char *mark) {
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    bool coloured = !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0) && isatty(STDERR_FILENO);
    return coloured ? (Colours){"\033[1m", mark, "\033[0m"} : (Colours){"", "", ""};
}

static bool is_continuation(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* The length of the UTF-8 sequence that starts here and ends before `end`; 0 where there is none. */
static int sequence_length(const char *at, const char *end) {
    unsigned char lead = (unsigned char)*at;
    int length = lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || end - at < length)
        return 0;
    for (int i = 1; i < length; i++)
        if (!is_continuation(at[i]))
            return 0;
    return length;
}

/* Writes one character and returns its bytes. What a terminal could take for a command becomes '?'. */
static int put_character(Text *out, const char *at, const char *end) {
    int length = sequence_length(at, end);
    unsigned char byte = (unsigned char)*at;
    bool control = (byte < 0x20 && byte != '\t') || byte == 0x7F || (byte == 0xC2 && (unsigned char)at[1] < 0xA0);
    if (length == 0 || control) {
        text_add(out, "?");
        return length ? length : 1;
    }
    text_add_bytes(out, at, (size_t)length);
    return length;
}

/* The line of the span, and carets under it. Of a very long line only what is near the span is shown. */
static void show_line(Text *out, Span span, Colours colours) {
    size_t length;
    const char *text = source_text(span.source, &length), *text_end = text + length;
    const char *first = text + ((size_t)span.start < length ? (size_t)span.start : length);
    const char *last = text + ((size_t)span.end < length ? (size_t)span.end : length);
    const char *line = first, *end = first;
    while (line > text && line[-1] != '\n')
        line--;
    while (end < text_end && *end != '\n')
        end++;
    if (end > line && end[-1] == '\r' && first < end)
        end--;
    bool cut_left = first - line > LINE_SHOWN / 2 && end - line > LINE_SHOWN;
    if (cut_left) {
        line = first - LINE_SHOWN / 2;
        while (is_continuation(*line) && line < first)
            line++;
    }
    bool cut_right = end - line > LINE_SHOWN;
    if (cut_right) {
        end = line + LINE_SHOWN;
        while (is_continuation(*end) && end > first)
            end--;
    }
    if (last > end)
        last = end;

    text_add(out, cut_left ? "  ..." : "  ");
    for (const char *at = line; at < end;)
        at += put_character(out, at, end);
    text_add(out, cut_right ? "...\n" : "\n");

    text_add(out, cut_left ? "     " : "  ");
    Text ignored = {0};
    for (const char *at = line; at < first;) {
        text_add(out, *at == '\t' ? "\t" : " ");
        at += put_character(&ignored, at, end);
    }
    text_add(out, colours.mark);
    const char *at = first;
    do {
        text_add(out, "^");
        if (at < last)
            at += put_character(&ignored, at, end);
    } while (at < last);
    text_add(out, colours.plain);
    text_add(out, "\n");
    text_free(&ignored);
}

static void show(Span span, const char *grade, const char *mark, const char *format, va_list arguments)
    BPC_PRINTF(4, 0);

static void show(Span span, const char *grade, const char *mark, const char *format, va_list arguments) {
    Colours colours = colours_for(mark);
    Text out = {0};
    if (span.source >= 0) {
        Place place = span_place(span);
        text_printf(&out, "%s%s:%d:%d:%s ", colours.strong, place.path, place.line, place.column, colours.plain);
    } else {
        text_printf(&out, "%sbpc:%s ", colours.strong, colours.plain);
    }
    text_printf(&out, "%s%s:%s ", colours.mark, grade, colours.plain);
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        BUG("cannot format '%s'", format);
    char *message = malloc((size_t)length + 1);
    if (!message)
        BUG("no memory for a message");
    vsnprintf(message, (size_t)length + 1, format, arguments);
    text_add(&out, message);
    free(message);
    text_add(&out, "\n");
    if (span.source >= 0)
        show_line(&out, span, colours);
    fwrite(out.at, 1, out.length, stderr);
    text_free(&out);
}

/* Counts an error; false where it is one too many to be shown. */
static bool error_counts(void) {
    state.errors++;
    state.silent = state.errors > ERRORS_SHOWN;
    if (state.errors == ERRORS_SHOWN + 1)
        fprintf(stderr, "bpc: error: more than %d errors, the rest is not shown\n", ERRORS_SHOWN);
    return !state.silent;
}

void error_at(Span span, const char *format, ...) {
    if (!error_counts())
        return;
    va_list arguments;
    va_start(arguments, format);
    show(span, "error", "\033[1;31m", format, arguments);
    va_end(arguments);
}

void error_plain(const char *format, ...) {
    if (!error_counts())
        return;
    va_list arguments;
    va_start(arguments, format);
    show(SPAN_NONE, "error", "\033[1;31m", format, arguments);
    va_end(arguments);
}

/* Whether this was said of this place before: a formula is elaborated for training and for validation. */
static bool warned_before(Span span, const char *format) {
    for (int i = 0; i < state.warnings; i++)
        if (state.warned[i].format == format && state.warned[i].span.source == span.source &&
            state.warned[i].span.start == span.start && state.warned[i].span.end == span.end)
            return true;
    if (state.warnings < WARNINGS_KEPT) {
        state.warned[state.warnings].span = span;
        state.warned[state.warnings++].format = format;
    }
    return false;
}

void warning_at(Span span, const char *format, ...) {
    state.silent = warned_before(span, format);
    if (state.silent)
        return;
    va_list arguments;
    va_start(arguments, format);
    show(span, "warning", "\033[1;35m", format, arguments);
    va_end(arguments);
}

void note_at(Span span, const char *format, ...) {
    if (state.silent)
        return;
    va_list arguments;
    va_start(arguments, format);
    show(span, "note", "\033[1;36m", format, arguments);
    va_end(arguments);
}

int error_count(void) {
    return state.errors;
}

void diagnostics_reset(void) {
    memset(&state, 0, sizeof state);
}

void internal_error(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "bpc: internal error: %s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(70);
}

/* ---- The nearest name -------------------------------------------------------------------------------------------- */

enum { NEAREST_LENGTH = 64 };

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Edits from a to b: insertions, deletions, replacements and swaps of neighbours (optimal string alignment: no letter
   is edited twice). Both are at most NEAREST_LENGTH long. */
static int edits_between(const char *a, const char *b) {
    int rows[3][NEAREST_LENGTH + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    int a_length = (int)strlen(a), b_length = (int)strlen(b);
    for (int j = 0; j <= b_length; j++)
        above[j] = j;
    for (int i = 1; i <= a_length; i++) {
        row[0] = i;
        for (int j = 1; j <= b_length; j++) {
            int changed = above[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = least(changed, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        int *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b_length];
}

Name nearest_name(const char *wrong, const Name *candidates, int count) {
    size_t length = strlen(wrong);
    if (length > NEAREST_LENGTH)
        return NULL;
    Name best = NULL;
    int best_edits = least(((int)length + 1) / 3, 3) + 1; /* a third of the letters may be wrong, and at most three */
    for (int i = 0; i < count; i++) {
        if (!candidates[i] || strlen(candidates[i]) > NEAREST_LENGTH)
            continue;
        int edits = edits_between(wrong, candidates[i]);
        if (edits < best_edits) {
            best = candidates[i];
            best_edits = edits;
        }
    }
    return best;
}
