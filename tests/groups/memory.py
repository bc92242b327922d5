"""Memory is planned when compiling: the plan is no larger than a sum by hand, a program's peak is the plan, and nothing is
allocated once it trains."""
import functools
import json
import os
import re
import subprocess
import xml.etree.ElementTree

from commands import ROOT, TESTS, Skipped, copied, expect

IRIS = ROOT / "examples" / "iris"
MEMORY = TESTS / "memory"
LANES = 16


# ---- The plan against a sum by hand ---------------------------------------------------------------------------------


def padded(width):
    return (width + LANES - 1) // LANES * LANES


def program(body, widths, batch, settings):
    """Rows are never read: the plan depends on shapes alone."""
    inputs, outputs = widths[0], widths[-1]
    return f"""bpc 1
data rows {{
    file "made-up.csv", header = none
    columns x0..x{inputs - 1}, y0..y{outputs - 1}
    input x0..x{inputs - 1}
    target y0..y{outputs - 1}
    split train = 0.8, validation = 0.2
}}
model Net(x) {{
{body}
}}
train Net on rows {{
    loss mse
    epochs 2
    batch_size {batch}
{settings}
}}
"""


def layers(widths):
    lines = [f"    fc{i} = dense({f'fc{i - 1}' if i > 1 else 'x'}, {width}{', relu' if i + 1 < len(widths) else ''})"
             for i, width in enumerate(widths) if i]
    return "\n".join([*lines, f"    return fc{len(widths) - 1}"])


def weights(fan_in, width):
    return 4 * padded(width) * (fan_in + 1)


def rows_of(batch, *widths):
    return sum(4 * batch * padded(width) for width in widths)


# Alive at the widest place, kernel by kernel. In a chain that is where the gradient of the last hidden layer is made: rows,
# what the way back will read, d_output, and what is made.
CHAIN = [500, 1000, 700, 300]
CHAIN_WEIGHTS = [weights(a, b) for a, b in zip(CHAIN, CHAIN[1:])]
RESIDUAL = """    fc1 = dense(x, 640, relu)
    fc2 = dense(fc1, 640, relu)
    sum = fc1 + fc2
    fc3 = dense(sum, 128)
    return fc3"""
CASES = {  # name: program, parameters of a copy each, how many copies, kept bytes, what is alive
    "sgd": (program(layers(CHAIN), CHAIN, 250, "    optimizer sgd(lr = 0.1)"),
            sum(CHAIN_WEIGHTS), 0, rows_of(250, *CHAIN, 700)),
    "momentum": (program(layers(CHAIN), CHAIN, 250, "    optimizer sgd(lr = 0.1, momentum = 0.9)"),
                 sum(CHAIN_WEIGHTS) * 2, 0, rows_of(250, *CHAIN, 700)),
    "adam": (program(layers(CHAIN), CHAIN, 250, "    optimizer adam(lr = 0.001)"),
             sum(CHAIN_WEIGHTS) * 3, 0, rows_of(250, *CHAIN, 700)),
    "kept": (program(layers(CHAIN), CHAIN, 250, "    optimizer adam(lr = 0.001)\n    early_stopping val_loss, patience = 3"),
             sum(CHAIN_WEIGHTS) * 3, 4 * sum((a + 1) * b for a, b in zip(CHAIN, CHAIN[1:])), rows_of(250, *CHAIN, 700)),
    # the trunk keeps nothing: widest is the way from the rows to fc1 and on to fc2, while the targets wait
    "frozen": (program(layers(CHAIN), CHAIN, 250, "    freeze fc1, fc2\n    optimizer adam(lr = 0.001)"),
               sum(CHAIN_WEIGHTS) + CHAIN_WEIGHTS[-1] * 2, 0, rows_of(250, 1000, 700, 300)),
    # predictions, of 128 rows at once, are wider than a step of 16
    "billion": ((TESTS / "bench" / "billion.bp").read_text(), weights(16384, 16384) * 4 * 3, 0, rows_of(128, 16384, 16384)),
    "residual": (program(RESIDUAL, [512, 128], 200, "    optimizer adam(lr = 0.001)"),
                 (weights(512, 640) + weights(640, 640) + weights(640, 128)) * 3, 0,
                 # the kernel behind fc3 reads rows, fc1, fc2, sum and d_fc3, and makes d_sum and d_fc2
                 rows_of(200, 512, 640, 640, 640, 128, 640, 640)),
}


def table(text):
    """The sizes at the head of --emit=memory."""
    return {name.strip(): int(size) for name, size in re.findall(r"^  (\S.*?) +(\d+) +[\d.]+ [KMGT]?B\b", text, re.MULTILINE)}


def plan_is_small(build, name):
    text, persistent, kept, alive = CASES[name]
    with copied() as place:
        (place / "program.bp").write_text(text)
        said = table(build.succeed([build.bpc, "--emit=memory", "--verify", "program.bp"], cwd=place).out)
        by_hand = persistent + kept + alive
        planned = said["the block"] + said.get("best weights", 0)
        expect(planned <= by_hand * 1.05 + 65536, f"planned are {planned} bytes, by hand {by_hand}: {said}")
        expect(said["the block"] >= persistent, f"the block of {said['the block']} bytes cannot hold {persistent} bytes of weights")
        expect(said.get("best weights", 0) == kept, f"the best weights take {said.get('best weights')} bytes, by hand {kept}")
        parts = ("scalars", "parameters", "optimizer state", "sums and metrics", "shared by functions")
        expect(said["the block"] == sum(said[part] for part in parts), f"the parts are not the block: {said}")


def life_rows(text):
    """(function, name, bytes, offset, first, last) of every buffer in the shared room."""
    function, rows = None, []
    for line in text.splitlines():
        found = re.match(r"(\w+): up to ", line)
        function = found[1] if found else function
        found = re.match(r"  (\S+) +\[.*?\] +\w+ +(\d+) +(\d+) +(\d+)-(\d+) +[#.]+$", line)
        if found:
            rows.append((function, found[1], *map(int, found.groups()[1:])))
    return rows


def nothing_overlaps(build, source):
    """No two buffers that live at once share a byte; the picture shows each."""
    with copied(source.parent) as place:
        text = build.succeed([build.bpc, "--emit=memory", source.name], cwd=place).out
        rows = life_rows(text)
        expect(len(rows) > 3, f"{len(rows)} buffers are listed")
        for i, (function, name, size, offset, first, last) in enumerate(rows):
            for other, its_name, its_size, its_offset, its_first, its_last in rows[:i]:
                together = other == function and first <= its_last and its_first <= last
                expect(not together or offset >= its_offset + its_size or its_offset >= offset + size,
                       f"{function}: '{name}' and '{its_name}' share bytes")
        build.succeed([build.bpc, "--emit=memory", source.name, "-o", "plan.svg"], cwd=place)
        picture = xml.etree.ElementTree.parse(place / "plan.svg").getroot()
        titles = [title.text for title in picture.iter("{http://www.w3.org/2000/svg}title")]
        largest = rows[0][0]
        for function, name, size, offset, *_ in rows:
            shown = any(title.startswith(f"{name} ") and f" {size} bytes at {offset}," in title for title in titles)
            expect(function != largest or shown, f"the picture lacks '{name}' of {function}")


# ---- The program against the plan ----------------------------------------------------------------------------------


def peak_is_the_plan(build, name):
    if build.sanitized:
        raise Skipped("the sanitizers' own memory is in the peak")
    with copied(TESTS / "bench") as place:
        build.compile(f"{name}.bp", name, cwd=place)
        said = table(build.succeed([build.bpc, "--emit=memory", f"{name}.bp"], cwd=place).out)
        for threads in (1, 2):
            told = json.loads(build.succeed([f"./{name}", "--bench", "1", "--threads", threads], cwd=place).out)
            planned, peak = told["bytes_planned"], told["bytes_peak"]
            expect(peak <= planned * 1.05 + (8 << 20), f"{threads} threads: planned are {planned} bytes, the peak is {peak}")
            expect(planned >= said["the block"], f"--bench plans {planned} bytes, the compiler {said['the block']}")


MIDDLE = """bpc 1
data rows {
    columns x0..x7, y
    input   x0..x7
    target  y
    rows    [1, 2, 3, 4, 5, 6, 7, 8, 1], [8, 7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 0, 1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0, 0]
    split   train = 0.5, validation = 0.5
}
model Net(x) {
    fc1 = dense(x, 2000, tanh)
    fc2 = dense(fc1, 2000, tanh)
    fc3 = dense(fc2, 2000, tanh)
    fc4 = dense(fc3, 1)
    return fc4
}
train Net on rows {
    loss       mse
    optimizer  adam(lr = 0.0001)
    epochs     1
    batch_size 2
    early_stopping val_loss, patience = 9
    checkpoint "run.state", every = 1
}
save Net to "net.safetensors"
"""


def clipping_stores_or_repeats(build):
    """Clipped by their common length, gradients are stored; where --max-mem has no room for them (8 million numbers here), their
    products are made twice. The weights are the same."""
    clipped = MIDDLE.replace("epochs     1", "epochs     3\n    clip_gradient norm = 0.001").replace(
        '    early_stopping val_loss, patience = 9\n    checkpoint "run.state", every = 1\n', "")
    expect("clip_gradient" in clipped and "early_stopping" not in clipped, "the program is not what was meant")
    gradients, ends, blocks = 2 * 2000 * 2000 * 4, [], []
    with copied() as place:
        (place / "net.bp").write_text(clipped)
        for limit in ((), ("--max-mem", "120M")):
            blocks.append(table(build.succeed([build.bpc, "--emit=memory", "--verify", *limit, "net.bp"], cwd=place).out)["the block"])
            said = build.succeed([build.bpc, "--explain=fusion", *limit, "net.bp"], cwd=place).out
            expect(said.count("made a second time") == (3 if limit else 0), f"{limit}: {said.count('made a second time')} products are made twice")
            expect(said.count("added up on the way") == 3, f"{limit}: {said.count('added up on the way')} sums ride on gradients")
            build.compile("net.bp", "net", *limit, cwd=place)
            for threads in (1, 2):
                build.succeed(["./net", "--quiet", "--threads", threads], cwd=place)
                ends.append((place / "net.safetensors").read_bytes())
    expect(len(set(ends)) == 1, "weights differ")
    expect(blocks[0] - blocks[1] > 0.95 * gradients, f"with gradients the block is {blocks[0]}, without {blocks[1]}")


def peak_of(command, place):
    """Bytes: the most that the process had."""
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    err = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    expect(process.returncode == 0, f"{' '.join(command)}: exit code {process.returncode}: {err[-200:]}")
    return usage.ru_maxrss * 1024


def files_are_streams(build):
    """Saving, resuming and loading need no more than the plan: checkpoints are converted piece by piece. 8 million weights take
    32 MB, so a copy of them would be seen."""
    if build.sanitized:
        raise Skipped("the sanitizers' own memory is in the peak")
    with copied() as place:
        (place / "net.bp").write_text(MIDDLE)
        build.compile("net.bp", "net", cwd=place)
        said = table(build.succeed([build.bpc, "--emit=memory", "net.bp"], cwd=place).out)
        planned = said["the block"] + said.get("scratch", 0) + said["best weights"]
        (place / "rows.csv").write_text(",".join(f"x{i}" for i in range(8)) + "\n" + "1,2,3,4,5,6,7,8\n")
        for words in (["--quiet"], ["--quiet", "--resume", "run.state", "--epochs", "2"]):
            peak = peak_of(["./net", *words], place)
            expect(peak <= planned * 1.05 + (8 << 20), f"{' '.join(words)}: planned are {planned} bytes, the peak is {peak}")
        expect(json.loads(build.succeed(["./net", "--bench", "1"], cwd=place).out)["bytes_planned"] <= planned, "the plan is another")
        planned = said["the block"] + said.get("scratch", 0)
        peak = peak_of(["./net", "predict", "--weights", "net.safetensors", "rows.csv"], place)
        expect(peak <= planned * 1.05 + (8 << 20), f"predict: planned are {planned} bytes, the peak is {peak}")


def counted(build, place, command):
    build.succeed(["env", f"LD_PRELOAD={place}/count.so", f"COUNT_FILE={place}/count", *command], cwd=place)
    return int((place / "count").read_text())


def nothing_is_allocated(build):
    """Ten epochs more cost no allocation more: not for shuffling, measuring, areas under curves, the best weights, the lines
    printed, nor in the threads. (A line of --log, a checkpoint may allocate.)"""
    if build.sanitized:
        raise Skipped("the sanitizers bring their own malloc")
    with copied(MEMORY, IRIS) as place:
        done = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", "count.so", "count.c"], cwd=place, capture_output=True)
        if done.returncode != 0:
            raise Skipped("no shared library can be built here")
        build.compile("areas.bp", "areas", "--threads=always", cwd=place)
        for options in (["--quiet"], [], ["--threads", "2"]):
            few, many = (counted(build, place, ["./areas", *options, "--epochs", n]) for n in (3, 13))
            expect(few > 10, f"{few} allocations are counted: the counter does not work")
            expect(few == many, f"{' '.join(options)}: {few} allocations in 3 epochs, {many} in 13")


FINITE = """bpc 1
data rows {
    file "rows.csv"
    input x0..x299
    target y
}
model Net(x) {
    logs = log(x)
    fc1 = dense(logs, 300, tanh)
    fc2 = dense(fc1, 300, tanh)
    fc3 = dense(fc2, 1)
    return fc3
}
train Net on rows {
    loss mse
    optimizer sgd(lr = 0.0001)
    epochs 1
    batch_size 40
}
"""


def first_that_is_not_finite(build):
    """The trace keeps no value longer than the next needs it, and finds the first all the same: the one negative number, of
    which the logarithm is taken, stands in row 57, element 217."""
    with copied() as place:
        table_of = [[1 + (7 * row + 3 * i) % 11 / 11 for i in range(300)] + [0.5] for row in range(100)]
        table_of[56][217] = -5
        names = [f"x{i}" for i in range(300)] + ["y"]
        (place / "rows.csv").write_text("\n".join(",".join(map(str, row)) for row in [names, *table_of]) + "\n")
        (place / "net.bp").write_text(FINITE)
        memory = build.succeed([build.bpc, "--emit=memory", "net.bp"], cwd=place).out
        trace = {name: (offset, size) for function, name, size, offset, *_ in life_rows(memory) if function == "Net_trace"}
        at, size = trace["logs"]
        reused = [name for name in ("fc1", "fc2", "fc3") if trace[name][0] < at + size and at < sum(trace[name])]
        expect(reused, f"no value takes the place of 'logs': the test says nothing: {trace}")
        build.compile("net.bp", "net", "--threads=always", cwd=place)
        for threads in (1, 2):
            outcome = build.run(["./net", "--quiet", "--threads", threads], cwd=place)
            expect(outcome.code == 1 and "net.bp:8: the first value that is not finite is in 'logs', element 217, row 57 of data"
                   in outcome.err and outcome.err.rstrip().endswith("nan"), f"{threads} threads: {outcome.err}")


# ---- --max-mem -------------------------------------------------------------------------------------------------------


def nothing_is_written(build):
    with copied(IRIS) as place:
        before = sorted(place.iterdir())
        for words in (["-o", "iris"], ["--emit=c", "-o", "iris.c"], ["--emit=memory", "-o", "iris.svg"]):
            outcome = build.run([build.bpc, "iris.bp", "--max-mem", "1K", *words], cwd=place)
            expect(outcome.code == 1 and "--max-mem allows 1.0 KB" in outcome.err, f"{words}: {outcome.err[:200]}")
            expect(sorted(place.iterdir()) == before, f"{words}: something is written even so")
        for size in ("", "0", "64Q", "many", "-1M", "1e99G"):
            outcome = build.run([build.bpc, "check", "iris.bp", f"--max-mem={size}"], cwd=place)
            expect(outcome.code == 2, f"--max-mem={size} is taken for a size")
        build.succeed([build.bpc, "check", "iris.bp", "--max-mem", "0.5G"], cwd=place)


def the_advice_is_true(build):
    """The batch_size that --max-mem's error names does fit, and one a third larger does not."""
    with copied() as place:
        for most in ("9500K", "13M", "30M"):
            for large in (5000, 20001):
                text = program(layers(CHAIN), CHAIN, large, "    optimizer sgd(lr = 0.1)")
                (place / "net.bp").write_text(text)
                command = [build.bpc, "check", "net.bp", f"--max-mem={most}"]
                named = re.search(r"batch_size (\d+) would", build.run(command, cwd=place).err)
                expect(named, f"{most}: no batch_size is named")
                for rows, code in ((int(named[1]), 0), (int(named[1]) * 4 // 3 + 40, 1)):
                    (place / "net.bp").write_text(text.replace(f"batch_size {large}", f"batch_size {rows}"))
                    outcome = build.run(command, cwd=place)
                    expect(outcome.code == code, f"{most}: a batch_size of {rows} ends with {outcome.code}: {outcome.err[:200]}")


def best_weights_in_a_file(build):
    """Where --max-mem leaves no room for them; the run, and one that is resumed, end with the same weights to the bit."""
    with copied(MEMORY, IRIS) as place:
        source = (place / "areas.bp").read_text().replace("patience = 1000", 'patience = 3\n    checkpoint "run.state", every = 1')
        (place / "net.bp").write_text(source.replace("lr = 1e-4", "lr = 0.3").replace("dropout(fc1, 0.1)", "relu(fc1)"))
        said = table(build.succeed([build.bpc, "--emit=memory", "net.bp"], cwd=place).out)
        room = said["the block"] + said["scratch"] if "scratch" in said else said["the block"]
        files = {}
        for name, options in (("memory", []), ("file", [f"--max-mem={room}"])):
            build.compile("net.bp", name, *options, cwd=place)
            told = build.succeed([f"./{name}", "--epochs", "40"], cwd=place).out
            expect("restored" in told, f"{name}: no weights are restored, the test says nothing: {told[-300:]}")
            expect(("best weights of Net are kept in a file" in told) == (name == "file"), f"{name}: {told[:200]}")
            files[name] = (place / "net.safetensors").read_bytes()
        expect(files["memory"] == files["file"], "best weights from a file are others")
        build.succeed(["./file", "--quiet", "--epochs", "4"], cwd=place)
        build.succeed(["./file", "--quiet", "--epochs", "40", "--resume", "run.state"], cwd=place)
        expect((place / "net.safetensors").read_bytes() == files["memory"], "a resumed run ends with other weights")
        left = [path.name for path in place.iterdir() if "bpc-best" in path.name]
        expect(not left, f"{left} is left behind")


def tests(build):
    for name in CASES:
        yield f"plan-{name}", functools.partial(plan_is_small, build, name)
    for source in (IRIS / "iris.bp", ROOT / "examples" / "digits" / "digits.bp", TESTS / "bench" / "w6.bp", TESTS / "agree" / "branches.bp"):
        yield f"overlap-{source.stem}", functools.partial(nothing_overlaps, build, source)
    for name in ("w6", "w7", "w8"):
        yield f"peak-{name}", functools.partial(peak_is_the_plan, build, name)
    yield "streams", functools.partial(files_are_streams, build)
    yield "allocations", functools.partial(nothing_is_allocated, build)
    yield "first-not-finite", functools.partial(first_that_is_not_finite, build)
    yield "advice", functools.partial(the_advice_is_true, build)
    yield "nothing-written", functools.partial(nothing_is_written, build)
    yield "clipping", functools.partial(clipping_stores_or_repeats, build)
    yield "best-in-file", functools.partial(best_weights_in_a_file, build)
