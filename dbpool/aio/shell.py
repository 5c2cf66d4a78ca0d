"""Shell: getting: waiting in line, looking closely at what was given, giving up."""
# mypy: disable-error-code="override"
# (What may wait in the pools for threads is awaited here.)

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import ref

from dbpool import holders, standing
from dbpool.aio.deadlines import BLOCKED
from dbpool.aio.returning import AsyncReturning
from dbpool.aio.tasks import OURS
from dbpool.aio.upkeep import AsyncUpkeep
from dbpool.clock import STANDSTILL, uptime
from dbpool.core import C
from dbpool.entry import FOR_EVER
from dbpool.listener import tell
from dbpool.pool import _collect

if TYPE_CHECKING:
    from dbpool.aio.core import TaskWaiter
    from dbpool.config import Timeout
    from dbpool.errors import PoolError

SPARE = 20  # of the loop's time at most one part in so many goes into looking at all who wait


class AsyncShell(AsyncUpkeep[C], AsyncReturning[C]):
    """One pool's state, loop and opener, and everything slow that is done for it."""

    _next_look = 0.0  # when all tasks may be looked at again

    def _arrive(self, key: Any, timeout: Timeout) -> TaskWaiter:
        """Stand in line, or have at once what the key has already."""
        limit = self._limit(timeout)
        self._bind()
        if not self._begun:
            self._begin_open()
        waiter = self._new_waiter(key, limit)
        try:
            self._queue(waiter)
        except BaseException:
            self._abandon(waiter)
            raise
        return waiter

    def _received(self, waiter: TaskWaiter) -> Any:
        """Return what *waiter* was given, for good; tell of it."""
        conn = waiter.conn
        if waiter.slept:
            tell(self._listener, "waited", self, uptime() - waiter.since)
        entry = self._entries.get(id(conn))
        if entry is not None:
            if self._config.trace:
                entry.site = standing.here()
            if waiter.key is not None and self._state.keyed.get(waiter.key) is conn:
                entry.kept += 1
        tell(self._listener, "acquired", self, conn)
        return conn

    def _begin_open(self) -> None:
        """The pool is used before it was opened."""
        self._begun = True
        if self._config.start != "lazy" and not self._state.closed:
            self._open_missing([])

    def _awaited(self, waiter: TaskWaiter) -> Any:
        """Do what can be done for *waiter* now. Return what it must wait for; None once it has been given something."""
        if waiter.future is not None:  # it was woken
            waiter.future = None
            if waiter.conn is None and waiter.error is None:
                self._settle()
        while waiter.conn is None and waiter.error is None:
            if not waiter.patient:
                self._hurry(waiter)
            ticket = waiter.ticket
            if ticket is not None and not ticket.started:
                self._start(ticket)
            awaited = self._sleep(waiter, ticket) if waiter.patient else self._what_comes_soon(waiter, ticket)
            ticket = None
            if awaited is not None:
                return awaited
            self._give_up(waiter, waiter.limit)
        if waiter.conn is None:
            self._raise(waiter)
        return None

    def _what_comes_soon(self, waiter: TaskWaiter, ticket: Any) -> Any:
        """For who does not wait for a return: what is being opened for him, or closed in his way.

        The other pools do both in the caller. None if there is nothing of the kind.
        """
        if ticket is not None and ticket.ref is not None:
            return self._future(waiter)
        for task in self._closings:
            return asyncio.shield(task)
        limiter = self._state.limiter
        return None if limiter is None or not limiter.closing else self._future(waiter)

    def _sleep(self, waiter: TaskWaiter, ticket: Any) -> Any:
        """Return a future that is done when *waiter* is woken; None once its deadline has passed."""
        now = uptime()
        if now >= waiter.deadline:
            if now - waiter.deadline < BLOCKED or waiter.deadline > waiter.since + (waiter.limit or 0.0):
                return None
            waiter.deadline = now + BLOCKED  # something has held up the loop: what has come is to be read first, once
        if self._config.detect_deadlock and self._is_stuck(waiter):
            raise self._deadlock()
        self._ring_by(waiter.deadline)
        future = self._future(waiter)
        if waiter.place is None:  # it is not in line: what it was given, it had no time to look at
            self._loop.call_later(waiter.deadline - now, waiter.wake)  # type: ignore[union-attr]
        return future

    def _future(self, waiter: TaskWaiter) -> Any:
        assert self._loop is not None
        waiter.slept = True
        waiter.future = self._loop.create_future()
        return waiter.future

    def _rang(self) -> None:
        """Wake those whose deadline has passed. One timer for all of them takes less than one for each."""
        began = uptime()
        stood = monotonic() - self._alarm_due
        if stood >= STANDSTILL:  # the process, or its loop, stood still: nobody is out of time for that
            for waiter in self._state.waiters:
                waiter.deadline += stood  # type: ignore[attr-defined]
        super()._rang()
        next_ring, last = FOR_EVER, None
        for last in self._state.waiters:
            if began >= last.deadline or not last.patient:  # type: ignore[attr-defined]
                last.wake()
            else:
                next_ring = min(next_ring, last.deadline)  # type: ignore[attr-defined]
        if last is not None:
            if self._config.detect_deadlock and self._is_stuck(last) and last.error is None:
                last.error = self._deadlock()
                last.wake()
            now = uptime()
            self._ring_by(max(next_ring, now + SPARE * (now - began)))

    def _deadlock(self) -> PoolError:
        self._state.tally.deadlocks += 1
        error: PoolError = self._opener.errors.PoolDeadlock(
            "connection pool exhausted: every task of the event loop waits for this pool, so nobody can put a "
            f"connection back {self._described()}"
        )
        return error

    def _is_stuck(self, waiter: Any) -> bool:
        """True if nothing can end the wait: all tasks are in line here, and nothing is under way."""
        began, state = uptime(), self._state
        if began < self._next_look:  # with thousands of tasks a look takes long
            self._ring_by(self._next_look)
            return False
        limiter = state.limiter
        if state.lost or state.idle or state.closed or state.under_way() or (limiter and limiter.under_way()):
            return False
        waiters = [*state.waiters, *(limiter.in_line() if limiter else ())]  # for its limit, in one pool or another
        in_line = set(self._who.numbers([each.ident for each in waiters if isinstance(each.ident, ref)]))
        tasks = {id(task) for task in asyncio.all_tasks(self._loop) if task not in OURS}
        self._next_look = uptime() + SPARE * (uptime() - began)
        if not tasks <= in_line:
            return False
        _collect(uptime())
        states = limiter.states() if limiter else [state]
        holding = [holder for each in states for _, holder, _, _ in holders.leased(each)]
        # Where the task that got a connection has ended, something else may put it: a callback, another thread's call.
        # So may, under a limiter, a thread, or a task of another loop.
        known = all(isinstance(holder, ref) for holder in holding)
        return not state.lost and bool(holding) and known and set(self._who.numbers(holding)) <= tasks
