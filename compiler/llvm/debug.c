/* Debug information: each kernel is a function of the .bp file, and all of its code stands on the kernel's line there.
 */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "ir.h"

#include <limits.h>
#include <llvm-c/DebugInfo.h>
#include <stdlib.h>
#include <string.h>

struct Debug {
    LLVMDIBuilderRef builder;
    LLVMMetadataRef type; /* of every function: the debugger needs one */
    PointerMap files;     /* path -> file */
    LLVMMetadataRef nowhere;
};

static LLVMMetadataRef file_of(Ir *ir, const char *path) {
    LLVMMetadataRef file = map_find(&ir->debug->files, path);
    if (file)
        return file;
    char whole[PATH_MAX];
    const char *shown = realpath(path, whole) ? whole : path; /* the prelude's have no place on the disk */
    const char *slash = strrchr(shown, '/');
    const char *name = slash ? slash + 1 : shown;
    file = LLVMDIBuilderCreateFile(ir->debug->builder, name, strlen(name), shown, slash ? (size_t)(slash - shown) : 0);
    map_put(ir->arena, &ir->debug->files, path, file);
    return file;
}

struct Debug *debug_start(Ir *ir) {
    struct Debug *debug = arena_new_of(ir->arena, struct Debug);
    ir->debug = debug;
    debug->builder = LLVMCreateDIBuilder(ir->module);
    const char *path = source_count() > 0 ? source_path(source_count() - 1) : "program";
    for (int i = 0; i < source_count(); i++)
        if (strncmp(source_path(i), "prelude/", 8) != 0) {
            path = source_path(i);
            break;
        }
    debug->nowhere = file_of(ir, path);
    LLVMDIBuilderCreateCompileUnit(debug->builder, LLVMDWARFSourceLanguageC11, debug->nowhere, "bpc " BPC_VERSION,
                                   strlen("bpc " BPC_VERSION), true, "", 0, 0, "", 0, LLVMDWARFEmissionFull, 0, false,
                                   false, "", 0, "", 0);
    debug->type = LLVMDIBuilderCreateSubroutineType(debug->builder, debug->nowhere, NULL, 0, LLVMDIFlagZero);
    LLVMTypeRef i32 = ir->i32;
    LLVMAddModuleFlag(ir->module, LLVMModuleFlagBehaviorWarning, "Debug Info Version", 18,
                      LLVMValueAsMetadata(LLVMConstInt(i32, LLVMDebugMetadataVersion(), false)));
    LLVMAddModuleFlag(ir->module, LLVMModuleFlagBehaviorWarning, "Dwarf Version", 13,
                      LLVMValueAsMetadata(LLVMConstInt(i32, 4, false)));
    return debug;
}

void debug_function(Ir *ir, LLVMValueRef function, const char *name, Span span) {
    if (!ir->debug)
        return;
    Place place = {.line = 0, .column = 0};
    LLVMMetadataRef file = ir->debug->nowhere;
    if (span.source >= 0) {
        place = span_place(span);
        file = file_of(ir, place.path);
    }
    LLVMMetadataRef about =
        LLVMDIBuilderCreateFunction(ir->debug->builder, file, name, strlen(name), "", 0, file, (unsigned)place.line,
                                    ir->debug->type, false, true, (unsigned)place.line, LLVMDIFlagZero, true);
    LLVMSetSubprogram(function, about);
    LLVMSetCurrentDebugLocation2(ir->builder, LLVMDIBuilderCreateDebugLocation(ir->context, (unsigned)place.line,
                                                                               (unsigned)place.column, about, NULL));
}

void debug_end(Ir *ir) {
    LLVMDIBuilderFinalize(ir->debug->builder);
    LLVMDisposeDIBuilder(ir->debug->builder);
}
