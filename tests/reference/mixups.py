#!/usr/bin/env python3
"""Golden trajectories with mixup: what PyTorch makes of 200 updates where each row of a batch is mixed with the next one, the
last with the first, as the authors' program does it with rows of a random order. Writes ../golden/mixup-*/ anew.

    tests/reference/mixups.py          needs Debian's python3-torch; the tests that read them do not

The share of each batch is a draw of bpc's: Philox4x32-10 as its paper has it, keyed by the update, then a t distribution
made a symmetric beta. That it is Beta(alpha, alpha) is tested by moments, beside this.
"""
import math

import torch

import trajectories

WORD = 0xFFFFFFFF


def stream(name):
    """FNV-1a"""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 & WORD
    return value


def uniform(name, step):
    """Of seed 0: the first word of ten rounds, 24 bits of it."""
    counter, key = [0, 0, step, stream(name)], [0, 0]
    for _ in range(10):
        left, right = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [right >> 32 ^ counter[1] ^ key[0], right & WORD, left >> 32 ^ counter[3] ^ key[1], left & WORD]
        key = [key[0] + 0x9E3779B9 & WORD, key[1] + 0xBB67AE85 & WORD]
    return (counter[0] >> 8) / 2**24


def share(alpha, step):
    """Bailey, 1994: cos(2 pi v) sqrt(2 alpha (u^(-1/alpha) - 1)) is Student's t with 2 alpha degrees of freedom."""
    u, v = 1 - uniform("mixup, draw 0", step), uniform("mixup, draw 1", step)
    t = math.sqrt(u ** (-1 / alpha) - 1) * math.cos(2 * math.pi * v)
    return (1 + t / math.sqrt(1 + t * t)) / 2


class Mixed(trajectories.Case):
    def __init__(self, alpha, *more, **options):
        self.alpha = alpha
        super().__init__(*more, **options)

    def loss_of(self, step, rows, weights, x, t):
        batch = sorted(rows)
        after = dict(zip(batch, batch[1:] + batch[:1]))
        partners, own = [after[row] for row in rows], share(self.alpha, step)
        y = self.output(weights, own * x[rows] + (1 - own) * x[partners])
        loss = trajectories.LOSSES[self.loss]
        return own * loss(y, t[rows]) + (1 - own) * loss(y, t[partners])

    def program(self):
        return super().program().replace("    shuffle    none\n", f"    shuffle    none\n    augment    mixup(alpha = {self.alpha})\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    Mixed(0.2, "mixup-cross_entropy", "tanh", "cross_entropy", "adam", 2, 3).write()
    Mixed(1, "mixup-mse", "relu", "mse", "momentum", 3, 2).write()
    Mixed(8, "mixup-bce_logits", "sigmoid", "bce_logits", "sgd", 2, 4).write()
