/* Rebuilds a graph with some nodes replaced. Nothing is changed: what differs is made anew by the constructors, and so
   simplified again. */
#include "graph.h"

void rewrite_start(Rewriter *rewriter, Graph *graph, Node *(*replace)(void *, Node *), void *context) {
    rewriter->graph = graph;
    rewriter->replace = replace;
    rewriter->context = context;
    rewriter->memo_count = graph_node_count(graph);
    rewriter->memo = arena_array(graph_arena(graph), Node *, rewriter->memo_count);
}

static Node *rebuild(Graph *graph, Node *node, Node **args) {
    switch (node->op) {
    case OP_EXPAND:
        return node_expand(graph, args[0], node->rank, node->dims);
    case OP_RESHAPE:
        return node_reshape(graph, args[0], node->rank, node->dims);
    case OP_TRANSPOSE:
        return node_transpose(graph, args[0]);
    case OP_SLICE:
        return node_slice(graph, args[0], node->integer, node->dims[0]);
    case OP_CONCAT:
        return node_concat(graph, args, node->arg_count);
    case OP_CONTRACT: {
        ContractSpec spec = node->contract;
        if (spec.over_batch && !args[0]->batched && !args[1]->batched) { /* the same product in every row */
            spec.over_batch = false;
            return node_batch_sum(graph, node_contract(graph, args[0], args[1], spec, node->rank));
        }
        return node_contract(graph, args[0], args[1], spec, node->rank);
    }
    case OP_SUM:
        return node_sum(graph, args[0], (int)node->integer);
    case OP_MAX_OF:
        return node_max_of(graph, args[0], (int)node->integer);
    case OP_ARGMAX:
        return node_argmax(graph, args[0]);
    case OP_BATCH_SUM:
        return node_batch_sum(graph, args[0]);
    case OP_ONE_HOT:
        return node->arg_count == 1 ? node_one_hot(graph, args[0], node->integer)
                                    : node_bag(graph, args[0], args[1], node->integer);
    case OP_LOOKUP:
        return node->arg_count == 2 ? node_lookup(graph, args[0], args[1])
                                    : node_lookup_bag(graph, args[0], args[1], args[2]);
    case OP_SCATTER:
        return node->turned
                   ? node_transpose(graph, node_scatter(graph, args[0], args + 1, node->arg_count - 1, node->integer))
                   : node_scatter(graph, args[0], args + 1, node->arg_count - 1, node->integer);
    case OP_GATHER:
        return node_gather(graph, args[0], args[1]);
    case OP_DETACH:
        return node_detach(graph, args[0]);
    case OP_CUSTOM:
        return node_custom(graph, node->item, args[0], args + 1, node->arg_count - 1);
    default:
        return node_op(graph, node->op, args[0], node->arg_count > 1 ? args[1] : NULL,
                       node->arg_count > 2 ? args[2] : NULL);
    }
}

Node *rewrite(Rewriter *rewriter, Node *root) {
    if (root->id >= rewriter->memo_count)
        BUG("rewrite of a node made after it began");
    Node **memo = &rewriter->memo[root->id];
    if (*memo)
        return *memo;
    Node *node = rewriter->replace(rewriter->context, root);
    if (!node) {
        bool changed = false;
        Node **args = arena_array(graph_arena(rewriter->graph), Node *, root->arg_count ? root->arg_count : 1);
        for (int i = 0; i < root->arg_count; i++) {
            args[i] = rewrite(rewriter, root->args[i]);
            changed |= args[i] != root->args[i];
        }
        node = root;
        if (changed) {
            Span before = graph_set_span(rewriter->graph, root->span);
            node = rebuild(rewriter->graph, root, args);
            graph_set_span(rewriter->graph, before);
            if (root->label)
                node_label(node, root->label);
        }
    }
    return *memo = node;
}
