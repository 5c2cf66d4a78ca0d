"""Peers that are there and do not answer: what a ping of theirs costs, at the most."""

from __future__ import annotations

import time

import pytest

from dbpool import PoolTimeout

from .sockets import LineConnector
from .threads import eventually

pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture
def connector():
    yield from LineConnector().ended()


def idle(pool):
    """Have one connection that has just been put back."""
    conn = pool.getconn()
    pool.putconn(conn)
    return conn


def test_a_ping_of_a_frozen_peer_does_not_exceed_the_callers_timeout(connector, waiting_kind):
    options = {"check_after": None, "ping_after": 0.001, "check_timeout": 60.0, "detect_deadlock": False}
    with waiting_kind(0, 1, connect=connector, config=options) as pool:
        conn = idle(pool)
        time.sleep(0.002)
        began = time.monotonic()
        again = pool.getconn(timeout=0.4)
        assert time.monotonic() - began < 10
        assert again is not conn, "half the time is for opening another"
        eventually(lambda: pool.stats().discards)
        assert (pool.stats().aborted, pool.stats().discards) == (1, {"lost": 1})
        pool.putconn(again)


@pytest.mark.parametrize("when", ["at put", "in the background"])
def test_check_timeout_ends_a_ping_of_a_frozen_peer(connector, when, waiting_kind):
    options = {"check_timeout": 0.02, "ping_on_return": when == "at put", "detect_deadlock": False}
    with waiting_kind(0, 1, connect=connector, config=options) as pool:
        conn = pool.getconn()
        pool.putconn(conn)
        if when != "at put":
            assert not conn.closes
            pool.check()
        eventually(lambda: pool.stats().size == 0)
        assert conn.closes == 1
        assert (pool.stats().aborted, pool.stats().discards) == (1, {"lost": 1})


@pytest.mark.synchronous
def test_a_caller_without_time_left_does_not_cost_a_good_connection(connector, clock, waiting_kind):
    options = {"ping_after": 30.0, "detect_deadlock": False, "timeout": 60.0}
    with waiting_kind(0, 1, connect=connector, config=options) as pool:
        conn = pool.getconn()
        connector.ping = lambda conn: (time.sleep(0.05), conn.ask())  # a server that is far away
        real, given = pool._sleep, []

        def sleep(waiter, deadline):
            if not given:  # it is put back when the caller's time has just passed
                given.append(True)
                clock.leap(61.0)
                conn.peer.send(b"!")
                pool.putconn(conn)
                return True
            return real(waiter, deadline)

        pool._sleep = sleep
        try:
            assert pool.getconn() is conn
            pool.putconn(conn)
        except PoolTimeout:
            pass
        assert pool.stats().aborted == 0


@pytest.mark.parametrize("key", [None, "a key"])
def test_a_rollback_that_hangs_is_ended_and_the_connection_closed(connector, key, waiting_kind):
    options = {"check_timeout": 0.02, "detect_deadlock": False}
    with waiting_kind(0, 2, connect=connector, config=options) as pool:
        other = pool.getconn()

        def fail(conn):
            conn.rollback = conn.ask
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), pool.connection(key) as conn:
            fail(conn)
        eventually(lambda: pool.stats().discards == {"lost": 1})
        assert (conn.closes, pool.stats().aborted) == (1, 1)
        assert pool._entries[id(other)].suspect
        pool.putconn(other)
