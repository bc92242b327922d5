#!/usr/bin/env python3
"""Golden layers: networks of every layer of the prelude, trained by PyTorch's modules from the same weights and rows. Writes
../golden/layer-*/ anew, in the form of trajectories.py: losses of 200 steps, the weights after them, and the error that the
network then has in evaluation.

    tests/reference/layers.py [CASE ...]        needs Debian's python3-torch; the tests that read them do not
"""
import json
import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

import safetensors
from trajectories import GOLDEN, STEPS, digits

INPUTS, ROWS, BATCH = 4, 30, 8  # the last batch has 6 rows


class Norm(nn.Module):
    """torch 1.13 has no RMSNorm: the paper's formula, equation 4, with eps under the root as torch 2 has it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Elementwise(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.weight * x + self.bias


class Gated(nn.Module):
    def __init__(self, width, out, activation):
        super().__init__()
        self.gate, self.value, self.activation = nn.Linear(width, out), nn.Linear(width, out), activation

    def forward(self, x):
        return self.activation(self.gate(x)) * self.value(x)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.fc2(F.gelu(self.fc1(self.norm(x))))


class Shared(nn.Module):
    """One weight for two layers."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(INPUTS, INPUTS))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.fc2 = nn.Linear(INPUTS, 2)

    def forward(self, x):
        for _ in range(2):
            x = torch.tanh(x @ self.w.T)
        return self.fc2(self.scale * x)


class Rows(nn.Module):
    """Embeddings of a category among five, beside the numbers."""

    def __init__(self):
        super().__init__()
        self.e, self.fc1, self.fc2 = nn.Embedding(5, 3), nn.Linear(INPUTS + 3, 6), nn.Linear(6, 2)

    def forward(self, x, kind):
        return self.fc2(torch.tanh(self.fc1(torch.cat([x, self.e(kind)], 1))))


def sequence(**layers):
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


# case: the .bp model's lines, PyTorch's model, frozen layers, other settings
CASES = {
    "batch_norm": (["fc1 = dense(x, 6)", "bn = batch_norm(fc1)", "fc2 = dense(relu(bn), 2)"],
                   lambda: sequence(fc1=nn.Linear(INPUTS, 6), bn=nn.BatchNorm1d(6), relu=nn.ReLU(), fc2=nn.Linear(6, 2)), [], []),
    "batch_norm-options": (["bn = batch_norm(x, momentum = 0.3, eps = 1e-2)", "fc1 = dense(bn, 5, tanh)", "fc2 = dense(fc1, 2)"],
                           lambda: sequence(bn=nn.BatchNorm1d(INPUTS, 1e-2, 0.3), fc1=nn.Linear(INPUTS, 5), tanh=nn.Tanh(), fc2=nn.Linear(5, 2)), [], []),
    "batch_norm-frozen": (["fc1 = dense(x, 6)", "bn = batch_norm(fc1)", "fc2 = dense(relu(bn), 2)"],
                          lambda: sequence(fc1=nn.Linear(INPUTS, 6), bn=nn.BatchNorm1d(6), relu=nn.ReLU(), fc2=nn.Linear(6, 2)), ["bn"], []),
    "batch_norm-live": (["fc1 = dense(x, 6)", "bn = batch_norm(fc1)", "fc2 = dense(relu(bn), 2)"],
                        lambda: sequence(fc1=nn.Linear(INPUTS, 6), bn=nn.BatchNorm1d(6), relu=nn.ReLU(), fc2=nn.Linear(6, 2)), ["bn"], ["statistics live"]),
    "layer_norm": (["fc1 = dense(x, 6)", "ln = layer_norm(fc1)", "fc2 = dense(tanh(ln), 2)"],
                   lambda: sequence(fc1=nn.Linear(INPUTS, 6), ln=nn.LayerNorm(6), tanh=nn.Tanh(), fc2=nn.Linear(6, 2)), [], []),
    "rms_norm": (["fc1 = dense(x, 6)", "rn = rms_norm(fc1)", "fc2 = dense(tanh(rn), 2)"],
                 lambda: sequence(fc1=nn.Linear(INPUTS, 6), rn=Norm(6), tanh=nn.Tanh(), fc2=nn.Linear(6, 2)), [], []),
    "prelu": (["fc1 = dense(x, 6)", "a = prelu(fc1)", "fc2 = dense(a, 5)", "b = prelu(fc2, weights = 5)", "fc3 = dense(b, 2)"],
              lambda: sequence(fc1=nn.Linear(INPUTS, 6), a=nn.PReLU(), fc2=nn.Linear(6, 5), b=nn.PReLU(5), fc3=nn.Linear(5, 2)), [], []),
    "elementwise": (["s = elementwise(x)", "fc1 = dense(s, 6, sigmoid)", "fc2 = dense(fc1, 2)"],
                    lambda: sequence(s=Elementwise(INPUTS), fc1=nn.Linear(INPUTS, 6), sigmoid=nn.Sigmoid(), fc2=nn.Linear(6, 2)), [], []),
    "gated": (["g = gated(x, 5)", "h = gated(g, 4, gelu)", "fc = dense(h, 2)"],
              lambda: sequence(g=Gated(INPUTS, 5, F.silu), h=Gated(5, 4, F.gelu), fc=nn.Linear(4, 2)), [], []),
    "residual": (["stem = dense(x, 5)", "body = repeat 4 Residual(stem, 5)", "head = dense(body, 2)"],
                 lambda: sequence(stem=nn.Linear(INPUTS, 5), body=nn.Sequential(*[Residual(5) for _ in range(4)]), head=nn.Linear(5, 2)), [], []),
    "shared": ([f"w = parameter([{INPUTS}, {INPUTS}], init = 0)", "scale = parameter(init = 1)", "h = tanh(w @ tanh(w @ x))", "fc2 = dense(scale * h, 2)"], Shared, [], []),
    "embedding": (["e = embedding(kind, 3)", "fc1 = dense(concat(x, e), 6, tanh)", "fc2 = dense(fc1, 2)"], Rows, [], []),
}
BLOCK = """block Residual(x, width) {
    norm = layer_norm(x)
    fc1 = dense(norm, width, gelu)
    fc2 = dense(fc1, width)
    return x + fc2
}
"""


def start(name, make):
    """First values that float32 holds, none of them a layer's usual one."""
    torch.manual_seed(len(name))
    model = make()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.dtype.is_floating_point:
                value.add_(torch.randn_like(value) * 0.3)
    return model


def steady(name):
    """Adam makes steps of the noise that is a bias's gradient before batch_norm, which is 0."""
    return name.startswith("batch_norm")


def run(name, dtype, rows_order=None):
    lines, make, frozen, settings = CASES[name]
    model = start(name, make).to(dtype)
    x, t, kind = table(name, dtype)
    arguments = lambda rows: (x[rows], kind[rows]) if name == "embedding" else (x[rows],)
    cold = [p for layer in frozen for p in model.get_submodule(layer).parameters()]
    for p in cold:
        p.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.05) if steady(name) else torch.optim.Adam(trained, 0.01)
    losses, per_epoch = [], -(-ROWS // BATCH)
    model.train()
    for layer in frozen:
        model.get_submodule(layer).train("statistics live" in settings)
    for step in range(STEPS):
        first = step % per_epoch * BATCH
        rows = list(range(first, min(first + BATCH, ROWS)))
        if rows_order:
            rows_order.shuffle(rows)
        loss = F.mse_loss(model(*arguments(rows)), t[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        error = ((model(*arguments(range(ROWS))) - t) ** 2).mean().sqrt().item()
    return losses, error, {key: value.to(torch.float64) for key, value in model.state_dict().items()}


def table(name, dtype):
    draw = random.Random(name)
    x = [[draw.randrange(-32, 33) / 16 for _ in range(INPUTS)] for _ in range(ROWS)]
    kind = [draw.randrange(5) for _ in range(ROWS)]
    t = [[round(16 * (row[i] * row[i + 1] / 2 + row[3] - 0.3 * kind[r])) / 16 for i in range(2)] for r, row in enumerate(x)]
    return torch.tensor(x, dtype=dtype), torch.tensor(t, dtype=dtype), torch.tensor(kind)


def program(name):
    lines, _, frozen, settings = CASES[name]
    inputs = ", ".join(f"x{i}" for i in range(INPUTS))
    embedded = name == "embedding"
    data = ["data table {", '    file   "data.csv"', f"    input  x = {inputs}", *(["    input  kind = kind : category(5)"] if embedded else []), "    target y0, y1", "}", ""]
    more = [f"    freeze     {', '.join(frozen)}"] if frozen else []
    more += [f"    {setting}" for setting in settings]
    return "\n".join(["bpc 1", "", *data, *([BLOCK] if name == "residual" else []), f"model Base({'x, kind' if embedded else 'x'}) {{", *(f"    {line}" for line in lines),
                      f"    return {lines[-1].split()[0]}", "}", "", 'model Net = Base from "init.safetensors" { }', "", "finetune Net on table {",
                      "    loss       mse", f"    optimizer  {'sgd(lr = 0.05)' if steady(name) else 'adam(lr = 0.01)'}", f"    epochs     {STEPS // -(-ROWS // BATCH)}", f"    batch_size {BATCH}", "    shuffle    none",
                      *more, "}", "", "evaluate Net on table { rmse }", 'save Net to "final.safetensors"', ""])


def stored(v):
    """As torch writes it: a counter is an integer."""
    shape, flat = list(v.shape), v.flatten()
    return (shape, flat.to(torch.float64).tolist()) if v.dtype.is_floating_point else (shape, flat.tolist(), "I64")


def write(name):
    folder = GOLDEN / f"layer-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    losses, error, weights = run(name, torch.float64)
    noise_losses, noise_weights, noise_error = [0.0] * STEPS, {key: 0.0 for key in weights}, 0.0
    for seed in range(4):
        other, other_error, end = run(name, torch.float32, random.Random(seed) if seed else None)
        distance = 0.0
        for i in range(STEPS):
            distance = max(distance, abs(other[i] - losses[i]))
            noise_losses[i] = max(noise_losses[i], distance)
        for key in weights:
            noise_weights[key] = max(noise_weights[key], (end[key] - weights[key]).abs().max().item())
        noise_error = max(noise_error, abs(other_error - error))
    (folder / "case.bp").write_text(program(name))
    x, t, kind = table(name, torch.float64)
    header = [f"x{i}" for i in range(INPUTS)] + (["kind"] if name == "embedding" else []) + ["y0", "y1"]
    lines = [",".join(header)]
    for i in range(ROWS):
        fields = [f"{v:.6g}" for v in x[i].tolist()] + ([str(kind[i].item())] if name == "embedding" else []) + [f"{v:.6g}" for v in t[i].tolist()]
        lines.append(",".join(fields))
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    first = start(name, CASES[name][1]).state_dict()
    safetensors.write(folder / "init.safetensors", {key: stored(v) for key, v in first.items()}, {"format": "pt"})
    golden = {
        "torch": torch.__version__.split("+")[0], "losses": digits(losses), "losses_float32_strays": digits(noise_losses, 2),
        "rmse": digits(error), "rmse_float32_strays": digits(noise_error, 2),
        "weights": {key: digits(value.tolist()) for key, value in weights.items()},
        "weights_float32_strays": {key: digits(value, 2) for key, value in noise_weights.items()},
    }
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{name:24} loss {losses[0]:.4f} to {losses[-1]:.4f}, rmse {error:.4f}; float32 strays {max(noise_weights.values()):.1e} in a weight")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in CASES:
        if len(sys.argv) == 1 or name in sys.argv[1:]:
            write(name)
