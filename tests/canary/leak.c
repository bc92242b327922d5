/* A test that passes and leaks: a sanitized build must notice (tests/groups/unit.py). */
#include <criterion/criterion.h>
#include <stdlib.h>

static void *volatile kept;

Test(canary, leaks) {
    kept = malloc(1234);
    kept = NULL;
    cr_assert(1);
}
