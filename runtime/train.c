/* A training phase: epochs, early stopping, checkpoints, and what is told of them. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct train_run {
    struct bp_instance *instance;
    const struct bp_train *train;
    struct bp_progress progress;
    const int64_t *rows; /* of the training part, ascending */
    int64_t *order;      /* the same, in this epoch's order */
    int64_t row_count, epochs;
    int64_t steps; /* in all; the last epoch may end early */
    const int64_t *validation_rows;
    int64_t validation_count;
    double *training, *validation; /* the epoch's metrics */
    double *last_sums;
    struct bp_measuring measuring; /* of the validation part */
    struct bp_text line;           /* the epoch's, for people: one buffer for all epochs */
    struct bp_kept kept;           /* of frozen layers */
    double started;
};

static const struct bp_pass *train_pass(const struct train_run *run) {
    return &run->train->training.passes[0];
}

/* ---- Progress ---------------------------------------------------------------------------------------------------- */
int64_t bp_train_values(const struct bp_program *program, const struct bp_train *train) {
    int64_t count = 0;
    for (int32_t i = 0; i < train->trainable_count; i++)
        count += bp_tensor_count(&program->tensors[train->trainable[i]]);
    return count;
}

int bp_progress_start(struct bp_progress *progress, const struct bp_program *program, int32_t statement,
                      struct bp_error *error) {
    memset(progress, 0, sizeof *progress);
    progress->statement = statement;
    progress->train = program->statements[statement].index;
    const struct bp_train *train = &program->trains[progress->train];
    progress->sum_count = train->training.passes[0].sum_count;
    bp_plateau_start(&train->plateau, &progress->plateau);
    progress->totals = bp_allocate(((size_t)progress->sum_count + 1) * sizeof(double), "sums", error);
    if (progress->totals &&
        (train->early_stopping.metric < 0 ||
         bp_best_start(&progress->best, bp_train_values(program, train), train->early_stopping.best_in_file, error)))
        return 1;
    bp_progress_free(progress);
    return 0;
}

void bp_progress_free(struct bp_progress *progress) {
    free(progress->totals);
    bp_best_free(&progress->best);
    memset(progress, 0, sizeof *progress);
}

static int train_copy_best(struct train_run *run, int restore, struct bp_error *error) {
    const int32_t *kept = !restore && run->train->averages ? run->train->averages : run->train->trainable;
    int64_t first = 0;
    int ok = 1;
    for (int32_t i = 0; ok && i < run->train->trainable_count; i++) {
        const struct bp_tensor *tensor = &run->instance->program->tensors[run->train->trainable[i]];
        float *values = bp_tensor_values(run->instance, kept[i]);
        ok = restore ? bp_best_get_tensor(&run->progress.best, first, tensor, values, error)
                     : bp_best_put_tensor(&run->progress.best, first, tensor, values, error);
        first += bp_tensor_count(tensor);
    }
    return ok;
}

/* Which of the data set's folds it is, where it has any. */
static void train_fold(const struct train_run *run, struct bp_text *json) {
    if (run->train->data >= 0 && run->instance->program->data[run->train->data].folds > 0)
        bp_text_printf(json, ",\"fold\":%d", (int)run->instance->fold + 1);
}

/* The phase is over: its moving averages are the weights. */
static void train_take_averages(struct train_run *run) {
    for (int32_t i = 0; run->train->averages && i < run->train->trainable_count; i++) {
        const struct bp_tensor *tensor = &run->instance->program->tensors[run->train->trainable[i]];
        const struct bp_tensor *average = &run->instance->program->tensors[run->train->averages[i]];
        const float *from = bp_tensor_values(run->instance, run->train->averages[i]);
        float *to = bp_tensor_values(run->instance, run->train->trainable[i]), piece[256];
        int64_t count = bp_tensor_count(tensor);
        for (int64_t first = 0, taken; first < count; first += taken) {
            taken = count - first < 256 ? count - first : 256;
            bp_tensor_get(average, from, first, taken, piece);
            bp_tensor_put(tensor, to, first, taken, piece);
        }
    }
}

/* ---- Start ------------------------------------------------------------------------------------------------------- */
static void train_scalars(struct train_run *run) {
    double *scalars = bp_scalars(run->instance);
    int64_t batches = run->progress.batches;
    scalars[BP_SCALAR_STEP] = (double)(run->progress.epoch * batches + run->progress.batch);
    scalars[BP_SCALAR_EPOCH] = (double)run->progress.epoch;
    scalars[BP_SCALAR_PLATEAU] = run->progress.plateau.rate;
    scalars[BP_SCALAR_STEPS] = (double)run->steps;
    scalars[BP_SCALAR_STEPS_PER_EPOCH] = (double)batches;
    scalars[BP_SCALAR_ROWS] =
        (double)(run->row_count < run->train->batch_size ? run->row_count : run->train->batch_size);
}

static int train_prepare(struct train_run *run, struct bp_error *error) {
    struct bp_instance *instance = run->instance;
    const struct bp_train *train = run->train;
    if (train->batch_size < 1 || train->batch_size > train_pass(run)->accumulate.capacity)
        return bp_fail(error, "%s:%d: phase '%s': batch_size %lld is more than was compiled", instance->program->source,
                       (int)train->line, train->name, (long long)train->batch_size);
    for (int32_t i = 0; i < train->model_count; i++)
        if (!bp_model_ready(instance, train->models[i], error))
            return 0;
    int64_t most = train->steps > 0 && train->steps < BP_STEPS_WITHOUT_DATA ? train->steps : BP_STEPS_WITHOUT_DATA;
    if (train->data < 0)
        run->row_count = most * train->batch_size;
    else if (!bp_instance_table(instance, train->data, error) ||
             !bp_instance_part(instance, train->data, BP_TRAIN, &run->rows, &run->row_count, error))
        return 0;
    bp_class_weights_set(instance, train, run->rows, run->row_count);
    if (train->validation.pass_count > 0 &&
        !bp_instance_part(instance, train->data, BP_VALIDATION, &run->validation_rows, &run->validation_count, error))
        return 0;
    run->order = bp_allocate(((size_t)(train->data < 0 ? 0 : run->row_count) + 1) * sizeof *run->order,
                             "the order of rows", error);
    run->training = bp_allocate(((size_t)bp_measure_values(&train->training) + 1) * sizeof(double), "metrics", error);
    run->validation =
        bp_allocate(((size_t)bp_measure_values(&train->validation) + 1) * sizeof(double), "metrics", error);
    run->last_sums = bp_allocate(((size_t)train_pass(run)->sum_count + 1) * sizeof(double), "sums", error);
    return run->order && run->training && run->validation && run->last_sums &&
           bp_measuring_start(&run->measuring, instance, &train->validation, run->validation_count, error) &&
           bp_kept_start(&run->kept, &train->prefix, error);
}

static int train_begin(struct train_run *run, int resumed, struct bp_error *error) {
    int64_t batches = (run->row_count + run->train->batch_size - 1) / run->train->batch_size;
    run->steps = run->epochs > 0 ? run->epochs * batches : run->steps;
    run->epochs = (run->steps + batches - 1) / batches;
    if (resumed && run->progress.epoch > run->epochs)
        return bp_fail(error, "the checkpoint has %lld epochs of '%s' done, this run would have %lld",
                       (long long)run->progress.epoch, run->train->name, (long long)run->epochs);
    if (resumed && run->progress.batches != batches)
        return bp_fail(error, "an epoch of '%s' has %lld batches, the checkpoint's run had %lld", run->train->name,
                       (long long)batches, (long long)run->progress.batches);
    run->progress.batches = batches;
    train_scalars(run);
    if (!resumed)
        bp_call(run->instance, &run->train->start);
    if (run->progress.best.in_file)
        bp_say(run->instance->log, "the best weights of %s are kept in a file\n", run->train->name);
    if (run->instance->program->train_count > 1)
        bp_say(run->instance->log, "%s: %lld rows, %lld steps an epoch\n", run->train->name, (long long)run->row_count,
               (long long)batches);
    return 1;
}

/* ---- Frozen layers ----------------------------------------------------------------------------------------------- */
static int train_tell_kept(struct train_run *run, int64_t rows, int64_t bytes, int kept, struct bp_error *error) {
    struct bp_text json = {0};
    bp_text_printf(&json, "{\"event\":\"frozen\",\"phase\":");
    bp_text_json(&json, run->train->name);
    train_fold(run, &json);
    bp_text_printf(&json, ",\"rows\":%lld,\"bytes\":%lld,\"kept\":%s}", (long long)rows, (long long)bytes,
                   kept ? "true" : "false");
    return bp_log_line(run->instance->log, &json, error);
}

/* What the frozen layers give is kept where there is room for it, and an epoch that will read it again. */
static enum bp_outcome train_keep(struct train_run *run, struct bp_error *error) {
    struct bp_instance *instance = run->instance;
    if (!run->train->prefix.function.code || run->epochs - run->progress.epoch < 2)
        return BP_OK;
    const struct bp_table *table = &instance->tables[run->train->data];
    int64_t last = run->rows[run->row_count - 1], count = run->row_count;
    if (run->train->validation.pass_count > 0) {
        int64_t other = run->validation_rows[run->validation_count - 1];
        last = other > last ? other : last;
        count += run->validation_count;
    }
    int64_t bytes = bp_kept_bytes(&run->train->prefix, last + 1), most = bp_cache_bytes(instance->options);
    int keeps = bytes <= most && bp_kept_reserve(&run->kept, last + 1);
    if (!keeps)
        bp_say(instance->log,
               "%s: what frozen layers give is computed for every batch: to keep it for %lld rows takes %.1f MB, and "
               "--cache allows %.1f MB\n",
               run->train->name, (long long)count, (double)bytes * 1e-6, (double)most * 1e-6);
    if (!train_tell_kept(run, count, bytes, keeps, error))
        return BP_FAILED;
    enum bp_outcome outcome = BP_OK;
    if (keeps)
        outcome = bp_kept_fill(&run->kept, instance, table, run->rows, run->row_count);
    if (keeps && outcome == BP_OK && run->train->validation.pass_count > 0)
        outcome = bp_kept_fill(&run->kept, instance, table, run->validation_rows, run->validation_count);
    return outcome;
}

/* ---- One epoch --------------------------------------------------------------------------------------------------- */
/* Keyed by the epoch (and the phase), not by what came before: a resumed run has the same order. */
static void train_shuffle(struct train_run *run) {
    if (run->train->data < 0)
        return;
    memcpy(run->order, run->rows, (size_t)run->row_count * sizeof *run->order);
    if (run->train->shuffle)
        bp_shuffle(run->order, run->row_count, run->instance->seed, BP_STREAM_SHUFFLE,
                   (uint64_t)run->progress.epoch | (uint64_t)run->progress.train << 40);
}

/* A sum is not finite. Is it one of a loss? */
static int train_loss_is_finite(const struct train_run *run) {
    for (int32_t i = 0; i < run->train->loss_count; i++)
        if (!isfinite(run->last_sums[run->train->first_loss + i]))
            return 0;
    return 1;
}

/* --log-steps: the loss of the batch that is done. */
static int train_tell_step(void *argument, int64_t place, int64_t rows) {
    struct train_run *run = argument;
    struct bp_error ignored; /* a log that cannot be written is told with the next epoch */
    bp_measure_finish(run->instance, train_pass(run), run->last_sums, rows);
    bp_measure_copy(run->instance, &run->train->training, run->training);
    struct bp_text json = {0};
    bp_text_printf(&json, "{\"event\":\"step\",\"phase\":");
    bp_text_json(&json, run->train->name);
    train_fold(run, &json);
    long long before = (long long)(run->progress.epoch * run->progress.batches);
    bp_text_printf(&json, ",\"step\":%lld", before + (long long)(place / run->train->batch_size) + 1);
    for (int32_t i = 0; i < run->train->loss_count; i++) {
        bp_text_add(&json, ",", 1);
        bp_text_json(&json, run->train->training.metrics[i].name);
        bp_text_add(&json, ":", 1);
        bp_log_number(&json, run->training[i]);
    }
    bp_text_add(&json, "}", 1);
    return bp_log_line(run->instance->log, &json, &ignored);
}

/* Of the epoch in hand: the last may be a part of one. */
static int64_t train_epoch_steps(const struct train_run *run) {
    int64_t left = run->steps - run->progress.epoch * run->progress.batches;
    return left < run->progress.batches ? left : run->progress.batches;
}

static enum bp_outcome train_batches(struct train_run *run, struct bp_error *error) {
    struct bp_progress *progress = &run->progress;
    struct bp_sweep sweep = {0};
    sweep.instance = run->instance;
    sweep.function = &train_pass(run)->accumulate;
    sweep.memory = run->instance->memory;
    sweep.table = run->train->data < 0 ? NULL : &run->instance->tables[run->train->data];
    sweep.kept = &run->kept;
    sweep.order = run->order;
    sweep.ascending_by_one =
        run->rows && !run->train->shuffle && run->rows[run->row_count - 1] - run->rows[0] == run->row_count - 1;
    sweep.rows = run->row_count;
    sweep.batch = run->train->batch_size;
    sweep.last = train_epoch_steps(run);
    sweep.training = 1;
    sweep.sums_offset = train_pass(run)->sums_offset;
    sweep.sum_count = progress->sum_count;
    sweep.totals = progress->totals;
    sweep.last_sums = run->last_sums;
    if (run->instance->options->log_steps) {
        sweep.after = train_tell_step;
        sweep.argument = run;
    }
    for (;;) {
        sweep.first = progress->batch;
        sweep.step = (uint64_t)(progress->epoch * progress->batches + progress->batch);
        bp_sweep_run(&sweep);
        progress->batch = sweep.done;
        if (sweep.end == BP_SWEEP_DONE)
            return BP_OK;
        if (sweep.end == BP_SWEEP_INTERRUPTED)
            return BP_INTERRUPTED;
        if (sweep.end == BP_SWEEP_FAILED) {
            bp_fail(error, "cannot write %s", run->instance->log->path);
            return BP_FAILED;
        }
        if (!train_loss_is_finite(run)) {
            bp_train_explain(run->instance, &sweep, run->train, progress->epoch, error);
            return BP_FAILED;
        }
        for (int32_t i = 0; i < progress->sum_count; i++)
            progress->totals[i] += run->last_sums[i];
        progress->batch++;
        if (progress->batch >= sweep.last)
            return BP_OK;
    }
}

static enum bp_outcome train_epoch(struct train_run *run, struct bp_error *error) {
    struct bp_progress *progress = &run->progress;
    run->started = bp_seconds();
    train_scalars(run);
    train_shuffle(run);
    enum bp_outcome outcome = train_batches(run, error);
    if (outcome != BP_OK)
        return outcome;
    int64_t rows = train_epoch_steps(run) * run->train->batch_size;
    rows = rows < run->row_count ? rows : run->row_count;
    bp_measure_finish(run->instance, train_pass(run), progress->totals, rows);
    bp_measure_copy(run->instance, &run->train->training, run->training);
    if (run->train->validation.pass_count > 0) {
        if (!bp_measure_again(run->instance, &run->train->validation, &run->measuring, &run->kept, run->train->data,
                              run->validation_rows, run->validation_count, run->validation))
            return BP_INTERRUPTED;
    }
    progress->epoch++;
    run->instance->epochs_done++;
    progress->batch = 0;
    memset(progress->totals, 0, (size_t)progress->sum_count * sizeof *progress->totals);
    return BP_OK;
}

/* ---- Early stopping ---------------------------------------------------------------------------------------------- */
static const struct bp_measure *train_monitored(const struct bp_train *train) {
    return train->early_stopping.from_training ? &train->training : &train->validation;
}

/* What the epoch measured: one number. */
static double train_measured(const struct train_run *run, int from_training, int32_t metric) {
    const struct bp_measure *measure = from_training ? &run->train->training : &run->train->validation;
    const double *values = from_training ? run->training : run->validation;
    for (int32_t i = 0; i < metric; i++)
        values += (int64_t)measure->metrics[i].rows * measure->metrics[i].columns;
    return *values;
}

static void train_plateau(struct train_run *run) {
    const struct bp_plateau *plateau = &run->train->plateau;
    if (plateau->start > 0)
        bp_plateau_step(plateau, &run->progress.plateau, train_measured(run, plateau->from_training, plateau->metric));
}

static void train_monitored_name(const struct bp_train *train, char name[128]) {
    snprintf(name, 128, "%s%s", train->early_stopping.from_training ? "" : "val_",
             train_monitored(train)->metrics[train->early_stopping.metric].name);
}

/* As Keras counts: an epoch is better when it gains more than min_delta on the best; epochs before start_from_epoch
   (from 0) are not looked at. A NaN is never better. */
static int train_early_stopping(struct train_run *run, struct bp_error *error) {
    const struct bp_early_stopping *early = &run->train->early_stopping;
    struct bp_progress *progress = &run->progress;
    if (early->metric < 0 || progress->epoch - 1 < early->start_from_epoch)
        return 1;
    double value = train_measured(run, early->from_training, early->metric);
    double gain = early->better > 0 ? value - progress->best_value : progress->best_value - value;
    if (!isnan(value) && (progress->best_epoch == 0 || gain > early->min_delta)) {
        progress->best_value = value;
        progress->best_epoch = progress->epoch;
        progress->waited = 0;
        return train_copy_best(run, 0, error);
    }
    progress->waited++;
    progress->stopped = progress->waited >= early->patience;
    return 1;
}

/* The best weights come back, and the run says so. */
static int train_restore(struct train_run *run, struct bp_error *error) {
    const struct bp_progress *progress = &run->progress;
    struct bp_log *log = run->instance->log;
    char metric[128];
    if (run->train->early_stopping.metric < 0)
        return 1;
    train_monitored_name(run->train, metric);
    if (progress->stopped)
        bp_say(log, "stopped after epoch %lld: %s has not improved for %lld epoch%s", (long long)progress->epoch,
               metric, (long long)progress->waited, progress->waited == 1 ? "" : "s");
    int restore = progress->best_epoch > 0 && progress->best_epoch != progress->epoch;
    if (restore && !train_copy_best(run, 1, error))
        return 0;
    if (restore) {
        bp_say(log,
               progress->stopped ? "; weights of epoch %lld restored\n"
                                 : "weights of epoch %lld restored: its %s is the best\n",
               (long long)progress->best_epoch, metric);
    } else if (progress->stopped) {
        bp_say(log, progress->best_epoch ? "\n" : "; it was never a number, and no weights are restored\n");
    }
    struct bp_text json = {0};
    bp_text_printf(&json, "{\"event\":\"stop\",\"phase\":");
    bp_text_json(&json, run->train->name);
    train_fold(run, &json);
    bp_text_printf(&json,
                   ",\"reason\":\"%s\",\"epoch\":%lld,\"metric\":", progress->stopped ? "early_stopping" : "epochs",
                   (long long)progress->epoch);
    bp_text_json(&json, metric);
    if (progress->best_epoch > 0) {
        bp_text_printf(&json, ",\"best\":");
        bp_log_number(&json, progress->best_value);
        bp_text_printf(&json, ",\"best_epoch\":%lld", (long long)progress->best_epoch);
    }
    bp_text_printf(&json, ",\"restored\":%s}", restore ? "true" : "false");
    return bp_log_line(log, &json, error);
}

/* ---- What is told ------------------------------------------------------------------------------------------------ */
static void train_say_metrics(struct bp_text *text, const struct bp_measure *measure, const double *values,
                              const char *prefix) {
    for (int32_t i = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        if (metric->rows == 1 && metric->columns == 1) {
            bp_text_printf(text, "  %s%s ", prefix, metric->name);
            bp_text_metric(text, *values);
        }
        values += (int64_t)metric->rows * metric->columns;
    }
}

static int train_tell(struct train_run *run, struct bp_error *error) {
    double seconds = bp_seconds() - run->started;
    long long epoch = (long long)run->progress.epoch;
    if (!run->instance->log->quiet) {
        struct bp_text *line = &run->line;
        int width = snprintf(NULL, 0, "%lld", (long long)run->epochs);
        line->length = 0;
        bp_text_printf(line, "epoch %*lld/%lld", width, epoch, (long long)run->epochs);
        train_say_metrics(line, &run->train->training, run->training, "");
        if (run->train->validation.pass_count > 0)
            train_say_metrics(line, &run->train->validation, run->validation, "val_");
        long long hundredths = (long long)(seconds * 100 + 0.5);
        bp_text_printf(line, "  %lld.%02lld s\n", hundredths / 100, hundredths % 100);
        if (!line->failed)
            bp_say(run->instance->log, "%s", line->at);
    }
    if (!run->instance->log->file)
        return 1;
    struct bp_text json = {0};
    bp_text_printf(&json, "{\"event\":\"epoch\",\"phase\":");
    bp_text_json(&json, run->train->name);
    train_fold(run, &json);
    bp_text_printf(&json, ",\"epoch\":%lld", epoch);
    bp_log_metrics(&json, &run->train->training, run->training, "");
    if (run->train->validation.pass_count > 0)
        bp_log_metrics(&json, &run->train->validation, run->validation, "val_");
    bp_text_printf(&json, ",\"seconds\":");
    bp_log_number(&json, seconds);
    bp_text_add(&json, "}", 1);
    return bp_log_line(run->instance->log, &json, error);
}

static int train_tell_stop(struct train_run *run, const char *reason, const char *message, struct bp_error *error) {
    struct bp_text json = {0};
    bp_text_printf(&json, "{\"event\":\"stop\",\"phase\":");
    bp_text_json(&json, run->train->name);
    train_fold(run, &json);
    bp_text_printf(&json, ",\"reason\":\"%s\",\"epoch\":%lld,\"batch\":%lld", reason,
                   (long long)run->progress.epoch + 1, (long long)run->progress.batch);
    if (message) {
        bp_text_printf(&json, ",\"message\":");
        bp_text_json(&json, message);
    }
    bp_text_add(&json, "}", 1);
    return bp_log_line(run->instance->log, &json, error);
}

/* ---- The phase --------------------------------------------------------------------------------------------------- */
static enum bp_outcome train_interrupted(struct train_run *run, struct bp_error *error) {
    if (run->train->checkpoint) {
        if (!bp_checkpoint_write(run->instance, &run->progress, error))
            return BP_FAILED;
        bp_say(run->instance->log, "interrupted in epoch %lld; go on with --resume %s\n",
               (long long)run->progress.epoch + 1, run->train->checkpoint);
    } else {
        bp_say(run->instance->log, "interrupted in epoch %lld\n", (long long)run->progress.epoch + 1);
        if (run->progress.best_epoch > 0) { /* as where the phase ends by itself */
            if (!train_copy_best(run, 1, error))
                return BP_FAILED;
            bp_say(run->instance->log, "weights of epoch %lld restored\n", (long long)run->progress.best_epoch);
        }
    }
    return train_tell_stop(run, "interrupted", NULL, error) ? BP_INTERRUPTED : BP_FAILED;
}

/* A last update that broke a weight shows in no loss: it is looked for before the weights are used. */
static int train_check_weights(struct train_run *run, struct bp_error *error) {
    const struct bp_program *program = run->instance->program;
    for (int32_t i = 0; i < run->train->trainable_count; i++) {
        const struct bp_tensor *tensor = &program->tensors[run->train->trainable[i]];
        int64_t at = bp_tensor_finite_prefix(tensor, bp_tensor_values(run->instance, run->train->trainable[i]));
        if (at < bp_tensor_count(tensor))
            return bp_fail(
                error, "%s:%d: phase '%s': after its last update '%s' holds a value that is not finite (element %lld)",
                program->source, (int)tensor->line, run->train->name, tensor->name, (long long)at);
    }
    return 1;
}

static enum bp_outcome train_epochs(struct train_run *run, struct bp_error *error) {
    struct bp_progress *progress = &run->progress;
    while (progress->epoch < run->epochs && !progress->stopped) {
        enum bp_outcome outcome = train_epoch(run, error);
        if (outcome == BP_INTERRUPTED)
            return train_interrupted(run, error);
        if (outcome != BP_OK) {
            struct bp_error ignored; /* the first error is the one to tell */
            train_tell_stop(run, "not_finite", error->text, &ignored);
            return outcome;
        }
        train_plateau(run);
        if (!train_early_stopping(run, error) || !train_tell(run, error))
            return BP_FAILED;
        int last = progress->epoch == run->epochs || progress->stopped;
        int due = run->train->checkpoint_every > 0 && progress->epoch % run->train->checkpoint_every == 0;
        if (run->train->checkpoint && (last || due) && !bp_checkpoint_write(run->instance, progress, error))
            return BP_FAILED;
    }
    if (progress->epoch > 0)
        train_take_averages(run);
    return train_restore(run, error) && train_check_weights(run, error) ? BP_OK : BP_FAILED;
}

enum bp_outcome bp_train_run(struct bp_instance *instance, int32_t statement, struct bp_progress *resumed,
                             struct bp_error *error) {
    struct train_run run = {0};
    int32_t index = instance->program->statements[statement].index;
    enum bp_outcome outcome = BP_FAILED;
    run.instance = instance;
    run.train = &instance->program->trains[index];
    run.epochs = instance->options->epochs[index];
    run.steps = instance->options->steps[index];
    if (resumed) {
        run.progress = *resumed; /* ownership moves */
        memset(resumed, 0, sizeof *resumed);
    }
    if ((resumed || bp_progress_start(&run.progress, instance->program, statement, error)) &&
        train_prepare(&run, error) && train_begin(&run, resumed != NULL, error)) {
        outcome = train_keep(&run, error);
        if (outcome == BP_OK)
            outcome = train_epochs(&run, error);
        else if (outcome == BP_INTERRUPTED)
            outcome = train_interrupted(&run, error);
    }
    bp_kept_free(&run.kept);
    bp_progress_free(&run.progress);
    free(run.order);
    free(run.training);
    free(run.validation);
    free(run.last_sums);
    bp_measuring_free(&run.measuring);
    bp_text_free(&run.line);
    return outcome;
}
