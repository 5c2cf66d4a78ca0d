"""Connecting: opens connections under tickets, and learns from them what the hits need to know."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dbpool import fork, logs
from dbpool.clock import uptime
from dbpool.core import C, Core, _always
from dbpool.errors import copied
from dbpool.listener import tell
from dbpool.opening import Backoff
from dbpool.stats import said

if TYPE_CHECKING:
    from dbpool.entry import Entry, Ticket


def _never(conn: Any) -> bool:
    return False


class Connecting(Core[C]):
    """How the connections of a pool come to be."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._backoff = Backoff()

    def _start(self, ticket: Ticket) -> None:
        """Have a connection opened under *ticket*."""
        if self._begin(ticket):
            self._connect_for(ticket)

    def _begin(self, ticket: Ticket) -> bool:
        with self._lock:  # else a match() that has just served its owner might take it back
            return self._state.begin(ticket)

    def _connect_for(self, ticket: Ticket) -> BaseException | None:
        """Open a connection under *ticket*, for whoever is first in line by then; return what went wrong."""
        if not ticket.claim():
            return None
        state, began, process, conn, entry = self._state, uptime(), self._process, None, None
        try:
            conn, marks = self._opener.open(self._connect, partial(self._is_wanted, ticket))
            self._know(marks)
            entry = self._record(conn, marks)
            tell(self._listener, "connected", self, conn, uptime() - began)
            with self._lock:
                adopted = state.adopt(ticket, entry, conn)
                failing = self._connected(entry, began) if adopted else None
            if adopted:
                self._tell_recovered(failing)
                self._tend(entry)
            else:
                self._let_go(conn, process)
        except BaseException as exc:
            if conn is not None and self._entries.get(id(conn)) is None:
                if entry is not None:
                    entry.cid = None  # it was never counted as open
                self._let_go(conn, process)
            self._failed(ticket, exc)
            if not isinstance(exc, Exception):
                raise  # an interrupt: it is the caller's, wherever in here it struck
            return exc
        conn = None
        self._settle()
        return None

    def _let_go(self, conn: Any, process: int) -> None:
        """Close a connection that nobody needs any more; if a callback has forked meanwhile, it is the parent's."""
        if process == self._process:
            self._opener.close(conn)
        else:
            fork.set_aside(conn, self._opener.socket_of(conn))

    def _connected(self, entry: Entry[Any], began: float) -> float | None:
        """Count a connect that came about; return for how long none had. Called under the lock."""
        entry.pings = int(self._config.ping_on_connect or self._config.role is not None)
        return self._state.tally.connected(entry.opened - began, entry.opened)

    def _tell_recovered(self, failing: float | None) -> None:
        """Write that the server lets us in again, if it did not for a time."""
        if failing is not None:
            text = "%s: connecting works again, after %.1f s"
            logs.info(text, self._state.name, failing, of=self, event="recovered", seconds=failing)

    def _is_wanted(self, ticket: Ticket) -> bool:
        return ticket.ref is not None and not self._state.closed

    def _failed(self, ticket: Ticket, error: BaseException) -> None:
        refusal = self._opener.refusal(error)
        with self._lock:
            again = self._state.is_refused()
            now, retry_at = uptime(), self._state.retry_at
            if refusal is not None and retry_at <= now:  # else others were refused just now
                retry_at = now + self._backoff.next()
            self._state.errors = self._opener.errors
            known = ticket.ref in self._state.tickets  # else it was given up already, and counted then
            delivered = self._state.fail(ticket, error, copied(error), refusal, retry_at)
            if known:
                late = isinstance(error, self._opener.errors.PoolTimeout)
                self._state.tally.failed(now, "timeout" if late else refusal)
        tell(self._listener, "connect_failed", self, error)
        # The first refusal is news, the others are not; nor is what its caller is told.
        write = logs.warning if not delivered else logs.info
        write = logs.debug if again and refusal is not None else write
        more = {"reason": refusal, "error": type(error).__name__}
        write("%s: connecting failed: %s", self._state.name, said(error), of=self, event="connect_failed", **more)
        self._settle()

    def _know(self, marks: Any) -> None:
        """Bind what the hits ask of a connection, once its kind and its attributes are known."""
        connector, state, options = self._opener.connector, self._state, self._config
        level = options.reset
        if self._known and marks != self._first_marks:
            self._unclean = _always  # the quick look knows the attributes of the first connection only
        if connector is not None and not self._known:
            self._known = True
            self._first_marks = marks
            state.errors = self._opener.errors
            slow = level == "session" or callable(level) or state.divert or options.ping_on_return or options.strict
            if slow:
                self._unclean = _always  # every return takes the slow way
            else:
                self._unclean = connector.dirty if level != "clean" else connector.changed_from(marks)
            if state.divert:  # listen() came between
                self._unclean = _always
            self._commit = connector.commit
            self._pending = connector.dirty if connector.has_transactions() else _never
            self._unfit = state.unfit = connector.gone if level == "none" else connector.unfit

    def _fill(self, errors: list[BaseException]) -> None:
        """Open what is missing to have minconn, one after the other; stop at the first that fails."""
        while not errors:
            with self._lock:
                ticket = self._state.try_issue(uptime()) if self._state.missing() else None
                if ticket is None:
                    return
                self._state.begin(ticket)
            error = self._connect_for(ticket)
            if error is not None:
                errors.append(error)
