/* Mathematics for `bpc explain`: the rules that trees keep, what each style writes, and that a wrong formula is found. */
#include "../../compiler/explain/page.h"

#include "graph_fixture.h"

TestSuite(explain, .init = start, .fini = end);

static Math *named(const char *letter, const char *index, const Variable *variable) {
    Symbol *symbol = arena_new_of(arena, Symbol);
    symbol->letter = letter;
    symbol->index = index;
    return math_symbol(arena, symbol, variable->view);
}

static Math *vector(const char *letter, const char *index) {
    return named(letter, index, variable(true, 1, (int64_t[]){3}, 0.5, 2));
}

static Math *number(const char *letter) {
    return named(letter, NULL, variable(true, 0, NULL, 0.5, 2));
}

static Math *of(MathKind kind, Math *x, Math *y) {
    Math *args[2] = {x, y};
    return math_new(arena, kind, x->rank, x->dims, args, y ? 2 : 1);
}

static const char *in(const MathStyle *style, const Math *x) {
    Text text = {0};
    math_write(style, NULL, x, &text);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

static void says(const Math *x, const char *text, const char *latex) {
    cr_expect_str_eq(in(&text_style, x), text);
    cr_expect_str_eq(in(&latex_style, x), latex);
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */

static void means(const Math *x, const char *text, double (*truth)(double a, double b), const Math *a, const Math *b) {
    cr_expect_str_eq(in(&text_style, x), text);
    const Evaluation *ours = evaluate(arena, math_value(graph, x));
    const Evaluation *left = evaluate(arena, a->node), *right = evaluate(arena, b->node);
    for (int64_t i = 0; i < left->rows * left->elements; i++) {
        double wanted = truth(left->values[i], right->values[i]);
        double found = ours->values[ours->elements > 1 || ours->rows > 1 ? i : 0];
        cr_expect(fabs(found - wanted) <= 1e-13 * fmax(1, fabs(wanted)), "%s is %.17g, not %.17g", text, found, wanted);
    }
}

static double twice(double a, double b) {
    return a + a + 0 * b;
}
static double difference_over(double a, double b) {
    return (a - b) / 4;
}
static double nothing(double a, double b) {
    return 0 * a * b;
}
static double negative_product(double a, double b) {
    return -a * b;
}
static double square(double a, double b) {
    return a * a / b;
}
static double three(double a, double b) {
    return 3 - a - b;
}

Test(explain, trees_are_gathered) {
    Math *a = vector("a", NULL), *b = vector("b", NULL), *four = math_number(arena, 4);
    means(math_add(arena, a, a), "2 a", twice, a, b);
    means(math_collected(arena, math_subtract(arena, math_divide(arena, a, four), math_divide(arena, b, four))),
          "(a − b)/4", difference_over, a, b);
    means(math_collected(
              arena, math_add(arena, math_negative(arena, math_divide(arena, b, four)), math_divide(arena, a, four))),
          "(a − b)/4", difference_over, a, b);
    means(math_subtract(arena, a, a), "0", nothing, a, b);
    means(math_multiply(arena, math_number(arena, 0), a), "0", nothing, a, b);
    means(math_multiply(arena, math_negative(arena, a), b), "−a ⊙ b", negative_product, a, b);
    means(math_multiply(arena, math_divide(arena, a, b), a), "a²/b", square, a, b);
    means(
        math_subtract(arena, math_subtract(arena, math_number(arena, 4), math_add(arena, a, b)), math_number(arena, 1)),
        "3 − a − b", three, a, b);
}

/* ---- what is written --------------------------------------------------------------------------------------------- */

Test(explain, parentheses_keep_the_meaning) {
    Math *a = vector("a", NULL), *b = vector("b", "fc1"), *s = number("s");
    Math *sum = math_add(arena, a, b), *difference = math_subtract(arena, a, b);
    says(math_multiply(arena, sum, b), "(a + b_fc1) ⊙ b_fc1",
         "\\mathopen{}\\left({a} + {b_{\\mathrm{fc1}}}\\right)\\mathclose{} \\odot {b_{\\mathrm{fc1}}}");
    says(math_divide(arena, a, sum), "a/(a + b_fc1)", "\\frac{{a}}{{a} + {b_{\\mathrm{fc1}}}}");
    says(math_divide(arena, a, math_multiply(arena, s, b)), "a/(s b_fc1)", "\\frac{{a}}{{s}\\,{b_{\\mathrm{fc1}}}}");
    cr_expect_str_eq(in(&text_style, math_subtract(arena, a, math_negative(arena, b))), "a + b_fc1");
    cr_expect_str_eq(in(&text_style, math_negative(arena, difference)), "−a + b_fc1");
    cr_expect_str_eq(in(&text_style, of(MATH_POWER, sum, math_number(arena, 2))), "(a + b_fc1)²");
    cr_expect_str_eq(in(&text_style, of(MATH_POWER, a, math_add(arena, s, math_number(arena, 1)))), "a^(s + 1)");
    cr_expect_str_eq(in(&text_style, of(MATH_ROOT, sum, NULL)), "√(a + b_fc1)");
    cr_expect_str_eq(in(&text_style, of(MATH_ROOT, a, NULL)), "√a");
}

Test(explain, products_of_matrices) {
    const int64_t wide[2] = {2, 3};
    Math *w = named("W", "fc1", variable(false, 2, wide, 0, 1)), *x = vector("x", NULL);
    Math *d = named("δ", "fc1", variable(true, 1, wide, 0, 1)), *args[2] = {w, x};
    Math *forward = math_new(arena, MATH_MATRIX_PRODUCT, 1, wide, args, 2);
    says(forward, "W_fc1 x", "{W_{\\mathrm{fc1}}}\\,{x}");
    args[1] = d;
    Math *backward = math_new(arena, MATH_MATRIX_PRODUCT, 1, wide + 1, args, 2);
    backward->turned[0] = true;
    says(math_multiply(arena, backward, x), "(W_fc1ᵀ δ_fc1) ⊙ x",
         "\\mathopen{}\\left({{W_{\\mathrm{fc1}}}}^{\\mathsf{T}}\\,{\\delta_{\\mathrm{fc1}}}\\right)\\mathclose{} "
         "\\odot {x}");
    Math *sides[2] = {d, x}, *outer = math_new(arena, MATH_MATRIX_PRODUCT, 2, wide, sides, 2);
    outer->turned[1] = true;
    Math *sum = math_new(arena, MATH_ROWS_SUM, 2, wide, &outer, 1);
    says(sum, "∑ₙ δ_fc1 xᵀ", "\\sum_{n} {\\delta_{\\mathrm{fc1}}}\\,{{x}}^{\\mathsf{T}}");
    Node *value = math_value(graph, sum);
    cr_expect(value->rank == 2 && value->dims[0] == 2 && value->dims[1] == 3 && !value->batched);
}

Test(explain, sums_name_elements) {
    Math *y = vector("y", NULL), *p = vector("p", NULL), *h = vector("h", "fc1");
    Math *log = math_new(arena, MATH_FUNCTION, 1, p->dims, &p, 1);
    log->name = "log";
    log->op = OP_LOG;
    Math *product = math_multiply(arena, y, log);
    Math *sum = math_new(arena, MATH_ELEMENTS_SUM, 0, NULL, &product, 1);
    says(math_negative(arena, sum), "−∑ₖ yₖ log pₖ", "-\\sum_{k} {{y}}_{k}\\,\\operatorname{log}\\,{{p}}_{k}");
    Math *squares = of(MATH_POWER, h, math_number(arena, 2)),
         *scalar = math_new(arena, MATH_ELEMENTS_SUM, 0, NULL, &squares, 1);
    cr_expect_str_eq(in(&text_style, scalar), "∑ₖ ((h_fc1)ₖ)²");
    cr_expect_str_eq(in(&text_style, math_divide(arena, scalar, math_number(arena, 3))), "1/3 ∑ₖ ((h_fc1)ₖ)²");
}

Test(explain, mathml_has_its_parts) {
    Math *a = vector("a", "1"), *b = vector("b", NULL);
    cr_expect_str_eq(in(&mathml_style, math_divide(arena, a, b)),
                     "<mfrac><mrow><msub><mi>a</mi><mtext>1</mtext></msub></mrow><mrow><mi>b</mi></mrow></mfrac>");
    cr_expect_str_eq(in(&mathml_style, of(MATH_POWER, b, math_number(arena, 2))),
                     "<msup><mrow><mi>b</mi></mrow><mrow><mn>2</mn></mrow></msup>");
    Math *less[2] = {b, a}, *relation = math_new(arena, MATH_RELATION, 1, a->dims, less, 2);
    relation->op = OP_LESS;
    cr_expect_str_eq(in(&mathml_style, relation), "<mi>b</mi><mo>&lt;</mo><msub><mi>a</mi><mtext>1</mtext></msub>");
}

static const char *digits(const MathStyle *style, double value, int count) {
    Text text = {0};
    number_write(style, value, count, &text);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

Test(explain, numbers_have_the_digits_asked_for) {
    cr_expect_str_eq(digits(&text_style, 0.2337953, 6), "0.233795");
    cr_expect_str_eq(digits(&text_style, -8.230171e-5, 6), "−8.23017e-05");
    cr_expect_str_eq(digits(&text_style, 0.1, 3), "0.100");
    cr_expect_str_eq(digits(&text_style, 12345.678, 2), "1.2e+04");
    cr_expect_str_eq(digits(&text_style, 7, 1), "7");
    cr_expect_str_eq(digits(&text_style, 0, 6), "0");
    cr_expect_str_eq(digits(&text_style, 1 - 0.9, 0), "0.1");
    cr_expect_str_eq(digits(&text_style, 1e-8, 0), "10⁻⁸");
    cr_expect_str_eq(digits(&text_style, NAN, 6), "nan");
    cr_expect_str_eq(digits(&text_style, -INFINITY, 6), "−∞");
    cr_expect_str_eq(digits(&latex_style, -8.230171e-5, 6), "-8.23017 \\cdot 10^{-5}");
    cr_expect_str_eq(digits(&mathml_style, 2.5e-7, 2),
                     "<mn>2.5</mn><mo>·</mo><msup><mn>10</mn><mrow><mo>−</mo><mn>7</mn></mrow></msup>");
}

static const char *index_in(const char *index, const char *prefix, int64_t count) {
    Text text = {0};
    index_text(index, prefix ? &(Fold){prefix, count} : NULL, &text);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

Test(explain, alike_layers_have_i_for_their_number) {
    int64_t count = -1;
    cr_expect_eq(index_number("body.3.fc1", &count), 5);
    cr_expect_eq(count, 3);
    cr_expect_eq(index_number("fc12", &count), 2);
    cr_expect_eq(count, 12);
    cr_expect_eq(index_number("12", &count), 0);
    cr_expect_eq(index_number("head", &count), INDEX_PLAIN);
    cr_expect_str_eq(index_in("body.3.fc1", NULL, 0), "body[3].fc1");
    cr_expect_str_eq(index_in("body.3.fc1", "body.", 3), "body[i].fc1");
    cr_expect_str_eq(index_in("body.2", "body.", 3), "body[i − 1]");
    cr_expect_str_eq(index_in("fc5", "fc", 4), "fc[i + 1]");
    cr_expect_str_eq(index_in("stem", "fc", 4), "stem");
    cr_expect_str_eq(index_in("4", "", 5), "i-1");
}

/* ---- a formula that the graph does not compute ------------------------------------------------------------------- */

static Derivation *derivation_of(Math *right, Node *node) {
    static GraphTrain train;
    static GraphProgram program;
    static Program parameters;
    Derivation *derivation = arena_new_of(arena, Derivation);
    program = (GraphProgram){.graph = graph, .program = &parameters};
    train = (GraphTrain){0};
    *derivation = (Derivation){.arena = arena, .program = &program, .train = &train};
    Symbol *left = arena_new_of(arena, Symbol);
    left->letter = "z";
    *LIST_ADD(arena, &derivation->equations) =
        (Equation){.part = PART_FORWARD, .left = left, .right = right, .node = node};
    return derivation;
}

Test(explain, a_right_formula_passes) {
    Math *a = vector("a", NULL), *b = vector("b", NULL);
    derivation_check(derivation_of(math_subtract(arena, a, b), op2(OP_SUBTRACT, a->node, b->node)));
}

Test(explain, a_wrong_formula_is_found, .exit_code = 70) {
    Math *a = vector("a", NULL), *b = vector("b", NULL);
    derivation_check(derivation_of(math_subtract(arena, b, a), op2(OP_SUBTRACT, a->node, b->node)));
}
