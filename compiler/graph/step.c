/* A train block's `step` becomes one function in parts: each `update` ends a part, whose forward and backward pass and
   new weights are one graph; the next part begins when they are in place. A name is computed where it stands: one that
   an update has made stale cannot be used after it.

   What is logged is added up over the rows in the part in which it was computed, behind the losses, which come first. */
#include "build.h"

#include <string.h>

typedef struct Logged {
    Name name;
    Span span;
    Node *value;
    int part;
} Logged;

typedef struct StepLoss {
    Name name;  /* of its loss among the metrics */
    Node *loss; /* of each row, or of all */
    int64_t every;
    int part;
} StepLoss;

typedef struct StepBuild {
    Build *build;
    GraphTrain *train;
    bool training; /* false: the names are measured on the validation part, nothing is updated */
    Paths frozen;
    LIST(GraphFunction *) parts;
    LIST(StepLoss) losses;
    LIST(Logged) logged;
    LIST(Tensor *) asked;   /* of the models that updates name */
    LIST(Tensor *) updated; /* so far */
    AugmentedInputs inputs;
} StepBuild;

static const char *step_name(StepBuild *s, const char *what) {
    return arena_printf(s->build->arena, "%s_%s", s->train->name, what);
}

/* ---- z ~ normal(mean = 0, std = 1, shape = 64) ------------------------------------------------------------------- */

static Node *draw_option(StepBuild *s, const Expr *call, const char *name, int position, double fallback) {
    for (int i = 0; i < call->call.args.count; i++) {
        const Arg *arg = &call->call.args.at[i];
        if (arg->name ? strcmp(arg->name, name) != 0 : i != position)
            continue;
        Term term = build_expression(s->build, arg->value);
        return term_number(s->build, &term);
    }
    return node_constant(s->build->graph, fallback);
}

static bool draw_shape(StepBuild *s, const Expr *call, int *rank, int64_t *dims) {
    *rank = 0;
    for (int i = 0; i < call->call.args.count; i++) {
        const Arg *arg = &call->call.args.at[i];
        if (!arg->name || strcmp(arg->name, "shape") != 0)
            continue;
        bool list = arg->value->kind == EXPR_LIST;
        *rank = list ? arg->value->list.count : 1;
        if (*rank > BP_MAX_RANK) {
            build_error(s->build, arg->value->span, "a draw has at most %d axes", BP_MAX_RANK);
            return false;
        }
        for (int axis = 0; axis < *rank; axis++) {
            Term size = build_expression(s->build, list ? arg->value->list.at[axis].value : arg->value);
            if (!term_integer(s->build, &size, "a size", 1, &dims[axis]))
                return false;
        }
    }
    return true;
}

static bool draw_options_exist(StepBuild *s, const Expr *call, const char *const *options) {
    for (int i = 0; i < call->call.args.count; i++) {
        const Arg *arg = &call->call.args.at[i];
        bool known = !arg->name && i < 2 && options[i];
        for (int j = 0; j < 3 && arg->name; j++)
            known |= options[j] && strcmp(options[j], arg->name) == 0;
        if (known)
            continue;
        if (arg->name)
            build_error(s->build, arg->name_span, "'%s' has no option '%s'; it has %s, %s and shape",
                        call->call.callee->name, arg->name, options[0], options[1]);
        else
            build_error(s->build, arg->value->span, "'%s' takes %s, %s and shape = …", call->call.callee->name,
                        options[0], options[1]);
        return false;
    }
    return true;
}

/* Uniform in [low, high), or normal. Streams are named by what is drawn, so that a new line moves no other's draws. */
static Term build_draw(StepBuild *s, const Stmt *stmt) {
    static const char *const of_normal[] = {"mean", "std", "shape"}, *const of_uniform[] = {"low", "high", "shape"};
    Build *build = s->build;
    const Expr *call = stmt->value;
    bool is_call = call->kind == EXPR_CALL && call->call.callee->kind == EXPR_NAME;
    bool normal = is_call && !strcmp(call->call.callee->name, "normal");
    if (!normal && !(is_call && !strcmp(call->call.callee->name, "uniform")))
        return build_error(build, call->span,
                           "what is drawn is normal(mean = 0, std = 1, shape = 64) or uniform(0, 1)");
    int rank;
    int64_t dims[BP_MAX_RANK] = {0};
    if (!draw_options_exist(s, call, normal ? of_normal : of_uniform) || !draw_shape(s, call, &rank, dims))
        return NOTHING;
    Node *a = draw_option(s, call, normal ? "mean" : "low", 0, 0);
    Node *b = draw_option(s, call, normal ? "std" : "high", 1, 1);
    if (!a || !b)
        return NOTHING;
    const char *stream = arena_printf(build->arena, "draw of %s.%s", s->train->plan->name, stmt->names.at[0]);
    Graph *graph = build->graph;
    Node *draw = node_random(graph, normal, hash_text(stream), true, rank, dims);
    Node *scale = normal ? b : node_op(graph, OP_SUBTRACT, b, a, NULL);
    Node *scaled[2] = {scale, draw}, *moved[2] = {a, build_op(build, OP_MULTIPLY, scaled, 2, call->span)};
    Node *node = moved[1] ? build_op(build, OP_ADD, moved, 2, call->span) : NULL;
    if (!node)
        return NOTHING;
    node_label(node, stmt->names.at[0]);
    return term_node(node, stmt->span);
}

/* ---- update D with adam(1e-4) minimizing d_loss, every = 5 ------------------------------------------------------- */

static bool update_options(StepBuild *s, const Stmt *stmt, int64_t *every) {
    *every = 1;
    for (int i = 0; i < stmt->values.count; i++) {
        const Arg *arg = &stmt->values.at[i];
        if (strcmp(arg->name, "every") != 0) {
            build_error(s->build, arg->name_span,
                        "'update' has no option '%s'; it has `every = 5`, for every fifth step", arg->name);
            return false;
        }
        Term term = build_expression(s->build, arg->value);
        if (!term_integer(s->build, &term, "'every'", 1, every))
            return false;
    }
    return true;
}

/* What is minimised: its number for each row, or for all of them. */
static Node *update_loss(StepBuild *s, const Stmt *stmt) {
    Term term = build_expression(s->build, stmt->value);
    if (term.kind == TERM_FUNCTION) {
        build_error(s->build, stmt->value->span, "'%s' needs its output and its target: minimizing %s(output, target)",
                    term.item->name, term.item->name);
        return NULL;
    }
    Node *loss = term_number(s->build, &term);
    if (!loss)
        return NULL;
    if (node_elements(loss) != 1) {
        build_error(s->build, stmt->value->span,
                    "what is minimized is one number for each row, but this is %s: take its mean or sum",
                    node_shape(s->build->arena, loss));
        return NULL;
    }
    return node_reshape(s->build->graph, loss, 0, NULL);
}

static bool updated_tensors(StepBuild *s, const Stmt *stmt, GraphTrain *own) {
    GraphTrain *train = s->train;
    for (int i = 0; i < stmt->names.count; i++) {
        ModelInstance *model = NULL;
        for (int j = 0; j < train->models.count; j++)
            if (train->models.at[j]->name == stmt->names.at[i])
                model = train->models.at[j];
        if (!model) {
            LIST(Name) names = {0};
            for (int j = 0; j < train->models.count; j++)
                *LIST_ADD(s->build->arena, &names) = train->models.at[j]->name;
            Name near = nearest_name(stmt->names.at[i], names.at, names.count);
            build_error(s->build, stmt->names.spans[i], "'%s' is no model of this phase%s%s%s", stmt->names.at[i],
                        near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
            return false;
        }
        if (!model->built) {
            build_error(s->build, stmt->names.spans[i], "'%s' is updated, but nothing in this step has called it",
                        model->name);
            return false;
        }
        *LIST_ADD(s->build->arena, &own->models) = model;
    }
    for (int m = 0; m < own->models.count; m++)
        for (int i = 0; i < own->models.at[m]->parameters.count; i++) {
            Tensor *tensor = own->models.at[m]->parameters.at[i];
            bool cold = false;
            for (int j = 0; j < s->frozen.count; j++)
                cold |= path_begins(tensor->name, s->frozen.at[j]);
            if (!tensor->statistic && !cold)
                *LIST_ADD(s->build->arena, &own->trainable) = tensor;
        }
    if (own->trainable.count == 0)
        build_error(s->build, stmt->span, "'%s' has no weights that are not frozen", stmt->names.at[0]);
    return own->trainable.count > 0;
}

static int update_count(const StepBuild *s) {
    const Body *body = &s->train->plan->step->step_body;
    int updates = 0;
    for (int i = 0; i < body->count; i++)
        updates += body->at[i]->kind == STMT_UPDATE;
    return updates;
}

static Name loss_name(StepBuild *s, const Stmt *stmt) {
    const char *name = stmt->value->kind == EXPR_NAME ? stmt->value->name : NULL;
    if (!name && stmt->names.count) {
        name = "loss";
        for (int i = 0; i < stmt->names.count && update_count(s) > 1; i++)
            name = arena_printf(s->build->arena, "%s_%s", name, stmt->names.at[i]);
    }
    const char *unique = name;
    for (int again = 2, taken = 1; taken; again++) {
        taken = 0;
        for (int i = 0; i < s->losses.count; i++)
            taken |= !strcmp(s->losses.at[i].name, unique);
        if (taken)
            unique = arena_printf(s->build->arena, "%s_%d", name, again);
    }
    return name_of(unique);
}

/* Sums over the batch, of a value that each row has or that is one for all of them. */
static Node *over_rows(StepBuild *s, Node *value) {
    return node_batch_sum(s->build->graph, value);
}

static Node *mean_of(StepBuild *s, Node *loss) {
    Graph *graph = s->build->graph;
    return loss->batched ? node_op(graph, OP_DIVIDE, node_batch_sum(graph, loss), node_rows(graph), NULL) : loss;
}

/* A second update of the same weights has an optimizer of its own. */
static void rename_states(StepBuild *s, GraphTrain *own) {
    for (int i = 0; i < own->states.count; i++)
        for (int j = 0, again = 2; j < s->train->states.count; j++)
            if (s->train->states.at[j]->name == own->states.at[i]->name) {
                own->states.at[i]->name =
                    name_of(arena_printf(s->build->arena, "%s:%d", own->states.at[i]->name, again++));
                j = -1;
            }
}

static bool was_updated(const StepBuild *s, const Tensor *tensor) {
    for (int i = 0; i < s->updated.count; i++)
        if (s->updated.at[i] == tensor)
            return true;
    return false;
}

static bool gradients_of(StepBuild *s, const Stmt *stmt, GraphTrain *own, Node *objective) {
    Build *build = s->build;
    int count = own->trainable.count, errors = error_count();
    Node **wrt = arena_array(build->arena, Node *, count), **gradients = arena_array(build->arena, Node *, count);
    for (int i = 0; i < count; i++) {
        wrt[i] = node_tensor(build->graph, own->trainable.at[i]);
        *LIST_ADD(build->arena, &s->asked) = own->trainable.at[i];
    }
    differentiate(build->graph, objective, wrt, count, gradients);
    own->trainable.count = 0;
    for (int i = 0; i < count; i++) {
        Tensor *tensor = wrt[i]->tensor;
        if (!gradients[i])
            continue;
        Node *gradient = node_expand(build->graph, gradients[i], gradients[i]->rank ? 0 : tensor->rank, tensor->dims);
        node_label(gradient, name_of(arena_printf(build->arena, "d_%s", tensor->name)));
        *LIST_ADD(build->arena, &own->trainable) = tensor;
        *LIST_ADD(build->arena, &own->gradients) = (Sink){gradient, tensor, NULL, 0};
    }
    if (error_count() == errors && own->gradients.count == 0)
        build_error(build, stmt->value->span, "this does not depend on the weights of '%s'", stmt->names.at[0]);
    return error_count() == errors;
}

/* Names that were made of weights that have changed now. */
static void make_stale(StepBuild *s, Span span) {
    Build *build = s->build;
    int count = graph_node_count(build->graph);
    bool *changed = arena_array(build->arena, bool, count);
    for (int id = 0; id < count; id++) {
        const Node *node = graph_node(build->graph, id);
        changed[id] = node->op == OP_TENSOR && was_updated(s, node->tensor);
        for (int i = 0; i < node->arg_count; i++)
            changed[id] |= changed[node->args[i]->id];
    }
    for (int i = 0; i < build->scope->bindings.count; i++) {
        Binding *binding = &build->scope->bindings.at[i];
        bool stale = binding->term.kind == TERM_NODE && changed[binding->term.node->id];
        for (int j = 0; binding->term.kind == TERM_TUPLE && j < binding->term.count; j++)
            stale |= binding->term.at[j].kind == TERM_NODE && changed[binding->term.at[j].node->id];
        if (stale)
            binding->term = (Term){.kind = TERM_STALE, .span = span};
    }
}

static void take_over(StepBuild *s, const GraphTrain *own) {
    GraphTrain *train = s->train;
    Arena *arena = s->build->arena;
    for (int i = 0; i < own->states.count; i++)
        *LIST_ADD(arena, &train->states) = own->states.at[i];
    train->rate = own->rate;
    for (int i = 0; i < own->gradients.count; i++)
        *LIST_ADD(arena, &train->gradients) = own->gradients.at[i];
    for (int i = 0; i < own->trainable.count; i++) {
        if (was_updated(s, own->trainable.at[i]))
            continue;
        *LIST_ADD(arena, &s->updated) = own->trainable.at[i];
        *LIST_ADD(arena, &train->trainable) = own->trainable.at[i];
        if (own->averages.count)
            *LIST_ADD(arena, &train->averages) = own->averages.at[i];
    }
}

static GraphFunction *part_new(StepBuild *s, const char *about, Span span) {
    GraphFunction *part = arena_new_of(s->build->arena, GraphFunction);
    int number = s->parts.count;
    part->name = name_of(step_name(s, number ? arena_printf(s->build->arena, "step_%d", number + 1) : "step"));
    part->about = about;
    part->span = span;
    part->capacity = s->train->plan->batch_size;
    *LIST_ADD(s->build->arena, &s->parts) = part;
    return part;
}

static void add_statistics(StepBuild *s, GraphFunction *part) {
    Build *build = s->build;
    for (int i = 0; i < build->statistics.count; i++) {
        const Update *update = &build->statistics.at[i];
        bool known = false;
        *LIST_ADD(build->arena, &part->sinks) = (Sink){update->value, update->tensor, NULL, 0};
        for (int j = 0; j < s->train->statistics.count; j++)
            known |= s->train->statistics.at[j] == update->tensor;
        if (!known)
            *LIST_ADD(build->arena, &s->train->statistics) = update->tensor;
    }
    build->statistics.count = 0;
}

static bool build_update(StepBuild *s, const Stmt *stmt) {
    Build *build = s->build;
    StepLoss loss = {.part = s->parts.count};
    loss.name = loss_name(s, stmt);
    loss.loss = update_loss(s, stmt);
    if (!loss.loss || !update_options(s, stmt, &loss.every))
        return false;
    *LIST_ADD(build->arena, &s->losses) = loss;
    if (!s->training)
        return true;
    GraphTrain own = {.name = s->train->name, .rate = s->train->rate};
    TrainPlan plan = *s->train->plan;
    plan.optimizer = stmt->with;
    plan.span = stmt->span;
    plan.groups.count = 0;
    own.plan = &plan;
    Node *objective = mean_of(s, loss.loss);
    if (!updated_tensors(s, stmt, &own) || !gradients_of(s, stmt, &own, objective))
        return false;
    int first = s->train->gradients.count;
    Updates updates = {0};
    build->every = loss.every;
    bool ok = build_updates(build, &own, &updates);
    build->every = 0;
    if (!ok)
        return false;
    rename_states(s, &own);
    const char *about =
        arena_printf(build->arena, "%supdate of %s", s->parts.count ? "" : "one step, in parts: ", stmt->names.at[0]);
    GraphFunction *part = part_new(s, about, stmt->span);
    part->every = loss.every;
    for (int i = 0; i < updates.count; i++)
        *LIST_ADD(build->arena, &part->sinks) = (Sink){updates.at[i].value, updates.at[i].tensor, NULL, 0};
    add_statistics(s, part);
    take_over(s, &own);
    build_check(build, s->train, update_count(s) > 1 ? loss.name : NULL, objective, first);
    make_stale(s, stmt->span);
    return true;
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

static bool is_logged(const StepBuild *s, Name name) {
    for (int i = 0; i < s->train->plan->log.count; i++)
        if (s->train->plan->log.at[i].value->name == name)
            return true;
    return false;
}

static bool log_value(StepBuild *s, Name name, Span span) {
    const Binding *binding = scope_find(s->build, name);
    Node *value = binding->term.kind == TERM_NOTHING ? NULL : term_number(s->build, &binding->term);
    if (!value)
        return false;
    if (node_elements(value) != 1) {
        build_error(s->build, span, "what is logged is one number for each row, but '%s' is %s", name,
                    node_shape(s->build->arena, value));
        return false;
    }
    for (int i = 0; i < s->logged.count; i++)
        if (s->logged.at[i].name == name) {
            build_error(s->build, span, "'%s' is logged, and has two values in this step: name them apart", name);
            return false;
        }
    *LIST_ADD(s->build->arena, &s->logged) =
        (Logged){name, span, node_reshape(s->build->graph, value, 0, NULL), s->parts.count};
    return true;
}

static bool build_statement(StepBuild *s, Stmt *stmt) {
    Build *build = s->build;
    int errors = error_count();
    build->user = stmt->span;
    Body one = {&stmt, 1};
    switch (stmt->kind) {
    case STMT_UPDATE:
        return build_update(s, stmt);
    case STMT_DRAW:
        scope_bind(build, stmt->names.at[0], stmt->names.spans[0], build_draw(s, stmt));
        break;
    case STMT_BIND:
        build_body(build, &one);
        break;
    default:
        build_error(build, stmt->span, "a step names values (a = …), draws them (z ~ …) and updates models (update …)");
        return false;
    }
    for (int i = 0; i < stmt->names.count && error_count() == errors; i++)
        if (is_logged(s, stmt->names.at[i]) && !log_value(s, stmt->names.at[i], stmt->names.spans[i]))
            return false;
    return error_count() == errors;
}

static bool log_names_exist(StepBuild *s) {
    const Args *log = &s->train->plan->log;
    bool ok = true;
    for (int i = 0; i < log->count; i++) {
        Name name = log->at[i].value->name;
        bool known = false;
        for (int j = 0; j < s->logged.count; j++)
            known |= s->logged.at[j].name == name;
        if (known)
            continue;
        LIST(Name) names = {0};
        const Body *body = &s->train->plan->step->step_body;
        for (int j = 0; j < body->count; j++)
            for (int k = 0; k < body->at[j]->names.count && body->at[j]->kind != STMT_UPDATE; k++)
                *LIST_ADD(s->build->arena, &names) = body->at[j]->names.at[k];
        Name near = nearest_name(name, names.at, names.count);
        build_error(s->build, log->at[i].value->span, "the step gives nothing the name '%s'%s%s%s", name,
                    near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        ok = false;
    }
    return ok;
}

static bool build_statements(StepBuild *s) {
    Build *build = s->build;
    const TrainPlan *plan = s->train->plan;
    bool ok = true;
    if (plan->data)
        ok = build_forward(build, NULL, 0, plan->data, s->training, plan->span).ok &&
             (!s->training || augment_names(build, plan, &s->inputs));
    build->training = s->training;
    build->application = 1;
    const Body *body = &plan->step->step_body;
    for (int i = 0; i < body->count; i++)
        ok = build_statement(s, body->at[i]) && ok;
    build->training = false;
    build->application = 0;
    return ok && log_names_exist(s);
}

/* ---- sums and metrics -------------------------------------------------------------------------------------------- */

typedef struct Sums {
    StepBuild *s;
    Buffer *sums, *totals;
    int64_t count;
    GraphFunction *finish;
    GraphMeasure *measure;
    int64_t *rows; /* by part: the sum that counts the rows it saw */
    const char *name;
} Sums;

static GraphFunction *part_of(const StepBuild *s, int part) {
    return s->training ? s->parts.at[part] : s->parts.at[0];
}

/* The value's sum over the rows goes into place `at`; a part that does not run leaves zeros there. */
static void add_sum(Sums *sums, int part, Node *sum, int64_t at) {
    StepBuild *s = sums->s;
    GraphFunction *function = part_of(s, part);
    *LIST_ADD(s->build->arena, &function->sinks) = (Sink){sum, NULL, sums->sums, at};
    if (s->training && function->every > 1)
        *LIST_ADD(s->build->arena, &s->parts.at[0]->sinks) =
            (Sink){node_constant(s->build->graph, 0), NULL, sums->sums, at};
}

static void add_mean(Sums *sums, Name name, Span span, int part, int64_t at) {
    Build *build = sums->s->build;
    Graph *graph = build->graph;
    int64_t dims[2] = {1, 1};
    Node *mean = node_op(graph, OP_DIVIDE, node_total(graph, sums->totals, at, 0, NULL),
                         node_total(graph, sums->totals, sums->rows[part], 0, NULL), NULL);
    GraphMetric metric = {.name = name, .rows = 1, .columns = 1, .better = -1};
    metric.buffer = buffer_new(build->arena, arena_printf(build->arena, "%s_%s", sums->name, name), BUFFER_OUTPUT,
                               SCALAR_F64, 0, 2, dims, span);
    *LIST_ADD(build->arena, &sums->finish->sinks) = (Sink){mean, NULL, metric.buffer, 0};
    *LIST_ADD(build->arena, &sums->measure->metrics) = metric;
}

static bool is_a_loss(const StepBuild *s, const Logged *logged) {
    for (int i = 0; i < s->losses.count; i++)
        if (s->losses.at[i].name == logged->name)
            return true;
    return false;
}

static void build_sums(StepBuild *s, const char *name, const char *about, GraphMeasure *measure) {
    Build *build = s->build;
    int64_t one = 1;
    Sums sums = {.s = s, .measure = measure, .name = name};
    Span span = s->train->plan->span;
    sums.sums = buffer_new(build->arena, arena_printf(build->arena, "%s_sums", name), BUFFER_OUTPUT, SCALAR_F32, 0, 1,
                           &one, span);
    sums.totals = buffer_new(build->arena, arena_printf(build->arena, "%s_totals", name), BUFFER_TOTALS, SCALAR_F64, 0,
                             1, &one, span);
    sums.finish = function_new(build, arena_printf(build->arena, "%s_finish", name),
                               arena_printf(build->arena, "from sums over the rows to metrics: %s", about), span, 1);
    sums.rows = arena_array(build->arena, int64_t, s->parts.count + 1);
    sums.count = 1 + s->losses.count;
    add_sum(&sums, 0, node_rows(build->graph), 0);
    for (int i = 0; s->training && i < s->parts.count; i++)
        if (s->parts.at[i]->every > 1) {
            sums.rows[i] = sums.count++;
            add_sum(&sums, i, node_rows(build->graph), sums.rows[i]);
        }
    for (int i = 0; i < s->losses.count; i++) {
        const StepLoss *loss = &s->losses.at[i];
        Node *sum = over_rows(s, loss->loss);
        add_sum(&sums, loss->part, sum, 1 + i);
        if (s->training)
            part_of(s, loss->part)->guard = sum;
        add_mean(&sums, loss->name, span, s->training ? loss->part : 0, 1 + i);
    }
    for (int i = 0; i < s->logged.count; i++) {
        const Logged *logged = &s->logged.at[i];
        if (is_a_loss(s, logged))
            continue;
        add_sum(&sums, logged->part, over_rows(s, logged->value), sums.count);
        add_mean(&sums, logged->name, logged->span, s->training ? logged->part : 0, sums.count++);
    }
    sums.sums->elements = sums.sums->dims[0] = sums.totals->elements = sums.totals->dims[0] = sums.count;
    GraphPass *pass = LIST_ADD(build->arena, &measure->passes);
    *pass = (GraphPass){.accumulate = s->parts.at[0],
                        .finish = sums.finish,
                        .sums = sums.sums,
                        .totals = sums.totals,
                        .sum_count = sums.count};
}

/* ---- the statement ----------------------------------------------------------------------------------------------- */

/* A part of its own before parts that do not always run, and behind the last update for what is logged there. */
static void close_parts(StepBuild *s) {
    bool tail = s->build->statistics.count > 0, sometimes = false;
    for (int i = 0; i < s->logged.count; i++)
        tail |= s->logged.at[i].part == s->parts.count;
    if (tail)
        add_statistics(s, part_new(s, "what follows the last update", s->train->plan->span));
    for (int i = 0; i < s->parts.count; i++)
        sometimes |= s->parts.at[i]->every > 1;
    if (sometimes) {
        GraphFunction *head =
            part_new(s, "one step, in parts; first the sums of parts that do not always run", s->train->plan->span);
        memmove(&s->parts.at[1], &s->parts.at[0], sizeof(GraphFunction *) * (size_t)(s->parts.count - 1));
        s->parts.at[0] = head;
        for (int i = 0; i < s->losses.count; i++)
            s->losses.at[i].part++;
        for (int i = 0; i < s->logged.count; i++)
            s->logged.at[i].part++;
    }
    for (int i = 0; i + 1 < s->parts.count; i++)
        s->parts.at[i]->next = s->parts.at[i + 1];
    *LIST_ADD(s->build->arena, &s->build->out->functions) = s->parts.at[0];
}

static void count_flops(StepBuild *s) {
    for (int i = 0; i < s->parts.count; i++)
        s->train->flops_per_row +=
            function_flops(s->build, s->parts.at[i]) / (double)(s->parts.at[i]->every > 1 ? s->parts.at[i]->every : 1);
}

static bool frozen_exist(StepBuild *s) {
    const Args *freeze = &s->train->plan->freeze;
    bool ok = true;
    for (int i = 0; i < freeze->count; i++) {
        Paths paths = {0};
        ok = build_layer_paths(s->build, s->train, freeze->at[i].value, "", &paths) && ok;
        for (int j = 0; ok && j < paths.count; j++)
            ok = build_layer_exists(s->build, s->train, paths.at[j], " to freeze", freeze->at[i].value->span);
        for (int j = 0; ok && j < paths.count; j++)
            lint_frozen(s->build, s->train, paths.at[j], freeze->at[i].value->span);
    }
    return ok;
}

/* The only output of the only model, where the only target is as many numbers. */
static OutputRole role_of_only(const StepBuild *s, const ModelInstance *model) {
    const DataSet *data = s->train->plan->data;
    const DataSlot *target = NULL;
    int targets = 0;
    for (int i = 0; i < data->slot_count; i++)
        if (data->slots[i].target) {
            target = &data->slots[i];
            targets++;
        }
    bool only = s->train->models.count == 1 && model->output_names.count == 1 && targets == 1 && !target->category;
    if (!only || !model->results.count || node_elements(model->results.at[0].node) != target->width)
        return (OutputRole){0};
    return (OutputRole){NULL, data, target->columns[0], target->width};
}

static const Node *unshaped(const Node *node) {
    while (node->op == OP_RESHAPE)
        node = node->args[0];
    return node;
}

/* Whether the step calls it with what the data set has as its input, and not with what is drawn or computed. */
static bool fed_by_data(const StepBuild *s, const ModelInstance *model) {
    const Node *fed = data_for_model(s->build, s->train->plan->data, model);
    for (int i = 0; fed && i < s->inputs.count; i++)
        if (unshaped(s->inputs.at[i].given) == unshaped(fed)) {
            fed = s->inputs.at[i].augmented;
            break;
        }
    for (int i = 0; fed && i < model->results.count; i++)
        if (model->results.at[i].input && unshaped(model->results.at[i].input) == unshaped(fed))
            return true;
    return false;
}

/* A model that the data set feeds can predict: its outputs are what the losses say, or else numbers. */
static void learn_roles(StepBuild *s, ModelInstance *model) {
    Build *build = s->build;
    DataSet *data = s->train->plan->data;
    if (!data || !fed_by_data(s, model))
        return;
    model->data = data;
    model->roles.count = 0;
    for (int i = 0; i < model->output_names.count; i++)
        *LIST_ADD(build->arena, &model->roles) = role_of_only(s, model);
    for (int i = 0; i < build->losses.count; i++)
        for (int j = 0; j < model->results.count; j++)
            if (build->losses.at[i].output == model->results.at[j].node) {
                OutputRole *role = &model->roles.at[model->results.at[j].output];
                *role = (OutputRole){.link = build->losses.at[i].loss->link};
                target_columns(build, data, build->losses.at[i].target, role);
            }
}

/* What one update leaves alone another may train. */
static void lint_updates(const StepBuild *s) {
    for (int i = 0; i < s->asked.count; i++) {
        const Tensor *tensor = s->asked.at[i];
        if (!was_updated(s, tensor))
            warning_at(tensor->span,
                       "no update of '%s' depends on '%s': it is not trained; use its layer on the way to what is "
                       "minimized, or leave it out",
                       tensor->owner, tensor->name);
    }
}

static bool build_training(Build *build, GraphTrain *train) {
    StepBuild s = {.build = build, .train = train, .training = true};
    bool ok = read_frozen(build, train, &s.frozen);
    Scope *before = scope_open(build, NULL);
    build->frozen = train->plan->live_statistics ? NULL : &s.frozen;
    build->statistics.count = 0;
    build->losses.count = 0;
    ok = build_statements(&s) && frozen_exist(&s) && ok;
    build->frozen = NULL;
    if (ok && s.losses.count == 0) {
        build_error(build, train->plan->step->span,
                    "this step updates nothing: write update %s with adam(1e-3) minimizing …",
                    train->models.at[0]->name);
        ok = false;
    }
    if (ok) {
        close_parts(&s);
        build_sums(&s, step_name(&s, "step"), "training", &train->training);
        train->loss_count = s.losses.count;
        count_flops(&s);
        build_start(build, train);
        Node **roots = arena_array(build->arena, Node *, s.losses.count);
        for (int i = 0; i < s.losses.count; i++)
            roots[i] = s.losses.at[i].loss;
        build_trace(build, train, roots, s.losses.count);
        lint_updates(&s);
        for (int i = 0; i < train->models.count; i++) {
            learn_roles(&s, train->models.at[i]);
            lint_step_outputs(build, train->models.at[i], roots, s.losses.count);
        }
    }
    build->scope = before;
    return ok;
}

/* The same names on the validation part: without dropout, with draws that stay the same, nothing updated. */
static bool build_validation(Build *build, GraphTrain *train) {
    StepBuild s = {.build = build, .train = train};
    Scope *before = scope_open(build, NULL);
    build->averaged = true;
    bool ok = build_statements(&s);
    build->averaged = false;
    if (ok) {
        const char *name = step_name(&s, "validation");
        *LIST_ADD(build->arena, &s.parts) =
            function_new(build, name, "the losses and what is logged, of the validation part", train->plan->span,
                         train->plan->batch_size);
        build_sums(&s, name, "the validation part", &train->validation);
    }
    build->scope = before;
    return ok;
}

void build_step(Build *build, GraphTrain *train) {
    const TrainPlan *plan = train->plan;
    if (train->models.count < plan->model_count)
        return;
    for (int i = 0; i < train->models.count; i++)
        train->models.at[i]->trained = true;
    bool ok = build_training(build, train);
    if (ok && plan->data && plan->data->has_part[BP_VALIDATION])
        ok = build_validation(build, train);
    for (int i = 0; i < train->trainable.count; i++)
        train->trainable.at[i]->average = NULL;
    if (ok)
        find_monitor(build, train);
}
