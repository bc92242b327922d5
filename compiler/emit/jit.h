/* bpc's side of its LLVM module: it is opened here, and only when something asks for it. */
#ifndef BPC_EMIT_JIT_H
#define BPC_EMIT_JIT_H

#include "../llvm/llvm.h"

/* bpc-llvm.so beside bpc, or in ../lib/bpc where bpc is installed. NULL, with what is missing said, where it cannot be
   opened. It stays open. */
const LlvmBackend *llvm_open(void);

/* The functions that a run with these words is sure to call; the rest may be compiled when it is called. A guess that
   only costs time where it is wrong. */
typedef LIST(LlvmWanted) WantedFunctions;
void functions_wanted(Arena *arena, const struct bp_program *program, int argc, char **argv, WantedFunctions *wanted);

#endif
