/* A cart with a pole on it, and a network that learns by playing which way to push.

       ./cartpole [SEED [GAMES]]          from seed 0; at most 2,000 games

   A game begins nearly upright and ends when the pole leans by more than 12 degrees, the cart has left its 4.8 metres, or
   after 200 steps of 20 ms. It is solved when the mean of 100 games in a row is 195 steps or more. Ten games are
   played with chances that the network gives, then it learns once from all their steps. */
#include "cartpole.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 200, GAMES = 10, ROWS = GAMES * STEPS, LAST = 100, SOLVED = 195, MOST_GAMES = 2000 };

/* ---- The world: Barto, Sutton & Anderson, Neuronlike adaptive elements that can solve difficult learning control
   problems, 1983, without friction ------------------------------------------------------------------------------- */
struct cart {
    double place, speed, angle, turning; /* metres, metres a second, radians from upright, radians a second */
};

static struct cart push(struct cart cart, int right) {
    const double gravity = 9.8, cart_mass = 1, pole_mass = 0.1, half_pole = 0.5, newtons = 10, seconds = 0.02;
    const double mass = cart_mass + pole_mass, sine = sin(cart.angle), cosine = cos(cart.angle);
    double pull = ((right ? newtons : -newtons) + pole_mass * half_pole * cart.turning * cart.turning * sine) / mass;
    double turn = (gravity * sine - cosine * pull) / (half_pole * (4.0 / 3 - pole_mass * cosine * cosine / mass));
    double move = pull - pole_mass * half_pole * turn * cosine / mass;
    return (struct cart){cart.place + seconds * cart.speed, cart.speed + seconds * move,
                         cart.angle + seconds * cart.turning, cart.turning + seconds * turn};
}

static int fallen(struct cart cart) {
    const double twelve_degrees = 0.20943951023931953;
    return fabs(cart.place) > 2.4 || fabs(cart.angle) > twelve_degrees;
}

static double uniform(uint64_t *random, double low, double high) { /* xorshift64 (Marsaglia, 2003) */
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return low + (high - low) * (double)(*random >> 11) * 0x1p-53;
}

/* ---- Games ------------------------------------------------------------------------------------------------------- */
struct games {
    struct cartpole_input x[ROWS];
    struct cartpole_target y[ROWS];
    int lengths[GAMES], rows;
};

static int play(struct cartpole *network, uint64_t *random, struct games *games, int game) {
    struct cart cart = {uniform(random, -0.05, 0.05), uniform(random, -0.05, 0.05), uniform(random, -0.05, 0.05),
                        uniform(random, -0.05, 0.05)};
    int step = 0;
    while (step < STEPS && !fallen(cart)) {
        struct cartpole_input *x = &games->x[games->rows];
        struct cartpole_output said;
        *x = (struct cartpole_input){{(float)cart.place, (float)cart.speed, (float)cart.angle, (float)cart.turning}};
        if (cartpole_predict(network, x, 1, &said))
            return 0;
        int right = uniform(random, 0, 1) < (double)said.action_probability[CARTPOLE_ACTION_RIGHT];
        games->y[games->rows++].action = right ? CARTPOLE_ACTION_RIGHT : CARTPOLE_ACTION_LEFT;
        cart = push(cart, right);
        step++;
    }
    games->lengths[game] = step;
    return 1;
}

/* What a step is worth: the steps that follow, each counting 1 % less than the one before; less their mean, in units of
   their deviation. */
static void judge(struct games *games) {
    static double worth[ROWS];
    double sum = 0, squares = 0;
    for (int game = 0, row = 0; game < GAMES; row += games->lengths[game++]) {
        double rest = 0;
        for (int step = games->lengths[game] - 1; step >= 0; step--) {
            rest = 1 + 0.99 * rest;
            worth[row + step] = rest;
        }
    }
    for (int row = 0; row < games->rows; row++)
        sum += worth[row];
    for (int row = 0; row < games->rows; row++)
        squares += (worth[row] - sum / games->rows) * (worth[row] - sum / games->rows);
    for (int row = 0; row < games->rows; row++)
        games->y[row].gain = (float)((worth[row] - sum / games->rows) / (sqrt(squares / games->rows) + 1e-8));
}

/* Plays and learns until it is solved; the mean of the last hundred games, or -1 after an error. */
static double learn(struct cartpole *network, uint64_t *random, int most) {
    static struct games games;
    int recent[LAST] = {0}, played = 0;
    double mean = 0;
    printf("games  mean of the last hundred\n");
    while (played < most && mean < SOLVED) {
        games.rows = 0;
        for (int game = 0; game < GAMES; game++) {
            if (!play(network, random, &games, game))
                return -1;
            recent[played++ % LAST] = games.lengths[game];
        }
        judge(&games);
        if (cartpole_train_step(network, games.x, games.y, games.rows, NULL))
            return -1;
        int sum = 0;
        for (int i = 0; i < LAST; i++)
            sum += recent[i];
        mean = (double)sum / LAST;
        if (played % LAST == 0 || (played > LAST && mean >= SOLVED))
            printf("%5d  %24.2f\n", played, mean);
        if (played < LAST)
            mean = 0;
    }
    return mean;
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0, random = 88172645463325252u + seed;
    int most = argc > 2 ? atoi(argv[2]) : MOST_GAMES;
    struct cartpole *network = cartpole_create(seed);
    double mean = network ? learn(network, &random, most) : -1;
    int saved = mean >= 0 && cartpole_save(network, "cartpole.safetensors") == 0;
    if (!saved)
        fprintf(stderr, "%s\n", cartpole_error());
    else
        printf(mean >= SOLVED ? "solved\n" : "not solved\n");
    cartpole_destroy(network);
    return !saved;
}
