/* The graph as text: each function with its nodes, each phase's gradients as formulas. */
#include "print.h"

#include <stdlib.h>
#include <string.h>

/* ---- words ------------------------------------------------------------------------------------------------------- */

/* Names come from files: control bytes would break the lines. */
static void add_name(Text *out, const char *name) {
    for (const char *at = name; *at; at++)
        text_add_bytes(out, (unsigned char)*at < 0x20 || *at == 0x7F ? "?" : at, 1);
}

static void add_dims(Text *out, int rank, const int64_t *dims) {
    text_add(out, "[");
    for (int i = 0; i < rank; i++)
        text_printf(out, "%s%lld", i ? ", " : "", (long long)dims[i]);
    text_add(out, "]");
}

void node_type_text(const Node *node, Text *out) {
    static const char *const types[] = {"real", "wide", "index", "truth"};
    text_add(out, types[node->type]);
    if (node->batched || node->rank)
        text_add(out, node->batched ? " [rows]" : " ");
    if (node->rank)
        add_dims(out, node->rank, node->dims);
    if (node->type == TYPE_INDEX && node->classes)
        text_printf(out, " of %d", node->classes);
}

void span_text(Span span, Text *out) {
    if (span.source < 0)
        return;
    Place place = span_place(span);
    const char *slash = strrchr(place.path, '/');
    add_name(out, slash && !span_in_prelude(span) ? slash + 1 : place.path);
    text_printf(out, ":%d", place.line);
}

/* fc1.weight, or Net.fc1.weight */
static const char *tensor_shown(const Sheet *sheet, const Tensor *tensor) {
    const Tensor *parameter = tensor->of ? tensor->of : tensor;
    return sheet && sheet->several ? arena_printf(sheet->arena, "%s.%s", parameter->owner, tensor->name) : tensor->name;
}

static void pad(Text *out, size_t line_start, size_t column) {
    text_add(out, " ");
    while (out->length - line_start < column)
        text_add(out, " ");
}

/* ---- formulas ---------------------------------------------------------------------------------------------------- */

enum { BINDS_COMPARE = 1, BINDS_ADD, BINDS_MULTIPLY, BINDS_NEGATE, BINDS_POWER, BINDS_NAME };

/* What a formula is written in: a sheet's names, or (without one) labels down to a depth. */
typedef struct Formula {
    const Sheet *sheet;
    int depth;
    Text *out;
} Formula;

static void write_node(Formula f, const Node *node, int binds);

static const char *reference(const Formula *f, const Node *node) {
    if (f->sheet)
        return f->sheet->own_line[node->id] ? f->sheet->names[node->id] : NULL;
    return node->label;
}

static void write_argument(Formula f, const Node *node, int binds) {
    const char *name = reference(&f, node);
    if (name)
        add_name(f.out, name);
    else if (f.depth <= 0 && node->op != OP_CONSTANT)
        text_printf(f.out, "%%%d", node->id);
    else
        write_node(f, node, binds);
}

static void write_call(Formula f, const char *name, Node *const *args, int count) {
    text_printf(f.out, "%s(", name);
    for (int i = 0; i < count; i++) {
        if (i)
            text_add(f.out, ", ");
        write_argument(f, args[i], 0);
    }
    text_add(f.out, ")");
}

static void write_infix(Formula f, const Node *node, const char *op, int level, int binds) {
    bool parentheses = level < binds;
    if (parentheses)
        text_add(f.out, "(");
    write_argument(f, node->args[0], level == BINDS_COMPARE || level == BINDS_POWER ? level + 1 : level);
    text_printf(f.out, " %s ", op);
    write_argument(f, node->args[1], level + 1);
    if (parentheses)
        text_add(f.out, ")");
}

/* The operator between the arguments of `op`, and how tightly it binds; NULL: it is written as a call. */
static const char *infix_of(Op op, int *level) {
    *level = op_table[op].class == CLASS_COMPARE ? BINDS_COMPARE : BINDS_ADD;
    switch (op) {
    case OP_ADD:
        return "+";
    case OP_SUBTRACT:
        return "-";
    case OP_LESS:
        return "<";
    case OP_LESS_EQUAL:
        return "<=";
    case OP_EQUAL:
        return "==";
    case OP_NOT_EQUAL:
        return "!=";
    case OP_MULTIPLY:
        *level = BINDS_MULTIPLY;
        return "*";
    case OP_DIVIDE:
        *level = BINDS_MULTIPLY;
        return "/";
    case OP_POWER:
        *level = BINDS_POWER;
        return "^";
    default:
        return NULL;
    }
}

/* ---- products: as @ and outer where they are one, else with letters ---------------------------------------------- */

static void write_letters(Text *out, const int8_t *letters, int rank) {
    for (int i = 0; i < rank; i++)
        text_printf(out, "%c", 'i' + letters[i]);
}

/* The matrix or vector x with its axes as wanted: first and last are letters, of which a vector has one. */
static bool write_oriented(Formula f, const Node *x, const int8_t *letters, int8_t first, int8_t last, bool is_left,
                           bool may_turn, bool write) {
    bool straight = x->rank == 1 || (letters[0] == first && letters[1] == last);
    bool turned = x->rank == 2 && letters[0] == last && letters[1] == first;
    if (x->rank == 1 && letters[0] != (is_left ? last : first))
        return false;
    if (!straight && !(turned && may_turn))
        return false;
    if (write && turned)
        text_add(f.out, "transpose(");
    if (write)
        write_argument(f, x, turned ? 0 : BINDS_MULTIPLY + 1);
    if (write && turned)
        text_add(f.out, ")");
    return true;
}

/* left @ right, if the product is one; returns false and writes nothing otherwise. */
static bool write_matmul(Formula f, const Node *node, int first_side, bool may_turn, bool parentheses) {
    const Node *left = node->args[first_side], *right = node->args[1 - first_side];
    const int8_t *l = first_side ? node->contract.right : node->contract.left;
    const int8_t *r = first_side ? node->contract.left : node->contract.right, *out = node->contract.out;
    if (left->rank < 1 || left->rank > 2 || right->rank < 1 || right->rank > 2)
        return false;
    if (node->rank != left->rank + right->rank - 2)
        return false;
    int8_t k = -1;
    for (int i = 0; i < left->rank; i++)
        for (int j = 0; j < right->rank; j++)
            if (l[i] == r[j] && (node->rank < 1 || out[0] != l[i]) && (node->rank < 2 || out[1] != l[i]))
                k = l[i];
    int8_t rows = left->rank == 2 ? out[0] : -1, columns = right->rank == 2 ? out[node->rank - 1] : -1;
    if (k < 0 || !write_oriented(f, left, l, rows, k, true, may_turn, false) ||
        !write_oriented(f, right, r, k, columns, false, may_turn, false))
        return false;
    if (parentheses)
        text_add(f.out, "(");
    write_oriented(f, left, l, rows, k, true, may_turn, true);
    text_add(f.out, " @ ");
    write_oriented(f, right, r, k, columns, false, may_turn, true);
    if (parentheses)
        text_add(f.out, ")");
    return true;
}

static void write_contract(Formula f, const Node *node, int binds) {
    const Node *left = node->args[0], *right = node->args[1];
    const ContractSpec *spec = &node->contract;
    if (spec->over_batch)
        text_add(f.out, "batch_sum(");
    bool parentheses = !spec->over_batch && binds > BINDS_MULTIPLY;
    if (left->rank == 1 && right->rank == 1 && node->rank == 2) {
        Node *args[2] = {node->args[0], node->args[1]};
        if (spec->out[0] == spec->right[0]) {
            args[0] = node->args[1];
            args[1] = node->args[0];
        }
        write_call(f, "outer", args, 2);
    } else if (!write_matmul(f, node, 0, false, parentheses) && !write_matmul(f, node, 1, false, parentheses) &&
               !write_matmul(f, node, 0, true, parentheses) && !write_matmul(f, node, 1, true, parentheses)) {
        text_add(f.out, "contract(\"");
        write_letters(f.out, spec->left, left->rank);
        text_add(f.out, ",");
        write_letters(f.out, spec->right, right->rank);
        text_add(f.out, "->");
        write_letters(f.out, spec->out, node->rank);
        text_add(f.out, "\", ");
        write_argument(f, left, 0);
        text_add(f.out, ", ");
        write_argument(f, right, 0);
        text_add(f.out, ")");
    }
    if (spec->over_batch)
        text_add(f.out, ")");
}

/* ---- the other ops ----------------------------------------------------------------------------------------------- */

static void write_leaf(Formula f, const Node *node, int binds) {
    Text *out = f.out;
    switch (node->op) {
    case OP_CONSTANT: {
        bool parentheses = node->number < 0 && binds > BINDS_ADD;
        text_add(out, parentheses ? "(" : "");
        text_number(out, node->number);
        text_add(out, parentheses ? ")" : "");
        break;
    }
    case OP_INPUT:
        if (node->data && node->integer >= node->data->slot_count) {
            text_add(out, "kept(");
            add_name(out, node->data->name);
            text_printf(out, ", %lld)", (long long)node->integer - node->data->slot_count);
            break;
        }
        text_printf(out, "input(");
        add_name(out, node->data ? node->data->name : "?");
        text_printf(out, ", slot %lld%s)", (long long)node->integer, node->partner ? ", of the partner" : "");
        break;
    case OP_TENSOR:
        text_printf(out, "%s(", node->tensor && node->tensor->state ? "state" : "parameter");
        add_name(out, node->tensor ? tensor_shown(f.sheet, node->tensor) : "?");
        text_add(out, ")");
        break;
    case OP_SCALAR:
        text_printf(out, "scalar(%lld)", (long long)node->integer);
        break;
    case OP_TOTAL:
        text_printf(out, "total(%lld)", (long long)node->integer);
        break;
    case OP_RANDOM:
        text_printf(out, "%s(stream %lld)", node->normal ? "normal" : "uniform", (long long)node->integer);
        break;
    case OP_IOTA:
        text_printf(out, "iota(%lld)", (long long)node->integer);
        break;
    default:
        BUG("'%s' is no leaf", op_table[node->op].name);
    }
}

static void write_axis(Formula f, const char *name, const Node *node) {
    text_printf(f.out, "%s(", name);
    write_argument(f, node->args[0], 0);
    if (node->integer != AXIS_ALL)
        text_printf(f.out, ", axis = %lld", (long long)node->integer);
    text_add(f.out, ")");
}

static void write_with_dims(Formula f, const char *name, const Node *node) {
    text_printf(f.out, "%s(", name);
    write_argument(f, node->args[0], 0);
    text_add(f.out, ", ");
    add_dims(f.out, node->rank, node->dims);
    text_add(f.out, ")");
}

static void write_shape_op(Formula f, const Node *node, int binds) {
    switch (node->op) {
    case OP_EXPAND:
    case OP_RESHAPE:
        write_with_dims(f, op_table[node->op].name, node);
        break;
    case OP_SLICE:
        write_argument(f, node->args[0], BINDS_NAME);
        text_printf(f.out, "[%lld", (long long)node->integer);
        if (node->rank && node->dims[0] > 1)
            text_printf(f.out, "..%lld", (long long)(node->integer + node->dims[0] - 1));
        text_add(f.out, "]");
        break;
    case OP_CONTRACT:
        write_contract(f, node, binds);
        break;
    case OP_SUM:
        write_axis(f, "sum", node);
        break;
    case OP_MAX_OF:
        write_axis(f, "max", node);
        break;
    case OP_ONE_HOT:
        text_add(f.out, "one_hot(");
        write_argument(f, node->args[0], 0);
        text_printf(f.out, ", %lld)", (long long)node->integer);
        break;
    case OP_CUSTOM:
        write_call(f, node->item ? node->item->name : "custom", node->args + 1, node->arg_count - 1);
        if (f.sheet && f.sheet->every_node) {
            text_add(f.out, " = ");
            write_argument(f, node->args[0], 0);
        }
        break;
    default: /* transpose, concat, argmax, batch_sum, lookup, detach */
        write_call(f, op_table[node->op].name, node->args, node->arg_count);
        break;
    }
}

static void write_node(Formula f, const Node *node, int binds) {
    int level;
    const char *infix = infix_of(node->op, &level);
    f.depth--;
    if (op_table[node->op].class == CLASS_LEAF) {
        write_leaf(f, node, binds);
    } else if (op_table[node->op].class == CLASS_SHAPE) {
        write_shape_op(f, node, binds);
    } else if (infix) {
        write_infix(f, node, infix, level, binds);
    } else if (node->op == OP_NEGATE) {
        text_add(f.out, binds > BINDS_ADD ? "(-" : "-");
        write_argument(f, node->args[0], BINDS_NEGATE + 1);
        text_add(f.out, binds > BINDS_ADD ? ")" : "");
    } else {
        write_call(f, op_table[node->op].name, node->args, node->arg_count);
    }
}

void node_formula(const Node *node, int depth, Text *out) {
    write_node((Formula){NULL, depth, out}, node, 0);
}

void sheet_formula(const Sheet *sheet, const Node *node, Text *out) {
    write_node((Formula){sheet, 1000, out}, node, 0);
}

/* ---- one node, as dumps and BUG() say it ------------------------------------------------------------------------- */

static void print_details(const Node *node, Text *out) {
    switch (node->op) {
    case OP_SUM:
    case OP_MAX_OF:
        if (node->integer != AXIS_ALL)
            text_printf(out, ", axis %lld", (long long)node->integer);
        break;
    case OP_SLICE:
        text_printf(out, ", from %lld", (long long)node->integer);
        break;
    case OP_ONE_HOT:
        text_printf(out, ", %lld", (long long)node->integer);
        break;
    case OP_CUSTOM:
        text_printf(out, ", as %s", node->item ? node->item->name : "?");
        break;
    case OP_CONTRACT:
        text_add(out, ", ");
        for (int side = 0; side < 3; side++) {
            const Node *x = side < 2 && side < node->arg_count ? node->args[side] : node;
            text_add(out, side == 1 ? "," : side == 2 ? "->" : "");
            write_letters(out,
                          side == 0   ? node->contract.left
                          : side == 1 ? node->contract.right
                                      : node->contract.out,
                          x->rank < 0   ? 0
                          : x->rank > 4 ? 4
                                        : x->rank);
        }
        text_add(out, node->contract.over_batch ? ", over the batch" : "");
        break;
    default:
        break;
    }
}

void node_print(const Node *node, Text *out) {
    text_printf(out, "%%%d ", node->id);
    if (node->label) {
        add_name(out, node->label);
        text_add(out, " ");
    }
    text_add(out, "= ");
    if (op_table[node->op].class == CLASS_LEAF) {
        write_leaf((Formula){NULL, 1, out}, node, 0);
    } else {
        text_printf(out, "%s(", op_table[node->op].name);
        for (int i = 0; i < node->arg_count; i++)
            text_printf(out, "%s%%%d", i ? ", " : "", node->args[i]->id);
        print_details(node, out);
        text_add(out, ")");
    }
    static const char *const types[] = {"real", "wide", "index", "truth"};
    text_printf(out, " : %s", types[node->type]);
    if (node->rank > 0 && node->rank <= 4) {
        text_add(out, " ");
        add_dims(out, node->rank, node->dims);
    }
    text_add(out, node->batched ? " batched" : "");
}

/* ---- sheets ------------------------------------------------------------------------------------------------------ */

enum { DEEPEST = 5, LARGEST = 9 }; /* a formula that nests deeper or has more ops gets a line of its own */

bool *nodes_needed(Arena *arena, const Graph *graph, Node *const *roots, int root_count) {
    int count = graph_node_count(graph);
    bool *needed = arena_array(arena, bool, count + 1);
    for (int i = 0; i < root_count; i++)
        needed[roots[i]->id] = true;
    for (int id = count - 1; id >= 0; id--) {
        const Node *node = graph_node(graph, id);
        for (int i = 0; needed[id] && i < node->arg_count; i++)
            needed[node->args[i]->id] = true;
    }
    return needed;
}

int first_shown_argument(const Sheet *sheet, const Node *node) {
    return node->op == OP_CUSTOM && !sheet->every_node ? 1 : 0;
}

/* A constant, perhaps in every element: written where it is used, however often. */
static bool is_plain(const Node *node) {
    return node->op == OP_CONSTANT || (node->op == OP_EXPAND && node->args[0]->op == OP_CONSTANT) ||
           node->op == OP_IOTA;
}

typedef struct Labelled {
    const char *label;
    int id;
} Labelled;

static int compare_labels(const void *x, const void *y) {
    const Labelled *a = x, *b = y;
    int order = strcmp(a->label, b->label);
    return order ? order : a->id - b->id;
}

static bool has_several_models(const Graph *graph) {
    Name owner = NULL;
    for (int id = 0; id < graph_node_count(graph); id++) {
        const Node *node = graph_node(graph, id);
        if (node->op != OP_TENSOR || !node->tensor || node->tensor->state)
            continue;
        if (owner && owner != node->tensor->owner)
            return true;
        owner = node->tensor->owner;
    }
    return false;
}

/* A label that two nodes have names neither, but for a CUSTOM and its value: there it names the CUSTOM. */
static void choose_names(Sheet *sheet) {
    Labelled *labelled = arena_array(sheet->arena, Labelled, sheet->count + 1);
    bool *beside = arena_array(sheet->arena, bool, sheet->count + 1);
    int count = 0;
    for (int id = sheet->count - 1; id >= 0; id--) {
        Node *node = graph_node(sheet->graph, id);
        if (!sheet->needed[id])
            continue;
        if (node->op == OP_CUSTOM && node->label && node->label == node->args[0]->label)
            beside[node->args[0]->id] = true;
        sheet->names[id] = arena_printf(sheet->arena, "%%%d", id);
        if (node->label && !is_plain(node) && !beside[id])
            labelled[count++] = (Labelled){node->op == OP_TENSOR ? tensor_shown(sheet, node->tensor) : node->label, id};
    }
    if (count)
        qsort(labelled, (size_t)count, sizeof *labelled, compare_labels);
    for (int i = 0; i < count; i++) {
        bool before = i > 0 && !strcmp(labelled[i - 1].label, labelled[i].label);
        bool after = i + 1 < count && !strcmp(labelled[i + 1].label, labelled[i].label);
        if (!before && !after)
            sheet->names[labelled[i].id] = labelled[i].label;
    }
}

/* d_fc1.weight becomes d_Net.fc1.weight. */
static void name_gradients(Sheet *sheet, const GraphTrain *train) {
    for (int i = 0; i < train->gradients.count && sheet->several; i++) {
        const Sink *gradient = &train->gradients.at[i];
        const char **name = &sheet->names[gradient->value->id];
        if (*name && !strncmp(*name, "d_", 2) && !strcmp(*name + 2, gradient->tensor->name))
            *name = arena_printf(sheet->arena, "d_%s", tensor_shown(sheet, gradient->tensor));
    }
}

Sheet sheet_of(Arena *arena, const Graph *graph, Node *const *roots, int root_count, bool every_node) {
    int count = graph_node_count(graph);
    Sheet sheet = {.arena = arena, .graph = graph, .count = count, .every_node = every_node};
    sheet.several = has_several_models(graph);
    sheet.needed = arena_array(arena, bool, count + 1);
    sheet.own_line = arena_array(arena, bool, count + 1);
    sheet.names = arena_array(arena, const char *, count + 1);
    int *uses = arena_array(arena, int, count + 1);
    int *depth = arena_array(arena, int, count + 1), *ops = arena_array(arena, int, count + 1);
    for (int i = 0; i < root_count; i++) {
        sheet.needed[roots[i]->id] = true;
        uses[roots[i]->id] += 2;
    }
    for (int id = count - 1; id >= 0; id--) {
        const Node *node = graph_node(graph, id);
        for (int i = first_shown_argument(&sheet, node); sheet.needed[id] && i < node->arg_count; i++) {
            sheet.needed[node->args[i]->id] = true;
            uses[node->args[i]->id]++;
        }
    }
    for (int id = 0; id < count; id++) {
        const Node *node = graph_node(graph, id);
        if (!sheet.needed[id] || is_plain(node))
            continue;
        for (int i = first_shown_argument(&sheet, node); i < node->arg_count; i++) {
            const Node *arg = node->args[i];
            if (sheet.own_line[arg->id])
                continue;
            ops[id] += ops[arg->id];
            if (depth[arg->id] >= depth[id])
                depth[id] = depth[arg->id] + 1;
        }
        ops[id]++;
        sheet.own_line[id] = every_node || node->label || uses[id] > 1 || depth[id] >= DEEPEST || ops[id] >= LARGEST;
    }
    choose_names(&sheet);
    return sheet;
}

/* ---- functions --------------------------------------------------------------------------------------------------- */

enum { NAME_COLUMN = 24, TYPE_COLUMN = 76, PLACE_COLUMN = 102 };

/* "    fc1 = fc1.weight @ x + fc1.bias      real [rows][16]     iris.bp:11" */
static void print_line(const Sheet *sheet, const Node *node, bool number, Text *out) {
    size_t start = out->length;
    text_add(out, "    ");
    if (number) {
        text_printf(out, "%%%d", node->id);
        pad(out, start, 10);
    }
    if (!number || sheet->names[node->id][0] != '%')
        add_name(out, sheet->names[node->id]);
    pad(out, start, NAME_COLUMN);
    text_add(out, "= ");
    sheet_formula(sheet, node, out);
    pad(out, start, TYPE_COLUMN);
    node_type_text(node, out);
    if (node->span.source >= 0) {
        pad(out, start, PLACE_COLUMN);
        span_text(node->span, out);
    }
    text_add(out, "\n");
}

static void print_value(const Sheet *sheet, const Node *node, Text *out) {
    if (sheet->own_line[node->id])
        add_name(out, sheet->names[node->id]);
    else
        sheet_formula(sheet, node, out);
}

static const char *sink_shown(const Sheet *sheet, const GraphFunction *function, const Sink *sink) {
    if (sink->tensor)
        return tensor_shown(sheet, sink->tensor);
    const GraphCheck *check = function->check;
    for (int i = 0; check && sink->buffer && i < check->gradients.count; i++)
        if (check->gradients.at[i] == sink->buffer)
            return arena_printf(sheet->arena, "d_%s", tensor_shown(sheet, check->tensors.at[i]));
    return sink->buffer ? sink->buffer->shown : sink->value->label;
}

static void print_sink(const Sheet *sheet, const GraphFunction *function, const Sink *sink, Text *out) {
    size_t start = out->length;
    text_add(out, "    ");
    add_name(out, sink_shown(sheet, function, sink));
    if (!sink->tensor && node_elements(sink->value) == 1 && sink->buffer && sink->buffer->elements > 1 &&
        !sink->value->batched)
        text_printf(out, "[%lld]", (long long)sink->first);
    pad(out, start, NAME_COLUMN);
    text_add(out, "<- ");
    print_value(sheet, sink->value, out);
    text_add(out, "\n");
}

static void print_function(const GraphProgram *program, const GraphFunction *function, Text *out) {
    add_name(out, function->name);
    text_printf(out, ": %s\n", function->about);
    text_printf(out, "  up to %lld row%s a call", (long long)function->capacity, function->capacity == 1 ? "" : "s");
    if (function->span.source >= 0) {
        text_add(out, ", ");
        span_text(function->span, out);
    }
    text_add(out, function->is_double ? ", every real a double\n" : "\n");
    Arena *arena = arena_new();
    Node **roots = arena_array(arena, Node *, function->sinks.count + 1);
    int count = 0;
    for (int i = 0; i < function->sinks.count; i++)
        roots[count++] = function->sinks.at[i].value;
    if (function->guard)
        roots[count++] = function->guard;
    Sheet sheet = sheet_of(arena, program->graph, roots, count, true);
    for (int i = 0; i < program->trains.count; i++)
        name_gradients(&sheet, program->trains.at[i]);
    for (int id = 0; id < sheet.count; id++)
        if (sheet.own_line[id])
            print_line(&sheet, graph_node(program->graph, id), true, out);
    text_add(out, "  gives\n");
    for (int i = 0; i < function->sinks.count; i++)
        print_sink(&sheet, function, &function->sinks.at[i], out);
    if (function->guard) {
        text_add(out, "  where ");
        print_value(&sheet, function->guard, out);
        text_add(out, " is not finite, no tensor changes\n");
    }
    arena_free(arena);
}

void graph_print(const GraphProgram *program, Text *out) {
    for (int i = 0; i < program->functions.count; i++)
        for (const GraphFunction *part = program->functions.at[i]; part; part = part->next) {
            if (i || part != program->functions.at[i])
                text_add(out, "\n");
            print_function(program, part, out);
        }
}

/* ---- gradients --------------------------------------------------------------------------------------------------- */

/* One of the losses of a step, with the gradients that are taken of it, as a phase of its own. */
static GraphTrain view_of(Arena *arena, const GraphTrain *train, const GraphCheck *check) {
    GraphTrain view = *train;
    view.objective = check->loss->sinks.at[0].value;
    if (check->name)
        view.name = name_of(arena_printf(arena, "%s.%s", train->name, check->name));
    memset(&view.gradients, 0, sizeof view.gradients);
    for (int i = 0; i < train->gradients.count; i++)
        for (int j = 0; j < check->gradient->sinks.count; j++)
            if (check->gradient->sinks.at[j].value == train->gradients.at[i].value) {
                *LIST_ADD(arena, &view.gradients) = train->gradients.at[i];
                break;
            }
    return view;
}

GraphTrain *phase_views(Arena *arena, const GraphProgram *program, int *count) {
    LIST(GraphTrain) views = {0};
    for (int i = 0; i < program->trains.count; i++) {
        const GraphTrain *train = program->trains.at[i];
        if (train->objective)
            *LIST_ADD(arena, &views) = *train;
        for (int j = 0; !train->objective && j < train->checks.count; j++)
            *LIST_ADD(arena, &views) = view_of(arena, train, train->checks.at[j]);
    }
    *count = views.count;
    return views.at;
}

PhaseSheet phase_sheet(Arena *arena, const Graph *graph, const GraphTrain *train) {
    Node **roots = arena_array(arena, Node *, train->gradients.count + 1);
    roots[0] = train->objective;
    for (int i = 0; i < train->gradients.count; i++)
        roots[i + 1] = train->gradients.at[i].value;
    PhaseSheet phase;
    phase.sheet = sheet_of(arena, graph, roots, train->gradients.count + 1, false);
    name_gradients(&phase.sheet, train);
    phase.forward = nodes_needed(arena, graph, roots, 1);
    return phase;
}

/* d_fc1.weight when that is what the node is called: its line stands among the gradients then. */
static bool is_gradient_line(const GraphTrain *train, const Sheet *sheet, const Node *node) {
    for (int i = 0; i < train->gradients.count; i++) {
        const char *name = sheet->names[node->id];
        if (train->gradients.at[i].value == node && !strncmp(name, "d_", 2) &&
            !strcmp(name + 2, tensor_shown(sheet, train->gradients.at[i].tensor)))
            return true;
    }
    return false;
}

static void print_gradient(const GraphTrain *train, const Sheet *sheet, const Sink *gradient, Text *out) {
    const Node *node = gradient->value;
    size_t start = out->length;
    const char *shown = tensor_shown(sheet, gradient->tensor);
    if (is_gradient_line(train, sheet, node) && !strcmp(sheet->names[node->id] + 2, shown)) {
        print_line(sheet, node, false, out);
        return;
    }
    text_add(out, "    d_");
    add_name(out, shown);
    pad(out, start, NAME_COLUMN);
    text_add(out, "= ");
    print_value(sheet, node, out);
    pad(out, start, TYPE_COLUMN);
    node_type_text(node, out);
    text_add(out, "\n");
}

static void print_phase(const GraphProgram *program, const GraphTrain *train, Text *out) {
    Arena *arena = arena_new();
    add_name(out, train->name);
    text_add(out, ": the loss and its derivative with respect to what is trained");
    if (train->plan && train->plan->span.source >= 0) {
        text_add(out, ", ");
        span_text(train->plan->span, out);
    }
    PhaseSheet phase = phase_sheet(arena, program->graph, train);
    const Sheet *sheet = &phase.sheet;
    static const char *const titles[] = {"\n  forward\n", "  backward\n"};
    for (int backward = 0; backward < 2; backward++) {
        text_add(out, titles[backward]);
        for (int id = 0; id < sheet->count; id++) {
            const Node *node = graph_node(program->graph, id);
            if (sheet->own_line[id] && phase.forward[id] == !backward && !is_gradient_line(train, sheet, node))
                print_line(sheet, node, false, out);
        }
    }
    text_add(out, "  gradients\n");
    for (int i = 0; i < train->gradients.count; i++)
        print_gradient(train, sheet, &train->gradients.at[i], out);
    if (train->frozen.count) {
        text_add(out, "  frozen: ");
        for (int i = 0; i < train->frozen.count; i++) {
            text_add(out, i ? ", " : "");
            add_name(out, tensor_shown(sheet, train->frozen.at[i]));
        }
        text_add(out, " (no gradient)\n");
    }
    arena_free(arena);
}

void graph_print_gradient(const GraphProgram *program, Text *out) {
    Arena *arena = arena_new();
    int count;
    const GraphTrain *views = phase_views(arena, program, &count);
    for (int i = 0; i < count; i++) {
        if (i)
            text_add(out, "\n");
        print_phase(program, &views[i], out);
    }
    arena_free(arena);
}
