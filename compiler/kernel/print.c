/* A module as text for people: `--dump=kernel`. */
#include "kernel.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

typedef struct Printer {
    Text *out;
    int depth;
} Printer;

static void print_type(Printer *p, ValueType type) {
    text_add(p->out, scalar_name(type.scalar));
    if (type.lanes > 1)
        text_printf(p->out, "x%d", type.lanes);
}

static void print_float(Printer *p, double number, Scalar scalar) {
    if (scalar == SCALAR_F64 || !isfinite(number) || number == floor(number)) {
        text_add(p->out, number == 0 && signbit(number) ? "-" : "");
        text_number(p->out, number);
        return;
    }
    char digits[40];
    for (int precision = 1; precision <= 9; precision++) { /* short, and still the same f32 */
        snprintf(digits, sizeof digits, "%.*g", precision, number);
        if ((double)strtof(digits, NULL) == number)
            break;
    }
    text_add(p->out, digits);
}

static void print_number(Printer *p, const Value *value) {
    int64_t bits = value->number.integer;
    switch (value->type.scalar) {
    case SCALAR_F32:
    case SCALAR_F64:
        print_float(p, value->number.real, value->type.scalar);
        break;
    case SCALAR_BOOL:
        text_add(p->out, bits ? "true" : "false");
        break;
    case SCALAR_U32:
        text_printf(p->out, bits < 65536 ? "%" PRIu32 : "0x%08" PRIX32, (uint32_t)bits);
        break;
    case SCALAR_U64:
        text_printf(p->out, "%" PRIu64, (uint64_t)bits);
        break;
    default:
        text_printf(p->out, "%" PRId64, bits);
    }
}

/* How tightly an operator binds; 0: written as a function. */
static int tightness(const Value *value) {
    if (value->kind != VALUE_OP || value->let || value->arg_count != 2 ||
        isalpha((unsigned char)*op_table[value->op].c))
        return 0;
    switch (*op_table[value->op].c) {
    case '*':
    case '/':
    case '%':
        return 6;
    case '+':
    case '-':
        return 5;
    case '<':
        return op_table[value->op].c[1] == '<' ? 4 : 3;
    case '>':
        return 4;
    case '=':
    case '!':
        return 3;
    default:
        return 2; /* & ^ | */
    }
}

static void print_value(Printer *p, const Value *value);

/* Parentheses where reading would ask for them: another operator of the same tightness to the right, or among shifts
 * and bits. */
static void print_operand(Printer *p, const Value *value, int outer, bool is_right) {
    int inner = tightness(value);
    bool wrapped = inner && (inner < outer || (inner == outer && is_right) || outer < 5);
    text_add(p->out, wrapped ? "(" : "");
    print_value(p, value);
    text_add(p->out, wrapped ? ")" : "");
}

static void print_arguments(Printer *p, const Value *value) {
    text_add(p->out, "(");
    for (int i = 0; i < value->arg_count; i++) {
        text_add(p->out, i ? ", " : "");
        print_value(p, value->args[i]);
    }
    text_add(p->out, ")");
}

static void print_op(Printer *p, const Value *value) {
    const OpInfo *info = &op_table[value->op];
    int outer = tightness(value);
    if (outer) {
        print_operand(p, value->args[0], outer, false);
        text_printf(p->out, " %s ", info->c);
        print_operand(p, value->args[1], outer, true);
    } else if (value->op == OP_NEGATE) {
        text_add(p->out, "-");
        print_operand(p, value->args[0], 7, false);
    } else {
        text_add(p->out, value->op == OP_BITCAST ? "bits_as_" : info->name);
        if (value->op == OP_BITCAST || value->op == OP_CONVERT) {
            text_add(p->out, value->op == OP_CONVERT ? "_" : "");
            print_type(p, value->type);
        }
        print_arguments(p, value);
    }
}

static void print_indexed(Printer *p, const Buffer *buffer, const Value *index, int lanes) {
    text_printf(p->out, "%s[", buffer->name);
    print_value(p, index);
    if (lanes > 1)
        text_printf(p->out, " .. +%d", lanes);
    text_add(p->out, "]");
}

/* The value as its own expression, whatever its name. */
static void print_expression(Printer *p, const Value *value) {
    static const char *const fields[] = {"rows", "position", "seed", "step", "thread", "threads"};
    switch (value->kind) {
    case VALUE_NUMBER:
        print_number(p, value);
        break;
    case VALUE_VARIABLE:
    case VALUE_REGISTER:
        text_add(p->out, value->statement->name);
        break;
    case VALUE_CONTEXT:
        text_add(p->out, fields[value->field]);
        break;
    case VALUE_OP: {
        Value unnamed = *value;
        unnamed.let = NULL;
        print_op(p, &unnamed);
        break;
    }
    case VALUE_LOAD:
        print_indexed(p, value->buffer, value->args[0], value->type.lanes);
        break;
    case VALUE_SPLAT:
        text_printf(p->out, "splat%d", value->type.lanes);
        print_arguments(p, value);
        break;
    case VALUE_LANES:
        text_printf(p->out, "lanes%d", value->type.lanes);
        break;
    case VALUE_EXTRACT:
        print_operand(p, value->args[0], 7, false);
        text_printf(p->out, ".%d", (int)value->number.integer);
        break;
    case VALUE_TREE:
        text_printf(p->out, "tree_%s", value->op == OP_ADD ? "sum" : op_table[value->op].name);
        print_arguments(p, value);
        break;
    case VALUE_ARGUMENT:
        text_add(p->out, value->let);
        break;
    case VALUE_CALL:
        text_add(p->out, value->function->name);
        print_arguments(p, value);
        break;
    }
}

static void print_value(Printer *p, const Value *value) {
    if (value->let)
        text_add(p->out, value->let);
    else
        print_expression(p, value);
}

static void start_line(Printer *p) {
    text_printf(p->out, "%*s", p->depth * 4, "");
}

static void print_block(Printer *p, const Block *block);

static void print_loop(Printer *p, const Statement *loop) {
    text_printf(p->out, "for %s in ", loop->name);
    print_value(p, loop->from);
    text_add(p->out, " .. ");
    print_value(p, loop->to);
    text_printf(p->out, " step %" PRId64 "%s\n", loop->step, loop->parallel ? " parallel" : "");
    print_block(p, &loop->body);
}

static void print_statement(Printer *p, const Statement *statement) {
    start_line(p);
    switch (statement->kind) {
    case STATEMENT_LOOP:
        print_loop(p, statement);
        return;
    case STATEMENT_LET:
        text_printf(p->out, "%s = ", statement->value->let);
        print_expression(p, statement->value);
        break;
    case STATEMENT_VAR:
        text_printf(p->out, "var %s : ", statement->name);
        print_type(p, statement->type);
        text_add(p->out, " = ");
        print_value(p, statement->value);
        break;
    case STATEMENT_SET:
        text_printf(p->out, "%s = ", statement->target->name);
        print_value(p, statement->value);
        break;
    case STATEMENT_STORE:
        print_indexed(p, statement->buffer, statement->index, statement->value->type.lanes);
        text_add(p->out, " = ");
        print_value(p, statement->value);
        break;
    case STATEMENT_IF:
        text_add(p->out, "if ");
        print_value(p, statement->value);
        text_add(p->out, "\n");
        print_block(p, &statement->body);
        return;
    case STATEMENT_PREFETCH:
        text_add(p->out, statement->write ? "prefetch to write " : "prefetch ");
        print_indexed(p, statement->buffer, statement->index, 1);
        break;
    case STATEMENT_COMMENT:
        text_printf(p->out, "# %s", statement->name);
        break;
    }
    text_add(p->out, "\n");
}

static void print_block(Printer *p, const Block *block) {
    p->depth++;
    for (int i = 0; i < block->count; i++)
        print_statement(p, block->at[i]);
    p->depth--;
}

static void print_buffer(Printer *p, const Buffer *buffer) {
    static const char *const roles[] = {"scalars", "parameter", "state",   "feed",    "temporary",
                                        "output",  "totals",    "scratch", "argument"};
    text_printf(p->out, "    %-9s %s : %s[", roles[buffer->role], buffer->name, scalar_name(buffer->scalar));
    text_add(p->out, buffer->per_row ? "rows" : "");
    for (int i = 0; i < buffer->rank; i++)
        text_printf(p->out, "%s%" PRId64, i || buffer->per_row ? ", " : "", buffer->dims[i]);
    text_add(p->out, "]");
    if (buffer->role != BUFFER_ARGUMENT)
        text_printf(p->out, " at %" PRIu64, buffer->offset);
    text_add(p->out, "\n");
}

static void print_kernel(Printer *p, const Kernel *kernel) {
    text_printf(p->out, "    kernel %s", kernel->name);
    if (kernel->formula)
        text_printf(p->out, "  # %s", kernel->formula);
    text_add(p->out, "\n");
    p->depth = 1;
    print_block(p, &kernel->body);
}

static void print_function(Printer *p, const Function *function) {
    if (function->about)
        text_printf(p->out, "# %s\n", function->about);
    text_printf(p->out, "function %s : at most %" PRId64 " rows%s%s%s\n", function->name, function->capacity,
                function->parallel ? ", parallel" : ", serial", function->is_double ? ", double" : "",
                function->is_map ? ", map" : "");
    for (int i = 0; i < function->buffer_count; i++)
        print_buffer(p, function->buffers[i]);
    for (int i = 0; i < function->step_count; i++) {
        const Step *step = &function->steps[i];
        if (step->kind == STEP_KERNEL)
            print_kernel(p, step->kernel);
        else if (step->kind == STEP_BARRIER)
            text_add(p->out, "    barrier\n");
        else if (step->kind == STEP_WHEN)
            text_printf(p->out, "    when step + 1 is a multiple of %" PRId64 "\n", step->element);
        else if (step->kind == STEP_END)
            text_add(p->out, "    end\n");
        else
            text_printf(p->out, "    guard %s[%" PRId64 "] is finite\n", step->buffer->name, step->element);
    }
    text_add(p->out, "\n");
}

static void print_math(Printer *p, const MathFunction *function) {
    text_printf(p->out, "# %s\nmath %s(", function->about, function->name);
    for (int i = 0; i < function->argument_count; i++) {
        text_printf(p->out, "%s%s : ", i ? ", " : "", function->argument_names[i]);
        print_type(p, function->arguments[i]);
    }
    text_add(p->out, ") : ");
    print_type(p, function->result);
    text_add(p->out, "\n");
    p->depth = 0;
    print_block(p, &function->body);
    text_add(p->out, "    return ");
    print_value(p, function->value);
    text_add(p->out, "\n\n");
}

void module_print(const Module *module, Text *out) {
    Printer printer = {out, 0};
    text_printf(out, "memory %" PRIu64 " bytes", module->memory_bytes);
    if (module->scratch_bytes)
        text_printf(out, ", and %" PRIu64 " for each thread", module->scratch_bytes);
    text_add(out, "\n\n");
    for (int i = 0; i < module->maths.count; i++)
        print_math(&printer, module->maths.at[i]);
    for (int i = 0; i < module->functions.count; i++)
        print_function(&printer, module->functions.at[i]);
}
