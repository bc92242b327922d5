/* Which row trains, which validates, which tests: a function of the split's seed and the row alone. */
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SPLIT_KINDS = 4, SPLIT_UNUSED = 3 }; /* train, validation, test, and what the shares leave */

struct split_row {
    int64_t row, stratum;
    double value; /* what strata are told apart by */
    uint64_t draw;
    uint64_t turn; /* the least draw of its stratum: no stratum is served first for the value it has */
};

static int split_by_value(const void *left, const void *right) {
    const struct split_row *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

static int split_by_draw(const void *left, const void *right) {
    const struct split_row *a = left, *b = right;
    if (a->turn != b->turn)
        return a->turn < b->turn ? -1 : 1;
    if (a->stratum != b->stratum)
        return a->stratum < b->stratum ? -1 : 1;
    if (a->draw != b->draw)
        return a->draw < b->draw ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Whole numbers that sum to `total`, each share's product rounded down or up: the largest remainders go up, ties to the
 * first. */
static void split_counts(int64_t total, const double shares[SPLIT_KINDS], int64_t counts[SPLIT_KINDS]) {
    double remainders[SPLIT_KINDS];
    int64_t left = total;
    for (int kind = 0; kind < SPLIT_KINDS; kind++) {
        double exact = (double)total * shares[kind];
        double whole = floor(exact + 1e-9); /* 0.7 of 10 is 7, whatever 0.7 is in binary */
        remainders[kind] = exact - whole > 1e-9 ? exact - whole : 0;
        counts[kind] = (int64_t)whole;
        left -= counts[kind];
    }
    while (left > 0) {
        int best = -1;
        for (int kind = 0; kind < SPLIT_KINDS; kind++)
            if (shares[kind] > 0 && (best < 0 || remainders[kind] > remainders[best] + 1e-9))
                best = kind;
        counts[best]++;
        remainders[best] -= 1;
        left--;
    }
}

/* Deals one stratum of `size` rows out. Every kind gets its share rounded down; each row that is left goes to the kind
   that the whole split still owes most (`owed`, beyond the strata's whole parts), then to the largest remainder. */
static void split_stratum(int64_t size, const double shares[SPLIT_KINDS], int64_t owed[SPLIT_KINDS],
                          int64_t counts[SPLIT_KINDS]) {
    double remainders[SPLIT_KINDS];
    int64_t left = size;
    int taken[SPLIT_KINDS] = {0};
    for (int kind = 0; kind < SPLIT_KINDS; kind++) {
        double exact = (double)size * shares[kind], whole = floor(exact + 1e-9);
        counts[kind] = (int64_t)whole;
        remainders[kind] = exact - whole;
        left -= counts[kind];
    }
    for (; left > 0; left--) {
        int best = -1;
        for (int kind = 0; kind < SPLIT_KINDS; kind++) {
            if (taken[kind] || shares[kind] <= 0)
                continue;
            if (best < 0 || owed[kind] > owed[best] ||
                (owed[kind] == owed[best] && remainders[kind] > remainders[best] + 1e-9))
                best = kind;
        }
        if (best < 0) /* only by rounding of the shares themselves */
            best = 0;
        taken[best] = 1;
        owed[best]--;
        counts[best]++;
    }
}

/* What every stratum's whole parts leave of the overall counts. */
static void split_owed(const struct split_row *rows, int64_t count, const double shares[SPLIT_KINDS],
                       int64_t owed[SPLIT_KINDS]) {
    split_counts(count, shares, owed);
    for (int64_t start = 0, end; start < count; start = end) {
        for (end = start; end < count && rows[end].stratum == rows[start].stratum;)
            end++;
        for (int kind = 0; kind < SPLIT_KINDS; kind++)
            owed[kind] -= (int64_t)floor((double)(end - start) * shares[kind] + 1e-9);
    }
}

/* rows: stratum by stratum. Writes the part of each into `parts`. */
static void split_deal(const struct split_row *rows, int64_t count, const double shares[SPLIT_KINDS], uint8_t *parts) {
    int64_t owed[SPLIT_KINDS];
    split_owed(rows, count, shares, owed);
    for (int64_t start = 0, end; start < count; start = end) {
        for (end = start; end < count && rows[end].stratum == rows[start].stratum;)
            end++;
        int64_t counts[SPLIT_KINDS], at = start;
        split_stratum(end - start, shares, owed, counts);
        for (int kind = 0; kind < SPLIT_KINDS; kind++)
            for (int64_t i = 0; i < counts[kind] && at < end; i++)
                parts[rows[at++].row] = (uint8_t)kind;
    }
}

/* Numbers the strata by their values, a missing value last. */
static void split_number_strata(const struct bp_raw *raw, struct split_row *rows, int64_t count) {
    int32_t column = raw->data->stratify;
    if (column < 0)
        return;
    for (int64_t i = 0; i < count; i++)
        rows[i].value = raw->missing[column][rows[i].row] ? (double)INFINITY : raw->values[column][rows[i].row];
    qsort(rows, (size_t)count, sizeof *rows, split_by_value);
    for (int64_t i = 1; i < count; i++)
        rows[i].stratum = rows[i - 1].stratum + (rows[i].value != rows[i - 1].value);
}

static void split_order(struct split_row *rows, int64_t count) {
    qsort(rows, (size_t)count, sizeof *rows, split_by_draw);
    for (int64_t i = 0; i < count; i++)
        rows[i].turn = i > 0 && rows[i].stratum == rows[i - 1].stratum ? rows[i - 1].turn : rows[i].draw;
    qsort(rows, (size_t)count, sizeof *rows, split_by_draw);
}

/* Deals the rows that belong to `pool` so far out by the shares. */
static int split_pool(const struct bp_raw *raw, enum bp_part pool, const double shares[SPLIT_KINDS], uint8_t *parts,
                      struct bp_error *error) {
    int64_t count = 0;
    struct split_row *rows = bp_allocate(sizeof *rows * (size_t)raw->rows, "splitting the data", error);
    if (rows == NULL)
        return 0;
    for (int64_t row = 0; row < raw->rows; row++)
        if (parts[row] == (uint8_t)pool)
            rows[count++] =
                (struct split_row){row, 0, 0, bp_random(raw->data->split_seed, BP_STREAM_SPLIT, (uint64_t)row, 0), 0};
    split_number_strata(raw, rows, count);
    split_order(rows, count);
    split_deal(rows, count, shares, parts);
    for (int part = BP_TRAIN; part <= BP_TEST; part++) {
        static const char *const names[] = {"training", "validation", "test"};
        int64_t in_part = 0;
        for (int64_t i = 0; i < count; i++)
            in_part += parts[rows[i].row] == part;
        if (in_part == 0 && shares[part] > 0) {
            bp_fail(error, "the %s part of '%s' is empty: %.4g of %lld rows", names[part], raw->data->name,
                    shares[part], (long long)count);
            free(rows);
            return 0;
        }
    }
    free(rows);
    return 1;
}

/* 1: the shares, complete; 0: none are asked for; -1: an error. */
static int split_shares(const struct bp_data *data, double shares[SPLIT_KINDS], struct bp_error *error) {
    shares[BP_TRAIN] = data->train;
    shares[BP_VALIDATION] = data->validation;
    shares[BP_TEST] = data->test;
    double rest = 1 - (data->train + data->validation + data->test);
    shares[SPLIT_UNUSED] = rest > 1e-9 ? rest : 0;
    if (data->train < 0 || data->validation < 0 || data->test < 0 || !(rest >= -1e-9)) {
        bp_fail(error, "the split of '%s' adds up to more than 1", data->name);
        return -1;
    }
    if (data->train <= 0) {
        shares[BP_TRAIN] = shares[SPLIT_UNUSED];
        shares[SPLIT_UNUSED] = 0;
    }
    return data->train > 0 || data->validation > 0 || data->test > 0;
}

static int split_collect(const uint8_t *parts, int64_t rows, struct bp_table *table, struct bp_error *error) {
    for (int part = BP_TRAIN; part <= BP_ALL; part++) {
        int64_t count = 0;
        for (int64_t row = 0; row < rows; row++)
            count += part == BP_ALL || parts[row] == part;
        int64_t *list = bp_allocate(sizeof *list * (size_t)count, "the rows of a part", error);
        if (list == NULL)
            return 0;
        table->parts[part] = list;
        table->part_rows[part] = count;
        for (int64_t row = 0; row < rows; row++)
            if (part == BP_ALL || parts[row] == part)
                *list++ = row;
    }
    return 1;
}

/* Every K-th row of the order is a fold's, so that folds differ by one row at most, in each stratum too. */
static int split_fold(const struct bp_raw *raw, int32_t fold, uint8_t *parts, struct bp_error *error) {
    const struct bp_data *data = raw->data;
    const double shares[SPLIT_KINDS] = {1 - data->validation, data->validation, 0, 0};
    struct split_row *rows = bp_allocate(sizeof *rows * (size_t)raw->rows, "splitting the data", error);
    if (rows == NULL)
        return 0;
    if (raw->rows < data->folds) {
        free(rows);
        return bp_fail(error, "'%s' has %lld rows, too few for %d folds", data->name, (long long)raw->rows,
                       (int)data->folds);
    }
    for (int64_t row = 0; row < raw->rows; row++)
        rows[row] = (struct split_row){row, 0, 0, bp_random(data->split_seed, BP_STREAM_SPLIT, (uint64_t)row, 0), 0};
    split_number_strata(raw, rows, raw->rows);
    split_order(rows, raw->rows);
    for (int64_t i = 0; i < raw->rows; i++)
        parts[rows[i].row] = i % data->folds == fold ? BP_TEST : BP_TRAIN;
    free(rows);
    return data->validation <= 0 || split_pool(raw, BP_TRAIN, shares, parts, error);
}

int bp_split_rows(const struct bp_raw *raw, int32_t fold, struct bp_table *table, struct bp_error *error) {
    double shares[SPLIT_KINDS];
    int asked = split_shares(raw->data, shares, error);
    if (asked < 0)
        return 0;
    uint8_t *parts = bp_allocate((size_t)raw->rows, "splitting the data", error);
    if (parts == NULL)
        return 0;
    int any_open = 0;
    for (int64_t row = 0; row < raw->rows; row++) {
        parts[row] = raw->parts[row];
        any_open |= parts[row] == BP_ALL;
    }
    int done = 1;
    if (raw->data->folds > 0)
        done = split_fold(raw, fold, parts, error);
    else if (asked)
        done = split_pool(raw, any_open ? BP_ALL : BP_TRAIN, shares, parts, error);
    else
        for (int64_t row = 0; row < raw->rows; row++)
            if (parts[row] == BP_ALL)
                parts[row] = BP_TRAIN;
    done = done && split_collect(parts, raw->rows, table, error);
    free(parts);
    return done;
}

/* FNV-1a over the rows of each part. */
uint64_t bp_table_split_hash(const struct bp_table *table) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int part = BP_TRAIN; part <= BP_TEST; part++)
        for (int64_t i = -1; i < table->part_rows[part]; i++) {
            uint64_t word = (uint64_t)(i < 0 ? table->part_rows[part] : table->parts[part][i]);
            for (int byte = 0; byte < 8; byte++, word >>= 8)
                hash = (hash ^ (word & 0xff)) * UINT64_C(0x100000001b3);
        }
    return hash;
}
