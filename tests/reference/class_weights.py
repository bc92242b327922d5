#!/usr/bin/env python3
"""Golden trajectories with class weights: what PyTorch makes of 200 updates where a row's loss is multiplied by the weight
of its class, and the sum is divided by the number of rows in the batch. Writes ../golden/class-weight-*/ anew.

    tests/reference/class_weights.py          needs Debian's python3-torch; the tests that read them do not

PyTorch's own `weight` of cross_entropy divides by the sum of the weights instead, so reduction="none" is weighed here.
"""
import torch

import trajectories


class Weighed(trajectories.Case):
    def __init__(self, name, weights, *more, **options):
        self.class_weights = weights  # None: balanced
        super().__init__(name, *more, **options)

    def labels(self):
        return torch.tensor([t[0] if isinstance(t, list) else t for t in self.targets])

    def weights_of_classes(self, dtype):
        if self.class_weights is None:
            counts = torch.bincount(self.labels()).to(torch.float64)
            return (self.rows / (len(counts) * counts)).to(dtype)
        return torch.tensor(self.class_weights, dtype=dtype)

    def run(self, dtype, order=None):
        weights, plain = self.weights_of_classes(dtype), trajectories.LOSSES[self.loss]

        def weighed(y, t):
            rows = plain(y, t, reduction="none")
            return (rows.flatten() * weights[t.flatten().long()]).sum() / len(t)

        trajectories.LOSSES[self.loss] = weighed
        result = super().run(dtype, order)
        trajectories.LOSSES[self.loss] = plain
        return result

    def program(self):
        weights = "balanced" if self.class_weights is None else str(self.class_weights)
        text = super().program().replace("    shuffle    none\n", f"    shuffle    none\n    class_weight {weights}\n")
        return text.replace("    target y\n", "    target y : binary(1)\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    Weighed("class-weight-balanced", None, "tanh", "cross_entropy", "adam", 2, 3).write()
    Weighed("class-weight-given", [0.5, 3], "relu", "bce_logits", "sgd", 3, 1, outputs=1).write()
    Weighed("class-weight-zero", [1, 0, 2], "sigmoid", "cross_entropy", "momentum", 2, 0).write()
