/* The invariants of graph.h, each a BUG that prints the node. Nothing is changed. */
#include "graph.h"

static void broken(const Node *node, const char *what) {
    Text line = {0};
    node_print(node, &line);
    BUG("%s: %s", what, line.at);
}

static void want(bool holds, const Node *node, const char *what) {
    if (!holds)
        broken(node, what);
}

static bool is_number_type(const Node *node) {
    return node->type == TYPE_REAL || node->type == TYPE_WIDE;
}

/* A condition that was known while compiling is a constant. */
static bool is_condition(const Node *node) {
    return node->type == TYPE_TRUTH || node->op == OP_CONSTANT;
}

static void verify_arguments(const Node *node, int id) {
    int arity = op_table[node->op].arity;
    want(node->id == id, node, "its number is not its place");
    want(arity < 0 || node->arg_count == arity, node, "the number of arguments is not the op's");
    want(arity >= 0 || node->arg_count >= 1, node, "no arguments");
    for (int i = 0; i < node->arg_count; i++)
        want(node->args[i]->id < node->id, node, "an argument is not older than the node");
}

static void verify_shape(const Node *node) {
    want(node->rank >= 0 && node->rank <= 4, node, "rank beyond four");
    for (int i = 0; i < node->rank; i++)
        want(node->dims[i] > 0, node, "an axis without elements");
    want(node->type != TYPE_WIDE || !node->batched, node, "WIDE is never batched");
}

static void verify_span(const Node *node) {
    Span span = node->span;
    if (span.source == -1) /* made by the compiler */
        return;
    want(span.source >= 0 && span.source < source_count(), node, "its span is in no source");
    size_t length;
    source_text(span.source, &length);
    want(span.start >= 0 && span.start <= span.end && (size_t)span.end <= length, node,
         "its span is beyond its source");
}

static void verify_element_types(const Node *node) {
    OpClass class = op_table[node->op].class;
    for (int i = 0; i < node->arg_count; i++) {
        const Node *arg = node->args[i];
        if (node->op == OP_AND || node->op == OP_OR || node->op == OP_NOT || (node->op == OP_WHERE && i == 0))
            want(is_condition(arg), node, "a condition is needed");
        else if (node->op == OP_EQUAL || node->op == OP_NOT_EQUAL || node->op == OP_LESS || node->op == OP_LESS_EQUAL)
            want(is_number_type(arg) == is_number_type(node->args[0]), node, "an index is compared with a number");
        else if (node->op == OP_WHERE)
            want(is_number_type(arg) ? is_number_type(node) : arg->type == node->type, node,
                 "its branches differ in type");
        else if (node->op != OP_REAL)
            want(is_number_type(arg), node, "an index or a condition in arithmetic");
    }
    if (class == CLASS_COMPARE)
        want(node->type == TYPE_TRUTH, node, "a comparison gives a condition");
    else if (node->op != OP_WHERE)
        want(is_number_type(node), node, "arithmetic gives a number");
    if (node->type == TYPE_WIDE)
        for (int i = node->op == OP_WHERE; i < node->arg_count; i++)
            want(node->args[i]->type != TYPE_REAL, node, "WIDE of a REAL");
}

static void verify_element(const Node *node) {
    bool batched = false, shaped = false;
    for (int i = 0; i < node->arg_count; i++) {
        batched |= node->args[i]->batched;
        shaped |= node->args[i]->rank > 0;
        want(node->args[i]->rank == 0 || node_same_shape(node, node->args[i]), node,
             "an argument has neither its shape nor none");
    }
    want(node->rank == 0 || shaped, node, "a shape from numbers");
    want(node->batched == batched, node, "batched is not what its arguments say");
    verify_element_types(node);
}

static void verify_contract(const Node *node) {
    int64_t extent[16] = {0};
    for (int side = 0; side < 3; side++) {
        const Node *x = side < 2 ? node->args[side] : node;
        const int8_t *letters = side == 0 ? node->contract.left : side == 1 ? node->contract.right : node->contract.out;
        bool seen[16] = {false};
        for (int i = 0; i < x->rank; i++) {
            int8_t letter = letters[i];
            want(letter >= 0 && letter < 16, node, "no such letter");
            want(!seen[letter], node, "a letter stands twice in one tensor");
            seen[letter] = true;
            want(side < 2 || extent[letter], node, "an output letter stands in no argument");
            want(!extent[letter] || extent[letter] == x->dims[i], node, "a letter has two extents");
            extent[letter] = x->dims[i];
        }
        want(is_number_type(x), node, "a product of indices or conditions");
    }
    bool batched = node->args[0]->batched || node->args[1]->batched;
    want(!node->contract.over_batch || batched, node, "a sum over a batch that is not there");
    want(node->batched == (batched && !node->contract.over_batch), node, "batched is not what its arguments say");
}

static void verify_reduction(const Node *node) {
    const Node *x = node->args[0];
    int axis = (int)node->integer;
    want(axis == AXIS_ALL || (axis >= 0 && axis < x->rank), node, "no such axis");
    want(node->rank == (axis == AXIS_ALL ? 0 : x->rank - 1), node, "its rank is not what the axis leaves");
    for (int i = 0, j = 0; axis != AXIS_ALL && i < x->rank; i++)
        if (i != axis)
            want(node->dims[j++] == x->dims[i], node, "its shape is not what the axis leaves");
}

static void verify_concat(const Node *node) {
    int64_t width = 0;
    for (int i = 0; i < node->arg_count; i++) {
        want(node->args[i]->rank == 1, node, "a part is no vector");
        width += node->args[i]->dims[0];
    }
    want(node->rank == 1 && node->dims[0] == width, node, "its width is not its parts'");
}

static void verify_slice(const Node *node) {
    const Node *x = node->args[0];
    want(x->rank >= 1 && node->rank == x->rank, node, "a slice keeps its rank");
    want(node->integer >= 0 && node->integer + node->dims[0] <= x->dims[0], node, "a slice beyond its end");
    for (int i = 1; i < x->rank; i++)
        want(node->dims[i] == x->dims[i], node, "a slice keeps its other axes");
}

static void verify_custom(const Node *node) {
    want(node->item != NULL, node, "no def");
    want(node_same_shape(node, node->args[0]), node, "its shape is not its value's");
    want(node->arg_count == node->item->params.count + 1, node, "its arguments are not its def's");
}

/* The batch: all but sums over it and CUSTOM (whose parameters may be batched where the value is not) pass it on. */
static void verify_batch(const Node *node) {
    bool batched = node->args[0]->batched;
    if (node->op == OP_CONCAT || node->op == OP_LOOKUP || node->op == OP_ONE_HOT || node->op == OP_GATHER)
        for (int i = 1; i < node->arg_count; i++)
            batched |= node->args[i]->batched;
    if (node->op == OP_SCATTER)
        want(node->args[1]->batched && !node->batched, node, "a sum over a batch that is not there");
    else if (node->op == OP_BATCH_SUM)
        want(batched && !node->batched, node, "a sum over a batch that is not there");
    else
        want(node->batched == batched, node, "batched is not what its arguments say");
}

static void verify_shape_op(const Node *node) {
    const Node *x = node->args[0];
    if (node->op == OP_CONTRACT) {
        verify_contract(node);
        return;
    }
    verify_batch(node);
    switch (node->op) {
    case OP_EXPAND:
        want(x->rank == 0 && node->rank > 0, node, "only a number expands");
        break;
    case OP_RESHAPE:
        want(node_elements(node) == node_elements(x), node, "a reshape keeps its elements");
        break;
    case OP_TRANSPOSE:
        want(x->rank == 2 && node->rank == 2 && node->dims[0] == x->dims[1] && node->dims[1] == x->dims[0], node,
             "not its argument's transpose");
        break;
    case OP_SLICE:
        verify_slice(node);
        break;
    case OP_CONCAT:
        verify_concat(node);
        break;
    case OP_SUM:
    case OP_MAX_OF:
        verify_reduction(node);
        break;
    case OP_ARGMAX:
        want(x->rank == 1 && node->rank == 0 && node->type == TYPE_INDEX, node, "argmax takes a vector to an index");
        break;
    case OP_BATCH_SUM:
    case OP_DETACH:
        want(node_same_shape(node, x), node, "its shape is not its argument's");
        break;
    case OP_ONE_HOT:
        want(x->rank == node->arg_count - 1 && x->type == TYPE_INDEX && node->rank == 1 &&
                 node->dims[0] == node->integer,
             node, "one_hot takes an index to a vector");
        break;
    case OP_LOOKUP:
        want(x->rank == 2 && node->args[1]->type == TYPE_INDEX && node->args[1]->rank == node->arg_count - 2, node,
             "lookup takes a matrix and an index");
        want(node->rank == 1 && node->dims[0] == x->dims[1], node, "lookup gives a row");
        break;
    case OP_SCATTER:
        want(x->rank == 1 && node->args[1]->type == TYPE_INDEX && node->args[1]->rank == node->arg_count - 2, node,
             "scatter takes a vector and an index");
        want(node->rank == 2 && node->dims[node->turned] == node->integer && node->dims[!node->turned] == x->dims[0],
             node, "scatter gives a matrix");
        break;
    case OP_GATHER:
        want(x->rank == 1 && node_same_shape(node, node->args[1]), node, "gather gives an element for each place");
        break;
    case OP_CUSTOM:
        verify_custom(node);
        break;
    default:
        broken(node, "an op that no graph holds");
    }
}

static void verify_leaf(const Node *node) {
    switch (node->op) {
    case OP_CONSTANT:
    case OP_SCALAR:
        want(node->rank == 0 && node->type == TYPE_WIDE, node, "a number of the compiler's is WIDE");
        break;
    case OP_TENSOR:
        want(node->tensor && !node->batched, node, "a tensor is one for all rows");
        break;
    case OP_INPUT:
        want(node->batched && (node->type == TYPE_INDEX || node->rank == 1) && node->rank <= 1, node,
             "an input is a row's vector, index or indices");
        want(!node->partner || !node->data || node->integer < node->data->slot_count, node,
             "what is kept is the row's own");
        break;
    case OP_IOTA:
        want(node->rank == 1 && node->dims[0] == node->integer && node->type == TYPE_INDEX, node,
             "iota is a vector of indices");
        break;
    default:
        break;
    }
}

void graph_verify(const Graph *graph) {
    for (int id = 0; id < graph_node_count(graph); id++) {
        const Node *node = graph_node(graph, id);
        verify_arguments(node, id);
        verify_shape(node);
        verify_span(node);
        OpClass class = op_table[node->op].class;
        if (class == CLASS_LEAF)
            verify_leaf(node);
        else if (class == CLASS_SHAPE)
            verify_shape_op(node);
        else if (class == CLASS_KERNEL)
            broken(node, "an op of kernels in the graph");
        else
            verify_element(node);
    }
}
