/* What bpc and its LLVM module promise each other. The module (bpc-llvm.so) is opened with dlopen by emit/jit.c for
   `run`,
   --emit=llvm, --emit=asm, -c and --backend=llvm alone, since loading LLVM costs some 20 ms; bpc never links it. The
   module finds what it needs of bpc (arenas, text, the op table) in the executable that opened it.

   Bits: what is printed computes, operation for operation, what print_kernels.c and print_values.c print in C. There is
   no fast-math flag, no contraction; fma is llvm.fma; sums keep their order. */
#ifndef BPC_LLVM_H
#define BPC_LLVM_H

#include "../../runtime/program.h"
#include "../emit/emit.h"
#include "../kernel/kernel.h"

enum { LLVM_BACKEND_ABI = 3 };
#define LLVM_BACKEND_SYMBOL "bpc_llvm_backend"

typedef enum LlvmForm {
    LLVM_FORM_TEXT,     /* the IR as it goes into code generation */
    LLVM_FORM_ASSEMBLY, /* of the machine */
    LLVM_FORM_OBJECT,   /* relocatable, position independent */
} LlvmForm;

typedef struct LlvmOptions {
    const char *cpu; /* as LLVM calls it; NULL: this machine's, with its features */
    int level;       /* 0 to 3: of code generation */
    bool debug;      /* functions and lines of the .bp file for a debugger */
    bool time;       /* what took how long, on stderr */
    bool no_cache;
    bool with_main;
    const HostFunction *functions; /* print with a program: those that a host calls */
    int function_count;
} LlvmOptions;

/* A function that is compiled at once; on all cores, those together. What is not named is compiled when it is first
 * called. */
typedef struct LlvmWanted {
    const char *function;
    bool hot;   /* called so often that passes pay which make its loops faster */
    bool later; /* not before others have run: compiled beside them */
} LlvmWanted;

typedef struct LlvmCode LlvmCode; /* code in memory */

/* All say what is wrong on stderr (error_plain) and return false or NULL then. */
typedef struct LlvmBackend {
    int abi;
    const char *version; /* "19.1.7" */
    /* program NULL: kernels and functions alone; else also the program as data, and with the option a main that runs
     * it. */
    bool (*print)(Module *module, const struct bp_program *program, LlvmForm form, const LlvmOptions *options,
                  Text *out);
    LlvmCode *(*compile)(Module *module, const LlvmWanted *wanted, int wanted_count, const LlvmOptions *options);
    void *(*find)(LlvmCode *code, const char *function); /* NULL where there is none of that name */
    void (*release)(LlvmCode *code);                     /* none of its functions may run any more */
} LlvmBackend;

#endif
