"""Drivers: how tasks speak with psycopg 3 and asyncpg, and how their connections become known to the census."""

from __future__ import annotations

import time
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Callable

from servers import Missing

from .load import READ, TRANSACTION_STATUS, WRITE

if TYPE_CHECKING:
    from .traced import Census


class Driver:
    """One of them."""

    module = ""
    error: Any  # what it raises in use, and the pool
    _dial: Any  # its connect ...
    _told: dict[str, Any]  # ... and further arguments of it

    def __init__(self) -> None:
        try:
            self._driver: Any = import_module(self.module)
        except ImportError as exc:
            raise Missing(f"{self.module}: {exc}") from exc

    def connect(self, census: Census) -> Callable[..., Any]:
        """Return its connect, of which the census is told; a pool takes it for the driver's own."""
        census.is_closed = self.is_closed

        @wraps(self._dial)
        async def connect(*args: Any, **kwargs: Any) -> Any:
            serial = next(census.numbers)
            census.connecting[serial] = began = time.monotonic()
            try:
                conn = await self._dial(*args, **self._told, **kwargs)
                conn.serial, conn.pid = serial, self._pid(conn)
                census.note_open(conn, began)
            except BaseException:
                census.in_vain.append(time.monotonic())
                raise
            finally:
                census.connecting.pop(serial, None)
            return conn

        return connect

    def dsn(self, way: str, name: str) -> str:
        """Return how to connect to the server that *way*, libpq's DSN, leads to."""
        raise NotImplementedError

    def _pid(self, conn: Any) -> int:
        raise NotImplementedError

    def is_closed(self, conn: Any) -> bool:
        raise NotImplementedError

    def left(self, conn: Any) -> str | None:
        """Return what the last holder has left behind."""
        raise NotImplementedError

    async def write(self, conn: Any, token: str) -> None:
        """Write *token* in a transaction."""
        raise NotImplementedError

    async def read(self, conn: Any, token: str) -> list[Any]:
        """Return what is written there."""
        raise NotImplementedError

    async def commit(self, conn: Any) -> None:
        raise NotImplementedError

    async def fail(self, conn: Any) -> None:
        """Have a statement fail."""
        raise NotImplementedError

    async def leave_autocommit(self, conn: Any) -> None:
        """Leave behind what the pool is to set back."""


class Psycopg(Driver):
    """psycopg 3's AsyncConnection."""

    module = "psycopg"

    def __init__(self) -> None:
        super().__init__()
        self._dial, self._told = self._driver.AsyncConnection.connect, {}
        self.error = self._driver.Error

    def dsn(self, way: str, name: str) -> str:
        quiet = "options='-c client_min_messages=error'"
        return f"{way} application_name={name} sslmode=disable gssencmode=disable {quiet}"

    def _pid(self, conn: Any) -> int:
        return int(conn.info.backend_pid)

    def is_closed(self, conn: Any) -> bool:
        return bool(conn.closed)

    def left(self, conn: Any) -> str | None:
        status = TRANSACTION_STATUS.get(int(conn.info.transaction_status), "")
        return status or ("in autocommit mode" if not conn.closed and conn.autocommit else None)

    async def write(self, conn: Any, token: str) -> None:
        await conn.execute(WRITE, (token,))

    async def read(self, conn: Any, token: str) -> list[Any]:
        cursor = await conn.execute(READ, (token,))
        return list(await cursor.fetchone() or ())

    async def commit(self, conn: Any) -> None:
        await conn.commit()

    async def fail(self, conn: Any) -> None:
        try:
            await conn.execute("SELECT 1 / 0")
        except self._driver.errors.DivisionByZero:
            pass

    async def leave_autocommit(self, conn: Any) -> None:
        await conn.set_autocommit(True)


class Asyncpg(Driver):
    """asyncpg: each statement is its own transaction, unless one was begun."""

    module = "asyncpg"

    def __init__(self) -> None:
        super().__init__()
        self._dial = self._driver.connect
        self._told = {"connection_class": type("Known", (self._driver.Connection,), {})}  # takes further attributes
        # InternalClientError: of a backend that has said farewell, and whose end has not been read yet.
        driver = self._driver
        self.error = driver.PostgresError, driver.InterfaceError, driver.InternalClientError, OSError

    def dsn(self, way: str, name: str) -> str:
        words = {word.partition("=")[0]: word.partition("=")[2] for word in way.split()}
        where = "&".join(f"{word}={words[word]}" for word in ("host", "port", "user", "password") if word in words)
        told = f"application_name={name}&client_min_messages=error&sslmode=disable"
        return f"postgresql:///{words['dbname']}?{where}&{told}"

    def _pid(self, conn: Any) -> int:
        return int(conn.get_server_pid())

    def is_closed(self, conn: Any) -> bool:
        return bool(conn.is_closed())

    def left(self, conn: Any) -> str | None:
        return "in a transaction" if not conn.is_closed() and conn.is_in_transaction() else None

    async def write(self, conn: Any, token: str) -> None:
        await conn.execute("BEGIN")
        await conn.execute(WRITE.replace("%s", "$1"), token)

    async def read(self, conn: Any, token: str) -> list[Any]:
        return list(await conn.fetchrow(READ.replace("%s", "$1"), token) or ())

    async def commit(self, conn: Any) -> None:
        await conn.execute("COMMIT")

    async def fail(self, conn: Any) -> None:
        try:
            await conn.execute("SELECT 1 / 0")
        except self._driver.DivisionByZeroError:
            pass
