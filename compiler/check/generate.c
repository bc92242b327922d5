/* `generate x = linspace(0, 1, 101)`: rows that no file holds, and columns that are formulas of them, target y =
   sin(x). All are computed here, in double, and become `rows`. */
#include "checker.h"

#include "../op/op.h"

#include <math.h>
#include <string.h>

enum { GENERATE_MOST_ROWS = 1000000, GENERATE_DEPTH = 200 };

typedef struct Generated {
    Name name;
    double *values;
    int count; /* of this axis alone; later, all rows */
} Generated;

typedef struct Grid {
    DataCheck *check;
    LIST(Generated) columns;
    int rows;
} Grid;

/* ---- Formulas ---------------------------------------------------------------------------------------------------- */
typedef struct Value { /* a def's parameter */
    Name name;
    double number;
} Value;

typedef struct Environment {
    const Grid *grid;
    int row;
    const Value *values;
    int count, depth;
} Environment;

static bool evaluate(const Environment *here, const Expr *expr, double *number);

static bool operator_op(Operator operator, Op * op, bool *swapped) {
    static const Op ops[] = {
        [OPERATOR_ADD] = OP_ADD,
        [OPERATOR_SUBTRACT] = OP_SUBTRACT,
        [OPERATOR_MULTIPLY] = OP_MULTIPLY,
        [OPERATOR_DIVIDE] = OP_DIVIDE,
        [OPERATOR_POWER] = OP_POWER,
        [OPERATOR_LESS] = OP_LESS,
        [OPERATOR_LESS_EQUAL] = OP_LESS_EQUAL,
        [OPERATOR_GREATER] = OP_LESS,
        [OPERATOR_GREATER_EQUAL] = OP_LESS_EQUAL,
        [OPERATOR_EQUAL] = OP_EQUAL,
        [OPERATOR_NOT_EQUAL] = OP_NOT_EQUAL,
    };
    *swapped = operator== OPERATOR_GREATER || operator== OPERATOR_GREATER_EQUAL;
    if (operator== OPERATOR_MATMUL || operator== OPERATOR_NEGATE)
        return false;
    *op = ops[operator];
    return true;
}

static bool evaluate_name(const Environment *here, const Expr *expr, double *number) {
    for (int i = 0; i < here->count; i++)
        if (here->values[i].name == expr->name) {
            *number = here->values[i].number;
            return true;
        }
    for (int i = 0; i < here->grid->columns.count; i++)
        if (here->grid->columns.at[i].name == expr->name) {
            *number = here->grid->columns.at[i].values[here->row];
            return true;
        }
    return check_number(here->grid->check->checker->program, expr, "a generated value", number);
}

/* A function of the op table, element by element. */
static bool evaluate_op(const Environment *here, const Expr *call, bool *known, double *number) {
    const Args *args = &call->call.args;
    for (int op = 0; op < OP_COUNT; op++) {
        OpClass class = op_table[op].class;
        bool function = class == CLASS_MATH || (class == CLASS_ARITHMETIC && op != OP_NEGATE);
        if (!function || strcmp(op_table[op].name, call->call.callee->name) != 0)
            continue;
        *known = true;
        double values[3] = {0, 0, 0};
        if (args->count != op_table[op].arity || positional_count(args) != args->count) {
            error_at(call->span, "'%s' takes %d argument%s", op_table[op].name, op_table[op].arity,
                     op_table[op].arity == 1 ? "" : "s");
            return false;
        }
        for (int i = 0; i < args->count; i++)
            if (!evaluate(here, args->at[i].value, &values[i]))
                return false;
        *number = op_evaluate((Op)op, values[0], values[1], values[2]);
        return true;
    }
    return false;
}

static const Expr *given_argument(const Args *args, int index, Name name) {
    for (int i = 0, place = 0; i < args->count; i++) {
        if (args->at[i].name ? args->at[i].name == name : place == index)
            return args->at[i].value;
        place += args->at[i].name == NULL;
    }
    return NULL;
}

static bool evaluate_def(const Environment *here, const Item *def, const Expr *call, double *number) {
    Environment inner = {here->grid, here->row, NULL, def->params.count, here->depth + 1};
    Value *values = arena_array(here->grid->check->arena, Value, def->params.count + 1);
    if (here->depth > GENERATE_DEPTH || !def->value) {
        error_at(call->span, def->value ? "'%s' calls itself without end" : "'%s' is more than one formula", def->name);
        return false;
    }
    for (int i = 0; i < def->params.count; i++) {
        const Expr *given = given_argument(&call->call.args, i, def->params.at[i].name);
        values[i].name = def->params.at[i].name;
        if (!given && !def->params.at[i].fallback) {
            error_at(call->span, "'%s' needs '%s'", def->name, def->params.at[i].name);
            return false;
        }
        if (!evaluate(here, given ? given : def->params.at[i].fallback, &values[i].number))
            return false;
    }
    inner.values = values;
    return evaluate(&inner, def->value, number);
}

static bool evaluate_call(const Environment *here, const Expr *call, double *number) {
    bool known = false;
    if (call->call.callee->kind != EXPR_NAME) {
        error_at(call->span, "a generated value is a formula of numbers and generated columns");
        return false;
    }
    const Definition *definition = program_find(here->grid->check->checker->program, call->call.callee->name);
    if (definition && definition->item->kind == ITEM_DEF)
        return evaluate_def(here, definition->item, call, number);
    bool good = evaluate_op(here, call, &known, number);
    if (!known)
        error_at(call->call.callee->span, "there is no function '%s' for generated values", call->call.callee->name);
    return good;
}

static bool evaluate(const Environment *here, const Expr *expr, double *number) {
    double left, right;
    bool swapped;
    Op op;
    switch (expr->kind) {
    case EXPR_NUMBER:
        *number = expr->number;
        return true;
    case EXPR_NAME:
        return evaluate_name(here, expr, number);
    case EXPR_UNARY:
        if (!evaluate(here, expr->binary.left, number))
            return false;
        *number = -*number;
        return true;
    case EXPR_BINARY:
        if (!operator_op(expr->binary.op, &op, &swapped))
            break;
        if (!evaluate(here, expr->binary.left, &left) || !evaluate(here, expr->binary.right, &right))
            return false;
        *number = swapped ? op_evaluate(op, right, left, 0) : op_evaluate(op, left, right, 0);
        return true;
    case EXPR_CALL:
        return evaluate_call(here, expr, number);
    default:
        break;
    }
    error_at(expr->span, "a generated value is a formula of numbers and generated columns");
    return false;
}

/* ---- generate ---------------------------------------------------------------------------------------------------- */
static bool add_axis(Grid *grid, const Arg *arg) {
    const Program *program = grid->check->checker->program;
    const Expr *call = arg->value;
    double first, last;
    int64_t count;
    if (!arg->name || call->kind != EXPR_CALL || !is_word(call->call.callee, "linspace") ||
        call->call.args.count != 3 || positional_count(&call->call.args) != 3) {
        error_at(arg->value->span, "generate names a column and its values, as in generate x = linspace(0, 1, 101)");
        return false;
    }
    const Arg *args = call->call.args.at;
    if (!check_number(program, args[0].value, "the first value", &first) ||
        !check_number(program, args[1].value, "the last value", &last) ||
        !check_integer(program, args[2].value, "the number of values", 2, &count))
        return false;
    if (count > GENERATE_MOST_ROWS / grid->rows) {
        error_at(call->span, "more than %d rows are generated", GENERATE_MOST_ROWS);
        return false;
    }
    for (int i = 0; i < grid->columns.count; i++)
        if (grid->columns.at[i].name == arg->name) {
            error_at(arg->name_span, "'%s' is generated twice", arg->name);
            return false;
        }
    Generated *axis = LIST_ADD(grid->check->arena, &grid->columns);
    *axis = (Generated){arg->name, arena_array(grid->check->arena, double, (int)count), (int)count};
    for (int i = 0; i < axis->count; i++) /* the ends exactly */
        axis->values[i] = i == axis->count - 1 ? last : first + (last - first) * (double)i / (double)(count - 1);
    grid->rows *= axis->count;
    return true;
}

/* Every combination of the axes' values, the last axis fastest. */
static void combine_axes(Grid *grid) {
    int inner = grid->rows;
    for (int i = 0; i < grid->columns.count; i++) {
        Generated *axis = &grid->columns.at[i];
        double *values = arena_array(grid->check->arena, double, grid->rows);
        inner /= axis->count;
        for (int row = 0; row < grid->rows; row++)
            values[row] = axis->values[row / inner % axis->count];
        axis->values = values;
        axis->count = grid->rows;
    }
}

/* target y = sin(x): a column of its own, which the line then names. */
static bool add_formula(Grid *grid, Arg *arg) {
    Generated made = {arg->name, arena_array(grid->check->arena, double, grid->rows), grid->rows};
    for (int row = 0; row < grid->rows; row++) {
        const Environment here = {grid, row, NULL, 0, 0};
        if (!evaluate(&here, arg->value, &made.values[row]))
            return false;
        if (isfinite(made.values[row]))
            continue;
        error_at(arg->value->span, "this is not a finite number in row %d", row + 1);
        return false;
    }
    *LIST_ADD(grid->check->arena, &grid->columns) = made;
    Expr *name = arena_new_of(grid->check->arena, Expr);
    *name = (Expr){.kind = EXPR_NAME, .height = 1, .span = arg->name_span, .name = arg->name};
    *arg = (Arg){.name = NULL, .value = name};
    return true;
}

static bool is_formula(const Grid *grid, const Arg *arg) {
    if (!arg->name || arg->value->kind == EXPR_RANGE || arg->value->kind == EXPR_STRING)
        return false;
    if (arg->value->kind != EXPR_NAME)
        return true;
    bool selector = is_word(arg->value, "numbers") || is_word(arg->value, "categories");
    for (int i = 0; i < grid->columns.count; i++)
        selector |= grid->columns.at[i].name == arg->value->name;
    return !selector;
}

static void write_rows(Grid *grid) {
    DataSet *data = grid->check->data;
    Arena *arena = grid->check->arena;
    const int columns = grid->columns.count;
    data->row_count = grid->rows;
    data->field_count = columns;
    data->rows = arena_array(arena, const char *, grid->rows *columns);
    grid->check->names = arena_array(arena, Name, columns);
    grid->check->name_count = columns;
    data->field_names = grid->check->names;
    for (int i = 0; i < columns; i++) {
        grid->check->names[i] = grid->columns.at[i].name;
        for (int row = 0; row < grid->rows; row++)
            data->rows[row * columns + i] = number_text(arena, grid->columns.at[i].values[row]);
    }
}

bool generates(const DataSet *data) {
    for (int i = 0; i < data->item->settings.count; i++)
        if (strcmp(data->item->settings.at[i]->keyword, "generate") == 0)
            return true;
    return false;
}

void check_generate(DataCheck *check, const Setting *other) {
    Grid grid = {.check = check, .rows = 1};
    const Settings *settings = &check->data->item->settings;
    bool good = true;
    for (int i = 0; i < settings->count && good; i++) {
        const Setting *setting = settings->at[i];
        if (strcmp(setting->keyword, "generate") != 0)
            continue;
        if (other) {
            error_at(setting->keyword_span, "rows are generated, or they come from a file or rows: one of the two");
            note_at(other->keyword_span, "the other is here");
            good = false;
            break;
        }
        good = check_shape(setting, false, NULL);
        if (good && setting->args.count == 0) {
            error_at(setting->span, "generate names a column and its values, as in generate x = linspace(0, 1, 101)");
            good = false;
        }
        for (int j = 0; j < setting->args.count && good; j++)
            good = add_axis(&grid, &setting->args.at[j]);
    }
    if (good)
        combine_axes(&grid);
    for (int i = 0; i < settings->count && good; i++) {
        Setting *setting = settings->at[i];
        bool line = strcmp(setting->keyword, "input") == 0 || strcmp(setting->keyword, "target") == 0;
        for (int j = 0; line && good && j < setting->args.count; j++)
            if (is_formula(&grid, &setting->args.at[j]))
                good = add_formula(&grid, &setting->args.at[j]);
    }
    if (good)
        write_rows(&grid);
    check->failed |= !good;
}
