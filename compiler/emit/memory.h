/* The plan of memory as people read it: --emit=memory as text and as a picture in SVG, and --max-mem. Sizes are in bytes;
   KB, MB and GB are powers of 1024. */
#ifndef BPC_EMIT_MEMORY_H
#define BPC_EMIT_MEMORY_H

#include "../graph/graph.h"

/* What a run asks of the machine, besides its rows of data. */
typedef struct MemoryUse {
    uint64_t scalars, parameters, states, results; /* results: sums, metrics, totals */
    uint64_t room;    /* what functions share: batches, activations, gradients, predictions */
    uint64_t block;   /* all of these */
    uint64_t scratch; /* behind the block, for all threads */
    int threads;      /* so many: the machine's cores, where any function is worth them */
    uint64_t kept; /* the best weights that early stopping keeps, of the phase with the most; 0: none, or in a file */
    uint64_t kept_in_file;
    uint64_t check;         /* --check-grad: a block of its own, only then */
    const Function *widest; /* the function that needs the most room; NULL: none needs any */
} MemoryUse;
MemoryUse memory_use(const GraphProgram *program, const Module *module, const Machine *machine);

/* One buffer in the room, as a function sees it. Kernels are counted from 1; 0: filled before the first. */
typedef struct MemoryLife {
    const Buffer *buffer;
    int first, last;
} MemoryLife;
typedef struct MemoryMap {
    const Function *function;
    const Kernel **kernels; /* [kernel_count] */
    int kernel_count;
    MemoryLife *lives; /* of what shares the room, in the order of first use, then offset */
    int life_count;
    uint64_t needs; /* bytes of the room */
    uint64_t live;  /* the most that is alive at once, in kernel `fullest` */
    int fullest;
} MemoryMap;
MemoryMap memory_map(Arena *arena, const Module *module, const Function *function);
/* Functions that use the room, those that need the most first. */
int memory_maps(Arena *arena, const Module *module, MemoryMap **maps);

const char *memory_role(const Buffer *buffer); /* "parameter", "batch" … */
void memory_shape(const Buffer *buffer, Text *out);
void memory_size(uint64_t bytes, Text *out); /* "27.4 MB" */

void print_memory(const GraphProgram *program, const Module *module, const Machine *machine, Text *out);
void draw_memory(const GraphProgram *program, const Module *module, const Machine *machine, Text *out); /* SVG */

/* Whether it does with the best weights of early stopping in a file. */
bool memory_fits(const GraphProgram *program, const Module *module, const Machine *machine, uint64_t most);
/* --max-mem. Where the plan asks for more than `most`, the best weights of early stopping go to a file; where that is not
   enough, an error says what takes the room and what would help. Returns whether it fits. */
bool memory_limit(const GraphProgram *program, const Module *module, const Machine *machine, uint64_t most);
/* "64M", "1.5G", "4096": bytes, K, M or G of 1024; 0: no such size. */
uint64_t memory_parse(const char *text);

#endif
