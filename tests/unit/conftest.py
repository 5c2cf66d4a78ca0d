"""Makes pools over a fake driver, and closes them when a test ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import pytest
from fakes import FakeConnector, FakeDriver, clock_replaced, no_housekeeper

from dbpool import AbstractConnectionPool, SimpleConnectionPool, ThreadedConnectionPool

from .threads import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYED = (AbstractConnectionPool, SimpleConnectionPool, ThreadedConnectionPool)


@pytest.fixture
def driver() -> FakeDriver:
    """The driver of the test's pools."""
    return FakeDriver()


@pytest.fixture
def make(driver: FakeDriver) -> Iterator[Callable[..., Any]]:
    """Makes a pool over `driver`: `make(kind, minconn, maxconn, option=...)`."""
    pools = []

    def make(kind: Any = ThreadedConnectionPool, minconn: int = 0, maxconn: int = 2, **options: Any) -> Any:
        options.setdefault("detect_deadlock", False)  # a test's only thread may wait
        pool = kind(minconn, maxconn, connect=FakeConnector(driver.connect), config=options)
        pools.append(pool)
        return pool

    yield make
    driver.gate.set()
    for pool in pools:
        pool.close(timeout=0)


@pytest.fixture(params=KEYED, ids=["Abstract", "Simple", "Threaded"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Each class whose getconn takes a key."""
    return request.param


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of all pools, which the test sets. Those who wait look at it all the time."""
    clock = Clock()
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.005)
    monkeypatch.setattr("dbpool.pool._collected", 0.0)  # else it would keep a time of this clock
    with clock_replaced(clock):
        yield clock


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait look by themselves every 5 ms, so that no test waits for a second."""
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.005)


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """Nothing happens in the background."""
    with no_housekeeper():
        yield
