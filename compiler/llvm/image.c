/* The program as constants: struct bp_program and all that hangs from it. */
#include "ir.h"

void print_program_image(Arena *arena, LLVMModuleRef module, const struct bp_program *program) {
    (void)arena;
    (void)module;
    (void)program;
    BUG("not there yet");
}
