/* The AST as text: a tree, a node a line, and an expression as it would be written. */
#include "ast.h"

#include <string.h>

const char *operator_spelling(Operator op) {
    static const char *const spellings[] = {
        [OPERATOR_ADD] = "+",      [OPERATOR_SUBTRACT] = "-",
        [OPERATOR_MULTIPLY] = "*", [OPERATOR_DIVIDE] = "/",
        [OPERATOR_MATMUL] = "@",   [OPERATOR_POWER] = "^",
        [OPERATOR_LESS] = "<",     [OPERATOR_LESS_EQUAL] = "<=",
        [OPERATOR_GREATER] = ">",  [OPERATOR_GREATER_EQUAL] = ">=",
        [OPERATOR_EQUAL] = "==",   [OPERATOR_NOT_EQUAL] = "!=",
        [OPERATOR_NEGATE] = "-",
    };
    return spellings[op];
}

/* ---- Expressions as they are written ----------------------------------------------------------------------------- */

/* How tightly an expression binds, as grammar.y has it. */
enum {
    BINDS_COMPARISON = 1,
    BINDS_RANGE,
    BINDS_SUM,
    BINDS_PRODUCT,
    BINDS_NEGATION,
    BINDS_POWER,
    BINDS_CALL,
};

static int binding_of(const Expr *expr) {
    switch (expr->kind) {
    case EXPR_RANGE:
        return BINDS_RANGE;
    case EXPR_UNARY:
    case EXPR_REPEAT:
        return BINDS_NEGATION;
    case EXPR_NUMBER:
        return expr->number < 0 ? BINDS_NEGATION : BINDS_CALL;
    case EXPR_BINARY:
        break;
    default:
        return BINDS_CALL;
    }
    switch (expr->binary.op) {
    case OPERATOR_ADD:
    case OPERATOR_SUBTRACT:
        return BINDS_SUM;
    case OPERATOR_MULTIPLY:
    case OPERATOR_DIVIDE:
    case OPERATOR_MATMUL:
        return BINDS_PRODUCT;
    case OPERATOR_POWER:
        return BINDS_POWER;
    default:
        return BINDS_COMPARISON;
    }
}

static void print_at_least(const Expr *expr, int binding, Text *out) {
    bool bracketed = binding_of(expr) < binding;
    if (bracketed)
        text_add(out, "(");
    expr_print(expr, out);
    if (bracketed)
        text_add(out, ")");
}

static void print_args(const Args *args, Text *out) {
    for (int i = 0; i < args->count; i++) {
        if (i > 0)
            text_add(out, ", ");
        if (args->at[i].name)
            text_printf(out, "%s = ", args->at[i].name);
        expr_print(args->at[i].value, out);
    }
}

static void print_string(const char *bytes, Text *out) {
    text_add(out, "\"");
    for (; *bytes; bytes++) {
        switch (*bytes) {
        case '"':
            text_add(out, "\\\"");
            break;
        case '\\':
            text_add(out, "\\\\");
            break;
        case '\n':
            text_add(out, "\\n");
            break;
        case '\t':
            text_add(out, "\\t");
            break;
        default:
            text_add_bytes(out, bytes, 1);
        }
    }
    text_add(out, "\"");
}

/* After a dot: in quotes where it is no plain name. */
static void print_name(Name name, Text *out) {
    bool plain = !(name[0] >= '0' && name[0] <= '9') && name[0] != '\0';
    for (const char *at = name; *at; at++)
        plain = plain && (*at == '_' || (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') ||
                          (*at >= 'a' && *at <= 'z'));
    if (plain)
        text_add(out, name);
    else
        print_string(name, out);
}

static void print_binary(const Expr *expr, Text *out) {
    int binding = binding_of(expr);
    const Expr *left = expr->binary.left, *right = expr->binary.right;
    if (binding == BINDS_POWER) {
        print_at_least(left, BINDS_CALL, out);
        text_add(out, "^");
        print_at_least(right, BINDS_NEGATION, out); /* 2^-1 and 2^3^2 need none */
        return;
    }
    bool chains = binding == BINDS_SUM || binding == BINDS_PRODUCT;
    print_at_least(left, chains ? binding : binding + 1, out);
    if (expr->kind == EXPR_RANGE)
        text_add(out, "..");
    else
        text_printf(out, " %s ", operator_spelling(expr->binary.op));
    print_at_least(right, binding + 1, out);
}

static void print_repeat(const Expr *expr, Text *out) {
    const Expr *count = expr->binary.left;
    bool bare = count->kind == EXPR_NUMBER || count->kind == EXPR_NAME;
    text_add(out, bare ? "repeat " : "repeat (");
    expr_print(count, out);
    text_add(out, bare ? " " : ") ");
    expr_print(expr->binary.right, out);
}

void expr_print(const Expr *expr, Text *out) {
    switch (expr->kind) {
    case EXPR_NUMBER:
        text_number(out, expr->number);
        break;
    case EXPR_STRING:
        print_string(expr->string.bytes, out);
        break;
    case EXPR_NAME:
        text_add(out, expr->name);
        break;
    case EXPR_UNARY:
        text_add(out, "-");
        print_at_least(expr->binary.left, BINDS_NEGATION, out);
        break;
    case EXPR_BINARY:
    case EXPR_RANGE:
        print_binary(expr, out);
        break;
    case EXPR_CALL:
        print_at_least(expr->call.callee, BINDS_CALL, out);
        text_add(out, "(");
        print_args(&expr->call.args, out);
        text_add(out, ")");
        break;
    case EXPR_INDEX:
        print_at_least(expr->index.base, BINDS_CALL, out);
        text_add(out, "[");
        print_args(&expr->index.args, out);
        text_add(out, "]");
        break;
    case EXPR_FIELD:
        print_at_least(expr->field.base, BINDS_CALL, out);
        text_add(out, ".");
        print_name(expr->field.name, out);
        break;
    case EXPR_LIST:
        text_add(out, "[");
        print_args(&expr->list, out);
        text_add(out, "]");
        break;
    case EXPR_REPEAT:
        print_repeat(expr, out);
        break;
    }
}

/* ---- The tree ---------------------------------------------------------------------------------------------------- */

typedef struct Printer {
    Text *out;
    int level;
} Printer;

static void indent(Printer *printer) {
    text_printf(printer->out, "%*s", printer->level * 2, "");
}

static void end_line(Printer *printer, Span span) {
    if (span.source >= 0) {
        Place place = span_place(span);
        text_printf(printer->out, "  %d:%d", place.line, place.column);
    }
    text_add(printer->out, "\n");
}

/* One line: a label such as `value` or an option's name, then the node; its parts come below, further in. */
static void print_expr(Printer *printer, const char *label, const Expr *expr);

static void print_parts(Printer *printer, const char *label, const Args *args) {
    for (int i = 0; i < args->count; i++) {
        const Arg *arg = &args->at[i];
        Text text = {0};
        text_add(&text, label);
        if (arg->name)
            text_printf(&text, "%s%s =", *label ? " " : "", arg->name);
        print_expr(printer, text.at, arg->value);
        text_free(&text);
    }
}

static void print_node(Printer *printer, const Expr *expr) {
    Text *out = printer->out;
    switch (expr->kind) {
    case EXPR_NUMBER:
        text_add(out, "number ");
        text_number(out, expr->number);
        break;
    case EXPR_STRING:
        text_add(out, "string ");
        print_string(expr->string.bytes, out);
        break;
    case EXPR_NAME:
        text_printf(out, "name %s", expr->name);
        break;
    case EXPR_UNARY:
        text_printf(out, "unary %s", operator_spelling(expr->binary.op));
        break;
    case EXPR_BINARY:
        text_printf(out, "binary %s", operator_spelling(expr->binary.op));
        break;
    case EXPR_CALL:
        text_add(out, "call");
        break;
    case EXPR_INDEX:
        text_add(out, "index");
        break;
    case EXPR_FIELD:
        text_add(out, "field ");
        print_name(expr->field.name, out);
        break;
    case EXPR_RANGE:
        text_add(out, "range");
        break;
    case EXPR_LIST:
        text_add(out, "list");
        break;
    case EXPR_REPEAT:
        text_add(out, "repeat");
        break;
    }
}

static void print_expr(Printer *printer, const char *label, const Expr *expr) {
    if (!expr)
        return;
    indent(printer);
    if (*label)
        text_printf(printer->out, "%s ", label);
    print_node(printer, expr);
    end_line(printer, expr->span);
    printer->level++;
    switch (expr->kind) {
    case EXPR_NUMBER:
    case EXPR_STRING:
    case EXPR_NAME:
        break;
    case EXPR_UNARY:
    case EXPR_BINARY:
    case EXPR_RANGE:
    case EXPR_REPEAT:
        print_expr(printer, "", expr->binary.left);
        print_expr(printer, "", expr->binary.right);
        break;
    case EXPR_CALL:
        print_expr(printer, "callee", expr->call.callee);
        print_parts(printer, "", &expr->call.args);
        break;
    case EXPR_INDEX:
        print_expr(printer, "base", expr->index.base);
        print_parts(printer, "", &expr->index.args);
        break;
    case EXPR_FIELD:
        print_expr(printer, "base", expr->field.base);
        break;
    case EXPR_LIST:
        print_parts(printer, "", &expr->list);
        break;
    }
    printer->level--;
}

static void print_names(Printer *printer, const NameList *names) {
    for (int i = 0; i < names->count; i++)
        text_printf(printer->out, "%s%s", i > 0 ? ", " : " ", names->at[i]);
}

static void print_stmt(Printer *printer, const Stmt *stmt) {
    static const char *const kinds[] = {
        [STMT_BIND] = "bind",           [STMT_DRAW] = "draw",     [STMT_ASSIGN] = "assign",
        [STMT_PARAMETER] = "parameter", [STMT_STATE] = "state",   [STMT_REPLACE] = "replace",
        [STMT_RETURN] = "return",       [STMT_UPDATE] = "update", [STMT_GRAD] = "grad",
    };
    indent(printer);
    text_add(printer->out, kinds[stmt->kind]);
    print_names(printer, &stmt->names);
    end_line(printer, stmt->span);
    printer->level++;
    print_parts(printer, "dim", &stmt->dims);
    print_expr(printer, "with", stmt->with);
    print_expr(printer, "", stmt->value);
    print_parts(printer, stmt->kind == STMT_UPDATE ? "option" : "", &stmt->values);
    printer->level--;
}

static void print_body(Printer *printer, const Body *body) {
    for (int i = 0; i < body->count; i++)
        print_stmt(printer, body->at[i]);
}

static void print_params(Printer *printer, const Params *params) {
    for (int i = 0; i < params->count; i++) {
        const Param *param = &params->at[i];
        indent(printer);
        text_printf(printer->out, "param %s", param->name);
        end_line(printer, param->span);
        printer->level++;
        print_parts(printer, "dim", &param->dims);
        print_expr(printer, "type", param->type);
        print_expr(printer, "fallback", param->fallback);
        printer->level--;
    }
}

static void print_setting(Printer *printer, const Setting *setting) {
    indent(printer);
    text_printf(printer->out, "%s %s", setting->is_step ? "step" : "setting", setting->keyword);
    end_line(printer, setting->span);
    printer->level++;
    print_parts(printer, "", &setting->args);
    for (int i = 0; i < setting->clause_count; i++) {
        const Clause *clause = &setting->clauses[i];
        indent(printer);
        text_printf(printer->out, "clause %s", clause->word);
        end_line(printer, clause->span);
        printer->level++;
        print_parts(printer, "", &clause->args);
        printer->level--;
    }
    print_parts(printer, "transform", &setting->transforms);
    print_params(printer, &setting->step_params);
    print_body(printer, &setting->step_body);
    printer->level--;
}

static const char *item_word(ItemKind kind) {
    static const char *const words[] = {
        [ITEM_VERSION] = "version", [ITEM_USE] = "use",           [ITEM_PARAM] = "param",
        [ITEM_CONST] = "const",     [ITEM_DATA] = "data",         [ITEM_MODEL] = "model",
        [ITEM_DERIVED] = "derived", [ITEM_BLOCK] = "block",       [ITEM_DEF] = "def",
        [ITEM_LOSS] = "loss",       [ITEM_METRIC] = "metric",     [ITEM_OPTIMIZER] = "optimizer",
        [ITEM_TRAIN] = "train",     [ITEM_FINETUNE] = "finetune", [ITEM_EVALUATE] = "evaluate",
        [ITEM_SAVE] = "save",       [ITEM_LOAD] = "load",
    };
    return words[kind];
}

static void print_item(Printer *printer, const Item *item) {
    Text *out = printer->out;
    indent(printer);
    text_add(out, item_word(item->kind));
    if (item->name)
        text_printf(out, " %s", item->name);
    print_names(printer, &item->models);
    if (item->base)
        text_printf(out, " = %s", item->base);
    if (item->link)
        text_printf(out, " link %s", item->link);
    if (item->in)
        text_printf(out, " in %s", item->in);
    if (item->label)
        text_printf(out, " as %s", item->label);
    if (item->kind == ITEM_VERSION) {
        text_add(out, " ");
        text_number(out, item->number);
    }
    end_line(printer, item->span);
    printer->level++;
    print_params(printer, &item->params);
    print_expr(printer, "on", item->on);
    print_expr(printer, "path", item->path);
    print_expr(printer, "", item->value);
    print_body(printer, &item->body);
    for (int i = 0; i < item->settings.count; i++)
        print_setting(printer, item->settings.at[i]);
    print_parts(printer, "", &item->args);
    printer->level--;
}

void ast_print(const Ast *ast, Text *out) {
    Printer printer = {out, 0};
    for (int i = 0; i < ast->count; i++)
        print_item(&printer, ast->at[i]);
}
