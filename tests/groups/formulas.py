"""Activations and losses at the points of tests/golden/formulas, and their derivatives there, as PyTorch has them
(tests/reference/formulas.py).

An optimizer that keeps the gradient itself as the parameter (w := g) brings values and derivatives out of a program: of a
loss v * f(p) with v = 1, the derivative with respect to v is f(p), and that with respect to p is f'(p). Rows of outputs
are rows of an embedding, one a row of the table; the batch is all rows, whose number is a power of two, so that the mean
divides exactly.

Values are float32, the truth is float64. Allowed is RELATIVE of the truth (some 8 ulp), or, where a value is the small
difference of larger numbers, ABSOLUTE of their size (some 6 ulp): the argument up to 1 for functions of one number, 1 for
softmax and losses, the greatest element where half a vector multiplies the other.
"""
import functools
import json
import math

from commands import TESTS, copied, expect
from reference import safetensors

FOLDER = TESTS / "golden" / "formulas"
RELATIVE, ABSOLUTE, LEAST = 1e-6, 7e-7, 3e-45
OPTIMIZER = "optimizer keep(w, g) { w := g }"


def compare(what, arguments, ours, theirs, sizes):
    for at, a, b, size in zip(arguments, ours, theirs, sizes):
        allowed = max(RELATIVE * abs(b), ABSOLUTE * size) + LEAST
        expect(math.isfinite(a) and abs(a - b) <= allowed, f"{what} at {at} is {a}, PyTorch's {b} (allowed: {allowed:.1e} more or less)")


def results(build, place, program, start):
    safetensors.write(place / "start.safetensors", start, {})
    (place / "case.bp").write_text(program)
    build.compile("case.bp", "case", "-O1", cwd=place)
    build.succeed(["./case", "--quiet"], cwd=place)
    return {name: values for name, (_, values) in safetensors.read(place / "result.safetensors")[0].items()}


def call(function, *arguments):
    """f, or f(option = 1), with arguments before its options."""
    name, _, options = function.partition("(")
    return f"{name}({', '.join([*arguments, *([options[:-1]] if options else [])])})"


def element_is_right(build, number, function):
    golden = safetensors.read(FOLDER / "elements.safetensors")[0]
    shape, points = golden["points"]
    program = f"""bpc 1
{OPTIMIZER}
data one {{ columns x, t; rows [1, 0]; input x; target t }}
model Base(x) {{
    p = parameter({shape}, init = 0)
    v = parameter({shape}, init = 1)
    y = sum(v * {call(function, "x * p")})
    return y
}}
model Net = Base from "start.safetensors"
finetune Net on one {{ loss Net.y; optimizer keep; epochs 1; batch_size 1 }}
save Net to "result.safetensors"
"""
    with copied() as place:
        found = results(build, place, program, {"p": (shape, points), "v": (shape, [1.0] * len(points))})
    compare(function, points, found["v"], golden[f"{number}.value"][1], [min(1, abs(x)) for x in points])
    compare(f"the derivative of {function}", points, found["p"], golden[f"{number}.gradient"][1], [1.0] * len(points))


def by_rows(values, width):
    return [values[i : i + width] for i in range(0, len(values), width)]


def row_program(rows, columns, table, target, width, model, loss):
    """A program with an embedding 'p' of the rows, of which `model` makes outputs."""
    lines = "    rows " + ", ".join(f"[{row}]" for row in table)
    return f"""bpc 1
{OPTIMIZER}
data all {{
    columns id, {columns}
{lines}
    input  id : category({rows})
    target {target}
}}
model Base(id) {{
    p = embedding(id, {width})
{model}
}}
model Net = Base from "start.safetensors"
finetune Net on all {{ loss {loss}; optimizer keep; epochs 1; batch_size {rows}; shuffle none }}
save Net to "result.safetensors"
"""


def vector_is_right(build, number, function):
    golden = safetensors.read(FOLDER / "vectors.safetensors")[0]
    (rows, width), points = golden["rows"]
    (_, out), cotangent = golden[f"{number}.cotangent"]
    program = row_program(rows, "t", [f"{i}, 0" for i in range(rows)], "t", width,
                          f"    c = embedding(id, {out})\n    y = sum(c * {call(function, 'p')})\n    return y", "Net.y")
    with copied() as place:
        found = results(build, place, program, {"p.weight": ([rows, width], points), "c.weight": ([rows, out], cotangent)})
    sizes = [max(map(abs, row)) if "glu" in function else 1.0 for row in by_rows(points, width)]
    spread = lambda width: [size for size in sizes for _ in range(width)]
    shown = lambda width: [row for row in by_rows(points, len(points) // rows) for _ in range(width)]
    compare(function, shown(out), [rows * v for v in found["c.weight"]], golden[f"{number}.value"][1], spread(out))
    compare(f"the derivative of {function}", shown(width), [rows * v for v in found["p.weight"]], golden[f"{number}.gradient"][1], spread(width))


def loss_is_right(build, number, case):
    golden = safetensors.read(FOLDER / "losses.safetensors")[0]
    (rows, width), points = golden["inside" if case["target"] == "shares" else "rows"]
    targets = golden[case["target"]][1]
    if case["target"] == "classes":
        names, columns, table = "t", f"t : category({width})", [f"{i}, {int(t)}" for i, t in enumerate(targets)]
    else:
        names = ", ".join(f"t{i}" for i in range(width))
        table = [", ".join([str(i), *(f"{t:.9g}" for t in row)]) for i, row in enumerate(by_rows(targets, width))]
        columns = f"t = {names}"
    program = row_program(rows, names, table, columns, width,
                          f"    v = embedding(id, 1)\n    y = {case['output'].replace('y', 'p')}\n    return y, v{', s' if 's =' in case['output'] else ''}",
                          f"Net.v * {call(case['loss'], 'Net.y', 't')}")
    with copied() as place:
        found = results(build, place, program, {"p.weight": ([rows, width], points), "v.weight": ([rows, 1], [1.0] * rows)})
    ends = by_rows(points, width)
    compare(case["loss"], ends, [rows * v for v in found["v.weight"]], golden[f"{number}.value"][1], [1.0] * rows)
    compare(f"the derivative of {case['loss']}", [row for row in ends for _ in row], [rows * v for v in found["p.weight"]],
            golden[f"{number}.gradient"][1], [1.0] * len(points))


def tests(build):
    cases = json.loads((FOLDER / "cases.json").read_text())
    for i, function in enumerate(cases["elements"]):
        yield function, functools.partial(element_is_right, build, i, function)
    for i, function in enumerate(cases["vectors"]):
        yield f"vector-{function}", functools.partial(vector_is_right, build, i, function)
    for i, case in enumerate(cases["losses"]):
        yield f"loss-{case['loss']}-{case['target']}-{case['output']}", functools.partial(loss_is_right, build, i, case)
