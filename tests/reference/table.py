#!/usr/bin/env python3
"""Writes ../agree/table.csv: 322 made-up rows of 19 numbers, a category, a price and a label that depend on them."""
import math
import pathlib
import random

draw = random.Random(2)
lines = [",".join([f"x{i}" for i in range(19)] + ["kind", "price", "label"])]
for _ in range(322):
    x = [round(draw.gauss(0, 1 + i % 4), 3) for i in range(19)]
    kind = draw.choice(["oak", "elm", "yew"])
    price = round(100 * math.exp(0.3 * x[0] - 0.2 * x[5] + (0.5 if kind == "oak" else 0)), 2)
    label = "abcd"[int(x[1] > 0) + 2 * int(x[2] + x[3] > 0.5)]
    lines.append(",".join([f"{value:g}" for value in x] + [kind, f"{price:.2f}", label]))
(pathlib.Path(__file__).resolve().parent.parent / "agree" / "table.csv").write_text("\n".join(lines) + "\n")
