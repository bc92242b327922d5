/* Which words are keywords. Every one of them is also a name; what it is depends on where it stands:
   - a word that starts a statement, in the kind of block whose statements start so;
   - `on`, `from`, `with` and their like outside brackets after an operand, but not as second word of a statement;
   - `repeat` before a count and a call. */
#include "parser.h"

#include <string.h>

#include "grammar.h"

typedef struct Word {
    const char *text;
    int kind;
} Word;

static const Word file_words[] = {
    {"bpc", TOKEN_BPC},
    {"use", TOKEN_USE},
    {"param", TOKEN_PARAM},
    {"const", TOKEN_CONST},
    {"data", TOKEN_DATA},
    {"model", TOKEN_MODEL},
    {"block", TOKEN_BLOCK},
    {"def", TOKEN_DEF},
    {"loss", TOKEN_LOSS},
    {"metric", TOKEN_METRIC},
    {"optimizer", TOKEN_OPTIMIZER},
    {"train", TOKEN_TRAIN},
    {"finetune", TOKEN_FINETUNE},
    {"evaluate", TOKEN_EVALUATE},
    {"save", TOKEN_SAVE},
    {"load", TOKEN_LOAD},
    {NULL, 0},
};
static const Word code_words[] = {
    {"return", TOKEN_RETURN},
    {"replace", TOKEN_REPLACE},
    {"parameter", TOKEN_PARAMETER},
    {"state", TOKEN_STATE},
    {"update", TOKEN_UPDATE},
    {"grad", TOKEN_GRAD},
    {NULL, 0},
};
static const Word infix_words[] = {
    {"on", TOKEN_ON},
    {"to", TOKEN_TO},
    {"from", TOKEN_FROM},
    {"as", TOKEN_AS},
    {"in", TOKEN_IN},
    {"for", TOKEN_FOR},
    {"except", TOKEN_EXCEPT},
    {"link", TOKEN_LINK},
    {"with", TOKEN_WITH},
    {"minimizing", TOKEN_MINIMIZING},
    {NULL, 0},
};

static int kind_in(const Word *words, const char *text) {
    for (; words->text; words++)
        if (strcmp(words->text, text) == 0)
            return words->kind;
    return TOKEN_NAME;
}

bool ends_operand(int kind) {
    return kind == TOKEN_NAME || kind == TOKEN_NUMBER || kind == TOKEN_STRING || kind == ')' || kind == ']';
}

typedef struct Words {
    const TokenList *in; /* as the layout left them */
    TokenList out;
    LIST(Within) within; /* of the open braces */
    int first;           /* index in `out` where the statement starts */
    int callee;          /* index in `in` of what the last `repeat` repeats: a name, whatever it is called */
    int brackets;
} Words;

static Within within_now(const Words *words) {
    return words->within.count ? words->within.at[words->within.count - 1] : WITHIN_FILE;
}

static int kind_at(const Words *words, int index) {
    return index < words->in->count ? words->in->at[index].kind : TOKEN_YYEOF;
}

/* `state = 1`, `step, a = f(x)`: the word is a name that something is done to. */
static bool is_used_as_name(int next) {
    return next == '=' || next == ',' || next == '.' || next == '~' || next == TOKEN_ASSIGN;
}

static int first_word_kind(const Words *words, const char *text, int next) {
    switch (within_now(words)) {
    case WITHIN_FILE:
        return kind_in(file_words, text);
    case WITHIN_CODE:
        return is_used_as_name(next) ? TOKEN_NAME : kind_in(code_words, text);
    case WITHIN_SETTINGS:
        return strcmp(text, "step") == 0 && (next == '(' || next == '{') ? TOKEN_STEP : TOKEN_NAME;
    case WITHIN_LIST:
        break;
    }
    return TOKEN_NAME;
}

enum { COUNT_TOKENS_MAX = 200 }; /* of a count in brackets: no longer one is looked at */

static bool starts_call(const Words *words, int index) {
    int next = kind_at(words, index + 1);
    return kind_at(words, index) == TOKEN_NAME && (next == '(' || next == '.');
}

/* repeat 20 Block(…), repeat n Block(…), repeat (n + 1) Block(…): the index of what is repeated, or 0 where the word at
   `index` is a name like any other. */
static int repeated_callee(const Words *words, int index) {
    int next = kind_at(words, index + 1), after = index + 2;
    if (next == TOKEN_NUMBER)
        return after;
    if (next == '(') {
        int last = words->in->at[index + 1].unmatched ? after : after + COUNT_TOKENS_MAX;
        for (int depth = 1; depth > 0 && after < last && kind_at(words, after) != TOKEN_END; after++)
            depth += kind_at(words, after) == '(' ? 1 : kind_at(words, after) == ')' ? -1 : 0;
        return kind_at(words, after - 1) == ')' && starts_call(words, after) ? after : 0;
    }
    /* `update repeat with f(1)`: `with` is no count. */
    bool counts = next == TOKEN_NAME && kind_in(infix_words, words->in->at[index + 1].text) == TOKEN_NAME;
    return counts && starts_call(words, after) ? after : 0;
}

static int word_kind(Words *words, int index) {
    const char *text = words->in->at[index].text;
    const Token *out = words->out.at;
    int before = words->out.count;
    if (before == words->first)
        return first_word_kind(words, text, kind_at(words, index + 1));
    int last = out[before - 1].kind;
    if (last == '.' || index == words->callee)
        return TOKEN_NAME;
    if (!ends_operand(last)) {
        int callee = strcmp(text, "repeat") == 0 ? repeated_callee(words, index) : 0;
        if (callee)
            words->callee = callee;
        return callee ? TOKEN_REPEAT : TOKEN_NAME;
    }
    bool second = before - 1 == words->first;
    if (words->brackets > 0 || second)
        return TOKEN_NAME;
    if (strcmp(text, "grad") == 0 && out[words->first].kind == TOKEN_DEF)
        return TOKEN_GRAD;
    return within_now(words) == WITHIN_LIST ? TOKEN_NAME : kind_in(infix_words, text);
}

static Within within_of(int first_kind) {
    switch (first_kind) {
    case TOKEN_DATA:
    case TOKEN_TRAIN:
    case TOKEN_FINETUNE:
        return WITHIN_SETTINGS;
    case TOKEN_EVALUATE:
        return WITHIN_LIST;
    default:
        return WITHIN_CODE;
    }
}

static void add_token(Parser *parser, Words *words, Token token) {
    token.within = within_now(words);
    token.depth = words->within.count;
    int last = words->out.count ? words->out.at[words->out.count - 1].kind : TOKEN_END;
    bool starts = last == TOKEN_END || last == '{';
    if (token.kind == TOKEN_END && starts)
        return;
    *LIST_ADD(parser->scratch, &words->out) = token;
    if (token.kind == '{')
        *LIST_ADD(parser->scratch, &words->within) = within_of(words->out.at[words->first].kind);
    if (token.kind == '}' && words->within.count)
        words->within.count--;
    if (token.kind == '{' || token.kind == TOKEN_END) {
        words->first = words->out.count;
        words->brackets = 0;
    }
}

void find_keywords(Parser *parser) {
    Words words = {.in = &parser->tokens};
    for (int i = 0; i < parser->tokens.count; i++) {
        Token token = parser->tokens.at[i];
        if (token.kind == TOKEN_NAME)
            token.kind = word_kind(&words, i);
        if (!token.unmatched)
            words.brackets += (token.kind == '(' || token.kind == '[') - (token.kind == ')' || token.kind == ']');
        /* In a list a comma ends an element, as a newline does. */
        bool separates = token.kind == ',' && within_now(&words) == WITHIN_LIST && words.brackets == 0;
        if (separates && words.out.count > words.first)
            token.kind = TOKEN_END;
        add_token(parser, &words, token);
    }
    parser->tokens = words.out;
}
