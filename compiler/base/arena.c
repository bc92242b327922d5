#include "base.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_SIZE = 64 * 1024, ALIGNMENT = 16 };

/* Pieces form a list, the newest first. The payload follows the header, which is a multiple of the alignment. */
typedef struct Piece {
    struct Piece *previous;
    size_t used, size;
    size_t padding;
} Piece;
_Static_assert(sizeof(Piece) % ALIGNMENT == 0, "what follows a header is aligned");

struct Arena {
    Piece *newest;
    size_t bytes;
};

BPC_NORETURN static void out_of_memory(void) {
    fprintf(stderr, "bpc: error: out of memory\n");
    exit(1);
}

Arena *arena_new(void) {
    Arena *arena = calloc(1, sizeof *arena);
    if (!arena)
        out_of_memory();
    return arena;
}

void arena_free(Arena *arena) {
    if (!arena)
        return;
    for (Piece *piece = arena->newest; piece;) {
        Piece *previous = piece->previous;
        free(piece);
        piece = previous;
    }
    free(arena);
}

static Piece *piece_new(Arena *arena, size_t size) {
    Piece *piece = calloc(1, sizeof *piece + size);
    if (!piece)
        out_of_memory();
    piece->size = size;
    piece->previous = arena->newest;
    arena->newest = piece;
    return piece;
}

void *arena_alloc(Arena *arena, size_t size) {
    if (size > SIZE_MAX / 2)
        out_of_memory();
    arena->bytes += size;
#ifdef BPC_ARENA_MALLOC
    return piece_new(arena, size) + 1;
#else
    size_t rounded = (size + (ALIGNMENT - 1)) / ALIGNMENT * ALIGNMENT;
    Piece *piece = arena->newest;
    if (!piece || piece->size - piece->used < rounded)
        piece = piece_new(arena, rounded > PIECE_SIZE ? rounded : PIECE_SIZE);
    void *result = (char *)(piece + 1) + piece->used;
    piece->used += rounded;
    return result;
#endif
}

char *arena_copy(Arena *arena, const char *text, size_t length) {
    char *copy = arena_alloc(arena, length + 1);
    if (length)
        memcpy(copy, text, length);
    return copy;
}

char *arena_printf(Arena *arena, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    char brief[256]; /* most texts are short: formatted once */
    int length = vsnprintf(brief, sizeof brief, format, arguments);
    if (length < 0)
        BUG("cannot format '%s'", format);
    char *result = arena_alloc(arena, (size_t)length + 1);
    if ((size_t)length < sizeof brief)
        memcpy(result, brief, (size_t)length);
    else
        vsnprintf(result, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return result;
}

size_t arena_bytes(const Arena *arena) {
    return arena->bytes;
}

void *list_room(Arena *arena, void *at, int count, int *capacity, size_t item_size) {
    if (count < *capacity)
        return at;
    if (*capacity > INT32_MAX / 2)
        out_of_memory();
    *capacity = *capacity ? *capacity * 2 : 4;
    void *larger = arena_alloc(arena, (size_t)*capacity * item_size);
    if (count)
        memcpy(larger, at, (size_t)count * item_size);
    return larger;
}
