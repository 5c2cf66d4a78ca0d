"""The pools: Simple for one thread, Threaded for many, Persistent with a connection of its own for each."""

from __future__ import annotations

import gc

# Not from queue and threading: those are written in Python, and take a millisecond to load.
from _queue import Empty, SimpleQueue
from _thread import _count, _local, allocate_lock, get_ident, start_new_thread
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from dbpool import standing
from dbpool.abstract import AbstractConnectionPool
from dbpool.clock import stood, uptime
from dbpool.config import DEFAULT, PoolConfig, Timeout
from dbpool.entry import FOR_EVER, ThreadKey, ThreadRef, Ticket
from dbpool.hidden import HiddenArgs, HiddenKwargs
from dbpool.housekeeper import housekeeper
from dbpool.locks import RLock
from dbpool.semaphore import Waiter

if TYPE_CHECKING:
    from dbpool.lease import Lease

__all__ = ["AbstractConnectionPool", "PersistentConnectionPool", "SimpleConnectionPool", "ThreadedConnectionPool"]
C = TypeVar("C")
HEARTBEAT = 1.0  # seconds after which a waiter looks by itself: nothing depends on its being woken
COLLECT_EVERY = 10.0  # seconds
SLOW_THREAD = 0.2  # seconds within which a helper thread must have begun


class SimpleConnectionPool(AbstractConnectionPool[C]):
    """A pool for one thread: it never waits, and connects in the caller."""


class ThreadWaiter(Waiter):
    """Sleeps on a raw lock, because those of threading are Python code that an interrupt can cut in two."""

    __slots__ = ("_bell",)

    def __init__(self, key: Any, ident: int, since: float, limit: float | None = None) -> None:
        Waiter.__init__(self, key, ident, since, limit)  # super() would take a tenth of a microsecond more
        self._bell = allocate_lock()
        self._bell.acquire()

    def wake(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:  # it rings already
            pass

    def sleep(self, seconds: float) -> bool:
        """Wait to be woken; False after *seconds*."""
        began = monotonic()
        woken = self._bell.acquire(True, seconds)
        if self.limit and stood(seconds, began):  # since when is not known
            self.limit += monotonic() - began
        return woken


_collected = 0.0  # when the last waiter ran the garbage collector


def _collect(now: float) -> None:
    """Find connections that were dropped in reference cycles; for all pools together, not more often than needed."""
    global _collected
    if now - _collected >= COLLECT_EVERY:
        _collected = now
        gc.collect()


def _others() -> int:
    """How many threads there are beside the first one, not counting our own that never put anything back."""
    return _count() - housekeeper.begun - len(housekeeper.helpers)


class ThreadedConnectionPool(AbstractConnectionPool[C]):
    """A pool that threads share: a lock, and a FIFO queue of those who wait. First come, first served."""

    _patient = True

    def _check_config(self) -> None:
        if self._config.start == "background" and not self._config.background:
            raise ValueError("start='background' needs background=True")

    def _new_lock(self) -> Any:
        return RLock()

    def _new_waiter(self, key: Any, limit: float | None = None) -> Waiter:
        return ThreadWaiter(key, get_ident(), uptime(), limit)

    def _sleep(self, waiter: Any, deadline: float | None = None) -> bool:
        ticket = waiter.ticket
        seconds = self._nap(waiter, ticket, deadline)
        if seconds is None:
            return False
        waiter.slept = True
        if not waiter.sleep(seconds) and ticket is not None and ticket.job:
            self._connect_for(ticket)  # a host that runs no threads
        return True

    def _nap(self, waiter: Any, ticket: Ticket | None, deadline: float | None) -> float | None:
        """Return the seconds after which *waiter* must look again; None once it is out of time."""
        now = uptime()
        if deadline is None:
            deadline = FOR_EVER if waiter.limit is None else waiter.since + waiter.limit
        left: float = deadline - now
        if left <= 0:
            return None
        if now - waiter.since >= HEARTBEAT:
            _collect(now)
        if self._may_be_stuck() and self._is_stuck(waiter):
            with self._lock:
                self._state.tally.deadlocks += 1
            raise self._opener.errors.PoolDeadlock(
                "connection pool exhausted: every thread of the process waits for this pool, so nobody can put a "
                f"connection back {self._described()}"
            )
        if ticket is not None and ticket.job:
            return min(SLOW_THREAD, left)
        if ticket is not None and ticket.ref is not None:  # else it has ended
            left = min(left, max(0.0, ticket.deadline - now))
        elif now < self._state.retry_at:
            left = min(left, self._state.retry_at - now)
        return min(HEARTBEAT, left)

    def _may_be_stuck(self) -> bool:
        """A first look: True if no fewer threads are in line than there are beside the first one, and our own."""
        if not self._config.detect_deadlock:
            return False
        limiter, in_line = self._state.limiter, len(self._state.waiters)
        if limiter is not None:
            in_line = max(in_line, len(limiter.in_line()))
        return in_line > _others()

    def _is_stuck(self, waiter: Waiter) -> bool:
        """True if nothing can end the wait: all threads are in line here, and nothing is under way.

        Who holds a connection proves nothing: another thread may put it.
        """
        _collect(uptime())
        state = self._state
        with self._lock:
            under_way = state.lost or state.idle or state.closed or state.under_way()
            in_line = state.waiters.idents()
        if state.limiter is not None:  # they may all wait for its limit, in one pool or another
            under_way = under_way or state.limiter.under_way()
            in_line |= {each.ident for each in state.limiter.in_line()}
        if waiter.ident not in in_line or under_way or len(in_line) <= _others():  # which leaves out the first one
            return False
        try:
            # Those that Python did not start are not counted.
            return standing.idents() <= in_line | {housekeeper.ident} | housekeeper.helpers
        except OSError:  # no descriptor left: so it waits, and a time-out tells
            return False

    def _start(self, ticket: Ticket) -> None:
        if self._begin(ticket) and not self._begin_thread(self._help, ticket):
            self._connect_for(ticket)

    def _help(self, ticket: Ticket) -> None:
        """What a helper thread runs. An exit or interrupt that connect raises is the waiter's, who has been told."""
        try:
            self._connect_for(ticket)
        except BaseException:
            pass

    def _begin_thread(self, work: Any, *args: Any) -> bool:
        """Run *work* in a thread of its own, in a copy of the caller's context; False if there can be none."""
        if self._config.background:
            try:
                start_new_thread(copy_context().run, (work, *args))  # type: ignore[arg-type,unused-ignore]
                return True
            except RuntimeError:  # too many threads, or the interpreter is shutting down
                pass
        return False

    def _open_missing(self, errors: list[BaseException], wait: bool) -> None:
        """Open in parallel, in threads, what is missing to have minconn."""
        missing = self._state.to_open()
        workers = min(missing, self._config.max_connecting or missing)
        begins: SimpleQueue[None] = SimpleQueue()
        done: SimpleQueue[None] = SimpleQueue()

        def work() -> None:
            begins.put(None)
            try:
                self._fill(errors)
            except BaseException as exc:
                errors.append(exc)
            done.put(None)

        begun = sum(self._begin_thread(work) for _ in range(workers))
        if begun < workers:
            work()
        if wait and begun and not self._lock._is_owned():
            self._join(begun, begins, done, errors)

    def _join(
        self, begun: int, begins: SimpleQueue[None], done: SimpleQueue[None], errors: list[BaseException]
    ) -> None:  # fmt: skip
        """Wait for the threads that open; on a host that runs none, open in the caller."""
        limit = self._config.connect_timeout
        try:
            begins.get(timeout=min(SLOW_THREAD, limit or SLOW_THREAD))
        except Empty:
            self._fill(errors)
            return
        try:
            while begun and not errors:
                done.get(timeout=limit)
                begun -= 1
        except Empty:
            text = "connection pool exhausted: opening minconn took longer than connect_timeout allows"
            errors.append(self._opener.errors.PoolTimeout(text))

    def _wait_until_empty(self, limit: float | None) -> None:
        waiter = self._new_waiter(None, limit)
        with self._lock:
            self._state.closers.join(waiter)
        while True:
            self._settle()
            with self._lock:
                left = self._state.size()
            if not left or not self._sleep(waiter):
                return


class PersistentConnectionPool(ThreadedConnectionPool[C]):
    """A pool in which each thread has its own connection: getconn() gives a thread the same one until it is put.

    After that others may take it; its own thread gets it back as long as it is idle. The connection of a thread that
    has ended is rolled back and taken by the next getconn.
    """

    _at_home = True

    def __init__(
        self, minconn: int, maxconn: int, *args: Any, connect: Any = None,
        config: PoolConfig | dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self._thread = _local()
        args, kwargs = HiddenArgs(args), HiddenKwargs(kwargs)  # a traceback may show the locals of its frames
        super().__init__(minconn, maxconn, *args, connect=connect, config=config, **kwargs)

    def _thread_key(self) -> ThreadRef:
        key: ThreadRef | None = getattr(self._thread, "key", None)
        if key is None:
            self._thread.token = token = ThreadKey()
            key = ThreadRef(token, self._state.lost.append)
            hash(key)  # kept by the reference: it cannot be computed any more once the thread has ended
            self._thread.key = key
        return key

    def getconn(self, timeout: Timeout = DEFAULT) -> C:  # type: ignore[override]
        """Return this thread's connection, as ThreadedConnectionPool.getconn does for a key."""
        return self._obtain(self._thread_key(), timeout)  # type: ignore[no-any-return]

    def putconn(self, conn: C | None = None, close: bool = False) -> None:  # type: ignore[override]
        """Give this thread's connection back; *conn*, if given, must be it. *close*: close it instead."""
        key = self._thread_key()
        if conn is None:
            conn = self._state.keyed.get(key)
        self._return(conn, None, key, close)

    def connection(self, key: None = None) -> Lease[C]:
        """Return a context manager that lends this thread's connection; nested ones share it."""
        if key is not None:
            raise TypeError(f"key must be left out: the thread is the key, not {key!r}")
        return self._keyed_lease(self._thread_key())
