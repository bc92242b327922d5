/* The stages of a compilation, in order. */
#ifndef BPC_PIPELINE_H
#define BPC_PIPELINE_H

#include "emit/emit.h"
#include "explain.h"
#include "graph/graph.h"

typedef enum Stage {
    STAGE_AST,      /* what was written */
    STAGE_CHECKED,  /* names, data, settings */
    STAGE_GRAPH,    /* values */
    STAGE_GRADIENT, /* their derivatives */
    STAGE_KERNEL,   /* loops, with places in memory */
    STAGE_C,
    STAGE_COUNT,
} Stage;

typedef enum Emit {
    EMIT_PROGRAM, /* a native program: -o */
    EMIT_NOTHING, /* bpc check */
    EMIT_AST, EMIT_GRAPH, EMIT_GRADIENT, EMIT_KERNEL, EMIT_C, EMIT_DOT, EMIT_MERMAID,
    EMIT_MEMORY, /* the plan of memory: text, or a picture where the output ends in .svg */
    EMIT_RUN, /* bpc run: compiled in memory by LLVM and run at once */
    EMIT_LLVM, EMIT_ASSEMBLY, EMIT_OBJECT, /* LLVM's text, the machine's, -c */
    EMIT_EXPLAIN, /* --explain=TOPIC */
    EMIT_DERIVATION, /* bpc explain */
    EMIT_HEADER, /* the functions of -c, for a host program in C */
} Emit;

typedef struct CompileOptions {
    const char *input;  /* "-": stdin */
    const char *output; /* NULL: stdout for text */
    Emit emit;
    bool dump[STAGE_COUNT]; /* to stderr, on the way */
    bool time, verify;
    LowerOptions lower;
    NativeOptions native;
    const ExplainTopic *explain; /* EMIT_EXPLAIN */
    const struct ExplainRequest *derivation; /* EMIT_DERIVATION: bpc explain */
    bool by_llvm;  /* EMIT_PROGRAM: code by LLVM, the C compiler only links */
    bool by_c;     /* EMIT_OBJECT: code by the C compiler */
    bool tune;     /* search for the fastest */
    uint64_t most_memory; /* --max-mem, bytes; 0: no limit */
    bool no_cache; /* of objects that LLVM made before */
    int run_argc;  /* EMIT_RUN: the program's command line */
    char **run_argv;
    LIST(const char *) defines; /* "width=64" */
} CompileOptions;

extern const char *const stage_names[STAGE_COUNT];

/* Reads, checks, builds, lowers, writes. Returns the exit code: 0, or 1 where the input was wrong (and said so). */
int compile(const CompileOptions *options);
/* The same for a program with `output`, in the fastest of several ways, timed here. */
int tune(const CompileOptions *options);

#endif
