"""Upkeep: looks at connections: before one is handed out, in the background, and when the system says it is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool import logs
from dbpool.bounded import Overdue
from dbpool.clock import slept, uptime
from dbpool.connecting import Connecting
from dbpool.core import C
from dbpool.entry import FOR_EVER, WRITABLE, Entry
from dbpool.leaks import tell_long_leases
from dbpool.state import Todo
from dbpool.watch import is_hung_up, is_readable

if TYPE_CHECKING:
    from dbpool.semaphore import Waiter

LEAST_TIME = 0.2  # seconds without which no ping is begun
NEW, MUTE = 1.0, 3  # seconds; how many new ones in a row
SHORTEST_SLEEP = 1.0  # seconds; the two clocks are not read at the very same time


class Upkeep(Connecting[C]):
    """How a pool keeps its connections usable. What the background does in time, the next caller does else."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._slept = slept()
        self._mute = 0  # so many new connections in a row did not answer

    def _notice_sleep(self) -> float:
        """Return for how many seconds the machine was suspended since the last look, and have the state know."""
        if slept() - self._slept < SHORTEST_SLEEP:
            return 0.0
        with self._lock:
            asleep = slept() - self._slept
            self._slept += asleep
            if asleep >= SHORTEST_SLEEP:  # else another thread was quicker
                self._state.age(asleep)
        return asleep

    # ---- before it is handed out ------------------------------------------------------------------------------------

    def _examine(self, waiter: Waiter, deadline: float) -> bool:
        """Look closely at what *waiter* was given; if it is of no use, take it back: it is first in line again."""
        entry = self._entries.get(id(waiter.conn))
        if entry is None:  # closed meanwhile
            return True
        unused = (waiter.unused or 0.0) + self._notice_sleep()
        waiter.terms = waiter.lease, unused
        if uptime() >= entry.use_by:  # known only now
            self._reject(waiter, entry, "lifetime")
            return False
        doubts, left = self._state.doubts, deadline - uptime()
        if left < LEAST_TIME:  # a ping that is cut off costs the connection
            return self._glance(waiter, entry)
        # Half of what is left: the other half is for opening another.
        try:
            error = self._fault(waiter.conn, entry, unused, None if left == FOR_EVER else left / 2)
        except BaseException:  # whatever was cut off in the midst of it, nobody else is to find out
            with self._lock:
                self._state.retire(entry, "interrupted")
            raise
        if error is None:
            self._mute = 0
            self._backoff.end()
            self._vouch(entry, doubts)
            return True
        self._reject(waiter, entry, "lost", error)
        return False

    def _reject(self, waiter: Waiter, entry: Entry[Any], reason: str, error: Exception | None = None) -> None:
        with self._lock:
            doomed = self._taken_back(waiter, entry, reason, error)
        if doomed is not None:
            self._part_with(doomed, aside=True)
        else:
            self._settle()

    def _taken_back(self, waiter: Waiter, entry: Entry[Any], reason: str, error: Exception | None) -> Any:
        """Have the state take back what is of no use; return what to close, if anything. Called under the lock."""
        doomed = self._state.reject(waiter, reason)
        if error is not None:
            self._note_loss(entry, error)
            # A server that lets everybody in and answers nobody is not to be stormed.
            self._mute = self._mute + 1 if entry.uses <= 1 and (waiter.unused or 0.0) < NEW else 0
            if self._mute >= MUTE:
                self._state.distrust(waiter, uptime() + self._backoff.next())
        return doomed

    def _glance(self, waiter: Waiter, entry: Entry[Any]) -> bool:
        """Look only at what is known here, for a caller who has no time for more; what is doubted is not for him."""
        if not entry.suspect and self._readable(waiter.conn) is None:
            return True
        with self._lock:
            self._state.hand_back(waiter)
            waiter.conn = None
        self._settle()
        return False

    def _readable(self, conn: Any) -> int | None:
        """Return the descriptor of *conn* if there is something to read: its end perhaps, or what the server said."""
        assert self._opener.connector is not None
        descriptor = self._opener.connector.fileno(conn)
        return descriptor if descriptor is not None and is_readable(descriptor) else None

    def _vouch(self, entry: Entry[Any], doubts: int) -> None:
        with self._lock:
            self._state.vouch(entry, uptime(), doubts)

    def _note_loss(self, entry: Entry[Any], error: Exception) -> None:
        """One was lost: so may be all that were opened before now. Called under the lock."""
        self._state.last_error = self._opener.errors.PoolError(f"a connection was lost: {error}")
        late = isinstance(error, Overdue)
        self._state.tally.found_dead(getattr(error, "found_by", "ping"), uptime(), late)
        self._state.mourn(entry, late)

    def _hung_up(self) -> Exception:
        error: Any = self._opener.errors.PoolError("the other side has closed it")
        error.found_by = "poll"
        return error  # type: ignore[no-any-return]

    def _fault(self, conn: Any, entry: Entry[Any], unused: float, left: float | None) -> Exception | None:
        """Return what is wrong with *conn*, of which nobody has heard for *unused* seconds; None if it is fine."""
        error, ask = self._doubt(conn, entry, unused)
        if ask:
            entry.pings += 1
            try:
                self._opener.ping(conn, left, entry.suspect == WRITABLE)
            except Exception as exc:
                return exc
        return error

    def _doubt(self, conn: Any, entry: Entry[Any], unused: float) -> tuple[Exception | None, bool]:
        """Return what is known to be wrong with *conn* without asking the server, and whether it must be asked."""
        options = self._config
        ask = bool(entry.suspect) or (options.ping_after is not None and unused >= options.ping_after)
        if not ask and options.check_after is not None and unused >= options.check_after:
            descriptor = self._readable(conn)
            if descriptor is not None and is_hung_up(descriptor):
                return self._hung_up(), False
            ask = descriptor is not None
        return None, ask

    # ---- in the background ------------------------------------------------------------------------------------------

    def _lose(self, entries: list[Entry[Any]]) -> None:
        """The system says that the other side has closed these."""
        with self._lock:
            self._state.lose(entries)
        self._settle()
        self._refill()
        self._await_sweep()

    def _sweep(self) -> None:
        """What the housekeeper has done from time to time, in a thread that it starts."""
        try:
            self._tidy(self._config.ping_interval)
        finally:
            self._await_sweep()

    def _await_sweep(self) -> None:
        """Say when the next sweep is due: soon, if a server that refuses is to be tried again to have minconn."""
        now, due = uptime(), uptime() + self._config.sweep_period()
        if now < self._state.retry_at and self._state.missing():
            due = min(due, self._state.retry_at)
        if not self._state.closed:
            self._sweep_by(due)

    def _tidy(self, ping_unheard: float | None, wait: bool = False) -> None:
        """Close what is past its limits, ping what was not heard of for so long, tell of leaks, have minconn."""
        self._notice_sleep()
        self._expire()
        self._tell_what_lasts()
        if ping_unheard is not None:
            for entry in list(self._entries.values()):
                if uptime() - max(entry.since, entry.seen) >= ping_unheard:
                    self._ping_idle(entry)
        self._refill(wait)

    def _tell_what_lasts(self) -> None:
        """Tell of leases that are too long and of lines that were left out, and write the history's row."""
        tell_long_leases(self, self._state, self._config)
        logs.left_out(self)
        if self._history is not None and self._next_row is None and not self._history.by_hand:
            self._write_row()

    def _expire(self) -> None:
        """Close what is past its limits; what must be replaced one after the other, so that minconn - 1 are there."""
        now, replaces = uptime(), self._config.start != "lazy"
        while True:
            todo = Todo()
            with self._lock:
                left = self._state.expire(now, todo.close, one_by_one=replaces)
            self._do(todo)
            self._settle()
            missing = self._state.missing()
            if not left or self._state.closed:
                return
            self._refill(wait=True)
            if self._state.missing() >= missing:  # the server refuses, or a limiter: the next sweep goes on
                return

    def _ping_idle(self, entry: Entry[Any]) -> None:
        with self._lock:
            conn, doubts = self._state.borrow(entry), self._state.doubts
        if conn is None:  # in use
            return
        entry.pings += 1
        try:
            self._opener.ping(conn, None, entry.suspect == WRITABLE)
        except Exception as exc:
            with self._lock:
                self._note_loss(entry, exc)
            self._dismiss(conn, "lost")
            return
        except BaseException:
            self._dismiss(conn, "interrupted")
            raise
        with self._lock:
            self._state.vouch(entry, uptime(), doubts)
            self._state.put_back(entry, conn)
        conn = None
        self._settle()

    def _refill(self, wait: bool = False) -> None:
        state = self._state
        if self._config.start != "lazy" and not state.closed and uptime() >= state.refill_at:
            self._open_missing([], wait)  # in threads, where there may be: a connect can take long

    def _open_missing(self, errors: list[BaseException], wait: bool) -> None:
        """Open what is missing to have minconn; put what goes wrong on *errors*."""
        self._fill(errors)
