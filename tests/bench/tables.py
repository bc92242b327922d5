"""What run.py measured, as tables in Markdown."""
import statistics

# Below this a program's memory is taken to stay in a cache, and to cost no bandwidth.
CACHED = 32 << 20
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def median(rounds, value):
    """Over those rounds that have the value; None where none has it."""
    values = [found for found in map(value, rounds) if found is not None]
    return statistics.median(values) if values else None


def us(result, kind, threads):
    steps = result["steps"].get(threads, {})
    return steps[kind]["us_per_step"] if kind in steps else None


def better(result, kind):
    """The number of threads that is faster, and its microseconds."""
    times = [(us(result, kind, threads), threads) for threads in result["steps"] if us(result, kind, threads)]
    return min(times)[::-1] if times else (None, None)


def ratio(above, below):
    return above / below if above and below else None


def peak_flops(result, threads):
    machine = result["machine"]
    return machine.get(f"fma512_{threads}", machine[f"fma256_{threads}"]) * 1e9


def parameters(workload):
    return workload.parameters or sum((a + 1) * b for a, b in zip(workload.widths, workload.widths[1:]))


def flops(workload, result):
    """As `--bench` counts them: products alone."""
    step = result["steps"][1]["native"]
    return step["gflops"] * step["us_per_step"] * 1e3 if workload.loss else sum(2.0 * a * b for a, b in zip(workload.widths, workload.widths[1:]))


def gflops(workload, result):
    return flops(workload, result) / better(result, "native")[1] * 1e-3


def share(workload, result):
    return gflops(workload, result) * 1e9 / peak_flops(result, better(result, "native")[0])


def floor_arithmetic(workload, result):
    return flops(workload, result) / peak_flops(result, max(result["steps"])) * 1e6


def floor_memory(workload, result):
    """Weights are read forward; they and the optimizer's state are read and written by the update. Of tables a step needs no
    more than a few rows."""
    if result["steps"][1]["native"]["bytes_planned"] < CACHED or workload.tables:
        return None
    copies = {"sgd": 1}.get(workload.optimizer, 3)
    machine = result["machine"]
    return 4 * parameters(workload) * (1e-3 / machine["read_2"] + 2e-3 * copies / machine["update_2"])


# ---- How numbers are written -----------------------------------------------------------------------------------------
def significant(value):
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def duration(microseconds):
    if microseconds is None:
        return "–"
    for unit, size in (("s", 1e6), ("ms", 1e3), ("µs", 1)):
        if microseconds >= size:
            return f"{significant(microseconds / size)} {unit}"
    return f"{significant(microseconds * 1e3)} ns"


def size(count):
    for unit, bytes_of in (("GB", 1e9), ("MB", 1e6)):
        if count >= bytes_of:
            return f"{significant(count / bytes_of)} {unit}"
    return f"{significant(count / 1e3)} kB"


def number(value, form):
    return "–" if value is None else form.format(value)


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(head, rows):
    return "\n".join([row(head), row(["---"] + ["---:"] * (len(head) - 1)), *map(row, rows)])


# ---- The tables ------------------------------------------------------------------------------------------------------
def network(workload):
    count = len(workload.widths)
    widths = f"{count - 1} x {workload.widths[0]}²" if count > 6 else "-".join(map(str, workload.widths))
    name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}.get(workload.optimizer)
    if workload.about:
        return f"{workload.about}, batch {workload.batch}, {name}"
    return f"{widths}, batch {workload.batch}, {name}" if name else f"{widths}, one row predicted"


def goal(workload):
    return f"{workload.goal_ratio:g}x" + (f", {duration(workload.goal_us)}" if workload.goal_us else "")


def jit_ratio(rounds, threads):
    return number(median(rounds, lambda result: ratio(us(result, "jit", threads), us(result, "native", threads))), "{:.2f}")


def ratio_to_peer(rounds):
    return median(rounds, lambda result: ratio(better(result, "peer")[1], better(result, "native")[1]))


def speed_row(workload, rounds):
    threads = sorted(rounds[0]["steps"])
    one, two, peer = (median(rounds, lambda result: value(result)) for value in (
        lambda result: us(result, "native", 1), lambda result: us(result, "native", 2), lambda result: better(result, "peer")[1]))
    against = ratio_to_peer(rounds)
    speedup = median(rounds, lambda result: ratio(us(result, "native", 1), us(result, "native", 2)))
    return [f"{workload.name}: {network(workload)}", duration(one), duration(two), number(speedup, "{:.2f}x"),
            ", ".join(jit_ratio(rounds, count) for count in threads), duration(peer), f"**{significant(against)}x**" if against else "–", goal(workload)]


def limit_row(workload, rounds):
    step = rounds[0]["steps"][max(rounds[0]["steps"])]["native"]
    peak = median(rounds, lambda result: result["steps"][max(result["steps"])]["native"]["bytes_peak"])
    products = flops(workload, rounds[0]) > 0
    return [workload.name, significant(median(rounds, lambda result: gflops(workload, result))) if products else "–",
            number(median(rounds, lambda result: 100 * share(workload, result)) if products else None, "{:.0f} %"),
            duration(median(rounds, lambda result: better(result, "native")[1])),
            duration(median(rounds, lambda result: floor_arithmetic(workload, result) if products else None)),
            duration(median(rounds, lambda result: floor_memory(workload, result))),
            size(step["bytes_planned"]), size(peak), f"{peak / parameters(workload):.2f}" if peak > 1e9 else "–"]


def start_row(workload, rounds):
    keys = ("to_c_ms", "to_executable_ms", "to_first_step_ms", "run_to_first_step_ms")
    times = (median(rounds, lambda result: result.get(key)) for key in keys)
    return [workload.name, *(duration(value * 1e3 if value else None) for value in times)]


def machine_rows(results):
    names = [("fused multiply-adds of 256 bits", "fma256", "GFLOP/s"), ("fused multiply-adds of 512 bits", "fma512", "GFLOP/s"),
             ("memory, reading", "read", "GB/s"), ("memory, reading and writing back", "update", "GB/s")]
    rows = []
    for name, key, unit in names:
        values = [[result["machine"].get(f"{key}_{threads}") for result in results] for threads in (1, 2)]
        if values[0][0]:
            rows.append([name, *(f"{significant(statistics.median(some))} {unit} ({significant(min(some))} to {significant(max(some))})" for some in values)])
    return rows


def markdown(about, workloads, rounds, imports):
    results = [result for name in rounds for result in rounds[name]]
    count = len(next(iter(rounds.values())))
    parts = [
        f"{about['processor']}, {about['cores']} cores; {about['compiler']}"
        + (f"; PyTorch {about['torch']}" if "torch" in about else "") + f"; medians of {count} {'round' if count == 1 else 'rounds'}.",
        "**Speed.** A training step, or the prediction of one row. PyTorch: the better of 1 and 2 threads; the ratio is that to the "
        "better of ours.",
        table(["", "1 thread", "2 threads", "gain", "`bpc run` / native, 1 and 2 threads", "PyTorch", "ratio", "goal"],
              [speed_row(workload, rounds[workload.name]) for workload in workloads]),
        "**Limits.** Products' arithmetic, its share of what the cores in use can do at most, and the least time that arithmetic "
        f"and memory allow (memory only where more than {CACHED >> 20} MB are in use).",
        table(["", "GFLOP/s", "of the ceiling", "a step", "floor: arithmetic", "floor: memory", "planned", "peak of the process", "bytes a parameter"],
              [limit_row(workload, rounds[workload.name]) for workload in workloads]),
        "**The machine's own limits**, measured in the same rounds (lowest to highest).",
        table(["", "1 thread", "2 threads"], machine_rows(results)),
        "**Start.** From `bpc` to C and to the executable; from the program's start to the end of its first step, with a table of "
        "one batch to read; from `bpc run`, nothing kept from before, to the same point.",
        table(["", "C", "executable", "first step", "`bpc run`, first step"], [start_row(workload, rounds[workload.name]) for workload in workloads]),
    ]
    if imports:
        parts.append(f"`import torch` alone: {duration(statistics.median(imports) * 1e3)}.")
    return "\n\n".join(parts) + "\n"


def line(workload, rounds):
    """A workload in a line, for whoever waits."""
    return "  ".join(cell.replace("*", "") for cell in speed_row(workload, rounds)) + "  " + " of the ceiling, ".join(limit_row(workload, rounds)[2:4])


def put(path, text):
    """Between the two lines that mark the place in a page, or else as a file of its own."""
    page = path.read_text() if path.exists() else ""
    if BEGIN in page and END in page:
        text = page[:page.index(BEGIN)] + BEGIN + "\n" + text + page[page.index(END):]
    path.write_text(text)
