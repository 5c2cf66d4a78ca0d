"""The listener: told of every event, in order, without a lock held; whatever it raises does no harm."""

from __future__ import annotations

import logging

import pytest
from fakes import FakeConnector, OperationalError, Recorder

from dbpool import PoolExhausted, PoolListener, PoolTimeout

from .checks import lease_all
from .threads import Caller, Queue, eventually

EVENTS = {name for name in vars(PoolListener) if not name.startswith("_")}


@pytest.fixture
def heard():
    """A listener that remembers."""
    return Recorder()


def test_a_lease_is_told_from_connect_to_close(make, kind, heard, driver):
    pool = make(kind, minconn=1, listener=heard)
    conn = pool.getconn()
    pool.putconn(conn)
    pool.closeall()
    assert heard.names == ["connected", "acquired", "released", "discarded", "closed"]
    assert [event[1] for event in heard.events[:3]] == [conn, conn, conn]
    assert heard.events[3] == ("discarded", "closed")
    assert all(event[-1] >= 0 for event in heard.events if event[0] in ("connected", "released"))


def test_the_second_lease_is_told_as_well(make, kind, heard):
    pool = make(kind, minconn=1, listener=heard)
    for _ in range(3):
        pool.putconn(pool.getconn())
    assert heard.names == ["connected"] + ["acquired", "released"] * 3


def test_the_times_told_are_those_of_the_clock(make, heard, clock, driver):
    pool = make(listener=heard)
    conn = pool.getconn()
    clock.leap(7)
    pool.putconn(conn)
    assert heard.events[-1] == ("released", conn, 7)


def test_a_failed_connect_is_told_with_its_error(make, kind, heard, driver):
    driver.fail_on = {1}
    pool = make(kind, listener=heard)
    with pytest.raises(OperationalError) as caught:
        pool.getconn()
    assert [event for event in heard.events if event[0] == "connect_failed"] == [("connect_failed", caught.value)]
    assert "acquired" not in heard.names


def test_who_gets_nothing_in_time_is_told(make, heard):
    pool = make(maxconn=1, listener=heard)
    conn = pool.getconn()
    for timeout, error in ((0, PoolExhausted), (0.005, PoolTimeout)):
        with pytest.raises(error):
            pool.getconn(timeout=timeout)
    told = [event for event in heard.events if event[0] == "timed_out"]
    assert len(told) == 2
    assert told[1][1] >= 0.005
    pool.putconn(conn)


def test_who_had_to_wait_is_told_for_how_long(make, heard, clock):
    pool = make(maxconn=1, listener=heard, timeout=None)
    conn = pool.getconn()
    heard.events.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    clock.leap(7)
    pool.putconn(conn)
    assert caller.result() is conn
    assert [event for event in heard.events if event[0] == "waited"] == [("waited", 7)]


def test_who_need_not_wait_is_not_told_to_have_waited(make, kind, heard):
    pool = make(kind, minconn=1, listener=heard)
    pool.putconn(pool.getconn())
    assert "waited" not in heard.names


def test_every_closed_connection_is_told_with_its_reason(make, kind, heard, driver):
    """The reasons are those that stats() counts."""

    def reset(conn):
        if conn.color == "replace":
            return driver.connect()
        if conn.color == "fail":
            raise OperationalError("cannot")
        return None

    pool = make(kind, 0, 2, listener=heard, reset=reset)
    for color in ("replace", "fail"):
        conn = pool.getconn()
        conn.color = color
        pool.putconn(conn)
    pool.putconn(pool.getconn(), close=True)
    lease_all(pool)
    pool.drain()
    lease_all(pool)
    pool.resize(0, 1)
    pool.closeall()
    told = [event[1] for event in heard.events if event[0] == "discarded"]
    assert {reason: told.count(reason) for reason in told} == pool.stats().discards
    assert set(told) >= {"replaced", "reset failed", "closed by the caller", "drained", "surplus", "closed"}


class Reasons(PoolListener):
    """Remembers why connections were closed, but no connection."""

    def __init__(self):
        self.reasons = []

    def discarded(self, pool, reason):
        self.reasons.append(reason)


def test_a_dropped_connection_is_told_as_discarded(make, kind, driver):
    driver.keep = False
    heard = Reasons()
    pool = make(kind, 0, 1, listener=heard)
    pool.getconn()
    with pytest.warns(ResourceWarning):
        pool.putconn(pool.getconn())
    assert heard.reasons == ["dropped"]


def test_closed_is_told_once(make, kind, heard):
    pool = make(kind, listener=heard)
    pool.close()
    pool.close()
    assert heard.names.count("closed") == 1


def test_no_event_is_forgotten(make, heard, driver, clock):
    driver.fail_on = {1}
    pool = make(maxconn=1, listener=heard, timeout=5, leak_threshold=3)
    with pytest.raises(OperationalError):
        pool.getconn()
    conn = pool.getconn()
    clock.leap(4)
    pool.check()
    with pytest.raises(PoolExhausted):
        pool.getconn(timeout=0)
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    pool.putconn(conn)
    pool.putconn(caller.result(), close=True)
    pool.closeall()
    assert set(heard.names) == EVENTS


class Bomb(PoolListener):
    """Raises at every event."""

    def __getattribute__(self, name):
        if name in EVENTS:
            return self.explode
        return super().__getattribute__(name)

    def explode(self, *args):
        raise RuntimeError("the listener is broken")


def test_a_listener_that_raises_does_no_harm_and_is_logged(make, kind, driver, caplog):
    driver.fail_on = {2}
    pool = make(kind, 1, 2, listener=Bomb())
    with caplog.at_level(logging.ERROR, "dbpool"):
        with pytest.raises(OperationalError), pool.connection(), pool.connection():
            pass
        with pool.connection() as conn:
            conn.execute()
        lease_all(pool)
        pool.drain()
        lease_all(pool)
        pool.closeall()
    assert driver.open == []
    assert any(record.exc_info and "listener" in record.getMessage() for record in caplog.records)


def test_a_listener_that_raises_harms_nobody_who_waits(make, driver):
    pool = make(maxconn=1, listener=Bomb())
    conn, queue = pool.getconn(), Queue(pool)
    for _ in range(3):
        queue.join()
    pool.putconn(conn)
    assert queue.finish() == [0, 1, 2]


def test_a_listener_is_called_without_the_lock(driver, waiting_kind):
    owned = []

    class Looker(PoolListener):
        def __getattribute__(self, name):
            if name in EVENTS:
                return lambda pool, *args: owned.append(pool._lock._is_owned())
            return super().__getattribute__(name)

    pool = waiting_kind(1, 1, connect=FakeConnector(driver.connect), config={"listener": Looker()})
    pool.putconn(pool.getconn())
    pool.drain()
    pool.putconn(pool.getconn())
    pool.closeall()
    assert owned
    assert not any(owned)


@pytest.mark.synchronous
def test_a_listener_may_use_the_pool(driver, waiting_kind):
    """It may ask for stats, and even lease and put."""

    class User(PoolListener):
        busy = False

        def released(self, pool, conn, seconds):
            if not self.busy:
                self.busy = True
                pool.putconn(pool.getconn())
                self.busy = False

        def connected(self, pool, conn, seconds):
            pool.stats()

    pool = waiting_kind(0, 2, connect=FakeConnector(driver.connect), config={"listener": User()})
    pool.putconn(pool.getconn())
    assert pool.stats().leases == 2
    pool.close()


# ---- listeners that come later ---------------------------------------------------------------------------------------


def test_a_listener_that_comes_later_is_told_of_all_that_happens_from_then_on(make, kind, driver):
    first, second, third = Recorder(), Recorder(), Recorder()
    pool = make(kind, maxconn=1, listener=first)
    pool.putconn(pool.getconn())
    for listener in (second, third):
        pool.listen(listener)
    before = len(first.names)
    pool.putconn(pool.getconn(), close=True)
    assert second.names == third.names == first.names[before:] == ["acquired", "released", "discarded"]


def test_so_is_one_of_a_pool_that_had_none_and_whose_hits_took_the_quick_way(make, kind):
    pool, listener = make(kind, maxconn=1), Recorder()
    pool.putconn(pool.getconn())
    pool.listen(listener)
    for _ in range(2):
        pool.putconn(pool.getconn())
    assert listener.names == ["acquired", "released"] * 2


def test_of_several_one_that_raises_keeps_nothing_from_the_next(make, kind, caplog):
    pool, listener = make(kind, maxconn=1, listener=Bomb()), Recorder()
    pool.listen(listener)
    pool.putconn(pool.getconn())
    assert [name for name in listener.names if name != "waited"] == ["connected", "acquired", "released"]


def test_what_cannot_listen_is_refused(make, kind):
    with pytest.raises(TypeError, match="listener must be a PoolListener, not a int"):
        make(kind).listen(5)
