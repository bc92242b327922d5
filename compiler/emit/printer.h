/* What the two halves of the kernel printer share: print_values.c (expressions) and print_kernels.c (statements and
 * up). */
#ifndef BPC_PRINTER_H
#define BPC_PRINTER_H

#include "../kernel/share.h"
#include "emit.h"

/* How tightly an expression binds. What an operator other than + - * / takes is put in parentheses unless it is a name,
   a call or a product, so that nobody has to know C's table. */
enum { BIND_ANY, BIND_CHOICE, BIND_OTHER, BIND_SUM, BIND_PRODUCT, BIND_UNARY, BIND_PRIMARY };

typedef struct PointerSet { /* open addressing; asked, never listed */
    const void **at;
    uint32_t size, count;
} PointerSet;

typedef struct Printer {
    Arena *arena;
    CNames *names;
    Lanes lanes;
    Text *out;
    int indent;
    bool is_map;
    uint64_t scratch_bytes; /* of the module */
    Shapes shapes;
    PointerMap uses, first; /* by shape: how many of the kernels that are wanted (as an address), and the first of them */
    int units;               /* of the C compiler, among which kernels are cut up */
    PointerMap unit;         /* of each kernel that is printed (as an address) */
    Text prototypes;         /* of kernels in other units than the first */
    PointerMap with_threads; /* kernels that are printed and take their thread */
    /* of the kernel or math function in hand */
    PointerSet used;   /* LETs, VARs and loops that something reads, buffers that are touched */
    PointerSet often;  /* LETs that are read more than once */
    PointerSet stored; /* buffers */
    bool fields[CONTEXT_THREADS + 1];
    const Kernel *kernel;
    const MathFunction *math;
} Printer;

bool set_has(const PointerSet *set, const void *pointer);
bool set_add(Arena *arena, PointerSet *set, const void *pointer); /* false where it was there */
void set_clear(PointerSet *set);
/* Notes what a value, and what it is made of, uses. */
void use_value(Printer *p, const Value *value);
void use_buffer(Printer *p, const Buffer *buffer);

void print_value(Printer *p, Text *out, const Value *value, int bind);
/* The same, even where a LET has named it: what stands to the right of its `=`. */
void print_plain(Printer *p, Text *out, const Value *value, int bind);
const char *let_name(Printer *p, const Value *value);
const char *variable_name(Printer *p, const Statement *statement);
const char *buffer_name(Printer *p, const Buffer *buffer);
const char *math_name(Printer *p, const MathFunction *function);
const char *argument_name(Printer *p, int argument);

#endif
