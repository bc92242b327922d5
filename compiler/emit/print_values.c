/* Values as C expressions, and what of a kernel they use. */
#include "printer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POSITION_BITS = 48 };

/* ---- What is used
 * ------------------------------------------------------------------------------------------------------- */

bool set_has(const PointerSet *set, const void *pointer) {
    if (!set->size)
        return false;
    for (uint32_t i = (uint32_t)((uint64_t)(uintptr_t)pointer * 0x9E3779B97F4A7C15u >> 32);; i++) {
        const void *found = set->at[i & (set->size - 1)];
        if (!found || found == pointer)
            return found != NULL;
    }
}

bool set_add(Arena *arena, PointerSet *set, const void *pointer) {
    if (set_has(set, pointer))
        return false;
    if (2 * (set->count + 1) > set->size) {
        PointerSet larger = {.size = set->size ? 2 * set->size : 64};
        larger.at = arena_array(arena, const void *, larger.size);
        for (uint32_t i = 0; i < set->size; i++)
            if (set->at[i])
                set_add(arena, &larger, set->at[i]);
        *set = larger;
    }
    uint32_t i = (uint32_t)((uint64_t)(uintptr_t)pointer * 0x9E3779B97F4A7C15u >> 32);
    while (set->at[i & (set->size - 1)])
        i++;
    set->at[i & (set->size - 1)] = pointer;
    set->count++;
    return true;
}

void set_clear(PointerSet *set) {
    if (set->count)
        memset(set->at, 0, sizeof *set->at * set->size);
    set->count = 0;
}

void use_buffer(Printer *p, const Buffer *buffer) {
    set_add(p->arena, &p->used, buffer);
    if (buffer_of_thread(buffer))
        p->fields[CONTEXT_THREAD] = true;
}

void use_value(Printer *p, const Value *value) {
    if (value->let && !set_add(p->arena, &p->used, value)) {
        set_add(p->arena, &p->often, value);
        return;
    }
    if (value->kind == VALUE_REGISTER || value->kind == VALUE_VARIABLE)
        set_add(p->arena, &p->used, value->statement);
    if (value->kind == VALUE_LOAD)
        use_buffer(p, value->buffer);
    if (value->kind == VALUE_CONTEXT)
        p->fields[value->field] = true;
    for (int i = 0; i < value->arg_count; i++)
        use_value(p, value->args[i]);
}

/* ---- Numbers
 * -------------------------------------------------------------------------------------------------------------- */

/* The shortest decimal that reads back to the same bits. */
void print_real(Text *out, double number, bool single) {
    if (isnan(number) || isinf(number)) {
        text_printf(out, "%s__builtin_%s%s(%s)", signbit(number) ? "-" : "", isnan(number) ? "nan" : "inf",
                    single ? "f" : "", isnan(number) ? "\"\"" : "");
        return;
    }
    char digits[40];
    if (fabs(number) < 1e6 && number == floor(number)) {
        text_printf(out, "%.0f.0%s", number, single ? "f" : "");
        return;
    }
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (single ? strtof(digits, NULL) == (float)number : strtod(digits, NULL) == number)
            break;
    }
    for (char *at = digits; *at; at++)
        if (*at == ',')
            *at = '.';
    text_printf(out, "%s%s%s", digits, strpbrk(digits, ".e") ? "" : ".0", single ? "f" : "");
}

static void print_number(Text *out, Scalar scalar, const Value *value) {
    int64_t integer = value->number.integer;
    switch (scalar) {
    case SCALAR_F32:
        print_real(out, (double)(float)value->number.real, true);
        break;
    case SCALAR_F64:
        print_real(out, value->number.real, false);
        break;
    case SCALAR_I32:
        if (integer == INT32_MIN)
            text_add(out, "INT32_MIN");
        else
            text_printf(out, "%d", (int)integer);
        break;
    case SCALAR_U32:
        text_printf(out, (uint32_t)integer < 1000 ? "%uu" : "0x%08Xu", (unsigned)integer);
        break;
    case SCALAR_I64:
        if (integer == INT64_MIN)
            text_add(out, "INT64_MIN");
        else
            text_printf(out, "%lld", (long long)integer);
        break;
    case SCALAR_U64:
        text_printf(out, (uint64_t)integer < 1000 ? "%lluu" : "0x%llXu", (unsigned long long)integer);
        break;
    case SCALAR_BOOL:
        text_add(out, integer ? "1" : "0");
        break;
    }
}

static bool is_negative(const Value *value) {
    bool real = value->type.scalar == SCALAR_F32 || value->type.scalar == SCALAR_F64;
    bool no_sign = value->type.scalar == SCALAR_U32 || value->type.scalar == SCALAR_U64;
    return real ? signbit(value->number.real) != 0 : !no_sign && value->number.integer < 0;
}

/* ---- Expressions
 * ------------------------------------------------------------------------------------------------------------ */

const char *let_name(Printer *p, const Value *value) {
    return c_name(p->names, value, value->let, SCOPE_LOCAL);
}

const char *variable_name(Printer *p, const Statement *statement) {
    return c_name(p->names, statement, statement->name, SCOPE_LOCAL);
}

const char *buffer_name(Printer *p, const Buffer *buffer) {
    return c_name(p->names, buffer, buffer->name, SCOPE_LOCAL);
}

const char *math_name(Printer *p, const MathFunction *function) {
    return c_name(p->names, function, function->name, SCOPE_MATH);
}

const char *argument_name(Printer *p, int argument) {
    const Name *name = &p->math->argument_names[argument];
    return c_name(p->names, name, *name, SCOPE_LOCAL);
}

/* No index of a buffer overflows, but random keys do: a bound of the magnitude says which sum is printed as a plain
 * one. */
static double magnitude(const Value *value, int depth) {
    const Value *a = value->args[0], *b = value->args[1];
    if (value->type.scalar != SCALAR_I64 || value->type.lanes != 1 || depth > 12)
        return 0x1p63;
    switch (value->kind) {
    case VALUE_NUMBER:
        return fabs((double)value->number.integer);
    case VALUE_VARIABLE:
        return fmax(magnitude(value->statement->from, depth + 1), magnitude(value->statement->to, depth + 1)) +
               (double)value->statement->step;
    case VALUE_CONTEXT:
        return ldexp(1, value->field == CONTEXT_POSITION ? POSITION_BITS : 31);
    case VALUE_OP:
        break;
    default:
        return 0x1p63;
    }
    switch (value->op) {
    case OP_INTEGER_ADD:
    case OP_INTEGER_SUBTRACT:
        return magnitude(a, depth + 1) + magnitude(b, depth + 1);
    case OP_INTEGER_MULTIPLY:
        return magnitude(a, depth + 1) * magnitude(b, depth + 1);
    case OP_INTEGER_DIVIDE:
        return magnitude(a, depth + 1);
    case OP_INTEGER_REMAINDER:
        return magnitude(b, depth + 1);
    case OP_INTEGER_MINIMUM:
        return fmax(magnitude(a, depth + 1), magnitude(b, depth + 1));
    case OP_CONVERT:
        return a->type.scalar == SCALAR_I32 || a->type.scalar == SCALAR_U32 ? 0x1p32 : 0x1p63;
    default:
        return 0x1p63;
    }
}

static const char *plain_index_operator(const Value *value) {
    switch (value->op) {
    case OP_INTEGER_ADD:
    case OP_INTEGER_SUBTRACT:
    case OP_INTEGER_MULTIPLY:
        return magnitude(value, 0) <= 0x1p62 ? op_table[value->op].c : NULL;
    default:
        return NULL;
    }
}

static bool is_splat(const Value *value) {
    return !value->let && value->type.lanes > 1 && (value->kind == VALUE_SPLAT || value->kind == VALUE_NUMBER);
}

/* An operand beside one that has lanes may stay a number: C spreads it. */
static void print_operand(Printer *p, Text *out, const Value *value, const Value *other, int bind) {
    if (!is_splat(value) || is_splat(other))
        print_value(p, out, value, bind);
    else if (value->kind == VALUE_SPLAT)
        print_value(p, out, value->args[0], bind);
    else
        print_number(out, value->type.scalar, value);
}

static int infix_bind(const char *operator) {
    return operator[1]                ? BIND_OTHER
           : strchr("*/%", *operator) ? BIND_PRODUCT
           : strchr("+-", *operator)  ? BIND_SUM
                                      : BIND_OTHER;
}

static bool is_compare(const char *operator) {
    return strchr("<>=!", operator[0]) && strcmp(operator, "<<") != 0 && strcmp(operator, ">>") != 0;
}

static void print_infix(Printer *p, Text *out, const Value *value, const char *operator) {
    int own = infix_bind(operator);
    int left = own != BIND_OTHER ? own : is_compare(operator) ? BIND_SUM : BIND_UNARY;
    print_operand(p, out, value->args[0], value->args[1], left);
    text_printf(out, " %s ", operator);
    print_operand(p, out, value->args[1], value->args[0], own == BIND_OTHER ? left : own + 1);
}

static void print_arguments(Printer *p, Text *out, const Value *value) {
    int first = value_first_argument(value);
    text_add(out, "(");
    for (int i = first; i < value->arg_count; i++) {
        if (i > first)
            text_add(out, ", ");
        print_value(p, out, value->args[i], BIND_ANY);
    }
    text_add(out, ")");
}

static bool is_known_number(const Value *value) {
    const Value *inner = value->kind == VALUE_SPLAT ? value->args[0] : value;
    return inner->kind == VALUE_NUMBER && !isnan(inner->number.real);
}

/* The op, or what stands for it where an argument is known not to be NaN. */
static int lane_op(const Value *value) {
    bool greatest = value->op == OP_MAXIMUM;
    if (!greatest && value->op != OP_MINIMUM)
        return (int)value->op;
    if (is_known_number(value->args[0]))
        return greatest ? LANE_MAXIMUM_FIRST : LANE_MINIMUM_FIRST;
    if (is_known_number(value->args[1]))
        return greatest ? LANE_MAXIMUM_SECOND : LANE_MINIMUM_SECOND;
    return (int)value->op;
}

static Form value_form(Printer *p, const Value *value) {
    if (op_table[value->op].class == CLASS_MATH)
        return (Form){FORM_CALL, math_name(p, value->function)};
    const char *plain = plain_index_operator(value);
    if (plain)
        return (Form){FORM_INFIX, plain};
    return lane_form(&p->lanes, lane_op(value), value->type, value->args[value->arg_count - 1]->type);
}

static void print_op(Printer *p, Text *out, const Value *value, int bind) {
    Form form = value_form(p, value);
    int own = form.kind == FORM_INFIX                              ? infix_bind(form.text)
              : form.kind == FORM_PREFIX || form.kind == FORM_CAST ? BIND_UNARY
              : form.kind == FORM_TERNARY                          ? BIND_CHOICE
                                                                   : BIND_PRIMARY;
    bool parentheses = own < bind || (form.kind == FORM_PREFIX && bind == BIND_UNARY);
    if (parentheses)
        text_add(out, "(");
    switch (form.kind) {
    case FORM_CALL:
        text_add(out, form.text);
        print_arguments(p, out, value);
        break;
    case FORM_INFIX:
        print_infix(p, out, value, form.text);
        break;
    case FORM_PREFIX:
        text_add(out, form.text);
        print_value(p, out, value->args[0], BIND_UNARY);
        break;
    case FORM_CAST:
        text_printf(out, "(%s)", form.text);
        print_value(p, out, value->args[0], BIND_UNARY);
        break;
    case FORM_CONVERT:
        text_add(out, "__builtin_convertvector(");
        print_value(p, out, value->args[0], BIND_ANY);
        text_printf(out, ", %s)", form.text);
        break;
    case FORM_TERNARY:
        print_value(p, out, value->args[0], BIND_SUM);
        text_add(out, " ? ");
        print_value(p, out, value->args[1], BIND_SUM);
        text_add(out, " : ");
        print_value(p, out, value->args[2], BIND_SUM);
        break;
    }
    if (parentheses)
        text_add(out, ")");
}

static void print_lane_numbers(Printer *p, Text *out, ValueType type) {
    if (lane_paired(type)) {
        text_printf(out, "%s()", lane_form(&p->lanes, LANE_NUMBERS, type, type).text);
        return;
    }
    text_printf(out, "(%s){", lane_type(&p->lanes, type));
    for (int i = 0; i < type.lanes; i++)
        text_printf(out, "%s%d", i ? ", " : "", i);
    text_add(out, "}");
}

static void print_extract(Printer *p, Text *out, const Value *value) {
    ValueType type = value->args[0]->type;
    if (lane_paired(type)) {
        text_printf(out, "%s(", lane_form(&p->lanes, LANE_AT, value->type, type).text);
        print_value(p, out, value->args[0], BIND_ANY);
        text_printf(out, ", %d)", (int)value->number.integer);
        return;
    }
    print_value(p, out, value->args[0], BIND_PRIMARY);
    text_printf(out, "[%d]", (int)value->number.integer);
}

static void print_splat(Printer *p, Text *out, const Value *value) {
    text_printf(out, "%s(", lane_form(&p->lanes, LANE_SPLAT, value->type, value->type).text);
    if (value->kind == VALUE_NUMBER)
        print_number(out, value->type.scalar, value);
    else
        print_value(p, out, value->args[0], BIND_ANY);
    text_add(out, ")");
}

static void print_truth_lanes(Printer *p, Text *out, const Value *value) {
    bool truth = value->kind == VALUE_NUMBER && value->number.integer;
    text_printf(out, "%s(", lane_form(&p->lanes, LANE_SPLAT, value->type, value->type).text);
    if (value->kind == VALUE_NUMBER) {
        text_add(out, truth ? "-1" : "0");
    } else { /* 0 or 1 becomes no or all bits */
        text_add(out, "-");
        print_value(p, out, value->args[0], BIND_PRIMARY);
    }
    text_add(out, ")");
}

static void print_load(Printer *p, Text *out, const Value *value) {
    const char *buffer = buffer_name(p, value->buffer);
    if (value->type.lanes > 1)
        text_printf(out, "%s(&", lane_form(&p->lanes, LANE_LOAD, value->type, value->type).text);
    text_printf(out, "%s[", buffer);
    print_value(p, out, value->args[0], BIND_ANY);
    text_add(out, value->type.lanes > 1 ? "])" : "]");
}

static void print_context(Text *out, ContextField field) {
    static const char *const names[] = {"rows", "position", "seed", "step", "thread", "threads"};
    text_add(out, names[field]);
}

void print_plain(Printer *p, Text *out, const Value *value, int bind) {
    switch (value->kind) {
    case VALUE_NUMBER:
        if (value->type.lanes > 1) {
            if (value->type.scalar == SCALAR_BOOL)
                print_truth_lanes(p, out, value);
            else
                print_splat(p, out, value);
        } else {
            bool wrap = is_negative(value) && bind >= BIND_UNARY;
            text_add(out, wrap ? "(" : "");
            print_number(out, value->type.scalar, value);
            text_add(out, wrap ? ")" : "");
        }
        break;
    case VALUE_VARIABLE:
    case VALUE_REGISTER:
        text_add(out, variable_name(p, value->statement));
        break;
    case VALUE_CONTEXT:
        print_context(out, value->field);
        break;
    case VALUE_OP:
        print_op(p, out, value, bind);
        break;
    case VALUE_LOAD:
        print_load(p, out, value);
        break;
    case VALUE_SPLAT:
        if (value->type.scalar == SCALAR_BOOL)
            print_truth_lanes(p, out, value);
        else
            print_splat(p, out, value);
        break;
    case VALUE_LANES:
        print_lane_numbers(p, out, value->type);
        break;
    case VALUE_EXTRACT:
        print_extract(p, out, value);
        break;
    case VALUE_TREE:
        text_add(out, lane_form(&p->lanes, lane_tree(value->op), value->type, value->args[0]->type).text);
        print_arguments(p, out, value);
        break;
    case VALUE_ARGUMENT:
        text_add(out, argument_name(p, (int)value->number.integer));
        break;
    case VALUE_CALL:
        text_add(out, math_name(p, value->function));
        print_arguments(p, out, value);
        break;
    }
}

void print_value(Printer *p, Text *out, const Value *value, int bind) {
    if (value->let && value->kind != VALUE_ARGUMENT)
        text_add(out, let_name(p, value));
    else
        print_plain(p, out, value, bind);
}
