#!/usr/bin/env python3
"""Golden values and derivatives of the prelude's activations and losses, as PyTorch has them in float64. Writes
../golden/formulas/*.safetensors and cases.json anew: points, what is expected of them, and how each is written in bpc.

    tests/reference/formulas.py        needs Debian's python3-torch; the tests that read the files do not

Element by element: f at POINTS (random, the kinks, 0 and -0, 1e-40, ±1e4) and its derivative there.
Vectors: f of rows, and the product of a fixed cotangent with its Jacobian.
Losses: the loss of each row, and its derivative with respect to the row's output.
Where PyTorch 1.13 lacks a function, the formula of its paper or of scikit-learn stands here.
"""
import json
import math
import pathlib
import random

import torch
import torch.nn.functional as F

import safetensors

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "golden" / "formulas"
SPECIAL = [0.0, -0.0, 1e-40, -1e-40, 1e-20, -1e-20, 1e-6, -1e-6, 1e-3, -1e-3, 0.5, -0.5, 0.25, -0.25, 1, -1, 2, -2, 3, -3, 6, -6,
           9, -9, 12, -12, 17, -17, 20, -20, 30, -30, 50, -50, 87, -87, 89, -89, 104, -104, 1000, -1000, 1e4, -1e4]



def exact(value, below, x):
    """PyTorch's elu and its kin take exp(x) - 1, which has no digits near 0: their derivative, but expm1 for the value."""
    assert ((value - below)[x < 0].abs() < 1e-14).all()
    return value + torch.where(x < 0, below - value, torch.zeros_like(x)).detach()


ELEMENTS = {  # bpc: PyTorch
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "hard_sigmoid": F.hardsigmoid,
    "hard_tanh": F.hardtanh,
    "hard_tanh(low = -0.5, high = 2)": lambda x: F.hardtanh(x, -0.5, 2),
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "leaky_relu(slope = 0.3)": lambda x: F.leaky_relu(x, 0.3),
    "elu": lambda x: exact(F.elu(x), torch.expm1(x.clamp(max=0)), x),
    "elu(alpha = 0.5)": lambda x: exact(F.elu(x, 0.5), 0.5 * torch.expm1(x.clamp(max=0)), x),
    "selu": lambda x: exact(F.selu(x), 1.0507009873554805 * 1.6732632423543772 * torch.expm1(x.clamp(max=0)), x),
    "celu": lambda x: exact(F.celu(x), torch.expm1(x.clamp(max=0)), x),
    "celu(alpha = 2)": lambda x: exact(F.celu(x, 2), 2 * torch.expm1(x.clamp(max=0) / 2), x),
    "softplus": lambda x: F.softplus(x, threshold=700),
    "softplus(beta = 2)": lambda x: F.softplus(x, beta=2, threshold=700),
    "log_sigmoid": F.logsigmoid,
    "gelu": F.gelu,
    "gelu(approximate = tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": lambda x: x * torch.tanh(torch.where(x > 30, x, torch.log1p(torch.exp(torch.clamp(x, max=30))))),
    "hard_swish": F.hardswish,
    "tanh_shrink": F.tanhshrink,
    "soft_shrink": F.softshrink,
    "hard_shrink": F.hardshrink,
    "log_of_cosh": lambda x: torch.where(x.abs() < 1, torch.log1p(2 * torch.sinh(x.clamp(-1, 1) / 2) ** 2),
                                         x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)),
}
VECTORS = {  # bpc: (width of the result, PyTorch over the last axis)
    "softmax": (6, lambda x: torch.softmax(x, -1)),
    "log_softmax": (6, lambda x: torch.log_softmax(x, -1)),
    "glu": (3, F.glu),
    "swiglu": (3, lambda x: F.silu(x[..., :3]) * x[..., 3:]),
    "geglu": (3, lambda x: F.gelu(x[..., :3]) * x[..., 3:]),
}
WIDTH, ROWS = 6, 128
WEIGHT = [1.0, 2.0, 0.5, 3.0, 0.25, 1.5]


def rows_of(loss):
    """The loss of each row, from an element-by-element one."""
    return lambda y, t: loss(y, t).mean(-1)


def weighted(y, t):
    return F.cross_entropy(y, t, weight=torch.tensor(WEIGHT, dtype=y.dtype), reduction="none")


def smoothed(y, t):
    return F.cross_entropy(y, t, label_smoothing=0.1, reduction="none")


def smoothed_weighted(y, t):
    return F.cross_entropy(y, t, weight=torch.tensor(WEIGHT, dtype=y.dtype), label_smoothing=0.2, reduction="none")


def cosine_distance(y, t):
    """As torch 2 has it: each length is at least eps (1.13: their product), so that equal vectors of zeros have a slope."""
    return 1 - (y * t).sum(-1) / (y.norm(dim=-1).clamp_min(1e-8) * t.norm(dim=-1).clamp_min(1e-8))


def gaussian_nll(y, t):
    """The variance is softplus of the other half of the numbers; PyTorch's needs no gradient through its clamp."""
    variance = F.softplus(torch.cat([y[:, 3:], y[:, :3]], 1), threshold=700)
    return rows_of(lambda y, t: F.gaussian_nll_loss(y, t, variance, reduction="none"))(y, t)


def bce_of_sigmoid(y, t):
    """BCELoss of a sigmoid, each logarithm at least -100, where the sigmoid's own rounding does not spoil the derivative."""
    least = torch.tensor(-100.0, dtype=y.dtype)
    return -(t * torch.maximum(F.logsigmoid(y), least) + (1 - t) * torch.maximum(F.logsigmoid(-y), least))


# bpc: (what the model returns of its numbers y, kind of target, PyTorch of y and t)
LOSSES = {
    "mse": ("y", "numbers", rows_of(lambda y, t: (y - t) ** 2)),
    "half_mse": ("y", "numbers", lambda y, t: ((y - t) ** 2).sum(-1) / 2),
    "mae": ("y", "numbers", rows_of(lambda y, t: F.l1_loss(y, t, reduction="none"))),
    "huber": ("y", "numbers", rows_of(lambda y, t: F.huber_loss(y, t, reduction="none"))),
    "huber(delta = 0.25)": ("y", "numbers", rows_of(lambda y, t: F.huber_loss(y, t, reduction="none", delta=0.25))),
    "smooth_l1": ("y", "numbers", rows_of(lambda y, t: F.smooth_l1_loss(y, t, reduction="none"))),
    "smooth_l1(beta = 2)": ("y", "numbers", rows_of(lambda y, t: F.smooth_l1_loss(y, t, reduction="none", beta=2))),
    "log_cosh": ("y", "numbers", rows_of(lambda y, t: ELEMENTS["log_of_cosh"](y - t))),
    "quantile(q = 0.9)": ("y", "numbers", rows_of(lambda y, t: torch.maximum(0.9 * (t - y), -0.1 * (t - y)))),
    "poisson_nll": ("min(y, 20)", "counts", rows_of(lambda y, t: F.poisson_nll_loss(torch.minimum(y, torch.full_like(y, 20)), t, reduction="none"))),
    "gaussian_nll(variance = Net.s)": ("y; s = softplus(concat(y[3..5], y[0..2]))", "numbers", gaussian_nll),
    "cosine_distance": ("y", "numbers", cosine_distance),
    "bce": ("sigmoid(y)", "truths", rows_of(bce_of_sigmoid)),
    "bce ": ("min(max(y, 0), 1)", "shares", rows_of(lambda y, t: F.binary_cross_entropy(y, t, reduction="none"))),
    "bce_logits": ("y", "truths", rows_of(lambda y, t: F.binary_cross_entropy_with_logits(y, t, reduction="none"))),
    "bce_logits(pos_weight = 3)": ("y", "truths", rows_of(lambda y, t: F.binary_cross_entropy_with_logits(y, t, reduction="none", pos_weight=torch.tensor(3.0, dtype=torch.float64)))),
    "hinge": ("y", "truths", rows_of(lambda y, t: torch.relu(1 - (2 * t - 1) * y))),
    "cross_entropy": ("y", "classes", lambda y, t: F.cross_entropy(y, t, reduction="none")),
    f"cross_entropy(weight = {WEIGHT})": ("y", "classes", weighted),
    "cross_entropy(label_smoothing = 0.1)": ("y", "classes", smoothed),
    f"cross_entropy(weight = {WEIGHT}, label_smoothing = 0.2)": ("y", "classes", smoothed_weighted),
    "cross_entropy ": ("y", "mixtures", lambda y, t: F.cross_entropy(y, t, reduction="none")),
    "cross_entropy(label_smoothing = 0.1) ": ("y", "mixtures", smoothed),
    "nll": ("log_softmax(y)", "classes", lambda y, t: F.nll_loss(torch.log_softmax(y, -1), t, reduction="none")),
    "kl_div": ("log_softmax(y)", "mixtures", lambda y, t: F.kl_div(torch.log_softmax(y, -1), t, reduction="none").sum(-1)),
}


def single(values):
    """Numbers that float32 holds, in float64."""
    return torch.tensor(values, dtype=torch.float32).to(torch.float64)


def points(draw):
    values = SPECIAL + [draw.gauss(0, 1) for _ in range(60)] + [draw.gauss(0, 4) for _ in range(60)]
    return single(values + [draw.uniform(-40, 40) for _ in range(20)] + [draw.choice([-1, 1]) * 10 ** draw.uniform(-8, 4) for _ in range(32)])


def outputs(draw):
    """Rows of a model's output: ordinary, far apart, equal, ±1e4."""
    rows = []
    for i in range(ROWS):
        scale = (1, 1, 3, 10, 100, 1e4)[i % 6]
        row = [draw.gauss(0, 1) * scale for _ in range(WIDTH)]
        rows.append([0.0] * WIDTH if i == 7 else [scale] * WIDTH if i % 31 == 0 else row)
    return single(rows)


def targets(kind, y, draw):
    if kind == "classes":
        return torch.tensor([draw.randrange(WIDTH) for _ in range(ROWS)])
    if kind == "truths":
        return single([[draw.randrange(2) for _ in range(WIDTH)] for _ in range(ROWS)])
    if kind == "counts":
        return single([[draw.randrange(8) for _ in range(WIDTH)] for _ in range(ROWS)])
    if kind == "shares":
        return single([[draw.randrange(9) / 8 for _ in range(WIDTH)] for _ in range(ROWS)])
    if kind == "mixtures":  # some of them are certain
        rows = [[draw.randrange(0, 5) / 16 for _ in range(WIDTH - 1)] for _ in range(ROWS)]
        rows = [row if sum(row) <= 1 else [0.0] * (WIDTH - 1) for row in rows]
        return single([row + [1 - sum(row)] for row in rows])
    near = [[draw.gauss(0, 1) for _ in range(WIDTH)] for _ in range(ROWS)]
    near[3] = y[3].tolist()  # no error at all: the kink of mae
    return single([[round(v * 64) / 64 for v in row] if i != 3 else row for i, row in enumerate(near)])


def tensor(values):
    return list(values.shape), values.flatten().tolist()


def element_cases(cases, draw):
    x = points(draw)
    store = {"points": tensor(x)}
    for i, (name, function) in enumerate(ELEMENTS.items()):
        p = x.clone().requires_grad_()
        value = function(p)
        (gradient,) = torch.autograd.grad(value.sum(), p)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all(), name
        store[f"{i}.value"], store[f"{i}.gradient"] = tensor(value.detach()), tensor(gradient)
        cases["elements"].append(name)
    safetensors.write(FOLDER / "elements.safetensors", store, {"format": "pt"})


def vector_cases(cases, draw):
    x = outputs(draw)
    store = {"rows": tensor(x)}
    for i, (name, (width, function)) in enumerate(VECTORS.items()):
        cotangent = single([[draw.choice([-1, 1]) * draw.uniform(0.5, 1) for _ in range(width)] for _ in range(ROWS)])
        p = x.clone().requires_grad_()
        value = function(p)
        (gradient,) = torch.autograd.grad((value * cotangent).sum(), p)
        store[f"{i}.cotangent"], store[f"{i}.value"], store[f"{i}.gradient"] = tensor(cotangent), tensor(value.detach()), tensor(gradient)
        cases["vectors"].append(name)
    safetensors.write(FOLDER / "vectors.safetensors", store, {"format": "pt"})


def loss_cases(cases, draw):
    y = outputs(draw)
    store, kinds = {"rows": tensor(y)}, {}
    inside = single([[draw.uniform(1e-4, 1 - 1e-4) for _ in range(WIDTH)] for _ in range(ROWS)])
    store["inside"] = tensor(inside)
    for i, (name, (returned, kind, function)) in enumerate(LOSSES.items()):
        if kind not in kinds:
            kinds[kind] = targets(kind, y, draw)
            store[kind] = tensor(kinds[kind])
        p = (inside if kind == "shares" else y).clone().requires_grad_()
        value = function(p, kinds[kind])
        (gradient,) = torch.autograd.grad(value.sum(), p)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all(), name
        store[f"{i}.value"], store[f"{i}.gradient"] = tensor(value.detach()), tensor(gradient)
        cases["losses"].append({"loss": name.strip(), "output": returned, "target": kind})
    safetensors.write(FOLDER / "losses.safetensors", store, {"format": "pt"})


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    cases, draw = {"torch": torch.__version__.split("+")[0], "elements": [], "vectors": [], "losses": []}, random.Random("formulas")
    element_cases(cases, draw)
    vector_cases(cases, draw)
    loss_cases(cases, draw)
    (FOLDER / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
