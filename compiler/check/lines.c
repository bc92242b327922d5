/* Input and target lines: the columns that each names, then those that `numbers` and `categories` leave for it. */
#include "checker.h"

#include <string.h>

/* ---- Adding columns ---------------------------------------------------------------------------------------------- */
static int report_taken(DataCheck *check, Line *line, const Reference *reference, const Written *other) {
    const char *name = shown(check->arena, reference->name);
    if (other->line->target != line->target)
        error_at(reference->span, "'%s' is both input and target: the model would be told the answer", name);
    else
        error_at(reference->span, "'%s' is %s twice", name, line->target ? "a target" : "an input");
    note_at(other->column.span, "the other is here");
    check->failed = true;
    return -1;
}

int add_column(DataCheck *check, Line *line, const Reference *reference) {
    int index = name_index_find(&check->written, reference->name);
    if (index >= 0 && line && check->columns.at[index].line)
        return report_taken(check, line, reference, &check->columns.at[index]);
    if (index < 0) {
        index = check->columns.count;
        Written *written = LIST_ADD(check->arena, &check->columns);
        *written = (Written){.column = {.name = reference->name, .span = reference->span}};
        written->column.position = reference->position;
        name_index_add(check->arena, &check->written, reference->name, index);
    }
    if (!line)
        return index;
    Written *written = &check->columns.at[index];
    written->line = line;
    if (reference->rank > 0)
        written->column.rank = reference->rank;
    for (int i = 0; i < reference->rank; i++)
        written->column.dims[i] = reference->dims[i];
    written->column.unknown_is_zero = line->unknown_is_zero;
    written->column.transform_count = line->transforms.count;
    written->column.transforms = arena_array(check->arena, DataTransform, line->transforms.count);
    for (int i = 0; i < line->transforms.count; i++)
        written->column.transforms[i] = line->transforms.at[i];
    *LIST_ADD(check->arena, &line->columns) = index;
    return index;
}

/* ---- One line ---------------------------------------------------------------------------------------------------- */
static bool is_excepted(const NameIndex *except, Name name) {
    return name_index_find(except, name) >= 0;
}

static NameIndex index_except(DataCheck *check, const Line *line) {
    NameIndex index = {0};
    for (int i = 0; i < line->except.count; i++)
        name_index_add(check->arena, &index, line->except.at[i].name, i);
    return index;
}

static void check_except(DataCheck *check, Line *line) {
    for (int i = 0; i < line->setting->clause_count; i++) {
        const Clause *clause = &line->setting->clauses[i];
        for (int j = 0; j < clause->args.count; j++)
            find_references(check, clause->args.at[j].value, &line->except);
    }
}

static bool is_selector(const Expr *expr) {
    return is_word(expr, "numbers") || is_word(expr, "categories");
}

static void add_label(DataCheck *check, Line *line, const Arg *arg, bool first) {
    if (!first) {
        error_at(arg->name_span, "a name for the whole line stands first: %s %s = …", line->setting->keyword,
                 arg->name);
        check->failed = true;
        return;
    }
    line->label = arg->name;
    line->label_span = arg->name_span;
}

/* The columns that the line names. Selectors wait until every line has named its own. */
static void name_columns(DataCheck *check, Line *line) {
    const NameIndex except = index_except(check, line);
    const Args *args = &line->setting->args;
    for (int i = 0; i < args->count; i++) {
        References references = {0};
        if (args->at[i].name)
            add_label(check, line, &args->at[i], i == 0);
        if (is_selector(args->at[i].value)) {
            line->selects = true;
            if (line->target) {
                error_at(args->at[i].value->span, "a target is named, one column or several");
                check->failed = true;
            }
            *LIST_ADD(check->arena, &line->ends) = line->columns.count;
            continue;
        }
        find_references(check, args->at[i].value, &references);
        for (int j = 0; j < references.count; j++)
            if (!is_excepted(&except, references.at[j].name) && add_column(check, line, &references.at[j]) < 0)
                break;
        *LIST_ADD(check->arena, &line->ends) = line->columns.count;
    }
}

static bool check_line(const Line *line) {
    static const char *const words[] = {"except", NULL};
    Setting *setting = line->setting;
    if (!check_shape(setting, true, line->target ? NULL : words))
        return false;
    if (setting->args.count > 0)
        return true;
    error_at(setting->span, "%s needs columns", setting->keyword);
    return false;
}

/* ---- numbers, categories ----------------------------------------------------------------------------------------- */
static void report_mixed(DataCheck *check, Span span, const struct bp_scan_column *column) {
    const char *text = "", *name = shown(check->arena, column->name);
    double number;
    for (int i = 0; i < column->distinct_count && *text == '\0'; i++)
        if (!bp_parse_number(column->distinct[i].text, strlen(column->distinct[i].text), &number))
            text = shown(check->arena, column->distinct[i].text);
    error_at(span, "column '%s' holds numbers and texts, such as '%s'", name, text);
    note_at(span,
            "if '%s' means missing, add: missing \"%s\" for %s; if the column is a category, name it: "
            "input %s : category",
            text, text, name, name);
}

static bool chosen_kind(DataCheck *check, const struct bp_scan_column *column, Span span, bool *category) {
    *category = column->texts > 0;
    if (column->texts > 0 && column->numbers > 0) {
        report_mixed(check, span, column);
    } else if (column->texts == 0 && column->numbers == 0) {
        error_at(span, "column '%s' holds nothing; leave it out: except %s", shown(check->arena, column->name),
                 shown(check->arena, column->name));
    } else {
        return true;
    }
    check->failed = true;
    return false;
}

static int choose_columns(DataCheck *check, Line *line, const Expr *selector, const struct bp_scan *scan) {
    const NameIndex except = index_except(check, line);
    bool categories = is_word(selector, "categories"), category;
    int added = 0;
    for (int i = 0; i < scan->column_count; i++) {
        Reference reference = {.name = name_of(scan->columns[i].name), .position = -1, .span = selector->span};
        if (check->positions) {
            reference.name = name_of(arena_printf(check->arena, "%d", i));
            reference.position = i;
        }
        int index = name_index_find(&check->written, reference.name);
        if ((index >= 0 && check->columns.at[index].line) || is_excepted(&except, reference.name))
            continue;
        if (*reference.name == '\0') {
            error_at(selector->span, "column %d of the table has no name; leave it out: except \"\"", i + 1);
            check->failed = true;
            return -1;
        }
        if (!chosen_kind(check, &scan->columns[i], selector->span, &category))
            return -1;
        if (category != categories)
            continue;
        index = add_column(check, line, &reference);
        check->columns.at[index].column.category = category;
        check->columns.at[index].selected = true;
        added++;
    }
    return added;
}

static bool select_columns(DataCheck *check, Line *line, const Expr *selector) {
    const char *why;
    const struct bp_scan *scan = scan_table(check, &why);
    if (!scan) {
        if (why)
            error_at(selector->span, "'%s' must be looked up, and %s; name the columns: input a, b, …", selector->name,
                     why);
        check->failed = true;
        return false;
    }
    int added = choose_columns(check, line, selector, scan);
    if (added == 0) {
        error_at(selector->span, "no column is left for '%s'", selector->name);
        check->failed = true;
    }
    return added > 0;
}

/* Puts what the selectors choose where they stand among the columns that are named. */
static void select_line(DataCheck *check, Line *line) {
    const Args *args = &line->setting->args;
    int *named = line->columns.at, begin = 0;
    int *ends = line->ends.at;
    memset(&line->columns, 0, sizeof line->columns);
    for (int i = 0; i < args->count; begin = ends[i++]) {
        if (is_selector(args->at[i].value) && !select_columns(check, line, args->at[i].value))
            return;
        for (int j = begin; j < ends[i]; j++)
            *LIST_ADD(check->arena, &line->columns) = named[j];
    }
    if (has_strip(line))
        scan_again(check);
}

/* ---- All lines --------------------------------------------------------------------------------------------------- */
static bool is_preprocessing(const Setting *setting) {
    return setting->clause_count > 0 && strcmp(setting->clauses[0].word, "from") == 0;
}

static void open_lines(DataCheck *check, Settings settings) {
    for (int i = 0; i < settings.count; i++) {
        Setting *setting = settings.at[i];
        bool target = strcmp(setting->keyword, "target") == 0;
        if ((!target && strcmp(setting->keyword, "input") != 0) || (!target && is_preprocessing(setting)))
            continue;
        Line *line = arena_new_of(check->arena, Line);
        *line = (Line){.setting = setting, .target = target};
        if (!check_line(line)) {
            check->failed = true;
            continue;
        }
        check_transforms(check, line);
        check_except(check, line);
        *LIST_ADD(check->arena, &check->lines) = line;
    }
}

void check_lines(DataCheck *check, Settings settings) {
    open_lines(check, settings);
    for (int i = 0; i < check->lines.count; i++)
        name_columns(check, check->lines.at[i]);
    for (int i = 0; i < settings.count; i++)
        if (strcmp(settings.at[i]->keyword, "input") == 0 && is_preprocessing(settings.at[i]))
            inherit_inputs(check, settings.at[i]);
    if (check->failed)
        return;
    for (int i = 0; i < check->lines.count; i++)
        if (check->lines.at[i]->selects)
            select_line(check, check->lines.at[i]);
}

bool check_labels(DataCheck *check) {
    for (int i = 0; i < check->lines.count; i++)
        for (int j = 0; j < i; j++)
            if (check->lines.at[i]->label && check->lines.at[i]->label == check->lines.at[j]->label) {
                error_at(check->lines.at[i]->label_span, "two lines are named '%s'", check->lines.at[i]->label);
                note_at(check->lines.at[j]->label_span, "the other is here");
                return false;
            }
    return true;
}
