/* What --emit=header and -c make of a program: functions whose names come from the .bp file, structs for its rows. The
   functions themselves are calls of runtime/host.c with one constant; both printers make them from the same list. */
#include "host.h"

#include <ctype.h>
#include <string.h>

/* ---- Identifiers ----------------------------------------------------------------------------------------------------
 */

/* Of C and C++, and what <stdint.h> and <stddef.h> define. */
static const char *const keywords[] = {
    "alignas",  "alignof",  "and",           "asm",          "auto",     "bool",        "break",     "case",
    "catch",    "char",     "class",         "compl",        "concept",  "const",       "constexpr", "continue",
    "decltype", "default",  "delete",        "do",           "double",   "else",        "enum",      "explicit",
    "export",   "extern",   "false",         "float",        "for",      "friend",      "goto",      "if",
    "inline",   "int",      "int32_t",       "int64_t",      "long",     "mutable",     "namespace", "new",
    "noexcept", "not",      "nullptr",       "operator",     "or",       "private",     "protected", "public",
    "register", "requires", "restrict",      "return",       "short",    "signed",      "sizeof",    "static",
    "struct",   "switch",   "template",      "this",         "throw",    "true",        "try",       "typedef",
    "typeid",   "typename", "typeof",        "union",        "unsigned", "using",       "uint64_t",  "virtual",
    "void",     "volatile", "wchar_t",       "while",        "xor",      "static_cast", "NULL",      "linux",
    "unix",     "offsetof", "static_assert", "thread_local", "size_t",
};

typedef LIST(const char *) Taken;

static bool is_taken(const Taken *taken, const char *name) {
    for (int i = 0; i < taken->count; i++)
        if (strcmp(taken->at[i], name) == 0)
            return true;
    return false;
}

/* Letters, digits and single underscores of the wish; never empty, never beginning with a digit. */
static char *cleaned(Arena *arena, const char *wish) {
    char *name = arena_printf(arena, "%s", wish);
    size_t length = 0;
    for (const char *at = name; *at; at++) {
        if (isalnum((unsigned char)*at) && (unsigned char)*at < 128)
            name[length++] = *at;
        else if (length == 0 || name[length - 1] != '_')
            name[length++] = '_';
    }
    while (length > 0 && name[length - 1] == '_')
        length--;
    name[length] = '\0';
    while (*name == '_')
        name++;
    return *name == '\0'                   ? arena_printf(arena, "x")
           : isdigit((unsigned char)*name) ? arena_printf(arena, "x%s", name)
                                           : name;
}

static const char *identifier(Arena *arena, Taken *taken, const char *wish) {
    const char *name = cleaned(arena, wish);
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(name, keywords[i]) == 0)
            name = arena_printf(arena, "%s_", name);
    const char *first = name;
    for (int i = 2; is_taken(taken, name); i++)
        name = arena_printf(arena, "%s_%d", first, i);
    *LIST_ADD(arena, taken) = name;
    return name;
}

static const char *upper(Arena *arena, const char *text) {
    char *name = arena_printf(arena, "%s", text);
    for (char *at = name; *at; at++)
        *at = (char)toupper((unsigned char)*at);
    return name;
}

/* `pendulum`, or `pendulum_Net` where there are several of a kind. */
static const char *prefix_of(Arena *arena, const struct bp_program *program, const char *name, int several) {
    const char *prefix = cleaned(arena, program->name);
    if (strcmp(prefix, "bp") == 0) /* bp_ is the runtime's */
        prefix = "bp_program";
    return several ? arena_printf(arena, "%s_%s", prefix, cleaned(arena, name)) : prefix;
}

static const char *data_prefix(Arena *arena, const struct bp_program *program, int32_t data) {
    return prefix_of(arena, program, program->data[data].name, program->data_count > 1);
}

static const char *model_prefix(Arena *arena, const struct bp_program *program, int32_t model) {
    return prefix_of(arena, program, program->models[model].name, program->model_count > 1);
}

static const char *train_prefix(Arena *arena, const struct bp_program *program, int32_t train) {
    return prefix_of(arena, program, program->trains[train].name, program->train_count > 1);
}

/* ---- The program and its functions
 * ------------------------------------------------------------------------------------ */

const struct bp_program *host_program(Arena *arena, const struct bp_program *program) {
    struct bp_program *host = arena_new_of(arena, struct bp_program);
    struct bp_train *trains = arena_array(arena, struct bp_train, program->train_count + 1);
    struct bp_data *data = arena_array(arena, struct bp_data, program->data_count + 1);
    *host = *program;
    for (int32_t i = 0; i < program->train_count; i++) {
        trains[i] = program->trains[i];
        trains[i].validation = (struct bp_measure){0};
        trains[i].early_stopping = (struct bp_early_stopping){.metric = -1};
        trains[i].checks = NULL;
        trains[i].check_count = 0;
    }
    for (int32_t i = 0; i < program->data_count; i++) {
        data[i] = program->data[i];
        data[i].file_count = 0;
        data[i].row_count = 0;
        data[i].rows = NULL;
    }
    host->trains = trains;
    host->data = data;
    host->evaluate_count = 0;
    host->statement_count = 0;
    return host;
}

static bool can_predict(const struct bp_model *model) {
    return model->data >= 0 && model->predict.name;
}

static void add(Arena *arena, HostFunctions *list, Taken *taken, const char *wish, const char *calls,
                const char *signature, int32_t about) {
    *LIST_ADD(arena, list) = (HostFunction){identifier(arena, taken, wish), calls, signature, about};
}

/* In the order in which the header declares them, about which see there. */
HostFunctions host_functions(Arena *arena, const struct bp_program *program) {
    HostFunctions list = {0};
    Taken taken = {0};
    const char *prefix = prefix_of(arena, program, "", 0);
#define ADD(verb, prefix, signature, about)                                                                            \
    add(arena, &list, &taken, arena_printf(arena, "%s_" #verb, prefix), "bp_host_" #verb, signature, about)
    ADD(create, prefix, "p:Pu", 0);
    ADD(destroy, prefix, "v:p", 0);
    ADD(error, prefix, "c:", 0);
    ADD(threads, prefix, "i:pi", 0);
    if (program->param_count > 0)
        ADD(set, prefix, "i:pcd", 0);
    for (int32_t i = 0; i < program->data_count; i++)
        if (program->data[i].fitted_count > 0)
            ADD(fit, data_prefix(arena, program, i), "i:pIccl", i);
    for (int32_t i = 0; i < program->train_count; i++)
        if (program->trains[i].data >= 0)
            ADD(train_step, train_prefix(arena, program, i), "i:pIcclp", i);
    for (int32_t i = 0; i < program->train_count; i++)
        if (program->trains[i].data >= 0)
            ADD(plan, train_prefix(arena, program, i), "i:pIll", i);
    for (int32_t i = 0; i < program->model_count; i++)
        if (can_predict(&program->models[i]))
            ADD(predict, model_prefix(arena, program, i), "i:pIclp", i);
    for (int32_t i = 0; i < program->model_count; i++) {
        ADD(save, model_prefix(arena, program, i), "i:pIc", i);
        ADD(load, model_prefix(arena, program, i), "i:pIc", i);
    }
#undef ADD
    return list;
}

bool host_possible(const struct bp_program *program) {
    for (int32_t i = 0; i < program->data_count; i++)
        for (int32_t j = 0; j < program->data[i].slot_count; j++)
            if (program->data[i].slots[j].form == BP_SLOT_WORDS) {
                error_plain("a host program cannot give text, such as '%s' of '%s', to a network yet",
                            program->data[i].slots[j].name, program->data[i].name);
                return false;
            }
    return true;
}

void host_reserve(Arena *arena, const struct bp_program *program, CNames *names) {
    HostFunctions functions = host_functions(arena, program);
    for (int i = 0; i < functions.count; i++)
        c_name(names, functions.at[i].name, functions.at[i].name, SCOPE_GLOBAL);
}

/* ---- Rows
 * ---------------------------------------------------------------------------------------------------------------- */

enum {
    MOST_CLASSES = 256, /* that have names of their own in the header */
    MOST_FIELDS = 512,  /* of a slot that has no name in the program */
};

typedef struct Header {
    Arena *arena;
    const struct bp_program *program;
    Text *out;
    Taken enums; /* whose classes are written */
    Taken constants;
} Header;

static void put_text(Header *h, const char *text) {
    Text comment = {0};
    print_comment(&comment, text);
    text_add_bytes(h->out, comment.at ? comment.at : "", comment.length);
    text_free(&comment);
}

static const char *class_name(Header *h, const char *const *classes, int32_t index) {
    return classes ? classes[index] : arena_printf(h->arena, "%d", (int)index);
}

/* IRIS_SPECIES_SETOSA … and IRIS_SPECIES_NAMES; `classes` as a column's categories */
static void print_classes(Header *h, const char *prefix, const char *of, const char *const *classes, int32_t count) {
    const char *name = upper(h->arena, arena_printf(h->arena, "%s_%s", prefix, cleaned(h->arena, of)));
    if (is_taken(&h->enums, name) || count < 1 || count > MOST_CLASSES)
        return;
    *LIST_ADD(h->arena, &h->enums) = name;
    text_add(h->out, "/* ");
    put_text(h, of);
    text_add(h->out, " */\nenum {\n");
    for (int32_t i = 0; i < count; i++)
        text_printf(h->out, "    %s%s\n",
                    identifier(h->arena, &h->constants,
                               upper(h->arena, arena_printf(h->arena, "%s_%s", name, class_name(h, classes, i)))),
                    i + 1 < count ? "," : "");
    text_printf(h->out, "};\n#define %s {",
                identifier(h->arena, &h->constants, arena_printf(h->arena, "%s_NAMES", name)));
    for (int32_t i = 0; i < count; i++) {
        text_add(h->out, i ? ", " : "");
        text_c_string(h->out, class_name(h, classes, i));
    }
    text_add(h->out, "}\n\n");
}

static void print_field(Header *h, Taken *fields, const char *type, const char *name, int32_t width,
                        const char *about) {
    const char *field = identifier(h->arena, fields, name);
    if (width > 1)
        text_printf(h->out, "    %s %s[%d];", type, field, (int)width);
    else
        text_printf(h->out, "    %s %s;", type, field);
    if (about || strcmp(field, name) != 0) {
        text_add(h->out, " /* ");
        if (strcmp(field, name) != 0) {
            put_text(h, name);
            text_add(h->out, about ? ", " : "");
        }
        put_text(h, about ? about : "");
        text_add(h->out, " */");
    }
    text_add(h->out, "\n");
}

static void print_slot(Header *h, const struct bp_data *data, const struct bp_slot *slot, Taken *fields) {
    const struct bp_column *first = &data->columns[slot->columns[0]];
    const char *type = slot->type == BP_I32 ? "int32_t" : "float";
    if (slot->form == BP_SLOT_ARRAY) {
        print_field(h, fields, type, first->name, slot->width, NULL);
        return;
    }
    bool own = strcmp(slot->name, slot->is_target ? "targets" : "numbers") != 0; /* the checker calls them so */
    bool named = slot->width > 1 && strcmp(slot->name, first->name) != 0 && (own || slot->width > MOST_FIELDS);
    if (named) {
        const struct bp_column *last = &data->columns[slot->columns[slot->width - 1]];
        print_field(h, fields, type, slot->name, slot->width,
                    arena_printf(h->arena, "%s to %s", first->name, last->name));
        return;
    }
    for (int32_t i = 0; i < slot->width; i++) {
        const struct bp_column *column = &data->columns[slot->columns[i]];
        print_field(h, fields, type, column->name, 1,
                    slot->type == BP_I32 ? arena_printf(h->arena, "0 to %d", (int)column->category_count - 1) : NULL);
    }
}

static void print_rows(Header *h, int32_t index) {
    const struct bp_data *data = &h->program->data[index];
    const char *prefix = data_prefix(h->arena, h->program, index);
    for (int32_t i = 0; i < data->column_count; i++)
        if (data->columns[i].kind == BP_CATEGORY)
            print_classes(h, prefix, data->columns[i].name, data->columns[i].categories,
                          data->columns[i].category_count);
    for (int32_t targets = 0; targets < 2; targets++) {
        Taken fields = {0};
        bool any = false;
        for (int32_t i = 0; i < data->slot_count; i++)
            any |= data->slots[i].is_target == targets;
        if (!any)
            continue;
        text_printf(
            h->out, "/* One row of %s, in the units of its file: what %s. */\nstruct %s_%s {\n", data->name,
            targets ? "is to be learned"
                    : "the network is given. NAN is a missing number, -1 a missing or\n   unknown category, where the "
                      "program says what becomes of those",
            prefix, targets ? "target" : "input");
        for (int32_t i = 0; i < data->slot_count; i++)
            if (data->slots[i].is_target == targets)
                print_slot(h, data, &data->slots[i], &fields);
        text_add(h->out, "};\n\n");
    }
}

static void print_output(Header *h, const struct bp_output *output, Taken *fields) {
    if (output->kind != BP_OUTPUT_NUMBER) {
        int32_t count = output->kind == BP_OUTPUT_BINARY ? 2 : output->width;
        print_field(h, fields, "int32_t", output->name, 1,
                    arena_printf(h->arena, "the class: 0 to %d", (int)count - 1));
        print_field(h, fields, "float", arena_printf(h->arena, "%s_probability", output->name), output->width,
                    output->kind == BP_OUTPUT_BINARY ? "of class 1" : NULL);
        return;
    }
    for (int32_t i = 0; output->columns && i < output->width; i++)
        print_field(h, fields, "float", output->columns[i], 1, NULL);
    if (!output->columns)
        print_field(h, fields, "float", output->name, output->width, NULL);
}

static void print_outputs(Header *h, int32_t index) {
    const struct bp_model *model = &h->program->models[index];
    const char *prefix = model_prefix(h->arena, h->program, index);
    Taken fields = {0};
    for (int32_t i = 0; i < model->output_count; i++)
        if (model->outputs[i].kind != BP_OUTPUT_NUMBER && model->outputs[i].classes)
            print_classes(h, data_prefix(h->arena, h->program, model->data), model->outputs[i].name,
                          model->outputs[i].classes,
                          model->outputs[i].kind == BP_OUTPUT_BINARY ? 2 : model->outputs[i].width);
    text_printf(h->out, "/* What %s predicts for one row, in the units of the file. */\nstruct %s_output {\n",
                model->name, prefix);
    for (int32_t i = 0; i < model->output_count; i++)
        print_output(h, &model->outputs[i], &fields);
    text_add(h->out, "};\n\n");
}

/* ---- Declarations
 * -------------------------------------------------------------------------------------------------------- */

static bool calls(const HostFunction *function, const char *verb) {
    return strcmp(function->calls + strlen("bp_host_"), verb) == 0;
}

/* "const struct iris_input *x, const struct iris_target *y"; void where rows have none of them. */
static const char *rows_parameters(Header *h, int32_t index) {
    const struct bp_data *data = &h->program->data[index];
    const char *prefix = data_prefix(h->arena, h->program, index), *types[2];
    for (int32_t targets = 0; targets < 2; targets++) {
        types[targets] = "void";
        for (int32_t i = 0; i < data->slot_count; i++)
            if (data->slots[i].is_target == targets)
                types[targets] = arena_printf(h->arena, "struct %s_%s", prefix, targets ? "target" : "input");
    }
    return arena_printf(h->arena, "const %s *x, const %s *y", types[0], types[1]);
}

static void declare_train_step(Header *h, const HostFunction *function) {
    const struct bp_train *train = &h->program->trains[function->about];
    text_printf(
        h->out,
        "/* Trains on rows, %lld an update, in their order. loss (may be NULL): the mean over these rows, before the\n"
        "   updates. Where it is not finite nothing is changed.%s */\n",
        (long long)train->batch_size,
        strstr(rows_parameters(h, train->data), "const void") ? " What is void is not read: NULL." : "");
    text_printf(h->out,
                "int %s(struct %s *network, %s,\n"
                "    int64_t rows, double *loss);\n\n",
                function->name, prefix_of(h->arena, h->program, "", 0), rows_parameters(h, train->data));
}

static void declare(Header *h, const HostFunction *function) {
    const char *network = arena_printf(h->arena, "struct %s *network", prefix_of(h->arena, h->program, "", 0));
    const char *name = function->name;
    Text *out = h->out;
    if (calls(function, "create"))
        text_printf(
            out,
            "/* A network with first weights made from the seed; NULL on failure. It is given back with destroy. */\n"
            "struct %s *%s(uint64_t seed);\n",
            prefix_of(h->arena, h->program, "", 0), name);
    else if (calls(function, "destroy"))
        text_printf(out, "void %s(%s);\n\n", name, network);
    else if (calls(function, "error"))
        text_printf(out,
                    "/* Why the last call that failed in this thread did so. Functions of type int return 0 when all "
                    "went well,\n"
                    "   else -1. None ends the process. */\n"
                    "const char *%s(void);\n\n",
                    name);
    else if (calls(function, "threads"))
        text_printf(out,
                    "/* How many threads a call may use where the network is large enough; 1 until this is called. "
                    "Results do not\n"
                    "   depend on it. */\n"
                    "int %s(%s, int32_t threads);\n\n",
                    name, network);
    else if (calls(function, "set"))
        text_printf(
            out, "/* Gives a param of the program another value. */\nint %s(%s, const char *param, double value);\n\n",
            name, network);
    else if (calls(function, "fit"))
        text_printf(
            out,
            "/* Fits the preprocessing to rows; needed once before the first step, unless weights are loaded. */\n"
            "int %s(%s, %s, int64_t rows);\n\n",
            name, network, rows_parameters(h, function->about));
    else if (calls(function, "train_step"))
        declare_train_step(h, function);
    else if (calls(function, "plan"))
        text_printf(out,
                    "/* For learning rates that follow a schedule: how many updates are meant to come. Without it such "
                    "a rate stays\n"
                    "   where it begins. */\n"
                    "int %s(%s, int64_t steps, int64_t steps_per_epoch);\n\n",
                    name, network);
    else if (calls(function, "predict"))
        text_printf(out, "int %s(%s, const struct %s_input *x, int64_t rows,\n    struct %s_output *out);\n\n", name,
                    network, data_prefix(h->arena, h->program, h->program->models[function->about].data),
                    model_prefix(h->arena, h->program, function->about));
    else if (calls(function, "save"))
        text_printf(out,
                    "/* Weights and preprocessing, to and from a safetensors file that the program's own `predict` "
                    "reads as well.\n"
                    "   load changes nothing where it fails; the optimizer begins afresh after it. */\n"
                    "int %s(%s, const char *path);\n",
                    name, network);
    else if (calls(function, "load"))
        text_printf(out, "int %s(%s, const char *path);\n\n", name, network);
    else
        BUG("no declaration of %s", function->calls);
}

static void print_about(Header *h) {
    const struct bp_program *program = h->program;
    const char *prefix = prefix_of(h->arena, program, "", 0);
    text_add(h->out, "/* ");
    put_text(h, program->name);
    text_add(h->out, ": written by bpc ");
    put_text(h, program->version);
    text_add(h->out, " from ");
    put_text(h, program->source);
    text_add(h->out, ". Edits are lost when it is written again.\n\n");
    text_printf(h->out,
                "   The functions are in the object of `bpc -c`; they need libbpruntime.a, which lies beside bpc:\n\n"
                "       bpc -c %s.bp -o %s.o\n"
                "       cc host.c %s.o libbpruntime.a -fopenmp -lz -lm\n\n"
                "   or in the C file of `bpc --emit=c`, which needs nothing else:\n\n"
                "       bpc --emit=c %s.bp -o %s.c\n"
                "       cc -c -O3 -march=native -DBP_NO_MAIN %s.c\n\n"
                "   There may be many networks, in many threads; one network is used by one thread at a time. */\n",
                prefix, prefix, prefix, prefix, prefix, prefix);
}

void print_header(const struct bp_program *program, Text *out) {
    Arena *arena = arena_new();
    Header header = {.arena = arena, .program = program, .out = out}, *h = &header;
    const char *prefix = prefix_of(arena, program, "", 0), *guard = upper(arena, arena_printf(arena, "%s_h", prefix));
    print_about(h);
    text_printf(out, "#ifndef %s\n#define %s\n\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n",
                guard, guard);
    for (int32_t i = 0; i < program->data_count; i++)
        print_rows(h, i);
    for (int32_t i = 0; i < program->model_count; i++)
        if (can_predict(&program->models[i]))
            print_outputs(h, i);
    text_printf(out, "struct %s; /* weights, preprocessing, the optimizer's state */\n\n", prefix);
    HostFunctions functions = host_functions(arena, program);
    for (int i = 0; i < functions.count; i++)
        declare(h, &functions.at[i]);
    text_add(out, "#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    arena_free(arena);
}
