/* The checked program as text, for --dump=checked. */
#include "checker.h"

#include <string.h>

static const char *const part_names[] = {"train", "validation", "test", "all"};

static void print_string(Text *out, const char *string) {
    text_add(out, "\"");
    for (const char *at = string; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\')
            text_printf(out, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7F)
            text_printf(out, "\\x%02x", byte);
        else
            text_add_bytes(out, at, 1);
    }
    text_add(out, "\"");
}

static void print_strings(Text *out, const char *before, const Name *names, int count) {
    text_add(out, before);
    for (int i = 0; i < count; i++) {
        text_add(out, i ? ", " : "");
        print_string(out, names[i]);
    }
}

static void print_categories(Text *out, const DataColumn *column) {
    for (int i = 0; i < column->category_count; i++) {
        text_add(out, i ? ", " : column->binary ? ": binary " : ": category ");
        print_string(out, column_category(column, i));
    }
}

static void print_args(Text *out, const char *before, const Args *args) {
    text_add(out, before);
    for (int i = 0; i < args->count; i++) {
        text_add(out, i ? ", " : "");
        if (args->at[i].name)
            text_printf(out, "%s = ", args->at[i].name);
        expr_print(args->at[i].value, out);
    }
    text_add(out, "\n");
}

/* ---- Data -------------------------------------------------------------------------------------------------------- */
static void print_transform(const DataTransform *transform, Text *out) {
    switch (transform->kind) {
    case BP_STRIP:
        text_add(out, "strip(");
        print_string(out, transform->text);
        text_add(out, ")");
        return;
    case BP_IMPUTE_MEAN:
        text_add(out, "impute(mean)");
        break;
    case BP_IMPUTE_MEDIAN:
        text_add(out, "impute(median)");
        break;
    case BP_IMPUTE_MOST_FREQUENT:
        text_add(out, "impute(most_frequent)");
        break;
    case BP_IMPUTE_CONSTANT:
    case BP_SCALE:
        text_add(out, transform->kind == BP_SCALE ? "scale(" : "impute(");
        text_number(out, transform->argument);
        text_add(out, ")");
        return;
    case BP_DROP:
        text_add(out, "drop");
        return;
    case BP_LOG:
        text_add(out, "log");
        return;
    case BP_STANDARDIZE:
        text_add(out, "standardize");
        break;
    case BP_MINMAX:
        text_add(out, "minmax");
        break;
    }
    text_printf(out, " -> fitted %d", transform->fitted);
}

static void print_column(const DataColumn *column, int index, Text *out) {
    text_printf(out, "  column %d ", index);
    print_string(out, column->name);
    if (column->position >= 0)
        text_printf(out, " at field %d", column->position);
    if (!column->category)
        text_add(out, ": number");
    else
        print_categories(out, column);
    if (column->unknown_is_zero)
        text_add(out, ", unknown = zero");
    if (column->missing_count > 0)
        print_strings(out, "; missing ", column->missing, column->missing_count);
    for (int i = 0; i < column->transform_count; i++) {
        text_add(out, i ? ", " : "; ");
        print_transform(&column->transforms[i], out);
    }
    text_add(out, "\n");
}

static void print_slot(const DataSet *data, int index, Text *out) {
    const DataSlot *slot = &data->slots[index];
    text_printf(out, "    slot %d ", index);
    print_string(out, slot->name);
    text_printf(out, " %s[%d]:", slot->category ? "category" : "number", slot->width);
    for (int i = 0; i < slot->column_count; i++)
        text_printf(out, " %d", slot->columns[i]);
    text_add(out, "\n");
}

static void print_group(const DataSet *data, const DataGroup *group, Text *out) {
    text_add(out, group->target ? "  target" : "  input");
    if (group->name) {
        text_add(out, " ");
        print_string(out, group->name);
    }
    text_printf(out, " width %d\n", group->width);
    for (int i = 0; i < group->slot_count; i++)
        print_slot(data, group->first_slot + i, out);
}

static void print_file(const DataFile *file, Text *out) {
    text_add(out, "  file ");
    print_string(out, file->name);
    text_printf(out, " part %s", part_names[file->part]);
    if (!file->header)
        text_add(out, ", no header");
    if (file->skip)
        text_printf(out, ", skip %d", file->skip);
    if (file->delimiter)
        text_printf(out, ", delimiter 0x%02x", (unsigned char)file->delimiter);
    if (file->path) {
        text_add(out, ", at ");
        print_string(out, file->path);
    }
    text_add(out, "\n");
}

static void print_split(const DataSet *data, Text *out) {
    const double shares[] = {data->train, data->validation, data->test};
    text_add(out, "  parts");
    for (int part = 0; part < BP_ALL; part++) {
        if (!data->has_part[part])
            continue;
        text_printf(out, " %s", part_names[part]);
        if (shares[part] > 0) {
            text_add(out, " ");
            text_number(out, shares[part]);
        }
    }
    text_printf(out, ", seed %llu", (unsigned long long)data->split_seed);
    if (data->stratify >= 0)
        text_printf(out, ", stratify column %d", data->stratify);
    text_add(out, "\n");
}

static void print_data(const DataSet *data, Text *out) {
    text_printf(out, "data %s\n", data->name);
    for (int i = 0; i < data->file_count; i++)
        print_file(&data->files[i], out);
    if (data->rows)
        text_printf(out, "  rows %d of %d fields\n", data->row_count, data->field_count);
    if (data->field_names) {
        print_strings(out, "  fields ", data->field_names, data->field_count);
        text_add(out, "\n");
    }
    if (data->preprocessing_from) {
        text_add(out, "  preprocessing from ");
        print_string(out, data->preprocessing_from);
        text_add(out, "\n");
    }
    if (data->refit)
        text_add(out, "  refit\n");
    for (int i = 0; i < data->column_count; i++)
        print_column(&data->columns[i], i, out);
    for (int i = 0; i < data->group_count; i++)
        print_group(data, &data->groups[i], out);
    print_split(data, out);
    text_printf(out, "  fitted values %d\n", data->fitted_count);
}

/* ---- Statements -------------------------------------------------------------------------------------------------- */
static void print_models(const ModelUse *models, int count, Text *out) {
    for (int i = 0; i < count; i++)
        text_printf(out, "%s%s", i ? ", " : " ", models[i].item->name);
}

static void print_expr(Text *out, const char *before, const Expr *expr) {
    if (!expr)
        return;
    text_add(out, before);
    expr_print(expr, out);
    text_add(out, "\n");
}

static void print_train(const TrainPlan *plan, Text *out) {
    text_add(out, plan->finetune ? "finetune" : "train");
    print_models(plan->models, plan->model_count, out);
    text_printf(out, " on %s as %s\n", plan->data->name, plan->name);
    print_args(out, "  loss ", &plan->loss);
    if (plan->metrics.count)
        print_args(out, "  metrics ", &plan->metrics);
    print_expr(out, "  optimizer ", plan->optimizer);
    text_printf(out, "  epochs %lld, batch_size %lld, shuffle %s\n", (long long)plan->epochs,
                (long long)plan->batch_size, plan->shuffle ? "yes" : "no");
    print_expr(out, "  l1 ", plan->l1);
    print_expr(out, "  l2 ", plan->l2);
    if (plan->freeze.count)
        print_args(out, "  freeze ", &plan->freeze);
    if (plan->early_stopping) {
        text_printf(out, "  early_stopping %s, patience = %lld, min_delta = ", plan->monitor,
                    (long long)plan->patience);
        text_number(out, plan->min_delta);
        text_printf(out, ", start_from_epoch = %lld%s\n", (long long)plan->start_from_epoch,
                    plan->better > 0   ? ", mode = max"
                    : plan->better < 0 ? ", mode = min"
                                       : "");
    }
    if (plan->checkpoint) {
        text_add(out, "  checkpoint ");
        print_string(out, plan->checkpoint);
        text_printf(out, ", every = %lld\n", (long long)plan->checkpoint_every);
    }
}

static void print_action(const Action *action, Text *out) {
    switch (action->kind) {
    case BP_DO_TRAIN:
        print_train(action->train, out);
        return;
    case BP_DO_EVALUATE:
        text_printf(out, "evaluate %s on %s %s%s%s", action->evaluate->model.item->name, action->evaluate->data->name,
                    part_names[action->evaluate->part], action->evaluate->in ? " in " : "",
                    action->evaluate->in ? action->evaluate->in : "");
        print_args(out, ": ", &action->evaluate->metrics);
        return;
    case BP_DO_SAVE:
        text_add(out, "save");
        print_models(action->save->models, action->save->model_count, out);
        text_add(out, " to ");
        print_string(out, action->save->path);
        text_add(out, "\n");
        return;
    }
    BUG("action %d", (int)action->kind);
}

/* What a definition of the prelude means is in the prelude. */
void program_print(const Program *program, Text *out) {
    text_printf(out, "program %s\n", program->name);
    for (int i = 0; i < program->params.count; i++) {
        text_printf(out, "param %s = ", program->params.at[i].name);
        text_number(out, program->params.at[i].value);
        text_add(out, "\n");
    }
    for (int i = 0; i < program->definitions.count; i++) {
        const Definition *definition = &program->definitions.at[i];
        ItemKind kind = definition->item->kind;
        if (definition->prelude || kind == ITEM_PARAM || kind == ITEM_DATA)
            continue;
        text_printf(out, "%s %s", strchr(item_kind_shown(kind), ' ') + 1, definition->name);
        print_expr(out, kind == ITEM_CONST ? " = " : "\n", kind == ITEM_CONST ? definition->item->value : NULL);
        if (kind == ITEM_CONST)
            print_expr(out, " = ", definition->item->value);
        else
            text_add(out, "\n");
    }
    for (int i = 0; i < program->data.count; i++)
        print_data(program->data.at[i], out);
    for (int i = 0; i < program->actions.count; i++)
        print_action(&program->actions.at[i], out);
}
