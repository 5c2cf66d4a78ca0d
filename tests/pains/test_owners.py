"""Pains 8, 22, 23: who has a connection, and to whom it falls when a thread is interrupted, ends or errs."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading

import pytest
from asking import ask, tell
from fakes import FakeConnection, FakeConnector, FakeDriver
from interrupts.signals import async_exc_storm
from servers import import_or_skip
from unit.checks import lease_all
from unit.threads import Caller, eventually

from dbpool import (
    AsyncConnectionPool,
    PersistentConnectionPool,
    PoolClosed,
    PoolError,
    SimpleConnectionPool,
    ThreadedConnectionPool,
)

from .sessions import MARGIN, Stopwatch, answers, backends, lease, pid_of, put_all

psycopg2 = import_or_skip("psycopg2")
KEYED = [SimpleConnectionPool, ThreadedConnectionPool]


# ---- 8: cancelled requests drain the pool ----------------------------------------------------------------------------

safe = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="Python 3.9 can lose a lock at the end of each with block: see DESIGN.md"
)


@pytest.mark.fault(43)
@safe
@pytest.mark.interrupts
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("close", [False, True])
def test_pain_08_thousands_of_interrupts_at_random_cost_no_slot(close, monkeypatch):
    """While connections are handed out and taken back, and opened and closed; tests/interrupts tries each point."""
    monkeypatch.setattr("dbpool.logs._write", lambda *args, **more: None)  # logging's own locks are Python code
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.05)  # who is not woken, because the waker was cut off, looks soon
    pool = ThreadedConnectionPool(
        0, 2, connect=FakeConnector(lambda: FakeConnection(1)), config={"timeout": 5, "background": False}
    )

    def use():
        for _ in range(2 if close else 20):
            pool.putconn(pool.getconn(), close=close)

    storm = async_exc_storm(use, seconds=4, iterations=4_000, seed=8)
    assert storm.landed > 100
    assert not storm.errors
    pool.resize(0, 2)
    lease_all(pool)
    assert pool.stats().waiting == 0
    pool.close()


@pytest.mark.fault(44)
def test_pain_08_who_waits_can_be_interrupted_and_leaves_the_queue(town, make):
    pool = make(town.dsn, 0, 1, timeout=60)
    conn = pool.getconn()
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(20):
            sender = Caller(_interrupt_once_it_waits, pool)
            with pytest.raises(KeyboardInterrupt):
                pool.getconn()
            sender.result()
            assert pool.stats().waiting == 0
    finally:
        signal.signal(signal.SIGINT, previous)
    pool.putconn(conn)
    assert lease_all(pool) == [conn]


def _interrupt_once_it_waits(pool):
    eventually(lambda: pool.stats().waiting)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_pain_08_ten_thousand_cancelled_tasks_cost_no_slot(town):
    psycopg = import_or_skip("psycopg")

    async def use(pool):
        async with pool.connection() as conn:
            await conn.execute("SELECT 1")

    async def work():
        chance = random.Random(8)
        async with AsyncConnectionPool(0, 2, town.dsn, connect=psycopg.AsyncConnection.connect) as pool:
            for _ in range(10_000):
                task = asyncio.ensure_future(use(pool))
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                delivered = task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() == delivered
            conns = [await pool.getconn(timeout=5) for _ in range(2)]
            with Stopwatch() as watch, pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.getconn(timeout=None), 1)
            assert 0.95 < watch.seconds < 1.05 + MARGIN
            for conn in conns:
                await pool.putconn(conn)

    asyncio.run(work())


# ---- 22: connections of dead threads pile up -------------------------------------------------------------------------


@pytest.mark.fault(49)
def test_pain_22_ten_thousand_short_threads_never_have_more_than_maxconn():
    driver = FakeDriver()
    pool = PersistentConnectionPool(0, 3, connect=FakeConnector(driver.connect), config={"timeout": 20})
    faults = []

    def work():
        conn = pool.getconn()
        if conn.status:
            faults.append(conn)  # another's transaction
        conn.execute()

    for _ in range(5_000):  # each ends with its connection, in a transaction
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not faults
    assert driver.calls <= 3
    lease_all(pool)
    pool.close()


@pytest.mark.fault(49)
def test_pain_22_a_dead_threads_connection_is_rolled_back_and_goes_to_the_next(town, make, driver):
    pool = make(town.dsn, 0, 1, driver=driver, kind=PersistentConnectionPool, timeout=5)
    idents, pids = [], set()

    def work():
        with pytest.raises(PoolError):
            pool.putconn()  # it has none, whatever ident it has
        conn = pool.getconn()
        assert conn.info.transaction_status == 0
        assert ask(conn, "SELECT current_setting('pains.owner', true)") in (None, "")
        tell(conn, "SELECT set_config('pains.owner', 'dead', true)")
        idents.append(threading.get_ident())
        pids.add(pid_of(conn))

    for _ in range(50):
        thread = Caller(work)
        thread.result()
        eventually(lambda thread=thread: thread.ended)
    assert len(set(idents)) < len(idents), "no ident was given away again"
    assert len(pids) == 1
    assert len(backends(town)) == 1


# ---- 23: unkeyed connections, key 0, double puts ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KEYED)
@pytest.mark.parametrize("key", [0, "", False, (), frozenset(), 1, "a"], ids=repr)
def test_pain_23_any_key_works(town, make, driver, kind, key):
    pool = make(town.dsn, 0, 2, driver=driver, kind=kind)
    plain, keyed = pool.getconn(), pool.getconn(key)
    assert keyed is not plain
    assert pool.getconn(key) is keyed
    pool.putconn(keyed, key)
    pool.putconn(plain)
    assert (pool.stats().used, pool.stats().idle) == (0, 2)


def figures(pool):
    stats = pool.stats()
    return stats.used, stats.idle, stats.size, stats.opened, stats.discards


@pytest.mark.fault(38, 39)
@pytest.mark.parametrize("kind", KEYED)
def test_pain_23_every_wrong_put_is_refused_and_changes_nothing(town, make, driver, kind):
    pool, other = (make(town.dsn, 0, 2, driver=driver, kind=kind) for _ in range(2))
    put, leased, keyed, foreign = pool.getconn(), pool.getconn(), None, other.getconn()
    pool.putconn(put)
    keyed = pool.getconn("a")
    assert keyed is put
    pool.putconn(keyed, "a")
    wrong = {
        "double": lambda: pool.putconn(put),
        "late, by its key": lambda: pool.putconn(put, "a"),
        "foreign": lambda: pool.putconn(foreign),
        "a wrong key": lambda: pool.putconn(leased, "b"),
        "none": lambda: pool.putconn(None),
        "no connection": lambda: pool.putconn("conn"),
    }
    for case, attempt in wrong.items():
        before = figures(pool), figures(other)
        with pytest.raises(PoolError, match="trying to put"):
            attempt()
        assert (figures(pool), figures(other)) == before, case
    pool.putconn(leased)
    other.putconn(foreign)
    lease_all(pool)
    pool.closeall()
    with pytest.raises(PoolClosed):
        pool.putconn(leased)


@pytest.mark.fault(38)
def test_pain_23_two_threads_that_put_one_connection_at_a_time(town, make):
    pool = make(town.dsn, 0, 2)
    for _ in range(50):
        conn, ready = pool.getconn(), threading.Barrier(2)

        def put(conn=conn, ready=ready):
            ready.wait(20)
            pool.putconn(conn)

        callers = [Caller(put), Caller(put)]
        for caller in callers:
            eventually(lambda caller=caller: caller.ended)
        assert sorted(caller.error is None for caller in callers) == [False, True]
        assert isinstance(next(filter(None, (caller.error for caller in callers))), PoolError)
    assert pool.stats().idle == 1
    conns = lease(pool, 2)
    assert conns[0] is not conns[1]
    put_all(pool, conns)


def test_pain_23_two_threads_that_share_a_key_share_a_connection(town, make):
    pool = make(town.dsn, 0, 2)
    both = threading.Barrier(2)

    def use():
        both.wait(20)
        conn = pool.getconn("shared")
        assert answers(conn)
        both.wait(20)
        return conn

    conn, other = (caller.result() for caller in [Caller(use), Caller(use)])
    assert conn is other
    pool.putconn(conn, "shared")
    with pytest.raises(PoolError, match="trying to put unkeyed connection"):
        pool.putconn(other, "shared")
    assert pool.stats().used == 0
    lease_all(pool)
