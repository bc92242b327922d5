/* Before: functions whose buffers have no place. After: every buffer has an offset, and barriers stand between kernels
   that touch the same bytes. Requires kernels in their final order.

   Persistent buffers (scalars, parameters, state, totals, sums and metrics) get places of their own; temporaries and
   feeds of all functions share the room behind them, since one function runs at a time, and within a function a buffer
   gives its room back after its last use. So do predictions: the runtime takes them before it calls the next
   function. The double functions of --check-grad live in a block of their own. */
#include "../graph/graph.h"

#include <string.h>

#define ALIGNMENT   64
#define SPARE_LANES 16 /* a load of lanes may pass the end of a buffer */

enum { ORDERS_TRIED = 40 };

uint64_t buffer_bytes(const Buffer *buffer) {
    uint64_t bytes = ((uint64_t)buffer->elements + SPARE_LANES) * (uint64_t)scalar_bytes(buffer->scalar);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t place(Buffer *buffer, uint64_t at) {
    buffer->offset = at;
    return at + buffer_bytes(buffer);
}

/* ---- lifetimes --------------------------------------------------------------------------------------------------- */

bool buffer_shares_room(const Buffer *buffer) {
    bool shares = buffer->role == BUFFER_TEMPORARY || buffer->role == BUFFER_FEED || buffer->taken_at_once;
    return shares && !buffer->own;
}

static void find_taken_at_once(Function *function) {
    for (int i = 0; i < function->buffer_count; i++) {
        Buffer *buffer = function->buffers[i];
        buffer->taken_at_once = buffer->role == BUFFER_OUTPUT && buffer->per_row && !function->is_double;
    }
}

static void find_lifetimes(Function *function) {
    for (int i = 0; i < function->buffer_count; i++) {
        Buffer *buffer = function->buffers[i];
        buffer->first_use = buffer->role == BUFFER_FEED ? -1 : INT32_MAX; /* the runtime fills feeds before the call */
        buffer->last_use = -1;
    }
    for (int s = 0; s < function->step_count; s++) {
        const Kernel *kernel = function->steps[s].kernel;
        for (int k = 0; kernel && k < kernel->buffer_count; k++) {
            Buffer *buffer = kernel->buffers[k];
            buffer->first_use = s < buffer->first_use ? s : buffer->first_use;
            buffer->last_use = s;
        }
    }
    for (int i = 0; i < function->buffer_count; i++)
        if (function->buffers[i]->taken_at_once)
            function->buffers[i]->last_use = function->step_count;
}

/* What each thread has of its own lies behind the block; functions share it, and so do a function's kernels, but for
   feeds. */
static uint64_t place_scratch(Function *function, uint64_t base) {
    uint64_t at = base;
    for (int i = 0; i < function->buffer_count; i++)
        if (function->buffers[i]->own)
            at = place(function->buffers[i], at);
    uint64_t end = at;
    for (int s = 0; s < function->step_count; s++) {
        const Kernel *kernel = function->steps[s].kernel;
        uint64_t behind = at;
        for (int i = 0; kernel && i < kernel->buffer_count; i++)
            if (kernel->buffers[i]->role == BUFFER_SCRATCH)
                behind = place(kernel->buffers[i], behind);
        end = behind > end ? behind : end;
    }
    return end - base;
}

static bool alive_together(const Buffer *a, const Buffer *b) {
    return a->first_use <= b->last_use && b->first_use <= a->last_use;
}

/* What the prefixes of phases made, by its place, when a batch of the next function is gathered from it: it lives until
   the function's first step. */
typedef LIST(Buffer *) Waiting;

/* First fit: each in turn at the lowest place that is free during its life. `placed` has room for these and those that
   wait, by their places. Returns where the room ends. */
static uint64_t place_in_order(Buffer **order, int count, uint64_t base, const Waiting *waiting, Buffer **placed) {
    uint64_t end = base;
    for (int i = 0; i < waiting->count; i++)
        placed[i] = waiting->at[i];
    for (int i = 0; i < count; i++) {
        Buffer *buffer = order[i];
        uint64_t at = base, bytes = buffer_bytes(buffer);
        for (int j = 0; j < i + waiting->count && placed[j]->offset < at + bytes; j++) {
            uint64_t other_end = placed[j]->offset + buffer_bytes(placed[j]);
            if (at < other_end && alive_together(buffer, placed[j]))
                at = other_end;
        }
        uint64_t buffer_end = place(buffer, at);
        end = buffer_end > end ? buffer_end : end;
        int behind = i + waiting->count;
        for (; behind > 0 && placed[behind - 1]->offset > at; behind--)
            placed[behind] = placed[behind - 1];
        placed[behind] = buffer;
    }
    return end;
}

/* What lives at the fullest moment: no plan needs less. */
static uint64_t alive_at_once(Arena *arena, Buffer *const *buffers, int count, int step_count) {
    uint64_t *born = arena_array(arena, uint64_t, step_count + 3); /* bytes, by step + 1 */
    uint64_t *dead = arena_array(arena, uint64_t, step_count + 3);
    for (int i = 0; i < count; i++)
        if (buffers[i]->first_use <= buffers[i]->last_use) {
            born[buffers[i]->first_use + 1] += buffer_bytes(buffers[i]);
            dead[buffers[i]->last_use + 2] += buffer_bytes(buffers[i]);
        }
    uint64_t most = 0, alive = 0;
    for (int i = 0; i < step_count + 3; i++) {
        alive += born[i] - dead[i];
        most = alive > most ? alive : most;
    }
    return most;
}

/* The buffer that ends last is placed before half of those that it waited for. */
static void place_earlier(Buffer **order, int count) {
    int last = 0;
    for (int i = 1; i < count; i++)
        if (order[i]->offset + buffer_bytes(order[i]) > order[last]->offset + buffer_bytes(order[last]))
            last = i;
    Buffer *buffer = order[last];
    memmove(order + last / 2 + 1, order + last / 2, sizeof *order * (size_t)(last - last / 2));
    order[last / 2] = buffer;
}

/* The largest first; as long as that leaves holes, other orders are tried. Returns where the room ends. */
static uint64_t place_shared(Arena *arena, Function *function, uint64_t base, const Waiting *waiting) {
    Buffer **order = arena_array(arena, Buffer *, function->buffer_count + 1);
    Buffer **best = arena_array(arena, Buffer *, function->buffer_count + 1);
    Buffer **placed = arena_array(arena, Buffer *, function->buffer_count + waiting->count + 1);
    int count = 0;
    for (int i = 0; i < function->buffer_count; i++) {
        if (!buffer_shares_room(function->buffers[i]))
            continue;
        int at = count++;
        for (; at > 0 && buffer_bytes(order[at - 1]) < buffer_bytes(function->buffers[i]); at--)
            order[at] = order[at - 1];
        order[at] = function->buffers[i];
    }
    uint64_t least = base + alive_at_once(arena, order, count, function->step_count), end = UINT64_MAX;
    for (int i = 0; i < ORDERS_TRIED && end > least; i++) {
        uint64_t now = place_in_order(order, count, base, waiting, placed);
        if (now < end) {
            memcpy(best, order, sizeof *order * (size_t)count);
            end = now;
        }
        place_earlier(order, count);
    }
    return place_in_order(best, count, base, waiting, placed);
}

/* ---- barriers ---------------------------------------------------------------------------------------------------- */

static bool overlap(const Buffer *a, const Buffer *b) {
    if (a->role == BUFFER_ARGUMENT || b->role == BUFFER_ARGUMENT)
        return a == b;
    if (buffer_of_thread(a) || buffer_of_thread(b))
        return false;
    return a->offset < b->offset + buffer_bytes(b) && b->offset < a->offset + buffer_bytes(a);
}

static bool touches(Buffer *const *some, int some_count, Buffer *const *others, int count) {
    for (int i = 0; i < some_count; i++)
        for (int j = 0; j < count; j++)
            if (overlap(some[i], others[j]))
                return true;
    return false;
}

static bool depends(const Kernel *before, const Kernel *after) {
    return touches(before->written, before->written_count, after->buffers, after->buffer_count) ||
           touches(after->written, after->written_count, before->buffers, before->buffer_count);
}

static void place_barriers(Arena *arena, Function *function) {
    Step *steps = arena_array(arena, Step, function->step_count * 2 + 1);
    int count = 0, since = 0; /* kernels since the last barrier begin at steps[since] */
    for (int s = 0; s < function->step_count; s++) {
        const Step *step = &function->steps[s];
        bool wait = step->kind == STEP_GUARD || step->kind == STEP_WHEN || step->kind == STEP_END;
        for (int i = since; i < count && step->kernel; i++)
            wait |= steps[i].kernel && depends(steps[i].kernel, step->kernel);
        if (wait && count > 0) {
            steps[count++] = (Step){STEP_BARRIER, NULL, NULL, 0};
            since = count;
        }
        steps[count++] = *step;
    }
    function->steps = steps;
    function->step_count = count;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static uint64_t place_persistent(GraphProgram *program, Module *module) {
    uint64_t at = place(program->scalars, 0);
    for (int i = 0; i < program->tensors.count; i++)
        at = place(program->tensors.at[i]->buffer, at);
    for (int i = 0; i < module->functions.count; i++) {
        Function *function = module->functions.at[i];
        if (function->is_double)
            continue;
        for (int j = 0; j < function->buffer_count; j++) {
            Buffer *buffer = function->buffers[j];
            bool own = buffer->role == BUFFER_OUTPUT || buffer->role == BUFFER_TOTALS ||
                       buffer->role == BUFFER_STATE; /* no tensor: those have a place */
            if (own && !buffer->taken_at_once && buffer->offset == 0)
                at = place(buffer, at);
        }
    }
    return at;
}

/* Totals that no finish function reads are written by the runtime all the same. */
static uint64_t place_measure(const GraphMeasure *measure, uint64_t at) {
    for (int i = 0; i < measure->passes.count; i++) {
        if (measure->passes.at[i].totals->offset == 0)
            at = place(measure->passes.at[i].totals, at);
        if (measure->passes.at[i].sums->offset == 0)
            at = place(measure->passes.at[i].sums, at);
    }
    return at;
}

static void plan_check(GraphProgram *program, GraphCheck *check) {
    uint64_t scalars = buffer_bytes(program->scalars),
             at = scalars; /* the check's block begins with the scalars, too */
    at = place(check->loss_buffer, at);
    for (int i = 0; i < check->tensors.count; i++) {
        at = place(check->parameters.at[i], at);
        if (check->gradients.at[i])
            at = place(check->gradients.at[i], at);
    }
    Function *functions[2] = {check->loss->kernels, check->gradient->kernels};
    uint64_t end = at;
    for (int i = 0; i < 2; i++) {
        find_lifetimes(functions[i]);
        uint64_t used = place_shared(program->arena, functions[i], at, &(Waiting){0});
        end = used > end ? used : end;
    }
    check->bytes = end;
}

static bool is_prefix(const GraphProgram *program, const Function *function) {
    for (int i = 0; i < program->trains.count; i++)
        if (program->trains.at[i]->prefix && program->trains.at[i]->prefix->kernels == function)
            return true;
    return false;
}

static bool reads_prefix(const GraphProgram *program, const Function *function) {
    for (int i = 0; i < function->buffer_count; i++)
        for (int t = 0; function->buffers[i]->role == BUFFER_FEED && t < program->trains.count; t++)
            for (int j = 0; j < program->trains.at[t]->kept.count; j++)
                if (program->trains.at[t]->kept.at[j].input->integer == function->buffers[i]->slot)
                    return true;
    return false;
}

/* Where nothing is kept, a step's batch is gathered from what its prefix has just made. Returns where the room ends. */
static uint64_t place_prefix(Arena *arena, const GraphTrain *train, uint64_t base, uint64_t end, Waiting *waiting) {
    if (!train->prefix)
        return end;
    find_lifetimes(train->prefix->kernels);
    uint64_t used = place_shared(arena, train->prefix->kernels, base, &(Waiting){0});
    for (int i = 0; i < train->kept.count; i++) {
        Buffer *made = arena_new_of(arena, Buffer);
        *made = *train->kept.at[i].buffer;
        made->first_use = made->last_use = -1; /* as feeds begin */
        *LIST_ADD(arena, waiting) = made;
        for (int at = waiting->count - 1; at > 0 && waiting->at[at - 1]->offset > waiting->at[at]->offset; at--) {
            Buffer *later = waiting->at[at - 1];
            waiting->at[at - 1] = waiting->at[at];
            waiting->at[at] = later;
        }
    }
    return used > end ? used : end;
}

static void forget_measure(const GraphMeasure *measure) {
    for (int i = 0; i < measure->passes.count; i++)
        measure->passes.at[i].totals->offset = measure->passes.at[i].sums->offset = 0;
}

/* An earlier plan may have given them a place. */
static void forget_places(const GraphProgram *program, const Module *module) {
    for (int i = 0; i < module->functions.count; i++)
        for (int j = 0; j < module->functions.at[i]->buffer_count; j++)
            module->functions.at[i]->buffers[j]->offset = 0;
    for (int i = 0; i < program->trains.count; i++) {
        forget_measure(&program->trains.at[i]->training);
        forget_measure(&program->trains.at[i]->validation);
    }
    for (int i = 0; i < program->evaluates.count; i++)
        forget_measure(&program->evaluates.at[i]->measure);
}

void plan_memory(GraphProgram *program, Module *module) {
    forget_places(program, module);
    for (int i = 0; i < module->functions.count; i++)
        find_taken_at_once(module->functions.at[i]);
    uint64_t at = place_persistent(program, module), end;
    for (int i = 0; i < program->trains.count; i++) {
        at = place_measure(&program->trains.at[i]->training, at);
        at = place_measure(&program->trains.at[i]->validation, at);
    }
    for (int i = 0; i < program->evaluates.count; i++)
        at = place_measure(&program->evaluates.at[i]->measure, at);
    module->room = end = at;
    Waiting waiting = {0};
    for (int i = 0; i < program->trains.count; i++)
        end = place_prefix(program->arena, program->trains.at[i], at, end, &waiting);
    for (int i = 0; i < module->functions.count; i++) {
        Function *function = module->functions.at[i];
        if (function->is_double || function->is_map || is_prefix(program, function))
            continue;
        find_lifetimes(function);
        bool reads = reads_prefix(program, function);
        uint64_t used = place_shared(program->arena, function, at, reads ? &waiting : &(Waiting){0});
        end = used > end ? used : end;
    }
    module->memory_bytes = end;
    for (int i = 0; i < module->functions.count; i++) {
        Function *function = module->functions.at[i];
        uint64_t used = function->is_double ? 0 : place_scratch(function, end);
        module->scratch_bytes = used > module->scratch_bytes ? used : module->scratch_bytes;
    }
    for (int i = 0; i < program->trains.count; i++)
        for (int j = 0; j < program->trains.at[i]->checks.count; j++)
            plan_check(program, program->trains.at[i]->checks.at[j]);
    for (int i = 0; i < module->functions.count; i++)
        if (!module->functions.at[i]->is_map)
            place_barriers(program->arena, module->functions.at[i]);
}
