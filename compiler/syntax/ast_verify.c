/* The invariants of ast.h, checked: a broken one is a mistake in the compiler. */
#include "ast.h"

#include <string.h>

typedef struct Verifier {
    int source;
    int32_t length;
} Verifier;

static void require(bool holds, const char *what, Span span) {
    if (!holds)
        BUG("AST: %s at byte %d", what, span.start);
}

static void verify_span(const Verifier *verifier, Span span) {
    require(span.source == verifier->source, "a node of another source", span);
    require(span.start >= 0 && span.start <= span.end && span.end <= verifier->length, "a span outside its source",
            span);
}

static void verify_name(Name name, Span span) {
    require(name && *name, "a name is missing", span);
    require(name_of(name) == name, "a name is not interned", span);
}

static void verify_expr(const Verifier *verifier, const Expr *expr, Span outer, int height);

static void verify_args(const Verifier *verifier, const Args *args, bool may_be_named, Span outer, int height) {
    require(args->count >= 0 && (args->count == 0 || args->at), "a list is missing", outer);
    for (int i = 0; i < args->count; i++) {
        const Arg *arg = &args->at[i];
        require(may_be_named || !arg->name, "an option where only expressions stand", outer);
        if (arg->name) {
            verify_name(arg->name, outer);
            verify_span(verifier, arg->name_span);
        }
        verify_expr(verifier, arg->value, outer, height);
    }
}

static void verify_binary(const Verifier *verifier, const Expr *expr) {
    const Expr *left = expr->binary.left, *right = expr->binary.right;
    require(left, "an operand is missing", expr->span);
    require((right == NULL) == (expr->kind == EXPR_UNARY), "an operand too many or too few", expr->span);
    require((expr->binary.op == OPERATOR_NEGATE) == (expr->kind == EXPR_UNARY), "a wrong operator", expr->span);
    require(expr->binary.op >= 0 && expr->binary.op <= OPERATOR_NEGATE, "an unknown operator", expr->span);
    verify_expr(verifier, left, expr->span, expr->height);
    if (right)
        verify_expr(verifier, right, expr->span, expr->height);
    if (expr->kind == EXPR_REPEAT)
        require(right->kind == EXPR_CALL, "repeat without a call", expr->span);
}

static void verify_expr(const Verifier *verifier, const Expr *expr, Span outer, int height) {
    require(expr, "an expression is missing", outer);
    verify_span(verifier, expr->span);
    require(expr->span.start >= outer.start && expr->span.end <= outer.end, "a part outside its whole", expr->span);
    require(expr->height >= 1 && expr->height < height && expr->height <= EXPR_HEIGHT_MAX, "a wrong height",
            expr->span);
    switch (expr->kind) {
    case EXPR_NUMBER:
        break;
    case EXPR_STRING:
        require(expr->string.bytes && strlen(expr->string.bytes) == (size_t)expr->string.length, "a wrong string",
                expr->span);
        break;
    case EXPR_NAME:
        verify_name(expr->name, expr->span);
        break;
    case EXPR_UNARY:
    case EXPR_BINARY:
    case EXPR_RANGE:
    case EXPR_REPEAT:
        verify_binary(verifier, expr);
        break;
    case EXPR_CALL:
        verify_expr(verifier, expr->call.callee, expr->span, expr->height);
        require(expr->call.callee->kind == EXPR_NAME || expr->call.callee->kind == EXPR_FIELD, "a callee is no name",
                expr->span);
        verify_args(verifier, &expr->call.args, true, expr->span, expr->height);
        break;
    case EXPR_INDEX:
        verify_expr(verifier, expr->index.base, expr->span, expr->height);
        require(expr->index.args.count > 0, "an empty index", expr->span);
        verify_args(verifier, &expr->index.args, false, expr->span, expr->height);
        break;
    case EXPR_FIELD:
        verify_expr(verifier, expr->field.base, expr->span, expr->height);
        verify_name(expr->field.name, expr->span);
        verify_span(verifier, expr->field.name_span);
        break;
    case EXPR_LIST:
        verify_args(verifier, &expr->list, false, expr->span, expr->height);
        break;
    default:
        require(false, "an unknown kind of expression", expr->span);
    }
}

enum { TOP = EXPR_HEIGHT_MAX + 1 };

static void verify_names(const Verifier *verifier, const NameList *names, int least, int most, Span span) {
    require(names->count >= least && names->count <= most, "too many or too few names", span);
    require(names->count == 0 || (names->at && names->spans), "a list is missing", span);
    for (int i = 0; i < names->count; i++) {
        verify_name(names->at[i], span);
        verify_span(verifier, names->spans[i]);
    }
}

static void verify_stmt(const Verifier *verifier, const Stmt *stmt) {
    require(stmt, "a statement is missing", SPAN_NONE);
    Span span = stmt->span;
    verify_span(verifier, span);
    bool lists = stmt->kind == STMT_BIND || stmt->kind == STMT_UPDATE, returns = stmt->kind == STMT_RETURN;
    require(stmt->kind >= STMT_BIND && stmt->kind <= STMT_GRAD, "an unknown kind of statement", span);
    verify_names(verifier, &stmt->names, returns ? 0 : 1, returns ? 0 : lists ? INT32_MAX : 1, span);
    require(stmt->dims.count == 0 || stmt->kind == STMT_PARAMETER || stmt->kind == STMT_STATE, "a shape where none stands", span);
    verify_args(verifier, &stmt->dims, false, span, TOP);
    require((stmt->value != NULL) == !returns, "a value too many or too few", span);
    if (stmt->value)
        verify_expr(verifier, stmt->value, span, TOP);
    require(stmt->values.count == 0 || returns || stmt->kind == STMT_UPDATE, "values where none stand", span);
    require(stmt->values.count > 0 || !returns, "return without a value", span);
    verify_args(verifier, &stmt->values, !returns, span, TOP);
    require((stmt->with != NULL) == (stmt->kind == STMT_UPDATE), "an optimizer where none stands", span);
    if (stmt->with)
        verify_expr(verifier, stmt->with, span, TOP);
}

static void verify_body(const Verifier *verifier, const Body *body, Span span) {
    require(body->count == 0 || body->at, "a list is missing", span);
    for (int i = 0; i < body->count; i++)
        verify_stmt(verifier, body->at[i]);
}

static void verify_params(const Verifier *verifier, const Params *params, Span span) {
    require(params->count == 0 || params->at, "a list is missing", span);
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->at[i];
        verify_name(param->name, span);
        verify_span(verifier, param->span);
        verify_args(verifier, &param->dims, false, span, TOP);
        if (param->type)
            verify_expr(verifier, param->type, span, TOP);
        if (param->fallback)
            verify_expr(verifier, param->fallback, span, TOP);
    }
}

static void verify_setting(const Verifier *verifier, const Setting *setting) {
    require(setting, "a setting is missing", SPAN_NONE);
    Span span = setting->span;
    verify_span(verifier, span);
    verify_span(verifier, setting->keyword_span);
    verify_name(setting->keyword, span);
    verify_args(verifier, &setting->args, true, span, TOP);
    require(setting->clause_count == 0 || setting->clauses, "a list is missing", span);
    for (int i = 0; i < setting->clause_count; i++) {
        const Clause *clause = &setting->clauses[i];
        verify_name(clause->word, clause->span);
        verify_span(verifier, clause->span);
        require(clause->args.count > 0, "an empty clause", clause->span);
        verify_args(verifier, &clause->args, true, clause->span, TOP);
    }
    require(setting->has_transforms == (setting->transforms.count > 0), "transforms without ':'", span);
    verify_args(verifier, &setting->transforms, true, span, TOP);
    require(setting->is_step || (setting->step_body.count == 0 && setting->step_params.count == 0),
            "a body without step", span);
    require(!setting->is_step || (setting->args.count == 0 && setting->clause_count == 0), "step with arguments", span);
    verify_params(verifier, &setting->step_params, span);
    verify_body(verifier, &setting->step_body, span);
}

static bool is_named(ItemKind kind) {
    return kind >= ITEM_PARAM && kind <= ITEM_OPTIMIZER;
}

static void verify_path(const Verifier *verifier, const Item *item) {
    bool has = item->kind == ITEM_USE || item->kind == ITEM_SAVE || item->kind == ITEM_LOAD;
    require(has ? item->path != NULL : item->kind == ITEM_DERIVED || !item->path, "a path too many or too few",
            item->span);
    if (!item->path)
        return;
    verify_expr(verifier, item->path, item->span, TOP);
    require(item->path->kind == EXPR_STRING, "a path is no string", item->span);
}

static void verify_value(const Verifier *verifier, const Item *item) {
    bool defines = item->kind == ITEM_DEF || item->kind == ITEM_LOSS || item->kind == ITEM_METRIC;
    bool constant = item->kind == ITEM_PARAM || item->kind == ITEM_CONST;
    require(defines || (item->value != NULL) == constant, "a value too many or too few", item->span);
    if (item->value)
        verify_expr(verifier, item->value, item->span, TOP);
    for (int i = 0; item->value && i < item->body.count; i++)
        require(item->body.at[i]->kind == STMT_GRAD, "an expression and a body", item->span);
}

static void verify_item(const Verifier *verifier, const Item *item) {
    require(item, "an item is missing", SPAN_NONE);
    Span span = item->span;
    require(item->kind >= ITEM_VERSION && item->kind <= ITEM_LOAD, "an unknown kind of item", span);
    verify_span(verifier, span);
    require((item->name != NULL) == is_named(item->kind), "a name too many or too few", span);
    if (item->name) {
        verify_name(item->name, span);
        verify_span(verifier, item->name_span);
    }
    bool models = item->kind >= ITEM_TRAIN;
    verify_names(verifier, &item->models, models ? 1 : 0, models ? INT32_MAX : 0, span);
    require((item->base != NULL) == (item->kind == ITEM_DERIVED), "a base too many or too few", span);
    require(!item->link || item->kind == ITEM_LOSS, "a link where none stands", span);
    require(!item->label || item->kind == ITEM_TRAIN || item->kind == ITEM_FINETUNE, "a label where none stands", span);
    require(!item->in || item->kind == ITEM_EVALUATE, "'in' where none stands", span);
    if (item->on)
        verify_expr(verifier, item->on, span, TOP);
    verify_path(verifier, item);
    verify_value(verifier, item);
    verify_params(verifier, &item->params, span);
    verify_body(verifier, &item->body, span);
    require(item->settings.count == 0 || item->settings.at, "a list is missing", span);
    for (int i = 0; i < item->settings.count; i++)
        verify_setting(verifier, item->settings.at[i]);
    verify_args(verifier, &item->args, false, span, TOP);
}

void ast_verify(const Ast *ast) {
    size_t length;
    source_text(ast->source, &length);
    Verifier verifier = {ast->source, (int32_t)length};
    require(ast->count == 0 || ast->at, "a list is missing", SPAN_NONE);
    for (int i = 0; i < ast->count; i++)
        verify_item(&verifier, ast->at[i]);
}
