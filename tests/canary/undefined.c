/* A test that passes and overflows: a sanitized build must notice (tests/groups/unit.py). */
#include <criterion/criterion.h>
#include <limits.h>

static volatile int most = INT_MAX;

Test(canary, overflows) {
    int more = most + 1;
    cr_assert(more == more);
}
