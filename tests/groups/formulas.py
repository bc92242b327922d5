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


INITIALISERS = {  # of a [40, 250]: the kind of distribution, its deviation
    "linear_uniform": ("uniform", math.sqrt(1 / 250 / 3)),
    "xavier_uniform(gain = 2)": ("uniform", 2 * math.sqrt(2 / 290)),
    "xavier_normal": ("normal", math.sqrt(2 / 290)),
    "kaiming_uniform(slope = 0.2)": ("uniform", math.sqrt(2 / (1 + 0.2**2) / 250)),
    "kaiming_normal": ("normal", math.sqrt(2 / 250)),
    "kaiming_normal(mode = fan_out)": ("normal", math.sqrt(2 / 40)),
    "lecun_normal": ("normal", math.sqrt(1 / 250)),
    "orthogonal(gain = 2)": ("orthogonal", 2 / math.sqrt(250)),
    "constant(0.25)": ("constant", 0),
}


def first_values_are_right(build, how):
    """Moments of 10,000 first values, each within five of its own deviations; a uniform one's ends."""
    kind, deviation = INITIALISERS[how]
    columns = ", ".join(f"x{i}" for i in range(250))
    row = ", ".join(["1"] * 250)
    program = f"""bpc 1
data one {{ columns {columns}, t; rows [{row}, 0]; input x = x0..x249; target t }}
model Net(x) {{ fc = dense(x, 40, weight = {how}, bias = constant(3)); y = sum(fc); return y }}
train Net on one {{ loss Net.y; optimizer sgd(lr = 0); epochs 1 }}
save Net to "first.safetensors"
"""
    with copied() as place:
        (place / "case.bp").write_text(program)
        build.compile("case.bp", "case", "-O1", cwd=place)
        build.succeed(["./case", "--quiet"], cwd=place)
        tensors = safetensors.read(place / "first.safetensors")[0]
    values = tensors["fc.weight"][1]
    expect(tensors["fc.bias"][1] == [3.0] * 40, "the bias is not what it was told to be")
    if kind == "constant":
        expect(values == [0.25] * 10000, "the weights are not constant")
        return
    if kind == "orthogonal": # 40 rows of the length 2, at right angles; of random directions, so their elements are spread as normal ones
        rows = by_rows(values, 250)
        for i, row in enumerate(rows):
            for j in range(i + 1):
                dot = sum(a * b for a, b in zip(row, rows[j]))
                expect(abs(dot - (4 if i == j else 0)) <= 2e-6, f"rows {i} and {j} have the product {dot}")
        kind = "normal"
    n = len(values)
    mean, square = sum(values) / n, sum(v * v for v in values) / n
    fourth = sum(v**4 for v in values) / n / deviation**4
    kurtosis, spread = (3, math.sqrt(96 / n)) if kind == "normal" else (1.8, math.sqrt((25 / 9 - 1.8**2 + 4 * 1.8**2 * 0.2) / n))
    expect(abs(mean) <= 5 * deviation / math.sqrt(n), f"their mean is {mean}")
    expect(abs(square / deviation**2 - 1) <= 5 * math.sqrt((kurtosis - 1) / n), f"their deviation is {math.sqrt(square)}, not {deviation}")
    expect(abs(fourth - kurtosis) <= 5 * spread + 0.05, f"their fourth moment is {fourth}, not {kurtosis}")
    if kind == "uniform":
        expect(max(map(abs, values)) <= deviation * math.sqrt(3) * (1 + 1e-6), "some lie beyond the ends")


DRAWN = """bpc 1

data d {{ file "rows.csv"; input x; target t }}

{metrics}
model M(x) {{
    away = parameter(init = 0)
    many = x + real(iota(40))
    y = symmetric_beta(draw(many), draw(many), {alpha}) + away
    return y
}}

train M on d {{ loss sum(M.y); optimizer keep; epochs 1; batch_size 1000; metrics {measured} }}
optimizer keep(w, g) {{ w := w }}
"""


def betas_are_right(build):
    """Central moments of 200,000 draws, in closed form: E (b - 1/2)^2k is the product of (2i + 1) / (4 (2 alpha + 2i + 1))."""
    powers = (1, 2, 4, 6)
    count = 200000
    with copied() as place:
        (place / "rows.csv").write_text("x,t\n" + "1,0\n" * (count // 40))
        for alpha in (0.001, 0.2, 0.5, 1, 3.5, 1000):
            moment = lambda power: math.prod((2 * i + 1) / (2 * alpha + 2 * i + 1) / 4 for i in range(power // 2)) * (power % 2 == 0)
            metrics = "".join(f"metric moment{p}(y, t) = batch_mean(mean((y - 0.5)^{p}))\n" for p in powers)
            program = DRAWN.format(metrics=metrics, alpha=alpha, measured=", ".join(f"moment{p}" for p in powers))
            (place / "drawn.bp").write_text(program)
            build.compile("drawn.bp", "drawn", "-O0", cwd=place)
            build.succeed(["./drawn", "--quiet", "--log", "log.jsonl"], cwd=place)
            event = next(e for e in map(json.loads, (place / "log.jsonl").read_text().splitlines()) if e["event"] == "epoch")
            for p in powers:
                allowed = 5 * ((moment(2 * p) - moment(p) ** 2) / count) ** 0.5 + 1e-6 * moment(2 * p) ** 0.5
                expect(abs(event[f"moment{p}"] - moment(p)) < allowed, f"alpha {alpha}, moment {p}: {event[f'moment{p}']}, not {moment(p)} +- {allowed:.1e}")


def evaluates_to(build, program, truth, tolerance):
    """The metrics of the program's only evaluate, by name."""
    with copied() as place:
        (place / "case.bp").write_text(program)
        build.compile("case.bp", "case", "-O1", cwd=place)
        build.succeed(["./case", "--quiet", "--log", "log.jsonl"], cwd=place)
        found = next(e for e in map(json.loads, (place / "log.jsonl").read_text().splitlines()) if e["event"] == "evaluate")
    for name, theirs in truth.items():
        expect(abs(found[name] - theirs) <= tolerance * max(1, abs(theirs)), f"{name} is {found[name]}, by its definition {theirs}")


def metrics_are_right(build):
    """top_k and log_loss of softmax, and log_loss of sigmoid, against their definitions in float64."""
    draw = __import__("random").Random("metrics")
    rows = [([draw.randrange(-48, 49) / 16 for _ in range(5)], draw.randrange(5), draw.randrange(2)) for _ in range(70)]
    table = ", ".join("[" + ", ".join(map(str, [*x, k, b])) + "]" for x, k, b in rows)
    program = f"""bpc 1
data all {{ columns a, b, c, d, e, k, s; rows {table}; input x = a, b, c, d, e; target k : category(5); target s : category(2) }}
model Net(x) {{ scale = parameter(init = 1); y = scale * x; z = scale * x[0]; return y, z }}
train Net on all {{ loss cross_entropy(Net.y, k) + bce_logits(Net.z, s); optimizer sgd(lr = 0); epochs 1 }}
evaluate Net on all {{ top_k(Net.y, k, k = 2), log_loss(Net.y, k), log_loss(Net.z, s), accuracy(Net.y, k), max_error(Net.z, s) }}
"""
    share = lambda x, k: math.exp(x[k]) / sum(math.exp(v) for v in x)
    truth = {
        "y_top_k": sum(sum(v > x[k] for v in x) < 2 for x, k, _ in rows) / len(rows),
        "y_log_loss": sum(-math.log(share(x, k)) for x, k, _ in rows) / len(rows),
        "z_log_loss": sum(math.log1p(math.exp(-(2 * s - 1) * x[0])) for x, _, s in rows) / len(rows),
        "z_max_error": max(abs(1 / (1 + math.exp(-x[0])) - s) for x, _, s in rows),
        "y_accuracy": sum(x.index(max(x)) == k for x, k, _ in rows) / len(rows),
    }
    evaluates_to(build, program, truth, 1e-6)


def metrics_of_numbers_are_right(build):
    """r2 and rmse, mse and mae, against their definitions in float64: metrics in the file's units, losses in the model's."""
    draw = __import__("random").Random("numbers")
    rows = [(x := draw.randrange(-48, 49) / 16, 2 * x + draw.randrange(-64, 65) / 32 + 5) for _ in range(90)]
    program = f"""bpc 1
data all {{ columns x, t; rows {", ".join(f"[{x}, {t}]" for x, t in rows)}; input x; target t : standardize }}
model Net(x) {{ scale = parameter(init = 0.75); return scale * x }}
train Net on all {{ loss mse; optimizer sgd(lr = 0); epochs 1 }}
evaluate Net on all {{ r2, rmse, mse, mae }}
"""
    n = len(rows)
    mean = sum(t for _, t in rows) / n
    deviation = math.sqrt(sum((t - mean) ** 2 for _, t in rows) / n)
    errors = [0.75 * x * deviation + mean - t for x, t in rows]
    square = sum(e * e for e in errors) / n
    truth = {"r2": 1 - square / deviation**2, "rmse": math.sqrt(square), "mse": square / deviation**2,
             "mae": sum(map(abs, errors)) / n / deviation}
    evaluates_to(build, program, truth, 2e-6)


def tests(build):
    yield "metrics", functools.partial(metrics_are_right, build)
    yield "metrics of numbers", functools.partial(metrics_of_numbers_are_right, build)
    yield "symmetric_beta", functools.partial(betas_are_right, build)
    for how in INITIALISERS:
        yield f"first values of {how}", functools.partial(first_values_are_right, build, how)
    cases = json.loads((FOLDER / "cases.json").read_text())
    for i, function in enumerate(cases["elements"]):
        yield function, functools.partial(element_is_right, build, i, function)
    for i, function in enumerate(cases["vectors"]):
        yield f"vector-{function}", functools.partial(vector_is_right, build, i, function)
    for i, case in enumerate(cases["losses"]):
        yield f"loss-{case['loss']}-{case['target']}-{case['output']}", functools.partial(loss_is_right, build, i, case)
