/* What the files that read a table share (data.c, fields.c, locate.c, arrays.c, words.c). Nobody else includes it. */
#ifndef BP_READER_H
#define BP_READER_H

#include "runtime.h"

/* ---- What is known while reading --------------------------------------------------------------------------------- */
struct bp_lookup_key { /* a category as it is looked up */
    const char *text;
    double number;
    int32_t index;
};

struct bp_lookup {
    struct bp_lookup_key *keys; /* [category_count] sorted by number where all are numbers, else by bytes; NULL: the
                                   categories have no other names than their numbers */
    int numeric;
    int wanted;    /* read from the files at all */
    int plain;     /* a number is its value, as it stands */
    int is_target; /* a slot for targets alone holds it */
};

enum { READER_STAGED = 8 };

struct bp_reader {
    const struct bp_data *data;
    const struct bp_data_options *options;
    struct bp_error *error;
    struct bp_raw raw;
    int64_t capacity, dropped;
    void *block;                    /* raw.values and raw.missing lie in it */
    double *staged;                 /* [READER_STAGED][column_count]: numbers of the last rows that are kept */
    int64_t first_staged;           /* row of the first of them */
    struct bp_lookup *columns; /* [column_count] */
    int32_t *positions;        /* [column_count] field in the present file */
    int32_t field_count;       /* fields that a row of the present file has */
    int first_row_is_data;     /* the file has no header, and this row is its first */
    const char *name;          /* of the present file, NULL: `rows` */
    int32_t file;
    int64_t line;
    enum bp_part part;
};

struct bp_quote {
    char text[96];
};

struct bp_where {
    char text[320];
};

/* ---- fields.c ---------------------------------------------------------------------------------------------------- */
/* For messages: cut to a readable length, control bytes shown as '?'. */
struct bp_quote bp_quoted(const char *at, int32_t length);
struct bp_quote bp_quoted_field(const struct bp_field *field);
struct bp_quote bp_quoted_name(const char *name);
int bp_field_equal(const struct bp_field *field, const char *text);
struct bp_where bp_reader_here(const struct bp_reader *reader); /* the place of the row that is being read */
/* The candidate nearest to `wrong`, of those that are near: found.text is empty where none is. */
struct bp_nearest_text {
    const char *wrong;
    size_t wrong_length;
    int distance;
    struct bp_quote found;
};
struct bp_nearest_text bp_nearest_to(const char *wrong, size_t length);
void bp_nearest_try(struct bp_nearest_text *nearest, const char *candidate,
                    size_t length); /* kept where it is nearer */
int bp_lookup_start(struct bp_lookup *lookup, const struct bp_column *column, struct bp_error *error);
/* Writes a field's value at row raw.rows. 1: read; 0: the row is dropped; -1: an error. */
int bp_reader_field(struct bp_reader *reader, int32_t index, const struct bp_field *field);

/* ---- locate.c: reader->positions --------------------------------------------------------------------------------- */
int bp_locate_by_name(struct bp_reader *reader, const struct bp_field *fields, int32_t count);
/* 1 where each column that we need is named in the row, and none of the others' values could be meant. */
int bp_locate_names_all(const struct bp_reader *reader, const struct bp_field *fields, int32_t count);
int bp_locate_by_position(struct bp_reader *reader, int32_t count);

/* ---- data.c ------------------------------------------------------------------------------------------------------ */
int bp_reader_resize(struct bp_reader *reader, void **memory, size_t item, int64_t capacity);
int bp_reader_reserve(struct bp_reader *reader, int64_t rows); /* room for so many in all */
double *bp_reader_stage(const struct bp_reader *reader);        /* memory for reader->staged */
void bp_reader_unstage(struct bp_reader *reader);               /* what is staged goes to raw.values */
int bp_reader_rows(struct bp_reader *reader, struct bp_csv *csv); /* those that are left in csv; 0: an error */

/* ---- rows.c ------------------------------------------------------------------------------------------------------ */
int64_t bp_reader_lines(const struct bp_csv *csv); /* that are left: no less than the rows */
int bp_reader_rows_in_pieces(struct bp_reader *reader, struct bp_csv *csv); /* the same by options->threads threads */

/* ---- words.c ----------------------------------------------------------------------------------------------------- */
int bp_words_read(struct bp_reader *reader, int32_t column, const struct bp_field *field); /* at row raw.rows */
void bp_words_free(struct bp_words *words);
/* Fits the vocabularies on the training part (or takes those given), and fills the slots of words and of counts. */
int bp_words_fit(const struct bp_raw *raw, const char *given, struct bp_table *table, struct bp_error *error);

/* ---- arrays.c: data sets of IDX files ---------------------------------------------------------------------------- */
int bp_arrays_read(struct bp_reader *reader);
#endif
