/* struct bp_program as C initialisers: what the runtime interprets, as a reader may read it. Fields that are zero are
   left out; lists that hang from a struct stand in it as compound literals, so that nothing needs a name of its own. */
#include "host.h"

#include <string.h>

enum { MAX_DEPTH = 24, ITEM_COLUMN = 100 };

typedef struct Writer {
    Text *out;
    size_t line; /* where one begins, the last or one before */
    CNames *names;
    int depth;
    bool flat[MAX_DEPTH];  /* on one line, broken only where it is long */
    bool begun[MAX_DEPTH]; /* something stands before */
} Writer;

/* ---- Braces, fields, items --------------------------------------------------------------------------------------- */

static void new_line(Writer *w, int depth) {
    text_indent(w->out, "\n", depth);
}

static void open_brace(Writer *w, bool flat) {
    if (w->depth + 1 >= MAX_DEPTH)
        BUG("a program nested deeper than %d", MAX_DEPTH);
    text_add(w->out, "{");
    w->depth++;
    w->flat[w->depth] = flat || w->flat[w->depth - 1];
    w->begun[w->depth] = false;
}

static void close_brace(Writer *w) {
    if (!w->begun[w->depth])
        text_add(w->out, "0"); /* C11 has no empty braces */
    else if (!w->flat[w->depth])
        text_add(w->out, ",");
    w->depth--;
    if (!w->flat[w->depth + 1])
        new_line(w, w->depth);
    text_add(w->out, "}");
}

static size_t column_of(Writer *w) {
    const Text *out = w->out;
    for (const char *end; (end = memchr(out->at + w->line, '\n', out->length - w->line));)
        w->line = (size_t)(end + 1 - out->at);
    return out->length - w->line;
}

static void next_item(Writer *w) {
    bool begun = w->begun[w->depth];
    w->begun[w->depth] = true;
    if (begun)
        text_add(w->out, ",");
    if (!w->flat[w->depth] || (begun && column_of(w) > ITEM_COLUMN))
        new_line(w, w->depth);
    else if (begun)
        text_add(w->out, " ");
}

static void field(Writer *w, const char *name) {
    next_item(w);
    text_add_bytes(w->out, ".", 1);
    text_add(w->out, name);
    text_add_bytes(w->out, " = ", 3);
}

/* `.name = (const type[]){`: to be closed. */
static void open_list(Writer *w, const char *name, const char *type, bool flat) {
    field(w, name);
    text_printf(w->out, "(const %s[])", type);
    open_brace(w, flat);
}

/* ---- Values: a zero is not written ------------------------------------------------------------------------------- */

static void write_integer(Writer *w, int64_t number) {
    if (number == INT64_MIN)
        text_add(w->out, "INT64_MIN");
    else
        text_printf(w->out, "%lld", (long long)number);
}

static void write_unsigned(Writer *w, uint64_t number) {
    if (number == UINT64_MAX)
        text_add(w->out, "UINT64_MAX");
    else
        text_printf(w->out, number > INT64_MAX ? "%lluu" : "%llu", (unsigned long long)number);
}

static void write_string(Writer *w, const char *string) {
    if (string)
        text_c_string(w->out, string);
    else
        text_add(w->out, "NULL");
}

static void put_integer(Writer *w, const char *name, int64_t number) {
    if (number == 0)
        return;
    field(w, name);
    write_integer(w, number);
}

static void put_unsigned(Writer *w, const char *name, uint64_t number) {
    if (number == 0)
        return;
    field(w, name);
    write_unsigned(w, number);
}

static void put_real(Writer *w, const char *name, double number) {
    if (number == 0)
        return;
    field(w, name);
    print_real(w->out, number, false);
}

static void put_string(Writer *w, const char *name, const char *string) {
    if (!string)
        return;
    field(w, name);
    write_string(w, string);
}

static void put_word(Writer *w, const char *name, const char *word) {
    field(w, name);
    text_add(w->out, word);
}

static void put_character(Writer *w, const char *name, char character) {
    if (character == 0)
        return;
    field(w, name);
    if (character == '\'' || character == '\\' || character < ' ' || character > '~')
        text_printf(w->out, "'\\%03o'", (unsigned)(unsigned char)character);
    else
        text_printf(w->out, "'%c'", character);
}

static void put_strings(Writer *w, const char *name, const char *const *strings, int64_t count) {
    if (!strings || count == 0)
        return;
    open_list(w, name, "char *const", true);
    for (int64_t i = 0; i < count; i++) {
        next_item(w);
        write_string(w, strings[i]);
    }
    close_brace(w);
}

static void put_integers(Writer *w, const char *name, const int32_t *numbers, int64_t count) {
    if (!numbers || count == 0)
        return;
    open_list(w, name, "int32_t", true);
    for (int64_t i = 0; i < count; i++) {
        next_item(w);
        write_integer(w, numbers[i]);
    }
    close_brace(w);
}

static void put_offsets(Writer *w, const char *name, const uint64_t *numbers, int64_t count) {
    if (!numbers || count == 0)
        return;
    open_list(w, name, "uint64_t", true);
    for (int64_t i = 0; i < count; i++) {
        next_item(w);
        write_unsigned(w, numbers[i]);
    }
    close_brace(w);
}

static void put_reals(Writer *w, const char *name, const double *numbers, int64_t count) {
    if (!numbers || count == 0)
        return;
    open_list(w, name, "double", true);
    for (int64_t i = 0; i < count; i++) {
        next_item(w);
        print_real(w->out, numbers[i], false);
    }
    close_brace(w);
}

static void put_flags(Writer *w, const char *name, const uint8_t *flags, int64_t count) {
    if (!flags || count == 0)
        return;
    open_list(w, name, "uint8_t", true);
    for (int64_t i = 0; i < count; i++) {
        next_item(w);
        write_integer(w, flags[i]);
    }
    close_brace(w);
}

static const char *type_word(enum bp_type type) {
    switch (type) {
    case BP_F32:
        return "BP_F32";
    case BP_F64:
        return "BP_F64";
    case BP_I32:
        return "BP_I32";
    }
    BUG("no such type: %d", (int)type);
}

static const char *part_word(enum bp_part part) {
    static const char *const words[BP_PARTS] = {"BP_TRAIN", "BP_VALIDATION", "BP_TEST", "BP_ALL"};
    return words[part];
}

/* A list of structs of the program: `.name = (const struct bp_x[]){ … }`, each item by write_x. */
#define PUT_LIST(w, name, type, items, count, flat, write)                                                             \
    do {                                                                                                               \
        if ((count) > 0) {                                                                                             \
            open_list((w), (name), "struct " #type, (flat));                                                           \
            for (int32_t item_ = 0; item_ < (count); item_++) {                                                        \
                next_item(w);                                                                                          \
                write((w), &(items)[item_]);                                                                           \
            }                                                                                                          \
            close_brace(w);                                                                                            \
        }                                                                                                              \
    } while (0)

/* ---- The structs, in the order of program.h ---------------------------------------------------------------------- */

static void put_layout(Writer *w, enum bp_layout layout) {
    if (layout == BP_PANELS)
        put_word(w, "layout", "BP_PANELS");
}

static void write_feed(Writer *w, const struct bp_feed *feed) {
    open_brace(w, true);
    field(w, "slot");
    write_integer(w, feed->slot);
    put_word(w, "type", type_word(feed->type));
    put_unsigned(w, "offset", feed->offset);
    put_layout(w, feed->layout);
    put_integer(w, "stride", feed->stride);
    put_integer(w, "own", feed->own);
    put_integer(w, "partner", feed->partner);
    close_brace(w);
}

static void put_function(Writer *w, const char *name, const struct bp_function *function) {
    if (!function->name)
        return;
    field(w, name);
    open_brace(w, function->feed_count == 0);
    put_string(w, "name", function->name);
    Name key = name_of(function->name);
    put_word(w, "code", c_name(w->names, key, key, SCOPE_GLOBAL));
    put_integer(w, "parallel", function->parallel);
    put_integer(w, "capacity", function->capacity);
    PUT_LIST(w, "feeds", bp_feed, function->feeds, function->feed_count, true, write_feed);
    put_integer(w, "feed_count", function->feed_count);
    if (function->settle_name) {
        key = name_of(function->settle_name);
        put_word(w, "settle", c_name(w->names, key, key, SCOPE_GLOBAL));
        put_string(w, "settle_name", function->settle_name);
        put_integer(w, "settle_after", function->settle_after);
    }
    close_brace(w);
}

static const char *transform_word(enum bp_transform_kind kind) {
    static const char *const words[] = {
        [BP_STRIP] = "BP_STRIP",
        [BP_IMPUTE_MEAN] = "BP_IMPUTE_MEAN",
        [BP_IMPUTE_MEDIAN] = "BP_IMPUTE_MEDIAN",
        [BP_IMPUTE_MOST_FREQUENT] = "BP_IMPUTE_MOST_FREQUENT",
        [BP_IMPUTE_CONSTANT] = "BP_IMPUTE_CONSTANT",
        [BP_DROP] = "BP_DROP",
        [BP_LOG] = "BP_LOG",
        [BP_STANDARDIZE] = "BP_STANDARDIZE",
        [BP_MINMAX] = "BP_MINMAX",
        [BP_SCALE] = "BP_SCALE",
    };
    return words[kind];
}

static void write_transform(Writer *w, const struct bp_transform *transform) {
    open_brace(w, true);
    put_word(w, "kind", transform_word(transform->kind));
    put_real(w, "argument", transform->argument);
    put_string(w, "text", transform->text);
    put_integer(w, "fitted", transform->fitted);
    close_brace(w);
}

static void write_column(Writer *w, const struct bp_column *column) {
    static const char *const kind_words[] = {"BP_NUMBER", "BP_CATEGORY", "BP_ARRAY", "BP_WORDS"};
    open_brace(w, !column->categories && !column->missing && column->transform_count == 0); /* thousands, as a rule */
    put_string(w, "name", column->name);
    put_integer(w, "line", column->line);
    put_integer(w, "position", column->position);
    if (column->kind != BP_NUMBER)
        put_word(w, "kind", kind_words[column->kind]);
    put_strings(w, "categories", column->categories, column->category_count);
    put_integer(w, "category_count", column->category_count);
    put_integer(w, "unknown_is_zero", column->unknown_is_zero);
    put_strings(w, "missing", column->missing, column->missing_count);
    put_integer(w, "missing_count", column->missing_count);
    PUT_LIST(w, "transforms", bp_transform, column->transforms, column->transform_count, true, write_transform);
    put_integer(w, "transform_count", column->transform_count);
    put_integer(w, "width", column->width);
    put_integer(w, "distinct", column->distinct);
    put_integer(w, "lowercase", column->lowercase);
    put_integer(w, "counts", column->counts);
    close_brace(w);
}

static void write_slot(Writer *w, const struct bp_slot *slot) {
    static const char *const form_words[] = {"BP_SLOT_COLUMNS", "BP_SLOT_ARRAY", "BP_SLOT_WORDS", "BP_SLOT_COUNTS"};
    open_brace(w, true);
    put_string(w, "name", slot->name);
    put_word(w, "type", type_word(slot->type));
    put_word(w, "form", form_words[slot->form]);
    put_integer(w, "width", slot->width);
    put_integers(w, "columns", slot->columns, slot->column_count);
    put_integer(w, "column_count", slot->column_count);
    put_integer(w, "is_target", slot->is_target);
    close_brace(w);
}

static void write_file(Writer *w, const struct bp_file *file) {
    open_brace(w, true);
    put_string(w, "name", file->name);
    put_string(w, "path", file->path);
    put_word(w, "part", part_word(file->part));
    put_integer(w, "header", file->header);
    put_integer(w, "skip", file->skip);
    put_character(w, "delimiter", file->delimiter);
    put_string(w, "as", file->as);
    close_brace(w);
}

static void write_data(Writer *w, const struct bp_data *data) {
    open_brace(w, false);
    put_string(w, "name", data->name);
    put_integer(w, "line", data->line);
    PUT_LIST(w, "files", bp_file, data->files, data->file_count, false, write_file);
    put_integer(w, "file_count", data->file_count);
    put_strings(w, "rows", data->rows, data->row_count * data->field_count);
    put_integer(w, "row_count", data->row_count);
    put_integer(w, "field_count", data->field_count);
    put_strings(w, "field_names", data->field_names, data->field_count);
    PUT_LIST(w, "columns", bp_column, data->columns, data->column_count, false, write_column);
    put_integer(w, "column_count", data->column_count);
    PUT_LIST(w, "slots", bp_slot, data->slots, data->slot_count, false, write_slot);
    put_integer(w, "slot_count", data->slot_count);
    put_real(w, "train", data->train);
    put_real(w, "validation", data->validation);
    put_real(w, "test", data->test);
    put_integer(w, "stratify", data->stratify);
    put_unsigned(w, "split_seed", data->split_seed);
    put_integer(w, "folds", data->folds);
    put_integer(w, "fitted_count", data->fitted_count);
    put_unsigned(w, "fitted_offset", data->fitted_offset);
    put_string(w, "preprocessing_from", data->preprocessing_from);
    put_integer(w, "refit", data->refit);
    if (data->log_name) {
        Name key = name_of(data->log_name);
        put_word(w, "log", c_name(w->names, key, key, SCOPE_GLOBAL));
    }
    close_brace(w);
}

static void write_tensor(Writer *w, const struct bp_tensor *tensor) {
    open_brace(w, true);
    put_string(w, "name", tensor->name);
    put_integer(w, "line", tensor->line);
    put_integer(w, "rank", tensor->rank);
    if (tensor->rank) {
        field(w, "shape");
        open_brace(w, true);
        for (int i = 0; i < tensor->rank; i++) {
            next_item(w);
            write_integer(w, tensor->shape[i]);
        }
        close_brace(w);
    }
    put_unsigned(w, "offset", tensor->offset);
    put_layout(w, tensor->layout);
    close_brace(w);
}

static void write_output(Writer *w, const struct bp_output *output) {
    static const char *const kinds[] = {"BP_OUTPUT_NUMBER", "BP_OUTPUT_CLASS", "BP_OUTPUT_BINARY"};
    open_brace(w, true);
    put_string(w, "name", output->name);
    put_word(w, "kind", kinds[output->kind]);
    put_integer(w, "width", output->width);
    put_unsigned(w, "offset", output->offset);
    if (output->kind != BP_OUTPUT_NUMBER)
        put_strings(w, "classes", output->classes, output->kind == BP_OUTPUT_BINARY ? 2 : output->width);
    if (output->columns)
        put_strings(w, "columns", output->columns, output->width);
    close_brace(w);
}

static void write_model(Writer *w, const struct bp_model *model) {
    open_brace(w, false);
    put_string(w, "name", model->name);
    put_integer(w, "line", model->line);
    put_integer(w, "first_tensor", model->first_tensor);
    put_integer(w, "tensor_count", model->tensor_count);
    put_function(w, "init", &model->init);
    put_string(w, "from", model->from);
    put_flags(w, "loaded", model->loaded, model->tensor_count);
    put_reals(w, "orthogonal", model->orthogonal, model->tensor_count);
    put_integer(w, "data", model->data);
    put_function(w, "predict", &model->predict);
    PUT_LIST(w, "outputs", bp_output, model->outputs, model->output_count, false, write_output);
    put_integer(w, "output_count", model->output_count);
    close_brace(w);
}

static void write_metric(Writer *w, const struct bp_metric *metric) {
    open_brace(w, true);
    put_string(w, "name", metric->name);
    put_integer(w, "rows", metric->rows);
    put_integer(w, "columns", metric->columns);
    put_unsigned(w, "offset", metric->offset);
    put_strings(w, "labels", metric->labels, metric->rows);
    put_integer(w, "better", metric->better);
    close_brace(w);
}

static void write_ranking(Writer *w, const struct bp_ranking *ranking) {
    open_brace(w, true);
    static const char *const kinds[] = {"BP_RANKING_ROC", "BP_RANKING_PR", "BP_RANKING_GREATEST"};
    put_word(w, "kind", kinds[ranking->kind]);
    put_unsigned(w, "scores_offset", ranking->scores_offset);
    put_unsigned(w, "truths_offset", ranking->truths_offset);
    put_integer(w, "total", ranking->total);
    close_brace(w);
}

static void write_pass(Writer *w, const struct bp_pass *pass) {
    open_brace(w, false);
    put_function(w, "accumulate", &pass->accumulate);
    put_function(w, "finish", &pass->finish);
    put_unsigned(w, "sums_offset", pass->sums_offset);
    put_unsigned(w, "totals_offset", pass->totals_offset);
    put_integer(w, "sum_count", pass->sum_count);
    PUT_LIST(w, "rankings", bp_ranking, pass->rankings, pass->ranking_count, true, write_ranking);
    put_integer(w, "ranking_count", pass->ranking_count);
    close_brace(w);
}

static void put_measure(Writer *w, const char *name, const struct bp_measure *measure) {
    if (measure->pass_count == 0 && measure->metric_count == 0)
        return;
    field(w, name);
    open_brace(w, false);
    PUT_LIST(w, "passes", bp_pass, measure->passes, measure->pass_count, false, write_pass);
    put_integer(w, "pass_count", measure->pass_count);
    PUT_LIST(w, "metrics", bp_metric, measure->metrics, measure->metric_count, false, write_metric);
    put_integer(w, "metric_count", measure->metric_count);
    close_brace(w);
}

static void write_check(Writer *w, const struct bp_check *check) {
    open_brace(w, false);
    put_string(w, "name", check->name);
    put_function(w, "loss", &check->loss);
    put_function(w, "gradient", &check->gradient);
    put_unsigned(w, "memory_bytes", check->memory_bytes);
    put_unsigned(w, "loss_offset", check->loss_offset);
    put_integers(w, "tensors", check->tensors, check->tensor_count);
    put_offsets(w, "parameter_offsets", check->parameter_offsets, check->tensor_count);
    put_offsets(w, "gradient_offsets", check->gradient_offsets, check->tensor_count);
    put_integer(w, "tensor_count", check->tensor_count);
    close_brace(w);
}

static void write_kept_value(Writer *w, const struct bp_kept_value *value) {
    open_brace(w, true);
    put_unsigned(w, "offset", value->offset);
    put_integer(w, "width", value->width);
    close_brace(w);
}

static void put_prefix(Writer *w, const struct bp_prefix *prefix) {
    if (!prefix->function.name)
        return;
    field(w, "prefix");
    open_brace(w, false);
    put_function(w, "function", &prefix->function);
    PUT_LIST(w, "values", bp_kept_value, prefix->values, prefix->value_count, true, write_kept_value);
    put_integer(w, "value_count", prefix->value_count);
    put_integer(w, "first_slot", prefix->first_slot);
    put_real(w, "flops_per_row", prefix->flops_per_row);
    close_brace(w);
}

static void write_trace_point(Writer *w, const struct bp_trace_point *point) {
    open_brace(w, true);
    put_string(w, "name", point->name);
    put_integer(w, "line", point->line);
    put_unsigned(w, "offset", point->offset);
    put_layout(w, point->layout);
    put_integer(w, "stride", point->stride);
    put_integer(w, "count", point->count);
    put_integer(w, "stop", point->stop);
    close_brace(w);
}

static void put_plateau(Writer *w, const struct bp_plateau *plateau) {
    if (plateau->start == 0)
        return;
    field(w, "plateau");
    open_brace(w, true);
    put_real(w, "start", plateau->start);
    put_integer(w, "metric", plateau->metric);
    put_integer(w, "from_training", plateau->from_training);
    put_integer(w, "better", plateau->better);
    put_real(w, "factor", plateau->factor);
    put_real(w, "threshold", plateau->threshold);
    put_real(w, "least", plateau->least);
    put_integer(w, "patience", plateau->patience);
    put_integer(w, "cooldown", plateau->cooldown);
    close_brace(w);
}

static void put_early_stopping(Writer *w, const struct bp_early_stopping *stopping) {
    field(w, "early_stopping");
    open_brace(w, true);
    field(w, "metric");
    write_integer(w, stopping->metric);
    put_integer(w, "from_training", stopping->from_training);
    put_integer(w, "better", stopping->better);
    put_integer(w, "patience", stopping->patience);
    put_real(w, "min_delta", stopping->min_delta);
    put_integer(w, "start_from_epoch", stopping->start_from_epoch);
    put_integer(w, "best_in_file", stopping->best_in_file);
    close_brace(w);
}

static void write_class_weights(Writer *w, const struct bp_class_weights *weights) {
    open_brace(w, true);
    field(w, "column");
    write_integer(w, weights->column);
    put_unsigned(w, "offset", weights->offset);
    close_brace(w);
}

static void write_train(Writer *w, const struct bp_train *train) {
    open_brace(w, false);
    put_string(w, "name", train->name);
    put_integer(w, "line", train->line);
    put_integer(w, "data", train->data);
    put_integers(w, "models", train->models, train->model_count);
    put_integer(w, "model_count", train->model_count);
    put_integer(w, "first_state", train->first_state);
    put_integer(w, "state_count", train->state_count);
    put_integers(w, "trainable", train->trainable, train->trainable_count);
    put_integer(w, "trainable_count", train->trainable_count);
    put_integers(w, "averages", train->averages, train->trainable_count);
    put_function(w, "start", &train->start);
    put_prefix(w, &train->prefix);
    put_measure(w, "training", &train->training);
    put_measure(w, "validation", &train->validation);
    put_integer(w, "first_loss", train->first_loss);
    put_integer(w, "loss_count", train->loss_count);
    put_integer(w, "epochs", train->epochs);
    put_integer(w, "steps", train->steps);
    put_integer(w, "batch_size", train->batch_size);
    put_integer(w, "shuffle", train->shuffle);
    put_early_stopping(w, &train->early_stopping);
    put_plateau(w, &train->plateau);
    put_string(w, "checkpoint", train->checkpoint);
    put_integer(w, "checkpoint_every", train->checkpoint_every);
    PUT_LIST(w, "class_weights", bp_class_weights, train->class_weights, train->class_weight_count, true,
             write_class_weights);
    put_integer(w, "class_weight_count", train->class_weight_count);
    put_real(w, "flops_per_row", train->flops_per_row);
    put_function(w, "trace", &train->trace);
    PUT_LIST(w, "trace_points", bp_trace_point, train->trace_points, train->trace_point_count, false,
             write_trace_point);
    put_integer(w, "trace_point_count", train->trace_point_count);
    put_unsigned(w, "trace_stops", train->trace_stops);
    PUT_LIST(w, "checks", bp_check, train->checks, train->check_count, false, write_check);
    put_integer(w, "check_count", train->check_count);
    close_brace(w);
}

static void write_evaluate(Writer *w, const struct bp_evaluate *evaluate) {
    open_brace(w, false);
    put_string(w, "name", evaluate->name);
    put_integer(w, "line", evaluate->line);
    put_integer(w, "model", evaluate->model);
    put_integer(w, "data", evaluate->data);
    put_word(w, "part", part_word(evaluate->part));
    put_measure(w, "measure", &evaluate->measure);
    close_brace(w);
}

static void write_save(Writer *w, const struct bp_save *save) {
    open_brace(w, true);
    put_integer(w, "line", save->line);
    put_string(w, "path", save->path);
    put_integers(w, "models", save->models, save->model_count);
    put_integer(w, "model_count", save->model_count);
    close_brace(w);
}

static void write_statement(Writer *w, const struct bp_statement *statement) {
    static const char *const kinds[] = {"BP_DO_TRAIN", "BP_DO_EVALUATE", "BP_DO_SAVE"};
    open_brace(w, true);
    put_word(w, "kind", kinds[statement->kind]);
    put_integer(w, "index", statement->index);
    close_brace(w);
}

static void write_param(Writer *w, const struct bp_param *param) {
    open_brace(w, true);
    put_string(w, "name", param->name);
    put_real(w, "value", param->value);
    close_brace(w);
}

/* ---- The program ------------------------------------------------------------------------------------------------- */

/* A list of its own at file scope, before the program that points at it. */
#define WRITE_TOP(w, list, type, items, count, write)                                                                  \
    do {                                                                                                               \
        if ((count) > 0) {                                                                                             \
            text_add((w)->out, "static const struct " #type " " list "[] = ");                                         \
            open_brace((w), false);                                                                                    \
            for (int32_t item_ = 0; item_ < (count); item_++) {                                                        \
                next_item(w);                                                                                          \
                write((w), &(items)[item_]);                                                                           \
            }                                                                                                          \
            close_brace(w);                                                                                            \
            text_add((w)->out, ";\n\n");                                                                               \
        }                                                                                                              \
    } while (0)

static void put_top(Writer *w, const char *list, const char *count_name, int32_t count) {
    if (count == 0)
        return;
    put_word(w, list, list);
    put_integer(w, count_name, count);
}

static const char *signature_type(char letter) {
    switch (letter) {
    case 'v':
        return "void";
    case 'p':
        return "void *";
    case 'c':
        return "const void *";
    case 'i':
        return "int32_t ";
    case 'l':
        return "int64_t ";
    case 'u':
        return "uint64_t ";
    case 'd':
        return "double ";
    case 'P':
        return "const struct bp_program *";
    case 'I':
        return "int32_t ";
    default:
        BUG("no type of letter %c", letter);
    }
}

static bool is_added(char letter) {
    return letter == 'P' || letter == 'I';
}

/* The runtime's functions, where its text is not in the file. */
static void print_host_prototypes(const HostFunctions *functions, Text *out) {
    for (int i = 0; i < functions->count; i++) {
        const HostFunction *function = &functions->at[i];
        bool known = false;
        for (int j = 0; j < i; j++)
            known |= strcmp(functions->at[j].calls, function->calls) == 0;
        if (known)
            continue;
        const char *args = function->signature + 2;
        text_printf(out, "%s%s%s(", signature_type(*function->signature), *function->signature == 'v' ? " " : "",
                    function->calls);
        for (int a = 0; args[a]; a++)
            text_printf(out, "%s%s", a ? ", " : "", signature_type(args[a]));
        text_add(out, *args ? ");\n" : "void);\n");
    }
    text_add(out, "\n");
}

static void print_host_function(const HostFunction *function, Text *out) {
    const char *args = function->signature + 2, *type = signature_type(*function->signature);
    const char *space = *function->signature == 'v' ? " " : "", *between = "";
    text_printf(out, "%s%s%s(", type, space, function->name);
    for (int i = 0; args[i]; i++)
        if (!is_added(args[i])) {
            text_printf(out, "%s%sa%d", between, signature_type(args[i]), i);
            between = ", ";
        }
    text_printf(out, "%s) {\n    %s%s(", *between ? "" : "void", *function->signature == 'v' ? "" : "return ",
                function->calls);
    for (int i = 0; args[i]; i++) {
        text_add(out, i ? ", " : "");
        if (args[i] == 'P')
            text_add(out, "&program");
        else if (args[i] == 'I')
            text_printf(out, "%d", (int)function->about);
        else
            text_printf(out, "a%d", i);
    }
    text_add(out, ");\n}\n");
}

/* What the header of --emit=header declares. */
static void print_host(const struct bp_program *program, CKind kind, Text *out) {
    Arena *arena = arena_new();
    HostFunctions functions = host_functions(arena, program);
    if (kind == C_LIBRARY)
        print_host_prototypes(&functions, out);
    for (int i = 0; i < functions.count; i++)
        print_host_function(&functions.at[i], out);
    arena_free(arena);
}

void print_program(const struct bp_program *program, CKind kind, CNames *names, Text *out) {
    Writer writer = {.out = out, .line = out->length, .names = names}, *w = &writer;
    WRITE_TOP(w, "params", bp_param, program->params, program->param_count, write_param);
    WRITE_TOP(w, "tensors", bp_tensor, program->tensors, program->tensor_count, write_tensor);
    WRITE_TOP(w, "data", bp_data, program->data, program->data_count, write_data);
    WRITE_TOP(w, "models", bp_model, program->models, program->model_count, write_model);
    WRITE_TOP(w, "trains", bp_train, program->trains, program->train_count, write_train);
    WRITE_TOP(w, "evaluates", bp_evaluate, program->evaluates, program->evaluate_count, write_evaluate);
    WRITE_TOP(w, "saves", bp_save, program->saves, program->save_count, write_save);
    WRITE_TOP(w, "statements", bp_statement, program->statements, program->statement_count, write_statement);
    text_add(out, "static const struct bp_program program = ");
    open_brace(w, false);
    put_word(w, "abi", "BP_ABI");
    put_string(w, "name", program->name);
    put_string(w, "source", program->source);
    put_string(w, "version", program->version);
    put_unsigned(w, "memory_bytes", program->memory_bytes);
    put_unsigned(w, "scratch_bytes", program->scratch_bytes);
    put_top(w, "params", "param_count", program->param_count);
    put_top(w, "tensors", "tensor_count", program->tensor_count);
    put_top(w, "models", "model_count", program->model_count);
    put_top(w, "data", "data_count", program->data_count);
    put_top(w, "trains", "train_count", program->train_count);
    put_top(w, "evaluates", "evaluate_count", program->evaluate_count);
    put_top(w, "saves", "save_count", program->save_count);
    put_top(w, "statements", "statement_count", program->statement_count);
    close_brace(w);
    text_add(out, ";\n\n");
    if (kind == C_STANDALONE)
        text_add(out, "#ifdef BP_NO_MAIN\n");
    if (kind != C_LINKED)
        print_host(program, kind, out);
    if (kind == C_STANDALONE)
        text_add(out, "#else\n");
    if (kind != C_LIBRARY)
        text_add(out, "int main(int argc, char **argv) {\n    return bp_main(&program, argc, argv);\n}\n");
    if (kind == C_STANDALONE)
        text_add(out, "#endif\n");
}

/* ---- The functions that a program names -------------------------------------------------------------------------- */

typedef struct Visitor {
    void (*visit)(void *argument, const char *name);
    void *argument;
} Visitor;

static void visit_name(const Visitor *visitor, const char *name) {
    if (name)
        visitor->visit(visitor->argument, name);
}

static void visit_measure(const Visitor *visitor, const struct bp_measure *measure) {
    for (int32_t i = 0; i < measure->pass_count; i++) {
        visit_name(visitor, measure->passes[i].accumulate.name);
        visit_name(visitor, measure->passes[i].accumulate.settle_name);
        visit_name(visitor, measure->passes[i].finish.name);
    }
}

void program_functions(const struct bp_program *program, void (*visit)(void *argument, const char *name),
                       void *argument) {
    Visitor visitor = {visit, argument};
    for (int32_t i = 0; i < program->data_count; i++)
        visit_name(&visitor, program->data[i].log_name);
    for (int32_t i = 0; i < program->model_count; i++) {
        visit_name(&visitor, program->models[i].init.name);
        visit_name(&visitor, program->models[i].predict.name);
    }
    for (int32_t i = 0; i < program->train_count; i++) {
        const struct bp_train *train = &program->trains[i];
        visit_name(&visitor, train->start.name);
        visit_name(&visitor, train->prefix.function.name);
        visit_measure(&visitor, &train->training);
        visit_measure(&visitor, &train->validation);
        visit_name(&visitor, train->trace.name);
        for (int32_t j = 0; j < train->check_count; j++) {
            visit_name(&visitor, train->checks[j].loss.name);
            visit_name(&visitor, train->checks[j].gradient.name);
        }
    }
    for (int32_t i = 0; i < program->evaluate_count; i++)
        visit_measure(&visitor, &program->evaluates[i].measure);
}
