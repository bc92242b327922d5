/* Kernels that are the same function: for both printers. */
#ifndef BPC_SHARE_H
#define BPC_SHARE_H

#include "kernel.h"

/* ---- Shapes ------------------------------------------------------------------------------------------------------ */
/* One function of the program: what several kernels do that differ in nothing but where their buffers lie. */
typedef struct Shape {
    const Kernel *kernel; /* the first of them, which gives it its name */
    bool is_map;
    bool fields[CONTEXT_THREADS + 1]; /* what it reads of the context: parameters behind its buffers, in this order */
    bool *alone;                      /* [kernel->buffer_count] overlaps no other buffer of the kernel */
    bool *stored;                     /* [kernel->buffer_count] */
    LIST(const MathFunction *) maths; /* those it calls, each once */
    int weight;                       /* an estimate of its instructions of LLVM IR */
    bool hot;                         /* LLVM's passes may unroll and vectorize its loops */
    int calls;                        /* in all functions */
    bool joined;                      /* part of the one function that calls it, for LLVM */
} Shape;

typedef struct Shapes {
    Arena *arena;
    uint64_t scratch_bytes; /* of the module */
    LIST(Shape *) all;
    LIST(struct ShapeKey {
        uint64_t hash;
        const int64_t *words; /* what it does */
        size_t count;
    }) keys; /* of each */
    PointerMap of_kernel, of_math; /* math functions too: what they call, and their weight */
} Shapes;

void shapes_find(Arena *arena, const Module *module, Shapes *shapes);
const Shape *shape_of(const Shapes *shapes, const Kernel *kernel);
void shapes_heat(const Shapes *shapes, const Function *function); /* its kernels are hot */
/* Its kernels are part of it where that saves calls worth the while and nothing else calls them. */
void shapes_join(const Shapes *shapes, const Function *function);
const Shape *shape_of_math(const Shapes *shapes, const MathFunction *function);

#endif
