/* Before: a phase's step and validation, as functions of rows. After: what they compute of the rows and of frozen parameters
   alone is computed by a function of its own, the prefix, and they read it as they read a slot of the data. Nothing
   else about them changes, so the bits are the same whether the runtime calls the prefix once for all rows and keeps
   what it gives, or before every batch. Requires the phase to be complete; the trace and the functions of --check-grad
   stay whole.

   A value is cold when it depends on a row, on a frozen parameter, and on nothing that changes while the phase runs: no
   parameter that is trained, no random draw, no step or epoch, no sum over the batch. What others read of the cold
   values is the frontier; it is moved down through ops that only move elements, to values of REAL. */
#include "build.h"

#include <string.h>

/* The least work that is saved for each number that is read again instead. */
#define WORTH_KEEPING 4.0

typedef struct Frozen {
    Build *build;
    GraphTrain *train;
    int count;          /* of nodes when the pass began */
    bool *seen;         /* by id: computed by the step */
    const Node **cause; /* by id: why it changes; NULL: it is fixed while the phase runs */
    bool *frozen;       /* by id: depends on a frozen parameter */
    bool *cold;         /* by id: moves to the prefix, or is read from it */
    bool *read;         /* by id: read by what is not cold */
    Name *labels;       /* by id: a name of what it is behind */
    Node **becomes;     /* by id: what stands for it in the step */
} Frozen;

static int value_args(const Node *node) { /* of a custom op only the value is computed */
    return node->op == OP_CUSTOM ? 1 : node->arg_count;
}

/* ---- what changes while the phase runs --------------------------------------------------------------------------- */

static bool is_updated(const Frozen *f, const Tensor *tensor) {
    const GraphFunction *step = f->train->training.passes.at[0].accumulate;
    for (int i = 0; i < step->sinks.count; i++)
        if (step->sinks.at[i].tensor == tensor)
            return true;
    return tensor->state;
}

static bool changes_itself(const Frozen *f, const Node *node) {
    switch (node->op) {
    case OP_INPUT: /* another row in every epoch */
        return node->partner;
    case OP_TENSOR:
        return is_updated(f, node->tensor);
    case OP_SCALAR: /* params and fitted values stay */
        return node->integer < (int)BP_SCALAR_COUNT;
    case OP_CONTRACT:
        return node->contract.over_batch;
    case OP_TOTAL:
    case OP_RANDOM:
    case OP_BATCH_SUM:
    case OP_SCATTER:
        return true;
    default:
        return false;
    }
}

static void find_causes(Frozen *f) {
    for (int id = 0; id < f->count; id++) {
        const Node *node = graph_node(f->build->graph, id);
        if (changes_itself(f, node))
            f->cause[id] = node;
        f->frozen[id] = node->op == OP_TENSOR && !f->cause[id];
        for (int i = 0; i < value_args(node); i++) {
            if (!f->cause[id])
                f->cause[id] = f->cause[node->args[i]->id];
            f->frozen[id] |= f->frozen[node->args[i]->id];
        }
        f->cold[id] = node->batched && f->frozen[id] && !f->cause[id];
    }
}

/* ---- the frontier ------------------------------------------------------------------------------------------------ */

static void mark_read(Frozen *f, const Node *node) {
    for (int i = 0; i < value_args(node); i++)
        f->read[node->args[i]->id] = true;
}

/* Computed where it is read: it costs nothing, or is no number that a table could hold. */
static bool moves_elements(const Node *node) {
    switch (node->op) {
    case OP_EXPAND:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_CONCAT:
    case OP_ONE_HOT:
    case OP_DETACH:
    case OP_CUSTOM:
        return true;
    case OP_LOOKUP: /* of several rows it is a sum */
        return node->arg_count == 2;
    default:
        return node->type != TYPE_REAL;
    }
}

/* What is read outside of what is cold; the rest of the cold values is left to the prefix. */
static void find_frontier(Frozen *f) {
    const GraphFunction *step = f->train->training.passes.at[0].accumulate;
    for (int i = 0; i < step->sinks.count; i++)
        f->read[step->sinks.at[i].value->id] = true;
    for (int id = f->count - 1; id >= 0; id--) {
        const Node *node = graph_node(f->build->graph, id);
        if (!f->seen[id])
            continue;
        if (f->cold[id] && f->read[id] && moves_elements(node)) {
            f->cold[id] = false;
            Name label = f->labels[id] ? f->labels[id] : node->label;
            if (value_args(node) == 1 && !f->labels[node->args[0]->id])
                f->labels[node->args[0]->id] = label;
        }
        if (!f->cold[id])
            mark_read(f, node);
    }
}

static void keep_values(Frozen *f) {
    Graph *graph = f->build->graph;
    GraphTrain *train = f->train;
    const DataSet *data = train->plan->data;
    for (int id = 0; id < f->count; id++) {
        Node *node = graph_node(graph, id);
        if (!f->seen[id] || !f->cold[id] || !f->read[id])
            continue;
        Span before = graph_set_span(graph, node->span);
        Node *input = node_input(graph, data, data->slot_count + f->build->out->kept_count++, node_elements(node), 0);
        Name label = node->label ? node->label : f->labels[id];
        node_label(input, label ? label : name_of("kept"));
        f->becomes[id] = node->rank == 1 ? input : node_reshape(graph, input, node->rank, node->dims);
        graph_set_span(graph, before);
        *LIST_ADD(f->build->arena, &train->kept) = (KeptValue){node, input, NULL};
    }
}

/* ---- the functions ----------------------------------------------------------------------------------------------- */

static Node *becomes(void *context, Node *node) {
    const Frozen *f = context;
    if (node->id >= f->count)
        return NULL;
    Node *value = node;
    while (value->op == OP_CUSTOM || value->op == OP_DETACH) /* nothing is differentiated any more */
        value = value->args[0];
    return f->becomes[value->id];
}

static void mark_sinks(const Sink *sinks, int count, bool *seen) {
    for (int i = 0; i < count; i++)
        mark_computed(sinks[i].value, seen);
}

/* The sinks with the kept values read. In the order of ids: what was made before an update stays before it. */
static Sink *read_kept(Frozen *f, const GraphFunction *function, Node **guard) {
    Arena *arena = f->build->arena;
    Rewriter rewriter;
    bool *seen = arena_array(arena, bool, graph_node_count(f->build->graph));
    Sink *sinks = arena_array(arena, Sink, function->sinks.count + 1);
    mark_sinks(function->sinks.at, function->sinks.count, seen);
    rewrite_start(&rewriter, f->build->graph, becomes, f);
    for (int id = 0; id < rewriter.memo_count; id++)
        if (seen[id] && (id >= f->count || !f->cold[id]))
            rewrite(&rewriter, graph_node(f->build->graph, id));
    for (int i = 0; i < function->sinks.count; i++) {
        sinks[i] = function->sinks.at[i];
        sinks[i].value = rewrite(&rewriter, sinks[i].value);
    }
    *guard = function->guard ? rewrite(&rewriter, function->guard) : NULL;
    return sinks;
}

static void change_function(Frozen *f, GraphFunction *function) {
    Node *guard;
    Sink *sinks = read_kept(f, function, &guard);
    memcpy(function->sinks.at, sinks, sizeof *sinks * (size_t)function->sinks.count);
    function->guard = guard;
}

static double sinks_work(Frozen *f, const Sink *sinks, int count) {
    bool *seen = arena_array(f->build->arena, bool, graph_node_count(f->build->graph));
    mark_sinks(sinks, count, seen);
    return work_of_row(f->build->graph, seen);
}

static void build_prefix(Frozen *f) {
    GraphTrain *train = f->train;
    Build *build = f->build;
    const TrainPlan *plan = train->plan;
    train->prefix =
        function_new(build, arena_printf(build->arena, "%s_prefix", train->name),
                     "what depends on the rows and on frozen parameters alone", plan->span, plan->batch_size);
    for (int i = 0; i < train->kept.count; i++) {
        KeptValue *kept = &train->kept.at[i];
        kept->buffer =
            buffer_new(build->arena, arena_printf(build->arena, "kept_%s", kept->input->label), BUFFER_OUTPUT,
                       SCALAR_F32, plan->batch_size, kept->value->rank, kept->value->dims, plan->span);
        *LIST_ADD(build->arena, &train->prefix->sinks) = (Sink){kept->value, NULL, kept->buffer, 0};
    }
    train->prefix_flops_per_row = function_flops(build, train->prefix);
}

/* ---- what is told ------------------------------------------------------------------------------------------------ */

static Name layer_of(Frozen *f, const Tensor *tensor) {
    const char *end = strrchr(tensor->name, '.');
    return end ? name_of(arena_printf(f->build->arena, "%.*s", (int)(end - tensor->name), tensor->name)) : tensor->name;
}

static const Tensor *first_tensor(const Node *node) {
    const Tensor *tensor = node->op == OP_TENSOR ? node->tensor : NULL;
    for (int i = 0; i < value_args(node) && !tensor; i++)
        tensor = first_tensor(node->args[i]);
    return tensor;
}

/* The first name on the way to what changes. */
static Name read_through(const Frozen *f, const Node *node) {
    for (const Node *next = node; next; node = next) {
        next = NULL;
        for (int i = 0; i < value_args(node) && !next; i++)
            if (f->cause[node->args[i]->id] == f->cause[node->id])
                next = node->args[i];
        if (next && next->batched && next->label)
            return next->label;
    }
    return NULL;
}

static void tell_cause(Frozen *f, Name layer, Name through, const Node *cause) {
    for (int i = 0; i < f->train->unkept.count; i++)
        if (f->train->unkept.at[i].layer == layer)
            return;
    *LIST_ADD(f->build->arena, &f->train->unkept) = (UnkeptLayer){layer, through, cause};
}

/* Frozen layers that read what changes. */
static void find_unkept(Frozen *f) {
    bool *forward = arena_array(f->build->arena, bool, f->count);
    mark_computed(f->train->objective, forward);
    for (int id = 0; id < f->count; id++) {
        const Node *node = graph_node(f->build->graph, id);
        if (!forward[id] || !node->batched || !f->cause[id])
            continue;
        for (int i = 0; i < value_args(node); i++) {
            const Node *weights = node->args[i];
            if (!weights->batched && f->frozen[weights->id] && !f->cause[weights->id])
                tell_cause(f, layer_of(f, first_tensor(weights)), read_through(f, node), f->cause[id]);
        }
    }
}

static void tell_layers(Frozen *f) {
    GraphTrain *train = f->train;
    int count = graph_node_count(f->build->graph);
    const GraphFunction *step = train->training.passes.at[0].accumulate;
    bool *of_step = arena_array(f->build->arena, bool, count), *of_prefix = arena_array(f->build->arena, bool, count);
    mark_sinks(step->sinks.at, step->sinks.count, of_step);
    if (train->prefix)
        mark_sinks(train->prefix->sinks.at, train->prefix->sinks.count, of_prefix);
    find_unkept(f);
    for (int i = 0; i < train->frozen.count; i++) {
        const Node *weights = node_tensor(f->build->graph, train->frozen.at[i]);
        Name layer = layer_of(f, train->frozen.at[i]);
        bool told = false;
        for (int j = 0; j < train->kept_layers.count; j++)
            told |= train->kept_layers.at[j] == layer;
        if (weights->id >= count || told)
            continue;
        if (of_step[weights->id])
            tell_cause(f, layer, NULL, NULL);
        else if (of_prefix[weights->id])
            *LIST_ADD(f->build->arena, &train->kept_layers) = layer;
    }
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

static bool is_worth_keeping(Frozen *f) {
    GraphTrain *train = f->train;
    const GraphFunction *step = train->training.passes.at[0].accumulate;
    double width = 0;
    Node *guard;
    for (int i = 0; i < train->kept.count; i++)
        width += (double)node_elements(train->kept.at[i].value);
    train->work_after = sinks_work(f, read_kept(f, step, &guard), step->sinks.count);
    return train->work_before - train->work_after >= WORTH_KEEPING * width;
}

void keep_frozen(Build *build, GraphTrain *train) {
    Arena *arena = build->arena;
    GraphFunction *step = train->training.passes.at[0].accumulate;
    int count = graph_node_count(build->graph);
    Frozen f = {.build = build, .train = train, .count = count};
    if (!train->frozen.count)
        return;
    f.seen = arena_array(arena, bool, count);
    f.cause = arena_array(arena, const Node *, count);
    f.frozen = arena_array(arena, bool, count);
    f.cold = arena_array(arena, bool, count);
    f.read = arena_array(arena, bool, count);
    f.labels = arena_array(arena, Name, count);
    f.becomes = arena_array(arena, Node *, count);
    mark_sinks(step->sinks.at, step->sinks.count, f.seen);
    find_causes(&f);
    find_frontier(&f);
    train->work_before = train->work_after = sinks_work(&f, step->sinks.at, step->sinks.count);
    keep_values(&f);
    if (train->kept.count && is_worth_keeping(&f)) {
        build_prefix(&f);
        for (int i = 0; i < step->sinks.count; i++)
            *LIST_ADD(build->arena, &train->whole) = step->sinks.at[i];
        change_function(&f, step);
        for (int i = 0; i < train->validation.passes.count; i++)
            change_function(&f, train->validation.passes.at[i].accumulate);
    } else {
        train->kept.count = 0;
        train->work_after = train->work_before;
    }
    tell_layers(&f);
}
