/* What is written and allowed, and yet cannot be meant: warnings that look at a program's text and at what its tables
   show while compiling. graph/lint.c has those that look at values. Each is sure of what it says: where it depends on a
   draw or on a file that is not there, nothing is said. */
#include "checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the table shows ---------------------------------------------------------------------------------------- */

static const struct bp_scan_column *shown_column(const DataCheck *check, const DataColumn *column) {
    Name name = scan_column_name(check, column);
    for (int i = 0; i < check->scan.column_count; i++)
        if (strcmp(check->scan.columns[i].name, name) == 0)
            return &check->scan.columns[i];
    return NULL;
}

static void learn_numbers(DataColumn *column, const struct bp_scan_column *seen) {
    if (!seen->all_numbers || seen->distinct_count == 0 || seen->distinct_overflow)
        return;
    const char *first = seen->distinct[0].text, *last = seen->distinct[seen->distinct_count - 1].text;
    column->seen =
        bp_parse_number(first, strlen(first), &column->least) && bp_parse_number(last, strlen(last), &column->greatest);
}

static void learn_counts(DataCheck *check, DataColumn *column, const struct bp_scan_column *seen) {
    if (seen->distinct_overflow)
        return;
    column->counts_seen = arena_array(check->arena, int64_t, column->category_count);
    for (int i = 0; i < column->category_count; i++) {
        Name category = column_category(column, i);
        for (int j = 0; j < seen->distinct_count; j++)
            if (same_field(category, seen->distinct[j].text))
                column->counts_seen[i] += seen->distinct[j].count;
    }
}

void learn_from_table(DataCheck *check) {
    const char *why;
    if (check->data->file_count == 0 && check->data->row_count > 0 && check->data->row_count <= 100000)
        scan_table(check, &why); /* rows in the program: nothing has to be read */
    if (!check->scanned || check->scan_failed || reads_arrays(check->data))
        return;
    for (int i = 0; i < check->columns.count; i++) {
        Written *written = &check->columns.at[i];
        const struct bp_scan_column *seen = written->inherited ? NULL : shown_column(check, &written->column);
        if (seen && written->column.category)
            learn_counts(check, &written->column, seen);
        else if (seen)
            learn_numbers(&written->column, seen);
    }
}

/* ---- classes without rows ---------------------------------------------------------------------------------------- */

typedef struct Parts {
    int count; /* that rows are dealt out to */
    double shares[3];
    const char *names; /* "train, validation and test" */
} Parts;

static Parts parts_of(Arena *arena, const DataSet *data) {
    static const char *const names[] = {"train", "validation", "test"};
    double rest = 1 - data->train - data->validation - data->test;
    const double shares[3] = {data->train > 0 ? data->train : rest, data->validation, data->test};
    Parts parts = {.names = ""};
    int total = 0;
    for (int i = 0; i < 3; i++)
        total += shares[i] > 1e-9;
    for (int i = 0; i < 3; i++)
        if (shares[i] > 1e-9) {
            parts.names = arena_printf(arena, "%s%s%s", parts.names,
                                       parts.count == 0           ? ""
                                       : parts.count + 1 == total ? " and "
                                                                  : ", ",
                                       names[i]);
            parts.shares[parts.count++] = shares[i];
        }
    return parts;
}

/* Whether n rows of a class cannot reach every part. Stratified, each part gets the whole rows of its share, and of what is
   left one at most. */
static bool leaves_one_out(const Parts *parts, int64_t n, bool stratified) {
    if (n < parts->count || !stratified)
        return n < parts->count;
    int64_t dealt = 0;
    int without = 0;
    for (int i = 0; i < parts->count; i++) {
        int64_t whole = (int64_t)floor((double)n * parts->shares[i] + 1e-9);
        dealt += whole;
        without += whole == 0;
    }
    return n - dealt < without;
}

static const char *rows_counted(Arena *arena, int64_t n) {
    return arena_printf(arena, "%lld row%s", (long long)n, n == 1 ? "" : "s");
}

/* The class that is hurt most. */
static void lint_class(Arena *arena, const DataSet *data, int index, const Setting *split) {
    const DataColumn *column = &data->columns[index];
    int rarest = 0;
    for (int k = 1; k < column->category_count; k++)
        if (column->counts_seen[k] < column->counts_seen[rarest])
            rarest = k;
    int64_t n = column->counts_seen[rarest];
    const char *class = shown(arena, column_category(column, rarest));
    if (n == 0) {
        warning_at(column->span, "no row is of the class '%s' of '%s': take it off the list, or add rows of it", class,
                   shown(arena, column->name));
        return;
    }
    for (int i = 0; i < data->file_count; i++)
        if (data->files[i].part != BP_ALL) /* who has which rows is not known */
            return;
    if (data->folds > 0) {
        if (n < data->folds)
            warning_at(split->span,
                       "'%s' has %s of '%s', fewer than there are folds: some fold measures none of it; "
                       "take %s, or join classes",
                       shown(arena, column->name), rows_counted(arena, n), class,
                       n < 2 ? "more rows" : arena_printf(arena, "folds = %lld", (long long)n));
        return;
    }
    Parts parts = parts_of(arena, data);
    bool stratified = data->stratify == index;
    if (!split || parts.count < 2 || !leaves_one_out(&parts, n, stratified))
        return;
    warning_at(split->span,
               "'%s' has %s of '%s', too few for %s: one part has none; take more rows, join classes, or "
               "change the shares",
               shown(arena, column->name), rows_counted(arena, n), class, parts.names);
}

static void lint_classes(Arena *arena, const DataSet *data) {
    const Setting *split = NULL;
    for (int i = 0; i < data->item->settings.count; i++)
        if (strcmp(data->item->settings.at[i]->keyword, "split") == 0)
            split = data->item->settings.at[i];
    for (int i = 0; i < data->slot_count; i++) {
        const DataSlot *slot = &data->slots[i];
        if (slot->target && slot->category && data->columns[slot->columns[0]].counts_seen)
            lint_class(arena, data, slot->columns[0], split);
    }
}

/* ---- a file that is two parts ------------------------------------------------------------------------------------ */

static const char *part_name(enum bp_part part) {
    return part == BP_TRAIN ? "training" : part == BP_VALIDATION ? "validation" : "test";
}

static bool same_rows(const DataFile *a, const DataFile *b) {
    return a->path && b->path && a->part != b->part && a->as == b->as && strcmp(a->path, b->path) == 0;
}

static void lint_files(const DataSet *data) {
    for (int i = 1; i < data->file_count; i++)
        for (int j = 0; j < i; j++) {
            const DataFile *file = &data->files[i], *other = &data->files[j];
            if (!same_rows(file, other))
                continue;
            warning_at(file->span,
                       "the rows of this file are in two parts: what is trained on would be measured again; "
                       "name another file, or deal its rows out with split");
            if (other->part == BP_ALL)
                note_at(other->span, "here they are dealt out");
            else
                note_at(other->span, "here they are the %s part", part_name(other->part));
            return;
        }
}

/* ---- values that nothing reads ----------------------------------------------------------------------------------- */

static bool reads(const Expr *expr, Name name);

static bool args_read(const Args *args, Name name) {
    for (int i = 0; i < args->count; i++)
        if (args->at[i].value && reads(args->at[i].value, name))
            return true;
    return false;
}

static bool reads(const Expr *expr, Name name) {
    switch (expr->kind) {
    case EXPR_NUMBER:
    case EXPR_STRING:
        return false;
    case EXPR_NAME:
        return expr->name == name;
    case EXPR_UNARY:
        return reads(expr->binary.left, name);
    case EXPR_BINARY:
    case EXPR_RANGE:
    case EXPR_REPEAT:
        return reads(expr->binary.left, name) || reads(expr->binary.right, name);
    case EXPR_CALL:
        return reads(expr->call.callee, name) || args_read(&expr->call.args, name);
    case EXPR_INDEX:
        return reads(expr->index.base, name) || args_read(&expr->index.args, name);
    case EXPR_FIELD:
        return reads(expr->field.base, name);
    case EXPR_LIST:
        return args_read(&expr->list, name);
    }
    return false;
}

static bool body_reads(const Body *body, Name name) {
    for (int i = 0; i < body->count; i++) {
        const Stmt *stmt = body->at[i];
        if ((stmt->value && reads(stmt->value, name)) || (stmt->with && reads(stmt->with, name)) ||
            args_read(&stmt->dims, name) || args_read(&stmt->values, name))
            return true;
        for (int j = 0; j < stmt->names.count && stmt->kind == STMT_ASSIGN; j++)
            if (stmt->names.at[j] == name)
                return true;
    }
    return false;
}

/* A layer with weights is told of where its gradient is missed. */
static bool owns_weights(const Program *program, const Expr *value) {
    if (value->kind == EXPR_REPEAT)
        return true;
    if (value->kind != EXPR_CALL || value->call.callee->kind != EXPR_NAME)
        return false;
    Name name = value->call.callee->name;
    const Definition *definition = program_find(program, name);
    return definition ? definition->item->kind == ITEM_BLOCK : strcmp(name, "parameter") == 0;
}

static void lint_body(const Program *program, const Item *item) {
    for (int i = 0; i < item->body.count; i++) {
        const Stmt *stmt = item->body.at[i];
        if (stmt->kind != STMT_BIND || stmt->names.count != 1 || owns_weights(program, stmt->value))
            continue;
        Name name = stmt->names.at[0];
        bool read = body_reads(&item->body, name);
        for (int j = 0; j < program->definitions.count && !read; j++) {
            const Item *other = program->definitions.at[j].item; /* a `replace` may read the base's names */
            read = other->kind == ITEM_DERIVED && body_reads(&other->body, name);
        }
        if (!read)
            warning_at(stmt->names.spans[0], "nothing reads '%s': take it up in a later line, or leave it out", name);
    }
}

static bool names_value(const Args *names, Name name) {
    for (int i = 0; i < names->count; i++)
        if (names->at[i].value->name == name)
            return true;
    return false;
}

static void lint_step(const TrainPlan *plan) {
    const Body *body = &plan->step->step_body;
    for (int i = 0; i < plan->model_count; i++)
        if (!body_reads(body, plan->models[i].item->name))
            warning_at(plan->models[i].span, "this step never calls '%s': call it, or leave it out here",
                       plan->models[i].item->name);
    for (int i = 0; i < plan->augments.count; i++)
        for (int j = 0; j < plan->augments.at[i]->args.count; j++) {
            const Expr *input = plan->augments.at[i]->args.at[j].value;
            if (!body_reads(body, input->name))
                warning_at(input->span, "this step never reads '%s': it is augmented for nothing", input->name);
        }
    for (int i = 0; i < body->count; i++) {
        const Stmt *stmt = body->at[i];
        bool names = stmt->kind == STMT_BIND || stmt->kind == STMT_DRAW;
        if (names && stmt->names.count == 1 && !body_reads(body, stmt->names.at[0]) &&
            !names_value(&plan->log, stmt->names.at[0]))
            warning_at(stmt->names.spans[0], "nothing reads '%s': take it up in a later line, log it, or leave it out",
                       stmt->names.at[0]);
    }
}

void lint_program(const Program *program) {
    for (int i = 0; i < program->data.count; i++) {
        lint_files(program->data.at[i]);
        lint_classes(program->arena, program->data.at[i]);
    }
    for (int i = 0; i < program->definitions.count; i++) {
        const Definition *definition = &program->definitions.at[i];
        if (!definition->prelude && (definition->item->kind == ITEM_MODEL || definition->item->kind == ITEM_BLOCK))
            lint_body(program, definition->item);
    }
    for (int i = 0; i < program->actions.count; i++)
        if (program->actions.at[i].train && program->actions.at[i].train->step)
            lint_step(program->actions.at[i].train);
}
