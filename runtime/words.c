/* Texts as bags of words: read into the numbers of their words, then into places in a vocabulary that is fitted on the
   training rows. A word is a run of letters, digits, underscores and bytes beyond ASCII, with apostrophes within. */
#include "reader.h"

#include <stdlib.h>
#include <string.h>

struct bp_words {
    char *text; /* the distinct words, each ended by a NUL */
    int64_t text_length, text_capacity;
    int64_t *at; /* [word_count] where each begins */
    int32_t word_count, word_capacity;
    int32_t *table; /* open addressing: 1 + word, 0: free */
    uint32_t mask;
    int64_t *starts; /* [rows + 1] */
    int64_t row_capacity;
    int32_t *words; /* of row r: starts[r] .. starts[r + 1] */
    int64_t count, capacity;
};

int bp_data_has_words(const struct bp_data *data) {
    for (int32_t i = 0; i < data->column_count; i++)
        if (data->columns[i].kind == BP_WORDS)
            return 1;
    return 0;
}

/* ---- Words and their numbers ------------------------------------------------------------------------------------- */
static uint32_t words_hash(const char *at, size_t length) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)at[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(hash ^ hash >> 32);
}

static int words_no_memory(struct bp_error *error) {
    return bp_fail(error, "out of memory: the words of a text");
}

/* Room for `wanted` items of `size` bytes. */
static int words_room(void **memory, int64_t *capacity, int64_t wanted, size_t size, struct bp_error *error) {
    if (wanted <= *capacity)
        return 1;
    int64_t more = *capacity + *capacity / 2 > wanted ? *capacity + *capacity / 2 : wanted + 64;
    void *grown = realloc(*memory, (size_t)more * size);
    if (grown == NULL)
        return words_no_memory(error);
    *memory = grown;
    *capacity = more;
    return 1;
}

/* A table at most half full. */
static int words_rehash(struct bp_words *words, struct bp_error *error) {
    uint32_t size = words->mask == 0 ? 1024 : (words->mask + 1) * 2;
    int32_t *table = calloc(size, sizeof *table);
    if (table == NULL)
        return words_no_memory(error);
    for (int32_t i = 0; i < words->word_count; i++) {
        const char *word = words->text + words->at[i];
        uint32_t slot = words_hash(word, strlen(word)) & (size - 1);
        while (table[slot] != 0)
            slot = (slot + 1) & (size - 1);
        table[slot] = i + 1;
    }
    free(words->table);
    words->table = table;
    words->mask = size - 1;
    return 1;
}

static uint32_t words_slot(const struct bp_words *words, const char *at, size_t length) {
    uint32_t slot = words_hash(at, length) & words->mask;
    for (; words->table[slot] != 0; slot = (slot + 1) & words->mask) {
        const char *known = words->text + words->at[words->table[slot] - 1];
        if (strncmp(known, at, length) == 0 && known[length] == '\0')
            break;
    }
    return slot;
}

/* Its number, a new one where it was not met before; -1 after an error. */
static int32_t words_number(struct bp_words *words, const char *at, size_t length, struct bp_error *error) {
    if ((uint32_t)words->word_count * 2 >= words->mask && !words_rehash(words, error))
        return -1;
    uint32_t slot = words_slot(words, at, length);
    if (words->table[slot] != 0)
        return words->table[slot] - 1;
    void *text = words->text, *places = words->at;
    int64_t capacity = words->word_capacity;
    int done = words->word_count < INT32_MAX / 4 &&
               words_room(&text, &words->text_capacity, words->text_length + (int64_t)length + 1, 1, error);
    words->text = text;
    done = done && words_room(&places, &capacity, words->word_count + 1, sizeof *words->at, error);
    words->at = places;
    words->word_capacity = (int32_t)capacity;
    if (!done)
        return -1;
    words->at[words->word_count] = words->text_length;
    memcpy(words->text + words->text_length, at, length);
    words->text[words->text_length + (int64_t)length] = '\0';
    words->text_length += (int64_t)length + 1;
    words->table[slot] = ++words->word_count;
    return words->word_count - 1;
}

/* ---- A field ----------------------------------------------------------------------------------------------------- */
static int words_is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80);
}

static size_t words_end(const struct bp_field *field, size_t from) {
    size_t end = from, length = (size_t)field->length;
    while (end < length &&
           (words_is_letter(field->at[end]) ||
            (field->at[end] == '\'' && end > from && end + 1 < length && words_is_letter(field->at[end + 1]))))
        end++;
    return end;
}

int bp_words_read(struct bp_reader *reader, int32_t column, const struct bp_field *field) {
    const int64_t row = reader->raw.rows;
    struct bp_words *words = reader->raw.words[column];
    if (words == NULL)
        words = reader->raw.words[column] = bp_allocate(sizeof *words, "the words of a text", reader->error);
    if (words == NULL)
        return 0;
    void *starts = words->starts;
    int done = words_room(&starts, &words->row_capacity, row + 2, sizeof *words->starts, reader->error);
    words->starts = starts;
    if (!done)
        return 0;
    if (row == 0)
        words->starts[0] = 0;
    words->count = words->starts[row]; /* whatever a row that was dropped left there */
    char *bytes = (char *)(uintptr_t)field->at;
    for (size_t i = 0; reader->data->columns[column].lowercase && i < (size_t)field->length; i++)
        if (bytes[i] >= 'A' && bytes[i] <= 'Z')
            bytes[i] = (char)(bytes[i] - 'A' + 'a');
    for (size_t at = 0; at < (size_t)field->length;) {
        if (!words_is_letter(field->at[at])) {
            at++;
            continue;
        }
        size_t end = words_end(field, at);
        int32_t number = words_number(words, field->at + at, end - at, reader->error);
        void *list = words->words;
        done =
            number >= 0 && words_room(&list, &words->capacity, words->count + 1, sizeof *words->words, reader->error);
        words->words = list;
        if (!done)
            return 0;
        words->words[words->count++] = number;
        at = end;
    }
    words->starts[row + 1] = words->count;
    return 1;
}

void bp_words_free(struct bp_words *words) {
    if (words == NULL)
        return;
    free(words->text);
    free(words->at);
    free(words->table);
    free(words->starts);
    free(words->words);
    free(words);
}

/* ---- The vocabulary ---------------------------------------------------------------------------------------------- */
struct words_count {
    const char *word;
    int64_t times;
    int32_t number;
};

static int words_by_times(const void *left, const void *right) {
    const struct words_count *a = left, *b = right;
    if (a->times != b->times)
        return a->times > b->times ? -1 : 1;
    return strcmp(a->word, b->word);
}

/* places[word]: its place, or -1. The most frequent words of the training rows, the first by bytes where they are
   equally frequent; json: the list. */
static int words_fit(const struct bp_words *words, int32_t most, const struct bp_table *table, int32_t *places,
                     struct bp_text *json, struct bp_error *error) {
    struct words_count *counts = bp_allocate(((size_t)words->word_count + 1) * sizeof *counts, "a vocabulary", error);
    if (counts == NULL)
        return 0;
    for (int32_t i = 0; i < words->word_count; i++)
        counts[i] = (struct words_count){words->text + words->at[i], 0, i};
    for (int64_t i = 0; i < table->part_rows[BP_TRAIN]; i++) {
        int64_t row = table->parts[BP_TRAIN][i];
        for (int64_t at = words->starts[row]; at < words->starts[row + 1]; at++)
            counts[words->words[at]].times++;
    }
    qsort(counts, (size_t)words->word_count, sizeof *counts, words_by_times);
    bp_text_add(json, "[", 1);
    for (int32_t i = 0; i < words->word_count; i++) {
        int kept = i < most && counts[i].times > 0;
        places[counts[i].number] = kept ? i : -1;
        if (!kept)
            continue;
        bp_text_add(json, ",", i > 0 ? 1 : 0);
        bp_text_json(json, counts[i].word);
    }
    bp_text_add(json, "]", 1);
    free(counts);
    return !json->failed || words_no_memory(error);
}

static int words_given(const struct bp_words *words, const struct bp_column *column, const struct bp_json *given,
                       int32_t *places, struct bp_text *json, struct bp_error *error) {
    const struct bp_json *list = bp_json_get(given, column->name);
    if (list == NULL || list->kind != BP_JSON_ARRAY || list->count > column->width)
        return bp_fail(error, "the checkpoint holds no vocabulary of at most %d words for column '%s'", column->width,
                       column->name);
    for (int32_t i = 0; i < words->word_count; i++)
        places[i] = -1;
    bp_text_add(json, "[", 1);
    for (int32_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != BP_JSON_STRING)
            return bp_fail(error, "the checkpoint's vocabulary for column '%s' holds what is no word", column->name);
        const char *word = list->items[i].string;
        uint32_t slot = words->table != NULL ? words_slot(words, word, strlen(word)) : 0;
        if (words->table != NULL && words->table[slot] != 0)
            places[words->table[slot] - 1] = i;
        bp_text_add(json, ",", i > 0 ? 1 : 0);
        bp_text_json(json, word);
    }
    bp_text_add(json, "]", 1);
    return !json->failed || words_no_memory(error);
}

/* ---- Slots ------------------------------------------------------------------------------------------------------- */
static int words_ascending(const void *left, const void *right) {
    int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
    return a < b ? -1 : a > b;
}

struct words_packed {
    int64_t *starts;
    int32_t *places;
    float *counts;
};

/* One row's places in order, each once, and how often it was there; returns how many. */
static int64_t words_pack_row(const struct bp_words *words, int64_t row, const int32_t *place_of, int counted,
                              const struct words_packed *to, int64_t at) {
    int64_t first = at, end = at;
    for (int64_t i = words->starts[row]; i < words->starts[row + 1]; i++)
        if (place_of[words->words[i]] >= 0)
            to->places[end++] = place_of[words->words[i]];
    qsort(to->places + first, (size_t)(end - first), sizeof *to->places, words_ascending);
    for (int64_t i = first; i < end; i++) {
        if (i > first && to->places[i] == to->places[at - 1]) {
            to->counts[at - 1] += counted ? 1 : 0;
            continue;
        }
        to->places[at] = to->places[i];
        to->counts[at++] = 1;
    }
    return at - first;
}

static int words_pack(const struct bp_raw *raw, const struct bp_column *column, const struct bp_words *words,
                      const int32_t *place_of, const struct words_packed *to, struct bp_error *error) {
    int64_t at = 0;
    for (int64_t row = 0; row < raw->rows; row++) {
        int64_t count = words_pack_row(words, row, place_of, column->counts, to, at);
        if (count > column->distinct) {
            char place[512];
            bp_raw_place(raw, row, place, sizeof place);
            return bp_fail(
                error,
                "%s: column '%s' has %lld different words of the vocabulary, and there is room for %d: write "
                "text(…, distinct = %lld)",
                place, column->name, (long long)count, (int)column->distinct, (long long)count);
        }
        at += count;
        to->starts[row + 1] = at;
    }
    return 1;
}

static int words_fill(const struct bp_raw *raw, int32_t slot, struct bp_table *table, const int32_t *place_of,
                      struct bp_error *error) {
    const struct bp_column *column = &raw->data->columns[raw->data->slots[slot].columns[0]];
    const struct bp_words *words = raw->words[raw->data->slots[slot].columns[0]];
    struct words_packed to;
    table->starts[slot] = to.starts = bp_allocate(((size_t)raw->rows + 1) * sizeof *to.starts, column->name, error);
    table->slots[slot] = to.places = bp_allocate(((size_t)words->count + 1) * sizeof *to.places, column->name, error);
    table->slots[slot + 1] = to.counts =
        bp_allocate(((size_t)words->count + 1) * sizeof *to.counts, column->name, error);
    table->starts[slot + 1] = bp_allocate(((size_t)raw->rows + 1) * sizeof *to.starts, column->name, error);
    if (to.starts == NULL || to.places == NULL || to.counts == NULL || table->starts[slot + 1] == NULL)
        return 0;
    if (!words_pack(raw, column, words, place_of, &to, error))
        return 0;
    memcpy(table->starts[slot + 1], to.starts, ((size_t)raw->rows + 1) * sizeof *to.starts);
    return 1;
}

static int words_column(const struct bp_raw *raw, int32_t slot, const struct bp_json *given, struct bp_table *table,
                        struct bp_text *json, struct bp_error *error) {
    const struct bp_column *column = &raw->data->columns[raw->data->slots[slot].columns[0]];
    const struct bp_words *words = raw->words[raw->data->slots[slot].columns[0]];
    int32_t *places = bp_allocate(((size_t)words->word_count + 1) * sizeof *places, "a vocabulary", error);
    bp_text_add(json, ",", json->length > 1 ? 1 : 0);
    bp_text_json(json, column->name);
    bp_text_add(json, ":", 1);
    int done = places != NULL && (given ? words_given(words, column, given, places, json, error)
                                        : words_fit(words, column->width, table, places, json, error));
    done = done && words_fill(raw, slot, table, places, error);
    free(places);
    return done;
}

int bp_words_fit(const struct bp_raw *raw, const char *given, struct bp_table *table, struct bp_error *error) {
    struct bp_text json = {0};
    struct bp_json parsed;
    memset(&parsed, 0, sizeof parsed);
    table->starts = bp_allocate(((size_t)raw->data->slot_count + 1) * sizeof *table->starts, "the table", error);
    int done = table->starts != NULL && (given == NULL || bp_json_parse(&parsed, given, strlen(given), error));
    bp_text_add(&json, "{", 1);
    for (int32_t i = 0; done && i < raw->data->slot_count; i++)
        if (raw->data->slots[i].form == BP_SLOT_WORDS)
            done = words_column(raw, i, given ? &parsed : NULL, table, &json, error);
    bp_text_add(&json, "}", 1);
    bp_json_free(&parsed);
    if (done && json.failed)
        done = words_no_memory(error);
    table->vocabulary = done ? json.at : NULL;
    if (!done)
        bp_text_free(&json);
    return done;
}
