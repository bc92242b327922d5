/* --emit=memory: what the block holds, what lives when, and where. */
#include "memory.h"

#include "../graph/print.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LIFE_COLUMNS = 40, MAP_COLUMNS = 96 };

/* ---- what there is ----------------------------------------------------------------------------------------------- */

const char *memory_role(const Buffer *buffer) {
    static const char *const roles[] = {
        [BUFFER_SCALARS] = "scalars", [BUFFER_PARAMETER] = "parameter", [BUFFER_STATE] = "state",
        [BUFFER_FEED] = "batch",      [BUFFER_TEMPORARY] = "value",     [BUFFER_OUTPUT] = "result",
        [BUFFER_TOTALS] = "totals",   [BUFFER_SCRATCH] = "scratch",     [BUFFER_ARGUMENT] = "argument"};
    return roles[buffer->role];
}

void memory_shape(const Buffer *buffer, Text *out) {
    text_add(out, "[");
    if (buffer->per_row)
        text_add(out, "rows");
    for (int i = 0; i < buffer->rank; i++)
        text_printf(out, "%s%" PRId64, i || buffer->per_row ? ", " : "", buffer->dims[i]);
    text_add(out, "]");
}

void memory_size(uint64_t bytes, Text *out) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    double size = (double)bytes;
    int unit = 0;
    for (; size >= 1024 && unit < 4; unit++)
        size /= 1024;
    text_printf(out, unit && size < 100 ? "%.1f %s" : "%.0f %s", size, units[unit]);
}

static uint64_t tensor_bytes(const GraphProgram *program, bool state) {
    uint64_t bytes = 0;
    for (int i = 0; i < program->tensors.count; i++)
        if (program->tensors.at[i]->state == state)
            bytes += buffer_bytes(program->tensors.at[i]->buffer);
    return bytes;
}

/* Row-major in a file or in memory: without padding. */
static uint64_t kept_bytes(const GraphTrain *train) {
    uint64_t bytes = 0;
    for (int i = 0; train->monitor >= 0 && i < train->trainable.count; i++) {
        uint64_t elements = 1;
        for (int d = 0; d < train->trainable.at[i]->rank; d++)
            elements *= (uint64_t)train->trainable.at[i]->dims[d];
        bytes += elements * sizeof(float);
    }
    return bytes;
}

static uint64_t greater(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t function_room(const Module *module, const Function *function) {
    uint64_t end = module->room;
    for (int i = 0; i < function->buffer_count && !function->is_double && !function->is_map; i++)
        if (buffer_shares_room(function->buffers[i]))
            end = greater(end, function->buffers[i]->offset + buffer_bytes(function->buffers[i]));
    return end - module->room;
}

MemoryUse memory_use(const GraphProgram *program, const Module *module, const Machine *machine) {
    MemoryUse use = {.scalars = buffer_bytes(program->scalars), .threads = 1};
    use.parameters = tensor_bytes(program, false);
    use.states = tensor_bytes(program, true);
    use.results = module->room - use.scalars - use.parameters - use.states;
    use.block = module->memory_bytes;
    use.room = module->memory_bytes - module->room;
    for (int i = 0; i < module->functions.count; i++) {
        const Function *function = module->functions.at[i];
        if (function->parallel && !function->is_double)
            use.threads = machine->cores;
        uint64_t room = function_room(module, function);
        if (room > 0 && (!use.widest || room > function_room(module, use.widest)))
            use.widest = function;
    }
    use.scratch = module->scratch_bytes * (uint64_t)use.threads;
    for (int i = 0; i < program->trains.count; i++) {
        const GraphTrain *train = program->trains.at[i];
        uint64_t *kept = train->best_in_file ? &use.kept_in_file : &use.kept;
        *kept = greater(*kept, kept_bytes(train));
        for (int j = 0; j < train->checks.count; j++)
            use.check = greater(use.check, train->checks.at[j]->bytes);
    }
    return use;
}

static int life_order(const void *left, const void *right) {
    const MemoryLife *a = left, *b = right;
    if (a->first != b->first)
        return a->first - b->first;
    return a->buffer->offset < b->buffer->offset ? -1 : a->buffer->offset > b->buffer->offset;
}

static int needs_order(const void *left, const void *right) {
    const MemoryMap *a = left, *b = right;
    if (a->needs != b->needs)
        return a->needs > b->needs ? -1 : 1;
    return strcmp(a->function->name, b->function->name);
}

MemoryMap memory_map(Arena *arena, const Module *module, const Function *function) {
    MemoryMap map = {.function = function, .needs = function_room(module, function)};
    int *number = arena_array(arena, int, function->step_count + 2), steps = 0; /* by step: kernels up to it */
    map.kernels = arena_array(arena, const Kernel *, function->step_count + 1);
    for (int s = 0; s < function->step_count; s++) {
        if (function->steps[s].kernel)
            map.kernels[map.kernel_count++] = function->steps[s].kernel;
        if (function->steps[s].kind != STEP_BARRIER)
            number[steps++] = map.kernel_count;
    }
    map.lives = arena_array(arena, MemoryLife, function->buffer_count + 1);
    for (int i = 0; i < function->buffer_count; i++) {
        const Buffer *buffer = function->buffers[i];
        if (!buffer_shares_room(buffer) || buffer->first_use > buffer->last_use)
            continue;
        MemoryLife life = {buffer, buffer->first_use < 0 ? 0 : number[buffer->first_use],
                           buffer->last_use >= steps ? map.kernel_count : number[buffer->last_use]};
        map.lives[map.life_count++] = life;
    }
    qsort(map.lives, (size_t)map.life_count, sizeof *map.lives, life_order);
    for (int k = 0; k <= map.kernel_count; k++) {
        uint64_t live = 0;
        for (int i = 0; i < map.life_count; i++)
            if (map.lives[i].first <= k && k <= map.lives[i].last)
                live += buffer_bytes(map.lives[i].buffer);
        if (live > map.live) {
            map.live = live;
            map.fullest = k;
        }
    }
    return map;
}

int memory_maps(Arena *arena, const Module *module, MemoryMap **maps) {
    *maps = arena_array(arena, MemoryMap, module->functions.count + 1);
    int count = 0;
    for (int i = 0; i < module->functions.count; i++)
        if (function_room(module, module->functions.at[i]) > 0)
            (*maps)[count++] = memory_map(arena, module, module->functions.at[i]);
    qsort(*maps, (size_t)count, sizeof **maps, needs_order);
    return count;
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static void print_size(Text *out, const char *what, uint64_t bytes, const char *note) {
    Text size = {0};
    memory_size(bytes, &size);
    text_printf(out, "  %-22s %14" PRIu64 " %10s%s%s\n", what, bytes, size.at, *note ? "   " : "", note);
    text_free(&size);
}

static int64_t tensor_elements(const GraphProgram *program, bool state) {
    int64_t elements = 0;
    for (int i = 0; i < program->tensors.count; i++) {
        const Tensor *tensor = program->tensors.at[i];
        int64_t count = tensor->state == state;
        for (int d = 0; d < tensor->rank; d++)
            count *= tensor->dims[d];
        elements += count;
    }
    return elements;
}

static void print_whole(const GraphProgram *program, const MemoryUse *use, Arena *arena, Text *out) {
    text_printf(out, "%s, in bytes\n\n", program->program->path);
    print_size(out, "scalars", use->scalars, "");
    print_size(out, "parameters", use->parameters,
               arena_printf(arena, "%" PRId64 " numbers", tensor_elements(program, false)));
    print_size(out, "optimizer state", use->states,
               arena_printf(arena, "%" PRId64 " numbers", tensor_elements(program, true)));
    print_size(out, "sums and metrics", use->results, "");
    print_size(out, "shared by functions", use->room,
               use->widest ? arena_printf(arena, "one runs at a time; %s needs the most", use->widest->name) : "");
    print_size(out, "the block", use->block, "all of these, allocated when the program starts");
    if (use->scratch)
        print_size(
            out, "scratch", use->scratch,
            arena_printf(arena, "behind the block, for %d thread%s", use->threads, use->threads == 1 ? "" : "s"));
    if (use->kept)
        print_size(out, "best weights", use->kept, "kept by early_stopping while the phase runs");
    if (use->kept_in_file)
        print_size(out, "best weights", use->kept_in_file,
                   "kept by early_stopping, in a file: --max-mem leaves no room");
    if (use->check)
        print_size(out, "--check-grad", use->check, "a block of its own, only then");
    text_add(out, "\nRows of data come on top of it.\n");
}

static int widest_name(const Buffer *const *buffers, int count) {
    int width = 4;
    for (int i = 0; i < count; i++)
        width = (int)strlen(buffers[i]->shown) > width ? (int)strlen(buffers[i]->shown) : width;
    return width > 40 ? 40 : width;
}

static void print_row(Text *out, int width, const Buffer *buffer) {
    Text shape = {0};
    memory_shape(buffer, &shape);
    text_printf(out, "  %-*s %-18s %-10s %13" PRIu64 " %14" PRIu64, width, buffer->shown, shape.at, memory_role(buffer),
                buffer_bytes(buffer), buffer->offset);
    text_free(&shape);
}

static void print_heading(Text *out, int width) {
    text_printf(out, "  %-*s %-18s %-10s %13s %14s", width, "name", "shape", "role", "bytes", "offset");
}

static void print_tensors(const GraphProgram *program, Arena *arena, Text *out) {
    const Buffer **buffers = arena_array(arena, const Buffer *, program->tensors.count + 1);
    for (int i = 0; i < program->tensors.count; i++)
        buffers[i] = program->tensors.at[i]->buffer;
    int width = widest_name(buffers, program->tensors.count);
    text_add(out, "\nFor good\n");
    print_heading(out, width);
    text_add(out, " line\n");
    for (int i = 0; i < program->tensors.count; i++) {
        const Tensor *tensor = program->tensors.at[i];
        print_row(out, width, tensor->buffer);
        Text where = {0};
        span_text(tensor->span, &where);
        text_printf(out, " %s\n", where.at ? where.at : "");
        text_free(&where);
    }
}

/* ---- the picture in letters -------------------------------------------------------------------------------------- */

/* One mark a kernel, or a few kernels where there are many; the batch is there before the first. */
static void print_life(Text *out, const MemoryMap *map, const MemoryLife *life) {
    int each = (map->kernel_count + LIFE_COLUMNS) / LIFE_COLUMNS;
    for (int k = 0; k <= map->kernel_count; k += each)
        text_add(out, life->first < k + each && life->last >= k ? "#" : ".");
}

/* A buffer fills the columns from where it begins to where it ends; its name stands in them where it fits. */
static void print_moment(Text *out, const MemoryMap *map, uint64_t base, int kernel) {
    char line[MAP_COLUMNS + 1];
    memset(line, ' ', MAP_COLUMNS);
    line[MAP_COLUMNS] = 0;
    for (int i = 0; i < map->life_count; i++) {
        const MemoryLife *life = &map->lives[i];
        if (life->first > kernel || life->last < kernel)
            continue;
        double scale = (double)MAP_COLUMNS / (double)map->needs;
        int from = (int)((double)(life->buffer->offset - base) * scale + 0.5);
        int to = (int)((double)(life->buffer->offset - base + buffer_bytes(life->buffer)) * scale + 0.5);
        if (to <= from)
            continue; /* too small to be seen */
        memset(line + from, '-', (size_t)(to - from));
        line[from] = '[';
        line[to - 1] = to - 1 > from ? ']' : '|';
        size_t length = strlen(life->buffer->shown), space = (size_t)(to - from);
        if (length + 2 <= space)
            memcpy(line + from + (space - length) / 2, life->buffer->shown, length);
    }
    text_printf(out, "  %4d |%s|\n", kernel, line);
}

static bool same_moment(const MemoryMap *map, int a, int b) {
    for (int i = 0; i < map->life_count; i++)
        if ((map->lives[i].first <= a && a <= map->lives[i].last) !=
            (map->lives[i].first <= b && b <= map->lives[i].last))
            return false;
    return true;
}

static void print_picture(const Module *module, const MemoryMap *map, Text *out) {
    Text size = {0};
    memory_size(map->needs, &size);
    text_printf(out, "\n  what lives in which kernel (down), and where (across, 0 to %s)\n", size.at);
    text_free(&size);
    for (int k = 0; k <= map->kernel_count; k++)
        if (k == 0 || !same_moment(map, k - 1, k))
            print_moment(out, map, module->room, k);
}

static void print_function(const Module *module, const MemoryMap *map, Arena *arena, Text *out) {
    const Buffer **buffers = arena_array(arena, const Buffer *, map->life_count + 1);
    Text needs = {0}, live = {0};
    for (int i = 0; i < map->life_count; i++)
        buffers[i] = map->lives[i].buffer;
    int width = widest_name(buffers, map->life_count);
    memory_size(map->needs, &needs);
    memory_size(map->live, &live);
    text_printf(out, "\n%s: up to %" PRId64 " row%s; needs %s, %s alive at once", map->function->name,
                map->function->capacity, map->function->capacity == 1 ? "" : "s", needs.at, live.at);
    text_printf(out, map->fullest ? " in kernel %d of %d\n" : " before the first kernel\n", map->fullest,
                map->kernel_count);
    for (int k = 0; k < map->kernel_count; k++) {
        Text where = {0};
        span_text(map->kernels[k]->span, &where);
        text_printf(out, "  %4d %s%s%s\n", k + 1, map->kernels[k]->name, where.at ? "  " : "",
                    where.at ? where.at : "");
        text_free(&where);
    }
    print_heading(out, width);
    text_printf(out, " %8s life\n", "kernels");
    for (int i = 0; i < map->life_count; i++) {
        const MemoryLife *life = &map->lives[i];
        print_row(out, width, life->buffer);
        text_printf(out, " %4d-%-3d ", life->first, life->last);
        print_life(out, map, life);
        text_add(out, "\n");
    }
    print_picture(module, map, out);
    text_free(&needs);
    text_free(&live);
}

static void print_scratch(const Module *module, Arena *arena, Text *out) {
    bool any = false;
    for (int f = 0; f < module->functions.count; f++) {
        const Function *function = module->functions.at[f];
        for (int i = 0; i < function->buffer_count; i++) {
            const Buffer *buffer = function->buffers[i];
            if (!buffer_of_thread(buffer) || function->is_double)
                continue;
            if (!any)
                text_add(out, "\nScratch of each thread\n");
            any = true;
            print_row(out, 24, buffer);
            text_printf(out, " %s\n", function->name);
        }
    }
    (void)arena;
}

void print_memory(const GraphProgram *program, const Module *module, const Machine *machine, Text *out) {
    Arena *arena = arena_new();
    MemoryUse use = memory_use(program, module, machine);
    MemoryMap *maps;
    int count = memory_maps(arena, module, &maps);
    print_whole(program, &use, arena, out);
    print_tensors(program, arena, out);
    for (int i = 0; i < count; i++)
        print_function(module, &maps[i], arena, out);
    print_scratch(module, arena, out);
    arena_free(arena);
}
