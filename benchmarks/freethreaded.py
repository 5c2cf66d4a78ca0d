"""On CPython without the GIL: stress, walk and model, and the throughput of 1, 2, 4 threads without and with it.

It is looked for on this machine; else built from CPython's source, where a source can be had: a folder or archive that
DBPOOL_CPYTHON_SOURCE names, or Debian's source packages, by apt-get. Else all is skipped, and that is said.

Threads that do nothing but get and put meet at the pool's tables, each of which CPython guards by a lock; threads that
also do something meet there less often. So both are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, Workload, load, save

TITLE = "Free-threaded CPython"
NAMES = ("python3.15t", "python3.14t", "python3.13t")
ASK = "import sys, sysconfig; sys.exit(not sysconfig.get_config_var('Py_GIL_DISABLED'))"
KEPT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dbpool-freethreaded"  # a build takes minutes
TESTS = ("tests/stress", "tests/walk", "tests/model")
LIMIT = 1800  # seconds for each: such a CPython is three times as slow
THREADS, ROUNDS = (1, 2, 4), 9
RATE, WORKING = "operations per second", "operations per second, 10 us of work each"
WORK = 500  # turns of an empty loop: about 10 us
DEBIAN = (("forky", "python3.14"), ("trixie", "python3.13"))  # what is tried, in turn
WITHOUT, WITH = "without the GIL", "with the GIL"
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pytest>=8", "pytest-timeout", "pytest-cov", "rich", "hypothesis<6.140")  # the last in plain Python


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is shown only if it fails."""
    words = list(map(str, command))
    done = subprocess.run(words, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    if done.returncode:
        raise Unavailable(f"{' '.join(words[:4])} failed:\n{done.stdout[-2000:]}")
    return done


class Unavailable(Exception):
    """This way is not open; the text says why."""


def found() -> Path | None:
    """Return a free-threaded CPython of this machine: on PATH, under pyenv, or built before."""
    places = [shutil.which(name) for name in NAMES]
    places += map(str, sorted(Path.home().glob(".pyenv/versions/3.1*t/bin/python"), reverse=True))
    places += map(str, sorted(KEPT.glob("bin/python3.1*t")))
    for place in filter(None, places):
        if subprocess.run([place, "-c", ASK], check=False, capture_output=True).returncode == 0:
            return Path(place)
    return None


def source(folder: Path) -> Path:
    """Return a folder with CPython's source: the one that is named, or Debian's."""
    named = os.environ.get("DBPOOL_CPYTHON_SOURCE")
    if named and Path(named).is_dir():
        return Path(named)
    archive = Path(named) if named else from_debian(folder)
    unpacked = folder / "source"
    unpacked.mkdir()
    run("tar", "xf", archive, "-C", unpacked, "--strip-components=1")
    return unpacked


def from_debian(folder: Path) -> Path:
    """Return the archive in one of Debian's source packages."""
    errors = []
    for suite, package in DEBIAN:
        try:
            return packaged(folder / suite, suite, package)
        except Unavailable as exc:  # a suite that is still made may list what the mirror has no more
            errors.append(str(exc))
    raise Unavailable("; ".join(errors))


def packaged(folder: Path, suite: str, package: str) -> Path:
    """Return the archive of a source package, whose signatures apt-get checks; the machine's lists stay."""
    keys = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if shutil.which("apt-get") is None or not keys.exists():
        raise Unavailable("neither DBPOOL_CPYTHON_SOURCE nor apt-get with Debian's keys")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb-src [signed-by={keys}] http://deb.debian.org/debian {suite} main\n", encoding="ascii")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    run("apt-get", *words, "update", cwd=folder)
    run("apt-get", *words, "source", "--download-only", package, cwd=folder)
    return next(folder.glob(f"{package}_*.orig.tar.*z"))


def built() -> Path:
    """Build one, and keep it."""
    if shutil.which("make") is None or not (shutil.which("cc") or shutil.which("gcc")):
        raise Unavailable("no compiler and make to build it with")
    with tempfile.TemporaryDirectory(prefix="dbpool-cpython-") as name:
        tree = source(Path(name))
        work = Path(name) / "build"
        work.mkdir()
        print(f"building CPython without the GIL from {tree.name}: some minutes", flush=True)
        run(tree / "configure", "--disable-gil", "--with-ensurepip=install", f"--prefix={KEPT}", "-q", cwd=work)
        run("make", f"-j{os.cpu_count()}", cwd=work)
        run("make", "install", cwd=work)
    python = found()
    if python is None:
        raise Unavailable("what was built has a GIL")
    return python


def suite(python: Path, folder: Path) -> dict[str, str]:
    """Run the tests there; return the last line of each."""
    run(python, "-m", "venv", folder / "venv")
    inside = folder / "venv" / "bin" / "python"
    run(inside, "-m", "pip", "install", "--quiet", *PACKAGES)
    return {tests: outcome(inside, tests) for tests in TESTS}


def outcome(python: Path, tests: str) -> str:
    """Run some tests; return the last line, and print what failed."""
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    options: dict[str, Any] = {"text": True, "capture_output": True, "cwd": ROOT, "env": environment("0")}
    try:
        done = subprocess.run(command, check=False, timeout=LIMIT, **options)
    except subprocess.TimeoutExpired:
        return f"no end in {LIMIT} s"
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    if done.returncode:
        print("\n".join(lines[-40:]), flush=True)
    return lines[-1].strip("= ")


def environment(gil: str) -> dict[str, str]:
    """Return the environment that switches the GIL on or off."""
    return {**os.environ, "PYTHON_GIL": gil, "PYTHONPATH": str(ROOT)}


def rates(python: Path) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Measure without and with the GIL, in turn: the samples of each case and measure, by the number of threads."""
    samples: dict[tuple[str, str], dict[str, list[float]]] = {}
    for _ in range(ROUNDS):
        for case, gil in ((WITHOUT, "0"), (WITH, "1")):
            done = run(python, "-m", "benchmarks.freethreaded", "--rates", cwd=ROOT, env=environment(gil))
            for measure, found in json.loads(done.stdout.splitlines()[-1]).items():
                for threads, rate in found.items():
                    name = f"{threads} thread" + ("s" if threads != "1" else "")
                    samples.setdefault((case, measure), {}).setdefault(name, []).append(rate)
    return samples


def rates_here() -> dict[str, dict[int, float]]:
    """Return the operations per second of so many threads, in this process, without and with work between."""
    from benchmarks.peers import Source
    from benchmarks.peers.ours import THREADED
    from benchmarks.work import hits

    pool = THREADED.open(Source("fake"), max(THREADS))

    def working() -> Any:
        conn = pool.get()
        for _ in range(WORK):
            pass
        return conn

    busy = pool._replace(get=working)
    return {
        RATE: {threads: hits.together(pool, threads)()[hits.RATE] for threads in THREADS},
        WORKING: {threads: hits.together(busy, threads)()[hits.RATE] for threads in THREADS},
    }


def measure() -> Workload:
    """Find or build one, run the tests, measure."""
    tape = Workload("freethreaded", TITLE)
    try:
        python = found() or built()
    except Unavailable as exc:
        print(f"!!! {TITLE}: SKIPPED: none on this machine, and none can be built: {exc}", file=sys.stderr, flush=True)
        return tape
    tape.notes.append(run(python, "-c", "import sys; print(sys.version)").stdout.splitlines()[0])
    print(tape.notes[0], flush=True)
    for (case, measure), samples in rates(python).items():
        tape.add(case, measure, "1/s", samples, lower=False)
    with tempfile.TemporaryDirectory(prefix="dbpool-freethreaded-") as name:
        tape.notes += [f"{tests}: {words}" for tests, words in suite(python, Path(name)).items()]
    return tape


def main() -> None:
    """Measure, print, keep the results beside the others; or only print the rates of this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freethreaded", description=__doc__)
    parser.add_argument("--rates", action="store_true", help="print the rates of this process as JSON, and end")
    parser.add_argument("--find", action="store_true", help="print which one would be used, and end")
    options = parser.parse_args()
    if options.rates:
        print(json.dumps(rates_here()))
    elif options.find:
        print(found() or "none")
    else:
        from benchmarks import figures, tables  # which need what the other interpreter has not

        tape = measure()
        if tape.series:
            tables.workload(tape)
            results, about = load()
            results[tape.name] = tape
            save(results, {**about, "figures": [vars(line) for line in figures.lines(results)]}, FOLDER)


if __name__ == "__main__":
    main()
