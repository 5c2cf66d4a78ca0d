"""Upkeep: looks at connections: before one is handed out, from time to time, and when the system says it is lost."""
# mypy: disable-error-code="override"
# (What may wait in the pools for threads is awaited here, or done by a task.)

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dbpool.aio.connecting import AsyncConnecting
from dbpool.clock import uptime
from dbpool.core import C
from dbpool.entry import FOR_EVER, WRITABLE, Entry
from dbpool.state import Todo
from dbpool.upkeep import LEAST_TIME

if TYPE_CHECKING:
    from dbpool.aio.core import TaskWaiter
    from dbpool.semaphore import Waiter


class AsyncUpkeep(AsyncConnecting[C]):
    """How a pool keeps its connections usable."""

    _expiring: asyncio.Future[None] | None = (
        None  # done when the sweep or check that is under way has closed what is old
    )

    # ---- before it is handed out ------------------------------------------------------------------------------------

    async def _examine(self, waiter: TaskWaiter) -> bool:
        """Look closely at what *waiter* was given; if it is of no use, take it back: it is first in line again."""
        entry, deadline = self._entries.get(id(waiter.conn)), waiter.deadline
        if entry is None:  # closed meanwhile
            return True
        if waiter.unused is None:
            return await self._share(waiter, entry)
        unused = waiter.unused + self._notice_sleep()
        waiter.terms = waiter.lease, unused
        if uptime() >= entry.use_by:  # known only now
            self._reject(waiter, entry, "lifetime")
            return False
        doubts, left = self._state.doubts, deadline - uptime()
        if left < LEAST_TIME:  # a ping that is cut off costs the connection
            return self._glance(waiter, entry)
        # Half of what is left: the other half is for opening another.
        cid = id(waiter.conn)
        looked = self._looks[cid] = asyncio.get_running_loop().create_future()
        try:
            error = await self._fault(waiter.conn, entry, unused, None if left == FOR_EVER else left / 2)
        except BaseException:  # cancelled: whatever was cut off in the midst of it, nobody else is to find out
            self._take_back(waiter, entry, "interrupted")
            raise
        finally:
            self._looks.pop(cid, None)
            looked.set_result(None)
        if error is None:
            self._mute = 0
            self._backoff.end()
            self._vouch(entry, doubts)
            return True
        self._reject(waiter, entry, "lost", error)
        return False

    def _glance(self, waiter: Waiter, entry: Entry[Any]) -> bool:
        """Look only at what is known here, for a caller who has no time for more. What is doubted, a task asks."""
        if not entry.suspect and self._readable(waiter.conn) is None:
            return True
        self._state.hand_back(waiter)
        waiter.conn = None
        borrowed = self._state.borrow(entry)
        if borrowed is not None:
            self._state.gate = True
            self._state.waiters.return_to_head(waiter)
            self._spawn(self._ask(borrowed, entry))
        self._settle()
        return False

    async def _share(self, waiter: TaskWaiter, entry: Entry[Any]) -> bool:
        """Wait while another looks at what *waiter* has under the same key; queue again if that came to nothing.

        So too if those who shared it have put it before this task could run.
        """
        looked = self._looks.get(id(waiter.conn))
        if looked is not None:
            await asyncio.wait({looked}, timeout=None if waiter.deadline == FOR_EVER else waiter.deadline - uptime())
        leased = entry.uses == waiter.lease and self._state.keyed.get(waiter.key) is waiter.conn
        if leased and (looked is None or looked.done()):
            return True
        self._state.hand_back(waiter)
        waiter.conn = None
        if looked is None or looked.done():
            self._queue(waiter)
        else:
            self._give_up(waiter, waiter.limit)
        return False

    def _queue(self, waiter: TaskWaiter) -> None:
        """Put *waiter* in line, or give it at once what its key has already."""
        waiter.conn = self._state.arrive(waiter)
        if waiter.conn is None:
            self._settle()
        else:
            waiter.terms = self._entries[id(waiter.conn)].uses, None

    def _reject(self, waiter: Waiter, entry: Entry[Any], reason: str, error: Exception | None = None) -> None:
        self._take_back(waiter, entry, reason, error)
        self._settle()

    def _take_back(self, waiter: Waiter, entry: Entry[Any], reason: str, error: Exception | None = None) -> None:
        """Take back what is of no use, also from those who share its key, and have it closed."""
        doomed = self._taken_back(waiter, entry, reason, error)
        if doomed is not None:
            self._close_soon(doomed)

    async def _fault(self, conn: Any, entry: Entry[Any], unused: float, left: float | None) -> Exception | None:
        """Return what is wrong with *conn*, of which nobody has heard for *unused* seconds; None if it is fine."""
        error, ask = self._doubt(conn, entry, unused)
        if ask:
            entry.pings += 1
            try:
                await self._opener.ping(conn, left, entry.suspect == WRITABLE)
            except Exception as exc:
                return exc
        return error

    # ---- from time to time ------------------------------------------------------------------------------------------

    def _lose(self, entries: list[Entry[Any]]) -> None:
        """The system says that the other side has closed these."""
        self._state.lose(entries)
        self._settle()
        self._spawn(self._replace_lost())

    async def _replace_lost(self) -> None:
        await self._closed_now()
        self._refill()
        self._await_sweep()

    def _begin_sweep(self) -> None:
        """What the keeper calls when a sweep is due."""
        if self._loop is not None and not self._loop.is_closed():
            self._spawn(self._sweep())

    async def _sweep(self) -> None:
        try:
            await self._tidy(self._config.ping_interval)
        finally:
            self._await_sweep()

    async def _tidy(self, ping_unheard: float | None, wait: bool = False) -> None:
        """Close what is past its limits, ping what was not heard of for so long, tell of leaks, have minconn."""
        self._notice_sleep()
        while self._expiring is not None:  # two at a time would close two where one is to be replaced
            await asyncio.wait({self._expiring})
        self._expiring = ended = asyncio.get_running_loop().create_future()
        try:
            await self._expire()
        finally:
            self._expiring = None
            ended.set_result(None)
        self._tell_what_lasts()
        if ping_unheard is not None:
            for entry in list(self._entries.values()):
                if uptime() - max(entry.since, entry.seen) >= ping_unheard:
                    await self._ping_idle(entry)
        await self._closed_now()  # a connection holds its slot until then
        self._refill()
        if wait:
            await self._opened(self._state.minconn, [])

    async def _expire(self) -> None:
        """Close what is past its limits; what must be replaced one after the other, so that minconn - 1 are there."""
        now, replaces = uptime(), self._config.start != "lazy"
        while True:
            todo = Todo()
            left = self._state.expire(now, todo.close, one_by_one=replaces)
            self._do(todo)
            self._settle()
            await self._closed_now()
            if not left or self._state.closed or not await self._is_refilled():
                return  # the server refuses, or a limiter: the next sweep goes on

    async def _is_refilled(self) -> bool:
        """Open what is missing to have minconn. What is opened may make another one superfluous, and so on."""
        while self._state.missing():
            opened = self._state.opened
            self._refill()
            await self._opened(self._state.minconn, [])
            await self._closed_now()
            if self._state.opened == opened:
                return False
        return True

    async def _closed_now(self) -> None:
        """Wait until what is being closed is closed."""
        if self._closings:
            await asyncio.wait(self._closings)

    async def _ping_idle(self, entry: Entry[Any]) -> None:
        conn = self._state.borrow(entry)
        if conn is not None:  # else it is in use
            await self._ask(conn, entry)

    async def _ask(self, conn: Any, entry: Entry[Any]) -> None:
        """Ping what was borrowed, and put it back."""
        doubts = self._state.doubts
        entry.pings += 1
        try:
            await self._opener.ping(conn, None, entry.suspect == WRITABLE)
        except Exception as exc:
            self._note_loss(entry, exc)
            self._dismiss(conn, "lost")
            return
        except BaseException:
            self._dismiss(conn, "interrupted")
            raise
        self._state.vouch(entry, uptime(), doubts)
        self._state.put_back(entry, conn)
        conn = None
        self._settle()

    def _refill(self) -> None:
        state = self._state
        if self._config.start != "lazy" and not state.closed and self._begun and uptime() >= state.refill_at:
            self._open_missing([])
