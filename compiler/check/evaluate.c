/* evaluate and save. */
#include "checker.h"

#include <string.h>

/* ---- evaluate ---------------------------------------------------------------------------------------------------- */
static bool whole_folds(const Checker *checker, const EvaluatePlan *plan, Span span) {
    if (!data_is_good(checker, plan->data) || plan->data->folds == 0)
        return true;
    error_at(span, "'%s' has folds: a model is measured on what each holds out, %s.fold", plan->data->name,
             plan->data->name);
    return false;
}

static bool check_part_name(Checker *checker, EvaluatePlan *plan, const Expr *on) {
    static const char *const names[] = {"train", "validation", "test", "fold"};
    Name name = on->field.name, candidates[4];
    if (strcmp(name, "fold") == 0) {
        plan->part = BP_TEST; /* what each fold holds out */
        if (!data_is_good(checker, plan->data) || plan->data->folds > 0)
            return true;
        error_at(on->field.name_span, "'%s' has no folds", plan->data->name);
        note_at(plan->data->span, "add to the data: split folds = 5, or another number");
        return false;
    }
    if (!whole_folds(checker, plan, on->field.name_span))
        return false;
    for (int i = 0; i < 4; i++) {
        candidates[i] = names[i];
        if (i == 3 || strcmp(name, names[i]) != 0)
            continue;
        plan->part = (enum bp_part)i;
        if (!data_is_good(checker, plan->data) || plan->data->has_part[i])
            return true;
        error_at(on->field.name_span, "'%s' has no %s part", plan->data->name, name);
        if (i != BP_TRAIN)
            note_at(plan->data->span, "add to the data: split %s = 0.15, or another share", name);
        return false;
    }
    error_at(on->field.name_span, "'%s' has the parts train, validation and test, no '%s'%s", plan->data->name, name,
             did_you_mean(checker->arena, name, candidates, 3));
    return false;
}

static bool find_evaluation_data(Checker *checker, EvaluatePlan *plan, const Expr *on) {
    const Expr *base = on->kind == EXPR_FIELD ? on->field.base : on;
    plan->part = BP_ALL;
    plan->part_span = on->span;
    if (base->kind != EXPR_NAME) {
        error_at(on->span, "evaluate takes a data set or a part of one, as in iris.test");
        return false;
    }
    plan->data = find_data(checker, base->name, base->span);
    if (!plan->data)
        return false;
    return on->kind == EXPR_NAME ? whole_folds(checker, plan, on->span) : check_part_name(checker, plan, on);
}

static bool has_log_target(const DataSet *data) {
    for (int i = 0; i < data->slot_count; i++)
        for (int j = 0; j < data->slots[i].column_count && data->slots[i].target; j++) {
            const DataColumn *column = &data->columns[data->slots[i].columns[j]];
            for (int k = 0; k < column->transform_count; k++)
                if (column->transforms[k].kind == BP_LOG)
                    return true;
        }
    return false;
}

static void check_units(Checker *checker, EvaluatePlan *plan, const Item *item) {
    plan->in = item->in;
    if (!item->in)
        return;
    if (strcmp(item->in, "log") != 0)
        error_at(item->in_span,
                 "metrics are in the file's units; 'in log' asks for the logarithm's, and there is no 'in %s'",
                 item->in);
    else if (data_is_good(checker, plan->data) && !has_log_target(plan->data))
        error_at(item->in_span, "no target of '%s' is in log", plan->data->name);
}

void check_evaluate(Checker *checker, Item *item) {
    EvaluatePlan *plan = arena_new_of(checker->arena, EvaluatePlan);
    plan->span = item->span;
    plan->metrics = item->args;
    Item *model = find_model(checker, item->models.at[0], item->models.spans[0]);
    plan->model = (ModelUse){model, item->models.spans[0]};
    if (item->models.count > 1)
        error_at(item->models.spans[1], "evaluate takes one model at a time");
    bool good = find_evaluation_data(checker, plan, item->on) && model && item->models.count == 1;
    if (good)
        check_units(checker, plan, item);
    if (item->args.count == 0)
        error_at(item->span, "evaluate names no metric; write { accuracy } or another");
    if (good)
        *LIST_ADD(checker->arena, &checker->program->actions) = (Action){.kind = BP_DO_EVALUATE, .evaluate = plan};
}

/* ---- save -------------------------------------------------------------------------------------------------------- */
bool check_output_path(const Expr *path, const char *what) {
    if (path->string.length == 0)
        error_at(path->span, "the file for %s has no name", what);
    else if (path->string.bytes[path->string.length - 1] == '/')
        error_at(path->span, "'%s' is a folder; %s needs a file", path->string.bytes, what);
    else
        return true;
    return false;
}

void check_save(Checker *checker, Item *item) {
    SavePlan *plan = arena_new_of(checker->arena, SavePlan);
    plan->span = item->span;
    plan->path = item->path->string.bytes;
    bool models = find_models(checker, &item->models, &plan->models, &plan->model_count);
    if (check_output_path(item->path, "save") && models)
        *LIST_ADD(checker->arena, &checker->program->actions) = (Action){.kind = BP_DO_SAVE, .save = plan};
}
