/* Before: a derivation. After: each equation's two sides were computed from random numbers and are the same; BUG() says which
   are not. What is printed is that tree, so a formula that is not what the program computes cannot pass. */
#include "derivation.h"

#include <math.h>

enum { ROWS = 3 };

/* Numbers that depend on the node and the element alone: uniform in [0, 1). */
static double draw(const Node *node, int64_t element) {
    uint64_t x = (uint64_t)node->id * 0x9E3779B97F4A7C15U + (uint64_t)element * 0xBF58476D1CE4E5B9U + 1;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

static void fill(void *context, const Node *node, Evaluation *value) {
    const Derivation *derivation = context;
    for (int64_t i = 0; i < value->rows * value->elements; i++) {
        double u = draw(node, i);
        if (node->op == OP_SCALAR)
            u = node->integer < BP_SCALAR_COUNT ? 7 + (double)node->integer
                : node->integer < BP_SCALAR_COUNT + derivation->program->program->params.count
                    ? derivation->program->program->params.at[node->integer - BP_SCALAR_COUNT].value
                    : 0.5 + u;
        else if (node->type == TYPE_INDEX)
            u = floor(u * (double)(node->classes ? node->classes : 1));
        else if (node->op == OP_TENSOR && (node->tensor->state || node->tensor->statistic))
            u = 0.25 + u; /* variances among them */
        else if (node->op != OP_RANDOM || node->normal)
            u = 2 * u - 1;
        value->values[i] = u;
    }
}

static double at(const Evaluation *x, int64_t row, int64_t element) {
    return x->values[(x->rows > 1 ? row : 0) * x->elements + (x->elements > 1 ? element : 0)];
}

static bool same(const Evaluation *a, const Evaluation *b, double *left, double *right) {
    int64_t rows = a->rows > b->rows ? a->rows : b->rows,
            elements = a->elements > b->elements ? a->elements : b->elements;
    double size = 1;
    for (int64_t i = 0; i < a->rows * a->elements; i++)
        size = fmax(size, isfinite(a->values[i]) ? fabs(a->values[i]) : 0);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < elements; i++) {
            *left = at(a, row, i);
            *right = at(b, row, i);
            bool equal = *left == *right || (isnan(*left) && isnan(*right)) || fabs(*left - *right) <= 1e-9 * size;
            if (!equal)
                return false;
        }
    return true;
}

static void compare(Evaluator *evaluator, Node *meant, Node *said, const Symbol *symbol, const Math *right) {
    double a, b;
    if (same(graph_evaluate(evaluator, meant), graph_evaluate(evaluator, said), &a, &b))
        return;
    Text text = {0};
    symbol_write(&text_style, NULL, symbol, &text);
    if (right) {
        text_add(&text, " = ");
        math_write(&text_style, NULL, right, &text);
    }
    BUG("%s: the graph gives %.9g, the formula %.9g", text.at, a, b);
}

void derivation_check(const Derivation *derivation) {
    Graph *graph = derivation->program->graph;
    Evaluator evaluator = {.arena = derivation->arena, .rows = ROWS, .leaf = fill, .context = (void *)derivation};
    for (int i = 0; i < derivation->equations.count; i++) {
        const Equation *equation = &derivation->equations.at[i];
        if (!equation->right)
            continue;
        compare(&evaluator, equation->node, math_value(graph, equation->right), equation->left, equation->right);
        for (int j = 0; equation->part == PART_GRADIENT && j < derivation->train->gradients.count; j++)
            if (derivation->train->gradients.at[j].tensor == equation->tensor)
                compare(&evaluator, derivation->train->gradients.at[j].value, equation->node, equation->left, NULL);
    }
}
