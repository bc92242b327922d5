/* --explain=fusion: which values share a kernel, how its rounds are shared out, what rides on what, and what has to be
   stored for another kernel to read. Prints the plan that lower.c follows. */
#include "lower.h"

#include <inttypes.h>

static const Node *gradient_of(const LowerPlan *plan, const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        if (lower_is_gradient(plan, lower_behind(group->items.at[i]->node)))
            return group->items.at[i]->node;
    return NULL;
}

static bool updates(const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        for (int j = 0; j < group->items.at[i]->sinks.count; j++)
            if (group->items.at[i]->sinks.at[j].tensor)
                return true;
    return false;
}

static bool has_product(const LowerPlan *plan, const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        if (lower_is_forward(plan, lower_behind(group->items.at[i]->node)) ||
            lower_is_gradient(plan, lower_behind(group->items.at[i]->node)))
            return true;
    return false;
}

static void explain_group(Lowering *l, const LowerGroup *group, Text *out) {
    const LowerItem *first = group->items.at[0];
    text_printf(out, "    %s\n", lower_formula(l, group));
    if (group->vector && has_product(l->plan, group))
        text_printf(out, "        sums in registers: %d of 16 outputs x %d %s\n", group->tile.panels,
                    group->tile.columns, group->batched ? "rows" : "columns");
    if (group->block)
        text_printf(out, "        by blocks of %" PRId64 " of %" PRId64 "%s\n", group->block, group->summed,
                    group->batched ? "" : " rows");
    if (first->node->op == OP_SCATTER)
        text_printf(
            out, "        all %" PRId64 " rows are cleared before, and updated behind: rows that were not read, too\n",
            first->node->dims[first->node->turned]);
    const Node *gradient = gradient_of(l->plan, group);
    const LowerItem *item = gradient ? l->plan->items[gradient->id] : NULL;
    if (item && item->buffer)
        text_printf(out, "        %s is stored, %" PRId64 " bytes: another kernel reads it before the update\n",
                    item->buffer->shown, item->buffer->elements * 4);
    else if (gradient && updates(group))
        text_add(out, "        the update rides on the gradient, which is never stored\n");
    for (int i = 0; i < group->riders.count; i++)
        text_printf(out, "        a sum along its columns is added up on the way: %s\n",
                    lower_item_formula(l, group->riders.at[i]));
    if (gradient && lower_behind((Node *)gradient)->contract.again)
        text_add(out, "        made a second time: beside the parameters there is no room to keep the first\n");
    if (first->buffer && first->buffer->role == BUFFER_SCRATCH)
        text_printf(out, "        made a panel at a time, %" PRId64 " bytes for each thread\n",
                    first->buffer->elements * 4);
}

static void explain_kernel(Lowering *l, const LowerKernel *kernel, Text *out) {
    switch (kernel->partition) {
    case PARTITION_ROWS:
        text_printf(out, "  a loop over rows, %d a round", (int)kernel->step);
        break;
    case PARTITION_PANELS:
        text_printf(out, "  a loop over %" PRId64 " elements, %d a round", kernel->extent, (int)kernel->step * LANES);
        break;
    case PARTITION_NONE:
        text_add(out, "  values of no common loop");
        break;
    }
    text_add(out, kernel->parallel ? ", shared among threads\n" : l->plan->parallel ? ", by one thread\n" : "\n");
    for (int i = 0; i < kernel->groups.count; i++)
        explain_group(l, &l->plan->groups.at[kernel->groups.at[i]], out);
}

static void explain_table(const LowerTable *table, Text *out) {
    const Node *scatter = table->scatter;
    text_printf(out, "  a loop over the %s of %s that the batch reads\n",
                scatter->turned ? "columns" : "panels of 16 rows", table->tensor->name);
    text_printf(out,
                "        the gradient of one is gathered in %" PRId64 " bytes for each thread: %s is never stored\n",
                table->vectors * LANES * 4, scatter->label ? scatter->label : "the whole");
    switch (table->rows) {
    case TABLE_ALL:
        text_add(out, "        and of those that it does not read: a batch may read most of them\n");
        break;
    case TABLE_READ:
        text_add(out, "        others are left alone: a gradient of zero changes nothing in them\n");
        break;
    case TABLE_WAITS:
        text_printf(
            out,
            "        others wait: their updates are done, to the same bits, when they are read, or else after %d "
            "steps and at the end\n",
            STEPS_KEPT);
        break;
    }
}

void lower_explain(Lowering *l, Text *out) {
    double cycles = l->plan->table_work;
    for (int i = 0; i < l->plan->groups.count; i++)
        cycles += l->plan->groups.at[i].work;
    text_printf(out, "%s: %s\n", l->function->name, l->function->about);
    text_printf(out, "  some %.0f cycles of one core for %" PRId64 " rows: %s\n", cycles, l->function->capacity,
                l->plan->parallel ? "worth threads" : "not worth threads");
    for (int i = 0; i < l->plan->kernels.count; i++) {
        explain_kernel(l, &l->plan->kernels.at[i], out);
        for (int j = 0; j < l->plan->kernels.at[i].groups.count; j++)
            if (l->plan->kernels.at[i].groups.at[j] == l->plan->guard_group && l->function->guard)
                text_add(out, "  nothing is changed unless the loss is finite\n");
    }
    for (int i = 0; i < l->plan->tables.count; i++)
        explain_table(l->plan->tables.at[i], out);
    text_add(out, "\n");
}
