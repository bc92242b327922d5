/* How a program trains: its updates and epochs, values that are not finite, checkpoints; on the line of line_program.h. What
   it must give is worked out here, apart from the runtime. */
#define _GNU_SOURCE
#include "line_program.h"

/* ---- Training ---------------------------------------------------------------------------------------------------- */
/* The same descent once more, in double, batches of 5, 5 and 2 in file order. */
Test(program, trains_as_worked_out_by_hand) {
    struct bp_table table;
    struct bp_error error;
    struct bp_data_options options = {0};
    cr_assert(bp_table_load(&table, &line_data, &options, &error), "%s", error.text);
    cr_assert_eq(table.part_rows[BP_TRAIN], 12);
    const float *x = table.slots[0], *y = table.slots[1];
    double w[3] = {0.53, -0.25, 0}, v[3] = {0}, loss[6] = {0};
    for (int epoch = 0; epoch < 6; epoch++)
        for (int first = 0; first < 12; first += 5) {
            int rows = 12 - first < 5 ? 12 - first : 5;
            double g[3] = {0};
            for (int i = first; i < first + rows; i++) {
                int64_t row = table.parts[BP_TRAIN][i];
                double e = w[0] * x[2 * row] + w[1] * x[2 * row + 1] + w[2] - y[row];
                loss[epoch] += e * e / 12;
                g[0] += 2 * e * x[2 * row] / rows;
                g[1] += 2 * e * x[2 * row + 1] / rows;
                g[2] += 2 * e / rows;
            }
            for (int k = 0; k < 3; k++) {
                v[k] = 0.5 * v[k] + g[k];
                w[k] -= 0.05 * v[k];
            }
        }
    bp_table_free(&table);
    line_train.shuffle = 0;
    expect_run(0, "--seed 3 --log run.jsonl");
    for (int epoch = 0; epoch < 6; epoch++) {
        double logged = log_number("run.jsonl", "epoch", epoch, "loss");
        cr_assert(fabs(logged - loss[epoch]) <= 1e-4 * loss[epoch], "epoch %d: %g, not %g", epoch + 1, logged,
                  loss[epoch]);
        cr_assert_eq(log_number("run.jsonl", "epoch", epoch, "epoch"), epoch + 1);
    }
    float saved[3];
    read_line("line.safetensors", saved);
    for (int k = 0; k < 3; k++)
        cr_assert(fabs(saved[k] - w[k]) < 1e-3, "%d: %g, not %g", k, (double)saved[k], w[k]);
    cr_assert_eq(log_number("run.jsonl", "start", 0, "parameters"), 3);
    expect_in(output, "epoch 6/6  loss ");
    expect_in(output, "Line on points.test (4 rows)\n  loss  ");
    expect_in(output, "saved Line to line.safetensors\n");
}

Test(program, finds_the_line_and_quiet_prints_nothing) {
    struct bp_json json;
    expect_run(0, "--epochs=200 --quiet --log=run.jsonl --set lr=0.1");
    cr_assert_str_eq(output, "");
    cr_assert_lt(log_number("run.jsonl", "evaluate", 0, "mae"), 1e-3);
    cr_assert(log_event("run.jsonl", "evaluate", 0, &json));
    cr_assert_str_eq(bp_json_get(&json, "split")->string, "test");
    bp_json_free(&json);
    FILE *file = fopen("new.csv", "w");
    fprintf(file, "b,a\n1,1\n0,0\n-4,10\n");
    fclose(file);
    expect_run(0, "predict --weights line.safetensors new.csv -o out.csv --threads 2");
    char *text = read_all("out.csv");
    double got[3], want[3] = {0, 1, 33};
    cr_assert_eq(sscanf(text, "y\n%lf\n%lf\n%lf\n", &got[0], &got[1], &got[2]), 3, "%s", text);
    for (int i = 0; i < 3; i++)
        cr_assert(fabs(got[i] - want[i]) < 1e-3, "%s", text);
    free(text);
    expect_run(0, "predict --weights line.safetensors new.csv");
    char *again = read_all("out.csv");
    cr_assert_str_eq(output, again);
    free(again);
}

Test(program, any_number_of_threads_gives_the_same_bits) {
    expect_run(0, "--threads 1 --quiet");
    rename("line.safetensors", "one");
    expect_run(0, "--threads 2 --quiet");
    expect_same_file("line.safetensors", "one");
    expect_run(0, "--threads=7 --quiet");
    expect_same_file("line.safetensors", "one");
    expect_run(0, "--seed 1 --quiet");
    cr_assert_neq(system("cmp -s line.safetensors one"), 0, "the seed changes nothing");
}

Test(program, is_as_long_in_steps_as_in_epochs) {
    expect_run(0, "--epochs 3 --quiet");
    rename("line.safetensors", "three");
    expect_run(0, "--epochs 100 --steps 9"); /* three steps an epoch; the last to be said counts */
    expect_in(output, "epoch 3/3  loss ");
    expect_same_file("line.safetensors", "three");
    expect_run(0, "--steps Line=9 --steps 2 --quiet");
    expect_same_file("line.safetensors", "three");
    expect_run(0, "--steps 8"); /* the last epoch is a part of one */
    expect_in(output, "epoch 3/3  loss ");
    cr_assert_neq(system("cmp -s line.safetensors three"), 0, "eight steps are as good as nine");
}

Test(program, stops_early_and_restores) {
    hook.scripted = 1;
    line_train.early_stopping = (struct bp_early_stopping){.metric = 0, .better = -1, .patience = 3};
    expect_run(0, "--epochs 100 --log run.jsonl");
    expect_in(output, "stopped after epoch 8: val_loss has not improved for 3 epochs; weights of epoch 5 restored\n");
    float w[3];
    read_line("line.safetensors", w);
    cr_assert_eq(w[0], 15); /* three steps an epoch */
    cr_assert_eq(log_number("run.jsonl", "stop", 0, "epoch"), 8);
    cr_assert_eq(log_number("run.jsonl", "stop", 0, "best_epoch"), 5);
    expect_run(0, "--epochs 7");
    expect_in(output, "weights of epoch 5 restored: its val_loss is the best\n");
    read_line("line.safetensors", w);
    cr_assert_eq(w[0], 15);
    line_train.checkpoint = "run.state"; /* what was best, and how long ago, outlives the run */
    expect_run(0, "--quiet --epochs 6");
    expect_run(0, "--epochs 100 --resume run.state");
    expect_in(output, "stopped after epoch 8: val_loss has not improved for 3 epochs; weights of epoch 5 restored\n");
    read_line("line.safetensors", w);
    cr_assert_eq(w[0], 15);
    line_train.early_stopping.min_delta = 2.5; /* val_loss is 4, 3, 2, …: a gain of 2 is none */
    line_train.early_stopping.patience = 2;
    expect_run(0, "--epochs 100");
    expect_in(output, "stopped after epoch 3: val_loss has not improved for 2 epochs; weights of epoch 1 restored\n");
    line_train.early_stopping.min_delta = 0;
    line_train.early_stopping.start_from_epoch = 7; /* counted from 0: epoch 8 is the first that counts */
    expect_run(0, "--epochs 100");
    expect_in(output, "stopped after epoch 10: val_loss has not improved for 2 epochs; weights of epoch 8 restored\n");
}

/* ---- Values that are not finite ---------------------------------------------------------------------------------- */
Test(program, says_which_update_broke_a_weight) {
    hook.break_weight_at = 4; /* three steps an epoch: batch 2 of epoch 2 */
    expect_run(1, "--log run.jsonl");
    expect_in(errors, "line.bp:12: phase 'Line': the loss of epoch 2, batch 3 is not finite\n"
                      "line.bp:9: the update of batch 2 of epoch 2 made fc.bias[0] inf");
    cr_assert_neq(access("line.safetensors", F_OK), 0, "broken weights were saved");
    cr_assert_eq(log_number("run.jsonl", "stop", 0, "batch"), 2);
    hook.break_weight_at = 17; /* the very last update: no loss shows it */
    expect_run(1, "");
    expect_in(errors, "line.bp:9: phase 'Line': after its last update 'fc.bias' holds a value that is not finite");
}

Test(program, says_where_the_first_bad_value_is) {
    struct bp_transform scale = {BP_SCALE, 1e30, NULL, -1};
    struct bp_column columns[3] = {line_columns[0], line_columns[1], line_columns[2]};
    struct bp_data data = line_data;
    columns[0].transforms = &scale; /* 1e30 squared overflows in the loss, though every value before is finite */
    data.columns = columns;
    data.train = data.validation = data.test = 0;
    line.data = &data;
    line_train.validation.pass_count = 0;
    line_train.shuffle = 0;
    expect_run(1, "--seed 0");
    expect_in(errors, "the loss of epoch 1, batch 1 is not finite; every value before the loss is finite");
    scale.argument = 1.7e37; /* the second row's 7 becomes 1.2e38, and a weight of 3.5 takes it over the edge */
    expect_run(1, "--seed 300");
    expect_in(errors, "line.bp:9: the first value that is not finite is in 'fc', element 0, row 2 of data 'points'");
}

Test(program, a_metric_that_is_not_finite_stops_nothing) {
    expect_run(0, "--quiet --log whole.jsonl");
    rename("line.safetensors", "whole");
    hook.break_metric_at = 4;
    expect_run(0, "--quiet --log run.jsonl --threads 2");
    expect_same_file("line.safetensors", "whole");
    struct bp_json json;
    cr_assert(log_event("run.jsonl", "epoch", 1, &json));
    cr_assert_eq(bp_json_get(&json, "mae")->kind, BP_JSON_NULL);
    bp_json_free(&json);
    for (int epoch = 0; epoch < 6; epoch++)
        cr_assert_eq(log_number("run.jsonl", "epoch", epoch, "loss"),
                     log_number("whole.jsonl", "epoch", epoch, "loss"));
}

/* ---- Checkpoints ------------------------------------------------------------------------------------------------- */
Test(program, a_resumed_run_equals_one_that_never_stopped) {
    line_train.checkpoint = "run.state";
    line_train.checkpoint_every = 2;
    line_train.early_stopping = (struct bp_early_stopping){.metric = 0, .better = -1, .patience = 3};
    expect_run(0, "--quiet --epochs 9 --seed 4 --log whole.jsonl");
    rename("line.safetensors", "whole");
    expect_run(0, "--quiet --epochs 5 --seed 4");
    expect_run(0, "--quiet --epochs 9 --resume run.state --log rest.jsonl");
    expect_same_file("line.safetensors", "whole");
    cr_assert_eq(log_number("rest.jsonl", "epoch", 0, "epoch"), 6);
    cr_assert_eq(log_number("rest.jsonl", "epoch", 0, "loss"), log_number("whole.jsonl", "epoch", 5, "loss"));
    remove("line.safetensors");
    expect_run(0, "--epochs 9 --resume run.state"); /* finished: nothing is trained, the rest is done */
    cr_assert(!strstr(output, "epoch 9/9"));
    expect_same_file("line.safetensors", "whole");
}

Test(program, a_signal_ends_the_step_and_the_run_goes_on_from_there) {
    line_train.checkpoint = "run.state";
    line_train.checkpoint_every = 100;
    expect_run(0, "--quiet --log whole.jsonl --threads 2");
    rename("line.safetensors", "whole");
    for (int64_t step = 3; step < 6; step++) { /* in the middle, and after the last batch, of epoch 2 */
        remove("run.state");
        hook.signal_at = step;
        expect_run(130, "--threads 2");
        expect_in(output, "interrupted in epoch 2; go on with --resume run.state\n");
        cr_assert_neq(access("line.safetensors", F_OK), 0);
        hook.signal_at = -1;
        remove("rest.jsonl");
        expect_run(0, "--quiet --resume run.state --threads 1 --log rest.jsonl");
        expect_same_file("line.safetensors", "whole");
        cr_assert_eq(log_number("rest.jsonl", "epoch", 0, "loss"), log_number("whole.jsonl", "epoch", 1, "loss"));
        remove("line.safetensors");
    }
}

/* Without a checkpoint the work is not lost: what was trained is saved, but not what had no epoch. */
Test(program, a_signal_saves_what_is_to_be_saved) {
    hook.signal_at = 1;
    expect_run(130, "");
    expect_in(output, "interrupted in epoch 1\n");
    cr_assert_neq(access("line.safetensors", F_OK), 0);
    hook.signal_at = 4;
    expect_run(130, "");
    expect_in(output, "interrupted in epoch 2\nsaved ");
    cr_assert_eq(access("line.safetensors", F_OK), 0);
    remove("line.safetensors");
    line_train.early_stopping = (struct bp_early_stopping){.metric = 0, .better = -1, .patience = 3};
    expect_run(130, "");
    expect_in(output, "interrupted in epoch 2\nweights of epoch 1 restored\nsaved ");
    rename("line.safetensors", "best");
    hook.signal_at = -1;
    expect_run(0, "--quiet --epochs 1");
    expect_same_file("line.safetensors", "best");
}

Test(program, a_checkpoint_of_another_run_is_refused) {
    line_train.checkpoint = "run.state";
    expect_run(0, "--quiet --seed 4 --set lr=0.02 --epochs 2");
    expect_run(1, "--resume run.state --seed 5 --set lr=0.03");
    expect_in(errors, "seed: 4 there, 5 here");
    expect_in(errors, "param lr: 0.02 there, 0.03 here");
    line_train.batch_size = 4;
    expect_run(1, "--resume run.state");
    expect_in(errors, "batch_size: 5 there, 4 here");
    line_train.batch_size = 5;
    line.name = "plane";
    expect_run(1, "--resume run.state");
    expect_in(errors, "program: 'line' there, 'plane' here");
    line.name = "line";
    expect_run(1, "--resume line.safetensors");
    expect_in(errors, "no checkpoint");
    expect_run(1, "--resume nowhere");
    expect_in(errors, "nowhere");
    struct bp_data data = line_data;
    data.split_seed = 9;
    line.data = &data;
    expect_run(1, "--resume run.state");
    expect_in(errors, "split otherwise");
    line.data = &line_data;
    FILE *file = fopen("line.csv", "a");
    fprintf(file, "1,1,0\n");
    fclose(file);
    expect_run(1, "--resume run.state");
    expect_in(errors, "has 21 rows, the checkpoint's run had 20");
}
