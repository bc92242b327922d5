/* Lanes: the vector types and the small functions on them that the kernels call, as text. gcc's vector extension, which
   clang has too, does the plain arithmetic; what it lacks (fma, square root, choosing by a mask) is a function here,
   with the machine's instruction where the compiler has a name for it and a loop over the lanes where not: the bits are
   the same. A truth value is an int, in lanes an int of all ones or zeros.

   A type of more than 16 bytes is one vector where the machine that the text is compiled for has such registers (BP_WIDE
   says how many bytes: 64 with AVX-512, 32 with AVX, else 16), and a pair of halves where not, so what is done with one
   is a call, never an operator; each such function has a body for every form that its types may take. */
#include "emit.h"

#include <string.h>

static const char *const c_scalars[] = {"float", "double", "int32_t", "uint32_t", "int64_t", "uint64_t", "int"};

static int bits_of(Scalar scalar) {
    return scalar == SCALAR_F64 || scalar == SCALAR_I64 || scalar == SCALAR_U64 ? 64 : 32;
}

static bool is_float(Scalar scalar) {
    return scalar == SCALAR_F32 || scalar == SCALAR_F64;
}

static bool is_signed(Scalar scalar) {
    return scalar == SCALAR_I32 || scalar == SCALAR_I64;
}

static bool same_type(ValueType x, ValueType y) {
    return x.scalar == y.scalar && x.lanes == y.lanes;
}

static int lane_bits(ValueType type) {
    return type.lanes * bits_of(type.scalar);
}

bool lane_paired(ValueType type) {
    return lane_bits(type) > 128;
}

/* The same inside the text of a body, which may be one for wider registers. */
static bool paired(const Lanes *lanes, ValueType type) {
    return lane_bits(type) > (lanes->width ? lanes->width : 128);
}

static ValueType half_of(ValueType type) {
    return (ValueType){type.scalar, type.lanes / 2};
}

/* "f32x8"; a truth value is i32x8 among lanes, bool alone. */
static const char *type_tag(const Lanes *lanes, ValueType type) {
    if (type.scalar == SCALAR_BOOL && type.lanes == 1)
        return "bool";
    static const char *const tags[] = {"f32", "f64", "i32", "u32", "i64", "u64", "i32"};
    const char *tag = tags[type.scalar];
    return type.lanes == 1 ? tag : arena_printf(lanes->arena, "%sx%d", tag, type.lanes);
}

/* True where it was known already. */
static bool note_known(Lanes *lanes, const char *name) {
    for (int i = 0; i < lanes->known.count; i++)
        if (strcmp(lanes->known.at[i], name) == 0)
            return true;
    *LIST_ADD(lanes->arena, &lanes->known) = name;
    return false;
}

const char *lane_type(Lanes *lanes, ValueType type) {
    if (type.lanes == 1)
        return c_scalars[type.scalar];
    const char **place = &lanes->types_by[type.scalar][type.lanes];
    if (*place)
        return *place;
    const char *tag = *place = type_tag(lanes, type);
    if (note_known(lanes, tag))
        return tag;
    const char *half = lane_paired(type) ? lane_type(lanes, half_of(type)) : NULL;
    bool either = lane_bits(type) == 512 || lane_bits(type) == 256;
    if (either)
        text_printf(&lanes->types, "#if BP_WIDE >= %d\n", lane_bits(type) / 8);
    if (lane_bits(type) <= 512)
        text_printf(&lanes->types, "typedef %s %s __attribute__((vector_size(%d)));\n",
                    c_scalars[type.scalar == SCALAR_BOOL ? SCALAR_I32 : type.scalar], tag, lane_bits(type) / 8);
    if (either)
        text_add(&lanes->types, "#else\n");
    if (half)
        text_printf(&lanes->types, "typedef struct {\n    %s low, high;\n} %s;\n", half, tag);
    if (either)
        text_add(&lanes->types, "#endif\n");
    return tag;
}

/* ---- How an op is spelled
 * --------------------------------------------------------------------------------------------- */

static const char *infix_of(int op, ValueType from) {
    bool scalar = from.lanes == 1;
    bool narrow =
        scalar || bits_of(from.scalar) == 32; /* a comparison of 64-bit lanes gives a mask of the wrong width */
    bool wraps = !is_signed(from.scalar);     /* C leaves signed overflow undefined */
    switch (op) {
    case OP_ADD:
    case OP_SUBTRACT:
    case OP_MULTIPLY:
    case OP_DIVIDE:
    case OP_BITS_AND:
    case OP_BITS_OR:
    case OP_BITS_XOR:
    case OP_SHIFT_RIGHT:
        return op_table[op].c;
    case OP_INTEGER_ADD:
    case OP_INTEGER_SUBTRACT:
    case OP_INTEGER_MULTIPLY:
    case OP_SHIFT_LEFT:
        return wraps ? op_table[op].c : NULL;
    case OP_INTEGER_DIVIDE:
    case OP_INTEGER_REMAINDER:
        return scalar ? op_table[op].c : NULL;
    case OP_LESS:
    case OP_LESS_EQUAL:
    case OP_EQUAL:
    case OP_NOT_EQUAL:
    case OP_INTEGER_EQUAL:
    case OP_INTEGER_LESS:
        return narrow ? op_table[op].c : NULL;
    case OP_AND:
        return scalar ? "&&" : "&";
    case OP_OR:
        return scalar ? "||" : "|";
    default:
        return NULL;
    }
}

/* What gcc and clang have a builtin for. */
static const char *scalar_builtin(int op, Scalar scalar) {
    bool single = scalar == SCALAR_F32;
    switch (op) {
    case OP_FMA:
        return single ? "__builtin_fmaf" : "__builtin_fma";
    case OP_SQRT:
        return single ? "__builtin_sqrtf" : "__builtin_sqrt";
    case OP_ABSOLUTE:
        return single ? "__builtin_fabsf" : "__builtin_fabs";
    case OP_FLOOR:
        return single ? "__builtin_floorf" : "__builtin_floor";
    case OP_ROUND:
        return single ? "__builtin_rintf" : "__builtin_rint";
    default:
        return NULL;
    }
}

static const char *lane_op_name(int op) {
    switch (op) {
    case LANE_SPLAT:
        return "splat";
    case LANE_LOAD:
        return "load";
    case LANE_STORE:
        return "store";
    case LANE_LOW:
        return "low";
    case LANE_HIGH:
        return "high";
    case LANE_JOIN:
        return "join";
    case LANE_TREE_SUM:
        return "tree_sum";
    case LANE_TREE_MAXIMUM:
        return "tree_max";
    case LANE_TREE_MINIMUM:
        return "tree_min";
    case LANE_AT:
        return "lane";
    case LANE_NUMBERS:
        return "lanes";
    case LANE_FINITE:
        return "finite";
    case LANE_KEEP:
        return "keep";
    case LANE_MAXIMUM_FIRST:
        return "max_number";
    case LANE_MINIMUM_FIRST:
        return "min_number";
    case LANE_MAXIMUM_SECOND:
        return "max_by_number";
    case LANE_MINIMUM_SECOND:
        return "min_by_number";
    default:
        return op_table[op].name;
    }
}

static void define_function(Lanes *lanes, const char *name, int op, ValueType to, ValueType from);

static const char *function_name(Lanes *lanes, int op, ValueType to, ValueType from) {
    const char *name;
    for (int i = 0; i < lanes->functions_by.count; i++) {
        const struct KnownFunction *known = &lanes->functions_by.at[i];
        if (known->op == op && same_type(known->to, to) && same_type(known->from, from))
            return known->name;
    }
    if (op == OP_BITCAST || op == OP_CONVERT || op == OP_REAL)
        name = arena_printf(lanes->arena, "bp_%s_%s_from_%s%s", op_table[op].name, type_tag(lanes, to),
                            type_tag(lanes, from), from.scalar == SCALAR_BOOL && from.lanes > 1 ? "_mask" : "");
    else
        name = arena_printf(lanes->arena, "bp_%s_%s", lane_op_name(op), type_tag(lanes, from));
    *LIST_ADD(lanes->arena, &lanes->functions_by) = (struct KnownFunction){op, to, from, name};
    if (!note_known(lanes, name))
        define_function(lanes, name, op, to, from);
    return name;
}

/* What gcc makes no single instruction of when it is written plainly: it takes conversions between registers of two widths
   apart, and with AVX-512 makes lanes of a comparison's mask from a register of ones that waits for what that register
   held. The builtin, or NULL. */
static const char *gcc_wide(const Lanes *lanes, int op, ValueType to, ValueType from) {
    static const struct {
        int width, op;
        Scalar to, from; /* BOOL as `to`: of a comparison */
        const char *call;
    } rows[] = {
        {256, OP_CONVERT, SCALAR_I64, SCALAR_I32, "__builtin_ia32_pmovsxdq256(a)"},
        {256, OP_CONVERT, SCALAR_F64, SCALAR_F32, "__builtin_ia32_cvtps2pd256(a)"},
        {256, OP_CONVERT, SCALAR_F64, SCALAR_I32, "__builtin_ia32_cvtdq2pd256(a)"},
        {256, OP_CONVERT, SCALAR_I32, SCALAR_I64,
         "__builtin_ia32_vextractf128_si256(__builtin_ia32_permvarsi256((words)a, (words){0, 2, 4, 6}), 0)"},
        {512, OP_CONVERT, SCALAR_I64, SCALAR_I32, "__builtin_ia32_pmovsxdq512_mask(a, (wide){0}, $c)"},
        {512, OP_CONVERT, SCALAR_F64, SCALAR_F32, "__builtin_ia32_cvtps2pd512_mask(a, ($T){0}, -1, 4)"},
        {512, OP_CONVERT, SCALAR_F64, SCALAR_I32, "__builtin_ia32_cvtdq2pd512_mask(a, ($T){0}, $c)"},
        {512, OP_CONVERT, SCALAR_I32, SCALAR_I64, "__builtin_ia32_pmovqd512_mask((wide)a, ($T){0}, $c)"},
        {512, OP_LESS, SCALAR_BOOL, SCALAR_F32, "__builtin_ia32_cmpps512_mask(a, b, 1, $c, 4)"},
        {512, OP_LESS_EQUAL, SCALAR_BOOL, SCALAR_F32, "__builtin_ia32_cmpps512_mask(a, b, 2, $c, 4)"},
        {512, OP_EQUAL, SCALAR_BOOL, SCALAR_F32, "__builtin_ia32_cmpps512_mask(a, b, 0, $c, 4)"},
        {512, OP_NOT_EQUAL, SCALAR_BOOL, SCALAR_F32, "__builtin_ia32_cmpps512_mask(a, b, 4, $c, 4)"},
        {512, OP_LESS, SCALAR_BOOL, SCALAR_F64, "__builtin_ia32_cmppd512_mask(a, b, 1, $c, 4)"},
        {512, OP_LESS_EQUAL, SCALAR_BOOL, SCALAR_F64, "__builtin_ia32_cmppd512_mask(a, b, 2, $c, 4)"},
        {512, OP_EQUAL, SCALAR_BOOL, SCALAR_F64, "__builtin_ia32_cmppd512_mask(a, b, 0, $c, 4)"},
        {512, OP_NOT_EQUAL, SCALAR_BOOL, SCALAR_F64, "__builtin_ia32_cmppd512_mask(a, b, 4, $c, 4)"},
        {512, OP_INTEGER_EQUAL, SCALAR_BOOL, SCALAR_I32, "__builtin_ia32_cmpd512_mask(a, b, 0, $c)"},
        {512, OP_INTEGER_LESS, SCALAR_BOOL, SCALAR_I32, "__builtin_ia32_cmpd512_mask(a, b, 1, $c)"},
        {512, OP_INTEGER_EQUAL, SCALAR_BOOL, SCALAR_U32, "__builtin_ia32_cmpd512_mask(($I)a, ($I)b, 0, $c)"},
        {512, OP_INTEGER_LESS, SCALAR_BOOL, SCALAR_U32, "__builtin_ia32_ucmpd512_mask(($I)a, ($I)b, 1, $c)"},
    };
    int widest = lane_bits(to) > lane_bits(from) ? lane_bits(to) : lane_bits(from);
    if (lanes->width != widest)
        return NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].width == widest && rows[i].op == op && rows[i].from == from.scalar &&
            (rows[i].to == SCALAR_BOOL || rows[i].to == to.scalar))
            return rows[i].call;
    return NULL;
}

/* What C or a builtin says in place; false where a function has to. */
static bool inline_form(Lanes *lanes, int op, ValueType to, ValueType from, Form *form) {
    bool in_pairs = paired(lanes, to) || paired(lanes, from), scalar = from.lanes == 1;
    if (gcc_wide(lanes, op, to, from))
        return false;
    if (!in_pairs && infix_of(op, from))
        return (*form = (Form){FORM_INFIX, infix_of(op, from)}), true;
    if (!in_pairs && op == OP_NEGATE && is_float(from.scalar))
        return (*form = (Form){FORM_PREFIX, "-"}), true;
    if (!in_pairs && op == OP_NOT)
        return (*form = (Form){FORM_PREFIX, scalar ? "!" : "~"}), true;
    if (op == OP_WHERE && scalar)
        return (*form = (Form){FORM_TERNARY, NULL}), true;
    if (scalar && scalar_builtin(op, from.scalar))
        return (*form = (Form){FORM_CALL, scalar_builtin(op, from.scalar)}), true;
    if ((op == OP_CONVERT || op == OP_REAL) && scalar)
        return (*form = (Form){FORM_CAST, lane_type(lanes, to)}), true;
    if ((op == OP_CONVERT || (op == OP_REAL && from.scalar != SCALAR_BOOL)) && !in_pairs)
        return (*form = (Form){FORM_CONVERT, lane_type(lanes, to)}), true;
    if (op == OP_BITCAST && !scalar && !in_pairs)
        return (*form = (Form){FORM_CAST, lane_type(lanes, to)}), true;
    return false;
}

Form lane_form(Lanes *lanes, int op, ValueType to, ValueType from) {
    Form form;
    return inline_form(lanes, op, to, from, &form) ? form : (Form){FORM_CALL, function_name(lanes, op, to, from)};
}

/* ---- The functions' text
 * ------------------------------------------------------------------------------------------------ */

/* `$T` type of the result, `$A` of the argument, `$S` its scalar, `$I` `$U` its bits as signed and unsigned integers,
   `$W` the lanes by twos as unsigned integers of 64 bits, `$M` a mask, `$H` half the result, `$N` lanes, `$p` and `$q` the ending of an
   x86 builtin with and without its width, `$c` and `$g` the mask of all lanes as clang and gcc like its type. */
static void add_template(Lanes *lanes, Text *out, const char *template, ValueType to, ValueType from) {
    Scalar wide_bits = bits_of(from.scalar) == 64 ? SCALAR_I64 : SCALAR_I32;
    for (const char *at = template; *at; at++) {
        if (*at != '$') {
            text_add_bytes(out, at, 1);
            continue;
        }
        switch (*++at) {
        case 'T':
            text_add(out, lane_type(lanes, to));
            break;
        case 'A':
            text_add(out, lane_type(lanes, from));
            break;
        case 'S':
            text_add(out, c_scalars[from.scalar]);
            break;
        case 'I':
            text_add(out, lane_type(lanes, (ValueType){wide_bits, from.lanes}));
            break;
        case 'U':
            text_add(out, lane_type(lanes, (ValueType){(Scalar)(wide_bits + 1), from.lanes}));
            break;
        case 'W':
            text_add(out, lane_type(lanes, (ValueType){SCALAR_U64, from.lanes / 2}));
            break;
        case 'M':
            text_add(out, lane_type(lanes, (ValueType){SCALAR_BOOL, from.lanes}));
            break;
        case 'H':
            text_add(out, lane_type(lanes, half_of(from)));
            break;
        case 'N':
            text_printf(out, "%d", from.lanes);
            break;
        case 'c':
            text_add(out, from.lanes == 16 ? "0xFFFF" : "0xFF");
            break;
        case 'g':
            text_add(out, from.lanes == 16 ? "-1" : "0xFF");
            break;
        case 'q':
            text_add(out, from.scalar == SCALAR_F64 ? "pd" : "ps");
            break;
        case 'p':
            text_add(out, from.scalar == SCALAR_F64 ? "pd" : "ps");
            text_add(out, lane_bits(from) == 512 ? "512" : lane_bits(from) == 256 ? "256" : "");
            break;
        default:
            BUG("no such mark in a template: $%c", *at);
        }
    }
}

/* The types of the arguments; how many. */
static int arguments_of(int op, ValueType to, ValueType from, ValueType arguments[3]) {
    for (int i = 0; i < 3; i++)
        arguments[i] = from;
    switch (op) {
    case OP_WHERE:
        arguments[0].scalar = SCALAR_BOOL;
        return 3;
    case LANE_SPLAT:
        arguments[0].lanes = 1;
        return 1;
    case LANE_JOIN:
        arguments[0] = arguments[1] = half_of(to);
        return 2;
    case LANE_LOW:
    case LANE_HIGH:
    case LANE_TREE_SUM:
    case LANE_TREE_MAXIMUM:
    case LANE_TREE_MINIMUM:
    case LANE_FINITE:
    case LANE_KEEP:
        return 1;
    case LANE_AT:
        arguments[1] = (ValueType){SCALAR_BOOL, 1};
        return 2;
    case LANE_NUMBERS:
    case LANE_LOAD: /* these two are written as they are */
    case LANE_STORE:
        return 0;
    case LANE_MAXIMUM_FIRST:
    case LANE_MINIMUM_FIRST:
    case LANE_MAXIMUM_SECOND:
    case LANE_MINIMUM_SECOND:
        return 2;
    default:
        return op_table[op].arity;
    }
}

/* An op applied to arguments that need no parentheses. */
static const char *apply(Lanes *lanes, int op, ValueType to, ValueType from, const char *const a[3]) {
    Form form = lane_form(lanes, op, to, from);
    ValueType ignored[3];
    int count = arguments_of(op, to, from, ignored);
    switch (form.kind) {
    case FORM_INFIX:
        return arena_printf(lanes->arena, "%s %s %s", a[0], form.text, a[1]);
    case FORM_PREFIX:
        return arena_printf(lanes->arena, "%s%s", form.text, a[0]);
    case FORM_CAST:
        return arena_printf(lanes->arena, "(%s)%s", form.text, a[0]);
    case FORM_CONVERT:
        return arena_printf(lanes->arena, "__builtin_convertvector(%s, %s)", a[0], form.text);
    case FORM_TERNARY:
        return arena_printf(lanes->arena, "%s ? %s : %s", a[0], a[1], a[2]);
    case FORM_CALL:
        break;
    }
    return count == 1   ? arena_printf(lanes->arena, "%s(%s)", form.text, a[0])
           : count == 2 ? arena_printf(lanes->arena, "%s(%s, %s)", form.text, a[0], a[1])
                        : arena_printf(lanes->arena, "%s(%s, %s, %s)", form.text, a[0], a[1], a[2]);
}

static const char *half_text(Lanes *lanes, ValueType type, const char *name, bool high) {
    if (paired(lanes, type))
        return arena_printf(lanes->arena, "%s.%s", name, high ? "high" : "low");
    return apply(lanes, high ? LANE_HIGH : LANE_LOW, half_of(type), type, (const char *const[3]){name});
}

static const char *const argument_names[3] = {"a", "b", "c"};

/* By halves: where an argument or the result is a pair. */
static void define_by_halves(Lanes *lanes, Text *out, int op, ValueType to, ValueType from) {
    ValueType types[3];
    int count = arguments_of(op, to, from, types);
    const char *halves[2];
    for (int high = 0; high < 2; high++) {
        const char *arguments[3] = {0};
        for (int i = 0; i < count; i++)
            arguments[i] =
                types[i].lanes == 1 ? argument_names[i] : half_text(lanes, types[i], argument_names[i], high);
        halves[high] = apply(lanes, op, half_of(to), half_of(from), arguments);
    }
    if (paired(lanes, to))
        text_printf(out, "    return (%s){%s, %s};\n", lane_type(lanes, to), halves[0], halves[1]);
    else
        text_printf(out, "    return %s;\n",
                    apply(lanes, LANE_JOIN, to, to, (const char *const[3]){halves[0], halves[1]}));
}

static const char load_text[] = "    $A a;\n    __builtin_memcpy(&a, at, sizeof a);\n    return a;\n";
static const char store_text[] = "    __builtin_memcpy(at, &a, sizeof a);\n";
static const char finite_text[] = "    $U bits;\n    __builtin_memcpy(&bits, &a, sizeof bits);\n    return ";

static void define_memory(Lanes *lanes, Text *out, int op, ValueType type) {
    if (!paired(lanes, type)) {
        add_template(lanes, out, op == LANE_LOAD ? load_text : store_text, type, type);
        return;
    }
    const char *half = function_name(lanes, op, half_of(type), half_of(type));
    if (op == LANE_LOAD)
        text_printf(out, "    return (%s){%s(at), %s(at + %d)};\n", type_tag(lanes, type), half, half, type.lanes / 2);
    else
        text_printf(out, "    %s(at, a.low);\n    %s(at + %d, a.high);\n", half, half, type.lanes / 2);
}

static void define_half(Lanes *lanes, Text *out, int op, ValueType from) {
    if (paired(lanes, from)) {
        text_printf(out, "    return a.%s;\n", op == LANE_HIGH ? "high" : "low");
        return;
    }
    Text list = {0};
    int half = from.lanes / 2;
    for (int i = 0; i < half; i++)
        text_printf(&list, ", %d", op == LANE_HIGH ? half + i : i);
    text_printf(out, "#if __has_builtin(__builtin_shufflevector)\n    return __builtin_shufflevector(a, a%s);\n#else\n",
                list.at);
    add_template(lanes, out, "    $H half;\n", from, from);
    text_printf(out, "    for (int i = 0; i < %d; i++)\n        half[i] = a[i%s];\n    return half;\n#endif\n", half,
                op == LANE_HIGH ? arena_printf(lanes->arena, " + %d", half) : "");
    text_free(&list);
}

static void define_join(Lanes *lanes, Text *out, ValueType to) {
    if (paired(lanes, to)) {
        add_template(lanes, out, "    return ($T){a, b};\n", to, to);
        return;
    }
    Text list = {0};
    for (int i = 0; i < to.lanes; i++)
        text_printf(&list, ", %d", i);
    text_printf(out, "#if __has_builtin(__builtin_shufflevector)\n    return __builtin_shufflevector(a, b%s);\n#else\n",
                list.at);
    add_template(lanes, out, "    $T whole;\n", to, to);
    text_printf(out, "    for (int i = 0; i < %d; i++)\n        whole[i] = a[i], whole[i + %d] = b[i];\n", to.lanes / 2,
                to.lanes / 2);
    text_add(out, "    return whole;\n#endif\n");
    text_free(&list);
}

int lane_tree(Op op) {
    return op == OP_ADD ? LANE_TREE_SUM : op == OP_MAXIMUM ? LANE_TREE_MAXIMUM : LANE_TREE_MINIMUM;
}

/* Halves are joined until four lanes are left, then by hand: lane i to lane i + half. */
static void define_tree(Lanes *lanes, Text *out, int op, ValueType from) {
    int add = op == LANE_TREE_MAXIMUM ? OP_MAXIMUM : op == LANE_TREE_MINIMUM ? OP_MINIMUM : OP_ADD;
    ValueType half = half_of(from), one = {from.scalar, 1};
    if (from.lanes > 4) {
        const char *const halves[3] = {half_text(lanes, from, "a", false), half_text(lanes, from, "a", true)};
        const char *const sum[3] = {apply(lanes, add, half, half, halves)};
        text_printf(out, "    return %s;\n", apply(lanes, op, one, half, sum));
        return;
    }
    bool pair = paired(lanes, from);
    const char *const even[3] = {pair ? "a.low[0]" : "a[0]", pair ? "a.high[0]" : "a[2]"};
    const char *const odd[3] = {pair ? "a.low[1]" : "a[1]", pair ? "a.high[1]" : "a[3]"};
    const char *first = apply(lanes, add, one, one, even), *second = apply(lanes, add, one, one, odd);
    const char *const sums[3] = {arena_printf(lanes->arena, "(%s)", first), arena_printf(lanes->arena, "(%s)", second)};
    text_printf(out, "    return %s;\n", apply(lanes, add, one, one, sums));
}

/* The machine's instruction where clang or the target has one, else lane by lane. */
static void define_builtin(Lanes *lanes, Text *out, int op, ValueType type) {
    static const struct {
        int op;
        const char *clang, *target, *target_16;   /* what defines it for 32 bytes and for 16 */
        const char *call, *clang_wide, *gcc_wide; /* wide: 64 bytes, rounding to nearest (4) */
    } rows[] = {
        {OP_FMA, "__builtin_elementwise_fma(a, b, c)", "__FMA__", "__FMA__", "__builtin_ia32_vfmadd$p(a, b, c)",
         "__builtin_ia32_vfmadd$p_mask(a, b, c, $c, 4)", "__builtin_ia32_vfmadd$p_mask(a, b, c, $g, 4)"},
        {OP_SQRT, "__builtin_elementwise_sqrt(a)", "__AVX__", "__SSE2__", "__builtin_ia32_sqrt$p(a)",
         "__builtin_ia32_sqrt$p(a, 4)", "__builtin_ia32_sqrt$p_mask(a, a, -1, 4)"},
        {OP_FLOOR, "__builtin_elementwise_floor(a)", "__AVX__", "__SSE4_1__", "__builtin_ia32_round$p(a, 9)",
         "__builtin_ia32_rndscale$q_mask(a, 9, a, $c, 4)", "__builtin_ia32_rndscale$q_mask(a, 9, a, -1, 4)"},
        {OP_ROUND, "__builtin_elementwise_rint(a)", "__AVX__", "__SSE4_1__", "__builtin_ia32_round$p(a, 8)",
         "__builtin_ia32_rndscale$q_mask(a, 8, a, $c, 4)", "__builtin_ia32_rndscale$q_mask(a, 8, a, -1, 4)"},
    };
    size_t row = 0;
    while (row < sizeof rows / sizeof *rows && rows[row].op != op)
        row++;
    if (row == sizeof rows / sizeof *rows)
        BUG("no function on lanes for %s", lane_op_name(op));
    if (lane_bits(type) == 512) {
        text_printf(
            out, "#if defined(__clang__) && __has_builtin(%.*s)\n    return %s;\n#elif defined(__clang__)\n    return ",
            (int)strcspn(rows[row].clang, "("), rows[row].clang, rows[row].clang);
        add_template(lanes, out, rows[row].clang_wide, type, type);
        text_add(out, ";\n#else\n    return ");
        add_template(lanes, out, rows[row].gcc_wide, type, type);
        text_add(out, ";\n#endif\n");
        return;
    }
    text_printf(out, "#if defined(__clang__) && __has_builtin(%.*s)\n    return %s;\n#elif defined(%s)\n    return ",
                (int)strcspn(rows[row].clang, "("), rows[row].clang, rows[row].clang,
                lane_bits(type) == 128 ? rows[row].target_16 : rows[row].target);
    add_template(lanes, out, rows[row].call, type, type);
    add_template(lanes, out, ";\n#else\n    $A r = a;\n    for (int i = 0; i < $N; i++)\n        r[i] = ", type, type);
    text_printf(out, "%s(a[i]%s);\n    return r;\n#endif\n", scalar_builtin(op, type.scalar),
                op == OP_FMA ? ", b[i], c[i]" : "");
}

static void define_where(Lanes *lanes, Text *out, ValueType type) {
    bool wide = bits_of(type.scalar) == 64;
    if (wide && lane_bits(type) == 512 && is_float(type.scalar)) {
        add_template(lanes, out, "#if !defined(__clang__)\n", type, type);
        text_add(out, "    return __builtin_ia32_blendmpd_512_mask(c, b, __builtin_ia32_cvtd2mask256(a));\n#else\n");
    }
    if (wide) {
        const ValueType bits = {SCALAR_I64, type.lanes}, half_bits = {SCALAR_I32, type.lanes};
        add_template(lanes, out, "    const $I mask = ", type, type);
        text_printf(out, "%s;\n", apply(lanes, OP_CONVERT, bits, half_bits, argument_names));
    }
    const char *mask = wide ? "mask" : "a";
    bool blend = is_float(type.scalar) && lane_bits(type) < 512;
    if (blend) {
        text_printf(out, "#if !defined(__clang__) && defined(%s)\n", lane_bits(type) == 128 ? "__SSE4_1__" : "__AVX__");
        add_template(lanes, out, "    return __builtin_ia32_blendv$p(c, b, ($A)", type, type);
        text_printf(out, "%s);\n#else\n", mask);
    }
    add_template(lanes, out, "    return ($T)((", type, type);
    text_printf(out, "%s & ", mask);
    add_template(lanes, out, "($I)b) | (~", type, type);
    text_printf(out, "%s & ", mask);
    add_template(lanes, out, "($I)c));\n", type, type);
    if (blend || (wide && lane_bits(type) == 512 && is_float(type.scalar)))
        text_add(out, "#endif\n");
}

/* a > b || a != a ? a : b, with less to do where one of them is known not to be NaN. */
static const char *extreme(Lanes *lanes, int op, ValueType type) {
    bool greatest = op == OP_MAXIMUM || op == LANE_MAXIMUM_FIRST || op == LANE_MAXIMUM_SECOND;
    ValueType mask = {SCALAR_BOOL, type.lanes};
    const char *const plain[3] = {"a", "b"}, *const swapped[3] = {"b", "a"}, *const self[3] = {"a", "a"};
    const char *const *beyond = greatest ? swapped : plain, *const *within = greatest ? plain : swapped;
    const char *chosen[3] = {NULL, "a", "b"};
    if (op == LANE_MAXIMUM_FIRST || op == LANE_MINIMUM_FIRST) {
        chosen[0] = apply(lanes, OP_LESS, mask, type, beyond);
    } else if (op == LANE_MAXIMUM_SECOND || op == LANE_MINIMUM_SECOND) {
        const char *unless = arena_printf(lanes->arena, "(%s)", apply(lanes, OP_LESS_EQUAL, mask, type, within));
        chosen[0] = apply(lanes, OP_NOT, mask, mask, (const char *const[3]){unless});
    } else {
        chosen[0] = apply(lanes, OP_NOT_EQUAL, mask, type, self);
        chosen[2] = apply(lanes, greatest ? LANE_MAXIMUM_FIRST : LANE_MINIMUM_FIRST, type, type, plain);
    }
    return apply(lanes, OP_WHERE, type, type, chosen);
}

/* The same in four lanes. */
static const char *extreme_in_lanes(Lanes *lanes, int op) {
    ValueType four = {SCALAR_F32, 4};
    const char *const a[3] = {"a"}, *const b[3] = {"b"};
    const char *const both[3] = {apply(lanes, LANE_SPLAT, four, four, a), apply(lanes, LANE_SPLAT, four, four, b)};
    return apply(lanes, op, four, four, both);
}

static void define_extreme(Lanes *lanes, Text *out, int op, ValueType type) {
    bool first = op == LANE_MAXIMUM_FIRST || op == LANE_MINIMUM_FIRST, known = op != OP_MAXIMUM && op != OP_MINIMUM;
    bool instruction = type.lanes > 1 && first, single = type.lanes == 1 && type.scalar == SCALAR_F32 && !known;
    if (instruction) { /* x86's own max and min give b where a > b does not hold */
        text_printf(out, "#if !defined(__clang__) && defined(%s)\n    return __builtin_ia32_",
                    lane_bits(type) == 128 ? "__SSE2__" : "__AVX__");
        text_add(out, op == LANE_MAXIMUM_FIRST ? "max" : "min");
        add_template(lanes, out, lane_bits(type) == 512 ? "$p_mask(a, b, a, $g, 4);\n#else\n" : "$p(a, b);\n#else\n",
                     type, type);
    }
    if (single) /* which gcc chooses by branching or in integer registers, but lanes with one instruction */
        text_printf(out, "#if !defined(__clang__) && defined(__SSE4_1__)\n    return %s[0];\n#else\n",
                    extreme_in_lanes(lanes, op));
    text_printf(out, "    return %s;\n", extreme(lanes, op, type));
    if (instruction || single)
        text_add(out, "#endif\n");
}

/* sign(-0) is 0 and sign(NaN) is NaN: both are a - a. */
static void define_sign(Lanes *lanes, Text *out, ValueType type) {
    if (type.lanes == 1) {
        add_template(lanes, out, "    return a > 0 ? ($T)1 : a < 0 ? ($T)-1 : a - a;\n", type, type);
        return;
    }
    ValueType mask = {SCALAR_BOOL, type.lanes}, one = {type.scalar, 1};
    const char *splat = lane_form(lanes, LANE_SPLAT, type, type).text;
    const char *zero = arena_printf(lanes->arena, "%s(0)", splat);
    const char *below = apply(lanes, OP_LESS, mask, type, (const char *const[3]){"a", zero});
    const char *above = apply(lanes, OP_LESS, mask, type, (const char *const[3]){zero, "a"});
    const char *const inner[3] = {below, arena_printf(lanes->arena, "%s((%s)-1)", splat, lane_type(lanes, one)),
                                  "a - a"};
    const char *const outer[3] = {above, arena_printf(lanes->arena, "%s(1)", splat),
                                  apply(lanes, OP_WHERE, type, type, inner)};
    text_printf(out, "    return %s;\n", apply(lanes, OP_WHERE, type, type, outer));
}

/* int64_t is long, which gcc's builtins take for another type. */
static const char wide_type[] = "    typedef long long wide __attribute__((vector_size(64)));\n";

/* The high half of a product of 32 bits by 32: even and odd lanes apart, as x86 multiplies them. */
static void define_multiply_high(Lanes *lanes, Text *out, ValueType type) {
    if (type.lanes == 1) {
        text_add(out, "    return (uint32_t)((uint64_t)a * b >> 32);\n");
        return;
    }
    const char *call = lane_bits(type) == 512   ? "__builtin_ia32_pmuludq512_mask(($I)%s, ($I)%s, (wide){0}, 0xFF)"
                       : lane_bits(type) == 256 ? "__builtin_ia32_pmuludq256(($I)%s, ($I)%s)"
                                                : "__builtin_ia32_pmuludq128(($I)%s, ($I)%s)";
    text_printf(out, "#if !defined(__clang__) && defined(%s)\n", lane_bits(type) == 128 ? "__SSE2__" : "__AVX2__");
    if (lane_bits(type) == 512)
        text_add(out, wide_type);
    add_template(lanes, out, "    const $W even = ($W)", type, type);
    add_template(lanes, out, arena_printf(lanes->arena, call, "a", "b"), type, type);
    add_template(lanes, out, ";\n    const $W odd = ($W)", type, type);
    add_template(lanes, out, arena_printf(lanes->arena, call, "(($W)a >> 32)", "(($W)b >> 32)"), type, type);
    add_template(
        lanes, out,
        ";\n    return ($T)(even >> 32 | odd >> 32 << 32);\n#elif defined(__SSE2__)\n"
        "    const $W even = (($W)a & 0xFFFFFFFF) * (($W)b & 0xFFFFFFFF), odd = (($W)a >> 32) * (($W)b >> 32);\n"
        "    return ($T)(even >> 32 | odd >> 32 << 32);\n#else\n"
        "    $T r = a;\n    for (int i = 0; i < $N; i++)\n"
        "        r[i] = (uint32_t)((uint64_t)a[i] * b[i] >> 32);\n    return r;\n#endif\n",
        type, type);
}

static void define_zip(Text *out, bool high) {
    const char *order = high ? "2, 6, 3, 7" : "0, 4, 1, 5";
    text_printf(out,
                "#if __has_builtin(__builtin_shufflevector)\n    return __builtin_shufflevector(a, b, %s);\n#else\n",
                order);
    text_printf(out, "    return __builtin_shuffle(a, b, (__typeof__(a < b)){%s});\n#endif\n", order);
}

static void define_splat(Lanes *lanes, Text *out, ValueType type) {
    add_template(lanes, out, "    return ($T){a", type, type);
    for (int i = 1; i < type.lanes; i++)
        text_add(out, ", a");
    text_add(out, "};\n");
}

/* One lane, its number a constant where the call stands. */
static void define_lane(Lanes *lanes, Text *out, ValueType from) {
    int half = from.lanes / 2;
    if (!paired(lanes, from)) {
        text_add(out, "    return a[b];\n");
        return;
    }
    const char *const low[3] = {"a.low", "b"}, *const high[3] = {"a.high", arena_printf(lanes->arena, "b - %d", half)};
    ValueType one = {from.scalar, 1};
    text_printf(out, "    return b < %d ? %s : %s;\n", half, apply(lanes, LANE_AT, one, half_of(from), low),
                apply(lanes, LANE_AT, one, half_of(from), high));
}

static void add_lane_numbers(const Lanes *lanes, Text *out, ValueType type, int first) {
    text_add(out, "{");
    for (int i = 0; i < type.lanes; i++) {
        if (!paired(lanes, type))
            text_printf(out, "%s%d", i ? ", " : "", first + i);
        else if (i % (type.lanes / 2) == 0) {
            text_add(out, i ? ", " : "");
            add_lane_numbers(lanes, out, half_of(type), first + i);
        }
    }
    text_add(out, "}");
}

static void define_gcc_wide(Lanes *lanes, Text *out, const char *call, int op, ValueType to, ValueType from) {
    text_add(out, "#if defined(__clang__)");
    text_add(out, lanes->width == 256 ? " || !defined(__AVX2__)\n    return " : "\n    return ");
    if (op == OP_CONVERT)
        add_template(lanes, out, "__builtin_convertvector(a, $T);\n", to, from);
    else if (bits_of(from.scalar) == 32)
        text_printf(out, "a %s b;\n", op_table[op].c);
    else
        add_template(lanes, out, arena_printf(lanes->arena, "__builtin_convertvector(a %s b, $M);\n", op_table[op].c),
                     to, from);
    text_add(out, "#else\n");
    if (strstr(call, "(wide)"))
        text_add(out, wide_type);
    if (strstr(call, "(words)"))
        text_add(out, "    typedef int words __attribute__((vector_size(32)));\n");
    add_template(lanes, out, "    return ($T)", to, from);
    if (op != OP_CONVERT)
        text_printf(out, "__builtin_ia32_cvtmask2d%d(", lane_bits(to));
    add_template(lanes, out, call, to, from);
    text_printf(out, "%s;\n#endif\n", op == OP_CONVERT ? "" : ")");
}

static void define_form(Lanes *lanes, Text *out, int op, ValueType to, ValueType from) {
    bool in_pairs = paired(lanes, to) || paired(lanes, from);
    bool own = op >= LANE_LOAD && op <= LANE_NUMBERS;
    if (in_pairs && !own) {
        define_by_halves(lanes, out, op, to, from);
        return;
    }
    const char *call = gcc_wide(lanes, op, to, from);
    if (call) {
        define_gcc_wide(lanes, out, call, op, to, from);
        return;
    }
    Form form;
    if (!own && inline_form(lanes, op, to, from, &form)) { /* a call for the sake of the pair */
        text_printf(out, "    return %s;\n", apply(lanes, op, to, from, argument_names));
        return;
    }
    switch (op) {
    case LANE_LOAD:
    case LANE_STORE:
        define_memory(lanes, out, op, from);
        break;
    case LANE_AT:
        define_lane(lanes, out, from);
        break;
    case LANE_NUMBERS:
        text_printf(out, "    return (%s)", lane_type(lanes, to));
        add_lane_numbers(lanes, out, to, 0);
        text_add(out, ";\n");
        break;
    case LANE_SPLAT:
        define_splat(lanes, out, to);
        break;
    case LANE_LOW:
    case LANE_HIGH:
        define_half(lanes, out, op, from);
        break;
    case LANE_JOIN:
        define_join(lanes, out, to);
        break;
    case LANE_TREE_SUM:
    case LANE_TREE_MAXIMUM:
    case LANE_TREE_MINIMUM:
        define_tree(lanes, out, op, from);
        break;
    case OP_ZIP_LOW:
    case OP_ZIP_HIGH:
        define_zip(out, op == OP_ZIP_HIGH);
        break;
    case LANE_FINITE:
        add_template(lanes, out, finite_text, to, from);
        text_add(out,
                 from.scalar == SCALAR_F64 ? "(bits >> 52 & 0x7FF) != 0x7FF;\n" : "(bits >> 23 & 0xFF) != 0xFF;\n");
        break;
    case LANE_KEEP:
        text_add(out, "    BP_KEEP(a);\n    return a;\n");
        break;
    case OP_MAXIMUM:
    case OP_MINIMUM:
    case LANE_MAXIMUM_FIRST:
    case LANE_MINIMUM_FIRST:
    case LANE_MAXIMUM_SECOND:
    case LANE_MINIMUM_SECOND:
        define_extreme(lanes, out, op, from);
        break;
    case OP_SIGN:
        define_sign(lanes, out, from);
        break;
    case OP_WHERE:
        define_where(lanes, out, from);
        break;
    case OP_MULTIPLY_HIGH:
        define_multiply_high(lanes, out, from);
        break;
    case OP_ABSOLUTE:
        add_template(lanes, out, "    return ($T)(($U)a << 1 >> 1);\n", to, from);
        break;
    case OP_REAL: /* a mask is 0 or -1 */
        add_template(lanes, out, "    return __builtin_convertvector(-a, $T);\n", to, from);
        break;
    case OP_BITCAST:
        add_template(lanes, out, "    $T b;\n    __builtin_memcpy(&b, &a, sizeof b);\n    return b;\n", to, from);
        break;
    case OP_INTEGER_ADD:
    case OP_INTEGER_SUBTRACT:
    case OP_INTEGER_MULTIPLY:
    case OP_SHIFT_LEFT: /* signed overflow is undefined in C: unsigned wraps */
        add_template(lanes, out, "    return ($T)(($U)a ", to, from);
        text_add(out, op_table[op].c);
        add_template(lanes, out, " ($U)b);\n", to, from);
        break;
    case OP_INTEGER_MINIMUM:
        text_add(out, "    return a < b ? a : b;\n");
        break;
    case OP_LESS:
    case OP_LESS_EQUAL:
    case OP_EQUAL:
    case OP_NOT_EQUAL:
    case OP_INTEGER_EQUAL:
    case OP_INTEGER_LESS: /* 64-bit lanes */
        text_printf(out, "    return __builtin_convertvector(a %s b, ", op_table[op].c);
        add_template(lanes, out, "$M);\n", to, from);
        break;
    default:
        define_builtin(lanes, out, op, from);
    }
}

/* Once for each form that its types may take. */
static void define_body(Lanes *lanes, Text *out, int op, ValueType to, ValueType from) {
    ValueType types[5];
    int count = arguments_of(op, to, from, types);
    types[count++] = to, types[count++] = from;
    bool has[2] = {false,
                   op == LANE_NUMBERS && lane_bits(to) > 256}; /* 64 bytes, 32; the braces of a constant differ */
    for (int i = 0; i < count; i++) {
        has[0] |= lane_bits(types[i]) == 512;
        has[1] |= lane_bits(types[i]) == 256;
    }
    bool any = false;
    for (int i = 0; i < 2; i++) {
        if (!has[i])
            continue;
        lanes->width = i == 0 ? 512 : 256;
        text_printf(out, "#%s BP_WIDE >= %d\n", any ? "elif" : "if", lanes->width / 8);
        define_form(lanes, out, op, to, from);
        any = true;
    }
    lanes->width = 0;
    if (any)
        text_add(out, "#else\n");
    define_form(lanes, out, op, to, from);
    if (any)
        text_add(out, "#endif\n");
}

static void define_head(Lanes *lanes, Text *out, const char *name, int op, ValueType to, ValueType from) {
    ValueType types[3];
    int count = arguments_of(op, to, from, types);
    if (op == LANE_LOAD || op == LANE_STORE) {
        add_template(lanes, out, op == LANE_LOAD ? "BP_LANES $A " : "BP_LANES void ", from, from);
        text_add(out, name);
        add_template(lanes, out, op == LANE_LOAD ? "(const $S *at) {\n" : "($S *at, $A a) {\n", from, from);
        return;
    }
    text_printf(out, "BP_LANES %s %s(%s", lane_type(lanes, to), name, count ? "" : "void");
    for (int i = 0; i < count; i++)
        text_printf(out, "%s%s %s", i ? ", " : "", lane_type(lanes, types[i]), argument_names[i]);
    text_add(out, ") {\n");
}

static void define_function(Lanes *lanes, const char *name, int op, ValueType to, ValueType from) {
    Text out = {0}; /* apart, because the body may call for others that must stand before it */
    int width = lanes->width;
    lanes->width = 0;
    define_head(lanes, &out, name, op, to, from);
    define_body(lanes, &out, op, to, from);
    text_add(&out, "}\n");
    lanes->width = width;
    text_add(&lanes->functions, out.at);
    text_free(&out);
}
