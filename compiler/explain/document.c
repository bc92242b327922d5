/* What stands on the page, in which order: for each phase what is given, forward, loss, backward, gradients, update; with numbers where an example is
   worked through. */
#include "page.h"

#include "../graph/print.h"

#include <stdlib.h>
#include <string.h>

enum { ALIKE_BLOCKS = 3, ALIKE_LAYERS = 4 }; /* so many layers in a row that are alike are written once */

typedef struct Sheets {
    Page page;
    Arena *arena;
    const ExplainRequest *request;
    Example *example; /* NULL: no numbers */
    const Derivation *derivation;
    LIST(PageRow) rows;
} Sheets;

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

static const char *kept(Sheets *s, Text *text) {
    const char *copy = arena_copy(s->arena, text->at ? text->at : "", text->length);
    text_free(text);
    return copy;
}

static const char *symbol_piece(Sheets *s, const Fold *fold, const Symbol *symbol) {
    Text text = {0};
    symbol_write(s->page.style, fold, symbol, &text);
    return kept(s, &text);
}

static const char *formula_piece(Sheets *s, const Fold *fold, const Math *x) {
    Text text = {0};
    math_write(s->page.style, fold, x, &text);
    return kept(s, &text);
}

static const char *set_piece(Sheets *s, const Node *node) {
    const MathStyle *style = s->page.style;
    Text text = {0};
    if (!node->rank || (node->rank == 1 && node->dims[0] == 1))
        return NULL;
    style->open(&text, BOX_SUPERSCRIPT);
    style->sign(&text, "ℝ");
    style->next(&text, BOX_SUPERSCRIPT);
    for (int i = 0; i < node->rank; i++) {
        if (i)
            style->sign(&text, style->linear ? "x" : "×");
        style->number(&text, arena_printf(s->arena, "%lld", (long long)node->dims[i]), NULL);
    }
    style->close(&text, BOX_SUPERSCRIPT);
    return kept(s, &text);
}

static const char *place_piece(Sheets *s, Span span) {
    Text text = {0};
    if (span.source >= 0 && !span_in_prelude(span) &&
        !strchr(span_place(span).path, ' ')) /* not of rows that a host gives */
        span_text(span, &text);
    return kept(s, &text);
}

static const char *value_piece(Sheets *s, const Evaluation *value, const Node *node) {
    Text text = {0};
    bool exact = node->op == OP_INPUT || node->op == OP_SCALAR || node->op == OP_ONE_HOT; /* as given, counted */
    evaluation_write(s->page.style, value, node, exact ? 0 : s->request->digits, &text);
    return kept(s, &text);
}

static PageRow *add_row(Sheets *s) {
    PageRow *row = LIST_ADD(s->arena, &s->rows);
    *row = (PageRow){0};
    return row;
}

static void write_rows(Sheets *s, const char *heading) {
    if (!s->rows.count)
        return;
    page_heading(&s->page, 2, heading);
    page_rows(&s->page, s->rows.at, s->rows.count);
    s->rows.count = 0;
}

/* ---- equations --------------------------------------------------------------------------------------------------- */

static int text_columns(const char *text) {
    int columns = 0;
    for (; text && *text; text++)
        columns += ((unsigned char)*text & 0xC0) != 0x80;
    return columns;
}

static int said_columns(const Equation *equation) {
    Text text = {0};
    symbol_write(&text_style, NULL, equation->left, &text);
    if (equation->also)
        symbol_write(&text_style, NULL, equation->also, &text);
    math_write(&text_style, NULL, equation->right, &text);
    int columns = text_columns(text.at);
    text_free(&text);
    return columns;
}

static int value_columns(Sheets *s, const Evaluation *value, const Node *node) {
    Text text = {0};
    evaluation_write(&text_style, value, node, s->request->digits, &text);
    int64_t rows = node->rank > 1 && node->dims[0] > 1 ? (node->dims[0] < 16 ? node->dims[0] : 10) : 1;
    int columns = (int)(text_columns(text.at) / rows);
    text_free(&text);
    return columns;
}

static void add_equation(Sheets *s, const Equation *equation, const Fold *fold, const char *range) {
    PageRow *row = add_row(s);
    row->left = symbol_piece(s, fold, equation->left);
    row->middle = equation->also ? symbol_piece(s, fold, equation->also) : NULL;
    row->sign = equation->right ? "=" : NULL;
    row->right = equation->right ? formula_piece(s, fold, equation->right) : NULL;
    row->set = equation->node->type == TYPE_INDEX ? NULL : set_piece(s, equation->node);
    row->columns = equation->right ? said_columns(equation) : 0;
    row->note = range && equation->note ? arena_printf(s->arena, "%s, %s", equation->note, range)
                : range                 ? range
                                        : equation->note;
    row->place = place_piece(s, equation->span);
    if (!s->example)
        return;
    const Evaluation *evaluation = example_value(s->example, equation->node);
    const char *value = value_piece(s, evaluation, equation->node);
    if (equation->right)
        row = add_row(s);
    else
        row->set = NULL; /* the numbers show it */
    row->sign = "=";
    row->right = value;
    row->columns = value_columns(s, evaluation, equation->node);
    row->is_value = true;
}

/* What the equation says with i in place of its layer's number; the layers are alike where this is the same. */
static void add_said(const Equation *equation, const Fold *fold, Text *out) {
    symbol_write(&text_style, fold, equation->left, out);
    text_add(out, " = ");
    if (equation->right)
        math_write(&text_style, fold, equation->right, out);
    text_printf(out, " %d", equation->node->rank);
    for (int i = 0; i < equation->node->rank; i++)
        text_printf(out, " %lld", (long long)equation->node->dims[i]);
    text_add(out, "\n");
}

/* Equations from `first` on whose layer has one number; returns behind the last. */
static int group_end(const Equation *equations, int first, int count, Fold *fold, Arena *arena) {
    int64_t number, other;
    const char *index = equations[first].left->index;
    int length = index ? index_number(index, &number) : INDEX_PLAIN;
    *fold = (Fold){NULL, 0};
    if (length == INDEX_PLAIN)
        return first + 1;
    *fold = (Fold){arena_copy(arena, index, (size_t)length), number};
    int end = first + 1;
    for (; end < count; end++) {
        const char *next = equations[end].left->index;
        if (!next || index_number(next, &other) != length || other != number ||
            strncmp(next, index, (size_t)length) != 0)
            break;
    }
    return end;
}

static bool alike(const Equation *a, int count, const Fold *fold_a, const Equation *b, const Fold *fold_b) {
    Text left = {0}, right = {0};
    for (int i = 0; i < count; i++) {
        add_said(&a[i], fold_a, &left);
        add_said(&b[i], fold_b, &right);
    }
    bool same = !strcmp(left.at, right.at);
    text_free(&left);
    text_free(&right);
    return same;
}

static void add_equations(Sheets *s, const Equation *equations, int count) {
    for (int first = 0; first < count;) {
        Fold fold, next;
        int end = s->example ? first + 1 : group_end(equations, first, count, &fold, s->arena);
        int size = end - first, groups = 1, at = end;
        int64_t last = 0;
        while (!s->example && fold.prefix && at < count) {
            int behind = group_end(equations, at, count, &next, s->arena);
            if (behind - at != size || !next.prefix || strcmp(next.prefix, fold.prefix) != 0 ||
                llabs(next.number - fold.number) != groups ||
                !alike(equations + first, size, &fold, equations + at, &next))
                break;
            last = next.number;
            at = behind;
            groups++;
        }
        bool block = !s->example && fold.prefix && *fold.prefix && fold.prefix[strlen(fold.prefix) - 1] == '.';
        bool folds = groups >= (block ? ALIKE_BLOCKS : ALIKE_LAYERS);
        const char *range =
            folds ? arena_printf(s->arena, "i = %lld, …, %lld", (long long)fold.number, (long long)last) : NULL;
        for (int i = first; i < end; i++)
            add_equation(s, &equations[i], folds ? &fold : NULL, range);
        first = folds ? at : end;
    }
}

static int part_of(Sheets *s, EquationPart part, const Equation **first) {
    const Derivation *derivation = s->derivation;
    int count = 0;
    for (int i = 0; i < derivation->equations.count; i++)
        if (derivation->equations.at[i].part == part && count++ == 0)
            *first = &derivation->equations.at[i];
    return count;
}

static void write_part(Sheets *s, EquationPart part, const char *heading) {
    const Equation *first = NULL;
    int count = part_of(s, part, &first);
    if (count)
        add_equations(s, first, count);
    write_rows(s, heading);
}

/* ---- the update -------------------------------------------------------------------------------------------------- */

/* The equations of one parameter: its states' and its own, in order. */
static int update_end(const Equation *equations, int first, int count) {
    int end = first + 1;
    while (end < count && equations[end].group == equations[first].group)
        end++;
    return end;
}

static const char *update_said(Sheets *s, const Equation *equations, int count) {
    Text text = {0};
    for (int i = 0; i < count; i++) {
        symbol_write(&text_style, NULL, equations[i].general_left, &text);
        text_add(&text, " = ");
        if (equations[i].general)
            math_write(&text_style, NULL, equations[i].general, &text);
        text_add(&text, "\n");
    }
    return kept(s, &text);
}

static void add_general(Sheets *s, const Equation *equations, int count, const char *whose) {
    for (int i = 0; i < count; i++) {
        PageRow *row = add_row(s);
        row->left = symbol_piece(s, NULL, equations[i].general_left);
        row->note = equations[i].note;
        if (!equations[i].general)
            continue;
        row->sign = equations[i].tensor ? "←" : "=";
        row->right = formula_piece(s, NULL, equations[i].general);
        row->whose = i == 0 ? whose : NULL;
        row->columns = said_columns(&equations[i]);
        row->place = i == 0 ? place_piece(s, equations[i].span) : NULL;
    }
}

static void add_name(Sheets *s, const char *before, const Symbol *symbol, Text *out) {
    static const Symbol theta = {.letter = "θ"};
    if (!out->length)
        symbol_write(s->page.style, NULL, &theta, out);
    s->page.style->sign(out, before);
    symbol_write(s->page.style, NULL, symbol, out);
}

static void add_updates(Sheets *s, const Equation *equations, int count) {
    enum { NAMED = 4 };
    bool *said = arena_array(s->arena, bool, count + 1);
    for (int first = 0; first < count; first = update_end(equations, first, count)) {
        if (said[first])
            continue;
        int end = update_end(equations, first, count), number = 0;
        const char *saying = update_said(s, equations + first, end - first);
        const Equation *last = NULL;
        Text names = {0};
        for (int other = first; other < count; other = update_end(equations, other, count)) {
            int behind = update_end(equations, other, count);
            if (strcmp(saying, update_said(s, equations + other, behind - other)) != 0)
                continue;
            said[other] = true;
            number++;
            for (int i = other; i < behind; i++)
                if (equations[i].tensor && !equations[i].tensor->state) {
                    last = &equations[i];
                    if (number <= NAMED)
                        add_name(s, number == 1 ? " = " : ", ", last->left, &names);
                }
        }
        if (number > NAMED) {
            s->page.style->sign(&names, ", ");
            s->page.style->sign(&names, "…");
            add_name(s, ", ", last->left, &names);
        }
        bool statistic = !equations[first].tensor || equations[first].tensor->statistic;
        const char *whose = kept(s, &names);
        whose = statistic ? NULL : whose;
        add_general(s, equations + first, end - first, whose);
    }
}

/* Before and after, with the formula between. */
static void add_worked_updates(Sheets *s, const Equation *equations, int count) {
    for (int i = 0; i < count; i++) {
        const Equation *equation = &equations[i];
        if (!equation->right) {
            add_equation(s, equation, NULL, NULL);
            continue;
        }
        Node *before = equation->tensor ? node_tensor(s->derivation->program->graph, equation->tensor) : NULL;
        if (before) {
            PageRow *row = add_row(s);
            row->left = symbol_piece(s, NULL, equation->left);
            row->sign = "=";
            row->right = value_piece(s, example_value(s->example, before), before);
            row->columns = value_columns(s, example_value(s->example, before), before);
            row->note = "before";
            row->is_value = true;
        }
        PageRow *row = add_row(s);
        row->left = symbol_piece(s, NULL, equation->left);
        row->sign = before ? "←" : "=";
        row->right = formula_piece(s, NULL, equation->right);
        row->place = place_piece(s, equation->span);
        const Node *shape = before ? before : equation->node;
        Evaluation value = *example_value(s->example, equation->node);
        *add_row(s) = (PageRow){.sign = "=",
                                .right = value_piece(s, &value, shape),
                                .note = before ? "after" : NULL,
                                .is_value = true,
                                .columns = value_columns(s, &value, shape)};
    }
}

/* As the .bp file says it: adam(lr = 0.01), or D with adam(0.01) minimizing d_loss. */
static const char *optimizer_said(Sheets *s, Span span) {
    size_t length;
    const char *text = source_text(span.source, &length), *update = "update ";
    const char *said = arena_copy(s->arena, text + span.start, (size_t)(span.end - span.start));
    return strncmp(said, update, strlen(update)) == 0 ? said + strlen(update) : said;
}

static void write_update(Sheets *s) {
    const Equation *first = NULL;
    int count = part_of(s, PART_UPDATE, &first);
    if (count && s->example)
        add_worked_updates(s, first, count);
    else if (count)
        add_updates(s, first, count);
    while (count > 1 && first->span.source < 0)
        first++, count--;
    write_rows(s, count && first->span.source >= 0
                      ? arena_printf(s->arena, "Update: %s", optimizer_said(s, first->span))
                      : "Update");
}

/* Every change at once, as the step does it. */
static void carry_out(Sheets *s) {
    const Derivation *derivation = s->derivation;
    Evaluation **values = arena_array(s->arena, Evaluation *, derivation->changes.count + 1);
    for (int i = 0; i < derivation->changes.count; i++)
        values[i] = example_value(s->example, derivation->changes.at[i].value);
    for (int i = 0; i < derivation->changes.count; i++)
        example_change(s->example, derivation->changes.at[i].tensor, values[i]);
    example_again(s->example);
}

/* ---- a phase ----------------------------------------------------------------------------------------------------- */

static void write_frozen(Sheets *s) {
    const GraphTrain *train = s->derivation->train;
    const char *names = NULL;
    enum { NAMED = 6 };
    for (int i = 0; i < train->frozen.count && i < NAMED; i++)
        names = names ? arena_printf(s->arena, "%s, %s", names, train->frozen.at[i]->name) : train->frozen.at[i]->name;
    if (names)
        page_words(&s->page, train->frozen.count > NAMED
                                 ? arena_printf(s->arena, "Frozen, without a gradient: %s, … (%d of them).", names,
                                                train->frozen.count)
                                 : arena_printf(s->arena, "Frozen, without a gradient: %s.", names));
    const char *from = NULL;
    for (int m = 0; m < train->models.count && s->example; m++)
        if (train->models.at[m]->from)
            from = arena_printf(s->arena, "%s begins with first values here, not with those of %s.",
                                train->models.at[m]->name, train->models.at[m]->from);
    if (from)
        page_words(&s->page, from);
}

static void write_phase(Sheets *s) {
    const GraphTrain *train = s->derivation->train;
    Text place = {0};
    span_text(train->plan->span, &place);
    page_heading(&s->page, 1, arena_printf(s->arena, "%s, %s", train->name, place.at ? place.at : ""));
    text_free(&place);
    write_frozen(s);
    write_part(s, PART_GIVEN, "Given");
    write_part(s, PART_FORWARD, "Forward");
    write_part(s, PART_LOSS, "Loss");
    write_part(s, PART_BACKWARD, "Backward");
    write_part(s, PART_GRADIENT, "Gradients");
    write_update(s);
    if (s->example)
        carry_out(s);
}

bool explain_program(const GraphProgram *program, const ExplainRequest *request, Text *out) {
    Arena *arena = arena_new();
    int count, errors = error_count();
    const GraphTrain *views = phase_views(arena, program, &count);
    if (!count)
        error_plain("%s: nothing to explain: add a train or finetune block", program->program->path);
    Derivation **derivations = arena_array(arena, Derivation *, count + 1);
    for (int i = 0; i < count; i++) {
        derivations[i] = derive(arena, program, &views[i]);
        if (request->verify)
            derivation_check(derivations[i]);
    }
    Sheets s = {.page = page_of(arena, request->format, out), .arena = arena, .request = request};
    if (count && request->with_values)
        s.example = example_of(arena, program, request, views, count);
    if (count && error_count() == errors) {
        page_begin(&s.page, program->program->name);
        for (int i = 0; i < count; i++) {
            s.derivation = derivations[i];
            write_phase(&s);
        }
        page_heading(&s.page, 2, "Signs");
        page_words(
            &s.page,
            "⊙, quotients, powers and functions of vectors go element by element; 𝟏[…] is 1 where … holds, else 0.");
        page_words(&s.page, "∑ₙ is the sum over the rows of the batch; all else is of one row. δ is the derivative of "
                            "the loss with respect to z.");
        page_end(&s.page);
    }
    arena_free(arena);
    return error_count() == errors;
}
