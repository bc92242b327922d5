#include "base.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing; the capacity is a power of two and at most half of the slots are taken. */
static struct {
    char **slots;
    size_t capacity, count;
} names;

static char **slots_new(size_t capacity) {
    char **slots = calloc(capacity, sizeof *slots);
    if (slots)
        return slots;
    fprintf(stderr, "bpc: error: out of memory\n");
    exit(1);
}

void names_start(void) {
    if (names.slots)
        return;
    names.capacity = 1024;
    names.slots = slots_new(names.capacity);
}

void names_end(void) {
    for (size_t i = 0; i < names.capacity; i++)
        free(names.slots[i]);
    free(names.slots);
    memset(&names, 0, sizeof names);
}

/* FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash_bytes(const char *text, size_t length) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return hash;
}

static char **slot_of(char **slots, size_t capacity, const char *text, size_t length) {
    size_t index = (size_t)hash_bytes(text, length) & (capacity - 1);
    while (slots[index] && (strncmp(slots[index], text, length) != 0 || slots[index][length]))
        index = (index + 1) & (capacity - 1);
    return &slots[index];
}

static void table_grow(void) {
    size_t capacity = names.capacity * 2;
    char **slots = slots_new(capacity);
    for (size_t i = 0; i < names.capacity; i++) {
        char *text = names.slots[i];
        if (text)
            *slot_of(slots, capacity, text, strlen(text)) = text;
    }
    free(names.slots);
    names.slots = slots;
    names.capacity = capacity;
}

Name name_slice(const char *text, size_t length) {
    if (!names.slots)
        BUG("a name before names_start()");
    if (memchr(text, 0, length))
        BUG("a name holds a NUL byte");
    if (names.count * 2 >= names.capacity)
        table_grow();
    char **slot = slot_of(names.slots, names.capacity, text, length);
    if (*slot)
        return *slot;
    *slot = malloc(length + 1);
    if (!*slot) {
        fprintf(stderr, "bpc: error: out of memory\n");
        exit(1);
    }
    memcpy(*slot, text, length);
    (*slot)[length] = '\0';
    names.count++;
    return *slot;
}

Name name_of(const char *text) {
    return name_slice(text, strlen(text));
}

Name name_identifier(const char *text) {
    Text safe = {0};
    for (const char *c = text; *c; c++)
        text_printf(&safe, "%c",
                    (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ? *c : '_');
    Name name = name_of(safe.at ? safe.at : "_");
    text_free(&safe);
    return name;
}
