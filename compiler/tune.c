/* --tune: the program is built in several ways that give the same bits, each is timed on this machine, and the fastest one
   stays. What made it fastest is told as options, so that it can be had again without searching. */
#include "pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ENOUGH_US = 40000, MOST_STEPS = 100000 };

static const int tiles[] = {8, 12, 16, 24};
static const int64_t spreads[] = {16 << 10, 64 << 10, 256 << 10, 1024 << 10};

/* Microseconds a step, as OUT --bench says; negative where it does not run. */
static double bench(const char *program, long steps) {
    Text command = {0};
    text_add(&command, strchr(program, '/') ? "'" : "'./");
    for (const char *at = program; *at; at++)
        text_add(&command, *at == '\'' ? "'\\''" : (const char[]){*at, 0});
    text_printf(&command, "' --bench %ld", steps);
    FILE *said = popen(command.at, "r");
    text_free(&command);
    char line[1024];
    double us = -1;
    if (!said)
        return us;
    while (fgets(line, sizeof line, said)) {
        const char *found = strstr(line, "\"us_per_step\":");
        us = found ? strtod(found + strlen("\"us_per_step\":"), NULL) : us;
    }
    return pclose(said) == 0 ? us : -1;
}

/* The best of three, long enough to be told from noise. */
static double measure(const char *program) {
    double us = bench(program, 1), best = us;
    for (int i = 0; us > 0 && i < 3; i++) {
        double steps = ENOUGH_US / us;
        double again = bench(program, steps < 1 ? 1 : steps > MOST_STEPS ? MOST_STEPS : (long)steps);
        best = i == 0 || (again > 0 && again < best) ? again : best;
    }
    return best;
}

typedef struct Search {
    CompileOptions options;
    const char *trial; /* where a trial's program is written */
    Tuning best;
    double least;
} Search;

static int attempt(Search *search, Tuning tuning) {
    search->options.lower.tuning = tuning;
    search->options.output = search->trial;
    int code = compile(&search->options);
    if (code)
        return code;
    double us = measure(search->trial);
    if (us <= 0) {
        error_plain("--tune: the program does not run with --bench: there is no training step to time");
        return 1;
    }
    fprintf(stderr, "--tiles=%-2d --spread=%-7lld %12.3f us a step\n", tuning.sums, (long long)tuning.spread, us);
    if (search->least == 0 || us < search->least) {
        search->least = us;
        search->best = tuning;
    }
    return 0;
}

int tune(const CompileOptions *options) {
    Search search = {.options = *options};
    Text trial = {0};
    text_printf(&trial, "%s.trial.%ld", options->output, (long)getpid());
    search.trial = trial.at;
    int code = 0;
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles && !code; i++)
        code = attempt(&search, (Tuning){tiles[i], spreads[1]});
    int sums = search.best.sums;
    for (size_t i = 0; i < sizeof spreads / sizeof *spreads && !code; i++)
        if (spreads[i] != spreads[1])
            code = attempt(&search, (Tuning){sums, spreads[i]});
    (void)remove(trial.at);
    text_free(&trial);
    if (code)
        return code;
    fprintf(stderr, "kept: --tiles=%d --spread=%lld\n", search.best.sums, (long long)search.best.spread);
    search.options.lower.tuning = search.best;
    search.options.output = options->output;
    return compile(&search.options);
}
