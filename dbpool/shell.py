"""Shell: acts on what the state decides. Waiting, connecting, cleaning and closing are here, outside the lock."""

from __future__ import annotations

import copy
import itertools
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar

from dbpool import fork, holders, logs
from dbpool.config import DEFAULT, Default, PoolConfig, Timeout, seconds, sizes
from dbpool.entry import FOR_EVER, RETIRED, Entry, Status, Ticket, record
from dbpool.errors import PoolError
from dbpool.leaks import tell_leaks
from dbpool.listener import tell
from dbpool.opening import Opener
from dbpool.state import PoolState, Todo
from dbpool.stats import where

if TYPE_CHECKING:
    from dbpool.semaphore import Waiter

C = TypeVar("C")
_numbers = itertools.count(1)


def _always(conn: Any) -> bool:
    return True


class Shell(Generic[C]):
    """One pool's state, lock and opener, and everything slow that is done for it."""

    _at_home = False  # give a key the connection it had last, if that is idle
    _patient = False  # wait for a connection to come back
    _error: type[BaseException] | None = None  # what errors derive from; None: the driver's Error

    def __init__(
        self, minconn: int, maxconn: int, connect: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
        config: PoolConfig | dict[str, Any] | None,
    ) -> None:  # fmt: skip
        sizes(minconn, maxconn)
        self._config = options = PoolConfig.of(config)
        self._check_config()
        self._opener = Opener(connect, args, kwargs, options, self._error)
        self._state = state = PoolState(
            options.name or f"pool-{next(_numbers)}",
            minconn,
            maxconn,
            max_overflow=options.max_overflow,
            max_waiting=options.max_waiting,
            max_connecting=options.max_connecting,
            connect_limit=options.connect_timeout if options.background else None,
            keep_surplus=options.idle_timeout is None,
            oldest_first=options.idle_order == "fifo",
            at_home=self._at_home,
            divert=options.listener is not None or options.max_uses is not None,
        )
        state.errors = self._opener.errors
        self._lock = self._new_lock()  # guards _state, but for the hits; never held across I/O or a callback
        # What the hits use, bound once: the state never replaces these objects.
        self._take, self._idle, self._entries, self._leases = state.take, state.idle, state.entries, state.leases
        self._lost = state.lost
        self._unfit: Callable[[Any], Any] = state.unfit
        self._unclean: Callable[[Any], Any] = _always
        self._first_marks: Any = None
        self._known = False  # what kind of connection it is
        fork.watch(self)
        # What connection() uses: whether there may be something to commit, and how.
        self._pending: Callable[[Any], Any] = _always
        self._commit: Callable[[Any], Any] = _always

    # ---- what the classes do in their own way -----------------------------------------------------------------------

    def _check_config(self) -> None:
        """Refuse options that this class cannot honour."""

    def _new_lock(self) -> Any:
        raise NotImplementedError

    def _new_waiter(self, key: Any) -> Waiter:
        raise NotImplementedError

    def _sleep(self, waiter: Waiter, deadline: float) -> bool:
        """Wait until *waiter* is woken or its heartbeat; False once *deadline* has passed."""
        return False

    def _start(self, ticket: Ticket) -> None:
        """Have a connection opened under *ticket*."""
        if self._begin(ticket):
            self._connect_for(ticket)

    def _begin(self, ticket: Ticket) -> bool:
        with self._lock:  # else a match() that has just served its owner might take it back
            return self._state.begin(ticket)

    def _connect(self, key: Any = None) -> Any:
        """Open a connection. Override it to change what connect returns, as with psycopg2's pools."""
        return self._opener.dial()

    # ---- getting ----------------------------------------------------------------------------------------------------

    def _limit(self, timeout: Timeout) -> float | None:
        limit = self._config.timeout if isinstance(timeout, Default) else seconds("timeout", timeout)
        return limit if self._patient else 0.0

    def _obtain(self, key: Any, timeout: Timeout = DEFAULT) -> Any:
        """Wait in line for a connection; one that is idle, comes back, or is opened."""
        limit = self._limit(timeout)
        if self._lock._is_owned():  # a finalizer or a signal handler, in the midst of match()
            raise self._opener.errors.PoolExhausted("connection pool exhausted: getconn was entered from within itself")
        waiter = self._new_waiter(key)
        try:
            with self._lock:
                conn = self._state.arrive(waiter)
            if conn is None:
                self._settle()
                conn = self._await(waiter, limit)
        except BaseException:
            self._abandon(waiter)
            raise
        if waiter.slept:
            tell(self._config.listener, "waited", self, monotonic() - waiter.since)
        tell(self._config.listener, "acquired", self, conn)
        return conn

    def _await(self, waiter: Waiter, limit: float | None) -> Any:
        """Return what *waiter* is given; open a connection when it is told to."""
        if limit == 0 and waiter.conn is None:
            self._hurry(waiter)
        deadline = FOR_EVER if limit is None else waiter.since + limit
        while waiter.conn is None and waiter.error is None:
            ticket = waiter.ticket
            if ticket is not None and not ticket.started:
                self._start(ticket)
            elif self._sleep(waiter, deadline if limit != 0 or ticket is None else ticket.deadline):
                if waiter.conn is None and waiter.error is None:  # type: ignore[redundant-expr]  # others change it
                    self._settle()
            else:
                self._give_up(waiter, limit)
            ticket = None
        if waiter.conn is None:
            self._raise(waiter)
        return waiter.conn

    def _hurry(self, waiter: Waiter) -> None:
        with self._lock:
            self._state.hurry(waiter, monotonic())

    def _give_up(self, waiter: Waiter, limit: float | None) -> None:
        """Leave the queue, and only then look whether it was served: arrival wins over time-out."""
        with self._lock:
            self._state.depart(waiter)
            late = waiter.conn is None and waiter.error is None
            if late:
                self._state.timeouts += 1
        if late:
            waiter.error = self._timeout(limit)
        if waiter.conn is None:
            tell(self._config.listener, "timed_out", self, monotonic() - waiter.since)

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
            figures, rows = self._state.describe(), holders.leased(self._state)
        return f"(pool {figures}){holders.described(rows, monotonic())}"

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
            waiter.conn = None
        self._settle()

    # ---- acting on decisions ----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Have the state match connections and waiters, and do what it says. Whoever changed something calls this."""
        state = self._state
        if self._lock._is_owned():
            state.again.append(True)  # the frame below, in the midst of match(), will match again
            return
        again = [True]
        while again:
            with self._lock:
                todo = state.match(monotonic())
            again = self._do(todo)

    def _do(self, todo: Todo) -> list[bool]:
        """Do what match() wants done; not empty if it must match again."""
        while todo.close:
            todo.again.append(True)
            self._close(todo.close.pop())
        while todo.clean:
            entry, conn = todo.clean.pop()
            self._finish(conn, entry, False)
            conn = None
        if self._state.leaked:
            tell_leaks(self, self._state, self._config.listener)
        return todo.again

    def _close(self, conn: Any) -> None:
        """Close *conn*; then its slot is free."""
        entry = self._entries.get(id(conn))
        try:
            self._opener.close(conn)
        finally:
            if entry is not None:
                self._state.lost.append(entry)
        if entry is not None:
            logs.debug("%s: a connection was closed: %s", self._state.name, entry.fate)
            tell(self._config.listener, "discarded", self, entry.fate)

    def _dismiss(self, conn: Any, reason: str) -> None:
        """Close a connection that is in nobody's hands but ours."""
        if conn is None:
            return
        with self._lock:
            ours = self._state.condemn(conn, reason)
        if ours:
            self._close(conn)
            self._settle()

    def _renew_after_fork(self) -> None:
        """In a child process: begin with nothing, and touch nothing of the parent's."""
        for entry in list(self._entries.values()):
            conn = entry()
            if conn is not None:
                fork.set_aside(conn, entry.socket)
        self._lock = self._new_lock()
        self.__dict__.pop("_proxy_shares", None)
        self._state.renew()

    # ---- connecting -------------------------------------------------------------------------------------------------

    def _connect_for(self, ticket: Ticket) -> BaseException | None:
        """Open a connection under *ticket*, for whoever is first in line by then; return what went wrong."""
        if not ticket.claim():
            return None
        state, began, conn = self._state, monotonic(), None
        try:
            conn, marks = self._opener.open(self._connect, partial(self._is_wanted, ticket))
            self._know(marks)
            entry = record(conn, monotonic(), marks, state.lost.append)
            entry.socket = self._opener.socket_of(conn)
            tell(self._config.listener, "connected", self, conn, monotonic() - began)
            with self._lock:
                adopted = state.adopt(ticket, entry, conn)
            if not adopted:
                self._opener.close(conn)
        except BaseException as exc:
            if conn is not None and self._entries.get(id(conn)) is None:
                self._opener.close(conn)
            self._failed(ticket, exc)
            if not isinstance(exc, Exception):
                raise  # an interrupt: it is the caller's, wherever in here it struck
            return exc
        conn = None
        self._settle()
        return None

    def _is_wanted(self, ticket: Ticket) -> bool:
        return ticket.ref is not None and not self._state.closed

    def _failed(self, ticket: Ticket, error: BaseException) -> None:
        try:
            kept = copy.copy(error)  # without its traceback, which would keep the callers' frames
        except Exception:
            kept = PoolError(f"{type(error).__name__}: {error}")
        with self._lock:
            self._state.errors = self._opener.errors
            delivered = self._state.fail(ticket, error, kept)
        if not delivered:
            logs.warning("%s: connecting failed: %s", self._state.name, type(error).__name__)
        tell(self._config.listener, "connect_failed", self, error)
        self._settle()

    def _know(self, marks: Any) -> None:
        """Bind what the hits ask of a connection, once its kind and its attributes are known."""
        connector, state, level = self._opener.connector, self._state, self._config.reset
        if self._known and marks != self._first_marks:
            self._unclean = _always  # the quick look knows the attributes of the first connection only
        if connector is not None and not self._known:
            self._known = True
            self._first_marks = marks
            state.errors = self._opener.errors
            if level == "session" or callable(level) or state.divert:
                self._unclean = _always  # every return takes the slow way
            else:
                self._unclean = connector.dirty if level != "clean" else connector.changed_from(marks)
            self._commit = connector.commit
            self._pending = connector.dirty
            self._unfit = state.unfit = connector.gone if level == "none" else connector.unfit

    def _fill(self, errors: list[BaseException]) -> None:
        """Open what is missing to have minconn, one after the other; stop at the first that fails."""
        while not errors:
            with self._lock:
                if not self._state.missing() or not self._state.may_connect():
                    return
                ticket = self._state.issue(monotonic())
                self._state.begin(ticket)
            error = self._connect_for(ticket)
            if error is not None:
                errors.append(error)

    # ---- taking back ------------------------------------------------------------------------------------------------

    def _return(self, conn: Any, entry: Entry[Any] | None, key: Any, close: bool) -> None:
        """The slow half of putconn: keyed, or not clean, or refused."""
        if entry is None or entry() is not conn:
            with self._lock:
                entry = self._state.claim_keyed(conn, key)
            if entry is None:
                raise self._refusal(conn, key)
        self._finish(conn, entry, close)

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
        tell(self._config.listener, "released", self, conn, monotonic() - entry.since)
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
        options, connector, level = self._config, self._opener.connector, self._config.reset
        assert connector is not None
        if options.max_uses is not None and entry.uses >= options.max_uses:
            return None, "max_uses"
        if entry.use_by == RETIRED:
            return None, "drained"
        try:
            kept = connector.reset(conn, level if isinstance(level, str) else "rollback")
            if callable(level):
                kept = level(conn)
                if not isinstance(kept, type(conn)):
                    kept = conn  # what it returns by the way, a cursor perhaps, is no connection
            elif level == "session" and options.on_connect is not None:
                options.on_connect(conn)
                connector.commit(conn)
            if kept is None or kept is conn:
                if level == "clean" or level == "session":
                    look = connector.marks_of()
                    if look is not None and look(conn) != entry.marks:
                        connector.restore(conn, entry.marks)
                kept = conn
            if level == "none" or connector.is_clean(kept):
                return kept, ""
            if kept is not conn:
                self._opener.close(kept)
            return None, "not clean"
        except Exception as exc:
            logs.info("%s: a connection could not be reset: %s", self._state.name, type(exc).__name__)
            return None, "reset failed"

    def _exchange(self, old: Any, entry: Entry[Any], new: Any) -> None:
        """The reset returned another connection: it takes the slot."""
        assert self._opener.connector is not None
        look = self._opener.connector.marks_of()
        made = record(new, monotonic(), None if look is None else look(new), self._state.lost.append)
        made.socket = self._opener.socket_of(new)
        entry.fate = "replaced"
        self._opener.close(old)
        with self._lock:
            self._state.replace(entry, made, new)
        tell(self._config.listener, "discarded", self, "replaced")
        self._settle()
