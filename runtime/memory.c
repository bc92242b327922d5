/* Allocation that fails with a message, never with a crash. */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

void *bp_allocate(size_t bytes, const char *what, struct bp_error *error) {
    const size_t line = 64;
    size_t rounded = bytes == 0 ? line : bytes;
    if (rounded > PTRDIFF_MAX - line) {
        bp_fail(error, "out of memory: %s would need more than this machine can address", what);
        return NULL;
    }
    rounded = (rounded + line - 1) / line * line;
    void *memory = aligned_alloc(line, rounded);
    if (memory == NULL) {
        bp_fail(error, "out of memory: %s needs %zu bytes", what, bytes);
        return NULL;
    }
    memset(memory, 0, rounded);
    return memory;
}
