/* What the prints of the graph share: which nodes stand on a line of their own, what they are called, formulas over
 * those names. */
#ifndef BPC_GRAPH_PRINT_H
#define BPC_GRAPH_PRINT_H

#include "graph.h"

typedef struct Sheet {
    Arena *arena;
    const Graph *graph;
    int count;          /* of nodes; all arrays are by id */
    bool every_node;    /* each node but a constant has its line; else what is used once is written where it is used */
    bool several;       /* models have weights in the graph: a parameter's name begins with its model's */
    bool *needed;       /* by the roots */
    bool *own_line;     /* else written where it is used */
    const char **names; /* a label that is unique on the sheet, or %12 */
} Sheet;

/* Scratch lives in `arena`. */
Sheet sheet_of(Arena *arena, const Graph *graph, Node *const *roots, int root_count, bool every_node);
/* Everything that `roots` need, by id. */
bool *nodes_needed(Arena *arena, const Graph *graph, Node *const *roots, int root_count);
/* The right side of the node's line. */
void sheet_formula(const Sheet *sheet, const Node *node, Text *out);
/* Arguments as formulas show them: a CUSTOM shows its parameters, and its value only where every node is shown. */
int first_shown_argument(const Sheet *sheet, const Node *node);
/* "real [rows][16]", "index [rows] of 3", "wide" */
void node_type_text(const Node *node, Text *out);
/* "iris.bp:11"; "" where the compiler made it */
void span_text(Span span, Text *out);
/* What one phase's gradient is made of, for every print of it. */
typedef struct PhaseSheet {
    Sheet sheet;
    bool *forward; /* by id: the objective needs it */
} PhaseSheet;
/* What has a loss and gradients: the phases, and each loss of a step by itself. */
GraphTrain *phase_views(Arena *arena, const GraphProgram *program, int *count);
PhaseSheet phase_sheet(Arena *arena, const Graph *graph, const GraphTrain *train);

#endif
