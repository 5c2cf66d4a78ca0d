"""Opening connections that take long: eight callers on an empty pool, and a burst of fifty on a cold one."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

from benchmarks.peers.ours import Ours
from benchmarks.results import interleaved

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.peers import Peer
    from benchmarks.results import Workload

TITLE = "Growth and bursts"
GROWTH, BURST = "8 callers, connect takes 100 ms, each keeps its own", "50 callers at once, connect 150 ms, query 2 ms"
SERVED, OPENED = "until all are served", "connections opened"
ROUNDS = 3
# What two options do: how many may be opened at a time, and whether callers connect by themselves.
EXTRA = (*(Ours("Threaded", max_connecting=limit) for limit in (1, 8, 16)), Ours("Threaded", background=False))
SAVING = EXTRA[0].name


def callers(count: int, work: Callable[[], Any]) -> float:
    """Have so many threads do *work* at the same time; return the seconds until the last one is done."""
    ready = threading.Barrier(count + 1)

    def call() -> None:
        ready.wait()
        work()

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    ready.wait()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def growth(bench: Bench, peer: Peer) -> dict[str, float]:
    """Return a round of eight who each want a connection, and want it for longer than the connects take."""
    pool = peer.open(bench.source("fake", delay=0.1), 8, 0)
    enough = threading.Barrier(8)

    def work() -> None:
        conn = pool.get()
        enough.wait()
        pool.put(conn)

    took = callers(8, work)
    pool.close()
    return {SERVED: took * 1000}


def burst(bench: Bench, peer: Peer) -> dict[str, float]:
    """Return a round of fifty who each want a connection for a short query."""
    source = bench.source("fake", delay=0.15)
    pool = peer.open(source, 50, 0)

    def work() -> None:
        conn = pool.get()
        time.sleep(0.002)
        pool.put(conn)

    took = callers(50, work)
    opened = source.opened
    pool.close()
    return {SERVED: took * 1000, OPENED: float(opened)}


def once(slow: dict[str, dict[str, float]], name: str, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Do *work*, but not again what took longer than a second: it would be the same."""
    if name not in slow:
        found = work()
        if found[SERVED] < 1000:
            return found
        slow[name] = found
    return slow[name]


def run(bench: Bench, tape: Workload) -> None:
    """Measure both; a pool that nobody waits for has no burst to bear."""
    peers = [
        *bench.pooling(
            "fake", lambda peer: peer.threads and "block" not in peer.name and "Persistent" not in peer.name
        ),
        *(() if bench.quick else EXTRA),
    ]
    if bench.quick:
        peers = [peer for peer in peers if "psycopg2" not in peer.name]  # they take seconds
    for case, work in ((GROWTH, growth), (BURST, burst)):
        slow: dict[str, dict[str, float]] = {}
        runs = {peer.name: partial(once, slow, peer.name, partial(work, bench, peer)) for peer in peers}
        found = interleaved(runs, ROUNDS)
        tape.add(case, SERVED, "ms", found[SERVED])
        if OPENED in found:
            tape.add(case, OPENED, "", found[OPENED])
