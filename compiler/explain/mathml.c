/* Mathematics as MathML Core, which browsers show without a script. */
#include "mathematics.h"

#include <string.h>

static void element(Text *out, const char *tag, const char *text) {
    text_printf(out, "<%s>", tag);
    text_add_xml(out, text);
    const char *end = strchr(tag, ' ');
    text_printf(out, "</%.*s>", (int)(end ? end - tag : (ptrdiff_t)strlen(tag)), tag);
}

static void mathml_symbol(Text *out, const char *letter, const char *index) {
    if (index)
        text_add(out, "<msub>");
    element(out, "mi", letter);
    if (!index)
        return;
    element(out, "mtext", index);
    text_add(out, "</msub>");
}

static void mathml_word(Text *out, const char *word) {
    bool text = strchr(word, ' ') || !strcmp(word, "otherwise");
    element(out, text ? "mtext" : "mi", !strcmp(word, "if ") ? "if\u00a0" : word);
}

static void mathml_number(Text *out, const char *mantissa, const char *exponent) {
    if (*mantissa)
        element(out, "mn", mantissa);
    if (!exponent)
        return;
    if (*mantissa)
        element(out, "mo", "·");
    text_add(out, "<msup><mn>10</mn>");
    if (*exponent == '-') {
        text_add(out, "<mrow><mo>−</mo>");
        element(out, "mn", exponent + 1);
        text_add(out, "</mrow>");
    } else {
        element(out, "mn", exponent);
    }
    text_add(out, "</msup>");
}

static void mathml_sign(Text *out, const char *sign) {
    if (!strcmp(sign, " ")) {
        text_add(out, "<mspace width=\"0.2em\"/>");
        return;
    }
    size_t length = strlen(sign);
    bool spaced = length > 2 && sign[0] == ' ';
    char bare[16];
    snprintf(bare, sizeof bare, "%.*s", (int)(spaced ? length - 2 : length), sign + spaced);
    if (!strcmp(sign, "−"))
        element(out, "mo form=\"prefix\" lspace=\"0\" rspace=\"0\"", bare);
    else if (!strcmp(sign, ", "))
        element(out, "mo separator=\"true\" lspace=\"0\" rspace=\"0.3em\"", ",");
    else if (!strcmp(bare, "ᵀ"))
        element(out, "mi mathvariant=\"normal\"", "T");
    else if (!strcmp(bare, "ℝ"))
        element(out, "mi", bare);
    else
        element(out, "mo", bare);
}

#define OPENING "<mo form=\"prefix\" lspace=\"0\" rspace=\"0\">"
#define CLOSING "<mo form=\"postfix\" lspace=\"0\" rspace=\"0\">"

static void mathml_open(Text *out, MathBox box) {
    static const char *const opening[] = {[BOX_PARENTHESES] = "<mrow>" OPENING "(</mo>",
                                          [BOX_FRACTION] = "<mfrac><mrow>",
                                          [BOX_SUPERSCRIPT] = "<msup><mrow>",
                                          [BOX_SUBSCRIPT] = "<msub><mrow>",
                                          [BOX_ROOT] = "<msqrt><mrow>",
                                          [BOX_ABSOLUTE] = "<mrow><mo>|</mo>",
                                          [BOX_FLOOR] = "<mrow><mo>⌊</mo>",
                                          [BOX_NORM] = "<mrow><mo>‖</mo>",
                                          [BOX_CASES] = "<mrow><mo>{</mo><mtable><mtr><mtd>",
                                          [BOX_MATRIX] = "<mrow><mo>(</mo><mtable><mtr><mtd>",
                                          [BOX_INDICATOR] = "<mrow><mn>𝟏</mn>" OPENING "[</mo>",
                                          [BOX_ROW] = "<mrow>"};
    text_add(out, opening[box]);
}

static void mathml_next(Text *out, MathBox box) {
    static const char *const between[] = {[BOX_FRACTION] = "</mrow><mrow>",
                                          [BOX_SUPERSCRIPT] = "</mrow><mrow>",
                                          [BOX_SUBSCRIPT] = "</mrow><mrow>",
                                          [BOX_CASES] = "</mtd><mtd>",
                                          [BOX_ROW] = "</mtd></mtr><mtr><mtd>"};
    text_add(out, between[box]);
}

static void mathml_close(Text *out, MathBox box) {
    static const char *const closing[] = {[BOX_PARENTHESES] = CLOSING ")</mo></mrow>",
                                          [BOX_FRACTION] = "</mrow></mfrac>",
                                          [BOX_SUPERSCRIPT] = "</mrow></msup>",
                                          [BOX_SUBSCRIPT] = "</mrow></msub>",
                                          [BOX_ROOT] = "</mrow></msqrt>",
                                          [BOX_ABSOLUTE] = "<mo>|</mo></mrow>",
                                          [BOX_FLOOR] = "<mo>⌋</mo></mrow>",
                                          [BOX_NORM] = "<mo>‖</mo></mrow>",
                                          [BOX_CASES] = "</mtd></mtr></mtable></mrow>",
                                          [BOX_MATRIX] = "</mtd></mtr></mtable><mo>)</mo></mrow>",
                                          [BOX_INDICATOR] = CLOSING "]</mo></mrow>",
                                          [BOX_ROW] = "</mrow>"};
    text_add(out, closing[box]);
}

static void mathml_sum(Text *out, const char *index) {
    text_add(out, "<munder><mo>∑</mo>");
    element(out, "mi", index);
    text_add(out, "</munder>");
}

const MathStyle mathml_style = {false,       mathml_symbol, mathml_word,  mathml_number, mathml_sign,
                                mathml_open, mathml_next,   mathml_close, mathml_sum};
