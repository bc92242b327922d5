/* Measuring: metrics are formulas with sums over all rows of a split. What stands inside such a sum is computed batch
   by batch (accumulate), what stands outside once at the end (finish); a sum inside a sum needs a sweep of its own
   before. */
#include "build.h"

#include <string.h>

typedef struct Reduction {
    Node *node; /* a sum over the batch, or an unbatched value added up batch by batch */
    int depth;  /* 1: nothing of the kind inside */
    Buffer *totals;
    int64_t first;
} Reduction;

typedef struct Staging {
    Build *build;
    LIST(Reduction) reductions;
    int *depths; /* by node id; -1 unknown */
    int count;
    bool *inside; /* by node id: of the models themselves, whose sums over a batch (batch_norm's) stay within it */
    int below;    /* replace reductions of smaller depth */
    Buffer *row_totals; /* element 0: rows of the whole split */
} Staging;

static bool is_reduction(const Node *node) {
    return node->op == OP_BATCH_SUM || (node->op == OP_CONTRACT && node->contract.over_batch);
}

static bool is_row_count(const Node *node) {
    return node->op == OP_TOTAL && !node->buffer;
}

static int depth_of(Staging *staging, Node *node) {
    if (staging->depths[node->id] >= 0)
        return staging->depths[node->id];
    if (staging->inside[node->id])
        return staging->depths[node->id] = 0;
    int depth = is_row_count(node) || ranking_behind(staging->build, node) ? 1 : 0;
    for (int i = 0; i < node->arg_count; i++) {
        int inside = depth_of(staging, node->args[i]);
        if (inside > depth)
            depth = inside;
    }
    if (is_reduction(node)) {
        depth = depth + 1;
        *LIST_ADD(staging->build->arena, &staging->reductions) = (Reduction){node, depth, NULL, 0};
    }
    return staging->depths[node->id] = depth;
}

static Node *replace_reduction(void *context, Node *node) {
    Staging *staging = context;
    if (is_row_count(node))
        return node_total(staging->build->graph, staging->row_totals, 0, 0, NULL);
    const Ranking *ranking = ranking_behind(staging->build, node);
    if (ranking)
        return node_total(staging->build->graph, staging->row_totals, ranking->total, 0, NULL);
    for (int i = 0; i < staging->reductions.count; i++) {
        const Reduction *reduction = &staging->reductions.at[i];
        if (reduction->node == node && reduction->totals && reduction->depth < staging->below)
            return node_total(staging->build->graph, reduction->totals, reduction->first, node->rank, node->dims);
    }
    return NULL;
}

static void mark_inside(Staging *staging, const Node *node) {
    if (staging->inside[node->id])
        return;
    staging->inside[node->id] = true;
    for (int i = 0; i < node->arg_count; i++)
        mark_inside(staging, node->args[i]);
}

static void mark_models(Staging *staging, const Forward *forward) {
    for (int i = 0; i < forward->outputs.count; i++) {
        const Term *outputs = &forward->outputs.at[i];
        if (outputs->kind == TERM_NODE)
            mark_inside(staging, outputs->node);
        for (int j = 0; outputs->kind == TERM_TUPLE && j < outputs->count; j++)
            if (outputs->at[j].kind == TERM_NODE)
                mark_inside(staging, outputs->at[j].node);
    }
}

/* ---- metrics of a request ---------------------------------------------------------------------------------------- */

typedef struct Root {
    GraphMetric metric;
    Node *value;
    Span span;
} Root;

static int better_of(const Item *item) {
    for (int i = 0; i < item->params.count; i++)
        if (!strcmp(item->params.at[i].name, "better") && item->params.at[i].fallback &&
            item->params.at[i].fallback->kind == EXPR_NAME)
            return !strcmp(item->params.at[i].fallback->name, "higher")  ? 1
                   : !strcmp(item->params.at[i].fallback->name, "lower") ? -1
                                                                         : 0;
    return item->kind == ITEM_LOSS ? -1 : 0;
}

/* Outputs and targets in the file's units take the names' places. */
static bool rebind_in_file_units(Build *build, const MeasureRequest *request) {
    const DataSet *data = request->data;
    for (int m = 0; m < request->forward->outputs.count; m++) {
        ModelInstance *model = request->models[m];
        const Term *outputs = &request->forward->outputs.at[m];
        for (int i = 0; i < model->output_names.count && i < model->roles.count; i++) {
            const Term *output = outputs->kind == TERM_TUPLE ? &outputs->at[i] : outputs;
            if (output->kind != TERM_NODE)
                return false;
            Node *prediction =
                build_prediction(build, &model->roles.at[i], output->node, request->stop_at_log, request->span);
            Name joined = name_of(arena_printf(build->arena, "%s.%s", model->name, model->output_names.at[i]));
            scope_bind(build, joined, model->span, term_node(prediction, model->span));
        }
    }
    for (int i = 0; i < data->group_count; i++) {
        const DataGroup *group = &data->groups[i];
        for (int j = 0; group->target && j < group->slot_count; j++) {
            const DataSlot *slot = &data->slots[group->first_slot + j];
            for (int k = 0; k < slot->width && !slot->category; k++) {
                if (data->columns[slot->columns[k]].transform_count == 0)
                    continue; /* it is in its file's units */
                Name name = data->columns[slot->columns[k]].name;
                const Binding *binding = scope_find(build, name);
                Node *units = build_file_units(build, data, slot->columns[k], 1, binding->term.node,
                                               request->stop_at_log, request->span);
                scope_bind(build, name, binding->span, term_node(units, binding->span));
            }
        }
    }
    return true;
}

/* The only output and the only target, where a metric or loss is named bare. */
static bool bare_arguments(Build *build, const MeasureRequest *request, Term *args, Name who, Span span) {
    const DataGroup *target = NULL;
    for (int i = 0; i < request->data->group_count; i++)
        if (request->data->groups[i].target) {
            if (target) {
                build_error(build, span, "'%s' has several targets: say which, %s(%s.…, %s)", request->data->name, who,
                            request->models[0]->name,
                            request->data->columns[request->data->slots[target->first_slot].columns[0]].name);
                return false;
            }
            target = &request->data->groups[i];
        }
    ModelInstance *model = request->models[0];
    if (!target || request->forward->outputs.count != 1 || model->output_names.count != 1 || model->roles.count != 1) {
        build_error(build, span, "'%s' needs one output and one target: name them, %s(output, target)", who, who);
        return false;
    }
    Name joined = name_of(arena_printf(build->arena, "%s.%s", model->name, model->output_names.at[0]));
    args[0] = scope_find(build, joined)->term;
    args[0].span = span;
    Node *node = data_group_node(build, request->data, target);
    if (node->type == TYPE_REAL)
        node = build_file_units(build, request->data, request->data->slots[target->first_slot].columns[0],
                                request->data->slots[target->first_slot].width, node, request->stop_at_log, span);
    args[1] = term_node(node, span);
    return true;
}

static void label_metric(Build *build, Root *root, const Term *target) {
    root->metric.rows = root->value->rank > 0 ? (int)root->value->dims[0] : 1;
    root->metric.columns = root->value->rank > 1 ? (int)root->value->dims[1] : 1;
    if (root->value->rank == 0)
        return;
    root->metric.labels = arena_array(build->arena, Name, root->metric.rows);
    for (int i = 0; i < root->metric.rows; i++)
        root->metric.labels[i] = name_of(arena_printf(build->arena, "%d", i));
    if (!target || target->kind != TERM_NODE || target->node->op != OP_INPUT)
        return;
    const DataSet *data = target->node->data;
    const DataColumn *column = &data->columns[data->slots[target->node->integer].columns[0]];
    if (column->category && column->category_count == root->metric.rows)
        root->metric.labels = column_categories(build->arena, column);
}

/* A loss as a metric: its mean over the rows. */
static bool loss_root(Build *build, const MeasureRequest *request, const Expr *expr, const Term *function, Root *root) {
    bool explicit = false;
    for (int i = 0; expr->kind == EXPR_CALL && i < expr->call.args.count; i++)
        explicit |= expr->call.args.at[i].name == NULL;
    Term called = *function, result;
    if (expr->kind == EXPR_CALL && !explicit)
        called = build_call(build, expr);
    if (explicit) {
        result = build_expression(build, expr);
    } else {
        Term args[2] = {request->forward->outputs.at[0], NOTHING};
        int targets = 0;
        for (int i = 0; i < request->data->group_count; i++)
            if (request->data->groups[i].target) {
                args[1] = term_node(data_group_node(build, request->data, &request->data->groups[i]), expr->span);
                targets++;
            }
        if (targets != 1 || args[0].kind != TERM_NODE || request->forward->outputs.count != 1) {
            build_error(build, expr->span, "'%s' needs one output and one target: name them, %s(output, target)",
                        function->item->name, function->item->name);
            return false;
        }
        args[0].span = expr->span;
        result = build_apply(build, &called, args, 2, NULL, 0, expr->span);
    }
    Node *value = term_number(build, &result);
    if (!value)
        return false;
    value = node_op(build->graph, OP_DIVIDE, node_batch_sum(build->graph, node_reshape(build->graph, value, 0, NULL)),
                    node_total(build->graph, NULL, 0, 0, NULL), NULL);
    *root = (Root){{.name = function->item->name, .rows = 1, .columns = 1, .better = -1}, value, expr->span};
    return true;
}

static bool metric_root(Build *build, const MeasureRequest *request, const Expr *expr, Root *root) {
    build->user = expr->span;
    const Expr *called = expr->kind == EXPR_CALL ? expr->call.callee : expr;
    Term function = called->kind == EXPR_NAME ? build_expression(build, called) : NOTHING;
    if (called->kind == EXPR_NAME && function.kind == TERM_NOTHING)
        return false;
    if (function.kind != TERM_FUNCTION || (function.item->kind != ITEM_METRIC && function.item->kind != ITEM_LOSS)) {
        build_error(build, expr->span, "a metric is needed here: accuracy, f1(average = macro), rmse …");
        return false;
    }
    if (function.item->kind == ITEM_LOSS) { /* of what is trained: raw outputs, trained units */
        Scope *units = build->scope;
        build->scope = units->parent;
        bool ok = loss_root(build, request, expr, &function, root);
        build->scope = units;
        return ok;
    }
    Term args[2] = {NOTHING, NOTHING}, result;
    bool explicit = false;
    for (int i = 0; expr->kind == EXPR_CALL && i < expr->call.args.count; i++)
        explicit |= expr->call.args.at[i].name == NULL;
    root->metric.name = function.item->name;
    if (explicit) {
        result = build_expression(build, expr);
        const Expr *first = expr->call.args.at[0].value;
        if (first->kind == EXPR_FIELD)
            root->metric.name = name_of(arena_printf(build->arena, "%s_%s", first->field.name, function.item->name));
        if (expr->call.args.count > 1)
            args[1] = build_expression(build, expr->call.args.at[1].value);
    } else {
        if (expr->kind == EXPR_CALL) {
            function = build_call(build, expr);
            if (function.kind != TERM_FUNCTION)
                return false;
        }
        if (!bare_arguments(build, request, args, function.item->name, expr->span))
            return false;
        result = build_apply(build, &function, args, 2, NULL, 0, expr->span);
    }
    Node *value = term_number(build, &result);
    if (!value)
        return false;
    if (value->batched || value->rank > 2) {
        build_error(build, expr->span, "'%s' gives a value for each row: use batch_mean or batch_sum in it",
                    function.item->name);
        return false;
    }
    root->value = value;
    root->span = expr->span;
    root->metric.better = better_of(function.item);
    label_metric(build, root, &args[1]);
    return true;
}

/* ---- passes ------------------------------------------------------------------------------------------------------ */

static Buffer *pass_buffer(Build *build, const MeasureRequest *request, const char *what, int pass, BufferRole role,
                           Scalar scalar, int64_t elements) {
    const char *name = pass ? arena_printf(build->arena, "%s_%s_%d", request->name, what, pass + 1)
                            : arena_printf(build->arena, "%s_%s", request->name, what);
    return buffer_new(build->arena, name, role, scalar, 0, 1, &elements, request->span);
}

static void build_pass(Staging *staging, const MeasureRequest *request, int depth, Node *loss_sum, GraphPass *pass) {
    Build *build = staging->build;
    int64_t one = 1, at = 1 + (depth == 1 && loss_sum);
    pass->totals = pass_buffer(build, request, "totals", depth - 1, BUFFER_TOTALS, SCALAR_F64, one);
    if (depth == 1)
        staging->row_totals = pass->totals;
    for (int i = 0; i < staging->reductions.count; i++) {
        Reduction *reduction = &staging->reductions.at[i];
        if (reduction->depth != depth)
            continue;
        reduction->totals = pass->totals;
        reduction->first = at;
        at += node_elements(reduction->node);
    }
    pass->sum_count = at;
    pass->totals->elements = pass->totals->dims[0] = at;
    pass->sums = pass_buffer(build, request, "sums", depth - 1, BUFFER_OUTPUT, SCALAR_F32, at);
    const char *name = depth == 1 ? request->name : arena_printf(build->arena, "%s_%d", request->name, depth);
    pass->accumulate =
        request->step ? request->step : function_new(build, name, request->about, request->span, request->capacity);
    *LIST_ADD(build->arena, &pass->accumulate->sinks) = (Sink){node_rows(build->graph), NULL, pass->sums, 0};
    if (depth == 1 && loss_sum)
        *LIST_ADD(build->arena, &pass->accumulate->sinks) = (Sink){loss_sum, NULL, pass->sums, 1};
    if (depth == 1)
        place_rankings(build, request, pass);
    staging->below = depth;
    Rewriter rewriter;
    rewrite_start(&rewriter, build->graph, replace_reduction, staging);
    for (int i = 0; i < staging->reductions.count; i++)
        if (staging->reductions.at[i].depth == depth)
            *LIST_ADD(build->arena, &pass->accumulate->sinks) = (Sink){
                rewrite(&rewriter, staging->reductions.at[i].node), NULL, pass->sums, staging->reductions.at[i].first};
}

static void build_finish(Staging *staging, const MeasureRequest *request, Root *roots, int count, int deepest,
                         bool has_loss, GraphMeasure *measure) {
    Build *build = staging->build;
    GraphPass *last = &measure->passes.at[measure->passes.count - 1];
    last->finish = function_new(build, arena_printf(build->arena, "%s_finish", request->name),
                                arena_printf(build->arena, "from sums over the rows to metrics: %s", request->about),
                                request->span, 1);
    staging->below = deepest + 1;
    Rewriter rewriter;
    rewrite_start(&rewriter, build->graph, replace_reduction, staging);
    for (int i = 0; i < count; i++) {
        Node *value = roots[i].value;
        if (i == 0 && has_loss) {
            Node *rows = node_total(build->graph, staging->row_totals, 0, 0, NULL);
            value =
                node_op(build->graph, OP_DIVIDE, node_total(build->graph, staging->row_totals, 1, 0, NULL), rows, NULL);
        } else {
            value = rewrite(&rewriter, value);
        }
        GraphMetric metric = roots[i].metric;
        int64_t dims[2] = {metric.rows, metric.columns};
        metric.buffer = buffer_new(build->arena, arena_printf(build->arena, "%s_%s", request->name, metric.name),
                                   BUFFER_OUTPUT, SCALAR_F64, 0, 2, dims, roots[i].span);
        *LIST_ADD(build->arena, &last->finish->sinks) = (Sink){value, NULL, metric.buffer, 0};
        *LIST_ADD(build->arena, &measure->metrics) = metric;
    }
}

static bool gather_roots(Build *build, const MeasureRequest *request, Root *roots, int *count) {
    bool ok = true;
    Scope *before = scope_open(build, build->scope);
    build->measuring = true;
    ok = rebind_in_file_units(build, request);
    for (int i = 0; ok && i < request->metrics->count; i++) {
        Root root = {0};
        if (request->metrics->at[i].name) {
            build_error(build, request->metrics->at[i].name_span,
                        "a metric has no name of its own: write accuracy, rmse …");
            ok = false;
        } else if (!metric_root(build, request, request->metrics->at[i].value, &root)) {
            ok = false;
        } else {
            for (int j = 0; j < *count; j++)
                if (roots[j].metric.name == root.metric.name) {
                    build_error(build, root.span, "'%s' stands here twice", root.metric.name);
                    ok = false;
                }
            roots[(*count)++] = root;
        }
    }
    build->measuring = false;
    build->scope = before;
    return ok;
}

/* Not within a step: the weights change from batch to batch. */
static void leave_rankings_out(Build *build, Root *roots, int *count) {
    int kept = 0;
    for (int i = 0; i < *count; i++) {
        if (!roots[i].value || !uses_ranking(build, roots[i].value)) {
            roots[kept++] = roots[i];
            continue;
        }
        note_at(roots[i].span, "'%s' needs the order of all rows: it is measured on the validation part only",
                roots[i].metric.name);
    }
    *count = kept;
    build->rankings.count = 0;
}

bool build_measure(Build *build, const MeasureRequest *request, GraphMeasure *measure, Node **loss_sum) {
    Root *roots = arena_array(build->arena, Root, request->metrics->count + 1);
    int count = 0, deepest = 1;
    Node *loss = NULL;
    if (request->loss) {
        loss = node_batch_sum(build->graph, request->loss);
        if (request->penalty)
            loss = node_op(build->graph, OP_ADD, loss,
                           node_op(build->graph, OP_MULTIPLY, node_rows(build->graph), request->penalty, NULL), NULL);
        roots[count++] = (Root){{.name = name_of("loss"), .rows = 1, .columns = 1, .better = -1}, NULL, request->span};
    }
    build->rankings.count = 0;
    if (!gather_roots(build, request, roots, &count))
        return false;
    if (request->step)
        leave_rankings_out(build, roots, &count);
    Staging staging = {.build = build, .count = graph_node_count(build->graph)};
    staging.depths = arena_array(build->arena, int, staging.count);
    memset(staging.depths, -1, sizeof(int) * (size_t)staging.count);
    staging.inside = arena_array(build->arena, bool, staging.count);
    mark_models(&staging, request->forward);
    int kept = 0;
    for (int i = 0; i < count; i++) {
        int depth = roots[i].value ? depth_of(&staging, roots[i].value) : 1;
        if (request->step && depth > 1 && is_reduction(roots[i].value) == false) {
            int deeper = 0; /* sums inside sums: not within a step */
            for (int j = 0; j < staging.reductions.count; j++)
                deeper |= staging.reductions.at[j].depth > 1;
            if (deeper) {
                for (int j = staging.reductions.count - 1; j >= 0; j--)
                    if (staging.reductions.at[j].depth > 1)
                        staging.reductions.at[j] = staging.reductions.at[--staging.reductions.count];
                note_at(roots[i].span,
                        "'%s' needs two sweeps over the rows: it is measured on the validation part only",
                        roots[i].metric.name);
                continue;
            }
        }
        roots[kept++] = roots[i];
    }
    count = kept;
    for (int i = 0; i < staging.reductions.count; i++)
        if (staging.reductions.at[i].depth > deepest)
            deepest = staging.reductions.at[i].depth;
    for (int depth = 1; depth <= deepest; depth++)
        build_pass(&staging, request, depth, loss, LIST_ADD(build->arena, &measure->passes));
    build_finish(&staging, request, roots, count, deepest, loss != NULL, measure);
    if (loss_sum)
        *loss_sum = loss;
    return true;
}
