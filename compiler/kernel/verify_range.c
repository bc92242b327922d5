/* How far a scalar integer reaches: interval arithmetic, narrowed by the conditions around it. */
#include "verify.h"

static bool is_index(const Value *value) {
    return value->type.scalar == SCALAR_I64 && value->type.lanes == 1;
}

static int64_t bounded(__int128 x) {
    return x < -FAR ? -FAR : x > FAR ? FAR : (int64_t)x;
}

static Range intersection(Range x, Range y) {
    return (Range){x.low > y.low ? x.low : y.low, x.high < y.high ? x.high : y.high};
}

static Range product_range(Range x, Range y) {
    __int128 corners[] = {(__int128)x.low * y.low, (__int128)x.low * y.high, (__int128)x.high * y.low,
                          (__int128)x.high * y.high};
    __int128 low = corners[0], high = corners[0];
    for (int i = 1; i < 4; i++) {
        low = corners[i] < low ? corners[i] : low;
        high = corners[i] > high ? corners[i] : high;
    }
    return (Range){bounded(low), bounded(high)};
}

static void add_fact(Verifier *v, const Value *value, Range range) {
    if (value->kind == VALUE_NUMBER)
        return;
    Fact fact = {.value = value, .range = range};
    if (value->kind == VALUE_VARIABLE)
        fact.loop = value->statement;
    *LIST_ADD(v->arena, &v->facts) = fact;
    bool shifted = value->kind == VALUE_OP && value->op == OP_INTEGER_ADD && value->args[1]->kind == VALUE_NUMBER;
    if (shifted) { /* x + 3 < n says something of x */
        int64_t by = value->args[1]->number.integer;
        add_fact(v, value->args[0], (Range){bounded((__int128)range.low - by), bounded((__int128)range.high - by)});
    }
}

/* Adds what holds when `condition` is `truth`. */
void range_assume(Verifier *v, const Value *condition, bool truth) {
    if (condition->kind != VALUE_OP)
        return;
    Value *const *args = condition->args;
    if (condition->op == OP_NOT) {
        range_assume(v, args[0], !truth);
    } else if (condition->op == (truth ? OP_AND : OP_OR)) {
        range_assume(v, args[0], truth);
        range_assume(v, args[1], truth);
    } else if (condition->op == OP_INTEGER_LESS && is_index(args[0])) {
        Range x = range_of(v, args[0]), y = range_of(v, args[1]);
        add_fact(v, args[0], truth ? (Range){-FAR, y.high - 1} : (Range){y.low, FAR});
        add_fact(v, args[1], truth ? (Range){x.low + 1, FAR} : (Range){-FAR, x.high});
    } else if (condition->op == OP_INTEGER_EQUAL && truth && is_index(args[0])) {
        Range x = range_of(v, args[0]), y = range_of(v, args[1]);
        add_fact(v, args[0], y);
        add_fact(v, args[1], x);
    }
}

static Range where_range(Verifier *v, const Value *value) {
    int before = v->facts.count;
    range_assume(v, value->args[0], true);
    Range yes = range_of(v, value->args[1]);
    v->facts.count = before;
    range_assume(v, value->args[0], false);
    Range no = range_of(v, value->args[2]);
    v->facts.count = before;
    return (Range){yes.low < no.low ? yes.low : no.low, yes.high > no.high ? yes.high : no.high};
}

static Range op_range(Verifier *v, const Value *value) {
    if (value->op == OP_CONVERT)
        return range_of(v, value->args[0]);
    if (value->op == OP_WHERE)
        return where_range(v, value);
    if (value->arg_count != 2 || !is_index(value->args[0]))
        return ANYTHING;
    Range x = range_of(v, value->args[0]), y = range_of(v, value->args[1]);
    switch (value->op) {
    case OP_INTEGER_ADD:
        return (Range){bounded((__int128)x.low + y.low), bounded((__int128)x.high + y.high)};
    case OP_INTEGER_SUBTRACT:
        return (Range){bounded((__int128)x.low - y.high), bounded((__int128)x.high - y.low)};
    case OP_INTEGER_MULTIPLY:
        return product_range(x, y);
    case OP_INTEGER_MINIMUM:
        return (Range){x.low < y.low ? x.low : y.low, x.high < y.high ? x.high : y.high};
    case OP_INTEGER_DIVIDE:
    case OP_INTEGER_REMAINDER:
        if (x.low < 0 || y.low <= 0)
            BROKEN(v, "'%s' of a number that may be negative, or by one that may not be positive",
                   op_table[value->op].name);
        if (value->op == OP_INTEGER_DIVIDE)
            return (Range){x.low / y.high, x.high / y.low};
        return (Range){0, x.high < y.high - 1 ? x.high : y.high - 1};
    case OP_BITS_AND:
        return x.low >= 0 && y.low >= 0 ? (Range){0, x.high < y.high ? x.high : y.high} : ANYTHING;
    default:
        return ANYTHING;
    }
}

/* Whether `number` divides every value of it. */
static bool is_multiple(const Value *value, int64_t number) {
    if (value->kind == VALUE_NUMBER)
        return value->number.integer % number == 0;
    return value->kind == VALUE_VARIABLE && value->statement->step % number == 0 &&
           is_multiple(value->statement->from, number);
}

/* From the first to the last round of the loop. */
static Range loop_range(Verifier *v, const Statement *loop) {
    Range from = range_of(v, loop->from), to = range_of(v, loop->to);
    int64_t last = to.high - 1;
    if (from.low == from.high && last >= from.low) /* the greatest end gives the greatest round */
        last = from.low + (last - from.low) / loop->step * loop->step;
    else if (last >= 0 && is_multiple(loop->from, loop->step))
        last = last / loop->step * loop->step;
    return (Range){from.low, last};
}

static Range plain_range(Verifier *v, const Value *value) {
    switch (value->kind) {
    case VALUE_NUMBER:
        return (Range){value->number.integer, value->number.integer};
    case VALUE_VARIABLE:
        return loop_range(v, value->statement);
    case VALUE_CONTEXT:
        if (value->field == CONTEXT_ROWS && v->function)
            return (Range){1, v->function->capacity};
        return value->field == CONTEXT_SEED || value->field == CONTEXT_STEP ? ANYTHING : (Range){0, FAR};
    case VALUE_LOAD:
        return value->type.scalar == SCALAR_I32 ? (Range){INT32_MIN, INT32_MAX} : ANYTHING;
    case VALUE_OP:
        return op_range(v, value);
    default:
        return ANYTHING;
    }
}

/* A scalar integer's least and greatest value; facts of the conditions around it narrow it. An empty range: never run.
 */
Range range_of(Verifier *v, const Value *value) {
    Range range = plain_range(v, value);
    for (int i = 0; i < v->facts.count; i++) {
        const Fact *fact = &v->facts.at[i];
        if (fact->value == value || (value->kind == VALUE_VARIABLE && fact->loop == value->statement))
            range = intersection(range, fact->range);
    }
    if (value->kind == VALUE_VARIABLE && range.high >= 0 && is_multiple(value, value->statement->step))
        range.high = range.high / value->statement->step * value->statement->step; /* p < 19 by twos: 18 at most */
    return range;
}

/* Whether a condition that was assumed cannot hold beside what was assumed before. */
bool range_is_never(Verifier *v, const Value *condition) {
    if (condition->kind != VALUE_OP || (condition->op != OP_INTEGER_LESS && condition->op != OP_INTEGER_EQUAL))
        return false;
    Range range = range_of(v, condition->args[0]);
    return range.low > range.high;
}
