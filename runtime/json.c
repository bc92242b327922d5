/* JSON as RFC 8259 has it, for the headers and metadata of checkpoints. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

struct json_reader {
    const char *at, *start, *end;
    int depth;
    struct bp_error *error;
};

enum { JSON_DEPTH = 64 };

static int json_value(struct json_reader *reader, struct bp_json *value);

static int json_fail(struct json_reader *reader, const char *what) {
    return bp_fail(reader->error, "JSON, byte %lld: %s", (long long)(reader->at - reader->start), what);
}

static void json_space(struct json_reader *reader) {
    while (reader->at < reader->end && memchr(" \t\r\n", *reader->at, 4))
        reader->at++;
}

static int json_is(const struct json_reader *reader, char c) {
    return reader->at < reader->end && *reader->at == c;
}

static int json_digit(const struct json_reader *reader) {
    return reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
}

/* Four hexadecimal digits, after the `\u`. */
static int json_hex(struct json_reader *reader, uint32_t *code) {
    *code = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        if (reader->at >= reader->end)
            return json_fail(reader, "the text ends inside an escape");
        char c = *reader->at;
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A' + 10);
        else
            return json_fail(reader, "\\u needs four hexadecimal digits");
        *code = *code * 16 + digit;
    }
    return 1;
}

static size_t json_utf8(uint32_t code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | (code >> 6));
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | (code >> 12));
        out[1] = (char)(0x80 | ((code >> 6) & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | (code >> 18));
    out[1] = (char)(0x80 | ((code >> 12) & 0x3F));
    out[2] = (char)(0x80 | ((code >> 6) & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* After the backslash. A NUL is refused: strings here are C strings, and two keys must not look equal by being cut. */
static int json_escape(struct json_reader *reader, char out[4], size_t *length) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (reader->at >= reader->end)
        return json_fail(reader, "the text ends inside a string");
    char c = *reader->at++;
    const char *found = c ? strchr(from, c) : NULL;
    if (found) {
        out[0] = to[found - from];
        *length = 1;
        return 1;
    }
    if (c != 'u')
        return json_fail(reader, "unknown escape");
    uint32_t code, low;
    if (!json_hex(reader, &code))
        return 0;
    if (code >= 0xDC00 && code <= 0xDFFF)
        return json_fail(reader, "half of a surrogate pair");
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (reader->end - reader->at < 2 || reader->at[0] != '\\' || reader->at[1] != 'u')
            return json_fail(reader, "half of a surrogate pair");
        reader->at += 2;
        if (!json_hex(reader, &low))
            return 0;
        if (low < 0xDC00 || low > 0xDFFF)
            return json_fail(reader, "half of a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code == 0)
        return json_fail(reader, "a NUL inside a string");
    *length = json_utf8(code, out);
    return 1;
}

static int json_string(struct json_reader *reader, char **string) {
    struct bp_text text = {0};
    reader->at++; /* the quote */
    bp_text_add(&text, "", 0);
    while (!json_is(reader, '"')) {
        if (reader->at >= reader->end) {
            bp_text_free(&text);
            return json_fail(reader, "the text ends inside a string");
        }
        if ((unsigned char)*reader->at < 0x20) {
            bp_text_free(&text);
            return json_fail(reader, "a control character inside a string");
        }
        if (*reader->at == '\\') {
            char bytes[4];
            size_t length = 0;
            reader->at++;
            if (!json_escape(reader, bytes, &length)) {
                bp_text_free(&text);
                return 0;
            }
            bp_text_add(&text, bytes, length);
        } else {
            const char *from = reader->at;
            while (reader->at < reader->end && *reader->at != '"' && *reader->at != '\\' &&
                   (unsigned char)*reader->at >= 0x20)
                reader->at++;
            bp_text_add(&text, from, (size_t)(reader->at - from));
        }
    }
    reader->at++;
    *string = NULL;
    if (!text.failed)
        *string = text.at ? strdup(text.at) : strdup("");
    bp_text_free(&text);
    return *string ? 1 : json_fail(reader, "out of memory");
}

static int json_number(struct json_reader *reader, struct bp_json *value) {
    const char *from = reader->at;
    int negative = json_is(reader, '-'), whole = 1;
    uint64_t integer = 0;
    int fits = 1;
    reader->at += negative;
    if (!json_digit(reader))
        return json_fail(reader, "not a number");
    if (json_is(reader, '0') && reader->end - reader->at > 1 && reader->at[1] >= '0' && reader->at[1] <= '9')
        return json_fail(reader, "a number with a zero before it");
    for (; json_digit(reader); reader->at++) {
        uint64_t digit = (uint64_t)(*reader->at - '0');
        if (integer > ((uint64_t)INT64_MAX - digit) / 10)
            fits = 0;
        else
            integer = integer * 10 + digit;
    }
    if (json_is(reader, '.')) {
        whole = 0;
        reader->at++;
        if (!json_digit(reader))
            return json_fail(reader, "a number that ends with its point");
        while (json_digit(reader))
            reader->at++;
    }
    if (json_is(reader, 'e') || json_is(reader, 'E')) {
        whole = 0;
        reader->at++;
        if (json_is(reader, '+') || json_is(reader, '-'))
            reader->at++;
        if (!json_digit(reader))
            return json_fail(reader, "a number without its exponent");
        while (json_digit(reader))
            reader->at++;
    }
    value->kind = BP_JSON_NUMBER;
    value->is_integer = whole && fits;
    value->integer = value->is_integer ? (negative ? -(int64_t)integer : (int64_t)integer) : 0;
    if (!bp_parse_number(from, (size_t)(reader->at - from), &value->number))
        return json_fail(reader, "a number out of range");
    return 1;
}

/* Room for one more item, and its key where the container is an object; the new item is zeroed. */
static struct bp_json *json_room(struct json_reader *reader, struct bp_json *container, int32_t *capacity) {
    if (container->count == *capacity) {
        int32_t more = *capacity ? *capacity * 2 : 8;
        struct bp_json *items = realloc(container->items, (size_t)more * sizeof *items);
        if (items)
            container->items = items;
        char **keys = container->keys;
        if (items && container->kind == BP_JSON_OBJECT) {
            keys = realloc(container->keys, (size_t)more * sizeof *keys);
            if (keys)
                container->keys = keys;
        }
        if (!items || (container->kind == BP_JSON_OBJECT && !keys)) {
            json_fail(reader, "out of memory");
            return NULL;
        }
        *capacity = more;
    }
    struct bp_json *item = &container->items[container->count];
    memset(item, 0, sizeof *item);
    if (container->kind == BP_JSON_OBJECT)
        container->keys[container->count] = NULL;
    container->count++;
    return item;
}

static int json_compare_keys(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* By sorting: a header may hold many thousand tensors. */
static int json_unique_keys(struct json_reader *reader, const struct bp_json *object) {
    if (object->count < 2)
        return 1;
    char **sorted = malloc((size_t)object->count * sizeof *sorted);
    if (!sorted)
        return json_fail(reader, "out of memory");
    memcpy(sorted, object->keys, (size_t)object->count * sizeof *sorted);
    qsort(sorted, (size_t)object->count, sizeof *sorted, json_compare_keys);
    int32_t i = 1;
    while (i < object->count && strcmp(sorted[i - 1], sorted[i]) != 0)
        i++;
    int unique = i == object->count;
    if (!unique)
        bp_fail(reader->error, "JSON: the key '%s' is there twice", sorted[i]);
    free(sorted);
    return unique;
}

static int json_container(struct json_reader *reader, struct bp_json *value) {
    int is_object = *reader->at == '{';
    char close = is_object ? '}' : ']';
    int32_t capacity = 0;
    value->kind = is_object ? BP_JSON_OBJECT : BP_JSON_ARRAY;
    if (++reader->depth > JSON_DEPTH)
        return json_fail(reader, "nested deeper than 64");
    reader->at++;
    json_space(reader);
    while (!json_is(reader, close)) {
        if (value->count > 0) {
            if (!json_is(reader, ','))
                return json_fail(reader, is_object ? "expected ',' or '}'" : "expected ',' or ']'");
            reader->at++;
            json_space(reader);
        }
        struct bp_json *item = json_room(reader, value, &capacity);
        if (!item)
            return 0;
        if (is_object) {
            if (!json_is(reader, '"'))
                return json_fail(reader, "expected a key in quotes");
            if (!json_string(reader, &value->keys[value->count - 1]))
                return 0;
            json_space(reader);
            if (!json_is(reader, ':'))
                return json_fail(reader, "expected ':'");
            reader->at++;
        }
        if (!json_value(reader, item))
            return 0;
        json_space(reader);
    }
    reader->at++;
    reader->depth--;
    return !is_object || json_unique_keys(reader, value);
}

static int json_word(struct json_reader *reader, struct bp_json *value, const char *word, enum bp_json_kind kind) {
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0)
        return json_fail(reader, "not a value");
    reader->at += length;
    value->kind = kind;
    return 1;
}

static int json_value(struct json_reader *reader, struct bp_json *value) {
    json_space(reader);
    if (reader->at >= reader->end)
        return json_fail(reader, "the text ends where a value should be");
    switch (*reader->at) {
    case '{':
    case '[':
        return json_container(reader, value);
    case '"':
        value->kind = BP_JSON_STRING;
        return json_string(reader, &value->string);
    case 't':
        return json_word(reader, value, "true", BP_JSON_TRUE);
    case 'f':
        return json_word(reader, value, "false", BP_JSON_FALSE);
    case 'n':
        return json_word(reader, value, "null", BP_JSON_NULL);
    default:
        return json_number(reader, value);
    }
}

int bp_json_parse(struct bp_json *json, const char *text, size_t length, struct bp_error *error) {
    struct json_reader reader = {text, text, text + length, 0, error};
    memset(json, 0, sizeof *json);
    if (!json_value(&reader, json))
        return 0;
    json_space(&reader);
    return reader.at == reader.end ? 1 : json_fail(&reader, "something after the value");
}

const struct bp_json *bp_json_get(const struct bp_json *object, const char *key) {
    if (!object || object->kind != BP_JSON_OBJECT)
        return NULL;
    for (int32_t i = 0; i < object->count; i++)
        if (strcmp(object->keys[i], key) == 0)
            return &object->items[i];
    return NULL;
}

void bp_json_free(struct bp_json *json) {
    for (int32_t i = 0; i < json->count; i++) {
        if (json->keys)
            free(json->keys[i]);
        bp_json_free(&json->items[i]);
    }
    free(json->string);
    free(json->keys);
    free(json->items);
    memset(json, 0, sizeof *json);
}
