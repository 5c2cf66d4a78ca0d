"""What docs/*/from-others.md says: each thing that other pools have and that is said here in other words, does it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from fakes import OperationalError

from dbpool import Connector, EndpointPool, PoolDeadlock, PoolExhausted, PoolTimeout, ThreadedConnectionPool

from .checks import adds_up, lease_all
from .threads import Caller, Queue, eventually


def put_back(pool, conns):
    for conn in conns:
        pool.putconn(conn)


def have_mute(pool, driver, numbers):
    """Have the connections with these numbers never answer."""
    real = driver.connect

    def connect():
        conn = real()
        conn.mute = conn.number in numbers
        return conn

    pool._opener.connector._connect = connect


# ---- beyond the limit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overflow", [3, None])
def test_wait_false_opens_one_more_for_each_and_never_waits(make, kind, driver, overflow):
    pool = make(kind, maxconn=2, max_overflow=overflow, timeout=0)
    conns = [pool.getconn() for _ in range(5)]
    assert (driver.calls, len(driver.open)) == (5, 5)
    assert pool.stats().timeouts == 0
    put_back(pool, conns)
    assert (len(driver.open), pool.stats().idle) == (2, 2)
    assert pool.stats().discards == {"overflow": 3}
    assert adds_up(pool)


def test_wait_false_closes_whichever_comes_back_first(make, kind, driver):
    pool = make(kind, maxconn=1, max_overflow=None, timeout=0)
    first, second = pool.getconn(), pool.getconn()
    pool.putconn(first)
    assert driver.open == [second]
    pool.putconn(second)
    assert driver.open == [second]


def test_an_idle_one_is_taken_before_one_more_is_opened(make, kind, driver):
    pool = make(kind, maxconn=2, max_overflow=None, timeout=0)
    put_back(pool, [pool.getconn(), pool.getconn()])
    conns = [pool.getconn() for _ in range(3)]
    assert sorted(conn.number for conn in conns) == [1, 2, 3]
    put_back(pool, conns)


def test_overflow_is_opened_before_anybody_waits_then_they_wait(make, driver):
    """As in SQLAlchemy: pool_size, and max_overflow, and then the time-out."""
    pool = make(maxconn=1, max_overflow=1, timeout=60)
    conns = [pool.getconn(), pool.getconn()]
    queue = Queue(pool)
    queue.join()
    pool.putconn(conns[0])
    queue.finish()
    assert (driver.calls, queue.given) == (2, [1])
    pool.putconn(conns[1])


def test_without_waiting_and_without_overflow_the_limit_is_an_error(make, kind, driver):
    pool = make(kind, maxconn=2, timeout=0)
    conns = [pool.getconn(), pool.getconn()]
    with pytest.raises(PoolExhausted):
        pool.getconn()
    assert driver.calls == 2
    put_back(pool, conns)


def test_timeout_zero_takes_an_idle_one(make, kind):
    pool = make(kind, maxconn=1, timeout=30)
    conn = pool.getconn()
    pool.putconn(conn)
    assert pool.getconn(timeout=0) is conn


def test_timeout_none_waits_for_as_long_as_it_takes(make, clock):
    pool = make(maxconn=1, timeout=None, max_lifetime=None, idle_timeout=None)
    conn, waiting = pool.getconn(), Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    clock.leap(10**6)
    assert not waiting.ended
    pool.putconn(conn)
    assert waiting.result() is conn


# ---- how many stay idle ----------------------------------------------------------------------------------------------


def test_max_idle_is_minconn_and_idle_timeout_zero(make, kind, driver):
    """It counts those that are idle, and not all that are open, as PooledDB's maxcached does."""
    pool = make(kind, 2, 5, idle_timeout=0)
    conns = [pool.getconn() for _ in range(5)]
    for left, conn in zip((5, 5, 4, 3, 2), conns):
        pool.putconn(conn)
        assert len(driver.open) == left
    assert pool.stats().idle == 2
    lease_all(pool)


@pytest.mark.synchronous
def test_max_idle_of_a_lazy_pool_opens_none_of_them_beforehand(make, kind, driver):
    pool = make(kind, 2, 5, start="lazy", idle_timeout=0)
    assert driver.calls == 0
    put_back(pool, [pool.getconn() for _ in range(4)])
    assert pool.stats().idle == 2


def test_max_idle_with_a_time_keeps_that_many_however_long(make, clock, driver):
    pool = make(minconn=2, maxconn=5, start="lazy", idle_timeout=60.0, max_lifetime=None, ping_after=None)
    put_back(pool, [pool.getconn() for _ in range(4)])
    assert pool.stats().idle == 4
    clock.leap(61.0)
    pool._sweep()
    assert (pool.stats().idle, pool.stats().discards) == (2, {"idle": 2})
    clock.leap(10**6)
    pool._sweep()
    assert (pool.stats().idle, driver.calls) == (2, 4)


def test_no_pool_at_all_is_minconn_zero_and_idle_timeout_zero(make, kind, driver):
    pool = make(kind, 0, 3, idle_timeout=0)
    put_back(pool, [pool.getconn(), pool.getconn()])
    assert driver.open == []
    assert pool.getconn().number == 3


# ---- connecting again ------------------------------------------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch, driver):
    """The pauses between attempts, which take no time here, each with the number of attempts before it."""
    pauses: list[tuple[int, float]] = []
    monkeypatch.setattr("dbpool.opening._random", lambda: 0.5)
    sleep = SimpleNamespace(sleep=lambda seconds: pauses.append((driver.calls, round(seconds, 4))))
    monkeypatch.setattr("dbpool.opening.time", sleep)

    async def awaited(seconds):
        pauses.append((driver.calls, round(seconds, 4)))

    monkeypatch.setattr("dbpool.aio.opening.asyncio", SimpleNamespace(sleep=awaited))
    return pauses


def test_attempts_and_pauses_take_turns_and_each_pause_is_twice_the_last(make, kind, driver, pauses):
    driver.fail_on = {1, 2, 3, 4, 5, 6, 7}
    assert make(kind, 0, 1, connect_attempts=8).getconn().number == 8
    assert pauses == [(1, 0.0375), (2, 0.075), (3, 0.15), (4, 0.3), (5, 0.6), (6, 1.2), (7, 1.5)]


def test_a_new_one_that_does_not_answer_is_an_attempt_that_failed(make, kind, driver, pauses):
    """As with a heartbeat right after the connecting: it is closed, and the next attempt opens another."""
    pool = make(kind, 0, 1, ping_on_connect=True, connect_attempts=2)
    have_mute(pool, driver, numbers=[1])
    assert pool.getconn().number == 2
    assert (driver.made[0].closes, len(driver.open), pauses) == (1, 1, [(1, 0.0375)])


def test_a_new_one_that_on_connect_cannot_prepare_is_an_attempt_that_failed(make, kind, driver, pauses):
    def prepare(conn):
        if conn.number == 1:
            raise OperationalError("no such schema")

    assert make(kind, 0, 1, on_connect=prepare, connect_attempts=2).getconn().number == 2
    assert driver.made[0].closes == 1


# ---- heartbeats ------------------------------------------------------------------------------------------------------


def test_nobody_is_handed_a_new_one_that_does_not_answer(make, kind, driver):
    pool = make(kind, 0, 1, ping_on_connect=True)
    have_mute(pool, driver, numbers=[1, 2])
    for number in (1, 2):
        with pytest.raises(OperationalError, match="does not answer"):
            pool.getconn()
        assert (driver.calls, driver.open) == (number, [])
    assert pool.stats().size == 0


def test_ping_after_zero_asks_each_time_one_is_handed_out(make, kind):
    pool = make(kind, 0, 1, ping_after=0)
    for pings in (1, 2, 3):  # the first time it is new
        conn = pool.getconn()
        assert conn.pings == pings
        pool.putconn(conn)


def test_ping_interval_keeps_minconn_alive_and_nobody_asks(make, driver):
    pool = make(minconn=2, maxconn=3, ping_interval=0.03, check_after=None, ping_after=None)
    eventually(lambda: all(conn.pings for conn in driver.made))
    driver.made[0].mute = True
    eventually(lambda: pool.stats().discards == {"lost": 1} and pool.stats().idle == 2)
    eventually(lambda: driver.made[-1].pings)


def test_a_lazy_pool_opens_none_in_the_place_of_what_did_not_answer(make, clock, driver):
    pool = make(minconn=1, maxconn=2, start="lazy", ping_interval=60.0, check_after=None)
    pool.putconn(pool.getconn())
    driver.made[0].mute = True
    clock.leap(61.0)
    pool._sweep()
    eventually(lambda: pool.stats().discards == {"lost": 1})
    pool._sweep()
    assert (driver.calls, pool.stats().size) == (1, 0)


# ---- a heartbeat that returns whether -----------------------------------------------------------------------------


def alive(conn):
    return conn.number != 1


def ping(conn):
    """What the page says to write around a function that returns whether the connection is alive."""
    if not alive(conn):
        raise ConnectionError("it does not answer")


def test_a_heartbeat_says_no_by_raising(driver):
    connector = Connector(driver.connect, ping=ping)
    with ThreadedConnectionPool(0, 1, connect=connector, config={"ping_after": 0}) as pool:
        pool.putconn(pool.getconn())
        conn = pool.getconn()
        assert (conn.number, pool.stats().discards) == (2, {"lost": 1})
        pool.putconn(conn)


# ---- endpoints -------------------------------------------------------------------------------------------------------


def test_min_idle_of_an_endpoint_is_minconn_of_a_lazy_pool(driver, clock):
    config = {"start": "lazy", "idle_timeout": 60.0, "max_lifetime": None, "ping_after": None}
    with EndpointPool(1, 3, connect=Connector(lambda endpoint: driver.connect()), total=5, config=config) as pool:
        conns = [pool.getconn("a") for _ in range(3)]
        put_back(pool, conns)
        clock.leap(61.0)
        pool.check()
        assert {endpoint: stats.idle for endpoint, stats in pool.stats().items()} == {"a": 1}
        assert driver.calls == 3


# ---- one thread too many ---------------------------------------------------------------------------------------------


@pytest.mark.synchronous
def test_a_lone_thread_that_asks_for_one_too_many_is_told_at_once():
    connector = Connector(threading.Event, close=lambda conn: None)
    with ThreadedConnectionPool(0, 1, connect=connector, config={"timeout": None}) as pool, pool.connection():
        with pytest.raises(PoolDeadlock):
            pool.getconn()


def test_what_a_driver_that_hangs_costs_is_connect_timeout(make, driver, clock):
    """Elsewhere the synchronous connect has to look after itself."""
    pool = make(maxconn=1, timeout=60, connect_timeout=5)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(6)
    with pytest.raises(PoolTimeout, match="connect_timeout"):
        caller.result()
    driver.gate.set()
