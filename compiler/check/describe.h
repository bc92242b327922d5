/* `bpc describe FILE.csv`: the lines to paste, and what the file holds. */
#ifndef BPC_DESCRIBE_H
#define BPC_DESCRIBE_H

#include "../base/base.h"

/* Adds a `data` block for the table at `path` and, as comments, a summary of its columns. Guesses (header, what means missing,
   the target) are marked as such. Returns false and fills `why` ("iris.csv:57: 4 fields, 5 expected") where the file
   cannot be read. */
bool describe_file(const char *path, Text *out, char *why, size_t why_size);
/* The same for an IDX file, in a block of this name; false where it is none (then *is_array is false), or is damaged. */
bool describe_array(Arena *arena, const char *path, const char *name, Text *out, bool *is_array, char *why,
                    size_t why_size);

#endif
