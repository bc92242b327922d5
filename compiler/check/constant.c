/* Numbers that are known when compiling: consts, and what settings are given. */
#include "checker.h"

#include <math.h>
#include <string.h>

enum { EVALUATION_HEIGHT_MAX = 2000 }; /* levels of expressions, through consts that stand on each other */

const char *number_text(Arena *arena, double number) {
    Text text = {0};
    text_number(&text, number);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

/* ---- Evaluation -------------------------------------------------------------------------------------------------- */
typedef struct Evaluation {
    const Program *program;
    const char *what;
    const Item **open; /* [EVALUATION_HEIGHT_MAX] consts being evaluated, the outermost first */
    int depth, height;
} Evaluation;

static bool evaluate(Evaluation *evaluation, const Expr *expr, double *number);

static Expr *number_expr(Arena *arena, Span span, double number) {
    Expr *expr = arena_new_of(arena, Expr);
    *expr = (Expr){.kind = EXPR_NUMBER, .height = 1, .span = span, .number = number};
    return expr;
}

/* A const becomes its number once, so that consts that stand on each other cost no more than their lines; one that
   cannot becomes 0, so that it is reported once. */
static bool evaluate_const(Evaluation *evaluation, Item *item, const Expr *expr, double *number) {
    if (item->value->kind == EXPR_NUMBER) {
        *number = item->value->number;
        return true;
    }
    for (int i = 0; i < evaluation->depth; i++)
        if (evaluation->open[i] == item) {
            error_at(expr->span, "const '%s' stands on itself", item->name);
            return false;
        }
    const int height = item->value->height;
    if (evaluation->height + height > EVALUATION_HEIGHT_MAX) {
        error_at(expr->span, "too many consts stand on each other; write them in order");
        return false;
    }
    evaluation->open[evaluation->depth++] = item;
    evaluation->height += height;
    bool done = evaluate(evaluation, item->value, number);
    evaluation->depth--;
    evaluation->height -= height;
    item->value = number_expr(evaluation->program->arena, item->value->span, done ? *number : 0);
    return done;
}

static bool evaluate_name(Evaluation *evaluation, const Expr *expr, double *number) {
    const Definition *definition = program_find(evaluation->program, expr->name);
    if (definition && definition->item->kind == ITEM_CONST)
        return evaluate_const(evaluation, definition->item, expr, number);
    if (definition && definition->item->kind == ITEM_PARAM) {
        error_at(expr->span, "%s must be known when compiling, and param '%s' is not; a const is", evaluation->what,
                 expr->name);
        return false;
    }
    if (definition) {
        error_at(expr->span, "%s must be a number, and '%s' is %s", evaluation->what, expr->name,
                 item_kind_shown(definition->item->kind));
        return false;
    }
    if (is_word(expr, "pi")) {
        *number = 3.14159265358979323846;
        return true;
    }
    Arena *scratch = arena_new();
    LIST(Name) names = {0};
    *LIST_ADD(scratch, &names) = name_of("pi");
    for (int i = 0; i < evaluation->program->definitions.count; i++)
        if (evaluation->program->definitions.at[i].item->kind == ITEM_CONST)
            *LIST_ADD(scratch, &names) = evaluation->program->definitions.at[i].name;
    error_at(expr->span, "%s must be a number, and there is no const '%s'%s", evaluation->what, expr->name,
             did_you_mean(scratch, expr->name, names.at, names.count));
    arena_free(scratch);
    return false;
}

static bool evaluate_binary(Evaluation *evaluation, const Expr *expr, double *number) {
    double left, right;
    if (!evaluate(evaluation, expr->binary.left, &left) || !evaluate(evaluation, expr->binary.right, &right))
        return false;
    switch (expr->binary.op) {
    case OPERATOR_ADD:
        *number = left + right;
        break;
    case OPERATOR_SUBTRACT:
        *number = left - right;
        break;
    case OPERATOR_MULTIPLY:
        *number = left * right;
        break;
    case OPERATOR_DIVIDE:
        *number = left / right;
        break;
    case OPERATOR_POWER:
        *number = pow(left, right);
        break;
    default:
        error_at(expr->span, "%s must be a number known when compiling: + - * / and ^ may make it", evaluation->what);
        return false;
    }
    if (isfinite(*number))
        return true;
    error_at(expr->span, "%s must be a finite number", evaluation->what);
    return false;
}

static bool evaluate(Evaluation *evaluation, const Expr *expr, double *number) {
    switch (expr->kind) {
    case EXPR_NUMBER:
        *number = expr->number;
        return true;
    case EXPR_NAME:
        return evaluate_name(evaluation, expr, number);
    case EXPR_UNARY:
        if (!evaluate(evaluation, expr->binary.left, number))
            return false;
        *number = -*number;
        return true;
    case EXPR_BINARY:
        return evaluate_binary(evaluation, expr, number);
    case EXPR_STRING:
    case EXPR_CALL:
    case EXPR_INDEX:
    case EXPR_FIELD:
    case EXPR_RANGE:
    case EXPR_LIST:
    case EXPR_REPEAT:
        break;
    }
    error_at(expr->span, "%s must be a number known when compiling", evaluation->what);
    return false;
}

bool check_number(const Program *program, const Expr *expr, const char *what, double *number) {
    const Item *open[EVALUATION_HEIGHT_MAX];
    Evaluation evaluation = {program, what, open, 0, 0};
    return evaluate(&evaluation, expr, number);
}

bool check_integer(const Program *program, const Expr *expr, const char *what, int64_t least, int64_t *integer) {
    const double most = 9007199254740992.0; /* 2^53: beyond, a double skips whole numbers */
    double number;
    if (!check_number(program, expr, what, &number))
        return false;
    if (floor(number) != number || number < (double)least || number > most) {
        error_at(expr->span, "%s must be a whole number of at least %lld", what, (long long)least);
        return false;
    }
    *integer = (int64_t)number;
    return true;
}

/* ---- Consts, params, -D ------------------------------------------------------------------------------------------ */
static Item *find_const(Checker *checker, Name name) {
    const Definition *definition = program_find(checker->program, name);
    return definition && definition->item->kind == ITEM_CONST ? definition->item : NULL;
}

static void unknown_const(Checker *checker, const char *define, Name name) {
    const Definition *definition = program_find(checker->program, name);
    if (definition) {
        error_plain("-D %s: '%s' is %s, and -D is for consts", define, name, item_kind_shown(definition->item->kind));
        return;
    }
    LIST(Name) names = {0};
    for (int i = 0; i < checker->program->definitions.count; i++)
        if (checker->program->definitions.at[i].item->kind == ITEM_CONST)
            *LIST_ADD(checker->arena, &names) = checker->program->definitions.at[i].name;
    error_plain("-D %s: there is no const '%s'%s", define, name,
                did_you_mean(checker->arena, name, names.at, names.count));
}

static void apply_define(Checker *checker, const char *define) {
    const char *equal = strchr(define, '=');
    double number;
    if (!equal || equal == define || !bp_parse_number(equal + 1, strlen(equal + 1), &number)) {
        error_plain("-D %s: NAME=NUMBER is needed, as in -D width=64", shown(checker->arena, define));
        return;
    }
    Name name = name_slice(define, (size_t)(equal - define));
    Item *item = find_const(checker, name);
    if (!item)
        unknown_const(checker, shown(checker->arena, define), name);
    else
        item->value = number_expr(checker->arena, item->value->span, number);
}

void check_constants(Checker *checker) {
    const Item *open[EVALUATION_HEIGHT_MAX];
    for (int i = 0; i < checker->options->define_count; i++)
        apply_define(checker, checker->options->defines[i]);
    for (int i = 0; i < checker->program->definitions.count; i++) {
        Item *item = checker->program->definitions.at[i].item;
        Evaluation evaluation = {checker->program, "a const", open, 0, 0};
        double number;
        if (item->kind == ITEM_CONST)
            evaluate_const(&evaluation, item, item->value, &number);
    }
}

void check_params(Checker *checker) {
    Program *program = checker->program;
    for (int i = 0; i < program->definitions.count; i++) {
        Item *item = program->definitions.at[i].item;
        double number;
        if (item->kind == ITEM_PARAM && check_number(program, item->value, "a param", &number))
            *LIST_ADD(checker->arena, &program->params) = (ParamValue){item->name, item->name_span, number};
    }
}
