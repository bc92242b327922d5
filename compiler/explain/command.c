/* The command line of `bpc explain`. */
#include "command.h"

#include "../pipeline.h"
#include "page.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: bpc explain [OPTIONS] FILE.bp\n"
    "\n"
    "prints the network as mathematics: forward, loss, backward, gradients, update\n"
    "\n"
    "  --format=FORMAT         text (default), latex (a whole document), html (MathML, no script)\n"
    "  --values NAME=NUMBERS…  works one example through: every value, derivative, gradient, and the parameters\n"
    "                          before and after one update. x=1,2 y=0,1 is one row; x=1,2;3,4 are two.\n"
    "                          NAME is an input, a target, a column or a parameter (fc1.weight=…).\n"
    "                          Inputs are as the network reads them: scaled, standardized.\n"
    "  --digits N              significant digits of numbers, 1 to 17 (default 6)\n"
    "  --seed N                of the parameters' first values (default 0, the programs' own)\n"
    "  --verify                computes every formula from random numbers and compares it with the graph\n"
    "  -D NAME=VALUE           override a const of the file\n"
    "  -o FILE                 where to write\n"
    "  --help\n";

static int wrong(const char *format, const char *what) {
    fputs("bpc: ", stderr);
    fprintf(stderr, format, what); /* formats are literals of this file */
    fputs("; try bpc explain --help\n", stderr);
    return 2;
}

/* NAME=… : what --values takes; no file is called so without a folder before it */
static bool is_value(const char *word) {
    const char *at = word;
    while (isalnum((unsigned char)*at) || (*at && strchr("_.-", *at)))
        at++;
    return at > word && *at == '=' && word[0] != '-';
}

static bool whole(const char *text, long least, long most, long *number) {
    char *end;
    errno = 0;
    *number = strtol(text, &end, 10);
    return *text && !*end && !errno && *number >= least && *number <= most;
}

static bool format_named(const char *name, PageFormat *format) {
    static const char *const names[] = {"text", "latex", "html"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(names[i], name)) {
            *format = (PageFormat)i;
            return true;
        }
    return false;
}

typedef struct Words {
    int argc;
    char **argv;
    int at;
} Words;

/* --digits=8 or --digits 8: the value, else NULL; *is says whether the word is this option. */
static const char *option(Words *words, const char *name, bool *is) {
    const char *word = words->argv[words->at];
    size_t length = strlen(name);
    *is = !strncmp(word, name, length) && (word[length] == 0 || word[length] == '=');
    if (!*is)
        return NULL;
    if (word[length] == '=')
        return word + length + 1;
    return words->at + 1 < words->argc ? words->argv[++words->at] : NULL;
}

/* 0: go on; 2: wrong; -1: this word is none of the options with a value. */
static int read_option(Words *words, Arena *arena, CompileOptions *options, ExplainRequest *request) {
    bool is;
    long number;
    const char *value = option(words, "--format", &is);
    if (is)
        return value && format_named(value, &request->format)
                   ? 0
                   : wrong("--format is text, latex or html, not '%s'", value ? value : "");
    value = option(words, "--digits", &is);
    if (is) {
        if (!value || !whole(value, 1, 17, &number))
            return wrong("--digits is 1 to 17, not '%s'", value ? value : "");
        request->digits = (int)number;
        return 0;
    }
    value = option(words, "--seed", &is);
    if (is) {
        char *end = NULL;
        request->seed = value ? strtoull(value, &end, 10) : 0;
        return value && *value && !*end && *value != '-'
                   ? 0
                   : wrong("--seed is a whole number, not '%s'", value ? value : "");
    }
    value = option(words, "-o", &is);
    if (is) {
        options->output = value;
        return value ? 0 : wrong("%s needs a file", "-o");
    }
    const char *word = words->argv[words->at];
    if (!strncmp(word, "-D", 2)) {
        const char *define = word[2] ? word + 2 : words->at + 1 < words->argc ? words->argv[++words->at] : NULL;
        if (!define)
            return wrong("%s needs NAME=VALUE", "-D");
        *LIST_ADD(arena, &options->defines) = define;
        return 0;
    }
    return -1;
}

static int read_words(Words *words, Arena *arena, CompileOptions *options, ExplainRequest *request) {
    bool after_values = false;
    for (; words->at < words->argc; words->at++) {
        const char *word = words->argv[words->at];
        if (!strcmp(word, "--values")) {
            request->with_values = after_values = true;
        } else if (!strncmp(word, "--values=", 9) && is_value(word + 9)) {
            request->with_values = after_values = true;
            *LIST_ADD(arena, &request->values) = word + 9;
        } else if (!strcmp(word, "--verify")) {
            request->verify = options->verify = true;
        } else if (after_values && is_value(word)) {
            *LIST_ADD(arena, &request->values) = word;
        } else {
            int code = read_option(words, arena, options, request);
            if (code > 0)
                return code;
            if (code == 0)
                continue;
            if (word[0] == '-' && word[1])
                return wrong("unknown option '%s'", word);
            if (is_value(word))
                return wrong("'%s' stands behind --values", word);
            if (options->input)
                return wrong("one file at a time, not '%s', too", word);
            options->input = word;
        }
    }
    return options->input ? 0 : wrong("%s", "no input file");
}

int explain_command(int argc, char **argv) {
    for (int i = 2; i < argc; i++)
        if (!strcmp(argv[i], "--help")) {
            fputs(help, stdout);
            return 0;
        }
    Arena *arena = arena_new();
    CompileOptions options = {.native = NATIVE_DEFAULT, .emit = EMIT_DERIVATION};
    ExplainRequest request = {.digits = 6};
    Words words = {argc, argv, 2};
    options.derivation = &request;
    int code = read_words(&words, arena, &options, &request);
    if (code == 0)
        code = compile(&options);
    arena_free(arena);
    return code;
}
