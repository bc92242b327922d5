/* A node of the graph as a tree of mathematics, in the names that the derivation gave. */
#include "derivation.h"

#include <string.h>

Math *math_symbol(Arena *arena, const Symbol *symbol, Node *node) {
    Math *x = math_new(arena, MATH_SYMBOL, node->rank, node->dims, NULL, 0);
    x->symbol = symbol;
    x->node = node;
    return x;
}

static Math *made(const Naming *n, MathKind kind, const Node *node, Math **args, int count) {
    return math_new(n->arena, kind, node->rank, node->dims, args, count);
}

static Math *function(const Naming *n, const char *name, Node *node, Math **args, int count) {
    Math *x = made(n, MATH_FUNCTION, node, args, count);
    x->name = name;
    x->op = node->op;
    x->node = node;
    if (node->op == OP_SUM || node->op == OP_MAX_OF)
        x->first = node->integer;
    return x;
}

/* A minus in front of a sum over rows or elements. */
static Math *sum_over(const Naming *n, MathKind kind, const Node *node, Math *x) {
    bool minus = x->kind == MATH_SUM && x->arg_count == 1;
    Math *args[1] = {minus ? x->args[0] : x};
    Math *sum = made(n, kind, node, args, 1);
    return minus ? math_negative(n->arena, sum) : sum;
}

/* ---- products: where they are one of matrices and vectors -------------------------------------------------------- */

static bool has(const int8_t *letters, int rank, int8_t letter) {
    for (int i = 0; i < rank; i++)
        if (letters[i] == letter)
            return true;
    return false;
}

/* Which of the two axes is `letter`, of a matrix; a vector must have it alone. */
static bool turned(const int8_t *letters, int rank, int8_t first, bool *is) {
    *is = rank == 2 && letters[0] != first;
    return rank == 2 ? letters[0] == first || letters[1] == first : letters[0] == first;
}

/* left right with the sides in this order; NULL where it is no such product. */
static Math *matrix_product(const Naming *n, Node *node, int side) {
    Node *left = node->args[side], *right = node->args[1 - side];
    const int8_t *l = side ? node->contract.right : node->contract.left;
    const int8_t *r = side ? node->contract.left : node->contract.right, *out = node->contract.out;
    if (left->rank < 1 || left->rank > 2 || right->rank < 1 || right->rank > 2)
        return NULL;
    Math *args[2] = {math_of(n, left), math_of(n, right)};
    bool turns[2] = {false, false}, flipped[2];
    for (int i = 0; i < 2; i++) {
        flipped[i] = args[i]->kind == MATH_TRANSPOSED;
        args[i] = flipped[i] ? args[i]->args[0] : args[i];
    }
    if (left->rank == 1 && right->rank == 1 && node->rank == 2) {
        if (out[0] != l[0] || out[1] != r[0])
            return NULL;
        turns[1] = true; /* a b' */
    } else {
        int8_t inner = -1;
        for (int i = 0; i < left->rank; i++)
            if (has(r, right->rank, l[i]) && !has(out, node->rank, l[i]))
                inner = l[i];
        if (inner < 0 || node->rank != left->rank + right->rank - 2)
            return NULL;
        int8_t row = left->rank == 2 ? out[0] : -1, column = right->rank == 2 ? out[node->rank - 1] : -1;
        if (left->rank == 2 && !turned(l, 2, row, &turns[0]))
            return NULL;
        if (right->rank == 2 && (!turned(r, 2, inner, &turns[1]) || !has(r, 2, column)))
            return NULL;
        if (left->rank == 1)
            turns[0] = true; /* a' B, a' b */
    }
    Math *product = made(n, MATH_MATRIX_PRODUCT, node, args, 2);
    product->turned[0] = turns[0] != flipped[0];
    product->turned[1] = turns[1] != flipped[1];
    return product;
}

/* The same letters on both sides: element by element, and summed where they are not in the result. */
static Math *element_product(const Naming *n, const Node *node) {
    const Node *left = node->args[0], *right = node->args[1];
    const ContractSpec *spec = &node->contract;
    bool numbers = left->rank == 0 || right->rank == 0;
    bool alike = left->rank == right->rank && memcmp(spec->left, spec->right, (size_t)left->rank) == 0;
    const Node *shaped = left->rank ? left : right;
    const int8_t *letters = left->rank ? spec->left : spec->right;
    if (!numbers && !alike)
        return NULL;
    Math *product = math_multiply(n->arena, math_of(n, node->args[0]), math_of(n, node->args[1]));
    if (node->rank == shaped->rank && memcmp(letters, spec->out, (size_t)node->rank) == 0)
        return product;
    return node->rank == 0 ? sum_over(n, MATH_ELEMENTS_SUM, node, product) : NULL;
}

/* W' d is how it is said, not d' W; A B rather than (B' A')'. */
static int turns_of(const Math *product) {
    int turns = 0;
    for (int i = 0; i < 2; i++)
        turns += product->turned[i] ? (product->args[i]->rank == 1 ? 3 : 1) : 0;
    return turns;
}

/* Rows of a vector d, as often as the other side has elements: what summing along an axis gives back. */
static Math *contraction(const Naming *n, Node *node) {
    Math *x = matrix_product(n, node, 1); /* weights stand on the left: their ids are smaller, the product's is not */
    Math *other = matrix_product(n, node, 0);
    if (other && (!x || turns_of(other) < turns_of(x)))
        x = other;
    if (!x)
        x = element_product(n, node);
    if (!x) {
        Math *args[2] = {math_of(n, node->args[0]), math_of(n, node->args[1])};
        return function(n, "contract", node, args, 2);
    }
    return node->contract.over_batch ? sum_over(n, MATH_ROWS_SUM, node, x) : x;
}

/* ---- the other ops ----------------------------------------------------------------------------------------------- */

/* What is the same number in every element stands as the number beside what has the shape. */
static Math *beside(const Naming *n, const Node *node, int i) {
    Node *arg = node->args[i];
    bool other = false;
    for (int j = 0; j < node->arg_count; j++)
        other |= j != i && node->args[j]->rank > 0 && node->args[j]->op != OP_EXPAND;
    bool symbol = arg->id < n->count && n->symbols[arg->id];
    return arg->op == OP_EXPAND && other && !symbol ? math_of(n, arg->args[0]) : math_of(n, arg);
}

static Math *where(const Naming *n, Node *node) {
    Math *args[3] = {math_of(n, node->args[0]), beside(n, node, 1), beside(n, node, 2)};
    const Node *otherwise = node->args[2];
    if (otherwise->op == OP_EXPAND)
        otherwise = otherwise->args[0];
    const Node *then = node->args[1]->op == OP_EXPAND ? node->args[1]->args[0] : node->args[1];
    bool without = node_is_constant(then, 0);
    if (without || node_is_constant(otherwise, 0)) {
        Math *condition = args[0];
        if (without) {
            condition = math_new(n->arena, MATH_RELATION, args[0]->rank, args[0]->dims, args, 1);
            condition->op = OP_NOT;
        }
        Math *indicator = math_new(n->arena, MATH_INDICATOR, args[0]->rank, args[0]->dims, &condition, 1);
        return math_multiply(n->arena, args[without ? 2 : 1], indicator);
    }
    return made(n, MATH_CASES, node, args, 3);
}

static Math *relation(const Naming *n, Node *node) {
    Math *args[2] = {beside(n, node, 0), node->arg_count > 1 ? beside(n, node, 1) : NULL};
    Math *x = made(n, MATH_RELATION, node, args, node->arg_count);
    x->op = node->op;
    return x;
}

static bool is_default(const Item *item, int i, const Node *arg) {
    const Expr *fallback = item->params.at[i].fallback;
    return fallback && fallback->kind == EXPR_NUMBER && node_is_constant(arg, fallback->number);
}

/* Whether the def's formula reads other elements than the one that it gives. */
static bool mixes_elements(const Node *node, const Node *value) {
    for (int i = 1; i < node->arg_count; i++)
        if (node->args[i] == value)
            return false;
    const Op op = value->op;
    if (op == OP_SUM || op == OP_MAX_OF || op == OP_CONTRACT || op == OP_SLICE || op == OP_CONCAT)
        return true;
    for (int i = 0; i < value->arg_count; i++)
        if (mixes_elements(node, value->args[i]))
            return true;
    return false;
}

static Math *custom(const Naming *n, Node *node) {
    int count = node->arg_count - 1;
    while (count > 1 && is_default(node->item, count - 1, node->args[count]))
        count--;
    Math **args = arena_array(n->arena, Math *, count);
    for (int i = 0; i < count; i++)
        args[i] = math_of(n, node->args[i + 1]);
    const char *name = node->item->name;
    Math *x = function(n, !strcmp(name, "sigmoid") && count == 1 ? "σ" : name, node, args, count);
    x->first = mixes_elements(node, node->args[0]);
    return x;
}

static Math *element(const Naming *n, Node *node) {
    Arena *arena = n->arena;
    if (node->op == OP_WHERE)
        return where(n, node);
    Math *args[3] = {NULL};
    for (int i = 0; i < node->arg_count; i++)
        args[i] = beside(n, node, i);
    Math *one = math_number(arena, 1);
    switch (node->op) {
    case OP_NEGATE:
        return math_negative(arena, args[0]);
    case OP_ADD:
        return math_collected(arena, math_add(arena, args[0], args[1]));
    case OP_SUBTRACT:
        return math_collected(arena, math_subtract(arena, args[0], args[1]));
    case OP_MULTIPLY:
        return math_multiply(arena, args[0], args[1]);
    case OP_DIVIDE:
        return math_divide(arena, args[0], args[1]);
    case OP_FMA:
        return math_add(arena, math_multiply(arena, args[0], args[1]), args[2]);
    case OP_ABSOLUTE:
        return made(n, MATH_ABSOLUTE, node, args, 1);
    case OP_SQRT:
        return made(n, MATH_ROOT, node, args, 1);
    case OP_FLOOR:
        return made(n, MATH_FLOOR, node, args, 1);
    case OP_POWER:
        return made(n, MATH_POWER, node, args, 2);
    case OP_REAL:
        return node->args[0]->type == TYPE_TRUTH ? made(n, MATH_INDICATOR, node, args, 1) : args[0];
    case OP_EXPM1: {
        Math *x = function(n, "exp", node, args, 1);
        x->op = OP_EXP;
        return math_subtract(arena, x, one);
    }
    case OP_LOG1P: {
        Math *sum = math_add(arena, one, args[0]);
        Math *x = function(n, "log", node, &sum, 1);
        x->op = OP_LOG;
        return x;
    }
    default:
        return function(n, op_table[node->op].name, node, args, node->arg_count);
    }
}

static Math *elements_sum(const Naming *n, Node *node) {
    Node *summed = node->args[0];
    bool whole = node->integer == AXIS_ALL || summed->rank == 1;
    if (whole && summed->op == OP_SUM && !summed->label) /* along one axis, then along the other */
        summed = summed->args[0];
    Math *x = math_of(n, summed);
    if (!whole)
        return function(n, "sum", node, &x, 1);
    if (x->kind == MATH_POWER && math_is_number(x->args[1], 2) && x->args[0]->rank > 0)
        return made(n, MATH_NORM_SQUARED, node, x->args, 1);
    if (x->kind == MATH_PRODUCT && x->arg_count == 2 && x->args[0]->kind == MATH_SYMBOL && x->args[0]->rank == 1 &&
        x->args[1]->kind == MATH_SYMBOL && x->args[1]->rank == 1) {
        Math *product = made(n, MATH_MATRIX_PRODUCT, node, x->args, 2);
        product->turned[0] = true;
        return product;
    }
    return sum_over(n, MATH_ELEMENTS_SUM, node, x);
}

/* The sum over the batch of d put into a row of zeros: one-hot times d'. */
static Math *scatter(const Naming *n, Node *node) {
    Math *where[2] = {math_of(n, node->args[1]), node->arg_count > 2 ? math_of(n, node->args[2]) : NULL};
    Math *hot = math_new(n->arena, MATH_FUNCTION, 1, &node->integer, where, node->arg_count - 1);
    hot->op = OP_ONE_HOT;
    hot->name = node->arg_count > 2 ? "bag" : "onehot";
    Math *d = math_of(n, node->args[0]), *args[2] = {node->turned ? d : hot, node->turned ? hot : d};
    Math *product = made(n, MATH_MATRIX_PRODUCT, node, args, 2);
    product->turned[1] = true;
    return sum_over(n, MATH_ROWS_SUM, node, product);
}

/* Rows of W' are columns of W: W onehot(city), W bag(words, counts). */
static Math *column(const Naming *n, Node *node, Math **args) {
    Math *hot = math_new(n->arena, MATH_FUNCTION, 1, node->args[0]->dims, args + 1, node->arg_count - 1);
    hot->op = OP_ONE_HOT;
    hot->name = node->arg_count > 2 ? "bag" : "onehot";
    Math *sides[2] = {args[0]->args[0], hot};
    return made(n, MATH_MATRIX_PRODUCT, node, sides, 2);
}

/* (a b')' is b a', and so in a sum over the rows. */
static Math *transposed(const Naming *n, const Node *node, Math *x) {
    if (x->kind == MATH_SUM) {
        Math *sum = NULL;
        for (int i = 0; i < x->arg_count; i++) {
            Math *term = transposed(n, node, x->args[i]);
            sum = !sum          ? (x->minus[i] ? math_negative(n->arena, term) : term)
                  : x->minus[i] ? math_subtract(n->arena, sum, term)
                                : math_add(n->arena, sum, term);
        }
        return sum;
    }
    if (x->kind == MATH_ROWS_SUM && x->args[0]->kind == MATH_MATRIX_PRODUCT)
        return sum_over(n, MATH_ROWS_SUM, node, transposed(n, node, x->args[0]));
    if (x->kind != MATH_MATRIX_PRODUCT)
        return made(n, MATH_TRANSPOSED, node, &x, 1);
    Math *sides[2] = {x->args[1], x->args[0]}, *product = made(n, MATH_MATRIX_PRODUCT, node, sides, 2);
    product->turned[0] = !x->turned[1];
    product->turned[1] = !x->turned[0];
    return product;
}

static Math *shape(const Naming *n, Node *node) {
    Math **args = arena_array(n->arena, Math *, node->arg_count + 1);
    for (int i = 0; i < node->arg_count && node->op != OP_CUSTOM && node->op != OP_CONTRACT; i++)
        args[i] = math_of(n, node->args[i]);
    switch (node->op) {
    case OP_CONTRACT:
        return contraction(n, node);
    case OP_CUSTOM:
        return custom(n, node);
    case OP_SUM:
        return elements_sum(n, node);
    case OP_SCATTER:
        return scatter(n, node);
    case OP_EXPAND:
        return made(n, MATH_FILLED, node, args, 1);
    case OP_RESHAPE:
        return made(n, MATH_RESHAPED, node, args, 1);
    case OP_TRANSPOSE:
        return transposed(n, node, args[0]);
    case OP_SLICE: {
        Math *x = made(n, MATH_RANGE, node, args, 1);
        x->first = node->integer;
        return x;
    }
    case OP_CONCAT:
        return made(n, MATH_STACK, node, args, node->arg_count);
    case OP_BATCH_SUM:
        return sum_over(n, MATH_ROWS_SUM, node, args[0]);
    case OP_LOOKUP:
        return args[0]->kind == MATH_TRANSPOSED ? column(n, node, args)
                                                : made(n, MATH_ROW, node, args, node->arg_count);
    case OP_MAX_OF:
        return function(n, "max", node, args, 1);
    case OP_ONE_HOT:
        return function(n, node->arg_count > 1 ? "bag" : "onehot", node, args, node->arg_count);
    default: /* argmax, gather, detach */
        return function(n, op_table[node->op].name, node, args, node->arg_count);
    }
}

static Math *leaf(const Naming *n, Node *node) {
    if (node->op == OP_CONSTANT)
        return math_number(n->arena, node->number);
    if (node->op != OP_IOTA)
        BUG("'%s' has no name", op_table[node->op].name);
    return function(n, "indices", node, NULL, 0);
}

Math *formula_of(const Naming *n, Node *node) {
    const Recognised *r = n->recognised;
    for (int i = 0; i < r->softmaxes.count; i++)
        if (r->softmaxes.at[i] == node) {
            Math *z = math_of(n, r->arguments.at[i]), *x = function(n, "softmax", node, &z, 1);
            x->op = OP_COUNT;
            return x;
        }
    for (int i = 0; i < r->logarithms.count; i++)
        if (r->logarithms.at[i] == node) {
            Math *p = math_of(n, r->shares.at[i]), *log = function(n, "log", r->shares.at[i], &p, 1);
            log->op = OP_LOG;
            Math *product = math_multiply(n->arena, math_of(n, r->hots.at[i]), log);
            return math_negative(n->arena, sum_over(n, MATH_ELEMENTS_SUM, node, product));
        }
    switch (op_table[node->op].class) {
    case CLASS_LEAF:
        return leaf(n, node);
    case CLASS_ARITHMETIC:
    case CLASS_MATH:
        return element(n, node);
    case CLASS_COMPARE:
        return relation(n, node);
    default:
        return shape(n, node);
    }
}

Math *math_of(const Naming *n, Node *node) {
    const Symbol *symbol = node->id < n->count ? n->symbols[node->id] : NULL;
    return symbol ? math_symbol(n->arena, symbol, node) : formula_of(n, node);
}
