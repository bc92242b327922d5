/* `input preprocessing from "iris.safetensors"`: the inputs of the data set that the checkpoint was trained on. Which
   that is, the program says: it, or a file that it uses, trains a model on the data set and saves it there. */
#include "checker.h"

#include <string.h>

static bool trains_one_of(const Item *train, const NameList *models) {
    for (int i = 0; i < train->models.count; i++)
        for (int j = 0; j < models->count; j++)
            if (train->models.at[i] == models->at[j])
                return true;
    return false;
}

DataSet *data_behind(Checker *checker, const char *checkpoint) {
    for (int i = 0; i < checker->past.count; i++) {
        const Item *save = checker->past.at[i].item;
        if (save->kind != ITEM_SAVE || strcmp(save->path->string.bytes, checkpoint) != 0)
            continue;
        for (int j = i - 1; j >= 0; j--) {
            const Item *train = checker->past.at[j].item;
            if (train->kind != ITEM_SAVE && train->on && train->on->kind == EXPR_NAME &&
                trains_one_of(train, &save->models))
                return program_data(checker->program, train->on->name);
        }
    }
    return NULL;
}

static void copy_column(DataCheck *check, Line *line, const DataColumn *from) {
    const Reference reference = {
        .name = from->name, .position = from->position, .span = check->data->preprocessing_span};
    bool known = from->position >= 0
                     ? check->positions
                     : !check->positions && (!check->names || name_index_find(&check->index, from->name) >= 0);
    if (!known || (from->position >= 0 && check->name_count >= 0 && from->position >= check->name_count)) {
        error_at(reference.span, "the checkpoint's input '%s' is not a column of '%s'", shown(check->arena, from->name),
                 check->data->name);
        check->failed = true;
        return;
    }
    int index = add_column(check, line, &reference);
    if (index < 0)
        return;
    Written *written = &check->columns.at[index];
    written->inherited = true;
    written->column = *from;
    written->column.span = reference.span;
    written->column.transforms = arena_array(check->arena, DataTransform, from->transform_count);
    for (int i = 0; i < from->transform_count; i++)
        written->column.transforms[i] = from->transforms[i];
    for (int i = 0; i < from->missing_count; i++)
        *LIST_ADD(check->arena, &check->missing) =
            (MissingCode){from->missing[i], scan_column_name(check, &written->column)};
}

static void copy_inputs(DataCheck *check, Setting *setting, const DataSet *from) {
    for (int i = 0; i < from->group_count; i++) {
        const DataGroup *group = &from->groups[i];
        if (group->target)
            continue;
        Line *line = arena_new_of(check->arena, Line);
        *line = (Line){.setting = setting, .label = group->name, .label_span = check->data->preprocessing_span};
        *LIST_ADD(check->arena, &check->lines) = line;
        for (int j = 0; j < group->slot_count; j++) {
            const DataSlot *slot = &from->slots[group->first_slot + j];
            if (slot->form == BP_SLOT_COUNTS)
                continue;
            for (int k = 0; k < slot->column_count; k++)
                copy_column(check, line, &from->columns[slot->columns[k]]);
        }
    }
}

static bool check_preprocessing(DataCheck *check, const Setting *setting) {
    DataSet *data = check->data;
    const Clause *from = &setting->clauses[0];
    if (setting->args.count != 1 || setting->args.at[0].name || !is_word(setting->args.at[0].value, "preprocessing") ||
        setting->clause_count != 1 || from->args.count != 1 || from->args.at[0].name ||
        from->args.at[0].value->kind != EXPR_STRING || from->args.at[0].value->string.length == 0) {
        error_at(setting->span, "write: input preprocessing from \"the-checkpoint.safetensors\"");
        return false;
    }
    if (setting->has_transforms) {
        error_at(setting->span, "the checkpoint says what its inputs go through; leave out what follows ':'");
        return false;
    }
    if (data->preprocessing_from) {
        error_at(setting->span, "preprocessing comes from one checkpoint");
        note_at(data->preprocessing_span, "the other is here");
        return false;
    }
    data->preprocessing_from = from->args.at[0].value->string.bytes;
    data->preprocessing_span = from->args.at[0].value->span;
    return true;
}

static bool lists_inputs(const DataCheck *check) {
    for (int i = 0; i < check->lines.count; i++)
        if (!check->lines.at[i]->target)
            return true;
    return false;
}

/* Inputs that are listed beside it are taken as listed, and only the fitted values come from the checkpoint. */
void inherit_inputs(DataCheck *check, Setting *setting) {
    DataSet *data = check->data;
    if (!check_preprocessing(check, setting)) {
        check->failed = true;
        return;
    }
    if (lists_inputs(check))
        return;
    DataSet *from = data_behind(check->checker, data->preprocessing_from);
    DataState state = from && from != data ? check_data(check->checker, from) : DATA_OPEN;
    if (from && state == DATA_OPEN)
        error_at(data->preprocessing_span, "'%s' is trained on '%s', which this takes its preprocessing from in turn",
                 shown(check->arena, data->preprocessing_from), from->name);
    else if (!from && !check->checker->file_missing)
        error_at(data->preprocessing_span,
                 "nothing here says what the inputs of '%s' are; list them (input a, b : standardize), or use the .bp "
                 "file that saves it",
                 shown(check->arena, data->preprocessing_from));
    check->failed |= state != DATA_GOOD;
    if (state == DATA_GOOD)
        copy_inputs(check, setting, from);
}
