/* What tiles are cut for: vectors, registers, caches, cores. Kernels are right on any machine whatever stands here; the
   names are those of gcc's and clang's -march. */
#include "kernel.h"

#include <string.h>
#include <unistd.h>

enum { KB = 1024 };

static const Machine known[] = {
    /* name, lanes, registers, L1, L2, cores */
    {"x86-64", 4, 16, 32 * KB, 512 * KB, 2},           {"x86-64-v2", 4, 16, 32 * KB, 512 * KB, 2},
    {"x86-64-v3", 8, 16, 32 * KB, 512 * KB, 2},        {"x86-64-v4", 16, 32, 32 * KB, 1024 * KB, 2},
    {"haswell", 8, 16, 32 * KB, 256 * KB, 2},          {"broadwell", 8, 16, 32 * KB, 256 * KB, 2},
    {"skylake", 8, 16, 32 * KB, 256 * KB, 2},          {"alderlake", 8, 16, 48 * KB, 1280 * KB, 2},
    {"skylake-avx512", 16, 32, 32 * KB, 1024 * KB, 2}, {"cascadelake", 16, 32, 32 * KB, 1024 * KB, 2},
    {"icelake-server", 16, 32, 48 * KB, 1280 * KB, 2}, {"sapphirerapids", 16, 32, 48 * KB, 2048 * KB, 2},
    {"znver1", 8, 16, 32 * KB, 512 * KB, 2},           {"znver2", 8, 16, 32 * KB, 512 * KB, 2},
    {"znver3", 8, 16, 32 * KB, 512 * KB, 2},           {"znver4", 16, 32, 32 * KB, 1024 * KB, 2},
    {"znver5", 16, 32, 48 * KB, 1024 * KB, 2},         {"armv8-a", 4, 32, 64 * KB, 512 * KB, 2},
    {"aarch64", 4, 32, 64 * KB, 512 * KB, 2},          {"generic", 4, 32, 64 * KB, 512 * KB, 2},
};

static const Machine *find(const char *name) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            return &known[i];
    return NULL;
}

static const char *native_name(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return "x86-64-v4";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "x86-64-v3";
    return "x86-64";
#else
    return "aarch64";
#endif
}

static int64_t cache_bytes(int name, int64_t otherwise) {
    long bytes = sysconf(name);
    return bytes > 0 ? bytes : otherwise;
}

static const Machine *native(void) {
    static Machine machine;
    if (machine.name)
        return &machine;
    machine = *find(native_name());
    machine.l1 = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, machine.l1);
    machine.l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, machine.l2);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    machine.cores = cores < 1 ? 1 : cores > 64 ? 64 : (int)cores;
    return &machine;
}

const Machine *machine_named(const char *march) {
    if (!march || strcmp(march, "native") == 0)
        return native();
    const Machine *machine = find(march);
#if defined(__x86_64__)
    return machine ? machine : find("x86-64-v3");
#else
    return machine ? machine : find("aarch64");
#endif
}
