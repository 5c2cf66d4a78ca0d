"""Gives each asynchronous driver, and each other one in threads, the same face."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from servers import import_or_skip

from dbpool import AsyncConnectionPool
from drivers.conftest import name_socket_for_kingbase


class Face:
    """A driver: how a pool of it is made, and how its connections are asked."""

    module = ""
    begin: str | None = None  # the statement without which no transaction begins
    sleep = "SELECT pg_sleep(10)"
    attribute: tuple[str, Any] | None = None  # something that reset="clean" restores, and another value
    threaded = False
    fresh: tuple[str, ...] = ("DROP TABLE IF EXISTS note", "CREATE TABLE note (body TEXT)")

    def __init__(self, **keywords: Any) -> None:
        self.driver = import_or_skip(self.module)
        self.arguments: tuple[Any, ...] = ()
        self.keywords = keywords

    @property
    def connect(self) -> Any:
        return self.driver.connect

    @property
    def error(self) -> Any:
        """What the errors of its pools are, too."""
        return self.driver.Error

    def pool(self, minconn: int = 0, maxconn: int = 2, **options: Any) -> Any:
        config = {"timeout": 5, "detect_deadlock": False, **options}
        return AsyncConnectionPool(
            minconn, maxconn, *self.arguments, connect=self.connect, config=config, **self.keywords
        )

    async def ask(self, conn: Any, query: str) -> Any:
        """Return the first value of the first row."""
        cursor = await conn.execute(query)
        (value,) = await cursor.fetchone()
        await cursor.close()
        return value

    async def tell(self, conn: Any, *statements: str) -> None:
        """Execute statements in a transaction."""
        if self.begin is not None and not self.in_transaction(conn):
            await conn.execute(self.begin)
        for statement in statements:
            await conn.execute(statement)

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.info.transaction_status)

    def pid(self, conn: Any) -> int:
        return int(conn.info.backend_pid)

    async def commit(self, conn: Any) -> None:
        await conn.commit()


class Psycopg(Face):
    """psycopg 3's AsyncConnection."""

    module = "psycopg"
    attribute = ("row_factory", lambda cursor: lambda values: [*values])

    def __init__(self, dsn: str) -> None:
        super().__init__(application_name="awaited")
        self.arguments = (dsn,)

    @property
    def connect(self) -> Any:
        return self.driver.AsyncConnection.connect


class Asyncpg(Face):
    """asyncpg: each statement is its own transaction, unless one was begun."""

    module = "asyncpg"
    begin = "BEGIN"

    def __init__(self, dsn: str) -> None:
        super().__init__(**words_of(dsn), server_settings={"application_name": "awaited"})

    @property
    def error(self) -> Any:
        return self.driver.InterfaceError

    async def ask(self, conn: Any, query: str) -> Any:
        return await conn.fetchval(query)

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.is_in_transaction())

    def pid(self, conn: Any) -> int:
        return int(conn.get_server_pid())

    async def commit(self, conn: Any) -> None:
        await conn.execute("COMMIT")


def words_of(dsn: str) -> dict[str, Any]:
    """Return a libpq DSN as asyncpg's keywords."""
    words = {word.partition("=")[0]: word.partition("=")[2].strip("'") for word in dsn.split()}
    words["database"] = words.pop("dbname", "postgres")
    return {**words, "port": int(words.get("port", 5432))}


class Aiosqlite(Face):
    """aiosqlite over a file."""

    module = "aiosqlite"
    attribute = ("row_factory", sqlite3.Row)
    # About ten seconds, in which it can be interrupted.
    sleep = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1e8) SELECT count(*) FROM n"

    def __init__(self, path: str) -> None:
        super().__init__(timeout=30)
        self.arguments = (path,)

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.in_transaction)


class Aiomysql(Face):
    """aiomysql with a MariaDB."""

    module = "aiomysql"
    sleep = "SELECT sleep(10)"
    fresh = ("CREATE OR REPLACE TABLE note (body TEXT)",)  # it warns of a table that is not there

    async def ask(self, conn: Any, query: str) -> Any:
        async with conn.cursor() as cursor:
            await cursor.execute(query)
            (value,) = await cursor.fetchone()
            return value

    async def tell(self, conn: Any, *statements: str) -> None:
        async with conn.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.get_transaction_status())

    def pid(self, conn: Any) -> int:
        return int(conn.thread_id())


class Anybodys:
    """A connection as any asynchronous driver might have it: DB-API's methods, awaited."""

    def __init__(self, path: str) -> None:
        self._raw = sqlite3.connect(path, timeout=30)

    async def cursor(self) -> Any:
        return AnybodysCursor(self._raw.cursor())

    async def commit(self) -> None:
        await asyncio.sleep(0)
        self._raw.commit()

    async def rollback(self) -> None:
        await asyncio.sleep(0)
        self._raw.rollback()

    async def close(self) -> None:
        self._raw.close()


class AnybodysCursor:
    """Its cursor."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    async def execute(self, statement: str) -> None:
        self._raw.execute(statement)

    async def fetchall(self) -> Any:
        return self._raw.fetchall()

    async def close(self) -> None:
        self._raw.close()


class Generic(Face):
    """A driver that nobody knows, opened by an asynchronous function."""

    module = "sqlite3"

    def __init__(self, path: str) -> None:
        super().__init__()
        self.arguments = (path,)

    @property
    def connect(self) -> Any:
        async def connect(path: str) -> Anybodys:
            await asyncio.sleep(0)
            return Anybodys(path)

        return connect

    @property
    def error(self) -> Any:
        return Exception

    async def ask(self, conn: Any, query: str) -> Any:
        cursor = await conn.cursor()
        await cursor.execute(query)
        [(value,)] = await cursor.fetchall()
        return value

    async def tell(self, conn: Any, *statements: str) -> None:
        cursor = await conn.cursor()
        for statement in statements:
            await cursor.execute(statement)

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn._raw.in_transaction)


class InThreads(Face):
    """psycopg2, whose calls are made in threads."""

    module = "psycopg2"
    attribute = ("autocommit", True)
    threaded = True

    def __init__(self, dsn: str) -> None:
        super().__init__(application_name="awaited")
        self.arguments = (dsn,)

    @property
    def connect(self) -> Any:
        return self.driver

    async def ask(self, conn: Any, query: str) -> Any:
        def ask() -> Any:
            cursor = conn.cursor()
            cursor.execute(query)
            return cursor.fetchone()[0]

        return await asyncio.to_thread(ask)

    async def tell(self, conn: Any, *statements: str) -> None:
        def tell() -> None:
            cursor = conn.cursor()
            for statement in statements:
                cursor.execute(statement)

        await asyncio.to_thread(tell)

    async def commit(self, conn: Any) -> None:
        await asyncio.to_thread(conn.commit)


class KingbaseInThreads(InThreads):
    """ksycopg2, KingbaseES's fork of it."""

    module = "ksycopg2"

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        name_socket_for_kingbase(dsn)


class SqliteInThreads(InThreads):
    """sqlite3."""

    module = "sqlite3"
    attribute = ("row_factory", sqlite3.Row)

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.keywords = {"timeout": 30}

    def in_transaction(self, conn: Any) -> bool:
        return bool(conn.in_transaction)


FILES = {"aiosqlite": Aiosqlite, "generic": Generic, "sqlite3": SqliteInThreads}
SERVERS = {"psycopg": Psycopg, "asyncpg": Asyncpg, "psycopg2": InThreads, "ksycopg2": KingbaseInThreads}
