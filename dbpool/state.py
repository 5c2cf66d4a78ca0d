"""Who gets which connection. No lock, no clock, no thread, no loop, no log, no I/O in this file.

Everything that moves a connection is here and in registry.py, but for the two hits in abstract.py. They run beside
this code without a lock: they take from ``idle``, add to and pop from ``leases``, read ``entries``, ``gate`` and
``closed``. All other reading and writing is done under the shell's lock.

Each step may be the last one that is run: an interrupt can strike between any two. So ``match`` can be repeated after
any prefix of itself, what it has in hand is freed when dropped (a connection and a ticket are known weakly), and what
died is reaped by the next call. docs/internals tells why each step stands where it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.entry import FOR_EVER
from dbpool.health import Health

if TYPE_CHECKING:
    from dbpool.entry import Entry
    from dbpool.semaphore import Waiter


class Todo:
    """What match() wants done outside the lock. Dropped undone, what it holds frees its slots by itself."""

    __slots__ = ("again", "clean", "close")

    def __init__(self) -> None:
        self.again: list[bool] = []  # not empty: something has changed since, so match again
        self.close: list[Any] = []  # connections to close
        self.clean: list[tuple[Entry[Any], Any]] = []  # taken from threads that ended: reset, then pool


class PoolState(Health):
    """The connections of one pool, who has them, and who waits for them."""

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def arrive(self, waiter: Waiter) -> Any:
        """Queue *waiter*. Or return at once the connection that its key has already."""
        if self.closed:
            raise self.errors.PoolClosed("connection pool is closed")
        conn = None if waiter.key is None else self.keyed.get(waiter.key)
        if conn is not None:
            self.entries[id(conn)].shared += 1
            return conn
        if self._max_waiting is not None:
            ahead = len(self.waiters) - len(self.tickets)
            if ahead - len(self.idle) - max(0, self.waiters.room(self.size())) >= self._max_waiting:
                self.refused += 1
                raise self.errors.TooManyWaiters(
                    f"connection pool exhausted: max_waiting={self._max_waiting} callers wait already "
                    f"(pool {self.describe()})"
                )
        self.waiters.join(waiter)
        self.gate = True
        return None

    def depart(self, waiter: Waiter) -> None:
        """Take *waiter* from the queue; what it was given stays with it. A ticket not begun gives its slot back."""
        self.waiters.leave(waiter)
        self._take_back_ticket(waiter)

    def _take_back_ticket(self, waiter: Waiter) -> None:
        ticket = waiter.ticket
        if ticket is not None and not ticket.started:
            waiter.ticket = None  # else, handed a connection of no use, it would try to begin this one for ever
            self.end(ticket)

    def hand_back(self, waiter: Waiter) -> None:
        """Take back what was given to *waiter*, which leaves without using it, unless that lease has ended."""
        conn, cid = waiter.conn, id(waiter.conn)
        entry = self.entries.get(cid)
        if entry is None or cid in self.closing or entry.uses != waiter.lease:
            return
        if entry.key != waiter.key:
            return  # it shared the lease of another, who ended it under the key and is about to put the connection
        if entry.key is not None:
            entry.shared -= 1
            if entry.shared > 0:
                return  # another caller has it under the same key; so it stays leased
            self.keyed.pop(waiter.key, None)
            entry.key = None
        elif self.leases.pop(cid, None) is None:
            return
        self.idle.append(conn)

    # ---- matching ---------------------------------------------------------------------------------------------------

    def match(self, now: float) -> Todo:
        """Do all that can be done now; return what is to be done outside the lock.

        Can be cut off anywhere and run again.
        """
        todo = Todo()
        self.again = todo.again
        if self.lost:
            self._reap(todo.clean)
        if self.tickets:
            self._expire(now)
        if self.idle:
            if self.size() > self._kept or self.closed or self.drained:
                self._shrink(now, todo.close)
            if self.limiter is not None and self.idle:
                self._yield_to_others(todo.close)
        queue = self.waiters.queue
        if queue:
            self._serve(now, todo.close)
            if self.waiters.room(self.size()) > 0:
                self._offer(now, len(todo.clean))
        if self.idle:
            self._trim(now, todo.close)
        if self.limiter is not None:
            self._wish(now)
        if self.closed and not self.size():
            for closer in list(self.closers):
                closer.wake()
        self.gate = (
            bool(queue)
            or self.divert
            or self.closed
            or bool(self.drained)
            or self.size() > self._kept
            or (self.limiter is not None and self.limiter.claims(self, FOR_EVER) > 0)
        )
        return todo

    def _yield_to_others(self, doomed: list[Any]) -> None:
        """Close an idle connection for a caller of another pool under our limiter who came before the first of ours.

        One: for the next caller that of yet another pool may be due, which was used less.
        """
        assert self.limiter is not None
        first = self.waiters.head()
        if self.limiter.claims(self, FOR_EVER if first is None else first.since):
            self._doom("limiter", doomed)

    def _wish(self, now: float) -> None:
        """Let the other pools know who waits here only because of the limiter."""
        wishes: list[float] = []
        room = min(self.waiters.room(self.size()), len(self.waiters) - len(self.tickets))
        if not self.may_connect(now):
            room = 0
        for waiter in self.waiters:
            if len(wishes) < room and (waiter.ticket is None or waiter.ticket.ref is None):
                wishes.append(waiter.since)
        self.wishes = wishes
        assert self.limiter is not None
        self.limiter.wished(self)
        self.limiter.count(self)  # whatever was cut off before

    def _serve(self, now: float, doomed: list[Any]) -> None:
        """Give idle connections to those who wait, the oldest first."""
        waiter = self.waiters.head()
        while waiter is not None:
            if waiter.conn is None and waiter.error is None and not self._give(waiter, now, doomed):
                return
            waiter.wake()
            self.waiters.leave(waiter)
            if waiter.ticket is not None:
                self._take_back_ticket(waiter)
            if waiter.slept:
                self.tally.waits.add(now - waiter.since)
            waiter = self.waiters.head()

    def _give(self, waiter: Waiter, now: float, doomed: list[Any]) -> bool:
        if self.closed:
            waiter.error = self.errors.PoolClosed("connection pool is closed")
            return True
        conn = None if waiter.key is None else self.keyed.get(waiter.key)
        if conn is None:
            if self.idle:
                conn = self._fit(waiter, now, doomed)
            if conn is None:
                return False
            entry = self.entries[id(conn)]
            unused = now - max(entry.since, entry.seen) if now >= entry.look_at else None
            entry.holder = waiter.ident
            entry.since = now
            entry.uses += 1
            if waiter.key is None:
                self.leases[id(conn)] = entry
            else:
                entry.key = waiter.key
                entry.home = waiter.key if self._at_home else None
                entry.depth = entry.kept = 0
                entry.by_block = entry.doomed = False
                entry.shared = 1
                self.keyed[waiter.key] = conn
        else:
            entry = self.entries[id(conn)]
            entry.shared += 1
            unused = None
        waiter.terms = entry.uses, unused
        waiter.conn = conn
        return True

    def _fit(self, waiter: Waiter, now: float, doomed: list[Any]) -> Any:
        """Take an idle connection that can be used."""
        while self.idle:
            conn = self._own(waiter.key) if self._at_home else None
            if conn is None:
                try:
                    conn = self.take()
                except IndexError:  # a hit was quicker
                    break
            entry = self.entries.get(id(conn))
            if entry is None:
                continue  # it was seized
            over = self._over(entry, now)
            if over is None and not self.unfit(conn):
                return conn
            self._discard(conn, over or "unfit", doomed)
        return None

    def _own(self, key: Any) -> Any:
        """Take the idle connection that *key* had last, if it is there; the order of the others stays."""
        for passed in range(len(self.idle)):
            conn = self.idle.pop()
            entry = self.entries.get(id(conn))
            if entry is not None and entry.home is key:
                self.idle.rotate(-passed)
                return conn
            self.idle.appendleft(conn)
        return None

    def _offer(self, now: float, coming: int) -> None:
        """Issue a ticket for every waiter for whom no connection is under way, while there is room."""
        if not self.may_connect(now, patient=False):  # before any look at each of them
            return
        wanted = len(self.waiters) - len(self.tickets) - coming
        if wanted <= 0:
            return
        for waiter in self.waiters:
            ticket = waiter.ticket  # most of those who wait for a connect have one under way
            if (ticket is None or ticket.ref not in self.tickets) and self.hurry(waiter, now):
                waiter.wake()
                wanted -= 1
                if wanted <= 0:
                    return

    def hurry(self, waiter: Waiter, now: float) -> bool:
        """Issue a ticket for *waiter*, if it has none under way and there is room."""
        under_way = waiter.ticket is not None and waiter.ticket.ref in self.tickets
        if under_way or waiter.conn is not None or waiter.error is not None:
            return False
        ticket = self.try_issue(now, waiter.place, waiter.patient, waiter.since)
        if ticket is None:
            return False
        waiter.ticket = ticket
        return True
