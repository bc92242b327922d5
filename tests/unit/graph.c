/* The graph's derivatives: each rule of the op table and of differentiate.c, once and twice, against central
   differences of graph_evaluate; at kinks against PyTorch 1.13; what is frozen costs nothing. */
#include "graph_fixture.h"

TestSuite(graph, .init = start, .fini = end);

/* ---- Derivatives against central differences --------------------------------------------------------------------- */

static double gradient_at(const Evaluation *gradient, const Variable *x, int i) {
    if (!gradient)
        return 0;
    int64_t row = gradient->rows > 1 ? i / (x->count / ROWS) : 0, elements = gradient->elements;
    return gradient->values[row * elements + i % elements];
}

/* d root / d x, every element, relative to the size of the values met. `what` names the case. */
static void compare(const char *what, Node *root, Variable *x, Node *gradient) {
    Arena *scratch = arena_new();
    if (gradient)
        cr_assert(node_same_shape(gradient, x->leaf), "%s: the gradient's shape", what);
    const Evaluation *exact = gradient ? evaluate(scratch, gradient) : NULL;
    for (int i = 0; i < x->count; i++) {
        double before = x->values[i], h = 1e-5 * fmax(1, fabs(before));
        x->values[i] = before + h;
        double above = value_of(root);
        x->values[i] = before - h;
        double below = value_of(root);
        x->values[i] = before;
        double difference = (above - below) / (2 * h), got = gradient_at(exact, x, i);
        double allowed = 2e-7 * (1 + fabs(difference)) + 1e-10 * (fabs(above) + fabs(below)) / h * 1e-5;
        cr_assert(fabs(difference - got) <= allowed, "%s: element %d: %.12g by differences, %.12g by the rule %s", what,
                  i, difference, got, gradient ? formula(gradient) : "none");
    }
    arena_free(scratch);
}

static void check_derivatives(const char *what, Node *f, Variable **x, int count) {
    Node *root = objective(f), *wrt[VARIABLES], *gradients[VARIABLES];
    for (int i = 0; i < count; i++)
        wrt[i] = x[i]->leaf;
    differentiate(graph, root, wrt, count, gradients);
    cr_assert_eq(error_count(), 0);
    graph_verify(graph);
    for (int i = 0; i < count; i++)
        compare(what, root, x[i], gradients[i]);
}

/* And the derivatives' own derivatives: of sum(gradient * fixed weights). */
static void check_second_derivatives(const char *what, Node *f, Variable **x, int count) {
    Node *root = objective(f), *wrt[VARIABLES], *gradients[VARIABLES], *second[VARIABLES];
    for (int i = 0; i < count; i++)
        wrt[i] = x[i]->leaf;
    differentiate(graph, root, wrt, count, gradients);
    for (int i = 0; i < count; i++) {
        if (!gradients[i])
            continue;
        Node *again = objective(gradients[i]);
        differentiate(graph, again, wrt, count, second);
        graph_verify(graph);
        for (int j = 0; j < count; j++)
            compare(what, again, x[j], second[j]);
        variable_count--;
    }
}

/* Where each op is smooth, for its arguments in order: a finite difference must not step over a kink. */
typedef struct Domain {
    Op op;
    double low[3], high[3];
} Domain;

static const Domain domains[] = {
    {OP_NEGATE, {-2}, {2}},
    {OP_ADD, {-2, -2}, {2, 2}},
    {OP_SUBTRACT, {-2, -2}, {2, 2}},
    {OP_MULTIPLY, {-2, -2}, {2, 2}},
    {OP_DIVIDE, {-2, 0.5}, {2, 2}},
    {OP_DIVIDE, {-2, -2}, {2, -0.5}},
    {OP_FMA, {-2, -2, -2}, {2, 2, 2}},
    {OP_MAXIMUM, {-2, 0.001}, {-0.001, 2}},
    {OP_MAXIMUM, {0.001, -2}, {2, -0.001}},
    {OP_MAXIMUM, {0.001, -0.002}, {0.002, -0.001}},
    {OP_MINIMUM, {-2, 0.001}, {-0.001, 2}},
    {OP_MINIMUM, {0.001, -2}, {2, -0.001}},
    {OP_ABSOLUTE, {0.001}, {2}},
    {OP_ABSOLUTE, {-2}, {-0.001}},
    {OP_ABSOLUTE, {-0.002}, {-0.001}},
    {OP_SIGN, {0.1}, {2}},
    {OP_SIGN, {-2}, {-0.1}},
    {OP_SQRT, {0.1}, {3}},
    {OP_FLOOR, {1.1}, {1.9}},
    {OP_ROUND, {0.6}, {1.4}},
    {OP_WHERE, {-2, -2, -2}, {-0.1, 2, 2}},
    {OP_WHERE, {0.1, -2, -2}, {2, 2, 2}},
    {OP_WHERE, {-2, -2, -2}, {2, 2, 2}},
    {OP_REAL, {-2}, {2}},
    {OP_EXP, {-3}, {3}},
    {OP_EXPM1, {-3}, {3}},
    {OP_LOG, {0.1}, {5}},
    {OP_LOG1P, {-0.9}, {5}},
    {OP_TANH, {-3}, {3}},
    {OP_SIN, {-6}, {6}},
    {OP_COS, {-6}, {6}},
    {OP_ERF, {-3}, {3}},
    {OP_POWER, {0.2, -2}, {3, 3}},
};

typedef void Check(const char *what, Node *f, Variable **x, int count);

/* The op on arguments of every form: batched or not, a vector or a number, each with each. */
static void check_element(const Domain *domain, Check *check) {
    const OpInfo *info = &op_table[domain->op];
    const int64_t dims[1] = {4};
    int forms = 1;
    for (int i = 0; i < info->arity; i++)
        forms *= 4;
    for (int form = 0; form < forms; form++) {
        start_again();
        Variable *x[3];
        Node *args[3] = {NULL};
        for (int i = 0, rest = form; i < info->arity; i++, rest /= 4) {
            x[i] = variable(rest & 1, rest & 2 ? 1 : 0, dims, domain->low[i], domain->high[i]);
            args[i] = x[i]->view;
        }
        if (domain->op == OP_WHERE)
            args[0] = op2(OP_LESS, constant(0), args[0]);
        check(arena_printf(arena, "%s, form %d", info->name, form),
              node_op(graph, domain->op, args[0], args[1], args[2]), x, info->arity);
    }
}

Test(graph, derivatives_of_elements) {
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
        check_element(&domains[i], check_derivatives);
}

Test(graph, second_derivatives_of_elements) {
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
        if (domains[i].op != OP_WHERE && domains[i].op != OP_FMA)
            check_element(&domains[i], check_second_derivatives);
}

/* pow with a constant exponent is rewritten, each exponent in its own way; x appears twice in x * x. */
Test(graph, derivatives_of_powers) {
    static const double exponents[] = {-2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 5};
    const int64_t dims[1] = {3};
    for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
        start_again();
        Variable *x = variable(true, 1, dims, 0.3, 2);
        check_derivatives("power", op2(OP_POWER, x->view, constant(exponents[i])), &x, 1);
        start_again();
        x = variable(false, 1, dims, 0.3, 2);
        check_second_derivatives("power, twice", op2(OP_POWER, x->view, constant(exponents[i])), &x, 1);
    }
}

/* Every row of the table that a graph can hold says what its derivative is, for each of its arguments and no more. */
Test(graph, the_table_is_complete) {
    for (int op = 0; op < OP_COUNT; op++) {
        const OpInfo *info = &op_table[op];
        if (info->class == CLASS_LEAF || info->class == CLASS_KERNEL)
            continue;
        bool in_domains = false;
        for (size_t i = 0; i < sizeof domains / sizeof *domains; i++)
            in_domains |= domains[i].op == (Op)op;
        for (int i = 0; i < 3; i++) {
            const char *rule = info->derivative[i];
            if (info->arity >= 0 && i >= info->arity) {
                cr_expect_str_empty(rule, "%s has a derivative for an argument that it lacks", info->name);
                continue;
            }
            cr_expect_str_not_empty(rule, "%s: argument %d has no derivative", info->name, i);
            bool special = !strcmp(rule, "0") || !strcmp(rule, "rule");
            cr_expect(info->class == CLASS_SHAPE ? special : strcmp(rule, "rule") != 0, "%s: '%s'", info->name, rule);
            cr_expect(info->class != CLASS_COMPARE || !strcmp(rule, "0"), "%s: a condition has no derivative",
                      info->name);
        }
        if (info->class == CLASS_ARITHMETIC || info->class == CLASS_MATH)
            cr_expect(in_domains, "%s is not held against differences", info->name);
    }
}

/* ---- Sums, products, moves --------------------------------------------------------------------------------------- */

typedef Node *Make(Variable **x);

typedef struct ShapeCase {
    const char *what;
    Make *make;
    int count;
    int rank[3];
    int64_t dims[3][3];
} ShapeCase;

static Node *make_expand(Variable **x) {
    return node_expand(graph, x[0]->view, 2, (const int64_t[]){2, 3});
}

static Node *make_reshape(Variable **x) {
    Node *matrix = node_reshape(graph, op1(OP_EXP, x[0]->view), 2, (const int64_t[]){3, 2});
    return op2(OP_MULTIPLY, matrix, matrix);
}

static Node *make_transpose(Variable **x) {
    return node_transpose(graph, op1(OP_EXP, x[0]->view));
}

static Node *make_slice_front(Variable **x) {
    return node_slice(graph, op1(OP_EXP, x[0]->view), 0, 2);
}

static Node *make_slice_middle(Variable **x) {
    return node_slice(graph, op1(OP_EXP, x[0]->view), 1, 2);
}

static Node *make_slice_end(Variable **x) {
    return node_slice(graph, op1(OP_EXP, x[0]->view), 3, 1);
}

static Node *make_slice_rows(Variable **x) {
    return node_slice(graph, op1(OP_EXP, x[0]->view), 1, 1);
}

static Node *make_concat(Variable **x) {
    Node *parts[4] = {x[0]->view, op1(OP_EXP, x[1]->view), x[2]->view, x[0]->view};
    return node_concat(graph, parts, 4);
}

static Node *make_matrices(Variable **x) {
    return product(x, (ContractSpec){.left = {0, 3}, .right = {3, 1}, .out = {0, 1}}, 2);
}

static Node *make_batch_matrix_vector(Variable **x) {
    Node *y = make_matrix_vector(x);
    return y->batched ? node_batch_sum(graph, y) : y;
}

static Node *make_square_of_product(Variable **x) {
    Node *y = make_matrix_vector(x);
    return op2(OP_MULTIPLY, y, y);
}

static Node *make_sum(Variable **x) {
    return op1(OP_EXP, node_sum(graph, x[0]->view, AXIS_ALL));
}

static Node *make_sum_0(Variable **x) {
    return op1(OP_EXP, node_sum(graph, x[0]->view, 0));
}

static Node *make_sum_1(Variable **x) {
    return op1(OP_EXP, node_sum(graph, x[0]->view, 1));
}

static Node *make_max(Variable **x) {
    return op1(OP_EXP, node_max_of(graph, x[0]->view, AXIS_ALL));
}

static Node *make_max_0(Variable **x) {
    return op1(OP_EXP, node_max_of(graph, x[0]->view, 0));
}

static Node *make_max_1(Variable **x) {
    return op1(OP_EXP, node_max_of(graph, x[0]->view, 1));
}

static Node *make_batch_sum(Variable **x) {
    return op1(OP_TANH, node_batch_sum(graph, x[0]->view));
}

static Node *make_center(Variable **x) { /* a value minus its mean over the batch */
    Node *mean = op2(OP_DIVIDE, node_batch_sum(graph, x[0]->view), node_rows(graph));
    Node *centred = op2(OP_SUBTRACT, x[0]->view, mean);
    return op2(OP_MULTIPLY, centred, centred);
}

static const ShapeCase shape_cases[] = {
    {"expand", make_expand, 1, {0}, {{0}}},
    {"reshape", make_reshape, 1, {2}, {{2, 3}}},
    {"transpose", make_transpose, 1, {2}, {{2, 3}}},
    {"slice, front", make_slice_front, 1, {1}, {{4}}},
    {"slice, middle", make_slice_middle, 1, {1}, {{4}}},
    {"slice, end", make_slice_end, 1, {1}, {{4}}},
    {"slice of a matrix", make_slice_rows, 1, {2}, {{3, 2}}},
    {"concat", make_concat, 3, {1, 0, 1}, {{2}, {0}, {3}}},
    {"matrix @ vector", make_matrix_vector, 2, {2, 1}, {{2, 3}, {3}}},
    {"vector @ matrix", make_vector_matrix, 2, {1, 2}, {{3}, {3, 2}}},
    {"matrix @ matrix", make_matrices, 2, {2, 2}, {{2, 3}, {3, 2}}},
    {"turned product", make_matrices_turned, 2, {2, 2}, {{2, 3}, {4, 3}}},
    {"dot", make_dot, 2, {1, 1}, {{3}, {3}}},
    {"outer", make_outer, 2, {1, 1}, {{3}, {2}}},
    {"outer over the batch", make_batch_outer, 2, {1, 1}, {{3}, {2}}},
    {"product over the batch", make_batch_matrix_vector, 2, {2, 1}, {{2, 3}, {3}}},
    {"square of a product", make_square_of_product, 2, {2, 1}, {{2, 3}, {3}}},
    {"sum", make_sum, 1, {2}, {{2, 3}}},
    {"sum, axis 0", make_sum_0, 1, {2}, {{2, 3}}},
    {"sum, axis 1", make_sum_1, 1, {2}, {{2, 3}}},
    {"sum of a cube, axis 1", make_sum_1, 1, {3}, {{2, 3, 2}}},
    {"max", make_max, 1, {2}, {{2, 3}}},
    {"max, axis 0", make_max_0, 1, {2}, {{2, 3}}},
    {"max, axis 1", make_max_1, 1, {2}, {{2, 3}}},
    {"max of a cube, axis 1", make_max_1, 1, {3}, {{2, 3, 2}}},
    {"batch_sum", make_batch_sum, 1, {1}, {{3}}},
    {"centred", make_center, 1, {1}, {{3}}},
    {"softmax", make_softmax, 1, {1}, {{4}}},
};

static void check_shapes(Check *check) {
    for (size_t i = 0; i < sizeof shape_cases / sizeof *shape_cases; i++) {
        const ShapeCase *one = &shape_cases[i];
        for (int form = 0; form < 1 << one->count; form++) {
            start_again();
            Variable *x[3];
            for (int j = 0; j < one->count; j++)
                x[j] = variable(form >> j & 1, one->rank[j], one->dims[j], -1, 1);
            check(arena_printf(arena, "%s, form %d", one->what, form), one->make(x), x, one->count);
        }
    }
}

Test(graph, derivatives_of_shapes) {
    check_shapes(check_derivatives);
}

Test(graph, second_derivatives_of_shapes) {
    check_shapes(check_second_derivatives);
}

/* Two rows read the same row of the table, one none: -1 reads zeros. */
Test(graph, derivative_of_lookup) {
    Variable *table = variable(false, 2, (const int64_t[]){4, 2}, -1, 1);
    Variable *index = index_variable((const double[]){2, 2, -1}, 4, 0);
    Node *rows = node_lookup(graph, table->view, index->view);
    Arena *scratch = arena_new();
    const Evaluation *got = evaluate(scratch, rows);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(got->values[i], i < 4 ? table->values[4 + i % 2] : 0);
    arena_free(scratch);
    check_derivatives("lookup", op1(OP_EXP, rows), &table, 1);
    check_second_derivatives("lookup, twice", op1(OP_EXP, rows), &table, 1);
}

/* Of several rows of a table, what each counts; what passes back to the rows, and to what is scattered, is differentiated
   again. The counts are given: no derivative passes to them. */
Test(graph, derivative_of_several_lookups) {
    Variable *table = variable(false, 2, (const int64_t[]){4, 2}, -1, 1);
    Variable *words = index_variable((const double[]){0, 2, -1, 3, 3, 2, -1, -1, -1}, 4, 3);
    Variable *counts = variable(true, 1, (const int64_t[]){3}, 1, 3);
    Node *bag = op1(OP_EXP, node_lookup_bag(graph, table->view, words->view, counts->view));
    check_derivatives("lookup of several", bag, &table, 1);
    check_second_derivatives("lookup of several, twice", bag, &table, 1);
    Variable *d = variable(true, 1, (const int64_t[]){2}, -1, 1);
    Node *where[2] = {words->view, counts->view};
    Node *scattered = node_scatter(graph, op1(OP_EXP, d->view), where, 2, 4);
    check_derivatives("scatter", op1(OP_EXP, scattered), &d, 1);
    check_second_derivatives("scatter, twice", op1(OP_EXP, scattered), &d, 1);
    check_derivatives("scatter, turned", op1(OP_EXP, node_transpose(graph, scattered)), &d, 1);
    graph_verify(graph);
}

Test(graph, nothing_passes_detach) {
    Variable *x = variable(true, 1, (const int64_t[]){3}, 1, 2);
    Node *root = total(op2(OP_MULTIPLY, node_detach(graph, op1(OP_EXP, x->view)), x->view)), *gradient;
    differentiate(graph, root, &x->leaf, 1, &gradient);
    Arena *scratch = arena_new();
    const Evaluation *got = evaluate(scratch, gradient);
    for (int i = 0; i < x->count; i++)
        cr_assert_float_eq(got->values[i], exp(x->values[i]), 1e-14);
    arena_free(scratch);
    differentiate(graph, total(node_detach(graph, x->view)), &x->leaf, 1, &gradient);
    cr_assert_null(gradient);
}

/* ---- Kinks: PyTorch 1.13's derivatives, printed by torch.autograd ------------------------------------------------ */

typedef struct Kink {
    Op op;
    double a, b, da, db;
} Kink;

static const Kink kinks[] = {
    {OP_MAXIMUM, 2, 2, 0.5, 0.5},
    {OP_MAXIMUM, 1, 2, 0, 1},
    {OP_MAXIMUM, 0, 0, 0.5, 0.5},
    {OP_MAXIMUM, -1, -2, 1, 0},
    {OP_MINIMUM, 2, 2, 0.5, 0.5},
    {OP_MINIMUM, 1, 2, 1, 0},
    {OP_MINIMUM, 0, 0, 0.5, 0.5},
    {OP_MINIMUM, -1, -2, 0, 1},
    {OP_ABSOLUTE, 0, 0, 0, 0},
    {OP_ABSOLUTE, -0.0, 0, 0, 0},
    {OP_ABSOLUTE, 1, 0, 1, 0},
    {OP_ABSOLUTE, -1, 0, -1, 0},
    {OP_SQRT, 0, 0, INFINITY, 0},
    {OP_LOG, 0, 0, INFINITY, 0},
    {OP_SIGN, 0, 0, 0, 0},
    {OP_POWER, 0, 0, 0, 0},
    {OP_POWER, 0, 1, 1, 0},
    {OP_POWER, 0, 2, 0, 0},
    {OP_POWER, 0, 0.5, INFINITY, 0},
    {OP_POWER, 0, -1, -INFINITY, -INFINITY},
    {OP_POWER, 2, 0, 0, 0.6931471805599453},
    {OP_POWER, -2, 2, -4, NAN},
    {OP_POWER, 3, -1, -0.1111111111111111, 0.3662040962227032},
};

static void expect_near(double got, double want, const char *what) {
    cr_expect((isnan(got) && isnan(want)) || got == want || fabs(got - want) <= 1e-14 * fabs(want),
              "%s: %.17g, not %.17g", what, got, want);
}

Test(graph, kinks_as_in_pytorch) {
    for (size_t i = 0; i < sizeof kinks / sizeof *kinks; i++) {
        const Kink *kink = &kinks[i];
        start_again();
        Variable *a = variable(false, 0, NULL, 0, 1), *b = variable(false, 0, NULL, 0, 1);
        a->values[0] = kink->a;
        b->values[0] = kink->b;
        Node *wrt[2] = {a->leaf, b->leaf}, *gradients[2];
        differentiate(graph, op2(kink->op, a->view, b->view), wrt, 2, gradients);
        const char *what = arena_printf(arena, "%s(%g, %g)", op_table[kink->op].name, kink->a, kink->b);
        expect_near(gradients[0] ? value_of(gradients[0]) : 0, kink->da, what);
        if (op_table[kink->op].arity == 2)
            expect_near(gradients[1] ? value_of(gradients[1]) : 0, kink->db, what);
    }
}

/* torch.amax([1, 3, 3, 3, 2]): each of the greatest gets a third */
Test(graph, ties_of_max_share) {
    static const double x_values[5] = {1, 3, 3, 3, 2}, want[5] = {0, 1. / 3, 1. / 3, 1. / 3, 0};
    Variable *x = variable(false, 1, (const int64_t[]){5}, 0, 1);
    memcpy(x->values, x_values, sizeof x_values);
    Node *gradient;
    differentiate(graph, node_max_of(graph, x->view, AXIS_ALL), &x->leaf, 1, &gradient);
    Arena *scratch = arena_new();
    const Evaluation *got = evaluate(scratch, gradient);
    for (int i = 0; i < 5; i++)
        expect_near(got->values[i], want[i], "max");
    arena_free(scratch);
}

/* ---- Frozen parameters cost nothing ------------------------------------------------------------------------------ */

static bool reads(const Node *node, const Node *what) {
    for (int i = 0; i < node->arg_count; i++)
        if (node->args[i] == what)
            return true;
    return false;
}

Test(graph, frozen_layers_get_no_adjoints) {
    Variable *x = variable(true, 1, (const int64_t[]){2}, -1, 1);
    Variable *w1 = variable(false, 2, (const int64_t[]){3, 2}, -1, 1),
             *w2 = variable(false, 2, (const int64_t[]){4, 3}, -1, 1);
    Node *h = op1(OP_TANH, make_matrix_vector((Variable *[]){w1, x}));
    Variable hidden = {.view = h};
    Node *y = make_matrix_vector((Variable *[]){w2, &hidden});
    Node *root = objective(y), *wrt[2] = {w2->leaf, w1->leaf}, *gradients[2];
    int before = graph_node_count(graph);
    differentiate(graph, root, wrt, 1, gradients);
    int upper_only = graph_node_count(graph) - before;
    for (int id = before; id < graph_node_count(graph); id++) {
        cr_expect(!reads(graph_node(graph, id), w2->leaf), "an adjoint went down past the weights");
        cr_expect(!reads(graph_node(graph, id), x->leaf), "a frozen layer got a gradient");
    }
    compare("the layer that is not frozen", root, w2, gradients[0]);
    before = graph_node_count(graph);
    differentiate(graph, root, wrt, 2, gradients);
    int lower_too = graph_node_count(graph) - before;
    cr_expect(upper_only > 0 && lower_too >= 5, "%d nodes for one layer, %d more for both", upper_only, lower_too);
    compare("both layers", root, w1, gradients[1]);
    /* nothing is wanted: nothing is made but the root's own adjoint, 1, which is there already */
    before = graph_node_count(graph);
    differentiate(graph, root, wrt, 0, gradients);
    cr_expect_eq(graph_node_count(graph), before);
}

/* floor lets nothing through: what lies behind it gets no adjoint. */
Test(graph, no_adjoints_behind_a_step) {
    Variable *x = variable(false, 1, (const int64_t[]){3}, -1, 1);
    Node *stepped = op1(OP_FLOOR, op1(OP_EXP, x->view)), *gradient;
    Node *root = objective(stepped);
    int before = graph_node_count(graph);
    differentiate(graph, root, &x->leaf, 1, &gradient);
    cr_expect_null(gradient);
    cr_expect_leq(graph_node_count(graph) - before, 1);
}
