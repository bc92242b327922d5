/* What bpc finds in the module that it opens. */
#include "ir.h"

#include <stdlib.h>
#include <string.h>

static bool module_text(LLVMModuleRef module, Text *out) {
    char *text = LLVMPrintModuleToString(module);
    text_add(out, text);
    LLVMDisposeMessage(text);
    return true;
}

static bool module_code(const Target *target, LLVMModuleRef module, LlvmForm form, Text *out) {
    LLVMTargetMachineRef machine = target_machine(target);
    LLVMMemoryBufferRef bytes = machine ? target_emit(target, machine, module, form) : NULL;
    if (bytes) {
        text_add_bytes(out, LLVMGetBufferStart(bytes), LLVMGetBufferSize(bytes));
        LLVMDisposeMemoryBuffer(bytes);
    }
    if (machine)
        LLVMDisposeTargetMachine(machine);
    return bytes != NULL;
}

static bool print_with(const Target *target, Module *module, const struct bp_program *program, LlvmForm form,
                       Text *out) {
    Arena *arena = arena_new();
    LLVMContextRef context = LLVMContextCreate();
    Shapes shapes;
    Piece piece = {0};
    shapes_find(arena, module, &shapes);
    for (int i = 0; i < module->functions.count; i++) {
        shapes_heat(&shapes, module->functions.at[i]);
        if (!target->options->debug)
            shapes_join(&shapes, module->functions.at[i]);
    }
    piece_all(arena, module, &shapes, &piece);
    LLVMModuleRef made = print_llvm(arena, context, &shapes, &piece, target, true);
    bool done = made != NULL;
    if (done) {
        if (program)
            print_program_image(arena, made, program, target->options);
        done = form == LLVM_FORM_TEXT ? module_text(made, out) : module_code(target, made, form, out);
        LLVMDisposeModule(made);
    }
    LLVMContextDispose(context);
    arena_free(arena);
    return done;
}

static bool print(Module *module, const struct bp_program *program, LlvmForm form, const LlvmOptions *options,
                  Text *out) {
    Target target;
    bool done = target_start(&target, options) && print_with(&target, module, program, form, out);
    target_end(&target);
    return done;
}

__attribute__((visibility("default"))) const LlvmBackend bpc_llvm_backend;

const LlvmBackend bpc_llvm_backend = {.abi = LLVM_BACKEND_ABI,
                                      .version = BPC_LLVM_VERSION,
                                      .print = print,
                                      .compile = code_compile,
                                      .find = code_find,
                                      .release = code_release};
