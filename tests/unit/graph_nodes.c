/* The graph's nodes: hash-consing, what each simplification claims, stable rewrites, values by hand, intervals, the
 * verifier, the prints. */
#define _POSIX_C_SOURCE 200809L

#include "graph_fixture.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <tgmath.h>
#include <unistd.h>

TestSuite(graph_nodes, .init = start, .fini = end);

/* ---- One node for equal nodes ------------------------------------------------------------------------------------ */

Test(graph_nodes, equal_nodes_are_one) {
    const int64_t three[1] = {3};
    Variable *x = variable(true, 1, three, 0, 1), *y = variable(true, 1, three, 0, 1),
             *w = variable(false, 2, (int64_t[]){2, 3}, 0, 1);
    Node *a = x->view, *b = y->view;
    cr_expect_eq(constant(2), constant(2));
    cr_expect_neq(constant(0.0), constant(-0.0));
    cr_expect_eq(constant(NAN), constant(-NAN));
    cr_expect_eq(op2(OP_SUBTRACT, a, b), op2(OP_SUBTRACT, a, b));
    cr_expect_neq(op2(OP_SUBTRACT, a, b), op2(OP_SUBTRACT, b, a));
    cr_expect_eq(op2(OP_ADD, a, b), op2(OP_ADD, b, a));
    cr_expect_eq(op2(OP_MULTIPLY, a, b), op2(OP_MULTIPLY, b, a));
    cr_expect_neq(op2(OP_ADD, a, b), op2(OP_MULTIPLY, a, b));
    cr_expect_eq(node_sum(graph, w->view, 0), node_sum(graph, w->view, 0));
    cr_expect_neq(node_sum(graph, w->view, 0), node_sum(graph, w->view, 1));
    cr_expect_eq(node_slice(graph, a, 0, 2), node_slice(graph, a, 0, 2));
    cr_expect_neq(node_slice(graph, a, 0, 2), node_slice(graph, a, 1, 2));
    cr_expect_eq(make_matrix_vector((Variable *[]){w, x}), make_matrix_vector((Variable *[]){w, x}));
    cr_expect_neq(make_matrix_vector((Variable *[]){w, x}), make_matrix_vector((Variable *[]){w, y}));
    cr_expect_neq(node_random(graph, false, 1, true, 1, three), node_random(graph, true, 1, true, 1, three));
    cr_expect_neq(node_random(graph, false, 1, true, 1, three), node_random(graph, false, 2, true, 1, three));
    cr_expect_eq(node_reshape(graph, node_reshape(graph, w->view, 1, (int64_t[]){6}), 2, (int64_t[]){2, 3}), w->view);
    cr_expect_eq(node_transpose(graph, node_transpose(graph, w->view)), w->view);
    Node *first = op1(OP_TANH, a);
    for (int i = 0; i < 5000; i++) /* the table grows, and still knows it */
        op2(OP_ADD, first, constant(i + 0.5));
    cr_expect_eq(op1(OP_TANH, a), first);
    graph_verify(graph);
}

/* ---- What each simplification claims ----------------------------------------------------------------------------- */

typedef struct Case {
    Rule rule;
    const char *simple; /* what must be left, over x and y */
    Node *(*make)(Node *x, Node *y);
    double (*plain)(double x, double y); /* the same without a simplifier */
    float (*plain_float)(float x, float y);
    long double (*truth)(long double x, long double y); /* STABLE: nearly without an error */
} Case;

static Node *negate(Node *x) {
    return op1(OP_NEGATE, x);
}

static Node *sigmoid(Node *x) {
    return op2(OP_DIVIDE, constant(1), op2(OP_ADD, constant(1), op1(OP_EXP, negate(x))));
}

static Node *sum_of_copies(Node *x) {
    return node_sum(graph, node_expand(graph, x, 1, (const int64_t[]){3}), AXIS_ALL);
}

static Node *max_of_copies(Node *x) {
    return node_max_of(graph, node_expand(graph, x, 1, (const int64_t[]){3}), AXIS_ALL);
}

/* log(exp(x) / (exp(x) + exp(y))), as a softmax is written */
static Node *log_softmax_of_two(Node *x, Node *y) {
    Node *e = op1(OP_EXP, node_concat(graph, (Node *[]){x, y}, 2));
    Node *shares = op2(OP_DIVIDE, e, node_sum(graph, e, AXIS_ALL));
    return node_reshape(graph, node_slice(graph, op1(OP_LOG, shares), 0, 1), 0, NULL);
}

/* log(1 / (1 + exp(-x))), in the digits of long double */
static long double true_log_sigmoid(long double x) {
    return x >= 0 ? -log1pl(expl(-x)) : x - log1pl(expl(x));
}

static long double true_log_sigmoid_of(long double x, long double y) {
    (void)y;
    return true_log_sigmoid(x);
}

static long double true_log_rest(long double x, long double y) {
    (void)y;
    return true_log_sigmoid(-x);
}

static long double true_softplus(long double x, long double y) {
    (void)y;
    return -true_log_sigmoid(-x);
}

static long double true_log_softmax(long double x, long double y) {
    return true_log_sigmoid(x - y);
}

#define CASE(number, nodes, numbers)                                                                                   \
    static Node *make_##number(Node *x, Node *y) {                                                                     \
        (void)x, (void)y;                                                                                              \
        return nodes;                                                                                                  \
    }                                                                                                                  \
    static double plain_##number(double x, double y) {                                                                 \
        (void)x, (void)y;                                                                                              \
        return numbers;                                                                                                \
    }                                                                                                                  \
    static float plain_float_##number(float x, float y) {                                                              \
        (void)x, (void)y;                                                                                              \
        return (float)(numbers);                                                                                       \
    }
CASE(1, negate(negate(x)), -(-x))
CASE(2, negate(op2(OP_SUBTRACT, x, y)), -(x - y))
CASE(3, op2(OP_ADD, constant(0), x), 0 + x)
CASE(4, op2(OP_ADD, x, constant(0)), x + 0)
CASE(5, op2(OP_ADD, x, x), x + x)
CASE(6, op2(OP_ADD, x, negate(y)), x + -y)
CASE(7, op2(OP_ADD, negate(x), y), -x + y)
CASE(8, op2(OP_SUBTRACT, x, constant(0)), x - 0)
CASE(9, op2(OP_SUBTRACT, constant(0), x), 0 - x)
CASE(10, op2(OP_SUBTRACT, x, negate(y)), x - -y)
CASE(11, op2(OP_MULTIPLY, constant(1), x), 1 * x)
CASE(12, op2(OP_MULTIPLY, x, constant(1)), x * 1)
CASE(13, op2(OP_MULTIPLY, constant(-1), x), -1 * x)
CASE(14, op2(OP_MULTIPLY, x, constant(-1)), x * -1)
CASE(15, op2(OP_MULTIPLY, negate(x), negate(y)), -x * -y)
CASE(16, op2(OP_MULTIPLY, negate(x), y), -x *y)
CASE(17, op2(OP_MULTIPLY, x, negate(y)), x * -y)
CASE(18, op2(OP_MULTIPLY, negate(x), constant(3)), -x * 3)
CASE(19, op2(OP_DIVIDE, x, constant(1)), x / 1)
CASE(20, op2(OP_POWER, x, constant(1)), pow(x, 1))
CASE(21, op2(OP_POWER, x, constant(2)), pow(x, 2))
CASE(22, op2(OP_POWER, x, constant(3)), pow(x, 3))
CASE(23, op2(OP_POWER, x, constant(4)), pow(x, 4))
CASE(24, op2(OP_POWER, x, constant(-1)), pow(x, -1))
CASE(25, op2(OP_POWER, x, constant(0.5)), pow(x, 0.5))
CASE(26, op1(OP_LOG, op1(OP_EXP, x)), log(exp(x)))
CASE(27, node_op(graph, OP_WHERE, op2(OP_LESS, x, y), x, x), x < y ? x : x)
CASE(28, node_op(graph, OP_WHERE, constant(1), x, y), x)
CASE(29, node_op(graph, OP_WHERE, constant(0), x, y), y)
CASE(30, op1(OP_REAL, x), x)
CASE(31, op2(OP_MULTIPLY, constant(2), op2(OP_MULTIPLY, constant(3), x)), 2 * (3 * x))

CASE(32, sum_of_copies(x), x + x + x)
CASE(33, max_of_copies(x), x)
CASE(34, op2(OP_ADD, op2(OP_MULTIPLY, constant(2), constant(3)), x), 6 + x)
CASE(35, op2(OP_SUBTRACT, op2(OP_MULTIPLY, x, y), op2(OP_MULTIPLY, y, x)), x *y - y * x)
CASE(36, op1(OP_LOG, sigmoid(x)), log(1 / (1 + exp(-x))))
CASE(37, op1(OP_LOG, op2(OP_SUBTRACT, constant(1), sigmoid(x))), log(1 - 1 / (1 + exp(-x))))
CASE(38, op1(OP_LOG, op2(OP_ADD, constant(1), op1(OP_EXP, x))), log(1 + exp(x)))
CASE(39, op1(OP_LOG, op2(OP_ADD, op1(OP_EXP, x), constant(1))), log(1 + exp(x)))
CASE(40, op1(OP_LOG1P, op1(OP_EXP, x)), log1p(exp(x)))
CASE(41, log_softmax_of_two(x, y), log(exp(x) / (exp(x) + exp(y))))

static const Case cases[] = {
    {RULE_NEGATE_NEGATE, "x", make_1, plain_1, plain_float_1, NULL},
    {RULE_NEGATE_DIFFERENCE, "y - x", make_2, plain_2, plain_float_2, NULL},
    {RULE_ADD_ZERO, "x", make_3, plain_3, plain_float_3, NULL},
    {RULE_ADD_ZERO, "x", make_4, plain_4, plain_float_4, NULL},
    {RULE_ADD_SELF, "2 * x", make_5, plain_5, plain_float_5, NULL},
    {RULE_ADD_NEGATED, "x - y", make_6, plain_6, plain_float_6, NULL},
    {RULE_ADD_NEGATED, "y - x", make_7, plain_7, plain_float_7, NULL},
    {RULE_SUBTRACT_ZERO, "x", make_8, plain_8, plain_float_8, NULL},
    {RULE_ZERO_SUBTRACT, "-x", make_9, plain_9, plain_float_9, NULL},
    {RULE_SUBTRACT_NEGATED, "x + y", make_10, plain_10, plain_float_10, NULL},
    {RULE_TIMES_ONE, "x", make_11, plain_11, plain_float_11, NULL},
    {RULE_TIMES_ONE, "x", make_12, plain_12, plain_float_12, NULL},
    {RULE_TIMES_MINUS_ONE, "-x", make_13, plain_13, plain_float_13, NULL},
    {RULE_TIMES_MINUS_ONE, "-x", make_14, plain_14, plain_float_14, NULL},
    {RULE_NEGATED_FACTORS, "x * y", make_15, plain_15, plain_float_15, NULL},
    {RULE_NEGATED_FACTOR, "-(x * y)", make_16, plain_16, plain_float_16, NULL},
    {RULE_NEGATED_FACTOR, "-(x * y)", make_17, plain_17, plain_float_17, NULL},
    {RULE_NEGATED_NUMBER, "(-3) * x", make_18, plain_18, plain_float_18, NULL},
    {RULE_DIVIDE_BY_ONE, "x", make_19, plain_19, plain_float_19, NULL},
    {RULE_POWER_ONE, "x", make_20, plain_20, plain_float_20, NULL},
    {RULE_POWER_TWO, "x * x", make_21, plain_21, plain_float_21, NULL},
    {RULE_POWER_THREE, "x * x * x", make_22, plain_22, plain_float_22, NULL},
    {RULE_POWER_FOUR, "x * x * (x * x)", make_23, plain_23, plain_float_23, NULL},
    {RULE_POWER_MINUS_ONE, "1 / x", make_24, plain_24, plain_float_24, NULL},
    {RULE_POWER_HALF, "sqrt(x)", make_25, plain_25, plain_float_25, NULL},
    {RULE_LOG_EXP, "x", make_26, plain_26, plain_float_26, NULL},
    {RULE_WHERE_SAME, "x", make_27, plain_27, plain_float_27, NULL},
    {RULE_WHERE_KNOWN, "x", make_28, plain_28, plain_float_28, NULL},
    {RULE_WHERE_KNOWN, "y", make_29, plain_29, plain_float_29, NULL},
    {RULE_REAL_OF_NUMBER, "x", make_30, plain_30, plain_float_30, NULL},
    {RULE_JOIN_NUMBERS, "6 * x", make_31, plain_31, plain_float_31, NULL},
    {RULE_SUM_OF_COPIES, "x * 3", make_32, plain_32, plain_float_32, NULL},
    {RULE_MAX_OF_COPIES, "x", make_33, plain_33, plain_float_33, NULL},
    {RULE_CONSTANTS, "6 + x", make_34, plain_34, plain_float_34, NULL},
    {RULE_SHARED, "x * y - x * y", make_35, plain_35, plain_float_35, NULL},
    {RULE_LOG_SIGMOID, NULL, make_36, plain_36, plain_float_36, true_log_sigmoid_of},
    {RULE_LOG_REST, NULL, make_37, plain_37, plain_float_37, true_log_rest},
    {RULE_LOG_ONE_PLUS_EXP, NULL, make_38, plain_38, plain_float_38, true_softplus},
    {RULE_LOG_ONE_PLUS_EXP, NULL, make_39, plain_39, plain_float_39, true_softplus},
    {RULE_LOG_ONE_PLUS_EXP, NULL, make_40, plain_40, plain_float_40, true_softplus},
    {RULE_LOG_SOFTMAX, NULL, make_41, plain_41, plain_float_41, true_log_softmax},
};

static const double specials[] = {0.0,   -0.0,   1,     -1,     0.5,     -3,  1e-320, -1e-320,  1e-200,    -1e-200,
                                  1e100, -1e100, 1e200, -1e200, 1.7e308, 600, -600,   INFINITY, -INFINITY, NAN};

/* digits: 2^-52, 2^-23; least: the smallest step */
static bool claim_holds(Claim claim, double got, double want, bool finite, double digits, double least) {
    if (isnan(got) || isnan(want))
        return (isnan(got) && isnan(want)) || (claim == CLAIM_FINITE && !finite);
    switch (claim) {
    case CLAIM_EXACT:
        return memcmp(&got, &want, sizeof got) == 0;
    case CLAIM_ZERO:
        return got == want;
    case CLAIM_NEAR:
        return got == want || fabs(got - want) <= 4 * digits * fabs(want) + 4 * least;
    default: /* the left side overflows (or underflows) where the right does not */
        return !finite || !isfinite(want) || fabs(got - want) <= 4 * digits * fmax(1, fabs(want));
    }
}

/* Element by element, each op rounded to float: for numbers alone. */
static double float_value_of(const Node *node) {
    double args[3] = {0};
    if (node->arg_count == 0)
        return (float)(node->op == OP_CONSTANT ? node->number : value_of((Node *)node));
    for (int i = 0; i < node->arg_count; i++)
        args[i] = float_value_of(node->args[i]);
    return op_table[node->op].class == CLASS_SHAPE ? NAN : (float)op_evaluate(node->op, args[0], args[1], args[2]);
}

static const double float_specials[] = {0.0f,  -0.0f,  1,     -1,     0.5f, -3, 1e-42f, -1e-42f,  1e-20f,    -1e-20f,
                                        1e19f, -1e19f, 1e20f, -1e20f, 3e38, 80, -80,    INFINITY, -INFINITY, NAN};

static bool fired(Rule rule) {
    int count;
    const Rewrite *all = graph_rewrites(graph, &count);
    for (int i = 0; i < count; i++)
        if (all[i].rule == rule)
            return true;
    return false;
}

/* Of the logarithms: the rewritten value is never further from the truth than the plain one, by 2 ulp, and near it wherever it is
   finite. */
static void expect_more_exact(const Case *at, double got, double plain, double x, double y, double digits) {
    long double truth = at->truth((long double)x, (long double)y);
    if (!isfinite(x) || !isfinite(y) || !isfinite((double)truth) || fabsl(truth) > 1e38L)
        return;
    double error = (double)fabsl((long double)got - truth), before = (double)fabsl((long double)plain - truth);
    /* relative; where z - log(sum) loses digits to the greater z, to those of z */
    double scale = fmax((double)fabsl(truth), at->rule == RULE_LOG_SOFTMAX ? fmax(fabs(x), fabs(y)) : 0x1p-60);
    bool near = error <= 4 * digits * scale + 4 * 0x1p-149;
    cr_expect(near || (at->rule == RULE_LOG_SOFTMAX && !isfinite(plain)), "%s, x = %g, y = %g: %.17g, not %.17Lg",
              rule_table[at->rule].name, x, y, got, truth);
    cr_expect(isnan(before) || error <= before + 4 * digits * scale + 4 * 0x1p-149,
              "%s, x = %g, y = %g: %.17g is further from %.17Lg than %.17g", rule_table[at->rule].name, x, y, got,
              truth, plain);
}

static void expect_claim(const Case *at, Node *simple, Variable *x, Variable *y, bool in_float) {
    const int count = sizeof specials / sizeof *specials;
    const Claim claim = rule_table[at->rule].claim;
    for (int j = 0; j < count * count + 200; j++) {
        const double *special = in_float ? float_specials : specials;
        double a = j < count * count ? special[j / count] : draw(-5, 5);
        double b = j < count * count ? special[j % count] : draw(-5, 5);
        x->values[0] = a = in_float ? (float)a : a;
        y->values[0] = b = in_float ? (float)b : b;
        double got = in_float ? float_value_of(simple) : value_of(simple);
        double want = in_float ? at->plain_float((float)a, (float)b) : at->plain(a, b);
        if (claim == CLAIM_STABLE)
            expect_more_exact(at, got, want, a, b, in_float ? 0x1p-23 : 0x1p-52);
        else
            cr_expect(claim_holds(claim, got, want, isfinite(a), in_float ? 0x1p-23 : 0x1p-52,
                                  in_float ? 0x1p-149 : 0x1p-1074),
                      "%s in %s, x = %g, y = %g: %.17g, not %.17g", rule_table[at->rule].name,
                      in_float ? "float" : "double", a, b, got, want);
    }
}

Test(graph_nodes, simplifications_keep_their_claims) {
    bool tested[RULE_COUNT] = {false};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Case *at = &cases[i];
        start_again();
        Variable *x = variable(false, 0, NULL, 0, 1), *y = variable(false, 0, NULL, 0, 1);
        x->leaf->label = name_of("x");
        y->leaf->label = name_of("y");
        Span before = graph_set_span(graph, (Span){0, 1, 2});
        if (at->rule == RULE_SHARED) { /* the other one stands elsewhere */
            op2(OP_MULTIPLY, x->view, y->view);
            graph_set_span(graph, (Span){0, 3, 4});
        }
        Node *simple = at->make(x->view, y->view);
        graph_set_span(graph, before);
        const char *shown = simple->op == OP_TENSOR ? simple->label : formula(simple);
        cr_expect(fired(at->rule), "case %zu: %s was not applied", i + 1, rule_table[at->rule].name);
        tested[at->rule] = true;
        if (at->simple)
            cr_expect_str_eq(shown, at->simple, "%s gives %s, not %s", rule_table[at->rule].name, shown, at->simple);
        expect_claim(at, simple, x, y, false);
        if (at->rule != RULE_LOG_SOFTMAX) /* of vectors */
            expect_claim(at, simple, x, y, true);
    }
    for (int i = 0; i < RULE_COUNT; i++)
        cr_expect(tested[i], "%s has no case", rule_table[i].name);
}

/* exp(x) that cannot overflow is left alone: softplus would be made of itself. */
Test(graph_nodes, what_cannot_overflow_is_kept) {
    Variable *x = variable(false, 0, NULL, 0, 1);
    Node *tail = op1(OP_LOG1P, op1(OP_EXP, negate(op1(OP_ABSOLUTE, x->view))));
    cr_expect_eq(tail->op, OP_LOG1P);
    cr_expect_not(fired(RULE_LOG_ONE_PLUS_EXP));
}

/* Where the simpler node would lose a shape, a batch or a type, nothing is simplified. */
Test(graph_nodes, simplifications_keep_shapes) {
    const int64_t three[1] = {3};
    Variable *x = variable(false, 0, NULL, 0, 1), *v = variable(true, 1, three, 0, 1);
    Node *ones = node_expand(graph, constant(1), 1, three), *zeros = node_expand(graph, constant(0), 1, three);
    Node *truth = op2(OP_LESS, v->view, constant(0.5));
    Node *shaped[] = {op2(OP_MULTIPLY, x->view, ones),
                      op2(OP_ADD, zeros, x->view),
                      op2(OP_SUBTRACT, x->view, zeros),
                      op2(OP_DIVIDE, x->view, ones),
                      op2(OP_POWER, x->view, ones),
                      node_op(graph, OP_WHERE, truth, x->view, x->view),
                      node_op(graph, OP_WHERE, truth, constant(1), constant(1))};
    for (size_t i = 0; i < sizeof shaped / sizeof *shaped; i++)
        cr_expect(shaped[i]->rank == 1 && shaped[i]->dims[0] == 3, "case %zu lost its shape: %s", i,
                  formula(shaped[i]));
    cr_expect(shaped[6]->batched);
    graph_verify(graph);
}

/* ---- Stable rewrites --------------------------------------------------------------------------------------------- */

/* log(1 / (1 + exp(-x))) = -log1p(exp(-x)) for x >= 0, x - log1p(exp(x)) below */
static double log_sigmoid(double x) {
    return x >= 0 ? -log1p(exp(-x)) : x - log1p(exp(x));
}

static void expect_stable(const char *what, Node *node, Variable *x, double sign, double slope) {
    static const double points[] = {-1e4, -800, -40, -1, 0, 1, 40, 800, 1e4};
    Node *gradient;
    differentiate(graph, node, &x->leaf, 1, &gradient);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        x->values[0] = points[i];
        double z = sign * points[i], got = value_of(node), want = log_sigmoid(z);
        cr_expect(fabs(got - want) <= 1e-14 * fabs(want), "%s at %g: %.17g, not %.17g", what, points[i], got, want);
        double d = value_of(gradient), should = slope * (z >= 0 ? exp(-z) / (1 + exp(-z)) : 1 / (1 + exp(z)));
        cr_expect(fabs(d - should) <= 1e-14, "%s' at %g: %.17g, not %.17g", what, points[i], d, should);
    }
}

Test(graph_nodes, logarithms_of_sigmoids_are_stable) {
    Variable *x = variable(false, 0, NULL, 0, 1), *y = variable(false, 0, NULL, 0, 1);
    y->values[0] = 0;
    Node *one = constant(1);
    expect_stable("log(sigmoid(x))", op1(OP_LOG, sigmoid(x->view)), x, 1, 1);
    expect_stable("log(sigmoid(-x))", op1(OP_LOG, sigmoid(negate(x->view))), x, -1, -1);
    expect_stable("log(sigmoid(x - y))", op1(OP_LOG, sigmoid(op2(OP_SUBTRACT, x->view, y->view))), x, 1, 1);
    expect_stable("log(1 - sigmoid(x))", op1(OP_LOG, op2(OP_SUBTRACT, one, sigmoid(x->view))), x, -1, -1);
    expect_stable("log(1 - sigmoid(-x))", op1(OP_LOG, op2(OP_SUBTRACT, one, sigmoid(negate(x->view)))), x, 1, 1);
    expect_stable("log(1 - sigmoid(y - x))",
                  op1(OP_LOG, op2(OP_SUBTRACT, one, sigmoid(op2(OP_SUBTRACT, y->view, x->view)))), x, 1, 1);
}

Test(graph_nodes, the_logarithm_of_softmax_is_stable) {
    static const double logits[4] = {1e4, 0, -1e4, 1e4}, want[4] = {-0.6931471805599453, -10000.693147180559945,
                                                                    -20000.693147180559945, -0.6931471805599453};
    Variable *x = variable(false, 1, (const int64_t[]){4}, 0, 1);
    memcpy(x->values, logits, sizeof logits);
    Arena *scratch = arena_new();
    const Evaluation *got = evaluate(scratch, op1(OP_LOG, make_softmax(&x)));
    for (int i = 0; i < 4; i++)
        cr_expect_float_eq(got->values[i], want[i], 1e-14 * fabs(want[i]), "%d: %g", i, got->values[i]);
    /* d log softmax(x)[1] / dx = e_1 - softmax(x) */
    static const double slope[4] = {-0.5, 1, 0, -0.5};
    Node *second = node_reshape(graph, node_slice(graph, op1(OP_LOG, make_softmax(&x)), 1, 1), 0, NULL), *gradient;
    differentiate(graph, second, &x->leaf, 1, &gradient);
    got = evaluate(scratch, gradient);
    for (int i = 0; i < 4; i++)
        cr_expect_float_eq(got->values[i], slope[i], 1e-12, "slope %d: %g", i, got->values[i]);
    arena_free(scratch);
}

/* ---- The evaluator against sums done by hand --------------------------------------------------------------------- */

static void expect_values(Node *node, const double *want, int count) {
    Arena *scratch = arena_new();
    const Evaluation *got = evaluate(scratch, node);
    cr_assert_eq(got->rows * got->elements, count, "%s: %lld values", formula(node),
                 (long long)(got->rows * got->elements));
    for (int i = 0; i < count; i++)
        cr_expect_eq(got->values[i], want[i], "%s: value %d is %g, not %g", formula(node), i, got->values[i], want[i]);
    arena_free(scratch);
}

#define EXPECT(node, ...)                                                                                              \
    expect_values(node, (const double[]){__VA_ARGS__}, (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)))

Test(graph_nodes, values_by_hand) {
    Variable *w = variable(false, 2, (const int64_t[]){2, 3}, 0, 1), *x = variable(true, 1, (const int64_t[]){3}, 0, 1);
    Variable *v = variable(false, 1, (const int64_t[]){2}, 0, 1);
    memcpy(w->values, (const double[]){1, 2, 3, 4, 5, 6}, sizeof(double) * 6);
    memcpy(x->values, (const double[]){1, 0, 0, 0, 1, 0, 1, 1, 2}, sizeof(double) * 9);
    memcpy(v->values, (const double[]){10, 20}, sizeof(double) * 2);
    Node *y = make_matrix_vector((Variable *[]){w, x});
    EXPECT(y, 1, 4, 2, 5, 9, 21);
    EXPECT(node_batch_sum(graph, y), 12, 30);
    EXPECT(node_batch_sum(graph, x->view), 2, 2, 2);
    EXPECT(node_batch_sum(graph, v->view), 30, 60);
    EXPECT(node_rows(graph), 3);
    EXPECT(make_batch_outer((Variable *[]){v, x}), 20, 20, 20, 40, 40, 40);
    EXPECT(make_vector_matrix((Variable *[]){v, w}), 90, 120, 150);
    EXPECT(node_transpose(graph, w->view), 1, 4, 2, 5, 3, 6);
    EXPECT(node_sum(graph, w->view, 0), 5, 7, 9);
    EXPECT(node_sum(graph, w->view, 1), 6, 15);
    EXPECT(node_sum(graph, w->view, AXIS_ALL), 21);
    EXPECT(node_max_of(graph, w->view, 0), 4, 5, 6);
    EXPECT(node_max_of(graph, x->view, AXIS_ALL), 1, 1, 2);
    EXPECT(node_argmax(graph, x->view), 0, 1, 2);
    EXPECT(node_one_hot(graph, node_argmax(graph, x->view), 3), 1, 0, 0, 0, 1, 0, 0, 0, 1);
    EXPECT(node_slice(graph, w->view, 1, 1), 4, 5, 6);
    EXPECT(node_concat(graph, (Node *[]){v->view, y, constant(7)}, 3), 10, 20, 1, 4, 7, 10, 20, 2, 5, 7, 10, 20, 9, 21,
           7);
    EXPECT(op1(OP_REAL, op2(OP_EQUAL, node_iota(graph, 3), node_argmax(graph, x->view))), 1, 0, 0, 0, 1, 0, 0, 0, 1);
    EXPECT(op2(OP_MULTIPLY, node_sum(graph, x->view, AXIS_ALL), v->view), 10, 20, 10, 20, 40, 80);
    x->values[4] = NAN;
    Node *most = node_max_of(graph, x->view, AXIS_ALL);
    Arena *scratch = arena_new();
    cr_expect(isnan(evaluate(scratch, most)->values[1]), "NaN passes max");
    arena_free(scratch);
    EXPECT(node_argmax(graph, x->view), 0, 1, 2);
}

/* A product with vectors of zeros and ones is the truth of a lookup, and its transpose that of the way back. */
Test(graph_nodes, lookups_by_hand) {
    Variable *table = variable(false, 2, (const int64_t[]){4, 2}, 0, 1),
             *d = variable(true, 1, (const int64_t[]){2}, 0, 1);
    Variable *one = index_variable((const double[]){2, -1, 2}, 4, 0);
    Variable *words = index_variable((const double[]){0, 3, -1, -1, 3, 3}, 4, 2);
    Variable *counts = variable(true, 1, (const int64_t[]){2}, 0, 1),
             *x = variable(true, 1, (const int64_t[]){3}, 0, 1);
    memcpy(table->values, (const double[]){1, 2, 3, 4, 5, 6, 7, 8}, sizeof(double) * 8);
    memcpy(d->values, (const double[]){1, 10, 2, 20, 3, 30}, sizeof(double) * 6);
    memcpy(counts->values, (const double[]){1, 2, 9, 9, 3, 4}, sizeof(double) * 6);
    memcpy(x->values, (const double[]){1, 2, 3, 4, 5, 6, 7, 8, 9}, sizeof(double) * 9);
    Node *where[2] = {words->view, counts->view}, *scattered = node_scatter(graph, d->view, where, 2, 4);
    EXPECT(node_bag(graph, where[0], where[1], 4), 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7);
    EXPECT(node_lookup(graph, table->view, one->view), 5, 6, 0, 0, 5, 6);
    EXPECT(node_lookup_bag(graph, table->view, where[0], where[1]), 15, 18, 0, 0, 49, 56);
    EXPECT(node_scatter(graph, d->view, &one->view, 1, 4), 0, 0, 0, 0, 4, 40, 0, 0);
    EXPECT(scattered, 1, 10, 0, 0, 0, 0, 23, 230);
    EXPECT(node_transpose(graph, scattered), 1, 0, 0, 23, 10, 0, 0, 230);
    Variable *places = variable(true, 1, (const int64_t[]){2}, 0, 1);
    memcpy(places->values, (const double[]){0, 2.9, -0.5, 3, NAN, 1}, sizeof(double) * 6);
    EXPECT(node_gather(graph, x->view, places->view), 1, 3, 0, 0, 0, 8);
    cr_expect_eq(node_transpose(graph, node_transpose(graph, scattered)), scattered);
    graph_verify(graph);
}

/* ---- Rewriting --------------------------------------------------------------------------------------------------- */

typedef struct Swap {
    Node *from, *to;
} Swap;

static Node *swap(void *context, Node *node) {
    const Swap *one = context;
    return node == one->from ? one->to : NULL;
}

/* A batched vector becomes one that is the same in each row: the sum over the batch is still one over ROWS rows. */
Test(graph_nodes, rewriting_keeps_sums_over_the_batch) {
    const int64_t three[1] = {3};
    Variable *w = variable(false, 2, (const int64_t[]){2, 3}, 0, 1), *x = variable(true, 1, three, 0, 1);
    Variable *same = variable(false, 1, three, 0, 1);
    Node *sum = node_batch_sum(graph, make_matrix_vector((Variable *[]){w, x}));
    Swap one = {x->leaf, same->view};
    Rewriter rewriter;
    rewrite_start(&rewriter, graph, swap, &one);
    Node *rewritten = rewrite(&rewriter, sum);
    graph_verify(graph);
    Arena *scratch = arena_new();
    const Evaluation *got = evaluate(scratch, rewritten);
    for (int i = 0; i < 2; i++) {
        double want = 0;
        for (int j = 0; j < 3; j++)
            want += ROWS * w->values[i * 3 + j] * same->values[j];
        cr_expect_float_eq(got->values[i], want, 1e-14);
    }
    arena_free(scratch);
}

/* ---- Intervals --------------------------------------------------------------------------------------------------- */

static void expect_interval(Node *node, double low, double high) {
    Interval got = interval_of(graph, node);
    cr_expect(got.low == low && got.high == high, "%s lies in [%g, %g], not in [%g, %g]", formula(node), got.low,
              got.high, low, high);
}

Test(graph_nodes, intervals) {
    const int64_t three[1] = {3};
    const double infinity = INFINITY;
    Variable *variable_x = variable(true, 1, three, 0, 1), *w = variable(false, 2, (const int64_t[]){3, 3}, 0, 1);
    Node *x = variable_x->view, *s = sigmoid(x), *soft = make_softmax(&variable_x);
    expect_interval(x, -infinity, infinity);
    expect_interval(w->view, -infinity, infinity);
    expect_interval(constant(3), 3, 3);
    expect_interval(op1(OP_EXP, x), 0, infinity);
    expect_interval(s, 0, 1);
    expect_interval(op2(OP_SUBTRACT, constant(1), s), 0, 1);
    expect_interval(soft, 0, 1);
    expect_interval(node_slice(graph, soft, 1, 1), 0, 1);
    expect_interval(op2(OP_MULTIPLY, s, s), 0, 1);
    expect_interval(op1(OP_TANH, x), -1, 1);
    expect_interval(op1(OP_SIN, x), -1, 1);
    expect_interval(op1(OP_COS, x), -1, 1);
    expect_interval(op1(OP_ERF, x), -1, 1);
    expect_interval(op1(OP_ABSOLUTE, x), 0, infinity);
    expect_interval(op1(OP_ABSOLUTE, op2(OP_SUBTRACT, op1(OP_TANH, x), constant(3))), 2, 4);
    expect_interval(op2(OP_MULTIPLY, x, x), 0, infinity);
    expect_interval(op2(OP_POWER, x, constant(6)), 0, infinity);
    expect_interval(op2(OP_POWER, x, constant(5)), -infinity, infinity);
    expect_interval(op1(OP_SQRT, x), 0, infinity);
    expect_interval(op1(OP_LOG, s), -infinity, 0);
    expect_interval(op2(OP_MAXIMUM, x, constant(0)), 0, infinity);
    expect_interval(op2(OP_MINIMUM, op2(OP_MAXIMUM, x, constant(0)), constant(1)), 0, 1);
    expect_interval(op2(OP_MULTIPLY, constant(-2), s), -2, 0);
    expect_interval(op2(OP_DIVIDE, constant(1), op2(OP_ADD, s, constant(1))), 0.5, 1);
    expect_interval(op2(OP_DIVIDE, constant(1), op1(OP_TANH, x)), -infinity, infinity);
    expect_interval(op2(OP_DIVIDE, op1(OP_TANH, x), op1(OP_EXP, x)), -infinity, infinity);
    Node *truth = op2(OP_LESS, x, constant(0));
    expect_interval(truth, 0, 1);
    expect_interval(op1(OP_REAL, truth), 0, 1);
    expect_interval(node_op(graph, OP_WHERE, truth, s, constant(2)), 0, 2);
    expect_interval(node_one_hot(graph, node_argmax(graph, x), 3), 0, 1);
    expect_interval(node_argmax(graph, x), 0, 2);
    expect_interval(node_sum(graph, s, AXIS_ALL), 0, 3);
    expect_interval(op2(OP_DIVIDE, node_sum(graph, s, AXIS_ALL), constant(3)), 0, 1);
    expect_interval(node_batch_sum(graph, s), 0, infinity);
    expect_interval(op2(OP_DIVIDE, node_batch_sum(graph, s), node_rows(graph)), 0, 1);
    expect_interval(node_concat(graph, (Node *[]){s, op1(OP_TANH, x)}, 2), -1, 1);
    expect_interval(node_random(graph, false, 1, true, 1, three), 0, 1);
    expect_interval(node_random(graph, true, 1, true, 1, three), -infinity, infinity);
    Variable t = {.view = op1(OP_TANH, x)}, u = {.view = s};
    expect_interval(make_dot((Variable *[]){&t, &u}), -3, 3);
    expect_interval(make_matrix_vector((Variable *[]){w, &u}), -infinity, infinity);
    Variable *category = index_variable((const double[]){0, 1, 2}, 3, 0);
    Node *probabilities = node_concat(graph, (Node *[]){s}, 1), *one = op2(OP_ADD, constant(1), s);
    expect_interval(node_gather(graph, one, x), 0, 2);
    expect_interval(node_lookup(graph, op1(OP_TANH, w->view), category->view), -1, 1);
    expect_interval(node_scatter(graph, probabilities, &category->view, 1, 3), -infinity, infinity);
    Node *deep = x; /* a recursion over nodes would not come back from here */
    for (int i = 0; i < 100000; i++)
        deep = i % 2 ? op1(OP_SIN, deep) : negate(deep);
    expect_interval(deep, -1, 1);
}

/* ---- The verifier: one invariant broken at a time ---------------------------------------------------------------- */

/* In a child: BUG exits with 70 and says what is wrong, and of which node. */
static void expect_broken(const Node *node, const char *what) {
    char path[] = "/tmp/graph_verify_XXXXXX";
    int file = mkstemp(path);
    cr_assert(file >= 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(file, 2);
        graph_verify(graph);
        _exit(0);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    close(file);
    char why[256];
    size_t length;
    char *said = file_read_whole(path, &length, why, sizeof why);
    unlink(path);
    cr_assert_not_null(said);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 70, "%s: the verifier lets it pass", what);
    cr_expect(strstr(said, what) && strstr(said, arena_printf(arena, "%%%d ", node->id)),
              "'%s' is not said of %%%d: %s", what, node->id, said);
    free(said);
}

#define BREAK(node, statement, what)                                                                                   \
    do {                                                                                                               \
        Node kept = *(node);                                                                                           \
        statement;                                                                                                     \
        expect_broken(node, what);                                                                                     \
        *(node) = kept;                                                                                                \
    } while (0)

Test(graph_nodes, the_verifier_finds_what_is_broken) {
    const int64_t three[1] = {3};
    Variable *x = variable(true, 1, three, 0, 1), *w = variable(false, 2, (const int64_t[]){2, 3}, 0, 1);
    Node *hot = node_argmax(graph, x->view), *truth = op2(OP_LESS, x->view, constant(0));
    Node *y = make_matrix_vector((Variable *[]){w, x}), *e = op1(OP_EXP, x->view), *sum = op2(OP_ADD, e, constant(2));
    Node *all = node_batch_sum(graph, e), *slice = node_slice(graph, x->view, 1, 2);
    Node *flat = node_reshape(graph, w->view, 1, (const int64_t[]){6});
    Node *rows = node_sum(graph, w->view, 0), *joined = node_concat(graph, (Node *[]){x->view, slice}, 2);
    Node *wide = op2(OP_ADD, node_rows(graph), constant(2)), *turned = node_transpose(graph, w->view);
    Node *filled = node_expand(graph, constant(0), 1, three);
    graph_verify(graph);
    BREAK(e, e->id += 1, "its number is not its place");
    BREAK(sum, sum->arg_count = 1, "the number of arguments is not the op's");
    BREAK(e, e->args = &sum, "an argument is not older than the node");
    BREAK(e, e->dims[0] = 4, "an argument has neither its shape nor none");
    BREAK(e, e->dims[0] = 0, "an axis without elements");
    BREAK(e, e->batched = false, "batched is not what its arguments say");
    BREAK(e, e->op = OP_BITCAST, "an op of kernels in the graph");
    BREAK(e, e->type = TYPE_TRUTH, "arithmetic gives a number");
    BREAK(e, e->type = TYPE_WIDE, "WIDE is never batched");
    BREAK(e, e->span = ((Span){1000, 0, 0}), "its span is in no source");
    BREAK(e, e->span = ((Span){0, 0, 1 << 30}), "its span is beyond its source");
    BREAK(sum, sum->args = ((Node *[]){truth, e}), "an index or a condition in arithmetic");
    BREAK(truth, truth->type = TYPE_REAL, "a comparison gives a condition");
    BREAK(truth, truth->args = ((Node *[]){hot, x->view}), "an index is compared with a number");
    BREAK(wide, wide->args = ((Node *[]){rows, rows}), "an argument has neither its shape nor none");
    BREAK(y, y->contract.right[0] = 0, "a letter has two extents");
    BREAK(y, y->contract.left[1] = 0, "a letter stands twice in one tensor");
    BREAK(y, y->contract.out[0] = 5, "an output letter stands in no argument");
    BREAK(y, y->contract.over_batch = true, "batched is not what its arguments say");
    BREAK(all, all->batched = true, "a sum over a batch that is not there");
    BREAK(hot, hot->type = TYPE_REAL, "argmax takes a vector to an index");
    BREAK(slice, slice->integer = 2, "a slice beyond its end");
    BREAK(flat, flat->dims[0] = 5, "a reshape keeps its elements");
    BREAK(rows, rows->integer = 2, "no such axis");
    BREAK(rows, rows->integer = 1, "its shape is not what the axis leaves");
    BREAK(joined, joined->dims[0] = 6, "its width is not its parts'");
    BREAK(turned, turned->dims[0] = 2, "not its argument's transpose");
    BREAK(filled, filled->args = &x->view, "batched is not what its arguments say");
    Variable *category = index_variable((const double[]){0, 1, 2}, 2, 0);
    Node *row = node_lookup(graph, w->view, category->view);
    Node *back = node_scatter(graph, x->view, &category->view, 1, 2), *at = node_gather(graph, x->view, e);
    graph_verify(graph);
    BREAK(row, row->dims[0] = 2, "lookup gives a row");
    BREAK(back, back->dims[0] = 3, "scatter gives a matrix");
    BREAK(back, back->batched = true, "a sum over a batch that is not there");
    BREAK(at, at->dims[0] = 2, "gather gives an element for each place");
    graph_verify(graph); /* everything is whole again */
}

/* ---- Prints ------------------------------------------------------------------------------------------------------ */

static const char *line_of(const Node *node) {
    Text text = {0};
    node_print(node, &text);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

Test(graph_nodes, prints_of_nodes) {
    const int64_t three[1] = {3};
    Variable *x = variable(true, 1, three, 0, 1), *w = variable(false, 2, (const int64_t[]){3, 3}, 0, 1);
    node_label(x->leaf, name_of("x"));
    w->leaf->label = name_of("w");
    Node *y = make_matrix_vector((Variable *[]){w, x}), *e = op2(OP_ADD, y, constant(1.5));
    cr_expect_str_eq(line_of(y), "%2 = contract(%1, %0, il,l->i) : real [3] batched");
    cr_expect_str_eq(line_of(e), "%4 = add(%2, %3) : real [3] batched");
    cr_expect_str_eq(formula(e), "w @ x + 1.5");
    Text text = {0};
    node_formula(e, 1, &text);
    cr_expect_str_eq(text.at, "%2 + 1.5");
    text_free(&text);
    cr_expect_str_eq(formula(op2(OP_MULTIPLY, e, op2(OP_SUBTRACT, x->view, constant(-2)))),
                     "(w @ x + 1.5) * (x - (-2))");
    cr_expect_str_eq(formula(op2(OP_SUBTRACT, x->view, op2(OP_SUBTRACT, y, x->view))), "x - (w @ x - x)");
    cr_expect_str_eq(formula(op2(OP_DIVIDE, x->view, op2(OP_MULTIPLY, y, x->view))), "x / (w @ x * x)");
    cr_expect_str_eq(formula(negate(op2(OP_ADD, y, x->view))), "-(w @ x + x)");
    cr_expect_str_eq(formula(op2(OP_POWER, negate(x->view), op2(OP_DIVIDE, x->view, y))), "(-x) ^ (x / (w @ x))");
    /* the weights go first, whichever way it was written */
    cr_expect_str_eq(formula(make_vector_matrix((Variable *[]){x, w})), "transpose(w) @ x");
    cr_expect_str_eq(
        formula(product((Variable *[]){w, x}, (ContractSpec){.left = {3, 0}, .right = {3}, .out = {0}}, 1)),
        "transpose(w) @ x");
    cr_expect_str_eq(formula(make_batch_outer((Variable *[]){x, x})), "batch_sum(outer(x, x))");
    cr_expect_str_eq(formula(make_matrices_turned((Variable *[]){w, w})), "w @ transpose(w)");
    cr_expect_str_eq(formula(node_slice(graph, x->view, 1, 2)), "x[1..2]");
    cr_expect_str_eq(formula(node_sum(graph, w->view, 1)), "sum(w, axis = 1)");
    cr_expect_str_eq(formula(op2(OP_LESS, x->view, constant(0))), "x < 0");
}

/* A phase of a two-layer net, the first layer frozen; names that would break a picture's syntax. */
static GraphProgram *small_program(void) {
    const int64_t two[1] = {2};
    Variable *x = variable(true, 1, two, 0, 1), *w = variable(false, 2, (const int64_t[]){2, 2}, 0, 1);
    Variable *b = variable(false, 1, two, 0, 1);
    node_label(x->leaf, name_of("a \"b\"\n<c>"));
    Node *h = op2(OP_MAXIMUM, op2(OP_ADD, make_matrix_vector((Variable *[]){w, x}), constant(0.25)), constant(0));
    node_label(h, name_of("hidden"));
    Node *loss = node_sum(graph, op2(OP_MULTIPLY, h, op2(OP_ADD, h, b->view)), AXIS_ALL);
    node_label(loss, name_of("loss"));
    GraphTrain *train = arena_new_of(arena, GraphTrain);
    train->name = name_of("Small");
    train->objective = op2(OP_DIVIDE, node_batch_sum(graph, loss), node_rows(graph));
    Node *gradient;
    differentiate(graph, train->objective, &b->leaf, 1, &gradient);
    node_label(gradient, name_of("d_v2"));
    *LIST_ADD(arena, &train->gradients) = (Sink){gradient, b->leaf->tensor, NULL, 0};
    *LIST_ADD(arena, &train->frozen) = w->leaf->tensor;
    GraphProgram *program = arena_new_of(arena, GraphProgram);
    program->arena = arena;
    program->graph = graph;
    *LIST_ADD(arena, &program->trains) = train;
    GraphFunction *function = arena_new_of(arena, GraphFunction);
    function->name = name_of("Small_step");
    function->about = "one step";
    function->span = SPAN_NONE;
    function->capacity = 8;
    *LIST_ADD(arena, &function->sinks) = (Sink){op2(OP_SUBTRACT, b->view, gradient), b->leaf->tensor, NULL, 0};
    *LIST_ADD(arena, &program->functions) = function;
    return program;
}

static int count_of(const char *text, const char *piece);

/* A def with its own derivative and the value beside it have one label: it names the def's. */
Test(graph_nodes, a_custom_keeps_its_name) {
    Variable *x = variable(true, 1, (const int64_t[]){2}, 0, 1);
    Item *item = arena_new_of(arena, Item);
    item->name = name_of("relu");
    item->params.at = arena_new_of(arena, Param);
    item->params.at[0].name = name_of("x");
    item->params.count = 1;
    Node *relu = node_custom(graph, item, op2(OP_MAXIMUM, x->view, constant(0)), &x->view, 1);
    node_label(relu, name_of("hidden"));
    graph_verify(graph);
    GraphProgram program = {.arena = arena, .graph = graph};
    GraphFunction function = {.name = name_of("f"), .about = "a test", .span = SPAN_NONE, .capacity = 1};
    Buffer buffer = {.name = name_of("out"), .shown = "out"};
    *LIST_ADD(arena, &function.sinks) = (Sink){relu, NULL, &buffer, 0};
    *LIST_ADD(arena, &program.functions) = &function;
    Text text = {0};
    graph_print(&program, &text);
    cr_expect_eq(count_of(text.at, "hidden "), 1, "%s", text.at);
    cr_expect_not_null(strstr(text.at, "= relu("), "%s", text.at);
    cr_expect_not_null(strstr(text.at, "<- hidden\n"), "%s", text.at);
    text_free(&text);
}

static int count_of(const char *text, const char *piece) {
    int count = 0;
    for (const char *at = strstr(text, piece); at; at = strstr(at + 1, piece))
        count++;
    return count;
}

Test(graph_nodes, prints_of_programs) {
    GraphProgram *program = small_program();
    Text text = {0};
    graph_print(program, &text);
    cr_expect_not_null(strstr(text.at, "Small_step: one step\n  up to 8 rows a call\n"));
    cr_expect_not_null(strstr(text.at, "real [rows][2]"));
    cr_expect_not_null(strstr(text.at, "  gives\n    v2                  <- %"));
    cr_expect_not_null(strstr(text.at, "a \"b\"?<c>"), "a newline in a name stays on its line");
    text_free(&text);
    graph_print_gradient(program, &text);
    cr_expect_not_null(strstr(text.at, "  forward\n"));
    cr_expect_not_null(strstr(text.at, "hidden              = max(v1 @ a \"b\"?<c> + 0.25, 0)"), "%s", text.at);
    cr_expect_not_null(strstr(text.at, "  gradients\n    d_v2                = "), "%s", text.at);
    cr_expect_not_null(strstr(text.at, "  frozen: v1 (no gradient)\n"));
    cr_expect_eq(count_of(text.at, "d_v1"), 0);
    text_free(&text);
}

Test(graph_nodes, pictures) {
    GraphProgram *program = small_program();
    Text text = {0};
    graph_print_dot(program, &text);
    cr_expect_eq(count_of(text.at, "{"), count_of(text.at, "}"));
    cr_expect_not_null(strstr(text.at, "label=\"a \\\"b\\\"?<c>\\n"), "%s", text.at);
    cr_expect_gt(count_of(text.at, " -> "), 3);
    cr_expect_eq(count_of(text.at, "fillcolor=\"#f4b183\""), 1, "one gradient");
    for (char *line = strtok(text.at, "\n"); line; line = strtok(NULL, "\n")) { /* quotes are closed on each line */
        int quotes = 0;
        for (const char *at = line; *at; at++)
            quotes += *at == '"' && (at == line || at[-1] != '\\');
        cr_expect_eq(quotes % 2, 0, "%s", line);
    }
    text_free(&text);
    graph_print_mermaid(program, &text);
    cr_expect_eq(strncmp(text.at, "flowchart TB\n", 13), 0);
    cr_expect_not_null(strstr(text.at, "[\"a #34;b#34;?#60;c#62;<br/>"), "%s", text.at);
    cr_expect_eq(count_of(text.at, "subgraph"), count_of(text.at, "\n  end"));
    cr_expect_eq(count_of(text.at, "]:::gradient"), 1);
    text_free(&text);
}
