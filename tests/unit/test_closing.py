"""Closing, draining and resizing: at once, also for what is leased, waited for or being opened."""

from __future__ import annotations

import pytest
from fakes import FakeConnector, OperationalError

from dbpool import PoolClosed, PoolExhausted

from .checks import adds_up, lease_all
from .threads import Caller, Queue, eventually

# ---- closeall ----------------------------------------------------------------------------------------------


def test_closeall_closes_idle_and_leased_connections(make, kind, driver):
    pool = make(kind, 3, 3)
    held = [pool.getconn(), pool.getconn("a")]
    pool.closeall()
    assert driver.open == []
    assert [conn.closes for conn in driver.made] == [1, 1, 1]
    assert (pool.closed, pool.stats().size) == (True, 0)
    assert pool.stats().discards == {"closed": 3}
    assert len(held) == 2


def test_closeall_again_says_that_the_pool_is_closed(make, kind):
    pool = make(kind)
    pool.closeall()
    with pytest.raises(PoolClosed, match=r"^connection pool is closed$"):
        pool.closeall()


def test_closeall_wakes_who_waits(make):
    pool = make(maxconn=1)
    conn = pool.getconn()
    callers = [Caller(pool.getconn, key) for key in (None, None, "a")]
    eventually(lambda: pool.stats().waiting == 3)
    pool.closeall()
    for caller in callers:
        with pytest.raises(PoolClosed):
            caller.result()
    assert conn.closed
    assert pool.stats().waiting == 0


def test_closeall_goes_on_though_a_connection_cannot_be_closed(kind, driver):
    class Stuck(FakeConnector):
        def close(self, conn):
            super().close(conn)
            raise OperationalError("cannot")

    pool = kind(3, 3, connect=Stuck(driver.connect))
    pool.closeall()
    assert driver.open == []
    assert pool.stats().size == 0


def test_a_connection_that_comes_after_closeall_is_closed(make, driver):
    pool = make(maxconn=2)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    pool.closeall()
    with pytest.raises(PoolClosed):
        caller.result()
    driver.gate.set()
    eventually(lambda: driver.made and driver.made[0].closed)
    eventually(lambda: pool.stats().size == 0)
    assert adds_up(pool)


def test_closeall_in_the_midst_of_a_put_leaves_nothing_open(make, driver):
    pool = make(maxconn=1, reset=lambda conn: pool.closed or pool.closeall())
    pool.putconn(pool.getconn())
    assert driver.open == []
    assert pool.stats().size == 0


# ---- close -------------------------------------------------------------------------------------------------


def test_close_may_be_called_again_and_after_closeall(make, kind):
    pool = make(kind, 1, 1)
    pool.close()
    pool.close(timeout=0)
    pool.close(timeout=None)
    other = make(kind, 1, 1)
    other.closeall()
    other.close()


def test_close_closes_what_is_idle_at_once_and_waits_for_what_is_leased(make, driver):
    pool = make(minconn=2, maxconn=2)
    conn = pool.getconn()
    closing = Caller(pool.close, timeout=None)
    eventually(lambda: driver.open == [conn])
    assert not closing.ended
    with pytest.raises(PoolClosed):
        pool.getconn()
    conn.execute()
    pool.putconn(conn)
    closing.result()
    assert (conn.rollbacks, driver.open) == (1, [])


def test_close_waits_for_every_lease(make, driver):
    pool = make(maxconn=3)
    conns = [pool.getconn(), pool.getconn(), pool.getconn("a")]
    closing = Caller(pool.close, timeout=None)
    for left, conn in zip((2, 1, 0), conns):
        eventually(lambda: pool.closed)
        assert not closing.ended
        pool.putconn(conn)
        assert len(driver.open) == left
    closing.result()


def test_close_forces_once_its_time_is_up(make, driver, clock):
    pool = make(minconn=2, maxconn=2)
    conn = pool.getconn()
    closing = Caller(pool.close, timeout=5)
    eventually(lambda: driver.open == [conn])
    clock.leap(4)
    assert not closing.ended
    clock.leap(2)
    closing.result()
    assert driver.open == []
    with pytest.raises(PoolClosed):
        pool.putconn(conn)


def test_close_without_time_forces_at_once(make, driver, any_kind):
    pool = make(any_kind, 1, 2)
    conn = pool.getconn()
    pool.close(timeout=0)
    assert conn.closed
    assert driver.open == []


def test_close_wakes_who_waits(make):
    pool = make(maxconn=1)
    conn = pool.getconn()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    closing = Caller(pool.close, timeout=None)
    with pytest.raises(PoolClosed):
        caller.result()
    pool.putconn(conn)
    closing.result()


def test_close_waits_for_the_timeout_of_the_pool_by_default(make, clock):
    pool = make(maxconn=1, timeout=7)
    conn = pool.getconn()
    closing = Caller(pool.close)
    eventually(lambda: pool.closed)
    clock.leap(6)
    assert not closing.ended
    clock.leap(2)
    closing.result()
    assert conn.closed


def test_close_waits_for_a_connect_in_flight_and_closes_what_comes(make, driver):
    pool = make(maxconn=1)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    closing = Caller(pool.close, timeout=None)
    with pytest.raises(PoolClosed):
        caller.result()
    driver.gate.set()
    closing.result()
    assert driver.made[0].closed
    assert driver.open == []


def test_close_notices_a_lease_that_is_dropped(make, driver, heartbeat):
    pool = make(maxconn=1)
    driver.keep = False
    held = [pool.getconn()]
    closing = Caller(pool.close, timeout=None)
    eventually(lambda: pool.closed)
    held.clear()
    with pytest.warns(ResourceWarning, match="dropped"):
        closing.result()


def test_a_with_block_closes_the_pool(make, kind, driver):
    with make(kind, 1, 2) as pool:
        pool.putconn(pool.getconn())
    assert pool.closed
    assert driver.open == []


def test_a_with_block_closes_the_pool_after_an_error_too(make, kind, driver):
    with pytest.raises(ZeroDivisionError), make(kind, 1, 2) as pool:
        1 / 0  # noqa: B018
    assert pool.closed
    assert driver.open == []


def test_a_pool_closed_inside_its_with_block_is_left_quietly(make, kind):
    with make(kind, 1, 2) as pool:
        pool.closeall()
    assert pool.closed


# ---- drain -------------------------------------------------------------------------------------------------


def test_drain_closes_what_is_idle_now_and_what_is_leased_on_return(make, kind, driver):
    pool = make(kind, 3, 3)
    first, second = pool.getconn(), pool.getconn("a")
    pool.drain()
    assert set(driver.open) == {first, second}
    pool.putconn(first)
    pool.putconn(second, "a")
    assert driver.open == []
    assert pool.stats().discards == {"drained": 3}
    assert not {conn.number for conn in lease_all(pool)} & {1, 2, 3}


def test_a_drained_connection_serves_its_holder_to_the_end(make, kind):
    pool = make(kind)
    conn = pool.getconn("a")
    pool.drain()
    assert pool.getconn("a") is conn
    conn.execute()
    conn.commit()
    pool.putconn(conn)
    assert conn.closed


def test_drain_retires_a_connection_that_is_being_opened(make, driver):
    pool = make(maxconn=1)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    pool.drain()
    driver.gate.set()
    conn = caller.result()
    assert conn.number == 2
    assert driver.open == [conn]


def test_drain_twice_is_drain(make, kind, driver):
    pool = make(kind, 2, 2)
    conn = pool.getconn()
    pool.drain()
    pool.drain()
    pool.putconn(conn)
    assert driver.open == []
    lease_all(pool)
    assert adds_up(pool)


def test_after_drain_new_connections_live_on(make, kind):
    pool = make(kind, 1, 1)
    pool.drain()
    conn = pool.getconn()
    pool.putconn(conn)
    assert pool.getconn() is conn


# ---- resize ------------------------------------------------------------------------------------------------


@pytest.mark.fault(37)
def test_resize_to_more_serves_who_waits_at_once(make):
    pool = make(maxconn=1)
    conn = pool.getconn()
    callers = [Caller(pool.getconn) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    pool.resize(0, 3)
    assert {caller.result().number for caller in callers} == {2, 3}
    assert (pool.minconn, pool.maxconn, conn.closed) == (0, 3, False)


def test_resize_to_less_closes_what_is_idle_at_once(make, kind, driver):
    pool = make(kind, 0, 4)
    lease_all(pool)
    pool.resize(0, 2)
    assert (len(driver.open), pool.stats().idle, pool.maxconn) == (2, 2, 2)
    lease_all(pool)


@pytest.mark.fault(37)
def test_resize_to_less_closes_what_is_leased_on_return(make, kind, driver):
    pool = make(kind, 0, 4, timeout=0)
    conns = [pool.getconn() for _ in range(4)]
    pool.resize(0, 2)
    with pytest.raises(PoolExhausted):
        pool.getconn()
    for left, conn in zip((3, 2, 2, 2), conns):
        pool.putconn(conn)
        assert len(driver.open) == left
    lease_all(pool)
    assert adds_up(pool)


@pytest.mark.fault(37)
def test_resize_to_less_lets_nobody_connect_until_there_is_room(make, driver):
    pool = make(maxconn=3)
    conns, queue = [pool.getconn() for _ in range(3)], Queue(pool)
    pool.resize(0, 1)
    queue.join()
    pool.putconn(conns.pop())
    pool.putconn(conns.pop())
    assert pool.stats().waiting == 1
    assert len(driver.open) == 1
    pool.putconn(conns.pop())
    assert queue.finish() == [0]
    assert driver.calls == 3


@pytest.mark.fault(37)
def test_resize_to_less_while_one_is_being_opened_stays_within_the_limit(make, driver):
    pool = make(maxconn=2)
    conn = pool.getconn()
    driver.gate.clear()
    caller = Caller(pool.getconn, timeout=None)
    eventually(lambda: driver.calls == 2)
    pool.resize(0, 1)
    driver.gate.set()
    eventually(lambda: len(driver.made) == 2 and pool.stats().connecting == 0)
    assert pool.stats().size <= 2
    pool.putconn(conn)
    late = caller.result()
    pool.putconn(late)
    assert len(driver.open) == 1
    lease_all(pool)


@pytest.mark.parametrize("start", ["eager", "lazy"])
def test_resize_opens_a_larger_minconn_unless_the_pool_is_lazy(make, kind, start):
    pool = make(kind, 1, 2, start=start)
    pool.resize(3, 4)
    eventually(lambda: pool.stats().idle == (3 if start == "eager" else 0))
    lease_all(pool)


def test_resize_survives_a_server_that_is_down(make, kind, driver):
    pool = make(kind, 0, 2)
    driver.fail_on = {1}
    pool.resize(1, 4)
    eventually(lambda: pool.stats().connect_errors == 1)
    assert (pool.minconn, pool.maxconn) == (1, 4)
    lease_all(pool)


def test_resize_of_a_closed_pool_opens_nothing(make, kind, driver):
    pool = make(kind, 0, 2)
    pool.closeall()
    pool.resize(2, 2)
    assert driver.calls == 0
