"""What tests of a pool look at: that no slot is lost, and that a refusal changed nothing."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbpool import PersistentConnectionPool

from .threads import PATIENCE, Caller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fakes import FakeDriver


def lease_all(pool: Any) -> list[Any]:
    """Lease maxconn different connections at a time, and put them back: no slot is lost."""
    if isinstance(pool, PersistentConnectionPool):
        conns = _lease_in_threads(pool)
    else:
        conns = [pool.getconn(timeout=5) for _ in range(pool.maxconn)]
        for conn in conns:
            pool.putconn(conn)
    assert len({id(conn) for conn in conns}) == pool.maxconn
    return conns


def _lease_in_threads(pool: Any) -> list[Any]:
    everybody = threading.Barrier(pool.maxconn)

    def lease() -> Any:
        try:
            conn = pool.getconn(timeout=5)
        except BaseException:
            everybody.abort()
            raise
        everybody.wait(PATIENCE)
        pool.putconn(conn)
        return conn

    return [caller.result() for caller in [Caller(lease) for _ in range(pool.maxconn)]]


def adds_up(pool: Any) -> bool:
    """Tell whether the numbers of stats() fit together."""
    stats = pool.stats()
    return (
        stats.size == stats.used + stats.idle + stats.connecting + stats.closing
        and stats.opened - sum(stats.discards.values()) == stats.used + stats.idle + stats.closing
    )


@contextmanager
def unchanged(pool: Any, driver: FakeDriver) -> Iterator[None]:
    """Insist that the block opens, closes and loses nothing."""
    before = pool.stats(), list(driver.open), driver.calls
    yield
    assert (pool.stats(), list(driver.open), driver.calls) == before
