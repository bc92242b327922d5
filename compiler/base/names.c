#include "base.h"

#include <string.h>

typedef struct Slot {
    const char *text; /* NULL: free */
    size_t length;
    uint64_t hash;
} Slot;

/* Open addressing; the capacity is a power of two and at most half of the slots are taken. */
static struct {
    Arena *arena; /* of all of it */
    Slot *slots;
    size_t capacity, count;
} names;

void names_start(void) {
    if (names.slots)
        return;
    names.arena = arena_new();
    names.capacity = 4096;
    names.slots = arena_array(names.arena, Slot, names.capacity);
}

void names_end(void) {
    arena_free(names.arena);
    memset(&names, 0, sizeof names);
}

/* FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash_bytes(const char *text, size_t length) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return hash;
}

/* Where a text is, or would go. */
static Slot *slot_of(const char *text, size_t length, uint64_t hash) {
    size_t index = (size_t)hash & (names.capacity - 1);
    for (;; index = (index + 1) & (names.capacity - 1)) {
        Slot *slot = &names.slots[index];
        if (!slot->text || (slot->hash == hash && slot->length == length && memcmp(slot->text, text, length) == 0))
            return slot;
    }
}

static void table_grow(void) {
    Slot *before = names.slots;
    size_t count = names.capacity;
    names.capacity *= 2;
    names.slots = arena_array(names.arena, Slot, names.capacity);
    for (size_t i = 0; i < count; i++)
        if (before[i].text)
            *slot_of(before[i].text, before[i].length, before[i].hash) = before[i];
}

Name name_slice(const char *text, size_t length) {
    if (!names.slots)
        BUG("a name before names_start()");
    if (memchr(text, 0, length))
        BUG("a name holds a NUL byte");
    if (names.count * 2 >= names.capacity)
        table_grow();
    uint64_t hash = hash_bytes(text, length);
    Slot *slot = slot_of(text, length, hash);
    if (!slot->text) {
        *slot = (Slot){arena_copy(names.arena, text, length), length, hash};
        names.count++;
    }
    return slot->text;
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
