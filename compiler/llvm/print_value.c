/* Values as LLVM IR: beside each, what emit/lanes.c makes of it in C. No flag of fast-math is set anywhere, so that
   LLVM neither contracts nor reorders. */
#include "ir.h"

#include <string.h>

/* ---- Types and numbers ------------------------------------------------------------------------------------------- */

static bool is_float(Scalar scalar) {
    return scalar == SCALAR_F32 || scalar == SCALAR_F64;
}

static bool is_signed(Scalar scalar) {
    return scalar == SCALAR_I32 || scalar == SCALAR_I64;
}

static LLVMTypeRef scalar_type(Ir *ir, Scalar scalar) {
    switch (scalar) {
    case SCALAR_F32:
        return LLVMFloatTypeInContext(ir->context);
    case SCALAR_F64:
        return LLVMDoubleTypeInContext(ir->context);
    case SCALAR_I32:
    case SCALAR_U32:
        return ir->i32;
    case SCALAR_I64:
    case SCALAR_U64:
        return ir->i64;
    case SCALAR_BOOL:
        return LLVMInt1TypeInContext(ir->context);
    }
    BUG("a scalar of kind %d", (int)scalar);
}

LLVMTypeRef ir_type(Ir *ir, ValueType type) {
    LLVMTypeRef scalar = scalar_type(ir, type.scalar);
    return type.lanes == 1 ? scalar : LLVMVectorType(scalar, (unsigned)type.lanes);
}

LLVMValueRef ir_integer(Ir *ir, int64_t number) {
    return LLVMConstInt(ir->i64, (unsigned long long)number, true);
}

static LLVMValueRef constant_lanes(LLVMValueRef scalar, int lanes) {
    LLVMValueRef all[16];
    if (lanes == 1)
        return scalar;
    for (int i = 0; i < lanes; i++)
        all[i] = scalar;
    return LLVMConstVector(all, (unsigned)lanes);
}

static LLVMValueRef real_constant(Ir *ir, ValueType type, double number) {
    return constant_lanes(LLVMConstReal(scalar_type(ir, type.scalar), number), type.lanes);
}

static LLVMValueRef number_constant(Ir *ir, const Value *value) {
    ValueType type = value->type;
    if (is_float(type.scalar))
        return real_constant(ir, type,
                             type.scalar == SCALAR_F32 ? (double)(float)value->number.real : value->number.real);
    unsigned long long bits = type.scalar == SCALAR_BOOL       ? value->number.integer != 0
                              : scalar_bytes(type.scalar) == 4 ? (uint32_t)value->number.integer
                                                               : (unsigned long long)value->number.integer;
    return constant_lanes(LLVMConstInt(scalar_type(ir, type.scalar), bits, false), type.lanes);
}

static LLVMValueRef lane_numbers(Ir *ir, int lanes) {
    LLVMValueRef all[16];
    for (int i = 0; i < lanes; i++)
        all[i] = LLVMConstInt(ir->i32, (unsigned long long)i, false);
    return LLVMConstVector(all, (unsigned)lanes);
}

/* ---- Lanes ------------------------------------------------------------------------------------------------------- */

static LLVMValueRef splat(Ir *ir, LLVMValueRef scalar, int lanes) {
    LLVMTypeRef type = LLVMVectorType(LLVMTypeOf(scalar), (unsigned)lanes);
    LLVMValueRef none = LLVMGetPoison(type);
    LLVMValueRef first = LLVMBuildInsertElement(ir->builder, none, scalar, LLVMConstInt(ir->i32, 0, false), "");
    LLVMValueRef zeros = LLVMConstNull(LLVMVectorType(ir->i32, (unsigned)lanes));
    return LLVMBuildShuffleVector(ir->builder, first, none, zeros, "");
}

static LLVMValueRef half_of(Ir *ir, LLVMValueRef lanes, int first, int count) {
    LLVMValueRef which[16];
    for (int i = 0; i < count; i++)
        which[i] = LLVMConstInt(ir->i32, (unsigned long long)(first + i), false);
    return LLVMBuildShuffleVector(ir->builder, lanes, LLVMGetPoison(LLVMTypeOf(lanes)),
                                  LLVMConstVector(which, (unsigned)count), "");
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */

LLVMValueRef ir_element(Ir *ir, const Buffer *buffer, const Value *index) {
    LLVMValueRef base = map_find(&ir->values, buffer), at = ir_value(ir, index);
    if (!base)
        BUG("kernel %s reads or writes %s, which is not among its buffers", ir->shape->kernel->name, buffer->name);
    return LLVMBuildInBoundsGEP2(ir->builder, scalar_type(ir, buffer->scalar), base, &at, 1, "");
}

static LLVMValueRef load(Ir *ir, const Value *value) {
    LLVMValueRef address = ir_element(ir, value->buffer, value->args[0]);
    LLVMValueRef loaded = LLVMBuildLoad2(ir->builder, ir_type(ir, value->type), address, "");
    LLVMSetAlignment(loaded, (unsigned)scalar_bytes(value->type.scalar));
    return loaded;
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */

static LLVMValueRef intrinsic(Ir *ir, const char *name, ValueType type, LLVMValueRef *args, unsigned count) {
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    LLVMTypeRef overload = ir_type(ir, type);
    if (id == 0)
        BUG("LLVM has no intrinsic %s", name);
    LLVMValueRef function = LLVMGetIntrinsicDeclaration(ir->module, id, &overload, 1);
    return LLVMBuildCall2(ir->builder, LLVMIntrinsicGetType(ir->context, id, &overload, 1), function, args, count, "");
}

static bool is_known_number(const Value *value) {
    const Value *inner = value->kind == VALUE_SPLAT ? value->args[0] : value;
    return inner->kind == VALUE_NUMBER && !(inner->number.real != inner->number.real);
}

/* max(a, b) is a > b || a != a ? a : b. */
static LLVMValueRef plain_extreme(Ir *ir, Op op, LLVMValueRef a, LLVMValueRef b) {
    LLVMValueRef beyond = LLVMBuildFCmp(ir->builder, op == OP_MAXIMUM ? LLVMRealOGT : LLVMRealOLT, a, b, "");
    LLVMValueRef chosen = LLVMBuildSelect(ir->builder, beyond, a, b, ""); /* an instruction on x86 */
    LLVMValueRef missing = LLVMBuildFCmp(ir->builder, LLVMRealUNO, a, a, "");
    return LLVMBuildSelect(ir->builder, missing, a, chosen, "");
}

/* Lane i to lane i + half: 16 -> 8 -> 4 -> 2 -> 1. */
static LLVMValueRef tree(Ir *ir, Op op, LLVMValueRef lanes, ValueType type) {
    for (int half = type.lanes / 2; half > 0; half /= 2) {
        LLVMValueRef low, high;
        if (half > 1) {
            low = half_of(ir, lanes, 0, half);
            high = half_of(ir, lanes, half, half);
        } else {
            low = LLVMBuildExtractElement(ir->builder, lanes, LLVMConstInt(ir->i32, 0, false), "");
            high = LLVMBuildExtractElement(ir->builder, lanes, LLVMConstInt(ir->i32, 1, false), "");
        }
        lanes = op == OP_ADD ? LLVMBuildFAdd(ir->builder, low, high, "") : plain_extreme(ir, op, low, high);
    }
    return lanes;
}

/* The same with less to do where one of them is known not to be NaN. */
static LLVMValueRef extreme(Ir *ir, const Value *value, LLVMValueRef a, LLVMValueRef b) {
    bool greatest = value->op == OP_MAXIMUM;
    LLVMBuilderRef at = ir->builder;
    LLVMValueRef chosen;
    if (is_known_number(value->args[0])) {
        chosen = LLVMBuildFCmp(at, greatest ? LLVMRealOGT : LLVMRealOLT, a, b, "");
    } else if (is_known_number(value->args[1])) {
        chosen = LLVMBuildFCmp(at, greatest ? LLVMRealUGT : LLVMRealULT, a, b, "");
    } else {
        return plain_extreme(ir, value->op, a, b);
    }
    return LLVMBuildSelect(at, chosen, a, b, "");
}

/* sign(-0) is 0 and sign(NaN) is NaN: both are a - a. */
static LLVMValueRef sign(Ir *ir, LLVMValueRef a, ValueType type) {
    LLVMValueRef zero = real_constant(ir, type, 0);
    LLVMValueRef below = LLVMBuildFCmp(ir->builder, LLVMRealOLT, a, zero, "");
    LLVMValueRef above = LLVMBuildFCmp(ir->builder, LLVMRealOLT, zero, a, "");
    LLVMValueRef none = LLVMBuildFSub(ir->builder, a, a, "");
    LLVMValueRef rest = LLVMBuildSelect(ir->builder, below, real_constant(ir, type, -1), none, "");
    return LLVMBuildSelect(ir->builder, above, real_constant(ir, type, 1), rest, "");
}

static LLVMValueRef zip(Ir *ir, LLVMValueRef a, LLVMValueRef b, bool high) {
    LLVMValueRef which[4];
    for (int i = 0; i < 4; i++)
        which[i] = LLVMConstInt(ir->i32, (unsigned long long)(i % 2 * 4 + i / 2 + (high ? 2 : 0)), false);
    return LLVMBuildShuffleVector(ir->builder, a, b, LLVMConstVector(which, 4), "");
}

static LLVMValueRef multiply_high(Ir *ir, LLVMValueRef a, LLVMValueRef b, ValueType type) {
    LLVMTypeRef wide = ir_type(ir, (ValueType){SCALAR_U64, type.lanes});
    LLVMValueRef x = LLVMBuildZExt(ir->builder, a, wide, ""), y = LLVMBuildZExt(ir->builder, b, wide, "");
    LLVMValueRef product = LLVMBuildMul(ir->builder, x, y, "");
    LLVMValueRef high = LLVMBuildLShr(ir->builder, product, constant_lanes(ir_integer(ir, 32), type.lanes), "");
    return LLVMBuildTrunc(ir->builder, high, ir_type(ir, type), "");
}

static LLVMValueRef convert(Ir *ir, LLVMValueRef a, ValueType from, ValueType to) {
    LLVMTypeRef type = ir_type(ir, to);
    LLVMBuilderRef at = ir->builder;
    if (is_float(from.scalar) && is_float(to.scalar))
        return to.scalar == SCALAR_F64 ? LLVMBuildFPExt(at, a, type, "") : LLVMBuildFPTrunc(at, a, type, "");
    if (is_float(from.scalar))
        return is_signed(to.scalar) ? LLVMBuildFPToSI(at, a, type, "") : LLVMBuildFPToUI(at, a, type, "");
    if (is_float(to.scalar))
        return is_signed(from.scalar) ? LLVMBuildSIToFP(at, a, type, "") : LLVMBuildUIToFP(at, a, type, "");
    int before = scalar_bytes(from.scalar), after = scalar_bytes(to.scalar); /* a truth value has 0 */
    if (before == after)
        return a;
    if (before > after)
        return LLVMBuildTrunc(at, a, type, "");
    return is_signed(from.scalar) ? LLVMBuildSExt(at, a, type, "") : LLVMBuildZExt(at, a, type, "");
}

static LLVMValueRef call(Ir *ir, const Value *value) {
    LLVMValueRef args[6], function = ir_math(ir, value->function);
    int first = value_first_argument(value), count = value->arg_count - first;
    for (int i = 0; i < count; i++)
        args[i] = ir_value(ir, value->args[first + i]);
    LLVMValueRef result =
        LLVMBuildCall2(ir->builder, LLVMGlobalGetValueType(function), function, args, (unsigned)count, "");
    LLVMSetInstructionCallConv(result, LLVMGetFunctionCallConv(function));
    return result;
}

static LLVMValueRef operate(Ir *ir, const Value *value) {
    LLVMValueRef args[6] = {0};
    LLVMBuilderRef at = ir->builder;
    ValueType type = value->type;
    if (op_table[value->op].class == CLASS_MATH)
        return call(ir, value);
    for (int i = 0; i < value->arg_count; i++)
        args[i] = ir_value(ir, value->args[i]);
    LLVMValueRef a = args[0], b = args[1];
    ValueType from = value->args[0]->type;
    switch (value->op) {
    case OP_WHERE:
        return LLVMBuildSelect(at, a, b, args[2], ""); /* both sides may be computed: kernel_verify says so */
    case OP_NEGATE:
        return LLVMBuildFNeg(at, a, "");
    case OP_ADD:
        return LLVMBuildFAdd(at, a, b, "");
    case OP_SUBTRACT:
        return LLVMBuildFSub(at, a, b, "");
    case OP_MULTIPLY:
        return LLVMBuildFMul(at, a, b, "");
    case OP_DIVIDE:
        return LLVMBuildFDiv(at, a, b, "");
    case OP_FMA:
    case OP_ABSOLUTE:
    case OP_SQRT:
    case OP_FLOOR:
    case OP_ROUND:
        return intrinsic(ir, op_table[value->op].llvm, type, args, (unsigned)value->arg_count);
    case OP_MAXIMUM:
    case OP_MINIMUM:
        return extreme(ir, value, a, b);
    case OP_SIGN:
        return sign(ir, a, type);
    case OP_REAL:
    case OP_CONVERT:
        return convert(ir, a, from, type);
    case OP_BITCAST:
        return LLVMBuildBitCast(at, a, ir_type(ir, type), "");
    case OP_LESS:
        return LLVMBuildFCmp(at, LLVMRealOLT, a, b, "");
    case OP_LESS_EQUAL:
        return LLVMBuildFCmp(at, LLVMRealOLE, a, b, "");
    case OP_EQUAL:
        return LLVMBuildFCmp(at, LLVMRealOEQ, a, b, "");
    case OP_NOT_EQUAL:
        return LLVMBuildFCmp(at, LLVMRealUNE, a, b, "");
    case OP_AND:
    case OP_BITS_AND:
        return LLVMBuildAnd(at, a, b, "");
    case OP_OR:
    case OP_BITS_OR:
        return LLVMBuildOr(at, a, b, "");
    case OP_BITS_XOR:
        return LLVMBuildXor(at, a, b, "");
    case OP_NOT:
        return LLVMBuildNot(at, a, "");
    case OP_INTEGER_ADD:
        return LLVMBuildAdd(at, a, b, "");
    case OP_INTEGER_SUBTRACT:
        return LLVMBuildSub(at, a, b, "");
    case OP_INTEGER_MULTIPLY:
        return LLVMBuildMul(at, a, b, "");
    case OP_INTEGER_DIVIDE:
        return LLVMBuildSDiv(at, a, b, "");
    case OP_INTEGER_REMAINDER:
        return LLVMBuildSRem(at, a, b, "");
    case OP_INTEGER_MINIMUM:
        return LLVMBuildSelect(at, LLVMBuildICmp(at, LLVMIntSLT, a, b, ""), a, b, "");
    case OP_INTEGER_EQUAL:
        return LLVMBuildICmp(at, LLVMIntEQ, a, b, "");
    case OP_INTEGER_LESS:
        return LLVMBuildICmp(at, is_signed(from.scalar) ? LLVMIntSLT : LLVMIntULT, a, b, "");
    case OP_MULTIPLY_HIGH:
        return multiply_high(ir, a, b, type);
    case OP_ZIP_LOW:
    case OP_ZIP_HIGH:
        return zip(ir, a, b, value->op == OP_ZIP_HIGH);
    case OP_SHIFT_LEFT:
        return LLVMBuildShl(at, a, b, "");
    case OP_SHIFT_RIGHT:
        return is_signed(type.scalar) ? LLVMBuildAShr(at, a, b, "") : LLVMBuildLShr(at, a, b, "");
    default:
        BUG("LLVM has no way to print '%s'", op_table[value->op].name);
    }
}

LLVMValueRef ir_finite(Ir *ir, LLVMValueRef number, Scalar scalar) {
    bool wide = scalar == SCALAR_F64;
    LLVMTypeRef type = wide ? ir->i64 : ir->i32;
    LLVMValueRef mask = LLVMConstInt(type, wide ? 0x7FF0000000000000u : 0x7F800000u, false);
    LLVMValueRef exponent = LLVMBuildAnd(ir->builder, LLVMBuildBitCast(ir->builder, number, type, ""), mask, "");
    return LLVMBuildICmp(ir->builder, LLVMIntNE, exponent, mask, "");
}

/* ---- Any value --------------------------------------------------------------------------------------------------- */

static LLVMValueRef known(Ir *ir, const void *key, const char *name) {
    LLVMValueRef value = map_find(&ir->values, key);
    if (!value)
        BUG("%s is used before it is there", name ? name : "a value");
    return value;
}

LLVMValueRef ir_plain(Ir *ir, const Value *value) {
    switch (value->kind) {
    case VALUE_NUMBER:
        return number_constant(ir, value);
    case VALUE_VARIABLE:
    case VALUE_REGISTER:
        return known(ir, value->statement, value->statement->name);
    case VALUE_CONTEXT:
        return ir->fields[value->field];
    case VALUE_OP:
        return operate(ir, value);
    case VALUE_LOAD:
        return load(ir, value);
    case VALUE_SPLAT:
        return splat(ir, ir_value(ir, value->args[0]), value->type.lanes);
    case VALUE_LANES:
        return lane_numbers(ir, value->type.lanes);
    case VALUE_EXTRACT:
        return LLVMBuildExtractElement(ir->builder, ir_value(ir, value->args[0]),
                                       LLVMConstInt(ir->i32, (unsigned long long)value->number.integer, false), "");
    case VALUE_TREE:
        return tree(ir, value->op, ir_value(ir, value->args[0]), value->args[0]->type);
    case VALUE_ARGUMENT:
        return LLVMGetParam(ir->function, (unsigned)value->number.integer);
    case VALUE_CALL:
        return call(ir, value);
    }
    BUG("a value of kind %d", (int)value->kind);
}

LLVMValueRef ir_value(Ir *ir, const Value *value) {
    return value->let && value->kind != VALUE_ARGUMENT ? known(ir, value, value->let) : ir_plain(ir, value);
}
