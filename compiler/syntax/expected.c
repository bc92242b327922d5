#include "expected.h"

#include <string.h>

#include "grammar.h"

_Static_assert((int)TOKEN_NEGATION < (int)EXPECTED_KINDS, "every token has its place in Expected");

static bool take(Expected *expected, const int *kinds) {
    bool any = false;
    for (; *kinds != -1; kinds++) {
        any |= expected->kinds[*kinds];
        expected->kinds[*kinds] = false;
    }
    return any;
}
#define TAKE(expected, ...) take((expected), (const int[]){__VA_ARGS__, -1})

static bool takes_operator(Expected *expected) {
    return TAKE(expected, '+', '-', '*', '/', '@', '^', '<', '>', TOKEN_LESS_EQUAL, TOKEN_GREATER_EQUAL, TOKEN_EQUAL,
                TOKEN_NOT_EQUAL, TOKEN_RANGE, '.', '(', '[');
}

/* The pieces of "a, b or c". */
typedef struct Choices {
    const char *at[16];
    int count;
} Choices;

static void choose(Choices *choices, const char *text) {
    if (choices->count < (int)(sizeof choices->at / sizeof *choices->at))
        choices->at[choices->count++] = text;
}

static const struct {
    int kind;
    const char *text;
} spellings[] = {
    {TOKEN_NAME, "a name"},
    {TOKEN_NUMBER, "a number"},
    {TOKEN_STRING, "a string"},
    {'=', "'='"},
    {TOKEN_ASSIGN, "':='"},
    {'~', "'~'"},
    {',', "','"},
    {':', "':'"},
    {'.', "'.'"},
    {'(', "'('"},
    {'[', "'['"},
    {')', "')'"},
    {']', "']'"},
    {TOKEN_ON, "'on'"},
    {TOKEN_TO, "'to'"},
    {TOKEN_FROM, "'from'"},
    {TOKEN_AS, "'as'"},
    {TOKEN_IN, "'in'"},
    {TOKEN_LINK, "'link'"},
    {TOKEN_WITH, "'with'"},
    {TOKEN_MINIMIZING, "'minimizing'"},
    {TOKEN_GRAD, "'grad'"},
    {'{', "'{'"},
    {'}', "'}'"},
};

static Choices choices_of(Expected *expected, const Token *found) {
    Choices choices = {0};
    bool ends = expected->kinds[TOKEN_END];
    if (TAKE(expected, TOKEN_DATA, TOKEN_MODEL, TOKEN_TRAIN, TOKEN_YYEOF)) {
        choose(&choices, "a statement such as 'data', 'model' or 'train'");
        return choices;
    }
    if (TAKE(expected, TOKEN_RETURN, TOKEN_REPLACE, TOKEN_PARAMETER, TOKEN_STATE, TOKEN_UPDATE)) {
        TAKE(expected, TOKEN_NAME, TOKEN_GRAD);
        choose(&choices, "a statement");
    } else if (TAKE(expected, TOKEN_STEP)) {
        TAKE(expected, TOKEN_NAME);
        choose(&choices, "a setting");
    } else if (expected->kinds['-'] && expected->kinds[TOKEN_STRING]) {
        TAKE(expected, TOKEN_NUMBER, TOKEN_STRING, TOKEN_NAME, TOKEN_REPEAT, '-', '(', '[');
        choose(&choices, found->within == WITHIN_LIST ? "a metric" : "an expression");
        /* After the first word of a setting anything may come; the expression says enough. */
        if (TAKE(expected, TOKEN_FOR))
            TAKE(expected, TOKEN_ON, TOKEN_TO, TOKEN_FROM, TOKEN_AS, TOKEN_IN, TOKEN_LINK, TOKEN_WITH, TOKEN_MINIMIZING,
                 TOKEN_EXCEPT);
    }
    bool goes_on = expected->kinds['+'] && takes_operator(expected);
    if (TAKE(expected, TOKEN_FOR, TOKEN_EXCEPT)) /* clauses of a setting: any of ten words */
        TAKE(expected, TOKEN_ON, TOKEN_TO, TOKEN_FROM, TOKEN_AS, TOKEN_IN, TOKEN_LINK, TOKEN_WITH, TOKEN_MINIMIZING);
    if (goes_on)
        TAKE(expected, '='); /* f(x = …) is possible after f(x, and not what was meant */
    if (goes_on && ends && found->within != WITHIN_LIST && found->within != WITHIN_SETTINGS)
        choose(&choices, "an operator");
    if (!goes_on && expected->kinds[')'])
        TAKE(expected, '=', '['); /* a parameter has these too, but its list goes on or ends */
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (expected->kinds[spellings[i].kind])
            choose(&choices, spellings[i].text);
    if (ends)
        choose(&choices, found->within == WITHIN_LIST ? "','" : "the end of the line");
    return choices;
}

static const char *list_of(Parser *parser, const Choices *choices) {
    Text text = {0};
    for (int i = 0; i < choices->count; i++) {
        if (i > 0)
            text_add(&text, i + 1 == choices->count ? " or " : ", ");
        text_add(&text, choices->at[i]);
    }
    const char *copy = arena_copy(parser->scratch, text.at ? text.at : "", text.length);
    text_free(&text);
    return copy;
}

static const Token *statement_start(const Parser *parser, const Token *token) {
    const Token *tokens = parser->tokens.at;
    while (token > tokens && token[-1].kind != TOKEN_END && token[-1].kind != '{')
        token--;
    return token;
}

/* " after 'model'", or nothing at the start of a statement. */
static const char *after_what(Parser *parser, const Token *found) {
    if (found == statement_start(parser, found))
        return "";
    return arena_printf(parser->scratch, " after %s", token_shown(parser, found - 1));
}

static const char *suggestion(Parser *parser, const Token *found) {
    static const char *const words[] = {"data",      "model", "block", "def", "loss",  "metric",
                                        "optimizer", "param", "const", "use", "train", "finetune",
                                        "evaluate",  "save",  "load",  "bpc"};
    if (found->kind != TOKEN_NAME || found->within != WITHIN_FILE || found != statement_start(parser, found))
        return "";
    Name nearest = nearest_name(found->text, words, (int)(sizeof words / sizeof *words));
    return nearest ? arena_printf(parser->scratch, "; did you mean '%s'?", nearest) : "";
}

static bool is_comparison(int kind) {
    return kind == '<' || kind == '>' || kind == TOKEN_LESS_EQUAL || kind == TOKEN_GREATER_EQUAL ||
           kind == TOKEN_EQUAL || kind == TOKEN_NOT_EQUAL;
}

/* A bracket of this statement that is never closed, though the grammar waits for what closes it. */
static const Token *open_bracket(const Expected *expected, const Token *found) {
    const Token *start = statement_start(expected->parser, found);
    for (const Token *token = found - 1; token >= start; token--)
        if (token->unmatched &&
            ((token->kind == '(' && expected->kinds[')']) || (token->kind == '[' && expected->kinds[']'])))
            return token;
    return NULL;
}

static void say_unexpected(Expected *expected, const Token *found) {
    Parser *parser = expected->parser;
    const Token *open = open_bracket(expected, found);
    bool continues = expected->kinds['+'];
    if (found->unmatched && (found->kind == ')' || found->kind == ']' || found->kind == '}')) {
        syntax_error(parser, found->span, "this %s closes nothing", token_shown(parser, found));
        return;
    }
    if (continues && !expected->kinds['<'] && is_comparison(found->kind)) {
        syntax_error(parser, found->span, "comparisons do not chain; put one of them in brackets");
        return;
    }
    Choices choices = choices_of(expected, found);
    const char *shown = token_shown(parser, found);
    if (choices.count == 0)
        syntax_error(parser, found->span, "unexpected %s", shown);
    else
        syntax_error(parser, found->span, "expected %s%s, found %s%s", list_of(parser, &choices),
                     after_what(parser, found), shown, suggestion(parser, found));
    if (open)
        syntax_note(parser, open->span, "this %s is never closed", token_shown(parser, open));
}

/* The end of the statement that holds the token, past the braces that open after it. */
static int statement_end(const Parser *parser, int index) {
    const Token *tokens = parser->tokens.at;
    int depth = tokens[index].depth;
    while (tokens[index].kind != TOKEN_YYEOF && !(tokens[index].kind == TOKEN_END && tokens[index].depth == depth))
        index++;
    return index;
}

void report_unexpected(Expected *expected) {
    Parser *parser = expected->parser;
    const Token *found = &parser->tokens.at[parser->current];
    if (found->kind != TOKEN_BAD)
        say_unexpected(expected, found);
    if (parser->errors_left == 0) { /* nobody reads on */
        parser->cursor = parser->tokens.count - 1;
        return;
    }
    int end = statement_end(parser, parser->current);
    if (end > parser->current)
        parser->cursor = end;
}
