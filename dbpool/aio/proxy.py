"""AsyncConnectionProxy: what connect() returns: a connection whose close(), awaited, gives it back to its pool."""
# mypy: disable-error-code="override"
# (What may wait in the proxy for threads is awaited here.)

from __future__ import annotations

import asyncio
import os
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from dbpool import proxy as plain
from dbpool.errors import PoolError
from dbpool.proxy import ConnectionProxy

if TYPE_CHECKING:
    from types import TracebackType

    from dbpool.config import Timeout

C = TypeVar("C")
_commit, _rollback = methodcaller("commit"), methodcaller("rollback")


class AsyncConnectionProxy(ConnectionProxy[C]):
    """A leased connection, for whatever expects the result of a driver's awaited ``connect``.

    ``await conn.close()`` gives it back to the pool, and so does dropping it; from then on it refuses with a PoolError.
    Else it is used as the driver's own: attributes are read and set there. ``async with`` gives it back at the end,
    committed, or after an error rolled back.

    It knows the number of its lease: closed late, it leaves alone who has the connection by then.
    """

    __slots__ = ()

    async def commit(self) -> None:
        """Commit."""
        await self._lease[0]._opener.call(_commit, self._conn)

    async def rollback(self) -> None:
        """Roll back."""
        await self._lease[0]._opener.call(_rollback, self._conn)

    async def close(self, _discard: bool = False) -> None:
        """Give the connection back; what is not committed is rolled back. May be called again."""
        try:
            conn = self._conn
            plain._forget(self)  # the claim: of two who close, one comes past it
        except (AttributeError, PoolError):
            return
        lease = self._lease
        pool, entry, number = lease
        lease[2] = 0
        if entry.uses == number:
            try:
                await pool.putconn(conn, close=_discard)
            except PoolError:  # the lease has ended otherwise: closeall, or a put of the raw connection
                pass

    async def invalidate(self) -> None:
        """Close the connection itself, because it is not to be trusted any more; its slot is free."""
        await self.close(True)

    async def __aenter__(self) -> AsyncConnectionProxy[C]:
        assert self._conn is not None  # refuses, once it is closed
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_closed():
            return
        pool, conn = self._lease[0], self._conn
        try:
            if kind is not None:
                await pool._roll_back(conn, error)
            else:
                await pool._commit_if_pending(conn)
        finally:
            await self.close()

    def __enter__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is used by `async with`, not by `with`")

    def _drop(self) -> None:
        """Nobody has the proxy any more: a task of the pool's gives the connection back, whatever thread this is."""
        pool, entry, number = self._lease
        loop = pool._loop
        if plain._is_finalizing() or os.getpid() != pool._process or loop is None or loop.is_closed():
            return  # there is nobody to give it to, or it is the parent's
        entry.holder = None
        call_soon = loop.call_soon if asyncio._get_running_loop() is loop else loop.call_soon_threadsafe
        call_soon(_give_back, pool, self._conn, entry, number)


def _give_back(pool: Any, conn: Any, entry: Any, number: int) -> None:
    if entry.uses == number and pool._leases.pop(id(conn), None) is not None:
        pool._spawn(pool._finish(conn, entry, False))


async def lend(pool: Any, timeout: Timeout) -> AsyncConnectionProxy[Any]:
    """Return a proxy over a connection that is leased for it."""
    conn = await pool.getconn(timeout=timeout)
    try:
        entry = pool._entries[id(conn)]
    except KeyError:
        raise pool._opener.errors.PoolClosed("connection pool is closed") from None
    proxy: AsyncConnectionProxy[Any] = plain._new(AsyncConnectionProxy)
    plain._set_lease(proxy, [pool, entry, entry.uses])
    plain._set_conn(proxy, conn)
    return proxy
