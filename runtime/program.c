/* The program itself: its statements in order, or what an option asks instead. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* ---- Ctrl-C ------------------------------------------------------------------------------------------------------ */
static int program_signalled;

static void program_on_signal(int number) {
    (void)number;
    __atomic_store_n(&program_signalled, 1, __ATOMIC_RELAXED);
}

int bp_interrupted(void) {
    return __atomic_load_n(&program_signalled, __ATOMIC_RELAXED);
}

static const int program_signals[2] = {SIGINT, SIGTERM};

/* The first signal ends the step, the second the process. What a parent had ignored (nohup) stays so. */
static void program_listen(struct sigaction before[2]) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = program_on_signal;
    action.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    __atomic_store_n(&program_signalled, 0, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++) {
        sigaction(program_signals[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN)
            sigaction(program_signals[i], &action, NULL);
    }
}

static void program_listen_no_more(const struct sigaction before[2]) {
    for (int i = 0; i < 2; i++)
        sigaction(program_signals[i], &before[i], NULL);
}

/* ---- Statements -------------------------------------------------------------------------------------------------- */
static int program_tell_start(struct bp_instance *instance, int resumed, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    struct bp_text json = {0};
    int64_t parameters = 0;
    for (int32_t m = 0; m < program->model_count; m++)
        for (int32_t i = 0; i < program->models[m].tensor_count; i++)
            parameters += bp_tensor_count(&program->tensors[program->models[m].first_tensor + i]);
    bp_text_printf(&json, "{\"event\":\"start\",\"program\":");
    bp_text_json(&json, program->name);
    bp_text_printf(&json, ",\"source\":");
    bp_text_json(&json, program->source);
    bp_text_printf(&json, ",\"version\":");
    bp_text_json(&json, program->version);
    bp_text_printf(&json, ",\"seed\":%llu,\"threads\":%d,\"parameters\":%lld,\"resumed\":%s}",
                   (unsigned long long)instance->seed, (int)instance->threads, (long long)parameters,
                   resumed ? "true" : "false");
    return bp_log_line(instance->log, &json, error);
}

static enum bp_outcome program_save(struct bp_instance *instance, const struct bp_save *save, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    struct bp_text json = {0}, names = {0};
    for (int32_t i = 0; i < save->model_count; i++)
        if (!bp_model_ready(instance, save->models[i], error))
            return BP_FAILED;
    if (!bp_model_save(instance, save, error))
        return BP_FAILED;
    bp_text_printf(&json, "{\"event\":\"save\",\"path\":");
    bp_text_json(&json, save->path);
    bp_text_printf(&json, ",\"models\":[");
    for (int32_t i = 0; i < save->model_count; i++) {
        bp_text_printf(&names, "%s%s", i ? ", " : "", program->models[save->models[i]].name);
        bp_text_add(&json, ",", i > 0 ? 1 : 0);
        bp_text_json(&json, program->models[save->models[i]].name);
    }
    bp_text_printf(&json, "]}");
    bp_say(instance->log, "saved %s to %s\n", names.failed ? "" : names.at, save->path);
    bp_text_free(&names);
    return bp_log_line(instance->log, &json, error) ? BP_OK : BP_FAILED;
}

static int program_phase_names(const struct bp_program *program, const char *phase, int32_t model) {
    for (int32_t i = 0; i < program->train_count; i++)
        for (int32_t m = 0; strcmp(program->trains[i].name, phase) == 0 && m < program->trains[i].model_count; m++)
            if (program->trains[i].models[m] == model)
                return 1;
    return 0;
}

/* With --phase, only what concerns the models of that phase is done: a model that was not trained would otherwise be
   saved over one that was. */
static int program_skips(const struct bp_program *program, const char *phase, const struct bp_statement *statement) {
    if (!phase)
        return 0;
    if (statement->kind == BP_DO_TRAIN)
        return strcmp(program->trains[statement->index].name, phase) != 0;
    if (statement->kind == BP_DO_EVALUATE)
        return !program_phase_names(program, phase, program->evaluates[statement->index].model);
    const struct bp_save *save = &program->saves[statement->index];
    for (int32_t i = 0; i < save->model_count; i++)
        if (!program_phase_names(program, phase, save->models[i]))
            return 1;
    return 0;
}

/* What is written at the end must not first fail after hours of training, nor fall on the data. */
static int program_can_write(const struct bp_instance *instance, const char *path, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    for (int32_t i = 0; i < program->data_count; i++)
        for (int32_t j = 0; j < program->data[i].file_count; j++) {
            const struct bp_file *file = &program->data[i].files[j];
            const char *given = j == 0 ? instance->options->data_paths[i] : NULL;
            if (bp_same_file(path, given ? given : file->path ? file->path : file->name))
                return bp_fail(error, "cannot write '%s': it is the data of '%s'", path, program->data[i].name);
        }
    return bp_writable(path, error);
}

static int program_can_write_all(const struct bp_instance *instance, int32_t first, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    int ok = 1;
    for (int32_t i = first; ok && i < program->statement_count; i++) {
        const struct bp_statement *statement = &program->statements[i];
        if (program_skips(program, instance->options->phase, statement))
            continue;
        const char *path = statement->kind == BP_DO_SAVE    ? program->saves[statement->index].path
                           : statement->kind == BP_DO_TRAIN ? program->trains[statement->index].checkpoint
                                                            : NULL;
        ok = !path || program_can_write(instance, path, error);
    }
    return ok;
}

static enum bp_outcome program_statement(struct bp_instance *instance, int32_t index, struct bp_progress *resumed,
                                         struct bp_error *error) {
    const struct bp_program *program = instance->program;
    const struct bp_statement *statement = &program->statements[index];
    switch (statement->kind) {
    case BP_DO_TRAIN:
        return bp_train_run(instance, index, resumed, error);
    case BP_DO_EVALUATE:
        return bp_evaluate_run(instance, &program->evaluates[statement->index], error);
    case BP_DO_SAVE:
        return program_save(instance, &program->saves[statement->index], error);
    }
    bp_fail(error, "statement %d of the program is of no known kind", (int)index + 1);
    return BP_FAILED;
}

/* All that is done on a data set with folds is done where the first of it stands; done[i] once that was statement i. */
static enum bp_outcome program_folds(struct bp_instance *instance, int32_t index, uint8_t *done,
                                     struct bp_error *error) {
    const struct bp_program *program = instance->program;
    int32_t data = bp_statement_folds(program, &program->statements[index]);
    enum bp_outcome outcome = BP_OK;
    int any = 0, ok = 0;
    if (done[index])
        return BP_OK;
    uint8_t *wanted = bp_allocate((size_t)program->statement_count + 1, "the statements", error);
    for (int32_t i = index; wanted && i < program->statement_count; i++) {
        if (bp_statement_folds(program, &program->statements[i]) != data)
            continue;
        done[i] = 1;
        wanted[i] = !program_skips(program, instance->options->phase, &program->statements[i]);
        any |= wanted[i];
    }
    ok = wanted != NULL;
    if (any)
        outcome = bp_folds_run(instance, data, wanted, error);
    free(wanted);
    return ok ? outcome : BP_FAILED;
}

/* What a run that is interrupted has trained for an epoch or more is saved where the program says so, unless a checkpoint
   keeps it: then the run can go on, and the files are those of the last run that ended. */
static enum bp_outcome program_interrupted(struct bp_instance *instance, int32_t index, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    const struct bp_statement *at = &program->statements[index];
    int kept = at->kind == BP_DO_TRAIN && program->trains[at->index].checkpoint;
    if (instance->epochs_done == 0 || kept || bp_statement_folds(program, at) >= 0) /* a fold's weights are no result */
        return BP_INTERRUPTED;
    for (int32_t i = index; i < program->statement_count; i++) {
        const struct bp_statement *statement = &program->statements[i];
        if (statement->kind != BP_DO_SAVE || program_skips(program, instance->options->phase, statement))
            continue;
        const struct bp_save *save = &program->saves[statement->index];
        int ready = 1;
        for (int32_t m = 0; m < save->model_count; m++)
            ready = ready && instance->model_ready[save->models[m]];
        if (ready && program_save(instance, save, error) != BP_OK)
            return BP_FAILED;
    }
    return BP_INTERRUPTED;
}

static enum bp_outcome program_run(struct bp_instance *instance, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    struct bp_progress progress = {0};
    int resuming = instance->options->resume != NULL;
    if (resuming && !bp_checkpoint_read(instance, instance->options->resume, &progress, error))
        return BP_FAILED;
    int32_t first = resuming ? progress.statement : 0;
    uint8_t *in_folds = bp_allocate((size_t)program->statement_count + 1, "the statements", error);
    if (!in_folds || !program_can_write_all(instance, first, error)) {
        free(in_folds);
        bp_progress_free(&progress);
        return BP_FAILED;
    }
    enum bp_outcome outcome = program_tell_start(instance, resuming, error) ? BP_OK : BP_FAILED;
    for (int32_t i = first; outcome == BP_OK && i < program->statement_count; i++) {
        if (bp_interrupted())
            outcome = BP_INTERRUPTED;
        else if (bp_statement_folds(program, &program->statements[i]) >= 0)
            outcome = program_folds(instance, i, in_folds, error);
        else if (!program_skips(program, instance->options->phase, &program->statements[i]))
            outcome = program_statement(instance, i, resuming && i == first ? &progress : NULL, error);
        if (outcome == BP_INTERRUPTED)
            outcome = program_interrupted(instance, i, error);
    }
    free(in_folds);
    bp_progress_free(&progress);
    return outcome;
}

/* ---- The command line -------------------------------------------------------------------------------------------- */
static enum bp_outcome program_mode(struct bp_instance *instance, struct bp_error *error) {
    const struct bp_options *options = instance->options;
    if (options->bench)
        return bp_bench_run(instance, error);
    if (options->command == BP_COMMAND_PREDICT)
        return bp_predict_run(instance, error);
    if (options->check_grad)
        return bp_check_run(instance, error);
    return program_run(instance, error);
}

static enum bp_outcome program_start(const struct bp_program *program, const struct bp_options *options,
                                     struct bp_error *error) {
    struct bp_instance instance;
    struct bp_log log;
    struct sigaction before[2];
    enum bp_outcome outcome = BP_FAILED;
    int quiet = options->quiet || options->command == BP_COMMAND_PREDICT || options->bench;
    if (!bp_log_open(&log, options->log, options->resume != NULL, quiet, error))
        return BP_FAILED;
    program_listen(before);
    if (bp_instance_start(&instance, program, options, &log, error)) {
        outcome = program_mode(&instance, error);
        bp_instance_free(&instance);
    }
    program_listen_no_more(before);
    struct bp_error closing;
    if (!bp_log_close(&log, &closing) && outcome == BP_OK) {
        *error = closing;
        outcome = BP_FAILED;
    }
    if ((fflush(stdout) != 0 || ferror(stdout)) && outcome == BP_OK) {
        bp_fail(error, "standard output cannot be written");
        outcome = BP_FAILED;
    }
    return outcome;
}

static void program_tell_usage(const struct bp_program *program, const struct bp_error *error) {
    size_t length = strlen(error->text);
    const char *join = length > 0 && error->text[length - 1] == '?' ? "" : ";";
    fprintf(stderr, "%s: error: %s%s try --help\n", program->name, error->text, join);
}

int bp_main(const struct bp_program *program, int argc, char **argv) {
    struct bp_options options;
    struct bp_error error = {""};
    enum bp_outcome outcome = BP_OK;
    if (program->abi != BP_ABI) {
        fprintf(stderr, "%s: error: compiled for runtime %d, this one is %d: compile it again\n", program->name,
                (int)program->abi, BP_ABI);
        return BP_FAILED;
    }
    if (!bp_options_read(&options, program, argc, argv, &error)) {
        program_tell_usage(program, &error);
        bp_options_free(&options);
        return BP_USAGE;
    }
    if (options.help)
        bp_options_help(program, stdout);
    else if (options.version)
        printf("%s, compiled from %s by bpc %s\n", program->name, program->source, program->version);
    else
        outcome = program_start(program, &options, &error);
    if (outcome == BP_FAILED)
        fprintf(stderr, "%s: error: %s\n", program->name, error.text);
    else if (outcome == BP_USAGE)
        program_tell_usage(program, &error);
    bp_options_free(&options);
    return (int)outcome;
}
