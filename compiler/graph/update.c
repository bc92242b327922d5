/* Before: the gradient of each trained parameter. After: the next value of each parameter and of each state.
   Requires the train plan's options.

   In this order, as PyTorch's loops have it: gradients of several batches are added up, clipped by value, clipped by
   their norm over all parameters, given to the optimizer of each parameter's group, whose formula is elaborated for
   each; then the moving average of the weights follows. */
#include "build.h"

#include <string.h>

/* ---- states ------------------------------------------------------------------------------------------------------ */

/* A tensor of the parameter's shape that lives through the phase. */
static Tensor *new_state(Build *build, const Tensor *parameter, const char *what, double first) {
    Tensor *state = arena_new_of(build->arena, Tensor);
    state->name = name_of(arena_printf(build->arena, "%s:%s", parameter->name, what));
    state->owner = build->train->plan->name;
    state->state = true;
    state->of = parameter;
    state->rank = parameter->rank;
    memcpy(state->dims, parameter->dims, sizeof state->dims);
    state->init = node_constant(build->graph, first);
    state->span = parameter->span;
    *LIST_ADD(build->arena, &build->train->states) = state;
    return state;
}

static void mark(const Node *node, bool *seen) {
    if (seen[node->id])
        return;
    seen[node->id] = true;
    for (int i = 0; i < node->arg_count; i++)
        mark(node->args[i], seen);
}

/* States that no new parameter depends on (momentum 0) are not kept. */
static void drop_dead_states(Build *build, GraphTrain *train, Updates *updates) {
    bool *seen = arena_array(build->arena, bool, graph_node_count(build->graph) + 2 * updates->count);
    bool *live = arena_array(build->arena, bool, updates->count + 1);
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < updates->count; i++) {
            Tensor *tensor = updates->at[i].tensor;
            bool average = train->plan->average &&
                           !strcmp(strrchr(tensor->name, ':') ? strrchr(tensor->name, ':') : "", ":average");
            if (live[i] || !(!tensor->state || average || seen[node_tensor(build->graph, tensor)->id]))
                continue;
            live[i] = changed = true;
            mark(updates->at[i].value, seen);
        }
    }
    int kept = 0;
    for (int i = 0; i < updates->count; i++) {
        Tensor *tensor = updates->at[i].tensor;
        if (live[i]) {
            updates->at[kept++] = updates->at[i];
            continue;
        }
        for (int j = 0; j < train->states.count; j++)
            if (train->states.at[j] == tensor) {
                memmove(&train->states.at[j], &train->states.at[j + 1],
                        sizeof(Tensor *) * (size_t)(train->states.count - j - 1));
                train->states.count--;
            }
    }
    updates->count = kept;
}

/* ---- one group's optimizer --------------------------------------------------------------------------------------- */

typedef struct Group {
    const Expr *expr;
    const Item *item;
    BoundOption *options;
    int count;
    Paths layers; /* none: the parameters that no other group has */
    Span span;
    int used;
} Group;

/* lr = cosine(end = 0): what has no start yet is a function. */
static bool report_unfinished(Build *build, const Term *function) {
    const Params *params = &function->item->params;
    for (int i = 0; i < params->count; i++) {
        bool given = params->at[i].fallback != NULL;
        for (int j = 0; j < function->option_count; j++)
            given |= function->options[j].name == params->at[i].name;
        if (given)
            continue;
        build_error(build, function->span, "'%s' needs '%s'", function->item->name, params->at[i].name);
        return false;
    }
    build_error(build, function->span, "an optimizer's option is a number");
    return false;
}

/* The optimizer's options, evaluated once: positional ones follow w and g. */
static bool optimizer_options(Build *build, Group *group) {
    const Expr *expr = group->expr;
    const Item *item = group->item;
    int given_count = expr->kind == EXPR_CALL ? expr->call.args.count : 0;
    group->options = arena_array(build->arena, BoundOption, item->params.count + given_count);
    for (int i = 0; i < given_count; i++) {
        const Arg *arg = &expr->call.args.at[i];
        Name name = arg->name;
        if (!name && i + 2 < item->params.count)
            name = item->params.at[i + 2].name;
        const Param *param = NULL;
        LIST(Name) names = {0};
        for (int j = 2; j < item->params.count; j++) {
            if (item->params.at[j].name == name)
                param = &item->params.at[j];
            *LIST_ADD(build->arena, &names) = item->params.at[j].name;
        }
        if (!name) {
            build_error(build, arg->value->span, "'%s' takes %d options", item->name, item->params.count - 2);
            return false;
        }
        if (!param) {
            Name near = nearest_name(name, names.at, names.count);
            build_error(build, arg->name_span, "'%s' has no option '%s'%s%s%s", item->name, name,
                        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
            return false;
        }
        for (int j = 0; j < group->count; j++)
            if (group->options[j].name == name) {
                build_error(build, arg->value->span, "'%s' is given twice", name);
                return false;
            }
        Term *value = arena_new_of(build->arena, Term);
        *value = build_argument(build, param, arg->value);
        if (value->kind == TERM_NOTHING)
            return false;
        if (value->kind == TERM_FUNCTION)
            return report_unfinished(build, value);
        if (value->kind == TERM_NODE && (value->node->type != TYPE_WIDE || value->node->rank)) {
            build_error(build, arg->value->span, "an optimizer's option is a number");
            return false;
        }
        if (value->kind == TERM_NODE)
            lint_rate(build, item, name, value->node, arg->value->span);
        group->options[group->count++] = (BoundOption){name, arg->value->span, value};
    }
    for (int j = 2; j < item->params.count; j++) {
        bool given = item->params.at[j].fallback != NULL;
        for (int i = 0; i < group->count; i++)
            given |= group->options[i].name == item->params.at[j].name;
        if (!given) {
            build_error(build, expr->span, "'%s' needs '%s': %s(%s = 0.01)", item->name, item->params.at[j].name,
                        item->name, item->params.at[j].name);
            return false;
        }
    }
    return true;
}

static const Item *optimizer_named(Build *build, const Expr *expr) {
    const Expr *called = expr->kind == EXPR_CALL ? expr->call.callee : expr;
    if (called->kind != EXPR_NAME) {
        build_error(build, expr->span, "an optimizer is needed here: sgd(lr = 0.01), adam(lr = 0.001)");
        return NULL;
    }
    const Definition *definition = program_find(build->program, called->name);
    if (!definition || definition->item->kind != ITEM_OPTIMIZER) {
        LIST(Name) names = {0};
        for (int i = 0; i < build->program->definitions.count; i++)
            if (build->program->definitions.at[i].item->kind == ITEM_OPTIMIZER)
                *LIST_ADD(build->arena, &names) = build->program->definitions.at[i].name;
        Name near = nearest_name(called->name, names.at, names.count);
        build_error(build, called->span, "unknown optimizer '%s'%s%s%s", called->name, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
        return NULL;
    }
    const Item *item = definition->item;
    if (item->params.count >= 2)
        return item;
    build_error(build, item->name_span, "an optimizer takes a parameter and its gradient first: optimizer %s(w, g, lr)",
                item->name);
    return NULL;
}

static bool read_group(Build *build, const GraphTrain *train, const Expr *expr, const Args *layers, Group *group) {
    group->expr = expr;
    group->span = expr->span;
    build->user = expr->span;
    group->item = optimizer_named(build, expr);
    bool ok = group->item && optimizer_options(build, group);
    for (int i = 0; layers && i < layers->count; i++) {
        int before = group->layers.count;
        const Expr *layer = layers->at[i].value;
        ok = build_layer_paths(build, train, layer, "", &group->layers) && ok;
        for (int j = before; ok && j < group->layers.count; j++)
            ok = build_layer_exists(build, train, group->layers.at[j], "", layer->span);
    }
    return ok;
}

/* The group that a parameter is in: one that names it or a layer around it, the longest name first. */
static Group *group_of(Group *groups, int count, const Tensor *tensor) {
    Group *best = &groups[0];
    size_t longest = 0;
    for (int i = 1; i < count; i++)
        for (int j = 0; j < groups[i].layers.count; j++)
            if (path_begins(tensor->name, groups[i].layers.at[j]) && strlen(groups[i].layers.at[j]) > longest) {
                longest = strlen(groups[i].layers.at[j]);
                best = &groups[i];
            }
    best->used++;
    return best;
}

static void update_one(Build *build, const Group *group, Tensor *tensor, Node *gradient, Updates *updates) {
    const Item *item = group->item;
    Scope *before = scope_open(build, NULL);
    build->updated = tensor;
    build->user = group->span;
    int first_state = build->train->states.count;
    const Param *w = &item->params.at[0], *g = &item->params.at[1];
    scope_bind(build, w->name, w->span, term_node(node_tensor(build->graph, tensor), w->span));
    scope_bind(build, g->name, g->span, term_node(gradient, g->span));
    for (int j = 2; j < item->params.count; j++) {
        const Param *param = &item->params.at[j];
        Term value = NOTHING;
        for (int i = 0; i < group->count; i++)
            if (group->options[i].name == param->name)
                value = *group->options[i].value;
        if (value.kind == TERM_NOTHING)
            value = build_argument(build, param, param->fallback);
        scope_bind(build, param->name, param->span, value);
    }
    Span user = graph_set_span(build->graph, build->user);
    build_body(build, &item->body);
    graph_set_span(build->graph, user);
    const Binding *result = scope_find(build, w->name);
    if (result->term.kind == TERM_NODE && result->term.node->op != OP_TENSOR)
        *LIST_ADD(build->arena, updates) = (Update){tensor, result->term.node};
    for (int i = first_state; i < build->train->states.count; i++) {
        Tensor *state = build->train->states.at[i];
        const char *name = strrchr(state->name, ':') + 1;
        const Binding *binding = scope_find(build, name_of(name));
        if (binding && binding->term.kind == TERM_NODE)
            *LIST_ADD(build->arena, updates) = (Update){state, binding->term.node};
    }
    build->updated = NULL;
    build->scope = before;
}

/* ---- what happens to gradients first ----------------------------------------------------------------------------- */

static Node *wide_setting(Build *build, const Expr *expr, const char *what) {
    Term term = build_expression(build, expr);
    Node *node = term_number(build, &term);
    if (node && (node->type != TYPE_WIDE || node->rank)) {
        build_error(build, expr->span, "%s is a number", what);
        return NULL;
    }
    if (node && interval_of(build->graph, node).high <= 0) {
        build_error(build, expr->span, "%s must be above 0", what);
        return NULL;
    }
    return node;
}

/* Each element between -limit and limit. PyTorch: torch.nn.utils.clip_grad_value_ */
static bool clip_by_value(Build *build, const TrainPlan *plan, Node **gradients, int count) {
    Node *limit = wide_setting(build, plan->clip_value, "the greatest gradient");
    for (int i = 0; limit && i < count; i++) {
        Node *above = node_op(build->graph, OP_NEGATE, limit, NULL, NULL);
        gradients[i] = node_op(build->graph, OP_MINIMUM, node_op(build->graph, OP_MAXIMUM, gradients[i], above, NULL),
                               limit, NULL);
    }
    return limit != NULL;
}

/* Of a matrix first along its rows, which may be done while its elements are made. */
static Node *sum_of_squares(Graph *graph, Node *x) {
    Node *squares = node_op(graph, OP_MULTIPLY, x, x, NULL);
    return node_sum(graph, x->rank == 2 ? node_sum(graph, squares, 1) : squares, AXIS_ALL);
}

/* All of them scaled down where the length of all together is above the limit: min(1, limit / (length + 1e-6)).
   Pascanu, Mikolov & Bengio, On the difficulty of training recurrent neural networks, 2013. PyTorch:
   torch.nn.utils.clip_grad_norm_ */
static bool clip_by_norm(Build *build, const TrainPlan *plan, Node **gradients, int count) {
    Graph *graph = build->graph;
    Node *limit = wide_setting(build, plan->clip_norm, "the greatest length of the gradient"), *squares = NULL;
    for (int i = 0; limit && i < count; i++) {
        Node *part = sum_of_squares(graph, gradients[i]);
        squares = squares ? node_op(graph, OP_ADD, squares, part, NULL) : part;
    }
    if (!squares)
        return false;
    Node *length = node_op(graph, OP_SQRT, squares, NULL, NULL);
    node_label(length, name_of("gradient_norm"));
    Node *scale =
        node_op(graph, OP_DIVIDE, limit, node_op(graph, OP_ADD, length, node_constant(graph, 1e-6), NULL), NULL);
    scale = node_op(graph, OP_MINIMUM, scale, node_constant(graph, 1), NULL);
    node_label(scale, name_of("gradient_scale"));
    for (int i = 0; i < count; i++)
        gradients[i] = node_op(graph, OP_MULTIPLY, gradients[i], scale, NULL);
    return true;
}

/* Whether this batch completes the gradient of an update; NULL: each does. */
static Node *is_complete(Build *build, const TrainPlan *plan) {
    Graph *graph = build->graph;
    if (plan->accumulate <= 1)
        return NULL;
    Node *batches =
        node_op(graph, OP_ADD, node_scalar(graph, BP_SCALAR_STEP, name_of("step")), node_constant(graph, 1), NULL);
    Node *groups = node_op(graph, OP_DIVIDE, batches, node_constant(graph, (double)plan->accumulate), NULL);
    return node_op(graph, OP_EQUAL, groups, node_op(graph, OP_FLOOR, groups, NULL, NULL), NULL);
}

/* A new value only where the gradient is complete. */
static Node *when(Build *build, Node *complete, Node *value, const Tensor *tensor) {
    return complete ? node_op(build->graph, OP_WHERE, complete, value, node_tensor(build->graph, (Tensor *)tensor))
                    : value;
}

/* The mean of the gradients of `accumulate` batches: a state holds what was added up so far. */
static void accumulate(Build *build, GraphTrain *train, Node *complete, Node **gradients, Updates *updates) {
    Graph *graph = build->graph;
    for (int i = 0; complete && i < train->gradients.count; i++) {
        Tensor *state = new_state(build, train->gradients.at[i].tensor, "gradient", 0);
        Node *share =
            node_op(graph, OP_DIVIDE, gradients[i], node_constant(graph, (double)train->plan->accumulate), NULL);
        gradients[i] = node_op(graph, OP_ADD, node_tensor(graph, state), share, NULL);
        Node *zero = node_expand(graph, node_constant(graph, 0), state->rank, state->dims);
        *LIST_ADD(build->arena, updates) = (Update){state, node_op(graph, OP_WHERE, complete, zero, gradients[i])};
    }
}

/* ---- the moving average ------------------------------------------------------------------------------------------ */

/* a := decay a + (1 - decay) w after every update, from the first one's weights on. Polyak & Juditsky, Acceleration of
   stochastic approximation by averaging, 1992. PyTorch: torch.optim.swa_utils.AveragedModel with such an avg_fn */
static void average(Build *build, GraphTrain *train, Node *complete, Updates *updates) {
    Graph *graph = build->graph;
    Node *decay = wide_setting(build, train->plan->average, "the decay of an average");
    if (decay && interval_of(graph, decay).low >= 1)
        build_error(build, train->plan->average->span, "the decay of an average is below 1");
    Expr step = {.kind = EXPR_NAME, .span = train->plan->average_span, .name = name_of("step")};
    Term steps = build_expression(build, &step);
    for (int i = 0; decay && i < train->gradients.count; i++) {
        Tensor *tensor = train->gradients.at[i].tensor;
        Node *w = node_tensor(graph, tensor);
        for (int j = 0; j < updates->count; j++)
            if (updates->at[j].tensor == tensor)
                w = updates->at[j].value;
        Tensor *state = new_state(build, tensor, "average", 0);
        tensor->average = state;
        Node *a = node_tensor(graph, state);
        Node *rest = node_op(graph, OP_SUBTRACT, node_constant(graph, 1), decay, NULL);
        Node *next = node_op(graph, OP_ADD, node_op(graph, OP_MULTIPLY, decay, a, NULL),
                             node_op(graph, OP_MULTIPLY, rest, w, NULL), NULL);
        Node *first = node_op(graph, OP_EQUAL, steps.node, node_constant(graph, 0), NULL);
        next = node_op(graph, OP_WHERE, first, w, next);
        *LIST_ADD(build->arena, updates) = (Update){state, when(build, complete, next, state)};
        *LIST_ADD(build->arena, &train->averages) = state;
    }
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static bool update_all(Build *build, GraphTrain *train, Group *groups, int group_count, Updates *updates) {
    int count = train->gradients.count, errors = error_count();
    Node **gradients = arena_array(build->arena, Node *, count + 1), *complete = is_complete(build, train->plan);
    for (int i = 0; i < count; i++)
        gradients[i] = train->gradients.at[i].value;
    accumulate(build, train, complete, gradients, updates);
    if (train->plan->clip_value && !clip_by_value(build, train->plan, gradients, count))
        return false;
    if (train->plan->clip_norm && !clip_by_norm(build, train->plan, gradients, count))
        return false;
    for (int i = 0; i < count && error_count() == errors; i++) {
        Tensor *tensor = train->gradients.at[i].tensor;
        int first = updates->count;
        update_one(build, group_of(groups, group_count, tensor), tensor, gradients[i], updates);
        for (int j = first; j < updates->count; j++)
            updates->at[j].value = when(build, complete, updates->at[j].value, updates->at[j].tensor);
    }
    for (int i = 1; i < group_count && error_count() == errors; i++)
        if (!groups[i].used)
            warning_at(groups[i].span, "no parameter is left to this optimizer: its layers are frozen or have others");
    if (train->plan->average && error_count() == errors)
        average(build, train, complete, updates);
    return error_count() == errors;
}

bool build_updates(Build *build, GraphTrain *train, Updates *updates) {
    const TrainPlan *plan = train->plan;
    int count = 1 + plan->groups.count, errors = error_count();
    Group *groups = arena_array(build->arena, Group, count);
    Span user = build->user;
    build->schedules = true;
    build->train = train;
    bool ok = read_group(build, train, plan->optimizer, NULL, &groups[0]);
    for (int i = 1; i < count; i++) {
        const Setting *setting = plan->groups.at[i - 1];
        ok = read_group(build, train, setting->args.at[0].value, &setting->clauses[0].args, &groups[i]) && ok;
    }
    ok = ok && update_all(build, train, groups, count, updates);
    build->user = user;
    build->schedules = false;
    build->train = NULL;
    drop_dead_states(build, train, updates);
    return ok && error_count() == errors;
}
