/* Trees of mathematics: constructors that flatten sums, products and quotients, and the way back to the graph. */
#include "mathematics.h"

#include <math.h>
#include <string.h>

Math *math_new(Arena *arena, MathKind kind, int rank, const int64_t *dims, Math **args, int count) {
    Math *x = arena_new_of(arena, Math);
    x->kind = kind;
    x->rank = rank;
    for (int i = 0; i < rank; i++)
        x->dims[i] = dims[i];
    x->args = arena_array(arena, Math *, count ? count : 1);
    for (int i = 0; i < count; i++)
        x->args[i] = args[i];
    x->arg_count = count;
    return x;
}

Math *math_number(Arena *arena, double number) {
    if (number < 0)
        return math_negative(arena, math_number(arena, -number));
    Math *x = math_new(arena, MATH_NUMBER, 0, NULL, NULL, 0);
    x->number = number;
    return x;
}

bool math_is_number(const Math *x, double number) {
    return x->kind == MATH_NUMBER && x->number == number;
}

static const Math *shaped_of(Math *const *args, int count) {
    const Math *shaped = args[0];
    for (int i = 1; i < count; i++)
        if (args[i]->rank > shaped->rank)
            shaped = args[i];
    return shaped;
}

/* Of the shape that the args have together. */
static Math *broadcast(Arena *arena, MathKind kind, Math **args, int count) {
    const Math *shaped = shaped_of(args, count);
    return math_new(arena, kind, shaped->rank, shaped->dims, args, count);
}

/* ---- sums -------------------------------------------------------------------------------------------------------- */

typedef struct Terms {
    LIST(Math *) terms;
    LIST(bool) minus;
} Terms;

static void add_terms(Arena *arena, Terms *into, Math *x, bool minus) {
    int count = x->kind == MATH_SUM ? x->arg_count : 1;
    for (int i = 0; i < count; i++) {
        *LIST_ADD(arena, &into->terms) = x->kind == MATH_SUM ? x->args[i] : x;
        *LIST_ADD(arena, &into->minus) = x->kind == MATH_SUM ? x->minus[i] != minus : minus;
    }
}

/* Numbers come together, and so does what is equal: x + x = 2 x, x - x = 0. */
static Terms gathered(Arena *arena, const Terms *terms) {
    Terms result = {0};
    double number = 0;
    int place = -1;
    for (int i = 0; i < terms->terms.count; i++) {
        Math *term = terms->terms.at[i];
        double times = 0;
        bool before = false;
        if (term->kind == MATH_NUMBER) {
            number += terms->minus.at[i] ? -term->number : term->number;
            if (place < 0)
                place = result.terms.count;
            continue;
        }
        for (int j = 0; j < terms->terms.count; j++)
            if (math_equal(terms->terms.at[j], term)) {
                times += terms->minus.at[j] ? -1 : 1;
                before |= j < i;
            }
        if (before || times == 0)
            continue;
        *LIST_ADD(arena, &result.terms) =
            fabs(times) == 1 ? term : math_multiply(arena, math_number(arena, fabs(times)), term);
        *LIST_ADD(arena, &result.minus) = times < 0;
    }
    if (number == 0 && result.terms.count)
        return result;
    if (place < 0)
        place = 0;
    *LIST_ADD(arena, &result.terms) = NULL;
    *LIST_ADD(arena, &result.minus) = false;
    for (int i = result.terms.count - 1; i > place; i--) {
        result.terms.at[i] = result.terms.at[i - 1];
        result.minus.at[i] = result.minus.at[i - 1];
    }
    result.terms.at[place] = math_number(arena, fabs(number));
    result.minus.at[place] = number < 0;
    return result;
}

static Math *sum_of(Arena *arena, const Terms *given) {
    Terms all = gathered(arena, given), *terms = &all;
    if (terms->terms.count == 1 && !terms->minus.at[0])
        return terms->terms.at[0];
    Math *sum = broadcast(arena, MATH_SUM, terms->terms.at, terms->terms.count);
    sum->minus = terms->minus.at;
    return sum;
}

Math *math_negative(Arena *arena, Math *x) {
    if (math_is_number(x, 0))
        return x;
    Terms terms = {0};
    add_terms(arena, &terms, x, true);
    return sum_of(arena, &terms);
}

Math *math_add(Arena *arena, Math *x, Math *y) {
    Terms terms = {0};
    add_terms(arena, &terms, x, false);
    add_terms(arena, &terms, y, false);
    return sum_of(arena, &terms);
}

Math *math_subtract(Arena *arena, Math *x, Math *y) {
    Terms terms = {0};
    add_terms(arena, &terms, x, false);
    add_terms(arena, &terms, y, true);
    return sum_of(arena, &terms);
}

bool math_is_negative(const Math *x) {
    return x->kind == MATH_SUM && x->minus[0];
}

/* ---- products and quotients -------------------------------------------------------------------------------------- */

typedef LIST(Math *) Factors;

/* A product under way: what stands above and below the line, numbers apart. */
typedef struct Ratio {
    double above, below;
    bool minus;
    Factors over, under;
} Ratio;

static void add_factors(Arena *arena, Ratio *ratio, Math *x, bool under) {
    if (x->kind == MATH_QUOTIENT) {
        add_factors(arena, ratio, x->args[0], under);
        add_factors(arena, ratio, x->args[1], !under);
    } else if (x->kind == MATH_PRODUCT) {
        for (int i = 0; i < x->arg_count; i++)
            add_factors(arena, ratio, x->args[i], under);
    } else if (x->kind == MATH_SUM && x->arg_count == 1) {
        ratio->minus = !ratio->minus;
        add_factors(arena, ratio, x->args[0], under);
    } else if (x->kind == MATH_NUMBER && x->rank == 0) {
        *(under ? &ratio->below : &ratio->above) *= x->number;
    } else if (under) {
        *LIST_ADD(arena, &ratio->under) = x;
    } else {
        *LIST_ADD(arena, &ratio->over) = x;
    }
}

/* Where a factor stands: numbers, what is one number a row, parameters, other vectors and matrices. */
static int standing(const Math *x) {
    return x->rank == 0 ? 0 : x->kind == MATH_SYMBOL && x->node->op == OP_TENSOR ? 1 : 2;
}

/* The same thing n times becomes a power. */
static Math *product_of(Arena *arena, double number, const Factors *factors) {
    LIST(Math *) all = {0};
    if (number != 1 || factors->count == 0)
        *LIST_ADD(arena, &all) = math_number(arena, number);
    for (int place = 0; place < 3; place++)
        for (int i = 0; i < factors->count; i++) {
            Math *factor = factors->at[i];
            bool before = false;
            double times = 1;
            if (standing(factor) != place)
                continue;
            for (int j = 0; j < i; j++)
                before |= math_equal(factors->at[j], factor);
            for (int j = i + 1; j < factors->count; j++)
                times += math_equal(factors->at[j], factor);
            if (before)
                continue;
            if (times > 1) {
                Math *args[2] = {factor, math_number(arena, times)};
                factor = broadcast(arena, MATH_POWER, args, 2);
            }
            *LIST_ADD(arena, &all) = factor;
        }
    return all.count == 1 ? all.at[0] : broadcast(arena, MATH_PRODUCT, all.at, all.count);
}

static bool take(Factors *factors, const Math *wanted) {
    for (int i = 0; i < factors->count; i++)
        if (math_equal(factors->at[i], wanted)) {
            memmove(&factors->at[i], &factors->at[i + 1], sizeof(Math *) * (size_t)(factors->count - i - 1));
            factors->count--;
            return true;
        }
    return false;
}

static Math *ratio_of(Arena *arena, Ratio *ratio) {
    const double normal = 2.5066282746310005; /* sqrt(2 pi) */
    if (ratio->above == 0)
        return math_number(arena, 0);
    for (int i = ratio->over.count - 1; i >= 0; i--) { /* B / B */
        Math *factor = ratio->over.at[i];
        if (factor->kind == MATH_SYMBOL && factor->node->op == OP_SCALAR && take(&ratio->under, factor))
            take(&ratio->over, factor);
    }
    if (fabs(ratio->above / ratio->below * normal - 1) < 1e-15) {
        ratio->above = 1;
        ratio->below = normal;
    }
    if (ratio->below != 1 && fmod(ratio->above, ratio->below) == 0) {
        ratio->above /= ratio->below;
        ratio->below = 1;
    } else if (ratio->above != 1 && ratio->above != 0 && fmod(ratio->below, ratio->above) == 0) {
        ratio->below /= ratio->above;
        ratio->above = 1;
    }
    Math *x = product_of(arena, ratio->above, &ratio->over);
    if (ratio->below != 1 || ratio->under.count) {
        Math *sides[2] = {x, product_of(arena, ratio->below, &ratio->under)};
        x = broadcast(arena, MATH_QUOTIENT, sides, 2);
    }
    return ratio->minus ? math_negative(arena, x) : x;
}

Math *math_multiply(Arena *arena, Math *x, Math *y) {
    Ratio ratio = {.above = 1, .below = 1};
    add_factors(arena, &ratio, x, false);
    add_factors(arena, &ratio, y, false);
    return ratio_of(arena, &ratio);
}

Math *math_divide(Arena *arena, Math *x, Math *y) {
    Ratio ratio = {.above = 1, .below = 1};
    add_factors(arena, &ratio, x, false);
    add_factors(arena, &ratio, y, true);
    return ratio_of(arena, &ratio);
}

/* Moves from all of the ratios into `common` what each of them has (above or below the line). */
static void take_common(Arena *arena, Ratio *ratios, int count, bool under, Factors *common) {
    Factors *first = under ? &ratios[0].under : &ratios[0].over;
    for (int i = 0; i < first->count;) {
        Math *factor = first->at[i];
        bool shared = true;
        for (int j = 1; j < count && shared; j++) {
            const Factors *other = under ? &ratios[j].under : &ratios[j].over;
            bool has = false;
            for (int k = 0; k < other->count; k++)
                has |= math_equal(other->at[k], factor);
            shared = has;
        }
        if (!shared) {
            i++;
            continue;
        }
        *LIST_ADD(arena, common) = factor;
        for (int j = 0; j < count; j++)
            take(under ? &ratios[j].under : &ratios[j].over, factor);
    }
}

Math *math_collected(Arena *arena, Math *sum) {
    if (sum->kind != MATH_SUM || sum->arg_count < 2)
        return sum;
    Ratio *ratios = arena_array(arena, Ratio, sum->arg_count), outside = {.above = 1, .below = 1};
    for (int i = 0; i < sum->arg_count; i++) {
        ratios[i] = (Ratio){.above = 1, .below = 1, .minus = sum->minus[i]};
        add_factors(arena, &ratios[i], sum->args[i], false);
    }
    take_common(arena, ratios, sum->arg_count, false, &outside.over);
    take_common(arena, ratios, sum->arg_count, true, &outside.under);
    bool number = ratios[0].above != 1 || ratios[0].below != 1;
    for (int i = 1; i < sum->arg_count; i++)
        number &= ratios[i].above == ratios[0].above && ratios[i].below == ratios[0].below;
    for (int i = 0; number && i < sum->arg_count; i++) {
        outside.above = ratios[i].above;
        outside.below = ratios[i].below;
        ratios[i].above = ratios[i].below = 1;
    }
    if (outside.over.count + outside.under.count == 0 && !number)
        return sum;
    Terms terms = {0};
    for (int minus = 0; minus < 2; minus++) /* what is added first: p - y */
        for (int i = 0; i < sum->arg_count; i++)
            if (ratios[i].minus == minus) {
                ratios[i].minus = false;
                add_terms(arena, &terms, ratio_of(arena, &ratios[i]), minus);
                ratios[i].minus = minus;
            }
    Math *rest = sum_of(arena, &terms);
    if (rest->rank == 0 && sum->rank > 0 &&
        (outside.over.count == 0 || shaped_of(outside.over.at, outside.over.count)->rank == 0))
        return sum;
    add_factors(arena, &outside, rest, false);
    return ratio_of(arena, &outside);
}

bool math_equal(const Math *x, const Math *y) {
    if (x == y)
        return true;
    if (x->kind != y->kind || x->arg_count != y->arg_count || x->rank != y->rank || x->number != y->number ||
        x->op != y->op || x->first != y->first || (x->kind == MATH_SYMBOL && x->node != y->node) ||
        memcmp(x->turned, y->turned, sizeof x->turned) != 0 || memcmp(x->dims, y->dims, sizeof x->dims) != 0)
        return false;
    if ((x->name || y->name) && (!x->name || !y->name || strcmp(x->name, y->name) != 0))
        return false;
    for (int i = 0; i < x->arg_count; i++)
        if (!math_equal(x->args[i], y->args[i]) || (x->kind == MATH_SUM && x->minus[i] != y->minus[i]))
            return false;
    return true;
}

/* ---- back to the graph ------------------------------------------------------------------------------------------- */

typedef struct Replacement {
    Node *const *of;
    Node **by;
    int count;
} Replacement;

static Node *replaced(void *context, Node *node) {
    const Replacement *replacement = context;
    for (int i = 0; i < replacement->count; i++)
        if (replacement->of[i] == node)
            return replacement->by[i];
    return NULL;
}

/* A def's formula with other arguments. */
static Node *custom_value(Graph *graph, const Node *node, Node **args, int count) {
    Replacement replacement = {node->args + 1, args, count};
    Rewriter rewriter;
    bool same = true;
    for (int i = 0; i < count; i++)
        same &= args[i] == node->args[i + 1];
    if (same)
        return (Node *)node;
    rewrite_start(&rewriter, graph, replaced, &replacement);
    return rewrite(&rewriter, node->args[0]);
}

static Node *function_value(Graph *graph, const Math *x, Node **args) {
    switch (x->op) {
    case OP_CUSTOM:
        for (int i = x->arg_count; i < x->node->arg_count - 1; i++)
            args[i] = x->node->args[i + 1];
        return custom_value(graph, x->node, args, x->node->arg_count - 1);
    case OP_EXPM1:
    case OP_LOG1P:
        BUG("'%s' has no function of its own", op_table[x->op].name);
    case OP_SUM:
        return node_sum(graph, args[0], (int)x->first);
    case OP_MAX_OF:
        return node_max_of(graph, args[0], (int)x->first);
    case OP_ARGMAX:
        return node_argmax(graph, args[0]);
    case OP_ONE_HOT:
        return x->arg_count == 1 ? node_one_hot(graph, args[0], x->dims[0])
                                 : node_bag(graph, args[0], args[1], x->dims[0]);
    case OP_GATHER:
        return node_gather(graph, args[0], args[1]);
    case OP_DETACH:
        return node_detach(graph, args[0]);
    case OP_CONTRACT:
        return node_contract(graph, args[0], args[1], x->node->contract, x->rank);
    case OP_IOTA:
        return node_iota(graph, x->dims[0]);
    case OP_COUNT: { /* softmax */
        Node *u = node_op(graph, OP_SUBTRACT, args[0], node_max_of(graph, node_detach(graph, args[0]), AXIS_ALL), NULL);
        Node *e = node_op(graph, OP_EXP, u, NULL, NULL);
        return node_op(graph, OP_DIVIDE, e, node_sum(graph, e, AXIS_ALL), NULL);
    }
    default:
        return node_op(graph, x->op, args[0], x->arg_count > 1 ? args[1] : NULL, NULL);
    }
}

/* Of vectors and matrices: the letter that they share is the inner one. */
static Node *product_value(Graph *graph, const Math *x, Node *left, Node *right) {
    enum { ROW, INNER, COLUMN };
    ContractSpec spec = {0};
    bool outer = left->rank == 1 && right->rank == 1 && !x->turned[0] && x->turned[1];
    if (outer) {
        spec = (ContractSpec){.left = {ROW}, .right = {COLUMN}, .out = {ROW, COLUMN}};
        return node_contract(graph, left, right, spec, 2);
    }
    int rank = 0;
    spec.left[0] = spec.right[0] = INNER;
    if (left->rank == 2) {
        spec.left[x->turned[0]] = ROW;
        spec.left[!x->turned[0]] = INNER;
        spec.out[rank++] = ROW;
    }
    if (right->rank == 2) {
        spec.right[x->turned[1]] = INNER;
        spec.right[!x->turned[1]] = COLUMN;
        spec.out[rank++] = COLUMN;
    }
    return node_contract(graph, left, right, spec, rank);
}

static Node *folded(Graph *graph, Op op, Node **args, int count) {
    Node *result = args[0];
    for (int i = 1; i < count; i++)
        result = node_op(graph, op, result, args[i], NULL);
    return result;
}

Node *math_value(Graph *graph, const Math *x) {
    Arena *arena = graph_arena(graph);
    Node **args = arena_array(arena, Node *, x->arg_count + 8);
    for (int i = 0; i < x->arg_count; i++)
        args[i] = math_value(graph, x->args[i]);
    switch (x->kind) {
    case MATH_NUMBER:
        return node_constant(graph, x->number);
    case MATH_SYMBOL:
        return x->node;
    case MATH_SUM: {
        Node *sum = x->minus[0] ? node_op(graph, OP_NEGATE, args[0], NULL, NULL) : args[0];
        for (int i = 1; i < x->arg_count; i++)
            sum = node_op(graph, x->minus[i] ? OP_SUBTRACT : OP_ADD, sum, args[i], NULL);
        return sum;
    }
    case MATH_PRODUCT:
        return folded(graph, OP_MULTIPLY, args, x->arg_count);
    case MATH_QUOTIENT:
        return node_op(graph, OP_DIVIDE, args[0], args[1], NULL);
    case MATH_POWER:
        return node_op(graph, OP_POWER, args[0], args[1], NULL);
    case MATH_MATRIX_PRODUCT:
        return product_value(graph, x, args[0], args[1]);
    case MATH_TRANSPOSED:
        return node_transpose(graph, args[0]);
    case MATH_FUNCTION:
        return function_value(graph, x, args);
    case MATH_ABSOLUTE:
        return node_op(graph, OP_ABSOLUTE, args[0], NULL, NULL);
    case MATH_ROOT:
        return node_op(graph, OP_SQRT, args[0], NULL, NULL);
    case MATH_FLOOR:
        return node_op(graph, OP_FLOOR, args[0], NULL, NULL);
    case MATH_NORM_SQUARED:
        return node_sum(graph, node_op(graph, OP_MULTIPLY, args[0], args[0], NULL), AXIS_ALL);
    case MATH_CASES:
        return node_op(graph, OP_WHERE, args[0], args[1], args[2]);
    case MATH_RELATION:
        return node_op(graph, x->op, args[0], x->arg_count > 1 ? args[1] : NULL, NULL);
    case MATH_INDICATOR:
        return node_op(graph, OP_REAL, args[0], NULL, NULL);
    case MATH_ELEMENTS_SUM:
        return node_sum(graph, args[0], AXIS_ALL);
    case MATH_ROWS_SUM:
        return node_batch_sum(graph, args[0]);
    case MATH_RANGE:
        return node_slice(graph, args[0], x->first, x->dims[0]);
    case MATH_ROW:
        return x->arg_count == 2 ? node_lookup(graph, args[0], args[1])
                                 : node_lookup_bag(graph, args[0], args[1], args[2]);
    case MATH_STACK:
        return node_concat(graph, args, x->arg_count);
    case MATH_FILLED:
        return node_expand(graph, args[0], x->rank, x->dims);
    case MATH_RESHAPED:
        return node_reshape(graph, args[0], x->rank, x->dims);
    }
    BUG("no value of such mathematics");
}
