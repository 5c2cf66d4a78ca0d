"""The asynchronous PostgreSQL drivers: psycopg 3 and asyncpg."""
# mypy: disable-error-code="override"
# (What returns a value there returns an awaitable here.)

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from typing import Any, Callable

from dbpool.connectors.aio import AsyncConnector, free
from dbpool.connectors.libpq import ACTIVE, IDLE, INTRANS, UNKNOWN, WRITABLE_QUERY, Psycopg3Connector

GRACE = 100  # turns of the loop, within which a task hears that its connection was shut down


class Psycopg3AsyncConnector(AsyncConnector):
    """psycopg 3's AsyncConnection: the looks and the limits of the synchronous one, the rest awaited."""

    levels = Psycopg3Connector.levels
    attributes = Psycopg3Connector.attributes
    hangs = False
    setters = ("autocommit", "isolation_level", "read_only", "deferrable")  # methods: they may have to wait

    def __init__(self) -> None:
        super().__init__()
        self._libpq = Psycopg3Connector()
        self.error = self._libpq.error
        for look in (
            "unfit", "dirty", "status", "gone", "is_lost", "is_busy", "is_read_only", "refusal", "adapt", "backend_pid",
        ):  # fmt: skip
            setattr(self, look, getattr(self._libpq, look))
        self._cursor: Any = sys.modules["psycopg"].AsyncCursor  # type: ignore[attr-defined,unused-ignore]

    async def reset(self, conn: Any, level: str) -> Any:
        status = self._libpq.status(conn)
        if status in (ACTIVE, UNKNOWN):
            raise self.error("it is closed, or still busy with a statement")  # type: ignore[misc]
        if status == INTRANS and level == "commit":
            await conn.commit()
        elif status != IDLE and level != "none":
            await conn.rollback()
        if level == "session":
            await conn.set_autocommit(True)  # DISCARD ALL refuses to run in a transaction
            await conn.execute("DISCARD ALL")
        return None

    async def close(self, conn: Any) -> None:
        if self.is_busy(conn):  # closed under the task that waits for its answer, it would leave that task waiting
            super().abandon(conn)
            for _ in range(GRACE):
                if not self.is_busy(conn):
                    break
                await asyncio.sleep(0.001)
        await conn.close()

    def abandon(self, conn: Any) -> None:
        super().abandon(conn)
        if not self.is_busy(conn):
            conn.pgconn.finish()

    async def ping(self, conn: Any) -> None:
        await self._ask(conn, "SELECT 1")

    async def is_writable(self, conn: Any) -> bool | None:
        return bool(await self._ask(conn, WRITABLE_QUERY) == "off")

    async def _ask(self, conn: Any, query: str) -> Any:
        """Run *query* in no transaction, whatever the connection's cursors are."""
        alone = not conn.autocommit
        if alone:
            await conn.set_autocommit(True)  # no round trip
        try:
            cursor = self._cursor(conn, row_factory=_plain_row)
            await cursor.execute(query, prepare=False)
            return (await cursor.fetchone())[0]
        finally:
            if alone and not conn.closed:
                await conn.set_autocommit(False)

    async def commit(self, conn: Any) -> None:
        await conn.commit()

    async def rollback(self, conn: Any) -> None:
        await conn.rollback()

    async def set_attribute(self, conn: Any, name: str, value: Any) -> None:
        if name in self.setters:
            await getattr(conn, f"set_{name}")(value)
        else:
            setattr(conn, name, value)


def _plain_row(cursor: Any) -> Callable[[Any], Any]:
    return tuple


class AsyncpgConnector(AsyncConnector):
    """asyncpg. Outside reset="session" its prepared statements stay: nothing is asked of the server at a return."""

    levels = frozenset(("none", "rollback", "commit", "clean", "session"))
    hangs = False

    def __init__(self) -> None:
        super().__init__()
        driver: Any = sys.modules["asyncpg"]
        self.error = driver.InterfaceError
        self._permanent = (
            driver.InvalidAuthorizationSpecificationError,
            driver.InvalidCatalogNameError,
            ssl.SSLCertVerificationError,
        )
        self._passing = (
            driver.CannotConnectNowError,
            driver.PostgresConnectionError,
            driver.TargetServerAttributeNotMatched,
            driver.TooManyConnectionsError,
            OSError,
        )
        self._read_only = driver.ReadOnlySQLTransactionError

    def unfit(self, conn: Any) -> Any:
        return conn.is_closed() or conn.is_in_transaction()

    def gone(self, conn: Any) -> Any:
        return conn.is_closed()

    def dirty(self, conn: Any) -> Any:
        protocol = conn._protocol
        return (
            protocol is None
            or protocol.is_in_transaction()
            or conn._top_xact is not None
            or conn.is_closed()
            or protocol._is_cancelling()
        )

    def backend_pid(self, conn: Any) -> int | None:
        return conn.get_server_pid()  # type: ignore[no-any-return]

    def is_lost(self, conn: Any) -> bool:
        return bool(conn.is_closed())

    async def reset(self, conn: Any, level: str) -> Any:
        if conn.is_closed():
            raise self.error("it is closed")  # type: ignore[misc]
        if conn._protocol._is_cancelling():
            await conn._protocol._wait_for_cancellation(None)
        if level != "none":
            await (self.commit(conn) if level == "commit" else self.rollback(conn))
        if level == "session":
            await conn.reset()
            # DISCARD ALL would drop the statements that asyncpg has prepared, and believes to have.
            await conn.execute("DISCARD TEMP; DISCARD SEQUENCES; RESET SESSION AUTHORIZATION")
        return None

    def abandon(self, conn: Any) -> None:
        super().abandon(conn)
        if conn._loop.is_closed():
            free(conn._transport)
            conn._aborted, conn._protocol = True, None  # as terminate() does, which has to have a loop
        else:
            conn.terminate()

    async def ping(self, conn: Any) -> None:
        await conn.execute("SELECT 1")

    async def is_writable(self, conn: Any) -> bool | None:
        return bool(await conn.fetchval(WRITABLE_QUERY) == "off")

    def is_read_only(self, conn: Any, error: BaseException) -> bool:
        return isinstance(error, self._read_only)

    def refusal(self, error: BaseException) -> str | None:
        if isinstance(error, self.error):  # type: ignore[arg-type]  # a connect_timeout of the pool's is an OSError, too
            return None
        if isinstance(error, socket.gaierror):
            return "transient" if error.errno == socket.EAI_AGAIN else "permanent"
        if isinstance(error, self._permanent) or type(error) is ConnectionError:  # the server refuses TLS
            return "permanent"
        return "transient" if isinstance(error, self._passing) else None

    def fileno(self, conn: Any) -> int | None:
        transport = getattr(conn, "_transport", None)
        sock = None if transport is None else transport.get_extra_info("socket")
        number = -1 if sock is None else sock.fileno()
        return number if number >= 0 else None

    async def commit(self, conn: Any) -> None:
        await self._end(conn, "COMMIT")

    async def rollback(self, conn: Any) -> None:
        await self._end(conn, "ROLLBACK")

    async def _end(self, conn: Any, statement: str) -> None:
        if conn.is_in_transaction():
            await conn.execute(statement)
        conn._top_xact = None  # one that was begun by transaction() and not ended: else the next would be nested in it
