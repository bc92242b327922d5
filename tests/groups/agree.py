"""The same weights to the bit: from bpc's own build and from the one file of C with gcc, with clang and without OpenMP, at
several levels of optimisation, on 1, 2, 3 and 7 threads. And no compiler warns of the C that we write."""
import functools
import hashlib
import re
import shutil

from commands import TESTS, Skipped, copied, examples, expect, first_line, in_order

# name, how, whether its kernels always use threads (else where that is worth it), on how many threads it runs. Each must
# give the bits of the first. -ffp-contract=fast would join a product and a sum where it may: the file forbids it.
COMPILERS = [
    ("gcc", ["gcc", "-O3", "-march=native", "-fopenmp"], True, (1, 2, 3, 7)),
    ("clang", ["clang", "-O3", "-march=native", "-fopenmp"], False, (1, 2, 3, 7)),
    ("gcc-serial", ["gcc", "-O1", "-march=native", "-ffp-contract=fast"], False, (1,)),
]
SANITIZED = [
    ("gcc-sanitized",
     ["gcc", "-O1", "-march=native", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"], True, (1, 3)),
]
WARNINGS = ["-Wall", "-Wextra"]


def weights(place, names):
    """name -> digest of what a run saved; what it saved is removed."""
    digests = {}
    for path in sorted(place.glob("*.safetensors")):
        if path.name in names:
            digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            path.unlink()
    return digests


def length(source, epochs):
    """So many epochs; where there is no data an epoch is 1,000 steps, so a few steps."""
    without_data = re.search(r"^train (?!.* on ).*\{$", source.read_text(), re.MULTILINE)
    return ["--steps", "40"] if without_data else ["--epochs", epochs]


def agrees(build, folder, source, earlier):
    """Every way to build and run one program; `earlier` are those of its folder that save what it loads."""
    with copied(folder) as place:
        for program in earlier:
            build.compile(program.name, "earlier", cwd=place)
            build.succeed(["./earlier", "--quiet", "--seed", "5", "--epochs", "3"], cwd=place)
        loaded = {path.name for path in place.glob("*.safetensors")}
        build.compile(source.name, "program", cwd=place)
        ways = [("bpc", "./program", (1, 2, 7))]
        for option in ("auto", "always"):
            build.succeed([build.bpc, "--emit=c", f"--threads={option}", source.name, "-o", f"{option}.c"], cwd=place)
        for name, command, always, threads in SANITIZED if build.sanitized else COMPILERS:
            if not shutil.which(command[0]):
                raise Skipped(f"no {command[0]}")
            outcome = build.succeed([*command, *WARNINGS, "always.c" if always else "auto.c", "-o", name, "-lm"], cwd=place)
            expect("warning" not in outcome.err, f"{name} warns: {first_line(outcome.err)}")
            ways.append((name, f"./{name}", threads))
        truth, first = None, ""
        for name, program, threads in ways:
            for count in threads:
                command = [program, "--quiet", "--seed", "5", *length(source, "12"), "--threads", count]
                build.succeed(command, cwd=place)
                made = {path.name for path in place.glob("*.safetensors")} - loaded
                digests = weights(place, made)
                expect(digests, "no weights are saved")
                truth, first = (truth, first) if truth else (digests, f"{name} on {count}")
                expect(digests == truth, f"{name} on {count} threads gives other weights than {first}")


def programs():
    for folder in [*examples(), TESTS / "agree"]:
        ordered = in_order(list(folder.glob("*.bp")))
        for i, source in enumerate(ordered):
            loads = ' from "' in source.read_text()
            yield folder, source, ordered[:i] if loads else []


def tests(build):
    for folder, source, earlier in programs():
        yield f"{folder.name}-{source.stem}", functools.partial(agrees, build, folder, source, earlier)
