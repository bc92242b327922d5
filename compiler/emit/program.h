/* From the compiled program to what the runtime interprets. */
#ifndef BPC_EMIT_PROGRAM_H
#define BPC_EMIT_PROGRAM_H

#include "../graph/build.h"

/* Functions are named, their code is left NULL: the C printer writes the name, the JIT finds the address.
   record_paths: data files are found again from any directory. */
const struct bp_program *describe_program(Arena *arena, GraphProgram *graph, const Module *module, bool record_paths);

#endif
