"""What is swept: pools over fakes, and what must hold of them after an interrupt anywhere."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from fakes import FakeConnection, FakeConnector

from dbpool import ThreadedConnectionPool

from .bounded import Deadlock, run_bounded
from .sweep import SlotsLost

if TYPE_CHECKING:
    from collections.abc import Callable

MAXCONN = 2
PATIENCE = 10.0 if sys.version_info >= (3, 10) else 1.0  # seconds; on 3.9 many a pool is dead, and is only counted
# On 3.9 an interrupt can strike before nearly every instruction.
STEP = 1 if sys.version_info >= (3, 10) or os.environ.get("DBPOOL_NIGHTLY") == "1" else 21


def pool_of(kind: Any = ThreadedConnectionPool, idle: int = MAXCONN, **options: Any) -> Callable[[], Any]:
    """Return a function that makes a pool with so many idle connections."""

    def make() -> Any:
        # No FakeDriver: its locks are Python code, which an interrupt can break.
        return kind(idle, MAXCONN, connect=FakeConnector(lambda: FakeConnection(1)), config=options)

    return make


def leased(make: Callable[[], Any], count: int = 1) -> Callable[[], Any]:
    """Return a function that makes a pool of which *count* connections are leased already."""

    def made() -> Any:
        pool = make()
        pool.held = [pool.getconn() for _ in range(count)]
        return pool

    return made


def all_slots_back(pool: Any) -> None:
    """As many as maxconn can be leased at once; what the interrupted caller still had counts as given up."""
    pool.held = None

    def lease_all() -> None:
        if pool.maxconn != MAXCONN:  # else what an interrupt has left behind must do without any help
            pool.resize(0, MAXCONN)
        conn = pool._state.keyed.get("key")
        if conn is not None:  # a keyed lease outlives its caller: the same key finds it again
            pool.putconn(conn, "key")
            conn = None
        conns = [pool.getconn(timeout=3) for _ in range(MAXCONN)]
        if len({id(conn) for conn in conns}) != MAXCONN:
            raise SlotsLost("a connection has two holders")
        for conn in conns:
            pool.putconn(conn)

    try:
        run_bounded(lease_all, PATIENCE)
    except Deadlock:
        raise
    except Exception as exc:
        raise SlotsLost(f"{type(exc).__name__}: {exc}") from None
    state = pool._state
    if len(state.entries) > MAXCONN or state.leases or state.keyed or state.tickets or list(state.waiters):
        raise SlotsLost(f"left over: {pool!r}")


def check(report: Any) -> None:
    """From 3.10 on nothing may be lost. 3.9 has two unsafe points in each ``with lock``: counted and printed."""
    print(report.table())
    assert report.points > 0
    assert not report.swallowed, report.where()
    assert not report.replaced, report.where()
    if sys.version_info >= (3, 10):
        assert not report.lost, report.where()
        assert not report.deadlocks, report.where()
