"""The same weights to the bit: from bpc's own build and from the one file of C with gcc, with clang and without OpenMP, at
several levels of optimisation, on 1, 2, 3 and 7 threads. And no compiler warns of the C that we write."""
import functools
import hashlib

from commands import TESTS, Skipped, copied, examples, expect, first_line, in_order
import shutil

# Each must give the bits of the first. -ffp-contract=fast would join a product and a sum where it may: the file forbids it.
COMPILERS = [
    ("gcc", ["gcc", "-O3", "-march=native", "-fopenmp"], (1, 2, 3, 7)),
    ("clang", ["clang", "-O3", "-march=native", "-fopenmp"], (1, 2, 3, 7)),
    ("gcc-serial", ["gcc", "-O1", "-march=native", "-ffp-contract=fast"], (1,)),
    ("clang-serial", ["clang", "-O2", "-march=native"], (1,)),
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


def agrees(build, folder, source, earlier):
    """Every way to build and run one program; `earlier` are those of its folder that save what it loads."""
    with copied(folder) as place:
        for program in earlier:
            build.compile(program.name, "earlier", cwd=place)
            build.succeed(["./earlier", "--quiet", "--seed", "5", "--epochs", "3"], cwd=place)
        loaded = {path.name for path in place.glob("*.safetensors")}
        build.compile(source.name, "program", cwd=place)
        ways = [("bpc", "./program", (1, 2, 7))]
        build.compile(source.name, "always", "--threads=always", cwd=place)
        ways.append(("bpc --threads=always", "./always", (1, 2, 3, 7)))
        build.succeed([build.bpc, "--emit=c", source.name, "-o", "program.c"], cwd=place)
        build.succeed([build.bpc, "--emit=c", "--threads=always", source.name, "-o", "always.c"], cwd=place)
        for name, command, threads in COMPILERS:
            if not shutil.which(command[0]):
                raise Skipped(f"no {command[0]}")
            text = "always.c" if len(threads) > 1 else "program.c"
            flags = WARNINGS if "-fopenmp" in command else [*WARNINGS, "-Wno-unknown-pragmas"]
            outcome = build.succeed([*command, *flags, text, "-o", name, "-lm"], cwd=place)
            expect("warning" not in outcome.err, f"{name} warns: {first_line(outcome.err)}")
            ways.append((name, f"./{name}", threads))
        truth, first = None, ""
        for name, program, threads in ways:
            for count in threads:
                command = [program, "--quiet", "--seed", "5", "--epochs", "12", "--threads", count]
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
