"""Connections dropped without putconn: the slot comes back, somebody is told, and no bystander is hurt."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
import weakref

import pytest
from fakes import FakeConnector

from dbpool import PersistentConnectionPool

from .checks import adds_up, lease_all
from .threads import Caller, eventually


@pytest.fixture
def driver(driver):
    """A driver that does not keep what it makes alive."""
    driver.keep = False
    return driver


def test_the_slot_of_a_dropped_connection_comes_back(make, kind):
    pool = make(kind, maxconn=1)
    pool.getconn()
    gc.collect()
    with pytest.warns(ResourceWarning, match=rf"'{pool.name}'.*dropped without putconn"):
        lease_all(pool)
    assert pool.stats().discards == {"dropped": 1}
    assert adds_up(pool)


def drop(pool, times, then=lambda pool: None):
    for _ in range(times):
        pool.getconn(timeout=5)
        gc.collect()
    then(pool)


def test_every_slot_comes_back_however_often_connections_are_dropped(make, kind):
    pool = make(kind, maxconn=2)
    with pytest.warns(ResourceWarning):
        drop(pool, 20, then=lease_all)
    assert pool.stats().discards["dropped"] >= 19


def test_a_connection_dropped_in_a_reference_cycle_comes_back_to_who_waits(make, heartbeat, monkeypatch):
    monkeypatch.setattr("dbpool.pool.COLLECT_EVERY", 0.0)
    pool = make(maxconn=1)

    def drop_in_cycle():
        conn = pool.getconn()
        conn.itself = conn

    gc.disable()
    try:
        drop_in_cycle()
        with pytest.warns(ResourceWarning):
            conn = pool.getconn(timeout=10)
    finally:
        gc.enable()
    assert conn.number == 2
    pool.putconn(conn)


def test_the_drop_is_logged_with_the_pool_and_the_thread(make, kind, caplog):
    pool = make(kind, maxconn=1, name="orders")
    pool.getconn()
    gc.collect()
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, "dbpool"):
        warnings.simplefilter("ignore")
        pool.putconn(pool.getconn())
    [record] = [record for record in caplog.records if "dropped" in record.getMessage()]
    assert "orders" in record.getMessage()
    assert record.name == "dbpool"


ASKS = [lambda pool: pool.drain(), lambda pool: pool.getconn(), lambda pool: pool.resize(0, 2)]


@pytest.mark.parametrize("ask", ASKS, ids=["drain", "getconn", "resize"])
def test_with_warnings_as_errors_no_bystander_is_hurt(make, kind, ask, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))
    pool = make(kind, maxconn=1)
    pool.getconn()
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(pool)
    assert told == [ResourceWarning]
    assert pool.stats().discards["dropped"] == 1


def test_with_warnings_as_errors_who_puts_is_not_hurt(make, kind, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)
    pool = make(kind, maxconn=2)
    conn = pool.getconn()
    pool.getconn()
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.putconn(conn)
    assert pool.stats().idle == 1
    lease_all(pool)


def test_a_connection_that_was_put_may_be_dropped_by_its_user(make, kind):
    pool = make(kind, maxconn=1)
    for _ in range(3):
        pool.putconn(pool.getconn())
    gc.collect()
    assert pool.stats().idle == 1
    assert pool.stats().discards == {}


def test_a_keyed_connection_is_not_lost(make, kind):
    pool = make(kind, maxconn=1)
    number = pool.getconn("a").number
    gc.collect()
    pool.drain()
    assert pool.getconn("a").number == number


def test_a_connection_dropped_inside_a_block_comes_back(make, kind):
    pool = make(kind, maxconn=1)
    with pool.connection():
        pass
    gc.collect()
    assert pool.stats().idle == 1


def test_a_pool_that_is_dropped_takes_its_connections_with_it(driver, kind):
    pool = kind(2, 2, connect=FakeConnector(driver.connect))
    conns = [weakref.ref(conn) for conn in pool._pool]
    gone = weakref.ref(pool)
    del pool
    eventually(lambda: gc.collect() is not None and gone() is None)
    assert [conn() for conn in conns] == [None, None]


def test_a_dropped_connection_of_a_thread_is_found_by_the_thread_again(make):
    pool = make(PersistentConnectionPool, 0, 1)
    number = pool.getconn().number
    gc.collect()
    assert pool.getconn().number == number
    pool.putconn()


def test_a_drop_is_noticed_by_who_waits_within_a_heartbeat(make, heartbeat):
    pool = make(maxconn=1, timeout=None)
    held = [pool.getconn()]
    callers = [Caller(lambda: pool.putconn(pool.getconn())) for _ in range(3)]
    eventually(lambda: pool.stats().waiting == 3)
    held.clear()
    with pytest.warns(ResourceWarning):
        eventually(lambda: all(caller.ended for caller in callers))
    assert [caller.error for caller in callers] == [None] * 3
