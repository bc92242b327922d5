/* What the lexer, the layout of tokens and the grammar share. Nobody else includes it.

   bytes --lexer.l--> raw tokens --layout.c--> statements --words.c--> keywords --grammar.y--> AST
   Brackets are matched, newlines become ends of statements and names become keywords before the grammar sees a token,
   so each of these rules is written once, in one place, and the grammar has no conflict. */
#ifndef BPC_PARSER_H
#define BPC_PARSER_H

#include "ast.h"

/* Where a token stands, which decides what a word means there. */
typedef enum Within {
    WITHIN_FILE,
    WITHIN_SETTINGS, /* data, train, finetune */
    WITHIN_CODE,     /* model, block, def, loss, metric, optimizer, step */
    WITHIN_LIST,     /* evaluate */
} Within;

typedef struct Token {
    int kind;
    Span span;
    int match;        /* brackets, while raw: the index of the other one, or -1 */
    bool too_deep;    /* a bracket within too many others: the grammar goes no further */
    bool unmatched;   /* a bracket without the other one */
    bool made;        /* written by nobody: an end before `}`, a `}` that was forgotten */
    Within within;    /* set with the keywords */
    int depth;        /* open braces before this token */
    double number;    /* NUMBER */
    const char *text; /* NAME and keywords: interned; STRING: its bytes, `length` of them */
    int32_t length;
} Token;

typedef LIST(Token) TokenList;

typedef struct SyntaxError {
    Span span, note_span;
    const char *message, *note; /* note: NULL where there is none */
    bool lexical;               /* on one line a lexical error hides what the grammar says */
    int line, order;
} SyntaxError;

typedef struct Parser {
    Arena *arena;   /* of the AST */
    Arena *scratch; /* freed after parsing */
    int source;
    const char *text;
    int32_t length;
    int32_t lexed_start, lexed_end; /* the lexeme in hand */
    TokenList tokens;
    int current, cursor; /* the token the grammar has in hand, and the next one it is given */
    LIST(SyntaxError) errors;
    int errors_left;  /* how many this stage may still add: nobody reads a million */
    bool error_added; /* the last error was: then its note is too */
    LIST(Item *) items;
} Parser;

enum { BRACKET_DEPTH_MAX = 200, STAGE_ERRORS_MAX = 1000, SOURCE_LENGTH_MAX = 16 * 1024 * 1024 };

void syntax_error(Parser *parser, Span span, const char *format, ...) BPC_PRINTF(3, 4);
void lexical_error(Parser *parser, Span span, const char *format, ...) BPC_PRINTF(3, 4);
/* The note belongs to the error before it. */
void syntax_note(Parser *parser, Span span, const char *format, ...) BPC_PRINTF(3, 4);
void report_errors(Parser *parser);

/* lexer.l and characters.c: the raw tokens; a newline is a token of its own. */
void lex_source(Parser *parser);
void check_characters(Parser *parser);
Token number_token(Parser *parser, Span span);
Token string_token(Parser *parser, Span span, bool closed);
void report_character(Parser *parser, Span span);

void match_brackets(Parser *parser);
void end_statements(Parser *parser);
void find_keywords(Parser *parser);

/* A token as a message names it: 'fc1', the end of the line. */
const char *token_shown(Parser *parser, const Token *token);
/* A name, number, string or closing bracket: what an operator or `from` and the like may follow. */
bool ends_operand(int kind);

/* ---- Building the AST -------------------------------------------------------------------------------------------- */

typedef LIST(Arg) ArgList;
typedef LIST(Param) ParamList;
typedef LIST(Clause) ClauseList;
typedef LIST(Stmt *) StmtList;
typedef LIST(Setting *) SettingList;
typedef struct NamesList {
    LIST(Name) names;
    LIST(Span) spans;
} NamesList;

Args args_of(ArgList list);
Params params_of(ParamList list);
Body body_of(StmtList list);
NameList names_of(NamesList list);
Settings settings_of(SettingList list);
NamesList add_name(Parser *parser, NamesList list, Name name, Span span);

Expr *expr_number(Parser *parser, Span span, double number);
Expr *expr_string(Parser *parser, Span span, const char *bytes, int32_t length);
Expr *expr_name(Parser *parser, Span span, Name name);
/* UNARY (right NULL), BINARY, RANGE, REPEAT. */
Expr *expr_binary(Parser *parser, Span span, ExprKind kind, Operator op, Expr *left, Expr *right);
Expr *expr_call(Parser *parser, Span span, Expr *callee, ArgList args);
Expr *expr_index(Parser *parser, Span span, Expr *base, ArgList args);
Expr *expr_field(Parser *parser, Span span, Expr *base, Name name, Span name_span);
Expr *expr_list(Parser *parser, Span span, ArgList elements);
Stmt *stmt_new(Parser *parser, StmtKind kind, Span span, NamesList names, Expr *value);
Setting *setting_new(Parser *parser, Span span, Name keyword, Span keyword_span);
Item *item_new(Parser *parser, ItemKind kind, Span span, Name name, Span name_span);

#endif
