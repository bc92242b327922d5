#!/usr/bin/env python3
"""Golden trajectories of models that look rows of weights up: embeddings of categories (one of them unknown), a layer on a
category, a layer on the words of a text. Writes ../golden/lookup-*/ anew; PyTorch computes them as dense products.

    tests/reference/lookups.py          needs Debian's python3-torch; the tests that read them do not
"""
import random

import torch

import trajectories

COLOURS = ["amber", "blue", "green", "red", "white"]
WORDS = "the of and one two three four five six seven".split()


class Lookup(trajectories.Case):
    def __init__(self, name, optimizer, rows, batch):
        self.name, self.optimizer, self.rows, self.batch = name, optimizer, rows, batch
        self.rate, self.dtype, self.widths = trajectories.RATES.get(optimizer, 0), "F32", [1]  # others have their own
        draw = random.Random(name)
        self.texts = [[draw.choice(WORDS[: 3 + i % 8]) for _ in range(draw.randrange(1, 9))] for i in range(rows)]
        # a row for each colour but white, which is unknown
        self.colours = [draw.choice(COLOURS) for _ in range(rows)]
        self.others = [draw.choice(COLOURS[:4]) for _ in range(rows)]
        self.targets = [round(draw.gauss(0, 1) + ("one" in t) - 2 * (c == "red"), 3) for t, c in zip(self.texts, self.colours)]
        self.weights = {}
        for tensor, shape in self.shapes().items():
            values = [draw.uniform(-0.6, 0.6) for _ in range(shape[0] * (shape[1] if len(shape) > 1 else 1))]
            self.weights[tensor] = torch.tensor(values, dtype=torch.float32).reshape(shape)

    def run(self, dtype, order=None):
        weights = {name: value.to(dtype).clone().requires_grad_() for name, value in self.weights.items()}
        optimizer = self.torch_optimizer(list(weights.values()))
        inputs, t, losses = self.inputs(dtype), torch.tensor(self.targets, dtype=dtype), []
        for rows in self.batches():
            if order:
                order.shuffle(rows)
            loss = torch.nn.functional.mse_loss(self.forward(weights, [x[rows] for x in inputs]), t[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, {name: weight.detach().to(torch.float64) for name, weight in weights.items()}

    def optimizer_line(self):
        if self.optimizer in trajectories.MORE_OPTIMIZERS:
            return trajectories.MORE_OPTIMIZERS[self.optimizer][0]
        return trajectories.OPTIMIZERS[self.optimizer][0].format(lr=self.rate)

    def torch_optimizer(self, weights):
        if self.optimizer in trajectories.MORE_OPTIMIZERS:
            return trajectories.MORE_OPTIMIZERS[self.optimizer][1](weights)
        return trajectories.OPTIMIZERS[self.optimizer][1](weights, self.rate)

    def program(self):
        return "\n".join(
            ["bpc 1", "", "data table {", '    file   "data.csv"', *self.lines(), "    target y", "}", "", *self.model(), "",
             'model Net = Base from "init.safetensors" { }', "", "finetune Net on table {", "    loss       mse",
             f"    optimizer  {self.optimizer_line()}",
             f"    epochs     {self.epochs()}", f"    batch_size {self.batch}", "    shuffle    none", "}", "",
             'save Net to "final.safetensors"', ""])

    def table(self):
        rows = zip(self.texts, self.colours, self.others, self.targets)
        return "text,colour,other,y\n" + "".join(f'"{" ".join(t)}.",{c},{o},{y:g}\n' for t, c, o, y in rows)


class Embeddings(Lookup):
    def shapes(self):
        return {"u.weight": (4, 3), "v.weight": (4, 3)}

    def inputs(self, dtype):
        hot = lambda values: torch.tensor([[float(v == c) for c in COLOURS[:4]] for v in values], dtype=dtype)
        return [hot(self.colours), hot(self.others)]

    def forward(self, w, x):
        return ((x[0] @ w["u.weight"]) * (x[1] @ w["v.weight"])).sum(1)

    def lines(self):
        names = ", ".join(f'"{c}"' for c in COLOURS[:4])
        return [f"    input  user = colour : category({names}), unknown = zero", "    input  item = other : category"]

    def model(self):
        return ["model Base(user, item) {", "    u = embedding(user, 3)", "    v = embedding(item, 3)", "    y = sum(u * v)",
                "    return y", "}"]


class Tables(Lookup):
    """One table of many more rows than a batch reads, and one of few; most rows are read again only after many steps."""
    people, things = 100, 20

    def __init__(self, *arguments):
        super().__init__(*arguments)
        draw = random.Random(self.name + " rows")
        self.colours = [int(self.people * draw.random() ** 2) for _ in range(self.rows)]
        self.others = [draw.randrange(self.things) for _ in range(self.rows)]

    def shapes(self):
        return {"u.weight": (self.people, 3), "v.weight": (self.things, 3)}

    def inputs(self, dtype):
        return [torch.nn.functional.one_hot(torch.tensor(x), n).to(dtype)
                for x, n in [(self.colours, self.people), (self.others, self.things)]]

    def forward(self, w, x):
        return ((x[0] @ w["u.weight"]) * (x[1] @ w["v.weight"])).sum(1)

    def lines(self):
        return [f"    input  user = colour : category({self.people})", f"    input  item = other : category({self.things})"]

    def model(self):
        return ["model Base(user, item) {", "    u = embedding(user, 3)", "    v = embedding(item, 3)", "    y = sum(u * v)",
                "    return y", "}"]


class Category(Lookup):
    def shapes(self):
        return {"fc1.weight": (5, 5), "fc1.bias": (5,), "fc2.weight": (1, 5), "fc2.bias": (1,)}

    def inputs(self, dtype):
        return [torch.tensor([[float(v == c) for c in COLOURS] for v in self.colours], dtype=dtype)]

    def forward(self, w, x):
        h = torch.tanh(torch.nn.functional.linear(x[0], w["fc1.weight"], w["fc1.bias"]))
        return torch.nn.functional.linear(h, w["fc2.weight"], w["fc2.bias"]).flatten()

    def lines(self):
        return ["    input  colour : category"]

    def model(self):
        return ["model Base(x) {", "    fc1 = dense(x, 5, tanh)", "    fc2 = dense(fc1, 1)", "    return fc2", "}"]


class Text(Category):
    """The most frequent words, more frequent ones first, equally frequent ones by their bytes."""
    counted, size, distinct = True, 8, ""

    def vocabulary(self):
        every = [word for text in self.texts for word in text]
        return sorted(set(every), key=lambda word: (-every.count(word), word))[: self.size]

    def shapes(self):
        return {"fc1.weight": (5, self.size), "fc1.bias": (5,), "fc2.weight": (1, 5), "fc2.bias": (1,)}

    def inputs(self, dtype):
        count = (lambda n: float(n)) if self.counted else (lambda n: float(n > 0))
        return [torch.tensor([[count(t.count(word)) for word in self.vocabulary()] for t in self.texts], dtype=dtype)]

    def lines(self):
        return [f"    input  x = text : text(vocabulary = {self.size}{', counts' if self.counted else ''}{self.distinct})", "    refit"]


class Presence(Text):
    counted = False


class Words(Text):
    """Many more words than a batch has: most are read again only after many steps."""
    size, distinct = 40, ", distinct = 5"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        draw = random.Random(self.name + " texts")
        self.texts = [[f"w{int(50 * draw.random() ** 2)}" for _ in range(draw.randrange(1, 6))] for _ in range(self.rows)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    Embeddings("lookup-embeddings", "adam", 30, 4).write()
    Category("lookup-category", "momentum", 23, 5).write()
    for optimizer in ["sgd", "adagrad", "momentum", "adam", "amsgrad", "nadam", "lion"]:
        Tables(f"lookup-tables-{optimizer}", optimizer, 119, 3).write()
    Text("lookup-text-counts", "adam", 26, 7).write()
    for optimizer in ["adagrad", "adam"]:
        Words(f"lookup-words-{optimizer}", optimizer, 119, 3).write()
    Presence("lookup-text-presence", "sgd", 23, 16).write()
