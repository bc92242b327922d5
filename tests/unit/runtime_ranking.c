/* Areas under curves, against hand-made values and against counting every pair. */
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <math.h>

static double area(enum bp_ranking_kind kind, const float *scores, const float *truths, int64_t count) {
    struct bp_error error;
    return bp_ranking_area(kind, scores, truths, count, &error);
}

/* scikit-learn's own example: scores .1 .4 .35 .8 of 0 0 1 1: three of four pairs in order; from the highest score down,
   precision 1 at recall 1/2, then 2/3 at recall 1: (1 + 2/3) / 2. */
Test(ranking, four_rows) {
    static const float scores[] = {0.1F, 0.4F, 0.35F, 0.8F}, truths[] = {0, 0, 1, 1};
    cr_expect_eq(area(BP_RANKING_ROC, scores, truths, 4), 0.75);
    cr_expect_float_eq(area(BP_RANKING_PR, scores, truths, 4), 5.0 / 6, 1e-15);
}

Test(ranking, ties_count_half) {
    static const float scores[] = {1, 1, 1, 1, 1}, truths[] = {0, 1, 1, 0, 1};
    cr_expect_eq(area(BP_RANKING_ROC, scores, truths, 5), 0.5);
    cr_expect_float_eq(area(BP_RANKING_PR, scores, truths, 5), 0.6, 1e-15); /* one step: the share of positives */
}

Test(ranking, where_there_is_none) {
    static const float scores[] = {1, 2, 3}, all[] = {1, 1, 1}, none[] = {0, 0, 0}, some[] = {0, 1, 1};
    const float broken[] = {1, NAN, 3};
    cr_expect(isnan(area(BP_RANKING_ROC, scores, all, 3)) && isnan(area(BP_RANKING_PR, scores, none, 3)));
    cr_expect(isnan(area(BP_RANKING_ROC, broken, some, 3)));
}

Test(ranking, as_every_pair_says) {
    enum { ROWS = 300 };
    float scores[ROWS], truths[ROWS];
    for (int i = 0; i < ROWS; i++) {
        scores[i] = (float)(bp_random(5, 1, (uint64_t)i, 0) % 40); /* many ties */
        truths[i] = (float)(bp_random(5, 2, (uint64_t)i, 0) % 3 == 0);
    }
    double won = 0, pairs = 0;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < ROWS; j++)
            if (truths[i] > truths[j]) {
                pairs++;
                won += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
            }
    cr_expect_float_eq(area(BP_RANKING_ROC, scores, truths, ROWS), won / pairs, 1e-12);
}
