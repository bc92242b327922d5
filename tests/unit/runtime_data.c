/* Tables: what is fitted on them, how they are split, what bpc finds out about them. Expected values are closed forms or
   worked out by hand beside them. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* mkdtemp, symlink */
#endif
#include "../../compiler/check/describe.h"
#include "../../compiler/check/scan.h"
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"

/* ---- data.c, fit.c ----------------------------------------------------------------------------------------------- */
static const char *const colours[] = {"blue", "green", "red"};
static const char *const unknown_mark[] = {"?"};

/* A data set to fill in: t.csv with a header, columns a (number), b (number), c (category), inputs [a b] and target c.
 */
struct sample {
    struct bp_data data;
    struct bp_file file;
    struct bp_column columns[3];
    struct bp_transform a[3], b[3], c[3];
    struct bp_slot slots[2];
};
static const int32_t sample_inputs[] = {0, 1}, sample_targets[] = {2};

static void sample_start(struct sample *s) {
    memset(s, 0, sizeof *s);
    s->file = (struct bp_file){"t.csv", NULL, BP_ALL, 1, 0, 0, NULL};
    s->columns[0] = (struct bp_column){"a", 1, -1, BP_NUMBER, NULL, 0, 0, unknown_mark, 1, s->a, 0, 0, 0, 0, 0};
    s->columns[1] = (struct bp_column){"b", 2, -1, BP_NUMBER, NULL, 0, 0, NULL, 0, s->b, 0, 0, 0, 0, 0};
    s->columns[2] = (struct bp_column){"c", 3, -1, BP_CATEGORY, colours, 3, 0, NULL, 0, s->c, 0, 0, 0, 0, 0};
    s->slots[0] = (struct bp_slot){"x", BP_F32, BP_SLOT_COLUMNS, 2, sample_inputs, 2, 0};
    s->slots[1] = (struct bp_slot){"c", BP_I32, BP_SLOT_COLUMNS, 1, sample_targets, 1, 1};
    s->data.name = "sample";
    s->data.files = &s->file;
    s->data.file_count = 1;
    s->data.columns = s->columns;
    s->data.column_count = 3;
    s->data.slots = s->slots;
    s->data.slot_count = 2;
    s->data.stratify = -1;
}

static void sample_fit(struct sample *s, int32_t column, enum bp_transform_kind kind, int32_t values) {
    struct bp_transform *transforms = column == 0 ? s->a : column == 1 ? s->b : s->c;
    int32_t at = s->columns[column].transform_count++;
    transforms[at] = (struct bp_transform){kind, 0, NULL, values > 0 ? s->data.fitted_count : -1};
    s->data.fitted_count += values;
}

static float input_of(const struct bp_table *table, int64_t row, int column) {
    return ((float *)table->slots[0])[row * 2 + column];
}

static int32_t class_of(const struct bp_table *table, int64_t row) {
    return ((int32_t *)table->slots[1])[row];
}

Test(data, a_plain_table, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    write_file("t.csv", "c, extra ,b,a\nred,text,2,1.5\nblue,,-4, 1e2\n\"green\",x,6,.1\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect_eq(table.rows, 3);
    cr_expect_eq(table.part_rows[BP_TRAIN], 3);
    cr_expect_eq(table.part_rows[BP_TEST], 0);
    cr_expect_eq(table.part_rows[BP_ALL], 3);
    static const float expected[] = {1.5F, 2, 100, -4, 0.1F, 6};
    for (int i = 0; i < 6; i++)
        cr_expect(((float *)table.slots[0])[i] == expected[i]);
    cr_expect(class_of(&table, 0) == 2 && class_of(&table, 1) == 0 && class_of(&table, 2) == 1);
    bp_table_free(&table);
}

/* a of the training rows: 1 2 4 9 (mean 4, squares 9 4 0 25: variance 38 / 4); the test row must not count. */
Test(data, fitted_on_training_rows_alone, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    struct bp_file files[2];
    sample_start(&s);
    sample_fit(&s, 0, BP_STANDARDIZE, 2);
    sample_fit(&s, 1, BP_MINMAX, 2);
    write_file("t.csv", "a,b,c\n1,10,red\n2,10,red\n4,14,red\n9,30,red\n");
    write_file("u.csv", "c;a;b\nblue;104;50\n");
    files[0] = files[1] = s.file;
    files[0].part = BP_TRAIN;
    files[1].part = BP_TEST;
    files[1].name = "u.csv";
    s.data.files = files;
    s.data.file_count = 2;
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    double deviation = sqrt(38.0 / 4);
    cr_expect(table.fitted[0] == 4 && table.fitted[1] == deviation && table.fitted[2] == 10 && table.fitted[3] == 20);
    cr_expect(input_of(&table, 3, 0) == (float)(5 / deviation));
    cr_expect(input_of(&table, 4, 0) == (float)(100 / deviation));
    cr_expect(input_of(&table, 3, 1) == 1 && input_of(&table, 4, 1) == 2);
    cr_expect_eq(table.part_rows[BP_TRAIN], 4);
    cr_expect_eq(table.part_rows[BP_TEST], 1);
    cr_expect_eq(table.parts[BP_TEST][0], 4);
    bp_table_free(&table);
}

Test(data, constant_columns, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    sample_fit(&s, 0, BP_STANDARDIZE, 2);
    sample_fit(&s, 1, BP_MINMAX, 2);
    write_file("t.csv", "a,b,c\n.1,7,red\n.1,7,red\n.1,7,blue\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(table.fitted[0] == 0.1 && table.fitted[1] == 1 && table.fitted[2] == 7 && table.fitted[3] == 1);
    for (int i = 0; i < 6; i++)
        cr_expect(((float *)table.slots[0])[i] == 0);
    bp_table_free(&table);
}

/* 1e16 + 1 - 1e16 is 0 when added one after another; the mean of these is 1 / 3. */
Test(data, sums_are_compensated, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    sample_fit(&s, 0, BP_IMPUTE_MEAN, 1);
    write_file("t.csv", "a,b,c\n1e16,0,red\n1,0,red\n-1e16,0,blue\n?,0,blue\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(table.fitted[0] == 1.0 / 3, "%g", table.fitted[0]);
    bp_table_free(&table);
}

Test(data, missing_values_are_filled, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    sample_fit(&s, 0, BP_IMPUTE_MEDIAN, 1);        /* of 5 1 2 4: 3 */
    sample_fit(&s, 1, BP_IMPUTE_MEAN, 1);          /* of 1 2 6: 3 */
    sample_fit(&s, 2, BP_IMPUTE_MOST_FREQUENT, 1); /* red and green twice: the smallest, green */
    write_file("t.csv", "a,b,c\n5,1,red\n?,2,green\n1,,red\n2,6,green\n4,\"\",\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(table.fitted[0] == 3 && table.fitted[1] == 3 && table.fitted[2] == 1);
    cr_expect(input_of(&table, 1, 0) == 3 && input_of(&table, 2, 1) == 3 && input_of(&table, 4, 1) == 3);
    cr_expect_eq(class_of(&table, 4), 1);
    bp_table_free(&table);
}

Test(data, dropped_rows_and_numeric_codes, .init = enter, .fini = leave) {
    static const char *const zero[] = {"0"};
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    s.columns[0].missing = zero;
    sample_fit(&s, 0, BP_DROP, 0);
    write_file("t.csv", "a,b,c\n0,1,red\n7,2,green\n0.0,3,red\n-0,3,red\n10,6,green\n,6,green\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect_eq(table.rows, 2);
    cr_expect_eq(table.dropped, 4);
    cr_expect(input_of(&table, 0, 0) == 7 && input_of(&table, 1, 0) == 10);
    bp_table_free(&table);
    write_file("t.csv", "a,b,c\n0,1,red\n");
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "all 1 rows of 'sample' were dropped: each has a missing value");
}

static const char *const ends[] = {"\n", "\r\n", "\r"};

/* Row i holds i / 8 - 700 in a (nothing in each 97th: it is dropped), 3 i in b and a colour; blank lines stand between.
   Returns the line of row `wrong`, which has `text` in b. */
static int64_t write_many_rows(const char *end, int64_t rows, int64_t wrong, const char *text) {
    FILE *file = fopen("t.csv", "wb");
    cr_assert(file != NULL);
    int64_t line = 1, found = 0;
    fprintf(file, "a,b,c%s", end);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = i % 53 == 0 ? i % 3 + 1 : 0; k > 0; k--, line++)
            fprintf(file, "%s%s", k == 2 ? "  " : "", end);
        line++;
        if (i % 97 == 5)
            fprintf(file, "?,");
        else
            fprintf(file, "%.3f,", (double)i / 8 - 700);
        if (i == wrong)
            fprintf(file, "%s,", text);
        else
            fprintf(file, "%lld,", (long long)i * 3);
        found = i == wrong ? line : found;
        fprintf(file, "%s%s", colours[i % 3], i + 1 < rows ? end : ""); /* the last line has no end */
    }
    cr_assert(fclose(file) == 0);
    return found;
}

/* Pieces of a file end where lines end, of whatever kind, and blank lines and dropped rows are counted in. */
Test(data, several_threads_read_the_same, .init = enter, .fini = leave) {
    static const int32_t threads[] = {1, 2, 3, 8};
    const int64_t rows = 60000; /* more than a megabyte */
    for (int e = 0; e < 3; e++)
        for (int t = 0; t < 4; t++) {
            struct sample s;
            struct bp_table table;
            struct bp_error error;
            struct bp_data_options options = {.threads = threads[t]};
            sample_start(&s);
            sample_fit(&s, 0, BP_DROP, 0);
            write_many_rows(ends[e], rows, -1, NULL);
            cr_assert(bp_table_load(&table, &s.data, &options, &error), "%s", error.text);
            cr_assert_eq(table.dropped, 619); /* 5, 102, … 59951 */
            cr_assert_eq(table.rows, rows - 619);
            int64_t at = 0;
            for (int64_t i = 0; i < rows; i++) {
                if (i % 97 == 5)
                    continue;
                cr_assert(input_of(&table, at, 0) == (float)((double)i / 8 - 700));
                cr_assert(input_of(&table, at, 1) == (float)(i * 3));
                cr_assert_eq(class_of(&table, at), i % 3);
                at++;
            }
            bp_table_free(&table);
        }
}

Test(data, several_threads_give_the_first_error, .init = enter, .fini = leave) {
    static const struct {
        const char *text, *why;
    } wrong[] = {{"much", "t.csv:%lld: column 'b': 'much' is not a number"},
                 {"1e300", "t.csv:%lld: column 'b': 1e+300 is beyond what float32 can hold"},
                 {"1,2", "t.csv:%lld: 4 fields, 3 expected"},
                 {"\"3", "t.csv:%lld: a quote (\") is opened here and never closed"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        for (int32_t threads = 1; threads <= 7; threads += 3)
            for (int64_t row = 31; row < 60000; row += 19981) {
                struct sample s;
                struct bp_table table;
                struct bp_error error;
                struct bp_data_options options = {.threads = threads};
                char expected[128];
                sample_start(&s);
                sample_fit(&s, 0, BP_DROP, 0);
                int64_t line = write_many_rows(ends[(i + 1) % 3], 60000, row, wrong[i].text);
                FILE *file = fopen("t.csv", "ab");
                cr_assert(file != NULL);
                if (strcmp(wrong[i].text, "1e300") != 0) /* which is seen when all rows are read */
                    fprintf(file, "%slate,1,red", ends[(i + 1) % 3]);
                cr_assert(fclose(file) == 0);
                snprintf(expected, sizeof expected, wrong[i].why, (long long)line);
                cr_assert(!bp_table_load(&table, &s.data, &options, &error));
                cr_expect_str_eq(error.text, expected);
            }
}

Test(data, strip_and_numeric_categories, .init = enter, .fini = leave) {
    static const char *const levels[] = {"2", "10", "1"}; /* looked up by value, in whatever order */
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    s.columns[2].categories = levels;
    sample_fit(&s, 2, BP_STRIP, 0);
    s.c[0].text = ".!";
    write_file("t.csv", "a,b,c\n1,1,1.0\n1,1,10.!\n1,1,2.\n1,1,1e1\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(class_of(&table, 0) == 2 && class_of(&table, 1) == 1 && class_of(&table, 2) == 0 &&
              class_of(&table, 3) == 1);
    bp_table_free(&table);
    s.columns[2].unknown_is_zero = 1;
    write_file("t.csv", "a,b,c\n1,1,3\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect_eq(class_of(&table, 0), -1);
    bp_table_free(&table);
}

/* Stands for the kernel: any function that the test can tell from a logarithm in double will do. */
static void halve(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        values[i] /= 2;
}

Test(data, log_is_the_kernel_and_comes_in_order, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    s.data.log = halve;
    sample_fit(&s, 0, BP_LOG, 0);
    sample_fit(&s, 0, BP_STANDARDIZE, 2);
    write_file("t.csv", "a,b,c\n2,1,red\n6,1,red\n");
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(table.fitted[0] == 2 && table.fitted[1] == 1); /* of 1 and 3 */
    cr_expect(input_of(&table, 0, 0) == -1 && input_of(&table, 1, 0) == 1);
    bp_table_free(&table);
    write_file("t.csv", "a,b,c\n2,1,red\n0,1,red\n");
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "t.csv:3: column 'a': log needs numbers above 0 that float32 can hold, this one is 0");
}

Test(data, errors_point, .init = enter, .fini = leave) {
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "t.csv: the file is empty"},
        {"a,b,c\n", "t.csv: there are no rows under the header"},
        {"a,b,c\n1,2,red\n1,2\n", "t.csv:3: 2 fields, 3 expected"},
        {"a,b,c\n1,2,red\n\n1,2,red,4\n", "t.csv:4: 4 fields, 3 expected"},
        {"a,b,c\n1,abc,red\n", "t.csv:2: column 'b': 'abc' is not a number"},
        {"a,b,c\n1,nan,red\n",
         "t.csv:2: column 'b': 'nan' is not a number; if it means missing, write: missing \"nan\""},
        {"a,b,c\n1,inf,red\n", "t.csv:2: column 'b': 'inf' is not a number"},
        {"a,b,c\n1,\"1,5\",red\n", "t.csv:2: column 'b': '1,5' is not a number"},
        {"a,b,c\n1,2,Red\n",
         "t.csv:2: column 'c': 'Red' is not one of the categories of 'c' (blue, green, red); did you mean 'red'?"},
        {"a,b,c\n1,2,violet\n", "t.csv:2: column 'c': 'violet' is not one of the categories of 'c' (blue, green, red)"},
        {"a,b,c\n?,2,red\n", "t.csv:2: the value of 'a' is missing; add impute(median) or drop"},
        {"a,b,c\n1,2,\n", "t.csv:2: the value of 'c' is missing; add drop"},
        {"A,b,c\n1,2,red\n", "t.csv:1: there is no column 'a'; did you mean 'A'?"},
        {"width,b,c\n1,2,red\n", "t.csv:1: there is no column 'a'; this line names width, b, c"},
        {"a,b,c,b\n1,2,red,3\n", "t.csv:1: two columns are named 'b': fields 2 and 4"},
        {"a,b,c\n1,1e39,red\n", "t.csv:2: column 'b': 1e+39 is beyond what float32 can hold"},
        {"a,b,c\n1,2\x01"
         "3,red\n",
         "t.csv:2: column 'b': '2?3' is not a number"},
        {"a,b,c\n1,2,\"red\n", "t.csv:2: a quote (\") is opened here and never closed"},
    };
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file("t.csv", cases[i].text);
        cr_expect(!bp_table_load(&table, &s.data, NULL, &error), "case %zu", i);
        cr_expect_str_eq(error.text, cases[i].error);
    }
    cr_assert(unlink("t.csv") == 0);
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(
        error.text,
        "cannot read 't.csv': No such file or directory (data 'sample'; --data NAME=PATH names another file)");
}

Test(data, nothing_to_fit_on, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    sample_fit(&s, 0, BP_IMPUTE_MEDIAN, 1);
    write_file("t.csv", "a,b,c\n?,2,red\n,2,red\n");
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text,
                     "impute_median of column 'a' cannot be fitted: it is missing in all 2 training rows of 'sample'");
    s.file.part = BP_TEST;
    write_file("t.csv", "a,b,c\n1,2,red\n");
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "'sample' has no training rows to fit impute_median of column 'a' on");
}

Test(data, inline_rows) {
    static const char *const rows[] = {"0", "1", "red", "1", "x", "blue"};
    static const char *const names[] = {"a", "b", "c"};
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    s.data.file_count = 0;
    s.data.rows = rows;
    s.data.row_count = 1;
    s.data.field_count = 3;
    s.data.field_names = names;
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(input_of(&table, 0, 0) == 0 && input_of(&table, 0, 1) == 1 && class_of(&table, 0) == 2);
    bp_table_free(&table);
    s.data.row_count = 2;
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "rows of 'sample', row 2: column 'b': 'x' is not a number");
}

Test(data, predicting, .init = enter, .fini = leave) {
    static const double fitted[] = {10, 2};
    static const char *const names[] = {"a", "c", "b"};
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    struct bp_data_options options = {"new.csv", fitted, NULL, 0, 1, 1};
    sample_start(&s);
    sample_fit(&s, 0, BP_STANDARDIZE, 2);
    write_file("new.csv", "b,note,a,note\n1,x,14,\n2,,10,\n");
    cr_assert(bp_table_load(&table, &s.data, &options, &error), "%s", error.text);
    cr_expect_eq(table.rows, 2);
    cr_expect_eq(table.part_rows[BP_ALL], 2);
    cr_expect(table.parts[BP_TRAIN] == NULL && table.slots[1] == NULL);
    cr_expect(input_of(&table, 0, 0) == 2 && input_of(&table, 0, 1) == 1 && input_of(&table, 1, 0) == 0);
    bp_table_free(&table);
    options.fitted = NULL;
    cr_expect(!bp_table_load(&table, &s.data, &options, &error));
    options.fitted = fitted;

    /* no header when compiled: a, c, b; the target c may be left out, or a header may name the inputs */
    s.data.field_names = names;
    s.data.field_count = 3;
    s.file.header = 0;
    static const char *const files[] = {"14,red,1\n", "14,1\n", "b,a\n1,14\n", "14,,1\n"};
    for (size_t i = 0; i < 4; i++) {
        write_file("new.csv", files[i]);
        cr_assert(bp_table_load(&table, &s.data, &options, &error), "%s", error.text);
        cr_expect(table.rows == 1 && input_of(&table, 0, 0) == 2 && input_of(&table, 0, 1) == 1, "file %zu", i);
        bp_table_free(&table);
    }
    write_file("new.csv", "14\n");
    cr_expect(!bp_table_load(&table, &s.data, &options, &error));
    cr_expect_str_eq(error.text, "new.csv:1: 1 field, 3 expected, or 2 without the targets, or a header");
    sample_fit(&s, 1, BP_DROP, 0);
    write_file("new.csv", "14,\n");
    cr_expect(!bp_table_load(&table, &s.data, &options, &error));
    cr_expect_str_eq(error.text, "new.csv:1: the value of 'b' is missing, and a row to predict cannot be dropped");
}

Test(data, another_file, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    struct bp_data_options options = {"other.csv", NULL, NULL, 0, 0, 1};
    sample_start(&s);
    write_file("other.csv", "a,b,c\n1,2,red\n");
    cr_assert(bp_table_load(&table, &s.data, &options, &error), "%s", error.text);
    cr_expect_eq(table.rows, 1);
    bp_table_free(&table);
}

Test(data, fitted_values_as_json) {
    static const double fitted[] = {3, 0.1, 1.0 / 3, 2};
    struct sample s;
    struct bp_error error;
    struct bp_text json = {0};
    double back[4] = {0};
    sample_start(&s);
    sample_fit(&s, 0, BP_IMPUTE_MEDIAN, 1);
    sample_fit(&s, 0, BP_STANDARDIZE, 2);
    sample_fit(&s, 2, BP_IMPUTE_MOST_FREQUENT, 1);
    bp_fitted_write(&s.data, fitted, &json);
    cr_expect_str_eq(json.at, "{\"a\":{\"impute_median\":{\"value\":3},\"standardize\":{\"mean\":0.1,\"deviation\":"
                              "0.3333333333333333}},\"b\":{},\"c\":{\"categories\":[\"blue\",\"green\",\"red\"],"
                              "\"impute_most_frequent\":{\"value\":2}}}");
    cr_assert(bp_fitted_read(&s.data, json.at, json.length, back, &error), "%s", error.text);
    cr_expect(memcmp(back, fitted, sizeof back) == 0);
    bp_text_free(&json);

    static const struct {
        const char *json, *error;
    } bad[] = {
        {"{\"b\":{}}", "the checkpoint holds no preprocessing for column 'a' of 'sample'"},
        {"{\"a\":{\"standardize\":{\"mean\":1,\"deviation\":1}},\"b\":{}}",
         "the checkpoint holds no fitted 'impute_median' for column 'a'"},
        {"{\"a\":{\"impute_median\":{\"value\":1},\"standardize\":{\"mean\":1}},\"b\":{}}",
         "the checkpoint's 'standardize' for column 'a' has no number 'deviation'"},
        {"{\"a\":{\"impute_median\":{\"value\":1},\"standardize\":{\"mean\":1,\"deviation\":0}},\"b\":{}}",
         "the checkpoint's 'standardize' for column 'a': 'deviation' must be above 0"},
        {"{\"a\":{\"impute_median\":{\"value\":1},\"standardize\":{\"mean\":1,\"deviation\":1}},\"b\":{\"minmax\":{}}}",
         "column 'b' has 'minmax' in the checkpoint, but not here"},
        {"[]", "the checkpoint's preprocessing is not a JSON object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect(!bp_fitted_read(&s.data, bad[i].json, strlen(bad[i].json), back, &error), "case %zu", i);
        cr_expect_str_eq(error.text, bad[i].error);
    }
    s.slots[1].is_target = 0; /* an input's categories must be the checkpoint's */
    const char *other =
        "{\"a\":{\"impute_median\":{\"value\":1},\"standardize\":{\"mean\":1,\"deviation\":1}},\"b\":{},\"c\":"
        "{\"categories\":[\"blue\",\"red\",\"green\"],\"impute_most_frequent\":{\"value\":0}}}";
    cr_expect(!bp_fitted_read(&s.data, other, strlen(other), back, &error));
    cr_expect_str_eq(error.text, "column 'c': category 1 is 'green', in the checkpoint 'red'");
}

/* Categories that are only counted are read, refused and saved as those of a list "0", "1", "2". */
Test(data, counted_categories, .init = enter, .fini = leave) {
    static const char *const numbers[] = {"0", "1", "2"};
    static const struct {
        const char *field;
        int32_t class; /* -1: there is none */
    } cases[] = {{"0", 0},    {"2", 2},    {" 1 ", 1},   {"02", 2},    {"2.0", 2},     {"-0", 0},
                 {"1e0", 1},  {"3", -1},   {"-1", -1},   {"0.5", -1},  {"2.9999", -1}, {"1e300", -1},
                 {"red", -1}, {"nan", -1}, {"-0.1", -1}, {"1e-9", -1}, {"0x1", -1},    {"3000000000", -1}};
    for (int listed = 0; listed < 2; listed++) {
        struct sample s;
        struct bp_table table;
        struct bp_error error;
        sample_start(&s);
        s.columns[2].categories = listed ? numbers : NULL;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            char text[64];
            snprintf(text, sizeof text, "a,b,c\n1,2,%s\n", cases[i].field);
            write_file("t.csv", text);
            int loaded = bp_table_load(&table, &s.data, NULL, &error);
            cr_assert_eq(loaded, cases[i].class >= 0, "%s", cases[i].field);
            if (loaded) {
                cr_expect_eq(class_of(&table, 0), cases[i].class, "%s", cases[i].field);
                bp_table_free(&table);
            } else {
                cr_expect(strstr(error.text, "is not one of the categories of 'c' (0, 1, 2)") != NULL, "%s",
                          error.text);
            }
        }
        s.slots[1].is_target = 0;
        struct bp_text json = {0};
        bp_fitted_write(&s.data, NULL, &json);
        cr_expect_str_eq(json.at, "{\"a\":{},\"b\":{},\"c\":{\"categories\":[\"0\",\"1\",\"2\"]}}");
        cr_expect(bp_fitted_read(&s.data, json.at, json.length, NULL, &error), "%s", error.text);
        bp_text_free(&json);
        const char *other = "{\"a\":{},\"b\":{},\"c\":{\"categories\":[\"0\",\"1\",\"3\"]}}";
        cr_expect(!bp_fitted_read(&s.data, other, strlen(other), NULL, &error));
        cr_expect_str_eq(error.text, "column 'c': category 2 is '2', in the checkpoint '3'");
    }
}

/* ---- split.c ----------------------------------------------------------------------------------------------------- */
/* `counts` rows of each colour, all mixed; b holds the row's number. */
static void write_colours(const int counts[3]) {
    struct bp_text file = {0};
    int left[3] = {counts[0], counts[1], counts[2]};
    bp_text_printf(&file, "a,b,c\n");
    for (int row = 0; left[0] + left[1] + left[2] > 0; row++) {
        int colour = (int)(bp_random(5, 70, (uint64_t)row, 0) % 3);
        while (left[colour] == 0)
            colour = (colour + 1) % 3;
        left[colour]--;
        bp_text_printf(&file, "1,%d,%s\n", row, colours[colour]);
    }
    write_file("t.csv", file.at);
    bp_text_free(&file);
}

/* Each row in exactly one part, ascending. */
static void expect_partition(const struct bp_table *table, int64_t unused) {
    char *seen = calloc((size_t)table->rows, 1);
    int64_t total = 0;
    for (int part = BP_TRAIN; part <= BP_TEST; part++)
        for (int64_t i = 0; i < table->part_rows[part]; i++, total++) {
            cr_assert(i == 0 || table->parts[part][i] > table->parts[part][i - 1]);
            cr_assert(!seen[table->parts[part][i]]);
            seen[table->parts[part][i]] = 1;
        }
    cr_expect_eq(total + unused, table->rows);
    free(seen);
}

Test(split, counts_are_the_largest_remainders, .init = enter, .fini = leave) {
    static const struct {
        int rows;
        double train, validation, test;
        int64_t counts[3], unused;
    } cases[] = {
        {150, 0.7, 0.15, 0.15, {105, 23, 22}, 0}, {10, 0.7, 0.2, 0.1, {7, 2, 1}, 0},
        {7, 0.8, 0.1, 0.1, {5, 1, 1}, 0},         {100, 0, 0.1, 0, {90, 10, 0}, 0},
        {9, 0.6, 0.2, 0.2, {5, 2, 2}, 0},         {100, 0.5, 0.2, 0.1, {50, 20, 10}, 20},
        {344, 0.8, 0.1, 0.1, {275, 35, 34}, 0}, /* 275.2 34.4 34.4 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sample s;
        struct bp_table table;
        struct bp_error error;
        int counts[3] = {cases[i].rows, 0, 0};
        sample_start(&s);
        write_colours(counts);
        s.data.train = cases[i].train;
        s.data.validation = cases[i].validation;
        s.data.test = cases[i].test;
        cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
        for (int part = 0; part < 3; part++)
            cr_expect_eq(table.part_rows[part], cases[i].counts[part], "case %zu, part %d: %lld", i, part,
                         (long long)table.part_rows[part]);
        expect_partition(&table, cases[i].unused);
        bp_table_free(&table);
    }
}

/* Every stratum gets its share rounded down or up, whatever the sizes; the whole split its own. */
Test(split, strata_are_proportional, .init = enter, .fini = leave) {
    for (uint64_t round = 0; round < 60; round++) {
        struct sample s;
        struct bp_table table;
        struct bp_error error;
        int counts[3];
        for (uint32_t i = 0; i < 3; i++)
            counts[i] = (int)(bp_random(6, 71, round, i) % 60) + (i == 0 ? 8 : 0);
        sample_start(&s);
        write_colours(counts);
        const double shares[3] = {0.7, 0.15, 0.15};
        s.data.train = shares[0];
        s.data.validation = shares[1];
        s.data.test = shares[2];
        s.data.stratify = 2;
        s.data.split_seed = round;
        cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
        expect_partition(&table, 0);
        for (int part = 0; part < 3; part++) {
            int found[3] = {0};
            for (int64_t i = 0; i < table.part_rows[part]; i++)
                found[class_of(&table, table.parts[part][i])]++;
            for (int colour = 0; colour < 3; colour++)
                cr_expect(fabs(found[colour] - shares[part] * counts[colour]) < 1 + 1e-9, "%d of %d in part %d",
                          found[colour], counts[colour], part);
            cr_expect(fabs((double)table.part_rows[part] - shares[part] * (double)table.rows) < 1);
        }
        bp_table_free(&table);
    }
}

/* 90 strata of one row each, sorted by value: no part may get one end of the values. Of 63 training rows about half
   come from the lower half; the hypergeometric deviation is 2.2, so 7 off is beyond three of them. */
Test(split, small_strata_do_not_follow_their_values, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    int counts[3] = {90, 0, 0};
    sample_start(&s);
    write_colours(counts);
    s.data.train = 0.7;
    s.data.test = 0.3;
    s.data.stratify = 1;
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect_eq(table.part_rows[BP_TRAIN], 63);
    int64_t low = 0;
    while (low < 63 && table.parts[BP_TRAIN][low] < 45)
        low++;
    cr_expect(llabs(low - 31) < 7, "%lld", (long long)low);
    bp_table_free(&table);
}

Test(split, seed_decides_and_the_hash_tells, .init = enter, .fini = leave) {
    uint64_t hashes[3];
    int counts[3] = {40, 30, 30};
    write_colours(counts);
    for (int i = 0; i < 3; i++) {
        struct sample s;
        struct bp_table table;
        struct bp_error error;
        sample_start(&s);
        s.data.train = 0.8;
        s.data.test = 0.2;
        s.data.split_seed = i == 2;
        cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
        hashes[i] = bp_table_split_hash(&table);
        bp_table_free(&table);
    }
    cr_expect_eq(hashes[0], hashes[1]);
    cr_expect_neq(hashes[0], hashes[2]);
}

Test(split, files_keep_their_part, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    struct bp_file files[2];
    int counts[3] = {20, 0, 0};
    sample_start(&s);
    write_colours(counts);
    write_file("u.csv", "a,b,c\n1,1,red\n1,1,red\n");
    files[0] = files[1] = s.file;
    files[0].part = BP_TRAIN;
    files[1].part = BP_TEST;
    files[1].name = "u.csv";
    s.data.files = files;
    s.data.file_count = 2;
    s.data.validation = 0.1; /* cut out of the training rows */
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(table.part_rows[BP_TRAIN] == 18 && table.part_rows[BP_VALIDATION] == 2 && table.part_rows[BP_TEST] == 2);
    cr_expect(table.parts[BP_TEST][0] == 20 && table.parts[BP_TEST][1] == 21);
    expect_partition(&table, 0);
    bp_table_free(&table);
}

Test(split, empty_parts_are_errors, .init = enter, .fini = leave) {
    struct sample s;
    struct bp_table table;
    struct bp_error error;
    sample_start(&s);
    write_file("t.csv", "a,b,c\n1,1,red\n1,2,red\n1,3,red\n");
    s.data.train = 0.7;
    s.data.validation = s.data.test = 0.15;
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "the test part of 'sample' is empty: 0.15 of 3 rows");
    s.data.train = 0.9;
    s.data.test = 0.2;
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "the split of 'sample' adds up to more than 1");
}

/* ---- scan.c ------------------------------------------------------------------------------------------------------ */
Test(scan, kinds_and_texts, .init = enter, .fini = leave) {
    static const struct bp_scan_rule rules[] = {{NULL, "?", NULL}, {"n", "0", NULL}, {"t", NULL, "."}};
    const struct bp_file files[] = {{"a.csv", NULL, BP_TRAIN, 1, 0, 0, NULL}, {"b.csv", NULL, BP_TEST, 1, 1, 0, NULL}};
    struct bp_scan scan;
    struct bp_error error;
    write_file("a.csv", "n,t,k\n10,x,2\n?,y.,10\n0.0,x,2.0\n");
    write_file("b.csv", "junk\nt;k;n\nb;?;-5\nx.;1;2.5\n");
    cr_assert(bp_scan(files, 2, NULL, 0, rules, 3, -1, &scan, &error), "%s", error.text);
    cr_expect(scan.rows == 5 && scan.column_count == 3);
    const struct bp_scan_column *n = &scan.columns[0], *t = &scan.columns[1], *k = &scan.columns[2];
    cr_expect_str_eq(n->name, "n");
    cr_expect(n->all_numbers && !n->all_whole && n->missing == 2 && n->numbers == 3);
    cr_expect(n->least == -5 && n->greatest == 10 && n->mean == 2.5);
    cr_expect(!t->all_numbers && t->distinct_count == 3 && t->missing == 0);
    cr_expect_str_eq(t->distinct[0].text, "b");
    cr_expect_str_eq(t->distinct[1].text, "x");
    cr_expect_str_eq(t->distinct[2].text, "y");
    cr_expect_eq(t->distinct[1].count, 3);
    cr_expect(k->all_numbers && k->all_whole && k->distinct_count == 3 && k->missing == 1);
    cr_expect_str_eq(k->distinct[0].text, "1"); /* by value, not by bytes; 2 and 2.0 are one */
    cr_expect_str_eq(k->distinct[1].text, "2");
    cr_expect_str_eq(k->distinct[2].text, "10");
    cr_expect_eq(k->distinct[1].count, 2);
    bp_scan_free(&scan);

    cr_assert(bp_scan(files, 1, NULL, 0, NULL, 0, 0, &scan, &error));
    cr_expect(scan.rows == 0 && scan.column_count == 3);
    bp_scan_free(&scan);
    write_file("b.csv", "junk\nt;k;m\nb;?;-5\n");
    cr_expect(!bp_scan(files, 2, NULL, 0, NULL, 0, -1, &scan, &error));
    cr_expect_str_eq(error.text, "b.csv:2: column 'm' is not in the first file");
}

Test(scan, many_distinct_texts, .init = enter, .fini = leave) {
    const struct bp_file file = {"many.csv", NULL, BP_ALL, 0, 0, 0, NULL};
    struct bp_scan scan;
    struct bp_error error;
    struct bp_text text = {0};
    for (int i = 0; i < BP_SCAN_MOST_DISTINCT + 5; i++)
        bp_text_printf(&text, "w%d,x\n", i);
    write_bytes("many.csv", text.at, text.length);
    bp_text_free(&text);
    cr_assert(bp_scan(&file, 1, NULL, 0, NULL, 0, -1, &scan, &error), "%s", error.text);
    cr_expect(scan.columns[0].distinct_overflow && scan.columns[0].distinct_count == BP_SCAN_MOST_DISTINCT);
    cr_expect(!scan.columns[1].distinct_overflow && scan.columns[1].distinct_count == 1);
    for (int i = 1; i < scan.columns[0].distinct_count; i++)
        cr_assert(strcmp(scan.columns[0].distinct[i - 1].text, scan.columns[0].distinct[i].text) < 0);
    bp_scan_free(&scan);
}

/* ---- describe.c -------------------------------------------------------------------------------------------------- */
Test(describe, a_block_to_paste, .init = enter, .fini = leave) {
    Text out = {0};
    char why[1024];
    write_file("iris-2.csv", "id,\"petal width\",sex,size,species\n"
                             "1,1.5,m,NA,setosa\n2,2.5,?,4,virginica\n3,1,f,6,setosa\n4,2,m,6,\n");
    cr_assert(describe_file("iris-2.csv", &out, why, sizeof why), "%s", why);
    cr_expect_str_eq(
        out.at, "data iris_2 {\n"
                "    file    \"iris-2.csv\"\n"
                "    missing \"?\"\n"
                "    missing \"NA\"\n"
                "    input   \"petal width\" : standardize\n"
                "    input   size : impute(median), standardize\n"
                "    input   sex : category(\"f\", \"m\"), impute(most_frequent)\n"
                "    target  species : drop, category(\"setosa\", \"virginica\")    # a guess: say here what is to be "
                "predicted\n"
                "    split   train = 0.7, validation = 0.15, test = 0.15, stratify = species\n"
                "}\n\n"
                "# 4 rows, 5 columns\n"
                "# column       kind      missing  values\n"
                "# id           number          0  1 to 4, mean 2.5, 4 whole numbers  (not used: it numbers the rows)\n"
                "# petal width  number          0  1 to 2.5, mean 1.75\n"
                "# sex          category        1  m 2, f 1\n"
                "# size         number          1  4 to 6, mean 5.33333, 2 whole numbers\n"
                "# species      category        1  setosa 2, virginica 1\n");
    text_free(&out);
}

Test(describe, headers_and_errors, .init = enter, .fini = leave) {
    Text out = {0};
    char why[1024];
    write_file("plain.csv", "1.5;2;no\n2.5;3;yes\n3.5;2;no\n");
    cr_assert(describe_file("plain.csv", &out, why, sizeof why), "%s", why);
    cr_expect(strstr(out.at, "header = none\n    columns c1, c2, c3\n    input   c1, c2 : standardize\n") != NULL);
    text_free(&out);
    write_file("broken.csv", "a,b\n1,2\n3\n");
    cr_expect(!describe_file("broken.csv", &out, why, sizeof why));
    cr_expect_str_eq(why, "broken.csv:3: 1 field, 2 expected");
    write_file("twice.csv", "a,a\n1,2\n3,4\n");
    cr_expect(!describe_file("twice.csv", &out, why, sizeof why));
    cr_expect_str_eq(why, "twice.csv:1: two columns are named 'a': fields 1 and 2");
    write_file("odd.csv", "x\"y,for,b\n1.5,2,u*/\n2.5,3,\"v\"\"\\\"\n2.5,3,u*/\n");
    cr_assert(describe_file("odd.csv", &out, why, sizeof why), "%s", why);
    cr_expect(strstr(out.at, "input   \"x\\\"y\", \"for\" : standardize") != NULL, "%s", out.at);
    cr_expect(strstr(out.at, "category(\"u*/\", \"v\\\"\\\\\")") != NULL, "%s", out.at);
    text_free(&out);
}
