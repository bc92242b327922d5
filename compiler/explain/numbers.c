/* Values as they stand on a board: numbers, vectors in parentheses, matrices row by row. */
#include "page.h"

#include <string.h>

enum { LONGEST = 16, HEAD = 8, TAIL = 2 }; /* what is longer is cut in the middle */

/* Which comes after i, where some are left out; *cut: an ellipsis stands before it. */
static int64_t following(int64_t i, int64_t count, bool *cut) {
    *cut = count > LONGEST && i + 1 == HEAD;
    return *cut ? count - TAIL : i + 1;
}

static void write_line(const MathStyle *style, const double *x, int64_t count, int digits, bool in_matrix, Text *out) {
    bool cut = false, cells = in_matrix && !style->linear;
    for (int64_t i = 0; i < count; i = following(i, count, &cut))
        for (int ellipsis = cut; ellipsis >= 0; ellipsis--) {
            if (i && cells)
                style->next(out, BOX_CASES);
            else if (i)
                style->sign(out, ", ");
            if (ellipsis)
                style->sign(out, "…");
            else
                number_write(style, x[i], digits, out);
        }
}

static void write_matrix(const MathStyle *style, const double *x, int64_t rows, int64_t columns, int digits,
                         Text *out) {
    bool cut = false;
    style->open(out, BOX_MATRIX);
    for (int64_t i = 0; i < rows; i = following(i, rows, &cut)) {
        if (i)
            style->next(out, BOX_ROW);
        if (cut) {
            style->sign(out, "…");
            style->next(out, BOX_ROW);
        }
        write_line(style, x + i * columns, columns, digits, true, out);
    }
    style->close(out, BOX_MATRIX);
}

void evaluation_write(const MathStyle *style, const Evaluation *value, const Node *node, int digits, Text *out) {
    for (int64_t row = 0; row < value->rows; row++) {
        const double *x = value->values + row * value->elements;
        if (row)
            style->sign(out, "; ");
        if (node->rank == 0 || value->elements == 1) {
            number_write(style, x[0], digits, out);
        } else if (node->rank == 1) {
            style->open(out, BOX_PARENTHESES);
            write_line(style, x, value->elements, digits, false, out);
            style->close(out, BOX_PARENTHESES);
        } else {
            int64_t columns = node->dims[node->rank - 1];
            write_matrix(style, x, value->elements / columns, columns, digits, out);
        }
    }
}
