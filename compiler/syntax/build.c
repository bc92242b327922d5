/* Nodes of the AST. */
#include "parser.h"

Args args_of(ArgList list) {
    return (Args){list.at, list.count};
}

Params params_of(ParamList list) {
    return (Params){list.at, list.count};
}

Body body_of(StmtList list) {
    return (Body){list.at, list.count};
}

NameList names_of(NamesList list) {
    return (NameList){list.names.at, list.spans.at, list.names.count};
}

Settings settings_of(SettingList list) {
    return (Settings){list.at, list.count};
}

NamesList add_name(Parser *parser, NamesList list, Name name, Span span) {
    *LIST_ADD(parser->arena, &list.names) = name;
    *LIST_ADD(parser->arena, &list.spans) = span;
    return list;
}

static Expr *expr_new(Parser *parser, ExprKind kind, Span span) {
    Expr *expr = arena_new_of(parser->arena, Expr);
    expr->kind = kind;
    expr->span = span;
    expr->height = 1;
    return expr;
}

/* Makes `expr` higher than its part. One that is too high loses its parts, which are an error then. */
static void rest_on(Expr *expr, const Expr *part) {
    if (part && part->height >= expr->height)
        expr->height = part->height + 1;
}

static void rest_on_all(Expr *expr, Args parts) {
    for (int i = 0; i < parts.count; i++)
        rest_on(expr, parts.at[i].value);
}

static Expr *checked(Parser *parser, Expr *expr) {
    if (expr->height <= EXPR_HEIGHT_MAX)
        return expr;
    syntax_error(parser, expr->span, "this expression has more than %d levels; give a part of it a name",
                 EXPR_HEIGHT_MAX);
    return expr_number(parser, expr->span, 0);
}

Expr *expr_number(Parser *parser, Span span, double number) {
    Expr *expr = expr_new(parser, EXPR_NUMBER, span);
    expr->number = number;
    return expr;
}

Expr *expr_string(Parser *parser, Span span, const char *bytes, int32_t length) {
    Expr *expr = expr_new(parser, EXPR_STRING, span);
    expr->string.bytes = bytes;
    expr->string.length = length;
    return expr;
}

Expr *expr_name(Parser *parser, Span span, Name name) {
    Expr *expr = expr_new(parser, EXPR_NAME, span);
    expr->name = name;
    return expr;
}

Expr *expr_binary(Parser *parser, Span span, ExprKind kind, Operator op, Expr *left, Expr *right) {
    Expr *expr = expr_new(parser, kind, span);
    expr->binary.op = op;
    expr->binary.left = left;
    expr->binary.right = right;
    rest_on(expr, left);
    rest_on(expr, right);
    return checked(parser, expr);
}

Expr *expr_call(Parser *parser, Span span, Expr *callee, ArgList args) {
    if (callee->kind != EXPR_NAME && callee->kind != EXPR_FIELD) {
        syntax_error(parser, callee->span, "only a name can be called; give this a name first");
        return expr_number(parser, span, 0);
    }
    Expr *expr = expr_new(parser, EXPR_CALL, span);
    expr->call.callee = callee;
    expr->call.args = args_of(args);
    rest_on(expr, callee);
    rest_on_all(expr, expr->call.args);
    return checked(parser, expr);
}

Expr *expr_index(Parser *parser, Span span, Expr *base, ArgList args) {
    Expr *expr = expr_new(parser, EXPR_INDEX, span);
    expr->index.base = base;
    expr->index.args = args_of(args);
    rest_on(expr, base);
    rest_on_all(expr, expr->index.args);
    return checked(parser, expr);
}

Expr *expr_field(Parser *parser, Span span, Expr *base, Name name, Span name_span) {
    Expr *expr = expr_new(parser, EXPR_FIELD, span);
    expr->field.base = base;
    expr->field.name = name;
    expr->field.name_span = name_span;
    rest_on(expr, base);
    return checked(parser, expr);
}

Expr *expr_list(Parser *parser, Span span, ArgList elements) {
    Expr *expr = expr_new(parser, EXPR_LIST, span);
    expr->list = args_of(elements);
    rest_on_all(expr, expr->list);
    return checked(parser, expr);
}

Stmt *stmt_new(Parser *parser, StmtKind kind, Span span, NamesList names, Expr *value) {
    Stmt *stmt = arena_new_of(parser->arena, Stmt);
    stmt->kind = kind;
    stmt->span = span;
    stmt->names = names_of(names);
    stmt->value = value;
    return stmt;
}

Setting *setting_new(Parser *parser, Span span, Name keyword, Span keyword_span) {
    Setting *setting = arena_new_of(parser->arena, Setting);
    setting->span = span;
    setting->keyword = keyword;
    setting->keyword_span = keyword_span;
    return setting;
}

Item *item_new(Parser *parser, ItemKind kind, Span span, Name name, Span name_span) {
    Item *item = arena_new_of(parser->arena, Item);
    item->kind = kind;
    item->span = span;
    item->name = name;
    item->name_span = name_span;
    return item;
}
