/* Unit tests of compiler/syntax: what a text means, what is refused, and that nothing breaks it. */
#define _XOPEN_SOURCE 700
#include "../../compiler/syntax/ast.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef BPC_SOURCE_DIR
#define BPC_SOURCE_DIR "."
#endif

static Arena *arena;
static int old_stderr, captured = -1;

/* Everything said on stderr goes to a file without a name. */
static void start(void) {
    names_start();
    arena = arena_new();
    char path[] = "/tmp/bpc-syntax-XXXXXX";
    fflush(stderr);
    old_stderr = dup(STDERR_FILENO);
    captured = mkstemp(path);
    unlink(path);
    dup2(captured, STDERR_FILENO);
}

static void stop(void) {
    fflush(stderr);
    dup2(old_stderr, STDERR_FILENO);
    close(captured);
    close(old_stderr);
    arena_free(arena);
    sources_end();
    names_end();
}

TestSuite(syntax, .init = start, .fini = stop);

/* What was said since the last call. */
static const char *said(void) {
    fflush(stderr);
    off_t size = lseek(captured, 0, SEEK_END);
    char *text = arena_alloc(arena, (size_t)size + 1);
    ssize_t got = pread(captured, text, (size_t)size, 0);
    text[got < 0 ? 0 : got] = '\0';
    cr_assert_eq(ftruncate(captured, 0), 0);
    lseek(captured, 0, SEEK_SET);
    return text;
}

static Ast *parse_bytes(const char *path, const char *text, size_t length) {
    diagnostics_reset();
    Ast *ast = parse_source(arena, source_add(path, text, length));
    ast_verify(ast);
    return ast;
}

static Ast *parse(const char *text) {
    Ast *ast = parse_bytes("m.bp", text, strlen(text));
    cr_assert_eq(error_count(), 0, "%s\n%s", text, said());
    return ast;
}

static Expr *parse_expr(const char *text) {
    Ast *ast = parse(arena_printf(arena, "const a = %s\n", text));
    cr_assert_eq(ast->count, 1);
    return ast->at[0]->value;
}

/* ---- Expressions ------------------------------------------------------------------------------------------------- */

/* The tree with all its brackets, written without expr_print. */
static void add_shape(Text *out, const Expr *expr);

static void add_shapes(Text *out, const Args *args) {
    for (int i = 0; i < args->count; i++) {
        text_add(out, " ");
        if (args->at[i].name)
            text_printf(out, "%s=", args->at[i].name);
        add_shape(out, args->at[i].value);
    }
}

static void add_shape(Text *out, const Expr *expr) {
    if (expr->kind == EXPR_NUMBER) {
        text_printf(out, "%.17g", expr->number);
        return;
    }
    if (expr->kind == EXPR_NAME || expr->kind == EXPR_STRING) {
        text_add(out, expr->kind == EXPR_NAME ? expr->name : expr->string.bytes);
        return;
    }
    text_add(out, "(");
    switch (expr->kind) {
    case EXPR_UNARY:
    case EXPR_BINARY:
    case EXPR_RANGE:
    case EXPR_REPEAT: {
        static const char *const signs[] = {"+", "-", "*", "/", "@", "^", "<", "<=", ">", ">=", "==", "!=", "neg"};
        bool has_sign = expr->kind == EXPR_UNARY || expr->kind == EXPR_BINARY;
        text_printf(out, "%s ", has_sign ? signs[expr->binary.op] : expr->kind == EXPR_RANGE ? ".." : "repeat");
        add_shape(out, expr->binary.left);
        if (expr->binary.right) {
            text_add(out, " ");
            add_shape(out, expr->binary.right);
        }
        break;
    }
    case EXPR_CALL:
        text_add(out, "call ");
        add_shape(out, expr->call.callee);
        add_shapes(out, &expr->call.args);
        break;
    case EXPR_INDEX:
        text_add(out, "index ");
        add_shape(out, expr->index.base);
        add_shapes(out, &expr->index.args);
        break;
    case EXPR_FIELD:
        text_add(out, "field ");
        add_shape(out, expr->field.base);
        text_printf(out, " %s", expr->field.name);
        break;
    default:
        text_add(out, "list");
        add_shapes(out, &expr->list);
    }
    text_add(out, ")");
}

static const char *shape(const Expr *expr) {
    Text text = {0};
    add_shape(&text, expr);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

static const char *printed(const Expr *expr) {
    Text text = {0};
    expr_print(expr, &text);
    const char *copy = arena_copy(arena, text.at, text.length);
    text_free(&text);
    return copy;
}

static const struct {
    const char *text, *shape, *printed; /* printed: NULL where it is the text */
} expressions[] = {
    {"1 + 2 * 3", "(+ 1 (* 2 3))", NULL},
    {"(1 + 2) * 3", "(* (+ 1 2) 3)", NULL},
    {"1 - 2 - 3", "(- (- 1 2) 3)", NULL},
    {"1 - (2 - 3)", "(- 1 (- 2 3))", NULL},
    {"(1 - 2) - 3", "(- (- 1 2) 3)", "1 - 2 - 3"},
    {"a / b * c @ d", "(@ (* (/ a b) c) d)", NULL},
    {"a / (b * c)", "(/ a (* b c))", NULL},
    {"-x^2", "(neg (^ x 2))", NULL},
    {"(-x)^2", "(^ (neg x) 2)", NULL},
    {"2^-1", "(^ 2 (neg 1))", NULL},
    {"2^-1 * 3", "(* (^ 2 (neg 1)) 3)", NULL},
    {"2^-x^2", "(^ 2 (neg (^ x 2)))", NULL},
    {"a^b^c", "(^ a (^ b c))", NULL},
    {"(a^b)^c", "(^ (^ a b) c)", NULL},
    {"-a * b", "(* (neg a) b)", NULL},
    {"a * -b", "(* a (neg b))", NULL},
    {"-(a * b)", "(neg (* a b))", NULL},
    {"--a", "(neg (neg a))", NULL},
    {"a - -b", "(- a (neg b))", NULL},
    {"-a.b(1)[2]", "(neg (index (call (field a b) 1) 2))", NULL},
    {"a + b < c * d", "(< (+ a b) (* c d))", NULL},
    {"(a < b) == (c != d)", "(== (< a b) (!= c d))", NULL},
    {"a<=b", "(<= a b)", "a <= b"},
    {"a>=b", "(>= a b)", "a >= b"},
    {"0..2 * k", "(.. 0 (* 2 k))", NULL},
    {"p0 .. p783", "(.. p0 p783)", "p0..p783"},
    {"(0..n) + 1", "(+ (.. 0 n) 1)", NULL},
    {"1..3", "(.. 1 3)", NULL},
    {"1.5..2.", "(.. 1.5 2)", "1.5..2"},
    {"f()", "(call f)", NULL},
    {"f(a, b = c < d, [1, -2], [])", "(call f a b=(< c d) (list 1 (neg 2)) (list))", NULL},
    {"a[0..9, 2].b", "(field (index a (.. 0 9) 2) b)", NULL},
    {"repeat 20 Residual(stem, 64)", "(repeat 20 (call Residual stem 64))", NULL},
    {"repeat n M.from(x) + 1", "(+ (repeat n (call (field M from) x)) 1)", NULL},
    {"repeat (n + 1) on(x)", "(repeat (+ n 1) (call on x))", NULL},
    {"repeat", "repeat", NULL},
    {"repeat + repeat(3)", "(+ repeat (call repeat 3))", NULL},
    {"model(loss, train = on).in", "(field (call model loss train=on) in)", NULL},
    {"1e-3 + 2.e3 + 0e-999", "(+ (+ 0.001 2000) 0)", "0.001 + 2000 + 0"},
    {"123456789012345678901234567890", "1.2345678901234568e+29", "1.2345678901234568e+29"},
    {"f(1,\n  2\n) +\n  3 # to the end", "(+ (call f 1 2) 3)", "f(1, 2) + 3"},
};

Test(syntax, expressions_bind_and_print_as_the_manual_says) {
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) {
        const Expr *expr = parse_expr(expressions[i].text);
        cr_expect_str_eq(shape(expr), expressions[i].shape, "%s is %s", expressions[i].text, shape(expr));
        const char *wanted = expressions[i].printed ? expressions[i].printed : expressions[i].text;
        cr_expect_str_eq(printed(expr), wanted, "%s is printed as %s", expressions[i].text, printed(expr));
        cr_expect_str_eq(shape(parse_expr(printed(expr))), expressions[i].shape);
    }
}

Test(syntax, strings_know_their_escapes) {
    const Expr *expr = parse_expr("\"a\\\"b\\\\c\\n\\t \xC3\xA9 # {\"");
    cr_assert_eq(expr->kind, EXPR_STRING);
    cr_assert_str_eq(expr->string.bytes, "a\"b\\c\n\t \xC3\xA9 # {");
    cr_assert_eq(expr->string.length, (int)strlen(expr->string.bytes));
    cr_assert_str_eq(printed(expr), "\"a\\\"b\\\\c\\n\\t \xC3\xA9 # {\"");
}

Test(syntax, spans_point_at_what_was_written) {
    const Expr *expr = parse_expr("foo(x, y = 12) + bar.baz");
    const int offset = 10; /* `const a = ` */
    cr_assert(expr->span.start == offset && expr->span.end == offset + 24);
    const Expr *call = expr->binary.left, *field = expr->binary.right;
    cr_assert(call->span.start == offset && call->span.end == offset + 14);
    cr_assert(call->call.args.at[1].name_span.start == offset + 7);
    cr_assert(call->call.args.at[1].value->span.start == offset + 11);
    cr_assert(call->call.args.at[1].value->span.end == offset + 13);
    cr_assert(field->span.start == offset + 17 && field->field.name_span.start == offset + 21);
}

static char *repeated(const char *piece, int times) {
    size_t length = strlen(piece);
    char *text = arena_alloc(arena, length * (size_t)times + 1);
    for (int i = 0; i < times; i++)
        memcpy(text + length * (size_t)i, piece, length);
    return text;
}

Test(syntax, expressions_are_as_high_as_allowed) {
    const Expr *expr = parse_expr(arena_printf(arena, "1%s", repeated(" + 1", EXPR_HEIGHT_MAX - 1)));
    cr_assert_eq(expr->height, EXPR_HEIGHT_MAX);
    cr_assert_eq(parse_expr("f(a, b^-c)")->height, 4);
    char *text = arena_printf(arena, "const a = 1%s\n", repeated(" + 1", EXPR_HEIGHT_MAX));
    parse_bytes("m.bp", text, strlen(text));
    cr_assert_eq(error_count(), 1);
}

/* ---- Statements -------------------------------------------------------------------------------------------------- */

Test(syntax, a_newline_ends_a_statement_but_not_after_an_operator_or_in_brackets) {
    Ast *ast =
        parse("const a = 1\nconst b = 2;const c =\n  3 +\n\n # still\n 4\n;;\nconst d = f(\n1\n,\n2)\r\nconst e = 5");
    cr_assert_eq(ast->count, 5);
    cr_assert_str_eq(shape(ast->at[2]->value), "(+ 3 4)");
    cr_assert_str_eq(shape(ast->at[3]->value), "(call f 1 2)");
    cr_assert_str_eq(shape(ast->at[4]->value), "5");
    cr_assert_eq(parse("")->count, 0);
    cr_assert_eq(parse("#!/usr/bin/bpc\n\n  # nothing\n;")->count, 0);
}

Test(syntax, a_brace_ends_a_statement_too) {
    Ast *ast =
        parse("model M(x) { a = x; return a } model N(x)\n{\n\n return x }\nmodel O = N from \"a\"\nmodel P = O {}");
    cr_assert_eq(ast->count, 4);
    cr_assert_eq(ast->at[0]->body.count, 2);
    cr_assert_eq(ast->at[1]->body.count, 1);
    cr_assert(ast->at[2]->kind == ITEM_DERIVED && ast->at[2]->path && ast->at[2]->base == name_of("N"));
    cr_assert(ast->at[3]->kind == ITEM_DERIVED && !ast->at[3]->path && ast->at[3]->base == name_of("O"));
}

Test(syntax, every_keyword_is_a_name_elsewhere) {
    static const char *const words[] = {
        "bpc",       "use",       "param",  "const",  "data", "model",    "block",     "def",    "loss",
        "metric",    "optimizer", "train",  "save",   "load", "finetune", "evaluate",  "return", "replace",
        "parameter", "state",     "update", "grad",   "step", "repeat",   "on",        "to",     "from",
        "as",        "in",        "for",    "except", "link", "with",     "minimizing"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *w = words[i];
        char *text = arena_printf(
            arena,
            "model %s(%s, x[%s] = %s) {\n %s = x\n %s, b = f(%s)\n c = %s\n %s ~ g(%s = 1)\n %s := %s.%s\n"
            " state %s = 1\n update %s with %s(1) minimizing %s\n return %s\n}\n"
            "data %s { input %s, %s : %s\n target a = %s\n %s\n}\n"
            "train %s on %s as %s { loss %s(%s) }\nevaluate %s on %s.%s in %s { %s, %s(a) }\n"
            "save %s to \"x\"",
            w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w);
        Ast *ast = parse(text);
        cr_assert_eq(ast->count, 5, "%s", text);
        const Body *body = &ast->at[0]->body;
        static const StmtKind kinds[] = {STMT_BIND,   STMT_BIND,  STMT_BIND,   STMT_DRAW,
                                         STMT_ASSIGN, STMT_STATE, STMT_UPDATE, STMT_RETURN};
        cr_assert_eq(body->count, 8, "%s", text);
        for (int j = 0; j < 8; j++)
            cr_assert_eq(body->at[j]->kind, kinds[j], "statement %d of\n%s", j, text);
        const Settings *settings = &ast->at[1]->settings;
        cr_assert_eq(settings->count, 3, "%s", text);
        cr_assert_eq(settings->at[0]->args.count, 2, "%s", text);
        cr_assert_eq(settings->at[0]->clause_count, 0, "%s", text);
        cr_assert_eq(settings->at[2]->keyword, name_of(w), "%s", text);
        cr_assert_eq(ast->at[2]->label, name_of(w));
        cr_assert_eq(ast->at[3]->in, name_of(w));
        cr_assert_eq(ast->at[3]->args.count, 2);
    }
}

Test(syntax, settings_have_arguments_clauses_and_transforms) {
    Ast *ast = parse("data d {\n  input numbers except Id, Age : impute(median), standardize\n"
                     "  input preprocessing from \"a.safetensors\"\n  input image = p0..p783, q : scale(1 / 255)\n"
                     "  missing 0 for a, b in c\n  rows [0, 1],\n    [2, 3]\n  input : log\n  shuffle\n}\n");
    const Settings *settings = &ast->at[0]->settings;
    cr_assert_eq(settings->count, 7);
    const Setting *input = settings->at[0];
    cr_assert(input->args.count == 1 && input->clause_count == 1 && input->transforms.count == 2 &&
              input->has_transforms);
    cr_assert_eq(input->clauses[0].word, name_of("except"));
    cr_assert_eq(input->clauses[0].args.count, 2);
    cr_assert_eq(settings->at[1]->clauses[0].word, name_of("from"));
    cr_assert_eq(settings->at[1]->clauses[0].args.at[0].value->kind, EXPR_STRING);
    cr_assert(settings->at[2]->args.count == 2 && settings->at[2]->args.at[0].name == name_of("image"));
    cr_assert_null(settings->at[2]->args.at[1].name);
    cr_assert(settings->at[3]->clause_count == 2 && settings->at[3]->clauses[0].args.count == 2);
    cr_assert_eq(settings->at[4]->args.count, 2);
    cr_assert(settings->at[5]->args.count == 0 && settings->at[5]->transforms.count == 1);
    cr_assert(settings->at[6]->args.count == 0 && !settings->at[6]->has_transforms);
}

Test(syntax, steps_hold_code) {
    Ast *ast = parse("train G, D {\n  step (state[4], action : category(2) = 1, ret) {\n    z ~ normal(0, 1)\n"
                     "    update G, D with adam(1e-2) minimizing D(G(z)) * ret, every = 5, of = 2\n  }\n"
                     "  step { a = 1 }\n  step 5\n  step\n}\n");
    const Item *train = ast->at[0];
    cr_assert(train->kind == ITEM_TRAIN && train->models.count == 2 && !train->on && !train->label);
    cr_assert_eq(train->settings.count, 4);
    const Setting *step = train->settings.at[0];
    cr_assert(step->is_step && step->step_params.count == 3 && step->step_body.count == 2);
    cr_assert_eq(step->step_params.at[0].dims.count, 1);
    cr_assert_str_eq(shape(step->step_params.at[1].type), "(call category 2)");
    cr_assert_str_eq(shape(step->step_params.at[1].fallback), "1");
    const Stmt *update = step->step_body.at[1];
    cr_assert(update->names.count == 2 && update->values.count == 2 && update->values.at[0].name == name_of("every"));
    cr_assert_str_eq(shape(update->with), "(call adam 0.01)");
    cr_assert_str_eq(shape(update->value), "(* (call D (call G z)) ret)");
    cr_assert(train->settings.at[1]->is_step && train->settings.at[1]->step_params.count == 0);
    cr_assert(!train->settings.at[2]->is_step && !train->settings.at[3]->is_step);
}

Test(syntax, gradients_follow_a_def) {
    Ast *ast = parse("def f(x, b) = x * b grad x = d * b, b = d * x\ndef g(x) = x\n  grad x = d\n"
                     "def h(x, y) = x + y grad x = d grad y = d\ndef i(x) {\n  y = x\n  grad x = d\n  return y\n}\n"
                     "def grad(grad) = grad(grad) + 1\n");
    cr_assert_eq(ast->count, 5);
    const int grads[] = {2, 1, 2, 0, 0};
    for (int i = 0; i < 5; i++) {
        const Item *def = ast->at[i];
        if (i != 3)
            cr_assert(def->value && def->body.count == grads[i], "def %d", i);
        for (int j = 0; j < grads[i]; j++)
            cr_assert(def->body.at[j]->kind == STMT_GRAD && def->body.at[j]->names.count == 1);
    }
    cr_assert_str_eq(shape(ast->at[0]->value), "(* x b)");
    cr_assert_eq(ast->at[0]->body.at[1]->names.at[0], name_of("b"));
    cr_assert_str_eq(shape(ast->at[0]->body.at[1]->value), "(* d x)");
    cr_assert(!ast->at[3]->value && ast->at[3]->body.count == 3 && ast->at[3]->body.at[1]->kind == STMT_GRAD);
}

Test(syntax, definitions_have_what_they_say) {
    Ast *ast =
        parse("bpc 1\nuse \"a.bp\"\nparam lr = 1e-2\nloss l(y, t) link sigmoid = y - t\nloss m(y, t) { return y }\n"
              "metric r(y, t) = y\noptimizer o(w, g, lr = 1) { state v = 0; v := g; w := w - v }\n"
              "block b(x, n) {\n parameter w[n, size(x)] = 0\n parameter s = 1\n replace a = x\n return w @ x, s\n}\n"
              "finetune M on d as head { freeze a }\nload M, N from \"x\"\n");
    static const ItemKind kinds[] = {ITEM_VERSION, ITEM_USE,       ITEM_PARAM, ITEM_LOSS,     ITEM_LOSS,
                                     ITEM_METRIC,  ITEM_OPTIMIZER, ITEM_BLOCK, ITEM_FINETUNE, ITEM_LOAD};
    cr_assert_eq(ast->count, 10);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(ast->at[i]->kind, kinds[i], "item %d", i);
    cr_assert_eq(ast->at[0]->number, 1);
    cr_assert_eq(ast->at[2]->value->number, 0.01);
    cr_assert(ast->at[3]->link == name_of("sigmoid") && ast->at[3]->value && ast->at[3]->params.count == 2);
    cr_assert(!ast->at[4]->link && !ast->at[4]->value && ast->at[4]->body.count == 1);
    const Body *optimizer = &ast->at[6]->body, *block = &ast->at[7]->body;
    cr_assert(optimizer->count == 3 && optimizer->at[0]->kind == STMT_STATE && optimizer->at[2]->kind == STMT_ASSIGN);
    cr_assert(block->at[0]->dims.count == 2 && block->at[1]->dims.count == 0 && block->at[2]->kind == STMT_REPLACE);
    cr_assert_eq(block->at[3]->values.count, 2);
    cr_assert(ast->at[8]->label == name_of("head") && ast->at[8]->on);
    cr_assert_eq(ast->at[9]->models.count, 2);
}

Test(syntax, evaluate_lists_with_commas_and_newlines) {
    Ast *ast = parse("evaluate M on d.test in log { a, b(c = d, e),\n  f\n  g\n}\nevaluate M on d {}\n");
    cr_assert_eq(ast->at[0]->args.count, 4);
    cr_assert_str_eq(shape(ast->at[0]->args.at[1].value), "(call b c=d e)");
    cr_assert_eq(ast->at[0]->in, name_of("log"));
    cr_assert_eq(ast->at[1]->args.count, 0);
}

Test(syntax, a_tree_is_a_node_a_line) {
    Ast *ast = parse("model M(x[4]) {\n    a, b = f(x, n = -1)\n    return a\n}\n");
    Text out = {0};
    ast_print(ast, &out);
    cr_assert_str_eq(out.at, "model M  1:1\n"
                             "  param x  1:9\n"
                             "    dim number 4  1:11\n"
                             "  bind a, b  2:5\n"
                             "    call  2:12\n"
                             "      callee name f  2:12\n"
                             "      name x  2:14\n"
                             "      n = unary -  2:21\n"
                             "        number 1  2:22\n"
                             "  return  3:5\n"
                             "    name a  3:12\n");
    text_free(&out);
}

/* ---- What is refused --------------------------------------------------------------------------------------------- */

Test(syntax, errors_leave_the_rest_to_be_read) {
    const char *text = "model M(x) {\n  a = = 1\n  b = x\n}\nmodel {\n  c = \n}\nmodel N(x) { return x }\n";
    Ast *ast = parse_bytes("m.bp", text, strlen(text));
    cr_assert_eq(error_count(), 2, "%s", said());
    cr_assert_eq(ast->count, 2);
    cr_assert_eq(ast->at[0]->body.count, 1);
    cr_assert_eq(ast->at[1]->name, name_of("N"));
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* Each tests/reject/syntax/x.bp is refused with the words of x.err. */
Test(syntax, refused_programs_get_their_message) {
    const char *folder = BPC_SOURCE_DIR "/tests/reject/syntax";
    DIR *directory = opendir(folder);
    cr_assert_not_null(directory, "no folder %s", folder);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!ends_with(entry->d_name, ".bp"))
            continue;
        char why[200], *path = arena_printf(arena, "%s/%s", folder, entry->d_name);
        size_t length, wanted_length;
        char *text = file_read_whole(path, &length, why, sizeof why);
        cr_assert_not_null(text, "%s", why);
        path = arena_printf(arena, "%.*s.err", (int)strlen(path) - 3, path);
        char *wanted = file_read_whole(path, &wanted_length, why, sizeof why);
        cr_assert_not_null(wanted, "%s", why);
        parse_bytes(entry->d_name, text, length);
        const char *got = said();
        cr_expect_str_eq(got, wanted, "%s:\n%s", entry->d_name, got);
        cr_expect_gt(error_count(), 0, "%s", entry->d_name);
        free(text);
        free(wanted);
        count++;
    }
    closedir(directory);
    cr_assert_geq(count, 20);
}

static const char whole_program[] =
    "bpc 1\nconst w = 32\nparam lr = 1e-2 # a comment\nuse \"iris.bp\"\n"
    "data iris {\n  file \"a.csv\", header = none\n  input a, b except c : impute(median), log\n  rows [0, 1],\n   [2, "
    "3]\n}\n"
    "block B(x, n = 3) {\n  parameter k[n, size(x)] = uniform(-1, 1)\n  return k @ x + -x^2\n}\n"
    "model M(x[4]) {\n  a, b = B(x, w); c = repeat 3 B(a, 4)\n  return c\n}\n"
    "model N = M from \"m\" {\n  replace c = B(a, 1..2)\n}\n"
    "def f(x) = 1 / x grad x = d * (1 - result)\nloss l(y, t) link sigmoid = y < t\n"
    "optimizer o(w, g) { state v = 0; v := g; w := w - v }\n"
    "train M, N on iris as head {\n  loss 0.5 * mse(M.a, y)\n  step (s[4], t : category(2)) {\n    z ~ normal(0)\n"
    "    update M with o(1) minimizing z, every = 5\n  }\n  epochs 5\n}\n"
    "evaluate M on iris.test in log { a, b(c = d)\n e }\nsave M to \"m\"\nload M from \"m\"\n";

/* Parses, and holds that what is refused has a place: `m.bp:LINE:COLUMN: error: `. */
static bool is_accepted(const char *text, size_t length) {
    Ast *ast = parse_bytes("m.bp", text, length);
    Text out = {0};
    ast_print(ast, &out);
    text_free(&out);
    const char *message = said();
    int line = 0, column = 0, read = 0;
    if (error_count() == 0) {
        cr_assert_str_empty(message);
        return true;
    }
    cr_assert(sscanf(message, "m.bp:%d:%d: error: %n", &line, &column, &read) == 2 && read > 0, "%s", message);
    return false;
}

static int test_mutants(char *(*mutate)(char *text, size_t *length, size_t at), bool to_end) {
    size_t length = sizeof whole_program - 1;
    int accepted = 0;
    for (size_t at = 0; at < length + to_end; at++) {
        char *text = malloc(length + 2);
        memcpy(text, whole_program, length + 1);
        size_t mutated = length;
        mutate(text, &mutated, at);
        char *exact = malloc(mutated ? mutated : 1); /* so that a sanitizer sees a read past the end */
        memcpy(exact, text, mutated);
        accepted += is_accepted(exact, mutated);
        free(exact);
        free(text);
        sources_end();
        arena_free(arena);
        arena = arena_new();
    }
    return accepted;
}

static char *cut(char *text, size_t *length, size_t at) {
    *length = at;
    return text;
}

static char *without_byte(char *text, size_t *length, size_t at) {
    memmove(text + at, text + at + 1, *length - at);
    *length -= 1;
    return text;
}

static char *with_brace(char *text, size_t *length, size_t at) {
    memmove(text + at + 1, text + at, *length - at);
    text[at] = at % 3 == 0 ? '{' : at % 3 == 1 ? '}' : '(';
    *length += 1;
    return text;
}

static char *with_odd_byte(char *text, size_t *length, size_t at) {
    (void)length;
    text[at] = (char)(at * 37 % 256);
    return text;
}

Test(syntax, no_mutant_breaks_the_parser) {
    int size = (int)sizeof whole_program - 1;
    cr_assert(is_accepted(whole_program, (size_t)size));
    int cuts = test_mutants(cut, true), deletions = test_mutants(without_byte, false);
    int braces = test_mutants(with_brace, true), bytes = test_mutants(with_odd_byte, false);
    cr_assert(cuts > 0 && cuts < size / 4, "%d cut programs are accepted", cuts);
    cr_assert(deletions > 0 && deletions < size, "%d programs are accepted without a byte", deletions);
    cr_assert_lt(braces, size / 4, "%d programs with a bracket too many are accepted", braces);
    cr_assert_lt(bytes, size / 2, "%d programs with an odd byte are accepted", bytes);
}

Test(syntax, nothing_deep_or_long_breaks_the_parser) {
    static const char *const pieces[] = {
        "(",   "[",        "{",         "}",  ")",  "-",    "^1", "(1)", ".a",
        "[1]", "+1",       "repeat 2 ", "\"", "f(", "a = ", "a,", "\n{", "model M(x) {\n",
        ",\n", "repeat (", "step {\n",  "..", "\\", "#",    "\r", "$",   "a\n"};
    static const char *const starts[] = {
        "", "const a = ", "const a = 1", "model M(x) {\n a = b", "train M on d {\n a b", "evaluate M on d { "};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        for (size_t j = 0; j < sizeof starts / sizeof *starts; j++) {
            char *text = arena_printf(arena, "%s%s", starts[j], repeated(pieces[i], j < 2 ? 100000 : 3000));
            bool accepted = is_accepted(text, strlen(text));
            bool harmless = strchr("#,", pieces[i][0]) || pieces[i][0] == 'a' || j > 3;
            cr_assert(!accepted || harmless || strcmp(text, "") == 0, "%.40s… is accepted", text);
            sources_end();
            arena_free(arena);
            arena = arena_new();
        }
}

Test(syntax, a_source_too_large_is_refused) {
    size_t length = 17 * 1024 * 1024;
    char *text = malloc(length);
    memset(text, ' ', length);
    cr_assert_not(is_accepted(text, length));
    free(text);
}
