/* Kernels that are the same function. Training, measuring and predicting run the same forward kernels on memory that
   lies elsewhere, and so do equal layers: buffers are parameters of the code, so that each such kernel is compiled once.
   Two kernels are equal where their words here are equal: everything that the printers look at is written into them. */
#include "share.h"

#include <string.h>

enum { MOST_JOINED = 1500 }; /* instructions of LLVM IR in one function: some 50 ms for one thread */

/* ---- What a kernel does, in words -------------------------------------------------------------------------------- */

typedef struct Writer {
    Arena *arena;
    Shape *shape;
    LIST(int64_t) words;
    uint64_t hash;
    PointerMap numbers; /* LETs, VARs, loops, buffers: in the order in which they are met, from 1 */
    PointerMap maths;   /* known to be in shape->maths */
} Writer;

static void put(Writer *w, int64_t number) {
    if (w->words.count == w->words.capacity)
        w->words.at = list_room(w->arena, w->words.at, w->words.count, &w->words.capacity, sizeof *w->words.at);
    w->words.at[w->words.count++] = number;
    w->hash = (w->hash ^ (uint64_t)number) * 0x9E3779B97F4A7C15u;
    w->hash ^= w->hash >> 32;
}

static void put_reference(Writer *w, const void *key) {
    void *number = map_find(&w->numbers, key);
    if (!number) {
        number = (void *)(uintptr_t)(w->numbers.count + 1);
        map_put(w->arena, &w->numbers, key, number);
    }
    put(w, (int64_t)(uintptr_t)number);
}

static void put_type(Writer *w, ValueType type) {
    put(w, (int64_t)type.scalar * 64 + type.lanes);
}

static void put_plain(Writer *w, const Value *value);

static void put_value(Writer *w, const Value *value) {
    if (value->let && value->kind != VALUE_ARGUMENT) {
        put(w, -1);
        put_reference(w, value);
    } else {
        put_plain(w, value);
    }
}

static void note_math(Writer *w, const MathFunction *function) {
    if (map_find(&w->maths, function))
        return;
    map_put(w->arena, &w->maths, function, w);
    *LIST_ADD(w->arena, &w->shape->maths) = function;
}

static void put_plain(Writer *w, const Value *value) {
    w->shape->weight += value->kind == VALUE_OP || value->kind == VALUE_LOAD || value->kind == VALUE_TREE
                            ? (value->type.lanes + 7) / 8
                            : 0;
    put(w, (int64_t)value->kind);
    put_type(w, value->type);
    put(w, value->kind == VALUE_OP || value->kind == VALUE_TREE ? (int64_t)value->op : -1);
    put(w, value->number.integer); /* a real's bits */
    if (value->kind == VALUE_LOAD)
        put_reference(w, value->buffer);
    if (value->kind == VALUE_REGISTER || value->kind == VALUE_VARIABLE)
        put_reference(w, value->statement);
    if (value->kind == VALUE_CONTEXT) {
        put(w, (int64_t)value->field);
        w->shape->fields[value->field] = true;
    }
    bool is_call = value->kind == VALUE_CALL || (value->kind == VALUE_OP && op_table[value->op].class == CLASS_MATH);
    if (is_call) {
        note_math(w, value->function);
        put(w, (int64_t)(uintptr_t)value->function);
    }
    for (int i = 0; i < value->arg_count; i++)
        put_value(w, value->args[i]);
}

static void put_block(Writer *w, const Block *block);

static void put_statement(Writer *w, const Statement *s) {
    if (s->kind == STATEMENT_COMMENT)
        return;
    put(w, 1000 + (int64_t)s->kind);
    switch (s->kind) {
    case STATEMENT_LOOP:
        put_reference(w, s);
        put_value(w, s->from);
        put_value(w, s->to);
        put(w, s->step);
        put(w, s->parallel);
        if (s->parallel && !w->shape->is_map)
            w->shape->fields[CONTEXT_THREAD] = w->shape->fields[CONTEXT_THREADS] = true;
        w->shape->weight += 5;
        break;
    case STATEMENT_LET:
        put_reference(w, s->value);
        put_plain(w, s->value);
        break;
    case STATEMENT_VAR:
        put_reference(w, s);
        put_type(w, s->type);
        put_value(w, s->value);
        break;
    case STATEMENT_SET:
        put_reference(w, s->target);
        put_value(w, s->value);
        break;
    case STATEMENT_STORE:
        put_reference(w, s->buffer);
        put_value(w, s->index);
        put_value(w, s->value);
        w->shape->weight += 2;
        break;
    case STATEMENT_IF:
        put_value(w, s->value);
        w->shape->weight += 3;
        break;
    case STATEMENT_PREFETCH:
        put_reference(w, s->buffer);
        put_value(w, s->index);
        put(w, s->write);
        w->shape->weight += 2;
        break;
    case STATEMENT_COMMENT:
        break;
    }
    put_block(w, &s->body);
    put(w, -2);
}

static void put_block(Writer *w, const Block *block) {
    for (int i = 0; i < block->count; i++)
        put_statement(w, block->at[i]);
}

/* ---- Buffers ----------------------------------------------------------------------------------------------------- */

static uint64_t buffer_end(const Buffer *buffer) {
    return buffer->offset + (uint64_t)buffer->elements * (uint64_t)scalar_bytes(buffer->scalar);
}

static bool overlaps_none(const Kernel *kernel, const Buffer *buffer) {
    for (int i = 0; i < kernel->buffer_count; i++) {
        const Buffer *other = kernel->buffers[i];
        if (other != buffer && other->offset < buffer_end(buffer) && buffer->offset < buffer_end(other))
            return false;
    }
    return true;
}

static void put_buffers(Writer *w, const Kernel *kernel) {
    Shape *shape = w->shape;
    shape->alone = arena_array(w->arena, bool, kernel->buffer_count + 1);
    shape->stored = arena_array(w->arena, bool, kernel->buffer_count + 1);
    for (int i = 0; i < kernel->buffer_count; i++) {
        const Buffer *buffer = kernel->buffers[i];
        shape->alone[i] = overlaps_none(kernel, buffer);
        for (int j = 0; j < kernel->written_count; j++)
            shape->stored[i] |= kernel->written[j] == buffer;
        put_reference(w, buffer);
        put(w, (int64_t)buffer->scalar * 8 + buffer_of_thread(buffer) * 4 + shape->alone[i] * 2 + shape->stored[i]);
    }
}

/* ---- Finding ----------------------------------------------------------------------------------------------------- */

/* For the next kernel: what the last one took is used again. */
static void start_over(Writer *w, Shape *shape) {
    w->shape = shape;
    w->words.count = 0;
    w->hash = 0;
    map_clear(&w->numbers);
    map_clear(&w->maths);
}

static void add_math(Shapes *shapes, Writer *w, const MathFunction *function) {
    Shape *shape = arena_new_of(shapes->arena, Shape);
    start_over(w, shape);
    put_block(w, &function->body);
    put_value(w, function->value);
    map_put(shapes->arena, &shapes->of_math, function, shape);
}

static void add_kernel(Shapes *shapes, Writer *w, const Kernel *kernel, bool is_map) {
    Shape *shape = arena_new_of(shapes->arena, Shape);
    shape->kernel = kernel;
    shape->is_map = is_map;
    shape->weight = 10 + 2 * kernel->buffer_count;
    start_over(w, shape);
    put(w, is_map);
    put_buffers(w, kernel);
    put_block(w, &kernel->body);
    size_t count = (size_t)w->words.count;
    for (int i = 0; i < shapes->all.count; i++) {
        const struct ShapeKey *key = &shapes->keys.at[i];
        if (key->hash == w->hash && key->count == count &&
            !memcmp(key->words, w->words.at, count * sizeof *key->words)) {
            map_put(shapes->arena, &shapes->of_kernel, kernel, shapes->all.at[i]);
            return;
        }
    }
    int64_t *words = arena_array(shapes->arena, int64_t, count);
    memcpy(words, w->words.at, count * sizeof *words);
    *LIST_ADD(shapes->arena, &shapes->all) = shape;
    *LIST_ADD(shapes->arena, &shapes->keys) = (struct ShapeKey){w->hash, words, count};
    map_put(shapes->arena, &shapes->of_kernel, kernel, shape);
}

static Shape *called_shape(const Shapes *shapes, const Kernel *kernel) {
    return map_find(&shapes->of_kernel, kernel);
}

void shapes_find(Arena *arena, const Module *module, Shapes *shapes) {
    *shapes = (Shapes){.arena = arena, .scratch_bytes = module->scratch_bytes};
    Writer writer = {.arena = arena};
    for (int i = 0; i < module->maths.count; i++)
        add_math(shapes, &writer, module->maths.at[i]);
    for (int i = 0; i < module->functions.count; i++) {
        const Function *function = module->functions.at[i];
        for (int k = 0; k < function->step_count; k++) {
            const Kernel *kernel = function->steps[k].kernel;
            if (function->steps[k].kind != STEP_KERNEL)
                continue;
            if (!map_find(&shapes->of_kernel, kernel))
                add_kernel(shapes, &writer, kernel, function->is_map);
            called_shape(shapes, kernel)->calls++;
        }
    }
}

void shapes_heat(const Shapes *shapes, const Function *function) {
    for (int i = 0; i < function->step_count; i++)
        if (function->steps[i].kind == STEP_KERNEL)
            called_shape(shapes, function->steps[i].kernel)->hot = true;
}

/* A function that is not worth threads does so little that its kernels' calls are felt. */
void shapes_join(const Shapes *shapes, const Function *function) {
    int weight = 0;
    for (int i = 0; i < function->step_count; i++)
        if (function->steps[i].kind == STEP_KERNEL)
            weight += called_shape(shapes, function->steps[i].kernel)->weight;
    if (function->parallel || weight > MOST_JOINED)
        return;
    for (int i = 0; i < function->step_count; i++)
        if (function->steps[i].kind == STEP_KERNEL) {
            Shape *shape = called_shape(shapes, function->steps[i].kernel);
            shape->joined = shape->calls == 1;
        }
}

const Shape *shape_of(const Shapes *shapes, const Kernel *kernel) {
    const Shape *shape = map_find(&shapes->of_kernel, kernel);
    if (!shape)
        BUG("kernel %s is in no function of its module", kernel->name);
    return shape;
}

const Shape *shape_of_math(const Shapes *shapes, const MathFunction *function) {
    const Shape *shape = map_find(&shapes->of_math, function);
    if (!shape)
        BUG("math function %s is not listed in its module", function->name);
    return shape;
}
