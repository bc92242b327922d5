/* Where the elements of a tensor or a feed lie in memory. Conversions go in pieces: a tensor may be gigabytes. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <string.h>

enum { LAYOUT_PIECE = 1024, LAYOUT_ROWS = 8 };

int64_t bp_tensor_count(const struct bp_tensor *tensor) {
    int64_t count = 1;
    for (int32_t i = 0; i < tensor->rank; i++)
        count *= tensor->shape[i];
    return count;
}

/* Elements for each index of the first axis. */
static int64_t layout_width(const struct bp_tensor *tensor) {
    return tensor->rank == 2 ? tensor->shape[1] : 1;
}

/* A panel of width 1 is a vector: its order is row-major, only padded. */
static int layout_is_plain(const struct bp_tensor *tensor) {
    return tensor->layout == BP_ROWS || layout_width(tensor) == 1;
}

int64_t bp_tensor_stored(const struct bp_tensor *tensor) {
    if (tensor->layout == BP_ROWS)
        return bp_tensor_count(tensor);
    return (tensor->shape[0] + BP_PANEL_LANES - 1) / BP_PANEL_LANES * BP_PANEL_LANES * layout_width(tensor);
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------- */
/* A run of elements in one row of a tensor of panels: from `place` on, BP_PANEL_LANES apart. */
struct layout_run {
    int64_t place, count;
};

static struct layout_run layout_run(const struct bp_tensor *tensor, int64_t first, int64_t count) {
    int64_t width = tensor->shape[1], row = first / width, column = first % width;
    struct layout_run run = {(row / BP_PANEL_LANES * width + column) * BP_PANEL_LANES + row % BP_PANEL_LANES,
                             width - column};
    if (run.count > count)
        run.count = count;
    return run;
}

void bp_tensor_get(const struct bp_tensor *tensor, const float *stored, int64_t first, int64_t count, float *values) {
    if (layout_is_plain(tensor)) {
        memcpy(values, stored + first, (size_t)count * sizeof *values);
        return;
    }
    while (count > 0) {
        struct layout_run run = layout_run(tensor, first, count);
        for (int64_t i = 0; i < run.count; i++)
            values[i] = stored[run.place + i * BP_PANEL_LANES];
        values += run.count;
        first += run.count;
        count -= run.count;
    }
}

/* Lanes beyond the first axis, in the last panel. */
static void layout_pad(const struct bp_tensor *tensor, float *stored) {
    int64_t width = layout_width(tensor), used = tensor->shape[0] % BP_PANEL_LANES;
    float *panel = stored + tensor->shape[0] / BP_PANEL_LANES * BP_PANEL_LANES * width;
    for (int64_t column = 0; used > 0 && column < width; column++)
        memset(panel + column * BP_PANEL_LANES + used, 0, (size_t)(BP_PANEL_LANES - used) * sizeof *panel);
}

void bp_tensor_put(const struct bp_tensor *tensor, float *stored, int64_t first, int64_t count, const float *values) {
    if (tensor->layout == BP_PANELS && first + count == bp_tensor_count(tensor))
        layout_pad(tensor, stored);
    if (layout_is_plain(tensor)) {
        memcpy(stored + first, values, (size_t)count * sizeof *values);
        return;
    }
    while (count > 0) {
        struct layout_run run = layout_run(tensor, first, count);
        for (int64_t i = 0; i < run.count; i++)
            stored[run.place + i * BP_PANEL_LANES] = values[i];
        values += run.count;
        first += run.count;
        count -= run.count;
    }
}

/* ---- Values that are not finite ---------------------------------------------------------------------------------- */
int64_t bp_finite_prefix(const float *values, int64_t count) {
    int64_t i = 0;
    while (i < count && isfinite(values[i]))
        i++;
    return i;
}

int64_t bp_tensor_finite_prefix(const struct bp_tensor *tensor, const float *stored) {
    int64_t count = bp_tensor_count(tensor), all = bp_tensor_stored(tensor);
    float piece[LAYOUT_PIECE];
    if (layout_is_plain(tensor))
        return bp_finite_prefix(stored, count);
    if (bp_finite_prefix(stored, all) == all) /* as a rule: memory is read once, in its order */
        return count;
    for (int64_t first = 0, taken; first < count; first += taken) {
        taken = count - first < LAYOUT_PIECE ? count - first : LAYOUT_PIECE;
        bp_tensor_get(tensor, stored, first, taken, piece);
        int64_t at = bp_finite_prefix(piece, taken);
        if (at < taken)
            return first + at;
    }
    return count;
}

/* ---- Feeds ------------------------------------------------------------------------------------------------------- */
/* Copies of a fixed size, which may overlap: a call or a loop would cost more than a narrow row. */
static void layout_last_panel(const float *from, int64_t used, float *to) {
    memset(to, 0, BP_PANEL_LANES * sizeof *to);
    if (used >= 8) {
        memcpy(to, from, 8 * sizeof *to);
        memcpy(to + used - 8, from + used - 8, 8 * sizeof *to);
    } else if (used >= 4) {
        memcpy(to, from, 4 * sizeof *to);
        memcpy(to + used - 4, from + used - 4, 4 * sizeof *to);
    } else {
        for (int64_t i = 0; i < used; i++)
            to[i] = from[i];
    }
}

/* Rows that one panel holds, copied in moves of a width that the C compiler knows. */
__attribute__((always_inline)) static inline void layout_rows(const float *from, size_t width, const int64_t *order,
                                                              int64_t count, float *to) {
    for (int64_t row = 0; row < count; row++, to += BP_PANEL_LANES) {
        memset(to, 0, BP_PANEL_LANES * sizeof *to);
        memcpy(to, from + order[row] * (int64_t)width, width * sizeof *to);
    }
}

#define LAYOUT_CASE(width)                                                                                             \
    case width:                                                                                                        \
        layout_rows(from, width, order, count, to);                                                                    \
        break

static void layout_narrow_rows(const float *from, int64_t width, const int64_t *order, int64_t count, float *to) {
    switch (width) {
        LAYOUT_CASE(1);
        LAYOUT_CASE(2);
        LAYOUT_CASE(3);
        LAYOUT_CASE(4);
        LAYOUT_CASE(5);
        LAYOUT_CASE(6);
        LAYOUT_CASE(7);
        LAYOUT_CASE(8);
        LAYOUT_CASE(9);
        LAYOUT_CASE(10);
        LAYOUT_CASE(11);
        LAYOUT_CASE(12);
        LAYOUT_CASE(13);
        LAYOUT_CASE(14);
        LAYOUT_CASE(15);
    default:
        break;
    }
}

void bp_feed_panels(const struct bp_feed *feed, const float *from, int64_t width, const int64_t *order, int64_t low,
                    int64_t high, float *to) {
    if (width < BP_PANEL_LANES) {
        layout_narrow_rows(from, width, order + low, high - low, to + low * BP_PANEL_LANES);
        return;
    }
    int64_t whole = width / BP_PANEL_LANES, used = width % BP_PANEL_LANES;
    /* a few rows at a time: they are read as streams, and each page of a panel is visited once for all of them */
    for (int64_t end; low < high; low = end) {
        end = high - low < LAYOUT_ROWS ? high : low + LAYOUT_ROWS;
        for (int64_t p = 0; p < whole; p++)
            for (int64_t row = low; row < end; row++)
                memcpy(to + (p * feed->stride + row) * BP_PANEL_LANES, from + order[row] * width + p * BP_PANEL_LANES,
                       BP_PANEL_LANES * sizeof *to);
        for (int64_t row = low; used > 0 && row < end; row++)
            layout_last_panel(from + order[row] * width + whole * BP_PANEL_LANES, used,
                              to + (whole * feed->stride + row) * BP_PANEL_LANES);
    }
}
