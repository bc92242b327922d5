/* One C file out of parts: what must stand first (features, guards, system headers, each once), the runtime's text or
   its declarations, then kernels and program. */
#include "host.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct Line {
    const char *at;
    size_t length; /* without the newline */
} Line;

typedef LIST(const char *) Lines;

/* ---- Comments ---------------------------------------------------------------------------------------------------- */

/* One code point of UTF-8, or the byte itself as a negative number where there is none. */
static long decode(const unsigned char **at) {
    const unsigned char *start = *at;
    int more = *start < 0x80 ? 0 : *start >> 5 == 6 ? 1 : *start >> 4 == 14 ? 2 : *start >> 3 == 30 ? 3 : -1;
    long point = more == 0 ? *start : more == 1 ? *start & 31 : more == 2 ? *start & 15 : *start & 7;
    for (int i = 1; i <= more; i++) {
        if (start[i] >> 6 != 2)
            more = -1;
        else
            point = point << 6 | (start[i] & 63);
    }
    *at = start + (more < 0 ? 1 : more + 1);
    return more < 0 ? -(long)*start : point;
}

void print_comment(Text *out, const char *string) {
    Text plain = {0};
    for (const unsigned char *at = (const unsigned char *)string; *at;) {
        long point = decode(&at);
        if (point >= 0 && point < 0x80)
            text_add_bytes(&plain, &(char){(char)point}, 1);
        else
            text_printf(&plain, point < 0 ? "<%02lX>" : "<U+%04lX>", point < 0 ? -point : point);
    }
    if (plain.length)
        text_c_comment(out, plain.at);
    text_free(&plain);
}

/* ---- Lines of the runtime ---------------------------------------------------------------------------------------- */

static Line next_line(const char **at) {
    Line line = {*at, strcspn(*at, "\n")};
    *at += line.length + ((*at)[line.length] == '\n');
    return line;
}

static bool starts(Line line, const char *prefix) {
    return line.length >= strlen(prefix) && memcmp(line.at, prefix, strlen(prefix)) == 0;
}

static const char *word_of(Arena *arena, Line line, size_t from) {
    size_t length = 0;
    while (from + length < line.length &&
           (isalnum((unsigned char)line.at[from + length]) || line.at[from + length] == '_'))
        length++;
    return arena_copy(arena, line.at + from, length);
}

static bool ends_with(const char *word, const char *end) {
    return strlen(word) >= strlen(end) && strcmp(word + strlen(word) - strlen(end), end) == 0;
}

/* Where lines go: a line that is not part of the body is hoisted or left out. */
typedef struct Reader {
    Arena *arena;
    Lines *features, *includes;
    Text *body;
    int depth;       /* of #if */
    int guard_depth; /* of the header's own guard or of #ifndef _X_SOURCE; -1 outside */
} Reader;

static void add_once(Arena *arena, Lines *lines, const char *text) {
    int i = 0;
    while (i < lines->count && strcmp(lines->at[i], text) < 0)
        i++;
    if (i < lines->count && strcmp(lines->at[i], text) == 0)
        return;
    *LIST_ADD(arena, lines) = text;
    memmove(lines->at + i + 1, lines->at + i, sizeof *lines->at * (size_t)(lines->count - 1 - i));
    lines->at[i] = text;
}

/* "#define _X_SOURCE 700", without what the line says about it. */
static const char *feature_text(Arena *arena, Line line) {
    const char *whole = arena_copy(arena, line.at, line.length), *comment = strstr(whole, " /*");
    return comment ? arena_copy(arena, whole, (size_t)(comment - whole)) : whole;
}

/* Feature macros and guards: `#ifndef _X_SOURCE` or `#ifndef X_H`, its #define and its #endif. */
static bool is_guard(Reader *reader, Line line) {
    if (starts(line, "#ifndef ")) {
        const char *word = word_of(reader->arena, line, 8);
        if (ends_with(word, "_SOURCE") || ends_with(word, "_H")) {
            reader->guard_depth = reader->depth++;
            return true;
        }
    }
    if (starts(line, "#define ")) {
        const char *word = word_of(reader->arena, line, 8);
        if (word[0] == '_' && ends_with(word, "_SOURCE"))
            add_once(reader->arena, reader->features, feature_text(reader->arena, line));
        return (word[0] == '_' && ends_with(word, "_SOURCE")) || ends_with(word, "_H");
    }
    return false;
}

static bool is_hoisted(Reader *reader, Line line) {
    if (is_guard(reader, line))
        return true;
    if (starts(line, "#include \""))
        return true;
    bool inside = reader->depth > (reader->guard_depth >= 0 ? 1 : 0); /* of #ifdef _OPENMP and the like: stays there */
    if (starts(line, "#include <") && !inside) {
        add_once(reader->arena, reader->includes, arena_copy(reader->arena, line.at, line.length));
        return true;
    }
    if (starts(line, "#if"))
        reader->depth++;
    if (starts(line, "#endif") && --reader->depth == reader->guard_depth) {
        reader->guard_depth = -1;
        return true;
    }
    return false;
}

static void read_file(Reader *reader, const char *text) {
    reader->depth = 0;
    reader->guard_depth = -1;
    bool blank = true; /* one blank line is as good as three */
    while (*text) {
        Line line = next_line(&text);
        if (is_hoisted(reader, line) || (blank && line.length == 0))
            continue;
        blank = line.length == 0;
        text_add_bytes(reader->body, line.at, line.length);
        text_add(reader->body, "\n");
    }
    if (!blank)
        text_add(reader->body, "\n");
}

static bool is_in(const struct embedded_file *file, CKind kind) {
    return kind == C_STANDALONE || strcmp(file->name, "program.h") == 0;
}

/* ---- The file ---------------------------------------------------------------------------------------------------- */

static const char guards_text[] =
    "#if defined(__FAST_MATH__)\n"
    "#error \"fast-math changes the results of this program: build it without -ffast-math and -Ofast\"\n"
    "#endif\n"
    "/* a * b + c is rounded twice unless fma is asked for, whatever the compiler would like */\n"
    "#if defined(__clang__)\n"
    "#pragma STDC FP_CONTRACT OFF\n"
    "#elif defined(__GNUC__)\n"
    "#pragma GCC optimize(\"fp-contract=off\")\n"
    "#endif\n"
    "#if defined(__GNUC__)\n"
    "#pragma GCC diagnostic ignored \"-Wpsabi\" /* no vector leaves this file */\n"
    "#endif\n\n";

static const char lanes_text[] = "/* ---- Lanes: vectors as gcc and clang have them ---- */\n\n"
                                 "#ifndef __has_builtin\n"
                                 "#define __has_builtin(name) 0\n"
                                 "#endif\n"
                                 "#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)\n"
                                 "#define BP_WIDE 64 /* bytes of a vector register */\n"
                                 "#elif defined(__AVX__)\n#define BP_WIDE 32\n#else\n#define BP_WIDE 16\n#endif\n"
                                 "/* what gcc is to keep in a register: it believes that this changes it */\n"
                                 "#if defined(__x86_64__) && !defined(__clang__)\n"
                                 "#define BP_KEEP(a) __asm__(\"\" : \"+v\"(a))\n"
                                 "#else\n#define BP_KEEP(a) (void)0\n#endif\n"
                                 "#define BP_LANES static inline __attribute__((always_inline, unused))\n"
                                 "#define BP_MATH static inline __attribute__((unused))\n"
                                 "#define BP_RARE __attribute__((cold)) /* not worth the C compiler's time */\n"
                                 "#define BP_OTHER_UNIT __attribute__((visibility(\"hidden\")))\n"
                                 "#if defined __clang__\n"
                                 "#define BP_SHARED static __attribute__((noinline, unused))\n"
                                 "#else\n"
                                 "#define BP_SHARED static __attribute__((noinline, noclone, unused))\n"
                                 "#endif\n\n";

/* Features, guards, headers, and the runtime's files. */
static void print_parts(Arena *arena, CKind kind, Text *out) {
    Lines features = {0}, includes = {0};
    Text body = {0};
    Reader reader = {.arena = arena, .features = &features, .includes = &includes, .body = &body};
    for (const struct embedded_file *file = embedded_runtime; file->name; file++)
        if (is_in(file, kind)) {
            text_printf(&body, "/* ======== %s ======== */\n\n", file->name);
            read_file(&reader, file->text);
        }
    for (int i = 0; i < features.count; i++) {
        const char *word = word_of(arena, (Line){features.at[i], strlen(features.at[i])}, 8);
        text_printf(out, "#ifndef %s\n%s\n#endif\n", word, features.at[i]);
    }
    text_add(out, guards_text);
    for (int i = 0; i < includes.count; i++)
        text_printf(out, "%s\n", includes.at[i]);
    text_add(out, "\n");
    text_add_bytes(out, body.at, body.length);
    text_free(&body);
}

static void print_about(const struct bp_program *program, CKind kind, Text *out) {
    text_add(out, "/* ");
    print_comment(out, program->name);
    text_add(out, ": written by bpc ");
    print_comment(out, program->version);
    text_add(out, " from ");
    print_comment(out, program->source);
    text_add(out, ". Edits are lost when it is written again.\n\n");
    if (kind == C_STANDALONE)
        text_add(
            out,
            "   cc -O3 -march=native -fopenmp FILE.c -lm     builds it; nothing else is needed\n\n"
            "   Without -fopenmp it has one thread; with -DBP_HAVE_ZLIB and -lz it also reads .gz files. The "
            "results are the\n"
            "   same bits for any compiler, any number of threads and any -O, on every machine.\n\n"
            "   First comes the runtime, which reads data, trains and saves; then lanes, kernels, functions "
            "and, at the end,\n"
            "   the program as data. With -DBP_NO_MAIN and -c it is a library for the header of --emit=header. */\n");
    else
        text_add(out, "   To be linked with libbpruntime.a. */\n");
}

static int print_all(Module *module, const struct bp_program *program, CKind kind, int most_units, Text *out) {
    Arena *arena = arena_new();
    if (program)
        print_about(program, kind, out);
    print_parts(arena, kind, out);
    text_add(out, lanes_text);
    CNames *names = c_names_new(arena);
    if (program && kind != C_LINKED)
        host_reserve(arena, program, names);
    int units = print_kernels(module, program, most_units, names, out);
    if (program) {
        text_add(out, "/* ---- The program ---- */\n\n");
        print_program(program, kind, names, out);
    }
    if (units > 1)
        text_add(out, "#endif\n");
    arena_free(arena);
    return units;
}

void print_c(Module *module, const struct bp_program *program, CKind kind, Text *out) {
    print_all(module, program, kind, 1, out);
}

int print_c_units(Module *module, const struct bp_program *program, int most, Text *out) {
    return print_all(module, program, C_LINKED, most < C_UNITS_MAX ? most : C_UNITS_MAX, out);
}

void print_runtime(Text *out) {
    Arena *arena = arena_new();
    print_parts(arena, C_STANDALONE, out);
    arena_free(arena);
}
