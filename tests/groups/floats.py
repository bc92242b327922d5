"""The kernels' mathematics against libm, on a sample of the floats: exp to pow within 2 units of the last place, NaN and
infinities as libm has them; sqrt, division and fma to the bit. The target `all_floats` takes every float there is."""
import functools
import shutil

from commands import Skipped, expect

SAMPLE = ["--every", "10007", "--pairs", "500000"]
COMPILERS = ["gcc -O3 -march=native", "clang -O3 -march=native", "gcc -O2 -march=x86-64", "clang -O2 -march=x86-64"]


def within(build, compiler):
    program = build.folder / "tests" / "floats"
    if not program.exists():
        raise Skipped(f"no {program}")
    if not shutil.which(compiler.split()[0]):
        raise Skipped(f"no {compiler.split()[0]}")
    outcome = build.run([program, *SAMPLE, "--cc", compiler])
    wrong = [line for line in outcome.out.splitlines() if "WRONG" in line]
    expect(not wrong, "; ".join(wrong)[:300])
    expect(outcome.code == 0, f"exit code {outcome.code}: {outcome.err.strip()[:300]}")
    expect(len(outcome.out.splitlines()) == 12, "a function is missing")


def tests(build):
    if build.sanitized:  # what is compiled here is not
        return
    for compiler in COMPILERS:
        yield compiler.replace(" -O3 -march=", "-").replace(" -O2 -march=", "-"), functools.partial(within, build, compiler)
