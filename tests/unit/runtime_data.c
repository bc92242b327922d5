/* The data half of the runtime: numbers as text, files, random numbers, tables. Expected values are closed forms,
   published vectors, or worked out by hand beside them. */
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

/* ---- A folder for each test -------------------------------------------------------------------------------------- */
static char folder[64];

static void enter(void) {
    snprintf(folder, sizeof folder, "/tmp/bp-data-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
    cr_assert(chdir(folder) == 0);
}

static void leave(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    cr_assert(chdir("/") == 0);
    cr_assert(system(command) == 0);
}

static void write_bytes(const char *name, const void *bytes, size_t length) {
    FILE *file = fopen(name, "wb");
    cr_assert(file != NULL && fwrite(bytes, 1, length, file) == length);
    cr_assert(fclose(file) == 0);
}

static void write_file(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}

/* ---- random.c ---------------------------------------------------------------------------------------------------- */
/* Known answers published with Random123. */
Test(random, philox_known_answers) {
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t out[4];
        bp_philox(known[i].counter, known[i].key, out);
        for (int j = 0; j < 4; j++)
            cr_expect_eq(out[j], known[i].out[j], "vector %zu, word %d: %08x", i, j, out[j]);
    }
}

Test(random, every_argument_counts) {
    uint64_t base = bp_random(1, 2, 3, 4);
    cr_expect_neq(base, bp_random(2, 2, 3, 4));
    cr_expect_neq(base, bp_random(UINT64_C(1) << 32 | 1, 2, 3, 4));
    cr_expect_neq(base, bp_random(1, 3, 3, 4));
    cr_expect_neq(base, bp_random(1, 2, 4, 4));
    cr_expect_neq(base, bp_random(1, 2, UINT64_C(1) << 32 | 3, 4));
    cr_expect_neq(base, bp_random(1, 2, 3, 5));
}

/* All 24 orders of four, 24000 shuffles: chi-squared with 23 degrees of freedom exceeds 55 once in 5000. */
Test(random, shuffle_is_uniform) {
    int counts[256] = {0};
    for (uint64_t epoch = 0; epoch < 24000; epoch++) {
        int64_t order[4] = {0, 1, 2, 3};
        bp_shuffle(order, 4, 7, BP_STREAM_SHUFFLE, epoch);
        counts[order[0] << 6 | order[1] << 4 | order[2] << 2 | order[3]]++;
    }
    double chi = 0;
    int seen = 0;
    for (int i = 0; i < 256; i++)
        if (counts[i] > 0) {
            seen++;
            chi += (counts[i] - 1000.0) * (counts[i] - 1000.0) / 1000;
        }
    cr_expect_eq(seen, 24);
    cr_expect_lt(chi, 55.0);
}

/* ---- text.c ------------------------------------------------------------------------------------------------------ */
Test(text, numbers_that_are_read) {
    static const struct {
        const char *text;
        double value;
    } good[] = {{"1", 1},
                {" -.5 ", -0.5},
                {"+2", 2},
                {"1e-3", 0.001},
                {"1E+3", 1000},
                {"5.", 5},
                {"000123.4500", 123.45},
                {"0", 0},
                {"0e999999999999999999999", 0},
                {"9007199254740993", 0x1p53}, /* halfway: to even */
                {"9007199254740993.0000000000000000000000000001", 0x1.0000000000001p53},
                {"1e23", 0x1.52d02c7e14af6p+76},
                {"0.1", 0x1.999999999999ap-4},
                {"1.7976931348623157e308", DBL_MAX},
                {"2.2250738585072011e-308", 0x0.fffffffffffffp-1022},
                {"4.9e-324", 0x1p-1074},
                {"2.4703282292062327e-324", 0}, /* just under half of the least double */
                {"2.4703282292062328e-324", 0x1p-1074},
                {"1e-400", 0},
                {"0.000000000000000000000000000000000000000000001e45", 1}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        double value = -77;
        cr_expect(bp_parse_number(good[i].text, strlen(good[i].text), &value), "%s", good[i].text);
        cr_expect(value == good[i].value, "%s gave %a", good[i].text, value);
    }
    static const char *const bad[] = {"",    " ",        ".",    "-",   "+-1",   "1e",  "1e+",   "e5",     "nan",
                                      "inf", "0x1",      "1 2",  "1,5", "1.2.3", "--1", "1e309", "-1e999", "1_0",
                                      "1d3", "Infinity", "1e5.", "abc", "1a",    "- 1", "1e1e1", "1.8e308"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        double value = -77;
        cr_expect(!bp_parse_number(bad[i], strlen(bad[i]), &value), "%s", bad[i]);
        cr_expect(value == -77, "%s touched the value", bad[i]);
    }
}

/* Writes the digits of odd * 5^1075, so that odd * 2^-1075 is these with e-1075: multiplied out by hand, so that no
   library's rounding is in it. */
static size_t write_tie(int odd, char *digits) {
    int reversed[1200] = {odd}, count = 1;
    for (int i = 0; i < 1075; i++) {
        int carry = 0;
        for (int j = 0; j < count; j++) {
            int product = reversed[j] * 5 + carry;
            reversed[j] = product % 10;
            carry = product / 10;
        }
        if (carry > 0)
            reversed[count++] = carry;
    }
    for (int i = 0; i < count; i++)
        digits[i] = (char)('0' + reversed[count - 1 - i]);
    return (size_t)count;
}

/* Halfway between two neighbours to 750 digits: to even. A last digit, even behind the 900th, tips it over. */
Test(text, ties_of_many_digits) {
    static const struct {
        int odd;
        double below, tie, above;
    } cases[] = {{3, 0x1p-1074, 0x2p-1074, 0x2p-1074}, {5, 0x2p-1074, 0x2p-1074, 0x3p-1074}};
    for (size_t i = 0; i < 2; i++) {
        static char digits[2000];
        double value;
        size_t count = write_tie(cases[i].odd, digits);
        snprintf(digits + count, sizeof digits - count, "e-1075");
        cr_expect(bp_parse_number(digits, strlen(digits), &value) && value == cases[i].tie);
        snprintf(digits + count, sizeof digits - count, "%0200de-1275", 1);
        cr_expect(bp_parse_number(digits, strlen(digits), &value) && value == cases[i].above);
        snprintf(digits + count, sizeof digits - count, "%0200de-1275", 0);
        cr_expect(bp_parse_number(digits, strlen(digits), &value) && value == cases[i].tie);
        digits[count - 1]--;
        cr_expect(bp_parse_number(digits, strlen(digits), &value) && value == cases[i].below);
    }
}

Test(text, numbers_come_back) {
    static const struct {
        double value;
        const char *text;
    } shown[] = {{0.1, "0.1"},
                 {1, "1"},
                 {-2.5, "-2.5"},
                 {1e22, "1e+22"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {NAN, "NaN"},
                 {INFINITY, "Infinity"},
                 {-INFINITY, "-Infinity"},
                 {0, "0"}};
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        struct bp_text text = {0};
        bp_text_number(&text, shown[i].value);
        cr_expect_str_eq(text.at, shown[i].text);
        bp_text_free(&text);
    }
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t bits = bp_random(1, 99, i, 0);
        double value, back = 0;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        struct bp_text text = {0};
        bp_text_number(&text, value);
        cr_assert(bp_parse_number(text.at, text.length, &back) && back == value, "%a became %s", value, text.at);
        cr_assert(strtod(text.at, NULL) == value);
        bp_text_free(&text);
    }
}

Test(text, json_strings) {
    struct bp_text text = {0};
    bp_text_json(&text, "a\"b\\c\n\t\x01\x7f\xc3\xa9\xff\xed\xa0\x80\xe2\x82");
    cr_expect_str_eq(text.at,
                     "\"a\\\"b\\\\c\\n\\t\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                     "\xef\xbf\xbd\xef\xbf\xbd\"");
    bp_text_free(&text);
}

/* ---- memory.c, file.c -------------------------------------------------------------------------------------------- */
Test(memory, aligned_zeroed_and_refused) {
    struct bp_error error;
    for (size_t bytes = 0; bytes < 300; bytes += 37) {
        unsigned char *memory = bp_allocate(bytes, "a test", &error);
        cr_assert(memory != NULL && (uintptr_t)memory % 64 == 0);
        for (size_t i = 0; i < bytes; i++)
            cr_assert_eq(memory[i], 0);
        free(memory);
    }
    cr_expect(bp_allocate(SIZE_MAX, "the weights", &error) == NULL);
    cr_expect(strstr(error.text, "the weights") != NULL);
}

static void expect_file(const char *name, const char *expected) {
    struct bp_error error;
    size_t length;
    char *bytes = bp_read_file(name, &length, &error);
    cr_assert(bytes != NULL, "%s", error.text);
    cr_expect_eq(length, strlen(expected));
    cr_expect_str_eq(bytes, expected);
    free(bytes);
}

static int files_here(void) {
    FILE *list = popen("ls -A | wc -l", "r");
    int count = -1;
    cr_assert(list != NULL && fscanf(list, "%d", &count) == 1);
    pclose(list);
    return count;
}

Test(file, whole_or_untouched, .init = enter, .fini = leave) {
    struct bp_error error;
    write_file("a.txt", "old");
    cr_assert(chmod("a.txt", 0640) == 0);
    struct bp_writer *writer = bp_writer_open("a.txt", &error);
    cr_assert(writer != NULL, "%s", error.text);
    cr_assert(bp_writer_put(writer, "half", 4, &error));
    expect_file("a.txt", "old");
    bp_writer_abandon(writer);
    expect_file("a.txt", "old");
    cr_expect_eq(files_here(), 1);

    cr_assert(symlink("a.txt", "link.txt") == 0);
    writer = bp_writer_open("link.txt", &error);
    cr_assert(bp_writer_put(writer, "new", 3, &error));
    cr_assert(bp_writer_commit(writer, &error));
    expect_file("a.txt", "new");
    struct stat about;
    cr_assert(stat("a.txt", &about) == 0);
    cr_expect_eq(about.st_mode & 0777, 0640);
    cr_expect_eq(files_here(), 2);

    bp_writer_abandon(NULL);
    cr_expect(bp_writer_open("nowhere/b.txt", &error) == NULL);
    cr_expect_str_eq(error.text, "cannot write 'nowhere/b.txt': No such file or directory");
    cr_expect(bp_writer_open(".", &error) == NULL);
}

Test(file, large_pieces, .init = enter, .fini = leave) {
    struct bp_error error;
    struct bp_writer *writer = bp_writer_open("large", &error);
    for (size_t length = 1; length < 300000; length = length * 3 + 1) {
        char *piece = malloc(length);
        memset(piece, 'x', length);
        cr_assert(bp_writer_put(writer, piece, length, &error));
        free(piece);
    }
    cr_assert(bp_writer_commit(writer, &error));
    size_t expected = 0, length;
    for (size_t piece = 1; piece < 300000; piece = piece * 3 + 1)
        expected += piece;
    char *bytes = bp_read_file("large", &length, &error);
    cr_expect_eq(length, expected);
    cr_expect_eq(strspn(bytes, "x"), expected);
    free(bytes);
}

Test(file, a_full_disk_is_an_error, .init = enter, .fini = leave) {
    struct bp_error error;
    if (access("/dev/full", W_OK) != 0)
        cr_skip_test("no /dev/full");
    struct bp_writer *writer = bp_writer_open("/dev/full", &error);
    cr_assert(writer != NULL);
    cr_expect(bp_writer_put(writer, "x", 1, &error));
    cr_expect(!bp_writer_commit(writer, &error));
    cr_expect_str_eq(error.text, "cannot write '/dev/full': No space left on device");
}

Test(file, gzip, .init = enter, .fini = leave) {
    static const unsigned char packed[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03,
                                           0x4b, 0xd4, 0x49, 0xe2, 0x32, 0xd4, 0x31, 0xe2, 0x02, 0x00,
                                           0x7b, 0x07, 0x97, 0x0a, 0x08, 0x00, 0x00, 0x00};
    struct bp_error error;
    size_t length;
    write_bytes("a.csv.gz", packed, sizeof packed);
#ifdef BP_HAVE_ZLIB
    expect_file("a.csv.gz", "a,b\n1,2\n");
    unsigned char twice[2 * sizeof packed];
    memcpy(twice, packed, sizeof packed);
    memcpy(twice + sizeof packed, packed, sizeof packed);
    write_bytes("two.gz", twice, sizeof twice);
    expect_file("two.gz", "a,b\n1,2\na,b\n1,2\n");
    for (size_t cut = 2; cut < sizeof packed; cut++) {
        write_bytes("cut.gz", packed, cut);
        cr_expect(bp_read_file("cut.gz", &length, &error) == NULL, "%zu bytes were taken for the whole", cut);
        cr_expect_str_eq(error.text, "cannot unpack 'cut.gz': it is cut short");
    }
    memcpy(twice, packed, sizeof packed);
    twice[20] ^= 1;
    write_bytes("bad.gz", twice, sizeof packed);
    cr_expect(bp_read_file("bad.gz", &length, &error) == NULL);
    cr_expect_str_eq(error.text, "cannot unpack 'bad.gz': it is damaged, or not gzip after all");
#else
    cr_expect(bp_read_file("a.csv.gz", &length, &error) == NULL);
    cr_expect(strstr(error.text, "gunzip") != NULL);
#endif
    cr_expect(bp_read_file("absent", &length, &error) == NULL);
    cr_expect_str_eq(error.text, "cannot read 'absent': No such file or directory");
    cr_expect(bp_read_file(".", &length, &error) == NULL);
}

/* ---- csv.c ------------------------------------------------------------------------------------------------------- */
/* The rows as "line:field|field/line:…", or the error. */
static void read_csv(const char *name, char delimiter, int skip, struct bp_text *out) {
    struct bp_error error;
    struct bp_csv csv;
    int row;
    if (!bp_csv_open(&csv, name, delimiter, skip, &error)) {
        bp_text_printf(out, "%s", error.text);
        return;
    }
    while ((row = bp_csv_row(&csv, &error)) == 1) {
        bp_text_printf(out, "%s%lld:", out->length > 0 ? "/" : "", (long long)csv.line);
        for (int32_t i = 0; i < csv.field_count; i++)
            bp_text_printf(out, "%s%s%.*s", i > 0 ? "|" : "", csv.fields[i].quoted ? "'" : "", csv.fields[i].length,
                           csv.fields[i].at);
    }
    if (row < 0)
        bp_text_printf(out, "%s%s", out->length > 0 ? "/" : "", error.text);
    bp_csv_close(&csv);
}

Test(csv, rows, .init = enter, .fini = leave) {
    static const struct {
        const char *text;
        char delimiter;
        int skip;
        const char *rows;
    } cases[] = {
        {"a,b\n1,2\n", 0, 0, "1:a|b/2:1|2"},
        {"a,b\r\n1,2", 0, 0, "1:a|b/2:1|2"},
        {"a,b\r1,2\r", 0, 0, "1:a|b/2:1|2"},
        {"\xef\xbb\xbf"
         "a,b\n",
         0, 0, "1:a|b"},
        {"", 0, 0, ""},
        {"\n\n  \n", 0, 0, ""},
        {"\n\na\n\n  \nb\n", 0, 0, "3:a/6:b"},
        {"a,,\n,,\n", 0, 0, "1:a||/2:||"},
        {" a , b c ,d\n", 0, 0, "1:a|b c|d"},
        {"\"a\",\" b \" , \"c\"\n", 0, 0, "1:'a|' b |'c"},
        {"\"say \"\"hi\"\"\",x\n", 0, 0, "1:'say \"hi\"|x"},
        {"\"two\nlines\",1\nx,2\n", 0, 0, "1:'two\nlines|1/3:x|2"},
        {"\"two\r\nlines\",1\r\nx,2\r\n", 0, 0, "1:'two\r\nlines|1/3:x|2"},
        {"\"\",1\n", 0, 0, "1:'|1"},
        {"5\"3,x\n", 0, 0, "1:5\"3|x"},
        {"a;b,c;d\n", 0, 0, "1:a|b,c|d"},
        {"\"a,b,c\";d\n", 0, 0, "1:'a,b,c|d"},
        {"a\tb c\t\n\tx\t\n", 0, 0, "1:a|b c|/2:|x|"},
        {"a|b|c,d\n", 0, 0, "1:a|b|c,d"},
        {"a,b\n", ';', 0, "1:a,b"},
        {"a b\n", ' ', 0, "1:a|b"},
        {"junk \"\nmore\na,b\n", 0, 2, "3:a|b"},
        {"junk", 0, 5, ""},
        {"a,\"b\nc,d\n", 0, 0, "t.csv:1: a quote (\") is opened here and never closed"},
        {"a,b\n\"b\"c,d\n", 0, 0,
         "1:a|b/t.csv:2: text follows a closing quote in field 1 (a quote within quotes is doubled)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bp_text out = {0};
        write_file("t.csv", cases[i].text);
        read_csv("t.csv", cases[i].delimiter, cases[i].skip, &out);
        cr_expect_str_eq(out.at == NULL ? "" : out.at, cases[i].rows, "case %zu: %s", i, out.at);
        bp_text_free(&out);
    }
    struct bp_text out = {0};
    write_bytes("t.csv", "a\0b", 3);
    read_csv("t.csv", 0, 0, &out);
    cr_expect_str_eq(out.at, "t.csv: byte 1 is 0, so this is not a table as UTF-8 text");
    bp_text_free(&out);
}

/* Random fields, written as RFC 4180 says, come back. */
Test(csv, round_trip, .init = enter, .fini = leave) {
    static const char alphabet[] = "a\",;\n\r \t|9";
    struct bp_text rows[50];
    for (uint64_t round = 0; round < 200; round++) {
        struct bp_text file = {0};
        uint64_t columns = 1 + bp_random(3, 50, round, 0) % 4;
        memset(rows, 0, sizeof rows);
        for (int i = 0; i < 50; i++)
            for (uint64_t j = 0; j < columns; j++) {
                bp_text_add(&file, j > 0 ? ",\"" : "\"", j > 0 ? 2 : 1);
                bp_text_add(&rows[i], "<", 1);
                for (uint64_t k = bp_random(3, 51, round * 1000 + (uint64_t)i, (uint32_t)j) % 6; k > 0; k--) {
                    char c = alphabet[bp_random(round, 52, (uint64_t)i << 32 | j, (uint32_t)k) % (sizeof alphabet - 1)];
                    bp_text_add(&file, c == '"' ? "\"\"" : &c, c == '"' ? 2 : 1);
                    bp_text_add(&rows[i], &c, 1);
                }
                bp_text_add(&file, j + 1 == columns ? "\"\n" : "\"", j + 1 == columns ? 2 : 1);
            }
        write_bytes("r.csv", file.at, file.length);
        struct bp_csv csv;
        struct bp_error error;
        cr_assert(bp_csv_open(&csv, "r.csv", ',', 0, &error));
        for (int i = 0; i < 50; i++) {
            struct bp_text row = {0};
            cr_assert_eq(bp_csv_row(&csv, &error), 1);
            cr_assert_eq((uint64_t)csv.field_count, columns);
            for (int32_t j = 0; j < csv.field_count; j++) {
                bp_text_add(&row, "<", 1);
                bp_text_add(&row, csv.fields[j].at, (size_t)csv.fields[j].length);
            }
            cr_assert_str_eq(row.at, rows[i].at);
            bp_text_free(&row);
            bp_text_free(&rows[i]);
        }
        cr_assert_eq(bp_csv_row(&csv, &error), 0);
        bp_csv_close(&csv);
        bp_text_free(&file);
    }
}

/* Noise: no crash, every field inside the text, lines never go back. Run under sanitizers. */
Test(csv, noise, .init = enter, .fini = leave) {
    static const char alphabet[] = "\"\",,;\n\r \t|x1\xef\xbb\xbf";
    for (uint64_t round = 0; round < 3000; round++) {
        char noise[64];
        size_t length = bp_random(4, 60, round, 0) % sizeof noise;
        for (size_t i = 0; i < length; i++)
            noise[i] = alphabet[bp_random(4, 61, round, (uint32_t)i) % (sizeof alphabet - 1)];
        write_bytes("n.csv", noise, length);
        struct bp_csv csv;
        struct bp_error error;
        cr_assert(bp_csv_open(&csv, "n.csv", 0, (int32_t)(round % 3), &error));
        int row;
        int64_t line = 0;
        while ((row = bp_csv_row(&csv, &error)) == 1) {
            cr_assert(csv.line > line && csv.field_count > 0);
            line = csv.line;
            for (int32_t i = 0; i < csv.field_count; i++)
                cr_assert(csv.fields[i].length >= 0 && csv.fields[i].at >= csv.text &&
                          csv.fields[i].at + csv.fields[i].length <= csv.text + csv.length);
        }
        cr_assert(row == 0 || strncmp(error.text, "n.csv:", 6) == 0);
        bp_csv_close(&csv);
    }
}

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
    struct bp_data_options options = {"new.csv", fitted, NULL, 0, 1};
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
    struct bp_data_options options = {"other.csv", NULL, NULL, 0, 0};
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
