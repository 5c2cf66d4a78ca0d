"""Which connections may be handed out: not the drained, the old, those idle for too long; and which are doubted.

Part of the state machine, and as pure as state.py, which decides who gets which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from dbpool.entry import ALIVE, RETIRED
from dbpool.registry import Registry

if TYPE_CHECKING:
    from dbpool.entry import Entry
    from dbpool.semaphore import Waiter


class Health(Registry):
    """The connections of one pool, and what is known of their state."""

    def drain(self) -> None:
        """Retire every connection that is open or being opened."""
        self.generation += 1
        for entry in list(self.entries.values()):
            self.retire(entry)

    # ---- doubt ------------------------------------------------------------------------------------------------------

    def mourn(self, entry: Entry[Any] | None, cut_off: bool) -> None:
        """This one is lost, *cut_off* by us perhaps: so may be all that were opened before now."""
        if cut_off:
            self.abort(entry)
        self.doubt()

    def doubt(self, level: int = ALIVE) -> None:
        """One was found dead: have every other one asked before it is handed out again."""
        self.doubts += 1
        for entry in list(self.entries.values()):
            entry.suspect = max(entry.suspect, level)
            entry.look_at = RETIRED

    def abort(self, entry: Entry[Any] | None) -> None:
        """It had to be cut off, or left behind: the server may list it for some time yet."""
        if entry is not None and not entry.aborted:
            entry.aborted = True
            self.aborted += 1

    def lose(self, entries: list[Entry[Any]]) -> None:
        """The other side has closed these: not because we are closing them just now."""
        for entry in entries:
            cid = entry.cid
            if cid is not None and self.entries.get(cid) is entry and cid not in self.closing:
                self.tally.dead["watch"] += entry.fate != "lost"  # the system may tell of it twice
                self.retire(entry, "lost")
                self.doubt()

    def vouch(self, entry: Entry[Any], now: float, doubts: int) -> None:
        """It was found alive, by a look that began when there had been so many *doubts*."""
        if doubts == self.doubts and entry.use_by != RETIRED:
            entry.suspect = 0
            entry.seen = now
            entry.look_at = min(entry.use_by, now + self.look_in)

    def age(self, seconds: float) -> None:
        """The machine was suspended: all have become older, and may have been lost meanwhile."""
        for entry in list(self.entries.values()):
            entry.since -= seconds
            entry.seen -= seconds
            if entry.use_by != RETIRED:
                entry.use_by = max(RETIRED + 1, entry.use_by - seconds)
        self.doubt()

    def reject(self, waiter: Waiter, reason: str) -> Any:
        """Take back what *waiter* was given: it is of no use. It is first in line again; return what to close."""
        doomed: list[Any] = []
        if waiter.key is None or self.keyed.get(waiter.key) is waiter.conn:  # else who shares the key has put it
            self._discard(waiter.conn, reason, doomed)
        waiter.conn = None  # only now: cut off before, it would be nobody's
        self.gate = True
        self.waiters.return_to_head(waiter)
        return doomed.pop() if doomed else None

    def distrust(self, waiter: Waiter, retry_at: float) -> None:
        """A connection was of no use when it was new: leave the server alone; who is not patient is told at once."""
        self.retry_at = retry_at
        if not waiter.patient:
            error = self.errors.PoolExhausted("connection pool exhausted: the server lets us in, but does not answer")
            error.__cause__ = self.last_error
            self._refuse(waiter, error)

    def borrow(self, entry: Entry[Any]) -> Any:
        """Take one that is idle, to look at it; None if it is not idle any more."""
        for passed in range(len(self.idle)):
            conn = self._pop_idle(self.idle.popleft)
            if conn is not None and self.entries.get(id(conn)) is entry:
                self.idle.rotate(passed)
                return conn
            if conn is not None:
                self.idle.append(conn)
        return None

    def put_back(self, entry: Entry[Any], conn: Any) -> None:
        """Make one idle again that was borrowed, and not used: where it was, in the order of their last leases."""
        newer = 0
        for other in reversed(self.idle.copy()):
            known = self.entries.get(id(other))
            if known is None or known.since <= entry.since:
                break
            newer += 1
        self.idle.insert(max(0, len(self.idle) - newer), conn)

    # ---- limits -----------------------------------------------------------------------------------------------------

    def expire(self, now: float, doomed: list[Any], one_by_one: bool = False) -> bool:
        """Close idle connections that have reached their lifetime, wherever among the others they are.

        *one_by_one*: of those that must be replaced, to have minconn, only one. True if others are left for later.
        """
        left = False
        for _ in range(len(self.idle)):
            conn = self._pop_idle(self.idle.popleft)
            entry = None if conn is None else self.entries.get(id(conn))
            if entry is None:
                continue
            over = self._over(entry, now)
            later = over is not None and one_by_one and bool(doomed) and self._is_short()
            if over is None or later:
                self.idle.append(conn)
                left = left or later
            else:
                self._discard(conn, over, doomed)
        return left

    def _is_short(self) -> bool:
        """True if fewer than minconn are open."""
        return len(self.entries) - len(self.closing) < self.minconn

    def _shrink(self, now: float, doomed: list[Any]) -> None:
        """Close idle connections that nobody may have: the pool is closed, over its limit, or they are drained."""
        while self.idle and (self.closed or self.waiters.room(self.size() - len(self.closing)) < 0):
            self._doom("closed" if self.closed else "surplus", doomed)
        if self.drained:
            self.expire(now, doomed)

    def _trim(self, now: float, doomed: list[Any]) -> None:
        """Close what is left over once everybody is served."""
        while self.idle and self.size() - len(self.closing) > self.maxconn:
            self._doom("overflow", doomed)
        while not self._keep_surplus and len(self.idle) > self.minconn:
            self._doom("surplus", doomed)
        for _ in range(len(self.idle)):
            over = self._over_at_the_left(now)
            if over is None or self._is_short():  # another one only when the last has been replaced
                return
            self._doom(over, doomed)

    def _over(self, entry: Entry[Any], now: float) -> str | None:
        """Say which limit an idle connection has passed, if any."""
        if now >= entry.use_by:
            return "lifetime"
        unused = now - entry.since >= self._idle_limit
        return "idle" if unused and self.size() - len(self.closing) > self.minconn else None

    def _over_at_the_left(self, now: float) -> str | None:
        """Look at the one that was put back first; those used least are there."""
        try:
            entry = self.entries.get(id(self.idle[0]))
        except IndexError:  # a hit was quicker
            return None
        return None if entry is None else self._over(entry, now)

    def _doom(self, reason: str, doomed: list[Any]) -> None:
        conn = self._pop_idle(self.idle.popleft)
        if conn is not None:
            self._discard(conn, reason, doomed)

    def _pop_idle(self, pop: Callable[[], Any]) -> Any:
        try:
            return pop()
        except IndexError:  # a hit was quicker
            return None
