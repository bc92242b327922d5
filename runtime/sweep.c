/* A function over many rows, batch by batch: the inner loop of training, measuring and predicting. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sweep_run {
    struct bp_sweep *sweep;
    struct bp_context context;
    int64_t place; /* where the batch begins in `order` */
    int stop;      /* this and the place are written by thread 0 between two barriers */
};

/* Rows [low, high) of the batch that begins at `order`, four bytes an element. */
static void sweep_copy(int ascending_by_one, const int64_t *order, const void *from, void *to, int64_t width,
                       int64_t low, int64_t high) {
    const uint32_t *source = from;
    uint32_t *target = to;
    if (ascending_by_one) {
        memcpy(target + low * width, source + (order[0] + low) * width,
               (size_t)((high - low) * width) * sizeof *target);
        return;
    }
    for (int64_t row = low; row < high; row++) {
        const uint32_t *at = source + order[row] * width;
        if (width > 16)
            memcpy(target + row * width, at, (size_t)width * sizeof *target);
        else
            for (int64_t i = 0; i < width; i++)
                target[row * width + i] = at[i];
    }
}

static void sweep_widen(const int64_t *order, const float *from, double *to, int64_t width, int64_t low, int64_t high) {
    for (int64_t row = low; row < high; row++)
        for (int64_t i = 0; i < width; i++)
            to[row * width + i] = (double)from[order[row] * width + i];
}

/* Where a feed's rows come from: row b of the batch is row order[b] of `from`, [][width]. */
struct sweep_source {
    const void *from;
    int64_t width;
    const int64_t *order;
    int ascending_by_one;
    const int64_t *starts; /* of rows of different lengths, else NULL */
};

static struct sweep_source sweep_source(const struct sweep_run *run, const struct bp_feed *feed) {
    const struct bp_sweep *sweep = run->sweep;
    const struct bp_data *data = sweep->table->data;
    struct sweep_source source = {NULL, 0, sweep->order + run->place, sweep->ascending_by_one, NULL};
    if (feed->slot < data->slot_count) {
        source.from = sweep->table->slots[feed->slot];
        source.width = data->slots[feed->slot].width;
        if (sweep->table->starts)
            source.starts = sweep->table->starts[feed->slot];
        return source;
    }
    const struct bp_kept *kept = sweep->kept;
    int32_t index = feed->slot - kept->prefix->first_slot;
    source.width = kept->prefix->values[index].width;
    if (kept->values) {
        source.from = kept->values[index];
    } else { /* of this batch alone */
        source.from = sweep->memory + kept->prefix->values[index].offset;
        source.order = kept->numbers;
        source.ascending_by_one = 1;
    }
    return source;
}

/* Rows of different lengths, filled up with -1 or 0. */
static void sweep_unpack(const struct sweep_source *source, const struct bp_feed *feed, enum bp_slot_form form,
                         int64_t low, int64_t high, void *to) {
    const int32_t *places = source->from;
    const float *counts = source->from;
    for (int64_t row = low; row < high; row++) {
        const int64_t *starts = source->starts + source->order[row], first = starts[0], count = starts[1] - first;
        for (int64_t i = 0; i < source->width; i++) {
            int64_t at = feed->layout == BP_PANELS
                             ? (i / BP_PANEL_LANES * feed->stride + row) * BP_PANEL_LANES + i % BP_PANEL_LANES
                             : row * source->width + i;
            if (form == BP_SLOT_WORDS)
                ((int32_t *)to)[at] = i < count ? places[first + i] : -1;
            else if (feed->type == BP_F64)
                ((double *)to)[at] = i < count ? (double)counts[first + i] : 0;
            else
                ((float *)to)[at] = i < count ? counts[first + i] : 0;
        }
        for (int64_t i = source->width; feed->layout == BP_PANELS && i % BP_PANEL_LANES != 0; i++)
            ((float *)to)[(i / BP_PANEL_LANES * feed->stride + row) * BP_PANEL_LANES + i % BP_PANEL_LANES] = 0;
    }
}

/* Rows [low, high) of the source, if any, as the feed has them. */
static void sweep_rows(const struct bp_sweep *sweep, const struct bp_feed *feed, const struct sweep_source *source,
                       int64_t low, int64_t high, void *to) {
    if (low >= high)
        return;
    if (source->starts)
        sweep_unpack(source, feed, sweep->table->data->slots[feed->slot].form, low, high, to);
    else if (feed->layout == BP_PANELS)
        bp_feed_panels(feed, source->from, source->width, source->order, low, high, to);
    else if (feed->type == BP_F64)
        sweep_widen(source->order, source->from, to, source->width, low, high);
    else
        sweep_copy(source->ascending_by_one, source->order, source->from, to, source->width, low, high);
}

/* The same of each row's partner: the row after it, and of the batch's last the first. */
static void sweep_partners(const struct bp_sweep *sweep, const struct bp_feed *feed, const struct sweep_source *source,
                           int64_t rows, int64_t low, int64_t high, char *to) {
    struct sweep_source next = *source;
    int64_t place = (feed->layout == BP_PANELS ? BP_PANEL_LANES : source->width) * (rows - 1);
    next.order++;
    sweep_rows(sweep, feed, &next, low, high < rows ? high : rows - 1, to);
    if (low < high && high == rows)
        sweep_rows(sweep, feed, source, 0, 1, to + place * (feed->type == BP_F64 ? 8 : 4));
}

/* This thread's share of the batch's rows, into the feeds; all of them where a feed is its own. */
static void sweep_gather(const struct sweep_run *run, const struct bp_function *function, int32_t thread,
                         int32_t threads) {
    const struct bp_sweep *sweep = run->sweep;
    if (sweep->function->feed_count == 0)
        return;
    int64_t rows = run->context.rows, first = 0, last = rows;
    if (threads > 1) {
        first = rows * thread / threads;
        last = rows * (thread + 1) / threads;
    }
    for (int32_t i = 0; i < function->feed_count; i++) {
        const struct bp_feed *feed = &function->feeds[i];
        struct sweep_source source = sweep_source(run, feed);
        char *to = sweep->memory + feed->offset;
        int64_t low = first, high = last;
        if (feed->own) {
            to = sweep->memory + feed->offset + (uint64_t)thread * sweep->instance->program->scratch_bytes;
            low = 0;
            high = rows;
        }
        if (feed->partner)
            sweep_partners(sweep, feed, &source, rows, low, high, to);
        else
            sweep_rows(sweep, feed, &source, low, high, to);
    }
}

/* The batch at run->place. A bench goes round: past the last row it starts over. */
static void sweep_prepare(struct sweep_run *run, int64_t batch) {
    struct bp_sweep *sweep = run->sweep;
    double *scalars = (double *)(void *)sweep->memory;
    if (run->place >= sweep->rows)
        run->place = 0;
    int64_t left = sweep->rows - run->place, rows = left < sweep->batch ? left : sweep->batch;
    run->context.rows = rows;
    run->context.position = sweep->training ? 0 : run->place;
    run->context.step = sweep->training ? sweep->step + (uint64_t)(batch - sweep->first) : 0;
    scalars[BP_SCALAR_ROWS] = (double)rows;
    if (sweep->training)
        scalars[BP_SCALAR_STEP] = (double)run->context.step;
}

/* Adds the batch's sums; 0 when one is not finite and the caller wants to look first. */
static int sweep_add(struct bp_sweep *sweep) {
    const float *sums = (const float *)(const void *)(sweep->memory + sweep->sums_offset);
    int finite = 1;
    for (int32_t i = 0; sweep->last_sums && i < sweep->sum_count; i++) {
        sweep->last_sums[i] = (double)sums[i];
        finite = finite && isfinite(sums[i]);
    }
    for (int32_t i = 0; finite && i < sweep->sum_count; i++)
        sweep->totals[i] += (double)sums[i];
    return finite;
}

/* On thread 0, while the others wait: feeds and sums may share memory, so nobody gathers meanwhile. */
static int sweep_finish(struct sweep_run *run, int64_t batch) {
    struct bp_sweep *sweep = run->sweep;
    sweep->done = batch;
    sweep->end = BP_SWEEP_NOT_FINITE;
    if (!sweep_add(sweep))
        return 1;
    sweep->done = batch + 1;
    sweep->end = BP_SWEEP_FAILED;
    if (sweep->after && !sweep->after(sweep->argument, run->place, run->context.rows))
        return 1;
    sweep->end = BP_SWEEP_INTERRUPTED;
    if (bp_interrupted())
        return 1;
    sweep->end = BP_SWEEP_DONE;
    if (sweep->done == sweep->last)
        return 1;
    run->place += sweep->batch;
    sweep_prepare(run, batch + 1);
    return 0;
}

/* The prefix, where its values are wanted and not there. */
static const struct bp_function *sweep_before(const struct bp_sweep *sweep) {
    const struct bp_table *table = sweep->table; /* NULL: what is drawn is all there is */
    int wanted = sweep->kept && table && !sweep->kept->values && bp_reads_kept(sweep->function, table->data);
    return wanted ? &sweep->kept->prefix->function : NULL;
}

/* What is not made for threads is left to the first. */
static void sweep_code(struct sweep_run *run, bp_code *code, int32_t parallel, int32_t thread, int32_t threads) {
    if (parallel || threads == 1) {
        code(&run->context, thread, threads);
    } else if (thread == 0) {
        struct bp_context alone = run->context;
        alone.team = NULL;
        code(&alone, 0, 1);
    }
}

/* One batch, from its rows to a barrier behind the function. */
static void sweep_call(struct sweep_run *run, const struct bp_function *function, int32_t thread, int32_t threads,
                       struct bp_team *team) {
    sweep_gather(run, function, thread, threads);
    bp_barrier(team, thread);
    sweep_code(run, function->code, function->parallel, thread, threads);
    bp_barrier(team, thread);
}

/* What waits is done before anybody else looks, and before there is no room for more of it. */
static void sweep_settle(struct sweep_run *run, int64_t batch, int32_t thread, int32_t threads) {
    const struct bp_function *function = run->sweep->function;
    if (!function->settle || !(run->stop || (batch + 1 - run->sweep->first) % function->settle_after == 0))
        return;
    sweep_code(run, function->settle, function->parallel, thread, threads);
}

static void sweep_task(void *argument, int32_t thread, int32_t threads, struct bp_team *team) {
    struct sweep_run *run = argument;
    struct bp_sweep *sweep = run->sweep;
    const struct bp_function *before = sweep_before(sweep);
    if (thread == 0) {
        run->context.team = team;
        sweep->threads = threads;
    }
    for (int64_t batch = sweep->first;; batch++) {
        if (before)
            sweep_call(run, before, thread, threads, team);
        sweep_call(run, sweep->function, thread, threads, team);
        if (thread == 0)
            run->stop = sweep_finish(run, batch);
        bp_barrier(team, thread);
        sweep_settle(run, batch, thread, threads);
        if (run->stop)
            return;
    }
}

void bp_sweep_run(struct bp_sweep *sweep) {
    struct sweep_run run = {
        sweep, {sweep->memory, 0, 0, sweep->instance->seed, 0, NULL}, sweep->first * sweep->batch, 0};
    sweep->threads = 1;
    sweep->done = sweep->first;
    sweep->end = BP_SWEEP_DONE;
    if (sweep->first >= sweep->last)
        return;
    sweep_prepare(&run, sweep->first);
    const struct bp_function *before = sweep_before(sweep);
    int parallel = sweep->function->parallel || (before && before->parallel);
    bp_parallel(parallel ? sweep->instance->threads : 1, sweep_task, &run);
}

/* ---- Functions without feeds ------------------------------------------------------------------------------------- */
struct sweep_single {
    bp_code *code;
    struct bp_context context;
};

static void sweep_single_task(void *argument, int32_t thread, int32_t threads, struct bp_team *team) {
    struct sweep_single *single = argument;
    struct bp_context context = single->context; /* each thread its own: no barrier before the code is needed */
    context.team = team;
    single->code(&context, thread, threads);
}

void bp_call(struct bp_instance *instance, const struct bp_function *function) {
    struct sweep_single single = {function->code, {instance->memory, 1, 0, instance->seed, 0, NULL}};
    if (function->code)
        bp_parallel(function->parallel ? instance->threads : 1, sweep_single_task, &single);
}

/* ---- Measuring --------------------------------------------------------------------------------------------------- */
int64_t bp_measure_values(const struct bp_measure *measure) {
    int64_t count = 0;
    for (int32_t i = 0; i < measure->metric_count; i++)
        count += (int64_t)measure->metrics[i].rows * measure->metrics[i].columns;
    return count;
}

void bp_measure_copy(const struct bp_instance *instance, const struct bp_measure *measure, double *values) {
    for (int32_t i = 0; i < measure->metric_count; i++) {
        const struct bp_metric *metric = &measure->metrics[i];
        int64_t count = (int64_t)metric->rows * metric->columns;
        memcpy(values, instance->memory + metric->offset, (size_t)count * sizeof *values);
        values += count;
    }
}

void bp_measure_finish(struct bp_instance *instance, const struct bp_pass *pass, const double *totals, int64_t rows) {
    memcpy(instance->memory + pass->totals_offset, totals,
           (size_t)(pass->sum_count + pass->ranking_count) * sizeof *totals);
    bp_scalars(instance)[BP_SCALAR_ROWS] = (double)rows;
    bp_call(instance, &pass->finish);
}

int bp_measuring_start(struct bp_measuring *measuring, struct bp_instance *instance, const struct bp_measure *measure,
                       int64_t rows, struct bp_error *error) {
    size_t most = 1;
    memset(measuring, 0, sizeof *measuring);
    for (int32_t i = 0; i < measure->pass_count; i++) {
        size_t totals = (size_t)measure->passes[i].sum_count + (size_t)measure->passes[i].ranking_count + 1;
        most = totals > most ? totals : most;
    }
    measuring->totals_bytes = most * sizeof *measuring->totals;
    measuring->totals = bp_allocate(measuring->totals_bytes, "sums", error);
    return measuring->totals && bp_rankings_start(&measuring->rankings, instance, measure, rows, error);
}

void bp_measuring_free(struct bp_measuring *measuring) {
    free(measuring->totals);
    bp_rankings_free(&measuring->rankings);
    memset(measuring, 0, sizeof *measuring);
}

static int sweep_pass(struct bp_instance *instance, const struct bp_pass *pass, struct bp_sweep *sweep,
                      struct bp_measuring *measuring) {
    sweep->function = &pass->accumulate;
    sweep->batch = pass->accumulate.capacity;
    sweep->last = (sweep->rows + sweep->batch - 1) / sweep->batch;
    sweep->sums_offset = pass->sums_offset;
    sweep->sum_count = pass->sum_count;
    sweep->totals = measuring->totals;
    memset(measuring->totals, 0, measuring->totals_bytes);
    measuring->rankings.pass = pass;
    sweep->after = pass->ranking_count > 0 ? bp_rankings_take : NULL;
    sweep->argument = &measuring->rankings;
    bp_sweep_run(sweep);
    if (sweep->end != BP_SWEEP_DONE)
        return 0;
    bp_rankings_finish(&measuring->rankings, sweep->totals);
    bp_measure_finish(instance, pass, sweep->totals, sweep->rows);
    return 1;
}

int bp_measure_again(struct bp_instance *instance, const struct bp_measure *measure, struct bp_measuring *measuring,
                     const struct bp_kept *kept, int32_t data, const int64_t *order, int64_t rows, double *values) {
    struct bp_sweep sweep = {0};
    sweep.instance = instance;
    sweep.memory = instance->memory;
    sweep.table = &instance->tables[data];
    sweep.kept = kept;
    sweep.order = order;
    sweep.rows = rows;
    sweep.ascending_by_one = order[rows - 1] - order[0] == rows - 1; /* parts are ascending */
    for (int32_t i = 0; i < measure->pass_count; i++)
        if (!sweep_pass(instance, &measure->passes[i], &sweep, measuring))
            return 0;
    bp_measure_copy(instance, measure, values);
    return 1;
}

int bp_measure_run(struct bp_instance *instance, const struct bp_measure *measure, int32_t data, const int64_t *order,
                   int64_t rows, double *values, struct bp_error *error) {
    struct bp_measuring measuring;
    int done = 0;
    if (bp_measuring_start(&measuring, instance, measure, rows, error))
        done = bp_measure_again(instance, measure, &measuring, NULL, data, order, rows, values) ? 1 : -1;
    bp_measuring_free(&measuring);
    return done;
}
