/* The one parallel region of a program, and the barrier inside it. Without OpenMP there is one thread; the bits are the
   same, because no result depends on how many threads there are. */
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

void bp_parallel(int32_t threads, bp_task *task, void *argument) {
#ifdef _OPENMP
    if (threads > 1) {
        struct bp_team team;
        memset(&team, 0, sizeof team);
        int cores = omp_get_num_procs();
        omp_set_dynamic(0);
#pragma omp parallel num_threads(threads)
        {
            /* How many came is known only here. Every thread stores the same numbers, so each has them when it meets a
             * barrier. */
            int32_t came = (int32_t)omp_get_num_threads();
            __atomic_store_n(&team.threads, came, __ATOMIC_RELAXED);
            __atomic_store_n(&team.crowded, (int32_t)(came > cores), __ATOMIC_RELAXED);
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
