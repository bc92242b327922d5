/* Runs the lexer over a source and gives each lexeme its value. */
#include "parser.h"

#include <stdlib.h>

#include "grammar.h"
#include "lexer.h"

static void report_number(Parser *parser, Span span) {
    const char *at = parser->text + span.start;
    int length = span.end - span.start > 40 ? 40 : span.end - span.start;
    if (*at == '.')
        lexical_error(parser, span, "a number starts with a digit: write 0%.*s", length, at);
    else
        lexical_error(parser, span, "'%.*s' is no number; a name that starts with a digit stands in double quotes",
                      length, at);
}

static void report_foreign(Parser *parser, Span span) {
    switch (parser->text[span.start]) {
    case '*':
        lexical_error(parser, span, "unknown operator '**'; a power is written '^'");
        break;
    case '/':
        lexical_error(parser, span, "unknown operator '//'; a comment starts with '#'");
        break;
    default:
        lexical_error(parser, span, "unknown operator '%.2s'", parser->text + span.start);
    }
}

static Token raw_token(Parser *parser, int kind) {
    Span span = {parser->source, parser->lexed_start, parser->lexed_end};
    Token token = {.kind = kind, .span = span, .match = -1};
    switch (kind) {
    case TOKEN_NAME:
        token.text = name_slice(parser->text + span.start, (size_t)(span.end - span.start));
        break;
    case TOKEN_NEWLINE:
        if (span.start > 0 && parser->text[span.start - 1] == '\r')
            token.span.start--; /* CR LF is one end of a line */
        break;
    case TOKEN_NUMBER:
        return number_token(parser, span);
    case TOKEN_STRING:
        return string_token(parser, span, true);
    case TOKEN_OPEN_STRING:
        return string_token(parser, span, false);
    case TOKEN_BAD_NUMBER:
        report_number(parser, span);
        token.kind = TOKEN_NUMBER;
        break;
    case TOKEN_FOREIGN:
        report_foreign(parser, span);
        token.kind = TOKEN_BAD;
        break;
    case TOKEN_BAD:
        report_character(parser, span);
        break;
    default:
        break;
    }
    return token;
}

void lex_source(Parser *parser) {
    yyscan_t scanner;
    if (lexer_lex_init_extra(parser, &scanner) != 0) {
        fprintf(stderr, "bpc: error: out of memory\n");
        exit(1);
    }
    YY_BUFFER_STATE buffer = lexer__scan_bytes(parser->text, parser->length, scanner);
    int kind;
    while ((kind = lexer_lex(scanner)) != 0) {
        Token token = raw_token(parser, kind);
        /* The other bytes of an unknown character were reported with its first. */
        bool repeated = token.kind == TOKEN_BAD && parser->tokens.count &&
                        parser->tokens.at[parser->tokens.count - 1].kind == TOKEN_BAD;
        if (!repeated)
            *LIST_ADD(parser->scratch, &parser->tokens) = token;
    }
    lexer__delete_buffer(buffer, scanner);
    lexer_lex_destroy(scanner);
}
