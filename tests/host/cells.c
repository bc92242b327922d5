/* A host of cells.bp. `./cells train FILE`: the updates of the program's own run, then predictions on standard output
   as `predict` writes them. `./cells fail DIRECTORY`: what goes wrong is told, and changes nothing. */
#include "cells.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 10, EPOCHS = 6, BATCH = 4, BATCHES = 3 };

static const struct cells_input x[ROWS] = {
    {1.5F, 2.0F, CELLS_KIND_B},   {NAN, 4.25F, CELLS_KIND_A},  {3.25F, 8.5F, CELLS_KIND_C}, {2.75F, 1.5F, CELLS_KIND_B},
    {9.0F, 16.0F, CELLS_KIND_A},  {0.25F, 3.0F, -1},           {4.5F, 2.25F, CELLS_KIND_C}, {NAN, 6.0F, CELLS_KIND_B},
    {5.75F, 1.25F, CELLS_KIND_A}, {7.5F, 12.0F, CELLS_KIND_C},
};
static const struct cells_target y[ROWS] = {
    {0.5F, CELLS_LABEL_NO},  {1.25F, CELLS_LABEL_YES},  {-2.0F, CELLS_LABEL_YES}, {0.0F, CELLS_LABEL_NO},
    {3.5F, CELLS_LABEL_YES}, {1.0F, CELLS_LABEL_NO},    {-1.5F, CELLS_LABEL_YES}, {2.0F, CELLS_LABEL_NO},
    {0.75F, CELLS_LABEL_NO}, {-0.25F, CELLS_LABEL_YES},
};

static int failures;

static void must(int done, const char *what) {
    if (done)
        return;
    failures++;
    printf("not so: %s (%s)\n", what, cells_error());
}

/* ---- As the program trains
 * -------------------------------------------------------------------------------------------- */
static struct cells *trained(void) {
    struct cells *network = cells_create(5);
    must(network != NULL, "create");
    must(!cells_threads(network, 2), "threads");
    must(!cells_fit(network, x, y, ROWS), "fit");
    must(!cells_plan(network, EPOCHS * BATCHES, BATCHES), "plan");
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        double loss = 0;
        if (epoch % 2 == 0) /* all rows at once, or an update a call */
            must(!cells_train_step(network, x, y, ROWS, &loss), "train_step");
        for (int row = 0; epoch % 2 == 1 && row < ROWS; row += BATCH)
            must(!cells_train_step(network, x + row, y + row, row + BATCH > ROWS ? ROWS - row : BATCH, &loss),
                 "train_step");
        must(loss > 0 && loss < 10, "a loss");
    }
    return network;
}

static int train(const char *path) {
    static const char *const names[] = CELLS_LABEL_NAMES;
    struct cells *network = trained();
    struct cells_output out[ROWS];
    must(!cells_save(network, path), "save");
    must(!cells_predict(network, x, ROWS, out), "predict");
    for (int i = 0; i < ROWS; i++)
        printf("%.9g,%s,%.9g,%.9g\n", (double)out[i].score, names[out[i].label], (double)out[i].label_probability[0],
               (double)out[i].label_probability[1]);
    cells_destroy(network);
    return failures > 0;
}

/* ---- What goes wrong
 * ------------------------------------------------------------------------------------------------------ */
static struct cells_output before[ROWS];

static void says(struct cells *network, int result, const char *words) {
    struct cells_output after[ROWS];
    must(result == -1, words);
    must(strstr(cells_error(), words) != NULL, words);
    must(!cells_predict(network, x, ROWS, after), "predict after a failure");
    must(memcmp(before, after, sizeof before) == 0, "nothing is changed by a failure");
}

static int fail(const char *directory) {
    char path[4096];
    struct cells *network = cells_create(1), *other = trained();
    struct cells_input bad[ROWS];
    struct cells_target wild[ROWS];
    struct cells_output spoilt[ROWS];
    double loss;
    must(cells_predict(network, x, ROWS, before) == -1 && strstr(cells_error(), "fit"), "predict before fit");
    must(cells_train_step(network, x, y, ROWS, NULL) == -1 && strstr(cells_error(), "fit"), "train before fit");
    snprintf(path, sizeof path, "%s/early.safetensors", directory);
    must(cells_save(network, path) == -1 && strstr(cells_error(), "fit"), "save before fit");
    must(!cells_fit(network, x, y, ROWS), "fit");
    must(!cells_train_step(network, x, y, ROWS, NULL), "train");
    must(!cells_predict(network, x, ROWS, before), "predict");

    says(network, cells_threads(network, 0), "0 threads");
    says(network, cells_set(network, "pace", 1), "has no param 'pace'");
    says(network, cells_set(network, "rate", NAN), "not finite");
    says(network, cells_plan(network, 0, 1), "must be 1 or more");
    says(network, cells_train_step(network, NULL, y, ROWS, &loss), "no rows");
    says(network, cells_train_step(network, x, y, 0, &loss), "no rows");
    says(network, cells_predict(network, x, ROWS, NULL), "no rows");
    says(network, cells_fit(network, x, y, 0), "no rows");
    memcpy(bad, x, sizeof bad);
    bad[2].size = NAN;
    says(network, cells_train_step(network, bad, y, BATCH, &loss), "row 3: 'size' is missing");
    bad[2].size = INFINITY;
    says(network, cells_predict(network, bad, ROWS, spoilt), "row 3: 'size' is infinite");
    bad[2].size = -1;
    says(network, cells_train_step(network, bad, y, BATCH, &loss), "log needs numbers above 0");
    bad[2].size = 1;
    bad[3].kind = 3;
    says(network, cells_train_step(network, bad, y, BATCH, &loss), "row 4: 'kind' is category 3 of 3");
    memcpy(wild, y, sizeof wild);
    wild[1].score = 1e38F;
    says(network, cells_train_step(network, x, wild, BATCH, &loss), "is not finite");
    snprintf(path, sizeof path, "%s/none/there.safetensors", directory);
    says(network, cells_save(network, path), "there.safetensors");
    says(network, cells_load(network, path), "there.safetensors");
    snprintf(path, sizeof path, "%s/damaged.safetensors", directory);
    says(network, cells_load(network, path), "damaged.safetensors");
    snprintf(path, sizeof path, "%s/broken.safetensors", directory);
    says(network, cells_load(network, path), "not finite");

    snprintf(path, sizeof path, "%s/whole.safetensors", directory);
    must(!cells_save(other, path), "save");
    must(!cells_load(network, path), "load");
    must(!cells_set(network, "rate", 0.5), "set");
    cells_destroy(other);
    cells_destroy(network);
    cells_destroy(NULL);
    return failures > 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "train") == 0)
        return train(argv[2]);
    if (argc == 3 && strcmp(argv[1], "fail") == 0)
        return fail(argv[2]);
    return 2;
}
