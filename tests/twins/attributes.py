"""Cases: the attributes that are read and set, and what subclasses do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from .cases import case, threaded

if TYPE_CHECKING:
    from .subjects import Subject


# ---- attributes -----------------------------------------------------------------------------------------------------


@case
def public_attributes(subject):
    pool = subject.pool(1, 2)
    return pool.minconn, pool.maxconn, pool.closed, type(pool.minconn), type(pool.closed)


@case
def minconn_is_raised(subject):
    pool = subject.pool(0, 3)
    pool.minconn = 2
    conns = [pool.getconn() for _ in range(2)]
    for conn in conns:
        pool.putconn(conn)
    return pool.minconn, len(pool._pool)


@case
def maxconn_is_raised(subject):
    pool = subject.pool(0, 1)
    pool.getconn()
    pool.maxconn = 2
    return pool.maxconn, subject.told(pool.getconn)


@case
def maxconn_is_lowered(subject):
    """Two are out when one becomes the limit."""
    pool = subject.pool(0, 3)
    pool.getconn(), pool.getconn()
    pool.maxconn = 1
    return pool.maxconn, subject.told(pool.getconn)


@case
def closed_is_set(subject):
    pool = subject.pool(1, 2)
    pool.closed = True
    refused = subject.told(pool.getconn)
    pool.closed = False
    return refused, pool.closed, subject.told(pool.getconn)


@case
def closed_is_set_and_what_is_idle_stays(subject):
    pool = subject.pool(1, 2)
    pool.closed = True
    before = subject.states()
    pool.closed = False
    pool.getconn()
    return before, len(subject.calls)


@case
def minconn_is_lowered(subject):
    pool = subject.pool(2, 3)
    pool.minconn = 0
    return pool.minconn, len(pool._pool), subject.states()


@case
def private_views(subject):
    pool = subject.pool(2, 3)
    user = pool.getconn("user")
    return (
        type(pool._pool) is list,
        len(pool._pool),
        list(pool._used) == ["user"] and pool._used["user"] is user,
        pool._rused == {id(user): "user"},
        isinstance(pool._keys, int),
    )


@case
def private_views_of_automatic_keys(subject):
    pool = subject.pool(0, 3)
    conn = pool.getconn()
    (key,) = pool._used
    taken = pool._used[key] is conn, pool._rused[id(conn)] == key, pool._keys
    pool.putconn(conn)
    return taken, pool._used, pool._rused


@case
def type_of_automatic_keys(subject):
    pool = subject.pool(0, 3)
    pool.getconn()
    return [type(key) is int for key in (*pool._used, pool._getkey())]


@case
def order_of_pool(subject):
    """The end of the list is next."""
    pool = subject.pool(2, 2)
    conns = [pool.getconn(), pool.getconn()]
    for conn in conns:
        pool.putconn(conn)
    return [conn is pooled for conn, pooled in zip(conns, pool._pool)], pool.getconn() is conns[1]


@case
def private_views_are_the_pools_own(subject):
    """What is written into them changes the pool, for good or ill."""
    pool = subject.pool(1, 2)
    pool._pool.clear()
    return subject.told(lambda: setattr(pool, "_used", {})), len(pool._pool)


@case
def put_with_the_key_found_in_used(subject):
    """As a script does that takes back what was forgotten."""
    pool = subject.pool(2, 2)
    conns = [pool.getconn(), pool.getconn("user")]
    for key, conn in list(pool._used.items()):
        pool.putconn(conn, key)
    return [pool._used.get(key) for key in conns], len(pool._pool)


@case
def private_views_of_automatic_keys_when_leased_again(subject):
    pool = subject.pool(1, 1)
    conn = pool.getconn()
    first = list(pool._used)
    same = first == list(pool._used)
    pool.putconn(conn)
    pool.getconn()
    return same, first == list(pool._used), subject.told(pool.putconn, conn, first[0])[0]


@threaded
def lock(subject):
    pool = subject.pool()
    with pool._lock:
        return True


# ---- what subclasses do ---------------------------------------------------------------------------------------------


def tracing(subject: Subject) -> Any:
    """Return a subclass that writes down which of its underscore methods are called."""

    class Tracing(subject.pool_class):
        called: list[str] = []  # noqa: RUF012

        def _getconn(self, key=None):
            self.called.append("_getconn")
            return super()._getconn(key)

        def _putconn(self, conn, key=None, close=False):
            self.called.append("_putconn")
            return super()._putconn(conn, key, close)

        def _closeall(self):
            self.called.append("_closeall")
            return super()._closeall()

    return Tracing


@case
def underscore_methods_overridden(subject):
    """No effect in Simple, whose methods are aliases; in Threaded the public ones call them."""
    pool = subject.pool(1, 2, of=tracing(subject))
    pool.putconn(pool.getconn())
    pool.putconn(pool.getconn("key"), "key", close=True)
    pool.closeall()
    return pool.called, pool.closed, subject.states()


@case
def underscore_method_replaced_on_the_object(subject):
    pool = subject.pool(1, 2)
    with patch.object(pool, "_getconn") as mock:
        mocked = pool.getconn() is mock.return_value
    return mocked, subject.told(pool.getconn)


@case
def underscore_methods_called(subject):
    pool = subject.pool(1, 2)
    conn, user = pool._getconn(), pool._getconn("user")
    again = pool._getconn("user") is user
    pool._putconn(conn)
    pool._putconn(user, "user", True)
    left = pool._used, len(pool._pool)
    pool._closeall()
    return again, left, pool.closed, subject.states(), subject.told(pool._closeall)


@case
def connect_overridden(subject):
    class Committing(subject.pool_class):
        def _connect(self, key=None):
            conn = super()._connect(key)
            conn.autocommit = True
            return conn

    pool = subject.pool(1, 2, of=Committing)
    conns = [pool.getconn(), pool.getconn("user")]
    return [conn.autocommit for conn in conns], len(subject.calls)


@case
def key_given_to_connect(subject):
    keys = []

    class Telling(subject.pool_class):
        def _connect(self, key=None):
            keys.append(key)
            return super()._connect(key)

    pool = subject.pool(1, 2, of=Telling)
    pool.getconn("first"), pool.getconn("second")
    return keys
