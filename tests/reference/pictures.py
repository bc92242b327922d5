#!/usr/bin/env python3
"""What PyTorch reaches on the pictures of examples/digits, in the settings of its autoencoder.bp, denoising.bp and vae.bp; three
seeds, each with a split of its own. tests/groups/results.py holds the figures to compare with.

    tests/reference/pictures.py        needs Debian's python3-torch
"""
import math
import pathlib

import torch
import torch.nn as nn
import torch.nn.functional as F

FILE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits-images.idx"


def train(parameters, loss, rows, epochs=60, batch=32):
    optimizer = torch.optim.Adam(parameters, 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(rows) // batch))
    for _ in range(epochs):
        for part in rows[torch.randperm(len(rows))].split(batch):
            optimizer.zero_grad()
            loss(part).backward()
            optimizer.step()
            schedule.step()


def chain(*widths):
    return [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]


def apply(layers, x):
    for layer in layers[:-1]:
        x = F.relu(layer(x))
    return layers[-1](x)


def weights(*layers):
    return [weight for layer in layers for weight in layer.parameters()]


def main():
    torch.set_num_threads(1)
    images = torch.tensor(list(FILE.read_bytes()[16:]), dtype=torch.float32).reshape(-1, 196) / 255
    for seed in range(3):
        torch.manual_seed(seed)
        order = torch.randperm(len(images))
        rows, rest = images[order[:960]], images[order[960:]]
        middle = rows.mean(0)
        directions = torch.linalg.svd(rows - middle, full_matrices=False)[2][:16]
        components = ((rest - middle) - (rest - middle) @ directions.T @ directions).pow(2).mean().item()
        net = chain(196, 128, 32, 128, 196)
        denoised = lambda x: F.mse_loss(torch.sigmoid(apply(net, x + 0.5 * torch.randn_like(x))), x)
        train(weights(*net), denoised, rows)
        hidden, mean, logvar, decoder = nn.Linear(196, 128), nn.Linear(128, 8), nn.Linear(128, 8), chain(8, 128, 196)

        def bound(x):
            h = F.relu(hidden(x))
            mu, lv = mean(h), logvar(h)
            pixels = apply(decoder, mu + torch.randn_like(mu) * (lv / 2).exp())
            wrong = F.binary_cross_entropy_with_logits(pixels, x, reduction="none").sum(1)
            return (wrong - 0.5 * (1 + lv - mu**2 - lv.exp()).sum(1)).mean()

        train(weights(hidden, mean, logvar, *decoder), bound, rows)
        with torch.no_grad():
            mean_of = lambda loss: sum(loss(rest).item() for _ in range(20)) / 20
            print(f"16 principal components {components:.4f}, denoising {mean_of(denoised):.4f}, variational bound {mean_of(bound):.2f}")


if __name__ == "__main__":
    main()
