"""Examples reach the results that their pages state: those of papers, of closed forms, or better than what is known without.
What a network gives is computed here once more, in Python, from the checkpoint alone."""
import functools
import itertools
import math
import random
import statistics

from commands import ROOT, copied, expect
from groups.train import of_kind, train
from reference import safetensors

EXAMPLES = ROOT / "examples"


def trained(build, place, source, *options):
    """On one thread, since threads that wait for each other are slow where tests share the cores."""
    return train(build, place, source, "--threads", 1, *options)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def layer(tensors, name, x, activation=lambda value: value):
    (width, fan_in), weight = tensors[f"{name}.weight"]
    bias = tensors[f"{name}.bias"][1]
    expect(len(x) == fan_in, f"{name} takes {fan_in} numbers, not {len(x)}")
    return [activation(sum(weight[i * fan_in + j] * x[j] for j in range(fan_in)) + bias[i]) for i in range(width)]


# ---- The literature -------------------------------------------------------------------------------------------------


def symmetry_is_seen(build):
    """After the paper's 1,425 sweeps all 64 patterns are right, and the weights are those of its figure: on either side of
    the middle equal with opposite signs, on one side as 1 to 2 to 4, in both units."""
    with copied(EXAMPLES / "rumelhart") as place:
        events = trained(build, place, "symmetry.bp")
        expect(len(of_kind(events, "epoch")) == 1425 and of_kind(events, "evaluate")[0]["right"] == 1, "not every pattern is right")
        tensors, _ = safetensors.read(place / "symmetry.safetensors")
        for bits in itertools.product((0, 1), repeat=6):
            (output,) = layer(tensors, "output", layer(tensors, "hidden", bits, sigmoid), sigmoid)
            expect((output > 0.5) == (bits == bits[::-1]), f"{bits} gives {output:.3f}")
        for unit in (0, 1):
            weights = tensors["hidden.weight"][1][6 * unit : 6 * unit + 6]
            greatest = max(map(abs, weights))
            expect(all(abs(weights[i] + weights[5 - i]) < 0.03 * greatest for i in range(3)), f"unit {unit} is not antisymmetric: {weights}")
            low, middle, high = sorted(abs(weight) for weight in weights[:3])
            expect(1.8 < middle / low < 2.2 and 1.8 < high / middle < 2.2, f"unit {unit} weighs {low:.2f}, {middle:.2f}, {high:.2f}")


def codes_are_found(build):
    """8-3-8: every pattern comes back, through a code of its own, from five first values of five."""
    with copied(EXAMPLES / "rumelhart") as place:
        for seed in range(5):
            trained(build, place, "encoder.bp", "--seed", seed)
            tensors, _ = safetensors.read(place / "encoder.safetensors")
            codes = []
            for i in range(8):
                codes.append(layer(tensors, "code", [float(i == j) for j in range(8)], sigmoid))
                output = layer(tensors, "output", codes[-1], sigmoid)
                expect([value > 0.5 for value in output] == [i == j for j in range(8)], f"seed {seed}: pattern {i} comes back as {output}")
            nearest = min(math.dist(a, b) for a, b in itertools.combinations(codes, 2))
            expect(nearest > 0.25, f"seed {seed}: two codes are {nearest:.2f} apart")


def spirals_are_told_apart(build):
    """The paper's 194 points through its 138 weights, in a third of its sweeps."""
    with copied(EXAMPLES / "spirals") as place:
        epochs = of_kind(trained(build, place, "spirals.bp"), "epoch")
        expect(len(epochs) == 7000 and any(epoch["accuracy"] == 1 for epoch in epochs), "no epoch tells all points right")
        tensors, _ = safetensors.read(place / "spirals.safetensors")
        expect(sum(len(values) for _, values in tensors.values()) == 138, "there are not 138 weights")
        for i, arm in itertools.product(range(97), (0, 1)):
            angle, radius = i * math.pi / 16, 6.5 * (104 - i) / 104 * (1 if arm else -1)
            seen = [radius * math.sin(angle), radius * math.cos(angle)]
            for name in ("h1", "h2", "h3"):
                seen = seen + layer(tensors, name, seen, sigmoid)
            (out,) = layer(tensors, "out", seen)
            expect((out > 0) == (arm == 1), f"point {i} of arm {arm} is told wrong ({out:.2f})")


# ---- Pictures ---------------------------------------------------------------------------------------------------------
# As tests/reference/pictures.py prints it of PyTorch: the least error of three splits, and the greatest two.
COMPONENTS, DENOISED, BOUND = 0.0154, 0.0227, 46.69


def scores(events):
    return {event["model"]: next(value for key, value in event.items() if key.endswith("accuracy")) for event in of_kind(events, "evaluate")}


def pictures_come_back(build):
    """Through 16 numbers with less error than 16 principal components leave, the best that a linear map can do."""
    with copied(EXAMPLES / "digits") as place:
        (test,) = of_kind(trained(build, place, "autoencoder.bp"), "evaluate")
        expect(test["rows"] == 240 and test["mse"] < COMPONENTS, f"the error is {test['mse']:.4f}, that of 16 components {COMPONENTS}")


def noise_is_taken_off(build):
    """Normal noise of 0.5 is 0.25 in the mean; what is left of it is what PyTorch's network leaves."""
    with copied(EXAMPLES / "digits") as place:
        last = of_kind(trained(build, place, "denoising.bp"), "epoch")[-1]
        expect(abs(last["val_before"] - 0.25) < 0.005, f"the noise is {last['val_before']}")
        expect(last["val_after"] < 1.1 * DENOISED, f"{last['val_after']:.4f} is left, PyTorch leaves {DENOISED}")


def bound_is_reached(build):
    """The variational bound of a picture, in nats, is PyTorch's, and no part of it has collapsed."""
    with copied(EXAMPLES / "digits") as place:
        last = of_kind(trained(build, place, "vae.bp"), "epoch")[-1]
        expect(last["val_bound"] < 1.03 * BOUND, f"the bound is {last['val_bound']:.2f}, PyTorch's {BOUND}")
        expect(abs(last["val_reconstruction"] + last["val_kl"] - last["val_bound"]) < 1e-3, f"the parts do not add up: {last}")
        expect(last["val_kl"] > 3, f"the code says {last['val_kl']:.2f} nats of a picture")


def pretraining_helps(build):
    """Three layers of sigmoids that learn nothing at once learn after each has learned to give back what it sees."""
    with copied(EXAMPLES / "digits") as place:
        for seed in range(2):
            after = scores(trained(build, place, "pretraining.bp", "--seed", seed))["Net"]
            without = scores(trained(build, place, "pretraining.bp", "--seed", seed, "--phase", "fine"))["Net"]
            expect(after >= 0.87 and without < 0.2, f"seed {seed}: {after:.3f} right with pre-training, {without:.3f} without")


def teacher_helps(build):
    with copied(EXAMPLES / "digits") as place:
        for seed in range(3):
            right = scores(trained(build, place, "distillation.bp", "--seed", seed))
            expect(right["Teacher"] >= 0.94, f"seed {seed}: the teacher tells {right['Teacher']:.3f} right")
            expect(right["Student"] >= right["Alone"] + 0.05, f"seed {seed}: {right}")


# ---- Steps of one's own ---------------------------------------------------------------------------------------------


def heat_flows(build):
    """The equation's solution, exp(-pi^2 t) sin(pi x), from the checkpoint, for three seeds."""
    with copied(EXAMPLES / "heat") as place:
        for seed in range(3):
            (score,) = of_kind(trained(build, place, "heat.bp", "--seed", seed), "evaluate")
            tensors, _ = safetensors.read(place / "heat.safetensors")
            squares = []
            for x, t in itertools.product([i / 10 for i in range(11)], [0.03 * i for i in range(11)]):
                (u,) = layer(tensors, "u", layer(tensors, "b", layer(tensors, "a", [x, t], math.tanh), math.tanh))
                squares.append((u - math.exp(-math.pi**2 * t) * math.sin(math.pi * x)) ** 2)
            rmse = statistics.mean(squares) ** 0.5
            expect(rmse < 0.003 and score["rmse"] < 0.003 and score["max_error"] < 0.015, f"seed {seed}: wrong by {rmse}, and by {score}")


def points_are_made(build, program):
    """1,000 points by Python's random numbers through the generator: how many lie within three deviations of a place (of the
    true ones 1 - exp(-9 / 2) = 98.9 %), and how many at each (125 are due)."""
    with copied(EXAMPLES / "gan") as place:
        trained(build, place, f"{program}.bp")
        tensors, _ = safetensors.read(place / f"{program}.safetensors")
        draw, relu = random.Random(1), lambda value: max(value, 0)
        places = [(math.cos(2 * math.pi * k / 8), math.sin(2 * math.pi * k / 8)) for k in range(8)]
        counts = [0] * 8
        for _ in range(1000):
            z = [draw.gauss(0, 1) for _ in range(8)]
            point = layer(tensors, "G.point", layer(tensors, "G.b", layer(tensors, "G.a", z, relu), relu))
            distance, nearest = min((math.dist(point, place), k) for k, place in enumerate(places))
            counts[nearest] += distance < 3 * 0.05
        expect(sum(counts) >= 880, f"only {sum(counts)} of 1,000 points lie where they should")
        expect(min(counts) >= 60, f"the places get {counts}")


def tests(build):
    for name, function in (
        ("symmetry", symmetry_is_seen), ("encoder", codes_are_found), ("spirals", spirals_are_told_apart),
        ("heat", heat_flows), ("autoencoder", pictures_come_back), ("denoising", noise_is_taken_off), ("vae", bound_is_reached),
        ("pretraining", pretraining_helps), ("distillation", teacher_helps),
    ):
        yield name, functools.partial(function, build)
    for program in ("ring", "wgan"):
        yield program, functools.partial(points_are_made, build, program)
