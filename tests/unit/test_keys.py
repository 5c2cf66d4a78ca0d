"""Keys: any hashable, the same key finds the same connection, and no automatic key equals a user's."""

from __future__ import annotations

import gc
import weakref

import pytest

from dbpool import PoolError, PoolExhausted

from .checks import lease_all, unchanged
from .threads import Caller, eventually

KEYS = [0, 1, -1, "", "orders", False, True, (), (1, "a"), frozenset({1}), 0.5, b"", object(), int, 10**30]
NAMES = [f"{type(key).__name__} {key!r}".partition(" at ")[0] for key in KEYS]


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_the_same_key_gets_the_same_connection(make, kind, key):
    pool = make(kind)
    conn = pool.getconn(key)
    assert pool.getconn(key) is conn
    assert pool.getconn(key, timeout=0) is conn
    assert pool._used == {key: conn}
    pool.putconn(conn, key)
    lease_all(pool)


@pytest.mark.parametrize("key", KEYS, ids=NAMES)
def test_a_keyed_connection_is_not_given_to_others(make, kind, key):
    pool = make(kind, maxconn=3)
    conn = pool.getconn(key)
    assert pool.getconn() is not conn
    assert pool.getconn("another") is not conn
    assert pool.stats().used in (2, 3)


def test_equal_keys_are_one_key(make, kind):
    pool = make(kind, maxconn=3)
    assert pool.getconn(0) is pool.getconn(False)
    assert pool.getconn(1) is pool.getconn(1.0)
    assert pool.getconn((1, 2)) is pool.getconn(tuple([1, 2]))  # noqa: C409


def test_none_is_no_key(make, kind):
    pool = make(kind)
    first, second = pool.getconn(None), pool.getconn(key=None)
    assert first is not second


def test_automatic_keys_never_equal_a_users(make, kind):
    pool = make(kind, maxconn=40)
    unkeyed = [pool.getconn() for _ in range(20)]
    keyed = [pool.getconn(key) for key in range(20)]
    assert len({id(conn) for conn in unkeyed + keyed}) == 40
    assert len(pool._used) == 40
    for conn in unkeyed:
        pool.putconn(conn)
    assert [pool.getconn(key) for key in range(20)] == keyed


def test_a_key_that_was_put_finds_nothing_any_more(make, kind):
    pool = make(kind)
    conn = pool.getconn("a")
    pool.putconn(conn, "a")
    other = pool.getconn()
    assert other is conn
    assert pool.getconn("a") is not conn


@pytest.mark.parametrize("given", [None, "a"])
def test_a_keyed_connection_may_be_put_with_and_without_its_key(make, kind, given):
    pool = make(kind, maxconn=1)
    conn = pool.getconn("a")
    pool.putconn(conn, given)
    assert pool._used == {}
    assert pool.getconn("b") is conn


def test_a_keyed_connection_may_be_put_closed(make, kind):
    pool = make(kind, maxconn=1)
    conn = pool.getconn("a")
    pool.putconn(conn, "a", True)
    assert conn.closed
    assert pool.getconn("a") is not conn


def test_a_connection_may_have_another_key_each_time(make, kind):
    pool = make(kind, maxconn=1)
    conn = pool.getconn("a")
    pool.putconn(conn, "a")
    assert pool.getconn("b") is conn
    with pytest.raises(PoolError):
        pool.putconn(conn, "a")
    pool.putconn(conn, "b")
    assert pool.getconn("a") is conn


def test_a_full_pool_still_finds_the_connections_of_its_keys(make, kind):
    pool = make(kind, maxconn=1)
    conn = pool.getconn("a")
    assert pool.getconn("a", timeout=0) is conn
    with pytest.raises(PoolExhausted):
        pool.getconn("b", timeout=0)


def test_a_keyed_lease_is_kept_though_everybody_drops_the_connection(make, kind, driver):
    pool = make(kind, maxconn=1)
    driver.keep = False
    number = pool.getconn("a").number
    gc.collect()
    assert pool.getconn("a").number == number
    pool.putconn(pool.getconn("a"))
    lease_all(pool)


@pytest.mark.parametrize("key", [[], {}, set()], ids=repr)
def test_a_key_that_cannot_be_hashed_is_refused(make, kind, driver, key):
    pool = make(kind, minconn=1)
    with unchanged(pool, driver), pytest.raises(TypeError, match="unhashable"):
        pool.getconn(key)
    lease_all(pool)


def test_two_who_ask_for_one_key_at_once_get_one_connection(make, driver):
    pool = make(maxconn=2)
    driver.gate.clear()
    callers = [Caller(pool.getconn, "a"), Caller(pool.getconn, "a")]
    eventually(lambda: pool.stats().waiting == 2)
    driver.gate.set()
    first, second = [caller.result() for caller in callers]
    assert first is second
    pool.putconn(first, "a")
    lease_all(pool)


def test_who_waits_for_a_key_gets_the_connection_that_was_leased_under_it_meanwhile(make):
    pool = make(maxconn=1)
    conn = pool.getconn()
    callers = [Caller(pool.getconn, "a"), Caller(pool.getconn, "a")]
    eventually(lambda: pool.stats().waiting == 2)
    pool.putconn(conn)
    assert [caller.result() for caller in callers] == [conn, conn]


def test_a_key_is_no_longer_held_once_its_lease_has_ended(make, kind):
    class Key:
        pass

    pool, key = make(kind), Key()
    pool.putconn(pool.getconn(key), key)
    gone = weakref.ref(key)
    del key
    gc.collect()
    assert gone() is None
