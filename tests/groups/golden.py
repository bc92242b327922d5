"""200 updates as PyTorch makes them (tests/reference/trajectories.py), from the same weights and rows.

The truth is PyTorch's run in float64. A loss may be wrong by 1e-5 of itself, an element of a weight by 1e-5 of the
tensor's greatest: an element near zero is the difference of larger ones. Float32 itself allows no better where the error
of a prediction nearly vanishes (mse of a fit that is good to 1e-3 loses three digits) and where 200 rounded updates
add up. So PyTorch's own float32 runs, with the rows of a batch in four orders, were measured beside the truth: we may
stray four times as far as the worst of them, which matters where that is more than 1e-5.
"""
import functools
import json
import math

from commands import TESTS, copied, expect
from reference import safetensors

GOLDEN = TESTS / "golden"
RELATIVE = 1e-5
STRAYS = 4


def flat(values):
    return [number for value in values for number in flat(value)] if isinstance(values, list) else [values]


def compare_losses(golden, losses):
    truth = golden["losses"]
    expect(len(losses) == len(truth), f"{len(losses)} steps are logged, not {len(truth)} (--log-steps)")
    for i, (ours, theirs, strays) in enumerate(zip(losses, truth, golden["losses_float32_strays"])):
        allowed = max(RELATIVE * abs(theirs), STRAYS * strays)
        expect(ours is not None and abs(ours - theirs) <= allowed,
               f"the loss of step {i + 1} is {ours}, PyTorch's {theirs} (allowed: {allowed:.1e} more or less)")


def compare_epochs(golden, epochs, rows, batch):
    """An epoch's loss is the mean over its rows, of what each had in its own step."""
    sizes = [min(batch, rows - first) for first in range(0, rows, batch)]
    expect(len(epochs) * len(sizes) == len(golden["losses"]), f"{len(epochs)} epochs are logged")
    for i, ours in enumerate(epochs):
        steps = range(i * len(sizes), (i + 1) * len(sizes))
        theirs = sum(golden["losses"][j] * size for j, size in zip(steps, sizes)) / rows
        allowed = max(RELATIVE * theirs, STRAYS * golden["losses_float32_strays"][steps[-1]])
        expect(abs(ours - theirs) <= allowed, f"the loss of epoch {i + 1} is {ours}, the mean over its rows {theirs}")


def compare_weights(golden, tensors):
    truth = golden["weights"]
    expect(sorted(tensors) == sorted(truth), f"the checkpoint holds {sorted(tensors)}, not {sorted(truth)}")
    for name, theirs in truth.items():
        shape, ours = tensors[name]
        if not isinstance(theirs, list):
            theirs, shape = [theirs], [1]
        outer = [len(theirs)] + ([len(theirs[0])] if isinstance(theirs[0], list) else [])
        expect(list(shape) == outer, f"{name} is {shape}, not {outer}")
        greatest = max(abs(number) for number in flat(theirs))
        allowed = max(RELATIVE * greatest, STRAYS * golden["weights_float32_strays"][name])
        for i, (a, b) in enumerate(zip(ours, flat(theirs))):
            expect(math.isfinite(a) and abs(a - b) <= allowed,
                   f"{name}: element {i} is {a}, PyTorch's {b} (allowed: {allowed:.1e} more or less)")


def frozen_stay(source, before, after):
    if "statistics live" in source:
        before = {name: value for name, value in before.items() if "running" not in name and "tracked" not in name}
    frozen = [line.split()[1:] for line in source.splitlines() if line.strip().startswith("freeze")]
    for layer in [word.rstrip(",") for words in frozen for word in words]:
        for name in before:
            expect(not name.startswith(layer + ".") or before[name] == after[name], f"{name} is frozen, and changed")


def reproduces(build, case):
    with copied(case) as place:
        golden = json.loads((place / "golden.json").read_text())
        build.compile("case.bp", "program", cwd=place)
        build.succeed(["./program", "--quiet", "--log", "log.jsonl", "--log-steps"], cwd=place)
        events = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
        tensors, metadata = safetensors.read(place / "final.safetensors")
        expect(metadata.get("format") == "pt", "the checkpoint's metadata does not say format pt")
        compare_weights(golden, tensors)
        source = (place / "case.bp").read_text()
        batch = next(int(line.split()[1]) for line in source.splitlines() if line.strip().startswith("batch_size"))
        rows = len((place / "data.csv").read_text().splitlines()) - 1
        loss = golden.get("loss", "loss")
        compare_epochs(golden, [event[loss] for event in events if event["event"] == "epoch"], rows, batch)
        compare_losses(golden, [event[loss] for event in events if event["event"] == "step"])
        if "rmse" in golden:
            ours = next(event["rmse"] for event in events if event["event"] == "evaluate")
            allowed = max(RELATIVE * golden["rmse"], STRAYS * golden["rmse_float32_strays"])
            expect(abs(ours - golden["rmse"]) <= allowed, f"the error in evaluation is {ours}, PyTorch's {golden['rmse']}")
        if "freeze" in source:
            frozen_stay(source, safetensors.read(place / "init.safetensors")[0], tensors)


def schedule_is_right(build, schedule, golden, rates):
    """A weight that becomes the rate (w := lr) is the loss of the next step."""
    batches = golden["steps_per_epoch"]
    program = f"""bpc 1
optimizer keep(w, g, lr) {{ w := lr }}
data ones {{ columns x, t; rows {", ".join(["[1, 0]"] * batches)}; input x; target t }}
model Net(x) {{
    rate = parameter(init = 0)
    y = rate * x
    return y
}}
train Net on ones {{ loss Net.y; optimizer keep(lr = {schedule}); epochs {len(rates) // batches}; batch_size 1 }}
save Net to "end.safetensors"
"""
    with copied() as place:
        (place / "case.bp").write_text(program)
        build.compile("case.bp", "case", "-O0", cwd=place)
        build.succeed(["./case", "--quiet", "--log", "log.jsonl", "--log-steps"], cwd=place)
        events = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
        ours = [event["loss"] for event in events if event["event"] == "step"][1:]
        ours += safetensors.read(place / "end.safetensors")[0]["rate"][1]
    expect(len(ours) == len(rates), f"{len(ours)} rates, not {len(rates)}")
    for step, (a, b) in enumerate(zip(ours, rates)):
        expect(abs(a - b) <= 1.5e-7 * abs(b) + 1e-12, f"the rate of update {step} is {a}, PyTorch's {b}")


def tests(build):
    golden = json.loads((GOLDEN / "schedules.json").read_text())
    for schedule, rates in golden["rates"].items():
        yield f"rates of {schedule}", functools.partial(schedule_is_right, build, schedule, golden, rates)
    for case in sorted(GOLDEN.iterdir()):
        if (case / "case.bp").exists():
            yield case.name, functools.partial(reproduces, build, case)
