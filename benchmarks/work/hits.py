"""The hit path: a connection is idle, one getconn and putconn; by one thread, and by several."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from benchmarks.bench import Bench, afresh
from benchmarks.results import interleaved

if TYPE_CHECKING:
    from benchmarks.peers import ClosingPool
    from benchmarks.results import Workload

TITLE = "The hit path"
CALLS = 2_000  # in a round
ROUNDS = {"fake": 24, "psycopg2": 40, "ksycopg2": 16, "psycopg": 16, "sqlite": 16}
MANY = (("fake", 2), ("fake", 8), ("psycopg2", 8))
CPU, RATE, CPU_OF_MANY = "CPU per get and put", "get and put per second", "CPU per get and put, all threads"
SLICE = 0.25  # seconds that several threads run in a round
WARM = 200


def one_thread(kind: str) -> str:
    """Return the name of a case."""
    return f"1 thread, {kind}"


def many_threads(threads: int, kind: str) -> str:
    """Return the name of a case."""
    return f"{threads} threads on {threads}, {kind}"


def nanoseconds(pool: ClosingPool) -> Callable[[], dict[str, float]]:
    """Return a round. The process's own time is counted: what else a machine does is none of it."""

    def run(get: Any, put: Any, clock: Any) -> float:
        began = clock()
        for _ in range(CALLS):
            put(get())
        return float(clock() - began)

    run = afresh(run)
    for _ in range(WARM):
        pool.put(pool.get())
    return lambda: {CPU: run(pool.get, pool.put, time.process_time) / CALLS * 1e9}


def together(pool: ClosingPool, threads: int) -> Callable[[], dict[str, float]]:
    """Return a round of several threads, each with a connection to be had at any time."""

    def work(get: Any, put: Any, done: list[int], ready: threading.Barrier) -> None:
        clock, count = time.perf_counter, 0
        ready.wait()
        until = clock() + SLICE
        while clock() < until:
            for _ in range(50):
                put(get())
            count += 50
        done.append(count)

    work = afresh(work)

    def run() -> dict[str, float]:
        done: list[int] = []
        ready = threading.Barrier(threads + 1)
        workers = [threading.Thread(target=work, args=(pool.get, pool.put, done, ready)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        began, spent = time.perf_counter(), time.process_time()
        ready.wait()
        for worker in workers:
            worker.join()
        took, spent = time.perf_counter() - began, time.process_time() - spent
        return {RATE: sum(done) / took, CPU_OF_MANY: spent / sum(done) * 1e9}

    return run


def run(bench: Bench, tape: Workload) -> None:
    """Measure all."""
    for kind, rounds in ROUNDS.items():
        if bench.quick and kind not in ("fake", "psycopg2"):
            continue
        pools = {peer.name: peer.open(bench.source(kind), 1) for peer in bench.pooling(kind)}
        found = interleaved({name: nanoseconds(pool) for name, pool in pools.items()}, bench.rounds(rounds))
        tape.add(one_thread(kind), CPU, "ns", found[CPU])
        for pool in pools.values():
            pool.close()
    for kind, threads in MANY[-1:] if bench.quick else MANY:
        peers = bench.pooling(kind, lambda peer: peer.threads and "block" not in peer.name)
        pools = {peer.name: peer.open(bench.source(kind), threads) for peer in peers}
        found = interleaved({name: together(pool, threads) for name, pool in pools.items()}, bench.rounds(4))
        tape.add(many_threads(threads, kind), RATE, "1/s", found[RATE], lower=False)
        tape.add(many_threads(threads, kind), CPU_OF_MANY, "ns", found[CPU_OF_MANY])
        for pool in pools.values():
            pool.close()
