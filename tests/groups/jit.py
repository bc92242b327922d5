"""bpc run: the same weights, to the bit, as the native program saves, for every example, every program of tests/agree and
every golden case, however kernels are spread over threads; and what a command line may ask of it."""
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from commands import ROOT, TESTS, Skipped, copied, examples, expect, first_line
from groups.agree import length, programs, weights

WAYS = [(how, threads) for how in ("always", "auto") for threads in (1, 2, 3)]
FEW = ["--quiet", "--seed", "5"]
SETTINGS = [*FEW, "--epochs", "6"]
IRIS = ROOT / "examples" / "iris"


def needs_llvm(build):
    if not (build.folder / "bpc-llvm.so").exists():
        raise Skipped("built without LLVM")


def agrees(build, folder, source, earlier):
    needs_llvm(build)
    with copied(folder) as place, tempfile.TemporaryDirectory(prefix="bpc-cache-") as cache:
        home = {"XDG_CACHE_HOME": cache}
        for program in earlier:
            build.succeed([build.bpc, "run", program.name, "--", "--quiet", "--seed", "5", "--epochs", "3"], cwd=place,
                          environment=home)
        loaded = {path.name for path in place.glob("*.safetensors")}
        build.compile(source.name, "program", cwd=place)
        settings = [*FEW, *length(source, "6")]
        build.succeed(["./program", *settings, "--threads", "1"], cwd=place)
        made = {path.name for path in place.glob("*.safetensors")} - loaded
        truth = weights(place, made)
        expect(truth, "no weights are saved")
        for how, threads in WAYS:
            build.succeed([build.bpc, "run", "--verify", f"--threads={how}", source.name, "--", *settings, "--threads",
                           threads], cwd=place, environment=home)
            expect(weights(place, made) == truth, f"--threads={how} on {threads} gives other weights than the native program")
        build.succeed([build.bpc, "--backend=llvm", source.name, "-o", "linked"], cwd=place)
        build.succeed(["./linked", *settings], cwd=place)
        expect(weights(place, made) == truth, "--backend=llvm gives other weights than the C compiler")


def golden_programs():
    for case in sorted((TESTS / "golden").iterdir()):
        if (case / "case.bp").exists():
            yield case, case / "case.bp", []


def script(build):
    """The first line of a file may name bpc; a program may come from standard input; exit codes are the program's."""
    needs_llvm(build)
    with copied(IRIS) as place:
        home = {"XDG_CACHE_HOME": str(place)}
        text = (place / "iris.bp").read_text()
        named = place / "named.bp"
        named.write_text(f"#!/usr/bin/env -S {build.bpc} run\n{text}")
        named.chmod(0o755)
        outcome = build.succeed(["./named.bp", "--epochs", "2"], cwd=place, environment=home)
        expect("saved Classifier" in outcome.out, f"the script says {first_line(outcome.out)}")
        (place / "iris.safetensors").unlink()
        command = f"exec '{build.bpc}' run - -- --quiet --epochs 2 < iris.bp"
        build.succeed(["sh", "-c", command], cwd=place, environment=home)
        expect((place / "iris.safetensors").exists(), "a program from standard input saves nothing")
        outcome = build.run([build.bpc, "run", "iris.bp", "--", "--no-such-option"], cwd=place, environment=home)
        expect(outcome.code == 2 and "--no-such-option" in outcome.err, f"an unknown option gives {outcome.code}")
        outcome = build.run([build.bpc, "run", "iris.bp", "--", "--data", "iris=nowhere.csv"], cwd=place, environment=home)
        expect(outcome.code == 1 and "nowhere.csv" in outcome.err, f"a missing table gives {outcome.code}")
        outcome = build.run([build.bpc, "run", "--march=pentagon", "iris.bp"], cwd=place, environment=home)
        expect(outcome.code == 1 and "pentagon" in outcome.err, f"an unknown CPU gives {outcome.code}")


def every_mode(build):
    """Predictions are the native program's; gradients are right; --bench gives its JSON."""
    needs_llvm(build)
    with copied(IRIS) as place:
        home = {"XDG_CACHE_HOME": str(place)}
        run = [build.bpc, "run", "iris.bp", "--"]
        build.compile("iris.bp", "program", cwd=place)
        build.succeed([*run, "--quiet", "--epochs", "3"], cwd=place, environment=home)
        words = ["predict", "--weights", "iris.safetensors", "iris.csv", "-o"]
        build.succeed([*run, *words, "jit.csv"], cwd=place, environment=home)
        build.succeed(["./program", *words, "native.csv"], cwd=place)
        expect((place / "jit.csv").read_bytes() == (place / "native.csv").read_bytes(), "predictions differ")
        build.succeed([*run, "--check-grad", "--quiet"], cwd=place, environment=home)
        outcome = build.succeed([*run, "--bench", "20"], cwd=place, environment=home)
        expect('"us_per_step"' in outcome.out, f"--bench gives {first_line(outcome.out)}")


HUNDRED = """bpc 1
data wave { generate x = linspace(-2, 2, 24); input x; target y = sin(2 * x) }
block Residual(x) {
    fc1 = dense(x, 2, tanh)
    fc2 = dense(fc1, 2)
    return x + 0.1 * fc2
}
model Deep(x) {
    stem = dense(x, 2)
    body = repeat 100 Residual(stem)
    head = dense(body, 1)
    return head
}
train Deep on wave { loss mse; optimizer adam(lr = 3e-3); epochs 60; batch_size 8 }
save Deep to "deep.safetensors"
"""


def hundred_blocks(build):
    """A network of 202 layers learns, the same on three threads, and its derivatives are those of finite differences."""
    needs_llvm(build)
    with tempfile.TemporaryDirectory(prefix="bpc-deep-") as folder:
        place = pathlib.Path(folder)
        (place / "deep.bp").write_text(HUNDRED)
        home, saved, run = {"XDG_CACHE_HOME": folder}, [], [build.bpc, "run", "deep.bp", "--"]
        build.succeed([*run, "--check-grad", "--quiet"], cwd=place, environment=home)
        for threads in (1, 3):
            said = build.succeed([*run, "--threads", threads], cwd=place, environment=home).out
            losses = [float(loss) for loss in re.findall(r"^epoch .*?loss ([\d.]+)", said, re.MULTILINE)]
            expect(len(losses) == 60 and losses[-1] < 0.6 * losses[0], f"the loss goes from {losses[0]} to {losses[-1]}")
            saved.append((place / "deep.safetensors").read_bytes())
        expect(saved[0] == saved[1], "three threads give other weights")


def joined(build):
    """The kernels of a small step are part of it: no function of theirs is left; a debugger, who stops in them, finds them all."""
    needs_llvm(build)
    with copied(ROOT / "examples" / "xor") as place:
        def kernels(*options):
            text = build.succeed([build.bpc, *options, "--emit=asm", "xor.bp"], cwd=place).out
            expect(re.search(r"^_?\w+_step:", text, re.MULTILINE), f"{options}: no step among the functions")
            return set(re.findall(r"^_?(\w+_step_\w+)\.kernel:", text, re.MULTILINE))

        expect(kernels() == set(), f"the step calls {kernels()}")
        expect(len(kernels("-g")) > 3, f"with -g there are only the kernels {kernels('-g')}")


def interrupted(build, place, command):
    """Ctrl-C once an epoch is done: ends after the step, with 130. What it printed."""
    environment = dict(os.environ, XDG_CACHE_HOME=str(place), ASAN_OPTIONS="intercept_tls_get_addr=0")
    log, deadline = place / "log.jsonl", time.monotonic() + 120
    log.unlink(missing_ok=True)
    child = subprocess.Popen([*map(str, command), "--epochs", "100000000", "--log", "log.jsonl"], cwd=place, env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    read = threading.Thread(target=lambda: said.append(child.stdout.read()))
    said = []
    read.start()
    while not (log.exists() and '"event":"epoch"' in log.read_text()) and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    code = child.wait(timeout=120)
    read.join()
    expect(code == 130, f"exit code {code} after Ctrl-C: {first_line(said[0])}")
    return said[0]


def interrupt(build):
    """Ctrl-C ends after the step, saves what is asked to be saved, and exits with 130; a script with a checkpoint goes on."""
    needs_llvm(build)
    with copied(IRIS) as place:
        text = (place / "iris.bp").read_text().replace("early_stopping val_loss, patience = 10", "")
        (place / "long.bp").write_text(text)
        said = interrupted(build, place, [build.bpc, "run", "long.bp", "--", "--quiet"])
        expect((place / "iris.safetensors").exists(), f"no weights are saved after Ctrl-C: {first_line(said)}")
        build.succeed([build.bpc, "run", "long.bp", "--", "predict", "--weights", "iris.safetensors", "iris.csv", "-o", "p.csv"],
                      cwd=place, environment={"XDG_CACHE_HOME": str(place)})
        script = place / "kept.bp"
        script.write_text(f"#!/usr/bin/env -S {build.bpc} run\n" + text.replace("batch_size 16", 'batch_size 16\n    checkpoint "run.state"'))
        script.chmod(0o755)
        said = interrupted(build, place, ["./kept.bp"])
        expect("go on with --resume run.state" in said, f"it says {said[-200:]}")
        epochs = int(re.search(r"interrupted in epoch (\d+)", said)[1]) + 3
        options = ["--quiet", "--epochs", str(epochs)]
        build.succeed(["./kept.bp", *options, "--resume", "run.state"], cwd=place, environment={"XDG_CACHE_HOME": str(place)})
        resumed = weights(place, {"iris.safetensors"})
        build.succeed(["./kept.bp", *options], cwd=place, environment={"XDG_CACHE_HOME": str(place)})
        expect(weights(place, {"iris.safetensors"}) == resumed, "a resumed run differs from one that was never stopped")


def damaged_cache(build):
    """What lies in the cache is used, and not believed when it is damaged; where none can be written it works all the same."""
    needs_llvm(build)
    with copied(IRIS) as place:
        command = [build.bpc, "run", "iris.bp", "--", *SETTINGS]
        build.succeed(command, cwd=place, environment={"XDG_CACHE_HOME": str(place)})
        truth = weights(place, {"iris.safetensors"})
        files = sorted((place / "bpc").iterdir())
        expect(files, "nothing is cached")
        whole = [path.read_bytes() for path in files]
        for cut in (lambda b: b[: len(b) // 2], lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], lambda b: b""):
            for path, data in zip(files, whole):
                path.write_bytes(cut(data))
            build.succeed(command, cwd=place, environment={"XDG_CACHE_HOME": str(place)})
            expect(weights(place, {"iris.safetensors"}) == truth, "a damaged cache changes the weights")
            expect([path.read_bytes() for path in files] == whole, "a damaged cache is not written again")
        build.succeed(command, cwd=place, environment={"XDG_CACHE_HOME": "/proc/no/such/place"})
        expect(weights(place, {"iris.safetensors"}) == truth, "without a cache the weights differ")


def shared_cache(build):
    """Six processes at once write one cache: each runs as if it were alone, and what they leave is whole."""
    needs_llvm(build)
    with copied(IRIS) as place, tempfile.TemporaryDirectory(prefix="bpc-cache-") as cache:
        environment = dict(os.environ, XDG_CACHE_HOME=cache, ASAN_OPTIONS="intercept_tls_get_addr=0")
        command, folders = [str(build.bpc), "run", "../iris.bp", "--", *SETTINGS], [place / str(i) for i in range(6)]
        for folder in folders:
            folder.mkdir()
        children = [subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) for folder in folders]
        codes = [child.wait(timeout=300) for child in children]
        expect(codes == [0] * 6, f"exit codes {codes}")
        made = [weights(folder, {"iris.safetensors"}) for folder in folders]
        expect(made[0] and all(digests == made[0] for digests in made), "processes that share a cache save other weights")
        first = {path.name: path.read_bytes() for path in sorted((pathlib.Path(cache) / "bpc").iterdir())}
        expect(all(re.fullmatch(r"[0-9a-f]{32}\.o", name) for name in first), f"the cache holds {sorted(first)}")
        build.succeed(command, cwd=folders[0], environment={"XDG_CACHE_HOME": cache})
        again = {path.name: path.read_bytes() for path in sorted((pathlib.Path(cache) / "bpc").iterdir())}
        expect(first == again, "what the processes left is not what one alone finds")
        build.succeed([build.bpc, "run", "-O1", "iris.bp", "--", "--quiet", "--epochs", "1"], cwd=place,
                      environment={"XDG_CACHE_HOME": cache})
        expect(len(list((pathlib.Path(cache) / "bpc").iterdir())) > len(first), "other options find the same objects")


def shown_time(build):
    """--time says where the time goes, up to the code in memory."""
    needs_llvm(build)
    with copied(IRIS) as place:
        outcome = build.succeed([build.bpc, "run", "--time", "iris.bp", "--", "--quiet", "--epochs", "1"], cwd=place,
                                environment={"XDG_CACHE_HOME": str(place)})
        for stage in ("ast", "graph", "kernel", "open llvm", "machine code", "link", "run"):
            expect(re.search(rf"^ *{stage} +\d+\.\d\d ms$", outcome.err, re.MULTILINE), f"--time does not tell {stage}: {outcome.err}")


def debugger(build):
    """With -g gdb stops in a kernel by its name, at its line of the .bp file, and perf is given its records."""
    needs_llvm(build)
    if not shutil.which("gdb") or build.sanitized:
        raise Skipped("no gdb" if not build.sanitized else "the leak checker and gdb exclude each other")
    with copied(IRIS) as place:
        line = next(i for i, text in enumerate((place / "iris.bp").read_text().splitlines(), 1) if "fc1 = dense" in text)
        commands = ["set breakpoint pending on", "set debuginfod enabled off", "break Classifier_step_fc1",
                    "run run -g iris.bp -- --quiet --epochs 1", "bt 2"]
        words = [word for command in commands for word in ("-ex", command)]
        outcome = build.succeed(["gdb", "-q", "-nx", "-batch", *words, build.bpc], cwd=place,
                                environment={"XDG_CACHE_HOME": str(place), "JITDUMPDIR": str(place)})
        if "ptrace" in outcome.err:
            raise Skipped("gdb may not trace here")
        expect(f"Classifier_step_fc1 () at iris.bp:{line}" in outcome.out, f"gdb says {outcome.out[-400:]}")
        expect(re.search(r"#1 .* in Classifier_step \(\) at iris\.bp:", outcome.out), f"gdb's backtrace is {outcome.out[-400:]}")
        records = list(place.glob(".debug/jit/*/jit-*.dump"))
        expect(records and b"Classifier_step_fc1.kernel" in records[0].read_bytes(), f"perf is not told of kernels: {records}")


def image(build):
    """The pointers that compiler/llvm/image.c lists are those that runtime/program.h has, struct by struct, in order."""
    structs = re.findall(r"^struct (bp_\w+) \{(.*?)^\};", (ROOT / "runtime/program.h").read_text(), re.MULTILINE | re.DOTALL)
    source = (ROOT / "compiler/llvm/image.c").read_text()
    for name, body in structs:
        if name == "bp_context":
            continue
        fields = []
        for line in re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).split(";"):
            called, inside = re.search(r"\(\*(\w+)\)\(", line), re.search(r"struct bp_\w+ [^*]*$", line)
            if called:
                fields.append(called[1])
            elif "*" in line or inside:
                fields += [re.findall(r"\w+", part)[-1] for part in line.split(",")]
        table = re.search(name + r"_fields\[\] = \{(.*?)\};", source, re.DOTALL)
        listed = re.findall(r"\b[A-Z]+\(" + name + r",\s*(\w+)", table[1]) if table else []
        expect(listed == fields, f"struct {name}: program.h has {fields}, image.c lists {listed}")


def object_file(build):
    """-c gives an object that a program in C runs; --emit=llvm is LLVM's text."""
    needs_llvm(build)
    if not shutil.which("gcc"):
        raise Skipped("no gcc")
    with copied(IRIS) as place:
        build.succeed([build.bpc, "-c", "iris.bp", "-o", "iris.o"], cwd=place)
        names = subprocess.run(["nm", "-g", "iris.o"], cwd=place, capture_output=True, text=True, check=True).stdout
        defined = {line.split()[-1] for line in names.splitlines() if " U " not in line}
        expect("iris_train_step" in defined and all(name.startswith("iris_") for name in defined), f"the object has {defined}")
        outcome = build.succeed([build.bpc, "--emit=llvm", "iris.bp"], cwd=place)
        expect("define void @Classifier_step(" in outcome.out, "no step in LLVM's text")
        for flag in (" fast ", " contract ", " reassoc ", " nnan ", " afn "):
            expect(flag not in outcome.out, f"a flag of fast-math:{flag}")


def says_what_is_missing(build):
    """Without the module `bpc run` is one clear line, and everything else works."""
    with copied(*examples()) as place:
        outcome = build.run([build.bpc, "run", "iris.bp"], cwd=place)
    expect(outcome.code == 1, f"exit code {outcome.code}")
    expect("LLVM" in outcome.err and len(outcome.err.strip().splitlines()) == 1, f"it says {outcome.err}")


def tests(build):
    if not (build.folder / "bpc-llvm.so").exists():
        yield "absent", functools.partial(says_what_is_missing, build)
        return
    golden = list(golden_programs())
    if build.sanitized:  # what is new there is memory, not numbers: some of each kind
        golden = golden[::9]
    for folder, source, earlier in [*programs(), *golden]:
        yield f"{folder.name}-{source.stem}", functools.partial(agrees, build, folder, source, earlier)
    for test in (script, every_mode, hundred_blocks, joined, interrupt, damaged_cache, shared_cache, shown_time, debugger, image, object_file):
        yield test.__name__.replace("_", "-"), functools.partial(test, build)
