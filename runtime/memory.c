/* Memory that is there or says that it is not. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* madvise */
#endif
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MEMORY_LINE = 64, MEMORY_LARGE = 1 << 19, MEMORY_HUGE_PAGE = 2 << 20, MEMORY_REST = MEMORY_HUGE_PAGE / 8 };

/* Kernels walk down columns of matrices, a page or more apart: pages of 2 MB save most of the address translation, and the
   system gives one in the time of some 80 small ones. */
static void memory_use_huge_pages(void *memory, size_t bytes) {
#ifdef MADV_HUGEPAGE
    (void)madvise(memory, bytes, MADV_HUGEPAGE); /* where refused, small pages do */
#else
    (void)memory;
    (void)bytes;
#endif
}

/* Zeros from `memory` on, which begins a page. Linux gives up the pages: what is touched later is a new one, cleared then
   and by the thread that touches it. */
static void memory_clear(void *memory, size_t bytes) {
    size_t pages = 0;
#if defined(__linux__) && defined(MADV_DONTNEED)
    pages = bytes / MEMORY_HUGE_PAGE * MEMORY_HUGE_PAGE;
    if (madvise(memory, pages, MADV_DONTNEED) != 0)
        pages = 0;
#endif
    memset((char *)memory + pages, 0, bytes - pages);
}

void *bp_allocate(size_t bytes, const char *what, struct bp_error *error) {
    const size_t alignment = bytes >= MEMORY_LARGE ? MEMORY_HUGE_PAGE : MEMORY_LINE;
    size_t rounded = bytes == 0 ? MEMORY_LINE : bytes;
    void *memory = NULL;
    if (rounded > PTRDIFF_MAX - MEMORY_LINE) {
        bp_fail(error, "out of memory: %s would need more than this machine can address", what);
        return NULL;
    }
    rounded = (rounded + MEMORY_LINE - 1) / MEMORY_LINE * MEMORY_LINE;
    if (bytes >= MEMORY_LARGE && rounded % MEMORY_HUGE_PAGE >= MEMORY_REST) /* worth a huge page as well */
        rounded += MEMORY_HUGE_PAGE - rounded % MEMORY_HUGE_PAGE;
    if (posix_memalign(&memory, alignment, rounded) != 0) {
        bp_fail(error, "out of memory: %s needs %zu bytes", what, bytes);
        return NULL;
    }
    if (bytes < MEMORY_LARGE) {
        memset(memory, 0, rounded);
        return memory;
    }
    memory_use_huge_pages(memory, rounded);
    memory_clear(memory, rounded);
    return memory;
}

/* The number that stands alone in a file, or behind `key` at the start of a line; 0 where there is none. */
unsigned long long bp_memory_read(const char *path, const char *key) {
    FILE *file = fopen(path, "r");
    char line[256];
    unsigned long long number = 0;
    size_t length = strlen(key);
    while (file && number == 0 && fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0)
            number = strtoull(line + length, NULL, 10);
    if (file)
        fclose(file);
    return number;
}

int bp_memory_is_short(size_t bytes) {
    unsigned long long available = bp_memory_read("/proc/meminfo", "MemAvailable:") * 1024;
    unsigned long long most = bp_memory_read("/sys/fs/cgroup/memory.max", ""),
                       used = bp_memory_read("/sys/fs/cgroup/memory.current", "");
    if (most > 0 && (available == 0 || most - (used < most ? used : most) < available))
        available = most - (used < most ? used : most);
    return available > 0 && bytes > available; /* where nothing is told, the allocation tells */
}
