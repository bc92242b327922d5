/* The rows of a large file by several threads: its text is cut where lines end, each thread reads the rows of one piece to where
   they belong in the table, and what a piece has too few (blank lines, rows that are dropped) is closed up behind. The table
   and the messages are those of one thread. */
#include "reader.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_PIECE = 128 << 10 }; /* bytes: less is not worth a thread */

struct rows_piece {
    struct bp_csv csv;
    struct bp_reader reader;
    struct bp_error error;
    int64_t lines, first; /* that start in it; row of its first */
    int done;
};

struct rows_pieces {
    struct rows_piece *at;
    int32_t count;
    int parse; /* else lines are counted */
};

/* Where the line ends that `at` lies in: behind LF, CRLF, or CR alone. */
static size_t rows_line_end(const struct bp_csv *csv, size_t at) {
    while (at < csv->length && csv->text[at] != '\n' && csv->text[at] != '\r')
        at++;
    if (at + 1 < csv->length && csv->text[at] == '\r' && csv->text[at + 1] == '\n')
        at++;
    return at < csv->length ? at + 1 : at;
}

int64_t bp_reader_lines(const struct bp_csv *csv) {
    int64_t lines = 0;
    const char *at = csv->text + csv->next, *end = csv->text + csv->length;
    if (memchr(at, '\r', (size_t)(end - at)) != NULL) {
        for (size_t next = csv->next; next < csv->length; lines++)
            next = rows_line_end(csv, next);
        return lines;
    }
    for (; at < end; lines++) {
        const char *found = memchr(at, '\n', (size_t)(end - at));
        at = found != NULL ? found + 1 : end;
    }
    return lines;
}

static void rows_task(void *argument, int32_t thread, int32_t threads, struct bp_team *team) {
    const struct rows_pieces *pieces = argument;
    (void)team;
    for (int32_t i = thread; i < pieces->count; i += threads) {
        struct rows_piece *piece = &pieces->at[i];
        if (pieces->parse)
            piece->done = bp_reader_rows(&piece->reader, &piece->csv);
        else
            piece->lines = bp_reader_lines(&piece->csv);
    }
}

static int rows_cut(struct rows_pieces *pieces, const struct bp_csv *csv, struct bp_error *error) {
    pieces->at = bp_allocate(sizeof *pieces->at * (size_t)pieces->count, "pieces of a file", error);
    if (pieces->at == NULL)
        return 0;
    size_t next = csv->next, share = (csv->length - next) / (size_t)pieces->count;
    for (int32_t i = 0; i < pieces->count; i++) {
        struct bp_csv *piece = &pieces->at[i].csv;
        *piece = *csv;
        piece->fields = NULL;
        piece->field_count = piece->field_capacity = 0;
        piece->next = next;
        size_t wanted = csv->next + share * ((size_t)i + 1);
        next = i + 1 < pieces->count ? rows_line_end(csv, wanted > next ? wanted : next) : csv->length;
        piece->length = next;
    }
    return 1;
}

/* Each piece reads with a reader of its own, into arrays that all share. */
static int rows_start(struct rows_pieces *pieces, struct bp_reader *reader, const struct bp_csv *csv) {
    int64_t lines = 0;
    for (int32_t i = 0; i < pieces->count; i++)
        lines += pieces->at[i].lines;
    if (!bp_reader_reserve(reader, reader->raw.rows + lines))
        return 0;
    lines = 0;
    for (int32_t i = 0; i < pieces->count; i++) {
        struct rows_piece *piece = &pieces->at[i];
        piece->csv.next_line = csv->next_line + lines;
        piece->first = reader->raw.rows + lines;
        piece->reader = *reader;
        piece->reader.error = &piece->error;
        piece->reader.dropped = 0;
        piece->reader.raw.rows = piece->reader.first_staged = piece->first;
        piece->reader.staged = bp_reader_stage(reader);
        if (piece->reader.staged == NULL)
            return 0;
        lines += piece->lines;
    }
    return 1;
}

static void rows_move(struct bp_raw *raw, int64_t to, int64_t from, int64_t count) {
    if (to == from)
        return;
    size_t rows = (size_t)count;
    memmove(raw->places + to, raw->places + from, rows * sizeof *raw->places);
    memmove(raw->parts + to, raw->parts + from, rows * sizeof *raw->parts);
    for (int32_t i = 0; i < raw->data->column_count; i++) {
        if (raw->values[i] == NULL)
            continue;
        memmove(raw->values[i] + to, raw->values[i] + from, rows * sizeof *raw->values[i]);
        memmove(raw->missing[i] + to, raw->missing[i] + from, rows * sizeof *raw->missing[i]);
    }
}

/* The first piece that failed tells why: those before it are whole. */
static int rows_join(const struct rows_pieces *pieces, struct bp_reader *reader) {
    for (int32_t i = 0; i < pieces->count; i++) {
        const struct rows_piece *piece = &pieces->at[i];
        if (!piece->done)
            return bp_fail(reader->error, "%s", piece->error.text);
        int64_t rows = piece->reader.raw.rows - piece->first;
        rows_move(&reader->raw, reader->raw.rows, piece->first, rows);
        reader->raw.rows += rows;
        reader->dropped += piece->reader.dropped;
    }
    reader->first_staged = reader->raw.rows;
    return 1;
}

static void rows_end(struct rows_pieces *pieces) {
    for (int32_t i = 0; pieces->at != NULL && i < pieces->count; i++) {
        free(pieces->at[i].csv.fields);
        free(pieces->at[i].reader.staged);
    }
    free(pieces->at);
}

/* Within quotes a line may go on, and words are numbered in the order in which they come: either is for one thread. */
static int32_t rows_threads(const struct bp_reader *reader, const struct bp_csv *csv) {
    size_t bytes = csv->length - csv->next, most = bytes / ROWS_PIECE;
    if (reader->options->threads <= 1 || most <= 1 || memchr(csv->text + csv->next, '"', bytes) != NULL)
        return 1;
    for (int32_t i = 0; i < reader->data->column_count; i++)
        if (reader->data->columns[i].kind == BP_WORDS)
            return 1;
    return (size_t)reader->options->threads < most ? reader->options->threads : (int32_t)most;
}

int bp_reader_rows_in_pieces(struct bp_reader *reader, struct bp_csv *csv) {
    struct rows_pieces pieces = {NULL, rows_threads(reader, csv), 0};
    if (pieces.count == 1)
        return bp_reader_rows(reader, csv);
    bp_reader_unstage(reader);
    int done = rows_cut(&pieces, csv, reader->error);
    if (done) {
        bp_parallel(pieces.count, rows_task, &pieces);
        done = rows_start(&pieces, reader, csv);
    }
    if (done) {
        pieces.parse = 1;
        bp_parallel(pieces.count, rows_task, &pieces);
        done = rows_join(&pieces, reader);
    }
    rows_end(&pieces);
    return done;
}
