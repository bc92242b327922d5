/* What compiles and runs, and yet cannot be meant: warnings that look at where values lie (interval.c) and at what the
   table showed while compiling. Each names its place and a remedy. check/lint.c has those that look at the text alone.

   A warning must hold for the program as it is, so what only the data could tell counts as harmless: a logarithm of a
   column is not doubted, one of a layer's result is. */
#include "build.h"
#include "print.h"

#include <math.h>
#include <string.h>

static const char *bound_text(Arena *arena, double bound) {
    if (isinf(bound))
        return bound > 0 ? "infinity" : "-infinity";
    return arena_printf(arena, "%.4g", bound);
}

static const char *range_text(Arena *arena, Interval range) {
    return arena_printf(arena, "[%s, %s]", bound_text(arena, range.low), bound_text(arena, range.high));
}

/* ---- where a target lies ----------------------------------------------------------------------------------------- */

typedef struct Known {
    Interval range;
    bool standardized; /* its values are not known, but that some lie at 1 or beyond on either side */
    const DataColumn *column;
} Known;

/* One column as the model's target sees it. */
static bool column_range(const DataColumn *column, Known *known) {
    bool sure = column->seen;
    Interval range = {column->least, column->greatest};
    *known = (Known){.column = column};
    for (int i = 0; i < column->transform_count; i++) {
        const DataTransform *transform = &column->transforms[i];
        bool varies = !column->seen || column->least < column->greatest;
        switch (transform->kind) {
        case BP_LOG:
            sure = sure && range.low > 0;
            range = (Interval){log(range.low), log(range.high)};
            break;
        case BP_SCALE: {
            double a = range.low * transform->argument, b = range.high * transform->argument;
            range = (Interval){fmin(a, b), fmax(a, b)};
            break;
        }
        case BP_STANDARDIZE: /* the mean square is 1, so some value is as far from 0 */
            sure = varies;
            known->standardized = true;
            range = (Interval){-1, 1};
            break;
        case BP_MINMAX:
            sure = varies;
            known->standardized = false;
            range = (Interval){0, 1};
            break;
        case BP_IMPUTE_CONSTANT:
            range = (Interval){fmin(range.low, transform->argument), fmax(range.high, transform->argument)};
            break;
        default:
            break;
        }
    }
    known->range = range;
    return sure && column->kind == BP_NUMBER;
}

/* What is known of a value that is read from the table, or written into the program. */
static bool known_range(const Node *node, Known *known) {
    int64_t first = 0, count = -1;
    for (; node->op == OP_RESHAPE || node->op == OP_SLICE; node = node->args[0])
        if (node->op == OP_SLICE) {
            first += node->integer;
            count = count < 0 ? node->dims[0] : count;
        }
    if (node->op == OP_CONSTANT) {
        *known = (Known){.range = {node->number, node->number}};
        return !isnan(node->number);
    }
    if (node->op != OP_INPUT || node->type == TYPE_INDEX)
        return false;
    const DataSlot *slot = &node->data->slots[node->integer];
    if (slot->form != BP_SLOT_COLUMNS)
        return false;
    if (count < 0)
        count = slot->width;
    for (int64_t i = first; i < first + count && i < slot->column_count; i++) {
        Known one;
        if (!column_range(&node->data->columns[slot->columns[i]], &one))
            return false;
        if (i == first) {
            *known = one;
            continue;
        }
        known->range = (Interval){fmin(known->range.low, one.range.low), fmax(known->range.high, one.range.high)};
        known->standardized |= one.standardized;
    }
    return count > 0;
}

static const char *known_words(Arena *arena, const Known *known) {
    if (known->standardized)
        return "is standardized, so it has values on both sides of 0, as far as 1 and more";
    if (known->range.low == known->range.high)
        return arena_printf(arena, "is %s", bound_text(arena, known->range.low));
    return arena_printf(arena, "has values from %s to %s", bound_text(arena, known->range.low),
                        bound_text(arena, known->range.high));
}

static const char *target_called(Arena *arena, const Node *node, const Known *known) {
    if (node->label)
        return arena_printf(arena, "'%s'", node->label);
    return known->column ? arena_printf(arena, "'%s'", known->column->name) : "here";
}

/* ---- arguments of functions -------------------------------------------------------------------------------------- */

/* Where a function's argument must lie for a finite result; false where every number will do. */
static bool domain(Op op, const Node *second, Interval *allowed, bool *open) {
    *open = op == OP_LOG || op == OP_LOG1P;
    *allowed = (Interval){op == OP_LOG1P ? -1 : 0, INFINITY};
    return op == OP_LOG || op == OP_LOG1P || op == OP_SQRT ||
           (op == OP_POWER && second->op == OP_CONSTANT && second->number != floor(second->number));
}

void lint_domain(Build *build, Op op, Node *const *args, const Node *result, Span span) {
    Interval allowed;
    bool open;
    Known known;
    if (result->op != op || result->type != TYPE_REAL || build->measuring || build->guarded || span_in_prelude(span) ||
        span.source < 0 || !domain(op, args[1], &allowed, &open))
        return;
    bool of_table = known_range(args[0], &known);
    Interval range = of_table ? known.range : interval_of_weights(build->graph, args[0]);
    if (range.low > allowed.low || (!open && range.low >= allowed.low))
        return;
    const char *name =
        op == OP_POWER ? "a power with a fraction" : arena_printf(build->arena, "'%s'", op_table[op].name);
    const char *argument = of_table && known.column && !args[0]->label
                               ? arena_printf(build->arena, "'%s'", known.column->name)
                               : node_called(build->arena, args[0]);
    if (range.low == allowed.low)
        warning_at(span,
                   "%s of %s, which can be %s: hold it above, %s(max(…, 1e-12)), or take log_softmax, log_sigmoid or "
                   "logsumexp of what it is made of",
                   name, argument, bound_text(build->arena, allowed.low), op_table[op].name);
    else
        warning_at(span,
                   "%s of %s, which can be below %s, where the result is not a number: make it positive first, with "
                   "exp, softplus or a square",
                   name, argument, bound_text(build->arena, allowed.low));
    build_note(build, args[0]->span, "%s is made here", argument);
}

/* ---- losses ------------------------------------------------------------------------------------------------------ */

static bool is_number(const Node *node) {
    return node->type == TYPE_REAL || node->type == TYPE_WIDE;
}

static const Node *unshaped(const Node *node) {
    while (node->op == OP_RESHAPE)
        node = node->args[0];
    return node;
}

static bool holds_difference(const Node *node, const Node *y, const Node *t, bool *seen) {
    if (seen[node->id])
        return false;
    seen[node->id] = true;
    if (node->op == OP_ADD && t->op == OP_CONSTANT && node_is_constant(node->args[1], -t->number) &&
        unshaped(node->args[0]) == y)
        return true;
    if (node->op == OP_SUBTRACT) {
        const Node *a = unshaped(node->args[0]), *b = unshaped(node->args[1]);
        if ((a == y && b == t) || (a == t && b == y))
            return true;
    }
    for (int i = 0; i < node->arg_count; i++)
        if (holds_difference(node->args[i], y, t, seen))
            return true;
    return false;
}

/* Whether the loss measures how far y is from t, in one unit. */
static bool compares(Build *build, const Node *loss, Node *y, Node *t) {
    return holds_difference(loss, unshaped(y), unshaped(t),
                            arena_array(build->arena, bool, graph_node_count(build->graph)));
}

/* An output that stops short of its targets: relu before a target below 0, sigmoid before one that is standardized. */
static void lint_reach(Build *build, Node *y, Node *t, Span span) {
    Known known;
    Interval range = interval_of(build->graph, y);
    if (!known_range(t, &known))
        return;
    bool short_of = known.standardized ? range.low > -1 || range.high < 1 || (range.low == -1 && range.high == 1)
                                       : range.low > known.range.low || range.high < known.range.high;
    if (!short_of)
        return;
    warning_at(span,
               "the target %s %s, but the output %s never leaves %s: return the value before its last activation, or "
               "bring the target "
               "into that range",
               target_called(build->arena, t, &known), known_words(build->arena, &known), node_called(build->arena, y),
               range_text(build->arena, range));
    build_note(build, y->span, "%s is made here", node_called(build->arena, y));
}

/* A raw output that is held so near to 0 that no class can become likely. */
static void lint_logits(Build *build, const Item *item, Node *y, Span span) {
    Interval range = interval_of(build->graph, y);
    int64_t n = node_elements(y);
    double least = 0, most = 1;
    if (!strcmp(item->link, "sigmoid")) {
        least = 1 / (1 + exp(-range.low));
        most = 1 / (1 + exp(-range.high));
    } else if (!strcmp(item->link, "softmax") && n > 1) {
        most = 1 / (1 + (double)(n - 1) * exp(range.low - range.high));
    }
    if (least <= 0.05 && most >= 0.95)
        return;
    warning_at(
        span, "'%s' takes raw outputs, but %s never leaves %s, so %s: return the value before its last activation",
        item->name, node_called(build->arena, y), range_text(build->arena, range),
        least > 0 ? arena_printf(build->arena, "the probability stays in %s",
                                 range_text(build->arena, (Interval){least, most}))
                  : arena_printf(build->arena, "no class gets a probability above %s", bound_text(build->arena, most)));
    build_note(build, y->span, "%s is made here", node_called(build->arena, y));
}

void lint_loss(Build *build, const Item *item, Node *y, Node *t, const Node *loss, Span span) {
    if (build->measuring || build->in_loss || y->type != TYPE_REAL)
        return;
    if (item->link)
        lint_logits(build, item, y, span);
    else if (is_number(t) && y->op != OP_INPUT && compares(build, loss, y, t))
        lint_reach(build, y, t, span);
}

/* `share`, `count`: a target of which the table shows that the loss means nothing for it. */
void lint_target(Build *build, const Item *item, const Node *t, bool share, Span span) {
    Known known;
    if (build->measuring || !is_number(t) || !known_range(t, &known))
        return;
    if (known.range.low >= 0 && (!share || known.range.high <= 1) && !known.standardized)
        return;
    warning_at(span, "'%s' needs a target %s, but the target %s %s: %s", item->name,
               share ? "in [0, 1]" : "that is not negative", target_called(build->arena, t, &known),
               known_words(build->arena, &known),
               !known.column ? (share ? "its two classes are 0 and 1" : "take mse")
               : share       ? "name its two classes, binary(\"yes\", \"no\"), or bring it there with minmax"
                             : "leave it in the table's units, or take mse");
    if (known.column)
        build_note(build, known.column->span, "the target stands here");
}

/* ---- dropout before nothing -------------------------------------------------------------------------------------- */

static bool is_dropout(const Node *node) {
    return node->op == OP_WHERE && op_table[node->args[0]->op].class == CLASS_COMPARE &&
           (node->args[0]->args[0]->op == OP_RANDOM || node->args[0]->args[1]->op == OP_RANDOM) &&
           (node_is_constant(node->args[1], 0) || node_is_constant(node->args[2], 0));
}

static bool is_factor(const Node *node) {
    return node->op == OP_CONSTANT || node->type == TYPE_WIDE;
}

/* What drops out last on the way to an output, with nothing behind it but formulas of that value alone. */
static const Node *last_dropout(const Node *node) {
    for (;;) {
        if (is_dropout(node))
            return node;
        const Node *next = node->arg_count ? node->args[0] : NULL;
        switch (op_table[node->op].class) {
        case CLASS_LEAF:
            return NULL;
        case CLASS_SHAPE:
            if (node->op != OP_RESHAPE && node->op != OP_CUSTOM)
                return NULL;
            break;
        default:
            if (node->arg_count == 2 && is_factor(node->args[0]))
                next = node->args[1];
            else if (node->arg_count > 2 || (node->arg_count == 2 && !is_factor(node->args[1])))
                return NULL;
        }
        node = next;
    }
}

static void warn_of_dropout(const Node *output) {
    const Node *dropout = last_dropout(output);
    if (dropout && dropout->span.source >= 0)
        warning_at(dropout->span, "what is dropped out here is an output itself, no layer makes up for it: put the "
                                  "dropout before the last layer");
}

void lint_output(const Term *outputs) {
    for (int i = 0; i < (outputs->kind == TERM_TUPLE ? outputs->count : 1); i++) {
        const Term *output = outputs->kind == TERM_TUPLE ? &outputs->at[i] : outputs;
        if (output->kind == TERM_NODE)
            warn_of_dropout(output->node);
    }
}

/* Whether weights meet what is made of this value, on the way to the roots. */
static bool meets_weights(Build *build, const Node *value, const bool *needed) {
    int count = graph_node_count(build->graph);
    bool *behind = arena_array(build->arena, bool, count), *weights = arena_array(build->arena, bool, count);
    behind[value->id] = true;
    for (int id = 0; id < count; id++) {
        const Node *node = graph_node(build->graph, id);
        bool met = false;
        weights[id] = node->op == OP_TENSOR && !node->tensor->state;
        for (int i = 0; i < node->arg_count; i++) {
            const Node *arg = node->args[i];
            behind[id] |= behind[arg->id];
            weights[id] |= weights[arg->id] && !node->batched;
            met |= weights[arg->id] && !behind[arg->id];
        }
        if (behind[id] && met && needed[id])
            return true;
    }
    return false;
}

void lint_step_outputs(Build *build, const ModelInstance *model, Node *const *losses, int count) {
    bool *needed = nodes_needed(build->arena, build->graph, losses, count);
    for (int i = 0; i < model->results.count; i++) {
        const Node *output = model->results.at[i].node;
        if (needed[output->id] && last_dropout(output) && !meets_weights(build, output, needed))
            warn_of_dropout(output);
    }
}

/* ---- training ---------------------------------------------------------------------------------------------------- */

void lint_rate(Build *build, const Item *optimizer, Name option, const Node *rate, Span span) {
    if (strcmp(option, "lr"))
        return;
    Interval range = interval_of(build->graph, (Node *)rate);
    if (range.low == 0 && range.high == 0)
        warning_at(span, "the learning rate is 0: nothing is trained; to keep layers as they are, freeze them");
    else if (range.high < 0)
        warning_at(span, "the learning rate is below 0: '%s' would climb away from the least loss", optimizer->name);
}

static bool was_trained(const Build *build, const Tensor *tensor) {
    for (int i = 0; i < build->out->trains.count; i++) {
        const GraphTrain *train = build->out->trains.at[i];
        for (int j = 0; j < train->gradients.count; j++)
            if (train->gradients.at[j].tensor == tensor)
                return true;
    }
    return false;
}

void lint_frozen(Build *build, const GraphTrain *train, Name layer, Span span) {
    for (int m = 0; m < train->models.count; m++) {
        const ModelInstance *model = train->models.at[m];
        for (int i = 0; model->from && i < model->parameters.count; i++) {
            const Tensor *tensor = model->parameters.at[i];
            if (tensor->statistic || tensor->loaded || !path_begins(tensor->name, layer) || was_trained(build, tensor))
                continue;
            warning_at(span,
                       "'%s' was replaced, so '%s' is not in '%s': frozen, it keeps its random first values; train it, "
                       "in this phase or one before",
                       layer, tensor->name, model->from);
            return;
        }
    }
}
