/* Metrics that the order of all rows makes: areas under curves. The formula sees a number; the runtime sorts the rows'
   scores and puts that number among the totals of the first pass. */
#include "build.h"

/* The area for one score and one truth of each row; the same one again is the same number. */
static Node *ranking_of(Build *build, enum bp_ranking_kind kind, Node *score, Node *truth) {
    for (int i = 0; i < build->rankings.count; i++) {
        const Ranking *known = &build->rankings.at[i];
        if (known->kind == kind && known->score == score && known->truth == truth)
            return known->value;
    }
    Ranking *ranking = LIST_ADD(build->arena, &build->rankings);
    *ranking = (Ranking){.kind = kind, .score = score, .truth = truth};
    Buffer *place = buffer_new(build->arena, "ranking", BUFFER_TOTALS, SCALAR_F64, 0, 0, NULL, build->user);
    return ranking->value = node_total(build->graph, place, 0, 0, NULL);
}

Node *build_ranking(Build *build, enum bp_ranking_kind kind, Node *y, Node *t, Span span) {
    Graph *graph = build->graph;
    int64_t classes = node_elements(y);
    if (!build->measuring || !y->batched || !t->batched) {
        build_error(build, span, "the area under a curve is a metric, of what differs from row to row");
        return NULL;
    }
    if (t->rank > 0 && node_elements(t) == 1)
        t = node_reshape(graph, t, 0, NULL);
    if (y->rank > 1 || t->rank > 0 || (classes > 1 && t->type != TYPE_INDEX)) {
        build_error(build, span, "the area under a curve needs one score, or one for each class, and one truth");
        return NULL;
    }
    if (classes == 1) {
        Node *score = node_reshape(graph, y, 0, NULL);
        Node *truth = t->type == TYPE_REAL ? t : node_op(graph, OP_REAL, t, NULL, NULL);
        return ranking_of(build, kind, score, truth);
    }
    Node *sum = NULL; /* each class against the others, all counting alike */
    for (int64_t i = 0; i < classes; i++) {
        Node *score = node_reshape(graph, node_slice(graph, y, i, 1), 0, NULL);
        Node *here =
            node_op(graph, OP_EQUAL, node_op(graph, OP_REAL, t, NULL, NULL), node_constant(graph, (double)i), NULL);
        Node *area = ranking_of(build, kind, score, node_op(graph, OP_REAL, here, NULL, NULL));
        sum = sum ? node_op(graph, OP_ADD, sum, area, NULL) : area;
    }
    return node_op(graph, OP_DIVIDE, sum, node_constant(graph, (double)classes), NULL);
}

Node *build_greatest(Build *build, Node *x, Span span) {
    if (build->measuring && x->batched && node_elements(x) == 1) {
        x = node_reshape(build->graph, x, 0, NULL);
        return ranking_of(build, BP_RANKING_GREATEST, x, x);
    }
    build_error(build, span, "batch_max is for metrics, of a number that differs from row to row");
    return NULL;
}

const Ranking *ranking_behind(const Build *build, const Node *node) {
    for (int i = 0; i < build->rankings.count; i++)
        if (build->rankings.at[i].value == node)
            return &build->rankings.at[i];
    return NULL;
}

bool uses_ranking(const Build *build, const Node *node) {
    if (ranking_behind(build, node))
        return true;
    for (int i = 0; i < node->arg_count; i++)
        if (uses_ranking(build, node->args[i]))
            return true;
    return false;
}

void place_rankings(Build *build, const MeasureRequest *request, GraphPass *pass) {
    for (int i = 0; i < build->rankings.count; i++) {
        Ranking *ranking = &build->rankings.at[i];
        const char *name = arena_printf(build->arena, "%s_scores_%d", request->name, i + 1);
        const char *truth = arena_printf(build->arena, "%s_truths_%d", request->name, i + 1);
        Buffer *scores =
            buffer_new(build->arena, name, BUFFER_OUTPUT, SCALAR_F32, request->capacity, 0, NULL, request->span);
        Buffer *truths =
            buffer_new(build->arena, truth, BUFFER_OUTPUT, SCALAR_F32, request->capacity, 0, NULL, request->span);
        *LIST_ADD(build->arena, &pass->accumulate->sinks) = (Sink){ranking->score, NULL, scores, 0};
        *LIST_ADD(build->arena, &pass->accumulate->sinks) = (Sink){ranking->truth, NULL, truths, 0};
        ranking->total = pass->sum_count + i;
        *LIST_ADD(build->arena, &pass->rankings) = (GraphRanking){ranking->kind, scores, truths, ranking->total};
    }
    pass->totals->elements = pass->totals->dims[0] = pass->sum_count + build->rankings.count;
}
