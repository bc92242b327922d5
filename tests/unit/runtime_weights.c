/* What the program half of the runtime stands on: files of weights, JSON, barriers. */
#define _GNU_SOURCE
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char weights_directory[64];

static void weights_setup(void) {
    strcpy(weights_directory, "/tmp/bpc-weights-XXXXXX");
    cr_assert(mkdtemp(weights_directory) && chdir(weights_directory) == 0);
}

static void weights_teardown(void) {
    cr_assert(remove("w") == 0 || access("w", F_OK) != 0);
    cr_assert(chdir("/") == 0 && rmdir(weights_directory) == 0);
}

TestSuite(weights, .init = weights_setup, .fini = weights_teardown);

#define expect_in(text, part) cr_assert(strstr(text, part), "'%s' is not in:\n%s", part, text)

static void write_file(const char *path, const void *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    cr_assert(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
}

/* ---- Files of weights -------------------------------------------------------------------------------------------- */
static void write_archive(const char *header, size_t data_bytes) {
    unsigned char bytes[1024] = {(unsigned char)strlen(header)};
    bytes[1] = (unsigned char)(strlen(header) >> 8);
    memcpy(bytes + 8, header, strlen(header));
    write_file("w", bytes, 8 + strlen(header) + data_bytes);
}

#define TENSOR(name, dtype, shape, offsets)                                                                            \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* PyTorch counts the batches of a batch normalisation in an integer, and no other tensor so. */
Test(weights, counters_are_integers) {
    const float batches = 12345, weight = 2.5F;
    const struct bp_archive_tensor tensors[2] = {{"bn.num_batches_tracked", 0, {0}, &batches, BP_ROWS, NULL},
                                                 {"bn.weight", 1, {1}, &weight, BP_ROWS, NULL}};
    struct bp_archive archive;
    struct bp_error error;
    float read = 0;
    cr_assert(bp_archive_write("w", tensors, 2, NULL, NULL, 0, &error), "%s", error.text);
    cr_assert(bp_archive_open(&archive, "w", &error), "%s", error.text);
    const struct bp_archive_entry *counter = bp_archive_find(&archive, "bn.num_batches_tracked");
    cr_assert_str_eq(counter->dtype, "I64");
    cr_assert(counter->rank == 0 && counter->end - counter->begin == 8);
    cr_assert(bp_archive_read(&archive, counter, &read, 1, &error) && read == 12345);
    cr_assert(bp_archive_read(&archive, bp_archive_find(&archive, "bn.weight"), &read, 1, &error) && read == 2.5F);
    bp_archive_close(&archive);
    static const struct {
        const char *header;
        int taken;
    } others[] = {{"{" TENSOR("bn.num_batches_tracked", "F32", "[]", "[0,4]") "}    ", 1},
                  {"{" TENSOR("bn.num_batches_tracked", "I64", "[1]", "[0,8]") "}", 0},
                  {"{" TENSOR("bn.num_batches_tracked", "I32", "[]", "[0,4]") "}", 0},
                  {"{" TENSOR("num_batches_tracked", "I64", "[]", "[0,8]") "}", 0},
                  {"{" TENSOR("bn.weight", "I64", "[]", "[0,8]") "}", 0}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        write_archive(others[i].header, strstr(others[i].header, ",4]") ? 4 : 8);
        cr_assert(bp_archive_open(&archive, "w", &error), "%s", error.text);
        cr_expect_eq(bp_archive_read(&archive, &archive.entries[0], &read, 1, &error), others[i].taken, "%s",
                     others[i].header);
        bp_archive_close(&archive);
    }
}

Test(weights, damaged_files_of_weights_are_refused) {
    static const struct {
        const char *header;
        size_t bytes;
        const char *message; /* NULL: it is good */
    } cases[] = {
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F64", "[]", "[8,16]") "}   ", 16, NULL},
        {"{\"__metadata__\":{\"k\":\"v\"}," TENSOR("z", "BF16", "[0,3]", "[0,0]") "}", 0, NULL},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "}", 4, "truncated"},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "}", 12, "the last 4 bytes belong to no tensor"},
        {"{" TENSOR("a", "F32", "[2]", "[4,12]") "}", 12, "4 bytes before the data of 'a' belong to no tensor"},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[2]", "[4,12]") "}", 12, "'a' and 'b' overlap"},
        {"{" TENSOR("a", "F32", "[3]", "[0,8]") "}", 8, "'a' has 8 bytes, its shape and dtype need 12"},
        {"{" TENSOR("a", "F32", "[2]", "[8,0]") "}", 8, "ends before it begins"},
        {"{" TENSOR("a", "F32", "[2]", "[-8,0]") "}", 8, "no data_offsets"},
        {"{" TENSOR("a", "F31", "[2]", "[0,8]") "}", 8, "unknown dtype 'F31'"},
        {"{" TENSOR("a", "F32", "[1.5]", "[0,8]") "}", 8, "not of whole numbers"},
        {"{" TENSOR("a", "F32", "[9223372036854775807,9223372036854775807]", "[0,8]") "}", 8, "too large"},
        {"{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("a", "F32", "[2]", "[0,8]") "}", 8, "'a' is there twice"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "'a' has no dtype"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ 'k' is not a string"},
        {"[1]", 0, "not a JSON object"},
        {"{\"a\":", 0, "the header is damaged"},
    };
    struct bp_archive archive;
    struct bp_error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_archive(cases[i].header, cases[i].bytes);
        int ok = bp_archive_open(&archive, "w", &error);
        cr_assert_eq(ok, cases[i].message == NULL, "%s: %s", cases[i].header, ok ? "taken" : error.text);
        if (ok)
            bp_archive_close(&archive);
        else
            expect_in(error.text, cases[i].message);
    }
    write_file("w", "\377\377\377\377\377\377\377\377{}", 10);
    cr_assert(!bp_archive_open(&archive, "w", &error));
    expect_in(error.text, "its header would be 18446744073709551615 bytes, the file has 10");
    write_file("w", "abc", 3);
    cr_assert(!bp_archive_open(&archive, "w", &error));
    expect_in(error.text, "shorter than 8 bytes");
}

Test(weights, doubles_are_read_as_floats) {
    static const double values[2] = {0.1, -3e50};
    struct bp_archive archive;
    struct bp_error error;
    const char *header = "{" TENSOR("a", "F64", "[2]", "[0,16]") "}";
    unsigned char bytes[256] = {(unsigned char)strlen(header)};
    float got[2];
    memcpy(bytes + 8, header, strlen(header));
    memcpy(bytes + 8 + strlen(header), values, 16);
    write_file("w", bytes, 24 + strlen(header));
    cr_assert(bp_archive_open(&archive, "w", &error), "%s", error.text);
    cr_assert(!bp_archive_read(&archive, &archive.entries[0], got, 3, &error));
    expect_in(error.text, "has 2 elements, 3 are needed");
    cr_assert(bp_archive_read(&archive, &archive.entries[0], got, 2, &error) && got[0] == 0.1f && got[1] == -INFINITY);
    bp_archive_close(&archive);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */
Test(weights, json_is_read_strictly) {
    static const char *const good[] = {
        "0", "-0.5e+3", "[]", "{}", " [1, {\"a\": null}] ", "\"\\u00e9\\ud83d\\ude00\\n\"", "true"};
    static const char *const bad[] = {"",
                                      "01",
                                      "1.",
                                      ".5",
                                      "+1",
                                      "1e",
                                      "[1,]",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "\"\\x\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"a",
                                      "\"\t\"",
                                      "nul",
                                      "1 2",
                                      "NaN",
                                      "{\"a\":1,\"b\":2,\"a\":3}",
                                      "\"\\u0000\"",
                                      "[1}",
                                      "-"};
    struct bp_json json;
    struct bp_error error;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cr_assert(bp_json_parse(&json, good[i], strlen(good[i]), &error), "%s: %s", good[i], error.text);
        if (json.kind == BP_JSON_STRING)
            cr_assert_str_eq(json.string, "\xc3\xa9\xf0\x9f\x98\x80\n");
        bp_json_free(&json);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert(!bp_json_parse(&json, bad[i], strlen(bad[i]), &error), "%s was taken", bad[i]);
        bp_json_free(&json);
    }
    char deep[200];
    for (int depth = 64; depth <= 65; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        cr_assert_eq(bp_json_parse(&json, deep, (size_t)depth * 2, &error), depth == 64);
        bp_json_free(&json);
    }
    cr_assert(bp_json_parse(&json, "[9223372036854775807,9223372036854775808,1e2]", 45, &error));
    cr_assert(json.items[0].is_integer && json.items[0].integer == INT64_MAX);
    cr_assert(!json.items[1].is_integer && !json.items[2].is_integer && json.items[2].number == 100);
    bp_json_free(&json);
}

/* ---- Barriers ---------------------------------------------------------------------------------------------------- */
enum { ROUNDS = 500, MOST = 8 };

struct turns {
    int32_t seen[MOST][64]; /* a cache line apart */
    int32_t wrong, threads;
};

/* In every round each thread writes its number of rounds and, after the barrier, finds that all others have. */
static void take_turns(void *argument, int32_t thread, int32_t threads, struct bp_team *team) {
    struct turns *turns = argument;
    if (thread == 0)
        turns->threads = threads;
    for (int32_t round = 1; round <= ROUNDS; round++) {
        turns->seen[thread][0] = round;
        bp_barrier(team, thread);
        for (int32_t other = 0; other < threads; other++)
            if (turns->seen[other][0] != round)
                __atomic_add_fetch(&turns->wrong, 1, __ATOMIC_RELAXED);
        bp_barrier(team, thread);
    }
}

Test(weights, a_barrier_holds_everyone) {
    for (int32_t threads = 1; threads <= MOST; threads++) {
        struct turns turns = {0};
        bp_parallel(threads, take_turns, &turns);
        cr_assert_eq(turns.wrong, 0, "%d threads", (int)threads);
#ifdef _OPENMP
        cr_assert_eq(turns.threads, threads);
#else
        cr_assert_eq(turns.threads, 1);
#endif
    }
}
