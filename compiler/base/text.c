#include "base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LARGE = 32 << 10 }; /* from here on a text's memory is the arenas': page by page it would take long to get */

static void give_back(Text *text) {
    if (text->capacity < LARGE)
        free(text->at);
    else
        memory_give_back(text->at);
}

static void make_room(Text *text, size_t more) {
    if (more < text->capacity && text->length < text->capacity - more)
        return; /* one byte stays for the NUL */
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity - text->length <= more)
        capacity *= 2;
    if (capacity >= LARGE) {
        char *larger = memory_take(&capacity);
        if (text->length)
            memcpy(larger, text->at, text->length + 1);
        give_back(text);
        *text = (Text){larger, text->length, capacity};
        return;
    }
    text->at = realloc(text->at, capacity);
    if (!text->at) {
        fprintf(stderr, "bpc: error: out of memory\n");
        exit(1);
    }
    text->capacity = capacity;
}

void text_add_bytes(Text *text, const char *bytes, size_t length) {
    make_room(text, length);
    if (length)
        memcpy(text->at + text->length, bytes, length);
    text->length += length;
    text->at[text->length] = '\0';
}

void text_indent(Text *text, const char *before, int depth) {
    text_add(text, before);
    make_room(text, (size_t)depth * 4);
    memset(text->at + text->length, ' ', (size_t)depth * 4);
    text->length += (size_t)depth * 4;
    text->at[text->length] = '\0';
}

/* Backwards, before `end`: printf takes its time over a number. */
static char *write_digits(char *end, uint64_t number, bool negative) {
    do
        *--end = (char)('0' + number % 10);
    while (number /= 10);
    if (negative)
        *--end = '-';
    return end;
}

int text_format(char *at, size_t room, const char *format, va_list arguments) {
    char *const start = at, *const end = at + room - 1; /* one byte stays for the NUL */
    while (*format) {
        char digits[24], *const last = digits + sizeof digits;
        const char *piece = format;
        size_t length = 0;
        if (*format != '%') {
            while (format[length] && format[length] != '%')
                length++;
            format += length;
        } else {
            bool wide = format[1] == 'l' && format[2] == 'l';
            char directive = format[wide ? 3 : 1];
            format += wide ? 4 : 2;
            if (directive == 'd') {
                int64_t number = wide ? va_arg(arguments, long long) : va_arg(arguments, int);
                piece = write_digits(last, number < 0 ? -(uint64_t)number : (uint64_t)number, number < 0);
                length = (size_t)(last - piece);
            } else if (directive == 'u') {
                piece = write_digits(last, wide ? va_arg(arguments, unsigned long long) : va_arg(arguments, unsigned),
                                     false);
                length = (size_t)(last - piece);
            } else if (directive == 's' && !wide) {
                piece = va_arg(arguments, const char *);
                if (!piece)
                    return -1;
                length = strlen(piece);
            } else if (directive == 'c' && !wide) {
                digits[0] = (char)va_arg(arguments, int);
                piece = digits;
                length = 1;
            } else if (directive == '%' && !wide) {
                piece = "%";
                length = 1;
            } else {
                return -1;
            }
        }
        if (length > (size_t)(end - at))
            return -1;
        memcpy(at, piece, length);
        at += length;
    }
    *at = '\0';
    return (int)(at - start);
}

void text_printf(Text *text, const char *format, ...) {
    enum { USUAL = 120 };
    va_list arguments, again;
    va_start(arguments, format);
    make_room(text, USUAL);
    size_t room = text->capacity - text->length;
    int plain = text_format(text->at + text->length, room, format, arguments);
    va_end(arguments);
    if (plain >= 0) {
        text->length += (size_t)plain;
        return;
    }
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(text->at + text->length, room, format, arguments);
    if (length < 0)
        BUG("cannot format '%s'", format);
    if ((size_t)length >= room) {
        make_room(text, (size_t)length);
        vsnprintf(text->at + text->length, (size_t)length + 1, format, again);
    }
    text->length += (size_t)length;
    va_end(again);
    va_end(arguments);
}

void text_free(Text *text) {
    give_back(text);
    *text = (Text){0};
}

void text_number(Text *text, double value) {
    if (isnan(value) || isinf(value)) {
        text_add(text, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return;
    }
    char digits[40];
    if (fabs(value) < 1e15 && value == floor(value)) {
        char *at = write_digits(digits + sizeof digits, (uint64_t)fabs(value), signbit(value));
        text_add_bytes(text, at, (size_t)(digits + sizeof digits - at));
        return;
    }
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    char *comma = strchr(digits, ','); /* a locale that writes 0,1 */
    if (comma)
        *comma = '.';
    text_add(text, digits);
}

void text_c_string(Text *text, const char *string) {
    text_add(text, "\"");
    const char *plain = string; /* what stands from here on needs no escape */
    for (const char *at = string; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        bool trigraph = byte == '?' && at > string && at[-1] == '?';
        if (byte >= 0x20 && byte <= 0x7E && byte != '"' && byte != '\\' && !trigraph)
            continue;
        text_add_bytes(text, plain, (size_t)(at - plain));
        plain = at + 1;
        if (byte == '"' || byte == '\\' || trigraph)
            text_printf(text, "\\%c", byte);
        else if (byte == '\n')
            text_add(text, "\\n");
        else if (byte == '\t')
            text_add(text, "\\t");
        else
            text_printf(text, "\\%03o", byte); /* always three digits, so that a digit may follow */
    }
    text_add(text, plain);
    text_add(text, "\"");
}

void text_add_xml(Text *text, const char *string) {
    for (const char *at = string; *at; at++)
        switch (*at) {
        case '<':
            text_add(text, "&lt;");
            break;
        case '>':
            text_add(text, "&gt;");
            break;
        case '&':
            text_add(text, "&amp;");
            break;
        case '"':
            text_add(text, "&quot;");
            break;
        default:
            text_add_bytes(text, (unsigned char)*at < 0x20 ? "?" : at, 1);
        }
}

void text_c_comment(Text *text, const char *string) {
    for (const char *at = string; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        char shown = byte == '\\' ? '/' : byte == '\n' || byte == '\t' || byte == '\r' ? ' ' : *at;
        if (byte == 0x7F || (byte < 0x20 && shown != ' '))
            shown = '.';
        char before = text->length ? text->at[text->length - 1] : '\0';
        bool joins =
            (before == '*' && shown == '/') || (before == '/' && shown == '*') || (before == '?' && shown == '?');
        if (joins)
            text_add(text, " ");
        text_add_bytes(text, &shown, 1);
    }
}
