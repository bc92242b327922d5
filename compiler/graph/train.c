/* A train statement becomes functions of the graph: the step (forward, backward, update, sums), the validation sweeps,
   the start of the optimizer's state, the trace of a bad step, and the same loss and gradients once more in double for
   --check-grad. */
#include "build.h"

#include <math.h>
#include <string.h>

/* ---- the loss ---------------------------------------------------------------------------------------------------- */

void target_columns(Build *build, const DataSet *data, const Node *target, OutputRole *role) {
    for (int i = 0; i < data->group_count; i++) {
        const DataGroup *group = &data->groups[i];
        if (!group->target)
            continue;
        for (int j = 0; j < group->slot_count; j++) {
            const DataSlot *slot = &data->slots[group->first_slot + j];
            if (group->slot_count == 1 && data_group_node(build, data, group) == target) {
                role->data = data;
                role->first_column = slot->columns[0];
                role->column_count = slot->width;
            }
            for (int k = 0; k < slot->width && (target->rank == 0 || slot->form != BP_SLOT_COLUMNS); k++) {
                const Binding *binding = scope_find(build, data->columns[slot->columns[k]].name);
                if (binding && binding->term.node == target) {
                    role->data = data;
                    role->first_column = slot->columns[k];
                    role->column_count = 1;
                }
            }
        }
    }
}

static bool changes_units(const DataSet *data, Span *where) {
    for (int i = 0; i < data->slot_count; i++)
        for (int j = 0; data->slots[i].target && j < data->slots[i].column_count; j++) {
            const DataColumn *column = &data->columns[data->slots[i].columns[j]];
            for (int k = 0; k < column->transform_count; k++)
                switch (column->transforms[k].kind) {
                case BP_LOG:
                case BP_STANDARDIZE:
                case BP_MINMAX:
                case BP_SCALE:
                    *where = column->span;
                    return true;
                default:
                    break;
                }
        }
    return false;
}

/* An output that no loss was applied to (the loss is a formula of its own): the only output predicts the only target,
   where that is numbers; else nobody can say in which units it is. */
static void infer_role(Build *build, const GraphTrain *train, const Node *output, bool only, OutputRole *role) {
    const DataSet *data = train->plan->data;
    const DataGroup *target = NULL;
    int targets = 0;
    for (int i = 0; i < data->group_count; i++)
        if (data->groups[i].target) {
            target = &data->groups[i];
            targets++;
        }
    const DataSlot *slot = target ? &data->slots[target->first_slot] : NULL;
    if (only && targets == 1 && target->slot_count == 1 && !slot->category && slot->width == node_elements(output)) {
        *role = (OutputRole){NULL, data, slot->columns[0], slot->width};
        return;
    }
    Span where;
    if (!changes_units(data, &where))
        return;
    build_error(
        build, train->plan->loss_span,
        "nothing says which target %s predicts, and in which units: apply a loss to all of it, mse(output, target)",
        node_called(build->arena, output));
    build_note(build, where, "this target's units are changed");
}

/* What the losses say of each output of the models. */
static void learn_roles(Build *build, const GraphTrain *train, const Forward *forward) {
    for (int m = 0; m < train->models.count; m++) {
        ModelInstance *model = train->models.at[m];
        const Term *outputs = &forward->outputs.at[m];
        model->data = train->plan->data;
        model->roles.count = 0;
        for (int i = 0; i < model->output_names.count; i++) {
            OutputRole role = {0};
            const Term *output = outputs->kind == TERM_TUPLE ? &outputs->at[i] : outputs;
            bool told = false;
            for (int j = 0; j < build->losses.count; j++)
                if (build->losses.at[j].output == output->node) {
                    told = true;
                    role.link = build->losses.at[j].loss->link;
                    target_columns(build, train->plan->data, build->losses.at[j].target, &role);
                }
            if (!told && output->kind == TERM_NODE)
                infer_role(build, train, output->node, model->output_names.count == 1 && train->models.count == 1,
                           &role);
            *LIST_ADD(build->arena, &model->roles) = role;
        }
    }
}

static bool is_bare_loss(const Term *function) {
    return function->kind == TERM_FUNCTION && function->item->kind == ITEM_LOSS;
}

static Term bare_loss(Build *build, const TrainPlan *plan, const Forward *forward, const Term *function, Span span) {
    Term args[2] = {NOTHING, NOTHING};
    int targets = 0;
    for (int i = 0; i < plan->data->group_count; i++)
        if (plan->data->groups[i].target) {
            args[1] = term_node(data_group_node(build, plan->data, &plan->data->groups[i]), plan->data->groups[i].span);
            targets++;
        }
    if (targets != 1 || forward->outputs.count != 1 || forward->outputs.at[0].kind != TERM_NODE)
        return build_error(build, span, "'%s' needs one output and one target, there are %s: write %s(output, target)",
                           function->item->name, targets == 0 ? "no targets" : "several", function->item->name);
    args[0] = forward->outputs.at[0];
    args[0].span = args[1].span = span;
    const Node *y = args[0].node, *t = args[1].node;
    build->user = span;
    bool of_category = function->item->params.count > 1 && takes_category(&function->item->params.at[1]);
    if (t->type == TYPE_REAL && !of_category && node_elements(y) != node_elements(t)) {
        Term error = build_error(build, span, "shapes do not fit: '%s' is %s, but the target%s%s%s is %s",
                                 y->label ? y->label : "the output", node_shape(build->arena, y), t->label ? " '" : "",
                                 t->label ? t->label : "", t->label ? "'" : "", node_shape(build->arena, t));
        build_note(build, y->span, "%s is made here", node_called(build->arena, y));
        build_note(build, t->span, "the target stands here");
        return error;
    }
    return build_apply(build, function, args, 2, NULL, 0, span);
}

/* The loss of each row, a number; NULL after an error. */
static Node *build_loss(Build *build, const TrainPlan *plan, const Forward *forward) {
    const Expr *expr = plan->loss.at[0].value;
    Term term;
    if (plan->loss.count != 1 || plan->loss.at[0].name) {
        build_error(build, plan->loss_span, "one loss is needed: weigh several in one formula, 0.7 * a + 0.3 * b");
        return NULL;
    }
    build->losses.count = 0;
    term = build_expression(build, expr);
    if (is_bare_loss(&term))
        term = bare_loss(build, plan, forward, &term, expr->span);
    else if (term.kind == TERM_FUNCTION)
        term = build_error(build, expr->span, "'%s' is not a loss", term.item->name);
    Node *loss = term_number(build, &term);
    if (!loss)
        return NULL;
    if (node_elements(loss) != 1) {
        build_error(build, expr->span, "a loss is one number for each row, but this is %s: take its mean or sum",
                    node_shape(build->arena, loss));
        return NULL;
    }
    if (!loss->batched) {
        build_error(build, expr->span, "this loss does not depend on the data");
        return NULL;
    }
    node_label(loss, name_of("loss"));
    return node_reshape(build->graph, loss, 0, NULL);
}

/* The loss of the row's target and that of its partner's, mixed as the inputs are. NULL after an error. */
static Node *mix_losses(Build *build, const TrainPlan *plan, const Forward *forward, Node *own) {
    Scope *before = scope_open(build, build->scope);
    build->partner = true;
    bind_row(build, plan->data);
    weigh_classes(build, plan);
    Node *partner = build_loss(build, plan, forward);
    build->weighed = NULL;
    build->partner = false;
    build->scope = before;
    Node *loss = partner ? mixup(build, plan, own, partner) : NULL;
    if (loss)
        node_label(loss, name_of("mixed_loss"));
    return loss;
}

/* ---- what is trained --------------------------------------------------------------------------------------------- */

bool build_layer_paths(Build *build, const GraphTrain *train, const Expr *expr, const char *suffix, Paths *paths) {
    switch (expr->kind) {
    case EXPR_NAME:
        for (int i = 0; i < train->models.count; i++)
            if (train->models.at[i]->name == expr->name && *suffix) {
                *LIST_ADD(build->arena, paths) = name_of(suffix + 1);
                return true;
            }
        *LIST_ADD(build->arena, paths) = name_of(arena_printf(build->arena, "%s%s", expr->name, suffix));
        return true;
    case EXPR_FIELD:
        return build_layer_paths(build, train, expr->field.base,
                                 arena_printf(build->arena, ".%s%s", expr->field.name, suffix), paths);
    case EXPR_INDEX: {
        const Expr *index = expr->index.args.count == 1 ? expr->index.args.at[0].value : NULL;
        int64_t first, last;
        if (!index) {
            build_error(build, expr->span, "one index or range is needed: body[0..9]");
            return false;
        }
        Term low = build_expression(build, index->kind == EXPR_RANGE ? index->binary.left : index);
        Term high = index->kind == EXPR_RANGE ? build_expression(build, index->binary.right) : low;
        if (!term_integer(build, &low, "an index", 0, &first) || !term_integer(build, &high, "an index", 0, &last))
            return false;
        for (int64_t i = first; i <= last && i < first + 100000; i++)
            if (!build_layer_paths(build, train, expr->index.base,
                                   arena_printf(build->arena, ".%lld%s", (long long)i, suffix), paths))
                return false;
        return true;
    }
    default:
        build_error(build, expr->span, "a layer's name is needed here: freeze fc1, body[0..9]");
        return false;
    }
}

bool path_begins(Name path, Name prefix) {
    size_t length = strlen(prefix);
    return !strncmp(path, prefix, length) && (path[length] == 0 || path[length] == '.');
}

bool build_layer_exists(Build *build, const GraphTrain *train, Name prefix, const char *what, Span span) {
    LIST(Name) layers = {0};
    for (int m = 0; m < train->models.count; m++) {
        const ModelInstance *model = train->models.at[m];
        for (int i = 0; i < model->layers.count; i++) {
            if (model->layers.at[i] == prefix)
                return true;
            *LIST_ADD(build->arena, &layers) = model->layers.at[i];
        }
        for (int i = 0; i < model->parameters.count; i++)
            if (path_begins(model->parameters.at[i]->name, prefix))
                return true;
    }
    Name near = nearest_name(prefix, layers.at, layers.count);
    build_error(build, span, "no layer '%s'%s%s%s%s", prefix, what, near ? "; did you mean '" : "", near ? near : "",
                near ? "'?" : "");
    return false;
}

/* What is frozen, before the layers are known: whether they keep their statistics depends on it. */
bool read_frozen(Build *build, const GraphTrain *train, Paths *frozen) {
    bool ok = true;
    for (int i = 0; i < train->plan->freeze.count; i++)
        ok = build_layer_paths(build, train, train->plan->freeze.at[i].value, "", frozen) && ok;
    return ok;
}

static bool choose_trainable(Build *build, GraphTrain *train, const Paths *paths) {
    Paths frozen = *paths;
    bool ok = true;
    for (int i = 0; i < train->plan->freeze.count; i++) {
        const Expr *expr = train->plan->freeze.at[i].value;
        Paths some = {0};
        ok = build_layer_paths(build, train, expr, "", &some) && ok;
        for (int j = 0; ok && j < some.count; j++)
            ok = build_layer_exists(build, train, some.at[j], " to freeze", expr->span);
        for (int j = 0; ok && j < some.count; j++)
            lint_frozen(build, train, some.at[j], expr->span);
    }
    for (int m = 0; m < train->models.count; m++) {
        const ModelInstance *model = train->models.at[m];
        for (int i = 0; i < model->parameters.count; i++) {
            Tensor *tensor = model->parameters.at[i];
            bool cold = false;
            if (tensor->statistic)
                continue;
            for (int j = 0; j < frozen.count; j++)
                cold |= path_begins(tensor->name, frozen.at[j]);
            if (cold)
                *LIST_ADD(build->arena, &train->frozen) = tensor;
            else
                *LIST_ADD(build->arena, &train->trainable) = tensor;
        }
    }
    if (ok && train->trainable.count == 0) {
        if (train->frozen.count == 0)
            build_error(build, train->plan->span, "'%s' has no weights to train", train->models.at[0]->name);
        else
            build_error(build, train->plan->span, "nothing is left to train: every parameter is frozen");
        ok = false;
    }
    return ok;
}

/* l1 and l2 on weights (tensors of two or more axes), not on biases: rate * sum |w|, rate * sum w^2. NULL: none */
static Node *build_penalty(Build *build, const GraphTrain *train, bool *ok) {
    Node *penalty = NULL;
    const Expr *rates[2] = {train->plan->l1, train->plan->l2};
    for (int kind = 0; kind < 2; kind++) {
        if (!rates[kind])
            continue;
        Term term = build_expression(build, rates[kind]);
        Node *rate = term_number(build, &term);
        if (!rate || rate->type != TYPE_WIDE || rate->rank) {
            if (rate)
                build_error(build, rates[kind]->span, "the rate of a penalty is a number");
            *ok = false;
            continue;
        }
        for (int i = 0; i < train->trainable.count; i++) {
            if (train->trainable.at[i]->rank < 2)
                continue;
            Tensor *tensor = train->trainable.at[i];
            Node *w = node_tensor(build->graph, build->averaged && tensor->average ? tensor->average : tensor);
            Node *size = kind ? node_op(build->graph, OP_MULTIPLY, w, w, NULL)
                              : node_op(build->graph, OP_ABSOLUTE, w, NULL, NULL);
            Node *part = node_op(build->graph, OP_MULTIPLY, rate, node_sum(build->graph, size, AXIS_ALL), NULL);
            penalty = penalty ? node_op(build->graph, OP_ADD, penalty, part, NULL) : part;
        }
    }
    return penalty;
}

/* ---- functions --------------------------------------------------------------------------------------------------- */

static const char *function_name(Build *build, const GraphTrain *train, const char *what) {
    return arena_printf(build->arena, "%s_%s", train->name, what);
}

static bool build_gradients(Build *build, GraphTrain *train) {
    int count = train->trainable.count, errors = error_count();
    Node **wrt = arena_array(build->arena, Node *, count), **gradients = arena_array(build->arena, Node *, count);
    for (int i = 0; i < count; i++)
        wrt[i] = node_tensor(build->graph, train->trainable.at[i]);
    differentiate(build->graph, train->objective, wrt, count, gradients);
    train->trainable.count = 0;
    for (int i = 0; i < count; i++) {
        Tensor *tensor = wrt[i]->tensor;
        if (!gradients[i]) {
            warning_at(tensor->span,
                       "the loss does not depend on '%s': it is not trained; use its layer on the way to "
                       "an output, or leave it out",
                       tensor->name);
            continue;
        }
        Node *gradient = node_expand(build->graph, gradients[i], gradients[i]->rank ? 0 : tensor->rank, tensor->dims);
        node_label(gradient, name_of(arena_printf(build->arena, "d_%s", tensor->name)));
        *LIST_ADD(build->arena, &train->trainable) = tensor;
        *LIST_ADD(build->arena, &train->gradients) = (Sink){gradient, tensor, NULL, 0};
    }
    return error_count() == errors;
}

void build_start(Build *build, GraphTrain *train) {
    if (!train->states.count)
        return;
    train->start = function_new(build, function_name(build, train, "start"), "the optimizer's state at the beginning",
                                train->plan->span, 1);
    for (int i = 0; i < train->states.count; i++) {
        Tensor *state = train->states.at[i];
        Node *first = node_expand(build->graph, state->init, state->rank, state->dims);
        *LIST_ADD(build->arena, &train->start->sinks) = (Sink){first, state, NULL, 0};
    }
}

static void mark_reachable(const Node *node, bool *seen) {
    if (seen[node->id])
        return;
    seen[node->id] = true;
    for (int i = 0; i < node->arg_count; i++)
        mark_reachable(node->args[i], seen);
}

/* None of the values is kept longer than the next needs it: a trace must not ask for more memory than the step does. */
void build_trace(Build *build, GraphTrain *train, Node **losses, int count) {
    train->trace = function_new(build, function_name(build, train, "trace"),
                                "the forward pass, up to any of the values that have a name", train->plan->span,
                                train->plan->batch_size);
    bool *seen = arena_array(build->arena, bool, graph_node_count(build->graph));
    for (int i = 0; i < count; i++)
        mark_reachable(losses[i], seen);
    for (int id = 0, all = graph_node_count(build->graph); id < all; id++) {
        Node *node = graph_node(build->graph, id);
        if (!seen[id] || !node->label || node->type != TYPE_REAL || !node->arg_count || !node->batched ||
            node->op == OP_CUSTOM)
            continue;
        *LIST_ADD(build->arena, &train->trace->sinks) = (Sink){node, NULL, NULL, 0};
    }
    int64_t stops = train->trace->sinks.count;
    train->trace->stops = buffer_new(build->arena, "stops", BUFFER_TOTALS, SCALAR_F64, 0, 1, &stops, train->plan->span);
}

void build_check(Build *build, GraphTrain *train, Name name, Node *objective, int first) {
    int64_t one = 1;
    Span span = train->plan->span;
    int capacity = (int)train->plan->batch_size;
    GraphCheck *check = arena_new_of(build->arena, GraphCheck);
    const char *suffix = name ? arena_printf(build->arena, "_%s", name) : "";
    check->name = name;
    check->loss = function_new(build, function_name(build, train, arena_printf(build->arena, "check%s_loss", suffix)),
                               "the loss in double, for --check-grad", span, capacity);
    check->gradient =
        function_new(build, function_name(build, train, arena_printf(build->arena, "check%s_gradient", suffix)),
                     "the gradients in double, for --check-grad", span, capacity);
    check->loss->is_double = check->gradient->is_double = true;
    check->loss->check = check->gradient->check = check;
    check->loss_buffer = buffer_new(build->arena, "loss", BUFFER_OUTPUT, SCALAR_F64, 0, 1, &one, span);
    *LIST_ADD(build->arena, &check->loss->sinks) = (Sink){objective, NULL, check->loss_buffer, 0};
    *LIST_ADD(build->arena, &train->checks) = check;
    for (int m = 0; m < train->models.count; m++)
        for (int i = 0; i < train->models.at[m]->parameters.count; i++) {
            Tensor *tensor = train->models.at[m]->parameters.at[i];
            Buffer *copy = buffer_new(build->arena, tensor->name, BUFFER_PARAMETER, SCALAR_F64, 0, tensor->rank,
                                      tensor->dims, tensor->span);
            Buffer *gradient = NULL;
            for (int j = first; j < train->gradients.count; j++)
                if (train->gradients.at[j].tensor == tensor) {
                    gradient = buffer_new(build->arena, arena_printf(build->arena, "d_%s", tensor->name), BUFFER_OUTPUT,
                                          SCALAR_F64, 0, tensor->rank, tensor->dims, tensor->span);
                    *LIST_ADD(build->arena, &check->gradient->sinks) =
                        (Sink){train->gradients.at[j].value, NULL, gradient, 0};
                }
            *LIST_ADD(build->arena, &check->tensors) = tensor;
            *LIST_ADD(build->arena, &check->parameters) = copy;
            *LIST_ADD(build->arena, &check->gradients) = gradient;
        }
}

/* ---- early stopping ---------------------------------------------------------------------------------------------- */

static int metric_named(const GraphMeasure *measure, const char *name) {
    for (int i = 0; i < measure->metrics.count; i++)
        if (!strcmp(measure->metrics.at[i].name, name))
            return i;
    return -1;
}

/* What a phase is to watch: "val_loss". False after an error; `what` it is watched for. */
static bool find_measured(Build *build, const GraphTrain *train, Name name, const char *what, Span span, int *better,
                          int *metric_index, bool *from_training) {
    bool validation = !strncmp(name, "val_", 4);
    const GraphMeasure *measure = validation ? &train->validation : &train->training;
    if (validation && !train->validation.passes.count) {
        if (train->plan->data)
            build_error(build, span, "'%s' has no validation part: add `validation = 0.1` to its split",
                        train->plan->data->name);
        else
            build_error(build, span, "'%s' is of a validation part, and this phase has no data: name it without val_",
                        name);
        return false;
    }
    *metric_index = metric_named(measure, name + (validation ? 4 : 0));
    *from_training = !validation;
    if (*metric_index < 0) {
        LIST(Name) names = {0};
        for (int i = 0; i < train->training.metrics.count; i++)
            *LIST_ADD(build->arena, &names) = train->training.metrics.at[i].name;
        for (int i = 0; i < train->validation.metrics.count; i++)
            *LIST_ADD(build->arena, &names) =
                name_of(arena_printf(build->arena, "val_%s", train->validation.metrics.at[i].name));
        Name near = nearest_name(name, names.at, names.count);
        build_error(build, span, "'%s' is not measured: %s%s%s%s", name,
                    train->plan->step ? "log it" : "add it to 'metrics'", near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
        return false;
    }
    const GraphMetric *metric = &measure->metrics.at[*metric_index];
    if (metric->rows * metric->columns != 1) {
        build_error(build, span, "'%s' is not one number: it cannot say when to %s", name, what);
        return false;
    }
    *better = *better ? *better : metric->better;
    if (!*better)
        build_error(build, span, "is a higher or a lower '%s' better? add `mode = max` or `mode = min`", name);
    return *better != 0;
}

void find_monitor(Build *build, GraphTrain *train) {
    const TrainPlan *plan = train->plan;
    train->monitor = -1;
    train->monitor_better = plan->better;
    if (plan->early_stopping)
        find_measured(build, train, plan->monitor, "stop", plan->monitor_span, &train->monitor_better, &train->monitor,
                      &train->monitor_training);
    struct bp_plateau *plateau = &train->rate.plateau;
    if (plateau->start == 0)
        return;
    int metric = 0;
    bool from_training = false;
    plateau->better = train->rate.better;
    find_measured(build, train, train->rate.monitor, "reduce the rate", train->rate.span, &plateau->better, &metric,
                  &from_training);
    plateau->metric = metric;
    plateau->from_training = from_training;
}

/* ---- the statement ----------------------------------------------------------------------------------------------- */

static Name unique_train_name(Build *build, const TrainPlan *plan) {
    const char *name = plan->name;
    int again = 0;
    for (int i = 0; i < build->out->trains.count; i++)
        again += build->out->trains.at[i]->plan->name == plan->name;
    return name_of(again ? arena_printf(build->arena, "%s_%d", name, again + 1) : name);
}

static bool measure_training(Build *build, GraphTrain *train, Forward *forward, Node *loss, Node *penalty,
                             GraphFunction *step) {
    MeasureRequest request = {.metrics = &train->plan->metrics,
                              .forward = forward,
                              .models = train->models.at,
                              .data = train->plan->data,
                              .loss = loss,
                              .penalty = penalty,
                              .name = step->name,
                              .about = "training",
                              .span = train->plan->span,
                              .capacity = train->plan->batch_size,
                              .step = step};
    return build_measure(build, &request, &train->training, &step->guard);
}

static bool measure_validation(Build *build, GraphTrain *train) {
    TrainPlan *plan = train->plan;
    Scope *before = scope_open(build, NULL);
    build->averaged = true;
    Forward forward = build_forward(build, plan->models, plan->model_count, plan->data, false, plan->span);
    Node *loss = forward.ok ? build_loss(build, plan, &forward) : NULL;
    bool ok = loss != NULL;
    if (ok) {
        Node *penalty = build_penalty(build, train, &ok);
        MeasureRequest request = {.metrics = &plan->metrics,
                                  .forward = &forward,
                                  .models = train->models.at,
                                  .data = plan->data,
                                  .loss = loss,
                                  .penalty = penalty,
                                  .name = function_name(build, train, "validation"),
                                  .about = "the loss and metrics of the validation part",
                                  .span = plan->span,
                                  .capacity = plan->batch_size};
        ok = ok && build_measure(build, &request, &train->validation, NULL);
    }
    build->averaged = false;
    build->scope = before;
    return ok;
}

void build_train(Build *build, TrainPlan *plan) {
    GraphTrain *train = arena_new_of(build->arena, GraphTrain);
    train->plan = plan;
    train->name = unique_train_name(build, plan);
    train->monitor = -1;
    for (int i = 0; i < plan->model_count; i++) {
        ModelInstance *model = model_instance(build, plan->models[i].item, plan->models[i].span);
        if (model)
            *LIST_ADD(build->arena, &train->models) = model;
    }
    if (plan->step) {
        build_step(build, train);
        *LIST_ADD(build->arena, &build->out->trains) = train;
        return;
    }
    Scope *before = scope_open(build, NULL);
    Paths frozen = {0};
    bool ok = train->models.count == plan->model_count && read_frozen(build, train, &frozen);
    build->frozen = plan->live_statistics ? NULL : &frozen;
    build->statistics.count = 0;
    build->augmenting = plan;
    augment_start(build, plan);
    Forward forward = build_forward(build, plan->models, plan->model_count, plan->data, true, plan->span);
    build->augmenting = NULL;
    build->frozen = NULL;
    ok = ok && forward.ok && augment_all_used(build, plan);
    for (int i = 0; ok && i < train->models.count; i++) {
        train->models.at[i]->trained = true;
        lint_output(&forward.outputs.at[i]);
    }
    if (ok)
        weigh_classes(build, plan);
    Node *loss = ok ? build_loss(build, plan, &forward) : NULL;
    build->weighed = NULL;
    ok = loss && choose_trainable(build, train, &frozen);
    if (ok) {
        learn_roles(build, train, &forward);
        loss = plan->mixup > 0 ? mix_losses(build, plan, &forward, loss) : loss;
        ok = loss != NULL;
    }
    if (ok) {
        Node *penalty = build_penalty(build, train, &ok);
        Node *mean =
            node_op(build->graph, OP_DIVIDE, node_batch_sum(build->graph, loss), node_rows(build->graph), NULL);
        train->objective = penalty ? node_op(build->graph, OP_ADD, mean, penalty, NULL) : mean;
        Updates updates = {0};
        ok = ok && build_gradients(build, train) && build_updates(build, train, &updates);
        if (ok) {
            GraphFunction *step = function_new(build, function_name(build, train, "step"),
                                               "one step: forward, backward, update, and the sums of loss and metrics",
                                               plan->span, plan->batch_size);
            ok = measure_training(build, train, &forward, loss, penalty, step);
            for (int i = 0; i < updates.count; i++)
                *LIST_ADD(build->arena, &step->sinks) = (Sink){updates.at[i].value, updates.at[i].tensor, NULL, 0};
            for (int i = 0; i < build->statistics.count; i++) {
                const Update *update = &build->statistics.at[i];
                *LIST_ADD(build->arena, &step->sinks) = (Sink){update->value, update->tensor, NULL, 0};
                *LIST_ADD(build->arena, &train->statistics) = update->tensor;
            }
            build_start(build, train);
            build_trace(build, train, &loss, 1);
            build_check(build, train, NULL, train->objective, 0);
            train->loss_count = 1;
        }
    }
    build->scope = before;
    if (ok && plan->data->has_part[BP_VALIDATION])
        ok = measure_validation(build, train);
    for (int i = 0; i < train->trainable.count; i++)
        train->trainable.at[i]->average = NULL;
    if (ok) {
        find_monitor(build, train);
        keep_frozen(build, train);
        train->flops_per_row = function_flops(build, train->training.passes.at[0].accumulate);
    }
    *LIST_ADD(build->arena, &build->out->trains) = train;
}
