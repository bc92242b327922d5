/* pow(x, y) = exp(y log |x|) with the logarithm as an unevaluated sum of two floats, for y log |x| may be 88 (f64: 709)
   and every absolute error of it is a relative one of the result. Sums and products in two parts: Dekker, "A
   floating-point technique for extending the available precision", 1971, with fma. */
#include "formula.h"

#include <math.h>

typedef struct Pair {
    Value *high, *low; /* high named */
} Pair;

/* 2 atanh(s) = 2 s + s^3 (2/3 + z P(z)), z = s^2, s = (m - 1) / (m + 1). Relative error of the polynomial: f32 2^-35,
 * f64 2^-67. */
static Pair log_of_mantissa(Formula *f, Value *m) {
    static const double narrow[] = {0x1.9999fap-2, 0x1.24547cp-2, 0x1.df4fc6p-3};
    static const double wide[] = {0x1.9999999999999p-2, 0x1.2492492492843p-2, 0x1.c71c71c657bb2p-3,
                                  0x1.745d17d5706abp-3, 0x1.3b13792f136adp-3, 0x1.111d9e9ea5b95p-3,
                                  0x1.dea6fc3e15f3fp-4, 0x1.e7958f389c7e1p-4};
    Value *one = number(f, 1);
    Value *u = named(f, "u", subtract(f, m, one));
    Value *v = named(f, "v", add(f, m, one));
    Value *v_low = subtract(f, m, subtract(f, v, one));
    Value *s = named(f, "s", divide(f, u, v));
    Value *minus_s = named(f, "minus_s", negative(f, s));
    Value *s_low = divide(f, fused(f, minus_s, v_low, fused(f, minus_s, v, u)), v);
    s_low = named(f, "s_low", s_low);

    Value *z = named(f, "z", multiply(f, s, s));
    Value *z_low = fused(f, s, s, negative(f, z));
    z_low = named(f, "z_low", fused(f, multiply(f, s, s_low), number(f, 2), z_low));
    Value *cube = named(f, "cube", multiply(f, s, z));
    Value *cube_low = fused(f, s, z, negative(f, cube));
    cube_low = named(f, "cube_low", fused(f, s, z_low, fused(f, s_low, z, cube_low)));

    Value *third = either(f, 0x1.555556p-1, 0x1.5555555555555p-1); /* 2/3 in two parts */
    Value *third_low = either(f, -0x1.555556p-26, 0x1.5555555555555p-55);
    Value *tail = named(f, "tail", multiply(f, z, POLYNOMIAL(f, z, narrow, wide)));
    Value *c = named(f, "c", add(f, third, tail));
    Value *c_low = add(f, add(f, subtract(f, third, c), tail), third_low);

    Value *g = named(f, "g", multiply(f, cube, c));
    Value *g_low = fused(f, cube, c, negative(f, g));
    g_low = fused(f, cube, c_low, fused(f, cube_low, c, g_low));
    Value *twice = named(f, "twice", multiply(f, s, number(f, 2)));
    Value *sum = named(f, "sum", add(f, twice, g));
    Value *sum_low = add(f, subtract(f, twice, sum), g);
    return (Pair){sum, add(f, sum_low, fused(f, s_low, number(f, 2), g_low))};
}

/* log(a) for a > 0, named; -inf for 0, inf and NaN as they are (the low part is then rubbish). */
static Pair log_in_two(Formula *f, Value *a) {
    Value *k;
    Value *m = split_binary(f, a, &k);
    Pair near = log_of_mantissa(f, m);
    Value *whole = named(f, "whole", multiply(f, k, either(f, LN2_HIGH)));
    Value *high = named(f, "high", add(f, whole, near.high));
    Value *low = add(f, subtract(f, whole, high), near.high);
    low = add(f, low, fused(f, k, either(f, LN2_LOW), near.low));
    Value *outside = choose(f, equals(f, a, number(f, 0)), number(f, -INFINITY), a);
    Value *inside = value_op(&f->b, OP_AND, less(f, number(f, 0), a), less(f, a, number(f, INFINITY)), NULL);
    return (Pair){named(f, "log_high", choose(f, inside, high, outside)), low};
}

/* C11 F.10.4.4. `size` is |x|^y where neither is special. */
static Value *power_specials(Formula *f, Value *x, Value *y, Value *a, Value *size) {
    Value *y_floor = value_op(&f->b, OP_FLOOR, y, NULL, NULL);
    Value *whole = named(f, "is_whole", equals(f, y_floor, y));
    Value *half = named(f, "half", multiply(f, y, number(f, 0.5)));
    Value *halved_whole = value_op(&f->b, OP_NOT_EQUAL, value_op(&f->b, OP_FLOOR, half, NULL, NULL), half, NULL);
    Value *odd = value_op(&f->b, OP_AND, whole, halved_whole, NULL);
    Value *sign = integer_op(f, OP_BITS_AND, bits_of(f, x), bits(f, INT32_MIN, INT64_MIN));
    sign = choose(f, odd, sign, bits(f, 0, 0));
    size = choose(f, equals(f, a, number(f, 1)), number(f, 1), size); /* y may be infinite */
    Value *result = float_of(f, integer_op(f, OP_BITS_XOR, bits_of(f, size), sign));

    Value *negative_x = value_op(&f->b, OP_AND, less(f, x, number(f, 0)), less(f, number(f, -INFINITY), x), NULL);
    Value *unreal = value_op(&f->b, OP_AND, negative_x, value_op(&f->b, OP_NOT, whole, NULL, NULL), NULL);
    result = choose(f, unreal, number(f, NAN), result);
    Value *ordered = value_op(&f->b, OP_AND, equals(f, x, x), equals(f, y, y), NULL);
    result = choose(f, ordered, result, number(f, NAN));
    Value *is_one = value_op(&f->b, OP_OR, equals(f, y, number(f, 0)), equals(f, x, number(f, 1)), NULL);
    return choose(f, is_one, number(f, 1), result);
}

static Value *power(Formula *f, Value *x, Value *y) {
    Value *a = named(f, "a", absolute(f, x));
    Pair log = log_in_two(f, a);
    Value *product = named(f, "product", multiply(f, y, log.high));
    Value *rest = fused(f, y, log.low, fused(f, y, log.high, negative(f, product)));
    Value *ordinary = less(f, absolute(f, product), number(f, 1024)); /* else 0 or infinite: the rest would be NaN */
    rest = named(f, "rest", choose(f, ordinary, rest, number(f, 0)));
    Value *bounded = named(f, "bounded", clamp_exp(f, product));
    return power_specials(f, x, y, a, exp_bounded(f, bounded, rest));
}

MathFunction *math_power(Module *module, Name name, ValueType type) {
    Formula start =
        formula_start(module, name, "exp(y log |x|), the logarithm and the product in two parts; 1.3 ulp seen", type);
    Value *x = formula_argument(&start, "x", type);
    Value *y = formula_argument(&start, "y", type);
    return formula_end(&start, power(&start, x, y));
}

MathFunction *math_power_of_constant(Module *module, double base, Name name, ValueType type) {
    Text about = {0};
    text_number(&about, base);
    Formula start = formula_start(module, name,
                                  arena_printf(module->arena,
                                               "%s^y: pow, to the bit, with the logarithm made when "
                                               "compiling",
                                               about.at),
                                  type);
    text_free(&about);
    Value *y = formula_argument(&start, "y", type);
    return formula_end(&start, power(&start, number(&start, base), y));
}
