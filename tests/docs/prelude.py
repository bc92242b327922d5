#!/usr/bin/env python3
"""Makes docs/prelude.md from lang/prelude/*.bp: what stands in a comment above a definition is its description.

    tests/docs/prelude.py             writes docs/prelude.md anew
    tests/docs/prelude.py --check     compares, writes nothing
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "prelude.md"
FILES = ["activations", "functions", "layers", "initialisers", "losses", "optimizers", "schedules", "metrics"]
HEAD = """# The prelude

Every function, layer, loss, optimizer, schedule and metric that the language does not build in is defined in the language
itself, in `lang/prelude/`. This page is made of those files: the formulas are what the compiler differentiates, simplifies
and fuses. A definition of yours with the same name takes a prelude's place.
"""


def comment_of(lines):
    return "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)


def page_of(name, text):
    """A file's part of the page: paragraphs are comments with the definitions that follow them."""
    out = [f"## {name.capitalize()}\n"]
    paragraphs = re.split(r"\n\n+", text.removeprefix("bpc 1\n").strip("\n"))
    for paragraph in paragraphs:
        lines = paragraph.split("\n")
        heading = re.fullmatch(r"# ---- (.*?) -+", lines[0])
        if heading:
            out.append(f"### {heading[1]}\n")
            lines = lines[1:]
        comments = 0
        while comments < len(lines) and lines[comments].startswith("#"):
            comments += 1
        if comments:
            out.append(comment_of(lines[:comments]) + "\n")
        if lines[comments:]:
            out.append("```text\n" + "\n".join(lines[comments:]) + "\n```\n")
    return "\n".join(out)


def page():
    known = sorted(path.stem for path in (ROOT / "lang" / "prelude").glob("*.bp"))
    order = [name for name in FILES if name in known] + [name for name in known if name not in FILES]
    return "\n".join([HEAD, *(page_of(name, (ROOT / "lang" / "prelude" / f"{name}.bp").read_text()) for name in order)])


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == page() else 1)
    PAGE.write_text(page())
