/* What each class of a target counts in the loss: a row's loss is multiplied by the weight of the row's class. The mean
   is over all rows of the batch, as Keras has it (PyTorch divides by the sum of the weights). */
#include "build.h"

int scalar_of_class_weight(const Program *program, const TrainPlan *plan) {
    int at = BP_SCALAR_COUNT + program->params.count;
    for (int i = 0; i < program->data.count; i++)
        at += program->data.at[i]->fitted_count;
    for (int i = 0; i < program->actions.count; i++) {
        const TrainPlan *other = program->actions.at[i].train;
        if (other == plan)
            return at;
        if (other && other->class_column >= 0 && other->class_balanced)
            at += other->data->columns[other->class_column].category_count;
    }
    return at;
}

/* The weight of the class that a row has: balanced ones are known when the phase starts. */
static Node *weight_of_row(Build *build, const TrainPlan *plan, const DataColumn *column, Node *target) {
    Graph *graph = build->graph;
    Node **weights = arena_array(build->arena, Node *, column->category_count);
    for (int i = 0; i < column->category_count; i++)
        weights[i] =
            plan->class_balanced
                ? node_scalar(graph, scalar_of_class_weight(build->program, plan) + i,
                              name_of(arena_printf(build->arena, "class_weight.%s", column_category(column, i))))
                : node_constant(graph, plan->class_weights[i]);
    Node *all = node_concat(graph, weights, column->category_count);
    Node *here = node_op(graph, OP_EQUAL, node_iota(graph, column->category_count), target, NULL);
    return node_sum(graph, node_op(graph, OP_WHERE, here, all, node_constant(graph, 0)), AXIS_ALL);
}

void weigh_classes(Build *build, const TrainPlan *plan) {
    build->weighed = NULL;
    if (plan->class_column < 0)
        return;
    const DataColumn *column = &plan->data->columns[plan->class_column];
    const Binding *target = scope_find(build, column->name);
    Span before = graph_set_span(build->graph, plan->class_span);
    build->weighed = target->term.node;
    build->class_weight = weight_of_row(build, plan, column, build->weighed);
    node_label(build->class_weight, name_of("class_weight"));
    graph_set_span(build->graph, before);
}
