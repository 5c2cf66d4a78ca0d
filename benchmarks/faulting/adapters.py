"""The pools that are probed, each used as its documentation recommends, in the same words: get, put, close.

All have the same maxconn and the same timeout, as many idle connections as there may be, and the best documented
check that a connection is alive. DBUtils and psycopg2.pool know no timeout: the one waits for ever, the other never.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import generic_connection_pool.contrib.psycopg2
import generic_connection_pool.threading
import psycopg
import psycopg2.extensions
import psycopg2.pool
import psycopg_pool
import sqlalchemy
from dbutils.pooled_db import PooledDB

import dbpool

HOUR = 3600.0
FORGET = "DISCARD ALL"  # PostgreSQL's word for all that a session knows


@dataclass(frozen=True)
class Wish:
    """What a probe wants of a pool."""

    dsn: str
    maxconn: int
    minconn: int
    timeout: float = 10.0
    check: bool = True  # the best documented check of idle connections
    always: bool = False  # ... at every get; of consequence for ours only, the others know nothing else
    forget: bool = False  # the best documented way to have sessions forget what they were told
    before: Callable[[], object] | None = None  # called before each connect
    hook: Callable[[Any], object] | None = None  # called with each new connection


def dialing(wish: Wish) -> dict[str, Any]:
    """Return what psycopg2.connect() is given beside the DSN to call before(), and hook() where the pool has none."""
    if wish.before is None and wish.hook is None:
        return {}

    class Dialing(psycopg2.extensions.connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if wish.before is not None:
                wish.before()
            super().__init__(*args, **kwargs)
            if wish.hook is not None:
                wish.hook(self)

    return {"connection_factory": Dialing}


class Pool:
    """A pool, in the words of the probes."""

    name: str
    waits = True  # who finds none waits for one to come back
    checks = True  # can be told to look whether a connection is alive
    forgets = True  # can be told to have sessions forget

    def __init__(self, dsn: str, maxconn: int, minconn: int | None = None, **wishes: Any) -> None:
        self.wish = Wish(dsn, maxconn, maxconn if minconn is None else minconn, **wishes)
        self.pool: Any = self.make(self.wish)

    def make(self, wish: Wish) -> Any:
        """Return the pool itself."""
        raise NotImplementedError

    def get(self) -> Any:
        """Check a connection out."""
        raise NotImplementedError

    def put(self, conn: Any) -> None:
        """Give it back."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the pool."""
        self.pool.close()

    def raw(self, conn: Any) -> Any:
        """Return the driver's own connection."""
        return conn

    def pid(self, conn: Any) -> int:
        """Return the process of its backend; the driver knows it."""
        return int(self.raw(conn).info.backend_pid)

    def fill(self, count: int | None = None) -> list[int]:
        """Have *count* connections idle, all of them by default; return their backends' processes."""
        conns = [self.get() for _ in range(self.wish.maxconn if count is None else count)]
        pids = [self.pid(conn) for conn in conns]
        while conns:
            self.put(conns.pop())
        return pids


class Psycopg2Pool(Pool):
    """It keeps only minconn idle, so minconn is maxconn."""

    name = "psycopg2.pool"
    waits = checks = forgets = False

    def make(self, wish: Wish) -> Any:
        return psycopg2.pool.ThreadedConnectionPool(wish.minconn, wish.maxconn, wish.dsn, **dialing(wish))

    def get(self) -> Any:
        return self.pool.getconn()

    def put(self, conn: Any) -> None:
        self.pool.putconn(conn)

    def close(self) -> None:
        self.pool.closeall()


class PsycopgPool(Pool):
    """Its check= and reset= are the callbacks of its documentation. It speaks psycopg, not psycopg2."""

    name = "psycopg_pool"

    def make(self, wish: Wish) -> Any:
        pool = psycopg_pool.ConnectionPool(
            wish.dsn,
            connection_class=self._class_for(wish.before),
            min_size=wish.minconn,
            max_size=wish.maxconn,
            timeout=wish.timeout,
            check=psycopg_pool.ConnectionPool.check_connection if wish.check else None,
            configure=wish.hook,
            reset=self._forget if wish.forget else None,
            open=True,
        )
        if wish.minconn:
            pool.wait()
        return pool

    @staticmethod
    def _class_for(before: Callable[[], object] | None) -> Any:
        if before is None:
            return psycopg.Connection

        class Dialing(psycopg.Connection):  # type: ignore[type-arg]
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:
                before()
                return super().connect(*args, **kwargs)

        return Dialing

    @staticmethod
    def _forget(conn: Any) -> None:
        conn.autocommit = True
        conn.execute(FORGET)
        conn.autocommit = False

    def get(self) -> Any:
        return self.pool.getconn()

    def put(self, conn: Any) -> None:
        self.pool.putconn(conn)


class SQLAlchemyPool(Pool):
    """An engine's QueuePool with pool_pre_ping, pool_recycle, and the "reset" event for what sessions forget."""

    name = "SQLAlchemy"

    def make(self, wish: Wish) -> Any:
        options = dialing(Wish(wish.dsn, wish.maxconn, wish.minconn, before=wish.before))
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg2://",
            creator=lambda: psycopg2.connect(wish.dsn, **options),
            pool_size=wish.maxconn,
            max_overflow=0,
            pool_timeout=wish.timeout,
            pool_pre_ping=wish.check,
            pool_recycle=HOUR,
        )
        if wish.hook is not None:
            hook = wish.hook
            sqlalchemy.event.listen(engine, "connect", lambda conn, _: hook(conn))
        if wish.forget:
            sqlalchemy.event.listen(engine, "reset", self._forget)
        return engine

    @staticmethod
    def _forget(conn: Any, _: Any, reset_state: Any) -> None:
        if not reset_state.terminate_only:
            conn.rollback()
            conn.autocommit = True
            conn.cursor().execute(FORGET)
            conn.autocommit = False

    def get(self) -> Any:
        return self.pool.raw_connection()

    def put(self, conn: Any) -> None:
        conn.close()

    def close(self) -> None:
        self.pool.dispose()

    def raw(self, conn: Any) -> Any:
        return conn.dbapi_connection


class DBUtilsPool(Pool):
    """ping= is a statement, for psycopg2's connections have no ping(). Below a second of timeout it does not wait."""

    name = "DBUtils"
    forgets = False

    def make(self, wish: Wish) -> Any:
        return PooledDB(
            psycopg2,
            maxconnections=wish.maxconn,
            blocking=wish.timeout >= 1,
            ping="select 1" if wish.check else 0,
            dsn=wish.dsn,
            **dialing(wish),
        )

    def get(self) -> Any:
        return self.pool.connection()

    def put(self, conn: Any) -> None:
        conn.close()

    def raw(self, conn: Any) -> Any:
        return conn.dbapi_connection


class GenericPool(Pool):
    """generic-connection-pool with its own manager for psycopg2, which always checks."""

    name = "generic-connection-pool"
    END = "server"

    def make(self, wish: Wish) -> Any:
        class Manager(generic_connection_pool.contrib.psycopg2.DbConnectionManager):
            def on_release(self, endpoint: Any, conn: Any) -> None:
                super().on_release(endpoint, conn)
                if wish.forget:
                    conn.autocommit = True
                    conn.cursor().execute(FORGET)
                    conn.autocommit = False

        given = {**psycopg2.extensions.parse_dsn(wish.dsn), **dialing(wish)}
        manager = Manager if wish.forget else generic_connection_pool.contrib.psycopg2.DbConnectionManager
        return generic_connection_pool.threading.ConnectionPool(
            manager({self.END: given}),
            acquire_timeout=wish.timeout,
            min_idle=wish.maxconn,
            max_size=wish.maxconn,
            max_lifetime=HOUR,
        )

    def get(self) -> Any:
        return self.pool.acquire(self.END)

    def put(self, conn: Any) -> None:
        self.pool.release(conn, self.END)


class Ours(Pool):
    """dbpool with its defaults, but for what a probe is about."""

    name = "dbpool"

    def make(self, wish: Wish) -> Any:
        config: dict[str, Any] = {"timeout": wish.timeout, "on_connect": wish.hook}
        if wish.always:
            config["ping_after"] = 0
        if wish.forget:
            config["reset"] = "session"
        options = dialing(Wish(wish.dsn, wish.maxconn, wish.minconn, before=wish.before))
        return dbpool.ThreadedConnectionPool(wish.minconn, wish.maxconn, wish.dsn, config=config, **options)

    def get(self) -> Any:
        return self.pool.getconn()

    def put(self, conn: Any) -> None:
        self.pool.putconn(conn)


OTHERS = (Psycopg2Pool, PsycopgPool, SQLAlchemyPool, DBUtilsPool, GenericPool)
ALL = (*OTHERS, Ours)
