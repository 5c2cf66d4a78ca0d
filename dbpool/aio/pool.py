"""AsyncConnectionPool: the interface of the pools, awaited, and its two hits."""

from __future__ import annotations

import asyncio
import sys
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Callable, TypeVar
from weakref import ref

from dbpool import logs
from dbpool.aio import core
from dbpool.aio.deadlines import in_a_thread
from dbpool.aio.lease import AsyncLease, KeyedAsyncLease
from dbpool.aio.opening import ThreadOpener
from dbpool.aio.proxy import AsyncConnectionProxy, lend
from dbpool.aio.shell import AsyncShell
from dbpool.clock import uptime
from dbpool.config import DEFAULT, PoolConfig, Timeout, count, seconds, sizes
from dbpool.listener import tell

if TYPE_CHECKING:
    from types import TracebackType

    from dbpool.stats import PoolStats

C = TypeVar("C")
P = TypeVar("P", bound="AsyncConnectionPool[Any]")
_new: Any = object.__new__  # bound once: it is in the way of every block
_running: Any = asyncio._get_running_loop
# The task that runs in a loop now. To ask for the running loop itself would take longer than all else in a hit, for
# that asks for the process; and before 3.12 current_task() is written in Python, and looks here.
_tasks: Any = getattr(asyncio.tasks, "_current_tasks", {})
_task_of: Any = asyncio.current_task if sys.version_info >= (3, 12) else _tasks.get


class AsyncConnectionPool(AsyncShell[C]):
    """A pool that the tasks of an event loop share. First come, first served.

    At most *maxconn* connections are ever open; *minconn* are opened by ``async with pool`` or ``await pool.open()``,
    or once it is used: the constructor opens nothing, and belongs to no loop. *connect* is an asynchronous function, a
    module with one, or an AsyncConnector; psycopg2, ksycopg2, sqlite3 and what is marked by in_thread() run in threads,
    and None means psycopg2, else ksycopg2. *config* is a PoolConfig or a mapping of its options. All other arguments go
    to connect untouched.

    Raises TypeError or ValueError naming an argument that is wrong.
    """

    def __init__(
        self, minconn: int, maxconn: int, *args: Any, connect: Any = None,
        config: PoolConfig | dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(minconn, maxconn, connect, args, kwargs, config)

    # ---- the two hits -----------------------------------------------------------------------------------------------

    async def getconn(self, key: Any = None, timeout: Timeout = DEFAULT) -> C:
        """Return a connection; with a *key*, the one that is leased under the key, if there is one.

        Opens one if none is idle and fewer than maxconn are open. *timeout*: seconds to wait for all that together,
        None for ever, 0 not at all for one to come back; default: as configured. Who is cancelled leaves the queue.
        Raises PoolExhausted (PoolTimeout after waiting), PoolClosed, or what connect raised.
        """
        state = self._state
        if timeout is not DEFAULT:
            seconds("timeout", timeout)
        task = _task_of(self._loop)
        # None: it belongs to another loop, or to none yet. Another thread's loop may be running a task of its own.
        if task is not None and not state.gate and key is None and get_ident() == self._thread:
            conn: Any = None
            try:
                conn = self._take()
                cid = id(conn)
                entry = self._entries[cid]
                now = uptime()
                if now < entry.look_at:
                    if not self._unfit(conn):
                        entry.holder = ref(task)
                        entry.since = now
                        entry.uses += 1
                        self._leases[cid] = entry
                        return conn  # type: ignore[no-any-return]
                else:  # it is looked at closely by whoever is given it
                    self._untake(conn)
                    conn = None
            except (IndexError, KeyError):  # none is idle, or it was seized meanwhile
                pass
            self._dismiss(conn, "unfit")
            conn = None
        # All in this one coroutine: each one more would take 300 bytes of every task that waits.
        waiter = self._arrive(key, timeout)
        try:
            while True:
                awaited = self._awaited(waiter)
                if awaited is not None:
                    await awaited
                elif (waiter.key is None and waiter.unused is None) or await self._examine(waiter):
                    return self._received(waiter)  # type: ignore[no-any-return]
        except BaseException:
            self._abandon(waiter)
            raise

    async def putconn(self, conn: C | None = None, key: Any = None, close: bool = False) -> None:
        """Give *conn* back: it is made clean, and goes to the caller who waits longest or becomes idle.

        *key*, if given, must be the one that it is leased under. *close*: close it instead.
        Raises PoolError if *conn* is not leased from this pool, PoolClosed if the pool was closed; never because the
        server is gone. Who is cancelled meanwhile has it closed.
        """
        entry = None
        if key is None:
            entry = self._leases.pop(id(conn), None)  # the claim
            # What died is in lost until its lease is gone: so this cannot be the lease of a dead connection that had
            # the same id.
            if entry is not None and not self._lost and not (close or self._unclean(conn)):
                self._idle.append(conn)
                if self._state.gate:
                    self._settle()
                return
        if _running() is not self._loop:  # then it is refused, unless the pool's loop is closed
            if entry is not None:
                self._state.restore(conn, entry)
                entry = None
            self._bind()
        await self._return(conn, entry, key, close)

    # ---- for everybody ----------------------------------------------------------------------------------------------

    def connection(self, key: Any = None) -> AsyncLease[C]:
        """Return an asynchronous context manager that lends a connection.

        It commits on success, rolls back on error, and always puts it back. Entering it waits and raises as
        getconn(*key*) does.
        """
        if key is not None:
            keyed: KeyedAsyncLease[C] = _new(KeyedAsyncLease)
            keyed._pool = self
            keyed._key = key
            return keyed
        lease: AsyncLease[C] = _new(AsyncLease)
        lease._pool = self
        return lease

    async def connect(self, timeout: Timeout = DEFAULT) -> AsyncConnectionProxy[C]:
        """Return a connection whose close(), awaited, gives it back.

        Waits and raises as getconn(timeout=*timeout*) does. Dropped without close(), it is given back too.
        """
        return await lend(self, timeout)

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return what ``fn(conn, *args)`` does in a thread, on a leased connection, for drivers that are not awaited.

        Commits after it, rolls back if it raises, and puts the connection back. Who is cancelled leaves at once; the
        connection is rolled back and put back when *fn* has ended.
        """
        return await self._run(self.connection(), fn, args)

    async def _run(self, lease: AsyncLease[C], fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if not isinstance(self._opener, ThreadOpener):
            raise TypeError("run() is for connections that are not asynchronous: use `async with pool.connection()`")
        conn: Any = await lease.__aenter__()
        left: list[bool] = []
        work = lease._pool._spawn(_run(lease, conn, left, fn, args))
        conn = None
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            left.append(True)
            raise

    async def open(self, ready: int | None = None) -> None:
        """Open what is missing to have minconn connections, or *ready* of them, and wait for it.

        Waits up to connect_timeout; with start="background" or "lazy" only for what is asked for by *ready*. Raises
        what connect raised first; those that were opened stay.
        """
        count("ready", ready, 0, optional=True)
        if self._state.closed:
            raise self._opener.errors.PoolClosed("connection pool is closed")
        if ready is not None and ready > self.maxconn:
            raise ValueError(f"ready must not be above maxconn: {ready} > {self.maxconn}")
        self._bind()
        self._begun = True
        errors: list[BaseException] = []
        start = self._config.start
        if ready is not None or start != "lazy":
            self._open_missing(errors, ready)
        if ready is not None and start != "lazy":
            self._open_missing([])
        if ready is not None or start == "eager":
            await self._opened(self.minconn if ready is None else ready, errors)
        if errors:
            try:
                raise errors[0]
            finally:
                errors.clear()

    async def closeall(self) -> None:
        """Close all connections, those in use too, and refuse everybody from now on (psycopg2's meaning).

        Raises PoolClosed if the pool is closed already.
        """
        if self._state.closed:
            raise self._opener.errors.PoolClosed("connection pool is closed")
        self._bind()
        await self._force()
        tell(self._listener, "closed", self)
        await self._heard()

    async def close(self, timeout: Timeout = DEFAULT) -> None:
        """Refuse and wake all who wait, wait up to *timeout* seconds for leased connections, then close those too.

        May be called again.
        """
        limit = self._limit(timeout)
        self._bind()
        already = self._state.closed
        self._state.shut()
        self._settle()
        try:
            await self._wait_until_empty(limit)
        finally:
            await self._force()
        if not already:
            tell(self._listener, "closed", self)
        await self._heard()

    async def _wait_until_empty(self, limit: float | None) -> None:
        waiter: Any = self._new_waiter(None)
        deadline = float("inf") if limit is None else waiter.since + limit
        self._state.closers.join(waiter)
        try:
            while True:
                self._settle()
                left = min(core.HEARTBEAT, deadline - uptime())
                if not self._state.size() or left <= 0:
                    return
                future = waiter.future = asyncio.get_running_loop().create_future()
                await asyncio.wait({future}, timeout=left)
        finally:
            self._state.closers.leave(waiter)

    async def _force(self) -> None:
        self._state.shut()
        for conn in self._state.seize():
            self._close_soon(conn)
        me = {asyncio.current_task()}  # on_connect may do this
        for task in self._openings - me:
            task.cancel()
        self._settle()
        while (self._openings | self._closings) - me:
            await asyncio.wait((self._openings | self._closings) - me)
        if self._keeper is not None:
            self._keeper.leave(self)
        self._silence()
        logs.left_out(self, at_once=True)

    async def drain(self) -> None:
        """Have every connection replaced: idle ones are closed now, leased ones when they come back."""
        self._state.drain()
        self._settle()

    async def resize(self, minconn: int, maxconn: int) -> None:
        """Change the sizes. Whoever waits is served at once if there is room now; too many idle ones are closed."""
        sizes(minconn, maxconn)
        self._bind()
        self._state.set_limits(minconn, maxconn)
        self._settle()
        self._refill()

    async def check(self) -> PoolStats:
        """Do at once what is else done from time to time, and ping every idle connection; return the stats after it.

        Closes what is past its lifetime or idle for too long, or does not answer within check_timeout; opens what is
        missing to have minconn; tells of leases longer than leak_threshold. With background=False, call it at times.
        """
        self._bind()
        await self._tidy(0.0, wait=True)
        return self.stats()

    async def __aenter__(self: P) -> P:
        try:
            await self.open()
        except BaseException:  # nobody will leave the block
            await self.close(timeout=0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _run(
    lease: AsyncLease[Any], conn: Any, left: list[bool], fn: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    try:
        returned = await in_a_thread(fn, conn, *args)
        if left:
            raise asyncio.CancelledError
    except BaseException as exc:
        await lease.__aexit__(type(exc), exc, None)
        raise
    await lease.__aexit__(None, None, None)
    return returned
