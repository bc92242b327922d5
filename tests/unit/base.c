/* Unit tests of compiler/base. */
#define _XOPEN_SOURCE 700
#include "../../compiler/base/base.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Arena ------------------------------------------------------------------------------------------------------- */

Test(arena, gives_zeroed_aligned_memory_of_any_size) {
    Arena *arena = arena_new();
    size_t total = 0;
    for (size_t size = 0; size < 200000; size = size * 3 + 1) {
        unsigned char *memory = arena_alloc(arena, size);
        cr_assert_eq((uintptr_t)memory % 16, 0, "%zu bytes are not aligned", size);
        for (size_t i = 0; i < size; i++)
            cr_assert_eq(memory[i], 0, "byte %zu of %zu", i, size);
        memset(memory, 0xAB, size);
        total += size;
    }
    cr_assert_geq(arena_bytes(arena), total);
    arena_free(arena);
    arena_free(NULL);
}

Test(arena, copies_and_formats) {
    Arena *arena = arena_new();
    cr_assert_str_eq(arena_copy(arena, "abcdef", 3), "abc");
    cr_assert_str_eq(arena_copy(arena, NULL, 0), "");
    char *text = arena_printf(arena, "%s-%05d", "x", 42);
    cr_assert_str_eq(text, "x-00042");
    arena_free(arena);
}

Test(arena, grows_lists) {
    Arena *arena = arena_new();
    LIST(int) list = {0};
    for (int i = 0; i < 10000; i++)
        *LIST_ADD(arena, &list) = i * 7;
    cr_assert_eq(list.count, 10000);
    for (int i = 0; i < 10000; i++)
        cr_assert_eq(list.at[i], i * 7);
    arena_free(arena);
}

/* ---- Names ------------------------------------------------------------------------------------------------------- */

Test(names, are_equal_pointers_when_equal) {
    names_start();
    Name first = name_of("weight");
    char other[] = "weight";
    cr_assert_eq(first, name_of(other));
    cr_assert_eq(first, name_slice("weights", 6));
    cr_assert_neq(first, name_of("weights"));
    cr_assert_neq(first, name_of("weigh"));
    cr_assert_str_eq(name_of(""), "");
    Name many[5000];
    char text[16];
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "n%d", i);
        many[i] = name_of(text);
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "n%d", i);
        cr_assert_eq(many[i], name_of(text));
        cr_assert_str_eq(many[i], text);
    }
    names_end();
}

static const char *nearest(const char *wrong) {
    static const char *const words[] = {"accuracy", "adam", "adamw", "sgd", "model", "metric", "relu"};
    names_start();
    Name names[7];
    for (int i = 0; i < 7; i++)
        names[i] = name_of(words[i]);
    Name found = nearest_name(wrong, names, 7);
    return found ? found : "none";
}

Test(names, finds_the_nearest) {
    cr_assert_str_eq(nearest("acuracy"), "accuracy");
    cr_assert_str_eq(nearest("modle"), "model"); /* a swap is one edit */
    cr_assert_str_eq(nearest("Adam"), "adam");
    cr_assert_str_eq(nearest("adamww"), "adamw");
    cr_assert_str_eq(nearest("reul"), "relu");
    cr_assert_str_eq(nearest("x"), "none");
    cr_assert_str_eq(nearest("cross_entropy"), "none");
    cr_assert_str_eq(nearest(""), "none");
    char longest[500];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    cr_assert_str_eq(nearest(longest), "none");
    names_end();
}

/* ---- Sources ----------------------------------------------------------------------------------------------------- */

Test(sources, places_count_from_one_in_bytes) {
    const char text[] = "ab\n\xC3\xA9x\n\nlast";
    int source = source_add("m.bp", text, sizeof text - 1);
    const int wanted[][3] = {{0, 1, 1}, {2, 1, 3}, {3, 2, 1}, {5, 2, 3}, {7, 3, 1}, {8, 4, 1}, {12, 4, 5}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        Place place = span_place((Span){source, wanted[i][0], wanted[i][0]});
        cr_assert_str_eq(place.path, "m.bp");
        cr_assert_eq(place.line, wanted[i][1], "line of byte %d is %d", wanted[i][0], place.line);
        cr_assert_eq(place.column, wanted[i][2], "column of byte %d is %d", wanted[i][0], place.column);
    }
    sources_end();
}

Test(sources, hold_a_copy_without_a_byte_order_mark) {
    char text[] = "\xEF\xBB\xBF"
                  "bpc 1";
    int first = source_add("a.bp", text, sizeof text - 1), second = source_add("prelude/b.bp", "", 0);
    memset(text, 'x', sizeof text);
    size_t length;
    cr_assert_str_eq(source_text(first, &length), "bpc 1");
    cr_assert_eq(length, 5);
    cr_assert_eq(source_count(), 2);
    cr_assert_not(span_in_prelude((Span){first, 0, 1}));
    cr_assert(span_in_prelude((Span){second, 0, 0}));
    cr_assert_not(span_in_prelude(SPAN_NONE));
    cr_assert_eq(span_place((Span){second, 0, 0}).line, 1);
    sources_end();
}

Test(sources, spans_join) {
    Span joined = span_join((Span){0, 5, 9}, (Span){0, 2, 3});
    cr_assert(joined.source == 0 && joined.start == 2 && joined.end == 9);
    joined = span_join(SPAN_NONE, (Span){3, 2, 4});
    cr_assert(joined.source == 3 && joined.start == 2 && joined.end == 4);
    joined = span_join((Span){3, 2, 4}, SPAN_NONE);
    cr_assert(joined.source == 3 && joined.start == 2 && joined.end == 4);
}

/* ---- Diagnostics ------------------------------------------------------------------------------------------------- */

static void redirect(void) {
    cr_redirect_stderr();
}

Test(diagnostics, show_the_line_and_carets, .init = redirect) {
    const char text[] = "first\n\t\xC3\xA9 = abc\x1B\nlast";
    int source = source_add("m.bp", text, sizeof text - 1);
    error_at((Span){source, 12, 15}, "no %s here", "abc");
    note_at((Span){source, 0, 5}, "see here");
    warning_at((Span){source, 20, 21}, "odd");
    error_at(SPAN_NONE, "nowhere");
    error_plain("plain %d", 7);
    cr_assert_eq(error_count(), 3);
    fflush(stderr);
    cr_assert_stderr_eq_str("m.bp:2:7: error: no abc here\n  \t\xC3\xA9 = abc?\n  \t    ^^^\n"
                            "m.bp:1:1: note: see here\n  first\n  ^^^^^\n"
                            "m.bp:3:4: warning: odd\n  last\n     ^\n"
                            "bpc: error: nowhere\nbpc: error: plain 7\n");
    sources_end();
}

Test(diagnostics, stop_after_twenty, .init = redirect) {
    for (int i = 1; i <= 25; i++) {
        error_plain("e%d", i);
        note_at(SPAN_NONE, "n%d", i);
    }
    cr_assert_eq(error_count(), 25);
    Text wanted = {0};
    for (int i = 1; i <= 20; i++)
        text_printf(&wanted, "bpc: error: e%d\nbpc: note: n%d\n", i, i);
    text_add(&wanted, "bpc: error: more than 20 errors, the rest is not shown\n");
    fflush(stderr);
    cr_assert_stderr_eq_str(wanted.at);
    text_free(&wanted);
    diagnostics_reset();
    cr_assert_eq(error_count(), 0);
}

Test(diagnostics, cut_a_long_line, .init = redirect) {
    char line[1001];
    memset(line, 'a', 1000);
    line[1000] = '\0';
    int source = source_add("m.bp", line, 1000);
    error_at((Span){source, 500, 503}, "here");
    char wanted[600];
    snprintf(wanted, sizeof wanted, "m.bp:1:501: error: here\n  ...%.160s...\n     %80s^^^\n", line, "");
    fflush(stderr);
    cr_assert_stderr_eq_str(wanted);
    sources_end();
}

Test(diagnostics, a_broken_invariant_exits_with_70, .init = redirect, .exit_code = 70) {
    BUG("no %s", "way");
}

/* ---- Text -------------------------------------------------------------------------------------------------------- */

#define ASSERT_TEXT(text, wanted)                                                                                      \
    do {                                                                                                               \
        cr_assert_str_eq((text).at, (wanted));                                                                         \
        text_free(&(text));                                                                                            \
    } while (0)

static int plainly(char *at, size_t room, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = text_format(at, room, format, arguments);
    va_end(arguments);
    return length;
}

/* The same letters as printf's, whichever of the two does it. */
#define ASSERT_AS_PRINTF(plain, ...)                                                                                   \
    do {                                                                                                               \
        char wanted_[600], got_[600];                                                                                  \
        int length_ = snprintf(wanted_, sizeof wanted_, __VA_ARGS__);                                                  \
        cr_assert_eq(plainly(got_, sizeof got_, __VA_ARGS__), (plain) ? length_ : -1);                                 \
        cr_assert(!(plain) || !strcmp(got_, wanted_), "%s", wanted_);                                                  \
        Text text_ = {0};                                                                                              \
        text_add(&text_, "before ");                                                                                   \
        text_printf(&text_, __VA_ARGS__);                                                                              \
        cr_assert_str_eq(text_.at + 7, wanted_);                                                                       \
        cr_assert_eq(text_.length, strlen(wanted_) + 7);                                                               \
        text_free(&text_);                                                                                             \
        Arena *arena_ = arena_new();                                                                                   \
        cr_assert_str_eq(arena_printf(arena_, __VA_ARGS__), wanted_);                                                  \
        arena_free(arena_);                                                                                            \
    } while (0)

Test(text, formats_as_printf_does) {
    char long_piece[500];
    memset(long_piece, 'x', sizeof long_piece - 1);
    long_piece[sizeof long_piece - 1] = '\0';
    ASSERT_AS_PRINTF(true, "%s", "");
    ASSERT_AS_PRINTF(true, "nothing to fill in");
    ASSERT_AS_PRINTF(true, "%s%c%d%%%u|%s", "a", 'b', -7, 9u, "z");
    ASSERT_AS_PRINTF(true, "%d %d %d %u %u", 0, INT32_MIN, INT32_MAX, 0u, UINT32_MAX);
    ASSERT_AS_PRINTF(true, "%lld %lld %lld %llu", 0ll, (long long)INT64_MIN, (long long)INT64_MAX,
                     (unsigned long long)UINT64_MAX);
    ASSERT_AS_PRINTF(true, "<%s>", long_piece);
    ASSERT_AS_PRINTF(false, "%s %5d", "a", 3);
    ASSERT_AS_PRINTF(false, "%.3s %g", "abcdef", 0.1);
    ASSERT_AS_PRINTF(false, "%02lX %zu %x", 10l, sizeof(int), 255u);
    char at[8];
    cr_assert_eq(plainly(at, sizeof at, "%s", "1234567"), 7); /* and the NUL */
    cr_assert_eq(plainly(at, sizeof at, "%s", "12345678"), -1);
    cr_assert_eq(plainly(at, sizeof at, "%d", -1234567), -1);
    cr_assert_eq(plainly(at, 1, "%s", ""), 0);
}

Test(text, grows) {
    Text text = {0};
    for (int i = 0; i < 1000; i++) {
        text_printf(&text, "%d,", i % 10);
        text_add_bytes(&text, "ab", 1);
    }
    cr_assert_eq(text.length, 3000);
    cr_assert_eq(strlen(text.at), 3000);
    for (int i = 0; i < 1000; i++)
        cr_assert(text.at[3 * i] == '0' + i % 10 && text.at[3 * i + 2] == 'a');
    text_free(&text);
    cr_assert_null(text.at);
}

Test(text, numbers_are_short_and_exact) {
    const struct {
        double value;
        const char *wanted;
    } cases[] = {{0.1, "0.1"},
                 {1e-8, "1e-08"},
                 {3, "3"},
                 {100, "100"},
                 {-0.5, "-0.5"},
                 {0.0, "0"},
                 {-0.0, "-0"},
                 {1e300, "1e+300"},
                 {784, "784"},
                 {1e-3, "0.001"},
                 {NAN, "nan"},
                 {-INFINITY, "-inf"},
                 {1e14, "100000000000000"},
                 {0.30000000000000004, "0.30000000000000004"},
                 {5e-324, "5e-324"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Text text = {0};
        text_number(&text, cases[i].value);
        ASSERT_TEXT(text, cases[i].wanted);
    }
    uint64_t bits = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isnan(value))
            continue;
        Text text = {0};
        text_number(&text, value);
        cr_assert_eq(strtod(text.at, NULL), value, "%s", text.at);
        text_free(&text);
    }
}

Test(text, c_strings_hold_no_trap) {
    Text text = {0};
    text_c_string(&text, "a\"\\\n\t?\?=\x01"
                         "1\xC3\xA9");
    ASSERT_TEXT(text, "\"a\\\"\\\\\\n\\t?\\?=\\0011\\303\\251\"");
}

Test(text, c_comments_cannot_end_nor_continue) {
    const char *const traps[] = {"*/", "**//", "*\\", "a\\\nb", "/*", "?\?/\n", "\x1B[0m", "*\n/", "//*//*//"};
    for (size_t i = 0; i < sizeof traps / sizeof *traps; i++) {
        Text text = {0};
        text_add(&text, "*");
        text_c_comment(&text, traps[i]);
        cr_assert_null(strstr(text.at, "*/"), "%s", text.at);
        cr_assert_null(strstr(text.at, "/*"), "%s", text.at);
        cr_assert_null(strstr(text.at, "?\?"), "%s", text.at);
        cr_assert_null(strpbrk(text.at, "\\\n\x1B"), "%s", text.at);
        text_free(&text);
    }
    Text text = {0};
    text_c_comment(&text, "plain, text: \xC3\xA9 ? / *");
    ASSERT_TEXT(text, "plain, text: \xC3\xA9 ? / *");
}

Test(text, xml_has_entities) {
    Text text = {0};
    text_add_xml(&text, "a<b>&\"c\"'\x1B\xC3\xA9");
    ASSERT_TEXT(text, "a&lt;b&gt;&amp;&quot;c&quot;'?\xC3\xA9");
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */

static char directory[] = "/tmp/bpc-unit-XXXXXX";

static void make_directory(void) {
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(chdir(directory), 0);
}

static void remove_directory(void) {
    cr_assert_eq(chdir("/"), 0);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(files, .init = make_directory, .fini = remove_directory);

static void assert_holds(const char *path, const char *wanted, size_t wanted_length) {
    char why[200] = "";
    size_t length = 0;
    char *bytes = file_read_whole(path, &length, why, sizeof why);
    cr_assert_not_null(bytes, "%s", why);
    cr_assert_eq(length, wanted_length);
    cr_assert_arr_eq(bytes, wanted, wanted_length);
    cr_assert_eq(bytes[length], '\0');
    free(bytes);
}

Test(files, are_written_whole_and_read_whole) {
    char why[200] = "";
    cr_assert(file_write_whole("a.c", "old", 3, why, sizeof why), "%s", why);
    cr_assert(file_write_whole("a.c", "a\0b", 3, why, sizeof why), "%s", why);
    assert_holds("a.c", "a\0b", 3);
    cr_assert(file_write_whole("empty", "", 0, why, sizeof why), "%s", why);
    assert_holds("empty", "", 0);
    size_t size = 1000000;
    char *large = malloc(size);
    for (size_t i = 0; i < size; i++)
        large[i] = (char)(i * 31 % 251);
    cr_assert(file_write_whole("large", large, size, why, sizeof why), "%s", why);
    assert_holds("large", large, size);
    free(large);
}

Test(files, leave_nothing_behind_where_they_cannot_be_written) {
    char why[200] = "";
    cr_assert_not(file_write_whole("no/such/a.c", "x", 1, why, sizeof why));
    cr_assert_str_eq(why, "cannot write no/such/a.c: No such file or directory");
    cr_assert_eq(mkdir("folder", 0777), 0);
    cr_assert_not(file_write_whole("folder", "x", 1, why, sizeof why));
    cr_assert_str_eq(why, "cannot write folder: Is a directory");
    cr_assert_neq(rmdir("folder"), -1);
    cr_assert_eq(rmdir(directory), -1 + 1, "the directory is empty again");
    cr_assert_eq(mkdir(directory, 0777), 0);
}

Test(files, keep_links_and_modes) {
    char why[200] = "";
    cr_assert(file_write_whole("target", "old", 3, why, sizeof why), "%s", why);
    cr_assert_eq(chmod("target", 0640), 0);
    cr_assert_eq(symlink("target", "link"), 0);
    cr_assert(file_write_whole("link", "new", 3, why, sizeof why), "%s", why);
    assert_holds("target", "new", 3);
    struct stat info;
    cr_assert_eq(lstat("link", &info), 0);
    cr_assert(S_ISLNK(info.st_mode));
    cr_assert_eq(stat("target", &info), 0);
    cr_assert_eq(info.st_mode & 0777, 0640);
    cr_assert(file_write_whole("/dev/null", "x", 1, why, sizeof why), "%s", why);
}

Test(files, say_why_they_cannot_be_read) {
    char why[200] = "";
    size_t length;
    cr_assert_null(file_read_whole("missing.bp", &length, why, sizeof why));
    cr_assert_str_eq(why, "cannot read missing.bp: No such file or directory");
    cr_assert_null(file_read_whole(".", &length, why, sizeof why));
    cr_assert_str_eq(why, "cannot read .: Is a directory");
}
