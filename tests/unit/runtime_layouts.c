/* Tensors and feeds in panels: where each element lies is said here once more, from program.h, and a program whose
   tensors and feeds are panels must leave the files, the messages and the predictions of its twin in rows, to the byte.
 */
#define _GNU_SOURCE
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(list)           (sizeof(list) / sizeof *(list))
#define expect_in(text, part) cr_assert(strstr(text, part), "'%s' is not in:\n%s", part, text)

enum { PANEL = 16, GUARD = 64 };

static int64_t place(enum bp_layout layout, int64_t width, int64_t i, int64_t j) {
    return layout == BP_ROWS ? i * width + j : (i / PANEL * width + j) * PANEL + i % PANEL;
}

static int64_t padded(int64_t n) {
    return n % PANEL == 0 ? n : n + PANEL - n % PANEL;
}

static struct bp_tensor tensor_of(enum bp_layout layout, int32_t rank, int64_t n, int64_t k) {
    struct bp_tensor tensor = {.name = "t", .rank = rank, .shape = {n, k}, .layout = layout};
    return tensor;
}

/* Every float is another, none is 0. */
static float *numbers(int64_t count) {
    float *values = malloc(((size_t)count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(i + 1);
    return values;
}

/* So many floats, not one of them a number. */
static float *poisoned(int64_t count) {
    float *values = malloc((size_t)(count + GUARD) * sizeof *values);
    for (int64_t i = 0; i < count + GUARD; i++)
        values[i] = NAN;
    return values;
}

/* Each element where it belongs, zeros in the padding, nothing beyond. */
static void expect_stored(const struct bp_tensor *tensor, const float *stored, const float *values) {
    int64_t n = tensor->shape[0], k = tensor->rank == 2 ? tensor->shape[1] : 1;
    int64_t rows = tensor->layout == BP_ROWS ? n : padded(n);
    cr_assert_eq(bp_tensor_stored(tensor), rows * k);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < k; j++) {
            float want = i < n ? values[i * k + j] : 0, got = stored[place(tensor->layout, k, i, j)];
            cr_assert(memcmp(&want, &got, sizeof got) == 0, "[%d][%d]: (%d, %d) is %g, not %g", (int)n, (int)k, (int)i,
                      (int)j, (double)got, (double)want);
        }
    for (int64_t i = 0; i < GUARD; i++)
        cr_assert(isnan(stored[rows * k + i]), "[%d][%d]: written beyond its end", (int)n, (int)k);
}

static const int64_t firsts[] = {1, 15, 16, 17, 31, 32, 33}, seconds[] = {1, 5, 16, 17};
static const enum bp_layout layouts[] = {BP_ROWS, BP_PANELS};

/* Calls `check` with a tensor of every size, rank 1 where the second is 0, in each layout. */
static void every_tensor(void (*check)(const struct bp_tensor *tensor)) {
    for (size_t l = 0; l < COUNT(layouts); l++)
        for (size_t i = 0; i < COUNT(firsts); i++) {
            struct bp_tensor vector = tensor_of(layouts[l], 1, firsts[i], 0);
            check(&vector);
            for (size_t j = 0; j < COUNT(seconds); j++) {
                struct bp_tensor matrix = tensor_of(layouts[l], 2, firsts[i], seconds[j]);
                check(&matrix);
            }
        }
}

/* ---- Elements ---------------------------------------------------------------------------------------------------- */
static void put_and_get(const struct bp_tensor *tensor) {
    static const int64_t pieces[] = {1, 7, 16, 23, 1000};
    int64_t count = bp_tensor_count(tensor);
    float *values = numbers(count), *back = poisoned(count);
    for (size_t p = 0; p < COUNT(pieces); p++) {
        float *stored = poisoned(bp_tensor_stored(tensor));
        for (int64_t first = 0, taken; first < count; first += taken) {
            taken = pieces[p] < count - first ? pieces[p] : count - first;
            bp_tensor_put(tensor, stored, first, taken, values + first);
        }
        expect_stored(tensor, stored, values);
        for (int64_t first = 0, taken; first < count; first += taken) {
            taken = pieces[p] < count - first ? pieces[p] : count - first;
            memset(back, 0, (size_t)count * sizeof *back);
            bp_tensor_get(tensor, stored, first, taken, back);
            cr_assert(memcmp(back, values + first, (size_t)taken * sizeof *back) == 0);
        }
        free(stored);
    }
    free(values);
    free(back);
}

Test(layouts, elements_lie_where_program_h_says) {
    every_tensor(put_and_get);
    struct bp_tensor number = tensor_of(BP_ROWS, 0, 0, 0), box = {.rank = 3, .shape = {2, 3, 5}};
    cr_assert_eq(bp_tensor_stored(&number), 1);
    cr_assert_eq(bp_tensor_stored(&box), 30);
}

/* The first in row-major order, not in memory's. */
static void find_what_is_not_finite(const struct bp_tensor *tensor) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    int64_t count = bp_tensor_count(tensor), width = tensor->rank == 2 ? tensor->shape[1] : 1;
    float *values = numbers(count), *stored = poisoned(bp_tensor_stored(tensor));
    bp_tensor_put(tensor, stored, 0, count, values);
    cr_assert_eq(bp_tensor_finite_prefix(tensor, stored), count);
    for (int64_t at = 0; at < count; at++) {
        float *first = &stored[place(tensor->layout, width, at / width, at % width)];
        float *last = &stored[place(tensor->layout, width, (count - 1) / width, (count - 1) % width)];
        *first = *last = bad[at % 3];
        cr_assert_eq(bp_tensor_finite_prefix(tensor, stored), at, "element %d", (int)at);
        *first = *last = 1;
    }
    free(values);
    free(stored);
}

Test(layouts, the_first_that_is_not_finite_is_first_in_row_major_order) {
    every_tensor(find_what_is_not_finite);
    struct bp_tensor tensor = tensor_of(BP_PANELS, 2, 17, 1000); /* more than a piece: 16,900 comes before 16,999 */
    float *values = numbers(17000), *stored = poisoned(32000);
    bp_tensor_put(&tensor, stored, 0, 17000, values);
    stored[place(BP_PANELS, 1000, 16, 999)] = NAN;
    stored[place(BP_PANELS, 1000, 16, 900)] = NAN;
    cr_assert_eq(bp_tensor_finite_prefix(&tensor, stored), 16900);
    stored[place(BP_PANELS, 1000, 1, 0)] = NAN;
    stored[place(BP_PANELS, 1000, 0, 999)] = NAN;
    cr_assert_eq(bp_tensor_finite_prefix(&tensor, stored), 999);
    free(values);
    free(stored);
}

/* ---- Files ------------------------------------------------------------------------------------------------------- */
static char directory[64];

static void files_setup(void) {
    strcpy(directory, "/tmp/bpc-layouts-XXXXXX");
    cr_assert(mkdtemp(directory) && chdir(directory) == 0);
}

static void files_teardown(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert(chdir("/") == 0 && system(command) == 0);
}

TestSuite(layout_files, .init = files_setup, .fini = files_teardown);

static void expect_same_file(const char *a, const char *b) {
    char command[256];
    snprintf(command, sizeof command, "cmp %s %s", a, b);
    cr_assert(system(command) == 0, "%s and %s differ", a, b);
}

static void write_tensor(const char *path, const struct bp_tensor *tensor, const float *stored) {
    struct bp_archive_tensor out = {"t",    tensor->rank,   {tensor->shape[0], tensor->shape[1]},
                                    stored, tensor->layout, NULL};
    struct bp_error error;
    cr_assert(bp_archive_write(path, &out, 1, NULL, NULL, 0, &error), "%s", error.text);
}

/* The data of a file is its last bytes: row-major floats. */
static void expect_data(const char *path, const float *values, int64_t count) {
    struct bp_error error;
    size_t length, bytes = (size_t)count * sizeof *values;
    char *text = bp_read_file(path, &length, &error);
    cr_assert(text && length > bytes && memcmp(text + length - bytes, values, bytes) == 0);
    free(text);
}

static void through_a_file(const struct bp_tensor *tensor) {
    struct bp_archive archive;
    struct bp_error error;
    int64_t count = bp_tensor_count(tensor);
    float *values = numbers(count), *stored = poisoned(bp_tensor_stored(tensor)),
          *back = poisoned(bp_tensor_stored(tensor));
    struct bp_tensor rows = tensor_of(BP_ROWS, tensor->rank, tensor->shape[0], tensor->shape[1]);
    bp_tensor_put(tensor, stored, 0, count, values);
    write_tensor("stored", tensor, stored);
    write_tensor("rows", &rows, values);
    expect_same_file("stored", "rows");
    expect_data("stored", values, count);
    cr_assert(bp_archive_open(&archive, "rows", &error), "%s", error.text);
    cr_assert(bp_archive_read_tensor(&archive, &archive.entries[0], tensor, back, &error), "%s", error.text);
    expect_stored(tensor, back, values);
    struct bp_tensor more = tensor_of(tensor->layout, 1, count + 1, 0);
    cr_assert(!bp_archive_read_tensor(&archive, &archive.entries[0], &more, back, &error));
    expect_in(error.text, "are needed");
    bp_archive_close(&archive);
    free(values);
    free(stored);
    free(back);
}

Test(layout_files, files_are_row_major) {
    every_tensor(through_a_file);
    struct bp_tensor large = tensor_of(BP_PANELS, 2, 35, 1001), wide = tensor_of(BP_PANELS, 2, 3, 40001);
    through_a_file(&large);
    through_a_file(&wide);
}

Test(layout_files, doubles_become_panels) {
    static const char header[] = "{\"t\":{\"dtype\":\"F64\",\"shape\":[17,3],\"data_offsets\":[0,408]}}";
    struct bp_tensor tensor = tensor_of(BP_PANELS, 2, 17, 3);
    float *values = numbers(51), *stored = poisoned(96);
    unsigned char length[8] = {sizeof header - 1};
    double doubles[51];
    struct bp_archive archive;
    struct bp_error error;
    for (int i = 0; i < 51; i++)
        doubles[i] = (double)values[i];
    FILE *file = fopen("w", "wb");
    cr_assert(file && fwrite(length, 1, 8, file) == 8 &&
              fwrite(header, 1, sizeof header - 1, file) == sizeof header - 1);
    cr_assert(fwrite(doubles, sizeof *doubles, 51, file) == 51 && fclose(file) == 0);
    cr_assert(bp_archive_open(&archive, "w", &error), "%s", error.text);
    cr_assert(bp_archive_read_tensor(&archive, &archive.entries[0], &tensor, stored, &error), "%s", error.text);
    expect_stored(&tensor, stored, values);
    bp_archive_close(&archive);
    free(values);
    free(stored);
}

/* ---- Feeds ------------------------------------------------------------------------------------------------------- */
enum { FEED_ROWS = 23, FEED_CAPACITY = 11, FEED_AT = 256, FEED_FLOATS = 48 * FEED_CAPACITY };

static struct {
    struct bp_sweep sweep;
    struct bp_feed feed;
    int64_t width, seen;
    int wrong;
} fed;

/* Looks at the batch, then leaves no number in the memory of its feed: another buffer may be there between calls. */
static void look(const struct bp_context *context, int32_t thread, int32_t threads) {
    float *feed = (float *)(void *)(context->memory + FEED_AT);
    const float *table = fed.sweep.table->slots[0];
    (void)threads;
    if (thread != 0)
        return;
    for (int64_t b = 0; b < context->rows; b++)
        for (int64_t i = 0; i < (fed.feed.layout == BP_ROWS ? fed.width : padded(fed.width)); i++) {
            int64_t at = fed.feed.partner ? (b + 1) % context->rows : b;
            int64_t row = fed.sweep.order[context->position + at];
            float want = i < fed.width ? table[row * fed.width + i] : 0;
            float *got = fed.feed.layout == BP_ROWS ? &feed[b * fed.width + i]
                                                    : &feed[(i / PANEL * fed.feed.stride + b) * PANEL + i % PANEL];
            fed.wrong += memcmp(got, &want, sizeof want) != 0;
            *got = NAN;
        }
    for (int64_t i = 0; i < FEED_FLOATS; i++) /* nothing beyond the batch's rows was written */
        fed.wrong += !isnan(feed[i]);
    fed.seen += context->rows;
}

/* stride 0: in rows */
static void feed_width(int64_t width, int64_t stride, int32_t threads, int shuffled, int partner) {
    float *values = numbers(FEED_ROWS * width);
    void *slots[1] = {values};
    int64_t order[FEED_ROWS];
    struct bp_slot slot = {"x", BP_F32, BP_SLOT_COLUMNS, (int32_t)width, NULL, (int32_t)width, 0};
    struct bp_data data = {.name = "d", .slots = &slot, .slot_count = 1};
    struct bp_table table = {.data = &data, .rows = FEED_ROWS, .slots = slots};
    struct bp_function function = {"look", look, 1, FEED_CAPACITY, &fed.feed, 1, NULL, NULL, 0};
    struct bp_instance instance = {.threads = threads};
    float *memory = poisoned(FEED_AT / 4 + FEED_FLOATS);
    memset(memory, 0, FEED_AT);
    for (int64_t i = 0; i < FEED_ROWS; i++)
        order[i] = shuffled ? i * 7 % FEED_ROWS : i;
    memset(&fed, 0, sizeof fed);
    fed.width = width;
    fed.feed = (struct bp_feed){0, BP_F32, FEED_AT, stride ? BP_PANELS : BP_ROWS, stride, 0, partner};
    fed.sweep = (struct bp_sweep){.instance = &instance,
                                  .function = &function,
                                  .memory = (char *)memory,
                                  .table = &table,
                                  .order = order,
                                  .ascending_by_one = !shuffled,
                                  .rows = FEED_ROWS,
                                  .batch = partner ? 11 : 9, /* 9, 9 and 5 rows; 11, 11 and one, its own partner */
                                  .last = 3};
    bp_sweep_run(&fed.sweep);
    cr_assert(fed.sweep.end == BP_SWEEP_DONE && fed.seen == FEED_ROWS);
    cr_assert_eq(fed.wrong, 0, "width %d, stride %d, %d threads: %d wrong", (int)width, (int)stride, (int)threads,
                 fed.wrong);
    free(memory);
    free(values);
}

Test(layouts, feeds_are_written_for_every_batch) {
    for (int64_t width = 1; width <= 48; width++)
        for (int32_t threads = 1; threads <= 3; threads++)
            for (int shuffled = 0; shuffled <= 1; shuffled++) {
                feed_width(width, FEED_CAPACITY, threads, shuffled, 0);
                feed_width(width, 9, threads, shuffled, 0);
                feed_width(width, 0, threads, shuffled, 0);
                feed_width(width, FEED_CAPACITY, threads, shuffled, 1);
                feed_width(width, 0, threads, shuffled, 1);
            }
}

/* ---- A whole program: y = W x + b, by gradient descent with momentum --------------------------------------------- */
/* x is [5] (a panel and its padding), y and b are [17] (a panel and one more), W is [17][5]. */
enum { IN = 5, OUT = 17, CAPACITY = 8, ROWS = 20 };
enum {
    AT_W = 128, /* 32 * 5 floats are 640 bytes */
    AT_B = 768,
    AT_VW = 896,
    AT_VB = 1536,
    AT_X = 1664, /* 8 rows of 1 panel: 512 bytes */
    AT_Y = 2176, /* 8 rows of 2 panels */
    AT_E = 3200, /* rows */
    AT_SUMS = 3776,
    AT_TOTALS = 3840,
    AT_METRICS = 3904,
    AT_P = 3968, /* rows */
    BYTES = 4608
};
enum {
    CHECK_W = 128,
    CHECK_B = 832,
    CHECK_GW = 1024,
    CHECK_GB = 1728,
    CHECK_X = 1920,
    CHECK_Y = 2304,
    CHECK_LOSS = 3456
};
enum { CHECK_BYTES = 3520 };

static enum bp_layout tensor_layout, feed_layout;
static int64_t break_at, break_row; /* the step whose update makes W[0][4] nan and W[break_row][0] infinite */
static int padding_written;         /* padding that was not 0 when a function was called */

static float *floats(const struct bp_context *context, int at) {
    return (float *)(void *)(context->memory + at);
}

static double *doubles(const struct bp_context *context, int at) {
    return (double *)(void *)(context->memory + at);
}

static float *weight(const struct bp_context *context, int at, int64_t o, int64_t i) {
    return &floats(context, at)[place(tensor_layout, IN, o, i)];
}

static float *fed_number(const struct bp_context *context, int at, int64_t width, int64_t row, int64_t i) {
    int64_t panels = (i / PANEL * CAPACITY + row) * PANEL + i % PANEL;
    return &floats(context, at)[feed_layout == BP_ROWS ? row * width + i : panels];
}

static void look_at_padding(const struct bp_context *context, int with_target) {
    for (int64_t row = 0; feed_layout == BP_PANELS && row < context->rows; row++) {
        for (int64_t i = IN; i < padded(IN); i++)
            padding_written += *fed_number(context, AT_X, IN, row, i) != 0;
        for (int64_t i = OUT; with_target && i < padded(OUT); i++)
            padding_written += *fed_number(context, AT_Y, OUT, row, i) != 0;
    }
    for (int64_t o = OUT; tensor_layout == BP_PANELS && o < padded(OUT); o++) {
        padding_written += floats(context, AT_B)[o] != 0 || floats(context, AT_VB)[o] != 0;
        for (int64_t i = 0; i < IN; i++)
            padding_written += *weight(context, AT_W, o, i) != 0 || *weight(context, AT_VW, o, i) != 0;
    }
}

static void plane_init(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    for (int64_t o = 0; o < OUT; o++) {
        for (int64_t i = 0; i < IN; i++)
            *weight(context, AT_W, o, i) = 0.1f * (float)(o - 3 * i) + (float)context->seed;
        floats(context, AT_B)[o] = 0;
    }
}

static void plane_start(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    memset(floats(context, AT_VW), 0, AT_X - AT_VW);
}

static void plane_forward(const struct bp_context *context, int with_target) {
    look_at_padding(context, with_target);
    for (int64_t row = 0; row < context->rows; row++)
        for (int64_t o = 0; o < OUT; o++) {
            float sum = floats(context, AT_B)[o];
            for (int64_t i = 0; i < IN; i++)
                sum += *weight(context, AT_W, o, i) * *fed_number(context, AT_X, IN, row, i);
            floats(context, AT_P)[row * OUT + o] = sum;
            if (with_target)
                floats(context, AT_E)[row * OUT + o] = sum - *fed_number(context, AT_Y, OUT, row, o);
        }
}

static void plane_sums(const struct bp_context *context) {
    float *e = floats(context, AT_E), *sum = floats(context, AT_SUMS);
    *sum = 0;
    for (int64_t i = 0; i < context->rows * OUT; i++)
        *sum += e[i] * e[i];
}

/* What was fed is gone after the call. */
static void plane_forget(const struct bp_context *context) {
    for (int i = 0; i < (AT_E - AT_X) / 4; i++)
        floats(context, AT_X)[i] = NAN;
}

static void plane_descend(float *value, float *momentum, float gradient) {
    *momentum = 0.5f * *momentum + gradient;
    *value -= 0.002f * *momentum;
}

static void plane_update(const struct bp_context *context) {
    for (int64_t o = 0; o < OUT; o++) {
        float bias = 0, g[IN] = {0};
        for (int64_t row = 0; row < context->rows; row++) {
            bias += floats(context, AT_E)[row * OUT + o];
            for (int64_t i = 0; i < IN; i++)
                g[i] += floats(context, AT_E)[row * OUT + o] * *fed_number(context, AT_X, IN, row, i);
        }
        for (int64_t i = 0; i < IN; i++)
            plane_descend(weight(context, AT_W, o, i), weight(context, AT_VW, o, i), g[i]);
        plane_descend(&floats(context, AT_B)[o], &floats(context, AT_VB)[o], bias);
    }
    if ((int64_t)context->step == break_at) {
        *weight(context, AT_W, 0, 4) = NAN;
        *weight(context, AT_W, break_row, 0) = -INFINITY;
    }
}

static void plane_step(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)threads;
    if (thread != 0)
        return;
    plane_forward(context, 1);
    plane_sums(context);
    if (isfinite(*floats(context, AT_SUMS)))
        plane_update(context);
    plane_forget(context);
}

static void plane_measure(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)threads;
    if (thread != 0)
        return;
    plane_forward(context, 1);
    plane_sums(context);
    plane_forget(context);
}

static void plane_finish(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    *doubles(context, AT_METRICS) = *doubles(context, AT_TOTALS) / doubles(context, 0)[BP_SCALAR_ROWS];
}

static void plane_predict(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)threads;
    if (thread != 0)
        return;
    plane_forward(context, 0);
    plane_forget(context);
}

/* Half the squares' mean: its gradient in W[o][i] is the mean of e[o] x[i]. */
static double plane_check_error(const struct bp_context *context, int64_t row, int64_t o) {
    double e = doubles(context, CHECK_B)[o] - doubles(context, CHECK_Y)[row * OUT + o];
    for (int64_t i = 0; i < IN; i++)
        e += doubles(context, CHECK_W)[o * IN + i] * doubles(context, CHECK_X)[row * IN + i];
    return e;
}

static void plane_check_loss(const struct bp_context *context, int32_t thread, int32_t threads) {
    double sum = 0;
    (void)thread, (void)threads;
    for (int64_t row = 0; row < context->rows; row++)
        for (int64_t o = 0; o < OUT; o++)
            sum += plane_check_error(context, row, o) * plane_check_error(context, row, o) / 2;
    *doubles(context, CHECK_LOSS) = sum / (double)context->rows;
}

static void plane_check_gradient(const struct bp_context *context, int32_t thread, int32_t threads) {
    (void)thread, (void)threads;
    memset(doubles(context, CHECK_GW), 0, CHECK_X - CHECK_GW);
    for (int64_t row = 0; row < context->rows; row++)
        for (int64_t o = 0; o < OUT; o++) {
            double e = plane_check_error(context, row, o) / (double)context->rows;
            doubles(context, CHECK_GB)[o] += e;
            for (int64_t i = 0; i < IN; i++)
                doubles(context, CHECK_GW)[o * IN + i] += e * doubles(context, CHECK_X)[row * IN + i];
        }
}

static struct {
    char names[IN + OUT][16];
    struct bp_column columns[IN + OUT];
    int32_t inputs[IN], targets[OUT];
    struct bp_slot slots[2];
    struct bp_file file;
    struct bp_data data;
    struct bp_tensor tensors[4];
    struct bp_feed feeds[2], check_feeds[2];
    struct bp_output output;
    struct bp_metric metric;
    struct bp_pass training, validation;
    struct bp_model model;
    struct bp_train train;
    struct bp_check check;
    struct bp_save save;
    struct bp_statement statements[2];
    struct bp_program program;
} plane;

static void plane_data(void) {
    FILE *file = fopen("plane.csv", "w");
    cr_assert(file);
    for (int c = 0; c < IN + OUT; c++) {
        int32_t *index = c < IN ? &plane.inputs[c] : &plane.targets[c - IN];
        *index = c;
        snprintf(plane.names[c], sizeof plane.names[c], "%c%d", c < IN ? 'x' : 'y', c < IN ? c : c - IN);
        plane.columns[c] = (struct bp_column){.name = plane.names[c], .position = -1};
        fprintf(file, "%s%s", c ? "," : "", plane.names[c]);
    }
    for (int row = 0; row < ROWS; row++)
        for (int c = 0; c < IN + OUT; c++)
            fprintf(file, "%s%d", c ? "," : "\n", (row * (c + 3) + c * c) % 7 - 3);
    fprintf(file, "\n");
    fclose(file);
    plane.slots[0] = (struct bp_slot){"x", BP_F32, BP_SLOT_COLUMNS, IN, plane.inputs, IN, 0};
    plane.slots[1] = (struct bp_slot){"y", BP_F32, BP_SLOT_COLUMNS, OUT, plane.targets, OUT, 1};
    plane.file = (struct bp_file){"plane.csv", NULL, BP_ALL, 1, 0, 0, NULL};
    plane.data = (struct bp_data){.name = "points",
                                  .files = &plane.file,
                                  .file_count = 1,
                                  .columns = plane.columns,
                                  .column_count = IN + OUT,
                                  .slots = plane.slots,
                                  .slot_count = 2,
                                  .train = 0.65,
                                  .validation = 0.35,
                                  .stratify = -1};
}

static void plane_layouts(enum bp_layout tensors, enum bp_layout feeds) {
    tensor_layout = tensors;
    feed_layout = feeds;
    for (int i = 0; i < 4; i++)
        plane.tensors[i].layout = tensors;
    for (int i = 0; i < 2; i++) {
        plane.feeds[i].layout = feeds;
        plane.feeds[i].stride = feeds == BP_PANELS ? CAPACITY : 0;
    }
}

static void plane_setup(void) {
    static const int32_t models[1] = {0}, parameters[2] = {0, 1};
    static const uint64_t check_parameters[2] = {CHECK_W, CHECK_B}, check_gradients[2] = {CHECK_GW, CHECK_GB};
    files_setup();
    memset(&plane, 0, sizeof plane);
    break_at = -1;
    plane_data();
    plane.tensors[0] = (struct bp_tensor){.name = "w", .line = 9, .rank = 2, .shape = {OUT, IN}, .offset = AT_W};
    plane.tensors[1] = (struct bp_tensor){.name = "b", .line = 9, .rank = 1, .shape = {OUT}, .offset = AT_B};
    plane.tensors[2] = (struct bp_tensor){.name = "w:v", .rank = 2, .shape = {OUT, IN}, .offset = AT_VW};
    plane.tensors[3] = (struct bp_tensor){.name = "b:v", .rank = 1, .shape = {OUT}, .offset = AT_VB};
    for (int i = 0; i < 2; i++) {
        plane.feeds[i] = (struct bp_feed){.slot = i, .type = BP_F32, .offset = i ? AT_Y : AT_X};
        plane.check_feeds[i] = (struct bp_feed){.slot = i, .type = BP_F64, .offset = i ? CHECK_Y : CHECK_X};
    }
    plane.output = (struct bp_output){"y", BP_OUTPUT_NUMBER, OUT, AT_P, NULL, NULL};
    plane.metric = (struct bp_metric){"loss", 1, 1, AT_METRICS, NULL, -1};
    struct bp_function finish = {"finish", plane_finish, 0, 1, NULL, 0, NULL, NULL, 0};
    plane.training = (struct bp_pass){
        {"step", plane_step, 1, CAPACITY, plane.feeds, 2, NULL, NULL, 0}, finish, AT_SUMS, AT_TOTALS, 1, NULL, 0};
    plane.validation = (struct bp_pass){
        {"measure", plane_measure, 1, CAPACITY, plane.feeds, 2, NULL, NULL, 0}, finish, AT_SUMS, AT_TOTALS, 1, NULL, 0};
    plane.model = (struct bp_model){.name = "Plane",
                                    .line = 8,
                                    .tensor_count = 2,
                                    .init = {"init", plane_init, 0, 1, NULL, 0},
                                    .predict = {"predict", plane_predict, 1, CAPACITY, plane.feeds, 1},
                                    .outputs = &plane.output,
                                    .output_count = 1};
    plane.train = (struct bp_train){.name = "Plane",
                                    .line = 12,
                                    .models = models,
                                    .model_count = 1,
                                    .first_state = 2,
                                    .state_count = 2,
                                    .trainable = parameters,
                                    .trainable_count = 2,
                                    .start = {"start", plane_start, 0, 1, NULL, 0},
                                    .training = {&plane.training, 1, &plane.metric, 1},
                                    .validation = {&plane.validation, 1, &plane.metric, 1},
                                    .loss_count = 1,
                                    .epochs = 6,
                                    .batch_size = 5,
                                    .shuffle = 1,
                                    .early_stopping = {.metric = -1},
                                    .checkpoint = "run.state",
                                    .flops_per_row = 1,
                                    .checks = &plane.check,
                                    .check_count = 1};
    plane.check =
        (struct bp_check){NULL,
                          {"loss", plane_check_loss, 0, CAPACITY, plane.check_feeds, 2, NULL, NULL, 0},
                          {"gradient", plane_check_gradient, 0, CAPACITY, plane.check_feeds, 2, NULL, NULL, 0},
                          CHECK_BYTES,
                          CHECK_LOSS,
                          parameters,
                          check_parameters,
                          check_gradients,
                          2};
    plane.save = (struct bp_save){21, "plane.safetensors", models, 1};
    plane.statements[0] = (struct bp_statement){BP_DO_TRAIN, 0};
    plane.statements[1] = (struct bp_statement){BP_DO_SAVE, 0};
    plane.program = (struct bp_program){.abi = BP_ABI,
                                        .name = "plane",
                                        .source = "plane.bp",
                                        .version = "0",
                                        .memory_bytes = BYTES,
                                        .tensors = plane.tensors,
                                        .tensor_count = 4,
                                        .models = &plane.model,
                                        .model_count = 1,
                                        .data = &plane.data,
                                        .data_count = 1,
                                        .trains = &plane.train,
                                        .train_count = 1,
                                        .saves = &plane.save,
                                        .save_count = 1,
                                        .statements = plane.statements,
                                        .statement_count = 2};
}

TestSuite(layout_programs, .init = plane_setup, .fini = files_teardown);

/* ---- Running it -------------------------------------------------------------------------------------------------- */
/* Standard output goes to the file `out`; errors come back, to be freed. */
static char *run(int code, const char *words, const char *out) {
    char *argv[32], copy[512], name[] = "plane";
    int argc = 1, before[2] = {dup(1), dup(2)};
    size_t length;
    struct bp_error error;
    snprintf(copy, sizeof copy, "%s", words);
    argv[0] = name;
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    fflush(stdout);
    cr_assert(freopen(out, "w", stdout) && freopen("stderr.txt", "w", stderr));
    padding_written = 0;
    int got = bp_main(&plane.program, argc, argv);
    fflush(stdout);
    fflush(stderr);
    dup2(before[0], 1);
    dup2(before[1], 2);
    close(before[0]);
    close(before[1]);
    char *errors = bp_read_file("stderr.txt", &length, &error);
    cr_assert(errors, "%s", error.text);
    cr_assert_eq(got, code, "%s: exit %d, not %d: %s", words, got, code, errors);
    cr_assert_eq(padding_written, 0, "%s: padding is not 0", words);
    return errors;
}

static void expect_run(const char *words, const char *out) {
    free(run(0, words, out));
}

/* Files of the run in rows bear `rows.` before their name. */
static void run_in_rows(const char *words, const char *out) {
    plane_layouts(BP_ROWS, BP_ROWS);
    expect_run(words, out);
    rename("plane.safetensors", "rows.safetensors");
    rename("run.state", "rows.state");
}

static const struct {
    enum bp_layout tensors, feeds;
} twins[3] = {{BP_PANELS, BP_ROWS}, {BP_ROWS, BP_PANELS}, {BP_PANELS, BP_PANELS}};

Test(layout_programs, weights_and_checkpoints_are_the_same_files) {
    run_in_rows("--quiet --seed 2", "out.txt");
    for (size_t i = 0; i < COUNT(twins); i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            plane_layouts(twins[i].tensors, twins[i].feeds);
            expect_run(threads == 1 ? "--quiet --seed 2" : "--quiet --seed 2 --threads 3", "out.txt");
            expect_same_file("plane.safetensors", "rows.safetensors");
            expect_same_file("run.state", "rows.state");
        }
    expect_run("--quiet --seed 3", "out.txt");
    cr_assert_neq(system("cmp -s plane.safetensors rows.safetensors"), 0, "the seed changes nothing");
}

/* From a checkpoint of either layout a run goes on in either. The loss falls and higher is said to be better, so the
   best weights are those of epoch 1: the checkpoint keeps them, and they come back. */
Test(layout_programs, a_run_goes_on_in_another_layout) {
    plane.train.early_stopping = (struct bp_early_stopping){.metric = 0, .better = 1, .patience = 5};
    run_in_rows("--epochs 30 --seed 2", "rows.txt");
    char *said = run(0, "predict --weights rows.safetensors plane.csv", "rows.csv");
    free(said);
    for (size_t i = 0; i < COUNT(twins); i++)
        for (int from_rows = 0; from_rows <= 1; from_rows++) {
            plane_layouts(from_rows ? BP_ROWS : twins[i].tensors, from_rows ? BP_ROWS : twins[i].feeds);
            expect_run("--quiet --epochs 3 --seed 2", "out.txt");
            plane_layouts(from_rows ? twins[i].tensors : BP_ROWS, from_rows ? twins[i].feeds : BP_ROWS);
            expect_run("--epochs 30 --resume run.state", "rest.txt");
            expect_same_file("plane.safetensors", "rows.safetensors");
            expect_same_file("run.state", "rows.state");
            plane_layouts(twins[i].tensors, twins[i].feeds);
            expect_run("predict --weights rows.safetensors plane.csv", "panels.csv");
            expect_same_file("panels.csv", "rows.csv");
        }
    struct bp_error error;
    size_t length;
    char *text = bp_read_file("rest.txt", &length, &error);
    expect_in(text, "stopped after epoch 6: val_loss has not improved for 5 epochs; weights of epoch 1 restored\n");
    free(text);
}

Test(layout_programs, messages_name_the_row_major_element) {
    for (size_t i = 0; i < COUNT(twins); i++) {
        plane_layouts(twins[i].tensors, twins[i].feeds);
        break_at = 4; /* W[0][4] comes before W[1][0] in a file and after it in panels */
        break_row = 1;
        char *errors = run(1, "--quiet", "out.txt");
        expect_in(errors, "made w[0, 4] nan");
        free(errors);
        break_row = 0;
        errors = run(1, "--quiet", "out.txt");
        expect_in(errors, "made w[0, 0] -inf");
        free(errors);
        break_row = 1;
        break_at = 17; /* the last of 3 steps in each of 6 epochs */
        errors = run(1, "--quiet", "out.txt");
        expect_in(errors, "'w' holds a value that is not finite (element 4)");
        free(errors);
    }
}

Test(layout_programs, loaded_weights_are_checked_by_element) {
    float w[OUT * IN] = {0}, b[OUT] = {0};
    struct bp_archive_tensor tensors[2] = {{"w", 2, {OUT, IN}, w, BP_ROWS, NULL}, {"b", 1, {OUT}, b, BP_ROWS, NULL}};
    struct bp_error error;
    w[4] = w[5] = INFINITY; /* in panels [1, 0] lies before [0, 4] */
    cr_assert(bp_archive_write("w", tensors, 2, NULL, NULL, 0, &error), "%s", error.text);
    plane_layouts(BP_PANELS, BP_PANELS);
    char *errors = run(1, "predict --weights w plane.csv", "out.txt");
    expect_in(errors, "w: 'w' holds a value that is not finite (element 4)");
    free(errors);
}

Test(layout_programs, gradients_and_bench_work_on_panels) {
    plane_layouts(BP_ROWS, BP_ROWS);
    expect_run("--check-grad --seed 2", "rows.txt");
    for (size_t i = 0; i < COUNT(twins); i++) {
        plane_layouts(twins[i].tensors, twins[i].feeds);
        expect_run("--check-grad --seed 2", "panels.txt");
        expect_same_file("panels.txt", "rows.txt"); /* the loss to nine digits: the same weights */
        expect_run("--bench 20 --threads 2", "out.txt");
        expect_run("predict --bench 20", "out.txt");
    }
}

/* ---- First values that are orthogonal ---------------------------------------------------------------------------- */

/* What is made of A is the Q of A = Q R with R upper triangular and positive on its diagonal: there is one such Q alone, and it
   is what torch.nn.init.orthogonal_ makes of the same draws. */
static void expect_orthogonal(struct bp_tensor tensor, double gain) {
    int64_t count = bp_tensor_count(&tensor), rows = tensor.shape[0], columns = count / rows;
    int64_t n = rows < columns ? rows : columns, length = rows < columns ? columns : rows;
    float *drawn = numbers(count), *stored = poisoned(bp_tensor_stored(&tensor)), *made = poisoned(count);
    struct bp_error error;
    for (int64_t i = 0; i < count; i++) /* no two rows alike */
        drawn[i] = (float)sin(1.7 * (double)(i * i % 1009) + 0.3 * (double)i + 0.5);
    bp_tensor_put(&tensor, stored, 0, count, drawn);
    cr_assert(bp_orthogonal(&tensor, stored, gain, &error), "%s", error.text);
    bp_tensor_get(&tensor, stored, 0, count, made);
    for (int64_t a = 0; a < n; a++)
        for (int64_t b = 0; b < n; b++) {
            double dot = 0, along = 0; /* of q_a and q_b; of q_a and what q_b was made of */
            for (int64_t i = 0; i < length; i++) {
                int64_t at = rows < columns ? a * columns + i : i * columns + a;
                int64_t other = rows < columns ? b * columns + i : i * columns + b;
                dot += (double)made[at] * made[other];
                along += (double)made[at] * drawn[other];
            }
            cr_expect_float_eq(dot, a == b ? gain * gain : 0, 4e-7 * gain * gain, "%d, %d: %g", (int)a, (int)b, dot);
            cr_expect(a == b ? along > 0 : a < b || fabs(along) < 1e-5 * gain, "R[%d, %d] is %g", (int)a, (int)b,
                      along);
        }
    free(drawn);
    free(stored);
    free(made);
}

Test(layouts, orthogonal_first_values) {
    expect_orthogonal(tensor_of(BP_ROWS, 2, 5, 37), 1);
    expect_orthogonal(tensor_of(BP_ROWS, 2, 37, 5), 2);
    expect_orthogonal(tensor_of(BP_PANELS, 2, 21, 18), 0.5);
    expect_orthogonal(tensor_of(BP_PANELS, 2, 18, 21), 3);
    expect_orthogonal(tensor_of(BP_ROWS, 2, 16, 16), 1);
    expect_orthogonal(tensor_of(BP_ROWS, 2, 1, 1), 1.5);
    expect_orthogonal((struct bp_tensor){.name = "box", .rank = 3, .shape = {4, 3, 2}}, 1);
}
