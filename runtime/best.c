/* The best weights of a phase so far, which early stopping brings back: in memory, or in a file where memory is short. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BEST_PIECE = 1 << 13 };

static int best_open(struct bp_best *best, struct bp_error *error) {
    char path[] = ".bp-best-XXXXXX";
    best->descriptor = mkstemp(path);
    if (best->descriptor < 0)
        return bp_fail(error, "the best weights do not fit into memory, and no file can be made for them here: %s",
                       strerror(errno));
    unlink(path);
    best->in_file = 1;
    return 1;
}

int bp_best_start(struct bp_best *best, int64_t count, int in_file, struct bp_error *error) {
    struct bp_error ignored; /* then a file does it */
    size_t bytes = ((size_t)count + 1) * sizeof(float);
    memset(best, 0, sizeof *best);
    best->count = count;
    if (!in_file && !bp_memory_is_short(bytes))
        best->values = bp_allocate(bytes, "the best weights", &ignored);
    return best->values != NULL || best_open(best, error);
}

int bp_best_is_kept(const struct bp_best *best) {
    return best->values != NULL || best->in_file;
}

void bp_best_free(struct bp_best *best) {
    free(best->values);
    if (best->in_file)
        close(best->descriptor);
    memset(best, 0, sizeof *best);
}

/* All bytes or an error; what: pread or pwrite. */
static int best_transfer(const struct bp_best *best, int64_t first, int64_t count, void *values, int writes,
                         struct bp_error *error) {
    size_t left = (size_t)count * sizeof(float);
    off_t place = (off_t)first * (off_t)sizeof(float);
    char *at = values;
    while (left > 0) {
        ssize_t done = writes ? pwrite(best->descriptor, at, left, place) : pread(best->descriptor, at, left, place);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return bp_fail(error, "the file of the best weights cannot be %s: %s", writes ? "written" : "read",
                           done < 0 ? strerror(errno) : "it ends early");
        at += done;
        place += done;
        left -= (size_t)done;
    }
    return 1;
}

int bp_best_put(struct bp_best *best, int64_t first, int64_t count, const float *values, struct bp_error *error) {
    if (best->in_file)
        return best_transfer(best, first, count, (void *)(uintptr_t)values, 1, error);
    memcpy(best->values + first, values, (size_t)count * sizeof *values);
    return 1;
}

int bp_best_get(const struct bp_best *best, int64_t first, int64_t count, float *values, struct bp_error *error) {
    if (best->in_file)
        return best_transfer(best, first, count, values, 0, error);
    memcpy(values, best->values + first, (size_t)count * sizeof *values);
    return 1;
}

int bp_best_put_tensor(struct bp_best *best, int64_t first, const struct bp_tensor *tensor, const float *stored,
                       struct bp_error *error) {
    float piece[BEST_PIECE];
    int64_t count = bp_tensor_count(tensor);
    if (best->values) {
        bp_tensor_get(tensor, stored, 0, count, best->values + first);
        return 1;
    }
    for (int64_t done = 0, n; done < count; done += n) {
        n = count - done < BEST_PIECE ? count - done : BEST_PIECE;
        bp_tensor_get(tensor, stored, done, n, piece);
        if (!bp_best_put(best, first + done, n, piece, error))
            return 0;
    }
    return 1;
}

int bp_best_get_tensor(const struct bp_best *best, int64_t first, const struct bp_tensor *tensor, float *stored,
                       struct bp_error *error) {
    float piece[BEST_PIECE];
    int64_t count = bp_tensor_count(tensor);
    if (best->values) {
        bp_tensor_put(tensor, stored, 0, count, best->values + first);
        return 1;
    }
    for (int64_t done = 0, n; done < count; done += n) {
        n = count - done < BEST_PIECE ? count - done : BEST_PIECE;
        if (!bp_best_get(best, first + done, n, piece, error))
            return 0;
        bp_tensor_put(tensor, stored, done, n, piece);
    }
    return 1;
}
