/* The command line of a compiled program. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum options_id {
    OPTIONS_DATA,
    OPTIONS_EPOCHS,
    OPTIONS_STEPS,
    OPTIONS_SEED,
    OPTIONS_THREADS,
    OPTIONS_CACHE,
    OPTIONS_LOG,
    OPTIONS_LOG_STEPS,
    OPTIONS_RESUME,
    OPTIONS_SET,
    OPTIONS_PHASE,
    OPTIONS_QUIET,
    OPTIONS_CHECK,
    OPTIONS_BENCH,
    OPTIONS_WEIGHTS,
    OPTIONS_OUTPUT,
    OPTIONS_MODEL,
    OPTIONS_HELP,
    OPTIONS_VERSION,
    OPTIONS_COUNT
};

enum { OPTIONS_RUN = 1, OPTIONS_PREDICT = 2, OPTIONS_BOTH = 3 };

static const struct options_row {
    const char *name, *value, *help;
    int commands;
} options_table[OPTIONS_COUNT] = {
    [OPTIONS_DATA] = {"--data", "NAME=PATH", "read the data set NAME from PATH", OPTIONS_RUN},
    [OPTIONS_EPOCHS] = {"--epochs", "[PHASE=]N", "train for N epochs", OPTIONS_RUN},
    [OPTIONS_STEPS] = {"--steps", "[PHASE=]N", "train for N steps", OPTIONS_RUN},
    [OPTIONS_SEED] = {"--seed", "N", "the seed of weights, order and draws; never of a split (0)", OPTIONS_RUN},
    [OPTIONS_THREADS] = {"--threads", "N", "use N threads; results do not depend on it", OPTIONS_BOTH},
    [OPTIONS_CACHE] = {"--cache", "BYTES", "what frozen layers give is kept in 0, 64M, 2G (a quarter of the memory)",
                       OPTIONS_RUN},
    [OPTIONS_LOG] = {"--log", "FILE.jsonl", "write what happens to FILE, one JSON object a line", OPTIONS_RUN},
    [OPTIONS_LOG_STEPS] = {"--log-steps", NULL, "write the loss of each step to the log, too", OPTIONS_RUN},
    [OPTIONS_RESUME] = {"--resume", "FILE", "go on from a checkpoint", OPTIONS_RUN},
    [OPTIONS_SET] = {"--set", "NAME=VALUE", "give the param NAME another value", OPTIONS_RUN},
    [OPTIONS_PHASE] = {"--phase", "NAME", "train this phase alone", OPTIONS_RUN},
    [OPTIONS_QUIET] = {"--quiet", NULL, "print nothing but errors", OPTIONS_RUN},
    [OPTIONS_CHECK] = {"--check-grad", NULL, "compare the gradients with finite differences", OPTIONS_RUN},
    [OPTIONS_BENCH] = {"--bench", "N", "time N training steps (predict: N rows), print one JSON object", OPTIONS_BOTH},
    [OPTIONS_WEIGHTS] = {"--weights", "FILE", "the weights that predict uses, as `save` wrote them", OPTIONS_PREDICT},
    [OPTIONS_OUTPUT] = {"-o", "OUT.csv", "write the predictions to OUT.csv (standard output)", OPTIONS_PREDICT},
    [OPTIONS_MODEL] = {"--model", "NAME", "the model that predicts", OPTIONS_PREDICT},
    [OPTIONS_HELP] = {"--help", NULL, "print this", OPTIONS_BOTH},
    [OPTIONS_VERSION] = {"--version", NULL, "print the version of the compiler", OPTIONS_BOTH},
};

/* ---- Near misses ------------------------------------------------------------------------------------------------- */
/* Levenshtein's distance, for words up to 63 bytes. */
static size_t options_distance(const char *a, const char *b) {
    size_t row[64], m = strlen(a), n = strlen(b);
    if (m > 63 || n > 63)
        return 64;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[n];
}

const char *bp_nearest(const char *word, const char *const *candidates, int32_t count) {
    const char *nearest = NULL;
    size_t least = strlen(word) / 3 + 2;
    for (int32_t i = 0; i < count; i++) {
        size_t distance = options_distance(word, candidates[i]);
        if (distance < least) {
            least = distance;
            nearest = candidates[i];
        }
    }
    return nearest;
}

static int options_unknown(const char *what, const char *word, const char *const *names, int32_t count,
                           struct bp_error *error) {
    const char *nearest = bp_nearest(word, names, count);
    if (nearest)
        return bp_fail(error, "unknown %s '%.100s', did you mean '%s'?", what, word, nearest);
    if (count == 1)
        return bp_fail(error, "unknown %s '%.100s', there is only '%s'", what, word, names[0]);
    return bp_fail(error, "unknown %s '%.100s'", what, word);
}

/* ---- Values ------------------------------------------------------------------------------------------------------ */
/* Digits alone, at most `most`. */
static int options_whole(const char *text, size_t length, uint64_t least, uint64_t most, uint64_t *value) {
    *value = 0;
    if (length == 0)
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (*value > (UINT64_MAX - digit) / 10)
            return 0;
        *value = *value * 10 + digit;
    }
    return *value >= least && *value <= most;
}

static int options_count(const char *name, const char *text, uint64_t least, uint64_t most, uint64_t *value,
                         struct bp_error *error) {
    if (options_whole(text, strlen(text), least, most, value))
        return 1;
    return bp_fail(error, "%s needs a whole number from %llu to %llu, not '%.100s'", name, (unsigned long long)least,
                   (unsigned long long)most, text);
}

/* 0, 4096, 64K, 64M, 2G: powers of 1024. */
static int options_bytes(const char *name, const char *text, int64_t *bytes, struct bp_error *error) {
    static const char letters[] = "KMGT";
    size_t length = strlen(text);
    const char *unit = length > 0 ? strchr(letters, text[length - 1]) : NULL;
    int shift = unit ? 10 * (int)(unit - letters + 1) : 0;
    uint64_t number;
    if (!options_whole(text, length - (unit != NULL), 0, (uint64_t)INT64_MAX >> shift, &number))
        return bp_fail(error, "%s needs a number of bytes, such as 0, 64M or 2G, not '%.100s'", name, text);
    *bytes = (int64_t)(number << shift);
    return 1;
}

int64_t bp_cache_bytes(const struct bp_options *options) {
    if (options->cache >= 0)
        return options->cache;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (int64_t)pages / 4 * page : (int64_t)1 << 30;
}

/* Which of `count` names the text before '=' is; -1 with an error. */
static int32_t options_named(const char *text, const char *what, const char *const *names, int32_t count,
                             struct bp_error *error) {
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : strlen(text);
    for (int32_t i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0)
            return i;
    char word[128];
    snprintf(word, sizeof word, "%.*s", (int)(length < 127 ? length : 127), text);
    options_unknown(what, word, names, count, error);
    return -1;
}

static const char **options_names(const void *items, size_t size, int32_t count, struct bp_error *error) {
    const char **names = bp_allocate(((size_t)count + 1) * sizeof *names, "options", error);
    for (int32_t i = 0; names && i < count; i++)
        memcpy(&names[i], (const char *)items + size * (size_t)i,
               sizeof *names); /* `name` is each struct's first member */
    return names;
}

static int options_data(struct bp_options *options, const struct bp_program *program, const char *value,
                        struct bp_error *error) {
    const char *equals = strchr(value, '=');
    if (!equals || equals == value || !equals[1])
        return bp_fail(error, "--data needs NAME=PATH, not '%.100s'", value);
    const char **names = options_names(program->data, sizeof *program->data, program->data_count, error);
    int32_t index = names ? options_named(value, "data set", names, program->data_count, error) : -1;
    free(names);
    if (index >= 0)
        options->data_paths[index] = equals + 1;
    return index >= 0;
}

static int options_set(struct bp_options *options, const struct bp_program *program, const char *value,
                       struct bp_error *error) {
    const char *equals = strchr(value, '=');
    if (!equals || equals == value || !equals[1])
        return bp_fail(error, "--set needs NAME=VALUE, not '%.100s'", value);
    const char **names = options_names(program->params, sizeof *program->params, program->param_count, error);
    int32_t index = names ? options_named(value, "param", names, program->param_count, error) : -1;
    free(names);
    if (index < 0)
        return 0;
    if (!bp_parse_number(equals + 1, strlen(equals + 1), &options->params[index]))
        return bp_fail(error, "--set %s needs a number, not '%.100s'", program->params[index].name, equals + 1);
    options->param_given[index] = 1;
    return 1;
}

/* How long phases are: in epochs, or in steps. */
static int options_length(struct bp_options *options, const struct bp_program *program, enum options_id id,
                          const char *value, struct bp_error *error) {
    const char *equals = strchr(value, '='), *number = equals ? equals + 1 : value;
    uint64_t length;
    int32_t index = -1;
    if (equals) {
        const char **names = options_names(program->trains, sizeof *program->trains, program->train_count, error);
        index = names ? options_named(value, "phase", names, program->train_count, error) : -1;
        free(names);
        if (index < 0)
            return 0;
    }
    if (!options_count(options_table[id].name, number, 1, 1000000000, &length, error))
        return 0;
    for (int32_t i = 0; i < program->train_count; i++)
        if (index < 0 ? !options->length_given[i] : strcmp(program->trains[i].name, program->trains[index].name) == 0) {
            options->epochs[i] = id == OPTIONS_EPOCHS ? (int64_t)length : 0;
            options->steps[i] = id == OPTIONS_STEPS ? (int64_t)length : 0;
            options->length_given[i] =
                (uint8_t)(index >= 0); /* `--epochs head=5` wins over `--epochs 9`, in any order */
        }
    return 1;
}

static int options_one(struct bp_options *options, const struct bp_program *program, enum options_id id,
                       const char *value, struct bp_error *error) {
    uint64_t number = 0;
    switch (id) {
    case OPTIONS_DATA:
        return options_data(options, program, value, error);
    case OPTIONS_EPOCHS:
    case OPTIONS_STEPS:
        return options_length(options, program, id, value, error);
    case OPTIONS_SET:
        return options_set(options, program, value, error);
    case OPTIONS_SEED:
        options->seed_given = 1;
        return options_count("--seed", value, 0, UINT64_MAX, &options->seed, error);
    case OPTIONS_THREADS:
        options->threads_given = 1;
        if (!options_count("--threads", value, 1, BP_MAX_THREADS, &number, error))
            return 0;
        options->threads = (int32_t)number;
        return 1;
    case OPTIONS_CACHE:
        return options_bytes("--cache", value, &options->cache, error);
    case OPTIONS_BENCH:
        if (!options_count("--bench", value, 1, INT32_MAX, &number, error))
            return 0;
        options->bench = (int64_t)number;
        return 1;
    case OPTIONS_PHASE: {
        const char **names = options_names(program->trains, sizeof *program->trains, program->train_count, error);
        int found = names && options_named(value, "phase", names, program->train_count, error) >= 0;
        free(names);
        options->phase = value;
        return strchr(value, '=') ? bp_fail(error, "--phase needs a name, not '%.100s'", value) : found;
    }
    case OPTIONS_MODEL: {
        const char **names = options_names(program->models, sizeof *program->models, program->model_count, error);
        int found = names && options_named(value, "model", names, program->model_count, error) >= 0;
        free(names);
        options->model = value;
        return strchr(value, '=') ? bp_fail(error, "--model needs a name, not '%.100s'", value) : found;
    }
    case OPTIONS_LOG:
        options->log = value;
        return 1;
    case OPTIONS_RESUME:
        options->resume = value;
        return 1;
    case OPTIONS_WEIGHTS:
        options->weights = value;
        return 1;
    case OPTIONS_OUTPUT:
        options->output = value;
        return 1;
    case OPTIONS_LOG_STEPS:
        options->log_steps = 1;
        return 1;
    case OPTIONS_QUIET:
        options->quiet = 1;
        return 1;
    case OPTIONS_CHECK:
        options->check_grad = 1;
        return 1;
    case OPTIONS_HELP:
        options->help = 1;
        return 1;
    case OPTIONS_VERSION:
        options->version = 1;
        return 1;
    default:
        return bp_fail(error, "an option without a meaning");
    }
}

/* ---- The command line -------------------------------------------------------------------------------------------- */
/* `--name`, `--name VALUE`, `--name=VALUE`; *at moves over what was used. */
static int options_argument(struct bp_options *options, const struct bp_program *program, int argc, char **argv,
                            int *at, struct bp_error *error) {
    const char *argument = argv[(*at)++], *equals = strncmp(argument, "--", 2) == 0 ? strchr(argument, '=') : NULL;
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    int command = options->command == BP_COMMAND_PREDICT ? OPTIONS_PREDICT : OPTIONS_RUN;
    if (strcmp(argument, "-h") == 0)
        argument = "--help", length = 6;
    for (int id = 0; id < OPTIONS_COUNT; id++) {
        const struct options_row *row = &options_table[id];
        if (strlen(row->name) != length || memcmp(row->name, argument, length) != 0)
            continue;
        if (!(row->commands & command))
            return bp_fail(error, "%s is %s", row->name,
                           command == OPTIONS_RUN ? "an option of predict" : "not an option of predict");
        if (!row->value)
            return equals ? bp_fail(error, "%s takes no value", row->name)
                          : options_one(options, program, (enum options_id)id, NULL, error);
        if (!equals && *at >= argc)
            return bp_fail(error, "%s needs %s", row->name, row->value);
        const char *value = equals ? equals + 1 : argv[(*at)++];
        if (!*value)
            return bp_fail(error, "%s needs %s", row->name, row->value);
        return options_one(options, program, (enum options_id)id, value, error);
    }
    const char *names[OPTIONS_COUNT];
    int32_t count = 0;
    char word[128];
    for (int id = 0; id < OPTIONS_COUNT; id++)
        if (options_table[id].commands & command)
            names[count++] = options_table[id].name;
    snprintf(word, sizeof word, "%.*s", (int)(length < 127 ? length : 127), argument);
    return options_unknown("option", word, names, count, error);
}

static int options_consistent(const struct bp_options *options, struct bp_error *error) {
    if (options->help || options->version)
        return 1;
    if (options->resume && options->phase)
        return bp_fail(error, "--resume and --phase exclude each other: a checkpoint says where to go on");
    if (options->bench && options->check_grad)
        return bp_fail(error, "--bench and --check-grad exclude each other");
    if ((options->bench || options->check_grad) && options->resume)
        return bp_fail(error, "--resume goes with neither --bench nor --check-grad");
    if (options->bench && options->log)
        return bp_fail(error, "--bench writes no log: it prints one JSON object");
    if (options->command == BP_COMMAND_PREDICT && options->bench &&
        (options->input || options->output || options->weights))
        return bp_fail(error, "predict --bench takes no file");
    if (options->command == BP_COMMAND_PREDICT && !options->bench && !options->weights)
        return bp_fail(error, "predict needs --weights FILE");
    if (options->command == BP_COMMAND_PREDICT && !options->bench && !options->input)
        return bp_fail(error, "predict needs the file of the rows");
    return 1;
}

static int options_allocate(struct bp_options *options, const struct bp_program *program, struct bp_error *error) {
    size_t data = (size_t)program->data_count, params = (size_t)program->param_count,
           trains = (size_t)program->train_count;
    options->data_paths = bp_allocate((data + 1) * sizeof *options->data_paths, "options", error);
    options->params = bp_allocate((params + 1) * sizeof *options->params, "options", error);
    options->param_given = bp_allocate(params + 1, "options", error);
    options->epochs = bp_allocate((trains + 1) * sizeof *options->epochs, "options", error);
    options->steps = bp_allocate((trains + 1) * sizeof *options->steps, "options", error);
    options->length_given = bp_allocate(trains + 1, "options", error);
    if (!options->data_paths || !options->params || !options->param_given || !options->epochs || !options->steps ||
        !options->length_given)
        return 0;
    for (size_t i = 0; i < params; i++)
        options->params[i] = program->params[i].value;
    for (size_t i = 0; i < trains; i++) {
        options->epochs[i] = program->trains[i].epochs;
        options->steps[i] = program->trains[i].steps;
    }
    return 1;
}

int bp_options_read(struct bp_options *options, const struct bp_program *program, int argc, char **argv,
                    struct bp_error *error) {
    int at = 1, only_files = 0;
    memset(options, 0, sizeof *options);
    options->cache = -1;
    if (!options_allocate(options, program, error))
        return 0;
    if (at < argc && strcmp(argv[at], "predict") == 0) {
        options->command = BP_COMMAND_PREDICT;
        at++;
    }
    while (at < argc) {
        const char *argument = argv[at];
        if (!only_files && strcmp(argument, "--") == 0) {
            only_files = 1;
            at++;
        } else if (!only_files && argument[0] == '-' && argument[1]) {
            if (!options_argument(options, program, argc, argv, &at, error))
                return 0;
        } else if (options->command == BP_COMMAND_PREDICT && !options->input) {
            options->input = argv[at++];
        } else if (options->command == BP_COMMAND_PREDICT) {
            return bp_fail(error, "predict takes one file of rows; '%.200s' is another", argument);
        } else {
            const char *commands[] = {"predict"};
            return options_unknown("command", argument, commands, 1, error);
        }
    }
    if (!options->threads)
        options->threads = bp_default_threads();
#ifndef _OPENMP
    options->threads = 1; /* whatever was asked: there are no others, and the bits are the same */
#endif
    return options_consistent(options, error);
}

void bp_options_free(struct bp_options *options) {
    free(options->data_paths);
    free(options->params);
    free(options->param_given);
    free(options->epochs);
    free(options->steps);
    free(options->length_given);
    memset(options, 0, sizeof *options);
}

static void options_help_rows(int commands, FILE *out) {
    for (int id = 0; id < OPTIONS_COUNT; id++) {
        const struct options_row *row = &options_table[id];
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");
        if (row->commands == commands)
            fprintf(out, "  %-20s %s\n", left, row->help);
    }
}

void bp_options_help(const struct bp_program *program, FILE *out) {
    fprintf(out, "%s: runs what %s describes\n\nusage: %s [OPTIONS]\n", program->name, program->source, program->name);
    fprintf(out, "       %s predict --weights FILE IN.csv [-o OUT.csv] [OPTIONS]\n\n", program->name);
    options_help_rows(OPTIONS_RUN, out);
    fprintf(out, "\npredict\n");
    options_help_rows(OPTIONS_PREDICT, out);
    fprintf(out, "\nboth\n");
    options_help_rows(OPTIONS_BOTH, out);
    for (int32_t i = 0; i < program->data_count; i++) {
        const struct bp_data *data = &program->data[i];
        fprintf(out, "%s%s (%s)", i ? ", " : "\ndata sets: ", data->name,
                data->file_count > 0 ? data->files[0].name : "rows of the program");
    }
    for (int32_t i = 0; i < program->train_count; i++) {
        const struct bp_train *train = &program->trains[i];
        fprintf(out, "%s%s (%lld %s)", i ? ", " : "\nphases: ", train->name,
                (long long)(train->steps ? train->steps : train->epochs), train->steps ? "steps" : "epochs");
    }
    for (int32_t i = 0; i < program->param_count; i++) {
        struct bp_text value = {0};
        bp_text_number(&value, program->params[i].value);
        fprintf(out, "%s%s = %s", i ? ", " : "\nparams: ", program->params[i].name, value.failed ? "?" : value.at);
        bp_text_free(&value);
    }
    fprintf(out, "\n");
}
