"""Counts beside the work: histograms and their percentiles, how long leases and connects took, what was found dead."""

from __future__ import annotations

import gc
import warnings

import pytest
from fakes import FakeConnector, OperationalError

from dbpool import PoolExhausted, PoolTimeout
from dbpool.escaping import escaped
from dbpool.tally import BOUNDS, Times, percentile

from .threads import Caller, eventually


def times(*seconds):
    added = Times()
    for each in seconds:
        added.add(each)
    return added.frozen()


# ---- histograms ------------------------------------------------------------------------------------------------------


def test_a_histogram_counts_sums_and_knows_the_longest():
    found = times(0.0005, 0.0015, 100.0)
    assert (found.count, found.sum, found.longest) == (3, 100.002, 100.0)
    assert sum(found.counts) == 3
    assert (found.counts[0], found.counts[1], found.counts[-1]) == (1, 1, 1)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bound_belongs_to_the_bucket_below_it(bound):
    assert times(bound).counts.index(1) == BOUNDS.index(bound)


def test_percentiles_are_as_near_as_the_buckets_are_narrow():
    found = times(*(number / 1000 for number in range(1, 1001)))
    for percent in (1, 50, 90, 99):
        assert found.percentile(percent) == pytest.approx(percent / 100, rel=0.25)
    assert found.percentile(100) == 1.0


def test_a_percentile_is_never_above_the_longest_and_of_nothing_there_is_none():
    assert times(0.011).percentile(99) == 0.011
    assert times().percentile(50) is None
    assert percentile([0] * len(BOUNDS) + [1], 50) == BOUNDS[-1]


@pytest.mark.parametrize("percent", [-1, 101, float("nan"), True, "50", None])
def test_a_percent_that_is_none_is_refused(percent):
    with pytest.raises(ValueError, match="percent must be a number between 0 and 100"):
        times(1).percentile(percent)


def test_what_cannot_be_shown_is_escaped():
    assert escaped("plain, größer, 表") == "plain, größer, 表"
    assert escaped("a\nb\r\x1b[31m\u2028\udcff\x00") == r"a\nb\r\x1b[31m\u2028\udcff\x00"


# ---- of a pool -------------------------------------------------------------------------------------------------------


def test_a_lease_that_takes_the_slow_way_back_is_timed(make, kind, clock, undisturbed):
    pool = make(kind, maxconn=1)
    for seconds in (3, 5):
        conn = pool.getconn("a")
        clock.leap(seconds)
        pool.putconn(conn, "a", close=seconds == 5)
    stats = pool.stats()
    assert (stats.holds, stats.held, stats.longest_hold) == (2, 8, 5)
    assert stats.opened - sum(stats.discards.values()) == 0  # they outlive the connection


def test_a_connect_is_timed(make, kind, clock, driver, undisturbed):
    def slow(dial=driver.connect):
        clock.leap(0.3)
        return dial()

    pool = kind(0, 1, connect=FakeConnector(slow), config={"connect_timeout": None})
    pool.putconn(pool.getconn())
    found = pool.stats().connect_times
    assert (found.count, found.sum) == (1, pytest.approx(0.3))
    pool.close()


def test_waits_are_in_the_histogram(make, waiting_kind, clock):
    pool = make(waiting_kind, maxconn=1, timeout=None)
    conn = pool.getconn()
    before = pool.stats().wait_times.count
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    clock.leap(0.7)
    pool.putconn(conn)
    pool.putconn(caller.result())
    found = pool.stats()
    assert found.wait_times.count == found.waits == before + 1
    assert found.wait_times.counts[BOUNDS.index(1.0)] == 1


def test_a_server_that_refuses_is_remembered_with_its_words_until_it_lets_us_in(make, kind, clock, driver, undisturbed):
    pool = make(kind, timeout=0)
    assert (pool.stats().last_error, pool.stats().failing_since) == (None, None)
    driver.fail_on = {1, 2}
    for _ in range(2):
        with pytest.raises((OperationalError, PoolExhausted)):
            pool.getconn()
        clock.leap(60)
    stats = pool.stats()
    assert stats.last_error == "OperationalError: connect 2 refused"
    assert (stats.failing_since, stats.connect_errors) == (clock() - 120, 2)
    pool.putconn(pool.getconn())
    assert (pool.stats().last_error, pool.stats().failing_since) == (None, None)


def test_the_words_of_an_error_are_one_line_without_a_password_and_not_too_long(make, kind, driver):
    def connect():
        raise OperationalError("no\nway\x1b[2J: password=hunter2 " + "x" * 1000)

    pool = kind(0, 1, connect=FakeConnector(connect), config={"timeout": 0})
    with pytest.raises((OperationalError, PoolExhausted)):
        pool.getconn()
    said = pool.stats().last_error
    assert said.startswith(r"OperationalError: no\nway\x1b[2J: password=***")
    assert "hunter2" not in said
    assert len(said) < 350
    pool.close()


def test_resets_and_pings_are_counted(make, kind, clock, driver, undisturbed):
    pool = make(kind, maxconn=1, ping_after=10, ping_on_return=True)
    conn = pool.getconn()
    conn.execute()
    pool.putconn(conn)
    assert (pool.stats().resets, pool.stats().pings) == (1, driver.made[0].pings)
    clock.leap(20)
    pool.putconn(pool.getconn())
    pool.check()
    assert pool.stats().pings == driver.made[0].pings == 4


def test_what_is_found_dead_by_a_ping_is_counted(make, kind, clock, driver, undisturbed):
    pool = make(kind, maxconn=1, ping_after=10)
    pool.putconn(pool.getconn())
    clock.leap(20)
    driver.made[0].mute = True
    pool.putconn(pool.getconn())
    assert pool.stats().dead == {"ping": 1}


def test_what_is_found_dead_at_return_is_counted(make, kind, driver):
    pool = make(kind, maxconn=1)
    conn = pool.getconn()
    conn.close()
    pool._opener.connector.is_lost = lambda conn: True
    pool.putconn(conn)
    assert pool.stats().dead == {"return": 1}


def test_what_is_dropped_is_counted(make, kind, driver):
    driver.keep = False
    pool = make(kind, maxconn=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool.getconn()
        gc.collect()
        pool.putconn(pool.getconn())
    assert pool.stats().leaks == 1


def test_what_is_held_for_too_long_is_counted_once(make, kind, clock, undisturbed):
    pool = make(kind, maxconn=1, leak_threshold=5)
    conn = pool.getconn()
    clock.leap(6)
    for _ in range(3):
        pool.check()
    assert pool.stats().long_leases == 1
    pool.putconn(conn)


def test_who_gets_nothing_is_counted_with_the_moment(make, kind, clock, undisturbed):
    pool = make(kind, maxconn=1, timeout=0)
    conn = pool.getconn()
    clock.leap(5)
    with pytest.raises(PoolExhausted):
        pool.getconn()
    assert pool.stats().timeouts == 1
    assert pool._state.tally.timed_out_at == clock()
    pool.putconn(conn)


def test_what_is_counted_only_grows_when_connections_are_replaced(make, kind, clock, undisturbed):
    pool = make(kind, maxconn=1)
    before = pool.stats()
    for number in range(6):
        conn = pool.getconn()
        if number % 2:
            conn.execute()
        pool.putconn(conn, close=number % 3 == 0)
        after = pool.stats()
        for name in ("leases", "opened", "holds", "held", "longest_hold", "resets", "pings", "waits", "waited"):
            assert getattr(after, name) >= getattr(before, name), name
        before = after
    assert (before.leases, before.resets) == (6, 2)


def test_a_timeout_of_a_connect_is_told_as_such(make, waiting_kind, driver, clock):
    pool = make(waiting_kind, timeout=60, connect_timeout=5)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().connecting)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        caller.result()
    assert pool._state.tally.refusal == "timeout"
    assert pool.stats().connect_errors == 1
    driver.gate.set()
