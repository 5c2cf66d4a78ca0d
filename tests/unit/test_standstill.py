"""A process that stood still (SIGSTOP, a debugger, a busy host): nobody is out of time for that, and nothing leaked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dbpool import housekeeper as module
from dbpool import leaks
from dbpool.clock import STANDSTILL, stood, uptime
from dbpool.pool import ThreadWaiter

from .test_housekeeper import LONG, keeper, starter  # noqa: F401  (fixtures)
from .threads import Caller, eventually


def test_only_who_wakes_far_too_late_takes_it_for_a_standstill(monkeypatch):
    monkeypatch.setattr("dbpool.clock.time", SimpleNamespace(monotonic=lambda: 100.0))
    assert stood(5.0, 96.0) == 0.0
    assert stood(5.0, 95.0 - 0.9 * STANDSTILL) == 0.0
    assert stood(5.0, 92.0) == 3.0


# ---- who waits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "then"), [(5.0, 7.5), (0.0, 0.0), (None, None)])
def test_a_waiter_counts_none_of_a_sleep_in_which_the_process_stood_still(monkeypatch, limit, then):
    waiter, readings = ThreadWaiter(None, 1, 0.0, limit), iter((10.0, 12.5))
    assert not waiter.sleep(0.001)
    assert waiter.limit == limit
    monkeypatch.setattr("dbpool.pool.monotonic", lambda: next(readings))
    monkeypatch.setattr("dbpool.clock.time", SimpleNamespace(monotonic=lambda: 12.5))
    waiter.sleep(0.001)
    assert waiter.limit == then


def test_nor_if_it_was_given_a_connection_meanwhile(monkeypatch):
    """Which may be found dead: then it waits on."""
    waiter, readings = ThreadWaiter(None, 1, 0.0, 5.0), iter((10.0, 12.5))
    waiter.conn = object()
    waiter.wake()
    monkeypatch.setattr("dbpool.pool.monotonic", lambda: next(readings))
    monkeypatch.setattr("dbpool.clock.time", SimpleNamespace(monotonic=lambda: 12.5))
    assert waiter.sleep(0.001)
    assert waiter.limit == 7.5


@pytest.mark.synchronous
def test_a_standstill_is_not_taken_off_the_timeout(make, monkeypatch):
    """Else all who wait would be out of time at once, and what they wait for is near."""
    pool = make(maxconn=1)
    conn = pool.getconn()
    nap, slept = ThreadWaiter.sleep, []

    def stand_still(waiter, seconds):
        if not slept:
            waiter.limit += 1000.0
        slept.append(seconds)
        return nap(waiter, seconds)

    monkeypatch.setattr(ThreadWaiter, "sleep", stand_still)
    caller = Caller(pool.getconn, timeout=0.01)
    eventually(lambda: len(slept) > 1)
    assert not caller.ended
    pool.putconn(conn)
    assert caller.result() is conn


# ---- the housekeeper ---------------------------------------------------------------------------------------


def test_it_is_logged_once_and_gives_deadlines_that_time(keeper, caplog):  # noqa: F811
    """What answered meanwhile lies in the socket: the call on it is not to be cut off."""
    passed, ahead = keeper.begin(LONG, lambda: None), keeper.begin(LONG, lambda: None)
    keeper._deadlines[passed.ref] = uptime() - 1.0
    later = keeper._deadlines[ahead.ref]
    keeper._note_standstill(0.0)
    assert not caplog.records
    keeper._note_standstill(3.0)
    assert [record.getMessage() for record in caplog.records] == ["the process stood still for 3.0 s"]
    assert 1.0 < keeper._deadlines[passed.ref] - uptime() <= 2.0
    assert keeper._deadlines[ahead.ref] == later
    assert keeper.stood_still_since(uptime() - 10.0) == 3.0
    assert keeper.stood_still_since(uptime() - 1.0) == 0.0  # it began before


def test_it_is_noticed_by_the_housekeeper_when_it_wakes_too_late(keeper, monkeypatch):  # noqa: F811
    noted, fired = [], []
    monkeypatch.setattr(keeper, "_note_standstill", noted.append)
    monkeypatch.setattr(module, "stood", lambda seconds, began: 7.0 if seconds else 0.0)
    kept = keeper.begin(0.02, lambda: fired.append(True))
    eventually(lambda: fired)
    assert 7.0 in noted
    del kept


# ---- leases ------------------------------------------------------------------------------------------------


def test_a_lease_is_not_told_of_as_a_leak_for_it(make, kind, clock, caplog, monkeypatch, undisturbed):
    pool = make(kind, 0, 2, leak_threshold=30.0)
    conn = pool.getconn()
    monkeypatch.setattr(leaks.housekeeper, "stood_still_since", lambda when: 100.0)
    clock.leap(129.0)
    pool.check()
    assert "leak_threshold" not in caplog.text
    clock.leap(2.0)
    pool.check()
    assert "leak_threshold" in caplog.text
    pool.putconn(conn)
