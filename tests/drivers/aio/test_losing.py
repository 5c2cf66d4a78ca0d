"""Each driver: connections that are closed, dropped, cancelled in mid-statement or outlive their loop; threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings

import pytest

from .faces import SqliteInThreads
from .notes import count, drops, lease_all, write

# ---- lost, dropped, another loop -------------------------------------------------------------------------------------


def test_one_that_its_holder_closed_is_replaced(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            if database.threaded:
                conn.close()
            elif database.module == "aiomysql":
                await conn.ensure_closed()
            else:
                await conn.close()
            await pool.putconn(conn)
            async with pool.connection() as conn:
                assert await count(database, conn) == 0
            assert pool.stats().opened == 2

    run(use())


@drops
def test_a_dropped_connection_gives_its_slot_back_with_one_warning(run, database):
    if isinstance(database, SqliteInThreads):
        pytest.skip("its connections cannot be weakly referenced")

    async def use():
        async with database.pool(0, 1, trace=True) as pool:
            conn = await pool.getconn()
            await write(database, conn)
            del conn
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                gc.collect()
                async with pool.connection() as conn:
                    assert await count(database, conn) == 0
                del conn
                await asyncio.sleep(0)
            told = [str(each.message) for each in said if "test_losing.py" in str(each.message)]
            assert len(told) == 1, [str(each.message) for each in said]
            await lease_all(pool)

    run(use())


async def use_once(database, pool):
    """Return a connection of *pool* that has been used and put back."""
    conn = await pool.getconn()
    assert await database.ask(conn, "SELECT 1") == 1
    await pool.putconn(conn)
    return conn


async def close(pool):
    await lease_all(pool)
    await pool.close()


def test_what_is_idle_is_closed_with_its_loop_and_the_pool_works_in_the_next_one(run, database):
    pool = database.pool(1, 2)
    first = run(use_once(database, pool))
    assert pool.stats().size == 0
    second = run(use_once(database, pool))
    assert first is not second
    run(close(pool))
    assert pool.stats().size == 0


def test_a_pool_whose_loop_was_closed_without_order_works_in_the_next_one(both, run, database):
    if both[0] == "uvloop":
        pytest.skip("it cannot be closed where warnings are errors, if it has an open transport")
    pool = database.pool(1, 2)
    first = run(use_once(database, pool), in_order=False)
    assert pool.stats().idle == 1
    second = run(use_once(database, pool))
    assert first is not second
    run(close(pool))
    assert pool.stats().size == 0


# ---- cancelled in the midst of a statement ---------------------------------------------------------------------------


def test_nobody_is_given_a_connection_on_which_anothers_answer_is_to_come(run, database):
    if database.module == "sqlite3":
        pytest.skip("nothing of it is slow")

    async def use():
        async with database.pool(0, 1) as pool:
            conn = await pool.getconn()
            try:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(database.ask(conn, database.sleep), 0.1)
            finally:
                if database.threaded:
                    conn.cancel()  # else its thread goes on
                await pool.putconn(conn)
            del conn
            for number in range(3):
                async with pool.connection() as conn:
                    assert await database.ask(conn, f"SELECT {number}") == number

    run(use())


def test_nobody_commits_what_another_was_cancelled_in(run, database):
    if database.threaded:
        pytest.skip("its user goes on in a thread, after the connection was put")

    async def use(pool, turns):
        conn = await pool.getconn()
        task = asyncio.ensure_future(write(database, conn))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await pool.putconn(conn)
        async with pool.connection() as conn:
            await database.tell(conn, "SELECT 1")

    async def all_turns():
        async with database.pool(0, 1) as pool:
            for turns in range(12):
                await use(pool, turns)
            async with pool.connection() as conn:
                assert await count(database, conn) == 0

    run(all_turns())


# ---- threads ---------------------------------------------------------------------------------------------------------


def insert(conn, body, go=None):
    """What runs in a thread: it writes a row, and waits to be told to go on."""
    conn.cursor().execute(f"INSERT INTO note VALUES ('{body}')")
    if go is not None:
        go.wait(20)


def test_run_has_a_thread_use_a_connection(run, database):
    async def use():
        async with database.pool(0, 1) as pool:
            if not database.threaded:
                with pytest.raises(TypeError, match="not asynchronous"):
                    await pool.run(insert, "kept")
                return
            await pool.run(insert, "kept")
            with pytest.raises(database.driver.Error):
                await pool.run(insert, "a quote: '")
            async with pool.connection() as conn:
                assert await count(database, conn) == 1

    run(use())


def test_who_is_cancelled_in_run_leaves_at_once_and_the_connection_comes_back_rolled_back(run, database):
    if not database.threaded:
        pytest.skip("run() is for threads")
    go = threading.Event()

    async def use():
        async with database.pool(0, 1) as pool:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.run(insert, "lost", go), 0.05)
            assert pool.stats().used == 1
            go.set()
            async with pool.connection() as conn:
                assert await count(database, conn) == 0
            assert pool.stats().opened == 1

    run(use())
