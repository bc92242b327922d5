/* Before: a number that depends on some tensors. After: nodes for its derivative with respect to each, by reverse mode.
   Requires nothing of the graph; makes new nodes only.

   Adjoints are accumulated from the root down in the order of ids, arguments last to first, so the result does not
   depend on anything but the graph. The rule of an element-by-element op is the op table's formula, elaborated over the
   graph; the rules of sums, products and moves are here. */
#include "graph.h"

#include "build.h"

#include <string.h>

typedef struct Pass {
    Graph *graph;
    Node **adjoint; /* by id; NULL: none yet */
    bool *active;   /* by id: depends on something wanted */
    int count;
} Pass;

/* ---- the op table's formulas, parsed once ------------------------------------------------------------------------ */

static Item *formulas[OP_COUNT][3];

void derivatives_start(Arena *arena) {
    Text text = {0};
    int wanted[OP_COUNT][3], items = 0;
    for (int op = 0; op < OP_COUNT; op++)
        for (int i = 0; i < 3; i++) {
            const char *formula = op_table[op].derivative[i];
            wanted[op][i] = -1;
            if (!formula[0] || !strcmp(formula, "0") || !strcmp(formula, "rule"))
                continue;
            text_printf(&text, "def d%d_%s(a, b, c, r, d) = %s\n", i, op_table[op].name, formula);
            wanted[op][i] = items++;
        }
    int source = source_add("prelude/derivatives.bp", text.at, text.length);
    Ast *ast = parse_source(arena, source);
    if (ast->count != items)
        BUG("a derivative in the op table does not parse:\n%s", text.at);
    for (int op = 0; op < OP_COUNT; op++)
        for (int i = 0; i < 3; i++)
            formulas[op][i] = wanted[op][i] < 0 ? NULL : ast->at[wanted[op][i]];
    text_free(&text);
}

/* ---- accumulation ------------------------------------------------------------------------------------------------ */

/* Sums what was broadcast: d has the shape of `node`, the result has x's. */
static Node *unbroadcast(Graph *graph, Node *d, const Node *node, const Node *x) {
    if (x->rank == 0 && node->rank > 0)
        d = d->rank ? node_sum(graph, d, AXIS_ALL)
                    : node_op(graph, OP_MULTIPLY, d, node_constant(graph, (double)node_elements(node)), NULL);
    if (!x->batched && node->batched)
        d = node_batch_sum(graph, d);
    if (d->rank == 0 && x->rank > 0)
        d = node_expand(graph, d, x->rank, x->dims);
    return d;
}

static void add_adjoint(Pass *pass, Node *x, Node *d) {
    if (!pass->active[x->id])
        return;
    if (d->rank == 0 && x->rank > 0)
        d = node_expand(pass->graph, d, x->rank, x->dims);
    Node **adjoint = &pass->adjoint[x->id];
    *adjoint = *adjoint ? node_op(pass->graph, OP_ADD, *adjoint, d, NULL) : d;
}

/* ---- rules of SHAPE ops: d is the adjoint of `node`, of its shape ------------------------------------------------ */

static bool letter_in(const int8_t *letters, int rank, int8_t letter) {
    for (int i = 0; i < rank; i++)
        if (letters[i] == letter)
            return true;
    return false;
}

/* y = contract(left, right): d left = contract(d, right), with the letters of d for y's. */
static Node *contract_adjoint(Graph *graph, Node *node, Node *d, int side) {
    Node *x = node->args[side], *other = node->args[1 - side];
    const int8_t *x_letters = side ? node->contract.right : node->contract.left;
    const int8_t *other_letters = side ? node->contract.left : node->contract.right;
    if (other->type != TYPE_REAL && other->type != TYPE_WIDE)
        BUG("contract of conditions");
    ContractSpec spec = {0};
    memcpy(spec.left, node->contract.out, sizeof spec.left);
    memcpy(spec.right, other_letters, sizeof spec.right);
    /* an axis of one element that neither y nor the other has comes back by a reshape */
    int rank = 0;
    for (int i = 0; i < x->rank; i++)
        if (letter_in(spec.left, node->rank, x_letters[i]) || letter_in(spec.right, other->rank, x_letters[i]))
            spec.out[rank++] = x_letters[i];
        else if (x->dims[i] != 1)
            BUG("the derivative of a contract that sums an axis of one side only");
    spec.over_batch = !x->batched && (d->batched || other->batched);
    Node *gradient = node_contract(graph, d, other, spec, rank);
    if (!x->batched && !spec.over_batch && node->batched)
        gradient = node_batch_sum(graph, gradient);
    return node_reshape(graph, gradient, x->rank, x->dims);
}

/* Along an axis: d (without it) to every place of x's shape. */
static Node *spread(Graph *graph, Node *d, const Node *x, int axis) {
    if (axis == AXIS_ALL)
        return node_expand(graph, d, x->rank, x->dims);
    ContractSpec spec = {0};
    Node *ones = node_expand(graph, node_constant(graph, 1), 1, &x->dims[axis]);
    for (int i = 0, j = 0; i < x->rank; i++) {
        spec.out[i] = (int8_t)i;
        if (i == axis)
            spec.right[0] = (int8_t)i;
        else
            spec.left[j++] = (int8_t)i;
    }
    return node_contract(graph, d, ones, spec, x->rank);
}

static void concat_adjoint(Pass *pass, Node *node, Node *d) {
    int64_t first = 0;
    for (int i = 0; i < node->arg_count; i++) {
        Node *part = node->args[i];
        Node *piece = node_slice(pass->graph, d, first, part->dims[0]);
        add_adjoint(pass, part, unbroadcast(pass->graph, piece, node, part));
        first += part->dims[0];
    }
}

/* A slice came from the middle: zeros before and after. */
static Node *slice_adjoint(Graph *graph, Node *node, Node *d) {
    Node *x = node->args[0];
    int64_t inner = node_elements(x) / x->dims[0], before = node->integer * inner, width = node_elements(node);
    int64_t after = node_elements(x) - before - width;
    Node *parts[3];
    int count = 0;
    if (before)
        parts[count++] = node_expand(graph, node_constant(graph, 0), 1, &before);
    parts[count++] = node_reshape(graph, d, 1, &width);
    if (after)
        parts[count++] = node_expand(graph, node_constant(graph, 0), 1, &after);
    return node_reshape(graph, node_concat(graph, parts, count), x->rank, x->dims);
}

static Node *max_of_adjoint(Graph *graph, Node *node, Node *d) { /* ties share alike, as PyTorch's amax does */
    Node *x = node->args[0];
    int axis = (int)node->integer;
    Node *here = node_op(graph, OP_REAL, node_op(graph, OP_EQUAL, x, spread(graph, node, x, axis), NULL), NULL, NULL);
    Node *share = node_op(graph, OP_DIVIDE, d, node_sum(graph, here, axis), NULL);
    return node_op(graph, OP_MULTIPLY, spread(graph, share, x, axis), here, NULL);
}

/* one_hot(index)[i] * d[j]; index -1 is all zeros there too. Where every row reads one table, rows of it are added to. */
static Node *lookup_adjoint(Graph *graph, Node *node, Node *d) {
    Node *table = node->args[0];
    if (!table->batched && node->args[1]->batched)
        return node_scatter(graph, d, node->args + 1, node->arg_count - 1, table->dims[0]);
    if (node->arg_count > 2)
        BUG("the derivative of a lookup of several in a table of each row");
    ContractSpec spec = {.left = {0}, .right = {1}, .out = {0, 1}};
    return node_contract(graph, node_one_hot(graph, node->args[1], node->args[0]->dims[0]), d, spec, 2);
}

static void custom_adjoint(Pass *pass, Node *node, Node *d) {
    const Item *item = node->item;
    for (int i = node->arg_count - 1; i >= 1; i--) {
        if (!pass->active[node->args[i]->id])
            continue;
        Node *partial = build_custom_derivative(pass->graph, item, node, i - 1, d);
        if (!partial) {
            error_at(node->span, "'%s' has no derivative with respect to '%s'", item->name,
                     item->params.at[i - 1].name);
            note_at(item->name_span, "its other parameters have one: add `grad %s = …`", item->params.at[i - 1].name);
            continue;
        }
        add_adjoint(pass, node->args[i], unbroadcast(pass->graph, partial, node, node->args[i]));
    }
}

static void shape_adjoint(Pass *pass, Node *node, Node *d) {
    Graph *graph = pass->graph;
    Node *x = node->args[0];
    switch (node->op) {
    case OP_EXPAND:
        add_adjoint(pass, x, node_sum(graph, d, AXIS_ALL));
        break;
    case OP_RESHAPE:
        add_adjoint(pass, x, node_reshape(graph, d, x->rank, x->dims));
        break;
    case OP_TRANSPOSE:
        add_adjoint(pass, x, node_transpose(graph, d));
        break;
    case OP_SLICE:
        add_adjoint(pass, x, slice_adjoint(graph, node, d));
        break;
    case OP_CONCAT:
        concat_adjoint(pass, node, d);
        break;
    case OP_CONTRACT: /* the right side first: the data gradient comes before the weight's, which an update then
                         overwrites */
        for (int side = 1; side >= 0; side--)
            if (pass->active[node->args[side]->id])
                add_adjoint(pass, node->args[side], contract_adjoint(graph, node, d, side));
        break;
    case OP_SUM:
        add_adjoint(pass, x, spread(graph, d, x, (int)node->integer));
        break;
    case OP_MAX_OF:
        add_adjoint(pass, x, max_of_adjoint(graph, node, d));
        break;
    case OP_BATCH_SUM: /* every row has the same derivative */
        add_adjoint(pass, x, d);
        break;
    case OP_CUSTOM:
        custom_adjoint(pass, node, d);
        break;
    case OP_LOOKUP: { /* each row's derivative goes to the row of the table that it read */
        Node *back = lookup_adjoint(graph, node, d);
        add_adjoint(pass, x, back->op == OP_SCATTER ? back : unbroadcast(graph, back, node, x));
        break;
    }
    case OP_SCATTER: {
        Node *table = node->turned ? node_transpose(graph, d) : d;
        add_adjoint(pass, x,
                    node->arg_count == 2 ? node_lookup(graph, table, node->args[1])
                                         : node_lookup_bag(graph, table, node->args[1], node->args[2]));
        break;
    }
    case OP_DETACH:
    case OP_ARGMAX:
    case OP_ONE_HOT: /* no derivative passes */
        break;
    default:
        error_at(node->span, "'%s' has no derivative yet", op_table[node->op].name);
        break;
    }
}

static void element_adjoint(Pass *pass, Node *node, Node *d) {
    for (int i = op_table[node->op].arity - 1; i >= 0; i--) {
        Node *x = node->args[i];
        if (!pass->active[x->id] || !strcmp(op_table[node->op].derivative[i], "0"))
            continue;
        if (!formulas[node->op][i]) {
            error_at(node->span, "'%s' has no derivative with respect to its argument %d", op_table[node->op].name,
                     i + 1);
            continue;
        }
        Node *partial = build_derivative(pass->graph, formulas[node->op][i], node, d);
        add_adjoint(pass, x, unbroadcast(pass->graph, partial, node, x));
    }
}

/* floor(x) and the like pass nothing on, so what is behind them needs no adjoint. */
static bool passes(const Node *node, int argument) {
    return op_table[node->op].arity < 0 || strcmp(op_table[node->op].derivative[argument], "0") != 0;
}

/* Which nodes depend on something wanted, through ops that let a derivative pass. */
static void mark_active(Pass *pass, Node *root, Node **wrt, int count) {
    for (int i = 0; i < count; i++)
        if (wrt[i]->id < pass->count)
            pass->active[wrt[i]->id] = true;
    for (int id = 0; id <= root->id; id++) {
        Node *node = graph_node(pass->graph, id);
        if (node->op == OP_DETACH || node->type == TYPE_INDEX || node->type == TYPE_TRUTH)
            continue;
        for (int i = 0; i < node->arg_count; i++)
            pass->active[id] |= pass->active[node->args[i]->id] && passes(node, i);
    }
}

void differentiate(Graph *graph, Node *root, Node **wrt, int count, Node **gradients) {
    if (root->rank || root->batched)
        BUG("differentiate wants a number");
    Pass pass = {graph, NULL, NULL, root->id + 1};
    pass.adjoint = arena_array(graph_arena(graph), Node *, pass.count);
    pass.active = arena_array(graph_arena(graph), bool, pass.count);
    mark_active(&pass, root, wrt, count);
    pass.adjoint[root->id] = node_constant(graph, 1);
    Span before = graph_set_span(graph, root->span);
    for (int id = root->id; id >= 0; id--) {
        Node *d = pass.adjoint[id], *node = graph_node(graph, id);
        if (!d || !pass.active[id])
            continue;
        graph_set_span(graph, node->span);
        if (node->label && d->arg_count)
            node_label(d, name_of(arena_printf(graph_arena(graph), "d_%s", node->label)));
        if (op_table[node->op].class == CLASS_SHAPE)
            shape_adjoint(&pass, node, d);
        else if (op_table[node->op].class != CLASS_LEAF)
            element_adjoint(&pass, node, d);
    }
    graph_set_span(graph, before);
    for (int i = 0; i < count; i++)
        gradients[i] = wrt[i]->id < pass.count ? pass.adjoint[wrt[i]->id] : NULL;
}
