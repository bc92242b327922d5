/* `--check-grad`: the gradients that the compiler derived, in double, beside central differences of the loss. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_COORDINATES = 30, CHECK_PIECE = 1024 };
static const double check_tolerance = 1e-5;

struct check_run {
    struct bp_instance *instance;
    const struct bp_train *train;
    const struct bp_check *check;
    char *memory; /* the check's own block */
    struct bp_sweep sweep;
    double base; /* the loss where nothing is moved */
};

static int64_t check_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The head of the block is laid out as the program's: scalars, params, fitted values. */
static void check_head(struct check_run *run) {
    const struct bp_program *program = run->instance->program;
    uint64_t most = run->check->memory_bytes;
    uint64_t bytes = (uint64_t)(BP_SCALAR_COUNT + program->param_count) * sizeof(double);
    memcpy(run->memory, run->instance->memory, (size_t)(bytes < most ? bytes : most));
    for (int32_t i = 0; i < program->data_count; i++) {
        const struct bp_data *data = &program->data[i];
        bytes = (uint64_t)data->fitted_count * sizeof(double);
        if (run->instance->table_loaded[i] && bytes > 0 && data->fitted_offset + bytes <= most)
            memcpy(run->memory + data->fitted_offset, run->instance->memory + data->fitted_offset, (size_t)bytes);
    }
    for (int32_t i = 0; i < run->train->class_weight_count; i++) {
        const struct bp_class_weights *weights = &run->train->class_weights[i];
        const struct bp_column *column = &program->data[run->train->data].columns[weights->column];
        bytes = (uint64_t)column->category_count * sizeof(double);
        if (weights->offset + bytes <= most)
            memcpy(run->memory + weights->offset, run->instance->memory + weights->offset, (size_t)bytes);
    }
}

static double *check_doubles(const struct check_run *run, uint64_t offset) {
    return (double *)(void *)(run->memory + offset);
}

static void check_call(struct check_run *run, const struct bp_function *function) {
    run->sweep.function = function;
    bp_sweep_run(&run->sweep); /* one batch, gathered afresh: the function may reuse the memory of its feeds */
}

static double check_loss(struct check_run *run) {
    check_call(run, &run->check->loss);
    return *check_doubles(run, run->check->loss_offset);
}

/* |gradient - difference| relative to the greater of the two. Rounding leaves about 1e-10 of the loss in a difference
   with steps of 1e-6, so what is smaller than 1e-4 of the loss's size is compared with that instead. At a kink (relu at
   0) the two one-sided slopes differ, be it by one unit of one row, and any slope between them is right. */
static double check_coordinate(struct check_run *run, double *parameter, double gradient) {
    double kept = *parameter, step = 1e-6 * fmax(1, fabs(kept));
    *parameter = kept + step;
    double up = *parameter - kept, above = check_loss(run);
    *parameter = kept - step;
    double down = kept - *parameter, below = check_loss(run);
    *parameter = kept;
    double difference = (above - below) / (up + down);
    double right = (above - run->base) / up, left = (run->base - below) / down, floor = 1e-4 * fmax(1, fabs(run->base));
    double least = fmin(left, right), most = fmax(left, right);
    if (!isfinite(difference) || !isfinite(gradient))
        return INFINITY;
    if (most - least > check_tolerance * fmax(fmax(fabs(left), fabs(right)), floor))
        difference = fmin(fmax(gradient, least), most);
    return fabs(gradient - difference) / fmax(fmax(fabs(gradient), fabs(difference)), floor);
}

static int check_tell(struct check_run *run, const char *name, int64_t checked, double worst, int frozen, int ok,
                      struct bp_error *error) {
    const struct bp_log *log = run->instance->log;
    struct bp_text json = {0};
    char digits[40];
    snprintf(digits, sizeof digits, "%.1e", worst);
    bp_point(digits);
    if (frozen)
        bp_say(log, "  %-32s %8s %12s  %s\n", name, "-", "-", run->check->name ? "not updated" : "frozen");
    else
        bp_say(log, "  %-32s %8lld %12s  %s\n", name, (long long)checked, digits, ok ? "ok" : "WRONG");
    bp_text_printf(&json, "{\"event\":\"check\",\"phase\":");
    bp_text_json(&json, run->train->name);
    bp_text_printf(&json, ",\"tensor\":");
    bp_text_json(&json, name);
    bp_text_printf(&json, ",\"frozen\":%s,\"checked\":%lld,\"error\":", frozen ? "true" : "false", (long long)checked);
    bp_log_number(&json, worst);
    bp_text_printf(&json, ",\"ok\":%s}", ok ? "true" : "false");
    return bp_log_line(run->instance->log, &json, error);
}

/* "fc1.weight"; "G.fc1.weight" where the phase has several models. */
static void check_name(const struct check_run *run, int32_t tensor, char *name, size_t size) {
    const struct bp_program *program = run->instance->program;
    for (int32_t i = 0; i < run->train->model_count && run->train->model_count > 1; i++) {
        const struct bp_model *model = &program->models[run->train->models[i]];
        if (tensor < model->first_tensor || tensor >= model->first_tensor + model->tensor_count)
            continue;
        snprintf(name, size, "%s.%s", model->name, program->tensors[tensor].name);
        return;
    }
    snprintf(name, size, "%s", program->tensors[tensor].name);
}

/* 1 right or frozen, 0 wrong, -1 the log cannot be written. */
static int check_tensor(struct check_run *run, int32_t index, const double *gradient, struct bp_error *error) {
    int32_t tensor_index = run->check->tensors[index];
    const struct bp_tensor *tensor = &run->instance->program->tensors[tensor_index];
    double *parameters = check_doubles(run, run->check->parameter_offsets[index]), worst = 0;
    int64_t count = bp_tensor_count(tensor), checked = count < CHECK_COORDINATES ? count : CHECK_COORDINATES;
    int frozen = gradient == NULL;
    for (int64_t i = 0; !frozen && i < checked; i++) {
        uint64_t draw = bp_random(run->instance->seed, BP_STREAM_CHECK, (uint64_t)tensor_index, (uint32_t)i);
        int64_t at = count <= CHECK_COORDINATES ? i : (int64_t)(draw % (uint64_t)count);
        worst = fmax(worst, check_coordinate(run, &parameters[at], gradient[at]));
    }
    int ok = worst <= check_tolerance;
    char name[256];
    check_name(run, tensor_index, name, sizeof name);
    return check_tell(run, name, frozen ? 0 : checked, worst, frozen, ok, error) ? ok : -1;
}

/* The gradient is copied out of the block: the loss may use its memory. */
static double **check_gradients(struct check_run *run, struct bp_error *error) {
    const struct bp_check *check = run->check;
    double **gradients = bp_allocate(((size_t)check->tensor_count + 1) * sizeof *gradients, "gradients", error);
    for (int32_t i = 0; gradients && i < check->tensor_count; i++) {
        size_t bytes = (size_t)bp_tensor_count(&run->instance->program->tensors[check->tensors[i]]) * sizeof(double);
        if (check->gradient_offsets[i] == UINT64_MAX)
            continue;
        gradients[i] = bp_allocate(bytes + 1, "gradients", error);
        if (!gradients[i]) {
            while (i-- > 0)
                free(gradients[i]);
            free(gradients);
            return NULL;
        }
        memcpy(gradients[i], run->memory + check->gradient_offsets[i], bytes);
    }
    return gradients;
}

/* The weights as they are, row-major. */
static void check_parameters(struct check_run *run) {
    const struct bp_check *check = run->check;
    float piece[CHECK_PIECE];
    for (int32_t i = 0; i < check->tensor_count; i++) {
        const struct bp_tensor *tensor = &run->instance->program->tensors[check->tensors[i]];
        const float *values = bp_tensor_values(run->instance, check->tensors[i]);
        double *parameters = check_doubles(run, check->parameter_offsets[i]);
        int64_t count = bp_tensor_count(tensor);
        for (int64_t first = 0, taken; first < count; first += taken) {
            taken = check_least(count - first, CHECK_PIECE);
            bp_tensor_get(tensor, values, first, taken, piece);
            for (int64_t k = 0; k < taken; k++)
                parameters[first + k] = (double)piece[k];
        }
    }
}

static enum bp_outcome check_tensors(struct check_run *run, int *wrong, struct bp_error *error) {
    const struct bp_check *check = run->check;
    enum bp_outcome outcome = BP_OK;
    check_parameters(run);
    check_call(run, &check->gradient);
    double **gradients = check_gradients(run, error);
    if (!gradients)
        return BP_FAILED;
    run->base = check_loss(run);
    char loss[40];
    snprintf(loss, sizeof loss, "%.9g", run->base);
    bp_point(loss);
    bp_say(run->instance->log, "%s: %s %s over %lld rows\n  %-32s %8s %12s\n", run->train->name,
           check->name ? check->name : "loss", loss, (long long)run->sweep.rows, "tensor", "checked", "error");
    for (int32_t i = 0; outcome == BP_OK && i < check->tensor_count; i++) {
        int right = check_tensor(run, i, gradients[i], error);
        *wrong += right == 0;
        outcome = right < 0 ? BP_FAILED : bp_interrupted() ? BP_INTERRUPTED : BP_OK;
    }
    for (int32_t i = 0; i < check->tensor_count; i++)
        free(gradients[i]);
    free(gradients);
    return outcome;
}

static enum bp_outcome check_phase(struct bp_instance *instance, const struct bp_train *train,
                                   const struct bp_check *check, int *wrong, struct bp_error *error) {
    struct check_run run = {0};
    const int64_t *order = NULL;
    int64_t rows = train->batch_size;
    for (int32_t i = 0; i < train->model_count; i++)
        if (!bp_model_ready(instance, train->models[i], error))
            return BP_FAILED;
    if (train->data >= 0 && (!bp_instance_table(instance, train->data, error) ||
                             !bp_instance_part(instance, train->data, BP_TRAIN, &order, &rows, error)))
        return BP_FAILED;
    bp_class_weights_set(instance, train, order, rows);
    run.instance = instance;
    run.train = train;
    run.check = check;
    run.memory = bp_allocate((size_t)check->memory_bytes, "the check", error);
    if (!run.memory)
        return BP_FAILED;
    rows =
        check_least(check_least(rows, train->batch_size), check_least(check->loss.capacity, check->gradient.capacity));
    double *scalars = bp_scalars(instance);
    scalars[BP_SCALAR_STEPS] = scalars[BP_SCALAR_STEPS_PER_EPOCH] = 1;
    scalars[BP_SCALAR_ROWS] = (double)rows;
    scalars[BP_SCALAR_PLATEAU] = train->plateau.start;
    check_head(&run);
    run.sweep.instance = instance;
    run.sweep.memory = run.memory;
    run.sweep.table = train->data < 0 ? NULL : &instance->tables[train->data];
    run.sweep.order = order;
    run.sweep.rows = run.sweep.batch = rows;
    run.sweep.last = 1;
    run.sweep.training = 1;
    enum bp_outcome outcome = check_tensors(&run, wrong, error);
    free(run.memory);
    return outcome;
}

enum bp_outcome bp_check_run(struct bp_instance *instance, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    int wrong = 0, checked = 0;
    for (int32_t i = 0; i < program->train_count; i++) {
        const struct bp_train *train = &program->trains[i];
        if (instance->options->phase && strcmp(instance->options->phase, train->name) != 0)
            continue;
        for (int32_t j = 0; j < train->check_count; j++) {
            if (!train->checks[j].loss.code || !train->checks[j].gradient.code)
                continue;
            enum bp_outcome outcome = check_phase(instance, train, &train->checks[j], &wrong, error);
            if (outcome != BP_OK)
                return outcome;
            checked++;
        }
    }
    if (checked == 0)
        bp_fail(error, "this program holds no gradient to check");
    else if (wrong > 0)
        bp_fail(error, "%d gradient%s not what finite differences say", wrong, wrong == 1 ? " is" : "s are");
    return checked > 0 && wrong == 0 ? BP_OK : BP_FAILED;
}
