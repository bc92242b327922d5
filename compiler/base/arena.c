#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* mmap without a file, madvise */
#endif
#include "base.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCK_SIZE = 2 << 20, PIECE_SIZE = 64 << 10, PIECE_SIZES = 5, ALIGNMENT = 16 };

/* Pieces form a list, the newest first. The payload follows the header, which is a multiple of the alignment. */
typedef struct Piece {
    struct Piece *previous;
    size_t used, size; /* bytes of the payload */
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

#ifdef BPC_ARENA_MALLOC

static Piece *piece_get(size_t size) {
    Piece *piece = calloc(1, sizeof *piece + size);
    if (!piece)
        out_of_memory();
    piece->size = size;
    return piece;
}

static Piece *piece_take(size_t size) {
    return piece_get(size);
}

static void piece_give_back(Piece *piece) {
    free(piece);
}

#else

/* ---- Pieces for all arenas ----------------------------------------------------------------------------------------
   They are cut from blocks that fill a huge page: one page fault instead of 512. What an arena gives back serves the next
   one; it is cleared then, as far as it was used. A piece has 64 KB, twice, four, eight or 16 times that, or whole blocks
   of its own. */
static struct {
    atomic_flag taken; /* LLVM's workers have arenas too */
    Piece *free[PIECE_SIZES];
    char *next, *end; /* what is left of the newest block */
} pool = {.taken = ATOMIC_FLAG_INIT};

static char *map_blocks(size_t size) {
    char *mapped = mmap(NULL, size + BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        out_of_memory();
    size_t before = (BLOCK_SIZE - (uintptr_t)mapped % BLOCK_SIZE) % BLOCK_SIZE;
    if (before)
        munmap(mapped, before);
    munmap(mapped + before + size, BLOCK_SIZE - before);
#ifdef MADV_HUGEPAGE
    (void)madvise(mapped + before, size, MADV_HUGEPAGE); /* where refused, small pages do */
#endif
    return mapped + before;
}

static char *pool_cut(int kind) {
    size_t size = (size_t)PIECE_SIZE << kind;
    if ((size_t)(pool.end - pool.next) < size) {
        for (; pool.next < pool.end; pool.next += PIECE_SIZE) {
            Piece *rest = (Piece *)(void *)pool.next;
            rest->previous = pool.free[0];
            pool.free[0] = rest;
        }
        pool.next = map_blocks(BLOCK_SIZE);
        pool.end = pool.next + BLOCK_SIZE;
    }
    char *cut = pool.next;
    pool.next += size;
    return cut;
}

static int piece_kind(size_t bytes) {
    int kind = 0;
    while (kind < PIECE_SIZES && bytes > (size_t)PIECE_SIZE << kind)
        kind++;
    return kind;
}

static void pool_lock(void) {
    while (atomic_flag_test_and_set_explicit(&pool.taken, memory_order_acquire))
        ;
}

static void pool_unlock(void) {
    atomic_flag_clear_explicit(&pool.taken, memory_order_release);
}

/* Its first `used` bytes are whatever they are. */
static Piece *piece_take(size_t size) {
    size_t bytes = size + sizeof(Piece);
    int kind = piece_kind(bytes);
    Piece *piece;
    if (kind == PIECE_SIZES) {
        bytes = (bytes + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
        piece = (Piece *)(void *)map_blocks(bytes);
    } else {
        bytes = (size_t)PIECE_SIZE << kind;
        pool_lock();
        piece = pool.free[kind];
        if (piece)
            pool.free[kind] = piece->previous;
        else
            piece = (Piece *)(void *)pool_cut(kind);
        pool_unlock();
    }
    piece->size = bytes - sizeof *piece;
    return piece;
}

static Piece *piece_get(size_t size) {
    Piece *piece = piece_take(size);
    memset(piece + 1, 0, piece->used);
    piece->used = 0;
    return piece;
}

static void piece_give_back(Piece *piece) {
    size_t bytes = piece->size + sizeof *piece;
    int kind = piece_kind(bytes);
    if (kind == PIECE_SIZES) {
        munmap(piece, bytes);
        return;
    }
    pool_lock();
    piece->previous = pool.free[kind];
    pool.free[kind] = piece;
    pool_unlock();
}

#endif

char *memory_take(size_t *size) {
    Piece *piece = piece_take(*size);
    *size = piece->size;
    return (char *)(piece + 1);
}

void memory_give_back(char *memory) {
    Piece *piece = (Piece *)(void *)memory - 1;
    piece->used = piece->size; /* all of it may have been written to */
    piece_give_back(piece);
}

void arena_free(Arena *arena) {
    if (!arena)
        return;
    for (Piece *piece = arena->newest; piece;) {
        Piece *previous = piece->previous;
        piece_give_back(piece);
        piece = previous;
    }
    free(arena);
}

static Piece *piece_new(Arena *arena, size_t size) {
    Piece *piece = piece_get(size);
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
        piece = piece_new(arena, rounded);
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
    char brief[256]; /* most texts are short: formatted once */
    va_start(arguments, format);
    int plain = text_format(brief, sizeof brief, format, arguments);
    va_end(arguments);
    if (plain >= 0)
        return arena_copy(arena, brief, (size_t)plain);
    va_start(arguments, format);
    va_copy(again, arguments);
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

/* Makes what was allocated last larger where it is; false: it is not the last, or there is no room behind it. */
static bool arena_extend(Arena *arena, const void *at, size_t size, size_t larger) {
#ifdef BPC_ARENA_MALLOC
    (void)arena, (void)at, (void)size, (void)larger;
    return false;
#else
    Piece *piece = arena->newest;
    size_t before = (size + (ALIGNMENT - 1)) / ALIGNMENT * ALIGNMENT;
    size_t after = (larger + (ALIGNMENT - 1)) / ALIGNMENT * ALIGNMENT;
    if (!at || !piece || (const char *)at + before != (char *)(piece + 1) + piece->used ||
        piece->size - piece->used < after - before)
        return false;
    piece->used += after - before;
    arena->bytes += larger - size;
    return true;
#endif
}

void *list_room(Arena *arena, void *at, int count, int *capacity, size_t item_size) {
    if (count < *capacity)
        return at;
    if (*capacity > INT32_MAX / 2)
        out_of_memory();
    size_t size = (size_t)*capacity * item_size;
    *capacity = *capacity ? *capacity * 2 : 4;
    if (arena_extend(arena, at, size, (size_t)*capacity * item_size))
        return at;
    void *larger = arena_alloc(arena, (size_t)*capacity * item_size);
    if (count)
        memcpy(larger, at, (size_t)count * item_size);
    return larger;
}
