"""Contention: more threads than connections, each held for a while; throughput, waits, fairness, CPU per operation."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from benchmarks.results import interleaved

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.peers import ClosingPool
    from benchmarks.results import Workload

TITLE = "Contention"
RATE, P50, P99, MOST, JAIN, CPU, HELD = (
    "operations per second",
    "wait p50 / ideal",
    "wait p99 / ideal",
    "longest wait / ideal",
    "Jain's index",
    "CPU per operation",
    "share of the time held",
)
TURNS = 14  # of each thread, at least: with fewer, one more or less is not fair
LEAST, STACK = 0.4, 256 * 1024  # seconds; bytes


@dataclass(frozen=True)
class Cell:
    """So many threads on so many connections, each held for so long."""

    threads: int
    size: int
    hold: float  # seconds
    rounds: int

    @property
    def name(self) -> str:
        held = f"{self.hold * 1000:g} ms held" if self.hold else "nothing held"
        return f"{self.threads} threads on {self.size}, {held}"

    @property
    def seconds(self) -> float:
        return max(LEAST, TURNS * self.threads / self.size * self.hold)


CELLS = (
    Cell(8, 8, 0, 5),
    Cell(16, 4, 0, 5),
    Cell(8, 2, 0.0001, 7),
    Cell(2, 1, 0.001, 9),
    Cell(8, 2, 0.001, 7),
    Cell(32, 4, 0.001, 7),
    Cell(128, 8, 0.001, 5),
    Cell(512, 16, 0.001, 5),
    Cell(2, 1, 0.010, 3),
    Cell(32, 4, 0.010, 3),
    Cell(128, 8, 0.010, 1),
)
QUICK = tuple(cell for cell in CELLS if not cell.hold or (cell.hold == 0.001 and cell.size in (4, 16)))


class Load:
    """Threads that take turns at a pool; what each saw, by its own clock."""

    def __init__(self, pool: ClosingPool, cell: Cell) -> None:
        self.pool, self.cell = pool, cell
        self.waits: list[list[float]] = [[] for _ in range(cell.threads)]
        self.held = [0.0] * cell.threads
        self.turns = [0] * cell.threads
        self.until = 0.0
        self.ready = threading.Barrier(cell.threads + 1)
        self.took = self.spent = 0.0

    def run(self) -> Load:
        """Let all begin together; stop when the time is over."""
        work = self._holding if self.cell.hold else self._not_holding
        before = threading.stack_size(STACK)
        workers = [threading.Thread(target=work, args=(number,)) for number in range(self.cell.threads)]
        for worker in workers:
            worker.start()
        threading.stack_size(before)
        began, spent = time.perf_counter(), time.process_time()
        self.until = began + self.cell.seconds
        self.ready.wait()
        for worker in workers:
            worker.join()
        self.took, self.spent = time.perf_counter() - began, time.process_time() - spent
        return self

    def _holding(self, number: int) -> None:
        get, put, hold, clock, sleep = self.pool.get, self.pool.put, self.cell.hold, time.perf_counter, time.sleep
        waits, held, until = self.waits[number], 0.0, self.until
        self.ready.wait()
        until, now = self.until, clock()
        while now < until:
            conn = get()
            got = clock()
            sleep(hold)
            done = clock()
            put(conn)
            waits.append(got - now)
            held += done - got
            now = clock()
        self.held[number] = held
        self.turns[number] = len(waits)

    def _not_holding(self, number: int) -> None:
        """As many operations as go; no clock beside each, which would cost more than the pool."""
        get, put, clock, done = self.pool.get, self.pool.put, time.perf_counter, 0
        self.ready.wait()
        while clock() < self.until:
            for _ in range(20):
                put(get())
            done += 20
        self.turns[number] = done

    def figures(self) -> dict[str, float]:
        """Return what is told of a round."""
        done = sum(self.turns)
        found = {RATE: done / self.took, JAIN: jain(self.turns), CPU: self.spent / done * 1e6}
        if self.cell.hold:
            found[HELD] = sum(self.held) / self.took / self.cell.size
            # First come, first served: whoever comes waits for all the others who are not served already.
            ideal = (self.cell.threads - self.cell.size) * sum(self.held) / done / self.cell.size
            waits = sorted(wait for each in self.waits for wait in each)
            for name, part in ((P50, 0.5), (P99, 0.99), (MOST, 1.0)):
                found[name] = waits[min(len(waits) - 1, int(part * len(waits)))] / ideal
        return found


def jain(turns: list[int]) -> float:
    """Return Jain's index: 1 if all had the same, 1/n if one had everything."""
    squares = sum(each * each for each in turns)
    return sum(turns) ** 2 / (len(turns) * squares) if squares else 0.0


def of(pool: ClosingPool, cell: Cell) -> Callable[[], dict[str, float]]:
    """Return a round."""
    return lambda: Load(pool, cell).run().figures()


def run(bench: Bench, tape: Workload) -> None:
    """Measure all cells."""
    shared = [peer.name for peer in bench.pooling("fake") if not peer.exclusive]
    tape.notes += [f"{name}: left out, it lends a connection to several at once when threads wait" for name in shared]
    for cell in QUICK if bench.quick else CELLS:
        measure(bench, tape, cell)


def measure(bench: Bench, tape: Workload, cell: Cell) -> None:
    """Measure one cell."""
    peers = bench.pooling("fake", can_wait)
    pools: dict[str, Any] = {peer.name: peer.open(bench.source("fake"), cell.size) for peer in peers}
    rounds = min(cell.rounds, 2) if bench.quick else cell.rounds
    found = interleaved({name: of(pool, cell) for name, pool in pools.items()}, rounds)
    for measure in (RATE, JAIN, CPU, HELD, P50, P99, MOST):
        if measure in found:
            unit = {RATE: "1/s", CPU: "us"}.get(measure, "")
            tape.add(cell.name, measure, unit, found[measure], lower=measure not in (RATE, JAIN, HELD))
    for pool in pools.values():
        pool.close()


def can_wait(peer: Any) -> bool:
    """One pool of each kind: of ours the plain one, for the others take the same way when somebody waits."""
    plain = "block" not in peer.name and peer.exclusive
    return peer.waits and plain and (not peer.ours or peer.name == "dbpool Threaded")
