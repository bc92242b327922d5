#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void say_why(char *why, size_t why_size, const char *what, const char *path) {
    if (why && why_size)
        snprintf(why, why_size, "cannot %s %s: %s", what, path, strerror(errno));
}

static bool write_all(int file, const char *bytes, size_t length) {
    while (length) {
        ssize_t written = write(file, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        bytes += written;
        length -= (size_t)written;
    }
    return true;
}

static bool write_in_place(int file, const char *path, const char *bytes, size_t length, char *why, size_t why_size) {
    if (write_all(file, bytes, length))
        return true;
    say_why(why, why_size, "write", path);
    return false;
}

static mode_t mode_for(const struct stat *existing) {
    if (existing)
        return existing->st_mode & 07777;
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

static bool replace_file(const char *path, const struct stat *existing, const char *bytes, size_t length, char *why,
                         size_t why_size) {
    size_t size = strlen(path) + sizeof ".XXXXXX";
    char *beside = malloc(size);
    if (!beside) {
        errno = ENOMEM;
        say_why(why, why_size, "write", path);
        return false;
    }
    snprintf(beside, size, "%s.XXXXXX", path);
    int file = mkstemp(beside);
    bool made = file >= 0;
    bool whole = made && write_all(file, bytes, length) && fchmod(file, mode_for(existing)) == 0 && fsync(file) == 0;
    int reason = errno;
    if (made && close(file) != 0 && whole) {
        whole = false;
        reason = errno;
    }
    if (whole && rename(beside, path) != 0) {
        whole = false;
        reason = errno;
    }
    if (!whole) {
        if (made)
            unlink(beside);
        errno = reason;
        say_why(why, why_size, "write", path);
    }
    free(beside);
    return whole;
}

bool file_write_whole(const char *path, const char *bytes, size_t length, char *why, size_t why_size) {
    if (strcmp(path, "-") == 0) {
        fflush(stdout);
        return write_in_place(STDOUT_FILENO, "the standard output", bytes, length, why, why_size);
    }
    struct stat existing;
    bool exists = stat(path, &existing) == 0;
    if (exists && !S_ISREG(existing.st_mode)) { /* a device or a pipe cannot be renamed over */
        int file = open(path, O_WRONLY | O_CLOEXEC);
        if (file < 0) {
            say_why(why, why_size, "write", path);
            return false;
        }
        bool written = write_in_place(file, path, bytes, length, why, why_size);
        close(file);
        return written;
    }
    char *target = exists ? realpath(path, NULL) : NULL; /* what a link points at is replaced, not the link */
    bool written = replace_file(target ? target : path, exists ? &existing : NULL, bytes, length, why, why_size);
    free(target);
    return written;
}

bool file_same(const char *a, const char *b) {
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && S_ISREG(one.st_mode) && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

char *file_read_whole(const char *path, size_t *length, char *why, size_t why_size) {
    bool standard = strcmp(path, "-") == 0;
    const char *shown = standard ? "the standard input" : path;
    FILE *file = standard ? stdin : fopen(path, "rb");
    if (!file) {
        say_why(why, why_size, "read", shown);
        return NULL;
    }
    size_t capacity = 64 * 1024, used = 0;
    char *bytes = malloc(capacity);
    errno = ENOMEM;
    while (bytes) {
        errno = 0;
        used += fread(bytes + used, 1, capacity - used - 1, file);
        if (ferror(file) || used + 1 < capacity)
            break;
        char *larger = realloc(bytes, capacity *= 2);
        if (!larger) {
            free(bytes);
            errno = ENOMEM;
        }
        bytes = larger;
    }
    if (!bytes || ferror(file)) {
        if (errno == 0)
            errno = EIO;
        say_why(why, why_size, "read", shown);
        free(bytes);
        bytes = NULL;
    }
    if (!standard)
        fclose(file);
    if (!bytes)
        return NULL;
    bytes[used] = '\0';
    *length = used;
    return bytes;
}
