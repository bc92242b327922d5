/* Before: an element-by-element op and its arguments. After: an equal, simpler node, or NULL. Requires arguments that
   are simplified.

   Each rule says how far it holds in floating point:
     exact         for every float, NaN and infinities among them
     exact but -0  the sign of a zero result may differ
     finite        differs only where an argument is not finite, or where the left side overflows and the right does not
     stable        closer to the mathematical value than what was written */
#include "graph.h"

#include <math.h>

static bool is(const Node *node, double number) {
    return node_is_constant(node, number);
}

static bool same_extent(const Node *result, const Node *a, const Node *b) {
    /* whether `result` alone has the shape that op(a, b) would have */
    const Node *shaped = a->rank ? a : b;
    return (shaped->rank == 0 || node_same_shape(result, shaped)) &&
           (result->batched || (!a->batched && !b->batched)) &&
           (result->type == TYPE_REAL || (a->type == TYPE_WIDE && b->type == TYPE_WIDE));
}

static Node *negate(Graph *graph, Node *x) {
    return node_op(graph, OP_NEGATE, x, NULL, NULL);
}

/* The z of a formula 1 / (1 + exp(z)) = sigmoid(-z), seen through a def with its own derivative; NULL otherwise. */
static Node *sigmoid_argument(Node *node) {
    if (node->op == OP_CUSTOM)
        node = node->args[0];
    if (node->op != OP_DIVIDE || !is(node->args[0], 1))
        return NULL;
    Node *sum = node->args[1];
    if (sum->op != OP_ADD)
        return NULL;
    Node *power = is(sum->args[0], 1) ? sum->args[1] : is(sum->args[1], 1) ? sum->args[0] : NULL;
    return power && power->op == OP_EXP ? power->args[0] : NULL;
}

/* log(1 + exp(x)) without overflow: max(x, 0) + log1p(exp(-|x|)) (Maechler, Accurately computing log(1 - exp(-|a|)),
 * 2012) */
static Node *softplus(Graph *graph, Node *x) {
    Node *away = negate(graph, node_op(graph, OP_ABSOLUTE, x, NULL, NULL));
    Node *tail = node_op(graph, OP_LOG1P, node_op(graph, OP_EXP, away, NULL, NULL), NULL, NULL);
    return node_op(graph, OP_ADD, node_op(graph, OP_MAXIMUM, x, node_constant(graph, 0), NULL), tail, NULL);
}

static Node *simplify_log(Graph *graph, Node *a) {
    Node *z = sigmoid_argument(a);
    if (z) /* stable: log(sigmoid(-z)) = -softplus(z) */
        return negate(graph, softplus(graph, z));
    if (a->op == OP_SUBTRACT && is(a->args[0], 1) && (z = sigmoid_argument(a->args[1])))
        return negate(graph, softplus(graph, negate(graph, z))); /* stable: log(1 - sigmoid(-z)) = -softplus(-z) */
    Node *quotient = a->op == OP_CUSTOM ? a->args[0] : a;
    if (quotient->op == OP_DIVIDE && quotient->args[0]->op == OP_EXP && quotient->args[1]->op == OP_SUM)
        return node_op(graph, OP_SUBTRACT, quotient->args[0]->args[0],
                       node_op(graph, OP_LOG, quotient->args[1], NULL, NULL), NULL); /* stable: log(softmax) */
    if (a->op == OP_EXP)                                                             /* finite: log(exp(x)) = x */
        return a->args[0];
    return NULL;
}

static Node *simplify_power(Graph *graph, Node *a, Node *b) {
    if (b->rank) /* the result has b's shape, a may not have it */
        return NULL;
    if (is(b, 1)) /* exact */
        return a;
    if (is(b, 2)) /* exact, and pow itself is only near */
        return node_op(graph, OP_MULTIPLY, a, a, NULL);
    if (is(b, 3))
        return node_op(graph, OP_MULTIPLY, node_op(graph, OP_MULTIPLY, a, a, NULL), a, NULL);
    if (is(b, 4)) {
        Node *square = node_op(graph, OP_MULTIPLY, a, a, NULL);
        return node_op(graph, OP_MULTIPLY, square, square, NULL);
    }
    if (is(b, -1)) /* exact */
        return node_op(graph, OP_DIVIDE, node_constant(graph, 1), a, NULL);
    if (is(b, 0.5)) /* exact but -0 and -infinity */
        return node_op(graph, OP_SQRT, a, NULL, NULL);
    return NULL;
}

/* stable: (w * x) * v with w and v numbers in double is (w * v) * x, one rounding fewer */
static Node *gather_wide(Graph *graph, Node *wide, Node *x) {
    if (wide->type != TYPE_WIDE || wide->rank || x->type != TYPE_REAL)
        return NULL;
    if (x->op == OP_NEGATE) /* exact */
        return node_op(graph, OP_MULTIPLY, negate(graph, wide), x->args[0], NULL);
    if (x->op != OP_MULTIPLY)
        return NULL;
    for (int i = 0; i < 2; i++)
        if (x->args[i]->type == TYPE_WIDE && x->args[i]->rank == 0)
            return node_op(graph, OP_MULTIPLY, node_op(graph, OP_MULTIPLY, wide, x->args[i], NULL), x->args[1 - i],
                           NULL);
    return NULL;
}

static Node *simplify_multiply(Graph *graph, Node *a, Node *b) {
    Node *gathered = gather_wide(graph, a, b);
    if (!gathered)
        gathered = gather_wide(graph, b, a);
    if (gathered)
        return gathered;
    if (is(a, 1) && same_extent(b, a, b)) /* exact */
        return b;
    if (is(b, 1) && same_extent(a, a, b))
        return a;
    if (is(a, -1) && same_extent(b, a, b)) /* exact */
        return negate(graph, b);
    if (is(b, -1) && same_extent(a, a, b))
        return negate(graph, a);
    if (a->op == OP_NEGATE && b->op == OP_NEGATE) /* exact */
        return node_op(graph, OP_MULTIPLY, a->args[0], b->args[0], NULL);
    if (a->op == OP_NEGATE && b->op != OP_CONSTANT) /* exact: the sign moves out, where sums can take it */
        return negate(graph, node_op(graph, OP_MULTIPLY, a->args[0], b, NULL));
    if (b->op == OP_NEGATE && a->op != OP_CONSTANT)
        return negate(graph, node_op(graph, OP_MULTIPLY, a, b->args[0], NULL));
    if (a->op == OP_NEGATE || b->op == OP_NEGATE) { /* exact: into the constant */
        Node *x = a->op == OP_NEGATE ? a->args[0] : b->args[0], *k = a->op == OP_NEGATE ? b : a;
        return node_op(graph, OP_MULTIPLY, node_constant(graph, -k->number), x, NULL);
    }
    return NULL;
}

Node *simplify(Graph *graph, Op op, Node *a, Node *b, Node *c) {
    switch (op) {
    case OP_NEGATE:
        if (a->op == OP_NEGATE) /* exact */
            return a->args[0];
        if (a->op == OP_SUBTRACT) /* exact but -0: -(x - y) = y - x */
            return node_op(graph, OP_SUBTRACT, a->args[1], a->args[0], NULL);
        return NULL;
    case OP_ADD:
        if (is(a, 0) && same_extent(b, a, b)) /* exact but -0 */
            return b;
        if (is(b, 0) && same_extent(a, a, b))
            return a;
        if (a == b) /* exact */
            return node_op(graph, OP_MULTIPLY, node_constant(graph, 2), a, NULL);
        if (b->op == OP_NEGATE) /* exact */
            return node_op(graph, OP_SUBTRACT, a, b->args[0], NULL);
        if (a->op == OP_NEGATE)
            return node_op(graph, OP_SUBTRACT, b, a->args[0], NULL);
        return NULL;
    case OP_SUBTRACT:
        if (is(b, 0) && same_extent(a, a, b)) /* exact */
            return a;
        if (is(a, 0) && same_extent(b, a, b)) /* exact but -0 */
            return negate(graph, b);
        if (b->op == OP_NEGATE) /* exact */
            return node_op(graph, OP_ADD, a, b->args[0], NULL);
        return NULL;
    case OP_MULTIPLY:
        return simplify_multiply(graph, a, b);
    case OP_DIVIDE:
        if (is(b, 1) && same_extent(a, a, b)) /* exact */
            return a;
        return NULL;
    case OP_POWER:
        return simplify_power(graph, a, b);
    case OP_LOG:
        return simplify_log(graph, a);
    case OP_WHERE:
        if (a->op == OP_CONSTANT && a->rank == 0 && b->rank == 0 && c->rank == 0)
            return a->number != 0 ? b : c;
        if (b == c && same_extent(b, a, b)) /* exact */
            return b;
        return NULL;
    case OP_REAL:
        if (a->type == TYPE_REAL || a->type == TYPE_WIDE)
            return a;
        return NULL;
    default:
        return NULL;
    }
}
