/* A compiled program, described as data: what the compiler writes (as C initialisers, or in memory for the JIT) and the
   runtime interprets. Kernels hold the arithmetic of the network; everything here is names, shapes, offsets and order.

   Memory. A program owns one block of `memory_bytes`, aligned to 64 bytes, planned by the compiler. Every tensor, batch,
   activation and scalar has a fixed byte offset in it. It begins with the scalars: an array of double,
   indexed by enum bp_scalar, then `param`s, then the fitted values of the data sets.

   Units. Numbers in slots are what the network is fed (after transforms); outputs and metrics are in the file's units.
   Sizes count elements unless the name says bytes. Strings are UTF-8. */
#ifndef BP_PROGRAM_H
#define BP_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#define BP_ABI      10
#define BP_MAX_RANK 4

enum bp_type { BP_F32, BP_F64, BP_I32 };

/* How BP_F32 elements lie in the block. Files, and what people are told of elements, are row-major whatever this says. */
enum bp_layout {
    BP_ROWS,  /* row-major, contiguous */
    BP_PANELS /* BP_PANEL_LANES neighbours of the first axis (of a feed: of a row) together, as a vector takes them:
                 tensor of rank 1 [n]: element i at i;
                 tensor of rank 2 [n][k]: element (i, j) at (i / 16 * k + j) * 16 + i % 16;
                 feed, a batch [rows][width]: element (b, i) at (i / 16 * stride + b) * 16 + i % 16.
                 The last panel is whole; what is beyond n (of a feed: width) in it is 0. */
};
#define BP_PANEL_LANES 16

/* ---- What a kernel sees ------------------------------------------------------------------------------------------ */
struct bp_team; /* the threads of one parallel region, in runtime/threads.c */

struct bp_context {
    char *memory;         /* the block */
    int64_t rows;         /* rows in this batch, 1 .. the function's capacity */
    int64_t position;     /* index of the batch's first row for random draws: 0 when training, its place in the split else */
    uint64_t seed;        /* --seed */
    uint64_t step;        /* updates done before this one: the key of random draws; fixed while evaluating */
    struct bp_team *team; /* for barriers; NULL when serial */
};

/* Every thread of the team calls it with its own number; serial is (0, 1). */
typedef void bp_code(const struct bp_context *context, int32_t thread, int32_t threads);

/* Waits until every thread of the team is here. Emitted between kernels that depend on each other. */
void bp_barrier(struct bp_team *team, int32_t thread);

/* Doubles at the start of memory that the runtime writes before a call. */
enum bp_scalar {
    BP_SCALAR_STEP,            /* updates done before this one in this phase, from 0 */
    BP_SCALAR_EPOCH,           /* epochs finished in this phase, from 0 */
    BP_SCALAR_STEPS,           /* updates that the whole phase will do */
    BP_SCALAR_STEPS_PER_EPOCH, /* updates in one epoch */
    BP_SCALAR_ROWS,            /* rows in this batch; in a finish function: rows measured */
    BP_SCALAR_PLATEAU,         /* what reduce_on_plateau gives in this phase */
    BP_SCALAR_COUNT            /* then the values of `param`, then each data set's fitted values */
};

/* ---- Functions: one call does one batch -------------------------------------------------------------------------- */
/* A batch of one slot, gathered before the call: [capacity][slot width] at `offset`. Of the batch's rows every element is
   written before every call, and zeros beyond the width of panels; beyond those rows nothing is.
   A slot from the data set's slot_count on is a kept value of the phase (struct bp_prefix).
   Row b is the batch's row b, or of a `partner` the row after it; after the last row comes the first.
   `type` may be BP_F64 for a slot of BP_F32: then the runtime converts. */
struct bp_feed {
    int32_t slot; /* index among the data set's slots, or of a kept value */
    enum bp_type type;
    uint64_t offset;       /* bytes */
    enum bp_layout layout; /* BP_PANELS: only where `type` is BP_F32 */
    int64_t stride;        /* BP_PANELS: rows from one panel to the next, at least the function's capacity */
    int32_t own;           /* each thread gathers all rows for itself, scratch_bytes further on than the thread before */
    int32_t partner;       /* the rows that the batch's are mixed with */
};

#define BP_SETTLE_AFTER 1024 /* what the compiler makes room for */

struct bp_function {
    const char *name;
    bp_code *code;    /* NULL: there is no such function */
    int32_t parallel; /* 0: too small for threads, called as (0, 1) */
    int32_t capacity; /* most rows a call may have */
    const struct bp_feed *feeds;
    int32_t feed_count;
    /* Called like `code`, without feeds: does the updates that wait for rows of tables that no batch has read. The runtime
       calls it after at most `settle_after` calls, and before anything but the function itself sees the weights. NULL:
       nothing waits */
    bp_code *settle;
    const char *settle_name;
    int32_t settle_after;
};

/* ---- Data -------------------------------------------------------------------------------------------------------- */
enum bp_kind {
    BP_NUMBER,
    BP_CATEGORY,
    BP_ARRAY, /* `width` numbers a row, from IDX files: an image */
    BP_WORDS  /* a text, read as a bag of words */
};
enum bp_part { BP_TRAIN, BP_VALIDATION, BP_TEST, BP_ALL, BP_PARTS };

enum bp_transform_kind {
    BP_STRIP,                /* text: the characters in `text` are taken off the end of the field (categories) */
    BP_IMPUTE_MEAN,          /* fits 1 value; a missing number becomes it */
    BP_IMPUTE_MEDIAN,        /* fits 1 value */
    BP_IMPUTE_MOST_FREQUENT, /* fits 1 value (for a category, its index); ties: the smallest */
    BP_IMPUTE_CONSTANT,      /* a missing number becomes `argument` */
    BP_DROP,                 /* rows where it is missing are dropped, and counted aloud */
    BP_LOG,                  /* natural logarithm, by the kernel `log`; a value <= 0 is an error */
    BP_STANDARDIZE,          /* fits mean and standard deviation (divisor N): (x - mean) / deviation; a constant column
                                has deviation 1 */
    BP_MINMAX,               /* fits minimum and range: (x - minimum) / range; a constant column has range 1 */
    BP_SCALE                 /* x * argument */
};

struct bp_transform {
    enum bp_transform_kind kind;
    double argument;
    const char *text;
    int32_t fitted; /* index of its first fitted value in the data set's, -1: it fits none */
};

struct bp_column {
    const char *name;
    int32_t line;       /* of the .bp file, for messages */
    int32_t position;   /* field in the file, from 0; -1: found by name in the header */
    enum bp_kind kind;
    const char *const *categories; /* BP_CATEGORY: sorted as the compiler sorted them, index = class. NULL: their names are
                                      the numbers from 0, as text */
    int32_t category_count;
    int32_t unknown_is_zero;       /* a category not in the list: 0 an error, 1 index -1 (a zero row) */
    const char *const *missing;    /* fields that mean missing, besides the empty one */
    int32_t missing_count;
    const struct bp_transform *transforms; /* in order */
    int32_t transform_count;
    int32_t width;     /* BP_ARRAY: numbers a row has; BP_WORDS: words that the vocabulary may have */
    int32_t distinct;  /* BP_WORDS: most different words of the vocabulary that a row may have */
    int32_t lowercase; /* BP_WORDS: A and a are one */
    int32_t counts;    /* BP_WORDS: how often a word occurs; 0: whether it does */
};

enum bp_slot_form {
    BP_SLOT_COLUMNS, /* [width] columns of BP_F32 (numbers) or BP_I32 (a category's index) */
    BP_SLOT_ARRAY,   /* one BP_ARRAY column, BP_F32 */
    BP_SLOT_WORDS,   /* one BP_WORDS column: indices into its vocabulary, ascending, BP_I32; then -1 up to the width */
    BP_SLOT_COUNTS   /* the same column's next slot: how much each of these words counts, BP_F32; then 0 */
};

/* One input of the kernels: a matrix [rows][width] of BP_F32 or BP_I32. */
struct bp_slot {
    const char *name;
    enum bp_type type;
    enum bp_slot_form form;
    int32_t width;
    const int32_t *columns; /* [column_count], indices into the data set's columns */
    int32_t column_count;
    int32_t is_target;      /* not needed for predicting */
};

struct bp_file {
    const char *name;   /* as written in the .bp file */
    const char *path;   /* absolute, recorded when compiling; NULL: `name` in the working directory */
    enum bp_part part;  /* BP_ALL: `split` decides */
    int32_t header;     /* 1: the first line (after skipped ones) names the columns */
    int32_t skip;       /* lines to skip */
    char delimiter;     /* 0: detected among , ; tab | from the first line */
    const char *as;     /* an IDX file: the column that its values are; NULL: a table. A data set has one kind alone.
                           Files of one part and column follow each other; each part has the same rows in every column */
};

struct bp_data {
    const char *name;
    int32_t line;
    const struct bp_file *files;
    int32_t file_count;
    const char *const *rows; /* `rows` in the .bp file: fields, row by row, [row_count * field_count]; else NULL */
    int64_t row_count;
    int32_t field_count;    /* fields a row has where no header says; 0: the header says */
    const char *const *field_names; /* `columns` of the .bp file, [field_count], or NULL: from the header */
    const struct bp_column *columns; /* those used */
    int32_t column_count;
    const struct bp_slot *slots;
    int32_t slot_count;
    double train, validation, test; /* shares of the rows whose file has no part; 0: none. All 0: every row trains */
    int32_t stratify;               /* column, or -1 */
    uint64_t split_seed;
    int32_t folds;                  /* 0, or how many times the rows are dealt out anew: in fold k the k-th share of them is
                                       BP_TEST, `validation` a share of the others, and the rest trains */
    int32_t fitted_count;  /* doubles that the transforms fit */
    uint64_t fitted_offset; /* where the runtime writes them in memory */
    const char *preprocessing_from; /* a checkpoint whose fitted values are used; NULL: fitted on the training part */
    int32_t refit;                  /* fitted afresh although a model comes from a checkpoint */
    /* in place: values[0 .. count) become their natural logarithms; needed where a column has BP_LOG, else NULL */
    void (*log)(float *values, int64_t count);
    const char *log_name; /* what it is called in C; the compiler's printer reads it, the runtime does not */
};

/* ---- Tensors and models ------------------------------------------------------------------------------------------ */
struct bp_tensor {
    const char *name; /* as in a checkpoint: "fc1.weight"; optimizer state: "fc1.weight:v" */
    int32_t line;
    int32_t rank; /* 0: a number */
    int64_t shape[BP_MAX_RANK]; /* as in a checkpoint */
    uint64_t offset;            /* bytes, BP_F32 */
    enum bp_layout layout;      /* BP_PANELS: only where the rank is 1 or 2. Padding is 0 from the start and stays so: who
                                   writes a panel writes zeros there */
};

enum bp_output_kind {
    BP_OUTPUT_NUMBER, /* [width] numbers in the file's units */
    BP_OUTPUT_CLASS,  /* [width] probabilities, one a class; the prediction is the first greatest */
    BP_OUTPUT_BINARY  /* [1] probability of classes[1]; the prediction is classes[probability >= 0.5] */
};

struct bp_output {
    const char *name; /* the target's name (or the output's, where it has no target) */
    enum bp_output_kind kind;
    int32_t width;
    uint64_t offset; /* BP_F32 [capacity][width] */
    const char *const *classes;
    const char *const *columns; /* NUMBER: [width] names of the target's columns, or NULL: name, or name_0, name_1 … */
};

struct bp_model {
    const char *name;
    int32_t line;
    int32_t first_tensor, tensor_count; /* its parameters */
    struct bp_function init;            /* writes every parameter from the seed */
    const char *from;                   /* checkpoint that its tensors with loaded[i] come from, or NULL */
    const uint8_t *loaded;              /* [tensor_count] */
    const double *orthogonal;           /* [tensor_count] the gain where what `init` drew is made orthogonal, else 0; NULL: nowhere */
    int32_t data;                       /* the data set whose columns predict reads, -1: cannot predict */
    struct bp_function predict;         /* feeds: the inputs only */
    const struct bp_output *outputs;
    int32_t output_count;
};

/* ---- Measuring: a loss and metrics over many rows ---------------------------------------------------------------- */
struct bp_metric {
    const char *name;      /* "loss", "accuracy", "f1" … */
    int32_t rows, columns; /* 1 and 1: a number; K and 1: one a class; K and K: [actual][predicted] */
    uint64_t offset;       /* BP_F64 [rows][columns], there once the last pass is finished */
    const char *const *labels; /* class names, NULL for a number */
    int32_t better;        /* +1: higher is better, -1: lower is, 0: not said */
};

/* One sweep over the rows. `accumulate` writes the batch's sums, BP_F32 [sum_count] at sums_offset; the runtime adds them
   up in double over the batches in order, writes the totals, BP_F64 [sum_count] at totals_offset, with the number of rows in
   BP_SCALAR_ROWS, and calls `finish` (serial, no feeds), which makes values for the next pass or the metrics. */
enum bp_ranking_kind { BP_RANKING_ROC, BP_RANKING_PR, BP_RANKING_GREATEST /* score of all; its truths are not read */ };

/* What only the order of all rows tells: the runtime keeps each row's score and truth, and puts the area under the
   curve (ROC: ties count half; PR: average precision) among the totals before it calls `finish`. NaN where all rows
   are of one kind. */
struct bp_ranking {
    enum bp_ranking_kind kind;
    uint64_t scores_offset, truths_offset; /* BP_F32 [capacity]; a truth above 0.5 is positive */
    int32_t total;                         /* its element of the totals */
};

struct bp_pass {
    struct bp_function accumulate, finish;
    uint64_t sums_offset, totals_offset;
    int32_t sum_count; /* then the totals of the rankings */
    const struct bp_ranking *rankings;
    int32_t ranking_count;
};

struct bp_measure {
    const struct bp_pass *passes;
    int32_t pass_count;
    const struct bp_metric *metrics;
    int32_t metric_count;
};

/* ---- Training ---------------------------------------------------------------------------------------------------- */
/* `--check-grad`: the phase's loss and gradient once more in double, plain and slow, in a block of their own.
   It begins as the program's does: scalars, params, fitted values, at the same offsets. */
struct bp_check {
    const char *name;            /* which of the phase's losses it is, NULL: the only one */
    struct bp_function loss;     /* writes the batch's loss (its mean and the penalties), BP_F64 at loss_offset */
    struct bp_function gradient; /* writes one gradient for each checked tensor */
    uint64_t memory_bytes, loss_offset;
    const int32_t *tensors;              /* [tensor_count] every parameter that the loss reads */
    const uint64_t *parameter_offsets;   /* [tensor_count] BP_F64, in the check's block */
    const uint64_t *gradient_offsets;    /* [tensor_count] BP_F64; UINT64_MAX: frozen, no gradient */
    int32_t tensor_count;
};

/* Where a value that is not finite came from: a named value of the forward pass. */
struct bp_trace_point {
    const char *name;
    int32_t line;
    uint64_t offset;       /* BP_F32 [rows][count] */
    enum bp_layout layout; /* BP_PANELS: as a feed's */
    int64_t stride;
    int64_t count;
    int32_t stop; /* the value is there when the trace ends at this stop, and perhaps no longer at the next */
};

/* Doubles that the runtime writes before the phase: rows / (classes with rows * rows of the class), over the training part. */
struct bp_class_weights {
    int32_t column; /* of the data set, a category */
    uint64_t offset;
};

/* What a phase's step and validation read of its frozen layers: functions of a row alone, the same for the whole phase.
   `function` computes them for a batch; the runtime calls it once for all rows and keeps what it gives, or before every
   batch. */
struct bp_kept_value {
    uint64_t offset; /* BP_F32 [capacity][width], as the function writes it */
    int32_t width;
};

struct bp_prefix {
    struct bp_function function; /* code NULL: the phase keeps nothing */
    const struct bp_kept_value *values;
    int32_t value_count;
    int32_t first_slot; /* feeds read value i as slot first_slot + i */
    double flops_per_row;
};

struct bp_plateau { /* reduce_on_plateau */
    double start;  /* the first rate; 0: the phase has none */
    int32_t metric, from_training, better; /* as in bp_early_stopping */
    double factor, threshold, least;
    int64_t patience, cooldown; /* epochs */
};

struct bp_early_stopping {
    int32_t metric;   /* index among the metrics of `validation` (or of `training` where from_training), -1: none */
    int32_t from_training;
    int32_t better;   /* +1 or -1 */
    int64_t patience; /* epochs without improvement */
    double min_delta;
    int64_t start_from_epoch;
    int32_t best_in_file; /* the best weights wait in a file: --max-mem of the compiler leaves no room for them */
};

struct bp_train {
    const char *name; /* the phase: its label, or the model's name */
    int32_t line;
    int32_t data; /* -1: a batch is rows of nothing, whose values are drawn */
    const int32_t *models;
    int32_t model_count;
    int32_t first_state, state_count; /* optimizer state, among the tensors */
    const int32_t *trainable;         /* parameters that this phase changes, among the tensors */
    int32_t trainable_count;
    const int32_t *averages; /* [trainable_count] the states that are their moving averages, which validation measures, early
                                stopping keeps and the end of the phase makes the weights; NULL: none */
    struct bp_function start;   /* sets the optimizer's state, once at the phase's start */
    struct bp_prefix prefix;
    struct bp_measure training; /* one pass; accumulate is the step: forward, backward, update, and sums. Where the loss is
                                   not finite it changes no parameter. The first metrics are losses */
    int32_t first_loss, loss_count; /* where their sums stand among those of the pass; at least 1 */
    struct bp_measure validation; /* pass_count 0: no validation part. The first metrics are the losses */
    int64_t epochs;               /* 0: `steps` says */
    int64_t steps;                /* updates in all; without data (-1) an epoch is BP_STEPS_WITHOUT_DATA of them */
    int64_t batch_size;
    int32_t shuffle; /* 1: a new order each epoch */
    struct bp_early_stopping early_stopping;
    struct bp_plateau plateau;
    const char *checkpoint; /* --resume's file, NULL: none is written */
    int64_t checkpoint_every; /* epochs */
    const struct bp_class_weights *class_weights; /* `class_weight balanced` */
    int32_t class_weight_count;
    double flops_per_row; /* multiply and add counted apart: for gflops in --bench */
    struct bp_function trace; /* the forward pass; it ends at stop i where the double i at trace_stops is not finite */
    const struct bp_trace_point *trace_points; /* in the order of their stops */
    int32_t trace_point_count;
    uint64_t trace_stops;
    const struct bp_check *checks; /* one for each loss */
    int32_t check_count;
};

struct bp_evaluate {
    const char *name; /* "Classifier on iris.test" */
    int32_t line;
    int32_t model, data;
    enum bp_part part;
    struct bp_measure measure;
};

struct bp_save {
    int32_t line;
    const char *path;
    const int32_t *models; /* several: each name is prefixed by the model's and a dot */
    int32_t model_count;
};

#define BP_STEPS_WITHOUT_DATA 1000

enum bp_statement_kind { BP_DO_TRAIN, BP_DO_EVALUATE, BP_DO_SAVE };

struct bp_statement {
    enum bp_statement_kind kind;
    int32_t index; /* into trains, evaluates or saves */
};

struct bp_param {
    const char *name;
    double value; /* unless --set NAME=VALUE; at scalar BP_SCALAR_COUNT + its index */
};

struct bp_program {
    int32_t abi; /* BP_ABI */
    const char *name, *source, *version; /* "iris"; "iris.bp"; the compiler's */
    uint64_t memory_bytes;
    uint64_t scratch_bytes; /* more, behind the block, for each thread that runs */
    const struct bp_param *params;
    int32_t param_count;
    const struct bp_tensor *tensors;
    int32_t tensor_count;
    const struct bp_model *models;
    int32_t model_count;
    const struct bp_data *data;
    int32_t data_count;
    const struct bp_train *trains;
    int32_t train_count;
    const struct bp_evaluate *evaluates;
    int32_t evaluate_count;
    const struct bp_save *saves;
    int32_t save_count;
    const struct bp_statement *statements; /* in order. A model with `from` is loaded before the first one that names it */
    int32_t statement_count;
};

/* The whole command line: runs the program, returns the exit code (0 done, 1 the input was wrong, 2 the command was). */
int bp_main(const struct bp_program *program, int argc, char **argv);

#endif
