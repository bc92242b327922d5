/* Before: a step's items. After: the tables among its parameters whose rows are only looked up, taken out of the items with
   everything that changes them.

   A table's gradient is zero but for the rows that the batch read. So it is never stored: each piece of the table gathers
   what its rows get, and the update rides on that. And where the optimizer's formula, with a gradient of zero, needs nothing
   but the table, its state and numbers of the step, a piece that was not read need not be touched at all: either nothing
   would change, or the updates wait until the piece is read, and are then done one after another in registers, from the
   numbers that each step left. What comes out is the same, to the bit, as if every row had been updated in every step.

   A piece is what lies together in panels: of an embedding 16 rows, of a layer that takes words or a category, whose
   table is turned, the column of one of them. */
#include "lower.h"

enum {
    WORTH_WAITING = 2, /* pieces for each row that a batch may read: with fewer, most are read anyway */
};

typedef struct Search {
    LowerPlan *plan;
    Graph *graph;
    LowerTable *table;
    signed char *within; /* by node id: 1 the updates' own, -1 not */
    bool *reads;         /* by node id: follows from the scatter, too */
} Search;

static bool is_element(const Node *node) {
    OpClass class = op_table[node->op].class;
    return class == CLASS_ARITHMETIC || class == CLASS_COMPARE || class == CLASS_MATH || node->op == OP_DETACH;
}

/* ---- what changes the table -------------------------------------------------------------------------------------- */

/* A number that is one of a tensor's is another one once that has changed. */
static bool is_of_tensor(const Node *node) {
    bool is = node->op == OP_TENSOR;
    for (int i = 0; i < node->arg_count && !is; i++)
        is = node->args[i]->rank == 0 && is_of_tensor(node->args[i]);
    return is;
}

static bool is_changed(const LowerTable *table, const Tensor *tensor) {
    for (int i = 0; i < table->updates.count; i++)
        if (table->updates.at[i].tensor == tensor)
            return true;
    return false;
}

/* A number of the step: the same for all rows of the table. */
static void add_numbers(Search *s, Node *node) {
    if (node->op == OP_CONSTANT)
        return;
    for (int i = 0; i < node->arg_count && node->type == TYPE_TRUTH; i++)
        add_numbers(s, node->args[i]);
    for (int i = 0; i < s->table->numbers.count; i++)
        if (s->table->numbers.at[i] == node)
            return;
    *LIST_ADD(s->plan->arena, &s->table->numbers) = node;
}

/* Marks what an update is made of; false where it takes more than the table's rows have, point by point. */
static bool take(Search *s, Node *node) {
    if (node->batched || (node->rank && !node_same_shape(node, s->table->scatter)))
        return false;
    if (node->rank == 0 || node->op == OP_EXPAND) { /* not the updates' own: others may read it */
        Node *number = node->rank ? node->args[0] : node;
        if (number->rank || number->type == TYPE_INDEX || is_of_tensor(number))
            return false;
        add_numbers(s, number);
        if (node->rank && number->op != OP_CONSTANT)
            *LIST_ADD(s->plan->arena, &s->table->spread) = node;
        return true;
    }
    if (s->within[node->id])
        return s->within[node->id] > 0;
    s->within[node->id] = -1;
    if (node != s->table->scatter && !(node->op == OP_TENSOR && is_changed(s->table, node->tensor))) {
        if (!is_element(node))
            return false;
        for (int i = 0; i < node->arg_count; i++)
            if (!take(s, node->args[i]))
                return false;
    }
    s->within[node->id] = 1;
    return true;
}

static bool is_own(const Search *s, const Node *node) {
    return s->within[node->id] > 0;
}

/* Tensors whose new value follows from the scatter, and whatever else is a state of the table. */
static void find_updates(Search *s) {
    const LowerPlan *plan = s->plan;
    s->reads[s->table->scatter->id] = true;
    for (int id = s->table->scatter->id + 1; id < plan->node_count; id++) {
        const Node *node = graph_node(s->graph, id);
        for (int i = 0; i < node->arg_count && plan->uses[id]; i++)
            s->reads[id] |= s->reads[node->args[i]->id];
    }
    for (int i = 0; i < plan->function->sinks.count; i++) {
        const Sink *sink = &plan->function->sinks.at[i];
        if (s->reads[sink->value->id] && sink->tensor && !sink->tensor->state)
            s->table->tensor = sink->tensor;
    }
    for (int i = 0; i < plan->function->sinks.count; i++) {
        const Sink *sink = &plan->function->sinks.at[i];
        bool state = sink->tensor && sink->tensor->of && sink->tensor->of == s->table->tensor;
        if (s->reads[sink->value->id] || state)
            *LIST_ADD(plan->arena, &s->table->updates) = *sink;
    }
}

static bool updates_fit(Search *s) {
    LowerTable *table = s->table;
    for (int i = 0; i < table->updates.count; i++) {
        const Tensor *tensor = table->updates.at[i].tensor;
        bool shaped = tensor && tensor->rank == 2 && tensor->dims[0] == table->scatter->dims[0] &&
                      tensor->dims[1] == table->scatter->dims[1];
        if (!shaped || (!tensor->state && tensor != table->tensor))
            return false;
    }
    for (int i = 0; i < table->updates.count; i++)
        if (!take(s, table->updates.at[i].value))
            return false;
    return table->tensor != NULL;
}

/* What lookups read: a layer that takes categories or words keeps each one's weights as a column. */
static bool is_table(const Search *s, const Node *node) {
    if (s->table->scatter->turned) {
        if (node->op != OP_TRANSPOSE || s->plan->items[node->id])
            return false;
        node = node->args[0];
    }
    return node->op == OP_TENSOR && node->tensor == s->table->tensor;
}

/* Whoever else reads the table looks up the rows that the gradient is of; nobody else reads its state or its updates. */
static bool readers_fit(const Search *s) {
    const Node *scatter = s->table->scatter;
    for (int id = 0; id < s->plan->node_count; id++) {
        const Node *node = graph_node(s->graph, id);
        if (!s->plan->uses[id] || is_own(s, node) || (scatter->turned && is_table(s, node)))
            continue;
        if (s->reads[id])
            return false;
        for (int i = 0; i < node->arg_count; i++) {
            const Node *read = node->args[i];
            bool changed = read->op == OP_TENSOR && is_changed(s->table, read->tensor);
            bool is = is_table(s, read);
            bool looks_up = is && node->op == OP_LOOKUP && i == 0 && node->args[1] == scatter->args[1];
            if ((changed || is || is_own(s, read)) && !looks_up)
                return false;
        }
    }
    for (int i = 0; i < s->plan->function->sinks.count; i++) {
        const Sink *sink = &s->plan->function->sinks.at[i];
        bool own =
            is_own(s, sink->value) || (sink->value->op == OP_TENSOR && is_changed(s->table, sink->value->tensor));
        if (own && !(sink->tensor && is_changed(s->table, sink->tensor)))
            return false;
    }
    return true;
}

/* ---- what a gradient of zero does -------------------------------------------------------------------------------- */

static bool is_zero(const Search *s, Node *node) {
    switch (node->op) {
    case OP_CONSTANT:
        return node->number == 0;
    case OP_SCATTER:
        return node == s->table->scatter;
    case OP_EXPAND:
    case OP_NEGATE:
    case OP_DETACH:
        return is_zero(s, node->args[0]);
    case OP_MULTIPLY:
        return is_zero(s, node->args[0]) || is_zero(s, node->args[1]);
    case OP_DIVIDE:
        return is_zero(s, node->args[0]) && interval_of(s->graph, node->args[1]).low > 0;
    case OP_ADD:
    case OP_SUBTRACT:
    case OP_MINIMUM:
    case OP_MAXIMUM:
        return is_zero(s, node->args[0]) && is_zero(s, node->args[1]);
    default:
        return false;
    }
}

/* Whether the new value is the old one. */
static bool stays(const Search *s, Node *node, const Tensor *tensor) {
    switch (node->op) {
    case OP_TENSOR:
        return node->tensor == tensor;
    case OP_ADD:
        return (stays(s, node->args[0], tensor) && is_zero(s, node->args[1])) ||
               (stays(s, node->args[1], tensor) && is_zero(s, node->args[0]));
    case OP_SUBTRACT:
        return stays(s, node->args[0], tensor) && is_zero(s, node->args[1]);
    case OP_WHERE:
        return stays(s, node->args[1], tensor) && stays(s, node->args[2], tensor);
    default:
        return false;
    }
}

static TableRows rows_of(const Search *s) {
    if (s->table->pieces < WORTH_WAITING * s->table->reads)
        return TABLE_ALL;
    for (int i = 0; i < s->table->updates.count; i++)
        if (!stays(s, s->table->updates.at[i].value, s->table->updates.at[i].tensor))
            return TABLE_WAITS;
    return TABLE_READ;
}

/* ---- taking it out ----------------------------------------------------------------------------------------------- */

/* What other kernels have to leave in memory for the table's. */
static void want_outside(LowerPlan *plan, Node *node) {
    LowerItem *item = plan->items[node->id];
    if (item) {
        item->read_outside = true;
        return;
    }
    for (int i = 0; i < node->arg_count; i++)
        want_outside(plan, node->args[i]);
}

static void take_out(Search *s) {
    for (int id = 0; id < s->plan->node_count; id++)
        if (s->within[id] > 0)
            s->plan->items[id] = NULL;
    for (int i = 0; i < s->table->scatter->arg_count; i++)
        want_outside(s->plan, s->table->scatter->args[i]);
    for (int i = 0; i < s->table->numbers.count; i++)
        want_outside(s->plan, s->table->numbers.at[i]);
}

static bool is_step(const GraphProgram *program, const GraphFunction *function) {
    for (int i = 0; i < program->trains.count; i++) {
        const GraphMeasure *training = &program->trains.at[i]->training;
        if (training->passes.count && training->passes.at[0].accumulate == function)
            return !function->next && function->every <= 1;
    }
    return false;
}

void lower_find_tables(LowerPlan *plan, const GraphProgram *program) {
    if (!plan->vectors || !is_step(program, plan->function))
        return;
    for (int id = 0; id < plan->node_count; id++) {
        Node *node = graph_node(program->graph, id);
        if (node->op != OP_SCATTER || !plan->uses[id] ||
            (node->turned && !plan->items[lower_behind(node->args[0])->id]))
            continue;
        LowerTable *table = arena_new_of(plan->arena, LowerTable);
        table->scatter = node;
        table->pieces = node->turned ? node->dims[1] : panels_of(node->dims[0]);
        table->vectors = node->turned ? panels_of(node->dims[0]) : node->dims[1];
        table->reads = plan->function->capacity * (node->args[1]->rank ? node->args[1]->dims[0] : 1);
        Search s = {.plan = plan,
                    .graph = program->graph,
                    .table = table,
                    .within = arena_array(plan->arena, signed char, plan->node_count),
                    .reads = arena_array(plan->arena, bool, plan->node_count)};
        find_updates(&s);
        if (table->reads > INT32_MAX || !updates_fit(&s) || !readers_fit(&s))
            continue;
        table->rows = rows_of(&s);
        take_out(&s);
        *LIST_ADD(plan->arena, &plan->tables) = table;
    }
}
