"""Every program in README.md and docs/*.md does what the page says of it.

```bp            a whole program: it compiles, and where its tables are there (those of the examples), two epochs of it run
```bp-error      a program that is rejected with the message in the ```text block that follows, or with one that begins so
```explain WORDS   what `bpc explain WORDS` prints, in the examples' folders; … stands for lines that are left out
Blocks of other kinds are not looked at.
"""
import functools
import re
import sys

from commands import ROOT, copied, examples, expect

BLOCK = re.compile(r"^```(bp|bp-error)\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def is_rejected(build, place, message):
    outcome = build.run([build.bpc, "check", "program.bp"], cwd=place)
    expect(message is not None, "no ```text block with the message follows it")
    expect(outcome.code == 1, "it is not rejected")
    wanted, said = message.strip().splitlines(), outcome.err.strip().splitlines()
    for i, line in enumerate(wanted):
        expect(i < len(said) and said[i].rstrip() == line.rstrip(), f"it says\n     {said[i] if i < len(said) else '(the end)'}\n  not\n     {line}")


def is_done(build, place, text):
    said = build.succeed([build.bpc, "check", "program.bp"], cwd=place).err
    expect("warning: " not in said, f"it is warned: {said[:200]}")
    needed = re.findall(r'^\s*file\s+"([^"]+)"', text, re.MULTILINE) + re.findall(r'\bfrom\s+"([^"]+)"', text)
    saved = re.findall(r'\bto\s+"([^"]+)"', text)
    acts = re.search(r"^(train|finetune|evaluate|save)\b", text, re.MULTILINE)
    has_rows = re.search(r"\b(file|rows|generate|step \{)\s", text)  # else a host gives them
    if acts and has_rows and all(name in saved or (place / name).exists() for name in needed):
        build.compile("program.bp", "program", "-O0", cwd=place)
        build.succeed(["./program", "--quiet", *(["--epochs", "2"] if "train" in text or "finetune" in text else [])], cwd=place)


def checked(build, kind, text, message):
    with copied(*examples()) as place:
        (place / "program.bp").write_text(text)
        if kind == "bp-error":
            is_rejected(build, place, message)
        else:
            is_done(build, place, text)


def tour_is_fresh(build):
    """docs/tour.md is what the compiler's dumps make it."""
    build.succeed([sys.executable, ROOT / "tests/docs/tour.py", "--build", build.folder, "--check"], cwd=ROOT)


def prelude_is_fresh(build):
    """docs/prelude.md is what the prelude's own comments make it."""
    build.succeed([sys.executable, ROOT / "tests/docs/prelude.py", "--check"], cwd=ROOT)


def transcript_is_true(build):
    """What README.md says that the iris program prints, it prints (but for the seconds)."""
    shown = [line[4:] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("    ")]
    begin = shown.index("$ ./iris")
    end = next(i for i in range(begin, len(shown)) if shown[i].startswith("saved "))
    timeless = lambda line: re.sub(r"\s+\d+\.\d\d s$", "", line)
    with copied(*examples()) as place:
        build.compile("iris.bp", "iris", cwd=place)
        printed = [timeless(line) for line in build.succeed(["./iris"], cwd=place).out.splitlines()]
    for line in shown[begin + 1 : end + 1]:
        expect(line == "…" or timeless(line) in printed, f"it does not print: {line}")


PAGE = re.compile(r"^```explain ([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def is_printed(build, words, text):
    with copied(*examples()) as place:
        printed = build.succeed([build.bpc, "explain", *words.split()], cwd=place).out
    at = 0
    for part in re.split(r"^…\n", text, flags=re.MULTILINE):
        expect(part in printed[at:], "it prints something else, which is at " + repr(printed[at:at + 80]))
        at = printed.index(part, at) + len(part)
    expect("…\n" in text or printed.strip() == text.strip(), "it prints more")


def tests(build):
    yield "transcript", functools.partial(transcript_is_true, build)
    yield "prelude", functools.partial(prelude_is_fresh, build)
    yield "tour", functools.partial(tour_is_fresh, build)
    pages = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.exists()]
    for page in pages:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{page.name}:{line}", functools.partial(checked, build, *found.groups())
        for found in PAGE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{page.name}:{line}", functools.partial(is_printed, build, *found.groups())
