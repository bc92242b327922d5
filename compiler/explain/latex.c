/* Mathematics as LaTeX; amsmath and amssymb know all that is written. */
#include "mathematics.h"

#include <ctype.h>
#include <string.h>

static const char *const signs[][2] = {
    {"−", "-"},        {" − ", " - "},       {" ⊙ ", " \\odot "}, {" · ", " \\cdot "},  {"∂", "\\partial "},
    {" ≤ ", " \\le "}, {" ≥ ", " \\ge "},    {" ≠ ", " \\ne "},   {" ∧ ", " \\wedge "}, {" ∨ ", " \\vee "},
    {"¬", "\\neg "},   {"ᵀ", "\\mathsf{T}"}, {" ", "\\,"},        {"∈", "\\in "},       {"←", "\\leftarrow "},
    {"..", "{:}"},     {"ℝ", "\\mathbb{R}"}, {"×", "\\times "},   {"[", "["},           {"]", "]"},
    {"…", "\\ldots "},
};

static const char *const letters[][2] = {
    {"δ", "\\delta"},  {"ℓ", "\\ell"},  {"∞", "\\infty"}, {"ε", "\\varepsilon"}, {"α", "\\alpha"}, {"β", "\\beta"},
    {"γ", "\\gamma"},  {"ζ", "\\zeta"}, {"η", "\\eta"},   {"θ", "\\theta"},      {"κ", "\\kappa"}, {"λ", "\\lambda"},
    {"μ", "\\mu"},     {"ν", "\\nu"},   {"ξ", "\\xi"},    {"ρ", "\\rho"},        {"σ", "\\sigma"}, {"τ", "\\tau"},
    {"φ", "\\varphi"}, {"ψ", "\\psi"},  {"ω", "\\omega"}, {"Δ", "\\Delta"},      {"π", "\\pi"},    {"𝟏", "\\mathbf{1}"},
};

static const char *found(const char *const (*table)[2], size_t count, const char *text) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(table[i][0], text))
            return table[i][1];
    return NULL;
}
#define FIND(table, text) found(table, sizeof(table) / sizeof *(table), text)

/* Words of the .bp file: nothing in them is a command. */
static void latex_escaped(Text *out, const char *text) {
    for (const char *at = text; *at; at++) {
        const char *minus = "−";
        if (strchr("_#%&{}$", *at))
            text_printf(out, "\\%c", *at);
        else if (*at == '\\' || *at == '^' || *at == '~')
            text_add(out, "{?}");
        else if (!strncmp(at, minus, strlen(minus))) {
            text_add(out, "-");
            at += strlen(minus) - 1;
        } else if ((unsigned char)*at < 0x80)
            text_add_bytes(out, at, 1);
        else if (((unsigned char)*at & 0xC0) == 0xC0)
            text_add(out, "?");
    }
}

/* Words upright, one letter slanted. */
static void latex_letter(Text *out, const char *letter) {
    const size_t prime = strlen("′");
    Text bare = {0};
    text_add(&bare, letter);
    while (bare.length > prime && !strcmp(bare.at + bare.length - prime, "′")) {
        bare.length -= prime;
        bare.at[bare.length] = 0;
    }
    size_t primes = (strlen(letter) - bare.length) / prime;
    const char *known = FIND(letters, bare.at);
    if (known) {
        text_add(out, known);
    } else if (bare.length == 1) {
        text_add(out, bare.at);
    } else {
        text_add(out, "\\mathrm{");
        latex_escaped(out, bare.at);
        text_add(out, "}");
    }
    for (size_t i = 0; i < primes; i++)
        text_add(out, "'");
    text_free(&bare);
}

static void latex_symbol(Text *out, const char *letter, const char *index) {
    text_add(out, "{");
    latex_letter(out, letter);
    if (index) {
        text_add(out, "_{\\mathrm{");
        latex_escaped(out, index);
        text_add(out, "}}");
    }
    text_add(out, "}");
}

static void latex_word(Text *out, const char *word) {
    const char *known = FIND(letters, word);
    if (known)
        text_add(out, known);
    else if (strlen(word) <= 1 || !strcmp(word, "ij"))
        text_add(out, word);
    else if (!strcmp(word, "if ") || !strcmp(word, "otherwise"))
        text_printf(out, "\\text{%s}", word);
    else {
        text_add(out, "\\operatorname{");
        latex_escaped(out, word);
        text_add(out, "}");
    }
}

static void latex_number(Text *out, const char *mantissa, const char *exponent) {
    text_add(out, mantissa);
    if (exponent)
        text_printf(out, "%s10^{%s}", *mantissa ? " \\cdot " : "", exponent);
}

static void latex_sign(Text *out, const char *sign) {
    const char *known = FIND(signs, sign);
    text_add(out, known ? known : sign);
}

static void latex_open(Text *out, MathBox box) {
    static const char *const opening[] = {[BOX_PARENTHESES] = "\\mathopen{}\\left(",
                                          [BOX_FRACTION] = "\\frac{",
                                          [BOX_SUPERSCRIPT] = "{",
                                          [BOX_SUBSCRIPT] = "{",
                                          [BOX_ROOT] = "\\sqrt{",
                                          [BOX_ABSOLUTE] = "\\left|",
                                          [BOX_FLOOR] = "\\lfloor ",
                                          [BOX_NORM] = "\\lVert ",
                                          [BOX_CASES] = "\\begin{cases}",
                                          [BOX_MATRIX] = "\\begin{pmatrix}",
                                          [BOX_INDICATOR] = "\\mathbf{1}[",
                                          [BOX_ROW] = ""};
    text_add(out, opening[box]);
}

static void latex_next(Text *out, MathBox box) {
    static const char *const between[] = {[BOX_FRACTION] = "}{",
                                          [BOX_SUPERSCRIPT] = "}^{",
                                          [BOX_SUBSCRIPT] = "}_{",
                                          [BOX_CASES] = " & ",
                                          [BOX_ROW] = " \\\\ "};
    text_add(out, between[box]);
}

static void latex_close(Text *out, MathBox box) {
    static const char *const closing[] = {[BOX_PARENTHESES] = "\\right)\\mathclose{}",
                                          [BOX_FRACTION] = "}",
                                          [BOX_SUPERSCRIPT] = "}",
                                          [BOX_SUBSCRIPT] = "}",
                                          [BOX_ROOT] = "}",
                                          [BOX_ABSOLUTE] = "\\right|",
                                          [BOX_FLOOR] = "\\rfloor ",
                                          [BOX_NORM] = "\\rVert ",
                                          [BOX_CASES] = "\\end{cases}",
                                          [BOX_MATRIX] = "\\end{pmatrix}",
                                          [BOX_INDICATOR] = "]",
                                          [BOX_ROW] = ""};
    text_add(out, closing[box]);
}

static void latex_sum(Text *out, const char *index) {
    text_printf(out, "\\sum_{%s} ", index);
}

const MathStyle latex_style = {false,      latex_symbol, latex_word,  latex_number, latex_sign,
                               latex_open, latex_next,   latex_close, latex_sum};
