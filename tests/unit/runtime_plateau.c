/* runtime/plateau.c: PyTorch's rates, to the last bit. */
#include "../../runtime/runtime.h"

#include <criterion/criterion.h>
#include <math.h>

#include "plateau_cases.h"

Test(plateau, rates_fall_as_pytorchs) {
    for (size_t i = 0; i < sizeof plateau_cases / sizeof *plateau_cases; i++) {
        const struct plateau_case *at = &plateau_cases[i];
        struct bp_plateau_state state;
        bp_plateau_start(&at->plateau, &state);
        cr_expect_eq(state.rate, at->plateau.start);
        for (int epoch = 0; epoch < PLATEAU_EPOCHS; epoch++) {
            bp_plateau_step(&at->plateau, &state, at->values[epoch]);
            cr_expect_eq(state.rate, at->rates[epoch], "case %d, epoch %d: %.17g, not %.17g", (int)i, epoch + 1,
                         state.rate, at->rates[epoch]);
        }
    }
}
