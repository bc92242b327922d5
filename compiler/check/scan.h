/* What tables hold, for the compiler: `input numbers`, categories that are not declared, `bpc describe`.
   Not part of a compiled program. */
#ifndef BP_SCAN_H
#define BP_SCAN_H

#include "../../runtime/runtime.h"

#define BP_SCAN_MOST_DISTINCT 100000 /* texts of a column are told apart up to here */

/* How fields of a column are read. Rules for one column name add up with those for every column. */
struct bp_scan_rule {
    const char *column;  /* NULL: every column */
    const char *missing; /* this field means missing (by value where both are numbers), or NULL */
    const char *strip;   /* these characters are taken off the end of a field, or NULL */
};

struct bp_scan_text {
    char *text;
    int64_t count;
};

struct bp_scan_column {
    char *name;          /* from the header or the field names; "1", "2" … where there are neither */
    int64_t missing;     /* rows */
    int64_t numbers;     /* rows whose field is a number */
    int64_t texts;       /* rows whose field is not */
    int all_numbers;     /* texts is 0 and numbers is not */
    int all_whole;       /* and each is a whole number */
    double least, greatest, mean; /* of the numbers; 0 without any */
    struct bp_scan_text *distinct; /* sorted by value where all are numbers ("1" and "1.0" are one, spelled as first seen),
                                      else by bytes */
    int32_t distinct_count;
    int distinct_overflow; /* there are more; `distinct` then holds an arbitrary part of them */
};

struct bp_scan {
    int64_t rows;
    int32_t column_count;
    struct bp_scan_column *columns; /* in the order of the first file's fields */
};

/* Reads the files' headers, and up to `most_rows` of their rows in all (-1: every row; 0: the names alone). field_names NULL: from
   each file's header, and all files must then have the same names, in any order. Errors as bp_table_load's. */
int bp_scan(const struct bp_file *files, int file_count, const char *const *field_names, int field_count,
            const struct bp_scan_rule *rules, int rule_count, int64_t most_rows, struct bp_scan *scan,
            struct bp_error *error);
void bp_scan_free(struct bp_scan *scan);

#endif
