#include "base.h"

#include <stdlib.h>
#include <string.h>

typedef struct Source {
    char *path, *text;
    size_t length;
    int32_t *line_starts; /* made when first asked for */
    int line_count;
} Source;

static struct {
    Source *at;
    int count, capacity;
} sources;

static void *need(void *memory) {
    if (memory)
        return memory;
    fprintf(stderr, "bpc: error: out of memory\n");
    exit(1);
}

static char *copy_of(const char *text, size_t length) {
    char *copy = need(malloc(length + 1));
    if (length)
        memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

int source_add(const char *path, const char *text, size_t length) {
    /* A byte order mark is no part of the program, nor of its columns. */
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        length -= 3;
    }
    if (length >= INT32_MAX) {
        fprintf(stderr, "bpc: error: %s is larger than 2 GiB\n", path);
        exit(1);
    }
    if (sources.count == sources.capacity) {
        sources.capacity = sources.capacity ? sources.capacity * 2 : 8;
        sources.at = need(realloc(sources.at, (size_t)sources.capacity * sizeof *sources.at));
    }
    Source *source = &sources.at[sources.count];
    *source = (Source){.path = copy_of(path, strlen(path)), .text = copy_of(text, length), .length = length};
    return sources.count++;
}

int source_count(void) {
    return sources.count;
}

static Source *source_at(int index) {
    if (index < 0 || index >= sources.count)
        BUG("no source %d", index);
    return &sources.at[index];
}

const char *source_path(int source) {
    return source_at(source)->path;
}

const char *source_text(int source, size_t *length) {
    Source *found = source_at(source);
    if (length)
        *length = found->length;
    return found->text;
}

static void index_lines(Source *source) {
    int count = 1;
    for (size_t i = 0; i < source->length; i++)
        count += source->text[i] == '\n';
    source->line_starts = need(malloc((size_t)count * sizeof *source->line_starts));
    source->line_starts[0] = 0;
    source->line_count = 1;
    for (size_t i = 0; i < source->length; i++)
        if (source->text[i] == '\n')
            source->line_starts[source->line_count++] = (int32_t)i + 1;
}

Place span_place(Span span) {
    if (span.source < 0)
        return (Place){"", 0, 0};
    Source *source = source_at(span.source);
    if (!source->line_starts)
        index_lines(source);
    int low = 0, high = source->line_count; /* the line is in [low, high) */
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (source->line_starts[middle] <= span.start)
            low = middle;
        else
            high = middle;
    }
    return (Place){source->path, low + 1, span.start - source->line_starts[low] + 1};
}

Span span_join(Span first, Span last) {
    if (first.source < 0)
        return last;
    if (last.source != first.source)
        return first;
    return (Span){first.source, first.start < last.start ? first.start : last.start,
                  first.end > last.end ? first.end : last.end};
}

bool span_in_prelude(Span span) {
    return span.source >= 0 && strncmp(source_path(span.source), "prelude/", 8) == 0;
}

void sources_end(void) {
    for (int i = 0; i < sources.count; i++) {
        free(sources.at[i].path);
        free(sources.at[i].text);
        free(sources.at[i].line_starts);
    }
    free(sources.at);
    memset(&sources, 0, sizeof sources);
}
