#!/usr/bin/env python3
"""What bpc is measured beside: a training step, or the prediction of one row, of a dense ReLU network in PyTorch, or a
step of one of the networks below that have a name.

    peer_torch.py WIDTHS|NAME BATCH sgd|adam mse|cross_entropy STEPS THREADS
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


# ---- Networks with a name: what takes a batch through a step ----------------------------------------------------------
class Residual(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.fc1, self.fc2 = torch.nn.LayerNorm(width), torch.nn.Linear(width, width), torch.nn.Linear(width, width)

    def forward(self, x):
        return x + self.fc2(torch.nn.functional.gelu(self.fc1(self.norm(x))))


def minimize(optimizer, loss):
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=[p for group in optimizer.param_groups for p in group["params"]])
    optimizer.step()


def residual(batch):
    model = torch.nn.Sequential(*(Residual(256) for _ in range(20)), torch.nn.Linear(256, 16))
    optimizer = torch.optim.AdamW(model.parameters())
    x, t = torch.randn(8, batch, 256), torch.randn(8, batch, 16)
    return lambda turn: minimize(optimizer, torch.nn.functional.mse_loss(model(x[turn]), t[turn]))


def recommender(batch):
    """Dense gradients: Adam's formula moves every row at every step, and SparseAdam, which does not, is another one."""
    users, items = torch.nn.Embedding(100000, 32), torch.nn.Embedding(100000, 32)
    optimizer = torch.optim.Adam([*users.parameters(), *items.parameters()])
    u, v, t = torch.randint(100000, (8, batch)), torch.randint(100000, (8, batch)), torch.randn(8, batch)
    return lambda turn: minimize(optimizer, torch.nn.functional.mse_loss((users(u[turn]) * items(v[turn])).sum(1), t[turn]))


def gan(batch):
    nn, bce = torch.nn, torch.nn.functional.binary_cross_entropy_with_logits
    g = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 784), nn.Tanh())
    d = nn.Sequential(nn.Linear(784, 128), nn.LeakyReLU(), nn.Linear(128, 1))
    of_g, of_d = (torch.optim.Adam(model.parameters(), 2e-4, (0.5, 0.999)) for model in (g, d))
    x, real, fake, count = torch.randn(8, batch, 784), torch.ones(batch, 1), torch.zeros(batch, 1), 0

    def step(turn):
        nonlocal count
        count += 1
        z = torch.randn(batch, 64)
        minimize(of_d, bce(d(x[turn]), real) + bce(d(g(z).detach()), fake))
        if count % 5 == 0:
            minimize(of_g, bce(d(g(z)), real))

    return step


def dropout(batch):
    model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters())
    x, t = torch.randn(8, batch, 784), torch.randint(10, (8, batch))

    def step(turn):
        penalty = model[0].weight.square().sum() + model[3].weight.square().sum()
        minimize(optimizer, torch.nn.functional.cross_entropy(model(x[turn]), t[turn]) + 1e-4 * penalty)

    return step


NAMED = {"w13": residual, "w14": recommender, "w15": gan, "w16": dropout}


def train_named(name, batch, steps):
    step, turn = NAMED[name](batch), 0

    def work():
        nonlocal turn
        turn = (turn + 1) % 8
        step(turn)

    return {"us_per_step": best_of_five(work, steps) * 1e6, "threads": torch.get_num_threads()}


def predict(widths, times):
    row = torch.randn(1, widths[0])
    with torch.no_grad():
        model = torch.jit.freeze(torch.jit.trace(network(widths).eval(), row))
        return {"ns_per_row": best_of_five(lambda: model(row), times) * 1e9}


if __name__ == "__main__":
    words = sys.argv[1:]
    torch.manual_seed(0)
    widths = [int(width) for width in words[0].split("-")] if words[0] not in NAMED else None
    if not widths:
        torch.set_num_threads(int(words[5]))
        print(json.dumps(train_named(words[0], int(words[1]), int(words[4]))))
    elif words[1] == "predict":
        torch.set_num_threads(1)
        print(json.dumps(predict(widths, int(words[2]))))
    else:
        torch.set_num_threads(int(words[5]))
        print(json.dumps(train(widths, int(words[1]), words[2], words[3], int(words[4]))))
