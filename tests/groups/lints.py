"""Warnings, both ways: a program of tests/lints holds what is warned of and its nearest neighbours that are meant.

X.bp with X.err   `bpc check X.bp`, in its folder, must write X.err to stderr, and end with code 0.
explained/X.bp    `bpc --explain=X X.bp` must write X.txt.
The programs of examples and tests/agree must be warned of nothing.
"""
import functools
import re

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


def explained(build, source):
    """What a topic says, to the letter."""
    said = build.succeed([build.bpc, f"--explain={source.stem}", source.name], cwd=source.parent).out
    reject.compare(said, source.with_suffix(".txt"))


def rules_are_told():
    """docs/numerics.md has a row for each rule of compiler/graph/rules.def, with what it claims."""
    claims = {"EXACT": "to the bit", "ZERO": "but for the sign of 0", "NEAR": "within 4 ulp", "FINITE": "for finite values", "STABLE": "more exact"}
    rules = re.findall(r'^RULE\(\w+, "([^"]+)", "([^"]+)", "([^"]+)", (\w+)\)', (ROOT / "compiler/graph/rules.def").read_text(), re.MULTILINE)
    rows = "".join(f"| `{name}` | `{old}` | `{new}` | {claims[claim]} |\n" for name, old, new, claim in rules)
    expect(len(rules) > 30 and rows in (ROOT / "docs/numerics.md").read_text(), f"the table of rules should be\n{rows}")


def tests(build):
    yield "rules-told", rules_are_told
    for source in sorted((TESTS / "lints" / "explained").glob("*.bp")):
        yield f"explained-{source.stem}", functools.partial(explained, build, source)
    for source in sorted((TESTS / "lints").glob("*.bp")):
        yield source.stem, functools.partial(warned, build, source)
    for folder in (ROOT / "examples", TESTS / "agree"):
        for source in sorted(folder.rglob("*.bp")):
            name = source.relative_to(ROOT).with_suffix("")
            yield f"none-{'-'.join(name.parts)}", functools.partial(unwarned, build, source)
