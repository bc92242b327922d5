/* --explain=TOPIC: what the compiler decided, in words. A topic is a row of the table in explain.c. */
#ifndef BPC_EXPLAIN_H
#define BPC_EXPLAIN_H

#include "graph/graph.h"

typedef struct ExplainTopic {
    const char *name;
    void (*print)(const GraphProgram *program, Text *out); /* NULL: it is said as functions are lowered, by
                                                              kernel/explain.c */
} ExplainTopic;

const ExplainTopic *explain_topic(const char *name); /* NULL: there is none */
/* "frozen, fusion, rewrites" */
const char *explain_topics(void);

void explain_frozen(const GraphProgram *program, Text *out);
void explain_rewrites(const GraphProgram *program, Text *out);

#endif
