"""aiosqlite: sqlite3 in a thread of each connection's own."""
# mypy: disable-error-code="override"
# (What returns a value there returns an awaitable here.)

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any, Callable
from weakref import ref

from dbpool.connectors.aio import AsyncConnector

INTERRUPT_EVERY = 0.05  # seconds: a statement that has not begun yet cannot be interrupted


class _Counted:
    """What an aiosqlite connection has its thread do, counted: who is cancelled goes, and the thread goes on."""

    __slots__ = ("_conn", "begun", "ended")

    def __init__(self, conn: Any) -> None:
        self._conn = ref(conn)
        self.begun = self.ended = 0  # each is written by one thread only

    async def __call__(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        conn: Any = self._conn()
        self.begun += 1
        return await type(conn)._execute(conn, self._work, work, args, kwargs)

    def _work(self, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return work(*args, **kwargs)
        finally:
            self.ended += 1


class AiosqliteConnector(AsyncConnector):
    """aiosqlite. The looks are taken from the loop's thread, and wait for nobody."""

    attributes = ("isolation_level", "row_factory", "text_factory")
    hangs = False

    def __init__(self) -> None:
        super().__init__()
        self.error = sys.modules["aiosqlite"].Error  # type: ignore[attr-defined,unused-ignore]

    def prepare(self, conn: Any) -> None:
        conn._execute = _Counted(conn)

    def unfit(self, conn: Any) -> Any:
        return conn._connection is None

    def dirty(self, conn: Any) -> Any:
        raw = conn._connection
        return raw is None or raw.in_transaction or self.is_busy(conn)

    def is_busy(self, conn: Any) -> bool:
        work = conn._execute
        return isinstance(work, _Counted) and work.begun != work.ended

    async def close(self, conn: Any) -> None:
        """Close a connection; what its thread is busy with is interrupted."""
        raw, closing = conn._connection, asyncio.ensure_future(conn.close())
        while not closing.done():
            if self.is_busy(conn):
                with suppress(Exception):  # closed just now
                    raw.interrupt()
            await asyncio.wait({closing}, timeout=INTERRUPT_EVERY)
        closing.result()

    async def reset(self, conn: Any, level: str) -> Any:
        if conn._connection is None or self.is_busy(conn):
            raise self.error("it is closed, or still busy with a statement")  # type: ignore[misc]
        if conn._connection.in_transaction:
            if level == "commit":
                await conn.commit()
            elif level != "none":
                await conn.rollback()
        return None

    def abandon(self, conn: Any) -> None:
        if self.is_busy(conn):
            with suppress(Exception):
                conn._connection.interrupt()
        if hasattr(conn, "stop"):  # else its thread ends by itself, once the connection is freed
            conn.stop()

    async def ping(self, conn: Any) -> None:
        cursor = await conn.execute("SELECT 1")
        await cursor.close()

    async def commit(self, conn: Any) -> None:
        await conn.commit()

    async def rollback(self, conn: Any) -> None:
        await conn.rollback()

    def fileno(self, conn: Any) -> int | None:
        return None
