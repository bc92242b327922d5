/* Between the files of this folder: kernels on their way to LLVM IR, and IR on its way to machine code. */
#ifndef BPC_LLVM_IR_H
#define BPC_LLVM_IR_H

#include "../kernel/share.h"
#include "llvm.h"

#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/TargetMachine.h>

/* ---- What code is made for: target.c ----------------------------------------------------------------------------- */
typedef struct Target {
    char *triple, *cpu, *features, *layout;
    LLVMTargetRef target;
    const LlvmOptions *options;
} Target;

/* ---- A module of IR: print_llvm.c -------------------------------------------------------------------------------- */
/* What goes into one module of LLVM; what it uses besides is declared. Every list has each thing once. */
typedef struct Piece {
    LIST(const Function *) functions;
    LIST(const Shape *) shapes;
    LIST(const MathFunction *) maths;
    int weight;
} Piece;

typedef struct Ir {
    Arena *arena;
    const Shapes *shapes;
    const Piece *piece;
    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMBuilderRef builder;
    LLVMTypeRef pointer, i64, i32;
    LLVMValueRef plain_loop; /* metadata of a loop that passes leave alone */
    bool whole;              /* nothing else will be linked to it: kernels are internal */
    PointerMap functions;    /* Shape or MathFunction -> function */
    /* of the function in hand */
    LLVMValueRef function;
    const Shape *shape;
    PointerMap values; /* buffer, LET, VAR, loop -> value */
    LLVMValueRef fields[CONTEXT_THREADS + 1];
    struct Debug *debug; /* NULL: no debug information */
} Ir;

LLVMTypeRef ir_type(Ir *ir, ValueType type);
LLVMValueRef ir_integer(Ir *ir, int64_t number);
LLVMValueRef ir_value(Ir *ir, const Value *value);
LLVMValueRef ir_plain(Ir *ir, const Value *value);                         /* even where a LET has named it */
LLVMValueRef ir_element(Ir *ir, const Buffer *buffer, const Value *index); /* its address */
LLVMValueRef ir_finite(Ir *ir, LLVMValueRef number, Scalar scalar);
LLVMValueRef ir_math(Ir *ir, const MathFunction *function); /* declared where it is not there yet */
void ir_block(Ir *ir, const Block *block);
void ir_shape(Ir *ir, const Shape *shape);
LLVMValueRef ir_shape_function(Ir *ir, const Shape *shape); /* declared where it is not there yet */
LLVMBasicBlockRef ir_new_block(Ir *ir, const char *name);

/* Everything of the module in one piece; or cut into `count` of about equal weight, functions of `names` alone (NULL:
   all), without what `done` has. */
void piece_all(Arena *arena, const Module *module, const Shapes *shapes, Piece *piece);
void piece_add_function(Arena *arena, const Shapes *shapes, Piece *pieces, int count, const Function *function,
                        PointerMap *done);

/* A module of IR, verified; NULL with an error said. */
LLVMModuleRef print_llvm(Arena *arena, LLVMContextRef context, const Shapes *shapes, const Piece *piece,
                         const Target *target, bool whole);

/* ---- Debug information: debug.c ---------------------------------------------------------------------------------- */
struct Debug *debug_start(Ir *ir);
void debug_function(Ir *ir, LLVMValueRef function, const char *name, Span span);
void debug_end(Ir *ir);

/* ---- The program as data: image.c -------------------------------------------------------------------------------- */
/* Adds the program as a constant to a module, and what the options ask for: a main that runs it, the functions of a
   library. Nothing else stays visible, and what is not reached from there is taken out. */
void print_program_image(Arena *arena, LLVMModuleRef module, const struct bp_program *program,
                         const LlvmOptions *options);

/* ---- Machine code: target.c, object.c ---------------------------------------------------------------------------- */
bool target_start(Target *target, const LlvmOptions *options); /* false with an error said */
void target_end(Target *target);
LLVMTargetMachineRef target_machine(const Target *target); /* one for each thread; NULL with an error said */
/* Object or assembly of a module; from the cache where it is there. NULL with an error said. */
LLVMMemoryBufferRef target_emit(const Target *target, LLVMTargetMachineRef machine, LLVMModuleRef module,
                                LlvmForm form);
const char *passes_of(const Target *target); /* "" none */
/* Takes LLVM's message and says it. */
void say_message(const char *doing, char *message);
void say_error(const char *doing, LLVMErrorRef error);

/* cache.c: a file for each key under $XDG_CACHE_HOME/bpc. Bytes or NULL; malloc'd. */
typedef struct CacheKey {
    char name[48]; /* hexadecimal */
} CacheKey;
CacheKey cache_key(const Target *target, const char *bytes, size_t length);
char *cache_read(const CacheKey *key, size_t *length);
void cache_write(const CacheKey *key, const char *bytes, size_t length);

/* crash.c: watches one code at a time. */
void crash_watch(LlvmCode *code);
void crash_watch_no_more(LlvmCode *code);

/* jit.c */
/* "kernel Net_step_fc1" and where the .bp file says so; NULL where the place is in none of its functions. For crashes:
   it takes its time. */
const char *code_at(LlvmCode *code, const void *place, Place *at);
LlvmCode *code_compile(Module *module, const LlvmWanted *wanted, int wanted_count, const LlvmOptions *options);
void *code_find(LlvmCode *code, const char *function);
void code_release(LlvmCode *code);

#endif
