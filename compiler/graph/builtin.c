/* The functions that the prelude cannot write: sums, shapes, draws, and choices made while compiling. */
#include "build.h"

#include <math.h>
#include <string.h>

/* ---- choices: only the branch that is chosen is elaborated ------------------------------------------------------- */

static Term choose_where(Build *build, const Expr *call) {
    const Args *args = &call->call.args;
    if (args->count != 3)
        return build_error(build, call->span, "'where' takes 3 arguments (a condition, a value, another), not %d",
                           args->count);
    for (int i = 0; i < 3; i++)
        if (args->at[i].name)
            return build_error(build, args->at[i].name_span, "'where' has no option '%s'", args->at[i].name);
    Term condition = build_expression(build, args->at[0].value);
    Node *truth = term_value(build, &condition);
    if (!truth)
        return NOTHING;
    if (truth->op == OP_CONSTANT)
        return build_expression(build, args->at[truth->number != 0 ? 1 : 2].value);
    if (truth->type != TYPE_TRUTH)
        return build_error(build, condition.span, "'where' needs a condition first, such as x > 0");
    build->guarded++;
    Term yes = build_expression(build, args->at[1].value), no = build_expression(build, args->at[2].value);
    build->guarded--;
    Node *nodes[3] = {truth, term_number(build, &yes), term_number(build, &no)};
    return term_node(build_op(build, OP_WHERE, nodes, 3, call->span), call->span);
}

/* choose(average, macro = a, micro = b): the value whose name is the word */
static Term choose_choose(Build *build, const Expr *call) {
    const Args *args = &call->call.args;
    if (args->count < 2 || args->at[0].name)
        return build_error(build, call->span,
                           "'choose' takes a word and named values: choose(average, macro = a, micro = b)");
    Term word = build_expression(build, args->at[0].value);
    if (word.kind == TERM_NOTHING)
        return NOTHING;
    if (word.kind != TERM_SYMBOL)
        return build_error(build, word.span, "%s: a word is needed here", term_kind_name(&word));
    Name *names = arena_array(build->arena, Name, args->count);
    const char *list = "";
    for (int i = 1; i < args->count; i++) {
        if (!args->at[i].name)
            return build_error(build, args->at[i].value->span, "each value of 'choose' has a name");
        if (args->at[i].name == word.name)
            return build_expression(build, args->at[i].value);
        names[i - 1] = args->at[i].name;
        list = arena_printf(build->arena, "%s%s%s", list, i > 1 ? ", " : "", args->at[i].name);
    }
    Name near = nearest_name(word.name, names, args->count - 1);
    const char *option = args->at[0].value->kind == EXPR_NAME ? args->at[0].value->name : "the word";
    if (near)
        return build_error(build, word.span, "'%s' is not a value of '%s'; did you mean '%s'?", word.name, option,
                           near);
    return build_error(build, word.span, "'%s' is not a value of '%s': it is one of %s", word.name, option, list);
}

static Term choose_when_training(Build *build, const Expr *call) {
    if (call->call.args.count != 2)
        return build_error(build, call->span, "'when_training' takes 2 values, not %d", call->call.args.count);
    return build_expression(build, call->call.args.at[build->training ? 0 : 1].value);
}

/* when_learning(a, b): a in training steps where the block is not frozen */
static Term choose_when_learning(Build *build, const Expr *call) {
    if (call->call.args.count != 2)
        return build_error(build, call->span, "'when_learning' takes 2 values, not %d", call->call.args.count);
    return build_expression(build, call->call.args.at[build_learning(build) ? 0 : 1].value);
}

/* parameter(init = 0), parameter([3], init = 0): weights without a statement of their own */
static Term choose_parameter(Build *build, const Expr *call) {
    Term shape = {0};
    const Expr *init = NULL;
    for (int i = 0; i < call->call.args.count; i++) {
        const Arg *arg = &call->call.args.at[i];
        if (arg->name == name_of("init"))
            init = arg->value;
        else if (!arg->name && i == 0)
            shape = build_expression(build, arg->value);
        else
            return build_error(build, arg->value->span,
                               "'parameter' takes a shape and 'init': parameter([3], init = 0)");
    }
    if (!init)
        return build_error(build, call->span, "'parameter' needs its first value: parameter(init = 0)");
    if (shape.kind == TERM_NODE) {
        Term *one = arena_new_of(build->arena, Term);
        *one = shape;
        shape = (Term){.kind = TERM_LIST, .at = one, .count = 1};
    }
    return build_parameter(build, NULL, shape.at, shape.count, init, false, call->span);
}

/* ---- sums and shapes --------------------------------------------------------------------------------------------- */

static bool axis_option(Build *build, const char *who, const Node *x, BoundOption *options, int count, int *axis) {
    *axis = AXIS_ALL;
    for (int i = 0; i < count; i++) {
        int64_t number;
        if (strcmp(options[i].name, "axis") != 0) {
            build_error(build, options[i].span, "'%s' has no option '%s'; did you mean 'axis'?", who, options[i].name);
            return false;
        }
        if (!term_integer(build, options[i].value, "an axis", 0, &number))
            return false;
        if (number >= x->rank) {
            build_error(build, options[i].span, "axis %lld of %s", (long long)number, node_shape(build->arena, x));
            return false;
        }
        *axis = (int)number;
    }
    return true;
}

static bool no_options(Build *build, const char *who, BoundOption *options, int count) {
    if (count)
        build_error(build, options[0].span, "'%s' has no option '%s'", who, options[0].name);
    return count == 0;
}

static Term apply_sum(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    int axis;
    (void)count;
    if (!x || !axis_option(build, "sum", x, options, option_count, &axis))
        return NOTHING;
    return term_node(node_sum(build->graph, x, axis), span);
}

/* max(a, b) element by element; max(x) the greatest element */
static Term apply_extreme(Build *build, Op op, Term *args, int count, BoundOption *options, int option_count,
                          Span span) {
    Node *nodes[2] = {term_number(build, &args[0]), count > 1 ? term_number(build, &args[1]) : NULL};
    const char *who = op == OP_MAXIMUM ? "max" : "min";
    if (!nodes[0] || (count > 1 && !nodes[1]))
        return NOTHING;
    if (count == 2) {
        return no_options(build, who, options, option_count) ? term_node(build_op(build, op, nodes, 2, span), span)
                                                             : NOTHING;
    }
    int axis;
    if (!axis_option(build, who, nodes[0], options, option_count, &axis))
        return NOTHING;
    if (op == OP_MAXIMUM)
        return term_node(node_max_of(build->graph, nodes[0], axis), span);
    Node *greatest = node_max_of(build->graph, node_op(build->graph, OP_NEGATE, nodes[0], NULL, NULL), axis);
    return term_node(node_op(build->graph, OP_NEGATE, greatest, NULL, NULL), span);
}

static Term apply_max(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    return apply_extreme(build, OP_MAXIMUM, args, count, options, option_count, span);
}

static Term apply_min(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    return apply_extreme(build, OP_MINIMUM, args, count, options, option_count, span);
}

static Term apply_argmax(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "argmax", options, option_count))
        return NOTHING;
    if (x->rank != 1)
        return build_error(build, span, "'argmax' needs a vector, not %s", node_shape(build->arena, x));
    return term_node(node_argmax(build->graph, x), span);
}

static Term apply_batch_sum(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "batch_sum", options, option_count))
        return NOTHING;
    if (!x->batched)
        return build_error(build, span, "'batch_sum' needs a value that differs from row to row");
    return term_node(node_batch_sum(build->graph, x), span);
}

static Term apply_batch_rows(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    (void)args, (void)count;
    if (!no_options(build, "batch_rows", options, option_count))
        return NOTHING;
    return term_node(build->measuring ? node_total(build->graph, NULL, 0, 0, NULL) : node_rows(build->graph), span);
}

static Term apply_area(Build *build, enum bp_ranking_kind kind, Term *args, BoundOption *options, int option_count,
                       Span span) {
    Node *y = term_number(build, &args[0]), *t = term_value(build, &args[1]);
    if (!y || !t || !no_options(build, "an area under a curve", options, option_count))
        return NOTHING;
    Node *area = build_ranking(build, kind, y, t, span);
    return area ? term_node(area, span) : NOTHING;
}

static Term apply_area_under_roc(Build *build, Term *args, int count, BoundOption *options, int option_count,
                                 Span span) {
    (void)count;
    return apply_area(build, BP_RANKING_ROC, args, options, option_count, span);
}

static Term apply_area_under_pr(Build *build, Term *args, int count, BoundOption *options, int option_count,
                                Span span) {
    (void)count;
    return apply_area(build, BP_RANKING_PR, args, options, option_count, span);
}

static Term apply_batch_max(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "batch_max", options, option_count))
        return NOTHING;
    Node *greatest = build_greatest(build, x, span);
    return greatest ? term_node(greatest, span) : NOTHING;
}

static Term apply_concat(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node **parts = arena_array(build->arena, Node *, count);
    for (int i = 0; i < count; i++) {
        Node *x = args[i].kind == TERM_NODE && args[i].node->type == TYPE_INDEX && args[i].node->classes
                      ? node_one_hot(build->graph, args[i].node, args[i].node->classes)
                      : term_number(build, &args[i]);
        if (!x)
            return NOTHING;
        if (x->rank > 1)
            return build_error(build, args[i].span, "'concat' takes numbers and vectors, not %s",
                               node_shape(build->arena, x));
        parts[i] = x;
    }
    if (!no_options(build, "concat", options, option_count))
        return NOTHING;
    return term_node(node_concat(build->graph, parts, count), span);
}

static Term apply_flatten(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "flatten", options, option_count))
        return NOTHING;
    int64_t width = node_elements(x);
    return term_node(node_reshape(build->graph, x, 1, &width), span);
}

static Term apply_reshape(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "reshape", options, option_count))
        return NOTHING;
    if (args[1].kind != TERM_LIST || args[1].count > 4)
        return build_error(build, args[1].span, "'reshape' needs a shape of at most four axes: reshape(x, [2, 3])");
    int64_t dims[4], elements = 1;
    for (int i = 0; i < args[1].count; i++) {
        if (!term_integer(build, &args[1].at[i], "a size", 1, &dims[i]))
            return NOTHING;
        if (dims[i] > node_elements(x) / elements)
            return build_error(build, args[1].span, "%s has too few elements for this shape",
                               node_shape(build->arena, x));
        elements *= dims[i];
    }
    if (elements != node_elements(x))
        return build_error(build, args[1].span, "%s has %lld elements, this shape %lld", node_shape(build->arena, x),
                           (long long)node_elements(x), (long long)elements);
    return term_node(node_reshape(build->graph, x, args[1].count, dims), span);
}

static Term apply_transpose(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "transpose", options, option_count))
        return NOTHING;
    if (x->rank != 2)
        return build_error(build, span, "'transpose' needs a matrix, not %s", node_shape(build->arena, x));
    return term_node(node_transpose(build->graph, x), span);
}

/* outer(a, b)[i, j] = a[i] * b[j] */
static Term apply_outer(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *a = term_number(build, &args[0]), *b = term_number(build, &args[1]);
    (void)count;
    if (!a || !b || !no_options(build, "outer", options, option_count))
        return NOTHING;
    if (a->rank != 1 || b->rank != 1)
        return build_error(build, span, "'outer' needs two vectors: %s and %s", node_shape(build->arena, a),
                           node_shape(build->arena, b));
    ContractSpec spec = {.left = {0}, .right = {1}, .out = {0, 1}};
    return term_node(node_contract(build->graph, a, b, spec, 2), span);
}

static Term apply_detach(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_value(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "detach", options, option_count))
        return NOTHING;
    return term_node(node_detach(build->graph, x), span);
}

/* ---- what is known when compiling -------------------------------------------------------------------------------- */

static Term apply_size(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_value(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "size", options, option_count))
        return NOTHING;
    return term_node(node_constant(build->graph, (double)node_elements(x)), span);
}

/* The index behind a category: of an input it is a vector already, one 1 among zeros. NULL: it is something else. */
static Node *category_index(Node *x) {
    while (x->op == OP_RESHAPE)
        x = x->args[0];
    if (x->op == OP_ONE_HOT)
        return x->args[0];
    return x->type == TYPE_INDEX && x->rank == 0 ? x : NULL;
}

static Term apply_classes(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    (void)count;
    if (!no_options(build, "classes", options, option_count))
        return NOTHING;
    int classes = 0;
    if (args[0].kind == TERM_COLUMN)
        classes = args[0].data->columns[args[0].column].category_count;
    else if (args[0].kind == TERM_NODE && category_index(args[0].node))
        classes = category_index(args[0].node)->classes;
    if (classes < 1)
        return build_error(build, span, "'classes' needs a category: classes(iris.species)");
    return term_node(node_constant(build->graph, classes), span);
}

/* is_category(t): 1 or 0, known when compiling */
static Term apply_is_category(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_value(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "is_category", options, option_count))
        return NOTHING;
    return term_node(node_constant(build->graph, x->type == TYPE_INDEX), span);
}

/* lookup(table, category): a row of a matrix */
static Term apply_lookup(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *table = term_number(build, &args[0]), *x = table ? term_value(build, &args[1]) : NULL;
    (void)count;
    if (!x || !no_options(build, "lookup", options, option_count))
        return NOTHING;
    Node *index = category_index(x);
    if (!index)
        return build_error(build, args[1].span, "'lookup' needs a category, but %s is %s",
                           x->label ? node_called(build->arena, x) : "this", node_shape(build->arena, x));
    if (table->rank != 2)
        return build_error(build, args[0].span, "'lookup' needs a matrix of rows, not %s",
                           node_shape(build->arena, table));
    if (index->classes > table->dims[0])
        return build_error(build, span, "'lookup' of a category of %d in a matrix of %lld rows", index->classes,
                           (long long)table->dims[0]);
    return term_node(node_lookup(build->graph, table, index), span);
}

static Term apply_iota(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    int64_t n;
    (void)count;
    if (!no_options(build, "iota", options, option_count) ||
        !term_integer(build, &args[0], "the size of 'iota'", 1, &n))
        return NOTHING;
    return term_node(node_iota(build->graph, n), span);
}

/* ---- gradients ---------------------------------------------------------------------------------------------------- */

/* grad(y, x): dy/dx for each row, of x's shape. Rows do not depend on each other, so the gradient of the sum over them
   is each row's own. */
static Term apply_grad(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *y = term_number(build, &args[0]), *x = term_number(build, &args[1]), *gradient = NULL;
    (void)count;
    if (!x || !y || !no_options(build, "grad", options, option_count))
        return NOTHING;
    if (node_elements(y) != 1)
        return build_error(build, span, "grad is of one number for each row, but this is %s: take its sum",
                           node_shape(build->arena, y));
    y = node_reshape(build->graph, y, 0, NULL);
    if (x->op == OP_CONSTANT)
        return build_error(build, span,
                           "grad is with respect to a value that is drawn, computed or fed, not a constant");
    int errors = error_count();
    differentiate(build->graph, y->batched ? node_batch_sum(build->graph, y) : y, &x, 1, &gradient);
    if (error_count() > errors)
        return NOTHING;
    if (!gradient)
        return build_error(build, span, "this does not depend on %s: its gradient is 0", node_called(build->arena, x));
    gradient = node_expand(build->graph, gradient, gradient->rank ? 0 : x->rank, x->dims);
    return term_node(gradient, span);
}

/* ---- random draws ------------------------------------------------------------------------------------------------ */

/* draw(x): uniform in [0, 1), of x's shape, new for each row, step and call */
static Term apply_draw(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    Node *x = term_number(build, &args[0]);
    (void)count;
    if (!x || !no_options(build, "draw", options, option_count))
        return NOTHING;
    const char *path = path_join(build, NULL);
    const char *name = arena_printf(build->arena, "draw %d of %s.%s", build->draws++,
                                    build->model ? build->model->name : "", path ? path : "");
    if (build->application > 1) /* two calls in one step draw apart */
        name = arena_printf(build->arena, "%s, call %d", name, build->application);
    return term_node(node_random(build->graph, false, hash_text(name), x->batched, x->rank, x->dims), span);
}

static Term first_draw(Build *build, bool normal, const char *who, Term *args, BoundOption *options, int count,
                       Span span) {
    Node *a = term_number(build, &args[0]), *b = term_number(build, &args[1]);
    if (!a || !b || !no_options(build, who, options, count))
        return NOTHING;
    if (!build->draw_dims)
        return build_error(build, span, "'%s' draws a parameter's first value: parameter w[3] = %s(…)", who, who);
    if (a->rank || b->rank || a->batched || b->batched)
        return build_error(build, span, "'%s' takes two numbers", who);
    Graph *graph = build->graph;
    Node *draw = node_random(graph, normal, build->draw_stream, false, build->draw_rank, build->draw_dims);
    Node *scale = normal ? b : node_op(graph, OP_SUBTRACT, b, a, NULL);
    return term_node(node_op(graph, OP_ADD, a, node_op(graph, OP_MULTIPLY, scale, draw, NULL), NULL), span);
}

static Term apply_uniform(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    (void)count;
    return first_draw(build, false, "uniform", args, options, option_count, span);
}

static Term apply_normal(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    (void)count;
    return first_draw(build, true, "normal", args, options, option_count, span);
}

/* fan_in(), fan_out(): of the parameter whose first value is in hand, as torch.nn.init counts: a weight is [out, in] */
static Term fan(Build *build, const char *who, int axis, Span span) {
    if (!build->draw_dims)
        return build_error(build, span, "'%s' is of a parameter's first value: parameter w[3, 4] = …", who);
    if (build->draw_rank < 2)
        return build_error(build, span, "'%s' needs a parameter of two axes or more, [out, in]", who);
    double field = 1;
    for (int i = 2; i < build->draw_rank; i++)
        field *= (double)build->draw_dims[i];
    return term_node(node_constant(build->graph, (double)build->draw_dims[axis] * field), span);
}

static Term apply_fan_in(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    (void)args, (void)count;
    return no_options(build, "fan_in", options, option_count) ? fan(build, "fan_in", 1, span) : NOTHING;
}

static Term apply_fan_out(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    (void)args, (void)count;
    return no_options(build, "fan_out", options, option_count) ? fan(build, "fan_out", 0, span) : NOTHING;
}

/* Which of the words of an option; -1 after an error. */
static int word_among(Build *build, const Term *term, const char *option, const char *const *words) {
    for (int i = 0; words[i]; i++)
        if (term->kind == TERM_SYMBOL && !strcmp(term->name, words[i]))
            return i;
    build_error(build, term->span, "'%s' is %s, %s or %s", option, words[0], words[1], words[2]);
    return -1;
}

/* plateau_rate(start, factor, patience, threshold, cooldown, least, monitor, mode): a number that the program keeps and lowers
   after epochs; of the prelude's reduce_on_plateau. */
static Term apply_plateau_rate(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span) {
    static const char *const names[] = {"start", "factor", "patience", "threshold", "cooldown", "least"};
    static const char *const modes[] = {"auto", "min", "max", NULL};
    double numbers[6];
    (void)count;
    if (!no_options(build, "plateau_rate", options, option_count))
        return NOTHING;
    if (!build->schedules || !build->train)
        return build_error(build, span,
                           "'reduce_on_plateau' is an option of an optimizer: adam(lr = reduce_on_plateau(1e-3))");
    if (build->train->plan->from_host)
        return build_error(build, span,
                           "'reduce_on_plateau' watches what epochs measure, and rows from a program in C have none: "
                           "write a formula of step");
    for (int i = 0; i < 6; i++) {
        Node *node = term_number(build, &args[i]);
        if (!node)
            return NOTHING;
        bool whole = i == 2 || i == 4, share = i == 1;
        if (node->op != OP_CONSTANT || !(node->number >= 0) || isinf(node->number) || (i == 0 && node->number <= 0) ||
            (share && node->number >= 1) || (whole && node->number != floor(node->number)))
            return build_error(build, args[i].span, "'%s' of 'reduce_on_plateau' is a %s that is known when compiling",
                               names[i],
                               whole    ? "whole number"
                               : share  ? "number from 0 to below 1"
                               : i == 0 ? "number above 0"
                                        : "number of at least 0");
        numbers[i] = node->number;
    }
    int mode = word_among(build, &args[7], "mode", modes);
    if (mode < 0)
        return NOTHING;
    if (args[6].kind != TERM_SYMBOL)
        return build_error(build, args[6].span, "'monitor' is what is measured in every epoch: monitor = val_loss");
    struct bp_plateau plateau = {.start = numbers[0],
                                 .factor = numbers[1],
                                 .patience = (int64_t)numbers[2],
                                 .threshold = numbers[3],
                                 .cooldown = (int64_t)numbers[4],
                                 .least = numbers[5]};
    int better = mode == 0 ? 0 : mode == 1 ? -1 : 1;
    PlateauRate *rate = &build->train->rate;
    const struct bp_plateau *there = &rate->plateau;
    bool same = there->start == plateau.start && there->factor == plateau.factor && there->least == plateau.least &&
                there->patience == plateau.patience && there->threshold == plateau.threshold &&
                there->cooldown == plateau.cooldown && rate->monitor == args[6].name && rate->better == better;
    if (there->start > 0 && !same) {
        build_error(build, span,
                    "a phase has one 'reduce_on_plateau': give all its optimizers the same, times a number");
        build_note(build, rate->span, "the other stands here");
        return NOTHING;
    }
    *rate = (PlateauRate){plateau, args[6].name, better, build->user};
    return term_node(node_scalar(build->graph, BP_SCALAR_PLATEAU, name_of("plateau")), span);
}

/* made_orthogonal(gain): draws that the program makes orthogonal before it trains. */
static Term apply_made_orthogonal(Build *build, Term *args, int count, BoundOption *options, int option_count,
                                  Span span) {
    Node *gain = term_number(build, &args[0]);
    (void)count;
    if (!gain || !no_options(build, "made_orthogonal", options, option_count))
        return NOTHING;
    if (!build->draw_dims)
        return build_error(build, span, "'orthogonal' is a parameter's first value: dense(x, 16, weight = orthogonal)");
    if (build->draw_rank < 2)
        return build_error(build, span, "'orthogonal' needs a parameter of two axes or more, [out, in]");
    if (gain->op != OP_CONSTANT || !(gain->number > 0) || isinf(gain->number))
        return build_error(build, span, "the gain of 'orthogonal' is a number above 0 that is known when compiling");
    build->orthogonal = node_random(build->graph, true, build->draw_stream, false, build->draw_rank, build->draw_dims);
    build->gain = gain->number;
    return term_node((Node *)build->orthogonal, span);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

#define ELEMENT(name, op, arity)                                                                                       \
    { name, arity, arity, NULL, NULL, op }

static const Builtin builtins[] = {
    {"where", 3, 3, NULL, choose_where, OP_COUNT},
    {"choose", 2, 99, NULL, choose_choose, OP_COUNT},
    {"when_training", 2, 2, NULL, choose_when_training, OP_COUNT},
    {"when_learning", 2, 2, NULL, choose_when_learning, OP_COUNT},
    {"parameter", 0, 1, NULL, choose_parameter, OP_COUNT},
    {"sum", 1, 1, apply_sum, NULL, OP_COUNT},
    {"max", 1, 2, apply_max, NULL, OP_COUNT},
    {"min", 1, 2, apply_min, NULL, OP_COUNT},
    {"argmax", 1, 1, apply_argmax, NULL, OP_COUNT},
    {"batch_sum", 1, 1, apply_batch_sum, NULL, OP_COUNT},
    {"batch_rows", 0, 0, apply_batch_rows, NULL, OP_COUNT},
    {"area_under_roc", 2, 2, apply_area_under_roc, NULL, OP_COUNT},
    {"area_under_pr", 2, 2, apply_area_under_pr, NULL, OP_COUNT},
    {"concat", 1, 99, apply_concat, NULL, OP_COUNT},
    {"flatten", 1, 1, apply_flatten, NULL, OP_COUNT},
    {"reshape", 2, 2, apply_reshape, NULL, OP_COUNT},
    {"transpose", 1, 1, apply_transpose, NULL, OP_COUNT},
    {"outer", 2, 2, apply_outer, NULL, OP_COUNT},
    {"batch_max", 1, 1, apply_batch_max, NULL, OP_COUNT},
    {"detach", 1, 1, apply_detach, NULL, OP_COUNT},
    {"size", 1, 1, apply_size, NULL, OP_COUNT},
    {"classes", 1, 1, apply_classes, NULL, OP_COUNT},
    {"is_category", 1, 1, apply_is_category, NULL, OP_COUNT},
    {"lookup", 2, 2, apply_lookup, NULL, OP_COUNT},
    {"iota", 1, 1, apply_iota, NULL, OP_COUNT},
    {"draw", 1, 1, apply_draw, NULL, OP_COUNT},
    {"grad", 2, 2, apply_grad, NULL, OP_COUNT},
    {"uniform", 2, 2, apply_uniform, NULL, OP_COUNT},
    {"normal", 2, 2, apply_normal, NULL, OP_COUNT},
    {"plateau_rate", 8, 8, apply_plateau_rate, NULL, OP_COUNT},
    {"made_orthogonal", 1, 1, apply_made_orthogonal, NULL, OP_COUNT},
    {"fan_in", 0, 0, apply_fan_in, NULL, OP_COUNT},
    {"fan_out", 0, 0, apply_fan_out, NULL, OP_COUNT},
    ELEMENT("abs", OP_ABSOLUTE, 1),
    ELEMENT("sign", OP_SIGN, 1),
    ELEMENT("sqrt", OP_SQRT, 1),
    ELEMENT("floor", OP_FLOOR, 1),
    ELEMENT("round", OP_ROUND, 1),
    ELEMENT("exp", OP_EXP, 1),
    ELEMENT("expm1", OP_EXPM1, 1),
    ELEMENT("log", OP_LOG, 1),
    ELEMENT("log1p", OP_LOG1P, 1),
    ELEMENT("tanh", OP_TANH, 1),
    ELEMENT("sin", OP_SIN, 1),
    ELEMENT("cos", OP_COS, 1),
    ELEMENT("erf", OP_ERF, 1),
    ELEMENT("pow", OP_POWER, 2),
    ELEMENT("real", OP_REAL, 1),
};

const Builtin *builtin_named(Name name) {
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (!strcmp(builtins[i].name, name))
            return &builtins[i];
    return NULL;
}

int builtin_names(Arena *arena, const Name **names) {
    int count = sizeof builtins / sizeof *builtins;
    Name *all = arena_array(arena, Name, count);
    for (int i = 0; i < count; i++)
        all[i] = name_of(builtins[i].name);
    *names = all;
    return count;
}
