/* sin and cos. f32: right for every finite float. f64: for |x| <= 2^30; beyond it NaN, never a wrong number.

   Reduction to r in [-pi/4, pi/4] and a quadrant. f64: Cody and Waite's with pi/2 in three parts and fma. f32: in double
   precision, where x 2/pi fits up to 2^51; beyond, only that part of 2/pi counts whose products with x are no whole turns
   (Payne and Hanek, "Radian reduction for trigonometric functions", 1983), one part for each 27 exponents. */
#include "formula.h"

#include <math.h>

Value *sine_near(Formula *f, Value *r, Value *z) {
    static const double narrow[] = {-0x1.555536p-3, 0x1.1101dp-7, -0x1.9798d8p-13};
    static const double wide[] = {-0x1.5555555555555p-3, 0x1.111111111110bp-7,   -0x1.a01a01a018ab3p-13,
                                  0x1.71de3a5335626p-19, -0x1.ae645292e025ep-26, 0x1.61208f335c27fp-33,
                                  -0x1.aaa3810ca8279p-41};
    return fused(f, multiply(f, r, z), POLYNOMIAL(f, z, narrow, wide), r);
}

Value *cosine_near(Formula *f, Value *z) {
    static const double narrow[] = {0x1.55554ap-5, -0x1.6c0c1ap-10, 0x1.99e0eep-16};
    static const double wide[] = {0x1.5555555555555p-5,   -0x1.6c16c16c16c10p-10, 0x1.a01a01a018dbfp-16,
                                  -0x1.27e4fb75fa92bp-22, 0x1.1eed8ca05eff4p-29,  -0x1.9393347a0f8c8p-37,
                                  0x1.aac3f3b107d45p-45};
    Value *rest = multiply(f, multiply(f, z, z), POLYNOMIAL(f, z, narrow, wide));
    return add(f, number(f, 1), fused(f, z, number(f, -0.5), rest));
}

/* r, and integer bits whose lowest two are the quadrant. */
typedef struct Angle {
    Value *r, *quadrant;
} Angle;

static Angle reduce_wide(Formula *f, Value *size) {
    Value *t = named(f, "t", fused(f, size, number(f, 0x1.45f306dc9c883p-1), number(f, 0x1.8p52)));
    Value *n = named(f, "n", subtract(f, t, number(f, 0x1.8p52)));
    Value *r = fused(f, n, number(f, -0x1.921fb54442d18p+0), size);
    r = fused(f, n, number(f, -0x1.1a62633145c07p-54), r);
    r = fused(f, n, number(f, 0x1.f1976b7ed8fbcp-110), r);
    return (Angle){r, bits_of(f, t)};
}

/* Where |x| < below: high + low is 2/pi without multiples of 4 2^-shift, where x 2^-shift is whole (or shift is 0) and below
   2^51, so its product with x is the angle in quarter turns without whole turns. The product with low alone is below
   0.052. */
typedef struct Window {
    double below, high, low;
} Window;

static const Window windows[] = {
    {0x1p49, 0x1.45f306dc9c883p-1, -0x1.6b01ec5417056p-55},     /* shift 0 */
    {0x1p76, 0x1.b9391054a7f0ap-26, -0x1.505c1596447e5p-81},    /* 26 */
    {0x1p102, 0x1.529fc2757d1f5p-52, 0x1.a6ee06db14acdp-107},   /* 48 */
    {INFINITY, -0x1.505c1596447e5p-81, 0x1.b14acc9e21c82p-135}, /* 79 */
};

/* x p - round(x p) is rounded twice, far below what a float can show: |r| <= 0.867. An infinite x gives NaN. */
static Angle reduce_narrow(Formula *f, Value *size) {
    ValueType type = {SCALAR_F64, f->type.lanes};
    int last = COUNT(windows) - 1;
    Value *high = value_number(&f->b, type, windows[last].high), *low = value_number(&f->b, type, windows[last].low);
    for (int i = last - 1; i >= 0; i--) {
        Value *within = named(f, "within", less(f, size, number(f, windows[i].below)));
        high = choose(f, within, value_number(&f->b, type, windows[i].high), high);
        low = choose(f, within, value_number(&f->b, type, windows[i].low), low);
    }
    high = named(f, "high", high);
    Value *y = named(f, "y", value_convert(&f->b, size, SCALAR_F64));
    Value *magic = value_number(&f->b, type, 0x1.8p52);
    Value *t = named(f, "t", fused(f, y, high, magic));
    Value *r = fused(f, y, high, subtract(f, magic, t));
    r = multiply(f, fused(f, y, low, r), value_number(&f->b, type, 0x1.921fb54442d18p+0));
    Value *quadrant = value_convert(&f->b, value_bitcast(&f->b, t, SCALAR_I64), SCALAR_I32);
    return (Angle){value_convert(&f->b, r, SCALAR_F32), quadrant};
}

MathFunction *math_trigonometric(Module *module, Op op, Name name, ValueType type) {
    const char *about = type.scalar == SCALAR_F64
                            ? "Cody and Waite's reduction in three parts, |x| <= 2^30, else NaN; 1.5 ulp"
                            : "Payne and Hanek's reduction in double precision; 1.63 ulp";
    Formula start = formula_start(module, name, about, type), *f = &start;
    Value *x = formula_argument(f, "x", type);
    Value *size = named(f, "size", absolute(f, x));
    Angle angle = f->wide ? reduce_wide(f, size) : reduce_narrow(f, size);
    Value *r = named(f, "r", angle.r);
    Value *turned = op == OP_COS ? integer_op(f, OP_INTEGER_ADD, angle.quadrant, bits(f, 1, 1)) : angle.quadrant;
    Value *quadrant = named(f, "quadrant", turned);
    Value *z = named(f, "z", multiply(f, r, r));
    Value *even = integer_op(f, OP_INTEGER_EQUAL, integer_op(f, OP_BITS_AND, quadrant, bits(f, 1, 1)), bits(f, 0, 0));
    Value *result = choose(f, even, sine_near(f, r, z), cosine_near(f, z));
    Value *sign = shift(f, OP_SHIFT_LEFT, quadrant, 30, 62);
    if (op == OP_SIN)
        sign = integer_op(f, OP_BITS_XOR, sign, bits_of(f, x));
    sign = integer_op(f, OP_BITS_AND, sign, bits(f, INT32_MIN, INT64_MIN));
    result = float_of(f, integer_op(f, OP_BITS_XOR, bits_of(f, result), sign));
    if (!f->wide)
        return formula_end(f, result);
    Value *in_range = value_op(&f->b, OP_LESS_EQUAL, size, number(f, 0x1p30), NULL);
    return formula_end(f, choose(f, in_range, result, number(f, NAN)));
}
