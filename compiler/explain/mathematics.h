/* Mathematics as a small tree: what a formula says, not how it is set. One traversal (write.c) decides order and parentheses; text, LaTeX and MathML are
   styles that it writes in.

   Values are those of one row of the batch, as in the graph: products of vectors, quotients, powers and functions go element by element, and a number
   stands for itself beside a vector. math_value builds the graph again from a tree, which is how a tree is proved to say what the graph computes.

   Invariants: a SUM of one term has a minus; no SUM stands in a SUM, no PRODUCT in a PRODUCT; a QUOTIENT's sides hold no QUOTIENT; numbers stand first. */
#ifndef BPC_EXPLAIN_MATH_H
#define BPC_EXPLAIN_MATH_H

#include "../graph/graph.h"

typedef enum MathKind {
    MATH_NUMBER,
    MATH_SYMBOL,
    MATH_SUM,            /* args, each added or (minus[i]) subtracted */
    MATH_PRODUCT,        /* of numbers, and element by element */
    MATH_QUOTIENT,       /* args[0] / args[1] */
    MATH_POWER,          /* args[0] ^ args[1] */
    MATH_MATRIX_PRODUCT, /* args[0] args[1], each transposed where turned[i]; of vectors a' b or a b' */
    MATH_TRANSPOSED,
    MATH_FUNCTION,       /* name(args), or name of one: log x */
    MATH_ABSOLUTE,
    MATH_ROOT,
    MATH_FLOOR,
    MATH_NORM_SQUARED,   /* sum of the squares of args[0]'s elements */
    MATH_CASES,          /* args[1] where args[0] holds, else args[2] */
    MATH_RELATION,       /* args[0] `op` args[1]; NOT of args[0] alone */
    MATH_INDICATOR,      /* 1 where args[0] holds, else 0 */
    MATH_ELEMENTS_SUM,   /* over a row's elements */
    MATH_ROWS_SUM,       /* over the rows of the batch */
    MATH_RANGE,          /* elements first … first + count - 1 of args[0] */
    MATH_ROW,            /* row args[1] of the table args[0]; several: each index is a row of the result's factor */
    MATH_STACK,          /* args end to end */
    MATH_FILLED,         /* args[0] in every element */
    MATH_RESHAPED,       /* the same elements; not written where the shapes differ by axes of one */
} MathKind;

/* W_fc1, or the derivative of the loss with respect to it. The index is a path: body.3.fc1 */
typedef struct Symbol {
    const char *letter; /* a letter or a word */
    const char *index;  /* NULL: none */
    int primes;
    const struct Symbol *derivative_of; /* the loss, where this is d loss / d symbol; NULL: the symbol itself */
} Symbol;

typedef struct Math Math;
struct Math {
    MathKind kind;
    int rank;
    int64_t dims[4];
    Math **args;
    int arg_count;
    bool *minus;        /* SUM */
    bool turned[2];     /* MATRIX_PRODUCT */
    double number;      /* NUMBER */
    const Symbol *symbol;
    Node *node;         /* SYMBOL, FUNCTION: what it stands for, or what it was made of */
    const char *name;   /* FUNCTION */
    Op op;              /* RELATION: LESS … NOT; FUNCTION: a primitive, or CUSTOM */
    int64_t first;      /* RANGE */
};

/* ---- mathematics.c: constructors keep the invariants ------------------------------------------------------------------------- */
Math *math_new(Arena *arena, MathKind kind, int rank, const int64_t *dims, Math **args, int count); /* copies args */
Math *math_number(Arena *arena, double number);
Math *math_negative(Arena *arena, Math *x);
Math *math_add(Arena *arena, Math *x, Math *y);
Math *math_subtract(Arena *arena, Math *x, Math *y);
Math *math_multiply(Arena *arena, Math *x, Math *y);
Math *math_divide(Arena *arena, Math *x, Math *y);
/* A factor or a denominator that all terms share stands before or below the sum: a x - a y = a (x - y). */
Math *math_collected(Arena *arena, Math *sum);
bool math_is_negative(const Math *x); /* begins with a minus */
bool math_is_number(const Math *x, double number);
bool math_equal(const Math *x, const Math *y);
/* The graph that the tree says. */
Node *math_value(Graph *graph, const Math *x);

/* ---- write.c, and a style in each of text.c, latex.c, mathml.c --------------------------------------------------------- */
typedef enum MathBox { BOX_PARENTHESES, BOX_FRACTION, BOX_SUPERSCRIPT, BOX_SUBSCRIPT, BOX_ROOT, BOX_ABSOLUTE, BOX_FLOOR, BOX_NORM, BOX_CASES,
                       BOX_INDICATOR, BOX_MATRIX, BOX_ROW } MathBox;

typedef struct MathStyle {
    bool linear; /* a fraction lies on the line, so its sides may need parentheses */
    void (*symbol)(Text *out, const char *letter, const char *index);
    void (*word)(Text *out, const char *word);       /* a function's name, or "otherwise" */
    void (*number)(Text *out, const char *mantissa, const char *exponent); /* exponent of ten; NULL: none */
    void (*sign)(Text *out, const char *sign);       /* + − ⊙ < ≤ … ᵀ, in Unicode; "" is the space of a product */
    void (*open)(Text *out, MathBox box);
    void (*next)(Text *out, MathBox box);            /* between its parts: of a MATRIX and of CASES, CASES between columns, ROW between rows */
    void (*close)(Text *out, MathBox box);
    void (*sum)(Text *out, const char *index);       /* the sign of a sum, over k or n */
} MathStyle;
extern const MathStyle text_style, latex_style, mathml_style;

/* Layers that are alike are written once: the number behind `prefix` is written as i, i − 1 …, with `number` for i. */
typedef struct Fold {
    const char *prefix; /* "body." or "fc"; NULL: none */
    int64_t number;
} Fold;

void math_write(const MathStyle *style, const Fold *fold, const Math *x, Text *out);
void symbol_write(const MathStyle *style, const Fold *fold, const Symbol *symbol, Text *out);
/* "body[3].fc1" of body.3.fc1, "body[i].fc1" where folded. */
void index_text(const char *index, const Fold *fold, Text *out);
/* Where the index has a number that could be folded: its prefix's length, INDEX_PLAIN where none. */
enum { INDEX_PLAIN = -1 };
int index_number(const char *index, int64_t *number);
/* With so many significant digits; 0: as few as say it all. */
void number_write(const MathStyle *style, double number, int digits, Text *out);

#endif
