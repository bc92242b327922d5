/* A phase's equations: which values of the graph have a name, what it is, in which order they stand. */
#include "derivation.h"

#include "../graph/print.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARED = 2,
    LARGEST = 12
}; /* a formula of so many ops that is used twice, or of so many, has a line of its own */

typedef struct Deriver {
    Arena *arena;
    Graph *graph;
    const GraphTrain *train;
    Derivation *derivation;
    Recognised recognised;
    Naming naming;
    int count;              /* of nodes when naming begins; arrays are by id */
    Node *objective, *loss; /* loss: of a row, NULL where the objective is something else */
    bool *needed, *forward;
    bool *augmented; /* what an augment line makes of an input: given, as far as the network is concerned */
    int augmented_count;
    int *uses, *ops;
    const char **layer; /* the index of what the node is a part of */
    bool numbered;      /* layers are called by a letter and a number */
    bool several;       /* models: an index begins with the model's name */
    const Symbol *objective_symbol;
    Name *taken; /* names in use, open addressing */
    size_t capacity;
    LIST(Node *) inner; /* forward nodes that get a derivative's name */
    Node **adjoints;    /* of inner, recognised; NULL: none */
    Span update_span;   /* the optimizer's line, or the update's in a step */
} Deriver;

/* ---- names ------------------------------------------------------------------------------------------------------- */

static const char *greek(const char *word) {
    static const char *const known[][2] = {
        {"alpha", "α"}, {"beta", "β"},  {"gamma", "γ"},  {"epsilon", "ε"}, {"eps", "ε"},   {"zeta", "ζ"}, {"eta", "η"},
        {"theta", "θ"}, {"kappa", "κ"}, {"lambda", "λ"}, {"mu", "μ"},      {"nu", "ν"},    {"xi", "ξ"},   {"rho", "ρ"},
        {"sigma", "σ"}, {"tau", "τ"},   {"phi", "φ"},    {"psi", "ψ"},     {"omega", "ω"}, {"delta", "Δ"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i][0], word))
            return known[i][1];
    return word;
}

/* Whether nothing has this name yet; it is taken then. */
static bool take_name(Deriver *d, const Symbol *symbol) {
    Text text = {0};
    text_printf(&text, "%d %s%d_%s", symbol->derivative_of != NULL, symbol->letter, symbol->primes,
                symbol->index ? symbol->index : "");
    Name name = name_of(text.at);
    text_free(&text);
    size_t at = ((uintptr_t)name >> 3) % d->capacity;
    for (; d->taken[at]; at = (at + 1) % d->capacity)
        if (d->taken[at] == name)
            return false;
    d->taken[at] = name;
    return true;
}

/* The first of the letters that is free, else with more primes. */
static const Symbol *symbol_new(Deriver *d, const char *const *letters, const char *index, int primes) {
    Symbol *symbol = arena_new_of(d->arena, Symbol);
    symbol->index = index;
    for (symbol->primes = primes;; symbol->primes++)
        for (int i = 0; letters[i]; i++) {
            symbol->letter = letters[i];
            if (take_name(d, symbol))
                return symbol;
        }
}

static const Symbol *symbol_of(Deriver *d, const char *letter, const char *index) {
    const char *letters[2] = {letter, NULL};
    return symbol_new(d, letters, index, 0);
}

static void set_symbol(Deriver *d, const Node *node, const Symbol *symbol) {
    if (!d->naming.symbols[node->id])
        d->naming.symbols[node->id] = symbol;
}

static const Symbol *named(const Deriver *d, const Node *node) {
    return d->naming.symbols[node->id];
}

/* h1, h2, h3, and no other layers: their values are z_1, h_1. */
static bool are_numbered(const Deriver *d) {
    const ModelInstance *model = d->train->models.at[0];
    for (int i = 0; i < model->layers.count; i++) {
        const char *name = model->layers.at[i];
        bool numbered = isalpha((unsigned char)name[0]) && name[0] == model->layers.at[0][0] && name[1];
        for (const char *at = name + 1; *at && numbered; at++)
            numbered = isdigit((unsigned char)*at) != 0;
        if (!numbered && !strchr(name, '.'))
            return false;
    }
    return !d->several && model->layers.count > 1;
}

static const char *owner_index(const Deriver *d, Name owner, const char *path) {
    if (d->numbered && path && isdigit((unsigned char)path[1]))
        return path + 1;
    if (!d->several || !owner)
        return path;
    return path ? arena_printf(d->arena, "%s.%s", owner, path) : owner;
}

/* body.0.fc1.weight is W of body.0.fc1 */
static const Symbol *parameter_symbol(Deriver *d, const Tensor *tensor) {
    const char *dot = strrchr(tensor->name, '.'), *last = dot ? dot + 1 : tensor->name, *letter = greek(last);
    const char *path = dot ? arena_copy(d->arena, tensor->name, (size_t)(dot - tensor->name)) : NULL;
    if (!strcmp(last, "weight"))
        letter = tensor->rank > 1 ? "W" : "w";
    else if (!strcmp(last, "bias"))
        letter = "b";
    return symbol_of(d, letter, owner_index(d, tensor->owner, path));
}

static bool short_name(const char *name, const char **letter, const char **digits) {
    size_t length = strlen(name);
    bool all = isalpha((unsigned char)name[0]) != 0;
    for (size_t i = 1; i < length; i++)
        all &= isdigit((unsigned char)name[i]) != 0;
    *letter = name;
    *digits = NULL;
    return all && length == 1;
}

static bool is_layer(const Deriver *d, Name label) {
    for (int m = 0; m < d->train->models.count; m++)
        for (int i = 0; i < d->train->models.at[m]->layers.count; i++)
            if (d->train->models.at[m]->layers.at[i] == label)
                return true;
    return false;
}

/* ---- what is looked for in the graph ----------------------------------------------------------------------------- */

static const Node *plain(const Node *node) {
    while (node->op == OP_RESHAPE || node->op == OP_EXPAND)
        node = node->args[0];
    return node;
}

static Tensor *parameter_of(const Node *node) {
    node = plain(node);
    return node->op == OP_TENSOR && !node->tensor->state && !node->tensor->statistic ? node->tensor : NULL;
}

/* W x, w * x or either plus b: its weight, or NULL. */
static Tensor *affine_weight(const Node *node) {
    node = plain(node);
    if (node->op == OP_LOOKUP && node->args[0]->op == OP_TRANSPOSE) /* W times a bag of words */
        return parameter_of(node->args[0]->args[0]);
    if (node->op == OP_ADD)
        for (int i = 0; i < 2; i++)
            if (parameter_of(node->args[i]) && affine_weight(node->args[1 - i]))
                return affine_weight(node->args[1 - i]);
    if (node->op == OP_CONTRACT || node->op == OP_MULTIPLY)
        for (int i = 0; i < 2; i++)
            if (parameter_of(node->args[i]) && !parameter_of(node->args[1 - i]) && node->args[1 - i]->batched)
                return parameter_of(node->args[i]);
    return NULL;
}

/* Arguments that are shown: of a def its parameters; none of what is given. */
static int first_argument(const Deriver *d, const Node *node) {
    if (d->augmented && node->id < d->augmented_count && d->augmented[node->id])
        return node->arg_count;
    return node->op == OP_CUSTOM ? 1 : 0;
}

static bool is_given(const Deriver *d, const Node *node) {
    return first_argument(d, node) == node->arg_count;
}

static bool is_plain(const Node *node) {
    return node->op == OP_CONSTANT || node->op == OP_IOTA || (node->op == OP_EXPAND && is_plain(node->args[0]));
}

static bool *reached(Deriver *d, Node *const *roots, int root_count) {
    bool *needed = arena_array(d->arena, bool, d->count + 1);
    for (int i = 0; i < root_count; i++)
        needed[roots[i]->id] = true;
    for (int id = d->count - 1; id >= 0; id--) {
        const Node *node = graph_node(d->graph, id);
        for (int i = first_argument(d, node); needed[id] && i < node->arg_count; i++)
            needed[node->args[i]->id] = true;
    }
    return needed;
}

/* The last of image_shift, image_rotate … */
static void find_augmented(Deriver *d) {
    const TrainPlan *plan = d->train->plan;
    Node *roots[1] = {d->objective};
    d->count = graph_node_count(d->graph);
    bool *needed = reached(d, roots, 1);
    bool *augmented = arena_array(d->arena, bool, d->count);
    for (int i = 0; plan->data && plan->augments.count && i < plan->data->group_count; i++) {
        const DataGroup *group = &plan->data->groups[i];
        const char *name =
            group->name ? group->name : plan->data->columns[plan->data->slots[group->first_slot].columns[0]].name;
        const char *prefix = arena_printf(d->arena, "%s_", name);
        Node *last = NULL;
        for (int id = 0; id < d->count && !group->target; id++) {
            Node *node = graph_node(d->graph, id);
            if (needed[id] && node->label && node->batched && !strncmp(node->label, prefix, strlen(prefix)) &&
                !is_layer(d, node->label))
                last = node;
        }
        if (last)
            augmented[last->id] = true;
    }
    d->augmented = augmented;
    d->augmented_count = d->count;
}

/* ---- the stages of naming ---------------------------------------------------------------------------------------- */

/* The derivative with respect to every inner value, besides the gradients: the same nodes that the gradients are made of. */
static void find_adjoints(Deriver *d) {
    bool *depends = arena_array(d->arena, bool, d->objective->id + 1);
    int count = d->objective->id + 1;
    for (int i = 0; i < d->train->gradients.count; i++) {
        const Node *node = node_tensor(d->graph, d->train->gradients.at[i].tensor);
        if (node->id < count)
            depends[node->id] = true;
    }
    LIST(Node *) wrt = {0};
    for (int i = 0; i < d->train->gradients.count; i++)
        *LIST_ADD(d->arena, &wrt) = node_tensor(d->graph, d->train->gradients.at[i].tensor);
    int parameters = wrt.count;
    Node *roots[1] = {d->objective};
    d->count = graph_node_count(d->graph);
    bool *needed = reached(d, roots, 1);
    for (int id = 0; id < count; id++) {
        Node *node = graph_node(d->graph, id);
        for (int i = 0; i < node->arg_count; i++)
            depends[id] |= depends[node->args[i]->id];
        if (needed[id] && depends[id] && node->arg_count && node != d->objective && node->type == TYPE_REAL &&
            node->op != OP_DETACH)
            *LIST_ADD(d->arena, &wrt) = node;
    }
    Node **gradients = arena_array(d->arena, Node *, wrt.count);
    differentiate(d->graph, d->objective, wrt.at, wrt.count, gradients);
    recognise_start(&d->recognised, d->graph);
    d->adjoints = arena_array(d->arena, Node *, wrt.count);
    for (int i = parameters; i < wrt.count; i++) {
        d->adjoints[d->inner.count] = gradients[i] ? recognise(&d->recognised, gradients[i]) : NULL;
        *LIST_ADD(d->arena, &d->inner) = recognise(&d->recognised, wrt.at[i]);
    }
}

static const char *data_name(const Node *node) {
    const DataSlot *slot = &node->data->slots[node->integer];
    return node->label ? node->label : slot->name ? slot->name : node->data->columns[slot->columns[0]].name;
}

/* Of the only parameter of the only model that it is fed to. */
static const char *model_parameter(const Deriver *d, const Node *node) {
    const char *name = NULL;
    for (int m = 0; m < d->train->models.count; m++) {
        const ModelInstance *model = d->train->models.at[m], *root = model;
        while (root->base)
            root = root->base;
        for (int i = 0; i < model->results.count; i++)
            if (model->results.at[i].input && plain(model->results.at[i].input) == plain(node) && !name)
                name = root->item->params.at[0].name;
    }
    return name;
}

static bool has_one_hot(const Deriver *d, const Node *index) {
    for (int id = index->id + 1; index->type == TYPE_INDEX && id < d->count; id++) {
        const Node *node = graph_node(d->graph, id);
        if (d->needed[id] && node->op == OP_ONE_HOT && node->args[0] == index)
            return true;
    }
    return false;
}

static int target_count(const DataSet *data) {
    int targets = 0;
    for (int i = 0; i < data->slot_count; i++)
        targets += data->slots[i].target;
    return targets;
}

static void name_input(Deriver *d, const Node *node) {
    const DataSet *data = node->data;
    bool target = node->integer < data->slot_count && data->slots[node->integer].target;
    const char *name = data_name(node), *letter, *digits;
    int targets = target_count(data);
    const DataGroup *group = NULL;
    for (int i = 0; i < data->group_count; i++)
        if (node->integer >= data->groups[i].first_slot &&
            node->integer < data->groups[i].first_slot + data->groups[i].slot_count)
            group = &data->groups[i];
    const char *called = target ? NULL : model_parameter(d, node);
    if (group && group->name && group->slot_count == 1)
        name = group->name;
    else if (called)
        name = called;
    const char *dot = strrchr(name, '.');
    if (node->label && dot) /* of a text: review.words, review.counts */
        set_symbol(d, node, symbol_of(d, dot + 1, NULL));
    else if (target && targets == 1 && !has_one_hot(d, node))
        set_symbol(d, node, symbol_of(d, "y", NULL));
    else if (node->type == TYPE_INDEX)
        set_symbol(d, node, symbol_of(d, name, NULL));
    else if (target && targets == 1)
        set_symbol(d, node, symbol_of(d, "y", NULL));
    else if (short_name(name, &letter, &digits))
        set_symbol(d, node, symbol_of(d, letter, NULL));
    else
        set_symbol(d, node, symbol_of(d, target ? "y" : "x", name));
}

static void name_scalar(Deriver *d, const Node *node) {
    static const char *const letters[] = {"t", "epoch", "T", "steps_per_epoch", "B"};
    const char *letter = node->integer < BP_SCALAR_COUNT ? letters[node->integer] : node->label ? node->label : "s";
    set_symbol(d, node, symbol_of(d, greek(letter), NULL));
}

static void name_leaves(Deriver *d) {
    for (int inputs = 1; inputs >= 0; inputs--) /* x and y come first to their letters */
        for (int id = 0; id < d->count; id++) {
            const Node *node = graph_node(d->graph, id);
            if (!d->needed[id] || (node->op == OP_INPUT) != inputs)
                continue;
            if (node->op == OP_INPUT)
                name_input(d, node);
            else if (node->op == OP_TENSOR)
                set_symbol(d, node, parameter_symbol(d, node->tensor));
            else if (node->op == OP_SCALAR)
                name_scalar(d, node);
            else if (node->op == OP_RANDOM)
                set_symbol(d, node, symbol_of(d, node->normal ? "ε" : "u", node->label));
        }
    for (int id = 0; id < d->count; id++) { /* the target, one-hot */
        const Node *node = graph_node(d->graph, id);
        if (d->needed[id] && node->op == OP_ONE_HOT && node->arg_count == 1 && node->args[0]->op == OP_INPUT &&
            node->args[0]->data->slots[node->args[0]->integer].target)
            set_symbol(d, node,
                       symbol_of(d, "y", target_count(node->args[0]->data) > 1 ? data_name(node->args[0]) : NULL));
    }
}

static const char *model_of(const Deriver *d, const Node *node, int depth) {
    const Tensor *tensor = parameter_of(node);
    if (tensor)
        return tensor->owner;
    for (int i = first_argument(d, node); i < node->arg_count && depth < 12; i++) {
        const char *owner = model_of(d, node->args[i], depth + 1);
        if (owner)
            return owner;
    }
    return NULL;
}

static bool same_owner(const Deriver *d, const char *a, const char *b) {
    const char *dot = strchr(a, '.');
    size_t length = dot ? (size_t)(dot - a) : strlen(a);
    return !d->several || !strncmp(a, b, length);
}

/* What a model gives when it is called a second time has a prime, all the way through it. */
static int primes_before(const Deriver *d, const Node *node, const char *index) {
    int most = 0;
    for (int i = first_argument(d, node); index && i < node->arg_count; i++) {
        const Symbol *symbol = named(d, node->args[i]);
        int primes = symbol ? 0 : primes_before(d, node->args[i], index);
        if (symbol && symbol->index && node->args[i]->arg_count && same_owner(d, symbol->index, index))
            primes = symbol->primes;
        most = primes > most ? primes : most;
    }
    return most;
}

static void name_value(Deriver *d, Node *node, const char *letter, const char *index) {
    const char *letters[2] = {letter, NULL};
    set_symbol(d, node, symbol_new(d, letters, index, primes_before(d, node, index)));
}

/* The path of a block that repeats, where the node is what the block gives: body.3 of an h made of z_body.3.fc2 and used outside
   of it. `path`: what it would be called otherwise. */
static const char *block_of(Deriver *d, const Node *node, const char *path) {
    const Symbol *last = NULL;
    int newest = -1;
    int64_t number, other;
    for (int i = first_argument(d, node); i < node->arg_count; i++) {
        const Node *arg = node->args[i];
        while (arg->arg_count == 1 && !named(d, arg))
            arg = arg->args[0];
        for (int j = 0; !named(d, arg) && j < arg->arg_count; j++)
            if (named(d, arg->args[j]) && arg->args[j]->id > newest && arg->args[j]->arg_count) {
                newest = arg->args[j]->id;
                last = named(d, arg->args[j]);
            }
        if (named(d, arg) && arg->id > newest && arg->arg_count) {
            newest = arg->id;
            last = named(d, arg);
        }
    }
    int length = last && last->index ? index_number(last->index, &number) : INDEX_PLAIN;
    if (length <= 0 || last->index[length - 1] != '.' || !path)
        return path;
    bool next =
        index_number(path, &other) == length && !strncmp(path, last->index, (size_t)length) && other == number + 1;
    bool around = strlen(path) == (size_t)length - 1 && !strncmp(path, last->index, (size_t)length - 1);
    return around || next ? arena_printf(d->arena, "%.*s%lld", length, last->index, (long long)number) : path;
}

/* fc1 of the .bp file: z where it is a product of weights (and a bias), else h; what is called by one letter is that. */
static void name_labelled(Deriver *d, Node *node) {
    const char *label = node->label, *dot = strrchr(label, '.'), *last = dot ? dot + 1 : label, *letter, *digits;
    const char *path = dot ? arena_copy(d->arena, label, (size_t)(dot - label)) : NULL;
    bool layer = is_layer(d, label);
    const char *owner = d->several && layer ? model_of(d, node, 0) : NULL;
    const char *called = layer ? NULL : model_parameter(d, node);
    if (called && !d->several) {
        set_symbol(d, node,
                   short_name(called, &letter, &digits) ? symbol_of(d, called, NULL) : symbol_of(d, "x", called));
        return;
    }
    if (layer) /* of the last of several blocks: body.19 */
        label = block_of(d, node, label);
    if (short_name(last, &letter, &digits)) {
        name_value(d, node, letter, owner_index(d, owner, path));
    } else if (layer && greek(last) == last) {
        const char *index = owner_index(d, owner, label);
        name_value(d, node, affine_weight(node) ? "z" : "h", index);
    } else {
        set_symbol(d, node, symbol_of(d, greek(last), owner_index(d, owner, path)));
    }
}

/* Products of weights that a function is applied to are z, what the function gives h. */
static void name_forward(Deriver *d) {
    bool *inside = arena_array(d->arena, bool, d->count);
    for (int id = 0; id < d->count; id++) {
        const Node *node = graph_node(d->graph, id);
        bool stays = node->op == OP_ADD || node->op == OP_RESHAPE || node->op == OP_EXPAND;
        for (int i = 0; d->needed[id] && stays && affine_weight(node) && i < node->arg_count; i++)
            inside[node->args[i]->id] = true;
        if (d->needed[id] && node->label && stays && plain(node) != node)
            inside[plain(node)->id] = true;
    }
    if (d->loss)
        set_symbol(d, d->loss, symbol_of(d, "ℓ", d->objective_symbol->index));
    for (int id = 0; id < d->count; id++) {
        Node *node = graph_node(d->graph, id);
        if (!d->needed[id] || !d->forward[id] || named(d, node) || node->arg_count == 0 || is_plain(node))
            continue;
        if (is_given(d, node)) {
            set_symbol(d, node, symbol_of(d, "x", node->label));
            continue;
        }
        const Tensor *weight = inside[id] ? NULL : affine_weight(node);
        const Node *argument = node->op == OP_CUSTOM && node->arg_count == 2 ? node->args[1]
                               : op_table[node->op].class == CLASS_MATH      ? node->args[0]
                                                                             : NULL;
        if (node == d->objective) {
            set_symbol(d, node, d->objective_symbol);
        } else if (node->label && !inside[id]) {
            if (plain(node) == node || !is_given(d, plain(node))) /* a target as a number is the target */
                name_labelled(d, node);
        } else if (weight) {
            const char *dot = strrchr(weight->name, '.');
            const char *path = dot ? arena_copy(d->arena, weight->name, (size_t)(dot - weight->name)) : NULL;
            name_value(d, node, "z", owner_index(d, weight->owner, path));
        } else if (d->uses[id] > 1 && argument && named(d, argument) && !strcmp(named(d, argument)->letter, "z")) {
            name_value(d, node, "h", named(d, argument)->index);
        }
    }
    for (int i = 0; i < d->recognised.softmaxes.count; i++) {
        const Node *p = d->recognised.softmaxes.at[i], *z = d->recognised.arguments.at[i];
        const char *index = d->recognised.softmaxes.count > 1 && named(d, z) ? named(d, z)->index : NULL;
        set_symbol(d, p, symbol_of(d, "p", index));
    }
}

static const Symbol *derivative_symbol(Deriver *d, const Symbol *of) {
    Symbol *symbol = arena_new_of(d->arena, Symbol);
    *symbol = *of;
    symbol->derivative_of = d->objective_symbol;
    return symbol;
}

static bool is_delta(const Symbol *symbol) {
    return !strcmp(symbol->letter, "δ");
}

static void count_ops(Deriver *d) {
    for (int id = 0; id < d->count; id++) {
        const Node *node = graph_node(d->graph, id);
        if (!d->needed[id] || is_plain(node) || node->arg_count == 0)
            continue;
        d->ops[id] = node->op != OP_RESHAPE && node->op != OP_EXPAND && node->op != OP_NEGATE;
        for (int i = first_argument(d, node); i < node->arg_count; i++)
            if (!named(d, node->args[i]))
                d->ops[id] += d->ops[node->args[i]->id];
    }
}

static void name_backward(Deriver *d) {
    for (int i = 0; i < d->train->gradients.count; i++) {
        const Sink *gradient = &d->train->gradients.at[i];
        Node *value = recognise(&d->recognised, gradient->value);
        const Symbol *symbol = derivative_symbol(d, named(d, node_tensor(d->graph, gradient->tensor)));
        set_symbol(d, value, symbol);
        set_symbol(d, gradient->value, symbol);
    }
    for (int z = 1; z >= 0; z--) {
        count_ops(d);
        for (int i = 0; i < d->inner.count; i++) {
            const Node *adjoint = d->adjoints[i];
            const Symbol *of = named(d, d->inner.at[i]);
            if (!adjoint || !of || is_plain(adjoint) || adjoint->arg_count == 0 || !d->needed[adjoint->id] ||
                named(d, adjoint) || d->forward[adjoint->id] || (strcmp(of->letter, "z") == 0) != (z == 1))
                continue;
            if (!z && adjoint->type == TYPE_WIDE) /* 1 / B */
                continue;
            if (!z && !(d->uses[adjoint->id] > 1 && d->ops[adjoint->id] > 0) && d->ops[adjoint->id] < LARGEST / 2)
                continue;
            if (d->inner.at[i] == d->loss) /* 1 / B */
                continue;
            if (z) {
                Symbol *delta = arena_new_of(d->arena, Symbol);
                *delta = *of;
                delta->letter = "δ";
                set_symbol(d, adjoint, take_name(d, delta) ? delta : derivative_symbol(d, of));
            } else {
                set_symbol(d, adjoint, derivative_symbol(d, of));
            }
        }
    }
}

static void find_layers(Deriver *d) {
    for (int id = d->count - 1; id >= 0; id--) {
        const Node *node = graph_node(d->graph, id);
        if (!d->needed[id])
            continue;
        if (named(d, node) && named(d, node)->index)
            d->layer[id] = named(d, node)->index;
        for (int i = first_argument(d, node); i < node->arg_count; i++)
            if (d->layer[id] && !named(d, node->args[i]))
                d->layer[node->args[i]->id] = d->layer[id];
    }
}

/* What is used several times, or too large for one line. */
static void name_others(Deriver *d) {
    static const char *const forward[] = {"u", "v", "s", "q", "r", NULL}, *const backward[] = {"c", "e", "g", NULL};
    find_layers(d);
    for (int id = 0; id < d->count; id++) {
        Node *node = graph_node(d->graph, id);
        if (!d->needed[id] || named(d, node) || is_plain(node) || node->arg_count == 0 || node->type == TYPE_TRUTH ||
            (node->type == TYPE_WIDE && !node->rank))
            continue;
        int ops = node->op != OP_RESHAPE && node->op != OP_EXPAND && node->op != OP_NEGATE;
        for (int i = first_argument(d, node); i < node->arg_count; i++)
            if (!named(d, node->args[i]))
                ops += d->ops[node->args[i]->id];
        d->ops[id] = ops;
        if (d->forward[id] && !node->batched && !node->rank) /* a penalty's sum is one */
            continue;
        bool moved = node->op == OP_RESHAPE || node->op == OP_EXPAND || node->op == OP_DETACH || node->op == OP_NEGATE;
        bool own = !moved && ((d->uses[id] > 1 && ops >= SHARED) || ops >= LARGEST);
        const char *block = own && d->forward[id] && d->layer[id] ? block_of(d, node, d->layer[id]) : d->layer[id];
        if (own && block != d->layer[id])
            set_symbol(d, node, symbol_of(d, "h", block));
        else if (own)
            set_symbol(d, node, symbol_new(d, d->forward[id] ? forward : backward, d->layer[id], 0));
    }
}

/* ---- equations --------------------------------------------------------------------------------------------------- */

static Equation *add_equation(Deriver *d, EquationPart part, const Symbol *left, Node *node) {
    Equation *equation = LIST_ADD(d->arena, &d->derivation->equations);
    *equation = (Equation){.part = part, .left = left, .node = node, .span = node->span};
    return equation;
}

static const char *given_note(Deriver *d, const Node *node) {
    if (node->arg_count && is_given(d, node))
        return "the input, changed at random by the augment line";
    switch (node->op) {
    case OP_INPUT: {
        const DataSlot *slot = &node->data->slots[node->integer];
        const DataColumn *column = &node->data->columns[slot->columns[0]];
        if (slot->form == BP_SLOT_WORDS)
            return arena_printf(d->arena, "%s",
                                node->type == TYPE_INDEX ? "words of the text" : "how often each stands there");
        if (node->type == TYPE_INDEX) {
            const char *note = arena_printf(d->arena, "one of %d classes", node->classes);
            if (strcmp(named(d, node)->letter, column->name) != 0)
                note = arena_printf(d->arena, "%s, %s", column->name, note);
            for (int i = 0; i < column->category_count && column->category_count <= 4; i++)
                note = arena_printf(d->arena, "%s%s %s", note, i ? "," : ":", column->categories[i]);
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
    case OP_SCALAR: {
        static const char *const notes[] = {"updates so far", "epochs so far", "updates in all", "updates in an epoch",
                                            "rows in the batch"};
        int64_t param = node->integer - BP_SCALAR_COUNT;
        return param < 0                                               ? notes[node->integer]
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
        return named(d, node) ? GIVEN_CLASS : GIVEN_COUNT;
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
            Equation *equation = add_equation(d, PART_GIVEN, named(d, node), node);
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
        if (d->needed[id] && named(d, node) && !is_given(d, node) && (d->forward[id] || softmax) == forward &&
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
                                          named(d, node), node);
        equation->right = formula_of(&d->naming, node);
        if (softmax && d->loss)
            equation->span = d->loss->span;
        if (equation->part == PART_LOSS && equation->span.source < 0 && d->loss)
            equation->span = d->loss->span;
        for (int j = 0; !forward && is_delta(named(d, node)) && j < d->inner.count; j++) {
            const Symbol *of = named(d, d->inner.at[j]);
            if (d->adjoints[j] != node || !of || strcmp(of->letter, "z") != 0)
                continue;
            equation->also = derivative_symbol(d, of);
            if (equation->span.source < 0)
                equation->span = d->inner.at[j]->span;
        }
    }
}

static void add_gradients(Deriver *d) {
    for (int i = 0; i < d->train->gradients.count; i++) {
        const Sink *gradient = &d->train->gradients.at[i];
        Node *node = recognise(&d->recognised, gradient->value), *tensor = node_tensor(d->graph, gradient->tensor);
        const Symbol *symbol = named(d, node), *own = derivative_symbol(d, named(d, tensor));
        bool same =
            symbol->derivative_of && !strcmp(symbol->letter, own->letter) && symbol->primes == own->primes &&
            (symbol->index == own->index || (symbol->index && own->index && !strcmp(symbol->index, own->index)));
        Equation *equation = add_equation(d, PART_GRADIENT, own, node);
        equation->right = same ? formula_of(&d->naming, node) : math_symbol(d->arena, symbol, node);
        equation->tensor = gradient->tensor;
        equation->span = gradient->tensor->span;
    }
}

/* ---- the update -------------------------------------------------------------------------------------------------- */

static bool depends_on_gradients(Deriver *d, const Node *value) {
    Node *roots[1] = {(Node *)value};
    int before = d->count;
    d->count = value->id + 1;
    bool *needed = reached(d, roots, 1);
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
static void find_changes(Deriver *d) {
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
    symbol->letter = greek(colon ? colon + 1 : state->name);
    if (colon && isdigit((unsigned char)colon[1])) { /* of a second optimizer: fc1.weight:v:2 */
        const char *first = strchr(state->name, ':');
        symbol->letter = greek(arena_copy(d->arena, first + 1, (size_t)(colon - first - 1)));
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
    const Symbol *parameter = named(d, tensor), **symbols = d->naming.symbols;
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
    const Symbol *of_gradient = gradient ? named(d, gradient) : NULL, *of_number = number ? named(d, number) : NULL;
    if (gradient)
        symbols[number->id] = symbols[gradient->id] = derivative_symbol(d, theta);
    Said general = say_update(d, change, &states, theta, true);
    if (gradient)
        symbols[number->id] = symbols[gradient->id] = derivative_symbol(d, parameter);
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
        bool *needed = reached(d, roots, 1);
        for (int id = 0; id < d->count; id++) {
            Node *node = graph_node(d->graph, id);
            if (!needed[id] || named(d, node))
                continue;
            bool given = node->op == OP_SCALAR || node->op == OP_RANDOM || node->op == OP_INPUT;
            if (node->op == OP_TENSOR && !node->tensor->state)
                set_symbol(d, node, parameter_symbol(d, node->tensor));
            else if (node->op == OP_TENSOR)
                set_symbol(d, node, state_symbol(d, node->tensor, NULL));
            else if (node->op == OP_SCALAR)
                name_scalar(d, node);
            else if (node->op == OP_RANDOM)
                set_symbol(d, node, symbol_of(d, node->normal ? "ε" : "u", "update"));
            else if (node->op == OP_INPUT)
                name_input(d, node);
            else if (node->label && !strncmp(node->label, "gradient_", 9)) {
                set_symbol(d, node, symbol_of(d, node->label, NULL));
                Equation *equation = add_equation(d, PART_UPDATE, named(d, node), node);
                equation->right = equation->general = formula_of(&d->naming, node);
                equation->general_left = equation->left;
                equation->group = -1 - id;
                equation->span = d->update_span;
            }
            if (given) { /* the number of updates so far, and the like */
                Equation *equation = add_equation(d, PART_UPDATE, named(d, node), node);
                equation->general_left = equation->left;
                equation->note = given_note(d, node);
                equation->group = -1 - id;
                equation->span = SPAN_NONE;
            }
        }
    }
}

static void add_updates(Deriver *d) {
    name_shared_updates(d);
    for (int i = 0; i < d->derivation->changes.count; i++) {
        const Sink *change = &d->derivation->changes.at[i];
        if (!change->tensor->state)
            add_update(d, change, i);
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
    d->needed = reached(d, roots.at, roots.count);
    d->forward = reached(d, roots.at, 1);
    d->uses = arena_array(d->arena, int, d->count + 1);
    d->ops = arena_array(d->arena, int, d->count + 1);
    d->layer = arena_array(d->arena, const char *, d->count + 1);
    for (int id = 0; id < d->count; id++) {
        const Node *node = graph_node(d->graph, id);
        for (int i = first_argument(d, node); d->needed[id] && i < node->arg_count; i++)
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
        for (int i = first_argument(d, node); !replaced && i < node->arg_count; i++)
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
    take_name(d, d->objective_symbol);
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
