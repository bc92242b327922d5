/* --emit=memory -o FILE.svg: the block as a bar, and beside it the room that functions share, kernel by kernel: what is
   alive, where it lies, how large it is. */
#include "memory.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    WIDTH = 1240,
    MARGIN = 36,
    BAR_LEFT = 40,
    BAR_WIDTH = 90,
    MAP_LEFT = 400,
    TOP = 96,
    BAR_HEIGHT = 520,
    MAP_TALLEST = 420,
    MAP_LOWEST = 70,
    MOST_MAPS = 8
};
#define LETTER 6.3 /* the width of one, at 11 pixels */

typedef struct Part {
    const char *what, *colour;
    uint64_t bytes;
} Part;

static const char *colour_of(const Buffer *buffer) {
    return buffer->role == BUFFER_FEED ? "#8cc6a3" : buffer->role == BUFFER_OUTPUT ? "#c9a6d8" : "#f3b562";
}

static void put_size(Text *out, uint64_t bytes) {
    memory_size(bytes, out);
}

/* ---- the block --------------------------------------------------------------------------------------------------- */

static void draw_part(Text *out, const Part *part, double top, double height, double *label) {
    text_printf(out, "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"%s\" stroke=\"#fff\"><title>",
                BAR_LEFT, top, BAR_WIDTH, height, part->colour);
    text_printf(out, "%s: %" PRIu64 " bytes</title></rect>\n", part->what, part->bytes);
    double y = top + height / 2 + 4;
    if (y < *label + 16)
        y = *label + 16; /* labels of thin parts do not cover each other */
    *label = y;
    text_printf(out, "<path d=\"M%d %.1fL%d %.1f\" stroke=\"#999\" fill=\"none\"/>", BAR_LEFT + BAR_WIDTH + 2,
                top + height / 2, BAR_LEFT + BAR_WIDTH + 14, y - 4);
    text_printf(out, "<text x=\"%d\" y=\"%.1f\">%s, ", BAR_LEFT + BAR_WIDTH + 18, y, part->what);
    put_size(out, part->bytes);
    text_add(out, "</text>\n");
}

static void draw_block(Text *out, const MemoryUse *use) {
    const Part parts[] = {{"parameters", "#4c78a8", use->parameters + use->scalars},
                          {"optimizer state", "#85a9cc", use->states},
                          {"sums and metrics", "#c9a6d8", use->results},
                          {"shared by functions", "#f3b562", use->room},
                          {"scratch of threads", "#bbbbbb", use->scratch},
                          {"best weights", "#e58a8a", use->kept}};
    uint64_t all = use->block + use->scratch + use->kept;
    double top = TOP, label = TOP - 14;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        double height = (double)parts[i].bytes * BAR_HEIGHT / (double)all;
        if (parts[i].bytes)
            draw_part(out, &parts[i], top, height, &label);
        top += height;
    }
}

/* ---- a function's room ------------------------------------------------------------------------------------------- */

static void draw_life(Text *out, const MemoryMap *map, const MemoryLife *life, uint64_t base, double top,
                      double height) {
    double column = (double)(WIDTH - MARGIN - MAP_LEFT) / (map->kernel_count + 1), scale = height / (double)map->needs;
    double x = MAP_LEFT + life->first * column, width = (life->last - life->first + 1) * column;
    double y = top + (double)(life->buffer->offset - base) * scale, tall = (double)buffer_bytes(life->buffer) * scale;
    text_printf(out,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" stroke=\"#fff\" "
                "stroke-width=\"%s\"><title>",
                x, y, width, tall, colour_of(life->buffer), tall < 3 ? "0" : "1");
    text_add_xml(out, life->buffer->shown);
    text_add(out, " ");
    memory_shape(life->buffer, out);
    text_printf(out, ", %s: %" PRIu64 " bytes at %" PRIu64 ", kernels %d to %d</title></rect>\n",
                memory_role(life->buffer), buffer_bytes(life->buffer), life->buffer->offset, life->first, life->last);
    if (tall < 13 || (double)strlen(life->buffer->shown) * LETTER + 6 > width)
        return;
    text_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x + width / 2, y + tall / 2 + 4);
    text_add_xml(out, life->buffer->shown);
    text_add(out, "</text>\n");
}

/* The rows of numbers below the map: kernels, as many as there is room for. */
static void draw_axis(Text *out, const MemoryMap *map, double y) {
    double column = (double)(WIDTH - MARGIN - MAP_LEFT) / (map->kernel_count + 1);
    int each = (int)ceil(26 / column);
    for (int k = 0; k <= map->kernel_count; k += each < 1 ? 1 : each) {
        text_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#666\">%d<title>",
                    MAP_LEFT + (k + 0.5) * column, y, k);
        text_add_xml(out, k ? map->kernels[k - 1]->name : "the batch is gathered");
        text_add(out, "</title></text>\n");
    }
}

static double map_height(const MemoryMap *map, const MemoryMap *largest) {
    double height = MAP_TALLEST * (double)map->needs / (double)largest->needs;
    return height < MAP_LOWEST ? MAP_LOWEST : height;
}

static void draw_map(Text *out, const MemoryMap *map, uint64_t base, double top, double height) {
    text_printf(
        out, "<text x=\"%d\" y=\"%.1f\" font-weight=\"bold\">%s</text><text x=\"%.1f\" y=\"%.1f\" fill=\"#666\">",
        MAP_LEFT, top - 8, map->function->name, MAP_LEFT + (double)strlen(map->function->name) * 7.2 + 14, top - 8);
    put_size(out, map->needs);
    text_printf(out, " for up to %" PRId64 " row%s; ", map->function->capacity,
                map->function->capacity == 1 ? "" : "s");
    put_size(out, map->live);
    text_printf(out, map->fullest ? " alive at once in kernel %d" : " alive at once before kernel 1", map->fullest);
    text_printf(out, "</text>\n<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"#f4f4f4\"/>\n", MAP_LEFT,
                top, WIDTH - MARGIN - MAP_LEFT, height);
    for (int i = 0; i < map->life_count; i++)
        draw_life(out, map, &map->lives[i], base, top, height);
    draw_axis(out, map, top + height + 14);
}

static void draw_legend(Text *out) {
    static const struct {
        const char *what, *colour;
    } kinds[] = {{"a batch of rows", "#8cc6a3"},
                 {"activations and gradients", "#f3b562"},
                 {"results, taken at the end", "#c9a6d8"}};
    double x = MAP_LEFT;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        text_printf(
            out,
            "<rect x=\"%.1f\" y=\"42\" width=\"12\" height=\"12\" fill=\"%s\"/><text x=\"%.1f\" y=\"52\">%s</text>\n",
            x, kinds[i].colour, x + 17, kinds[i].what);
        x += 17 + (double)strlen(kinds[i].what) * LETTER + 26;
    }
    text_printf(
        out, "<text x=\"%.1f\" y=\"52\" fill=\"#666\">across: kernels in order; down: the place in memory</text>\n", x);
}

void draw_memory(const GraphProgram *program, const Module *module, const Machine *machine, Text *out) {
    Arena *arena = arena_new();
    MemoryUse use = memory_use(program, module, machine);
    MemoryMap *maps;
    int count = memory_maps(arena, module, &maps), drawn = count < MOST_MAPS ? count : MOST_MAPS;
    double bottom = TOP;
    for (int i = 0; i < drawn; i++)
        bottom += map_height(&maps[i], &maps[0]) + 56;
    bottom = bottom < TOP + BAR_HEIGHT + 40 ? TOP + BAR_HEIGHT + 40 : bottom;
    text_printf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" viewBox=\"0 0 %d %.0f\" "
        "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"#fff\"/>\n<text x=\"%d\" y=\"30\" font-size=\"17\" font-weight=\"bold\">",
        WIDTH, bottom, WIDTH, bottom, BAR_LEFT);
    text_add_xml(out, program->program->path);
    text_add(out, ": ");
    put_size(out, use.block + use.scratch + use.kept);
    text_printf(out, "</text>\n<text x=\"%d\" y=\"52\" fill=\"#666\">and the rows of data</text>\n", BAR_LEFT);
    draw_legend(out);
    draw_block(out, &use);
    double top = TOP;
    for (int i = 0; i < drawn; i++) {
        double height = map_height(&maps[i], &maps[0]);
        draw_map(out, &maps[i], module->room, top, height);
        top += height + 56;
    }
    text_add(out, "</svg>\n");
    arena_free(arena);
}
