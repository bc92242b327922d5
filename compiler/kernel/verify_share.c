/* The rounds of a parallel loop touch no common element of a buffer that one of them stores to.

   An index is written as a sum of the loop's variable, inner variables and a constant, each times a factor. Let the
   variable's factor times its step be S. Then the index lies in the round's own piece of S elements, perhaps repeated
   every M elements: terms whose factors are multiples of M choose the repetition, and the rest must stay below S. Or the
   variable stands as quotient and remainder of one divisor: two digits of a number whose other digits lie between and
   below them. Every access of the buffer must have the same pieces. */
#include "verify.h"

enum { MOST_TERMS = 24 };

typedef struct Term {
    const void *key; /* whose x it is: terms of one x are one */
    int64_t factor;  /* the term is factor * x; > 0 once the sum is complete, and x begins at 0 */
    Range range;     /* of x */
} Term;

typedef struct Linear {
    Term terms[MOST_TERMS];
    int count;
    __int128 constant;
    int64_t outer;                        /* factor of the loop's variable */
    int64_t quotient, remainder, divisor; /* factors of variable / divisor and variable % divisor */
    const Statement *follower;            /* an inner loop that begins at the variable: it is at most `most` */
    int64_t most;
    bool apart; /* loops that begin apart from the parallel one are as far as they reach, whatever else varies */
    bool known;
} Linear;

typedef struct Access {
    const Buffer *buffer;
    bool known;
    int64_t outer, piece, every; /* piece: S; every: M, 0 where there is one repetition */
    bool repeats;                /* it touches more than one of them */
    int64_t low, high;           /* within a round's piece and a repetition: the least and the greatest place */
    int64_t reach;               /* the greatest of the last round, within a repetition */
    int64_t quotient, remainder, divisor;
} Access;

static void expand(Verifier *v, Linear *sum, const Value *value, int64_t factor);

static void add_term(Linear *sum, const void *key, int64_t factor, Range range) {
    for (int i = 0; i < sum->count; i++)
        if (sum->terms[i].key == key) {
            sum->terms[i].factor += factor;
            return;
        }
    bool bounded = range.low > -FAR && range.high < FAR && sum->count < MOST_TERMS;
    sum->known &= bounded;
    if (bounded)
        sum->terms[sum->count++] = (Term){key, factor, range};
}

/* Terms that vary, with factors above zero and x from 0. */
static void complete(Linear *sum) {
    int count = 0;
    for (int i = 0; i < sum->count; i++) {
        Term term = sum->terms[i];
        if (term.range.low > term.range.high) /* never run */
            term.range.high = term.range.low;
        sum->constant += (__int128)term.factor * (term.factor > 0 ? term.range.low : term.range.high);
        term.factor = term.factor > 0 ? term.factor : -term.factor;
        term.range = (Range){0, term.range.high - term.range.low};
        if (term.factor && term.range.high)
            sum->terms[count++] = term;
    }
    sum->count = count;
}

/* The greatest distance of a variable from its first value; -1: not known. */
static int64_t span_of(Verifier *v, const Statement *loop) {
    const Value *ends[2] = {loop->to, NULL};
    if (loop->to->kind == VALUE_OP && loop->to->op == OP_INTEGER_MINIMUM) {
        ends[0] = loop->to->args[0];
        ends[1] = loop->to->args[1];
    }
    for (int i = 0; i < 2 && ends[i]; i++) {
        Linear distance = {.known = true};
        expand(v, &distance, ends[i], 1);
        expand(v, &distance, loop->from, -1);
        complete(&distance);
        bool fixed =
            distance.known && distance.count == 0 && !distance.outer && !distance.quotient && !distance.remainder;
        if (fixed && distance.constant > 0 && distance.constant < FAR)
            return (int64_t)(distance.constant - 1) / loop->step * loop->step;
    }
    return -1;
}

/* It begins at the same place whatever the round of the parallel loop. */
static bool begins_apart(Verifier *v, const Statement *loop) {
    Linear begin = {.known = true};
    expand(v, &begin, loop->from, 1);
    return begin.known && !begin.outer && !begin.quotient && !begin.remainder;
}

static void expand_variable(Verifier *v, Linear *sum, const Value *value, int64_t factor) {
    const Statement *loop = value->statement;
    if (loop == v->parallel) {
        sum->outer += factor;
        return;
    }
    Range range = range_of(v, value);
    bool apart = loop->from->kind == VALUE_NUMBER || (sum->apart && begins_apart(v, loop));
    int64_t span = apart ? -1 : span_of(v, loop);
    if (span < 0) {
        add_term(sum, loop, factor, range);
        return;
    }
    int64_t most = range.high - range_of(v, loop->from).low; /* the last rows of the batch */
    if (most >= 0 && most < span)
        span = most / loop->step * loop->step;
    bool follows = loop->from->kind == VALUE_VARIABLE && loop->from->statement == v->parallel;
    if (follows) {
        sum->follower = loop;
        sum->most = range.high;
    }
    expand(v, sum, loop->from, factor);
    add_term(sum, loop, factor, (Range){0, span});
}

static bool is_number(const Value *value) {
    return value->kind == VALUE_NUMBER;
}

static void expand_division(Verifier *v, Linear *sum, const Value *value, int64_t factor) {
    const Value *x = value->args[0];
    int64_t divisor = is_number(value->args[1]) ? value->args[1]->number.integer : 0;
    bool digits = divisor > 0 && x->kind == VALUE_VARIABLE && x->statement == v->parallel &&
                  (sum->divisor == 0 || sum->divisor == divisor);
    if (!digits) {
        add_term(sum, value, factor, range_of(v, value));
        return;
    }
    sum->divisor = divisor;
    if (value->op == OP_INTEGER_DIVIDE)
        sum->quotient += factor;
    else
        sum->remainder += factor;
}

/* A condition around it says more of it than what it is made of. */
static bool has_fact(const Verifier *v, const Value *value) {
    for (int i = 0; i < v->facts.count; i++)
        if (v->facts.at[i].value == value && value->kind == VALUE_OP)
            return true;
    return false;
}

static bool depends_on(const Value *value, const Statement *loop) {
    if (value->kind == VALUE_VARIABLE)
        return value->statement == loop || depends_on(value->statement->from, loop);
    for (int i = 0; i < value->arg_count; i++)
        if (depends_on(value->args[i], loop))
            return true;
    return false;
}

static void expand(Verifier *v, Linear *sum, const Value *value, int64_t factor) {
    if (has_fact(v, value) && !(v->parallel && depends_on(value, v->parallel))) {
        add_term(sum, value, factor, range_of(v, value));
    } else if (is_number(value)) {
        sum->constant += (__int128)factor * value->number.integer;
    } else if (value->kind == VALUE_VARIABLE) {
        expand_variable(v, sum, value, factor);
    } else if (value->kind == VALUE_OP && (value->op == OP_INTEGER_ADD || value->op == OP_INTEGER_SUBTRACT)) {
        expand(v, sum, value->args[0], factor);
        expand(v, sum, value->args[1], value->op == OP_INTEGER_ADD ? factor : -factor);
    } else if (value->kind == VALUE_OP && value->op == OP_INTEGER_MULTIPLY && is_number(value->args[1])) {
        expand(v, sum, value->args[0], factor * value->args[1]->number.integer);
    } else if (value->kind == VALUE_OP && (value->op == OP_INTEGER_DIVIDE || value->op == OP_INTEGER_REMAINDER)) {
        expand_division(v, sum, value, factor);
    } else {
        add_term(sum, value, factor, range_of(v, value));
    }
}

Range share_range(Verifier *v, const Value *index) {
    Linear sum = {.known = true};
    const Statement *parallel = v->parallel;
    v->parallel = NULL; /* its variable is one of many here */
    expand(v, &sum, index, 1);
    v->parallel = parallel;
    complete(&sum);
    __int128 high = sum.constant;
    for (int i = 0; i < sum.count; i++)
        high += (__int128)sum.terms[i].factor * sum.terms[i].range.high;
    bool fits = sum.known && sum.constant > -FAR && high < FAR;
    return fits ? (Range){(int64_t)sum.constant, (int64_t)high} : ANYTHING;
}

static int64_t greatest_common(int64_t a, int64_t b) {
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* How often a layout repeats itself for each step along its first axis. */
static int64_t layout_repeats(const Buffer *buffer) {
    return !buffer->panels ? 0 : buffer->per_row ? buffer->stride * 16 : buffer->rank == 2 ? buffer->dims[1] * 16 : 0;
}

/* Pieces of S elements. */
static void find_pieces(Verifier *v, const Linear *sum, int lanes, Access *access) {
    Value variable = {.kind = VALUE_VARIABLE, .type = {SCALAR_I64, 1}, .statement = (Statement *)v->parallel};
    Range outer = range_of(v, &variable);
    int64_t piece = sum->outer * v->parallel->step, every = layout_repeats(access->buffer);
    __int128 low = 0, high = lanes - 1;
    if (every && sum->outer % every == 0)
        every = 0; /* shared out along the first axis */
    for (int i = 0; i < sum->count; i++)
        if (sum->terms[i].factor >= piece || (every && sum->terms[i].factor % every == 0)) {
            every = greatest_common(sum->terms[i].factor, every);
            access->repeats = true;
        } else
            high += (__int128)sum->terms[i].factor * sum->terms[i].range.high;
    low = every ? sum->constant % every : sum->constant;
    high += low;
    access->known = sum->constant >= 0 && outer.low >= 0 && high < FAR;
    access->outer = sum->outer;
    access->piece = piece;
    access->every = every;
    access->low = (int64_t)low;
    access->high = (int64_t)high;
    int64_t last = outer.high < 0 ? 0 : outer.high / v->parallel->step * v->parallel->step;
    access->reach = access->high + sum->outer * last;
    for (int i = 0; i < sum->count && sum->follower; i++)
        if (sum->terms[i].key == sum->follower && sum->terms[i].factor == sum->outer &&
            sum->most < last + sum->terms[i].range.high)
            access->reach =
                access->high - sum->outer * sum->terms[i].range.high + sum->outer * (sum->most < 0 ? 0 : sum->most);
    if (sum->follower && sum->most >= 0 && sum->most < last)
        access->reach = access->reach < access->high + sum->outer * sum->most ? access->reach
                                                                              : access->high + sum->outer * sum->most;
}

/* The variable as two digits. */
static void find_digits(Verifier *v, const Linear *sum, int lanes, Access *access) {
    __int128 low = lanes - 1, middle = 0;
    bool fits = sum->remainder > 0 && sum->quotient > 0 && v->parallel->step == 1 && sum->constant >= 0;
    for (int i = 0; i < sum->count; i++) {
        const Term *term = &sum->terms[i];
        if (term->factor < sum->remainder)
            low += (__int128)term->factor * term->range.high;
        else
            middle += (__int128)term->factor * term->range.high;
        fits &= term->factor < sum->remainder || term->factor % (sum->remainder * sum->divisor) == 0;
    }
    low += fits ? sum->constant % (sum->remainder * sum->divisor) : 0;
    middle += fits ? sum->constant / (sum->remainder * sum->divisor) * (sum->remainder * sum->divisor) : 0;
    access->known =
        fits && low < sum->remainder && middle + (__int128)sum->remainder * (sum->divisor - 1) + low < sum->quotient;
    access->quotient = sum->quotient;
    access->remainder = sum->remainder;
    access->divisor = sum->divisor;
}

static bool is_stored(const Verifier *v, const Buffer *buffer) {
    for (int i = 0; i < v->kernel->written_count; i++)
        if (v->kernel->written[i] == buffer)
            return true;
    return false;
}

void share_note(Verifier *v, const Buffer *buffer, const Value *index, int lanes) {
    if (!v->parallel || buffer->role == BUFFER_SCRATCH || !is_stored(v, buffer))
        return;
    Linear sum = {.known = true, .apart = true};
    Access *access = arena_new_of(v->arena, Access);
    access->buffer = buffer;
    expand(v, &sum, index, 1);
    complete(&sum);
    if (sum.known && sum.outer > 0 && !sum.quotient && !sum.remainder)
        find_pieces(v, &sum, lanes, access);
    else if (sum.known && !sum.outer)
        find_digits(v, &sum, lanes, access);
    if (!access->known)
        BROKEN(v, "rounds of the parallel loop may meet in %s", buffer->name);
    *LIST_ADD(v->arena, &v->accesses) = access;
}

static bool same_pieces(const Access *x, const Access *y) {
    return x->outer == y->outer && x->piece == y->piece && x->every == y->every && x->quotient == y->quotient &&
           x->remainder == y->remainder && x->divisor == y->divisor;
}

void share_check(Verifier *v) {
    for (int i = 0; i < v->accesses.count; i++) {
        const Access *x = v->accesses.at[i];
        int64_t low = x->low, high = x->high, reach = x->reach;
        bool repeats = false; /* else the pieces go on from one repetition to the next */
        for (int j = 0; j < v->accesses.count; j++) {
            const Access *y = v->accesses.at[j];
            if (x->buffer != y->buffer)
                continue;
            if (!same_pieces(x, y))
                BROKEN(v, "rounds of the parallel loop share out %s in two ways", x->buffer->name);
            low = y->low < low ? y->low : low;
            high = y->high > high ? y->high : high;
            reach = y->reach > reach ? y->reach : reach;
            repeats |= y->repeats;
        }
        bool meet = x->outer && (high - low >= x->piece || (x->every && repeats && reach - low >= x->every));
        if (meet)
            BROKEN(v, "rounds of the parallel loop may meet in %s", x->buffer->name);
    }
}
