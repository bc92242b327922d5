/* Where the first value that is not finite came from. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <string.h>

struct diverge_place {
    const char *source;
    char text[256]; /* "epoch 3, batch 5" */
    int64_t epoch, batch;
};

static const char *diverge_word(float value) {
    return isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
}

/* "[3, 0]" of element `at` of a tensor. */
static void diverge_element(const struct bp_tensor *tensor, int64_t at, char out[128]) {
    size_t length = 0;
    int64_t below = bp_tensor_count(tensor);
    out[0] = 0;
    for (int32_t i = 0; i < tensor->rank; i++) {
        below /= tensor->shape[i];
        length += (size_t)snprintf(out + length, 128 - length, "%s%lld", i ? ", " : "[", (long long)(at / below));
        at %= below;
    }
    if (tensor->rank > 0)
        snprintf(out + length, 128 - length, "]");
}

/* A parameter is broken already: the update before this batch did it (before the first: it was loaded or initialised
 * so). */
static int diverge_parameters(struct bp_instance *instance, const struct bp_train *train,
                              const struct diverge_place *place, int64_t batches, struct bp_error *error) {
    const struct bp_program *program = instance->program;
    for (int32_t m = 0; m < train->model_count; m++) {
        const struct bp_model *model = &program->models[train->models[m]];
        for (int32_t i = 0; i < model->tensor_count; i++) {
            const struct bp_tensor *tensor = &program->tensors[model->first_tensor + i];
            const float *values = bp_tensor_values(instance, model->first_tensor + i);
            int64_t at = bp_tensor_finite_prefix(tensor, values);
            char element[128], when[128];
            float value;
            if (at == bp_tensor_count(tensor))
                continue;
            bp_tensor_get(tensor, values, at, 1, &value);
            diverge_element(tensor, at, element);
            if (instance->hosted)
                snprintf(when, sizeof when, "the update before it made");
            else if (place->batch > 0)
                snprintf(when, sizeof when, "the update of batch %lld of epoch %lld made", (long long)place->batch,
                         (long long)place->epoch + 1);
            else if (place->epoch > 0)
                snprintf(when, sizeof when, "the update of batch %lld of epoch %lld made", (long long)batches,
                         (long long)place->epoch);
            else
                snprintf(when, sizeof when, "before the first update there was");
            bp_fail(error, "%s\n%s:%d: %s %s%s %s; a smaller learning rate may help", place->text, place->source,
                    (int)tensor->line, when, tensor->name, element, diverge_word(value));
            return 1;
        }
    }
    return 0;
}

/* Element `at` of a batch, in row-major order. */
static float diverge_value(const struct bp_trace_point *point, const char *memory, int64_t at) {
    const float *values = (const float *)(const void *)(memory + point->offset);
    int64_t row = at / point->count, i = at % point->count;
    if (point->layout == BP_ROWS)
        return values[at];
    return values[(i / BP_PANEL_LANES * point->stride + row) * BP_PANEL_LANES + i % BP_PANEL_LANES];
}

/* Computes the forward pass up to a stop. That is done again and again: only the last values are sure to be there. */
static void diverge_run(const struct bp_sweep *failed, const struct bp_train *train, int32_t stop) {
    struct bp_sweep sweep = *failed;
    double *stops = (double *)(void *)(sweep.memory + train->trace_stops);
    for (int32_t i = 0; i <= stop; i++)
        stops[i] = i < stop ? 0 : NAN;
    sweep.function = &train->trace;
    sweep.kept = NULL; /* the trace computes all of it */
    sweep.step = failed->step + (uint64_t)(failed->done - failed->first);
    sweep.first = failed->done;
    sweep.last = failed->done + 1;
    sweep.sum_count = 0;
    sweep.last_sums = NULL;
    sweep.after = NULL;
    bp_sweep_run(&sweep);
}

static int diverge_trace(const struct bp_sweep *failed, const struct bp_train *train, const struct diverge_place *place,
                         struct bp_error *error) {
    int64_t first_row = failed->done * failed->batch;
    int64_t rows = failed->rows - first_row < failed->batch ? failed->rows - first_row : failed->batch;
    if (!train->trace.code || train->trace.capacity < rows)
        return 0;
    for (int32_t i = 0; i < train->trace_point_count; i++) {
        const struct bp_trace_point *point = &train->trace_points[i];
        if (i == 0 || point->stop != point[-1].stop)
            diverge_run(failed, train, point->stop);
        for (int64_t at = 0; at < rows * point->count; at++) {
            float value = diverge_value(point, failed->memory, at);
            if (isfinite(value))
                continue;
            bp_fail(error,
                    "%s\n%s:%d: the first value that is not finite is in '%s', element %lld, row %lld of data '%.60s' "
                    "(from 1): %s",
                    place->text, place->source, (int)point->line, point->name, (long long)(at % point->count),
                    (long long)failed->order[first_row + at / point->count] + 1, failed->table->data->name,
                    diverge_word(value));
            return 1;
        }
    }
    bp_fail(error, "%s; every value before the loss is finite", place->text);
    return 1;
}

void bp_train_explain(struct bp_instance *instance, const struct bp_sweep *sweep, const struct bp_train *train,
                      int64_t epoch, struct bp_error *error) {
    struct diverge_place place = {instance->program->source, "", epoch, sweep->done};
    int64_t batches = (sweep->rows + sweep->batch - 1) / sweep->batch;
    if (instance->hosted)
        snprintf(place.text, sizeof place.text, "%.80s:%d: phase '%.60s': the loss of step %lld is not finite",
                 place.source, (int)train->line, train->name, (long long)sweep->step + 1);
    else
        snprintf(place.text, sizeof place.text,
                 "%.80s:%d: phase '%.60s': the loss of epoch %lld, batch %lld is not finite", place.source,
                 (int)train->line, train->name, (long long)epoch + 1, (long long)sweep->done + 1);
    if (!diverge_parameters(instance, train, &place, batches, error) && !diverge_trace(sweep, train, &place, error))
        bp_fail(error, "%s", place.text);
}
