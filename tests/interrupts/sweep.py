"""Sweeps KeyboardInterrupt over every point of an operation where CPython raises it; counts the damage.

    report = sweep(make_pool, lambda pool: pool.getconn(), check_pool, name="getconn hit")
    print(report.table())        # getconn hit            : 131 points / 0 lost / 0 deadlocks

Only what the operation runs in the main thread counts: its own frame and all below. Run from the main thread.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Callable, Generic, NamedTuple, TypeVar

from collector import no_collector

from . import meter as _meter
from . import signals as _signals
from .bounded import Deadlock, run_bounded, wait_until
from .meter import Meter
from .signals import Storm, async_exc_storm, default_sigint, interrupt_while, let_pending_fire

__all__ = [
    "Deadlock",
    "Failure",
    "Report",
    "SlotsLost",
    "Storm",
    "SweepError",
    "async_exc_storm",
    "interrupt_while",
    "run_bounded",
    "sweep",
    "wait_until",
]

T = TypeVar("T")
Place = tuple[str, int]  # file and line
PATIENCE = 5.0  # seconds until a blocked operation or partner counts as dead


class SlotsLost(AssertionError):
    """Raised by a verify function: the object has fewer slots than before."""


class SweepError(AssertionError):
    """The sweep itself cannot go on: the operation or its verification fails for another reason."""


class Failure(NamedTuple):
    """What one interrupt broke: *place* is where it was raised, None if after the operation."""

    kind: str  # "lost" or "deadlock"
    instruction: int
    place: Place | None
    message: str


@dataclass
class Report:
    """What a sweep found. Each interrupt is one of points, late, swallowed, replaced."""

    name: str
    instructions: int = 0  # executed by the operation when nothing interrupts it
    points: int = 0  # KeyboardInterrupt came out of the operation
    late: int = 0  # it came after the operation, in its caller
    swallowed: int = 0  # it never came: the operation or the interpreter dropped it
    replaced: int = 0  # another exception came out
    lost: int = 0
    deadlocks: int = 0
    positions: Counter[Place] = field(default_factory=Counter)
    replacements: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def table(self) -> str:
        """One line: points / lost / deadlocks, then swallowed and replaced interrupts if there are any."""
        line = f"{self.name:<23}: {self.points} points / {self.lost} lost / {self.deadlocks} deadlocks"
        for word in ("swallowed", "replaced"):
            if getattr(self, word):
                line += f" / {getattr(self, word)} {word}"
        return line

    def failed(self, kind: str, instruction: int, place: Place | None, error: BaseException) -> None:
        """Count a failure; *kind* is "lost" or "deadlock"."""
        self.lost += kind == "lost"
        self.deadlocks += kind == "deadlock"
        self.failures.append(Failure(kind, instruction, place, str(error)))

    def where(self) -> str:
        """The failures, one line each, for the message of an assertion."""
        lines = []
        for kind, instruction, place, message in self.failures:
            at = "after the operation" if place is None else "{}:{}".format(*place)
            lines.append(f"{kind} at instruction {instruction}, {at}: {message}")
        return "\n".join(lines)


def sweep(
    make: Callable[[], T],
    operation: Callable[[T], object],
    verify: Callable[[T], object],
    *,
    name: str = "",
    start: int = 1,
    stop: int | None = None,
    step: int = 1,
    partner: Callable[[T, threading.Event], object] | None = None,
    patience: float = PATIENCE,
    every: bool = False,
) -> Report:
    """Run operation(make()) once for each place where CPython looks for signals, SIGINT set pending there; verify.

    With *every*, once for each instruction: the signal is then raised at the next such place.

    *verify* gets the object once the exception and its frames are gone; it raises SlotsLost or Deadlock, both
    counted. It must accept an object whose operation went through. *partner* runs in another thread beside
    each operation, as partner(object, over), and must return soon after over.is_set(). An operation or a
    partner still blocked after *patience* seconds counts as a deadlock. Raises SweepError for what fails
    without an interrupt, and for anything else that verify or the partner raises.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("only the main thread gets signals: sweep from there")
    runs = _Runs(make, operation, verify, partner, patience, Report(name))
    report = runs.report
    with no_collector(), default_sigint(), runs.meter:
        runs.run(0)
        if report.failures:
            raise SweepError(f"fails without any interrupt: {report.where()}")
        report.instructions = runs.meter.seen
        checks = set(runs.meter.checks)
        for n in count(start, step):
            if stop is not None and n >= stop:
                break
            if not every and n <= report.instructions and n not in checks:
                continue
            if not runs.run(n):
                break
    return report


class _Outcome(NamedTuple):
    kind: str  # "done", or one of Report's points, late, swallowed, replaced
    place: Place | None = None
    replacement: str = ""


class _Runs(Generic[T]):
    """One sweep's fixed parts; run(n) is one interrupted operation with its verification."""

    def __init__(
        self,
        make: Callable[[], T],
        operation: Callable[[T], object],
        verify: Callable[[T], object],
        partner: Callable[[T, threading.Event], object] | None,
        patience: float,
        report: Report,
    ) -> None:
        self.make, self.operation, self.verify = make, operation, verify
        self.partner, self.patience, self.report = partner, patience, report
        self.meter = Meter(_OWN)

    def run(self, n: int) -> bool:
        """Interrupt instruction *n* (0: none); return whether the operation got that far."""
        fresh = self.make()
        partner = None if self.partner is None else _Partner(self.partner, fresh)
        watch = _Watch(self.patience)
        try:
            outcome = self._attempt(n, fresh, watch)
        finally:
            if partner is not None:
                partner.over.set()
        self._count(outcome)
        try:
            if watch.barked:
                raise Deadlock(f"the operation blocked for {self.patience} s")
            if partner is not None:
                partner.end(self.patience)
            gc.collect()
            self.verify(fresh)
        except SlotsLost as error:
            self.report.failed("lost", n, outcome.place, error)
        except Deadlock as error:
            self.report.failed("deadlock", n, outcome.place, error)
        except Exception as error:
            raise SweepError(f"verify failed, interrupted at instruction {n}, {outcome}") from error
        return self.meter.tripped

    def _attempt(self, n: int, fresh: T, watch: _Watch) -> _Outcome:
        meter = self.meter
        try:
            try:
                try:
                    meter.begin(n)
                    self.operation(fresh)
                finally:
                    meter.end()
                    let_pending_fire()
            finally:
                watch.ended = True  # before any call: an interrupt there must not keep the watch awake
                watch.join()
                let_pending_fire()
        except KeyboardInterrupt as error:
            if not meter.tripped and not watch.barked:
                raise  # someone pressed Ctrl-C
            place = _place(error)
            return _Outcome("late" if place is None else "points", place)
        except BaseException as error:
            if not meter.tripped:
                raise
            return _Outcome("replaced", _place(error), f"{type(error).__name__}: {error}")
        return _Outcome("swallowed" if meter.tripped else "done")

    def _count(self, outcome: _Outcome) -> None:
        report = self.report
        if outcome.kind == "done":
            return
        setattr(report, outcome.kind, getattr(report, outcome.kind) + 1)
        if outcome.kind == "points" and outcome.place is not None:
            report.positions[outcome.place] += 1
        if outcome.replacement:
            report.replacements[outcome.replacement] += 1


def _place(error: BaseException) -> Place | None:
    """Where the first interrupt among *error* and its contexts was raised; None if above the operation."""
    first, earlier = error, error.__context__
    while earlier is not None:
        first = earlier if isinstance(earlier, KeyboardInterrupt) else first
        earlier = earlier.__context__
    place, foreign, trace = None, False, first.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        foreign = code.co_filename not in _OWN
        place = (code.co_filename, trace.tb_lineno) if foreign else place
        trace = trace.tb_next
    if place is not None and not foreign:
        raise RuntimeError(f"the interrupt was raised inside the meter, below {place}")
    return place


class _Watch:
    """Interrupts the main thread once it blocks for longer than *patience*: a sweep never hangs."""

    def __init__(self, patience: float) -> None:
        self.barked = False
        self.ended = False
        self._patience = patience
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._wake.wait(self._patience) and not self.ended:
            self.barked = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class _Partner:
    """The thread beside one operation."""

    def __init__(self, partner: Callable[[T, threading.Event], object], fresh: T) -> None:
        self.over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(partner, fresh), daemon=True)
        self._thread.start()

    def end(self, patience: float) -> None:
        """Wait for its end. Raises Deadlock, or SweepError if it failed."""
        self._thread.join(patience)
        if self._thread.is_alive():
            raise Deadlock(f"the partner did not end within {patience} s")
        if self._error is not None:
            raise SweepError("the partner failed") from self._error

    def _run(self, partner: Callable[[T, threading.Event], object], fresh: T) -> None:
        try:
            partner(fresh, self.over)
        except BaseException as error:
            self._error = error


_OWN = frozenset({__file__, _meter.__file__, _signals.__file__})
