/* Values as they stand on a board: numbers, vectors in parentheses, matrices row by row. */
#include "page.h"

#include <string.h>

enum { LONGEST = 16, HEAD = 8, TAIL = 2 }; /* what is longer is cut in the middle */

static void write_cut(const MathStyle *style, const double *x, int64_t count, int digits, const char *between, Text *out) {
    for (int64_t i = 0; i < count; i++) {
        if (i)
            style->sign(out, between);
        if (count > LONGEST && i == HEAD) {
            style->sign(out, "…");
            i = count - TAIL - 1;
            continue;
        }
        number_write(style, x[i], digits, out);
    }
}

/* The rows of a matrix, of `columns` numbers. */
static void write_matrix(const MathStyle *style, const double *x, int64_t rows, int64_t columns, int digits, Text *out) {
    style->sign(out, "[");
    for (int64_t i = 0; i < rows; i++) {
        if (i)
            style->sign(out, "; ");
        if (rows > LONGEST && i == HEAD) {
            style->sign(out, "…");
            i = rows - TAIL - 1;
            continue;
        }
        write_cut(style, x + i * columns, columns, digits, ", ", out);
    }
    style->sign(out, "]");
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
            write_cut(style, x, value->elements, digits, ", ", out);
            style->close(out, BOX_PARENTHESES);
        } else {
            int64_t columns = node->dims[node->rank - 1];
            write_matrix(style, x, value->elements / columns, columns, digits, out);
        }
    }
}
