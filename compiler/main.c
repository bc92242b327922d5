/* The command line. */
#include "check/describe.h"
#include "emit/memory.h"
#include "explain/command.h"
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: bpc FILE.bp -o PROGRAM          compile to a native program\n"
    "       bpc run FILE.bp [-- OPTIONS]    compile in memory and run, with the program's own options\n"
    "       bpc --emit=WHAT FILE.bp [-o F]  write a stage: ast graph gradient kernel memory c llvm asm dot mermaid\n"
    "       bpc --explain=TOPIC FILE.bp     what the compiler decided, and why\n"
    "       bpc -c FILE.bp -o FILE.o        an object file for a host program, by LLVM or --backend=c\n"
    "       bpc --emit=header FILE.bp       what that object declares, for C and C++\n"
    "       bpc check FILE.bp               diagnostics only\n"
    "       bpc explain FILE.bp             the network as mathematics, derived; a worked example: bpc explain --help\n"
    "       bpc describe FILE.csv           what the table holds, as lines to paste\n"
    "\n"
    "FILE.bp may be - for standard input. --emit=c writes one file that needs nothing else:\n"
    "cc -O3 -march=native -fopenmp FILE.c -lm\n"
    "\n"
    "  -o FILE           where to write\n"
    "  -D NAME=VALUE     override a const of the file\n"
    "  -O0 … -O3, -g     passed to the C compiler (default -O2); CC says which\n"
    "  --march=CPU       kernels are cut for it; passed to the C compiler, or to LLVM (default native)\n"
    "  --backend=llvm    with -o: LLVM makes the code, the C compiler only links\n"
    "  --backend=c       with -c: the C compiler makes the code\n"
    "  --no-cache        run: what LLVM made before, under XDG_CACHE_HOME, is neither read nor written\n"
    "  --threads=WHEN    auto (where worth it), never or always: which kernels use threads\n"
    "  --explain=frozen  which layers are frozen, what of them is computed once, why not the rest\n"
    "  --explain=fusion  which values share a kernel, what rides on what, what is stored\n"
    "  --explain=rewrites  what formulas became, by which rule, and whether to the bit\n"
    "  --tune            with -o: build it in several ways, keep the fastest here, say how it was made:\n"
    "  --tiles=N --spread=BYTES   at most N sums in a tile; weights that every thread reads in full\n"
    "  --max-mem SIZE    K, M or G: more than that is an error, which names what takes it\n"
    "  --dump=STAGE      print a stage to stderr on the way: ast checked graph gradient kernel c\n"
    "  --time            how long each stage took\n"
    "  --verify          check every stage's invariants\n"
    "  --verbose         show the commands that are run\n"
    "  --help, --version\n";

static int wrong(const char *format, const char *what) {
    fputs("bpc: ", stderr);
    fprintf(stderr, format, what); /* formats are literals of this file */
    size_t length = strlen(format);
    fputs(length && format[length - 1] == '?' ? " try bpc --help\n" : "; try bpc --help\n", stderr);
    return 2;
}

static int unknown_topic(const char *topic) {
    fprintf(stderr, "bpc: --explain knows %s, not '%s'; try bpc --help\n", explain_topics(), topic);
    return 2;
}

static bool begins(const char *text, const char *prefix, const char **rest) {
    size_t length = strlen(prefix);
    if (strncmp(text, prefix, length) != 0)
        return false;
    *rest = text + length;
    return true;
}

static bool emit_named(const char *name, Emit *emit) {
    static const struct {
        const char *name;
        Emit emit;
    } known[] = {{"ast", EMIT_AST},      {"graph", EMIT_GRAPH},  {"gradient", EMIT_GRADIENT}, {"kernel", EMIT_KERNEL},
                 {"c", EMIT_C},          {"dot", EMIT_DOT},      {"mermaid", EMIT_MERMAID},   {"llvm", EMIT_LLVM},
                 {"asm", EMIT_ASSEMBLY}, {"header", EMIT_HEADER}, {"memory", EMIT_MEMORY}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            *emit = known[i].emit;
            return true;
        }
    return false;
}

static bool stage_named(const char *name, CompileOptions *options) {
    for (int i = 0; i < STAGE_COUNT; i++)
        if (!strcmp(stage_names[i], name)) {
            options->dump[i] = true;
            return true;
        }
    return false;
}

static bool threads_named(const char *name, LowerOptions *options) {
    if (!strcmp(name, "auto"))
        options->threads = LOWER_THREADS_WHERE_WORTH;
    else if (!strcmp(name, "never"))
        options->threads = LOWER_THREADS_NEVER;
    else if (!strcmp(name, "always"))
        options->threads = LOWER_THREADS_ALWAYS;
    else
        return false;
    return true;
}

static int describe(int argc, char **argv) {
    char why[1024];
    Text text = {0};
    if (argc != 3)
        return wrong("describe needs %s", "one file: bpc describe FILE.csv");
    names_start();
    bool done = describe_file(argv[2], &text, why, sizeof why) &&
                file_write_whole("-", text.at ? text.at : "", text.length, why, sizeof why);
    if (!done)
        error_plain("%s", why);
    text_free(&text);
    names_end();
    return done ? 0 : 1;
}

/* -o OUT and the like: the value in the same word or the next. */
static const char *value_of(const char *rest, int argc, char **argv, int *i) {
    if (*rest)
        return rest;
    return *i + 1 < argc ? argv[++*i] : NULL;
}

/* bpc run: words before `--` are bpc's, those behind it the program's; where there is no `--`, those behind the file. */
static bool is_programs(const CompileOptions *options, int argc, char **argv, int first, int i) {
    for (int j = first; j < argc; j++)
        if (!strcmp(argv[j], "--"))
            return i == j;
    return options->input != NULL;
}

/* The program's first word is its own name, as in every command line. */
static void name_program(Arena *arena, CompileOptions *options) {
    bool dashes = options->run_argc > 0 && !strcmp(options->run_argv[0], "--");
    int count = options->run_argc - dashes;
    char **words = arena_array(arena, char *, count + 2);
    words[0] = arena_copy(arena, options->input, strlen(options->input));
    for (int i = 0; i < count; i++)
        words[1 + i] = options->run_argv[i + dashes];
    options->run_argc = count + 1;
    options->run_argv = words;
}

int main(int argc, char **argv) {
    CompileOptions options = {.native = NATIVE_DEFAULT};
    bool emit_given = false;
    int first = 1;
    Arena *arena = NULL;
    if (argc > 1 && !strcmp(argv[1], "describe"))
        return describe(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "explain"))
        return explain_command(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "run")) {
        options.emit = EMIT_RUN;
        emit_given = true;
        first = 2;
    }
    if (argc > 1 && !strcmp(argv[1], "check")) {
        options.emit = EMIT_NOTHING;
        emit_given = true;
        first = 2;
    }
    arena = arena_new();
    int code = -1;
    for (int i = first; i < argc && code < 0; i++) {
        const char *word = argv[i], *rest, *value;
        if (options.emit == EMIT_RUN && is_programs(&options, argc, argv, first, i)) {
            options.run_argc = argc - i;
            options.run_argv = argv + i;
            break;
        }
        if (!strcmp(word, "--help")) {
            fputs(help, stdout);
            code = 0;
        } else if (!strcmp(word, "--version")) {
            puts("bpc " BPC_VERSION);
            code = 0;
        } else if (begins(word, "--emit=", &rest)) {
            if (!emit_named(rest, &options.emit))
                code = wrong("unknown stage '%s': ast graph gradient kernel memory c llvm asm dot mermaid header", rest);
            emit_given = true;
        } else if (begins(word, "--explain=", &rest)) {
            options.explain = explain_topic(rest);
            options.emit = EMIT_EXPLAIN;
            emit_given = true;
            if (!options.explain)
                code = unknown_topic(rest);
        } else if (begins(word, "--dump=", &rest)) {
            if (!stage_named(rest, &options))
                code = wrong("unknown stage '%s': ast checked graph gradient kernel c", rest);
        } else if (begins(word, "--threads=", &rest)) {
            if (!threads_named(rest, &options.lower))
                code = wrong("--threads is auto, never or always, not '%s'", rest);
        } else if (begins(word, "--march=", &rest)) {
            options.native.march = rest;
        } else if (!strcmp(word, "--tune")) {
            options.tune = true;
        } else if (begins(word, "--tiles=", &rest)) {
            options.lower.tuning.sums = atoi(rest);
            if (options.lower.tuning.sums < 1 || options.lower.tuning.sums > 24)
                code = wrong("--tiles is a number of sums from 1 to 24, not '%s'", rest);
        } else if (begins(word, "--spread=", &rest)) {
            options.lower.tuning.spread = atoll(rest);
            if (options.lower.tuning.spread < 1)
                code = wrong("--spread is a number of bytes, not '%s'", rest);
        } else if (begins(word, "--max-mem", &rest) && (*rest == 0 || *rest == '=')) {
            value = *rest ? rest + 1 : value_of(rest, argc, argv, &i);
            options.most_memory = value ? memory_parse(value) : 0;
            if (!options.most_memory)
                code = wrong("--max-mem needs a size such as 64M, not '%s'", value ? value : "");
        } else if (!strcmp(word, "--time")) {
            options.time = true;
        } else if (!strcmp(word, "--verify")) {
            options.verify = true;
        } else if (!strcmp(word, "--verbose")) {
            options.native.verbose = true;
        } else if (!strcmp(word, "--no-cache")) {
            options.no_cache = true;
        } else if (begins(word, "--backend=", &rest)) {
            if (strcmp(rest, "c") != 0 && strcmp(rest, "llvm") != 0)
                code = wrong("--backend is c or llvm, not '%s'", rest);
            options.by_llvm = !strcmp(rest, "llvm");
            options.by_c = !strcmp(rest, "c");
        } else if (!strcmp(word, "-c")) {
            options.emit = EMIT_OBJECT;
            emit_given = true;
        } else if (!strcmp(word, "-g")) {
            options.native.debug = true;
        } else if (word[0] == '-' && word[1] == 'O' && word[2] >= '0' && word[2] <= '3' && !word[3]) {
            options.native.level = word[2] - '0';
        } else if (begins(word, "-o", &rest)) {
            value = value_of(rest, argc, argv, &i);
            if (!value)
                code = wrong("%s needs a file", "-o");
            options.output = value;
        } else if (begins(word, "-D", &rest)) {
            value = value_of(rest, argc, argv, &i);
            if (!value || !strchr(value, '='))
                code = wrong("%s needs NAME=VALUE", "-D");
            else
                *LIST_ADD(arena, &options.defines) = value;
        } else if (word[0] == '-' && word[1]) {
            code = wrong("unknown option '%s'", word);
        } else if (options.input) {
            code = wrong("one file at a time: '%s' is one too many", word);
        } else {
            options.input = word;
        }
    }
    if (code < 0 && !options.input)
        code = argc == 1 ? (fputs(help, stderr), 2) : wrong("which %s?", "file");
    if (code < 0 && !emit_given && !options.output)
        code = wrong("where to? say %s", "-o PROGRAM, or --emit=c");
    if (code < 0 && options.emit == EMIT_OBJECT && !options.output)
        code = wrong("where to? say %s", "-o FILE.o");
    if (code < 0 && options.emit == EMIT_RUN)
        name_program(arena, &options);
    if (code < 0 && options.tune && (options.emit != EMIT_PROGRAM || !strcmp(options.input, "-")))
        code = wrong("--tune needs %s", "FILE.bp -o PROGRAM");
    if (code < 0)
        code = options.tune ? tune(&options) : compile(&options);
    arena_free(arena);
    return code;
}
