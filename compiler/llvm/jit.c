/* Code in memory, through ORC. What a run needs first is compiled before it starts, in as many pieces as there are cores;
   what it is sure to need later, beside it, by threads of their own; the rest (tracing a value that is not finite,
   checking gradients, predicting after training) when it is first called, through ORC's stubs. Kernels that are the same
   function are compiled once. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "ir.h"

#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/OrcEE.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_WORKERS = 16, WORTH_A_WORKER = 300 }; /* IR instructions: some 10 ms */

typedef struct Work {
    LlvmCode *code;
    const Piece *piece;
    LLVMMemoryBufferRef object; /* NULL: it failed, and why is said */
} Work;

/* A function that is compiled when it is called; or what is sure to be called, by a thread beside the run. */
typedef struct Lazy {
    LlvmCode *code;
    const char *name;
    Piece piece;
    bool later, made;
    bool started; /* a thread that makes its object */
    pthread_t thread;
    Work work;
} Lazy;

/* Cuts the module: what comes first into pieces for the workers, the rest by function. */
typedef struct Cut {
    Piece pieces[MOST_WORKERS];
    int workers;
    Lazy *lazies;
    int lazy_count;
} Cut;

struct LlvmCode {
    Arena *arena;
    const Module *module;
    LlvmOptions options;
    Target target;
    Shapes shapes;
    Cut cut;
    LLVMOrcLLJITRef jit;
    LLVMOrcLazyCallThroughManagerRef through;
    LLVMOrcIndirectStubsManagerRef stubs;
    PointerMap addresses; /* interned name of a function -> its code */
};

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static void tell_time(const LlvmCode *code, const char *what, double *since) {
    double now = milliseconds();
    if (code->options.time)
        fprintf(stderr, "  %-16s %8.2f ms\n", what, now - *since);
    *since = now;
}

/* ---- Pieces to objects, each by a thread of its own -------------------------------------------------------------- */

static void *make_object(void *argument) {
    Work *work = argument;
    const LlvmCode *code = work->code;
    Arena *arena = arena_new();
    LLVMContextRef context = LLVMContextCreate();
    LLVMContextSetDiscardValueNames(context, true);
    LLVMModuleRef module = print_llvm(arena, context, &code->shapes, work->piece, &code->target, false);
    LLVMTargetMachineRef machine = module ? target_machine(&code->target) : NULL;
    if (machine) {
        work->object = target_emit(&code->target, machine, module, LLVM_FORM_OBJECT);
        LLVMDisposeTargetMachine(machine);
    }
    if (module)
        LLVMDisposeModule(module);
    LLVMContextDispose(context);
    arena_free(arena);
    return NULL;
}

static int worker_count(const LlvmCode *code, int weight) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long worth = 1 + weight / WORTH_A_WORKER;
    long count = cores < worth ? cores : worth;
    if (code->options.debug) /* places in the source are looked up by one thread */
        return 1;
    return count < 1 ? 1 : count > MOST_WORKERS ? MOST_WORKERS : (int)count;
}

/* ---- The session ------------------------------------------------------------------------------------------------- */

static void report(void *context, LLVMErrorRef error) {
    (void)context;
    say_error("LLVM cannot link code in memory", error);
}

/* A function that could not be compiled was called: why has been said. */
static void lazy_failed(void) {
    fflush(NULL);
    _Exit(1);
}

static LLVMOrcObjectLayerRef debugged_layer(void *context, LLVMOrcExecutionSessionRef session, const char *triple) {
    (void)context;
    (void)triple;
    LLVMOrcObjectLayerRef layer = LLVMOrcCreateRTDyldObjectLinkingLayerWithSectionMemoryManager(session);
    LLVMOrcRTDyldObjectLinkingLayerRegisterJITEventListener(layer, LLVMCreateGDBRegistrationListener());
    LLVMJITEventListenerRef perf = LLVMCreatePerfJITEventListener();
    if (perf)
        LLVMOrcRTDyldObjectLinkingLayerRegisterJITEventListener(layer, perf);
    return layer;
}

static LLVMJITSymbolFlags callable(void) {
    return (LLVMJITSymbolFlags){LLVMJITSymbolGenericFlagsExported | LLVMJITSymbolGenericFlagsCallable, 0};
}

#define SYMBOL(name)                                                                                                   \
    { #name, (LLVMOrcExecutorAddress)(uintptr_t)&name }

/* What code may call: the runtime's barrier, and what LLVM calls where the machine has no instruction. */
static bool define_process_symbols(LlvmCode *code) {
    const struct {
        const char *name;
        LLVMOrcExecutorAddress address;
    } symbols[] = {SYMBOL(bp_barrier), SYMBOL(fma),  SYMBOL(fmaf),  SYMBOL(floor),  SYMBOL(floorf), SYMBOL(rint),
                   SYMBOL(rintf),      SYMBOL(sqrt), SYMBOL(sqrtf), SYMBOL(memcpy), SYMBOL(memset), SYMBOL(memmove)};
    enum { COUNT = sizeof symbols / sizeof *symbols };
    LLVMOrcCSymbolMapPair pairs[COUNT];
    for (int i = 0; i < COUNT; i++) {
        pairs[i].Name = LLVMOrcLLJITMangleAndIntern(code->jit, symbols[i].name);
        pairs[i].Sym = (LLVMJITEvaluatedSymbol){symbols[i].address, callable()};
    }
    LLVMErrorRef error =
        LLVMOrcJITDylibDefine(LLVMOrcLLJITGetMainJITDylib(code->jit), LLVMOrcAbsoluteSymbols(pairs, COUNT));
    if (error)
        say_error("LLVM cannot link code in memory", error);
    return !error;
}

static bool start_session(LlvmCode *code) {
    LLVMTargetMachineRef machine = target_machine(&code->target);
    if (!machine)
        return false;
    LLVMOrcLLJITBuilderRef builder = LLVMOrcCreateLLJITBuilder();
    LLVMOrcLLJITBuilderSetJITTargetMachineBuilder(builder,
                                                  LLVMOrcJITTargetMachineBuilderCreateFromTargetMachine(machine));
    if (code->options.debug)
        LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(builder, debugged_layer, NULL);
    LLVMErrorRef error = LLVMOrcCreateLLJIT(&code->jit, builder);
    if (error) {
        code->jit = NULL;
        say_error("LLVM cannot run code in memory", error);
        return false;
    }
    LLVMOrcExecutionSessionSetErrorReporter(LLVMOrcLLJITGetExecutionSession(code->jit), report, NULL);
    return define_process_symbols(code);
}

static bool add_object(LlvmCode *code, LLVMMemoryBufferRef object) {
    LLVMErrorRef error = LLVMOrcLLJITAddObjectFile(code->jit, LLVMOrcLLJITGetMainJITDylib(code->jit), object);
    if (error)
        say_error("LLVM cannot link code in memory", error);
    return !error;
}

/* ---- What is compiled when it is called -------------------------------------------------------------------------- */

static void materialize(void *context, LLVMOrcMaterializationResponsibilityRef responsibility) {
    Lazy *lazy = context;
    LlvmCode *code = lazy->code;
    double since = milliseconds();
    if (lazy->started)
        pthread_join(lazy->thread, NULL);
    else
        make_object(&lazy->work);
    lazy->started = false;
    tell_time(code, lazy->name, &since);
    if (lazy->work.object) {
        lazy->made = true;
        LLVMOrcObjectLayerEmit(LLVMOrcLLJITGetObjLinkingLayer(code->jit), responsibility, lazy->work.object);
    } else {
        LLVMOrcMaterializationResponsibilityFailMaterialization(responsibility);
        LLVMOrcDisposeMaterializationResponsibility(responsibility);
    }
}

static void discard(void *context, LLVMOrcJITDylibRef dylib, LLVMOrcSymbolStringPoolEntryRef symbol) {
    (void)context;
    (void)dylib;
    (void)symbol;
}

static void destroy(void *context) {
    (void)context; /* it lies in the arena */
}

static const char *stub_name(LlvmCode *code, const Function *function) {
    return arena_printf(code->arena, "%s.stub", function->name);
}

static LLVMErrorRef define_lazy(LlvmCode *code, Lazy *lazy) {
    const Piece *piece = &lazy->piece;
    size_t count = 0, most = (size_t)piece->functions.count + (size_t)piece->shapes.count + (size_t)piece->maths.count;
    LLVMOrcCSymbolFlagsMapPair *pairs = arena_array(code->arena, LLVMOrcCSymbolFlagsMapPair, most);
    for (int i = 0; i < piece->functions.count; i++)
        pairs[count++].Name = LLVMOrcLLJITMangleAndIntern(code->jit, piece->functions.at[i]->name);
    for (int i = 0; i < piece->shapes.count; i++)
        if (!piece->shapes.at[i]->joined)
            pairs[count++].Name = LLVMOrcLLJITMangleAndIntern(
                code->jit, arena_printf(code->arena, "%s.kernel", piece->shapes.at[i]->kernel->name));
    for (int i = 0; i < piece->maths.count; i++)
        pairs[count++].Name =
            LLVMOrcLLJITMangleAndIntern(code->jit, arena_printf(code->arena, "%s.math", piece->maths.at[i]->name));
    for (size_t i = 0; i < count; i++)
        pairs[i].Flags = callable();
    LLVMOrcJITDylibRef dylib = LLVMOrcLLJITGetMainJITDylib(code->jit);
    LLVMErrorRef error =
        LLVMOrcJITDylibDefine(dylib, LLVMOrcCreateCustomMaterializationUnit(lazy->name, lazy, pairs, count, NULL,
                                                                            materialize, discard, destroy));
    for (int i = 0; i < piece->functions.count && !error; i++) {
        const Function *function = piece->functions.at[i];
        LLVMOrcCSymbolAliasMapPair alias;
        alias.Name = LLVMOrcLLJITMangleAndIntern(code->jit, stub_name(code, function));
        alias.Entry.Name = LLVMOrcLLJITMangleAndIntern(code->jit, function->name);
        alias.Entry.Flags = callable();
        error = LLVMOrcJITDylibDefine(dylib, LLVMOrcLazyReexports(code->through, code->stubs, dylib, &alias, 1));
    }
    return error;
}

static bool define_lazies(LlvmCode *code, Lazy *lazies, int count) {
    LLVMErrorRef error = NULL;
    if (count == 0)
        return true;
    error = LLVMOrcCreateLocalLazyCallThroughManager(code->target.triple, LLVMOrcLLJITGetExecutionSession(code->jit),
                                                     (LLVMOrcJITTargetAddress)(uintptr_t)&lazy_failed, &code->through);
    if (!error)
        code->stubs = LLVMOrcCreateLocalIndirectStubsManager(code->target.triple);
    for (int i = 0; i < count && !error; i++)
        error = define_lazy(code, &lazies[i]);
    if (error)
        say_error("LLVM cannot run code in memory", error);
    return !error;
}

/* ---- What is sure to be called later ------------------------------------------------------------------------------ */

/* Beside the run there are objects made and nothing else: who calls the code links it. */
static void start_later(LlvmCode *code) {
    for (int i = 0; i < code->cut.lazy_count && !code->options.debug; i++) {
        Lazy *lazy = &code->cut.lazies[i];
        lazy->started = lazy->later && pthread_create(&lazy->thread, NULL, make_object, &lazy->work) == 0;
    }
}

static void end_later(LlvmCode *code) {
    for (int i = 0; i < code->cut.lazy_count; i++) {
        Lazy *lazy = &code->cut.lazies[i];
        if (!lazy->started)
            continue;
        pthread_join(lazy->thread, NULL);
        if (lazy->work.object)
            LLVMDisposeMemoryBuffer(lazy->work.object);
    }
}

/* ---- All of it --------------------------------------------------------------------------------------------------- */

static bool find_address(LlvmCode *code, const Function *function, const char *symbol) {
    LLVMOrcExecutorAddress address = 0;
    LLVMErrorRef error = LLVMOrcLLJITLookup(code->jit, &address, symbol);
    if (error) {
        say_error("LLVM cannot link code in memory", error);
        return false;
    }
    map_put(code->arena, &code->addresses, function, (void *)(uintptr_t)address);
    return true;
}

/* How a function is wanted: at once rather than later, hot rather than not. NULL: only when it is called. */
static const LlvmWanted *find_wanted(const Function *function, const LlvmWanted *wanted, int count) {
    const LlvmWanted *found = NULL;
    for (int i = 0; i < count; i++) {
        bool before =
            !found || (found->later && !wanted[i].later) || (found->later == wanted[i].later && wanted[i].hot);
        if (before && strcmp(function->name, wanted[i].function) == 0)
            found = &wanted[i];
    }
    return found;
}

/* What is wanted at once, or later, in pieces of about equal weight: how many. */
static int cut_wanted(LlvmCode *code, const LlvmWanted *wanted, int count, bool later, Piece *pieces,
                      PointerMap *done) {
    const Module *module = code->module;
    LIST(const Function *) functions = {0};
    PointerMap weighed = {0};
    Piece all = {0};
    for (int i = 0; i < module->functions.count; i++) {
        const LlvmWanted *found = find_wanted(module->functions.at[i], wanted, count);
        if (!found || found->later != later)
            continue;
        if (found->hot)
            shapes_heat(&code->shapes, module->functions.at[i]);
        if (found->hot && !code->options.debug) /* a debugger stops in kernels */
            shapes_join(&code->shapes, module->functions.at[i]);
        piece_add_function(code->arena, &code->shapes, &all, 1, module->functions.at[i], &weighed);
        *LIST_ADD(code->arena, &functions) = module->functions.at[i];
    }
    int workers = worker_count(code, all.weight);
    for (int i = 0; i < functions.count; i++)
        piece_add_function(code->arena, &code->shapes, pieces, workers, functions.at[i], done);
    return workers;
}

static void cut(LlvmCode *code, const LlvmWanted *wanted, int count, Cut *cut) {
    const Module *module = code->module;
    PointerMap done = {0};
    Piece later[MOST_WORKERS] = {0};
    cut->workers = cut_wanted(code, wanted, count, false, cut->pieces, &done);
    int later_workers = cut_wanted(code, wanted, count, true, later, &done);
    cut->lazies = arena_array(code->arena, Lazy, later_workers + module->functions.count);
    for (int i = 0; i < later_workers; i++)
        if (later[i].weight > 0)
            cut->lazies[cut->lazy_count++] = (Lazy){.code = code, .name = "later", .piece = later[i], .later = true};
    for (int i = 0; i < module->functions.count; i++) {
        const Function *function = module->functions.at[i];
        if (find_wanted(function, wanted, count))
            continue;
        Lazy *lazy = &cut->lazies[cut->lazy_count++];
        *lazy = (Lazy){.code = code, .name = function->name};
        piece_add_function(code->arena, &code->shapes, &lazy->piece, 1, function, &done);
    }
    for (int i = 0; i < cut->lazy_count; i++)
        cut->lazies[i].work = (Work){code, &cut->lazies[i].piece, NULL};
}

/* The first pieces become objects while the session is set up. */
static bool make_first(LlvmCode *code, const Cut *cut) {
    Work works[MOST_WORKERS] = {{0}};
    pthread_t threads[MOST_WORKERS];
    bool started[MOST_WORKERS] = {false}, fine = true;
    double since = milliseconds();
    for (int i = 0; i < cut->workers; i++) {
        works[i] = (Work){code, &cut->pieces[i], NULL};
        started[i] = i > 0 && pthread_create(&threads[i], NULL, make_object, &works[i]) == 0;
    }
    fine = start_session(code);
    tell_time(code, "session", &since);
    for (int i = 0; i < cut->workers; i++)
        if (!started[i])
            make_object(&works[i]);
    for (int i = 0; i < cut->workers; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
    for (int i = 0; i < cut->workers; i++) {
        if (fine && works[i].object)
            fine = add_object(code, works[i].object);
        else
            fine = false;
    }
    tell_time(code, "machine code", &since);
    return fine;
}

static bool compile_all(LlvmCode *code, const LlvmWanted *wanted, int wanted_count) {
    Cut *pieces = &code->cut;
    shapes_find(code->arena, code->module, &code->shapes);
    cut(code, wanted, wanted_count, pieces);
    if (!make_first(code, pieces))
        return false;
    double since = milliseconds();
    if (!define_lazies(code, pieces->lazies, pieces->lazy_count))
        return false;
    for (int i = 0; i < pieces->workers; i++)
        for (int j = 0; j < pieces->pieces[i].functions.count; j++) {
            const Function *function = pieces->pieces[i].functions.at[j];
            if (!find_address(code, function, function->name))
                return false;
        }
    for (int i = 0; i < pieces->lazy_count; i++)
        for (int j = 0; j < pieces->lazies[i].piece.functions.count; j++) {
            const Function *function = pieces->lazies[i].piece.functions.at[j];
            if (!find_address(code, function, stub_name(code, function)))
                return false;
        }
    tell_time(code, "link", &since);
    start_later(code);
    return true;
}

/* ---- What lies where --------------------------------------------------------------------------------------------- */

typedef struct Nearest { /* the function that begins last of those before a place */
    LlvmCode *code;
    uintptr_t place, start;
    const char *name;
    Span span;
} Nearest;

static void look_at(Nearest *nearest, const char *symbol, const char *kind, const char *name, Span span) {
    LLVMOrcExecutorAddress address = 0;
    LLVMErrorRef error = LLVMOrcLLJITLookup(nearest->code->jit, &address, symbol);
    if (error) {
        LLVMConsumeError(error);
        return;
    }
    if (address > nearest->place || address < nearest->start)
        return;
    nearest->start = (uintptr_t)address;
    nearest->name = arena_printf(nearest->code->arena, "%s %s", kind, name);
    nearest->span = span;
}

static void look_at_piece(Nearest *nearest, const Piece *piece) {
    Arena *arena = nearest->code->arena;
    for (int i = 0; i < piece->functions.count; i++)
        look_at(nearest, piece->functions.at[i]->name, "function", piece->functions.at[i]->name,
                piece->functions.at[i]->span);
    for (int i = 0; i < piece->shapes.count; i++) {
        const Kernel *kernel = piece->shapes.at[i]->kernel;
        if (!piece->shapes.at[i]->joined)
            look_at(nearest, arena_printf(arena, "%s.kernel", kernel->name), "kernel", kernel->name, kernel->span);
    }
    for (int i = 0; i < piece->maths.count; i++)
        look_at(nearest, arena_printf(arena, "%s.math", piece->maths.at[i]->name), "the math function",
                piece->maths.at[i]->name, SPAN_NONE);
}

const char *code_at(LlvmCode *code, const void *place, Place *at) {
    Nearest nearest = {.code = code, .place = (uintptr_t)place, .span = SPAN_NONE};
    for (int i = 0; i < code->cut.workers; i++)
        look_at_piece(&nearest, &code->cut.pieces[i]);
    for (int i = 0; i < code->cut.lazy_count; i++)
        if (code->cut.lazies[i].made)
            look_at_piece(&nearest, &code->cut.lazies[i].piece);
    *at = (Place){.path = "bpc"};
    if (nearest.span.source >= 0)
        *at = span_place(nearest.span);
    return nearest.name;
}

LlvmCode *code_compile(Module *module, const LlvmWanted *wanted, int wanted_count, const LlvmOptions *options) {
    Arena *arena = arena_new();
    LlvmCode *code = arena_new_of(arena, LlvmCode);
    code->arena = arena;
    code->module = module;
    code->options = *options;
    if (target_start(&code->target, &code->options) && compile_all(code, wanted, wanted_count)) {
        crash_watch(code);
        return code;
    }
    code_release(code);
    return NULL;
}

void *code_find(LlvmCode *code, const char *name) {
    for (int i = 0; i < code->module->functions.count; i++)
        if (strcmp(code->module->functions.at[i]->name, name) == 0)
            return map_find(&code->addresses, code->module->functions.at[i]);
    return NULL;
}

void code_release(LlvmCode *code) {
    end_later(code);
    crash_watch_no_more(code);
    if (code->through) /* before the session: it holds names of its pool */
        LLVMOrcDisposeLazyCallThroughManager(code->through);
    if (code->stubs)
        LLVMOrcDisposeIndirectStubsManager(code->stubs);
    if (code->jit) {
        LLVMErrorRef error = LLVMOrcDisposeLLJIT(code->jit);
        if (error)
            say_error("LLVM cannot let go of its code", error);
    }
    target_end(&code->target);
    arena_free(code->arena);
}
