"""What EndpointPool costs beside generic-connection-pool: one endpoint, some hot ones, thousands, a total; proxies."""

from __future__ import annotations

import gc
import random
import statistics
import threading
import time
from typing import Any, Callable

from common import Report, interleaved
from generic_connection_pool.threading import BaseConnectionManager, ConnectionPool

import dbpool

ROUNDS, CALLS = 20, 5_000
MANY, HOT = 10_000, 10  # endpoints
TOTAL, THREADS, TURNS = 4, 16, 40  # connections, threads that want them at twice as many endpoints, turns of each
PROXIES = 1_000


class Conn:
    """A connection that costs nothing."""

    def __init__(self, endpoint: Any) -> None:
        self.endpoint = endpoint
        self.closed = False
        self.dirty = False

    def close(self) -> None:
        self.closed = True


class Manager(BaseConnectionManager[Any, Conn]):
    """Opens them for the peer."""

    def create(self, endpoint: Any, timeout: float | None = None) -> Conn:
        return Conn(endpoint)

    def dispose(self, endpoint: Any, conn: Conn, timeout: float | None = None) -> None:
        conn.close()


def ours(**options: Any) -> dbpool.EndpointPool[Any, Conn]:
    """Return our pool."""
    return dbpool.EndpointPool(0, 10, connect=dbpool.Connector(Conn), **options)


def theirs(**options: Any) -> Any:
    """Return the peer's; it closes nothing by itself while we measure."""
    return ConnectionPool(Manager(), max_size=10, idle_timeout=600.0, **options)


def our_turns(pool: Any, endpoints: list[Any]) -> Callable[[], float]:
    """Return a round: nanoseconds for one getconn and putconn, at one endpoint after the other."""

    def run() -> float:
        began = time.perf_counter()
        for endpoint in endpoints:
            pool.putconn(pool.getconn(endpoint))
        return (time.perf_counter() - began) / len(endpoints) * 1e9

    return run


def their_turns(pool: Any, endpoints: list[Any]) -> Callable[[], float]:
    """Return the same for the peer: acquire and release."""

    def run() -> float:
        began = time.perf_counter()
        for endpoint in endpoints:
            pool.release(pool.acquire(endpoint), endpoint)
        return (time.perf_counter() - began) / len(endpoints) * 1e9

    return run


def one_endpoint(report: Report) -> None:
    """The same connection again and again."""
    mine, other = ours(), theirs()
    best = interleaved({"ours": our_turns(mine, [1] * CALLS), "theirs": their_turns(other, [1] * CALLS)}, ROUNDS)
    detail = f"{best['ours']:.0f} ns / {best['theirs']:.0f} ns"
    report.add("get + put / generic-connection-pool: 1 endpoint", best["ours"] / best["theirs"], "<= 0.10", detail)
    mine.close(timeout=0)
    other.close()


def hot_ones(report: Report) -> None:
    """Some endpoints are used all the time; do the others that exist cost anything?"""
    few, many = ours(), ours(total=2 * MANY)
    our_turns(many, list(range(MANY)))()
    turns = [number % HOT for number in range(CALLS)]
    best = interleaved({"few": our_turns(few, turns), "many": our_turns(many, turns)}, ROUNDS)
    detail = f"{best['many']:.0f} ns / {best['few']:.0f} ns"
    report.add(f"{HOT} hot endpoints: {MANY:,} exist / {HOT} exist", best["many"] / best["few"], "<= 1.2", detail)
    few.close(timeout=0)
    many.close(timeout=0)


def random_ones(report: Report) -> None:
    """Any of thousands. The peer never looks whether a connection is alive: so neither do we here."""
    blind = ours(total=2 * MANY, config={"check_after": None, "ping_after": None})
    looks, other = ours(total=2 * MANY), theirs(total_max_size=2 * MANY)
    choice = random.Random(2024)
    turns = [choice.randrange(MANY) for _ in range(2 * MANY)]
    runs = {"ours": our_turns(blind, turns), "looks": our_turns(looks, turns), "theirs": their_turns(other, turns)}
    for run in runs.values():  # opens them
        run()
    best = interleaved(runs, 5)
    detail = f"{best['ours']:.0f} ns / {best['theirs']:.0f} ns"
    report.add(f"... random over {MANY:,}", best["ours"] / best["theirs"], "<= 0.15", detail)
    print(f"    as configured by default, with a look at what was unused for 50 ms: {best['looks']:.0f} ns")
    for pool in (blind, looks):
        pool.close(timeout=0)
    other.close()


def total(report: Report) -> None:
    """More threads than the total allows connections, each at endpoints of its own choice."""
    pool = ours(total=TOTAL, config={"timeout": 60.0})
    waits: list[float] = []
    opened = [0]

    def work(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(TURNS):
            endpoint = choice.randrange(2 * THREADS)
            began = time.perf_counter()
            conn = pool.getconn(endpoint)
            waits.append(time.perf_counter() - began)
            assert pool.total is not None
            opened[0] = max(opened[0], pool.total.used)
            time.sleep(0.001)
            pool.putconn(conn)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    starved = THREADS * TURNS - len(waits)
    detail = f"waits: median {statistics.median(waits) * 1e3:.1f} ms, longest {max(waits) * 1e3:.1f} ms"
    report.add(f"{THREADS} threads for a total of {TOTAL}: starved", starved, "<= 0", detail)
    report.add("... most connections at a time / total", opened[0] / TOTAL, "<= 1")
    pool.close(timeout=0)


def proxies(report: Report) -> None:
    """Dropped without close(): all are back, and clean."""
    made: list[Conn] = []

    def reset(conn: Conn) -> None:
        conn.dirty = False

    def connect() -> Conn:
        made.append(Conn(0))
        return made[-1]

    pool = dbpool.ThreadedConnectionPool(0, 10, connect=dbpool.Connector(connect, reset=reset))
    for _ in range(PROXIES):
        proxy = pool.connect()
        proxy.dirty = True
        del proxy
    gc.collect()
    stats = pool.stats()
    back = PROXIES if stats.idle == len(made) and not any(conn.dirty or conn.closed for conn in made) else stats.idle
    report.add(f"{PROXIES:,} proxies dropped: back, and clean", back, f">= {PROXIES}", f"{len(made)} opened")
    pool.close()


def main() -> None:
    """Print the table."""
    report = Report("Many endpoints, beside generic-connection-pool")
    for part in (one_endpoint, hot_ones, random_ones, total, proxies):
        part(report)
    report.finish()


if __name__ == "__main__":
    main()
