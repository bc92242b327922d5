/* A tree of mathematics in a style: the order of things and the parentheses, the same for all styles. */
#include "mathematics.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINDS_NOTHING, BINDS_RELATION, BINDS_SUM, BINDS_PRODUCT, BINDS_FACTOR };

typedef struct Writer {
    const MathStyle *style;
    const Fold *fold;
    Text *out;
    const char *element; /* of a vector in a sum over its elements: k; NULL: the whole */
    int sums;            /* around what is written */
} Writer;

static void write(Writer w, const Math *x, int binds);

/* ---- indices and numbers ----------------------------------------------------------------------------------------- */

int index_number(const char *index, int64_t *number) {
    size_t at = 0;
    while (index[at] && !isdigit((unsigned char)index[at]))
        at++;
    if (!index[at] || (at == 0 && strchr(index, '.')))
        return INDEX_PLAIN;
    char *end;
    *number = strtoll(index + at, &end, 10);
    bool whole = *end == 0 || *end == '.' || index[at - 1] != '.';
    return whole && *number < 1000000 ? (int)at : INDEX_PLAIN;
}

static void counted(int64_t by, bool alone, Text *out) {
    text_add(out, "i");
    if (by)
        text_printf(out, alone ? "%s%lld" : " %s %lld",
                    by > 0  ? "+"
                    : alone ? "-"
                            : "−",
                    (long long)(by < 0 ? -by : by));
}

/* "body.3.fc1" as body[3].fc1 */
void index_text(const char *index, const Fold *fold, Text *out) {
    size_t length = fold && fold->prefix ? strlen(fold->prefix) : 0;
    const char *rest = index;
    if (fold && fold->prefix && !length && isdigit((unsigned char)index[0]) && !strchr(index, '.')) {
        counted(strtoll(index, NULL, 10) - fold->number, true, out);
        return;
    }
    if (length && !strncmp(index, fold->prefix, length) && isdigit((unsigned char)index[length])) {
        char *end;
        int64_t number = strtoll(index + length, &end, 10);
        text_add_bytes(out, index, fold->prefix[length - 1] == '.' ? length - 1 : length);
        text_add(out, "[");
        counted(number - fold->number, false, out);
        text_add(out, "]");
        rest = end;
    }
    while (*rest) {
        bool number = rest[0] == '.' && isdigit((unsigned char)rest[1]);
        text_add(out, number ? "[" : "");
        if (!number) {
            text_add_bytes(out, rest++, 1);
            continue;
        }
        for (rest++; isdigit((unsigned char)*rest); rest++)
            text_add_bytes(out, rest, 1);
        text_add(out, "]");
    }
}

void number_write(const MathStyle *style, double number, int digits, Text *out) {
    char plain[64];
    Text shortest = {0};
    if (signbit(number) && number != 0)
        style->sign(out, "−");
    number = fabs(number);
    if (!isfinite(number)) {
        style->word(out, isnan(number) ? "nan" : "∞");
        return;
    }
    if (digits && number != 0) {
        snprintf(plain, sizeof plain, "%#.*g", digits, number);
        size_t length = strlen(plain);
        if (plain[length - 1] == '.') /* one digit, or as many as stand before the point */
            plain[length - 1] = 0;
    } else {
        snprintf(plain, sizeof plain, "%.14g", number); /* 1 - 0.9, folded while compiling, is 0.1 */
        text_number(&shortest, strtod(plain, NULL));
        snprintf(plain, sizeof plain, "%s", shortest.at);
        text_free(&shortest);
    }
    char *exponent = strchr(plain, 'e'), tens[24];
    if (!exponent || (style->linear && digits)) {
        style->number(out, plain, NULL);
        return;
    }
    *exponent = 0;
    snprintf(tens, sizeof tens, "%d", atoi(exponent + 1));
    style->number(out, strcmp(plain, "1") != 0 ? plain : "", tens);
}

/* Numbers that have a name: a formula's constants, folded while compiling. */
static bool write_named_number(Writer w, double number) {
    static const double roots[] = {2, 3, 5, 6, 7, 8, 10};
    const MathStyle *style = w.style;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        if (number == sqrt(roots[i])) {
            style->open(w.out, BOX_ROOT);
            number_write(style, roots[i], 0, w.out);
            style->close(w.out, BOX_ROOT);
            return true;
        }
    const double pi = 3.14159265358979323846;
    double turns = number / pi;
    if (turns >= 1 && turns <= 100 && turns == floor(turns) && number == turns * pi) {
        if (turns > 1) {
            number_write(style, turns, 0, w.out);
            style->sign(w.out, " ");
        }
        style->symbol(w.out, "π", NULL);
        return true;
    }
    if (number == 2.5066282746310005) {
        style->open(w.out, BOX_ROOT);
        number_write(style, 2, 0, w.out);
        style->sign(w.out, " ");
        style->symbol(w.out, "π", NULL);
        style->close(w.out, BOX_ROOT);
        return true;
    }
    if (number == sqrt(2 / pi) || number == 1.1283791670955126 /* 2 / sqrt(pi) */) {
        bool all = number == sqrt(2 / pi);
        style->open(w.out, all ? BOX_ROOT : BOX_FRACTION);
        style->open(w.out, all ? BOX_FRACTION : BOX_ROW);
        number_write(style, 2, 0, w.out);
        if (!all)
            style->close(w.out, BOX_ROW);
        style->next(w.out, BOX_FRACTION);
        if (!all)
            style->open(w.out, BOX_ROOT);
        style->symbol(w.out, "π", NULL);
        style->close(w.out, all ? BOX_FRACTION : BOX_ROOT);
        style->close(w.out, all ? BOX_ROOT : BOX_FRACTION);
        return true;
    }
    return false;
}

static void write_symbol_itself(const MathStyle *style, const Fold *fold, const Symbol *symbol, Text *out) {
    Text letter = {0}, index = {0};
    text_add(&letter, symbol->letter);
    if (style->linear && symbol->primes == 2)
        text_add(&letter, "″");
    else
        for (int i = 0; i < symbol->primes; i++)
            text_add(&letter, "′");
    if (symbol->index)
        index_text(symbol->index, fold, &index);
    style->symbol(out, letter.at, index.at);
    text_free(&letter);
    text_free(&index);
}

void symbol_write(const MathStyle *style, const Fold *fold, const Symbol *symbol, Text *out) {
    if (!symbol->derivative_of) {
        write_symbol_itself(style, fold, symbol, out);
        return;
    }
    style->open(out, BOX_FRACTION);
    style->sign(out, "∂");
    write_symbol_itself(style, fold, symbol->derivative_of, out);
    style->next(out, BOX_FRACTION);
    style->sign(out, "∂");
    write_symbol_itself(style, fold, symbol, out);
    style->close(out, BOX_FRACTION);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

static void parenthesis(Writer w, bool wanted, bool open) {
    if (wanted)
        (open ? w.style->open : w.style->close)(w.out, BOX_PARENTHESES);
}

/* x with an index behind it: p_k */
static void write_element(Writer w, const Math *x) {
    const char *element = w.element;
    w.element = NULL;
    bool bare = x->kind == MATH_SYMBOL && !x->symbol->index && !x->symbol->derivative_of;
    w.style->open(w.out, BOX_SUBSCRIPT);
    parenthesis(w, !bare, true);
    write(w, x, BINDS_NOTHING);
    parenthesis(w, !bare, false);
    w.style->next(w.out, BOX_SUBSCRIPT);
    w.style->word(w.out, element);
    w.style->close(w.out, BOX_SUBSCRIPT);
}

static void write_sum(Writer w, const Math *x, int binds) {
    enum { LONGEST = 10, HEAD = 4 }; /* a longer one is cut: a penalty of a hundred layers */
    parenthesis(w, binds > BINDS_SUM, true);
    for (int i = 0; i < x->arg_count; i++) {
        if (x->arg_count > LONGEST && i == HEAD) {
            w.style->sign(w.out, " + ");
            w.style->sign(w.out, "…");
            i = x->arg_count - 1;
        }
        if (i)
            w.style->sign(w.out, x->minus[i] ? " − " : " + ");
        else if (x->minus[0])
            w.style->sign(w.out, "−");
        write(w, x->args[i], BINDS_SUM + (x->minus[i] || i > 0));
    }
    parenthesis(w, binds > BINDS_SUM, false);
}

static bool is_big_sum(const Math *x) {
    if (x->kind == MATH_PRODUCT)
        return is_big_sum(x->args[x->arg_count - 1]);
    return x->kind == MATH_ROWS_SUM || x->kind == MATH_ELEMENTS_SUM;
}

static void write_product(Writer w, const Math *x, int binds) {
    parenthesis(w, binds > BINDS_PRODUCT, true);
    for (int i = 0; i < x->arg_count; i++) {
        const Math *factor = x->args[i], *before = i ? x->args[i - 1] : NULL;
        if (before && before->rank && factor->rank && !w.element)
            w.style->sign(w.out, " ⊙ ");
        else if (before && factor->kind == MATH_NUMBER)
            w.style->sign(w.out, " · ");
        else if (before)
            w.style->sign(w.out, " ");
        bool last_sum = is_big_sum(factor) && i + 1 == x->arg_count;
        write(w, factor, last_sum ? BINDS_PRODUCT : BINDS_FACTOR);
    }
    parenthesis(w, binds > BINDS_PRODUCT, false);
}

/* 1/B ∑ …, not ∑ … / B: what stands before the sum goes above the line. */
static const Math *without_sum(const Math *x, Math *rest, const Math **sum) {
    *sum = x->kind == MATH_PRODUCT ? x->args[x->arg_count - 1] : x;
    if (x->kind != MATH_PRODUCT)
        return NULL;
    *rest = *x;
    rest->arg_count--;
    return rest->arg_count == 1 ? rest->args[0] : rest;
}

static void write_quotient(Writer w, const Math *x, int binds) {
    bool linear = w.style->linear, before = is_big_sum(x->args[0]);
    Math rest;
    const Math *above = x->args[0], *sum = NULL;
    if (before)
        above = without_sum(x->args[0], &rest, &sum);
    parenthesis(w, (linear || before) && binds > BINDS_PRODUCT, true);
    w.style->open(w.out, BOX_FRACTION);
    if (above)
        write(w, above, linear ? BINDS_PRODUCT : BINDS_NOTHING);
    else
        number_write(w.style, 1, 0, w.out);
    w.style->next(w.out, BOX_FRACTION);
    write(w, x->args[1], linear ? BINDS_FACTOR : BINDS_NOTHING);
    w.style->close(w.out, BOX_FRACTION);
    if (before) {
        w.style->sign(w.out, " ");
        write(w, sum, BINDS_PRODUCT);
    }
    parenthesis(w, (linear || before) && binds > BINDS_PRODUCT, false);
}

static void write_power(Writer w, const Math *x) {
    const Math *base = x->args[0];
    bool stands = base->kind == MATH_NUMBER || (base->kind == MATH_FUNCTION && strcmp(base->name, "log") != 0) ||
                  (base->kind == MATH_SYMBOL && !base->symbol->derivative_of && !(w.element && base->rank));
    w.style->open(w.out, BOX_SUPERSCRIPT);
    parenthesis(w, !stands, true);
    write(w, base, BINDS_NOTHING);
    parenthesis(w, !stands, false);
    w.style->next(w.out, BOX_SUPERSCRIPT);
    write(w, x->args[1], BINDS_NOTHING);
    w.style->close(w.out, BOX_SUPERSCRIPT);
}

static void write_side(Writer w, const Math *x, bool turned) {
    bool derivative = x->kind == MATH_SYMBOL && x->symbol->derivative_of;
    if (turned)
        w.style->open(w.out, BOX_SUPERSCRIPT);
    parenthesis(w, derivative && turned, true);
    write(w, x, derivative && turned ? BINDS_NOTHING : BINDS_FACTOR);
    parenthesis(w, derivative && turned, false);
    if (turned) {
        w.style->next(w.out, BOX_SUPERSCRIPT);
        w.style->sign(w.out, "ᵀ");
        w.style->close(w.out, BOX_SUPERSCRIPT);
    }
}

static void write_function(Writer w, const Math *x) {
    if (x->op == OP_IOTA) {
        w.style->open(w.out, BOX_PARENTHESES);
        number_write(w.style, 0, 0, w.out);
        w.style->sign(w.out, ", ");
        w.style->sign(w.out, "…");
        w.style->sign(w.out, ", ");
        number_write(w.style, (double)(x->dims[0] - 1), 0, w.out);
        w.style->close(w.out, BOX_PARENTHESES);
        return;
    }
    bool bare = x->arg_count == 1 && !strcmp(x->name, "log") &&
                (x->args[0]->kind == MATH_SYMBOL || x->args[0]->kind == MATH_NUMBER) &&
                !(x->args[0]->symbol && x->args[0]->symbol->derivative_of);
    w.style->word(w.out, x->name);
    if (bare)
        w.style->sign(w.out, " ");
    else
        w.style->open(w.out, BOX_PARENTHESES);
    for (int i = 0; i < x->arg_count; i++) {
        if (i)
            w.style->sign(w.out, ", ");
        write(w, x->args[i], bare ? BINDS_FACTOR : BINDS_NOTHING);
    }
    if (!bare)
        w.style->close(w.out, BOX_PARENTHESES);
}

static void write_relation(Writer w, const Math *x, int binds) {
    static const struct {
        Op op;
        const char *sign;
    } signs[] = {{OP_LESS, " < "},      {OP_LESS_EQUAL, " ≤ "}, {OP_EQUAL, " = "},
                 {OP_NOT_EQUAL, " ≠ "}, {OP_AND, " ∧ "},        {OP_OR, " ∨ "}};
    if (x->op == OP_NOT && (x->args[0]->op == OP_LESS || x->args[0]->op == OP_LESS_EQUAL) &&
        x->args[0]->kind == MATH_RELATION) { /* not a < b is b <= a, where they can be compared */
        const Math *inner = x->args[0];
        bool less = inner->op == OP_LESS, number = inner->args[0]->kind == MATH_NUMBER; /* x <= 0, not 0 >= x */
        parenthesis(w, binds > BINDS_NOTHING, true);
        write(w, inner->args[number], BINDS_RELATION);
        w.style->sign(w.out, number ? (less ? " ≤ " : " < ") : less ? " ≥ " : " > ");
        write(w, inner->args[!number], BINDS_RELATION);
        parenthesis(w, binds > BINDS_NOTHING, false);
        return;
    }
    if (x->op == OP_NOT) {
        w.style->sign(w.out, "¬");
        write(w, x->args[0], BINDS_FACTOR);
        return;
    }
    parenthesis(w, binds > BINDS_NOTHING, true);
    bool turned = x->args[0]->kind == MATH_NUMBER && (x->op == OP_LESS || x->op == OP_LESS_EQUAL); /* x > 0 */
    write(w, x->args[turned], BINDS_RELATION);
    if (turned)
        w.style->sign(w.out, x->op == OP_LESS ? " > " : " ≥ ");
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (!turned && signs[i].op == x->op)
            w.style->sign(w.out, signs[i].sign);
    write(w, x->args[!turned], BINDS_RELATION);
    parenthesis(w, binds > BINDS_NOTHING, false);
}

static void write_cases(Writer w, const Math *x) {
    w.style->open(w.out, BOX_CASES);
    write(w, x->args[1], BINDS_NOTHING);
    w.style->next(w.out, BOX_CASES);
    w.style->word(w.out, "if ");
    write(w, x->args[0], BINDS_NOTHING);
    w.style->next(w.out, BOX_ROW);
    write(w, x->args[2], BINDS_NOTHING);
    w.style->next(w.out, BOX_CASES);
    w.style->word(w.out, "otherwise");
    w.style->close(w.out, BOX_CASES);
}

static void write_big_sum(Writer w, const Math *x, int binds) {
    static const char *const of_vectors[] = {"k", "j", "m"};
    bool rows = x->kind == MATH_ROWS_SUM;
    const char *index = "n";
    if (!rows) {
        index = x->args[0]->rank > 1 ? "ij" : of_vectors[w.sums % 3];
        w.element = index;
        w.sums++;
    }
    parenthesis(w, binds > BINDS_PRODUCT, true);
    w.style->sum(w.out, index);
    write(w, x->args[0], BINDS_PRODUCT);
    parenthesis(w, binds > BINDS_PRODUCT, false);
}

static void write_list(Writer w, const Math *x, const char *between) {
    w.style->sign(w.out, "[");
    for (int i = 0; i < x->arg_count; i++) {
        if (i)
            w.style->sign(w.out, between);
        write(w, x->args[i], BINDS_NOTHING);
    }
    w.style->sign(w.out, "]");
}

static void write_range(Writer w, const Math *x) {
    write(w, x->args[0], BINDS_FACTOR);
    w.style->sign(w.out, "[");
    number_write(w.style, (double)x->first, 0, w.out);
    if (x->dims[0] > 1) {
        w.style->sign(w.out, "..");
        number_write(w.style, (double)(x->first + x->dims[0] - 1), 0, w.out);
    }
    w.style->sign(w.out, "]");
}

/* W[city]; of several rows, W[words]' counts */
static void write_row(Writer w, const Math *x) {
    if (x->arg_count > 2)
        w.style->open(w.out, BOX_SUPERSCRIPT);
    write(w, x->args[0], BINDS_FACTOR);
    w.style->sign(w.out, "[");
    write(w, x->args[1], BINDS_NOTHING);
    w.style->sign(w.out, "]");
    if (x->arg_count < 3)
        return;
    w.style->next(w.out, BOX_SUPERSCRIPT);
    w.style->sign(w.out, "ᵀ");
    w.style->close(w.out, BOX_SUPERSCRIPT);
    w.style->sign(w.out, " ");
    write(w, x->args[2], BINDS_FACTOR);
}

static bool is_one(const Math *x) {
    return x->kind == MATH_FILLED && x->rank == 1 && x->dims[0] == 1 && math_is_number(x->args[0], 1);
}

/* What is multiplied by the vector (1) is not. */
static void write_matrix_product(Writer w, const Math *x, int binds) {
    bool left = is_one(x->args[0]), right = !left && is_one(x->args[1]);
    bool both = !left && !right;
    parenthesis(w, both && binds > BINDS_PRODUCT, true);
    if (!left)
        write_side(w, x->args[0], x->turned[0]);
    if (both)
        w.style->sign(w.out, " ");
    if (!right)
        write_side(w, x->args[1], x->turned[1]);
    parenthesis(w, both && binds > BINDS_PRODUCT, false);
}

static void write_boxed(Writer w, MathBox box, const Math *x) {
    w.style->open(w.out, box);
    write(w, x, BINDS_NOTHING);
    w.style->close(w.out, box);
}

static bool same_but_ones(const Math *x, const Math *y) {
    int j = 0;
    for (int i = 0; i < x->rank; i++) {
        if (x->dims[i] == 1)
            continue;
        while (j < y->rank && y->dims[j] == 1)
            j++;
        if (j == y->rank || y->dims[j++] != x->dims[i])
            return false;
    }
    while (j < y->rank && y->dims[j] == 1)
        j++;
    return j == y->rank;
}

static void write_reshaped(Writer w, const Math *x, int binds) {
    if (same_but_ones(x, x->args[0])) {
        write(w, x->args[0], binds);
        return;
    }
    w.style->word(w.out, x->rank == 1 ? "flatten" : "reshape");
    write_boxed(w, BOX_PARENTHESES, x->args[0]);
}

static void write_filled(Writer w, const Math *x, int binds) {
    if (math_is_number(x->args[0], 0) || w.element) {
        write(w, x->args[0], binds);
        return;
    }
    bool one = math_is_number(x->args[0], 1), single = true;
    for (int i = 0; i < x->rank; i++)
        single &= x->dims[i] == 1;
    if (single) {
        write(w, x->args[0], binds);
        return;
    }
    parenthesis(w, !one && binds > BINDS_PRODUCT, true);
    if (!one) {
        write(w, x->args[0], BINDS_FACTOR);
        w.style->sign(w.out, " ");
    }
    w.style->symbol(w.out, "𝟏", NULL);
    parenthesis(w, !one && binds > BINDS_PRODUCT, false);
}

/* What has no elements of its own to be named by k: (W x)_k */
static bool is_whole(const Math *x) {
    switch (x->kind) {
    case MATH_SYMBOL:
    case MATH_MATRIX_PRODUCT:
    case MATH_TRANSPOSED:
    case MATH_RANGE:
    case MATH_ROW:
    case MATH_STACK:
    case MATH_RESHAPED:
        return true;
    case MATH_FUNCTION: /* first: of a CUSTOM, that it is not element by element */
        return x->op == OP_COUNT || op_table[x->op].class == CLASS_SHAPE ? x->op != OP_CUSTOM || x->first != 0
                                                                         : op_table[x->op].class == CLASS_LEAF;
    default:
        return false;
    }
}

static void write(Writer w, const Math *x, int binds) {
    if (w.element && x->rank > 0 && is_whole(x)) {
        write_element(w, x);
        return;
    }
    if (x->rank == 0 && x->kind != MATH_ROWS_SUM && is_whole(x))
        w.element = NULL;
    switch (x->kind) {
    case MATH_NUMBER: {
        bool product =
            binds >= BINDS_FACTOR && x->number > 3.2 && fmod(x->number, 3.14159265358979323846) == 0; /* 2 π */
        parenthesis(w, product, true);
        if (!write_named_number(w, x->number))
            number_write(w.style, x->number, 0, w.out);
        parenthesis(w, product, false);
        break;
    }
    case MATH_SYMBOL:
        symbol_write(w.style, w.fold, x->symbol, w.out);
        break;
    case MATH_SUM:
        write_sum(w, x, binds);
        break;
    case MATH_PRODUCT:
        write_product(w, x, binds);
        break;
    case MATH_QUOTIENT:
        write_quotient(w, x, binds);
        break;
    case MATH_POWER:
        write_power(w, x);
        break;
    case MATH_MATRIX_PRODUCT:
        write_matrix_product(w, x, binds);
        break;
    case MATH_TRANSPOSED:
        write_side(w, x->args[0], true);
        break;
    case MATH_FUNCTION:
        write_function(w, x);
        break;
    case MATH_ABSOLUTE:
        write_boxed(w, BOX_ABSOLUTE, x->args[0]);
        break;
    case MATH_ROOT:
        if (x->args[0]->kind == MATH_NORM_SQUARED)
            write_boxed(w, BOX_NORM, x->args[0]->args[0]);
        else
            write_boxed(w, BOX_ROOT, x->args[0]);
        break;
    case MATH_FLOOR:
        write_boxed(w, BOX_FLOOR, x->args[0]);
        break;
    case MATH_NORM_SQUARED:
        w.element = NULL;
        w.style->open(w.out, BOX_SUPERSCRIPT);
        write_boxed(w, BOX_NORM, x->args[0]);
        w.style->next(w.out, BOX_SUPERSCRIPT);
        number_write(w.style, 2, 0, w.out);
        w.style->close(w.out, BOX_SUPERSCRIPT);
        break;
    case MATH_CASES:
        write_cases(w, x);
        break;
    case MATH_RELATION:
        write_relation(w, x, binds);
        break;
    case MATH_INDICATOR:
        write_boxed(w, BOX_INDICATOR, x->args[0]);
        break;
    case MATH_ELEMENTS_SUM:
    case MATH_ROWS_SUM:
        write_big_sum(w, x, binds);
        break;
    case MATH_RANGE:
        write_range(w, x);
        break;
    case MATH_ROW:
        write_row(w, x);
        break;
    case MATH_STACK:
        write_list(w, x, "; ");
        break;
    case MATH_FILLED:
        write_filled(w, x, binds);
        break;
    case MATH_RESHAPED:
        write_reshaped(w, x, binds);
        break;
    }
}

void math_write(const MathStyle *style, const Fold *fold, const Math *x, Text *out) {
    write((Writer){.style = style, .fold = fold, .out = out}, x, BINDS_NOTHING);
}
