#!/usr/bin/env python3
"""Golden values of examples/textbook, as PyTorch's autograd has them in float64: every value of the forward pass, the
derivative of the loss with respect to it, and each parameter before and after one update; and the loss in the last of 1000 updates. Writes ../explain/textbook.json.

    tests/reference/textbook.py        needs Debian's python3-torch; the tests that read the file do not
"""
import json
import pathlib

import torch

FILE = pathlib.Path(__file__).resolve().parent.parent / "explain" / "textbook.json"


UPDATES = 1000


def forward(parameters):
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    values, h = {}, x
    for i in (1, 2, 3):
        values[f"z_{i}"] = parameters[f"w_{i}"] * h + parameters[f"b_{i}"]
        h = values[f"h_{i}"] = torch.sigmoid(values[f"z_{i}"])
    values["ℓ"] = ((h - y) ** 2).sum() / 2
    values["L"] = values["ℓ"]
    return values


def main():
    torch.set_default_dtype(torch.float64)
    parameters = {f"{letter}_{i}": torch.tensor([0.1, 0.2], requires_grad=True) for i in (1, 2, 3) for letter in "wb"}
    values = forward(parameters)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.01)
    for value in values.values():
        value.retain_grad()
    before = {name: value.tolist() for name, value in parameters.items()}
    values["L"].backward()
    gradients = {name: value.grad.tolist() for name, value in parameters.items()}
    deltas = {f"δ_{i}": values[f"z_{i}"].grad.tolist() for i in (1, 2, 3)}
    optimizer.step()
    golden = {"forward": {name: value.tolist() for name, value in values.items()}, "deltas": deltas, "gradients": gradients,
              "before": before, "after": {name: value.tolist() for name, value in parameters.items()}}
    for _ in range(UPDATES - 1):
        optimizer.zero_grad()
        last = forward(parameters)["L"]
        last.backward()
        optimizer.step()
    golden["last_loss"] = last.item()
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


main()
