/* A phase's network as mathematics: what is given, the forward pass, the loss, the backward pass, the gradients, the update. Each equation names one value
   of the graph, and its right side is a tree over values that were named before; derivation_check proves that with numbers. */
#ifndef BPC_EXPLAIN_DERIVATION_H
#define BPC_EXPLAIN_DERIVATION_H

#include "mathematics.h"

typedef enum EquationPart {
    PART_GIVEN,    /* inputs, targets, parameters, draws: no right side */
    PART_FORWARD,
    PART_LOSS,
    PART_BACKWARD,
    PART_GRADIENT,
    PART_UPDATE,
    PART_COUNT
} EquationPart;

typedef struct Equation {
    EquationPart part;
    const Symbol *left;
    const Symbol *also; /* a second name, between: delta = d L / d z = … */
    Math *right;        /* NULL: given */
    Node *node;         /* the value */
    Tensor *tensor;     /* GRADIENT: of it; UPDATE: what changes */
    const char *note;   /* in words: "the class, one-hot"; NULL: none */
    Span span;
    /* UPDATE: the same of any parameter theta, and which equations belong to one parameter */
    const Symbol *general_left;
    Math *general;
    int group;
} Equation;

typedef struct Derivation {
    Arena *arena;
    const GraphProgram *program;
    const GraphTrain *train;
    Node *objective;
    LIST(Equation) equations; /* of a part together, in order */
    LIST(Sink) changes;       /* each parameter's, state's and statistic's next value */
} Derivation;

/* Of one of the views that phase_views gives. Adds nodes to the graph. */
Derivation *derive(Arena *arena, const GraphProgram *program, const GraphTrain *view);
/* Gives every leaf random values and compares each equation's two sides; BUG() where they differ. */
void derivation_check(const Derivation *derivation);

/* ---- recognise.c: the graph's stable and fused forms as the forms that people write ------------------------------------ */
typedef struct Recognised {
    Rewriter rewriter;
    LIST(Node *) softmaxes; /* quotients that are softmax(z) */
    LIST(Node *) arguments; /* the z of each */
    LIST(Node *) logarithms; /* log(sum(exp(u))) - sum(y * u): minus log p at y; */
    LIST(Node *) shares;     /* the p of each */
    LIST(Node *) hots;       /* the y of each */
} Recognised;
void recognise_start(Recognised *recognised, Graph *graph);
Node *recognise(Recognised *recognised, Node *node);

/* ---- formula.c: a node as a tree ------------------------------------------------------------------------------------------ */
typedef struct Naming {
    Arena *arena;
    const Recognised *recognised;
    const Symbol **symbols; /* by id; NULL: written where it is used */
    int count;
} Naming;
/* The formula of a node, in names. */
Math *formula_of(const Naming *naming, Node *node);
/* Its name, or else its formula. */
Math *math_of(const Naming *naming, Node *node);
Math *math_symbol(Arena *arena, const Symbol *symbol, Node *node);

#endif
