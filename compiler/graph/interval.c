/* Where can a value lie, whatever the parameters and the data are: interval arithmetic (Moore, Interval Analysis, 1966)
   from the leaves up, with the few patterns that plain intervals do not see (a quotient of e and sum(e), a square).
   Bounds are sound for values that are not NaN; -infinity and infinity say that nothing is known on that side. */
#include "graph.h"

#include <math.h>

static const Interval UNKNOWN = {-INFINITY, INFINITY};
static const Interval TRUTH = {0, 1};

static Interval interval(double low, double high) {
    return (Interval){isnan(low) ? -INFINITY : low, isnan(high) ? INFINITY : high};
}

static Interval join(Interval x, Interval y) {
    return (Interval){fmin(x.low, y.low), fmax(x.high, y.high)};
}

static Interval add(Interval x, Interval y) {
    return interval(x.low + y.low, x.high + y.high);
}

static Interval negate(Interval x) {
    return (Interval){-x.high, -x.low};
}

/* An infinite bound is never reached, so 0 times it is 0, and it divided by another is anything from 0 on. */
static Interval hull(const double *corners) {
    Interval result = {INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++) {
        double corner = isnan(corners[i]) ? 0 : corners[i];
        result = join(result, (Interval){corner, corner});
    }
    return result;
}

static Interval multiply(Interval x, Interval y) {
    double corners[4] = {x.low * y.low, x.low * y.high, x.high * y.low, x.high * y.high};
    return hull(corners);
}

static Interval divide(Interval x, Interval y) {
    if (y.low < 0 && y.high > 0)
        return UNKNOWN;
    if (y.low == 0 && y.high == 0)
        return UNKNOWN;
    double low = y.low == 0 ? 0.0 : y.low,
           high = y.high == 0 ? -0.0 : y.high; /* a zero has the sign of the other bound */
    double corners[4] = {x.low / low, x.low / high, x.high / low, x.high / high};
    return hull(corners);
}

static Interval square(Interval x) {
    double low = fabs(x.low), high = fabs(x.high), most = fmax(low, high);
    return (Interval){x.low <= 0 && x.high >= 0 ? 0 : fmin(low, high) * fmin(low, high), most * most};
}

static Interval absolute(Interval x) {
    double low = fabs(x.low), high = fabs(x.high);
    return (Interval){x.low <= 0 && x.high >= 0 ? 0 : fmin(low, high), fmax(low, high)};
}

/* n values of x added up. */
static Interval times(double n, Interval x) {
    return (Interval){n * x.low, n * x.high};
}

/* One or more values of x added up, as many as the batch has rows. */
static Interval over_rows(Interval x) {
    return (Interval){x.low >= 0 ? x.low : -INFINITY, x.high <= 0 ? x.high : INFINITY};
}

static Interval monotone(Op op, Interval x, double least) {
    double low = x.low > least ? op_evaluate(op, x.low, 0, 0) : op_evaluate(op, least, 0, 0);
    double high = x.high > least ? op_evaluate(op, x.high, 0, 0) : op_evaluate(op, least, 0, 0);
    return interval(low, high);
}

static Interval power(Interval x, const Node *exponent, Interval y) {
    if (x.low >= 0) {
        if (y.low == y.high && y.low >= 0)
            return interval(pow(x.low, y.low), pow(x.high, y.low));
        return (Interval){0, INFINITY};
    }
    if (exponent->op == OP_CONSTANT && fmod(exponent->number, 2) == 0)
        return (Interval){0, INFINITY};
    return UNKNOWN;
}

/* e / sum(e) for an e that is never negative */
static bool is_share(const Node *whole, const Node *sum, Interval e) {
    if (sum->op != OP_SUM || e.low < 0)
        return false;
    const Node *added = sum->args[0];
    while (added->op == OP_RESHAPE)
        added = added->args[0];
    while (whole->op == OP_RESHAPE)
        whole = whole->args[0];
    return added == whole;
}

/* z - log(sum(exp(z))) */
static bool is_log_share(const Node *z, const Node *log) {
    const Node *sum = log->op == OP_LOG ? log->args[0] : log;
    return sum->op == OP_SUM && sum->args[0]->op == OP_EXP && sum->args[0]->args[0] == z;
}

static bool is_rows(const Node *node) {
    return node->op == OP_SCALAR && node->integer == BP_SCALAR_ROWS;
}

static Interval interval_contract(const Node *node, Interval x, Interval y) {
    bool kept[16] = {false}, counted[16] = {false};
    double n = 1;
    for (int i = 0; i < node->rank; i++)
        kept[node->contract.out[i]] = true;
    for (int side = 0; side < 2; side++) {
        const int8_t *letters = side ? node->contract.right : node->contract.left;
        for (int i = 0; i < node->args[side]->rank; i++) {
            if (!kept[letters[i]] && !counted[letters[i]])
                n *= (double)node->args[side]->dims[i];
            counted[letters[i]] = true;
        }
    }
    Interval sum = times(n, multiply(x, y));
    return node->contract.over_batch ? over_rows(sum) : sum;
}

static bool is_given(const Node *node) {
    switch (node->op) {
    case OP_INPUT:
        return node->type != TYPE_INDEX;
    case OP_SCALAR:
        return node->integer >= (int)BP_SCALAR_COUNT;
    case OP_TENSOR:
        return node->tensor->statistic;
    default:
        return false;
    }
}

static Interval interval_leaf(const Node *node) {
    switch (node->op) {
    case OP_CONSTANT:
        return isnan(node->number) ? UNKNOWN : (Interval){node->number, node->number};
    case OP_INPUT: /* -1 is a category that the training part did not have */
        return node->type == TYPE_INDEX ? (Interval){-1, node->classes ? (double)node->classes - 1 : INFINITY}
                                        : UNKNOWN;
    case OP_SCALAR:
        return is_rows(node)                          ? (Interval){1, INFINITY}
               : node->integer < (int)BP_SCALAR_COUNT ? (Interval){0, INFINITY}
                                                      : UNKNOWN;
    case OP_RANDOM:
        return node->normal ? UNKNOWN : (Interval){0, 1};
    case OP_IOTA:
        return (Interval){0, (double)node->integer - 1};
    default:
        return UNKNOWN;
    }
}

static Interval interval_element(const Node *node, const Interval *at) {
    const Node *first = node->args[0], *second = node->arg_count > 1 ? node->args[1] : NULL;
    Interval a = at[first->id], b = second ? at[second->id] : UNKNOWN,
             c = node->arg_count > 2 ? at[node->args[2]->id] : UNKNOWN;
    switch (node->op) {
    case OP_NEGATE:
        return negate(a);
    case OP_ADD:
        return add(a, b);
    case OP_SUBTRACT:
        if (is_log_share(first, second))
            return (Interval){-INFINITY, 0};
        return first == second ? (Interval){0, 0} : add(a, negate(b));
    case OP_MULTIPLY:
        return first == second ? square(a) : multiply(a, b);
    case OP_DIVIDE:
        if (is_share(first, second, a))
            return TRUTH;
        return first->op == OP_BATCH_SUM && is_rows(second) ? at[first->args[0]->id] : divide(a, b);
    case OP_FMA:
        return add(first == second ? square(a) : multiply(a, b), c);
    case OP_MAXIMUM:
        return (Interval){fmax(a.low, b.low), fmax(a.high, b.high)};
    case OP_MINIMUM:
        return (Interval){fmin(a.low, b.low), fmin(a.high, b.high)};
    case OP_ABSOLUTE:
        return absolute(a);
    case OP_WHERE:
        return join(b, c);
    case OP_REAL:
        return a;
    case OP_SIGN:
    case OP_FLOOR:
    case OP_ROUND:
    case OP_EXP:
    case OP_EXPM1:
    case OP_TANH:
    case OP_ERF:
        return monotone(node->op, a, -INFINITY);
    case OP_SQRT:
    case OP_LOG:
        return monotone(node->op, a, 0);
    case OP_LOG1P:
        return monotone(node->op, a, -1);
    case OP_SIN:
    case OP_COS:
        return (Interval){-1, 1};
    case OP_POWER:
        return power(a, second, b);
    default:
        if (op_table[node->op].class == CLASS_COMPARE)
            return TRUTH;
        BUG("no interval for '%s'", op_table[node->op].name);
    }
}

static Interval interval_shape(const Node *node, const Interval *at) {
    const Node *x = node->args[0];
    Interval first = at[x->id];
    switch (node->op) {
    case OP_CONCAT:
        for (int i = 1; i < node->arg_count; i++)
            first = join(first, at[node->args[i]->id]);
        return first;
    case OP_CONTRACT:
        return interval_contract(node, first, at[node->args[1]->id]);
    case OP_SUM:
        return times((double)(node_elements(x) / node_elements(node)), first);
    case OP_ARGMAX:
        return (Interval){0, (double)x->dims[0] - 1};
    case OP_BATCH_SUM:
        return over_rows(first);
    case OP_ONE_HOT:
        return node->arg_count == 1 ? TRUTH : (Interval){-INFINITY, INFINITY};
    case OP_LOOKUP:
        return node->arg_count == 2 ? join(first, (Interval){0, 0}) : (Interval){-INFINITY, INFINITY};
    case OP_SCATTER:
        return (Interval){-INFINITY, INFINITY};
    case OP_GATHER:
        return join(first, (Interval){0, 0});
    default: /* the same elements in another order, some of them, the value of a CUSTOM */
        return first;
    }
}

static Interval interval_from(Graph *graph, const Node *node, bool weights_alone) {
    Arena *arena = arena_new();
    Interval *at = arena_array(arena, Interval, node->id + 1);
    bool *needed = arena_array(arena, bool, node->id + 1);
    needed[node->id] = true;
    for (int id = node->id; id >= 0; id--)
        for (int i = 0; needed[id] && i < graph_node(graph, id)->arg_count; i++)
            needed[graph_node(graph, id)->args[i]->id] = true;
    for (int id = 0; id <= node->id; id++) {
        const Node *one = graph_node(graph, id);
        if (!needed[id])
            continue;
        OpClass class = op_table[one->op].class;
        at[id] = weights_alone && is_given(one) ? (Interval){0.5, 0.5}
                 : class == CLASS_LEAF          ? interval_leaf(one)
                 : class == CLASS_SHAPE         ? interval_shape(one, at)
                                                : interval_element(one, at);
    }
    Interval result = at[node->id];
    arena_free(arena);
    return result;
}

Interval interval_of(Graph *graph, Node *node) {
    return interval_from(graph, node, false);
}

Interval interval_of_weights(Graph *graph, Node *node) {
    return interval_from(graph, node, true);
}
