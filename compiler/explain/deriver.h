/* What the files of a derivation share: the graph with what is known of its nodes, and their names. */
#ifndef BPC_EXPLAIN_DERIVER_H
#define BPC_EXPLAIN_DERIVER_H

#include "derivation.h"

typedef struct Deriver {
    Arena *arena;
    Graph *graph;
    const GraphTrain *train;
    Derivation *derivation;
    Recognised recognised;
    Naming naming;
    int count;              /* of nodes when naming begins; arrays are by id */
    Node *objective, *loss; /* loss: of a row, NULL where the objective is something else */
    bool *needed, *forward;
    bool *augmented; /* what an augment line makes of an input: given, as far as the network is concerned */
    int augmented_count;
    int *uses, *ops;
    const char **layer; /* the index of what the node is a part of */
    bool numbered;      /* layers are called by a letter and a number */
    bool several;       /* models: an index begins with the model's name */
    const Symbol *objective_symbol;
    Name *taken; /* names in use, open addressing */
    size_t capacity;
    LIST(Node *) inner; /* forward nodes that get a derivative's name */
    Node **adjoints;    /* of inner, recognised; NULL: none */
    Span update_span;   /* the optimizer's line, or the update's in a step */
} Deriver;

/* ---- naming.c: which values have a name ----------------------------------------------------------------------------------- */
const char *naming_greek(const char *word); /* alpha: the letter; else the word */
bool naming_take(Deriver *d, const Symbol *symbol); /* false: another has it */
const Symbol *naming_symbol(Deriver *d, const char *letter, const char *index); /* with primes where the name is taken */
const Symbol *naming_derivative(Deriver *d, const Symbol *of);
const Symbol *naming_of_parameter(Deriver *d, const Tensor *tensor);
void naming_set(Deriver *d, const Node *node, const Symbol *symbol); /* where it has none */
const Symbol *naming_of(const Deriver *d, const Node *node); /* NULL: none */
bool are_numbered(const Deriver *d);
bool is_delta(const Symbol *symbol);
int shown_arguments(const Deriver *d, const Node *node); /* the first: of a def its parameters; of what is given none */
bool is_given(const Deriver *d, const Node *node);
bool *reached_nodes(Deriver *d, Node *const *roots, int root_count);
/* The stages, in order. */
void find_augmented(Deriver *d);
void find_adjoints(Deriver *d);
void name_leaves(Deriver *d);
void name_forward(Deriver *d);
void name_backward(Deriver *d);
void name_others(Deriver *d);
void name_input(Deriver *d, const Node *node);
void name_scalar(Deriver *d, const Node *node);
typedef struct ScalarWords {
    const char *letter, *note;
} ScalarWords;
extern const ScalarWords scalar_words[BP_SCALAR_COUNT];

/* ---- derivation.c ---------------------------------------------------------------------------------------------------------- */
Equation *add_equation(Deriver *d, EquationPart part, const Symbol *left, Node *node);
const char *given_note(Deriver *d, const Node *node);

/* ---- changes.c: the update -------------------------------------------------------------------------------------------------- */
void find_changes(Deriver *d); /* before anything has a name */
void add_updates(Deriver *d);

#endif
