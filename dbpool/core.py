"""Core: one pool's state, lock and opener; doing what the state decides; closing."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, Generic, NoReturn, TypeVar
from weakref import WeakMethod

from dbpool import fork, logs
from dbpool.clock import uptime
from dbpool.config import PoolConfig, sizes
from dbpool.connectors.base import Connector
from dbpool.entry import FOR_EVER, Entry, record
from dbpool.holders import THREADS
from dbpool.housekeeper import housekeeper
from dbpool.leaks import tell_leaks
from dbpool.listener import asynchronous, is_asynchronous, tell
from dbpool.opening import Opener, jittered
from dbpool.state import PoolState, Todo
from dbpool.stats import said, snapshot
from dbpool.storms import Storms

if TYPE_CHECKING:
    from dbpool.listener import PoolListener
    from dbpool.semaphore import Waiter

C = TypeVar("C")
MOST_LOOKS = 100
_numbers = itertools.count(1)


def _always(conn: Any) -> bool:
    return True


class Core(Generic[C]):
    """What all that a pool does stands on. The lock guards the state, and is never held across I/O or a callback."""

    # What the hits read lies in the object itself: one piece of memory less, which of many endpoints is a cold one.
    __slots__ = (
        "__dict__", "__weakref__", "_entries", "_idle", "_leases", "_lost", "_state", "_take", "_unclean", "_unfit",
    )  # fmt: skip

    _at_home = False  # give a key the connection it had last, if that is idle
    _patient = False  # wait for a connection to come back
    _error: type[BaseException] | None = None  # what errors derive from; None: the driver's Error
    _who: Any = THREADS  # how those who use it are told from each other
    _literal = False  # connect is called with just what the user gave

    def __init__(
        self, minconn: int, maxconn: int, connect: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
        config: PoolConfig | dict[str, Any] | None,
    ) -> None:  # fmt: skip
        sizes(minconn, maxconn)
        self._config = options = PoolConfig.of(config)
        self._check_config()
        self._listener: PoolListener | None = options.listener
        self._check_listener(options.listener)
        self._opener = self._new_opener(connect, args, kwargs)
        self._state = state = PoolState(
            options.name or f"pool-{next(_numbers)}",
            minconn,
            maxconn,
            max_overflow=options.max_overflow,
            max_waiting=options.max_waiting,
            max_connecting=options.max_connecting,
            connect_limit=self._connect_limit(),
            keep_surplus=options.idle_timeout != 0,
            idle_limit=options.idle_timeout or FOR_EVER,
            look_in=min(_or_never(options.check_after), _or_never(options.ping_after)),
            oldest_first=options.idle_order == "fifo",
            at_home=self._at_home,
            limiter=options.limiter,
            divert=options.listener is not None or options.max_uses is not None or options.trace,
        )
        state.errors = self._opener.errors
        self._lock = self._new_lock()
        # What the hits use, bound once: the state never replaces these objects.
        self._take, self._idle, self._entries, self._leases = state.take, state.idle, state.entries, state.leases
        self._untake, self._lost = state.untake, state.lost
        self._unfit: Callable[[Any], Any] = state.unfit
        self._unclean: Callable[[Any], Any] = _always
        self._first_marks: Any = None
        self._entry_numbers = itertools.count(1)
        self._storms = Storms()  # of log lines
        self._history: Any = None  # once it is asked for ...
        self._next_row: Any = None  # ... what will have its next row written
        self._known = False  # what kind of connection it is
        self._tended = False  # the housekeeper has been asked to look after it
        self._process = os.getpid()
        # What connection() uses: whether there may be something to commit, and how.
        self._pending: Callable[[Any], Any] = _always
        self._commit: Callable[[Any], Any] = _always
        fork.watch(self)
        if state.limiter is not None:
            state.limiter.join(state, WeakMethod(self._look_again) if self._patient else None)

    # ---- what the classes do in their own way -----------------------------------------------------------------------

    def _check_config(self) -> None:
        """Refuse options that this class cannot honour."""

    def _check_listener(self, listener: PoolListener | None) -> None:
        """Refuse a listener of which this class could not await what it does."""
        names = [] if listener is None else asynchronous(listener)
        if names:
            raise TypeError(f"listener: {names[0]}() is asynchronous, and only an AsyncConnectionPool can await it")

    def _await_listener(self, work: Any) -> None:
        """See to what a listener's method returned, although it is no asynchronous function."""
        raise TypeError("what it returned must be awaited, which only an AsyncConnectionPool does")

    def _new_opener(self, connect: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opener:
        if is_asynchronous(connect.connect if isinstance(connect, Connector) else connect):
            raise TypeError(f"connect is asynchronous, which takes an AsyncConnectionPool, not a {type(self).__name__}")
        return Opener(connect, args, kwargs, self._config, self._error, threads=self._patient, literal=self._literal)

    def _connect_limit(self) -> float | None:
        """Return the seconds after which the state gives a connect up."""
        return self._config.connect_timeout if self._config.background else None

    def _new_lock(self) -> Any:
        raise NotImplementedError

    def _new_waiter(self, key: Any, limit: float | None = None) -> Waiter:
        raise NotImplementedError

    def _begin_thread(self, work: Any, *args: Any) -> bool:
        """Run *work* in a thread of its own; False if there can be none."""
        return False

    def _connect(self, key: Any = None) -> Any:
        """Open a connection. Override it to change what connect returns, as with psycopg2's pools."""
        return self._opener.dial()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"cannot copy or pickle {type(self).__name__}: its connections belong to this process and this pool; "
            "make a pool where it is needed"
        )

    # ---- acting on decisions ----------------------------------------------------------------------------------------

    def _settle(self, aside: bool = False) -> None:
        """Have the state match connections and waiters, and do what it says. Whoever changed something calls this.

        *aside*: do in threads what may take long, for a caller whose time is limited.
        """
        state = self._state
        if self._lock._is_owned():
            state.again.append(True)  # the frame below, in the midst of match(), will match again
            return
        while True:
            with self._lock:
                todo = state.match(uptime())
            if not self._do(todo, aside):
                return

    def _look_again(self) -> None:
        """A pool under the same limiter has changed something."""
        self._settle()

    def _do(self, todo: Todo, aside: bool = False) -> list[bool]:
        """Do what match() wants done; not empty if it must match again."""
        while todo.close:
            if not (aside and self._close_aside(todo.close[-1])):
                todo.again.append(True)
                self._close(todo.close[-1])
            todo.close.pop()
        while todo.clean:
            entry, conn = todo.clean.pop()
            if not (aside and self._begin_thread(self._finish, conn, entry, False)):
                self._finish(conn, entry, False)
            conn = None
        if self._state.limiter is not None or self._state.leaked:
            self._tell_others()
        return todo.again

    def _tell_others(self) -> None:
        """Tell the pools under the same limiter what has become possible, and the log what was dropped."""
        limiter = self._state.limiter  # gone, if another thread has its endpoint forgotten now
        if limiter is not None:
            limiter.wake_others()
        if self._state.leaked:
            tell_leaks(self, self._state, self._listener)

    def _finish(self, conn: Any, entry: Entry[Any], close: bool) -> None:
        raise NotImplementedError

    def _close(self, conn: Any) -> None:
        """Close *conn*; then its slot is free."""
        entry, in_time = self._entries.get(id(conn)), True
        try:
            in_time = self._opener.close(conn)
        finally:
            if entry is not None:
                self._state.lost.append(entry)
        if not in_time:
            with self._lock:
                self._state.abort(entry)
        if entry is not None:
            logs.discarded(self, entry.fate, uptime() - entry.opened)
            tell(self._listener, "discarded", self, entry.fate)

    def _dismiss(self, conn: Any, reason: str) -> None:
        """Close a connection that is in nobody's hands but ours."""
        if conn is None:
            return
        entry = self._entries.get(id(conn))
        with self._lock:
            ours = self._state.condemn(conn, reason)
        if ours:  # if a call on it was left behind already, its close may hang too
            self._part_with(conn, aside=entry is not None and entry.aborted)

    def _write_row(self) -> None:
        """Write a row of the history, without the pool's lock: nothing of a pool's can hold up the housekeeper."""
        for _ in range(MOST_LOOKS):
            with suppress(RuntimeError):  # what it looks at has changed meanwhile
                self._history.add(snapshot(self._state), uptime())
                return

    def _tell_trouble(self, text: str, event: str, error: BaseException) -> None:
        """Write a log line of what went wrong with one connection."""
        logs.info("%s: %s: %s", self._state.name, text, said(error), of=self, event=event, error=type(error).__name__)

    def _part_with(self, conn: Any, aside: bool) -> None:
        """Close *conn*; *aside*: in a thread, where that can take long."""
        if not (aside and self._close_aside(conn)):
            self._close_and_settle(conn)

    def _close_aside(self, conn: Any) -> bool:
        """Have a thread close *conn*, if that can take long; False if it is for the caller to do."""
        connector = self._opener.connector
        return connector is not None and connector.hangs and self._begin_thread(self._close_and_settle, conn)

    def _close_and_settle(self, conn: Any) -> None:
        self._close(conn)
        conn = None
        self._settle()

    def _record(self, conn: Any, marks: Any) -> Entry[Any]:
        """Return the entry of a new connection."""
        options, state = self._config, self._state
        if marks == self._first_marks:
            marks = self._first_marks  # kept once for all that are alike
        lifetime = FOR_EVER
        if options.max_lifetime is not None:
            lifetime = jittered(options.max_lifetime, options.lifetime_jitter)
        entry = record(conn, uptime(), marks, state.lost.append, lifetime, state.look_in)
        entry.socket = self._opener.socket_of(conn)
        entry.number, entry.backend_pid = next(self._entry_numbers), self._opener.backend_pid(conn)
        return entry

    def _tend(self, entry: Any) -> None:
        """Have the housekeeper look after a new connection. A pool for one thread has none."""
        if not self._patient or not self._config.background:
            return
        if not self._tended:
            self._tended = True
            self._sweep_by(uptime() + self._config.sweep_period())
        housekeeper.watch(self, entry)

    def _sweep_by(self, when: float) -> None:
        housekeeper.sweep(self, when)

    def _renew_after_fork(self) -> None:
        """In a child process: begin with nothing, and touch nothing of the parent's."""
        for entry in list(self._entries.values()):
            conn = entry()
            if conn is not None:
                fork.set_aside(conn, entry.socket)
        self._lock = self._new_lock()
        self._storms = Storms()
        self._history = self._next_row = None
        self._tended = False
        self._process = os.getpid()
        self.__dict__.pop("_proxy_shares", None)
        self._state.renew()


def _or_never(seconds: float | None) -> float:
    return FOR_EVER if seconds is None else seconds
