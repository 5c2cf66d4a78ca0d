"""Core: binds a pool to an event loop, and has its tasks do what the state decides."""
# mypy: disable-error-code="override"
# (What may wait in the pools for threads is awaited here, or done by a task.)

from __future__ import annotations

import asyncio
from _thread import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, ref

from dbpool import logs
from dbpool.aio.keeper import keeper_of
from dbpool.aio.opening import opener_for
from dbpool.aio.tasks import OURS, Tasks, current
from dbpool.clock import uptime
from dbpool.core import C
from dbpool.entry import FOR_EVER
from dbpool.listener import tell
from dbpool.locks import RLock
from dbpool.pool import _collect
from dbpool.semaphore import Waiter
from dbpool.shell import Shell
from dbpool.views import Views, _write_row

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dbpool.entry import Entry
    from dbpool.state import Todo

HEARTBEAT = 1.0  # seconds after which a pool with waiters looks by itself: nothing depends on their being woken


class TaskWaiter(Waiter):
    """Sleeps on a future of the loop's."""

    __slots__ = ("deadline", "future")

    def __init__(self, key: Any, ident: Any, since: float, limit: float | None = None) -> None:
        super().__init__(key, ident, since, limit)
        self.deadline = since + limit if limit else FOR_EVER
        self.future: Any = None  # while it sleeps

    def wake(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class AsyncCore(Views[C], Shell[C]):
    """One pool's state, its loop and its tasks. What would take long is done by a task of the pool's own.

    No step between two awaits can be disturbed by another task: so the loop is the lock.
    """

    _patient = True
    _opener: Any  # an AsyncOpener or a ThreadOpener

    def __init__(self, *args: Any) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0  # in which the loop runs
        self._keeper: Any = None
        self._timer: Any = None  # the keeper's
        self._tasks: set[asyncio.Task[Any]] = set()  # a loop keeps only weak references to them
        self._openings: set[asyncio.Task[Any]] = set()  # those of them that open connections
        self._closings: set[asyncio.Task[Any]] = set()  # those that close one
        self._hearings: set[asyncio.Task[Any]] = set()  # those that do what the listener does
        self._alarm: asyncio.TimerHandle | None = None  # while somebody waits: the pool looks by itself ...
        self._rings_at = FOR_EVER  # ... then
        self._alarm_due = 0.0  # the same by a clock that no test replaces
        self._looks: dict[int, asyncio.Future[None]] = {}  # id(connection) -> done when it has been looked at
        self._begun = False  # minconn has been seen to
        self._who = Tasks()
        super().__init__(*args)

    def _new_opener(self, connect: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return opener_for(connect, args, kwargs, self._config, self._error)

    def _connect_limit(self) -> float | None:
        return None  # the task that connects keeps it

    def _new_lock(self) -> Any:
        return RLock()  # it tells when it is entered again, by a finalizer or a signal

    def _new_waiter(self, key: Any, limit: float | None = None) -> TaskWaiter:
        return TaskWaiter(key, current(self._loop), uptime(), limit)

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Belong to the running loop. A pool whose loop is closed begins anew in the next."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise self._opener.errors.PoolError(
                f"pool {self.name!r} belongs to the event loop {_shown(self._loop)}, which is not closed, and cannot "
                f"be used from {_shown(loop)}: make one pool for each loop"
            )
        self._leave_if_closed()
        self._loop = self._who.loop = loop
        self._thread = get_ident()
        self._keeper = keeper_of(loop)
        self._keeper.join(self)
        if self._history is not None:
            self._await_row(self._history)

    async def _end_in_loop(self) -> None:
        """The loop is about to be closed: close what could not be closed then, also what was not put back."""
        self._begun = False  # nothing is opened in place of what is closed
        self._state.drain()
        for conn in self._state.seize():
            self._close_soon(conn)
        conn = None
        self._settle()
        if self._closings:
            await asyncio.wait(self._closings, timeout=self._config.check_timeout)
        await self._heard()

    def _leave_if_closed(self) -> None:
        """Once the loop was closed, its connections can be closed no more, only let go."""
        with self._lock:  # a thread that waits under the same limiter may be about to do this, too
            if self._loop is None or not self._loop.is_closed():
                return
            left = [entry() for entry in list(self._entries.values())]
            self._forget_loop()
            self._state.renew()
            self._loop = self._who.loop = self._keeper = None
        for conn in left:
            if conn is not None:
                self._opener.abandon(conn)

    def _forget_loop(self) -> None:
        for tasks in (self._tasks, self._openings, self._closings, self._hearings):
            tasks.clear()
        self._looks.clear()
        self._timer = self._next_row = None
        self._alarm, self._rings_at = None, FOR_EVER
        self._tended = self._begun = False

    def _renew_after_fork(self) -> None:
        super()._renew_after_fork()
        self._forget_loop()
        self._loop = self._who.loop = self._keeper = None

    def _spawn(self, work: Coroutine[Any, Any, Any], among: set[asyncio.Task[Any]] | None = None) -> Any:
        """Have a task of the pool's own do *work*; until it has ended it is *among* those of its kind."""
        assert self._loop is not None
        task = self._loop.create_task(work)
        OURS.add(task)
        self._tasks.add(task)
        if among is not None:
            among.add(task)
            task.add_done_callback(among.discard)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logs.debug("%s: a task of the pool's ended by %s", self._state.name, type(task.exception()).__name__)

    def _check_listener(self, listener: Any) -> None:
        """Whatever it does can be awaited."""

    def _await_listener(self, work: Any) -> None:
        """Have a task do what the listener does."""
        self._spawn(work, self._hearings)

    async def _heard(self) -> None:
        """Wait until the listener has done what it does; not if it is the listener who waits, and not for ever."""
        others = self._hearings - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=self._config.check_timeout)

    def _await_row(self, history: Any) -> None:
        """Have the loop's keeper see to the next row; this may be asked for in any thread."""
        if self._keeper is None or not self._config.background or history.by_hand:
            return
        known = ref(self)
        self._next_row = self._keeper
        self._keeper.begin(history.period, lambda: _write_row(known, history))

    # ---- acting on decisions ----------------------------------------------------------------------------------------

    def _settle(self, aside: bool = False) -> None:
        """Have the state match connections and waiters, and have tasks do what it says."""
        super()._settle()
        if self._state.waiters:
            now = uptime()
            self._ring_by(self._state.retry_at if now < self._state.retry_at < now + HEARTBEAT else now + HEARTBEAT)

    def _ring_by(self, when: float) -> None:
        """Have the pool look by itself at *when*, if it does not before."""
        loop = self._loop
        if loop is None or loop.is_closed() or when >= self._rings_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._rings_at = when
        seconds = max(0.0, when - uptime())
        self._alarm_due = monotonic() + seconds
        self._alarm = loop.call_later(seconds, _ring, WeakMethod(self._rang))

    def _rang(self) -> None:
        self._silence()
        first = self._state.waiters.head()
        if first is not None and uptime() - first.since >= HEARTBEAT:
            _collect(uptime())
        self._settle()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._rings_at = None, FOR_EVER

    def _look_again(self) -> None:
        """A pool under the same limiter has changed something: perhaps in another thread, or in another loop."""
        loop = self._loop
        if loop is None:
            return
        if loop.is_closed():  # else the others would wait for those who waited there, and for what they had
            self._leave_if_closed()
            return
        if asyncio._get_running_loop() is loop:
            self._settle()
            return
        try:
            loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # closed just now
            pass

    def _do(self, todo: Todo, aside: bool = False) -> list[bool]:
        while todo.close:
            self._close_soon(todo.close[-1])
            todo.close.pop()
        while todo.clean:
            entry, conn = todo.clean.pop()
            self._spawn(self._finish(conn, entry, False))
            conn = None
        self._tell_others()
        return todo.again

    async def _finish(self, conn: Any, entry: Entry[Any], close: bool) -> None:
        raise NotImplementedError

    async def _close(self, conn: Any) -> None:
        """Close *conn*; then its slot is free."""
        entry, in_time = self._entries.get(id(conn)), True
        try:
            in_time = await self._opener.close(conn)
        except BaseException:
            self._opener.abandon(conn)
            raise
        finally:
            if entry is not None:
                self._state.lost.append(entry)
        if not in_time:
            self._state.abort(entry)
        if entry is not None:
            logs.discarded(self, entry.fate, uptime() - entry.opened)
            tell(self._listener, "discarded", self, entry.fate)

    def _dismiss(self, conn: Any, reason: str) -> None:
        """Have a connection closed that is in nobody's hands but ours."""
        if conn is not None and self._state.condemn(conn, reason):
            self._close_soon(conn)

    def _close_soon(self, conn: Any) -> Any:
        return self._spawn(self._close_and_settle(conn), self._closings)

    async def _close_and_settle(self, conn: Any) -> None:
        try:
            await self._close(conn)
        finally:
            conn = None
            self._settle()

    def _tend(self, entry: Any) -> None:
        if not self._config.background or self._keeper is None:
            return
        if not self._tended:
            self._tended = True
            self._sweep_by(uptime() + self._config.sweep_period())
        self._keeper.watch(self, entry)

    def _sweep_by(self, when: float) -> None:
        if self._config.background:
            self._keeper.sweep(self, when)


def _shown(loop: asyncio.AbstractEventLoop) -> str:
    return f"{loop!r} at {id(loop):#x}"


def _ring(method: WeakMethod[Any]) -> None:
    rang = method()
    if rang is not None:
        rang()
