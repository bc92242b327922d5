/* --explain=rewrites: for each place of the .bp file, the rules that changed what is computed for it, and what each claims;
   then how the derivative of a loss came out. Only what a function of the program computes is told. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

static const char *const claims[] = {
    [CLAIM_EXACT] = "to the bit",         [CLAIM_ZERO] = "but for the sign of 0", [CLAIM_NEAR] = "within 4 ulp",
    [CLAIM_FINITE] = "for finite values", [CLAIM_STABLE] = "more exact",
};

static void mark(const Node *node, bool *live) {
    if (live[node->id])
        return;
    live[node->id] = true;
    for (int i = 0; i < node->arg_count; i++)
        mark(node->args[i], live);
}

static void mark_function(const GraphFunction *function, bool *live) {
    for (; function; function = function->next)
        for (int i = 0; i < function->sinks.count; i++)
            mark(function->sinks.at[i].value, live);
}

static int by_place(const void *left, const void *right) {
    const Rewrite *a = left, *b = right;
    if (a->span.source != b->span.source)
        return a->span.source < b->span.source ? -1 : 1;
    if (a->span.start != b->span.start)
        return a->span.start < b->span.start ? -1 : 1;
    if (a->span.end != b->span.end)
        return a->span.end < b->span.end ? -1 : 1;
    if (a->rule != b->rule)
        return a->rule < b->rule ? -1 : 1;
    return a->result->id < b->result->id ? -1 : a->result->id > b->result->id;
}

static bool same_place(const Rewrite *a, const Rewrite *b) {
    return a->span.source == b->span.source && a->span.start == b->span.start && a->span.end == b->span.end;
}

static void print_place(Span span, Text *out) {
    size_t length;
    const char *text = source_text(span.source, &length);
    Place place = span_place(span);
    text_printf(out, "%s:%d:%d: ", place.path, place.line, place.column);
    int count = 0;
    for (int32_t i = span.start; i < span.end && text[i] != '\n' && count < 60; i++, count++)
        text_add_bytes(out, &text[i], 1);
    text_add(out, span.end - span.start > count ? "…\n" : "\n");
}

static void print_rule(const Rewrite *at, int count, Text *out) {
    const RuleInfo *rule = &rule_table[at->rule];
    char times[32] = "";
    if (count > 1)
        snprintf(times, sizeof times, " (%d times)", count);
    if (at->rule == RULE_SHARED && !span_in_prelude(at->result->span)) {
        Place place = span_place(at->result->span);
        text_printf(out, "  %-20s what is computed at %d:%d serves again: to the bit%s\n", rule->name, place.line,
                    place.column, times);
        return;
    }
    text_printf(out, "  %-20s %s is %s: %s%s\n", rule->name, rule->from, rule->to, claims[rule->claim], times);
}

/* ---- the derivative of cross-entropy ----------------------------------------------------------------------------- */

/* d / sum(exp(z)) * exp(z): d times a softmax */
static bool is_softmax_times(const Node *node) {
    for (int i = 0; i < 2 && node->op == OP_MULTIPLY; i++) {
        const Node *e = node->args[i], *share = node->args[1 - i];
        if (e->op == OP_EXP && share->op == OP_DIVIDE && share->args[1]->op == OP_SUM && share->args[1]->args[0] == e)
            return true;
    }
    return false;
}

/* where(iota(n) == t, d, 0) */
static bool is_hot(const Node *node) {
    return node->op == OP_WHERE && node->args[0]->op == OP_EQUAL && node_is_constant(node->args[2], 0) &&
           (node->args[0]->args[0]->op == OP_IOTA || node->args[0]->args[1]->op == OP_IOTA);
}

static bool is_probability_less_target(const Node *node) {
    if (node->op != OP_ADD && node->op != OP_SUBTRACT)
        return false;
    return (is_softmax_times(node->args[0]) && is_hot(node->args[1])) ||
           (is_softmax_times(node->args[1]) && is_hot(node->args[0]));
}

static void explain_derivatives(const GraphProgram *program, const bool *live, Text *out) {
    for (int id = 0; id < graph_node_count(program->graph); id++) {
        const Node *node = graph_node(program->graph, id);
        if (!live[id] || node->span.source < 0 || !is_probability_less_target(node))
            continue;
        print_place(node->span, out);
        text_printf(
            out, "  the derivative of cross-entropy with respect to its logits is p - y times d_loss, p = softmax(z), "
                 "y 1 at the target's class\n");
    }
}

void explain_rewrites(const GraphProgram *program, Text *out) {
    int count, kept = 0;
    const Rewrite *all = graph_rewrites(program->graph, &count);
    bool *live = arena_array(program->arena, bool, graph_node_count(program->graph));
    Rewrite *at = arena_array(program->arena, Rewrite, count + 1);
    for (int i = 0; i < program->functions.count; i++)
        mark_function(program->functions.at[i], live);
    for (int i = 0; i < count; i++)
        if (all[i].span.source >= 0 && !span_in_prelude(all[i].span) && live[all[i].result->id])
            at[kept++] = all[i];
    qsort(at, (size_t)kept, sizeof *at, by_place);
    for (int i = 0, next; i < kept; i = next) {
        if (i == 0 || !same_place(&at[i - 1], &at[i]))
            print_place(at[i].span, out);
        int different = 1;
        for (next = i + 1; next < kept && same_place(&at[i], &at[next]) && at[next].rule == at[i].rule; next++)
            different += at[next].result != at[next - 1].result;
        print_rule(&at[i], different, out);
    }
    explain_derivatives(program, live, out);
    if (out->length == 0)
        text_add(out, "no formula was rewritten\n");
}
