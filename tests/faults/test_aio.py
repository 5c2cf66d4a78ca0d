"""Rows 51 to 54: cancelled at every step, in other loops, in a loop that is blocked, and dropped with a connection."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from functools import partial

import pytest
from drivers.aio.conftest import BOTH, SPEAKERS
from drivers.aio.faces import SERVERS
from drivers.aio.notes import drops, lease_all
from loops import in_task, loops, soon
from pains.sessions import backends

AWAITED = [each for each in SPEAKERS if each in BOTH and each[1] != "psycopg2"]


@pytest.fixture(params=AWAITED, ids="-".join)
def both(request):
    """A kind of loop, and an asynchronous driver."""
    return request.param


@pytest.fixture
def run(both):
    """Runs a coroutine in a loop of that kind."""
    return loops(both[0])


@pytest.fixture
def database(both, town):
    """That driver, with a server."""
    return SERVERS[both[1]](town.dsn)


# ---- 51 --------------------------------------------------------------------------------------------------------------


async def cancelled_at_every_step(prepare, work):
    """Cancel *work*() after 1, 2, 3 ... turns of the loop, until it ends before; return how often.

    Each time *prepare*() is awaited first, and *work* is given what it has returned.
    """
    for turns in range(1, 5000):
        prepared = await prepare()
        task = asyncio.ensure_future(work(prepared))
        del prepared
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == cancelled, "it was cancelled, and did not end so"
        if not cancelled:
            await task
            return turns
    raise AssertionError("it never ended")


async def nothing_is_lost(database, pool, server):
    """Insist that all slots are there, and that the server has the sessions that the pool has."""
    await lease_all(pool)
    stats = pool.stats()
    assert (stats.used, stats.waiting, stats.connecting) == (0, 0, 0)
    await soon(lambda: len(backends(server, "awaited")) == pool.stats().size)


@pytest.mark.fault(51)
def test_cancelled_at_every_step_of_a_connect(run, database, town):
    async def use():
        async with database.pool(0, 2) as pool:

            async def emptied():
                await soon(lambda: not pool.stats().connecting)
                await pool.drain()
                await soon(lambda: not pool.stats().size)

            async def get_and_put(_):
                await pool.putconn(await pool.getconn())

            assert await cancelled_at_every_step(emptied, get_and_put) > 5
            await nothing_is_lost(database, pool, town)

    run(use())


@pytest.mark.fault(51)
def test_cancelled_at_every_step_of_a_ping(run, database, town):
    async def use():
        async with database.pool(0, 2, ping_after=0) as pool:

            async def have_one_idle():
                await pool.putconn(await pool.getconn())

            async def get_and_put(_):
                await pool.putconn(await pool.getconn())

            assert await cancelled_at_every_step(have_one_idle, get_and_put) > 3
            assert pool.stats().discards["interrupted"] >= 1
            await nothing_is_lost(database, pool, town)

    run(use())


@pytest.mark.fault(51)
def test_cancelled_at_every_step_of_a_return(run, database, town):
    async def use():
        async with database.pool(0, 2) as pool:

            async def begin():
                conn = await pool.getconn()
                await database.tell(conn, "SELECT 1")
                return conn

            assert await cancelled_at_every_step(begin, pool.putconn) > 3
            assert pool.stats().discards["interrupted"] >= 1
            await nothing_is_lost(database, pool, town)

    run(use())


@pytest.mark.fault(51)
def test_cancelled_at_every_step_of_a_block_while_others_wait(run, database, town):
    async def use():
        async with database.pool(0, 1, timeout=20) as pool:

            async def work(_):
                async with pool.connection() as conn:
                    await database.tell(conn, "SELECT 1")

            async def beside():
                while not ended.is_set():
                    async with pool.connection():
                        await asyncio.sleep(0)

            ended = asyncio.Event()
            others = [await in_task(beside()) for _ in range(2)]
            assert await cancelled_at_every_step(partial(asyncio.sleep, 0), work) > 3
            ended.set()
            await asyncio.gather(*others)
            await nothing_is_lost(database, pool, town)

    run(use())


@pytest.mark.fault(51)
def test_the_backend_of_a_cancelled_connect_is_gone_or_the_connection_goes_to_the_next(run, database, town):
    async def use():
        async with database.pool(0, 1) as pool:
            task = await in_task(pool.getconn())
            await soon(lambda: pool.stats().connecting)
            task.cancel()
            await asyncio.wait([task])
            conn = await pool.getconn()
            assert backends(town, "awaited") == {database.pid(conn)}
            await pool.putconn(conn)
            assert pool.stats().opened == 1

    run(use())


# ---- 52 --------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(52)
def test_another_loop_is_refused_at_once_as_long_as_the_first_is_open(run, both, database, town):
    pool = database.pool(0, 2)

    async def use_it_elsewhere():
        with pytest.raises(database.error, match=r"belongs to the event loop .* make one pool for each loop"):
            await pool.getconn()

    def elsewhere():
        loops(both[0])(use_it_elsewhere())

    async def use():
        conn = await pool.getconn()
        await asyncio.wait_for(asyncio.to_thread(elsewhere), 10)
        await pool.putconn(conn)
        await nothing_is_lost(database, pool, town)

    run(use())


@pytest.mark.fault(52)
@pytest.mark.parametrize("in_order", [True, False])
def test_after_a_loop_was_closed_there_are_fresh_connections_in_the_next(run, both, database, town, in_order):
    if both[0] == "uvloop" and not in_order:
        pytest.skip("it cannot be closed where warnings are errors, if it has an open transport")
    pool = database.pool(1, 2)

    async def use():
        async with pool.connection() as conn:
            assert await database.ask(conn, "SELECT 1") == 1
            return database.pid(conn)

    async def end():
        await nothing_is_lost(database, pool, town)
        await pool.close()

    assert len({run(use(), in_order) for _ in range(3)}) == 3
    run(end())


# ---- 53 --------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(53)
def test_a_ping_whose_answer_came_while_the_loop_was_blocked_evicts_nothing(run, database):
    async def use():
        async with database.pool(0, 5, ping_after=0, check_timeout=0.4, timeout=0.8) as pool:
            await lease_all(pool)
            tasks = [await in_task(pool.getconn()) for _ in range(5)]
            for _ in range(3):  # the pings are on their way
                await asyncio.sleep(0)
            time.sleep(1.5)  # noqa: ASYNC251  (what this is about)
            for conn in await asyncio.gather(*tasks):
                await pool.putconn(conn)
            assert (pool.stats().opened, pool.stats().discards) == (5, {})

    run(use())


@pytest.mark.fault(53)
def test_a_sweep_after_the_loop_was_blocked_evicts_nothing(run, database):
    async def use():
        async with database.pool(5, 5, ping_interval=0.1, check_timeout=0.4) as pool:
            for _ in range(3):
                await asyncio.sleep(0.12)
                time.sleep(0.6)  # noqa: ASYNC251
            await asyncio.sleep(0.3)
            assert (pool.stats().opened, pool.stats().discards) == (5, {})

    run(use())


@pytest.mark.fault(53)
def test_a_waiter_whose_connection_came_while_the_loop_was_blocked_is_given_it(run, database):
    async def use():
        async with database.pool(0, 1, timeout=0.3) as pool:
            conn = await pool.getconn()
            waiter = await in_task(pool.getconn())
            await asyncio.sleep(0.1)
            time.sleep(1)  # noqa: ASYNC251
            await pool.putconn(conn)
            assert await waiter is conn
            await pool.putconn(conn)
            assert pool.stats().timeouts == 0

    run(use())


# ---- 54 --------------------------------------------------------------------------------------------------------------


async def get_and_forget(database, pool):
    conn = await pool.getconn()
    await database.tell(conn, "SELECT 1")


async def get_and_yield(database, pool):
    conn = await pool.getconn()
    try:
        yield await database.ask(conn, "SELECT 1")
    finally:
        del conn  # it has no time to put it back: nobody awaits that


@drops
@pytest.mark.fault(54)
@pytest.mark.parametrize("how", ["task", "generator"])
def test_what_is_dropped_gives_its_slot_back_with_one_warning(run, database, town, how):
    async def drop(pool):
        if how == "task":
            await asyncio.ensure_future(get_and_forget(database, pool))
        else:
            async for _ in get_and_yield(database, pool):
                break

    async def use():
        async with database.pool(0, 1) as pool:
            await drop(pool)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                await asyncio.sleep(0)
                gc.collect()
                await nothing_is_lost(database, pool, town)
            assert len([each for each in said if "dropped without putconn" in str(each.message)]) == 1

    run(use())
