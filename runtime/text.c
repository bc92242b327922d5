/* Errors, growing text, and numbers as text, none of which looks at the locale. */
#include "runtime.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int bp_fail(struct bp_error *error, const char *format, ...) {
    if (error == NULL)
        return 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return 0;
}

/* ---- A growing buffer -------------------------------------------------------------------------------------------- */
/* Room for `more` bytes and a final NUL. */
static int text_reserve(struct bp_text *text, size_t more) {
    if (text->failed)
        return 0;
    if (more > PTRDIFF_MAX - 1 - text->length) {
        text->failed = 1;
        return 0;
    }
    size_t needed = text->length + more + 1;
    if (needed <= text->capacity)
        return 1;
    size_t capacity = text->capacity < 64 ? 64 : text->capacity;
    while (capacity < needed)
        capacity = capacity > PTRDIFF_MAX / 2 ? needed : capacity * 2;
    char *at = realloc(text->at, capacity);
    if (at == NULL) {
        text->failed = 1;
        return 0;
    }
    text->at = at;
    text->capacity = capacity;
    return 1;
}

void bp_text_add(struct bp_text *text, const char *bytes, size_t length) {
    if (!text_reserve(text, length))
        return;
    if (length > 0)
        memcpy(text->at + text->length, bytes, length);
    text->length += length;
    text->at[text->length] = '\0';
}

void bp_text_printf(struct bp_text *text, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->failed = 1;
    } else if (text_reserve(text, (size_t)length)) {
        vsnprintf(text->at + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

void bp_text_free(struct bp_text *text) {
    free(text->at);
    memset(text, 0, sizeof *text);
}

/* ---- Numbers ----------------------------------------------------------------------------------------------------- */
/* "%.*g" with a point whatever the locale writes instead of it. */
static void text_format_double(char *out, size_t size, int digits, double value) {
    snprintf(out, size, "%.*g", digits, value);
    const char *point = localeconv()->decimal_point;
    size_t length = strlen(point);
    char *found = length == 0 || strcmp(point, ".") == 0 ? NULL : strstr(out, point);
    if (found == NULL)
        return;
    *found = '.';
    memmove(found + 1, found + length, strlen(found + length) + 1);
}

void bp_text_number(struct bp_text *text, double value) {
    if (isnan(value)) {
        bp_text_add(text, "NaN", 3);
        return;
    }
    if (isinf(value)) {
        bp_text_add(text, value > 0 ? "Infinity" : "-Infinity", value > 0 ? 8 : 9);
        return;
    }
    char out[64];
    for (int digits = 15; digits <= 17; digits++) {
        text_format_double(out, sizeof out, digits, value);
        double back;
        if (bp_parse_number(out, strlen(out), &back) && back == value)
            break;
    }
    bp_text_add(text, out, strlen(out));
}

static int text_is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int text_is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* What a number is made of: (negative ? -1 : 1) * digits * 10^exponent. */
enum { TEXT_DIGITS = 800 }; /* 768 decide any double; what lies beyond matters only as "more than this" */
struct text_decimal {
    int negative, count, more;
    int64_t exponent;
    char digits[TEXT_DIGITS + 32]; /* room for a last digit and the exponent that strtod reads */
};

static void text_take_digit(struct text_decimal *decimal, char digit) {
    if (decimal->count == 0 && digit == '0')
        return;
    if (decimal->count < TEXT_DIGITS) {
        decimal->digits[decimal->count++] = digit;
        return;
    }
    decimal->exponent++;
    decimal->more |= digit != '0';
}

/* Cuts [at, end) into its decimal; 0 where it is not one number. */
static int text_read_decimal(const char *at, const char *end, struct text_decimal *decimal) {
    decimal->negative = decimal->count = decimal->more = 0;
    decimal->exponent = 0;
    if (at < end && (*at == '+' || *at == '-'))
        decimal->negative = *at++ == '-';
    int64_t seen = 0;
    for (; at < end && text_is_digit(*at); at++, seen++)
        text_take_digit(decimal, *at);
    if (at < end && *at == '.') {
        at++;
        for (; at < end && text_is_digit(*at); at++, seen++) {
            text_take_digit(decimal, *at);
            decimal->exponent--;
        }
    }
    if (seen == 0)
        return 0;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        int down = at < end && *at == '-';
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        if (at == end)
            return 0;
        int64_t exponent = 0;
        for (; at < end && text_is_digit(*at); at++)
            if (exponent < INT64_C(1000000000000))
                exponent = exponent * 10 + (*at - '0');
        decimal->exponent += down ? -exponent : exponent;
    }
    return at == end;
}

static const double text_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && defined(__GNUC__)
/* Eight bytes at once: a digit is its value, and what is none has its upper bit set in *others. */
static uint64_t text_eight(const char *at, uint64_t *others) {
    uint64_t eight;
    memcpy(&eight, at, 8);
    eight ^= UINT64_C(0x3030303030303030);
    *others = (((eight & UINT64_C(0x7f7f7f7f7f7f7f7f)) + UINT64_C(0x7676767676767676)) | eight) &
              UINT64_C(0x8080808080808080);
    return eight;
}

/* The number that the first 1 to 8 of eight digits make: they move to the end, zeros come in front, and neighbours are
   joined to numbers below 100, 10^4, 10^8. */
static uint64_t text_join(uint64_t eight, int count) {
    eight <<= 64 - 8 * count;
    eight = (eight * 10 + (eight >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
    eight = (eight * 100 + (eight >> 16)) & UINT64_C(0x0000ffff0000ffff);
    return (eight * 10000 + (eight >> 32)) & UINT64_C(0xffffffff);
}

/* A number without a sign that ends within eight bytes, the point among them; NULL: none does. */
static const char *text_small_number(const char *at, double *value) {
    uint64_t others, eight = text_eight(at, &others);
    if (others == 0)
        return NULL;
    int whole = __builtin_ctzll(others) / 8, places = 0, end = whole;
    if (whole == 0)
        return NULL;
    if (at[whole] == '.') {
        others &= others - 1;
        if (others == 0)
            return NULL;
        uint64_t before = (UINT64_C(1) << 8 * whole) - 1;
        eight = (eight & before) | (eight >> 8 & ~before);
        end = __builtin_ctzll(others) / 8;
        places = end - whole - 1;
    }
    *value = (double)(int64_t)text_join(eight, whole + places) / text_powers[places];
    return at + end;
}

/* Digits from `at` on are appended to *whole; returns what follows them. */
static const char *text_take_digits(const char *at, const char *end, uint64_t *whole) {
    static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    while (end - at >= 8) {
        uint64_t others, eight = text_eight(at, &others);
        int count = others ? __builtin_ctzll(others) / 8 : 8;
        if (count == 0)
            return at;
        *whole = *whole * powers[count] + text_join(eight, count);
        at += count;
        if (count < 8)
            return at;
    }
    for (; at < end && text_is_digit(*at); at++)
        *whole = *whole * 10 + (uint64_t)(*at - '0');
    return at;
}
#else
static const char *text_small_number(const char *at, double *value) {
    (void)at;
    (void)value;
    return NULL;
}

static const char *text_take_digits(const char *at, const char *end, uint64_t *whole) {
    for (; at < end && text_is_digit(*at); at++)
        *whole = *whole * 10 + (uint64_t)(*at - '0');
    return at;
}
#endif

/* Both factors are exact, so one rounding is the right one. */
const char *bp_short_number(const char *at, const char *end, double *value) {
    enum { MOST = 18 };                    /* digits, zeros in front counted: so many fit */
    static const double signs[] = {1, -1}; /* a sign is a guess that fails half the time: no branch for it */
    if (FLT_EVAL_METHOD != 0 || at == end)
        return NULL;
    int negative = *at == '-';
    at += negative | (*at == '+');
    const char *small = end - at >= 8 ? text_small_number(at, value) : NULL;
    if (small != NULL) {
        *value *= signs[negative];
        return small;
    }
    uint64_t whole = 0;
    const char *first = at;
    at = text_take_digits(at, end, &whole);
    int64_t digits = at - first, places = 0;
    if (digits == 0)
        return NULL;
    if (at < end && *at == '.') {
        first = ++at;
        at = text_take_digits(at, end, &whole);
        places = at - first;
        digits += places;
    }
    if (digits > MOST || whole >= UINT64_C(1000000000000000))
        return NULL;
    *value = (double)(int64_t)whole / text_powers[places] * signs[negative];
    return at;
}

int bp_parse_number(const char *text, size_t length, double *value) {
    const char *at = text, *end = text + length;
    while (at < end && text_is_space(*at))
        at++;
    while (at < end && text_is_space(end[-1]))
        end--;
    double result;
    if (bp_short_number(at, end, &result) == end) {
        *value = result;
        return 1;
    }
    struct text_decimal decimal;
    if (!text_read_decimal(at, end, &decimal))
        return 0;
    if (decimal.count == 0) {
        result = 0;
    } else if (FLT_EVAL_METHOD == 0 && decimal.count <= 15 && decimal.exponent >= -22 && decimal.exponent <= 22) {
        /* both factors are exact, so one rounding is the right one */
        int64_t whole = 0;
        for (int i = 0; i < decimal.count; i++)
            whole = whole * 10 + (decimal.digits[i] - '0');
        result = decimal.exponent < 0 ? (double)whole / text_powers[-decimal.exponent]
                                      : (double)whole * text_powers[decimal.exponent];
    } else {
        /* without a point no locale can change what strtod reads */
        if (decimal.more) {
            decimal.digits[decimal.count++] = '1';
            decimal.exponent--;
        }
        int64_t bound = 1000000;
        int exponent = (int)(decimal.exponent > bound ? bound : decimal.exponent < -bound ? -bound : decimal.exponent);
        snprintf(decimal.digits + decimal.count, sizeof decimal.digits - (size_t)decimal.count, "e%d", exponent);
        result = strtod(decimal.digits, NULL);
        if (isinf(result))
            return 0;
    }
    *value = decimal.negative ? -result : result;
    return 1;
}

int bp_number_beyond(const char *text, size_t length) {
    struct text_decimal decimal;
    double value;
    return text_read_decimal(text, text + length, &decimal) && !bp_parse_number(text, length, &value);
}

/* ---- JSON strings ------------------------------------------------------------------------------------------------ */
/* Bytes of the UTF-8 character at `at`, 0 where it is not well formed. */
static size_t text_utf8_length(const unsigned char *at) {
    if (at[0] < 0x80)
        return 1;
    size_t length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80) /* a NUL stops here too */
            return 0;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f)) /* overlong, surrogate */
        return 0;
    if ((at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

void bp_text_json(struct bp_text *text, const char *string) {
    bp_text_add(text, "\"", 1);
    for (const unsigned char *at = (const unsigned char *)string; *at != '\0';) {
        size_t length = text_utf8_length(at);
        if (length == 0) { /* JSON must be UTF-8: U+FFFD stands for a byte that is not */
            bp_text_add(text, "\xef\xbf\xbd", 3);
            at++;
            continue;
        }
        if (*at == '"' || *at == '\\')
            bp_text_printf(text, "\\%c", *at);
        else if (*at == '\n')
            bp_text_add(text, "\\n", 2);
        else if (*at == '\t')
            bp_text_add(text, "\\t", 2);
        else if (*at < 0x20 || *at == 0x7f)
            bp_text_printf(text, "\\u%04x", (unsigned)*at);
        else
            bp_text_add(text, (const char *)at, length);
        at += length;
    }
    bp_text_add(text, "\"", 1);
}
