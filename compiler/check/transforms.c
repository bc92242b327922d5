/* What follows `:` on an input or target line. */
#include "checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CATEGORIES_MAX = 100000 };

static const char *const transform_names[] = {"standardize", "minmax", "scale",    "impute", "drop",
                                              "log",         "strip",  "category", "binary", "text"};

/* One transform as written: `scale(1 / 255)`. */
typedef struct Call {
    Name name;
    Span name_span, span;
    Args args;
} Call;

static bool call_of(const Expr *expr, Call *call) {
    if (expr->kind == EXPR_NAME) {
        *call = (Call){expr->name, expr->span, expr->span, {0}};
        return true;
    }
    if (expr->kind != EXPR_CALL || expr->call.callee->kind != EXPR_NAME)
        return false;
    *call = (Call){expr->call.callee->name, expr->call.callee->span, expr->span, expr->call.args};
    return true;
}

static bool is_call(const Call *call, const char *name) {
    return strcmp(call->name, name) == 0;
}

static bool takes(const Call *call, int count, const char *example) {
    if (call->args.count == count && positional_count(&call->args) == count)
        return true;
    error_at(call->span, count == 0 ? "'%s' takes nothing in brackets" : "'%s' takes one thing in brackets, as in %s",
             call->name, example);
    return false;
}

static bool is_transform(const DataTransform *transform, enum bp_transform_kind kind) {
    return transform->kind == kind;
}

static bool is_impute(const DataTransform *transform) {
    return transform->kind == BP_IMPUTE_MEAN || transform->kind == BP_IMPUTE_MEDIAN ||
           transform->kind == BP_IMPUTE_MOST_FREQUENT || transform->kind == BP_IMPUTE_CONSTANT;
}

/* What cannot stand together on a line. */
static bool fits_others(const Line *line, const DataTransform *transform) {
    for (int i = 0; i < line->transforms.count; i++) {
        const DataTransform *other = &line->transforms.at[i];
        const char *text = NULL;
        if (other->kind == transform->kind || (is_impute(other) && is_impute(transform)))
            text = "this is given twice";
        else if ((is_impute(other) && is_transform(transform, BP_DROP)) ||
                 (is_impute(transform) && is_transform(other, BP_DROP)))
            text = "impute fills in what is missing, drop leaves the row out: one of the two";
        else if (is_transform(transform, BP_LOG) &&
                 (is_transform(other, BP_STANDARDIZE) || is_transform(other, BP_MINMAX)))
            text = "log stands before standardize and minmax: after them numbers are not above 0";
        if (!text)
            continue;
        error_at(transform->span, "%s", text);
        note_at(other->span, "the other is here");
        return false;
    }
    return true;
}

static bool add_transform(DataCheck *check, Line *line, DataTransform transform) {
    if (!fits_others(line, &transform))
        return false;
    *LIST_ADD(check->arena, &line->transforms) = transform;
    return true;
}

/* ---- impute, scale, strip ---------------------------------------------------------------------------------------- */
static bool add_impute(DataCheck *check, Line *line, const Call *call) {
    static const struct {
        const char *name;
        enum bp_transform_kind kind;
    } kinds[] = {{"mean", BP_IMPUTE_MEAN}, {"median", BP_IMPUTE_MEDIAN}, {"most_frequent", BP_IMPUTE_MOST_FREQUENT}};
    DataTransform transform = {.kind = BP_IMPUTE_CONSTANT, .fitted = -1, .span = call->span};
    if (!takes(call, 1, "impute(median)"))
        return false;
    if (line->target) {
        error_at(call->span, "a target that is missing cannot be made up; 'drop' leaves such rows out");
        return false;
    }
    const Expr *value = call->args.at[0].value;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (is_word(value, kinds[i].name)) {
            transform.kind = kinds[i].kind;
            return add_transform(check, line, transform);
        }
    if (value->kind == EXPR_STRING ||
        (value->kind == EXPR_NAME && !program_find(check->checker->program, value->name))) {
        error_at(value->span, "impute takes mean, median, most_frequent or a number");
        return false;
    }
    return check_number(check->checker->program, value, "what impute fills in", &transform.argument) &&
           add_transform(check, line, transform);
}

static bool add_scale(DataCheck *check, Line *line, const Call *call) {
    DataTransform transform = {.kind = BP_SCALE, .fitted = -1, .span = call->span};
    if (!takes(call, 1, "scale(1 / 255)") ||
        !check_number(check->checker->program, call->args.at[0].value, "the factor of scale", &transform.argument))
        return false;
    if (transform.argument == 0) {
        error_at(call->span, "scale(0) makes every number 0");
        return false;
    }
    return add_transform(check, line, transform);
}

static bool add_strip(DataCheck *check, Line *line, const Call *call) {
    DataTransform transform = {.kind = BP_STRIP, .fitted = -1, .span = call->span};
    if (!takes(call, 1, "strip(\".\")"))
        return false;
    const Expr *value = call->args.at[0].value;
    if (value->kind != EXPR_STRING || value->string.length == 0) {
        error_at(value->span, "strip takes the characters to take off the end, as in strip(\".\")");
        return false;
    }
    transform.text = name_of(value->string.bytes);
    return add_transform(check, line, transform);
}

/* ---- category, binary -------------------------------------------------------------------------------------------- */
Name field_text(DataCheck *check, const Expr *value, const char *what) {
    double number;
    if (value->kind == EXPR_STRING)
        return name_of(value->string.bytes);
    if (value->kind == EXPR_NAME && !program_find(check->checker->program, value->name)) {
        error_at(value->span, "a text stands in quotes: \"%s\"", value->name);
        return NULL;
    }
    if (check_number(check->checker->program, value, what, &number))
        return name_of(number_text(check->arena, number));
    return NULL;
}

static int by_value(const void *left, const void *right) {
    Name a = *(const Name *)left, b = *(const Name *)right;
    double x, y;
    if (bp_parse_number(a, strlen(a), &x) && bp_parse_number(b, strlen(b), &y))
        return x < y ? -1 : x > y;
    BUG("categories '%s' and '%s' are not both numbers", a, b);
}

static int by_bytes(const void *left, const void *right) {
    return strcmp(*(const Name *)left, *(const Name *)right);
}

/* Sorts by value where all are numbers, else by bytes; then two that are one stand side by side. */
static bool sort_names(Line *line, Span span) {
    bool numbers = true;
    double number;
    for (int i = 0; i < line->names.count; i++)
        numbers &= bp_parse_number(line->names.at[i], strlen(line->names.at[i]), &number) == 1;
    int (*order)(const void *, const void *) = numbers ? by_value : by_bytes;
    qsort(line->names.at, (size_t)line->names.count, sizeof *line->names.at, order);
    for (int i = 1; i < line->names.count; i++)
        if (order(&line->names.at[i - 1], &line->names.at[i]) == 0) {
            error_at(span, "the category '%s' is listed twice", line->names.at[i]);
            return false;
        }
    return true;
}

static bool count_categories(DataCheck *check, Line *line, const Expr *value) {
    int64_t count;
    if (!check_integer(check->checker->program, value, "the number of categories", 2, &count))
        return false;
    if (count > CATEGORIES_MAX) {
        error_at(value->span, "more than %d categories", CATEGORIES_MAX);
        return false;
    }
    line->counted = (int)count;
    return true;
}

static bool add_category(DataCheck *check, Line *line, const Call *call) {
    line->category_span = call->span;
    if (line->category) {
        error_at(call->span, "this is given twice");
        return false;
    }
    line->category = true;
    if (positional_count(&call->args) != call->args.count) {
        error_at(call->span, "category takes its names, as in category(\"no\", \"yes\")");
        return false;
    }
    const Expr *only = call->args.count == 1 ? call->args.at[0].value : NULL;
    bool word = only && only->kind == EXPR_NAME && !program_find(check->checker->program, only->name);
    if (only && only->kind != EXPR_STRING && !word)
        return count_categories(check, line, only);
    if (only) {
        error_at(call->span, "one category says nothing; list them all");
        return false;
    }
    if (call->args.count == 0)
        return true;
    for (int i = 0; i < call->args.count; i++) {
        Name text = field_text(check, call->args.at[i].value, "a category");
        if (!text)
            return false;
        if (*text == '\0') {
            error_at(call->args.at[i].value->span, "the empty text means missing, so it is no category");
            return false;
        }
        *LIST_ADD(check->arena, &line->names) = text;
    }
    return sort_names(line, call->span);
}

bool same_field(const char *a, const char *b) {
    double x, y;
    return strcmp(a, b) == 0 || (bp_parse_number(a, strlen(a), &x) && bp_parse_number(b, strlen(b), &y) && x == y);
}

static bool add_binary(DataCheck *check, Line *line, const Call *call) {
    line->binary_span = call->span;
    if (line->binary) {
        error_at(call->span, "this is given twice");
        return false;
    }
    line->binary = true;
    int count = call->args.count;
    if (count < 1 || count > 2 || positional_count(&call->args) != count) {
        error_at(call->span, "binary takes the positive value, as in binary(\"yes\"), or both, it first: "
                             "binary(\"yes\", \"no\")");
        return false;
    }
    line->positive = field_text(check, call->args.at[0].value, "the positive value");
    if (count == 2)
        line->negative = field_text(check, call->args.at[1].value, "the negative value");
    if (!line->positive || (count == 2 && !line->negative))
        return false;
    if (*line->positive == '\0' || (line->negative && *line->negative == '\0')) {
        error_at(call->span, "the empty text means missing, so it is no category");
        return false;
    }
    if (count == 1 || !same_field(line->positive, line->negative))
        return true;
    error_at(call->span, "the two values of binary are the same");
    return false;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */
static bool text_option(DataCheck *check, const Args *args, const char *name, int64_t most, int *number) {
    const Arg *arg = option_named(args, name);
    int64_t value;
    if (!arg)
        return true;
    if (!check_integer(check->checker->program, arg->value, name, 1, &value))
        return false;
    if (value > most) {
        error_at(arg->value->span, "%s is at most %lld", name, (long long)most);
        return false;
    }
    *number = (int)value;
    return true;
}

/* text(vocabulary = 10000, lowercase, counts, distinct = 1000) */
static bool add_text(DataCheck *check, Line *line, const Call *call) {
    static const char *const options[] = {"vocabulary", "distinct", NULL};
    enum { VOCABULARY_MAX = 10000000, DISTINCT_MAX = 1000000, DISTINCT = 1024 };
    line->text_span = call->span;
    if (line->text) {
        error_at(call->span, "this is given twice");
        return false;
    }
    line->text = true;
    if (!check_options(check->arena, &call->args, "text", options))
        return false;
    for (int i = 0; i < call->args.count; i++) {
        const Expr *word = call->args.at[i].value;
        if (call->args.at[i].name)
            continue;
        if (!is_word(word, "lowercase") && !is_word(word, "counts")) {
            error_at(word->span,
                     "text takes a vocabulary, and lowercase and counts: text(vocabulary = 10000, lowercase, "
                     "counts)");
            return false;
        }
        line->lowercase |= is_word(word, "lowercase");
        line->counts |= is_word(word, "counts");
    }
    if (!option_named(&call->args, "vocabulary")) {
        error_at(call->span, "text needs the size of its vocabulary, as in text(vocabulary = 10000)");
        return false;
    }
    if (!text_option(check, &call->args, "vocabulary", VOCABULARY_MAX, &line->vocabulary))
        return false;
    line->distinct = line->vocabulary < DISTINCT ? line->vocabulary : DISTINCT;
    if (!text_option(check, &call->args, "distinct", DISTINCT_MAX, &line->distinct))
        return false;
    if (!line->target)
        return true;
    error_at(call->span, "a target is one number or one category, not a text");
    return false;
}

/* What stands beside it on the line. */
static bool fits_text(const Line *line) {
    const Setting *setting = line->setting;
    for (int i = 0; i < line->transforms.count; i++)
        if (line->transforms.at[i].kind != BP_DROP) {
            error_at(line->transforms.at[i].span, "a text takes nothing beside it but drop");
            return false;
        }
    if (line->category || line->binary || line->unknown_is_zero) {
        error_at(line->text_span, "this line is for a text and for categories: one of the two");
        return false;
    }
    const Expr *column = setting->args.count == 1 ? setting->args.at[0].value : NULL;
    if (setting->args.count == 1 && setting->args.at[0].name &&
        (column->kind == EXPR_NAME || column->kind == EXPR_STRING))
        return true;
    error_at(setting->span, "a text is one column, and an input with a name: input words = review : text(…)");
    return false;
}

/* ---- One line ---------------------------------------------------------------------------------------------------- */
static bool add_call(DataCheck *check, Line *line, const Call *call) {
    static const struct {
        const char *name;
        enum bp_transform_kind kind;
    } plain[] = {{"standardize", BP_STANDARDIZE}, {"minmax", BP_MINMAX}, {"log", BP_LOG}, {"drop", BP_DROP}};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (is_call(call, plain[i].name))
            return takes(call, 0, "") &&
                   add_transform(check, line, (DataTransform){.kind = plain[i].kind, .fitted = -1, .span = call->span});
    if (is_call(call, "impute"))
        return add_impute(check, line, call);
    if (is_call(call, "scale"))
        return add_scale(check, line, call);
    if (is_call(call, "strip"))
        return add_strip(check, line, call);
    if (is_call(call, "category"))
        return add_category(check, line, call);
    if (is_call(call, "binary"))
        return add_binary(check, line, call);
    if (is_call(call, "text"))
        return add_text(check, line, call);
    Name names[sizeof transform_names / sizeof transform_names[0]];
    const int count = (int)(sizeof names / sizeof names[0]);
    for (int i = 0; i < count; i++)
        names[i] = transform_names[i];
    error_at(call->name_span, "there is no transform '%s'%s", call->name,
             did_you_mean(check->arena, call->name, names, count));
    return false;
}

static bool add_option(Line *line, const Arg *arg) {
    if (strcmp(arg->name, "unknown") != 0) {
        error_at(arg->name_span, "there is no option '%s' here; there is unknown = zero", arg->name);
        return false;
    }
    if (!is_word(arg->value, "zero")) {
        error_at(arg->value->span, "unknown is zero, or left out: then an unknown category is an error");
        return false;
    }
    if (line->target) {
        error_at(arg->name_span, "a target is never unknown");
        return false;
    }
    line->unknown_is_zero = true;
    line->unknown_span = arg->name_span;
    return true;
}

const DataTransform *number_transform(const Line *line) {
    for (int i = 0; i < line->transforms.count; i++)
        switch (line->transforms.at[i].kind) {
        case BP_STANDARDIZE:
        case BP_MINMAX:
        case BP_SCALE:
        case BP_LOG:
        case BP_IMPUTE_MEAN:
        case BP_IMPUTE_MEDIAN:
        case BP_IMPUTE_CONSTANT:
            return &line->transforms.at[i];
        case BP_STRIP:
        case BP_IMPUTE_MOST_FREQUENT:
        case BP_DROP:
            break;
        }
    return NULL;
}

bool has_strip(const Line *line) {
    for (int i = 0; i < line->transforms.count; i++)
        if (line->transforms.at[i].kind == BP_STRIP)
            return true;
    return false;
}

void check_transforms(DataCheck *check, Line *line) {
    const Args *written = &line->setting->transforms;
    for (int i = 0; i < written->count; i++) {
        const Arg *arg = &written->at[i];
        Call call;
        bool good;
        if (arg->name) {
            good = add_option(line, arg);
        } else if (call_of(arg->value, &call)) {
            good = add_call(check, line, &call);
        } else {
            error_at(arg->value->span, "this is no transform; one is standardize, another scale(1 / 255)");
            good = false;
        }
        check->failed |= !good;
    }
    const DataTransform *number = number_transform(line);
    if (line->text && !check->failed) {
        check->failed |= !fits_text(line);
    } else if (line->category && line->binary) {
        error_at(line->binary_span, "a column is category or binary, not both");
        check->failed = true;
    } else if (number && (line->category || line->binary || has_strip(line) || line->unknown_is_zero)) {
        error_at(number->span, "this is for numbers, and the line is for categories");
        check->failed = true;
    }
}
