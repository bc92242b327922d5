/* sin and cos. f32: right for every finite float. f64: for |x| <= 2^30; beyond it NaN, never a wrong number.

   Reduction to r in [-pi/4, pi/4] and a quadrant: Cody and Waite's with pi/2 in three parts and fma where |x| is small;
   for greater f32 Payne and Hanek's ("Radian reduction for trigonometric functions", 1983): only those bits of 2/pi
   count that are neither whole turns nor too small, and integer products of them are exact. */
#include "formula.h"

#include <math.h>

Value *sine_near(Formula *f, Value *r, Value *z) {
    static const double narrow[] = {-0x1.555546p-3, 0x1.11077ap-7, -0x1.9954a4p-13};
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

static Angle reduce_small(Formula *f, Value *a) {
    double magic = ldexp(1.5, MANTISSA(f));
    Value *t = named(f, "t", fused(f, a, either(f, 0x1.45f306p-1, 0x1.45f306dc9c883p-1), number(f, magic)));
    Value *n = named(f, "n", subtract(f, t, number(f, magic)));
    Value *r = fused(f, n, either(f, -0x1.921fb6p+0, -0x1.921fb54442d18p+0), a);
    r = fused(f, n, either(f, 0x1.777a5cp-25, -0x1.1a62633145c07p-54), r);
    r = fused(f, n, either(f, 0x1.ee59dap-50, 0x1.f1976b7ed8fbcp-110), r);
    return (Angle){r, bits_of(f, t)};
}

static Value *word(Formula *f, uint32_t bits) {
    return value_bits(&f->b, (ValueType){SCALAR_U32, f->type.lanes}, bits);
}

/* The words window[at] … of 0 and the binary digits of 2/pi, as the word index says (0 … 4). */
static Value *digits(Formula *f, Value *const is[4], int at) {
    static const uint32_t words[] = {0,          0xA2F9836E, 0x4E441529, 0xFC2757D1,
                                     0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB};
    Value *chosen = word(f, words[at + 4]);
    for (int i = 3; i >= 0; i--)
        chosen = choose(f, is[i], word(f, words[at + i]), chosen);
    return chosen;
}

static Value *u32(Formula *f, Op op, Value *x, Value *y) {
    return value_op(&f->b, op, x, y, NULL);
}

/* Three words of digits of 2/pi / 4, whole turns left out: |x| = M 2^E, and these are 2^(E - 2) (2/pi) mod 1. */
static void digits_at(Formula *f, Value *exponent_field, Value *g[3]) {
    Value *offset = named(f, "offset", u32(f, OP_INTEGER_SUBTRACT, exponent_field, word(f, 120)));
    Value *index = named(f, "index", u32(f, OP_SHIFT_RIGHT, offset, word(f, 5)));
    Value *left = named(f, "left", u32(f, OP_BITS_AND, offset, word(f, 31)));
    Value *right = named(f, "right", u32(f, OP_INTEGER_SUBTRACT, word(f, 31), left));
    Value *is[4], *w[4];
    for (uint32_t i = 0; i < 4; i++)
        is[i] = named(f, "is", u32(f, OP_INTEGER_EQUAL, index, word(f, i)));
    for (int i = 0; i < 4; i++)
        w[i] = named(f, "w", digits(f, is, i));
    for (int i = 0; i < 3; i++) {
        Value *low = u32(f, OP_SHIFT_RIGHT, u32(f, OP_SHIFT_RIGHT, w[i + 1], word(f, 1)), right);
        g[i] = named(f, "g", u32(f, OP_BITS_OR, u32(f, OP_SHIFT_LEFT, w[i], left), low));
    }
}

/* |x| * 2/pi / 4 mod 1 as 64 bits, its top two the quadrant; then the fraction, rounded to nearest, as a float. */
static Angle reduce_great(Formula *f, Value *a) {
    Value *g[3];
    Value *a_bits = named(f, "a_bits", value_bitcast(&f->b, a, SCALAR_U32));
    digits_at(f, u32(f, OP_SHIFT_RIGHT, a_bits, word(f, 23)), g);
    Value *mantissa = u32(f, OP_BITS_OR, u32(f, OP_BITS_AND, a_bits, word(f, 0x7FFFFF)), word(f, 0x800000));
    mantissa = named(f, "mantissa", mantissa);
    Value *middle = named(f, "middle", u32(f, OP_INTEGER_MULTIPLY, mantissa, g[1]));
    Value *low = u32(f, OP_INTEGER_ADD, middle, u32(f, OP_MULTIPLY_HIGH, mantissa, g[2]));
    low = named(f, "low", low);
    Value *carry = choose(f, u32(f, OP_INTEGER_LESS, low, middle), word(f, 1), word(f, 0));
    Value *high =
        u32(f, OP_INTEGER_ADD, u32(f, OP_INTEGER_MULTIPLY, mantissa, g[0]), u32(f, OP_MULTIPLY_HIGH, mantissa, g[1]));
    high = named(f, "high", u32(f, OP_INTEGER_ADD, high, carry));

    Value *quadrant = u32(f, OP_SHIFT_RIGHT, u32(f, OP_INTEGER_ADD, high, word(f, 0x20000000)), word(f, 30));
    quadrant = named(f, "quadrant", quadrant);
    Value *top = u32(f, OP_INTEGER_SUBTRACT, high, u32(f, OP_SHIFT_LEFT, quadrant, word(f, 30)));
    Value *fraction = named(f, "fraction", value_bitcast(&f->b, top, SCALAR_I32));
    Value *sign = named(f, "sign", shift(f, OP_SHIFT_RIGHT, fraction, 31, 63)); /* all ones when negative */
    Value *size = named(f, "size", integer_op(f, OP_BITS_XOR, fraction, sign));
    Value *size_low = u32(f, OP_BITS_XOR, low, value_bitcast(&f->b, sign, SCALAR_U32));
    /* size has up to 29 bits: the upper 17 and the lower 12 with size_low are each exact or rounded where it cannot
     * show. */
    Value *upper = value_convert(&f->b, integer_op(f, OP_BITS_AND, size, bits(f, ~0xFFF, 0)), SCALAR_F32);
    upper = named(f, "upper", upper);
    Value *lower = value_convert(&f->b, integer_op(f, OP_BITS_AND, size, bits(f, 0xFFF, 0)), SCALAR_F32);
    lower = fused(f, value_convert(&f->b, size_low, SCALAR_F32), number(f, 0x1p-32), lower);
    Value *r = multiply(f, lower, number(f, 0x1.921fb6p-30)); /* pi/2 2^-30 in two parts */
    r = fused(f, upper, number(f, -0x1.777a5cp-55), r);
    r = fused(f, upper, number(f, 0x1.921fb6p-30), r);
    Value *sign_bit = integer_op(f, OP_BITS_AND, sign, bits(f, INT32_MIN, 0));
    r = float_of(f, integer_op(f, OP_BITS_XOR, bits_of(f, r), sign_bit));
    return (Angle){r, value_bitcast(&f->b, quadrant, SCALAR_I32)};
}

static Angle reduce_angle(Formula *f, Value *a) {
    Angle angle = reduce_small(f, a);
    if (!f->wide) {
        Angle great = reduce_great(f, a);
        Value *is_small = named(f, "is_small", less(f, a, number(f, 0x1p16)));
        angle.r = choose(f, is_small, angle.r, great.r);
        angle.quadrant = choose(f, is_small, angle.quadrant, great.quadrant);
    }
    return (Angle){named(f, "r", angle.r), angle.quadrant};
}

MathFunction *math_trigonometric(Module *module, Op op, Name name, ValueType type) {
    const char *about = type.scalar == SCALAR_F64
                            ? "Cody and Waite's reduction in three parts, |x| <= 2^30, else NaN; 1.5 ulp"
                            : "Cody and Waite's reduction below 2^16, Payne and Hanek's from there; 1.64 ulp";
    Formula start = formula_start(module, name, about, type), *f = &start;
    Value *x = formula_argument(f, "x", type);
    Value *a = named(f, "a", absolute(f, x));
    Angle angle = reduce_angle(f, a);
    Value *turned = op == OP_COS ? integer_op(f, OP_INTEGER_ADD, angle.quadrant, bits(f, 1, 1)) : angle.quadrant;
    Value *quadrant = named(f, "quadrant", turned);
    Value *z = named(f, "z", multiply(f, angle.r, angle.r));
    Value *even = integer_op(f, OP_INTEGER_EQUAL, integer_op(f, OP_BITS_AND, quadrant, bits(f, 1, 1)), bits(f, 0, 0));
    Value *result = choose(f, even, sine_near(f, angle.r, z), cosine_near(f, z));
    Value *sign = integer_op(f, OP_BITS_AND, quadrant, bits(f, 2, 2));
    sign = shift(f, OP_SHIFT_LEFT, sign, 30, 62);
    if (op == OP_SIN)
        sign =
            integer_op(f, OP_BITS_XOR, sign, integer_op(f, OP_BITS_AND, bits_of(f, x), bits(f, INT32_MIN, INT64_MIN)));
    result = float_of(f, integer_op(f, OP_BITS_XOR, bits_of(f, result), sign));
    Value *in_range =
        f->wide ? value_op(&f->b, OP_LESS_EQUAL, a, number(f, 0x1p30), NULL) : less(f, a, number(f, INFINITY));
    return formula_end(f, choose(f, in_range, result, number(f, NAN)));
}
