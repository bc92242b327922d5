/* Expressions and statements of formulas, evaluated to terms. */
#include "build.h"

#include <math.h>
#include <string.h>

/* ---- element by element ------------------------------------------------------------------------------------------ */

static const char *node_words(Build *build, const Node *node) {
    const char *shape = node_shape(build->arena, node);
    return node->label ? arena_printf(build->arena, "'%s' is %s", node->label, shape)
                       : arena_printf(build->arena, "this is %s", shape);
}

/* Shapes must be equal, but for numbers; [1] is a number. */
static bool shapes_fit(Build *build, Node **args, int count, Span span) {
    Node *shaped = NULL;
    for (int i = 0; i < count; i++) {
        if (node_elements(args[i]) == 1)
            continue;
        if (!shaped) {
            shaped = args[i];
        } else if (!node_same_shape(shaped, args[i])) {
            build_error(build, span, "shapes do not fit: %s, but %s", node_words(build, shaped),
                        node_words(build, args[i]));
            build_note(build, shaped->span, "%s is made here", node_called(build->arena, shaped));
            build_note(build, args[i]->span, "%s is made here", node_called(build->arena, args[i]));
            return false;
        }
    }
    for (int i = 0; i < count;
         i++) { /* a number broadcasts as it is; [1] beside another shape, [1, 1] too, becomes one */
        bool alone = args[i]->rank > 0 && node_elements(args[i]) == 1 && shaped != NULL;
        for (int j = 0; j < count && !shaped; j++)
            alone |= args[i]->rank > 0 && args[i]->rank != args[j]->rank && args[j]->type == TYPE_REAL;
        if (alone)
            args[i] = node_reshape(build->graph, args[i], 0, NULL);
    }
    return true;
}

Node *build_op(Build *build, Op op, Node **args, int count, Span span) {
    for (int i = 0; i < count; i++)
        if (!args[i])
            return NULL;
    if (!shapes_fit(build, args, count, span))
        return NULL;
    Span before = graph_set_span(build->graph, build->user);
    Node *node = node_op(build->graph, op, args[0], count > 1 ? args[1] : NULL, count > 2 ? args[2] : NULL);
    graph_set_span(build->graph, before);
    return node;
}

static bool is_comparison(Op op) {
    return op_table[op].class == CLASS_COMPARE;
}

Term build_binary(Build *build, Op op, Term a, Term b, Span span) {
    Node *args[2];
    bool indices = is_comparison(op) && a.kind == TERM_NODE && b.kind == TERM_NODE && a.node->type == TYPE_INDEX &&
                   b.node->type == TYPE_INDEX;
    bool truths = (op == OP_AND || op == OP_OR);
    if (indices || truths) {
        args[0] = term_value(build, &a);
        args[1] = term_value(build, &b);
    } else if (is_comparison(op)) { /* a category may be compared with a number, whatever it counts */
        args[0] = a.kind == TERM_NODE && a.node->type == TYPE_INDEX ? node_op(build->graph, OP_REAL, a.node, NULL, NULL)
                                                                    : term_number(build, &a);
        args[1] = b.kind == TERM_NODE && b.node->type == TYPE_INDEX ? node_op(build->graph, OP_REAL, b.node, NULL, NULL)
                                                                    : term_number(build, &b);
    } else {
        args[0] = term_number(build, &a);
        args[1] = term_number(build, &b);
    }
    if (!args[0] || !args[1])
        return NOTHING;
    if (is_comparison(op) && args[0]->op == OP_CONSTANT && args[1]->op == OP_CONSTANT && !indices && !truths)
        return term_node(node_constant(build->graph, op_evaluate(op, args[0]->number, args[1]->number, 0)), span);
    Node *node = build_op(build, op, args, 2, span);
    if (node)
        lint_domain(build, op, args, node, span);
    return term_node(node, span);
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

static Term build_matmul(Build *build, Term left, Term right, Span span) {
    Node *a = term_number(build, &left), *b = term_number(build, &right);
    if (!a || !b)
        return NOTHING;
    int64_t one = 1;
    if (b->rank == 0) /* a number is [1] */
        b = node_reshape(build->graph, b, 1, &one);
    if (a->rank == 0)
        a = node_reshape(build->graph, a, 1, &one);
    if (a->rank > 2 || b->rank > 2) {
        build_error(build, span, "@ needs vectors or matrices: %s, %s", node_words(build, a), node_words(build, b));
        return NOTHING;
    }
    if (a->dims[a->rank - 1] != b->dims[0]) {
        build_error(build, span, "shapes do not fit in a product: %s, but %s", node_words(build, a),
                    node_words(build, b));
        build_note(build, a->span, "%s is made here", node_called(build->arena, a));
        build_note(build, b->span, "%s is made here", node_called(build->arena, b));
        return NOTHING;
    }
    ContractSpec spec = {0};
    int out = 0;
    int8_t k = 3; /* the contracted letter */
    if (a->rank == 2)
        spec.out[out++] = spec.left[0] = 0;
    spec.left[a->rank - 1] = k;
    spec.right[0] = k;
    if (b->rank == 2)
        spec.out[out++] = spec.right[1] = 1;
    Span before = graph_set_span(build->graph, build->user);
    Node *node = b->op == OP_ONE_HOT && a->rank == 2 && !a->batched
                     ? node_lookup_hot(build->graph, node_transpose(build->graph, a), b)
                     : node_contract(build->graph, a, b, spec, out);
    if (a->rank == 2 && a->dims[0] == 1 && b->rank == 1) /* one row by a vector is a number */
        node = node_reshape(build->graph, node, 0, NULL);
    graph_set_span(build->graph, before);
    return term_node(node, span);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* Names that the language has and this compiler does not yet. */
static bool is_to_come(Name name) {
    static const char *const names[] = {"grad", "linspace"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name))
            return true;
    return false;
}

static Term unknown_name(Build *build, Name name, Span span) {
    if (is_to_come(name))
        return build_error(build, span, "'%s' is not there yet", name);
    LIST(Name) known = {0};
    for (const Scope *scope = build->scope; scope; scope = scope->parent) {
        for (int i = 0; i < scope->wide.count; i++) {
            const struct WideSlot *wide = &scope->wide.at[i];
            const DataSlot *slot = &wide->data->slots[wide->slot];
            for (int j = 0; j < slot->width; j++)
                *LIST_ADD(build->arena, &known) = wide->data->columns[slot->columns[j]].name;
        }
        for (int i = 0; i < scope->bindings.count; i++)
            *LIST_ADD(build->arena, &known) = scope->bindings.at[i].name;
    }
    const Name *more;
    int count = program_names(build->program, build->arena, &more);
    for (int i = 0; i < count; i++)
        *LIST_ADD(build->arena, &known) = more[i];
    count = builtin_names(build->arena, &more);
    for (int i = 0; i < count; i++)
        *LIST_ADD(build->arena, &known) = more[i];
    Name near = nearest_name(name, known.at, known.count);
    if (near)
        return build_error(build, span, "unknown name '%s'; did you mean '%s'?", name, near);
    return build_error(build, span, "unknown name '%s'", name);
}

static Term constant_term(Build *build, const Expr *expr, double number) {
    return term_node(node_constant(build->graph, number), expr->span);
}

static const struct {
    const char *name;
    enum bp_scalar scalar;
} schedule_names[] = {{"step", BP_SCALAR_STEP},
                      {"epoch", BP_SCALAR_EPOCH},
                      {"steps", BP_SCALAR_STEPS},
                      {"steps_per_epoch", BP_SCALAR_STEPS_PER_EPOCH}};
enum { SCHEDULE_NAMES = sizeof schedule_names / sizeof *schedule_names };

bool is_schedule_name(Name name) {
    for (int i = 0; i < SCHEDULE_NAMES; i++)
        if (!strcmp(name, schedule_names[i].name))
            return true;
    return false;
}

/* With gradients added up over several batches, a step is an update, which needs them all. */
static Node *in_updates(Build *build, Node *batches, enum bp_scalar scalar) {
    int64_t together = build->train ? build->train->plan->accumulate : 1;
    if (build->every > 1)
        together = build->every;
    if (together <= 1 || scalar == BP_SCALAR_EPOCH)
        return batches;
    Node *updates = node_op(build->graph, OP_DIVIDE, batches, node_constant(build->graph, (double)together), NULL);
    return scalar == BP_SCALAR_STEPS_PER_EPOCH ? updates : node_op(build->graph, OP_FLOOR, updates, NULL, NULL);
}

static Term schedule_name(Build *build, Name name, Span span) {
    for (int i = 0; i < SCHEDULE_NAMES; i++)
        if (build->schedules && !strcmp(name, schedule_names[i].name)) {
            enum bp_scalar scalar = schedule_names[i].scalar;
            return term_node(in_updates(build, node_scalar(build->graph, (int)scalar, name), scalar), span);
        }
    return NOTHING;
}

static Term definition_term(Build *build, const Definition *definition, Span span) {
    Term term = {.span = span};
    double number;
    switch (definition->item->kind) {
    case ITEM_DATA:
        term.kind = TERM_DATA;
        term.data = program_data(build->program, definition->name);
        return term;
    case ITEM_MODEL:
    case ITEM_DERIVED:
        term.model = model_instance(build, definition->item, span);
        term.kind = term.model ? TERM_MODEL : TERM_NOTHING;
        return term;
    case ITEM_PARAM:
        for (int i = 0; i < build->program->params.count; i++)
            if (build->program->params.at[i].name == definition->name)
                return term_node(node_scalar(build->graph, scalar_of_param(build->program, i), definition->name), span);
        return NOTHING;
    case ITEM_CONST: {
        Expr name = {.kind = EXPR_NAME, .span = span, .name = definition->name};
        if (!check_number(build->program, &name, "a const", &number))
            return NOTHING;
        return term_node(node_constant(build->graph, number), span);
    }
    default:
        term.kind = TERM_FUNCTION;
        term.item = definition->item;
        return term;
    }
}

/* uniform(-1, 1) or xavier_normal, given to a block for its weights: evaluated now, where the parameter is known. */
static Term first_value_of(Build *build, const Term *given) {
    Scope *before = build->scope;
    build->scope = given->scope;
    Term term = build_expression(build, given->expr);
    if (term.kind == TERM_FUNCTION || term.kind == TERM_BUILTIN)
        term = build_apply(build, &term, NULL, 0, NULL, 0, given->span);
    build->scope = before;
    return term;
}

static Term build_name(Build *build, const Expr *expr) {
    const Binding *binding = scope_find(build, expr->name);
    if (binding && binding->term.kind == TERM_FIRST)
        return first_value_of(build, &binding->term);
    if (binding && binding->term.kind == TERM_STALE) {
        Term error = build_error(
            build, expr->span, "'%s' was computed with weights that have changed since: compute it again", expr->name);
        build_note(build, binding->term.span, "this update changed them");
        return error;
    }
    if (binding) {
        Term term = binding->term;
        if (term.kind != TERM_SYMBOL) /* a word stays where the user wrote it */
            term.span = expr->span;
        return term;
    }
    Term scheduled = schedule_name(build, expr->name, expr->span);
    if (scheduled.kind != TERM_NOTHING)
        return scheduled;
    const Definition *definition = program_find(build->program, expr->name);
    if (definition)
        return definition_term(build, definition, expr->span);
    const Builtin *builtin = builtin_named(expr->name);
    if (builtin)
        return (Term){.kind = TERM_BUILTIN, .builtin = builtin, .span = expr->span};
    if (!strcmp(expr->name, "pi"))
        return constant_term(build, expr, 3.14159265358979323846);
    if (!strcmp(expr->name, "infinity"))
        return constant_term(build, expr, INFINITY);
    return unknown_name(build, expr->name, expr->span);
}

/* "capital-gain": a column whose name needs quotes, where columns are known by their bare names */
static Term build_string(Build *build, const Expr *expr) {
    Name name = name_of(expr->string.bytes);
    const Binding *binding = scope_find(build, name);
    Term term = binding ? binding->term : (Term){.kind = TERM_STRING, .name = name};
    term.span = expr->span;
    return term;
}

/* iris.species, Net.cost */
static Term build_field(Build *build, const Expr *expr) {
    Name name = expr->field.name;
    if (expr->field.base->kind == EXPR_NAME) { /* a model's output, bound by the statement that applies the model */
        const char *joined = arena_printf(build->arena, "%s.%s", expr->field.base->name, name);
        const Binding *binding = scope_find(build, name_of(joined));
        if (binding) {
            Term term = binding->term;
            term.span = expr->span;
            return term;
        }
    }
    Term base = build_expression(build, expr->field.base);
    if (base.kind == TERM_DATA) {
        LIST(Name) names = {0};
        for (int i = 0; i < base.data->column_count; i++) {
            if (base.data->columns[i].name == name)
                return (Term){.kind = TERM_COLUMN, .data = base.data, .column = i, .span = expr->span};
            *LIST_ADD(build->arena, &names) = base.data->columns[i].name;
        }
        for (int i = 0; i < base.data->group_count; i++) { /* target kind = species: one column has two names */
            const DataGroup *group = &base.data->groups[i];
            const DataSlot *slot = &base.data->slots[group->first_slot];
            if (group->name == name && group->slot_count == 1 && slot->width == 1)
                return (Term){.kind = TERM_COLUMN, .data = base.data, .column = slot->columns[0], .span = expr->span};
        }
        Name near = nearest_name(name, names.at, names.count);
        return build_error(build, expr->field.name_span, "'%s' has no column '%s'%s%s%s", base.data->name, name,
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (base.kind == TERM_TUPLE && base.names)
        for (int i = 0; i < base.count; i++)
            if (base.names[i] == name)
                return base.at[i];
    if (base.kind == TERM_MODEL) {
        ModelInstance *model = base.model;
        for (int i = 0; i < model->output_names.count; i++)
            if (model->output_names.at[i] == name)
                return build_error(build, expr->span,
                                   "'%s.%s' has no value here: call the model, or name it in a train block",
                                   model->name, name);
        Name near = nearest_name(name, model->output_names.at, model->output_names.count);
        return build_error(build, expr->field.name_span, "'%s' returns no '%s'%s%s%s", model->name, name,
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (base.kind == TERM_NOTHING)
        return NOTHING;
    return build_error(build, expr->field.name_span, "%s has no part called '%s'", term_kind_name(&base), name);
}

/* ---- x[i], x[a..b] ----------------------------------------------------------------------------------------------- */

static Term build_index(Build *build, const Expr *expr) {
    Term base = build_expression(build, expr->index.base);
    if (base.kind == TERM_NOTHING)
        return NOTHING;
    if (expr->index.args.count != 1)
        return build_error(build, expr->span, "one index is needed");
    const Expr *index = expr->index.args.at[0].value;
    bool range = index->kind == EXPR_RANGE;
    Term low = build_expression(build, range ? index->binary.left : index);
    Term high = range ? build_expression(build, index->binary.right) : low;
    int64_t first, last, count;
    if (!term_integer(build, &low, "an index", 0, &first) || !term_integer(build, &high, "an index", 0, &last))
        return NOTHING;
    Node *x = NULL;
    if (base.kind == TERM_TUPLE || base.kind == TERM_LIST)
        count = base.count;
    else {
        x = term_value(build, &base);
        if (!x)
            return NOTHING;
        if (x->rank == 0)
            return build_error(build, expr->span, "a number has no elements to index");
        count = x->dims[0];
    }
    if (last < first)
        return build_error(build, index->span, "this range is empty");
    if (last >= count)
        return build_error(build, index->span, "index %lld is beyond the last, %lld", (long long)last,
                           (long long)count - 1);
    if (!x) {
        if (range)
            return build_error(build, index->span, "one index is needed here, not a range");
        return base.at[first];
    }
    Span before = graph_set_span(build->graph, build->user);
    Node *piece = node_slice(build->graph, x, first, last - first + 1);
    if (!range)
        piece = node_reshape(build->graph, piece, x->rank - 1, x->dims + 1);
    graph_set_span(build->graph, before);
    return term_node(piece, expr->span);
}

/* repeat n Block(x, …): the first argument of each round is the result of the one before */
static Term build_repeat(Build *build, const Expr *expr) {
    Term count_term = build_expression(build, expr->binary.left);
    int64_t count;
    if (!term_integer(build, &count_term, "the count of 'repeat'", 1, &count))
        return NOTHING;
    if (count > 10000)
        return build_error(build, expr->binary.left->span, "'repeat' goes to 10000 at most");
    const Expr *call = expr->binary.right;
    if (call->kind != EXPR_CALL || call->call.args.count == 0 || call->call.args.at[0].name)
        return build_error(build, call->span,
                           "'repeat' needs a call whose first argument is what goes round: repeat 3 Block(x, 64)");
    Scope *before = scope_open(build, build->scope);
    Name carried = name_of("repeated value"); /* no name of the language: it holds a space */
    scope_bind(build, carried, call->span, build_expression(build, call->call.args.at[0].value));
    Expr round = *call, name = {.kind = EXPR_NAME, .span = call->call.args.at[0].value->span, .name = carried};
    round.call.args.at = arena_array(build->arena, Arg, call->call.args.count);
    memcpy(round.call.args.at, call->call.args.at, sizeof(Arg) * (size_t)call->call.args.count);
    round.call.args.at[0].value = &name;
    Term result = NOTHING;
    for (int64_t i = 0; i < count; i++) {
        *LIST_ADD(build->arena, &build->path) = name_of(arena_printf(build->arena, "%lld", (long long)i));
        result = build_call(build, &round);
        build->path.count--;
        if (result.kind == TERM_NOTHING)
            break;
        scope_bind(build, carried, call->span, result);
    }
    build->scope = before;
    return result;
}

static Op binary_op(Operator operator) {
    switch (operator) {
    case OPERATOR_ADD:
        return OP_ADD;
    case OPERATOR_SUBTRACT:
        return OP_SUBTRACT;
    case OPERATOR_MULTIPLY:
        return OP_MULTIPLY;
    case OPERATOR_DIVIDE:
        return OP_DIVIDE;
    case OPERATOR_POWER:
        return OP_POWER;
    case OPERATOR_LESS:
    case OPERATOR_GREATER:
        return OP_LESS;
    case OPERATOR_LESS_EQUAL:
    case OPERATOR_GREATER_EQUAL:
        return OP_LESS_EQUAL;
    case OPERATOR_EQUAL:
        return OP_EQUAL;
    case OPERATOR_NOT_EQUAL:
        return OP_NOT_EQUAL;
    default:
        BUG("operator %d", (int)operator);
    }
}

static Term build_operator(Build *build, const Expr *expr) {
    Term left = build_expression(build, expr->binary.left);
    if (expr->kind == EXPR_UNARY) {
        Node *args[1] = {term_number(build, &left)};
        return args[0] ? term_node(build_op(build, OP_NEGATE, args, 1, expr->span), expr->span) : NOTHING;
    }
    Term right = build_expression(build, expr->binary.right);
    Operator operator= expr->binary.op;
    if (operator== OPERATOR_MATMUL)
        return build_matmul(build, left, right, expr->span);
    if (operator== OPERATOR_GREATER || operator== OPERATOR_GREATER_EQUAL)
        return build_binary(build, binary_op(operator), right, left, expr->span);
    return build_binary(build, binary_op(operator), left, right, expr->span);
}

static Term build_list(Build *build, const Expr *expr) {
    Term list = {.kind = TERM_LIST, .span = expr->span, .count = expr->list.count};
    list.at = arena_array(build->arena, Term, list.count ? list.count : 1);
    for (int i = 0; i < list.count; i++) {
        list.at[i] = build_expression(build, expr->list.at[i].value);
        if (list.at[i].kind == TERM_NOTHING)
            return NOTHING;
    }
    return list;
}

Term build_expression(Build *build, const Expr *expr) {
    Span before = build->user;
    if (!span_in_prelude(expr->span) && expr->span.source >= 0)
        build->user = expr->span;
    Term term = NOTHING;
    switch (expr->kind) {
    case EXPR_NUMBER:
        term = constant_term(build, expr, expr->number);
        break;
    case EXPR_STRING:
        term = build_string(build, expr);
        break;
    case EXPR_NAME:
        term = build_name(build, expr);
        break;
    case EXPR_UNARY:
    case EXPR_BINARY:
        term = build_operator(build, expr);
        break;
    case EXPR_CALL:
        term = build_call(build, expr);
        break;
    case EXPR_INDEX:
        term = build_index(build, expr);
        break;
    case EXPR_FIELD:
        term = build_field(build, expr);
        break;
    case EXPR_LIST:
        term = build_list(build, expr);
        break;
    case EXPR_REPEAT:
        term = build_repeat(build, expr);
        break;
    case EXPR_RANGE:
        term = build_error(build, expr->span, "a range stands only in brackets: x[0..3]");
        break;
    }
    if (term.kind == TERM_NODE)
        term.span = expr->span;
    build->user = before;
    return term;
}
