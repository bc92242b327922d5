/* Random draws by Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in the kernel
 * representation. */
#include "formula.h"

#include <math.h>

static Value *word(Formula *f, uint32_t bits) {
    return value_bits(&f->b, (ValueType){SCALAR_U32, f->type.lanes}, bits);
}

static Value *u32(Formula *f, Op op, Value *x, Value *y) {
    return value_op(&f->b, op, x, y, NULL);
}

/* The low or the high 32 bits of a scalar of 64, still scalar. */
static Value *low_word(Formula *f, Value *x) {
    return value_convert(&f->b, x, SCALAR_U32);
}

static Value *high_word(Formula *f, Value *x) {
    return low_word(f, u32(f, OP_SHIFT_RIGHT, x, value_bits(&f->b, x->type, 32)));
}

static Value *folded(Formula *f, Value *high, uint32_t odd) {
    return u32(f, OP_INTEGER_MULTIPLY, high, value_bits(&f->b, high->type, odd));
}

static void rounds(Formula *f, Value *counter[4], Value *key[2]) {
    for (int round = 0; round < 10; round++) {
        Value *left = word(f, 0xD2511F53), *right = word(f, 0xCD9E8D57);
        Value *c0 = counter[0], *c2 = counter[2];
        Value *x = u32(f, OP_BITS_XOR, u32(f, OP_MULTIPLY_HIGH, c2, right), u32(f, OP_BITS_XOR, counter[1], key[0]));
        Value *z = u32(f, OP_BITS_XOR, u32(f, OP_MULTIPLY_HIGH, c0, left), u32(f, OP_BITS_XOR, counter[3], key[1]));
        counter[0] = named(f, "x", x);
        counter[2] = named(f, "z", z);
        counter[1] = named(f, "y", u32(f, OP_INTEGER_MULTIPLY, c2, right));
        counter[3] = named(f, "w", u32(f, OP_INTEGER_MULTIPLY, c0, left));
        if (round == 9)
            break;
        key[0] = named(f, "k", u32(f, OP_INTEGER_ADD, key[0], word(f, 0x9E3779B9)));
        key[1] = named(f, "l", u32(f, OP_INTEGER_ADD, key[1], word(f, 0xBB67AE85)));
    }
}

/* The four words for the arguments, which it declares. */
static void draw(Formula *f, bool apart, Value *out[4]) {
    Value *seed = formula_argument(f, "seed", (ValueType){SCALAR_U64, 1});
    Value *step = formula_argument(f, "step", (ValueType){SCALAR_U64, 1});
    Value *row = formula_argument(f, "row", (ValueType){SCALAR_I64, 1});
    Value *element = formula_argument(f, "element", (ValueType){SCALAR_I64, 1});
    Value *stream = formula_argument(f, "stream", (ValueType){SCALAR_U32, 1});
    int lanes = f->type.lanes;
    Value *elements = value_splat(&f->b, low_word(f, element), lanes);
    Value *element_high = value_splat(&f->b, high_word(f, element), lanes);
    if (lanes > 1) {
        Value *base = named(f, "base", elements), *lane = value_convert(&f->b, value_lanes(&f->b, lanes), SCALAR_U32);
        if (apart) {
            Value *distance = formula_argument(f, "apart", (ValueType){SCALAR_U32, 1});
            lane = u32(f, OP_INTEGER_MULTIPLY, lane, value_splat(&f->b, distance, lanes));
        }
        elements = u32(f, OP_INTEGER_ADD, base, lane);
        elements = named(f, "elements", elements);
        Value *carry = choose(f, u32(f, OP_INTEGER_LESS, elements, base), word(f, 1), word(f, 0));
        element_high = u32(f, OP_INTEGER_ADD, element_high, carry);
    }
    Value *keyed = u32(f, OP_BITS_XOR, stream, folded(f, high_word(f, row), 0x9E3779B1));
    keyed = u32(f, OP_BITS_XOR, keyed, folded(f, high_word(f, step), 0xC2B2AE3D));
    keyed = u32(f, OP_BITS_XOR, value_splat(&f->b, keyed, lanes), folded(f, element_high, 0x85EBCA77));
    Value *key[2] = {named(f, "k", value_splat(&f->b, low_word(f, seed), lanes)),
                     named(f, "l", value_splat(&f->b, high_word(f, seed), lanes))};
    out[0] = named(f, "x", elements);
    out[1] = named(f, "y", value_splat(&f->b, low_word(f, row), lanes));
    out[2] = named(f, "z", value_splat(&f->b, low_word(f, step), lanes));
    out[3] = named(f, "w", keyed);
    rounds(f, out, key);
}

/* 24 bits as a float, exactly: I32 for the conversion, which every machine has. */
static Value *upper_bits(Formula *f, Value *drawn, int more) {
    Value *x = u32(f, OP_SHIFT_RIGHT, drawn, word(f, 8));
    if (more)
        x = u32(f, OP_INTEGER_ADD, x, word(f, (uint32_t)more));
    return value_convert(&f->b, value_bitcast(&f->b, x, SCALAR_I32), SCALAR_F32);
}

static MathFunction *existing(Module *module, const char *base, int lanes, bool apart, Name *name) {
    *name = name_of(lanes == 1 ? arena_printf(module->arena, "%s_f32", base)
                               : arena_printf(module->arena, "%s%s_f32x%d", base, apart ? "_apart" : "", lanes));
    for (int i = 0; i < module->maths.count; i++)
        if (module->maths.at[i]->name == *name)
            return module->maths.at[i];
    return NULL;
}

static MathFunction *uniform(Module *module, int lanes, bool apart) {
    Name name;
    MathFunction *made = existing(module, "uniform", lanes, apart, &name);
    if (made)
        return made;
    Formula f = formula_start(module, name, "Philox4x32-10; the upper 24 bits of the first word as a number in [0, 1)",
                              (ValueType){SCALAR_F32, lanes});
    Value *out[4];
    draw(&f, apart, out);
    return formula_end(&f, multiply(&f, upper_bits(&f, out[0], 0), number(&f, 0x1p-24)));
}

/* cos(2 pi turns), turns in [0, 1): the quarter turns come off exactly. */
static Value *cosine_of_turns(Formula *f, Value *quarters) {
    Value *q = named(f, "q", value_op(&f->b, OP_ROUND, quarters, NULL, NULL)); /* 0 … 4 */
    Value *r = named(f, "r", multiply(f, subtract(f, quarters, q), number(f, 0x1.921fb6p+0)));
    Value *z = named(f, "square", multiply(f, r, r));
    Value *quadrant = integer_op(f, OP_INTEGER_ADD, value_convert(&f->b, q, SCALAR_I32), bits(f, 1, 0));
    quadrant = named(f, "quadrant", quadrant);
    Value *even = integer_op(f, OP_INTEGER_EQUAL, integer_op(f, OP_BITS_AND, quadrant, bits(f, 1, 0)), bits(f, 0, 0));
    Value *size = choose(f, even, sine_near(f, r, z), cosine_near(f, z));
    Value *sign = shift(f, OP_SHIFT_LEFT, integer_op(f, OP_BITS_AND, quadrant, bits(f, 2, 0)), 30, 62);
    return float_of(f, integer_op(f, OP_BITS_XOR, bits_of(f, size), sign));
}

static MathFunction *normal(Module *module, int lanes, bool apart) {
    Name name;
    MathFunction *made = existing(module, "normal", lanes, apart, &name);
    if (made)
        return made;
    ValueType type = {SCALAR_F32, lanes};
    MathFunction *log = math_function(module, OP_LOG, type);
    Formula f = formula_start(module, name, "Philox4x32-10 and Box-Muller: sqrt(-2 log(u)) cos(2 pi v)", type);
    Value *out[4];
    draw(&f, apart, out);
    Value *u = multiply(&f, upper_bits(&f, out[0], 1), number(&f, 0x1p-24)); /* (0, 1] */
    Value *quarters = named(&f, "quarters", multiply(&f, upper_bits(&f, out[1], 0), number(&f, 0x1p-22)));
    Value *radius = multiply(&f, number(&f, -2), value_call(&f.b, log, &u, 1));
    radius = value_op(&f.b, OP_SQRT, radius, NULL, NULL);
    return formula_end(&f, multiply(&f, radius, cosine_of_turns(&f, quarters)));
}

MathFunction *math_uniform(Module *module, int lanes) {
    return uniform(module, lanes, false);
}

MathFunction *math_uniform_apart(Module *module, int lanes) {
    return uniform(module, lanes, true);
}

MathFunction *math_normal(Module *module, int lanes) {
    return normal(module, lanes, false);
}

MathFunction *math_normal_apart(Module *module, int lanes) {
    return normal(module, lanes, true);
}
