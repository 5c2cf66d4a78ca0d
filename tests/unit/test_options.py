"""The options that say how many connections there are, which is used next, and when one is closed."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

import pytest
from fakes import FakeConnector, OperationalError

from dbpool import (
    PersistentConnectionPool,
    PoolConfig,
    PoolExhausted,
    PoolTimeout,
    SimpleConnectionPool,
    ThreadedConnectionPool,
)

from . import dbapi
from .checks import adds_up, lease_all
from .threads import Caller, Queue, eventually

# ---- name --------------------------------------------------------------------------------------------------


def test_pools_without_a_name_are_numbered(make, kind):
    first, second = make(kind), make(kind)
    assert first.name.startswith("pool-")
    assert int(second.name[5:]) == int(first.name[5:]) + 1


def test_a_name_is_kept(make, kind):
    assert make(kind, name="orders").name == "orders"


# ---- start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minconn", "maxconn"), [(0, 1), (1, 1), (3, 3), (2, 5)])
def test_an_eager_pool_opens_minconn_at_once(make, kind, driver, minconn, maxconn):
    pool = make(kind, minconn, maxconn)
    assert (driver.calls, pool.stats().idle) == (minconn, minconn)
    lease_all(pool)


@pytest.mark.synchronous
def test_a_lazy_pool_opens_nothing_until_it_is_asked(make, kind, driver):
    pool = make(kind, 2, 3, start="lazy")
    assert driver.calls == 0
    pool.putconn(pool.getconn())
    assert driver.calls == 1
    pool.open()
    assert (driver.calls, pool.stats().idle) == (2, 2)


def test_a_background_pool_opens_minconn_meanwhile(make, driver):
    driver.gate.clear()
    pool = make(minconn=2, maxconn=3, start="background")
    eventually(lambda: driver.calls == 2)
    assert pool.stats().idle == 0
    driver.gate.set()
    eventually(lambda: pool.stats().idle == 2)


def test_a_background_pool_outlives_a_server_that_is_down(make, driver):
    driver.fail_on = {1}
    pool = make(minconn=1, maxconn=1, start="background")
    eventually(lambda: pool.stats().connect_errors == 1)
    assert pool.getconn().number == 2


def test_who_asks_a_background_pool_takes_what_is_being_opened(make, driver):
    driver.gate.clear()
    pool = make(minconn=1, maxconn=3, start="background")
    eventually(lambda: driver.calls == 1)
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    driver.gate.set()
    assert caller.result().number == 1
    assert driver.calls == 1


def test_open_replaces_what_was_lost(make, kind, driver):
    pool = make(kind, 2, 3)
    pool.putconn(pool.getconn(), close=True)
    assert pool.stats().idle == 1
    pool.open()
    assert pool.stats().idle == 2
    pool.open()
    assert driver.calls == 3


# ---- idle_order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "expected"), [("lifo", [3, 2, 1]), ("fifo", [1, 2, 3])])
def test_the_idle_order_says_which_is_used_next(make, kind, order, expected):
    pool = make(kind, maxconn=3, idle_order=order)
    for conn in [pool.getconn() for _ in range(3)]:
        pool.putconn(conn)
    conns = [pool.getconn() for _ in range(3)]
    assert [conn.number for conn in conns] == expected


# ---- max_overflow ------------------------------------------------------------------------------------------


def test_overflow_lends_further_connections_and_closes_them_on_return(make, kind, driver):
    pool = make(kind, maxconn=2, max_overflow=2, timeout=0)
    conns = [pool.getconn() for _ in range(4)]
    with pytest.raises(PoolExhausted):
        pool.getconn()
    for left, conn in zip((3, 2, 2, 2), conns):
        pool.putconn(conn)
        assert len(driver.open) == left
    assert pool.stats().discards == {"overflow": 2}
    assert adds_up(pool)


def test_overflow_none_has_no_limit(make, kind, driver):
    pool = make(kind, maxconn=1, max_overflow=None, timeout=0)
    conns = [pool.getconn() for _ in range(30)]
    for conn in conns:
        pool.putconn(conn)
    assert (len(driver.open), pool.stats().idle) == (1, 1)


def test_overflow_serves_who_waits_before_it_closes(make, driver):
    pool = make(maxconn=1, max_overflow=1)
    conns, queue = [pool.getconn(), pool.getconn()], Queue(pool)
    queue.join()
    queue.join()
    for conn in conns:
        pool.putconn(conn)
    queue.finish()
    assert sorted(queue.given) in ([1, 2], [1, 1], [2, 2])
    assert (driver.calls, len(driver.open)) == (2, 1)


def test_keyed_overflow_is_closed_on_return_as_well(make, kind, driver):
    pool = make(kind, maxconn=1, max_overflow=1)
    first, second = pool.getconn("a"), pool.getconn("b")
    pool.putconn(second, "b")
    assert driver.open == [first]


# ---- idle_timeout ------------------------------------------------------------------------------------------


def test_idle_timeout_zero_keeps_minconn_and_closes_the_others_on_return(make, kind, driver):
    pool = make(kind, 1, 3, idle_timeout=0)
    conns = [pool.getconn() for _ in range(3)]
    for conn in conns:
        pool.putconn(conn)
    assert (len(driver.open), pool.stats().idle) == (1, 1)
    assert pool.stats().discards == {"surplus": 2}
    lease_all(pool)


def test_idle_timeout_zero_without_minconn_keeps_nothing(make, kind, driver):
    pool = make(kind, 0, 2, idle_timeout=0)
    pool.putconn(pool.getconn())
    assert driver.open == []


def test_idle_timeout_zero_hands_over_before_it_closes(make, driver):
    pool = make(maxconn=1, idle_timeout=0)
    conn, queue = pool.getconn(), Queue(pool)
    queue.join()
    queue.join()
    pool.putconn(conn)
    queue.finish()
    assert queue.given == [1, 1]
    eventually(lambda: driver.open == [])


def test_idle_timeout_none_keeps_up_to_maxconn(make, kind, driver):
    pool = make(kind, 0, 3, idle_timeout=None)
    for conn in [pool.getconn() for _ in range(3)]:
        pool.putconn(conn)
    assert len(driver.open) == 3


# ---- max_uses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "a"])
def test_a_connection_is_closed_after_max_uses(make, kind, driver, key):
    pool = make(kind, maxconn=1, max_uses=3)
    numbers = []
    for _ in range(7):
        conn = pool.getconn(key)
        numbers.append(conn.number)
        pool.putconn(conn, key)
    assert numbers == [1, 1, 1, 2, 2, 2, 3]
    assert pool.stats().discards == {"max_uses": 2}
    assert pool.stats().leases == 7


def test_getting_a_key_again_is_not_another_use(make, kind):
    pool = make(kind, maxconn=1, max_uses=2)
    conn = pool.getconn("a")
    for _ in range(5):
        assert pool.getconn("a") is conn
    pool.putconn(conn, "a")
    assert not conn.closed


# ---- on_connect --------------------------------------------------------------------------------------------


def test_on_connect_is_called_once_for_each_connection(make, kind, driver):
    seen = []
    pool = make(kind, 1, 2, on_connect=seen.append)
    for _ in range(3):
        lease_all(pool)
    assert seen == driver.made
    assert len(seen) == 2


def test_what_on_connect_leaves_open_is_committed(make, kind, driver):
    pool = make(kind, 1, 1, on_connect=lambda conn: conn.execute())
    assert (driver.made[0].commits, driver.made[0].rollbacks) == (1, 0)
    assert pool.getconn() is driver.made[0]


@pytest.mark.synchronous
def test_so_it_is_with_a_driver_that_does_not_tell_whether_anything_is_open(kind):
    with kind(0, 1, connect=dbapi, config={"on_connect": lambda conn: conn.cursor()}) as pool:
        conn = pool.getconn()
        assert conn.done == ["commit"]
        pool.putconn(conn)


def test_an_on_connect_that_fails_fails_an_eager_constructor_and_nothing_stays_open(kind, driver):
    def on_connect(conn):
        raise OperationalError("cannot")

    with pytest.raises(OperationalError, match="cannot"):
        kind(2, 2, connect=FakeConnector(driver.connect), config={"on_connect": on_connect})
    eventually(lambda: driver.made and driver.open == [])


# ---- background --------------------------------------------------------------------------------------------


@pytest.mark.synchronous
def test_without_background_no_thread_is_ever_started(make, driver, monkeypatch):
    def refuse(*args):
        raise AssertionError("a thread was started")

    monkeypatch.setattr("dbpool.pool.start_new_thread", refuse)
    pool = make(ThreadedConnectionPool, 2, 3, background=False, connect_timeout=1)
    lease_all(pool)
    pool.drain()
    lease_all(pool)
    pool.resize(3, 4)
    lease_all(pool)
    assert pool.stats().opened == driver.calls


def test_without_background_the_caller_connects_in_its_own_thread(driver):
    threads = []

    def connect():
        threads.append(threading.get_ident())
        return driver.connect()

    pool = ThreadedConnectionPool(1, 2, connect=FakeConnector(connect), config={"background": False})
    conns = [pool.getconn(), pool.getconn()]
    assert threads == [threading.get_ident()] * 2
    for conn in conns:
        pool.putconn(conn)
    pool.close()


def test_a_simple_pool_connects_in_its_own_thread(driver):
    threads = []
    connect = FakeConnector(lambda: threads.append(threading.get_ident()) or driver.connect())
    pool = SimpleConnectionPool(1, 2, connect=connect)
    lease_all(pool)
    assert threads == [threading.get_ident()] * 2
    pool.close()


@pytest.mark.synchronous
@pytest.mark.parametrize("pool_kind", [ThreadedConnectionPool, PersistentConnectionPool])
def test_threads_that_cannot_be_started_are_done_without(make, driver, monkeypatch, pool_kind):
    def refuse(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("dbpool.pool.start_new_thread", refuse)
    pool = make(pool_kind, 2, 3)
    assert pool.stats().idle == 2
    conn = pool.getconn(timeout=0)
    pool.putconn(conn)
    pool.drain()
    assert pool.getconn(timeout=0) is not conn


@pytest.mark.synchronous
def test_a_thread_that_never_begins_is_not_waited_for(make, driver, monkeypatch):
    monkeypatch.setattr("dbpool.pool.start_new_thread", lambda *args: 1)
    monkeypatch.setattr("dbpool.pool.SLOW_THREAD", 0.001)
    pool = make(maxconn=3)
    for timeout in (0, 5, None):
        assert pool.getconn(timeout=timeout).number == driver.calls
    assert driver.calls == 3


@pytest.mark.synchronous
def test_the_constructor_does_not_wait_for_a_thread_that_never_begins(make, driver, monkeypatch):
    monkeypatch.setattr("dbpool.pool.start_new_thread", lambda *args: 1)
    monkeypatch.setattr("dbpool.pool.SLOW_THREAD", 0.001)
    pool = make(ThreadedConnectionPool, 2, 2, connect_timeout=0.5)
    assert pool.stats().idle == 2


@pytest.mark.parametrize("minconn", [1, 3])
def test_the_constructor_waits_for_connects_that_take_longer_than_a_thread_needs_to_begin(driver, monkeypatch, minconn):
    monkeypatch.setattr("dbpool.pool.SLOW_THREAD", 0.05)
    driver.gate.clear()
    caller = Caller(ThreadedConnectionPool, minconn, 3, connect=FakeConnector(driver.connect))
    eventually(lambda: driver.calls == minconn)
    late = time.monotonic() + 0.15
    eventually(lambda: time.monotonic() > late)
    driver.gate.set()
    with caller.result() as pool:
        assert (pool.stats().idle, driver.calls) == (minconn, minconn)


@pytest.mark.synchronous
def test_a_thread_that_begins_late_finds_its_work_done(make, driver, monkeypatch):
    late = []
    monkeypatch.setattr("dbpool.pool.start_new_thread", lambda work, args: late.append(lambda: work(*args)))
    monkeypatch.setattr("dbpool.pool.SLOW_THREAD", 0.001)
    pool = make(maxconn=1)
    conn = pool.getconn()
    for work in late:
        work()
    assert driver.calls == 1
    pool.putconn(conn)
    lease_all(pool)


CITY: ContextVar[str] = ContextVar("CITY", default="nowhere")


@pytest.mark.parametrize("minconn", [0, 1])
def test_connect_sees_the_context_variables_of_the_caller(kind, driver, minconn):
    seen = []
    token = CITY.set("Xi'an")
    pool = kind(minconn, 1, connect=FakeConnector(lambda: seen.append(CITY.get()) or driver.connect()))
    pool.getconn()
    CITY.reset(token)
    assert seen == ["Xi'an"]
    pool.close(timeout=0)


def test_a_connect_cannot_change_the_context_variables_of_the_caller(driver):
    pool = ThreadedConnectionPool(0, 1, connect=FakeConnector(lambda: CITY.set("elsewhere") and driver.connect()))
    conn = pool.getconn()
    assert CITY.get() == "nowhere"
    pool.putconn(conn)
    pool.close()


def test_a_pool_like_psycopg2s_never_waits_and_keeps_minconn(driver, waiting_kind):
    pool = waiting_kind(1, 2, connect=FakeConnector(driver.connect), config=PoolConfig.like_psycopg2())
    first, second = pool.getconn(), pool.getconn()
    with pytest.raises(PoolExhausted) as caught:
        pool.getconn()
    assert not isinstance(caught.value, PoolTimeout)
    first.color = "red"
    pool.putconn(first)
    pool.putconn(second)
    assert len(driver.open) == 1
    assert first.color == "red"
    pool.close()
