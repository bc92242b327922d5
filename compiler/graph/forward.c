/* A forward pass over a data set: its slots become input nodes, its targets get names, models are applied. And the way
   back: outputs as predictions, in the file's units. */
#include "build.h"

#include <string.h>

int scalar_of_param(const Program *program, int param) {
    (void)program;
    return BP_SCALAR_COUNT + param;
}

int scalar_of_fitted(const Program *program, const DataSet *data, int fitted) {
    int at = BP_SCALAR_COUNT + program->params.count;
    for (int i = 0; i < data->index; i++)
        at += program->data.at[i]->fitted_count;
    return at + fitted;
}

/* ---- inputs and targets ------------------------------------------------------------------------------------------ */

/* Of the row, or of the row that it is mixed with. */
static Name data_label(Build *build, Name label) {
    return build->partner ? name_of(arena_printf(build->arena, "partner_%s", label)) : label;
}

static Node *data_input(Build *build, Node *input, Name label) {
    input = build->partner ? node_partner(build->graph, input) : input;
    node_label(input, data_label(build, label));
    return input;
}

static Node *slot_node(Build *build, const DataSet *data, int slot) {
    const DataSlot *from = &data->slots[slot];
    const DataColumn *column = &data->columns[from->columns[0]];
    if (from->category)
        return data_input(build, node_input(build->graph, data, slot, 0, column->category_count), column->name);
    Node *node =
        data_input(build, node_input(build->graph, data, slot, from->width, 0), from->name ? from->name : column->name);
    return from->form == BP_SLOT_ARRAY ? node_reshape(build->graph, node, column->rank, column->dims) : node;
}

/* As a part of a longer vector. */
static Node *flat_node(Build *build, Node *node) {
    int64_t width = node_elements(node);
    return node->rank > 1 ? node_reshape(build->graph, node, 1, &width) : node;
}

/* A text: a vector of the vocabulary's size, of which the words that are there are known. */
static Node *text_node(Build *build, const DataSet *data, const DataGroup *group) {
    const DataSlot *slot = &data->slots[group->first_slot];
    const DataColumn *column = &data->columns[slot->columns[0]];
    Node *words = data_input(build, node_input_words(build->graph, data, group->first_slot, slot->width, column->width),
                             name_of(arena_printf(build->arena, "%s.words", group->name)));
    Node *counts = data_input(build, node_input(build->graph, data, group->first_slot + 1, slot->width, 0),
                              name_of(arena_printf(build->arena, "%s.counts", group->name)));
    Node *node = node_bag(build->graph, words, counts, column->width);
    node_label(node, data_label(build, group->name));
    return node;
}

Node *data_group_node(Build *build, const DataSet *data, const DataGroup *group) {
    Node **parts = arena_array(build->arena, Node *, group->slot_count);
    Span before = graph_set_span(build->graph, group->span);
    if (data->slots[group->first_slot].form == BP_SLOT_WORDS) {
        Node *text = text_node(build, data, group);
        graph_set_span(build->graph, before);
        return text;
    }
    for (int i = 0; i < group->slot_count; i++) {
        parts[i] = slot_node(build, data, group->first_slot + i);
        if (parts[i]->type == TYPE_INDEX && (!group->target || group->slot_count > 1))
            parts[i] = node_one_hot(build->graph, parts[i], parts[i]->classes);
        if (group->slot_count > 1)
            parts[i] = flat_node(build, parts[i]);
    }
    Node *node = group->slot_count == 1 && (parts[0]->type == TYPE_INDEX || parts[0]->rank > 1)
                     ? parts[0]
                     : node_concat(build->graph, parts, group->slot_count);
    if (group->target && node->rank == 1 && node->dims[0] == 1)
        node = node_reshape(build->graph, node, 0, NULL);
    graph_set_span(build->graph, before);
    if (group->target && node->op == OP_RESHAPE && !group->name)
        node_label(node, data_label(build, data->columns[data->slots[group->first_slot].columns[0]].name));
    if (group->name)
        node_label(node, data_label(build, group->name));
    else if (!group->target)
        node_label(node, data_label(build, data->name));
    return node;
}

static bool has_numbers(const DataSlot *slot) {
    return !slot->category && slot->form == BP_SLOT_COLUMNS;
}

static void bind_number(Build *build, const DataColumn *column, Node *slot, int at) {
    Node *one = node_reshape(build->graph, node_slice(build->graph, slot, at, 1), 0, NULL);
    scope_bind(build, column->name, column->span, term_node(one, column->span));
}

typedef struct ColumnPlace {
    int slot, at;
} ColumnPlace;

/* Which slot of numbers has a column of that name, and where: NULL where none has. */
static const ColumnPlace *column_place(Build *build, const DataSet *data, Name name) {
    PointerMap *places = map_find(&build->column_places, data);
    if (places)
        return map_find(places, name);
    places = arena_new_of(build->arena, PointerMap);
    map_put(build->arena, &build->column_places, data, places);
    for (int i = 0; i < data->slot_count; i++) {
        const DataSlot *slot = &data->slots[i];
        if (!has_numbers(slot))
            continue;
        ColumnPlace *all = arena_array(build->arena, ColumnPlace, slot->width);
        for (int j = 0; j < slot->width; j++) {
            all[j] = (ColumnPlace){i, j};
            map_put(build->arena, places, data->columns[slot->columns[j]].name, &all[j]);
        }
    }
    return map_find(places, name);
}

/* Whether the slot has a column of that name. */
static bool bind_column_of(Build *build, Scope *scope, struct WideSlot wide, Name name) {
    const ColumnPlace *place = column_place(build, wide.data, name);
    if (!place || place->slot != wide.slot)
        return false;
    const DataSlot *slot = &wide.data->slots[wide.slot];
    Scope *before = build->scope;
    Span outside = graph_set_span(build->graph, wide.group->target ? SPAN_NONE : wide.group->span);
    build->scope = scope;
    bind_number(build, &wide.data->columns[slot->columns[place->at]], wide.node, place->at);
    build->scope = before;
    graph_set_span(build->graph, outside);
    return true;
}

void bind_wide(Build *build, Scope *scope, Name name) {
    bool bound = false;
    for (int i = scope->wide.count - 1; i >= 0 && !bound; i--) /* what came last has the name */
        bound = bind_column_of(build, scope, scope->wide.at[i], name);
}

/* The slot's columns, when they are asked for; at once where another thing has such a name until now. */
static void add_wide(Build *build, struct WideSlot wide) {
    Scope *scope = build->scope;
    *LIST_ADD(build->arena, &scope->wide) = wide;
    for (int i = 0, count = scope->bindings.count; i < count; i++)
        bind_column_of(build, scope, wide, scope->bindings.at[i].name);
}

/* Each column of the group by its own name. */
static void bind_columns(Build *build, const DataSet *data, const DataGroup *group) {
    for (int i = 0; i < group->slot_count; i++) {
        const DataSlot *slot = &data->slots[group->first_slot + i];
        Node *node = slot_node(build, data, group->first_slot + i);
        bool numbers = has_numbers(slot);
        const DataColumn *column = &data->columns[slot->columns[0]];
        if (numbers && slot->width > 1)
            add_wide(build, (struct WideSlot){data, group, group->first_slot + i, node});
        else if (numbers)
            bind_number(build, column, node, 0);
        else
            scope_bind(build, column->name, column->span, term_node(node, column->span));
    }
}

static const DataGroup *input_group(const DataSet *data, Name name, int *count) {
    const DataGroup *only = NULL;
    *count = 0;
    for (int i = 0; i < data->group_count; i++) {
        const DataGroup *group = &data->groups[i];
        if (group->target)
            continue;
        (*count)++;
        if (name && group->name == name)
            return group;
        only = group;
    }
    return *count == 1 ? only : NULL;
}

Node *data_for_model(Build *build, const DataSet *data, const ModelInstance *model) {
    const DataGroup *first = NULL;
    while (model->base)
        model = model->base;
    const Params *params = &model->item->params;
    for (int i = 0; i < params->count; i++) {
        int count;
        const DataGroup *group = input_group(data, params->at[i].name, &count);
        if (!group || (params->count > 1 && group->name != params->at[i].name))
            return NULL;
        first = i ? first : group;
    }
    return first ? data_group_node(build, data, first) : NULL;
}

/* Arguments of a model from a data set: by name, or the only input for the only parameter. */
static bool model_arguments(Build *build, ModelInstance *model, DataSet *data, Term *args, Span span) {
    const ModelInstance *root = model;
    while (root->base)
        root = root->base;
    const Params *params = &root->item->params;
    for (int i = 0; i < params->count; i++) {
        int count;
        const DataGroup *group = input_group(data, params->at[i].name, &count);
        if (!group || (params->count > 1 && group->name != params->at[i].name)) {
            if (count == 0)
                build_error(build, span, "'%s' has no inputs: add a line `input …`", data->name);
            else if (params->count == 1)
                build_error(build, span, "'%s' takes one input, '%s' has %d: name it like the model's, `input %s = …`",
                            model->name, data->name, count, params->at[i].name);
            else
                build_error(build, span, "'%s' needs an input '%s', which '%s' does not have: write `input %s = …`",
                            model->name, params->at[i].name, data->name, params->at[i].name);
            build_note(build, params->at[i].span, "the model's input");
            return false;
        }
        Node *node = augment_input(build, data, group, params->at[i].name);
        if (!node)
            return false;
        args[i] = term_node(node, group->span);
    }
    return true;
}

void bind_row(Build *build, const DataSet *data) {
    for (int i = 0; i < data->group_count; i++) {
        const DataGroup *group = &data->groups[i];
        Span outside = graph_set_span(build->graph, group->target ? SPAN_NONE : group->span);
        if (group->target || !group->name)
            bind_columns(build, data, group);
        graph_set_span(build->graph, outside);
        if (group->name)
            scope_bind(build, group->name, group->span, term_node(data_group_node(build, data, group), group->span));
    }
}

static void bind_outputs(Build *build, const ModelInstance *model, const Term *result) {
    for (int i = 0; i < model->output_names.count; i++) {
        const Term *output = result->kind == TERM_TUPLE ? &result->at[i] : result;
        Name joined = name_of(arena_printf(build->arena, "%s.%s", model->name, model->output_names.at[i]));
        scope_bind(build, joined, model->span, *output);
    }
}

Forward build_forward(Build *build, ModelUse *models, int count, DataSet *data, bool training, Span span) {
    Forward forward = {.ok = true};
    bool before = build->training;
    build->training = training;
    bind_row(build, data);
    for (int i = 0; i < count; i++) {
        ModelInstance *model = model_instance(build, models[i].item, models[i].span);
        Term args[64] = {0}, result = NOTHING;
        if (model && model_arguments(build, model, data, args, models[i].span)) {
            const ModelInstance *root = model;
            while (root->base)
                root = root->base;
            for (int j = 0; j < root->item->params.count && j < 8; j++)
                if (!model->inputs[j].width)
                    model->inputs[j].user = data->name;
            result = build_model_call(build, model, args, root->item->params.count, models[i].span);
        }
        if (result.kind == TERM_NOTHING)
            forward.ok = false;
        else
            bind_outputs(build, model, &result);
        *LIST_ADD(build->arena, &forward.outputs) = result;
    }
    build->training = before;
    (void)span;
    return forward;
}

/* ---- the way back ------------------------------------------------------------------------------------------------ */

/* A fitted value (or argument) of each column, as one number or a vector. */
static Node *fitted_vector(Build *build, const DataSet *data, int first, int count, int transform, int which) {
    Node **parts = arena_array(build->arena, Node *, count);
    for (int i = 0; i < count; i++) {
        const DataTransform *at = &data->columns[first + i].transforms[transform];
        const char *label =
            arena_printf(build->arena, "%s.%s", data->columns[first + i].name,
                         at->kind == BP_STANDARDIZE ? (which ? "deviation" : "mean") : (which ? "range" : "minimum"));
        parts[i] =
            at->kind == BP_SCALE
                ? node_constant(build->graph, at->argument)
                : node_scalar(build->graph, scalar_of_fitted(build->program, data, at->fitted + which), name_of(label));
    }
    return count == 1 ? parts[0] : node_concat(build->graph, parts, count);
}

static Node *undo(Build *build, const DataSet *data, int first, int count, int transform, Node *y) {
    Graph *graph = build->graph;
    switch (data->columns[first].transforms[transform].kind) {
    case BP_STANDARDIZE:
    case BP_MINMAX:
        y = node_op(graph, OP_MULTIPLY, y, fitted_vector(build, data, first, count, transform, 1), NULL);
        return node_op(graph, OP_ADD, y, fitted_vector(build, data, first, count, transform, 0), NULL);
    case BP_SCALE:
        return node_op(graph, OP_DIVIDE, y, fitted_vector(build, data, first, count, transform, 0), NULL);
    case BP_LOG:
        return node_op(graph, OP_EXP, y, NULL, NULL);
    default:
        return y; /* missing values and strip change nothing that could be undone */
    }
}

static bool alike_transforms(const DataSet *data, int first, int count) {
    for (int i = 1; i < count; i++) {
        const DataColumn *a = &data->columns[first], *b = &data->columns[first + i];
        if (a->category || b->category || a->transform_count != b->transform_count)
            return false;
        for (int j = 0; j < a->transform_count; j++)
            if (a->transforms[j].kind != b->transforms[j].kind)
                return false;
    }
    return true;
}

Node *build_file_units(Build *build, const DataSet *data, int first, int count, Node *y, bool stop_at_log, Span span) {
    if (count == 0 || data->columns[first].category || y->type == TYPE_INDEX || y->type == TYPE_TRUTH)
        return y;
    if (node_elements(y) != count) /* an output that is not the target's own quantity */
        return y;
    if (!alike_transforms(data, first, count)) {
        build_error(build, span, "the columns of a target must have the same transforms");
        return y;
    }
    bool one = y->rank == 1 && y->dims[0] == 1;
    if (one)
        y = node_reshape(build->graph, y, 0, NULL);
    for (int i = data->columns[first].transform_count - 1; i >= 0; i--) {
        if (stop_at_log && data->columns[first].transforms[i].kind == BP_LOG)
            break;
        y = undo(build, data, first, count, i, y);
    }
    return y;
}

Node *build_prediction(Build *build, const OutputRole *role, Node *output, bool stop_at_log, Span span) {
    Span before = graph_set_span(build->graph, span);
    Node *node = output;
    if (role->link) {
        const Definition *link = program_find(build->program, role->link);
        const Builtin *builtin = link ? NULL : builtin_named(role->link);
        if (!link && !builtin) {
            build_error(build, span, "the loss names the link '%s', which is not defined", role->link);
            return node;
        }
        Term function = {.kind = link ? TERM_FUNCTION : TERM_BUILTIN, .span = span}, y = term_node(output, span);
        function.item = link ? link->item : NULL;
        function.builtin = builtin;
        Term result = build_apply(build, &function, &y, 1, NULL, 0, span);
        node = term_number(build, &result);
    } else if (role->data) {
        node = build_file_units(build, role->data, role->first_column, role->column_count, output, stop_at_log, span);
    }
    graph_set_span(build->graph, before);
    return node ? node : output;
}
