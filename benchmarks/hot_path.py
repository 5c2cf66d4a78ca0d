"""What a hit costs beside psycopg2's own pool and psycopg_pool, and what must never wait: connects, imports."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import psycopg2.pool
import psycopg_pool
from common import Fake, FakeConnector, Report, interleaved, seconds_of

import dbpool

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS, CALLS = 100, 5_000


@contextlib.contextmanager
def postgres(dsn: str | None) -> Iterator[str]:
    """The server that was named, or one from the tests' chooser."""
    if dsn:
        yield dsn
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from servers import choose

    found, how = choose("auto")
    print(f"PostgreSQL: {how}\n")
    with found.serve() as served:
        yield served


def get_and_put(pool: Any) -> Callable[[], float]:
    """Return a round: nanoseconds for one getconn and putconn."""

    def run() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            pool.putconn(pool.getconn())
        return (time.perf_counter() - began) / CALLS * 1e9

    return run


def with_block(pool: Any) -> Callable[[], float]:
    """Return a round: nanoseconds for one ``with pool.connection()``."""

    def run() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            with pool.connection():
                pass
        return (time.perf_counter() - began) / CALLS * 1e9

    return run


def hits(report: Report, dsn: str) -> None:
    """Real psycopg2 connections."""
    pools: dict[str, Any] = {
        "psycopg2 Threaded": psycopg2.pool.ThreadedConnectionPool(1, 1, dsn),
        "psycopg2 Simple": psycopg2.pool.SimpleConnectionPool(1, 1, dsn),
    }
    for level in ("rollback", "clean"):
        pools[f"Threaded {level}"] = dbpool.ThreadedConnectionPool(1, 1, dsn, config={"reset": level})
        pools[f"Simple {level}"] = dbpool.SimpleConnectionPool(1, 1, dsn, config={"reset": level})
    best = interleaved({name: get_and_put(pool) for name, pool in pools.items()}, ROUNDS)
    print("  ".join(f"{name} {value:.0f} ns" for name, value in best.items()))
    for kind, level, must in (
        ("Threaded", "rollback", "<= 0.70"),
        ("Simple", "rollback", "<= 1.00"),
        ("Threaded", "clean", "<= 0.80"),
        ("Simple", "clean", "<= 1.15"),
    ):
        ratio = best[f"{kind} {level}"] / best[f"psycopg2 {kind}"]
        report.add(f"getconn + putconn, {kind}, reset={level!r} / psycopg2's {kind}", ratio, must)
    for pool in pools.values():
        pool.closeall()


def with_blocks(report: Report) -> None:
    """Equally fake connections."""
    ours = dbpool.ThreadedConnectionPool(1, 1, connect=FakeConnector())
    theirs = psycopg_pool.ConnectionPool("", connection_class=Fake, min_size=1, max_size=1, open=True)
    theirs.wait()
    best = interleaved({"ours": with_block(ours), "theirs": with_block(theirs)}, ROUNDS // 2)
    detail = f"{best['ours']:.0f} ns / {best['theirs']:.0f} ns"
    report.add("with pool.connection() / psycopg_pool's", best["ours"] / best["theirs"], "<= 0.25", detail)
    ours.close()
    theirs.close()


def slow_connect(seconds: float) -> Callable[[], Fake]:
    """Return a connect that takes so long."""

    def connect() -> Fake:
        time.sleep(seconds)
        return Fake()

    return connect


def connects(report: Report) -> None:
    """Eight callers on an empty pool whose connects take 0.3 s."""
    for limit, must in ((None, "<= 0.35"), (2, "<= 1.3")):
        config = {"max_connecting": limit, "start": "lazy"}
        pool = dbpool.ThreadedConnectionPool(0, 8, connect=FakeConnector(slow_connect(0.3)), config=config)
        took = statistics.median(seconds_of(partial(eight_callers, pool)) for _ in range(3))
        report.add(f"8 callers, connect takes 0.3 s, max_connecting={limit}: seconds", took, must)
        pool.close()


def eight_callers(pool: Any) -> None:
    """Each takes one connection; then all are discarded, so that the next round starts empty."""
    taken: list[Any] = []
    threads = [threading.Thread(target=lambda: taken.append(pool.getconn())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for conn in taken:
        pool.putconn(conn, close=True)


def beside_a_connect(report: Report) -> None:
    """A 3 s connect is in flight; another thread uses an idle connection."""
    quick = [Fake()]
    connector = FakeConnector(lambda: quick.pop() if quick else slow_connect(3.0)())
    pool = dbpool.ThreadedConnectionPool(1, 2, connect=connector)
    held = pool.getconn()
    waiting = threading.Thread(target=lambda: pool.putconn(pool.getconn()))
    waiting.start()
    while not pool.stats().connecting:
        time.sleep(0.001)
    pool.putconn(held)  # goes to the one who waits; the connect goes on
    waiting.join()
    assert pool.stats().connecting == 1
    took = max(seconds_of(lambda: pool.putconn(pool.getconn())) for _ in range(200))
    assert pool.stats().connecting == 1, "the connect ended too early to tell"
    report.add("a 3 s connect in flight: slowest of 200 getconn + putconn, ms", took * 1000, "<= 10")
    pool.closeall()


def imports(report: Report) -> None:
    """Whole processes, in turn, less an empty one."""
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(code: str) -> Callable[[], float]:
        return lambda: seconds_of(lambda: subprocess.run([sys.executable, "-c", code], check=True, env=compiled))

    best = interleaved({"": run("pass"), "sqlite3": run("import sqlite3"), "dbpool": run("import dbpool")}, 25)
    ours, theirs = best["dbpool"] - best[""], best["sqlite3"] - best[""]
    report.add(
        "import dbpool / import sqlite3", ours / theirs, "<= 4", f"{ours * 1000:.1f} ms / {theirs * 1000:.1f} ms"
    )
    code = "import dbpool, sys; print(int('asyncio' in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    report.add("asyncio in sys.modules after it", float(loaded), "<= 0")


def main() -> None:
    """Run all, print, write."""
    report = Report("The hot path")
    with postgres(report.options.dsn) as dsn:
        hits(report, dsn)
    with_blocks(report)
    connects(report)
    beside_a_connect(report)
    imports(report)
    report.finish()


if __name__ == "__main__":
    main()
