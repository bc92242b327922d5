/* A page in text (columns that line up), LaTeX (a document of its own) or HTML (one file, no script). */
#include "page.h"

#include <string.h>

enum {
    WIDEST_LEFT = 30,
    WIDEST_BODY = 84,
    WIDEST_ROW = 104,
    WIDEST_LATEX = 90
}; /* columns of text that wait for one another */

Page page_of(Arena *arena, PageFormat format, Text *out) {
    static const MathStyle *const styles[] = {&text_style, &latex_style, &mathml_style};
    return (Page){arena, format, styles[format], out};
}

/* Characters, not bytes. */
static int columns_of(const char *text) {
    int columns = 0;
    for (; *text; text++)
        columns += ((unsigned char)*text & 0xC0) != 0x80;
    return columns;
}

static void pad(Text *out, int from, int to) {
    for (; from < to; from++)
        text_add(out, " ");
}

/* Plain words: in LaTeX, what is a command or has no letter there is written otherwise. */
static void add_plain(const Page *page, const char *words) {
    static const char *const latex[][2] = {{"δ", "$\\delta$"},     {"∂", "$\\partial$"}, {"…", "\\ldots{}"},
                                           {"⊙", "$\\odot$"},      {"∑ₙ", "$\\sum_n$"},  {"ᵀ", "$^{\\mathsf T}$"},
                                           {"𝟏", "$\\mathbf{1}$"}, {"−", "$-$"},         {"→", "$\\to$"}};
    for (const char *at = words; *at; at++) {
        bool known = false;
        for (size_t i = 0; page->format == PAGE_LATEX && !known && i < sizeof latex / sizeof *latex; i++)
            if (!strncmp(at, latex[i][0], strlen(latex[i][0]))) {
                text_add(page->out, latex[i][1]);
                at += strlen(latex[i][0]) - 1;
                known = true;
            }
        if (known)
            continue;
        if (page->format == PAGE_LATEX && strchr("_#%&{}$", *at))
            text_printf(page->out, "\\%c", *at);
        else if (page->format == PAGE_LATEX && strchr("\\^~", *at))
            text_add(page->out, *at == '\\' ? "\\textbackslash{}" : *at == '^' ? "\\^{}" : "\\~{}");
        else if (page->format == PAGE_LATEX && (unsigned char)*at >= 0x80)
            text_add(page->out, ((unsigned char)*at & 0xC0) == 0xC0 ? "?" : "");
        else if (page->format == PAGE_HTML && strchr("<>&", *at))
            text_add(page->out, *at == '<' ? "&lt;" : *at == '>' ? "&gt;" : "&amp;");
        else
            text_add_bytes(page->out, (unsigned char)*at < 0x20 ? "?" : at, 1);
    }
}

void page_begin(Page *page, const char *title) {
    static const char html[] =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<title>%s</title>\n<style>\n"
        "body { max-width: 70em; margin: 2em auto; padding: 0 1em; font-family: serif; line-height: 1.4 }\n"
        "table { border-spacing: 0; margin: 0.5em 0 1em; width: 100%% }\ntd { padding: 0.25em 0.3em; vertical-align: "
        "baseline }\n"
        "td.left { text-align: right; white-space: nowrap }\ntd.set, td.place, td.note { padding-left: 1.5em; color: "
        "#555 }\n"
        "td.note { width: 99%% }\ntd.place { font-family: monospace; font-size: 85%%; white-space: nowrap; text-align: "
        "right }\nmath { font-size: 110%% }\n"
        "mtd { text-align: left }\nh2 { border-bottom: 1px solid #ccc }\nh3 { margin-bottom: 0.3em "
        "}\n</style>\n</head>\n<body>\n";
    static const char latex[] = "\\documentclass[a4paper,10pt]{article}\n\\usepackage[T1]{fontenc}\n"
                                "\\usepackage{amsmath,amssymb,graphicx}\n\\usepackage[margin=2cm]{geometry}\n"
                                "\\setcounter{MaxMatrixCols}{20}\n\\sloppy\n"
                                "\\allowdisplaybreaks\n\\setlength{\\parindent}{0pt}\n\\begin{document}\n";
    if (page->format == PAGE_HTML)
        text_printf(page->out, html, title);
    else if (page->format == PAGE_LATEX)
        text_add(page->out, latex);
}

void page_heading(Page *page, int level, const char *heading) {
    if (page->format == PAGE_TEXT) {
        if (page->out->length)
            text_add(page->out, "\n");
        add_plain(page, heading);
        text_add(page->out, "\n");
        return;
    }
    if (page->format == PAGE_LATEX)
        text_add(page->out, level == 1 ? "\\section*{" : "\\subsection*{");
    else
        text_printf(page->out, "<h%d>", level + 1);
    add_plain(page, heading);
    if (page->format == PAGE_LATEX)
        text_add(page->out, "}\n");
    else
        text_printf(page->out, "</h%d>\n", level + 1);
}

void page_words(Page *page, const char *words) {
    text_add(page->out, page->format == PAGE_HTML ? "<p>" : page->format == PAGE_TEXT ? "  " : "");
    add_plain(page, words);
    text_add(page->out, page->format == PAGE_HTML ? "</p>\n" : page->format == PAGE_LATEX ? "\n\n" : "\n");
}

static bool has(const char *text) {
    return text && *text;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* What stands left of the set. */
static const char *text_body(const Page *page, const PageRow *row, int widest) {
    Text line = {0};
    pad(&line, 0, 4 + widest - (has(row->left) ? columns_of(row->left) : 0));
    text_add(&line, has(row->left) ? row->left : "");
    if (has(row->sign))
        text_printf(&line, " %s ", row->sign);
    if (has(row->middle))
        text_printf(&line, "%s = ", row->middle);
    text_add(&line, has(row->right) ? row->right : "");
    const char *body = arena_copy(page->arena, line.at, line.length);
    text_free(&line);
    return body;
}

static void wider(int columns, int limit, int *widest) {
    if (columns > *widest && columns <= limit)
        *widest = columns;
}

/* A matrix has a line for each of its rows. */
static int matrix_lines(Page *page, const PageRow *rows, int count, PageRow **lines) {
    LIST(PageRow) all = {0};
    for (int i = 0; i < count; i++) {
        PageRow row = rows[i];
        const char *end = row.is_value && row.right[0] == '[' ? strstr(row.right, "; ") : NULL;
        for (; end; end = strstr(row.right, "; ")) {
            const char *rest = end + 2;
            row.right = arena_printf(page->arena, "%.*s", (int)(end - row.right), row.right);
            *LIST_ADD(page->arena, &all) = row;
            row = (PageRow){.sign = " ", .right = arena_printf(page->arena, "%s%s", *rest == '[' ? "" : " ", rest)};
        }
        *LIST_ADD(page->arena, &all) = row;
    }
    *lines = all.at;
    return all.count;
}

/* Sets stand under one another, and so do places, but for rows that are too long for that. */
static void text_rows(Page *page, const PageRow *given, int given_count) {
    PageRow *rows;
    int count = matrix_lines(page, given, given_count, &rows);
    int left = 0, body = 0, whole = 0;
    const char **bodies = arena_array(page->arena, const char *, count);
    for (int i = 0; i < count; i++)
        wider(has(rows[i].left) ? columns_of(rows[i].left) : 0, WIDEST_LEFT, &left);
    for (int i = 0; i < count; i++) {
        bodies[i] = text_body(page, &rows[i], left);
        if (has(rows[i].set) || has(rows[i].note) || has(rows[i].whose))
            wider(columns_of(bodies[i]), WIDEST_BODY, &body);
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < count; i++) {
            const PageRow *row = &rows[i];
            Text line = {0};
            text_add(&line, bodies[i]);
            int columns = columns_of(line.at);
            if (has(row->set) || has(row->note) || has(row->whose))
                pad(&line, columns, has(row->sign) ? body + 2 : 0);
            if (has(row->set))
                text_printf(&line, " ∈ %s", row->set);
            if (has(row->whose))
                text_printf(&line, "   %s", row->whose);
            if (has(row->note))
                text_printf(&line, "   %s", row->note);
            columns = columns_of(line.at);
            if (pass == 0)
                wider(columns, WIDEST_ROW, &whole);
            if (pass && has(row->place)) {
                pad(&line, columns, whole);
                text_printf(&line, "   %s", row->place);
            }
            if (pass)
                text_printf(page->out, "%s\n", line.at);
            text_free(&line);
        }
}

/* ---- LaTeX ------------------------------------------------------------------------------------------------------- */

static void latex_plain(Page *page, const char *words) {
    text_add(page->out, "\\text{\\footnotesize ");
    add_plain(page, words);
    text_add(page->out, "}");
}

static void latex_rows(Page *page, const PageRow *rows, int count) {
    text_add(page->out, "\\begin{flalign*}\n");
    for (int i = 0; i < count; i++) {
        const PageRow *row = &rows[i];
        text_printf(page->out, "%s&", has(row->left) ? row->left : "");
        if (has(row->sign))
            page->style->sign(page->out, row->sign);
        if (has(row->middle))
            text_printf(page->out, "%s = ", row->middle);
        bool wide = row->columns > WIDEST_LATEX;
        if (wide)
            text_printf(page->out, "\\resizebox{%s\\linewidth}{!}{$\\displaystyle ",
                        has(row->middle) ? "0.55" : "0.75");
        text_add(page->out, has(row->right) ? row->right : "");
        text_add(page->out, wide ? "$}" : "");
        if (has(row->whose))
            text_printf(page->out, "\\qquad %s", row->whose);
        if (has(row->set))
            text_printf(page->out, "%s\\in %s", has(row->sign) ? "\\quad " : "", row->set);
        if (has(row->note)) {
            text_add(page->out, "\\quad ");
            latex_plain(page, row->note);
        }
        text_add(page->out, "&&");
        if (has(row->place))
            latex_plain(page, row->place);
        text_add(page->out, i + 1 < count ? "\\\\\n" : "\n");
    }
    text_add(page->out, "\\end{flalign*}\n");
}

/* ---- HTML -------------------------------------------------------------------------------------------------------- */

static void html_math(Page *page, const char *mathml) {
    text_printf(page->out, "<math displaystyle=\"true\"><mrow>%s</mrow></math>", mathml);
}

static void html_rows(Page *page, const PageRow *rows, int count) {
    text_add(page->out, "<table>\n");
    for (int i = 0; i < count; i++) {
        const PageRow *row = &rows[i];
        text_add(page->out, "<tr><td class=\"left\">");
        if (has(row->left))
            html_math(page, row->left);
        text_add(page->out, "</td><td>");
        if (has(row->sign) || has(row->right)) {
            Text whole = {0};
            if (has(row->sign))
                page->style->sign(&whole, row->sign);
            if (has(row->middle))
                text_printf(&whole, "%s<mo>=</mo>", row->middle);
            text_add(&whole, has(row->right) ? row->right : "");
            html_math(page, whole.at);
            text_free(&whole);
        }
        text_add(page->out, "</td><td class=\"set\">");
        if (has(row->set))
            html_math(page, arena_printf(page->arena, "<mo>∈</mo>%s", row->set));
        text_add(page->out, "</td><td class=\"note\">");
        if (has(row->whose))
            html_math(page, row->whose);
        add_plain(page, has(row->note) ? row->note : "");
        text_add(page->out, "</td><td class=\"place\">");
        add_plain(page, has(row->place) ? row->place : "");
        text_add(page->out, "</td></tr>\n");
    }
    text_add(page->out, "</table>\n");
}

void page_rows(Page *page, const PageRow *rows, int count) {
    if (!count)
        return;
    if (page->format == PAGE_TEXT)
        text_rows(page, rows, count);
    else if (page->format == PAGE_LATEX)
        latex_rows(page, rows, count);
    else
        html_rows(page, rows, count);
}

void page_end(Page *page) {
    if (page->format == PAGE_LATEX)
        text_add(page->out, "\\end{document}\n");
    else if (page->format == PAGE_HTML)
        text_add(page->out, "</body>\n</html>\n");
}
