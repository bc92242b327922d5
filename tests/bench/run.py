#!/usr/bin/env python3
"""Measures bpc's training steps and predictions beside PyTorch's and the machine's limits, in turn, so that a busy machine slows all.

    tests/bench/run.py [--build DIR] [--rounds N] [--smoke] [--markdown FILE] [--json FILE] [w1 w2 ...]

Each round takes each workload once: from bpc to C, to the executable and to the first step; then, with 1 and with 2 threads,
the native program, `bpc run`, PyTorch, and what the machine can do at that moment (ceiling.c). Shown are medians over the
rounds; a ratio is the median of the rounds' ratios. --json keeps every number of every round. Where FILE of --markdown has the
lines `<!-- measured -->` and `<!-- /measured -->`, what stands between them is replaced, else the tables are the file.

PyTorch should be Debian's python3-torch, with an OpenBLAS that uses OpenMP (libopenblas0-openmp): with the pthread build two
thread pools fight. --smoke: every workload for a step or two, checking what is printed, without PyTorch and without a claim.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # no __pycache__ in the tree
import tables  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
THREADS = (1, 2)
# ours, theirs: steps (rows, where one is predicted) of a run, which repeats them five times. Of a network that is not a
# chain of layers, `widths` are the input's and the target's, `about` says what it is, `parameters` how many it has, `tables`
# how many categories its inputs have, which are then no numbers.
Workload = collections.namedtuple("Workload", "name widths batch optimizer loss goal_ratio goal_us ours theirs about parameters tables", defaults=(None, None, None))
WORKLOADS = [
    Workload("w1", [2, 10, 1], 3, "sgd", "mse", 300, 0.8, 100000, 300),
    Workload("w2", [4, 10, 3], 32, "sgd", "cross_entropy", 150, 1.5, 50000, 300),
    Workload("w3", [784, 128, 10], 32, "sgd", "cross_entropy", 7, None, 1000, 100),
    Workload("w4", [784, 128, 10], 32, "adam", "cross_entropy", 12, None, 1000, 100),
    Workload("w5", [784, 512, 512, 10], 128, "sgd", "cross_entropy", 2.4, None, 60, 30),
    Workload("w6", [784, 512, 512, 10], 128, "adam", "cross_entropy", 3.5, None, 60, 30),
    Workload("w7", [1024] * 4, 512, "sgd", "mse", 1.5, None, 5, 5),
    Workload("w8", [1024] * 4, 512, "adam", "mse", 1.5, None, 5, 5),
    Workload("w9", [64, 64, 64, 64, 64, 16], 256, "adam", "mse", 7, None, 1000, 100),
    Workload("w10", [4096] * 9, 64, "adam", "mse", 5, None, 1, 1),
    Workload("w11", [4, 10, 3], 1, "predict", None, 300, 0.06, 1000000, 1000),
    Workload("w12", [784, 128, 10], 1, "predict", None, 9.5, 7, 10000, 1000),
    Workload("w13", [256, 16], 128, "adamw", "mse", 3, None, 20, 5,
             "20 residual blocks of 256, layer_norm, gelu", 20 * (2 * 256 + 2 * (256 * 256 + 256)) + 257 * 16),
    Workload("w14", [2, 1], 1024, "adam", "mse", 10, None, 100, 5, "two embeddings of 100,000 x 32, their product", 2 * 100000 * 32, 100000),
    Workload("w15", [784, 0], 64, "adam", "mse", 3, None, 200, 50, "a GAN's step, 64-128-784 and 784-128-1, G every fifth",
             65 * 128 + 129 * 784 + 785 * 128 + 129),
    Workload("w16", [784, 128, 10], 32, "adam", "cross_entropy", 10, None, 1000, 100, "784-128-10, dropout 0.2, l2"),
]


class Bench:
    """What every measurement needs: bpc, a folder to build in, and whether it is in earnest."""

    def __init__(self, build, place, smoke):
        self.bpc, self.place, self.smoke = build / "bpc", pathlib.Path(place), smoke
        self.has_jit = (build / "bpc-llvm.so").exists()
        self.environment = dict(os.environ, XDG_CACHE_HOME=str(place))
        self.ceiling = self.place / "ceiling"
        self.run([os.environ.get("CC", "cc"), "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", HERE / "ceiling.c", "-o", self.ceiling])

    def run(self, command):
        """Milliseconds that it took, and the JSON object that it printed last."""
        words = [str(word) for word in command]
        start = time.perf_counter()
        done = subprocess.run(words, cwd=self.place, env=self.environment, capture_output=True, text=True)
        milliseconds = (time.perf_counter() - start) * 1e3
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
        lines = done.stdout.strip().splitlines()
        return milliseconds, json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None

    def milliseconds(self, command):
        return self.run(command)[0]

    def told(self, command):
        """What `--bench` says, in microseconds whatever is measured."""
        said = self.run(command)[1]
        if said and "ns_per_row" in said:
            said["us_per_step"] = said.pop("ns_per_row") / 1e3
        if not said or not said["us_per_step"] > 0:
            raise SystemExit(f"{' '.join(map(str, command))} prints {said}")
        return said

    def rows(self, workload):
        """One batch as a table: a run over it is one step."""
        path = self.place / f"{workload.name}.csv"
        if not path.exists():
            numbers = random.Random(workload.name)
            targets = workload.widths[-1] if workload.loss == "mse" else 0
            with open(path, "w") as file:
                for _ in range(workload.batch):
                    row = [f"{numbers.gauss(0, 1):.4f}" for _ in range(workload.widths[0] + targets)]
                    if workload.tables:
                        row[:workload.widths[0]] = [str(numbers.randrange(workload.tables)) for _ in range(workload.widths[0])]
                    row += [str(numbers.randrange(workload.widths[-1]))] if workload.loss == "cross_entropy" else []
                    file.write(",".join(row) + "\n")
        return path


def start_times(bench, workload, source, program):
    """From bpc to C, to the executable, to the end of the first step; the last also by `bpc run`, from the source."""
    times = {"to_c_ms": bench.milliseconds([bench.bpc, "--emit=c", source, "-o", bench.place / "program.c"]),
             "to_executable_ms": bench.milliseconds([bench.bpc, source, "-o", program])}
    if workload.loss:
        one_step = ["--data", f"rows={bench.rows(workload)}", "--epochs", 1, "--quiet"]
        times["to_first_step_ms"] = bench.milliseconds([program, *one_step])
        if bench.has_jit:
            times["run_to_first_step_ms"] = bench.milliseconds([bench.bpc, "run", "--no-cache", source, "--", *one_step])
    return times


def steps_of(bench, workload, source, program, threads):
    """The three that are compared, with so many threads, and the machine beside them."""
    ours = 1 if bench.smoke else workload.ours
    if workload.loss:
        options, peer = ["--bench", ours, "--threads", threads], [workload.batch, workload.optimizer, workload.loss, workload.theirs, threads]
    else:
        options, peer = ["predict", "--bench", ours], ["predict", workload.theirs]
    result = {"native": bench.told([program, *options])}
    if bench.has_jit:
        result["jit"] = bench.told([bench.bpc, "run", source, "--", *options])
    if not bench.smoke:
        network = workload.name if workload.about else "-".join(map(str, workload.widths))
        result["peer"] = bench.told([PYTHON, HERE / "peer_torch.py", network, *peer])
    return result


def measure(bench, workload):
    source, program = HERE / f"{workload.name}.bp", bench.place / workload.name
    result = start_times(bench, workload, source, program)
    result["steps"] = {threads: steps_of(bench, workload, source, program, threads) for threads in (THREADS if workload.loss else (1,))}
    result["machine"] = bench.run([bench.ceiling])[1]
    return result


def machine(bench):
    """What a reader has to know of the machine to compare."""
    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    versions = {"processor": processor, "cores": os.cpu_count(),
                "compiler": subprocess.run([os.environ.get("CC", "cc"), "--version"], capture_output=True, text=True).stdout.splitlines()[0]}
    if not bench.smoke:
        code = "import torch; print(torch.__version__)"
        versions["torch"] = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True).stdout.strip()
    return versions


def main():
    parser = argparse.ArgumentParser(description="Measures bpc beside PyTorch and the machine's limits.")
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent.parent / "build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("names", nargs="*", metavar="NAME", help="w1 … w16; default: all")
    options = parser.parse_args()
    known = [workload.name for workload in WORKLOADS]
    for name in options.names:
        if name not in known:
            parser.error(f"there is no {name}: {' '.join(known)}")
    if options.rounds < 1:
        parser.error("--rounds: at least one")
    chosen = [workload for workload in WORKLOADS if workload.name in (options.names or known)]
    rounds, imports = {workload.name: [] for workload in chosen}, []
    with tempfile.TemporaryDirectory(prefix="bpc-bench-") as place:
        bench = Bench(options.build.resolve(), place, options.smoke)
        about = machine(bench)
        for number in range(1 if options.smoke else options.rounds):
            if not options.smoke:
                imports.append(bench.milliseconds([PYTHON, "-c", "import torch"]))
            for workload in chosen:
                rounds[workload.name].append(measure(bench, workload))
                if not options.smoke:
                    print(f"round {number + 1}: {tables.line(workload, rounds[workload.name][-1:])}", file=sys.stderr, flush=True)
    text = tables.markdown(about, chosen, rounds, imports)
    if options.markdown:
        tables.put(options.markdown, text)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "import_torch_ms": imports, "rounds": rounds}, indent=1) + "\n")
    if options.smoke:
        print(f"{len(chosen)} workloads build and run")
    elif not options.markdown:
        print(text)


if __name__ == "__main__":
    main()
