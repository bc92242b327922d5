"""The examples reach what they promise, and what surrounds a training holds: checkpoints, predictions, options."""
import collections
import csv
import functools
import itertools
import json
import math
import pathlib
import random
import re
import statistics
import struct

from commands import ROOT, TESTS, copied, examples, expect, in_order
from reference import safetensors

IRIS = ROOT / "examples" / "iris"
TUTORIAL = ROOT / "examples" / "tutorial"
XOR = ROOT / "examples" / "xor"
DIGITS = ROOT / "examples" / "digits"
PENGUINS = ROOT / "examples" / "penguins"


def train(build, place, source, *options):
    """Compiles and runs a program; the events of its log."""
    name = source.removesuffix(".bp")
    if not (place / name).exists():
        build.compile(source, name, cwd=place)
    build.succeed([f"./{name}", "--quiet", "--log", f"{name}.jsonl", *options], cwd=place)
    return [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]


def of_kind(events, kind):
    return [event for event in events if event["event"] == kind]


# ---- The examples ---------------------------------------------------------------------------------------------------


def iris_learns(build):
    with copied(IRIS) as place:
        for seed in (0, 3, 4):
            events = train(build, place, "iris.bp", "--seed", seed)
            epochs, (test,) = of_kind(events, "epoch"), of_kind(events, "evaluate")
            expect(len(epochs) >= 5 and epochs[-1]["loss"] < 0.5 * epochs[0]["loss"], f"seed {seed}: the loss does not fall")
            expect({"loss", "val_loss", "val_accuracy", "seconds"} <= set(epochs[0]), f"an epoch's event holds {epochs[0]}")
            expect(test["split"] == "test" and test["rows"] in range(21, 25), f"the test split is {test}")
            expect(test["accuracy"] >= 0.93, f"seed {seed}: test accuracy {test['accuracy']:.3f}, below 0.93")
            matrix = test["confusion_matrix"]
            right, rows = sum(matrix[i][i] for i in range(3)), sum(map(sum, matrix))
            expect(rows == test["rows"], f"the confusion matrix counts {rows} rows")
            expect(abs(right / rows - test["accuracy"]) < 1e-6, "accuracy is not the confusion matrix's")
            expect(abs(macro_f1(matrix) - test["f1"]) < 1e-6, "f1 is not the confusion matrix's")


def macro_f1(matrix):
    scores = []
    for i in range(len(matrix)):
        named = sum(matrix[i]) + sum(row[i] for row in matrix)
        scores += [2 * matrix[i][i] / named] if named else []
    return sum(scores) / len(scores)


def finetune_learns(build):
    with copied(IRIS) as place:
        train(build, place, "iris.bp")
        events = train(build, place, "finetune.bp")
        (test,) = of_kind(events, "evaluate")
        expect(test["accuracy"] >= 0.9, f"test accuracy {test['accuracy']:.3f}, below 0.9")
        phases = {event["phase"] for event in of_kind(events, "epoch")}
        expect(phases == {"head", "all"}, f"the phases are {phases}")
        before, old = safetensors.read(place / "iris.safetensors")
        after, new = safetensors.read(place / "pairs.safetensors")
        expect(after["fc2.weight"][0] == [2, 16], "the new head has not two outputs")
        expect(before["fc1.weight"] != after["fc1.weight"], "the second phase leaves fc1 as it was")
        ours, theirs = (json.loads(file["bpc.preprocessing"]) for file in (new, old))
        inputs = ("sepal_length", "sepal_width", "petal_length", "petal_width")
        expect(all(ours[name] == theirs[name] for name in inputs), "the preprocessing is not the checkpoint's")


def frozen_layer_stays(build):
    """The head alone: fc1 keeps its bits, and there is no code for its gradient."""
    with copied(IRIS) as place:
        train(build, place, "iris.bp")
        train(build, place, "finetune.bp", "--phase", "head")
        before, after = safetensors.read(place / "iris.safetensors")[0], safetensors.read(place / "pairs.safetensors")[0]
        expect(before["fc1.weight"] == after["fc1.weight"] and before["fc1.bias"] == after["fc1.bias"], "fc1 is frozen, and changed")
        said = build.succeed([build.bpc, "--emit=gradient", "finetune.bp"], cwd=place).out
        head, both = (re.search(rf"^{phase}: .*?(?=^\w|\Z)", said, re.MULTILINE | re.DOTALL) for phase in ("head", "all"))
        expect(head and both, "--emit=gradient does not show the phases head and all")
        expect("d_fc2.weight" in head[0] and "d_fc1" not in head[0], "fc1 is frozen in 'head', and has a gradient")
        expect("d_fc1.weight" in both[0], "fc1 is trained in 'all', and has no gradient")


def one_layer_from_a_file(build):
    """A table made elsewhere, a file of one tensor and no metadata, is where one layer starts; the other is fresh."""
    table = [[(7 * row - 3 * column) / 8 for column in range(4)] for row in range(3)]
    program = """bpc 1
data words { columns word, value; rows ["a", 1], ["b", 2], ["c", 4], ["a", 0], ["c", 3]; input word : category("a", "b", "c"); target value }
model Base(word) { table = embedding(word, 4); y = dense(table, 1); return y }
model Net = Base from "table.safetensors" { replace y = dense(table, 1) }
finetune Net on words { loss mse; freeze table; optimizer sgd(lr = 0.01); epochs 5 }
save Net to "net.safetensors"
"""
    with copied() as place:
        (place / "case.bp").write_text(program)
        head = json.dumps({"table.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}).encode()
        (place / "table.safetensors").write_bytes(
            struct.pack("<Q", len(head)) + head + struct.pack("<12f", *(value for row in table for value in row)))
        train(build, place, "case.bp")
        saved, _ = safetensors.read(place / "net.safetensors")
        expect(saved["table.weight"][0] == [3, 4], f"the table has the shape {saved['table.weight'][0]}")
        expect(list(saved["table.weight"][1]) == [value for row in table for value in row], "the table is not the file's")
        expect(any(saved["y.weight"][1]), "the other layer is not fresh")


TRUNK = """bpc 1
data iris {{
    file    "iris.csv"
    input   sepal_length, sepal_width, petal_length, petal_width : standardize
    target  species : category
    split   train = 0.7, validation = 0.2, test = 0.1, stratify = species
}}
model Net(x) {{
    fc1 = dense({x}, 24, gelu)
    fc2 = dense(concat(fc1, x), 37, relu)
    norm = batch_norm(fc2)
    fc3 = dense(norm, 9, tanh)
    fc4 = dense(concat(fc3, norm), classes(iris.species))
    return fc4
}}
train Net on iris as trunk {{ loss cross_entropy; optimizer adam(lr = 0.01); epochs 3; batch_size 16 }}
train Net on iris as head {{
    loss       cross_entropy
    metrics    accuracy
    freeze     {freeze}
    {statistics}
    optimizer  adam(lr = 0.01)
    l2         1e-3
    epochs     9
    batch_size 16
    checkpoint "head.state", every = 1
}}
save Net to "net.safetensors"
"""


def trunk(place, name, freeze="fc1, fc2", x="x", statistics=""):
    (place / name).write_text(TRUNK.format(x=x, freeze=freeze, statistics=statistics))


def trunk_trained(build, place, source, *options):
    """What was kept, as (whether, bytes); losses and metrics of every epoch; the weights."""
    events = train(build, place, source, "--seed", 3, *options)
    keeps = [(event["kept"], event["bytes"]) for event in of_kind(events, "frozen")]
    losses = [{key: event[key] for key in event if key != "seconds"} for event in of_kind(events, "epoch")]
    return keeps, losses, safetensors.read(place / "net.safetensors")[0]


def frozen_is_computed_once(build):
    """A frozen trunk whose values are kept trains the head to the same bits as one that is computed in every step: with
    --cache 0, and where its input passes a dropout of (almost) never, behind which nothing can be kept; on any number of
    threads, and resumed."""
    with copied(IRIS) as place:
        trunk(place, "kept.bp")
        trunk(place, "whole.bp", x="dropout(x, 1e-30)")
        keeps, losses, weights = trunk_trained(build, place, "whole.bp")
        expect(keeps == [] and len(losses) == 12, f"behind a random draw something is kept: {keeps}")
        rows = len((place / "iris.csv").read_text().split()) - 1
        bytes = trunk_trained(build, place, "kept.bp")[0][0][1]
        expect(bytes % (37 * 4) == 0 and 0.8 * rows <= bytes // (37 * 4) <= rows, f"{bytes} bytes for {rows} rows of 37")
        for options, kept in (
            ((), True), (("--threads", 1), True), (("--threads", 2), True), (("--threads", 3), True),
            (("--cache", "0"), False), (("--cache", "0", "--threads", 3), False), ((f"--cache={bytes - 1}",), False),
            ((f"--cache={bytes}",), True), (("--cache=1M",), True),
        ):
            told = trunk_trained(build, place, "kept.bp", *options)
            expect(told[0] == [(kept, bytes)], f"{options}: kept is {told[0]}")
            expect(told[1] == losses, f"{options}: losses or metrics differ from those of the whole step")
            expect(told[2] == weights, f"{options}: weights differ from those of the whole step")
        trunk_trained(build, place, "kept.bp", "--epochs", "head=4")
        expect(safetensors.read(place / "net.safetensors")[0] != weights, "four epochs are as good as nine: the test says nothing")
        trunk_trained(build, place, "kept.bp", "--resume", "head.state")
        expect(safetensors.read(place / "net.safetensors")[0] == weights, "a resumed run differs from one never stopped")
        keeps, _, _ = trunk_trained(build, place, "kept.bp", "--epochs", "head=1")
        expect(keeps == [], "what is read once is kept")
        for wrong in ("-1", "64m", "1.5G", "lots", "9999999999T"):
            outcome = build.run(["./kept", "--cache", wrong], cwd=place)
            expect(outcome.code == 2 and "--cache needs a number of bytes" in outcome.err, f"--cache {wrong}: {outcome.err}")
        said = build.succeed(["./kept", f"--cache={bytes - 1}"], cwd=place).out
        expect("head: what frozen layers give is computed for every batch: to keep it for " in said, f"without room it is said: {said}")
        expect("computed for every batch" not in build.succeed(["./kept"], cwd=place).out, "with room for all rows it is said that there is none")


FROZEN_WORDS = """bpc 1
data notes {
    file   "notes.csv"
    input  words = note : text(vocabulary = 40, lowercase, counts, distinct = 12)
    input  who   = author : category
    target score
    split  validation = 0.2, seed = 3
}
model Net(words, who) {
    fc1 = dense(words, 20, tanh)
    name = embedding(who, 20)
    fc2 = dense(fc1 * name, 1)
    return fc2
}
train Net on notes as trunk { loss mse; optimizer adam(lr = 0.02); epochs 2; batch_size 19 }
train Net on notes as head { loss mse; freeze fc1, name; optimizer adam(lr = 0.02); epochs 4; batch_size 19 }
save Net to "net.safetensors"
"""


def frozen_lookups(build):
    """What frozen lookups give is kept as any other value, and not where inputs are augmented."""
    with copied(TESTS / "agree", IRIS) as place:
        (place / "words.bp").write_text(FROZEN_WORDS)
        kept, whole = (trunk_trained(build, place, "words.bp", *options) for options in ((), ("--cache", "0")))
        expect([keep for keep, _ in kept[0]] == [True] and [keep for keep, _ in whole[0]] == [False], f"kept: {kept[0]}, {whole[0]}")
        expect(kept[1:] == whole[1:], "losses or weights differ from those of the whole step")
        trunk(place, "noisy.bp", statistics="augment x : noise(std = 0.1)")
        keeps, losses, _ = trunk_trained(build, place, "noisy.bp")
        expect(keeps == [] and len(losses) == 12, f"behind augmented inputs something is kept: {keeps}")


def frozen_statistics(build):
    """A frozen batch_norm is kept with what is behind it, unless it goes on measuring: then it stays in the step."""
    with copied(IRIS) as place:
        for name, statistics, moves in (("still", "", False), ("live", "statistics live", True)):
            trunk(place, f"{name}.bp", "fc1, fc2, norm", statistics=statistics)
            trunk(place, f"{name}-whole.bp", "fc1, fc2, norm", "dropout(x, 1e-30)", statistics)
            said = build.succeed([build.bpc, "--explain=frozen", f"{name}.bp"], cwd=place).out
            why = "in every step norm: what it reads depends on the other rows of the batch\n"
            expect("computed once fc1, fc2" + ("\n" if moves else ", norm\n") in said, f"{name}: {said}")
            expect((why in said) == moves, f"{name}: {said}")
            trunk_trained(build, place, f"{name}.bp", "--phase", "trunk")
            before = safetensors.read(place / "net.safetensors")[0]["norm.running_mean"]
            keeps, losses, weights = trunk_trained(build, place, f"{name}-whole.bp")
            expect(keeps == [], f"{name}: behind a random draw something is kept: {keeps}")
            expect((weights["norm.running_mean"] != before) == moves, f"{name}: the running mean was {before}")
            for cache in ("1M", "0"):
                told = trunk_trained(build, place, f"{name}.bp", "--cache", cache)
                expect(told[0][0][0] == (cache == "1M"), f"{name}, --cache {cache}: kept is {told[0]}")
                expect(told[1] == losses, f"{name}, --cache {cache}: losses differ from those of the whole step")
                expect(told[2] == weights, f"{name}, --cache {cache}: weights differ from those of the whole step")


def frozen_is_explained(build):
    """--explain=frozen: what is computed once, or why not."""
    with copied(IRIS) as place:
        for x, freeze, wanted in (
            ("x", "fc1, fc2", ["computed once fc1, fc2\n", "fc2, 37 numbers of each row\n", "a row takes   148 bytes"]),
            ("x", "fc1", ["computed once fc1\n", "fc1, 24 numbers of each row\n", "a row takes   96 bytes"]),
            ("x", "fc3", ["in every step fc3: it reads 'norm', which depends on 'fc2.weight', which is trained\n"]),
            ("x", "fc2", ["in every step fc2: it reads 'fc1', which depends on 'fc1.weight', which is trained\n"]),
            ("x", "fc1, fc3", ["computed once fc1\n", "in every step fc3: it reads 'norm', which depends on 'fc2.weight', which is trained\n"]),
            ("dropout(x, 0.5)", "fc1", ["in every step fc1: what it reads is random\n"]),
            ("when_training(x + 0.1 * (draw(x) - 0.5), x)", "fc1", ["in every step fc1: what it reads is random\n"]),
            ("x - batch_mean(x)", "fc1", ["in every step fc1: what it reads depends on the other rows of the batch\n"]),
            ("x / batch_rows()", "fc1", ["in every step fc1: what it reads changes with the number of rows in the batch\n"]),
        ):
            trunk(place, "net.bp", freeze, x)
            first, head = build.succeed([build.bpc, "--explain=frozen", "net.bp"], cwd=place).out.split("\nhead:\n")
            expect(first == "trunk:\n  nothing is frozen\n", f"of the trunk it is said: {first}")
            for line in wanted:
                expect(line in head, f"with fc1 = dense({x}) and {freeze} frozen it is said: {head}")
            expect(("computed once" in head) == ("computed once" in "".join(wanted)), f"with {freeze} frozen it is said: {head}")
        cheap = (place / "net.bp").read_text().replace("dense(x / batch_rows(), 24, gelu)", "elementwise(x)")
        (place / "net.bp").write_text(cheap)
        said = build.succeed([build.bpc, "--explain=frozen", "net.bp"], cwd=place).out
        expect("in every step fc1: what it gives takes longer to read than to compute\n" in said, f"of a cheap layer it is said: {said}")
        outcome = build.run([build.bpc, "--explain=nothing", "net.bp"], cwd=place)
        wanted = "bpc: --explain knows frozen, fusion, rewrites, not 'nothing'; try bpc --help\n"
        expect(outcome.code == 2 and outcome.err == wanted, f"an unknown topic: {outcome.err}")


def tutorial_learns(build):
    with copied(TUTORIAL) as place:
        events = train(build, place, "tutorial.bp")
        for model in ("Small", "Larger"):
            (score,) = [event for event in of_kind(events, "evaluate") if event["model"] == model]
            expect(score["accuracy"] == 1, f"{model} tells {score['accuracy']:.2f} of its three rows right")
        losses = [event["loss"] for event in of_kind(events, "epoch")]
        expect(len(losses) == 2000 and losses[999] < losses[0] and losses[1999] < losses[1000], "the loss does not fall")
        tensors, _ = safetensors.read(place / "larger.safetensors")
        shapes = {name: shape for name, (shape, _) in tensors.items()}
        wanted = {"hidden.weight": [20, 2], "hidden.bias": [20], "output.weight": [1, 20], "output.bias": [1]}
        expect(shapes == wanted, f"the larger network holds {shapes}")


def xor_learns(build):
    with copied(XOR) as place:
        events = train(build, place, "xor.bp", "--seed", 0)
        loss = of_kind(events, "epoch")[-1]["loss"]
        expect(loss < 0.01, f"the last loss is {loss}, not below 0.01")
        expect(of_kind(events, "evaluate")[0]["accuracy"] == 1, "not every row is right")


def penguins_learn(build):
    with copied(PENGUINS) as place:
        (test,) = of_kind(train(build, place, "penguins.bp"), "evaluate")
        expect(test["accuracy"] >= 0.95, f"test accuracy {test['accuracy']:.3f}, below 0.95")


def digits_learn(build):
    """Images and labels from IDX files; predict reads one, and tells most of the rows that it trained on right."""
    with copied(DIGITS) as place:
        (test,) = of_kind(train(build, place, "digits.bp"), "evaluate")
        expect(test["rows"] == 240 and test["accuracy"] >= 0.95, f"test accuracy {test['accuracy']:.3f}, below 0.95")
        build.succeed(["./digits", "predict", "--weights", "digits.safetensors", "digits-images.idx", "-o", "out.csv"], cwd=place)
        told = [row["prediction"] for row in csv.DictReader((place / "out.csv").open())]
        labels = (place / "digits-labels.idx").read_bytes()[8:]
        right = sum(answer == str(label) for answer, label in zip(told, labels))
        expect(len(told) == len(labels) and right >= 0.9 * len(labels), f"{right} of {len(labels)} digits are told right")


def folds_add_up(build):
    """Each row is held out once; the summary is the mean and the deviation of the folds."""
    with copied(IRIS, TESTS / "train") as place:
        events = train(build, place, "folds.bp")
        folds, (total,) = of_kind(events, "fold"), of_kind(events, "evaluate")
        expect([event["fold"] for event in folds] == [1, 2, 3, 4, 5], f"the folds are {folds}")
        expect(all(event["rows"] == 30 for event in folds) and total["rows"] == 150, f"the rows are {total['rows']}")
        scores = [event["accuracy"] for event in folds]
        mean, deviation = statistics.mean(scores), statistics.stdev(scores)
        expect(abs(total["accuracy"] - mean) < 1e-12 and abs(total["accuracy_deviation"] - deviation) < 1e-12,
               f"{scores} have mean {mean} and deviation {deviation}, not {total}")
        expect(sum(map(sum, total["confusion_matrix"])) == 150, "the matrices are not added up")
        expect(mean >= 0.9, f"mean accuracy {mean:.3f}, below 0.9")
        first = [event["loss"] for event in of_kind(events, "epoch") if event["epoch"] == 1]
        expect(len(set(first)) == 5, "two folds begin alike")
        again = train(build, place, "folds.bp", "--threads", "1")
        expect(of_kind(again, "fold") == folds, "another number of threads gives other folds")
        other = train(build, place, "folds.bp", "--set", "lr=1e-5")
        expect(of_kind(other, "evaluate")[0]["accuracy"] < mean, "--set lr=1e-5 changes nothing")


def won_pairs(scores, truths):
    """The share of pairs of a positive and a negative row in which the positive one has the higher score; a tie is half."""
    pairs = [(a, b) for a, t in zip(scores, truths) if t for b, f in zip(scores, truths) if not f]
    return sum(1 if a > b else 0.5 if a == b else 0 for a, b in pairs) / len(pairs)


def average_precision(scores, truths):
    area, before = 0, 0
    for threshold in sorted(set(scores), reverse=True):
        named = [t for score, t in zip(scores, truths) if score >= threshold]
        recall = sum(named) / sum(truths)
        area += (recall - before) * sum(named) / len(named)
        before = recall
    return area


def areas_are_the_predictions(build):
    """Areas under curves, precision and recall as the predictions of the same rows give them, by the definitions."""
    with copied(IRIS, TESTS / "train") as place:
        two, three = of_kind(train(build, place, "areas.bp"), "evaluate")
        for event, table, weights in ((two, "two-species.csv", "two"), (three, "iris.csv", "three")):
            build.succeed(["./areas", "predict", "--model", event["model"], "--weights", f"{weights}.safetensors", table,
                           "-o", "out.csv"], cwd=place)
            answers = list(csv.DictReader((place / "out.csv").open()))
            actual = [row["species"] for row in csv.DictReader((place / table).open())]
            names = sorted(set(actual))
            scored = [("probability", names[1])] if weights == "two" else [(f"probability_{name}", name) for name in names]
            scores = [([float(answer[key]) for answer in answers], [name == kind for kind in actual]) for key, name in scored]
            for metric, by_hand in (("roc_auc", won_pairs), ("pr_auc", average_precision)):
                truth = statistics.mean(by_hand(*pair) for pair in scores)
                expect(abs(event[metric] - truth) < 1e-9, f"{metric} is {event[metric]}, by hand {truth}")
            each = {"precision": [], "recall": []}
            for name in names:
                hits = sum(answer["prediction"] == name == kind for answer, kind in zip(answers, actual))
                each["precision"].append(hits / max(1, sum(answer["prediction"] == name for answer in answers)))
                each["recall"].append(hits / actual.count(name))
            wanted = {metric: values[1] if weights == "two" else statistics.mean(values) for metric, values in each.items()}
            if weights == "three":
                wanted["recall"] = event["accuracy"]  # micro: of all rows
            for metric, truth in wanted.items():
                expect(abs(event[metric] - truth) < 1e-6, f"{metric} is {event[metric]}, by hand {truth}")


AUGMENTED = """bpc 1

data d {{
    file   "pixels.csv"
    input  image = p0..p8
    target y
    split  validation = 0.1
}}

metric place(y, t) = batch_mean(y)

model M(image) {{
    bias = parameter(init = 0)
    y = sum(image * real(iota(9))) + bias
    return y
}}

train M on d {{ loss mse; metrics place; optimizer sgd(lr = 0.01); epochs 1; batch_size 20000; {line} }}
"""


def augmented(build, place, line, pixel, seed=0):
    """The first epoch's event: the output is the place of the one pixel that is lit, the target 4."""
    rows = ",".join("1" if i == pixel else "0" for i in range(9)) + ",4\n"
    (place / "pixels.csv").write_text(",".join(f"p{i}" for i in range(9)) + ",y\n" + rows * 20000)
    (place / "a.bp").write_text(AUGMENTED.format(line=line))
    build.compile("a.bp", "a", "-O0", cwd=place)
    (event,) = of_kind(train(build, place, "a.bp", "--seed", seed), "epoch")
    bias = -0.02 * (event["place"] - 4)  # what the one update made of it: the validation rows are as they are
    expect(abs(event["val_loss"] - (pixel + bias - 4) ** 2) < 1e-4, f"{line}: val_loss is {event['val_loss']}")
    return event


def cropped(side, down, along):
    """The sum of places times values where only the middle one of 3 x 3 pixels is lit, for three numbers from 0 to 1."""
    share = 0.5 + 0.5 * side
    rows, columns = ([max(0, 1 - abs((1 - share) * 2 * at + share * i - 1)) for i in range(3)] for at in (down, along))
    return sum((3 * i + j) * rows[i] * columns[j] for i in range(3) for j in range(3))


def augmentation_is_what_it_says(build):
    """18000 images of 3 x 3 with one pixel lit; moments of its place after each change, in closed form."""
    with copied() as place:
        line = "augment image : shift(pixels = 0), rotate(degrees = 0), crop(least = 1), noise(std = 0), dropout(rate = 0)"
        event = augmented(build, place, line, 5)
        expect(event["loss"] == 1 and event["place"] == 5, f"{line} changes something: {event}")
        exact = {("flip(horizontal)", 3): 1, ("flip(vertical)", 1): 9}
        for (change, pixel), loss in exact.items():
            event = augmented(build, place, f"augment image : {change}", pixel)
            expect(abs(event["loss"] - loss) < 1e-5, f"{change}: the loss is {event['loss']}, not {loss}")
            expect(abs(event["place"] - 4) < 5 * 3 / 18000**0.5, f"{change}: the mean place is {event['place']}, not 4")
        # places 0 to 8 are equally likely: variance 60 / 9; noise: 0.25 times the sum of squares to 8; dropout: 4 / 0.75 or 0
        likely = {"shift(pixels = 1)": (60 / 9, 5.4), "noise(std = 0.5)": (51, 73), "dropout(rate = 0.25)": (16 / 3, 6.2)}
        for change, (loss, deviation) in likely.items():
            event = augmented(build, place, f"augment image : {change}", 4)
            expect(abs(event["loss"] - loss) < 5 * deviation / 18000**0.5, f"{change}: the loss is {event['loss']}, not {loss:.3f}")
        # each of the four neighbours of the middle is turned to a place between four pixels, one of which is the middle
        turned = [16 * (1 - abs(math.cos(t))) * (1 - abs(math.sin(t))) for t in (2 * math.pi * i / 9973 for i in range(9973))]
        loss, deviation = statistics.mean(t * t for t in turned), statistics.stdev(t * t for t in turned)
        event = augmented(build, place, "augment image : rotate(degrees = 180)", 4)
        expect(abs(event["loss"] - loss) < 5 * deviation / 18000**0.5, f"rotate: the loss is {event['loss']}, not {loss:.3f}")
        # a window of side 1 to 3 pixels, drawn as 3 x 3: where its pixels see the lit one, which is as wide as they are apart
        seen = [cropped(*((i + 0.5) / 40 for i in place)) for place in itertools.product(range(40), repeat=3)]
        loss, deviation = statistics.mean((y - 4) ** 2 for y in seen), statistics.stdev((y - 4) ** 2 for y in seen)
        event = augmented(build, place, "augment image : crop(least = 0.5)", 4)
        expect(abs(event["loss"] - loss) < 6 * deviation / 18000**0.5, f"crop: the loss is {event['loss']}, not {loss:.3f}")
        one, other = (augmented(build, place, "augment image : shift(pixels = 1), rotate(degrees = 30)", 4, seed) for seed in (1, 2))
        expect(one["loss"] != other["loss"], "another seed draws the same")


AUGMENTED_STEP = """bpc 1

data iris {{
    file   "iris.csv"
    input  x = sepal_length, sepal_width, petal_length, petal_width : standardize
    target species : category
    split  train = 0.8, validation = 0.2, stratify = species
}}

model Net(x) {{
    fc1 = dense(x, 12, relu)
    fc2 = dense(fc1, classes(iris.species))
    return fc2
}}

train Net on iris {{
    {step}
    {augment}
    epochs 10
}}

save Net to "net.safetensors"
"""


def augmented_in_a_step(build):
    """The inputs of a step are augmented as those of a loss are: the same weights, losses and predictions, to the bit."""
    loss, step = "loss cross_entropy; optimizer adam(lr = 0.01)", "step { update Net with adam(0.01) minimizing cross_entropy(Net(x), species) }"
    line = "augment x : noise(std = 0.5), dropout(rate = 0.2); augment x : noise(std = 0.1)"
    with copied(IRIS) as place:
        told = {}
        for name, form, augment in (("loss", loss, line), ("step", step, line), ("plain", step, "")):
            (place / f"{name}.bp").write_text(AUGMENTED_STEP.format(step=form, augment=augment))
            epochs = [[epoch["loss"], epoch["val_loss"]] for epoch in of_kind(train(build, place, f"{name}.bp"), "epoch")]
            build.compile(f"{name}.bp", name, cwd=place)
            predicted = build.succeed([f"./{name}", "predict", "--weights", "net.safetensors", "iris.csv"], cwd=place).out
            told[name] = (epochs, predicted, safetensors.read(place / "net.safetensors")[0])
        expect(told["step"] == told["loss"], f"the losses are {told['step'][0]}, not {told['loss'][0]}, or weights or predictions differ")
        expect(told["plain"][0] != told["step"][0], "without the augment line it learns the same")


MIXED = """bpc 1

data d {{
    file   "rows.csv"
    file   "other.csv", part = validation
    input  x
    target t
}}

model M(x) {{
    away = parameter(init = 0.5)
    y = x + away
    return y
}}

train M on d {{ loss mse; optimizer sgd(lr = 1e-9); epochs 4000; batch_size 5; {lines} }}
"""


def central_moment(alpha, power):
    """Of Beta(alpha, alpha), about 1/2, of an even power."""
    return math.prod((2 * i + 1) / (2 * alpha + 2 * i + 1) / 4 for i in range(power // 2))


def losses_of_mixed_rows(build, place, seed, *lines):
    (place / "m.bp").write_text(MIXED.format(lines="; ".join(lines)))
    build.compile("m.bp", "m", "-O0", cwd=place)
    events = of_kind(train(build, place, "m.bp", "--seed", seed), "epoch")
    for event in events:
        expect(abs(event["val_loss"] - 0.25) < 1e-5, f"{lines}: val_loss is {event['val_loss']}: its rows are mixed, too")
    return [event["loss"] - 0.25 for event in events]


def mixup_is_what_it_says(build):
    """Targets are inputs, and outputs 1/2 away: with the share s of its own, a row's loss is 1/4 + s (1 - s) times the squared
    distance to its partner, and what is linear cancels over the batch. Moments of s are those of Beta(alpha, alpha)."""
    values = (1, -1, 2, 0, 4)
    with copied() as place:
        for name in ("rows.csv", "other.csv"):
            (place / name).write_text("x,t\n" + "".join(f"{x},{x}\n" for x in values))
        along = statistics.mean((a - b) ** 2 for a, b in zip(values, values[1:] + values[:1]))
        shuffled = [statistics.mean((a - b) ** 2 for a, b in zip(order, order[1:] + order[:1])) for order in itertools.permutations(values)]
        for alpha in (0.05, 0.2, 1, 8):
            second, fourth = central_moment(alpha, 2), central_moment(alpha, 4)
            share, spread = 0.25 - second, fourth - second * second
            seen = losses_of_mixed_rows(build, place, 3, "shuffle none", f"augment mixup(alpha = {alpha})")
            expect(min(seen) > -1e-5 and max(seen) < 0.25 * along + 1e-5, f"alpha {alpha}: losses from {min(seen)} to {max(seen)}")
            error = statistics.mean(seen) / along - share
            expect(abs(error) < 5 * (spread / len(seen)) ** 0.5, f"alpha {alpha}: the mean of s (1 - s) is {share + error}, not {share}")
            seen = losses_of_mixed_rows(build, place, 3, f"augment mixup(alpha = {alpha})")
            mean = share * statistics.mean(shuffled)
            deviation = ((share * share + spread) * statistics.mean(d * d for d in shuffled) - mean * mean) ** 0.5
            expect(abs(statistics.mean(seen) - mean) < 5 * deviation / len(seen) ** 0.5, f"alpha {alpha}, shuffled: {statistics.mean(seen)}, not {mean}")
        one, other = (losses_of_mixed_rows(build, place, seed, "shuffle none", "augment mixup(alpha = 1)") for seed in (1, 2))
        expect(one != other, "another seed draws the same")
        alike = losses_of_mixed_rows(build, place, 1, "shuffle none", "augment mixup(alpha = 1)", "augment x : noise(std = 0)")
        expect(alike == one, "beside an augment line that changes nothing other rows are mixed")


# ---- Predictions ----------------------------------------------------------------------------------------------------


def softmax_by_hand(tensors, fitted, row):
    """Iris's network on one row, in double precision, from its checkpoint alone."""
    x = [(float(row[name]) - fitted[name]["standardize"]["mean"]) / fitted[name]["standardize"]["deviation"]
         for name in ("sepal_length", "sepal_width", "petal_length", "petal_width")]
    for layer in ("fc1", "fc2"):
        (width, fan_in), weight = tensors[f"{layer}.weight"]
        bias = tensors[f"{layer}.bias"][1]
        x = [sum(weight[i * fan_in + j] * x[j] for j in range(fan_in)) + bias[i] for i in range(width)]
        x = [max(value, 0) for value in x] if layer == "fc1" else x
    greatest = max(x)
    powers = [math.exp(value - greatest) for value in x]
    return [power / sum(powers) for power in powers]


def predictions_are_the_checkpoints(build):
    with copied(IRIS) as place:
        train(build, place, "iris.bp")
        tensors, metadata = safetensors.read(place / "iris.safetensors")
        fitted = json.loads(metadata["bpc.preprocessing"])
        (classes,) = json.loads(metadata["bpc.classes"]).values()
        build.succeed(["./iris", "predict", "--weights", "iris.safetensors", "iris.csv", "-o", "out.csv"], cwd=place)
        rows = list(csv.DictReader((place / "iris.csv").open()))
        told = list(csv.DictReader((place / "out.csv").open()))
        expect(len(told) == len(rows), f"{len(told)} predictions for {len(rows)} rows")
        right = 0
        for i, (row, answer) in enumerate(zip(rows, told)):
            truth = softmax_by_hand(tensors, fitted, row)
            ours = [float(answer[f"probability_{name}"]) for name in classes]
            expect(all(abs(a - b) < 2e-6 for a, b in zip(ours, truth)), f"row {i + 1}: {ours}, by hand {truth}")
            expect(answer["prediction"] == classes[max(range(3), key=lambda c: ours[c])], f"row {i + 1}: {answer}")
            right += answer["prediction"] == row["species"]
        expect(right >= 140, f"only {right} of 150 flowers are named right")


NOTES = """bpc 1
data notes { file "notes.csv"; input words = note : text(vocabulary = 25, lowercase, counts); target score }
model Net(words) {
    y = dense(words, 1)
    return y
}
train Net on notes { loss mse; optimizer adam(lr = 0.05); epochs 20; batch_size 30 }
evaluate Net on notes { rmse }
save Net to "notes.safetensors"
"""


def words_of(text):
    return re.findall(r"\w+(?:'\w+)*", text.lower())


def texts_are_counted_by_hand(build):
    """The vocabulary, and what a new text is told, by Python's own regular expressions and counters."""
    with copied(TESTS / "agree") as place:
        (place / "n.bp").write_text(NOTES)
        (test,) = of_kind(train(build, place, "n.bp"), "evaluate")
        rows = list(csv.DictReader((place / "notes.csv").open()))
        counts = collections.Counter(word for row in rows for word in words_of(row["note"]))
        vocabulary = sorted(counts, key=lambda word: (-counts[word], word.encode()))[:25]
        tensors, metadata = safetensors.read(place / "notes.safetensors")
        expect(json.loads(metadata["bpc.vocabulary"]) == {"note": vocabulary}, f"the vocabulary is not {vocabulary}")
        (weight, (bias,)) = tensors["y.weight"][1], tensors["y.bias"][1]
        by_hand = lambda text: bias + sum(weight[vocabulary.index(word)] for word in words_of(text) if word in vocabulary)
        error = statistics.mean((by_hand(row["note"]) - float(row["score"])) ** 2 for row in rows) ** 0.5
        expect(abs(test["rmse"] - error) < 1e-5, f"rmse is {test['rmse']}, by hand {error}")
        new = ["", "nowhere to be seen", f"{vocabulary[3].upper()}, {vocabulary[3]} -- {vocabulary[24]}; {vocabulary[0]}'s"]
        (place / "new.csv").write_text("note\n" + "".join(f'"{text}."\n' for text in new))
        build.succeed(["./n", "predict", "--weights", "notes.safetensors", "new.csv", "-o", "out.csv"], cwd=place)
        told = [float(row["score"]) for row in csv.DictReader((place / "out.csv").open())]
        expect(len(told) == len(new) and all(abs(a - by_hand(text)) < 2e-5 for a, text in zip(told, new)),
               f"{told}, by hand {[by_hand(text) for text in new]}")


def one_row_as_many(build):
    """The same digits for a row alone and among others, on any number of threads, with its columns in another order."""
    with copied(IRIS) as place:
        train(build, place, "iris.bp")
        predict = ["./iris", "predict", "--weights", "iris.safetensors"]
        lines = (place / "iris.csv").read_text().splitlines()
        many = build.succeed([*predict, "iris.csv", "--threads", "3"], cwd=place).out.splitlines()
        for i in (1, 77, 150):
            fields = lines[i].split(",")
            text = "petal_width,sepal_width,petal_length,sepal_length\n" + ",".join(fields[j] for j in (3, 1, 2, 0)) + "\n"
            (place / "one.csv").write_text(text)
            one = build.succeed([*predict, "one.csv", "--threads", "1"], cwd=place).out.splitlines()
            expect(one == [many[0], many[i]], f"row {i} alone gives {one[1:]}, among others {many[i]}")


def predicts_what_is_piped(build):
    with copied(IRIS) as place:
        train(build, place, "iris.bp", "--epochs", 2)
        predict = "./iris predict --weights iris.safetensors"
        named = build.succeed(["sh", "-c", f"{predict} new-flowers.csv"], cwd=place).out
        piped = build.succeed(["sh", "-c", f"cat new-flowers.csv | {predict} -"], cwd=place).out
        expect(named == piped, f"rows that are piped in give {piped[:200]!r}")


def tables_keep_their_form(build):
    """A category with line ends, escapes, a change of direction or a thousand letters does not break the table printed."""
    program = '''bpc 1
data odd { file "odd.csv"; input x; target kind = "what kind" : category }
model M(x) { fc = dense(x, classes(odd.kind)); return fc }
train M on odd { loss cross_entropy(M.fc, kind); optimizer adam(lr = 0.1); epochs 1 }
evaluate M on odd { confusion_matrix }
'''
    names = ["two\nlines", "\x1b[31mred", "\u202eturned", "l" * 1000, "größer"]
    with copied(TESTS / "train") as place:
        (place / "odd.bp").write_text(program)
        with (place / "odd.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["x", "what kind"]] + [[i, name] for i, name in enumerate(names)])
        build.compile("odd.bp", "odd", cwd=place)
        lines = build.succeed(["./odd"], cwd=place).out.splitlines()
        table = lines[-5:]
        shown = {line[4:28].strip() for line in table}
        expect(shown == {"two?lines", "?[31mred", "?turned", "l" * 23 + "…", "größer"}, f"the rows are {shown}")
        expect(len({len(line) for line in table}) == 1, "the rows are not equally long")


# ---- Options and checkpoints -----------------------------------------------------------------------------------------


def runs_anywhere(build):
    """The table is found beside the .bp file, weights are written where one stands; a locale changes nothing."""
    with copied(IRIS) as place:
        (place / "elsewhere").mkdir()
        build.compile(place / "iris.bp", place / "iris")
        build.succeed([place / "iris", "--quiet", "--epochs", "2"], cwd=place / "elsewhere")
        expect((place / "elsewhere" / "iris.safetensors").exists(), "no weights in the working directory")
        expect(not (place / "iris.safetensors").exists(), "weights beside the .bp file")


def seeds_differ_in_weights_alone(build):
    with copied(IRIS) as place:
        files = []
        for seed in (1, 2, 1):
            train(build, place, "iris.bp", "--seed", seed, "--epochs", 2)
            files.append(safetensors.read(place / "iris.safetensors"))
        expect(files[0] == files[2], "one seed gives two results")
        expect(files[0][0]["fc1.weight"] != files[1][0]["fc1.weight"], "two seeds give one result")
        expect(files[0][1]["bpc.split"] == files[1][1]["bpc.split"], "--seed moves the split")
        expect(files[0][1]["bpc.preprocessing"] == files[1][1]["bpc.preprocessing"], "--seed changes what is fitted")


def resumed_equals_unbroken(build):
    with copied(TESTS / "train", IRIS) as place:
        train(build, place, "resume.bp", "--seed", 6)
        unbroken = (place / "resumed.safetensors").read_bytes()
        (place / "resumed.safetensors").unlink()
        train(build, place, "resume.bp", "--seed", 6, "--epochs", 5)
        stopped = (place / "resumed.safetensors").read_bytes()
        expect(stopped != unbroken, "five epochs are as good as twelve: the test says nothing")
        train(build, place, "resume.bp", "--resume", "run.state", "--threads", 2)
        expect((place / "resumed.safetensors").read_bytes() == unbroken, "a resumed run differs from one never stopped")


def rates_follow_the_plateau(build, source, watched, rate_name):
    """reduce_on_plateau: the rate that the last epoch trained with is what its rule makes of the logged validation losses, also in
    a resumed run and in memory. (That the rule is PyTorch's: unit/runtime_plateau.)"""
    with copied(TESTS / "train", IRIS) as place:
        read = lambda: safetensors.read(place / "plateau.safetensors")[0]
        losses = [epoch[watched] for epoch in of_kind(train(build, place, source), "epoch")]
        unbroken = read()
        rate, best, bad, cooling, rates = 0.2, math.inf, 0, 0, []
        for loss in losses:
            rates.append(rate)
            better = loss < best * (1 - 0.01)
            best, bad = (loss, 0) if better else (best, bad + 1)
            cooling, bad = (cooling - 1, 0) if cooling else (0, bad)
            if bad > 1:
                rate, cooling, bad = max(rate * 0.7, 0.002), 1, 0
        expect(len(losses) == 40 and len(set(rates)) > 5, f"the rates are {rates}: the test says little")
        last = unbroken[rate_name][1]
        expect(last == [struct.unpack("f", struct.pack("f", rates[-1]))[0]], f"the last rate is {last}, not {rates[-1]}")
        train(build, place, source, "--epochs", 17)
        expect(read() != unbroken, "17 epochs are as good as 40")
        train(build, place, source, "--resume", "run.state", "--epochs", 40)
        expect(read() == unbroken, "a resumed run differs from one never stopped")
        (place / "plateau.safetensors").unlink()
        build.succeed([build.bpc, "run", source, "--", "--quiet"], cwd=place)
        expect(read() == unbroken, "bpc run differs")


def gradients_are_right(build, folder, source, earlier):
    with copied(folder) as place:
        for program in earlier:
            train(build, place, program.name, "--epochs", 2)
        build.compile(source.name, "program", cwd=place)
        build.succeed(["./program", "--check-grad"], cwd=place)


def wrong_grad_clauses_are_told(build):
    """A grad clause is compared with finite differences by --check-grad: of two, the right one passes."""
    program = """bpc 1
def square(x) = x^2 grad x = SLOPE * d * x
data d { columns x, y; rows [0, 1], [1, 3], [2, 5], [3, 2]; input x; target y }
model Net(x) { fc1 = dense(x, 3, square); fc2 = dense(fc1, 1); return fc2 }
train Net on d { loss mse; optimizer sgd(lr = 0.01); epochs 1 }
"""
    with copied() as place:
        for name, slope in (("right", "2"), ("wrong", "3")):
            (place / f"{name}.bp").write_text(program.replace("SLOPE", slope))
            build.compile(f"{name}.bp", name, "-O1", cwd=place)
        build.succeed(["./right", "--check-grad"], cwd=place)
        outcome = build.run(["./wrong", "--check-grad"], cwd=place)
        told = [line.split()[0] for line in outcome.out.splitlines() if line.endswith("WRONG")]
        expect(outcome.code == 1 and told == ["fc1.weight", "fc1.bias"], f"code {outcome.code}, wrong are {told}")


def bench_says_json(build):
    with copied(IRIS) as place:
        build.compile("iris.bp", "iris", cwd=place)
        build.succeed(["./iris", "--quiet", "--epochs", "1"], cwd=place)
        for command, keys in (
            (["./iris", "--bench", "20"], {"us_per_step", "samples_per_second", "gflops", "threads", "bytes_planned", "bytes_peak"}),
            (["./iris", "predict", "--bench", "20"], {"ns_per_row"}),
        ):
            out = build.succeed(command, cwd=place).out
            expect(keys <= set(json.loads(out)), f"{' '.join(command)} prints {out.strip()[:200]}")


def described_table_compiles(build):
    """What `bpc describe` prints of a table can be pasted into a program that compiles and runs."""
    with copied(PENGUINS) as place:
        lines = build.succeed([build.bpc, "describe", "penguins.csv"], cwd=place).out
        program = f"""bpc 1
{lines}
model M(x) {{
    fc1 = dense(x, classes(penguins.species))
    return fc1
}}
train M on penguins {{ loss cross_entropy; optimizer adam(lr = 0.01); epochs 2; batch_size 16 }}
save M to "m.safetensors"
"""
        (place / "pasted.bp").write_text(program)
        train(build, place, "pasted.bp")


def described_arrays_compile(build):
    """The same of images and of labels in IDX files, pasted as one block."""
    with copied(DIGITS) as place:
        images, labels = (build.succeed([build.bpc, "describe", f"digits-{what}.idx"], cwd=place).out.splitlines()
                          for what in ("images", "labels"))
        expect(images[0] == "data digits_images {" and images[-1].startswith("# 1200 rows of [14, 14], values from 0 to 255"), images)
        values = (place / "digits-labels.idx").read_bytes()[8:]
        shown = ", ".join(f"{value} ({values.count(value)})" for value in sorted(set(values)))
        expect(labels[-1] == f"# values: {shown}", f"{labels[-1]}, not {shown}")
        (place / "pasted.bp").write_text("\n".join(["bpc 1", "data d {", *images[1:3], *labels[1:3], "}", """
model M(image) {
    fc1 = dense(flatten(image), classes(d.label))
    return fc1
}
train M on d { loss cross_entropy; optimizer adam(lr = 0.01); epochs 2; batch_size 16 }
"""]))
        epochs = of_kind(train(build, place, "pasted.bp"), "epoch")
        expect(epochs[-1]["loss"] < epochs[0]["loss"] < math.log(10), f"nothing is learned: {epochs}")
        (place / "short.idx").write_bytes((place / "digits-images.idx").read_bytes()[:-1])
        outcome = build.run([build.bpc, "describe", "short.idx"], cwd=place)
        expect(outcome.code == 1 and "short.idx" in outcome.err and not outcome.out, f"of a file cut short: {outcome.err}")


def widths_fit(build):
    """Whatever the widths and the machine, tiles go into the rounds, sums into registers beside what feeds them, and the verifier
    finds nothing wrong."""
    most = {"x86-64": 3, "x86-64-v3": 6, "x86-64-v4": 29, "aarch64": 7}  # of 16 numbers
    with copied() as place:
        for widths in ((500, 1000, 700, 300), (13, 11, 10, 9, 7), (33, 300, 17, 260, 1), (784, 129, 513, 10), (1, 1, 1), (17, 1040, 16)):
            layers = "".join(f"    h{i} = dense({f'h{i - 1}' if i > 1 else 'x'}, {width}{', relu' if i < len(widths) - 1 else ''})\n"
                             for i, width in enumerate(widths) if i)
            (place / "m.bp").write_text(f"""bpc 1
data d {{
    file    "made-up.csv", header = none
    columns x0..x{widths[0] - 1}, y0..y{widths[-1] - 1}
    input   inputs = x0..x{widths[0] - 1}
    target  outputs = y0..y{widths[-1] - 1}
}}
model M(x) {{
{layers}    return h{len(widths) - 1}
}}
train M on d {{ loss mse; optimizer adam(lr = 0.01); epochs 1; batch_size 250 }}
""")
            for march in most:
                kernels = build.succeed([build.bpc, "--emit=kernel", "--verify", "--threads=always", f"--march={march}", "m.bp"],
                                        cwd=place).out
                loops = re.split(r"^ *for .*\n", kernels, flags=re.MULTILINE)
                sums = max(len(re.findall(r"^ *sum\w* = fma\(", loop, re.MULTILINE)) for loop in loops)
                expect(0 < sums <= most[march], f"{widths} on {march}: {sums} sums at once")


def tuned_is_the_same(build):
    """--tune keeps a program that gives the bits of any other, says how it was made, and leaves nothing else behind."""
    with copied(IRIS) as place:
        before = {path.name for path in place.iterdir()}
        outcome = build.succeed([build.bpc, "--tune", "-O0", "iris.bp", "-o", "tuned"], cwd=place)
        kept = re.search(r"^kept: (--tiles=\d+) (--spread=\d+)$", outcome.err, re.MULTILINE)
        expect(kept, f"--tune says {outcome.err}")
        expect({path.name for path in place.iterdir()} - before == {"tuned"}, "--tune leaves something behind")
        build.succeed([build.bpc, *kept.groups(), "-O0", "iris.bp", "-o", "again"], cwd=place)
        build.compile("iris.bp", "plain", cwd=place)
        saved = []
        for program in ("tuned", "again", "plain"):
            build.succeed([f"./{program}", "--quiet", "--epochs", "3"], cwd=place)
            saved.append((place / "iris.safetensors").read_bytes())
        expect(saved[0] == saved[1] == saved[2], "tuning changes the weights")


def tiles_change_nothing(build):
    """However a product is cut - tiles, rounds of several tiles, sums that wait between blocks - the weights are the same."""
    numbers = random.Random(5)
    columns = [*(f"x{i}" for i in range(399)), "y0", "y1"]
    rows = [",".join(columns)]
    rows += [",".join(f"{numbers.gauss(0, 1):.3f}" for _ in columns) for _ in range(720)]
    program = """bpc 1
data d { file "d.csv"; input x0..x398; target y0..y1; split train = 0.95, validation = 0.05, seed = 1 }
model M(x) {
    fc1 = dense(x, 256, relu)
    fc2 = dense(fc1, 256, tanh)
    fc3 = dense(fc2, 2)
    return fc3
}
train M on d { loss mse; optimizer adam(lr = 0.001); epochs 2; batch_size 650 }
save M to "m.safetensors"
"""
    with copied(IRIS) as place:
        (place / "d.csv").write_text("\n".join(rows) + "\n")
        (place / "m.bp").write_text(program)
        narrow = ["--march=haswell"] if "avx2" in pathlib.Path("/proc/cpuinfo").read_text().split() else []
        if narrow:  # a machine whose caches are small enough for all of it
            cut = build.succeed([build.bpc, "--emit=kernel", *narrow, "--verify", "m.bp"], cwd=place).out
            step = cut[cut.index("function M_step :"):cut.index("function M_step_finish")]
            expect("partial" in step and "for part in" in step and "for rows_from in" in step, "no sums wait")
            explained = build.succeed([build.bpc, "--explain=fusion", *narrow, "m.bp"], cwd=place).out
            first = explained[explained.index("fc1.weight @"):]
            expect("1 of 16 outputs" in first[:200] and "256 elements, 32 a round" in explained, "no rounds of several tiles")
        saved = []
        for options in ([], ["--tiles=8"], narrow, [*narrow, "--threads=always"], [*narrow, "--tiles=1"]):
            build.succeed([build.bpc, "-O1", *options, "m.bp", "-o", "m"], cwd=place)
            for threads in (1, 3):
                build.succeed(["./m", "--quiet", "--threads", threads], cwd=place)
                saved.append((place / "m.safetensors").read_bytes())
        expect(len(set(saved)) == 1, "tiles change the weights")


def fusion_is_explained(build):
    """Where nothing asks for all gradients first, each update rides on its gradient; clipping by global norm stores them."""
    program = """bpc 1
data d {{ rows [1, 2, 0], [2, 3, 1], [3, 4, 1]; columns a, b, y; input a, b; target y }}
model M(x) {{
    fc1 = dense(x, 20, relu)
    fc2 = dense(fc1, 1)
    return fc2
}}
train M on d {{ loss mse; optimizer sgd(lr = 0.01){}; epochs 2; batch_size 3 }}
save M to "m.safetensors"
"""
    with copied(IRIS) as place:
        for clip, rides, stored in (("", 2, 0), ("; clip_gradient norm = 1", 0, 2)):
            (place / "m.bp").write_text(program.format(clip))
            said = build.succeed([build.bpc, "--explain=fusion", "m.bp"], cwd=place).out
            step = said[: said.index("M_step_finish:")]
            expect(step.count("is never stored") == rides, f"with '{clip}' {step.count('is never stored')} updates ride on gradients")
            expect(step.count("weight is stored") == stored, f"with '{clip}' {step.count('weight is stored')} gradients are stored")


def waiting_rows_end_alike(build):
    """Rows of a table whose updates wait end as if nothing had waited, to the bit: as with a limit for the gradient's length
    that nothing reaches, for which every gradient is stored and every row updated in every step; and as in two epochs of
    half the rows, after each of which all that waits is done, though not so many steps later as room is for."""
    program = """bpc 1
data seen {{ file "{}.csv"; input who : category(400); target score }}
model Net(who) {{
    u = embedding(who, 5)
    h = dense(u, 1)
    return h
}}
train Net on seen {{
    loss       mse
    optimizer  {}{}
    epochs     {}
    batch_size {}
    shuffle    none
}}
save Net to "net.safetensors"
"""
    length = "\n    clip_gradient norm = 1e30"
    said = {"wait": "others wait: ", "read": "others are left alone: ", "all": "of those that it does not read: ", "dense": "rows are cleared before"}
    cases = [  # which rows are updated, the program
        ("wait", ("twice", "adam(lr = 0.01)", "", 1, 1)), ("wait", ("once", "adam(lr = 0.01)", "", 2, 1)),
        ("dense", ("twice", "adam(lr = 0.01)", length, 1, 1)), ("read", ("twice", "adagrad(lr = 0.1)", "", 1, 2)),
        ("dense", ("twice", "adagrad(lr = 0.1)", length, 1, 2)), ("all", ("twice", "nadam(lr = 0.01)", "", 1, 52)),
        ("dense", ("twice", "nadam(lr = 0.01)", length, 1, 52)), ("wait", ("twice", "adam(lr = cosine(start = 0.01))", "\n    accumulate 3", 1, 4)),
        ("dense", ("twice", "adam(lr = cosine(start = 0.01))", "\n    accumulate 3" + length, 1, 4))]
    draw = random.Random(1)
    rows = [f"{int(400 * draw.random() ** 3)},{draw.gauss(0, 1):.3f}\n" for _ in range(1300)]
    ends = {}
    with copied(IRIS) as place:
        for name, times in (("once", 1), ("twice", 2)):
            (place / f"{name}.csv").write_text("who,score\n" + "".join(rows * times))
        for kind, case in cases:
            (place / "m.bp").write_text(program.format(*case))
            told = build.succeed([build.bpc, "--explain=fusion", "--threads=always", "m.bp"], cwd=place).out
            for other, words in said.items():
                expect((words in told) == (other == kind), f"{case}: --explain=fusion says {'no ' if other == kind else ''}'{words}'")
            for threads in (1, 2):
                build.succeed([build.bpc, "--threads=always", "-O1", "m.bp", "-o", "m"], cwd=place)
                build.succeed(["./m", "--quiet", "--threads", threads], cwd=place)
                ends.setdefault((case[1], case[4]), set()).add(repr(safetensors.read(place / "net.safetensors")[0]))
    for case, weights in ends.items():
        expect(len(weights) == 1, f"{case}: weights end in {len(weights)} ways")


def stages_print(build):
    with copied(IRIS) as place:
        for stage in ("ast", "graph", "gradient", "kernel", "c", "dot", "mermaid"):
            out = build.succeed([build.bpc, f"--emit={stage}", "--verify", "iris.bp"], cwd=place).out
            again = build.succeed([build.bpc, f"--emit={stage}", "--verify", "iris.bp"], cwd=place).out
            expect(len(out) > 200, f"--emit={stage} prints {len(out)} bytes")
            expect(out == again, f"--emit={stage} prints something else the second time")


def models_are_told_apart(build):
    """Where a program has several models the prints of the graph call parameters as its checkpoint does."""
    with copied(ROOT / "examples" / "gan") as place:
        said = {stage: build.succeed([build.bpc, f"--emit={stage}", "ring.bp"], cwd=place).out for stage in ("graph", "gradient", "dot", "mermaid")}
        train(build, place, "ring.bp", "--steps", 1)
        names = set(safetensors.read(next(place.glob("*.safetensors")))[0])
        alike = {name for name in names if name.startswith("G.") and "D." + name[2:] in names}
        expect(len(alike) >= 2, f"the models of ring.bp have no names in common: {names}")
        for stage, text in said.items():
            for name in names:
                told = f"d_{name} " if stage == "gradient" else name
                expect(told in text, f"--emit={stage} does not say {told}")
        for stage in ("graph", "gradient"):
            told = set(re.findall(r"parameter\(([^)]*)\)", said[stage])) | set(re.findall(r"^ +(?:%\d+ +)?(?:d_)?(\S+\.(?:weight|bias)) ", said[stage], re.MULTILINE))
            expect(told == names, f"--emit={stage} says {told ^ names}")


def tests(build):
    for name, function in (
        ("iris", iris_learns), ("finetune", finetune_learns), ("one-layer-from-a-file", one_layer_from_a_file), ("frozen", frozen_layer_stays),
        ("frozen-once", frozen_is_computed_once), ("frozen-lookups", frozen_lookups), ("frozen-statistics", frozen_statistics), ("frozen-explained", frozen_is_explained), ("tutorial", tutorial_learns),
        ("xor", xor_learns), ("penguins", penguins_learn), ("digits", digits_learn), ("folds", folds_add_up), ("augment", augmentation_is_what_it_says), ("augment-step", augmented_in_a_step), ("mixup", mixup_is_what_it_says), ("areas", areas_are_the_predictions), ("predictions", predictions_are_the_checkpoints),
        ("one-row-as-many", one_row_as_many), ("anywhere", runs_anywhere), ("seeds", seeds_differ_in_weights_alone),
        ("resume", resumed_equals_unbroken), ("plateau", functools.partial(rates_follow_the_plateau, source="plateau.bp", watched="val_loss", rate_name="rate")),
        ("plateau-step", functools.partial(rates_follow_the_plateau, source="plateau-step.bp", watched="val_wanted", rate_name="Rate.rate")), ("wrong-grad", wrong_grad_clauses_are_told), ("bench", bench_says_json), ("describe", described_table_compiles), ("describe-arrays", described_arrays_compile), ("texts", texts_are_counted_by_hand),
        ("stages", stages_print), ("stages-models", models_are_told_apart), ("fusion", fusion_is_explained), ("waiting-rows", waiting_rows_end_alike), ("tune", tuned_is_the_same), ("tiles", tiles_change_nothing), ("widths", widths_fit), ("piped-rows", predicts_what_is_piped), ("odd-categories", tables_keep_their_form),
    ):
        yield name, functools.partial(function, build)
    for folder in [*examples(), TESTS / "agree"]:
        ordered = in_order(list(folder.glob("*.bp")))
        for i, source in enumerate(ordered):
            earlier = ordered[:i] if ' from "' in source.read_text() else []
            yield f"gradients-{folder.name}-{source.stem}", functools.partial(gradients_are_right, build, folder, source, earlier)
