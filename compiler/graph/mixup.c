/* `augment mixup(alpha = 0.2)`: what the network is given is a row and the next one of the batch, its partner, mixed, and
   the loss is that of both rows' targets, mixed alike (Zhang, Cisse, Dauphin, Lopez-Paz, mixup: Beyond Empirical Risk
   Minimization, 2018). One share for all rows of a batch, as the authors' program has it. */
#include "build.h"

/* The share that a row has of its own values, distributed as Beta(alpha, alpha). */
static Node *share(Build *build, const TrainPlan *plan) {
    Term function = {.kind = TERM_FUNCTION, .span = plan->mixup_span}, args[3];
    function.item = program_find(build->program, name_of("symmetric_beta"))->item;
    for (int i = 0; i < 2; i++)
        args[i] = term_node(
            node_random(build->graph, false, hash_text(i ? "mixup, draw 1" : "mixup, draw 0"), false, 0, NULL),
            plan->mixup_span);
    args[2] = term_node(node_constant(build->graph, plan->mixup), plan->mixup_span);
    Term result = build_apply(build, &function, args, 3, NULL, 0, plan->mixup_span);
    Node *drawn = term_number(build, &result);
    if (!drawn || drawn->rank == 0)
        return drawn;
    build_error(build, plan->mixup_span, "mixup needs one number from 'symmetric_beta', but this one gives %s",
                node_shape(build->arena, drawn));
    return NULL;
}

Node *mixup(Build *build, const TrainPlan *plan, Node *own, Node *partner) {
    Graph *graph = build->graph;
    Span before = graph_set_span(graph, plan->mixup_span);
    Node *lambda = share(build, plan), *mixed = NULL;
    if (lambda) {
        Node *rest = node_op(graph, OP_SUBTRACT, node_constant(graph, 1), lambda, NULL);
        node_label(lambda, name_of("lambda"));
        mixed = node_op(graph, OP_ADD, node_op(graph, OP_MULTIPLY, lambda, own, NULL),
                        node_op(graph, OP_MULTIPLY, rest, partner, NULL), NULL);
    }
    graph_set_span(graph, before);
    return mixed;
}
