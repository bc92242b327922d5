/* A phase's equations: what each value is, in which order they stand. */
#include "deriver.h"

#include <stdlib.h>
#include <string.h>

/* ---- equations --------------------------------------------------------------------------------------------------- */

Equation *add_equation(Deriver *d, EquationPart part, const Symbol *left, Node *node) {
    Equation *equation = LIST_ADD(d->arena, &d->derivation->equations);
    *equation = (Equation){.part = part, .left = left, .node = node, .span = node->span};
    return equation;
}

static const char *input_note(Deriver *d, const Node *node) {
    const DataSlot *slot = &node->data->slots[node->integer];
    const DataColumn *column = &node->data->columns[slot->columns[0]];
    if (slot->form == BP_SLOT_WORDS)
        return arena_printf(d->arena, "%s",
                            node->type == TYPE_INDEX ? "words of the text" : "how often each stands there");
    if (node->type == TYPE_INDEX) {
        const char *note = arena_printf(d->arena, "one of %d classes", node->classes);
        if (strcmp(naming_of(d, node)->letter, column->name) != 0)
            note = arena_printf(d->arena, "%s, %s", column->name, note);
        for (int i = 0; i < column->category_count && column->category_count <= 4; i++)
            note = arena_printf(d->arena, "%s%s %s", note, i ? "," : ":", column_category(column, i));
        return note;
    }
    if (slot->column_count == 1)
        return column->name;
    if (slot->column_count > 4)
        return arena_printf(d->arena, "%s, …, %s", column->name,
                            node->data->columns[slot->columns[slot->column_count - 1]].name);
    const char *names = column->name;
    for (int i = 1; i < slot->column_count; i++)
        names = arena_printf(d->arena, "%s, %s", names, node->data->columns[slot->columns[i]].name);
    return names;
}

const char *given_note(Deriver *d, const Node *node) {
    if (node->arg_count && is_given(d, node))
        return "the input, changed at random by the augment line";
    switch (node->op) {
    case OP_INPUT:
        return arena_printf(d->arena, "%s%s", input_note(d, node), node->partner ? "; of the next row" : "");
    case OP_SCALAR: {
        int64_t param = node->integer - BP_SCALAR_COUNT;
        return param < 0                                               ? scalar_words[node->integer].note
               : param < d->derivation->program->program->params.count ? "a parameter of the program"
                                                                       : "counted or fitted, from the data";
    }
    case OP_RANDOM:
        return node->normal ? "drawn, normal with mean 0 and deviation 1" : "drawn, uniform between 0 and 1";
    case OP_TENSOR:
        return node->tensor->statistic ? "kept from step to step" : NULL;
    default:
        return "the class, one-hot";
    }
}

static Span given_span(const Node *node) {
    if (node->op == OP_TENSOR)
        return node->tensor->span;
    if (node->op == OP_INPUT && node->integer < node->data->slot_count)
        return node->data->columns[node->data->slots[node->integer].columns[0]].span;
    return node->op == OP_SCALAR ? SPAN_NONE : node->span;
}

/* In which order what is given stands. */
typedef enum GivenKind {
    GIVEN_INPUT,
    GIVEN_AUGMENTED,
    GIVEN_TARGET,
    GIVEN_CLASS,
    GIVEN_TENSOR,
    GIVEN_DRAW,
    GIVEN_NUMBER,
    GIVEN_COUNT
} GivenKind;

static GivenKind given_kind(const Deriver *d, const Node *node) {
    switch (node->op) {
    case OP_INPUT:
        return node->integer < node->data->slot_count && node->data->slots[node->integer].target ? GIVEN_TARGET
                                                                                                 : GIVEN_INPUT;
    case OP_ONE_HOT:
        return naming_of(d, node) ? GIVEN_CLASS : GIVEN_COUNT;
    case OP_TENSOR:
        return GIVEN_TENSOR;
    case OP_RANDOM:
        return GIVEN_DRAW;
    case OP_SCALAR:
        return GIVEN_NUMBER;
    default:
        return node->arg_count && is_given(d, node) ? GIVEN_AUGMENTED : GIVEN_COUNT;
    }
}

static void add_given(Deriver *d) {
    for (GivenKind kind = 0; kind < GIVEN_COUNT; kind++)
        for (int id = 0; id < d->count; id++) {
            Node *node = graph_node(d->graph, id);
            if (!d->needed[id] || given_kind(d, node) != kind)
                continue;
            Equation *equation = add_equation(d, PART_GIVEN, naming_of(d, node), node);
            if (kind == GIVEN_CLASS)
                equation->right = formula_of(&d->naming, node);
            equation->note = given_note(d, node);
            equation->span = given_span(kind == GIVEN_CLASS ? node->args[0] : node);
        }
}

/* Where a value stands among the others: softmax, which only the backward pass computes, where its logarithm is taken. */
static int place_of(const Deriver *d, const Node *node) {
    for (int i = 0; i < d->recognised.softmaxes.count; i++)
        if (d->recognised.softmaxes.at[i] == node)
            return node->args[0]->id;
    return node->id;
}

typedef struct Placed {
    int place;
    Node *node;
} Placed;

static int compare_places(const void *x, const void *y) {
    const Placed *a = x, *b = y;
    return a->place != b->place ? (a->place > b->place) - (a->place < b->place) : a->node->id - b->node->id;
}

static Tensor *gradient_of(const Deriver *d, const Node *node) {
    for (int i = 0; i < d->train->gradients.count; i++)
        if (recognise((Recognised *)&d->recognised, d->train->gradients.at[i].value) == node)
            return d->train->gradients.at[i].tensor;
    return NULL;
}

static void add_pass(Deriver *d, bool forward) {
    Placed *placed = arena_array(d->arena, Placed, d->count);
    int count = 0;
    for (int id = 0; id < d->count; id++) {
        Node *node = graph_node(d->graph, id);
        bool softmax = place_of(d, node) != id;
        if (d->needed[id] && naming_of(d, node) && !is_given(d, node) && (d->forward[id] || softmax) == forward &&
            !(node->op == OP_ONE_HOT && node->args[0]->op == OP_INPUT) && !(!forward && gradient_of(d, node)))
            placed[count++] = (Placed){place_of(d, node), node};
    }
    qsort(placed, (size_t)count, sizeof *placed, compare_places);
    bool reached_loss = false;
    for (int i = 0; i < count; i++) {
        Node *node = placed[i].node;
        bool softmax = place_of(d, node) != node->id;
        reached_loss |= node == d->loss || node == d->objective || (softmax && d->loss);
        Equation *equation = add_equation(d,
                                          !forward       ? PART_BACKWARD
                                          : reached_loss ? PART_LOSS
                                                         : PART_FORWARD,
                                          naming_of(d, node), node);
        equation->right = formula_of(&d->naming, node);
        if (softmax && d->loss)
            equation->span = d->loss->span;
        if (equation->part == PART_LOSS && equation->span.source < 0 && d->loss)
            equation->span = d->loss->span;
        for (int j = 0; !forward && is_delta(naming_of(d, node)) && j < d->inner.count; j++) {
            const Symbol *of = naming_of(d, d->inner.at[j]);
            if (d->adjoints[j] != node || !of || strcmp(of->letter, "z") != 0)
                continue;
            equation->also = naming_derivative(d, of);
            if (equation->span.source < 0)
                equation->span = d->inner.at[j]->span;
        }
    }
}

static void add_gradients(Deriver *d) {
    for (int i = 0; i < d->train->gradients.count; i++) {
        const Sink *gradient = &d->train->gradients.at[i];
        Node *node = recognise(&d->recognised, gradient->value), *tensor = node_tensor(d->graph, gradient->tensor);
        const Symbol *symbol = naming_of(d, node), *own = naming_derivative(d, naming_of(d, tensor));
        bool same =
            symbol->derivative_of && !strcmp(symbol->letter, own->letter) && symbol->primes == own->primes &&
            (symbol->index == own->index || (symbol->index && own->index && !strcmp(symbol->index, own->index)));
        Equation *equation = add_equation(d, PART_GRADIENT, own, node);
        equation->right = same ? formula_of(&d->naming, node) : math_symbol(d->arena, symbol, node);
        equation->tensor = gradient->tensor;
        equation->span = gradient->tensor->span;
    }
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static Node *loss_of_row(const Node *objective) {
    const Node *mean = objective;
    while (mean->op == OP_ADD) /* a penalty is added */
        mean = mean->args[0];
    if (mean->op == OP_DIVIDE && mean->args[0]->op == OP_BATCH_SUM && mean->args[0]->args[0]->batched)
        return mean->args[0]->args[0];
    return NULL;
}

static const Symbol *objective_symbol(Deriver *d) {
    const char *dot = strrchr(d->train->name, '.');
    Symbol *symbol = arena_new_of(d->arena, Symbol);
    symbol->letter = "L";
    if (dot && !d->train->objective->label) {
        size_t length = strlen(dot + 1);
        if (length > 5 && !strcmp(dot + 1 + length - 5, "_loss"))
            length -= 5;
        symbol->index = arena_copy(d->arena, dot + 1, length);
        if (!strncmp(symbol->index, "loss_", 5))
            symbol->index += 5;
        if (!strcmp(symbol->index, "loss"))
            symbol->index = NULL;
    }
    return symbol;
}

static void measure(Deriver *d) {
    LIST(Node *) roots = {0};
    *LIST_ADD(d->arena, &roots) = d->objective;
    for (int i = 0; i < d->train->gradients.count; i++)
        *LIST_ADD(d->arena, &roots) = recognise(&d->recognised, d->train->gradients.at[i].value);
    for (int i = 0; i < d->recognised.softmaxes.count; i++)
        *LIST_ADD(d->arena, &roots) = d->recognised.softmaxes.at[i];
    for (int i = 0; i < d->recognised.hots.count; i++)
        *LIST_ADD(d->arena, &roots) = d->recognised.hots.at[i];
    for (int i = 0; i < d->recognised.arguments.count; i++)
        *LIST_ADD(d->arena, &roots) = d->recognised.arguments.at[i];
    d->count = graph_node_count(d->graph);
    d->needed = reached_nodes(d, roots.at, roots.count);
    d->forward = reached_nodes(d, roots.at, 1);
    d->uses = arena_array(d->arena, int, d->count + 1);
    d->ops = arena_array(d->arena, int, d->count + 1);
    d->layer = arena_array(d->arena, const char *, d->count + 1);
    for (int id = 0; id < d->count; id++) {
        const Node *node = graph_node(d->graph, id);
        for (int i = shown_arguments(d, node); d->needed[id] && i < node->arg_count; i++)
            d->uses[node->args[i]->id]++;
    }
}

/* Forms that a recognised one replaces are not shown: the exponentials of a softmax. */
static void hide_replaced(Deriver *d) {
    bool *kept = arena_array(d->arena, bool, d->count + 1);
    for (int i = 0; i < d->train->gradients.count; i++)
        kept[recognise(&d->recognised, d->train->gradients.at[i].value)->id] = true;
    kept[d->objective->id] = true;
    for (int i = 0; i < d->recognised.hots.count; i++)
        kept[d->recognised.hots.at[i]->id] = kept[d->recognised.shares.at[i]->id] = true;
    for (int id = d->count - 1; id >= 0; id--) {
        const Node *node = graph_node(d->graph, id);
        if (!kept[id])
            continue;
        bool replaced = false;
        for (int i = 0; i < d->recognised.softmaxes.count; i++)
            if (d->recognised.softmaxes.at[i] == node) {
                kept[d->recognised.arguments.at[i]->id] = true;
                replaced = true;
            }
        for (int i = 0; i < d->recognised.logarithms.count; i++) /* its share is kept already */
            replaced |= d->recognised.logarithms.at[i] == node;
        for (int i = shown_arguments(d, node); !replaced && i < node->arg_count; i++)
            kept[node->args[i]->id] = true;
    }
    memcpy(d->needed, kept, sizeof *kept * (size_t)d->count);
}

Derivation *derive(Arena *arena, const GraphProgram *program, const GraphTrain *view) {
    Deriver *d = arena_new_of(arena, Deriver);
    d->arena = arena;
    d->graph = program->graph;
    d->train = view;
    d->several = view->models.count > 1;
    d->numbered = are_numbered(d);
    d->derivation = arena_new_of(arena, Derivation);
    d->derivation->arena = arena;
    d->derivation->program = program;
    d->derivation->train = view;
    d->objective = view->objective;
    find_augmented(d);
    find_adjoints(d);
    d->objective = recognise(&d->recognised, view->objective);
    for (int i = 0; i < view->gradients.count; i++)
        recognise(&d->recognised, view->gradients.at[i].value);
    d->loss = loss_of_row(d->objective);
    d->derivation->objective = d->objective;
    d->objective_symbol = objective_symbol(d);
    find_changes(d);
    measure(d);
    hide_replaced(d);
    d->naming = (Naming){arena, &d->recognised, arena_array(arena, const Symbol *, d->count + 1), d->count};
    d->capacity = (size_t)d->count * 4 + 64;
    d->taken = arena_array(arena, Name, (int)d->capacity);
    naming_take(d, d->objective_symbol);
    name_leaves(d);
    name_forward(d);
    name_backward(d);
    name_others(d);
    add_given(d);
    add_pass(d, true);
    add_pass(d, false);
    add_gradients(d);
    add_updates(d);
    return d->derivation;
}
