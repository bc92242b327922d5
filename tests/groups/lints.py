"""Warnings, both ways: a program of tests/lints holds what is warned of and its nearest neighbours that are meant.

X.bp with X.err   `bpc check X.bp`, in its folder, must write X.err to stderr, and end with code 0.
The programs of examples and tests/agree must be warned of nothing.
"""
import functools

from commands import ROOT, TESTS, expect
from groups import reject


def warned(build, source):
    outcome = build.run([build.bpc, "check", source.name], cwd=source.parent)
    expect(outcome.code == 0, f"exit code {outcome.code}, not 0: {outcome.err[:200]}")
    expect(outcome.out == "", f"it writes to stdout: {outcome.out[:100]!r}")
    reject.compare(outcome.err, source.with_suffix(".err"))


def unwarned(build, source):
    outcome = build.run([build.bpc, "check", source.name], cwd=source.parent)
    said = [line for line in outcome.err.splitlines() if "warning: " in line]
    expect(outcome.code == 0 and not said, f"exit code {outcome.code}: {said or outcome.err[:200]}")


def tests(build):
    for source in sorted((TESTS / "lints").glob("*.bp")):
        yield source.stem, functools.partial(warned, build, source)
    for folder in (ROOT / "examples", TESTS / "agree"):
        for source in sorted(folder.rglob("*.bp")):
            name = source.relative_to(ROOT).with_suffix("")
            yield f"none-{'-'.join(name.parts)}", functools.partial(unwarned, build, source)
