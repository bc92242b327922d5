#!/usr/bin/env python3
"""Writes tests/unit/plateau_cases.h: the rates that PyTorch's ReduceLROnPlateau makes of sequences of measured values.

    /usr/bin/python3 tests/reference/plateau.py

Debian's python3-torch. A case is the options, the values of the epochs, and the rate after each.
"""
import pathlib
import random

import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "unit" / "plateau_cases.h"
EPOCHS = 60
CASES = [  # start, mode, factor, patience, threshold, cooldown, least
    (1e-3, "min", 0.1, 10, 1e-4, 0, 0.0),
    (0.1, "min", 0.5, 2, 1e-2, 0, 0.0),
    (0.1, "min", 0.7, 0, 0.0, 3, 1e-3),
    (1.0, "max", 0.3, 1, 0.05, 1, 0.01),
    (0.3, "max", 0.9, 3, 1e-4, 5, 0.0),
    (2e-8, "min", 0.1, 0, 1e-4, 0, 0.0),
    (0.05, "min", 0.0, 4, 1e-3, 2, 0.01),
]


def values(draw, i):
    value, out = 1.0, []
    for epoch in range(EPOCHS):
        value *= draw.choice([0.9, 0.99, 0.9999, 1.0, 1.0, 1.01, 1.05])
        out.append(float("nan") if i == 1 and epoch == 20 else -value if i == 4 else value)
    return out


def number(v):
    return "NAN" if v != v else v.hex()


def main():
    draw = random.Random("plateau")
    rows = []
    for i, (start, mode, factor, patience, threshold, cooldown, least) in enumerate(CASES):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], start)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor, patience, threshold, "rel", cooldown, least)
        seen, rates = values(draw, i), []
        for value in seen:
            schedule.step(value)
            rates.append(optimizer.param_groups[0]["lr"])
        print(f"case {i}: {len(set(rates))} rates, the last {rates[-1]:.3g}")
        rows.append("    {{.start = %s, .better = %d, .factor = %s, .patience = %d, .threshold = %s, .cooldown = %d, .least = %s},\n     {%s},\n     {%s}},\n" % (
            number(start), 1 if mode == "max" else -1, number(factor), patience, number(threshold), cooldown, number(least),
            ", ".join(map(number, seen)), ", ".join(map(number, rates))))
    OUT.write_text(f"/* Made by tests/reference/plateau.py with torch {torch.__version__.split('+')[0]}: do not edit. */\n"
                   f"enum {{ PLATEAU_EPOCHS = {EPOCHS} }};\n\n"
                   "static const struct plateau_case {\n    struct bp_plateau plateau;\n    double values[PLATEAU_EPOCHS], rates[PLATEAU_EPOCHS];\n"
                   "} plateau_cases[] = {\n" + "".join(rows) + "};\n")


if __name__ == "__main__":
    main()
