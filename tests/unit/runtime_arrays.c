/* What a table may hold besides numbers and categories. Expected values are worked out by hand beside them. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* mkdtemp */
#endif
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "folder.h"

/* ---- idx.c ----------------------------------------------------------------------------------------------------------
 */
/* 1 and -2 of every type, as the bytes are in the file. */
Test(idx, every_type, .init = enter, .fini = leave) {
    static const struct {
        unsigned char type;
        int bytes;
        unsigned char one[8], other[8];
        double value;
    } types[] = {
        {0x08, 1, {1}, {254}, 254},
        {0x09, 1, {1}, {0xfe}, -2},
        {0x0b, 2, {0, 1}, {0xff, 0xfe}, -2},
        {0x0c, 4, {0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xfe}, -2},
        {0x0d, 4, {0x3f, 0x80, 0, 0}, {0xc0, 0, 0, 0}, -2},
        {0x0e, 8, {0x3f, 0xf0}, {0xc0, 0, 0, 0, 0, 0, 0, 0}, -2},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        unsigned char bytes[64] = {0, 0, types[i].type, 1, 0, 0, 0, 2};
        size_t size = (size_t)types[i].bytes;
        memcpy(bytes + 8, types[i].one, size);
        memcpy(bytes + 8 + size, types[i].other, size);
        write_bytes("two.idx", bytes, 8 + 2 * size);
        struct bp_idx idx;
        struct bp_error error;
        cr_assert(bp_idx_open(&idx, "two.idx", "two.idx", &error), "%s", error.text);
        cr_expect(idx.rows == 2 && idx.rank == 0 && idx.width == 1);
        cr_expect(bp_idx_value(&idx, 0) == 1 && bp_idx_value(&idx, 1) == types[i].value, "type %d", types[i].type);
        bp_idx_close(&idx);
    }
}

Test(idx, sizes_must_be_true, .init = enter, .fini = leave) {
    static const struct {
        unsigned char bytes[24];
        size_t length;
        const char *says;
    } bad[] = {
        {{0, 0, 8, 1, 0, 0, 0, 2, 7}, 9, "x.idx: 2 rows of 1 elements are promised, and the file holds fewer"},
        {{0, 0, 8, 1, 0, 0, 0, 1, 7, 7}, 10, "x.idx: 1 rows of 1 elements are promised, and the file holds more"},
        {{0, 0, 8, 2, 0, 0, 0, 1}, 8, "x.idx: it is cut short: the header has 12 bytes, and the file 8"},
        {{0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 0}, 12, "x.idx: a row of it has no, or too many, elements"},
        {{0, 0, 8, 3, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0}, 16, "x.idx: a row of it has no, or too many, elements"},
        {{0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 1},
         16,
         "x.idx: 4294967295 rows of 2130706432 elements are promised, and the file holds fewer"},
        {{0, 0, 8, 9}, 4, "x.idx: it has 9 axes; a row may have 4"},
        {{0, 0, 7, 1},
         4,
         "x.idx: this is not an IDX file, which begins with two bytes that are 0, a type and a number of axes"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct bp_idx idx;
        struct bp_error error;
        write_bytes("x.idx", bad[i].bytes, bad[i].length);
        cr_expect(!bp_idx_open(&idx, "x.idx", "x.idx", &error));
        cr_expect_str_eq(error.text, bad[i].says);
    }
}

/* ---- arrays.c -------------------------------------------------------------------------------------------------------
 */
/* Two parts of a set of images [1][2] and labels; the training part is two files. */
struct images {
    struct bp_data data;
    struct bp_file files[5];
    struct bp_column columns[2];
    struct bp_transform transforms[1];
    struct bp_slot slots[2];
};
static const char *const labels[] = {"3", "7"};
static const int32_t image_column[1] = {0}, label_column[1] = {1};

static void images_start(struct images *s, enum bp_transform_kind kind) {
    static const unsigned char a[] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20};
    static const unsigned char b[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 30, 40, 0, 80};
    static const unsigned char c[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 3, 7}, d[] = {0, 0, 8, 1, 0, 0, 0, 1, 3};
    memset(s, 0, sizeof *s);
    write_bytes("a.idx", a, sizeof a);
    write_bytes("b.idx", b, sizeof b);
    write_bytes("c.idx", c, sizeof c);
    write_bytes("d.idx", d, sizeof d);
    s->files[0] = (struct bp_file){.name = "a.idx", .part = BP_TRAIN, .as = "image"};
    s->files[1] = (struct bp_file){.name = "d.idx", .part = BP_TEST, .as = "label"};
    s->files[2] = (struct bp_file){.name = "c.idx", .part = BP_TRAIN, .as = "label"};
    s->files[3] = (struct bp_file){.name = "a.idx", .part = BP_TEST, .as = "image"};
    s->files[4] = (struct bp_file){.name = "b.idx", .part = BP_TRAIN, .as = "image"};
    s->transforms[0] = (struct bp_transform){kind, 0.5, NULL, kind == BP_SCALE ? -1 : 0};
    s->columns[0] = (struct bp_column){
        .name = "image", .kind = BP_ARRAY, .transforms = s->transforms, .transform_count = 1, .width = 2};
    s->columns[1] = (struct bp_column){.name = "label", .kind = BP_CATEGORY, .categories = labels, .category_count = 2};
    s->slots[0] = (struct bp_slot){"image", BP_F32, BP_SLOT_ARRAY, 2, image_column, 1, 0};
    s->slots[1] = (struct bp_slot){"label", BP_I32, BP_SLOT_COLUMNS, 1, label_column, 1, 1};
    s->data = (struct bp_data){.name = "images",
                               .files = s->files,
                               .file_count = 5,
                               .columns = s->columns,
                               .column_count = 2,
                               .slots = s->slots,
                               .slot_count = 2,
                               .stratify = -1,
                               .fitted_count = kind == BP_SCALE ? 0 : 2};
}

Test(arrays, parts_of_several_files, .init = enter, .fini = leave) {
    struct images s;
    struct bp_table table;
    struct bp_error error;
    images_start(&s, BP_SCALE);
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    static const float pixels[] = {5, 10, 15, 20, 0, 40, 5, 10};
    static const int32_t classes[] = {1, 0, 1, 0};
    cr_assert(table.rows == 4 && table.part_rows[BP_TRAIN] == 3 && table.part_rows[BP_TEST] == 1);
    cr_expect(memcmp(table.slots[0], pixels, sizeof pixels) == 0);
    cr_expect(memcmp(table.slots[1], classes, sizeof classes) == 0);
    cr_expect(table.parts[BP_TEST][0] == 3);
    bp_table_free(&table);
}

/* All six elements of the training rows: 10 20 30 40 0 80, mean 30, squares 400 100 0 100 900 2500: variance 4000 / 6.
 */
Test(arrays, one_mean_for_all_elements, .init = enter, .fini = leave) {
    struct images s;
    struct bp_table table;
    struct bp_error error;
    images_start(&s, BP_STANDARDIZE);
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    double deviation = sqrt(4000.0 / 6);
    cr_expect(table.fitted[0] == 30 && table.fitted[1] == deviation);
    cr_expect(((float *)table.slots[0])[5] == (float)(50 / deviation));
    bp_table_free(&table);
    images_start(&s, BP_MINMAX);
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(table.fitted[0] == 0 && table.fitted[1] == 80 && ((float *)table.slots[0])[0] == 0.125F);
    bp_table_free(&table);
}

Test(arrays, what_does_not_fit, .init = enter, .fini = leave) {
    struct images s;
    struct bp_table table;
    struct bp_error error;
    images_start(&s, BP_SCALE);
    s.files[4].part = BP_VALIDATION;
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "data 'images': 1 rows of 'image', but 3 of 'label'");
    images_start(&s, BP_SCALE);
    s.columns[0].width = 3;
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "a.idx: a row of 'image' has 2 elements, 3 expected");
    images_start(&s, BP_SCALE);
    s.columns[1].category_count = 1;
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "c.idx:1: column 'label': '7' is not one of the categories of 'label' (3)");
}

Test(arrays, predict_reads_one_file, .init = enter, .fini = leave) {
    struct images s;
    struct bp_table table;
    struct bp_error error;
    struct bp_data_options options = {"b.idx", NULL, NULL, 0, 1, 1};
    images_start(&s, BP_SCALE);
    cr_assert(bp_table_load(&table, &s.data, &options, &error), "%s", error.text);
    cr_expect(table.rows == 2 && ((float *)table.slots[0])[3] == 40);
    bp_table_free(&table);
}

/* ---- split.c: folds -------------------------------------------------------------------------------------------------- */
/* 23 rows of two strata, 16 and 7, in 5 folds, a quarter of what is not held out validating. */
Test(folds, each_row_is_held_out_once, .init = enter, .fini = leave) {
    enum { ROWS = 23, FOLDS = 5 };
    static const char *const fields[2 * ROWS] = {"0",  "a", "1",  "a", "2",  "b", "3",  "a", "4",  "a", "5",  "b",
                                                 "6",  "a", "7",  "a", "8",  "a", "9",  "b", "10", "a", "11", "a",
                                                 "12", "b", "13", "a", "14", "a", "15", "b", "16", "a", "17", "a",
                                                 "18", "a", "19", "b", "20", "a", "21", "b", "22", "a"};
    static const char *const names[] = {"x", "k"}, *const kinds[] = {"a", "b"};
    static const int32_t input[] = {0}, target[] = {1};
    struct bp_column columns[2] = {
        {.name = "x", .position = -1},
        {.name = "k", .position = -1, .kind = BP_CATEGORY, .categories = kinds, .category_count = 2}};
    struct bp_slot slots[2] = {{"x", BP_F32, BP_SLOT_COLUMNS, 1, input, 1, 0},
                               {"k", BP_I32, BP_SLOT_COLUMNS, 1, target, 1, 1}};
    struct bp_data data = {.name = "d",
                           .rows = fields,
                           .row_count = ROWS,
                           .field_count = 2,
                           .field_names = names,
                           .columns = columns,
                           .column_count = 2,
                           .slots = slots,
                           .slot_count = 2,
                           .stratify = 1,
                           .folds = FOLDS,
                           .validation = 0.25};
    int held[ROWS] = {0};
    for (int fold = 0; fold < FOLDS; fold++) {
        struct bp_data_options options = {NULL, NULL, NULL, fold, 0, 1};
        struct bp_table table;
        struct bp_error error;
        int of_b = 0;
        cr_assert(bp_table_load(&table, &data, &options, &error), "%s", error.text);
        int64_t test = table.part_rows[BP_TEST], validation = table.part_rows[BP_VALIDATION];
        cr_expect(test == 4 || test == 5);
        cr_expect(validation == 4 || validation == 5, "%lld of %lld validate", (long long)validation,
                  (long long)(ROWS - test));
        cr_expect_eq(test + validation + table.part_rows[BP_TRAIN], ROWS);
        for (int64_t i = 0; i < test; i++) {
            held[table.parts[BP_TEST][i]]++;
            of_b += ((int32_t *)table.slots[1])[table.parts[BP_TEST][i]];
        }
        cr_expect(of_b == 1 || of_b == 2, "%d of 7 in fold %d", of_b, fold);
        bp_table_free(&table);
    }
    for (int row = 0; row < ROWS; row++)
        cr_expect_eq(held[row], 1);
}

/* ---- words.c -------------------------------------------------------------------------------------------------------- */
struct texts {
    struct bp_data data;
    struct bp_file file;
    struct bp_column column;
    struct bp_transform drop;
    struct bp_slot slots[2];
};
static const int32_t text_column[1] = {0};

static void texts_start(struct texts *s, int32_t vocabulary, int32_t distinct, int32_t counts) {
    memset(s, 0, sizeof *s);
    s->file = (struct bp_file){.name = "t.csv", .part = BP_ALL, .header = 1};
    s->drop = (struct bp_transform){BP_DROP, 0, NULL, -1};
    s->column = (struct bp_column){.name = "note",
                                   .position = -1,
                                   .kind = BP_WORDS,
                                   .width = vocabulary,
                                   .distinct = distinct,
                                   .lowercase = 1,
                                   .counts = counts};
    s->slots[0] = (struct bp_slot){"note", BP_I32, BP_SLOT_WORDS, distinct, text_column, 1, 0};
    s->slots[1] = (struct bp_slot){"note", BP_F32, BP_SLOT_COUNTS, distinct, text_column, 1, 0};
    s->data = (struct bp_data){.name = "notes",
                               .files = &s->file,
                               .file_count = 1,
                               .columns = &s->column,
                               .column_count = 1,
                               .slots = s->slots,
                               .slot_count = 2,
                               .stratify = -1};
}

static void row_is(const struct bp_table *table, int64_t row, const char *expected) {
    char text[256] = "";
    for (int64_t i = table->starts[0][row]; i < table->starts[0][row + 1]; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d:%g ", (int)((int32_t *)table->slots[0])[i],
                 (double)((float *)table->slots[1])[i]);
    cr_expect_str_eq(text, expected, "row %lld is %s, not %s", (long long)row, text, expected);
}

static const char notes[] =
    "note\n\"The cat's, the CAT; a cat\"\nthe_x a cat a-b\n\"  ... \"\n\"\xc3\xa9t\xc3\xa9 the'\"\n";

/* a 3 (a, a, a-b), cat 3 (not cat's), the 3 (twice, the') by bytes; then b, cat's, the_x, été once each. */
Test(words, most_frequent_then_by_bytes, .init = enter, .fini = leave) {
    struct texts s;
    struct bp_table table;
    struct bp_error error;
    texts_start(&s, 5, 8, 1);
    write_bytes("t.csv", notes, strlen(notes));
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect_str_eq(table.vocabulary, "{\"note\":[\"a\",\"cat\",\"the\",\"b\",\"cat's\"]}");
    cr_assert_eq(table.rows, 4);
    row_is(&table, 0, "0:1 1:2 2:2 4:1 ");
    row_is(&table, 1, "0:2 1:1 3:1 ");
    row_is(&table, 2, "");
    row_is(&table, 3, "2:1 ");
    bp_table_free(&table);
    texts_start(&s, 3, 3, 0);
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    row_is(&table, 0, "0:1 1:1 2:1 ");
    bp_table_free(&table);
}

/* Words of the test rows do not count; a vocabulary that is given stays as it is. */
Test(words, fitted_on_training_rows_alone, .init = enter, .fini = leave) {
    struct texts s;
    struct bp_table table;
    struct bp_error error;
    struct bp_file files[2];
    texts_start(&s, 2, 4, 1);
    write_bytes("t.csv", "note\nred red blue\n", 18);
    write_bytes("u.csv", "note\ngreen green green blue\n", 28);
    files[0] = files[1] = s.file;
    files[0].part = BP_TRAIN;
    files[1].part = BP_TEST;
    files[1].name = "u.csv";
    s.data.files = files;
    s.data.file_count = 2;
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect_str_eq(table.vocabulary, "{\"note\":[\"red\",\"blue\"]}");
    row_is(&table, 1, "1:1 ");
    bp_table_free(&table);
    struct bp_data_options given = {NULL, NULL, "{\"note\":[\"green\",\"red\"]}", 0, 0, 1};
    cr_assert(bp_table_load(&table, &s.data, &given, &error), "%s", error.text);
    row_is(&table, 0, "1:2 ");
    row_is(&table, 1, "0:3 ");
    bp_table_free(&table);
}

Test(words, what_does_not_fit, .init = enter, .fini = leave) {
    struct texts s;
    struct bp_table table;
    struct bp_error error;
    texts_start(&s, 10, 2, 1);
    write_bytes("t.csv", "note\nred\nred green blue\n", 24);
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text,
                     "t.csv:3: column 'note' has 3 different words of the vocabulary, and there is room for 2: "
                     "write text(…, distinct = 3)");
    write_bytes("t.csv", "note,x\n,1\nred,2\n", 16);
    cr_expect(!bp_table_load(&table, &s.data, NULL, &error));
    cr_expect_str_eq(error.text, "t.csv:2: the value of 'note' is missing; add drop");
    s.column.transforms = &s.drop;
    s.column.transform_count = 1;
    cr_assert(bp_table_load(&table, &s.data, NULL, &error), "%s", error.text);
    cr_expect(table.rows == 1 && table.dropped == 1);
    row_is(&table, 0, "0:1 ");
    bp_table_free(&table);
    struct bp_data_options given = {NULL, NULL, "{\"other\":[]}", 0, 0, 1};
    cr_expect(!bp_table_load(&table, &s.data, &given, &error));
    cr_expect_str_eq(error.text, "the checkpoint holds no vocabulary of at most 10 words for column 'note'");
}
