"""The pools for asyncio: the same three calls, awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import dbpool
from benchmarks.common import AsyncFake, AsyncFakeConnector
from benchmarks.peers.base import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable


class AsyncPool(NamedTuple):
    """A pool that is open."""

    get: Callable[[], Awaitable[Any]]
    put: Callable[[Any], Awaitable[Any]]
    close: Callable[[], Awaitable[Any]]
    select: Callable[[Any], Awaitable[Any]]  # SELECT 1 on what get() returned


async def nothing(*args: Any) -> None:
    """Do nothing: the reset that no pool here does if no transaction is open."""


async def fetchval(conn: Any) -> None:
    """Ask an asyncpg connection."""
    await conn.fetchval("SELECT 1")


async def execute(conn: Any) -> None:
    """Ask a psycopg connection, and end its transaction."""
    cursor = await conn.execute("SELECT 1")
    await cursor.fetchone()
    await conn.commit()


async def with_cursor(conn: Any) -> None:
    """Ask an aiopg connection, which is in autocommit."""
    async with conn.cursor() as cursor:
        await cursor.execute("SELECT 1")
        await cursor.fetchone()


async def exec_driver_sql(conn: Any) -> None:
    """Ask SQLAlchemy's connection, and end its transaction."""
    (await conn.exec_driver_sql("SELECT 1")).scalar()
    await conn.commit()


class AsyncPeer:
    """One pool over one driver, used as its documentation says."""

    def __init__(self, name: str, kind: str, needs: tuple[str, ...], checks: str, make: Any) -> None:
        self.name, self.kind, self.needs, self.checks, self._make = name, kind, needs, checks, make

    async def open(self, arguments: dict[str, Any], size: int) -> AsyncPool:
        """Return a pool of *size* connections, all open."""
        pool: AsyncPool = await self._make(arguments, size)
        return pool


def for_asyncpg(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a DSN's words as asyncpg says them."""
    found = {name: value for name, value in arguments.items() if name != "dbname"}
    return {**found, "database": arguments["dbname"]}


async def ours_fake(_: Any, size: int) -> AsyncPool:
    pool = dbpool.AsyncConnectionPool(size, size, connect=AsyncFakeConnector(), config={"timeout": TIMEOUT})
    await pool.open()
    return AsyncPool(pool.getconn, pool.putconn, pool.close, nothing)


async def ours_endpoint(_: Any, size: int) -> AsyncPool:
    async def connect(endpoint: str) -> AsyncFake:
        return AsyncFake()

    pool = dbpool.AsyncEndpointPool(0, size, connect=AsyncFakeConnector(connect), config={"timeout": TIMEOUT})

    async def get() -> Any:
        return await pool.getconn("server")

    return AsyncPool(get, pool.putconn, pool.close, nothing)


async def ours_asyncpg(arguments: dict[str, Any], size: int) -> AsyncPool:
    import asyncpg

    words = for_asyncpg(arguments)
    pool = dbpool.AsyncConnectionPool(size, size, connect=asyncpg.connect, config={"timeout": TIMEOUT}, **words)
    await pool.open()
    return AsyncPool(pool.getconn, pool.putconn, pool.close, fetchval)


async def ours_psycopg(arguments: dict[str, Any], size: int) -> AsyncPool:
    import psycopg

    connect = psycopg.AsyncConnection.connect
    pool = dbpool.AsyncConnectionPool(size, size, connect=connect, config={"timeout": TIMEOUT}, **arguments)
    await pool.open()
    return AsyncPool(pool.getconn, pool.putconn, pool.close, execute)


async def psycopg_pool_of(size: int, select: Any, **words: Any) -> AsyncPool:
    import psycopg_pool

    pool = psycopg_pool.AsyncConnectionPool("", min_size=size, max_size=size, timeout=TIMEOUT, open=False, **words)
    await pool.open(wait=True)
    return AsyncPool(pool.getconn, pool.putconn, pool.close, select)


async def psycopg_pool_fake(_: Any, size: int) -> AsyncPool:
    return await psycopg_pool_of(size, nothing, connection_class=AsyncFake)


async def psycopg_pool_real(arguments: dict[str, Any], size: int) -> AsyncPool:
    return await psycopg_pool_of(size, execute, kwargs=arguments)


async def generic_of(size: int, create: Any, select: Any) -> AsyncPool:
    from generic_connection_pool.asyncio import BaseConnectionManager, ConnectionPool

    class Manager(BaseConnectionManager[str, Any]):
        async def create(self, endpoint: str) -> Any:
            return await create()

        async def dispose(self, endpoint: str, conn: Any) -> None:
            await conn.close()

    pool = ConnectionPool(Manager(), acquire_timeout=TIMEOUT, min_idle=size, max_size=size, total_max_size=size)

    async def get() -> Any:
        return await pool.acquire("server")

    async def put(conn: Any) -> None:
        await pool.release(conn, "server")

    return AsyncPool(get, put, pool.close, select)


async def generic_fake(_: Any, size: int) -> AsyncPool:
    return await generic_of(size, AsyncFake.connect, nothing)


async def generic_asyncpg(arguments: dict[str, Any], size: int) -> AsyncPool:
    import asyncpg

    async def create() -> Any:
        return await asyncpg.connect(**for_asyncpg(arguments))

    return await generic_of(size, create, fetchval)


async def asyncpg_pool(arguments: dict[str, Any], size: int) -> AsyncPool:
    import asyncpg

    pool = await asyncpg.create_pool(**for_asyncpg(arguments), min_size=size, max_size=size, reset=nothing)
    return AsyncPool(pool.acquire, pool.release, pool.close, fetchval)


async def aiopg_pool(arguments: dict[str, Any], size: int) -> AsyncPool:
    import aiopg

    pool = await aiopg.create_pool(**arguments, minsize=size, maxsize=size)

    async def close() -> None:
        pool.terminate()
        await pool.wait_closed()

    return AsyncPool(pool.acquire, pool.release, close, with_cursor)


async def sqlalchemy_asyncpg(arguments: dict[str, Any], size: int) -> AsyncPool:
    import asyncpg
    from sqlalchemy.ext.asyncio import create_async_engine

    async def create() -> Any:
        return await asyncpg.connect(**for_asyncpg(arguments))

    url = "postgresql+asyncpg://"
    engine = create_async_engine(url, async_creator=create, pool_size=size, max_overflow=0, pool_timeout=TIMEOUT)

    async def put(conn: Any) -> None:
        await conn.close()

    return AsyncPool(engine.connect, put, engine.dispose, exec_driver_sql)


OURS = (
    "get: is it closed, in a transaction, past its lifetime; put: rolls back if in a transaction, restores attributes"
)
FAKES = (
    AsyncPeer("dbpool Async", "fake", (), OURS, ours_fake),
    AsyncPeer("dbpool AsyncEndpoint", "fake", (), OURS, ours_endpoint),
    AsyncPeer(
        "psycopg_pool async", "fake", ("psycopg", "psycopg_pool"),
        "get: nothing; put: rolls back if in a transaction, past its lifetime", psycopg_pool_fake,
    ),
    AsyncPeer("generic-connection-pool async", "fake", ("generic_connection_pool",), "get, put: nothing", generic_fake),
)  # fmt: skip
REAL = (
    AsyncPeer("dbpool Async (asyncpg)", "postgres", ("asyncpg",), OURS, ours_asyncpg),
    AsyncPeer("dbpool Async (psycopg)", "postgres", ("psycopg",), OURS, ours_psycopg),
    AsyncPeer("asyncpg's pool", "postgres", ("asyncpg",), "get: is it closed; put: nothing (reset off)", asyncpg_pool),
    AsyncPeer(
        "psycopg_pool async (psycopg)", "postgres", ("psycopg", "psycopg_pool"),
        "get: nothing; put: rolls back if in a transaction, past its lifetime", psycopg_pool_real,
    ),
    AsyncPeer("aiopg", "postgres", ("aiopg",), "get: is it closed; put: is it in a transaction", aiopg_pool),
    AsyncPeer(
        "SQLAlchemy async (asyncpg)", "postgres", ("sqlalchemy", "greenlet", "asyncpg"),
        "get: nothing; put: the driver's rollback(), always", sqlalchemy_asyncpg,
    ),
    AsyncPeer(
        "generic-connection-pool async (asyncpg)", "postgres", ("generic_connection_pool", "asyncpg"),
        "get, put: nothing", generic_asyncpg,
    ),
)  # fmt: skip
ALL = (*FAKES, *REAL)
