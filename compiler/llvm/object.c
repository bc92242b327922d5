/* From IR to an object file or to assembly; an object that was made before comes from the cache. */
#include "ir.h"

#include <llvm-c/BitWriter.h>
#include <llvm-c/Error.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdlib.h>
#include <string.h>

/* Kernels that are part of their function go into it; what is loaded twice is loaded once, and before the loop where it
   can be; short loops of hot kernels are unrolled (the others say that they are to be left alone). These pay for themselves: less code is generated. The larger pipelines take
   twice as long and gain nothing more: what is lanes in a kernel is a vector already; instcombine makes some tiles 6 %
   slower. */
static const char hot_passes[] = "always-inline,function(early-cse<memssa>,loop-mssa(licm),loop(loop-unroll-full))";

const char *passes_of(const Target *target) {
    const char *passes = getenv("BPC_LLVM_PASSES"); /* for trials */
    return passes ? passes : target->options->level >= 2 ? hot_passes : "";
}

static bool run_passes(const Target *target, LLVMTargetMachineRef machine, LLVMModuleRef module) {
    const char *passes = passes_of(target);
    if (!*passes)
        return true;
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    LLVMErrorRef error = LLVMRunPasses(module, passes, machine, options);
    LLVMDisposePassBuilderOptions(options);
    if (error)
        say_error("LLVM cannot run its passes", error);
    return !error;
}

LLVMMemoryBufferRef target_emit(const Target *target, LLVMTargetMachineRef machine, LLVMModuleRef module,
                                LlvmForm form) {
    CacheKey key = {{0}};
    bool cached = form == LLVM_FORM_OBJECT && !target->options->no_cache;
    if (cached) {
        LLVMMemoryBufferRef bits = LLVMWriteBitcodeToMemoryBuffer(module);
        key = cache_key(target, LLVMGetBufferStart(bits), LLVMGetBufferSize(bits));
        LLVMDisposeMemoryBuffer(bits);
        size_t length;
        char *bytes = cache_read(&key, &length);
        if (bytes) {
            LLVMMemoryBufferRef found = LLVMCreateMemoryBufferWithMemoryRangeCopy(bytes, length, "cached");
            free(bytes);
            return found;
        }
    }
    LLVMMemoryBufferRef made = NULL;
    char *message = NULL;
    if (!run_passes(target, machine, module))
        return NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(
            machine, module, form == LLVM_FORM_OBJECT ? LLVMObjectFile : LLVMAssemblyFile, &message, &made)) {
        say_message("LLVM cannot make machine code", message);
        return NULL;
    }
    if (cached)
        cache_write(&key, LLVMGetBufferStart(made), LLVMGetBufferSize(made));
    return made;
}
