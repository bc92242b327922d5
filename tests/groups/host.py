"""A program inside another one: what --emit=header declares is in the object of `bpc -c`, by LLVM and by the C compiler, and
in the one file of C; it does what the program does, tells what goes wrong, and works in several threads at once."""
import csv
import functools
import io
import math
import random
import re
import shutil
import statistics
import struct

from commands import ROOT, TESTS, Skipped, copied, expect, first_line
from groups import results
from reference import safetensors

PENDULUM = ROOT / "examples" / "pendulum"
CARTPOLE = ROOT / "examples" / "cartpole"
WAYS = ("llvm", "c", "one-file")
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


def runtime_words(build):
    """What a host links besides its own objects: with the sanitizers of the build, if any."""
    cache = (build.folder / "CMakeCache.txt").read_text()
    zlib = ["-lz"] if re.search(r"^ZLIB_LIBRARY_\w+:FILEPATH=/", cache, re.MULTILINE) else []
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"] if build.sanitized else []
    return [*sanitize, build.folder / "libbpruntime.a", "-fopenmp", "-pthread", *zlib, "-lm"]


def needs(build, way):
    if way == "llvm" and not (build.folder / "bpc-llvm.so").exists():
        raise Skipped("built without LLVM")
    if not shutil.which("gcc"):
        raise Skipped("no gcc")


def make_host(build, way, place, name):
    """NAME.c with the network of NAME.bp; the docs say these commands."""
    build.succeed([build.bpc, "--emit=header", f"{name}.bp", "-o", f"{name}.h"], cwd=place)
    if way == "one-file":
        build.succeed([build.bpc, "--emit=c", f"{name}.bp", "-o", "net.c"], cwd=place)
        build.succeed(["gcc", "-c", "-O2", "-march=native", "-DBP_NO_MAIN", "net.c", "-o", "net.o"], cwd=place)
        words = ["-pthread", "-lm"]
    else:
        backend = ["--backend=c"] if way == "c" else []
        build.succeed([build.bpc, "-c", *backend, "--verify", f"{name}.bp", "-o", "net.o"], cwd=place)
        words = runtime_words(build)
    build.succeed(["gcc", "-O1", *WARNINGS, f"{name}.c", "net.o", *words, "-o", "host"], cwd=place)


def learns(build, way):
    """The example: every second predicted better, in four threads at once, the same to the digit whoever made the code."""
    needs(build, way)
    with copied(PENDULUM) as place:
        make_host(build, way, place, "pendulum")
        out = build.succeed(["./host"], cwd=place).out
        seconds = [[float(word) for word in line.split()[1:]] for line in out.splitlines()[2:]]
        expect(len(seconds) == 6 and all(len(errors) == 4 for errors in seconds), f"it prints {first_line(out)}")
        for one in range(4):
            errors = [second[one] for second in seconds]
            expect(all(after < before for before, after in zip(errors, errors[1:])), f"pendulum {one} is predicted with {errors}")
            expect(errors[-1] < 0.2 * errors[0], f"pendulum {one} hardly learns: {errors}")
        shown = re.search(r"\$ \./host\n((?:    .*\n)+)", (PENDULUM / "README.md").read_text())
        printed = "".join(f"    {line}\n" for line in out.splitlines())
        expect(shown and shown[1] == printed, "README.md shows another table")


def upright_for(tensors, draw):
    """Steps of a game as the equations have it, the choices drawn from the checkpoint's chances."""
    place, speed, angle, turning = (draw.uniform(-0.05, 0.05) for _ in range(4))
    for step in range(200):
        if abs(place) > 2.4 or abs(angle) > math.radians(12):
            return step
        hidden = results.layer(tensors, "h", [place, speed, angle, turning], math.tanh)
        left, right = results.layer(tensors, "logits", hidden)
        force = 10 if draw.random() < results.sigmoid(right - left) else -10
        pull = (force + 0.05 * turning**2 * math.sin(angle)) / 1.1
        turn = (9.8 * math.sin(angle) - math.cos(angle) * pull) / (0.5 * (4 / 3 - 0.1 * math.cos(angle) ** 2 / 1.1))
        move = pull - 0.05 * turn * math.cos(angle) / 1.1
        place, speed, angle, turning = place + 0.02 * speed, speed + 0.02 * move, angle + 0.02 * turning, turning + 0.02 * turn
    return 200


def balances(build, way):
    """Cart-pole: the usual 195 of 200 steps on average of a hundred games, the same games whoever made the code; and so in
    games that are played here, with the weights that it saves."""
    needs(build, way)
    with copied(CARTPOLE) as place:
        make_host(build, way, place, "cartpole")
        out = build.succeed(["./host"], cwd=place).out
        expect(out.endswith("\nsolved\n") and float(out.split()[-2]) >= 195, f"it ends with {out.splitlines()[-2:]}")
        shown = re.search(r"\$ \./host\n((?:    .*\n)+)", (CARTPOLE / "README.md").read_text())
        expect(shown and shown[1] == "".join(f"    {line}\n" for line in out.splitlines()), "README.md shows other games")
        tensors, draw = safetensors.read(place / "cartpole.safetensors")[0], random.Random(1)
        mean = statistics.mean(upright_for(tensors, draw) for _ in range(50))
        expect(mean >= 190, f"in games played here the pole stays upright for {mean} steps")


def no_race(build, way):
    """ThreadSanitizer sees nothing: the host, the runtime and, where it can look into them, the kernels."""
    needs(build, way)
    if build.sanitized:
        raise Skipped("another sanitizer's build")
    with copied(PENDULUM) as place:
        build.succeed([build.bpc, "--emit=header", "pendulum.bp", "-o", "pendulum.h"], cwd=place)
        watched = ["gcc", "-O1", "-g", "-fsanitize=thread", "-pthread", "pendulum.c"]
        if way == "llvm":
            build.succeed([build.bpc, "-c", "pendulum.bp", "-o", "net.o"], cwd=place)
            parts = ["net.o", "-I", ROOT, *sorted((ROOT / "runtime").glob("*.c"))]
        else:
            build.succeed([build.bpc, "--emit=c", "pendulum.bp", "-o", "net.c"], cwd=place)
            parts = ["-march=native", "-DBP_NO_MAIN", "net.c"]
        build.succeed([*watched, *parts, "-lm", "-o", "host"], cwd=place)
        outcome = build.run(["./host", "4", "3"], cwd=place, environment={"TSAN_OPTIONS": "exitcode=66"})
        expect(outcome.code == 0 and "ThreadSanitizer" not in outcome.err, f"exit {outcome.code}: {first_line(outcome.err)}")


def as_the_program(build, way, freeze=""):
    """The host's updates leave the weights that the program's own run leaves, to the bit, and it predicts what it predicts;
    also where the program keeps what frozen layers give, which for a host's rows is computed in every step."""
    needs(build, way)
    with copied(TESTS / "host") as place:
        program = place / "cells.bp"
        program.write_text(program.read_text().replace("    shuffle    none\n", f"    shuffle    none\n{freeze}"))
        build.compile("cells.bp", "program", cwd=place)
        build.succeed(["./program", "--quiet", "--seed", "5"], cwd=place)
        make_host(build, way, place, "cells")
        out = build.succeed(["./host", "train", "host.safetensors"], cwd=place).out
        program, host = (safetensors.read(place / name) for name in ("cells.safetensors", "host.safetensors"))
        expect(program[0] == host[0], "the weights differ")
        rows = re.search(r"rows\s+(.*?)\n    input", (place / "cells.bp").read_text(), re.DOTALL)[1]
        table = "".join(line.replace('"', "").replace(" ", "") + "\n" for line in re.findall(r"\[([^]]*)\]", rows))
        (place / "cells.csv").write_text("age,size,kind,score,label\n" + table)
        for weights in ("cells.safetensors", "host.safetensors"):
            said = build.succeed(["./program", "predict", "--weights", weights, "cells.csv"], cwd=place).out
            theirs = list(csv.reader(io.StringIO(said)))[1:]
            ours = list(csv.reader(io.StringIO(out)))
            single = lambda word: struct.pack("f", float(word)) if word not in ("no", "yes") else word
            expect([[single(word) for word in row] for row in ours] == [[single(word) for word in row] for row in theirs],
                   f"predictions differ with {weights}:\n{ours[0]}\n{theirs[0]}")


def tells_what_is_wrong(build, way):
    """Every failure is an answer; nothing ends the process, nothing is changed by it."""
    needs(build, way)
    with copied(TESTS / "host") as place:
        make_host(build, way, place, "cells")
        build.compile("cells.bp", "program", cwd=place)
        build.succeed(["./program", "--quiet"], cwd=place)
        whole = (place / "cells.safetensors").read_bytes()
        (place / "damaged.safetensors").write_bytes(whole[: len(whole) - 40])
        (place / "broken.safetensors").write_bytes(whole[:-4] + struct.pack("f", float("nan")))
        outcome = build.run(["./host", "fail", "."], cwd=place)
        expect(outcome.code == 0, f"exit {outcome.code}: {first_line(outcome.out + outcome.err)}")
        expect(not (place / "early.safetensors").exists(), "a network without preprocessing was saved")


def names(build):
    """Whatever models, columns and files are called, the header is C and C++, and the object has what it declares."""
    needs(build, "c")
    with copied(TESTS / "agree") as place:
        for program in sorted(place.glob("*.bp")):
            if "text(" in program.read_text():
                continue  # a host has no texts
            build.succeed([build.bpc, "--emit=header", program.name, "-o", "net.h"], cwd=place)
            (place / "use.c").write_text('#include "net.h"\n#include "net.h"\nint use;\n')
            for compiler in (["gcc", *WARNINGS], ["gcc", "-x", "c++", "-Wall", "-Wextra", "-Werror"]):
                if "c++" in compiler and not shutil.which("g++"):
                    continue
                build.succeed([*compiler, "-c", "use.c", "-o", "use.o"], cwd=place)
            declared = set(re.findall(r"(\w+)\([^*/]*?(?:struct|void|uint64_t)[^;]*\);", (place / "net.h").read_text()))
            expect(any(name.endswith("_create") for name in declared), f"{program.name}: no create")
            for backend in (["--backend=c", "-O0"], []):
                if not backend and not (build.folder / "bpc-llvm.so").exists():
                    continue
                build.succeed([build.bpc, "-c", *backend, program.name, "-o", "net.o"], cwd=place)
                listed = build.succeed(["nm", "-g", "--defined-only", "net.o"], cwd=place).out
                defined = {line.split()[-1] for line in listed.splitlines()}
                expect(defined == declared, f"{program.name}: declared {declared ^ defined} or defined, not both")


def tests(build):
    for way in WAYS:
        yield f"pendulum-{way}", functools.partial(learns, build, way)
        yield f"cartpole-{way}", functools.partial(balances, build, way)
        yield f"as-the-program-{way}", functools.partial(as_the_program, build, way)
        yield f"frozen-{way}", functools.partial(as_the_program, build, way, "    freeze     fc1\n")
        yield f"failures-{way}", functools.partial(tells_what_is_wrong, build, way)
    for way in ("llvm", "c"):
        yield f"no-race-{way}", functools.partial(no_race, build, way)
    yield "names", functools.partial(names, build)
