/* Calls: arguments meet parameters, and the body of what is called is elaborated in a scope of its own. */
#include "build.h"

#include <math.h>
#include <string.h>

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static bool name_means_something(Build *build, Name name) {
    return scope_find(build, name) || (build->schedules && is_schedule_name(name)) ||
           program_find(build->program, name) || builtin_named(name);
}

/* A parameter whose default is a word (average = macro) takes words. */
static bool takes_words(Build *build, const Param *param) {
    if (param && param->type && param->type->kind == EXPR_NAME && !strcmp(param->type->name, "word"))
        return true;
    if (!param || !param->fallback || param->fallback->kind != EXPR_NAME)
        return false;
    Scope *before = build->scope;
    build->scope = NULL;
    bool word = !name_means_something(build, param->fallback->name);
    build->scope = before;
    return word;
}

Term build_argument(Build *build, const Param *param, const Expr *expr) {
    if (expr->kind == EXPR_NAME && takes_words(build, param) && !scope_find(build, expr->name))
        return (Term){.kind = TERM_SYMBOL, .name = expr->name, .span = expr->span};
    if (param && param->type && param->type->kind == EXPR_NAME && !strcmp(param->type->name, "first_value"))
        return (Term){.kind = TERM_FIRST, .expr = expr, .scope = build->scope, .span = expr->span};
    return build_expression(build, expr);
}

static const Param *find_param(const Item *item, Name name) {
    for (int i = 0; i < item->params.count; i++)
        if (item->params.at[i].name == name)
            return &item->params.at[i];
    return NULL;
}

static void unknown_option(Build *build, const Item *item, Name name, Span span) {
    LIST(Name) names = {0};
    for (int i = 0; i < item->params.count; i++)
        *LIST_ADD(build->arena, &names) = item->params.at[i].name;
    Name near = nearest_name(name, names.at, names.count);
    build_error(build, span, "'%s' has no option '%s'%s%s%s", item->name, name, near ? "; did you mean '" : "",
                near ? near : "", near ? "'?" : "");
}

/* What a parameter's type says of the values it takes: (y : probability), (t : category) … The string is the remedy. */
static bool check_type(Build *build, const Item *item, const Param *param, const Term *term, Span span) {
    const Expr *type = param->type;
    const char *remedy = "";
    if (!type || term->kind != TERM_NODE)
        return true;
    if (type->kind == EXPR_CALL) {
        if (type->call.args.count == 1 && type->call.args.at[0].value->kind == EXPR_STRING)
            remedy = arena_printf(build->arena, ": %s", type->call.args.at[0].value->string.bytes);
        type = type->call.callee;
    }
    Name word = type->kind == EXPR_NAME ? type->name : name_of("?");
    Node *node = term->node;
    const char *who =
        node->label && !span_in_prelude(node->span) ? arena_printf(build->arena, "'%s'", node->label) : "its output";
    Interval range = node->type == TYPE_INDEX || node->type == TYPE_TRUTH ? (Interval){0, INFINITY}
                                                                          : interval_of(build->graph, node);
    if (!strcmp(word, "category") || !strcmp(word, "classes")) {
        if (node->type == TYPE_INDEX)
            return true;
        const Binding *output = strcmp(word, "classes") ? NULL : scope_find(build, item->params.at[0].name);
        if (output && output->term.kind == TERM_NODE && node->rank == 1 &&
            node_same_shape(node, output->term.node)) /* a share for each class */
            return true;
        build_error(build, span, "'%s' needs a category as its target, but %s is %s%s", item->name, who,
                    node_shape(build->arena, node), remedy);
        return false;
    }
    if (!strcmp(word, "probability")) {
        if (range.low >= 0 && range.high <= 1)
            return true;
        build_error(build, span, "'%s' needs an output in [0, 1], but %s is not confined to it%s", item->name, who,
                    remedy);
        build_note(build, node->span, "%s is made here", who);
        return false;
    }
    if (!strcmp(word, "logits")) {
        if (!(range.low >= 0 && range.high <= 1) || node->op == OP_CONSTANT)
            return true;
        build_error(build, span, "'%s' takes raw outputs (logits), but %s is confined to [0, 1] already%s", item->name,
                    who, remedy);
        build_note(build, node->span, "%s is made here", who);
        return false;
    }
    if (!strcmp(word, "log_probability")) {
        if (range.high <= 0)
            return true;
        build_error(build, span, "'%s' takes logarithms of probabilities, but %s is not confined to [-infinity, 0]%s",
                    item->name, who, remedy);
        build_note(build, node->span, "%s is made here", who);
        return false;
    }
    if (!strcmp(word, "fraction")) {
        if (node->op != OP_CONSTANT || (node->number >= 0 && node->number < 1))
            return true;
        build_error(build, span, "'%s' of '%s' is at least 0 and below 1, not %g", param->name, item->name,
                    node->number);
        return false;
    }
    if (!strcmp(word, "share") || !strcmp(word, "count")) {
        lint_target(build, item, node, !strcmp(word, "share"), span);
        return true;
    }
    if (!strcmp(word, "positive")) {
        if (range.low >= 0)
            return true;
        build_error(build, span, "'%s' needs values that are not negative, but %s can be negative%s", item->name, who,
                    remedy);
        return false;
    }
    return true;
}

/* ---- one call ---------------------------------------------------------------------------------------------------- */

static Term partial(Build *build, const Item *item, BoundOption *options, int count, Span span) {
    Term term = {.kind = TERM_FUNCTION, .item = item, .span = span, .option_count = count};
    term.options = arena_array(build->arena, BoundOption, count ? count : 1);
    memcpy(term.options, options, sizeof(BoundOption) * (size_t)count);
    return term;
}

/* Binds parameters in build->scope, already the callee's. Returns false after an error; *missing when a value is
 * lacking. */
static bool bind_parameters(Build *build, const Item *item, Term *positional, int count, BoundOption *options,
                            int option_count, Span span, const Param **missing) {
    for (int i = 0; i < item->params.count; i++) {
        const Param *param = &item->params.at[i];
        Term value = NOTHING;
        bool given = false;
        if (i < count) {
            value = positional[i];
            given = true;
        }
        for (int j = 0; j < option_count; j++) {
            if (options[j].name != param->name)
                continue;
            if (i < count) {
                build_error(build, options[j].span, "'%s' is given twice", param->name);
                return false;
            }
            value = *options[j].value;
            given = true;
        }
        if (!given && param->fallback) {
            value = build_argument(build, param, param->fallback);
            given = true;
        }
        if (!given) {
            *missing = param;
            return true;
        }
        if (value.kind == TERM_LIST && param->type) /* a vector, since its type is that of a value */
            value = term_node(term_value(build, &value), value.span);
        if (value.kind == TERM_NOTHING ||
            !check_type(build, item, param, &value, value.span.source >= 0 ? value.span : span))
            return false;
        scope_bind(build, param->name, param->span, value);
    }
    return true;
}

static Term call_body(Build *build, const Item *item) {
    bool has_value = item->value != NULL;
    Term result = has_value ? build_expression(build, item->value) : build_body(build, &item->body);
    if (result.kind == TERM_NOTHING || item->kind != ITEM_DEF || item->body.count == 0)
        return result;
    bool has_grad = false;
    for (int i = 0; i < item->body.count; i++)
        has_grad |= item->body.at[i]->kind == STMT_GRAD;
    if (!has_grad || result.kind != TERM_NODE)
        return result;
    Node **nodes = arena_array(build->arena, Node *, item->params.count);
    for (int i = 0; i < item->params.count; i++) {
        const Binding *binding = scope_find(build, item->params.at[i].name);
        nodes[i] = binding && binding->term.kind == TERM_NODE ? binding->term.node : node_constant(build->graph, 0);
    }
    Span before = graph_set_span(build->graph, build->user);
    Node *custom = node_custom(build->graph, item, result.node, nodes, item->params.count);
    graph_set_span(build->graph, before);
    return term_node(custom, result.span);
}

/* A category needs an output for each of its classes. */
bool takes_category(const Param *param) {
    const Expr *type = param->type && param->type->kind == EXPR_CALL ? param->type->call.callee : param->type;
    return type && type->kind == EXPR_NAME && (!strcmp(type->name, "category") || !strcmp(type->name, "classes"));
}

static bool classes_fit(Build *build, const Item *item, const Term *positional, int count, Span span) {
    if (count < 2 || item->params.count < 2 || !takes_category(&item->params.at[1]) ||
        positional[0].kind != TERM_NODE || positional[1].kind != TERM_NODE)
        return true;
    const Node *y = positional[0].node, *t = positional[1].node;
    if (t->type != TYPE_INDEX || t->classes < 1 || node_elements(y) == t->classes)
        return true;
    build_error(build, span, "'%s' needs an output for each of the %d categories of '%s', but %s is %s", item->name,
                t->classes, t->label ? t->label : "the target", node_called(build->arena, y),
                node_shape(build->arena, y));
    build_note(build, y->span, "%s is made here", node_called(build->arena, y));
    return false;
}

static void remember_loss(Build *build, const Item *item, Term *positional, int count) {
    if (count < 2 || positional[0].kind != TERM_NODE || positional[1].kind != TERM_NODE)
        return;
    *LIST_ADD(build->arena, &build->losses) = (LossUse){positional[0].node, positional[1].node, item};
}

static Term weigh_loss(Build *build, const Term *positional, int count, Term loss, Span span) {
    bool weighed = build->weighed && build->in_loss == 0 && count > 1 && loss.kind == TERM_NODE &&
                   positional[1].kind == TERM_NODE && positional[1].node == build->weighed;
    Node *args[2] = {loss.node, build->class_weight};
    return weighed ? term_node(build_op(build, OP_MULTIPLY, args, 2, span), span) : loss;
}

static Term invoke(Build *build, const Item *item, Term *positional, int count, BoundOption *options, int option_count,
                   Span span) {
    if (item->kind == ITEM_OPTIMIZER)
        return build_error(build, span, "'%s' is an optimizer: it stands in 'optimizer %s(…)' of a train block",
                           item->name, item->name);
    if (count > item->params.count)
        return build_error(build, span, "'%s' takes %d argument%s, not %d", item->name, item->params.count,
                           item->params.count == 1 ? "" : "s", count);
    for (int i = 0; i < option_count; i++)
        if (!find_param(item, options[i].name)) {
            unknown_option(build, item, options[i].name, options[i].span);
            return NOTHING;
        }
    if (build->depth > 200)
        return build_error(build, span, "'%s' calls itself without end", item->name);
    Scope *scope = scope_open(build, NULL);
    Stmt **replacements = build->replacements;
    Name callee = build->callee;
    const Item *def = build->def;
    if (item->kind == ITEM_DEF)
        build->def = item;
    bool bound = build->bound, unnamed = item->kind == ITEM_BLOCK && !bound;
    if (unnamed)
        *LIST_ADD(build->arena, &build->path) = NULL;
    build->bound = false;
    build->replacements = NULL;
    build->depth++;
    if (span_in_prelude(item->span))
        build->callee = item->name;
    const Param *missing = NULL;
    Term result = NOTHING;
    if (bind_parameters(build, item, positional, count, options, option_count, span, &missing)) {
        if (missing && count == 0)
            result = partial(build, item, options, option_count, span);
        else if (missing)
            build_error(build, span, "'%s' needs '%s'", item->name, missing->name);
        else if (item->kind != ITEM_LOSS || classes_fit(build, item, positional, count, span)) {
            build->in_loss += item->kind == ITEM_LOSS;
            result = call_body(build, item);
            build->in_loss -= item->kind == ITEM_LOSS;
            if (item->kind == ITEM_LOSS) {
                remember_loss(build, item, positional, count);
                if (count > 1 && positional[0].kind == TERM_NODE && positional[1].kind == TERM_NODE &&
                    result.kind == TERM_NODE)
                    lint_loss(build, item, positional[0].node, positional[1].node, result.node, span);
                result = weigh_loss(build, positional, count, result, span);
            }
        }
    }
    if (unnamed)
        build->path.count--;
    build->def = def;
    build->bound = bound;
    build->scope = scope;
    build->replacements = replacements;
    build->callee = callee;
    build->depth--;
    if (result.kind != TERM_FUNCTION)
        result.span = span;
    return result;
}

Term build_apply(Build *build, const Term *function, Term *positional, int count, BoundOption *options,
                 int option_count, Span span) {
    switch (function->kind) {
    case TERM_FUNCTION: {
        int all = function->option_count + option_count;
        BoundOption *joined = arena_array(build->arena, BoundOption, all ? all : 1);
        for (int i = 0; i < all; i++)
            joined[i] = i < option_count ? options[i] : function->options[i - option_count];
        return invoke(build, function->item, positional, count, joined, all, span);
    }
    case TERM_BUILTIN: {
        const Builtin *builtin = function->builtin;
        if (builtin->choose)
            return build_error(build, span, "'%s' must be called by its own name", builtin->name);
        if (count < builtin->least || count > builtin->most) {
            if (builtin->least == builtin->most)
                return build_error(build, span, "'%s' takes %d argument%s, not %d", builtin->name, builtin->least,
                                   builtin->least == 1 ? "" : "s", count);
            return build_error(build, span, "'%s' takes %d to %d arguments, not %d", builtin->name, builtin->least,
                               builtin->most, count);
        }
        for (int i = 0; i < count; i++)
            if (positional[i].kind == TERM_NOTHING)
                return NOTHING;
        if (builtin->apply)
            return builtin->apply(build, positional, count, options, option_count, span);
        if (option_count)
            return build_error(build, options[0].span, "'%s' has no option '%s'", builtin->name, options[0].name);
        Node *args[3] = {NULL};
        for (int i = 0; i < count; i++) {
            args[i] = builtin->op == OP_REAL ? term_value(build, &positional[i]) : term_number(build, &positional[i]);
        }
        Node *node = build_op(build, builtin->op, args, count, span);
        if (node)
            lint_domain(build, builtin->op, args, node, span);
        return term_node(node, span);
    }
    case TERM_MODEL:
        if (option_count)
            return build_error(build, options[0].span, "a model takes no options");
        for (int i = 0; i < count; i++)
            if (positional[i].kind == TERM_NOTHING)
                return NOTHING;
        return build_model_call(build, function->model, positional, count, span);
    case TERM_NOTHING:
        return NOTHING;
    default:
        return build_error(build, span, "%s cannot be called", term_kind_name(function));
    }
}

Term build_call(Build *build, const Expr *call) {
    Term callee = build_expression(build, call->call.callee);
    if (callee.kind == TERM_NOTHING)
        return NOTHING;
    if (callee.kind == TERM_BUILTIN && callee.builtin->choose)
        return callee.builtin->choose(build, call);
    const Item *item = callee.kind == TERM_FUNCTION ? callee.item : NULL;
    const Args *args = &call->call.args;
    Term *positional = arena_array(build->arena, Term, args->count ? args->count : 1);
    BoundOption *options = arena_array(build->arena, BoundOption, args->count ? args->count : 1);
    int count = 0, option_count = 0;
    bool ok = true;
    for (int i = 0; i < args->count; i++) {
        const Arg *arg = &args->at[i];
        if (!arg->name) {
            if (option_count) {
                build_error(build, arg->value->span, "a value without a name stands before the options");
                return NOTHING;
            }
            const Param *param = item && count < item->params.count ? &item->params.at[count] : NULL;
            positional[count] = build_argument(build, param, arg->value);
            ok &= positional[count++].kind != TERM_NOTHING;
            continue;
        }
        for (int j = 0; j < option_count; j++)
            if (options[j].name == arg->name)
                return build_error(build, arg->name_span, "'%s' is given twice", arg->name);
        const Param *param = item ? find_param(item, arg->name) : NULL;
        Term *value = arena_new_of(build->arena, Term);
        *value = build_argument(build, param, arg->value);
        ok &= value->kind != TERM_NOTHING;
        options[option_count++] = (BoundOption){arg->name, arg->name_span, value};
    }
    if (!ok)
        return NOTHING;
    return build_apply(build, &callee, positional, count, options, option_count, call->span);
}

/* ---- formulas of derivatives ------------------------------------------------------------------------------------- */

/* An elaborator that knows nothing but the graph: for formulas over given nodes. */
static Build formula_build(Graph *graph, Span user) {
    Build build = {0};
    build.graph = graph;
    build.arena = graph_arena(graph);
    build.user = user;
    build.program = graph_program(graph);
    return build;
}

Node *build_derivative(Graph *graph, const Item *formula, Node *node, Node *d) {
    Build build = formula_build(graph, node->span);
    Program nothing = {0}; /* a user's def called sign or cos is not what the op table means */
    build.program = &nothing;
    scope_open(&build, NULL);
    static const char *const names[3] = {"a", "b", "c"};
    for (int i = 0; i < node->arg_count; i++)
        scope_bind(&build, name_of(names[i]), SPAN_NONE, term_node(node->args[i], SPAN_NONE));
    scope_bind(&build, name_of("r"), SPAN_NONE, term_node(node, SPAN_NONE));
    scope_bind(&build, name_of("d"), SPAN_NONE, term_node(d, SPAN_NONE));
    Term term = build_expression(&build, formula->value);
    if (term.kind != TERM_NODE)
        BUG("the derivative of '%s' is not a value", op_table[node->op].name);
    return term.node;
}

Node *build_custom_derivative(Graph *graph, const Item *item, Node *node, int parameter, Node *d) {
    const Stmt *clause = NULL;
    for (int i = 0; i < item->body.count; i++)
        if (item->body.at[i]->kind == STMT_GRAD && item->body.at[i]->names.at[0] == item->params.at[parameter].name)
            clause = item->body.at[i];
    if (!clause)
        return NULL;
    Build build = formula_build(graph, node->span);
    scope_open(&build, NULL);
    for (int i = 0; i < item->params.count; i++)
        scope_bind(&build, item->params.at[i].name, SPAN_NONE, term_node(node->args[i + 1], SPAN_NONE));
    scope_bind(&build, name_of("result"), SPAN_NONE, term_node(node, SPAN_NONE));
    scope_bind(&build, name_of("d"), SPAN_NONE, term_node(d, SPAN_NONE));
    Term term = build_expression(&build, clause->value);
    if (term.kind != TERM_NODE) {
        if (term.kind != TERM_NOTHING)
            error_at(clause->span, "a grad clause gives a value");
        return NULL;
    }
    return term.node;
}
