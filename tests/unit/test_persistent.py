"""PersistentConnectionPool: the thread is the key, while it lives."""

from __future__ import annotations

import threading

import pytest
from fakes import INTRANS

from dbpool import PersistentConnectionPool, PoolError, PoolExhausted

from .checks import adds_up, lease_all
from .threads import Caller, Peak, eventually

pytestmark = pytest.mark.synchronous


@pytest.fixture
def make(make):
    """Makes a PersistentConnectionPool."""
    return lambda minconn=0, maxconn=2, **options: make(PersistentConnectionPool, minconn, maxconn, **options)


def test_a_thread_gets_its_connection_again_until_it_puts_it(make, driver):
    pool = make()
    conn = pool.getconn()
    assert pool.getconn() is pool.getconn(timeout=0) is conn
    pool.putconn()
    assert (driver.calls, pool.stats().idle) == (1, 1)


def test_threads_have_different_connections(make):
    pool = make(maxconn=5)
    here, everybody = pool.getconn(), threading.Barrier(4)

    def work():
        conn = pool.getconn()
        everybody.wait(10)
        return conn.number

    numbers = {caller.result() for caller in [Caller(work) for _ in range(4)]}
    assert len(numbers | {here.number}) == 5


def test_one_put_is_enough_for_many_gets(make):
    pool = make()
    for _ in range(3):
        pool.getconn()
    pool.putconn()
    assert pool.stats().used == 0
    with pytest.raises(PoolError):
        pool.putconn()


@pytest.mark.parametrize("put", [lambda pool, conn: pool.putconn(), lambda pool, conn: pool.putconn(conn)])
def test_putconn_takes_the_threads_own_connection_named_or_not(make, put):
    pool = make()
    conn = pool.getconn()
    conn.execute()
    put(pool, conn)
    assert (conn.rollbacks, pool.stats().idle) == (1, 1)


@pytest.mark.parametrize("put", [lambda pool, conn: pool.putconn(conn, True), lambda pool, _: pool.putconn(close=True)])
def test_the_second_argument_of_putconn_is_close(make, put):
    pool = make()
    conn = pool.getconn()
    put(pool, conn)
    assert conn.closes == 1
    lease_all(pool)


def test_a_thread_gets_its_own_connection_again_while_that_is_idle(make):
    pool = make(maxconn=4)
    conns, go = [], []

    def work(number):
        conns.append(pool.getconn().number)
        eventually(lambda: len(conns) == 4)
        pool.putconn()
        eventually(lambda: len(go) > number)
        again = pool.getconn().number
        pool.putconn()
        go.append(True)
        return again

    callers = []
    for number in range(4):
        callers.append(Caller(work, number))
        eventually(lambda: len(conns) == len(callers))
    eventually(lambda: pool.stats().idle == 4)
    go.append(True)
    assert [caller.result() for caller in callers] == conns


def test_a_connection_that_was_put_may_be_taken_by_another_thread(make):
    pool = make(maxconn=1)
    conn = pool.getconn()
    pool.putconn()
    assert Caller(pool.getconn).result() is conn


def test_a_thread_whose_connection_another_has_gets_another(make):
    pool = make(maxconn=2)
    conn = pool.getconn()
    pool.putconn()
    taken, go = [], []

    def work():
        taken.append(pool.getconn())
        eventually(lambda: go)
        pool.putconn()

    caller = Caller(work)
    eventually(lambda: taken)
    assert taken == [conn]
    assert pool.getconn() is not conn
    go.append(True)
    caller.result()


def test_the_connection_of_a_dead_thread_is_rolled_back_and_used_again(make, driver):
    pool = make(maxconn=1, timeout=5)

    def work():
        pool.getconn().execute()

    Caller(work).result()
    assert driver.made[0].status == INTRANS
    conn = pool.getconn()
    assert (conn.number, conn.rollbacks, conn.status) == (1, 1, 0)


def test_the_connection_of_a_dead_thread_serves_who_waits_already(make, heartbeat):
    pool = make(maxconn=1)
    go = []
    holder = Caller(lambda: pool.getconn() and eventually(lambda: go))
    eventually(lambda: pool.stats().used == 1)
    waiter = Caller(lambda: pool.getconn(timeout=10).number)
    eventually(lambda: pool.stats().waiting)
    go.append(True)
    holder.result()
    assert waiter.result() == 1


def test_the_connection_of_a_dead_thread_is_closed_if_it_cannot_be_rolled_back(make, driver):
    pool = make(maxconn=1, timeout=5)

    def work():
        conn = pool.getconn()
        conn.execute()
        conn.fail_rollback = True

    Caller(work).result()
    assert pool.getconn().number == 2
    assert driver.made[0].closed
    pool.putconn()
    lease_all(pool)


def test_a_thread_with_the_ident_of_a_dead_one_inherits_nothing(make, driver):
    pool, idents, statuses = make(maxconn=3, timeout=5), [], []

    def work():
        conn = pool.getconn()
        idents.append(threading.get_ident())
        statuses.append(conn.status)
        conn.execute()

    for _ in range(50):
        Caller(work).result()
    assert len(set(idents)) < 50, "no ident was used again: the test proves nothing"
    assert set(statuses) == {0}


def test_many_short_threads_never_have_more_than_maxconn(make, driver):
    pool, peak = make(maxconn=3, timeout=30), Peak()

    def work():
        conn = pool.getconn()
        with peak:
            conn.execute()
            assert pool.getconn() is conn

    callers = [Caller(work) for _ in range(200)]
    for caller in callers:
        caller.result()
    assert peak.most <= 3
    assert len(driver.open) <= 3
    assert pool.stats().leases == 200
    lease_all(pool)
    assert adds_up(pool)


def test_a_thread_that_has_none_while_all_are_taken_waits_or_is_refused(make):
    pool = make(maxconn=1)
    conn, go = pool.getconn(), []
    with pytest.raises(PoolExhausted):
        Caller(pool.getconn, timeout=0).result()
    waiter = Caller(lambda: pool.getconn(timeout=10) and eventually(lambda: go))
    eventually(lambda: pool.stats().waiting)
    pool.putconn(conn)
    eventually(lambda: pool.stats().waiting == 0)
    go.append(True)
    waiter.result()


def test_put_by_another_thread_is_refused_and_changes_nothing(make):
    pool = make()
    conn = pool.getconn()
    for close in (False, True):
        with pytest.raises(PoolError):
            Caller(pool.putconn, conn, close).result()
    with pytest.raises(PoolError):
        Caller(pool.putconn).result()
    assert pool.getconn() is conn
    assert not conn.closed


def test_each_pool_has_its_own_connection_for_a_thread(make):
    first, second = make(), make()
    assert first.getconn() is not second.getconn()
    with pytest.raises(PoolError):
        first.putconn(second.getconn())


def test_a_thread_keeps_its_connection_through_a_drain_and_then_gets_a_new_one(make):
    pool = make()
    conn = pool.getconn()
    pool.drain()
    assert pool.getconn() is conn
    pool.putconn()
    assert conn.closed
    assert pool.getconn() is not conn


def test_closeall_closes_the_connections_of_all_threads(make, driver):
    pool = make(maxconn=3)
    go = []
    callers = [Caller(lambda: pool.getconn() and eventually(lambda: go)) for _ in range(3)]
    eventually(lambda: pool.stats().used == 3)
    pool.closeall()
    assert driver.open == []
    go.append(True)
    for caller in callers:
        caller.result()
    assert pool.stats().size == 0


def test_a_pool_leaves_nothing_behind_in_a_thread(make):
    """A thread's key does not keep the pool alive, nor the pool the thread's key."""
    pool = make(maxconn=2)
    for _ in range(20):
        Caller(lambda: (pool.getconn(), pool.putconn())).result()
    lease_all(pool)
    assert pool._used == {}
