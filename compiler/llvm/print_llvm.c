/* A module of LLVM IR: functions that call kernels in order, with their barriers and guards, then the kernels and the
   math functions. Before: verified kernels with places in memory. After: IR that LLVMVerifyModule accepts. */
#include "ir.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/DebugInfo.h>
#include <string.h>

/* ---- Functions --------------------------------------------------------------------------------------------------- */

/* What a function has at hand of its context, loaded once at its start. */
typedef struct Frame {
    const Function *function;
    LLVMValueRef context, memory, scratch, thread32, thread,
        threads; /* scratch: the thread's, less what lies before it */
    LLVMValueRef fields[CONTEXT_THREADS + 1];
} Frame;

static LLVMValueRef byte_at(Ir *ir, LLVMValueRef base, uint64_t offset) {
    LLVMValueRef index = ir_integer(ir, (int64_t)offset);
    return offset ? LLVMBuildInBoundsGEP2(ir->builder, LLVMInt8TypeInContext(ir->context), base, &index, 1, "") : base;
}

static LLVMValueRef load_field(Ir *ir, const Frame *frame, LLVMTypeRef type, size_t offset, const char *name) {
    return LLVMBuildLoad2(ir->builder, type, byte_at(ir, frame->context, offset), name);
}

static void load_fields(Ir *ir, Frame *frame) {
    static const size_t offsets[] = {offsetof(struct bp_context, rows), offsetof(struct bp_context, position),
                                     offsetof(struct bp_context, seed), offsetof(struct bp_context, step)};
    static const char *const names[] = {"rows", "position", "seed", "step"};
    const Function *function = frame->function;
    frame->memory = load_field(ir, frame, ir->pointer, offsetof(struct bp_context, memory), "memory");
    for (int i = 0; i < function->step_count; i++) {
        if (function->steps[i].kind != STEP_KERNEL)
            continue;
        const Shape *shape = shape_of(ir->shapes, function->steps[i].kernel);
        for (int field = 0; field < CONTEXT_THREAD; field++)
            if (shape->fields[field] && !frame->fields[field])
                frame->fields[field] = load_field(ir, frame, ir->i64, offsets[field], names[field]);
    }
    LLVMValueRef own = LLVMBuildMul(ir->builder, frame->thread, ir_integer(ir, (int64_t)ir->shapes->scratch_bytes), "");
    frame->scratch =
        LLVMBuildInBoundsGEP2(ir->builder, LLVMInt8TypeInContext(ir->context), frame->memory, &own, 1, "scratch");
    frame->fields[CONTEXT_THREAD] = frame->thread;
    frame->fields[CONTEXT_THREADS] = frame->threads;
}

/* What runs only where the condition holds, until close_when. */
static LLVMBasicBlockRef open_when(Ir *ir, LLVMValueRef condition) {
    LLVMBasicBlockRef then = ir_new_block(ir, "then"), after = ir_new_block(ir, "after");
    LLVMBuildCondBr(ir->builder, condition, then, after);
    LLVMPositionBuilderAtEnd(ir->builder, then);
    return after;
}

static void close_when(Ir *ir, LLVMBasicBlockRef after) {
    LLVMBuildBr(ir->builder, after);
    LLVMPositionBuilderAtEnd(ir->builder, after);
}

static void call_kernel(Ir *ir, const Frame *frame, const Kernel *kernel) {
    const Shape *shape = shape_of(ir->shapes, kernel);
    LLVMValueRef function = ir_shape_function(ir, shape);
    LLVMValueRef *args = arena_array(ir->arena, LLVMValueRef, kernel->buffer_count + CONTEXT_THREADS + 1);
    unsigned count = 0;
    LLVMBasicBlockRef after = NULL;
    if (frame->function->parallel && !kernel->parallel) {
        LLVMValueRef first = LLVMBuildICmp(ir->builder, LLVMIntEQ, frame->thread, ir_integer(ir, 0), "");
        after = open_when(ir, first);
    }
    for (int i = 0; i < kernel->buffer_count; i++) {
        const Buffer *buffer = kernel->buffers[i];
        LLVMValueRef base = buffer_of_thread(buffer) ? frame->scratch : frame->memory;
        args[count++] = byte_at(ir, base, buffer->offset);
    }
    for (int field = 0; field <= CONTEXT_THREADS; field++)
        if (shape->fields[field])
            args[count++] = frame->fields[field];
    LLVMBuildCall2(ir->builder, LLVMGlobalGetValueType(function), function, args, count, "");
    if (after)
        close_when(ir, after);
}

static void call_barrier(Ir *ir, const Frame *frame) {
    LLVMTypeRef types[2] = {ir->pointer, ir->i32};
    LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(ir->context), types, 2, false);
    LLVMValueRef barrier = LLVMGetNamedFunction(ir->module, "bp_barrier");
    if (!barrier)
        barrier = LLVMAddFunction(ir->module, "bp_barrier", type);
    LLVMValueRef several = LLVMBuildICmp(ir->builder, LLVMIntSGT, frame->threads, ir_integer(ir, 1), "");
    LLVMBasicBlockRef after = open_when(ir, several);
    LLVMValueRef args[2] = {load_field(ir, frame, ir->pointer, offsetof(struct bp_context, team), "team"),
                            frame->thread32};
    LLVMBuildCall2(ir->builder, type, barrier, args, 2, "");
    close_when(ir, after);
}

/* The function ends here unless the number is finite. */
static void guard(Ir *ir, const Frame *frame, const Step *step) {
    const Buffer *buffer = step->buffer;
    int bytes = scalar_bytes(buffer->scalar);
    LLVMValueRef address = byte_at(ir, frame->memory, buffer->offset + (uint64_t)step->element * (uint64_t)bytes);
    LLVMValueRef number = LLVMBuildLoad2(ir->builder, ir_type(ir, (ValueType){buffer->scalar, 1}), address, "");
    LLVMBasicBlockRef stop = ir_new_block(ir, "stop"), go_on = ir_new_block(ir, "finite");
    LLVMBuildCondBr(ir->builder, ir_finite(ir, number, buffer->scalar), go_on, stop);
    LLVMPositionBuilderAtEnd(ir->builder, stop);
    LLVMBuildRetVoid(ir->builder);
    LLVMPositionBuilderAtEnd(ir->builder, go_on);
}

/* Where step + 1 is a multiple of `every`, until close_when. */
static LLVMBasicBlockRef open_every(Ir *ir, const Frame *frame, int64_t every) {
    LLVMBuilderRef at = ir->builder;
    LLVMValueRef step = load_field(ir, frame, ir->i64, offsetof(struct bp_context, step), "step");
    LLVMValueRef next = LLVMBuildAdd(at, step, ir_integer(ir, 1), "");
    LLVMValueRef rest = LLVMBuildURem(at, next, ir_integer(ir, every), "");
    return open_when(ir, LLVMBuildICmp(at, LLVMIntEQ, rest, ir_integer(ir, 0), ""));
}

static void print_steps(Ir *ir, const Function *function) {
    Frame frame = {
        .function = function, .context = LLVMGetParam(ir->function, 0), .thread32 = LLVMGetParam(ir->function, 1)};
    frame.thread = LLVMBuildSExt(ir->builder, frame.thread32, ir->i64, "thread");
    frame.threads = LLVMBuildSExt(ir->builder, LLVMGetParam(ir->function, 2), ir->i64, "threads");
    load_fields(ir, &frame);
    LLVMBasicBlockRef after = NULL;
    for (int i = 0; i < function->step_count; i++) {
        const Step *step = &function->steps[i];
        if (step->kind == STEP_KERNEL)
            call_kernel(ir, &frame, step->kernel);
        else if (step->kind == STEP_GUARD)
            guard(ir, &frame, step);
        else if (step->kind == STEP_WHEN)
            after = open_every(ir, &frame, step->element);
        else if (step->kind == STEP_END)
            close_when(ir, after);
        else if (function->parallel)
            call_barrier(ir, &frame);
    }
}

/* A service: void name(float *values, int64_t count) */
static void print_map_steps(Ir *ir, const Function *function) {
    for (int i = 0; i < function->step_count; i++) {
        if (function->steps[i].kind != STEP_KERNEL)
            continue;
        const Shape *shape = shape_of(ir->shapes, function->steps[i].kernel);
        LLVMValueRef kernel = ir_shape_function(ir, shape), args[2] = {LLVMGetParam(ir->function, 0)};
        unsigned count = 1;
        if (shape->kernel->buffer_count != 1)
            BUG("kernel %s of a service has another buffer than its argument", shape->kernel->name);
        for (int field = 0; field <= CONTEXT_THREADS; field++) {
            if (shape->fields[field] && field != CONTEXT_ROWS)
                BUG("kernel %s of a service reads the context", shape->kernel->name);
            if (shape->fields[field])
                args[count++] = LLVMGetParam(ir->function, 1);
        }
        LLVMBuildCall2(ir->builder, LLVMGlobalGetValueType(kernel), kernel, args, count, "");
    }
}

static void print_function(Ir *ir, const Function *function) {
    LLVMTypeRef step[3] = {ir->pointer, ir->i32, ir->i32}, map[2] = {ir->pointer, ir->i64};
    LLVMTypeRef none = LLVMVoidTypeInContext(ir->context);
    LLVMTypeRef type =
        function->is_map ? LLVMFunctionType(none, map, 2, false) : LLVMFunctionType(none, step, 3, false);
    ir->function = LLVMAddFunction(ir->module, function->name, type);
    map_clear(&ir->values);
    debug_function(ir, ir->function, function->name, function->span);
    LLVMPositionBuilderAtEnd(ir->builder, ir_new_block(ir, "start"));
    if (function->is_map)
        print_map_steps(ir, function);
    else
        print_steps(ir, function);
    LLVMBuildRetVoid(ir->builder);
}

static void print_math(Ir *ir, const MathFunction *math) {
    ir->function = ir_math(ir, math);
    map_clear(&ir->values);
    for (int i = 0; i < math->argument_count; i++)
        LLVMSetValueName2(LLVMGetParam(ir->function, (unsigned)i), math->argument_names[i],
                          strlen(math->argument_names[i]));
    debug_function(ir, ir->function, math->name, SPAN_NONE);
    LLVMPositionBuilderAtEnd(ir->builder, ir_new_block(ir, "start"));
    ir_block(ir, &math->body);
    LLVMBuildRet(ir->builder, ir_value(ir, math->value));
}

/* ---- Pieces ------------------------------------------------------------------------------------------------------ */

static bool is_new(Arena *arena, PointerMap *done, const void *key) {
    if (map_find(done, key))
        return false;
    map_put(arena, done, key, done);
    return true;
}

static Piece *lightest(Piece *pieces, int count) {
    Piece *least = pieces;
    for (int i = 1; i < count; i++)
        if (pieces[i].weight < least->weight)
            least = &pieces[i];
    return least;
}

static void piece_add_maths(Arena *arena, const Shapes *shapes, Piece *piece, const Shape *user, PointerMap *done) {
    for (int i = 0; i < user->maths.count; i++) {
        const MathFunction *math = user->maths.at[i];
        if (!is_new(arena, done, math))
            continue;
        const Shape *shape = shape_of_math(shapes, math);
        *LIST_ADD(arena, &piece->maths) = math;
        piece->weight += shape->weight;
        piece_add_maths(arena, shapes, piece, shape, done);
    }
}

void piece_add_function(Arena *arena, const Shapes *shapes, Piece *pieces, int count, const Function *function,
                        PointerMap *done) {
    Piece *own = lightest(pieces, count);
    *LIST_ADD(arena, &own->functions) = function;
    own->weight += 10 + 4 * function->step_count;
    for (int i = 0; i < function->step_count; i++) {
        if (function->steps[i].kind != STEP_KERNEL)
            continue;
        const Shape *shape = shape_of(shapes, function->steps[i].kernel);
        if (!is_new(arena, done, shape))
            continue;
        Piece *piece = shape->joined ? own : lightest(pieces, count);
        *LIST_ADD(arena, &piece->shapes) = shape;
        piece->weight += shape->weight;
        piece_add_maths(arena, shapes, piece, shape, done);
    }
}

void piece_all(Arena *arena, const Module *module, const Shapes *shapes, Piece *piece) {
    PointerMap done = {0};
    for (int i = 0; i < module->functions.count; i++)
        piece_add_function(arena, shapes, piece, 1, module->functions.at[i], &done);
}

/* ---- The module -------------------------------------------------------------------------------------------------- */

static bool verified(LLVMModuleRef module) {
    char *message = NULL;
    bool broken = LLVMVerifyModule(module, LLVMReturnStatusAction, &message);
    if (broken)
        error_plain("LLVM refuses the code that bpc made, which is a bug of bpc: %s", message);
    LLVMDisposeMessage(message);
    return !broken;
}

static LLVMMetadataRef loop_hint(Ir *ir, const char *name, LLVMMetadataRef value) {
    LLVMMetadataRef pair[2] = {LLVMMDStringInContext2(ir->context, name, strlen(name)), value};
    return LLVMMDNodeInContext2(ir->context, pair, value ? 2 : 1);
}

/* Such a node may be shared: without a first operand of its own it names no loop. */
static LLVMValueRef plain_loop(Ir *ir) {
    LLVMMetadataRef off = LLVMValueAsMetadata(LLVMConstInt(LLVMInt1TypeInContext(ir->context), 0, false));
    LLVMMetadataRef itself = LLVMTemporaryMDNode(ir->context, NULL, 0);
    LLVMMetadataRef parts[3] = {itself, loop_hint(ir, "llvm.loop.unroll.disable", NULL),
                                loop_hint(ir, "llvm.loop.vectorize.enable", off)};
    LLVMMetadataRef node = LLVMMDNodeInContext2(ir->context, parts, 3);
    LLVMMetadataReplaceAllUsesWith(itself, node);
    return LLVMMetadataAsValue(ir->context, node);
}

LLVMModuleRef print_llvm(Arena *arena, LLVMContextRef context, const Shapes *shapes, const Piece *piece,
                         const Target *target, bool whole) {
    Ir ir = {.arena = arena, .shapes = shapes, .piece = piece, .context = context, .whole = whole};
    bool debug = target->options->debug;
    ir.module = LLVMModuleCreateWithNameInContext("kernels", context);
    LLVMSetTarget(ir.module, target->triple);
    LLVMSetDataLayout(ir.module, target->layout);
    ir.builder = LLVMCreateBuilderInContext(context);
    ir.pointer = LLVMPointerTypeInContext(context, 0);
    ir.i64 = LLVMInt64TypeInContext(context);
    ir.i32 = LLVMInt32TypeInContext(context);
    ir.plain_loop = plain_loop(&ir);
    if (debug)
        ir.debug = debug_start(&ir);
    for (int i = 0; i < piece->functions.count; i++)
        print_function(&ir, piece->functions.at[i]);
    for (int i = 0; i < piece->shapes.count; i++)
        ir_shape(&ir, piece->shapes.at[i]);
    for (int i = 0; i < piece->maths.count; i++)
        print_math(&ir, piece->maths.at[i]);
    if (debug)
        debug_end(&ir);
    LLVMDisposeBuilder(ir.builder);
    if (verified(ir.module))
        return ir.module;
    LLVMDisposeModule(ir.module);
    return NULL;
}
