/* Runs the graph in plain double arithmetic, node by node in the order of ids: the reference for tests, slow and
   simple. Truth values are 0 and 1, an index is its number. */
#include "graph.h"

#include <math.h>
#include <string.h>

/* The element of x that stands at `element` of `row`: numbers and what is not batched stand for themselves everywhere.
 */
static double element_at(const Evaluation *x, int64_t row, int64_t element) {
    return x->values[(x->rows > 1 ? row : 0) * x->elements + (x->elements > 1 ? element : 0)];
}

static double *row_of(const Evaluation *x, int64_t row) {
    return x->values + (x->rows > 1 ? row : 0) * x->elements;
}

static void evaluate_leaf(Evaluator *evaluator, const Node *node, Evaluation *value) {
    if (node->op == OP_CONSTANT)
        value->values[0] = node->number;
    else if (node->op == OP_IOTA)
        for (int64_t i = 0; i < value->elements; i++)
            value->values[i] = (double)i;
    else if (node->op == OP_SCALAR && node->integer == BP_SCALAR_ROWS)
        value->values[0] = (double)evaluator->rows;
    else if (evaluator->leaf)
        evaluator->leaf(evaluator->context, node, value);
    else
        BUG("'%s' has no value here", op_table[node->op].name);
}

static void evaluate_element(const Node *node, Evaluation **args, Evaluation *value) {
    for (int64_t row = 0; row < value->rows; row++)
        for (int64_t i = 0; i < value->elements; i++) {
            double numbers[3] = {0};
            for (int j = 0; j < node->arg_count; j++)
                numbers[j] = element_at(args[j], row, i);
            value->values[row * value->elements + i] = op_evaluate(node->op, numbers[0], numbers[1], numbers[2]);
        }
}

/* ---- one row of a SHAPE op: out from the rows of its arguments --------------------------------------------------- */

/* An axis divides the elements into [outer][length][inner]. */
static void axis_extents(const Node *x, int axis, int64_t *outer, int64_t *length, int64_t *inner) {
    *outer = *inner = 1;
    *length = axis == AXIS_ALL ? node_elements(x) : x->dims[axis];
    for (int i = 0; axis != AXIS_ALL && i < x->rank; i++)
        if (i != axis)
            *(i < axis ? outer : inner) *= x->dims[i];
}

static void reduce(const Node *node, const double *x, double *out) {
    int64_t outer, length, inner;
    axis_extents(node->args[0], (int)node->integer, &outer, &length, &inner);
    for (int64_t i = 0; i < outer; i++)
        for (int64_t j = 0; j < inner; j++) {
            double result = x[i * length * inner + j];
            for (int64_t k = 1; k < length; k++) {
                double next = x[(i * length + k) * inner + j];
                result = node->op == OP_SUM ? result + next : op_evaluate(OP_MAXIMUM, result, next, 0);
            }
            out[i * inner + j] = result;
        }
}

static void transpose(const Node *node, const double *x, double *out) {
    for (int64_t i = 0; i < node->dims[0]; i++)
        for (int64_t j = 0; j < node->dims[1]; j++)
            out[i * node->dims[1] + j] = x[j * node->dims[0] + i];
}

/* The first greatest; the first NaN counts as the greatest, as in PyTorch. */
static double argmax(const double *x, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count && !isnan(x[best]); i++)
        if (x[i] > x[best] || isnan(x[i]))
            best = i;
    return (double)best;
}

static void concat(const Node *node, Evaluation **args, int64_t row, double *out) {
    for (int i = 0; i < node->arg_count; i++) {
        memcpy(out, row_of(args[i], row), sizeof(double) * (size_t)args[i]->elements);
        out += args[i]->elements;
    }
}

static void one_hot(const Node *node, const double *indices, const double *counts, double *out) {
    for (int64_t i = 0; i < node->integer; i++)
        out[i] = 0;
    for (int64_t t = 0; t < node_elements(node->args[0]); t++)
        if (indices[t] >= 0)
            out[(int64_t)indices[t]] += counts ? counts[t] : 1;
}

static void lookup_sum(const Node *node, const double *table, const double *indices, const double *counts,
                       double *out) {
    int64_t width = node->dims[0];
    for (int64_t i = 0; i < width; i++)
        out[i] = 0;
    for (int64_t t = 0; t < node_elements(node->args[1]); t++)
        for (int64_t i = 0; i < width && indices[t] >= 0; i++)
            out[i] += counts[t] * table[(int64_t)indices[t] * width + i];
}

static void gather(const Node *node, const double *x, const double *places, double *out) {
    for (int64_t i = 0; i < node->dims[0]; i++) {
        double at = floor(places[i]);
        out[i] = at >= 0 && at < (double)node->args[0]->dims[0] ? x[(int64_t)at] : 0;
    }
}

/* out: zeros; each row of the batch adds to it. */
static void scatter_row(const Node *node, Evaluation **args, int64_t row, double *out) {
    const double *d = row_of(args[0], row), *indices = row_of(args[1], row);
    const double *counts = node->arg_count > 2 ? row_of(args[2], row) : NULL;
    int64_t width = node->dims[!node->turned];
    for (int64_t t = 0; t < node_elements(node->args[1]); t++)
        for (int64_t i = 0; i < width && indices[t] >= 0; i++) {
            int64_t at = node->turned ? i * node->integer + (int64_t)indices[t] : (int64_t)indices[t] * width + i;
            out[at] += (counts ? counts[t] : 1) * d[i];
        }
}

static void lookup(const Node *node, const double *table, double index, double *out) {
    int64_t width = node->dims[0], count = node->args[0]->dims[0];
    if (!(index >= -1 && index < (double)count))
        BUG("lookup of row %g of %lld", index, (long long)count);
    for (int64_t i = 0; i < width; i++)
        out[i] = index < 0 ? 0 : table[(int64_t)index * width + i];
}

static void evaluate_row(const Node *node, Evaluation **args, int64_t row, double *out) {
    const double *x = row_of(args[0], row);
    int64_t elements = node_elements(node);
    switch (node->op) {
    case OP_EXPAND:
        for (int64_t i = 0; i < elements; i++)
            out[i] = x[0];
        break;
    case OP_RESHAPE:
    case OP_DETACH:
    case OP_CUSTOM:
        memcpy(out, x, sizeof(double) * (size_t)elements);
        break;
    case OP_SLICE:
        memcpy(out, x + node->integer * (elements / node->dims[0]), sizeof(double) * (size_t)elements);
        break;
    case OP_TRANSPOSE:
        transpose(node, x, out);
        break;
    case OP_CONCAT:
        concat(node, args, row, out);
        break;
    case OP_SUM:
    case OP_MAX_OF:
        reduce(node, x, out);
        break;
    case OP_ARGMAX:
        out[0] = argmax(x, args[0]->elements);
        break;
    case OP_ONE_HOT:
        one_hot(node, x, node->arg_count > 1 ? row_of(args[1], row) : NULL, out);
        break;
    case OP_LOOKUP:
        if (node->arg_count > 2)
            lookup_sum(node, x, row_of(args[1], row), row_of(args[2], row), out);
        else
            lookup(node, x, row_of(args[1], row)[0], out);
        break;
    case OP_GATHER:
        gather(node, x, row_of(args[1], row), out);
        break;
    default:
        BUG("'%s' cannot be evaluated", op_table[node->op].name);
    }
}

/* ---- sums over the batch, products ------------------------------------------------------------------------------- */

static void batch_sum(const Evaluation *x, int64_t rows, Evaluation *value) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < value->elements; i++)
            value->values[i] += element_at(x, row, i);
}

enum { LETTERS = 16 };

static int64_t place(const Node *x, const int8_t *letters, const int64_t *index) {
    int64_t at = 0;
    for (int i = 0; i < x->rank; i++)
        at = at * x->dims[i] + index[letters[i]];
    return at;
}

static void contract_row(const Node *node, const double *left, const double *right, double *out) {
    int64_t extent[LETTERS], index[LETTERS] = {0};
    for (int i = 0; i < LETTERS; i++)
        extent[i] = 1;
    for (int i = 0; i < node->args[0]->rank; i++)
        extent[node->contract.left[i]] = node->args[0]->dims[i];
    for (int i = 0; i < node->args[1]->rank; i++)
        extent[node->contract.right[i]] = node->args[1]->dims[i];
    for (int letter = LETTERS - 1; letter >= 0;) {
        out[place(node, node->contract.out, index)] += left[place(node->args[0], node->contract.left, index)] *
                                                       right[place(node->args[1], node->contract.right, index)];
        for (letter = LETTERS - 1; letter >= 0 && ++index[letter] == extent[letter]; letter--)
            index[letter] = 0;
    }
}

static void contract(const Node *node, Evaluation **args, int64_t rows, Evaluation *value) {
    if (!node->contract.over_batch)
        rows = value->rows;
    for (int64_t row = 0; row < rows; row++)
        contract_row(node, row_of(args[0], row), row_of(args[1], row), row_of(value, row));
}

/* ---- the order --------------------------------------------------------------------------------------------------- */

static Evaluation *evaluate_node(Evaluator *evaluator, const Node *node) {
    Evaluation *value = arena_new_of(evaluator->arena, Evaluation);
    value->rows = node->batched ? evaluator->rows : 1;
    value->elements = node_elements(node);
    value->values = arena_array(evaluator->arena, double, value->rows * value->elements);
    Evaluation **args = arena_array(evaluator->arena, Evaluation *, node->arg_count ? node->arg_count : 1);
    for (int i = 0; i < node->arg_count; i++)
        args[i] = evaluator->memo[node->args[i]->id];
    if (op_table[node->op].class == CLASS_LEAF)
        evaluate_leaf(evaluator, node, value);
    else if (op_table[node->op].class != CLASS_SHAPE)
        evaluate_element(node, args, value);
    else if (node->op == OP_BATCH_SUM)
        batch_sum(args[0], evaluator->rows, value);
    else if (node->op == OP_SCATTER)
        for (int64_t row = 0; row < evaluator->rows; row++)
            scatter_row(node, args, row, value->values);
    else if (node->op == OP_CONTRACT)
        contract(node, args, evaluator->rows, value);
    else
        for (int64_t row = 0; row < value->rows; row++)
            evaluate_row(node, args, row, row_of(value, row));
    return value;
}

/* Every node that `root` needs and that has no value yet, by id; the graph is only reachable through its arguments
 * here. */
static const Node **wanted_nodes(Evaluator *evaluator, const Node *root) {
    const Node **wanted = arena_array(evaluator->arena, const Node *, root->id + 1);
    wanted[root->id] = root;
    for (int id = root->id; id >= 0; id--)
        for (int i = 0; wanted[id] && i < wanted[id]->arg_count; i++) {
            const Node *arg = wanted[id]->args[i];
            if (!evaluator->memo[arg->id])
                wanted[arg->id] = arg;
        }
    return wanted;
}

Evaluation *graph_evaluate(Evaluator *evaluator, Node *node) {
    if (node->id >= evaluator->memo_count) {
        int count = node->id + 1;
        Evaluation **memo = arena_array(evaluator->arena, Evaluation *, count);
        if (evaluator->memo_count)
            memcpy(memo, evaluator->memo, sizeof *memo * (size_t)evaluator->memo_count);
        evaluator->memo = memo;
        evaluator->memo_count = count;
    }
    if (evaluator->memo[node->id])
        return evaluator->memo[node->id];
    const Node **wanted = wanted_nodes(evaluator, node);
    for (int id = 0; id <= node->id; id++)
        if (wanted[id])
            evaluator->memo[id] = evaluate_node(evaluator, wanted[id]);
    return evaluator->memo[node->id];
}
