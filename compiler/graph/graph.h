/* The graph: pure values. A node is an op applied to nodes; equal nodes are one node (hash-consing), so a common subexpression exists
   once. No node is ever changed, nothing here knows a machine, memory or an order of execution beyond "arguments first".

   The batch is a flag, not an axis: a batched node has one value of its shape for each row. Only numbers (rank 0) broadcast, and a
   value that does not depend on the row stands for itself in every row.

   Types. REAL is a tensor element (float; double in --check-grad). WIDE is a number that is computed in double: constants, the step,
   `param`s, fitted values, totals over a split, and what is computed from these alone; it is rounded to float where it meets a REAL
   (as PyTorch treats a Python number). INDEX is a category or a position, TRUTH a condition.

   Invariants (graph_verify):
   - arguments have smaller ids than the node; the arity is the op table's
   - ARITHMETIC, COMPARE, MATH: arguments have the node's shape or rank 0; batched when an argument is
   - CONTRACT: a letter's extent is the same wherever it stands; each output letter stands in an argument
   - WIDE is never batched; INDEX and TRUTH enter no ARITHMETIC op but WHERE and REAL; a constant may stand for a condition
   - every node has a span */
#ifndef BPC_GRAPH_H
#define BPC_GRAPH_H

#include "../base/base.h"
#include "../check/check.h"
#include "../kernel/kernel.h"
#include "../op/op.h"

typedef enum NodeType { TYPE_REAL, TYPE_WIDE, TYPE_INDEX, TYPE_TRUTH } NodeType;

typedef struct Node Node;
typedef struct Graph Graph;
typedef struct Tensor Tensor;

#define AXIS_ALL (-1)

/* Letters of a CONTRACT's axes: 0, 1, 2 … for sample axes. The batch has no letter: it is summed when `over_batch`. */
typedef struct ContractSpec {
    int8_t left[4], right[4], out[4];
    bool over_batch;
    bool again; /* the same product made a second time, since there is no room to keep the first */
} ContractSpec;

struct Node {
    int id;
    Op op;
    NodeType type;
    bool batched;
    int rank;
    int64_t dims[4];
    Node **args;
    int arg_count;
    double number;      /* CONSTANT */
    int64_t integer;    /* IOTA, ONE_HOT: n; SCATTER: k; SLICE: the first; SUM, MAX_OF: the axis or AXIS_ALL; INPUT: slot; SCALAR: index in the
                           array at the start of memory; TOTAL: its first element in the buffer; RANDOM: stream */
    bool normal;        /* RANDOM: normal, else uniform */
    bool turned;        /* SCATTER: [n, k], its transpose */
    const DataSet *data; /* INPUT */
    bool partner;        /* INPUT: of the row that this one is mixed with */
    Tensor *tensor;     /* TENSOR */
    Buffer *buffer;     /* TOTAL: the pass's totals */
    ContractSpec contract;
    const Item *item;   /* CUSTOM: the def whose grad clauses hold */
    int classes;        /* INDEX: how many there are, 0 unknown */
    Span span;          /* where it first came from */
    Name label;         /* what the .bp file calls it, or NULL */
};

/* A parameter of a model, or an optimizer's state for one parameter in one phase. */
struct Tensor {
    Name name;  /* fc1.weight; fc1.weight:v */
    Name owner; /* the model, or the phase for state */
    bool state;
    int rank;
    int64_t dims[4];
    Node *init; /* WIDE or REAL of its shape, or a number */
    Span span;
    double orthogonal; /* its first value, as drawn, is made orthogonal, of this gain; 0: it is not */
    bool loaded; /* its first value comes from the model's checkpoint */
    Buffer *buffer; /* its place in memory */
    int application; /* the last one of its model that met it */
    int index;      /* among the program's tensors */
    bool statistic; /* a block's state: what it has seen in training, not what a gradient moves */
    Tensor *average; /* its moving average in the phase at hand, or NULL */
    const Tensor *of; /* a state: the parameter that it belongs to */
};

/* ---- Functions of the graph: what one call computes -------------------------------------------------------------- */
typedef struct Sink {
    Node *value;
    Tensor *tensor; /* its next value, or NULL */
    Buffer *buffer; /* an output for the runtime, or NULL */
    int64_t first;  /* element of the buffer where it goes; in a function with stops: its stop */
} Sink;

typedef struct GraphFunction {
    Name name;
    const char *about;
    Span span;
    LIST(Sink) sinks;
    Node *guard; /* where this is not finite no tensor changes; NULL: none */
    /* F64 [sinks]: the sinks name neither tensor nor buffer. Each value stays where it is computed; lowering says where
       (buffer) and when it may be read (first): the function ends at stop i where stops[i] is not finite. NULL: not so */
    Buffer *stops;
    int64_t capacity;
    bool is_first;          /* called before any other: threads would have to start for it */
    bool is_predict;        /* called with a single row as often as with many */
    bool is_double;         /* for --check-grad: REAL is double, tensors are the check's copies */
    const struct GraphCheck *check; /* whose copies they are */
    struct GraphFunction *next; /* a step's next part: begins when this one is done, and sees the weights that it left; not
                                   in the program's list */
    int64_t every;              /* a part runs in each N-th step alone; 0 and 1: in every one */
    Function *kernels;      /* lower.c's */
    Function *settle;       /* does the updates that wait behind calls of it, or NULL */
} GraphFunction;

/* ---- What the statements become ---------------------------------------------------------------------------------- */
typedef struct GraphOutput {
    Name name; /* target's name, or the model's output name */
    enum bp_output_kind kind;
    int width;
    Name *classes;
    int class_count;
    Name *columns; /* NUMBER: of the target, or NULL */
    Buffer *buffer;
    Node *node; /* as predicted: link applied, file's units */
} GraphOutput;

/* What an output means, learnt from the loss that it is trained with. */
typedef struct OutputRole {
    Name link; /* sigmoid, softmax; NULL: the output is the prediction */
    const DataSet *data;
    int first_column, column_count; /* the target's columns; 0: no target */
} OutputRole;

typedef struct ModelInput {
    int64_t width;
    Span span;
    Name user; /* the data set that fixed it */
} ModelInput;

typedef struct ModelResult {
    int output;
    const Node *node, *input; /* the first argument */
} ModelResult;

typedef struct ModelInstance {
    Name name;
    Item *item;
    struct ModelInstance *base; /* of a DERIVED */
    Span span;
    LIST(Tensor *) parameters;
    const char *from; /* checkpoint, or NULL */
    const char *from_path; /* the file that was found and checked while compiling, or NULL */
    Span from_span;
    const DataSet *data; /* the one it was last trained (or else first used) on: predict reads its columns */
    GraphFunction *init, *predict;
    LIST(GraphOutput) outputs;
    int index;
    LIST(Name) layers; /* paths of the names bound in it: fc1, body.0.fc1 */
    LIST(Name) output_names;
    LIST(ModelResult) results; /* what each application gave */
    LIST(OutputRole) roles; /* what the last loss made of each output */
    bool built, broken; /* broken: its errors were reported already */
    bool trained;       /* a train block names it, right or wrong */
    int application; /* how often it has been applied: a tensor met twice in one application has two owners */
    int input_count;
    ModelInput inputs[8]; /* what its arguments were at its first use */
} ModelInstance;

typedef struct GraphMetric {
    Name name;
    int rows, columns;
    Name *labels;
    int better;
    Buffer *buffer; /* F64 */
} GraphMetric;

typedef struct GraphRanking {
    enum bp_ranking_kind kind;
    Buffer *scores, *truths; /* F32 of each row */
    int64_t total;           /* element of the totals */
} GraphRanking;

typedef struct GraphPass {
    LIST(GraphRanking) rankings; /* of the first pass */
    GraphFunction *accumulate, *finish; /* finish NULL except in the last */
    Buffer *sums, *totals;
    int64_t sum_count;
} GraphPass;

typedef struct GraphMeasure {
    LIST(GraphPass) passes;
    LIST(GraphMetric) metrics;
} GraphMeasure;

/* A loss and its gradients once more in double, for --check-grad. */
typedef struct GraphCheck {
    Name name;                /* what is checked, where the phase has several losses; or NULL */
    GraphFunction *loss, *gradient;
    Buffer *loss_buffer;
    uint64_t bytes;           /* of the check's block, set by the plan */
    LIST(Tensor *) tensors;   /* parameters the loss reads */
    LIST(Buffer *) parameters; /* F64, in the check's block */
    LIST(Buffer *) gradients;  /* NULL: frozen */
} GraphCheck;

/* What a step reads of a frozen prefix: `value` is computed once a row, `input` stands for it in the step. */
typedef struct KeptValue {
    Node *value, *input;
    Buffer *buffer; /* where the prefix puts it */
} KeptValue;

/* A frozen layer that is computed in every step, since what it reads changes. */
typedef struct UnkeptLayer {
    Name layer;
    Name through; /* what it reads that changes, or NULL where that has no name */
    const Node *cause; /* a parameter that is trained, a random draw, the number of rows, a sum over the batch; NULL: it costs
                          no more than reading what it gives */
} UnkeptLayer;

/* reduce_on_plateau */
typedef struct PlateauRate {
    struct bp_plateau plateau; /* as the program reads it; start 0: none */
    Name monitor;
    int better; /* from mode = max | min; 0: the metric says */
    Span span;
} PlateauRate;

typedef struct GraphTrain {
    Name name; /* C identifier */
    TrainPlan *plan;
    LIST(ModelInstance *) models;
    LIST(Tensor *) trainable;
    LIST(Tensor *) states;
    LIST(Tensor *) statistics; /* those that the phase brings up to date */
    LIST(Tensor *) averages; /* those of the states that are moving averages, one for each parameter of trainable; or none */
    GraphFunction *start;
    GraphMeasure training, validation;
    GraphFunction *trace;
    LIST(GraphCheck *) checks;        /* one for each loss */
    int loss_count;                   /* how many of the training metrics, the first, are losses */
    LIST(Tensor *) frozen;            /* parameters that the phase leaves alone */
    LIST(Sink) gradients;             /* for --emit=gradient: value is the gradient, tensor its parameter */
    Node *objective;                  /* NULL: the phase is a step */
    PlateauRate rate;
    int monitor;            /* index of the metric, -1 */
    bool best_in_file;      /* the best weights wait in a file: --max-mem leaves no room for them */
    bool monitor_training;
    int monitor_better;
    double flops_per_row;
    /* frozen.c */
    GraphFunction *prefix; /* from a batch's rows to the kept values; NULL: nothing is kept */
    LIST(KeptValue) kept;
    LIST(Sink) whole; /* the step's sinks before, where it reads kept values: for explain */
    LIST(Name) kept_layers;     /* frozen layers that only the prefix computes */
    LIST(UnkeptLayer) unkept;
    double work_before, work_after; /* of a step, in operations a row */
    double prefix_flops_per_row;
} GraphTrain;

typedef struct GraphEvaluate {
    EvaluatePlan *plan;
    ModelInstance *model;
    GraphMeasure measure;
} GraphEvaluate;

typedef struct GraphProgram {
    Arena *arena;
    Program *program;
    Graph *graph;
    LIST(ModelInstance *) models;
    LIST(Tensor *) tensors; /* a model's parameters are neighbours, so are a phase's states */
    LIST(GraphTrain *) trains;
    LIST(GraphEvaluate *) evaluates;
    LIST(GraphFunction *) functions; /* all, in the order they are printed */
    LIST(bool) logs;         /* by data index: it takes logarithms */
    int scalar_count; /* doubles at the start of memory */
    Buffer *scalars;
    int kept_count;   /* of all phases: their inputs' slots stand behind those of the data */
} GraphProgram;

/* ---- node.c: constructors. Shapes fit already (build.c tells the user's mistakes), else BUG(). They simplify ----- */
Graph *graph_new(Arena *arena, Program *program); /* the program: what grad clauses may name; NULL is allowed */
Program *graph_program(const Graph *graph);
Arena *graph_arena(Graph *graph);
int graph_node_count(const Graph *graph);
Node *graph_node(const Graph *graph, int id);
Span graph_set_span(Graph *graph, Span span); /* for nodes made from here on; returns the one before */

Node *node_constant(Graph *graph, double number);
Node *node_input(Graph *graph, const DataSet *data, int slot, int64_t width, int classes); /* width 0: an index */
Node *node_input_words(Graph *graph, const DataSet *data, int slot, int64_t width, int classes); /* [width] indices */
Node *node_partner(Graph *graph, Node *input); /* the same of the row that this one is mixed with */
Node *node_tensor(Graph *graph, Tensor *tensor);
Node *node_scalar(Graph *graph, int index, Name label);
Node *node_total(Graph *graph, Buffer *totals, int64_t first, int rank, const int64_t *dims);
Node *node_random(Graph *graph, bool normal, int64_t stream, bool batched, int rank, const int64_t *dims);
Node *node_iota(Graph *graph, int64_t n);
Node *node_op(Graph *graph, Op op, Node *a, Node *b, Node *c); /* ARITHMETIC, COMPARE, MATH */
Node *node_expand(Graph *graph, Node *number, int rank, const int64_t *dims);
Node *node_reshape(Graph *graph, Node *x, int rank, const int64_t *dims);
Node *node_transpose(Graph *graph, Node *x);
Node *node_slice(Graph *graph, Node *x, int64_t first, int64_t count);
Node *node_concat(Graph *graph, Node **parts, int count);
Node *node_contract(Graph *graph, Node *left, Node *right, ContractSpec spec, int out_rank);
Node *node_sum(Graph *graph, Node *x, int axis);
Node *node_max_of(Graph *graph, Node *x, int axis);
Node *node_argmax(Graph *graph, Node *x);
Node *node_batch_sum(Graph *graph, Node *x); /* of an unbatched x: rows times x */
Node *node_one_hot(Graph *graph, Node *index, int64_t n);
Node *node_bag(Graph *graph, Node *indices, Node *counts, int64_t n); /* ONE_HOT of several */
Node *node_lookup(Graph *graph, Node *table, Node *index);
Node *node_lookup_bag(Graph *graph, Node *table, Node *indices, Node *counts);
Node *node_lookup_hot(Graph *graph, Node *table, const Node *hot); /* what ONE_HOT @ table is */
Node *node_scatter(Graph *graph, Node *d, Node *const *where, int count, int64_t k); /* where: index(, counts) */
Node *node_gather(Graph *graph, Node *x, Node *places);
Node *node_detach(Graph *graph, Node *x);
Node *node_custom(Graph *graph, const Item *item, Node *value, Node **parameters, int count);
Node *node_rows(Graph *graph); /* rows of the batch, WIDE: batch_sum(1) */
void node_label(Node *node, Name label); /* where it has none yet */

bool node_same_shape(const Node *a, const Node *b);
int64_t node_elements(const Node *node); /* of one row */
bool node_is_constant(const Node *node, double number);
/* "[16, 4]", "a number", "3 rows of …" for messages */
const char *node_shape(Arena *arena, const Node *node);

/* ---- rules.def: what the constructors rewrite -------------------------------------------------------------------- */
typedef enum Rule {
#define RULE(enumerator, name, from, to, claim) RULE_##enumerator,
#include "rules.def"
#undef RULE
    RULE_COUNT
} Rule;
typedef enum Claim { CLAIM_EXACT, CLAIM_ZERO, CLAIM_NEAR, CLAIM_FINITE, CLAIM_STABLE } Claim;
typedef struct RuleInfo {
    const char *name, *from, *to;
    Claim claim;
} RuleInfo;
extern const RuleInfo rule_table[RULE_COUNT];

typedef struct Rewrite {
    Rule rule;
    Span span;
    Node *result;
} Rewrite;
/* Notes it; returns the node. */
Node *rewritten(Graph *graph, Rule rule, Node *result);
const Rewrite *graph_rewrites(const Graph *graph, int *count); /* all that were made, in order, repeated ones too */

/* ---- simplify.c -------------------------------------------------------------------------------------------------- */
/* A simpler node equal to op(args), or NULL. Called by node_op before it makes a node. */
Node *simplify(Graph *graph, Op op, Node *a, Node *b, Node *c);

/* ---- rewrite.c --------------------------------------------------------------------------------------------------- */
/* The same graph with some nodes replaced: node -> map(node) first, else rebuilt from its rewritten arguments. */
typedef struct Rewriter {
    Graph *graph;
    Node *(*replace)(void *context, Node *node); /* NULL: keep going down */
    void *context;
    Node **memo; /* by id, made by rewrite_start */
    int memo_count;
} Rewriter;
void rewrite_start(Rewriter *rewriter, Graph *graph, Node *(*replace)(void *, Node *), void *context);
Node *rewrite(Rewriter *rewriter, Node *root);

/* ---- differentiate.c --------------------------------------------------------------------------------------------- */
/* Reverse mode (Griewank & Walther, Evaluating Derivatives, 2008, chapter 3) over the graph: gradients[i] = d root / d wrt[i] of wrt's shape, NULL where the
   root does not depend on it. root: a number, not batched. Only nodes between some wrt and the root get an adjoint: what is frozen
   costs nothing. An op without a derivative is an error at its span. */
void differentiate(Graph *graph, Node *root, Node **wrt, int count, Node **gradients);
/* Parses the op table's formulas; once, before the first differentiate. */
void derivatives_start(Arena *arena);

/* ---- interval.c: where can a value lie, whatever the parameters are ---------------------------------------------- */
typedef struct Interval {
    double low, high; /* -INFINITY, INFINITY: not known */
} Interval;
Interval interval_of(Graph *graph, Node *node);
/* The same, with every column, param and statistic somewhere in the middle, at 1/2: what the weights alone can do. */
Interval interval_of_weights(Graph *graph, Node *node);

/* ---- evaluate.c: plain double arithmetic, for constants and tests ------------------------------------------------ */
typedef struct Evaluation {
    double *values; /* [rows or 1][elements] */
    int64_t rows, elements;
} Evaluation;
/* leaf: fills the value of a leaf (INPUT, TENSOR, SCALAR, TOTAL, RANDOM). Results live in the arena, memoised in the evaluator. */
typedef struct Evaluator {
    Arena *arena;
    int64_t rows;
    void (*leaf)(void *context, const Node *node, Evaluation *value);
    void *context;
    Evaluation **memo;
    int memo_count;
} Evaluator;
Evaluation *graph_evaluate(Evaluator *evaluator, Node *node);

/* ---- build.c: formulas become nodes ------------------------------------------------------------------------------ */
/* Elaborates every statement of the checked program: shapes, losses, metrics, optimizers, gradients. NULL when errors were reported. */
GraphProgram *graph_build(Arena *arena, Program *program);

/* ---- print.c, print_dot.c, verify.c ------------------------------------------------------------------------------ */
void graph_print(const GraphProgram *program, Text *out);          /* --emit=graph: forward passes and outputs */
void graph_print_gradient(const GraphProgram *program, Text *out); /* --emit=gradient: each phase's gradients; frozen ones named */
void graph_print_dot(const GraphProgram *program, Text *out);
void graph_print_mermaid(const GraphProgram *program, Text *out);
void node_print(const Node *node, Text *out); /* one line: %12 = mul(%3, %4) : real [16] batched */
/* A node as a formula over labelled nodes, at most `depth` levels deep. */
void node_formula(const Node *node, int depth, Text *out);
void graph_verify(const Graph *graph);

/* ---- to kernels: kernel/lower.c and kernel/plan.c (they read the graph, so they are declared here) --------------- */
/* One kernel function for each function of the graph; buffers have no offsets yet. */
/* What may be tried when tuning: speed alone depends on it. 0: as lowering thinks best. */
typedef struct Tuning {
    int sums;       /* in a tile of a training step's products, at most */
    int64_t spread; /* bytes of weights that every thread may read in full, so that rows are shared out, not outputs */
} Tuning;

typedef struct LowerOptions {
    enum { LOWER_THREADS_WHERE_WORTH, LOWER_THREADS_NEVER, LOWER_THREADS_ALWAYS } threads;
    const Machine *machine; /* NULL: this one */
    Tuning tuning;
    bool tight;             /* memory has a limit: nothing lies in it twice for speed */
    Text *explain;          /* where to say what was fused, or NULL */
} LowerOptions;
Module *lower(Arena *arena, GraphProgram *program, const LowerOptions *options);
/* Where gradients are clipped by the length of all together, none is stored any more: each product is made twice. False: there
   are none. What was lowered before is to be lowered anew. */
bool lower_make_again(GraphProgram *program);
/* Gives every buffer its offset: persistent ones for good, temporaries by lifetime. Sets module->memory_bytes (and each double
   function's own need in its check's bytes). */
void plan_memory(GraphProgram *program, Module *module);

#endif
