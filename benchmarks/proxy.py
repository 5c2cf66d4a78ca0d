"""What connect() costs beside the raw call and SQLAlchemy's own pool; what a twin costs beside the plain class."""

from __future__ import annotations

import time
from typing import Any, Callable

from common import Fake, FakeConnector, Report, interleaved
from serving import postgres
from sqlalchemy.pool import QueuePool

import dbpool
import dbpool.psycopg2

ROUNDS, CALLS = 100, 5_000


class Cursor:
    """A cursor that costs next to nothing, and can be weakly referenced as a driver's can."""

    __slots__ = ("__weakref__",)


class FakeWithCursors(Fake):
    """A connection whose cursors are objects of their own."""

    def cursor(self) -> Any:
        return Cursor()


def get_and_put(pool: Any) -> Callable[[], float]:
    """Return a round: nanoseconds for one getconn and putconn."""

    def run() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            pool.putconn(pool.getconn())
        return (time.perf_counter() - began) / CALLS * 1e9

    return run


def cursor_of(conn: Any) -> Callable[[], float]:
    """Return a round: nanoseconds for one cursor(), dropped at once."""

    def run() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            conn.cursor()
        return (time.perf_counter() - began) / CALLS * 1e9

    return run


def connect_and_close(pool: Any) -> Callable[[], float]:
    """Return a round: nanoseconds for one connect() and close()."""

    def run() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            pool.connect().close()
        return (time.perf_counter() - began) / CALLS * 1e9

    return run


def cursors(report: Report) -> None:
    """The same fake connection, raw and through its proxy."""
    pool = dbpool.ThreadedConnectionPool(1, 1, connect=FakeConnector(FakeWithCursors.connect))
    proxy = pool.connect()
    best = interleaved({"raw": cursor_of(proxy.raw), "proxy": cursor_of(proxy)}, ROUNDS)
    detail = f"{best['proxy']:.0f} ns / {best['raw']:.0f} ns"
    report.add("cursor() through the proxy: ns more than the raw call", best["proxy"] - best["raw"], "<= 200", detail)
    proxy.close()
    pool.close()


def leases(report: Report) -> None:
    """Equally fake connections."""
    ours = dbpool.ThreadedConnectionPool(1, 1, connect=FakeConnector(FakeWithCursors.connect))
    theirs = QueuePool(FakeWithCursors.connect, pool_size=1, max_overflow=0)
    best = interleaved({"ours": connect_and_close(ours), "theirs": connect_and_close(theirs)}, ROUNDS // 2)
    detail = f"{best['ours']:.0f} ns / {best['theirs']:.0f} ns"
    report.add("connect() + close() / SQLAlchemy QueuePool's", best["ours"] / best["theirs"], "<= 0.25", detail)
    ours.close()
    theirs.dispose()


def twins(report: Report, dsn: str) -> None:
    """One getconn and putconn of a twin beside that of the plain class, real psycopg2 connections."""
    for kind in ("Threaded", "Simple"):
        name = f"{kind}ConnectionPool"
        plain = getattr(dbpool, name)(1, 1, dsn, config={"reset": "rollback"})
        twin = getattr(dbpool.psycopg2, name)(1, 1, dsn)
        best = interleaved({"twin": get_and_put(twin), "plain": get_and_put(plain)}, ROUNDS)
        detail = f"{best['twin']:.0f} ns / {best['plain']:.0f} ns"
        what = f"getconn + putconn, the {kind} twin's / the plain class's"
        report.add(what, best["twin"] / best["plain"], "<= 1.03", detail)
        plain.closeall()
        twin.closeall()


def main() -> None:
    """Run all, print, write."""
    report = Report("The proxy and the twins")
    cursors(report)
    leases(report)
    with postgres(report.options.dsn) as dsn:
        twins(report, dsn)
    report.finish()


if __name__ == "__main__":
    main()
