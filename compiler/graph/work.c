/* How much a function of the graph computes, for a row of the batch. */
#include "build.h"

static double contract_flops(const Node *node) {
    double extent[16] = {0}, flops = 2;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < node->args[side]->rank; i++)
            extent[(side ? node->contract.right : node->contract.left)[i]] = (double)node->args[side]->dims[i];
    for (int i = 0; i < 16; i++)
        flops *= extent[i] > 0 ? extent[i] : 1;
    return node->args[0]->batched || node->args[1]->batched ? flops : 0;
}

void mark_computed(const Node *node, bool *seen) {
    if (seen[node->id])
        return;
    seen[node->id] = true;
    for (int i = 0; i < (node->op == OP_CUSTOM ? 1 : node->arg_count); i++)
        mark_computed(node->args[i], seen);
}

double function_flops(Build *build, const GraphFunction *function) {
    bool *seen = arena_array(build->arena, bool, graph_node_count(build->graph));
    double flops = 0;
    for (int i = 0; i < function->sinks.count; i++)
        mark_computed(function->sinks.at[i].value, seen);
    for (int id = 0; id < graph_node_count(build->graph); id++)
        if (seen[id] && graph_node(build->graph, id)->op == OP_CONTRACT)
            flops += contract_flops(graph_node(build->graph, id));
    return flops;
}

static double node_work(const Node *node) {
    switch (node->op) {
    case OP_CONTRACT:
        return contract_flops(node);
    case OP_SUM:
    case OP_MAX_OF:
    case OP_ARGMAX:
    case OP_BATCH_SUM:
        return node->args[0]->batched ? (double)node_elements(node->args[0]) : 0;
    case OP_LOOKUP: /* of several rows: each that may be there is visited */
        return node->arg_count > 2 ? (double)(node_elements(node->args[1]) * node_elements(node)) : 0;
    default:
        break;
    }
    OpClass class = op_table[node->op].class;
    bool element = class == CLASS_ARITHMETIC || class == CLASS_COMPARE || class == CLASS_MATH;
    return element && node->batched ? (double)node_elements(node) : 0;
}

double work_of_row(const Graph *graph, const bool *seen) {
    double work = 0;
    for (int id = 0; id < graph_node_count(graph); id++)
        if (seen[id])
            work += node_work(graph_node(graph, id));
    return work;
}
