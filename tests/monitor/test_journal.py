"""The journal: what happened in a pool, without a hit being slower for it."""

from __future__ import annotations

import warnings

import pytest
from unit.threads import eventually

from dbpool import PoolTimeout
from dbpool.monitor import journal as journals
from dbpool.monitor.journal import MOST, Journal


@pytest.fixture
def told(routes, make):
    """Make a pool that is watched; return it, and what tells of its events."""

    def told(**options):
        pool = make(**options)
        client = routes(pools=[pool])
        client.state()
        return pool, lambda: [(event["event"], event["n"]) for event in client.pool()["events"]]

    return told


def test_what_happens_is_told_in_order(told, driver):
    pool, events = told(maxconn=1)
    held = pool.getconn()
    with pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.01)
    pool.putconn(held, close=True)
    assert events() == [("connected", 1), ("timed_out", 1), ("discarded", 1)]


def test_a_server_that_refuses_and_recovers(told, driver):
    pool, events = told(timeout=0)
    driver.fail_on = {1, 2}
    for _ in range(2):
        with pytest.raises(Exception, match="refused"):
            pool.getconn()
    pool.putconn(pool.getconn())
    assert events() == [("connect_failed", 2), ("recovered", 1), ("connected", 1)]


def journal_of(pool):
    """Return the journal that hears of *pool*."""
    return pool._listener


def test_leaks_of_both_kinds_are_told(told, driver):
    driver.keep = False
    pool, events = told(leak_threshold=0.001)
    held = pool.getconn()
    eventually(lambda: pool.check().long_leases)
    pool.putconn(held, close=True)
    del held
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool.getconn()
        pool.check()
    assert [event for event, _ in events()].count("leak") == 2
    last = journal_of(pool).as_json()[-1]["text"]
    assert "a connection was dropped without putconn" in last
    assert "got it" in last


def test_storms_are_merged_and_do_not_hide_what_comes_between():
    journal = Journal()
    for number in range(1000):
        journal.add("connect_failed", f"number {number}", "Error")
        if number == 500:
            journal.add("closed", "the pool was closed")
    told = journal.as_json()
    assert [(event["event"], event["n"], event["text"]) for event in told] == [
        ("closed", 1, "the pool was closed"),
        ("connect_failed", 1000, "number 999"),
    ]


def test_what_is_long_ago_is_not_merged(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(journals, "time", lambda: now[0])
    journal = Journal()
    journal.add("connected", "once")
    now[0] += journals.SAME
    journal.add("connected", "once more")
    assert [event["n"] for event in journal.as_json()] == [1, 1]


def test_no_more_than_so_many_events_are_kept():
    journal = Journal()
    for number in range(3 * MOST):
        journal.add("connected", "text", str(number))
    assert len(journal.as_json()) == MOST


def test_an_event_is_one_line_without_a_password(told, driver, monkeypatch):
    pool, _ = told(timeout=0)

    def connect(*args, **kwargs):
        raise RuntimeError("password=hunter22 for\r\n\x1b[31m<script>")

    journal = Journal()
    try:
        connect()
    except RuntimeError as exc:
        journal.connect_failed(pool, exc)
    assert journal.as_json()[0]["text"] == r"RuntimeError: password=*** for\r\n\x1b[31m<script>"


def test_a_watched_pools_hits_stay_quick(told, monkeypatch):
    pool, _ = told()
    pool.putconn(pool.getconn())

    def slow(*args, **kwargs):
        raise AssertionError("a hit took the slow way")

    monkeypatch.setattr(pool, "_obtain", slow)
    monkeypatch.setattr(pool, "_return", slow)
    pool.putconn(pool.getconn())


def test_after_the_monitor_nobody_listens(routes, make):
    pool = make()
    client = routes(pools=[pool])
    client.state()
    assert isinstance(pool._listener, Journal)
    client.routes.close()
    assert pool._listener is None


def test_the_programs_own_listener_goes_on_listening(routes, make):
    from fakes import Recorder

    own = Recorder()
    pool = make(listener=own)
    client = routes(pools=[pool])
    client.state()
    pool.putconn(pool.getconn())
    client.routes.close()
    pool.close()
    assert own.names[0] == "connected"
    assert own.names[-1] == "closed"
    assert pool._listener is own


def test_two_monitors_of_one_pool_both_hear(routes, make):
    pool = make()
    clients = [routes(pools=[pool]), routes(pools=[pool])]
    for client in clients:
        client.state()
    pool.putconn(pool.getconn())
    assert [[event["event"] for event in client.pool()["events"]] for client in clients] == [["connected"]] * 2
    clients[0].routes.close()
    pool.drain()
    assert [event["event"] for event in clients[1].pool()["events"]] == ["connected", "discarded"]
