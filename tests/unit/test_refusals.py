"""A server that refuses everybody: who waits for it, who is told at once, and how often it is asked."""

from __future__ import annotations

import pytest
from fakes import FakeConnector, OperationalError

from dbpool import PoolError, PoolExhausted, PoolTimeout, SimpleConnectionPool, ThreadedConnectionPool
from dbpool.opening import FIRST_PAUSE, LONGEST_REFUSAL, Backoff

from .checks import adds_up, lease_all
from .threads import Caller, eventually


@pytest.fixture
def quick(monkeypatch):
    """A refusing server is asked again after a few milliseconds."""
    monkeypatch.setattr("dbpool.opening.FIRST_PAUSE", 0.002)
    monkeypatch.setattr("dbpool.opening.LONGEST_REFUSAL", 0.01)


# ---- transient ---------------------------------------------------------------------------------------------


def test_who_waits_is_served_when_the_server_is_back(make, driver, quick):
    pool = make(maxconn=3, timeout=60)
    driver.refusal = "transient"
    callers = [Caller(pool.getconn) for _ in range(3)]
    eventually(lambda: driver.calls >= 4)
    assert not any(caller.ended for caller in callers)
    driver.refusal = None
    assert len({id(caller.result()) for caller in callers}) == 3
    assert pool.stats().connect_errors == driver.calls - 3
    assert not pool._state.is_refused()


@pytest.mark.parametrize("lost", [True, False])
def test_a_connection_that_the_server_has_closed_when_it_is_new_is_a_refusal(driver, quick, lost):
    def connect():
        conn = driver.connect()
        if driver.calls == 1:
            conn.close()
        return conn

    connector = FakeConnector(connect)
    connector.is_lost = lambda conn: lost
    with ThreadedConnectionPool(0, 1, connect=connector, config={"timeout": 60, "detect_deadlock": False}) as pool:
        if lost:
            with pool.connection() as conn:
                assert conn.number == 2
        else:  # closed by whoever made it, as the next one may be
            with pytest.raises(PoolError, match="cannot be used"):
                pool.getconn()
        assert (driver.calls, pool.stats().connect_errors) == (2 if lost else 1, 1)


def test_one_at_a_time_asks_a_server_that_refuses(make, driver, quick):
    pool = make(maxconn=8, timeout=60)
    driver.refusal = "transient"
    first = Caller(pool.getconn)
    eventually(pool._state.is_refused)
    driver.gate.clear()
    callers = [Caller(pool.getconn) for _ in range(6)]
    eventually(lambda: pool.stats().waiting == 7 and driver.calls == pool.stats().connect_errors + 1)
    calls = driver.calls
    for _ in range(20):
        pool._settle()
        assert pool.stats().connecting == 1
    assert driver.calls == calls
    driver.refusal = None
    driver.gate.set()
    assert len({id(caller.result()) for caller in (first, *callers)}) == 7


def test_nobody_asks_before_the_pause_is_over(make, driver, clock):
    pool = make(maxconn=2, timeout=60)
    driver.refusal = "transient"
    caller = Caller(pool.getconn)
    eventually(pool._state.is_refused)
    late = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting == 2)
    for _ in range(20):
        pool._settle()
    assert driver.calls == 1
    driver.refusal = None
    clock.leap(1.0)
    assert caller.result() is not late.result()


def test_a_timeout_names_the_refusal_as_its_cause(make, driver, clock):
    pool = make(maxconn=2, timeout=5)
    driver.refusal = "transient"
    caller = Caller(pool.getconn)
    eventually(pool._state.is_refused)
    clock.leap(6.0)
    with pytest.raises(PoolTimeout) as caught:
        caller.result()
    assert isinstance(caught.value.__cause__, OperationalError)
    assert "the server refuses everybody" in str(caught.value.__cause__)
    eventually(lambda: pool.stats().size == 0)


@pytest.mark.parametrize("refusal", ["transient", "permanent"])
def test_who_does_not_wait_gets_the_drivers_error_at_once(make, driver, refusal):
    pool = make(maxconn=2, timeout=60)
    driver.refusal = refusal
    for calls in (1, 2):
        with pytest.raises(OperationalError, match="refuses"):
            pool.getconn(timeout=0)
        assert driver.calls == calls, "it was not asked"
    driver.refusal = None
    assert pool.getconn(timeout=0).number == 3


@pytest.mark.synchronous
@pytest.mark.parametrize("maxconn", [1, 2])
def test_whose_connect_serves_one_who_came_before_looks_once_more(make, driver, clock, maxconn):
    pool = make(maxconn=maxconn, timeout=60)
    driver.refusal = "transient"
    patient = Caller(pool.getconn)
    eventually(pool._state.is_refused)
    driver.refusal = None
    if maxconn == 1:
        with pytest.raises(PoolExhausted):
            pool.getconn(timeout=0)
        assert patient.result().number == 2  # the first call was refused
    else:
        assert pool.getconn(timeout=0) is not patient.result()
    assert driver.calls == 1 + maxconn


@pytest.mark.parametrize("refusal", ["transient", "permanent"])
def test_a_pool_for_one_thread_always_tries(make, driver, refusal):
    pool = make(SimpleConnectionPool, maxconn=2)
    driver.refusal = refusal
    for calls in (1, 2, 3):
        with pytest.raises(OperationalError, match="refuses"):
            pool.getconn()
        assert driver.calls == calls
    driver.refusal = None
    lease_all(pool)


def test_one_that_comes_back_serves_who_waits_for_the_server(make, driver, clock):
    pool = make(maxconn=2, timeout=60)
    conn = pool.getconn()
    driver.refusal = "transient"
    caller = Caller(pool.getconn)
    eventually(pool._state.is_refused)
    pool.putconn(conn)
    assert caller.result() is conn


@pytest.mark.parametrize("refusal", ["transient", "permanent"])
def test_the_constructor_tells_at_once(driver, refusal, waiting_kind):
    driver.refusal = refusal
    with pytest.raises(OperationalError):
        waiting_kind(2, 2, connect=FakeConnector(driver.connect), config={"timeout": 60})


def test_a_pool_that_starts_in_the_background_is_filled_when_the_server_is_there(make, driver, quick):
    driver.refusal = "transient"
    pool = make(minconn=2, maxconn=2, start="background", max_lifetime=0.4)
    eventually(lambda: driver.calls)
    driver.refusal = None
    eventually(lambda: pool.check().idle == 2)


def test_nobody_is_told_of_a_deadlock_while_the_server_may_come_back(make, driver, quick, monkeypatch):
    monkeypatch.setattr("dbpool.pool._count", lambda: 0)
    pool = make(maxconn=1, timeout=60, detect_deadlock=True)
    driver.refusal = "transient"
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls >= 3)
    driver.refusal = None
    assert caller.result().number > 3


# ---- permanent ---------------------------------------------------------------------------------------------


def test_all_who_wait_are_told_at_once_when_none_is_open(make, driver):
    pool = make(maxconn=1, timeout=60)
    driver.gate.clear()
    driver.refusal = "permanent"
    callers = [Caller(pool.getconn) for _ in range(4)]
    eventually(lambda: pool.stats().waiting == 4)
    driver.gate.set()
    errors = []
    for caller in callers:
        with pytest.raises(OperationalError, match="connect 1: the server refuses everybody") as caught:
            caller.result()
        errors.append(caught.value)
    assert driver.calls == 1
    assert len({id(error) for error in errors}) == 4, "threads share an error and its traceback"
    assert pool.stats().waiting == 0


def test_while_one_is_open_those_who_wait_wait_on_for_it(make, driver):
    pool = make(maxconn=2, timeout=60)
    conn = pool.getconn()
    driver.refusal = "permanent"
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 2)
    eventually(lambda: pool.stats().waiting == 1)
    pool.putconn(conn)
    assert caller.result() is conn


def test_who_waits_is_told_when_the_last_open_one_is_closed(make, driver, clock):
    pool = make(maxconn=2, timeout=60)
    conn = pool.getconn()
    driver.refusal = "permanent"
    caller = Caller(pool.getconn)
    eventually(pool._state.is_refused)
    pool.putconn(conn, close=True)
    clock.leap(1.0)
    with pytest.raises(OperationalError, match="refuses"):
        caller.result()


def test_the_next_caller_tries_again(make, driver):
    pool = make(maxconn=2, timeout=60)
    driver.refusal = "permanent"
    for calls in (1, 2):
        with pytest.raises(OperationalError, match="refuses"):
            pool.getconn()
        assert driver.calls == calls
    driver.refusal = None
    lease_all(pool)
    assert adds_up(pool)


# ---- what is no refusal ------------------------------------------------------------------------------------


def test_an_error_that_is_the_callers_own_reaches_nobody_else(make, driver, clock):
    pool = make(maxconn=1, timeout=60)
    driver.fail_on = {1}
    driver.gate.clear()
    first = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    second = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting == 2)
    driver.gate.set()
    with pytest.raises(OperationalError, match="connect 1 refused"):
        first.result()
    assert second.result().number == 2
    assert not pool._state.is_refused()


def test_an_error_that_says_that_it_will_pass_is_transient(make, driver, quick):
    pool, real = make(maxconn=1, timeout=60), driver.connect

    def connect():
        conn = real()
        if driver.calls < 3:
            error = ValueError("not yet")
            error.transient = True
            raise error
        return conn

    pool._opener.connector._connect = connect
    assert pool.getconn().number == 3


# ---- pauses ------------------------------------------------------------------------------------------------


def test_pauses_grow_to_a_limit_differ_and_begin_anew(monkeypatch):
    backoff = Backoff()
    monkeypatch.setattr("dbpool.opening._random", lambda: 1.0)
    found = [backoff.next() for _ in range(8)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (FIRST_PAUSE, LONGEST_REFUSAL)
    backoff.end()
    assert backoff.next() == FIRST_PAUSE
    monkeypatch.setattr("dbpool.opening._random", lambda: 0.0)
    backoff.end()
    assert backoff.next() == FIRST_PAUSE / 2


def test_several_refusals_at_the_same_time_lengthen_the_pause_once(make, driver):
    pool = make(maxconn=4, timeout=60)
    driver.gate.clear()
    driver.refusal = "transient"
    pool._backoff._pause = 5.0  # so long that nobody asks again meanwhile
    callers = [Caller(pool.getconn) for _ in range(4)]
    eventually(lambda: driver.calls == 4)
    driver.gate.set()
    eventually(lambda: pool.stats().connect_errors == 4)
    assert pool._backoff._pause == LONGEST_REFUSAL
    assert all(not caller.ended for caller in callers)
    pool.close(timeout=0)
