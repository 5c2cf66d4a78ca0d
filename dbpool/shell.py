"""Shell: getting: waiting in line, looking closely at what was given, giving up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool import holders, logs, standing
from dbpool.clock import uptime
from dbpool.config import DEFAULT, Default, Timeout, seconds
from dbpool.core import C
from dbpool.entry import FOR_EVER
from dbpool.listener import tell
from dbpool.returning import Returning
from dbpool.upkeep import Upkeep

if TYPE_CHECKING:
    from dbpool.errors import PoolError
    from dbpool.semaphore import Waiter


class Shell(Upkeep[C], Returning[C]):
    """One pool's state, lock and opener, and everything slow that is done for it."""

    def _sleep(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait until *waiter* is woken or its heartbeat; False once it, or a *deadline*, is out of time."""
        return False

    # ---- getting ----------------------------------------------------------------------------------------------------

    def _limit(self, timeout: Timeout) -> float | None:
        limit = self._config.timeout if isinstance(timeout, Default) else seconds("timeout", timeout)
        return limit if self._patient else 0.0

    def _obtain(self, key: Any, timeout: Timeout = DEFAULT) -> Any:
        """Wait in line for a connection; one that is idle, comes back, or is opened."""
        limit = self._limit(timeout)
        if self._lock._is_owned():  # a finalizer or a signal handler, in the midst of match()
            raise self._opener.errors.PoolExhausted("connection pool exhausted: getconn was entered from within itself")
        waiter = self._new_waiter(key, limit)
        try:
            conn = self._line_up(waiter)
            if conn is None:
                conn = self._await(waiter, limit)
        except BaseException:
            self._abandon(waiter)
            raise
        if self._listener is not None or self._config.trace:
            self._tell_acquired(conn, waiter)
        return conn

    def _line_up(self, waiter: Waiter) -> Any:
        """Stand in line, and have all matched at once; or return what the key of *waiter* has already."""
        with self._lock:
            conn = self._state.arrive(waiter)
            if conn is not None:
                return conn
            todo = self._state.match(uptime())
        if self._do(todo, aside=waiter.patient):
            self._settle(aside=waiter.patient)
        return None

    def _tell_acquired(self, conn: Any, waiter: Waiter) -> None:
        if waiter.slept:
            tell(self._listener, "waited", self, uptime() - waiter.since)
        if self._config.trace:
            entry = self._entries.get(id(conn))
            if entry is not None:
                entry.site = standing.here()
        tell(self._listener, "acquired", self, conn)

    def _await(self, waiter: Waiter, limit: float | None) -> Any:
        """Return what *waiter* is given, looked at closely where that is due; open a connection when it is told to."""
        while True:
            if limit == 0 and waiter.conn is None:
                self._hurry(waiter)
            while waiter.conn is None and waiter.error is None:
                ticket = waiter.ticket
                if ticket is not None and not ticket.started:
                    self._start(ticket)
                elif limit == 0 and ticket is not None and ticket.ref is None:
                    self._look_once_more(waiter, ticket)
                elif self._sleep(waiter, None if limit != 0 or ticket is None else ticket.deadline):
                    if waiter.conn is None and waiter.error is None:  # type: ignore[redundant-expr]  # others change it
                        self._settle(aside=waiter.patient)
                else:
                    self._give_up(waiter, limit)
                ticket = None
            if waiter.conn is None:
                self._raise(waiter)
            if waiter.unused is None or self._examine(waiter, waiter.since + (waiter.limit or FOR_EVER)):
                return waiter.conn

    def _look_once_more(self, waiter: Waiter, ticket: Any) -> None:
        """His connect has ended, and who waits for nothing else has nothing yet: it may have served another."""
        self._settle()
        if waiter.conn is None and waiter.error is None:
            self._hurry(waiter)
            if waiter.ticket is ticket:  # there is no room for one more
                self._give_up(waiter, 0.0)

    def _hurry(self, waiter: Waiter) -> None:
        with self._lock:
            self._state.hurry(waiter, uptime())

    def _give_up(self, waiter: Waiter, limit: float | None) -> None:
        """Leave the queue, and only then look whether it was served: arrival wins over time-out."""
        with self._lock:
            self._state.depart(waiter)
            late = waiter.conn is None and waiter.error is None
            if late:
                self._state.timeouts += 1
                self._state.tally.timed_out_at = uptime()
        if late:
            waiter.error = self._timeout(limit)
            self._tell_timeout(waiter.error, uptime() - waiter.since, limit)
        if waiter.conn is None:
            tell(self._listener, "timed_out", self, uptime() - waiter.since)

    def _tell_timeout(self, error: BaseException, seconds: float, limit: float | None) -> None:
        """Write that a caller got nothing. He is told himself; and one who would not wait is used to that."""
        write = logs.debug if limit == 0 else logs.info
        write("%s: %s", self._state.name, error, of=self, event="timeout", reason="no connection", seconds=seconds)

    def _timeout(self, limit: float | None) -> PoolError:
        errors, described = self._opener.errors, self._described()
        if limit == 0:
            error: PoolError = errors.PoolExhausted(f"connection pool exhausted {described}")
        else:
            error = errors.PoolTimeout(
                f"connection pool exhausted: no connection came free within {limit:g} s {described}"
            )
        error.__cause__ = self._state.last_error
        return error

    def _described(self) -> str:
        """Say what errors tell of the pool: its figures, and who holds its connections."""
        with self._lock:
            figures, rows, line = self._state.describe(), holders.leased(self._state), holders.waiting(self._state)
        return f"(pool {figures}){holders.described(rows, line, uptime(), self._who)}"

    def _raise(self, waiter: Waiter) -> None:
        error, waiter.error = waiter.error, None
        try:
            raise error  # type: ignore[misc]
        finally:
            error = None  # else the traceback would keep this frame, and the frame the error

    def _abandon(self, waiter: Waiter) -> None:
        """The caller leaves, for whatever reason: what it was given goes to the next."""
        with self._lock:
            self._state.depart(waiter)
            if waiter.conn is not None:
                self._state.hand_back(waiter)
            waiter.conn = waiter.error = None  # an error keeps its frames, and with them this waiter
        self._settle()
