/* Each phase's forward and backward pass as a picture, for Graphviz and for Mermaid. A box is a line of
   --emit=gradient: what is used once is written inside the box that uses it, constants always are. */
#include "print.h"

#include <string.h>

enum { WIDEST = 64 }; /* bytes of a formula in a box */

typedef enum BoxKind { BOX_LEAF, BOX_FORWARD, BOX_BACKWARD, BOX_GRADIENT } BoxKind;

typedef struct Drawing {
    Text *out;
    void (*box)(struct Drawing *drawing, int phase, const Node *node, BoxKind kind, const char *const *lines);
    void (*edge)(struct Drawing *drawing, int phase, int from, int to);
} Drawing;

/* ---- what is drawn ----------------------------------------------------------------------------------------------- */

static BoxKind box_kind(const PhaseSheet *phase, const GraphTrain *train, const Node *node) {
    for (int i = 0; i < train->gradients.count; i++)
        if (train->gradients.at[i].value == node)
            return BOX_GRADIENT;
    return node->arg_count == 0 ? BOX_LEAF : phase->forward[node->id] ? BOX_FORWARD : BOX_BACKWARD;
}

/* A formula that fits a box; never cut inside a character. */
static void shorten(Text *text) {
    if (text->length <= WIDEST)
        return;
    size_t end = WIDEST;
    while (end > 0 && ((unsigned char)text->at[end] & 0xC0) == 0x80)
        end--;
    text->length = end;
    text->at[end] = 0;
    text_add(text, " ...");
}

static void draw_box(Drawing *drawing, const PhaseSheet *phase, const GraphTrain *train, int number, const Node *node) {
    Text formula = {0}, type = {0};
    BoxKind kind = box_kind(phase, train, node);
    sheet_formula(&phase->sheet, node, &formula);
    shorten(&formula);
    node_type_text(node, &type);
    const char *lines[3] = {phase->sheet.names[node->id], kind == BOX_LEAF && node->label ? "" : formula.at, type.at};
    drawing->box(drawing, number, node, kind, lines);
    text_free(&formula);
    text_free(&type);
}

/* Edges from every box that the formula of `node` names, through what it has swallowed. A formula is at most a few
 * levels deep. */
static void draw_edges(Drawing *drawing, const Sheet *sheet, int phase, const Node *node, int to, int *drawn) {
    for (int i = first_shown_argument(sheet, node); i < node->arg_count; i++) {
        const Node *arg = node->args[i];
        if (drawn[arg->id] == to)
            continue;
        drawn[arg->id] = to;
        if (sheet->own_line[arg->id])
            drawing->edge(drawing, phase, arg->id, to);
        else
            draw_edges(drawing, sheet, phase, arg, to, drawn);
    }
}

static void draw_phase(Drawing *drawing, const GraphProgram *program, const GraphTrain *train, int number) {
    Arena *arena = arena_new();
    PhaseSheet phase = phase_sheet(arena, program->graph, train);
    int count = phase.sheet.count, *drawn = arena_array(arena, int, count + 1); /* node 0 has no arguments: 0 is none */
    for (int id = 0; id < count; id++)
        if (phase.sheet.own_line[id])
            draw_box(drawing, &phase, train, number, graph_node(program->graph, id));
    for (int id = 0; id < count; id++)
        if (phase.sheet.own_line[id])
            draw_edges(drawing, &phase.sheet, number, graph_node(program->graph, id), id, drawn);
    arena_free(arena);
}

/* ---- Graphviz ---------------------------------------------------------------------------------------------------- */

static void add_dot_text(Text *out, const char *text) {
    for (const char *at = text; *at; at++) {
        if (*at == '"' || *at == '\\')
            text_add(out, "\\");
        text_add_bytes(out, (unsigned char)*at < 0x20 || *at == 0x7F ? "?" : at, 1);
    }
}

static void dot_box(Drawing *drawing, int phase, const Node *node, BoxKind kind, const char *const *lines) {
    static const char *const styles[] = {
        "shape=box, style=\"filled,rounded\", fillcolor=\"#eeeeee\"", "shape=box, style=filled, fillcolor=\"#cfe2f3\"",
        "shape=box, style=filled, fillcolor=\"#f9dcc4\"", "shape=box, style=\"filled,bold\", fillcolor=\"#f4b183\""};
    text_printf(drawing->out, "    p%d_n%d [%s, label=\"", phase, node->id, styles[kind]);
    for (int i = 0; i < 3; i++)
        if (lines[i][0]) {
            text_add(drawing->out, i ? "\\n" : "");
            add_dot_text(drawing->out, lines[i]);
        }
    text_add(drawing->out, "\"];\n");
}

static void dot_edge(Drawing *drawing, int phase, int from, int to) {
    text_printf(drawing->out, "    p%d_n%d -> p%d_n%d;\n", phase, from, phase, to);
}

void graph_print_dot(const GraphProgram *program, Text *out) {
    Drawing drawing = {out, dot_box, dot_edge};
    text_add(out, "digraph \"");
    add_dot_text(out, program->program && program->program->name ? program->program->name : "graph");
    text_add(out, "\" {\n  rankdir=TB;\n  node [fontname=\"monospace\", fontsize=10];\n  edge [arrowsize=0.7];\n");
    Arena *arena = arena_new();
    int count;
    const GraphTrain *views = phase_views(arena, program, &count);
    for (int i = 0; i < count; i++) {
        text_printf(out, "  subgraph cluster_%d {\n    label=\"", i);
        add_dot_text(out, views[i].name);
        text_add(out, "\";\n");
        draw_phase(&drawing, program, &views[i], i);
        text_add(out, "  }\n");
    }
    text_add(out, "}\n");
    arena_free(arena);
}

/* ---- Mermaid ----------------------------------------------------------------------------------------------------- */

/* In a quoted text of Mermaid, #number; is a character. */
static void add_mermaid_text(Text *out, const char *text) {
    for (const char *at = text; *at; at++) {
        if (strchr("\"#<>&`\\%;", *at))
            text_printf(out, "#%d;", *at);
        else
            text_add_bytes(out, (unsigned char)*at < 0x20 || *at == 0x7F ? "?" : at, 1);
    }
}

static void mermaid_box(Drawing *drawing, int phase, const Node *node, BoxKind kind, const char *const *lines) {
    static const char *const classes[] = {"leaf", "forward", "backward", "gradient"};
    text_printf(drawing->out, "    p%d_n%d[\"", phase, node->id);
    for (int i = 0; i < 3; i++)
        if (lines[i][0]) {
            text_add(drawing->out, i ? "<br/>" : "");
            add_mermaid_text(drawing->out, lines[i]);
        }
    text_printf(drawing->out, "\"]:::%s\n", classes[kind]);
}

static void mermaid_edge(Drawing *drawing, int phase, int from, int to) {
    text_printf(drawing->out, "    p%d_n%d --> p%d_n%d\n", phase, from, phase, to);
}

void graph_print_mermaid(const GraphProgram *program, Text *out) {
    Drawing drawing = {out, mermaid_box, mermaid_edge};
    text_add(out, "flowchart TB\n"
                  "  classDef leaf fill:#eeeeee,stroke:#888888,color:#000000\n"
                  "  classDef forward fill:#cfe2f3,stroke:#3d6fa5,color:#000000\n"
                  "  classDef backward fill:#f9dcc4,stroke:#b5651d,color:#000000\n"
                  "  classDef gradient fill:#f4b183,stroke:#843c0c,color:#000000\n");
    Arena *arena = arena_new();
    int count;
    const GraphTrain *views = phase_views(arena, program, &count);
    for (int i = 0; i < count; i++) {
        text_printf(out, "  subgraph p%d[\"", i);
        add_mermaid_text(out, views[i].name);
        text_add(out, "\"]\n");
        draw_phase(&drawing, program, &views[i], i);
        text_add(out, "  end\n");
    }
    arena_free(arena);
}
