/* What the grammar expected where it met something else, said in words. */
#ifndef BPC_EXPECTED_H
#define BPC_EXPECTED_H

#include "parser.h"

enum { EXPECTED_KINDS = 512 }; /* no token has a higher number */

typedef struct Expected {
    Parser *parser;
    bool kinds[EXPECTED_KINDS]; /* by token */
} Expected;

/* Reports the token in hand and moves the parser to the end of its statement. */
void report_unexpected(Expected *expected);

#endif
