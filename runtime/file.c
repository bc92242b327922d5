/* Files that are whole or not there: written beside, synced, renamed. Files read at once, gzip unpacked. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* realpath */
#endif
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef BP_HAVE_ZLIB
#include <zlib.h>
#endif

/* ---- Writing ----------------------------------------------------------------------------------------------------- */
enum { FILE_BUFFER = 1 << 16 };
struct bp_writer {
    int descriptor;
    int failed;   /* some bytes did not arrive: nothing may be renamed any more */
    char *path;   /* as the caller named it, for messages */
    char *target; /* the file that is replaced, symbolic links followed */
    char *beside; /* what is written until then; NULL: straight to a device, a pipe or stdout */
    size_t used;
    char buffer[FILE_BUFFER];
};

static void file_free_writer(struct bp_writer *writer) {
    free(writer->path);
    free(writer->target);
    free(writer->beside);
    free(writer);
}

static char *file_copy_text(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

/* Opens a new file next to the target, under a name that nobody else has. */
static int file_open_beside(struct bp_writer *writer, const struct stat *old, struct bp_error *error) {
    size_t size = strlen(writer->target) + 40;
    writer->beside = malloc(size);
    if (writer->beside == NULL)
        return bp_fail(error, "out of memory: writing '%s'", writer->path);
    for (int attempt = 0; attempt < 1000; attempt++) {
        snprintf(writer->beside, size, "%s.%ld-%d.part", writer->target, (long)getpid(), attempt);
        writer->descriptor = open(writer->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->descriptor >= 0) {
            if (old != NULL) /* keeps its permissions; where it may not, the new file has the usual ones */
                (void)!fchmod(writer->descriptor, old->st_mode & 07777);
            return 1;
        }
        if (errno != EEXIST)
            break;
    }
    int code = errno;
    free(writer->beside);
    writer->beside = NULL;
    return bp_fail(error, "cannot write '%s': %s", writer->path, strerror(code));
}

static int file_open_target(struct bp_writer *writer, struct bp_error *error) {
    if (strcmp(writer->path, "-") == 0) {
        fflush(stdout);
        writer->descriptor = STDOUT_FILENO;
        return 1;
    }
    struct stat old;
    int exists = stat(writer->path, &old) == 0;
    if (exists && S_ISDIR(old.st_mode))
        return bp_fail(error, "cannot write '%s': it is a directory", writer->path);
    if (exists && !S_ISREG(old.st_mode)) {
        writer->descriptor = open(writer->path, O_WRONLY | O_CLOEXEC);
        return writer->descriptor >= 0 || bp_fail(error, "cannot write '%s': %s", writer->path, strerror(errno));
    }
    writer->target = exists ? realpath(writer->path, NULL) : file_copy_text(writer->path);
    if (writer->target == NULL)
        return bp_fail(error, "cannot write '%s': %s", writer->path, strerror(errno));
    return file_open_beside(writer, exists ? &old : NULL, error);
}

struct bp_writer *bp_writer_open(const char *path, struct bp_error *error) {
    struct bp_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL || (writer->path = file_copy_text(path)) == NULL) {
        free(writer);
        bp_fail(error, "out of memory: writing '%s'", path);
        return NULL;
    }
    writer->descriptor = -1;
    if (file_open_target(writer, error))
        return writer;
    file_free_writer(writer);
    return NULL;
}

int bp_writable(const char *path, struct bp_error *error) {
    struct stat about;
    if (strcmp(path, "-") == 0 || (stat(path, &about) == 0 && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)))
        return 1; /* opening a pipe would be noticed at its other end */
    struct bp_writer *writer = bp_writer_open(path, error);
    bp_writer_abandon(writer);
    return writer != NULL;
}

int bp_same_file(const char *a, const char *b) {
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && S_ISREG(one.st_mode) && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

static int file_flush(struct bp_writer *writer, struct bp_error *error) {
    for (size_t done = 0; done < writer->used;) {
        ssize_t wrote = write(writer->descriptor, writer->buffer + done, writer->used - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            writer->failed = 1;
            return bp_fail(error, "cannot write '%s': %s", writer->path, strerror(wrote < 0 ? errno : EIO));
        }
        done += (size_t)wrote;
    }
    writer->used = 0;
    return 1;
}

int bp_writer_put(struct bp_writer *writer, const void *bytes, size_t length, struct bp_error *error) {
    const char *at = bytes;
    while (length > 0) {
        size_t room = FILE_BUFFER - writer->used, taken = length < room ? length : room;
        memcpy(writer->buffer + writer->used, at, taken);
        writer->used += taken;
        at += taken;
        length -= taken;
        if (writer->used == FILE_BUFFER && !file_flush(writer, error))
            return 0;
    }
    return 1;
}

/* So that the new name survives a power cut; some file systems cannot, and the data itself is synced already. */
static void file_sync_directory(const char *target) {
    char *directory = file_copy_text(target);
    if (directory == NULL)
        return;
    char *slash = strrchr(directory, '/');
    if (slash != NULL)
        slash[slash == directory] = '\0';
    int descriptor = open(slash == NULL ? "." : directory, O_RDONLY | O_CLOEXEC);
    free(directory);
    if (descriptor < 0)
        return;
    (void)!fsync(descriptor);
    close(descriptor);
}

static int file_finish(struct bp_writer *writer, struct bp_error *error) {
    if (writer->failed)
        return bp_fail(error, "cannot write '%s': an earlier write failed", writer->path);
    if (!file_flush(writer, error))
        return 0;
    if (writer->descriptor == STDOUT_FILENO)
        return 1;
    int descriptor = writer->descriptor;
    if (writer->beside != NULL && fsync(descriptor) != 0)
        return bp_fail(error, "cannot write '%s': %s", writer->path, strerror(errno));
    writer->descriptor = -1;
    if (close(descriptor) != 0)
        return bp_fail(error, "cannot write '%s': %s", writer->path, strerror(errno));
    if (writer->beside == NULL)
        return 1;
    if (rename(writer->beside, writer->target) != 0)
        return bp_fail(error, "cannot write '%s': %s", writer->path, strerror(errno));
    file_sync_directory(writer->target);
    return 1;
}

int bp_writer_commit(struct bp_writer *writer, struct bp_error *error) {
    if (!file_finish(writer, error)) {
        bp_writer_abandon(writer);
        return 0;
    }
    file_free_writer(writer);
    return 1;
}

void bp_writer_abandon(struct bp_writer *writer) {
    if (writer == NULL)
        return;
    if (writer->descriptor >= 0 && writer->descriptor != STDOUT_FILENO)
        close(writer->descriptor);
    if (writer->beside != NULL)
        unlink(writer->beside);
    file_free_writer(writer);
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */
/* Doubles the buffer; 0 when memory ran out (the old buffer is then still there). */
static int file_grow(char **bytes, size_t *capacity) {
    if (*capacity > PTRDIFF_MAX / 2)
        return 0;
    char *more = realloc(*bytes, *capacity * 2);
    if (more == NULL)
        return 0;
    *bytes = more;
    *capacity *= 2;
    return 1;
}

static int file_read_all(int descriptor, const char *path, size_t expected, char **bytes, size_t *length,
                         struct bp_error *error) {
    size_t capacity = expected + 2, used = 0; /* one more than expected finds the end without growing, one for NUL */
    if (capacity < 4096)
        capacity = 4096;
    *bytes = bp_allocate(capacity, "a file", error);
    if (*bytes == NULL)
        return bp_fail(error, "out of memory: reading '%s'", path);
    for (;;) {
        if (used + 1 >= capacity && !file_grow(bytes, &capacity))
            return bp_fail(error, "out of memory: reading '%s'", path);
        ssize_t got = read(descriptor, *bytes + used, capacity - used - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return bp_fail(error, "cannot read '%s': %s", path, strerror(errno));
        if (got == 0)
            break;
        used += (size_t)got;
    }
    (*bytes)[used] = '\0';
    *length = used;
    return 1;
}

#ifdef BP_HAVE_ZLIB
/* Unpacks every member of [packed, packed + packed_length); what does not fit zlib's 32-bit counts goes in pieces. */
static int file_inflate(z_stream *stream, const char *packed, size_t packed_length, char **bytes, size_t *capacity,
                        size_t *used) {
    const size_t piece = 1U << 30;
    const Bytef *at = (const Bytef *)packed;
    size_t left = packed_length;
    int state = Z_OK;
    for (;;) {
        if (stream->avail_in == 0 && left > 0) {
            size_t taken = left < piece ? left : piece;
            stream->next_in = (Bytef *)(uintptr_t)at;
            stream->avail_in = (uInt)taken;
            at += taken;
            left -= taken;
        }
        if (state == Z_STREAM_END) {
            if (stream->avail_in == 0)
                return Z_OK;
            if (inflateReset(stream) != Z_OK)
                return Z_DATA_ERROR;
        }
        if (*used + 1 >= *capacity && !file_grow(bytes, capacity))
            return Z_MEM_ERROR;
        size_t room = *capacity - *used - 1;
        uInt given = (uInt)(room < piece ? room : piece);
        stream->next_out = (Bytef *)*bytes + *used;
        stream->avail_out = given;
        state = inflate(stream, Z_NO_FLUSH);
        *used += given - stream->avail_out;
        if (state == Z_BUF_ERROR && stream->avail_in == 0 && left == 0)
            return Z_BUF_ERROR; /* the file ends before its data does */
        if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
            return state;
    }
}

static char *file_unpack(const char *path, char *packed, size_t *length, struct bp_error *error) {
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    size_t capacity = *length * 4 + 4096, used = 0;
    char *bytes = malloc(capacity);
    int state = bytes == NULL ? Z_MEM_ERROR : inflateInit2(&stream, 16 + MAX_WBITS);
    if (state == Z_OK) {
        state = file_inflate(&stream, packed, *length, &bytes, &capacity, &used);
        inflateEnd(&stream);
    }
    free(packed);
    if (state == Z_OK) {
        bytes[used] = '\0';
        *length = used;
        return bytes;
    }
    free(bytes);
    if (state == Z_MEM_ERROR)
        bp_fail(error, "out of memory: unpacking '%s'", path);
    else
        bp_fail(error, "cannot unpack '%s': %s", path,
                state == Z_BUF_ERROR ? "it is cut short" : "it is damaged, or not gzip after all");
    return NULL;
}
#else
static char *file_unpack(const char *path, char *packed, size_t *length, struct bp_error *error) {
    (void)length;
    free(packed);
    bp_fail(error, "cannot read '%s': it is gzip, and this program was built without zlib; unpack it with gunzip",
            path);
    return NULL;
}
#endif

char *bp_read_file(const char *path, size_t *length, struct bp_error *error) {
    *length = 0;
    int descriptor = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (descriptor < 0 || fstat(descriptor, &about) != 0) {
        bp_fail(error, "cannot read '%s': %s", path, strerror(errno));
        if (descriptor >= 0)
            close(descriptor);
        return NULL;
    }
    char *bytes = NULL;
    size_t expected = S_ISREG(about.st_mode) && about.st_size > 0 ? (size_t)about.st_size : 0;
    int read_it = file_read_all(descriptor, path, expected, &bytes, length, error);
    close(descriptor);
    if (!read_it) {
        free(bytes);
        return NULL;
    }
    if (*length >= 2 && (unsigned char)bytes[0] == 0x1f && (unsigned char)bytes[1] == 0x8b)
        return file_unpack(path, bytes, length, error);
    return bytes;
}
