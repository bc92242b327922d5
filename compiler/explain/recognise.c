/* Before: the graph as it is computed, with stable and fused forms. After: the same values in the forms that people write:
   softmax, a one-hot target, cross-entropy as minus the logarithm of a share. New nodes only. */
#include "derivation.h"

static bool is_one_hot_condition(const Node *node, Node **index, int64_t *n) {
    if (node->op != OP_EQUAL || node->rank != 1)
        return false;
    for (int i = 0; i < 2; i++)
        if (node->args[i]->op == OP_IOTA && node->args[1 - i]->rank == 0 && node->args[1 - i]->type == TYPE_INDEX) {
            *index = node->args[1 - i];
            *n = node->dims[0];
            return true;
        }
    return false;
}

/* u = z - max(detach(z)) of exp(u) / sum(exp(u)) */
static Node *softmax_argument(const Node *e, const Node *s) {
    if (e->op != OP_EXP || s->op != OP_SUM || s->args[0] != e || e->rank != 1)
        return NULL;
    Node *u = e->args[0];
    if (u->op != OP_SUBTRACT || u->args[1]->op != OP_MAX_OF)
        return NULL;
    const Node *most = u->args[1]->args[0];
    return most == u->args[0] || (most->op == OP_DETACH && most->args[0] == u->args[0]) ? u->args[0] : NULL;
}

static Node *softmax(Recognised *r, Node *e, Node *s) {
    Node *z = softmax_argument(e, s);
    if (!z)
        return NULL;
    Node *p = node_op(r->rewriter.graph, OP_DIVIDE, e, s, NULL);
    for (int i = 0; i < r->softmaxes.count; i++)
        if (r->softmaxes.at[i] == p)
            return p;
    Arena *arena = graph_arena(r->rewriter.graph);
    *LIST_ADD(arena, &r->softmaxes) = p;
    *LIST_ADD(arena, &r->arguments) = z;
    return p;
}

/* (a / s) e and (a e) / s as a p */
static Node *share(Recognised *r, Node *node) {
    Graph *graph = r->rewriter.graph;
    if (node->op == OP_MULTIPLY)
        for (int i = 0; i < 2; i++) {
            Node *quotient = node->args[i], *e = node->args[1 - i];
            Node *p = quotient->op == OP_DIVIDE ? softmax(r, e, quotient->args[1]) : NULL;
            if (p)
                return node_op(graph, OP_MULTIPLY, recognise(r, quotient->args[0]), p, NULL);
        }
    if (node->op != OP_DIVIDE)
        return NULL;
    Node *p = softmax(r, node->args[0], node->args[1]);
    for (int i = 0; !p && node->args[0]->op == OP_MULTIPLY && i < 2; i++) {
        Node *product = node->args[0];
        p = softmax(r, product->args[i], node->args[1]);
        if (p)
            return node_op(graph, OP_MULTIPLY, recognise(r, product->args[1 - i]), p, NULL);
    }
    return p;
}

/* log(sum(exp(u))) - sum(where(iota == t, u, 0)) */
static Node *cross_entropy(Recognised *r, Node *node) {
    Graph *graph = r->rewriter.graph;
    Arena *arena = graph_arena(graph);
    Node *index;
    int64_t n;
    if (node->op != OP_SUBTRACT || node->args[0]->op != OP_LOG || node->args[1]->op != OP_SUM)
        return NULL;
    Node *s = node->args[0]->args[0], *chosen = node->args[1]->args[0];
    if (s->op != OP_SUM || s->args[0]->op != OP_EXP || chosen->op != OP_WHERE ||
        chosen->args[1] != s->args[0]->args[0] || !node_is_constant(chosen->args[2], 0) ||
        !is_one_hot_condition(chosen->args[0], &index, &n))
        return NULL;
    Node *p = softmax(r, s->args[0], s);
    if (!p)
        return NULL;
    *LIST_ADD(arena, &r->logarithms) = node;
    *LIST_ADD(arena, &r->shares) = p;
    *LIST_ADD(arena, &r->hots) = node_one_hot(graph, index, n);
    return node;
}

static Node *recognised_form(void *context, Node *node) {
    Recognised *r = context;
    Node *index;
    int64_t n;
    Span before = graph_set_span(r->rewriter.graph, node->span);
    Node *result = cross_entropy(r, node);
    if (!result)
        result = share(r, node);
    if (!result && node->op == OP_WHERE && node_is_constant(node->args[2], 0) && node->rank == 1 &&
        is_one_hot_condition(node->args[0], &index, &n))
        result = node_op(r->rewriter.graph, OP_MULTIPLY, recognise(r, node->args[1]),
                         node_one_hot(r->rewriter.graph, index, n), NULL);
    if (!result && node->op == OP_REAL && is_one_hot_condition(node->args[0], &index, &n))
        result = node_one_hot(r->rewriter.graph, index, n);
    graph_set_span(r->rewriter.graph, before);
    if (result && result != node && node->label)
        node_label(result, node->label);
    return result;
}

void recognise_start(Recognised *recognised, Graph *graph) {
    *recognised = (Recognised){0};
    rewrite_start(&recognised->rewriter, graph, recognised_form, recognised);
}

Node *recognise(Recognised *recognised, Node *node) {
    return node->id < recognised->rewriter.memo_count ? rewrite(&recognised->rewriter, node) : node;
}
