/* --max-mem: a program that would not fit is an error when compiling, which says what takes the room. */
#include "memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAMED = 6, TILE_ROWS = 16 };

uint64_t memory_parse(const char *text) {
    char *end = NULL;
    if (*text < '0' || *text > '9')
        return 0;
    double size = strtod(text, &end);
    switch (*end) {
    case 'K':
        size *= 0x1p10;
        end++;
        break;
    case 'M':
        size *= 0x1p20;
        end++;
        break;
    case 'G':
        size *= 0x1p30;
        end++;
        break;
    default:
        break;
    }
    return *end || !(size >= 1) || size > 0x1p62 ? 0 : (uint64_t)size;
}

/* ---- what takes the room ----------------------------------------------------------------------------------------- */

/* A parameter with its optimizer's state, or a value in the widest function at its fullest. */
typedef struct Taker {
    const Buffer *buffer;
    const Tensor *tensor;
    uint64_t bytes, state;
} Taker;

static int by_bytes(const void *left, const void *right) {
    const Taker *a = left, *b = right;
    uint64_t x = a->bytes + a->state, y = b->bytes + b->state;
    return x > y ? -1 : x < y ? 1 : strcmp(a->buffer->shown, b->buffer->shown);
}

/* fc1.weight:m is state of fc1.weight */
static uint64_t state_of(const GraphProgram *program, const Tensor *parameter) {
    size_t length = strlen(parameter->name);
    uint64_t bytes = 0;
    for (int i = 0; i < program->tensors.count; i++) {
        const Tensor *state = program->tensors.at[i];
        if (state->state && strncmp(state->name, parameter->name, length) == 0 && state->name[length] == ':')
            bytes += buffer_bytes(state->buffer);
    }
    return bytes;
}

static int find_takers(Arena *arena, const GraphProgram *program, const Module *module, const MemoryUse *use,
                       Taker **takers) {
    MemoryMap map = {0};
    if (use->widest)
        map = memory_map(arena, module, use->widest);
    int count = 0;
    *takers = arena_array(arena, Taker, program->tensors.count + map.life_count + 1);
    for (int i = 0; i < program->tensors.count; i++) {
        const Tensor *tensor = program->tensors.at[i];
        if (!tensor->state)
            (*takers)[count++] =
                (Taker){tensor->buffer, tensor, buffer_bytes(tensor->buffer), state_of(program, tensor)};
    }
    for (int i = 0; i < map.life_count; i++)
        if (map.lives[i].first <= map.fullest && map.fullest <= map.lives[i].last)
            (*takers)[count++] = (Taker){map.lives[i].buffer, NULL, buffer_bytes(map.lives[i].buffer), 0};
    qsort(*takers, (size_t)count, sizeof **takers, by_bytes);
    return count;
}

static void name_taker(const Taker *taker, const MemoryUse *use) {
    Text text = {0};
    text_printf(&text, "%s '%s' ",
                taker->tensor                        ? "parameter"
                : taker->buffer->role == BUFFER_FEED ? "the batch of"
                                                     : "value",
                taker->buffer->shown);
    memory_shape(taker->buffer, &text);
    text_add(&text, " takes ");
    memory_size(taker->bytes, &text);
    if (taker->state) {
        text_add(&text, ", and ");
        memory_size(taker->state, &text);
        text_add(&text, " of optimizer state");
    }
    if (!taker->tensor && taker->buffer->per_row)
        text_printf(&text, " for %" PRId64 " rows in %s", use->widest->capacity, use->widest->name);
    note_at(taker->tensor ? taker->tensor->span : taker->buffer->span, "%s", text.at);
    text_free(&text);
}

/* ---- what would help --------------------------------------------------------------------------------------------- */

static const GraphTrain *widest_phase(const GraphProgram *program, const MemoryUse *use) {
    for (int i = 0; i < program->trains.count; i++) {
        const GraphTrain *train = program->trains.at[i];
        if (train->training.passes.count && train->training.passes.at[0].accumulate->kernels == use->widest)
            return train;
        if (train->trace && train->trace->kernels == use->widest)
            return train;
    }
    return NULL;
}

/* A function that needs more than is left however few rows a batch of the phase has, or NULL. */
static const Function *stays_too_wide(Arena *arena, const Module *module, const GraphTrain *phase, uint64_t left) {
    MemoryMap *maps;
    int count = memory_maps(arena, module, &maps);
    for (int i = 0; i < count; i++)
        if (maps[i].needs > left && maps[i].function->capacity != phase->plan->batch_size)
            return maps[i].function;
    return NULL;
}

/* A little less than division says: a batch is stored with room for whole tiles, each buffer has some bytes of its own, and
   tiles and scratch are cut anew for another batch. */
static void say_batch(Arena *arena, const Module *module, const MemoryUse *use, const GraphTrain *phase,
                      uint64_t left) {
    MemoryMap map = memory_map(arena, module, use->widest);
    uint64_t row = use->room / (uint64_t)use->widest->capacity + 1, own = (uint64_t)map.life_count * 128;
    uint64_t rows = left > own ? (left - own) / row : 0;
    rows -= rows / 32;
    if (rows > TILE_ROWS)
        note_at(phase->plan->span, "what depends on the batch does not fit: batch_size %" PRIu64 " would",
                rows - TILE_ROWS);
    else
        note_at(phase->plan->span, "what depends on the batch does not fit: %s",
                rows > 0 ? "a batch_size of a few rows may" : "smaller layers would help");
}

static void say_remedy(Arena *arena, const GraphProgram *program, const Module *module, const MemoryUse *use,
                       uint64_t most, Span span) {
    const GraphTrain *phase = widest_phase(program, use);
    uint64_t for_good = use->scalars + use->parameters + use->results + use->scratch;
    if (for_good > most) {
        note_at(span, "the parameters alone do not fit: smaller layers would help, a smaller batch_size would not");
        return;
    }
    if (use->states && for_good + use->states > most) {
        note_at(span, "parameters and optimizer state do not fit: sgd without momentum keeps no state");
        return;
    }
    uint64_t left = most - for_good - use->states;
    const Function *wide = phase ? stays_too_wide(arena, module, phase, left) : use->widest;
    if (wide)
        note_at(span, "what %s computes for its rows does not fit: smaller layers would help", wide->name);
    else
        say_batch(arena, module, use, phase, left);
}

static Span program_span(const GraphProgram *program) {
    return program->trains.count   ? program->trains.at[0]->plan->span
           : program->models.count ? program->models.at[0]->span
                                   : SPAN_NONE;
}

/* With the best weights in a file, if need be. */
bool memory_fits(const GraphProgram *program, const Module *module, const Machine *machine, uint64_t most) {
    MemoryUse use = memory_use(program, module, machine);
    return use.block + use.scratch <= most;
}

bool memory_limit(const GraphProgram *program, const Module *module, const Machine *machine, uint64_t most) {
    MemoryUse use = memory_use(program, module, machine);
    if (use.block + use.scratch + use.kept <= most)
        return true;
    for (int i = 0; i < program->trains.count; i++)
        program->trains.at[i]->best_in_file = program->trains.at[i]->monitor >= 0;
    if (use.block + use.scratch <= most)
        return true;
    Arena *arena = arena_new();
    Text needs = {0}, allowed = {0};
    Taker *takers;
    int count = find_takers(arena, program, module, &use, &takers);
    memory_size(use.block + use.scratch, &needs);
    memory_size(most, &allowed);
    Span span = program_span(program);
    error_at(span, "the program needs %s of memory besides its rows, and --max-mem allows %s", needs.at, allowed.at);
    for (int i = 0; i < count && i < MOST_NAMED; i++)
        name_taker(&takers[i], &use);
    say_remedy(arena, program, module, &use, most, span);
    text_free(&needs);
    text_free(&allowed);
    arena_free(arena);
    return false;
}
