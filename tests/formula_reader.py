"""Reads the text of `bpc explain --values` back: a small language of one line, computed in double on rows of numbers.

A value is a list with an entry for each row of the batch, or (not batched) one entry for all of them: a number, a vector
(list) or a matrix (list of lists)."""
import math
import re

from commands import expect

TOKEN = re.compile(r"\s*(∂L/∂|\d+(?:\.\d+)?(?:e[-+]?\d+)?|[^\W\d_⁰¹²³⁴⁵⁶⁷⁸⁹ᵀₖₙ]+[′″]*(?:_(?:(?![⁰¹²³⁴⁵⁶⁷⁸⁹ᵀₖₙ])(?:[\w.]|,(?=\w)|\[\d+\]))+|[₀-₉]+)?|.)")
SUPERSCRIPTS = {c: i for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


class Rows:
    """One value, or one for each row."""

    def __init__(self, rows, batched):
        self.rows, self.batched = rows, batched


def flat(x):
    return [n for part in x for n in flat(part)] if isinstance(x, list) else [x]


def elementwise(f, a, b):
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b) and 1 in (len(a), len(b)):  # (1) is a number
            return elementwise(f, a[0] if len(a) == 1 else a, b[0] if len(b) == 1 else b)
        expect(len(a) == len(b), f"{len(a)} and {len(b)} elements do not fit")
        return [elementwise(f, x, y) for x, y in zip(a, b)]
    if isinstance(a, list):
        return [elementwise(f, x, b) for x in a]
    if isinstance(b, list):
        return [elementwise(f, a, y) for y in b]
    return f(a, b)


def mapped(f, a):
    return [mapped(f, x) for x in a] if isinstance(a, list) else f(a)


def per_row(f, *args):
    batched = any(a.batched for a in args)
    count = max(len(a.rows) for a in args)
    return Rows([f(*(a.rows[i if a.batched else 0] for a in args)) for i in range(count)], batched)


def matrix(x):
    return isinstance(x, list) and x and isinstance(x[0], list)


class Turned:
    """A transposed vector."""

    def __init__(self, x):
        self.x = x


def transpose(x):
    return [list(column) for column in zip(*x)] if matrix(x) else Turned(x if isinstance(x, list) else [x])


def multiply(a, b):
    """Beside each other: a matrix product where one is a matrix, or a transposed vector; a product of numbers else."""
    if isinstance(b, Turned):
        column = a if isinstance(a, list) else [a]
        return [[x * y for y in b.x] for x in column]
    if isinstance(a, Turned):
        return sum(x * y for x, y in zip(a.x, b if isinstance(b, list) else [b]))
    if matrix(a) and not isinstance(b, (int, float)) or matrix(a) and len(a[0]) == 1:
        vector = b if isinstance(b, list) else [b]
        expect(not matrix(b) and len(vector) == len(a[0]), "a matrix and what it multiplies do not fit")
        result = [sum(x * y for x, y in zip(row, vector)) for row in a]
        return result if len(result) > 1 else result[0]
    return elementwise(lambda x, y: x * y, a, b)


def softmax(x):
    powers = [math.exp(v - max(x)) for v in x]
    return [p / sum(powers) for p in powers]


FUNCTIONS = {
    "σ": lambda x: 1 / (1 + math.exp(-x)), "relu": lambda x: max(x, 0.0), "tanh": math.tanh, "exp": math.exp, "log": math.log,
    "erf": math.erf, "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))), "sign": lambda x: (x > 0) - (x < 0),
}


class Reader:
    def __init__(self, text, names, rows):
        self.tokens = [t for t in TOKEN.findall(text) if t.strip()]
        self.at, self.names, self.count = 0, names, rows
        self.text = text

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, token=None):
        found = self.peek()
        expect(token is None or found == token, f"'{token}' is wanted, not '{found}', in: {self.text}")
        self.at += 1
        return found

    def all(self):
        value = self.sum()
        expect(self.peek() == "", f"'{self.peek()}' is left over in: {self.text}")
        return value

    def sum(self):
        minus = self.peek() == "−"
        if minus:
            self.take()
        value = self.product()
        if minus:
            value = per_row(lambda x: mapped(lambda v: -v, x), value)
        while self.peek() in ("+", "−"):
            f = (lambda a, b: a + b) if self.take() == "+" else (lambda a, b: a - b)
            value = per_row(lambda a, b, f=f: elementwise(f, a, b), value, self.product())
        return value

    def begins_factor(self):
        return self.peek() not in ("", "+", "−", ")", "]", "}", ",", ";", "⊙", "/", "=", "<", ">", "≤", "≥", "≠", "∧", "∨", "|", "‖", "if", "otherwise", "·")

    def product(self):
        """a b ⊙ c/d: juxtaposition, ⊙ and / from left to right; a sum takes all that follows it."""
        value = self.factor()
        while True:
            if self.peek() in ("⊙", "·"):
                self.take()
                value = per_row(lambda a, b: elementwise(lambda x, y: x * y, a, b), value, self.factor())
            elif self.peek() == "/":
                self.take()
                value = per_row(lambda a, b: elementwise(lambda x, y: x / y, a, b), value, self.factor())
            elif self.begins_factor():
                value = per_row(multiply, value, self.factor())
            else:
                return value

    def factor(self):
        value = self.atom()
        while True:
            token = self.peek()
            if token == "ᵀ":
                self.take()
                value = per_row(transpose, value)
            elif token in SUPERSCRIPTS or token == "⁻":
                digits = ""
                while self.peek() in SUPERSCRIPTS or self.peek() == "⁻":
                    digits += "-" if self.peek() == "⁻" else str(SUPERSCRIPTS[self.peek()])
                    self.take()
                value = per_row(lambda a, n=int(digits): mapped(lambda x: x**n, a), value)
            elif token == "^":
                self.take()
                value = per_row(lambda a, b: elementwise(lambda x, y: x**y, a, b), value, self.factor())
            elif token == "ₖ":
                self.take()  # the element that the sum is at: the vector does for all of them
            else:
                return value

    def enclosed(self, end):
        value = self.sum()
        self.take(end)
        return value

    def condition(self):
        left = self.sum()
        sign = self.take()
        compare = {"<": lambda a, b: a < b, ">": lambda a, b: a > b, "≤": lambda a, b: a <= b, "≥": lambda a, b: a >= b, "=": lambda a, b: a == b}[sign]
        return per_row(lambda a, b: elementwise(lambda x, y: float(compare(x, y)), a, b), left, self.sum())

    def atom(self):
        token = self.take()
        if token == "(":
            return self.enclosed(")")
        if token == "|":
            return per_row(lambda a: mapped(abs, a), self.enclosed("|"))
        if token == "‖":
            return per_row(lambda a: math.sqrt(sum(x * x for x in flat(a))), self.enclosed("‖"))
        if token == "√":
            return per_row(lambda a: mapped(math.sqrt, a), self.atom())
        if token == "∑":
            over = self.take()
            body = self.product()
            if over == "ₙ":
                rows = body.rows if body.batched else body.rows * self.count
                total = rows[0]
                for row in rows[1:]:
                    total = elementwise(lambda x, y: x + y, total, row)
                return Rows([total], False)
            return per_row(lambda a: sum(flat(a)), body)
        if token == "𝟏":
            self.take("[")
            value = self.condition()
            self.take("]")
            return value
        if token == "{":
            then = self.sum()
            self.take("if")
            condition = self.condition()
            self.take(";")
            otherwise = self.sum()
            self.take("otherwise")
            self.take("}")
            pick = lambda c, a, b: [pick(*parts) for parts in zip(c, a if isinstance(a, list) else [a] * len(c), b if isinstance(b, list) else [b] * len(c))] if isinstance(c, list) else a if c else b
            return per_row(pick, condition, then, otherwise)
        if re.fullmatch(r"\d+(\.\d+)?(e[-+]?\d+)?", token):
            return Rows([float(token)], False)
        if token == "∂L/∂":
            name = token + self.take()
            expect(name in self.names, f"'{name}' has no value yet: {self.text}")
            return self.names[name]
        if token in self.names:
            return self.names[token]
        if token == "π":
            return Rows([math.pi], False)
        if token in FUNCTIONS or token in ("softmax", "huber", "max", "min"):
            if self.peek() != "(":
                return per_row(lambda a: mapped(FUNCTIONS[token], a), self.factor())
            self.take("(")
            args = [self.sum()]
            while self.peek() == ",":
                self.take()
                args.append(self.sum())
            self.take(")")
            if token == "softmax":
                return per_row(softmax, args[0])
            if token in ("max", "min"):
                return per_row(lambda a, b: elementwise(max if token == "max" else min, a, b), *args)
            return per_row(lambda a: mapped(FUNCTIONS[token], a), args[0])
        expect(False, f"'{token}' has no value yet in: {self.text}")


# ---- the page --------------------------------------------------------------------------------------------------------

NUMBERS = r"[−\d.e+,\s\[\]();-]+"


def number(text):
    return float(text.replace("−", "-"))


def one_value(text):
    if text.startswith("["):
        lines = [line for line in text.strip("[]").split("\n")]
        rows = [[number(n) for n in line.strip().split(", ")] for line in lines]
        return rows
    if text.startswith("("):
        return [number(n) for n in text.strip("()").split(", ")]
    return number(text)


def parsed(text):
    parts = text.split("; ")
    return Rows([one_value(part) for part in parts], len(parts) > 1)


def rows_of(page):
    """(left, sign, right, numbers): a formula with the numbers below it, or what is given."""
    result, lines = [], []
    for line in page.splitlines():
        body = re.split(r" +∈ ℝ| {3,}\S+\.bp:\d+$| {3,}(?:before|after|[a-z]\w*(?:, \w+)*|rows in the batch|updates so far|one of .*|the class.*|kept .*|drawn.*)(?= {3}|$)", line.rstrip())[0] if line.startswith("    ") else ""
        lines.append((line, body))
    for i, (line, body) in enumerate(lines):
        row = re.match(r"\s+(?:(\S+) )?([=←]) (.*\S)", body)
        if row:
            result.append([row[1], row[2], row[3], line])
        elif re.match(r"\s{6,}[−\d]", body) and result and result[-1][2].startswith("["):
            result[-1][2] += "\n" + body.strip()
    return result


def values(page):
    """The numbers of what is given, by name."""
    return {left: parsed(right).rows[0] for left, sign, right, _ in rows_of(page.split("\nForward")[0]) if left and re.fullmatch(NUMBERS, right)}


def close(a, b):
    a, b = flat(a), flat(b)
    if len(a) != len(b) and len(set(a)) == 1:
        a = a * len(b)
    size = max([1e-300, *map(abs, b)])
    return len(a) == len(b) and all(abs(x - y) <= 1e-9 * max(size, 1e-6) for x, y in zip(a, b))


def check(page):
    """How many formulas were computed and found right."""
    names, checked, pending = {}, 0, None
    rows = rows_of(page)
    count = next(int(right) for left, _, right, _ in rows if left == "B")
    for left, sign, right, line in rows:
        if re.fullmatch(NUMBERS, right):
            value = parsed(right)
            if left:
                names[left] = value
            elif pending:
                name, text, sign_before = pending
                computed = Reader(text, names, count).all() if text else value
                names[name], pending = value, None
                rows_ours = computed.rows * (len(value.rows) if not computed.batched else 1)
                expect(len(rows_ours) == len(value.rows) and all(close(a, b) for a, b in zip(rows_ours, value.rows)),
                       f"{name} {sign_before} {text} is {computed.rows}, not {value.rows}")
                checked += text is not None
        else:
            middle = re.match(r"∂L/∂\S+ = (.*)", right)
            text = middle[1] if middle else right
            pending = (left, None if "onehot" in text or "…" in text else text, sign)
    return checked
