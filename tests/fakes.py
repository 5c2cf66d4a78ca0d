"""Fakes: connections, a driver that fails when told to, a connector for them, and a listener that remembers."""

from __future__ import annotations

import threading
from operator import attrgetter
from typing import Any, Callable

from dbpool import Connector, PoolListener

IDLE, ACTIVE, INTRANS, INERROR, UNKNOWN = range(5)


class Error(Exception):
    """The fake driver's base error."""


class OperationalError(Error):
    """The fake server's fault."""


class FakeConnection:
    """Open, in a transaction or closed; counts what is done to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.status = IDLE
        self.color = "white"  # an attribute that reset="clean" restores
        self.commits = self.rollbacks = self.closes = 0
        self.fail_rollback = False

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


class FakeDriver:
    """Its connect() fails for the numbers in *fail_on*; while ``gate`` is clear it waits. Thread-safe."""

    def __init__(self, fail_on: set[int] | None = None) -> None:
        self.fail_on = fail_on or set()
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
        conn = FakeConnection(number)
        if self.keep:
            self.made.append(conn)
        return conn

    @property
    def open(self) -> list[FakeConnection]:
        return [conn for conn in self.made if not conn.closed]


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
