"""Every program in README.md and docs/*.md compiles, or is rejected as the text says.

```bp            a whole program: `bpc check` passes, in a folder with the tables of the examples
```bp fragment   lines of one: the manual's running program (docs/fragments.bp says what stands around them) plus these lines
```bp-error      a program that is rejected with the message in the ```text block that follows
Blocks of other kinds are not looked at, nor are blocks that begin with ```bp not-there-yet.
"""
import functools
import re

from commands import ROOT, copied, examples, expect, first_line

BLOCK = re.compile(r"^```(bp[^\n]*)\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def whole(kind, text):
    """A fragment gets what it lacks: a version, and for lines of a train or data block what stands around them."""
    if "fragment" not in kind:
        return text
    context = (ROOT / "docs" / "fragments.bp").read_text() if (ROOT / "docs" / "fragments.bp").exists() else "bpc 1\n"
    return context + "\n" + text


def checked(build, kind, text, message):
    with copied(*examples()) as place:
        (place / "program.bp").write_text(whole(kind, text))
        outcome = build.run([build.bpc, "check", "program.bp"], cwd=place)
        said = outcome.err.strip()
        if kind.startswith("bp-error"):
            expect(message is not None, "no ```text block with the message follows it")
            expect(outcome.code == 1, "it is not rejected")
            wanted = re.sub(r"^\S+?\.bp:", "program.bp:", message.strip(), flags=re.MULTILINE)
            expect(wanted in said, f"it says\n{said}\n  not\n{wanted}")
        else:
            expect(outcome.code == 0, first_line(said))


def tests(build):
    pages = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page.exists()]
    for page in pages:
        text = page.read_text()
        for found in BLOCK.finditer(text):
            kind, program, message = found.groups()
            if "not-there-yet" in kind:
                continue
            line = text.count("\n", 0, found.start()) + 1
            yield f"{page.name}:{line}", functools.partial(checked, build, kind, program, message)
