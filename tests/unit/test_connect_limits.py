"""connect_attempts and connect_timeout: tried again, in time or left behind, and never a slot lost."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import pytest
from fakes import FakeConnection, FakeConnector, OperationalError, Recorder

from dbpool import PoolExhausted, PoolTimeout

from .checks import adds_up, lease_all
from .threads import Caller, eventually


@pytest.fixture
def pauses(monkeypatch):
    """The pauses between attempts, which take no time here."""
    pauses: list[float] = []
    monkeypatch.setattr("dbpool.opening.time", SimpleNamespace(sleep=pauses.append))

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr("dbpool.aio.opening.asyncio", SimpleNamespace(sleep=sleep))
    return pauses


# ---- attempts ----------------------------------------------------------------------------------------------


def test_a_failed_connect_is_tried_again_after_growing_pauses(make, kind, driver, pauses):
    driver.fail_on = {1, 2, 3}
    pool = make(kind, 0, 1, connect_attempts=4)
    assert pool.getconn().number == 4
    assert len(pauses) == 3
    assert 0 < pauses[0] <= 0.05
    assert all(0.5 <= later / (0.05 * 2**n) <= 1 for n, later in enumerate(pauses))
    assert pool.stats().connect_errors == 0


def test_after_the_last_attempt_its_error_is_raised(make, kind, driver, pauses):
    driver.fail_on = {1, 2, 3, 4}
    pool = make(kind, 0, 1, connect_attempts=3)
    with pytest.raises(OperationalError, match="connect 3 refused"):
        pool.getconn()
    assert (driver.calls, len(pauses)) == (3, 2)


def test_one_attempt_is_the_default(make, kind, driver, pauses):
    driver.fail_on = {1}
    with pytest.raises(OperationalError):
        make(kind, 0, 1).getconn()
    assert (driver.calls, pauses) == (1, [])


def test_pauses_do_not_grow_for_ever(make, driver, pauses):
    driver.fail_on = set(range(1, 20))
    make(maxconn=1, connect_attempts=20).getconn()
    assert max(pauses) <= 2.0
    assert min(pauses[8:]) >= 1.0


def test_a_closed_pool_tries_no_further_attempt(make, driver, pauses):
    driver.fail_on = {1, 2, 3}
    pool = make(maxconn=1, connect_attempts=3)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    pool.closeall()
    driver.gate.set()
    with pytest.raises(Exception, match=r"closed|refused"):
        caller.result()
    assert driver.calls == 1


def test_what_was_left_behind_tries_no_further_attempt(make, driver, pauses, clock):
    driver.fail_on = {1, 2, 3}
    recorder = Recorder()
    pool = make(maxconn=1, connect_attempts=3, connect_timeout=5, timeout=60, listener=recorder)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        caller.result()
    driver.fail_on = {1}
    driver.gate.set()
    eventually(lambda: "connect_failed" in recorder.names or driver.made)
    assert driver.calls == 1


# ---- connect_timeout ---------------------------------------------------------------------------------------


def test_a_connect_that_hangs_is_left_behind_and_its_slot_freed(make, driver, clock):
    pool = make(maxconn=1, timeout=60, connect_timeout=5)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(4)
    assert not caller.ended
    clock.leap(2)
    with pytest.raises(PoolTimeout, match="connect_timeout"):
        caller.result()
    assert (pool.stats().size, pool.stats().aborted) == (0, 1)
    driver.gate.set()
    eventually(lambda: driver.made and driver.made[0].closed)
    assert pool.stats().size == 0
    lease_all(pool)
    assert adds_up(pool)


def test_connect_timeout_is_noticed_without_a_heartbeat(make, driver, monkeypatch):
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 1000.0)
    pool = make(maxconn=1, timeout=60, connect_timeout=0.05)
    driver.gate.clear()
    with pytest.raises(PoolTimeout, match="connect_timeout"):
        pool.getconn()
    driver.gate.set()


def test_a_connection_that_comes_too_late_is_not_counted(driver, clock, waiting_kind):
    driver.keep, late = False, []

    def connect() -> FakeConnection:
        conn = driver.connect()
        late.append(weakref.ref(conn))
        return conn

    options = {"timeout": 60, "connect_timeout": 5}
    pool = waiting_kind(0, 1, connect=FakeConnector(connect), config=options)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        caller.result()
    driver.gate.set()
    eventually(lambda: late and late[0]() is None)
    lease_all(pool)
    assert (pool.stats().opened, pool.stats().discards) == (1, {})
    pool.close()


def test_who_waits_gets_the_slot_of_a_connect_that_hangs(make, driver, clock):
    pool = make(maxconn=1, timeout=60, connect_timeout=5)
    driver.gate.clear()
    unlucky = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    next_one = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting == 2)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        unlucky.result()
    eventually(lambda: driver.calls == 2)
    driver.gate.set()
    conn = next_one.result()
    eventually(lambda: driver.open == [conn])


def test_a_getconn_with_less_time_than_connect_timeout_leaves_on_its_own(make, driver, clock):
    pool = make(maxconn=1, timeout=2, connect_timeout=50)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(3)
    with pytest.raises(PoolTimeout, match="no connection came free within 2 s"):
        caller.result()
    assert pool.stats().connecting == 1
    driver.gate.set()
    assert pool.getconn().number == 1


def test_timeout_zero_waits_for_its_own_connect_up_to_connect_timeout(make, driver, clock):
    pool = make(maxconn=1, timeout=0, connect_timeout=5)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(6)
    with pytest.raises(PoolExhausted):
        caller.result()
    driver.gate.set()
    eventually(lambda: driver.made)
    lease_all(pool)


def test_connects_that_hang_are_the_cause_of_later_time_outs(make, driver, clock):
    pool = make(maxconn=1, timeout=60, connect_timeout=5)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        caller.result()
    with_cause = Caller(pool.getconn, timeout=1)
    eventually(lambda: driver.calls == 2)
    clock.leap(2)
    with pytest.raises(PoolTimeout, match="within 1 s") as caught:
        with_cause.result()
    assert caught.value.__cause__ is not None


def test_no_connect_timeout_leaves_none_behind(make, driver, clock):
    pool = make(maxconn=1, timeout=None, connect_timeout=None)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(10**8)
    driver.gate.set()
    assert caller.result().number == 1
    assert pool.stats().aborted == 0


def test_a_connect_that_hangs_fails_an_eager_constructor_in_time(driver, waiting_kind):
    driver.gate.clear()
    with pytest.raises(PoolTimeout, match="connect_timeout"):
        waiting_kind(1, 1, connect=FakeConnector(driver.connect), config={"connect_timeout": 0.02})
    driver.gate.set()
    eventually(lambda: driver.made and driver.open == [])


def test_resize_does_not_wait_for_a_connect_that_hangs(make, driver):
    pool = make(maxconn=4)
    driver.gate.clear()
    Caller(pool.resize, 2, 4).result()
    eventually(lambda: driver.calls == 2)
    driver.gate.set()
    eventually(lambda: pool.stats().idle == 2)
