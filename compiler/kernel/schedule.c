/* Before: groups, in an order that computes everything before it is read. After: kernels, each with the groups whose loops
   stand inside its outermost loop, and the order in which kernels run.

   Two groups may share a kernel when one round of it reads of the other only what the same round made: for rows of the
   batch, the same row; for panels of an axis, the same panel. So a whole network's forward pass and its data gradients may
   be one kernel over rows; and a kernel over the panels of a layer's inputs transposes a panel of W, makes that panel of dX
   and updates those columns of W, without a barrier and while W is in the cache. */
#include "lower.h"

#include <string.h>

enum {
    MOST_TOGETHER = 600, /* rows whose sums wait: with a block of what they read they fit the second cache */
    MOST_AXES = 2,       /* of a domain that is shared out by panels */
    MOST_GROUPS = 16,    /* in a kernel: C compilers take more than twice as long for twice as much in one function */
    WIDEST_ROUND = 32,   /* panels: beyond, little is saved, and a machine with more cores finds too few rounds */
    SMALL_WEIGHTS = 1 << 16 /* bytes: read by every thread without regret */
};
#define SMALL_PRODUCT    1000.0  /* cycles: a larger tile would win nothing */
#define WORTH_THREADS    24000.0 /* cycles in a call: below, one thread is done before others are awake */
#define WORTH_STARTING   1.5e6   /* the same where the others have to be started: 0.2 to 0.4 ms */
#define CYCLES_OF_A_DRAW 30.0    /* in a lane: ten rounds of products */
#define CYCLES_OF_A_READ 40.0    /* for each element of a table's row: its gradient, its updates, and what waited */
#define WORTH_A_LOOP     3000.0  /* cycles in a kernel: a barrier costs several hundred */

/* ---- what a group reads -------------------------------------------------------------------------------------------------- */

/* axis[a]: the axis of what is read whose index is the reader's index on axis a; -1: none. */
typedef struct Read {
    int reader, group; /* group: -1 for a tensor */
    const Tensor *tensor;
    bool same_row;
    int axis[MOST_AXES];
} Read;

typedef LIST(const Read *) Reads;

/* What stands between a group and the others. */
typedef struct Ties {
    Reads from;        /* what it reads of other groups */
    Reads by;          /* who reads of it, itself included */
    Reads changes;     /* what others read of a tensor that it changes */
    LIST(int) waiters; /* groups that wait for it, once for each reason */
    int waits;         /* reasons that it has to wait for others that are not done */
    bool writes;       /* changes a tensor */
    Partition partition;
    int urgency;
} Ties;

typedef struct Schedule {
    LowerPlan *plan;
    const Machine *machine;
    LIST(Read) reads;
    const LowerItem *reader;
    Ties *ties;      /* by group */
    uint64_t *ready; /* bits, by group: waits for nothing and is not done */
    bool *done;      /* by group: in a kernel */
    int *kernel;     /* by group: which */
    bool always;     /* every loop is parallel */
    bool threads;    /* the function is worth threads */
    int64_t spread;  /* bytes of weights that every thread may read */
} Schedule;

static void walk(Schedule *s, Node *node, bool same_row, const int *axis);

static void walk_contract(Schedule *s, Node *node, bool same_row, const int *axis) {
    const ContractSpec *spec = &node->contract;
    for (int side = 0; side < 2; side++) {
        const int8_t *letters = side ? spec->right : spec->left;
        int inner[MOST_AXES];
        for (int a = 0; a < MOST_AXES; a++) {
            inner[a] = -1;
            for (int i = 0; axis[a] >= 0 && i < node->args[side]->rank; i++)
                if (letters[i] == spec->out[axis[a]])
                    inner[a] = i;
        }
        walk(s, node->args[side], same_row && !spec->over_batch, inner);
    }
}

static void walk_args(Schedule *s, Node *node, bool same_row, const int *axis) {
    int none[MOST_AXES] = {-1, -1}, inner[MOST_AXES] = {axis[0], axis[1]};
    OpClass class = op_table[node->op].class;
    switch (node->op) {
    case OP_CONTRACT:
        walk_contract(s, node, same_row, axis);
        return;
    case OP_TRANSPOSE:
        for (int a = 0; a < MOST_AXES; a++)
            inner[a] = axis[a] >= 0 ? 1 - axis[a] : -1;
        walk(s, node->args[0], same_row, inner);
        return;
    case OP_BATCH_SUM:
        walk(s, node->args[0], false, axis);
        return;
    case OP_SCATTER:
        for (int i = 0; i < node->arg_count; i++)
            walk(s, node->args[i], false, none);
        return;
    case OP_CUSTOM:
    case OP_DETACH:
        walk(s, node->args[0], same_row, axis);
        return;
    default:
        break;
    }
    bool element = class == CLASS_ARITHMETIC || class == CLASS_COMPARE || class == CLASS_MATH;
    for (int i = 0; i < node->arg_count; i++)
        walk(s, node->args[i], same_row, element && node->args[i]->rank ? axis : none);
}

static void walk(Schedule *s, Node *node, bool same_row, const int *axis) {
    const LowerItem *item = s->plan->items[node->id];
    if ((item && item != s->reader) || node->op == OP_TENSOR) {
        Read *read = LIST_ADD(s->plan->arena, &s->reads);
        *read = (Read){.reader = s->reader->group,
                       .group = item && item != s->reader ? item->group : -1,
                       .same_row = same_row,
                       .axis = {axis[0], axis[1]}};
        read->tensor = read->group < 0 ? node->tensor : NULL;
        return;
    }
    walk_args(s, node, same_row, axis);
}

static void find_reads(Schedule *s) {
    static const int own[MOST_AXES] = {0, 1};
    for (int i = 0; i < s->plan->groups.count; i++)
        for (int j = 0; j < s->plan->groups.at[i].items.count; j++) {
            LowerItem *item = s->plan->groups.at[i].items.at[j];
            s->reader = item;
            if (item->node->op == OP_TENSOR)
                walk(s, item->node, true, own);
            else
                walk_args(s, item->node, true, own);
        }
}

/* ---- what a group costs, in cycles of one core -------------------------------------------------------------------------------- */

static const Node *product_of(const LowerGroup *group) {
    for (int i = 0; i < group->items.count; i++)
        if (lower_behind(group->items.at[i]->node)->op == OP_CONTRACT)
            return lower_behind(group->items.at[i]->node);
    return NULL;
}

/* Draws for an element of the item that `node` is a part of. */
static int draws_within(const Schedule *s, const Node *node) {
    int draws = node->op == OP_RANDOM;
    for (int i = 0; i < node->arg_count; i++)
        if (!s->plan->items[node->args[i]->id])
            draws += draws_within(s, node->args[i]);
    return draws;
}

static double item_cycles(const Schedule *s, const LowerGroup *group, const Node *node) {
    double capacity = (double)s->plan->function->capacity;
    double elements = (double)node_elements(node) * (node->batched ? capacity : 1);
    double lanes = group->vector ? (double)s->machine->lanes : 1;
    if (node->op == OP_CONTRACT) {
        double extent[16] = {0}, all = 1;
        for (int side = 0; side < 2; side++)
            for (int i = 0; i < node->args[side]->rank; i++)
                extent[(side ? node->contract.right : node->contract.left)[i]] = (double)node->args[side]->dims[i];
        for (int i = 0; i < 16; i++)
            all *= extent[i] > 0 ? extent[i] : 1;
        bool rows = node->args[0]->batched || node->args[1]->batched;
        return all * (rows ? capacity : 1) / (group->vector ? 1.6 * lanes : 0.25);
    }
    if (node->op == OP_TRANSPOSE)
        return elements; /* another core has just written half of it */
    bool reduces = node->op == OP_SUM || node->op == OP_MAX_OF || node->op == OP_ARGMAX || node->op == OP_BATCH_SUM;
    if (reduces)
        elements += (double)node_elements(node->args[0]) * (node->args[0]->batched ? capacity : 1);
    double each = op_table[node->op].class == CLASS_MATH ? 30 : node->op == OP_DIVIDE || node->op == OP_SQRT ? 10 : 3;
    return elements * (each + CYCLES_OF_A_DRAW * draws_within(s, node)) / lanes;
}

static double group_cycles(const Schedule *s, const LowerGroup *group) {
    double cycles = 0;
    for (int i = 0; i < group->items.count; i++)
        cycles += item_cycles(s, group, group->items.at[i]->node);
    return cycles;
}

/* ---- how a group may be shared out ---------------------------------------------------------------------------------------------- */

/* Rows when every thread can read all of W, or when there are too few panels to go round; else panels of W's outputs: a
   thread keeps its panels in its own cache. */
static bool prefers_panels(const Schedule *s, const LowerGroup *group, const Node *product) {
    const Node *w = product->args[0];
    int64_t panels = panels_of(group->dims[0]);
    if (node_elements(w) * 4 <= s->spread)
        return false;
    return !s->threads || panels >= s->machine->cores;
}

static Partition partition_of(const Schedule *s, const LowerGroup *group) {
    const Node *product = group->vector ? product_of(group) : NULL;
    if (group->batched)
        return product && group->rank == 1 && prefers_panels(s, group, product) ? PARTITION_PANELS : PARTITION_ROWS;
    return group->vector && group->rank > 0 ? PARTITION_PANELS : PARTITION_NONE;
}

static void cut_tile(const Schedule *s, LowerGroup *group, Partition partition, int64_t panels_step) {
    const Node *product = group->vector ? product_of(group) : NULL;
    group->tile = (Tile){1, 1};
    if (!product)
        return;
    int64_t panels = panels_of(group->dims[0]), columns = group->batched ? s->plan->function->capacity : group->dims[1];
    if (panels_step && panels_step < panels)
        panels = panels_step;
    bool small = group->work < SMALL_PRODUCT && s->plan->most_sums > SUMS_ELSEWHERE;
    TileColumns kind = !group->batched ? TILE_WEIGHTS : partition == PARTITION_ROWS ? TILE_BLOCK_ROWS : TILE_ALL_ROWS;
    group->tile = tile_of_product(s->machine, panels, columns, kind, small ? SUMS_ELSEWHERE : s->plan->most_sums);
}

static bool is_transpose(const LowerGroup *group) {
    return group->items.at[0]->node->op == OP_TRANSPOSE;
}

/* ---- what waits for what --------------------------------------------------------------------------------------------------------- */

static bool is_ready(const Schedule *s, int index) {
    return s->ready[index / 64] >> index % 64 & 1;
}

/* The first ready group from `index` on; -1: none. */
static int next_ready(const Schedule *s, int index) {
    int count = s->plan->groups.count;
    while (index < count && !is_ready(s, index))
        index = s->ready[index / 64] >> index % 64 ? index + 1 : (index / 64 + 1) * 64;
    return index < count ? index : -1;
}

static void make_ready(Schedule *s, int index) {
    s->ready[index / 64] |= UINT64_C(1) << index % 64;
}

static void make_wait(Schedule *s, int index, int group) {
    *LIST_ADD(s->plan->arena, &s->ties[group].waiters) = index;
    s->ties[index].waits++;
}

static void make_done(Schedule *s, int index) {
    s->done[index] = true;
    s->ready[index / 64] &= ~(UINT64_C(1) << index % 64);
    for (int i = 0; i < s->ties[index].waiters.count; i++) {
        int waiter = s->ties[index].waiters.at[i];
        if (--s->ties[waiter].waits == 0)
            make_ready(s, waiter);
    }
}

/* A group that changes a tensor waits for those that read what it was. */
static void tie_changes(Schedule *s, int index, const Reads *readers) {
    const LowerGroup *group = &s->plan->groups.at[index];
    for (int i = 0; i < group->items.count; i++)
        for (int j = 0; j < group->items.at[i]->sinks.count; j++) {
            const Tensor *tensor = group->items.at[i]->sinks.at[j].tensor;
            s->ties[index].writes |= tensor != NULL;
            for (int k = 0; tensor && k < readers[tensor->index].count; k++) {
                const Read *read = readers[tensor->index].at[k];
                if (read->reader == index)
                    continue;
                *LIST_ADD(s->plan->arena, &s->ties[index].changes) = read;
                make_wait(s, index, read->reader);
            }
        }
}

/* What a group reads is there before it, or in the kernel in hand; before a tensor changes, the guard has been passed. */
static void find_ties(Schedule *s) {
    Arena *arena = s->plan->arena;
    int count = s->plan->groups.count, guard = s->plan->guard_group;
    Reads *readers = arena_array(arena, Reads, s->plan->tensor_count + 1); /* by tensor */
    s->ties = arena_array(arena, Ties, count + 1);
    s->ready = arena_array(arena, uint64_t, count / 64 + 1);
    for (int i = 0; i < s->reads.count; i++) {
        const Read *read = &s->reads.at[i];
        *LIST_ADD(arena, read->tensor ? &readers[read->tensor->index] : &s->ties[read->group].by) = read;
        if (read->tensor || read->group == read->reader)
            continue;
        *LIST_ADD(arena, &s->ties[read->reader].from) = read;
        make_wait(s, read->reader, read->group);
    }
    for (int i = 0; i < count; i++) {
        tie_changes(s, i, readers);
        if (guard >= 0 && i != guard && s->ties[i].writes)
            make_wait(s, i, guard);
        s->ties[i].partition = partition_of(s, &s->plan->groups.at[i]);
        if (!s->ties[i].waits)
            make_ready(s, i);
    }
}

/* ---- what may share a kernel ----------------------------------------------------------------------------------------------------- */

static bool in_kernel(const Schedule *s, int group, int kernel) {
    return s->done[group] && s->kernel[group] == kernel;
}

static bool reads_within(const Schedule *s, const LowerKernel *kernel, int number, int index, int axis) {
    const Ties *ties = &s->ties[index];
    for (int i = 0; i < ties->from.count; i++) {
        const Read *read = ties->from.at[i];
        if (!in_kernel(s, read->group, number))
            continue;
        if (kernel->partition == PARTITION_ROWS && !read->same_row)
            return false;
        if (kernel->partition == PARTITION_PANELS && read->axis[axis] != s->plan->groups.at[read->group].axis)
            return false;
    }
    for (int i = 0; i < ties->changes.count; i++) {
        const Read *read = ties->changes.at[i];
        if (in_kernel(s, read->reader, number) && read->axis[s->plan->groups.at[read->reader].axis] != axis)
            return false;
    }
    return true;
}

static bool joins(const Schedule *s, const LowerKernel *kernel, int number, int index, int *axis) {
    const LowerGroup *group = &s->plan->groups.at[index];
    int guard = s->plan->guard_group;
    *axis = 0;
    if (guard >= 0 && s->ties[index].writes && in_kernel(s, guard, number))
        return false;
    if (kernel->partition == PARTITION_ROWS)
        return s->ties[index].partition == PARTITION_ROWS && reads_within(s, kernel, number, index, 0);
    if (kernel->partition != PARTITION_PANELS || s->ties[index].partition != PARTITION_PANELS)
        return false;
    int64_t first = panels_of(group->dims[0]), second = group->rank == 2 ? panels_of(group->dims[1]) : 0;
    bool too_few = s->threads && first < s->machine->cores && second > first;    /* the other axis has work for all */
    for (*axis = is_transpose(group) ? 0 : group->rank - 1; *axis >= 0; --*axis) /* columns first, as dX of the layer */
        if (group->dims[*axis] == kernel->extent && !(*axis > 0 && group->riders.count) &&
            !(*axis == 0 && too_few && !is_transpose(group)) && reads_within(s, kernel, number, index, *axis))
            return true;
    return false;
}

/* ---- the order --------------------------------------------------------------------------------------------------------------------- */

/* A transposed W whose readers are shared out by panels waits for them: it may be made panel by panel. `open`: the kernel
   that it might join, whose values such a reader cannot have yet; -1: none. */
static bool waits_for_reader(const Schedule *s, int index, int open) {
    if (!is_transpose(&s->plan->groups.at[index]) || !s->plan->groups.at[index].vector)
        return false;
    for (int i = 0; i < s->ties[index].by.count; i++) {
        const Ties *reader = &s->ties[s->ties[index].by.at[i]->reader];
        if (reader->partition == PARTITION_ROWS)
            return false;
        bool ready = true;
        for (int j = 0; ready && j < reader->from.count; j++) {
            int other = reader->from.at[j]->group;
            ready = other == index || (s->done[other] && s->kernel[other] != open);
        }
        if (ready)
            return false;
    }
    return true;
}

static bool read_by_panels(const Schedule *s, int index) {
    for (int i = 0; i < s->ties[index].by.count; i++)
        if (s->ties[s->ties[index].by.at[i]->reader].partition == PARTITION_PANELS)
            return true;
    return false;
}

/* What is not of the batch first, since much waits for it; then rows, then the guard, then the rest in order. */
static int urgency_of(const Schedule *s, int index) {
    const LowerGroup *group = &s->plan->groups.at[index];
    if (group->prologue && !s->ties[index].writes && !(is_transpose(group) && read_by_panels(s, index)))
        return 0;
    if (s->ties[index].partition == PARTITION_ROWS)
        return 1;
    return index == s->plan->guard_group ? 2 : 3;
}

static int next_seed(const Schedule *s) {
    int best = -1;
    for (int i = next_ready(s, 0); i >= 0; i = next_ready(s, i + 1))
        if ((best < 0 || s->ties[i].urgency < s->ties[best].urgency) && !waits_for_reader(s, i, -1))
            best = i;
    return best;
}

static void add_group(Schedule *s, LowerKernel *kernel, int number, int index, int axis) {
    s->plan->groups.at[index].axis = axis;
    s->kernel[index] = number;
    make_done(s, index);
    *LIST_ADD(s->plan->arena, &kernel->groups) = index;
}

/* A seed of rank 2 is shared out by the axis with more panels, the first where both have enough. */
static int seed_axis(const Schedule *s, const LowerGroup *group) {
    if (group->rank < 2 || is_transpose(group) || group->riders.count)
        return 0;
    int64_t first = panels_of(group->dims[0]), second = panels_of(group->dims[1]);
    return first >= 2 * s->machine->cores || first >= second ? 0 : 1;
}

/* Checks have a kernel for each group: those of equal layers are then equal, and are compiled once. */
static void open_kernel(Schedule *s, int seed) {
    LowerKernel *kernel = LIST_ADD(s->plan->arena, &s->plan->kernels);
    int number = s->plan->kernels.count - 1, most = s->plan->function->is_double ? 1 : MOST_GROUPS;
    LowerGroup *group = &s->plan->groups.at[seed];
    memset(kernel, 0, sizeof *kernel);
    kernel->partition = group->alone && !group->batched ? PARTITION_NONE : s->ties[seed].partition;
    int axis = seed_axis(s, group);
    kernel->extent = kernel->partition == PARTITION_PANELS ? group->dims[axis] : 0;
    add_group(s, kernel, number, seed, axis);
    for (bool more = true; more && kernel->partition != PARTITION_NONE;) {
        more = false;
        for (int i = next_ready(s, 0); i >= 0 && kernel->groups.count < most; i = next_ready(s, i + 1)) {
            bool may = !s->plan->groups.at[i].alone && !waits_for_reader(s, i, number);
            if (may && joins(s, kernel, number, i, &axis)) {
                add_group(s, kernel, number, i, axis);
                more = true;
            }
        }
    }
}

/* Bytes that a product goes through in each round, and bytes of each panel of the round that it goes back to. */
static void traffic_of(const Schedule *s, const LowerGroup *group, double *through, double *kept) {
    const Node *product = product_of(group);
    double capacity = (double)s->plan->function->capacity;
    if (group->batched) {
        double summed = (double)product->args[0]->dims[1];
        *through = capacity * summed * 4;
        *kept = summed * LANES * 4;
    } else {
        *through = capacity * (double)group->dims[1 - group->axis] * 4;
        *kept = capacity * LANES * 4;
    }
}

/* Where the cache does not hold what each round goes through, rounds of several tiles go through it less often: as many
   as leave room beside them and are shared out evenly. */
static void widen_rounds(const Schedule *s, LowerKernel *kernel) {
    double through = 0, kept = 0, room = (double)s->machine->l2;
    for (int i = 0; i < kernel->groups.count && kernel->partition == PARTITION_PANELS; i++) {
        const LowerGroup *group = &s->plan->groups.at[kernel->groups.at[i]];
        double its_through, its_kept;
        if (!group->vector || !product_of(group))
            continue;
        traffic_of(s, group, &its_through, &its_kept);
        through = its_through > through ? its_through : through;
        kept = its_kept > kept ? its_kept : kept;
    }
    int64_t panels = panels_of(kernel->extent), even = 2 * (s->threads ? s->machine->cores : 1);
    while (through > room / 2 && kernel->step < WIDEST_ROUND && kept * (double)kernel->step * 2 <= room / 3 &&
           panels % (kernel->step * 2 * even) == 0)
        kernel->step *= 2;
}

/* A row alone fills no tile: panels side by side are its chains, two for each of the four cycles that a sum takes. */
static void cut_single_rows(const Schedule *s, LowerKernel *kernel) {
    int vectors = LANES / s->machine->lanes, chains = vectors < 8 ? 8 / vectors : 1;
    int64_t even = s->threads ? s->machine->cores : 1;
    if (!s->plan->function->is_predict)
        return;
    bool panels = kernel->partition == PARTITION_PANELS;
    while (panels && kernel->step * 2 <= chains && panels_of(kernel->extent) % (kernel->step * 2 * even) == 0)
        kernel->step *= 2;
    for (int i = 0; i < kernel->groups.count; i++) {
        LowerGroup *group = &s->plan->groups.at[kernel->groups.at[i]];
        int64_t all = group->rank ? panels_of(group->dims[0]) : 0;
        if (!group->vector || !group->batched || !product_of(group) || group->tile.columns == 1)
            continue;
        group->row_panels = all < chains ? (int)all : chains;
        bool shared = panels && group->axis == 0;
        while (shared && (kernel->step % group->row_panels || (group->row_panels > 1 && all % group->row_panels)))
            group->row_panels--;
    }
}

/* Panels a round: as many as the widest tile of a product over this axis. */
static void cut_rounds(Schedule *s, LowerKernel *kernel) {
    int64_t panels = panels_of(kernel->extent), share = panels;
    if (s->threads && kernel->partition == PARTITION_PANELS)
        share = (panels + s->machine->cores - 1) / s->machine->cores; /* so that threads have equally many */
    kernel->step = kernel->partition == PARTITION_ROWS ? LANES : 1;
    for (int i = 0; i < kernel->groups.count; i++) {
        LowerGroup *group = &s->plan->groups.at[kernel->groups.at[i]];
        bool shared = kernel->partition == PARTITION_PANELS && group->axis == 0;
        cut_tile(s, group, kernel->partition, shared ? share : 0);
        if (shared && group->tile.panels > kernel->step)
            kernel->step = group->tile.panels;
    }
    for (int i = 0; i < kernel->groups.count;
         i++) { /* a narrower one goes along where it fits into each round, the last too */
        LowerGroup *group = &s->plan->groups.at[kernel->groups.at[i]];
        bool shared = kernel->partition == PARTITION_PANELS && group->axis == 0;
        int tile = group->tile.panels;
        if (shared && tile < kernel->step && (kernel->step % tile || panels_of(group->dims[0]) % tile))
            group->tile.panels = 1;
    }
    widen_rounds(s, kernel);
    cut_single_rows(s, kernel);
}

/* Where a tile's panels are more than the first cache holds, the sums go over them in blocks that it does hold, and wait
   in between: Goto & van de Geijn, Anatomy of high-performance matrix multiplication, 2008, section 4. */
static void cut_block(const Schedule *s, LowerKernel *kernel, LowerGroup *group, const Node *product) {
    int64_t capacity = s->plan->function->capacity, step = kernel->step * LANES;
    int64_t panels = group->tile.panels + !group->batched; /* of a gradient, one of columns goes along */
    group->summed = group->batched ? product->args[0]->dims[1] : capacity;
    int64_t most = s->machine->l1 * 2 / 3 / (panels * LANES * 4) / LANES, all = group->summed / LANES;
    if (all <= most || most < 4 || (group->batched && capacity < 4 * group->tile.columns))
        return;
    int64_t blocks = (all + most - 1) / most;
    group->block = (all + blocks - 1) / blocks * LANES;
    Buffer *partial = arena_new_of(s->plan->arena, Buffer);
    partial->name = partial->shown = name_of("partial");
    partial->role = BUFFER_SCRATCH;
    partial->scalar = SCALAR_F32;
    partial->rank = 2;
    partial->dims[0] = group->axis == 0 ? step : group->dims[0];
    partial->dims[1] = group->axis == 0 ? group->dims[1] : step;
    if (group->batched) {
        int64_t tiles = (capacity + group->tile.columns - 1) / group->tile.columns;
        int64_t at_once = MOST_TOGETHER / group->tile.columns;
        group->together = (tiles < at_once ? tiles : at_once) * group->tile.columns;
        partial->dims[1] = group->together;
    }
    partial->span = product->span;
    lower_layout(s->plan->function, partial, capacity);
    group->partial = partial;
}

static void cut_blocks(const Schedule *s, LowerKernel *kernel) {
    if (kernel->partition != PARTITION_PANELS || s->plan->most_sums < SUMS_OF_STEP)
        return;
    for (int i = 0; i < kernel->groups.count; i++) {
        LowerGroup *group = &s->plan->groups.at[kernel->groups.at[i]];
        int products = 0;
        for (int j = 0; j < group->items.count; j++)
            products += lower_behind(group->items.at[j]->node)->op == OP_CONTRACT;
        if (group->vector && products == 1)
            cut_block(s, kernel, group, product_of(group));
    }
}

/* A transposed W that is read in its own kernel alone lives for a round. */
static void make_scratch(const Schedule *s, const LowerKernel *kernel, int number) {
    for (int i = 0; i < kernel->groups.count && kernel->partition == PARTITION_PANELS; i++) {
        const LowerGroup *group = &s->plan->groups.at[kernel->groups.at[i]];
        Buffer *buffer = is_transpose(group) && group->vector ? group->items.at[0]->buffer : NULL;
        bool own = buffer != NULL;
        const Reads *by = &s->ties[kernel->groups.at[i]].by;
        for (int j = 0; j < by->count; j++)
            own = own && in_kernel(s, by->at[j]->reader, number);
        if (!own)
            continue;
        buffer->role = BUFFER_SCRATCH;
        if (kernel->step * LANES < buffer->dims[0])
            buffer->dims[0] = kernel->step * LANES;
        lower_layout(s->plan->function, buffer, s->plan->function->capacity);
    }
}

void lower_schedule(LowerPlan *plan, const LowerOptions *options) {
    Schedule s = {.plan = plan, .machine = options->machine ? options->machine : machine_named(NULL)};
    s.done = arena_array(plan->arena, bool, plan->groups.count + 1);
    s.kernel = arena_array(plan->arena, int, plan->groups.count + 1);
    s.always = options->threads == LOWER_THREADS_ALWAYS;
    s.spread = options->tuning.spread ? options->tuning.spread : SMALL_WEIGHTS;
    double cycles = 0;
    for (int i = 0; i < plan->groups.count; i++) {
        plan->groups.at[i].work = group_cycles(&s, &plan->groups.at[i]);
        cycles += plan->groups.at[i].work;
    }
    for (int i = 0; i < plan->tables.count; i++) {
        const LowerTable *table = plan->tables.at[i];
        double rows = (double)(table->rows == TABLE_ALL ? table->scatter->integer : table->reads);
        plan->table_work += rows * (double)table->scatter->args[0]->dims[0] * CYCLES_OF_A_READ;
    }
    cycles += plan->table_work;
    double worth = plan->function->is_first ? WORTH_STARTING : WORTH_THREADS;
    s.threads = s.always || (options->threads == LOWER_THREADS_WHERE_WORTH && cycles >= worth);
    plan->parallel = s.threads && plan->function->sinks.count > 0;
    find_reads(&s);
    find_ties(&s);
    for (int i = 0; i < plan->groups.count; i++)
        s.ties[i].urgency = urgency_of(&s, i);
    for (int seed; (seed = next_seed(&s)) >= 0;)
        open_kernel(&s, seed);
    for (int i = 0; i < plan->groups.count; i++)
        if (!s.done[i])
            BUG("%s: group %d is never ready", plan->function->name, i);
    for (int i = 0; i < plan->kernels.count; i++) {
        LowerKernel *kernel = &plan->kernels.at[i];
        double work = 0;
        cut_rounds(&s, kernel);
        make_scratch(&s, kernel, i);
        cut_blocks(&s, kernel);
        for (int j = 0; j < kernel->groups.count; j++)
            work += plan->groups.at[kernel->groups.at[j]].work;
        kernel->parallel = plan->parallel && (s.always || work >= WORTH_A_LOOP);
    }
}
