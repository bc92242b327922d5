/* The checked program, the graph and the plan become one struct bp_program: what the C printer writes out and the JIT
 * runs. */
#include "program.h"

#include "../graph/build.h"

#include <string.h>

typedef struct Describe {
    Arena *arena;
    GraphProgram *graph;
    const Module *module;
    bool record_paths;
    const CodeFinder *finder;
} Describe;

static int line_of(Span span) {
    return span.source < 0 ? 0 : span_place(span).line;
}

static void *code_of(Describe *d, const char *name) {
    void *code = d->finder->find(d->finder->argument, name);
    if (!code)
        BUG("function %s has no code", name);
    return code;
}

/* ---- functions --------------------------------------------------------------------------------------------------- */

static struct bp_function function_of(Describe *d, const GraphFunction *graph) {
    struct bp_function function = {0};
    if (!graph || !graph->kernels)
        return function;
    const Function *kernels = graph->kernels;
    function.name = kernels->name;
    if (d->finder)
        function.code = (bp_code *)code_of(d, kernels->name);
    function.parallel = kernels->parallel;
    function.capacity = (int32_t)kernels->capacity;
    struct bp_feed *feeds = arena_array(d->arena, struct bp_feed, kernels->buffer_count + 1);
    for (int i = 0; i < kernels->buffer_count; i++) {
        const Buffer *buffer = kernels->buffers[i];
        if (buffer->role != BUFFER_FEED)
            continue;
        enum bp_type type = buffer->scalar == SCALAR_I32 ? BP_I32 : buffer->scalar == SCALAR_F64 ? BP_F64 : BP_F32;
        feeds[function.feed_count++] = (struct bp_feed){.slot = buffer->slot,
                                                        .type = type,
                                                        .offset = buffer->offset,
                                                        .layout = buffer->panels ? BP_PANELS : BP_ROWS,
                                                        .stride = buffer->panels ? buffer->stride : 0,
                                                        .own = buffer->own,
                                                        .partner = buffer->partner};
    }
    function.feeds = feeds;
    if (graph->settle) {
        function.settle_name = graph->settle->name;
        function.settle_after = BP_SETTLE_AFTER;
        if (d->finder)
            function.settle = (bp_code *)code_of(d, graph->settle->name);
    }
    return function;
}

/* ---- data -------------------------------------------------------------------------------------------------------- */

static const struct bp_column *columns_of(Describe *d, const DataSet *data) {
    struct bp_column *columns = arena_array(d->arena, struct bp_column, data->column_count + 1);
    for (int i = 0; i < data->column_count; i++) {
        const DataColumn *from = &data->columns[i];
        struct bp_transform *transforms = arena_array(d->arena, struct bp_transform, from->transform_count + 1);
        for (int j = 0; j < from->transform_count; j++)
            transforms[j] = (struct bp_transform){from->transforms[j].kind, from->transforms[j].argument,
                                                  from->transforms[j].text, from->transforms[j].fitted};
        columns[i] = (struct bp_column){.name = from->name,
                                        .line = line_of(from->span),
                                        .position = from->position,
                                        .categories = from->categories,
                                        .category_count = from->category_count,
                                        .unknown_is_zero = from->unknown_is_zero,
                                        .missing = from->missing,
                                        .missing_count = from->missing_count,
                                        .transforms = transforms,
                                        .transform_count = from->transform_count,
                                        .width = from->width,
                                        .distinct = from->distinct,
                                        .lowercase = from->lowercase,
                                        .counts = from->counts};
        columns[i].kind = from->kind;
    }
    return columns;
}

static const struct bp_slot *slots_of(Describe *d, const DataSet *data) {
    struct bp_slot *slots = arena_array(d->arena, struct bp_slot, data->slot_count + 1);
    for (int i = 0; i < data->slot_count; i++) {
        const DataSlot *from = &data->slots[i];
        int32_t *columns = arena_array(d->arena, int32_t, from->column_count + 1);
        for (int j = 0; j < from->column_count; j++)
            columns[j] = from->columns[j];
        slots[i] = (struct bp_slot){.name = from->name ? from->name : data->columns[from->columns[0]].name,
                                    .type = from->category || from->form == BP_SLOT_WORDS ? BP_I32 : BP_F32,
                                    .form = from->form,
                                    .width = from->width,
                                    .columns = columns,
                                    .column_count = from->column_count,
                                    .is_target = from->target};
    }
    return slots;
}

static const struct bp_file *files_of(Describe *d, const DataSet *data) {
    struct bp_file *files = arena_array(d->arena, struct bp_file, data->file_count + 1);
    for (int i = 0; i < data->file_count; i++) {
        const DataFile *from = &data->files[i];
        files[i] = (struct bp_file){.name = from->name,
                                    .path = d->record_paths ? from->path : NULL,
                                    .part = from->part,
                                    .header = from->header,
                                    .skip = from->skip,
                                    .delimiter = from->delimiter,
                                    .as = from->as};
    }
    return files;
}

static struct bp_data data_of(Describe *d, const DataSet *from) {
    struct bp_data data = {0};
    data.name = from->name;
    data.line = line_of(from->span);
    data.files = files_of(d, from);
    data.file_count = from->file_count;
    data.rows = from->rows;
    data.row_count = from->row_count;
    data.field_count = from->field_count;
    data.field_names = from->field_names;
    data.columns = columns_of(d, from);
    data.column_count = from->column_count;
    data.slots = slots_of(d, from);
    data.slot_count = from->slot_count;
    data.train = from->train;
    data.validation = from->validation;
    data.test = from->test;
    data.stratify = from->stratify;
    data.split_seed = from->split_seed;
    data.folds = from->folds;
    data.fitted_count = from->fitted_count;
    data.fitted_offset = (uint64_t)scalar_of_fitted(d->graph->program, from, 0) * sizeof(double);
    data.preprocessing_from = from->preprocessing_from;
    data.refit = from->refit;
    if (d->graph->logs.at[from->index])
        data.log_name = name_of(arena_printf(d->arena, "%s_log", from->name));
    if (data.log_name && d->finder)
        data.log = (void (*)(float *, int64_t))code_of(d, data.log_name);
    return data;
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static struct bp_tensor tensor_of(const Tensor *from) {
    struct bp_tensor tensor = {
        .name = from->name, .line = line_of(from->span), .rank = from->rank, .offset = from->buffer->offset};
    memcpy(tensor.shape, from->dims, sizeof tensor.shape);
    tensor.layout = from->buffer->panels ? BP_PANELS : BP_ROWS;
    return tensor;
}

static struct bp_model model_of(Describe *d, const ModelInstance *from) {
    struct bp_model model = {
        .name = from->name, .line = line_of(from->span), .data = -1, .tensor_count = from->parameters.count};
    model.first_tensor = from->parameters.count ? from->parameters.at[0]->index : 0;
    model.init = function_of(d, from->init);
    model.from = from->from_path && d->record_paths ? from->from_path : from->from;
    uint8_t *loaded = arena_array(d->arena, uint8_t, from->parameters.count + 1);
    for (int i = 0; i < from->parameters.count; i++)
        loaded[i] = from->parameters.at[i]->loaded;
    model.loaded = loaded;
    double *orthogonal = arena_array(d->arena, double, from->parameters.count + 1);
    for (int i = 0; i < from->parameters.count; i++) {
        orthogonal[i] = from->parameters.at[i]->orthogonal;
        if (orthogonal[i] != 0)
            model.orthogonal = orthogonal;
    }
    if (from->predict) {
        model.data = from->data->index;
        model.predict = function_of(d, from->predict);
        struct bp_output *outputs = arena_array(d->arena, struct bp_output, from->outputs.count + 1);
        for (int i = 0; i < from->outputs.count; i++) {
            const GraphOutput *output = &from->outputs.at[i];
            outputs[i] = (struct bp_output){output->name,           output->kind,    output->width,
                                            output->buffer->offset, output->classes, output->columns};
        }
        model.outputs = outputs;
        model.output_count = from->outputs.count;
    }
    return model;
}

/* ---- measuring and training -------------------------------------------------------------------------------------- */

static struct bp_measure measure_of(Describe *d, const GraphMeasure *from) {
    struct bp_measure measure = {.pass_count = from->passes.count, .metric_count = from->metrics.count};
    struct bp_pass *passes = arena_array(d->arena, struct bp_pass, from->passes.count + 1);
    for (int i = 0; i < from->passes.count; i++) {
        const GraphPass *pass = &from->passes.at[i];
        passes[i] = (struct bp_pass){.accumulate = function_of(d, pass->accumulate),
                                     .finish = function_of(d, pass->finish),
                                     .sums_offset = pass->sums->offset,
                                     .totals_offset = pass->totals->offset,
                                     .sum_count = (int32_t)pass->sum_count};
        struct bp_ranking *rankings = arena_array(d->arena, struct bp_ranking, pass->rankings.count + 1);
        for (int j = 0; j < pass->rankings.count; j++) {
            const GraphRanking *ranking = &pass->rankings.at[j];
            rankings[j] = (struct bp_ranking){ranking->kind, ranking->scores->offset, ranking->truths->offset,
                                              (int32_t)ranking->total};
        }
        passes[i].rankings = rankings;
        passes[i].ranking_count = pass->rankings.count;
    }
    struct bp_metric *metrics = arena_array(d->arena, struct bp_metric, from->metrics.count + 1);
    for (int i = 0; i < from->metrics.count; i++) {
        const GraphMetric *metric = &from->metrics.at[i];
        metrics[i] = (struct bp_metric){metric->name,           metric->rows,   metric->columns,
                                        metric->buffer->offset, metric->labels, metric->better};
    }
    measure.passes = passes;
    measure.metrics = metrics;
    return measure;
}

static struct bp_check check_of(Describe *d, const GraphCheck *from) {
    int count = from->tensors.count;
    struct bp_check check = {.name = from->name,
                             .memory_bytes = from->bytes,
                             .loss_offset = from->loss_buffer->offset,
                             .tensor_count = count};
    check.loss = function_of(d, from->loss);
    check.gradient = function_of(d, from->gradient);
    int32_t *tensors = arena_array(d->arena, int32_t, count + 1);
    uint64_t *parameters = arena_array(d->arena, uint64_t, count + 1),
             *gradients = arena_array(d->arena, uint64_t, count + 1);
    for (int i = 0; i < count; i++) {
        tensors[i] = from->tensors.at[i]->index;
        parameters[i] = from->parameters.at[i]->offset;
        gradients[i] = from->gradients.at[i] ? from->gradients.at[i]->offset : UINT64_MAX;
    }
    check.tensors = tensors;
    check.parameter_offsets = parameters;
    check.gradient_offsets = gradients;
    return check;
}

/* In the order in which the kernels make them. */
static void describe_trace(Describe *d, const GraphFunction *trace, struct bp_train *train) {
    struct bp_trace_point *points = arena_array(d->arena, struct bp_trace_point, trace->sinks.count + 1);
    int count = 0;
    for (int32_t stop = 0; stop < trace->sinks.count; stop++)
        for (int i = 0; i < trace->sinks.count; i++) {
            const Sink *sink = &trace->sinks.at[i];
            const Buffer *buffer = sink->buffer;
            if (buffer && sink->first == stop)
                points[count++] = (struct bp_trace_point){.name = sink->value->label,
                                                          .line = line_of(sink->value->span),
                                                          .offset = buffer->offset,
                                                          .layout = buffer->panels ? BP_PANELS : BP_ROWS,
                                                          .stride = buffer->stride,
                                                          .count = node_elements(sink->value),
                                                          .stop = stop};
        }
    train->trace_points = points;
    train->trace_point_count = count;
    train->trace_stops = trace->stops->offset;
}

static struct bp_prefix prefix_of(Describe *d, const GraphTrain *from) {
    struct bp_prefix prefix = {.function = function_of(d, from->prefix), .value_count = from->kept.count};
    struct bp_kept_value *values = arena_array(d->arena, struct bp_kept_value, from->kept.count + 1);
    for (int i = 0; i < from->kept.count; i++)
        values[i] =
            (struct bp_kept_value){from->kept.at[i].buffer->offset, (int32_t)node_elements(from->kept.at[i].value)};
    prefix.values = values;
    prefix.first_slot = from->kept.count ? (int32_t)from->kept.at[0].input->integer : 0;
    prefix.flops_per_row = from->prefix_flops_per_row;
    return prefix;
}

static struct bp_train train_of(Describe *d, const GraphTrain *from) {
    const TrainPlan *plan = from->plan;
    struct bp_train train = {
        .name = plan->name, .line = line_of(plan->span), .data = plan->data ? plan->data->index : -1};
    int32_t *models = arena_array(d->arena, int32_t, from->models.count + 1);
    for (int i = 0; i < from->models.count; i++)
        models[i] = from->models.at[i]->index;
    train.models = models;
    train.model_count = from->models.count;
    train.state_count = from->states.count;
    train.first_state = from->states.count ? from->states.at[0]->index : 0;
    int count = from->trainable.count, all = count + from->statistics.count;
    int32_t *trainable = arena_array(d->arena, int32_t, all + 1), *averages = arena_array(d->arena, int32_t, all + 1);
    for (int i = 0; i < all; i++) {
        trainable[i] = (i < count ? from->trainable.at[i] : from->statistics.at[i - count])->index;
        averages[i] = i < from->averages.count ? from->averages.at[i]->index : trainable[i];
    }
    train.trainable = trainable;
    train.trainable_count = all;
    train.averages = from->averages.count ? averages : NULL;
    train.start = function_of(d, from->start);
    train.prefix = prefix_of(d, from);
    train.training = measure_of(d, &from->training);
    train.validation = measure_of(d, &from->validation);
    train.first_loss = 1;
    train.loss_count = from->loss_count;
    train.epochs = plan->epochs;
    train.steps = plan->steps;
    train.batch_size = plan->batch_size;
    train.shuffle = plan->shuffle;
    train.early_stopping = (struct bp_early_stopping){.metric = from->monitor,
                                                      .from_training = from->monitor_training,
                                                      .better = from->monitor_better,
                                                      .patience = plan->patience,
                                                      .min_delta = plan->min_delta,
                                                      .start_from_epoch = plan->start_from_epoch,
                                                      .best_in_file = from->best_in_file};
    train.plateau = from->rate.plateau;
    train.checkpoint = plan->checkpoint;
    train.checkpoint_every = plan->checkpoint_every;
    if (plan->class_column >= 0 && plan->class_balanced) {
        struct bp_class_weights *weights = arena_new_of(d->arena, struct bp_class_weights);
        weights->column = plan->class_column;
        weights->offset = (uint64_t)scalar_of_class_weight(d->graph->program, plan) * sizeof(double);
        train.class_weights = weights;
        train.class_weight_count = 1;
    }
    train.flops_per_row = from->flops_per_row;
    train.trace = function_of(d, from->trace);
    describe_trace(d, from->trace, &train);
    struct bp_check *checks = arena_array(d->arena, struct bp_check, from->checks.count + 1);
    for (int i = 0; i < from->checks.count; i++)
        checks[i] = check_of(d, from->checks.at[i]);
    train.checks = checks;
    train.check_count = from->checks.count;
    return train;
}

static struct bp_evaluate evaluate_of(Describe *d, const GraphEvaluate *from) {
    static const char *const parts[] = {"train", "validation", "test", NULL};
    const char *part = from->plan->data->folds > 0 ? "fold" : parts[from->plan->part];
    struct bp_evaluate evaluate = {.line = line_of(from->plan->span),
                                   .model = from->model->index,
                                   .data = from->plan->data->index,
                                   .part = from->plan->part};
    evaluate.name = arena_printf(d->arena, "%s on %s%s%s%s", from->model->name, from->plan->data->name, part ? "." : "",
                                 part ? part : "", from->plan->in ? " in log" : "");
    evaluate.measure = measure_of(d, &from->measure);
    return evaluate;
}

static struct bp_save save_of(Describe *d, const SavePlan *from) {
    struct bp_save save = {.line = line_of(from->span), .path = from->path, .model_count = from->model_count};
    int32_t *models = arena_array(d->arena, int32_t, from->model_count + 1);
    for (int i = 0; i < from->model_count; i++)
        for (int j = 0; j < d->graph->models.count; j++)
            if (d->graph->models.at[j]->item == from->models[i].item)
                models[i] = j;
    save.models = models;
    return save;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

#define DESCRIBE_LIST(field, type, list, expression)                                                                   \
    do {                                                                                                               \
        type *all = arena_array(arena, type, (list).count + 1);                                                        \
        for (int i = 0; i < (list).count; i++)                                                                         \
            all[i] = (expression);                                                                                     \
        program->field = all;                                                                                          \
    } while (0)

static void describe_statements(Describe *d, struct bp_program *program) {
    const Program *checked = d->graph->program;
    int trains = 0, evaluates = 0, saves = 0;
    struct bp_save *save = arena_array(d->arena, struct bp_save, checked->actions.count + 1);
    struct bp_statement *statements = arena_array(d->arena, struct bp_statement, checked->actions.count + 1);
    for (int i = 0; i < checked->actions.count; i++) {
        const Action *action = &checked->actions.at[i];
        statements[i].kind = action->kind;
        if (action->kind == BP_DO_TRAIN)
            statements[i].index = trains++;
        else if (action->kind == BP_DO_EVALUATE)
            statements[i].index = evaluates++;
        else {
            save[saves] = save_of(d, action->save);
            statements[i].index = saves++;
        }
    }
    program->saves = save;
    program->save_count = saves;
    program->statements = statements;
    program->statement_count = checked->actions.count;
}

const struct bp_program *describe_program(Arena *arena, GraphProgram *graph, const Module *module, bool record_paths,
                                          const CodeFinder *finder) {
    Describe describe = {arena, graph, module, record_paths, finder}, *d = &describe;
    const Program *checked = graph->program;
    struct bp_program *program = arena_new_of(arena, struct bp_program);
    program->abi = BP_ABI;
    program->name = checked->name;
    const char *slash = strrchr(checked->path, '/');
    program->source = slash ? slash + 1 : checked->path;
    program->version = BPC_VERSION;
    program->memory_bytes = module->memory_bytes;
    program->scratch_bytes = module->scratch_bytes;
    DESCRIBE_LIST(params, struct bp_param, checked->params,
                  ((struct bp_param){checked->params.at[i].name, checked->params.at[i].value}));
    program->param_count = checked->params.count;
    DESCRIBE_LIST(tensors, struct bp_tensor, graph->tensors, tensor_of(graph->tensors.at[i]));
    program->tensor_count = graph->tensors.count;
    DESCRIBE_LIST(models, struct bp_model, graph->models, model_of(d, graph->models.at[i]));
    program->model_count = graph->models.count;
    DESCRIBE_LIST(data, struct bp_data, checked->data, data_of(d, checked->data.at[i]));
    program->data_count = checked->data.count;
    DESCRIBE_LIST(trains, struct bp_train, graph->trains, train_of(d, graph->trains.at[i]));
    program->train_count = graph->trains.count;
    DESCRIBE_LIST(evaluates, struct bp_evaluate, graph->evaluates, evaluate_of(d, graph->evaluates.at[i]));
    program->evaluate_count = graph->evaluates.count;
    describe_statements(d, program);
    return program;
}
