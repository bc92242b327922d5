/* The grammar. It sees statements that end with END and keywords where they are keywords (layout.c, words.c). */
%code requires {
#include "parser.h"
}

%define api.pure full
%define api.prefix {grammar_}
%define api.token.prefix {TOKEN_}
%define api.location.type {Span}
%define parse.error custom
%define parse.lac full
%locations
%param {Parser *parser}
%expect 0

%code {
#include "expected.h"

#define YYMAXDEPTH 10000
#define YYLLOC_DEFAULT(at, parts, count) ((at) = rule_span((parts), (count)))

/* An empty rule stands, without width, where the one before it ended. */
static Span rule_span(const Span *parts, int count) {
    if (count > 0) return span_join(parts[1], parts[count]);
    return (Span){parts[0].source, parts[0].end, parts[0].end};
}

static int grammar_lex(GRAMMAR_STYPE *value, Span *span, Parser *parser);
static void grammar_error(const Span *span, Parser *parser, const char *message);

static Expr *binary(Parser *parser, Span span, Operator op, Expr *left, Expr *right) {
    return expr_binary(parser, span, EXPR_BINARY, op, left, right);
}

static NamesList one_name(Parser *parser, Name name, Span span) {
    return add_name(parser, (NamesList){0}, name, span);
}

static StmtList one_stmt(Parser *parser, Stmt *stmt) {
    StmtList list = {0};
    *LIST_ADD(parser->arena, &list) = stmt;
    return list;
}

static Stmt *grad_of(Parser *parser, Span span, Name name, Span name_span, Expr *value) {
    return stmt_new(parser, STMT_GRAD, span, one_name(parser, name, name_span), value);
}
}

%union {
    double number;
    struct { const char *bytes; int32_t length; } string;
    Name name;
    Expr *expr;
    ArgList args;
    ParamList params;
    NamesList names;
    StmtList stmts;
    ClauseList clauses;
    SettingList settings;
    Arg arg;
    Param param;
    Setting *setting;
    Item *item;
    struct { Args args; bool present; } transforms;
    struct { Expr *value; StmtList body; } meaning;
    struct { Name name; Span span; } word;
}

%token <number> NUMBER "a number"
%token <string> STRING "a string"
%token <name> NAME "a name"
%token END "the end of the line"
%token RANGE ".." ASSIGN ":="
%token LESS_EQUAL "<=" GREATER_EQUAL ">=" EQUAL "==" NOT_EQUAL "!="
%token BPC USE PARAM CONST DATA MODEL BLOCK DEF LOSS METRIC OPTIMIZER TRAIN FINETUNE EVALUATE SAVE LOAD
%token RETURN REPLACE PARAMETER STATE UPDATE GRAD STEP REPEAT
%token <name> ON TO FROM AS IN FOR EXCEPT LINK WITH MINIMIZING
/* The grammar never accepts these: what the lexer reported, and what only the layout sees. */
%token BAD SEMICOLON NEWLINE BAD_NUMBER OPEN_STRING FOREIGN

%type <expr> expr postfix callee call primary origin
%type <args> args options elements dims maybe_args
%type <arg> arg
%type <params> params maybe_params step_params
%type <param> param
%type <names> names
%type <stmts> body stmts stmt grads more_grads
%type <clauses> clauses
%type <settings> setting_block settings
%type <setting> setting
%type <transforms> transforms
%type <name> clause_word
%type <meaning> meaning
%type <word> label tag link
%type <expr> where
%type <stmts> maybe_body
%type <args> metric_block metrics
%type <item> item

%nonassoc '<' '>' "<=" ">=" "==" "!="
%nonassoc ".."
%left '+' '-'
%left '*' '/' '@'
%precedence NEGATION
%right '^'

%%
file: items

items: %empty
    | items item END    { *LIST_ADD(parser->arena, &parser->items) = $2; }
    | items error END   { yyerrok; }

item: BPC NUMBER        { $$ = item_new(parser, ITEM_VERSION, @$, NULL, SPAN_NONE); $$->number = $2; }
    | USE STRING        { $$ = item_new(parser, ITEM_USE, @$, NULL, SPAN_NONE);
                          $$->path = expr_string(parser, @2, $2.bytes, $2.length); }
    | PARAM NAME '=' expr
                        { $$ = item_new(parser, ITEM_PARAM, @$, $2, @2); $$->value = $4; }
    | CONST NAME '=' expr
                        { $$ = item_new(parser, ITEM_CONST, @$, $2, @2); $$->value = $4; }
    | DATA NAME setting_block
                        { $$ = item_new(parser, ITEM_DATA, @$, $2, @2); $$->settings = settings_of($3); }
    | MODEL NAME '(' maybe_params ')' body
                        { $$ = item_new(parser, ITEM_MODEL, @$, $2, @2);
                          $$->params = params_of($4); $$->body = body_of($6); }
    | MODEL NAME '=' NAME origin maybe_body
                        { $$ = item_new(parser, ITEM_DERIVED, @$, $2, @2);
                          $$->base = $4; $$->base_span = @4; $$->path = $5; $$->body = body_of($6); }
    | BLOCK NAME '(' maybe_params ')' body
                        { $$ = item_new(parser, ITEM_BLOCK, @$, $2, @2);
                          $$->params = params_of($4); $$->body = body_of($6); }
    | OPTIMIZER NAME '(' maybe_params ')' body
                        { $$ = item_new(parser, ITEM_OPTIMIZER, @$, $2, @2);
                          $$->params = params_of($4); $$->body = body_of($6); }
    | DEF NAME '(' maybe_params ')' '=' expr more_grads
                        { $$ = item_new(parser, ITEM_DEF, @$, $2, @2);
                          $$->params = params_of($4); $$->value = $7; $$->body = body_of($8); }
    | DEF NAME '(' maybe_params ')' body
                        { $$ = item_new(parser, ITEM_DEF, @$, $2, @2);
                          $$->params = params_of($4); $$->body = body_of($6); }
    | LOSS NAME '(' maybe_params ')' link meaning
                        { $$ = item_new(parser, ITEM_LOSS, @$, $2, @2);
                          $$->params = params_of($4); $$->link = $6.name; $$->link_span = $6.span;
                          $$->value = $7.value; $$->body = body_of($7.body); }
    | METRIC NAME '(' maybe_params ')' meaning
                        { $$ = item_new(parser, ITEM_METRIC, @$, $2, @2);
                          $$->params = params_of($4); $$->value = $6.value; $$->body = body_of($6.body); }
    | TRAIN names where label setting_block
                        { $$ = item_new(parser, ITEM_TRAIN, @$, NULL, SPAN_NONE);
                          $$->models = names_of($2); $$->on = $3; $$->label = $4.name; $$->label_span = $4.span;
                          $$->settings = settings_of($5); }
    | FINETUNE names where label setting_block
                        { $$ = item_new(parser, ITEM_FINETUNE, @$, NULL, SPAN_NONE);
                          $$->models = names_of($2); $$->on = $3; $$->label = $4.name; $$->label_span = $4.span;
                          $$->settings = settings_of($5); }
    | EVALUATE names ON expr tag metric_block
                        { $$ = item_new(parser, ITEM_EVALUATE, @$, NULL, SPAN_NONE);
                          $$->models = names_of($2); $$->on = $4; $$->in = $5.name; $$->in_span = $5.span;
                          $$->args = args_of($6); }
    | SAVE names TO STRING
                        { $$ = item_new(parser, ITEM_SAVE, @$, NULL, SPAN_NONE); $$->models = names_of($2);
                          $$->path = expr_string(parser, @4, $4.bytes, $4.length); }
    | LOAD names FROM STRING
                        { $$ = item_new(parser, ITEM_LOAD, @$, NULL, SPAN_NONE); $$->models = names_of($2);
                          $$->path = expr_string(parser, @4, $4.bytes, $4.length); }

origin: %empty          { $$ = NULL; }
    | FROM STRING       { $$ = expr_string(parser, @2, $2.bytes, $2.length); }

where: %empty           { $$ = NULL; }
    | ON expr           { $$ = $2; }

label: %empty           { $$.name = NULL; $$.span = SPAN_NONE; }
    | AS NAME           { $$.name = $2; $$.span = @2; }

tag: %empty             { $$.name = NULL; $$.span = SPAN_NONE; }
    | IN NAME           { $$.name = $2; $$.span = @2; }

link: %empty            { $$.name = NULL; $$.span = SPAN_NONE; }
    | LINK NAME         { $$.name = $2; $$.span = @2; }

meaning: '=' expr       { $$.value = $2; $$.body = (StmtList){0}; }
    | body              { $$.value = NULL; $$.body = $1; }

names: NAME             { $$ = one_name(parser, $1, @1); }
    | names ',' NAME    { $$ = add_name(parser, $1, $3, @3); }

/* ---- Parameters -------------------------------------------------------------------------------------------------- */
maybe_params: %empty    { $$ = (ParamList){0}; }
    | params

params: param           { $$ = (ParamList){0}; *LIST_ADD(parser->arena, &$$) = $1; }
    | params ',' param  { $$ = $1; *LIST_ADD(parser->arena, &$$) = $3; }

param: NAME dims        { $$ = (Param){.name = $1, .span = @1, .dims = args_of($2)}; }
    | NAME dims '=' expr
                        { $$ = (Param){.name = $1, .span = @1, .dims = args_of($2), .fallback = $4}; }
    | NAME dims ':' expr
                        { $$ = (Param){.name = $1, .span = @1, .dims = args_of($2), .type = $4}; }
    | NAME dims ':' expr '=' expr
                        { $$ = (Param){.name = $1, .span = @1, .dims = args_of($2), .type = $4, .fallback = $6}; }

dims: %empty            { $$ = (ArgList){0}; }
    | '[' elements ']'  { $$ = $2; }

/* ---- Code -------------------------------------------------------------------------------------------------------- */
maybe_body: %empty      { $$ = (StmtList){0}; }
    | body

body: '{' stmts '}'     { $$ = $2; }

stmts: %empty           { $$ = (StmtList){0}; }
    | stmts stmt END    { $$ = $1;
                          for (int i = 0; i < $2.count; i++) *LIST_ADD(parser->arena, &$$) = $2.at[i]; }
    | stmts error END   { $$ = $1; yyerrok; }

stmt: names '=' expr    { $$ = one_stmt(parser, stmt_new(parser, STMT_BIND, @$, $1, $3)); }
    | NAME '~' expr     { $$ = one_stmt(parser, stmt_new(parser, STMT_DRAW, @$, one_name(parser, $1, @1), $3)); }
    | NAME ":=" expr    { $$ = one_stmt(parser, stmt_new(parser, STMT_ASSIGN, @$, one_name(parser, $1, @1), $3)); }
    | PARAMETER NAME dims '=' expr
                        { Stmt *stmt = stmt_new(parser, STMT_PARAMETER, @$, one_name(parser, $2, @2), $5);
                          stmt->dims = args_of($3); $$ = one_stmt(parser, stmt); }
    | STATE NAME dims '=' expr
                        { Stmt *stmt = stmt_new(parser, STMT_STATE, @$, one_name(parser, $2, @2), $5);
                          stmt->dims = args_of($3); $$ = one_stmt(parser, stmt); }
    | REPLACE NAME '=' expr
                        { $$ = one_stmt(parser, stmt_new(parser, STMT_REPLACE, @$, one_name(parser, $2, @2), $4)); }
    | RETURN elements   { Stmt *stmt = stmt_new(parser, STMT_RETURN, @$, (NamesList){0}, NULL);
                          stmt->values = args_of($2); $$ = one_stmt(parser, stmt); }
    | UPDATE names WITH expr MINIMIZING expr
                        { Stmt *stmt = stmt_new(parser, STMT_UPDATE, @$, $2, $6);
                          stmt->with = $4; $$ = one_stmt(parser, stmt); }
    | UPDATE names WITH expr MINIMIZING expr ',' options
                        { Stmt *stmt = stmt_new(parser, STMT_UPDATE, @$, $2, $6);
                          stmt->with = $4; stmt->values = args_of($8); $$ = one_stmt(parser, stmt); }
    | grads

grads: GRAD NAME '=' expr
                        { $$ = one_stmt(parser, grad_of(parser, @$, $2, @2, $4)); }
    | grads ',' NAME '=' expr
                        { $$ = $1; *LIST_ADD(parser->arena, &$$) = grad_of(parser, span_join(@3, @5), $3, @3, $5); }

more_grads: %empty      { $$ = (StmtList){0}; }
    | more_grads grads  { $$ = $1;
                          for (int i = 0; i < $2.count; i++) *LIST_ADD(parser->arena, &$$) = $2.at[i]; }

options: NAME '=' expr  { $$ = (ArgList){0};
                          *LIST_ADD(parser->arena, &$$) = (Arg){.name = $1, .name_span = @1, .value = $3}; }
    | options ',' NAME '=' expr
                        { $$ = $1;
                          *LIST_ADD(parser->arena, &$$) = (Arg){.name = $3, .name_span = @3, .value = $5}; }

/* ---- Settings ---------------------------------------------------------------------------------------------------- */
setting_block: '{' settings '}'
                        { $$ = $2; }

settings: %empty        { $$ = (SettingList){0}; }
    | settings setting END
                        { $$ = $1; *LIST_ADD(parser->arena, &$$) = $2; }
    | settings error END
                        { $$ = $1; yyerrok; }

setting: NAME maybe_args clauses transforms
                        { $$ = setting_new(parser, @$, $1, @1);
                          $$->args = args_of($2); $$->clauses = $3.at; $$->clause_count = $3.count;
                          $$->transforms = $4.args; $$->has_transforms = $4.present; }
    | STEP step_params body
                        { $$ = setting_new(parser, @$, name_of("step"), @1);
                          $$->is_step = true; $$->step_params = params_of($2); $$->step_body = body_of($3); }

step_params: %empty     { $$ = (ParamList){0}; }
    | '(' maybe_params ')'
                        { $$ = $2; }

maybe_args: %empty      { $$ = (ArgList){0}; }
    | args

clauses: %empty         { $$ = (ClauseList){0}; }
    | clauses clause_word args
                        { $$ = $1;
                          *LIST_ADD(parser->arena, &$$) = (Clause){.word = $2, .span = span_join(@2, @3), .args = args_of($3)}; }

clause_word: ON | TO | FROM | AS | IN | FOR | EXCEPT | LINK | WITH | MINIMIZING

transforms: %empty      { $$.args = (Args){0}; $$.present = false; }
    | ':' args          { $$.args = args_of($2); $$.present = true; }

/* ---- What evaluate lists: words.c made a comma an END ------------------------------------------------------------ */
metric_block: '{' metrics '}'
                        { $$ = $2; }

metrics: %empty         { $$ = (ArgList){0}; }
    | metrics expr END  { $$ = $1; *LIST_ADD(parser->arena, &$$) = (Arg){.name_span = SPAN_NONE, .value = $2}; }
    | metrics error END { $$ = $1; yyerrok; }

/* ---- Expressions ------------------------------------------------------------------------------------------------- */
args: arg               { $$ = (ArgList){0}; *LIST_ADD(parser->arena, &$$) = $1; }
    | args ',' arg      { $$ = $1; *LIST_ADD(parser->arena, &$$) = $3; }

arg: expr               { $$ = (Arg){.name_span = SPAN_NONE, .value = $1}; }
    | NAME '=' expr     { $$ = (Arg){.name = $1, .name_span = @1, .value = $3}; }

elements: expr          { $$ = (ArgList){0};
                          *LIST_ADD(parser->arena, &$$) = (Arg){.name_span = SPAN_NONE, .value = $1}; }
    | elements ',' expr { $$ = $1; *LIST_ADD(parser->arena, &$$) = (Arg){.name_span = SPAN_NONE, .value = $3}; }

expr: expr '+' expr     { $$ = binary(parser, @$, OPERATOR_ADD, $1, $3); }
    | expr '-' expr     { $$ = binary(parser, @$, OPERATOR_SUBTRACT, $1, $3); }
    | expr '*' expr     { $$ = binary(parser, @$, OPERATOR_MULTIPLY, $1, $3); }
    | expr '/' expr     { $$ = binary(parser, @$, OPERATOR_DIVIDE, $1, $3); }
    | expr '@' expr     { $$ = binary(parser, @$, OPERATOR_MATMUL, $1, $3); }
    | expr '^' expr     { $$ = binary(parser, @$, OPERATOR_POWER, $1, $3); }
    | expr '<' expr     { $$ = binary(parser, @$, OPERATOR_LESS, $1, $3); }
    | expr "<=" expr    { $$ = binary(parser, @$, OPERATOR_LESS_EQUAL, $1, $3); }
    | expr '>' expr     { $$ = binary(parser, @$, OPERATOR_GREATER, $1, $3); }
    | expr ">=" expr    { $$ = binary(parser, @$, OPERATOR_GREATER_EQUAL, $1, $3); }
    | expr "==" expr    { $$ = binary(parser, @$, OPERATOR_EQUAL, $1, $3); }
    | expr "!=" expr    { $$ = binary(parser, @$, OPERATOR_NOT_EQUAL, $1, $3); }
    | expr ".." expr    { $$ = expr_binary(parser, @$, EXPR_RANGE, OPERATOR_ADD, $1, $3); }
    | '-' expr %prec NEGATION
                        { $$ = expr_binary(parser, @$, EXPR_UNARY, OPERATOR_NEGATE, $2, NULL); }
    | REPEAT NUMBER call
                        { $$ = expr_binary(parser, @$, EXPR_REPEAT, OPERATOR_ADD, expr_number(parser, @2, $2), $3); }
    | REPEAT NAME call  { $$ = expr_binary(parser, @$, EXPR_REPEAT, OPERATOR_ADD, expr_name(parser, @2, $2), $3); }
    | REPEAT '(' expr ')' call
                        { $$ = expr_binary(parser, @$, EXPR_REPEAT, OPERATOR_ADD, $3, $5); }
    | postfix

call: callee '(' maybe_args ')'
                        { $$ = expr_call(parser, @$, $1, $3); }

callee: NAME            { $$ = expr_name(parser, @1, $1); }
    | callee '.' NAME   { $$ = expr_field(parser, @$, $1, $3, @3); }

postfix: primary
    | postfix '.' NAME  { $$ = expr_field(parser, @$, $1, $3, @3); }
    | postfix '.' STRING
                        { $$ = expr_field(parser, @$, $1, name_of($3.bytes), @3); }
    | postfix '(' maybe_args ')'
                        { $$ = expr_call(parser, @$, $1, $3); }
    | postfix '[' elements ']'
                        { $$ = expr_index(parser, @$, $1, $3); }

primary: NUMBER         { $$ = expr_number(parser, @1, $1); }
    | STRING            { $$ = expr_string(parser, @1, $1.bytes, $1.length); }
    | NAME              { $$ = expr_name(parser, @1, $1); }
    | '(' expr ')'      { $$ = $2; }
    | '[' ']'           { $$ = expr_list(parser, @$, (ArgList){0}); }
    | '[' elements ']'  { $$ = expr_list(parser, @$, $2); }
%%

static int grammar_lex(GRAMMAR_STYPE *value, Span *span, Parser *parser) {
    const Token *token = &parser->tokens.at[parser->cursor];
    parser->current = parser->cursor;
    if (token->kind != TOKEN_YYEOF) parser->cursor++;
    *span = token->span;
    if (token->kind == TOKEN_NUMBER) {
        value->number = token->number;
    } else if (token->kind == TOKEN_STRING) {
        value->string.bytes = token->text;
        value->string.length = token->length;
    } else {
        value->name = token->text;
    }
    return token->kind;
}

/* Syntax errors go to yyreport_syntax_error; this hears of a full stack only. */
static void grammar_error(const Span *span, Parser *parser, const char *message) {
    (void)message;
    syntax_error(parser, *span, "this is nested too deeply to be read; give a part of it a name");
}

static int yyreport_syntax_error(const yypcontext_t *context, Parser *parser) {
    yysymbol_kind_t symbols[YYNTOKENS];
    Expected expected = {.parser = parser};
    int count = yypcontext_expected_tokens(context, symbols, YYNTOKENS);
    for (int i = 0; i < count; i++)
        for (int kind = 0; kind < EXPECTED_KINDS; kind++)
            if (YYTRANSLATE(kind) == symbols[i] && symbols[i] != YYSYMBOL_YYUNDEF) expected.kinds[kind] = true;
    report_unexpected(&expected);
    return 0;
}
