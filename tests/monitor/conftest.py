"""Makes pools over a fake driver and monitors of them, and ends both with the test."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable
from weakref import WeakSet

import pytest
from fakes import FakeConnector, FakeDriver
from pains.conftest import freeze, inn, inns, town  # noqa: F401  (fixtures)
from unit.threads import PATIENCE, eventually

from dbpool import ThreadedConnectionPool, fork
from dbpool.monitor import PoolMonitor, pool_monitor
from dbpool.monitor.routes import Routes

from .asks import Client
from .browser import chromium, monitor, open_pool, passer, viewer  # noqa: F401  (fixtures)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def driver() -> FakeDriver:
    """What the pools' connections come from."""
    return FakeDriver()


@pytest.fixture
def make(driver: FakeDriver) -> Iterator[Callable[..., Any]]:
    """Make a pool; it is closed after the test."""
    made: list[Any] = []

    def make(minconn: int = 0, maxconn: int = 3, kind: Any = ThreadedConnectionPool, **config: Any) -> Any:
        options = {"detect_deadlock": False, **config}
        pool = kind(minconn, maxconn, connect=FakeConnector(driver.connect), config=options)
        made.append(pool)
        return pool

    yield make
    driver.gate.set()
    for pool in made:
        if not pool.closed:
            pool.closeall()


@pytest.fixture
def routes() -> Iterator[Callable[..., Client]]:
    """Make an application that no server serves, and of which the thread does not run: tests look themselves."""
    made: list[Routes] = []

    def routes(
        *, pools: Any = None, token: str | None = None, actions: bool = False, workers: Any = None, hosts: Any = ()
    ) -> Client:
        made.append(Routes(pools, token, actions, workers, hosts))
        made[-1].sampler.begin = lambda: None  # type: ignore[method-assign]
        return Client(made[-1])

    yield routes
    for each in made:
        each.close()


@pytest.fixture
def seen(routes: Callable[..., Client], make: Callable[..., Any]) -> Callable[..., tuple[Any, Client]]:
    """Make a pool, and an application that tells of it."""

    def seen(**options: Any) -> tuple[Any, Client]:
        pool = make(**options)
        return pool, routes(pools=[pool])

    return seen


@pytest.fixture
def serve() -> Iterator[Callable[..., PoolMonitor]]:
    """Start a monitor on any port that is free."""
    made: list[PoolMonitor] = []

    def serve(port: int = 0, **options: Any) -> PoolMonitor:
        made.append(pool_monitor(port, **options))
        return made[-1]

    yield serve
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def _only_pools_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have left pools behind."""
    monkeypatch.setattr(fork, "_pools", WeakSet())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Each test ends the monitor's threads that it began."""
    yield
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("dbpool-monitor")])


__all__ = ["PATIENCE"]
