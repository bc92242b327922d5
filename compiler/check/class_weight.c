/* `class_weight balanced`, `class_weight [1, 5]`, `class_weight no = 1, yes = 5`: what each class of a target counts. */
#include "checker.h"

#include <string.h>

/* The category among the targets that is meant: the one that is named, or the only one. -1 after an error. */
static int weighted_column(const DataSet *data, const Setting *setting) {
    const Clause *clause = setting->clause_count ? &setting->clauses[0] : NULL;
    const Expr *named = clause && clause->args.count == 1 ? clause->args.at[0].value : NULL;
    int found = -1, count = 0;
    if (clause && (!named || (named->kind != EXPR_NAME && named->kind != EXPR_STRING))) {
        error_at(clause->span, "class_weight is for one target: class_weight balanced for kind");
        return -1;
    }
    Name name = !named ? NULL : named->kind == EXPR_NAME ? named->name : name_of(named->string.bytes);
    for (int i = 0; i < data->slot_count; i++) {
        if (!data->slots[i].target || !data->slots[i].category)
            continue;
        if (name && data->columns[data->slots[i].columns[0]].name != name)
            continue;
        found = data->slots[i].columns[0];
        count++;
    }
    if (count == 1)
        return found;
    if (name)
        error_at(named->span, "'%s' has no target '%s' that is a category", data->name, name);
    else if (count == 0)
        error_at(setting->span, "no target of '%s' is a category, so there are no classes to weigh", data->name);
    else
        error_at(setting->span, "several targets of '%s' are categories: say which, class_weight balanced for %s",
                 data->name, data->columns[found].name);
    return -1;
}

static bool read_weight(Checker *checker, const Expr *value, double *weight) {
    if (!check_number(checker->program, value, "the weight of a class", weight))
        return false;
    if (*weight >= 0)
        return true;
    error_at(value->span, "the weight of a class is at least 0");
    return false;
}

static bool read_listed_weights(Checker *checker, TrainPlan *plan, const DataColumn *column, const Expr *list) {
    if (list->list.count != column->category_count) {
        error_at(list->span, "'%s' has %d classes, and these are %d weights", column->name, column->category_count,
                 list->list.count);
        return false;
    }
    for (int i = 0; i < column->category_count; i++)
        if (!read_weight(checker, list->list.at[i].value, &plan->class_weights[i]))
            return false;
    return true;
}

static bool read_named_weights(Checker *checker, TrainPlan *plan, const DataColumn *column, const Setting *setting) {
    bool *given = arena_array(checker->arena, bool, column->category_count);
    for (int i = 0; i < setting->args.count; i++) {
        const Arg *arg = &setting->args.at[i];
        int at = -1;
        for (int j = 0; j < column->category_count && arg->name; j++)
            if (column_category(column, j) == arg->name)
                at = j;
        if (at < 0 || given[at]) {
            error_at(arg->name ? arg->name_span : arg->value->span,
                     at < 0
                         ? "this is no class of '%s'; write class_weight balanced, or the weights in the order of the "
                           "classes: [1, 5]"
                         : "this class of '%s' is given twice",
                     column->name);
            return false;
        }
        given[at] = true;
        if (!read_weight(checker, arg->value, &plan->class_weights[at]))
            return false;
    }
    for (int j = 0; j < column->category_count; j++)
        if (!given[j]) {
            error_at(setting->span, "the class '%s' of '%s' has no weight",
                     shown(checker->arena, column_category(column, j)), column->name);
            return false;
        }
    return true;
}

void read_class_weight(Checker *checker, TrainPlan *plan, const Setting *setting) {
    static const char *const words[] = {"for", NULL};
    plan->class_column = -1;
    if (!setting || !check_shape(setting, false, words) || !data_is_good(checker, plan->data))
        return;
    if (setting->args.count == 0) {
        error_at(setting->span, "class_weight is balanced, or the weights of the classes: [1, 5]");
        return;
    }
    int index = weighted_column(plan->data, setting);
    if (index < 0)
        return;
    const DataColumn *column = &plan->data->columns[index];
    const Arg *first = &setting->args.at[0];
    plan->class_span = setting->span;
    plan->class_balanced = setting->args.count == 1 && !first->name && is_word(first->value, "balanced");
    plan->class_weights = arena_array(checker->arena, double, column->category_count);
    bool list = setting->args.count == 1 && !first->name && first->value->kind == EXPR_LIST;
    if (plan->class_balanced || (list ? read_listed_weights(checker, plan, column, first->value)
                                      : read_named_weights(checker, plan, column, setting)))
        plan->class_column = index;
}
