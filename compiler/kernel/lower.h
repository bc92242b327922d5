/* What the two halves of lowering promise each other: group.c decides what is stored and which values share a loop,
   lower.c writes the loops. */
#ifndef BPC_LOWER_H
#define BPC_LOWER_H

#include "../graph/graph.h"
#include "kernel.h"

/* A value that is computed at one place and, where another kernel reads it, stored. */
typedef struct LowerItem {
    Node *node;
    int group;
    Buffer *buffer;    /* NULL: read only at its own point of its own group */
    LIST(Sink) sinks;  /* where else it goes */
    bool read_outside; /* by another group, or at another point */
} LowerItem;

/* Items over one domain: computed point by point in one kernel. */
typedef struct LowerGroup {
    bool batched;
    int rank;
    int64_t dims[4];
    bool alone; /* a concat: it has loops of its own */
    LIST(LowerItem *) items;
} LowerGroup;

typedef struct LowerPlan {
    Arena *arena;
    GraphFunction *function;
    int node_count;
    LowerItem **items; /* by node id, NULL: inlined where it is used, or a leaf */
    int *uses;         /* by node id: how many nodes and sinks of this function read it */
    LIST(LowerGroup) groups;
    int guard_group;   /* the group after which the guard stands, -1: none */
    LIST(Sink) copies; /* tensors whose new value had to go to a buffer first: buffer holds it, value is the node */
} LowerPlan;

/* An item's type in memory. */
Scalar lower_scalar(const GraphFunction *function, const Node *node);
/* The node behind ops that change nothing at a point: custom, detach. */
Node *lower_behind(Node *node);
LowerPlan *lower_plan(Arena *arena, GraphProgram *program, GraphFunction *function);

#endif
