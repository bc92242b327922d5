/* The statements of a body, in order: names are bound, weights come into being, `return` gives the result. */
#include "build.h"

#include <string.h>

static Stmt *replacement_for(Build *build, Name name) {
    for (int i = 0; i < build->replacement_count && build->replacements; i++)
        if (build->replacements[i]->names.at[0] == name) {
            build->replaced[i] = true;
            return build->replacements[i];
        }
    return NULL;
}

static void remember_layer(Build *build) {
    const char *path = path_join(build, NULL);
    if (!build->model || !path || !*path)
        return;
    Name name = name_of(path);
    for (int i = 0; i < build->model->layers.count; i++)
        if (build->model->layers.at[i] == name)
            return;
    *LIST_ADD(build->arena, &build->model->layers) = name;
}

static void label_result(Build *build, const Term *term) {
    const char *path = path_join(build, NULL);
    if (term->kind == TERM_NODE && path && *path && term->node->arg_count)
        node_label(term->node, name_of(path));
}

static void bind_names(Build *build, const Stmt *stmt, Term term) {
    if (stmt->names.count == 1) {
        scope_bind(build, stmt->names.at[0], stmt->names.spans[0], term);
        return;
    }
    if (term.kind != TERM_NOTHING && (term.kind != TERM_TUPLE || term.count != stmt->names.count)) {
        build_error(build, stmt->span, "%d names for %s%s", stmt->names.count, term_kind_name(&term),
                    term.kind == TERM_TUPLE ? arena_printf(build->arena, " (%d)", term.count) : "");
        term = NOTHING;
    }
    for (int i = 0; i < stmt->names.count; i++)
        scope_bind(build, stmt->names.at[i], stmt->names.spans[i], term.kind == TERM_TUPLE ? term.at[i] : NOTHING);
}

static void build_bind(Build *build, const Stmt *stmt) {
    const Stmt *meant = stmt;
    bool fresh = build->fresh;
    if (stmt->names.count == 1 && build->replacements) {
        Stmt *replacement = replacement_for(build, stmt->names.at[0]);
        if (replacement) {
            meant = replacement;
            build->fresh = true;
        }
    }
    *LIST_ADD(build->arena, &build->path) = stmt->names.at[0];
    bool bound = build->bound;
    build->bound = true;
    Term term = build_expression(build, meant->value);
    build->bound = bound;
    remember_layer(build);
    if (!span_in_prelude(stmt->span))
        label_result(build, &term);
    build->path.count--;
    build->fresh = fresh;
    bind_names(build, stmt, term);
}

static void build_parameter_statement(Build *build, const Stmt *stmt) {
    int rank = stmt->dims.count;
    Term *dims = arena_array(build->arena, Term, rank ? rank : 1);
    for (int i = 0; i < rank; i++)
        dims[i] = build_expression(build, stmt->dims.at[i].value);
    bool statistic = stmt->kind == STMT_STATE;
    Term term = build_parameter(build, stmt->names.at[0], dims, rank, stmt->value, statistic, stmt->span);
    scope_bind(build, stmt->names.at[0], stmt->names.spans[0], term);
}

/* state v = 0, in an optimizer: a tensor of the parameter's shape, one for each parameter and phase */
static void build_state(Build *build, const Stmt *stmt) {
    if (!build->updated && build->model) { /* in a block: of the shape that it says */
        build_parameter_statement(build, stmt);
        return;
    }
    if (!build->updated) {
        build_error(build, stmt->span, "'state' stands only in an optimizer or a block");
        return;
    }
    if (stmt->dims.count) {
        build_error(build, stmt->span, "an optimizer's state has the shape of the parameter");
        return;
    }
    Term first = build_expression(build, stmt->value);
    Node *init = term_number(build, &first);
    if (!init)
        return;
    if (init->rank || init->batched) {
        build_error(build, stmt->value->span, "a state begins with a number");
        return;
    }
    const Tensor *parameter = build->updated;
    Tensor *state = arena_new_of(build->arena, Tensor);
    state->name = name_of(arena_printf(build->arena, "%s:%s", parameter->name, stmt->names.at[0]));
    state->owner = build->train->plan->name;
    state->state = true;
    state->of = parameter;
    state->rank = parameter->rank;
    memcpy(state->dims, parameter->dims, sizeof state->dims);
    state->init = init;
    state->span = stmt->span;
    *LIST_ADD(build->arena, &build->train->states) = state;
    scope_bind(build, stmt->names.at[0], stmt->names.spans[0], term_node(node_tensor(build->graph, state), stmt->span));
}

typedef struct Substitution {
    const Node *of;
    Node *by;
} Substitution;

static Node *substitute(void *context, Node *node) {
    const Substitution *substitution = context;
    return node == substitution->of ? substitution->by : NULL;
}

static Node *following(Build *build, Node *value, const Node *of, Node *by) {
    Substitution substitution = {of, by};
    Rewriter rewriter;
    rewrite_start(&rewriter, build->graph, substitute, &substitution);
    return rewrite(&rewriter, value);
}

/* running_mean := …, in a block: its value in the next step, where the block learns */
static void build_statistic(Build *build, const Stmt *stmt, Tensor *tensor) {
    if (!build_learning(build))
        return;
    Term term = build_expression(build, stmt->value);
    Node *value = term_number(build, &term), *before = node_tensor(build->graph, tensor);
    if (!value)
        return;
    if (value->batched || (value->rank && !node_same_shape(value, before))) {
        build_error(build, stmt->span, "'%s' is %s, but its new value is %s%s", stmt->names.at[0],
                    node_shape(build->arena, before), node_shape(build->arena, value),
                    value->batched ? " for each row: take batch_mean" : "");
        return;
    }
    value = node_expand(build->graph, value, value->rank ? 0 : tensor->rank, tensor->dims);
    for (int i = 0; i < build->statistics.count; i++)
        if (build->statistics.at[i].tensor == tensor) { /* a second call in one step goes on from the first one's */
            build->statistics.at[i].value = following(build, value, before, build->statistics.at[i].value);
            return;
        }
    *LIST_ADD(build->arena, &build->statistics) = (Update){tensor, value};
}

static void build_assign(Build *build, const Stmt *stmt) {
    const Binding *target = scope_find(build, stmt->names.at[0]);
    const Node *assigned = target && target->term.kind == TERM_NODE ? target->term.node : NULL;
    if (!build->updated && assigned && assigned->op == OP_TENSOR && assigned->tensor->statistic) {
        build_statistic(build, stmt, assigned->tensor);
        return;
    }
    if (!build->updated) {
        build_error(build, stmt->span,
                    "':=' changes state, which only an optimizer or a block has; write '=' to name a value");
        return;
    }
    if (!target) {
        build_error(build, stmt->names.spans[0], "unknown name '%s': ':=' changes a parameter or a state",
                    stmt->names.at[0]);
        return;
    }
    Term term = build_expression(build, stmt->value);
    Node *value = term_number(build, &term);
    if (!value)
        return;
    if (value->batched || (value->rank && !node_same_shape(value, node_tensor(build->graph, build->updated)))) {
        build_error(build, stmt->span, "'%s' is %s, but its new value is %s%s", stmt->names.at[0],
                    node_shape(build->arena, node_tensor(build->graph, build->updated)),
                    node_shape(build->arena, value), value->batched ? " for each row" : "");
        return;
    }
    scope_bind(build, stmt->names.at[0], target->span,
               term_node(node_expand(build->graph, value, value->rank ? 0 : build->updated->rank, build->updated->dims),
                         stmt->span));
}

static Term build_return(Build *build, const Stmt *stmt) {
    if (stmt->values.count == 1)
        return build_expression(build, stmt->values.at[0].value);
    Term tuple = {.kind = TERM_TUPLE, .span = stmt->span, .count = stmt->values.count};
    tuple.at = arena_array(build->arena, Term, tuple.count);
    tuple.names = arena_array(build->arena, Name, tuple.count);
    for (int i = 0; i < tuple.count; i++) {
        const Expr *value = stmt->values.at[i].value;
        tuple.at[i] = build_expression(build, value);
        tuple.names[i] = value->kind == EXPR_NAME ? value->name : name_of(arena_printf(build->arena, "output%d", i));
        if (tuple.at[i].kind == TERM_NOTHING)
            return NOTHING;
    }
    return tuple;
}

Term build_body(Build *build, const Body *body) {
    for (int i = 0; i < body->count; i++) {
        const Stmt *stmt = body->at[i];
        Span before = build->user;
        if (!span_in_prelude(stmt->span))
            build->user = stmt->span;
        switch (stmt->kind) {
        case STMT_BIND:
            build_bind(build, stmt);
            break;
        case STMT_PARAMETER:
            build_parameter_statement(build, stmt);
            break;
        case STMT_STATE:
            build_state(build, stmt);
            break;
        case STMT_ASSIGN:
            build_assign(build, stmt);
            break;
        case STMT_GRAD:
            break; /* elaborated when a derivative is asked for */
        case STMT_RETURN: {
            Term result = build_return(build, stmt);
            build->user = before;
            if (i + 1 < body->count && body->at[i + 1]->kind != STMT_GRAD)
                build_error(build, body->at[i + 1]->span, "nothing can follow 'return'");
            return result;
        }
        case STMT_DRAW:
            build_error(build, stmt->span, "'~' is not there yet");
            break;
        case STMT_UPDATE:
            build_error(build, stmt->span, "'update' is not there yet");
            break;
        case STMT_REPLACE:
            build_error(
                build, stmt->span,
                "'replace' stands only in a model derived from another: model B = A from \"a.safetensors\" { … }");
            break;
        }
        build->user = before;
    }
    return NOTHING;
}
