/* From the compiled program to what the runtime interprets. */
#ifndef BPC_EMIT_PROGRAM_H
#define BPC_EMIT_PROGRAM_H

#include "../graph/build.h"

/* Where the code of a function lies that the module has; BUG() where it is nowhere. */
typedef struct CodeFinder {
    void *(*find)(void *argument, const char *function);
    void *argument;
} CodeFinder;

/* Functions are named. finder NULL: their code is left NULL, since C is printed with their names; else it is what the
   finder says, and the program can run. record_paths: data files are found again from any directory. */
const struct bp_program *describe_program(Arena *arena, GraphProgram *graph, const Module *module, bool record_paths,
                                          const CodeFinder *finder);

#endif
