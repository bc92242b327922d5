/* What the files of check/ share. Nobody else includes it. */
#ifndef BPC_CHECKER_H
#define BPC_CHECKER_H

#include "scan.h"
#include "check.h"

/* A train, finetune or save of the file or of one it uses: what says which data set a checkpoint comes from. */
typedef struct Past {
    Item *item;
} Past;

typedef enum DataState { DATA_NEW, DATA_OPEN, DATA_GOOD, DATA_BAD } DataState;

typedef struct DataEntry {
    DataSet *data;
    DataState state; /* BAD: an error was reported, so nothing is said of what uses it */
} DataEntry;

typedef struct UsedFile {
    const char *path; /* resolved, so that a file has one */
    bool open;        /* it is being read: to use it now is a cycle */
} UsedFile;

typedef struct Checker {
    Program *program;
    Arena *arena;
    const CheckOptions *options;
    LIST(UsedFile) files;
    bool file_missing;  /* one that is used could not be read: what is unknown may stand there */
    LIST(Item *) items; /* of the file itself: its actions */
    LIST(Past) past;    /* in order, those of used files too */
    LIST(DataEntry) data;
} Checker;

/* ---- program.c --------------------------------------------------------------------------------------------------- */
/* "; did you mean 'x'?" or "". */
const char *did_you_mean(Arena *arena, const char *wrong, const Name *candidates, int count);
/* `item` is a MODEL or DERIVED, else an error at the span; NULL then. */
Item *find_model(Checker *checker, Name name, Span span);
/* "a model", "a loss": for messages. */
const char *item_kind_shown(ItemKind kind);
/* A path from the .bp file that the span is in, as the compiler opens it. */
const char *path_beside(Arena *arena, Span span, const char *path);
/* The path without dots and links, NULL where there is no such regular file. `why` says so: "there is no file", … */
const char *path_resolved(Arena *arena, const char *path, const char **why);
/* A text for a message: cut to a readable length, control bytes shown as '?'. */
const char *shown(Arena *arena, const char *text);
const char *expr_shown(Arena *arena, const Expr *expr);

/* ---- constant.c -------------------------------------------------------------------------------------------------- */
/* Applies -D, then makes every const's value a number. */
void check_constants(Checker *checker);
/* A param's value: as a const's. */
void check_params(Checker *checker);
/* As a field of a table would be written. */
const char *number_text(Arena *arena, double number);

/* ---- settings.c -------------------------------------------------------------------------------------------------- */
typedef struct SettingRule {
    const char *keyword;
    bool repeats; /* may be given more than once */
    bool later;   /* known, and not there yet */
} SettingRule;

/* Finds each setting among the rules. found[i]: the one of rules[i], NULL where there is none (or it repeats). Unknown
   ones, ones given twice and ones that are not there yet are reported; returns false where any was. `where`: "train",
   "data". */
bool sort_settings(Arena *arena, const Settings *settings, const SettingRule *rules, int rule_count, const char *where,
                   Setting **found);
/* No `:` and no clause but those of the words (NULL-ended); errors otherwise. */
bool check_shape(const Setting *setting, bool transforms, const char *const *words);
/* The named arguments are among the names (NULL-ended) and given once. */
bool check_options(Arena *arena, const Args *args, const char *what, const char *const *names);
const Arg *option_named(const Args *args, const char *name); /* or NULL */
int positional_count(const Args *args);
bool is_word(const Expr *expr, const char *word); /* the NAME `word` */
void not_there_yet(Span span, const char *what);

/* ---- Data: data.c, table.c, columns.c, lines.c, kinds.c, inherit.c ----------------------------------------------- */
/* Where a name is in a list of names. Only looked up, never listed: its order is an accident. */
typedef struct NameIndex {
    Name *names;
    int *places;
    int count, capacity; /* capacity: a power of two, 0: empty */
} NameIndex;
void name_index_add(Arena *arena, NameIndex *index, Name name, int place); /* a name that is there keeps its place */
int name_index_find(const NameIndex *index, Name name);                    /* -1: not there */

/* A column as it was written: its name, or the number of its field. */
typedef struct Reference {
    Name name;
    int position; /* -1: by name */
    Span span;
    int rank; /* image[28, 28]: what a row of it is; 0: not said */
    int64_t dims[4];
} Reference;
typedef LIST(Reference) References;

/* One input or target line. */
typedef struct Line {
    Setting *setting;
    bool target;
    Name label; /* NULL: none */
    Span label_span;
    LIST(DataTransform) transforms;
    Span category_span, binary_span; /* source -1: not given */
    bool category, binary;
    bool text, lowercase, counts; /* text(vocabulary = …) */
    int vocabulary, distinct;
    Span text_span;
    LIST(Name) names;        /* category("a", "b"), sorted */
    int counted;             /* category(10); 0: not so */
    Name positive, negative; /* binary; negative may be NULL */
    bool unknown_is_zero;
    Span unknown_span;
    bool selects; /* numbers or categories */
    References except;
    LIST(int) columns; /* into DataCheck.columns, in order, once they are found */
    LIST(int) ends;    /* for each argument: how many columns are named up to it */
} Line;

typedef struct MissingCode {
    Name text;
    Name column; /* as bp_scan calls it; NULL: in all */
} MissingCode;

typedef struct Written {
    DataColumn column;
    Line *line;     /* NULL: for splitting alone */
    bool selected;  /* by numbers or categories, which found its kind */
    bool inherited; /* from another data set: nothing is left to find */
} Written;

typedef struct DataCheck {
    Checker *checker;
    Arena *arena;
    DataSet *data;
    const char **paths;            /* [file_count] resolved, NULL: not there */
    const char **missing_file_why; /* [file_count] "is not there" */
    Name *names;                   /* of the fields, from `columns` or the header; NULL: not known */
    int name_count;                /* fields, -1: not known */
    bool positions;                /* fields have no names: they go by number */
    NameIndex index;               /* of names */
    LIST(Line *) lines;
    LIST(Written) columns;
    NameIndex written; /* of columns */
    LIST(MissingCode) missing;
    struct bp_scan scan; /* every row */
    NameIndex scan_index;
    bool scanned, scan_failed, scan_owned;
    bool failed;
} DataCheck;

/* Understands the data set (and first those that it takes preprocessing from). */
DataState check_data(Checker *checker, DataSet *data);

/* table.c: what the files or rows hold. */
void check_files(DataCheck *check, Settings settings);
void check_rows(DataCheck *check, Setting *rows);
/* Reads the header where it is needed and there. */
void read_names(DataCheck *check);
/* Every row's kinds and texts; NULL where they cannot be had: then `why` says which file is not there, or it is NULL
   where an error was reported. */
const struct bp_scan *scan_table(DataCheck *check, const char **why);
void scan_again(DataCheck *check); /* what is stripped has changed */
void table_end(DataCheck *check);

/* generate.c: `generate x = linspace(0, 1, 11)`; other: the file or rows that also stand there, or NULL. */
bool generates(const DataSet *data);
void check_generate(DataCheck *check, const Setting *other);

/* arrays.c: data sets of IDX files, file "images.idx", as = image. */
bool reads_arrays(const DataSet *data);
/* Every file says what it is, and no setting is for tables. */
void check_arrays(DataCheck *check, Setting *columns, Setting *missing);
void array_names(DataCheck *check);
/* Kind and shape of a column, from its files or as declared. */
void find_array(DataCheck *check, Written *written);
bool scan_arrays(DataCheck *check);

/* columns.c: which columns are meant. */
void check_column_names(DataCheck *check, Setting *columns);
void check_missing(DataCheck *check, Setting *missing);
/* Adds what an expression names: one column or a range. Unknown ones are errors. */
bool find_references(DataCheck *check, const Expr *expr, References *list);
/* What bp_scan calls a column. */
Name scan_name(const DataCheck *check, const Reference *reference);
Name scan_column_name(const DataCheck *check, const DataColumn *column);

/* lines.c: input and target lines. */
void check_lines(DataCheck *check, Settings settings);
/* Adds the column to the line (NULL: to none); reports one that another line has. Its number, or -1. */
int add_column(DataCheck *check, Line *line, const Reference *reference);
bool check_labels(DataCheck *check);

/* transforms.c, kinds.c: what follows `:`; numbers or categories. */
void check_transforms(DataCheck *check, Line *line);
/* A text in quotes or a number, as a field of a table would be written; NULL after an error. */
Name field_text(DataCheck *check, const Expr *value, const char *what);
const DataTransform *number_transform(const Line *line); /* the first that is for numbers, or NULL */
bool has_strip(const Line *line);
bool same_field(const char *a, const char *b); /* equal as texts or as numbers */
void find_kinds(DataCheck *check);
void make_slots(DataCheck *check);

/* lint.c: what the rows show, for it and for graph/lint.c. */
void learn_from_table(DataCheck *check);

/* inherit.c: `input preprocessing from`. */
void inherit_inputs(DataCheck *check, Setting *setting);
/* The data set that the checkpoint's models were trained on, as far as the program says; NULL. */
DataSet *data_behind(Checker *checker, const char *checkpoint);

/* ---- train.c, evaluate.c ----------------------------------------------------------------------------------------- */
void check_train(Checker *checker, Item *item);
void check_evaluate(Checker *checker, Item *item);
void check_save(Checker *checker, Item *item);
/* class_weight.c; NULL: there is none. */
void read_class_weight(Checker *checker, TrainPlan *plan, const Setting *setting);
/* folds.c: once every action is known. */
void check_folded(Checker *checker);
bool check_output_path(const Expr *path, const char *what);
/* The data set that a name means, NULL after an error. */
DataSet *find_data(Checker *checker, Name name, Span span);
/* host_rows.c: the data set that a step's parameters stand for, as an item; NULL where there are none, or after errors. */
Item *host_rows(Checker *checker, Item *train, const Setting *step);
/* False where an error was reported, so that what uses it stays silent. */
bool data_is_good(const Checker *checker, const DataSet *data);
void data_is_told(Checker *checker, const DataSet *data); /* its error was reported: it is BAD from now on */
bool find_models(Checker *checker, const NameList *names, ModelUse **models, int *count);

#endif
