#!/usr/bin/env python3
"""Golden schedules: the rates of 120 updates, four an epoch, as PyTorch's torch.optim.lr_scheduler has them. Writes
../golden/schedules.json anew.

    tests/reference/schedules.py        needs Debian's python3-torch; the tests that read the file do not
"""
import json
import pathlib
import warnings

import torch
from torch.optim import lr_scheduler as L

PATH = pathlib.Path(__file__).resolve().parent.parent / "golden" / "schedules.json"
STEPS, PER_EPOCH = 120, 4
BY_EPOCH, BY_STEP = PER_EPOCH, 1
# bpc: (PyTorch's first rate, the scheduler, updates between its steps)
SCHEDULES = {
    "step_decay(start = 0.5, every = 7)": (0.5, lambda o: L.StepLR(o, 7), BY_EPOCH),
    "step_decay(start = 0.5, every = 3, gamma = 0.7)": (0.5, lambda o: L.StepLR(o, 3, 0.7), BY_EPOCH),
    "exponential(start = 0.1, gamma = 0.9)": (0.1, lambda o: L.ExponentialLR(o, 0.9), BY_EPOCH),
    "cosine(start = 1e-3)": (1e-3, lambda o: L.CosineAnnealingLR(o, STEPS), BY_STEP),
    "cosine(start = 0.1, end = 0.02, over = 90)": (0.1, lambda o: L.SequentialLR(o, [L.CosineAnnealingLR(o, 90, 0.02), L.ConstantLR(o, 0.2, 1000)], [91]), BY_STEP),
    "cosine_restarts(start = 0.1, period = 30, end = 0.01)": (0.1, lambda o: L.CosineAnnealingWarmRestarts(o, 30, eta_min=0.01), BY_STEP),
    "linear(start = 0.2, end = 0.05, over = 100)": (0.2, lambda o: L.LinearLR(o, 1, 0.25, 100), BY_STEP),
    "polynomial(start = 0.3, power = 2, over = 60)": (0.3, lambda o: L.LambdaLR(o, lambda t: (1 - min(t / 60, 1)) ** 2), BY_STEP),
    "0.4 * linear_warmup(25)": (0.4, lambda o: L.LinearLR(o, 1 / 25, 1, 24), BY_STEP),
    "inverse_sqrt(most = 0.1, warmup = 16)": (0.1, lambda o: L.LambdaLR(o, lambda t: min((t + 1) / 16, (16 / (t + 1)) ** 0.5)), BY_STEP),
    "cyclic(low = 0.01, high = 0.1, half = 12)": (0.01, lambda o: L.CyclicLR(o, 0.01, 0.1, 12, cycle_momentum=False), BY_STEP),
    "one_cycle(most = 0.1)": (0.1, lambda o: L.OneCycleLR(o, 0.1, STEPS, cycle_momentum=False), BY_STEP),
    "one_cycle(most = 0.5, rise = 0.4, div_factor = 10, final_div_factor = 100)":
        (0.5, lambda o: L.OneCycleLR(o, 0.5, STEPS, pct_start=0.4, div_factor=10, final_div_factor=100, cycle_momentum=False), BY_STEP),
}


def rates(first, make, every):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], first)
    scheduler, found = make(optimizer), []
    for step in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < STEPS:
            scheduler.step()
    return [float(f"{rate:.12g}") for rate in found]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    golden = {"torch": torch.__version__.split("+")[0], "steps": STEPS, "steps_per_epoch": PER_EPOCH,
              "rates": {name: rates(*how) for name, how in SCHEDULES.items()}}
    PATH.write_text(json.dumps(golden, separators=(",", ":")).replace('],"', '],\n"') + "\n")
