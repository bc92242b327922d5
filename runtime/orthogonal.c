/* First values that are orthogonal: the rows of a wide matrix, or the columns of a tall one, are made vectors of length
   `gain` that stand at right angles. Saxe, McClelland & Ganguli, Exact solutions to the nonlinear dynamics of learning in
   deep linear neural networks, 2014.

   Of normal draws it is the Q of their QR decomposition whose R has a positive diagonal, which is one alone, and uniform
   among all orthogonal matrices (Mezzadri, How to generate random matrices from the classical compact groups, 2007).
   Modified Gram and Schmidt, twice, in double: twice is enough (Giraud, Langou & Rozloznik, The loss of orthogonality in the
   Gram-Schmidt orthogonalization process, 2005). Every sum has one order, so every machine makes the same bits. */
#include "runtime.h"

#include <math.h>
#include <stdlib.h>

enum { ORTHOGONAL_CHAINS = 8 };

static double orthogonal_dot(const double *a, const double *b, int64_t n) {
    double chains[ORTHOGONAL_CHAINS] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + ORTHOGONAL_CHAINS <= n; i += ORTHOGONAL_CHAINS)
        for (int j = 0; j < ORTHOGONAL_CHAINS; j++)
            chains[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        chains[i % ORTHOGONAL_CHAINS] += a[i] * b[i];
    for (int j = 0; j < ORTHOGONAL_CHAINS; j++)
        sum += chains[j];
    return sum;
}

/* vectors [count][length], count at most length */
static void orthogonal_vectors(double *vectors, int64_t count, int64_t length) {
    for (int64_t k = 0; k < count; k++) {
        double *one = vectors + k * length, size = sqrt(orthogonal_dot(one, one, length));
        for (int64_t i = 0; i < length && size > 0; i++)
            one[i] /= size;
        for (int64_t j = k + 1; j < count; j++) {
            double *other = vectors + j * length, along = orthogonal_dot(one, other, length);
            for (int64_t i = 0; i < length; i++)
                other[i] -= along * one[i];
        }
    }
}

/* Where the i-th element of a matrix stands among the vectors: the rows, or where it is tall the columns. */
static int64_t orthogonal_place(int64_t i, int64_t rows, int64_t columns) {
    return rows < columns ? i : i % columns * rows + i / columns;
}

int bp_orthogonal(const struct bp_tensor *tensor, float *stored, double gain, struct bp_error *error) {
    int64_t rows = tensor->shape[0], columns = bp_tensor_count(tensor) / rows;
    int64_t count = rows < columns ? rows : columns, length = rows < columns ? columns : rows;
    double *vectors = bp_allocate((size_t)(count * length) * sizeof *vectors, "orthogonal first values", error);
    if (!vectors)
        return 0;
    for (int64_t i = 0; i < rows * columns; i++) {
        float value;
        bp_tensor_get(tensor, stored, i, 1, &value);
        vectors[orthogonal_place(i, rows, columns)] = value;
    }
    orthogonal_vectors(vectors, count, length);
    orthogonal_vectors(vectors, count, length);
    for (int64_t i = 0; i < rows * columns; i++) {
        float value = (float)(gain * vectors[orthogonal_place(i, rows, columns)]);
        bp_tensor_put(tensor, stored, i, 1, &value);
    }
    free(vectors);
    return 1;
}
