#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "jit.h"

#include <dlfcn.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* ---- The module -------------------------------------------------------------------------------------------------- */

static const char module_name[] = "bpc-llvm.so";

/* Where it lies; false where there is none. */
static bool find_module(char path[PATH_MAX]) {
    static const char *const places[] = {"", "../lib/bpc/"};
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    while (length > 0 && self[length - 1] != '/')
        length--;
    if (length <= 0)
        return false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int written = snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, self, places[i], module_name);
        if (written > 0 && written < PATH_MAX && access(path, R_OK) == 0)
            return true;
    }
    return false;
}

const LlvmBackend *llvm_open(void) {
    static const LlvmBackend *opened;
    char path[PATH_MAX];
    if (opened)
        return opened;
    if (!find_module(path)) {
        error_plain(
            "this needs LLVM, and bpc was built without it (no %s): install llvm-19-dev and build bpc again, or "
            "compile with -o, which takes a C compiler",
            module_name);
        return NULL;
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const LlvmBackend *found = module ? dlsym(module, LLVM_BACKEND_SYMBOL) : NULL;
    if (!found) {
        error_plain("cannot open LLVM: %s; libllvm19 must be installed", dlerror());
        return NULL;
    }
    if (found->abi != LLVM_BACKEND_ABI) {
        error_plain("%s is another build's: install bpc again", path);
        return NULL;
    }
    opened = found;
    return opened;
}

/* ---- What a run calls -------------------------------------------------------------------------------------------- */

typedef struct Needs {
    Arena *arena;
    WantedFunctions *wanted;
} Needs;

static void need(Needs *needs, const char *name, bool hot) {
    if (name)
        *LIST_ADD(needs->arena, needs->wanted) = (LlvmWanted){name, hot, false};
}

static void need_later(Needs *needs, const char *name) {
    if (name)
        *LIST_ADD(needs->arena, needs->wanted) = (LlvmWanted){name, false, true};
}

static void need_training(Needs *needs, const struct bp_measure *training, bool hot) {
    for (int32_t i = 0; i < training->pass_count; i++)
        need(needs, training->passes[i].accumulate.name, hot);
    for (int32_t i = 0; i < training->pass_count; i++)
        need(needs, training->passes[i].accumulate.settle_name, hot);
    for (int32_t i = 0; i < training->pass_count; i++)
        need_later(needs, training->passes[i].finish.name);
}

static void need_measure(Needs *needs, const struct bp_measure *measure) {
    for (int32_t i = 0; i < measure->pass_count; i++) {
        need_later(needs, measure->passes[i].accumulate.name);
        need_later(needs, measure->passes[i].finish.name);
    }
}

static bool has_word(int argc, char **argv, const char *word) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

#define TABLE_ROWS 1000.0

/* Passes over a step's loops take some 50 ms: whether they are won back is guessed from a table of a thousand rows, at
   a few operations a nanosecond. */
static bool takes_long(double flops_per_row, double rows) {
    static const double worth = 1e9; /* operations */
    return flops_per_row * rows > worth;
}

void functions_wanted(Arena *arena, const struct bp_program *program, int argc, char **argv, WantedFunctions *wanted) {
    Needs needs = {arena, wanted};
    bool predicts = has_word(argc, argv, "predict"), checks = has_word(argc, argv, "--check-grad");
    bool measures = has_word(argc, argv, "--bench");
    for (int32_t i = 0; i < program->data_count; i++)
        need(&needs, program->data[i].log_name, false);
    for (int32_t i = 0; i < program->model_count; i++)
        need(&needs, predicts ? program->models[i].predict.name : program->models[i].init.name, predicts);
    for (int32_t i = 0; i < program->train_count && !predicts; i++) {
        const struct bp_train *train = &program->trains[i];
        if (checks) {
            for (int32_t j = 0; j < train->check_count; j++) {
                need(&needs, train->checks[j].loss.name, false);
                need(&needs, train->checks[j].gradient.name, false);
            }
        } else {
            need(&needs, train->start.name, false);
            need(&needs, train->prefix.function.name, takes_long(train->prefix.flops_per_row, TABLE_ROWS));
            double rows =
                train->steps ? (double)train->steps * (double)train->batch_size : TABLE_ROWS * (double)train->epochs;
            need_training(&needs, &train->training, measures || takes_long(train->flops_per_row, rows));
        }
        if (!checks && !measures)
            need_measure(&needs, &train->validation);
    }
    for (int32_t i = 0; i < program->evaluate_count && !predicts && !checks && !measures; i++)
        need_measure(&needs, &program->evaluates[i].measure);
}
