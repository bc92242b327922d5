/* Mathematics on one line of Unicode. */
#include "mathematics.h"

#include <ctype.h>
#include <string.h>

/* "12" as ₁₂, k as ₖ; false where a character has no small form. */
static bool small(const char *text, bool below, Text *out) {
    static const char *const lower[] = {"₀", "₁", "₂", "₃", "₄", "₅", "₆", "₇", "₈", "₉"};
    static const char *const upper[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    static const struct {
        char letter;
        const char *lower, *upper;
    } letters[] = {{'i', "ᵢ", "ⁱ"}, {'j', "ⱼ", "ʲ"}, {'k', "ₖ", "ᵏ"}, {'m', "ₘ", "ᵐ"}, {'n', "ₙ", "ⁿ"},
                   {'t', "ₜ", "ᵗ"}, {'+', "₊", "⁺"}, {'-', "₋", "⁻"}, {'x', "ₓ", "ˣ"}};
    size_t before = out->length;
    for (const char *at = text; *at; at++) {
        const char *found = NULL;
        if (isdigit((unsigned char)*at))
            found = below ? lower[*at - '0'] : upper[*at - '0'];
        for (size_t i = 0; !found && i < sizeof letters / sizeof *letters; i++)
            if (letters[i].letter == *at)
                found = below ? letters[i].lower : letters[i].upper;
        if (!found) {
            out->length = before;
            if (out->at)
                out->at[before] = 0;
            return false;
        }
        text_add(out, found);
    }
    return true;
}

static void text_symbol(Text *out, const char *letter, const char *index) {
    text_add(out, letter);
    if (!index)
        return;
    bool number = isdigit((unsigned char)*index) || *index == 'i';
    for (const char *at = index; *at; at++)
        number &= isdigit((unsigned char)*at) || *at == '-' || *at == '+' || at == index;
    if (number && small(index, true, out))
        return;
    text_printf(out, "_%s", index);
}

static void text_word(Text *out, const char *word) {
    text_add(out, word);
}

static void text_number_as(Text *out, const char *mantissa, const char *exponent) {
    text_add(out, mantissa);
    if (!exponent)
        return;
    text_add(out, *mantissa ? "·10" : "10");
    small(exponent, false, out);
}

static void text_sign(Text *out, const char *sign) {
    text_add(out, sign);
}

static void text_open(Text *out, MathBox box) {
    static const char *const signs[] = {
        [BOX_PARENTHESES] = "(", [BOX_ROOT] = "√\003", [BOX_ABSOLUTE] = "|",   [BOX_FLOOR] = "⌊", [BOX_NORM] = "‖",
        [BOX_CASES] = "{ ",      [BOX_MATRIX] = "[",   [BOX_INDICATOR] = "𝟏[", [BOX_ROW] = NULL};
    if (signs[box])
        text_add(out, signs[box]);
}

/* Marks: what stands behind them is made small, or put in parentheses, when it is known, in text_close. */
static void text_next(Text *out, MathBox box) {
    static const char *const signs[] = {[BOX_FRACTION] = "/",
                                        [BOX_SUPERSCRIPT] = "\001",
                                        [BOX_SUBSCRIPT] = "\002",
                                        [BOX_CASES] = " ",
                                        [BOX_ROW] = "; "};
    text_add(out, signs[box]);
}

static bool is_one_word(const char *text) {
    for (; *text; text++)
        if ((*text >= 0 && !isalnum((unsigned char)*text) && !strchr("._", *text)))
            return false;
    return true;
}

/* What was written behind the mark, taken back. */
static Text take_part(Text *out, char mark) {
    size_t at = out->length;
    while (out->at[at - 1] != mark)
        at--;
    Text part = {0};
    text_add(&part, out->at + at);
    out->length = at - 1;
    out->at[out->length] = 0;
    return part;
}

static void text_close(Text *out, MathBox box) {
    static const char *const signs[] = {
        [BOX_PARENTHESES] = ")", [BOX_ABSOLUTE] = "|", [BOX_FLOOR] = "⌋",     [BOX_NORM] = "‖",
        [BOX_CASES] = " }",      [BOX_MATRIX] = "]",   [BOX_INDICATOR] = "]", [BOX_ROW] = NULL};
    if (box != BOX_SUPERSCRIPT && box != BOX_SUBSCRIPT && box != BOX_ROOT) {
        if (signs[box])
            text_add(out, signs[box]);
        return;
    }
    Text part = take_part(out, box == BOX_SUPERSCRIPT ? '\001' : box == BOX_SUBSCRIPT ? '\002' : '\003');
    if (box == BOX_ROOT)
        text_printf(out, is_one_word(part.at) ? "%s" : "(%s)", part.at);
    else if (!strcmp(part.at, "ᵀ"))
        text_add(out, part.at);
    else if (!small(part.at, box == BOX_SUBSCRIPT, out))
        text_printf(out, box == BOX_SUPERSCRIPT ? "^(%s)" : "_%s", part.at);
    text_free(&part);
}

static void text_sum(Text *out, const char *index) {
    text_add(out, "∑");
    small(index, true, out);
    text_add(out, " ");
}

const MathStyle text_style = {true,      text_symbol, text_word,  text_number_as, text_sign,
                              text_open, text_next,   text_close, text_sum};
