/* The op table as C sees it. */
#ifndef BPC_OP_H
#define BPC_OP_H

#include "../base/base.h"

typedef enum Op {
#define OP(ENUM, name, arity, class, c, llvm, da, db, dc) OP_##ENUM,
#include "ops.def"
#undef OP
    OP_COUNT
} Op;

typedef enum OpClass { CLASS_LEAF, CLASS_ARITHMETIC, CLASS_COMPARE, CLASS_MATH, CLASS_SHAPE, CLASS_KERNEL } OpClass;

typedef struct OpInfo {
    const char *name;
    int arity; /* -1: any */
    OpClass class;
    const char *c, *llvm;
    const char *derivative[3];
} OpInfo;

extern const OpInfo op_table[OP_COUNT];

/* The op of that name, or OP_COUNT. */
Op op_named(const char *name);

/* An ARITHMETIC, COMPARE or MATH op on doubles; truth values are 0 and 1, an index is its number. */
double op_evaluate(Op op, double a, double b, double c);

#endif
