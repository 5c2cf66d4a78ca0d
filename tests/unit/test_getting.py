"""getconn: who is served, in which order, how long anybody waits, and what is said when nothing comes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from fakes import INTRANS, UNKNOWN, FakeConnection, FakeConnector, OperationalError

from dbpool import PoolExhausted, PoolTimeout, SimpleConnectionPool, TooManyWaiters

from .checks import adds_up, lease_all
from .threads import Caller, Queue, eventually


def test_an_idle_connection_is_used_again(make, kind, driver):
    pool = make(kind)
    first = pool.getconn()
    pool.putconn(first)
    assert pool.getconn() is first
    assert driver.calls == 1


def test_leased_connections_are_different_ones(make, kind):
    pool = make(kind, maxconn=3)
    conns = [pool.getconn() for _ in range(3)]
    assert len({id(conn) for conn in conns}) == 3


@pytest.mark.parametrize("broken", [UNKNOWN, INTRANS])
def test_an_idle_connection_that_is_not_fit_is_replaced(make, kind, driver, broken):
    pool = make(kind, minconn=1)
    driver.made[0].status = broken
    assert pool.getconn().number == 2
    assert driver.made[0].closes == 1
    assert pool.stats().discards == {"unfit": 1}


def test_all_idle_connections_that_are_not_fit_are_replaced(make, kind, driver):
    pool = make(kind, minconn=3, maxconn=3)
    for conn in driver.made:
        conn.status = UNKNOWN
    conn = pool.getconn(timeout=0)
    assert not conn.closed
    assert [old.closes for old in driver.made[:3]] <= [1, 1, 1]
    pool.putconn(conn)
    lease_all(pool)


@pytest.mark.parametrize("limit", [0, 5])
def test_connections_that_are_never_fit_do_not_make_getconn_go_on_for_ever(kind, driver, limit):
    """Such as sqlite3's with autocommit=False: they are always in a transaction."""
    driver.fail_on = {50}  # else it would

    def connect() -> FakeConnection:
        conn = driver.connect()
        conn.status = INTRANS
        return conn

    pool = kind(0, 1, connect=FakeConnector(connect), config={"timeout": limit})
    with suppress(Exception):
        pool.getconn()
    assert driver.calls < 5
    pool.close(timeout=0)


# ---- waiting -----------------------------------------------------------------------------------------------


def test_callers_are_served_in_the_order_in_which_they_came(make):
    pool = make(maxconn=1)
    conn, queue, waits = pool.getconn(), Queue(pool), pool.stats().waits
    for _ in range(8):
        queue.join()
    pool.putconn(conn)
    assert queue.finish() == list(range(8))
    assert pool.stats().waits == waits + 8


def test_a_returned_connection_is_handed_over_and_not_left_to_newcomers(make):
    pool = make(maxconn=1)
    conn, queue = pool.getconn(), Queue(pool)
    queue.join(lambda _: eventually(lambda: done))
    queue.join()
    done: list[bool] = []
    pool.putconn(conn)
    with pytest.raises(PoolExhausted):
        pool.getconn(timeout=0)
    done.append(True)
    assert queue.finish() == [0, 1]
    assert queue.given == [1, 1]


def test_a_newcomer_stands_behind_those_who_wait_though_one_is_idle(make, driver):
    """With somebody in line no hit is made, so a put never gives to who came last."""
    pool = make(maxconn=1)
    conn, queue = pool.getconn(), Queue(pool)
    queue.join()
    newcomer = Queue(pool)
    newcomer.join()
    pool.putconn(conn)
    queue.finish()
    newcomer.finish()
    assert driver.calls == 1


def freed_by_discard(pool, conn):
    pool.putconn(conn, close=True)


def freed_by_a_broken_connection(pool, conn):
    conn.status = UNKNOWN
    pool.putconn(conn)


def freed_by_a_failing_rollback(pool, conn):
    conn.execute()
    conn.fail_rollback = True
    pool.putconn(conn)


def freed_by_drain(pool, conn):
    pool.drain()
    pool.putconn(conn)


def freed_by_resize(pool, conn):
    pool.resize(0, 2)


@pytest.mark.parametrize(
    "free",
    [freed_by_discard, freed_by_a_broken_connection, freed_by_a_failing_rollback, freed_by_drain, freed_by_resize],
)
def test_a_freed_slot_goes_to_who_waits_longest(make, free):
    pool = make(maxconn=1)
    conn, queue = pool.getconn(), Queue(pool)
    for _ in range(3):
        queue.join()
    free(pool, conn)
    assert queue.finish() == [0, 1, 2]
    assert queue.given == [2, 2, 2]
    assert adds_up(pool)


@pytest.mark.parametrize("options", [{"max_uses": 1}, {"reset": lambda conn: 1 / 0}], ids=["max_uses", "failing reset"])
def test_a_slot_freed_by_an_option_goes_to_who_waits_longest(make, options):
    pool = make(maxconn=1, **options)
    conn, queue = pool.getconn(), Queue(pool)
    for _ in range(3):
        queue.join()
    pool.putconn(conn)
    assert queue.finish() == [0, 1, 2]
    assert queue.given == [2, 3, 4]


def test_a_failed_connect_frees_its_slot_for_who_waits_longest(make, driver):
    pool = make(maxconn=1)
    driver.fail_on = {1}
    driver.gate.clear()
    unlucky = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    queue = Queue(pool)
    queue.join()
    queue.join()
    driver.gate.set()
    with pytest.raises(OperationalError, match="connect 1 refused"):
        unlucky.result()
    assert queue.finish() == [0, 1]


def test_a_slot_freed_by_a_dropped_connection_goes_to_who_waits(make, driver, heartbeat):
    pool = make(maxconn=1)
    driver.keep = False
    held, queue = [pool.getconn()], Queue(pool)
    queue.join()
    held.clear()
    with pytest.warns(ResourceWarning, match="dropped without putconn"):
        queue.finish()
    assert queue.given == [2]


def test_a_drained_and_freed_slot_serves_as_many_as_there_are_slots(make, driver):
    pool = make(maxconn=3)
    conns, queue = [pool.getconn() for _ in range(3)], Queue(pool)
    for _ in range(3):
        queue.join()
    for conn in conns:
        pool.putconn(conn, close=True)
    assert sorted(queue.finish()) == [0, 1, 2]
    assert len(driver.open) <= 3


# ---- timeout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_nothing_in_time_is_an_error_that_tells_the_state(make, timeout):
    pool = make(maxconn=2, name="orders", timeout=timeout)
    held = [pool.getconn(timeout=5), pool.getconn(timeout=5)]
    with pytest.raises(PoolExhausted, match=r"^connection pool exhausted.*'orders' 2 used, 0 idle, .* max 2") as caught:
        pool.getconn()
    assert isinstance(caught.value, PoolTimeout) is (timeout > 0)
    assert ("0.01 s" in str(caught.value)) is (timeout > 0)
    assert caught.value.__cause__ is None
    assert pool.stats().timeouts == 1
    assert len(held) == 2


def test_a_simple_pool_never_waits(make):
    pool = make(SimpleConnectionPool, maxconn=1, timeout=None)
    conn = pool.getconn()
    with pytest.raises(PoolExhausted, match=r"^connection pool exhausted"):
        pool.getconn(timeout=30)
    pool.putconn(conn)


@pytest.mark.parametrize(("configured", "given"), [(0, None), (0, 15), (0.001, None), (0.001, 15)])
def test_the_timeout_of_the_call_counts_and_not_the_pools(make, configured, given):
    pool = make(maxconn=1, timeout=configured)
    conn = pool.getconn(timeout=5)
    caller = Caller(pool.getconn, timeout=given)
    eventually(lambda: pool.stats().waiting)
    pool.putconn(conn)
    assert caller.result() is conn


def test_timeout_zero_is_over_at_once_where_the_pool_waits_for_ever(make):
    pool = make(maxconn=1, timeout=None)
    conn = pool.getconn()
    with pytest.raises(PoolExhausted):
        pool.getconn(timeout=0)
    pool.putconn(conn)


def test_no_timeout_waits_beyond_every_heartbeat(make, clock):
    pool = make(maxconn=1, timeout=None, max_lifetime=None, idle_timeout=None)
    conn = pool.getconn()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    clock.leap(10**9)
    assert not caller.ended
    pool.putconn(conn)
    assert caller.result() is conn


def test_timeout_zero_opens_a_connection_where_there_is_room(make):
    pool = make(maxconn=1, timeout=0)
    assert pool.getconn().number == 1


def test_timeout_zero_does_not_overtake_those_who_wait(make):
    pool = make(maxconn=1)
    conn, queue = pool.getconn(), Queue(pool)
    queue.join()
    with pytest.raises(PoolExhausted):
        pool.getconn(timeout=0)
    pool.putconn(conn)
    assert queue.finish() == [0]


def test_who_is_out_of_time_leaves_the_queue(make, clock):
    pool = make(maxconn=1, timeout=5)
    conn = pool.getconn()
    callers = [Caller(pool.getconn) for _ in range(3)]
    eventually(lambda: pool.stats().waiting == 3)
    clock.leap(6)
    for caller in callers:
        with pytest.raises(PoolTimeout):
            caller.result()
    assert pool.stats().waiting == 0
    pool.putconn(conn)
    assert pool.getconn(timeout=0) is conn


def test_who_has_time_left_stays_in_the_queue(make, clock):
    pool = make(maxconn=1)
    conn = pool.getconn()
    hasty, patient = Caller(pool.getconn, timeout=5), Caller(pool.getconn, timeout=500)
    eventually(lambda: pool.stats().waiting == 2)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        hasty.result()
    pool.putconn(conn)
    assert patient.result() is conn


@pytest.mark.synchronous
def test_who_does_not_wait_is_told_once_his_connect_has_served_another(make):
    """His own thread opens the connection of the caller before him: whoever waited for that here waited for ever."""
    told = []

    def nested(conn):
        if not told:
            told.append(None)
            with pytest.raises(PoolExhausted) as caught:
                pool.getconn(timeout=0)
            told[0] = caught.value

    pool = make(maxconn=2, connect_timeout=None, on_connect=nested)
    conn = pool.getconn(timeout=20)
    eventually(lambda: told[0])
    pool.putconn(conn)
    eventually(lambda: pool.stats().idle == 2)


@pytest.mark.synchronous  # a loop whose clock leaps is out of time at once; one that was held up: test_aio_*
def test_a_connection_that_comes_at_the_last_moment_is_taken(make, clock, monkeypatch):
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 60.0)  # who waits is not to look at the clock by itself
    pool = make(maxconn=1, timeout=5)
    conn, queue = pool.getconn(), Queue(pool)
    caller = Caller(pool.getconn, timeout=5)
    eventually(lambda: pool.stats().waiting)
    clock.leap(6)
    pool.putconn(conn)
    assert caller.result() is conn
    assert pool.stats().timeouts == 0
    assert queue.finish() == []


def test_a_time_out_names_the_last_connect_error_as_its_cause(make, driver):
    pool = make(maxconn=2)
    conn = pool.getconn()
    driver.fail_on = {2}
    with pytest.raises(OperationalError):
        pool.getconn()
    pool.resize(0, 1)
    for timeout in (0, 0.001):
        with pytest.raises(PoolExhausted) as caught:
            pool.getconn(timeout=timeout)
        assert isinstance(caught.value.__cause__, OperationalError)
        assert str(caught.value.__cause__) == "connect 2 refused"
    pool.putconn(conn)


def test_a_connect_that_succeeds_ends_the_memory_of_earlier_errors(make, driver):
    pool = make(maxconn=1)
    driver.fail_on = {1}
    with pytest.raises(OperationalError):
        pool.getconn()
    conn = pool.getconn()
    with pytest.raises(PoolExhausted) as caught:
        pool.getconn(timeout=0)
    assert caught.value.__cause__ is None
    pool.putconn(conn)


# ---- max_waiting -------------------------------------------------------------------------------------------


def test_one_more_than_max_waiting_is_refused_at_once(make):
    pool = make(maxconn=1, max_waiting=2, name="orders")
    conn, queue = pool.getconn(), Queue(pool)
    queue.join()
    queue.join()
    with pytest.raises(TooManyWaiters, match=r"max_waiting=2 .*'orders' 1 used, .* 2 waiting, max 1"):
        pool.getconn(timeout=60)
    assert pool.stats().refused == 1
    pool.putconn(conn)
    assert queue.finish() == [0, 1]


def test_max_waiting_zero_lets_nobody_wait_but_serves_who_need_not(make):
    pool = make(maxconn=2, max_waiting=0)
    first, second = pool.getconn(), pool.getconn()
    with pytest.raises(TooManyWaiters):
        pool.getconn(timeout=60)
    pool.putconn(first)
    assert pool.getconn() is first
    pool.putconn(second)


def test_who_timed_out_makes_room_in_the_queue(make, clock):
    pool = make(maxconn=1, max_waiting=1)
    conn = pool.getconn()
    hasty = Caller(pool.getconn, timeout=5)
    eventually(lambda: pool.stats().waiting)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        hasty.result()
    patient = Caller(pool.getconn, timeout=60)
    eventually(lambda: pool.stats().waiting)
    pool.putconn(conn)
    assert patient.result() is conn


def test_callers_whose_connections_are_being_opened_do_not_count_as_waiting(make, driver):
    pool = make(maxconn=3, max_waiting=0)
    driver.gate.clear()
    callers = [Caller(pool.getconn) for _ in range(3)]
    eventually(lambda: driver.calls == 3)
    driver.gate.set()
    assert len({id(caller.result()) for caller in callers}) == 3
