/* Terms, scopes and the way elaboration reports what is wrong. */
#include "build.h"

#include <math.h>
#include <string.h>

Term term_node(Node *node, Span span) {
    Term term = {0};
    term.kind = node ? TERM_NODE : TERM_NOTHING;
    term.node = node;
    term.span = span;
    return term;
}

Term build_error(Build *build, Span span, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char text[1024];
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    bool inside = span_in_prelude(span) && build->user.source >= 0;
    Span at = inside ? build->user : span;
    if (at.source >= 0 && at.source == build->reported.source && at.start == build->reported.start &&
        at.end == build->reported.end)
        return NOTHING;
    build->reported = at;
    error_at(at, "%s", text);
    if (inside)
        note_at(span, "in the prelude's '%s'", build->callee ? build->callee : "?");
    return NOTHING;
}

void build_note(Build *build, Span span, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char text[1024];
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (span.source < 0 || (span_in_prelude(span) && build->user.source >= 0))
        return;
    note_at(span, "%s", text);
}

const char *node_called(Arena *arena, const Node *node) {
    return node->label ? arena_printf(arena, "'%s'", node->label) : node_shape(arena, node);
}

const char *term_kind_name(const Term *term) {
    switch (term->kind) {
    case TERM_NODE:
        return "a value";
    case TERM_FUNCTION:
    case TERM_BUILTIN:
        return "a function";
    case TERM_MODEL:
        return "a model";
    case TERM_DATA:
        return "a data set";
    case TERM_COLUMN:
        return "a column";
    case TERM_TUPLE:
        return "several outputs";
    case TERM_STRING:
        return "a string";
    case TERM_SYMBOL:
        return "a word";
    case TERM_LIST:
        return "a list";
    case TERM_FIRST:
        return "a first value";
    case TERM_STALE:
        return "a value of before an update";
    case TERM_NOTHING:
        break;
    }
    return "nothing";
}

/* [1, 2, 5] where a value is needed: a vector */
static Node *list_vector(Build *build, const Term *list) {
    Node **parts = arena_array(build->arena, Node *, list->count ? list->count : 1);
    for (int i = 0; i < list->count; i++) {
        parts[i] = term_number(build, &list->at[i]);
        if (parts[i] && parts[i]->rank > 1)
            build_error(build, list->at[i].span, "a list holds numbers and vectors, not %s",
                        node_shape(build->arena, parts[i]));
        if (!parts[i] || parts[i]->rank > 1)
            return NULL;
    }
    if (list->count)
        return node_concat(build->graph, parts, list->count);
    build_error(build, list->span, "this list is empty: a value is needed here");
    return NULL;
}

Node *term_value(Build *build, const Term *term) {
    if (term->kind == TERM_NODE)
        return term->node;
    if (term->kind == TERM_LIST)
        return list_vector(build, term);
    if (term->kind == TERM_FUNCTION || term->kind == TERM_BUILTIN)
        build_error(build, term->span, "'%s' is a function: a value is needed here; call it with arguments",
                    term->kind == TERM_BUILTIN ? term->builtin->name : term->item->name);
    else if (term->kind == TERM_SYMBOL)
        build_error(build, term->span, "unknown name '%s'", term->name);
    else if (term->kind == TERM_MODEL && term->model->output_names.count > 0)
        build_error(build, term->span, "'%s' is a model: a value is needed here; name its output, '%s.%s', or call it",
                    term->model->name, term->model->name, term->model->output_names.at[0]);
    else if (term->kind != TERM_NOTHING)
        build_error(build, term->span, "this is %s: a value is needed here", term_kind_name(term));
    return NULL;
}

Node *term_number(Build *build, const Term *term) {
    Node *node = term_value(build, term);
    if (!node || node->type == TYPE_REAL || node->type == TYPE_WIDE)
        return node;
    if (node->type == TYPE_INDEX && node->op == OP_INPUT && node->classes > 2) {
        build_error(build, term->span, "%s%s%sis a category of %d classes, not a number", node->label ? "'" : "",
                    node->label ? node->label : "", node->label ? "' " : "this ", node->classes);
        return NULL;
    }
    return node_op(build->graph, OP_REAL, node, NULL, NULL);
}

bool term_constant(const Term *term, double *number) {
    if (term->kind != TERM_NODE || term->node->op != OP_CONSTANT)
        return false;
    *number = term->node->number;
    return true;
}

bool term_integer(Build *build, const Term *term, const char *what, int64_t least, int64_t *integer) {
    double number;
    if (term->kind == TERM_NOTHING)
        return false;
    if (!term_constant(term, &number) || number != floor(number) || fabs(number) > 9007199254740992.0) {
        build_error(build, term->span, "%s must be a whole number known when compiling", what);
        return false;
    }
    if (number < (double)least) {
        build_error(build, term->span, "%s must be at least %lld, not %.0f", what, (long long)least, number);
        return false;
    }
    *integer = (int64_t)number;
    return true;
}

Scope *scope_open(Build *build, Scope *parent) {
    Scope *before = build->scope;
    build->scope = arena_new_of(build->arena, Scope);
    build->scope->parent = parent;
    return before;
}

static Binding *bound_here(const Scope *scope, Name name) {
    uintptr_t place = (uintptr_t)map_find(&scope->places, name);
    return place ? &scope->bindings.at[place - 1] : NULL;
}

void scope_bind(Build *build, Name name, Span span, Term term) {
    Scope *scope = build->scope;
    Binding *binding = bound_here(scope, name);
    if (!binding) {
        binding = LIST_ADD(build->arena, &scope->bindings);
        map_put(build->arena, &scope->places, name, (void *)(uintptr_t)scope->bindings.count);
    }
    *binding = (Binding){name, span, term};
}

const Binding *scope_find(Build *build, Name name) {
    const Binding *binding = NULL;
    for (Scope *scope = build->scope; scope && !binding; scope = scope->parent) {
        binding = bound_here(scope, name);
        if (!binding && scope->wide.count) {
            bind_wide(build, scope, name);
            binding = bound_here(scope, name);
        }
    }
    return binding;
}

uint32_t hash_text(const char *text) {
    uint32_t hash = 2166136261u;
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 16777619u;
    return hash;
}

const char *path_join(Build *build, Name last) {
    const char *path = "";
    for (int i = 0; i < build->path.count; i++) {
        if (!build->path.at[i])
            return NULL;
        path = arena_printf(build->arena, "%s%s%s", path, *path ? "." : "", build->path.at[i]);
    }
    if (last)
        path = arena_printf(build->arena, "%s%s%s", path, *path ? "." : "", last);
    return path;
}

GraphFunction *function_new(Build *build, const char *name, const char *about, Span span, int64_t capacity) {
    GraphFunction *function = arena_new_of(build->arena, GraphFunction);
    function->name = name_of(name);
    function->about = about;
    function->span = span;
    function->capacity = capacity;
    *LIST_ADD(build->arena, &build->out->functions) = function;
    return function;
}

Buffer *buffer_new(Arena *arena, const char *name, BufferRole role, Scalar scalar, int64_t rows, int rank,
                   const int64_t *dims, Span span) {
    Buffer *buffer = arena_new_of(arena, Buffer);
    buffer->name = name_identifier(name);
    buffer->shown = name_of(name);
    buffer->role = role;
    buffer->scalar = scalar;
    buffer->per_row = rows > 0;
    buffer->rank = rank;
    buffer->elements = rows > 0 ? rows : 1;
    for (int i = 0; i < rank; i++) {
        buffer->dims[i] = dims[i];
        buffer->elements *= dims[i];
    }
    buffer->span = span;
    return buffer;
}
