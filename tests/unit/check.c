/* Unit tests of compiler/check: what settings come to mean. Messages are in tests/reject/data and tests/reject/train.
 */
#define _XOPEN_SOURCE 700
#include "../../compiler/check/check.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/bpc-check-XXXXXX";
static Arena *arena; /* one a test */

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    cr_assert(file, "cannot write %s", name);
    fputs(text, file);
    fclose(file);
}

static void begin(void) {
    cr_assert(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    cr_redirect_stderr();
    names_start();
    arena = arena_new();
    write_file("flowers.csv", "length,width,colour,stem,kind\n"
                              "1.5,2,red,10,b\n"
                              "2.5,?,blue,9,a\n"
                              "3.5,4,red,2,c\n");
}

static void finish(void) {
    arena_free(arena);
    sources_end();
    names_end();
    cr_assert_eq(chdir("/"), 0);
    char command[sizeof folder + 16];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(check, .init = begin, .fini = finish);

static Program *checked_with(const char *text, CheckOptions options) {
    diagnostics_reset();
    return check_program(arena, parse_source(arena, source_add("test.bp", text, strlen(text))), &options);
}

static Program *checked(const char *text) {
    return checked_with(text, (CheckOptions){.record_paths = true});
}

static DataSet *data_of(const char *text) {
    Program *program = checked(text);
    cr_assert(program, "the program was rejected");
    cr_assert_geq(program->data.count, 1);
    return program->data.at[program->data.count - 1];
}

static const DataColumn *column_of(const DataSet *data, const char *name) {
    for (int i = 0; i < data->column_count; i++)
        if (strcmp(data->columns[i].name, name) == 0)
            return &data->columns[i];
    cr_assert_fail("no column %s", name);
    return NULL;
}

static void assert_categories(const DataColumn *column, int count, const char *const *names) {
    cr_assert(column->category);
    cr_assert_eq(column->category_count, count, "%d categories", column->category_count);
    for (int i = 0; i < count; i++)
        cr_assert_str_eq(column_category(column, i), names[i]);
}

#define ASSERT_CATEGORIES(column, ...)                                                                                 \
    assert_categories((column), (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                         \
                      (const char *[]){__VA_ARGS__})

/* ---- Kinds ------------------------------------------------------------------------------------------------------- */
Test(check, kinds_are_found_by_scanning) {
    const DataSet *data = data_of("bpc 1\ndata d { file \"flowers.csv\"; input length, colour, stem; target kind }");
    cr_assert_not(column_of(data, "length")->category);
    cr_assert_not(column_of(data, "stem")->category);
    ASSERT_CATEGORIES(column_of(data, "colour"), "blue", "red");
    ASSERT_CATEGORIES(column_of(data, "kind"), "a", "b", "c");
}

Test(check, categories_that_are_numbers_are_sorted_by_value) {
    const DataSet *data = data_of("bpc 1\ndata d { file \"flowers.csv\"; input length; target stem : category }");
    ASSERT_CATEGORIES(column_of(data, "stem"), "2", "9", "10");
}

Test(check, declared_categories_are_sorted_and_need_no_file) {
    const DataSet *data = data_of("bpc 1\ndata d { file \"nowhere.csv\"; input a; input b : category(10, 9, 2)\n"
                                  "input c : category(3); target y : category(\"no\", \"Yes\") }");
    cr_assert_not(column_of(data, "a")->category);
    ASSERT_CATEGORIES(column_of(data, "b"), "2", "9", "10");
    ASSERT_CATEGORIES(column_of(data, "c"), "0", "1", "2");
    cr_assert_null(column_of(data, "c")->categories); /* no list of what is only counted */
    ASSERT_CATEGORIES(column_of(data, "y"), "Yes", "no");
    cr_assert_null(data->files[0].path);
}

Test(check, the_positive_value_of_binary_is_the_second_category) {
    const DataSet *data = data_of("bpc 1\ndata d { columns a, y, z\nrows [1, \"yes.\", 1], [2, \"no.\", 0]\n"
                                  "input a; target y : strip(\".\"), binary(\"no\"); target z : binary(1) }");
    ASSERT_CATEGORIES(column_of(data, "y"), "yes", "no");
    ASSERT_CATEGORIES(column_of(data, "z"), "0", "1");
    cr_assert(column_of(data, "y")->binary);
    data = data_of("bpc 1\ndata d { file \"nowhere.csv\"; input a; target y : binary(\"a\", \"b\") }");
    ASSERT_CATEGORIES(column_of(data, "y"), "b", "a");
}

Test(check, what_means_missing_does_not_make_a_category) {
    const DataSet *data = data_of("bpc 1\ndata d { target kind; input numbers : impute(median), standardize\n"
                                  "missing \"?\" for width; missing 9.0; file \"flowers.csv\"; input colour }");
    const DataColumn *width = column_of(data, "width");
    cr_assert_not(width->category);
    cr_assert_eq(width->missing_count, 2);
    cr_assert_str_eq(width->missing[0], "?");
    cr_assert_str_eq(width->missing[1], "9");
    cr_assert_eq(column_of(data, "stem")->missing_count, 1);
}

/* ---- Columns ----------------------------------------------------------------------------------------------------- */
Test(check, selectors_take_what_no_line_names_in_the_order_of_the_file) {
    const DataSet *data =
        data_of("bpc 1\ndata d { input categories, stem except width : category; input numbers except width\n"
                "file \"flowers.csv\"; target kind }");
    cr_assert_eq(data->group_count, 2);
    const DataGroup *inputs = &data->groups[0];
    cr_assert_null(inputs->name);
    cr_assert_eq(inputs->slot_count, 3);
    cr_assert_eq(inputs->width, 2 + 3 + 1);
    const char *const order[] = {"colour", "stem", "length"};
    for (int i = 0; i < 3; i++)
        cr_assert_str_eq(data->columns[data->slots[i].columns[0]].name, order[i]);
    cr_assert_str_eq(data->groups[1].name, "kind");
    cr_assert(data->groups[1].target);
}

Test(check, neighbouring_numbers_share_a_slot) {
    const DataSet *data = data_of("bpc 1\ndata d { file \"nowhere.csv\"; input image = p8..p10 : scale(1 / 255)\n"
                                  "input a, b, c; input t = x07..x09; target y, z }");
    cr_assert_eq(data->group_count, 4);
    cr_assert_str_eq(data->groups[0].name, "image");
    cr_assert_eq(data->slots[0].width, 3);
    cr_assert_str_eq(data->columns[data->slots[0].columns[2]].name, "p10");
    cr_assert_eq(data->columns[0].transforms[0].argument, 1.0 / 255);
    cr_assert_null(data->groups[1].name);
    cr_assert_str_eq(data->columns[data->slots[2].columns[0]].name, "x07");
    cr_assert_null(data->groups[3].name);
    cr_assert_eq(data->groups[3].width, 2);
}

Test(check, fields_without_names_go_by_number) {
    write_file("plain.csv", "1,2,x\n3,4,y\n");
    const DataSet *data =
        data_of("bpc 1\ndata d { file \"plain.csv\", header = none; input 0..1 : standardize; target 2 }");
    cr_assert_eq(data->columns[1].position, 1);
    cr_assert_eq(data->field_count, 3);
    ASSERT_CATEGORIES(column_of(data, "2"), "x", "y");
    data = data_of("bpc 1\ndata d { file \"flowers.csv\"; input 0; target 4 }");
    cr_assert_eq(column_of(data, "length")->position, -1, "a header names it");
}

Test(check, fitted_values_are_numbered_one_after_another) {
    const DataSet *data =
        data_of("bpc 1\ndata d { file \"nowhere.csv\"; input a, b : impute(median), log, standardize\n"
                "target y : minmax }");
    cr_assert_eq(data->columns[0].transforms[0].fitted, 0);
    cr_assert_eq(data->columns[0].transforms[1].fitted, -1);
    cr_assert_eq(data->columns[0].transforms[2].fitted, 1);
    cr_assert_eq(data->columns[1].transforms[0].fitted, 3);
    cr_assert_eq(data->columns[2].transforms[0].fitted, 6);
    cr_assert_eq(data->fitted_count, 8);
}

/* ---- Parts ------------------------------------------------------------------------------------------------------- */
Test(check, parts_come_from_shares_and_files) {
    const DataSet *data = data_of("bpc 1\ndata d { file \"a.csv\", part = train, skip = 2, delimiter = \";\"\n"
                                  "file \"b.csv\", part = test, header = none; columns a, y, s\n"
                                  "split validation = 0.1, stratify = s, seed = 7; input a; target y }");
    cr_assert(data->has_part[BP_TRAIN] && data->has_part[BP_VALIDATION] && data->has_part[BP_TEST]);
    cr_assert_eq(data->validation, 0.1);
    cr_assert_eq(data->split_seed, 7);
    cr_assert_str_eq(data->columns[data->stratify].name, "s");
    cr_assert_eq(data->files[0].skip, 2);
    cr_assert_eq(data->files[0].delimiter, ';');
    cr_assert_not(data->files[1].header);
    cr_assert_eq(data->slot_count, 2, "a column for splitting alone is in no slot");
}

/* ---- Programs ---------------------------------------------------------------------------------------------------- */
#define MODEL "model M(x) { fc1 = dense(x, 3); return fc1 }\n"
#define DATA  "data d { file \"flowers.csv\"; input length : standardize; target kind; split train = 0.5, test = 0.5 }\n"

Test(check, a_phase_takes_what_is_written_and_defaults_for_the_rest) {
    Program *program =
        checked("bpc 1\n" DATA MODEL "train M on d { epochs 2 * 3; loss cross_entropy; optimizer sgd(lr = 0.1)\n"
                "early_stopping loss, patience = 4, mode = min; shuffle none }\n"
                "evaluate M on d.test { accuracy }\nsave M to \"m.safetensors\"");
    cr_assert(program);
    cr_assert_eq(program->actions.count, 3);
    const TrainPlan *plan = program->actions.at[0].train;
    cr_assert_str_eq(plan->name, "M");
    cr_assert_eq(plan->epochs, 6);
    cr_assert_eq(plan->batch_size, 32);
    cr_assert_not(plan->shuffle);
    cr_assert_eq(plan->patience, 4);
    cr_assert_eq(plan->better, -1);
    cr_assert_eq(program->actions.at[1].evaluate->part, BP_TEST);
    cr_assert_str_eq(program->actions.at[2].save->path, "m.safetensors");
}

Test(check, consts_follow_the_command_line) {
    const char *text = "bpc 1\nconst double = 2 * width\nconst width = 3\nparam rate = double ^ 2 / pi";
    const char *defines[] = {"width=5"}, *wrong[] = {"widht=5"}, *param[] = {"rate=5"}, *word[] = {"width=x"};
    Program *program = checked(text);
    cr_assert_float_eq(program->params.at[0].value, 36 / 3.141592653589793, 1e-12);
    program = checked_with(text, (CheckOptions){.defines = defines, .define_count = 1});
    cr_assert_float_eq(program->params.at[0].value, 100 / 3.141592653589793, 1e-12);
    cr_assert_null(checked_with(text, (CheckOptions){.defines = wrong, .define_count = 1}));
    cr_assert_null(checked_with(text, (CheckOptions){.defines = param, .define_count = 1}));
    cr_assert_null(checked_with(text, (CheckOptions){.defines = word, .define_count = 1}));
}

Test(check, a_users_definition_takes_the_preludes_place) {
    Program *program = checked("bpc 1\ndef relu(x) = x");
    cr_assert(program);
    const Definition *found = program_find(program, name_of("relu"));
    cr_assert(found && !found->prelude);
    cr_assert(program_find(program, name_of("mse"))->prelude);
    cr_assert_null(program_find(program, name_of("nothing")));
}

Test(check, used_files_give_definitions_and_no_actions) {
    write_file("base.bp",
               "bpc 1\nuse \"more.bp\"\n" DATA MODEL
               "train M on d { epochs 1; loss cross_entropy; optimizer sgd(lr = 0.1) }\nsave M to \"m.safetensors\"");
    write_file("more.bp", "bpc 1\nconst width = 3");
    write_file("other.csv", "kind,length\na,1\nb,2\n");
    Program *program =
        checked("bpc 1\nuse \"base.bp\"\nuse \"more.bp\"\n"
                "data e { file \"other.csv\"; target kind; input preprocessing from \"m.safetensors\" }\n"
                "model N = M from \"m.safetensors\" { replace fc1 = dense(x, width) }\n"
                "finetune N on e { epochs 1; loss cross_entropy; optimizer sgd(lr = 0.1) }");
    cr_assert(program);
    cr_assert_eq(program->actions.count, 1);
    const DataSet *data = program_data(program, name_of("e"));
    cr_assert_str_eq(data->preprocessing_from, "m.safetensors");
    const DataColumn *length = column_of(data, "length");
    cr_assert_eq(length->transform_count, 1);
    cr_assert_eq(length->transforms[0].kind, BP_STANDARDIZE);
    ASSERT_CATEGORIES(column_of(data, "kind"), "a", "b");
}

Test(check, inputs_beside_preprocessing_are_taken_as_listed) {
    const DataSet *data = data_of("bpc 1\ndata e { file \"flowers.csv\"; input preprocessing from \"m.safetensors\"\n"
                                  "input length, stem : standardize; target kind }");
    cr_assert_str_eq(data->preprocessing_from, "m.safetensors");
    cr_assert_eq(data->slots[0].width, 2);
}

Test(check, paths_are_kept_only_where_asked_for) {
    const char *text = "bpc 1\n" DATA;
    Program *program = checked(text);
    cr_assert_eq(program->data.at[0]->files[0].path[0], '/');
    program = checked_with(text, (CheckOptions){.record_paths = false});
    cr_assert_null(program->data.at[0]->files[0].path);
    cr_assert_str_eq(program->data.at[0]->files[0].name, "flowers.csv");
}

Test(check, the_print_is_whole) {
    Program *program = checked("bpc 1\nconst width = 3\n" DATA MODEL
                               "train M on d { epochs 1; loss cross_entropy; optimizer sgd(lr = 0.1) }");
    Text out = {0};
    program_print(program, &out);
    const char *lines[] = {"program test\n",      "const width = 3\n",
                           "model M\n",           "  target \"kind\" width 3\n",
                           "train M on d as M\n", "  optimizer sgd(lr = 0.1)\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        cr_assert(strstr(out.at, lines[i]), "no '%s' in:\n%s", lines[i], out.at);
    text_free(&out);
}
