/* What a program may do with a data set that has folds: a model is trained on it alone, measured, and not kept. */
#include "checker.h"

static bool uses_model(const ModelUse *models, int count, const Item *model) {
    for (int i = 0; i < count; i++)
        if (models[i].item == model)
            return true;
    return false;
}

static bool is_folded(const Checker *checker, const DataSet *data) {
    return data_is_good(checker, data) && data->folds > 0;
}

static void check_training(const Checker *checker, const TrainPlan *plan) {
    if (plan->checkpoint)
        error_at(plan->span, "a run over folds starts each of them afresh and cannot be resumed; leave out checkpoint");
    for (int i = 0; i < checker->program->actions.count; i++) {
        const TrainPlan *other = checker->program->actions.at[i].train;
        if (!other || other->data == plan->data)
            continue;
        for (int j = 0; j < plan->model_count; j++)
            if (uses_model(other->models, other->model_count, plan->models[j].item)) {
                error_at(plan->span, "folds start '%s' afresh, so it is trained on nothing else",
                         plan->models[j].item->name);
                note_at(other->span, "it is trained here, too");
                return;
            }
    }
}

/* The train of folds that the model has, NULL. */
static const TrainPlan *folds_of(const Checker *checker, const Item *model) {
    for (int i = 0; i < checker->program->actions.count; i++) {
        const TrainPlan *plan = checker->program->actions.at[i].train;
        if (plan && is_folded(checker, plan->data) && uses_model(plan->models, plan->model_count, model))
            return plan;
    }
    return NULL;
}

static void check_measuring(const Checker *checker, const EvaluatePlan *plan) {
    const TrainPlan *training = folds_of(checker, plan->model.item);
    if (training && training->data != plan->data) {
        error_at(plan->span, "'%s' has other weights in each fold of '%s': evaluate it on %s.fold",
                 plan->model.item->name, training->data->name, training->data->name);
        note_at(training->span, "trained here");
    } else if (!training && is_folded(checker, plan->data)) {
        error_at(plan->span, "'%s' is not trained on the folds of '%s'", plan->model.item->name, plan->data->name);
    }
}

static void check_saving(const Checker *checker, const SavePlan *plan) {
    for (int i = 0; i < plan->model_count; i++) {
        const TrainPlan *training = folds_of(checker, plan->models[i].item);
        if (!training)
            continue;
        error_at(plan->models[i].span, "'%s' has other weights in each fold of '%s', so none are saved",
                 plan->models[i].item->name, training->data->name);
        note_at(training->span, "to keep a model, train it on a data set without folds");
    }
}

void check_folded(Checker *checker) {
    for (int i = 0; i < checker->program->actions.count; i++) {
        const Action *action = &checker->program->actions.at[i];
        if (action->train && is_folded(checker, action->train->data))
            check_training(checker, action->train);
        else if (action->evaluate)
            check_measuring(checker, action->evaluate);
        else if (action->save)
            check_saving(checker, action->save);
    }
}
