"""AsyncConnectionPool: one event loop after the other, and never two; and the drivers that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from weakref import ref

import pytest
from fakes import FakeConnection, FakeConnector

from dbpool import AsyncConnectionPool, PoolError, in_thread
from dbpool.aio import deadlines
from dbpool.aio.deadlines import in_a_thread

from . import dbapi
from .awaiting import begun, lease_all
from .threads import Caller, eventually

# ---- loops ---------------------------------------------------------------------------------------------------------


async def work(pool):
    conn = await pool.getconn()
    await pool.putconn(conn)
    return conn


def test_a_second_loop_is_refused_at_once_while_the_first_is_not_closed(awaited):
    pool, first, second = awaited.pool(1, 2), asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(work(pool))
    uses = [
        lambda: work(pool), pool.open, pool.close, pool.closeall, pool.check, lambda: pool.resize(0, 3), pool.connect,
        lambda: pool.connection().__aenter__(), lambda: pool.connection("a").__aenter__(),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(PoolError, match=r"event loop .*not closed") as caught:
            second.run_until_complete(use())
        assert all(f"{id(loop):#x}" in str(caught.value) for loop in (first, second))
    first.run_until_complete(lease_all(pool))
    first.run_until_complete(pool.close())
    first.close()
    second.close()


def test_another_threads_loop_is_refused_though_ours_runs_a_task(awaited):
    """So that there is a task of our loop at that very moment."""

    async def busy(pool):
        await work(pool)
        with pytest.raises(PoolError, match="make one pool for each loop"):
            Caller(asyncio.run, work(pool)).result()
        await lease_all(pool)
        await pool.close()

    asyncio.run(busy(awaited.pool(1, 2)))


@pytest.mark.parametrize("dirty", [False, True])
def test_a_put_in_another_loop_takes_nothing_away(awaited, dirty):
    pool, first, second = awaited.pool(1, 1), asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(lease_all(pool))
    conn = first.run_until_complete(pool.getconn())
    if dirty:
        conn.execute()
        with pytest.raises(PoolError, match="not closed"):
            second.run_until_complete(pool.putconn(conn))
        first.run_until_complete(pool.putconn(conn))
    else:  # nothing is to be awaited
        second.run_until_complete(pool.putconn(conn))
    first.run_until_complete(lease_all(pool))
    assert conn.closes == 0
    first.run_until_complete(pool.close())
    first.close()
    second.close()


def test_after_its_loop_was_closed_a_pool_begins_anew(awaited):
    pool = awaited.pool(1, 2)
    first = asyncio.new_event_loop()
    leased = first.run_until_complete(pool.getconn())
    idle = first.run_until_complete(work(pool))
    first.close()

    async def again():
        conns = await lease_all(pool)
        assert not {leased, idle} & set(conns)
        with pytest.raises(PoolError, match="not leased"):
            await pool.putconn(leased)
        await pool.close()

    asyncio.run(again())
    assert awaited.open == []


def test_nobody_who_waited_in_a_closed_loop_is_waited_for(awaited):
    pool, first = awaited.pool(0, 1), asyncio.new_event_loop()

    async def leave():
        held = await pool.getconn()
        return held, await begun(pool.getconn())

    held, waiting = first.run_until_complete(leave())
    first.close()
    waiting._log_destroy_pending = False  # it is meant to be left behind
    assert held.number == 1

    async def again():
        await asyncio.wait_for(lease_all(pool), 5)
        assert pool.stats().waiting == 0
        await pool.close()

    asyncio.run(again())


def test_one_pool_serves_many_runs(awaited):
    pool = awaited.pool(1, 2)
    for _ in range(5):
        asyncio.run(lease_all(pool))
    asyncio.run(pool.close())
    assert awaited.open == []


# ---- drivers that are not asynchronous -----------------------------------------------------------------------------


async def test_a_marked_driver_connects_in_a_thread(driver):
    threads = []
    connect = in_thread(lambda: threads.append(threading.get_ident()) or driver.connect())
    async with AsyncConnectionPool(1, 2, connect=connect) as pool:
        await lease_all(pool)
    assert len(set(threads)) >= 1
    assert threading.get_ident() not in threads


async def test_a_connector_that_is_not_asynchronous_needs_no_mark(driver):
    async with AsyncConnectionPool(1, 2, connect=FakeConnector(driver.connect)) as pool:
        await lease_all(pool)


@pytest.mark.parametrize("connect", [dbapi.connect, dbapi], ids=["function", "module"])
async def test_an_unmarked_one_is_refused_and_what_it_opened_is_closed(connect, monkeypatch):
    made, real = [], dbapi.Connection
    monkeypatch.setattr(dbapi, "Connection", lambda: made.append(real()) or made[-1])
    pool = AsyncConnectionPool(0, 2, "dbname=orders", connect=connect)
    with pytest.raises(TypeError, match=r"connect returned a Connection, which cannot be awaited.*in_thread"):
        await pool.getconn()
    assert [conn.done for conn in made] == [["close"]]
    assert pool.stats().size == 0
    await pool.close()


@pytest.mark.parametrize("blocked", [True, False], ids=["as it ends", "before it ends"])
async def test_what_a_thread_returns_to_nobody_is_told_of(blocked):
    go, told, loop = threading.Event(), asyncio.Event(), asyncio.get_running_loop()
    task = await begun(in_a_thread(go.wait, 20, late=lambda returned: loop.call_soon_threadsafe(told.set)))
    if blocked:  # what the thread tells is read in the same turn as the cancel
        go.set()
        eventually(lambda: loop._ready)
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await asyncio.wait_for(told.wait(), 20)


async def test_a_thread_keeps_nothing_of_what_it_returned(monkeypatch):
    class Value:
        """Can be weakly referenced."""

    go = threading.Event()

    def start(run, args):
        return real(lambda: (run(*args), go.wait(20)), ())  # it does not end by itself

    real = deadlines.start_new_thread
    monkeypatch.setattr(deadlines, "start_new_thread", start)
    try:
        known = ref(await in_a_thread(Value))
        assert known() is None
    finally:
        go.set()


async def test_run_lends_a_connection_to_a_function_in_a_thread(driver):
    async with AsyncConnectionPool(0, 1, connect=FakeConnector(driver.connect)) as pool:

        def insert(conn, value):
            conn.execute()
            assert threading.current_thread() is not threading.main_thread()
            return conn, value

        conn, value = await pool.run(insert, 5)
        assert (value, conn.commits, conn.rollbacks, pool.stats().idle) == (5, 1, 0, 1)


async def test_run_rolls_back_if_the_function_raises(driver):
    async with AsyncConnectionPool(0, 1, connect=FakeConnector(driver.connect)) as pool:
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda conn: (conn.execute(), 1 / 0))
        (conn,) = driver.made
        assert (conn.commits, conn.rollbacks, pool.stats().idle) == (0, 1, 1)


async def test_run_that_is_cancelled_leaves_at_once_and_the_connection_comes_back(driver):
    go, begin = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(conn):
        conn.execute()
        loop.call_soon_threadsafe(begin.set)
        assert go.wait(20)

    async with AsyncConnectionPool(0, 1, connect=FakeConnector(driver.connect), config={"timeout": 5}) as pool:
        running = asyncio.ensure_future(pool.run(slow))
        await begin.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert pool.stats().used == 1
        next_one = await begun(pool.getconn())  # it is no deadlock: the thread has the connection
        go.set()
        conn = await next_one
        assert (conn.commits, conn.rollbacks) == (0, 1)
        await pool.putconn(conn)


async def test_run_is_refused_over_an_asynchronous_driver(awaited):
    async with awaited.pool() as pool:
        with pytest.raises(TypeError, match="async with"):
            await pool.run(FakeConnection.execute)
        assert awaited.calls == 0
