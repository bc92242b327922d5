/* An executable out of a C_LINKED text: the system's compiler is run without a shell, in a directory of its own. What
   bpc was built with comes from the build: BPC_RUNTIME_FAMILY ("gcc" or "clang", of libbpruntime.a),
   BPC_RUNTIME_LIBRARIES ("-lz") and BPC_RUNTIME_FLAGS (of a sanitized build), separated by spaces. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pipe2 */
#endif
#include "emit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef BPC_RUNTIME_FAMILY
#define BPC_RUNTIME_FAMILY "gcc"
#endif
#ifndef BPC_RUNTIME_LIBRARIES
#define BPC_RUNTIME_LIBRARIES ""
#endif
#ifndef BPC_RUNTIME_FLAGS
#define BPC_RUNTIME_FLAGS ""
#endif

extern char **environ;

typedef LIST(char *) Command; /* ends with NULL when it is run */

/* ---- Temporary files, removed also when a signal ends bpc -------------------------------------------------------- */

enum { DOOMED_MAX = 4 + C_UNITS_MAX };

static char doomed[DOOMED_MAX][PATH_MAX]; /* files, the last one removed first; a directory is the first */
static volatile sig_atomic_t doomed_count;
static const int fatal_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { FATAL_SIGNALS = sizeof fatal_signals / sizeof *fatal_signals };
static struct sigaction signals_before[FATAL_SIGNALS];

static void remove_doomed(void) {
    while (doomed_count > 0) {
        const char *path = doomed[--doomed_count];
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
}

static void on_fatal_signal(int number) {
    remove_doomed();
    signal(number, SIG_DFL);
    raise(number);
}

static bool doom(const char *path) {
    if (doomed_count == DOOMED_MAX || strlen(path) >= PATH_MAX)
        return false;
    strcpy(doomed[doomed_count], path);
    doomed_count++;
    return true;
}

static void start_watching(void) {
    struct sigaction action = {.sa_handler = on_fatal_signal};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < FATAL_SIGNALS; i++) {
        sigaction(fatal_signals[i], NULL, &signals_before[i]);
        if (signals_before[i].sa_handler != SIG_IGN)
            sigaction(fatal_signals[i], &action, NULL);
    }
}

static void stop_watching(void) {
    remove_doomed();
    for (int i = 0; i < FATAL_SIGNALS; i++)
        sigaction(fatal_signals[i], &signals_before[i], NULL);
}

/* ---- Commands ---------------------------------------------------------------------------------------------------- */

static void push(Arena *arena, Command *command, const char *word) {
    *LIST_ADD(arena, command) = arena_copy(arena, word, strlen(word));
}

/* Words between spaces, as $CC ("ccache gcc") and the flags of the build have them. */
static void push_words(Arena *arena, Command *command, const char *words) {
    while (*(words += strspn(words, " \t\n"))) {
        size_t length = strcspn(words, " \t\n");
        push(arena, command, arena_copy(arena, words, length));
        words += length;
    }
}

static char **finish(Arena *arena, Command *command) {
    *LIST_ADD(arena, command) = NULL;
    command->count--;
    return command->at;
}

static void show_command(const Command *command) {
    for (int i = 0; i < command->count; i++)
        fprintf(stderr, "%s%s", i ? " " : "", command->at[i]);
    fprintf(stderr, "\n");
}

/* Starts it with what it says at `says`, or among our own diagnostics where that is negative. -1: it could not be run. */
static pid_t start(Arena *arena, Command *command, int says) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, says < 0 ? STDERR_FILENO : says, STDOUT_FILENO);
    if (says >= 0)
        posix_spawn_file_actions_adddup2(&actions, says, STDERR_FILENO);
    pid_t child;
    int failure = posix_spawnp(&child, command->at[0], &actions, NULL, finish(arena, command), environ);
    posix_spawn_file_actions_destroy(&actions);
    return failure == 0 ? child : -1;
}

/* The exit status, or -1 where it was not started or was ended by a signal. */
static int end(pid_t child) {
    int status;
    if (child < 0)
        return -1;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run(Arena *arena, Command *command) {
    return end(start(arena, command, -1));
}

/* The same, with what it said. */
static int ask(Arena *arena, Command *command, Text *answer) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = start(arena, command, ends[1]);
    close(ends[1]);
    char piece[4096];
    ssize_t length;
    while ((length = read(ends[0], piece, sizeof piece)) > 0 || (length < 0 && errno == EINTR))
        if (length > 0)
            text_add_bytes(answer, piece, (size_t)length);
    close(ends[0]);
    return end(child);
}

/* ---- The compiler ------------------------------------------------------------------------------------------------ */

typedef struct Compiler {
    Command words; /* "gcc", or what $CC holds */
    bool clang;
} Compiler;

static bool try_compiler(Arena *arena, const char *words, Compiler *compiler) {
    *compiler = (Compiler){0};
    push_words(arena, &compiler->words, words);
    if (compiler->words.count == 0)
        return false;
    Command version = {0};
    for (int i = 0; i < compiler->words.count; i++)
        push(arena, &version, compiler->words.at[i]);
    push(arena, &version, "--version");
    Text answer = {0};
    bool works = ask(arena, &version, &answer) == 0;
    compiler->clang = works && answer.at && strstr(answer.at, "clang");
    text_free(&answer);
    return works;
}

static bool find_compiler(Arena *arena, Compiler *compiler) {
    const char *wanted = getenv("CC");
    if (wanted && wanted[strspn(wanted, " \t")]) {
        if (try_compiler(arena, wanted, compiler))
            return true;
        error_plain("the C compiler that CC names does not run: %s", wanted);
        return false;
    }
    static const char *const usual[] = {"cc", "gcc", "clang"};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
        if (try_compiler(arena, usual[i], compiler))
            return true;
    error_plain("no C compiler found: install gcc or set CC");
    return false;
}

/* libbpruntime.a beside bpc, or in ../lib/bpc where bpc is installed; NULL where there is none that fits the compiler:
   gcc's OpenMP is not clang's. */
static const char *find_archive(Arena *arena, const Compiler *compiler) {
    if (compiler->clang != (strcmp(BPC_RUNTIME_FAMILY, "clang") == 0))
        return NULL;
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return NULL;
    self[length] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return NULL;
    *slash = '\0';
    static const char *const places[] = {"libbpruntime.a", "../lib/bpc/libbpruntime.a"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *path = arena_printf(arena, "%s/%s", self, places[i]);
        if (access(path, R_OK) == 0)
            return path;
    }
    return NULL;
}

/* ---- The build --------------------------------------------------------------------------------------------------- */

typedef struct Build {
    Arena *arena;
    const NativeOptions *options;
    Compiler compiler;
    const char *output, *directory, *source, *runtime, *beside;
    const char *archive; /* NULL: the runtime is compiled with the program */
    const char *objects[C_UNITS_MAX];
    int units;
} Build;

static bool write_text(const char *path, const Text *text) {
    char why[512];
    if (file_write_whole(path, text->at, text->length, why, sizeof why))
        return true;
    error_plain("%s", why);
    return false;
}

static bool check_output(const char *output) {
    struct stat there;
    if (strcmp(output, "-") == 0) {
        error_plain("an executable cannot be written to the standard output: give -o a name");
        return false;
    }
    if (stat(output, &there) == 0 && !S_ISREG(there.st_mode)) {
        error_plain("cannot write %s: it is %s", output, S_ISDIR(there.st_mode) ? "a directory" : "not a regular file");
        return false;
    }
    return true;
}

/* The directory for the C, and an empty file beside the output that will become it. */
static bool make_places(Build *build) {
    Arena *arena = build->arena;
    const char *temporary = getenv("TMPDIR");
    char *directory = arena_printf(arena, "%s/bpc.XXXXXX", temporary && *temporary ? temporary : "/tmp");
    if (!mkdtemp(directory)) {
        error_plain("cannot make a directory for temporary files: %s: %s", directory, strerror(errno));
        return false;
    }
    build->directory = directory;
    build->source = arena_printf(arena, "%s/program.%c", directory, build->options->is_object ? 'o' : 'c');
    build->runtime = arena_printf(arena, "%s/runtime.c", directory);
    const char *start = strchr(build->output, '/') ? "" : "./"; /* a name like -x must not look like an option */
    char *beside = arena_printf(arena, "%s%s.XXXXXX", start, build->output);
    bool fits = doom(directory) && doom(build->source) && doom(build->runtime);
    for (int unit = 0; unit < build->units; unit++) {
        build->objects[unit] = arena_printf(arena, "%s/unit%d.o", directory, unit);
        fits = fits && doom(build->objects[unit]);
    }
    if (!fits) {
        rmdir(directory);
        error_plain("the name of the directory for temporary files is too long: %s", directory);
        return false;
    }
    int file = mkstemp(beside);
    if (file < 0) {
        error_plain("cannot write %s: %s", build->output, strerror(errno));
        return false;
    }
    close(file);
    build->beside = beside;
    return doom(beside);
}

/* The compiler with what every one of its runs is told. */
static Command compiler_command(const Build *build) {
    Arena *arena = build->arena;
    const NativeOptions *options = build->options;
    Command command = {0};
    for (int i = 0; i < build->compiler.words.count; i++)
        push(arena, &command, build->compiler.words.at[i]);
    push(arena, &command, arena_printf(arena, "-O%d", options->level));
    push(arena, &command, arena_printf(arena, "-march=%s", options->march ? options->march : "native"));
    push_words(arena, &command, "-ffp-contract=off -fno-math-errno -fopenmp");
    if (options->debug)
        push(arena, &command, "-g");
    if (build->archive)
        push_words(arena, &command, BPC_RUNTIME_FLAGS);
    return command;
}

static void copy_to_diagnostics(FILE *from) {
    char piece[4096];
    size_t length;
    rewind(from);
    while ((length = fread(piece, 1, sizeof piece, from)) > 0)
        fwrite(piece, 1, length, stderr);
}

/* The units side by side; what became of them is in build->objects. What is wrong in one is often wrong in all: the compiler's
   words about a unit are shown up to the first that failed. */
static int compile_units(Build *build) {
    Arena *arena = build->arena;
    pid_t children[C_UNITS_MAX];
    FILE *said[C_UNITS_MAX];
    int status = 0;
    for (int unit = 0; unit < build->units; unit++) {
        Command command = compiler_command(build);
        push(arena, &command, "-c");
        push(arena, &command, arena_printf(arena, "-DBP_UNIT=%d", unit));
        push(arena, &command, build->source);
        push(arena, &command, "-o");
        push(arena, &command, build->objects[unit]);
        if (build->options->verbose)
            show_command(&command);
        said[unit] = unit ? tmpfile() : NULL;
        children[unit] = start(arena, &command, said[unit] ? fileno(said[unit]) : -1);
    }
    for (int unit = 0; unit < build->units; unit++) {
        int code = end(children[unit]);
        if (said[unit] && !status)
            copy_to_diagnostics(said[unit]);
        if (said[unit])
            fclose(said[unit]);
        status = status ? status : code;
    }
    return status;
}

static int compile(Build *build) {
    Arena *arena = build->arena;
    const NativeOptions *options = build->options;
    int status = build->units > 1 ? compile_units(build) : 0;
    if (status)
        return status;
    Command command = compiler_command(build);
    if (options->to_object)
        push(arena, &command, "-c");
    for (int unit = 0; unit < build->units; unit++)
        push(arena, &command, build->units > 1 ? build->objects[unit] : build->source);
    if (!options->to_object)
        push(arena, &command, build->archive ? build->archive : build->runtime);
    push(arena, &command, "-o");
    push(arena, &command, build->beside);
    if (build->archive && !options->to_object)
        push_words(arena, &command, BPC_RUNTIME_LIBRARIES);
    if (!options->to_object)
        push(arena, &command, "-lm");
    if (options->verbose)
        show_command(&command);
    return run(arena, &command);
}

/* As a compiler would have made it: executable by whom the umask allows. */
static bool put_in_place(Build *build) {
    mode_t mask = umask(0), most = build->options->to_object ? 0666 : 0777;
    umask(mask);
    char *target = realpath(build->output, NULL); /* what a link points at is replaced, not the link */
    bool placed =
        chmod(build->beside, most & ~mask) == 0 && rename(build->beside, target ? target : build->output) == 0;
    if (!placed)
        error_plain("cannot write %s: %s", build->output, strerror(errno));
    free(target);
    return placed;
}

static bool build_all(Build *build, const Text *linked) {
    if (!find_compiler(build->arena, &build->compiler) || !make_places(build))
        return false;
    build->archive = find_archive(build->arena, &build->compiler);
    if ((build->options->keep || build->options->debug) && !build->options->is_object) /* then the debugger finds it */
        build->source = arena_printf(build->arena, "%s%s.c", strchr(build->output, '/') ? "" : "./", build->output);
    if (!write_text(build->source, linked))
        return false;
    if (!build->archive && !build->options->to_object) {
        Text runtime = {0};
        print_runtime(&runtime);
        bool written = write_text(build->runtime, &runtime);
        text_free(&runtime);
        if (!written)
            return false;
    }
    int status = compile(build);
    if (status != 0) {
        error_plain("%s could not build %s%s", build->compiler.words.at[0], build->output,
                    build->compiler.clang ? " (clang needs its OpenMP library, libomp-dev)" : "");
        return false;
    }
    return put_in_place(build);
}

bool native_build(const Text *linked, const char *output, const NativeOptions *options) {
    if (!check_output(output))
        return false;
    Arena *arena = arena_new();
    Build build = {
        .arena = arena, .options = options, .output = output, .units = options->units > 1 ? options->units : 1};
    start_watching();
    bool built = build_all(&build, linked);
    stop_watching();
    arena_free(arena);
    return built;
}

int native_units(void) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 1 ? 1 : processors < C_UNITS_MAX ? (int)processors : C_UNITS_MAX;
}
