/* What the tests of the graph share: a graph with variables that have values, short names for constructors. Each test
   file includes it once. */
#ifndef BPC_TEST_GRAPH_FIXTURE_H
#define BPC_TEST_GRAPH_FIXTURE_H

#include "../../compiler/graph/graph.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { ROWS = 3, MOST = 64, VARIABLES = 16 };

/* ---- Variables: leaves with values ------------------------------------------------------------------------------- */

typedef struct Variable {
    Node *leaf, *view; /* view: the leaf in the shape that was asked for */
    double values[MOST];
    int count; /* of values, all rows */
} Variable;

static Arena *arena;
static Graph *graph;
static DataSet data;
static Variable variables[VARIABLES];
static int variable_count;
static uint64_t seed;

static inline void start(void) {
    names_start();
    arena = arena_new();
    derivatives_start(arena);
    graph = graph_new(arena, NULL);
    data = (DataSet){.name = name_of("data")};
    variable_count = 0;
    seed = 1;
}

static inline void end(void) {
    arena_free(arena);
    sources_end();
    names_end();
}

static inline double draw(double low, double high) { /* xorshift64* (Vigna 2016) */
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return low + (high - low) * (double)((seed * UINT64_C(2685821657736338717)) >> 11) * 0x1p-53;
}

static inline Variable *variable_add(Node *leaf, Node *view, int64_t elements) {
    cr_assert(variable_count < VARIABLES);
    Variable *variable = &variables[variable_count++];
    variable->leaf = leaf;
    variable->view = view;
    variable->count = (int)(leaf->batched ? elements * ROWS : elements);
    cr_assert(variable->count <= MOST);
    return variable;
}

/* A value of the shape, its elements uniform between low and high. */
static inline Variable *variable(bool batched, int rank, const int64_t *dims, double low, double high) {
    int64_t elements = 1;
    for (int i = 0; i < rank; i++)
        elements *= dims[i];
    Node *leaf, *view;
    if (batched) {
        leaf = node_input(graph, &data, variable_count, elements, 0);
        view = node_reshape(graph, leaf, rank, dims);
    } else {
        Tensor *tensor = arena_new_of(arena, Tensor);
        tensor->name = name_of(arena_printf(arena, "v%d", variable_count));
        tensor->rank = rank;
        for (int i = 0; i < rank; i++)
            tensor->dims[i] = dims[i];
        leaf = view = node_tensor(graph, tensor);
    }
    Variable *variable = variable_add(leaf, view, elements);
    for (int i = 0; i < variable->count; i++)
        variable->values[i] = draw(low, high);
    return variable;
}

/* A row's category; or so many indices of a row. */
static inline Variable *index_variable(const double *indices, int classes, int width) {
    Node *leaf = width ? node_input_words(graph, &data, variable_count, width, classes)
                       : node_input(graph, &data, variable_count, 0, classes);
    Variable *variable = variable_add(leaf, leaf, width ? width : 1);
    memcpy(variable->values, indices, sizeof(double) * (size_t)variable->count);
    return variable;
}

static inline void fill_leaf(void *context, const Node *node, Evaluation *value) {
    (void)context;
    for (int i = 0; i < variable_count; i++)
        if (variables[i].leaf == node) {
            memcpy(value->values, variables[i].values, sizeof(double) * (size_t)variables[i].count);
            return;
        }
    cr_assert_fail("a leaf without a value");
}

static inline const Evaluation *evaluate(Arena *scratch, Node *node) {
    Evaluator evaluator = {.arena = scratch, .rows = ROWS, .leaf = fill_leaf};
    return graph_evaluate(&evaluator, node);
}

static inline double value_of(Node *node) {
    Arena *scratch = arena_new();
    double value = evaluate(scratch, node)->values[0];
    arena_free(scratch);
    return value;
}

static inline const char *formula(const Node *node) {
    Text text = {0};
    node_formula(node, 20, &text);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

/* ---- Short names for constructors -------------------------------------------------------------------------------- */

static inline Node *op1(Op op, Node *a) {
    return node_op(graph, op, a, NULL, NULL);
}

static inline Node *op2(Op op, Node *a, Node *b) {
    return node_op(graph, op, a, b, NULL);
}

static inline Node *constant(double value) {
    return node_constant(graph, value);
}

static inline Node *total(Node *node) {
    Node *sum = node_sum(graph, node, AXIS_ALL);
    return sum->batched ? node_batch_sum(graph, sum) : sum;
}

/* sum over everything of f times fixed weights, so that no element's derivative hides behind another's */
static inline Node *objective(Node *f) {
    Variable *weights = variable(f->batched, f->rank, f->dims, 0.5, 1.5);
    return total(op2(OP_MULTIPLY, f, weights->view));
}

static inline void start_again(void) {
    graph = graph_new(arena, NULL);
    variable_count = 0;
}

static inline Node *product(Variable **x, ContractSpec spec, int rank) {
    return node_contract(graph, x[0]->view, x[1]->view, spec, rank);
}

static inline Node *make_matrix_vector(Variable **x) {
    return product(x, (ContractSpec){.left = {0, 3}, .right = {3}, .out = {0}}, 1);
}

static inline Node *make_vector_matrix(Variable **x) {
    return product(x, (ContractSpec){.left = {3}, .right = {3, 1}, .out = {1}}, 1);
}

static inline Node *make_matrices_turned(Variable **x) {
    return product(x, (ContractSpec){.left = {0, 3}, .right = {1, 3}, .out = {1, 0}}, 2);
}

static inline Node *make_dot(Variable **x) {
    return product(x, (ContractSpec){.left = {3}, .right = {3}}, 0);
}

static inline Node *make_outer(Variable **x) {
    return product(x, (ContractSpec){.left = {0}, .right = {1}, .out = {0, 1}}, 2);
}

static inline Node *make_batch_outer(Variable **x) {
    Node *outer = make_outer(x);
    return outer->batched ? node_batch_sum(graph, outer) : outer;
}

static inline Node *make_softmax(Variable **x) {
    Node *e = op1(OP_EXP, op2(OP_SUBTRACT, x[0]->view, node_max_of(graph, node_detach(graph, x[0]->view), AXIS_ALL)));
    return op2(OP_DIVIDE, e, node_sum(graph, e, AXIS_ALL));
}

#endif
