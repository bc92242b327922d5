/* What the parts of the runtime promise each other. Nothing here exits or prints on its own: a function that can fail
   returns 0 and fills an error, and whoever called decides. Only libc, libm and OpenMP are needed
   (zlib where BP_HAVE_ZLIB is defined). The runtime's own floating point is + - * / and sqrt: what needs exp or log is a kernel.
   Whoever joins the files into one begins it with `#define _XOPEN_SOURCE 700`, before any header. */
#ifndef BP_RUNTIME_H
#define BP_RUNTIME_H

#include "program.h"

#include <stdio.h>

struct bp_error {
    char text[1024];
};
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int bp_fail(struct bp_error *error, const char *format, ...); /* returns 0 */

/* ---- memory.c: allocation that fails with a message -------------------------------------------------------------- */
void *bp_allocate(size_t bytes, const char *what, struct bp_error *error); /* zeroed, aligned to 64; NULL on failure; free() */
/* The number behind `key` at the start of a line of a file, 0 where there is none: what the system tells of memory. */
unsigned long long bp_memory_read(const char *path, const char *key);
int bp_memory_is_short(size_t bytes); /* whether so many more are not to be had, as far as the system tells */

/* ---- text.c ------------------------------------------------------------------------------------------------------ */
struct bp_text { /* a growing buffer, NUL-terminated once anything was added; `failed` is set when memory ran out */
    char *at;
    size_t length, capacity;
    int failed;
};
void bp_text_add(struct bp_text *text, const char *bytes, size_t length);
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void bp_text_printf(struct bp_text *text, const char *format, ...);
void bp_text_number(struct bp_text *text, double value); /* shortest that reads back the same; NaN, Infinity, -Infinity */
void bp_text_json(struct bp_text *text, const char *string); /* quoted and escaped */
void bp_text_free(struct bp_text *text);
/* Reads a decimal number that fills [text, text + length) (spaces around it allowed), whatever the locale: "1", "-.5", "1e-3", "+2".
   1 on success. "nan", "inf", hexadecimal are not numbers. */
int bp_parse_number(const char *text, size_t length, double *value);
/* What nearly every number of a table is: it stands at the start of [at, end), has a digit first, perhaps after a sign, perhaps a point,
   and at most 15 digits that count. Returns what follows it, NULL where there is none: then it takes bp_parse_number to tell. */
const char *bp_short_number(const char *at, const char *end, double *value);
int bp_number_beyond(const char *text, size_t length); /* written like a number, but no double is as large */

/* ---- file.c ------------------------------------------------------------------------------------------------------ */
/* Writes beside the target, fsyncs, renames; the old file is whole until the new one is. */
struct bp_writer; /* buffered */
struct bp_writer *bp_writer_open(const char *path, struct bp_error *error); /* "-" is stdout */
int bp_writable(const char *path, struct bp_error *error); /* whether a writer could be opened now; leaves nothing behind */
int bp_same_file(const char *a, const char *b);
int bp_writer_put(struct bp_writer *writer, const void *bytes, size_t length, struct bp_error *error);
int bp_writer_commit(struct bp_writer *writer, struct bp_error *error); /* frees it, in any case */
void bp_writer_abandon(struct bp_writer *writer);                       /* removes what was written; frees; NULL is allowed */
/* Whole file in malloc'd memory with a final NUL; gzip is unpacked where BP_HAVE_ZLIB (else an error that says so). */
char *bp_read_file(const char *path, size_t *length, struct bp_error *error);

/* ---- random.c: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; 2011) ----- */
enum bp_stream { BP_STREAM_SPLIT = 1, BP_STREAM_SHUFFLE, BP_STREAM_CHECK, BP_STREAM_BENCH, BP_STREAM_FOLD };
void bp_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
uint64_t bp_random(uint64_t seed, uint32_t stream, uint64_t a, uint32_t b); /* 64 bits keyed by all its arguments */
/* orthogonal.c: the values at `stored`, of two axes or more, made orthogonal and of the length `gain`. */
int bp_orthogonal(const struct bp_tensor *tensor, float *stored, double gain, struct bp_error *error);
/* order[0 .. count) is shuffled (Fisher-Yates, unbiased), keyed by (seed, stream, epoch). */
void bp_shuffle(int64_t *order, int64_t count, uint64_t seed, uint32_t stream, uint64_t epoch);

/* ---- csv.c: RFC 4180 with a delimiter; spaces around a field are not part of it unless quoted -------------------- */
struct bp_field {
    const char *at; /* not NUL-terminated; quotes taken off and doubled ones undone in place */
    int32_t length;
    int16_t quoted;
    int16_t is_number; /* and `number` is it; 0: bp_parse_number tells */
    double number;
};
struct bp_csv {
    char *text; /* owned; rows are cut out of it in place */
    size_t length, next;
    int64_t line; /* of the row last read, from 1, counting newlines inside quotes */
    int64_t next_line; /* of the text at `next` */
    char delimiter;
    int no_numbers; /* the delimiter may stand in one */
    const char *path;
    struct bp_field *fields;
    int32_t field_count, field_capacity;
};
/* delimiter 0: the one of , ; tab | that the first line holds most of outside quotes (comma when none). BOM and CRLF are accepted. */
int bp_csv_open(struct bp_csv *csv, const char *path, char delimiter, int32_t skip, struct bp_error *error);
int bp_csv_row(struct bp_csv *csv, struct bp_error *error); /* 1 a row, 0 the end, -1 an error. Blank lines are skipped */
void bp_csv_close(struct bp_csv *csv);

/* ---- idx.c: IDX files -------------------------------------------------------------------------------------------- */
struct bp_idx {
    const char *path; /* as messages show it */
    char *bytes;      /* of the file, unpacked; owned */
    size_t length;
    const unsigned char *values;
    int type;
    int32_t rank; /* of a row */
    int64_t dims[BP_MAX_RANK], rows, width;
};
int bp_idx_is(const char *bytes, size_t length); /* as far as the first four bytes tell */
int bp_idx_open(struct bp_idx *idx, const char *path, const char *shown, struct bp_error *error);
double bp_idx_value(const struct bp_idx *idx, int64_t element);
void bp_idx_close(struct bp_idx *idx);

/* ---- json.c: reads JSON for checkpoints' headers ----------------------------------------------------------------- */
enum bp_json_kind { BP_JSON_NULL, BP_JSON_FALSE, BP_JSON_TRUE, BP_JSON_NUMBER, BP_JSON_STRING, BP_JSON_ARRAY, BP_JSON_OBJECT };
struct bp_json {
    enum bp_json_kind kind;
    double number;
    int64_t integer;        /* valid where is_integer: a number written as one, within int64 */
    int32_t is_integer;
    char *string;           /* decoded UTF-8 */
    char **keys;            /* OBJECT */
    struct bp_json *items;  /* ARRAY, OBJECT */
    int32_t count;
};
/* The whole text must be one value; duplicate keys, bad escapes, nesting over 64 are errors. Free even after a failure. */
int bp_json_parse(struct bp_json *json, const char *text, size_t length, struct bp_error *error);
const struct bp_json *bp_json_get(const struct bp_json *object, const char *key); /* NULL when absent */
void bp_json_free(struct bp_json *json);

/* ---- data.c, fit.c, split.c: a table from its files to slots ----------------------------------------------------- */
struct bp_table {
    const struct bp_data *data;
    int64_t rows;
    void **slots;             /* [slot_count]: float or int32_t [rows][width] */
    int64_t *parts[BP_PARTS]; /* row numbers of each part, ascending; BP_ALL is every row */
    int64_t part_rows[BP_PARTS];
    double *fitted; /* [fitted_count] */
    int64_t **starts; /* [slot_count] of words and counts: row r is slots[i][starts[i][r] .. starts[i][r + 1]); else NULL */
    char *vocabulary; /* JSON, {"review": ["the", …]}, where texts are words; else NULL */
    int64_t dropped; /* rows dropped for missing values */
};
struct bp_data_options {
    const char *path;     /* --data NAME=PATH: instead of the (only, or first) file; NULL: as compiled */
    const double *fitted; /* values to use instead of fitting, or NULL */
    const char *vocabulary; /* a table's, to use instead of fitting, or NULL */
    int32_t fold;         /* which of the data set's folds, from 0 */
    int32_t predicting;   /* targets are not read; every row is kept, in order, in BP_ALL; `drop` becomes an error */
    int32_t threads;      /* that may read a large file; the table is the same */
};
/* The columns while they are made: read by data.c, parted by split.c, transformed by fit.c. */
struct bp_place {
    int32_t file; /* index into file_names, -1: `rows` in the .bp file */
    int64_t line; /* in that file; of `rows`: the row, from 1 */
};
struct bp_raw {
    const struct bp_data *data;
    const char **file_names; /* as messages show them */
    int64_t rows;
    struct bp_place *places; /* [rows] */
    uint8_t *parts;          /* [rows] enum bp_part that the row's file is for */
    double **values;         /* [column_count][rows], a category's index; NULL: this column is not read (a target when predicting) */
    uint8_t **missing;       /* [column_count][rows] 1: missing, the value is 0 */
    struct bp_words **words; /* [column_count] BP_WORDS alone, in words.c */
    float **arrays;          /* [column_count][rows][width], BP_ARRAY alone: of it nothing is missing */
};
int bp_data_has_words(const struct bp_data *data);
/* Writes "iris.csv:12" for a row. */
void bp_raw_place(const struct bp_raw *raw, int64_t row, char *out, size_t size);
/* Fills table->parts and part_rows. */
int bp_split_rows(const struct bp_raw *raw, int32_t fold, struct bp_table *table, struct bp_error *error);
/* Fits on table->parts[BP_TRAIN] (or uses `given`), transforms the values in place, fills table->fitted. */
int bp_fit_columns(struct bp_raw *raw, struct bp_table *table, const double *given, struct bp_error *error);
/* One column, in place, with fitted values that are there. */
int bp_transform_column(struct bp_raw *raw, int32_t column, double *fitted, struct bp_error *error);
/* The columns of a slot, transformed, to its matrix [rows][width]. */
int bp_fill_slot(const struct bp_raw *raw, const struct bp_slot *slot, void *memory, struct bp_error *error);

/* Reads, checks against the schema, fits on the training part, transforms. Errors name file, line and column.
   Shares go to the rows of files without a part; where every file has one, to the rows of its training files. Training rows
   are what validation and test leave where `train` is 0; shares below 1 in all leave rows unused. */
int bp_table_load(struct bp_table *table, const struct bp_data *data, const struct bp_data_options *options,
                  struct bp_error *error);
void bp_table_free(struct bp_table *table);
/* A fingerprint of which row is in which part (kept in checkpoints: a later run must not train on earlier test rows). */
uint64_t bp_table_split_hash(const struct bp_table *table);
/* Fitted values as JSON by column and transform name, for a checkpoint's metadata, and back: a column or transform that is
   missing or of another kind is an error that names it. */
void bp_fitted_write(const struct bp_data *data, const double *fitted, struct bp_text *json);
int bp_fitted_read(const struct bp_data *data, const char *json, size_t length, double *fitted, struct bp_error *error);
/* What a category is called: where its number is the name, that is written into `number`. In fields.c. */
#define BP_CATEGORY_NUMBER 12 /* bytes */
const char *bp_category_name(const struct bp_column *column, int32_t index, char *number);

/* ---- layout.c: between the layouts of program.h and row-major ---------------------------------------------------- */
int64_t bp_tensor_count(const struct bp_tensor *tensor);  /* elements */
int64_t bp_tensor_stored(const struct bp_tensor *tensor); /* floats in memory, padding among them */
/* Row-major elements first .. first + count - 1 of the tensor at `stored`, from or to `values`. */
void bp_tensor_get(const struct bp_tensor *tensor, const float *stored, int64_t first, int64_t count, float *values);
/* Where the last element is among them, the padding becomes 0. */
void bp_tensor_put(const struct bp_tensor *tensor, float *stored, int64_t first, int64_t count, const float *values);
int64_t bp_finite_prefix(const float *values, int64_t count); /* elements before the first that is not finite */
/* The same in row-major order, bp_tensor_count where all are finite; padding is not looked at. */
int64_t bp_tensor_finite_prefix(const struct bp_tensor *tensor, const float *stored);
/* Rows low .. high - 1 of a feed of BP_PANELS at `to`: row b is row order[b] of `from`, [][width], padded with zeros. */
void bp_feed_panels(const struct bp_feed *feed, const float *from, int64_t width, const int64_t *order, int64_t low,
                    int64_t high, float *to);

/* ---- weights.c: safetensors -------------------------------------------------------------------------------------- */
struct bp_archive_entry {
    char *name;
    enum bp_type type; /* BP_F32, BP_F64; other dtypes are kept as -1 with their name in dtype */
    char dtype[8];
    int32_t rank;
    int64_t shape[8];
    uint64_t begin, end; /* within the data, bytes */
};
struct bp_best;
struct bp_archive {
    const char *path;
    struct bp_archive_entry *entries; /* in file order */
    int32_t entry_count;
    char **metadata_keys, **metadata_values;
    int32_t metadata_count;
    uint64_t data_start, file_bytes;
};
/* Reads and checks the header alone: its length within the file, JSON without duplicate keys, dtypes and shapes that match the
   offsets, no overlap, no hole, nothing beyond the end. */
int bp_archive_open(struct bp_archive *archive, const char *path, struct bp_error *error);
void bp_archive_close(struct bp_archive *archive);
const struct bp_archive_entry *bp_archive_find(const struct bp_archive *archive, const char *name);
const char *bp_archive_metadata(const struct bp_archive *archive, const char *key); /* NULL when absent */
/* A tensor that files hold as I64: "bn.num_batches_tracked". */
int bp_is_counter(const char *name, int32_t rank);
int bp_archive_is_read(const struct bp_archive_entry *entry); /* F32, F64; I64 where it is a counter */
/* Reads one entry's elements as float (others are converted), exactly `count` of them. */
int bp_archive_read(const struct bp_archive *archive, const struct bp_archive_entry *entry, float *out, int64_t count,
                    struct bp_error *error);
/* The same, exactly the tensor's elements, into the tensor's layout at `stored`. */
int bp_archive_read_tensor(const struct bp_archive *archive, const struct bp_archive_entry *entry,
                           const struct bp_tensor *tensor, float *stored, struct bp_error *error);
struct bp_archive_tensor { /* one tensor to write: row-major in the file, `layout` in memory */
    const char *name;
    int32_t rank;
    int64_t shape[BP_MAX_RANK];
    const float *values; /* NULL: they are in `best`, row-major */
    enum bp_layout layout;
    const struct bp_best *best;
};
/* The same, exactly best->count elements, to `best`. */
int bp_archive_read_best(const struct bp_archive *archive, const struct bp_archive_entry *entry, struct bp_best *best,
                         struct bp_error *error);
int bp_archive_write(const char *path, const struct bp_archive_tensor *tensors, int32_t count, const char *const *keys,
                     const char *const *values, int32_t metadata_count, struct bp_error *error);

/* ---- best.c: the best weights of a phase so far, in memory, or in a file where memory is short ------------------ */
struct bp_best { /* `count` numbers, row-major, one tensor after another as a checkpoint holds them */
    int64_t count;
    float *values;  /* NULL: none are kept, or they are in the file */
    int in_file;    /* the file has no name: nothing is left of it, however the program ends */
    int descriptor;
};
/* Asked for, or where memory does not suffice: in a file in the working directory. Free even after a failure. */
int bp_best_start(struct bp_best *best, int64_t count, int in_file, struct bp_error *error);
int bp_best_is_kept(const struct bp_best *best);
void bp_best_free(struct bp_best *best);
int bp_best_put(struct bp_best *best, int64_t first, int64_t count, const float *values, struct bp_error *error);
int bp_best_get(const struct bp_best *best, int64_t first, int64_t count, float *values, struct bp_error *error);
/* A tensor's elements, from element `first` of the best, out of its layout or into it. */
int bp_best_put_tensor(struct bp_best *best, int64_t first, const struct bp_tensor *tensor, const float *stored,
                       struct bp_error *error);
int bp_best_get_tensor(const struct bp_best *best, int64_t first, const struct bp_tensor *tensor, float *stored,
                       struct bp_error *error);

/* ---- threads.c: the one parallel region -------------------------------------------------------------------------- */
typedef void bp_task(void *argument, int32_t thread, int32_t threads, struct bp_team *team);
/* Runs the task on `threads` threads (this one among them); with 1 no parallel runtime is touched and team is NULL. */
void bp_parallel(int32_t threads, bp_task *task, void *argument);
int32_t bp_default_threads(void); /* OMP_NUM_THREADS, else the cores this process may use */

/* ---- The program half: one instance of a program, and what is done with it --------------------------------------- */
/* threads.c sweep.c (batches) instance.c model.c (weights) train.c diverge.c checkpoint.c evaluate.c predict.c bench.c
   check.c options.c log.c program.c (bp_main) */
#define BP_MAX_THREADS 1024

enum bp_command { BP_COMMAND_RUN, BP_COMMAND_PREDICT };
struct bp_options { /* options.c */
    enum bp_command command;
    int help, version, quiet, check_grad, log_steps;
    int seed_given, threads_given;
    uint64_t seed;
    int32_t threads; /* 1 .. BP_MAX_THREADS */
    int64_t cache;   /* --cache: bytes that kept values of frozen layers may take; negative: a quarter of the machine's */
    int64_t bench;   /* --bench: steps or rows; 0: not asked */
    const char *log, *resume, *phase, *weights, *input, *output, *model;
    const char **data_paths; /* [data_count] --data, else NULL */
    double *params;          /* [param_count] */
    uint8_t *param_given;    /* [param_count] */
    int64_t *epochs, *steps; /* [train_count], as compiled unless --epochs or --steps; one of the two is 0 */
    uint8_t *length_given;   /* [train_count] of this phase by its name */
};
/* argv as main has it. 0: the command was wrong (exit 2). Free even after a failure. */
int bp_options_read(struct bp_options *options, const struct bp_program *program, int argc, char **argv,
                    struct bp_error *error);
void bp_options_free(struct bp_options *options);
int64_t bp_cache_bytes(const struct bp_options *options); /* what --cache allows */
void bp_options_help(const struct bp_program *program, FILE *out);
/* The candidate nearest to a misspelt word, or NULL when none is near. */
const char *bp_nearest(const char *word, const char *const *candidates, int32_t count);

struct bp_log { /* log.c: standard output for people, a file of JSON lines for machines */
    int quiet;
    FILE *file; /* NULL: no --log */
    const char *path;
};
int bp_log_open(struct bp_log *log, const char *path, int append, int quiet, struct bp_error *error);
int bp_log_line(struct bp_log *log, struct bp_text *json, struct bp_error *error); /* writes, flushes, frees `json` */
int bp_log_close(struct bp_log *log, struct bp_error *error);
/* For people: to standard output unless --quiet. Whether all could be written is asked at the end. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void bp_say(const struct bp_log *log, const char *format, ...);
void bp_log_number(struct bp_text *json, double value); /* null where it is not finite: JSON has no word for it */
void bp_log_metrics(struct bp_text *json, const struct bp_measure *measure, const double *values, const char *prefix);
void bp_point(char *digits); /* what printf wrote, with a point whatever the locale writes */
/* For people: four decimals, or four digits where that says little. */
void bp_text_metric(struct bp_text *text, double value);
void bp_log_table(const struct bp_log *log, const struct bp_measure *measure, const double *values);

/* What a run that is resumed must find as it was. */
struct bp_expectation {
    int given;
    int64_t rows;
    uint64_t split;
    char *fitted; /* JSON */
};
struct bp_instance {
    const struct bp_program *program;
    const struct bp_options *options;
    struct bp_log *log;
    char *memory;
    uint64_t seed;
    int32_t fold; /* of the data sets that have folds */
    int32_t threads;
    struct bp_table *tables;             /* [data_count] */
    uint8_t *table_loaded;               /* [data_count] */
    uint8_t *model_ready;                /* [model_count] initialised or loaded */
    struct bp_expectation *expectations; /* [data_count] */
    int64_t epochs_done;                 /* of all phases, in this process */
    int hosted;                          /* rows come from host.c: there are no files, and no split */
};
int bp_instance_start(struct bp_instance *instance, const struct bp_program *program, const struct bp_options *options,
                      struct bp_log *log, struct bp_error *error);
/* How many threads it may use from now on; its block grows by their scratch. */
int bp_instance_threads(struct bp_instance *instance, int32_t threads, struct bp_error *error);
void bp_instance_free(struct bp_instance *instance);
int bp_instance_table(struct bp_instance *instance, int32_t data, struct bp_error *error); /* loads it on first use */
/* Fitted values that the program takes from a checkpoint: *given is 0 where it takes none. */
int bp_instance_given(struct bp_instance *instance, int32_t data, double *fitted, int *given, struct bp_error *error);
/* The data set and the weights of the models that are trained on it are made anew when they are next used. */
void bp_instance_forget(struct bp_instance *instance, int32_t data);
void bp_instance_fitted(struct bp_instance *instance, int32_t data, const double *fitted); /* puts them in memory */
/* The rows of a part; every row where the data has no parts. 0 rows is an error. */
int bp_instance_part(struct bp_instance *instance, int32_t data, enum bp_part part, const int64_t **order,
                     int64_t *rows, struct bp_error *error);
double *bp_scalars(struct bp_instance *instance);
float *bp_tensor_values(const struct bp_instance *instance, int32_t tensor); /* in its layout */
/* Whether the program itself writes that checkpoint: it holds nothing that its data sets do not know already, and may not be
   there yet. */
int bp_program_saves(const struct bp_program *program, const char *path);
double bp_seconds(void);                                      /* a clock that only goes forward */

int bp_interrupted(void); /* program.c: a signal asked to stop */

/* Initialises it (and loads it where it has a checkpoint) unless that is done. */
int bp_model_ready(struct bp_instance *instance, int32_t model, struct bp_error *error);
void bp_model_init(struct bp_instance *instance, int32_t model); /* from the seed alone, no file; what is to be orthogonal is
                                                                    not yet: for who overwrites it, or only counts time */
/* Copies the tensors with mask[i] (all where mask is NULL) from the archive; every one that does not fit is told. */
int bp_model_load(struct bp_instance *instance, int32_t model, const struct bp_archive *archive, const uint8_t *mask,
                  struct bp_error *error);
int bp_model_fitted(const struct bp_data *data, const struct bp_archive *archive, double *fitted,
                    struct bp_error *error);
/* The vocabularies that the file holds for the data set, to be freed; NULL with an error. */
char *bp_model_vocabulary(const struct bp_data *data, const struct bp_archive *archive, struct bp_error *error);
/* 0 where the file was trained on a data set of that name that was split otherwise. */
int bp_model_same_split(const struct bp_archive *archive, const struct bp_table *table);
int bp_model_save(struct bp_instance *instance, const struct bp_save *save, struct bp_error *error);

/* What a statement or a mode does; each returns an exit code's meaning. */
enum bp_outcome { BP_OK = 0, BP_FAILED = 1, BP_USAGE = 2, BP_INTERRUPTED = 130 };

/* kept.c: what a phase's frozen layers give for the rows, see program.h's bp_prefix. */
struct bp_kept {
    const struct bp_prefix *prefix;
    float **values;         /* [value_count][rows of the table][width]; NULL: the prefix runs before every batch */
    const int64_t *numbers; /* 0, 1, 2 … as many as a batch has rows, where `values` is NULL */
    int64_t *own_numbers;
};

enum bp_sweep_end { BP_SWEEP_DONE, BP_SWEEP_NOT_FINITE, BP_SWEEP_INTERRUPTED, BP_SWEEP_FAILED };
/* One function over rows, batch by batch, in one parallel region. */
struct bp_sweep {
    struct bp_instance *instance;
    const struct bp_function *function;
    char *memory; /* the instance's, or a block of its own */
    const struct bp_table *table;
    const int64_t *order; /* [rows] row numbers of the table */
    int ascending_by_one; /* they are order[0], order[0] + 1, … : a batch is copied at once */
    const struct bp_kept *kept; /* what feeds beyond the table's slots read, or NULL */
    int64_t rows, batch;
    int64_t first, last; /* batches first .. last - 1 of the ceil(rows / batch); beyond those they start over */
    int training;        /* step counts on and position is 0; else step is 0 and position the row's place in `order` */
    uint64_t step;       /* updates done before batch `first` */
    uint64_t sums_offset;
    int32_t sum_count;
    double *totals; /* [sum_count], added to; a batch with a sum that is not finite ends the sweep and is not added */
    double *last_sums; /* [sum_count] those of the last batch; NULL: every batch is added, finite or not */
    int (*after)(void *argument, int64_t place,
                 int64_t rows); /* on thread 0 once a batch is done; 0: BP_SWEEP_FAILED */
    void *argument;
    int64_t done;          /* out: batches done are first .. done - 1; a batch not finite is `done` itself */
    int32_t threads;       /* out: how many there were */
    enum bp_sweep_end end; /* out */
};
void bp_sweep_run(struct bp_sweep *sweep);
/* Bytes that the kept values of so many rows take. */
int64_t bp_kept_bytes(const struct bp_prefix *prefix, int64_t rows);
/* Without values: they are computed before every batch. */
int bp_kept_start(struct bp_kept *kept, const struct bp_prefix *prefix, struct bp_error *error);
/* Room for the values of so many rows of a table; 0 where there is none, and all is as before. */
int bp_kept_reserve(struct bp_kept *kept, int64_t rows);
/* The values of rows order[0 .. rows) of the table. */
enum bp_outcome bp_kept_fill(struct bp_kept *kept, struct bp_instance *instance, const struct bp_table *table,
                             const int64_t *order, int64_t rows);
void bp_kept_free(struct bp_kept *kept);
int bp_reads_kept(const struct bp_function *function, const struct bp_data *data);
/* A function without feeds (init, start, finish). */
void bp_call(struct bp_instance *instance, const struct bp_function *function);
int64_t bp_measure_values(const struct bp_measure *measure); /* how many numbers its metrics are, together */
void bp_measure_finish(struct bp_instance *instance, const struct bp_pass *pass, const double *totals, int64_t rows);
void bp_measure_copy(const struct bp_instance *instance, const struct bp_measure *measure, double *values);
/* ranking.c: the area under a curve; NaN where it has none, -1 after an error. */
double bp_ranking_area(enum bp_ranking_kind kind, const float *scores, const float *truths, int64_t count,
                       struct bp_error *error);
struct ranking_row;
struct bp_rankings { /* while a pass goes over the rows */
    struct bp_instance *instance;
    const struct bp_pass *pass;
    int64_t rows;
    float *values; /* [ranking_count][scores, truths][rows] */
    struct ranking_row *order; /* [rows] */
};
int bp_rankings_start(struct bp_rankings *rankings, struct bp_instance *instance, const struct bp_measure *measure,
                      int64_t rows, struct bp_error *error);
int bp_rankings_take(void *argument, int64_t place, int64_t rows); /* a sweep's `after` */
void bp_rankings_finish(struct bp_rankings *rankings, double *totals);
void bp_rankings_free(struct bp_rankings *rankings);
/* What measuring needs besides the block, for as many times as it is done over so many rows. Free even after a failure. */
struct bp_measuring {
    double *totals;
    size_t totals_bytes;
    struct bp_rankings rankings;
};
int bp_measuring_start(struct bp_measuring *measuring, struct bp_instance *instance, const struct bp_measure *measure,
                       int64_t rows, struct bp_error *error);
void bp_measuring_free(struct bp_measuring *measuring);
/* Measures over order[0 .. rows): values [bp_measure_values]. Allocates nothing. 1 done, 0 interrupted. */
int bp_measure_again(struct bp_instance *instance, const struct bp_measure *measure, struct bp_measuring *measuring,
                     const struct bp_kept *kept, int32_t data, const int64_t *order, int64_t rows, double *values);
/* The same once. 1 done, 0 error, -1 interrupted. */
int bp_measure_run(struct bp_instance *instance, const struct bp_measure *measure, int32_t data, const int64_t *order,
                   int64_t rows, double *values, struct bp_error *error);

/* Where a training phase stands; what a checkpoint keeps besides tensors. */
/* plateau.c */
struct bp_plateau_state {
    double rate, best;
    int64_t bad, cooling; /* epochs without a better value; epochs in which none counts */
};
void bp_plateau_start(const struct bp_plateau *plateau, struct bp_plateau_state *state);
void bp_plateau_step(const struct bp_plateau *plateau, struct bp_plateau_state *state, double value);

struct bp_progress {
    int32_t statement, train;
    int64_t epoch, batch; /* finished epochs; finished batches of the next one */
    int64_t batches;      /* batches of an epoch */
    double *totals;       /* [sum_count] sums of those batches */
    int32_t sum_count;
    int stopped;        /* early */
    int64_t best_epoch; /* from 1; 0: none yet */
    double best_value;
    int64_t waited; /* epochs without improvement */
    struct bp_plateau_state plateau;
    struct bp_best best; /* values of the phase's trainable tensors at the best epoch */
};
int64_t bp_train_values(const struct bp_program *program,
                        const struct bp_train *train); /* elements of its trainable tensors */
int bp_progress_start(struct bp_progress *progress, const struct bp_program *program, int32_t statement,
                      struct bp_error *error);
void bp_progress_free(struct bp_progress *progress);
/* checkpoint.c */
int bp_checkpoint_write(struct bp_instance *instance, const struct bp_progress *progress, struct bp_error *error);
/* Tensors into memory, models ready, expectations of data set, *progress started and filled. Options not given (--seed,
   --set) are taken from the checkpoint. */
int bp_checkpoint_read(struct bp_instance *instance, const char *path, struct bp_progress *progress,
                       struct bp_error *error);

/* train.c; `resumed` is NULL for a phase that starts. */
enum bp_outcome bp_train_run(struct bp_instance *instance, int32_t statement, struct bp_progress *resumed,
                             struct bp_error *error);
/* class_weight.c: the phase's balanced weights, from these rows of its data set; NULL: all are 1. */
void bp_class_weights_set(struct bp_instance *instance, const struct bp_train *train, const int64_t *rows,
                          int64_t row_count);
/* diverge.c: says where the first value that is not finite came from. */
void bp_train_explain(struct bp_instance *instance, const struct bp_sweep *sweep, const struct bp_train *train,
                      int64_t epoch, struct bp_error *error);
enum bp_outcome bp_evaluate_run(struct bp_instance *instance, const struct bp_evaluate *evaluate,
                                struct bp_error *error);
/* What it measures: values [bp_measure_values]; and how that is told. */
enum bp_outcome bp_evaluate_values(struct bp_instance *instance, const struct bp_evaluate *evaluate, double *values,
                                   int64_t *rows, struct bp_error *error);
int bp_evaluate_tell(struct bp_instance *instance, const struct bp_evaluate *evaluate, int64_t rows,
                     const double *values, struct bp_error *error);
/* folds.c: the data set with folds that a statement is about, -1; and all `wanted` statements about it, fold by fold. */
int32_t bp_statement_folds(const struct bp_program *program, const struct bp_statement *statement);
enum bp_outcome bp_folds_run(struct bp_instance *instance, int32_t data, const uint8_t *wanted,
                             struct bp_error *error);
enum bp_outcome bp_predict_run(struct bp_instance *instance, struct bp_error *error);
/* Where the file says which classes its outputs mean, they must be the model's, in its order. */
int bp_predict_same_classes(const struct bp_model *model, const struct bp_archive *archive, struct bp_error *error);
int32_t bp_predict_model(struct bp_instance *instance,
                         struct bp_error *error); /* the one that predicts; -1 with an error */
enum bp_outcome bp_bench_run(struct bp_instance *instance, struct bp_error *error);
enum bp_outcome bp_check_run(struct bp_instance *instance, struct bp_error *error);

/* ---- host.c: the program inside another one ------------------------------------------------------------------------ */
/* What the functions that --emit=header declares call. int: 0, or -1 and bp_host_error() says why, until the thread's next
   failure. `x`, `y` and `out` are rows of 4-byte numbers, as program.h lists slots and outputs. */
struct bp_host;
struct bp_host *bp_host_create(const struct bp_program *program, uint64_t seed); /* NULL on failure */
void bp_host_destroy(struct bp_host *host);                                      /* NULL is allowed */
const char *bp_host_error(void);
int bp_host_threads(struct bp_host *host, int32_t threads); /* 1 where nothing is said */
int bp_host_set(struct bp_host *host, const char *param, double value);
int bp_host_plan(struct bp_host *host, int32_t train, int64_t steps, int64_t steps_per_epoch); /* for schedules */
int bp_host_fit(struct bp_host *host, int32_t data, const void *x, const void *y, int64_t rows);
/* An update for each batch_size rows; *loss: the mean over all of them; NULL is allowed. */
int bp_host_train_step(struct bp_host *host, int32_t train, const void *x, const void *y, int64_t rows, double *loss);
int bp_host_predict(struct bp_host *host, int32_t model, const void *x, int64_t rows, void *out);
int bp_host_save(struct bp_host *host, int32_t model, const char *path);
int bp_host_load(struct bp_host *host, int32_t model, const char *path); /* all or nothing */

#endif
