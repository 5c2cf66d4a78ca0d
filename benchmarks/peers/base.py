"""What a peer is to the workloads: get, put, close, and where its connections come from."""

from __future__ import annotations

import sqlite3
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

from benchmarks.common import Fake

TIMEOUT = 60.0  # seconds that all pools wait for a connection


class ClosingPool(NamedTuple):
    """A pool that is open: its own calls, as they are, so that an adapter costs nothing."""

    get: Callable[[], Any]
    put: Callable[[Any], Any]
    close: Callable[[], Any]


class Countable(Fake):
    """A fake that is counted when it is closed, too; drivers' connections have no __dict__, this one has."""

    source: Source

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.source.count(closed=1)
        super().close()

    def cursor(self) -> Any:
        return self


@dataclass
class Source:
    """Where connections come from: *kind* is the driver, or "fake"; *arguments* are the driver's."""

    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    delay: float = 0.0  # seconds that opening a fake takes
    opened: int = 0
    closed: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def count(self, opened: int = 0, closed: int = 0) -> None:
        """Count connections."""
        with self._lock:
            self.opened += opened
            self.closed += closed

    def connect(self) -> Any:
        """Open a connection."""
        if self.kind == "fake":
            if self.delay:
                time.sleep(self.delay)
            self.count(opened=1)
            made = Countable()
            made.source = self
            return made
        if self.kind == "sqlite":
            return sqlite3.connect(**self.arguments, check_same_thread=False)
        return self.module().connect(**self.arguments)

    def module(self) -> Any:
        """Return the driver."""
        if self.kind == "psycopg2":
            import psycopg2 as driver
        elif self.kind == "ksycopg2":
            import ksycopg2 as driver
        elif self.kind == "mysql":
            import mysql.connector as driver
        elif self.kind == "psycopg":
            import psycopg as driver
        else:
            driver = sqlite3
        return driver

    def connect_with_dict(self) -> Any:
        """Open a connection that has a __dict__, for the pool that keeps its notes there."""
        if self.kind in ("psycopg2", "ksycopg2"):
            return self.module().connect(**self.arguments, connection_factory=self._with_dict())
        if self.kind == "sqlite":
            return sqlite3.connect(**self.arguments, check_same_thread=False, factory=self._with_dict())
        return self.connect()

    def _with_dict(self) -> type[Any]:
        if self.kind == "sqlite":
            return type("Connection", (sqlite3.Connection,), {})
        return type("Connection", (self.module().extensions.connection,), {})


class Peer:
    """One pool, used as its documentation says."""

    name = ""
    needs: tuple[str, ...] = ()  # modules
    kinds: frozenset[str] = frozenset()  # whose connections it can pool
    waits = True  # who finds none waits for one to come back
    threads = True  # it is made for threads
    ours = False
    most = 10_000  # connections
    exclusive = True  # it lends a connection to one at a time, also when threads wait
    fills = True  # it can have all its connections idle
    checks = ""  # what it looks at, at get and at put, as it is set up here

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        """Return a pool of at most *size* connections; *minimum* are open from the beginning, by default all."""
        raise NotImplementedError
