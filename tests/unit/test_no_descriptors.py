"""No descriptor is left: what a failure would load cannot be loaded, and must not take its place."""

from __future__ import annotations

import sys

import pytest
from fakes import FakeConnector, OperationalError

from dbpool import PoolTimeout, ThreadedConnectionPool, logs
from dbpool.masking import MASK, mask_error


def none_left(*args, **kwargs):
    raise OSError(24, "Too many open files")


def test_an_error_that_cannot_be_cleaned_says_nothing_rather_than_a_password(monkeypatch):
    monkeypatch.setitem(sys.modules, "re", None)
    error = OperationalError("cannot connect with password=hunter2", 7)
    mask_error(error, ("password=hunter2",), {})
    assert error.args == (MASK, 7)


def test_what_cannot_be_logged_is_let_go(monkeypatch):
    monkeypatch.setitem(sys.modules, "logging", None)
    logs.warning("connecting failed: %s", "OperationalError")


def test_a_failed_connect_is_the_drivers_error_though_nothing_more_can_be_loaded(make, driver, monkeypatch):
    for name in ("re", "copy", "random", "logging", "urllib.parse"):
        monkeypatch.setitem(sys.modules, name, None)
    pool = make(maxconn=1)
    driver.refusal = "transient"
    with pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=0.1)
    assert type(caught.value.__cause__) is OperationalError
    driver.refusal = None
    pool.putconn(pool.getconn())


def test_who_cannot_look_at_the_other_threads_waits(driver, monkeypatch):
    with ThreadedConnectionPool(0, 1, connect=FakeConnector(driver.connect)) as pool:
        conn = pool.getconn()
        monkeypatch.setattr("dbpool.pool._others", lambda: 0)  # as if there were no other thread
        monkeypatch.setattr("dbpool.standing._scratch", none_left)
        with pytest.raises(PoolTimeout):
            pool.getconn(timeout=0.02)
        pool.putconn(conn)
