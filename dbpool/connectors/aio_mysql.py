"""aiomysql."""
# mypy: disable-error-code="override"
# (What returns a value there returns an awaitable here.)

from __future__ import annotations

import sys
from typing import Any

from dbpool.connectors.aio import AsyncDbapiConnector, free
from dbpool.connectors.mysql import ENDED, LOST, RESET_CONNECTION, WRITABLE_QUERY, Answers, code_of


class AiomysqlConnector(Answers, AsyncDbapiConnector):
    """aiomysql, which is PyMySQL made asynchronous."""

    levels = frozenset(("none", "rollback", "commit", "clean", "session"))
    hangs = False

    def __init__(self) -> None:
        super().__init__()
        driver: Any = sys.modules["aiomysql"]
        self.error = driver.Error
        self._cursor = driver.Cursor

    def gone(self, conn: Any) -> Any:
        return conn.closed

    def backend_pid(self, conn: Any) -> int | None:
        return conn.thread_id()  # type: ignore[no-any-return]

    def is_lost(self, conn: Any) -> bool:
        return getattr(conn, "_dbpool_lost", False)

    async def ping(self, conn: Any) -> None:
        was_clean = not self.dirty(conn)
        await self._noting(conn, conn.ping(reconnect=False))
        if was_clean:
            conn._result = ENDED

    async def is_writable(self, conn: Any) -> bool | None:
        was_clean = not self.dirty(conn)
        async with conn.cursor(self._cursor) as cursor:
            await self._noting(conn, cursor.execute(WRITABLE_QUERY))
            (answer,) = await cursor.fetchone()
        if was_clean:
            conn._result = ENDED
        return str(answer).strip("b'") in ("0", "OFF")

    async def commit(self, conn: Any) -> None:
        await self._noting(conn, conn.commit())
        conn._result = ENDED

    async def rollback(self, conn: Any) -> None:
        self._refuse_unread(conn)
        await self._noting(conn, conn.rollback())
        conn._result = ENDED

    async def reset(self, conn: Any, level: str) -> Any:
        if level == "session":
            self._refuse_unread(conn)
            await self._noting(conn, self._renew(conn))
        elif level == "commit":
            await self.commit(conn)
        elif level != "none":
            await self.rollback(conn)
        return None

    def marks_of(self) -> Any:
        return lambda conn: (conn.get_autocommit(), conn.cursorclass, conn.charset)

    async def restore(self, conn: Any, marks: Any) -> None:
        autocommit, conn.cursorclass, charset = marks
        if conn.charset != charset:
            await conn.set_charset(charset)
        if conn.get_autocommit() != autocommit:
            await conn.autocommit(autocommit)
        conn._result = ENDED

    async def _renew(self, conn: Any) -> None:
        """Have the server make the session anew, which rolls back; then do as the driver does when it has connected."""
        await conn._execute_command(RESET_CONNECTION, b"")
        await conn._read_ok_packet()
        await conn.set_charset(conn.charset)
        if conn.db:
            await conn.select_db(conn.db)
        if conn.sql_mode is not None:
            await conn.query(f"SET sql_mode={conn.sql_mode}")  # the driver does not quote it, either
        if conn.init_command is not None:
            await conn.query(conn.init_command)
        if conn.autocommit_mode is not None:
            await conn.autocommit(conn.autocommit_mode)
        await self.commit(conn)  # init_command's

    async def _noting(self, conn: Any, call: Any) -> None:
        """Await *call*; remember if it finds that the connection was lost: closed, it looks as if its user did it."""
        try:
            await call
        except Exception as exc:
            if code_of(exc) in LOST:
                conn._dbpool_lost = True
            raise

    async def close(self, conn: Any) -> None:
        await conn.ensure_closed()

    def abandon(self, conn: Any) -> None:
        super().abandon(conn)
        if not conn._loop.is_closed():
            conn.close()
        elif conn._writer is not None:
            free(conn._writer.transport)
            conn._reader = conn._writer = None

    def fileno(self, conn: Any) -> int | None:
        writer = getattr(conn, "_writer", None)
        sock = None if writer is None else writer.get_extra_info("socket")
        number = -1 if sock is None else sock.fileno()
        return number if number >= 0 else None
