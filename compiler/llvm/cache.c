/* Objects made before: one file for each under $XDG_CACHE_HOME/bpc (else ~/.cache/bpc), named after what made it: the
   module's bitcode, LLVM's version, the machine and the options. A file begins with a mark, the length and two sums of
   what follows; one that does not fit is not trusted, and written again. Files are written beside and renamed, so that
   two processes may do it at once. What cannot be read or written is no error: the cache only saves time. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "ir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MARK_LENGTH = 16, HEAD_LENGTH = MARK_LENGTH + 24 };
static const char mark[MARK_LENGTH + 1] = "bpc object  1\n\n\n";

/* ---- Sums: two words of 64 bits, each step a product that no input undoes ---------------------------------------- */

typedef struct Sum {
    uint64_t a, b;
} Sum;

static uint64_t mix(uint64_t x) { /* the finalizer of SplitMix64 (Steele, Lea, Flood, 2014) */
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static void sum_add(Sum *sum, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, length - i < 8 ? length - i : 8);
        sum->a = mix(sum->a ^ word) + 0x9E3779B97F4A7C15u;
        sum->b = mix(sum->b + word) ^ (sum->a << 21 | sum->a >> 43);
    }
    sum->a = mix(sum->a ^ length);
    sum->b = mix(sum->b + length);
}

static void sum_add_string(Sum *sum, const char *text) {
    sum_add(sum, text, strlen(text) + 1);
}

CacheKey cache_key(const Target *target, const char *bytes, size_t length) {
    Sum sum = {1, 2};
    unsigned version[3];
    CacheKey key;
    LLVMGetVersion(&version[0], &version[1], &version[2]);
    sum_add(&sum, (const char *)version, sizeof version);
    sum_add_string(&sum, BPC_VERSION);
    sum_add_string(&sum, target->triple);
    sum_add_string(&sum, target->cpu);
    sum_add_string(&sum, target->features);
    sum_add(&sum, (const char *)&target->options->level, sizeof target->options->level);
    sum_add_string(&sum, passes_of(target));
    sum_add(&sum, bytes, length);
    snprintf(key.name, sizeof key.name, "%016llx%016llx.o", (unsigned long long)sum.a, (unsigned long long)sum.b);
    return key;
}

/* ---- The folder -------------------------------------------------------------------------------------------------- */

static bool folder_of(char folder[PATH_MAX]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (cache && cache[0] == '/') /* a relative one is to be ignored, says the XDG base directory specification */
        length = snprintf(folder, PATH_MAX, "%s/bpc", cache);
    else if (home && home[0] == '/')
        length = snprintf(folder, PATH_MAX, "%s/.cache/bpc", home);
    else
        return false;
    return length > 0 && length < PATH_MAX - 80;
}

static bool path_of(const CacheKey *key, char path[PATH_MAX]) {
    char folder[PATH_MAX];
    if (!folder_of(folder))
        return false;
    return snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - 80, folder, key->name) < PATH_MAX;
}

/* The folder and those above it. */
static bool make_folder(const char *file) {
    char path[PATH_MAX];
    size_t length = strlen(file);
    memcpy(path, file, length + 1);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return true;
}

/* ---- Reading and writing ----------------------------------------------------------------------------------------- */

static void head_of(const char *bytes, size_t length, char head[HEAD_LENGTH]) {
    Sum sum = {3, 4};
    uint64_t size = length;
    sum_add(&sum, bytes, length);
    memcpy(head, mark, MARK_LENGTH);
    memcpy(head + MARK_LENGTH, &size, 8);
    memcpy(head + MARK_LENGTH + 8, &sum.a, 8);
    memcpy(head + MARK_LENGTH + 16, &sum.b, 8);
}

/* All of a regular file of our own; NULL where it is none, or somebody else's. */
static char *read_all(const char *path, size_t *length) {
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat about;
    char *bytes = NULL;
    if (file < 0)
        return NULL;
    if (fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == geteuid() && about.st_size > HEAD_LENGTH)
        bytes = malloc((size_t)about.st_size);
    *length = bytes ? (size_t)about.st_size : 0;
    for (size_t done = 0; bytes && done < *length;) {
        ssize_t count = read(file, bytes + done, *length - done);
        if (count <= 0) {
            free(bytes);
            bytes = NULL;
        } else {
            done += (size_t)count;
        }
    }
    close(file);
    return bytes;
}

char *cache_read(const CacheKey *key, size_t *length) {
    char path[PATH_MAX], head[HEAD_LENGTH];
    if (!path_of(key, path))
        return NULL;
    char *bytes = read_all(path, length);
    if (!bytes)
        return NULL;
    *length -= HEAD_LENGTH;
    head_of(bytes + HEAD_LENGTH, *length, head);
    if (memcmp(head, bytes, HEAD_LENGTH) != 0) { /* damaged */
        free(bytes);
        return NULL;
    }
    memmove(bytes, bytes + HEAD_LENGTH, *length);
    return bytes;
}

static bool write_all(int file, const char *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t count = write(file, bytes + done, length - done);
        if (count < 0)
            return false;
        done += (size_t)count;
    }
    return true;
}

void cache_write(const CacheKey *key, const char *bytes, size_t length) {
    char path[PATH_MAX], beside[PATH_MAX + 8], head[HEAD_LENGTH];
    if (!path_of(key, path) || !make_folder(path))
        return;
    snprintf(beside, sizeof beside, "%s.XXXXXX", path);
    int file = mkstemp(beside);
    if (file < 0)
        return;
    head_of(bytes, length, head);
    bool whole = write_all(file, head, sizeof head) && write_all(file, bytes, length);
    whole = close(file) == 0 && whole;
    if (!whole || rename(beside, path) != 0)
        unlink(beside);
}
