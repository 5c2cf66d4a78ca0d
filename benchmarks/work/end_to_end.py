"""End to end: SELECT 1, and a transaction of three statements, through each pool on a real server."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from benchmarks.results import interleaved

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.peers import ClosingPool, Peer
    from benchmarks.results import Workload

TITLE = "End to end"
P50, P99, RATE = "p50", "p99", "per second"
SELECT, TRANSACTION = "SELECT 1", "a transaction of 3 statements"
CROWD = "8 threads on 4, SELECT 1"
TABLE = "CREATE TABLE IF NOT EXISTS bench (id integer, counted integer)"
STATEMENTS = (
    "INSERT INTO bench VALUES (1, 0)",
    "UPDATE bench SET counted = counted + 1 WHERE id = 1",
    "DELETE FROM bench WHERE id = 1",
)
CALLS, BLOCKS, EPOCHS = 100, 10, 6  # calls in a row; such blocks of each pool, in turn; then all connect anew
SECONDS = 0.3


def for_threads(peer: Peer) -> bool:
    """Leave out those for one thread, and the one with a connection for each thread."""
    return peer.threads and "Persistent" not in peer.name


def driver_of(kind: str, peer: Peer) -> str:
    """Return how a peer is called over a driver: that weighs more than the pool."""
    return f"{peer.name} ({kind})"


def select(pool: ClosingPool) -> None:
    """Ask, read, end the transaction, put back."""
    conn = pool.get()
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    cursor.fetchone()
    cursor.close()
    conn.commit()
    pool.put(conn)


def transaction(pool: ClosingPool) -> None:
    """Three statements and a commit."""
    conn = pool.get()
    cursor = conn.cursor()
    for statement in STATEMENTS:
        cursor.execute(statement)
    cursor.close()
    conn.commit()
    pool.put(conn)


def in_turn(opened: Callable[[], dict[str, ClosingPool]], work: Callable[[ClosingPool], None], epochs: int) -> Any:
    """Return the percentiles of the epochs. Their backends differ, and no two backends are equally quick."""
    samples: dict[str, dict[str, list[float]]] = {P50: {}, P99: {}}
    for _ in range(epochs):
        pools = opened()
        names = list(pools)
        taken: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(BLOCKS):
            random.shuffle(names)
            for name in names:
                taken[name] += calls(pools[name], work)
        for name, values in taken.items():
            values.sort()
            samples[P50].setdefault(name, []).append(values[len(values) // 2] * 1e6)
            samples[P99].setdefault(name, []).append(values[len(values) * 99 // 100] * 1e6)
            pools[name].close()
    return samples


def calls(pool: ClosingPool, work: Callable[[ClosingPool], None]) -> list[float]:
    """Return what each of some calls in a row takes."""
    clock, taken = time.perf_counter, []
    for _ in range(3):
        work(pool)
    for _ in range(CALLS):
        began = clock()
        work(pool)
        taken.append(clock() - began)
    return taken


def crowd(pool: ClosingPool) -> Callable[[], dict[str, float]]:
    """Return a round of eight threads on four connections."""

    def run() -> dict[str, float]:
        done: list[int] = []
        ready = threading.Barrier(9)

        def call() -> None:
            ready.wait()
            until, count = time.perf_counter() + SECONDS, 0
            while time.perf_counter() < until:
                select(pool)
                count += 1
            done.append(count)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        ready.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        return {RATE: sum(done) / (time.perf_counter() - began)}

    return run


def opened(bench: Bench, kinds: tuple[str, ...], size: int, fits: Callable[[Peer], bool]) -> dict[str, ClosingPool]:
    """Return the pools over each driver."""
    return {
        driver_of(kind, peer): peer.open(bench.source(kind), size)
        for kind in kinds
        for peer in bench.pooling(kind, fits)
    }


def run(bench: Bench, tape: Workload) -> None:
    """Measure all."""
    prepare(bench)
    for place, kinds in (("PostgreSQL", ("psycopg2", "psycopg")), ("MySQL", ("mysql",))):
        for case, work in ((SELECT, select), (TRANSACTION, transaction)):
            epochs = 2 if place == "MySQL" else EPOCHS if work is select else EPOCHS // 2
            if bench.quick and (work is transaction or place == "MySQL"):
                continue
            found = in_turn(lambda kinds=kinds: opened(bench, kinds, 1, for_threads), work, epochs)
            for measure, samples in found.items():
                if samples:
                    tape.add(f"{case}, {place}", measure, "us", samples)
    pools = opened(bench, ("psycopg2", "psycopg"), 4, lambda peer: peer.waits and for_threads(peer))
    found = interleaved({name: crowd(pool) for name, pool in pools.items()}, bench.rounds(4))
    tape.add(CROWD, RATE, "1/s", found[RATE], lower=False)
    for pool in pools.values():
        pool.close()


def prepare(bench: Bench) -> None:
    """Make the table."""
    for kind in ("psycopg2", "mysql"):
        if kind == "mysql" and (bench.mysql is None or not bench.pooling(kind)):
            continue
        conn = bench.source(kind).connect()
        cursor = conn.cursor()
        cursor.execute(TABLE)
        conn.commit()
        conn.close()
