/* The bytes of a source: what may stand in it at all, and the values of numbers and strings. */
#include "parser.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "grammar.h"

static bool is_continuation(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* The length of the UTF-8 sequence at `at`, of which `left` bytes exist; 0 where it is none (RFC 3629: no overlong
   forms, no surrogates, nothing above U+10FFFF). */
static int sequence_length(const char *at, int32_t left) {
    unsigned char lead = (unsigned char)at[0], second = left > 1 ? (unsigned char)at[1] : 0;
    if (lead < 0x80)
        return 1;
    int length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    if (length == 0 || left < length)
        return 0;
    for (int i = 1; i < length; i++)
        if (!is_continuation(at[i]))
            return 0;
    bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
    bool beyond = (lead == 0xED && second >= 0xA0) || (lead == 0xF4 && second >= 0x90);
    return overlong || beyond ? 0 : length;
}

void check_characters(Parser *parser) {
    bool said = false; /* once a line is enough */
    for (int32_t i = 0; i < parser->length;) {
        Span span = {parser->source, i, i + 1};
        const char *at = parser->text + i;
        int length = sequence_length(at, parser->length - i);
        if (*at == '\n')
            said = false;
        bool lone_return = *at == '\r' && i + 1 < parser->length && at[1] != '\n';
        if (!said && (length == 0 || *at == '\0' || lone_return)) {
            said = true;
            if (length == 0)
                lexical_error(parser, span, "this byte (0x%02X) is not UTF-8", (unsigned char)*at);
            else if (lone_return)
                lexical_error(parser, span, "a carriage return stands alone here; a line ends with LF or CR LF");
            else
                lexical_error(parser, span, "a program holds no NUL byte");
        }
        i += length ? length : 1;
    }
}

void report_character(Parser *parser, Span span) {
    const char *at = parser->text + span.start;
    int length = sequence_length(at, parser->length - span.start);
    unsigned char byte = (unsigned char)*at;
    if (length == 0 || byte == 0)
        return; /* check_characters said it */
    if (byte == '\'')
        lexical_error(parser, span, "unknown character '''; a string stands in double quotes");
    else if (length > 1)
        lexical_error(parser, (Span){span.source, span.start, span.start + length},
                      "unknown character '%.*s'; a name with other letters stands in double quotes", length, at);
    else if (byte < 0x20 || byte == 0x7F)
        lexical_error(parser, span, "unknown control character 0x%02X", byte);
    else
        lexical_error(parser, span, "unknown character '%c'", byte);
}

static bool has_nonzero_digit(const char *digits) {
    for (; *digits && *digits != 'e' && *digits != 'E'; digits++)
        if (*digits >= '1' && *digits <= '9')
            return true;
    return false;
}

Token number_token(Parser *parser, Span span) {
    char *digits = arena_copy(parser->scratch, parser->text + span.start, (size_t)(span.end - span.start));
    double number = strtod(digits, NULL);
    if (!isfinite(number) || (number == 0 && has_nonzero_digit(digits))) {
        lexical_error(parser, span, "number out of range");
        number = 0;
    }
    return (Token){.kind = TOKEN_NUMBER, .span = span, .number = number};
}

Token string_token(Parser *parser, Span span, bool closed) {
    const char *at = parser->text + span.start + 1, *end = parser->text + span.end - (closed ? 1 : 0);
    char *bytes = arena_alloc(parser->arena, (size_t)(end - at) + 1);
    int32_t length = 0;
    if (!closed)
        lexical_error(parser, (Span){span.source, span.start, span.start + 1}, "this string is never closed");
    for (; at < end; at++) {
        int32_t offset = (int32_t)(at - parser->text);
        char byte = *at;
        if (byte == '\\' && at + 1 < end) {
            char escaped = *++at;
            byte = escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
            if (!strchr("nt\"\\", escaped))
                lexical_error(parser, (Span){span.source, offset, offset + 2},
                              "unknown escape; a string knows \\\", \\\\, \\n and \\t");
        } else if ((unsigned char)byte < 0x20 && byte != '\t') {
            if (closed)
                lexical_error(parser, (Span){span.source, offset, offset + 1}, "a control character in a string");
        }
        bytes[length++] = byte ? byte : '?';
    }
    return (Token){.kind = TOKEN_STRING, .span = span, .text = bytes, .length = length};
}
