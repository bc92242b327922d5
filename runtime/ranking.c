/* Areas under curves and greatest values: what no sum over the rows tells. */
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ranking_row {
    float score;
    int32_t positive;
};

/* Down into the heap rows[0 .. count), whose root is the greatest. */
static void ranking_sink(struct ranking_row *rows, int64_t count, int64_t at) {
    const struct ranking_row row = rows[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && rows[child + 1].score > rows[child].score;
        if (rows[child].score <= row.score)
            break;
        rows[at] = rows[child];
    }
    rows[at] = row;
}

/* By ascending score, in place: qsort would allocate in every epoch. Ties may lie in any order. (Williams, Heapsort, 1964) */
static void ranking_sort(struct ranking_row *rows, int64_t count) {
    for (int64_t at = count / 2; at-- > 0;)
        ranking_sink(rows, count, at);
    while (count-- > 1) {
        const struct ranking_row greatest = rows[0];
        rows[0] = rows[count];
        rows[count] = greatest;
        ranking_sink(rows, count, 0);
    }
}

/* The chance that a positive row has a higher score than a negative one, ties counting half (Mann and Whitney, On a test
   of whether one of two random variables is stochastically larger, 1947): from the sum of the positive rows' ranks. */
static double ranking_roc(const struct ranking_row *rows, int64_t count, double positives, double negatives) {
    double ranks = 0;
    for (int64_t first = 0, end; first < count; first = end) {
        double here = 0;
        for (end = first; end < count && rows[end].score == rows[first].score; end++)
            here += rows[end].positive;
        ranks += here * ((double)(first + 1 + end) / 2);
    }
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives);
}

/* Average precision: over the scores from the highest down, the precision there times the recall gained. */
static double ranking_pr(const struct ranking_row *rows, int64_t count, double positives) {
    double found = 0, area = 0;
    for (int64_t end = count, first; end > 0; end = first) {
        double here = 0;
        for (first = end; first > 0 && rows[first - 1].score == rows[end - 1].score; first--)
            here += rows[first - 1].positive;
        found += here;
        area += here / positives * (found / (double)(count - first));
    }
    return area;
}

/* rows: [count], for the order */
static double ranking_area(enum bp_ranking_kind kind, const float *scores, const float *truths, int64_t count,
                           struct ranking_row *rows) {
    double positives = 0, area = (double)NAN;
    int64_t numbers = 0;
    for (int64_t i = 0; i < count; i++) {
        rows[i] = (struct ranking_row){scores[i], truths[i] > 0.5F};
        positives += rows[i].positive;
        numbers += !isnan(scores[i]);
    }
    if (numbers == count && positives > 0 && positives < (double)count) {
        ranking_sort(rows, count);
        area = kind == BP_RANKING_ROC ? ranking_roc(rows, count, positives, (double)count - positives)
                                      : ranking_pr(rows, count, positives);
    }
    return area;
}

double bp_ranking_area(enum bp_ranking_kind kind, const float *scores, const float *truths, int64_t count,
                       struct bp_error *error) {
    struct ranking_row *rows = bp_allocate(((size_t)count + 1) * sizeof *rows, "the order of the rows", error);
    double area = rows == NULL ? -1 : ranking_area(kind, scores, truths, count, rows);
    free(rows);
    return area;
}

/* NaN where one is, or where there are none. */
static double ranking_greatest(const float *scores, int64_t count) {
    double greatest = count ? (double)scores[0] : (double)NAN;
    for (int64_t i = 1; i < count && !isnan(greatest); i++)
        if (isnan(scores[i]) || (double)scores[i] > greatest)
            greatest = (double)scores[i];
    return greatest;
}

/* ---- While a pass runs ------------------------------------------------------------------------------------------- */
int bp_rankings_start(struct bp_rankings *rankings, struct bp_instance *instance, const struct bp_measure *measure,
                      int64_t rows, struct bp_error *error) {
    int32_t count = 0;
    memset(rankings, 0, sizeof *rankings);
    rankings->instance = instance;
    rankings->rows = rows;
    for (int32_t i = 0; i < measure->pass_count; i++)
        if (measure->passes[i].ranking_count > count)
            count = measure->passes[i].ranking_count;
    if (count == 0)
        return 1;
    rankings->values =
        bp_allocate((size_t)rows * 2 * (size_t)count * sizeof *rankings->values, "the scores of all rows", error);
    rankings->order = bp_allocate(((size_t)rows + 1) * sizeof *rankings->order, "the order of the rows", error);
    return rankings->values != NULL && rankings->order != NULL;
}

int bp_rankings_take(void *argument, int64_t place, int64_t rows) {
    struct bp_rankings *rankings = argument;
    for (int32_t i = 0; i < rankings->pass->ranking_count; i++) {
        const struct bp_ranking *ranking = &rankings->pass->rankings[i];
        float *to = rankings->values + 2 * i * rankings->rows + place;
        memcpy(to, rankings->instance->memory + ranking->scores_offset, (size_t)rows * sizeof *to);
        memcpy(to + rankings->rows, rankings->instance->memory + ranking->truths_offset, (size_t)rows * sizeof *to);
    }
    return 1;
}

void bp_rankings_finish(struct bp_rankings *rankings, double *totals) {
    for (int32_t i = 0; i < rankings->pass->ranking_count; i++) {
        const struct bp_ranking *ranking = &rankings->pass->rankings[i];
        const float *scores = rankings->values + 2 * i * rankings->rows;
        totals[ranking->total] =
            ranking->kind == BP_RANKING_GREATEST
                ? ranking_greatest(scores, rankings->rows)
                : ranking_area(ranking->kind, scores, scores + rankings->rows, rankings->rows, rankings->order);
    }
}

void bp_rankings_free(struct bp_rankings *rankings) {
    free(rankings->values);
    free(rankings->order);
    memset(rankings, 0, sizeof *rankings);
}
