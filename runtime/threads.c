/* The one parallel region of a program, and the barrier inside it. Without OpenMP there is one thread; the bits are the
   same, because no result depends on how many threads there are. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* syscall */
#endif
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700
#endif
#include "runtime.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(_OPENMP) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* A cache line each: the last thread to arrive writes `generation` while the others spin on it. */
struct bp_team {
    _Alignas(64) int32_t arrived;
    _Alignas(64) uint32_t generation;
    _Alignas(64) int32_t threads;
    int32_t crowded; /* more threads than cores: a spinning one only keeps the others from running */
};

enum { THREADS_SPINS = 2000 };

static inline void threads_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Sense reversing: the generation is the sense, and counts on so that a late spinner never mistakes the next barrier
   for this one. What was written before the barrier is seen after it: arrivals release and acquire through `arrived`,
   and the last one hands on through `generation`. */
void bp_barrier(struct bp_team *team, int32_t thread) {
    (void)thread;
    if (!team)
        return;
    int32_t threads = __atomic_load_n(&team->threads, __ATOMIC_RELAXED);
    uint32_t generation = __atomic_load_n(&team->generation, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    int32_t spins = __atomic_load_n(&team->crowded, __ATOMIC_RELAXED) ? 0 : THREADS_SPINS;
    while (__atomic_load_n(&team->generation, __ATOMIC_ACQUIRE) == generation) {
        if (spins > 0) {
            spins--;
            threads_pause();
        } else {
            sched_yield();
        }
    }
}

/* ---- A core for each thread -------------------------------------------------------------------------------------- */
/* Linux often starts a thread on the core of the one that made it, and takes some milliseconds to move it where nothing
   runs: longer than a small network trains. So each thread claims the core that it finds itself on, and where that is
   taken it goes to a free one of those that it may use. It may leave it again: only the start is chosen here. */
#ifdef _OPENMP
enum { THREADS_CORES = 1024, THREADS_WORD = 64 };

struct threads_cores {
    uint64_t set[THREADS_CORES / THREADS_WORD];
};

#ifdef __linux__
static int threads_claim(struct threads_cores *taken, unsigned core) {
    uint64_t bit = UINT64_C(1) << core % THREADS_WORD;
    return !(__atomic_fetch_or(&taken->set[core / THREADS_WORD], bit, __ATOMIC_RELAXED) & bit);
}

static int threads_may_use(const struct threads_cores *cores, unsigned core) {
    return (int)(cores->set[core / THREADS_WORD] >> core % THREADS_WORD & 1);
}

static void threads_settle(struct threads_cores *taken) {
    unsigned here = 0;
    struct threads_cores allowed, chosen;
    memset(&allowed, 0, sizeof allowed);
    memset(&chosen, 0, sizeof chosen);
    if (syscall(SYS_getcpu, &here, NULL, NULL) != 0 || here >= THREADS_CORES || threads_claim(taken, here) ||
        syscall(SYS_sched_getaffinity, 0, sizeof allowed, &allowed) <= 0)
        return;
    for (unsigned core = 0; core < THREADS_CORES; core++)
        if (threads_may_use(&allowed, core) && threads_claim(taken, core)) {
            threads_claim(&chosen, core);
            if (syscall(SYS_sched_setaffinity, 0, sizeof chosen, &chosen) == 0)
                (void)syscall(SYS_sched_setaffinity, 0, sizeof allowed, &allowed);
            return;
        }
}
#else
static void threads_settle(struct threads_cores *taken) {
    (void)taken;
}
#endif

/* libgomp's first thread waits for the new ones without giving up its core, which one of them may have been put on: up to
   the next tick of the clock, 4 ms. Only where there are more threads than cores it soon sleeps. So the first team has one
   thread too many; that one ends with it. */
static void threads_start(int32_t threads, int cores) {
    static int32_t started;
    if (threads < cores || __atomic_exchange_n(&started, 1, __ATOMIC_RELAXED))
        return;
#pragma omp parallel num_threads(cores + 1)
    threads_pause();
}
#endif

void bp_parallel(int32_t threads, bp_task *task, void *argument) {
#ifdef _OPENMP
    if (threads > 1) {
        struct bp_team team;
        memset(&team, 0, sizeof team);
        int cores = omp_get_num_procs();
        omp_set_dynamic(0);
        struct threads_cores taken;
        memset(&taken, 0, sizeof taken);
        threads_start(threads, cores);
#pragma omp parallel num_threads(threads)
        {
            /* How many came is known only here. Every thread stores the same numbers, so each has them when it meets a
             * barrier. */
            int32_t came = (int32_t)omp_get_num_threads();
            __atomic_store_n(&team.threads, came, __ATOMIC_RELAXED);
            __atomic_store_n(&team.crowded, (int32_t)(came > cores), __ATOMIC_RELAXED);
            threads_settle(&taken);
            bp_barrier(&team, 0); /* whoever waits here yields the core that the next one may be waiting for */
            task(argument, (int32_t)omp_get_thread_num(), came, came > 1 ? &team : NULL);
        }
        return;
    }
#endif
    (void)threads;
    task(argument, 0, 1, NULL);
}

int32_t bp_default_threads(void) {
#ifdef _OPENMP
    const char *wanted = getenv("OMP_NUM_THREADS");
    if (wanted) {
        char *end;
        long count = strtol(wanted, &end, 10); /* the list "4,2" is for nested regions: its first number is ours */
        if (end != wanted && (*end == 0 || *end == ',') && count >= 1 && count <= BP_MAX_THREADS)
            return (int32_t)count;
    }
    int cores = omp_get_num_procs();
    return cores < 1 ? 1 : cores > BP_MAX_THREADS ? BP_MAX_THREADS : (int32_t)cores;
#else
    return 1;
#endif
}
