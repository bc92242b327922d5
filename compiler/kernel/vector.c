/* Before: a group whose items can be computed 16 elements at a time. After: its nest of loops inside one round, in lanes.

   Batched vectors and weights lie in panels of 16 neighbours of the first axis (kernel.h), so every load and store is
   16 elements in a row. A product keeps a tile of sums in registers: some panels against several rows of the batch
   (forward, and the data gradient, which reads the transposed weights) or several columns of the weights (the weight
   gradient). What follows a product element by element, the optimizer's formula among it, rides on those registers. Each
   sum is the chain that point.c states: tiles choose only which chains run side by side.

   Rows beyond the batch's last, up to a whole tile, are computed and stored where nothing reads them. */
#include "lower.h"

#include <string.h>

enum {
    MOST_SUMS = 32,
    WORTH_DRAWING =
        1 << 13,     /* elements of a matrix: of fewer, drawing 16 at a time wins less than compiling that costs */
    MOST_IN_ONE = 12 /* columns of one panel that are one tile where registers hold it, whatever the tile */
};

/* ---- what fits
 * ------------------------------------------------------------------------------------------------------------- */

static bool is_stored(const LowerPlan *plan, const Node *node) {
    node = lower_behind((Node *)node);
    return plan->items[node->id] || node->op == OP_TENSOR || node->op == OP_INPUT;
}

/* y = W x: W [n, k] without rows, x [k] of a row, both stored. */
bool lower_is_forward(const LowerPlan *plan, const Node *node) {
    if (node->op != OP_CONTRACT || node->contract.over_batch || !node->batched || node->rank != 1)
        return false;
    const Node *w = node->args[0], *x = node->args[1];
    return !w->batched && w->rank == 2 && x->batched && x->rank == 1 && x->type == TYPE_REAL && is_stored(plan, w) &&
           is_stored(plan, x) && node->contract.left[0] == node->contract.out[0] &&
           node->contract.left[1] == node->contract.right[0] && node->contract.left[1] != node->contract.left[0];
}

/* G = sum over the batch of outer(d, x): d [n] and x [k] of a row, both stored. */
bool lower_is_gradient(const LowerPlan *plan, const Node *node) {
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
        return node->arg_count < 2 && same && domain->rank == 1;
    case OP_RANDOM: /* 16 neighbours, or 16 down a column (math_uniform_apart) */
        return same && (domain->rank == 1 || (domain->rank == 2 && domain->dims[1] < INT32_MAX / LANES &&
                                              node_elements(domain) >= WORTH_DRAWING));
    case OP_EXPAND:
        return same && fits(plan, domain, node->args[0], false);
    case OP_CONTRACT:
        return at_item && (lower_is_forward(plan, node) || lower_is_gradient(plan, node));
    case OP_LOOKUP: /* of several rows of what is stored by columns: 16 outputs of a layer that takes words */
        return at_item && node->batched && node->arg_count == 3 && domain->rank == 1 &&
               node->args[0]->op == OP_TRANSPOSE && node->args[0]->args[0]->op == OP_TENSOR;
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

/* W', of a stored W: the same panels the other way round. */
static bool is_transpose(const LowerPlan *plan, const Node *node) {
    return node->op == OP_TRANSPOSE && !node->batched && node->type == TYPE_REAL && is_stored(plan, node->args[0]);
}

bool lower_in_vectors(const LowerPlan *plan, const LowerItem *item) {
    Node *node = item->node;
    if (item->sinks.count == 0 && is_transpose(plan, node))
        return true;
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

/* Into a row-major output: whole panels at once, the last one element by element; rows beyond the batch not at all. */
static void store_rows(Lowering *l, const Sink *sink, const Node *node, Value *value, Point *point) {
    int64_t n = node->dims[0], last = (n - 1) / LANES, rest = n - last * LANES;
    lower_use(l, sink->buffer);
    Block *inside =
        build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, point->row, value_context(&l->b, CONTEXT_ROWS), NULL));
    Value *index = build_let(
        &l->b, "at",
        lower_add(l, lower_times(l, point->row, n), lower_add(l, point->at[0], lower_integer(l, sink->first))));
    int64_t known = point->panel->kind == VALUE_NUMBER ? point->panel->number.integer : -1;
    int64_t end = rest == LANES ? last + 1 : last; /* of the whole panels */
    if (known < 0 ? end > 0 : known < end) {
        Value *full = value_op(&l->b, OP_INTEGER_LESS, point->panel, lower_integer(l, end), NULL);
        Block *whole = known < 0 ? build_if(&l->b, full) : NULL;
        build_store(&l->b, sink->buffer, index, value);
        if (whole)
            build_end(&l->b, whole);
    }
    if (rest < LANES && (known < 0 || known == last)) {
        Value *is_last = value_op(&l->b, OP_INTEGER_EQUAL, point->panel, lower_integer(l, last), NULL);
        Block *tail = known < 0 ? build_if(&l->b, is_last) : NULL;
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
        lower_know(l, point, node, values[i]);
    }
    for (int i = 0; i < group->items.count; i++)
        store_vector(l, group->items.at[i], values[i], point);
    for (int i = 0; i < group->riders.count; i++) { /* columns come in order */
        const LowerItem *sum = group->riders.at[i];
        Value *index = lower_named(l, "at", lower_index(l, sum->buffer, sum->node, point));
        Value *before = value_load(&l->b, lower_use(l, sum->buffer), index, LANES);
        build_store(&l->b, sum->buffer, index,
                    value_op(&l->b, OP_ADD, before, emit_node(l, sum->node->args[0], point), NULL));
    }
}

/* ---- loops over panels and rows ------------------------------------------------------------------------------------------ */

typedef void Tiled(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels, const Round *round);

/* Panels [from, to) of `all`, `tile` at a time; the last few of all may be fewer. */
static void panels_in(Lowering *l, const LowerGroup *group, int index, const Round *round, int64_t all, int tile,
                      Tiled *emit) {
    int64_t whole = all / tile * tile;
    int rest = (int)(all - whole);
    Value *panel = lower_integer(l, 0);
    bool shared = round->partition == PARTITION_PANELS && group->axis == 0;
    if (shared && round->step == tile) { /* the round is one tile */
        if (!rest) {
            emit(l, group, index, round->from, tile, round);
            return;
        }
        Block *outer = NULL;
        if (whole) {
            outer = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, round->from, lower_integer(l, whole), NULL));
            emit(l, group, index, round->from, tile, round);
            build_end(&l->b, outer);
            outer = build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, round->from, lower_integer(l, whole), NULL));
        }
        emit(l, group, index, round->from, rest, round);
        if (outer)
            build_end(&l->b, outer);
        return;
    }
    if (shared) { /* rounds are whole tiles, but for the last */
        if (rest && tile > 1)
            BUG("%s: tiles of %d panels do not go into a round of %d", l->function->name, tile, (int)round->step);
        Block *outer = build_loop(&l->b, "q", round->from, round->to, tile, false, &panel);
        emit(l, group, index, panel, tile, round);
        build_end(&l->b, outer);
        return;
    }
    if (whole == tile) {
        emit(l, group, index, panel, tile, round);
    } else if (whole) {
        Block *outer = build_loop(&l->b, "q", lower_integer(l, 0), lower_integer(l, whole), tile, false, &panel);
        emit(l, group, index, panel, tile, round);
        build_end(&l->b, outer);
    }
    if (rest)
        emit(l, group, index, lower_integer(l, whole), rest, round);
}

static Block *open_rows(Lowering *l, const Round *round, int step, Value **row) {
    bool rows = round->partition == PARTITION_ROWS;
    return build_loop(&l->b, "b", rows ? round->from : lower_integer(l, 0),
                      rows ? round->to : value_context(&l->b, CONTEXT_ROWS), step, false, row);
}

static Value *panel_after(Lowering *l, Value *panel, int by) {
    return lower_named(l, "panel", lower_add(l, panel, lower_integer(l, by)));
}

static bool is_product(const LowerItem *item) {
    return item->node->op == OP_CONTRACT;
}

static bool has_product(const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        if (is_product(group->items.at[i]))
            return true;
    return false;
}

/* ---- forward products ------------------------------------------------------------------------------------------------------- */

/* The sums of a tile, [panel][row or column]. */
typedef struct Sums {
    int panels, columns;
    Statement *at[MOST_SUMS];
    Point points[MOST_SUMS];
} Sums;

/* A product's sums over a part of its axis: panels of columns [from, to) of x, or for a gradient rows [first, end). The
   first part begins with zeros, the others with what waited in the buffer. */
typedef struct Part {
    Value *from, *to;
    Value *first, *end; /* rows */
    Buffer *partial;
    bool columns; /* of a gradient: its columns are shared out */
} Part;

static Value *partial_index(Lowering *l, const Part *part, const Point *point) {
    if (!point->row) { /* of weights: the round's, along the axis that is shared out */
        Value *panel = part->columns ? point->panel : lower_panel(l, part->partial, point->panel);
        Value *first = part->columns ? lower_times(l, l->round, LANES) : NULL;
        Value *column = first ? value_op(&l->b, OP_INTEGER_SUBTRACT, point->at[1], first, NULL) : point->at[1];
        return lower_times(l, lower_add(l, lower_times(l, panel, part->partial->dims[1]), column), LANES);
    }
    Value *panel = lower_times(l, lower_panel(l, part->partial, point->panel), part->partial->dims[1]);
    Value *row = value_op(&l->b, OP_INTEGER_SUBTRACT, point->row, part->first, NULL);
    return lower_times(l, lower_add(l, panel, row), LANES);
}

static void resume_sums(Lowering *l, Sums *sums, const Part *part) {
    Buffer *partial = lower_use(l, part->partial);
    Value *from = part->from ? part->from : part->first;
    Block *later = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, lower_integer(l, 0), from, NULL));
    for (int i = 0; i < sums->panels * sums->columns; i++)
        build_set(&l->b, sums->at[i], value_load(&l->b, partial, partial_index(l, part, &sums->points[i]), LANES));
    build_end(&l->b, later);
}

static void suspend_sums(Lowering *l, Sums *sums, const Part *part) {
    for (int i = 0; i < sums->panels * sums->columns; i++)
        build_store(&l->b, part->partial, partial_index(l, part, &sums->points[i]), value_read(&l->b, sums->at[i]));
}

static void start_sums(Lowering *l, Sums *sums) {
    for (int i = 0; i < sums->panels * sums->columns; i++)
        sums->at[i] = build_var(&l->b, "sum", lower_number(l, 0, SCALAR_F32, LANES));
}

static void end_sums(Lowering *l, Sums *sums, Node *node) {
    for (int i = 0; i < sums->panels * sums->columns; i++)
        lower_know(l, &sums->points[i], node, build_let(&l->b, lower_wish(node), value_read(&l->b, sums->at[i])));
}

/* The sums of every panel take factor * number, `number` in every lane. */
static void add_products(Lowering *l, Sums *sums, int column, Value *const *factors, Value *number) {
    Value *spread = build_let(&l->b, "x", value_splat(&l->b, number, LANES));
    for (int p = 0; p < sums->panels; p++) {
        Statement *sum = sums->at[p * sums->columns + column];
        build_set(&l->b, sum, value_op(&l->b, OP_FMA, factors[p], spread, value_read(&l->b, sum)));
    }
}

#define WORTH_FETCHING (1 << 18) /* bytes: below, what is read or updated is in the cache */

#define WORTH_SENDING (1 << 16) /* bytes: below, waiting for what another core has just written is soon over */

#define WORTH_OWNING (1 << 18) /* bytes: of a batch that each thread may have for itself */

/* Where a round of panels goes through all rows, each thread had better gather them itself. */
static void want_own(const Lowering *l, Buffer *buffer) {
    if (l->round && l->plan->parallel && buffer->role == BUFFER_FEED && !l->function->is_double && !l->plan->tight &&
        buffer_bytes(buffer) <= WORTH_OWNING)
        buffer->own = true;
}

/* The rows' next columns but one come while these are summed: they lie too far away for the machine to guess. */
static void fetch_columns(Lowering *l, Node *x, Sums *sums, Value *column_panel, int64_t panels) {
    enum { AHEAD = 2 };
    Buffer *xs = lower_buffer(l, x);
    bool sent = l->round && l->plan->parallel && xs->role != BUFFER_FEED; /* half of it by another thread */
    int64_t worth = sent ? WORTH_SENDING : WORTH_FETCHING;
    if (panels <= AHEAD || l->function->capacity * x->dims[0] * 4 < worth)
        return;
    Value *ahead = value_op(&l->b, OP_INTEGER_MINIMUM, lower_add(l, column_panel, lower_integer(l, AHEAD)),
                            lower_integer(l, panels - 1), NULL);
    Value *first = lower_times(l, lower_add(l, lower_times(l, ahead, xs->stride), sums->points[0].row), LANES);
    first = lower_named(l, "ahead", first);
    for (int r = 0; r < sums->columns; r++)
        build_prefetch(&l->b, xs, lower_add(l, first, lower_integer(l, r * LANES)), false);
}

/* One panel of x's columns: for each of them, every row's sum takes weight * x. */
static void forward_columns(Lowering *l, Node *node, Sums *sums, Value *column_panel, int64_t columns) {
    Node *w = node->args[0], *x = node->args[1];
    Buffer *xs = lower_use(l, lower_buffer(l, x));
    want_own(l, xs);
    Value *row = sums->points[0].row, *j, *factors[MOST_SUMS];
    Value *base =
        build_let(&l->b, "base", lower_times(l, lower_add(l, lower_times(l, column_panel, xs->stride), row), LANES));
    Block *loop = build_loop(&l->b, "j", lower_integer(l, 0), lower_integer(l, columns), 1, false, &j);
    Value *k = lower_named(l, "k", lower_add(l, lower_times(l, column_panel, LANES), j));
    for (int p = 0; p < sums->panels; p++) {
        Point weight = lower_point(l, &sums->points[p * sums->columns]);
        weight.row = NULL;
        weight.at[1] = k;
        factors[p] = build_let(&l->b, "w", emit_node(l, w, &weight));
    }
    for (int r = 0; r < sums->columns; r++) {
        Value *at = lower_add(l, lower_add(l, base, j), lower_integer(l, r * LANES));
        add_products(l, sums, r, factors, value_load(&l->b, xs, at, 1));
    }
    build_end(&l->b, loop);
}

/* `part`: NULL for all columns at once. The last few, which fill no panel, are the caller's where there are parts. */
static void forward_sums(Lowering *l, Node *node, Sums *sums, const Part *part) {
    int64_t columns = node->args[0]->dims[1], whole = columns / LANES;
    start_sums(l, sums);
    if (part)
        resume_sums(l, sums, part);
    if (whole == 1) {
        forward_columns(l, node, sums, lower_integer(l, 0), LANES);
    } else if (whole) {
        Value *panel, *from = part ? part->from : lower_integer(l, 0), *to = part ? part->to : lower_integer(l, whole);
        Block *loop = build_loop(&l->b, "c", from, to, 1, false, &panel);
        fetch_columns(l, node->args[1], sums, panel, whole);
        forward_columns(l, node, sums, panel, LANES);
        build_end(&l->b, loop);
    }
    if (columns % LANES && !part)
        forward_columns(l, node, sums, lower_integer(l, whole), columns % LANES);
    if (!part)
        end_sums(l, sums, node);
}

static void finish_points(Lowering *l, const LowerGroup *group, Sums *sums) {
    for (int i = 0; i < sums->panels * sums->columns; i++)
        finish_point(l, group, &sums->points[i]);
}

/* After the last part what rides on the sums, after the others they wait. */
static void end_part(Lowering *l, const LowerGroup *group, Sums *sums, Node *node, const Part *part) {
    int64_t columns = node->args[0]->dims[1], whole = columns / LANES;
    Block *last = build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, part->to, lower_integer(l, whole), NULL));
    if (columns % LANES)
        forward_columns(l, node, sums, lower_integer(l, whole), columns % LANES);
    end_sums(l, sums, node);
    finish_points(l, group, sums);
    build_end(&l->b, last);
    Block *others = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, part->to, lower_integer(l, whole), NULL));
    suspend_sums(l, sums, part);
    build_end(&l->b, others);
}

/* Some rows, from `first` on, against some panels. */
static void batched_tile(Lowering *l, const LowerGroup *group, int index, Value *panel, Tile tile, Value *first,
                         const Part *part) {
    Sums *sums = arena_new_of(l->b.arena, Sums);
    int panels = sums->panels = tile.panels;
    sums->columns = tile.columns;
    for (int p = 0; p < panels; p++) {
        Point of_panel = lanes_point(l, index, p ? panel_after(l, panel, p) : panel);
        for (int r = 0; r < sums->columns; r++) {
            Point *point = &sums->points[p * sums->columns + r];
            *point = lower_point(l, &of_panel);
            point->row = p ? sums->points[r].row : lower_named(l, "row", lower_add(l, first, lower_integer(l, r)));
        }
    }
    for (int i = 0; i < group->items.count; i++)
        if (is_product(group->items.at[i])) {
            forward_sums(l, group->items.at[i]->node, sums, part);
            if (part)
                end_part(l, group, sums, group->items.at[i]->node, part);
        }
    if (!part)
        finish_points(l, group, sums);
}

static void batched_rows(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels, const Round *round,
                         const Part *part) {
    Value *first;
    Block *loop = part ? build_loop(&l->b, "b", part->first, part->end, group->tile.columns, false, &first)
                       : open_rows(l, round, group->tile.columns, &first);
    batched_tile(l, group, index, panel, (Tile){panels, group->tile.columns}, first, part);
    build_end(&l->b, loop);
}

/* Some rows at a time: all parts of their sums, one after the other. */
static Block *open_parts(Lowering *l, const LowerGroup *group, Part *part) {
    *part = (Part){0};
    Value *rows = value_context(&l->b, CONTEXT_ROWS);
    part->first = lower_integer(l, 0);
    part->end = rows;
    Block *all = NULL;
    if (group->together < l->function->capacity) {
        all = build_loop(&l->b, "rows_from", part->first, rows, group->together, false, &part->first);
        Value *next = lower_add(l, part->first, lower_integer(l, group->together));
        part->end = lower_named(l, "rows_end", value_op(&l->b, OP_INTEGER_MINIMUM, next, rows, NULL));
    }
    int64_t whole = group->summed / LANES, step = group->block / LANES;
    part->partial = group->partial;
    Block *outer = build_loop(&l->b, "part", lower_integer(l, 0), lower_integer(l, whole), step, false, &part->from);
    Value *to = lower_add(l, part->from, lower_integer(l, step));
    if (whole % step)
        to = value_op(&l->b, OP_INTEGER_MINIMUM, to, lower_integer(l, whole), NULL);
    part->to = lower_named(l, "part_end", to);
    return all ? all : outer;
}

/* Every row of the round against some panels. */
static void batched_panels(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels,
                           const Round *round) {
    if (!group->block) {
        batched_rows(l, group, index, panel, panels, round, NULL);
        return;
    }
    Part part;
    Block *outer = open_parts(l, group, &part);
    batched_rows(l, group, index, panel, panels, round, &part);
    build_end(&l->b, outer);
}

/* A round of several tiles: what is read of the rows stays in the second cache while all the panels meet it, and a part of
   a tile's panels in the first while all rows meet it. */
static void batched_round(Lowering *l, const LowerGroup *group, int index, const Round *round) {
    Value *first, *panel;
    if (group->block) {
        Part part;
        Block *outer = open_parts(l, group, &part);
        Block *inner = build_loop(&l->b, "q", round->from, round->to, group->tile.panels, false, &panel);
        batched_rows(l, group, index, panel, group->tile.panels, round, &part);
        build_end(&l->b, inner);
        build_end(&l->b, outer);
        return;
    }
    Block *loop = open_rows(l, round, group->tile.columns, &first);
    Block *inner = build_loop(&l->b, "q", round->from, round->to, group->tile.panels, false, &panel);
    batched_tile(l, group, index, panel, group->tile, first, NULL);
    build_end(&l->b, inner);
    build_end(&l->b, loop);
}

/* The only row, against some panels: a loop, for the verifier compares the indices with those for several rows. */
static void single_row(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels, const Round *round) {
    Value *row;
    Block *loop = open_rows(l, round, 1, &row);
    batched_tile(l, group, index, panel, (Tile){panels, 1}, row, NULL);
    build_end(&l->b, loop);
}

/* ---- weights and their gradients ------------------------------------------------------------------------------------------------ */

enum { FEW_ROWS = 256 }; /* of a batch: with more, little of the time goes into transposing */

/* The kernel of a group, if it begins its rounds with the transposition of the tensor; else NULL. */
static const LowerKernel *transposes_first(const Lowering *l, int index, const Tensor *tensor) {
    for (int i = 0; i < l->plan->kernels.count; i++) {
        const LowerKernel *kernel = &l->plan->kernels.at[i];
        bool here = false, transposed = false;
        for (int j = 0; j < kernel->groups.count; j++) {
            const LowerItem *item = l->plan->groups.at[kernel->groups.at[j]].items.at[0];
            here = here || kernel->groups.at[j] == index;
            transposed = transposed || (item->node->op == OP_TRANSPOSE && item->node->args[0]->op == OP_TENSOR &&
                                        item->node->args[0]->tensor == tensor && item->buffer &&
                                        item->buffer->role == BUFFER_SCRATCH);
        }
        if (here)
            return transposed ? kernel : NULL;
    }
    return NULL;
}

/* The same elements in the columns of the next round, which begins with them and would wait for memory. */
static void fetch_next(Lowering *l, Buffer *buffer, const Node *node, const Point *point, int64_t step) {
    Point next = *point;
    Value *column = lower_add(l, point->at[1], lower_integer(l, step * LANES));
    next.at[1] = value_op(&l->b, OP_INTEGER_MINIMUM, column, lower_integer(l, node->dims[1] - 1), NULL);
    build_prefetch(&l->b, buffer, lower_index(l, buffer, node, &next), false);
}

/* What the update will read and write comes while the sums are made. */
static void fetch_updated(Lowering *l, const LowerGroup *group, Sums *sums) {
    for (int i = 0; i < group->items.count; i++) {
        const LowerItem *item = group->items.at[i];
        for (int j = 0; j < item->sinks.count; j++) {
            const Tensor *tensor = item->sinks.at[j].tensor;
            if (!tensor || node_elements(item->node) * 4 < WORTH_FETCHING)
                continue;
            Buffer *buffer = lower_use(l, lower_tensor(l, tensor));
            bool soon = group->axis == 1 && l->function->capacity <= FEW_ROWS;
            const LowerKernel *kernel = soon ? transposes_first(l, sums->points[0].group, tensor) : NULL;
            for (int k = 0; k < sums->panels * sums->columns; k++)
                build_prefetch(&l->b, buffer, lower_index(l, buffer, item->node, &sums->points[k]), true);
            for (int k = 0; kernel && k < sums->panels * sums->columns; k++)
                fetch_next(l, buffer, item->node, &sums->points[k], kernel->step);
        }
    }
}

static void gradient_sums(Lowering *l, Node *node, Sums *sums, Value *column_panel, Value *lane) {
    Node *d = node->args[0], *x = node->args[1];
    Buffer *xs = lower_use(l, lower_buffer(l, x));
    want_own(l, xs);
    Value *row, *factors[MOST_SUMS];
    Value *base = build_let(&l->b, "base", lower_add(l, lower_times(l, column_panel, xs->stride * LANES), lane));
    start_sums(l, sums);
    if (l->part)
        resume_sums(l, sums, l->part);
    Block *loop = l->part ? build_loop(&l->b, "b", l->part->first, l->part->end, 1, false, &row) : lower_rows(l, &row);
    for (int p = 0; p < sums->panels; p++) {
        Point at_row = lower_point(l, &sums->points[p * sums->columns]);
        at_row.row = row;
        factors[p] = build_let(&l->b, "d", emit_node(l, d, &at_row));
    }
    Value *at = lower_named(l, "at", lower_add(l, base, lower_times(l, row, LANES)));
    for (int j = 0; j < sums->columns; j++)
        add_products(l, sums, j, factors, value_load(&l->b, xs, lower_add(l, at, lower_integer(l, j)), 1));
    build_end(&l->b, loop);
    if (!l->part)
        end_sums(l, sums, node);
}

/* Columns 16 * column_panel + lane and after, of some panels. */
static void weight_tile(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels, Value *column_panel,
                        Value *lane, int columns) {
    Sums *sums = arena_new_of(l->b.arena, Sums);
    sums->panels = panels;
    sums->columns = columns;
    Value *first = lower_add(l, lower_times(l, column_panel, LANES), lane);
    first = lower_named(l, "k", first);
    for (int p = 0; p < panels; p++) {
        Point of_panel = lanes_point(l, index, p ? panel_after(l, panel, p) : panel);
        for (int j = 0; j < columns; j++) {
            Point *point = &sums->points[p * columns + j];
            *point = lower_point(l, &of_panel);
            point->at[1] =
                p ? sums->points[j].at[1] : lower_named(l, "column", lower_add(l, first, lower_integer(l, j)));
        }
    }
    Value *rows = value_context(&l->b, CONTEXT_ROWS);
    Block *last = l->part ? build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, l->part->end, rows, NULL)) : NULL;
    fetch_updated(l, group, sums);
    if (last)
        build_end(&l->b, last);
    Node *product = NULL;
    for (int i = 0; i < group->items.count; i++)
        if (is_product(group->items.at[i]))
            gradient_sums(l, product = group->items.at[i]->node, sums, column_panel, lane);
    if (l->part) {
        last = build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, l->part->end, rows, NULL));
        end_sums(l, sums, product);
    }
    for (int i = 0; i < panels * columns; i++)
        finish_point(l, group, &sums->points[i]);
    if (!l->part)
        return;
    build_end(&l->b, last);
    Block *others = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, l->part->end, rows, NULL));
    suspend_sums(l, sums, l->part);
    build_end(&l->b, others);
}

/* `count` columns of one panel of columns, a tile's at a time. */
static void columns_of_panel(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels,
                             Value *column_panel, int count) {
    bool in_one = has_product(group) && panels * count <= MOST_IN_ONE && tile_fits(l->machine, panels, count);
    int most = in_one ? count : group->tile.columns;
    int whole = count / most * most;
    Value *lane = lower_integer(l, 0);
    if (whole == most) {
        weight_tile(l, group, index, panel, panels, column_panel, lane, most);
    } else if (whole) {
        Block *outer = build_loop(&l->b, "h", lower_integer(l, 0), lower_integer(l, whole), most, false, &lane);
        weight_tile(l, group, index, panel, panels, column_panel, lane, most);
        build_end(&l->b, outer);
    }
    if (whole < count)
        weight_tile(l, group, index, panel, panels, column_panel, lower_integer(l, whole), count - whole);
}

/* All columns of some panels, or those of the round. */
static void weight_panels(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels,
                          const Round *round) {
    int64_t whole = group->dims[1] / LANES;
    int rest = (int)(group->dims[1] % LANES);
    Value *from = lower_integer(l, 0), *to = lower_integer(l, whole), *column_panel = from;
    if (whole == 1) {
        columns_of_panel(l, group, index, panel, panels, from, LANES);
    } else if (whole) {
        Block *outer = build_loop(&l->b, "c", from, to, 1, false, &column_panel);
        columns_of_panel(l, group, index, panel, panels, column_panel, LANES);
        build_end(&l->b, outer);
    }
    if (rest)
        columns_of_panel(l, group, index, panel, panels, lower_integer(l, whole), rest);
    (void)round;
}

/* Some panels against the panels of columns from `from` to `to`, which may hold the last one. */
static void weight_columns(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels,
                           const Round *round) {
    int64_t whole = group->dims[1] / LANES;
    int rest = (int)(group->dims[1] % LANES);
    Value *column_panel;
    Block *loop = build_loop(&l->b, "c", round->from, round->to, 1, false, &column_panel), *inner = NULL;
    if (whole) {
        if (rest)
            inner = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, column_panel, lower_integer(l, whole), NULL));
        columns_of_panel(l, group, index, panel, panels, column_panel, LANES);
        if (inner)
            build_end(&l->b, inner);
    }
    if (rest) {
        if (whole)
            inner = build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, column_panel, lower_integer(l, whole), NULL));
        columns_of_panel(l, group, index, panel, panels, column_panel, rest);
        if (whole)
            build_end(&l->b, inner);
    }
    build_end(&l->b, loop);
}

/* The columns are shared out: all panels of the first axis against the round's columns, which stay in the cache. */
static void weights_by_columns(Lowering *l, const LowerGroup *group, int index, const Round *round) {
    Round inner = *round;
    inner.partition = PARTITION_NONE;
    panels_in(l, group, index, &inner, panels_of(group->dims[0]), group->tile.panels, weight_columns);
}

/* A round of several tiles: a panel of columns meets them all before the next is read. */
static void weights_of_round(Lowering *l, const LowerGroup *group, int index, const Round *round) {
    int64_t whole = group->dims[1] / LANES;
    int rest = (int)(group->dims[1] % LANES), panels = group->tile.panels;
    Value *column_panel, *panel;
    if (whole) {
        Block *outer = build_loop(&l->b, "c", lower_integer(l, 0), lower_integer(l, whole), 1, false, &column_panel);
        Block *inner = build_loop(&l->b, "q", round->from, round->to, panels, false, &panel);
        columns_of_panel(l, group, index, panel, panels, column_panel, LANES);
        build_end(&l->b, inner);
        build_end(&l->b, outer);
    }
    if (rest) {
        Block *inner = build_loop(&l->b, "q", round->from, round->to, panels, false, &panel);
        columns_of_panel(l, group, index, panel, panels, lower_integer(l, whole), rest);
        build_end(&l->b, inner);
    }
}

/* ---- transposed weights ------------------------------------------------------------------------------------------------------------ */

/* 16 x 16 elements in a row, by squares of 4 x 4. */
static void transposed_square(Lowering *l, Buffer *from, Value *source, Buffer *to, Value *target) {
    Value *row, *column, *in[4], *half[4];
    Block *outer = build_loop(&l->b, "i", lower_integer(l, 0), lower_integer(l, LANES), 4, false, &row);
    Block *inner = build_loop(&l->b, "j", lower_integer(l, 0), lower_integer(l, LANES), 4, false, &column);
    Value *read = lower_named(l, "read", lower_add(l, lower_add(l, source, lower_times(l, column, LANES)), row));
    Value *write = lower_named(l, "write", lower_add(l, lower_add(l, target, lower_times(l, row, LANES)), column));
    for (int i = 0; i < 4; i++)
        in[i] = build_let(&l->b, "in", value_load(&l->b, from, lower_add(l, read, lower_integer(l, i * LANES)), 4));
    for (int i = 0; i < 4; i++) /* rows 0 and 2, then 1 and 3, are zipped; then what came of them */
        half[i] =
            build_let(&l->b, "half", value_op(&l->b, i < 2 ? OP_ZIP_LOW : OP_ZIP_HIGH, in[i % 2], in[i % 2 + 2], NULL));
    for (int i = 0; i < 4; i++) {
        Value *out = value_op(&l->b, i % 2 ? OP_ZIP_HIGH : OP_ZIP_LOW, half[i / 2 * 2], half[i / 2 * 2 + 1], NULL);
        build_store(&l->b, to, lower_add(l, write, lower_integer(l, i * LANES)), out);
    }
    build_end(&l->b, inner);
    build_end(&l->b, outer);
}

/* 16 rows of W (fewer where they are its last), `columns` of them from column 16 * panel on. */
static void transposed_rows(Lowering *l, const LowerGroup *group, Value *panel, Value *row_panel, int64_t rows,
                            int64_t columns) {
    const LowerItem *item = group->items.at[0];
    Buffer *from = lower_use(l, lower_buffer(l, item->node->args[0])), *to = lower_use(l, item->buffer);
    int64_t n = group->dims[1], k = group->dims[0];
    Value *lane, *j;
    Value *source = lower_add(l, lower_times(l, row_panel, k * LANES), lower_times(l, panel, LANES * LANES));
    Value *target =
        lower_add(l, lower_times(l, lower_panel(l, to, panel), n * LANES), lower_times(l, row_panel, LANES * LANES));
    source = lower_named(l, "source", source);
    target = lower_named(l, "target", target);
    if (rows == LANES && columns == LANES) {
        transposed_square(l, from, source, to, target);
        return;
    }
    Block *lanes = build_loop(&l->b, "lane", lower_integer(l, 0), lower_integer(l, rows), 1, false, &lane);
    Block *inner = build_loop(&l->b, "j", lower_integer(l, 0), lower_integer(l, columns), 1, false, &j);
    Value *read = value_load(&l->b, from, lower_add(l, lower_add(l, source, lower_times(l, j, LANES)), lane), 1);
    build_store(&l->b, to, lower_add(l, lower_add(l, target, lower_times(l, lane, LANES)), j), read);
    build_end(&l->b, inner);
    build_end(&l->b, lanes);
}

static void transposed_columns(Lowering *l, const LowerGroup *group, Value *panel, int64_t columns) {
    int64_t whole = group->dims[1] / LANES;
    Value *row_panel;
    if (whole) {
        Block *outer = build_loop(&l->b, "r", lower_integer(l, 0), lower_integer(l, whole), 1, false, &row_panel);
        transposed_rows(l, group, panel, row_panel, LANES, columns);
        build_end(&l->b, outer);
    }
    if (group->dims[1] % LANES)
        transposed_rows(l, group, panel, lower_integer(l, whole), group->dims[1] % LANES, columns);
}

/* One panel of W': element (k, n) from (n, k). The last one may have fewer columns of W than 16. */
static void transposed_panel(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels,
                             const Round *round) {
    int64_t whole = group->dims[0] / LANES, rest = group->dims[0] % LANES;
    (void)index, (void)panels, (void)round;
    if (panel->kind == VALUE_NUMBER || !rest) {
        transposed_columns(l, group, panel,
                           panel->kind == VALUE_NUMBER && panel->number.integer == whole ? rest : LANES);
        return;
    }
    Block *outer;
    if (whole) {
        outer = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, panel, lower_integer(l, whole), NULL));
        transposed_columns(l, group, panel, LANES);
        build_end(&l->b, outer);
    }
    outer = build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, panel, lower_integer(l, whole), NULL));
    transposed_columns(l, group, panel, rest);
    build_end(&l->b, outer);
}

/* ---- vectors without rows, numbers of each row ------------------------------------------------------------------------------------- */

static void add_row(Lowering *l, Node *node, const Point *point, Statement *sum, Value *row) {
    Point at_row = lower_point(l, point);
    at_row.row = row;
    build_set(&l->b, sum, value_op(&l->b, OP_ADD, value_read(&l->b, sum), emit_node(l, node->args[0], &at_row), NULL));
}

/* Row b goes to chain b mod 4, in order; then (0 + 2) + (1 + 3). */
static void chain_rows(Lowering *l, Node *node, Point *point) {
    enum { CHAINS = 4 };
    Statement *sums[CHAINS];
    Value *first, *rows = value_context(&l->b, CONTEXT_ROWS);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = build_var(&l->b, "sum", lower_number(l, 0, SCALAR_F32, LANES));
    Value *fours = value_op(&l->b, OP_INTEGER_DIVIDE, rows, lower_integer(l, CHAINS), NULL);
    Value *whole = lower_integer(l, 0);
    if (l->function->capacity >= CHAINS) {
        whole = lower_named(l, "whole", lower_times(l, fours, CHAINS));
        Block *loop = build_loop(&l->b, "b", lower_integer(l, 0), whole, CHAINS, false, &first);
        for (int i = 0; i < CHAINS; i++)
            add_row(l, node, point, sums[i], lower_named(l, "row", lower_add(l, first, lower_integer(l, i))));
        build_end(&l->b, loop);
    }
    for (int i = 0; i < CHAINS - 1; i++) {
        Value *row = lower_named(l, "row", lower_add(l, whole, lower_integer(l, i)));
        Block *there = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, row, rows, NULL));
        add_row(l, node, point, sums[i], row);
        build_end(&l->b, there);
    }
    Value *even = value_op(&l->b, OP_ADD, value_read(&l->b, sums[0]), value_read(&l->b, sums[2]), NULL);
    Value *odd = value_op(&l->b, OP_ADD, value_read(&l->b, sums[1]), value_read(&l->b, sums[3]), NULL);
    lower_know(l, point, node, build_let(&l->b, lower_wish(node), value_op(&l->b, OP_ADD, even, odd, NULL)));
}

static void plain_panels(Lowering *l, const LowerGroup *group, int index, Value *panel, int panels,
                         const Round *round) {
    Point point = lanes_point(l, index, panel);
    for (int i = 0; i < group->items.count; i++)
        if (group->items.at[i]->node->op == OP_BATCH_SUM)
            chain_rows(l, group->items.at[i]->node, &point);
    finish_point(l, group, &point);
    (void)panels;
    (void)round;
}

static void lower_numbers(Lowering *l, const LowerGroup *group, int index, const Round *round) {
    Point point = {.lanes = 16, .lane_axis = -1, .group = index, .memo = arena_new_of(l->b.arena, struct Memo)};
    Block *loop = open_rows(l, round, LANES, &point.row);
    finish_point(l, group, &point);
    build_end(&l->b, loop);
}

static void lower_weights(Lowering *l, const LowerGroup *group, int index, const Round *round) {
    int64_t panels = panels_of(group->dims[0]);
    bool shared = round->partition == PARTITION_PANELS && group->axis == 0;
    if (round->partition == PARTITION_PANELS && group->axis == 1)
        weights_by_columns(l, group, index, round);
    else if (shared && round->step > group->tile.panels && has_product(group) && panels % group->tile.panels == 0)
        weights_of_round(l, group, index, round);
    else
        panels_in(l, group, index, round, panels, group->tile.panels, weight_panels);
}

/* Some rows of the batch after others: those of a tile's factors stay in the first cache from one tile to the next. */
static void weights_in_parts(Lowering *l, const LowerGroup *group, int index, const Round *round) {
    Value *rows = value_context(&l->b, CONTEXT_ROWS);
    Part part = {.partial = group->partial, .columns = group->axis == 1};
    Block *outer = build_loop(&l->b, "rows_from", lower_integer(l, 0), rows, group->block, false, &part.first);
    Value *next = lower_add(l, part.first, lower_integer(l, group->block));
    part.end = lower_named(l, "rows_end", value_op(&l->b, OP_INTEGER_MINIMUM, next, rows, NULL));
    l->part = &part;
    lower_weights(l, group, index, round);
    l->part = NULL;
    build_end(&l->b, outer);
}

static void lower_vectors_of_all(Lowering *l, LowerGroup *group, int index, const Round *round) {
    int64_t panels = group->rank ? panels_of(group->dims[0]) : 1;
    bool shared = round->partition == PARTITION_PANELS && group->axis == 0;
    bool several = shared && round->step > group->tile.panels && has_product(group);
    if (group->rank == 0)
        lower_numbers(l, group, index, round);
    else if (group->items.at[0]->node->op == OP_TRANSPOSE)
        panels_in(l, group, index, round, panels, 1, transposed_panel);
    else if (group->rank == 2 && group->block)
        weights_in_parts(l, group, index, round);
    else if (group->rank == 2)
        lower_weights(l, group, index, round);
    else if (several && group->batched && panels % group->tile.panels == 0)
        batched_round(l, group, index, round);
    else
        panels_in(l, group, index, round, panels, group->tile.panels, group->batched ? batched_panels : plain_panels);
}

void lower_vectors(Lowering *l, LowerGroup *group, int index, const Round *round) {
    if (!group->row_panels) {
        lower_vectors_of_all(l, group, index, round);
        return;
    }
    Value *one = lower_integer(l, 1), *rows = value_context(&l->b, CONTEXT_ROWS);
    Block *single = build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, rows, one, NULL));
    panels_in(l, group, index, round, panels_of(group->dims[0]), group->row_panels, single_row);
    build_end(&l->b, single);
    Block *several = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, one, rows, NULL));
    lower_vectors_of_all(l, group, index, round);
    build_end(&l->b, several);
}
