#!/usr/bin/env python3
"""Golden trajectories: what PyTorch makes of 200 updates, for bpc to reproduce. Writes ../golden/CASE/ anew.

    tests/reference/trajectories.py [CASE ...]        needs Debian's python3-torch; the tests that read them do not

Cases: {sigmoid, tanh, relu} x {mse, bce_logits, cross_entropy} x {sgd, momentum, adam} with 2 to 4 dense layers, so that
each pair of settings meets each depth; single layers; penalties, frozen layers, several targets. In each, the batch size
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
        self.rate = (SIGMOID_RATES if activation == "sigmoid" else RATES)[optimizer]
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

    def epochs(self):
        return STEPS // -(-self.rows // self.batch)

    def run(self, dtype, order=None):
        """The losses of 200 steps, each taken before its update, and the weights after the last."""
        weights = {name: value.to(dtype).clone().requires_grad_(name.split(".")[0] not in self.frozen)
                   for name, value in self.weights.items()}
        optimizer = OPTIMIZERS[self.optimizer][1]([w for w in weights.values() if w.requires_grad], self.rate)
        x = torch.tensor(self.inputs, dtype=dtype)
        t = torch.tensor(self.targets, dtype=torch.int64 if self.loss == "cross_entropy" else dtype)
        losses = []
        for rows in self.batches():
            if order:
                order.shuffle(rows)
            h, depth = x[rows], len(self.widths) - 1
            for i in range(1, depth + 1):
                h = torch.nn.functional.linear(h, weights[f"fc{i}.weight"], weights[f"fc{i}.bias"])
                h = ACTIVATIONS[self.activation](h) if i < depth else h
            loss = LOSSES[self.loss](h, t[rows])
            for name, weight in weights.items():
                if name.endswith("weight") and weight.requires_grad:
                    loss = loss + self.l1 * weight.abs().sum() + self.l2 * weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, {name: weight.detach().to(torch.float64) for name, weight in weights.items()}

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
        return "\n".join(
            ["bpc 1", "", "data table {", '    file   "data.csv"', f"    input  {inputs}", f"    target {target}", "}", "",
             "model Base(x) {", *layers, f"    return fc{depth}", "}", "", 'model Net = Base from "init.safetensors" { }', "",
             "finetune Net on table {", f"    loss       {self.loss}", f"    optimizer  {OPTIMIZERS[self.optimizer][0].format(lr=self.rate)}",
             f"    epochs     {self.epochs()}", f"    batch_size {self.batch}", "    shuffle    none", *more, "}", "",
             'save Net to "final.safetensors"', ""])

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


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in cases():
        if len(sys.argv) == 1 or case.name in sys.argv[1:]:
            case.write()
