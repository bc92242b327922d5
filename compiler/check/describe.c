/* `bpc describe FILE.csv`. The file is scanned twice: as it is, to guess which fields mean missing, then with those. */
#include "describe.h"

#include "scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CATEGORIES_WRITTEN = 40, LINE_WIDTH = 100, SHOWN_CATEGORIES = 5 };

typedef enum Use { USE_NUMBER, USE_CATEGORY, USE_NOTHING } Use;

typedef struct Missing { /* one code that seems to mean missing */
    const char *code;
    bool everywhere; /* in each column that holds it */
    bool *columns;
} Missing;

typedef struct Description {
    Arena *arena;
    const char *path;
    struct bp_file file;
    struct bp_scan scan;
    char **names; /* as the program will call the columns */
    bool has_header;
    Use *uses;          /* [column_count] */
    const char **notes; /* [column_count] for the summary, or NULL */
    LIST(Missing) missing;
    int target; /* -1: none can be */
} Description;

/* ---- How things are written -------------------------------------------------------------------------------------- */
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Names that mean something else where columns are listed. */
static bool is_taken(const char *name) {
    static const char *const words[] = {
        "numbers", "categories", "preprocessing", "except", "for",        "from",  "in", "on",
        "to",      "as",         "link",          "with",   "minimizing", "repeat"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(name, words[i]) == 0)
            return true;
    return false;
}

static bool is_identifier(const char *name) {
    if (!is_letter(name[0]) || is_taken(name))
        return false;
    for (const char *at = name; *at; at++)
        if (!is_letter(*at) && !(*at >= '0' && *at <= '9'))
            return false;
    return true;
}

/* Bytes of the UTF-8 character at `at`, 0 where it is none. */
static int character_length(const unsigned char *at) {
    int length = at[0] < 0x80 ? 1 : at[0] < 0xC2 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : at[0] < 0xF5 ? 4 : 0;
    for (int i = 1; i < length; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xF0 && at[1] < 0x90);
    bool beyond = (at[0] == 0xED && at[1] > 0x9F) || (at[0] == 0xF4 && at[1] > 0x8F);
    return overlong || beyond ? 0 : length;
}

/* A program can hold it: UTF-8, no control bytes but newline and tab. */
static bool can_be_written(const char *string) {
    for (const unsigned char *at = (const unsigned char *)string; *at;) {
        int length = character_length(at);
        if (length == 0 || *at == 0x7F || (*at < 0x20 && *at != '\n' && *at != '\t'))
            return false;
        at += length;
    }
    return true;
}

static void write_string(Text *out, const char *string) {
    text_add(out, "\"");
    for (const char *at = string; *at; at++) {
        const char *escape = *at == '"'    ? "\\\""
                             : *at == '\\' ? "\\\\"
                             : *at == '\n' ? "\\n"
                             : *at == '\t' ? "\\t"
                                           : NULL;
        if (escape)
            text_add(out, escape);
        else
            text_add_bytes(out, at, 1);
    }
    text_add(out, "\"");
}

static const char *string_of(Description *d, const char *string) {
    Text text = {0};
    write_string(&text, string);
    const char *copy = arena_copy(d->arena, text.at, text.length);
    text_free(&text);
    return copy;
}

static const char *name_written(Description *d, const char *name) {
    return is_identifier(name) ? name : string_of(d, name);
}

/* For a comment: one line, control bytes and what is not UTF-8 shown as '?', cut to a readable length. */
static const char *for_comment(Description *d, const char *string) {
    Text text = {0};
    int shown = 0;
    for (const unsigned char *at = (const unsigned char *)string; *at; shown++) {
        int length = character_length(at);
        if (shown == 40) {
            text_add(&text, "...");
            break;
        }
        if (length == 0 || *at < 0x20 || *at == 0x7F)
            text_add(&text, "?");
        else
            text_add_bytes(&text, (const char *)at, (size_t)length);
        at += length ? length : 1;
    }
    const char *copy = text.at ? arena_copy(d->arena, text.at, text.length) : "";
    text_free(&text);
    return copy;
}

static int width_of(const char *string) {
    int width = 0;
    for (; *string; string++)
        width += ((unsigned char)*string & 0xC0) != 0x80;
    return width;
}

/* Six digits, whatever the locale. */
static void write_rounded(Text *out, double value) {
    char digits[40];
    snprintf(digits, sizeof digits, "%.6g", value);
    text_number(out, strtod(digits, NULL));
}

/* ---- Guesses ----------------------------------------------------------------------------------------------------- */
static bool holds_text(const struct bp_scan_column *column, const char *text) {
    for (int32_t i = 0; i < column->distinct_count; i++)
        if (strcmp(column->distinct[i].text, text) == 0)
            return true;
    return false;
}

/* The first row names the columns where none of its fields is a number or there twice, and some column either holds
   numbers below or never holds its name again. */
static bool first_row_is_header(const struct bp_scan *first, const struct bp_scan *with_header) {
    int empty = 0;
    for (int32_t i = 0; i < first->column_count; i++) {
        const struct bp_scan_column *column = &first->columns[i];
        if (column->numbers > 0)
            return false;
        empty += column->missing > 0;
    }
    if (empty > 1 || first->column_count == 0)
        return false;
    for (int32_t i = 0; i < with_header->column_count; i++)
        if (with_header->columns[i].all_numbers)
            return true;
    for (int32_t i = 0; i < with_header->column_count; i++)
        if (holds_text(&with_header->columns[i], with_header->columns[i].name))
            return false;
    return true;
}

static const char *const missing_codes[] = {"?",    "NA",   "N/A",  "n/a",  "na", "NaN", "nan",
                                            "NULL", "null", "None", "#N/A", ".",  "-"};
enum { CODES = sizeof missing_codes / sizeof missing_codes[0] };

static bool is_missing_code(const char *text) {
    for (int i = 0; i < CODES; i++)
        if (strcmp(text, missing_codes[i]) == 0)
            return true;
    return false;
}

/* Every text of the column is a code, and there are numbers besides. */
static bool is_number_but_for_codes(const struct bp_scan_column *column) {
    double number;
    if (column->numbers == 0 || column->distinct_overflow)
        return false;
    for (int32_t i = 0; i < column->distinct_count; i++) {
        const char *text = column->distinct[i].text;
        if (!is_missing_code(text) && !bp_parse_number(text, strlen(text), &number))
            return false;
    }
    return true;
}

/* In a column of texts "NA" may be a level of its own (no pool, no alley); these few never are. */
static bool is_sure_code(const char *code) {
    return strcmp(code, "?") == 0 || strcmp(code, "NaN") == 0 || strcmp(code, "NULL") == 0 || strcmp(code, "#N/A") == 0;
}

static void guess_missing(Description *d) {
    for (int code = 0; code < CODES; code++) {
        Missing missing = {missing_codes[code], true, arena_array(d->arena, bool, d->scan.column_count)};
        bool any = false;
        for (int32_t i = 0; i < d->scan.column_count; i++) {
            const struct bp_scan_column *column = &d->scan.columns[i];
            if (!holds_text(column, missing.code))
                continue;
            missing.columns[i] = is_number_but_for_codes(column) || is_sure_code(missing.code);
            any |= missing.columns[i];
            missing.everywhere &= missing.columns[i];
        }
        if (any)
            *LIST_ADD(d->arena, &d->missing) = missing;
    }
}

/* ---- Uses -------------------------------------------------------------------------------------------------------- */
static bool is_row_number(const struct bp_scan_column *column, int64_t rows) {
    return rows > 2 && column->all_whole && !column->distinct_overflow && column->numbers == rows &&
           column->distinct_count == rows && column->greatest - column->least == (double)(rows - 1);
}

/* So many different texts that they are names or sentences, not categories. */
static bool is_free_text(const struct bp_scan_column *column, int64_t rows) {
    return column->distinct_overflow || (column->distinct_count > 20 && column->distinct_count > rows / 2);
}

static const char *zero_note(Description *d, const struct bp_scan_column *column) {
    double next;
    if (column->distinct_count < 10 || column->least < 0 || column->least > 0)
        return NULL;
    const char *second = column->distinct[1].text;
    if (!bp_parse_number(second, strlen(second), &next) || next < (column->greatest - next) * 0.1)
        return NULL;
    return arena_printf(d->arena, "0 in %lld rows, then nothing below %s: does 0 mean missing?",
                        (long long)column->distinct[0].count, for_comment(d, second));
}

static void choose_use(Description *d, int index) {
    const struct bp_scan_column *column = &d->scan.columns[index];
    Use *use = &d->uses[index];
    const char **note = &d->notes[index];
    *use = USE_NOTHING;
    if (!*d->names[index])
        *note = "not used: it has no name";
    else if (!can_be_written(d->names[index]))
        *note = "not used: its name is not plain UTF-8 text";
    else if (column->distinct_count == 0)
        *note = "not used: empty";
    else if (column->distinct_count == 1)
        *note = "not used: always the same";
    else if (is_row_number(column, d->scan.rows))
        *note = "not used: it numbers the rows";
    else if (!column->all_numbers && is_free_text(column, d->scan.rows))
        *note = "not used: too many different texts to be categories; of words, it is an input of its own: "
                "words = … : text(vocabulary = 10000, lowercase, counts)";
    else
        *use = column->all_numbers ? USE_NUMBER : USE_CATEGORY;
    if (*use == USE_NUMBER)
        *note = zero_note(d, column);
    if (*use == USE_CATEGORY && column->numbers > 0 && column->numbers >= column->texts)
        *note = "numbers for the most part: check the others";
}

static bool same_word(const char *a, const char *b) {
    for (; *a && *b; a++, b++) {
        char lower = *a >= 'A' && *a <= 'Z' ? (char)(*a - 'A' + 'a') : *a;
        if (lower != *b)
            return false;
    }
    return *a == *b;
}

/* A column whose name tables often give to what is to be predicted, else the last one. */
static int guess_target(const Description *d) {
    static const char *const usual[] = {"target",   "label", "class",  "outcome", "species", "diagnosis",
                                        "survived", "churn", "income", "quality", "price",   "saleprice",
                                        "medv",     "mpg",   "rating", "y"};
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        for (int32_t j = 0; j < d->scan.column_count; j++)
            if (d->uses[j] != USE_NOTHING && same_word(d->names[j], usual[i]))
                return j;
    for (int32_t j = d->scan.column_count - 1; j >= 0; j--)
        if (d->uses[j] != USE_NOTHING)
            return j;
    return -1;
}

/* ---- The block --------------------------------------------------------------------------------------------------- */
/* Writes `, `-separated pieces, going on below the first one where the line is full. A line may end after a comma. */
typedef struct Flow {
    Text *out;
    int column, indent;
    bool any;
} Flow;

static void flow(Flow *flow, const char *piece) {
    int width = width_of(piece);
    if (flow->any)
        text_add(flow->out, ",");
    if (flow->any && flow->column + width + 2 > LINE_WIDTH) {
        text_printf(flow->out, "\n%*s", flow->indent, "");
        flow->column = flow->indent;
    } else if (flow->any) {
        text_add(flow->out, " ");
        flow->column += 2;
    }
    text_add(flow->out, piece);
    flow->column += width;
    flow->any = true;
}

static void write_columns(Description *d, Text *out) {
    if (d->has_header)
        return;
    text_add(out, "    columns ");
    Flow names = {out, 12, 12, false};
    for (int32_t i = 0; i < d->scan.column_count; i++)
        flow(&names, name_written(d, d->names[i]));
    text_add(out, "\n");
}

static void write_missing(Description *d, Text *out) {
    for (int i = 0; i < d->missing.count; i++) {
        const Missing *missing = &d->missing.at[i];
        text_printf(out, "    missing %s", string_of(d, missing->code));
        if (!missing->everywhere) {
            text_add(out, " for ");
            Flow names = {out, 21, 12, false};
            for (int32_t j = 0; j < d->scan.column_count; j++)
                if (missing->columns[j] && d->uses[j] != USE_NOTHING)
                    flow(&names, name_written(d, d->names[j]));
        }
        text_add(out, "\n");
    }
}

static void write_number_inputs(Description *d, Text *out, bool with_missing) {
    Flow names = {out, 12, 12, false};
    for (int32_t i = 0; i < d->scan.column_count; i++) {
        if (d->uses[i] != USE_NUMBER || i == d->target || (d->scan.columns[i].missing > 0) != with_missing)
            continue;
        if (!names.any)
            text_add(out, "    input   ");
        flow(&names, name_written(d, d->names[i]));
    }
    if (names.any)
        text_printf(out, " : %sstandardize\n", with_missing ? "impute(median), " : "");
}

/* category("a", "b"), or category alone where they are too many or cannot be written: then the file is scanned. */
static void write_category(Description *d, const struct bp_scan_column *column, Text *out) {
    bool written = column->distinct_count <= MOST_CATEGORIES_WRITTEN;
    for (int32_t i = 0; i < column->distinct_count && written; i++)
        written = can_be_written(column->distinct[i].text);
    text_add(out, "category");
    if (!written)
        return;
    text_add(out, "(");
    Flow texts = {out, 30, 12, false};
    for (int32_t i = 0; i < column->distinct_count; i++)
        flow(&texts, string_of(d, column->distinct[i].text));
    text_add(out, ")");
}

static void write_category_inputs(Description *d, Text *out) {
    for (int32_t i = 0; i < d->scan.column_count; i++) {
        if (d->uses[i] != USE_CATEGORY || i == d->target)
            continue;
        text_printf(out, "    input   %s : ", name_written(d, d->names[i]));
        write_category(d, &d->scan.columns[i], out);
        text_add(out, d->scan.columns[i].missing > 0 ? ", impute(most_frequent)\n" : "\n");
    }
}

static bool is_zero_or_one(const struct bp_scan_column *column) {
    return column->all_whole && column->distinct_count == 2 && column->least >= 0 && column->least <= 0 &&
           column->greatest >= 1 && column->greatest <= 1;
}

/* Spread over orders of magnitude, and positive: its logarithm is easier to learn. */
static bool is_spread(const struct bp_scan_column *column) {
    return column->all_numbers && column->least > 0 && column->greatest / column->least > 20;
}

static void write_target(Description *d, Text *out) {
    if (d->target < 0) {
        text_add(out, "    # target …: no column seems fit to be predicted\n");
        return;
    }
    const struct bp_scan_column *column = &d->scan.columns[d->target];
    text_printf(out, "    target  %s : ", name_written(d, d->names[d->target]));
    if (column->missing > 0)
        text_add(out, "drop, ");
    if (d->uses[d->target] == USE_CATEGORY)
        write_category(d, column, out);
    else if (is_zero_or_one(column))
        text_add(out, "binary(1)");
    else
        text_add(out, is_spread(column) ? "log, standardize" : "standardize");
    text_add(out, "    # a guess: say here what is to be predicted\n");
}

static void write_split(Description *d, Text *out) {
    text_add(out, d->scan.rows < 10000 ? "    split   train = 0.7, validation = 0.15, test = 0.15"
                                       : "    split   train = 0.8, validation = 0.1, test = 0.1");
    if (d->target >= 0 && (d->uses[d->target] == USE_CATEGORY || is_zero_or_one(&d->scan.columns[d->target])))
        text_printf(out, ", stratify = %s", name_written(d, d->names[d->target]));
    text_add(out, "\n");
}

/* The file's name without folder and ending, as a name. */
static const char *block_name(Description *d) {
    const char *slash = strrchr(d->path, '/'), *start = slash ? slash + 1 : d->path;
    size_t length = strcspn(start, ".");
    char *name = arena_printf(d->arena, "%.*s", (int)length, start);
    for (char *at = name; *at; at++)
        if (!is_letter(*at) && !(*at >= '0' && *at <= '9'))
            *at = '_';
    static const char *const taken[] = {"data", "model", "train", "test", "validation"};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (strcmp(name, taken[i]) == 0)
            return arena_printf(d->arena, "%s_table", name);
    return is_letter(name[0]) && !is_taken(name) ? name : arena_printf(d->arena, "table_%s", name);
}

static void write_block(Description *d, Text *out) {
    text_printf(out, "data %s {\n    file    ", block_name(d));
    write_string(out, d->path);
    text_add(out, d->has_header ? "\n" : ", header = none\n");
    write_columns(d, out);
    write_missing(d, out);
    write_number_inputs(d, out, false);
    write_number_inputs(d, out, true);
    write_category_inputs(d, out);
    write_target(d, out);
    write_split(d, out);
    text_add(out, "}\n");
}

/* ---- The summary ------------------------------------------------------------------------------------------------- */
static int by_count(const void *left, const void *right) {
    const struct bp_scan_text *a = left, *b = right;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    return strcmp(a->text, b->text);
}

static void write_category_counts(Description *d, const struct bp_scan_column *column, Text *out) {
    struct bp_scan_text *sorted = arena_array(d->arena, struct bp_scan_text, column->distinct_count);
    memcpy(sorted, column->distinct, sizeof *sorted * (size_t)column->distinct_count);
    qsort(sorted, (size_t)column->distinct_count, sizeof *sorted, by_count);
    for (int32_t i = 0; i < column->distinct_count && i < SHOWN_CATEGORIES; i++)
        text_printf(out, "%s%s %lld", i > 0 ? ", " : "", for_comment(d, sorted[i].text), (long long)sorted[i].count);
    if (column->distinct_count > SHOWN_CATEGORIES)
        text_printf(out, " and %s%d more", column->distinct_overflow ? "over " : "",
                    column->distinct_count - SHOWN_CATEGORIES);
}

static void write_values(Description *d, const struct bp_scan_column *column, Text *out) {
    if (column->distinct_count == 0)
        return;
    if (!column->all_numbers) {
        write_category_counts(d, column, out);
        return;
    }
    write_rounded(out, column->least);
    text_add(out, " to ");
    write_rounded(out, column->greatest);
    text_add(out, ", mean ");
    write_rounded(out, column->mean);
    if (column->all_whole && column->distinct_count <= 10)
        text_printf(out, ", %d whole numbers", column->distinct_count);
}

static void write_summary(Description *d, Text *out) {
    int widest = 6;
    for (int32_t i = 0; i < d->scan.column_count; i++) {
        int width = width_of(for_comment(d, d->names[i]));
        widest = width > widest ? width : widest;
    }
    text_printf(out, "\n# %lld rows, %d columns%s\n", (long long)d->scan.rows, d->scan.column_count,
                d->has_header ? "" : " (no header was seen: the names are made up)");
    text_printf(out, "# %-*s  kind      missing  values\n", widest, "column");
    for (int32_t i = 0; i < d->scan.column_count; i++) {
        const struct bp_scan_column *column = &d->scan.columns[i];
        const char *name = for_comment(d, d->names[i]);
        text_printf(out, "# %s%*s  %-8s  %7lld  ", name, widest - width_of(name), "",
                    column->all_numbers           ? "number"
                    : column->distinct_count == 0 ? "-"
                                                  : "category",
                    (long long)column->missing);
        write_values(d, column, out);
        if (d->notes[i])
            text_printf(out, "%s(%s)", column->distinct_count == 0 ? "" : "  ", d->notes[i]);
        text_add(out, "\n");
    }
}

/* ---- Together ---------------------------------------------------------------------------------------------------- */
/* The first row cannot name the columns, and yet it is the only row with texts above numbers. */
static bool is_broken_header(Description *d) {
    struct bp_scan scan;
    struct bp_error ignored;
    struct bp_file file = d->file;
    file.header = 0;
    bool broken = false;
    if (!bp_scan(&file, 1, NULL, 0, NULL, 0, -1, &scan, &ignored))
        return false; /* the next scan says what is wrong */
    for (int32_t i = 0; i < scan.column_count; i++)
        broken |= scan.columns[i].texts == 1 && scan.columns[i].numbers > 0;
    bp_scan_free(&scan);
    return broken;
}

static bool guess_header(Description *d, struct bp_error *error) {
    struct bp_scan first, with_header;
    d->file = (struct bp_file){d->path, d->path, BP_ALL, 0, 0, 0, NULL};
    if (!bp_scan(&d->file, 1, NULL, 0, NULL, 0, 1, &first, error))
        return false;
    d->file.header = 1;
    bool read = bp_scan(&d->file, 1, NULL, 0, NULL, 0, -1, &with_header, error);
    if (read) {
        d->has_header = first_row_is_header(&first, &with_header);
        bp_scan_free(&with_header);
    }
    bp_scan_free(&first);
    d->file.header = d->has_header;
    return read || !is_broken_header(d); /* else two fields of the first row are alike, so they are no names */
}

static bool scan_with_missing(Description *d, struct bp_error *error) {
    if (d->missing.count == 0)
        return true;
    LIST(struct bp_scan_rule) rules = {0};
    for (int i = 0; i < d->missing.count; i++)
        for (int32_t j = 0; j < d->scan.column_count; j++)
            if (d->missing.at[i].columns[j])
                *LIST_ADD(d->arena, &rules) = (struct bp_scan_rule){
                    arena_copy(d->arena, d->scan.columns[j].name, strlen(d->scan.columns[j].name)),
                    d->missing.at[i].code, NULL};
    bp_scan_free(&d->scan);
    return bp_scan(&d->file, 1, NULL, 0, rules.at, rules.count, -1, &d->scan, error);
}

static void name_columns(Description *d) {
    d->names = arena_array(d->arena, char *, d->scan.column_count);
    for (int32_t i = 0; i < d->scan.column_count; i++)
        d->names[i] = d->has_header ? d->scan.columns[i].name : arena_printf(d->arena, "c%d", i + 1);
}

static bool describe(Description *d, Text *out, struct bp_error *error) {
    if (!guess_header(d, error) || !bp_scan(&d->file, 1, NULL, 0, NULL, 0, -1, &d->scan, error))
        return false;
    guess_missing(d);
    if (!scan_with_missing(d, error))
        return false;
    name_columns(d);
    d->uses = arena_array(d->arena, Use, d->scan.column_count);
    d->notes = arena_array(d->arena, const char *, d->scan.column_count);
    for (int32_t i = 0; i < d->scan.column_count; i++)
        choose_use(d, i);
    d->target = guess_target(d);
    write_block(d, out);
    write_summary(d, out);
    return true;
}

bool describe_file(const char *path, Text *out, char *why, size_t why_size) {
    Description d = {0};
    struct bp_error error = {{0}};
    d.arena = arena_new();
    d.path = path;
    bool is_array = false, done = describe_array(d.arena, path, block_name(&d), out, &is_array, why, why_size);
    if (is_array) {
        arena_free(d.arena);
        return done;
    }
    done = describe(&d, out, &error);
    bp_scan_free(&d.scan);
    arena_free(d.arena);
    if (!done)
        snprintf(why, why_size, "%s", error.text);
    return done;
}
