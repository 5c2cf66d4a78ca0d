"""Pains 6 and 11: backends that are frozen and connects that hang hold up nobody for longer than they may."""

from __future__ import annotations

from threading import Event

import pytest
from asking import tell
from servers import import_or_skip
from unit.threads import Caller, eventually

from dbpool import Connector, ThreadedConnectionPool

from .sessions import MARGIN, Stopwatch, answers, lease, pid_of, put_all, warm

psycopg2 = import_or_skip("psycopg2")
WAYS = ["dsn", "tcp_dsn"]  # by the Unix socket, by TCP


# ---- 6: the ping itself hangs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_pain_06_a_frozen_backend_costs_check_timeout_and_one_connect(town, make, freeze, driver, way):
    pool = make(getattr(town, way), 0, 2, driver=driver, ping_after=0, check_timeout=0.4)
    [frozen] = warm(pool)
    freeze(town, frozen)
    with Stopwatch() as watch:
        conn = pool.getconn(timeout=20)
    assert answers(conn)
    assert pid_of(conn) != frozen
    assert watch.seconds < 0.4 + MARGIN
    assert pool.stats().discards == {"lost": 1}
    pool.putconn(conn)


@pytest.mark.parametrize("way", WAYS)
def test_pain_06_a_frozen_backend_never_costs_more_than_the_callers_timeout(town, make, freeze, driver, way):
    pool = make(getattr(town, way), 0, 2, driver=driver, ping_after=0, check_timeout=30)
    [frozen] = warm(pool)
    freeze(town, frozen)
    with Stopwatch() as watch:
        conn = pool.getconn(timeout=0.6)  # half of it for the ping, half for another connection
    assert answers(conn)
    assert pid_of(conn) != frozen
    assert watch.seconds < 0.6 + MARGIN
    pool.putconn(conn)


def test_pain_06_many_frozen_backends_never_cost_more_than_the_callers_timeout(town, make, freeze):
    pool = make(town.dsn, 0, 4, ping_after=0, check_timeout=30)
    for pid in warm(pool, 4):
        freeze(town, pid)
    with Stopwatch() as watch:
        try:
            conn = pool.getconn(timeout=0.8)
        except psycopg2.Error:
            conn = None
    assert watch.seconds < 0.8 + MARGIN
    conn = conn or pool.getconn(timeout=3)
    assert answers(conn)
    pool.putconn(conn)


@pytest.mark.fault(8)
@pytest.mark.parametrize("way", WAYS)
def test_pain_06_a_frozen_backend_costs_check_timeout_when_it_comes_back(town, make, freeze, driver, way):
    pool = make(getattr(town, way), 0, 1, driver=driver, check_timeout=0.4)
    conn = pool.getconn()
    tell(conn, "SELECT 1")
    freeze(town, pid_of(conn))
    with Stopwatch() as watch:
        pool.putconn(conn)
    assert watch.seconds < 0.4 + MARGIN
    conn = pool.getconn()
    assert answers(conn)
    pool.putconn(conn)


# ---- 11: one slow connect blocks every thread ------------------------------------------------------------------------


def slowest(pool, times=100):
    """Return the seconds that the slowest of so many gets and puts took."""
    most = 0.0
    for _ in range(times):
        with Stopwatch() as watch:
            pool.putconn(pool.getconn())
        most = max(most, watch.seconds)
    return most


@pytest.mark.fault(47)
def test_pain_11_a_connect_that_hangs_holds_up_nobody_else(inn, make):
    pool = make(inn.dsn, 2, 3)
    first, second = lease(pool, 2)
    inn.pause()
    impatient = Caller(pool.getconn)  # there is room for one more
    eventually(lambda: pool.stats().connecting == 1)
    pool.putconn(first)
    assert impatient.result() is first  # whatever comes first
    with Stopwatch() as watch:
        pool.putconn(second)
    assert max(watch.seconds, slowest(pool)) < 0.01 + MARGIN
    assert pool.stats().connecting == 1
    inn.resume()
    eventually(lambda: pool.stats().connecting == 0)
    assert pool.stats().size == 3
    pool.putconn(first)


@pytest.mark.fault(47)
@pytest.mark.fault(8)
def test_pain_11_a_rollback_that_hangs_holds_up_nobody_else(town, make, freeze):
    pool = make(town.dsn, 2, 2)
    first, second = lease(pool, 2)
    tell(first, "SELECT 1")
    freeze(town, pid_of(first))
    putter = Caller(pool.putconn, first)
    eventually(lambda: len(pool.holders()) == 1)
    with Stopwatch() as watch:
        pool.putconn(second)
    assert max(watch.seconds, slowest(pool)) < 0.01 + MARGIN
    assert not putter.ended
    town.resume(pid_of(first))
    putter.result()
    assert pool.stats().idle == 2


def test_pain_11_a_ping_that_hangs_holds_up_nobody_else(town, make, freeze):
    pool = make(town.dsn, 2, 2)
    first, second = lease(pool, 2)
    frozen = pid_of(first)
    pool.putconn(first)
    freeze(town, frozen)
    checker = Caller(pool.check)
    eventually(lambda: pool.stats().idle == 0)  # it is being looked at
    with Stopwatch() as watch:
        pool.putconn(second)
    assert max(watch.seconds, slowest(pool)) < 0.01 + MARGIN
    assert not checker.ended
    town.resume(frozen)
    assert checker.result().idle == 2


@pytest.mark.fault(47)
def test_pain_11_a_close_that_hangs_holds_up_nobody_else(town, make):
    go = Event()

    def close(conn):
        go.wait(20)
        conn.close()

    connector = Connector(lambda: psycopg2.connect(town.dsn), close=close)
    pool = ThreadedConnectionPool(2, 2, connect=connector)
    first, second = lease(pool, 2)
    putter = Caller(pool.putconn, first, close=True)
    eventually(lambda: pool.stats().closing == 1)
    with Stopwatch() as watch:
        pool.putconn(second)
    assert max(watch.seconds, slowest(pool)) < 0.01 + MARGIN
    assert pool.stats().closing == 1
    go.set()
    putter.result()
    pool.close(timeout=5)


def test_pain_11_put_all_is_quick_while_a_connect_hangs_and_many_wait(inn, make):
    pool = make(inn.dsn, 2, 3)
    conns = lease(pool, 2)
    inn.pause()
    callers = [Caller(lambda: pool.putconn(pool.getconn())) for _ in range(6)]
    eventually(lambda: pool.stats().waiting == 6)
    with Stopwatch() as watch:
        put_all(pool, conns)
        for caller in callers:
            caller.result()
    assert watch.seconds < 0.01 + MARGIN
    assert pool.stats().connecting == 1
    inn.resume()
