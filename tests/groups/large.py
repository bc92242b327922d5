"""Tensors and batches of more than 2^32 elements: single functions of a program, run over pages that cost nothing until they are
touched (tests/memory/large.c). All is zero but a few numbers, mostly the last ones, so the results are sums of a few terms; a
place that is counted in 31 or 32 bits would be another number, and that is zero."""
import functools
import math
import re
import shutil

from commands import TESTS, Skipped, copied, expect
from groups.host import runtime_words

THREADS = 512
WIDE, ROWS = 65536, 70000

PROGRAM = """bpc 1
data rows {
    columns x0..x3, y
    input   x0..x3
    target  y
    rows    [1, 2, 3, 4, 1], [4, 3, 2, 1, 1]
}
model Net(x) {
%s
}
train Net on rows {
    loss       mse
    optimizer  sgd(lr = %d)
    epochs     1
    batch_size %d
}
"""
MATRIX = PROGRAM % (f"    fc1 = dense(x, {WIDE}, relu)\n    fc2 = dense(fc1, {ROWS}, relu)\n    fc3 = dense(fc2, 1)\n    return fc3", 1, 4)
BATCH = PROGRAM % (f"    fc1 = dense(x, {WIDE}, relu)\n    fc2 = dense(fc1, 1)\n    return fc2", ROWS // 10, ROWS)


class Large:
    """A program, the places of its buffers, and what its functions are to do."""

    def __init__(self, build, place, way, text):
        if build.sanitized or not shutil.which("objcopy"):
            raise Skipped("the sanitizers watch every page" if build.sanitized else "no objcopy")
        if way == "llvm" and not (build.folder / "bpc-llvm.so").exists():
            raise Skipped("built without LLVM")
        self.build, self.place, self.commands = build, place, []
        (place / "net.bp").write_text(text)
        always = "--threads=always"
        self.plan = build.succeed([build.bpc, "--emit=memory", always, "net.bp"], cwd=place).out
        self.at, self.own, function = {}, set(), ""
        for line in self.plan.splitlines():
            found = re.match(r"(\w+): up to ", line)
            function = found[1] + " " if found else function
            found = re.match(r"  (\S+) +\[.*?\] +\w+ +\d+ +(\d+)( \w+$)?", line)
            if found:  # a name at the end: each thread has its own
                name = f"{found[3].strip()} {found[1]}" if found[3] else function + found[1]
                self.at.setdefault(name, int(found[2]))
                self.own |= {name} if found[3] else set()
        sizes = {name: int(re.search(rf"^  {name} +(\d+)", self.plan + f"\n  {name} 0", re.MULTILINE)[1]) for name in ("the block", "scratch")}
        threads = int((re.search(r"for (\d+) thread", self.plan) or [0, 1])[1])
        self.scratch = sizes["scratch"] // threads
        build.succeed([build.bpc, "-c", f"--backend={way}", always, "--verify", "net.bp", "-o", "net.o"], cwd=place)
        build.succeed(["objcopy", *[f"--globalize-symbol=Net_{name}" for name in ("step", "predict", "init")], "net.o"], cwd=place)
        build.succeed(["gcc", "-O1", "-I", TESTS.parent, f"-DTHREADS={THREADS}", f"-DBLOCK={sizes['the block']}ull",
                       f"-DSCRATCH={sizes['scratch'] // threads}ull", TESTS / "memory" / "large.c", "net.o",
                       "-Wl,-z,muldefs", *runtime_words(build), "-o", "large"], cwd=place)  # bp_barrier is large.c's

    def put(self, name, index, value):
        for thread in range(THREADS if name in self.own else 1):
            self.commands.append(f"f {self.at[name] + thread * self.scratch + 4 * index} {value}")

    def rows(self, function, count):
        self.commands += [f"d {8 * 4} {count}", f"run {function} {count}"]  # BP_SCALAR_ROWS

    def get(self, name, index):
        self.commands.append(f"print {self.at[name] + 4 * index}")

    def go(self):
        self.commands.append("peak")
        (self.place / "commands").write_text("\n".join(self.commands) + "\n")
        outcome = self.build.run(["sh", "-c", "./large < commands"], cwd=self.place)
        if outcome.code == 3:
            raise Skipped("this machine reserves no such addresses")
        expect(outcome.code == 0, f"exit code {outcome.code}: {outcome.err[-300:]}")
        *values, peak = map(float, outcome.out.split())
        expect(peak < 1 << 20, f"{peak / 1024:.0f} MB are touched")
        return values


def element(width, i, j):
    """Of a matrix in panels with rows of this many columns."""
    return (i // 16 * width + j) * 16 + i % 16


def close(values, expected):
    for value, (name, right) in zip(values, expected, strict=True):
        expect(math.isclose(value, right, rel_tol=1e-5), f"{name} is {value}, not {right}")


def matrix(build, way):
    """4.6e9 weights: x -> fc1 -> fc2 -> fc3 along the last units alone; prediction and one update of sgd."""
    with copied() as place:
        large = Large(build, place, way, MATRIX)
        unit, last = WIDE - 1, ROWS - 1
        corner = element(WIDE, last, unit)
        expect(corner > 1 << 32, f"element {corner} is not beyond 2^32")
        large.put("fc1.bias", unit, 2)
        large.put("fc2.weight", corner, 3)
        large.put("fc3.weight", element(ROWS, 0, last), 0.5)
        for row in range(4):
            large.put("Net_predict numbers", row * 16, row)
        large.rows("predict", 4)
        large.get("Net_predict predicted_y", 3)
        for row in range(4):
            large.put("Net_step numbers", row * 16, 0)
            large.put("Net_step numbers", row * 16 + 1, row)
            large.put("Net_step y", row * 16, 1)
        large.rows("step", 4)
        # fc1 = 2, fc2 = 6, y = 3; d_y = 2 (y - 1) / 4 = 1 in each row, d_fc2 = 0.5, d_fc1 = 1.5; four rows, x1 = 0 + 1 + 2 + 3
        expected = [("y", 3), ("fc3.weight", 0.5 - 24), ("fc3.bias", -4), ("fc2.weight", 3 - 4), ("fc2.bias", -2), ("fc1.bias", 2 - 6),
                    ("fc1.weight", -9)]
        for name, index in (("fc3.weight", element(ROWS, 0, last)), ("fc3.bias", 0), ("fc2.weight", corner), ("fc2.bias", last),
                            ("fc1.bias", unit), ("fc1.weight", element(4, unit, 1))):
            large.get(name, index)
        zeros = [("fc2.weight", corner - (1 << 31)), ("fc2.weight", corner - (1 << 32)), ("fc2.weight", corner - 1)]
        for place_of in zeros:
            large.get(*place_of)
        close(large.go(), expected + [(name, 0) for name, _ in zeros])


def first_values(build, way):
    """Beyond 2^32 other random numbers are drawn than before."""
    with copied() as place:
        large = Large(build, place, way, MATRIX)
        panels, count = (ROWS + 15) // 16, 2048
        last = element(WIDE, (panels - 1) * 16, 0)  # the last panel begins there: the first thread fills its first columns
        large.commands.append("run init 1")
        for i in range(count):
            large.get("fc2.weight", last + i)
        for i in range(count):
            large.get("fc2.weight", i)
        values = large.go()
        bound = WIDE ** -0.5
        expect(max(map(abs, values)) <= bound * (1 + 1e-6), "a first value is beyond 1 / sqrt(fan_in)")
        mean_square = sum(value * value for value in values[:count]) / count
        expect(abs(mean_square / (bound * bound / 3) - 1) < 0.1, f"the last panel's mean square is {mean_square}, not {bound * bound / 3}")
        same = sum(a == b for a, b in zip(values[:count], values[count:]))
        expect(same < 20, f"{same} of {count} numbers of the last panel are those of the first")


def batch(build, way):
    """Activations of 4.6e9 elements: the last row alone is not zero."""
    with copied() as place:
        large = Large(build, place, way, BATCH)
        unit, row = WIDE - 1, ROWS - 1
        large.put("fc1.weight", element(4, unit, 0), 1)
        large.put("fc2.weight", element(WIDE, 0, unit), 1.5)
        large.put("Net_step numbers", row * 16, 2)
        large.put("Net_step y", row * 16, 1)
        large.rows("step", ROWS)
        # fc1 = 2, y = 3; lr d_y = lr 2 (y - 1) / rows = 0.4
        expected = [("fc2.weight", 1.5 - 0.8), ("fc2.bias", -0.4), ("fc1.weight", 1 - 0.4 * 1.5 * 2), ("fc1.bias", -0.6)]
        for name, index in (("fc2.weight", element(WIDE, 0, unit)), ("fc2.bias", 0), ("fc1.weight", element(4, unit, 0)), ("fc1.bias", unit)):
            large.get(name, index)
        close(large.go(), expected)


def tests(build):
    for way in ("c", "llvm"):
        for test in (matrix, first_values, batch):
            yield f"{test.__name__}-{way}", functools.partial(test, build, way)
