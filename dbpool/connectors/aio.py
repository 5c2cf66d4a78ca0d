"""AsyncConnector: knows one kind of asynchronous connection. And how the right one is found for a connection.

What may wait is awaited; the looks that every getconn and putconn take are plain functions, as they are for the others.
"""
# mypy: disable-error-code="override"
# (What returns a value there returns an awaitable here.)

from __future__ import annotations

from importlib import import_module
from inspect import isawaitable
from typing import Any

from dbpool.bounded import cut
from dbpool.connectors.base import Connector

# Top-level module of a connection's type -> where its connector is. Read through the type's MRO.
_KNOWN = {
    "psycopg": "dbpool.connectors.aio_postgres:Psycopg3AsyncConnector",
    "asyncpg": "dbpool.connectors.aio_postgres:AsyncpgConnector",
    "aiosqlite": "dbpool.connectors.aio_sqlite:AiosqliteConnector",
    "aiomysql": "dbpool.connectors.aio_mysql:AiomysqlConnector",
}


async def done(value: Any) -> Any:
    """Return *value*, awaited if it can be: what a user gives may be a plain function or an asynchronous one."""
    return await value if isawaitable(value) else value


class AsyncConnector(Connector):
    """One kind of asynchronous connection: how it is opened, closed, judged and cleaned.

    Pass one as ``connect=`` to pool whatever has a connect and a close, or subclass it. The callables may be plain
    functions or asynchronous ones.

    Parameters: *connect*, which returns a connection; *close*, called with one (default: its ``close`` method);
    *reset*, called with one when it comes back (default: nothing); *ping*, called with one that was not used for some
    time, and raises if it is of no use any more (default: nothing); *error*, the driver's base Error.
    """

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Open a connection."""
        return await done(super().connect(*args, **kwargs))

    def prepare(self, conn: Any) -> None:
        """Do what is to be done with a new connection first. By default nothing is."""

    async def close(self, conn: Any) -> None:
        """Close a connection; what it raises is ignored."""
        await done(conn.close() if self._close is None else self._close(conn))

    def abandon(self, conn: Any) -> None:
        """Let go of a connection at once, without a word to the server: nobody can wait, or its loop is closed."""
        cut(self.fileno(conn))

    async def reset(self, conn: Any, level: str) -> Any:
        """Make *conn* fit for its next user; return None, or another to pool instead. Raise to have it closed."""
        return None if self._reset is None else await done(self._reset(conn))

    async def ping(self, conn: Any) -> None:
        """Ask the peer for an answer, in one round trip that leaves nothing behind; raise if there is none."""
        if self._ping is not None:
            await done(self._ping(conn))

    async def commit(self, conn: Any) -> None:
        """Commit what *conn* has under way; nothing for what knows no transactions."""

    async def rollback(self, conn: Any) -> None:
        """Roll back what *conn* has under way; nothing for what knows no transactions."""

    def has_transactions(self) -> bool:
        return getattr(self.commit, "__func__", None) is not AsyncConnector.commit

    async def restore(self, conn: Any, marks: Any) -> None:
        """Set the attributes to what they were."""
        for name, value in zip(self.attributes, marks if len(self.attributes) > 1 else (marks,)):
            if getattr(conn, name) != value:
                await self.set_attribute(conn, name, value)

    async def set_attribute(self, conn: Any, name: str, value: Any) -> None:
        """Set one of the attributes that reset="clean" restores."""
        setattr(conn, name, value)


class AsyncDbapiConnector(AsyncConnector):
    """Any driver with DB-API's methods, awaited. It cannot be asked whether a transaction is open."""

    def dirty(self, conn: Any) -> Any:
        return True

    async def reset(self, conn: Any, level: str) -> Any:
        if level == "commit":
            await done(conn.commit())
        elif level != "none":
            await done(conn.rollback())
        return await super().reset(conn, level)

    async def ping(self, conn: Any) -> None:
        if self._ping is not None:
            await done(self._ping(conn))
            return
        cursor = await done(conn.cursor())
        try:
            await done(cursor.execute("SELECT 1"))
            await done(cursor.fetchall())
        finally:
            await done(cursor.close())
        await done(conn.rollback())

    async def commit(self, conn: Any) -> None:
        await done(conn.commit())

    async def rollback(self, conn: Any) -> None:
        await done(conn.rollback())


def free(transport: Any) -> None:
    """Close the socket of a transport whose loop was closed before it, and can close nothing any more."""
    if hasattr(transport, "_ssl_protocol"):
        transport._closed = True
        transport = transport._ssl_protocol._transport
    sock = getattr(transport, "_sock", None)
    if sock is not None:  # asyncio's own: uvloop closes what its loop had
        transport._sock, transport._closing = None, True
        sock.close()


def find(conn: Any) -> AsyncConnector:
    """Return the connector for *conn*, found by the module of its type, else by what it can do."""
    connector = by_module(type(conn))
    if connector is not None:
        return connector
    if all(callable(getattr(conn, name, None)) for name in ("cursor", "commit", "rollback")):
        return AsyncDbapiConnector()
    return AsyncConnector()


def by_module(kind: Any) -> AsyncConnector | None:
    """Return the connector of a known driver for a type, a function or a module, or None."""
    for base in getattr(kind, "__mro__", (kind,)):
        module = getattr(base, "__module__", None) or getattr(base, "__name__", "")
        top = str(module).partition(".")[0]
        if top in _KNOWN:
            import_module(top)
            where, _, name = _KNOWN[top].partition(":")
            found: AsyncConnector = getattr(import_module(where), name)()
            return found
    return None
