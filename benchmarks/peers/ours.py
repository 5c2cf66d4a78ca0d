"""dbpool's own classes, plain and as twins."""

from __future__ import annotations

import importlib
from functools import partial
from operator import attrgetter
from typing import Any

import dbpool
from benchmarks.common import FakeConnector
from benchmarks.peers.base import TIMEOUT, ClosingPool, Peer, Source

ALL_KINDS = frozenset(("fake", "psycopg2", "ksycopg2", "psycopg", "sqlite", "mysql"))
LOOK = "get: is it closed, in a transaction, past its lifetime; idle for 50 ms: did the server close it"


def connecting(source: Source) -> dict[str, Any]:
    """Return what a pool of ours is given to connect."""
    if source.kind == "fake":
        return {"connect": FakeConnector(source.connect)}
    if source.kind == "mysql":
        return {"connect": MySQLConnector(source.connect)}
    return {"connect": source.module(), **source.arguments}


class MySQLConnector(dbpool.Connector):
    """mysql-connector's connections, as a user would have them pooled: that driver is none of those that we know."""

    def __init__(self, connect: Any) -> None:
        super().__init__(connect)
        self.dirty = attrgetter("in_transaction")

    def reset(self, conn: Any, level: str) -> Any:
        """Roll back."""
        return conn.rollback()


class Ours(Peer):
    """A class of dbpool, with its defaults but for the sizes, the time-out and the reset."""

    kinds = ALL_KINDS
    ours = True

    def __init__(self, kind: str, reset: str = "clean", **options: Any) -> None:
        self.kind, self.reset, self.options = kind, reset, options
        self.name = f"dbpool {kind}" + "".join(f", {name}={value}" for name, value in options.items())
        if reset != "clean":
            self.name += f", {reset}"
        restored = ", and restores the driver's attributes" if reset == "clean" else ""
        self.checks = f"{LOOK}; put: rolls back if in a transaction{restored}"
        self.waits = self.threads = kind != "Simple"

    def config(self, size: int, minimum: int) -> dict[str, Any]:
        """Return the options of the pool."""
        found = {"timeout": TIMEOUT, "reset": self.reset, **self.options}
        return found if self.waits else {**found, "timeout": 0}

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        minimum = size if minimum is None else minimum
        made = getattr(dbpool, f"{self.kind}ConnectionPool")
        pool = made(minimum, size, **connecting(source), config=self.config(size, minimum))
        return ClosingPool(pool.getconn, pool.putconn, pool.closeall)


class Twin(Ours):
    """A drop-in for psycopg2's or ksycopg2's pool."""

    kinds = frozenset(("psycopg2", "ksycopg2"))

    def __init__(self, kind: str, reset: str = "rollback") -> None:
        super().__init__(kind, reset)
        self.name = f"dbpool twin {kind}" + (", clean" if reset == "clean" else "")

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        minimum = size if minimum is None else minimum
        twins = importlib.import_module(f"dbpool.{source.kind}")
        made = getattr(twins, f"{self.kind}ConnectionPool")
        pool = made(minimum, size, **source.arguments, config=self.config(size, minimum))
        return ClosingPool(pool.getconn, pool.putconn, pool.closeall)


class Endpoint(Ours):
    """Many endpoints, of which one is used."""

    kinds = frozenset(("fake", "psycopg2"))

    def __init__(self) -> None:
        super().__init__("Endpoint")

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        def connect(endpoint: str) -> Any:
            return source.connect()

        connector: Any = connect
        if source.kind == "fake":
            connector = FakeConnector(connect)
        # Those of the endpoint that is used are open from the beginning; so is each endpoint's minconn.
        pool = dbpool.EndpointPool(0, size, connect=connector, config=self.config(size, 0))
        if minimum is None or minimum:
            for conn in [pool.getconn("server") for _ in range(size)]:
                pool.putconn(conn)
        return ClosingPool(partial(pool.getconn, "server"), pool.putconn, pool.closeall)


class Blocks(Ours):
    """The block that commits or rolls back and always puts back: entered and left."""

    kinds = frozenset(("fake",))

    def __init__(self) -> None:
        super().__init__("Threaded")
        self.name = "dbpool with-block"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        pool = dbpool.ThreadedConnectionPool(size, size, **connecting(source), config=self.config(size, size))
        return ClosingPool(pool.connection, through_block, pool.closeall)


def through_block(block: Any) -> None:
    """Enter and leave a block."""
    with block:
        pass


THREADED = Ours("Threaded")
ALL = (
    Twin("Threaded"),
    Twin("Threaded", "clean"),
    Twin("Simple"),
    Twin("Simple", "clean"),
    THREADED,
    Ours("Simple"),
    Ours("Persistent"),
    Endpoint(),
    Blocks(),
)
