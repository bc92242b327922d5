/* Before: a group whose items can be computed 16 elements at a time. After: its kernel, in lanes.

   Batched vectors and weights lie in panels of 16 neighbours of the first axis (kernel.h), so every load and store is
   16 elements in a row. A product keeps a tile of sums in registers: several rows of the batch (forward, and the data
   gradient, which reads the transposed weights) or several columns of the weights (the weight gradient) against one
   panel. What follows a product element by element, the optimizer's formula among it, rides on those registers. Each
   sum is the chain that point.c states: tiles choose only which chains run side by side.

   Rows beyond the batch's last, up to a whole tile, are computed and stored where nothing reads them. */
#include "lower.h"

#include <string.h>

#define COLUMN_TILE 6

/* ---- what fits
 * ------------------------------------------------------------------------------------------------------------- */

static bool is_stored(const LowerPlan *plan, const Node *node) {
    node = lower_behind((Node *)node);
    return plan->items[node->id] || node->op == OP_TENSOR || node->op == OP_INPUT;
}

/* y = W x: W [n, k] without rows, x [k] of a row, both stored. */
static bool is_forward(const LowerPlan *plan, const Node *node) {
    if (node->op != OP_CONTRACT || node->contract.over_batch || !node->batched || node->rank != 1)
        return false;
    const Node *w = node->args[0], *x = node->args[1];
    return !w->batched && w->rank == 2 && x->batched && x->rank == 1 && x->type == TYPE_REAL && is_stored(plan, w) &&
           is_stored(plan, x) && node->contract.left[0] == node->contract.out[0] &&
           node->contract.left[1] == node->contract.right[0] && node->contract.left[1] != node->contract.left[0];
}

/* G = sum over the batch of outer(d, x): d [n] and x [k] of a row, both stored. */
static bool is_gradient(const LowerPlan *plan, const Node *node) {
    if (node->op != OP_CONTRACT || !node->contract.over_batch || node->rank != 2)
        return false;
    const Node *d = node->args[0], *x = node->args[1];
    return d->batched && d->rank == 1 && x->batched && x->rank == 1 && is_stored(plan, d) && is_stored(plan, x) &&
           node->contract.left[0] == node->contract.out[0] && node->contract.right[0] == node->contract.out[1];
}

static bool fits(const LowerPlan *plan, const Node *domain, Node *node, bool at_item);

static bool args_fit(const LowerPlan *plan, const Node *domain, const Node *node) {
    for (int i = 0; i < node->arg_count; i++)
        if (!fits(plan, domain, node->args[i], false))
            return false;
    return true;
}

static bool fits(const LowerPlan *plan, const Node *domain, Node *node, bool at_item) {
    node = lower_behind(node);
    bool shaped = node->rank > 0, same = node_same_shape(node, domain);
    if (node->type == TYPE_WIDE)
        return !shaped;
    if (!at_item && plan->items[node->id])
        return !shaped || same;
    switch (node->op) {
    case OP_CONSTANT:
    case OP_SCALAR:
        return true;
    case OP_TENSOR:
    case OP_INPUT:
        return !shaped || same;
    case OP_IOTA:
    case OP_ONE_HOT:
        return same && domain->rank == 1;
    case OP_RANDOM:
        return same && domain->rank == 1;
    case OP_EXPAND:
        return same && fits(plan, domain, node->args[0], false);
    case OP_CONTRACT:
        return at_item && (is_forward(plan, node) || is_gradient(plan, node));
    case OP_BATCH_SUM: {
        Node row = *domain; /* the same elements of one row */
        row.batched = true;
        return at_item && domain->rank == 1 && fits(plan, &row, node->args[0], false);
    }
    default:
        break;
    }
    OpClass class = op_table[node->op].class;
    bool element = class == CLASS_ARITHMETIC || class == CLASS_COMPARE || class == CLASS_MATH;
    return element && (!shaped || same) && args_fit(plan, domain, node);
}

bool lower_in_vectors(const LowerPlan *plan, const LowerItem *item) {
    Node *node = item->node;
    for (int i = 0; i < item->sinks.count && node->rank == 0; i++)
        if (item->sinks.at[i].buffer) /* 16 at a time would pass its end */
            return false;
    if (node->type != TYPE_REAL || node->rank > 2 || (node->rank == 2 && node->batched) ||
        (node->rank == 0 && !node->batched))
        return false;
    for (int i = 0; i < item->sinks.count; i++)
        if (item->sinks.at[i].buffer && !node->batched && node->rank > 0) /* sums in row-major order */
            return false;
    return fits(plan, node, node, true);
}

/* ---- one point: items in order, then the stores
 * -------------------------------------------------------------------------------- */

static Point lanes_point(Lowering *l, int index, Value *panel) {
    Point point = {.lanes = 16, .lane_axis = 0, .group = index, .memo = arena_new_of(l->b.arena, struct Memo)};
    point.panel = panel;
    point.at[0] = lower_named(l, "i", lower_times(l, panel, LANES));
    return point;
}

static void know(Lowering *l, Point *point, Node *node, Value *value) {
    *LIST_ADD(l->b.arena, &point->memo->known) = (struct Known){node, value};
}

/* Into a row-major output: whole panels at once, the last one element by element; rows beyond the batch not at all. */
static void store_rows(Lowering *l, const Sink *sink, const Node *node, Value *value, Point *point) {
    int64_t n = node->dims[0], last = (n - 1) / LANES, rest = n - last * LANES;
    lower_use(l, sink->buffer);
    Block *inside =
        build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, point->row, value_context(&l->b, CONTEXT_ROWS), NULL));
    Value *index = build_let(
        &l->b, "at",
        lower_add(l, lower_times(l, point->row, n), lower_add(l, point->at[0], lower_integer(l, sink->first))));
    if (last > 0) {
        Value *full =
            value_op(&l->b, OP_INTEGER_LESS, point->panel, lower_integer(l, rest == LANES ? last + 1 : last), NULL);
        Block *whole = build_if(&l->b, full);
        build_store(&l->b, sink->buffer, index, value);
        build_end(&l->b, whole);
    }
    if (rest < LANES || last == 0) {
        Block *tail =
            last > 0 ? build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, point->panel, lower_integer(l, last), NULL))
                     : NULL;
        for (int lane = 0; lane < rest; lane++)
            build_store(&l->b, sink->buffer, lower_add(l, index, lower_integer(l, lane)),
                        value_extract(&l->b, value, lane));
        if (tail)
            build_end(&l->b, tail);
    }
    build_end(&l->b, inside);
}

static void store_vector(Lowering *l, LowerItem *item, Value *value, Point *point) {
    if (item->node->rank != 1 || !item->node->batched) {
        lower_store(l, item, value, point);
        return;
    }
    LowerItem panels = *item;
    panels.sinks.count = 0;
    lower_store(l, &panels, value, point);
    for (int i = 0; i < item->sinks.count; i++)
        store_rows(l, &item->sinks.at[i], item->node, value, point);
}

static void finish_point(Lowering *l, const LowerGroup *group, Point *point) {
    Value **values = arena_array(l->b.arena, Value *, group->items.count);
    for (int i = 0; i < group->items.count; i++) {
        Node *node = group->items.at[i]->node;
        values[i] = emit_node(l, node, point);
        if (!values[i]->let)
            values[i] = build_let(&l->b, lower_wish(node), values[i]);
        know(l, point, node, values[i]);
    }
    for (int i = 0; i < group->items.count; i++)
        store_vector(l, group->items.at[i], values[i], point);
}

/* ---- forward products
 * -------------------------------------------------------------------------------------------------------------- */

/* One panel of x's columns: for each of them, every row's sum takes weight * x. */
static void forward_columns(Lowering *l, Node *node, Point *points, int rows, Statement **sums, Value *column_panel,
                            int64_t columns) {
    Node *w = node->args[0], *x = node->args[1];
    Buffer *xs = lower_use(l, lower_buffer(l, x));
    Value *bases[ROW_TILE], *j;
    for (int r = 0; r < rows; r++)
        bases[r] =
            build_let(&l->b, "base",
                      lower_times(l, lower_add(l, lower_times(l, column_panel, xs->stride), points[r].row), LANES));
    Block *loop = build_loop(&l->b, "j", lower_integer(l, 0), lower_integer(l, columns), 1, false, &j);
    Point weight = lower_point(l, &points[0]);
    weight.row = NULL;
    weight.at[1] = lower_named(l, "k", lower_add(l, lower_times(l, column_panel, LANES), j));
    Value *panel = build_let(&l->b, "w", emit_node(l, w, &weight));
    for (int r = 0; r < rows; r++) {
        Value *element = value_splat(&l->b, value_load(&l->b, xs, lower_add(l, bases[r], j), 1), LANES);
        build_set(&l->b, sums[r], value_op(&l->b, OP_FMA, panel, element, value_read(&l->b, sums[r])));
    }
    build_end(&l->b, loop);
}

static void forward_tile(Lowering *l, Node *node, Point *points, int rows) {
    Statement *sums[ROW_TILE];
    int64_t columns = node->args[0]->dims[1], whole = columns / LANES;
    for (int r = 0; r < rows; r++)
        sums[r] = build_var(&l->b, "sum", lower_number(l, 0, SCALAR_F32, LANES));
    if (whole) {
        Value *panel;
        Block *loop = build_loop(&l->b, "q", lower_integer(l, 0), lower_integer(l, whole), 1, false, &panel);
        forward_columns(l, node, points, rows, sums, panel, LANES);
        build_end(&l->b, loop);
    }
    if (columns % LANES)
        forward_columns(l, node, points, rows, sums, lower_integer(l, whole), columns % LANES);
    for (int r = 0; r < rows; r++)
        know(l, &points[r], node, build_let(&l->b, lower_wish(node), value_read(&l->b, sums[r])));
}

static bool has_product(const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        if (lower_behind(group->items.at[i]->node)->op == OP_CONTRACT)
            return true;
    return false;
}

static void rows_of_panel(Lowering *l, const LowerGroup *group, int index, Value *panel, Value *first_row, int rows) {
    Point points[ROW_TILE];
    for (int r = 0; r < rows; r++) {
        points[r] = lanes_point(l, index, panel);
        points[r].at[0] = r ? points[0].at[0] : points[r].at[0];
        points[r].row = lower_named(l, "row", lower_add(l, first_row, lower_integer(l, r)));
    }
    for (int i = 0; i < group->items.count; i++)
        if (group->items.at[i]->node->op == OP_CONTRACT)
            forward_tile(l, group->items.at[i]->node, points, rows);
    for (int r = 0; r < rows; r++)
        finish_point(l, group, &points[r]);
}

/* Panels outside, rows inside, so that a panel of weights serves every row while it is near; the other way round where
   there are too few panels to share among threads. */
static void lower_batched(Lowering *l, const LowerGroup *group, int index, bool parallel) {
    int64_t panels = (group->dims[0] + LANES - 1) / LANES;
    int rows = has_product(group) ? lower_row_tile(l->function->capacity) : 1;
    bool rows_outside = parallel && panels < 4;
    Value *panel = lower_integer(l, 0), *row;
    Block *outer = NULL, *inner = NULL, *loop;
    if (!rows_outside && panels > 1)
        outer = build_loop(&l->b, "p", lower_integer(l, 0), lower_integer(l, panels), 1, parallel, &panel);
    loop =
        build_loop(&l->b, "b", lower_integer(l, 0), value_context(&l->b, CONTEXT_ROWS), rows, parallel && !outer, &row);
    if (rows_outside && panels > 1)
        inner = build_loop(&l->b, "p", lower_integer(l, 0), lower_integer(l, panels), 1, false, &panel);
    rows_of_panel(l, group, index, panel, row, rows);
    if (inner)
        build_end(&l->b, inner);
    build_end(&l->b, loop);
    if (outer)
        build_end(&l->b, outer);
}

/* ---- weights and their gradients
 * ------------------------------------------------------------------------------------------------------ */

static void gradient_tile(Lowering *l, Node *node, Point *points, Value *first, int columns) {
    Node *d = node->args[0], *x = node->args[1];
    Buffer *xs = lower_use(l, lower_buffer(l, x));
    Statement *sums[COLUMN_TILE];
    Value *bases[COLUMN_TILE], *row;
    for (int j = 0; j < columns; j++) {
        Value *column = lower_add(l, first, lower_integer(l, j));
        Value *panel = value_op(&l->b, OP_INTEGER_DIVIDE, column, lower_integer(l, LANES), NULL);
        Value *again = lower_add(l, first, lower_integer(l, j));
        Value *lane = value_op(&l->b, OP_INTEGER_REMAINDER, again, lower_integer(l, LANES), NULL);
        bases[j] = lower_named(l, "base", lower_add(l, lower_times(l, panel, xs->stride * LANES), lane));
        sums[j] = build_var(&l->b, "sum", lower_number(l, 0, SCALAR_F32, LANES));
    }
    Block *loop = lower_rows(l, &row);
    Point at_row = lower_point(l, &points[0]);
    at_row.row = row;
    Value *panel = build_let(&l->b, "d", emit_node(l, d, &at_row));
    for (int j = 0; j < columns; j++) {
        Value *element = value_load(&l->b, xs, lower_add(l, bases[j], lower_times(l, row, LANES)), 1);
        build_set(&l->b, sums[j],
                  value_op(&l->b, OP_FMA, panel, value_splat(&l->b, element, LANES), value_read(&l->b, sums[j])));
    }
    build_end(&l->b, loop);
    for (int j = 0; j < columns; j++)
        know(l, &points[j], node, build_let(&l->b, lower_wish(node), value_read(&l->b, sums[j])));
}

static void columns_of_panel(Lowering *l, const LowerGroup *group, int index, Value *panel, Value *first, int columns) {
    Point points[COLUMN_TILE];
    for (int j = 0; j < columns; j++) {
        points[j] = lanes_point(l, index, panel);
        points[j].at[0] = j ? points[0].at[0] : points[j].at[0];
        points[j].at[1] = lower_named(l, "column", lower_add(l, first, lower_integer(l, j)));
    }
    for (int i = 0; i < group->items.count; i++)
        if (group->items.at[i]->node->op == OP_CONTRACT)
            gradient_tile(l, group->items.at[i]->node, points, first, columns);
    for (int j = 0; j < columns; j++)
        finish_point(l, group, &points[j]);
}

static void lower_weights(Lowering *l, const LowerGroup *group, int index, bool parallel) {
    int64_t panels = (group->dims[0] + LANES - 1) / LANES, columns = group->dims[1];
    int tile = has_product(group) ? COLUMN_TILE : 1, rest = (int)(columns % tile);
    Value *panel, *first;
    Block *outer = build_loop(&l->b, "p", lower_integer(l, 0), lower_integer(l, panels), 1, parallel, &panel);
    if (columns >= tile) {
        Block *loop =
            build_loop(&l->b, "k", lower_integer(l, 0), lower_integer(l, columns - rest), tile, false, &first);
        columns_of_panel(l, group, index, panel, first, tile);
        build_end(&l->b, loop);
    }
    if (rest)
        columns_of_panel(l, group, index, panel, lower_integer(l, columns - rest), rest);
    build_end(&l->b, outer);
}

/* ---- vectors without rows, numbers of each row
 * ---------------------------------------------------------------------------------------------- */

static void chain_rows(Lowering *l, Node *node, Point *point) {
    Value *row;
    Statement *sum = build_var(&l->b, "sum", lower_number(l, 0, SCALAR_F32, LANES));
    Block *loop = lower_rows(l, &row);
    Point at_row = lower_point(l, point);
    at_row.row = row;
    build_set(&l->b, sum, value_op(&l->b, OP_ADD, value_read(&l->b, sum), emit_node(l, node->args[0], &at_row), NULL));
    build_end(&l->b, loop);
    know(l, point, node, build_let(&l->b, lower_wish(node), value_read(&l->b, sum)));
}

static void lower_plain(Lowering *l, const LowerGroup *group, int index, bool parallel) {
    Value *panel;
    Block *outer = build_loop(&l->b, "p", lower_integer(l, 0), lower_integer(l, (group->dims[0] + LANES - 1) / LANES),
                              1, parallel, &panel);
    Point point = lanes_point(l, index, panel);
    for (int i = 0; i < group->items.count; i++)
        if (group->items.at[i]->node->op == OP_BATCH_SUM)
            chain_rows(l, group->items.at[i]->node, &point);
    finish_point(l, group, &point);
    build_end(&l->b, outer);
}

static void lower_numbers(Lowering *l, const LowerGroup *group, int index, bool parallel) {
    Point point = {.lanes = 16, .lane_axis = -1, .group = index, .memo = arena_new_of(l->b.arena, struct Memo)};
    Block *loop =
        build_loop(&l->b, "b", lower_integer(l, 0), value_context(&l->b, CONTEXT_ROWS), LANES, parallel, &point.row);
    finish_point(l, group, &point);
    build_end(&l->b, loop);
}

void lower_vectors(Lowering *l, LowerGroup *group, int index, bool parallel) {
    if (group->rank == 0)
        lower_numbers(l, group, index, parallel);
    else if (group->batched)
        lower_batched(l, group, index, parallel);
    else if (group->rank == 1)
        lower_plain(l, group, index, parallel);
    else
        lower_weights(l, group, index, parallel);
}
