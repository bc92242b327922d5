"""Running things for tests: bpc, the programs that it builds, C compilers. Every command runs with the sanitizers' reports
sent to a folder that must stay empty, since a leak or an undefined shift may leave an exit code of 0."""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent


class Failure(Exception):
    """The reason why a test fails, in one line."""


class Skipped(Exception):
    """Why a test cannot run here."""


def expect(condition, reason):
    if not condition:
        raise Failure(reason)


def first_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[0][:300] if lines else "(nothing was said)"


class Outcome:
    def __init__(self, code, out, err, report):
        self.code, self.out, self.err, self.report = code, out, err, report  # report: a sanitizer's, "" for none


# Not "Running thread … was not suspended", which the leak checker only notes.
REPORT = re.compile(r"^.*(?:ERROR: \w+Sanitizer|runtime error: ).*$", re.MULTILINE)


def first_report(folder, err):
    """A sanitizer's: in its file, or on stderr, where UndefinedBehaviorSanitizer writes whatever it is told."""
    for text in [path.read_text(errors="replace") for path in sorted(folder.iterdir())] + [err]:
        found = REPORT.search(text)
        if found:
            where = re.search(r"^\s*#\d+ \S+ in (\w+) (?!\.\.)(\S+:\d+)", text[found.end():], re.MULTILINE)
            return found.group(0).strip() + (f" ({where[1]}, {where[2]})" if where else "")
    return ""


class Build:
    """A build folder: its bpc, and whether it is sanitized."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.bpc = self.folder / "bpc"
        cache = self.folder / "CMakeCache.txt"
        text = cache.read_text() if cache.exists() else ""
        self.sanitized = re.search(r"^BPC_SANITIZE:BOOL=(ON|1|TRUE)$", text, re.MULTILINE) is not None

    def run(self, command, cwd=None, timeout=300, environment=None, reports_fail=True):
        """Runs a command; a sanitizer's report, a signal or the time limit are failures."""
        with tempfile.TemporaryDirectory(prefix="bpc-reports-") as reports:
            env = dict(os.environ, LC_ALL="C", NO_COLOR="1", **(environment or {}))
            # what libasan notes of thread-local storage in libLLVM is wrong for glibc 2.34 and later, and the leak checker trips
            # over it: sections of TLS made by dlopen are not looked through
            env["ASAN_OPTIONS"] = f"log_path={reports}/asan:detect_leaks=1:intercept_tls_get_addr=0"
            env["UBSAN_OPTIONS"] = "print_stacktrace=1"
            words = [str(word) for word in command]
            try:
                done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
            except subprocess.TimeoutExpired:
                raise Failure(f"{shown(words)}: not done after {timeout} s") from None
            out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
            outcome = Outcome(done.returncode, out, err, first_report(pathlib.Path(reports), err))
        expect(not outcome.report or not reports_fail, f"{shown(words)}: {outcome.report}")
        expect(outcome.code >= 0, f"{shown(words)}: ended by signal {-outcome.code}: {first_line(err)}")
        return outcome

    def succeed(self, command, **more):
        outcome = self.run(command, **more)
        expect(outcome.code == 0, f"{shown(command)}: exit code {outcome.code}: {first_line(outcome.err)}")
        return outcome

    def compile(self, source, program, *options, cwd=None):
        """bpc SOURCE -o PROGRAM; says nothing where all is well. With sanitizers at -O1: what they see is the same, and the C
        compiler takes minutes else."""
        if self.sanitized and not any(str(option).startswith("-O") for option in options):
            options = ["-O1", *options]
        options = [*options, "--verify"]
        self.succeed([self.bpc, source, "-o", program, *options], cwd=cwd)
        return pathlib.Path(cwd or ".") / program


def shown(command):
    return " ".join(pathlib.Path(str(word)).name if os.path.isabs(str(word)) else str(word) for word in command[:6])


@contextlib.contextmanager
def copied(*folders):
    """A temporary folder with a copy of what lies in these."""
    with tempfile.TemporaryDirectory(prefix="bpc-test-") as place:
        for folder in folders:
            for path in sorted(pathlib.Path(folder).iterdir()):
                if path.is_file():
                    shutil.copy(path, place)
        yield pathlib.Path(place)


def in_order(programs):
    """Programs of one folder, those first that save what others load."""
    texts = {path: path.read_text() for path in programs}
    saves = {name: path for path, text in texts.items() for name in re.findall(r'\bto\s+"([^"]+)"', text)}
    ordered = []

    def add(path):
        if path in ordered:
            return
        for name in re.findall(r'\bfrom\s+"([^"]+)"', texts[path]):
            if saves.get(name, path) != path:
                add(saves[name])
        ordered.append(path)

    for path in sorted(programs):
        add(path)
    return ordered


def examples():
    """The folders of examples/ that hold programs which run alone (those beside a program in C get their rows from it)."""
    alone = lambda folder: any(folder.glob("*.bp")) and not any(folder.glob("*.c"))
    return [folder for folder in sorted((ROOT / "examples").iterdir()) if folder.is_dir() and alone(folder)]
