/* What tables are read with: random numbers, numbers as text, files, CSV. Expected values are closed forms, published vectors,
   or worked out by hand beside them. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* mkdtemp, symlink */
#endif
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"

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

/* What a table holds: up to 17 digits, a point among them or none; libc rounds exactly too. The text goes on behind the
   number: no byte of that counts. */
Test(text, numbers_of_tables_are_rounded_exactly) {
    for (uint64_t i = 0; i < 300000; i++) {
        uint64_t bits = bp_random(1, 98, i, 0);
        char text[48];
        int digits = 1 + (int)(bits % 17), point = (int)(bits / 17 % 20) - 1;
        int length = snprintf(text, sizeof text, "%s", bits >> 20 & 1 ? "-" : bits >> 21 & 1 ? "+" : "");
        for (int k = 0; k < digits; k++) {
            if (k == point)
                text[length++] = '.';
            text[length++] = (char)('0' + bp_random(2, 98, i, (uint32_t)k) % 10);
        }
        text[length] = '\0';
        double value = -77, expected = strtod(text, NULL);
        strcpy(text + length, bits >> 22 & 1 ? "7531.9" : ",2");
        cr_assert(bp_parse_number(text, (size_t)length, &value), "%s", text);
        cr_assert(value == expected && signbit(value) == signbit(expected), "%s gave %a", text, value);
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
