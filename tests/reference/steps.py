#!/usr/bin/env python3
"""Golden steps: what PyTorch makes of 200 steps of the general form, with several models and optimizers, updates of every
third step, values that are detached, and losses that hold gradients. Writes ../golden/step-*/ anew, in the form of
trajectories.py. `losses` are those of the update whose name `loss` tells; what is drawn in such programs comes from columns
here, so that both sides have it.

    tests/reference/steps.py [CASE ...]        needs Debian's python3-torch; the tests that read them do not
"""
import json
import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

import safetensors
from trajectories import GOLDEN, STEPS, digits

ROWS, BATCH = 30, 8  # the last batch has 6 rows
NOISE, REAL = 3, 4   # columns z0 .. z2, x0 .. x3; e, a share of a mixture


def network(inputs, hidden, outputs):
    model = nn.Sequential()
    for name, layer in (("fc1", nn.Linear(inputs, hidden)), ("tanh", nn.Tanh()), ("fc2", nn.Linear(hidden, outputs))):
        model.add_module(name, layer)
    return model


def lines(inputs, hidden, outputs):
    return [f"fc1 = dense(x, {hidden}, tanh)", f"fc2 = dense(fc1, {outputs})"]


def gradient(y, x):
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


def apply(optimizer, loss):
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=[p for group in optimizer.param_groups for p in group["params"]])
    optimizer.step()


class Gan:
    """Two models and two optimizers; D is updated before G's loss is computed, G in every third step."""
    models = {"G": (NOISE, 6, REAL), "D": (REAL, 7, 1)}
    loss = "d_loss"
    step = ["fake = G(z)",
            "d_loss = bce_logits(D(x), 1) + bce_logits(D(fake), 0)",
            "update D with adam(0.01, beta1 = 0.5) minimizing d_loss",
            "g_loss = bce_logits(D(fake), 1)",
            "update G with sgd(lr = 0.05, momentum = 0.9) minimizing g_loss, every = 3"]
    log = ["d_loss", "g_loss"]

    def optimizers(self, m):
        return torch.optim.Adam(m["D"].parameters(), 0.01, (0.5, 0.999)), torch.optim.SGD(m["G"].parameters(), 0.05, 0.9)

    def run(self, m, optimizers, x, z, e, number):
        real, fake = torch.ones(len(x), 1, dtype=x.dtype), torch.zeros(len(x), 1, dtype=x.dtype)
        loss = F.binary_cross_entropy_with_logits(m["D"](x), real) + F.binary_cross_entropy_with_logits(m["D"](m["G"](z)), fake)
        apply(optimizers[0], loss)
        if number % 3 == 2:
            apply(optimizers[1], F.binary_cross_entropy_with_logits(m["D"](m["G"](z)), real))
        return loss.item()


class Penalty:
    """Wasserstein GAN with gradient penalty: Gulrajani et al., Improved training of Wasserstein GANs, 2017, algorithm 1."""
    models = {"G": (NOISE, 6, REAL), "D": (REAL, 7, 1)}
    loss = "d_loss"
    step = ["fake = detach(G(z))",
            "mix = e * x + (1 - e) * fake",
            "length = sqrt(sum(grad(D(mix), mix)^2))",
            "d_loss = D(fake) - D(x) + 10 * (length - 1)^2",
            "update D with sgd(lr = 0.002) minimizing d_loss",
            "update G with adam(0.003) minimizing -D(G(z))"]
    log = ["d_loss"]

    def optimizers(self, m):
        return torch.optim.SGD(m["D"].parameters(), 0.002), torch.optim.Adam(m["G"].parameters(), 0.003)

    def run(self, m, optimizers, x, z, e, number):
        fake = m["G"](z).detach()
        mix = (e * x + (1 - e) * fake).requires_grad_(True)
        length = gradient(m["D"](mix), mix).pow(2).sum(1, keepdim=True).sqrt()
        loss = (m["D"](fake) - m["D"](x) + 10 * (length - 1) ** 2).mean()
        apply(optimizers[0], loss)
        apply(optimizers[1], -m["D"](m["G"](z)).mean())
        return loss.item()


class Residual:
    """A differential equation in the loss: y'' + y = 0, y(0) = 0, y'(0) = 1. Raissi et al., Physics-informed neural networks,
    2019."""
    models = {"U": (1, 8, 1)}
    loss = "loss"
    step = ["equation = grad(grad(U(e), e), e) + U(e)",
            "start = 0 * e",
            "slope = grad(U(start), start)",
            "update U with adam(0.01) minimizing equation^2 + U(0)^2 + (slope - 1)^2"]
    log = []

    def optimizers(self, m):
        return (torch.optim.Adam(m["U"].parameters(), 0.01),)

    def run(self, m, optimizers, x, z, e, number):
        e, start = e.clone().requires_grad_(True), torch.zeros_like(e).requires_grad_(True)
        equation = gradient(gradient(m["U"](e), e), e) + m["U"](e)
        slope = gradient(m["U"](start), start)
        loss = (equation**2 + m["U"](0 * e) ** 2 + (slope - 1) ** 2).mean()
        apply(optimizers[0], loss)
        return loss.item()


class Twice:
    """One model, updated twice in a step by optimizers with states of their own; a teacher that learns nothing."""
    models = {"S": (REAL, 6, 2), "T": (REAL, 5, 2)}
    loss = "imitation"
    step = ["imitation = mse(S(x), detach(T(x)))",
            "update S with adam(0.01) minimizing imitation",
            "update S with adam(0.002) minimizing 0.1 * sum(S(concat(z, x[0..0]))^2)"]
    log = ["imitation"]

    def optimizers(self, m):
        return torch.optim.Adam(m["S"].parameters(), 0.01), torch.optim.Adam(m["S"].parameters(), 0.002)

    def run(self, m, optimizers, x, z, e, number):
        loss = F.mse_loss(m["S"](x), m["T"](x).detach())
        apply(optimizers[0], loss)
        apply(optimizers[1], 0.1 * (m["S"](torch.cat([z, x[:, :1]], 1)) ** 2).sum(1).mean())
        return loss.item()


class Variational:
    """Kingma & Welling, Auto-encoding variational Bayes, 2014: the code's deviation is a column."""
    models = {"E": (REAL, 6, 2 * NOISE), "D": (NOISE, 5, REAL)}
    loss = "bound"
    step = ["code = E(x)",
            "mu = code[0..2]",
            "logvar = code[3..5]",
            "wrong = 0.5 * sum((D(mu + z * exp(logvar / 2)) - x)^2)",
            "kl = -0.5 * sum(1 + logvar - mu^2 - exp(logvar))",
            "bound = wrong + kl",
            "update E, D with adam(0.01) minimizing bound"]
    log = ["wrong", "kl"]

    def optimizers(self, m):
        return (torch.optim.Adam([*m["E"].parameters(), *m["D"].parameters()], 0.01),)

    def run(self, m, optimizers, x, z, e, number):
        mu, logvar = m["E"](x).chunk(2, 1)
        wrong = 0.5 * (m["D"](mu + z * (logvar / 2).exp()) - x).pow(2).sum(1)
        loss = (wrong - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)).mean()
        apply(optimizers[0], loss)
        return loss.item()


class Distillation:
    """Hinton, Vinyals & Dean, Distilling the knowledge in a neural network, 2015, at a temperature of 2."""
    models = {"S": (REAL, 6, 3), "T": (REAL, 5, 3)}
    loss = "imitation"
    step = ["soft = softmax(detach(T(x)) / 2)",
            "imitation = 4 * cross_entropy(S(x) / 2, soft)",
            "update S with adamw(0.01) minimizing imitation"]
    log = ["imitation"]

    def optimizers(self, m):
        return (torch.optim.AdamW(m["S"].parameters(), 0.01, weight_decay=0.01),)

    def run(self, m, optimizers, x, z, e, number):
        loss = 4 * F.cross_entropy(m["S"](x) / 2, torch.softmax(m["T"](x).detach() / 2, 1))
        apply(optimizers[0], loss)
        return loss.item()


class Averaged:
    """A schedule and an average of an update of every third step go by its own count."""
    models = {"S": (REAL, 6, 2), "T": (REAL, 5, 2)}
    average = 0.9
    loss = "imitation"
    step = ["imitation = mse(S(x), detach(T(x)))",
            "update S with adam(0.01) minimizing imitation",
            "update T with sgd(lr = 0.1 * pow(0.97, step), momentum = 0.5) minimizing 0.1 * sum(T(x)^2), every = 3"]
    log = ["imitation"]

    def optimizers(self, m):
        second = torch.optim.SGD(m["T"].parameters(), 0.1, 0.5)
        return torch.optim.Adam(m["S"].parameters(), 0.01), second, torch.optim.lr_scheduler.ExponentialLR(second, 0.97)

    def run(self, m, optimizers, x, z, e, number):
        loss = F.mse_loss(m["S"](x), m["T"](x).detach())
        apply(optimizers[0], loss)
        self.take(m, "S", number == 0)
        if number % 3 == 2:
            apply(optimizers[1], 0.1 * (m["T"](x) ** 2).sum(1).mean())
            optimizers[2].step()
            self.take(m, "T", number == 2)
        return loss.item()

    def take(self, m, name, first):
        """The average after an update, kept on the model."""
        with torch.no_grad():
            weights = m[name].state_dict()
            m[name].averages = {key: value.clone() if first else self.average * m[name].averages[key] + (1 - self.average) * value
                                for key, value in weights.items()}


CASES = {"averaged": Averaged(), "gan": Gan(), "penalty": Penalty(), "residual": Residual(), "twice": Twice(), "variational": Variational(),
         "distillation": Distillation()}


def start(case):
    """First values that float32 holds."""
    torch.manual_seed(11)
    models = {name: network(*shape) for name, shape in case.models.items()}
    with torch.no_grad():
        for model in models.values():
            for value in model.state_dict().values():
                value.add_(torch.randn_like(value) * 0.3)
    return models


def table(dtype):
    draw = random.Random("steps")
    columns = lambda count, scale: [[draw.randrange(-32, 33) / scale for _ in range(count)] for _ in range(ROWS)]
    x, z, e = columns(REAL, 16), columns(NOISE, 16), [[draw.randrange(0, 65) / 64] for _ in range(ROWS)]
    return tuple(torch.tensor(values, dtype=dtype) for values in (x, z, e))


def run(case, dtype, rows_order=None):
    models = {name: model.to(dtype) for name, model in start(case).items()}
    optimizers, data = case.optimizers(models), table(dtype)
    losses, per_epoch = [], -(-ROWS // BATCH)
    for number in range(STEPS):
        first = number % per_epoch * BATCH
        rows = list(range(first, min(first + BATCH, ROWS)))
        if rows_order:
            rows_order.shuffle(rows)
        losses.append(case.run(models, optimizers, *(values[rows] for values in data), number))
    prefix = (lambda name: name + ".") if len(models) > 1 else (lambda name: "")
    ends = {name: getattr(model, "averages", None) or model.state_dict() for name, model in models.items()}
    return losses, {prefix(name) + key: value.to(torch.float64) for name, end in ends.items() for key, value in end.items()}


def program(case):
    source = ["bpc 1", "", "data table {", '    file   "data.csv"', "    input  x = x0, x1, x2, x3", "    input  z = z0, z1, z2",
              "    input  e = e", "}"]
    for name, shape in case.models.items():
        source += ["", f"model {name}Base(x) {{", *(f"    {line}" for line in lines(*shape)), "    return fc2", "}", "",
                   f'model {name} = {name}Base from "{name}.safetensors" {{ }}']
    source += ["", f"train {', '.join(case.models)} on table {{", "    step {", *(f"        {line}" for line in case.step), "    }"]
    source += [f"    log        {', '.join(case.log)}"] if case.log else []
    source += [f"    average_weights decay = {case.average}"] if hasattr(case, "average") else []
    source += [f"    steps      {STEPS}", f"    batch_size {BATCH}", "    shuffle    none", "}", "",
               f'save {", ".join(case.models)} to "final.safetensors"', ""]
    return "\n".join(source)


def write(name):
    case, folder = CASES[name], GOLDEN / f"step-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    losses, weights = run(case, torch.float64)
    noise_losses, noise_weights = [0.0] * STEPS, {key: 0.0 for key in weights}
    for seed in range(4):
        other, end = run(case, torch.float32, random.Random(seed) if seed else None)
        distance = 0.0
        for i in range(STEPS):
            distance = max(distance, abs(other[i] - losses[i]))
            noise_losses[i] = max(noise_losses[i], distance)
        for key in weights:
            noise_weights[key] = max(noise_weights[key], (end[key] - weights[key]).abs().max().item())
    (folder / "case.bp").write_text(program(case))
    x, z, e = table(torch.float64)
    rows = [",".join(f"{value:.6g}" for value in [*x[i].tolist(), *z[i].tolist(), *e[i].tolist()]) for i in range(ROWS)]
    (folder / "data.csv").write_text("\n".join(["x0,x1,x2,x3,z0,z1,z2,e", *rows]) + "\n")
    for model, module in start(case).items():
        tensors = {key: (list(v.shape), v.to(torch.float64).flatten().tolist()) for key, v in module.state_dict().items()}
        safetensors.write(folder / f"{model}.safetensors", tensors, {"format": "pt"})
    golden = {
        "torch": torch.__version__.split("+")[0], "loss": case.loss, "losses": digits(losses), "losses_float32_strays": digits(noise_losses, 2),
        "weights": {key: digits(value.tolist()) for key, value in weights.items()},
        "weights_float32_strays": {key: digits(value, 2) for key, value in noise_weights.items()},
    }
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{name:12} {case.loss} {losses[0]:.4f} to {losses[-1]:.4f}; float32 strays {max(noise_weights.values()):.1e} in a weight")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in CASES:
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            write(name)
