"""`bpc explain`: the derivation as mathematics.

That the formulas are true is proved three times. `--verify` computes every formula's tree from random numbers and compares it
with the graph. What is printed is read back: with the numbers of `--values`, each printed formula must give the numbers that
stand below it. And the numbers of examples/textbook are PyTorch's in float64 (tests/reference/textbook.py).
The pages of iris and textbook were read line by line, and stand in tests/explain."""
import functools
import json
import math
import re
import shutil
import xml.etree.ElementTree

import formula_reader
from commands import ROOT, TESTS, Skipped, copied, expect

FOLDER = TESTS / "explain"
TEXTBOOK = ROOT / "examples/textbook/textbook.bp"
WORKED = ["--values", "x=1,2", "y=0,1"]


def programs():
    """Everything in the tree that trains and whose tables are there."""
    found = [*(ROOT / "examples").glob("*/*.bp"), *TESTS.glob("golden/*/*.bp"), *TESTS.glob("agree/*.bp"), *TESTS.glob("explain/*.bp"),
             *TESTS.glob("portable/*.bp"), *TESTS.glob("host/*.bp")]
    return [path for path in sorted(found) if re.search(r"^(train|finetune)\b", path.read_text(), re.MULTILINE)]


def is_true(build, program):
    build.succeed([build.bpc, "explain", "--verify", program.name], cwd=program.parent)


def reads_back(build, program, values):
    """Each formula, read from the page, gives the numbers below it."""
    page = build.succeed([build.bpc, "explain", "--digits", "17", "--values", *values, program.name], cwd=program.parent).out
    checked = formula_reader.check(page)
    expect(checked >= 8, f"only {checked} formulas were found")


def textbook_trains(build):
    """The program that the example is does a thousand updates, as PyTorch does them."""
    golden = json.loads((FOLDER / "textbook.json").read_text())
    with copied(TEXTBOOK.parent) as place:
        build.compile("textbook.bp", "textbook", cwd=place)
        build.succeed(["./textbook", "--quiet", "--log", "log.jsonl"], cwd=place)
        epochs = [e for e in map(json.loads, (place / "log.jsonl").read_text().splitlines()) if e["event"] == "epoch"]
    expect(len(epochs) == 1000, f"{len(epochs)} epochs are logged")
    for epoch, theirs in ((epochs[0], golden["forward"]["L"]), (epochs[-1], golden["last_loss"])):
        expect(abs(epoch["loss"] - theirs) <= 1e-5 * theirs, f"the loss of epoch {epoch['epoch']} is {epoch['loss']}, PyTorch's {theirs}")


def shown(value):
    return [float(part) for part in re.findall(r"-?\d[\d.]*(?:e[-+]\d+)?", value.replace("−", "-"))]


def worked_example(build):
    golden = json.loads((FOLDER / "textbook.json").read_text())
    page = build.succeed([build.bpc, "explain", "--digits", "15", *WORKED, TEXTBOOK]).out
    subscripts = str.maketrans("₁₂₃", "123")
    found, name = {}, None
    for line in page.splitlines():
        row = re.match(r"\s+(\S+)?\s*([=←]) (.*)", line)
        if not row:
            continue
        name = row[1] or name
        value = re.match(r"[(−\d][^⊙/ℝ∂‖∑]*$", row[3])
        if value:
            label = re.sub(r"([^\d])([₁₂₃])", lambda m: m[1] + "_" + m[2].translate(subscripts), name)
            kind = "before" if row[3].rstrip().endswith("before") else "after" if row[3].rstrip().endswith("after") else "value"
            found.setdefault((label, kind), shown(re.sub(r"\s+(before|after).*| {3}.*", "", row[3])))
    wanted = {(name, "value"): value for part in ("forward", "deltas") for name, value in golden[part].items()}
    wanted |= {(f"∂L/∂{name}", "value"): value for name, value in golden["gradients"].items()}
    wanted |= {(name, kind): value for kind in ("before", "after") for name, value in golden[kind].items()}
    for key, theirs in wanted.items():
        theirs = theirs if isinstance(theirs, list) else [theirs]
        expect(key in found, f"{key[0]} ({key[1]}) is not on the page")
        expect(len(found[key]) == len(theirs), f"{key[0]} is {found[key]}")
        for ours, value in zip(found[key], theirs):
            expect(abs(ours - value) <= 1e-13 * max(abs(value), 1e-3), f"{key[0]} ({key[1]}) is {ours}, PyTorch's {value}")


def first_values_are_the_programs(build):
    """The weights before the update are those that the program begins with."""
    program = """bpc 1
data one { columns a, b, y; rows [1, 2, 3]; input a, b; target y }
model Net(x) { fc1 = dense(x, 5, tanh); fc2 = dense(fc1, 1, weight = normal(0, 0.5)); return fc2 }
train Net on one { loss mse; optimizer sgd(lr = 0); epochs 1 }
save Net to "first.safetensors"
"""
    from reference import safetensors
    with copied() as place:
        (place / "case.bp").write_text(program)
        page = build.succeed([build.bpc, "explain", "--digits", "9", "--seed", "7", "--values", "x=1,2", "y=3", "case.bp"], cwd=place).out
        build.compile("case.bp", "case", "-O1", cwd=place)
        build.succeed(["./case", "--quiet", "--seed", "7"], cwd=place)
        tensors = safetensors.read(place / "first.safetensors")[0]
    given = formula_reader.values(page)
    for symbol, name in (("W_fc1", "fc1.weight"), ("b_fc1", "fc1.bias"), ("W_fc2", "fc2.weight")):
        theirs = tensors[name][1]
        ours = formula_reader.flat(given[symbol])
        expect(len(ours) == len(theirs), f"{symbol} has {len(ours)} numbers")
        for a, b in zip(ours, theirs):
            expect(abs(a - b) <= 3e-7 * max(abs(b), 0.1), f"{symbol} begins with {a}, the program's {name} with {b}")


def plateau_begins_with_its_start(build):
    """dL/dw = 2 (2 * 0.5 - 3) * 2 = -8, and the first rate is 0.25."""
    program = """bpc 1
data one { columns a, y; rows [2, 3]; input a; target y }
model Net(x) { w = parameter(init = 0.5); return w * x[0] }
train Net on one { loss mse; optimizer sgd(lr = reduce_on_plateau(0.25, monitor = loss)); epochs 1 }
"""
    with copied() as place:
        (place / "case.bp").write_text(program)
        page = build.succeed([build.bpc, "explain", "--values", "x=2", "y=3", "case.bp"], cwd=place).out
    expect(re.search(r"η += 0\.25 +the rate that reduce_on_plateau gives", page), f"the page does not give the rate:\n{page}")
    expect(re.search(r"= 2\.50000 +after", page), f"the page does not give the weight after the update:\n{page}")


def page_is_as_read(build, name, words):
    page = build.succeed([build.bpc, "explain", *words]).out
    golden = (FOLDER / name).read_text()
    for i, (ours, theirs) in enumerate(zip([*page.splitlines(), "(the end)"], [*golden.splitlines(), "(the end)"])):
        expect(ours == theirs, f"line {i + 1} is\n     {ours}\n  not\n     {theirs}")


def is_well_formed(build, program, words=()):
    page = build.succeed([build.bpc, "explain", "--format=html", *words, program.name], cwd=program.parent).out
    root = xml.etree.ElementTree.fromstring(page)
    expect(root.find(".//math") is not None, "there is no MathML in it")
    expect(root.find(".//script") is None, "there is a script in it")
    parts = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2}
    for node in root.iter():
        expect(node.tag not in parts or len(node) == parts[node.tag], f"<{node.tag}> has {len(node)} parts")


def is_latex(build, program, words=()):
    if not shutil.which("pdflatex"):
        raise Skipped("there is no pdflatex")
    page = build.succeed([build.bpc, "explain", "--format=latex", *words, program.name], cwd=program.parent).out
    with copied() as place:
        (place / "page.tex").write_text(page)
        outcome = build.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=place)
        errors = [line for line in outcome.out.splitlines() if line.startswith("!")]
        expect(outcome.code == 0 and not errors and (place / "page.pdf").exists(), f"pdflatex: {' '.join(errors) or outcome.out[-200:]}")
        expect("Missing character" not in (place / "page.log").read_text(errors="replace"), "a character has no form in LaTeX")


def command_is_wrong(build, words, message):
    outcome = build.run([build.bpc, "explain", *words])
    expect(outcome.code == 2, f"exit code {outcome.code}, not 2")
    expect(outcome.err.splitlines()[:1] == [f"bpc: {message}; try bpc explain --help"], f"it says {outcome.err!r}")


WRONG = {
    "no file": ([], "no input file"),
    "a format": (["--format=pdf", "a.bp"], "--format is text, latex or html, not 'pdf'"),
    "digits": (["--digits", "18", "a.bp"], "--digits is 1 to 17, not '18'"),
    "digits in words": (["--digits=few", "a.bp"], "--digits is 1 to 17, not 'few'"),
    "a seed": (["--seed=-1", "a.bp"], "--seed is a whole number, not '-1'"),
    "an option": (["--value", "x=1", "a.bp"], "unknown option '--value'"),
    "a value before --values": (["x=1", "a.bp"], "'x=1' stands behind --values"),
    "two files": (["a.bp", "b.bp"], "one file at a time, not 'b.bp', too"),
}


def help_is_there(build):
    page = build.succeed([build.bpc, "explain", "--help"]).out
    for option in ("--format", "--values", "--digits", "--seed", "--verify", "-o FILE"):
        expect(option in page, f"bpc explain --help does not say {option}")
    expect("bpc explain" in build.succeed([build.bpc, "--help"]).out, "bpc --help does not name it")


def output_goes_to_a_file(build):
    with copied() as place:
        build.succeed([build.bpc, "explain", TEXTBOOK, "-o", "page.txt"], cwd=place)
        expect("∂L/∂w₁" in (place / "page.txt").read_text(), "the page is not in the file")


READ_BACK = [(TEXTBOOK, ["x=1,2", "y=0,1"]), (TEXTBOOK, ["x=1,2;3,-4", "y=0,1;1,0"]), (ROOT / "examples/iris/iris.bp", ["x=1,2,3,4", "y=setosa"]),
             (ROOT / "examples/xor/xor.bp", ["a=1;0", "b=0;1", "y=1;1"]), (FOLDER / "layers.bp", ["x=1,2,-1;0.5,-3,2;1,1,1", "y=1,0;2,1;0,-1"])]


def tests(build):
    for program in programs():
        yield f"true-{program.relative_to(ROOT).with_suffix('')}", functools.partial(is_true, build, program)
    for i, (program, values) in enumerate(READ_BACK):
        yield f"reads-back-{program.stem}-{i}", functools.partial(reads_back, build, program, values)
    yield "textbook-trains", functools.partial(textbook_trains, build)
    yield "textbook", functools.partial(worked_example, build)
    yield "first-values", functools.partial(first_values_are_the_programs, build)
    yield "plateau", functools.partial(plateau_begins_with_its_start, build)
    yield "page-iris", functools.partial(page_is_as_read, build, "iris.txt", [ROOT / "examples/iris/iris.bp"])
    yield "page-textbook", functools.partial(page_is_as_read, build, "textbook.txt", [TEXTBOOK])
    yield "page-textbook-values", functools.partial(page_is_as_read, build, "textbook-values.txt", [*WORKED, TEXTBOOK])
    for program in programs():
        if program.parent.name != "formulas":
            yield f"html-{program.relative_to(ROOT).with_suffix('')}", functools.partial(is_well_formed, build, program)
    yield "html-values", functools.partial(is_well_formed, build, TEXTBOOK, WORKED)
    for program in [*sorted((ROOT / "examples").glob("*/*.bp")), *sorted(FOLDER.glob("*.bp")), *(TESTS / "golden" / name / "case.bp" for name in
                    ("step-gan", "step-penalty", "layer-batch_norm", "layer-gated", "lookup-embeddings", "lookup-text-counts"))]:
        yield f"latex-{program.relative_to(ROOT).with_suffix('')}", functools.partial(is_latex, build, program)
    yield "latex-values", functools.partial(is_latex, build, TEXTBOOK, WORKED)
    for name, (words, message) in WRONG.items():
        yield f"wrong-{name}", functools.partial(command_is_wrong, build, words, message)
    yield "help", functools.partial(help_is_there, build)
    yield "output", functools.partial(output_goes_to_a_file, build)
