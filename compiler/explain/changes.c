/* A step's changes: each parameter's, state's and statistic's next value as an equation. */
#include "deriver.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool depends_on_gradients(Deriver *d, const Node *value) {
    Node *roots[1] = {(Node *)value};
    int before = d->count;
    d->count = value->id + 1;
    bool *needed = reached_nodes(d, roots, 1);
    d->count = before;
    for (int i = 0; i < d->train->gradients.count; i++) {
        const Node *gradient = d->train->gradients.at[i].value;
        if (gradient->id <= value->id && needed[gradient->id])
            return true;
    }
    return false;
}

/* The sinks of the step, or of the part of it, that move this view's parameters; what a frozen prefix keeps is computed in
   them. */
void find_changes(Deriver *d) {
    const GraphTrain *train = d->train;
    for (const GraphFunction *part = train->training.passes.at[0].accumulate; part; part = part->next) {
        const Sink *sinks = train->whole.count ? train->whole.at : part->sinks.at;
        int count = train->whole.count ? train->whole.count : part->sinks.count;
        bool moved = false;
        for (int i = 0; i < count && !moved; i++)
            moved = sinks[i].tensor == train->gradients.at[0].tensor && depends_on_gradients(d, sinks[i].value);
        if (moved)
            d->update_span = train->plan->optimizer ? train->plan->optimizer->span : part->span;
        for (int i = 0; i < count && moved; i++)
            if (sinks[i].tensor)
                *LIST_ADD(d->arena, &d->derivation->changes) = sinks[i];
    }
}

static bool mentions(const Math *x, const Node *node) {
    if (x->kind == MATH_SYMBOL)
        return x->node == node;
    for (int i = 0; i < x->arg_count; i++)
        if (mentions(x->args[i], node))
            return true;
    return false;
}

static const Symbol *state_symbol(Deriver *d, const Tensor *state, const char *index) {
    const char *colon = strrchr(state->name, ':');
    Symbol *symbol = arena_new_of(d->arena, Symbol);
    symbol->letter = naming_greek(colon ? colon + 1 : state->name);
    if (colon && isdigit((unsigned char)colon[1])) { /* of a second optimizer: fc1.weight:v:2 */
        const char *first = strchr(state->name, ':');
        symbol->letter = naming_greek(arena_copy(d->arena, first + 1, (size_t)(colon - first - 1)));
    }
    symbol->index = index;
    return symbol;
}

static bool is_state_of(const Tensor *state, const Tensor *tensor) {
    return state->state && state->of == tensor;
}

typedef LIST(Sink) Changes;

/* A parameter's new value and its states', said in these symbols. */
typedef struct Said {
    Math *next;
    Math **states;
    const Symbol **state_symbols;
    bool *later; /* its old value is needed for the parameter's new one */
} Said;

static Said say_update(Deriver *d, const Sink *change, const Changes *states, const Symbol *parameter, bool general) {
    const Symbol **symbols = d->naming.symbols;
    Node *tensor = node_tensor(d->graph, change->tensor);
    Said said = {.states = arena_array(d->arena, Math *, states->count + 1),
                 .state_symbols = arena_array(d->arena, const Symbol *, states->count + 1),
                 .later = arena_array(d->arena, bool, states->count + 1)};
    symbols[tensor->id] = parameter;
    for (int i = 0; i < states->count; i++) {
        const char *index =
            parameter->index ? arena_printf(d->arena, "%s,%s", parameter->letter, parameter->index) : parameter->letter;
        said.state_symbols[i] = state_symbol(d, states->at[i].tensor, general ? NULL : index);
        symbols[node_tensor(d->graph, states->at[i].tensor)->id] = said.state_symbols[i];
    }
    for (int i = 0; i < states->count; i++) {
        symbols[states->at[i].value->id] = NULL;
        said.states[i] = formula_of(&d->naming, states->at[i].value);
        symbols[states->at[i].value->id] = said.state_symbols[i];
    }
    said.next = symbols[change->value->id] ? math_of(&d->naming, change->value) : formula_of(&d->naming, change->value);
    for (int i = 0; i < states->count; i++)
        said.later[i] = mentions(said.next, node_tensor(d->graph, states->at[i].tensor));
    return said;
}

static void add_update(Deriver *d, const Sink *change, int group) {
    Changes states = {0};
    Node *tensor = node_tensor(d->graph, change->tensor), *gradient = NULL;
    const Symbol *parameter = naming_of(d, tensor), **symbols = d->naming.symbols;
    for (int i = 0; i < d->derivation->changes.count; i++)
        if (is_state_of(d->derivation->changes.at[i].tensor, change->tensor))
            *LIST_ADD(d->arena, &states) = d->derivation->changes.at[i];
    for (int i = 0; i < d->train->gradients.count; i++)
        if (d->train->gradients.at[i].tensor == change->tensor)
            gradient = d->train->gradients.at[i].value;
    Symbol *theta = arena_new_of(d->arena, Symbol);
    theta->letter = change->tensor->statistic ? parameter->letter : "θ";
    theta->index = change->tensor->statistic ? parameter->index : NULL;
    /* a number stands for itself beside what has one element */
    const Node *number = gradient && gradient->op == OP_EXPAND ? gradient->args[0] : gradient;
    const Symbol *of_gradient = gradient ? naming_of(d, gradient) : NULL,
                 *of_number = number ? naming_of(d, number) : NULL;
    if (gradient)
        symbols[number->id] = symbols[gradient->id] = naming_derivative(d, theta);
    Said general = say_update(d, change, &states, theta, true);
    if (gradient)
        symbols[number->id] = symbols[gradient->id] = naming_derivative(d, parameter);
    Said own = say_update(d, change, &states, parameter, false);
    if (gradient) {
        symbols[gradient->id] = of_gradient;
        symbols[number->id] = of_number;
    }
    for (int pass = 0; pass < 3;
         pass++) /* states whose old value is not needed any more, the parameter, other states */
        for (int i = 0; i < (pass == 1 ? 1 : states.count); i++) {
            if (pass != 1 && own.later[i] != (pass == 2))
                continue;
            const Sink *sink = pass == 1 ? change : &states.at[i];
            Equation *equation =
                add_equation(d, PART_UPDATE, pass == 1 ? parameter : own.state_symbols[i], sink->value);
            equation->right = pass == 1 ? own.next : own.states[i];
            equation->general_left = pass == 1 ? theta : general.state_symbols[i];
            equation->general = pass == 1 ? general.next : general.states[i];
            equation->tensor = sink->tensor;
            equation->group = group;
            equation->span = d->update_span;
        }
}

/* What several parameters' updates share and the program names: the length of the gradient. */
static void name_shared_updates(Deriver *d) {
    for (int i = 0; i < d->derivation->changes.count; i++) {
        const Sink *change = &d->derivation->changes.at[i];
        Node *roots[1] = {change->value};
        bool *needed = reached_nodes(d, roots, 1);
        for (int id = 0; id < d->count; id++) {
            Node *node = graph_node(d->graph, id);
            if (!needed[id] || naming_of(d, node))
                continue;
            bool given = node->op == OP_SCALAR || node->op == OP_RANDOM || node->op == OP_INPUT;
            if (node->op == OP_TENSOR && !node->tensor->state)
                naming_set(d, node, naming_of_parameter(d, node->tensor));
            else if (node->op == OP_TENSOR)
                naming_set(d, node, state_symbol(d, node->tensor, NULL));
            else if (node->op == OP_SCALAR)
                name_scalar(d, node);
            else if (node->op == OP_RANDOM)
                naming_set(d, node, naming_symbol(d, node->normal ? "ε" : "u", "update"));
            else if (node->op == OP_INPUT)
                name_input(d, node);
            else if (node->label && !strncmp(node->label, "gradient_", 9)) {
                naming_set(d, node, naming_symbol(d, node->label, NULL));
                Equation *equation = add_equation(d, PART_UPDATE, naming_of(d, node), node);
                equation->right = equation->general = formula_of(&d->naming, node);
                equation->general_left = equation->left;
                equation->group = -1 - id;
                equation->span = d->update_span;
            }
            if (given) { /* the number of updates so far, and the like */
                Equation *equation = add_equation(d, PART_UPDATE, naming_of(d, node), node);
                equation->general_left = equation->left;
                equation->note = given_note(d, node);
                equation->group = -1 - id;
                equation->span = SPAN_NONE;
            }
        }
    }
}

void add_updates(Deriver *d) {
    name_shared_updates(d);
    for (int i = 0; i < d->derivation->changes.count; i++) {
        const Sink *change = &d->derivation->changes.at[i];
        if (!change->tensor->state)
            add_update(d, change, i);
    }
}
