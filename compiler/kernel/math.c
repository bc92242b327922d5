/* exp, expm1, log, log1p, tanh, erf in the kernel representation: no libm, no table, no branch, so that C and LLVM, any
   lanes and any machine give the same bits.

   Reductions are Cody and Waite's ("Software Manual for the Elementary Functions", 1980): x = n ln 2 + r for exp,
   x = 2^k m for log. Polynomials are minimax: Remez's exchange in 40 digits, weighted by the relative error of the
   result, coefficients rounded to the type one after the other and the rest fitted again. Conditions become `where`,
   both sides computed. Special values are C's (C11 Annex F.10). Errors stand in `about` of each function. */
#include "formula.h"

#include <math.h>

/* ---- The small language
 * ------------------------------------------------------------------------------------------------ */

Formula formula_start(Module *module, Name name, const char *about, ValueType result) {
    MathFunction *function = arena_new_of(module->arena, MathFunction);
    function->name = name;
    function->about = about;
    function->result = result;
    return (Formula){.b = {.arena = module->arena, .module = module, .block = &function->body},
                     .function = function,
                     .type = result,
                     .wide = result.scalar == SCALAR_F64};
}

Value *formula_argument(Formula *f, const char *name, ValueType type) {
    Value *value = arena_new_of(f->b.arena, Value);
    value->kind = VALUE_ARGUMENT;
    value->type = type;
    value->number.integer = f->function->argument_count;
    value->let = name_of(name);
    build_take_name(&f->b, value->let);
    f->function->argument_names[f->function->argument_count] = value->let;
    f->function->arguments[f->function->argument_count++] = type;
    return value;
}

MathFunction *formula_end(Formula *f, Value *value) {
    if (value->type.scalar != f->function->result.scalar || value->type.lanes != f->function->result.lanes)
        BUG("%s has another type than its value", f->function->name);
    f->function->value = value;
    *LIST_ADD(f->b.arena, &f->b.module->maths) = f->function;
    return f->function;
}

Value *named(Formula *f, const char *name, Value *value) {
    return build_let(&f->b, name, value);
}

Value *number(Formula *f, double value) {
    return value_number(&f->b, f->type, value);
}

Value *either(Formula *f, double narrow, double wide) {
    return number(f, f->wide ? wide : narrow);
}

Value *add(Formula *f, Value *x, Value *y) {
    return value_op(&f->b, OP_ADD, x, y, NULL);
}

Value *subtract(Formula *f, Value *x, Value *y) {
    return value_op(&f->b, OP_SUBTRACT, x, y, NULL);
}

Value *multiply(Formula *f, Value *x, Value *y) {
    return value_op(&f->b, OP_MULTIPLY, x, y, NULL);
}

Value *divide(Formula *f, Value *x, Value *y) {
    return value_op(&f->b, OP_DIVIDE, x, y, NULL);
}

Value *fused(Formula *f, Value *x, Value *y, Value *z) {
    return value_op(&f->b, OP_FMA, x, y, z);
}

Value *negative(Formula *f, Value *x) {
    return value_op(&f->b, OP_NEGATE, x, NULL, NULL);
}

Value *absolute(Formula *f, Value *x) {
    return value_op(&f->b, OP_ABSOLUTE, x, NULL, NULL);
}

Value *less(Formula *f, Value *x, Value *y) {
    return value_op(&f->b, OP_LESS, x, y, NULL);
}

Value *equals(Formula *f, Value *x, Value *y) {
    return value_op(&f->b, OP_EQUAL, x, y, NULL);
}

Value *choose(Formula *f, Value *condition, Value *x, Value *y) {
    return value_op(&f->b, OP_WHERE, condition, x, y);
}

Value *clamp(Formula *f, double low, double high, Value *x) {
    Value *above = value_op(&f->b, OP_MAXIMUM, number(f, low), x, NULL); /* the constant first: one instruction */
    return value_op(&f->b, OP_MINIMUM, number(f, high), above, NULL);
}

Value *polynomial(Formula *f, Value *x, const double *coefficients, int count) {
    Value *sum = number(f, coefficients[count - 1]);
    for (int i = count - 2; i >= 0; i--)
        sum = fused(f, sum, x, number(f, coefficients[i]));
    return sum;
}

Value *bits_of(Formula *f, Value *x) {
    return value_bitcast(&f->b, x, f->wide ? SCALAR_I64 : SCALAR_I32);
}

Value *float_of(Formula *f, Value *of) {
    return value_bitcast(&f->b, of, f->type.scalar);
}

Value *bits(Formula *f, int64_t narrow, int64_t wide) {
    return value_bits(&f->b, (ValueType){f->wide ? SCALAR_I64 : SCALAR_I32, f->type.lanes}, f->wide ? wide : narrow);
}

Value *integer_op(Formula *f, Op op, Value *x, Value *y) {
    return value_op(&f->b, op, x, y, NULL);
}

Value *shift(Formula *f, Op op, Value *x, int narrow, int wide) {
    return integer_op(f, op, x, value_bits(&f->b, x->type, f->wide ? wide : narrow));
}

Value *exponent_up(Formula *f, Value *x) {
    return shift(f, OP_SHIFT_LEFT, x, 23, 52);
}

Value *with_sign_of(Formula *f, Value *x, Value *sign) {
    Value *sign_bit = integer_op(f, OP_BITS_AND, bits_of(f, sign), bits(f, INT32_MIN, INT64_MIN));
    return float_of(f, integer_op(f, OP_BITS_OR, bits_of(f, x), sign_bit));
}

/* ---- exp and its kin
 * ------------------------------------------------------------------------------------------------------ */

/* n = round(x / ln 2) by adding 1.5 * 2^mantissa, which leaves n in the low bits of the sum; `added` rides along there,
   so that no integer addition is needed to make an exponent of it. */
Reduced reduce_exp(Formula *f, Value *x, int added) {
    double magic = ldexp(1.5, MANTISSA(f)) + added;
    Value *t = named(f, "t", fused(f, x, either(f, LOG2_E), number(f, magic)));
    Value *n = named(f, "n", subtract(f, t, number(f, magic)));
    double high[] = {LN2_HIGH}, low[] = {LN2_LOW};
    Value *r = fused(f, n, either(f, -high[0], -high[1]), x);
    r = named(f, "r", fused(f, n, either(f, -low[0], -low[1]), r));
    return (Reduced){named(f, "bits", bits_of(f, t)), r};
}

/* r + r^2 Q(r). Relative error of the polynomial: f32 2^-26, f64 2^-59. */
Value *expm1_near(Formula *f, Value *r) {
    static const double narrow[] = {0.5, 0x1.5554a4p-3, 0x1.555536p-5, 0x1.123102p-7, 0x1.6ce334p-10};
    static const double wide[] = {0.5,
                                  0x1.5555555555559p-3,
                                  0x1.555555555555bp-5,
                                  0x1.111111110f485p-7,
                                  0x1.6c16c16c1413ep-10,
                                  0x1.a01a01b0db6cbp-13,
                                  0x1.a01a01b1ad3e3p-16,
                                  0x1.71ddf5ac0d47cp-19,
                                  0x1.27e4c38de8585p-22,
                                  0x1.af63bbdbcba94p-26,
                                  0x1.1f989c6d69378p-29};
    return fused(f, multiply(f, r, r), POLYNOMIAL(f, r, narrow, wide), r);
}

/* Below the lower bound exp is 0, above the upper infinite, when rounded. */
Value *clamp_exp(Formula *f, Value *x) {
    return f->wide ? clamp(f, -746, 710, x) : clamp(f, -104, 89, x);
}

/* 2^n as a product of two powers, so that n from the least denormal to overflow rounds once: the exponent fields add up
   to n + 2 * bias, which is what the low bits hold. */
Value *exp_bounded(Formula *f, Value *x, Value *rest) {
    Reduced reduced = reduce_exp(f, x, 2 * BIAS(f));
    Value *r = rest ? named(f, "r", add(f, reduced.r, rest)) : reduced.r;
    Value *q = add(f, expm1_near(f, r), number(f, 1));
    Value *half = named(f, "half", shift(f, OP_SHIFT_RIGHT, reduced.shifted, 1, 1));
    Value *first = float_of(f, exponent_up(f, half));
    Value *second = float_of(f, exponent_up(f, integer_op(f, OP_INTEGER_SUBTRACT, reduced.shifted, half)));
    return multiply(f, multiply(f, q, first), second);
}

static Value *formula_exp(Formula *f, Value *x) {
    return exp_bounded(f, named(f, "bounded", clamp_exp(f, x)), NULL);
}

/* 2^n (expm1(r)) + (2^n - 1), with 2^(n - 1) instead, doubled at the end: n = 128 would overflow. Tiny x is its own
   result, so that denormals and -0 stay. */
static Value *formula_expm1(Formula *f, Value *x) {
    Value *bounded = named(f, "bounded", f->wide ? clamp(f, -38, 710, x) : clamp(f, -17.5, 89, x));
    Reduced reduced = reduce_exp(f, bounded, BIAS(f) - 1);
    Value *scale = named(f, "scale", float_of(f, exponent_up(f, reduced.shifted)));
    Value *result = fused(f, scale, expm1_near(f, reduced.r), subtract(f, scale, number(f, 0.5)));
    Value *tiny = less(f, absolute(f, x), either(f, 0x1p-24, 0x1p-53));
    return choose(f, tiny, x, multiply(f, result, number(f, 2)));
}

/* e / (e + 2) with e = expm1(2 |x|); beyond the bound it rounds to 1. In f32 that alone would be 2.4 ulp off near 0, so
   there it is x + x^3 P(x^2) below 0.55. */
static Value *formula_tanh(Formula *f, Value *x) {
    static const double near_zero[] = {-0x1.55554cp-2, 0x1.110d6ap-3, -0x1.b931fcp-5, 0x1.598276p-6, -0x1.9c949p-8};
    Value *size = named(f, "size", absolute(f, x));
    Value *doubled = multiply(f, size, number(f, 2));
    doubled = named(f, "doubled", value_op(&f->b, OP_MINIMUM, either(f, 20, 40), doubled, NULL));
    Reduced reduced = reduce_exp(f, doubled, BIAS(f));
    Value *scale = named(f, "scale", float_of(f, exponent_up(f, reduced.shifted)));
    Value *e = fused(f, scale, expm1_near(f, reduced.r), subtract(f, scale, number(f, 1)));
    e = named(f, "e", e);
    Value *result = divide(f, e, add(f, e, number(f, 2)));
    if (!f->wide) {
        Value *z = named(f, "z", multiply(f, size, size));
        Value *near = fused(f, multiply(f, size, z), polynomial(f, z, near_zero, COUNT(near_zero)), size);
        result = choose(f, less(f, size, number(f, 0.55)), near, result);
    }
    return with_sign_of(f, result, x);
}

/* ---- log and log1p
 * ----------------------------------------------------------------------------------------------------------- */

/* log(1 + u) + k ln 2 for u in [sqrt(1/2) - 1, sqrt(2) - 1], u and k named. f32: u - u^2/2 + u^3 P(u). f64, as in
   fdlibm (Sun, 1993): with s = u / (2 + u), log(1 + u) = 2 atanh(s). */
static Value *log_near(Formula *f, Value *u, Value *k) {
    static const double narrow[] = {0x1.555554p-2, -0x1.000228p-2, 0x1.99a036p-3, -0x1.54723ap-3,
                                    0x1.22d61cp-3, -0x1.0d7c9p-3,  0x1.0565aep-3, -0x1.38f72p-4};
    static const double wide[] = {0x1.5555555555555p-1, 0x1.9999999999e06p-2, 0x1.249249242aafbp-2,
                                  0x1.c71c7259aa01fp-3, 0x1.745cddff6fc64p-3, 0x1.3b20b4de122cdp-3,
                                  0x1.0f5bf60746c60p-3, 0x1.0f6a9a9b7bff3p-3};
    if (!f->wide) {
        Value *square = named(f, "square", multiply(f, u, u));
        Value *y = multiply(f, multiply(f, u, square), polynomial(f, u, narrow, COUNT(narrow)));
        y = fused(f, k, either(f, LN2_LOW), y);
        y = fused(f, square, number(f, -0.5), y);
        return fused(f, k, either(f, LN2_HIGH), add(f, u, y));
    }
    Value *s = named(f, "s", divide(f, u, add(f, u, number(f, 2))));
    Value *z = named(f, "z", multiply(f, s, s));
    Value *half = named(f, "half", multiply(f, multiply(f, u, u), number(f, 0.5)));
    Value *rest = fused(f, z, polynomial(f, z, wide, COUNT(wide)), half);
    rest = fused(f, s, rest, multiply(f, k, either(f, LN2_LOW)));
    return fused(f, k, either(f, LN2_HIGH), subtract(f, u, subtract(f, half, rest)));
}

/* result for x > least, -inf at least, NaN below; inf and NaN are their own result. */
static Value *log_specials(Formula *f, Value *x, double least, Value *result) {
    Value *outside = choose(f, equals(f, x, number(f, least)), number(f, -INFINITY), number(f, NAN));
    result = choose(f, less(f, number(f, least), x), result, outside);
    return choose(f, less(f, x, number(f, INFINITY)), result, x);
}

/* k of x = 2^k m with m in [sqrt(1/2), sqrt(2)), as an integer. */
static Value *binary_exponent(Formula *f, Value *x_bits) {
    return shift(f, OP_SHIFT_RIGHT, integer_op(f, OP_INTEGER_SUBTRACT, x_bits, bits(f, ROOT_HALF_BITS)), 23, 52);
}

Value *split_binary(Formula *f, Value *x, Value **k) {
    Value *small = named(f, "small", less(f, x, either(f, 0x1p-126, 0x1p-1022)));
    Value *normal = choose(f, small, multiply(f, x, either(f, 0x1p23, 0x1p52)), x);
    Value *normal_bits = named(f, "bits", bits_of(f, normal));
    Value *exponent = named(f, "exponent", binary_exponent(f, normal_bits));
    Value *m = float_of(f, integer_op(f, OP_INTEGER_SUBTRACT, normal_bits, exponent_up(f, exponent)));
    Value *lowered = choose(f, small, either(f, 23, 52), number(f, 0));
    *k = named(f, "k", subtract(f, value_convert(&f->b, exponent, f->type.scalar), lowered));
    return named(f, "m", m);
}

static Value *formula_log(Formula *f, Value *x) {
    Value *k;
    Value *m = split_binary(f, x, &k);
    Value *u = named(f, "u", subtract(f, m, number(f, 1)));
    return log_specials(f, x, 0, log_near(f, u, k));
}

/* 1 + x = 2^k (1 + u): u = 2^-k x + (2^-k - 1), rounded once. 2^-k is made as 2^(2 - k) / 4, for k may be 128. */
static Value *formula_log1p(Formula *f, Value *x) {
    Value *sum_bits = bits_of(f, add(f, x, number(f, 1)));
    Value *exponent = named(f, "exponent", binary_exponent(f, sum_bits));
    Value *field = integer_op(f, OP_INTEGER_SUBTRACT, bits(f, BIAS(f) + 2, BIAS(f) + 2), exponent);
    Value *scale = named(f, "scale", float_of(f, exponent_up(f, field)));
    Value *quarter = number(f, 0.25);
    Value *u = fused(f, multiply(f, x, scale), quarter, fused(f, scale, quarter, number(f, -1)));
    u = named(f, "u", u);
    Value *k = named(f, "k", value_convert(&f->b, exponent, f->type.scalar));
    Value *result = log_specials(f, x, -1, log_near(f, u, k));
    return choose(f, less(f, absolute(f, x), either(f, 0x1p-25, 0x1p-54)), x, result);
}

/* ---- erf
 * ---------------------------------------------------------------------------------------------------------------------
 */

/* 1 - erfc(t) for t in [1, bound]. f32: erfc(t) = exp(-t Q(t)). f64: erfc(t) = exp(-t^2) P((t - 3) / (t + 3)). */
static Value *erf_far(Formula *f, Value *t) {
    static const double narrow[] = {0x1.20f24cp+0, 0x1.451942p-1,   0x1.b46cbcp-4, -0x1.89a1cp-6,
                                    0x1.ed6e24p-9, -0x1.716afap-12, 0x1.da1f02p-17};
    static const double wide[] = {0x1.6e9827d229d2dp-3,   -0x1.4e102b9cf8513p-2, 0x1.f6ff204105a04p-3,
                                  -0x1.336ffbef08b23p-3,  0x1.258b13b00ed49p-4,  -0x1.8fa58eb5f7eaap-6,
                                  0x1.17c83908bd513p-8,   0x1.73101f9c9cb19p-11, -0x1.39085ed1db899p-11,
                                  0x1.7b9ecf7ab6eb7p-15,  0x1.0cb2b5ad82e92p-14, -0x1.af04b4217dc25p-17,
                                  -0x1.0cb738737e9d6p-17, 0x1.0e304f1992bdep-19, 0x1.553edf4d4c435p-20};
    t = named(f, "far", value_op(&f->b, OP_MINIMUM, either(f, 3.9375, 6), t, NULL));
    Value *y = f->wide ? t : polynomial(f, t, narrow, COUNT(narrow));
    y = named(f, "y", multiply(f, negative(f, t), y));
    Reduced reduced = reduce_exp(f, y, BIAS(f)); /* y >= -36: 2^n is normal */
    Value *scale = float_of(f, exponent_up(f, reduced.shifted));
    Value *complement = multiply(f, add(f, expm1_near(f, reduced.r), number(f, 1)), scale);
    if (f->wide) {
        Value *w = divide(f, subtract(f, t, number(f, 3)), add(f, t, number(f, 3)));
        complement = multiply(f, complement, polynomial(f, named(f, "w", w), wide, COUNT(wide)));
    }
    return subtract(f, number(f, 1), complement);
}

/* x + x P(x^2) up to 1. */
static Value *formula_erf(Formula *f, Value *x) {
    static const double narrow[] = {0x1.06eba8p-3, -0x1.81274p-2,   0x1.ce2d5p-4,  -0x1.b7fe9p-6,
                                    0x1.542e0ep-8, -0x1.a50ae8p-11, 0x1.4c339cp-14};
    static const double wide[] = {0x1.06eba8214db69p-3,   -0x1.812746b0379e6p-2,  0x1.ce2f21a042b34p-4,
                                  -0x1.b82ce31284f38p-6,  0x1.565bcd0dbd922p-8,   -0x1.c02db3db4989dp-11,
                                  0x1.f9a321e4bc150p-14,  -0x1.f4d1e4351d222p-17, 0x1.b9df306299835p-20,
                                  -0x1.5f1f4134f49bep-23, 0x1.f7b9a036e904bp-27,  -0x1.38ac2bcb75734p-30,
                                  0x1.062774aa4295dp-34};
    Value *t = named(f, "t", absolute(f, x));
    Value *z = named(f, "z", multiply(f, x, x));
    Value *near = fused(f, x, POLYNOMIAL(f, z, narrow, wide), x);
    return choose(f, less(f, t, number(f, 1)), near, with_sign_of(f, erf_far(f, t), x));
}

/* ---- The list
 * ------------------------------------------------------------------------------------------------------------- */

static Name function_name(const Module *module, const char *base, ValueType type) {
    const char *scalar = scalar_name(type.scalar);
    return name_of(type.lanes == 1 ? arena_printf(module->arena, "%s_%s", base, scalar)
                                   : arena_printf(module->arena, "%s_%sx%d", base, scalar, type.lanes));
}

/* Greatest errors: f32 over all 2^32 arguments against glibc's double functions, f64 over 4 million against its long
 * double. */
static const char *about(Op op, bool wide) {
    switch (op) {
    case OP_EXP:
        return wide ? "x = n ln 2 + r, minimax polynomial in r; 0.97 ulp"
                    : "x = n ln 2 + r, minimax polynomial in r; 1.05 ulp";
    case OP_EXPM1:
        return wide ? "x = n ln 2 + r, minimax polynomial in r; 1.8 ulp"
                    : "x = n ln 2 + r, minimax polynomial in r; 1.59 ulp";
    case OP_LOG:
        return wide ? "x = 2^k (1 + u), s = u / (2 + u), minimax polynomial in s^2; 0.8 ulp"
                    : "x = 2^k (1 + u), minimax polynomial in u; 0.87 ulp";
    case OP_LOG1P:
        return wide ? "1 + x = 2^k (1 + u), s = u / (2 + u), minimax polynomial in s^2; 1.4 ulp"
                    : "1 + x = 2^k (1 + u), minimax polynomial in u; 1.47 ulp";
    case OP_TANH:
        return wide ? "e / (e + 2) with e = expm1(2 |x|); 2.6 ulp"
                    : "e / (e + 2) with e = expm1(2 |x|), a polynomial below 0.55; 1.5 ulp";
    default:
        return wide ? "x + x P(x^2) below 1, 1 - erfc(|x|) beyond; 1.1 ulp"
                    : "x + x P(x^2) below 1, 1 - erfc(|x|) beyond; 1.06 ulp";
    }
}

static MathFunction *find_math(const Module *module, Name name) {
    for (int i = 0; i < module->maths.count; i++)
        if (module->maths.at[i]->name == name)
            return module->maths.at[i];
    return NULL;
}

MathFunction *math_power_of(Module *module, double base, ValueType type) {
    Text number = {0};
    text_number(&number, base);
    for (char *at = number.at; *at; at++)
        *at = *at == '-' ? 'm' : *at == '+' ? 'p' : *at == '.' ? '_' : *at;
    Name name = function_name(module, arena_printf(module->arena, "pow_%s", number.at), type);
    text_free(&number);
    MathFunction *found = find_math(module, name);
    return found ? found : math_power_of_constant(module, base, name, type);
}

MathFunction *math_function(Module *module, Op op, ValueType type) {
    if (op_table[op].class != CLASS_MATH || (type.scalar != SCALAR_F32 && type.scalar != SCALAR_F64))
        BUG("no math function for '%s' of %s", op_table[op].name, scalar_name(type.scalar));
    Name name = function_name(module, op_table[op].name, type);
    MathFunction *found = find_math(module, name);
    if (found)
        return found;
    if (op == OP_SIN || op == OP_COS)
        return math_trigonometric(module, op, name, type);
    if (op == OP_POWER)
        return math_power(module, name, type);
    Formula f = formula_start(module, name, about(op, type.scalar == SCALAR_F64), type);
    Value *x = formula_argument(&f, "x", type);
    switch (op) {
    case OP_EXP:
        return formula_end(&f, formula_exp(&f, x));
    case OP_EXPM1:
        return formula_end(&f, formula_expm1(&f, x));
    case OP_LOG:
        return formula_end(&f, formula_log(&f, x));
    case OP_LOG1P:
        return formula_end(&f, formula_log1p(&f, x));
    case OP_TANH:
        return formula_end(&f, formula_tanh(&f, x));
    default:
        return formula_end(&f, formula_erf(&f, x));
    }
}

int value_first_argument(const Value *value) {
    return value->function ? value->arg_count - value->function->argument_count : 0;
}
