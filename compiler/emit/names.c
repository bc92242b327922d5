/* Identifiers for C. Names come from a .bp file, so any of them may mean something to C already: a keyword, a macro of
   a system header, a function of libc or of the runtime. Such a name gets a tail; a name is never used for two things.
 */
#include "emit.h"

#include <ctype.h>
#include <string.h>

typedef struct Taken {
    const void *key; /* NULL: a word of the runtime's text */
    const char *name;
    CScope scope;
} Taken;

/* Rows are found by name through `places` and by key through `keys`; both hold indices + 1 into rows. */
typedef struct NameTable {
    LIST(Taken) rows;
    int *places, *keys;
    uint32_t size; /* of both, a power of two; at least half of each is free */
} NameTable;

struct CNames {
    Arena *arena;
    NameTable global, local;
};

/* Keywords, lower-case macros of system headers, names that the printed code itself uses. */
static const char *const reserved_words[] = {
    "alignas",
    "alignof",
    "asm",
    "assert",
    "auto",
    "bool",
    "break",
    "case",
    "char",
    "complex",
    "const",
    "continue",
    "context",
    "count",
    "default",
    "do",
    "double",
    "else",
    "enum",
    "environ",
    "errno",
    "extern",
    "false",
    "float",
    "for",
    "goto",
    "i386",
    "if",
    "inline",
    "int",
    "int16_t",
    "int32_t",
    "int64_t",
    "int8_t",
    "linux",
    "long",
    "main",
    "noreturn",
    "position",
    "register",
    "restrict",
    "return",
    "rows",
    "seed",
    "short",
    "signed",
    "size_t",
    "sizeof",
    "static",
    "stderr",
    "stdin",
    "stdout",
    "step",
    "struct",
    "switch",
    "thread",
    "threads",
    "true",
    "typedef",
    "typeof",
    "uint16_t",
    "uint32_t",
    "uint64_t",
    "uint8_t",
    "union",
    "unix",
    "unsigned",
    "values",
    "void",
    "volatile",
    "while",
    "nullptr",
    "constexpr",
    "st_atime",
    "st_mtime",
    "st_ctime",
    "sa_handler",
    "sa_sigaction",
    "static_assert",
    "thread_local",
    "math_errhandling",
    "aligned_alloc",
    "quick_exit",
    "timespec_get",
};
/* Families of libc, POSIX and OpenMP that have an underscore. What has none is kept off by is_plain. */
static const char *const reserved_starts[] = {"_",        "bp_",    "BP_",    "omp_",  "posix_",
                                              "pthread_", "clock_", "sched_", "timer_"};

static bool is_lane_type(const char *name) {
    return strchr("fiu", name[0]) && (strncmp(name + 1, "32x", 3) == 0 || strncmp(name + 1, "64x", 3) == 0);
}

/* EOF, NULL, NAN, DBL_MAX: a name of three or more without a small letter may be a macro. */
static bool is_macro_like(const char *name) {
    for (const char *at = name; *at; at++)
        if (islower((unsigned char)*at))
            return false;
    return strlen(name) >= 3;
}

static bool is_reserved(const char *name, CScope scope) {
    for (size_t i = 0; i < sizeof reserved_starts / sizeof *reserved_starts; i++)
        if (strncmp(name, reserved_starts[i], strlen(reserved_starts[i])) == 0)
            return true;
    if (is_lane_type(name) || is_macro_like(name))
        return true;
    if (scope == SCOPE_LOCAL)
        return false;
    size_t length = strlen(name); /* libc's names at file scope: sin, read; strtok_r, putc_unlocked */
    return !strchr(name, '_') || (length > 2 && strcmp(name + length - 2, "_r") == 0) || strstr(name, "_unlocked");
}

static uint32_t hash_text(const char *text) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash ^ hash >> 15;
}

static uint32_t hash_key(const void *key) {
    uint64_t bits = (uint64_t)(uintptr_t)key * 0x9E3779B97F4A7C15u;
    return (uint32_t)(bits >> 32);
}

/* The place of a name or key, or the free place where it would go. */
static int *find_name(const NameTable *table, const char *name) {
    for (uint32_t at = hash_text(name);; at++) {
        int *place = &table->places[at & (table->size - 1)];
        if (*place == 0 || strcmp(table->rows.at[*place - 1].name, name) == 0)
            return place;
    }
}

static int *find_key(const NameTable *table, const void *key) {
    for (uint32_t at = hash_key(key);; at++) {
        int *place = &table->keys[at & (table->size - 1)];
        if (*place == 0 || table->rows.at[*place - 1].key == key)
            return place;
    }
}

static void enter_row(NameTable *table, int row) {
    *find_name(table, table->rows.at[row].name) = row + 1;
    if (table->rows.at[row].key)
        *find_key(table, table->rows.at[row].key) = row + 1;
}

static void resize(CNames *names, NameTable *table, uint32_t size) {
    table->size = size;
    table->places = arena_array(names->arena, int, size);
    table->keys = arena_array(names->arena, int, size);
    for (int i = 0; i < table->rows.count; i++)
        enter_row(table, i);
}

static void add_row(CNames *names, NameTable *table, Taken row) {
    *LIST_ADD(names->arena, &table->rows) = row;
    if (2 * (uint32_t)table->rows.count > table->size)
        resize(names, table, 2 * table->size);
    else
        enter_row(table, table->rows.count - 1);
}

static bool is_word(char character) {
    return isalnum((unsigned char)character) || character == '_';
}

/* Every identifier of the runtime's text that has an underscore, so that one file can hold both. */
static void reserve_runtime(CNames *names) {
    for (const struct embedded_file *file = embedded_runtime; file->name; file++) {
        for (const char *at = file->text; (at = strchr(at, '_'));) {
            const char *start = at;
            while (start > file->text && is_word(start[-1]))
                start--;
            while (is_word(*at))
                at++;
            char name[64];
            size_t length = (size_t)(at - start);
            if (length >= sizeof name || isdigit((unsigned char)*start))
                continue;
            memcpy(name, start, length);
            name[length] = '\0';
            if (*find_name(&names->global, name) == 0)
                add_row(names, &names->global, (Taken){NULL, arena_copy(names->arena, name, length), SCOPE_GLOBAL});
        }
    }
}

CNames *c_names_new(Arena *arena) {
    CNames *names = arena_new_of(arena, CNames);
    names->arena = arena;
    resize(names, &names->global, 1024);
    resize(names, &names->local, 256);
    for (size_t i = 0; i < sizeof reserved_words / sizeof *reserved_words; i++) /* locals keep off them too */
        add_row(names, &names->global, (Taken){NULL, reserved_words[i], SCOPE_MATH});
    reserve_runtime(names);
    return names;
}

/* A local may hide a kernel or a word of the runtime, which kernels do not use; not a math function or another local.
 */
static bool is_free(const CNames *names, const char *name, CScope scope) {
    if (is_reserved(name, scope) || *find_name(&names->local, name))
        return false;
    int row = *find_name(&names->global, name);
    return row == 0 || (scope == SCOPE_LOCAL && names->global.rows.at[row - 1].scope == SCOPE_GLOBAL);
}

/* Letters, digits and underscores of the wish, not too many, not starting with a digit. */
static const char *clean(Arena *arena, const char *wish) {
    char name[56];
    size_t length = 0;
    for (; *wish && length < sizeof name - 1; wish++)
        if (isalnum((unsigned char)*wish) || *wish == '_')
            name[length++] = *wish;
        else if (length && name[length - 1] != '_')
            name[length++] = '_';
    name[length] = '\0';
    bool bad_start = length == 0 || isdigit((unsigned char)name[0]);
    return arena_printf(arena, "%s%s", bad_start ? "x" : "", name);
}

/* A tail, or a head where it is the start that is reserved, and a number where that is taken as well. */
static const char *another(const CNames *names, const char *name, CScope scope) {
    const char *tailed = arena_printf(names->arena, "%s_", name);
    for (int i = 2; !is_free(names, tailed, scope); i++)
        tailed = arena_printf(names->arena, "x%s_%d", name, i);
    return tailed;
}

const char *c_name(CNames *names, const void *key, const char *wish, CScope scope) {
    int row = *find_key(&names->global, key);
    if (row)
        return names->global.rows.at[row - 1].name;
    row = *find_key(&names->local, key);
    if (row)
        return names->local.rows.at[row - 1].name;
    const char *name = clean(names->arena, wish);
    if (!is_free(names, name, scope))
        name = another(names, name, scope);
    add_row(names, scope == SCOPE_LOCAL ? &names->local : &names->global, (Taken){key, name, scope});
    return name;
}

void c_names_end_locals(CNames *names) {
    NameTable *local = &names->local;
    local->rows.count = 0;
    memset(local->places, 0, sizeof *local->places * local->size);
    memset(local->keys, 0, sizeof *local->keys * local->size);
}
