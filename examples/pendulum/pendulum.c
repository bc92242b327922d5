/* Pendulums that are predicted by networks which learn while they swing, each in a thread of its own.

       ./pendulum [PENDULUMS [SECONDS]]          4 of them for 6 seconds of their time

   Every 20 ms a torque is chosen and the network says where its pendulum will be after the next 20. What happened then
   joins its memory, and a few updates are made with what the memory holds. The first second is only watched: from it
   the network learns the units. After each second the network is asked about 500 states on another pendulum's way, from
   which it never learns. */
#include "pendulum.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEPS_A_SECOND = 50,
    UPDATES_A_STEP = 16,
    BATCH = 32,
    MOST_ROWS = 2000,
    PROBES = 500,
    MOST_SECONDS = 100,
    MOST = 64
};

/* ---- The world ------------------------------------------------------------------------------------------------------
 */
struct state {
    double angle, velocity; /* radians from hanging, radians a second */
};

/* angle'' = -(g / length) sin(angle) - friction velocity + torque, in steps of a tenth of a millisecond */
static struct state swing(struct state state, double torque, double length) {
    const double gravity = 9.81, friction = 0.2, step = 1e-4;
    for (int i = 0; i < 200; i++) {
        double pull = -gravity / length * sin(state.angle) - friction * state.velocity + torque;
        state.velocity += step * pull;
        state.angle += step * state.velocity;
    }
    return state;
}

static uint64_t draw(uint64_t *random) { /* xorshift64 (Marsaglia, 2003) */
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static double uniform(uint64_t *random, double low, double high) {
    return low + (high - low) * (double)(draw(random) >> 11) * 0x1p-53;
}

/* ---- What is seen of it
 * ------------------------------------------------------------------------------------------------ */
static struct pendulum_input input_of(struct state state, double torque) {
    return (struct pendulum_input){.sine = (float)sin(state.angle),
                                   .cosine = (float)cos(state.angle),
                                   .velocity = (float)state.velocity,
                                   .torque = (float)torque};
}

static struct pendulum_target target_of(struct state before, struct state after) {
    return (struct pendulum_target){.turned = (float)(after.angle - before.angle),
                                    .gained = (float)(after.velocity - before.velocity)};
}

/* ---- One pendulum and its network
 * ---------------------------------------------------------------------------------------- */
struct run {
    int number, seconds;
    double length;
    uint64_t random;
    struct pendulum *network;
    struct pendulum_input x[MOST_ROWS], probes[PROBES];
    struct pendulum_target y[MOST_ROWS], truths[PROBES];
    int rows;
    double errors[MOST_SECONDS]; /* after each second: degrees, root mean square */
    char failure[512];           /* "" none */
};

static int failed(struct run *run) {
    snprintf(run->failure, sizeof run->failure, "%s", pendulum_error());
    return 0;
}

/* The way of another pendulum of the same length. */
static void choose_probes(struct run *run) {
    struct state state = {-0.5, 0};
    for (int i = 0; i < PROBES; i++) {
        double torque = uniform(&run->random, -6, 6);
        struct state next = swing(state, torque, run->length);
        run->probes[i] = input_of(state, torque);
        run->truths[i] = target_of(state, next);
        state = next;
    }
}

static int measure(struct run *run, double *degrees) {
    static const double of_a_radian = 57.29577951308232;
    struct pendulum_output said[PROBES];
    double sum = 0;
    if (pendulum_predict(run->network, run->probes, PROBES, said))
        return failed(run);
    for (int i = 0; i < PROBES; i++) {
        double wrong = (double)said[i].turned - (double)run->truths[i].turned;
        sum += wrong * wrong;
    }
    *degrees = sqrt(sum / PROBES) * of_a_radian;
    return 1;
}

static int learn(struct run *run) {
    struct pendulum_input x[BATCH];
    struct pendulum_target y[BATCH];
    for (int update = 0; update < UPDATES_A_STEP; update++) {
        for (int i = 0; i < BATCH; i++) {
            uint64_t row = draw(&run->random) % (uint64_t)run->rows;
            x[i] = run->x[row];
            y[i] = run->y[row];
        }
        if (pendulum_train_step(run->network, x, y, BATCH, NULL))
            return failed(run);
    }
    return 1;
}

static int live(struct run *run) {
    struct state state = {0.5, 0};
    for (int second = 0; second < run->seconds; second++) {
        for (int step = 0; step < STEPS_A_SECOND; step++) {
            double torque = uniform(&run->random, -6, 6);
            struct state next = swing(state, torque, run->length);
            int row = run->rows < MOST_ROWS ? run->rows++ : (int)(draw(&run->random) % MOST_ROWS);
            run->x[row] = input_of(state, torque);
            run->y[row] = target_of(state, next);
            state = next;
            if (second > 0 && !learn(run))
                return 0;
        }
        if (second == 0 && pendulum_fit(run->network, run->x, run->y, run->rows))
            return failed(run);
        if (!measure(run, &run->errors[second]))
            return 0;
    }
    return 1;
}

/* What is saved is what another network loads. */
static int save_and_load(struct run *run) {
    char path[64];
    struct pendulum_output here, there;
    snprintf(path, sizeof path, "pendulum-%d.safetensors", run->number);
    struct pendulum *other = pendulum_create(99);
    int done = other && !pendulum_save(run->network, path) && !pendulum_load(other, path) &&
               !pendulum_predict(run->network, run->probes, 1, &here) &&
               !pendulum_predict(other, run->probes, 1, &there);
    if (!done)
        failed(run);
    else if (memcmp(&here, &there, sizeof here) != 0)
        snprintf(run->failure, sizeof run->failure, "the network that was loaded predicts otherwise");
    pendulum_destroy(other);
    return done;
}

static void *start(void *argument) {
    struct run *run = argument;
    run->network = pendulum_create((uint64_t)run->number);
    if (!run->network)
        failed(run);
    else if (pendulum_plan(run->network, (run->seconds - 1) * STEPS_A_SECOND * UPDATES_A_STEP,
                           STEPS_A_SECOND * UPDATES_A_STEP))
        failed(run);
    else if (live(run))
        save_and_load(run);
    pendulum_destroy(run->network);
    return NULL;
}

int main(int argc, char **argv) {
    static struct run runs[MOST];
    pthread_t threads[MOST];
    int count = argc > 1 ? atoi(argv[1]) : 4, seconds = argc > 2 ? atoi(argv[2]) : 6, code = 0;
    if (count < 1 || count > MOST || seconds < 2 || seconds > MOST_SECONDS) {
        fprintf(stderr, "usage: pendulum [PENDULUMS [SECONDS]]: 1 to %d of them, 2 to %d seconds\n", MOST,
                MOST_SECONDS);
        return 2;
    }
    for (int i = 0; i < count; i++) {
        runs[i] = (struct run){.number = i, .seconds = seconds, .length = 1 + 0.25 * (i % 4)};
        runs[i].random = 88172645463325252u + (uint64_t)i;
        choose_probes(&runs[i]);
        if (pthread_create(&threads[i], NULL, start, &runs[i]) != 0) {
            fprintf(stderr, "no thread can be had\n");
            return 1;
        }
    }
    printf("wrong by, in degrees, of the next 20 ms:\nsecond");
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        printf("  pendulum %d", i);
    }
    for (int second = 0; second < seconds; second++) {
        printf("\n%6d", second + 1);
        for (int i = 0; i < count; i++)
            printf("  %10.4f", runs[i].errors[second]);
    }
    printf("\n");
    for (int i = 0; i < count; i++)
        if (*runs[i].failure) {
            fprintf(stderr, "pendulum %d: %s\n", i, runs[i].failure);
            code = 1;
        }
    return code;
}
