/* A data set: its settings, in any order, become a schema. */
#include "checker.h"

#include <string.h>

typedef enum Known {
    KNOWN_FILE,
    KNOWN_COLUMNS,
    KNOWN_ROWS,
    KNOWN_MISSING,
    KNOWN_INPUT,
    KNOWN_TARGET,
    KNOWN_SPLIT,
    KNOWN_REFIT,
    KNOWN_GENERATE,
    KNOWN_COUNT
} Known;

static const SettingRule rules[KNOWN_COUNT] = {
    [KNOWN_FILE] = {"file", true, false},         [KNOWN_COLUMNS] = {"columns", false, false},
    [KNOWN_ROWS] = {"rows", false, false},        [KNOWN_MISSING] = {"missing", true, false},
    [KNOWN_INPUT] = {"input", true, false},       [KNOWN_TARGET] = {"target", true, false},
    [KNOWN_SPLIT] = {"split", false, false},      [KNOWN_REFIT] = {"refit", false, false},
    [KNOWN_GENERATE] = {"generate", true, false},
};

static DataEntry *entry_of(const Checker *checker, const DataSet *data) {
    return &checker->data.at[data->index];
}

bool data_is_good(const Checker *checker, const DataSet *data) {
    return data && entry_of(checker, data)->state == DATA_GOOD;
}

void data_is_told(Checker *checker, const DataSet *data) {
    entry_of(checker, data)->state = DATA_BAD;
}

/* ---- split ------------------------------------------------------------------------------------------------------- */
static bool read_share(DataCheck *check, const Args *args, const char *name, double *share) {
    const Arg *arg = option_named(args, name);
    if (!arg)
        return true;
    if (!check_number(check->checker->program, arg->value, "a share", share))
        return false;
    if (*share > 0 && *share <= 1)
        return true;
    error_at(arg->value->span, "a share is above 0 and at most 1");
    return false;
}

/* Whether every file is for a part; whether one is for this part. */
static bool check_parts(DataCheck *check, const Setting *split) {
    static const char *const names[] = {"train", "validation", "test"};
    const DataSet *data = check->data;
    const double shares[] = {data->train, data->validation, data->test};
    bool training = data->file_count == 0;
    for (int i = 0; i < data->file_count; i++)
        training |= data->files[i].part == BP_TRAIN || data->files[i].part == BP_ALL;
    for (int part = BP_VALIDATION; part <= BP_TEST; part++)
        for (int i = 0; i < data->file_count; i++)
            if (shares[part] > 0 && data->files[i].part == (enum bp_part)part) {
                error_at(option_named(&split->args, names[part])->name_span, "the %s part is a file of its own",
                         names[part]);
                note_at(data->files[i].span, "this one");
                return false;
            }
    if (training || data->train + data->validation + data->test <= 0)
        return true;
    error_at(split->span, "no file has rows to split: each is for validation or test");
    return false;
}

static bool check_shares(DataCheck *check, const Setting *split) {
    const double slack = 1e-9; /* 0.7 + 0.15 + 0.15 in binary */
    DataSet *data = check->data;
    if (!read_share(check, &split->args, "train", &data->train) ||
        !read_share(check, &split->args, "validation", &data->validation) ||
        !read_share(check, &split->args, "test", &data->test))
        return false;
    double sum = data->train + data->validation + data->test;
    if (sum > 1 + slack) {
        error_at(split->span, "the shares add up to %s, more than 1", number_text(check->arena, sum));
        return false;
    }
    if (data->train <= 0 && sum > 1 - slack) {
        error_at(split->span, "no rows are left to train on");
        return false;
    }
    return check_parts(check, split);
}

/* folds = 5: each is held out once, and the rows of the others train, but for a share that validates. */
static bool check_folds(DataCheck *check, const Setting *split) {
    const Arg *folds = option_named(&split->args, "folds");
    static const char *const others[] = {"train", "test"};
    int64_t count;
    if (!folds)
        return true;
    if (!check_integer(check->checker->program, folds->value, "the number of folds", 2, &count))
        return false;
    if (count > INT16_MAX) {
        error_at(folds->value->span, "more than %d folds", INT16_MAX);
        return false;
    }
    for (int i = 0; i < 2; i++)
        if (option_named(&split->args, others[i])) {
            error_at(option_named(&split->args, others[i])->name_span,
                     "folds say what trains and what is held out; only validation may stand beside them");
            return false;
        }
    for (int i = 0; i < check->data->file_count; i++)
        if (check->data->files[i].part != BP_ALL) {
            error_at(folds->name_span, "folds deal out all rows, and a file is for one part");
            note_at(check->data->files[i].span, "this one");
            return false;
        }
    check->data->folds = (int)count;
    return true;
}

static bool check_stratify(DataCheck *check, const Args *args) {
    const Arg *arg = option_named(args, "stratify");
    References list = {0};
    if (!arg)
        return true;
    if (arg->value->kind == EXPR_RANGE) {
        error_at(arg->value->span, "stratify takes one column");
        return false;
    }
    if (!find_references(check, arg->value, &list) || list.count != 1)
        return false;
    check->data->stratify = add_column(check, NULL, &list.at[0]);
    return true;
}

static void check_split(DataCheck *check, const Setting *split) {
    static const char *const options[] = {"train", "validation", "test", "stratify", "seed", "folds", NULL};
    const Arg *seed = option_named(&split->args, "seed");
    int64_t number = 0;
    bool good = check_shape(split, false, NULL) && check_options(check->arena, &split->args, "split", options);
    for (int i = 0; i < split->args.count && good; i++)
        if (!split->args.at[i].name) {
            error_at(split->args.at[i].value->span, "split takes shares by name: split train = 0.8, test = 0.2");
            good = false;
        }
    if (good && split->args.count == 0) {
        error_at(split->span, "split takes shares by name: split train = 0.8, test = 0.2");
        good = false;
    }
    good = good && check_folds(check, split) && check_shares(check, split);
    if (good && seed)
        good = check_integer(check->checker->program, seed->value, "the seed", 0, &number);
    check->data->split_seed = (uint64_t)number;
    good = good && check_stratify(check, &split->args);
    check->failed |= !good;
}

static void find_parts(DataSet *data) {
    data->has_part[BP_ALL] = true;
    data->has_part[BP_TRAIN] = data->file_count == 0;
    data->has_part[BP_VALIDATION] = data->validation > 0;
    data->has_part[BP_TEST] = data->test > 0;
    for (int i = 0; i < data->file_count; i++)
        data->has_part[data->files[i].part == BP_ALL ? BP_TRAIN : data->files[i].part] = true;
}

/* ---- The whole --------------------------------------------------------------------------------------------------- */
static void check_refit(DataCheck *check, const Setting *refit) {
    check->data->refit = true;
    if (refit->args.count > 0 || refit->clause_count > 0 || refit->has_transforms) {
        error_at(refit->span, "refit stands alone on its line");
        check->failed = true;
    } else if (check->data->preprocessing_from) {
        error_at(refit->keyword_span,
                 "refit makes preprocessing afresh, and this takes it from a checkpoint: one of the "
                 "two");
        note_at(check->data->preprocessing_span, "from here");
        check->failed = true;
    }
}

static void check_source(DataCheck *check, Setting *const *found) {
    DataSet *data = check->data;
    check->name_count = -1;
    check_files(check, data->item->settings);
    if (!check->failed)
        check_arrays(check, found[KNOWN_COLUMNS], found[KNOWN_MISSING]);
    if (check->failed)
        return;
    if (found[KNOWN_COLUMNS])
        check_column_names(check, found[KNOWN_COLUMNS]);
    if (generates(data)) {
        check_generate(check, data->file_count > 0   ? found[KNOWN_FILE]
                              : found[KNOWN_COLUMNS] ? found[KNOWN_COLUMNS]
                                                     : found[KNOWN_ROWS]);
    } else if (data->file_count > 0 && found[KNOWN_ROWS]) {
        error_at(found[KNOWN_ROWS]->keyword_span, "a data set has a file or rows, not both");
        note_at(data->files[0].span, "the file is here");
        check->failed = true;
    } else if (found[KNOWN_ROWS]) {
        check_rows(check, found[KNOWN_ROWS]);
    } else if (data->file_count == 0 && !found[KNOWN_COLUMNS]) { /* with columns: rows come from a host, or --data */
        error_at(data->span, "'%s' has no values; add a file \"table.csv\", or rows", data->name);
        check->failed = true;
    }
    if (!check->failed)
        read_names(check);
}

static void check_columns(DataCheck *check, Setting *const *found) {
    DataSet *data = check->data;
    bool input = false;
    for (int i = 0; i < data->item->settings.count; i++)
        if (strcmp(data->item->settings.at[i]->keyword, "missing") == 0)
            check_missing(check, data->item->settings.at[i]);
    check_lines(check, data->item->settings);
    for (int i = 0; i < check->lines.count; i++) {
        const Line *line = check->lines.at[i];
        input |= !line->target;
        if (!check->failed && line->columns.count == 0) {
            error_at(line->setting->span, "no column is left on this line");
            check->failed = true;
        }
    }
    if (!input && !check->failed) {
        error_at(data->span, "'%s' has no input; add input with its columns", data->name);
        check->failed = true;
    }
    if (found[KNOWN_SPLIT])
        check_split(check, found[KNOWN_SPLIT]);
    if (found[KNOWN_REFIT])
        check_refit(check, found[KNOWN_REFIT]);
    check->failed |= !check_labels(check);
}

static bool check_schema(Checker *checker, DataSet *data) {
    const Settings *settings = &data->item->settings;
    Setting *found[KNOWN_COUNT] = {NULL};
    DataCheck check = {.checker = checker, .arena = checker->arena, .data = data};
    if (!sort_settings(checker->arena, settings, rules, KNOWN_COUNT, "data", found))
        return false;
    check_source(&check, found);
    if (!check.failed)
        check_columns(&check, found);
    if (!check.failed)
        find_kinds(&check);
    if (!check.failed && data->stratify >= 0 && check.columns.at[data->stratify].column.kind != BP_NUMBER) {
        const Arg *stratify = option_named(&found[KNOWN_SPLIT]->args, "stratify");
        error_at(stratify->value->span, "stratify takes a number or a category");
        check.failed = true;
    }
    if (!check.failed) {
        learn_from_table(&check);
        make_slots(&check);
        find_parts(data);
    }
    table_end(&check);
    return !check.failed;
}

DataState check_data(Checker *checker, DataSet *data) {
    DataEntry *entry = entry_of(checker, data);
    if (entry->state != DATA_NEW)
        return entry->state;
    entry->state = DATA_OPEN;
    bool good = check_schema(checker, data);
    entry->state = good ? DATA_GOOD : DATA_BAD; /* the list does not grow while data sets are checked */
    return entry->state;
}
