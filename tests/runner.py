#!/usr/bin/env python3
"""Runs the tests: one line for each that fails, with the reason, and at the end how many passed.

    tests/runner.py [--build DIR] [-j N] [--list] [--rewrite] [PATTERN ...]

Tests are named group/name; a pattern picks those whose name holds it. Groups:
    unit     the Criterion programs in DIR/tests
    reject   tests/reject/**/X.bp: what bpc, or the program that it builds, says of bad input, to the letter (X.err)
    lints    tests/lints/X.bp: what bpc warns of (X.err), to the letter; the examples, which it warns of nothing
    floats   exp, log, tanh … against libm on a sample of all floats
    golden   tests/golden/*: 200 updates as PyTorch makes them
    formulas activations and losses at hundreds of points, values and derivatives as PyTorch has them
    agree    gcc, clang, threads or none: the same weights to the bit, and no warning
    portable x86-64 with and without AVX, aarch64: the same weights to the bit
    train    the examples reach what they promise; checkpoints, predictions, resumed runs
    results  examples reach what papers report and closed forms say
    docs     every program in README.md and docs/*.md
    explain  bpc explain: formulas that are true, a worked example with PyTorch's numbers, LaTeX, MathML
    jit      bpc run, and what LLVM makes: the bits of the native program
    host     a program inside another one, through --emit=header and -c
    memory   the plan, the peak, --max-mem, and that nothing is allocated while training
    large    tensors and batches of more than 2^32 elements
--rewrite puts what is said now into the .err files of `reject`, to be read with git diff before it is believed.
"""
import argparse
import concurrent.futures
import signal
import sys
import time
import traceback

sys.dont_write_bytecode = True  # no __pycache__ in the tree
from commands import ROOT, Build, Failure, Skipped  # noqa: E402
from groups import agree, docs, explain, floats, formulas, golden, host, jit, large, lints, memory, portable, reject, results, train, unit  # noqa: E402

GROUPS = {"unit": unit, "reject": reject, "lints": lints, "floats": floats, "golden": golden, "formulas": formulas, "agree": agree,
          "portable": portable, "train": train, "results": results, "docs": docs, "explain": explain, "jit": jit, "host": host, "memory": memory, "large": large}


def run_one(function):
    start = time.monotonic()
    try:
        function()
        reason, kind = "", "passed"
    except Failure as failure:
        reason, kind = str(failure), "failed"
    except Skipped as skipped:
        reason, kind = str(skipped), "skipped"
    except Exception:  # a broken test fails as a test does
        reason, kind = "the test itself broke: " + traceback.format_exc().strip().replace("\n", " | ")[-400:], "failed"
    return kind, reason, time.monotonic() - start


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts behind its back ignores it, and so would what we start
    parser = argparse.ArgumentParser(description="Runs bpc's tests.")
    parser.add_argument("--build", default=str(ROOT / "build"), metavar="DIR")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="tests at a time")
    parser.add_argument("--list", action="store_true", help="name the tests, run none")
    parser.add_argument("--rewrite", action="store_true", help="take over what `reject` programs say now")
    parser.add_argument("--slowest", type=int, default=0, metavar="N", help="show the N slowest tests")
    parser.add_argument("patterns", nargs="*")
    options = parser.parse_args()
    build = Build(options.build)
    reject.REWRITE = options.rewrite
    tests = [(f"{group}/{name}", function) for group, module in GROUPS.items() for name, function in module.tests(build)]
    names = [name for name, _ in tests]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    if options.patterns:
        tests = [test for test in tests if any(pattern in test[0] for pattern in options.patterns)]
    if options.list:
        print("\n".join(name for name, _ in tests))
        return 0
    if not build.bpc.exists():
        print(f"no {build.bpc}: build it first (tests/run.sh does)")
        return 1
    if not tests:
        print("no test has such a name")
        return 1
    counts, times = {"passed": 0, "failed": 0, "skipped": 0}, []
    with concurrent.futures.ThreadPoolExecutor(max(1, options.j)) as pool:
        running = {pool.submit(run_one, function): name for name, function in tests}
        for done in concurrent.futures.as_completed(running):
            kind, reason, seconds = done.result()
            counts[kind] += 1
            times.append((seconds, running[done]))
            if kind != "passed":
                print(f"{'FAIL' if kind == 'failed' else 'skip'} {running[done]}: {reason}", flush=True)
    for seconds, name in sorted(times, reverse=True)[: options.slowest]:
        print(f"{seconds:6.1f} s  {name}")
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
