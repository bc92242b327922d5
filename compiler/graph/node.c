/* Nodes and their constructors: type and shape of each op's result, and one table that keeps equal nodes one node. */
#include "graph.h"

#include <math.h>
#include <string.h>

struct Graph {
    Arena *arena;
    Program *program;
    LIST(Node *) nodes;
    Node **table; /* open addressing, by content */
    int table_size;
    Span span;
    LIST(Rewrite) rewrites;
};

const RuleInfo rule_table[RULE_COUNT] = {
#define RULE(enumerator, name, from, to, claim) [RULE_##enumerator] = {name, from, to, CLAIM_##claim},
#include "rules.def"
#undef RULE
};

Graph *graph_new(Arena *arena, Program *program) {
    Graph *graph = arena_new_of(arena, Graph);
    graph->arena = arena;
    graph->program = program;
    if (!program) {
        graph->program = arena_new_of(arena, Program);
        graph->program->arena = arena;
    }
    graph->table_size = 1024;
    graph->table = arena_array(arena, Node *, graph->table_size);
    graph->span = SPAN_NONE;
    return graph;
}

Arena *graph_arena(Graph *graph) {
    return graph->arena;
}

Program *graph_program(const Graph *graph) {
    return graph->program;
}

int graph_node_count(const Graph *graph) {
    return graph->nodes.count;
}

Node *graph_node(const Graph *graph, int id) {
    return graph->nodes.at[id];
}

Span graph_set_span(Graph *graph, Span span) {
    Span before = graph->span;
    graph->span = span;
    return before;
}

Node *rewritten(Graph *graph, Rule rule, Node *result) {
    *LIST_ADD(graph->arena, &graph->rewrites) = (Rewrite){rule, graph->span, result};
    return result;
}

const Rewrite *graph_rewrites(const Graph *graph, int *count) {
    *count = graph->rewrites.count;
    return graph->rewrites.at;
}

/* ---- hash-consing ------------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
    return hash * 0xff51afd7ed558ccdu;
}

static uint64_t node_hash(const Node *node) {
    uint64_t number, hash = mix((uint64_t)node->op, (uint64_t)node->type);
    memcpy(&number, &node->number, sizeof number);
    hash = mix(hash, number);
    hash = mix(hash, (uint64_t)node->integer);
    hash = mix(hash, (uint64_t)(uintptr_t)node->tensor);
    hash = mix(hash, (uint64_t)node->rank * 2 + node->batched);
    for (int i = 0; i < node->rank; i++)
        hash = mix(hash, (uint64_t)node->dims[i]);
    for (int i = 0; i < node->arg_count; i++)
        hash = mix(hash, (uint64_t)node->args[i]->id);
    return hash;
}

static bool node_equal(const Node *a, const Node *b) {
    if (a->op != b->op || a->type != b->type || a->batched != b->batched || a->rank != b->rank ||
        a->arg_count != b->arg_count || memcmp(&a->number, &b->number, sizeof a->number) != 0 ||
        a->integer != b->integer || a->normal != b->normal || a->turned != b->turned || a->data != b->data ||
        a->partner != b->partner || a->tensor != b->tensor || a->buffer != b->buffer || a->item != b->item ||
        memcmp(&a->contract, &b->contract, sizeof a->contract) != 0 || memcmp(a->dims, b->dims, sizeof a->dims) != 0)
        return false;
    for (int i = 0; i < a->arg_count; i++)
        if (a->args[i] != b->args[i])
            return false;
    return true;
}

static Node **table_slot(Node **table, int size, const Node *node) {
    uint64_t at = node_hash(node);
    for (;; at++) {
        Node **slot = &table[at & (uint64_t)(size - 1)];
        if (!*slot || node_equal(*slot, node))
            return slot;
    }
}

static void table_grow(Graph *graph) {
    int size = graph->table_size * 2;
    Node **table = arena_array(graph->arena, Node *, size);
    for (int i = 0; i < graph->nodes.count; i++)
        *table_slot(table, size, graph->nodes.at[i]) = graph->nodes.at[i];
    graph->table = table;
    graph->table_size = size;
}

/* The node of that content: the one there is, or a new one. `args` are copied. */
static Node *intern(Graph *graph, Node draft, Node **args, int arg_count) {
    draft.args = args;
    draft.arg_count = arg_count;
    Node **slot = table_slot(graph->table, graph->table_size, &draft);
    if (*slot) {
        const Span first = (*slot)->span;
        bool elsewhere = first.source >= 0 && (first.source != graph->span.source || first.start != graph->span.start);
        bool work = op_table[draft.op].class != CLASS_LEAF &&
                    (op_table[draft.op].class != CLASS_SHAPE || draft.op == OP_SUM || draft.op == OP_CONTRACT);
        return work && elsewhere ? rewritten(graph, RULE_SHARED, *slot) : *slot;
    }
    Node *node = arena_new_of(graph->arena, Node);
    *node = draft;
    node->args = arena_array(graph->arena, Node *, arg_count ? arg_count : 1);
    for (int i = 0; i < arg_count; i++)
        node->args[i] = args[i];
    node->id = graph->nodes.count;
    node->span = graph->span;
    *slot = node;
    *LIST_ADD(graph->arena, &graph->nodes) = node;
    if (graph->nodes.count * 2 > graph->table_size)
        table_grow(graph);
    return node;
}

static Node draft_of(Op op, NodeType type, bool batched, int rank, const int64_t *dims) {
    Node draft = {0};
    draft.op = op;
    draft.type = type;
    draft.batched = batched;
    draft.rank = rank;
    for (int i = 0; i < rank; i++)
        draft.dims[i] = dims[i];
    return draft;
}

/* ---- what nodes tell --------------------------------------------------------------------------------------------- */

void node_label(Node *node, Name label) {
    if (!node->label)
        node->label = label;
    if (node->op == OP_CUSTOM) /* the value that its derivative stands beside */
        node_label(node->args[0], label);
}

bool node_same_shape(const Node *a, const Node *b) {
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

int64_t node_elements(const Node *node) {
    int64_t elements = 1;
    for (int i = 0; i < node->rank; i++)
        elements *= node->dims[i];
    return elements;
}

bool node_is_constant(const Node *node, double number) {
    if (node->op == OP_EXPAND)
        node = node->args[0];
    return node->op == OP_CONSTANT && node->number == number && signbit(node->number) == signbit(number);
}

const char *node_shape(Arena *arena, const Node *node) {
    if (node->type == TYPE_INDEX && node->rank == 0)
        return node->classes ? arena_printf(arena, "a category of %d", node->classes) : "a category";
    if (node->rank == 0)
        return "a number";
    char *shape = arena_printf(arena, "[%lld", (long long)node->dims[0]);
    for (int i = 1; i < node->rank; i++)
        shape = arena_printf(arena, "%s, %lld", shape, (long long)node->dims[i]);
    return arena_printf(arena, "%s]", shape);
}

/* ---- leaves ------------------------------------------------------------------------------------------------------ */

Node *node_constant(Graph *graph, double number) {
    Node draft = draft_of(OP_CONSTANT, TYPE_WIDE, false, 0, NULL);
    draft.number = isnan(number) ? NAN : number;
    return intern(graph, draft, NULL, 0);
}

Node *node_input(Graph *graph, const DataSet *data, int slot, int64_t width, int classes) {
    Node draft = draft_of(OP_INPUT, width ? TYPE_REAL : TYPE_INDEX, true, width ? 1 : 0, &width);
    draft.integer = slot;
    draft.data = data;
    draft.classes = classes;
    return intern(graph, draft, NULL, 0);
}

Node *node_input_words(Graph *graph, const DataSet *data, int slot, int64_t width, int classes) {
    Node draft = draft_of(OP_INPUT, TYPE_INDEX, true, 1, &width);
    draft.integer = slot;
    draft.data = data;
    draft.classes = classes;
    return intern(graph, draft, NULL, 0);
}

Node *node_partner(Graph *graph, Node *input) {
    Node draft = draft_of(OP_INPUT, input->type, true, input->rank, input->dims);
    draft.integer = input->integer;
    draft.data = input->data;
    draft.classes = input->classes;
    draft.partner = true;
    return intern(graph, draft, NULL, 0);
}

Node *node_tensor(Graph *graph, Tensor *tensor) {
    Node draft = draft_of(OP_TENSOR, TYPE_REAL, false, tensor->rank, tensor->dims);
    draft.tensor = tensor;
    Node *node = intern(graph, draft, NULL, 0);
    node_label(node, tensor->name);
    return node;
}

Node *node_scalar(Graph *graph, int index, Name label) {
    Node draft = draft_of(OP_SCALAR, TYPE_WIDE, false, 0, NULL);
    draft.integer = index;
    Node *node = intern(graph, draft, NULL, 0);
    node_label(node, label);
    return node;
}

Node *node_rows(Graph *graph) {
    return node_scalar(graph, BP_SCALAR_ROWS, name_of("rows"));
}

Node *node_total(Graph *graph, Buffer *totals, int64_t first, int rank, const int64_t *dims) {
    Node draft = draft_of(OP_TOTAL, TYPE_WIDE, false, rank, dims);
    draft.buffer = totals;
    draft.integer = first;
    return intern(graph, draft, NULL, 0);
}

Node *node_random(Graph *graph, bool normal, int64_t stream, bool batched, int rank, const int64_t *dims) {
    Node draft = draft_of(OP_RANDOM, TYPE_REAL, batched, rank, dims);
    draft.normal = normal;
    draft.integer = stream;
    return intern(graph, draft, NULL, 0);
}

Node *node_iota(Graph *graph, int64_t n) {
    Node draft = draft_of(OP_IOTA, TYPE_INDEX, false, 1, &n);
    draft.integer = n;
    return intern(graph, draft, NULL, 0);
}

/* ---- element by element ------------------------------------------------------------------------------------------ */

static Node *constant_fold(Graph *graph, Op op, Node **args, int count) {
    double numbers[3] = {0};
    for (int i = 0; i < count; i++) {
        if (args[i]->op != OP_CONSTANT || args[i]->rank)
            return NULL;
        numbers[i] = args[i]->number;
    }
    return rewritten(graph, RULE_CONSTANTS, node_constant(graph, op_evaluate(op, numbers[0], numbers[1], numbers[2])));
}

/* The type of an element-by-element result: REAL as soon as something depends on the row or is a tensor's. */
static NodeType joined_type(Op op, Node **args, int count) {
    if (op_table[op].class == CLASS_COMPARE)
        return TYPE_TRUTH;
    if (op == OP_WHERE && (args[1]->type == TYPE_INDEX || args[1]->type == TYPE_TRUTH))
        return args[1]->type;
    for (int i = 0; i < count; i++)
        if (args[i]->type == TYPE_REAL || args[i]->batched)
            return TYPE_REAL;
    return TYPE_WIDE;
}

Node *node_op(Graph *graph, Op op, Node *a, Node *b, Node *c) {
    Node *args[3] = {a, b, c};
    const OpInfo *info = &op_table[op];
    if (info->class != CLASS_ARITHMETIC && info->class != CLASS_COMPARE && info->class != CLASS_MATH)
        BUG("node_op of '%s'", info->name);
    Node *folded = info->class == CLASS_COMPARE ? NULL : constant_fold(graph, op, args, info->arity);
    if (folded)
        return folded;
    Node *simple = simplify(graph, op, a, b, c);
    if (simple)
        return simple;
    Node draft = draft_of(op, joined_type(op, args, info->arity), false, 0, NULL);
    for (int i = 0; i < info->arity; i++) {
        draft.batched |= args[i]->batched;
        if (args[i]->rank == 0)
            continue;
        if (draft.rank && !node_same_shape(&draft, args[i]))
            BUG("'%s' of %s and %s", info->name, node_shape(graph->arena, &draft), node_shape(graph->arena, args[i]));
        draft.rank = args[i]->rank;
        memcpy(draft.dims, args[i]->dims, sizeof draft.dims);
    }
    /* a number blown up to a shape adds nothing where another argument has the shape already */
    for (int i = 0; i < info->arity; i++)
        if (args[i]->op == OP_EXPAND)
            for (int j = 0; j < info->arity; j++)
                if (j != i && args[j]->rank && args[j]->op != OP_EXPAND) {
                    args[i] = args[i]->args[0];
                    return node_op(graph, op, args[0], args[1], args[2]);
                }
    if (op == OP_ADD || op == OP_MULTIPLY) { /* they commute; the one that is there already serves */
        Node *swapped[2] = {b, a};
        draft.args = swapped;
        draft.arg_count = 2;
        Node **slot = table_slot(graph->table, graph->table_size, &draft);
        if (*slot)
            return intern(graph, draft, swapped, 2);
    }
    return intern(graph, draft, args, info->arity);
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

Node *node_expand(Graph *graph, Node *number, int rank, const int64_t *dims) {
    if (rank == 0) /* nothing to do: callers ask for rank 0 where the shape is there already */
        return number;
    if (number->rank)
        BUG("expand of %s", node_shape(graph->arena, number));
    return intern(graph, draft_of(OP_EXPAND, number->type, number->batched, rank, dims), &number, 1);
}

Node *node_reshape(Graph *graph, Node *x, int rank, const int64_t *dims) {
    Node draft = draft_of(OP_RESHAPE, x->type, x->batched, rank, dims);
    if (node_elements(&draft) != node_elements(x))
        BUG("reshape of %s", node_shape(graph->arena, x));
    if (node_same_shape(&draft, x))
        return x;
    if (x->op == OP_RESHAPE)
        return node_reshape(graph, x->args[0], rank, dims);
    if (x->op == OP_EXPAND)
        return node_expand(graph, x->args[0], rank, dims);
    if (x->rank == 0 && x->op != OP_INPUT) /* a number as [1] */
        return node_expand(graph, x, rank, dims);
    return intern(graph, draft, &x, 1);
}

Node *node_transpose(Graph *graph, Node *x) {
    if (x->rank != 2)
        BUG("transpose of %s", node_shape(graph->arena, x));
    if (x->op == OP_TRANSPOSE)
        return x->args[0];
    int64_t dims[2] = {x->dims[1], x->dims[0]};
    if (x->op == OP_SCATTER) {
        Node draft = draft_of(OP_SCATTER, TYPE_REAL, false, 2, dims);
        draft.integer = x->integer;
        draft.turned = !x->turned;
        return intern(graph, draft, x->args, x->arg_count);
    }
    return intern(graph, draft_of(OP_TRANSPOSE, x->type, x->batched, 2, dims), &x, 1);
}

Node *node_slice(Graph *graph, Node *x, int64_t first, int64_t count) {
    if (x->rank < 1 || first < 0 || count < 1 || first + count > x->dims[0])
        BUG("slice of %s", node_shape(graph->arena, x));
    if (count == x->dims[0])
        return x;
    Node draft = draft_of(OP_SLICE, x->type, x->batched, x->rank, x->dims);
    draft.dims[0] = count;
    draft.integer = first;
    return intern(graph, draft, &x, 1);
}

Node *node_concat(Graph *graph, Node **parts, int count) {
    if (count == 1)
        return parts[0];
    int64_t width = 0;
    bool batched = false;
    Node **vectors = arena_array(graph->arena, Node *, count);
    for (int i = 0; i < count; i++) {
        int64_t one = 1;
        vectors[i] = parts[i]->rank == 0 ? node_expand(graph, parts[i], 1, &one) : parts[i];
        if (vectors[i]->rank != 1)
            BUG("concat of %s", node_shape(graph->arena, parts[i]));
        width += vectors[i]->dims[0];
        batched |= vectors[i]->batched;
    }
    NodeType type = TYPE_WIDE;
    for (int i = 0; i < count; i++)
        if (vectors[i]->type != TYPE_WIDE || batched)
            type = TYPE_REAL;
    return intern(graph, draft_of(OP_CONCAT, type, batched, 1, &width), vectors, count);
}

Node *node_one_hot(Graph *graph, Node *index, int64_t n) {
    if (index->rank || index->type != TYPE_INDEX)
        BUG("one_hot of %s", node_shape(graph->arena, index));
    Node draft = draft_of(OP_ONE_HOT, TYPE_REAL, index->batched, 1, &n);
    draft.integer = n;
    return intern(graph, draft, &index, 1);
}

Node *node_lookup(Graph *graph, Node *table, Node *index) {
    if (table->rank != 2 || index->rank || index->type != TYPE_INDEX)
        BUG("lookup of %s", node_shape(graph->arena, table));
    Node *args[2] = {table, index};
    Node draft = draft_of(OP_LOOKUP, TYPE_REAL, table->batched || index->batched, 1, &table->dims[1]);
    return intern(graph, draft, args, 2);
}

Node *node_bag(Graph *graph, Node *indices, Node *counts, int64_t n) {
    if (indices->rank != 1 || indices->type != TYPE_INDEX || !node_same_shape(indices, counts))
        BUG("one_hot of %s", node_shape(graph->arena, indices));
    Node *args[2] = {indices, counts};
    Node draft = draft_of(OP_ONE_HOT, TYPE_REAL, indices->batched || counts->batched, 1, &n);
    draft.integer = n;
    return intern(graph, draft, args, 2);
}

Node *node_lookup_bag(Graph *graph, Node *table, Node *indices, Node *counts) {
    if (table->rank != 2 || indices->rank != 1 || indices->type != TYPE_INDEX || !node_same_shape(indices, counts))
        BUG("lookup of %s", node_shape(graph->arena, table));
    Node *args[3] = {table, indices, counts};
    bool batched = table->batched || indices->batched || counts->batched;
    Node draft = draft_of(OP_LOOKUP, TYPE_REAL, batched, 1, &table->dims[1]);
    return intern(graph, draft, args, 3);
}

Node *node_lookup_hot(Graph *graph, Node *table, const Node *hot) {
    return hot->arg_count == 1 ? node_lookup(graph, table, hot->args[0])
                               : node_lookup_bag(graph, table, hot->args[0], hot->args[1]);
}

Node *node_scatter(Graph *graph, Node *d, Node *const *where, int count, int64_t k) {
    Node *args[3] = {d, where[0], count > 1 ? where[1] : NULL};
    if (d->rank != 1 || where[0]->type != TYPE_INDEX || !where[0]->batched || where[0]->rank != count - 1)
        BUG("scatter of %s", node_shape(graph->arena, d));
    int64_t dims[2] = {k, d->dims[0]};
    Node draft = draft_of(OP_SCATTER, TYPE_REAL, false, 2, dims);
    draft.integer = k;
    return intern(graph, draft, args, count + 1);
}

Node *node_gather(Graph *graph, Node *x, Node *places) {
    if (x->rank != 1 || places->rank != 1)
        BUG("gather of %s", node_shape(graph->arena, x));
    Node *args[2] = {x, places};
    Node draft = draft_of(OP_GATHER, TYPE_REAL, x->batched || places->batched, 1, places->dims);
    return intern(graph, draft, args, 2);
}

Node *node_detach(Graph *graph, Node *x) {
    if (x->op == OP_DETACH || x->op == OP_CONSTANT)
        return x;
    Node draft = draft_of(OP_DETACH, x->type, x->batched, x->rank, x->dims);
    draft.classes = x->classes;
    return intern(graph, draft, &x, 1);
}

Node *node_custom(Graph *graph, const Item *item, Node *value, Node **parameters, int count) {
    Node **args = arena_array(graph->arena, Node *, count + 1);
    args[0] = value;
    memcpy(args + 1, parameters, sizeof(Node *) * (size_t)count);
    Node draft = draft_of(OP_CUSTOM, value->type, value->batched, value->rank, value->dims);
    draft.item = item;
    return intern(graph, draft, args, count + 1);
}

/* ---- sums and products ------------------------------------------------------------------------------------------- */

static bool has_letter(const int8_t *letters, int rank, int8_t letter) {
    for (int i = 0; i < rank; i++)
        if (letters[i] == letter)
            return true;
    return false;
}

/* The weights of a product go to the left, and their first axis is the result's: W x, and W^T d for the data's
   gradient. Exact: factors commute. */
static void order_factors(Graph *graph, Node **left, Node **right, ContractSpec *spec, int out_rank) {
    if ((*left)->batched && (*left)->rank == 1 && !(*right)->batched && (*right)->rank == 2) {
        Node *x = *left;
        int8_t letters[4];
        *left = *right;
        *right = x;
        memcpy(letters, spec->left, sizeof letters);
        memcpy(spec->left, spec->right, sizeof letters);
        memcpy(spec->right, letters, sizeof letters);
    }
    bool product = !(*left)->batched && (*left)->rank == 2 && (*right)->batched && (*right)->rank == 1 && out_rank == 1;
    if (product && spec->left[0] == spec->right[0] && spec->left[1] == spec->out[0] && spec->left[0] != spec->left[1]) {
        *left = node_transpose(graph, *left);
        int8_t first = spec->left[0];
        spec->left[0] = spec->left[1];
        spec->left[1] = first;
    }
}

Node *node_contract(Graph *graph, Node *left, Node *right, ContractSpec spec, int out_rank) {
    order_factors(graph, &left, &right, &spec, out_rank);
    int64_t extent[16] = {0}, dims[4] = {0};
    for (int side = 0; side < 2; side++) {
        const Node *x = side ? right : left;
        const int8_t *letters = side ? spec.right : spec.left;
        for (int i = 0; i < x->rank; i++) {
            int8_t letter = letters[i];
            if (extent[letter] && extent[letter] != x->dims[i])
                BUG("contract of %s and %s", node_shape(graph->arena, left), node_shape(graph->arena, right));
            extent[letter] = x->dims[i];
        }
    }
    for (int i = 0; i < out_rank; i++) {
        if (!has_letter(spec.left, left->rank, spec.out[i]) && !has_letter(spec.right, right->rank, spec.out[i]))
            BUG("contract makes an axis from nothing");
        dims[i] = extent[spec.out[i]];
    }
    /* unused places hold zeros, so that equal specs are equal bytes */
    for (int i = left->rank; i < 4; i++)
        spec.left[i] = 0;
    for (int i = right->rank; i < 4; i++)
        spec.right[i] = 0;
    for (int i = out_rank; i < 4; i++)
        spec.out[i] = 0;
    bool batched = left->batched || right->batched;
    if (spec.over_batch && !batched)
        BUG("contract over a batch that is not there");
    Node *args[2] = {left, right};
    NodeType type = left->type == TYPE_WIDE && right->type == TYPE_WIDE ? TYPE_WIDE : TYPE_REAL;
    Node draft = draft_of(OP_CONTRACT, type, batched && !spec.over_batch, out_rank, dims);
    draft.contract = spec;
    return intern(graph, draft, args, 2);
}

static Node *reduced(Graph *graph, Op op, Node *x, int axis) {
    if (x->rank == 0)
        return x;
    if (x->rank == 1)
        axis = AXIS_ALL;
    int64_t dims[4];
    int rank = 0;
    for (int i = 0; axis != AXIS_ALL && i < x->rank; i++)
        if (i != axis)
            dims[rank++] = x->dims[i];
    Node draft = draft_of(op, x->type == TYPE_WIDE ? TYPE_WIDE : TYPE_REAL, x->batched, rank, dims);
    draft.integer = axis;
    return intern(graph, draft, &x, 1);
}

Node *node_sum(Graph *graph, Node *x, int axis) {
    if (x->op == OP_EXPAND && (axis == AXIS_ALL || x->rank == 1))
        return rewritten(graph, RULE_SUM_OF_COPIES,
                         node_op(graph, OP_MULTIPLY, x->args[0], node_constant(graph, (double)node_elements(x)), NULL));
    if (x->op == OP_RESHAPE && axis == AXIS_ALL)
        return node_sum(graph, x->args[0], AXIS_ALL);
    if (axis == AXIS_ALL && node_elements(x) == 1)
        return node_reshape(graph, x, 0, NULL);
    return reduced(graph, OP_SUM, x, axis);
}

Node *node_max_of(Graph *graph, Node *x, int axis) {
    if (x->op == OP_EXPAND && axis == AXIS_ALL)
        return rewritten(graph, RULE_MAX_OF_COPIES, x->args[0]);
    if (axis == AXIS_ALL && node_elements(x) == 1)
        return node_reshape(graph, x, 0, NULL);
    return reduced(graph, OP_MAX_OF, x, axis);
}

Node *node_argmax(Graph *graph, Node *x) {
    if (x->rank != 1)
        BUG("argmax of %s", node_shape(graph->arena, x));
    Node draft = draft_of(OP_ARGMAX, TYPE_INDEX, x->batched, 0, NULL);
    draft.classes = (int)x->dims[0];
    return intern(graph, draft, &x, 1);
}

Node *node_batch_sum(Graph *graph, Node *x) {
    if (!x->batched)
        return rewritten(graph, RULE_SUM_OF_COPIES, node_op(graph, OP_MULTIPLY, node_rows(graph), x, NULL));
    /* a sum of products over the batch is one product; with one side the same in every row it would be computed anew */
    if (x->op == OP_CONTRACT && x->type == TYPE_REAL && x->args[0]->batched && x->args[1]->batched) {
        ContractSpec spec = x->contract;
        spec.over_batch = true;
        return node_contract(graph, x->args[0], x->args[1], spec, x->rank);
    }
    if (x->op == OP_EXPAND)
        return node_expand(graph, node_batch_sum(graph, x->args[0]), x->rank, x->dims);
    if (x->op == OP_RESHAPE)
        return node_reshape(graph, node_batch_sum(graph, x->args[0]), x->rank, x->dims);
    return intern(graph, draft_of(OP_BATCH_SUM, TYPE_REAL, false, x->rank, x->dims), &x, 1);
}
