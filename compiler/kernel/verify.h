/* What the files of the verifier share: verify.c (types, scopes, order), verify_range.c (how far an index reaches),
   verify_share.c (what the rounds of a parallel loop touch). */
#ifndef BPC_VERIFY_H
#define BPC_VERIFY_H

#include "kernel.h"

#include <inttypes.h>

/* Inclusive bounds; far outside any index stands for "unknown". */
typedef struct Range {
    int64_t low, high;
} Range;
#define FAR      (INT64_C(1) << 62)
#define ANYTHING ((Range){-FAR, FAR})

/* What a condition says about a value, within the body or the branch where it holds. */
typedef struct Fact {
    const Value *value;    /* this value, or … */
    const Statement *loop; /* … this loop's variable, whose Values may be several */
    Range range;
} Fact;

typedef struct Verifier {
    Arena *arena;
    const Function *function; /* NULL in a math function */
    const Kernel *kernel;
    const MathFunction *math;
    const Statement *statement;
    int statement_number;         /* from 1, in the order of the print */
    LIST(const Value *) lets;     /* in scope */
    LIST(const Statement *) open; /* VARs and LOOPs in scope */
    LIST(Fact) facts;
    LIST(const Value *) seen;             /* values with arguments and without a name, each may be met once */
    LIST(Name) names;                     /* of the whole kernel */
    LIST(const struct Access *) accesses; /* inside the parallel loop, of buffers that the kernel stores to */
    const Statement *parallel;            /* the loop we are in */
    int parallel_loops;
} Verifier;

const char *verify_where(const Verifier *v);
#define BROKEN(v, ...) BUG("%s: %s", verify_where(v), arena_printf((v)->arena, __VA_ARGS__))

/* A scalar integer's least and greatest value where the facts around it hold. An empty range: never run. */
Range range_of(Verifier *v, const Value *value);
/* What holds in the body of an `if`. */
void range_assume(Verifier *v, const Value *condition, bool truth);
bool range_is_never(Verifier *v, const Value *condition);

/* Notes a load or store of a buffer inside the parallel loop; at the kernel's end no two rounds may have met. */
void share_note(Verifier *v, const Buffer *buffer, const Value *index, int lanes);
void share_check(Verifier *v);
/* The bounds of an index in which variables may cancel each other. */
Range share_range(Verifier *v, const Value *index);

#endif
