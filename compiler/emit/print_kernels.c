/* Kernels and functions as C. Before: a verified module. After: text that stands behind the declarations of program.h.
 */
#include "printer.h"

#include <stdlib.h>
#include <string.h>

enum { LINE_WIDTH = 116 };

/* ---- What is used
 * ------------------------------------------------------------------------------------------------------ */

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
        case STATEMENT_PREFETCH:
            use_value(p, s->index);
            use_buffer(p, s->buffer);
            break;
        case STATEMENT_VAR:
        case STATEMENT_SET:
        case STATEMENT_IF:
            use_value(p, s->value);
            break;
        case STATEMENT_STORE:
            use_value(p, s->value);
            use_value(p, s->index);
            use_buffer(p, s->buffer);
            set_add(p->arena, &p->stored, s->buffer);
            break;
        }
        use_block(p, &s->body);
    }
}

/* ---- Lines
 * --------------------------------------------------------------------------------------------------------------------
 */

static void print_indent(Printer *p) {
    text_indent(p->out, "", p->indent);
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

/* ---- Statements
 * ----------------------------------------------------------------------------------------------------------------- */

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
    text_printf(&line, "for (int64_t %s = %s%s * thread / threads%s; %s < %s; ", variable, plus, rounds, times,
                variable, end);
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

/* gcc reads what is loaded once and used often from memory at each use, and of a tile's sums it keeps some in memory when
   what follows the loop is long: either costs up to a third of the speed. */
static bool keeps(const Printer *p, const Statement *s) {
    const Value *value = s->value;
    if (value->type.lanes == 1)
        return false;
    return s->kind == STATEMENT_LET ? value->kind == VALUE_LOAD && set_has(&p->often, value)
                                    : !value->let && value->kind == VALUE_OP && value->op == OP_FMA;
}

static void print_assigned(Printer *p, Text *line, const Statement *s) {
    bool kept = keeps(p, s);
    if (kept)
        text_printf(line, "%s(", lane_form(&p->lanes, LANE_KEEP, s->value->type, s->value->type).text);
    if (s->kind == STATEMENT_LET)
        print_plain(p, line, s->value, BIND_ANY);
    else
        print_value(p, line, s->value, BIND_ANY);
    text_add(line, kept ? ");" : ";");
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
        print_assigned(p, &line, s);
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
        print_assigned(p, &line, s);
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
    case STATEMENT_PREFETCH:
        text_printf(&line, "__builtin_prefetch(&%s[", buffer_name(p, s->buffer));
        print_value(p, &line, s->index, BIND_ANY);
        text_add(&line, s->write ? "], 1);" : "], 0);");
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

/* ---- Math functions
 * --------------------------------------------------------------------------------------------------------------- */

static void start_body(Printer *p) {
    set_clear(&p->used);
    set_clear(&p->often);
    set_clear(&p->stored);
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

/* ---- Kernels
 * --------------------------------------------------------------------------------------------------------------------------
 */

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

/* ---- kernels of one shape: a function that is told where its buffers are ---- */

enum { WORTH_SHARING = 400 }; /* instructions saved: below, kernels of their own, which know where their buffers are */

static bool is_shared(Printer *p, const Kernel *kernel) {
    const Shape *shape = shape_of(&p->shapes, kernel);
    int uses = (int)(uintptr_t)map_find(&p->uses, shape);
    return !shape->is_map && (uses - 1) * shape->weight >= WORTH_SHARING;
}

static const Kernel *first_of_shape(Printer *p, const Kernel *kernel) {
    return is_shared(p, kernel) ? map_find(&p->first, shape_of(&p->shapes, kernel)) : kernel;
}

static void count_use(Printer *p, const Kernel *kernel) {
    const Shape *shape = shape_of(&p->shapes, kernel);
    uintptr_t uses = (uintptr_t)map_find(&p->uses, shape);
    map_put(p->arena, &p->uses, shape, (void *)(uses + 1));
    if (!uses)
        map_put(p->arena, &p->first, shape, (void *)(uintptr_t)kernel);
}

/* ---- units: compiled side by side ---- */

/* What the C compiler needs, in instructions of LLVM IR, of which it takes about 5 a millisecond. */
enum { COST_KERNEL = 100, COST_STEP = 4, WORTH_A_UNIT = 2500 };

static int unit_of(const Printer *p, const Kernel *kernel) {
    return (int)(uintptr_t)map_find(&p->unit, kernel);
}

typedef struct Printed { /* a kernel, once for all of its shape */
    const Kernel *kernel;
    const Function *function; /* the first that runs it */
    int cost;
} Printed;

static int by_cost(const void *left, const void *right) {
    const Printed *a = left, *b = right;
    return a->cost != b->cost ? (a->cost < b->cost ? 1 : -1) : strcmp(a->kernel->name, b->kernel->name);
}

/* A function that one thread runs has kernels so short that a call counts: they stay beside it, where the C compiler may
   put them into it. */
static bool stays(const Printed *printed) {
    return !printed->function->parallel && !printed->function->is_double;
}

/* The first unit has the functions, and what stays; then the dearest kernel first, each to the unit that has least. */
static void cut_units(Printer *p, const Printed *kernels, int count, int functions_cost, int most) {
    int64_t loads[C_UNITS_MAX] = {functions_cost}, total = functions_cost;
    Printed *ordered = arena_array(p->arena, Printed, count + 1);
    for (int i = 0; i < count; i++) {
        ordered[i] = kernels[i];
        total += kernels[i].cost;
        loads[0] += stays(&kernels[i]) ? kernels[i].cost : 0;
    }
    qsort(ordered, (size_t)count, sizeof *ordered, by_cost);
    p->units = most;
    while (p->units > 1 && total < (int64_t)p->units * WORTH_A_UNIT)
        p->units--;
    for (int i = 0; i < count; i++) {
        int least = 0;
        if (stays(&ordered[i]))
            continue;
        for (int unit = 1; unit < p->units; unit++)
            if (loads[unit] < loads[least])
                least = unit;
        loads[least] += ordered[i].cost;
        map_put(p->arena, &p->unit, ordered[i].kernel, (void *)(uintptr_t)least);
    }
}

/* float *restrict fc1 = (float *)(context->memory + 4096); with its name in the .bp file where that differs, and its
   shape. `at`: its number among the kernel's buffers where the kernel is told; -1 */
static void print_pointer(Printer *p, const Buffer *buffer, int at) {
    const char *constant = set_has(&p->stored, buffer) ? "" : "const ";
    const char *type = element_type(buffer->scalar);
    const char *name = buffer_name(p, buffer);
    print_indent(p);
    text_printf(p->out, "%s%s *%s%s = (%s%s *)(context->memory + ", constant, type,
                overlaps_none(p, buffer) ? "restrict " : "", name, constant, type);
    if (at < 0)
        text_printf(p->out, "%llu", (unsigned long long)buffer->offset);
    else
        text_printf(p->out, "at[%d]", at);
    if (buffer_of_thread(buffer))
        text_printf(p->out, " + (uint64_t)thread * %llu", (unsigned long long)p->scratch_bytes);
    text_add(p->out, ");");
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
    static const char *const lines[] = {"const int64_t rows = context->rows;",
                                        "const int64_t position = context->position;",
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

static void print_parameters(Printer *p, Text *out, bool shared) {
    if (!p->is_map) {
        text_printf(out, "(const struct bp_context *context%s%s)",
                    takes_threads(p) ? ", int32_t thread, int32_t threads" : "", shared ? ", const uint64_t at[]" : "");
        return;
    }
    const Buffer *buffer = p->kernel->buffer_count == 1 ? p->kernel->buffers[0] : NULL;
    if (!buffer || buffer->role != BUFFER_ARGUMENT)
        BUG("kernel %s of a service has another buffer than its argument", p->kernel->name);
    text_printf(out, "(%s *%s, int64_t count)", element_type(buffer->scalar), buffer_name(p, buffer));
}

/* Before the body: in a unit of the C compiler other than the first a kernel is told to the first by a prototype. */
static void print_signature(Printer *p, const Kernel *kernel, const Function *function) {
    bool shared = is_shared(p, kernel);
    const char *rare = function->is_double ? " BP_RARE" : "";
    const char *name = kernel_name(p, kernel);
    if (unit_of(p, kernel)) {
        text_printf(&p->prototypes, "BP_OTHER_UNIT%s void %s", rare, name);
        print_parameters(p, &p->prototypes, shared);
        text_add(&p->prototypes, ";\n");
        text_printf(p->out, "void %s", name);
    } else {
        text_printf(p->out, "%s%s void %s", shared ? "BP_SHARED" : "static", rare, name);
    }
    print_parameters(p, p->out, shared);
    text_add(p->out, " {\n");
}

static void print_kernel(Printer *p, const Kernel *kernel, const Function *function) {
    bool is_map = function->is_map;
    bool shared = is_shared(p, kernel);
    p->kernel = kernel;
    p->is_map = is_map;
    start_body(p);
    use_block(p, &kernel->body);
    if (takes_threads(p) && !is_map)
        map_put(p->arena, &p->with_threads, kernel, p);
    if (p->units > 1)
        text_printf(p->out, "#if BP_UNIT == %d\n", unit_of(p, kernel));
    print_head(p, kernel->span, kernel->formula);
    if (shared) {
        print_indent(p);
        text_add(p->out, "/* and all that do the same with other buffers */\n");
    }
    print_signature(p, kernel, function);
    p->indent++;
    if (takes_threads(p) && !p->fields[CONTEXT_THREAD]) {
        print_indent(p);
        text_add(p->out, "(void)thread;\n");
    }
    if (takes_threads(p) && !p->fields[CONTEXT_THREADS]) {
        print_indent(p);
        text_add(p->out, "(void)threads;\n");
    }
    int pointers = 0;
    for (int i = 0; i < kernel->buffer_count && !is_map; i++)
        if (set_has(&p->used, kernel->buffers[i])) {
            print_pointer(p, kernel->buffers[i], shared ? i : -1);
            pointers++;
        }
    print_fields(p);
    if (is_map ? !p->fields[CONTEXT_ROWS] : !pointers) { /* a use too many does no harm */
        print_indent(p);
        text_printf(p->out, "(void)%s;\n", is_map ? "count" : "context");
    }
    p->indent--;
    print_block(p, &kernel->body);
    text_add(p->out, p->units > 1 ? "}\n#endif\n\n" : "}\n\n");
    c_names_end_locals(p->names);
}

/* ---- Functions
 * ----------------------------------------------------------------------------------------------------------------------------
 */

/* Whether a kernel takes its thread. */
static bool kernel_takes_threads(Printer *p, const Kernel *kernel) {
    return map_find(&p->with_threads, first_of_shape(p, kernel)) != NULL;
}

/* Where a shared kernel's buffers are. In a table: as numbers that the function puts on its stack they took gcc as long as
   a tenth of the whole program does. */
static void print_places(Printer *p, const Kernel *kernel) {
    text_add(p->out, "        static const uint64_t at[] = {");
    for (int i = 0; i < kernel->buffer_count; i++)
        text_printf(p->out, "%s%llu", i ? ", " : "", (unsigned long long)kernel->buffers[i]->offset);
    text_add(p->out, "};\n");
}

static void print_call(Printer *p, const Kernel *kernel, bool parallel) {
    bool takes = kernel_takes_threads(p, kernel), shared = is_shared(p, kernel), once = parallel && !kernel->parallel;
    if (shared && kernel->formula) {
        text_add(p->out, "    /* ");
        print_comment(p->out, kernel->formula);
        text_add(p->out, " */\n");
    }
    if (shared || once)
        text_printf(p->out, "    %s%s\n", once ? "if (thread == 0)" : "", !shared ? "" : once ? " {" : "{");
    if (shared)
        print_places(p, kernel);
    text_printf(p->out, "    %s%s(context%s%s);\n", shared || once ? "    " : "",
                kernel_name(p, first_of_shape(p, kernel)), takes ? ", thread, threads" : "", shared ? ", at" : "");
    if (shared)
        text_add(p->out, "    }\n");
}

static void print_guard(Printer *p, const Step *step) {
    const Buffer *buffer = step->buffer;
    ValueType type = {buffer->scalar, 1};
    text_add(p->out, "    /* nothing more is done unless ");
    print_comment(p->out, buffer->shown ? buffer->shown : buffer->name);
    if (step->element)
        text_printf(p->out, "[%lld]", (long long)step->element);
    text_add(p->out, " is finite */\n");
    uint64_t offset = buffer->offset + (uint64_t)step->element * (uint64_t)scalar_bytes(buffer->scalar);
    text_printf(p->out, "    if (!%s(*(const %s *)(context->memory + %llu)))\n        return;\n",
                lane_form(&p->lanes, LANE_FINITE, (ValueType){SCALAR_BOOL, 1}, type).text, element_type(buffer->scalar),
                (unsigned long long)offset);
}

/* Which of its parameters the function's steps name. */
static void use_threads(Printer *p, const Function *function, bool *thread, bool *threads) {
    *thread = *threads = false;
    for (int i = 0; i < function->step_count; i++) {
        const Step *step = &function->steps[i];
        bool shared = step->kind == STEP_KERNEL && kernel_takes_threads(p, step->kernel);
        bool barrier = step->kind == STEP_BARRIER && function->parallel;
        *thread |= shared || barrier || (step->kind == STEP_KERNEL && function->parallel && !step->kernel->parallel);
        *threads |= shared || barrier;
    }
}

static void print_steps(Printer *p, const Function *function) {
    bool empty = true;
    for (int i = 0; i < function->step_count; i++)
        empty &= function->steps[i].kind == STEP_BARRIER;
    if (empty)
        text_add(p->out, "    (void)context;\n");
    bool thread, threads;
    use_threads(p, function, &thread, &threads);
    text_add(p->out, thread ? "" : "    (void)thread;\n");
    text_add(p->out, threads ? "" : "    (void)threads;\n");
    for (int i = 0; i < function->step_count; i++) {
        const Step *step = &function->steps[i];
        if (step->kind == STEP_KERNEL)
            print_call(p, step->kernel, function->parallel);
        else if (step->kind == STEP_GUARD)
            print_guard(p, step);
        else if (step->kind == STEP_WHEN)
            text_printf(p->out, "    if ((context->step + 1) %% %lld == 0) {\n", (long long)step->element);
        else if (step->kind == STEP_END)
            text_add(p->out, "    }\n");
        else if (function->parallel)
            text_add(p->out, "    if (threads > 1)\n        bp_barrier(context->team, thread);\n");
    }
}

static void print_function(Printer *p, const Function *function, bool is_static) {
    const char *name = c_name(p->names, function->name, function->name, SCOPE_GLOBAL);
    print_head(p, function->span, function->about);
    const char *storage = is_static ? "static " : "";
    if (function->is_map) {
        const char *declaration = arena_printf(p->arena, "%svoid %s(float *values, int64_t count)", storage, name);
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

/* ---- All of it
 * ------------------------------------------------------------------------------------------------------------------------------
 */

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

int print_kernels(Module *module, const struct bp_program *program, int most_units, CNames *names, Text *out) {
    Text maths = {0}, kernels = {0}, functions = {0};
    Printer p = {.arena = module->arena,
                 .names = names,
                 .lanes = {.arena = module->arena},
                 .out = &maths,
                 .scratch_bytes = module->scratch_bytes};
    Wanted wanted = {.module = module};
    if (program)
        program_functions(program, want_function, &wanted);
    for (int i = 0; i < module->functions.count; i++) /* their names first: they are the ones that are known outside */
        c_name(names, module->functions.at[i]->name, module->functions.at[i]->name, SCOPE_GLOBAL);
    for (int i = 0; i < module->maths.count; i++)
        math_name(&p, module->maths.at[i]);

    shapes_find(module->arena, module, &p.shapes);
    PointerSet counted = {0}, listed = {0};
    for (int i = 0; i < module->functions.count; i++) {
        const Function *function = module->functions.at[i];
        for (int k = 0; k < function->step_count && (!program || set_has(&wanted.functions, function)); k++)
            if (function->steps[k].kind == STEP_KERNEL && set_add(module->arena, &counted, function->steps[k].kernel))
                count_use(&p, function->steps[k].kernel);
    }
    LIST(Printed) printed = {0};
    int functions_cost = 0;
    for (int i = 0; i < module->functions.count; i++) {
        const Function *function = module->functions.at[i];
        if (program && !set_has(&wanted.functions, function))
            continue;
        for (int k = 0; k < function->step_count; k++) {
            if (function->steps[k].kind != STEP_KERNEL)
                continue;
            const Kernel *kernel = first_of_shape(&p, function->steps[k].kernel);
            functions_cost += COST_STEP;
            if (set_add(module->arena, &listed, kernel))
                *LIST_ADD(module->arena, &printed) =
                    (Printed){kernel, function, COST_KERNEL + shape_of(&p.shapes, kernel)->weight};
        }
    }
    cut_units(&p, printed.at, printed.count, functions_cost, most_units);
    p.out = &kernels;
    for (int i = 0; i < printed.count; i++)
        print_kernel(&p, printed.at[i].kernel, printed.at[i].function);
    p.out = &functions;
    for (int i = 0; i < module->functions.count; i++)
        if (!program || set_has(&wanted.functions, module->functions.at[i]))
            print_function(&p, module->functions.at[i], program != NULL);
    p.out = &maths;
    for (int i = 0; i < module->maths.count; i++)
        print_math(&p, module->maths.at[i]);

    if (p.lanes.types.length)
        text_printf(out, "%s\n", p.lanes.types.at);
    if (p.lanes.functions.length)
        text_printf(out, "%s\n", p.lanes.functions.at);
    if (p.prototypes.length)
        text_add(&p.prototypes, "\n");
    Text *const parts[] = {&maths, &p.prototypes, &kernels, &functions, &p.lanes.types, &p.lanes.functions};
    for (int i = 0; i < 3; i++)
        if (parts[i]->length)
            text_add_bytes(out, parts[i]->at, parts[i]->length);
    if (p.units > 1)
        text_add(out, "#if BP_UNIT == 0 /* to the end of the file */\n\n");
    text_add_bytes(out, functions.at, functions.length);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        text_free(parts[i]);
    return p.units;
}
