/* `--bench`: how long a training step, or the prediction of a row, takes on rows in memory. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { BENCH_WARM = 3, BENCH_REPEATS = 5, BENCH_BATCHES = 8, BENCH_BYTES = 4 << 20 };

/* ---- Rows out of nowhere ----------------------------------------------------------------------------------------- */
/* About normal: the sum of twelve uniform numbers has variance 1. */
static float bench_number(uint64_t seed, int32_t slot, uint64_t element) {
    double sum = -6;
    for (uint32_t i = 0; i < 12; i++)
        sum += (double)(bp_random(seed, BP_STREAM_BENCH, element, (uint32_t)slot * 16 + i) >> 11) * 0x1p-53;
    return (float)sum;
}

/* How many words a text has. */
static int32_t bench_words(const struct bp_column *column) {
    int32_t most = column->distinct < column->width ? column->distinct : column->width;
    return most < 64 ? most : 64;
}

/* A thousand numbers are drawn and used again and again: the time goes into the bench, not into its rows. */
static void bench_fill(const struct bp_data *data, int32_t index, void *values, int64_t rows, uint64_t seed) {
    const struct bp_slot *slot = &data->slots[index];
    float numbers[1021];
    for (int i = 0; i < 1021; i++)
        numbers[i] = bench_number(seed, index, (uint64_t)i);
    for (int64_t at = 0; at < rows * slot->width; at++) {
        const struct bp_column *column = &data->columns[slot->columns[at % slot->column_count]];
        if (column->kind == BP_WORDS) {
            int32_t word = (int32_t)(at % slot->width), words = bench_words(column);
            if (slot->form == BP_SLOT_WORDS)
                ((int32_t *)values)[at] = word < words ? word * (column->width / words) : -1;
            else
                ((float *)values)[at] = word < words;
            continue;
        }
        int32_t category = 0;
        if (column->kind == BP_CATEGORY && column->category_count > 0)
            category = (int32_t)(bp_random(seed, BP_STREAM_BENCH, (uint64_t)at, (uint32_t)index * 16 + 15) %
                                 (uint64_t)column->category_count);
        if (slot->type == BP_I32)
            ((int32_t *)values)[at] = category;
        else
            ((float *)values)[at] = column->kind == BP_CATEGORY ? (float)category : numbers[at % 1021];
    }
}

static void bench_free(struct bp_table *table, int64_t *order) {
    for (int32_t i = 0; table->slots && i < table->data->slot_count; i++)
        free(table->slots[i]);
    for (int32_t i = 0; table->starts && i < table->data->slot_count; i++)
        free(table->starts[i]);
    free(table->slots);
    free(table->starts);
    free(order);
}

/* Of words: each row's stand at the beginning of its width. */
static int bench_starts(struct bp_table *table, int32_t index, int64_t rows, struct bp_error *error) {
    const struct bp_slot *slot = &table->data->slots[index];
    const struct bp_column *column = &table->data->columns[slot->columns[0]];
    if (column->kind != BP_WORDS)
        return 1;
    int64_t *starts = bp_allocate(((size_t)rows + 1) * sizeof *starts, "rows", error);
    table->starts[index] = starts;
    for (int64_t row = 0; starts && row <= rows; row++)
        starts[row] = row * slot->width;
    return starts != NULL;
}

static int64_t *bench_table(struct bp_table *table, const struct bp_data *data, int64_t rows, uint64_t seed,
                            struct bp_error *error) {
    memset(table, 0, sizeof *table);
    table->data = data;
    table->rows = rows;
    int64_t *order = bp_allocate((size_t)rows * sizeof *order, "rows", error);
    table->slots = bp_allocate(((size_t)data->slot_count + 1) * sizeof *table->slots, "rows", error);
    table->starts = bp_allocate(((size_t)data->slot_count + 1) * sizeof *table->starts, "rows", error);
    int ok = order && table->slots && table->starts;
    for (int32_t i = 0; ok && i < data->slot_count; i++) {
        ok = bench_starts(table, i, rows, error);
        if (!ok)
            break;
        table->slots[i] = bp_allocate((size_t)(rows * data->slots[i].width) * 4 + 4, "rows", error);
        ok = table->slots[i] != NULL;
        if (ok)
            bench_fill(data, i, table->slots[i], rows, seed);
    }
    for (int64_t i = 0; ok && i < rows; i++)
        order[i] = i;
    if (ok)
        return order;
    bench_free(table, order);
    return NULL;
}

/* Values that change nothing: mean 0, deviation 1; minimum 0, range 1. */
static int bench_fitted(struct bp_instance *instance, int32_t data, struct bp_error *error) {
    const struct bp_data *set = &instance->program->data[data];
    double *fitted = bp_allocate(((size_t)set->fitted_count + 1) * sizeof *fitted, "fitted values", error);
    if (!fitted)
        return 0;
    for (int32_t c = 0; c < set->column_count; c++)
        for (int32_t t = 0; t < set->columns[c].transform_count; t++) {
            const struct bp_transform *transform = &set->columns[c].transforms[t];
            if (transform->fitted >= 0 && (transform->kind == BP_STANDARDIZE || transform->kind == BP_MINMAX))
                fitted[transform->fitted + 1] = 1;
        }
    bp_instance_fitted(instance, data, fitted);
    free(fitted);
    return 1;
}

/* ---- What is printed --------------------------------------------------------------------------------------------- */
/* Linux counts the peak of the program that started this one into ru_maxrss, but not into VmHWM. */
static double bench_bytes_peak(void) {
    struct rusage usage;
    unsigned long long kilobytes = bp_memory_read("/proc/self/status", "VmHWM:");
    if (kilobytes > 0)
        return (double)kilobytes * 1024;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
#ifdef __APPLE__
    return (double)usage.ru_maxrss;
#else
    return (double)usage.ru_maxrss * 1024;
#endif
}

static void bench_value(struct bp_text *json, const char *name, double value) {
    bp_text_printf(json, "%s\"%s\": ", json->length ? ", " : "{", name);
    bp_log_number(json, value);
}

static int bench_print(struct bp_instance *instance, struct bp_text *json, int32_t threads, struct bp_error *error) {
    bench_value(json, "threads", (double)threads);
    bench_value(json, "bytes_planned",
                (double)(instance->program->memory_bytes + (uint64_t)threads * instance->program->scratch_bytes));
    bench_value(json, "bytes_peak", bench_bytes_peak());
    int ok = !json->failed || bp_fail(error, "out of memory");
    if (ok)
        printf("%s}\n", json->at);
    bp_text_free(json);
    return ok;
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */
static const struct bp_train *bench_phase(struct bp_instance *instance) {
    const struct bp_program *program = instance->program;
    for (int32_t i = 0; i < program->train_count; i++)
        if (!instance->options->phase || strcmp(program->trains[i].name, instance->options->phase) == 0)
            return &program->trains[i];
    return NULL;
}

static int64_t bench_rows(const struct bp_train *train, const struct bp_data *data) {
    int64_t bytes = 0;
    for (int32_t i = 0; data && i < data->slot_count; i++)
        bytes += (int64_t)data->slots[i].width * 4 * train->batch_size;
    return bytes * BENCH_BATCHES <= BENCH_BYTES ? train->batch_size * BENCH_BATCHES : train->batch_size;
}

/* Seconds for so many steps; negative when interrupted. */
static double bench_steps(struct bp_sweep *sweep, int64_t steps) {
    sweep->first = 0;
    sweep->last = steps;
    double start = bp_seconds();
    bp_sweep_run(sweep);
    sweep->step += (uint64_t)steps;
    return sweep->end == BP_SWEEP_DONE ? bp_seconds() - start : -1;
}

static enum bp_outcome bench_time(struct bp_instance *instance, const struct bp_train *train, struct bp_sweep *sweep,
                                  struct bp_error *error) {
    int64_t steps = instance->options->bench;
    double best = -1;
    if (bench_steps(sweep, BENCH_WARM) < 0)
        return BP_INTERRUPTED;
    for (int i = 0; i < BENCH_REPEATS; i++) {
        double seconds = bench_steps(sweep, steps);
        if (seconds < 0)
            return BP_INTERRUPTED;
        best = best < 0 || seconds < best ? seconds : best;
    }
    best = best > 0 ? best / (double)steps : 1e-9;
    struct bp_text json = {0};
    bench_value(&json, "us_per_step", best * 1e6);
    bench_value(&json, "samples_per_second", (double)train->batch_size / best);
    bench_value(&json, "gflops", train->flops_per_row * (double)train->batch_size / best * 1e-9);
    return bench_print(instance, &json, sweep->threads, error) ? BP_OK : BP_FAILED;
}

/* As a phase of many epochs does. */
static enum bp_outcome bench_keep(struct bp_instance *instance, const struct bp_train *train,
                                  const struct bp_table *table, const int64_t *order, struct bp_kept *kept,
                                  struct bp_error *error) {
    if (!bp_kept_start(kept, &train->prefix, error))
        return BP_FAILED;
    if (!train->prefix.function.code ||
        bp_kept_bytes(&train->prefix, table->rows) > bp_cache_bytes(instance->options) ||
        !bp_kept_reserve(kept, table->rows))
        return BP_OK;
    return bp_kept_fill(kept, instance, table, order, table->rows);
}

static enum bp_outcome bench_train(struct bp_instance *instance, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    const struct bp_train *train = bench_phase(instance);
    if (!train) {
        bp_fail(error, "this program trains nothing");
        return BP_FAILED;
    }
    const struct bp_pass *pass = &train->training.passes[0];
    const struct bp_data *data = train->data < 0 ? NULL : &program->data[train->data];
    struct bp_table table;
    struct bp_sweep sweep = {0};
    struct bp_kept kept = {0};
    int64_t rows = bench_rows(train, data);
    int64_t *order = data ? bench_table(&table, data, rows, instance->seed, error) : NULL;
    sweep.totals = bp_allocate(((size_t)pass->sum_count + 1) * sizeof(double), "sums", error);
    enum bp_outcome outcome = BP_FAILED;
    if ((order || !data) && sweep.totals && (!data || bench_fitted(instance, train->data, error))) {
        double *scalars = bp_scalars(instance);
        for (int32_t i = 0; i < train->model_count; i++)
            bp_model_init(instance, train->models[i]);
        scalars[BP_SCALAR_STEPS] = (double)(BENCH_WARM + BENCH_REPEATS * instance->options->bench);
        scalars[BP_SCALAR_STEPS_PER_EPOCH] = scalars[BP_SCALAR_STEPS];
        scalars[BP_SCALAR_ROWS] = (double)train->batch_size;
        scalars[BP_SCALAR_PLATEAU] = train->plateau.start;
        bp_class_weights_set(instance, train, NULL, 0);
        bp_call(instance, &train->start);
        outcome = bench_keep(instance, train, &table, order, &kept, error);
        sweep.kept = &kept;
        sweep.instance = instance;
        sweep.function = &pass->accumulate;
        sweep.memory = instance->memory;
        sweep.table = &table;
        sweep.order = order;
        sweep.ascending_by_one = 1;
        sweep.rows = rows;
        sweep.batch = train->batch_size;
        sweep.training = 1;
        sweep.sums_offset = pass->sums_offset;
        sweep.sum_count = pass->sum_count;
        if (outcome == BP_OK)
            outcome = bench_time(instance, train, &sweep, error);
    }
    bp_kept_free(&kept);
    free(sweep.totals);
    if (order)
        bench_free(&table, order);
    return outcome;
}

/* ---- Predicting -------------------------------------------------------------------------------------------------- */
/* One row a call, without a team: equal bits, and a single row has no work to share. */
static double bench_calls(struct bp_instance *instance, const struct bp_function *function,
                          const struct bp_table *table, int64_t calls) {
    struct bp_context context = {instance->memory, 1, 0, instance->seed, 0, NULL};
    bp_code *code = function->code;
    double start = bp_seconds();
    for (int64_t call = 0, row = 0; call < calls; call++, row = row + 1 < table->rows ? row + 1 : 0) {
        for (int32_t i = 0; i < function->feed_count; i++) {
            const struct bp_feed *feed = &function->feeds[i];
            int32_t width = table->data->slots[feed->slot].width;
            const void *from = table->slots[feed->slot];
            void *to = instance->memory + feed->offset;
            if (feed->layout == BP_PANELS)
                bp_feed_panels(feed, from, width, &row, 0, 1, to);
            else
                memcpy(to, (const char *)from + row * width * 4, (size_t)width * 4);
        }
        code(&context, 0, 1);
    }
    return bp_seconds() - start;
}

static enum bp_outcome bench_predict(struct bp_instance *instance, struct bp_error *error) {
    int32_t index = bp_predict_model(instance, error);
    if (index < 0)
        return BP_USAGE;
    const struct bp_model *model = &instance->program->models[index];
    struct bp_table table;
    int64_t calls = instance->options->bench;
    int64_t *order = bench_table(&table, &instance->program->data[model->data], BENCH_BATCHES, instance->seed, error);
    if (!order || !bench_fitted(instance, model->data, error)) {
        if (order)
            bench_free(&table, order);
        return BP_FAILED;
    }
    bp_model_init(instance, index);
    bp_scalars(instance)[BP_SCALAR_ROWS] = 1;
    bench_calls(instance, &model->predict, &table, BENCH_WARM);
    double best = -1;
    for (int i = 0; i < BENCH_REPEATS && !bp_interrupted(); i++) {
        double seconds = bench_calls(instance, &model->predict, &table, calls);
        best = best < 0 || seconds < best ? seconds : best;
    }
    bench_free(&table, order);
    if (bp_interrupted())
        return BP_INTERRUPTED;
    best = best > 0 ? best / (double)calls : 1e-9;
    struct bp_text json = {0};
    bench_value(&json, "ns_per_row", best * 1e9);
    bench_value(&json, "rows_per_second", 1 / best);
    return bench_print(instance, &json, 1, error) ? BP_OK : BP_FAILED;
}

enum bp_outcome bp_bench_run(struct bp_instance *instance, struct bp_error *error) {
    return instance->options->command == BP_COMMAND_PREDICT ? bench_predict(instance, error)
                                                            : bench_train(instance, error);
}
