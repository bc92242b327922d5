/* Before: the tables that table.c found. After: the kernels that bring their rows up to date.

   First, the places of the batch that read a table are sorted by the piece that they read, in the batch's order. What
   waited for those pieces is done next, since the forward pass reads them. Behind the guard each piece gathers its
   gradient in scratch, from zero in the batch's order, and is updated. At the end the numbers of the step are written down
   for the pieces that now wait. */
#include "lower.h"

#include "../graph/print.h"

static Point new_point(Lowering *l, int lanes) {
    return (Point){.lanes = lanes, .group = -1, .memo = arena_new_of(l->b.arena, struct Memo)};
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

static Buffer *new_buffer(Lowering *l, const LowerTable *table, const char *what, BufferRole role, Scalar scalar,
                          int64_t count) {
    Buffer *buffer = arena_new_of(l->b.arena, Buffer);
    buffer->shown = name_of(table ? arena_printf(l->b.arena, "%s:%s", table->tensor->name, what) : what);
    buffer->name = name_identifier(buffer->shown);
    buffer->role = role;
    buffer->scalar = scalar;
    buffer->rank = 1;
    buffer->dims[0] = count;
    buffer->span = table ? table->tensor->span : l->function->span;
    lower_layout(l->function, buffer, 1);
    return buffer;
}

static void make_buffers(Lowering *l) {
    LowerPlan *plan = l->plan;
    for (int i = 0; i < plan->tables.count; i++) {
        LowerTable *table = plan->tables.at[i];
        int64_t pieces = table->pieces;
        table->begins = new_buffer(l, table, "begins", BUFFER_TEMPORARY, SCALAR_I32, pieces + 2);
        table->order = new_buffer(l, table, "order", BUFFER_TEMPORARY, SCALAR_I32, table->reads);
        table->next = new_buffer(l, table, "next", BUFFER_TEMPORARY, SCALAR_I32, pieces + 2);
        table->gradient = new_buffer(l, table, "gradient", BUFFER_SCRATCH, SCALAR_F32, table->vectors * LANES);
        if (table->rows != TABLE_WAITS)
            continue;
        table->done = new_buffer(l, table, "done", BUFFER_STATE, SCALAR_I32, pieces);
        if (!plan->now)
            plan->now = new_buffer(l, NULL, "updates_waiting", BUFFER_STATE, SCALAR_I32, 1);
        for (int j = 0; j < table->numbers.count; j++) {
            Node *number = table->numbers.at[j];
            bool there = number->type == TYPE_TRUTH;
            for (int k = 0; k < plan->numbers.count; k++)
                there |= plan->numbers.at[k] == number;
            if (!there)
                *LIST_ADD(l->b.arena, &plan->numbers) = number;
        }
    }
    if (plan->numbers.count)
        plan->history = new_buffer(l, NULL, "numbers_of_updates", BUFFER_STATE, SCALAR_F64,
                                   (int64_t)STEPS_KEPT * plan->numbers.count);
}

/* ---- whole numbers in memory ------------------------------------------------------------------------------------- */

/* x, which is 0 to most: the verifier is told, too. */
static Value *within(Lowering *l, const char *name, Value *x, int64_t most) {
    Value *zero = lower_integer(l, 0), *below = value_op(&l->b, OP_INTEGER_LESS, x, zero, NULL);
    Value *positive = build_let(&l->b, name, value_op(&l->b, OP_WHERE, below, zero, x));
    return build_let(&l->b, name, value_op(&l->b, OP_INTEGER_MINIMUM, positive, lower_integer(l, most), NULL));
}

static Value *whole_at(Lowering *l, const char *name, Buffer *buffer, Value *index, int64_t most) {
    Value *loaded = value_load(&l->b, lower_use(l, buffer), index, 1);
    return within(l, name, build_let(&l->b, name, value_convert(&l->b, loaded, SCALAR_I64)), most);
}

static void store_whole(Lowering *l, Buffer *buffer, Value *index, Value *value) {
    build_store(&l->b, lower_use(l, buffer), index, value_convert(&l->b, value, SCALAR_I32));
}

static Value *next_of(Lowering *l, Value *value) {
    return lower_add(l, value, lower_integer(l, 1));
}

static Value *updates_done(Lowering *l) {
    return whole_at(l, "now", l->plan->now, lower_integer(l, 0), STEPS_KEPT);
}

static Kernel *start(Lowering *l, const char *what, const LowerTable *table, const char *formula, bool parallel) {
    Kernel *kernel =
        lower_start_kernel(l, arena_printf(l->b.arena, "%s_%s", what, table ? table->tensor->name : "updates"),
                           table ? table->tensor->span : l->function->span);
    kernel->formula = formula;
    kernel->parallel = parallel;
    return kernel;
}

static void end(Lowering *l) {
    lower_add_step(l, (Step){STEP_KERNEL, l->b.kernel, NULL, 0});
}

static Block *open_pieces(Lowering *l, const LowerTable *table, Value **piece) {
    return build_loop(&l->b, "p", lower_integer(l, 0), lower_integer(l, table->pieces), 1, l->b.kernel->parallel,
                      piece);
}

/* ---- who reads which piece --------------------------------------------------------------------------------------- */

/* Opens loops over what the batch reads, and a body for the rows that are there. */
typedef struct Reading {
    Block *outer[3];
    Value *row, *at, *place, *index;
} Reading;

static Reading open_reading(Lowering *l, const LowerTable *table) {
    Node *indices = table->scatter->args[1];
    Reading r = {.at = lower_integer(l, 0)};
    Point here = new_point(l, 1);
    r.outer[0] = lower_rows(l, &r.row);
    r.place = r.row;
    if (indices->rank) {
        r.outer[1] = build_loop(&l->b, "t", lower_integer(l, 0), lower_integer(l, indices->dims[0]), 1, false, &r.at);
        r.place = lower_add(l, lower_times(l, r.row, indices->dims[0]), r.at);
    }
    here.row = r.row;
    r.index = lower_index_of(l, indices, &here, r.at);
    r.outer[2] = lower_if_there(l, r.index);
    return r;
}

static void close_reading(Lowering *l, const Reading *r) {
    build_end(&l->b, r->outer[2]);
    if (r->outer[1])
        build_end(&l->b, r->outer[1]);
    build_end(&l->b, r->outer[0]);
}

static Value *piece_of_row(Lowering *l, const LowerTable *table, Value *index) {
    Value *row = lower_row_of(l, index, table->scatter->integer);
    if (!table->scatter->turned)
        row = value_op(&l->b, OP_INTEGER_DIVIDE, row, lower_integer(l, LANES), NULL);
    return build_let(&l->b, "piece", row);
}

/* Sorted by counting: piece p's count goes to p + 2, so that sums make of p + 1 where it begins, and placing, where it
   ends. */
static void sort_reads(Lowering *l, const LowerTable *table) {
    Buffer *begins = table->begins;
    Value *i;
    start(l, "sort", table, arena_printf(l->b.arena, "which rows read which piece of %s", table->tensor->name), false);
    Block *outer = build_loop(&l->b, "i", lower_integer(l, 0), lower_integer(l, begins->dims[0]), 1, false, &i);
    store_whole(l, begins, i, lower_integer(l, 0));
    store_whole(l, table->next, i, lower_integer(l, 0));
    build_end(&l->b, outer);

    Reading r = open_reading(l, table);
    Value *at = lower_named(l, "at", lower_add(l, piece_of_row(l, table, r.index), lower_integer(l, 2)));
    store_whole(l, begins, at, next_of(l, whole_at(l, "count", begins, at, table->reads)));
    close_reading(l, &r);

    Statement *sum = build_var(&l->b, "sum", lower_integer(l, 0)),
              *last = build_var(&l->b, "last", lower_integer(l, 0));
    outer = build_loop(&l->b, "i", lower_integer(l, 2), lower_integer(l, begins->dims[0]), 1, false, &i);
    Value *count = whole_at(l, "count", begins, i, table->reads);
    build_set(&l->b, sum, lower_add(l, value_read(&l->b, sum), count));
    store_whole(l, begins, i, value_read(&l->b, sum));
    Block *read = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, lower_integer(l, 0), count, NULL));
    Value *piece = lower_named(l, "piece", lower_add(l, i, lower_integer(l, -2)));
    store_whole(l, table->next, within(l, "before", value_read(&l->b, last), table->pieces - 1), piece);
    build_set(&l->b, last, piece);
    build_end(&l->b, read);
    build_end(&l->b, outer);

    r = open_reading(l, table);
    at = lower_named(l, "at", next_of(l, piece_of_row(l, table, r.index)));
    Value *place = whole_at(l, "place", begins, at, table->reads - 1);
    store_whole(l, table->order, place, r.place);
    store_whole(l, begins, at, next_of(l, place));
    close_reading(l, &r);
    end(l);
}

typedef struct Places {
    Value *from, *to;
} Places;

static Places places_of(Lowering *l, const LowerTable *table, Value *piece) {
    Places places = {whole_at(l, "from", table->begins, piece, table->reads), NULL};
    places.to = whole_at(l, "to", table->begins, next_of(l, piece), table->reads);
    return places;
}

/* ---- a piece's updates ------------------------------------------------------------------------------------------- */

/* Sixteen numbers of the piece: of 16 rows at the column, or of one at the panel, that `point` is opened for. */
static Point point_in(Lowering *l, const LowerTable *table, Value *piece, Value *vector) {
    Point point = new_point(l, LANES);
    bool turned = table->scatter->turned;
    point.panel = turned ? vector : piece;
    point.at[0] = lower_times(l, point.panel, LANES); /* what lies in panels is found by the panel */
    point.at[1] = turned ? piece : vector;
    return point;
}

static Block *open_vectors(Lowering *l, const LowerTable *table, Value **vector) {
    return build_loop(&l->b, "k", lower_integer(l, 0), lower_integer(l, table->vectors), 1, false, vector);
}

static void new_values(Lowering *l, const LowerTable *table, Point *point, Value **values) {
    for (int i = 0; i < table->updates.count; i++) {
        Node *value = table->updates.at[i].value;
        values[i] = lower_converted(l, emit_node(l, value, point), SCALAR_F32);
        if (!values[i]->let)
            values[i] = build_let(&l->b, lower_wish(value), values[i]);
    }
}

static void store_values(Lowering *l, const LowerTable *table, const Point *point, Value *const *values) {
    for (int i = 0; i < table->updates.count; i++) {
        Buffer *buffer = lower_use(l, lower_tensor(l, table->updates.at[i].tensor));
        build_store(&l->b, buffer, lower_index(l, buffer, table->scatter, point), values[i]);
    }
}

/* The same of the piece that is next: they lie too far apart for the machine to guess. */
static void fetch_next(Lowering *l, const LowerTable *table, Value *piece, Value *vector) {
    Point next = point_in(l, table, whole_at(l, "next", table->next, piece, table->pieces - 1), vector);
    for (int i = 0; i < table->updates.count; i++) {
        Buffer *buffer = lower_use(l, lower_tensor(l, table->updates.at[i].tensor));
        build_prefetch(&l->b, buffer, lower_index(l, buffer, table->scatter, &next), true);
    }
}

/* The numbers of an update that waited. */
static void know_numbers(Lowering *l, const LowerTable *table, Value *step, Point *point) {
    const LowerPlan *plan = l->plan;
    Point scalar = new_point(l, 1);
    for (int i = 0; i < table->numbers.count; i++) {
        Node *number = table->numbers.at[i];
        Value *value = NULL;
        for (int j = 0; j < plan->numbers.count && !value; j++)
            if (plan->numbers.at[j] == number) {
                Value *at = lower_add(l, lower_times(l, step, plan->numbers.count), lower_integer(l, j));
                value = build_let(&l->b, lower_wish(number), value_load(&l->b, lower_use(l, plan->history), at, 1));
            }
        if (value)
            lower_know(l, &scalar, number, lower_converted(l, value, lower_scalar(l->function, number)));
        else
            value = build_let(&l->b, lower_wish(number), emit_node(l, number, &scalar));
        if (number->type != TYPE_TRUTH)
            value = lower_converted(l, value, SCALAR_F32);
        lower_know(l, point, number, build_let(&l->b, lower_wish(number), value_splat(&l->b, value, LANES)));
    }
    for (int i = 0; i < table->spread.count; i++) {
        Node *spread = table->spread.at[i];
        lower_know(l, point, spread, emit_node(l, spread->args[0], point));
    }
}

/* Updates [from, to) with a gradient of zero: those of 16 numbers in registers, one after another. */
static void catch_up(Lowering *l, const LowerTable *table, Value *piece, Value *from, Value *to, bool fetch) {
    Value **values = arena_array(l->b.arena, Value *, table->updates.count), *step, *vector;
    Statement **registers = arena_array(l->b.arena, Statement *, table->updates.count);
    Block *vectors = open_vectors(l, table, &vector);
    Point point = point_in(l, table, piece, vector);
    if (fetch)
        fetch_next(l, table, piece, vector);
    for (int i = 0; i < table->updates.count; i++) {
        const Tensor *tensor = table->updates.at[i].tensor;
        registers[i] = build_var(&l->b, name_identifier(tensor->name),
                                 lower_load(l, lower_tensor(l, tensor), table->scatter, 0, &point));
    }
    Block *steps = build_loop(&l->b, "s", from, to, 1, false, &step);
    Point before = lower_point(l, &point);
    lower_know(l, &before, table->scatter, lower_number(l, 0, SCALAR_F32, LANES));
    for (int i = 0; i < table->updates.count; i++)
        lower_know(l, &before, node_tensor(l->program->graph, (Tensor *)table->updates.at[i].tensor),
                   value_read(&l->b, registers[i]));
    know_numbers(l, table, step, &before);
    new_values(l, table, &before, values);
    for (int i = 0; i < table->updates.count; i++)
        build_set(&l->b, registers[i], values[i]);
    build_end(&l->b, steps);
    for (int i = 0; i < table->updates.count; i++)
        values[i] = value_read(&l->b, registers[i]);
    store_values(l, table, &point, values);
    build_end(&l->b, vectors);
}

static void catch_up_where_late(Lowering *l, const LowerTable *table, Value *piece, Value *now, bool fetch) {
    Value *since = whole_at(l, "since", table->done, piece, STEPS_KEPT);
    Block *late = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, since, now, NULL));
    catch_up(l, table, piece, since, now, fetch);
    build_end(&l->b, late);
}

static void do_what_waits(Lowering *l, const LowerTable *table) {
    Value *piece;
    start(l, "catch_up", table,
          arena_printf(l->b.arena, "what waits for rows of %s that are read", table->tensor->name), l->plan->parallel);
    Value *now = updates_done(l);
    Block *pieces = open_pieces(l, table, &piece);
    Places places = places_of(l, table, piece);
    Block *read = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, places.from, places.to, NULL));
    catch_up_where_late(l, table, piece, now, true);
    store_whole(l, table->done, piece, now);
    build_end(&l->b, read);
    build_end(&l->b, pieces);
    end(l);
}

/* ---- the update of what was read --------------------------------------------------------------------------------- */

/* What one reading of 16 rows gives to its row: a number for each vector. */
static void add_to_lane(Lowering *l, const LowerTable *table, const Point *here, Value *index, Value *count) {
    Node *scatter = table->scatter;
    Value *row = lower_row_of(l, index, scatter->integer), *vector;
    Value *lane = build_let(&l->b, "lane", value_op(&l->b, OP_INTEGER_REMAINDER, row, lower_integer(l, LANES), NULL));
    Block *vectors = open_vectors(l, table, &vector);
    Point from = lower_point(l, here);
    from.at[0] = vector;
    Value *piece = lower_converted(l, emit_node(l, scatter->args[0], &from), SCALAR_F32);
    Value *to = build_let(&l->b, "at", lower_add(l, lower_times(l, vector, LANES), lane));
    Value *before = value_load(&l->b, table->gradient, to, 1);
    build_store(&l->b, table->gradient, to,
                count ? value_op(&l->b, OP_FMA, count, piece, before) : value_op(&l->b, OP_ADD, before, piece, NULL));
    build_end(&l->b, vectors);
}

/* What one reading of a column gives to it: whole vectors. */
static void add_to_column(Lowering *l, const LowerTable *table, const Point *here, Value *count) {
    Value *vector, *counts = count ? build_let(&l->b, "counts", value_splat(&l->b, count, LANES)) : NULL;
    Block *vectors = open_vectors(l, table, &vector);
    Point from = lower_point(l, here);
    from.lanes = LANES;
    from.panel = vector;
    from.at[0] = lower_named(l, "at", lower_times(l, vector, LANES));
    Value *piece = emit_node(l, table->scatter->args[0], &from);
    Value *before = value_load(&l->b, table->gradient, from.at[0], LANES);
    build_store(&l->b, table->gradient, from.at[0],
                counts ? value_op(&l->b, OP_FMA, counts, piece, before) : value_op(&l->b, OP_ADD, before, piece, NULL));
    build_end(&l->b, vectors);
}

static void gather_gradient(Lowering *l, const LowerTable *table, const Places *places) {
    Node *scatter = table->scatter, *indices = scatter->args[1];
    Buffer *gradient = lower_use(l, table->gradient);
    Value *vector, *i;
    Block *outer = open_vectors(l, table, &vector);
    build_store(&l->b, gradient, lower_times(l, vector, LANES), lower_number(l, 0, SCALAR_F32, LANES));
    build_end(&l->b, outer);

    outer = build_loop(&l->b, "i", places->from, places->to, 1, false, &i);
    Point here = new_point(l, 1);
    Value *place = whole_at(l, "place", table->order, i, table->reads - 1), *at = lower_integer(l, 0);
    here.row = place;
    if (indices->rank) {
        Value *each = lower_integer(l, indices->dims[0]);
        here.row = build_let(&l->b, "b", value_op(&l->b, OP_INTEGER_DIVIDE, place, each, NULL));
        at = build_let(&l->b, "t", value_op(&l->b, OP_INTEGER_REMAINDER, place, each, NULL));
    }
    Value *index = lower_index_of(l, indices, &here, at);
    Block *there = lower_if_there(l, index);
    here.at[0] = at;
    Value *count = NULL;
    if (scatter->arg_count > 2)
        count = build_let(&l->b, "count", lower_converted(l, emit_node(l, scatter->args[2], &here), SCALAR_F32));
    if (scatter->turned)
        add_to_column(l, table, &here, count);
    else
        add_to_lane(l, table, &here, index, count);
    build_end(&l->b, there);
    build_end(&l->b, outer);
}

static const char *formula_of(Lowering *l, const LowerTable *table) {
    Text text = {0};
    for (int i = 0; i < table->updates.count; i++) {
        text_printf(&text, "%s%s = ", i ? "; " : "", table->updates.at[i].tensor->name);
        sheet_formula(l->sheet, table->updates.at[i].value, &text);
    }
    const char *formula = arena_copy(l->b.arena, text.at, text.length);
    text_free(&text);
    return formula;
}

static void update(Lowering *l, const LowerTable *table) {
    Value **values = arena_array(l->b.arena, Value *, table->updates.count), *piece, *vector;
    start(l, "update", table, formula_of(l, table), l->plan->parallel);
    Value *now = table->rows == TABLE_WAITS ? updates_done(l) : NULL;
    Block *pieces = open_pieces(l, table, &piece), *read = NULL;
    Places places = places_of(l, table, piece);
    if (table->rows != TABLE_ALL)
        read = build_if(&l->b, value_op(&l->b, OP_INTEGER_LESS, places.from, places.to, NULL));
    gather_gradient(l, table, &places);
    Block *vectors = open_vectors(l, table, &vector);
    Point point = point_in(l, table, piece, vector);
    if (table->rows != TABLE_ALL)
        fetch_next(l, table, piece, vector);
    lower_know(l, &point, table->scatter,
               build_let(&l->b, "g", value_load(&l->b, table->gradient, lower_times(l, vector, LANES), LANES)));
    new_values(l, table, &point, values);
    store_values(l, table, &point, values);
    build_end(&l->b, vectors);
    if (now)
        store_whole(l, table->done, piece, next_of(l, now));
    if (read)
        build_end(&l->b, read);
    build_end(&l->b, pieces);
    end(l);
}

/* What the pieces that were not read will need of this step. */
static void keep_numbers(Lowering *l) {
    LowerPlan *plan = l->plan;
    Value *zero = lower_integer(l, 0);
    start(l, "keep", NULL, "what the rows that were not read will need of this update", false);
    Value *now = whole_at(l, "now", plan->now, zero, STEPS_KEPT - 1);
    Point point = new_point(l, 1);
    for (int i = 0; i < plan->numbers.count; i++) {
        Value *value = lower_converted(l, emit_node(l, plan->numbers.at[i], &point), SCALAR_F64);
        Value *at = lower_add(l, lower_times(l, now, plan->numbers.count), lower_integer(l, i));
        build_store(&l->b, lower_use(l, plan->history), at, value);
    }
    store_whole(l, plan->now, zero, next_of(l, now));
    end(l);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

void lower_tables_first(Lowering *l) {
    make_buffers(l);
    for (int i = 0; i < l->plan->tables.count; i++)
        sort_reads(l, l->plan->tables.at[i]);
    for (int i = 0; i < l->plan->tables.count; i++)
        if (l->plan->tables.at[i]->rows == TABLE_WAITS)
            do_what_waits(l, l->plan->tables.at[i]);
}

void lower_tables_last(Lowering *l) {
    for (int i = 0; i < l->plan->tables.count; i++)
        update(l, l->plan->tables.at[i]);
    if (l->plan->now)
        keep_numbers(l);
}

void lower_tables_settle(Lowering *l) {
    for (int i = 0; i < l->plan->tables.count; i++) {
        const LowerTable *table = l->plan->tables.at[i];
        Value *piece;
        if (table->rows != TABLE_WAITS)
            continue;
        start(l, "settle", table, arena_printf(l->b.arena, "all that waits for rows of %s", table->tensor->name),
              l->target->parallel);
        Value *now = updates_done(l);
        Block *pieces = open_pieces(l, table, &piece);
        catch_up_where_late(l, table, piece, now, false);
        store_whole(l, table->done, piece, lower_integer(l, 0));
        build_end(&l->b, pieces);
        end(l);
    }
    start(l, "settled", NULL, "nothing waits", false);
    store_whole(l, l->plan->now, lower_integer(l, 0), lower_integer(l, 0));
    end(l);
}
