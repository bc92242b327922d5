/* The AST: what was written, nothing more. The contract between the parser and everything behind it.
   Invariants (ast_verify): every node has a span inside its source; names are interned; lists are never NULL where
   their count is not 0; statement and expression kinds appear only where the comments allow them. */
#ifndef BPC_AST_H
#define BPC_AST_H

#include "../base/base.h"

typedef struct Expr Expr;
typedef struct Stmt Stmt;
typedef struct Item Item;

/* ---- Expressions ------------------------------------------------------------------------------------------------- */
typedef enum ExprKind {
    EXPR_NUMBER, /* 0.01 */
    EXPR_STRING, /* "iris.csv" */
    EXPR_NAME,   /* fc1 */
    EXPR_UNARY,  /* -a */
    EXPR_BINARY, /* a + b */
    EXPR_CALL,   /* f(a, name = b) */
    EXPR_INDEX,  /* a[i], body[0..9] */
    EXPR_FIELD,  /* iris.species */
    EXPR_RANGE,  /* p0..p783, 0..9: both ends included */
    EXPR_LIST,   /* [0, 1, 1] */
    EXPR_REPEAT, /* repeat 20 Residual(stem, 64): binary.left is the count, binary.right the call */
} ExprKind;

typedef enum Operator {
    OPERATOR_ADD,
    OPERATOR_SUBTRACT,
    OPERATOR_MULTIPLY,
    OPERATOR_DIVIDE,
    OPERATOR_MATMUL,
    OPERATOR_POWER,
    OPERATOR_LESS,
    OPERATOR_LESS_EQUAL,
    OPERATOR_GREATER,
    OPERATOR_GREATER_EQUAL,
    OPERATOR_EQUAL,
    OPERATOR_NOT_EQUAL,
    OPERATOR_NEGATE,
} Operator;
const char *operator_spelling(Operator op); /* "+", "<=", … */

/* An argument, an option (`lr = 0.01`) or an element of a list. */
typedef struct Arg {
    Name name; /* NULL where positional */
    Span name_span;
    Expr *value;
} Arg;

typedef struct Args {
    Arg *at;
    int count;
} Args;

/* Passes may recurse over an expression: the parser refuses one with more levels. */
enum { EXPR_HEIGHT_MAX = 500 };

struct Expr {
    ExprKind kind;
    int32_t height; /* levels of nesting: 1 for a leaf */
    Span span;
    union {
        double number;
        struct {
            const char *bytes;
            int32_t length;
        } string; /* NUL-terminated copy, no NUL inside */
        Name name;
        struct {
            Operator op;
            Expr *left, *right;
        } binary; /* UNARY, RANGE and REPEAT use it too; UNARY has no right */
        struct {
            Expr *callee;
            Args args;
        } call; /* callee: NAME or FIELD */
        struct {
            Expr *base;
            Args args;
        } index;
        struct {
            Expr *base;
            Name name;
            Span name_span;
        } field;
        Args list;
    };
};

/* ---- Statements in bodies: of models, blocks, optimizers, step, and of def, loss, metric with braces ------------- */
typedef enum StmtKind {
    STMT_BIND,      /* a = e        mu, logvar = Encoder(x) */
    STMT_DRAW,      /* z ~ normal(…) */
    STMT_ASSIGN,    /* v := e */
    STMT_PARAMETER, /* parameter weight[width, size(x)] = e */
    STMT_STATE,     /* state v = 0 */
    STMT_REPLACE,   /* replace fc2 = e */
    STMT_RETURN,    /* return a, b */
    STMT_UPDATE,    /* update D, E with adam(1e-3) minimizing loss, every = 5 */
    STMT_GRAD,      /* grad x = e: the derivative with respect to parameter x, given `d`, for a def */
} StmtKind;

typedef struct NameList {
    Name *at;
    Span *spans;
    int count;
} NameList;

struct Stmt {
    StmtKind kind;
    Span span;
    NameList names; /* what is bound, drawn, assigned, declared, replaced, updated; GRAD: the one parameter */
    Args dims;      /* PARAMETER: its shape, count 0 where none is written */
    Expr *value;    /* the right side; UPDATE: the objective; NULL for a RETURN (see values) */
    Args values;    /* RETURN: the expressions; UPDATE: the options after the objective */
    Expr *with;     /* UPDATE: the optimizer */
};

typedef struct Body {
    Stmt **at;
    int count;
} Body;

/* ---- Definitions ------------------------------------------------------------------------------------------------- */
typedef struct Param {
    Name name;
    Span span;
    Args dims;      /* state[4] */
    Expr *type;     /* action : category(2), or NULL */
    Expr *fallback; /* width = 16, or NULL */
} Param;

typedef struct Params {
    Param *at;
    int count;
} Params;

/* ---- Settings: the lines of data and train blocks -------------------------------------------------------------------
   keyword args [word clause_args]* [: transforms]        e.g.  input numbers except Id : impute(median), standardize
   keyword label = args …                                 e.g.  input image = p0..p783 : scale(1 / 255)
   `label = a, b, c` puts the name of the first argument into args.at[0].name and leaves the rest positional. */
typedef struct Clause {
    Name word; /* except, for, from, in … */
    Span span;
    Args args;
} Clause;

typedef struct Setting {
    Name keyword;
    Span keyword_span, span;
    Args args;
    Clause *clauses;
    int clause_count;
    Args transforms;     /* what follows `:` */
    bool has_transforms; /* a `:` was written */
    bool is_step;        /* step (params) { body } */
    Params step_params;
    Body step_body;
} Setting;

typedef struct Settings {
    Setting **at;
    int count;
} Settings;

/* ---- Items: the statements of a file ----------------------------------------------------------------------------- */
typedef enum ItemKind {
    ITEM_VERSION,   /* bpc 1                                       number */
    ITEM_USE,       /* use "iris.bp"                               path */
    ITEM_PARAM,     /* param lr = 1e-2                             name, value */
    ITEM_CONST,     /* const width = 32                            name, value */
    ITEM_DATA,      /* data iris { … }                             name, settings */
    ITEM_MODEL,     /* model M(x) { … }                            name, params, body */
    ITEM_DERIVED,   /* model B = A from "a.safetensors" { … }      name, base, path (may be NULL), body */
    ITEM_BLOCK,     /* block dense(x, width) { … }                 name, params, body */
    ITEM_DEF,       /* def relu(x) = …                             name, params, value or body, grads in body */
    ITEM_LOSS,      /* loss mse(y, t) link sigmoid = …             name, params, link, value or body */
    ITEM_METRIC,    /* metric rmse(y, t) = …                       name, params, value or body */
    ITEM_OPTIMIZER, /* optimizer sgd(w, g, lr) { … }               name, params, body */
    ITEM_TRAIN,     /* train M, N on data as label { … }           models, on, label, settings */
    ITEM_FINETUNE,  /* the same */
    ITEM_EVALUATE,  /* evaluate M on iris.test in log { … }        models, on, in, args */
    ITEM_SAVE,      /* save M to "m.safetensors"                   models, path */
    ITEM_LOAD,      /* load M from "m.safetensors"                 models, path */
} ItemKind;

struct Item {
    ItemKind kind;
    Span span, name_span;
    Name name;
    Params params;
    Body body;
    Expr *value; /* NULL when the definition has a body */
    Settings settings;
    NameList models;
    Expr *on;   /* TRAIN, EVALUATE: iris, iris.test, or NULL */
    Name label; /* TRAIN: as label */
    Span label_span;
    Name base, link, in; /* DERIVED; LOSS; EVALUATE: in log */
    Span base_span, link_span, in_span;
    Expr *path; /* a STRING */
    Args args;  /* EVALUATE: the metrics */
    double number;
};

typedef struct Ast {
    int source;
    Item **at;
    int count;
} Ast;

/* Parses one source; reports every syntax error it finds. The items that did parse are returned even so (never NULL).
 */
Ast *parse_source(Arena *arena, int source);
/* Prints the AST as an indented tree, one node a line: kind, what it holds, line:column. */
void ast_print(const Ast *ast, Text *out);
/* Prints an expression as it would be written, for messages and comments. */
void expr_print(const Expr *expr, Text *out);
/* States the invariants above; BUG() where one is broken. */
void ast_verify(const Ast *ast);

#endif
