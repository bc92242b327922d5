/* Models: their weights, and what they compute when applied to inputs. */
#include "build.h"

#include <string.h>

ModelInstance *model_instance(Build *build, const Item *item, Span span) {
    GraphProgram *out = build->out;
    for (int i = 0; i < out->models.count; i++)
        if (out->models.at[i]->item == item)
            return out->models.at[i];
    ModelInstance *base = NULL;
    if (item->kind == ITEM_DERIVED) {
        if (++build->depth > 100) {
            build_error(build, item->base_span, "'%s' is derived from itself", item->name);
            build->depth--;
            return NULL;
        }
        const Definition *definition = program_find(build->program, item->base);
        if (!definition || (definition->item->kind != ITEM_MODEL && definition->item->kind != ITEM_DERIVED)) {
            const Name *names;
            int count = program_names(build->program, build->arena, &names);
            Name near = nearest_name(item->base, names, count);
            build_error(build, item->base_span, "unknown model '%s'%s%s%s", item->base, near ? "; did you mean '" : "",
                        near ? near : "", near ? "'?" : "");
            build->depth--;
            return NULL;
        }
        base = model_instance(build, definition->item, span);
        build->depth--;
        if (!base)
            return NULL;
    }
    ModelInstance *model = arena_new_of(build->arena, ModelInstance);
    model->name = item->name;
    model->item = (Item *)item;
    model->base = base;
    model->span = item->name_span;
    if (item->path) {
        model->from = item->path->string.bytes;
        model->from_span = item->path->span;
    }
    model->index = out->models.count;
    *LIST_ADD(build->arena, &out->models) = model;
    return model;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static Tensor *find_parameter(const ModelInstance *model, Name name) {
    for (int i = 0; i < model->parameters.count; i++)
        if (model->parameters.at[i]->name == name)
            return model->parameters.at[i];
    return NULL;
}

static Node *first_value(Build *build, Tensor *tensor, const Expr *init) {
    const int64_t *dims = build->draw_dims, stream = build->draw_stream;
    int rank = build->draw_rank;
    build->draw_dims = tensor->dims;
    build->draw_rank = tensor->rank;
    build->draw_stream = hash_text(arena_printf(build->arena, "first value of %s.%s", tensor->owner, tensor->name));
    const Node *outer = build->orthogonal;
    build->orthogonal = NULL;
    Term term = build_expression(build, init);
    const Node *orthogonal = build->orthogonal;
    build->orthogonal = outer;
    build->draw_dims = dims;
    build->draw_rank = rank;
    build->draw_stream = stream;
    Node *node = term_number(build, &term);
    if (!node)
        return NULL;
    if (orthogonal && node != orthogonal) {
        build_error(build, init->span,
                    "what is made orthogonal is the whole of a first value: weight = orthogonal(gain = 2)");
        return NULL;
    }
    if (orthogonal)
        tensor->orthogonal = build->gain;
    if (node->batched || (node->rank && !node_same_shape(node, node_tensor(build->graph, tensor)))) {
        build_error(build, init->span, "'%s' is %s, but its first value is %s", tensor->name,
                    node_shape(build->arena, node_tensor(build->graph, tensor)), node_shape(build->arena, node));
        return NULL;
    }
    return node_expand(build->graph, node, node->rank ? 0 : tensor->rank, tensor->dims);
}

static bool parameter_dims(Build *build, Term *terms, int rank, int64_t *dims, Span span) {
    if (rank > BP_MAX_RANK) {
        build_error(build, span, "a parameter has at most %d axes", BP_MAX_RANK);
        return false;
    }
    double elements = 1;
    for (int i = 0; i < rank; i++) {
        if (!term_integer(build, &terms[i], "a size", 1, &dims[i]))
            return false;
        elements *= (double)dims[i];
    }
    if (elements > 1e12) {
        build_error(build, span, "a parameter of %.3g elements is beyond any machine", elements);
        return false;
    }
    return true;
}

bool build_learning(Build *build) {
    const char *path = path_join(build, NULL);
    for (int i = 0; build->frozen && path && i < build->frozen->count; i++)
        if (path_begins(name_of(path), build->frozen->at[i]))
            return false;
    return build->training;
}

Term build_parameter(Build *build, Name name, Term *terms, int rank, const Expr *init, bool statistic, Span span) {
    int64_t dims[4] = {0};
    if (!build->model)
        return build_error(build, span, "weights belong to a model: call this inside one");
    if (!parameter_dims(build, terms, rank, dims, span))
        return NOTHING;
    const char *path = path_join(build, name);
    if (build->user.source >= 0) /* the layer, not the line of its definition */
        span = build->user;
    if (build->def)
        return build_error(build, span, "'%s' is a def, a formula without weights: write `block %s(…) { … }`",
                           build->def->name, build->def->name);
    if (!path || (!name && !build->bound))
        return build_error(build, span, "a layer with weights needs a name: write `h = %s(…)` on a line of its own",
                           build->callee ? build->callee : "dense");
    ModelInstance *model = build->model;
    Tensor *tensor = find_parameter(model, name_of(path));
    if (tensor && tensor->application == model->application)
        return build_error(build, span,
                           "two layers have the weights '%s': give each layer a line and a name of its own", path);
    if (tensor) {
        bool same = tensor->rank == rank;
        for (int i = 0; same && i < rank; i++)
            same = tensor->dims[i] == dims[i];
        if (!same) {
            build_error(build, span, "'%s' of '%s' would have another shape here", path, model->name);
            build_note(build, model->inputs[0].span, "the model got its input width here");
            return NOTHING;
        }
        tensor->application = model->application;
        Tensor *read = build->averaged && tensor->average ? tensor->average : tensor;
        return term_node(node_tensor(build->graph, read), span);
    }
    tensor = arena_new_of(build->arena, Tensor);
    tensor->name = name_of(path);
    tensor->owner = model->name;
    tensor->statistic = statistic;
    tensor->rank = rank;
    memcpy(tensor->dims, dims, sizeof dims);
    tensor->span = build->user;
    tensor->loaded = model->from && !build->fresh;
    tensor->application = model->application;
    *LIST_ADD(build->arena, &model->parameters) = tensor;
    tensor->init =
        init ? first_value(build, tensor, init) : node_expand(build->graph, node_constant(build->graph, 0), rank, dims);
    return term_node(node_tensor(build->graph, tensor), span);
}

/* ---- application ------------------------------------------------------------------------------------------------- */

/* The replacements that hold for a model, its own before its base's. */
static void gather_replacements(Build *build, const ModelInstance *model) {
    int count = 0;
    for (const ModelInstance *at = model; at && at->item->kind == ITEM_DERIVED; at = at->base)
        count += at->item->body.count;
    build->replacements = arena_array(build->arena, Stmt *, count ? count : 1);
    build->replaced = arena_array(build->arena, bool, count ? count : 1);
    build->replacement_count = 0;
    for (const ModelInstance *at = model; at && at->item->kind == ITEM_DERIVED; at = at->base)
        for (int i = 0; i < at->item->body.count; i++) {
            Stmt *stmt = at->item->body.at[i];
            if (stmt->kind != STMT_REPLACE) {
                build_error(build, stmt->span, "only 'replace' stands in a derived model");
                continue;
            }
            build->replacements[build->replacement_count++] = stmt;
        }
}

static void report_unreplaced(Build *build, const ModelInstance *model) {
    for (int i = 0; i < build->replacement_count; i++) {
        if (build->replaced[i])
            continue;
        const Stmt *stmt = build->replacements[i];
        bool again = false; /* a derived model's own replacement hides its base's */
        for (int j = 0; j < i; j++)
            again |= build->replacements[j]->names.at[0] == stmt->names.at[0];
        if (again)
            continue;
        Name near = nearest_name(stmt->names.at[0], model->layers.at, model->layers.count);
        build_error(build, stmt->names.spans[0], "'%s' has no layer '%s' to replace%s%s%s", model->base->name,
                    stmt->names.at[0], near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
}

static bool check_input(Build *build, ModelInstance *model, int i, const Param *param, Node *x, Span span) {
    int64_t width = node_elements(x);
    if (param->dims.count) {
        Term size = build_expression(build, param->dims.at[0].value);
        int64_t wanted;
        if (!term_integer(build, &size, "a size", 1, &wanted))
            return false;
        if (param->dims.count != 1 || wanted != width) {
            build_error(build, span, "'%s' of '%s' is [%lld], but this is %s", param->name, model->name,
                        (long long)wanted, node_shape(build->arena, x));
            build_note(build, param->span, "declared here");
            return false;
        }
    }
    if (i >= (int)(sizeof model->inputs / sizeof *model->inputs))
        return true;
    ModelInput *first = &model->inputs[i];
    if (!first->width) {
        *first = (ModelInput){width, span, NULL};
        return true;
    }
    if (first->width == width)
        return true;
    build_error(build, span, "'%s' takes %lld numbers as '%s' here, but %lld elsewhere", model->name, (long long)width,
                param->name, (long long)first->width);
    build_note(build, first->span, "%lld numbers here", (long long)first->width);
    return false;
}

static void name_outputs(Build *build, ModelInstance *model, const Term *result) {
    if (model->output_names.count || result->kind == TERM_NOTHING)
        return;
    if (result->kind == TERM_TUPLE)
        for (int i = 0; i < result->count; i++)
            *LIST_ADD(build->arena, &model->output_names) = result->names[i];
    else
        *LIST_ADD(build->arena, &model->output_names) =
            result->node && result->node->label ? result->node->label : name_of("output");
}

static void keep_results(Build *build, ModelInstance *model, const Node *input, const Term *result) {
    for (int i = 0; i < model->output_names.count; i++) {
        const Term *output = result->kind == TERM_TUPLE && i < result->count ? &result->at[i] : result;
        if (output->kind == TERM_NODE)
            *LIST_ADD(build->arena, &model->results) = (ModelResult){i, output->node, input};
    }
}

Term build_model_call(Build *build, ModelInstance *model, Term *args, int count, Span span) {
    const ModelInstance *root = model;
    while (root->base)
        root = root->base;
    const Item *item = root->item;
    if (model->broken)
        return NOTHING;
    if (build->model)
        return build_error(build, span, "a model inside a model is not there yet: write `block %s(…) { … }`",
                           model->name);
    if (count != item->params.count)
        return build_error(build, span, "'%s' takes %d input%s, not %d", model->name, item->params.count,
                           item->params.count == 1 ? "" : "s", count);
    Build saved = *build;
    if (++build->depth > 100) {
        *build = saved;
        return build_error(build, span, "'%s' applies itself", model->name);
    }
    scope_open(build, NULL);
    build->path.count = 0;
    build->path.at = NULL;
    build->path.capacity = 0;
    build->bound = false;
    build->def = NULL;
    bool ok = true;
    for (int i = 0; i < count; i++) {
        Node *x = term_number(build, &args[i]);
        ok = x && check_input(build, model, i, &item->params.at[i], x, span) && ok;
        scope_bind(build, item->params.at[i].name, item->params.at[i].span, term_node(x, item->params.at[i].span));
    }
    Term result = NOTHING;
    if (ok) {
        build->model = model;
        model->application++;
        if (build->application)
            build->application = saved.application++;
        build->draws = 0;
        gather_replacements(build, model);
        int errors = error_count();
        result = build_body(build, &item->body);
        if (error_count() == errors)
            report_unreplaced(build, model);
        if (result.kind == TERM_NOTHING && error_count() == errors)
            build_error(build, item->name_span, "'%s' returns nothing: end its body with `return …`", item->name);
        name_outputs(build, model, &result);
        keep_results(build, model, count ? args[0].node : NULL, &result);
        model->built = true;
        model->broken = error_count() > errors;
    }
    LIST(LossUse) losses;
    Updates statistics = build->statistics;
    memcpy(&losses, &build->losses, sizeof losses);
    *build = saved;
    memcpy(&build->losses, &losses, sizeof losses);
    build->statistics = statistics;
    result.span = span;
    return result;
}
