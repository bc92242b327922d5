/* From the text of a source to its AST. */
#include "parser.h"

#include <string.h>

#include "grammar.h"

static bool is_short_enough(const Parser *parser, size_t length) {
    if (length <= SOURCE_LENGTH_MAX)
        return true;
    error_at((Span){parser->source, 0, 1}, "this program is %zu bytes long; at most %d can be read", length,
             SOURCE_LENGTH_MAX);
    return false;
}

static void parse_text(Parser *parser) {
    parser->errors_left = STAGE_ERRORS_MAX;
    check_characters(parser);
    parser->errors_left = STAGE_ERRORS_MAX;
    lex_source(parser);
    parser->errors_left = STAGE_ERRORS_MAX;
    match_brackets(parser);
    end_statements(parser);
    find_keywords(parser);
    parser->errors_left = STAGE_ERRORS_MAX;
    grammar_parse(parser); /* says itself what is wrong */
    report_errors(parser);
}

Ast *parse_source(Arena *arena, int source) {
    size_t length;
    Parser parser = {.arena = arena, .source = source, .text = source_text(source, &length)};
    if (is_short_enough(&parser, length)) {
        parser.length = (int32_t)length;
        parser.scratch = arena_new();
        parse_text(&parser);
        arena_free(parser.scratch);
    }
    Ast *ast = arena_new_of(arena, Ast);
    ast->source = source;
    ast->at = parser.items.at;
    ast->count = parser.items.count;
    return ast;
}
