/* Kernels and functions as C. Before: a verified module. After: text that stands behind the declarations of program.h. */
#include "emit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How tightly an expression binds. What an operator other than + - * / takes is put in parentheses unless it is a name, a call
   or a product, so that nobody has to know C's table. */
enum { BIND_ANY, BIND_CHOICE, BIND_OTHER, BIND_SUM, BIND_PRODUCT, BIND_UNARY, BIND_PRIMARY };

enum { LINE_WIDTH = 116, POSITION_BITS = 48 };

typedef struct PointerSet { /* open addressing; asked, never listed */
    const void **at;
    uint32_t size, count;
} PointerSet;

typedef struct Printer {
    Arena *arena;
    CNames *names;
    Lanes lanes;
    Text *out;
    int indent;
    bool is_map;
    /* of the kernel or math function in hand */
    PointerSet used;   /* LETs, VARs and loops that something reads, buffers that are touched */
    PointerSet stored; /* buffers */
    bool fields[CONTEXT_THREADS + 1];
    const Kernel *kernel;
    const MathFunction *math;
} Printer;

/* ---- What is used ------------------------------------------------------------------------------------------------------- */

static bool set_has(const PointerSet *set, const void *pointer) {
    if (!set->size)
        return false;
    for (uint32_t i = (uint32_t)((uint64_t)(uintptr_t)pointer * 0x9E3779B97F4A7C15u >> 32);; i++) {
        const void *found = set->at[i & (set->size - 1)];
        if (!found || found == pointer)
            return found != NULL;
    }
}

/* False where it was there. */
static bool set_add(Arena *arena, PointerSet *set, const void *pointer) {
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

static void use_value(Printer *p, const Value *value) {
    if (value->let && !set_add(p->arena, &p->used, value))
        return;
    if (value->kind == VALUE_REGISTER || value->kind == VALUE_VARIABLE)
        set_add(p->arena, &p->used, value->statement);
    if (value->kind == VALUE_LOAD)
        set_add(p->arena, &p->used, value->buffer);
    if (value->kind == VALUE_CONTEXT)
        p->fields[value->field] = true;
    for (int i = 0; i < value->arg_count; i++)
        use_value(p, value->args[i]);
}

/* Effects are the roots: what no effect reads is not printed. */
static void use_block(Printer *p, const Block *block) {
    for (int i = 0; i < block->count; i++) {
        const Statement *s = block->at[i];
        switch (s->kind) {
        case STATEMENT_LOOP:
            use_value(p, s->from);
            use_value(p, s->to);
            if (s->parallel && !p->is_map)
                p->fields[CONTEXT_THREAD] = p->fields[CONTEXT_THREADS] = true;
            break;
        case STATEMENT_LET:
        case STATEMENT_COMMENT:
            break;
        case STATEMENT_VAR:
        case STATEMENT_SET:
        case STATEMENT_IF:
            use_value(p, s->value);
            break;
        case STATEMENT_STORE:
            use_value(p, s->value);
            use_value(p, s->index);
            set_add(p->arena, &p->used, s->buffer);
            set_add(p->arena, &p->stored, s->buffer);
            break;
        }
        use_block(p, &s->body);
    }
}

/* ---- Numbers -------------------------------------------------------------------------------------------------------------- */

/* The shortest decimal that reads back to the same bits. */
void print_real(Text *out, double number, bool single) {
    if (isnan(number) || isinf(number)) {
        text_printf(out, "%s__builtin_%s%s(%s)", signbit(number) ? "-" : "", isnan(number) ? "nan" : "inf",
                    single ? "f" : "", isnan(number) ? "\"\"" : "");
        return;
    }
    char digits[40];
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

/* ---- Expressions ------------------------------------------------------------------------------------------------------------ */

static void print_value(Printer *p, Text *out, const Value *value, int bind);

static const char *let_name(Printer *p, const Value *value) {
    return c_name(p->names, value, value->let, SCOPE_LOCAL);
}

static const char *variable_name(Printer *p, const Statement *statement) {
    return c_name(p->names, statement, statement->name, SCOPE_LOCAL);
}

static const char *buffer_name(Printer *p, const Buffer *buffer) {
    return c_name(p->names, buffer, buffer->name, SCOPE_LOCAL);
}

static const char *math_name(Printer *p, const MathFunction *function) {
    return c_name(p->names, function, function->name, SCOPE_MATH);
}

static const char *argument_name(Printer *p, int argument) {
    const Name *name = &p->math->argument_names[argument];
    return c_name(p->names, name, *name, SCOPE_LOCAL);
}

/* No index of a buffer overflows, but random keys do: a bound of the magnitude says which sum is printed as a plain one. */
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
    text_add(out, "(");
    for (int i = 0; i < value->arg_count; i++) {
        if (i)
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
    int own = form.kind == FORM_INFIX                                ? infix_bind(form.text)
              : form.kind == FORM_PREFIX || form.kind == FORM_CAST   ? BIND_UNARY
              : form.kind == FORM_TERNARY                            ? BIND_CHOICE
                                                                     : BIND_PRIMARY;
    if (own < bind || (own == BIND_UNARY && bind == BIND_UNARY))
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
    if (own < bind || (own == BIND_UNARY && bind == BIND_UNARY))
        text_add(out, ")");
}

static void print_lane_numbers(Printer *p, Text *out, ValueType type, int first) {
    text_add(out, "{");
    for (int i = 0; i < type.lanes; i++) {
        if (!lane_paired(type))
            text_printf(out, "%s%d", i ? ", " : "", first + i);
        else if (i % (type.lanes / 2) == 0) {
            text_add(out, i ? ", " : "");
            print_lane_numbers(p, out, (ValueType){type.scalar, type.lanes / 2}, first + i);
        }
    }
    text_add(out, "}");
}

static void print_extract(Printer *p, Text *out, const Value *value) {
    ValueType type = value->args[0]->type;
    int lane = (int)value->number.integer;
    print_value(p, out, value->args[0], BIND_PRIMARY);
    for (; lane_paired(type); type.lanes /= 2) {
        int half = type.lanes / 2;
        text_add(out, lane >= half ? ".high" : ".low");
        lane %= half;
    }
    text_printf(out, "[%d]", lane);
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

static void print_plain(Printer *p, Text *out, const Value *value, int bind) {
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
        text_printf(out, "(%s)", lane_type(&p->lanes, value->type));
        print_lane_numbers(p, out, value->type, 0);
        break;
    case VALUE_EXTRACT:
        print_extract(p, out, value);
        break;
    case VALUE_TREE_SUM:
        text_add(out, lane_form(&p->lanes, LANE_TREE_SUM, value->type, value->args[0]->type).text);
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

static void print_value(Printer *p, Text *out, const Value *value, int bind) {
    if (value->let && value->kind != VALUE_ARGUMENT)
        text_add(out, let_name(p, value));
    else
        print_plain(p, out, value, bind);
}

/* ---- Lines -------------------------------------------------------------------------------------------------------------------- */

static void print_indent(Printer *p) {
    for (int i = 0; i < p->indent; i++)
        text_add(p->out, "    ");
}

/* A line of code without strings or comments, broken at spaces where it is too long. Takes the text. */
static void print_line(Printer *p, Text *line) {
    size_t column = (size_t)p->indent * 4, start = 0;
    print_indent(p);
    while (column + (line->length - start) > LINE_WIDTH) {
        size_t room = column + 20 < LINE_WIDTH ? LINE_WIDTH - column : 20;
        size_t cut = start + room;
        while (cut > start && line->at[cut] != ' ')
            cut--;
        if (cut == start)
            break;
        text_add_bytes(p->out, line->at + start, cut - start);
        text_add(p->out, "\n");
        print_indent(p);
        text_add(p->out, "    ");
        start = cut + 1;
        column = ((size_t)p->indent + 1) * 4;
    }
    text_add_bytes(p->out, line->at + start, line->length - start);
    text_add(p->out, "\n");
    text_free(line);
}

/* ---- Statements ----------------------------------------------------------------------------------------------------------------- */

static void print_block(Printer *p, const Block *block);

static const char *shown_value(Printer *p, const Value *value, int bind) {
    Text text = {0};
    print_value(p, &text, value, bind);
    const char *copy = arena_copy(p->arena, text.at, text.length);
    text_free(&text);
    return copy;
}

static bool is_zero(const Value *value) {
    return value->kind == VALUE_NUMBER && value->number.integer == 0;
}

/* This thread's rounds of a parallel loop: [count * thread / threads, count * (thread + 1) / threads). */
static void print_share(Printer *p, const Statement *loop, const char *variable) {
    long long step = (long long)loop->step;
    const char *to = shown_value(p, loop->to, BIND_SUM);
    const char *from = shown_value(p, loop->from, BIND_PRODUCT);
    const char *rounds = c_name(p->names, &loop->from, arena_printf(p->arena, "%s_rounds", variable), SCOPE_LOCAL);
    const char *end = c_name(p->names, &loop->to, arena_printf(p->arena, "%s_end", variable), SCOPE_LOCAL);
    Text line = {0};
    text_printf(&line, "const int64_t %s = ", rounds);
    const char *less = is_zero(loop->from) ? "" : arena_printf(p->arena, " - %s", from);
    if (step > 1)
        text_printf(&line, "(%s%s + %lld) / %lld;", to, less, step - 1, step);
    else
        text_printf(&line, "%s%s;", to, less);
    print_line(p, &line);
    const char *plus = is_zero(loop->from) ? "" : arena_printf(p->arena, "%s + ", from);
    const char *times = step > 1 ? arena_printf(p->arena, " * %lld", step) : "";
    text_printf(&line, "const int64_t %s = %s%s * (thread + 1) / threads%s;", end, plus, rounds, times);
    print_line(p, &line);
    text_printf(&line, "for (int64_t %s = %s%s * thread / threads%s; %s < %s; ", variable, plus, rounds, times, variable,
                end);
    if (step > 1)
        text_printf(&line, "%s += %lld) {", variable, step);
    else
        text_printf(&line, "%s++) {", variable);
    print_line(p, &line);
}

static void print_loop(Printer *p, const Statement *loop) {
    const char *variable = variable_name(p, loop);
    if (loop->parallel && !p->is_map) {
        print_share(p, loop, variable);
    } else {
        Text line = {0};
        text_printf(&line, "for (int64_t %s = ", variable);
        print_value(p, &line, loop->from, BIND_ANY);
        text_printf(&line, "; %s < ", variable);
        print_value(p, &line, loop->to, BIND_SUM);
        if (loop->step > 1)
            text_printf(&line, "; %s += %lld) {", variable, (long long)loop->step);
        else
            text_printf(&line, "; %s++) {", variable);
        print_line(p, &line);
    }
    print_block(p, &loop->body);
    Text end = {0};
    text_add(&end, "}");
    print_line(p, &end);
}

static void print_store(Printer *p, const Statement *store) {
    Text line = {0};
    const char *buffer = buffer_name(p, store->buffer);
    ValueType type = store->value->type;
    if (type.lanes > 1)
        text_printf(&line, "%s(&", lane_form(&p->lanes, LANE_STORE, type, type).text);
    text_printf(&line, "%s[", buffer);
    print_value(p, &line, store->index, BIND_ANY);
    text_add(&line, type.lanes > 1 ? "], " : "] = ");
    print_value(p, &line, store->value, BIND_ANY);
    text_add(&line, type.lanes > 1 ? ");" : ";");
    print_line(p, &line);
}

static void print_comment_line(Printer *p, const char *text) {
    print_indent(p);
    text_add(p->out, "/* ");
    print_comment(p->out, text);
    text_add(p->out, " */\n");
}

static void print_statement(Printer *p, const Statement *s) {
    Text line = {0};
    switch (s->kind) {
    case STATEMENT_LOOP:
        print_loop(p, s);
        break;
    case STATEMENT_LET:
        if (!set_has(&p->used, s->value))
            break;
        text_printf(&line, "const %s %s = ", lane_type(&p->lanes, s->value->type), let_name(p, s->value));
        print_plain(p, &line, s->value, BIND_ANY);
        text_add(&line, ";");
        print_line(p, &line);
        break;
    case STATEMENT_VAR:
        if (!set_has(&p->used, s))
            break;
        text_printf(&line, "%s %s = ", lane_type(&p->lanes, s->type), variable_name(p, s));
        print_value(p, &line, s->value, BIND_ANY);
        text_add(&line, ";");
        print_line(p, &line);
        break;
    case STATEMENT_SET:
        if (!set_has(&p->used, s->target))
            break;
        text_printf(&line, "%s = ", variable_name(p, s->target));
        print_value(p, &line, s->value, BIND_ANY);
        text_add(&line, ";");
        print_line(p, &line);
        break;
    case STATEMENT_STORE:
        print_store(p, s);
        break;
    case STATEMENT_IF:
        text_printf(&line, "if (%s) {", shown_value(p, s->value, BIND_ANY));
        print_line(p, &line);
        print_block(p, &s->body);
        text_add(&line, "}");
        print_line(p, &line);
        break;
    case STATEMENT_COMMENT:
        print_comment_line(p, s->name);
        break;
    }
}

static void print_block(Printer *p, const Block *block) {
    p->indent++;
    for (int i = 0; i < block->count; i++)
        print_statement(p, block->at[i]);
    p->indent--;
}

/* ---- Math functions --------------------------------------------------------------------------------------------------------------- */

static void start_body(Printer *p) {
    p->used = p->stored = (PointerSet){0};
    memset(p->fields, 0, sizeof p->fields);
}

static void print_math(Printer *p, const MathFunction *function) {
    start_body(p);
    p->math = function;
    use_value(p, function->value);
    use_block(p, &function->body);
    if (function->about)
        print_comment_line(p, function->about);
    Text line = {0};
    text_printf(&line, "BP_MATH %s %s(", lane_type(&p->lanes, function->result), math_name(p, function));
    for (int i = 0; i < function->argument_count; i++)
        text_printf(&line, "%s%s %s", i ? ", " : "", lane_type(&p->lanes, function->arguments[i]), argument_name(p, i));
    text_add(&line, ") {");
    print_line(p, &line);
    print_block(p, &function->body);
    p->indent++;
    text_add(&line, "return ");
    print_value(p, &line, function->value, BIND_ANY);
    text_add(&line, ";");
    print_line(p, &line);
    p->indent--;
    text_add(p->out, "}\n\n");
    c_names_end_locals(p->names);
}

/* ---- Kernels -------------------------------------------------------------------------------------------------------------------------- */

static const char *place_text(Arena *arena, Span span) {
    if (span.source < 0)
        return NULL;
    Place place = span_place(span);
    return arena_printf(arena, "%s:%d", place.path, place.line);
}

static void print_head(Printer *p, Span span, const char *about) {
    const char *place = place_text(p->arena, span);
    if (!place && !about)
        return;
    text_add(p->out, "/* ");
    if (place)
        print_comment(p->out, place);
    text_add(p->out, place && about ? "  " : "");
    if (about)
        print_comment(p->out, about);
    text_add(p->out, " */\n");
}

static void print_shape(Text *out, const Buffer *buffer) {
    if (buffer->per_row)
        text_add(out, "[rows]");
    for (int i = 0; i < buffer->rank; i++)
        text_printf(out, "[%lld]", (long long)buffer->dims[i]);
}

static uint64_t buffer_end(const Buffer *buffer) {
    return buffer->offset + (uint64_t)buffer->elements * (uint64_t)scalar_bytes(buffer->scalar);
}

static bool overlaps_none(Printer *p, const Buffer *buffer) {
    for (int i = 0; i < p->kernel->buffer_count; i++) {
        const Buffer *other = p->kernel->buffers[i];
        if (other != buffer && set_has(&p->used, other) && other->offset < buffer_end(buffer) &&
            buffer->offset < buffer_end(other))
            return false;
    }
    return true;
}

static const char *element_type(Scalar scalar) {
    return scalar == SCALAR_F64 ? "double" : scalar == SCALAR_I32 ? "int32_t" : "float";
}

/* float *restrict fc1 = (float *)(context->memory + 4096); with its name in the .bp file where that differs, and its shape */
static void print_pointer(Printer *p, const Buffer *buffer) {
    const char *constant = set_has(&p->stored, buffer) ? "" : "const ";
    const char *type = element_type(buffer->scalar);
    const char *name = buffer_name(p, buffer);
    print_indent(p);
    text_printf(p->out, "%s%s *%s%s = (%s%s *)(context->memory + %llu);", constant, type,
                overlaps_none(p, buffer) ? "restrict " : "", name, constant, type, (unsigned long long)buffer->offset);
    bool renamed = buffer->shown && strcmp(buffer->shown, name) != 0;
    if (renamed || buffer->per_row || buffer->rank) {
        text_add(p->out, " /* ");
        if (renamed) {
            print_comment(p->out, buffer->shown);
            text_add(p->out, buffer->per_row || buffer->rank ? " " : "");
        }
        print_shape(p->out, buffer);
        text_add(p->out, " */");
    }
    text_add(p->out, "\n");
}

static void print_fields(Printer *p) {
    static const char *const lines[] = {"const int64_t rows = context->rows;", "const int64_t position = context->position;",
                                        "const uint64_t seed = context->seed;", "const uint64_t step = context->step;"};
    for (int field = 0; field < CONTEXT_THREAD; field++) {
        if (!p->fields[field])
            continue;
        if (p->is_map && field != CONTEXT_ROWS)
            BUG("kernel %s of a service reads the context", p->kernel->name);
        print_indent(p);
        text_printf(p->out, "%s\n", p->is_map ? "const int64_t rows = count;" : lines[field]);
    }
}

static bool takes_threads(const Printer *p) {
    return p->fields[CONTEXT_THREAD] || p->fields[CONTEXT_THREADS];
}

static const char *kernel_name(Printer *p, const Kernel *kernel) {
    return c_name(p->names, kernel, kernel->name, SCOPE_GLOBAL);
}

static void print_parameters(Printer *p) {
    if (!p->is_map) {
        text_add(p->out, "(const struct bp_context *context");
        text_add(p->out, takes_threads(p) ? ", int32_t thread, int32_t threads) {\n" : ") {\n");
        return;
    }
    const Buffer *buffer = p->kernel->buffer_count == 1 ? p->kernel->buffers[0] : NULL;
    if (!buffer || buffer->role != BUFFER_ARGUMENT)
        BUG("kernel %s of a service has another buffer than its argument", p->kernel->name);
    text_printf(p->out, "(%s *%s, int64_t count) {\n", element_type(buffer->scalar), buffer_name(p, buffer));
}

static void print_kernel(Printer *p, const Kernel *kernel, bool is_map) {
    p->kernel = kernel;
    p->is_map = is_map;
    start_body(p);
    use_block(p, &kernel->body);
    print_head(p, kernel->span, kernel->formula);
    text_printf(p->out, "static void %s", kernel_name(p, kernel));
    print_parameters(p);
    p->indent++;
    if (takes_threads(p) && !(p->fields[CONTEXT_THREAD] && p->fields[CONTEXT_THREADS])) {
        print_indent(p);
        text_printf(p->out, "(void)%s;\n", p->fields[CONTEXT_THREAD] ? "threads" : "thread");
    }
    int pointers = 0;
    for (int i = 0; i < kernel->buffer_count && !is_map; i++)
        if (set_has(&p->used, kernel->buffers[i])) {
            print_pointer(p, kernel->buffers[i]);
            pointers++;
        }
    print_fields(p);
    if (is_map ? !p->fields[CONTEXT_ROWS] : !pointers) {
        print_indent(p);
        text_printf(p->out, "(void)%s;\n", is_map ? "count" : "context");
    }
    p->indent--;
    print_block(p, &kernel->body);
    text_add(p->out, "}\n\n");
    c_names_end_locals(p->names);
}

/* ---- Functions ---------------------------------------------------------------------------------------------------------------------------- */

/* Whether a kernel takes its thread: known from its body again, since functions are printed after all kernels. */
static bool kernel_takes_threads(Printer *p, const Kernel *kernel) {
    p->is_map = false;
    start_body(p);
    use_block(p, &kernel->body);
    return takes_threads(p);
}

static void print_call(Printer *p, const Kernel *kernel, bool parallel) {
    bool takes = kernel_takes_threads(p, kernel);
    const char *name = kernel_name(p, kernel);
    if (parallel && !kernel->parallel)
        text_add(p->out, "    if (thread == 0)\n    ");
    text_printf(p->out, "    %s(context%s);\n", name, takes ? ", thread, threads" : "");
}

static void print_guard(Printer *p, const Buffer *buffer) {
    ValueType type = {buffer->scalar, 1};
    text_add(p->out, "    /* nothing more is done unless ");
    print_comment(p->out, buffer->shown ? buffer->shown : buffer->name);
    text_add(p->out, " is finite */\n");
    text_printf(p->out, "    if (!%s(*(const %s *)(context->memory + %llu)))\n        return;\n",
                lane_form(&p->lanes, LANE_FINITE, (ValueType){SCALAR_BOOL, 1}, type).text, element_type(buffer->scalar),
                (unsigned long long)buffer->offset);
}

static bool uses_thread(Printer *p, const Function *function) {
    for (int i = 0; i < function->step_count; i++)
        if (function->steps[i].kind == STEP_KERNEL &&
            (function->parallel || kernel_takes_threads(p, function->steps[i].kernel)))
            return true;
    return false;
}

static void print_steps(Printer *p, const Function *function) {
    bool empty = true;
    for (int i = 0; i < function->step_count; i++)
        empty &= function->steps[i].kind == STEP_BARRIER;
    if (empty)
        text_add(p->out, "    (void)context;\n");
    if (!uses_thread(p, function))
        text_add(p->out, "    (void)thread;\n    (void)threads;\n");
    else if (!function->parallel)
        text_add(p->out, ""); /* called as (0, 1) */
    for (int i = 0; i < function->step_count; i++) {
        const Step *step = &function->steps[i];
        if (step->kind == STEP_KERNEL)
            print_call(p, step->kernel, function->parallel);
        else if (step->kind == STEP_GUARD)
            print_guard(p, step->buffer);
        else if (function->parallel)
            text_add(p->out, "    if (threads > 1)\n        bp_barrier(context->team, thread);\n");
    }
}

static void print_function(Printer *p, const Function *function, bool is_static) {
    const char *name = c_name(p->names, function->name, function->name, SCOPE_GLOBAL);
    print_head(p, function->span, function->about);
    const char *storage = is_static ? "static " : "";
    if (function->is_map) {
        const char *declaration =
            arena_printf(p->arena, "%svoid %s(float *values, int64_t count)", storage, name);
        if (!is_static)
            text_printf(p->out, "%s;\n", declaration);
        text_printf(p->out, "%s {\n", declaration);
        for (int i = 0; i < function->step_count; i++)
            if (function->steps[i].kind == STEP_KERNEL)
                text_printf(p->out, "    %s(values, count);\n", kernel_name(p, function->steps[i].kernel));
    } else {
        if (!is_static)
            text_printf(p->out, "bp_code %s;\n", name);
        text_printf(p->out, "%svoid %s(const struct bp_context *context, int32_t thread, int32_t threads) {\n", storage,
                    name);
        print_steps(p, function);
    }
    text_add(p->out, "}\n\n");
}

/* ---- All of it ------------------------------------------------------------------------------------------------------------------------------ */

typedef struct Wanted {
    Module *module;
    PointerSet functions;
} Wanted;

static void want_function(void *argument, const char *name) {
    Wanted *wanted = argument;
    for (int i = 0; i < wanted->module->functions.count; i++)
        if (strcmp(wanted->module->functions.at[i]->name, name) == 0) {
            set_add(wanted->module->arena, &wanted->functions, wanted->module->functions.at[i]);
            return;
        }
    BUG("the program names a function that the module lacks: %s", name);
}

void print_kernels(Module *module, const struct bp_program *program, CNames *names, Text *out) {
    Text maths = {0}, kernels = {0}, functions = {0};
    Printer p = {.arena = module->arena, .names = names, .lanes = {.arena = module->arena}, .out = &maths};
    Wanted wanted = {.module = module};
    if (program)
        program_functions(program, want_function, &wanted);
    for (int i = 0; i < module->functions.count; i++) /* their names first: they are the ones that are known outside */
        c_name(names, module->functions.at[i]->name, module->functions.at[i]->name, SCOPE_GLOBAL);
    for (int i = 0; i < module->maths.count; i++)
        math_name(&p, module->maths.at[i]);

    PointerSet printed = {0};
    for (int i = 0; i < module->functions.count; i++) {
        const Function *function = module->functions.at[i];
        if (program && !set_has(&wanted.functions, function))
            continue;
        p.out = &kernels;
        for (int k = 0; k < function->step_count; k++)
            if (function->steps[k].kind == STEP_KERNEL && set_add(module->arena, &printed, function->steps[k].kernel))
                print_kernel(&p, function->steps[k].kernel, function->is_map);
        p.out = &functions;
        print_function(&p, function, program != NULL);
    }
    p.out = &maths;
    for (int i = 0; i < module->maths.count; i++)
        print_math(&p, module->maths.at[i]);

    if (p.lanes.types.length)
        text_printf(out, "%s\n", p.lanes.types.at);
    if (p.lanes.functions.length)
        text_printf(out, "%s\n", p.lanes.functions.at);
    Text *const parts[] = {&maths, &kernels, &functions, &p.lanes.types, &p.lanes.functions};
    for (int i = 0; i < 3; i++)
        if (parts[i]->length)
            text_add_bytes(out, parts[i]->at, parts[i]->length);
    for (int i = 0; i < 5; i++)
        text_free(parts[i]);
}
