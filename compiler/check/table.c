/* The files and rows of a data set: where they are, and what they hold as far as compiling needs it. */
#include "checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- file -------------------------------------------------------------------------------------------------------- */
static void check_part(DataCheck *check, const Arg *arg, DataFile *file) {
    static const char *const names[] = {"train", "validation", "test"};
    for (int i = 0; i < 3; i++)
        if (is_word(arg->value, names[i])) {
            file->part = (enum bp_part)i;
            return;
        }
    error_at(arg->value->span, "part is train, validation or test");
    check->failed = true;
}

static void check_delimiter(DataCheck *check, const Arg *arg, DataFile *file) {
    const Expr *value = arg->value;
    if (value->kind == EXPR_STRING && value->string.length == 1 &&
        !strchr("\"\n\r.+-0123456789", *value->string.bytes)) {
        file->delimiter = *value->string.bytes;
        return;
    }
    error_at(value->span, "delimiter is one character in quotes, as in delimiter = \";\"");
    check->failed = true;
}

static void check_file_option(DataCheck *check, const Arg *arg, DataFile *file) {
    int64_t skip;
    if (strcmp(arg->name, "part") == 0) {
        check_part(check, arg, file);
    } else if (strcmp(arg->name, "delimiter") == 0) {
        check_delimiter(check, arg, file);
    } else if (strcmp(arg->name, "as") == 0) {
        file->as_span = arg->value->span;
        file->as = arg->value->kind == EXPR_NAME     ? arg->value->name
                   : arg->value->kind == EXPR_STRING ? name_of(arg->value->string.bytes)
                                                     : NULL;
        if (!file->as || !*file->as) {
            error_at(arg->value->span, "as names the column that an IDX file holds, as in as = image");
            check->failed = true;
        }
    } else if (strcmp(arg->name, "header") == 0) {
        file->header = !is_word(arg->value, "none");
        if (file->header) {
            error_at(arg->value->span, "header is none where the first line holds values; else leave it out");
            check->failed = true;
        }
    } else if (strcmp(arg->name, "skip") == 0) {
        if (!check_integer(check->checker->program, arg->value, "skip", 0, &skip))
            check->failed = true;
        else if (skip > INT32_MAX)
            error_at(arg->value->span, "skip is more lines than a file has"), check->failed = true;
        else
            file->skip = (int)skip;
    }
}

static void check_file(DataCheck *check, const Setting *setting, int index) {
    static const char *const options[] = {"part", "header", "skip", "delimiter", "as", NULL};
    DataFile *file = &check->data->files[index];
    *file = (DataFile){.part = BP_ALL, .header = true, .span = setting->span};
    bool good = check_shape(setting, false, NULL) && check_options(check->arena, &setting->args, "file", options);
    if (setting->args.count == 0 || setting->args.at[0].name || setting->args.at[0].value->kind != EXPR_STRING ||
        positional_count(&setting->args) != 1) {
        error_at(setting->span, "file needs one name in quotes, as in file \"table.csv\"");
        good = false;
    } else if (setting->args.at[0].value->string.length == 0) {
        error_at(setting->args.at[0].value->span, "the name of the file is empty");
        good = false;
    }
    if (!good) {
        check->failed = true;
        file->name = "";
        return;
    }
    for (int i = 1; i < setting->args.count; i++)
        check_file_option(check, &setting->args.at[i], file);
    const Expr *name = setting->args.at[0].value;
    const char *path = path_beside(check->arena, name->span, name->string.bytes);
    file->span = name->span;
    file->name = name_of(name->string.bytes);
    file->path = check->paths[index] = path_resolved(check->arena, path, &check->missing_file_why[index]);
}

void check_files(DataCheck *check, Settings settings) {
    DataSet *data = check->data;
    for (int i = 0; i < settings.count; i++)
        data->file_count += strcmp(settings.at[i]->keyword, "file") == 0;
    data->files = arena_array(check->arena, DataFile, data->file_count);
    check->paths = arena_array(check->arena, const char *, data->file_count);
    check->missing_file_why = arena_array(check->arena, const char *, data->file_count);
    for (int i = 0, index = 0; i < settings.count; i++)
        if (strcmp(settings.at[i]->keyword, "file") == 0)
            check_file(check, settings.at[i], index++);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */
static const char *row_field(DataCheck *check, const Expr *value) {
    if (value->kind == EXPR_STRING)
        return value->string.bytes;
    Name text = field_text(check, value, "a field of rows");
    check->failed |= text == NULL;
    return text ? text : "";
}

static bool check_row_shapes(DataCheck *check, const Setting *rows) {
    int expected = check->names ? check->name_count : -1;
    for (int i = 0; i < rows->args.count; i++) {
        const Arg *arg = &rows->args.at[i];
        if (arg->name || arg->value->kind != EXPR_LIST || arg->value->list.count == 0) {
            error_at(arg->value->span, "rows are lists in brackets, as in rows [0, 1], [1, 0]");
            return false;
        }
        int count = arg->value->list.count;
        if (expected < 0)
            expected = count;
        if (count == expected)
            continue;
        error_at(arg->value->span, "this row has %d value%s, %d expected", count, count == 1 ? "" : "s", expected);
        return false;
    }
    check->name_count = expected;
    return true;
}

void check_rows(DataCheck *check, Setting *rows) {
    DataSet *data = check->data;
    if (!check_shape(rows, false, NULL) || !check_row_shapes(check, rows)) {
        check->failed = true;
        return;
    }
    if (rows->args.count == 0) {
        error_at(rows->span, "rows are lists in brackets, as in rows [0, 1], [1, 0]");
        check->failed = true;
        return;
    }
    data->row_count = rows->args.count;
    data->field_count = check->name_count;
    data->rows = arena_alloc(check->arena, sizeof *data->rows * (size_t)data->row_count * (size_t)data->field_count);
    for (int i = 0; i < data->row_count; i++)
        for (int j = 0; j < data->field_count; j++)
            data->rows[(size_t)i * (size_t)data->field_count + (size_t)j] =
                row_field(check, rows->args.at[i].value->list.at[j].value);
}

/* ---- Reading what the files hold --------------------------------------------------------------------------------- */
/* The files that are there, as the runtime will read them. */
static int files_there(const DataCheck *check, struct bp_file *files) {
    int count = 0;
    for (int i = 0; i < check->data->file_count; i++) {
        const DataFile *file = &check->data->files[i];
        if (check->paths[i])
            files[count++] = (struct bp_file){file->name, check->paths[i], file->part, file->header,
                                              file->skip, file->delimiter, NULL};
    }
    return count;
}

/* The runtime's error starts with the name of the file that it is about. */
static Span span_of_error(const DataCheck *check, const char *text) {
    for (int i = check->data->file_count - 1; i > 0; i--) {
        size_t length = strlen(check->data->files[i].name);
        if (strncmp(text, check->data->files[i].name, length) == 0 && text[length] == ':')
            return check->data->files[i].span;
    }
    return check->data->files[0].span;
}

static bool scan_files(DataCheck *check, int64_t most_rows, struct bp_scan *scan) {
    const DataSet *data = check->data;
    struct bp_file *files = arena_array(check->arena, struct bp_file, data->file_count);
    int count = files_there(check, files), rule_count = 0;
    struct bp_scan_rule *rules =
        arena_array(check->arena, struct bp_scan_rule, check->missing.count + check->columns.count + 1);
    for (int i = 0; i < check->missing.count; i++)
        rules[rule_count++] = (struct bp_scan_rule){check->missing.at[i].column, check->missing.at[i].text, NULL};
    for (int i = 0; i < check->columns.count; i++) {
        const DataColumn *column = &check->columns.at[i].column;
        for (int j = 0; j < column->transform_count; j++)
            if (column->transforms[j].kind == BP_STRIP) {
                rules[rule_count++] =
                    (struct bp_scan_rule){scan_column_name(check, column), NULL, column->transforms[j].text};
                break;
            }
    }
    struct bp_error error;
    if (bp_scan(files, count, data->field_names, data->field_names ? data->field_count : 0, rules, rule_count,
                most_rows, scan, &error))
        return true;
    error_at(span_of_error(check, error.text), "%s", error.text);
    check->failed = check->scan_failed = true;
    return false;
}

static void names_from_header(DataCheck *check) {
    struct bp_scan header;
    if (!scan_files(check, 0, &header))
        return;
    Name *names = arena_array(check->arena, Name, header.column_count);
    for (int i = 0; i < header.column_count; i++)
        names[i] = name_of(header.columns[i].name);
    check->name_count = header.column_count;
    if (!check->positions)
        check->names = names;
    bp_scan_free(&header);
}

void read_names(DataCheck *check) {
    DataSet *data = check->data;
    if (reads_arrays(data)) {
        array_names(check);
        return;
    }
    bool there = false, headers = false, none = false;
    for (int i = 0; i < data->file_count; i++) {
        there |= check->paths[i] != NULL;
        headers |= data->files[i].header;
        none |= !data->files[i].header;
    }
    if (!check->names && headers && none) {
        for (int i = 0; i < data->file_count; i++)
            if (!data->files[i].header) {
                error_at(data->files[i].span,
                         "this file has no header and another has one; name the columns: columns a, b");
                break;
            }
        check->failed = true;
        return;
    }
    check->positions = !check->names && !headers;
    if (!check->names && there)
        names_from_header(check);
    if (check->names)
        for (int i = 0; i < check->name_count; i++)
            name_index_add(check->arena, &check->index, check->names[i], i);
    if (check->positions && check->name_count > 0)
        data->field_count = check->name_count;
}

/* ---- The same for rows ------------------------------------------------------------------------------------------- */
typedef struct Field {
    const char *text;
    bool is_number;
    double number;
} Field;

static bool is_missing_field(const DataCheck *check, Name column, const char *text) {
    double number, code;
    if (*text == '\0')
        return true;
    for (int i = 0; i < check->missing.count; i++) {
        const MissingCode *missing = &check->missing.at[i];
        if (missing->column && missing->column != column)
            continue;
        if (strcmp(missing->text, text) == 0)
            return true;
        if (bp_parse_number(missing->text, strlen(missing->text), &code) &&
            bp_parse_number(text, strlen(text), &number) && number == code)
            return true;
    }
    return false;
}

static const char *stripped_field(const DataCheck *check, Name column, const char *text) {
    size_t length = strlen(text);
    for (int i = 0; i < check->columns.count; i++) {
        const DataColumn *written = &check->columns.at[i].column;
        if (scan_column_name(check, written) != column)
            continue;
        for (int j = 0; j < written->transform_count; j++)
            if (written->transforms[j].kind == BP_STRIP)
                while (length > 0 && strchr(written->transforms[j].text, text[length - 1]))
                    length--;
    }
    return arena_copy(check->arena, text, length);
}

static int by_number_or_text(const void *left, const void *right) {
    const Field *a = left, *b = right;
    if (a->is_number && b->is_number)
        return a->number < b->number ? -1 : a->number > b->number;
    return strcmp(a->text, b->text);
}

static int by_text(const void *left, const void *right) {
    return strcmp(((const Field *)left)->text, ((const Field *)right)->text);
}

static void scan_row_column(const DataCheck *check, int index, struct bp_scan_column *column) {
    const DataSet *data = check->data;
    Arena *arena = check->arena;
    Field *fields = arena_array(arena, Field, data->row_count);
    Name name = check->names ? check->names[index] : name_of(arena_printf(arena, "%d", index + 1));
    column->name = arena_copy(arena, name, strlen(name));
    int count = 0;
    for (int i = 0; i < data->row_count; i++) {
        const char *text = data->rows[(size_t)i * (size_t)data->field_count + (size_t)index];
        if (!is_missing_field(check, name, text))
            text = stripped_field(check, name, text);
        if (is_missing_field(check, name, text)) {
            column->missing++;
            continue;
        }
        Field *field = &fields[count++];
        field->text = text;
        field->is_number = bp_parse_number(text, strlen(text), &field->number);
        column->numbers += field->is_number;
        column->texts += !field->is_number;
    }
    column->all_numbers = column->numbers > 0 && column->texts == 0;
    qsort(fields, (size_t)count, sizeof *fields, column->all_numbers ? by_number_or_text : by_text);
    column->distinct = arena_array(arena, struct bp_scan_text, count + 1);
    for (int i = 0; i < count; i++) {
        bool same = i > 0 && (column->all_numbers ? fields[i].number == fields[i - 1].number
                                                  : strcmp(fields[i].text, fields[i - 1].text) == 0);
        if (!same)
            column->distinct[column->distinct_count++].text = arena_copy(arena, fields[i].text, strlen(fields[i].text));
        column->distinct[column->distinct_count - 1].count++;
    }
}

static void scan_rows(DataCheck *check) {
    check->scan = (struct bp_scan){.rows = check->data->row_count, .column_count = check->data->field_count};
    check->scan.columns = arena_array(check->arena, struct bp_scan_column, check->scan.column_count);
    for (int i = 0; i < check->scan.column_count; i++)
        scan_row_column(check, i, &check->scan.columns[i]);
}

/* ---- The whole table --------------------------------------------------------------------------------------------- */
const struct bp_scan *scan_table(DataCheck *check, const char **why) {
    *why = NULL;
    if (check->scan_failed)
        return NULL;
    if (check->scanned)
        return &check->scan;
    for (int i = 0; i < check->data->file_count; i++)
        if (!check->paths[i]) {
            *why = arena_printf(check->arena, "'%s' %s", shown(check->arena, check->data->files[i].name),
                                check->missing_file_why[i]);
            return NULL;
        }
    if (check->data->file_count == 0 && check->data->row_count == 0) {
        *why = arena_printf(check->arena, "'%s' has no rows here", shown(check->arena, check->data->name));
        return NULL;
    }
    if (reads_arrays(check->data)) {
        if (!scan_arrays(check))
            return NULL;
    } else if (check->data->file_count == 0)
        scan_rows(check);
    else if (!scan_files(check, -1, &check->scan))
        return NULL;
    check->scan_owned = check->data->file_count > 0 && !reads_arrays(check->data);
    check->scanned = true;
    return &check->scan;
}

void scan_again(DataCheck *check) {
    table_end(check);
    check->scanned = false;
}

void table_end(DataCheck *check) {
    if (check->scanned && check->scan_owned)
        bp_scan_free(&check->scan);
    check->scan_owned = false;
}
