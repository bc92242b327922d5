/* Before: an element-by-element op and its arguments. After: an equal, simpler node, or NULL. Requires arguments that
   are simplified.

   Each rule has a row in rules.def, which says how far it holds in floating point. */
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

/* The x of 1 + exp(x), or of exp(x) where that is what log1p adds 1 to; NULL otherwise, and where exp(x) cannot
   overflow. */
static Node *one_plus_exp(Graph *graph, Op op, Node *a) {
    Node *power = op == OP_LOG1P                    ? a
                  : a->op != OP_ADD                 ? NULL
                  : node_is_constant(a->args[0], 1) ? a->args[1]
                  : node_is_constant(a->args[1], 1) ? a->args[0]
                                                    : NULL;
    if (!power || power->op != OP_EXP || interval_of(graph, power->args[0]).high <= 0)
        return NULL;
    return power->args[0];
}

static Node *simplify_log(Graph *graph, Node *a) {
    Node *z = sigmoid_argument(a);
    if (z) /* of sigmoid(-z) */
        return rewritten(graph, RULE_LOG_SIGMOID, negate(graph, softplus(graph, z)));
    if (a->op == OP_SUBTRACT && is(a->args[0], 1) && (z = sigmoid_argument(a->args[1])))
        return rewritten(graph, RULE_LOG_REST, negate(graph, softplus(graph, negate(graph, z))));
    Node *quotient = a->op == OP_CUSTOM ? a->args[0] : a;
    if (quotient->op == OP_DIVIDE && quotient->args[0]->op == OP_EXP && quotient->args[1]->op == OP_SUM)
        return rewritten(graph, RULE_LOG_SOFTMAX,
                         node_op(graph, OP_SUBTRACT, quotient->args[0]->args[0],
                                 node_op(graph, OP_LOG, quotient->args[1], NULL, NULL), NULL));
    if (a->op == OP_EXP)
        return rewritten(graph, RULE_LOG_EXP, a->args[0]);
    if ((z = one_plus_exp(graph, OP_LOG, a)))
        return rewritten(graph, RULE_LOG_ONE_PLUS_EXP, softplus(graph, z));
    return NULL;
}

static Node *simplify_power(Graph *graph, Node *a, Node *b) {
    if (b->rank) /* the result has b's shape, a may not have it */
        return NULL;
    Node *square = is(b, 2) || is(b, 3) || is(b, 4) ? node_op(graph, OP_MULTIPLY, a, a, NULL) : NULL;
    if (is(b, 1))
        return rewritten(graph, RULE_POWER_ONE, a);
    if (is(b, 2))
        return rewritten(graph, RULE_POWER_TWO, square);
    if (is(b, 3))
        return rewritten(graph, RULE_POWER_THREE, node_op(graph, OP_MULTIPLY, square, a, NULL));
    if (is(b, 4))
        return rewritten(graph, RULE_POWER_FOUR, node_op(graph, OP_MULTIPLY, square, square, NULL));
    if (is(b, -1))
        return rewritten(graph, RULE_POWER_MINUS_ONE, node_op(graph, OP_DIVIDE, node_constant(graph, 1), a, NULL));
    if (is(b, 0.5))
        return rewritten(graph, RULE_POWER_HALF, node_op(graph, OP_SQRT, a, NULL, NULL));
    return NULL;
}

/* Numbers in double are multiplied with each other, not one by one with a tensor: a rounding fewer. */
static Node *gather_wide(Graph *graph, Node *wide, Node *x) {
    if (wide->type != TYPE_WIDE || wide->rank || x->type != TYPE_REAL)
        return NULL;
    if (x->op == OP_NEGATE)
        return rewritten(graph, RULE_NEGATED_NUMBER,
                         node_op(graph, OP_MULTIPLY, negate(graph, wide), x->args[0], NULL));
    if (x->op != OP_MULTIPLY)
        return NULL;
    for (int i = 0; i < 2; i++)
        if (x->args[i]->type == TYPE_WIDE && x->args[i]->rank == 0)
            return rewritten(
                graph, RULE_JOIN_NUMBERS,
                node_op(graph, OP_MULTIPLY, node_op(graph, OP_MULTIPLY, wide, x->args[i], NULL), x->args[1 - i], NULL));
    return NULL;
}

static Node *simplify_multiply(Graph *graph, Node *a, Node *b) {
    Node *gathered = gather_wide(graph, a, b);
    if (!gathered)
        gathered = gather_wide(graph, b, a);
    if (gathered)
        return gathered;
    if (is(a, 1) && same_extent(b, a, b))
        return rewritten(graph, RULE_TIMES_ONE, b);
    if (is(b, 1) && same_extent(a, a, b))
        return rewritten(graph, RULE_TIMES_ONE, a);
    if (is(a, -1) && same_extent(b, a, b))
        return rewritten(graph, RULE_TIMES_MINUS_ONE, negate(graph, b));
    if (is(b, -1) && same_extent(a, a, b))
        return rewritten(graph, RULE_TIMES_MINUS_ONE, negate(graph, a));
    if (a->op == OP_NEGATE && b->op == OP_NEGATE)
        return rewritten(graph, RULE_NEGATED_FACTORS, node_op(graph, OP_MULTIPLY, a->args[0], b->args[0], NULL));
    if (a->op == OP_NEGATE && b->op != OP_CONSTANT) /* the sign moves out, where sums can take it */
        return rewritten(graph, RULE_NEGATED_FACTOR, negate(graph, node_op(graph, OP_MULTIPLY, a->args[0], b, NULL)));
    if (b->op == OP_NEGATE && a->op != OP_CONSTANT)
        return rewritten(graph, RULE_NEGATED_FACTOR, negate(graph, node_op(graph, OP_MULTIPLY, a, b->args[0], NULL)));
    if (a->op == OP_NEGATE || b->op == OP_NEGATE) {
        Node *x = a->op == OP_NEGATE ? a->args[0] : b->args[0], *k = a->op == OP_NEGATE ? b : a;
        return rewritten(graph, RULE_NEGATED_NUMBER,
                         node_op(graph, OP_MULTIPLY, node_constant(graph, -k->number), x, NULL));
    }
    return NULL;
}

static Node *simplify_add(Graph *graph, Node *a, Node *b) {
    if (is(a, 0) && same_extent(b, a, b))
        return rewritten(graph, RULE_ADD_ZERO, b);
    if (is(b, 0) && same_extent(a, a, b))
        return rewritten(graph, RULE_ADD_ZERO, a);
    if (a == b)
        return rewritten(graph, RULE_ADD_SELF, node_op(graph, OP_MULTIPLY, node_constant(graph, 2), a, NULL));
    if (b->op == OP_NEGATE)
        return rewritten(graph, RULE_ADD_NEGATED, node_op(graph, OP_SUBTRACT, a, b->args[0], NULL));
    if (a->op == OP_NEGATE)
        return rewritten(graph, RULE_ADD_NEGATED, node_op(graph, OP_SUBTRACT, b, a->args[0], NULL));
    return NULL;
}

static Node *simplify_subtract(Graph *graph, Node *a, Node *b) {
    if (is(b, 0) && same_extent(a, a, b))
        return rewritten(graph, RULE_SUBTRACT_ZERO, a);
    if (is(a, 0) && same_extent(b, a, b))
        return rewritten(graph, RULE_ZERO_SUBTRACT, negate(graph, b));
    if (b->op == OP_NEGATE)
        return rewritten(graph, RULE_SUBTRACT_NEGATED, node_op(graph, OP_ADD, a, b->args[0], NULL));
    return NULL;
}

static Node *simplify_where(Graph *graph, Node *a, Node *b, Node *c) {
    if (a->op == OP_CONSTANT && a->rank == 0 && b->rank == 0 && c->rank == 0)
        return rewritten(graph, RULE_WHERE_KNOWN, a->number != 0 ? b : c);
    if (b == c && same_extent(b, a, b))
        return rewritten(graph, RULE_WHERE_SAME, b);
    return NULL;
}

Node *simplify(Graph *graph, Op op, Node *a, Node *b, Node *c) {
    Node *z;
    switch (op) {
    case OP_NEGATE:
        if (a->op == OP_NEGATE)
            return rewritten(graph, RULE_NEGATE_NEGATE, a->args[0]);
        if (a->op == OP_SUBTRACT)
            return rewritten(graph, RULE_NEGATE_DIFFERENCE, node_op(graph, OP_SUBTRACT, a->args[1], a->args[0], NULL));
        return NULL;
    case OP_ADD:
        return simplify_add(graph, a, b);
    case OP_SUBTRACT:
        return simplify_subtract(graph, a, b);
    case OP_MULTIPLY:
        return simplify_multiply(graph, a, b);
    case OP_DIVIDE:
        return is(b, 1) && same_extent(a, a, b) ? rewritten(graph, RULE_DIVIDE_BY_ONE, a) : NULL;
    case OP_POWER:
        return simplify_power(graph, a, b);
    case OP_LOG:
        return simplify_log(graph, a);
    case OP_LOG1P:
        z = one_plus_exp(graph, OP_LOG1P, a);
        return z ? rewritten(graph, RULE_LOG_ONE_PLUS_EXP, softplus(graph, z)) : NULL;
    case OP_WHERE:
        return simplify_where(graph, a, b, c);
    case OP_REAL:
        return a->type == TYPE_REAL || a->type == TYPE_WIDE ? rewritten(graph, RULE_REAL_OF_NUMBER, a) : NULL;
    default:
        return NULL;
    }
}
