/* Maps from addresses to addresses: open addressing, at most half full. */
#include "base.h"

#include <string.h>

static uint32_t map_place(const PointerMap *map, const void *key) {
    uint32_t i = (uint32_t)((uint64_t)(uintptr_t)key * 0x9E3779B97F4A7C15u >> 32) & (map->size - 1);
    while (map->keys[i] && map->keys[i] != key)
        i = (i + 1) & (map->size - 1);
    return i;
}

void *map_find(const PointerMap *map, const void *key) {
    return map->size ? map->values[map_place(map, key)] : NULL;
}

void map_put(Arena *arena, PointerMap *map, const void *key, void *value) {
    if (2 * (map->count + 1) > map->size) {
        PointerMap larger = {.size = map->size ? 2 * map->size : 64};
        larger.keys = arena_array(arena, const void *, larger.size);
        larger.values = arena_array(arena, void *, larger.size);
        for (uint32_t i = 0; i < map->size; i++)
            if (map->keys[i])
                map_put(arena, &larger, map->keys[i], map->values[i]);
        *map = larger;
    }
    uint32_t i = map_place(map, key);
    map->count += !map->keys[i];
    map->keys[i] = key;
    map->values[i] = value;
}

void map_clear(PointerMap *map) {
    if (map->count == 0)
        return;
    memset(map->keys, 0, sizeof *map->keys * map->size);
    memset(map->values, 0, sizeof *map->values * map->size);
    map->count = 0;
}
