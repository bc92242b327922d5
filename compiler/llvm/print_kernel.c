/* Statements, kernels and math functions as LLVM IR. Registers become values at once, joined by phi at the head of a
   loop and behind an `if`, so that no pass has to find them again. A loop tests at its end: from < to is asked once
   before. */
#include "ir.h"

#include <string.h>

LLVMBasicBlockRef ir_new_block(Ir *ir, const char *name) {
    return LLVMAppendBasicBlockInContext(ir->context, ir->function, name);
}

static LLVMBasicBlockRef here(Ir *ir) {
    return LLVMGetInsertBlock(ir->builder);
}

static void set(Ir *ir, const void *key, LLVMValueRef value) {
    map_put(ir->arena, &ir->values, key, value);
}

/* ---- Registers that a body sets ---------------------------------------------------------------------------------- */

typedef LIST(const Statement *) Registers;

/* Those declared outside: what the map does not know yet is declared within. */
static void find_registers(Ir *ir, const Block *block, Registers *registers) {
    for (int i = 0; i < block->count; i++) {
        const Statement *s = block->at[i];
        bool listed = s->kind != STATEMENT_SET || !map_find(&ir->values, s->target);
        for (int j = 0; j < registers->count && !listed; j++)
            listed = registers->at[j] == s->target;
        if (!listed)
            *LIST_ADD(ir->arena, registers) = s->target;
        find_registers(ir, &s->body, registers);
    }
}

/* ---- Loops ------------------------------------------------------------------------------------------------------- */

typedef struct Bounds {
    LLVMValueRef from, to;
} Bounds;

/* This thread's rounds of a parallel loop: [count * thread / threads, count * (thread + 1) / threads). */
static Bounds share_of(Ir *ir, const Statement *loop, Bounds all) {
    LLVMBuilderRef at = ir->builder;
    LLVMValueRef step = ir_integer(ir, loop->step), thread = ir->fields[CONTEXT_THREAD];
    LLVMValueRef threads = ir->fields[CONTEXT_THREADS];
    LLVMValueRef span = LLVMBuildSub(at, all.to, all.from, ""), rounds = span;
    if (loop->step > 1)
        rounds = LLVMBuildSDiv(at, LLVMBuildAdd(at, span, ir_integer(ir, loop->step - 1), ""), step, "rounds");
    LLVMValueRef numbers[2] = {thread, LLVMBuildAdd(at, thread, ir_integer(ir, 1), "")}, ends[2];
    for (int i = 0; i < 2; i++) {
        LLVMValueRef part = LLVMBuildSDiv(at, LLVMBuildMul(at, rounds, numbers[i], ""), threads, "");
        if (loop->step > 1)
            part = LLVMBuildMul(at, part, step, "");
        ends[i] = LLVMBuildAdd(at, all.from, part, i ? "end" : "start");
    }
    return (Bounds){ends[0], ends[1]};
}

/* Whether the first round is sure to run; *never where it is sure not to. */
static bool runs_surely(Bounds bounds, bool *never) {
    *never = false;
    if (!LLVMIsAConstantInt(bounds.from) || !LLVMIsAConstantInt(bounds.to))
        return false;
    *never = LLVMConstIntGetSExtValue(bounds.from) >= LLVMConstIntGetSExtValue(bounds.to);
    return !*never;
}

static void ir_loop(Ir *ir, const Statement *loop) {
    LLVMBuilderRef at = ir->builder;
    Bounds bounds = {ir_value(ir, loop->from), ir_value(ir, loop->to)};
    if (loop->parallel && !ir->shape->is_map)
        bounds = share_of(ir, loop, bounds);
    bool never, surely = runs_surely(bounds, &never);
    if (never)
        return;
    Registers registers = {0};
    find_registers(ir, &loop->body, &registers);
    LLVMBasicBlockRef before = here(ir), body = ir_new_block(ir, loop->name), after = ir_new_block(ir, "done");
    if (surely)
        LLVMBuildBr(at, body);
    else
        LLVMBuildCondBr(at, LLVMBuildICmp(at, LLVMIntSLT, bounds.from, bounds.to, ""), body, after);

    LLVMPositionBuilderAtEnd(at, body);
    LLVMValueRef variable = LLVMBuildPhi(at, ir->i64, loop->name);
    LLVMAddIncoming(variable, &bounds.from, &before, 1);
    set(ir, loop, variable);
    LLVMValueRef *first = arena_array(ir->arena, LLVMValueRef, registers.count + 1);
    LLVMValueRef *phi = arena_array(ir->arena, LLVMValueRef, registers.count + 1);
    for (int i = 0; i < registers.count; i++) {
        first[i] = map_find(&ir->values, registers.at[i]);
        phi[i] = LLVMBuildPhi(at, LLVMTypeOf(first[i]), registers.at[i]->name);
        LLVMAddIncoming(phi[i], &first[i], &before, 1);
        set(ir, registers.at[i], phi[i]);
    }
    ir_block(ir, &loop->body);
    LLVMValueRef next = LLVMBuildNSWAdd(at, variable, ir_integer(ir, loop->step), "");
    LLVMBasicBlockRef latch = here(ir);
    LLVMValueRef again = LLVMBuildCondBr(at, LLVMBuildICmp(at, LLVMIntSLT, next, bounds.to, ""), body, after);
    if (!ir->shape->hot)
        LLVMSetMetadata(again, LLVMGetMDKindIDInContext(ir->context, "llvm.loop", 9), ir->plain_loop);
    LLVMAddIncoming(variable, &next, &latch, 1);

    LLVMPositionBuilderAtEnd(at, after);
    for (int i = 0; i < registers.count; i++) {
        LLVMValueRef last = map_find(&ir->values, registers.at[i]), result = last;
        LLVMAddIncoming(phi[i], &last, &latch, 1);
        if (!surely) {
            result = LLVMBuildPhi(at, LLVMTypeOf(last), registers.at[i]->name);
            LLVMAddIncoming(result, (LLVMValueRef[]){first[i], last}, (LLVMBasicBlockRef[]){before, latch}, 2);
        }
        set(ir, registers.at[i], result);
    }
}

/* ---- Other statements -------------------------------------------------------------------------------------------- */

static void ir_if(Ir *ir, const Statement *s) {
    LLVMBuilderRef at = ir->builder;
    Registers registers = {0};
    find_registers(ir, &s->body, &registers);
    LLVMValueRef condition = ir_value(ir, s->value);
    LLVMBasicBlockRef before = here(ir), then = ir_new_block(ir, "then"), after = ir_new_block(ir, "after");
    LLVMBuildCondBr(at, condition, then, after);
    LLVMValueRef *first = arena_array(ir->arena, LLVMValueRef, registers.count + 1);
    for (int i = 0; i < registers.count; i++)
        first[i] = map_find(&ir->values, registers.at[i]);
    LLVMPositionBuilderAtEnd(at, then);
    ir_block(ir, &s->body);
    LLVMBasicBlockRef end = here(ir);
    LLVMBuildBr(at, after);
    LLVMPositionBuilderAtEnd(at, after);
    for (int i = 0; i < registers.count; i++) {
        LLVMValueRef last = map_find(&ir->values, registers.at[i]);
        LLVMValueRef phi = LLVMBuildPhi(at, LLVMTypeOf(last), registers.at[i]->name);
        LLVMAddIncoming(phi, (LLVMValueRef[]){first[i], last}, (LLVMBasicBlockRef[]){before, end}, 2);
        set(ir, registers.at[i], phi);
    }
}

static void ir_store(Ir *ir, const Statement *s) {
    LLVMValueRef value = ir_value(ir, s->value), address = ir_element(ir, s->buffer, s->index);
    LLVMValueRef store = LLVMBuildStore(ir->builder, value, address);
    LLVMSetAlignment(store, (unsigned)scalar_bytes(s->buffer->scalar));
}

static void ir_prefetch(Ir *ir, const Statement *s) {
    LLVMValueRef args[4] = {ir_element(ir, s->buffer, s->index), LLVMConstInt(ir->i32, s->write, false),
                            LLVMConstInt(ir->i32, 3, false), LLVMConstInt(ir->i32, 1, false)}; /* write?, keep, data */
    unsigned id = LLVMLookupIntrinsicID("llvm.prefetch", strlen("llvm.prefetch"));
    LLVMValueRef function = LLVMGetIntrinsicDeclaration(ir->module, id, &ir->pointer, 1);
    LLVMBuildCall2(ir->builder, LLVMGlobalGetValueType(function), function, args, 4, "");
}

void ir_block(Ir *ir, const Block *block) {
    for (int i = 0; i < block->count; i++) {
        const Statement *s = block->at[i];
        switch (s->kind) {
        case STATEMENT_LOOP:
            ir_loop(ir, s);
            break;
        case STATEMENT_LET:
            set(ir, s->value, ir_plain(ir, s->value));
            break;
        case STATEMENT_VAR:
            set(ir, s, ir_value(ir, s->value));
            break;
        case STATEMENT_SET:
            set(ir, s->target, ir_value(ir, s->value));
            break;
        case STATEMENT_STORE:
            ir_store(ir, s);
            break;
        case STATEMENT_IF:
            ir_if(ir, s);
            break;
        case STATEMENT_PREFETCH:
            ir_prefetch(ir, s);
            break;
        case STATEMENT_COMMENT:
            break;
        }
    }
}

/* ---- Math functions ---------------------------------------------------------------------------------------------- */

static LLVMValueRef declare(Ir *ir, const void *key, const char *name, LLVMTypeRef type) {
    LLVMValueRef function = map_find(&ir->functions, key);
    if (function)
        return function;
    function = LLVMAddFunction(ir->module, name, type);
    if (ir->whole)
        LLVMSetLinkage(function, LLVMInternalLinkage);
    map_put(ir->arena, &ir->functions, key, function);
    return function;
}

LLVMValueRef ir_math(Ir *ir, const MathFunction *math) {
    LLVMTypeRef arguments[6];
    for (int i = 0; i < math->argument_count; i++)
        arguments[i] = ir_type(ir, math->arguments[i]);
    LLVMTypeRef type = LLVMFunctionType(ir_type(ir, math->result), arguments, (unsigned)math->argument_count, false);
    return declare(ir, math, arena_printf(ir->arena, "%s.math", math->name), type);
}

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

/* Its buffers in order, then what it reads of the context. */
LLVMValueRef ir_shape_function(Ir *ir, const Shape *shape) {
    const Kernel *kernel = shape->kernel;
    LLVMTypeRef *types = arena_array(ir->arena, LLVMTypeRef, kernel->buffer_count + CONTEXT_THREADS + 1);
    unsigned count = 0;
    for (int i = 0; i < kernel->buffer_count; i++)
        types[count++] = ir->pointer;
    for (int field = 0; field <= CONTEXT_THREADS; field++)
        if (shape->fields[field])
            types[count++] = ir->i64;
    LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(ir->context), types, count, false);
    return declare(ir, shape, arena_printf(ir->arena, "%s.kernel", kernel->name), type);
}

static void add_attribute(Ir *ir, LLVMValueRef function, unsigned place, const char *name) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(function, place, LLVMCreateEnumAttribute(ir->context, kind, 0));
}

static void name_parameter(LLVMValueRef parameter, const char *name) {
    LLVMSetValueName2(parameter, name, strlen(name));
}

void ir_shape(Ir *ir, const Shape *shape) {
    static const char *const names[] = {"rows", "position", "seed", "step", "thread", "threads"};
    const Kernel *kernel = shape->kernel;
    ir->function = ir_shape_function(ir, shape);
    ir->shape = shape;
    map_clear(&ir->values);
    memset(ir->fields, 0, sizeof ir->fields);
    add_attribute(ir, ir->function, (unsigned)LLVMAttributeFunctionIndex, "nounwind");
    if (shape->joined) {
        LLVMSetLinkage(ir->function, LLVMInternalLinkage);
        add_attribute(ir, ir->function, (unsigned)LLVMAttributeFunctionIndex, "alwaysinline");
    }
    unsigned place = 0;
    for (int i = 0; i < kernel->buffer_count; i++, place++) {
        LLVMValueRef parameter = LLVMGetParam(ir->function, place);
        name_parameter(parameter, kernel->buffers[i]->name);
        if (shape->alone[i])
            add_attribute(ir, ir->function, place + 1, "noalias");
        if (!shape->stored[i])
            add_attribute(ir, ir->function, place + 1, "readonly");
        set(ir, kernel->buffers[i], parameter);
    }
    for (int field = 0; field <= CONTEXT_THREADS; field++)
        if (shape->fields[field]) {
            ir->fields[field] = LLVMGetParam(ir->function, place++);
            name_parameter(ir->fields[field], names[field]);
        }
    debug_function(ir, ir->function, kernel->name, kernel->span);
    LLVMPositionBuilderAtEnd(ir->builder, ir_new_block(ir, "start"));
    ir_block(ir, &kernel->body);
    LLVMBuildRetVoid(ir->builder);
}
