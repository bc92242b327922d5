"""The Criterion programs. A crash or a failed assertion is their exit code; leaks and undefined behaviour are not, so
reports count as failures (commands.Build.run), and a sanitized build must see two canaries die."""
import functools
import os
import re
import tempfile

from commands import TESTS, expect, first_line


def run_unit(build, program):
    outcome = build.run([program, "--tap", "-j1"], cwd=TESTS.parent, reports_fail=False)
    failed = re.findall(r"^not ok - (\S+)", outcome.out, re.MULTILINE)
    said = re.search(r"^\s*#?\s*(\S+\.c:\d+: .*)$", outcome.out + outcome.err, re.MULTILINE)
    expect(not failed, f"{len(failed)} fail: {' '.join(failed[:4])}{': ' + said.group(1) if said else ''}")
    expect(not outcome.report, outcome.report)
    expect(outcome.code == 0, f"exit code {outcome.code}: {first_line(outcome.err)}")
    passed = re.findall(r"^ok - ", outcome.out, re.MULTILINE)
    expect(passed, "it holds no tests")


def canary_dies(build, source, word):
    """A test with a bug that a sanitized build must show. That it passes here would mean that we see nothing."""
    with tempfile.TemporaryDirectory(prefix="bpc-canary-") as place:
        program = f"{place}/canary"
        flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O0"]
        build.succeed([os.environ.get("CC", "cc"), *flags, source, "-o", program, "-lcriterion"])
        report = build.run([program], reports_fail=False).report
        expect(word in report, f"{source.name} went unnoticed: what the sanitizers say is lost")


def tests(build):
    for program in sorted((build.folder / "tests").glob("test_*")):
        yield program.name.removeprefix("test_"), functools.partial(run_unit, build, program)
    if build.sanitized:
        yield "canary-leak", functools.partial(canary_dies, build, TESTS / "canary" / "leak.c", "leak")
        yield "canary-undefined", functools.partial(canary_dies, build, TESTS / "canary" / "undefined.c", "runtime error")
