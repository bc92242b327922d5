/* The layout of a source: which bracket belongs to which, and where statements end. */
#include "parser.h"

#include <string.h>

#include "grammar.h"

typedef struct Brackets {
    LIST(int) open;    /* indices of tokens */
    int round, square; /* open since the last brace: brackets never hold a brace */
    bool deep;         /* said once */
} Brackets;

static int top_of(const Brackets *brackets) {
    return brackets->open.count ? brackets->open.at[brackets->open.count - 1] : -1;
}

static void push(Parser *parser, Brackets *brackets, int index) {
    Token *token = &parser->tokens.at[index];
    *LIST_ADD(parser->scratch, &brackets->open) = index;
    if (token->kind == '(')
        brackets->round++;
    if (token->kind == '[')
        brackets->square++;
    if (brackets->round + brackets->square <= BRACKET_DEPTH_MAX)
        return;
    if (!brackets->deep)
        syntax_error(parser, token->span, "more than %d brackets within one another", BRACKET_DEPTH_MAX);
    token->too_deep = !brackets->deep;
    brackets->deep = true;
}

static void pop_unmatched(Parser *parser, Brackets *brackets) {
    Token *token = &parser->tokens.at[top_of(brackets)];
    token->unmatched = true;
    brackets->open.count--;
    if (token->kind == '(')
        brackets->round--;
    if (token->kind == '[')
        brackets->square--;
}

static void close_with(Parser *parser, Brackets *brackets, int index) {
    Token *tokens = parser->tokens.at, *token = &tokens[index];
    int wanted = token->kind == ')' ? '(' : token->kind == ']' ? '[' : '{';
    bool exists = wanted == '(' ? brackets->round > 0 : wanted == '[' ? brackets->square > 0 : true;
    while (exists && brackets->open.count && tokens[top_of(brackets)].kind != wanted)
        pop_unmatched(parser, brackets);
    if (!exists || !brackets->open.count) {
        token->unmatched = true;
        return;
    }
    int opening = top_of(brackets);
    brackets->open.count--;
    if (wanted == '(')
        brackets->round--;
    if (wanted == '[')
        brackets->square--;
    tokens[opening].match = index;
    token->match = opening;
}

/* A line that starts in the first column with `model Name` and the like: if a brace is still open there, it was
   forgotten above. It is asked only for files in which a brace is never closed. */
static bool starts_item(const Parser *parser, int index) {
    static const char *const words[] = {"data",     "model", "block", "def",   "train", "finetune",
                                        "evaluate", "save",  "load",  "param", "const", "use"};
    const TokenList *tokens = &parser->tokens;
    const Token *token = &tokens->at[index];
    if (token->kind != TOKEN_NAME || index + 1 >= tokens->count)
        return false;
    if (token->span.start > 0 && parser->text[token->span.start - 1] != '\n')
        return false;
    int next = tokens->at[index + 1].kind;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(token->text, words[i]) == 0)
            return next == (strcmp(words[i], "use") == 0 ? TOKEN_STRING : TOKEN_NAME);
    return false;
}

static void close_brace(Parser *parser, TokenList *out, const Token *opening, const Token *before) {
    if (before) {
        syntax_error(parser, before->span, "expected '}' before %s", token_shown(parser, before));
    } else {
        int32_t end = out->at[out->count - 1].span.end;
        syntax_error(parser, (Span){parser->source, end - 1, end}, "expected '}', found the end of the file");
    }
    syntax_note(parser, opening->span, "this '{' is never closed");
    int32_t at = before ? before->span.start : out->at[out->count - 1].span.end;
    Span span = {parser->source, at, at};
    *LIST_ADD(parser->scratch, out) = (Token){.kind = '}', .span = span, .match = 0, .made = true};
}

/* Writes the forgotten `}` where they seem to belong. The indices `match` of brackets move, but stay those of a match.
 */
static void close_braces(Parser *parser) {
    TokenList out = {0};
    LIST(int) open = {0};
    for (int i = 0; i < parser->tokens.count; i++) {
        const Token *token = &parser->tokens.at[i];
        if (starts_item(parser, i))
            for (; open.count && parser->tokens.at[open.at[open.count - 1]].unmatched; open.count--)
                close_brace(parser, &out, &parser->tokens.at[open.at[open.count - 1]], token);
        if (token->kind == '{')
            *LIST_ADD(parser->scratch, &open) = i;
        if (token->kind == '}' && open.count)
            open.count--;
        *LIST_ADD(parser->scratch, &out) = *token;
    }
    while (out.count && out.at[out.count - 1].kind == TOKEN_NEWLINE)
        out.count--;
    for (; open.count; open.count--)
        close_brace(parser, &out, &parser->tokens.at[open.at[open.count - 1]], NULL);
    parser->tokens = out;
}

void match_brackets(Parser *parser) {
    Brackets brackets = {0};
    for (int i = 0; i < parser->tokens.count; i++) {
        switch (parser->tokens.at[i].kind) {
        case '{':
            while (brackets.round + brackets.square)
                pop_unmatched(parser, &brackets);
            push(parser, &brackets, i);
            break;
        case '(':
        case '[':
            push(parser, &brackets, i);
            break;
        case ')':
        case ']':
        case '}':
            close_with(parser, &brackets, i);
            break;
        default:
            break;
        }
    }
    bool brace_open = false;
    for (; brackets.open.count; pop_unmatched(parser, &brackets))
        brace_open |= parser->tokens.at[top_of(&brackets)].kind == '{';
    if (brace_open)
        close_braces(parser);
}

/* ---- The ends of statements -------------------------------------------------------------------------------------- */

/* After these a statement goes on in the next line. */
static bool goes_on_after(int kind) {
    switch (kind) {
    case '+':
    case '-':
    case '*':
    case '/':
    case '@':
    case '^':
    case '<':
    case '>':
    case '=':
    case '~':
    case ':':
    case ',':
    case '.':
    case TOKEN_RANGE:
    case TOKEN_ASSIGN:
    case TOKEN_LESS_EQUAL:
    case TOKEN_GREATER_EQUAL:
    case TOKEN_EQUAL:
    case TOKEN_NOT_EQUAL:
        return true;
    default:
        return false;
    }
}

static bool is_word(const Token *token, const char *word) {
    return token->kind == TOKEN_NAME && strcmp(token->text, word) == 0;
}

/* The `grad x = …` of a def may stand on a line of its own: no statement of a file starts so. */
static bool is_grad_line(const Parser *parser, int index) {
    const Token *at = parser->tokens.at + index;
    return index + 2 < parser->tokens.count && is_word(&at[0], "grad") && at[1].kind == TOKEN_NAME && at[2].kind == '=';
}

typedef struct Layout {
    TokenList out;
    int brackets, braces; /* open, of those that are closed some day */
    bool in_def;          /* the statement is one of the file and starts with `def` */
} Layout;

static bool newline_ends(const Parser *parser, const Layout *layout, int index) {
    int last = layout->out.at[layout->out.count - 1].kind;
    if (goes_on_after(last))
        return false;
    while (index < parser->tokens.count && parser->tokens.at[index].kind == TOKEN_NEWLINE)
        index++;
    if (index == parser->tokens.count)
        return true;
    if (parser->tokens.at[index].kind == '{')
        return false; /* a block may open on the next line */
    return !(layout->in_def && is_grad_line(parser, index));
}

static void end_statement(Parser *parser, Layout *layout, Span span, bool made) {
    if (!layout->out.count)
        return;
    int last = layout->out.at[layout->out.count - 1].kind;
    if (last == TOKEN_END || last == '{')
        return;
    *LIST_ADD(parser->scratch, &layout->out) = (Token){.kind = TOKEN_END, .span = span, .match = -1, .made = made};
    layout->in_def = false;
}

static void lay_token(Parser *parser, Layout *layout, int index) {
    const Token *token = &parser->tokens.at[index];
    Token *last = layout->out.count ? &layout->out.at[layout->out.count - 1] : NULL;
    if (token->kind == TOKEN_NEWLINE) {
        if (layout->brackets == 0 && last && newline_ends(parser, layout, index))
            end_statement(parser, layout, token->span, false);
        return;
    }
    if (token->kind == TOKEN_SEMICOLON && layout->brackets == 0) {
        end_statement(parser, layout, token->span, false);
        return;
    }
    if (token->kind == '}') {
        end_statement(parser, layout, token->span, true);
        if (layout->braces > 0)
            layout->braces--;
    }
    if (token->kind == '{') {
        layout->braces++;
        layout->in_def = false;
    }
    if ((token->kind == '(' || token->kind == '[') && !token->unmatched)
        layout->brackets++;
    if ((token->kind == ')' || token->kind == ']') && !token->unmatched)
        layout->brackets--;
    if (!last || last->kind == TOKEN_END)
        layout->in_def = layout->braces == 0 && is_word(token, "def");
    *LIST_ADD(parser->scratch, &layout->out) = *token;
    if (token->too_deep)
        layout->out.at[layout->out.count - 1].kind = TOKEN_BAD;
    if (token->kind == '}')
        end_statement(parser, layout, token->span, true);
}

void end_statements(Parser *parser) {
    Layout layout = {0};
    for (int i = 0; i < parser->tokens.count; i++)
        lay_token(parser, &layout, i);
    int32_t end = parser->tokens.count && layout.out.count ? layout.out.at[layout.out.count - 1].span.end : 0;
    Span span = {parser->source, end > 0 ? end - 1 : 0, end};
    end_statement(parser, &layout, span, true);
    *LIST_ADD(parser->scratch, &layout.out) = (Token){.kind = TOKEN_YYEOF, .span = span, .match = -1};
    parser->tokens = layout.out;
}
