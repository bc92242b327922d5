#include "explain.h"

#include <string.h>

static const ExplainTopic topics[] = {
    {"frozen", explain_frozen},     /* explain_frozen.c: what is computed once, and what in every step */
    {"fusion", NULL},               /* kernel/explain.c: what shares a kernel, what rides on what, what is stored */
    {"rewrites", explain_rewrites}, /* explain_rewrites.c: what formulas became, and how exactly */
};

const ExplainTopic *explain_topic(const char *name) {
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        if (!strcmp(topics[i].name, name))
            return &topics[i];
    return NULL;
}

const char *explain_topics(void) {
    static char names[256];
    names[0] = 0;
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", topics[i].name);
    return names;
}
