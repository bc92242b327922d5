/* Runs single functions of a compiled program in a block of its own, far larger than this machine's memory: pages that nothing
   touches cost none. Of many threads it runs the first and the last, so that little is touched; everything that the others
   would read is zero. The commands are on stdin, one a line:

     f OFFSET VALUE      a float in the block
     d OFFSET VALUE      a double
     run NAME ROWS       step, predict or init
     print OFFSET        the float there
     peak                kilobytes of memory that were used */
#define _GNU_SOURCE
#include "runtime/program.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

bp_code Net_step, Net_predict, Net_init;

static pthread_barrier_t barrier;
static struct bp_context context;
static bp_code *code;

void bp_barrier(struct bp_team *team, int32_t thread) {
    (void)team, (void)thread;
    pthread_barrier_wait(&barrier);
}

static void *call(void *thread) {
    code(&context, *(int32_t *)thread, THREADS);
    return NULL;
}

static void run(const char *name, int64_t rows) {
    int32_t numbers[2] = {0, THREADS - 1};
    pthread_t last;
    code = !strcmp(name, "step") ? Net_step : !strcmp(name, "predict") ? Net_predict : Net_init;
    context.rows = rows;
    if (pthread_create(&last, NULL, call, &numbers[1]) != 0)
        exit(1);
    call(&numbers[0]);
    pthread_join(last, NULL);
}

int main(void) {
    size_t bytes = BLOCK + (size_t)THREADS * SCRATCH;
    char word[16], name[16];
    unsigned long long at;
    double value;
    context.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (context.memory == MAP_FAILED)
        return 3;
    madvise(context.memory, bytes, MADV_NOHUGEPAGE);
    pthread_barrier_init(&barrier, NULL, 2);
    while (scanf("%15s", word) == 1) {
        if (!strcmp(word, "f") && scanf("%llu %lf", &at, &value) == 2)
            *(float *)(void *)(context.memory + at) = (float)value;
        else if (!strcmp(word, "d") && scanf("%llu %lf", &at, &value) == 2)
            *(double *)(void *)(context.memory + at) = value;
        else if (!strcmp(word, "run") && scanf("%15s %llu", name, &at) == 2)
            run(name, (int64_t)at);
        else if (!strcmp(word, "print") && scanf("%llu", &at) == 1)
            printf("%.9g\n", (double)*(float *)(void *)(context.memory + at));
        else if (!strcmp(word, "peak")) {
            struct rusage usage;
            getrusage(RUSAGE_SELF, &usage);
            printf("%ld\n", usage.ru_maxrss);
        } else
            return 2;
    }
    return 0;
}
