"""Fakes: connections, a driver that fails when told to, a connector for them, and a listener that remembers."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Callable
from unittest.mock import patch

from dbpool import Connector, PoolListener

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)


class Error(Exception):
    """The fake driver's base error."""


class OperationalError(Error):
    """The fake server's fault."""


class ReadOnlyError(OperationalError):
    """The fake server takes no writes."""


class FakeConnection:
    """Open, in a transaction or closed; counts what is done to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.status = IDLE
        self.color = "white"  # an attribute that reset="clean" restores
        self.commits = self.rollbacks = self.closes = 0
        self.fail_rollback = False
        self.pings = 0
        self.mute = False  # True: the server does not answer any more
        self.writable: bool | None = None  # what the server says when it is asked

    def __repr__(self) -> str:
        return f"<FakeConnection {self.number}>"

    @property
    def closed(self) -> bool:
        return self.status == UNKNOWN

    def execute(self) -> None:
        """Begin a transaction, as a statement does."""
        if self.closed:
            raise OperationalError("closed")
        self.status = INTRANS

    def commit(self) -> None:
        self.commits += 1
        self._end()

    def rollback(self) -> None:
        self.rollbacks += 1
        if self.fail_rollback:
            self.status = UNKNOWN
        self._end()

    def ping(self) -> None:
        self.pings += 1
        if self.mute or self.closed:
            raise OperationalError("server does not answer")

    def _end(self) -> None:
        if self.closed:
            raise OperationalError("server closed the connection")
        self.status = IDLE

    def close(self) -> None:
        self.closes += 1
        self.status = UNKNOWN


class FakeConnector(Connector):
    """Knows FakeConnections as a libpq connector knows its own: the status is local, and 0 is clean."""

    error = Error
    attributes = ("color",)
    hangs = False  # so that no test starts threads unless it wants to

    def __init__(self, connect: Callable[..., Any] | None = None) -> None:
        super().__init__(connect or FakeDriver().connect)
        self.unfit = self.dirty = attrgetter("status")  # type: ignore[method-assign]

    def reset(self, conn: Any, level: str) -> Any:
        if conn.status in (ACTIVE, UNKNOWN):
            raise OperationalError("busy or closed")
        if conn.status == INTRANS and level == "commit":
            conn.commit()
        elif conn.status != IDLE and level != "none":
            conn.rollback()

    def commit(self, conn: Any) -> None:
        conn.commit()

    def rollback(self, conn: Any) -> None:
        conn.rollback()

    def ping(self, conn: Any) -> None:
        conn.ping()

    def is_writable(self, conn: Any) -> bool | None:
        conn.ping()
        return conn.writable  # type: ignore[no-any-return]

    def is_read_only(self, conn: Any, error: BaseException) -> bool:
        return isinstance(error, ReadOnlyError)

    def refusal(self, error: BaseException) -> str | None:
        return getattr(error, "refusal", None)


class FakeDriver:
    """Its connect() fails for the numbers in *fail_on*; while ``gate`` is clear it waits. Thread-safe.

    While *refusal* is "transient" or "permanent", it refuses everybody, as a server does.
    """

    def __init__(self, fail_on: set[int] | None = None) -> None:
        self.fail_on = fail_on or set()
        self.refusal: str | None = None
        self.made: list[FakeConnection] = []  # keeps them alive, unless keep is False
        self.calls = 0
        self.keep = True
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def connect(self, *args: Any, **kwargs: Any) -> FakeConnection:
        with self._lock:
            self.calls += 1
            number = self.calls
        assert self.gate.wait(30), "the test never opened the gate"
        if number in self.fail_on:
            raise OperationalError(f"connect {number} refused")
        if self.refusal is not None:
            error = OperationalError(f"connect {number}: the server refuses everybody")
            error.refusal = self.refusal  # type: ignore[attr-defined]
            raise error
        conn = FakeConnection(number)
        if self.keep:
            self.made.append(conn)
        return conn

    @property
    def open(self) -> list[FakeConnection]:
        return [conn for conn in self.made if not conn.closed]


@contextmanager
def clock_replaced(clock: Callable[[], float]) -> Iterator[None]:
    """Have *clock* be what every module of the package asks for the time, but for the housekeeper, which sleeps."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("dbpool.") and hasattr(module, "uptime") and name != "dbpool.housekeeper":
                stack.enter_context(patch.object(module, "uptime", clock))
        yield


class NoHousekeeper:
    """Stands for the housekeeper where nothing may happen but what the test does."""

    running = begun = False
    helpers: frozenset[int] = frozenset()

    def join(self, pool: Any) -> None:
        pass

    def watch(self, pool: Any, entry: Any) -> None:
        pass

    def sweep(self, pool: Any, when: float) -> None:
        pass

    def begin(self, seconds: float, act: Any) -> None:
        pass

    def leave(self, pool: Any) -> None:
        pass

    def stood_still_since(self, when: float) -> float:
        return 0.0


@contextmanager
def no_housekeeper() -> Iterator[None]:
    """Have no pool find the housekeeper, nor its loop's keeper."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            ours = name.startswith("dbpool.") and name not in ("dbpool.housekeeper", "dbpool.bounded")
            if ours and hasattr(module, "housekeeper"):
                stack.enter_context(patch.object(module, "housekeeper", NoHousekeeper()))
            if ours and hasattr(module, "keeper_of"):
                stack.enter_context(patch.object(module, "keeper_of", lambda loop: NoHousekeeper()))
        yield


class Recorder(PoolListener):
    """Remembers the events in order, as tuples."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in PoolListener.__dict__ and not name.startswith("_"):
            return lambda pool, *args: self.events.append((name, *args))
        return super().__getattribute__(name)

    @property
    def names(self) -> list[str]:
        return [event[0] for event in self.events]
