/* Before: a function of the graph. After: which of its values are stored, and in which kernel each is computed.
   Requires arguments with smaller ids than their users.

   A value that is cheap, or used once at its own point, is inlined. The rest are items. Items over the same domain join
   one group as early as what they read allows, so that element-by-element work rides on the product or sum before it; a
   new value of a tensor comes after every reader of the old one. */
#include "lower.h"

#include <string.h>

enum { WORTH_RIDING = 4 }; /* panels of a gradient that may be the only axis that is shared out */

Scalar lower_scalar(const GraphFunction *function, const Node *node) {
    switch (node->type) {
    case TYPE_REAL:
        return function->is_double ? SCALAR_F64 : SCALAR_F32;
    case TYPE_WIDE:
        return SCALAR_F64;
    case TYPE_INDEX:
        return SCALAR_I32;
    case TYPE_TRUTH:
        break;
    }
    BUG("a condition in memory");
}

Node *lower_behind(Node *node) {
    while (node->op == OP_CUSTOM || node->op == OP_DETACH)
        node = node->args[0];
    return node;
}

/* ---- what is needed, how often
 * ------------------------------------------------------------------------------------------ */

static int op_args(const Node *node) { /* of a custom op only the value is computed */
    return node->op == OP_CUSTOM ? 1 : node->arg_count;
}

static void count_uses(LowerPlan *plan, Node *node) {
    if (plan->uses[node->id]++)
        return;
    for (int i = 0; i < op_args(node); i++)
        count_uses(plan, node->args[i]);
}

static bool is_leaf(const Node *node) {
    return op_table[node->op].class == CLASS_LEAF && node->op != OP_RANDOM;
}

static bool is_element(const Node *node) {
    OpClass class = op_table[node->op].class;
    return class == CLASS_ARITHMETIC || class == CLASS_COMPARE || class == CLASS_MATH;
}

static bool is_root(const Node *node) {
    switch (node->op) {
    case OP_SUM:
    case OP_MAX_OF:
    case OP_ARGMAX:
    case OP_CONTRACT:
    case OP_BATCH_SUM:
    case OP_LOOKUP:
    case OP_SCATTER:
    case OP_GATHER:
    case OP_CONCAT:
        return true;
    default:
        return false;
    }
}

/* Cheap enough to compute again wherever it is used: one or two steps from what is stored. */
static bool is_cheap(const Node *node, int depth) {
    node = lower_behind((Node *)node);
    if (is_leaf(node) || is_root(node))
        return true;
    if (node->op == OP_RANDOM || op_table[node->op].class == CLASS_MATH || node->op == OP_DIVIDE ||
        node->op == OP_SQRT || depth == 0)
        return false;
    for (int i = 0; i < op_args(node); i++)
        if (!is_cheap(node->args[i], depth - 1))
            return false;
    return true;
}

/* A value that a product may read again and again: stored, or a view of what is. */
static Node *stored_behind(Node *node) {
    for (;;) {
        node = lower_behind(node);
        if (node->op == OP_TRANSPOSE || node->op == OP_RESHAPE || node->op == OP_SLICE || node->op == OP_EXPAND)
            node = node->args[0];
        else
            return node;
    }
}

/* Whether 16 neighbouring elements can be computed at once. */
static bool in_lanes(const LowerPlan *plan, Node *node, const Node *domain) {
    node = lower_behind(node);
    if (plan->items[node->id] || is_leaf(node))
        return node->rank == 0 || node_same_shape(node, domain);
    if (node->op == OP_EXPAND || (node->op == OP_ONE_HOT && node->arg_count == 1))
        return in_lanes(plan, node->args[0], domain);
    if (!is_element(node))
        return false;
    for (int i = 0; i < node->arg_count; i++)
        if (!in_lanes(plan, node->args[i], domain))
            return false;
    return true;
}

static void make_item(LowerPlan *plan, Node *node) {
    if (plan->items[node->id])
        return;
    LowerItem *item = arena_new_of(plan->arena, LowerItem);
    item->node = node;
    item->group = -1;
    plan->items[node->id] = item;
}

static void want_stored(LowerPlan *plan, Node *node) {
    node = stored_behind(node);
    if (!is_leaf(node))
        make_item(plan, node);
}

static void choose_items(LowerPlan *plan, Graph *graph) {
    for (int id = 0; id < plan->node_count; id++) {
        Node *node = graph_node(graph, id);
        if (!plan->uses[id] || is_leaf(node) || node->type == TYPE_TRUTH)
            continue;
        if (is_root(node) || (node->op == OP_RANDOM && (plan->uses[id] > 1 || node->batched)))
            make_item(plan, node);
        if (node->type == TYPE_WIDE && node->rank == 0 && is_element(node) && plan->uses[id] > 0)
            make_item(plan, node);
        if (is_element(node) && plan->uses[id] > 1 && !is_cheap(node, 2))
            make_item(plan, node);
        if (node->op == OP_SCATTER || node->op == OP_GATHER)
            want_stored(plan, node->args[0]);
        if (node->op == OP_CONTRACT || node->op == OP_LOOKUP)
            for (int i = 0; i < 2; i++) {
                want_stored(plan, node->args[i]);
                Node *factor = node->args[i];
                bool number = factor->batched && factor->rank == 1 &&
                              (factor->op == OP_EXPAND || factor->op == OP_RESHAPE); /* as a vector of one */
                if (plan->vectors && node->op == OP_CONTRACT && (factor->op == OP_TRANSPOSE || number))
                    make_item(plan, factor);
            }
        if (node->op == OP_MAX_OF || node->op == OP_ARGMAX)
            want_stored(plan, node->args[0]);
        if (node->op == OP_SUM || node->op == OP_BATCH_SUM) {
            bool rows = node->op == OP_BATCH_SUM && node->rank == 0;
            bool lanes = node->op == OP_SUM && (node->integer == AXIS_ALL || node->integer == node->args[0]->rank - 1);
            bool plain =
                !plan->vectors && !is_leaf(lower_behind(node->args[0])); /* checks stay short: no functions in lanes */
            if (rows || (lanes && (plain || !in_lanes(plan, node->args[0], node->args[0]))))
                make_item(plan, lower_behind(node->args[0]));
        }
    }
    for (int i = 0; i < plan->function->sinks.count; i++) {
        Sink *sink = &plan->function->sinks.at[i];
        Node *node = lower_behind(sink->value);
        if (plan->function->stops && is_leaf(node))
            continue; /* an input under another name is where it was */
        make_item(plan, node);
        if (plan->function->stops)
            plan->items[node->id]->read_outside = true;
        else
            *LIST_ADD(plan->arena, &plan->items[node->id]->sinks) = *sink;
    }
}

/* ---- groups
 * ------------------------------------------------------------------------------------------------------------------ */

typedef struct Reading {
    LowerPlan *plan;
    const LowerItem *reader;
    int least;             /* the earliest group the reader may be in */
    int beside;            /* the latest group with an item that it reads at its own point; -1: none */
    const LowerItem *item; /* that item */
    void (*tensor)(struct Reading *reading, const Tensor *tensor, bool at_point);
    void *context;
} Reading;

static bool same_domain(const Node *a, const Node *b) {
    return a->batched == b->batched && node_same_shape(a, b);
}

static void read_node(Reading *reading, Node *node, bool at_point);

static void read_args(Reading *reading, Node *node, bool at_point) {
    for (int i = 0; i < op_args(node); i++)
        read_node(reading, node->args[i],
                  at_point && (is_element(node) || node->op == OP_CUSTOM || node->op == OP_DETACH));
}

static void read_node(Reading *reading, Node *node, bool at_point) {
    LowerItem *item = reading->plan->items[node->id];
    if (item && item != reading->reader) {
        bool local = at_point && same_domain(item->node, reading->reader->node);
        if (item->group + !local > reading->least)
            reading->least = item->group + !local;
        if (local && item->group > reading->beside) {
            reading->beside = item->group;
            reading->item = item;
        }
        return;
    }
    if (node->op == OP_TENSOR && reading->tensor)
        reading->tensor(reading, node->tensor,
                        at_point && !reading->reader->node->batched && node_same_shape(node, reading->reader->node));
    read_args(reading, node, at_point);
}

typedef struct TensorReader {
    const Tensor *tensor;
    int group;
    bool at_point;
} TensorReader;

typedef LIST(TensorReader) TensorReaders;

static void remember_reader(Reading *reading, const Tensor *tensor, bool at_point) {
    TensorReaders *readers = reading->context;
    *LIST_ADD(reading->plan->arena, readers) = (TensorReader){tensor, -1, at_point};
}

/* Whether a value has to do with the batch that is being computed: its rows, or how many they are. */
static bool of_the_batch(Node *node, signed char *memo) {
    if (memo[node->id])
        return memo[node->id] > 0;
    bool is = node->batched || node->op == OP_BATCH_SUM;
    for (int i = 0; i < op_args(node) && !is; i++)
        is = of_the_batch(node->args[i], memo);
    memo[node->id] = is ? 1 : -1;
    return is;
}

/* What follows from a stored gradient, element by element: the optimizer's formulas. */
static bool follows_the_same(const LowerGroup *group, const LowerItem *item) {
    for (int i = 0; i < group->items.count && !item->node->batched && item->beside; i++)
        if (group->items.at[i]->beside == item->beside)
            return true;
    return false;
}

/* Numbers share whatever group has them; vectors and matrices join only the group whose values they read at their own
   point, or one that reads there what they read: what merely has the same shape would tear apart what belongs together. */
static int join_group(LowerPlan *plan, LowerItem *item, int least, int beside, signed char *memo) {
    const Node *node = item->node;
    bool alone = node->op == OP_CONCAT || node->op == OP_SCATTER,
         vector = plan->vectors && lower_in_vectors(plan, item);
    bool prologue = !of_the_batch(item->node, memo);
    for (int i = least; i < plan->groups.count; i++) {
        LowerGroup *group = &plan->groups.at[i];
        if (node->rank > 0 && i != beside && !follows_the_same(group, item))
            continue;
        bool same = !alone && !group->alone && group->vector == vector && group->batched == node->batched &&
                    group->rank == node->rank && group->prologue == prologue;
        for (int j = 0; same && j < node->rank; j++)
            same = group->dims[j] == node->dims[j];
        if (same) {
            *LIST_ADD(plan->arena, &group->items) = item;
            return i;
        }
    }
    LowerGroup *group = LIST_ADD(plan->arena, &plan->groups);
    memset(group, 0, sizeof *group);
    group->batched = node->batched;
    group->rank = node->rank;
    memcpy(group->dims, node->dims, sizeof group->dims);
    group->alone = alone;
    group->vector = vector;
    group->prologue = prologue;
    *LIST_ADD(plan->arena, &group->items) = item;
    return plan->groups.count - 1;
}

/* ---- sums along the columns of a gradient, added up while its elements are made ----------------------------------- */

static const LowerItem *gradient_in(const LowerPlan *plan, Node *node) {
    node = lower_behind(node);
    if (plan->items[node->id])
        return lower_is_gradient(plan, node) ? plan->items[node->id] : NULL;
    for (int i = 0; i < node->arg_count && is_element(node); i++) {
        const LowerItem *item = gradient_in(plan, node->args[i]);
        if (item)
            return item;
    }
    return NULL;
}

/* Whether a group knows all that a value is made of, at its own point and before anything else is computed. */
static bool known_in(const LowerPlan *plan, Node *node, int group) {
    node = lower_behind(node);
    const LowerItem *item = plan->items[node->id];
    if (item)
        return item->group == group && node->rank == 2;
    if (is_leaf(node))
        return node->op == OP_CONSTANT || node->op == OP_SCALAR || node->op == OP_TENSOR;
    if (!is_element(node) && node->op != OP_EXPAND)
        return false;
    for (int i = 0; i < node->arg_count; i++)
        if (!known_in(plan, node->args[i], group))
            return false;
    return true;
}

bool lower_may_be_ridden(const Node *gradient) {
    return gradient->dims[0] >= LANES * WORTH_RIDING || gradient->dims[0] >= gradient->dims[1];
}

/* The group that makes the gradient which a sum along the columns goes through; -1: the sum has a loop of its own. */
static int ridden_group(const LowerPlan *plan, const LowerItem *item) {
    const Node *node = item->node;
    if (!plan->vectors || node->op != OP_SUM || node->rank != 1 || node->batched || node->integer != 1 ||
        item->sinks.count)
        return -1;
    const LowerItem *gradient = gradient_in(plan, node->args[0]);
    if (!gradient || !plan->groups.at[gradient->group].vector || !lower_may_be_ridden(node->args[0]))
        return -1;
    return known_in(plan, node->args[0], gradient->group) ? gradient->group : -1;
}

static bool changes_tensor(const LowerItem *item) {
    for (int i = 0; i < item->sinks.count; i++)
        if (item->sinks.at[i].tensor)
            return true;
    return false;
}

static void form_groups(LowerPlan *plan, Graph *graph, TensorReaders *readers) {
    plan->guard_group = -1;
    signed char *memo = arena_array(plan->arena, signed char, plan->node_count);
    const Node *guard = plan->function->guard;
    for (int id = 0; id < plan->node_count; id++) {
        LowerItem *item = plan->items[id];
        if (!item || !plan->uses[id])
            continue;
        int first_reader = readers->count;
        Reading reading = {plan, item, 0, -1, NULL, remember_reader, readers};
        read_args(&reading, graph_node(graph, id), true);
        if (op_table[item->node->op].class == CLASS_LEAF && item->node->op == OP_TENSOR) /* a copy of a tensor */
            remember_reader(&reading, item->node->tensor, true);
        if (changes_tensor(item) && plan->guard_group + 1 > reading.least)
            reading.least = plan->guard_group + 1;
        for (int i = 0; i < item->sinks.count; i++)
            for (int j = 0; j < first_reader && item->sinks.at[i].tensor; j++)
                if (readers->at[j].tensor == item->sinks.at[i].tensor &&
                    readers->at[j].group + !readers->at[j].at_point > reading.least)
                    reading.least = readers->at[j].group + !readers->at[j].at_point;
        item->beside = reading.item;
        item->group = ridden_group(plan, item);
        if (item->group >= 0) {
            item->rides = true;
            *LIST_ADD(plan->arena, &plan->groups.at[item->group].riders) = item;
        } else {
            item->group = join_group(plan, item, reading.least, reading.beside, memo);
        }
        for (int j = first_reader; j < readers->count; j++)
            readers->at[j].group = item->group;
        if (item->node == guard)
            plan->guard_group = item->group;
    }
}

/* A tensor that something reads after its new value is there, or whose new value is there before the loss is known to be
   finite: the new value waits in a buffer and is copied at the end. */
static void delay_updates(LowerPlan *plan, const TensorReaders *readers) {
    for (int id = 0; id < plan->node_count; id++) {
        LowerItem *item = plan->items[id];
        for (int i = 0; item && plan->uses[id] && i < item->sinks.count; i++) {
            const Tensor *tensor = item->sinks.at[i].tensor;
            bool late = tensor && plan->function->guard && item->group <= plan->guard_group;
            for (int j = 0; tensor && j < readers->count; j++)
                late |= readers->at[j].tensor == tensor &&
                        (readers->at[j].group > item->group ||
                         (readers->at[j].group == item->group && !readers->at[j].at_point));
            if (!late)
                continue;
            *LIST_ADD(plan->arena, &plan->copies) = item->sinks.at[i];
            item->read_outside = true;
            item->sinks.at[i] = item->sinks.at[--item->sinks.count];
            i--;
        }
    }
}

/* ---- buffers
 * ----------------------------------------------------------------------------------------------------------------------
 */

static void mark_read(Reading *reading, Node *node, bool at_point) {
    LowerItem *item = reading->plan->items[node->id];
    if (item && item != reading->reader) {
        if (!at_point || item->group != reading->reader->group)
            item->read_outside = true;
        return;
    }
    for (int i = 0; i < op_args(node); i++)
        mark_read(reading, node->args[i],
                  at_point && (is_element(node) || node->op == OP_CUSTOM || node->op == OP_DETACH));
}

static void name_buffers(LowerPlan *plan) {
    int unnamed = 0;
    for (int id = 0; id < plan->node_count; id++) {
        LowerItem *item = plan->items[id];
        if (item && item->node->op == OP_SCATTER) /* it is added to where it lies */
            item->read_outside = true;
        if (!item || !plan->uses[id] || !item->read_outside)
            continue;
        const Node *node = item->node;
        const char *shown =
            node->label ? node->label : arena_printf(plan->arena, "%s_%d", op_table[node->op].name, unnamed++);
        Buffer *buffer = arena_new_of(plan->arena, Buffer);
        buffer->name = name_identifier(shown);
        buffer->shown = name_of(shown);
        buffer->role = BUFFER_TEMPORARY;
        buffer->scalar = lower_scalar(plan->function, node);
        buffer->per_row = node->batched;
        buffer->rank = node->rank;
        memcpy(buffer->dims, node->dims, sizeof buffer->dims);
        lower_layout(plan->function, buffer, plan->function->capacity);
        buffer->span = node->span;
        item->buffer = buffer;
    }
}

LowerPlan *lower_plan(Arena *arena, GraphProgram *program, GraphFunction *function, int most_sums,
                      const LowerOptions *options) {
    LowerPlan *plan = arena_new_of(arena, LowerPlan);
    plan->arena = arena;
    plan->function = function;
    plan->vectors = !function->is_double;
    plan->most_sums = most_sums;
    plan->tight = options->tight;
    plan->node_count = graph_node_count(program->graph);
    plan->tensor_count = program->tensors.count;
    plan->items = arena_array(arena, LowerItem *, plan->node_count);
    plan->uses = arena_array(arena, int, plan->node_count);
    for (int i = 0; i < function->sinks.count; i++)
        count_uses(plan, function->sinks.at[i].value);
    choose_items(plan, program->graph);
    lower_find_tables(plan, program);
    TensorReaders readers = {0};
    form_groups(plan, program->graph, &readers);
    delay_updates(plan, &readers);
    for (int id = 0; id < plan->node_count; id++)
        if (plan->items[id] && plan->uses[id]) {
            Reading reading = {plan, plan->items[id], 0, -1, NULL, NULL, NULL};
            for (int i = 0; i < op_args(graph_node(program->graph, id)); i++)
                mark_read(&reading, graph_node(program->graph, id)->args[i],
                          plan->items[id]->rides || is_element(graph_node(program->graph, id)) ||
                              lower_behind(graph_node(program->graph, id)) != graph_node(program->graph, id));
        }
    name_buffers(plan);
    lower_schedule(plan, options);
    return plan;
}
