/* train and finetune: what the settings of a phase say. Formulas wait for graph/build.c. */
#include "checker.h"

#include <string.h>

enum { BATCH_SIZE = 32, BATCH_SIZE_MAX = 1 << 24 };

typedef enum Known {
    KNOWN_LOSS,
    KNOWN_METRICS,
    KNOWN_OPTIMIZER,
    KNOWN_EPOCHS,
    KNOWN_STEPS,
    KNOWN_BATCH_SIZE,
    KNOWN_SHUFFLE,
    KNOWN_L1,
    KNOWN_L2,
    KNOWN_FREEZE,
    KNOWN_EARLY_STOPPING,
    KNOWN_CHECKPOINT,
    KNOWN_CLASS_WEIGHT,
    KNOWN_CLIP_GRADIENT,
    KNOWN_ACCUMULATE,
    KNOWN_AVERAGE_WEIGHTS,
    KNOWN_STATISTICS,
    KNOWN_STEP,
    KNOWN_LOG,
    KNOWN_NOW, /* from here on they are not there yet */
} Known;

static const SettingRule rules[] = {
    {"loss", false, false},
    {"metrics", false, false},
    {"optimizer", true, false},
    {"epochs", false, false},
    {"steps", false, false},
    {"batch_size", false, false},
    {"shuffle", false, false},
    {"l1", false, false},
    {"l2", false, false},
    {"freeze", false, false},
    {"early_stopping", false, false},
    {"checkpoint", false, false},
    {"class_weight", false, false},
    {"clip_gradient", false, false},
    {"accumulate", false, false},
    {"average_weights", false, false},
    {"statistics", false, false},
    {"step", false, false},
    {"log", false, false},
    {"augment", true, false},
    {"sample_weight", false, true},
};
enum { RULE_COUNT = sizeof rules / sizeof rules[0] };

/* ---- Models ------------------------------------------------------------------------------------------------------ */
bool find_models(Checker *checker, const NameList *names, ModelUse **models, int *count) {
    bool good = true;
    *models = arena_array(checker->arena, ModelUse, names->count);
    *count = names->count;
    for (int i = 0; i < names->count; i++) {
        Item *item = find_model(checker, names->at[i], names->spans[i]);
        (*models)[i] = (ModelUse){item, names->spans[i]};
        good &= item != NULL;
        for (int j = 0; j < i && item; j++)
            if (names->at[j] == names->at[i]) {
                error_at(names->spans[i], "'%s' is given twice", names->at[i]);
                note_at(names->spans[j], "first given here");
                return false;
            }
    }
    return good;
}

/* The checkpoint that a model starts from: its own or that of the model it is derived from; NULL. */
static const Expr *checkpoint_of(const Checker *checker, const Item *model) {
    int steps = 0;
    while (model && model->kind == ITEM_DERIVED && !model->path && steps++ < checker->program->definitions.count) {
        const Definition *base = program_find(checker->program, model->base);
        model = base ? base->item : NULL;
    }
    return model && model->kind == ITEM_DERIVED ? model->path : NULL;
}

static bool fits_inputs(const DataSet *data) {
    for (int i = 0; i < data->slot_count; i++)
        for (int j = 0; j < data->slots[i].column_count && !data->slots[i].target; j++) {
            const DataColumn *column = &data->columns[data->slots[i].columns[j]];
            if (column->kind == BP_WORDS) /* a vocabulary */
                return true;
            for (int k = 0; k < column->transform_count; k++)
                if (column->transforms[k].fitted >= 0)
                    return true;
        }
    return false;
}

/* Frozen layers know the units of the data they were trained on. */
static void check_units(Checker *checker, const TrainPlan *plan, const Expr *checkpoint) {
    const DataSet *data = plan->data;
    if (!data_is_good(checker, data) || data->preprocessing_from || data->refit || !fits_inputs(data) ||
        data_behind(checker, checkpoint->string.bytes) == data)
        return;
    error_at(data->span, "'%s' does not say where its preprocessing comes from, and '%s' continues from a checkpoint",
             data->name, plan->models[0].item->name);
    note_at(plan->span,
            "add input preprocessing from \"%s\" beside the inputs or in their place; or refit, to fit it afresh",
            shown(checker->arena, checkpoint->string.bytes));
    data_is_told(checker, data);
}

static void check_finetune(Checker *checker, const TrainPlan *plan) {
    for (int i = 0; i < plan->model_count; i++) {
        const ModelUse *use = &plan->models[i];
        const Expr *checkpoint = checkpoint_of(checker, use->item);
        if (checkpoint && i == 0)
            check_units(checker, plan, checkpoint);
        if (checkpoint)
            continue;
        if (use->item->kind == ITEM_DERIVED)
            error_at(
                use->span,
                "finetune is for a model that starts from a checkpoint; write: model %s = %s from \"….safetensors\", "
                "or train",
                use->item->name, use->item->base);
        else
            error_at(
                use->span,
                "finetune is for a model that starts from a checkpoint; write: model New = %s from \"….safetensors\", "
                "or train",
                use->item->name);
    }
}

/* ---- Settings with one value ------------------------------------------------------------------------------------- */
static Expr *only_value(const Setting *setting, const char *example) {
    if (!check_shape(setting, false, NULL))
        return NULL;
    if (setting->args.count == 1 && !setting->args.at[0].name)
        return setting->args.at[0].value;
    error_at(setting->span, "'%s' takes one value, as in %s", setting->keyword, example);
    return NULL;
}

static int64_t read_count(Checker *checker, const Setting *setting, const char *example) {
    int64_t count = 0;
    if (!setting)
        return 0;
    const Expr *value = only_value(setting, example);
    if (value)
        check_integer(checker->program, value, arena_printf(checker->arena, "'%s'", setting->keyword), 1, &count);
    return count;
}

static void read_length(Checker *checker, TrainPlan *plan, Setting *const *found, Span span) {
    const Setting *epochs = found[KNOWN_EPOCHS], *steps = found[KNOWN_STEPS], *batch = found[KNOWN_BATCH_SIZE];
    plan->epochs = read_count(checker, epochs, "epochs 100");
    plan->batch_size = batch ? read_count(checker, batch, "batch_size 32") : BATCH_SIZE;
    plan->accumulate = found[KNOWN_ACCUMULATE] ? read_count(checker, found[KNOWN_ACCUMULATE], "accumulate 4") : 1;
    if (plan->batch_size > BATCH_SIZE_MAX)
        error_at(batch->args.at[0].value->span, "'batch_size' is at most %d", BATCH_SIZE_MAX);
    plan->steps = read_count(checker, steps, "steps 5000");
    if (steps && epochs) {
        error_at(steps->keyword_span, "epochs and steps both say how long to train; one of them is enough");
        note_at(epochs->keyword_span, "epochs stands here");
    } else if (!plan->data && !plan->step && !steps && !epochs) {
        error_at(span, "this says not how long to train; add epochs 100, or another number");
    } else if (!plan->data && plan->step && epochs) {
        error_at(epochs->keyword_span, "an epoch is a pass over data, which this phase has not; write steps 5000, or "
                                       "another number");
    } else if (!steps && !epochs && !plan->from_host) {
        error_at(span, plan->data ? "this says not how long to train; add epochs 100, or another number"
                                  : "this says not how long to train; add steps 5000, or another number");
    }
}

static void read_shuffle(TrainPlan *plan, const Setting *setting) {
    plan->shuffle = true;
    if (!setting || !check_shape(setting, false, NULL) || setting->args.count == 0)
        return;
    plan->shuffle = false;
    if (setting->args.count != 1 || setting->args.at[0].name || !is_word(setting->args.at[0].value, "none"))
        error_at(setting->span, "write shuffle, or shuffle none");
}

static void read_checkpoint(Checker *checker, TrainPlan *plan, const Setting *setting) {
    static const char *const options[] = {"every", NULL};
    plan->checkpoint_every = 1;
    if (!setting || !check_shape(setting, false, NULL) ||
        !check_options(checker->arena, &setting->args, "checkpoint", options))
        return;
    const Arg *every = option_named(&setting->args, "every");
    if (positional_count(&setting->args) != 1 || setting->args.at[0].name ||
        setting->args.at[0].value->kind != EXPR_STRING) {
        error_at(setting->span, "checkpoint needs a file, as in checkpoint \"run.state\", every = 10");
        return;
    }
    if (check_output_path(setting->args.at[0].value, "checkpoint"))
        plan->checkpoint = setting->args.at[0].value->string.bytes;
    if (every)
        check_integer(checker->program, every->value, "'every'", 1, &plan->checkpoint_every);
}

/* ---- early_stopping ---------------------------------------------------------------------------------------------- */
static Name name_called(const Expr *expr) {
    if (expr->kind == EXPR_CALL)
        expr = expr->call.callee;
    return expr->kind == EXPR_NAME ? expr->name : NULL;
}

static bool is_measured(const Checker *checker, const TrainPlan *plan, Name name) {
    if (strcmp(name, "loss") == 0 || plan->step) /* what a step measures is known when it is built */
        return true;
    for (int i = 0; i < plan->metrics.count; i++)
        if (name_called(plan->metrics.at[i].value) == name)
            return true;
    const Definition *definition = program_find(checker->program, name);
    return definition && definition->item->kind == ITEM_METRIC;
}

/* What is watched is measured, whether `metrics` names it or not. */
static void measure_monitor(const Checker *checker, TrainPlan *plan, Name name) {
    if (strcmp(name, "loss") == 0 || plan->step)
        return;
    for (int i = 0; i < plan->metrics.count; i++)
        if (name_called(plan->metrics.at[i].value) == name)
            return;
    Arg *more = arena_array(checker->arena, Arg, plan->metrics.count + 1);
    for (int i = 0; i < plan->metrics.count; i++)
        more[i] = plan->metrics.at[i];
    Expr *metric = arena_new_of(checker->arena, Expr);
    *metric = (Expr){.kind = EXPR_NAME, .height = 1, .span = plan->monitor_span, .name = name};
    more[plan->metrics.count] = (Arg){.value = metric};
    plan->metrics = (Args){more, plan->metrics.count + 1};
}

static void unknown_monitor(Checker *checker, const TrainPlan *plan) {
    LIST(Name) names = {0};
    *LIST_ADD(checker->arena, &names) = name_of("val_loss");
    *LIST_ADD(checker->arena, &names) = name_of("loss");
    for (int i = 0; i < plan->metrics.count; i++) {
        Name name = name_called(plan->metrics.at[i].value);
        if (!name)
            continue;
        *LIST_ADD(checker->arena, &names) = name_of(arena_printf(checker->arena, "val_%s", name));
        *LIST_ADD(checker->arena, &names) = name;
    }
    const char *near = did_you_mean(checker->arena, plan->monitor, names.at, names.count);
    error_at(plan->monitor_span, "nothing measures '%s'%s", plan->monitor,
             *near ? near : "; early_stopping watches loss, a metric, or one of them after val_");
}

static void check_monitor(Checker *checker, TrainPlan *plan) {
    bool validation = strncmp(plan->monitor, "val_", 4) == 0;
    if (!is_measured(checker, plan, validation ? name_of(plan->monitor + 4) : plan->monitor)) {
        unknown_monitor(checker, plan);
        return;
    }
    measure_monitor(checker, plan, validation ? name_of(plan->monitor + 4) : plan->monitor);
    if (validation && data_is_good(checker, plan->data) && !plan->data->has_part[BP_VALIDATION]) {
        error_at(plan->monitor_span, "'%s' needs a validation part, and '%s' has none", plan->monitor,
                 plan->data->name);
        note_at(plan->data->span, "add to the data: split validation = 0.1, or another share");
    }
}

static void read_stopping_options(Checker *checker, TrainPlan *plan, const Setting *setting) {
    const Arg *patience = option_named(&setting->args, "patience");
    const Arg *min_delta = option_named(&setting->args, "min_delta");
    const Arg *start = option_named(&setting->args, "start_from_epoch");
    const Arg *mode = option_named(&setting->args, "mode");
    if (!patience)
        error_at(setting->span,
                 "early_stopping needs patience, the epochs to wait: early_stopping val_loss, patience = 10");
    else
        check_integer(checker->program, patience->value, "'patience'", 1, &plan->patience);
    if (min_delta && check_number(checker->program, min_delta->value, "'min_delta'", &plan->min_delta) &&
        plan->min_delta < 0)
        error_at(min_delta->value->span, "'min_delta' is at least 0");
    if (start)
        check_integer(checker->program, start->value, "'start_from_epoch'", 0, &plan->start_from_epoch);
    if (mode && is_word(mode->value, "max"))
        plan->better = 1;
    else if (mode && is_word(mode->value, "min"))
        plan->better = -1;
    else if (mode)
        error_at(mode->value->span, "mode is min or max");
}

static void read_early_stopping(Checker *checker, TrainPlan *plan, const Setting *setting) {
    static const char *const options[] = {"patience", "min_delta", "mode", "start_from_epoch", NULL};
    if (!setting || !check_shape(setting, false, NULL) ||
        !check_options(checker->arena, &setting->args, "early_stopping", options))
        return;
    if (positional_count(&setting->args) != 1 || setting->args.at[0].name ||
        setting->args.at[0].value->kind != EXPR_NAME) {
        error_at(setting->span, "early_stopping needs what it watches: early_stopping val_loss, patience = 10");
        return;
    }
    plan->early_stopping = true;
    plan->monitor = setting->args.at[0].value->name;
    plan->monitor_span = setting->args.at[0].value->span;
    read_stopping_options(checker, plan, setting);
    check_monitor(checker, plan);
}

/* ---- Formulas ---------------------------------------------------------------------------------------------------- */
static bool check_formulas(const Setting *setting, const char *example) {
    bool good = check_shape(setting, false, NULL);
    for (int i = 0; i < setting->args.count; i++)
        if (setting->args.at[i].name) {
            error_at(setting->args.at[i].name_span, "'%s' has no option '%s'", setting->keyword,
                     setting->args.at[i].name);
            good = false;
        }
    if (good && setting->args.count == 0) {
        error_at(setting->span, "'%s' names nothing; write %s", setting->keyword, example);
        good = false;
    }
    return good;
}

static bool is_kind(const Checker *checker, const Expr *expr, ItemKind kind) {
    Name name = name_called(expr);
    const Definition *definition = name ? program_find(checker->program, name) : NULL;
    return definition && definition->item->kind == kind;
}

static const char *nearest_of_kind(Checker *checker, Name wrong, ItemKind kind) {
    LIST(Name) names = {0};
    for (int i = 0; i < checker->program->definitions.count; i++)
        if (checker->program->definitions.at[i].item->kind == kind)
            *LIST_ADD(checker->arena, &names) = checker->program->definitions.at[i].name;
    return did_you_mean(checker->arena, wrong, names.at, names.count);
}

static void read_loss(Checker *checker, TrainPlan *plan, const Setting *setting) {
    if (!setting) {
        error_at(plan->span, "there is no loss; add one, such as loss mse or loss cross_entropy");
        return;
    }
    const Expr *loss = only_value(setting, "loss cross_entropy");
    plan->loss = setting->args;
    plan->loss_span = setting->span;
    if (!loss || loss->kind != EXPR_NAME || is_kind(checker, loss, ITEM_LOSS))
        return;
    const Definition *other = program_find(checker->program, loss->name);
    if (other)
        error_at(loss->span, "'%s' is %s, not a loss", loss->name, item_kind_shown(other->item->kind));
    else if (!checker->file_missing)
        error_at(loss->span, "there is no loss '%s'%s", loss->name, nearest_of_kind(checker, loss->name, ITEM_LOSS));
}

static void check_optimizer(Checker *checker, Expr *optimizer) {
    if (!optimizer || is_kind(checker, optimizer, ITEM_OPTIMIZER))
        return;
    Name name = name_called(optimizer);
    const Definition *other = name ? program_find(checker->program, name) : NULL;
    Span span = optimizer->kind == EXPR_CALL ? optimizer->call.callee->span : optimizer->span;
    if (!name)
        error_at(span, "an optimizer is named, as in optimizer adam(lr = 1e-3)");
    else if (other)
        error_at(span, "'%s' is %s, not an optimizer", name, item_kind_shown(other->item->kind));
    else if (strcmp(name, "lbfgs") == 0)
        not_there_yet(span, name);
    else if (!checker->file_missing)
        error_at(span, "there is no optimizer '%s'%s", name, nearest_of_kind(checker, name, ITEM_OPTIMIZER));
}

static bool check_layers(const Args *layers, const char *what) {
    bool good = true;
    for (int i = 0; i < layers->count; i++) {
        const Expr *layer = layers->at[i].value;
        if (!layers->at[i].name && (layer->kind == EXPR_NAME || layer->kind == EXPR_FIELD || layer->kind == EXPR_INDEX))
            continue;
        error_at(layer->span, "%s", what);
        good = false;
    }
    return good;
}

/* One optimizer for what is trained, others `for` layers. */
static void read_optimizers(Checker *checker, TrainPlan *plan, const Settings *settings) {
    static const char *const clauses[] = {"for", NULL};
    const Setting *general = NULL;
    int groups = 0;
    bool good = true;
    for (int i = 0; i < settings->count; i++) {
        Setting *setting = settings->at[i];
        if (strcmp(setting->keyword, "optimizer") != 0)
            continue;
        good = false; /* until it is read */
        if (!check_shape(setting, false, clauses))
            continue;
        if (setting->args.count != 1 || setting->args.at[0].name || setting->clause_count > 1) {
            error_at(setting->span, "'optimizer' takes one value, as in optimizer adam(lr = 1e-3), or optimizer "
                                    "adam(lr = 1e-4) for fc1, fc2");
            continue;
        }
        good = true;
        check_optimizer(checker, setting->args.at[0].value);
        groups += setting->clause_count;
        if (setting->clause_count == 1) {
            if (check_layers(&setting->clauses[0].args, "an optimizer is for layers, as in for stem, body[0..9]"))
                *LIST_ADD(checker->arena, &plan->groups) = setting;
        } else if (general) {
            error_at(setting->keyword_span, "'optimizer' is given twice; one of them may be for some layers: "
                                            "optimizer sgd(lr = 0.1) for fc1");
            note_at(general->keyword_span, "first given here");
        } else {
            general = setting;
            plan->optimizer = setting->args.at[0].value;
        }
    }
    if (!general && good && !plan->step)
        error_at(plan->span, groups ? "there is no optimizer for the other layers; add one, such as optimizer "
                                      "adam(lr = 1e-3), and freeze what is not trained"
                                    : "there is no optimizer; add one, such as optimizer adam(lr = 1e-3)");
}

/* ---- What happens to gradients and weights beside ---------------------------------------------------------------- */
static void read_clipping(Checker *checker, TrainPlan *plan, const Setting *setting) {
    static const char *const options[] = {"norm", "value", NULL};
    if (!setting || !check_shape(setting, false, NULL) ||
        !check_options(checker->arena, &setting->args, "clip_gradient", options))
        return;
    const Arg *norm = option_named(&setting->args, "norm"), *value = option_named(&setting->args, "value");
    if (positional_count(&setting->args) || (!norm && !value)) {
        error_at(setting->span,
                 "say how: clip_gradient norm = 1, the length of all gradients together; or clip_gradient "
                 "value = 0.5, each element");
        return;
    }
    plan->clip_norm = norm ? norm->value : NULL;
    plan->clip_value = value ? value->value : NULL;
}

static void read_average(Checker *checker, TrainPlan *plan, const Setting *setting) {
    static const char *const options[] = {"decay", NULL};
    if (!setting || !check_shape(setting, false, NULL) ||
        !check_options(checker->arena, &setting->args, "average_weights", options))
        return;
    const Arg *decay = option_named(&setting->args, "decay");
    if (positional_count(&setting->args) || !decay) {
        error_at(setting->span, "say how slowly it moves: average_weights decay = 0.999");
        return;
    }
    plan->average = decay->value;
    plan->average_span = setting->span;
}

static void read_statistics(TrainPlan *plan, const Setting *setting) {
    if (!setting || !check_shape(setting, false, NULL))
        return;
    plan->live_statistics = true;
    if (setting->args.count != 1 || setting->args.at[0].name || !is_word(setting->args.at[0].value, "live"))
        error_at(setting->span,
                 "write statistics live, for frozen layers that go on measuring what they see, or nothing");
}

static void read_freeze(TrainPlan *plan, const Setting *setting) {
    if (!setting || !check_formulas(setting, "freeze fc1"))
        return;
    check_layers(&setting->args, "freeze takes layers, as in freeze stem, body[0..9]");
    plan->freeze = setting->args;
}

/* What a step says itself has no place beside it. */
static void read_step(Checker *checker, TrainPlan *plan, Setting *const *found) {
    static const struct {
        Known setting;
        const char *remedy;
    } others[] = {{KNOWN_LOSS, "write what is minimized behind `minimizing`"},
                  {KNOWN_OPTIMIZER, "write it into the update: update M with adam(1e-3) minimizing …"},
                  {KNOWN_METRICS, "name values in the step, and `log` them"},
                  {KNOWN_L1, "add the penalty to what is minimized"},
                  {KNOWN_L2, "add the penalty to what is minimized"},
                  {KNOWN_CLASS_WEIGHT, "weigh what is minimized"},
                  {KNOWN_ACCUMULATE, "an update uses the batch at hand"}};
    plan->step = found[KNOWN_STEP];
    if (found[KNOWN_LOG] && !plan->step)
        error_at(found[KNOWN_LOG]->keyword_span, "log names values of a step; without one, write metrics");
    for (size_t i = 0; plan->step && i < sizeof others / sizeof *others; i++)
        if (found[others[i].setting])
            error_at(found[others[i].setting]->keyword_span, "'%s' goes not with step: %s",
                     found[others[i].setting]->keyword, others[i].remedy);
    if (!found[KNOWN_LOG] || !plan->step || !check_formulas(found[KNOWN_LOG], "log d_loss, g_loss"))
        return;
    plan->log = found[KNOWN_LOG]->args;
    for (int i = 0; i < plan->log.count; i++)
        if (plan->log.at[i].value->kind != EXPR_NAME) {
            error_at(plan->log.at[i].value->span, "log takes names: give the value a name in the step");
            plan->log.count = 0;
        }
    (void)checker;
}

/* `augment mixup(alpha = 0.2)`: of no input, so without a colon */
static bool is_mixup(const Setting *setting) {
    const Expr *value = setting->args.count == 1 && !setting->has_transforms ? setting->args.at[0].value : NULL;
    const Expr *name = value && value->kind == EXPR_CALL ? value->call.callee : value;
    return name && name->kind == EXPR_NAME && strcmp(name->name, "mixup") == 0;
}

static void read_mixup(Checker *checker, TrainPlan *plan, const Setting *setting) {
    static const char *const options[] = {"alpha", NULL};
    const Expr *value = setting->args.at[0].value;
    const Args *args = value->kind == EXPR_CALL ? &value->call.args : NULL;
    const Arg *alpha = args && args->count == 1 ? option_named(args, "alpha") : NULL;
    if (plan->mixup > 0) {
        error_at(setting->span, "'mixup' is given twice");
        note_at(plan->mixup_span, "first given here");
        return;
    }
    if (args && !check_options(checker->arena, args, "mixup", options))
        return;
    if (!alpha) {
        error_at(value->span, "say how much is mixed: mixup(alpha = 0.2)");
        return;
    }
    plan->mixup_span = setting->span;
    if (!check_number(checker->program, alpha->value, "alpha", &plan->mixup))
        return;
    if (!(plan->mixup >= 0.001 && plan->mixup <= 1000)) {
        error_at(alpha->value->span, "'alpha' of 'mixup' is from 0.001 to 1000: the smaller, the less is mixed");
        plan->mixup = 0;
    }
}

static void read_augments(Checker *checker, TrainPlan *plan, const Settings *settings) {
    for (int i = 0; i < settings->count; i++) {
        Setting *setting = settings->at[i];
        if (strcmp(setting->keyword, "augment") != 0 || !check_shape(setting, true, NULL))
            continue;
        if (!plan->data) {
            error_at(setting->keyword_span, "augment changes rows of data, which this phase has not");
            continue;
        }
        if (is_mixup(setting)) {
            if (plan->step)
                not_there_yet(setting->keyword_span, "mixup beside a step");
            else
                read_mixup(checker, plan, setting);
            continue;
        }
        bool good = setting->args.count > 0 && setting->transforms.count > 0;
        for (int j = 0; j < setting->args.count; j++)
            good &= !setting->args.at[j].name && setting->args.at[j].value->kind == EXPR_NAME;
        for (int j = 0; j < setting->transforms.count; j++)
            good &= !setting->transforms.at[j].name;
        if (good)
            *LIST_ADD(checker->arena, &plan->augments) = setting;
        else
            error_at(
                setting->span,
                "augment names an input, and what is done to it: augment image : shift(pixels = 2); or mixes rows: "
                "augment mixup(alpha = 0.2)");
    }
}

static void read_formulas(Checker *checker, TrainPlan *plan, const Settings *settings, Setting *const *found) {
    if (!plan->step)
        read_loss(checker, plan, found[KNOWN_LOSS]);
    if (found[KNOWN_METRICS] && check_formulas(found[KNOWN_METRICS], "metrics accuracy"))
        plan->metrics = found[KNOWN_METRICS]->args;
    read_optimizers(checker, plan, settings);
    read_clipping(checker, plan, found[KNOWN_CLIP_GRADIENT]);
    read_statistics(plan, found[KNOWN_STATISTICS]);
    read_average(checker, plan, found[KNOWN_AVERAGE_WEIGHTS]);
    if (found[KNOWN_L1])
        plan->l1 = only_value(found[KNOWN_L1], "l1 1e-4");
    if (found[KNOWN_L2])
        plan->l2 = only_value(found[KNOWN_L2], "l2 1e-4");
    read_freeze(plan, found[KNOWN_FREEZE]);
}

/* ---- The phase --------------------------------------------------------------------------------------------------- */
static bool find_training_data(Checker *checker, TrainPlan *plan, const Item *item) {
    if (!item->on && plan->step)
        return true; /* what it needs is drawn */
    if (!item->on) {
        error_at(plan->span, "this has no data; write train %s on and the name of a data set",
                 plan->models[0].item->name);
        return false;
    }
    if (item->on->kind == EXPR_FIELD && item->on->field.base->kind == EXPR_NAME) {
        error_at(item->on->span, "training takes the training part by itself; write: on %s",
                 item->on->field.base->name);
        return false;
    }
    if (item->on->kind != EXPR_NAME) {
        error_at(item->on->span, "this is not the name of a data set");
        return false;
    }
    plan->data = find_data(checker, item->on->name, item->on->span);
    if (!data_is_good(checker, plan->data) || plan->data->has_part[BP_TRAIN])
        return plan->data != NULL;
    error_at(item->on->span, "'%s' has no rows to train on: each of its files is for another part", plan->data->name);
    return false;
}

static void check_phase_name(Checker *checker, const TrainPlan *plan) {
    for (int i = 0; i < checker->program->actions.count; i++) {
        const TrainPlan *other = checker->program->actions.at[i].train;
        if (!other || other->name != plan->name)
            continue;
        error_at(plan->span, "two phases are named '%s'; name one of them: train … on … as head", plan->name);
        note_at(other->span, "the other is here");
        return;
    }
}

static Span heading(const Item *item) {
    return (Span){item->span.source, item->span.start,
                  item->models.count ? item->models.spans[item->models.count - 1].end : item->span.end};
}

void check_train(Checker *checker, Item *item) {
    Setting *found[RULE_COUNT] = {NULL};
    TrainPlan *plan = arena_new_of(checker->arena, TrainPlan);
    plan->class_column = -1;
    plan->finetune = item->kind == ITEM_FINETUNE;
    plan->name = item->label ? item->label : item->models.at[0];
    plan->span = item->label ? item->label_span : heading(item);
    bool sorted = sort_settings(checker->arena, &item->settings, rules, RULE_COUNT, "train", found);
    if (!find_models(checker, &item->models, &plan->models, &plan->model_count))
        return;
    read_step(checker, plan, found);
    if (plan->step && plan->step->step_params.count) {
        plan->from_host = true;
        if (item->on && item->on->span.start != plan->step->keyword_span.start)
            error_at(plan->step->keyword_span,
                     "a step with parameters gets its rows from a host: it is not on a data set");
    }
    find_training_data(checker, plan, item);
    if (plan->finetune && plan->data)
        check_finetune(checker, plan);
    if (plan->model_count > 1 && !plan->step)
        error_at(plan->models[1].span,
                 "several models are trained together by a step: step { … update %s, %s with "
                 "adam(1e-3) minimizing … }",
                 plan->models[0].item->name, plan->models[1].item->name);
    if (sorted) {
        read_formulas(checker, plan, &item->settings, found);
        read_length(checker, plan, found, plan->span);
        if (plan->from_host && !plan->steps && !plan->epochs)
            plan->epochs = 1;
        read_shuffle(plan, found[KNOWN_SHUFFLE]);
        read_early_stopping(checker, plan, found[KNOWN_EARLY_STOPPING]);
        read_checkpoint(checker, plan, found[KNOWN_CHECKPOINT]);
        read_class_weight(checker, plan, found[KNOWN_CLASS_WEIGHT]);
        read_augments(checker, plan, &item->settings);
    }
    check_phase_name(checker, plan);
    *LIST_ADD(checker->arena, &checker->program->actions) = (Action){.kind = BP_DO_TRAIN, .train = plan};
}
