"""Returning: takes connections back: resets and pools them, or has them closed."""
# mypy: disable-error-code="override"
# (What may wait in the pools for threads is awaited here, or done by a task.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.aio.core import AsyncCore
from dbpool.bounded import Overdue
from dbpool.clock import uptime
from dbpool.connectors.aio import AsyncConnector
from dbpool.core import C
from dbpool.listener import tell
from dbpool.tally import hold

if TYPE_CHECKING:
    from dbpool.entry import Entry
    from dbpool.errors import PoolError


class AsyncReturning(AsyncCore[C]):
    """The slow half of putconn, and what befalls a connection whose lease has ended."""

    async def _return(self, conn: Any, entry: Entry[Any] | None, key: Any, close: bool) -> None:
        """The slow half of putconn: keyed, or not clean, or refused."""
        strict = self._config.strict
        if entry is None or entry() is not conn:
            strangers = strict and self._is_strangers(conn)
            entry = None if strangers else self._state.claim_keyed(conn, key)
            if entry is None:
                raise self._strangers() if strangers else self._refusal(conn, key)
        elif strict and entry.holder != self._who.me():
            self._state.restore(conn, entry)
            raise self._strangers()
        await self._finish(conn, entry, close)

    def _is_strangers(self, conn: Any) -> bool:
        entry = self._entries.get(id(conn))
        return entry is not None and entry.key is not None and entry.holder != self._who.me()

    def _strangers(self) -> PoolError:
        error: PoolError = self._opener.errors.PoolError(
            "trying to put a connection that another task got; strict=True lets only that task put it"
        )
        return error

    async def _finish(self, conn: Any, entry: Entry[Any], close: bool) -> None:
        """A lease has ended: reset the connection and pool it, or have it closed."""
        seconds = uptime() - entry.since
        hold(entry, seconds)
        tell(self._listener, "released", self, conn, seconds)
        try:
            kept, reason = (None, "closed by the caller") if close else await self._cleaned(conn, entry)
        except BaseException:  # cancelled: whatever was cut off in the midst of it, nobody else is to find out
            self._dismiss(conn, "interrupted")
            raise
        if kept is None:
            self._dismiss(conn, reason)
        elif kept is conn:
            self._idle.append(conn)
            if self._state.gate or self._lost:
                self._settle()
        else:
            self._exchange(conn, entry, kept)

    async def _cleaned(self, conn: Any, entry: Entry[Any]) -> tuple[Any, str]:
        """Return *conn* made clean, or another in its place; or None and why it must be closed."""
        worn_out = self._worn_out(entry)
        if worn_out is not None:
            return None, worn_out
        try:
            kept = await self._reset(conn, entry)
            if self._config.reset == "none" or await self._is_sound(kept, entry):
                return kept, ""
            if kept is not conn:
                self._opener.abandon(kept)
            return None, "not clean"
        except Exception as exc:
            self._tell_trouble("a connection could not be reset", "reset_failed", exc)
            return None, self._reason(conn, exc)

    async def _reset(self, conn: Any, entry: Entry[Any]) -> Any:
        """Return *conn* as it was when it was new, or another that the reset gave in its place."""
        options, opener, level = self._config, self._opener, self._config.reset
        connector: Any = opener.connector
        kept = None
        if connector.dirty(conn) or level == "session":
            entry.resets += 1
            kept = await opener.bounded(connector.reset, conn, level if isinstance(level, str) else "rollback")
        if callable(level):
            kept = await opener.bounded(level, conn)
            if not isinstance(kept, type(conn)):
                kept = conn  # what it returns by the way, a cursor perhaps, is no connection
        elif level == "session" and options.on_connect is not None:
            await opener.bounded(options.on_connect, conn)
            await opener.bounded(connector.commit, conn)
        if kept is None or kept is conn:
            if level == "clean" or level == "session":
                look = connector.marks_of()
                if look is not None and look(conn) != entry.marks:
                    await opener.bounded(connector.restore, conn, entry.marks)
            kept = conn
        return kept

    async def _is_sound(self, conn: Any, entry: Entry[Any]) -> bool:
        assert self._opener.connector is not None
        if not self._opener.connector.is_clean(conn):
            return False
        if self._config.ping_on_return:
            entry.pings += 1
            await self._opener.ping(conn)
        return True

    def _exchange(self, old: Any, entry: Entry[Any], new: Any) -> None:
        """The reset returned another connection: it takes the slot."""
        connector: Any = self._opener.connector
        if isinstance(connector, AsyncConnector):
            connector.prepare(new)
        look = connector.marks_of()
        made = self._record(new, None if look is None else look(new))
        entry.fate = "replaced"
        self._spawn(self._opener.close(old))
        self._state.replace(entry, made, new)
        self._tend(made)
        tell(self._listener, "discarded", self, "replaced")
        self._settle()

    async def _commit_if_pending(self, conn: Any) -> None:
        """Commit for an async with block."""
        if not self._pending(conn):
            return
        entry = self._entries.get(id(conn))
        try:
            await self._opener.call(self._commit, conn)
        except Exception:
            raise
        except BaseException:  # cancelled: whatever was cut off in the midst of it, nobody else is to find out
            if entry is not None:  # else it was closed before, and has failed by itself
                self._state.retire(entry, "interrupted")
            raise

    async def _roll_back(self, conn: Any, error: BaseException | None) -> None:
        """Roll back for a with block that *error* has left. No error is raised: putconn sees what is left of *conn*."""
        entry, connector = self._entries.get(id(conn)), self._opener.connector
        if entry is None or connector is None:
            return
        try:
            if error is not None:
                self._blame(conn, error)
            await self._opener.bounded(connector.rollback, conn)
        except Exception as exc:
            self._tell_trouble("rolling back raised", "reset_failed", exc)
            if isinstance(exc, Overdue):
                self._state.tally.found_dead("return", uptime(), True)
                self._state.retire(entry, "lost")
                self._state.mourn(entry, cut_off=True)
        except BaseException:
            self._state.retire(entry, "interrupted")
            raise
