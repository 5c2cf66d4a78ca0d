"""Runs mutants: each in a process of its own, forked from one that has imported the test tools, in a copy."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

# Imported before the forks, because every one of them needs it.
import hypothesis.stateful  # noqa: F401
import pytest
import pytest_timeout  # noqa: F401

if TYPE_CHECKING:
    from .making import Mutant
    from .stages import Stage

COPIED = ("dbpool", "tests", "setup.cfg", "pyproject.toml")
MEMORY = 4 << 30  # bytes; a loop that appends for ever must not take all there is
SLACK = 10.0  # times what a stage takes without a mutant; then it hangs
LEAST = 20.0  # seconds, because a machine may be busy
LOOK_EVERY = 1.0  # seconds
STANDSTILL = 5.0  # seconds that a look may take; if it takes longer we were stopped, by SIGSTOP perhaps
BROKEN = 70  # status of a process that did not come to running tests
QUIETLY = (
    "-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "--tb=no", "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip


@dataclass(frozen=True)
class Fate:
    """Which test killed the mutant, in which stage; none if it survived."""

    mutant: Mutant
    stage: str = ""
    test: str = ""
    seconds: float = 0.0

    @property
    def killed(self) -> bool:
        return bool(self.stage)


class FirstFailure:
    """Writes down the name of the first test, or file of tests, that fails."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: Any) -> None:
        if report.failed and not self.file.tell():
            self.file.write(report.nodeid)
            self.file.flush()


class Workshop:
    """A copy of the project in which one file at a time is replaced."""

    def __init__(self, source: Path, home: Path) -> None:
        self.home = home
        self.keeps_code = False  # what is compiled; a mutant's must not be kept
        home.mkdir()
        for name in COPIED:
            copy: Any = shutil.copytree if (source / name).is_dir() else shutil.copy2
            copy(source / name, home / name)

    def measure(self, stage: Stage) -> float:
        """Run a stage without a mutant, and return the seconds that it took; RuntimeError if a test fails."""
        self.keeps_code, began = True, time.monotonic()
        failed = self._meet(stage, 600.0)
        if failed:
            raise RuntimeError(f"fails without any mutant: {failed}")
        self.keeps_code = False
        return time.monotonic() - began

    def try_out(self, mutant: Mutant, stages: list[Stage], seconds: dict[Stage, float]) -> Fate:
        """Return what becomes of *mutant* when it meets *stages*, which take so many *seconds* without it."""
        began, target = time.monotonic(), self.home / mutant.file
        original = target.read_text(encoding="utf-8")
        target.write_text(mutant.source, encoding="utf-8")
        # What is compiled is told from what is not by size and second: a mutant may agree with the original in both.
        Path(cache_from_source(str(target))).unlink(missing_ok=True)
        try:
            for stage in stages:
                test = self._meet(stage, max(LEAST, SLACK * seconds[stage]))
                if test:
                    return Fate(mutant, stage.name, test, time.monotonic() - began)
            return Fate(mutant, seconds=time.monotonic() - began)
        finally:
            target.write_text(original, encoding="utf-8")

    def _meet(self, stage: Stage, limit: float) -> str:
        """Return which test of *stage* failed, or nothing."""
        chance: list[str] = []  # tests that failed once only
        while True:
            failed = self._run(stage.tests, stage.patience, limit, *(f"--deselect={test}" for test in chance))
            if not stage.waits or "::" not in failed or self._run((failed,), stage.patience, limit):
                return failed
            chance.append(failed)

    def _run(self, tests: tuple[str, ...], patience: float, limit: float, *options: str) -> str:
        """Run pytest in a forked process; return the name of the first test that failed."""
        while True:
            with TemporaryFile("w+") as notes:
                child = os.fork()
                if not child:
                    self._become_pytest([*tests, f"--timeout={patience}", *options], notes)
                status, stood = wait(child, limit)
                notes.seek(0)
                failed = notes.read()
            if not stood:  # else time passed in which no test could go on, and one may have failed for that
                break
        if status in (pytest.ExitCode.NO_TESTS_COLLECTED, BROKEN):
            raise RuntimeError(f"cannot run {' '.join(tests)}: {failed}")
        if failed or status == pytest.ExitCode.OK:
            return failed
        return "(hung)" if status is None else f"(ended with {status})"

    def _become_pytest(self, arguments: list[str], notes: IO[str]) -> None:
        """Run it, and end this process. What it prints is of no interest."""
        status = BROKEN
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            silence = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(silence, descriptor)
            os.chdir(self.home)
            sys.path.insert(0, str(self.home))
            sys.dont_write_bytecode = not self.keeps_code
            found = find_spec("dbpool")
            assert found is not None
            assert Path(found.origin or "").is_relative_to(self.home), f"not the copy, but {found.origin}"
            status = int(pytest.main([*QUIETLY, *arguments], plugins=[FirstFailure(notes)]))
        except BaseException:
            traceback.print_exc(file=notes)
            notes.flush()
        finally:
            os._exit(status)


def wait(child: int, limit: float) -> tuple[int | None, bool]:
    """Return how *child* ended, None if it was ended after *limit* seconds; and whether it, or we, stood still."""
    ended, stood, descriptor = False, False, os.pidfd_open(child)
    began = looked = time.monotonic()
    try:
        while not ended and looked - began < limit:
            ended = bool(select.select([descriptor], [], [], LOOK_EVERY)[0])
            stopped = None if ended else os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOHANG)
            before, looked = looked, time.monotonic()
            stood = stood or stopped is not None or looked - before > STANDSTILL
    finally:
        os.close(descriptor)
        for end in (os.killpg, os.kill):  # what it has started too; it may not have come so far as to have a group
            with suppress(ProcessLookupError):
                end(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (status if ended else None), stood
