/* What every stage stands on: memory by lifetime, interned names, source positions, diagnostics, text.
   Nothing here knows what a network is. */
#ifndef BPC_BASE_H
#define BPC_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__GNUC__)
#define BPC_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define BPC_NORETURN __attribute__((noreturn))
#else
#define BPC_PRINTF(text, first)
#define BPC_NORETURN
#endif

/* ---- Arena: memory that is freed all at once -------------------------------------------------------------------
   One arena a compilation, one a pass that needs scratch. What comes out is zeroed and aligned to 16 bytes.
   Nobody frees a node. When memory runs out the process says so and exits with 1.
   Built with -DBPC_ARENA_MALLOC each piece is a malloc of its own, so that AddressSanitizer sees overruns. */
typedef struct Arena Arena;

Arena *arena_new(void);
void arena_free(Arena *arena); /* NULL is allowed */
void *arena_alloc(Arena *arena, size_t size);
char *arena_copy(Arena *arena, const char *text, size_t length); /* NUL-terminated copy */
char *arena_printf(Arena *arena, const char *format, ...) BPC_PRINTF(2, 3);
size_t arena_bytes(const Arena *arena);

/* Memory for one thing that is large and grows, from where arenas have theirs: not cleared. `size` becomes what there is. */
char *memory_take(size_t *size);
void memory_give_back(char *memory);

#define arena_new_of(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define arena_array(arena, type, count) ((type *)arena_alloc((arena), sizeof(type) * (size_t)(count)))

/* A growing array in an arena: `LIST(Item) items = {0}; *LIST_ADD(arena, &items) = item; items.at[i]; items.count`. */
#define LIST(type)                                                                                                     \
    struct {                                                                                                           \
        type *at;                                                                                                      \
        int count, capacity;                                                                                           \
    }
#define LIST_ADD(arena, list)                                                                                          \
    ((list)->at = list_room((arena), (list)->at, (list)->count, &(list)->capacity, sizeof *(list)->at),                \
     &(list)->at[(list)->count++])
void *list_room(Arena *arena, void *at, int count, int *capacity, size_t item_size);

/* ---- Names: interned, so that equal names are equal pointers ----------------------------------------------------- */
typedef const char *Name;

void names_start(void); /* once, before the first name */
void names_end(void);   /* frees them all */
Name name_of(const char *text);
Name name_slice(const char *text, size_t length);
Name name_identifier(const char *text); /* letters and digits as they are, all else `_`: fc1.weight -> fc1_weight */

/* ---- From addresses to addresses: open addressing; asked, never listed ------------------------------------------- */
typedef struct PointerMap {
    const void **keys;
    void **values;
    uint32_t size, count;
} PointerMap;

void *map_find(const PointerMap *map, const void *key); /* NULL where it is not */
void map_put(Arena *arena, PointerMap *map, const void *key, void *value);
void map_clear(PointerMap *map);

/* ---- Sources and spans: where a thing was written ---------------------------------------------------------------- */
typedef struct Span {
    int32_t source;     /* index of the source; -1: nowhere (made by the compiler) */
    int32_t start, end; /* byte offsets, end exclusive */
} Span;
#define SPAN_NONE ((Span){-1, 0, 0})

typedef struct Place {
    const char *path;
    int line, column; /* from 1; a column counts bytes */
} Place;

int source_add(const char *path, const char *text, size_t length); /* copies; returns the index. A prelude file's path is "prelude/x.bp" */
int source_count(void);
const char *source_path(int source);
const char *source_text(int source, size_t *length);
Place span_place(Span span);
Span span_join(Span first, Span last);
bool span_in_prelude(Span span);
void sources_end(void);

/* ---- Diagnostics ------------------------------------------------------------------------------------------------
   `file:line:col: error: text`, then the line and carets under the span. A note follows what it explains.
   Texts carry no final full stop, quote names as 'name', say what is wrong and, where one is known, the remedy.
   After 20 errors the compilation stops counting aloud. Diagnostics go to stderr (coloured on a terminal unless NO_COLOR). */
void error_at(Span span, const char *format, ...) BPC_PRINTF(2, 3);
void warning_at(Span span, const char *format, ...) BPC_PRINTF(2, 3); /* the same of one place once, with its notes */
void note_at(Span span, const char *format, ...) BPC_PRINTF(2, 3);
void error_plain(const char *format, ...) BPC_PRINTF(1, 2); /* `bpc: error: …`, where no source position exists */
int error_count(void);
void diagnostics_reset(void);
BPC_NORETURN void internal_error(const char *file, int line, const char *format, ...) BPC_PRINTF(3, 4);
/* A broken invariant of the compiler: prints `bpc: internal error`, exits with 70. Never for bad input. */
#define BUG(...) internal_error(__FILE__, __LINE__, __VA_ARGS__)

/* The nearest of the candidates to `wrong` by edits (insert, delete, replace, swap), or NULL when none is near enough. */
Name nearest_name(const char *wrong, const Name *candidates, int count);

/* ---- Text: a growing buffer -------------------------------------------------------------------------------------- */
typedef struct Text {
    char *at; /* NUL-terminated; NULL while empty */
    size_t length, capacity;
} Text;

void text_add_bytes(Text *text, const char *bytes, size_t length);
static inline void text_add(Text *text, const char *piece) { /* the length of a literal is known when compiling */
    text_add_bytes(text, piece, strlen(piece));
}
void text_indent(Text *text, const char *before, int depth); /* by four spaces each */
void text_printf(Text *text, const char *format, ...) BPC_PRINTF(2, 3);
void text_free(Text *text);
/* What printf would write, and its length, where a format holds nothing but %s %c %d %u %lld %llu %% and there is room; else -1:
   then printf has to do it, which takes five times as long. */
int text_format(char *at, size_t room, const char *format, va_list arguments);
/* A number as short as it can be and still read back to the same double ("0.1", "1e-08", "3"). */
void text_number(Text *text, double value);
/* A string as a C literal with quotes, safe against trigraphs, escapes, control and non-ASCII bytes. */
void text_c_string(Text *text, const char *string);
/* The same for a comment: `*` + `/`, newlines, backslashes and control bytes cannot end or continue it. */
void text_c_comment(Text *text, const char *string);
/* The same for XML, between tags or in double quotes: < > & " as entities, control bytes as `?`. */
void text_add_xml(Text *text, const char *string);

/* Writes beside, fsyncs, renames: the file is either whole or untouched, also where the machine stops at any moment. That the
   rename outlives a stop just behind it is not waited for. "-" is stdout. Returns false and fills `why`. */
bool file_write_whole(const char *path, const char *bytes, size_t length, char *why, size_t why_size);
/* Whether both are the same regular file, by whatever names. */
bool file_same(const char *a, const char *b);
/* Reads a whole file (or stdin for "-") into malloc'd memory with a final NUL; NULL and `why` on failure. */
char *file_read_whole(const char *path, size_t *length, char *why, size_t why_size);

#endif
