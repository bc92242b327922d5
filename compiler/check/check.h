/* The checked program: what the statements of a file mean, before any formula is looked into. Names are found, settings
   understood, the data sets' schemas known; shapes, formulas and losses wait for graph/build.c.

   Invariants: every Definition's item lives as long as the arena; column and slot numbers are in range; each column stands in exactly
   one slot or in none (used for splitting alone); categories are sorted and distinct. */
#ifndef BPC_CHECK_H
#define BPC_CHECK_H

#include "../../runtime/program.h"
#include "../base/base.h"
#include "../syntax/ast.h"

/* ---- Names ------------------------------------------------------------------------------------------------------- */
typedef struct Definition {
    Name name;
    Item *item; /* DEF, BLOCK, LOSS, METRIC, OPTIMIZER, CONST, PARAM, MODEL, DERIVED or DATA */
    bool prelude;
} Definition;

/* ---- Data -------------------------------------------------------------------------------------------------------- */
typedef struct DataTransform {
    enum bp_transform_kind kind;
    double argument;
    Name text;
    int fitted; /* as in bp_transform */
    Span span;
} DataTransform;

typedef struct DataColumn {
    Name name;
    Span span;    /* where the .bp file first names it */
    int position; /* -1: by name in the header */
    bool category; /* kind is BP_CATEGORY */
    enum bp_kind kind;
    Name *categories; /* NULL: the numbers from 0, see column_category */
    int category_count;
    bool binary; /* `binary("x")`: two categories, the positive one is index 1 and is x */
    bool unknown_is_zero;
    Name *missing;
    int missing_count;
    DataTransform *transforms;
    int transform_count;
    int rank;        /* ARRAY: of one row */
    int64_t dims[4]; /* ARRAY: [28, 28] */
    int width;       /* ARRAY: numbers a row has; WORDS: words of the vocabulary */
    int distinct;    /* WORDS: most different words a row may have */
    bool lowercase, counts;
    /* what the table shows while compiling, where it was looked at; another may be given when the program runs */
    bool seen; /* NUMBER: least and greatest are known */
    double least, greatest;
    int64_t *counts_seen; /* CATEGORY: [category_count] rows, or NULL */
} DataColumn;

/* A matrix that the kernels read: neighbouring numbers of a group, or one category column. */
typedef struct DataSlot {
    Name name;
    bool category; /* width 1, indices */
    enum bp_slot_form form;
    int *columns;
    int column_count;
    int width;
    bool target;
} DataSlot;

/* What the program calls by one name: `input image = …`, all unnamed inputs together (name NULL), one target line. */
typedef struct DataGroup {
    Name name; /* NULL: the unnamed inputs */
    Span span;
    bool target;
    int first_slot, slot_count; /* in the order in which the columns were written */
    int width;                  /* numbers, and the classes of categories, added up */
} DataGroup;

typedef struct DataFile {
    Name name;       /* as written */
    const char *path; /* absolute, or NULL when the file was not there while compiling */
    Span span;
    enum bp_part part;
    bool header;
    int skip;
    char delimiter;
    Name as; /* IDX: the column that it holds; NULL: a table */
    Span as_span;
} DataFile;

typedef struct DataSet {
    Name name;
    Span span;
    Item *item;
    DataFile *files;
    int file_count;
    const char **rows; /* inline, [row_count * field_count] */
    int row_count, field_count;
    Name *field_names; /* [field_count] from `columns`, else NULL */
    DataColumn *columns;
    int column_count;
    DataSlot *slots;
    int slot_count;
    DataGroup *groups;
    int group_count;
    double train, validation, test;
    bool has_part[BP_PARTS]; /* which parts may be named: iris.test */
    int folds;
    int stratify; /* column or -1 */
    uint64_t split_seed;
    int fitted_count;
    const char *preprocessing_from; /* as written */
    Span preprocessing_span;
    bool refit;
    int index; /* among the program's */
} DataSet;

/* ---- Statements -------------------------------------------------------------------------------------------------- */
typedef struct ModelUse {
    Item *item; /* MODEL or DERIVED */
    Span span;
} ModelUse;

typedef struct TrainPlan {
    Name name; /* label or model */
    Span span;
    bool finetune;
    ModelUse *models;
    int model_count;
    DataSet *data; /* NULL: none */
    Args loss;     /* one expression: `cross_entropy`, or a formula */
    Span loss_span;
    Args metrics;
    Expr *optimizer; /* NULL where the phase has a step */
    LIST(Setting *) groups;       /* `optimizer … for layers`: one value, and one clause with the layers */
    Expr *clip_value, *clip_norm; /* NULL: none */
    int64_t accumulate;           /* batches an update, 1 or more */
    Expr *average;                /* decay of the moving average of the weights, NULL: none */
    Span average_span;
    bool live_statistics;         /* frozen layers go on measuring what they see */
    int64_t epochs, steps, batch_size; /* epochs or steps 0: not given */
    bool shuffle;
    Expr *l1, *l2; /* NULL: none */
    Args freeze;   /* layers: NAME, FIELD, INDEX expressions */
    bool early_stopping;
    Name monitor; /* "val_loss" */
    Span monitor_span;
    int64_t patience, start_from_epoch;
    double min_delta;
    int better; /* from mode = max | min; 0: the metric says */
    LIST(Setting *) augments; /* augment image : shift(pixels = 2); each names inputs */
    double mixup;             /* alpha of `augment mixup(alpha = 0.2)`; 0: rows are not mixed */
    Span mixup_span;
    int class_column; /* of the data set: the target whose classes are weighed; -1: none */
    bool class_balanced;
    double *class_weights; /* [categories], unless balanced */
    Span class_span;
    const char *checkpoint;
    int64_t checkpoint_every;
    Setting *step; /* the general form, or NULL */
    Args log;      /* names of its values */
    bool from_host; /* its rows come from a program in C */
} TrainPlan;

typedef struct EvaluatePlan {
    Span span;
    ModelUse model;
    DataSet *data;
    enum bp_part part;
    Span part_span;
    Name in; /* NULL, or log */
    Args metrics;
} EvaluatePlan;

typedef struct SavePlan {
    Span span;
    ModelUse *models;
    int model_count;
    const char *path;
} SavePlan;

typedef struct Action {
    enum bp_statement_kind kind;
    TrainPlan *train;
    EvaluatePlan *evaluate;
    SavePlan *save;
} Action;

typedef struct ParamValue {
    Name name;
    Span span;
    double value;
} ParamValue;

typedef struct Program {
    Arena *arena;
    Name name; /* of the file, without folder and .bp */
    const char *path; /* of the .bp file as given */
    LIST(Definition) definitions;
    LIST(DataSet *) data;
    LIST(Action) actions; /* in order */
    LIST(ParamValue) params; /* `param`, in order */
} Program;

typedef struct CheckOptions {
    bool record_paths;  /* false for --emit=c: paths are resolved while compiling, but not kept */
    const char **defines; /* -D width=64: "width=64" */
    int define_count;
} CheckOptions;

/* Collects definitions (prelude first, then `use`d files, then the file: a later one shadows a prelude name, with a note; two of one name
   in user files are an error), understands data, train, finetune, evaluate and save. Reports every error it finds; NULL when there were
   any. Files of data sets are looked for beside the .bp file and scanned only where kinds or categories are not declared. */
Program *check_program(Arena *arena, Ast *ast, const CheckOptions *options);

/* lint.c: warnings of what cannot be meant, once there is no error. */
void lint_program(const Program *program);

/* kinds.c: the names of a column's categories, whether they are listed or only counted. */
Name column_category(const DataColumn *column, int index);
Name *column_categories(Arena *arena, const DataColumn *column);

/* A user's definition or, failing that, the prelude's; NULL when there is none. */
const Definition *program_find(const Program *program, Name name);
DataSet *program_data(const Program *program, Name name);
/* Every name that could have been meant, for nearest_name. */
int program_names(const Program *program, Arena *arena, const Name **names);

/* A constant of the language: numbers, `const`s, pi, + - * / ^ and unary minus over them. Reports an error and returns false otherwise. */
bool check_number(const Program *program, const Expr *expr, const char *what, double *number);
bool check_integer(const Program *program, const Expr *expr, const char *what, int64_t least, int64_t *integer);

/* The whole of it as text, for --dump=checked. */
void program_print(const Program *program, Text *out);

#endif
