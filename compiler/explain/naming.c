/* Which values of the graph have a name in a derivation, and what it is. */
#include "deriver.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARED = 2,
    LARGEST = 12
}; /* a formula of so many ops that is used twice, or of so many, has a line of its own */

/* ---- names ------------------------------------------------------------------------------------------------------- */

const char *naming_greek(const char *word) {
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
bool naming_take(Deriver *d, const Symbol *symbol) {
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
            if (naming_take(d, symbol))
                return symbol;
        }
}

const Symbol *naming_symbol(Deriver *d, const char *letter, const char *index) {
    const char *letters[2] = {letter, NULL};
    return symbol_new(d, letters, index, 0);
}

void naming_set(Deriver *d, const Node *node, const Symbol *symbol) {
    if (!d->naming.symbols[node->id])
        d->naming.symbols[node->id] = symbol;
}

const Symbol *naming_of(const Deriver *d, const Node *node) {
    return d->naming.symbols[node->id];
}

/* h1, h2, h3, and no other layers: their values are z_1, h_1. */
bool are_numbered(const Deriver *d) {
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
const Symbol *naming_of_parameter(Deriver *d, const Tensor *tensor) {
    const char *dot = strrchr(tensor->name, '.'), *last = dot ? dot + 1 : tensor->name, *letter = naming_greek(last);
    const char *path = dot ? arena_copy(d->arena, tensor->name, (size_t)(dot - tensor->name)) : NULL;
    if (!strcmp(last, "weight"))
        letter = tensor->rank > 1 ? "W" : "w";
    else if (!strcmp(last, "bias"))
        letter = "b";
    return naming_symbol(d, letter, owner_index(d, tensor->owner, path));
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
int shown_arguments(const Deriver *d, const Node *node) {
    if (d->augmented && node->id < d->augmented_count && d->augmented[node->id])
        return node->arg_count;
    return node->op == OP_CUSTOM ? 1 : 0;
}

bool is_given(const Deriver *d, const Node *node) {
    return shown_arguments(d, node) == node->arg_count;
}

static bool is_plain(const Node *node) {
    return node->op == OP_CONSTANT || node->op == OP_IOTA || (node->op == OP_EXPAND && is_plain(node->args[0]));
}

bool *reached_nodes(Deriver *d, Node *const *roots, int root_count) {
    bool *needed = arena_array(d->arena, bool, d->count + 1);
    for (int i = 0; i < root_count; i++)
        needed[roots[i]->id] = true;
    for (int id = d->count - 1; id >= 0; id--) {
        const Node *node = graph_node(d->graph, id);
        for (int i = shown_arguments(d, node); needed[id] && i < node->arg_count; i++)
            needed[node->args[i]->id] = true;
    }
    return needed;
}

/* The last of image_shift, image_rotate …; of the row's partner, the last of partner_image_shift … */
void find_augmented(Deriver *d) {
    const TrainPlan *plan = d->train->plan;
    Node *roots[1] = {d->objective};
    d->count = graph_node_count(d->graph);
    bool *needed = reached_nodes(d, roots, 1);
    bool *augmented = arena_array(d->arena, bool, d->count);
    for (int i = 0; plan->data && plan->augments.count && i < 2 * plan->data->group_count; i++) {
        const DataGroup *group = &plan->data->groups[i / 2];
        const char *name =
            group->name ? group->name : plan->data->columns[plan->data->slots[group->first_slot].columns[0]].name;
        const char *prefix = arena_printf(d->arena, "%s%s_", i % 2 ? "partner_" : "", name);
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
void find_adjoints(Deriver *d) {
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
    bool *needed = reached_nodes(d, roots, 1);
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
    return node->label && !node->partner ? node->label
           : slot->name                  ? slot->name
                                         : node->data->columns[slot->columns[0]].name;
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

/* The same input of the row itself. */
static const Node *own_input(const Deriver *d, const Node *partner) {
    for (int id = 0; id < partner->id; id++) {
        const Node *node = graph_node(d->graph, id);
        if (node->op == OP_INPUT && !node->partner && node->data == partner->data && node->integer == partner->integer)
            return node;
    }
    return NULL;
}

void name_input(Deriver *d, const Node *node) {
    const Node *own = node->partner ? own_input(d, node) : NULL;
    const Symbol *symbol = own ? naming_of(d, own) : NULL;
    if (symbol) { /* with a prime */
        naming_set(d, node, naming_symbol(d, symbol->letter, symbol->index));
        return;
    }
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
        naming_set(d, node, naming_symbol(d, dot + 1, NULL));
    else if (target && targets == 1 && !has_one_hot(d, node))
        naming_set(d, node, naming_symbol(d, "y", NULL));
    else if (node->type == TYPE_INDEX)
        naming_set(d, node, naming_symbol(d, name, NULL));
    else if (target && targets == 1)
        naming_set(d, node, naming_symbol(d, "y", NULL));
    else if (short_name(name, &letter, &digits))
        naming_set(d, node, naming_symbol(d, letter, NULL));
    else
        naming_set(d, node, naming_symbol(d, target ? "y" : "x", name));
}

const ScalarWords scalar_words[BP_SCALAR_COUNT] = {
    [BP_SCALAR_STEP] = {"t", "updates so far"},
    [BP_SCALAR_EPOCH] = {"epoch", "epochs so far"},
    [BP_SCALAR_STEPS] = {"T", "updates in all"},
    [BP_SCALAR_STEPS_PER_EPOCH] = {"steps_per_epoch", "updates in an epoch"},
    [BP_SCALAR_ROWS] = {"B", "rows in the batch"},
    [BP_SCALAR_PLATEAU] = {"eta", "the rate that reduce_on_plateau gives"},
};

void name_scalar(Deriver *d, const Node *node) {
    const char *letter = node->integer < BP_SCALAR_COUNT ? scalar_words[node->integer].letter
                         : node->label                   ? node->label
                                                         : "s";
    naming_set(d, node, naming_symbol(d, naming_greek(letter), NULL));
}

void name_leaves(Deriver *d) {
    for (int inputs = 1; inputs >= 0; inputs--) /* x and y come first to their letters */
        for (int id = 0; id < d->count; id++) {
            const Node *node = graph_node(d->graph, id);
            if (!d->needed[id] || (node->op == OP_INPUT) != inputs)
                continue;
            if (node->op == OP_INPUT)
                name_input(d, node);
            else if (node->op == OP_TENSOR)
                naming_set(d, node, naming_of_parameter(d, node->tensor));
            else if (node->op == OP_SCALAR)
                name_scalar(d, node);
            else if (node->op == OP_RANDOM)
                naming_set(d, node, naming_symbol(d, node->normal ? "ε" : "u", node->label));
        }
    for (int at = 0; at < 2 * d->count; at++) { /* the target, one-hot: the row's own comes first to its letter */
        const Node *node = graph_node(d->graph, at % d->count);
        if (d->needed[node->id] && node->op == OP_ONE_HOT && node->arg_count == 1 && node->args[0]->op == OP_INPUT &&
            node->args[0]->partner == (at >= d->count) && node->args[0]->data->slots[node->args[0]->integer].target)
            naming_set(d, node,
                       naming_symbol(d, "y", target_count(node->args[0]->data) > 1 ? data_name(node->args[0]) : NULL));
    }
}

static const char *model_of(const Deriver *d, const Node *node, int depth) {
    const Tensor *tensor = parameter_of(node);
    if (tensor)
        return tensor->owner;
    for (int i = shown_arguments(d, node); i < node->arg_count && depth < 12; i++) {
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
    for (int i = shown_arguments(d, node); index && i < node->arg_count; i++) {
        const Symbol *symbol = naming_of(d, node->args[i]);
        int primes = symbol ? 0 : primes_before(d, node->args[i], index);
        if (symbol && symbol->index && node->args[i]->arg_count && same_owner(d, symbol->index, index))
            primes = symbol->primes;
        most = primes > most ? primes : most;
    }
    return most;
}

static void name_value(Deriver *d, Node *node, const char *letter, const char *index) {
    const char *letters[2] = {letter, NULL};
    naming_set(d, node, symbol_new(d, letters, index, primes_before(d, node, index)));
}

/* The path of a block that repeats, where the node is what the block gives: body.3 of an h made of z_body.3.fc2 and used outside
   of it. `path`: what it would be called otherwise. */
static const char *block_of(Deriver *d, const Node *node, const char *path) {
    const Symbol *last = NULL;
    int newest = -1;
    int64_t number, other;
    for (int i = shown_arguments(d, node); i < node->arg_count; i++) {
        const Node *arg = node->args[i];
        while (arg->arg_count == 1 && !naming_of(d, arg))
            arg = arg->args[0];
        for (int j = 0; !naming_of(d, arg) && j < arg->arg_count; j++)
            if (naming_of(d, arg->args[j]) && arg->args[j]->id > newest && arg->args[j]->arg_count) {
                newest = arg->args[j]->id;
                last = naming_of(d, arg->args[j]);
            }
        if (naming_of(d, arg) && arg->id > newest && arg->arg_count) {
            newest = arg->id;
            last = naming_of(d, arg);
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
        naming_set(d, node,
                   short_name(called, &letter, &digits) ? naming_symbol(d, called, NULL)
                                                        : naming_symbol(d, "x", called));
        return;
    }
    if (layer) /* of the last of several blocks: body.19 */
        label = block_of(d, node, label);
    if (short_name(last, &letter, &digits)) {
        name_value(d, node, letter, owner_index(d, owner, path));
    } else if (layer && naming_greek(last) == last) {
        const char *index = owner_index(d, owner, label);
        name_value(d, node, affine_weight(node) ? "z" : "h", index);
    } else {
        naming_set(d, node, naming_symbol(d, naming_greek(last), owner_index(d, owner, path)));
    }
}

/* Products of weights that a function is applied to are z, what the function gives h. */
void name_forward(Deriver *d) {
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
        naming_set(d, d->loss, naming_symbol(d, "ℓ", d->objective_symbol->index));
    for (int id = 0; id < d->count; id++) {
        Node *node = graph_node(d->graph, id);
        if (!d->needed[id] || !d->forward[id] || naming_of(d, node) || node->arg_count == 0 || is_plain(node))
            continue;
        if (is_given(d, node)) {
            naming_set(d, node, naming_symbol(d, "x", node->label));
            continue;
        }
        const Tensor *weight = inside[id] ? NULL : affine_weight(node);
        const Node *argument = node->op == OP_CUSTOM && node->arg_count == 2 ? node->args[1]
                               : op_table[node->op].class == CLASS_MATH      ? node->args[0]
                                                                             : NULL;
        if (node == d->objective) {
            naming_set(d, node, d->objective_symbol);
        } else if (node->label && !inside[id]) {
            if (plain(node) == node || !is_given(d, plain(node))) /* a target as a number is the target */
                name_labelled(d, node);
        } else if (weight) {
            const char *dot = strrchr(weight->name, '.');
            const char *path = dot ? arena_copy(d->arena, weight->name, (size_t)(dot - weight->name)) : NULL;
            name_value(d, node, "z", owner_index(d, weight->owner, path));
        } else if (d->uses[id] > 1 && argument && naming_of(d, argument) &&
                   !strcmp(naming_of(d, argument)->letter, "z")) {
            name_value(d, node, "h", naming_of(d, argument)->index);
        }
    }
    for (int i = 0; i < d->recognised.softmaxes.count; i++) {
        const Node *p = d->recognised.softmaxes.at[i], *z = d->recognised.arguments.at[i];
        const char *index = d->recognised.softmaxes.count > 1 && naming_of(d, z) ? naming_of(d, z)->index : NULL;
        naming_set(d, p, naming_symbol(d, "p", index));
    }
}

const Symbol *naming_derivative(Deriver *d, const Symbol *of) {
    Symbol *symbol = arena_new_of(d->arena, Symbol);
    *symbol = *of;
    symbol->derivative_of = d->objective_symbol;
    return symbol;
}

bool is_delta(const Symbol *symbol) {
    return !strcmp(symbol->letter, "δ");
}

static void count_ops(Deriver *d) {
    for (int id = 0; id < d->count; id++) {
        const Node *node = graph_node(d->graph, id);
        if (!d->needed[id] || is_plain(node) || node->arg_count == 0)
            continue;
        d->ops[id] = node->op != OP_RESHAPE && node->op != OP_EXPAND && node->op != OP_NEGATE;
        for (int i = shown_arguments(d, node); i < node->arg_count; i++)
            if (!naming_of(d, node->args[i]))
                d->ops[id] += d->ops[node->args[i]->id];
    }
}

void name_backward(Deriver *d) {
    for (int i = 0; i < d->train->gradients.count; i++) {
        const Sink *gradient = &d->train->gradients.at[i];
        Node *value = recognise(&d->recognised, gradient->value);
        const Symbol *symbol = naming_derivative(d, naming_of(d, node_tensor(d->graph, gradient->tensor)));
        naming_set(d, value, symbol);
        naming_set(d, gradient->value, symbol);
    }
    for (int z = 1; z >= 0; z--) {
        count_ops(d);
        for (int i = 0; i < d->inner.count; i++) {
            const Node *adjoint = d->adjoints[i];
            const Symbol *of = naming_of(d, d->inner.at[i]);
            if (!adjoint || !of || is_plain(adjoint) || adjoint->arg_count == 0 || !d->needed[adjoint->id] ||
                naming_of(d, adjoint) || d->forward[adjoint->id] || (strcmp(of->letter, "z") == 0) != (z == 1))
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
                naming_set(d, adjoint, naming_take(d, delta) ? delta : naming_derivative(d, of));
            } else {
                naming_set(d, adjoint, naming_derivative(d, of));
            }
        }
    }
}

static void find_layers(Deriver *d) {
    for (int id = d->count - 1; id >= 0; id--) {
        const Node *node = graph_node(d->graph, id);
        if (!d->needed[id])
            continue;
        if (naming_of(d, node) && naming_of(d, node)->index)
            d->layer[id] = naming_of(d, node)->index;
        for (int i = shown_arguments(d, node); i < node->arg_count; i++)
            if (d->layer[id] && !naming_of(d, node->args[i]))
                d->layer[node->args[i]->id] = d->layer[id];
    }
}

/* What is used several times, or too large for one line. */
void name_others(Deriver *d) {
    static const char *const forward[] = {"u", "v", "s", "q", "r", NULL}, *const backward[] = {"c", "e", "g", NULL};
    find_layers(d);
    for (int id = 0; id < d->count; id++) {
        Node *node = graph_node(d->graph, id);
        if (!d->needed[id] || naming_of(d, node) || is_plain(node) || node->arg_count == 0 ||
            node->type == TYPE_TRUTH || (node->type == TYPE_WIDE && !node->rank))
            continue;
        int ops = node->op != OP_RESHAPE && node->op != OP_EXPAND && node->op != OP_NEGATE;
        for (int i = shown_arguments(d, node); i < node->arg_count; i++)
            if (!naming_of(d, node->args[i]))
                ops += d->ops[node->args[i]->id];
        d->ops[id] = ops;
        if (d->forward[id] && !node->batched && !node->rank) /* a penalty's sum is one */
            continue;
        bool moved = node->op == OP_RESHAPE || node->op == OP_EXPAND || node->op == OP_DETACH || node->op == OP_NEGATE;
        bool own = !moved && ((d->uses[id] > 1 && ops >= SHARED) || ops >= LARGEST);
        const char *block = own && d->forward[id] && d->layer[id] ? block_of(d, node, d->layer[id]) : d->layer[id];
        if (own && block != d->layer[id])
            naming_set(d, node, naming_symbol(d, "h", block));
        else if (own)
            naming_set(d, node, symbol_new(d, d->forward[id] ? forward : backward, d->layer[id], 0));
    }
}
