/* What the files that elaborate formulas promise each other: from expressions of the AST to nodes of the graph.

   A Term is what an expression means while compiling: a node, a function, a tuple of outputs, a word. Elaboration is evaluation: calls
   are carried out, options chosen, shapes known; what is left is nodes. An error gives a term of TERM_NOTHING, which stays
   silent wherever it goes. */
#ifndef BPC_BUILD_H
#define BPC_BUILD_H

#include "graph.h"

typedef enum TermKind {
    TERM_NOTHING,  /* an error was reported */
    TERM_NODE,     /* a value */
    TERM_FUNCTION, /* a def, block, loss, metric or optimizer, perhaps with some options given */
    TERM_BUILTIN,  /* a function of builtin.c */
    TERM_MODEL,
    TERM_DATA,
    TERM_COLUMN, /* iris.species */
    TERM_TUPLE,  /* several outputs */
    TERM_STRING,
    TERM_SYMBOL, /* macro, none: a word that an option takes */
    TERM_LIST,   /* [a, b] */
    TERM_STALE,  /* what a step computed before an update changed the weights it was made of */
    TERM_FIRST, /* a first value given to a block: an expression and its scope, evaluated where the parameter is made */
} TermKind;

typedef struct Term Term;
typedef struct Build Build;

/* An argument that a call was given, evaluated or (for functions that choose) not yet. */
typedef struct BoundOption {
    Name name;
    Span span;
    Term *value;
} BoundOption;

typedef struct Builtin Builtin;

struct Term {
    TermKind kind;
    Span span;
    Node *node;
    const Item *item;
    const Builtin *builtin;
    BoundOption *options; /* FUNCTION */
    int option_count;
    ModelInstance *model;
    DataSet *data;
    int column;
    Term *at; /* TUPLE, LIST */
    int count;
    Name *names;      /* TUPLE: of a model's outputs, or NULL */
    Name name;        /* SYMBOL, STRING */
    const Expr *expr; /* FIRST */
    struct Scope *scope;
};

typedef struct Binding {
    Name name;
    Span span;
    Term term;
} Binding;

typedef struct Scope {
    struct Scope *parent;
    LIST(Binding) bindings; /* each name once */
    PointerMap places;      /* name -> its number among them, from 1 */
    LIST(struct WideSlot {
        const DataSet *data;
        const DataGroup *group;
        int slot; /* of the data set */
        Node *node;
    }) wide; /* slots whose columns are bound when they are first asked for: most of many never are */
} Scope;

/* A loss that was applied: which output it reads, which target, and how a prediction is made of the output. */
/* An area under a curve that a metric reads: value is an OP_TOTAL of a place of its own until its pass is built. */
typedef struct Ranking {
    enum bp_ranking_kind kind;
    Node *score, *truth, *value;
    int64_t total;
} Ranking;

typedef struct LossUse {
    Node *output, *target;
    const Item *loss;
} LossUse;

typedef LIST(Name) Paths;

typedef struct Update {
    Tensor *tensor;
    Node *value;
} Update;

typedef LIST(Update) Updates;

struct Build {
    GraphProgram *out;
    Program *program;
    Graph *graph;
    Arena *arena;
    Scope *scope;
    PointerMap column_places; /* of each data set that was asked: from names to forward.c's places */
    ModelInstance *model;   /* whose body is being elaborated */
    bool training;          /* dropout drops */
    bool measuring;         /* batch_rows() counts the rows of the whole split */
    bool schedules;         /* step, epoch and steps may be named */
    LIST(Name) path;        /* bound names from the model inwards; NULL: a call without a name */
    bool bound;             /* the expression in hand is being given a name */
    Span user;              /* the innermost expression outside the prelude */
    Span reported;          /* where the last error was, so that one call is one error */
    Name callee;            /* the prelude's function that is being elaborated, for notes */
    int depth;              /* of calls: a definition that calls itself is an error */
    int draws;              /* random draws so far in this application: part of their streams */
    LIST(Ranking) rankings; /* of the metrics in hand */
    LIST(LossUse) losses;
    const TrainPlan *augmenting; /* its inputs are augmented; NULL: as they are */
    bool *augmented;             /* by its augment lines: of each name that they give, whether an input has it */
    bool partner;                /* the data's values are those of the row that this one is mixed with */
    Node *weighed;               /* while training: a loss of this target counts as `class_weight` says; NULL: none */
    Node *class_weight;
    int guarded;         /* branches of `where`: chosen element by element */
    int in_loss;         /* losses within losses are not weighed again */
    Stmt **replacements; /* of the derived model whose body is being elaborated; NULL inside calls */
    bool *replaced;      /* which of them have found their layer */
    int replacement_count;
    bool fresh;      /* inside a replacement: new weights, not the checkpoint's */
    const Item *def; /* the def that is being elaborated: it owns no weights */
    /* in a parameter's initial value: */
    const int64_t *draw_dims;
    int draw_rank;
    int64_t draw_stream;
    const Node *orthogonal; /* what it draws and is to be made orthogonal; NULL: nothing */
    double gain;
    /* in an optimizer: */
    GraphTrain *train;
    Tensor *updated;
    Updates statistics;  /* next values of the models' statistics, in a training step */
    const Paths *frozen; /* layers whose statistics stay as they are; NULL: none */
    int64_t every;       /* of the update in hand: its optimizer's step counts those of its own */
    int application;     /* of a step: how many models were applied, for draws that differ */
    bool averaged;       /* parameters stand for their moving averages, where they have one */
};

/* ---- term.c ------------------------------------------------------------------------------------------------------ */
#define NOTHING ((Term){0})
Term term_node(Node *node, Span span);
/* Reports at the user's place; where `span` lies in the prelude, a note says in which function. Returns NOTHING. */
Term build_error(Build *build, Span span, const char *format, ...) BPC_PRINTF(3, 4);
void build_note(Build *build, Span span, const char *format, ...) BPC_PRINTF(3, 4);
const char *node_called(Arena *arena, const Node *node); /* 'fc2', or its shape where it has no name */
const char *term_kind_name(const Term *term);
/* The node of a term, an error otherwise. An INDEX stays one. */
Node *term_value(Build *build, const Term *term);
/* The same for arithmetic: conditions and indices become numbers; a category of more than two classes is an error. */
Node *term_number(Build *build, const Term *term);
bool term_integer(Build *build, const Term *term, const char *what, int64_t least, int64_t *integer);
bool term_constant(const Term *term, double *number);
void scope_bind(Build *build, Name name, Span span, Term term);
const Binding *scope_find(Build *build, Name name);
Scope *scope_open(Build *build, Scope *parent); /* becomes build->scope; returns the one before */
uint32_t hash_text(const char *text);           /* FNV-1a: streams of random draws are named by it */
const char *path_join(Build *build, Name last); /* fc1.weight; NULL where a call without a name is on the way */

/* ---- lint.c: warnings of what cannot be meant --------------------------------------------------------------------- */
/* `result` is op(args) as it was simplified: a function of values for which it has no finite result. */
void lint_domain(Build *build, Op op, Node *const *args, const Node *result, Span span);
/* A loss that was applied: an output that cannot reach its targets. */
void lint_loss(Build *build, const Item *item, Node *y, Node *t, const Node *loss, Span span);
/* A target outside [0, 1] (share) or below 0. */
void lint_target(Build *build, const Item *item, const Node *t, bool share, Span span);
void lint_output(const Term *outputs); /* of a model, in training: dropout that no layer follows */
/* The same in a step, where another model may follow: `losses` is all that is minimized. */
void lint_step_outputs(Build *build, const ModelInstance *model, Node *const *losses, int count);
void lint_rate(Build *build, const Item *optimizer, Name option, const Node *rate, Span span);
/* A layer that a phase freezes: one that is new and was never trained. */
void lint_frozen(Build *build, const GraphTrain *train, Name layer, Span span);

/* ---- expression.c ------------------------------------------------------------------------------------------------ */
Term build_expression(Build *build, const Expr *expr);
Term build_binary(Build *build, Op op, Term a, Term b, Span span);
bool is_schedule_name(Name name);                /* step, epoch, steps, steps_per_epoch */
Term build_body(Build *build, const Body *body); /* statements in order; what `return` gives */
/* Elementwise with the shapes checked: [1] is a number. Reports and returns NULL. */
Node *build_op(Build *build, Op op, Node **args, int count, Span span);

/* ---- model.c ----------------------------------------------------------------------------------------------------- */
/* statistic: a block's state instead. */
Term build_parameter(Build *build, Name name, Term *dims, int rank, const Expr *init, bool statistic, Span span);
/* Whether the block in hand learns: in a training step, and not frozen. */
bool build_learning(Build *build);

/* ---- call.c ------------------------------------------------------------------------------------------------------ */
Term build_call(Build *build, const Expr *call);
/* What is given for a parameter: an expression, or a word where its default is one. */
Term build_argument(Build *build, const Param *param, const Expr *expr);
/* Calls a function term with evaluated arguments. */
Term build_apply(Build *build, const Term *function, Term *positional, int count, BoundOption *options,
                 int option_count, Span span);
bool takes_category(const Param *param); /* by its type: t : category, t : classes */
Term build_model_call(Build *build, ModelInstance *model, Term *args, int count, Span span);
ModelInstance *model_instance(Build *build, const Item *item, Span span);
Node *build_derivative(Graph *graph, const Item *formula, Node *node, Node *d);
/* The grad clause of `item` for its parameter i; NULL where it has none. */
Node *build_custom_derivative(Graph *graph, const Item *item, Node *node, int parameter, Node *d);

/* ---- builtin.c --------------------------------------------------------------------------------------------------- */
struct Builtin {
    const char *name;
    int least, most; /* positional arguments */
    Term (*apply)(Build *build, Term *args, int count, BoundOption *options, int option_count, Span span);
    /* functions that look before they evaluate: where, choose, when_training */
    Term (*choose)(Build *build, const Expr *call);
    Op op; /* with neither: the op of that name */
};
const Builtin *builtin_named(Name name);
int builtin_names(Arena *arena, const Name **names);

/* ---- the statements ---------------------------------------------------------------------------------------------- */
/* What a forward pass over a data set gives: input and target nodes bound in build->scope, the models' outputs. */
typedef struct Forward {
    LIST(Term) outputs; /* one a model: NODE or TUPLE */
    bool ok;
} Forward;
Forward build_forward(Build *build, ModelUse *models, int count, DataSet *data, bool training, Span span);
/* What the first of the model's inputs is fed, where the data set has one for each of them; else NULL. */
Node *data_for_model(Build *build, const DataSet *data, const ModelInstance *model);
Node *data_group_node(Build *build, const DataSet *data, const DataGroup *group);
/* y in the file's units: the transforms of its target's columns undone, down to (not through) `log` where stop_at_log. */
Node *build_file_units(Build *build, const DataSet *data, int first_column, int count, Node *y, bool stop_at_log,
                       Span span);
/* The output as predictions are read: the link applied, the file's units. */
Node *build_prediction(Build *build, const OutputRole *role, Node *output, bool stop_at_log, Span span);
/* Which columns a target node stands for. */
void target_columns(Build *build, const DataSet *data, const Node *target, OutputRole *role);
/* What the data set names, as values of a row, in build->scope. */
void bind_row(Build *build, const DataSet *data);
void bind_wide(Build *build, Scope *scope, Name name); /* where it is a column of one of the scope's wide slots */
/* augment.c: the input as build->augmenting changes it; `called`: the model's parameter, for an input without a name. NULL
   after an error. */
Node *augment_input(Build *build, const DataSet *data, const DataGroup *group, Name called);
typedef struct AugmentedInput {
    const Node *given, *augmented;
} AugmentedInput;
typedef LIST(AugmentedInput) AugmentedInputs;
/* Of a step: what build->scope calls the inputs is augmented from here on. */
bool augment_names(Build *build, const TrainPlan *plan, AugmentedInputs *inputs);
void augment_start(Build *build, const TrainPlan *plan); /* before augment_input */
bool augment_all_used(Build *build, const TrainPlan *plan);
/* mixup.c: of a value and the same of the row's partner. NULL after an error. */
Node *mixup(Build *build, const TrainPlan *plan, Node *own, Node *partner);
/* class_weight.c: what build->scope calls the target is weighed by the losses that are built from here on. */
void weigh_classes(Build *build, const TrainPlan *plan);
int scalar_of_class_weight(const Program *program, const TrainPlan *plan); /* the first of them, where balanced */
int scalar_of_param(const Program *program, int param);
int scalar_of_fitted(const Program *program, const DataSet *data, int fitted);

GraphFunction *function_new(Build *build, const char *name, const char *about, Span span, int64_t capacity);
/* rows: the capacity where it has a value for each row, else 0 */
Buffer *buffer_new(Arena *arena, const char *name, BufferRole role, Scalar scalar, int64_t rows, int rank,
                   const int64_t *dims, Span span);

/* Metrics over a forward pass that build->scope and `forward` hold. rows_loss: the loss of each row and the penalty that
   go first as "loss", or NULL. */
typedef struct MeasureRequest {
    const Args *metrics;
    Forward *forward;
    ModelInstance **models;
    DataSet *data;
    Node *loss, *penalty;
    bool stop_at_log;
    const char *name; /* of the functions: Classifier_validation */
    const char *about;
    Span span;
    int64_t capacity;
    GraphFunction *step; /* sums go into this function too, one pass; metrics that need two are left out. Else NULL */
} MeasureRequest;
/* ranking.c */
Node *build_ranking(Build *build, enum bp_ranking_kind kind, Node *y, Node *t, Span span); /* NULL after an error */
Node *build_greatest(Build *build, Node *x, Span span);              /* the greatest of all rows; NULL after an error */
const Ranking *ranking_behind(const Build *build, const Node *node); /* whose value it is, or NULL */
bool uses_ranking(const Build *build, const Node *node);
void place_rankings(Build *build, const MeasureRequest *request, GraphPass *pass);
bool build_measure(Build *build, const MeasureRequest *request, GraphMeasure *measure, Node **loss_sum);
/* ---- train.c, update.c ----------------------------------------------------------------------------------------------------------- */
/* fc1, body[0..9], body[3].fc2, Net.fc1 as path prefixes */
bool build_layer_paths(Build *build, const GraphTrain *train, const Expr *expr, const char *suffix, Paths *paths);
/* Whether a layer or parameter begins so; reports "no layer 'x'" and `what` else. */
bool build_layer_exists(Build *build, const GraphTrain *train, Name prefix, const char *what, Span span);
bool path_begins(Name path, Name prefix);

/* From train->gradients to the next values of parameters and states. False after an error. */
bool build_updates(Build *build, GraphTrain *train, Updates *updates);

/* What is frozen, before the layers are known: whether they keep their statistics depends on it. */
bool read_frozen(Build *build, const GraphTrain *train, Paths *frozen);
/* The function that sets the states at the beginning. */
void build_start(Build *build, GraphTrain *train);
/* Every value on the way to these that the .bp file names, kept. */
void build_trace(Build *build, GraphTrain *train, Node **losses, int count);
/* One more loss to check, whose gradients are those from `first` on. name: NULL where it is the only one. */
void build_check(Build *build, GraphTrain *train, Name name, Node *objective, int first);
void find_monitor(Build *build, GraphTrain *train); /* early stopping's metric */
void build_train(Build *build, TrainPlan *plan);
void build_step(Build *build, GraphTrain *train); /* step.c: the general form */
void build_evaluate(Build *build, EvaluatePlan *plan);
/* frozen.c: what the step computes of the rows and of frozen parameters alone is computed before it, by train->prefix. */
void keep_frozen(Build *build, GraphTrain *train);
/* work.c: multiply and add of its products, for a row. */
double function_flops(Build *build, const GraphFunction *function);
/* The same and one for every other element that is computed; of the nodes with `seen`, by id. */
double work_of_row(const Graph *graph, const bool *seen);
void mark_computed(const Node *node, bool *seen); /* what is computed where it is; of a custom op the value alone */

#endif
