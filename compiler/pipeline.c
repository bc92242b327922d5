/* source -> AST -> checked program -> graph, differentiated -> kernels -> memory plan -> C -> executable */
#include "pipeline.h"

#include "emit/host.h"
#include "emit/jit.h"
#include "emit/memory.h"
#include "emit/program.h"
#include "explain/page.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const stage_names[STAGE_COUNT] = {"ast", "checked", "graph", "gradient", "kernel", "c"};

typedef struct Compilation {
    const CompileOptions *options;
    Arena *arena;
    Ast *ast;
    Program *program;
    GraphProgram *graph;
    const Machine *machine;
    Module *module;
    const struct bp_program *described;
    Text c, explained;
    double started;
} Compilation;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void tell_time(Compilation *c, const char *stage) {
    double now = seconds();
    if (c->options->time)
        fprintf(stderr, "%-10s %8.2f ms\n", stage, (now - c->started) * 1e3);
    c->started = now;
}

static void print_stage(const Compilation *c, Stage stage, Text *out) {
    switch (stage) {
    case STAGE_AST: ast_print(c->ast, out); break;
    case STAGE_CHECKED: program_print(c->program, out); break;
    case STAGE_GRAPH: graph_print(c->graph, out); break;
    case STAGE_GRADIENT: graph_print_gradient(c->graph, out); break;
    case STAGE_KERNEL: module_print(c->module, out); break;
    case STAGE_C: text_add_bytes(out, c->c.at ? c->c.at : "", c->c.length); break;
    case STAGE_COUNT: break;
    }
}

static void finish_stage(Compilation *c, Stage stage) {
    tell_time(c, stage_names[stage]);
    if (!c->options->dump[stage])
        return;
    Text text = {0};
    print_stage(c, stage, &text);
    fwrite(text.at ? text.at : "", 1, text.length, stderr);
    text_free(&text);
}

/* ---- the stages -------------------------------------------------------------------------------------------------- */

static bool read_source(Compilation *c) {
    char why[512];
    size_t length;
    char *text = file_read_whole(c->options->input, &length, why, sizeof why);
    if (!text) {
        error_plain("%s", why);
        return false;
    }
    int source = source_add(strcmp(c->options->input, "-") ? c->options->input : "stdin", text, length);
    free(text);
    c->ast = parse_source(c->arena, source);
    finish_stage(c, STAGE_AST);
    if (error_count())
        return false;
    if (c->options->verify)
        ast_verify(c->ast);
    return true;
}

/* A slip like `bpc iris.bp -o iris.bp` must cost neither the program nor its table. */
static bool output_is_input(Compilation *c) {
    const char *path = c->options->output;
    bool same = false;
    for (int i = 0; path && i < source_count() && !same; i++)
        same = file_same(path, source_path(i));
    for (int i = 0; path && c->program && i < c->program->data.count; i++) {
        const DataSet *data = c->program->data.at[i];
        for (int j = 0; j < data->file_count && !same; j++)
            same = data->files[j].path && file_same(path, data->files[j].path);
    }
    if (same)
        error_plain("cannot write %s: it is what is read", path);
    return same;
}

static bool check(Compilation *c) {
    CheckOptions options = {.record_paths = c->options->emit != EMIT_C, .defines = c->options->defines.at,
                            .define_count = c->options->defines.count};
    c->program = check_program(c->arena, c->ast, &options);
    if (c->program)
        finish_stage(c, STAGE_CHECKED);
    return c->program && !error_count();
}

static bool build(Compilation *c) {
    c->graph = graph_build(c->arena, c->program);
    if (!c->graph || error_count())
        return false;
    lint_program(c->program);
    if (c->options->verify)
        graph_verify(c->graph->graph);
    finish_stage(c, STAGE_GRAPH);
    finish_stage(c, STAGE_GRADIENT);
    return true;
}

static bool make_kernels(Compilation *c) {
    LowerOptions options = c->options->lower;
    options.machine = c->machine = machine_named(c->options->native.march);
    const uint64_t most = c->options->most_memory;
    options.tight = most > 0;
    options.explain = c->options->explain && !c->options->explain->print ? &c->explained : NULL;
    c->module = lower(c->arena, c->graph, &options);
    plan_memory(c->graph, c->module);
    if (most && !memory_fits(c->graph, c->module, c->machine, most) && lower_make_again(c->graph)) {
        text_free(&c->explained);
        c->module = lower(c->arena, c->graph, &options);
        plan_memory(c->graph, c->module);
    }
    if (c->options->verify)
        kernel_verify(c->module);
    finish_stage(c, STAGE_KERNEL);
    return !most || memory_limit(c->graph, c->module, c->machine, most);
}

static void make_c(Compilation *c) {
    c->described = describe_program(c->arena, c->graph, c->module, false, NULL);
    print_c(c->module, c->described, C_STANDALONE, &c->c);
    finish_stage(c, STAGE_C);
}

static bool make_program(Compilation *c) {
    NativeOptions native = c->options->native;
    c->described = describe_program(c->arena, c->graph, c->module, true, NULL);
    native.units = print_c_units(c->module, c->described, native_units(), &c->c);
    finish_stage(c, STAGE_C);
    bool built = native_build(&c->c, c->options->output, &native);
    tell_time(c, "cc");
    return built;
}

/* ---- what is written --------------------------------------------------------------------------------------------- */

static int write_text(const Compilation *c, const Text *text) {
    char why[512];
    const char *path = c->options->output ? c->options->output : "-";
    if (file_write_whole(path, text->at ? text->at : "", text->length, why, sizeof why))
        return 0;
    error_plain("%s", why);
    return 1;
}

static int write_stage(const Compilation *c, void (*print)(const Compilation *c, Text *out)) {
    Text text = {0};
    print(c, &text);
    int code = write_text(c, &text);
    text_free(&text);
    return code;
}

static void print_ast(const Compilation *c, Text *out) {
    print_stage(c, STAGE_AST, out);
}

static void print_graph(const Compilation *c, Text *out) {
    print_stage(c, STAGE_GRAPH, out);
}

static void print_gradient(const Compilation *c, Text *out) {
    print_stage(c, STAGE_GRADIENT, out);
}

static void print_kernel(const Compilation *c, Text *out) {
    print_stage(c, STAGE_KERNEL, out);
}

static void print_dot(const Compilation *c, Text *out) {
    graph_print_dot(c->graph, out);
}

static void print_mermaid(const Compilation *c, Text *out) {
    graph_print_mermaid(c->graph, out);
}

static void print_plan(const Compilation *c, Text *out) {
    const char *path = c->options->output;
    size_t length = path ? strlen(path) : 0;
    if (length > 4 && strcmp(path + length - 4, ".svg") == 0)
        draw_memory(c->graph, c->module, c->machine, out);
    else
        print_memory(c->graph, c->module, c->machine, out);
}

static int write_explained(Compilation *c) {
    if (c->options->explain->print)
        c->options->explain->print(c->graph, &c->explained);
    return write_text(c, &c->explained);
}

static int write_derivation(Compilation *c) {
    if (!explain_program(c->graph, c->options->derivation, &c->explained))
        return 1;
    return write_text(c, &c->explained);
}

/* ---- through LLVM ------------------------------------------------------------------------------------------------ */

static LlvmOptions llvm_options(const Compilation *c) {
    const CompileOptions *options = c->options;
    return (LlvmOptions){.cpu = options->native.march, .level = options->native.level, .debug = options->native.debug,
                         .time = options->time, .no_cache = options->no_cache};
}

static const LlvmBackend *open_llvm(Compilation *c) {
    const LlvmBackend *llvm = llvm_open();
    tell_time(c, "open llvm");
    return llvm;
}

typedef struct Session {
    const LlvmBackend *llvm;
    LlvmCode *code;
} Session;

static void *session_find(void *argument, const char *function) {
    Session *session = argument;
    return session->llvm->find(session->code, function);
}

static int run_in_memory(Compilation *c) {
    LlvmOptions options = llvm_options(c);
    Session session = {.llvm = open_llvm(c)};
    if (!session.llvm)
        return 1;
    WantedFunctions wanted = {0};
    c->described = describe_program(c->arena, c->graph, c->module, true, NULL);
    functions_wanted(c->arena, c->described, c->options->run_argc, c->options->run_argv, &wanted);
    session.code = session.llvm->compile(c->module, wanted.at, wanted.count, &options);
    tell_time(c, "llvm");
    if (!session.code)
        return 1;
    CodeFinder finder = {session_find, &session};
    c->described = describe_program(c->arena, c->graph, c->module, true, &finder);
    int code = bp_main(c->described, c->options->run_argc, c->options->run_argv);
    session.llvm->release(session.code);
    tell_time(c, "run");
    return code;
}

static int write_llvm(Compilation *c, LlvmForm form) {
    LlvmOptions options = llvm_options(c);
    const LlvmBackend *llvm = open_llvm(c);
    if (!llvm)
        return 1;
    Text text = {0};
    const struct bp_program *program = NULL;
    HostFunctions functions = {0};
    if (form == LLVM_FORM_OBJECT) {
        program = host_program(c->arena, describe_program(c->arena, c->graph, c->module, true, NULL));
        if (!host_possible(program))
            return 1;
        functions = host_functions(c->arena, program);
        options.functions = functions.at;
        options.function_count = functions.count;
    }
    bool printed = llvm->print(c->module, program, form, &options, &text);
    tell_time(c, "llvm");
    int code = printed ? write_text(c, &text) : 1;
    text_free(&text);
    return code;
}

static int link_object(Compilation *c) {
    LlvmOptions options = llvm_options(c);
    NativeOptions native = c->options->native;
    const LlvmBackend *llvm = open_llvm(c);
    if (!llvm)
        return 1;
    Text object = {0};
    options.with_main = true;
    native.is_object = true;
    native.march = NULL; /* of what little the C compiler compiles */
    c->described = describe_program(c->arena, c->graph, c->module, true, NULL);
    bool built = llvm->print(c->module, c->described, LLVM_FORM_OBJECT, &options, &object);
    tell_time(c, "llvm");
    built = built && native_build(&object, c->options->output, &native);
    tell_time(c, "link");
    text_free(&object);
    return built ? 0 : 1;
}

/* ---- for a host program ----------------------------------------------------------------------------------------------------- */

static int write_header(Compilation *c) {
    Text text = {0};
    c->described = host_program(c->arena, describe_program(c->arena, c->graph, c->module, true, NULL));
    if (!host_possible(c->described))
        return 1;
    print_header(c->described, &text);
    int code = write_text(c, &text);
    text_free(&text);
    return code;
}

static int compile_object(Compilation *c) {
    NativeOptions native = c->options->native;
    native.to_object = true;
    c->described = host_program(c->arena, describe_program(c->arena, c->graph, c->module, true, NULL));
    if (!host_possible(c->described))
        return 1;
    print_c(c->module, c->described, C_LIBRARY, &c->c);
    finish_stage(c, STAGE_C);
    bool built = native_build(&c->c, c->options->output, &native);
    tell_time(c, "cc");
    return built ? 0 : 1;
}

static int run_stages(Compilation *c) {
    Emit emit = c->options->emit;
    if (!read_source(c))
        return 1;
    if (emit == EMIT_AST)
        return output_is_input(c) ? 1 : write_stage(c, print_ast);
    if (!check(c) || !build(c) || output_is_input(c))
        return 1;
    switch (emit) {
    case EMIT_GRAPH: return write_stage(c, print_graph);
    case EMIT_GRADIENT: return write_stage(c, print_gradient);
    case EMIT_DOT: return write_stage(c, print_dot);
    case EMIT_MERMAID: return write_stage(c, print_mermaid);
    case EMIT_DERIVATION: return write_derivation(c);
    default: break;
    }
    if (emit != EMIT_NOTHING && c->graph->functions.count == 0) {
        error_plain("%s: nothing to do: add a train or finetune block", c->options->input);
        return 1;
    }
    if (!make_kernels(c))
        return 1;
    if (emit == EMIT_MEMORY)
        return write_stage(c, print_plan);
    if (emit == EMIT_NOTHING)
        return 0;
    if (emit == EMIT_KERNEL)
        return write_stage(c, print_kernel);
    if (emit == EMIT_EXPLAIN)
        return write_explained(c);
    switch (emit) {
    case EMIT_RUN: return run_in_memory(c);
    case EMIT_LLVM: return write_llvm(c, LLVM_FORM_TEXT);
    case EMIT_ASSEMBLY: return write_llvm(c, LLVM_FORM_ASSEMBLY);
    case EMIT_OBJECT: return c->options->by_c ? compile_object(c) : write_llvm(c, LLVM_FORM_OBJECT);
    case EMIT_HEADER: return write_header(c);
    default: break;
    }
    if (emit == EMIT_PROGRAM && c->options->by_llvm)
        return link_object(c);
    if (emit == EMIT_PROGRAM)
        return make_program(c) ? 0 : 1;
    make_c(c);
    return write_text(c, &c->c);
}

int compile(const CompileOptions *options) {
    Compilation c = {.options = options, .arena = arena_new()};
    c.started = seconds();
    names_start();
    int code = run_stages(&c);
    text_free(&c.c);
    text_free(&c.explained);
    arena_free(c.arena);
    sources_end();
    names_end();
    return code;
}
