/* `augment image : shift(pixels = 2), rotate(degrees = 10)`: inputs of training rows are changed at random, each row and
   step by draws of its own. Images are rows of pixels, height * width; what comes in from outside is 0. */
#include "build.h"

#include <math.h>
#include <string.h>

typedef struct Augment {
    Build *build;
    Graph *graph;
    const Expr *call; /* shift(pixels = 2) */
    Name name;        /* shift */
    Name input;
    int number; /* of the change, for its draws */
    int draws;
    const Node *shaped; /* the input, as it is shaped in the model */
    int64_t height, width;
    Node *row, *column; /* of each pixel */
} Augment;

static Node *op2(Augment *a, Op op, Node *x, Node *y) {
    return node_op(a->graph, op, x, y, NULL);
}

static Node *number(Augment *a, double value) {
    return node_constant(a->graph, value);
}

static Node *plus(Augment *a, Node *x, double value) {
    return op2(a, OP_ADD, x, number(a, value));
}

static Node *times(Augment *a, Node *x, double value) {
    return op2(a, OP_MULTIPLY, x, number(a, value));
}

/* Uniform in [0, 1), or normal: one for each row, or one for each element of like. */
static Node *draw(Augment *a, bool normal, const Node *like) {
    uint32_t stream = hash_text(arena_printf(a->build->arena, "augment %s, %d, draw %d%s", a->input, a->number,
                                             a->draws++, a->build->partner ? ", partner" : ""));
    return node_random(a->graph, normal, stream, true, like ? like->rank : 0, like ? like->dims : NULL);
}

/* ---- Options ----------------------------------------------------------------------------------------------------- */
static bool option(Augment *a, const char *name, double least, double most, double *value) {
    const Args *args = a->call->kind == EXPR_CALL ? &a->call->call.args : NULL;
    const Expr *given = NULL;
    for (int i = 0; args && i < args->count; i++)
        if (args->at[i].name && strcmp(args->at[i].name, name) == 0)
            given = args->at[i].value;
    if (!given) {
        build_error(a->build, a->call->span, "'%s' says how much: %s(%s = …)", a->name, a->name, name);
        return false;
    }
    if (!check_number(a->build->program, given, name, value))
        return false;
    if (*value >= least && *value <= most)
        return true;
    build_error(a->build, given->span, "'%s' of '%s' is from %g to %g", name, a->name, least, most);
    return false;
}

static bool known_options(Augment *a, const char *first, const char *second) {
    const Args *args = a->call->kind == EXPR_CALL ? &a->call->call.args : NULL;
    for (int i = 0; args && i < args->count; i++) {
        const Arg *arg = &args->at[i];
        bool known =
            arg->name && ((first && strcmp(arg->name, first) == 0) || (second && strcmp(arg->name, second) == 0));
        if (known)
            continue;
        build_error(a->build, arg->name ? arg->name_span : arg->value->span, "'%s' takes %s%s%s%s", a->name,
                    first ? "'" : "nothing", first ? first : "", first ? "'" : "",
                    second ? arena_printf(a->build->arena, " and '%s'", second) : "");
        return false;
    }
    return true;
}

/* ---- Pixels ------------------------------------------------------------------------------------------------------ */
static bool shape_option(Augment *a, const Node *x, const Expr *given) {
    int64_t sizes[2];
    if (given->kind != EXPR_LIST || given->list.count != 2) {
        build_error(a->build, given->span, "a shape is a height and a width: shape = [28, 28]");
        return false;
    }
    for (int i = 0; i < 2; i++)
        if (!check_integer(a->build->program, given->list.at[i].value, "a size", 1, &sizes[i]))
            return false;
    a->height = sizes[0];
    a->width = sizes[1];
    if (a->height * a->width == node_elements(x))
        return true;
    build_error(a->build, given->span, "'%s' has %lld numbers, and this shape %lld", a->input,
                (long long)node_elements(x), (long long)(a->height * a->width));
    return false;
}

/* Height and width: the array's, as `shape` says, or those of a square. */
static bool find_shape(Augment *a, const Node *x) {
    const Args *args = a->call->kind == EXPR_CALL ? &a->call->call.args : NULL;
    for (int i = 0; args && i < args->count; i++)
        if (args->at[i].name && strcmp(args->at[i].name, "shape") == 0)
            return shape_option(a, x, args->at[i].value);
    int64_t side = (int64_t)llround(sqrt((double)node_elements(x)));
    a->height = x->rank == 2 ? x->dims[0] : side;
    a->width = x->rank == 2 ? x->dims[1] : side;
    if (x->rank <= 2 && a->height * a->width == node_elements(x))
        return true;
    build_error(a->build, a->call->span, "'%s' is %s: say its height and width, %s(…, shape = [28, 28])", a->input,
                node_shape(a->build->arena, x), a->name);
    return false;
}

static void place_pixels(Augment *a) {
    Node *at = node_op(a->graph, OP_REAL, node_iota(a->graph, a->height * a->width), NULL, NULL);
    a->row = node_op(a->graph, OP_FLOOR, op2(a, OP_DIVIDE, plus(a, at, 0.5), number(a, (double)a->width)), NULL, NULL);
    a->column = op2(a, OP_SUBTRACT, at, times(a, a->row, (double)a->width));
}

/* The pixel of x at whole rows and columns. */
static Node *pixel(Augment *a, Node *x, Node *row, Node *column) {
    Node *above = op2(a, OP_LESS, row, number(a, 0)), *left = op2(a, OP_LESS, column, number(a, 0));
    Node *below = op2(a, OP_LESS_EQUAL, number(a, (double)a->height), row);
    Node *right = op2(a, OP_LESS_EQUAL, number(a, (double)a->width), column);
    Node *outside = op2(a, OP_OR, op2(a, OP_OR, above, left), op2(a, OP_OR, below, right));
    Node *place = op2(a, OP_ADD, times(a, row, (double)a->width), column);
    return node_gather(a->graph, x, node_op(a->graph, OP_WHERE, outside, number(a, -1), place));
}

/* Between pixels: the four around, weighed by how near they are. */
static Node *between(Augment *a, Node *x, Node *row, Node *column) {
    Node *top = node_op(a->graph, OP_FLOOR, row, NULL, NULL), *left = node_op(a->graph, OP_FLOOR, column, NULL, NULL);
    Node *down = op2(a, OP_SUBTRACT, row, top), *along = op2(a, OP_SUBTRACT, column, left), *sum = NULL;
    for (int i = 0; i < 4; i++) {
        Node *vertical = i / 2 ? down : op2(a, OP_SUBTRACT, number(a, 1), down);
        Node *horizontal = i % 2 ? along : op2(a, OP_SUBTRACT, number(a, 1), along);
        Node *part = op2(a, OP_MULTIPLY, op2(a, OP_MULTIPLY, vertical, horizontal),
                         pixel(a, x, plus(a, top, i / 2), plus(a, left, i % 2)));
        sum = sum ? op2(a, OP_ADD, sum, part) : part;
    }
    return sum;
}

/* ---- The changes ------------------------------------------------------------------------------------------------- */
/* A whole number of pixels from -n to n, down and to the right. */
static Node *shift(Augment *a, Node *x) {
    double pixels;
    if (!known_options(a, "pixels", "shape") || !option(a, "pixels", 0, 10000, &pixels))
        return NULL;
    Node *moved[2];
    for (int i = 0; i < 2; i++) {
        Node *steps = node_op(a->graph, OP_FLOOR, times(a, draw(a, false, NULL), 2 * floor(pixels) + 1), NULL, NULL);
        moved[i] = op2(a, OP_ADD, i ? a->column : a->row, plus(a, steps, -floor(pixels)));
    }
    return pixel(a, x, moved[0], moved[1]);
}

/* About the middle, by an angle from -n to n. */
static Node *rotate(Augment *a, Node *x) {
    double degrees, y0 = (double)(a->height - 1) / 2, x0 = (double)(a->width - 1) / 2;
    if (!known_options(a, "degrees", "shape") || !option(a, "degrees", 0, 180, &degrees))
        return NULL;
    double most = degrees * 3.14159265358979323846 / 180;
    Node *angle = plus(a, times(a, draw(a, false, NULL), 2 * most), -most);
    Node *cosine = node_op(a->graph, OP_COS, angle, NULL, NULL), *sine = node_op(a->graph, OP_SIN, angle, NULL, NULL);
    Node *dy = plus(a, a->row, -y0), *dx = plus(a, a->column, -x0);
    Node *from_row = op2(a, OP_ADD, op2(a, OP_MULTIPLY, cosine, dy), op2(a, OP_MULTIPLY, sine, dx));
    Node *from_column = op2(a, OP_SUBTRACT, op2(a, OP_MULTIPLY, cosine, dx), op2(a, OP_MULTIPLY, sine, dy));
    return between(a, x, plus(a, from_row, y0), plus(a, from_column, x0));
}

/* A window of the image, its sides from `least` to all of the image's, drawn as large as the image. */
static Node *crop(Augment *a, Node *x) {
    double least;
    if (!known_options(a, "least", "shape") || !option(a, "least", 0.01, 1, &least))
        return NULL;
    Node *share = plus(a, times(a, draw(a, false, NULL), 1 - least), least);
    Node *left_over = op2(a, OP_SUBTRACT, number(a, 1), share);
    Node *top = op2(a, OP_MULTIPLY, left_over, times(a, draw(a, false, NULL), (double)(a->height - 1)));
    Node *left = op2(a, OP_MULTIPLY, left_over, times(a, draw(a, false, NULL), (double)(a->width - 1)));
    return between(a, x, op2(a, OP_ADD, top, op2(a, OP_MULTIPLY, share, a->row)),
                   op2(a, OP_ADD, left, op2(a, OP_MULTIPLY, share, a->column)));
}

/* Left and right change places in every other image; flip(vertical): top and bottom. */
static Node *flip(Augment *a, Node *x) {
    const Args *args = a->call->kind == EXPR_CALL ? &a->call->call.args : NULL;
    bool vertical = false;
    for (int i = 0; args && i < args->count; i++) {
        const Arg *arg = &args->at[i];
        const Expr *value = arg->value;
        if (arg->name && strcmp(arg->name, "shape") == 0)
            continue;
        vertical = !arg->name && value->kind == EXPR_NAME && strcmp(value->name, "vertical") == 0;
        if (arg->name || value->kind != EXPR_NAME || (!vertical && strcmp(value->name, "horizontal") != 0)) {
            build_error(a->build, value->span, "flip is flip(horizontal) or flip(vertical)");
            return NULL;
        }
    }
    Node *turned = op2(a, OP_LESS, draw(a, false, NULL), number(a, 0.5));
    Node *along = vertical ? a->row : a->column;
    Node *other = op2(a, OP_SUBTRACT, number(a, (double)(vertical ? a->height : a->width) - 1), along);
    Node *place = node_op(a->graph, OP_WHERE, turned, other, along);
    return vertical ? pixel(a, x, place, a->column) : pixel(a, x, a->row, place);
}

/* Normal noise of this deviation, in the units that the model is given. */
static Node *noise(Augment *a, Node *x) {
    double deviation;
    if (!known_options(a, "std", NULL) || !option(a, "std", 0, 1e6, &deviation))
        return NULL;
    return op2(a, OP_ADD, x, times(a, draw(a, true, x), deviation));
}

/* As a layer of dropout: what stays is 1 / (1 - rate) times as large. */
static Node *drop(Augment *a, Node *x) {
    double rate;
    if (!known_options(a, "rate", NULL) || !option(a, "rate", 0, 0.999, &rate))
        return NULL;
    Node *gone = op2(a, OP_LESS, draw(a, false, x), number(a, rate));
    return node_op(a->graph, OP_WHERE, gone, number(a, 0), times(a, x, 1 / (1 - rate)));
}

static Node *augment_once(Augment *a, Node *x) {
    static const struct {
        const char *name;
        Node *(*apply)(Augment *, Node *);
        bool image;
    } changes[] = {{"shift", shift, true}, {"rotate", rotate, true}, {"crop", crop, true},
                   {"flip", flip, true},   {"noise", noise, false},  {"dropout", drop, false}};
    LIST(Name) names = {0};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        *LIST_ADD(a->build->arena, &names) = name_of(changes[i].name);
        if (strcmp(changes[i].name, a->name) != 0)
            continue;
        if (changes[i].image && !find_shape(a, a->shaped))
            return NULL;
        if (changes[i].image)
            place_pixels(a);
        return changes[i].apply(a, x);
    }
    Name near = nearest_name(a->name, names.at, names.count);
    build_error(a->build, a->call->span, "'%s' is no way to augment%s%s%s", a->name,
                near ? "; did you mean '" : "; there are shift, rotate, crop, flip, noise and dropout",
                near ? near : "", near ? "'?" : "");
    return NULL;
}

/* All changes of one line, in order, to the input's node. */
static Node *augment_line(Build *build, const Setting *line, Name input, Node *node, int *number) {
    const int rank = node->rank;
    int64_t dims[4], width = node_elements(node);
    memcpy(dims, node->dims, sizeof dims);
    for (int i = 0; i < line->transforms.count; i++) {
        const Expr *call = line->transforms.at[i].value;
        const Expr *name = call->kind == EXPR_CALL ? call->call.callee : call;
        Augment a = {.build = build, .graph = build->graph, .call = call, .input = input, .number = (*number)++};
        Span before = graph_set_span(build->graph, call->span);
        a.name = name->kind == EXPR_NAME ? name->name : name_of("?");
        a.shaped = node_reshape(build->graph, node, rank, dims);
        node = augment_once(&a, node_reshape(build->graph, node, 1, &width));
        graph_set_span(build->graph, before);
        if (!node)
            return NULL;
        node = node_reshape(build->graph, node, 1, &width);
        node_label(node,
                   name_of(arena_printf(build->arena, "%s%s_%s", build->partner ? "partner_" : "", input, a.name)));
    }
    return node_reshape(build->graph, node, rank, dims);
}

static Node *augment_named(Build *build, const TrainPlan *plan, Name input, Node *node) {
    int number = 0, names = 0;
    for (int i = 0; node && i < plan->augments.count; i++) {
        const Setting *line = plan->augments.at[i];
        for (int j = 0; j < line->args.count && node; j++, names++) {
            if (line->args.at[j].value->name != input)
                continue;
            build->augmented[names] = true;
            if (node->type != TYPE_REAL || node->op == OP_ONE_HOT) {
                build_error(build, line->args.at[j].value->span, "'%s' is no vector of numbers", input);
                return NULL;
            }
            node = augment_line(build, line, input, node, &number);
        }
    }
    return node;
}

Node *augment_input(Build *build, const DataSet *data, const DataGroup *group, Name called) {
    const TrainPlan *plan = build->augmenting;
    Name input = group->name ? group->name : called;
    Node *own = data_group_node(build, data, group);
    if (!plan)
        return own;
    own = augment_named(build, plan, input, own);
    if (!own || plan->mixup == 0)
        return own;
    if (own->type != TYPE_REAL || own->op == OP_ONE_HOT) {
        build_error(build, plan->mixup_span, "mixup mixes numbers, but the input '%s' is a %s", input,
                    data->slots[group->first_slot].form == BP_SLOT_WORDS ? "text" : "category");
        build_note(build, group->span, "it stands here");
        return NULL;
    }
    build->partner = true;
    Node *partner = augment_named(build, plan, input, data_group_node(build, data, group));
    build->partner = false;
    Node *node = partner ? mixup(build, plan, own, partner) : NULL;
    if (node)
        node_label(node, name_of(arena_printf(build->arena, "mixed_%s", input)));
    return node;
}

static bool augment_bound(Build *build, const TrainPlan *plan, Name input, AugmentedInputs *inputs) {
    const Binding *binding = scope_find(build, input);
    Node *given = binding->term.node, *node = augment_named(build, plan, input, given);
    if (!node)
        return false;
    if (node != given) {
        scope_bind(build, input, binding->span, term_node(node, binding->term.span));
        *LIST_ADD(build->arena, inputs) = (AugmentedInput){given, node};
    }
    return true;
}

bool augment_names(Build *build, const TrainPlan *plan, AugmentedInputs *inputs) {
    const DataSet *data = plan->data;
    bool ok = true;
    augment_start(build, plan);
    for (int i = 0; i < data->group_count; i++) {
        const DataGroup *group = &data->groups[i];
        if (group->target)
            continue;
        if (group->name)
            ok = augment_bound(build, plan, group->name, inputs) && ok;
        for (int j = 0; j < group->slot_count && !group->name; j++) {
            const DataSlot *slot = &data->slots[group->first_slot + j];
            for (int k = 0; k < (slot->category ? 1 : slot->column_count); k++)
                ok = augment_bound(build, plan, data->columns[slot->columns[k]].name, inputs) && ok;
        }
    }
    return ok && augment_all_used(build, plan);
}

void augment_start(Build *build, const TrainPlan *plan) {
    int names = 0;
    for (int i = 0; i < plan->augments.count; i++)
        names += plan->augments.at[i]->args.count;
    build->augmented = arena_array(build->arena, bool, names + 1);
}

bool augment_all_used(Build *build, const TrainPlan *plan) {
    bool used = true;
    for (int i = 0, names = 0; i < plan->augments.count; i++) {
        const Args *args = &plan->augments.at[i]->args;
        for (int j = 0; j < args->count; j++, names++)
            if (!build->augmented[names]) {
                const Expr *name = args->at[j].value;
                build_error(build, name->span, "'%s' has no input '%s'%s to augment", plan->data->name, name->name,
                            plan->step ? "" : " of the model");
                used = false;
            }
    }
    return used;
}
