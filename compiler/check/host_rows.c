/* `step (state[4], action : category(2), ret) { … }`: rows that a program in C brings. They become a data set that lists
   its columns alone, as one could have written: what a model of the phase takes by this name is an input, the rest are
   targets. */
#include "checker.h"

#include <string.h>

static bool is_model_input(const Checker *checker, const Item *train, Name name) {
    for (int i = 0; i < train->models.count; i++) {
        const Definition *definition = program_find(checker->program, train->models.at[i]);
        const Item *model = definition ? definition->item : NULL;
        for (int hops = 0; model && model->kind == ITEM_DERIVED && hops < checker->program->definitions.count; hops++) {
            definition = program_find(checker->program, model->base);
            model = definition ? definition->item : NULL;
        }
        for (int j = 0; model && model->kind == ITEM_MODEL && j < model->params.count; j++)
            if (model->params.at[j].name == name)
                return true;
    }
    return false;
}

static bool width_of(Checker *checker, const Param *param, int64_t *width) {
    *width = 1;
    if (param->dims.count == 0)
        return true;
    if (param->dims.count == 1)
        return check_integer(checker->program, param->dims.at[0].value, "a size", 1, width);
    error_at(param->span, "a value that the host brings has one axis at most: state[4]");
    return false;
}

static void write_columns(Text *text, const Param *param, int64_t width) {
    for (int64_t i = 0; i < width; i++)
        if (param->dims.count)
            text_printf(text, "%s%s_%lld", i ? ", " : "", param->name, (long long)i);
        else
            text_add(text, param->name);
}

static bool is_category(const Param *param) {
    return param->type && param->type->kind == EXPR_CALL && param->type->call.callee->kind == EXPR_NAME &&
           strcmp(param->type->call.callee->name, "category") == 0;
}

static bool write_line(Checker *checker, const Item *train, const Param *param, int64_t width, Text *text) {
    if (param->fallback || (param->type && (!is_category(param) || param->dims.count))) {
        error_at(param->span,
                 "a value that the host brings is a number, numbers or a category: ret, state[4], action : "
                 "category(2)");
        return false;
    }
    text_printf(text, "    %s %s = ", is_model_input(checker, train, param->name) ? "input" : "target", param->name);
    if (param->dims.count && width > 1)
        text_printf(text, "%s_0..%s_%lld", param->name, param->name, (long long)width - 1);
    else
        write_columns(text, param, width);
    text_add(text, " : ");
    size_t length;
    if (param->type)
        text_add_bytes(text, source_text(param->type->span.source, &length) + param->type->span.start,
                       (size_t)(param->type->span.end - param->type->span.start));
    else
        text_add(text, "scale(1)");
    text_add(text, "\n");
    return true;
}

Item *host_rows(Checker *checker, Item *train, const Setting *step) {
    const Params *params = &step->step_params;
    Text columns = {0}, lines = {0}, all = {0};
    bool good = true;
    for (int i = 0; i < params->count; i++) {
        int64_t width;
        bool fits =
            width_of(checker, &params->at[i], &width) && write_line(checker, train, &params->at[i], width, &lines);
        good &= fits;
        if (!fits)
            continue;
        text_add(&columns, columns.length ? ", " : "");
        write_columns(&columns, &params->at[i], width);
    }
    Item *item = NULL;
    const char *name = train->label ? train->label : train->models.at[0];
    text_printf(&all, "data %s_rows {\n    columns %s\n%s}\n", name, columns.at ? columns.at : "",
                lines.at ? lines.at : "");
    if (good && params->count) {
        Ast *ast = parse_source(checker->arena,
                                source_add(arena_printf(checker->arena, "rows of %s", name), all.at, all.length));
        if (ast->count != 1)
            BUG("the rows of a step do not parse:\n%s", all.at);
        item = ast->at[0];
    }
    text_free(&columns);
    text_free(&lines);
    text_free(&all);
    return item;
}
