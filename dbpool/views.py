"""Views: what a pool tells of itself: its figures, its users, its sizes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

from dbpool import holders
from dbpool.clock import uptime
from dbpool.core import C, Core, _always
from dbpool.housekeeper import housekeeper
from dbpool.listener import PoolListener, Several, without
from dbpool.stats import PoolStats, snapshot, used

if TYPE_CHECKING:
    from dbpool.history import History
    from dbpool.holders import PoolUser
    from dbpool.verdict import Verdict


class Views(Core[C]):
    """What can be asked of every pool; nothing of it waits."""

    def stats(self) -> PoolStats:
        """Return what the pool is doing, as a frozen PoolStats."""
        with self._lock:
            return snapshot(self._state)

    def holders(self) -> list[PoolUser]:
        """Return who holds a connection, and for how long; the longest first."""
        with self._lock:
            rows = holders.leased(self._state)
        return holders.users(rows, uptime(), self._who)

    def waiters(self) -> list[PoolUser]:
        """Return who waits for a connection, and for how long; the next one first."""
        with self._lock:
            rows = holders.waiting(self._state)
        return holders.users(rows, uptime(), self._who)

    def listen(self, listener: PoolListener) -> None:
        """Have *listener*, too, told of what happens from now on. From then on no hit takes the quick way.

        Raises TypeError if it is no PoolListener, or has asynchronous methods and the pool is not asynchronous.
        """
        if not isinstance(listener, PoolListener):
            raise TypeError(f"listener must be a PoolListener, not a {type(listener).__name__}")
        self._check_listener(listener)
        with self._lock:
            before = self._listener
            self._listener = listener if before is None else Several(*getattr(before, "all", (before,)), listener)
            if listener._hears_hits:
                self._state.divert = self._state.gate = True
                self._unclean = _always

    def _no_longer_listen(self, listener: PoolListener) -> None:
        """Tell *listener* of nothing more. What it made slow stays so."""
        with self._lock:
            self._listener = without(self._listener, listener)

    def history(self, seconds: float = 900.0, period: float = 1.0) -> History:
        """Return what the pool did in the last *seconds*, a row for each *period*; kept from the first call on.

        The housekeeper writes the rows. Without it (background=False, a pool for one thread) check() does.
        Raises TypeError or ValueError naming an argument that is wrong.
        """
        from dbpool.history import History  # most pools never need it

        with self._lock:
            kept: History | None = self._history
            if kept is None or (kept.seconds, kept.period) != (seconds, period):
                kept = self._history = History(seconds, period)
                kept.add(snapshot(self._state), uptime())
                self._await_row(kept)
            kept.asked = True
        return kept

    def verdict(self) -> Verdict:
        """Return what is the matter, in one line and a code: the pool, the database, a leak, or nothing."""
        return self._judged(self._who)

    def _judged(self, who: Any) -> Verdict:
        """Judge; *who* tells the names of those who use the pool, and where they stand."""
        from dbpool.verdict import Facts, judge

        state, history = self._state, self._history
        with self._lock:
            now, stats, line = uptime(), snapshot(state), holders.waiting(state)
            leases, rows = holders.oldest(state)
            tickets = holders.connecting(state)
        return judge(
            Facts(
                stats,
                state.tally,
                now,
                list(zip(holders.users(rows, now, who), map(self._is_busy, leases))),
                waited=max((now - since for _, _, since, _ in line), default=None),
                connecting=max((now - since for since in tickets), default=None),
                full_since=None if history is None else history.full_since(),
                threshold=self._config.leak_threshold,
                misfit=self._opener.misfit,
            )
        )

    def _is_busy(self, entry: Any) -> bool:
        """True if a leased connection waits for an answer, as far as its driver knows without asking."""
        conn, connector = entry(), self._opener.connector
        with suppress(Exception):
            return conn is not None and connector is not None and bool(connector.is_busy(conn))
        return False

    def _await_row(self, history: History) -> None:
        """Have the next row of *history* written in time."""
        if self._patient and self._config.background and not history.by_hand:
            known = ref(self)
            self._next_row = housekeeper.begin(history.period, lambda: _write_row(known, history))

    def __repr__(self) -> str:
        state = getattr(self, "_state", None)  # not there yet where a constructor was refused
        return f"<{type(self).__name__} {'not made' if state is None else state.describe()}>"

    @property
    def name(self) -> str:
        return self._state.name

    @property
    def minconn(self) -> int:
        return self._state.minconn

    @property
    def maxconn(self) -> int:
        return self._state.maxconn

    @property
    def closed(self) -> bool:
        return self._state.closed

    # What monitoring scripts read from psycopg2's pools: copies, in its shapes.

    @property
    def _pool(self) -> list[C]:
        return list(self._idle.copy())

    @property
    def _used(self) -> dict[Any, C]:
        return used(self._state)

    @property
    def _rused(self) -> dict[int, Any]:
        return {id(conn): key for key, conn in self._used.items()}

    @property
    def _keys(self) -> int:
        return self.stats().leases

    @property
    def _args(self) -> tuple[Any, ...]:
        return self._opener.args

    @property
    def _kwargs(self) -> dict[str, Any]:
        return self._opener.kwargs


def _write_row(known: Any, history: History) -> None:
    """What is done each period, as long as the pool lives, is open, and keeps this history."""
    pool = known()
    if pool is not None and pool._history is history and not (pool.closed or history.by_hand):
        pool._await_row(history)
        pool._write_row()
