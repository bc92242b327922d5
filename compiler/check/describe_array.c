/* `bpc describe images.idx`: what an IDX file holds, as the lines to paste. */
#include "describe.h"

#include "scan.h"

#include <stdlib.h>
#include <string.h>

static const char *shape_of(Arena *arena, const struct bp_idx *idx) {
    const char *text = "";
    for (int i = 0; i < idx->rank; i++)
        text = arena_printf(arena, "%s%s%lld", text, i ? ", " : "", (long long)idx->dims[i]);
    return arena_printf(arena, "[%s]", text);
}

static void write_path(Text *out, const char *path) {
    text_add(out, "    file    \"");
    for (; *path; path++)
        text_printf(out, *path == '"' || *path == '\\' ? "\\%c" : (unsigned char)*path < 0x20 ? "?" : "%c", *path);
    text_add(out, "\"");
}

/* How many rows have each whole number from 0 to 255; false where one has something else. */
static bool count_values(const struct bp_idx *idx, int64_t counts[256]) {
    memset(counts, 0, 256 * sizeof *counts);
    for (int64_t i = 0; i < idx->rows; i++) {
        double value = bp_idx_value(idx, i);
        if (!(value >= 0 && value <= 255) || value != (double)(int)value)
            return false;
        counts[(int)value]++;
    }
    return true;
}

static void write_labels(const struct bp_idx *idx, Text *out) {
    int64_t counts[256];
    bool whole = count_values(idx, counts);
    int distinct = 0;
    for (int i = 0; whole && i < 256; i++)
        distinct += counts[i] > 0;
    text_add(out, distinct > 1 ? "    target  label : category\n" : "    target  label\n");
    text_printf(out, "}\n\n# %lld rows, one number each; its images are in another file: file \"…\", as = image\n",
                (long long)idx->rows);
    if (distinct < 2)
        return;
    text_add(out, "# values:");
    for (int i = 0, shown = 0; i < 256; i++)
        if (counts[i] > 0 && shown++ < 20)
            text_printf(out, "%s %d (%lld)", shown > 1 ? "," : "", i, (long long)counts[i]);
    text_add(out, distinct > 20 ? " …\n" : "\n");
}

static void write_images(Arena *arena, const struct bp_idx *idx, Text *out) {
    double least = 0, greatest = 0;
    for (int64_t i = 0; i < idx->rows * idx->width; i++) {
        double value = bp_idx_value(idx, i);
        least = i == 0 || value < least ? value : least;
        greatest = i == 0 || value > greatest ? value : greatest;
    }
    bool pixels = least >= 0 && greatest > 1 && greatest <= 255;
    text_printf(out, "    input   image : %s\n}\n", pixels ? "scale(1 / 255)" : "standardize");
    text_printf(out, "\n# %lld rows of %s, values from %g to %g; labels are in another file: file \"…\", as = label\n",
                (long long)idx->rows, shape_of(arena, idx), least, greatest);
}

bool describe_array(Arena *arena, const char *path, const char *name, Text *out, bool *is_array, char *why,
                    size_t why_size) {
    struct bp_error error;
    struct bp_idx idx;
    size_t length;
    char *bytes = bp_read_file(path, &length, &error);
    *is_array = bytes && bp_idx_is(bytes, length);
    free(bytes);
    if (!*is_array)
        return false;
    if (!bp_idx_open(&idx, path, path, &error)) {
        snprintf(why, why_size, "%s", error.text);
        return false;
    }
    text_printf(out, "data %s {\n", name);
    write_path(out, path);
    text_printf(out, ", as = %s\n", idx.rank > 0 ? "image" : "label");
    if (idx.rank > 0)
        write_images(arena, &idx, out);
    else
        write_labels(&idx, out);
    bp_idx_close(&idx);
    return true;
}
