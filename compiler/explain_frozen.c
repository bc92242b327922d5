/* --explain=frozen: for each phase what is frozen, what of it is computed once, and why the rest is not. */
#include "explain.h"

static void print_layers(const char *title, const Name *layers, int count, Text *out) {
    text_printf(out, "  %-14s", title);
    for (int i = 0; i < count; i++)
        text_printf(out, "%s%s", i ? ", " : "", layers[i]);
}

static void print_frozen(const GraphTrain *train, Text *out) {
    LIST(Name) names = {0};
    Arena *arena = arena_new();
    int64_t numbers = 0;
    for (int i = 0; i < train->frozen.count; i++) {
        *LIST_ADD(arena, &names) = train->frozen.at[i]->name;
        int64_t count = 1;
        for (int j = 0; j < train->frozen.at[i]->rank; j++)
            count *= train->frozen.at[i]->dims[j];
        numbers += count;
    }
    print_layers("frozen", names.at, names.count, out);
    text_printf(out, ": %lld number%s\n", (long long)numbers, numbers == 1 ? "" : "s");
    arena_free(arena);
}

static void print_kept(const GraphTrain *train, Text *out) {
    int64_t bytes = 0;
    if (!train->kept.count)
        return;
    print_layers("computed once", train->kept_layers.at, train->kept_layers.count, out);
    text_add(out, train->kept_layers.count ? "\n" : "a part of what is below\n");
    for (int i = 0; i < train->kept.count; i++) {
        const Node *input = train->kept.at[i].input;
        int64_t elements = node_elements(train->kept.at[i].value);
        text_printf(out, "  %-14s%s, %lld number%s of each row\n", i ? "" : "kept", input->label, (long long)elements,
                    elements == 1 ? "" : "s");
        bytes += 4 * elements;
    }
    text_printf(out, "  %-14s%lld bytes\n", "a row takes", (long long)bytes);
    text_printf(out, "  %-14s%.4g operations for a row, not %.4g\n", "a step does", train->work_after,
                train->work_before);
}

static void print_cause(const UnkeptLayer *unkept, Text *out) {
    const Node *cause = unkept->cause;
    if (!cause) {
        text_add(out, "what it gives takes longer to read than to compute\n");
        return;
    }
    if (unkept->through)
        text_printf(out, "it reads '%s', which ", unkept->through);
    else
        text_add(out, "what it reads ");
    switch (cause->op) {
    case OP_TENSOR:
        text_printf(out, "depends on '%s', which is trained\n", cause->tensor->name);
        break;
    case OP_RANDOM:
        text_add(out, "is random\n");
        break;
    case OP_SCALAR:
        text_add(out, "changes with the number of rows in the batch\n");
        break;
    default:
        text_add(out, "depends on the other rows of the batch\n");
    }
}

void explain_frozen(const GraphProgram *program, Text *out) {
    for (int i = 0; i < program->trains.count; i++) {
        const GraphTrain *train = program->trains.at[i];
        text_printf(out, "%s%s:\n", i ? "\n" : "", train->name);
        if (!train->frozen.count) {
            text_add(out, "  nothing is frozen\n");
            continue;
        }
        print_frozen(train, out);
        print_kept(train, out);
        for (int j = 0; j < train->unkept.count; j++) {
            text_printf(out, "  %-14s%s: ", j ? "" : "in every step", train->unkept.at[j].layer);
            print_cause(&train->unkept.at[j], out);
        }
    }
}
