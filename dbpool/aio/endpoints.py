"""AsyncEndpointPool: one pool over many endpoints for the tasks of an event loop, and one limit over all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from dbpool.aio.lease import AsyncLease
from dbpool.aio.opening import opener_for
from dbpool.aio.pool import AsyncConnectionPool
from dbpool.clock import uptime
from dbpool.config import DEFAULT, Default, PoolConfig, Timeout, seconds
from dbpool.directory import C, Directory, E, Member
from dbpool.entry import FOR_EVER
from dbpool.errors import PoolClosed
from dbpool.hidden import HiddenArgs, HiddenKwargs
from dbpool.listener import tell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from dbpool.aio.proxy import AsyncConnectionProxy
    from dbpool.limiter import Limiter
    from dbpool.stats import PoolStats

P = TypeVar("P", bound="AsyncEndpointPool[Any, Any]")
_new: Any = object.__new__


class AwaitedMember(Member[C], AsyncConnectionPool[C]):
    """The pool of one endpoint."""

    def _retired(self) -> None:
        if self._keeper is not None:
            self._keeper.leave(self)
        self._silence()


class AsyncEndpointLease(AsyncLease[C]):
    """``async with pool.connection(endpoint) as conn``: as each pool has it, on a connection to one endpoint."""

    __slots__ = ("_endpoint", "_many")

    _endpoint: Any
    _many: Any

    async def __aenter__(self) -> C:
        while True:
            self._pool = member = self._many._member(self._endpoint)
            try:
                return await super().__aenter__()
            except PoolClosed:
                if not self._many._is_forgotten(member):
                    raise


class AsyncEndpointPool(Directory[E, C]):
    """A pool that the tasks of an event loop share, over many endpoints: addresses, tenants, databases.

    Each endpoint has up to *maxconn* connections, and keeps *minconn* once it is known; all together have up to
    *total*, a number or a Limiter. When that is reached, the connection that was used least recently, of those that
    lie idle, is closed for whoever waits; first come, first served across all endpoints. An endpoint with no connection
    and no caller is forgotten.

    *connect* gets the endpoint before all other arguments. With *endpoints*, a mapping, an endpoint is one of its keys,
    and connect gets the value: a DSN (or whatever it takes first), or a mapping of keywords; ``async with pool`` or
    ``await pool.open()`` opens minconn connections to each. *config* holds for each endpoint. The constructor opens
    nothing, and belongs to no loop.

    Raises TypeError or ValueError naming an argument that is wrong.
    """

    _kind = AwaitedMember
    _opener = staticmethod(opener_for)

    def __init__(
        self, minconn: int, maxconn: int, *args: Any, connect: Any = None, total: int | Limiter | None = None,
        endpoints: Mapping[E, Any] | None = None, config: PoolConfig | dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        args, kwargs = HiddenArgs(args), HiddenKwargs(kwargs)  # a traceback may show the locals of its frames
        super().__init__(
            minconn, maxconn, *args, connect=connect, total=total, endpoints=endpoints, config=config, **kwargs
        )

    def _later(self) -> str:
        return self._config.start  # an asynchronous pool opens nothing before it is used

    # ---- connections ------------------------------------------------------------------------------------------------

    async def getconn(self, endpoint: E, timeout: Timeout = DEFAULT) -> C:
        """Return a connection to *endpoint*.

        Opens one if none is idle there, and the limits allow it. *timeout*: seconds to wait for all that together, None
        for ever, 0 not at all for one to come back; default: as configured. Who is cancelled leaves the queue. Raises
        PoolExhausted (PoolTimeout after waiting), PoolClosed, or what connect raised.
        """
        if timeout is not DEFAULT:  # before the endpoint is known
            seconds("timeout", timeout)
        while True:
            member = self._member(endpoint)
            try:
                return await member.getconn(None, timeout)  # type: ignore[no-any-return]
            except PoolClosed:
                if not self._is_forgotten(member):
                    raise

    async def putconn(self, conn: C, close: bool = False) -> None:
        """Give *conn* back, as AsyncConnectionPool.putconn does; the pool knows its endpoint. *close*: close it.

        Raises PoolError if *conn* is not leased from this pool, PoolClosed if the pool was closed.
        """
        await self._owner(conn).putconn(conn, None, close)

    def connection(self, endpoint: E) -> AsyncEndpointLease[C]:
        """Return an asynchronous context manager that lends a connection.

        It commits on success, rolls back on error, and always puts it back. Entering it waits and raises as
        getconn(*endpoint*) does.
        """
        lease: AsyncEndpointLease[C] = _new(AsyncEndpointLease)
        lease._many, lease._endpoint = self, endpoint
        return lease

    async def connect(self, endpoint: E, timeout: Timeout = DEFAULT) -> AsyncConnectionProxy[C]:
        """Return a connection to *endpoint* whose close(), awaited, gives it back.

        Waits and raises as getconn(*endpoint*, *timeout*) does. Dropped without close(), it is given back too.
        """
        if timeout is not DEFAULT:
            seconds("timeout", timeout)
        while True:
            member = self._member(endpoint)
            try:
                return await member.connect(timeout)  # type: ignore[no-any-return]
            except PoolClosed:
                if not self._is_forgotten(member):
                    raise

    async def run(self, endpoint: E, fn: Callable[..., Any], *args: Any) -> Any:
        """Return what ``fn(conn, *args)`` does in a thread, on a leased connection to *endpoint*.

        As AsyncConnectionPool.run does: for drivers that are not awaited.
        """
        return await self._member(endpoint)._run(self.connection(endpoint), fn, args)

    # ---- all endpoints ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open minconn connections to each of ``endpoints``, and wait for it, as AsyncConnectionPool.open() does."""
        if self._closed:
            raise self._errors.PoolClosed("connection pool is closed")
        if self._named is None or not self._minconn:
            return
        members = [self._member(endpoint) for endpoint in self._named]  # type: ignore[arg-type]
        ended = await asyncio.gather(*[member.open() for member in members], return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def drain(self, endpoint: E | Default = DEFAULT) -> None:
        """Have every connection, or each to *endpoint*, replaced: idle ones now, leased ones when they come back."""
        for member in self._chosen(endpoint):
            await member.drain()

    async def resize(self, minconn: int, maxconn: int) -> None:
        """Change the sizes at each endpoint. Whoever waits is served at once if there is room now."""
        for member in self._resized(minconn, maxconn):
            await member.resize(minconn, maxconn)

    async def check(self) -> dict[E, PoolStats]:
        """Do at once what is else done from time to time, and ping every idle connection; return the stats after it."""
        await asyncio.gather(*[member.check() for member in list(self._pools.values())])
        return self.stats()

    async def closeall(self) -> None:
        """Close all connections, those in use too, and refuse everybody from now on (psycopg2's meaning).

        Raises PoolClosed if the pool is closed already.
        """
        if self._closed:
            raise self._errors.PoolClosed("connection pool is closed")
        await self.close(timeout=0)

    async def close(self, timeout: Timeout = DEFAULT) -> None:
        """Refuse and wake all who wait, wait up to *timeout* seconds for leased connections, then close those too.

        May be called again.
        """
        deadline, already = self._deadline(timeout), self._closed
        left = None if deadline == FOR_EVER else max(0.0, deadline - uptime())
        await asyncio.gather(*[member.close(left) for member in self._shut()])
        if not already:
            tell(self._config.listener, "closed", self)

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
