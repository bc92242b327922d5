/* `reduce_on_plateau`: a learning rate that falls when a measured value gets no better. As PyTorch's ReduceLROnPlateau
   counts, with its relative threshold and its eps of 1e-8: operation by operation, so that the rates are the same doubles. */
#include "runtime.h"

#include <math.h>
#include <string.h>

void bp_plateau_start(const struct bp_plateau *plateau, struct bp_plateau_state *state) {
    memset(state, 0, sizeof *state);
    state->rate = plateau->start;
    state->best = plateau->better > 0 ? -(double)INFINITY : (double)INFINITY;
}

void bp_plateau_step(const struct bp_plateau *plateau, struct bp_plateau_state *state, double value) {
    int better = plateau->better > 0 ? value > state->best * (plateau->threshold + 1)
                                     : value < state->best * (1 - plateau->threshold);
    if (better) {
        state->best = value;
        state->bad = 0;
    } else {
        state->bad++;
    }
    if (state->cooling > 0) {
        state->cooling--;
        state->bad = 0;
    }
    if (state->bad <= plateau->patience)
        return;
    double next = state->rate * plateau->factor;
    next = next > plateau->least ? next : plateau->least;
    if (state->rate - next > 1e-8)
        state->rate = next;
    state->cooling = plateau->cooldown;
    state->bad = 0;
}
