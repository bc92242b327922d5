/* `split folds = K`: what is done on the data set is done K times, with fresh weights, each time measured on the rows
   that the others trained on. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct folds_run {
    struct bp_instance *instance;
    int32_t data;
    const uint8_t *wanted; /* [statement_count] those on the data set */
    double **values;       /* [evaluate_count][folds][bp_measure_values], NULL: not of this data set */
    int64_t *rows;         /* [evaluate_count] over all folds */
    struct bp_error *error;
};

int32_t bp_statement_folds(const struct bp_program *program, const struct bp_statement *statement) {
    int32_t data = -1;
    if (statement->kind == BP_DO_TRAIN)
        data = program->trains[statement->index].data;
    else if (statement->kind == BP_DO_EVALUATE)
        data = program->evaluates[statement->index].data;
    return data >= 0 && program->data[data].folds > 0 ? data : -1;
}

/* ---- Means ------------------------------------------------------------------------------------------------------- */
/* Over the folds: the mean, and the deviation that divides by one less than there are. */
static void folds_spread(const double *values, int32_t folds, int64_t stride, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (int32_t k = 0; k < folds; k++)
        sum += values[k * stride];
    *mean = sum / folds;
    for (int32_t k = 0; k < folds; k++) {
        double difference = values[k * stride] - *mean, square = difference * difference;
        squares += square;
    }
    *deviation = sqrt(squares / (folds - 1));
}

static void folds_say_numbers(struct bp_text *text, const struct bp_measure *measure, const double *mean,
                              const double *deviation) {
    size_t names = 0;
    for (int32_t i = 0; i < measure->metric_count; i++)
        if (measure->metrics[i].rows == 1 && strlen(measure->metrics[i].name) > names)
            names = strlen(measure->metrics[i].name);
    for (int32_t i = 0, at = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        if (metric->rows == 1 && metric->columns == 1) {
            bp_text_printf(text, "  %-*s  ", (int)names, metric->name);
            bp_text_metric(text, mean[at]);
            bp_text_add(text, " +- ", 4);
            bp_text_metric(text, deviation[at]);
            bp_text_add(text, "\n", 1);
        }
        at += metric->rows * metric->columns;
    }
}

/* Numbers as mean and deviation, numbers of classes as means, matrices added up. */
static int folds_tell(struct folds_run *run, int32_t index) {
    const struct bp_evaluate *evaluate = &run->instance->program->evaluates[index];
    const struct bp_measure *measure = &evaluate->measure;
    const int32_t folds = run->instance->program->data[run->data].folds;
    const int64_t count = bp_measure_values(measure);
    double *mean = bp_allocate((2 * (size_t)count + 1) * sizeof *mean, "metrics", run->error);
    struct bp_text text = {0}, json = {0};
    if (mean == NULL)
        return 0;
    double *deviation = mean + count;
    for (int64_t i = 0; i < count; i++)
        folds_spread(run->values[index] + i, folds, count, &mean[i], &deviation[i]);
    for (int32_t i = 0, at = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        for (int32_t j = 0; j < metric->rows * metric->columns; j++, at++)
            if (metric->rows > 1 && metric->columns > 1)
                mean[at] *= folds;
    }
    bp_say(run->instance->log, "%s (%lld rows in %d folds; mean and deviation)\n", evaluate->name,
           (long long)run->rows[index], (int)folds);
    folds_say_numbers(&text, measure, mean, deviation);
    if (!text.failed && text.at != NULL)
        bp_say(run->instance->log, "%s", text.at);
    bp_text_free(&text);
    for (int32_t i = 0, at = 0; i < measure->metric_count;
         at += measure->metrics[i].rows * measure->metrics[i].columns, i++) {
        const struct bp_measure one = {.metrics = &measure->metrics[i], .metric_count = 1};
        if (measure->metrics[i].rows > 1 || measure->metrics[i].columns > 1)
            bp_log_table(run->instance->log, &one, mean + at);
    }
    bp_text_printf(&json, "{\"event\":\"evaluate\",\"name\":");
    bp_text_json(&json, evaluate->name);
    bp_text_printf(&json, ",\"model\":");
    bp_text_json(&json, run->instance->program->models[evaluate->model].name);
    bp_text_printf(&json, ",\"data\":");
    bp_text_json(&json, run->instance->program->data[run->data].name);
    bp_text_printf(&json, ",\"split\":\"fold\",\"folds\":%d,\"rows\":%lld", (int)folds, (long long)run->rows[index]);
    bp_log_metrics(&json, measure, mean, "");
    for (int32_t i = 0, at = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        if (metric->rows == 1 && metric->columns == 1) {
            bp_text_printf(&json, ",\"%s_deviation\":", metric->name);
            bp_log_number(&json, deviation[at]);
        }
        at += metric->rows * metric->columns;
    }
    bp_text_add(&json, "}", 1);
    free(mean);
    return bp_log_line(run->instance->log, &json, run->error);
}

/* ---- Rounds ------------------------------------------------------------------------------------------------------ */
static enum bp_outcome folds_measure(struct folds_run *run, int32_t index) {
    struct bp_instance *instance = run->instance;
    const struct bp_evaluate *evaluate = &instance->program->evaluates[index];
    const int64_t count = bp_measure_values(&evaluate->measure);
    double *values = run->values[index] + instance->fold * count;
    int64_t rows = 0;
    enum bp_outcome outcome = bp_evaluate_values(instance, evaluate, values, &rows, run->error);
    run->rows[index] += rows;
    if (outcome == BP_OK && !bp_evaluate_tell(instance, evaluate, rows, values, run->error))
        outcome = BP_FAILED;
    return outcome;
}

/* Weights, rows and what is fitted on them, afresh; draws of each fold are its own. */
static void folds_begin(struct folds_run *run, int32_t fold) {
    struct bp_instance *instance = run->instance;
    instance->fold = fold;
    instance->seed = bp_random(instance->options->seed, BP_STREAM_FOLD, (uint64_t)fold, 0);
    bp_instance_forget(instance, run->data);
    bp_say(instance->log, "fold %d/%d\n", (int)fold + 1, (int)instance->program->data[run->data].folds);
}

static enum bp_outcome folds_round(struct folds_run *run) {
    const struct bp_program *program = run->instance->program;
    enum bp_outcome outcome = BP_OK;
    for (int32_t i = 0; i < program->statement_count && outcome == BP_OK; i++) {
        const struct bp_statement *statement = &program->statements[i];
        if (!run->wanted[i])
            continue;
        if (bp_interrupted())
            outcome = BP_INTERRUPTED;
        else if (statement->kind == BP_DO_TRAIN)
            outcome = bp_train_run(run->instance, i, NULL, run->error);
        else
            outcome = folds_measure(run, statement->index);
    }
    return outcome;
}

static int folds_start(struct folds_run *run) {
    const struct bp_program *program = run->instance->program;
    size_t evaluates = (size_t)program->evaluate_count + 1;
    run->values = bp_allocate(evaluates * sizeof *run->values, "metrics", run->error);
    run->rows = bp_allocate(evaluates * sizeof *run->rows, "metrics", run->error);
    int done = run->values != NULL && run->rows != NULL;
    for (int32_t i = 0; done && i < program->statement_count; i++) {
        const struct bp_statement *statement = &program->statements[i];
        if (!run->wanted[i] || statement->kind != BP_DO_EVALUATE)
            continue;
        size_t count = (size_t)bp_measure_values(&program->evaluates[statement->index].measure) *
                       (size_t)program->data[run->data].folds;
        run->values[statement->index] = bp_allocate((count + 1) * sizeof(double), "metrics", run->error);
        done = run->values[statement->index] != NULL;
    }
    return done;
}

enum bp_outcome bp_folds_run(struct bp_instance *instance, int32_t data, const uint8_t *wanted,
                             struct bp_error *error) {
    const struct bp_program *program = instance->program;
    struct folds_run run = {.instance = instance, .data = data, .wanted = wanted, .error = error};
    enum bp_outcome outcome = folds_start(&run) ? BP_OK : BP_FAILED;
    for (int32_t fold = 0; outcome == BP_OK && fold < program->data[data].folds; fold++) {
        folds_begin(&run, fold);
        outcome = folds_round(&run);
    }
    instance->seed = instance->options->seed;
    for (int32_t i = 0; i < program->evaluate_count; i++) {
        if (run.values == NULL || run.values[i] == NULL)
            continue;
        if (outcome == BP_OK && !folds_tell(&run, i))
            outcome = BP_FAILED;
        free(run.values[i]);
    }
    free(run.values);
    free(run.rows);
    return outcome;
}
