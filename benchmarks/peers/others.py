"""SQLAlchemy's pool, DBUtils, generic-connection-pool, pooling, peewee's and mysql-connector's."""

from __future__ import annotations

from functools import partial
from operator import attrgetter, methodcaller
from typing import Any

from benchmarks.peers.base import TIMEOUT, ClosingPool, Peer, Source

_closed = attrgetter("closed")
ANY = frozenset(("fake", "psycopg2", "ksycopg2", "sqlite", "mysql"))


def in_transaction(kind: str) -> Any:
    """Return how a driver tells, without a round trip, that a transaction is open."""
    if kind in ("psycopg2", "ksycopg2"):
        return methodcaller("get_transaction_status")
    return attrgetter("status") if kind == "fake" else attrgetter("in_transaction")


class SQLAlchemyPool(Peer):
    """QueuePool by itself, as its documentation shows it without an engine."""

    name = "SQLAlchemy QueuePool"
    needs = ("sqlalchemy",)
    kinds = ANY
    checks = "get: nothing; put: the driver's rollback(), always"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        from sqlalchemy.pool import QueuePool

        pool = QueuePool(source.connect, pool_size=size, max_overflow=0, timeout=TIMEOUT)
        if minimum is None or minimum:
            fill(pool.connect, methodcaller("close"), size)
        return ClosingPool(pool.connect, methodcaller("close"), pool.dispose)


def fill(get: Any, put: Any, size: int) -> None:
    """Have a pool that opens on demand open all its connections."""
    for conn in [get() for _ in range(size)]:
        put(conn)


class DBUtilsPool(Peer):
    """PooledDB that waits; its own ping is off, for psycopg2's connections have none."""

    name = "DBUtils PooledDB"
    needs = ("dbutils",)
    kinds = ANY
    checks = "get: nothing; put: the driver's rollback(), always"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        from dbutils.pooled_db import PooledDB

        minimum = size if minimum is None else minimum
        creator: Any = partial(source.connect)
        creator.threadsafety = 2
        pool = PooledDB(
            creator,
            mincached=minimum,
            maxcached=size,
            maxconnections=size,
            blocking=True,
            ping=0,
            failures=Exception,
        )
        return ClosingPool(partial(pool.connection, False), methodcaller("close"), pool.close)


class GenericPool(Peer):
    """generic-connection-pool with a manager that looks without a round trip; its own for psycopg2 takes one."""

    name = "generic-connection-pool"
    needs = ("generic_connection_pool",)
    kinds = ANY
    checks = "get: is it closed; put: rolls back if in a transaction"
    END = "server"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        from generic_connection_pool.threading import BaseConnectionManager, ConnectionPool

        busy = in_transaction(source.kind)
        closed = _closed if source.kind in ("fake", "psycopg2", "ksycopg2") else None

        class Manager(BaseConnectionManager[str, Any]):
            def create(self, endpoint: str, timeout: float | None = None) -> Any:
                return source.connect()

            def dispose(self, endpoint: str, conn: Any, timeout: float | None = None) -> None:
                conn.close()

            def check_aliveness(self, endpoint: str, conn: Any, timeout: float | None = None) -> bool:
                return closed is None or not closed(conn)

            def on_release(self, endpoint: str, conn: Any) -> None:
                if busy(conn):
                    conn.rollback()

        pool = ConnectionPool(Manager(), acquire_timeout=TIMEOUT, min_idle=size, max_size=size, total_max_size=size)
        get, release = partial(pool.acquire, self.END), pool.release

        def put(conn: Any) -> None:
            release(conn, "server")

        if minimum is None or minimum:
            fill(get, put, size)
        return ClosingPool(get, put, pool.close)


class PoolingPool(Peer):
    """`pooling`: polls while it waits; a connection is given back when its proxy is left or dropped.

    Its proxies keep their state on the connection itself, so that the one that is dropped late gives back what another
    thread has by then.
    """

    name = "pooling"
    needs = ("pooling",)
    kinds = frozenset(("fake", "psycopg2", "sqlite"))
    exclusive = False
    checks = "get: nothing (ping_test off); put: nothing"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        from pooling import Pool

        pool = Pool(size, source.connect_with_dict)
        pool.ping_test = False  # psycopg2's connections have no ping()
        put = methodcaller("__exit__", None, None, None)
        get = partial(pool.get_session, TIMEOUT)
        if minimum is None or minimum:
            fill(get, put, size)
        return ClosingPool(get, put, pool.destory_all_sessions)


class PeeweePool(Peer):
    """PooledDatabase: a connection belongs to the thread that opened it, which asks for it by connection()."""

    name = "peewee PooledDatabase"
    needs = ("peewee", "playhouse")
    kinds = frozenset(("fake", "psycopg2", "sqlite"))
    fills = False
    checks = "get: is it closed (its Postgresql and Sqlite classes); put: rolls back if in a transaction"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        database = self._database(source, size)
        connect, connection, close = database.connect, database.connection, database.close

        def get() -> Any:
            connect()
            return connection()

        def put(conn: Any) -> None:
            close()

        return ClosingPool(get, put, database.close_all)

    def _database(self, source: Source, size: int) -> Any:
        from peewee import Database
        from playhouse.pool import PooledDatabase, PooledPostgresqlDatabase, PooledSqliteDatabase

        words: dict[str, Any] = {"max_connections": size, "timeout": TIMEOUT}
        if source.kind == "psycopg2":
            name = source.arguments["dbname"]
            return PooledPostgresqlDatabase(name, **words, **{**source.arguments, "dbname": None})
        if source.kind == "sqlite":
            return PooledSqliteDatabase(source.arguments["database"], **words, check_same_thread=False)

        class Opening(Database):
            def _connect(self) -> Any:
                return source.connect()

            def _close(self, conn: Any) -> None:
                conn.close()

        class FakeDatabase(PooledDatabase, Opening):
            def _can_reuse(self, conn: Any) -> bool:
                if conn.status:
                    conn.rollback()
                return True

        return FakeDatabase("fake", **words)


class MySQLPool(Peer):
    """mysql-connector's own: at most 32 connections, nobody waits, and it pings at get."""

    name = "mysql.connector.pooling"
    needs = ("mysql.connector",)
    kinds = frozenset(("mysql",))
    waits = False
    most = 32
    checks = "get: a ping, always; put: nothing (pool_reset_session off)"

    def open(self, source: Source, size: int, minimum: int | None = None) -> ClosingPool:
        from mysql.connector.pooling import MySQLConnectionPool

        pool = MySQLConnectionPool(size, pool_reset_session=False, **source.arguments)
        return ClosingPool(pool.get_connection, methodcaller("close"), pool._remove_connections)


ALL = (SQLAlchemyPool(), DBUtilsPool(), GenericPool(), PoolingPool(), PeeweePool(), MySQLPool())
