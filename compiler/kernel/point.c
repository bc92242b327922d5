/* The value of a node at a point of its domain, as kernel values: loads of what is stored, and expressions over them.

   The order of every sum is fixed here once: a product's element is one chain of fma in index order from zero, the
   batch before the other letters; a sum over neighbouring elements uses 16 lanes and the fixed tree; a sum over the
   batch of a tensor is a chain in row order. */
#include "lower.h"

#include <math.h>
#include <string.h>

#define LONGEST_EXPRESSION 5 /* deeper ones get a name */

/* ---- indices
 * --------------------------------------------------------------------------------------------------------------- */

Value *lower_integer(Lowering *l, int64_t number) {
    return value_integer(&l->b, number);
}

Value *lower_add(Lowering *l, Value *a, Value *b) {
    return value_op(&l->b, OP_INTEGER_ADD, a, b, NULL);
}

Value *lower_times(Lowering *l, Value *a, int64_t factor) {
    return value_op(&l->b, OP_INTEGER_MULTIPLY, a, lower_integer(l, factor), NULL);
}

/* Row-major: ((row * d0 + at0) * d1 + at1) … */
Value *lower_linear(Lowering *l, Value *row, Value *const *at, int rank, const int64_t *dims) {
    Value *index = row ? row : lower_integer(l, 0);
    for (int i = 0; i < rank; i++)
        index = lower_add(l, lower_times(l, index, dims[i]), at[i]);
    return index;
}

Value *lower_named(Lowering *l, const char *name, Value *index) {
    return index->arg_count && !index->let ? build_let(&l->b, name, index) : index;
}

Point lower_point(Lowering *l, const Point *from) {
    Point point = *from;
    point.memo = arena_new_of(l->b.arena, struct Memo);
    return point;
}

/* ---- loads
 * --------------------------------------------------------------------------------------------------------------------
 */

static bool is_taken(const Function *function, const Buffer *buffer, Name name) {
    for (int i = 0; i < function->buffer_count; i++)
        if (function->buffers[i] != buffer && function->buffers[i]->name == name)
            return true;
    return false;
}

/* A column and a layer may have one name: what lives in this function alone gives way. */
static void make_unique(Lowering *l, Buffer *buffer) {
    for (int i = 0; i < l->target->buffer_count; i++) {
        Buffer *other = l->target->buffers[i];
        if (other == buffer || other->name != buffer->name)
            continue;
        bool local = buffer->role == BUFFER_TEMPORARY || buffer->role == BUFFER_FEED;
        Buffer *yields = local ? buffer : other;
        const char *wish =
            arena_printf(l->b.arena, yields->role == BUFFER_FEED ? "%s_given" : "%s_value", yields->name);
        Name name = name_of(wish);
        for (int again = 2; is_taken(l->target, yields, name); again++)
            name = name_of(arena_printf(l->b.arena, "%s_%d", wish, again));
        build_rename(&l->b, yields, name);
    }
}

Buffer *lower_use(Lowering *l, Buffer *buffer) {
    if (buffer->user == l->target)
        return buffer;
    make_unique(l, buffer);
    buffer->user = l->target;
    buffer_append(l->b.arena, &l->target->buffers, &l->target->buffer_count, buffer);
    return buffer;
}

/* Lanes and tiles may pass the last row: room for whole ones, whatever their size (those that tile.c cuts). */
static int64_t rows_with_tiles(int64_t capacity) {
    int64_t most = 0;
    for (int64_t tile = 1; tile <= LANES; tile++)
        most = (capacity + tile - 1) / tile * tile > most ? (capacity + tile - 1) / tile * tile : most;
    return most;
}

void lower_layout(const GraphFunction *function, Buffer *buffer, int64_t capacity) {
    int64_t count = 1;
    for (int i = 0; i < buffer->rank; i++)
        count *= buffer->dims[i];
    int64_t rows = buffer->per_row ? rows_with_tiles(capacity) : 1;
    bool double_function = function && function->is_double;
    buffer->panels = !double_function && buffer->scalar == SCALAR_F32 &&
                     (buffer->rank == 1 || (buffer->rank == 2 && !buffer->per_row));
    buffer->stride = rows;
    if (rows % (4096 / (LANES * 4)) == 0) /* panels 4096 bytes apart would share the sets of a cache */
        buffer->stride++;
    buffer->elements = count * rows;
    if (buffer->panels)
        buffer->elements =
            (buffer->dims[0] + LANES - 1) / LANES * LANES * (buffer->rank == 2 ? buffer->dims[1] : 1) * buffer->stride;
}

Value *lower_panel(Lowering *l, const Buffer *buffer, Value *panel) {
    if (buffer->role != BUFFER_SCRATCH)
        return panel;
    if (panel == l->round)
        return lower_integer(l, 0);
    bool shifted = panel->kind == VALUE_OP && panel->op == OP_INTEGER_ADD && panel->args[0] == l->round &&
                   panel->args[1]->kind == VALUE_NUMBER;
    return shifted ? panel->args[1]
                   : lower_named(l, "local", value_op(&l->b, OP_INTEGER_SUBTRACT, panel, l->round, NULL));
}

/* Panels: element i of axis 0 is lane i mod 16 of panel i / 16. */
static Value *panel_index(Lowering *l, const Buffer *buffer, const Node *node, const Point *point) {
    bool lanes = point->lanes > 1 && point->lane_axis == 0;
    Value *within = node->rank == 2 ? point->at[1] : node->batched ? point->row : NULL;
    int64_t inner = node->rank == 2 ? node->dims[1] : node->batched ? buffer->stride : 1;
    int64_t known = 0;
    bool first_panel = point->at[0]->kind == VALUE_NUMBER && (known = point->at[0]->number.integer) < LANES;
    Value *panel = lanes         ? lower_panel(l, buffer, point->panel)
                   : first_panel ? lower_integer(l, 0)
                                 : value_op(&l->b, OP_INTEGER_DIVIDE, point->at[0], lower_integer(l, LANES), NULL);
    Value *index = lower_times(l, panel, inner);
    if (within)
        index = lower_add(l, index, within);
    index = lower_times(l, index, LANES);
    if (lanes)
        return index;
    return lower_add(l, index,
                     first_panel ? lower_integer(l, known)
                                 : value_op(&l->b, OP_INTEGER_REMAINDER, point->at[0], lower_integer(l, LANES), NULL));
}

Value *lower_index(Lowering *l, const Buffer *buffer, const Node *node, const Point *point) {
    if (buffer->panels && node->rank > 0 && !(node->rank == 1 && !node->batched && point->lanes == 1))
        return panel_index(l, buffer, node, point);
    return lower_linear(l, node->batched ? point->row : NULL, point->at, node->rank, node->dims);
}

Value *lower_load(Lowering *l, Buffer *buffer, const Node *node, int64_t first, Point *point) {
    if (node->batched && !point->row)
        BUG("%s: a row of '%s' outside the batch", l->function->name, buffer->shown);
    Value *index = lower_add(l, lower_index(l, buffer, node, point), lower_integer(l, first));
    lower_use(l, buffer);
    if (point->lanes == 1)
        return value_load(&l->b, buffer, index, 1);
    bool along = point->lane_axis < 0
                     ? node->batched && node->rank == 0
                     : node->rank > 0 && (buffer->panels ? point->lane_axis == 0 : point->lane_axis == node->rank - 1);
    if (along)
        return value_load(&l->b, buffer, index, point->lanes);
    if (point->lane_axis < 0 ? node->batched : node->rank > 0)
        BUG("%s: lanes across '%s'", l->function->name, buffer->shown);
    return value_splat(&l->b, value_load(&l->b, buffer, index, 1), point->lanes);
}

static Buffer *feed_buffer(Lowering *l, const Node *node) {
    for (int i = 0; i < l->target->buffer_count; i++) {
        Buffer *buffer = l->target->buffers[i];
        if (buffer->role == BUFFER_FEED && buffer->slot == node->integer && buffer->partner == node->partner)
            return buffer;
    }
    Buffer *buffer = arena_new_of(l->b.arena, Buffer);
    const char *shown = node->label ? node->label : "input";
    buffer->name = name_identifier(shown);
    buffer->shown = name_of(shown);
    buffer->role = BUFFER_FEED;
    buffer->slot = (int)node->integer;
    buffer->partner = node->partner;
    buffer->scalar = lower_scalar(l->function, node);
    buffer->per_row = true;
    buffer->rank = node->rank;
    memcpy(buffer->dims, node->dims, sizeof buffer->dims);
    lower_layout(l->function, buffer, l->function->capacity);
    buffer->span = node->span;
    return lower_use(l, buffer);
}

Buffer *lower_tensor(Lowering *l, const Tensor *tensor) {
    if (!l->function->is_double)
        return tensor->buffer;
    const GraphCheck *check = l->function->check;
    for (int i = 0; i < check->tensors.count; i++)
        if (check->tensors.at[i] == tensor)
            return check->parameters.at[i];
    BUG("%s: '%s' has no copy in double", l->function->name, tensor->name);
}

Buffer *lower_buffer(Lowering *l, Node *node) {
    node = lower_behind(node);
    LowerItem *item = l->plan->items[node->id];
    if (item && item->buffer)
        return item->buffer;
    if (node->op == OP_INPUT)
        return feed_buffer(l, node);
    return node->op == OP_TENSOR ? lower_tensor(l, node->tensor) : NULL;
}

/* ---- types
 * -----------------------------------------------------------------------------------------------------------------------
 */

static ValueType type_of(const Lowering *l, const Node *node, int lanes) {
    Scalar scalar = node->type == TYPE_TRUTH ? SCALAR_BOOL : lower_scalar(l->function, node);
    return (ValueType){scalar, lanes};
}

Value *lower_number(Lowering *l, double number, Scalar scalar, int lanes) {
    return value_number(&l->b, (ValueType){scalar, lanes}, number);
}

Value *lower_converted(Lowering *l, Value *x, Scalar to) {
    return value_convert(&l->b, x, to);
}

/* ---- element by element
 * ---------------------------------------------------------------------------------------------------------------- */

static Value *emit_compare(Lowering *l, Node *node, Point *point) {
    Node *a = node->args[0], *b = node->args[1];
    if (node->op == OP_NOT)
        return value_op(&l->b, OP_NOT, emit_node(l, a, point), NULL, NULL);
    if (node->op == OP_AND || node->op == OP_OR)
        return value_op(&l->b, node->op, emit_node(l, a, point), emit_node(l, b, point), NULL);
    Value *x = emit_node(l, a, point), *y = emit_node(l, b, point);
    if (a->type == TYPE_INDEX && b->type == TYPE_INDEX) {
        switch (node->op) {
        case OP_EQUAL:
            return value_op(&l->b, OP_INTEGER_EQUAL, x, y, NULL);
        case OP_LESS:
            return value_op(&l->b, OP_INTEGER_LESS, x, y, NULL);
        case OP_NOT_EQUAL:
            return value_op(&l->b, OP_NOT, value_op(&l->b, OP_INTEGER_EQUAL, x, y, NULL), NULL, NULL);
        default:
            return value_op(&l->b, OP_NOT, value_op(&l->b, OP_INTEGER_LESS, y, x, NULL), NULL, NULL);
        }
    }
    Scalar to = a->type == TYPE_REAL || b->type == TYPE_REAL ? l->real : SCALAR_F64;
    return value_op(&l->b, node->op, lower_converted(l, x, to), lower_converted(l, y, to), NULL);
}

static Value *emit_element(Lowering *l, Node *node, Point *point) {
    Scalar scalar = node->type == TYPE_TRUTH ? SCALAR_BOOL : lower_scalar(l->function, node);
    if (op_table[node->op].class == CLASS_COMPARE)
        return emit_compare(l, node, point);
    if (node->op == OP_REAL)
        return lower_converted(l, emit_node(l, node->args[0], point), scalar);
    Value *args[3] = {NULL, NULL, NULL};
    for (int i = 0; i < node->arg_count; i++) {
        args[i] = emit_node(l, node->args[i], point);
        if (!(node->op == OP_WHERE && i == 0) && args[i]->type.scalar != SCALAR_BOOL)
            args[i] = lower_converted(l, args[i], scalar);
    }
    return value_op(&l->b, node->op, args[0], args[1], args[2]);
}

static Value *emit_random(Lowering *l, Node *node, Point *point) {
    Module *module = l->b.module;
    bool apart = point->lanes != 1 && node->rank == 2; /* lanes go down a column */
    if (point->lanes != 1 && (node->rank < 1 || node->rank > 2 || point->lane_axis != 0))
        BUG("%s: draws in lanes", l->function->name);
    Value *row = point->row ? lower_add(l, value_context(&l->b, CONTEXT_POSITION), point->row) : lower_integer(l, 0);
    Value *element = lower_linear(l, NULL, point->at, node->rank, node->dims);
    ValueType u32 = {SCALAR_U32, 1};
    Value *args[6] = {value_context(&l->b, CONTEXT_SEED), value_context(&l->b, CONTEXT_STEP),
                      lower_named(l, "draw_row", row), lower_named(l, "draw_element", element),
                      value_bits(&l->b, u32, (int64_t)(uint32_t)node->integer)};
    if (apart) {
        args[5] = value_bits(&l->b, u32, node->dims[1]);
        MathFunction *function =
            node->normal ? math_normal_apart(module, point->lanes) : math_uniform_apart(module, point->lanes);
        return lower_converted(l, value_call(&l->b, function, args, 6), l->real);
    }
    MathFunction *function = node->normal ? math_normal(module, point->lanes) : math_uniform(module, point->lanes);
    return lower_converted(l, value_call(&l->b, function, args, 5), l->real);
}

/* ---- moves
 * --------------------------------------------------------------------------------------------------------------------------------
 */

/* The point of a reshaped value in the value itself. */
static void reshape_point(Lowering *l, const Node *node, Point *point) {
    const Node *x = node->args[0];
    if (point->lanes != 1)
        BUG("%s: reshape in lanes", l->function->name);
    Value *index = lower_named(l, "at", lower_linear(l, NULL, point->at, node->rank, node->dims));
    for (int i = x->rank - 1; i > 0; i--) {
        Value *quotient =
            lower_named(l, "at", value_op(&l->b, OP_INTEGER_DIVIDE, index, lower_integer(l, x->dims[i]), NULL));
        point->at[i] =
            lower_named(l, "at", value_op(&l->b, OP_INTEGER_REMAINDER, index, lower_integer(l, x->dims[i]), NULL));
        index = quotient;
    }
    point->at[0] = index;
}

static Value *emit_moved(Lowering *l, Node *node, Point *point) {
    Point inner = lower_point(l, point);
    Node *x = node->args[0];
    switch (node->op) {
    case OP_EXPAND:
        if (point->lanes > 1 && point->lane_axis >= 0) {
            inner.lanes = 1;
            return value_splat(&l->b, emit_node(l, x, &inner), point->lanes);
        }
        break;
    case OP_RESHAPE:
        reshape_point(l, node, &inner);
        break;
    case OP_TRANSPOSE:
        inner.at[0] = point->at[1];
        inner.at[1] = point->at[0];
        if (point->lanes > 1)
            inner.lane_axis = 1 - point->lane_axis;
        break;
    default:
        inner.at[0] = lower_named(l, "at", lower_add(l, point->at[0], lower_integer(l, node->integer)));
        break; /* OP_SLICE */
    }
    return emit_node(l, x, &inner);
}

/* Where a table is read: an index from memory, whose row is there, or -1. */
static Value *emit_index(Lowering *l, Node *index, Point *point, Value *at) {
    Point inner = lower_point(l, point);
    inner.lanes = 1;
    inner.at[0] = at;
    return build_let(&l->b, "index", lower_converted(l, emit_node(l, index, &inner), SCALAR_I64));
}

Value *lower_row_of(Lowering *l, Value *index, int64_t rows) {
    return value_op(&l->b, OP_INTEGER_MINIMUM, index, lower_integer(l, rows - 1), NULL);
}

Block *lower_if_there(Lowering *l, Value *index) {
    return build_if(
        &l->b, value_op(&l->b, OP_NOT, value_op(&l->b, OP_INTEGER_LESS, index, lower_integer(l, 0), NULL), NULL, NULL));
}

Value *lower_index_of(Lowering *l, Node *index, Point *point, Value *at) {
    return emit_index(l, index, point, at);
}

/* The sum over the indices that are there of counts, each times the element of the table's row; table NULL: where the
   index is point->at[0], of 1. */
static Value *emit_bag(Lowering *l, Node *table, Node *indices, Node *counts, Point *point, Scalar scalar) {
    Value *t;
    const int lanes = table ? point->lanes : 1;
    Statement *sum = build_var(&l->b, "sum", lower_number(l, 0, scalar, lanes));
    Block *outer = build_loop(&l->b, "t", lower_integer(l, 0), lower_integer(l, indices->dims[0]), 1, false, &t);
    Value *index = emit_index(l, indices, point, t);
    Block *there = table ? lower_if_there(l, index)
                         : build_if(&l->b, value_op(&l->b, OP_INTEGER_EQUAL, index, point->at[0], NULL));
    Point inner = lower_point(l, point);
    inner.at[0] = t;
    inner.lanes = 1;
    Value *count = lower_converted(l, emit_node(l, counts, &inner), scalar);
    Value *element = lower_number(l, 1, scalar, 1);
    if (table) {
        Point row = lower_point(l, point);
        row.at[0] = lower_named(l, "row", lower_row_of(l, index, table->dims[0]));
        row.at[1] = point->at[0];
        row.lane_axis = 1;
        if (lanes > 1)
            count = value_splat(&l->b, build_let(&l->b, "count", count), lanes);
        element = lower_converted(l, emit_node(l, table, &row), scalar);
    }
    build_set(&l->b, sum, value_op(&l->b, OP_FMA, count, element, value_read(&l->b, sum)));
    build_end(&l->b, there);
    build_end(&l->b, outer);
    return value_read(&l->b, sum);
}

static Value *emit_one_hot(Lowering *l, Node *node, Point *point) {
    if (node->arg_count > 1)
        return emit_bag(l, NULL, node->args[0], node->args[1], point, l->real);
    Point inner = lower_point(l, point);
    inner.lanes = 1;
    Value *hot = emit_node(l, node->args[0], &inner), *here = lower_converted(l, point->at[0], SCALAR_I32);
    if (point->lanes > 1) {
        hot = value_splat(&l->b, hot, point->lanes);
        here = value_op(&l->b, OP_INTEGER_ADD, value_splat(&l->b, here, point->lanes), value_lanes(&l->b, point->lanes),
                        NULL);
    }
    Value *same = value_op(&l->b, OP_INTEGER_EQUAL, here, hot, NULL);
    return value_op(&l->b, OP_WHERE, same, lower_number(l, 1, l->real, point->lanes),
                    lower_number(l, 0, l->real, point->lanes));
}

static Value *emit_iota(Lowering *l, Point *point) {
    Value *here = lower_converted(l, point->at[0], SCALAR_I32);
    if (point->lanes == 1)
        return here;
    return value_op(&l->b, OP_INTEGER_ADD, value_splat(&l->b, here, point->lanes), value_lanes(&l->b, point->lanes),
                    NULL);
}

/* ---- sums and products
 * ------------------------------------------------------------------------------------------------------------------------
 */

Block *lower_rows(Lowering *l, Value **row) {
    return build_loop(&l->b, "b", lower_integer(l, 0), value_context(&l->b, CONTEXT_ROWS), 1, false, row);
}

static Value *emit_contract(Lowering *l, Node *node, Point *point) {
    const ContractSpec *spec = &node->contract;
    Node *side[2] = {node->args[0], node->args[1]};
    Scalar scalar = lower_scalar(l->function, node);
    Statement *sum = build_var(&l->b, "sum", lower_number(l, 0, scalar, 1));
    Value *letter[16] = {NULL}, *row = point->row;
    int64_t extent[16] = {0};
    Block *outer[8];
    int depth = 0;
    for (int i = 0; i < node->rank; i++)
        letter[spec->out[i]] = point->at[i];
    if (spec->over_batch)
        outer[depth++] = lower_rows(l, &row);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < side[s]->rank; i++)
            extent[(s ? spec->right : spec->left)[i]] = side[s]->dims[i];
    for (int i = 0; i < 16; i++)
        if (extent[i] == 1 && !letter[i])
            letter[i] = lower_integer(l, 0);
        else if (extent[i] && !letter[i])
            outer[depth++] =
                build_loop(&l->b, "k", lower_integer(l, 0), lower_integer(l, extent[i]), 1, false, &letter[i]);
    Value *factor[2];
    for (int s = 0; s < 2; s++) {
        Point inner = lower_point(l, point);
        inner.row = row;
        for (int i = 0; i < side[s]->rank; i++)
            inner.at[i] = letter[(s ? spec->right : spec->left)[i]];
        factor[s] = lower_converted(l, emit_node(l, side[s], &inner), scalar);
    }
    build_set(&l->b, sum, value_op(&l->b, OP_FMA, factor[0], factor[1], value_read(&l->b, sum)));
    while (depth)
        build_end(&l->b, outer[--depth]);
    return value_read(&l->b, sum);
}

/* The point of element `at` along an axis of x, around a point of the reduced value. The other axes are the reduced
   value's, where it has any; else they wait for loops. */
static Point along_axis(Lowering *l, const Node *x, int axis, const Point *point, Value *at) {
    Point inner = lower_point(l, point);
    for (int i = 0, j = 0; i < 4; i++)
        inner.at[i] = i == axis ? at : i < x->rank ? point->at[j++] : NULL;
    return inner;
}

/* Lanes whose place, base + lane, is below the end; else `otherwise`. */
static Value *masked(Lowering *l, Value *x, Value *base, Value *end, double otherwise) {
    Value *place = value_op(&l->b, OP_INTEGER_ADD, value_splat(&l->b, lower_converted(l, base, SCALAR_I32), LANES),
                            value_lanes(&l->b, LANES), NULL);
    Value *inside =
        value_op(&l->b, OP_INTEGER_LESS, place, value_splat(&l->b, lower_converted(l, end, SCALAR_I32), LANES), NULL);
    return value_op(&l->b, OP_WHERE, inside, x, lower_number(l, otherwise, x->type.scalar, LANES));
}

/* 16 lanes over count neighbouring elements; `base` is the index that is moved along. */
static void sum_in_lanes(Lowering *l, Statement *lanes, Node *x, Point *inner, Value *base, Value *end, bool mask) {
    inner->lanes = LANES;
    Value *piece = lower_converted(l, emit_node(l, x, inner), lanes->type.scalar);
    if (mask)
        piece = masked(l, piece, base, end, 0);
    build_set(&l->b, lanes, value_op(&l->b, OP_ADD, value_read(&l->b, lanes), piece, NULL));
}

/* Opens loops over all axes of x but the last; returns how many. */
static int open_leading(Lowering *l, const Node *x, Point *inner, Block **outer) {
    for (int i = 0; i + 1 < x->rank; i++)
        outer[i] = build_loop(&l->b, "k", lower_integer(l, 0), lower_integer(l, x->dims[i]), 1, false, &inner->at[i]);
    return x->rank - 1;
}

/* A chain in index order along an axis whose elements are far apart. */
static Value *sum_in_order(Lowering *l, Node *x, int axis, Scalar scalar, Point *point) {
    Value *at;
    Statement *sum = build_var(&l->b, "sum", lower_number(l, 0, scalar, 1));
    Block *outer = build_loop(&l->b, "k", lower_integer(l, 0), lower_integer(l, x->dims[axis]), 1, false, &at);
    Point inner = along_axis(l, x, axis, point, at);
    Value *piece = lower_converted(l, emit_node(l, x, &inner), scalar);
    build_set(&l->b, sum, value_op(&l->b, OP_ADD, value_read(&l->b, sum), piece, NULL));
    build_end(&l->b, outer);
    return value_read(&l->b, sum);
}

/* One 16-lane piece: elements of the lane axis from panel p on. */
static void sum_panel(Lowering *l, Statement *lanes, Node *x, const Point *around, Value *panel, int64_t count,
                      int64_t whole, bool mask) {
    Point inner = lower_point(l, around);
    int axis = around->lane_axis;
    inner.panel = panel;
    inner.at[axis] = mask ? lower_integer(l, whole) : lower_named(l, "at", lower_times(l, panel, LANES));
    sum_in_lanes(l, lanes, x, &inner, inner.at[axis], lower_integer(l, count), mask);
}

/* sum(where(iota(n) == i, x, 0)) is x[i], and 0 where there is no such i. */
static Value *emit_picked(Lowering *l, Node *node, Point *point) {
    Node *where = node->args[0], *equal = where->op == OP_WHERE ? where->args[0] : NULL;
    bool fits = equal && equal->op == OP_EQUAL && where->rank == 1 && node_is_constant(where->args[2], 0) &&
                !l->plan->items[where->id] && where->args[1]->rank == 1;
    if (!fits)
        return NULL;
    Node *a = equal->args[0], *b = equal->args[1], *which = a->op == OP_IOTA ? b : b->op == OP_IOTA ? a : NULL;
    if (!which || which->type != TYPE_INDEX || which->rank)
        return NULL;
    Point here = lower_point(l, point), there = lower_point(l, point);
    Value *index = lower_named(l, "index", lower_converted(l, emit_node(l, which, &here), SCALAR_I64));
    Value *none = build_let(&l->b, "none", value_op(&l->b, OP_INTEGER_LESS, index, lower_integer(l, 0), NULL));
    Value *inside = value_op(&l->b, OP_INTEGER_MINIMUM, index, lower_integer(l, where->dims[0] - 1), NULL);
    there.at[0] = build_let(&l->b, "index", value_op(&l->b, OP_WHERE, none, lower_integer(l, 0), inside));
    Value *element = lower_converted(l, emit_node(l, where->args[1], &there), lower_scalar(l->function, node));
    return value_op(&l->b, OP_WHERE, none, lower_number(l, 0, element->type.scalar, 1), element);
}

/* Over the last axis, or all of them: along the lane axis (the first where the value is in panels, else the last)
   element k goes to lane k mod 16, the other axes in order. */
static Value *emit_sum(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    int axis = (int)node->integer, last = x->rank - 1;
    Scalar scalar = lower_scalar(l->function, node);
    Value *picked = point->lanes == 1 ? emit_picked(l, node, point) : NULL;
    if (picked)
        return picked;
    bool panels = scalar == SCALAR_F32 && x->rank == 2 && !x->batched && axis == AXIS_ALL;
    if (axis != AXIS_ALL && (axis != last || (scalar == SCALAR_F32 && x->rank > 1)))
        return sum_in_order(l, x, axis, scalar, point);
    int lane_axis = panels ? 0 : last;
    Statement *lanes = build_var(&l->b, "lanes", lower_number(l, 0, scalar, LANES));
    Point around = along_axis(l, x, lane_axis, point, NULL);
    Block *outer[4];
    int depth = 0;
    around.lane_axis = lane_axis;
    int64_t count = x->dims[lane_axis], whole = count / LANES * LANES;
    for (int i = 0; axis == AXIS_ALL && i < x->rank; i++)
        if (i != lane_axis) {
            outer[depth] =
                build_loop(&l->b, "k", lower_integer(l, 0), lower_integer(l, x->dims[i]), 1, false, &around.at[i]);
            depth++;
        }
    if (whole) {
        Value *panel;
        Block *loop = build_loop(&l->b, "p", lower_integer(l, 0), lower_integer(l, whole / LANES), 1, false, &panel);
        sum_panel(l, lanes, x, &around, panel, count, whole, false);
        build_end(&l->b, loop);
    }
    if (whole < count)
        sum_panel(l, lanes, x, &around, lower_integer(l, whole / LANES), count, whole, true);
    while (depth)
        build_end(&l->b, outer[--depth]);
    return value_tree(&l->b, OP_ADD, value_read(&l->b, lanes));
}

static Value *emit_batch_sum(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    Scalar scalar = lower_scalar(l->function, node);
    Value *row;
    if (node->rank) { /* a chain in row order */
        Statement *sum = build_var(&l->b, "sum", lower_number(l, 0, scalar, 1));
        Block *outer = lower_rows(l, &row);
        Point inner = lower_point(l, point);
        inner.row = row;
        build_set(
            &l->b, sum,
            value_op(&l->b, OP_ADD, value_read(&l->b, sum), lower_converted(l, emit_node(l, x, &inner), scalar), NULL));
        build_end(&l->b, outer);
        return value_read(&l->b, sum);
    }
    Statement *lanes = build_var(&l->b, "lanes", lower_number(l, 0, scalar, LANES));
    Block *outer = build_loop(&l->b, "b", lower_integer(l, 0), value_context(&l->b, CONTEXT_ROWS), LANES, false, &row);
    Point inner = lower_point(l, point);
    inner.row = row;
    inner.lane_axis = -1;
    sum_in_lanes(l, lanes, x, &inner, row, value_context(&l->b, CONTEXT_ROWS), true);
    build_end(&l->b, outer);
    return value_tree(&l->b, OP_ADD, value_read(&l->b, lanes));
}

/* One 16-lane piece of a vector that lies in panels; lanes beyond its end are -infinity. */
static Value *greatest_piece(Lowering *l, Node *x, const Point *around, Value *panel, bool whole, Value **first) {
    Point inner = lower_point(l, around);
    inner.lanes = LANES;
    inner.lane_axis = 0;
    inner.panel = panel;
    inner.at[0] = *first = lower_named(l, "at", lower_times(l, panel, LANES));
    Value *piece = lower_converted(l, emit_node(l, x, &inner), SCALAR_F32);
    return whole ? piece : masked(l, piece, inner.at[0], lower_integer(l, x->dims[0]), -INFINITY);
}

static Value *place_of(Lowering *l, Value *first) {
    Value *base = value_splat(&l->b, lower_converted(l, first, SCALAR_I32), LANES);
    Value *place = value_op(&l->b, OP_INTEGER_ADD, base, value_lanes(&l->b, LANES), NULL);
    return lower_converted(l, place, SCALAR_F32);
}

/* Panel by panel: lanes take what is greater (or, of argmax's second pass, the place of the greatest). */
static void greatest_panels(Lowering *l, Node *x, const Point *point, Statement *lanes, Value *greatest) {
    int64_t whole = x->dims[0] / LANES;
    for (int part = 0; part < 2; part++) {
        Value *panel = lower_integer(l, whole), *first;
        Block *loop = NULL;
        if (part == 0 ? whole == 0 : x->dims[0] % LANES == 0)
            continue;
        if (part == 0 && whole == 1)
            panel = lower_integer(l, 0);
        else if (part == 0)
            loop = build_loop(&l->b, "p", lower_integer(l, 0), lower_integer(l, whole), 1, false, &panel);
        Value *piece = greatest_piece(l, x, point, panel, part == 0, &first);
        if (!greatest) {
            build_set(&l->b, lanes, value_op(&l->b, OP_MAXIMUM, piece, value_read(&l->b, lanes), NULL));
        } else {
            piece = build_let(&l->b, "element", piece);
            Value *equal = value_op(&l->b, OP_EQUAL, piece, greatest, NULL);
            Value *nan = value_op(&l->b, OP_NOT_EQUAL, piece, piece, NULL);
            Value *found = value_op(&l->b, OP_WHERE, value_op(&l->b, OP_OR, equal, nan, NULL), place_of(l, first),
                                    lower_number(l, INFINITY, SCALAR_F32, LANES));
            build_set(&l->b, lanes, value_op(&l->b, OP_MINIMUM, found, value_read(&l->b, lanes), NULL));
        }
        if (loop)
            build_end(&l->b, loop);
    }
}

/* Of a vector in panels: 16 lanes, joined by the fixed tree. The place of the greatest is the first that equals it; a NaN
   is the greatest, as PyTorch has it. */
static Value *greatest_in_lanes(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    Statement *lanes = build_var(&l->b, "lanes", lower_number(l, -INFINITY, SCALAR_F32, LANES));
    greatest_panels(l, x, point, lanes, NULL);
    Value *greatest = value_tree(&l->b, OP_MAXIMUM, value_read(&l->b, lanes));
    if (node->op == OP_MAX_OF)
        return greatest;
    greatest = build_let(&l->b, "greatest", value_splat(&l->b, greatest, LANES));
    Statement *places = build_var(&l->b, "places", lower_number(l, INFINITY, SCALAR_F32, LANES));
    greatest_panels(l, x, point, places, greatest);
    return lower_converted(l, value_tree(&l->b, OP_MINIMUM, value_read(&l->b, places)), SCALAR_I32);
}

static bool lies_in_panels(Lowering *l, Node *x) {
    Buffer *buffer = lower_buffer(l, x);
    return buffer && buffer->panels && x->rank == 1;
}

/* max_of and argmax go through the elements in order. */
static Value *emit_greatest(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    if (point->lanes == 1 && x->dims[0] >= 8 && x->dims[0] < 1 << 24 && lies_in_panels(l, x)) /* fewer: no faster */
        return greatest_in_lanes(l, node, point);
    int axis = node->op == OP_ARGMAX ? AXIS_ALL : (int)node->integer, last = axis == AXIS_ALL ? x->rank - 1 : axis;
    Scalar scalar = lower_scalar(l->function, x);
    Point first = along_axis(l, x, last, point, lower_integer(l, 0));
    for (int i = 0; axis == AXIS_ALL && i < last; i++)
        first.at[i] = lower_integer(l, 0);
    Statement *greatest = build_var(&l->b, "greatest", lower_converted(l, emit_node(l, x, &first), scalar)),
              *place = NULL;
    if (node->op == OP_ARGMAX)
        place = build_var(&l->b, "place", value_number(&l->b, (ValueType){SCALAR_I32, 1}, 0));
    Point inner = along_axis(l, x, last, point, NULL);
    Block *outer[4];
    int depth = axis == AXIS_ALL ? open_leading(l, x, &inner, outer) : 0;
    Block *loop = build_loop(&l->b, "k", lower_integer(l, depth ? 0 : 1), lower_integer(l, x->dims[last]), 1, false,
                             &inner.at[last]);
    Value *element = build_let(&l->b, "element", lower_converted(l, emit_node(l, x, &inner), scalar));
    if (node->op == OP_MAX_OF) {
        build_set(&l->b, greatest, value_op(&l->b, OP_MAXIMUM, element, value_read(&l->b, greatest), NULL));
    } else { /* a NaN is the greatest, as PyTorch has it */
        Value *more = value_op(&l->b, OP_LESS, value_read(&l->b, greatest), element, NULL);
        Value *nan = value_op(&l->b, OP_NOT_EQUAL, element, element, NULL);
        Value *sound = value_op(&l->b, OP_EQUAL, value_read(&l->b, greatest), value_read(&l->b, greatest), NULL);
        Block *found = build_if(&l->b, value_op(&l->b, OP_OR, more, value_op(&l->b, OP_AND, nan, sound, NULL), NULL));
        build_set(&l->b, greatest, element);
        build_set(&l->b, place, lower_converted(l, inner.at[last], SCALAR_I32));
        build_end(&l->b, found);
    }
    build_end(&l->b, loop);
    while (depth)
        build_end(&l->b, outer[--depth]);
    return value_read(&l->b, node->op == OP_ARGMAX ? place : greatest);
}

static Value *emit_lookup(Lowering *l, Node *node, Point *point) {
    Node *table = node->args[0];
    if (node->arg_count > 2)
        return emit_bag(l, table, node->args[1], node->args[2], point, l->real);
    Point index_point = lower_point(l, point), inner = lower_point(l, point);
    Value *index = lower_named(l, "index", lower_converted(l, emit_node(l, node->args[1], &index_point), SCALAR_I64));
    Value *none = build_let(&l->b, "none", value_op(&l->b, OP_INTEGER_LESS, index, lower_integer(l, 0), NULL));
    Value *within = value_op(&l->b, OP_INTEGER_MINIMUM, index, lower_integer(l, table->dims[0] - 1), NULL);
    inner.at[0] = build_let(&l->b, "index", value_op(&l->b, OP_WHERE, none, lower_integer(l, 0), within));
    inner.at[1] = point->at[0];
    Value *element = emit_node(l, table, &inner);
    return value_op(&l->b, OP_WHERE, none, lower_number(l, 0, element->type.scalar, 1), element);
}

/* x at the whole number below the place, 0 beyond its ends (and where the place is no number). */
static Value *emit_gather(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    Scalar scalar = l->real;
    Point inner = lower_point(l, point);
    Value *place = lower_converted(l, emit_node(l, node->args[1], &inner), scalar);
    Value *zero = lower_number(l, 0, scalar, 1), *end = lower_number(l, (double)x->dims[0], scalar, 1);
    Value *at = build_let(&l->b, "place", value_op(&l->b, OP_FLOOR, place, NULL, NULL));
    Value *inside = build_let(&l->b, "inside",
                              value_op(&l->b, OP_AND, value_op(&l->b, OP_LESS_EQUAL, zero, at, NULL),
                                       value_op(&l->b, OP_LESS, at, end, NULL), NULL));
    Value *index =
        build_let(&l->b, "index", value_convert(&l->b, value_op(&l->b, OP_WHERE, inside, at, zero), SCALAR_I64));
    Value *below = value_op(&l->b, OP_INTEGER_LESS, index, lower_integer(l, 0), NULL);
    Value *there = build_let(&l->b, "there", value_op(&l->b, OP_WHERE, below, lower_integer(l, 0), index));
    Point read = lower_point(l, point);
    read.at[0] = lower_named(l, "at", lower_row_of(l, there, x->dims[0]));
    Value *element = lower_converted(l, emit_node(l, x, &read), scalar);
    return value_op(&l->b, OP_WHERE, inside, element, zero);
}

/* ---- any node at a point
 * ----------------------------------------------------------------------------------------------------------------------
 */

static Value *emit_here(Lowering *l, Node *node, Point *point) {
    switch (node->op) {
    case OP_CONSTANT:
        return value_number(&l->b, type_of(l, node, point->lanes), node->number);
    case OP_INPUT:
        return lower_load(l, feed_buffer(l, node), node, 0, point);
    case OP_TENSOR:
        return lower_load(l, lower_tensor(l, node->tensor), node, 0, point);
    case OP_SCALAR:
        return lower_load(l, l->program->scalars, node, node->integer, point);
    case OP_TOTAL:
        return lower_load(l, node->buffer, node, node->integer, point);
    case OP_RANDOM:
        return emit_random(l, node, point);
    case OP_IOTA:
        return emit_iota(l, point);
    case OP_EXPAND:
    case OP_RESHAPE:
    case OP_TRANSPOSE:
    case OP_SLICE:
        return emit_moved(l, node, point);
    case OP_ONE_HOT:
        return emit_one_hot(l, node, point);
    case OP_CUSTOM:
    case OP_DETACH:
        return emit_node(l, node->args[0], point);
    case OP_CONTRACT:
        return emit_contract(l, node, point);
    case OP_SUM:
        return emit_sum(l, node, point);
    case OP_BATCH_SUM:
        return emit_batch_sum(l, node, point);
    case OP_MAX_OF:
    case OP_ARGMAX:
        return emit_greatest(l, node, point);
    case OP_LOOKUP:
        return emit_lookup(l, node, point);
    case OP_GATHER:
        return emit_gather(l, node, point);
    case OP_SCATTER:
        BUG("%s: a scatter inside an expression", l->function->name);
    case OP_CONCAT:
        BUG("%s: a concat inside an expression", l->function->name);
    default:
        return emit_element(l, node, point);
    }
}

static int height(const Value *value) {
    if (value->let || value->arg_count == 0)
        return 0;
    int most = 0;
    for (int i = 0; i < value->arg_count; i++) {
        int inside = height(value->args[i]);
        most = inside > most ? inside : most;
    }
    return most + 1;
}

const char *lower_wish(const Node *node) {
    return node->label ? node->label : op_table[node->op].name;
}

/* A lane-less value where lanes are wanted, once for all of them. */
static Value *spread_number(Lowering *l, Node *node, Point *point) {
    Point scalar = lower_point(l, point);
    scalar.lanes = 1;
    return value_splat(&l->b, emit_node(l, node, &scalar), point->lanes);
}

void lower_know(Lowering *l, Point *point, Node *node, Value *value) {
    *LIST_ADD(l->b.arena, &point->memo->known) = (struct Known){node, value};
}

Value *emit_node(Lowering *l, Node *node, Point *point) {
    for (int i = 0; i < point->memo->known.count; i++)
        if (point->memo->known.at[i].node == node)
            return point->memo->known.at[i].value;
    LowerItem *item = l->plan->items[node->id];
    if (item && item->buffer && item->group != point->group)
        return lower_load(l, item->buffer, node, 0, point);
    bool numbers =
        point->lanes > 1 && node->rank == 0 && node->op != OP_CONSTANT && (point->lane_axis >= 0 || !node->batched);
    if (numbers && !item)
        return spread_number(l, node, point);
    Value *value = emit_here(l, node, point);
    bool keep =
        value->arg_count > 0 && !value->let && (l->plan->uses[node->id] > 1 || height(value) > LONGEST_EXPRESSION);
    if (keep)
        value = build_let(&l->b, lower_wish(node), value);
    if (value->let || value->arg_count == 0)
        lower_know(l, point, node, value);
    return value;
}
