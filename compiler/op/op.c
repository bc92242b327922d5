#include "op.h"

#include <math.h>
#include <string.h>

const OpInfo op_table[OP_COUNT] = {
#define OP(ENUM, name, arity, class, c, llvm, da, db, dc) {name, arity, CLASS_##class, c, llvm, {da, db, dc}},
#include "ops.def"
#undef OP
};

Op op_named(const char *name) {
    for (int op = 0; op < OP_COUNT; op++)
        if (!strcmp(op_table[op].name, name))
            return (Op)op;
    return OP_COUNT;
}

static double evaluate_arithmetic(Op op, double a, double b, double c) {
    switch (op) {
    case OP_NEGATE:
        return -a;
    case OP_ADD:
        return a + b;
    case OP_SUBTRACT:
        return a - b;
    case OP_MULTIPLY:
        return a * b;
    case OP_DIVIDE:
        return a / b;
    case OP_FMA:
        return fma(a, b, c);
    case OP_MAXIMUM:
        return a > b || isnan(a) ? a : b;
    case OP_MINIMUM:
        return a < b || isnan(a) ? a : b;
    case OP_ABSOLUTE:
        return fabs(a);
    case OP_SIGN:
        return a > 0 ? 1 : a < 0 ? -1 : isnan(a) ? a : 0;
    case OP_SQRT:
        return sqrt(a);
    case OP_FLOOR:
        return floor(a);
    case OP_ROUND:
        return nearbyint(a);
    case OP_WHERE:
        return a != 0 ? b : c;
    case OP_REAL:
        return a;
    default:
        BUG("'%s' cannot be evaluated", op_table[op].name);
    }
}

static double evaluate_compare(Op op, double a, double b) {
    switch (op) {
    case OP_LESS:
        return a < b;
    case OP_LESS_EQUAL:
        return a <= b;
    case OP_EQUAL:
        return a == b;
    case OP_NOT_EQUAL:
        return a != b;
    case OP_AND:
        return a != 0 && b != 0;
    case OP_OR:
        return a != 0 || b != 0;
    case OP_NOT:
        return a == 0;
    default:
        BUG("'%s' cannot be evaluated", op_table[op].name);
    }
}

static double evaluate_math(Op op, double a, double b) {
    switch (op) {
    case OP_EXP:
        return exp(a);
    case OP_EXPM1:
        return expm1(a);
    case OP_LOG:
        return log(a);
    case OP_LOG1P:
        return log1p(a);
    case OP_TANH:
        return tanh(a);
    case OP_SIN:
        return sin(a);
    case OP_COS:
        return cos(a);
    case OP_ERF:
        return erf(a);
    case OP_POWER:
        return pow(a, b);
    default:
        BUG("'%s' cannot be evaluated", op_table[op].name);
    }
}

double op_evaluate(Op op, double a, double b, double c) {
    switch (op_table[op].class) {
    case CLASS_ARITHMETIC:
        return evaluate_arithmetic(op, a, b, c);
    case CLASS_COMPARE:
        return evaluate_compare(op, a, b);
    case CLASS_MATH:
        return evaluate_math(op, a, b);
    default:
        BUG("'%s' is not an operation on numbers", op_table[op].name);
    }
}
