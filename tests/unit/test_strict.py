"""strict=True: only the thread that got a connection may put it; a refusal changes nothing."""

from __future__ import annotations

import re
import threading

import pytest

from dbpool import PersistentConnectionPool, PoolError, ThreadedConnectionPool

from .checks import adds_up, unchanged
from .threads import Caller, eventually

pytestmark = pytest.mark.synchronous

REFUSED = "another thread got"


@pytest.mark.parametrize("key", [None, "a key"])
@pytest.mark.parametrize("close", [False, True])
def test_another_thread_is_refused_and_nothing_is_changed(make, driver, kind, key, close):
    pool = make(kind, strict=True)
    conn = pool.getconn(key)
    holders = pool.holders()
    with unchanged(pool, driver):
        caller = Caller(pool.putconn, conn, key, close)
        with pytest.raises(PoolError, match=REFUSED):
            caller.result()
    assert [user.thread_id for user in pool.holders()] == [user.thread_id for user in holders]
    pool.putconn(conn, key)
    assert pool.stats().idle == 1
    assert adds_up(pool)


def test_a_keyed_one_is_not_put_without_its_key_by_another_thread_either(make, kind):
    pool = make(kind, strict=True)
    conn = pool.getconn("a key")
    with pytest.raises(PoolError, match=REFUSED):
        Caller(pool.putconn, conn).result()
    assert pool.getconn("a key") is conn
    pool.putconn(conn)


def test_the_thread_that_got_it_puts_it(make, kind):
    pool = make(kind, strict=True)

    def get_and_put(key):
        pool.putconn(pool.getconn(key), key)

    for key in (None, "a key"):
        get_and_put(key)
        Caller(get_and_put, key).result()
    assert (pool.stats().idle, pool.stats().leases) == (1, 4)


def test_the_next_holder_is_the_one_who_counts(make):
    """A double put of a connection that went on to another thread is found out: without strict it is not."""
    pool = make(maxconn=1, strict=True)
    conn = pool.getconn()
    pool.putconn(conn)
    assert Caller(pool.getconn).result() is conn
    with pytest.raises(PoolError, match=REFUSED):
        pool.putconn(conn)
    assert pool.stats().used == 1


def test_a_stranger_is_refused_as_ever(make, kind):
    pool, other = make(kind, strict=True), make(kind)
    conn = other.getconn()
    with pytest.raises(PoolError, match="not leased from pool"):
        pool.putconn(conn)
    with pytest.raises(PoolError, match="conn is None"):
        pool.putconn(None)
    other.putconn(conn)
    mine = pool.getconn()
    pool.putconn(mine)
    with pytest.raises(PoolError, match="not leased from pool"):
        pool.putconn(mine)


def test_without_it_another_thread_may_put(make, kind):
    pool = make(kind)
    for key in (None, "a key"):
        Caller(pool.putconn, pool.getconn(key), key).result()
    assert pool.stats().idle == 1


def test_a_block_ends_in_its_thread(make, kind):
    pool = make(kind, strict=True)
    with pool.connection() as conn:
        pass
    assert pool.getconn() is conn
    pool.putconn(conn)


def test_each_thread_of_a_persistent_pool_puts_its_own(make):
    pool = make(PersistentConnectionPool, strict=True)
    conn = pool.getconn()
    with pytest.raises(PoolError):
        Caller(pool.putconn, conn).result()
    assert pool.getconn() is conn
    pool.putconn()
    assert pool.stats().idle == 1


def test_it_is_on_or_off(driver):
    with pytest.raises(TypeError, match="strict"):
        ThreadedConnectionPool(0, 1, connect=driver.connect, config={"strict": 1})


def test_the_refusal_names_who_got_it_where_and_where_that_thread_stands(make, monkeypatch):
    monkeypatch.setattr("dbpool.standing._last", (float("-inf"), {}))  # what another test has seen
    pool, go = make(maxconn=1, strict=True, trace=True), threading.Event()

    def hold():
        held.append(pool.getconn())
        go.wait(20)
        pool.putconn(held[0])

    held, holder = [], threading.Thread(target=hold, name="baker")
    holder.start()
    eventually(lambda: held)
    where = rf"{re.escape(__file__)}:\d+ in hold"
    with pytest.raises(PoolError, match=rf"thread 'baker' for \S+ s \(got it at {where}\), now at {where}"):
        pool.putconn(held[0])
    go.set()
    holder.join()
