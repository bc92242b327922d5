/* Syntax errors: collected, then reported in the order of the file, one a line. */
#include "parser.h"

#include <stdlib.h>
#include <string.h>

#include "grammar.h"

static void add_error(Parser *parser, Span span, bool lexical, const char *format, va_list arguments) BPC_PRINTF(4, 0);

static void add_error(Parser *parser, Span span, bool lexical, const char *format, va_list arguments) {
    int order = parser->errors.count, line = span_place(span).line;
    const SyntaxError *last = order ? &parser->errors.at[order - 1] : NULL;
    bool repeats = last && last->line == line && last->lexical == lexical && last->span.start <= span.start;
    parser->error_added = !repeats && parser->errors_left > 0;
    if (!parser->error_added)
        return;
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        BUG("cannot format '%s'", format);
    char *text = arena_alloc(parser->scratch, (size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    parser->errors_left--;
    *LIST_ADD(parser->scratch, &parser->errors) =
        (SyntaxError){.span = span, .message = text, .lexical = lexical, .line = line, .order = order};
}

void syntax_error(Parser *parser, Span span, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_error(parser, span, false, format, arguments);
    va_end(arguments);
}

void lexical_error(Parser *parser, Span span, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_error(parser, span, true, format, arguments);
    va_end(arguments);
}

void syntax_note(Parser *parser, Span span, const char *format, ...) {
    if (!parser->error_added)
        return;
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    SyntaxError *error = &parser->errors.at[parser->errors.count - 1];
    error->note = arena_copy(parser->scratch, text, strlen(text));
    error->note_span = span;
}

static int compare(int a, int b) {
    return (a > b) - (a < b);
}

static int compare_errors(const void *left, const void *right) {
    const SyntaxError *a = left, *b = right;
    if (a->line != b->line)
        return compare(a->line, b->line);
    if (a->lexical != b->lexical)
        return a->lexical ? -1 : 1;
    if (a->span.start != b->span.start)
        return compare(a->span.start, b->span.start);
    return compare(a->order, b->order);
}

void report_errors(Parser *parser) {
    if (!parser->errors.count)
        return;
    qsort(parser->errors.at, (size_t)parser->errors.count, sizeof *parser->errors.at, compare_errors);
    for (int i = 0; i < parser->errors.count; i++) {
        const SyntaxError *error = &parser->errors.at[i];
        if (i > 0 && error->line == parser->errors.at[i - 1].line)
            continue;
        error_at(error->span, "%s", error->message);
        if (error->note)
            note_at(error->note_span, "%s", error->note);
    }
}

const char *token_shown(Parser *parser, const Token *token) {
    enum { SHOWN = 32 };
    if (token->kind == TOKEN_YYEOF)
        return "the end of the file";
    const char *at = parser->text + token->span.start;
    int length = token->span.end - token->span.start;
    if (token->kind == TOKEN_END) {
        if (token->made)
            return *at == '}' ? "'}'" : "the end of the file";
        return *at == '\n' || *at == '\r' ? "the end of the line" : arena_printf(parser->scratch, "'%c'", *at);
    }
    const char *quote = token->kind == TOKEN_STRING ? "" : "'";
    if (length <= SHOWN)
        return arena_printf(parser->scratch, "%s%.*s%s", quote, length, at, quote);
    length = SHOWN;
    while (length > 0 && ((unsigned char)at[length] & 0xC0) == 0x80)
        length--;
    return arena_printf(parser->scratch, "%s%.*s...%s", quote, length, at, quote);
}
