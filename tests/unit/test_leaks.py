"""Leases that last too long or are never ended, and where in the program each of them began."""

from __future__ import annotations

import re
import warnings
from collections import deque

import pytest
from fakes import Recorder, no_housekeeper

from dbpool import PoolExhausted, holders, leaks

from .threads import Caller


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch):
    monkeypatch.setattr("dbpool.standing._last", (float("-inf"), {}))  # what another test has seen
    with no_housekeeper():
        yield


def told(caplog):
    return [record.getMessage() for record in caplog.records if "leak_threshold" in record.getMessage()]


# ---- leak_threshold ----------------------------------------------------------------------------------------


@pytest.mark.synchronous
def test_a_lease_that_is_held_for_too_long_is_told_once(make, kind, clock, caplog):
    recorder = Recorder()
    pool = make(kind, 0, 2, leak_threshold=30.0, listener=recorder, name="orders")
    conn = pool.getconn()
    clock.leap(29.0)
    pool.check()
    assert not told(caplog)
    for _ in range(3):
        clock.leap(2.0)
        pool.check()
    (text,) = told(caplog)
    assert re.search(r"pool 'orders': .* by thread 'MainThread' for 31\.0 s, now at .*test_leaks\.py:\d+ in ", text)
    ((_, user),) = [event for event in recorder.events if event[0] == "leaked"]
    assert (user.thread, user.seconds >= 30.0) == ("MainThread", True)
    pool.putconn(conn)


def test_the_next_lease_of_the_same_connection_is_told_anew(make, kind, clock, caplog):
    pool = make(kind, 0, 2, leak_threshold=30.0)
    for leases in (1, 2):
        conn = pool.getconn("a key")
        clock.leap(31.0)
        pool.check()
        assert len(told(caplog)) == leases
        pool.putconn(conn)


def test_one_that_is_put_in_time_is_not_told(make, kind, clock, caplog):
    pool = make(kind, 0, 2, leak_threshold=30.0)
    pool.putconn(pool.getconn())
    clock.leap(31.0)
    pool.check()
    assert not told(caplog)


def test_none_tells_nothing(make, kind, clock, caplog):
    pool = make(kind, 0, 2)
    pool.getconn()
    clock.leap(10**6)
    pool.check()
    assert not told(caplog)


# ---- dropped without putconn -------------------------------------------------------------------------------


@pytest.mark.synchronous
def test_it_is_told_when_it_is_found_and_where_it_was_got(make, driver, clock, caplog):
    driver.keep, recorder = False, Recorder()
    pool = make(maxconn=2, trace=True, listener=recorder)
    pool.getconn()
    recorder.events.clear()
    clock.leap(3.0)
    with pytest.warns(
        ResourceWarning, match=r"3\.0 s after thread \d+ got it \(got it at .*test_leaks\.py:\d+ in test_"
    ):
        pool.check()
    assert ("discarded", "dropped") in recorder.events
    assert "was dropped without putconn" in caplog.text


def test_a_warning_that_is_an_error_is_not_in_a_bystanders_face(make, driver, monkeypatch):
    driver.keep, seen = False, []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: seen.append(unraisable.exc_value))
    pool = make(maxconn=2)
    pool.getconn()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.check()
    assert isinstance(seen.pop(), ResourceWarning)


def test_two_who_tell_of_the_same_leaks_do_not_stumble():
    class Taken(deque):
        """Another thread takes it first."""

        def popleft(self):
            self.clear()
            return super().popleft()

    class State:
        leaked = Taken([None])

    leaks.tell_leaks(None, State(), None)
    assert not State.leaked


# ---- trace -------------------------------------------------------------------------------------------------


@pytest.mark.synchronous
def test_holders_and_errors_say_where_it_was_got(make, kind):
    pool = make(kind, 0, 1, trace=True)
    conn = pool.getconn()
    (user,) = pool.holders()
    assert re.search(r"test_leaks\.py:\d+ in test_holders_and_errors_say_where_it_was_got$", user.site)
    assert f" (got it at {user.site})" in str(user)
    with pytest.raises(PoolExhausted, match=r"got it at .*test_leaks\.py"):
        pool.getconn(timeout=0)
    pool.putconn(conn)
    first = user.site
    conn = pool.getconn()
    assert pool.holders()[0].site != first, "the place of an earlier lease"
    pool.putconn(conn)


@pytest.mark.synchronous
def test_a_block_is_traced_to_its_with(make, kind):
    pool = make(kind, trace=True)
    with pool.connection():
        (user,) = pool.holders()
    assert "test_a_block_is_traced_to_its_with" in user.site


def test_without_it_no_place_is_known(make, kind):
    pool = make(kind)
    conn = pool.getconn()
    (user,) = pool.holders()
    assert user.site is None
    assert "got it at" not in str(user)
    pool.putconn(conn)


def test_a_holder_that_is_no_thread_of_threadings_is_named_by_its_number():
    user = holders.PoolUser(key=None, thread_id=7, thread=None, task=None, seconds=1.0, at="f.py:1 in g", site=None)
    assert str(user) == "thread 7 for 1.0 s, now at f.py:1 in g"


@pytest.mark.synchronous
def test_who_waits_besides_is_not_said_to_hold(make):
    """The holder does not wait: so no word of nesting."""
    pool = make(maxconn=1)
    conn = Caller(pool.getconn).result()
    with pytest.raises(PoolExhausted) as caught:
        pool.getconn(timeout=0)
    assert "waits for this pool itself" not in str(caught.value)
    pool.putconn(conn)
