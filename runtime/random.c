/* Philox4x32-10: random numbers that are a function of what they are keyed by, so that no order of calls changes them.
 */
#include "runtime.h"

void bp_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t left = (uint64_t)c0 * 0xD2511F53U, right = (uint64_t)c2 * 0xCD9E8D57U;
        c0 = (uint32_t)(right >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(left >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)right;
        c3 = (uint32_t)left;
        k0 += 0x9E3779B9U; /* the golden ratio */
        k1 += 0xBB67AE85U; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t bp_random(uint64_t seed, uint32_t stream, uint64_t a, uint32_t b) {
    const uint32_t counter[4] = {(uint32_t)a, (uint32_t)(a >> 32), b, stream};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    bp_philox(counter, key, out);
    return (uint64_t)out[1] << 32 | out[0];
}

/* One of 0 .. bound - 1, each as likely: draws from the last, partial round of the range are made again. */
static uint64_t random_below(uint64_t bound, uint64_t seed, uint32_t stream, uint64_t index) {
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
    for (uint32_t attempt = 0;; attempt++) {
        uint64_t draw = bp_random(seed, stream, index, attempt);
        if (draw < limit)
            return draw % bound;
    }
}

void bp_shuffle(int64_t *order, int64_t count, uint64_t seed, uint32_t stream, uint64_t epoch) {
    uint64_t epoch_seed = bp_random(seed, stream, epoch, 0);
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = (int64_t)random_below((uint64_t)i + 1, epoch_seed, stream, (uint64_t)i);
        int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}
