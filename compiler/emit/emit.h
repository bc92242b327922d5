/* From kernels to text and to an executable. The C is read by people: names from the .bp file, shapes in comments, the
   line it came from. Its bits do not depend on the compiler, the level of optimisation or the machine it is built for.
 */
#ifndef BPC_EMIT_H
#define BPC_EMIT_H

#include "../../runtime/program.h"
#include "../kernel/kernel.h"

/* ---- Text that travels inside bpc (written by compiler/embed.cmake) ---------------------------------------------- */
struct embedded_file {
    const char *name; /* "program.h", "relu.bp" */
    const char *text; /* NUL-terminated */
    size_t length;
};
/* Each ends with a row whose name is NULL. The runtime is in the order in which it may be joined to one file. */
extern const struct embedded_file embedded_prelude[];
extern const struct embedded_file embedded_runtime[];

/* ---- The whole file: amalgam.c ----------------------------------------------------------------------------------- */
typedef enum CKind {
    C_STANDALONE, /* the runtime's text inside: needs nothing but libc, libm and, for threads, OpenMP. With BP_NO_MAIN
                     defined it has the functions of a library instead of main */
    C_LINKED,     /* declarations only: to be linked with libbpruntime.a */
    C_LIBRARY,    /* the same without main, for a host program */
} CKind;

/* A function of a program that is used as a library: host.c. Its signature is letters: what it returns, a colon, what it
   takes: v nothing, p a pointer, c a pointer to const, i int32_t, l int64_t, u uint64_t, d double; P and I are no arguments
   of its own but what it adds: the program, and `about`. "i:pIpl": int f(void *, void *, int64_t) calls
   g(its first, about, its second, its third). */
typedef struct HostFunction {
    const char *name;  /* "iris_predict" */
    const char *calls; /* "bp_host_predict" */
    const char *signature;
    int32_t about; /* which data set, phase or model */
} HostFunction;
typedef LIST(HostFunction) HostFunctions;

/* The module's kernels and the program as C with a main. In `program`, a bp_function whose name is not NULL stands for
   the Function of that name; its code pointer is not looked at, nor is bp_data.log where log_name is set. Functions
   that the program does not name are left out. With program NULL: every function, extern, and no main (for tests and
   dumps). */
void print_c(Module *module, const struct bp_program *program, CKind kind, Text *out);
/* C_LINKED for a C compiler that runs several times at once: the text is compiled with BP_UNIT from 0 on, to as many
   objects as this returns, at most `most`. A small program is one unit, and then there is no BP_UNIT. */
enum { C_UNITS_MAX = 8 };
int print_c_units(Module *module, const struct bp_program *program, int most, Text *out);
/* The runtime alone as one C file, for linking with a C_LINKED file where no archive is at hand. */
void print_runtime(Text *out);

/* ---- An executable: native.c ------------------------------------------------------------------------------------- */
typedef struct NativeOptions {
    int level;         /* -O; 0 to 3 */
    const char *march; /* -march; NULL: native */
    bool debug;        /* -g, and the C file stays at OUTPUT.c for the debugger */
    bool verbose;      /* commands are shown on stderr */
    bool keep;         /* the C file stays at OUTPUT.c */
    bool is_object;    /* what is given is no C but an object file: the compiler only links */
    bool to_object;    /* the output is an object file: nothing is linked */
    int units;         /* of print_c_units; 0 is 1 */
} NativeOptions;
#define NATIVE_DEFAULT ((NativeOptions){.level = 2})

/* Compiles a C_LINKED text with the system's compiler ($CC, else cc, gcc, clang) and writes the executable beside
   `output` before renaming it. Says what is wrong on stderr and returns false; nothing is left behind then. */
bool native_build(const Text *linked, const char *output, const NativeOptions *options);
/* How many units this machine compiles at once, at most C_UNITS_MAX. */
int native_units(void);

/* ---- Between the files of this folder ---------------------------------------------------------------------------- */
/* names.c: identifiers that C will take: no keyword, no macro of a system header, nothing of the runtime, each used
 * once. */
typedef struct CNames CNames;
typedef enum CScope {
    SCOPE_GLOBAL, /* functions and kernels */
    SCOPE_MATH,   /* functions that kernels call: locals keep off them */
    SCOPE_LOCAL,  /* inside the kernel in hand */
} CScope;
CNames *c_names_new(Arena *arena);
/* The identifier for `key` (any address, or an interned name), made from `wish` when first asked for. */
const char *c_name(CNames *names, const void *key, const char *wish, CScope scope);
void c_names_end_locals(CNames *names);

/* lanes.c: types of lanes, and the small functions on them, each printed when first used. */
typedef struct Lanes {
    Arena *arena;
    Text types, functions;
    LIST(const char *) known; /* names of types and functions that are printed */
    const char *types_by[SCALAR_BOOL + 1][17]; /* those of types, by their lanes; NULL: not yet */
    LIST(struct KnownFunction {
        int op;
        ValueType to;
        ValueType from;
        const char *name;
    }) functions_by; /* those of functions */
    int width;                /* bits of the registers that the body in hand is for; 0: any */
} Lanes;
/* What is applied to lanes besides the rows of the op table. */
enum LaneOp {
    LANE_SPLAT = OP_COUNT,
    LANE_LOAD,
    LANE_STORE,
    LANE_LOW, /* the lower half of the lanes */
    LANE_HIGH,
    LANE_JOIN,
    LANE_TREE_SUM,
    LANE_TREE_MAXIMUM,
    LANE_TREE_MINIMUM,
    LANE_AT,      /* one lane: (a, its number) */
    LANE_NUMBERS, /* 0, 1, 2 … */
    LANE_FINITE,
    LANE_KEEP,          /* the argument, from here on in a register if gcc can be told */
    LANE_MAXIMUM_FIRST, /* max(a, b) where a is known not to be NaN: one instruction */
    LANE_MINIMUM_FIRST,
    LANE_MAXIMUM_SECOND, /* where b is: one comparison */
    LANE_MINIMUM_SECOND,
};
typedef enum FormKind {
    FORM_CALL,    /* text(a, b) */
    FORM_INFIX,   /* a text b */
    FORM_PREFIX,  /* text a */
    FORM_CAST,    /* (text)a */
    FORM_CONVERT, /* __builtin_convertvector(a, text) */
    FORM_TERNARY, /* a ? b : c */
} FormKind;
typedef struct Form {
    FormKind kind;
    const char *text;
} Form;
/* How an op (of the table or LANE_) is written whose result is `to` and whose last argument is `from`. */
Form lane_form(Lanes *lanes, int op, ValueType to, ValueType from);
const char *lane_type(Lanes *lanes, ValueType type);
int lane_tree(Op op); /* LANE_TREE_… of ADD, MAXIMUM or MINIMUM */
/* Wider than 16 bytes: perhaps a struct of halves `low` and `high`, since gcc keeps vectors wider than the machine's in
   memory. Nothing but a function of lanes.c may look inside. */
bool lane_paired(ValueType type);

/* print_kernels.c with print_values.c, and print_program.c */
int print_kernels(Module *module, const struct bp_program *program, int most_units, CNames *names, Text *out);
void print_program(const struct bp_program *program, CKind kind, CNames *names, Text *out);
/* Calls `visit` with each function of the program that exists, its services (`log`) among them. */
void program_functions(const struct bp_program *program, void (*visit)(void *argument, const char *name),
                       void *argument);
/* A number that reads back to the same bits as float or double. */
void print_real(Text *out, double number, bool single);
/* Any string inside a comment: ASCII alone, other characters as <U+00E9>. */
void print_comment(Text *out, const char *string);

#endif
