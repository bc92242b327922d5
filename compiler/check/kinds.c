/* Numbers or categories: as declared, else as the table shows; then the matrices that the kernels read. */
#include "checker.h"

#include <string.h>

/* ---- What the table shows ---------------------------------------------------------------------------------------- */
static const struct bp_scan_column *scanned_column(DataCheck *check, const DataColumn *column) {
    const struct bp_scan *scan = &check->scan;
    if (!check->scanned)
        BUG("the table of '%s' was not scanned", check->data->name);
    if (check->scan_index.count == 0)
        for (int i = 0; i < scan->column_count; i++)
            name_index_add(check->arena, &check->scan_index, name_of(scan->columns[i].name), i);
    int index = name_index_find(&check->scan_index, scan_column_name(check, column));
    if (index < 0)
        BUG("the table of '%s' has no column '%s'", check->data->name, column->name);
    return &scan->columns[index];
}

/* A text of the column that is no number. */
static const char *some_text(DataCheck *check, const struct bp_scan_column *column) {
    double number;
    for (int i = 0; i < column->distinct_count; i++)
        if (!bp_parse_number(column->distinct[i].text, strlen(column->distinct[i].text), &number))
            return shown(check->arena, column->distinct[i].text);
    return "";
}

static bool report(DataCheck *check) {
    check->failed = true;
    return false;
}

/* A column of which nothing was said. */
static void kind_from_table(DataCheck *check, DataColumn *column) {
    const struct bp_scan_column *seen = scanned_column(check, column);
    const char *name = shown(check->arena, column->name);
    if (seen->numbers == 0 && seen->texts == 0) {
        error_at(column->span, "column '%s' holds nothing", name);
        report(check);
        return;
    }
    if (seen->numbers > 0 && seen->texts > 0) {
        const char *text = some_text(check, seen);
        error_at(column->span, "column '%s' holds numbers and texts, such as '%s'", name, text);
        note_at(column->span,
                "if '%s' means missing, add: missing \"%s\" for %s; if the column is a category, say so: "
                "%s : category",
                text, text, name, name);
        report(check);
        return;
    }
    column->category = seen->texts > 0;
}

static void find_kind(DataCheck *check, Written *written) {
    const Line *line = written->line;
    DataColumn *column = &written->column;
    if (reads_arrays(check->data)) {
        find_array(check, written);
        return;
    }
    const DataTransform *number = line ? number_transform(line) : NULL;
    const char *why;
    if (line && line->text) {
        column->kind = BP_WORDS;
        column->width = line->vocabulary;
        column->distinct = line->distinct;
        column->lowercase = line->lowercase;
        column->counts = line->counts;
    } else if (line && (line->category || line->binary)) {
        column->category = true;
        column->binary = line->binary;
    } else if (written->selected) {
        return; /* as it was chosen */
    } else if (line && (has_strip(line) || line->unknown_is_zero)) {
        column->category = true;
    } else if (number) {
        column->category = false;
    } else if (scan_table(check, &why)) {
        kind_from_table(check, column);
    }
}

/* Transforms for the other kind. */
static void check_fit(DataCheck *check, const Written *written) {
    const Line *line = written->line;
    const DataColumn *column = &written->column;
    const DataTransform *number = line ? number_transform(line) : NULL;
    if (!line || line->text)
        return;
    if (column->category && number) {
        error_at(number->span, "this is for numbers, and '%s' is a category", shown(check->arena, column->name));
        report(check);
        return;
    }
    if (column->category)
        return;
    if (has_strip(line) || line->unknown_is_zero) {
        error_at(column->span, "what follows ':' is for categories, and '%s' holds numbers",
                 shown(check->arena, column->name));
        report(check);
        return;
    }
    if (!check->scanned || !number)
        return;
    const struct bp_scan_column *seen = scanned_column(check, column);
    if (seen->numbers > 0 || seen->texts == 0)
        return; /* one bad field among numbers: the program says in which row, when it reads them */
    error_at(number->span, "this is for numbers, and '%s' holds texts, such as '%s'", shown(check->arena, column->name),
             some_text(check, seen));
    report(check);
}

/* ---- Categories -------------------------------------------------------------------------------------------------- */
static void list_categories(DataCheck *check, DataColumn *column, const Name *names, int count) {
    column->categories = arena_array(check->arena, Name, count);
    column->category_count = count;
    for (int i = 0; i < count; i++)
        column->categories[i] = names[i];
}

Name column_category(const DataColumn *column, int index) {
    char number[16];
    if (column->categories)
        return column->categories[index];
    snprintf(number, sizeof number, "%d", index);
    return name_of(number);
}

Name *column_categories(Arena *arena, const DataColumn *column) {
    if (column->categories)
        return column->categories;
    Name *names = arena_array(arena, Name, column->category_count);
    for (int i = 0; i < column->category_count; i++)
        names[i] = column_category(column, i);
    return names;
}

static const char *texts_shown(DataCheck *check, const struct bp_scan_column *seen) {
    enum { SHOWN_TEXTS = 5 };
    Text list = {0};
    for (int i = 0; i < seen->distinct_count && i < SHOWN_TEXTS; i++)
        text_printf(&list, "%s'%s'", i ? ", " : "", shown(check->arena, seen->distinct[i].text));
    if (seen->distinct_count > SHOWN_TEXTS)
        text_printf(&list, " and %d more", seen->distinct_count - SHOWN_TEXTS);
    const char *copy = arena_copy(check->arena, list.at ? list.at : "", list.length);
    text_free(&list);
    return copy;
}

static bool binary_from_table(DataCheck *check, Written *written, const struct bp_scan_column *seen) {
    DataColumn *column = &written->column;
    Name names[2] = {NULL, written->line->positive};
    const char *name = shown(check->arena, column->name);
    bool found = false;
    for (int i = 0; i < seen->distinct_count; i++) {
        bool positive = same_field(seen->distinct[i].text, names[1]);
        found |= positive;
        if (!positive)
            names[0] = name_of(seen->distinct[i].text);
    }
    if (!found) {
        error_at(written->line->binary_span, "'%s' is never '%s'; it holds %s", name,
                 shown(check->arena, written->line->positive), texts_shown(check, seen));
        return report(check);
    }
    if (seen->distinct_count != 2) {
        error_at(written->line->binary_span, "binary needs two values, and '%s' holds %d: %s", name,
                 seen->distinct_count, texts_shown(check, seen));
        return report(check);
    }
    list_categories(check, column, names, 2);
    return true;
}

static bool categories_from_table(DataCheck *check, Written *written) {
    DataColumn *column = &written->column;
    const struct bp_scan_column *seen = scanned_column(check, column);
    const char *name = shown(check->arena, column->name);
    if (seen->distinct_count == 0) {
        error_at(column->span, "column '%s' holds nothing", name);
        return report(check);
    }
    if (seen->distinct_overflow) {
        error_at(column->span, "column '%s' has more than %d categories", name, BP_SCAN_MOST_DISTINCT);
        return report(check);
    }
    if (written->line && written->line->binary)
        return binary_from_table(check, written, seen);
    if (written->line && written->line->target && seen->distinct_count == 1) {
        error_at(column->span, "there is nothing to learn: '%s' is always %s", name, texts_shown(check, seen));
        return report(check);
    }
    Name *names = arena_array(check->arena, Name, seen->distinct_count);
    for (int i = 0; i < seen->distinct_count; i++)
        names[i] = name_of(seen->distinct[i].text);
    list_categories(check, column, names, seen->distinct_count);
    return true;
}

static void find_categories(DataCheck *check, Written *written) {
    const Line *line = written->line;
    const char *why, *name = shown(check->arena, written->column.name);
    if (line && line->counted) {
        written->column.category_count = line->counted;
        return;
    }
    if (line && line->names.count > 0) {
        list_categories(check, &written->column, line->names.at, line->names.count);
        return;
    }
    if (line && line->binary && line->negative) {
        const Name names[2] = {line->negative, line->positive};
        list_categories(check, &written->column, names, 2);
        return;
    }
    if (scan_table(check, &why)) {
        categories_from_table(check, written);
        return;
    }
    if (why && line && line->binary)
        error_at(line->binary_span,
                 "the values of '%s' must be looked up, and %s; declare both, the positive first: "
                 "binary(\"%s\", \"…\")",
                 name, why, shown(check->arena, line->positive));
    else if (why)
        error_at(written->column.span,
                 "the categories of '%s' must be looked up, and %s; declare them (%s : category(\"a\", \"b\")), or see "
                 "what `bpc describe` prints of the file",
                 name, why, name);
    report(check);
}

static void gather_missing(DataCheck *check, DataColumn *column) {
    LIST(Name) list = {0};
    Name name = scan_column_name(check, column);
    for (int i = 0; i < check->missing.count; i++) {
        const MissingCode *code = &check->missing.at[i];
        bool twice = false;
        for (int j = 0; j < list.count; j++)
            twice |= list.at[j] == code->text;
        if (!twice && (!code->column || code->column == name))
            *LIST_ADD(check->arena, &list) = code->text;
    }
    column->missing = list.at;
    column->missing_count = list.count;
}

/* All kinds first: what the table shows of one column is then known of every one. */
void find_kinds(DataCheck *check) {
    for (int i = 0; i < check->columns.count && !check->scan_failed; i++) {
        gather_missing(check, &check->columns.at[i].column);
        if (!check->columns.at[i].inherited)
            find_kind(check, &check->columns.at[i]);
    }
    for (int i = 0; i < check->columns.count && !check->scan_failed; i++)
        if (!check->columns.at[i].inherited && check->columns.at[i].column.category)
            find_categories(check, &check->columns.at[i]);
    for (int i = 0; i < check->columns.count && !check->scan_failed; i++)
        if (!check->columns.at[i].inherited)
            check_fit(check, &check->columns.at[i]);
}

/* ---- Slots and groups -------------------------------------------------------------------------------------------- */
static void number_fitted(DataSet *data, DataColumn *column) {
    for (int i = 0; i < column->transform_count; i++) {
        DataTransform *transform = &column->transforms[i];
        int count = 0;
        switch (transform->kind) {
        case BP_IMPUTE_MEAN:
        case BP_IMPUTE_MEDIAN:
        case BP_IMPUTE_MOST_FREQUENT:
            count = 1;
            break;
        case BP_STANDARDIZE:
        case BP_MINMAX:
            count = 2;
            break;
        case BP_STRIP:
        case BP_IMPUTE_CONSTANT:
        case BP_DROP:
        case BP_LOG:
        case BP_SCALE:
            break;
        }
        transform->fitted = count ? data->fitted_count : -1;
        data->fitted_count += count;
    }
}

/* A number joins the slot before it where that is of the same group. */
static void add_to_slots(DataCheck *check, DataGroup *group, int index) {
    DataSet *data = check->data;
    const DataColumn *column = &data->columns[index];
    DataSlot *slot = group->slot_count > 0 ? &data->slots[data->slot_count - 1] : NULL;
    bool alone = column->kind != BP_NUMBER;
    if (!slot || slot->category || slot->form != BP_SLOT_COLUMNS || alone) {
        slot = &data->slots[data->slot_count++];
        *slot = (DataSlot){.name = column->name, .category = column->category, .target = group->target};
        slot->columns = arena_array(check->arena, int, alone ? 1 : data->column_count);
        group->slot_count++;
    } else {
        slot->name = group->name ? group->name : name_of(group->target ? "targets" : "numbers");
    }
    slot->columns[slot->column_count++] = index;
    slot->width++;
    if (column->kind == BP_WORDS) { /* which words, then what each counts */
        slot->form = BP_SLOT_WORDS;
        slot->width = column->distinct;
        data->slots[data->slot_count] = *slot;
        data->slots[data->slot_count++].form = BP_SLOT_COUNTS;
        group->slot_count++;
    }
    if (column->kind == BP_ARRAY) {
        slot->form = BP_SLOT_ARRAY;
        slot->width = column->width;
    }
    group->width += column->category ? column->category_count : column->kind == BP_NUMBER ? 1 : column->width;
}

static void make_group(DataCheck *check, const Line *first, bool *unnamed_done) {
    DataSet *data = check->data;
    bool unnamed = !first->target && !first->label;
    if (unnamed && *unnamed_done)
        return;
    DataGroup *group = &data->groups[data->group_count++];
    *group = (DataGroup){.name = first->label, .span = first->setting->span, .target = first->target};
    group->first_slot = data->slot_count;
    if (first->target && !first->label && first->columns.count == 1)
        group->name = data->columns[first->columns.at[0]].name;
    for (int i = 0; i < check->lines.count; i++) {
        const Line *line = check->lines.at[i];
        if (line != first && !(unnamed && !line->target && !line->label))
            continue;
        for (int j = 0; j < line->columns.count; j++)
            add_to_slots(check, group, line->columns.at[j]);
    }
    *unnamed_done |= unnamed;
}

void make_slots(DataCheck *check) {
    DataSet *data = check->data;
    bool unnamed_done = false;
    data->columns = arena_array(check->arena, DataColumn, check->columns.count);
    data->column_count = check->columns.count;
    for (int i = 0; i < data->column_count; i++) {
        data->columns[i] = check->columns.at[i].column;
        if (data->columns[i].category)
            data->columns[i].kind = BP_CATEGORY;
        number_fitted(data, &data->columns[i]);
    }
    data->slots = arena_array(check->arena, DataSlot, 2 * data->column_count);
    data->groups = arena_array(check->arena, DataGroup, check->lines.count);
    for (int i = 0; i < check->lines.count; i++)
        make_group(check, check->lines.at[i], &unnamed_done);
}
