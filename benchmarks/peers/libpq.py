"""The pools of PostgreSQL's drivers: psycopg2.pool and ksycopg2.pool, bare and behind a semaphore; psycopg_pool."""

from __future__ import annotations

import importlib
import threading
from typing import Any

from benchmarks.common import Fake
from benchmarks.peers.base import TIMEOUT, ClosingPool, Peer, Source
from benchmarks.peers.ours import through_block


def _on_fakes(made: Any) -> Any:
    """Return the pool class over connections that are given: its own _connect, but for whom it asks."""

    class OnFakes(made):
        def _connect(self, key: Any = None) -> Any:
            conn = self._kwargs["connect"]()
            if key is None:
                self._pool.append(conn)
            else:
                self._used[key] = conn
                self._rused[id(conn)] = key
            return conn

    return OnFakes


class Psycopg2Pool(Peer):
    """It keeps only minconn idle, so minconn is maxconn, but where it begins cold."""

    needs = ("psycopg2",)
    kinds = frozenset(("fake", "psycopg2", "ksycopg2"))
    waits = False
    checks = "get: nothing; put: is it closed; rolls back if in a transaction"

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = f"psycopg2.pool {kind}"
        self.threads = kind == "Threaded"

    def make(self, source: Source, size: int, minimum: int | None) -> Any:
        """Return the pool itself."""
        minimum = size if minimum is None else minimum
        if source.kind == "fake":
            made = _on_fakes(getattr(importlib.import_module("psycopg2.pool"), f"{self.kind}ConnectionPool"))
            return made(minimum, size, connect=source.connect)
        made = getattr(importlib.import_module(f"{source.kind}.pool"), f"{self.kind}ConnectionPool")
        return made(minimum, size, **source.arguments)

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        pool = self.make(source, size, minimum)
        return ClosingPool(pool.getconn, pool.putconn, pool.closeall)


class Psycopg2PoolAndSemaphore(Psycopg2Pool):
    """As people have it wait."""

    waits = True

    def __init__(self) -> None:
        super().__init__("Threaded")
        self.name = "psycopg2.pool + Semaphore"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        pool, free = self.make(source, size, minimum), threading.Semaphore(size)

        def get() -> Any:
            free.acquire()
            try:
                return pool.getconn()
            except BaseException:
                free.release()
                raise

        def put(conn: Any) -> None:
            try:
                pool.putconn(conn)
            finally:
                free.release()

        return ClosingPool(get, put, pool.closeall)


class PsycopgPool(Peer):
    """It speaks psycopg, not psycopg2."""

    name = "psycopg_pool"
    needs = ("psycopg", "psycopg_pool")
    kinds = frozenset(("fake", "psycopg"))
    checks = "get: nothing; put: rolls back if in a transaction, past its lifetime"

    def make(self, source: Source, size: int, minimum: int | None) -> Any:
        """Return the pool itself."""
        import psycopg
        import psycopg_pool

        minimum = size if minimum is None else minimum
        if source.kind == "fake":
            words: dict[str, Any] = {"connection_class": _class_for(source)}
        else:
            words = {"connection_class": psycopg.Connection, "kwargs": source.arguments}
        pool = psycopg_pool.ConnectionPool("", min_size=minimum, max_size=size, timeout=TIMEOUT, open=True, **words)
        if minimum:
            pool.wait()
        return pool

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        pool = self.make(source, size, minimum)
        return ClosingPool(pool.getconn, pool.putconn, pool.close)


def _class_for(source: Source) -> Any:
    class FromSource(Fake):
        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Any:
            made = source.connect()
            made._pool = None
            return made

    return FromSource


class PsycopgPoolBlocks(PsycopgPool):
    """Its block."""

    name = "psycopg_pool with-block"
    kinds = frozenset(("fake",))

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        pool = self.make(source, size, minimum)
        return ClosingPool(pool.connection, through_block, pool.close)


ALL = (
    Psycopg2Pool("Threaded"),
    Psycopg2Pool("Simple"),
    Psycopg2PoolAndSemaphore(),
    PsycopgPool(),
    PsycopgPoolBlocks(),
)
