"""Returning: takes connections back: resets and pools them, or closes them."""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Any

from dbpool import fork, holders
from dbpool.bounded import Overdue
from dbpool.clock import uptime
from dbpool.core import C, Core
from dbpool.entry import RETIRED, WRITABLE, Entry, Status
from dbpool.listener import tell
from dbpool.stats import where
from dbpool.tally import hold

if TYPE_CHECKING:
    from dbpool.errors import PoolError


class Returning(Core[C]):
    """The slow half of putconn, and what befalls a connection whose lease has ended."""

    def _return(self, conn: Any, entry: Entry[Any] | None, key: Any, close: bool) -> None:
        """The slow half of putconn: keyed, or not clean, or refused."""
        if entry is None or entry() is not conn:
            with self._lock:
                strangers = self._config.strict and self._is_strangers(conn)
                entry = None if strangers else self._state.claim_keyed(conn, key)
            if entry is None:
                raise self._strangers(conn) if strangers else self._refusal(conn, key)
        elif self._config.strict and entry.holder != get_ident():
            self._state.restore(conn, entry)
            raise self._strangers(conn)
        self._finish(conn, entry, close)

    def _is_strangers(self, conn: Any) -> bool:
        entry = self._entries.get(id(conn))
        return entry is not None and entry.key is not None and entry.holder != get_ident()

    def _strangers(self, conn: Any) -> PoolError:
        entry = self._entries.get(id(conn))
        whose = "" if entry is None else f": {holders.users([holders.row(entry)], uptime())[0]}"
        return self._opener.errors.PoolError(
            f"trying to put a connection that another thread got; strict=True lets only that thread put it{whose}"
        )

    def _refusal(self, conn: Any, key: Any) -> PoolError:
        errors, state = self._opener.errors, self._state
        entry = None if conn is None else self._entries.get(id(conn))
        if entry is not None and entry() is conn and key is not None and where(state, entry) is Status.LEASED:
            return errors.PoolError(f"trying to put a connection with the wrong key: key={key!r} is not the one it has")
        if state.closed:
            return errors.PoolClosed("connection pool is closed")
        if conn is None:
            return errors.PoolError("trying to put unkeyed connection: conn is None")
        if fork.is_set_aside(conn):
            return errors.PoolError(
                "trying to put unkeyed connection: conn was leased before this process was forked, and is the parent's"
            )
        return errors.PoolError(
            f"trying to put unkeyed connection: conn is not leased from pool {state.name!r} (put back already, closed, "
            "or another pool's)"
        )

    def _finish(self, conn: Any, entry: Entry[Any], close: bool) -> None:
        """A lease has ended: reset the connection and pool it, or close it."""
        seconds = uptime() - entry.since
        hold(entry, seconds)
        tell(self._listener, "released", self, conn, seconds)
        try:
            kept, reason = (None, "closed by the caller") if close else self._cleaned(conn, entry)
        except BaseException:
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

    def _cleaned(self, conn: Any, entry: Entry[Any]) -> tuple[Any, str]:
        """Return *conn* made clean, or another in its place; or None and why it must be closed."""
        worn_out = self._worn_out(entry)
        if worn_out is not None:
            return None, worn_out
        try:
            kept = self._reset(conn, entry)
            if self._config.reset == "none" or self._is_sound(kept, entry):
                return kept, ""
            if kept is not conn:
                self._opener.close(kept)
            return None, "not clean"
        except Exception as exc:
            self._tell_trouble("a connection could not be reset", "reset_failed", exc)
            return None, self._reason(conn, exc)

    def _worn_out(self, entry: Entry[Any]) -> str | None:
        """Say why a connection that comes back is not to be used again, whatever its state; None if it may be."""
        if self._config.max_uses is not None and entry.uses >= self._config.max_uses:
            return "max_uses"
        return (entry.fate or "drained") if entry.use_by == RETIRED else None

    def _reason(self, conn: Any, exc: Exception) -> str:
        """Say why a connection that could not be reset is closed. If it was lost, so may be the others."""
        lost = isinstance(exc, Overdue) or self._opener.is_lost(conn)
        with self._lock:
            if lost:
                late = isinstance(exc, Overdue)
                self._state.tally.found_dead("return", uptime(), late)
                self._state.mourn(self._entries.get(id(conn)), late)
        return "lost" if lost else "reset failed"

    def _reset(self, conn: Any, entry: Entry[Any]) -> Any:
        """Return *conn* as it was when it was new, or another that the reset gave in its place."""
        options, connector, level = self._config, self._opener.connector, self._config.reset
        assert connector is not None
        kept = None
        if connector.dirty(conn) or level == "session":
            entry.resets += 1
            kept = self._opener.bounded(connector.reset, conn, level if isinstance(level, str) else "rollback")
        if callable(level):
            kept = self._opener.bounded(level, conn)
            if not isinstance(kept, type(conn)):
                kept = conn  # what it returns by the way, a cursor perhaps, is no connection
        elif level == "session" and options.on_connect is not None:
            self._opener.bounded(options.on_connect, conn)
            self._opener.bounded(connector.commit, conn)
        if kept is None or kept is conn:
            if level == "clean" or level == "session":
                look = connector.marks_of()
                if look is not None and look(conn) != entry.marks:
                    self._opener.bounded(connector.restore, conn, entry.marks)
            kept = conn
        return kept

    def _is_sound(self, conn: Any, entry: Entry[Any]) -> bool:
        assert self._opener.connector is not None
        if not self._opener.connector.is_clean(conn):
            return False
        if self._config.ping_on_return:
            entry.pings += 1
            self._opener.ping(conn)
        return True

    def _exchange(self, old: Any, entry: Entry[Any], new: Any) -> None:
        """The reset returned another connection: it takes the slot."""
        assert self._opener.connector is not None
        look = self._opener.connector.marks_of()
        made = self._record(new, None if look is None else look(new))
        entry.fate = "replaced"
        self._opener.close(old)
        with self._lock:
            self._state.replace(entry, made, new)
        self._tend(made)
        tell(self._listener, "discarded", self, "replaced")
        self._settle()

    def _blame(self, conn: Any, error: BaseException) -> None:
        """*error* has left a with block: if *conn* is of no use after it, have nobody use it again."""
        entry, connector = self._entries.get(id(conn)), self._opener.connector
        if entry is None or connector is None:
            return
        if connector.is_spoilt(conn, error):
            with self._lock:
                self._state.retire(entry, "interrupted")
        elif connector.is_read_only(conn, error):
            with self._lock:  # the server has changed its role, and so may those of the others have
                self._state.retire(entry, "read-only")
                self._state.doubt(WRITABLE)

    def _roll_back(self, conn: Any, error: BaseException | None) -> None:
        """Roll back for a with block that *error* has left. No error is raised: putconn sees what is left of *conn*."""
        entry, connector = self._entries.get(id(conn)), self._opener.connector
        if entry is None or connector is None:
            return
        try:
            if error is not None:
                self._blame(conn, error)
            self._opener.bounded(connector.rollback, conn)
        except Exception as exc:
            self._tell_trouble("rolling back raised", "reset_failed", exc)
            if isinstance(exc, Overdue):
                with self._lock:
                    self._state.tally.found_dead("return", uptime(), True)
                    self._state.retire(entry, "lost")
                    self._state.mourn(entry, cut_off=True)
        except BaseException:  # its deadline may still be under way
            with self._lock:
                self._state.retire(entry, "interrupted")
            raise
