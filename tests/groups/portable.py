"""The same weights to the bit on every target: the one file of C built for x86-64 without AVX, with SSE4, with AVX2 and with
AVX-512, and for aarch64, with gcc and with clang, is trained and must leave the checkpoint of bpc's own build. No compiler
warns. Where the target lacks fma, libm's takes its place; an aarch64 program runs under qemu-user. At -O1, which contracts a
product and a sum as -O3 does but is made in half the time."""
import functools
import pathlib
import shutil
import threading

from commands import TESTS, Skipped, copied, expect, first_line
from groups.agree import WARNINGS, weights

# What is trained must stay short, since fma without an instruction and an emulated machine are slow.
ALL = TESTS / "portable", "mathematics.bp"  # on every target
WIDE = TESTS / "agree", "wide.bp"  # sizes that no tile divides; where tiles differ most
MARCHES = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
AARCH64 = "aarch64-linux-gnu-gcc"
CROSS = pathlib.Path("/usr/aarch64-linux-gnu")


def has_avx512():
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return all(flag in flags for flag in ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"))


def has_avx2():
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return "avx2" in flags and "fma" in flags


def emulator():
    """qemu-user's command, or Skipped."""
    for name in ("qemu-aarch64", "qemu-aarch64-static"):
        if shutil.which(name):
            return name
    raise Skipped("no qemu-aarch64 (Debian: qemu-user)")


def trained(build, command, place):
    """name -> digest of the weights that a run leaves."""
    before = {path.name for path in place.glob("*.safetensors")}
    build.succeed([*command, "--quiet", "--seed", "5", "--epochs", "4", "--threads", "1"], cwd=place)
    made = weights(place, {path.name for path in place.glob("*.safetensors")} - before)
    expect(made, "no weights are saved")
    return made


def built(build, place, compiler, march, tiles, *flags):
    """The program that `compiler` makes for `march` of the C with tiles cut for `tiles`; it warns of nothing."""
    source, program = f"{tiles}.c", f"{compiler}-{march}"
    build.succeed([build.bpc, "--emit=c", f"--march={tiles}", "program.bp", "-o", source], cwd=place)
    outcome = build.succeed([compiler, "-O1", f"-march={march}", *flags, *WARNINGS, source, "-o", program, "-lm"], cwd=place)
    expect(not outcome.err.strip(), f"{compiler} for {march} says: {first_line(outcome.err)}")
    return f"./{program}"


truths, making = {}, threading.Lock()


def truth_of(build, place, source):
    """What bpc's own build learns, made once for all targets. The file gets the name that all use."""
    shutil.copy(place / source, place / "program.bp")
    with making:
        if source not in truths:
            build.compile("program.bp", "own", cwd=place)
            truths[source] = trained(build, ["./own"], place)
        return truths[source]


def x86(build, folder, source, compiler, march):
    if not shutil.which(compiler):
        raise Skipped(f"no {compiler}")
    with copied(folder) as place:
        truth = truth_of(build, place, source)
        program = built(build, place, compiler, march, march)
        if (march == "x86-64-v4" and not has_avx512()) or (march == "x86-64-v3" and not has_avx2()):
            raise Skipped(f"compiled, not run: this machine lacks {march}")
        got = trained(build, [program], place)
        expect(got == truth, f"{compiler} for {march} gives other weights than bpc's own build")


def aarch64(build, folder, source):
    if not shutil.which(AARCH64):
        raise Skipped(f"no {AARCH64} (Debian: gcc-aarch64-linux-gnu)")
    if not (CROSS / "lib" / "libc.a").exists():
        raise Skipped("no libc for aarch64 (Debian: libc6-dev-arm64-cross)")
    command = emulator()
    with copied(folder) as place:
        truth = truth_of(build, place, source)
        program = built(build, place, AARCH64, "armv8-a", "aarch64", "-static")
        got = trained(build, [command, program], place)
        expect(got == truth, "aarch64 gives other weights than x86-64")


def aarch64_by_clang(build, folder, source):
    """clang needs the headers and the linker of gcc's cross compiler."""
    if not shutil.which("clang"):
        raise Skipped("no clang")
    if not shutil.which(AARCH64) or not (CROSS / "lib" / "libc.a").exists():
        raise Skipped("no C library and linker for aarch64 (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross)")
    command = emulator()
    with copied(folder) as place:
        truth = truth_of(build, place, source)
        program = built(build, place, "clang", "armv8-a", "aarch64", "--target=aarch64-linux-gnu", f"-I{CROSS}/include", "-static")
        got = trained(build, [command, program], place)
        expect(got == truth, "aarch64 by clang gives other weights than x86-64")


def tests(build):
    if build.sanitized:  # bpc alone is sanitized there, and `agree` runs it
        return
    for march in MARCHES:
        for compiler in ("gcc", "clang"):
            yield f"mathematics-{march}-{compiler}", functools.partial(x86, build, *ALL, compiler, march)
    yield "mathematics-aarch64-gcc", functools.partial(aarch64, build, *ALL)
    yield "mathematics-aarch64-clang", functools.partial(aarch64_by_clang, build, *ALL)
    yield "wide-x86-64-gcc", functools.partial(x86, build, *WIDE, "gcc", "x86-64")
    yield "wide-x86-64-v4-gcc", functools.partial(x86, build, *WIDE, "gcc", "x86-64-v4")
    yield "wide-aarch64-gcc", functools.partial(aarch64, build, *WIDE)
