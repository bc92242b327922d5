#!/usr/bin/env python3
"""Measures bpc's training steps and predictions beside PyTorch's, in turn, so that a busy machine slows both.

    tests/bench/run.py [--build DIR] [--rounds N] [--smoke] [--json FILE] [w1 w2 ...]

For each workload: build it, then in each round run bpc and PyTorch, each with 1 and with 2 threads and the better of
these taken; shown is the median of the rounds' ratios. PyTorch should be Debian's python3-torch, with an OpenBLAS that
uses OpenMP (libopenblas0-openmp): with the pthread build two thread pools fight. --smoke: builds and runs each small
workload for a moment and checks what it prints, without PyTorch and without a claim.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PEER = ["/usr/bin/python3", str(HERE / "peer_torch.py")]
# name, widths, batch, optimizer, loss, the ratio aimed at, steps of ours, steps of PyTorch's
STEPS = [
    ("w1", "2-10-1", 3, "sgd", "mse", 300, 20000, 300),
    ("w2", "4-10-3", 32, "sgd", "cross_entropy", 150, 20000, 300),
    ("w3", "784-128-10", 32, "sgd", "cross_entropy", 7, 300, 100),
    ("w4", "784-128-10", 32, "adam", "cross_entropy", 12, 300, 100),
    ("w5", "784-512-512-10", 128, "sgd", "cross_entropy", 2.4, 30, 30),
    ("w6", "784-512-512-10", 128, "adam", "cross_entropy", 3.5, 30, 30),
    ("w7", "1024-1024-1024-1024", 512, "sgd", "mse", 1.5, 5, 5),
    ("w8", "1024-1024-1024-1024", 512, "adam", "mse", 1.5, 5, 5),
    ("w9", "64-64-64-64-64-16", 256, "adam", "mse", 7, 200, 100),
    ("w10", "-".join(["4096"] * 9), 64, "adam", "mse", 5, 1, 1),
]
# name, the program, widths, the ratio aimed at
PREDICTIONS = [("w11", "w2", "4-10-3", 300), ("w12", "w3", "784-128-10", 9.5)]
SMOKE = ("w1", "w2", "w3", "w9")


def told(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def built(bpc, name, place):
    program = pathlib.Path(place) / name
    if not program.exists():
        subprocess.run([bpc, HERE / f"{name}.bp", "-o", program], check=True)
    return program


def step_round(program, workload):
    name, widths, batch, optimizer, loss, _, ours, theirs = workload
    mine = min((told([program, "--bench", ours, "--threads", n]) for n in (1, 2)), key=lambda told: told["us_per_step"])
    peer = min((told([*PEER, widths, batch, optimizer, loss, theirs, n]) for n in (1, 2)), key=lambda told: told["us_per_step"])
    return mine, peer["us_per_step"] / mine["us_per_step"], peer["us_per_step"]


def measure_steps(bpc, workload, rounds, place):
    program = built(bpc, workload[0], place)
    results = [step_round(program, workload) for _ in range(rounds)]
    mine = sorted((mine for mine, _, _ in results), key=lambda told: told["us_per_step"])[rounds // 2]
    ratio, theirs = (statistics.median(result[i] for result in results) for i in (1, 2))
    print(f"{workload[0]:4} {mine['us_per_step']:12.2f} us  {mine['gflops']:7.1f} GFLOP/s  PyTorch {theirs:12.2f} us"
          f"  {ratio:8.2f}x of {workload[5]}x", flush=True)
    return {"name": workload[0], "ours": mine, "theirs_us_per_step": theirs, "ratio": ratio, "goal": workload[5]}


def measure_prediction(bpc, workload, rounds, place):
    name, source, widths, goal = workload
    program = built(bpc, source, place)
    times = 100000 if source == "w2" else 5000
    pairs = [(told([program, "predict", "--bench", times])["ns_per_row"],
              told([*PEER, widths, "predict", 1000])["ns_per_row"]) for _ in range(rounds)]
    mine, theirs = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{name:4} {mine:12.1f} ns  a row              PyTorch {theirs:12.1f} ns  {ratio:8.2f}x of {goal}x", flush=True)
    return {"name": name, "ours_ns_per_row": mine, "theirs_ns_per_row": theirs, "ratio": ratio, "goal": goal}


def smoke(bpc, place):
    for name in SMOKE:
        program = built(bpc, name, place)
        for command, key in (([program, "--bench", 2], "us_per_step"), ([program, "predict", "--bench", 2], "ns_per_row")):
            result = told(command)
            if not result[key] > 0 or not result["threads"] >= 1:
                raise SystemExit(f"{name} prints {result}")
    print(f"{len(SMOKE)} workloads build and run")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(HERE.parent.parent / "build"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("names", nargs="*", help="w1 … w12; all without w10")
    options = parser.parse_args()
    known = [workload[0] for workload in STEPS + PREDICTIONS]
    for name in options.names:
        if name not in known:
            parser.error(f"there is no {name}: {' '.join(known)}")
    names = options.names or [name for name in known if name != "w10"]
    bpc = pathlib.Path(options.build) / "bpc"
    with tempfile.TemporaryDirectory(prefix="bpc-bench-") as place:
        if options.smoke:
            smoke(bpc, place)
            return
        results = [measure_steps(bpc, workload, options.rounds, place) for workload in STEPS if workload[0] in names]
        results += [measure_prediction(bpc, workload, options.rounds, place) for workload in PREDICTIONS if workload[0] in names]
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
