"""How a caller of a threaded pool sleeps: for how long, what it looks at when it wakes, and when nobody can wake it."""

from __future__ import annotations

import _thread
import gc
import threading

import pytest

import dbpool.pool
from dbpool import PoolConfig, PoolDeadlock, ThreadedConnectionPool
from dbpool.entry import record
from dbpool.housekeeper import housekeeper
from dbpool.pool import ThreadWaiter, _collect, _others

NOW = 1000.0

pytestmark = pytest.mark.synchronous


class Sleeper(ThreadWaiter):
    """Remembers how long it was to sleep; *meanwhile* happens then. It is woken unless told otherwise."""

    __slots__ = ("is_woken", "meanwhile", "slept_for")

    def __init__(self, since=NOW):
        super().__init__(None, _thread.get_ident(), since)
        self.slept_for, self.meanwhile, self.is_woken = [], lambda: None, True

    def sleep(self, seconds):
        self.slept_for.append(seconds)
        self.meanwhile()
        return self.is_woken


@pytest.fixture
def pool(make, monkeypatch, undisturbed):
    """A pool of one, whose clock stands still. There are more threads than ever wait."""
    monkeypatch.setattr("dbpool.pool.uptime", lambda: NOW)
    monkeypatch.setattr("dbpool.pool._count", lambda: 99)
    return make(maxconn=1, detect_deadlock=True)


def ticket_for(pool, waiter, deadline=NOW + 60):
    waiter.ticket = ticket = pool._state.issue(NOW)
    ticket.deadline = deadline
    return ticket


# ---- for how long ------------------------------------------------------------------------------------------------


def test_who_waits_looks_by_itself_every_second(pool):
    waiter = Sleeper()
    assert pool._sleep(waiter, NOW + 60) is True
    assert waiter.slept_for == [1.0]
    assert waiter.slept


def test_nobody_sleeps_beyond_its_deadline(pool):
    waiter = Sleeper()
    assert pool._sleep(waiter, NOW + 0.25)
    assert waiter.slept_for == [0.25]


@pytest.mark.parametrize("deadline", [NOW, NOW - 1])
def test_who_is_out_of_time_does_not_sleep(pool, deadline):
    waiter = Sleeper()
    assert pool._sleep(waiter, deadline) is False
    assert waiter.slept_for == []
    assert not waiter.slept


def test_who_may_wait_for_so_long_waits_no_longer(pool):
    waiter = Sleeper()
    waiter.limit = 0.5
    assert pool._sleep(waiter)
    assert waiter.slept_for == [0.5]
    waiter.since -= 0.5
    assert not pool._sleep(waiter)


def test_who_waits_for_ever_is_never_out_of_time(pool):
    waiter = Sleeper(since=NOW - 10**6)
    assert pool._sleep(waiter)
    assert waiter.slept_for == [1.0]


def test_who_waits_for_its_connect_looks_when_that_is_out_of_time(pool):
    waiter = Sleeper()
    ticket = ticket_for(pool, waiter, NOW + 0.5)
    ticket.claim()
    assert pool._sleep(waiter, NOW + 60)
    ticket.deadline = NOW + 60
    assert pool._sleep(waiter, NOW + 60)
    assert pool._sleep(waiter, NOW + 0.25)
    ticket.deadline = NOW - 60
    assert pool._sleep(waiter, NOW + 60)
    assert waiter.slept_for == [0.5, 1.0, 0.25, 0.0]


def test_a_connect_that_has_ended_has_no_say(pool):
    waiter = Sleeper()
    ticket = ticket_for(pool, waiter, NOW + 0.5)
    ticket.claim()
    pool._state.end(ticket)
    assert pool._sleep(waiter, NOW + 60)
    assert waiter.slept_for == [1.0]


@pytest.mark.parametrize(("retry_in", "seconds"), [(-0.5, 1.0), (0.0, 1.0), (0.5, 0.5), (5.0, 1.0), (NOW, 1.0)])
def test_who_waits_for_a_server_that_refused_looks_when_it_may_be_asked_again(pool, retry_in, seconds):
    waiter = Sleeper()
    pool._state.retry_at = NOW + retry_in
    assert pool._sleep(waiter, NOW + 60)
    assert waiter.slept_for == [seconds]


# ---- a host that runs no threads ---------------------------------------------------------------------------------


def test_a_helper_that_has_not_begun_in_a_fifth_of_a_second_is_not_waited_for(pool, driver):
    waiter = Sleeper()
    ticket = ticket_for(pool, waiter)
    assert pool._begin(ticket)
    waiter.is_woken = False
    assert pool._sleep(waiter, NOW + 60)
    assert waiter.slept_for == [0.2]
    assert (driver.calls, pool.stats().idle) == (1, 1)


def test_who_has_less_time_than_that_waits_no_longer(pool):
    waiter = Sleeper()
    ticket_for(pool, waiter)
    assert pool._sleep(waiter, NOW + 0.125)
    assert waiter.slept_for == [0.125]


def test_who_is_woken_looks_before_it_connects(pool, driver):
    waiter = Sleeper()
    ticket_for(pool, waiter)
    assert pool._sleep(waiter, NOW + 60)
    assert driver.calls == 0


def test_a_helper_that_begins_late_is_left_to_its_work(pool, driver):
    waiter = Sleeper()
    waiter.is_woken = False
    waiter.meanwhile = ticket_for(pool, waiter).claim
    assert pool._sleep(waiter, NOW + 60)
    assert driver.calls == 0


# ---- the bell ----------------------------------------------------------------------------------------------------


def test_who_was_woken_before_it_slept_does_not_sleep():
    waiter = ThreadWaiter(None, 1, NOW, 60.0)
    waiter.wake()
    waiter.wake()  # twice is once
    assert waiter.sleep(60) is True
    assert waiter.sleep(0.001) is False
    assert waiter.limit == 60.0


def test_who_slept_too_long_adds_the_time_in_which_the_process_stood_still(monkeypatch):
    waiter, clock = ThreadWaiter(None, 1, NOW, 60.0), [5.0, 17.0, 20.0, 22.0]
    monkeypatch.setattr("dbpool.pool.monotonic", lambda: clock.pop(0))
    monkeypatch.setattr("dbpool.pool.stood", lambda seconds, began: 6.0 if (seconds, began) in known else 0.0)
    known = [(0.001, 5.0), (0.001, 20.0)]
    assert waiter.sleep(0.001) is False
    assert waiter.limit == 72.0, "since when it stood still is not known"
    assert waiter.sleep(0.001) is False
    assert waiter.limit == 74.0


# ---- what was dropped in cycles ----------------------------------------------------------------------------------


@pytest.fixture
def collections(monkeypatch):
    """The collections of garbage that are asked for."""
    asked = []
    monkeypatch.setattr("dbpool.pool._collected", NOW)
    monkeypatch.setattr(gc, "collect", lambda: asked.append(True))
    return asked


def test_garbage_is_collected_every_ten_seconds_at_most(collections):
    for now, number in [(NOW + 9.9, 0), (NOW + 10, 1), (NOW + 19.9, 1), (NOW + 20, 2), (NOW + 99, 3)]:
        _collect(now)
        assert len(collections) == number


@pytest.mark.parametrize(("waited", "number"), [(0.9, 0), (1.0, 1), (5.0, 1), (500.0, 1)])
def test_garbage_is_collected_for_those_who_have_waited_for_a_heartbeat(pool, collections, monkeypatch, waited, number):
    monkeypatch.setattr("dbpool.pool._collected", 0.0)
    assert pool._sleep(Sleeper(since=NOW - waited), NOW + 60)
    assert len(collections) == number


# ---- a wait that nothing can end ---------------------------------------------------------------------------------


@pytest.fixture
def stuck(pool, monkeypatch):
    """The only thread that there is waits for the connection that it has."""
    conn = pool.getconn()
    monkeypatch.setattr("dbpool.pool._others", lambda: 0)
    monkeypatch.setattr("dbpool.standing.idents", lambda: {_thread.get_ident()})
    monkeypatch.setattr(dbpool.pool.housekeeper, "ident", None, raising=False)
    waiter = Sleeper()
    pool._state.arrive(waiter)
    pool._settle()
    assert pool._is_stuck(waiter)
    return pool, waiter, conn


def test_who_is_stuck_is_told_and_does_not_sleep(stuck):
    pool, waiter, _ = stuck
    with pytest.raises(PoolDeadlock, match="every thread of the process waits for this pool, so nobody can put a "):
        pool._sleep(waiter, NOW + 60)
    assert waiter.slept_for == []


@pytest.mark.parametrize(("others", "asked"), [(0, True), (1, False), (2, False)])
def test_whether_one_is_stuck_is_asked_only_if_all_threads_may_be_in_line(pool, monkeypatch, others, asked):
    looks = []
    monkeypatch.setattr("dbpool.pool._others", lambda: others)
    monkeypatch.setattr(pool, "_is_stuck", looks.append)
    waiter = Sleeper()
    pool._state.arrive(waiter)
    assert pool._sleep(waiter, NOW + 60)
    assert looks == [waiter] * asked


def test_who_is_not_to_be_told_is_not_asked(make, monkeypatch):
    pool = make(maxconn=1, detect_deadlock=False)
    monkeypatch.setattr("dbpool.pool._others", lambda: 0)
    monkeypatch.setattr(pool, "_is_stuck", lambda waiter: pytest.fail("asked"))
    waiter = Sleeper(since=dbpool.pool.uptime())
    pool._state.arrive(waiter)
    assert pool._sleep(waiter, dbpool.pool.uptime() + 60)


def lost(pool, conn):
    pool._state.lost.append(forgotten := record(conn, NOW, None, print))
    forgotten.cid = None


def idle(pool, conn):
    pool._idle.append(conn)


def closed(pool, conn):
    pool._state.closed = True


def connecting(pool, conn):
    pool.kept = pool._state.issue(NOW)


def refused(pool, conn):
    pool._state.retry_at = NOW + 5


@pytest.mark.parametrize("what", [lost, idle, closed, connecting, refused])
def test_nobody_is_stuck_while_something_may_come_of_itself(stuck, what):
    pool, waiter, conn = stuck
    what(pool, conn)
    assert not pool._is_stuck(waiter)
    pool._idle.clear()


def test_who_is_in_no_line_is_not_stuck(stuck):
    """As one that waits for the end of all leases: it gives up in time."""
    pool, waiter, _ = stuck
    other = Sleeper()
    other.ident = 7
    assert not pool._is_stuck(other)
    assert pool._is_stuck(waiter)


@pytest.mark.parametrize("others", [1, 2])
def test_nobody_is_stuck_while_another_thread_is_in_no_line(stuck, monkeypatch, others):
    pool, waiter, _ = stuck
    monkeypatch.setattr("dbpool.pool._others", lambda: others)
    assert not pool._is_stuck(waiter)


def test_nobody_is_stuck_while_a_thread_that_python_did_not_start_is_in_no_line(stuck, monkeypatch):
    pool, waiter, _ = stuck
    monkeypatch.setattr("dbpool.standing.idents", lambda: {_thread.get_ident(), 7})
    assert not pool._is_stuck(waiter)
    monkeypatch.setattr(dbpool.pool.housekeeper, "ident", 7)
    assert pool._is_stuck(waiter), "the housekeeper puts nothing back"


def test_nobody_is_told_where_the_threads_cannot_be_looked_at(stuck, monkeypatch):
    def fail():
        raise OSError("too many open files")

    pool, waiter, _ = stuck
    monkeypatch.setattr("dbpool.standing.idents", fail)
    assert pool._is_stuck(waiter) is False


def test_what_was_dropped_in_a_cycle_is_looked_for_before_one_is_told(stuck, collections, monkeypatch):
    pool, waiter, _ = stuck
    monkeypatch.setattr("dbpool.pool._collected", 0.0)
    assert pool._is_stuck(waiter)
    assert len(collections) == 1


def test_the_housekeeper_is_not_counted_among_the_threads(monkeypatch):
    monkeypatch.setattr("dbpool.pool._count", lambda: 4)
    monkeypatch.setattr(housekeeper, "begun", False)
    assert _others() == 4
    monkeypatch.setattr(housekeeper, "begun", True)
    assert _others() == 3


def test_a_pool_that_is_to_begin_in_the_background_needs_it():
    config = PoolConfig(start="background", background=False)
    with pytest.raises(ValueError, match="start='background' needs background=True"):
        ThreadedConnectionPool(1, 1, connect=threading.Event, config=config)
