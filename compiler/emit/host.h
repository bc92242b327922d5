/* The program as a library: the functions that a host calls, the header that declares them. */
#ifndef BPC_EMIT_HOST_H
#define BPC_EMIT_HOST_H

#include "emit.h"

/* The functions of a program: names from the .bp file, each a call of the runtime's with what it is about. */
HostFunctions host_functions(Arena *arena, const struct bp_program *program);
/* Says why a host cannot give the program its rows, and returns false, where that is so. */
bool host_possible(const struct bp_program *program);
/* Kernels and their functions keep off these names. */
void host_reserve(Arena *arena, const struct bp_program *program, CNames *names);
/* The program as far as a host can ask for it: no measuring, no gradient check, none of the data's files. */
const struct bp_program *host_program(Arena *arena, const struct bp_program *program);
/* The header in C (and C++). */
void print_header(const struct bp_program *program, Text *out);

#endif
