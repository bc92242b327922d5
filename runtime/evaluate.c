/* `evaluate Model on data.part { metrics }`. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>

int bp_evaluate_tell(struct bp_instance *instance, const struct bp_evaluate *evaluate, int64_t rows,
                     const double *values, struct bp_error *error) {
    static const char *const splits[BP_PARTS] = {"train", "validation", "test", "all"};
    const struct bp_data *data = &instance->program->data[evaluate->data];
    struct bp_text json = {0};
    bp_say(instance->log, "%s (%lld row%s)\n", evaluate->name, (long long)rows, rows == 1 ? "" : "s");
    bp_log_table(instance->log, &evaluate->measure, values);
    bp_text_printf(&json, "{\"event\":\"%s\",\"name\":", data->folds > 0 ? "fold" : "evaluate");
    bp_text_json(&json, evaluate->name);
    bp_text_printf(&json, ",\"model\":");
    bp_text_json(&json, instance->program->models[evaluate->model].name);
    bp_text_printf(&json, ",\"data\":");
    bp_text_json(&json, data->name);
    if (data->folds > 0)
        bp_text_printf(&json, ",\"fold\":%d", (int)instance->fold + 1);
    else
        bp_text_printf(&json, ",\"split\":\"%s\"", splits[evaluate->part]);
    bp_text_printf(&json, ",\"rows\":%lld", (long long)rows);
    bp_log_metrics(&json, &evaluate->measure, values, "");
    bp_text_add(&json, "}", 1);
    return bp_log_line(instance->log, &json, error);
}

enum bp_outcome bp_evaluate_values(struct bp_instance *instance, const struct bp_evaluate *evaluate, double *values,
                                   int64_t *rows, struct bp_error *error) {
    const int64_t *order;
    if (!bp_model_ready(instance, evaluate->model, error) || !bp_instance_table(instance, evaluate->data, error) ||
        !bp_instance_part(instance, evaluate->data, evaluate->part, &order, rows, error))
        return BP_FAILED;
    int measured = bp_measure_run(instance, &evaluate->measure, evaluate->data, order, *rows, values, error);
    return measured == 1 ? BP_OK : measured < 0 ? BP_INTERRUPTED : BP_FAILED;
}

enum bp_outcome bp_evaluate_run(struct bp_instance *instance, const struct bp_evaluate *evaluate,
                                struct bp_error *error) {
    int64_t rows;
    double *values =
        bp_allocate(((size_t)bp_measure_values(&evaluate->measure) + 1) * sizeof *values, "metrics", error);
    if (!values)
        return BP_FAILED;
    enum bp_outcome outcome = bp_evaluate_values(instance, evaluate, values, &rows, error);
    if (outcome == BP_OK && !bp_evaluate_tell(instance, evaluate, rows, values, error))
        outcome = BP_FAILED;
    free(values);
    return outcome;
}
