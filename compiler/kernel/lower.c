/* Before: functions of the graph. After: one kernel function each, buffers without offsets. Requires group.c's plan.

   Each group becomes a kernel: loops over its domain, at each point its items in order, then the stores. */
#include "lower.h"

#include "../graph/print.h"

#include <math.h>
#include <string.h>

/* ---- groups
 * ------------------------------------------------------------------------------------------------------------------------------------
 */

void lower_store(Lowering *l, LowerItem *item, Value *value, Point *point) {
    const Node *node = item->node;
    if (item->buffer) {
        lower_use(l, item->buffer);
        build_store(&l->b, item->buffer, lower_index(l, item->buffer, node, point),
                    lower_converted(l, value, item->buffer->scalar));
    }
    for (int i = 0; i < item->sinks.count; i++) {
        const Sink *sink = &item->sinks.at[i];
        Buffer *buffer = lower_use(l, sink->tensor ? lower_tensor(l, sink->tensor) : sink->buffer);
        Value *index = lower_index(l, buffer, node, point);
        build_store(&l->b, buffer, lower_add(l, index, lower_integer(l, sink->first)),
                    lower_converted(l, value, buffer->scalar));
    }
}

/* Loops over a domain whose rows, where it has any, are the round's. */
static int open_domain(Lowering *l, bool batched, int rank, const int64_t *dims, const Round *round, bool parallel,
                       Point *point, Block **outer) {
    static const char *const names[4] = {"i", "j", "k", "m"};
    int depth = 0;
    if (batched)
        outer[depth++] = build_loop(&l->b, "b", round->from, round->to, 1, false, &point->row);
    for (int i = 0; i < rank; i++)
        if (dims[i] == 1)
            point->at[i] = lower_integer(l, 0);
        else {
            outer[depth] = build_loop(&l->b, names[i], lower_integer(l, 0), lower_integer(l, dims[i]), 1,
                                      parallel && depth == 0, &point->at[i]);
            depth++;
        }
    return depth;
}

static void lower_concat(Lowering *l, LowerItem *item, int group, const Round *round) {
    const Node *node = item->node;
    int64_t first = 0;
    Point point = {.lanes = 1, .group = group};
    Block *rows = NULL;
    if (node->batched)
        rows = build_loop(&l->b, "b", round->from, round->to, 1, false, &point.row);
    for (int i = 0; i < node->arg_count; i++) {
        Node *part = node->args[i];
        point.memo = arena_new_of(l->b.arena, struct Memo);
        Block *outer =
            build_loop(&l->b, "i", lower_integer(l, 0), lower_integer(l, part->dims[0]), 1, false, &point.at[0]);
        Value *value =
            build_let(&l->b, "part", lower_converted(l, emit_node(l, part, &point), lower_scalar(l->function, node)));
        Point there = point;
        there.at[0] = lower_named(l, "at", lower_add(l, point.at[0], lower_integer(l, first)));
        lower_store(l, item, value, &there);
        build_end(&l->b, outer);
        first += part->dims[0];
    }
    if (rows)
        build_end(&l->b, rows);
}

static void lower_items(Lowering *l, LowerGroup *group, int index, const Round *round, bool parallel) {
    Point point = {.lanes = 1, .group = index, .memo = arena_new_of(l->b.arena, struct Memo)};
    Block *outer[8];
    int depth = open_domain(l, group->batched, group->rank, group->dims, round, parallel, &point, outer);
    Value **values = arena_array(l->b.arena, Value *, group->items.count);
    for (int i = 0; i < group->items.count; i++) {
        Node *node = group->items.at[i]->node;
        values[i] = emit_node(l, node, &point);
        if (!values[i]->let) /* before anything is stored */
            values[i] = build_let(&l->b, lower_wish(node), values[i]);
        bool known = false;
        for (int j = 0; j < point.memo->known.count; j++)
            known |= point.memo->known.at[j].node == node;
        if (!known)
            lower_know(l, &point, node, values[i]);
    }
    for (int i = 0; i < group->items.count; i++)
        lower_store(l, group->items.at[i], values[i], &point);
    while (depth)
        build_end(&l->b, outer[--depth]);
}

/* ---- functions
 * ------------------------------------------------------------------------------------------------------------------------------------------
 */

/* Formulas name what is stored as C names it, and write out the rest. */
static Sheet *formula_sheet(const Lowering *l) {
    int count = l->plan->node_count;
    Sheet *sheet = arena_new_of(l->b.arena, Sheet);
    *sheet = (Sheet){.arena = l->b.arena, .graph = l->program->graph, .count = count};
    sheet->own_line = arena_array(l->b.arena, bool, count);
    sheet->needed = arena_array(l->b.arena, bool, count);
    sheet->names = arena_array(l->b.arena, const char *, count);
    for (int id = 0; id < count; id++) {
        const Node *node = graph_node(l->program->graph, id);
        const LowerItem *item = l->plan->items[id];
        bool stored = item && l->plan->uses[id] && item->buffer;
        sheet->own_line[id] = stored || (node->label && l->plan->uses[id]);
        sheet->names[id] = stored ? item->buffer->shown : node->label ? node->label : op_table[node->op].name;
    }
    return sheet;
}

const char *lower_item_formula(Lowering *l, const LowerItem *item) {
    const Sheet *sheet = l->sheet;
    const Node *node = item->node;
    Text text = {0};
    const char *name = item->buffer ? item->buffer->shown : node->label;
    for (int i = 0; i < item->sinks.count && !name; i++)
        name = item->sinks.at[i].tensor ? item->sinks.at[i].tensor->name : item->sinks.at[i].buffer->shown;
    if (name)
        text_printf(&text, "%s = ", name);
    sheet_formula(sheet, node, &text);
    const char *formula = arena_copy(sheet->arena, text.at ? text.at : "", text.length);
    text_free(&text);
    return formula;
}

/* "fc1 = relu(fc1.weight @ x + fc1.bias)"; of many, the first few */
const char *lower_formula(Lowering *l, const LowerGroup *group) {
    const char *all = "";
    int shown = 0;
    for (int i = 0; i < group->items.count; i++) {
        const LowerItem *item = group->items.at[i];
        if (!item->buffer && !item->sinks.count && !item->node->label)
            continue; /* on the way to another */
        if (shown == 4 && group->items.count - i > 1)
            return arena_printf(l->b.arena, "%s; and %d more", all, group->items.count - i);
        all = arena_printf(l->b.arena, "%s%s%s", all, shown++ ? "; " : "", lower_item_formula(l, item));
    }
    return all;
}

Kernel *lower_start_kernel(Lowering *l, const char *label, Span span) {
    Kernel *kernel = arena_new_of(l->b.arena, Kernel);
    const char *wish = arena_printf(l->b.arena, "%s_%s", l->function->name, name_identifier(label));
    int again = 0;
    for (int i = 0; i < l->target->step_count; i++)
        again += l->target->steps[i].kernel && !strncmp(l->target->steps[i].kernel->name, wish, strlen(wish));
    kernel->name = name_of(again ? arena_printf(l->b.arena, "%s_%d", wish, again + 1) : wish);
    kernel->span = span;
    l->b.kernel = kernel;
    l->b.block = &kernel->body;
    build_start_names(&l->b);
    return kernel;
}

void lower_add_step(Lowering *l, Step step) {
    Function *function = l->target;
    int count = function->step_count;
    if ((count & (count - 1)) == 0) { /* full at each power of two */
        Step *larger = arena_array(l->b.arena, Step, count ? count * 2 : 1);
        if (count)
            memcpy(larger, function->steps, sizeof *larger * (size_t)count);
        function->steps = larger;
    }
    function->steps[function->step_count++] = step;
}

/* A table of zeros, from one end to the other: a kernel of its own, since it is shared out and what follows is not. */
static void lower_zeros(Lowering *l, const LowerItem *item, bool parallel) {
    Buffer *buffer = lower_use(l, item->buffer);
    int lanes = buffer->panels ? LANES : 1;
    Value *at;
    Kernel *kernel = lower_start_kernel(l, arena_printf(l->b.arena, "clear_%s", buffer->name), item->node->span);
    kernel->formula = arena_printf(l->b.arena, "%s = 0", buffer->shown);
    kernel->parallel = parallel;
    Block *outer =
        build_loop(&l->b, "at", lower_integer(l, 0), lower_integer(l, buffer->elements), lanes, parallel, &at);
    build_store(&l->b, buffer, at, lower_number(l, 0, buffer->scalar, lanes));
    build_end(&l->b, outer);
    lower_add_step(l, (Step){STEP_KERNEL, kernel, NULL, 0});
}

/* Each row of the batch in order adds to the rows of the table that it read. */
static void lower_scatter(Lowering *l, LowerItem *item, int group) {
    Node *node = item->node, *d = node->args[0], *indices = node->args[1];
    Scalar scalar = lower_scalar(l->function, node);
    Point table = {.lanes = 1, .group = -1, .memo = arena_new_of(l->b.arena, struct Memo)};
    Block *outer[8], *inner = NULL;
    Value *row, *t = lower_integer(l, 0);
    lower_use(l, item->buffer);
    Block *rows = lower_rows(l, &row);
    if (indices->rank > 0)
        inner = build_loop(&l->b, "t", lower_integer(l, 0), lower_integer(l, indices->dims[0]), 1, false, &t);
    Point here = {.lanes = 1, .group = group, .row = row, .memo = arena_new_of(l->b.arena, struct Memo)};
    Value *index = lower_index_of(l, indices, &here, t);
    Block *there = lower_if_there(l, index);
    here.at[0] = t;
    Value *count = node->arg_count > 2
                       ? build_let(&l->b, "count", lower_converted(l, emit_node(l, node->args[2], &here), scalar))
                       : NULL;
    const int columns_axis = !node->turned; /* of the result: the other is the table's rows */
    table.at[!columns_axis] = lower_named(l, "row", lower_row_of(l, index, node->integer));
    Block *columns = build_loop(&l->b, "j", lower_integer(l, 0), lower_integer(l, node->dims[columns_axis]), 1, false,
                                &table.at[columns_axis]);
    Point from = here;
    from.at[0] = table.at[columns_axis];
    from.memo = arena_new_of(l->b.arena, struct Memo);
    Value *piece = lower_converted(l, emit_node(l, d, &from), scalar);
    Value *at = lower_named(l, "at", lower_index(l, item->buffer, node, &table));
    Value *before = value_load(&l->b, item->buffer, at, 1);
    build_store(&l->b, item->buffer, at,
                count ? value_op(&l->b, OP_FMA, count, piece, before) : value_op(&l->b, OP_ADD, before, piece, NULL));
    build_end(&l->b, columns);
    build_end(&l->b, there);
    if (inner)
        build_end(&l->b, inner);
    build_end(&l->b, rows);
    if (!item->sinks.count)
        return;
    Point again = {.lanes = 1, .group = -1, .memo = arena_new_of(l->b.arena, struct Memo)};
    int depth = open_domain(l, false, 2, node->dims, NULL, false, &again, outer);
    lower_store(l, item, build_let(&l->b, "sum", lower_load(l, item->buffer, node, 0, &again)), &again);
    while (depth)
        build_end(&l->b, outer[--depth]);
}

static const Node *leading_node(const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        if (group->items.at[i]->node->label)
            return group->items.at[i]->node;
    return group->items.at[0]->node;
}

static bool has_loop(const LowerGroup *group) {
    bool loop = false;
    for (int i = 0; i < group->rank; i++)
        loop |= group->dims[i] > 1;
    return loop;
}

static void lower_group(Lowering *l, int index, const Round *round, bool parallel) {
    LowerGroup *group = &l->plan->groups.at[index];
    if (group->alone && group->items.at[0]->node->op == OP_SCATTER)
        lower_scatter(l, group->items.at[0], index);
    else if (group->alone)
        lower_concat(l, group->items.at[0], index, round);
    else if (group->vector)
        lower_vectors(l, group, index, round);
    else
        lower_items(l, group, index, round, parallel);
}

static void add_guard(Lowering *l) {
    for (int i = 0; i < l->function->sinks.count; i++) {
        const Sink *sink = &l->function->sinks.at[i];
        if (sink->value == l->function->guard && sink->buffer) {
            lower_add_step(l, (Step){STEP_GUARD, NULL, sink->buffer, sink->first});
            return;
        }
    }
    BUG("%s: the guarded value goes nowhere", l->function->name);
}

/* What this kernel leaves for others to look at, and where the function may end. */
static void add_stop(Lowering *l, const LowerKernel *plan) {
    bool any = false;
    for (int i = 0; i < l->function->sinks.count; i++) {
        Sink *sink = &l->function->sinks.at[i];
        const LowerItem *item = l->plan->items[lower_behind(sink->value)->id];
        for (int j = 0; item && item->buffer && j < plan->groups.count; j++)
            if (item->group == plan->groups.at[j]) {
                sink->buffer = item->buffer;
                sink->first = l->stops;
                any = true;
            }
    }
    if (any)
        lower_add_step(l, (Step){STEP_GUARD, NULL, lower_use(l, l->function->stops), l->stops++});
}

/* Opens the outermost loop: a round is `step` rows or panels. */
static Block *open_rounds(Lowering *l, const LowerKernel *plan, Round *round) {
    bool rows = plan->partition == PARTITION_ROWS;
    int64_t end = (plan->extent + LANES - 1) / LANES;
    Value *to = rows ? value_context(&l->b, CONTEXT_ROWS) : lower_integer(l, end);
    round->partition = plan->partition;
    round->step = plan->step;
    Block *outer =
        build_loop(&l->b, rows ? "block" : "p", lower_integer(l, 0), to, plan->step, plan->parallel, &round->from);
    Value *next = lower_add(l, round->from, lower_integer(l, plan->step));
    if (rows || end % plan->step)
        next = value_op(&l->b, OP_INTEGER_MINIMUM, next, rows ? value_context(&l->b, CONTEXT_ROWS) : to, NULL);
    round->to = lower_named(l, "end", next);
    return outer;
}

/* The labels of all its groups, the first few: a kernel is called by what it computes. */
static void lower_kernel(Lowering *l, int number) {
    const LowerKernel *plan = &l->plan->kernels.at[number];
    const LowerGroup *first = &l->plan->groups.at[plan->groups.at[0]];
    const Node *leading = leading_node(first);
    if (first->alone && leading->op == OP_SCATTER)
        lower_zeros(l, first->items.at[0], plan->parallel);
    for (int i = 0; i < plan->groups.count; i++) {
        const LowerGroup *group = &l->plan->groups.at[plan->groups.at[i]];
        for (int j = 0; j < group->riders.count; j++)
            lower_zeros(l, group->riders.at[j], plan->parallel);
    }
    Kernel *kernel = lower_start_kernel(l, lower_wish(leading), leading->span);
    Round round = {.partition = PARTITION_NONE};
    Block *outer = NULL;
    if (plan->partition != PARTITION_NONE)
        outer = open_rounds(l, plan, &round);
    l->round = plan->partition == PARTITION_PANELS ? round.from : NULL;
    bool loops = plan->partition == PARTITION_NONE && !first->alone && has_loop(first);
    Text formulas = {0};
    for (int i = 0; i < plan->groups.count; i++) {
        LowerGroup *group = &l->plan->groups.at[plan->groups.at[i]];
        const char *formula = lower_formula(l, group);
        text_printf(&formulas, i ? "; %s" : "%s", formula);
        kernel->flops += group->work;
        if (i || plan->groups.count > 1)
            build_comment(&l->b, formula);
        lower_group(l, plan->groups.at[i], &round, plan->parallel && loops);
    }
    kernel->formula = arena_copy(l->b.arena, formulas.at ? formulas.at : "", formulas.length);
    text_free(&formulas);
    if (outer)
        build_end(&l->b, outer);
    kernel->parallel = plan->parallel && (outer || loops);
    lower_add_step(l, (Step){STEP_KERNEL, kernel, NULL, 0});
    for (int i = 0; i < plan->groups.count; i++)
        if (plan->groups.at[i] == l->plan->guard_group && l->function->guard)
            add_guard(l);
    if (l->function->stops)
        add_stop(l, plan);
}

/* New values that waited in a buffer go to their tensors. */
static void lower_copies(Lowering *l) {
    for (int i = 0; i < l->plan->copies.count; i++) {
        const Sink *sink = &l->plan->copies.at[i];
        LowerItem *item = l->plan->items[lower_behind(sink->value)->id];
        Kernel *kernel =
            lower_start_kernel(l, arena_printf(l->b.arena, "keep_%s", sink->tensor->name), sink->value->span);
        kernel->formula = arena_printf(l->b.arena, "%s takes its new value", sink->tensor->name);
        Point point = {.lanes = 1, .group = -1, .memo = arena_new_of(l->b.arena, struct Memo)};
        Block *outer[8];
        int depth = open_domain(l, false, item->node->rank, item->node->dims, NULL, false, &point, outer);
        Buffer *to = lower_use(l, lower_tensor(l, sink->tensor));
        Value *value = lower_load(l, item->buffer, item->node, 0, &point);
        build_store(&l->b, to, lower_index(l, to, item->node, &point), lower_converted(l, value, to->scalar));
        while (depth)
            build_end(&l->b, outer[--depth]);
        lower_add_step(l, (Step){STEP_KERNEL, kernel, NULL, 0});
    }
}

/* The step runs most of the time, and so does what it keeps of frozen layers, for every row or for every batch; a trace
   runs once, and ends the program. */
static int sums_worth(const GraphProgram *program, const GraphFunction *function, const LowerOptions *options) {
    for (int i = 0; i < program->trains.count; i++) {
        const GraphTrain *train = program->trains.at[i];
        if (function == train->trace)
            return SUMS_OF_TRACE;
        if (function == train->prefix ||
            (train->training.passes.count && function == train->training.passes.at[0].accumulate))
            return options->tuning.sums ? options->tuning.sums : SUMS_OF_STEP;
    }
    return SUMS_ELSEWHERE;
}

/* One part of a function: its kernels go behind those of the parts before. */
static void lower_part(Lowering *l, GraphFunction *part, int most_sums, const LowerOptions *options) {
    l->function = part;
    l->plan = lower_plan(l->b.arena, l->program, part, most_sums, options);
    l->sheet = formula_sheet(l);
    if (options->explain && !part->is_double)
        lower_explain(l, options->explain);
    l->target->parallel |= l->plan->parallel;
    if (part->every > 1)
        lower_add_step(l, (Step){STEP_WHEN, NULL, NULL, part->every});
    lower_tables_first(l);
    for (int i = 0; i < l->plan->kernels.count; i++)
        lower_kernel(l, i);
    lower_copies(l);
    lower_tables_last(l);
    if (part->every > 1)
        lower_add_step(l, (Step){STEP_END, NULL, NULL, 0});
}

/* A function of its own: what waits for rows that were not read. */
static void lower_settle(Lowering *l) {
    const Function *step = l->target;
    Function *settle = arena_new_of(l->b.arena, Function);
    settle->name = name_of(arena_printf(l->b.arena, "%s_settle", step->name));
    settle->about = "updates that waited for rows that were not read";
    settle->span = step->span;
    settle->capacity = 1;
    settle->parallel = step->parallel;
    l->target = settle;
    lower_use(l, l->program->scalars);
    lower_tables_settle(l);
    l->function->settle = settle;
    *LIST_ADD(l->b.arena, &l->b.module->functions) = settle;
}

static void lower_function(Arena *arena, GraphProgram *program, Module *module, GraphFunction *function,
                           const LowerOptions *options) {
    Lowering l = {.program = program, .function = function, .real = function->is_double ? SCALAR_F64 : SCALAR_F32};
    l.b.arena = arena;
    l.b.module = module;
    l.machine = options->machine ? options->machine : machine_named(NULL);
    l.target = arena_new_of(arena, Function);
    l.target->name = function->name;
    l.target->about = function->about;
    l.target->span = function->span;
    l.target->capacity = function->capacity;
    l.target->is_double = function->is_double;
    lower_use(&l, program->scalars);
    for (GraphFunction *part = function; part; part = part->next)
        lower_part(&l, part, sums_worth(program, function, options), options);
    function->kernels = l.target;
    *LIST_ADD(arena, &module->functions) = l.target;
    if (l.plan->now)
        lower_settle(&l);
}

/* void NAME(float *values, int64_t count): their natural logarithms, in place */
static void lower_log(Arena *arena, Module *module, const DataSet *data) {
    Lowering l = {.real = SCALAR_F32};
    l.b.arena = arena;
    l.b.module = module;
    Function *function = arena_new_of(arena, Function);
    GraphFunction about = {.name = name_of(arena_printf(arena, "%s_log", data->name))};
    l.function = &about;
    l.target = function;
    function->name = about.name;
    function->about = "natural logarithms, in place";
    function->span = data->span;
    function->capacity = INT32_MAX;
    function->is_map = true;
    Buffer *values = arena_new_of(arena, Buffer);
    values->name = values->shown = name_of("values");
    values->role = BUFFER_ARGUMENT;
    values->scalar = SCALAR_F32;
    values->per_row = true;
    values->elements = INT32_MAX;
    values->span = data->span;
    lower_use(&l, values);
    Kernel *kernel = lower_start_kernel(&l, "values", data->span);
    kernel->formula = "log(values)";
    Value *row;
    Block *outer = lower_rows(&l, &row);
    build_store(&l.b, values, row, value_op(&l.b, OP_LOG, value_load(&l.b, values, row, 1), NULL, NULL));
    build_end(&l.b, outer);
    lower_add_step(&l, (Step){STEP_KERNEL, kernel, NULL, 0});
    *LIST_ADD(arena, &module->functions) = function;
}

Module *lower(Arena *arena, GraphProgram *program, const LowerOptions *options) {
    Module *module = arena_new_of(arena, Module);
    module->arena = arena;
    for (int i = 0; i < program->tensors.count; i++)
        lower_layout(NULL, program->tensors.at[i]->buffer, 0);
    for (int i = 0; i < program->functions.count; i++)
        lower_function(arena, program, module, program->functions.at[i], options);
    for (int i = 0; i < program->program->data.count; i++)
        if (program->logs.at[i])
            lower_log(arena, module, program->program->data.at[i]);
    return module;
}
