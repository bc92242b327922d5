/* A folder for each test, and files in it. */
#ifndef BP_FOLDER_H
#define BP_FOLDER_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static inline void enter(void) {
    snprintf(folder, sizeof folder, "/tmp/bp-unit-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
    cr_assert(chdir(folder) == 0);
}

static inline void leave(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    cr_assert(chdir("/") == 0);
    cr_assert(system(command) == 0);
}

static inline void write_bytes(const char *name, const void *bytes, size_t length) {
    FILE *file = fopen(name, "wb");
    cr_assert(file != NULL && fwrite(bytes, 1, length, file) == length);
    cr_assert(fclose(file) == 0);
}

static inline void write_file(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}

#endif
