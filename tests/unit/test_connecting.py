"""Connecting: outside the lock, several at once, by whatever connect is given; a failure loses nothing."""

from __future__ import annotations

import gc
import threading
from weakref import ref

import pytest
from fakes import FakeConnection, FakeConnector, OperationalError

from dbpool import PoolListener, PoolTimeout, SimpleConnectionPool

from . import dbapi
from .checks import lease_all
from .threads import Caller, Peak, eventually

# ---- several at once ---------------------------------------------------------------------------------------


def test_callers_connect_at_the_same_time(make, driver):
    pool = make(maxconn=5)
    driver.gate.clear()
    callers = [Caller(pool.getconn) for _ in range(5)]
    eventually(lambda: driver.calls == 5)
    assert pool.stats().connecting == 5
    driver.gate.set()
    assert len({id(caller.result()) for caller in callers}) == 5


def test_no_more_connect_than_there_are_slots(make, driver):
    pool = make(maxconn=2)
    driver.gate.clear()
    callers = [Caller(lambda: pool.putconn(pool.getconn())) for _ in range(6)]
    eventually(lambda: pool.stats().waiting == 6 and driver.calls == 2)
    assert pool.stats().connecting == 2
    driver.gate.set()
    for caller in callers:
        caller.result()
    assert driver.calls == 2


def test_max_connecting_limits_how_many_connect_at_a_time(driver, waiting_kind):
    peak = Peak()

    def connect() -> FakeConnection:
        with peak:
            return driver.connect()

    pool = waiting_kind(0, 8, connect=FakeConnector(connect), config={"max_connecting": 2})
    driver.gate.clear()
    callers = [Caller(pool.getconn) for _ in range(8)]
    eventually(lambda: pool.stats().waiting == 8 and driver.calls == 2)
    assert pool.stats().connecting == 2
    driver.gate.set()
    conns = [caller.result() for caller in callers]
    assert len({id(conn) for conn in conns}) == 8
    assert peak.most == 2
    for conn in conns:
        pool.putconn(conn)
    pool.close()


@pytest.mark.parametrize(("options", "at_a_time"), [({}, 4), ({"max_connecting": 2}, 2), ({"max_connecting": 1}, 1)])
def test_the_constructor_opens_minconn_in_parallel(driver, options, at_a_time, waiting_kind):
    peak = Peak()

    def connect() -> FakeConnection:
        with peak:
            eventually(lambda: peak.most >= at_a_time)
            return driver.connect()

    pool = waiting_kind(4, 4, connect=FakeConnector(connect), config=options)
    assert (pool.stats().idle, peak.most) == (4, at_a_time)
    pool.close()


def test_one_that_fails_fails_the_constructor_and_the_others_are_closed(driver, any_kind):
    driver.fail_on = {2}
    with pytest.raises(OperationalError, match="connect 2 refused"):
        any_kind(3, 5, connect=FakeConnector(driver.connect))
    eventually(lambda: driver.open == [])


def test_one_that_comes_after_the_constructor_has_failed_is_closed(driver, waiting_kind):
    slow = threading.Event()

    def connect() -> FakeConnection:
        conn = driver.connect()
        if conn.number == 1:
            assert slow.wait(20)
        return conn

    driver.fail_on = {2}
    with pytest.raises(OperationalError):
        waiting_kind(2, 2, connect=FakeConnector(connect))
    slow.set()
    eventually(lambda: driver.made and driver.open == [])


def test_a_connect_in_flight_keeps_nobody_from_the_others(make, driver):
    pool = make(maxconn=3)
    first, second = pool.getconn(), pool.getconn()
    driver.gate.clear()
    slow = Caller(pool.getconn)
    eventually(lambda: driver.calls == 3)
    pool.putconn(first)  # goes to the slow caller, who is first in line
    assert slow.result() is first
    pool.putconn(second)
    assert pool.getconn(timeout=0) is second
    assert pool.stats().connecting == 1
    driver.gate.set()
    eventually(lambda: pool.stats().idle == 1)


def test_a_caller_takes_whatever_comes_first_and_its_own_connect_serves_the_next(make, driver):
    pool = make(maxconn=2)
    conn = pool.getconn()
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 2)
    pool.putconn(conn)
    assert caller.result() is conn
    driver.gate.set()
    eventually(lambda: pool.stats().idle == 1)
    assert pool.getconn(timeout=0).number == 2


def test_a_caller_that_gives_up_leaves_its_connect_to_the_next(make, driver, clock):
    pool = make(maxconn=1, connect_timeout=None)
    driver.gate.clear()
    hasty = Caller(pool.getconn, timeout=5)
    eventually(lambda: driver.calls == 1)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        hasty.result()
    patient = Caller(pool.getconn, timeout=50)
    eventually(lambda: pool.stats().waiting)
    driver.gate.set()
    assert patient.result().number == 1
    assert driver.calls == 1


@pytest.mark.synchronous
def test_who_is_served_before_its_connect_began_gives_the_slot_back(make, driver, monkeypatch):
    pool = make(maxconn=2)
    held = pool.getconn()
    monkeypatch.setattr(pool, "_start", lambda ticket: pool.putconn(held))  # goes to the caller; no connect begins
    assert pool.getconn() is held
    assert (pool.stats().connecting, pool.stats().size) == (0, 1)
    monkeypatch.undo()
    assert pool.getconn(timeout=5).number == 2


@pytest.mark.synchronous
def test_a_connect_that_is_no_longer_wanted_before_it_began_is_not_made(make, driver, monkeypatch):
    """Its slot was taken back, and may be another's: the server would see one more than maxconn."""
    pool = make(maxconn=2, background=False)
    held, more = pool.getconn(), []
    start = pool._start

    def start_late(ticket):
        monkeypatch.setattr(pool, "_start", start)
        pool.putconn(held)  # goes to the caller for whom the ticket is
        more.append(pool.getconn())
        start(ticket)

    monkeypatch.setattr(pool, "_start", start_late)
    assert pool.getconn() is held
    assert driver.calls == 2


# ---- failing -----------------------------------------------------------------------------------------------


def test_who_gets_the_error_is_the_one_for_whom_it_was_made(make, driver):
    pool = make(maxconn=2)
    driver.fail_on = {2}
    conn = pool.getconn()
    with pytest.raises(OperationalError, match="connect 2 refused"):
        pool.getconn()
    assert pool.getconn().number == 3
    assert pool.stats().connect_errors == 1
    pool.putconn(conn)


def test_each_caller_gets_an_error_of_its_own(make, driver):
    pool = make(maxconn=4)
    driver.fail_on = {1, 2, 3, 4}
    driver.gate.clear()
    callers = [Caller(pool.getconn) for _ in range(4)]
    eventually(lambda: driver.calls == 4)
    driver.gate.set()
    errors = set()
    for caller in callers:
        with pytest.raises(OperationalError) as caught:
            caller.result()
        errors.add(str(caught.value))
    assert len(errors) == 4
    lease_all(pool)


def test_a_connect_that_is_interrupted_loses_no_slot(make, driver):
    def connect():
        raise KeyboardInterrupt

    pool = SimpleConnectionPool(0, 1, connect=FakeConnector(connect))
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            pool.getconn()
    assert pool.stats().size == 0


@pytest.mark.synchronous
def test_an_interrupted_connect_leaves_nothing_for_the_garbage_collector(kind):
    """Its error kept the frames that it went through, one of them the waiter, and the waiter the error."""

    def interrupted(conn):
        raise KeyboardInterrupt

    made = []
    pool = kind(0, 1, connect=FakeConnector(lambda: made.append(ref(conn := FakeConnection(1))) or conn),
                config={"on_connect": interrupted, "background": False})  # fmt: skip
    gc.collect()
    gc.disable()
    try:
        try:
            pool.getconn()
        except KeyboardInterrupt:
            pass
        assert [conn() for conn in made] == [None]
    finally:
        gc.enable()


def test_a_helper_thread_that_is_told_to_exit_passes_it_on_and_loses_no_slot(driver, waiting_kind):
    answers = [SystemExit]

    def connect() -> FakeConnection:
        if answers:
            raise answers.pop()
        return driver.connect()

    pool = waiting_kind(0, 1, connect=FakeConnector(connect))
    with pytest.raises(SystemExit):
        pool.getconn()
    lease_all(pool)
    pool.close()


def test_a_connection_that_was_never_taken_in_is_not_counted_as_closed(make, driver):
    class Exiting(PoolListener):
        def connected(self, pool, conn, seconds):
            if conn.number == 1:
                raise SystemExit

    driver.keep = False
    pool = make(maxconn=1, listener=Exiting())
    with pytest.raises(SystemExit):
        pool.getconn()
    lease_all(pool)
    assert (pool.stats().opened, pool.stats().discards) == (1, {})


# ---- what is called, and with what -------------------------------------------------------------------------


def test_connect_gets_all_other_arguments_untouched(kind):
    seen = []

    def connect(*args, **kwargs):
        seen.append((args, kwargs))
        return FakeConnection(1)

    pool = kind(1, 1, "dsn", 5, connect=connect, timeout=3, name="x", host="db")
    assert seen == [(("dsn", 5), {"timeout": 3, "name": "x", "host": "db"})]
    pool.close()


def test_a_modules_connect_is_looked_up_each_time(kind, monkeypatch):
    pool = kind(0, 1, "dbname=orders", connect=dbapi)
    other = dbapi.Connection()
    monkeypatch.setattr(dbapi, "connect", lambda dsn: other)
    assert pool.getconn() is other
    pool.close(timeout=0)


def test_a_callable_dsn_is_asked_at_each_connect(kind, monkeypatch):
    monkeypatch.setattr(dbapi, "calls", calls := [])
    passwords = iter(["old", "new"])
    pool = kind(0, 1, lambda: f"password={next(passwords)}", connect=dbapi)
    for _ in range(2):
        pool.putconn(pool.getconn(), close=True)
    assert calls == [(("password=old",), {}), (("password=new",), {})]
    pool.close()


def test_a_callable_dsn_may_return_a_dict(kind, monkeypatch):
    monkeypatch.setattr(dbapi, "calls", calls := [])
    pool = kind(1, 1, lambda: {"password": "new", "host": "db"}, connect=dbapi, host="other")
    assert calls == [((), {"password": "new", "host": "other"})]
    pool.close()


def test_one_positional_dict_is_taken_as_keywords(kind, monkeypatch):
    monkeypatch.setattr(dbapi, "calls", calls := [])
    pool = kind(1, 1, {"host": "db", "port": 54321}, connect=dbapi)
    assert calls == [((), {"host": "db", "port": 54321})]
    pool.close()


def test_a_callable_dsn_that_fails_is_a_failed_connect(kind):
    pool = kind(0, 1, lambda: 1 / 0, connect=dbapi)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            pool.getconn()
    assert pool.stats().size == 0


@pytest.mark.synchronous
def test_the_connect_of_a_subclass_is_honoured(driver, any_kind):
    class Pool(any_kind):
        def _connect(self, key=None):
            conn = super()._connect(key)
            conn.color = "painted"
            return conn

    pool = Pool(1, 2, connect=FakeConnector(driver.connect))
    conn = pool.getconn()
    assert conn.color == "painted"
    pool.putconn(conn)
    pool.close()
