"""What a pool logs: one line for each event that matters, with fields, escaped, and few of them in a storm."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from types import ModuleType

import pytest
from fakes import FakeConnector, OperationalError

from dbpool import PoolTimeout
from dbpool.storms import BURST, WINDOW

from .checks import lease_all
from .threads import Caller, eventually

HOSTILE = "a\r\nFATAL fake line\x1b[2J\u2028<script>\x00"


@pytest.fixture
def lines(caplog):
    """Returns the records of an event so far."""
    caplog.set_level(logging.DEBUG, "dbpool")
    return lambda event: [record for record in caplog.records if record.event == event]


def connected_after_failures(pool, driver, count):
    """Have connects fail, in the caller, so that their lines are there when it is told."""
    driver.fail_on = set(range(driver.calls + 1, driver.calls + count + 1))
    for _ in range(count):
        with pytest.raises((OperationalError, PoolTimeout)):
            pool.getconn()
    pool.putconn(pool.getconn())


def test_a_hit_writes_nothing(make, kind, caplog):
    pool = make(kind, 1, 2)
    lease_all(pool)
    caplog.set_level(logging.DEBUG, "dbpool")
    caplog.clear()
    for _ in range(10):
        with pool.connection():
            pass
    assert caplog.records == []


def test_a_connect_that_fails_is_told_with_its_words_and_so_is_that_it_works_again(make, kind, clock, driver, lines):
    pool = make(kind, name="orders", background=False)
    connected_after_failures(pool, driver, 1)
    (failed,), (recovered,) = lines("connect_failed"), lines("recovered")
    assert failed.getMessage() == "orders: connecting failed: OperationalError: connect 1 refused"
    assert (failed.pool, failed.error, failed.reason) == ("orders", "OperationalError", None)
    assert recovered.getMessage() == "orders: connecting works again, after 0.0 s"
    assert (recovered.pool, recovered.seconds, recovered.levelname) == ("orders", 0.0, "INFO")


def test_a_connection_that_is_closed_is_told_with_why_and_loudly_only_if_something_is_wrong(make, kind, driver, lines):
    pool = make(kind, name="orders")
    pool.putconn(pool.getconn(), close=True)
    conn = pool.getconn()
    conn.close()
    pool.putconn(conn)
    usual, wrong = lines("discarded")
    assert (usual.reason, usual.levelname) == ("closed by the caller", "DEBUG")
    assert (wrong.reason, wrong.levelname, wrong.pool) == ("reset failed", "INFO", "orders")
    assert wrong.seconds >= 0


def test_a_time_out_is_told_with_what_the_error_says(make, kind, clock, lines):
    pool = make(kind, maxconn=1, timeout=0, name="orders")
    conn = pool.getconn()
    with pytest.raises(Exception, match="connection pool exhausted"):
        pool.getconn()
    (line,) = lines("timeout")
    assert line.getMessage().startswith("orders: connection pool exhausted (pool 'orders' 1 used")
    assert (line.pool, line.levelname) == ("orders", "DEBUG")  # who would not wait is used to it
    pool.putconn(conn)


def test_one_who_waited_in_vain_is_told_of_with_how_long(make, waiting_kind, clock, lines):
    pool = make(waiting_kind, maxconn=1, timeout=5)
    conn = pool.getconn()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    clock.leap(6)
    with pytest.raises(PoolTimeout):
        caller.result()
    (line,) = lines("timeout")
    assert (line.levelname, line.seconds) == ("INFO", 6)
    pool.putconn(conn)


def test_a_leak_is_told_with_how_long_and_where(make, kind, clock, driver, lines):
    driver.keep = False
    pool = make(kind, maxconn=1, trace=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool.getconn()
        gc.collect()
        pool.putconn(pool.getconn())
    (line,) = lines("leak")
    assert (line.reason, line.levelname) == ("dropped", "WARNING")
    assert "test_logs.py" in line.site or "onloop.py" in line.site


def test_in_a_storm_few_lines_are_written_and_the_rest_is_told_later(make, kind, clock, driver, lines, undisturbed):
    pool = make(kind, name="orders", background=False)
    connected_after_failures(pool, driver, 50)
    assert len(lines("connect_failed")) == BURST
    clock.leap(WINDOW)
    pool.check()
    (rest,) = lines("left_out")
    assert rest.getMessage() == f"orders: {50 - BURST} more lines of connect_failed were left out"
    assert (rest.left_out, rest.reason, rest.pool) == (50 - BURST, "connect_failed", "orders")
    pool.check()
    assert len(lines("left_out")) == 1


def test_the_next_line_after_a_storm_tells_of_it(make, kind, clock, driver, lines, undisturbed):
    pool = make(kind, background=False)
    connected_after_failures(pool, driver, BURST + 3)
    clock.leap(WINDOW)
    held = pool.getconn()
    connected_after_failures(pool, driver, 1)
    last = lines("connect_failed")[-1]
    assert last.left_out == 3
    assert last.getMessage().endswith("(3 lines like this were left out before)")
    assert lines("connect_failed")[0].left_out == 0
    pool.putconn(held)


def test_a_pool_that_is_closed_tells_what_it_left_out(make, kind, clock, driver, lines, undisturbed):
    pool = make(kind, background=False)
    connected_after_failures(pool, driver, BURST + 1)
    pool.closeall()
    assert [line.left_out for line in lines("left_out")] == [1]


def test_what_nobody_wants_to_read_is_not_counted(make, kind, clock, driver, caplog, undisturbed):
    caplog.set_level(logging.ERROR, "dbpool")
    pool = make(kind)
    connected_after_failures(pool, driver, 2 * BURST)
    assert caplog.records == []
    caplog.set_level(logging.DEBUG, "dbpool")
    pool.closeall()
    assert [record.event for record in caplog.records if record.event == "left_out"] == []


def test_one_pools_storm_leaves_anothers_lines_alone(make, kind, clock, driver, lines, undisturbed):
    pools = [make(kind, name=name, background=False) for name in "ab"]
    for pool in pools:
        connected_after_failures(pool, driver, 2 * BURST)
    assert [line.pool for line in lines("connect_failed")] == ["a"] * BURST + ["b"] * BURST


@pytest.mark.fault(70)
def test_whatever_a_name_or_an_error_holds_each_event_is_one_line(kind, caplog, lines):
    def refused():
        raise OperationalError(f"FATAL: {HOSTILE}")

    pool = kind(0, 1, connect=FakeConnector(refused), config={"name": HOSTILE, "timeout": 0, "background": False})
    with pytest.raises((OperationalError, PoolTimeout)):
        pool.getconn()
    pool.closeall()
    (line,) = lines("connect_failed")
    assert r"FATAL fake line\x1b[2J" in line.getMessage()
    for record in caplog.records:
        for text in [record.getMessage(), *filter(None, [record.pool, getattr(record, "reason", None)])]:
            assert text.isprintable(), text


@pytest.mark.parametrize("name", ["logging", "re"])
def test_a_module_that_another_thread_could_not_load_to_its_end_costs_a_line_and_nothing_else(
    make, driver, monkeypatch, name
):
    """No descriptor was left: a second thread is given what the first has begun to load."""
    pool = make(maxconn=1, timeout=0.05)
    driver.fail_on = {1}
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    with pytest.raises(OperationalError):
        pool.getconn()
    assert pool.stats().last_error
    monkeypatch.undo()
    lease_all(pool)
