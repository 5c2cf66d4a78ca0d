"""Rows 35 to 37: broken connections that come back, close() and resize(), each while others wait, connect and hold."""

from __future__ import annotations

import threading
import time
from itertools import product

import pytest
from asking import tell
from fakes import FakeConnector, FakeDriver
from pains.sessions import MARGIN, NAME, Stopwatch, administrator, answers, backends, kill, lease, pid_of, put_all
from servers import import_or_skip
from unit.checks import lease_all
from unit.threads import Caller, eventually

from dbpool import PoolClosed, PoolError, ThreadedConnectionPool

psycopg2 = import_or_skip("psycopg2")

# ---- 35: broken connection returned while others wait ----------------------------------------------------------------


class SlowToConnect:
    """psycopg2, but from `slow` on each connect takes so many seconds."""

    def __init__(self) -> None:
        self.slow = 0.0

    def connect(self, *args, **kwargs):
        time.sleep(self.slow)
        return psycopg2.connect(*args, **kwargs)


def killed(town, pool, conn):
    tell(conn, "SELECT 1")
    kill(town, [pid_of(conn)])
    pool.putconn(conn)


def closed_by_its_user(town, pool, conn):
    conn.close()
    pool.putconn(conn)


def put_to_be_closed(town, pool, conn):
    pool.putconn(conn, close=True)


def drained(town, pool, conn):
    pool.drain()
    pool.putconn(conn)


def busy(town, pool, conn):
    with administrator(town) as other:
        tell(other, "SELECT pg_advisory_lock(35)")
        user = Caller(tell, conn, "SELECT pg_advisory_lock(35)")
        eventually(lambda: conn.info.transaction_status == 1)
        pool.putconn(conn)
        with pytest.raises(psycopg2.Error):
            user.result()


BROKEN = [killed, closed_by_its_user, put_to_be_closed, drained, busy]


@pytest.mark.fault(35)
@pytest.mark.parametrize("way", BROKEN)
@pytest.mark.parametrize("background", [True, False])
def test_a_broken_connection_that_comes_back_costs_who_waits_one_connect(town, way, background):
    driver, config = SlowToConnect(), {"timeout": 60, "detect_deadlock": False, "background": background}
    with ThreadedConnectionPool(0, 1, town.dsn, connect=driver.connect, config=config) as pool:
        conn = pool.getconn()
        waiter = Caller(pool.getconn)
        eventually(lambda: pool.stats().waiting)
        driver.slow = 0.3
        with Stopwatch() as watch:
            way(town, pool, conn)
            again = waiter.result()
        assert 0.3 <= watch.seconds < 0.3 + MARGIN
        assert answers(again)
        pool.putconn(again)
        assert pool.stats().opened == 2


# ---- 36: close() against wait, connect, lease ------------------------------------------------------------------------

TIME = 0.2  # that close() may take
CLOSINGS = {
    "close, with time": (lambda pool: pool.close(timeout=TIME), TIME),
    "close, without": (lambda pool: pool.close(timeout=0), 0.0),
    "closeall": (lambda pool: pool.closeall(), 0.0),
}
# Whether there is a lease, an idle one, a connect under way, a waiter (who needs something to wait for).
STATES = [
    state for state in product((0, 1), repeat=4) if not (state[3] and (state[1] or not (state[0] or state[2])))
]  # fmt: skip


@pytest.mark.fault(36)
@pytest.mark.parametrize("how", CLOSINGS)
@pytest.mark.parametrize(("leased", "idle", "connecting", "waiting"), STATES)
def test_close_against_everything_that_may_be_under_way(how, leased, idle, connecting, waiting):
    driver, (close, limit) = FakeDriver(), CLOSINGS[how]
    config = {"timeout": 60, "detect_deadlock": False}
    pool = ThreadedConnectionPool(
        0, max(1, leased + idle + connecting), connect=FakeConnector(driver.connect), config=config
    )
    conns = lease(pool, leased + idle)
    put_all(pool, conns[leased:])
    driver.gate.clear()
    if connecting:
        pool.resize(leased + idle + 1, leased + idle + 1)  # in a thread of the pool's
        eventually(lambda: pool.stats().connecting == 1)
    ends = []

    def wait():
        with pytest.raises(PoolClosed):
            pool.getconn()
        ends.append(time.monotonic())

    waiters = [Caller(wait) for _ in range(3 * waiting)]
    eventually(lambda: pool.stats().waiting == len(waiters))
    began = time.monotonic()
    close(pool)
    assert time.monotonic() - began < limit + MARGIN
    for waiter in waiters:
        waiter.result()
    assert all(end - began < 0.1 + MARGIN for end in ends)
    for conn in conns[:leased]:
        with pytest.raises(PoolClosed):
            pool.putconn(conn)
    with pytest.raises(PoolClosed):
        pool.getconn()
    driver.gate.set()
    eventually(lambda: len(driver.made) == leased + idle + connecting and not driver.open)
    eventually(lambda: pool.stats().size == 0)


@pytest.mark.fault(36)
@pytest.mark.parametrize("timeout", [0, 30])
def test_close_ends_when_what_it_waits_for_has_ended(timeout):
    """Who connects without waiting is no exception: TryAcquire is what other pools forget."""
    driver = FakeDriver()
    pool = ThreadedConnectionPool(0, 2, connect=FakeConnector(driver.connect), config={"detect_deadlock": False})
    conn = pool.getconn()
    driver.gate.clear()
    connecting = Caller(pool.getconn, timeout=timeout)
    eventually(lambda: driver.calls == 2)
    closer = Caller(pool.close, timeout=None)
    with pytest.raises(PoolClosed):
        connecting.result()
    assert not closer.ended
    driver.gate.set()
    eventually(lambda: len(driver.open) == 1)
    assert not closer.ended
    pool.putconn(conn)
    closer.result()
    assert driver.open == []


@pytest.mark.fault(36)
def test_on_a_server_nothing_is_left_a_second_after_close(town):
    go = threading.Event()

    def connect(*args, **kwargs):
        conn = psycopg2.connect(*args, **kwargs)
        if started:
            assert go.wait(20)
        return conn

    config, started = {"timeout": 60, "detect_deadlock": False}, []
    pool = ThreadedConnectionPool(0, 3, town.dsn, connect=connect, config=config, application_name=NAME)
    idle, leased = lease(pool, 2)
    tell(leased, "SET client_connection_check_interval = '100ms'")  # else a statement goes on without its client
    user = Caller(tell, leased, "SELECT pg_sleep(60)")
    eventually(lambda: leased.info.transaction_status == 1)
    started.append(True)
    late = Caller(pool.getconn)  # takes the third slot, and then what comes first ...
    eventually(lambda: pool.stats().connecting == 1)
    pool.putconn(idle)
    assert late.result() is idle
    waiter = Caller(pool.getconn)  # ... so somebody else waits for it
    eventually(lambda: pool.stats().waiting == 1)
    with Stopwatch() as watch:
        pool.close(timeout=0.3)
    assert watch.seconds < 0.3 + MARGIN
    with pytest.raises(PoolClosed):
        waiter.result()
    with pytest.raises(psycopg2.Error):
        user.result()
    go.set()
    with Stopwatch() as watch:
        eventually(lambda: not backends(town))
    assert watch.seconds < 1 + MARGIN


# ---- 37: shrunk below what is in use; grown --------------------------------------------------------------------------


@pytest.mark.fault(37)
def test_shrunk_below_what_is_in_use_it_is_never_above_its_new_size_once_they_are_back(town, make, driver):
    pool = make(town.dsn, 0, 8, driver=driver, timeout=60)
    conns = lease(pool, 8)
    waiters = [Caller(pool.getconn) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    pool.resize(0, 3)
    for left, conn in zip((7, 6, 5, 4, 3), list(conns)):
        pool.putconn(conn)
        conns.remove(conn)
        assert (pool.stats().size, pool.stats().waiting) == (left, 2)
    eventually(lambda: len(backends(town)) == 3)
    with administrator(town) as watcher, watcher.cursor() as cursor:
        for conn in conns:
            pool.putconn(conn)
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (NAME,))
            assert cursor.fetchone()[0] <= 3
    put_all(pool, [waiter.result() for waiter in waiters])
    assert pool.stats().idle == 3
    lease_all(pool)


@pytest.mark.fault(37)
def test_grown_it_serves_who_waits_at_once(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver, timeout=60)
    conns = lease(pool, 1)
    waiters = [Caller(pool.getconn) for _ in range(4)]
    eventually(lambda: pool.stats().waiting == 4)
    with Stopwatch() as watch:
        pool.resize(0, 4)
        eventually(lambda: sum(waiter.ended for waiter in waiters) == 3)
    assert watch.seconds < 0.1 + MARGIN
    assert pool.stats().waiting == 1
    put_all(pool, conns)
    put_all(pool, [waiter.result() for waiter in waiters])
    with pytest.raises(PoolError):
        pool.putconn(conns[0])
    lease_all(pool)
