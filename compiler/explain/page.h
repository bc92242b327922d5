/* A derivation on a page, in one of three formats: headings, rows of equations with shapes and places in the .bp file, and numbers. */
#ifndef BPC_EXPLAIN_PAGE_H
#define BPC_EXPLAIN_PAGE_H

#include "derivation.h"

typedef enum PageFormat { PAGE_TEXT, PAGE_LATEX, PAGE_HTML } PageFormat;

/* One line: left = middle = right, in which set, from where. Pieces are in the page's style, NULL or empty where there are none. */
typedef struct PageRow {
    const char *left, *middle, *sign, *right; /* sign: =, ←, ∈ */
    const char *set, *note, *place; /* note and place are plain text */
    bool is_value;                  /* right: numbers */
    const char *whose;              /* in the style: theta = W_fc1, … */
    int columns;                    /* of left to right, as text: how wide it is about */
} PageRow;

typedef struct Page {
    Arena *arena;
    PageFormat format;
    const MathStyle *style;
    Text *out;
} Page;

Page page_of(Arena *arena, PageFormat format, Text *out);
void page_begin(Page *page, const char *title);
void page_heading(Page *page, int level, const char *heading);
void page_words(Page *page, const char *words); /* a paragraph, plain text */
void page_rows(Page *page, const PageRow *rows, int count);
void page_end(Page *page);

/* ---- numbers.c: values as they stand on a board ------------------------------------------------------------------------- */
/* (0.1, 0.2), or rows of a matrix; of several rows of the batch one after the other. Long ones are cut in the middle. */
void evaluation_write(const MathStyle *style, const Evaluation *value, const Node *node, int digits, Text *out);

/* ---- sheet.c: the whole -------------------------------------------------------------------------------------------------- */
typedef struct ExplainRequest {
    PageFormat format;
    bool with_values;
    LIST(const char *) values; /* "x=1,2" */
    int digits;
    uint64_t seed;
    bool verify;
} ExplainRequest;

/* Writes every phase's derivation. False after an error in what was given. */
bool explain_program(const GraphProgram *program, const ExplainRequest *request, Text *out);

/* ---- values.c ---------------------------------------------------------------------------------------------------------------- */
typedef struct Example Example;
/* Reads what is given. NULL after an error: a name that is none, a wrong count, an input without values. */
Example *example_of(Arena *arena, const GraphProgram *program, const ExplainRequest *request, const GraphTrain *views, int count);
Evaluation *example_value(Example *example, Node *node);
/* What is true from now on: the parameter has its new value. */
void example_change(Example *example, Tensor *tensor, const Evaluation *value);
/* Values are computed anew from here on. */
void example_again(Example *example);

#endif
