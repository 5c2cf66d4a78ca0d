"""ConnectionProxy: what connect() returns: a connection whose close() gives it back to its pool."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar
from weakref import ref

from dbpool import fork
from dbpool.clock import uptime
from dbpool.config import DEFAULT
from dbpool.entry import ThreadKey, ThreadRef, lease_of
from dbpool.errors import PoolError
from dbpool.housekeeper import housekeeper

if TYPE_CHECKING:
    from types import TracebackType

    from dbpool.config import Timeout

C = TypeVar("C")
CLOSED = "connection is closed: it was given back to the pool"


class ConnectionProxy(Generic[C]):
    """A leased connection, for whatever expects the result of a DB-API ``connect``.

    ``close()`` gives it back to the pool, and so does dropping it; from then on it refuses with a PoolError. Else it is
    used as the driver's own: attributes are read and set there, and ``with`` means what the driver means by it (with
    psycopg2 and sqlite3 a transaction: commit or rollback, and no close).

    Cursors are the driver's own: their ``connection`` is the raw one, and they do not keep the proxy. So keep it as
    long as its cursors, not as in ``pool.connect().cursor()``: one used later uses what may be another's by then.
    Functions that need the driver's own object (psycopg2's register_type, as_string) are given ``raw``.

    It knows the number of its lease: closed late, it leaves alone who has the connection by then.
    """

    # No __init__, which would cost more than all else here. The slots are written through their descriptors, because
    # setting an attribute sets the connection's.
    __slots__ = ("__weakref__", "_conn", "_lease")

    _conn: C  # not there once closed: so each use of it refuses
    _lease: list[Any]  # the pool, its Entry of the connection, the number of the lease (0 once it is ended)

    # ---- DB-API -----------------------------------------------------------------------------------------------------

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor of the driver's."""
        # Most give no arguments, and passing none on is quicker than passing on none.
        if args or kwargs:
            return self._conn.cursor(*args, **kwargs)  # type: ignore[attr-defined]
        return self._conn.cursor()  # type: ignore[attr-defined]

    def commit(self) -> None:
        """Commit."""
        self._conn.commit()  # type: ignore[attr-defined]

    def rollback(self) -> None:
        """Roll back."""
        self._conn.rollback()  # type: ignore[attr-defined]

    def close(self, _discard: bool = False) -> None:
        """Give the connection back; what is not committed is rolled back. May be called again, and never raises."""
        try:
            conn = self._conn
            _forget(self)  # the claim: of two who close, one comes past it
        except (AttributeError, PoolError):
            return
        lease = self._lease
        pool, entry, number = lease
        lease[2] = 0
        if entry.uses == number:
            try:
                if _discard:
                    pool.putconn(conn, close=True)
                else:
                    pool.putconn(conn)
            except PoolError:  # the lease has ended otherwise: closeall, or a put of the raw connection
                pass

    def invalidate(self) -> None:
        """Close the connection itself, because it is not to be trusted any more; its slot is free."""
        self.close(True)

    def __enter__(self) -> Any:
        conn = self._conn
        enter = getattr(type(conn), "__enter__", None)
        entered = conn if enter is None else enter(conn)
        return self if entered is conn or entered is None else entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        if kind is not None and self._is_closed():
            return None  # the error that ended the block matters more than ours
        conn: Any = self._conn
        leave = getattr(type(conn), "__exit__", None)
        if leave is not None:
            return leave(conn, kind, error, trace)
        if kind is None:
            conn.commit()
        else:
            conn.rollback()
        return None

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def raw(self) -> C:
        """The driver's own connection. Not to be used once the proxy is closed or dropped."""
        return self._conn

    @property
    def dbapi_connection(self) -> C:
        """The same, by SQLAlchemy's name."""
        return self._conn

    @property
    def closed(self) -> Any:
        """True once it was given back; else what the driver says, False where it says nothing."""
        return self._is_closed() or getattr(self._conn, "closed", False)

    def __getattr__(self, name: str) -> Any:
        if name == "_conn":
            raise self._lease[0]._opener.errors.PoolError(CLOSED)
        if name == "_lease":  # an interrupt when it was half made
            raise AttributeError(name)
        return getattr(self._conn, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._conn, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._conn, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *(() if self._is_closed() else dir(self._conn))})

    def __repr__(self) -> str:
        pool = self._lease[0]
        what = "closed" if self._is_closed() else f"{type(self._conn).__module__}.{type(self._conn).__qualname__}"
        return f"<{type(self).__name__} of pool {pool.name!r}: {what}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot copy or pickle {type(self).__name__}: it is a connection in use")

    # ---- giving back ------------------------------------------------------------------------------------------------

    def _is_closed(self) -> bool:
        return not self._lease[2]

    def __del__(self) -> None:
        # Runs anywhere, whatever locks the frames below hold. What an interrupt leaves undone, weak references do: the
        # connection dies with this frame, and its slot is reaped.
        try:
            if self._lease[2]:
                self._drop()
        except Exception:  # there is nobody to tell
            pass

    def _drop(self) -> None:
        """Nobody has the proxy any more: give the connection back."""
        pool = self._lease[0]
        if _is_finalizing() or os.getpid() != pool._process:
            return  # there is nobody to give it to, and a lock may never be free again; or it is the parent's
        if _holds_a_lock():
            self._bequeath()
        else:
            self.close()

    def _bequeath(self) -> None:
        """Within a pool's lock nothing slow may be done, nor may another be waited for: of two threads that each hold
        one, both would. So leave *conn* as a thread that ends leaves its own.

        Whoever looks next finds it and, outside the lock, cleans and pools it: the frame below, or the housekeeper.
        """
        pool, entry, number = self._lease
        conn = self._conn
        heir = ThreadKey()
        key = ThreadRef(heir, pool._lost.append)
        hash(key)
        if entry.uses == number and self._claim(conn):
            entry.key = key
            pool._state.keyed[key] = conn
        del heir  # now key is in lost; so it is if an interrupt ends this frame
        if pool._lock._is_owned():
            pool._settle()
        elif pool._tended:
            housekeeper.sweep(pool, uptime())

    def _claim(self, conn: C) -> bool:
        return self._lease[0]._leases.pop(id(conn), None) is not None


def _holds_a_lock() -> bool:
    """True if this thread is within any pool's lock."""
    return any(pool._lock._is_owned() for pool in fork.watched())


_set_conn: Any = ConnectionProxy.__dict__["_conn"].__set__
_forget: Any = ConnectionProxy.__dict__["_conn"].__delete__
_set_lease: Any = ConnectionProxy.__dict__["_lease"].__set__
_is_finalizing = sys.is_finalizing
_new: Any = object.__new__


def lend(pool: Any, key: Any, timeout: Timeout) -> ConnectionProxy[Any]:
    """Return a proxy over a connection that is leased for it."""
    if key is not None or pool._at_home:
        return _lend_keyed(pool, key, timeout)
    conn = pool.getconn() if timeout is DEFAULT else pool.getconn(timeout=timeout)
    try:
        entry = pool._entries[id(conn)]
    except KeyError:
        raise pool._opener.errors.PoolClosed("connection pool is closed") from None
    proxy: ConnectionProxy[Any] = _new(ConnectionProxy)
    _set_lease(proxy, [pool, entry, entry.uses])
    _set_conn(proxy, conn)
    return proxy


# ---- under a key ----------------------------------------------------------------------------------------------------


class Share:
    """What the proxies of one key have in common: its lease, which ends with the last of them."""

    __slots__ = ("number", "ours", "users")

    def __init__(self, number: tuple[int, int]) -> None:
        self.number = number
        self.ours = False  # else getconn or connection() leased it before: they put it back
        self.users: list[ref[Any]] = []


class KeyedProxy(ConnectionProxy[C]):
    """The same under a key. The proxies of one key share its connection; the last that is closed gives it back.

    What getconn(key) or connection(key) leased before is left to them.
    """

    __slots__ = ("_key", "_share")

    _key: Any
    _share: Share

    def close(self, _discard: bool = False) -> None:
        try:
            conn = self._conn
        except PoolError:
            return
        pool = self._lease[0]
        with pool._lock:
            entry = self._claim_keyed(conn, _discard)
        try:
            _forget(self)
        except AttributeError:  # another thread closes it, too
            pass
        self._lease[2] = 0
        if entry is not None:
            pool._finish(conn, entry, _discard)

    def _claim(self, conn: C) -> bool:
        return self._claim_keyed(conn, False) is not None

    def _claim_keyed(self, conn: C, discard: bool) -> Any:
        """Leave the share; the last ends the lease. Called under the lock; cut off, it can be repeated."""
        pool, entry, number = self._lease
        share = self._share
        share.users = [user for user in share.users if user() is not self and user() is not None]
        if not discard and (share.users or not share.ours):
            return None
        if _shares(pool).get(self._key) is share:
            _shares(pool).pop(self._key, None)
        return pool._state.claim_keyed(conn, self._key) if entry.uses == number else None


_set_key: Any = KeyedProxy.__dict__["_key"].__set__
_set_share: Any = KeyedProxy.__dict__["_share"].__set__


def _shares(pool: Any) -> dict[Any, Share]:
    found: dict[Any, Share] = pool.__dict__.setdefault("_proxy_shares", {})
    return found


def _lend_keyed(pool: Any, key: Any, timeout: Timeout) -> ConnectionProxy[Any]:
    if pool._at_home:
        if key is not None:
            raise TypeError(f"key must be left out: the thread is the key, not {key!r}")
        key = pool._thread_key()
    proxy: KeyedProxy[Any] = _new(KeyedProxy)
    while True:
        with pool._lock:
            before = lease_of(pool._entries, pool._state.keyed.get(key))
        conn = pool._obtain(key, timeout)
        with pool._lock:
            joined = _join(pool, key, conn, proxy, before)
        if joined:  # else somebody ended the lease that was to be shared
            return proxy


def _join(pool: Any, key: Any, conn: Any, proxy: KeyedProxy[Any], before: tuple[int, int] | None) -> bool:
    """Make *proxy* one of those that share the lease of *key*; it is theirs if it has begun since *before*."""
    number = lease_of(pool._entries, conn)
    if number is None or pool._state.keyed.get(key) is not conn:
        return False
    shares = _shares(pool)
    share = shares.get(key)
    if share is None or share.number != number:
        share = shares[key] = Share(number)
    share.ours = share.ours or number != before  # who began it may come here after one who found it
    share.users.append(ref(proxy))
    _set_lease(proxy, [pool, pool._entries[id(conn)], number[1]])
    _set_key(proxy, key)
    _set_share(proxy, share)
    _set_conn(proxy, conn)
    return True
