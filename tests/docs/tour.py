#!/usr/bin/env python3
"""Makes docs/tour.md: the iris program through every stage, each excerpt cut out of what the compiler prints.

    tests/docs/tour.py [--build DIR]            writes docs/tour.md
    tests/docs/tour.py [--build DIR] --check    compares instead: exit 1 and a diff where it is not up to date
"""
import argparse
import difflib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "tour.md"
IRIS = ROOT / "examples" / "iris"


class Stages:
    """What bpc and the program that it makes print, run in a folder of their own."""

    def __init__(self, bpc, place):
        self.bpc, self.place, self.kept = bpc, place, {}
        for path in IRIS.iterdir():
            shutil.copy(path, place)

    def run(self, *command):
        outcome = subprocess.run([str(word) for word in command], cwd=self.place, capture_output=True, text=True, check=False)
        if outcome.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: exit {outcome.returncode}\n{outcome.stderr}")
        return outcome

    def stage(self, name):
        if name not in self.kept:
            if name == "checked":
                text = self.run(self.bpc, "check", "--dump=checked", "iris.bp").stderr
                text = re.sub(r'at ".*?/iris\.csv"', 'at "…/iris.csv"', text)
            else:
                text = self.run(self.bpc, f"--emit={name}", "--march=x86-64-v3", "iris.bp", "-o", "-").stdout
            self.kept[name] = text
        return self.kept[name]


def cut(text, first, last, what):
    """The lines from the first that matches `first` up to the next that matches `last`, without it; tabs and edges kept."""
    lines = text.splitlines()
    begin = next((i for i, line in enumerate(lines) if re.search(first, line)), None)
    if begin is None:
        sys.exit(f"tour.py: no line of {what} matches {first!r}: choose another excerpt")
    end = next((i for i in range(begin + 1, len(lines)) if re.search(last, lines[i])), None)
    if end is None:
        sys.exit(f"tour.py: no line of {what} after line {begin + 1} matches {last!r}: choose another excerpt")
    return "\n".join(lines[begin:end]).rstrip()


def narrow(text, width=118):
    """Long lines are cut, with a mark."""
    return "\n".join(line if len(line) <= width else line[: width - 2].rstrip() + " …" for line in text.splitlines())


def short(text, head, tail):
    """The first and the last lines of an excerpt."""
    lines = text.splitlines()
    return text if len(lines) <= head + tail + 1 else "\n".join(lines[:head] + ["        …"] + lines[-tail:])


def block(text, kind="text"):
    return f"```{kind}\n{narrow(text)}\n```"


def llvm_kernel(stages):
    """The loop of the first layer's product, by the other printer. Where bpc is built without LLVM the page keeps what stands there: it is checked
    where LLVM is."""
    if (stages.bpc.parent / "bpc-llvm.so").exists():
        text = cut(stages.stage("llvm"), r"^define .*@Classifier_step_fc1\.kernel\(", r"^}|^define", "LLVM's text")
        lines = re.sub(r" +; preds = .*", "", text).splitlines()
        product = next(i for i, line in enumerate(lines) if "@llvm.fma" in line)
        begin = max(i for i in range(product) if re.match(r"\w+:$", lines[i]))
        end = next(i for i in range(product, len(lines)) if lines[i].startswith("  br "))
        return block("\n".join([lines[0], "        …", *lines[begin : end + 1], "        …"]), "llvm")
    found = re.search(r"^```llvm\n.*?^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        sys.exit("tour.py: bpc is built without LLVM, and the page has no excerpt of its text yet")
    return found[0]


def training(stages):
    """A run, without its times: three epochs at each end, and what follows."""
    stages.run(stages.bpc, "iris.bp", "-o", "iris")
    lines = [re.sub(r"\s+\d+\.\d\d s$", "", line) for line in stages.run("./iris").stdout.splitlines()]
    epochs = [i for i, line in enumerate(lines) if line.startswith("epoch ")]
    return "\n".join(lines[: epochs[2] + 1] + ["…"] + lines[epochs[-2]:])


def page(stages):
    ast, checked, graph = stages.stage("ast"), stages.stage("checked"), stages.stage("graph")
    gradient, kernel, c = stages.stage("gradient"), stages.stage("kernel"), stages.stage("c")
    step = cut(graph, r"^Classifier_step:", r"^\S", "the graph")
    forward = cut(step, r"^Classifier_step:", r"= batch_sum\(loss\)", "the step")
    adam = cut(step, r"state\(fc1\.weight:m\)", r"state\(fc1\.bias:m\)", "the step")
    gives = cut(step + "\nend", r"^  gives", r"^end", "the step")
    parts = {
        "source": block((IRIS / "iris.bp").read_text().rstrip(), "bp"),
        "ast": block(cut(ast, r"^model Classifier", r"^train", "the AST")),
        "checked": block(cut(checked, r"^data iris", r"^train", "the checked program")),
        "forward": block(forward),
        "adam": block(adam),
        "gives": block(gives),
        "gradient": block(cut(gradient + "\nend", r"^  backward", r"^\S", "the gradient")),
        "kernel_forward": block(short(cut(kernel, r"^    kernel Classifier_step_fc1\b", r"^    (kernel|barrier|guard)|^function", "the kernels"), 28, 4)),
        "kernel_update": block(short(cut(cut(kernel, r"^    kernel Classifier_step_d_fc1_bias\b", r"^    (kernel|barrier|guard)|^function",
                                             "the kernels") + "\nend", r"^            # d_fc1\.weight", r"^            #|^end", "the kernel"), 22, 4)),
        "exp": block(cut(kernel, r"^math exp_f32x16\(", r"^$", "the kernels")),
        "c_kernel": block(short(cut(c, r"^static void Classifier_step_fc1\(", r"^$|^/\*|^static", "the C file"), 28, 3), "c"),
        "llvm_kernel": llvm_kernel(stages),
        "c_step": block(cut(c, r"^static void Classifier_step\(", r"^$|^static|^/\*", "the C file"), "c"),
        "run": block("$ bpc iris.bp -o iris && ./iris\n" + training(stages)),
        "predict": block("$ cat new-flowers.csv\n" + (IRIS / "new-flowers.csv").read_text().rstrip()
                         + "\n$ ./iris predict --weights iris.safetensors new-flowers.csv\n"
                         + stages.run("./iris", "predict", "--weights", "iris.safetensors", "new-flowers.csv").stdout.rstrip()),
    }
    return (ROOT / "tests" / "docs" / "tour.md.in").read_text().format_map(parts)


def main():
    parser = argparse.ArgumentParser(description="Makes docs/tour.md from the compiler's own dumps.")
    parser.add_argument("--build", default=str(ROOT / "build"), metavar="DIR", help="where bpc lies (build)")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args()
    bpc = pathlib.Path(options.build).resolve() / "bpc"
    if not bpc.exists():
        sys.exit(f"no {bpc}: build it first")
    with tempfile.TemporaryDirectory(prefix="bpc-tour-") as place:
        text = page(Stages(bpc, pathlib.Path(place)))
    lines = len(text.splitlines())
    if lines >= 480:
        sys.exit(f"tour.py: the page has {lines} lines, 480 are too many: cut smaller excerpts")
    if not options.check:
        PAGE.write_text(text)
        print(f"docs/tour.md: {lines} lines")
        return 0
    was = PAGE.read_text() if PAGE.exists() else ""
    if was == text:
        return 0
    sys.stdout.writelines(difflib.unified_diff(was.splitlines(True), text.splitlines(True), "docs/tour.md", "what bpc prints now"))
    print("docs/tour.md is not up to date: run tests/docs/tour.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
