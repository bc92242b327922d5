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
    bool rides;        /* a sum along the columns of its group's domain */
    const struct LowerItem *beside; /* the latest that it reads at its own point; NULL */
} LowerItem;

/* How the rounds of a kernel's outermost loop share out what it computes. Rounds touch no common element that one of
   them stores, so threads may take any of them. */
typedef enum Partition {
    PARTITION_NONE,   /* no loop that all groups share */
    PARTITION_ROWS,   /* rows of the batch, `step` at a time */
    PARTITION_PANELS, /* panels of an axis of `extent` elements, `step` at a time */
} Partition;

/* A product's tile of sums in registers: `panels` of 16 lanes against `columns` (rows of the batch; for a weight gradient
   columns of the weights). */
typedef struct Tile {
    int panels, columns;
} Tile;

/* Items over one domain: computed point by point in one nest of loops. */
typedef struct LowerGroup {
    bool batched;
    int rank;
    int64_t dims[4];
    bool alone;    /* a concat: it has loops of its own */
    bool vector;   /* 16 lanes at a time: vector.c */
    bool prologue; /* depends on no row of the batch */
    int axis;      /* in a kernel over panels: the axis of the domain that is shared out */
    Tile tile;     /* 1 x 1 where it has no product */
    int row_panels; /* panels of a tile for a batch of one row; 0: such a batch is none of its own */
    int64_t summed; /* elements of the axis that its product sums over, or rows */
    int64_t block;  /* after so many of them, sums wait in `partial`; 0: never */
    int64_t together; /* batched: rows that take their turn at all blocks before the next ones do */
    Buffer *partial;  /* BUFFER_SCRATCH: [the round's elements][together], or those of the weights that are the round's */
    double work;   /* elementary steps for a whole batch */
    LIST(LowerItem *) items;
    LIST(LowerItem *) riders; /* sums along the columns, added up in their buffers; then axis is 0 */
} LowerGroup;

/* Groups whose loops stand inside one outermost loop, in order. */
typedef struct LowerKernel {
    Partition partition;
    int64_t extent, step;
    bool parallel;
    LIST(int) groups;
} LowerKernel;

/* Which rows of a table an update has to go through. */
typedef enum TableRows {
    TABLE_ALL,  /* all: most are read anyway */
    TABLE_READ, /* those that the batch read: a gradient of zero changes nothing */
    TABLE_WAITS /* the same: what happens to the others meanwhile is done when they are read, or at the end */
} TableRows;

/* A parameter that is looked up, with what changes it: table.c finds it, table_lower.c computes it. */
typedef struct LowerTable {
    Node *scatter;        /* its gradient: [n, k]; turned: [k, n] */
    const Tensor *tensor;
    LIST(Sink) updates;   /* of the tensor and its state */
    LIST(Node *) numbers; /* that the updates need; conditions behind what they compare */
    LIST(Node *) spread;  /* the EXPANDs of some of them */
    int64_t pieces;       /* of 16 rows; turned: of one */
    int64_t vectors;      /* of 16 numbers that a piece is */
    int64_t reads;        /* most rows that a batch reads, each as often as it does */
    TableRows rows;
    Buffer *begins, *order; /* I32: by piece where the places of what reads it begin (p) and end (p + 1) in `order`: row b of a
                               batch that reads T of them has places b T to b T + T - 1 */
    Buffer *next;           /* I32, by piece that is read: the next one that is; of the last: some piece */
    Buffer *done;           /* I32, by piece: updates done since all were; the rest of them wait */
    Buffer *gradient;       /* BUFFER_SCRATCH: of one piece */
} LowerTable;

enum { SUMS_OF_STEP = 24, SUMS_ELSEWHERE = 8, SUMS_OF_TRACE = 1 };

typedef struct LowerPlan {
    Arena *arena;
    GraphFunction *function;
    int node_count, tensor_count;
    LowerItem **items; /* by node id, NULL: inlined where it is used, or a leaf */
    bool vectors;      /* not in double functions */
    bool parallel;     /* worth threads */
    bool tight;        /* memory has a limit */
    int most_sums;     /* in a tile: how much code the function is worth */
    int *uses;         /* by node id: how many nodes and sinks of this function read it */
    LIST(LowerGroup) groups;
    LIST(LowerKernel) kernels; /* in the order they run */
    int guard_group;           /* the group after which the guard stands, -1: none */
    LIST(LowerTable *) tables;
    double table_work; /* as a group's */
    LIST(Node *) numbers; /* of the tables that wait, in the order in which `history` keeps them */
    Buffer *now;          /* I32 [1]: updates since all waiting ones were done; NULL: none waits */
    Buffer *history;      /* F64 [STEPS_KEPT][numbers]: of each of those */
    LIST(Sink) copies; /* tensors whose new value had to go to a buffer first: buffer holds it, value is the node */
} LowerPlan;

/* An item's type in memory. */
Scalar lower_scalar(const GraphFunction *function, const Node *node);
/* The node behind ops that change nothing at a point: custom, detach. */
Node *lower_behind(Node *node);
LowerPlan *lower_plan(Arena *arena, GraphProgram *program, GraphFunction *function, int most_sums,
                      const LowerOptions *options);

/* ---- table.c: takes the tables that it finds out of the items */
void lower_find_tables(LowerPlan *plan, const GraphProgram *program);

/* Whether sums along the columns may be added up while a gradient of this shape is made: it is then shared out by panels of
   its rows, of which there must be enough for all threads. */
bool lower_may_be_ridden(const Node *gradient);

/* ---- schedule.c: which groups share a kernel, and in which order kernels run */
void lower_schedule(LowerPlan *plan, const LowerOptions *options);
/* y = W x for each row; the sum over the batch of outer(d, x). Both factors stored. */
bool lower_is_forward(const LowerPlan *plan, const Node *node);
bool lower_is_gradient(const LowerPlan *plan, const Node *node);

/* ---- tile.c: what suits the machine */
/* What the columns of a tile are: rows in blocks of 16 (which a tile's divide, unless there are fewer), all rows of the
   batch, or columns of weights, sixteen by sixteen. */
typedef enum TileColumns { TILE_BLOCK_ROWS, TILE_ALL_ROWS, TILE_WEIGHTS } TileColumns;
/* The tile for a product with this many panels and columns, at most as large as the registers allow and of `most` sums. */
Tile tile_of_product(const Machine *machine, int64_t panels, int64_t columns, TileColumns kind, int most);
bool tile_fits(const Machine *machine, int panels, int columns); /* in registers, with what feeds it */

/* ---- point.c */
#define LANES 16

static inline int64_t panels_of(int64_t extent) {
    return (extent + LANES - 1) / LANES;
}

typedef struct Lowering {
    GraphProgram *program;
    GraphFunction *function;
    LowerPlan *plan;
    const Machine *machine;
    const struct Sheet *sheet; /* for formulas */
    Function *target;
    Builder b;
    Scalar real;
    Value *round; /* the first panel of the round in hand, where a round is some panels */
    const struct Part *part; /* of the rows that a weight gradient sums over, where they are taken in parts */
    int stops;    /* guards that a trace has so far */
} Lowering;

/* Where a value is wanted: the row, and an index for each axis of the domain. Values of I64, named or variables. */
typedef struct Point {
    Value *row; /* NULL: not in a batch */
    Value *at[4];
    int lanes;     /* 16: neighbouring elements along the lane axis, beginning at its index */
    int lane_axis; /* -1: the batch */
    Value *panel;  /* with 16 lanes along axis 0: at[0] / 16 */
    int group;
    struct Memo {
        LIST(struct Known {
            Node *node;
            Value *value;
        })
        known;
    } * memo; /* what has a name at this point */
} Point;

Value *emit_node(Lowering *l, Node *node, Point *point);
/* The node has this value at the point, whatever it is made of. */
void lower_know(Lowering *l, Point *point, Node *node, Value *value);
Value *lower_integer(Lowering *l, int64_t number);
Value *lower_add(Lowering *l, Value *a, Value *b);
Value *lower_times(Lowering *l, Value *a, int64_t factor);
Buffer *lower_use(Lowering *l, Buffer *buffer);
Value *lower_number(Lowering *l, double number, Scalar scalar, int lanes);
Value *lower_converted(Lowering *l, Value *x, Scalar to);
Point lower_point(Lowering *l, const Point *from);
Value *lower_named(Lowering *l, const char *name, Value *index);
const char *lower_wish(const Node *node);
Block *lower_rows(Lowering *l, Value **row);
Buffer *lower_tensor(Lowering *l, const Tensor *tensor);
/* The element (or the first of 16) of a stored value of the node's shape. */
Value *lower_index(Lowering *l, const Buffer *buffer, const Node *node, const Point *point);
Value *lower_load(Lowering *l, Buffer *buffer, const Node *node, int64_t first, Point *point);
/* Panels for what vectors like: F32 of rank 1 or (without rows) 2, outside the double functions. Sets stride and
 * elements. */
void lower_layout(const GraphFunction *function, Buffer *buffer, int64_t capacity);
/* Where a panel lies in a buffer: scratch holds those of the round alone. */
Value *lower_panel(Lowering *l, const Buffer *buffer, Value *panel);
Value *lower_linear(Lowering *l, Value *row, Value *const *at, int rank, const int64_t *dims);

/* What a table is read or written by: the index of a row (NULL-free), a body for those that are there, and the row. */
Value *lower_index_of(Lowering *l, Node *index, Point *point, Value *at);
Block *lower_if_there(Lowering *l, Value *index);
Value *lower_row_of(Lowering *l, Value *index, int64_t rows);
/* The buffer of a stored node: leaf or item. NULL where it has none. */
Buffer *lower_buffer(Lowering *l, Node *node);

/* The bounds of one round of the outermost loop. */
typedef struct Round {
    Partition partition;
    Value *from, *to; /* ROWS: rows; PANELS: panels. I64, named or leaves */
    int64_t step;
} Round;

/* ---- lower.c */
Kernel *lower_start_kernel(Lowering *l, const char *label, Span span);
void lower_add_step(Lowering *l, Step step);
const char *lower_item_formula(Lowering *l, const LowerItem *item);
/* "fc1 = relu(fc1.weight @ x + fc1.bias)": what a group computes, in the .bp file's words. */
const char *lower_formula(Lowering *l, const LowerGroup *group);

/* ---- table_lower.c */
#define STEPS_KEPT BP_SETTLE_AFTER /* updates that may wait */
/* Before the kernels: what reads which rows, and what waited for those. */
void lower_tables_first(Lowering *l);
/* Behind them: the updates. */
void lower_tables_last(Lowering *l);
/* Kernels that do all that waits. */
void lower_tables_settle(Lowering *l);

/* ---- explain.c */
void lower_explain(Lowering *l, Text *out);

/* ---- vector.c */
/* Whether an item can be computed 16 elements at a time. */
bool lower_in_vectors(const LowerPlan *plan, const LowerItem *item);
/* The nest of a group of vectors inside a round. */
void lower_vectors(Lowering *l, LowerGroup *group, int index, const Round *round);
void lower_store(Lowering *l, LowerItem *item, Value *value, Point *point);

#endif
