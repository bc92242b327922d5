/* Which columns are meant: by name, by number, by range. */
#include "checker.h"

#include <math.h>
#include <string.h>

enum { RANGE_MAX = 100000, NAME_MAX_BYTES = 1000 };

/* ---- NameIndex: open addressing ---------------------------------------------------------------------------------- */
static unsigned slot_of(const NameIndex *index, Name name) {
    unsigned slot = (unsigned)((uint64_t)(uintptr_t)name * 0x9E3779B97F4A7C15u >> 32) & (unsigned)(index->capacity - 1);
    while (index->names[slot] && index->names[slot] != name)
        slot = (slot + 1) & (unsigned)(index->capacity - 1);
    return slot;
}

void name_index_add(Arena *arena, NameIndex *index, Name name, int place) {
    if (index->count * 2 >= index->capacity) {
        NameIndex larger = {.capacity = index->capacity ? index->capacity * 2 : 64};
        larger.names = arena_array(arena, Name, larger.capacity);
        larger.places = arena_array(arena, int, larger.capacity);
        for (int i = 0; i < index->capacity; i++)
            if (index->names[i])
                name_index_add(arena, &larger, index->names[i], index->places[i]);
        *index = larger;
    }
    unsigned slot = slot_of(index, name);
    if (index->names[slot])
        return;
    index->names[slot] = name;
    index->places[slot] = place;
    index->count++;
}

int name_index_find(const NameIndex *index, Name name) {
    if (index->capacity == 0)
        return -1;
    unsigned slot = slot_of(index, name);
    return index->names[slot] ? index->places[slot] : -1;
}

/* ---- Ranges ------------------------------------------------------------------------------------------------------ */
typedef struct Numbered { /* p007: "p", 7, 3 digits */
    size_t prefix;
    int64_t number;
    int digits;
} Numbered;

static bool split_number(const char *name, Numbered *out) {
    size_t length = strlen(name), digits = 0;
    while (digits < length && name[length - 1 - digits] >= '0' && name[length - 1 - digits] <= '9')
        digits++;
    if (digits == 0 || digits > 9)
        return false;
    *out = (Numbered){length - digits, 0, (int)digits};
    for (const char *at = name + out->prefix; *at; at++)
        out->number = out->number * 10 + (*at - '0');
    return true;
}

static bool check_range_size(const Expr *range, int64_t first, int64_t last) {
    if (last < first) {
        error_at(range->span, "this range is empty: it ends before it starts");
        return false;
    }
    if (last - first < RANGE_MAX)
        return true;
    error_at(range->span, "this range has more than %d columns", RANGE_MAX);
    return false;
}

static const char *name_of_expr(const Expr *expr) {
    return expr->kind == EXPR_NAME ? expr->name : expr->kind == EXPR_STRING ? expr->string.bytes : NULL;
}

static bool add_named_range(DataCheck *check, const Expr *range, References *list) {
    const char *first = name_of_expr(range->binary.left), *last = name_of_expr(range->binary.right);
    Numbered from, to;
    if (!split_number(first, &from) || !split_number(last, &to) || from.prefix != to.prefix ||
        memcmp(first, last, from.prefix) != 0) {
        error_at(range->span, "a range of columns ends in numbers, as in p0..p783");
        return false;
    }
    if (from.prefix > NAME_MAX_BYTES || !check_range_size(range, from.number, to.number))
        return false;
    bool padded = first[from.prefix] == '0' && from.digits == to.digits; /* p007..p100 */
    for (int64_t i = from.number; i <= to.number; i++) {
        char name[NAME_MAX_BYTES + 32], digits[32];
        int count = 0;
        for (int64_t rest = i; rest > 0 || count < (padded ? from.digits : 1); rest /= 10)
            digits[count++] = (char)('0' + rest % 10);
        memcpy(name, first, from.prefix);
        for (int k = 0; k < count; k++)
            name[from.prefix + (size_t)k] = digits[count - 1 - k];
        name[from.prefix + (size_t)count] = '\0';
        *LIST_ADD(check->arena, list) = (Reference){.name = name_of(name), .position = -1, .span = range->span};
    }
    return true;
}

/* ---- References as written --------------------------------------------------------------------------------------- */
static bool whole_number(const Expr *expr, int *number) {
    if (expr->kind != EXPR_NUMBER || floor(expr->number) != expr->number || expr->number < 0 ||
        expr->number > 1000000) {
        error_at(expr->span, "a column is a name, or the number of its field, from 0");
        return false;
    }
    *number = (int)expr->number;
    return true;
}

static void add_position(DataCheck *check, Span span, int position, References *list) {
    char name[16];
    snprintf(name, sizeof name, "%d", position);
    *LIST_ADD(check->arena, list) = (Reference){.name = name_of(name), .position = position, .span = span};
}

/* image[28, 28] */
static bool add_shaped(DataCheck *check, const Expr *expr, References *list) {
    const Args *sizes = &expr->index.args;
    const char *name = name_of_expr(expr->index.base);
    if (!reads_arrays(check->data) || !name || sizes->count < 1 || sizes->count > 4) {
        error_at(expr->span, "a column is a name; a shape of one to four sizes stands behind that of an IDX file: "
                             "image[28, 28]");
        return false;
    }
    Reference reference = {.name = name_of(name), .position = -1, .span = expr->index.base->span, .rank = sizes->count};
    for (int i = 0; i < sizes->count; i++)
        if (!check_integer(check->checker->program, sizes->at[i].value, "a size", 1, &reference.dims[i]))
            return false;
    *LIST_ADD(check->arena, list) = reference;
    return true;
}

static bool add_references(DataCheck *check, const Expr *expr, References *list) {
    int first, last;
    if (name_of_expr(expr)) {
        *LIST_ADD(check->arena, list) =
            (Reference){.name = name_of(name_of_expr(expr)), .position = -1, .span = expr->span};
        return true;
    }
    if (expr->kind == EXPR_INDEX)
        return add_shaped(check, expr, list);
    if (expr->kind != EXPR_RANGE) {
        if (!whole_number(expr, &first))
            return false;
        add_position(check, expr->span, first, list);
        return true;
    }
    if (name_of_expr(expr->binary.left) && name_of_expr(expr->binary.right))
        return add_named_range(check, expr, list);
    if (!whole_number(expr->binary.left, &first) || !whole_number(expr->binary.right, &last) ||
        !check_range_size(expr, first, last))
        return false;
    for (int i = first; i <= last; i++)
        add_position(check, expr->span, i, list);
    return true;
}

/* ---- References that the table has ------------------------------------------------------------------------------- */
static bool unknown_column(DataCheck *check, const Reference *reference) {
    const char *near = did_you_mean(check->arena, reference->name, check->names, check->name_count);
    error_at(reference->span, "'%s' has no column '%s'%s", check->data->name, shown(check->arena, reference->name),
             near);
    return false;
}

static bool settle_position(DataCheck *check, Reference *reference) {
    if (check->name_count >= 0 && reference->position >= check->name_count) {
        error_at(reference->span, "there is no column %d; '%s' has columns 0 to %d", reference->position,
                 check->data->name, check->name_count - 1);
        return false;
    }
    if (check->positions)
        return true;
    if (!check->names) {
        error_at(reference->span, "the header is not there to be read, so write the column's name");
        return false;
    }
    reference->name = check->names[reference->position];
    reference->position = -1;
    return true;
}

static bool settle_reference(DataCheck *check, Reference *reference) {
    if (reference->position >= 0)
        return settle_position(check, reference);
    if (check->positions) {
        error_at(reference->span, "nothing names the columns of '%s'; add columns a, b, …, or write numbers: 0, 1",
                 check->data->name);
        return false;
    }
    if (!check->names || name_index_find(&check->index, reference->name) >= 0)
        return true;
    return unknown_column(check, reference);
}

bool find_references(DataCheck *check, const Expr *expr, References *list) {
    int first = list->count, kept = first;
    bool good = add_references(check, expr, list);
    for (int i = first; i < list->count; i++) {
        Reference reference = list->at[i];
        if (settle_reference(check, &reference)) {
            list->at[kept++] = reference;
            continue;
        }
        good = false;
        if (expr->kind == EXPR_RANGE) /* one of them says enough */
            break;
    }
    list->count = kept;
    check->failed |= !good;
    return good;
}

Name scan_name(const DataCheck *check, const Reference *reference) {
    return reference->position < 0 ? reference->name
                                   : name_of(arena_printf(check->arena, "%d", reference->position + 1));
}

Name scan_column_name(const DataCheck *check, const DataColumn *column) {
    const Reference reference = {.name = column->name, .position = column->position, .span = column->span};
    return scan_name(check, &reference);
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */
void check_column_names(DataCheck *check, Setting *columns) {
    DataSet *data = check->data;
    References list = {0};
    NameIndex seen = {0};
    bool good = check_shape(columns, false, NULL);
    for (int i = 0; i < columns->args.count; i++) {
        const Arg *arg = &columns->args.at[i];
        bool names = name_of_expr(arg->value) || arg->value->kind == EXPR_RANGE;
        if (arg->name || !names) {
            error_at(arg->value->span, "columns are names");
            good = false;
        } else {
            good &= add_references(check, arg->value, &list);
        }
    }
    if (good && list.count == 0) {
        error_at(columns->span, "columns are names, one a field");
        good = false;
    }
    check->names = arena_array(check->arena, Name, list.count);
    for (int i = 0; i < list.count; i++) {
        check->names[i] = list.at[i].name;
        if (list.at[i].position >= 0 || *list.at[i].name == '\0') {
            error_at(list.at[i].span, list.at[i].position >= 0 ? "columns are names" : "a column needs a name");
            good = false;
            break;
        }
        if (name_index_find(&seen, list.at[i].name) >= 0) {
            error_at(list.at[i].span, "two columns are named '%s'", shown(check->arena, list.at[i].name));
            good = false;
            break;
        }
        name_index_add(check->arena, &seen, list.at[i].name, i);
    }
    check->name_count = list.count;
    data->field_names = check->names;
    data->field_count = list.count;
    check->failed |= !good;
}

/* ---- missing ----------------------------------------------------------------------------------------------------- */
static void add_missing(DataCheck *check, const Arg *arg, const References *columns, bool everywhere) {
    if (arg->name) {
        error_at(arg->name_span, "'missing' has no option '%s'", arg->name);
        check->failed = true;
        return;
    }
    Name text = field_text(check, arg->value, "what means missing");
    if (!text) {
        check->failed = true;
        return;
    }
    if (everywhere)
        *LIST_ADD(check->arena, &check->missing) = (MissingCode){text, NULL};
    for (int i = 0; i < columns->count; i++)
        *LIST_ADD(check->arena, &check->missing) = (MissingCode){text, scan_name(check, &columns->at[i])};
}

void check_missing(DataCheck *check, Setting *missing) {
    static const char *const words[] = {"for", NULL};
    References columns = {0};
    if (!check_shape(missing, false, words)) {
        check->failed = true;
        return;
    }
    if (missing->args.count == 0) {
        error_at(missing->span, "missing needs what means it, as in missing \"?\" or missing 0 for glucose");
        check->failed = true;
        return;
    }
    for (int i = 0; i < missing->clause_count; i++)
        for (int j = 0; j < missing->clauses[i].args.count; j++)
            find_references(check, missing->clauses[i].args.at[j].value, &columns);
    for (int i = 0; i < missing->args.count; i++)
        add_missing(check, &missing->args.at[i], &columns, missing->clause_count == 0);
}
