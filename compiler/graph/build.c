/* The statements of a program in order, each elaborated; then what every model needs: its first values, its
 * predictions. */
#include "build.h"

#include "../../runtime/runtime.h"

#include <string.h>

#define SWEEP_ROWS 128 /* rows a call when evaluating or predicting */

/* ---- evaluate ---------------------------------------------------------------------------------------------------- */

/* A model that this file does not train: its base's losses say how to read it; failing that, its targets do. */
static void assume_roles(Build *build, ModelInstance *model, const DataSet *data, const Term *outputs) {
    for (const ModelInstance *base = model->base; base; base = base->base)
        if (base->roles.count == model->output_names.count) {
            for (int i = 0; i < base->roles.count; i++)
                *LIST_ADD(build->arena, &model->roles) = base->roles.at[i];
            for (int i = 0; i < model->roles.count; i++)
                if (model->roles.at[i].data && model->roles.at[i].data != data)
                    model->roles.at[i].data = NULL;
            if (base->roles.at[0].data == data) {
                model->data = data;
                return;
            }
            model->roles.count = 0;
        }
    const DataSlot *slot = NULL;
    for (int i = 0; i < data->slot_count; i++)
        if (data->slots[i].target)
            slot = &data->slots[i];
    for (int i = 0; i < model->output_names.count; i++) {
        const Term *output = outputs->kind == TERM_TUPLE ? &outputs->at[i] : outputs;
        OutputRole role = {0};
        if (slot && output->kind == TERM_NODE) {
            Interval range = interval_of(build->graph, output->node);
            bool raw = !(range.low >= 0 && range.high <= 1);
            role = (OutputRole){NULL, data, slot->columns[0], slot->width};
            if (slot->category && raw)
                role.link = name_of(node_elements(output->node) == 1 ? "sigmoid" : "softmax");
        }
        *LIST_ADD(build->arena, &model->roles) = role;
    }
    model->data = data;
}

/* Another data set must bring the units that the model was trained with. */
static bool same_units(Build *build, const ModelInstance *model, const EvaluatePlan *plan) {
    const DataSet *data = plan->data;
    if (!model->data || model->data == data || data->fitted_count == 0 || data->preprocessing_from || data->refit)
        return true;
    build_error(build, plan->span,
                "'%s' was trained on '%s', but '%s' fits preprocessing of its own: the model would see other units",
                model->name, model->data->name, data->name);
    build_note(build, data->span,
               "take the checkpoint's, `input preprocessing from \"….safetensors\"`, or say `refit`");
    return false;
}

void build_evaluate(Build *build, EvaluatePlan *plan) {
    GraphEvaluate *evaluate = arena_new_of(build->arena, GraphEvaluate);
    evaluate->plan = plan;
    *LIST_ADD(build->arena, &build->out->evaluates) = evaluate;
    Scope *before = scope_open(build, NULL);
    Forward forward = build_forward(build, &plan->model, 1, plan->data, false, plan->span);
    if (forward.ok) {
        evaluate->model = model_instance(build, plan->model.item, plan->model.span);
        ModelInstance *models[1] = {evaluate->model};
        int at = build->out->evaluates.count;
        MeasureRequest request = {.metrics = &plan->metrics,
                                  .forward = &forward,
                                  .models = models,
                                  .data = plan->data,
                                  .stop_at_log = plan->in != NULL,
                                  .span = plan->span,
                                  .capacity = SWEEP_ROWS};
        request.name = arena_printf(build->arena, "%s_evaluate_%d", evaluate->model->name, at);
        request.about = arena_printf(build->arena, "metrics of %s on %s", evaluate->model->name, plan->data->name);
        if (evaluate->model->roles.count == 0 && !evaluate->model->from && !evaluate->model->trained)
            build_error(build, plan->span,
                        "'%s' is evaluated before it is trained: nothing says how to read its output",
                        evaluate->model->name);
        if (evaluate->model->roles.count == 0)
            assume_roles(build, evaluate->model, plan->data, &forward.outputs.at[0]);
        if (same_units(build, evaluate->model, plan))
            build_measure(build, &request, &evaluate->measure, NULL);
    }
    build->scope = before;
}

/* ---- first values and predictions -------------------------------------------------------------------------------- */

static void build_init(Build *build, ModelInstance *model) {
    model->init =
        function_new(build, arena_printf(build->arena, "%s_init", model->name),
                     arena_printf(build->arena, "the first values of %s's parameters", model->name), model->span, 1);
    model->init->is_first = true;
    for (int i = 0; i < model->parameters.count; i++) {
        Tensor *tensor = model->parameters.at[i];
        *LIST_ADD(build->arena, &model->init->sinks) = (Sink){tensor->init, tensor, NULL, 0};
    }
}

static GraphOutput output_of(Build *build, const ModelInstance *model, int i, Node *node) {
    const OutputRole *role = &model->roles.at[i];
    GraphOutput output = {
        .name = model->output_names.at[i], .kind = BP_OUTPUT_NUMBER, .width = (int)node_elements(node), .node = node};
    const DataColumn *column = role->column_count ? &role->data->columns[role->first_column] : NULL;
    if (column)
        output.name = column->name;
    if (column && column->category && role->link && output.width == column->category_count && output.width > 1)
        output.kind = BP_OUTPUT_CLASS;
    else if (column && column->category && output.width == 1 && column->category_count == 2)
        output.kind = BP_OUTPUT_BINARY;
    if (output.kind != BP_OUTPUT_NUMBER) {
        output.classes = column_categories(build->arena, column);
        output.class_count = column->category_count;
    }
    if (output.kind == BP_OUTPUT_NUMBER && column && role->column_count == output.width && output.width > 1) {
        output.columns = arena_array(build->arena, Name, output.width);
        for (int j = 0; j < output.width; j++)
            output.columns[j] = role->data->columns[role->first_column + j].name;
    }
    int64_t width = output.width;
    output.buffer = buffer_new(build->arena, arena_printf(build->arena, "predicted_%s", output.name), BUFFER_OUTPUT,
                               SCALAR_F32, SWEEP_ROWS, 1, &width, model->span);
    return output;
}

static void build_predict(Build *build, ModelInstance *model) {
    ModelUse use = {model->item, model->span};
    Scope *before = scope_open(build, NULL);
    Forward forward = build_forward(build, &use, 1, (DataSet *)model->data, false, model->span);
    if (forward.ok) {
        model->predict =
            function_new(build, arena_printf(build->arena, "%s_predict", model->name),
                         arena_printf(build->arena, "predictions of %s", model->name), model->span, SWEEP_ROWS);
        model->predict->is_predict = true;
        const Term *outputs = &forward.outputs.at[0];
        for (int i = 0; i < model->roles.count; i++) {
            const Term *term = outputs->kind == TERM_TUPLE ? &outputs->at[i] : outputs;
            Node *node = term->kind == TERM_NODE
                             ? build_prediction(build, &model->roles.at[i], term->node, false, model->span)
                             : NULL;
            if (!node)
                continue;
            GraphOutput output = output_of(build, model, i, node);
            *LIST_ADD(build->arena, &model->outputs) = output;
            *LIST_ADD(build->arena, &model->predict->sinks) = (Sink){node, NULL, output.buffer, 0};
        }
    }
    build->scope = before;
}

/* ---- the checkpoint that a model comes from ---------------------------------------------------------------------- */

static const char *shape_words(Arena *arena, int rank, const int64_t *dims) {
    char *text = arena_printf(arena, "[");
    for (int i = 0; i < rank; i++)
        text = arena_printf(arena, "%s%s%lld", text, i ? ", " : "", (long long)dims[i]);
    return arena_printf(arena, "%s]", text);
}

static bool saved_here(const Build *build, const char *path) {
    for (int i = 0; i < build->program->actions.count; i++)
        if (build->program->actions.at[i].kind == BP_DO_SAVE && !strcmp(build->program->actions.at[i].save->path, path))
            return true;
    return false;
}

/* model.fc1.weight and fc1.weight: what PyTorch writes for a network inside another. */
static bool ends_a_path(Name path, Name end) {
    size_t length = strlen(path), ending = strlen(end);
    return length > ending && path[length - ending - 1] == '.' && !strcmp(path + length - ending, end);
}

static void check_loaded(Build *build, const ModelInstance *model, const struct bp_archive *archive,
                         const Tensor *tensor) {
    const struct bp_archive_entry *entry = bp_archive_find(archive, tensor->name);
    if (!entry) {
        Name *names = arena_array(build->arena, Name, archive->entry_count);
        for (int i = 0; i < archive->entry_count; i++)
            names[i] = name_of(archive->entries[i].name);
        Name near = nearest_name(tensor->name, names, archive->entry_count);
        for (int i = 0; i < archive->entry_count && !near; i++)
            if (ends_a_path(names[i], tensor->name))
                near = names[i];
        error_at(tensor->span, "\"%s\" has no tensor '%s'%s%s%s", model->from, tensor->name, near ? "; it has '" : "",
                 near ? near : "", near ? "'" : "");
        note_at(model->from_span, "'%s' comes from it: replace the layer, or name it as the checkpoint does",
                model->name);
        return;
    }
    bool same = entry->rank == tensor->rank;
    for (int i = 0; same && i < tensor->rank; i++)
        same = entry->shape[i] == tensor->dims[i];
    bool transposed = !same && entry->rank == 2 && tensor->rank == 2 && entry->shape[0] == tensor->dims[1] &&
                      entry->shape[1] == tensor->dims[0];
    if (!same) {
        error_at(tensor->span, "'%s' is %s in \"%s\", but %s here%s", tensor->name,
                 shape_words(build->arena, entry->rank, entry->shape), model->from,
                 shape_words(build->arena, tensor->rank, tensor->dims), transposed ? ": it is transposed" : "");
        note_at(model->from_span, "'%s' comes from it: replace the layer, or give it the checkpoint's shape",
                model->name);
    } else if (!bp_archive_is_read(entry)) {
        error_at(tensor->span, "'%s' in \"%s\" has the type %s: F32 or F64 is needed", tensor->name, model->from,
                 entry->dtype);
    }
}

/* A checkpoint that this program writes will hold the base's weights: those that are not replaced must fit them. */
static void check_base(Arena *arena, const ModelInstance *model) {
    const ModelInstance *base = model->base;
    for (int i = 0; i < model->parameters.count && base->built; i++) {
        const Tensor *tensor = model->parameters.at[i], *other = NULL;
        for (int j = 0; j < base->parameters.count; j++)
            if (base->parameters.at[j]->name == tensor->name)
                other = base->parameters.at[j];
        if (!tensor->loaded || !other)
            continue;
        bool same = other->rank == tensor->rank;
        for (int j = 0; same && j < tensor->rank; j++)
            same = other->dims[j] == tensor->dims[j];
        if (same)
            continue;
        error_at(tensor->span, "'%s' is %s in \"%s\", but %s here", tensor->name,
                 shape_words(arena, other->rank, other->dims), model->from,
                 shape_words(arena, tensor->rank, tensor->dims));
        note_at(model->from_span, "'%s' comes from it: replace the layer, or give it the checkpoint's shape",
                model->name);
        return; /* the layers behind it follow */
    }
}

/* Reads the checkpoint's header where the file is there already; the running program checks again. */
static void check_checkpoint(Build *build, ModelInstance *model) {
    if (!model->from || !model->built)
        return;
    if (saved_here(build, model->from)) {
        check_base(build->arena, model);
        return;
    }
    const char *slash = strrchr(build->program->path, '/');
    const char *path = model->from;
    if (path[0] != '/' && slash)
        path = arena_printf(build->arena, "%.*s/%s", (int)(slash - build->program->path), build->program->path,
                            model->from);
    FILE *file = fopen(path, "rb");
    if (!file)
        return;
    fclose(file);
    struct bp_archive archive;
    struct bp_error error;
    if (!bp_archive_open(&archive, path, &error)) {
        error_at(model->from_span, "%s", error.text);
        return;
    }
    for (int i = 0; i < model->parameters.count; i++)
        if (model->parameters.at[i]->loaded)
            check_loaded(build, model, &archive, model->parameters.at[i]);
    bp_archive_close(&archive);
    model->from_path = path;
}

/* ---- services ---------------------------------------------------------------------------------------------------- */

static void build_logs(Build *build) {
    for (int i = 0; i < build->program->data.count; i++) {
        const DataSet *data = build->program->data.at[i];
        bool wanted = false;
        for (int j = 0; j < data->column_count; j++)
            for (int k = 0; k < data->columns[j].transform_count; k++)
                wanted |= data->columns[j].transforms[k].kind == BP_LOG;
        *LIST_ADD(build->arena, &build->out->logs) = wanted;
    }
}

/* ---- numbering --------------------------------------------------------------------------------------------------- */

static void add_tensors(GraphProgram *out) {
    for (int i = 0; i < out->models.count; i++)
        for (int j = 0; j < out->models.at[i]->parameters.count; j++) {
            Tensor *tensor = out->models.at[i]->parameters.at[j];
            tensor->index = out->tensors.count;
            const char *name = out->models.count > 1
                                   ? arena_printf(out->arena, "%s_%s", out->models.at[i]->name, tensor->name)
                                   : tensor->name;
            tensor->buffer =
                buffer_new(out->arena, name, BUFFER_PARAMETER, SCALAR_F32, 0, tensor->rank, tensor->dims, tensor->span);
            *LIST_ADD(out->arena, &out->tensors) = tensor;
        }
    for (int i = 0; i < out->trains.count; i++)
        for (int j = 0; j < out->trains.at[i]->states.count; j++) {
            Tensor *tensor = out->trains.at[i]->states.at[j];
            tensor->index = out->tensors.count;
            const char *name = out->trains.count > 1
                                   ? arena_printf(out->arena, "%s_%s", out->trains.at[i]->name, tensor->name)
                                   : tensor->name;
            tensor->buffer =
                buffer_new(out->arena, name, BUFFER_STATE, SCALAR_F32, 0, tensor->rank, tensor->dims, tensor->span);
            *LIST_ADD(out->arena, &out->tensors) = tensor;
        }
}

/* ---- definitions that nothing used: their names, at least, must mean something ----------------------------------- */

static void check_names(Build *build, const Item *item, const Expr *expr) {
    if (!expr)
        return;
    switch (expr->kind) {
    case EXPR_NAME:
        if (!scope_find(build, expr->name)) {
            build->schedules = true;
            build_expression(build, expr);
        }
        break;
    case EXPR_UNARY:
    case EXPR_BINARY:
    case EXPR_RANGE:
    case EXPR_REPEAT:
        check_names(build, item, expr->binary.left);
        check_names(build, item, expr->binary.right);
        break;
    case EXPR_CALL:
        check_names(build, item, expr->call.callee);
        for (int i = 0; i < expr->call.args.count; i++) /* a named value may be a word */
            if (!expr->call.args.at[i].name || expr->call.args.at[i].value->kind != EXPR_NAME)
                check_names(build, item, expr->call.args.at[i].value);
        break;
    case EXPR_INDEX:
        check_names(build, item, expr->index.base);
        for (int i = 0; i < expr->index.args.count; i++)
            check_names(build, item, expr->index.args.at[i].value);
        break;
    case EXPR_LIST:
        for (int i = 0; i < expr->list.count; i++)
            check_names(build, item, expr->list.at[i].value);
        break;
    case EXPR_NUMBER:
    case EXPR_STRING:
    case EXPR_FIELD:
        break;
    }
}

static void check_definition(Build *build, const Item *item) {
    Scope *before = scope_open(build, NULL);
    Term known = {.kind = TERM_NOTHING};
    for (int i = 0; i < item->params.count; i++)
        scope_bind(build, item->params.at[i].name, item->params.at[i].span, known);
    scope_bind(build, name_of("d"), SPAN_NONE, known);
    scope_bind(build, name_of("result"), SPAN_NONE, known);
    check_names(build, item, item->value);
    for (int i = 0; i < item->body.count; i++) {
        const Stmt *stmt = item->body.at[i];
        check_names(build, item, stmt->value);
        for (int j = 0; j < stmt->values.count; j++)
            check_names(build, item, stmt->values.at[j].value);
        for (int j = 0; j < stmt->names.count && stmt->kind != STMT_GRAD; j++)
            scope_bind(build, stmt->names.at[j], stmt->names.spans[j], known);
    }
    build->scope = before;
}

static void check_definitions(Build *build) {
    Program *program = build->program;
    for (int i = 0; i < program->definitions.count; i++) {
        const Definition *definition = &program->definitions.at[i];
        ItemKind kind = definition->item->kind;
        bool formula = kind == ITEM_DEF || kind == ITEM_BLOCK || kind == ITEM_LOSS || kind == ITEM_METRIC ||
                       kind == ITEM_OPTIMIZER || kind == ITEM_MODEL;
        if (!definition->prelude && formula)
            check_definition(build, definition->item);
    }
    build->schedules = false;
}

GraphProgram *graph_build(Arena *arena, Program *program) {
    GraphProgram *out = arena_new_of(arena, GraphProgram);
    out->arena = arena;
    out->program = program;
    out->graph = graph_new(arena, program);
    Build build = {.out = out, .program = program, .graph = out->graph, .arena = arena, .user = SPAN_NONE};
    int errors = error_count();
    derivatives_start(arena);
    for (int i = 0; i < program->actions.count; i++) {
        Action *action = &program->actions.at[i];
        if (action->kind == BP_DO_TRAIN)
            build_train(&build, action->train);
        else if (action->kind == BP_DO_EVALUATE)
            build_evaluate(&build, action->evaluate);
        else
            for (int j = 0; j < action->save->model_count; j++) {
                ModelInstance *model =
                    model_instance(&build, action->save->models[j].item, action->save->models[j].span);
                if (model && !model->built && error_count() == errors)
                    build_error(&build, action->save->models[j].span,
                                "'%s' is saved, but never trained or evaluated before", model->name);
            }
    }
    if (error_count() == errors)
        check_definitions(&build);
    if (error_count() == errors)
        for (int i = 0; i < out->models.count; i++) {
            ModelInstance *model = out->models.at[i];
            check_checkpoint(&build, model);
            if (model->built)
                build_init(&build, model);
            if (model->built && model->data && model->roles.count)
                build_predict(&build, model);
        }
    if (error_count() > errors)
        return NULL;
    add_tensors(out);
    build_logs(&build);
    out->scalar_count = BP_SCALAR_COUNT + program->params.count;
    for (int i = 0; i < program->data.count; i++)
        out->scalar_count += program->data.at[i]->fitted_count;
    for (int i = 0; i < program->actions.count; i++) {
        const TrainPlan *plan = program->actions.at[i].train;
        if (plan && plan->class_column >= 0 && plan->class_balanced)
            out->scalar_count += plan->data->columns[plan->class_column].category_count;
    }
    int64_t count = out->scalar_count;
    out->scalars = buffer_new(arena, "scalars", BUFFER_SCALARS, SCALAR_F64, 0, 1, &count, SPAN_NONE);
    return out;
}
