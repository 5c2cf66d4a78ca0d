"""Lease: what connection() returns: one connection for an async with block, committed or rolled back, and put back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

    from dbpool.entry import Entry

C = TypeVar("C")


class AsyncLease(Generic[C]):
    """``async with pool.connection() as conn``: commits on success, rolls back on an error, and puts *conn* back.

    It knows the number of its lease: a connection that was put back inside the block, and may be another's by now, is
    left alone.
    """

    # No __init__: calling it would cost more than all else here. connection() sets _pool.
    __slots__ = ("_conn", "_entry", "_number", "_pool")

    _pool: Any
    _conn: C | None
    _entry: Entry[C]
    _number: int

    async def __aenter__(self) -> C:
        pool = self._pool
        self._conn = conn = await pool.getconn()
        try:
            self._entry = entry = pool._entries[id(conn)]
        except KeyError:
            self._closed_meanwhile()
        self._number = entry.uses
        return conn  # type: ignore[no-any-return]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        conn, self._conn = self._conn, None
        if kind is not None or self._entry.uses != self._number:
            await self._fail(conn, error)
            return
        pool = self._pool
        try:
            await pool._commit_if_pending(conn)
        except Exception:  # if the lease has ended inside the block, that is what is told
            await pool.putconn(conn)
            raise
        except BaseException:
            await self._put_after_all(conn)
            raise
        await pool.putconn(conn)

    async def _put_after_all(self, conn: C | None) -> None:
        """Put *conn* back; a cancel, or the block's own error, matters more than that closeall() ended its lease."""
        with suppress(self._pool._opener.errors.PoolError):
            await self._pool.putconn(conn)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot copy or pickle {type(self).__name__}: it lends a connection of this process, once")

    def _closed_meanwhile(self) -> NoReturn:
        raise self._pool._opener.errors.PoolClosed("connection pool is closed") from None

    async def _fail(self, conn: C | None, error: BaseException | None) -> None:
        """The block failed, or its lease ended inside it. The error that ended the block matters more than ours."""
        pool = self._pool
        if self._entry.uses == self._number and id(conn) in pool._leases:
            try:
                await pool._roll_back(conn, error)
            finally:
                await self._put_after_all(conn)
        elif error is None:
            raise pool._opener.errors.PoolError("the connection was put back or closed inside its async with block")


class KeyedAsyncLease(AsyncLease[C]):
    """The same under a key. Of blocks nested on one key only the outermost commits or rolls back and puts.

    An error that leaves an inner one dooms it to rolling back. What getconn(key) leased before is not put back.
    """

    __slots__ = ("_key",)

    _key: Any

    async def __aenter__(self) -> C:
        pool, key = self._pool, self._key
        while True:
            conn = await pool.getconn(key)
            if self._join(conn):
                return conn  # type: ignore[no-any-return]
            if pool._state.closed:
                self._closed_meanwhile()
            conn = None

    def _join(self, conn: C) -> bool:
        """Take part in the lease of *conn* under the key."""
        pool = self._pool
        if pool._state.keyed.get(self._key) is not conn:  # it was closed just now
            return False
        self._conn = conn
        self._entry = entry = pool._entries[id(conn)]
        self._number = entry.uses
        entry.kept -= 1  # this getconn was a block's
        entry.depth += 1
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        conn, self._conn = self._conn, None
        pool, entry = self._pool, self._entry
        if entry.uses != self._number or pool._state.keyed.get(entry.key) is not conn:
            if kind is None:
                raise pool._opener.errors.PoolError("the connection was put back or closed inside its async with block")
            return
        if error is not None:
            pool._blame(conn, error)
        entry.depth -= 1
        entry.doomed = entry.doomed or kind is not None
        if entry.depth:
            return
        doomed, entry.doomed = entry.doomed, False
        ours = not entry.kept
        if ours and pool._state.claim_keyed(conn, entry.key) is not None:
            pool._leases[id(conn)] = entry  # whoever comes now under the key is not to share what is about to be put
        try:
            if doomed:
                await pool._roll_back(conn, error)
            else:
                await pool._commit_if_pending(conn)
        except Exception:
            if ours:
                await (pool.putconn(conn) if kind is None else self._put_after_all(conn))
            raise
        except BaseException:
            if ours:
                await self._put_after_all(conn)
            raise
        if ours:
            await (pool.putconn(conn) if kind is None else self._put_after_all(conn))
