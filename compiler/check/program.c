/* The checked program: definitions from the prelude, the files that are used and the file itself; then its statements
   in order. */
#define _XOPEN_SOURCE 700
#include "../emit/emit.h"
#include "checker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { USE_DEPTH_MAX = 50 };

/* ---- Words for messages ------------------------------------------------------------------------------------------ */
const char *shown(Arena *arena, const char *text) {
    enum { SHOWN_BYTES = 60 };
    size_t length = strlen(text), kept = length > SHOWN_BYTES ? SHOWN_BYTES : length;
    while (kept < length && kept > 0 && ((unsigned char)text[kept] & 0xC0) == 0x80)
        kept--; /* not within a character */
    char *copy = arena_alloc(arena, kept + 4);
    for (size_t i = 0; i < kept; i++)
        copy[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? '?' : text[i];
    memcpy(copy + kept, kept < length ? "..." : "", kept < length ? 4 : 1);
    return copy;
}

const char *expr_shown(Arena *arena, const Expr *expr) {
    Text text = {0};
    expr_print(expr, &text);
    const char *copy = shown(arena, text.at ? text.at : "");
    text_free(&text);
    return copy;
}

const char *did_you_mean(Arena *arena, const char *wrong, const Name *candidates, int count) {
    Name near = nearest_name(wrong, candidates, count);
    return near && strcmp(near, wrong) != 0 ? arena_printf(arena, "; did you mean '%s'?", shown(arena, near)) : "";
}

const char *item_kind_shown(ItemKind kind) {
    switch (kind) {
    case ITEM_PARAM:
        return "a param";
    case ITEM_CONST:
        return "a const";
    case ITEM_DATA:
        return "a data set";
    case ITEM_MODEL:
    case ITEM_DERIVED:
        return "a model";
    case ITEM_BLOCK:
        return "a block";
    case ITEM_DEF:
        return "a def";
    case ITEM_LOSS:
        return "a loss";
    case ITEM_METRIC:
        return "a metric";
    case ITEM_OPTIMIZER:
        return "an optimizer";
    case ITEM_VERSION:
    case ITEM_USE:
    case ITEM_TRAIN:
    case ITEM_FINETUNE:
    case ITEM_EVALUATE:
    case ITEM_SAVE:
    case ITEM_LOAD:
        break;
    }
    BUG("a statement of kind %d has no name", (int)kind);
}

/* ---- Paths ------------------------------------------------------------------------------------------------------- */
const char *path_beside(Arena *arena, Span span, const char *path) {
    const char *from = span.source >= 0 ? source_path(span.source) : "";
    const char *slash = strrchr(from, '/');
    if (*path == '/' || !slash)
        return arena_copy(arena, path, strlen(path));
    return arena_printf(arena, "%.*s%s", (int)(slash - from + 1), from, path);
}

const char *path_resolved(Arena *arena, const char *path, const char **why) {
    struct stat about;
    *why = "is not there";
    char *resolved = realpath(path, NULL);
    if (!resolved)
        return NULL;
    const char *copy = arena_copy(arena, resolved, strlen(resolved));
    free(resolved);
    if (stat(copy, &about) == 0 && S_ISREG(about.st_mode))
        return copy;
    *why = "is not a file";
    return NULL;
}

/* ---- Names ------------------------------------------------------------------------------------------------------- */
const Definition *program_find(const Program *program, Name name) {
    const Definition *prelude = NULL;
    for (int i = 0; i < program->definitions.count; i++) {
        const Definition *definition = &program->definitions.at[i];
        if (definition->name != name)
            continue;
        if (!definition->prelude)
            return definition;
        prelude = definition;
    }
    return prelude;
}

DataSet *program_data(const Program *program, Name name) {
    for (int i = 0; i < program->data.count; i++)
        if (program->data.at[i]->name == name)
            return program->data.at[i];
    return NULL;
}

int program_names(const Program *program, Arena *arena, const Name **names) {
    Name *list = arena_array(arena, Name, program->definitions.count + 1);
    for (int i = 0; i < program->definitions.count; i++)
        list[i] = program->definitions.at[i].name;
    *names = list;
    return program->definitions.count;
}

/* The names of definitions of a kind; `other` is a second kind that will do. */
static int names_of_kind(const Checker *checker, ItemKind kind, ItemKind other, const Name **names) {
    LIST(Name) list = {0};
    for (int i = 0; i < checker->program->definitions.count; i++) {
        const Definition *definition = &checker->program->definitions.at[i];
        if (definition->item->kind == kind || definition->item->kind == other)
            *LIST_ADD(checker->arena, &list) = definition->name;
    }
    *names = list.at;
    return list.count;
}

static bool is_model(const Item *item) {
    return item->kind == ITEM_MODEL || item->kind == ITEM_DERIVED;
}

Item *find_model(Checker *checker, Name name, Span span) {
    const Definition *definition = program_find(checker->program, name);
    if (definition && is_model(definition->item))
        return definition->item;
    if (definition) {
        error_at(span, "'%s' is %s, not a model", name, item_kind_shown(definition->item->kind));
        return NULL;
    }
    if (checker->file_missing)
        return NULL;
    const Name *names;
    int count = names_of_kind(checker, ITEM_MODEL, ITEM_DERIVED, &names);
    error_at(span, "there is no model '%s'%s", name, did_you_mean(checker->arena, name, names, count));
    return NULL;
}

DataSet *find_data(Checker *checker, Name name, Span span) {
    DataSet *data = program_data(checker->program, name);
    if (data)
        return data;
    const Definition *definition = program_find(checker->program, name);
    if (definition) {
        error_at(span, "'%s' is %s, not a data set", name, item_kind_shown(definition->item->kind));
        return NULL;
    }
    if (checker->file_missing)
        return NULL;
    const Name *names;
    int count = names_of_kind(checker, ITEM_DATA, ITEM_DATA, &names);
    error_at(span, "there is no data set '%s'%s", name, did_you_mean(checker->arena, name, names, count));
    return NULL;
}

/* ---- Definitions ------------------------------------------------------------------------------------------------- */
static void define(Checker *checker, Item *item, bool prelude) {
    const Definition *before = program_find(checker->program, item->name);
    if (before && before->prelude == prelude) {
        error_at(item->name_span, "'%s' is defined twice", item->name);
        note_at(before->item->name_span, "first defined here");
        return;
    }
    if (before)
        note_at(item->name_span, "this '%s' takes the place of the prelude's %s", item->name,
                strchr(item_kind_shown(before->item->kind), ' ') + 1);
    *LIST_ADD(checker->arena, &checker->program->definitions) = (Definition){item->name, item, prelude};
    if (item->kind == ITEM_DATA) {
        DataSet *data = arena_new_of(checker->arena, DataSet);
        *data = (DataSet){.name = item->name, .span = item->name_span, .item = item, .stratify = -1};
        data->index = checker->program->data.count;
        *LIST_ADD(checker->arena, &checker->program->data) = data;
        *LIST_ADD(checker->arena, &checker->data) = (DataEntry){data, DATA_NEW};
    }
}

static void check_version(const Ast *ast) {
    bool prelude = source_path(ast->source) && span_in_prelude((Span){ast->source, 0, 0});
    if ((ast->count == 0 || ast->at[0]->kind != ITEM_VERSION) && !prelude)
        note_at((Span){ast->source, 0, 0},
                "'bpc 1' is not the first line; with it a later bpc reads the file as this one");
    for (int i = 0; i < ast->count; i++) {
        if (ast->at[i]->kind != ITEM_VERSION)
            continue;
        if (i > 0)
            error_at(ast->at[i]->span, "the version must be the first statement");
        else if (ast->at[i]->number != 1)
            error_at(ast->at[i]->span, "this compiler knows version 1 of the language alone; write: bpc 1");
    }
}

static void collect(Checker *checker, Ast *ast, bool is_main, int depth);

static void use_file(Checker *checker, const Item *item, int depth) {
    const char *why, *path = path_beside(checker->arena, item->span, item->path->string.bytes);
    const char *resolved = path_resolved(checker->arena, path, &why);
    if (!resolved) {
        error_at(item->path->span, "'%s' %s", shown(checker->arena, path), why);
        checker->file_missing = true;
        return;
    }
    for (int i = 0; i < checker->files.count; i++) {
        if (strcmp(checker->files.at[i].path, resolved) != 0)
            continue;
        if (checker->files.at[i].open)
            error_at(item->path->span, "'%s' uses itself", shown(checker->arena, path));
        return;
    }
    if (depth == USE_DEPTH_MAX) {
        error_at(item->path->span, "more than %d files use each other", USE_DEPTH_MAX);
        return;
    }
    char reason[256];
    size_t length;
    char *text = file_read_whole(resolved, &length, reason, sizeof reason);
    if (!text) {
        error_at(item->path->span, "'%s' cannot be read: %s", shown(checker->arena, path), reason);
        checker->file_missing = true;
        return;
    }
    int source = source_add(path, text, length), index = checker->files.count;
    free(text);
    *LIST_ADD(checker->arena, &checker->files) = (UsedFile){resolved, true};
    collect(checker, parse_source(checker->arena, source), false, depth + 1);
    checker->files.at[index].open = false;
}

static void collect_item(Checker *checker, Item *item, bool is_main, int depth) {
    switch (item->kind) {
    case ITEM_VERSION:
        return;
    case ITEM_USE:
        use_file(checker, item, depth);
        return;
    case ITEM_PARAM:
    case ITEM_CONST:
    case ITEM_DATA:
    case ITEM_MODEL:
    case ITEM_DERIVED:
    case ITEM_BLOCK:
    case ITEM_DEF:
    case ITEM_LOSS:
    case ITEM_METRIC:
    case ITEM_OPTIMIZER:
        define(checker, item, false);
        return;
    case ITEM_TRAIN:
    case ITEM_FINETUNE:
    case ITEM_SAVE:
        *LIST_ADD(checker->arena, &checker->past) = (Past){item};
        break;
    case ITEM_EVALUATE:
    case ITEM_LOAD:
        break;
    }
    if (is_main)
        *LIST_ADD(checker->arena, &checker->items) = item;
}

static void collect(Checker *checker, Ast *ast, bool is_main, int depth) {
    check_version(ast);
    for (int i = 0; i < ast->count; i++)
        collect_item(checker, ast->at[i], is_main, depth);
}

static void collect_prelude(Checker *checker) {
    for (int i = 0; embedded_prelude[i].name; i++) {
        const char *path = arena_printf(checker->arena, "prelude/%s", embedded_prelude[i].name);
        Ast *ast = parse_source(checker->arena, source_add(path, embedded_prelude[i].text, embedded_prelude[i].length));
        check_version(ast);
        for (int j = 0; j < ast->count; j++)
            if (ast->at[j]->kind != ITEM_VERSION)
                define(checker, ast->at[j], true);
    }
}

/* ---- Derived models ---------------------------------------------------------------------------------------------- */
static void check_derived(Checker *checker, Item *item) {
    const Item *base = find_model(checker, item->base, item->base_span);
    int steps = 0;
    for (; base && base != item && base->kind == ITEM_DERIVED && steps < checker->program->definitions.count; steps++) {
        const Definition *next = program_find(checker->program, base->base);
        base = next && is_model(next->item) ? next->item : NULL;
    }
    if (base == item)
        error_at(item->base_span, "'%s' is derived from itself", item->name);
    if (item->path && item->path->string.length == 0)
        error_at(item->path->span, "the name of the checkpoint is empty");
}

/* ---- The whole --------------------------------------------------------------------------------------------------- */
static void name_program(Program *program, const char *path) {
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    size_t length = strlen(file);
    if (length > 3 && strcmp(file + length - 3, ".bp") == 0)
        length -= 3;
    program->path = path;
    program->name = name_slice(file, length);
}

static void check_action(Checker *checker, Item *item) {
    switch (item->kind) {
    case ITEM_TRAIN:
    case ITEM_FINETUNE:
        check_train(checker, item);
        return;
    case ITEM_EVALUATE:
        check_evaluate(checker, item);
        return;
    case ITEM_SAVE:
        check_save(checker, item);
        return;
    case ITEM_LOAD:
        not_there_yet(item->span, "load");
        return;
    default:
        BUG("an item of kind %d is no action", (int)item->kind);
    }
}

/* The data of a step whose rows a host brings. */
static void find_host_rows(Checker *checker, Item *item) {
    for (int i = 0; i < item->settings.count && (item->kind == ITEM_TRAIN || item->kind == ITEM_FINETUNE); i++) {
        Setting *step = item->settings.at[i];
        Item *rows = step->is_step && step->step_params.count && !item->on ? host_rows(checker, item, step) : NULL;
        if (!rows)
            continue;
        define(checker, rows, false);
        item->on = arena_new_of(checker->arena, Expr);
        *item->on = (Expr){.kind = EXPR_NAME, .height = 1, .span = step->keyword_span, .name = rows->name};
    }
}

Program *check_program(Arena *arena, Ast *ast, const CheckOptions *options) {
    int errors = error_count();
    Program *program = arena_new_of(arena, Program);
    Checker checker = {.program = program, .arena = arena, .options = options};
    program->arena = arena;
    name_program(program, source_path(ast->source));
    collect_prelude(&checker);
    const char *why, *resolved = path_resolved(arena, program->path, &why);
    *LIST_ADD(arena, &checker.files) = (UsedFile){resolved ? resolved : program->path, true};
    collect(&checker, ast, true, 0);
    check_constants(&checker);
    check_params(&checker);
    for (int i = 0; i < checker.items.count; i++)
        find_host_rows(&checker, checker.items.at[i]);
    for (int i = 0; i < program->definitions.count; i++)
        if (program->definitions.at[i].item->kind == ITEM_DERIVED)
            check_derived(&checker, program->definitions.at[i].item);
    for (int i = 0; i < program->data.count; i++)
        check_data(&checker, program->data.at[i]);
    for (int i = 0; i < checker.items.count; i++)
        check_action(&checker, checker.items.at[i]);
    check_folded(&checker);
    if (!options->record_paths)
        for (int i = 0; i < program->data.count; i++)
            for (int j = 0; j < program->data.at[i]->file_count; j++)
                program->data.at[i]->files[j].path = NULL;
    return error_count() > errors ? NULL : program;
}
