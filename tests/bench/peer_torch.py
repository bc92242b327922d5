#!/usr/bin/env python3
"""What bpc is measured beside: a training step, or the prediction of one row, of a dense ReLU network in PyTorch.

    peer_torch.py WIDTHS BATCH sgd|adam mse|cross_entropy STEPS THREADS
    peer_torch.py WIDTHS predict ROWS

Rows lie in memory; one JSON object is printed, in the words of `--bench`. The time is the best of five rounds, after a
warm-up. Predicting goes through TorchScript, frozen, which is PyTorch's fastest road for a single row.
"""
import json
import sys
import time

import torch


def network(widths):
    layers = []
    for fan_in, width in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(fan_in, width), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def best_of_five(work, times):
    for _ in range(3):
        work()
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - start) / times)
    return min(rounds)


def train(widths, batch, optimizer, loss, steps):
    model = network(widths)
    update = torch.optim.SGD(model.parameters(), lr=0.01) if optimizer == "sgd" else torch.optim.Adam(model.parameters())
    measure = torch.nn.MSELoss() if loss == "mse" else torch.nn.CrossEntropyLoss()
    rows = [torch.randn(batch, widths[0]) for _ in range(8)]
    if loss == "mse":
        targets = [torch.randn(batch, widths[-1]) for _ in range(8)]
    else:
        targets = [torch.randint(widths[-1], (batch,)) for _ in range(8)]
    turn = 0

    def step():
        nonlocal turn
        turn = (turn + 1) % 8
        update.zero_grad(set_to_none=True)
        measure(model(rows[turn]), targets[turn]).backward()
        update.step()

    seconds = best_of_five(step, steps)
    return {"us_per_step": seconds * 1e6, "threads": torch.get_num_threads()}


def predict(widths, times):
    row = torch.randn(1, widths[0])
    with torch.no_grad():
        model = torch.jit.freeze(torch.jit.trace(network(widths).eval(), row))
        return {"ns_per_row": best_of_five(lambda: model(row), times) * 1e9}


if __name__ == "__main__":
    words = sys.argv[1:]
    torch.manual_seed(0)
    widths = [int(width) for width in words[0].split("-")]
    if words[1] == "predict":
        torch.set_num_threads(1)
        print(json.dumps(predict(widths, int(words[2]))))
    else:
        torch.set_num_threads(int(words[5]))
        print(json.dumps(train(widths, int(words[1]), words[2], words[3], int(words[4]))))
