/* Memory that is there or says that it is not. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* madvise */
#endif
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Kernels walk down columns of matrices, a page or more apart: pages of 2 MB save most of the address translation. */
static size_t memory_alignment(size_t bytes) {
    return bytes >= (size_t)4 << 20 ? (size_t)2 << 20 : 64;
}

void *bp_allocate(size_t bytes, const char *what, struct bp_error *error) {
    const size_t line = memory_alignment(bytes);
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
#ifdef MADV_HUGEPAGE
    if (line > 64)
        (void)madvise(memory, rounded, MADV_HUGEPAGE); /* where it is refused, small pages do */
#endif
    memset(memory, 0, rounded);
    return memory;
}
