/* The kernel representation: loops, loads, stores, lanes. The only place where memory is written, and the last before text or
   machine code: print_c.c and print_llvm.c print the same kernels, evaluate.c runs them in double precision. So
   everything that could let the printers drift is explicit here: fma, the order of every sum, lanes, barriers.

   A Module holds functions (one call does one batch). A function is a list of steps: kernels in order, barriers between those
   that depend on each other, guards. A kernel is a tree of statements over values. A value is an expression without side
   effects; it is computed at the statement that uses it, or at the LET that names it.

   Invariants (kernel_verify):
   - types: arguments of an op agree in scalar and lanes (WHERE: a bool condition of equal lanes; shifts: equal types);
     a load has its buffer's scalar type; indices are scalar I64
   - a value with arguments that is used more than once is bound by a LET that comes before its uses, in the same or an enclosing body
   - registers are declared by VAR before they are set or read, in the same or an enclosing body
   - an index stays within its buffer for every value of the loop variables, with rows between 1 and the capacity (interval
     arithmetic on values of I64)
   - only the outermost statement list holds a parallel loop, at most one a kernel, and no two rounds of it touch the same
     element of a buffer that one of them stores to (verify_share.c says what is proved, and how); scratch is a thread's own
   - a constant buffer (FEED, SCALARS, TOTALS) is not stored to; unless the function is serial, two kernels that touch the
     same bytes, one of them storing, have a barrier between them, and a guard stands behind a barrier or another guard
   - a kernel with a parallel loop stores only inside it; names are unique in a kernel, and none is a buffer's */
#ifndef BPC_KERNEL_H
#define BPC_KERNEL_H

#include "../base/base.h"
#include "../op/op.h"

/* ---- Types ------------------------------------------------------------------------------------------------------------ */
typedef enum Scalar { SCALAR_F32, SCALAR_F64, SCALAR_I32, SCALAR_U32, SCALAR_I64, SCALAR_U64, SCALAR_BOOL } Scalar;

typedef struct ValueType {
    Scalar scalar;
    int lanes; /* 1, 4, 8 or 16 */
} ValueType;

const char *scalar_name(Scalar scalar); /* "f32" */
int scalar_bytes(Scalar scalar);        /* BOOL: 0, it is never in memory */

/* ---- Buffers: named pieces of memory ------------------------------------------------------------------------------------- */
typedef enum BufferRole {
    BUFFER_SCALARS,   /* the doubles at the start of memory */
    BUFFER_PARAMETER, /* persistent, float */
    BUFFER_STATE,     /* optimizer state: persistent */
    BUFFER_FEED,      /* a batch of one slot, filled by the runtime */
    BUFFER_TEMPORARY, /* lives within one call */
    BUFFER_OUTPUT,    /* read by the runtime after the call: sums, metrics, predictions, gradients. Rows' outputs at once, before
                         any function is called or any batch is gathered; but not what a frozen prefix gives */
    BUFFER_TOTALS,    /* doubles written by the runtime before a finish function or a trace */
    BUFFER_SCRATCH,   /* lives within one round of a kernel: each thread has its own, behind the block */
    BUFFER_ARGUMENT,  /* a pointer given to the kernel by its caller (the `log` service): no offset */
} BufferRole;

typedef struct Buffer {
    Name name;         /* as C may write it, unique in its function: fc1_weight */
    const char *shown; /* as the .bp file says it: fc1.weight */
    BufferRole role;
    Scalar scalar; /* F32, F64 or I32 */
    bool per_row;  /* the first axis is the batch: [capacity] before the dims */
    int rank;
    int64_t dims[4];
    bool panels;      /* 16 neighbours of the first axis together (runtime/program.h, BP_PANELS); else row-major */
    int64_t stride;   /* per_row in panels: rows a panel has room for, the capacity rounded up to whole tiles */
    int64_t elements; /* with the batch axis at capacity and the panels' padding */
    uint64_t offset;  /* bytes in memory, set by the plan; a multiple of 64 */
    Span span;
    int slot;                /* FEED: of the data set */
    bool partner;            /* FEED: of the rows that the batch's are mixed with */
    bool own;                /* FEED: each thread has all of it, behind the block: reading what another core has just
                                written costs more than filling it twice */
    int first_use, last_use; /* its lifetime, set by the plan: steps of the function, barriers not counted; -1: before the first */
    bool taken_at_once;      /* OUTPUT: it lives to the end of the call, no longer; set by the plan */
    const struct Kernel *toucher, *writer; /* the latest to touch it and to store to it: build.c's */
    const struct Function *user;           /* the latest that uses it: point.c's */
} Buffer;

/* Whether each thread has its own, at `offset` of the first. */
static inline bool buffer_of_thread(const Buffer *buffer) {
    return buffer->role == BUFFER_SCRATCH || buffer->own;
}

/* ---- Values ------------------------------------------------------------------------------------------------------------- */
typedef enum ValueKind {
    VALUE_NUMBER,   /* a constant of any scalar type */
    VALUE_VARIABLE, /* a loop's variable: I64 */
    VALUE_CONTEXT,  /* a field of the context: rows, position (I64), seed, step (U64) */
    VALUE_OP,       /* op(args): ARITHMETIC, COMPARE, MATH (only on f32 and f64) or KERNEL rows of the op table */
    VALUE_LOAD,     /* buffer[index], `lanes` contiguous elements from there; I32 buffers too */
    VALUE_SPLAT,    /* a scalar in every lane */
    VALUE_LANES,    /* 0, 1, 2 … in the lanes: I32 */
    VALUE_EXTRACT,  /* one lane, number.integer says which */
    VALUE_TREE, /* the lanes of a 16-lane value joined by `op` (ADD, MAXIMUM, MINIMUM) in the fixed tree: ((0+8)+(4+12)) + ((2+10)+(6+14)) and so on: halves
                       are added, 16 -> 8 -> 4 -> 2 -> 1, lane i to lane i + half */
    VALUE_REGISTER, /* the current value of a VAR */
    VALUE_ARGUMENT, /* a parameter of a math function: number.integer says which; `let` is its name */
    VALUE_CALL,     /* a math function of kernel/math.c applied to args (RANDOM and the like) */
} ValueKind;

typedef enum ContextField {
    CONTEXT_ROWS,
    CONTEXT_POSITION,
    CONTEXT_SEED,
    CONTEXT_STEP,
    CONTEXT_THREAD,
    CONTEXT_THREADS
} ContextField;

typedef struct Value Value;
typedef struct Statement Statement;
typedef struct MathFunction MathFunction;

struct Value {
    ValueKind kind;
    ValueType type;
    Op op;
    int arg_count;
    ContextField field;
    Value *args[6];
    union {
        double real;
        int64_t integer; /* every integer type, in two's complement */
    } number;
    Buffer *buffer;       /* LOAD */
    Statement *statement; /* VARIABLE: its loop; REGISTER: its VAR */
    MathFunction
        *function; /* CALL; an OP of class MATH: the function it stands for, made by value_op; it takes the last
                               of the arguments where the first are constants that it was made for */
    Name let;      /* the name it is bound to once a LET has named it, unique in its kernel */
};

/* ---- Statements ------------------------------------------------------------------------------------------------------------ */
typedef enum StatementKind {
    STATEMENT_LOOP,     /* for variable in [from, to) by step */
    STATEMENT_LET,      /* value is computed here; value->let is its name */
    STATEMENT_VAR,      /* a register: name, type, first value */
    STATEMENT_SET,      /* the register of `target` takes value */
    STATEMENT_STORE,    /* buffer[index] = value, its lanes contiguous */
    STATEMENT_IF,       /* when value (a scalar bool) holds: body */
    STATEMENT_PREFETCH, /* the cache line of buffer[index] will be read and written soon: a hint */
    STATEMENT_COMMENT,  /* text, printed as it is */
} StatementKind;

typedef struct Block {
    Statement **at;
    int count, capacity;
} Block;

struct Statement {
    StatementKind kind;
    Name name;      /* LOOP: its variable; VAR: its register; COMMENT: the text */
    ValueType type; /* VAR */
    Value *value;
    Statement *target; /* SET: the VAR */
    Buffer *buffer;
    Value *index;
    Value *from, *to; /* LOOP: I64 */
    int64_t step;     /* LOOP: > 0. The last round may pass `to` only where the body masks it */
    bool parallel;    /* LOOP: thread t of n takes rounds [count * t / n, count * (t + 1) / n) */
    bool write;       /* PREFETCH: what comes will be stored to */
    Block body;
};

typedef struct Kernel {
    Name name;           /* a C identifier, unique in the module */
    const char *formula; /* what it computes, in the .bp file's words: "fc1 = relu(weight @ x + bias)" */
    Span span;
    Buffer **buffers; /* every buffer it touches, each once; value_load and build_store add to it */
    int buffer_count;
    Buffer **written; /* those it stores to */
    int written_count;
    Block body;
    bool parallel; /* has a parallel loop. Else thread 0 alone runs it */
    double flops;  /* an estimate a row batch of full capacity, for the cost model */
} Kernel;

/* ---- Functions ---------------------------------------------------------------------------------------------------------------- */
typedef enum StepKind {
    STEP_KERNEL,
    STEP_BARRIER, /* between kernels that depend on each other; nothing when serial */
    STEP_GUARD,   /* the function ends here unless buffer[element] is finite; stands behind a barrier */
    STEP_WHEN,    /* up to its END, steps are done where context->step + 1 is a multiple of `element`; behind a barrier */
    STEP_END,     /* behind a barrier */
} StepKind;

typedef struct Step {
    StepKind kind;
    Kernel *kernel;
    Buffer *buffer;  /* GUARD */
    int64_t element; /* GUARD: which of the buffer's; WHEN: above 1 */
} Step;

typedef struct Function {
    Name name;         /* a C identifier, unique: Classifier_step */
    const char *about; /* one line for the comment above it */
    Span span;
    Step *steps;
    int step_count;
    Buffer **buffers;
    int buffer_count;
    int64_t capacity; /* most rows */
    bool parallel;    /* worth threads */
    bool is_double;   /* for --check-grad: its memory is another block */
    /* the service functions: void name(float *values, int64_t count) over one ARGUMENT buffer; rows is the count */
    bool is_map;
} Function;

/* A math function: typed arguments to one value, without memory. Printed once a type, as an inline function. */
struct MathFunction {
    Name name;         /* exp_f32x8 */
    const char *about; /* method, source, greatest error */
    ValueType arguments[6];
    Name argument_names[6]; /* what dumps and printers call them */
    int argument_count;
    ValueType result;
    Block body; /* LET statements alone */
    Value *value;
};

typedef struct Module {
    Arena *arena;
    LIST(Function *) functions;
    LIST(MathFunction *) maths; /* those used, callees first */
    uint64_t memory_bytes;
    uint64_t room;          /* where the part of memory begins that functions share, one after another */
    uint64_t scratch_bytes; /* thread t's scratch begins at memory_bytes + t * scratch_bytes */
} Module;

/* ---- Building (kernel/build.c): type-checked constructors; a mistake is a BUG ------------------------------------------------- */
typedef struct LocalName {
    Name name;
    int kernel; /* the round of names that it is of: of an earlier one it is free */
    bool taken; /* by a local, by a buffer that the kernel touches, by C */
    Name *slot; /* the local's; NULL: none has it */
    int tried;  /* name_2, name_3 … up to this one are taken; 0: none was wanted */
} LocalName;

/* Open addressing; the size is a power of two, at least half is free. */
typedef struct LocalNames {
    LocalName *at;
    size_t size, count;
    int kernel; /* one more for each kernel: build_start_names */
} LocalNames;

typedef struct Builder {
    Arena *arena;
    Module *module;
    Kernel *kernel;     /* may be NULL inside a math function */
    Block *block;     /* where statements go */
    LocalNames names; /* in this kernel */
} Builder;

void build_start_names(Builder *b); /* for another kernel by the same Builder */
Value *value_number(Builder *b, ValueType type, double number); /* integers too, exactly */
Value *value_integer(Builder *b, int64_t number);               /* I64 */
Value *value_bits(Builder *b, ValueType type, int64_t bits);    /* any integer type, all 64 bits; BOOL: 0 or 1 */
Value *value_context(Builder *b, ContextField field);
Value *value_op(Builder *b, Op op, Value *x, Value *y,
                Value *z); /* unused arguments NULL; small integer constants are folded */
Value *value_convert(Builder *b, Value *x,
                     Scalar to); /* x itself when it has that type; a truth value gives 1 or 0 (REAL) */
Value *value_bitcast(Builder *b, Value *x, Scalar to);
Value *value_load(Builder *b, Buffer *buffer, Value *index, int lanes);
Value *value_splat(Builder *b, Value *x, int lanes);
Value *value_lanes(Builder *b, int lanes);
Value *value_extract(Builder *b, Value *x, int lane);
Value *value_tree(Builder *b, Op op, Value *x);
Value *value_call(Builder *b, MathFunction *function, Value **args, int count);
Value *value_read(Builder *b, Statement *variable); /* REGISTER */

Value *build_let(Builder *b, const char *name,
                 Value *value); /* name: a wish, made unique. A leaf or a named value stays as it is */
Statement *build_var(Builder *b, const char *name, Value *first);
void build_set(Builder *b, Statement *variable, Value *value);
void build_store(Builder *b, Buffer *buffer, Value *index, Value *value);
/* Opens a loop: further statements go into its body until build_end with what it returned. *variable is its VARIABLE. */
Block *build_loop(Builder *b, const char *name, Value *from, Value *to, int64_t step, bool parallel, Value **variable);
Block *build_if(Builder *b, Value *condition);
void build_end(Builder *b, Block *outer);
void build_prefetch(Builder *b, Buffer *buffer, Value *index, bool write);
void build_comment(Builder *b, const char *text);
/* No local gets this name. */
void build_take_name(Builder *b, Name name);
/* A buffer gets another name, in the kernel in hand, too. */
void build_rename(Builder *b, Buffer *buffer, Name name);
/* A list that has room for the next power of two. */
void buffer_append(Arena *arena, Buffer ***list, int *count, Buffer *buffer);

/* ---- machine.c: what tiles are cut for. It decides nothing that changes a bit ------------------------------------------------- */
typedef struct Machine {
    const char *name;
    int lanes;      /* floats in a vector register */
    int registers;  /* of them */
    int64_t l1, l2; /* bytes of cache that one core has to itself */
    int cores;
} Machine;
/* By the name that --march takes: NULL and "native" are this machine, a name that is not known is the plainest of its kind. */
const Machine *machine_named(const char *march);

/* ---- math.c ---------------------------------------------------------------------------------------------------------------------- */
/* The function that an op of class MATH stands for, for f32 or f64 in any lanes; made once a module. */
MathFunction *math_function(Module *module, Op op, ValueType type);
/* The same for `power` of a constant, a function of the exponent alone: its logarithm is worked out here. */
MathFunction *math_power_of(Module *module, double base, ValueType type);
/* The first of a value's arguments that its function takes, if it has one. */
int value_first_argument(const Value *value);
/* Random draws by Philox4x32-10. Arguments, all scalar: seed U64, step U64, row I64, element I64, stream U32; lane i of the
   result, f32 in `lanes` lanes, is the draw for element + i, the same that 1 lane gives for it.
   Key: the low and the high word of seed. Counter: (element, row, step, stream'), low words, where
   stream' = stream ^ row.high * 0x9E3779B1 ^ step.high * 0xC2B2AE3D ^ element.high * 0x85EBCA77, modulo 2^32.
   uniform: first word >> 8 times 2^-24, in [0, 1), exactly. normal: Box-Muller on the first two words, cosine branch:
   sqrt(-2 log(((first >> 8) + 1) 2^-24)) cos(2 pi (second >> 8) 2^-24), at most 5.8 in size. */
MathFunction *math_uniform(Module *module, int lanes);
MathFunction *math_normal(Module *module, int lanes);
/* The same of elements that are not neighbours: a sixth argument U32 is how far each lane's is from the one before, and the
   last from the first less than 2^32. */
MathFunction *math_uniform_apart(Module *module, int lanes);
MathFunction *math_normal_apart(Module *module, int lanes);

/* ---- plan.c ----------------------------------------------------------------------------------------------------------------------- */
uint64_t buffer_bytes(const Buffer *buffer);     /* what it takes in memory, with what lanes may read behind it */
bool buffer_shares_room(const Buffer *buffer);   /* with other functions', and with those of other lifetimes in its own */

/* ---- the rest ----------------------------------------------------------------------------------------------------------------------- */
void kernel_verify(const Module *module);           /* BUG() where an invariant is broken */
void module_print(const Module *module, Text *out); /* good to read, one statement a line */
/* Runs a function in double precision. memory: one array of double for each of the function's buffers, in the order of
   function->buffers, [elements] each (an I32 element is its number). Random draws and integer bits are exact. MATH ops use libm. */
void function_evaluate(const Function *function, double **memory, int64_t rows, int64_t position, uint64_t seed,
                       uint64_t step);
/* The same to the bit as the printed code computes it: every f32 operation rounds to float, MATH ops run their functions. */
void function_evaluate_exact(const Function *function, double **memory, int64_t rows, int64_t position, uint64_t seed,
                             uint64_t step);
/* One call of a math function, to the bit: arguments[i][lane], result[lane]. Truth values and integers are `integer`. */
typedef union Number {
    double real;
    int64_t integer;
} Number;
/* An operation, not of class MATH, whose arguments are numbers: its first lane, to the bit. */
Number constant_evaluate(const Value *value);
void math_evaluate(const MathFunction *function, const Number (*arguments)[16], Number *result);

#endif
