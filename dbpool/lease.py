"""Lease: what connection() returns: one connection for a with block, committed or rolled back, and always put back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from dbpool.entry import lease_of

if TYPE_CHECKING:
    from types import TracebackType

    from dbpool.entry import Entry

C = TypeVar("C")


class Lease(Generic[C]):
    """``with pool.connection() as conn``: commits on success, rolls back on an error, and puts *conn* back.

    It knows the number of its lease: a connection that was put back inside the block, and may be another's by now, is
    left alone.
    """

    # No __init__: calling it would cost more than all else here. connection() sets _pool.
    __slots__ = ("_conn", "_entry", "_number", "_pool")

    _pool: Any
    _conn: C | None
    _entry: Entry[C]
    _number: int

    def __enter__(self) -> C:
        pool = self._pool
        self._conn = conn = pool.getconn()
        try:
            self._entry = entry = pool._entries[id(conn)]
        except KeyError:
            self._closed_meanwhile()
        self._number = entry.uses
        return conn  # type: ignore[no-any-return]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        conn, self._conn = self._conn, None
        if kind is not None or self._entry.uses != self._number:
            self._fail(conn, error)
            return
        pool = self._pool
        try:
            if pool._pending(conn):
                pool._commit(conn)
        finally:
            pool.putconn(conn)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot copy or pickle {type(self).__name__}: it lends a connection of this process, once")

    def _closed_meanwhile(self) -> NoReturn:
        raise self._pool._opener.errors.PoolClosed("connection pool is closed") from None

    def _fail(self, conn: C | None, error: BaseException | None) -> None:
        """The block failed, or its lease ended inside it. The error that ended the block matters more than ours."""
        pool = self._pool
        if self._entry.uses == self._number and id(conn) in pool._leases:
            try:
                pool._roll_back(conn, error)
            finally:
                with suppress(pool._opener.errors.PoolError):  # closeall() has ended the lease meanwhile
                    pool.putconn(conn)
        elif error is None:
            raise pool._opener.errors.PoolError("the connection was put back or closed inside its with block")


class KeyedLease(Lease[C]):
    """The same under a key. Of blocks nested on one key only the outermost commits or rolls back and puts.

    An error that leaves an inner one dooms it to rolling back. What getconn(key) leased before is not put back.
    """

    __slots__ = ("_key",)

    _key: Any

    def __enter__(self) -> C:
        pool, key = self._pool, self._key
        while True:
            with pool._lock:
                before = lease_of(pool._entries, pool._state.keyed.get(key))
            conn = pool._obtain(key)
            with pool._lock:
                if self._join(conn, before):
                    return conn  # type: ignore[no-any-return]
            if pool._state.closed:
                self._closed_meanwhile()
            conn = None  # another thread ended the lease that was to be shared

    def _join(self, conn: C, before: tuple[int, int] | None) -> bool:
        """Take part in the lease of *conn* under the key; it is a block's if it has begun since *before*."""
        pool = self._pool
        now = lease_of(pool._entries, conn)
        if now is None or pool._state.keyed.get(self._key) is not conn:
            return False
        self._conn = conn
        self._entry = entry = pool._entries[id(conn)]
        self._number = entry.uses
        entry.by_block = entry.by_block or now != before
        entry.depth += 1
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        conn, self._conn = self._conn, None
        pool, entry = self._pool, self._entry
        if entry.uses != self._number or pool._state.keyed.get(entry.key) is not conn:
            if kind is None:
                raise pool._opener.errors.PoolError("the connection was put back or closed inside its with block")
            return
        if error is not None:
            pool._blame(conn, error)
        with pool._lock:
            entry.depth -= 1
            entry.doomed = entry.doomed or kind is not None
            last = not entry.depth
            ours = last and entry.by_block  # as it is now: who joins meanwhile may make it another block's
            if ours:
                self._keep(conn)
        if not last:
            return
        doomed, entry.doomed = entry.doomed, False
        try:
            if doomed:
                pool._roll_back(conn, error)
            else:
                pool._commit(conn)
        finally:
            if ours:
                pool.putconn(conn)

    def _keep(self, conn: C | None) -> None:
        """End the lease under the key: another thread that asks for it must not join what is about to be ended."""
        pool, entry = self._pool, self._entry
        if not pool._at_home and pool._state.claim_keyed(conn, entry.key) is not None:
            pool._leases[id(conn)] = entry
