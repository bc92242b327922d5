/* What this machine can do at most, for tests/bench/run.py: multiply-adds a second, and bytes of memory a second, with one
   thread and with two. Prints one JSON object.
   cc -O3 -march=native -ffp-contract=fast -fopenmp ceiling.c -o ceiling    (contraction makes each s * b + c one fma) */
#define _DEFAULT_SOURCE
#include <omp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

typedef float lanes256 __attribute__((vector_size(32)));
typedef float lanes512 __attribute__((vector_size(64)));

enum {
    CHAINS = 12,     /* sums that do not wait for each other: more than two pipes times their latency */
    ROUNDS = 400000, /* of all chains: some milliseconds */
    REPEATS = 8      /* the best counts: what else runs on the machine only slows it down */
};
static const long MEMORY = 1L << 29;                                         /* bytes, far more than a cache holds */
static volatile float first = 0.1F, factor = 1.0000001F, term = 1e-9F, sink; /* unknown to the compiler */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Chains have names of their own, because an array of them might be kept in memory, and beginnings that the compiler
   cannot know to be the same, else it makes one of them. */
#define DEFINE_CHAINS(NAME, LANES)                                                                                     \
    static void NAME(void) {                                                                                           \
        LANES zero = {0}, b = zero + factor, c = zero + term, s0 = zero + first, s1 = zero + first, s2 = zero + first; \
        LANES s3 = zero + first, s4 = zero + first, s5 = zero + first, s6 = zero + first, s7 = zero + first;           \
        LANES s8 = zero + first, s9 = zero + first, s10 = zero + first, s11 = zero + first;                            \
        for (int round = 0; round < ROUNDS; round++) {                                                                 \
            s0 = s0 * b + c, s1 = s1 * b + c, s2 = s2 * b + c, s3 = s3 * b + c, s4 = s4 * b + c, s5 = s5 * b + c;      \
            s6 = s6 * b + c, s7 = s7 * b + c, s8 = s8 * b + c, s9 = s9 * b + c, s10 = s10 * b + c, s11 = s11 * b + c;  \
        }                                                                                                              \
        sink = (s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11)[0];                                       \
    }
DEFINE_CHAINS(chains256, lanes256)
#ifdef __AVX512F__
DEFINE_CHAINS(chains512, lanes512)
#endif

static double gflops(void (*chains)(void), int lanes, int threads) {
    double best = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = seconds();
#pragma omp parallel num_threads(threads)
        chains();
        double rate = 2.0 * CHAINS * ROUNDS * lanes * threads / (seconds() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    return best;
}

/* Each thread reads its half of the block in four sums, which wait for memory only. */
static void read_all(const lanes512 *block, long count) {
    lanes512 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    for (long i = 0; i + 4 <= count; i += 4) {
        s0 += block[i];
        s1 += block[i + 1];
        s2 += block[i + 2];
        s3 += block[i + 3];
    }
    sink = (s0 + s1 + s2 + s3)[0];
}

/* As an optimizer does it: every number is read, changed and written back to where it was. */
static void update_all(lanes512 *block, long count) {
    lanes512 zero = {0}, b = zero + factor, c = zero + term;
    for (long i = 0; i < count; i++)
        block[i] = block[i] * b + c;
}

static double gigabytes(lanes512 *block, int updates, int threads) {
    double best = 0;
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = seconds();
#pragma omp parallel num_threads(threads)
        {
            long count = MEMORY / (long)sizeof *block / threads;
            lanes512 *part = block + omp_get_thread_num() * count;
            if (updates)
                update_all(part, count);
            else
                read_all(part, count);
        }
        double rate = (double)MEMORY * (updates ? 2 : 1) / (seconds() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    return best;
}

int main(void) {
    lanes512 *block = mmap(NULL, (size_t)MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        fprintf(stderr, "ceiling: no memory\n");
        return 1;
    }
    madvise(block, (size_t)MEMORY, MADV_HUGEPAGE); /* as the programs of bpc ask for it */
    gigabytes(block, 1, 2);                        /* the pages come with the first touch */
    printf("{");
    for (int threads = 1; threads <= 2; threads++) {
        printf("\"fma256_%d\": %.4g, ", threads, gflops(chains256, 8, threads));
#ifdef __AVX512F__
        printf("\"fma512_%d\": %.4g, ", threads, gflops(chains512, 16, threads));
#endif
        printf("\"read_%d\": %.4g, ", threads, gigabytes(block, 0, threads));
        printf("\"update_%d\": %.4g%s", threads, gigabytes(block, 1, threads), threads < 2 ? ", " : "}\n");
    }
    return 0;
}
