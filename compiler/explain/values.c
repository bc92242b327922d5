/* One example worked through: what --values gives, first values as the program would draw them, and every value of the graph from these, in double. */
#include "page.h"

#include "../../runtime/runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Held {
    const Tensor *tensor;
    double *values;
    bool given;
} Held;

typedef struct Filled {
    const DataSet *data;
    int slot;
    double *values; /* [rows][width] */
    bool *known;    /* [width] */
} Filled;

struct Example {
    Arena *arena;
    const GraphProgram *program;
    const ExplainRequest *request;
    const GraphTrain *views;
    int view_count;
    int64_t rows; /* 0: not known yet */
    LIST(Held) tensors;
    LIST(Filled) slots;
    Evaluator evaluator;
    bool failed;
};

static int slot_width(const DataSlot *slot) {
    return slot->category ? 1 : slot->width;
}

/* ---- leaves ------------------------------------------------------------------------------------------------------ */

/* As kernel/math_random.c draws, in double. */
static double draw(const Node *node, uint64_t seed, uint64_t row, uint64_t element) {
    uint32_t keyed =
        (uint32_t)node->integer ^ (uint32_t)(row >> 32) * 0x9E3779B1U ^ (uint32_t)(element >> 32) * 0x85EBCA77U;
    const uint32_t counter[4] = {(uint32_t)element, (uint32_t)row, 0, keyed},
                   key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    bp_philox(counter, key, out);
    if (!node->normal)
        return (double)(out[0] >> 8) * 0x1p-24;
    double u = (double)((out[0] >> 8) + 1) * 0x1p-24, v = (double)(out[1] >> 8) * 0x1p-24;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static void fill(void *context, const Node *node, Evaluation *value);

static Held *held(Example *example, const Tensor *tensor) {
    for (int i = 0; i < example->tensors.count; i++)
        if (example->tensors.at[i].tensor == tensor)
            return &example->tensors.at[i];
    int64_t elements = 1;
    for (int i = 0; i < tensor->rank; i++)
        elements *= tensor->dims[i];
    double *values = arena_array(example->arena, double, elements);
    if (tensor->init) {
        Evaluator evaluator = {.arena = example->arena, .rows = 1, .leaf = fill, .context = example};
        const Evaluation *first = graph_evaluate(&evaluator, tensor->init);
        for (int64_t i = 0; i < elements; i++)
            values[i] = first->values[first->elements > 1 ? i : 0];
    }
    Held *made = LIST_ADD(example->arena, &example->tensors);
    *made = (Held){tensor, values, false};
    return made;
}

/* What reduce_on_plateau begins with. */
static double plateau_start(const Example *example) {
    for (int v = 0; v < example->view_count; v++)
        if (example->views[v].rate.plateau.start > 0)
            return example->views[v].rate.plateau.start;
    BUG("no phase has the rate of reduce_on_plateau");
}

static double scalar_value(Example *example, const Node *node) {
    const Program *program = example->program->program;
    const TrainPlan *plan = example->view_count ? example->views[0].plan : NULL;
    int64_t param = node->integer - BP_SCALAR_COUNT;
    switch (node->integer) {
    case BP_SCALAR_STEP:
    case BP_SCALAR_EPOCH:
        return 0;
    case BP_SCALAR_STEPS:
        return plan && plan->steps ? (double)plan->steps : plan && plan->epochs ? (double)plan->epochs : 1;
    case BP_SCALAR_STEPS_PER_EPOCH:
        return 1;
    case BP_SCALAR_PLATEAU:
        return plateau_start(example);
    default:
        if (param < program->params.count)
            return program->params.at[param].value;
        if (!example->failed)
            error_plain("'%s' is fitted to the data, which --values does not read",
                        node->label ? node->label : "a value");
        example->failed = true;
        return 1;
    }
}

static Filled *slot_of(Example *example, const DataSet *data, int slot) {
    for (int i = 0; i < example->slots.count; i++)
        if (example->slots.at[i].data == data && example->slots.at[i].slot == slot)
            return &example->slots.at[i];
    return NULL;
}

static void fill(void *context, const Node *node, Evaluation *value) {
    Example *example = context;
    int64_t count = value->rows * value->elements;
    int64_t first = node->partner ? value->elements : 0; /* what the row after the first has */
    const double *from = NULL;
    if (node->op == OP_TENSOR)
        from = held(example, node->tensor)->values;
    if (node->op == OP_INPUT)
        from = slot_of(example, node->data, (int)node->integer)->values;
    for (int64_t i = 0; i < count; i++) {
        if (from)
            value->values[i] = from[(first + i) % count];
        else if (node->op == OP_SCALAR)
            value->values[i] = scalar_value(example, node);
        else if (node->op == OP_RANDOM)
            value->values[i] =
                draw(node, example->request->seed, (uint64_t)(i / value->elements), (uint64_t)(i % value->elements));
        else
            BUG("'%s' has no value here", op_table[node->op].name);
    }
}

/* ---- what is given ----------------------------------------------------------------------------------------------- */

static bool fail(Example *example, const char *format, const char *name, const char *what, long long wanted,
                 long long got) {
    error_plain(format, name, what, wanted, got); /* formats are literals of this file */
    example->failed = true;
    return false;
}

static bool is_separator(char c) {
    return c == ',' || c == ';' || c == 0;
}

/* The piece at *at, without the separator behind it, which *at is left on. */
static const char *next_piece(Arena *arena, const char **at) {
    const char *start = *at;
    while (!is_separator(**at))
        (*at)++;
    while (*start == ' ' && start < *at)
        start++;
    const char *end = *at;
    while (end > start && end[-1] == ' ')
        end--;
    return arena_copy(arena, start, (size_t)(end - start));
}

static bool parse_number(Example *example, const char *name, const char *piece, double *number) {
    char *end;
    *number = strtod(piece, &end);
    if (*piece && !*end && isfinite(*number))
        return true;
    error_plain("--values %s: '%s' is not a number", name, piece);
    example->failed = true;
    return false;
}

static bool parse_class(Example *example, const char *name, const DataColumn *column, const char *piece,
                        double *number) {
    for (int i = 0; i < column->category_count; i++)
        if (!strcmp(column_category(column, i), piece)) {
            *number = i;
            return true;
        }
    char *end;
    long index = strtol(piece, &end, 10);
    *number = (double)index;
    if (*piece && !*end && index >= 0 && index < column->category_count)
        return true;
    Name near = nearest_name(piece, column_categories(example->arena, column), column->category_count);
    error_plain("--values %s: '%s' is no class of '%s', which has %d%s%s%s", name, piece, column->name,
                column->category_count, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    example->failed = true;
    return false;
}

static bool set_rows(Example *example, const char *name, int64_t rows) {
    if (!example->rows)
        example->rows = rows;
    if (example->rows == rows)
        return true;
    return fail(example, "--values %s: %s%lld rows, but %lld before", name, "", rows, example->rows);
}

static Filled *slot_filled(Example *example, const DataSet *data, int slot) {
    Filled *filled = slot_of(example, data, slot);
    if (filled)
        return filled;
    int width = slot_width(&data->slots[slot]);
    filled = LIST_ADD(example->arena, &example->slots);
    *filled = (Filled){data, slot, arena_array(example->arena, double, example->rows *width),
                       arena_array(example->arena, bool, width)};
    return filled;
}

/* A place in a slot that one number goes into. */
typedef struct Target {
    int slot, element;
} Target;

static bool give_places(Example *example, const char *name, const DataSet *data, const Target *places, int count,
                        const char *text) {
    int64_t rows = 1;
    for (const char *at = text; *at; at++)
        rows += *at == ';';
    if (!set_rows(example, name, rows))
        return false;
    const char *at = text;
    for (int64_t row = 0; row < rows; row++) {
        int got = 0;
        for (bool more = true; more; got++) {
            const char *piece = next_piece(example->arena, &at);
            more = *at == ',';
            at += *at != 0;
            if (got >= count)
                continue;
            const DataSlot *slot = &data->slots[places[got].slot];
            Filled *filled = slot_filled(example, data, places[got].slot);
            double *number = &filled->values[row * slot_width(slot) + places[got].element];
            if (slot->category ? !parse_class(example, name, &data->columns[slot->columns[0]], piece, number)
                               : !parse_number(example, name, piece, number))
                return false;
            filled->known[places[got].element] = true;
        }
        if (got != count) {
            error_plain("--values %s: %d number%s needed, not %d", name, count, count == 1 ? " is" : "s are", got);
            example->failed = true;
            return false;
        }
    }
    return true;
}

static bool give_tensor(Example *example, const char *name, const Tensor *tensor, const char *text) {
    Held *known = held(example, tensor);
    int64_t elements = 1, got = 0;
    for (int i = 0; i < tensor->rank; i++)
        elements *= tensor->dims[i];
    for (const char *at = text;; at++) {
        double number;
        const char *piece = next_piece(example->arena, &at);
        if (!parse_number(example, name, piece, &number))
            return false;
        if (got < elements)
            known->values[got] = number;
        got++;
        if (!*at)
            break;
    }
    known->given = true;
    return got == elements ||
           fail(example, "--values %s: %s%lld numbers are needed, not %lld", name, "", elements, got);
}

static const char *parameter_of_model(const Example *example, const DataSet *data) {
    for (int v = 0; v < example->view_count; v++)
        for (int m = 0; m < example->views[v].models.count && example->views[v].plan->data == data; m++) {
            const ModelInstance *root = example->views[v].models.at[m];
            while (root->base)
                root = root->base;
            if (root->item->params.count == 1)
                return root->item->params.at[0].name;
        }
    return NULL;
}

/* What a group is called: its name; else x as in the model (the only input), y (the only target). */
static const char *group_name(const Example *example, const DataSet *data, const DataGroup *group) {
    int alike = 0;
    for (int i = 0; i < data->group_count; i++)
        alike += data->groups[i].target == group->target;
    if (group->name)
        return group->name;
    const char *parameter = group->target ? "y" : parameter_of_model(example, data);
    return alike == 1 && parameter ? parameter : data->name;
}

static bool matches_group(const Example *example, const DataSet *data, const DataGroup *group, const char *name) {
    int targets = 0;
    for (int i = 0; i < data->group_count; i++)
        targets += data->groups[i].target;
    return !strcmp(group_name(example, data, group), name) || (group->target && targets == 1 && !strcmp(name, "y"));
}

static bool give_group(Example *example, const char *name, const DataSet *data, const DataGroup *group,
                       const char *text) {
    LIST(Target) places = {0};
    for (int i = 0; i < group->slot_count; i++)
        for (int j = 0; j < slot_width(&data->slots[group->first_slot + i]); j++)
            *LIST_ADD(example->arena, &places) = (Target){group->first_slot + i, j};
    return give_places(example, name, data, places.at, places.count, text);
}

static bool give_column(Example *example, const char *name, const DataSet *data, const char *text, bool *found) {
    for (int i = 0; i < data->slot_count; i++)
        for (int j = 0; j < data->slots[i].column_count; j++)
            if (!strcmp(data->columns[data->slots[i].columns[j]].name, name)) {
                *found = true;
                if (data->slots[i].form != BP_SLOT_COLUMNS) { /* an array, or the words of a text: all of it */
                    LIST(Target) places = {0};
                    for (int k = 0; k < slot_width(&data->slots[i]); k++)
                        *LIST_ADD(example->arena, &places) = (Target){i, k};
                    return give_places(example, name, data, places.at, places.count, text);
                }
                Target place = {i, data->slots[i].category ? 0 : j};
                return give_places(example, name, data, &place, 1, text);
            }
    return false;
}

static bool give(Example *example, const char *word) {
    const char *equals = strchr(word, '=');
    const char *name = arena_copy(example->arena, word, (size_t)(equals - word)), *text = equals + 1;
    LIST(Name) names = {0};
    for (int v = 0; v < example->view_count; v++) {
        const GraphTrain *view = &example->views[v];
        for (int m = 0; m < view->models.count; m++)
            for (int i = 0; i < view->models.at[m]->parameters.count; i++) {
                const Tensor *tensor = view->models.at[m]->parameters.at[i];
                const char *full = arena_printf(example->arena, "%s.%s", tensor->owner, tensor->name);
                if (!strcmp(tensor->name, name) || !strcmp(full, name))
                    return give_tensor(example, name, tensor, text);
                *LIST_ADD(example->arena, &names) = tensor->name;
            }
        const DataSet *data = view->plan->data;
        for (int i = 0; data && i < data->group_count; i++) {
            if (matches_group(example, data, &data->groups[i], name))
                return give_group(example, name, data, &data->groups[i], text);
            *LIST_ADD(example->arena, &names) = name_of(group_name(example, data, &data->groups[i]));
        }
        bool found = false;
        bool given = data && give_column(example, name, data, text, &found);
        if (found)
            return given;
        for (int i = 0; data && i < data->slot_count; i++)
            for (int j = 0; j < data->slots[i].column_count; j++)
                *LIST_ADD(example->arena, &names) = data->columns[data->slots[i].columns[j]].name;
    }
    Name near = nearest_name(name, names.at, names.count);
    error_plain("--values: there is no input, target or parameter '%s'%s%s%s", name, near ? "; did you mean '" : "",
                near ? near : "", near ? "'?" : "");
    example->failed = true;
    return false;
}

/* What the views read and nobody gave. */
static void find_missing(Example *example) {
    const Graph *graph = example->program->graph;
    for (int v = 0; v < example->view_count; v++) {
        const GraphTrain *view = &example->views[v];
        int count = view->gradients.count + 1;
        Node **roots = arena_array(example->arena, Node *, count);
        roots[0] = view->objective;
        for (int i = 1; i < count; i++)
            roots[i] = view->gradients.at[i - 1].value;
        bool *seen = arena_array(example->arena, bool, graph_node_count(graph));
        for (int i = 0; i < count; i++)
            seen[roots[i]->id] = true;
        for (int id = graph_node_count(graph) - 1; id >= 0; id--) {
            const Node *node = graph_node(graph, id);
            for (int i = 0; seen[id] && i < node->arg_count; i++)
                seen[node->args[i]->id] = true;
        }
        for (int id = 0; id < graph_node_count(graph); id++) {
            const Node *node = graph_node(graph, id);
            if (!seen[id] || node->op != OP_INPUT)
                continue;
            const DataSlot *slot = &node->data->slots[node->integer];
            const Filled *filled = slot_of(example, node->data, (int)node->integer);
            for (int j = 0; j < slot_width(slot); j++) {
                if (filled && filled->known[j])
                    continue;
                const DataGroup *group = NULL;
                for (int i = 0; i < node->data->group_count; i++)
                    if (node->integer >= node->data->groups[i].first_slot &&
                        node->integer < node->data->groups[i].first_slot + node->data->groups[i].slot_count)
                        group = &node->data->groups[i];
                const char *column = node->data->columns[slot->columns[slot->column_count > j ? j : 0]].name;
                const char *name = group ? group_name(example, node->data, group) : column;
                bool part = filled || !strcmp(name, column);
                error_plain("--values: '%s' has no value: add %s=…", part ? column : name, part ? column : name);
                example->failed = true;
                return;
            }
        }
    }
}

Example *example_of(Arena *arena, const GraphProgram *program, const ExplainRequest *request, const GraphTrain *views,
                    int count) {
    Example *example = arena_new_of(arena, Example);
    example->arena = arena;
    example->program = program;
    example->request = request;
    example->views = views;
    example->view_count = count;
    for (int i = 0; i < request->values.count && !example->failed; i++)
        give(example, request->values.at[i]);
    if (!example->failed)
        find_missing(example);
    if (!example->rows)
        example->rows = 1;
    example_again(example);
    return example->failed ? NULL : example;
}

void example_again(Example *example) {
    example->evaluator = (Evaluator){.arena = example->arena, .rows = example->rows, .leaf = fill, .context = example};
}

Evaluation *example_value(Example *example, Node *node) {
    return graph_evaluate(&example->evaluator, node);
}

void example_change(Example *example, Tensor *tensor, const Evaluation *value) {
    Held *known = held(example, tensor);
    int64_t elements = 1;
    for (int i = 0; i < tensor->rank; i++)
        elements *= tensor->dims[i];
    double *values = arena_array(example->arena, double, elements);
    for (int64_t i = 0; i < elements; i++)
        values[i] = value->values[value->elements > 1 ? i : 0];
    known->values = values;
}
