/* For math*.c: a small language to write a math function's IR in. What is used twice must be named (`named`); the rest
   nests. Everything has the lanes of the function, so the same formulas, and the same bits, serve any number of lanes.
 */
#ifndef BPC_FORMULA_H
#define BPC_FORMULA_H

#include "kernel.h"

typedef struct Formula {
    Builder b;
    MathFunction *function;
    ValueType type; /* of its numbers: f32 or f64, and the lanes */
    bool wide;      /* f64 */
} Formula;

Formula formula_start(Module *module, Name name, const char *about, ValueType result);
Value *formula_argument(Formula *f, const char *name, ValueType type);
MathFunction *formula_end(Formula *f, Value *value);

Value *named(Formula *f, const char *name, Value *value);
Value *number(Formula *f, double value);
Value *either(Formula *f, double narrow, double wide); /* a constant for f32, another for f64 */
Value *add(Formula *f, Value *x, Value *y);
Value *subtract(Formula *f, Value *x, Value *y);
Value *multiply(Formula *f, Value *x, Value *y);
Value *divide(Formula *f, Value *x, Value *y);
Value *fused(Formula *f, Value *x, Value *y, Value *z); /* x * y + z, rounded once */
Value *negative(Formula *f, Value *x);
Value *absolute(Formula *f, Value *x);
Value *less(Formula *f, Value *x, Value *y);
Value *equals(Formula *f, Value *x, Value *y);
Value *choose(Formula *f, Value *condition, Value *x, Value *y);
Value *clamp(Formula *f, double low, double high, Value *x); /* NaN passes */
Value *polynomial(Formula *f, Value *x, const double *coefficients,
                  int count); /* c[0] + c[1] x + …, by Horner with fma */

Value *bits_of(Formula *f, Value *x);     /* as I32 or I64 */
Value *float_of(Formula *f, Value *bits); /* back */
Value *bits(Formula *f, int64_t narrow, int64_t wide);
Value *integer_op(Formula *f, Op op, Value *x, Value *y);
Value *shift(Formula *f, Op op, Value *x, int narrow, int wide);
Value *exponent_up(Formula *f, Value *x);               /* x << 23 (52): an integer to a float's exponent field */
Value *with_sign_of(Formula *f, Value *x, Value *sign); /* x, not negative, with the sign bit of the other, bits both */

/* x = 2^k m with m in [sqrt(1/2), sqrt(2)), x > 0 named; m and k come named. */
Value *split_binary(Formula *f, Value *x, Value **k);

/* Polynomials on [-pi/4, pi/4], of r and its square z, both named. */
Value *sine_near(Formula *f, Value *r, Value *z);
Value *cosine_near(Formula *f, Value *z);

MathFunction *math_trigonometric(Module *module, Op op, Name name, ValueType type);
MathFunction *math_power(Module *module, Name name, ValueType type);
MathFunction *math_power_of_constant(Module *module, double base, Name name, ValueType type);

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))
#define POLYNOMIAL(f, x, narrow, wide_one)                                                                             \
    ((f)->wide ? polynomial((f), (x), (wide_one), COUNT(wide_one)) : polynomial((f), (x), (narrow), COUNT(narrow)))

/* Of f32 and f64: bits of the mantissa, bias of the exponent, the bits of sqrt(1/2). */
#define MANTISSA(f)    ((f)->wide ? 52 : 23)
#define BIAS(f)        ((f)->wide ? 1023 : 127)
#define ROOT_HALF_BITS 0x3F3504F3, 0x3FE6A09E667F3BCD

/* ln 2 in two parts; the first has so few bits that its product with any exponent is exact. */
#define LN2_HIGH 0x1.62e4p-1, 0x1.62e42fefa38p-1
#define LN2_LOW  0x1.7f7d1cp-20, 0x1.ef35793c7673p-45
#define LOG2_E   0x1.715476p+0, 0x1.71547652b82fep+0

/* 2^n q + … of exp: see math.c. */
typedef struct Reduced {
    Value *shifted; /* bits whose low ones are n + what was added, named */
    Value *r;       /* x - n ln 2, named */
} Reduced;
Reduced reduce_exp(Formula *f, Value *x, int added); /* x named */
Value *expm1_near(Formula *f, Value *r);             /* |r| <= ln(2) / 2, named */
Value *exp_bounded(Formula *f, Value *x,
                   Value *rest); /* x named and in range of clamp_exp; exp(x + rest); rest may be NULL */
Value *clamp_exp(Formula *f, Value *x);

#endif
