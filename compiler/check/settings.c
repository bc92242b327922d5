/* What the settings of data and train blocks have in common: each is known, given once, and holds what it may hold. */
#include "checker.h"

#include <string.h>

void not_there_yet(Span span, const char *what) {
    error_at(span, "'%s' is not there yet", what);
}

bool is_word(const Expr *expr, const char *word) {
    return expr->kind == EXPR_NAME && strcmp(expr->name, word) == 0;
}

static const SettingRule *find_rule(const SettingRule *rules, int count, Name keyword) {
    for (int i = 0; i < count; i++)
        if (strcmp(rules[i].keyword, keyword) == 0)
            return &rules[i];
    return NULL;
}

static void unknown_setting(Arena *arena, const Setting *setting, const SettingRule *rules, int count,
                            const char *where) {
    Name *names = arena_array(arena, Name, count);
    for (int i = 0; i < count; i++)
        names[i] = rules[i].keyword;
    error_at(setting->keyword_span, "%s has no setting '%s'%s", where, setting->keyword,
             did_you_mean(arena, setting->keyword, names, count));
}

bool sort_settings(Arena *arena, const Settings *settings, const SettingRule *rules, int rule_count, const char *where,
                   Setting **found) {
    bool good = true;
    for (int i = 0; i < settings->count; i++) {
        Setting *setting = settings->at[i];
        const SettingRule *rule = find_rule(rules, rule_count, setting->keyword);
        if (!rule) {
            unknown_setting(arena, setting, rules, rule_count, where);
            good = false;
        } else if (rule->later) {
            not_there_yet(setting->keyword_span, setting->keyword);
            good = false;
        } else if (!rule->repeats && found[rule - rules]) {
            error_at(setting->keyword_span, "'%s' is given twice", setting->keyword);
            note_at(found[rule - rules]->keyword_span, "first given here");
            good = false;
        } else {
            found[rule - rules] = setting;
        }
    }
    return good;
}

bool check_shape(const Setting *setting, bool transforms, const char *const *words) {
    bool good = true;
    for (int i = 0; i < setting->clause_count; i++) {
        const Clause *clause = &setting->clauses[i];
        bool known = false;
        for (const char *const *word = words; word && *word && !known; word++)
            known = strcmp(*word, clause->word) == 0;
        if (!known)
            error_at(clause->span, "'%s' has no '%s'", setting->keyword, clause->word);
        good &= known;
    }
    if (setting->has_transforms && !transforms && setting->transforms.count > 0) {
        error_at(setting->transforms.at[0].value->span, "'%s' takes no transforms", setting->keyword);
        good = false;
    }
    return good;
}

static bool is_among(const char *name, const char *const *names) {
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

bool check_options(Arena *arena, const Args *args, const char *what, const char *const *names) {
    bool good = true;
    int count = 0;
    while (names[count])
        count++;
    for (int i = 0; i < args->count; i++) {
        const Arg *arg = &args->at[i];
        if (!arg->name)
            continue;
        if (!is_among(arg->name, names)) {
            error_at(arg->name_span, "'%s' has no option '%s'%s", what, arg->name,
                     did_you_mean(arena, arg->name, names, count));
            good = false;
            continue;
        }
        for (int j = 0; j < i; j++)
            if (args->at[j].name == arg->name) {
                error_at(arg->name_span, "'%s' is given twice", arg->name);
                note_at(args->at[j].name_span, "first given here");
                good = false;
                break;
            }
    }
    return good;
}

const Arg *option_named(const Args *args, const char *name) {
    for (int i = 0; i < args->count; i++)
        if (args->at[i].name && strcmp(args->at[i].name, name) == 0)
            return &args->at[i];
    return NULL;
}

int positional_count(const Args *args) {
    int count = 0;
    for (int i = 0; i < args->count; i++)
        count += args->at[i].name == NULL;
    return count;
}
