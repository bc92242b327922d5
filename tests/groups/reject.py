"""Bad input: exit code 1, and one clear diagnostic, to the letter.

X.bp with X.err   `bpc check X.bp`, in its folder, must write X.err to stderr. X.args: other words than `check`.
X.run with X.err  a bash script with $BPC, in a copy of its folder: a command of it, the last, must fail with code 1 and
                  that message. No half-written file may be left, nor the weights that the programs there save.
"""
import functools
import re
import shlex

from commands import TESTS, Failure, copied, expect

REJECT = TESTS / "reject"
REWRITE = False  # --rewrite: X.err becomes what is said now


def compare(said, expected_path):
    if REWRITE:
        expected_path.write_text(said)
        return
    expect(expected_path.exists(), f"there is no {expected_path.name}")
    expected = expected_path.read_text()
    if said == expected:
        return
    ours, theirs = said.splitlines(), expected.splitlines()
    for i in range(max(len(ours), len(theirs))):
        ours_line = ours[i] if i < len(ours) else "(the end)"
        theirs_line = theirs[i] if i < len(theirs) else "(the end)"
        if ours_line != theirs_line:
            raise Failure(f"line {i + 1} is\n     {ours_line}\n  not\n     {theirs_line}")
    raise Failure("it ends otherwise")


def rejected(build, source):
    words = ["check"]
    if source.with_suffix(".args").exists():
        words = shlex.split(source.with_suffix(".args").read_text())
    outcome = build.run([build.bpc, *words, source.name], cwd=source.parent)
    expect(outcome.code == 1, f"exit code {outcome.code}, not 1: {outcome.err[:200]}")
    expect(outcome.out == "", f"it writes to stdout: {outcome.out[:100]!r}")
    compare(outcome.err, source.with_suffix(".err"))


def fails_when_run(build, script):
    with copied(script.parent) as place:
        before = {path.name for path in place.iterdir()}
        outcome = build.run(["bash", "-eu", script.name], cwd=place, environment={"BPC": str(build.bpc)})
        said = outcome.err.replace(f"{place}/", "")
        expect(outcome.code == 1, f"exit code {outcome.code}, not 1: {said[:300]}")
        compare(said, script.with_suffix(".err"))
        text = script.read_text()
        for path in place.iterdir():
            partial = re.search(r"\.part$|\.[A-Za-z0-9]{6}$", path.name)
            expect(path.name in before or path.name in text or not partial, f"it leaves {path.name} behind")
        wrote = (place / "net.safetensors").exists()
        expect(not wrote or "net.safetensors" in text, "weights are saved even so")


def tests(build):
    for source in sorted(REJECT.rglob("*.bp")):
        name = source.relative_to(REJECT).with_suffix("")
        if "run" not in name.parts[:-1]:
            yield str(name), functools.partial(rejected, build, source)
    for script in sorted(REJECT.rglob("*.run")):
        yield str(script.relative_to(REJECT).with_suffix("")), functools.partial(fails_when_run, build, script)
