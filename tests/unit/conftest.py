"""Makes pools over a fake driver, and closes them when a test ends."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable

import pytest
from fakes import FakeConnector, FakeDriver, clock_replaced, no_housekeeper
from loops import loops
from onloop import AwaitedOnLoop, EndpointsAwaitedOnLoop, EndpointsOnLoop, OnLoop, end, leap

from dbpool import (
    AbstractConnectionPool,
    EndpointPool,
    PersistentConnectionPool,
    SimpleConnectionPool,
    ThreadedConnectionPool,
)

from .awaiting import AwaitedDriver
from .places import Places
from .threads import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_LOOP = {"in threads": OnLoop, "awaited": AwaitedOnLoop}  # AsyncConnectionPool, over both kinds of drivers
KEYED = {"Abstract": AbstractConnectionPool, "Simple": SimpleConnectionPool, "Threaded": ThreadedConnectionPool}
KINDS = {  # what a test asks for -> the classes that it runs on
    "any_kind": {**KEYED, "Persistent": PersistentConnectionPool},
    "kind": KEYED,
    "waiting_kind": {"Threaded": ThreadedConnectionPool},
    "endpoints_kind": {"Threaded": EndpointPool},
}
ENDPOINTS_ON_LOOP = {"in threads": EndpointsOnLoop, "awaited": EndpointsAwaitedOnLoop}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on both shells; not those that are about threads, or whatever only the pools for them have."""
    synchronous = metafunc.definition.get_closest_marker("synchronous") is not None
    for name, classes in KINDS.items():
        if name in metafunc.fixturenames:
            on_loop = ENDPOINTS_ON_LOOP if name == "endpoints_kind" else ON_LOOP
            kinds = classes if synchronous else {**classes, **on_loop}
            metafunc.parametrize(name, kinds.values(), ids=kinds)
            return


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine in an event loop of its own, in debug mode."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    loops(given.get("loop_kind", "asyncio"))(pyfuncitem.obj(**given))
    return True


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> Any:
    """The kind of event loop that a coroutine runs in."""
    return request.param


@pytest.fixture
def awaited() -> AwaitedDriver:
    """An asynchronous driver."""
    return AwaitedDriver()


@pytest.fixture(autouse=True)
def _loop_ends() -> Iterator[None]:
    """The event loop, if the test starts it, ends with it."""
    yield
    end()


@pytest.fixture
def waiting_kind() -> Any:
    """Each class whose getconn waits."""
    return ThreadedConnectionPool


@pytest.fixture
def driver() -> FakeDriver:
    """The driver of the test's pools."""
    return FakeDriver()


@pytest.fixture
def make(driver: FakeDriver, waiting_kind: Any) -> Iterator[Callable[..., Any]]:
    """Makes a pool over `driver`: `make(kind, minconn, maxconn, option=...)`."""
    pools = []

    def make(kind: Any = waiting_kind, minconn: int = 0, maxconn: int = 2, **options: Any) -> Any:
        options.setdefault("detect_deadlock", False)  # a test's only thread may wait
        pool = kind(minconn, maxconn, connect=FakeConnector(driver.connect), config=options)
        pools.append(pool)
        return pool

    yield make
    driver.gate.set()
    for pool in pools:
        pool.close(timeout=0)


@pytest.fixture
def places() -> Places:
    """The driver of the test's pools over many endpoints."""
    return Places()


@pytest.fixture
def many(endpoints_kind: Any, places: Places) -> Iterator[Callable[..., Any]]:
    """Makes an EndpointPool over `places`: `many(0, 2, total=5, option=...)`."""
    pools = []

    def many(
        minconn: int = 0, maxconn: int = 2, total: Any = None, endpoints: Any = None, args: Any = (),
        kwargs: Any = None, **options: Any,
    ) -> Any:  # fmt: skip
        options.setdefault("detect_deadlock", False)  # a test's only thread may wait
        pool = endpoints_kind(
            minconn, maxconn, *args, connect=FakeConnector(places.connect), total=total, endpoints=endpoints,
            config=options, **(kwargs or {}),
        )  # fmt: skip
        pools.append(pool)
        return pool

    yield many
    places.gate.set()
    places.release()
    for pool in pools:
        pool.close(timeout=0)


class LeapingClock(Clock):
    """The loop's timers leap with it."""

    def leap(self, seconds: float) -> None:
        super().leap(seconds)
        leap(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of all pools, which the test sets. Those who wait look at it all the time."""
    clock = LeapingClock()
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.005)
    monkeypatch.setattr("dbpool.aio.core.HEARTBEAT", 0.005)
    for module in ("shell", "deadlines"):  # a leap does not mean that something has held up the loop
        monkeypatch.setattr(f"dbpool.aio.{module}.BLOCKED", float("inf"))
    monkeypatch.setattr("dbpool.pool._collected", 0.0)  # else it would keep a time of this clock
    with clock_replaced(clock):
        yield clock


@pytest.fixture
def heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait look by themselves every 5 ms, so that no test waits for a second."""
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.005)
    monkeypatch.setattr("dbpool.aio.core.HEARTBEAT", 0.005)


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """Nothing happens in the background."""
    with no_housekeeper():
        yield
