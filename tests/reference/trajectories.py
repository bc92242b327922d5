#!/usr/bin/env python3
"""Golden trajectories: what PyTorch makes of 200 updates, for bpc to reproduce. Writes ../golden/CASE/ anew.

    tests/reference/trajectories.py [CASE ...]        needs Debian's python3-torch; the tests that read them do not

Cases: {sigmoid, tanh, relu} x {mse, bce_logits, cross_entropy} x {sgd, momentum, adam} with 2 to 4 dense layers, so that
each pair of settings meets each depth; single layers; penalties, frozen layers, several targets; each of the other
optimizers; gradients clipped and added up, averages of weights, groups of layers, schedules. In each, the batch size
does not divide the rows, or is larger than all of them. Penalties are on weights, not on biases, and frozen layers have none.

The truth is the trajectory in float64. Beside it stands how far float32 itself strays from it in PyTorch: the largest
distance of four runs whose rows lie in another order within each batch, so that sums round otherwise. Per step, as it
grows with them; of each tensor, after the last.
"""
import json
import math
import pathlib
import random
import sys

import torch

import safetensors

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
STEPS = 200
ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
OPTIMIZERS = {
    "sgd": ("sgd(lr = {lr})", lambda p, lr: torch.optim.SGD(p, lr=lr)),
    "momentum": ("sgd(lr = {lr}, momentum = 0.9)", lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)),
    "adam": ("adam(lr = {lr})", lambda p, lr: torch.optim.Adam(p, lr=lr)),
}


class Lion(torch.optim.Optimizer):
    """Chen et al., Symbolic discovery of optimization algorithms, 2023, program 1; torch has none."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = torch.sign(beta1 * m + (1 - beta1) * p.grad) + group["weight_decay"] * p
                m.mul_(beta2).add_((1 - beta2) * p.grad)
                p.sub_(group["lr"] * update)


class NAdam(torch.optim.Optimizer):
    """As the algorithm in torch's manual, and torch 2, have it: 1.13 takes the momentum of a step twice in its second term."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=0.004):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay))
        self.steps, self.product = 0, 1.0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        options = self.param_groups[0]
        beta1, beta2 = options["betas"]
        now, after = (beta1 * (1 - 0.5 * 0.96 ** (t * options["momentum_decay"])) for t in (self.steps, self.steps + 1))
        self.product *= now
        for p in options["params"]:
            g = p.grad + options["weight_decay"] * p
            m = self.state[p].setdefault("m", torch.zeros_like(p))
            v = self.state[p].setdefault("v", torch.zeros_like(p))
            m.mul_(beta1).add_((1 - beta1) * g)
            v.mul_(beta2).add_((1 - beta2) * g * g)
            mean = after * m / (1 - self.product * after) + (1 - now) * g / (1 - self.product)
            p.sub_(options["lr"] * mean / ((v / (1 - beta2**self.steps)).sqrt() + options["eps"]))


O = torch.optim
MORE_OPTIMIZERS = {  # case: bpc's, PyTorch's
    "sgd-decay": ("sgd(lr = 0.05, momentum = 0.8, dampening = 0.3, weight_decay = 0.01)", lambda p: O.SGD(p, 0.05, 0.8, 0.3, 0.01)),
    "nesterov": ("nesterov(lr = 0.02)", lambda p: O.SGD(p, 0.02, 0.9, nesterov=True)),
    "nesterov-decay": ("nesterov(lr = 0.02, momentum = 0.7, weight_decay = 0.02)", lambda p: O.SGD(p, 0.02, 0.7, 0, 0.02, True)),
    "rprop": ("rprop(lr = 0.003, most = 0.05)", lambda p: O.Rprop(p, 0.003, step_sizes=(1e-6, 0.05))),
    "adagrad": ("adagrad(lr = 0.05)", lambda p: O.Adagrad(p, 0.05)),
    "adagrad-decay": ("adagrad(lr = 0.1, lr_decay = 0.02, weight_decay = 0.01, initial_accumulator = 0.1)", lambda p: O.Adagrad(p, 0.1, 0.02, 0.01, 0.1)),
    "adadelta": ("adadelta", lambda p: O.Adadelta(p)),
    "adadelta-decay": ("adadelta(lr = 0.5, rho = 0.8, eps = 1e-5, weight_decay = 0.01)", lambda p: O.Adadelta(p, 0.5, 0.8, 1e-5, 0.01)),
    "rmsprop": ("rmsprop(lr = 0.005)", lambda p: O.RMSprop(p, 0.005)),
    "rmsprop-centered": ("rmsprop(lr = 0.002, alpha = 0.95, eps = 1e-3, momentum = 0.5, weight_decay = 0.01, centered = yes)",
                         lambda p: O.RMSprop(p, 0.002, 0.95, 1e-3, 0.01, 0.5, True)),
    "adam-decay": ("adam(lr = 0.01, weight_decay = 0.05)", lambda p: O.Adam(p, 0.01, weight_decay=0.05)),
    "adam-betas": ("adam(0.01, beta1 = 0.5, beta2 = 0.99, eps = 1e-3)", lambda p: O.Adam(p, 0.01, (0.5, 0.99), 1e-3)),
    "amsgrad": ("amsgrad(lr = 0.01)", lambda p: O.Adam(p, 0.01, amsgrad=True)),
    "adamw": ("adamw(lr = 0.01, weight_decay = 0.1)", lambda p: O.AdamW(p, 0.01, weight_decay=0.1)),
    "adamax": ("adamax(lr = 0.01)", lambda p: O.Adamax(p, 0.01)),
    "nadam": ("nadam(lr = 0.01)", lambda p: NAdam(p, 0.01)),
    "nadam-decay": ("nadam(lr = 0.005, momentum_decay = 0.02, weight_decay = 0.01)", lambda p: NAdam(p, 0.005, momentum_decay=0.02, weight_decay=0.01)),
    "radam": ("radam(lr = 0.01)", lambda p: O.RAdam(p, 0.01)),
    "radam-decay": ("radam(lr = 0.01, beta2 = 0.99, weight_decay = 0.01)", lambda p: O.RAdam(p, 0.01, (0.9, 0.99), weight_decay=0.01)),
    "lion": ("lion(lr = 0.002, weight_decay = 0.1)", lambda p: Lion(p, 0.002, weight_decay=0.1)),
}
RATES = {"sgd": 0.0625, "momentum": 0.02, "adam": 0.01}
SIGMOID_RATES = {"sgd": 0.4, "momentum": 0.1, "adam": 0.02}  # it learns slowly
LOSSES = {
    "mse": torch.nn.functional.mse_loss,
    "bce_logits": torch.nn.functional.binary_cross_entropy_with_logits,
    "cross_entropy": torch.nn.functional.cross_entropy,
}
# rows, batch size: the updates of an epoch divide 200, the last batch is smaller than the others, or the only one
SHAPES = [(23, 5), (30, 4), (26, 7), (28, 3), (23, 16), (21, 32)]


def digits(value, count=9):
    """A number, or lists of them, with so many significant digits."""
    return [digits(v, count) for v in value] if isinstance(value, list) else float(f"{value:.{count}g}")


class Case:
    def __init__(self, name, activation, loss, optimizer, depth, number, **more):
        self.name, self.activation, self.loss, self.optimizer = name, activation, loss, optimizer
        self.rows, self.batch = SHAPES[number % len(SHAPES)]
        self.l1, self.l2 = more.get("l1", 0), more.get("l2", 0)
        self.more = more
        self.rate = 0 if optimizer in MORE_OPTIMIZERS else (SIGMOID_RATES if activation == "sigmoid" else RATES)[optimizer]
        self.frozen, self.dtype = more.get("frozen", []), more.get("dtype", "F32")
        draw = random.Random(f"{name} {more.get('seed', 0)}")
        inputs = 1 + number * 5 % 9
        outputs = more.get("outputs") or (3 + number % 3 if loss == "cross_entropy" else 1 + number % 3)
        hidden = [2 + (number * 7 + 4 * i) % 8 for i in range(depth - 1)]
        self.widths = [inputs] + hidden + [outputs]
        self.inputs = [[draw.randrange(-32, 33) / 16 for _ in range(inputs)] for _ in range(self.rows)]
        self.targets = [self.target_of(row, outputs, draw) for row in self.inputs]
        self.weights = {}
        for i in range(depth):
            fan_in, width = self.widths[i], self.widths[i + 1]
            bound = 1 / math.sqrt(fan_in)
            for kind, shape in (("weight", (width, fan_in)), ("bias", (width,))):
                values = [draw.uniform(-bound, bound) for _ in range(math.prod(shape))]
                self.weights[f"fc{i + 1}.{kind}"] = torch.tensor(values, dtype=torch.float32).reshape(shape)

    def target_of(self, row, outputs, draw):
        """Something that can be learnt: sums of inputs, their signs, or which of them is the greatest."""
        sums = [sum(x * math.cos(3 * i + 7 * j) for i, x in enumerate(row)) + draw.gauss(0, 0.3) for j in range(outputs)]
        if self.loss == "mse":
            return [round(4 * s) / 16 for s in sums]
        if self.loss == "bce_logits":
            return [int(s > 0) for s in sums]
        return max(range(outputs), key=lambda j: sums[j])

    def batches(self):
        per_epoch = -(-self.rows // self.batch)
        assert STEPS % per_epoch == 0 and self.rows % self.batch != 0
        for step in range(STEPS):
            first = step % per_epoch * self.batch
            yield list(range(first, min(first + self.batch, self.rows)))

    def per_epoch(self):
        return -(-self.rows // self.batch)

    def epochs(self):
        return STEPS // self.per_epoch()

    def output(self, weights, h):
        depth = len(self.widths) - 1
        for i in range(1, depth + 1):
            h = torch.nn.functional.linear(h, weights[f"fc{i}.weight"], weights[f"fc{i}.bias"])
            h = ACTIVATIONS[self.activation](h) if i < depth else h
        return h

    def loss_of(self, step, rows, weights, x, t):
        return LOSSES[self.loss](self.output(weights, x[rows]), t[rows])

    def run(self, dtype, order=None):
        """The losses of 200 steps, each taken before its update, and the weights after the last."""
        weights = {name: value.to(dtype).clone().requires_grad_(name.split(".")[0] not in self.frozen)
                   for name, value in self.weights.items()}
        trained = [w for w in weights.values() if w.requires_grad]
        if "groups" in self.more:  # layers with an optimizer of their own, the others have this one
            optimizers = [MORE_OPTIMIZERS[other][1]([w for n, w in weights.items() if n.startswith(layer + ".")]) for layer, other in self.more["groups"].items()]
            rest = [w for n, w in weights.items() if n.split(".")[0] not in self.more["groups"]]
        else:
            optimizers, rest = [], trained
        many = self.optimizer in MORE_OPTIMIZERS
        optimizers.append(MORE_OPTIMIZERS[self.optimizer][1](rest) if many else OPTIMIZERS[self.optimizer][1](rest, self.rate))
        together, average = self.more.get("accumulate", 1), None
        x = torch.tensor(self.inputs, dtype=dtype)
        t = torch.tensor(self.targets, dtype=torch.int64 if self.loss == "cross_entropy" else dtype)
        losses = []
        for step, rows in enumerate(self.batches()):
            if order:
                order.shuffle(rows)
            loss = self.loss_of(step, rows, weights, x, t)
            for name, weight in weights.items():
                if name.endswith("weight") and weight.requires_grad:
                    loss = loss + self.l1 * weight.abs().sum() + self.l2 * weight.square().sum()
            losses.append(loss.item())
            if step % together == 0:
                for weight in trained:
                    weight.grad = None
            (loss / together).backward()
            if (step + 1) % together:
                continue
            if "clip_value" in self.more:
                torch.nn.utils.clip_grad_value_(trained, self.more["clip_value"])
            if "clip_norm" in self.more:
                torch.nn.utils.clip_grad_norm_(trained, self.more["clip_norm"])
            for optimizer in optimizers:
                if "schedule" in self.more:
                    optimizer.param_groups[0]["lr"] = self.more["schedule"](step // together, step // self.per_epoch(), STEPS // together)
                optimizer.step()
            if "average" in self.more:
                decay = self.more["average"]
                average = {n: w.detach().clone() if not average else decay * average[n] + (1 - decay) * w.detach() for n, w in weights.items()}
        end = average or weights
        return losses, {name: weight.detach().to(torch.float64) for name, weight in end.items()}

    def program(self):
        depth = len(self.widths) - 1
        inputs = ", ".join(f"x{i}" for i in range(self.widths[0]))
        if self.loss == "cross_entropy":
            target = "y : category(" + ", ".join(f'"{c}"' for c in "abcdefghi"[: self.widths[-1]]) + ")"
        else:
            target = ", ".join(self.target_names())
        layers, before = [], "x"
        for i in range(1, depth + 1):
            activation = f", {self.activation}" if i < depth else ""
            layers.append(f"    fc{i} = dense({before}, {self.widths[i]}{activation})")
            before = f"fc{i}"
        more = [f"    l1         {self.l1}"] if self.l1 else []
        more += [f"    l2         {self.l2}"] if self.l2 else []
        more += [f"    freeze     {', '.join(self.frozen)}"] if self.frozen else []
        more += [f"    optimizer  {MORE_OPTIMIZERS[other][0]} for {layer}" for layer, other in self.more.get("groups", {}).items()]
        clips = [f"{how} = {self.more['clip_' + how]}" for how in ("norm", "value") if "clip_" + how in self.more]
        more += [f"    clip_gradient {', '.join(clips)}"] if clips else []
        more += [f"    accumulate {self.more['accumulate']}"] if "accumulate" in self.more else []
        more += [f"    average_weights decay = {self.more['average']}"] if "average" in self.more else []
        return "\n".join(
            ["bpc 1", "", "data table {", '    file   "data.csv"', f"    input  {inputs}", f"    target {target}", "}", "",
             "model Base(x) {", *layers, f"    return fc{depth}", "}", "", 'model Net = Base from "init.safetensors" { }', "",
             "finetune Net on table {", f"    loss       {self.loss}", f"    optimizer  {self.optimizer_text()}",
             f"    epochs     {self.epochs()}", f"    batch_size {self.batch}", "    shuffle    none", *more, "}", "",
             'save Net to "final.safetensors"', ""])

    def optimizer_text(self):
        text = self.more.get("text") or (MORE_OPTIMIZERS[self.optimizer][0] if self.optimizer in MORE_OPTIMIZERS else OPTIMIZERS[self.optimizer][0])
        return text.format(lr=self.rate)

    def target_names(self):
        width = self.widths[-1]
        return [f"y{i}" for i in range(width)] if self.loss != "cross_entropy" and width > 1 else ["y"]

    def table(self):
        lines = [",".join([f"x{i}" for i in range(self.widths[0])] + self.target_names())]
        for row, target in zip(self.inputs, self.targets):
            fields = ["abcdefghi"[target]] if self.loss == "cross_entropy" else [f"{value:g}" for value in target]
            lines.append(",".join([f"{x:.6g}" for x in row] + fields))
        return "\n".join(lines) + "\n"

    def write(self):
        torch.manual_seed(0)
        folder = GOLDEN / self.name
        folder.mkdir(parents=True, exist_ok=True)
        losses, weights = self.run(torch.float64)
        noise_losses, noise_weights = [0.0] * STEPS, {name: 0.0 for name in weights}
        for seed in range(4):
            other, end = self.run(torch.float32, random.Random(seed) if seed else None)
            distance = 0.0  # never less than at an earlier step
            for i in range(STEPS):
                distance = max(distance, abs(other[i] - losses[i]))
                noise_losses[i] = max(noise_losses[i], distance)
            for name in weights:
                noise_weights[name] = max(noise_weights[name], (end[name] - weights[name]).abs().max().item())
        (folder / "case.bp").write_text(self.program())
        (folder / "data.csv").write_text(self.table())
        tensors = {name: (list(value.shape), value.flatten().tolist()) for name, value in self.weights.items()}
        safetensors.write(folder / "init.safetensors", tensors, {"format": "pt"}, self.dtype)


        golden = {
            "torch": torch.__version__.split("+")[0],
            "losses": digits(losses),
            "losses_float32_strays": digits(noise_losses, 2),
            "weights": {name: digits(value.tolist()) for name, value in weights.items()},
            "weights_float32_strays": {name: digits(value, 2) for name, value in noise_weights.items()},
        }
        (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
        worst_loss = max(n / max(abs(l), 1e-30) for n, l in zip(noise_losses, losses))
        worst_weight = max(noise_weights[n] / max(w.abs().max().item(), 1e-30) for n, w in weights.items())
        print(f"{self.name:36} {'-'.join(map(str, self.widths)):12} rows {self.rows} by {self.batch:2}  loss {losses[0]:.4f} to"
              f" {losses[-1]:.4f}  float32 strays {worst_loss:.1e} in a loss, {worst_weight:.1e} in a weight")


def cases():
    number = 0
    for a, activation in enumerate(ACTIVATIONS):
        for b, loss in enumerate(LOSSES):
            for c, optimizer in enumerate(OPTIMIZERS):
                yield Case(f"{activation}-{loss}-{optimizer}", activation, loss, optimizer, 2 + (a + b + c) % 3, number)
                number += 1
    for loss, optimizer in (("mse", "momentum"), ("bce_logits", "adam"), ("cross_entropy", "sgd")):
        yield Case(f"one-layer-{loss}-{optimizer}", "relu", loss, optimizer, 1, number + 2)
        number += 1
    yield Case("adam-l2", "tanh", "mse", "adam", 3, 5, l2=1e-3)
    yield Case("sgd-l1", "tanh", "bce_logits", "sgd", 2, 3, l1=1e-3)
    yield Case("frozen-layers", "sigmoid", "cross_entropy", "adam", 4, 1, frozen=["fc1", "fc3"])
    yield Case("frozen-l2", "relu", "mse", "momentum", 3, 2, frozen=["fc2"], l2=1e-2)
    yield Case("two-targets", "tanh", "mse", "adam", 2, 7, outputs=2)
    yield Case("float64-checkpoint", "relu", "cross_entropy", "sgd", 2, 4, dtype="F64")
    losses = list(LOSSES)
    for i, name in enumerate(MORE_OPTIMIZERS):
        yield Case(f"optimizer-{name}", "tanh", losses[i % 3], name, 2 + i % 2, i)
    yield Case("clip-norm", "tanh", "mse", "momentum", 3, 4, clip_norm=0.25)
    yield Case("clip-value", "relu", "cross_entropy", "adam", 2, 5, clip_value=0.05)
    yield Case("clip-both", "sigmoid", "bce_logits", "sgd", 2, 6, clip_norm=0.2, clip_value=0.08)
    yield Case("accumulate", "tanh", "cross_entropy", "adam", 2, 1, accumulate=3)
    yield Case("accumulate-clip-average", "tanh", "mse", "momentum", 2, 8, accumulate=4, clip_norm=0.5, average=0.9)
    yield Case("average", "relu", "mse", "adam", 2, 3, average=0.95)
    yield Case("groups", "tanh", "cross_entropy", "sgd", 3, 2, groups={"fc1": "adamw", "fc3": "rmsprop"})
    yield Case("schedule-cosine", "tanh", "mse", "sgd", 2, 9, text="sgd(lr = cosine(start = 0.1, end = 0.01))",
               schedule=lambda step, epoch, steps: 0.01 + 0.09 * (1 + math.cos(math.pi * step / steps)) / 2)
    yield Case("schedule-accumulate", "tanh", "mse", "adam", 2, 10, accumulate=2, text="adam(lr = linear(start = 0.02, end = 0) * linear_warmup(20))",
               schedule=lambda step, epoch, steps: 0.02 * (1 - step / steps) * min((step + 1) / 20, 1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in cases():
        if len(sys.argv) == 1 or case.name in sys.argv[1:]:
            case.write()
