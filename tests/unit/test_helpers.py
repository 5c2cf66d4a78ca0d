"""Helper threads of a threaded pool: when there is one, what it bears, who waits for it and for how long."""

from __future__ import annotations

import gc
from _queue import Empty
from contextvars import ContextVar

import pytest
from fakes import FakeConnector, OperationalError

import dbpool.pool
from dbpool import PersistentConnectionPool, PoolTimeout, ThreadedConnectionPool

from .threads import Caller

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")
pytestmark = [pytest.mark.usefixtures("undisturbed"), pytest.mark.synchronous]


@pytest.fixture
def threads(monkeypatch):
    """The threads that were asked for. They begin when the test says so: `threads.pop()()`."""
    asked = []
    monkeypatch.setattr("dbpool.pool.start_new_thread", lambda work, args: asked.append(lambda: work(*args)))
    return asked


@pytest.fixture
def no_threads(monkeypatch):
    def refuse(work, args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("dbpool.pool.start_new_thread", refuse)


# ---- one thread ------------------------------------------------------------------------------------------------


def test_a_helper_works_in_a_copy_of_the_callers_context(make, threads):
    pool, seen = make(), []
    token = WHO.set("caller")
    assert pool._begin_thread(lambda *args: seen.append((WHO.get(), args)) or WHO.set("helper"), 1, 2) is True
    WHO.reset(token)
    assert seen == []
    threads.pop()()
    assert (seen, WHO.get()) == ([("caller", (1, 2))], "nobody")


def test_without_background_there_is_none(make, threads):
    pool = make(background=False)
    assert pool._begin_thread(print) is False
    assert threads == []


def test_where_no_thread_is_to_be_had_the_caller_is_told(make, no_threads):
    assert make()._begin_thread(print) is False


def ticket_of(pool):
    return pool._state.issue(dbpool.pool.uptime())


def test_a_connect_is_begun_by_a_helper(make, driver, threads):
    pool = make()
    pool._start(ticket_of(pool))
    assert (driver.calls, len(threads)) == (0, 1)
    threads.pop()()
    assert (driver.calls, pool.stats().idle) == (1, 1)


def test_where_there_is_no_helper_the_caller_connects(make, driver, no_threads):
    pool = make()
    pool._start(ticket_of(pool))
    assert (driver.calls, pool.stats().idle) == (1, 1)


def test_a_connect_that_was_taken_back_is_not_begun(make, driver, threads):
    pool = make()
    ticket = ticket_of(pool)
    pool._state.end(ticket)
    pool._start(ticket)
    assert (driver.calls, threads) == (0, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OperationalError])
def test_what_a_connect_raises_does_not_leave_the_helper(make, driver, error):
    def connect():
        raise error

    pool = ThreadedConnectionPool(0, 1, connect=FakeConnector(connect))
    ticket = ticket_of(pool)
    pool._begin(ticket)
    pool._help(ticket)
    assert (pool.stats().connecting, pool.stats().connect_errors) == (0, 1)
    pool.close()


# ---- opening minconn -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_connecting", "number"), [(None, 3), (1, 1), (2, 2), (9, 3)])
def test_as_many_helpers_open_minconn_as_may_connect_at_a_time(make, driver, threads, max_connecting, number):
    pool = make(minconn=3, maxconn=3, start="lazy", max_connecting=max_connecting)
    pool._open_missing([], wait=False)
    assert len(threads) == number
    for work in threads:
        work()
    assert (driver.calls, pool.stats().idle) == (3, 3)


def test_where_fewer_helpers_are_to_be_had_the_caller_opens_too(make, driver, no_threads):
    pool = make(minconn=3, maxconn=3, start="lazy")
    pool._open_missing([], wait=True)
    assert (driver.calls, pool.stats().idle) == (3, 3)


@pytest.mark.parametrize("number", [3, 300])
def test_where_there_are_enough_the_caller_does_not(make, driver, threads, number):
    pool = make(minconn=number, maxconn=number, start="lazy")
    pool._open_missing([], wait=False)
    assert (driver.calls, len(threads)) == (0, number)


def test_what_goes_wrong_in_a_helper_is_noted_whatever_it_is(make, threads, monkeypatch):
    pool, errors, error = make(minconn=1, start="lazy"), [], SystemExit()
    monkeypatch.setattr(pool, "_fill", lambda errors: (_ for _ in ()).throw(error))
    pool._open_missing(errors, wait=False)
    threads.pop()()
    assert errors == [error]


@pytest.mark.parametrize("wait", [False, True])
def test_helpers_are_waited_for_if_that_is_wanted(make, threads, monkeypatch, wait):
    pool, waits = make(minconn=2, start="lazy"), []
    monkeypatch.setattr(pool, "_join", lambda *args: waits.append(args[0]))
    pool._open_missing([], wait)
    assert waits == [2] * wait


def test_helpers_are_not_waited_for_with_the_lock_held(make, threads, monkeypatch):
    pool = make(minconn=2, start="lazy")
    monkeypatch.setattr(pool, "_join", lambda *args: pytest.fail("waited"))
    with pool._lock:
        pool._open_missing([], wait=True)


class Signals:
    """A queue in which so many signals come; after those, time passes."""

    def __init__(self, number):
        self.number, self.waited = number, []

    def get(self, timeout):
        self.waited.append(timeout)
        if len(self.waited) > self.number:
            raise Empty


def test_each_helper_is_waited_for_as_long_as_a_connect_may_take(make, driver):
    pool, done, errors = make(minconn=2, start="lazy", connect_timeout=7), Signals(3), []
    pool._join(3, Signals(1), done, errors)
    assert (done.waited, errors, driver.calls) == ([7.0, 7.0, 7.0], [], 0)


@pytest.mark.parametrize(("limit", "seconds"), [(None, 0.2), (7, 0.2), (0.125, 0.125)])
def test_a_host_that_runs_no_threads_is_noticed_in_a_fifth_of_a_second(make, driver, limit, seconds):
    pool, begins, done, errors = make(minconn=2, start="lazy", connect_timeout=limit), Signals(0), Signals(0), []
    pool._join(2, begins, done, errors)
    assert (begins.waited, done.waited, errors) == ([seconds], [], [])
    assert (driver.calls, pool.stats().idle) == (2, 2)


def test_a_helper_that_has_begun_says_so_first(make, driver, threads, monkeypatch):
    def join(begun, begins, done, errors):
        threads.pop()()
        begins.get(timeout=0), done.get(timeout=0)
        with pytest.raises(Empty):
            begins.get(timeout=0)

    pool = make(minconn=1, start="lazy")
    monkeypatch.setattr(pool, "_join", join)
    pool._open_missing([], wait=True)
    assert driver.calls == 1


def test_helpers_that_take_too_long_are_an_error_and_the_others_not_waited_for(make, driver):
    pool, done, errors = make(minconn=2, start="lazy", connect_timeout=7), Signals(1), []
    pool._join(3, Signals(1), done, errors)
    (error,) = errors
    assert isinstance(error, PoolTimeout)
    assert str(error) == "connection pool exhausted: opening minconn took longer than connect_timeout allows"
    assert (len(done.waited), driver.calls) == (2, 0)


def test_after_an_error_the_other_helpers_are_not_waited_for(make):
    pool, done, errors = make(minconn=2, start="lazy"), Signals(3), []
    done.get = lambda timeout: errors.append(OperationalError()) or done.waited.append(timeout)
    pool._join(3, Signals(1), done, errors)
    assert (len(done.waited), len(errors)) == (1, 1)


# ---- waiting for the end ---------------------------------------------------------------------------------------


@pytest.fixture
def sleeps(make, monkeypatch):
    """A pool one of whose connections is leased, and the limits until which it sleeps."""
    pool, limits = make(maxconn=1), []
    conn = pool.getconn()
    monkeypatch.setattr(pool, "_sleep", lambda waiter: limits.append(waiter.limit) or len(limits) < 3)
    return pool, conn, limits


@pytest.mark.parametrize("limit", [None, 0.0, 5.0])
def test_who_waits_for_the_end_sleeps_until_its_time_is_up(sleeps, limit):
    pool, _, limits = sleeps
    pool._wait_until_empty(limit)
    assert limits == [limit] * 3


def test_who_waits_for_the_end_goes_when_nothing_is_open(sleeps, monkeypatch):
    pool, conn, limits = sleeps
    pool._state.shut()
    monkeypatch.setattr(pool, "_sleep", lambda waiter: (limits.append(waiter.limit), pool.putconn(conn)))
    pool._wait_until_empty(5.0)
    assert len(limits) == 1
    pool._wait_until_empty(5.0)
    assert len(limits) == 1


def test_who_waits_for_the_end_notices_what_was_dropped(sleeps, monkeypatch):
    pool, conn, limits = sleeps
    entry = pool._entries[id(conn)]

    def drop(waiter):
        limits.append(waiter.limit)
        assert pool._state.condemn(conn, "lost")
        pool._state.lost.append(entry)
        return len(limits) < 3

    monkeypatch.setattr(pool, "_sleep", drop)
    pool._wait_until_empty(5.0)
    assert len(limits) == 1


def test_who_waits_for_the_end_is_woken_by_it(sleeps, monkeypatch):
    pool, conn, _ = sleeps
    pool._state.shut()
    monkeypatch.setattr(pool, "_sleep", lambda waiter: (pool.putconn(conn), rung.append(waiter.sleep(0))))
    rung = []
    pool._wait_until_empty(5.0)
    assert rung == [True]


# ---- a thread's key --------------------------------------------------------------------------------------------


def test_a_thread_has_one_key_and_no_other_has_it(make):
    pool = make(PersistentConnectionPool)
    key = pool._thread_key()
    assert pool._thread_key() is key
    assert Caller(pool._thread_key).result() != key
    assert make(PersistentConnectionPool)._thread_key() != key


def test_the_key_of_a_thread_that_has_ended_is_still_known(make):
    pool = make(PersistentConnectionPool)
    key = Caller(pool._thread_key).result()
    gc.collect()
    assert list(pool._state.lost) == [key]
    assert {key: True}[key]


def test_the_key_of_a_thread_that_was_interrupted_as_it_got_one_can_be_reaped(make):
    pool = make(PersistentConnectionPool)

    class Struck:
        """Storage of a thread that ends before its key is stored."""

        __slots__ = ("token",)
        key = property(lambda self: None)

    pool._thread = Struck()
    with pytest.raises(AttributeError):
        pool._thread_key()
    del pool._thread
    gc.collect()
    pool._state.keyed["other"] = None
    pool._settle()
    del pool._state.keyed["other"]
    assert not pool._state.lost


def test_a_block_takes_no_key_for_the_thread_is_one(make):
    pool = make(PersistentConnectionPool)
    with pytest.raises(TypeError, match="key must be left out: the thread is the key, not 'a'"):
        pool.connection("a")
    with pool.connection() as conn, pool.connection() as again:
        assert conn is again is pool.getconn()


# ---- what the module gives -------------------------------------------------------------------------------------


def test_the_module_gives_the_pools_and_nothing_else():
    given = {}
    exec("from dbpool.pool import *", given)
    kinds = {"AbstractConnectionPool", "PersistentConnectionPool", "SimpleConnectionPool", "ThreadedConnectionPool"}
    assert set(given) - {"__builtins__"} == kinds
