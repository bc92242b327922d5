/* A program inside another one: what a header of `bpc --emit=header` declares calls these. Rows come from the host in
   the file's units, as structs of float and int32_t in the order of the data set's slots; nothing is read, printed or
   ended here but by save and load. All state hangs from the handle: many may live at once, each used by one thread at a
   time. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- State ------------------------------------------------------------------------------------------------------- */
/* One data set: rows on their way from the host's structs to slots, `capacity` at a time. */
struct host_data {
    struct bp_raw raw;
    int64_t capacity;
    int known; /* fitted values are there */
};

struct host_phase {
    int started;
    uint64_t steps;                 /* updates done */
    int64_t planned, planned_epoch; /* bp_host_plan; 0: not said */
    double *totals, *last_sums;     /* [sum_count] */
    double *values;                 /* of the metrics */
};

struct bp_host {
    struct bp_instance instance;
    struct bp_options options;
    struct bp_log log;
    struct host_data *data;
    struct host_phase *phases;
};

static _Thread_local struct bp_error host_error;

const char *bp_host_error(void) {
    return host_error.text;
}

enum { HOST_DONE = 0, HOST_FAILED = -1 };

static int host_outcome(int done) {
    return done ? HOST_DONE : HOST_FAILED;
}

/* ---- Start and end ----------------------------------------------------------------------------------------------- */
static int64_t host_capacity(const struct bp_program *program, int32_t data) {
    int64_t most = 1;
    for (int32_t i = 0; i < program->train_count; i++)
        if (program->trains[i].data == data && program->trains[i].batch_size > most)
            most = program->trains[i].batch_size;
    for (int32_t i = 0; i < program->model_count; i++)
        if (program->models[i].data == data && program->models[i].predict.capacity > most)
            most = program->models[i].predict.capacity;
    return most;
}

static void host_end_raw(struct bp_raw *raw) {
    for (int32_t i = 0; i < raw->data->column_count; i++) {
        if (raw->values)
            free(raw->values[i]);
        if (raw->missing)
            free(raw->missing[i]);
        if (raw->arrays)
            free(raw->arrays[i]);
    }
    free(raw->arrays);
    free(raw->values);
    free(raw->missing);
    free(raw->places);
    memset(raw, 0, sizeof *raw);
}

static int host_start_raw(struct bp_raw *raw, const struct bp_data *data, int64_t rows, struct bp_error *error) {
    size_t columns = (size_t)data->column_count + 1;
    memset(raw, 0, sizeof *raw);
    raw->data = data;
    raw->rows = rows;
    raw->values = bp_allocate(columns * sizeof *raw->values, "columns", error);
    raw->missing = bp_allocate(columns * sizeof *raw->missing, "columns", error);
    raw->arrays = bp_allocate(columns * sizeof *raw->arrays, "columns", error);
    raw->places = bp_allocate((size_t)rows * sizeof *raw->places, "rows", error);
    int done = raw->values && raw->missing && raw->arrays && raw->places;
    for (int32_t i = 0; done && i < data->column_count; i++) {
        const struct bp_column *column = &data->columns[i];
        if (column->kind == BP_ARRAY) {
            raw->arrays[i] = bp_allocate((size_t)rows * (size_t)column->width * sizeof(float), column->name, error);
            done = raw->arrays[i] != NULL;
            continue;
        }
        raw->values[i] = bp_allocate((size_t)rows * sizeof(double), data->columns[i].name, error);
        raw->missing[i] = bp_allocate((size_t)rows, data->columns[i].name, error);
        done = raw->values[i] && raw->missing[i];
    }
    for (int64_t row = 0; done && row < rows; row++)
        raw->places[row] = (struct bp_place){-1, row + 1};
    if (!done)
        host_end_raw(raw);
    return done;
}

static int host_start_table(struct bp_table *table, const struct bp_data *data, int64_t capacity,
                            struct bp_error *error) {
    table->data = data;
    table->rows = capacity;
    table->slots = bp_allocate(((size_t)data->slot_count + 1) * sizeof *table->slots, "the table", error);
    table->fitted = bp_allocate(((size_t)data->fitted_count + 1) * sizeof(double), "fitted values", error);
    int64_t *order = bp_allocate((size_t)capacity * sizeof *order, "rows", error);
    table->parts[BP_ALL] = order;
    int done = table->slots && table->fitted && order;
    for (int32_t i = 0; done && i < data->slot_count; i++) {
        table->slots[i] = bp_allocate((size_t)(capacity * data->slots[i].width) * 4, data->slots[i].name, error);
        done = table->slots[i] != NULL;
    }
    for (int64_t row = 0; done && row < capacity; row++)
        order[row] = row;
    return done;
}

static int host_start_data(struct bp_host *host, int32_t index, struct bp_error *error) {
    const struct bp_data *data = &host->instance.program->data[index];
    struct host_data *own = &host->data[index];
    if (bp_data_has_words(data))
        return bp_fail(error, "data '%s' has texts, and a host's rows have none", data->name);
    own->capacity = host_capacity(host->instance.program, index);
    own->known = data->fitted_count == 0;
    host->instance.table_loaded[index] = 1; /* whatever becomes of it: it is freed with the instance */
    host->instance.tables[index].data = data;
    return host_start_raw(&own->raw, data, own->capacity, error) &&
           host_start_table(&host->instance.tables[index], data, own->capacity, error);
}

static int host_start_phase(struct bp_host *host, int32_t index, struct bp_error *error) {
    const struct bp_train *train = &host->instance.program->trains[index];
    struct host_phase *phase = &host->phases[index];
    size_t sums = (size_t)train->training.passes[0].sum_count + 1;
    phase->totals = bp_allocate(sums * sizeof(double), "sums", error);
    phase->last_sums = bp_allocate(sums * sizeof(double), "sums", error);
    phase->values = bp_allocate(((size_t)bp_measure_values(&train->training) + 1) * sizeof(double), "metrics", error);
    return phase->totals && phase->last_sums && phase->values;
}

static int host_start(struct bp_host *host, const struct bp_program *program, uint64_t seed, struct bp_error *error) {
    size_t params = (size_t)program->param_count + 1, data = (size_t)program->data_count + 1;
    host->log.quiet = 1;
    host->options.seed = seed;
    host->options.threads = 1;
    host->options.data_paths = bp_allocate(data * sizeof *host->options.data_paths, "options", error);
    host->options.params = bp_allocate(params * sizeof *host->options.params, "options", error);
    host->data = bp_allocate(data * sizeof *host->data, "the data sets", error);
    host->phases = bp_allocate(((size_t)program->train_count + 1) * sizeof *host->phases, "the phases", error);
    if (!host->options.data_paths || !host->options.params || !host->data || !host->phases)
        return 0;
    for (int32_t i = 0; i < program->param_count; i++)
        host->options.params[i] = program->params[i].value;
    if (!bp_instance_start(&host->instance, program, &host->options, &host->log, error))
        return 0;
    host->instance.hosted = 1;
    for (int32_t i = 0; i < program->data_count; i++)
        if (!host_start_data(host, i, error))
            return 0;
    for (int32_t i = 0; i < program->train_count; i++)
        if (!host_start_phase(host, i, error))
            return 0;
    return 1;
}

static int host_takes_rows(const struct bp_program *program, struct bp_error *error) {
    for (int32_t i = 0; i < program->data_count; i++)
        for (int32_t j = 0; j < program->data[i].slot_count; j++)
            if (program->data[i].slots[j].form == BP_SLOT_WORDS)
                return bp_fail(error, "a host cannot give text, such as '%s', to a network yet",
                               program->data[i].slots[j].name);
    return 1;
}

struct bp_host *bp_host_create(const struct bp_program *program, uint64_t seed) {
    if (program->abi != BP_ABI) {
        bp_fail(&host_error, "%s was compiled for runtime %d, this one is %d: compile it again", program->name,
                (int)program->abi, BP_ABI);
        return NULL;
    }
    if (!host_takes_rows(program, &host_error))
        return NULL;
    struct bp_host *host = bp_allocate(sizeof *host, "the network", &host_error);
    if (host && !host_start(host, program, seed, &host_error)) {
        bp_host_destroy(host);
        host = NULL;
    }
    return host;
}

void bp_host_destroy(struct bp_host *host) {
    if (!host)
        return;
    const struct bp_program *program = host->instance.program; /* NULL: it never began */
    for (int32_t i = 0; program && i < program->data_count; i++)
        if (host->data[i].raw.values)
            host_end_raw(&host->data[i].raw);
    for (int32_t i = 0; program && i < program->train_count; i++) {
        free(host->phases[i].totals);
        free(host->phases[i].last_sums);
        free(host->phases[i].values);
    }
    if (program)
        bp_instance_free(&host->instance);
    free(host->data);
    free(host->phases);
    free(host->options.data_paths);
    free(host->options.params);
    free(host);
}

/* ---- Settings ---------------------------------------------------------------------------------------------------- */
int bp_host_threads(struct bp_host *host, int32_t threads) {
    if (threads < 1 || threads > BP_MAX_THREADS)
        return host_outcome(bp_fail(&host_error, "%d threads: 1 to %d can be had", (int)threads, BP_MAX_THREADS));
    return host_outcome(bp_instance_threads(&host->instance, threads, &host_error));
}

int bp_host_set(struct bp_host *host, const char *name, double value) {
    const struct bp_program *program = host->instance.program;
    if (!isfinite(value))
        return host_outcome(bp_fail(&host_error, "'%.200s' cannot be a number that is not finite", name));
    for (int32_t i = 0; i < program->param_count; i++)
        if (strcmp(program->params[i].name, name) == 0) {
            bp_scalars(&host->instance)[BP_SCALAR_COUNT + i] = value;
            return HOST_DONE;
        }
    return host_outcome(bp_fail(&host_error, "%s has no param '%.200s'", program->source, name));
}

int bp_host_plan(struct bp_host *host, int32_t train, int64_t steps, int64_t steps_per_epoch) {
    if (steps < 1 || steps_per_epoch < 1)
        return host_outcome(bp_fail(&host_error, "a plan of %lld steps, %lld an epoch: both must be 1 or more",
                                    (long long)steps, (long long)steps_per_epoch));
    host->phases[train].planned = steps;
    host->phases[train].planned_epoch = steps_per_epoch;
    return HOST_DONE;
}

/* ---- Rows in ----------------------------------------------------------------------------------------------------- */
static int host_fills_missing(const struct bp_column *column) {
    for (int32_t i = 0; i < column->transform_count; i++) {
        enum bp_transform_kind kind = column->transforms[i].kind;
        if (kind == BP_IMPUTE_MEAN || kind == BP_IMPUTE_MEDIAN || kind == BP_IMPUTE_MOST_FREQUENT ||
            kind == BP_IMPUTE_CONSTANT)
            return 1;
    }
    return 0;
}

static int host_missing(struct bp_raw *raw, int32_t column, int64_t row, int64_t place, struct bp_error *error) {
    if (!host_fills_missing(&raw->data->columns[column]))
        return bp_fail(error, "row %lld: '%s' is missing, and the program says nothing of that", (long long)place + 1,
                       raw->data->columns[column].name);
    raw->values[column][row] = 0;
    raw->missing[column][row] = 1;
    return 1;
}

static int host_take_number(struct bp_raw *raw, int32_t column, int64_t row, int64_t place, float value,
                            struct bp_error *error) {
    raw->values[column][row] = (double)value;
    raw->missing[column][row] = 0;
    if (isfinite(value))
        return 1;
    if (isnan(value))
        return host_missing(raw, column, row, place, error);
    return bp_fail(error, "row %lld: '%s' is infinite", (long long)place + 1, raw->data->columns[column].name);
}

static int host_take_category(struct bp_raw *raw, int32_t column, int64_t row, int64_t place, int32_t value,
                              struct bp_error *error) {
    const struct bp_column *described = &raw->data->columns[column];
    raw->values[column][row] = (double)value;
    raw->missing[column][row] = 0;
    if (value >= 0 && value < described->category_count)
        return 1;
    if (value == -1 && described->unknown_is_zero)
        return 1;
    if (value == -1)
        return host_missing(raw, column, row, place, error);
    return bp_fail(error, "row %lld: '%s' is category %d of %d", (long long)place + 1, described->name, (int)value,
                   (int)described->category_count);
}

static int host_take_element(struct bp_raw *raw, const struct bp_slot *slot, int64_t row, int64_t place,
                             int32_t element, float number, struct bp_error *error) {
    raw->arrays[slot->columns[0]][row * slot->width + element] = number;
    return isfinite(number) || bp_fail(error, "row %lld: element %d of '%s' is not a finite number",
                                       (long long)place + 1, (int)element, slot->name);
}

/* Rows `first` .. `first` + raw->rows - 1 of the host's structs, the inputs' or the targets'. */
static int host_take(struct bp_raw *raw, const void *structs, int targets, int64_t first, struct bp_error *error) {
    const struct bp_data *data = raw->data;
    size_t width = 0;
    for (int32_t i = 0; i < data->slot_count; i++)
        width += data->slots[i].is_target == targets ? (size_t)data->slots[i].width : 0;
    for (int64_t row = 0; row < raw->rows; row++) {
        const char *at = (const char *)structs + (size_t)(first + row) * width * 4;
        for (int32_t i = 0; i < data->slot_count; i++) {
            const struct bp_slot *slot = &data->slots[i];
            for (int32_t j = 0; slot->is_target == targets && j < slot->width; j++, at += 4) {
                float number;
                int32_t category;
                memcpy(&number, at, 4);
                memcpy(&category, at, 4);
                if (!(slot->form == BP_SLOT_ARRAY ? host_take_element(raw, slot, row, first + row, j, number, error)
                      : slot->type == BP_I32
                          ? host_take_category(raw, slot->columns[j], row, first + row, category, error)
                          : host_take_number(raw, slot->columns[j], row, first + row, number, error)))
                    return 0;
            }
        }
    }
    return 1;
}

/* Transformed, into the slots of the kind. */
static int host_fill(struct bp_host *host, int32_t data, int targets, struct bp_error *error) {
    struct bp_raw *raw = &host->data[data].raw;
    struct bp_table *table = &host->instance.tables[data];
    for (int32_t i = 0; i < raw->data->slot_count; i++) {
        const struct bp_slot *slot = &raw->data->slots[i];
        if (slot->is_target != targets)
            continue;
        for (int32_t j = 0; j < slot->column_count; j++)
            if (!bp_transform_column(raw, slot->columns[j], table->fitted, error))
                return 0;
        if (!bp_fill_slot(raw, slot, table->slots[i], error))
            return 0;
    }
    return 1;
}

static int host_rows(struct bp_host *host, int32_t data, const void *x, const void *y, int64_t first, int64_t rows,
                     struct bp_error *error) {
    struct bp_raw *raw = &host->data[data].raw;
    raw->rows = rows;
    return (!x || (host_take(raw, x, 0, first, error) && host_fill(host, data, 0, error))) &&
           (!y || (host_take(raw, y, 1, first, error) && host_fill(host, data, 1, error)));
}

/* ---- Fitted values ----------------------------------------------------------------------------------------------- */
static void host_know(struct bp_host *host, int32_t data, const double *fitted) {
    const struct bp_data *described = &host->instance.program->data[data];
    memcpy(host->instance.tables[data].fitted, fitted, (size_t)described->fitted_count * sizeof *fitted);
    bp_instance_fitted(&host->instance, data, fitted);
    host->data[data].known = 1;
}

/* Rows without inputs or without targets have no structs for them. */
static int host_lacks(const struct bp_data *data, const void *structs, int targets) {
    for (int32_t i = 0; i < data->slot_count; i++)
        if (data->slots[i].is_target == targets)
            return structs == NULL;
    return 0;
}

int bp_host_fit(struct bp_host *host, int32_t data, const void *x, const void *y, int64_t rows) {
    const struct bp_data *described = &host->instance.program->data[data];
    struct bp_raw raw;
    struct bp_table table = {.data = described};
    if (host_lacks(described, x, 0) || host_lacks(described, y, 1) || rows < 1)
        return host_outcome(bp_fail(&host_error, "there are no rows to fit on"));
    if (rows > PTRDIFF_MAX / 16)
        return host_outcome(bp_fail(&host_error, "%lld rows are too many", (long long)rows));
    if (!host_start_raw(&raw, described, rows, &host_error))
        return HOST_FAILED;
    int64_t *order = bp_allocate((size_t)rows * sizeof *order, "rows", &host_error);
    for (int64_t row = 0; order && row < rows; row++)
        order[row] = row;
    table.parts[BP_TRAIN] = order;
    table.part_rows[BP_TRAIN] = rows;
    int done = order && (!x || host_take(&raw, x, 0, 0, &host_error)) &&
               (!y || host_take(&raw, y, 1, 0, &host_error)) && bp_fit_columns(&raw, &table, NULL, &host_error);
    if (done)
        host_know(host, data, table.fitted);
    free(table.fitted);
    free(order);
    host_end_raw(&raw);
    return host_outcome(done);
}

/* Those of the checkpoint that the program names; else they must have been fitted or loaded. */
static int host_fitted(struct bp_host *host, int32_t data, struct bp_error *error) {
    const struct bp_data *described = &host->instance.program->data[data];
    int given = 0;
    if (host->data[data].known)
        return 1;
    double *fitted = bp_allocate((size_t)described->fitted_count * sizeof *fitted, "fitted values", error);
    int done = fitted && bp_instance_given(&host->instance, data, fitted, &given, error);
    if (done && given)
        host_know(host, data, fitted);
    else if (done)
        done = bp_fail(error, "the preprocessing of data '%s' is not fitted: call fit, or load weights, first",
                       described->name);
    free(fitted);
    return done;
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */
static int host_train_ready(struct bp_host *host, int32_t train, struct bp_error *error) {
    const struct bp_train *described = &host->instance.program->trains[train];
    if (described->class_weight_count > 0)
        return bp_fail(error,
                       "phase '%s' balances the classes of a training part, and a host's rows have none: give the "
                       "weights in the program, class_weight [1, 5]",
                       described->name);
    for (int32_t i = 0; i < described->model_count; i++)
        if (!bp_model_ready(&host->instance, described->models[i], error))
            return 0;
    return host_fitted(host, described->data, error);
}

/* Without a plan a schedule that depends on the length stays where it begins. */
static void host_scalars(struct bp_host *host, const struct host_phase *phase) {
    static const double endless = 9007199254740992; /* 2^53 */
    double *scalars = bp_scalars(&host->instance);
    scalars[BP_SCALAR_STEP] = (double)phase->steps;
    scalars[BP_SCALAR_PLATEAU] = host->instance.program->trains[phase - host->phases].plateau.start;
    scalars[BP_SCALAR_EPOCH] = phase->planned ? (double)(phase->steps / (uint64_t)phase->planned_epoch) : 0;
    scalars[BP_SCALAR_STEPS] = phase->planned ? (double)phase->planned : endless;
    scalars[BP_SCALAR_STEPS_PER_EPOCH] = phase->planned ? (double)phase->planned_epoch : endless;
}

static void host_measure(struct bp_host *host, int32_t train, const double *sums, int64_t rows) {
    const struct bp_measure *measure = &host->instance.program->trains[train].training;
    bp_measure_finish(&host->instance, &measure->passes[0], sums, rows);
    bp_measure_copy(&host->instance, measure, host->phases[train].values);
}

/* One update with the rows that lie in the slots. A metric that is not finite is none of the loss's business. */
static int host_update(struct bp_host *host, int32_t train, int64_t rows, struct bp_error *error) {
    const struct bp_train *described = &host->instance.program->trains[train];
    const struct bp_pass *pass = &described->training.passes[0];
    struct host_phase *phase = &host->phases[train];
    /* the host's rows are new each time: nothing can be kept */
    const struct bp_kept kept = {.prefix = &described->prefix,
                                 .numbers = host->instance.tables[described->data].parts[BP_ALL]};
    struct bp_sweep sweep = {.instance = &host->instance,
                             .kept = &kept,
                             .function = &pass->accumulate,
                             .memory = host->instance.memory,
                             .table = &host->instance.tables[described->data],
                             .order = host->instance.tables[described->data].parts[BP_ALL],
                             .ascending_by_one = 1,
                             .rows = rows,
                             .batch = described->batch_size,
                             .last = 1,
                             .training = 1,
                             .step = phase->steps,
                             .sums_offset = pass->sums_offset,
                             .sum_count = pass->sum_count,
                             .totals = phase->totals,
                             .last_sums = phase->last_sums};
    host_scalars(host, phase);
    bp_sweep_run(&sweep);
    if (sweep.end == BP_SWEEP_NOT_FINITE) {
        host_measure(host, train, phase->last_sums, rows);
        if (!isfinite(phase->values[0])) {
            bp_train_explain(&host->instance, &sweep, described, (int64_t)phase->steps, error);
            return 0;
        }
        for (int32_t i = 0; i < pass->sum_count; i++)
            phase->totals[i] += phase->last_sums[i];
    }
    phase->steps++;
    return 1;
}

static int host_train(struct bp_host *host, int32_t train, const void *x, const void *y, int64_t rows, double *loss,
                      struct bp_error *error) {
    const struct bp_train *described = &host->instance.program->trains[train];
    struct host_phase *phase = &host->phases[train];
    const struct bp_data *data = &host->instance.program->data[described->data];
    if (host_lacks(data, x, 0) || host_lacks(data, y, 1) || rows < 1)
        return bp_fail(error, "there are no rows to train on");
    if (!host_train_ready(host, train, error))
        return 0;
    if (!phase->started) {
        host_scalars(host, phase);
        bp_call(&host->instance, &described->start);
        phase->started = 1;
    }
    memset(phase->totals, 0, (size_t)described->training.passes[0].sum_count * sizeof(double));
    for (int64_t first = 0, count; first < rows; first += count) {
        count = rows - first < described->batch_size ? rows - first : described->batch_size;
        if (!host_rows(host, described->data, x, y, first, count, error) || !host_update(host, train, count, error))
            return 0;
    }
    if (loss) {
        host_measure(host, train, phase->totals, rows);
        *loss = phase->values[0];
    }
    return 1;
}

int bp_host_train_step(struct bp_host *host, int32_t train, const void *x, const void *y, int64_t rows, double *loss) {
    return host_outcome(host_train(host, train, x, y, rows, loss, &host_error));
}

/* ---- Predicting -------------------------------------------------------------------------------------------------- */
static int32_t host_class(const struct bp_output *output, const float *values) {
    int32_t best = 0;
    if (output->kind == BP_OUTPUT_BINARY)
        return values[0] >= 0.5F;
    for (int32_t i = 1; i < output->width; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

/* One row's outputs, one after another: a class stands before its probabilities. */
static int host_give(const struct bp_host *host, const struct bp_model *model, int64_t row, int64_t place, char **to,
                     struct bp_error *error) {
    for (int32_t i = 0; i < model->output_count; i++) {
        const struct bp_output *output = &model->outputs[i];
        const float *values = (const float *)(const void *)(host->instance.memory + output->offset);
        values += row * output->width;
        if (output->kind != BP_OUTPUT_NUMBER) {
            if (bp_finite_prefix(values, output->width) < output->width)
                return bp_fail(error, "row %lld: the probabilities of '%s' are not numbers", (long long)place + 1,
                               output->name);
            int32_t class = host_class(output, values);
            memcpy(*to, &class, sizeof class);
            *to += sizeof class;
        }
        memcpy(*to, values, (size_t)output->width * sizeof *values);
        *to += (size_t)output->width * sizeof *values;
    }
    return 1;
}

static int host_predict(struct bp_host *host, int32_t model, const void *x, int64_t rows, void *out,
                        struct bp_error *error) {
    const struct bp_model *described = &host->instance.program->models[model];
    int64_t capacity = described->predict.capacity;
    char *to = out;
    if (!x || !out || rows < 1)
        return bp_fail(error, "there are no rows to predict for");
    if (!bp_model_ready(&host->instance, model, error) || !host_fitted(host, described->data, error))
        return 0;
    struct bp_sweep sweep = {.instance = &host->instance,
                             .function = &described->predict,
                             .memory = host->instance.memory,
                             .table = &host->instance.tables[described->data],
                             .order = host->instance.tables[described->data].parts[BP_ALL],
                             .ascending_by_one = 1,
                             .batch = capacity,
                             .last = 1};
    for (int64_t first = 0; first < rows; first += sweep.rows) {
        sweep.rows = rows - first < capacity ? rows - first : capacity;
        if (!host_rows(host, described->data, x, NULL, first, sweep.rows, error))
            return 0;
        bp_sweep_run(&sweep);
        for (int64_t row = 0; row < sweep.rows; row++)
            if (!host_give(host, described, row, first + row, &to, error))
                return 0;
    }
    return 1;
}

int bp_host_predict(struct bp_host *host, int32_t model, const void *x, int64_t rows, void *out) {
    return host_outcome(host_predict(host, model, x, rows, out, &host_error));
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */
int bp_host_save(struct bp_host *host, int32_t model, const char *path) {
    struct bp_save save = {0, path, &model, 1};
    int32_t data = host->instance.program->models[model].data;
    return host_outcome(bp_model_ready(&host->instance, model, &host_error) &&
                        (data < 0 || host_fitted(host, data, &host_error)) &&
                        bp_model_save(&host->instance, &save, &host_error));
}

/* The model's tensors, as they lie, to or from a copy. */
static void host_copy(struct bp_host *host, const struct bp_model *model, float *copy, int restore) {
    for (int32_t i = 0; i < model->tensor_count; i++) {
        int64_t count = bp_tensor_stored(&host->instance.program->tensors[model->first_tensor + i]);
        float *values = bp_tensor_values(&host->instance, model->first_tensor + i);
        memcpy(restore ? values : copy, restore ? copy : values, (size_t)count * sizeof *values);
        copy += count;
    }
}

static int host_load(struct bp_host *host, int32_t model, const char *path, double *fitted, float *copy,
                     struct bp_error *error) {
    const struct bp_program *program = host->instance.program;
    const struct bp_model *described = &program->models[model];
    struct bp_archive archive;
    if (!bp_archive_open(&archive, path, error))
        return 0;
    host_copy(host, described, copy, 0);
    uint8_t was_ready = host->instance.model_ready[model];
    if (!was_ready)
        bp_model_init(&host->instance, model);
    int done = bp_model_load(&host->instance, model, &archive, NULL, error) &&
               bp_predict_same_classes(described, &archive, error) &&
               (described->data < 0 || bp_model_fitted(&program->data[described->data], &archive, fitted, error));
    bp_archive_close(&archive);
    if (!done) { /* all or nothing */
        host_copy(host, described, copy, 1);
        host->instance.model_ready[model] = was_ready;
        return 0;
    }
    if (described->data >= 0)
        host_know(host, described->data, fitted);
    for (int32_t i = 0; i < program->train_count; i++) /* what an optimizer remembers is of other weights */
        for (int32_t m = 0; m < program->trains[i].model_count; m++)
            if (program->trains[i].models[m] == model) {
                host->phases[i].started = 0;
                host->phases[i].steps = 0;
            }
    return 1;
}

int bp_host_load(struct bp_host *host, int32_t model, const char *path) {
    const struct bp_program *program = host->instance.program;
    const struct bp_model *described = &program->models[model];
    int32_t fitted_count = described->data < 0 ? 0 : program->data[described->data].fitted_count;
    int64_t stored = 1;
    for (int32_t i = 0; i < described->tensor_count; i++)
        stored += bp_tensor_stored(&program->tensors[described->first_tensor + i]);
    double *fitted = bp_allocate(((size_t)fitted_count + 1) * sizeof *fitted, "fitted values", &host_error);
    float *copy = bp_allocate((size_t)stored * sizeof *copy, "a copy of the weights", &host_error);
    int done = fitted && copy && host_load(host, model, path, fitted, copy, &host_error);
    free(fitted);
    free(copy);
    return host_outcome(done);
}
