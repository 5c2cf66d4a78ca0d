"""KeyboardInterrupt wherever it can strike: at every point of get and put, and while waiting."""

from __future__ import annotations

import gc
import time
import weakref
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from interrupts.bounded import Deadlock, run_bounded
from interrupts.signals import interrupt_while
from interrupts.sweep import SlotsLost, sweep

from .table import Cell, none

if TYPE_CHECKING:
    from .adapters import Pool
    from .children import Server

MAXCONN = 2
SOON = 0.2  # seconds that a get may wait, where nobody else has a connection
DEAD = 0.6  # seconds after which a call that takes milliseconds is deadlocked
HERE = str(Path(__file__).parent)
LONGEST = 75.0  # seconds for one sweep; CPython 3.9 has four times as many points
OK, LOST, DEADLOCK = range(3)


class Enough(Exception):
    """The sweep takes too long; what it has found by now is the least that there is to find."""


class Point(NamedTuple):
    """Where an interrupt was raised: the file, the function's first line, and the instruction's offset."""

    file: str
    line: int
    offset: int


class Subject:
    """A pool to be interrupted, and the connection that its caller has."""

    kept: list[Any] = []  # noqa: RUF012 (broken pools)

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.held: Any = None
        self.point: Point | None = None
        self.verdict = DEADLOCK  # unless it comes to be verified
        conns = [pool.get() for _ in range(MAXCONN)]
        self._made = [weakref.ref(pool.raw(conn)) for conn in conns]
        while conns:
            pool.put(conns.pop())

    def operation(self) -> None:
        """What is interrupted."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Do with the connection what the caller would do next."""
        raise NotImplementedError

    def run(self) -> None:
        """Run the operation; note where an interrupt was raised."""
        try:
            self.operation()
        except BaseException as error:
            self.point = point_of(error)
            raise

    def verify(self) -> None:
        """Have all slots again."""
        try:
            run_bounded(self._lease_all, DEAD)
            run_bounded(self.pool.close, DEAD)
            self.verdict = OK
        except Deadlock:
            self._bury()
        except Exception:
            self.verdict = LOST
            self._bury()

    def _lease_all(self) -> None:
        self.give_up()
        conns = [self.pool.get() for _ in range(MAXCONN)]
        if len({id(self.pool.raw(conn)) for conn in conns}) != MAXCONN:
            raise SlotsLost("a connection has two holders")
        while conns:
            self.pool.put(conns.pop())

    def _bury(self) -> None:
        """Keep a broken pool, for the finalizers of some would hang; but not its connections."""
        self.kept.append(self)
        for ref in self._made:
            conn = ref()
            if conn is not None:
                conn.close()


class Getting(Subject):
    """Gets; who was not interrupted puts what it got."""

    def operation(self) -> None:
        self.held = self.pool.get()

    def give_up(self) -> None:
        if self.held is not None:
            self.pool.put(self.held)
            self.held = None


class Putting(Subject):
    """Puts; who was interrupted does not try again."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.held = pool.get()

    def operation(self) -> None:
        self.pool.put(self.held)

    def give_up(self) -> None:
        self.held = None
        gc.collect()


def point_of(error: BaseException) -> Point | None:
    """Return where the first interrupt among *error* and its contexts was raised."""
    first, earlier = error, error.__context__
    while earlier is not None:
        first = earlier if isinstance(earlier, KeyboardInterrupt) else first
        earlier = earlier.__context__
    point, trace = None, first.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if Path(code.co_filename).parent.name != "interrupts":
            point = Point(code.co_filename, code.co_firstlineno, trace.tb_lasti)
        trace = trace.tb_next
    return point


def swept(kind: type[Pool], server: Server, subject: type[Subject]) -> Cell:
    """Interrupt an operation everywhere; return points / slots lost / deadlocked pools.

    The sweep sets a signal pending at each instruction; of those that were raised at the same point, one counts. What
    strikes in the caller, before it has noted what it was given, is nobody's fault. No check: its points are the
    driver's.
    """
    subjects: list[Subject] = []
    end, rest = time.monotonic() + LONGEST, ""

    def make() -> Subject:
        if time.monotonic() > end:
            raise Enough
        subjects.append(subject(kind(server.dsn, MAXCONN, timeout=SOON, check=False)))
        return subjects[-1]

    try:
        sweep(make, subject.run, subject.verify, patience=DEAD)
    except Enough:
        rest = f", and more after {LONGEST:.0f} s"
    points = lost = dead = 0
    for point, struck in groupby(subjects, lambda each: each.point):
        verdict = min(each.verdict for each in struck)
        if (point is None and verdict == OK) or (point is not None and point.file.startswith(HERE)):
            continue
        points, lost, dead = points + 1, lost + (verdict == LOST), dead + (verdict == DEADLOCK)
    return Cell(f"{points} / {lost} / {dead}{rest}", (lost + dead,))


def getting(kind: type[Pool], server: Server) -> Cell:
    """Interrupt an uncontended get."""
    return swept(kind, server, Getting)


def putting(kind: type[Pool], server: Server) -> Cell:
    """Interrupt the put."""
    return swept(kind, server, Putting)


def waiting(kind: type[Pool], server: Server) -> Cell:
    """Press Ctrl-C while waiting for the only connection; then its holder puts it."""
    if not kind.waits:
        return none("never waits")
    pool = kind(server.dsn, 1, timeout=5.0)
    holder = pool.get()
    if not interrupt_while(pool.get, lambda: True):
        return Cell("is not interrupted", (2,))
    pool.put(holder)
    del holder
    gc.collect()
    try:
        run_bounded(pool.get, 2.0)
    except Exception:
        return Cell("slot lost", (1,))
    return Cell("ok", (0,))
