/* The machine that code is made for, and what LLVM says. LLVM only warns of a CPU it does not know and goes on for
   another one; its names are therefore listed here. */
#include "ir.h"

#include <llvm-c/Error.h>
#include <llvm-c/ErrorHandling.h>
#include <llvm-c/Target.h>
#include <stdlib.h>
#include <string.h>

/* ---- What LLVM says ---------------------------------------------------------------------------------------------- */

void say_message(const char *doing, char *message) {
    error_plain("%s: %s", doing, message && *message ? message : "LLVM does not say why");
    LLVMDisposeMessage(message);
}

void say_error(const char *doing, LLVMErrorRef error) {
    char *message = LLVMGetErrorMessage(error);
    error_plain("%s: %s", doing, message);
    LLVMDisposeErrorMessage(message);
}

/* LLVM gives up: what it would call abort for. */
static void on_fatal_error(const char *reason) {
    fprintf(stderr, "bpc: error: LLVM cannot go on: %s\n", reason);
    fflush(NULL);
    _Exit(1);
}

/* ---- CPUs -------------------------------------------------------------------------------------------------------- */

static const char *const x86_cpus[] = {"x86-64",
                                       "x86-64-v2",
                                       "x86-64-v3",
                                       "x86-64-v4",
                                       "nocona",
                                       "core2",
                                       "penryn",
                                       "nehalem",
                                       "westmere",
                                       "sandybridge",
                                       "ivybridge",
                                       "haswell",
                                       "broadwell",
                                       "skylake",
                                       "skylake-avx512",
                                       "cascadelake",
                                       "cooperlake",
                                       "cannonlake",
                                       "icelake-client",
                                       "icelake-server",
                                       "tigerlake",
                                       "rocketlake",
                                       "alderlake",
                                       "raptorlake",
                                       "meteorlake",
                                       "arrowlake",
                                       "arrowlake-s",
                                       "lunarlake",
                                       "pantherlake",
                                       "sapphirerapids",
                                       "emeraldrapids",
                                       "graniterapids",
                                       "sierraforest",
                                       "grandridge",
                                       "clearwaterforest",
                                       "gracemont",
                                       "bonnell",
                                       "silvermont",
                                       "goldmont",
                                       "goldmont-plus",
                                       "tremont",
                                       "knl",
                                       "knm",
                                       "k8",
                                       "k8-sse3",
                                       "opteron",
                                       "athlon64",
                                       "amdfam10",
                                       "barcelona",
                                       "btver1",
                                       "btver2",
                                       "bdver1",
                                       "bdver2",
                                       "bdver3",
                                       "bdver4",
                                       "znver1",
                                       "znver2",
                                       "znver3",
                                       "znver4",
                                       "znver5",
                                       NULL};

static const char *const arm_cpus[] = {"generic",     "cortex-a53",   "cortex-a55",  "cortex-a57",  "cortex-a72",
                                       "cortex-a73",  "cortex-a75",   "cortex-a76",  "cortex-a77",  "cortex-a78",
                                       "cortex-a510", "cortex-a710",  "cortex-a715", "cortex-x1",   "cortex-x2",
                                       "cortex-x3",   "neoverse-n1",  "neoverse-n2", "neoverse-v1", "neoverse-v2",
                                       "a64fx",       "ampere1",      "apple-m1",    "apple-m2",    "apple-m3",
                                       "apple-m4",    "thunderx2t99", "carmel",      NULL};

static bool cpu_known(const Target *target, const char *cpu) {
    const char *const *known = strncmp(target->triple, "x86_64", 6) == 0    ? x86_cpus
                               : strncmp(target->triple, "aarch64", 7) == 0 ? arm_cpus
                                                                            : NULL;
    if (!known)
        return strcmp(cpu, "generic") == 0;
    Name near = NULL;
    int count = 0;
    for (; known[count]; count++)
        if (strcmp(known[count], cpu) == 0)
            return true;
    near = nearest_name(cpu, known, count);
    if (near)
        error_plain("LLVM knows no CPU '%s' here; did you mean '%s'?", cpu, near);
    else
        error_plain("LLVM knows no CPU '%s' here; native is this machine's", cpu);
    return false;
}

static bool find_layout(Target *target) {
    LLVMTargetMachineRef machine = target_machine(target);
    if (!machine)
        return false;
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
    target->layout = LLVMCopyStringRepOfTargetData(layout);
    LLVMDisposeTargetData(layout);
    LLVMDisposeTargetMachine(machine);
    return true;
}

bool target_start(Target *target, const LlvmOptions *options) {
    static bool started;
    if (!started) {
        LLVMInstallFatalErrorHandler(on_fatal_error);
        LLVMInitializeNativeTarget();
        LLVMInitializeNativeAsmPrinter();
        LLVMInitializeNativeAsmParser();
        started = true;
    }
    *target = (Target){.options = options, .triple = LLVMGetDefaultTargetTriple()};
    char *message = NULL;
    if (LLVMGetTargetFromTriple(target->triple, &target->target, &message)) {
        say_message("LLVM has no code generator for this machine", message);
        return false;
    }
    const char *cpu = options->cpu;
    bool native = !cpu || strcmp(cpu, "native") == 0;
    target->cpu = native ? LLVMGetHostCPUName() : LLVMCreateMessage(cpu);
    target->features = native ? LLVMGetHostCPUFeatures() : LLVMCreateMessage("");
    return (native || cpu_known(target, cpu)) && find_layout(target);
}

void target_end(Target *target) {
    LLVMDisposeMessage(target->triple);
    LLVMDisposeMessage(target->cpu);
    LLVMDisposeMessage(target->features);
    LLVMDisposeMessage(target->layout);
}

LLVMTargetMachineRef target_machine(const Target *target) {
    static const LLVMCodeGenOptLevel levels[] = {LLVMCodeGenLevelNone, LLVMCodeGenLevelLess, LLVMCodeGenLevelDefault,
                                                 LLVMCodeGenLevelAggressive};
    LLVMTargetMachineRef machine =
        LLVMCreateTargetMachine(target->target, target->triple, target->cpu, target->features,
                                levels[target->options->level], LLVMRelocPIC, LLVMCodeModelDefault);
    if (!machine)
        error_plain("LLVM cannot make code for %s %s", target->triple, target->cpu);
    return machine;
}
