/* Before: functions of the graph. After: one kernel function each, buffers without offsets. Requires group.c's plan.

   Each group becomes a kernel: loops over its domain, at each point its items in order, then the stores. The order of every sum is fixed
   here once: a product's element is one chain of fma in index order from zero, the batch before the other letters; a sum over
   neighbouring elements uses 16 lanes and the fixed tree; a sum over the batch of a tensor is a chain in row order. */
#include "lower.h"

#include "../graph/print.h"

#include <math.h>
#include <string.h>

#define LANES 16
#define LONGEST_EXPRESSION 5 /* deeper ones get a name */

typedef struct Lowering {
    GraphProgram *program;
    GraphFunction *function;
    LowerPlan *plan;
    Function *target;
    Builder b;
    Scalar real;
    double worth_a_loop;
} Lowering;

/* Where a value is wanted: the row, and an index for each axis of the domain. Values of I64, named or variables. */
typedef struct Point {
    Value *row; /* NULL: not in a batch */
    Value *at[4];
    int lanes;     /* 16: neighbouring elements along the lane axis, beginning at its index */
    int lane_axis; /* -1: the batch */
    int group;
    struct Memo {
        LIST(struct Known {
            Node *node;
            Value *value;
        })
        known;
    } *memo; /* what has a name at this point */
} Point;

static Value *emit(Lowering *l, Node *node, Point *point);

/* ---- indices --------------------------------------------------------------------------------------------------------------- */

static Value *integer(Lowering *l, int64_t number) {
    return value_integer(&l->b, number);
}

static Value *add(Lowering *l, Value *a, Value *b) {
    return value_op(&l->b, OP_INTEGER_ADD, a, b, NULL);
}

static Value *times(Lowering *l, Value *a, int64_t factor) {
    return value_op(&l->b, OP_INTEGER_MULTIPLY, a, integer(l, factor), NULL);
}

/* Row-major: ((row * d0 + at0) * d1 + at1) … */
static Value *linear(Lowering *l, Value *row, Value *const *at, int rank, const int64_t *dims) {
    Value *index = row ? row : integer(l, 0);
    for (int i = 0; i < rank; i++)
        index = add(l, times(l, index, dims[i]), at[i]);
    return index;
}

static Value *named_index(Lowering *l, const char *name, Value *index) {
    return index->arg_count && !index->let ? build_let(&l->b, name, index) : index;
}

static Point inner_point(Lowering *l, const Point *from) {
    Point point = *from;
    point.memo = arena_new_of(l->b.arena, struct Memo);
    return point;
}

/* ---- loads -------------------------------------------------------------------------------------------------------------------- */

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
        const char *wish = arena_printf(l->b.arena, yields->role == BUFFER_FEED ? "%s_given" : "%s_value", yields->name);
        Name name = name_of(wish);
        for (int again = 2; is_taken(l->target, yields, name); again++)
            name = name_of(arena_printf(l->b.arena, "%s_%d", wish, again));
        yields->name = name;
    }
}

static Buffer *use_buffer(Lowering *l, Buffer *buffer) {
    for (int i = 0; i < l->target->buffer_count; i++)
        if (l->target->buffers[i] == buffer)
            return buffer;
    make_unique(l, buffer);
    Buffer **more = arena_array(l->b.arena, Buffer *, l->target->buffer_count + 1);
    if (l->target->buffer_count)
        memcpy(more, l->target->buffers, sizeof(Buffer *) * (size_t)l->target->buffer_count);
    more[l->target->buffer_count++] = buffer;
    l->target->buffers = more;
    return buffer;
}

/* An element (or 16) of a stored value of the node's shape. */
static Value *load_element(Lowering *l, Buffer *buffer, const Node *node, int64_t first, Point *point) {
    Value *row = node->batched ? point->row : NULL;
    if (node->batched && !row)
        BUG("%s: a row of '%s' outside the batch", l->function->name, buffer->shown);
    Value *index = add(l, linear(l, row, point->at, node->rank, node->dims), integer(l, first));
    use_buffer(l, buffer);
    if (point->lanes == 1)
        return value_load(&l->b, buffer, index, 1);
    bool along = point->lane_axis < 0 ? node->batched && node->rank == 0 : node->rank > 0 && point->lane_axis == node->rank - 1;
    if (along)
        return value_load(&l->b, buffer, index, point->lanes);
    if (point->lane_axis < 0 ? node->batched : node->rank > 0)
        BUG("%s: lanes across '%s'", l->function->name, buffer->shown);
    return value_splat(&l->b, value_load(&l->b, buffer, index, 1), point->lanes);
}

static Buffer *feed_buffer(Lowering *l, const Node *node) {
    for (int i = 0; i < l->target->buffer_count; i++) {
        Buffer *buffer = l->target->buffers[i];
        if (buffer->role == BUFFER_FEED && buffer->slot == node->integer)
            return buffer;
    }
    Buffer *buffer = arena_new_of(l->b.arena, Buffer);
    const char *shown = node->label ? node->label : "input";
    Text safe = {0};
    for (const char *c = shown; *c; c++)
        text_printf(&safe, "%c", (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ? *c : '_');
    buffer->name = name_of(safe.at);
    text_free(&safe);
    buffer->shown = name_of(shown);
    buffer->role = BUFFER_FEED;
    buffer->slot = (int)node->integer;
    buffer->scalar = lower_scalar(l->function, node);
    buffer->per_row = true;
    buffer->rank = node->rank;
    memcpy(buffer->dims, node->dims, sizeof buffer->dims);
    buffer->elements = node_elements(node) * l->function->capacity;
    buffer->span = node->span;
    return use_buffer(l, buffer);
}

static Buffer *tensor_buffer(Lowering *l, const Tensor *tensor) {
    if (!l->function->is_double)
        return tensor->buffer;
    const GraphTrain *train = l->function->check;
    for (int i = 0; i < train->checked.count; i++)
        if (train->checked.at[i] == tensor)
            return train->check_parameters.at[i];
    BUG("%s: '%s' has no copy in double", l->function->name, tensor->name);
}

/* ---- types ----------------------------------------------------------------------------------------------------------------------- */

static ValueType type_of(const Lowering *l, const Node *node, int lanes) {
    Scalar scalar = node->type == TYPE_TRUTH ? SCALAR_BOOL : lower_scalar(l->function, node);
    return (ValueType){scalar, lanes};
}

static Value *real_number(Lowering *l, double number, Scalar scalar, int lanes) {
    return value_number(&l->b, (ValueType){scalar, lanes}, number);
}

static Value *converted(Lowering *l, Value *x, Scalar to) {
    return value_convert(&l->b, x, to);
}

/* ---- element by element ---------------------------------------------------------------------------------------------------------------- */

static Value *emit_compare(Lowering *l, Node *node, Point *point) {
    Node *a = node->args[0], *b = node->args[1];
    if (node->op == OP_NOT)
        return value_op(&l->b, OP_NOT, emit(l, a, point), NULL, NULL);
    if (node->op == OP_AND || node->op == OP_OR)
        return value_op(&l->b, node->op, emit(l, a, point), emit(l, b, point), NULL);
    Value *x = emit(l, a, point), *y = emit(l, b, point);
    if (a->type == TYPE_INDEX && b->type == TYPE_INDEX) {
        switch (node->op) {
        case OP_EQUAL: return value_op(&l->b, OP_INTEGER_EQUAL, x, y, NULL);
        case OP_LESS: return value_op(&l->b, OP_INTEGER_LESS, x, y, NULL);
        case OP_NOT_EQUAL: return value_op(&l->b, OP_NOT, value_op(&l->b, OP_INTEGER_EQUAL, x, y, NULL), NULL, NULL);
        default: return value_op(&l->b, OP_NOT, value_op(&l->b, OP_INTEGER_LESS, y, x, NULL), NULL, NULL);
        }
    }
    Scalar to = a->type == TYPE_REAL || b->type == TYPE_REAL ? l->real : SCALAR_F64;
    return value_op(&l->b, node->op, converted(l, x, to), converted(l, y, to), NULL);
}

static Value *emit_element(Lowering *l, Node *node, Point *point) {
    Scalar scalar = node->type == TYPE_TRUTH ? SCALAR_BOOL : lower_scalar(l->function, node);
    if (op_table[node->op].class == CLASS_COMPARE)
        return emit_compare(l, node, point);
    if (node->op == OP_REAL)
        return converted(l, emit(l, node->args[0], point), scalar);
    Value *args[3] = {NULL, NULL, NULL};
    for (int i = 0; i < node->arg_count; i++) {
        args[i] = emit(l, node->args[i], point);
        if (!(node->op == OP_WHERE && i == 0) && args[i]->type.scalar != SCALAR_BOOL)
            args[i] = converted(l, args[i], scalar);
    }
    return value_op(&l->b, node->op, args[0], args[1], args[2]);
}

static Value *emit_random(Lowering *l, Node *node, Point *point) {
    if (point->lanes != 1)
        BUG("%s: draws in lanes", l->function->name);
    Value *row = point->row ? add(l, value_context(&l->b, CONTEXT_POSITION), point->row) : integer(l, 0);
    Value *element = linear(l, NULL, point->at, node->rank, node->dims);
    Value *args[5] = {value_context(&l->b, CONTEXT_SEED), value_context(&l->b, CONTEXT_STEP), named_index(l, "draw_row", row),
                      named_index(l, "draw_element", element),
                      value_bits(&l->b, (ValueType){SCALAR_U32, 1}, (int64_t)(uint32_t)node->integer)};
    MathFunction *function = node->normal ? math_normal(l->b.module, 1) : math_uniform(l->b.module, 1);
    return converted(l, value_call(&l->b, function, args, 5), l->real);
}

/* ---- moves -------------------------------------------------------------------------------------------------------------------------------- */

/* The point of a reshaped value in the value itself. */
static void reshape_point(Lowering *l, const Node *node, Point *point) {
    const Node *x = node->args[0];
    if (point->lanes != 1)
        BUG("%s: reshape in lanes", l->function->name);
    Value *index = named_index(l, "at", linear(l, NULL, point->at, node->rank, node->dims));
    for (int i = x->rank - 1; i > 0; i--) {
        Value *quotient = named_index(l, "at", value_op(&l->b, OP_INTEGER_DIVIDE, index, integer(l, x->dims[i]), NULL));
        point->at[i] = named_index(l, "at", value_op(&l->b, OP_INTEGER_REMAINDER, index, integer(l, x->dims[i]), NULL));
        index = quotient;
    }
    point->at[0] = index;
}

static Value *emit_moved(Lowering *l, Node *node, Point *point) {
    Point inner = inner_point(l, point);
    Node *x = node->args[0];
    switch (node->op) {
    case OP_EXPAND:
        if (point->lanes > 1 && point->lane_axis >= 0) {
            inner.lanes = 1;
            return value_splat(&l->b, emit(l, x, &inner), point->lanes);
        }
        break;
    case OP_RESHAPE: reshape_point(l, node, &inner); break;
    case OP_TRANSPOSE:
        inner.at[0] = point->at[1];
        inner.at[1] = point->at[0];
        break;
    default: inner.at[0] = named_index(l, "at", add(l, point->at[0], integer(l, node->integer))); break; /* OP_SLICE */
    }
    return emit(l, x, &inner);
}

static Value *emit_one_hot(Lowering *l, Node *node, Point *point) {
    Point inner = inner_point(l, point);
    inner.lanes = 1;
    Value *hot = emit(l, node->args[0], &inner), *here = converted(l, point->at[0], SCALAR_I32);
    if (point->lanes > 1) {
        hot = value_splat(&l->b, hot, point->lanes);
        here = value_op(&l->b, OP_INTEGER_ADD, value_splat(&l->b, here, point->lanes), value_lanes(&l->b, point->lanes), NULL);
    }
    Value *same = value_op(&l->b, OP_INTEGER_EQUAL, here, hot, NULL);
    return value_op(&l->b, OP_WHERE, same, real_number(l, 1, l->real, point->lanes), real_number(l, 0, l->real, point->lanes));
}

static Value *emit_iota(Lowering *l, Point *point) {
    Value *here = converted(l, point->at[0], SCALAR_I32);
    if (point->lanes == 1)
        return here;
    return value_op(&l->b, OP_INTEGER_ADD, value_splat(&l->b, here, point->lanes), value_lanes(&l->b, point->lanes), NULL);
}

/* ---- sums and products ------------------------------------------------------------------------------------------------------------------------ */

static Block *open_rows(Lowering *l, Value **row) {
    return build_loop(&l->b, "b", integer(l, 0), value_context(&l->b, CONTEXT_ROWS), 1, false, row);
}

static Value *emit_contract(Lowering *l, Node *node, Point *point) {
    const ContractSpec *spec = &node->contract;
    Node *side[2] = {node->args[0], node->args[1]};
    Scalar scalar = lower_scalar(l->function, node);
    Statement *sum = build_var(&l->b, "sum", real_number(l, 0, scalar, 1));
    Value *letter[16] = {NULL}, *row = point->row;
    int64_t extent[16] = {0};
    Block *outer[8];
    int depth = 0;
    for (int i = 0; i < node->rank; i++)
        letter[spec->out[i]] = point->at[i];
    if (spec->over_batch)
        outer[depth++] = open_rows(l, &row);
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < side[s]->rank; i++)
            extent[(s ? spec->right : spec->left)[i]] = side[s]->dims[i];
    for (int i = 0; i < 16; i++)
        if (extent[i] == 1 && !letter[i])
            letter[i] = integer(l, 0);
        else if (extent[i] && !letter[i])
            outer[depth++] = build_loop(&l->b, "k", integer(l, 0), integer(l, extent[i]), 1, false, &letter[i]);
    Value *factor[2];
    for (int s = 0; s < 2; s++) {
        Point inner = inner_point(l, point);
        inner.row = row;
        for (int i = 0; i < side[s]->rank; i++)
            inner.at[i] = letter[(s ? spec->right : spec->left)[i]];
        factor[s] = converted(l, emit(l, side[s], &inner), scalar);
    }
    build_set(&l->b, sum, value_op(&l->b, OP_FMA, factor[0], factor[1], value_read(&l->b, sum)));
    while (depth)
        build_end(&l->b, outer[--depth]);
    return value_read(&l->b, sum);
}

/* The point of element `at` along an axis of x, around a point of the reduced value. The other axes are the reduced value's, where it
   has any; else they wait for loops. */
static Point along_axis(Lowering *l, const Node *x, int axis, const Point *point, Value *at) {
    Point inner = inner_point(l, point);
    for (int i = 0, j = 0; i < 4; i++)
        inner.at[i] = i == axis ? at : i < x->rank ? point->at[j++] : NULL;
    return inner;
}

/* Lanes whose place, base + lane, is below the end; else zero. */
static Value *masked(Lowering *l, Value *x, Value *base, Value *end) {
    Value *place = value_op(&l->b, OP_INTEGER_ADD, value_splat(&l->b, converted(l, base, SCALAR_I32), LANES), value_lanes(&l->b, LANES), NULL);
    Value *inside = value_op(&l->b, OP_INTEGER_LESS, place, value_splat(&l->b, converted(l, end, SCALAR_I32), LANES), NULL);
    return value_op(&l->b, OP_WHERE, inside, x, real_number(l, 0, x->type.scalar, LANES));
}

/* 16 lanes over count neighbouring elements; `base` is the index that is moved along. */
static void sum_in_lanes(Lowering *l, Statement *lanes, Node *x, Point *inner, Value *base, Value *end, bool mask) {
    inner->lanes = LANES;
    Value *piece = converted(l, emit(l, x, inner), lanes->type.scalar);
    if (mask)
        piece = masked(l, piece, base, end);
    build_set(&l->b, lanes, value_op(&l->b, OP_ADD, value_read(&l->b, lanes), piece, NULL));
}

/* Opens loops over all axes of x but the last; returns how many. */
static int open_leading(Lowering *l, const Node *x, Point *inner, Block **outer) {
    for (int i = 0; i + 1 < x->rank; i++)
        outer[i] = build_loop(&l->b, "k", integer(l, 0), integer(l, x->dims[i]), 1, false, &inner->at[i]);
    return x->rank - 1;
}

/* A chain in index order along an axis whose elements are far apart. */
static Value *sum_in_order(Lowering *l, Node *x, int axis, Scalar scalar, Point *point) {
    Value *at;
    Statement *sum = build_var(&l->b, "sum", real_number(l, 0, scalar, 1));
    Block *outer = build_loop(&l->b, "k", integer(l, 0), integer(l, x->dims[axis]), 1, false, &at);
    Point inner = along_axis(l, x, axis, point, at);
    Value *piece = converted(l, emit(l, x, &inner), scalar);
    build_set(&l->b, sum, value_op(&l->b, OP_ADD, value_read(&l->b, sum), piece, NULL));
    build_end(&l->b, outer);
    return value_read(&l->b, sum);
}

/* Over the last axis, or all of them: element k of the last axis goes to lane k mod 16, the other axes in order. */
static Value *emit_sum(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    int axis = (int)node->integer, last = x->rank - 1;
    Scalar scalar = lower_scalar(l->function, node);
    if (axis != AXIS_ALL && axis != last)
        return sum_in_order(l, x, axis, scalar, point);
    Statement *lanes = build_var(&l->b, "lanes", real_number(l, 0, scalar, LANES));
    Point around = along_axis(l, x, last, point, NULL);
    Block *outer[4];
    int depth = axis == AXIS_ALL ? open_leading(l, x, &around, outer) : 0;
    int64_t count = x->dims[last], whole = count / LANES * LANES;
    around.lane_axis = last;
    if (whole) {
        Point inner = inner_point(l, &around);
        Block *loop = build_loop(&l->b, "k", integer(l, 0), integer(l, whole), LANES, false, &inner.at[last]);
        sum_in_lanes(l, lanes, x, &inner, inner.at[last], NULL, false);
        build_end(&l->b, loop);
    }
    if (whole < count) {
        Point inner = inner_point(l, &around);
        inner.at[last] = integer(l, whole);
        sum_in_lanes(l, lanes, x, &inner, integer(l, whole), integer(l, count), true);
    }
    while (depth)
        build_end(&l->b, outer[--depth]);
    return value_tree_sum(&l->b, value_read(&l->b, lanes));
}

static Value *emit_batch_sum(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    Scalar scalar = lower_scalar(l->function, node);
    Value *row;
    if (node->rank) { /* a chain in row order */
        Statement *sum = build_var(&l->b, "sum", real_number(l, 0, scalar, 1));
        Block *outer = open_rows(l, &row);
        Point inner = inner_point(l, point);
        inner.row = row;
        build_set(&l->b, sum, value_op(&l->b, OP_ADD, value_read(&l->b, sum), converted(l, emit(l, x, &inner), scalar), NULL));
        build_end(&l->b, outer);
        return value_read(&l->b, sum);
    }
    Statement *lanes = build_var(&l->b, "lanes", real_number(l, 0, scalar, LANES));
    Block *outer = build_loop(&l->b, "b", integer(l, 0), value_context(&l->b, CONTEXT_ROWS), LANES, false, &row);
    Point inner = inner_point(l, point);
    inner.row = row;
    inner.lane_axis = -1;
    sum_in_lanes(l, lanes, x, &inner, row, value_context(&l->b, CONTEXT_ROWS), true);
    build_end(&l->b, outer);
    return value_tree_sum(&l->b, value_read(&l->b, lanes));
}

/* max_of and argmax go through the elements in order. */
static Value *emit_greatest(Lowering *l, Node *node, Point *point) {
    Node *x = node->args[0];
    int axis = node->op == OP_ARGMAX ? AXIS_ALL : (int)node->integer, last = axis == AXIS_ALL ? x->rank - 1 : axis;
    Scalar scalar = lower_scalar(l->function, x);
    Point first = along_axis(l, x, last, point, integer(l, 0));
    for (int i = 0; axis == AXIS_ALL && i < last; i++)
        first.at[i] = integer(l, 0);
    Statement *greatest = build_var(&l->b, "greatest", converted(l, emit(l, x, &first), scalar)), *place = NULL;
    if (node->op == OP_ARGMAX)
        place = build_var(&l->b, "place", value_number(&l->b, (ValueType){SCALAR_I32, 1}, 0));
    Point inner = along_axis(l, x, last, point, NULL);
    Block *outer[4];
    int depth = axis == AXIS_ALL ? open_leading(l, x, &inner, outer) : 0;
    Block *loop = build_loop(&l->b, "k", integer(l, depth ? 0 : 1), integer(l, x->dims[last]), 1, false, &inner.at[last]);
    Value *element = build_let(&l->b, "element", converted(l, emit(l, x, &inner), scalar));
    if (node->op == OP_MAX_OF) {
        build_set(&l->b, greatest, value_op(&l->b, OP_MAXIMUM, element, value_read(&l->b, greatest), NULL));
    } else { /* a NaN is the greatest, as PyTorch has it */
        Value *more = value_op(&l->b, OP_LESS, value_read(&l->b, greatest), element, NULL);
        Value *nan = value_op(&l->b, OP_NOT_EQUAL, element, element, NULL);
        Value *sound = value_op(&l->b, OP_EQUAL, value_read(&l->b, greatest), value_read(&l->b, greatest), NULL);
        Block *found = build_if(&l->b, value_op(&l->b, OP_OR, more, value_op(&l->b, OP_AND, nan, sound, NULL), NULL));
        build_set(&l->b, greatest, element);
        build_set(&l->b, place, converted(l, inner.at[last], SCALAR_I32));
        build_end(&l->b, found);
    }
    build_end(&l->b, loop);
    while (depth)
        build_end(&l->b, outer[--depth]);
    return value_read(&l->b, node->op == OP_ARGMAX ? place : greatest);
}

static Value *emit_lookup(Lowering *l, Node *node, Point *point) {
    Node *table = node->args[0];
    Point index_point = inner_point(l, point), inner = inner_point(l, point);
    Value *index = named_index(l, "index", converted(l, emit(l, node->args[1], &index_point), SCALAR_I64));
    Value *none = build_let(&l->b, "none", value_op(&l->b, OP_INTEGER_LESS, index, integer(l, 0), NULL));
    inner.at[0] = build_let(&l->b, "index", value_op(&l->b, OP_WHERE, none, integer(l, 0), index));
    inner.at[1] = point->at[0];
    Value *element = emit(l, table, &inner);
    return value_op(&l->b, OP_WHERE, none, real_number(l, 0, element->type.scalar, 1), element);
}

/* ---- any node at a point ---------------------------------------------------------------------------------------------------------------------- */

static Value *emit_here(Lowering *l, Node *node, Point *point) {
    switch (node->op) {
    case OP_CONSTANT: return value_number(&l->b, type_of(l, node, point->lanes), node->number);
    case OP_INPUT: return load_element(l, feed_buffer(l, node), node, 0, point);
    case OP_TENSOR: return load_element(l, tensor_buffer(l, node->tensor), node, 0, point);
    case OP_SCALAR: return load_element(l, l->program->scalars, node, node->integer, point);
    case OP_TOTAL: return load_element(l, node->buffer, node, node->integer, point);
    case OP_RANDOM: return emit_random(l, node, point);
    case OP_IOTA: return emit_iota(l, point);
    case OP_EXPAND: case OP_RESHAPE: case OP_TRANSPOSE: case OP_SLICE: return emit_moved(l, node, point);
    case OP_ONE_HOT: return emit_one_hot(l, node, point);
    case OP_CUSTOM: case OP_DETACH: return emit(l, node->args[0], point);
    case OP_CONTRACT: return emit_contract(l, node, point);
    case OP_SUM: return emit_sum(l, node, point);
    case OP_BATCH_SUM: return emit_batch_sum(l, node, point);
    case OP_MAX_OF: case OP_ARGMAX: return emit_greatest(l, node, point);
    case OP_LOOKUP: return emit_lookup(l, node, point);
    case OP_CONCAT: BUG("%s: a concat inside an expression", l->function->name);
    default: return emit_element(l, node, point);
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

static const char *wish_of(const Node *node) {
    return node->label ? node->label : op_table[node->op].name;
}

/* A lane-less value where lanes are wanted, once for all of them. */
static Value *spread_number(Lowering *l, Node *node, Point *point) {
    Point scalar = inner_point(l, point);
    scalar.lanes = 1;
    return value_splat(&l->b, emit(l, node, &scalar), point->lanes);
}

static Value *emit(Lowering *l, Node *node, Point *point) {
    for (int i = 0; i < point->memo->known.count; i++)
        if (point->memo->known.at[i].node == node)
            return point->memo->known.at[i].value;
    LowerItem *item = l->plan->items[node->id];
    if (item && item->buffer && item->group != point->group)
        return load_element(l, item->buffer, node, 0, point);
    bool numbers = point->lanes > 1 && node->rank == 0 && node->op != OP_CONSTANT && (point->lane_axis >= 0 || !node->batched);
    if (numbers && !item)
        return spread_number(l, node, point);
    Value *value = emit_here(l, node, point);
    bool keep = value->arg_count > 0 && !value->let && (l->plan->uses[node->id] > 1 || height(value) > LONGEST_EXPRESSION);
    if (keep)
        value = build_let(&l->b, wish_of(node), value);
    if (value->let || value->arg_count == 0)
        *LIST_ADD(l->b.arena, &point->memo->known) = (struct Known){node, value};
    return value;
}

/* ---- groups ------------------------------------------------------------------------------------------------------------------------------------ */

static void store_item(Lowering *l, LowerItem *item, Value *value, Point *point) {
    const Node *node = item->node;
    if (item->buffer) {
        use_buffer(l, item->buffer);
        build_store(&l->b, item->buffer, linear(l, node->batched ? point->row : NULL, point->at, node->rank, node->dims),
                    converted(l, value, item->buffer->scalar));
    }
    for (int i = 0; i < item->sinks.count; i++) {
        const Sink *sink = &item->sinks.at[i];
        Buffer *buffer = use_buffer(l, sink->tensor ? tensor_buffer(l, sink->tensor) : sink->buffer);
        Value *index = linear(l, node->batched ? point->row : NULL, point->at, node->rank, node->dims);
        build_store(&l->b, buffer, add(l, index, integer(l, sink->first)), converted(l, value, buffer->scalar));
    }
}

static int open_domain(Lowering *l, bool batched, int rank, const int64_t *dims, bool parallel, Point *point, Block **outer) {
    static const char *const names[4] = {"i", "j", "k", "m"};
    int depth = 0;
    if (batched)
        outer[depth++] = build_loop(&l->b, "b", integer(l, 0), value_context(&l->b, CONTEXT_ROWS), 1, parallel, &point->row);
    for (int i = 0; i < rank; i++)
        if (dims[i] == 1)
            point->at[i] = integer(l, 0);
        else {
            outer[depth] = build_loop(&l->b, names[i], integer(l, 0), integer(l, dims[i]), 1, parallel && depth == 0, &point->at[i]);
            depth++;
        }
    return depth;
}

static void lower_concat(Lowering *l, LowerItem *item, int group, bool parallel) {
    const Node *node = item->node;
    int64_t first = 0;
    Point point = {.lanes = 1, .group = group};
    Block *rows = NULL;
    if (node->batched)
        rows = build_loop(&l->b, "b", integer(l, 0), value_context(&l->b, CONTEXT_ROWS), 1, parallel, &point.row);
    for (int i = 0; i < node->arg_count; i++) {
        Node *part = node->args[i];
        point.memo = arena_new_of(l->b.arena, struct Memo);
        Block *outer = build_loop(&l->b, "i", integer(l, 0), integer(l, part->dims[0]), 1, false, &point.at[0]);
        Value *value = build_let(&l->b, "part", converted(l, emit(l, part, &point), lower_scalar(l->function, node)));
        Point there = point;
        there.at[0] = named_index(l, "at", add(l, point.at[0], integer(l, first)));
        store_item(l, item, value, &there);
        build_end(&l->b, outer);
        first += part->dims[0];
    }
    if (rows)
        build_end(&l->b, rows);
}

static void lower_items(Lowering *l, LowerGroup *group, int index, bool parallel) {
    Point point = {.lanes = 1, .group = index, .memo = arena_new_of(l->b.arena, struct Memo)};
    Block *outer[8];
    int depth = open_domain(l, group->batched, group->rank, group->dims, parallel, &point, outer);
    Value **values = arena_array(l->b.arena, Value *, group->items.count);
    for (int i = 0; i < group->items.count; i++) {
        Node *node = group->items.at[i]->node;
        values[i] = emit(l, node, &point);
        if (!values[i]->let) /* before anything is stored */
            values[i] = build_let(&l->b, wish_of(node), values[i]);
        bool known = false;
        for (int j = 0; j < point.memo->known.count; j++)
            known |= point.memo->known.at[j].node == node;
        if (!known)
            *LIST_ADD(l->b.arena, &point.memo->known) = (struct Known){node, values[i]};
    }
    for (int i = 0; i < group->items.count; i++)
        store_item(l, group->items.at[i], values[i], &point);
    while (depth)
        build_end(&l->b, outer[--depth]);
}

/* ---- what it costs ---------------------------------------------------------------------------------------------------------------------------------- */

static double item_work(const Lowering *l, const Node *node) {
    double work = (double)node_elements(node) * (node->batched ? (double)l->function->capacity : 1);
    if (node->op == OP_CONTRACT) {
        double extent[16] = {0}, all = 1;
        for (int s = 0; s < 2; s++)
            for (int i = 0; i < node->args[s]->rank; i++)
                extent[(s ? node->contract.right : node->contract.left)[i]] = (double)node->args[s]->dims[i];
        for (int i = 0; i < 16; i++)
            all *= extent[i] > 0 ? extent[i] : 1;
        bool rows = node->args[0]->batched || node->args[1]->batched;
        work = 2 * all * (rows ? (double)l->function->capacity : 1);
    } else if (node->arg_count) {
        work += (double)node_elements(node->args[0]) * (node->args[0]->batched ? (double)l->function->capacity : 1);
    }
    return work;
}

#define WORTH_THREADS 200000.0 /* elementary steps in a call: some 100 microseconds of plain loops */
#define WORTH_A_LOOP 20000.0

static double group_work(const Lowering *l, const LowerGroup *group) {
    double work = 0;
    for (int i = 0; i < group->items.count; i++)
        work += item_work(l, group->items.at[i]->node);
    return work;
}

/* ---- functions ------------------------------------------------------------------------------------------------------------------------------------------ */

/* Formulas name what is stored as C names it, and write out the rest. */
static Sheet formula_sheet(Lowering *l) {
    int count = l->plan->node_count;
    Sheet sheet = {.arena = l->b.arena, .graph = l->program->graph, .count = count};
    sheet.own_line = arena_array(l->b.arena, bool, count);
    sheet.needed = arena_array(l->b.arena, bool, count);
    sheet.names = arena_array(l->b.arena, const char *, count);
    for (int id = 0; id < count; id++) {
        const Node *node = graph_node(l->program->graph, id);
        const LowerItem *item = l->plan->items[id];
        bool stored = item && l->plan->uses[id] && item->buffer;
        sheet.own_line[id] = stored || (node->label && l->plan->uses[id]);
        sheet.names[id] = stored ? item->buffer->shown : node->label ? node->label : op_table[node->op].name;
    }
    return sheet;
}

static const char *item_formula(const Sheet *sheet, const LowerItem *item) {
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
static const char *group_formula(Lowering *l, const LowerGroup *group) {
    Sheet sheet = formula_sheet(l);
    const char *all = "";
    int shown = 0;
    for (int i = 0; i < group->items.count; i++) {
        const LowerItem *item = group->items.at[i];
        if (!item->buffer && !item->sinks.count && !item->node->label)
            continue; /* on the way to another */
        if (shown == 4 && group->items.count - i > 1)
            return arena_printf(l->b.arena, "%s; and %d more", all, group->items.count - i);
        all = arena_printf(l->b.arena, "%s%s%s", all, shown++ ? "; " : "", item_formula(&sheet, item));
    }
    return all;
}

static Kernel *start_kernel(Lowering *l, const char *label, Span span) {
    Kernel *kernel = arena_new_of(l->b.arena, Kernel);
    Text safe = {0};
    for (const char *c = label; *c; c++)
        text_printf(&safe, "%c", (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ? *c : '_');
    const char *wish = arena_printf(l->b.arena, "%s_%s", l->function->name, safe.at ? safe.at : "kernel");
    text_free(&safe);
    int again = 0;
    for (int i = 0; i < l->target->step_count; i++)
        again += l->target->steps[i].kernel && !strncmp(l->target->steps[i].kernel->name, wish, strlen(wish));
    kernel->name = name_of(again ? arena_printf(l->b.arena, "%s_%d", wish, again + 1) : wish);
    kernel->span = span;
    l->b.kernel = kernel;
    l->b.block = &kernel->body;
    memset(&l->b.names, 0, sizeof l->b.names);
    return kernel;
}

static void add_step(Lowering *l, Step step) {
    Step *more = arena_array(l->b.arena, Step, l->target->step_count + 1);
    if (l->target->step_count)
        memcpy(more, l->target->steps, sizeof(Step) * (size_t)l->target->step_count);
    more[l->target->step_count++] = step;
    l->target->steps = more;
}

static const Node *leading_node(const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        if (group->items.at[i]->node->label)
            return group->items.at[i]->node;
    return group->items.at[0]->node;
}

static bool has_loop(const LowerGroup *group) {
    bool loop = group->batched;
    for (int i = 0; i < group->rank; i++)
        loop |= group->dims[i] > 1;
    return loop;
}

static void lower_group(Lowering *l, int index) {
    LowerGroup *group = &l->plan->groups.at[index];
    const Node *leading = leading_node(group);
    Kernel *kernel = start_kernel(l, wish_of(leading), leading->span);
    kernel->formula = group_formula(l, group);
    kernel->flops = group_work(l, group);
    kernel->parallel = l->target->parallel && kernel->flops >= l->worth_a_loop && has_loop(group);
    if (group->alone)
        lower_concat(l, group->items.at[0], index, kernel->parallel && group->batched);
    else
        lower_items(l, group, index, kernel->parallel);
    if (group->alone && !group->batched)
        kernel->parallel = false;
    add_step(l, (Step){STEP_KERNEL, kernel, NULL, 0});
}

/* New values that waited in a buffer go to their tensors. */
static void lower_copies(Lowering *l) {
    for (int i = 0; i < l->plan->copies.count; i++) {
        const Sink *sink = &l->plan->copies.at[i];
        LowerItem *item = l->plan->items[lower_behind(sink->value)->id];
        Kernel *kernel = start_kernel(l, arena_printf(l->b.arena, "keep_%s", sink->tensor->name), sink->value->span);
        kernel->formula = arena_printf(l->b.arena, "%s takes its new value", sink->tensor->name);
        Point point = {.lanes = 1, .group = -1, .memo = arena_new_of(l->b.arena, struct Memo)};
        Block *outer[8];
        int depth = open_domain(l, false, item->node->rank, item->node->dims, false, &point, outer);
        Buffer *to = use_buffer(l, tensor_buffer(l, sink->tensor));
        Value *value = load_element(l, item->buffer, item->node, 0, &point);
        build_store(&l->b, to, linear(l, NULL, point.at, item->node->rank, item->node->dims), converted(l, value, to->scalar));
        while (depth)
            build_end(&l->b, outer[--depth]);
        add_step(l, (Step){STEP_KERNEL, kernel, NULL, 0});
    }
}

static void add_guard(Lowering *l) {
    for (int i = 0; i < l->function->sinks.count; i++) {
        const Sink *sink = &l->function->sinks.at[i];
        if (sink->value == l->function->guard && sink->buffer) {
            add_step(l, (Step){STEP_GUARD, NULL, sink->buffer, sink->first});
            return;
        }
    }
    BUG("%s: the guarded value goes nowhere", l->function->name);
}

static void lower_function(Arena *arena, GraphProgram *program, Module *module, GraphFunction *function, const LowerOptions *options) {
    Lowering l = {.program = program, .function = function, .real = function->is_double ? SCALAR_F64 : SCALAR_F32};
    l.b.arena = arena;
    l.b.module = module;
    l.plan = lower_plan(arena, program, function);
    l.target = arena_new_of(arena, Function);
    l.target->name = function->name;
    l.target->about = function->about;
    l.target->span = function->span;
    l.target->capacity = function->capacity;
    l.target->is_double = function->is_double;
    l.worth_a_loop = options->threads == LOWER_THREADS_ALWAYS ? 0 : WORTH_A_LOOP;
    double work = 0;
    for (int i = 0; i < l.plan->groups.count; i++)
        work += group_work(&l, &l.plan->groups.at[i]);
    l.target->parallel = options->threads == LOWER_THREADS_ALWAYS ||
                         (options->threads == LOWER_THREADS_WHERE_WORTH && work >= WORTH_THREADS && function->sinks.count > 0);
    use_buffer(&l, program->scalars);
    for (int i = 0; i < l.plan->groups.count; i++) {
        lower_group(&l, i);
        if (i == l.plan->guard_group && function->guard)
            add_guard(&l);
    }
    lower_copies(&l);
    function->kernels = l.target;
    *LIST_ADD(arena, &module->functions) = l.target;
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
    use_buffer(&l, values);
    Kernel *kernel = start_kernel(&l, "values", data->span);
    kernel->formula = "log(values)";
    Value *row;
    Block *outer = open_rows(&l, &row);
    build_store(&l.b, values, row, value_op(&l.b, OP_LOG, value_load(&l.b, values, row, 1), NULL, NULL));
    build_end(&l.b, outer);
    add_step(&l, (Step){STEP_KERNEL, kernel, NULL, 0});
    *LIST_ADD(arena, &module->functions) = function;
}

Module *lower(Arena *arena, GraphProgram *program, const LowerOptions *options) {
    Module *module = arena_new_of(arena, Module);
    module->arena = arena;
    for (int i = 0; i < program->functions.count; i++)
        lower_function(arena, program, module, program->functions.at[i], options);
    for (int i = 0; i < program->program->data.count; i++)
        if (program->logs.at[i])
            lower_log(arena, module, program->program->data.at[i]);
    return module;
}
