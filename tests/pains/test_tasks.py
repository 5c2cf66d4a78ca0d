"""Pains 10, 21, 24 in an event loop: outages, nested checkouts, and answers that nobody has waited for."""

from __future__ import annotations

import asyncio
import random
import re
import sys

import pytest
from drivers.aio.faces import SERVERS
from loops import in_task, loops, soon

from dbpool import PoolDeadlock

from .sessions import Stopwatch

run = loops("asyncio")


@pytest.fixture(params=["psycopg", "asyncpg"])
def asynchronous(request):
    """Makes the face of each asynchronous driver for a server."""
    return lambda server: SERVERS[request.param](server.dsn)


# ---- 10: stuck after a long outage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [True, False])
def test_pain_10_an_outage_of_a_day_ends_at_the_first_checkout_of_a_task(inn, asynchronous, leaping, background):
    database = asynchronous(inn)

    async def use():
        async with database.pool(2, 4, background=background) as pool:
            inn.stop("immediate")
            for _ in range(4):
                leaping.leap(6 * 3600)
                with pytest.raises((OSError, getattr(database.driver, "OperationalError", OSError))):
                    await pool.getconn(timeout=0)
            inn.start()
            async with pool.connection() as conn:
                assert await database.ask(conn, "SELECT 1") == 1
            assert pool.stats().waiting == 0

    run(use())


@pytest.mark.parametrize("background", [True, False])
def test_pain_10_an_outage_ends_for_the_tasks_that_wait(inn, asynchronous, background):
    database = asynchronous(inn)

    async def work(pool):
        async with pool.connection() as conn:
            return await database.ask(conn, "SELECT 1")

    async def use():
        async with database.pool(1, 2, check_after=0, timeout=20, background=background) as pool:
            inn.stop("immediate")
            tasks = [await in_task(work(pool)) for _ in range(3)]
            await soon(lambda: pool.stats().connect_errors >= 2)
            await asyncio.to_thread(inn.start)
            assert await asyncio.gather(*tasks) == [1] * 3

    run(use())


# ---- 21: one task takes two connections ------------------------------------------------------------------------------


def test_pain_21_when_every_task_waits_that_is_said_at_once_and_where(town, asynchronous):
    database, lines, told = asynchronous(town), {}, []

    async def take_two(pool, both):
        lines["got"] = sys._getframe().f_lineno + 1
        conn = await pool.getconn()
        both.append(conn)
        await soon(lambda: len(both) == 2)
        try:
            lines["waits"] = sys._getframe().f_lineno + 1
            await pool.putconn(await pool.getconn())
        except PoolDeadlock as error:
            told.append(str(error))
        finally:
            await pool.putconn(conn)

    async def use():
        async with database.pool(0, 2, timeout=60, trace=True, detect_deadlock=True) as pool:
            both = []
            second = asyncio.ensure_future(take_two(pool, both))
            with Stopwatch() as watch:
                await take_two(pool, both)
                await second
            assert watch.seconds < 20  # and not 60

    loop = asyncio.new_event_loop()  # not run(): what waits for `use` there would be a task that is not in line
    try:
        loop.run_until_complete(use())
    finally:
        loop.close()
    got, waits = (f"{__file__}:{lines[name]} in take_two" for name in ("got", "waits"))
    [text] = told
    assert "every task of the event loop waits for this pool" in text
    assert len(re.findall(rf"got it at {re.escape(got)}\), now at {re.escape(waits)}", text)) == 2, text


def test_pain_21_a_timeout_says_that_all_holders_wait_themselves(town, asynchronous):
    database = asynchronous(town)

    async def take_two(pool, timeout):
        async with pool.connection():
            await asyncio.sleep(0.05)
            await pool.putconn(await pool.getconn(timeout=timeout))

    async def use():
        async with database.pool(0, 2) as pool:
            patient = await in_task(take_two(pool, 20))
            with pytest.raises(database.error, match="each of them waits for this pool itself"):
                await take_two(pool, 0.3)
            await patient

    run(use())


def test_pain_21_nested_blocks_can_share_one_connection_by_a_key(town, asynchronous):
    database = asynchronous(town)

    async def use():
        async with database.pool(0, 1, timeout=1) as pool:
            async with pool.connection("request 7") as outer, pool.connection("request 7") as inner:
                assert inner is outer
            assert pool.stats().idle == 1

    run(use())


# ---- 24: wrong rows after a time-out or a cancel ---------------------------------------------------------------------


def test_pain_24_an_answer_that_nobody_waited_for_is_not_the_next_tasks(town, asynchronous):
    database, chance = asynchronous(town), random.Random(24)

    async def use():
        async with database.pool(0, 2) as pool:
            for turn in range(60):
                conn = await pool.getconn()
                statement = database.ask(conn, "SELECT 'the first one''s' FROM pg_sleep(0.002)")
                try:
                    await asyncio.wait_for(statement, chance.random() * 0.004)
                except asyncio.TimeoutError:
                    pass
                await pool.putconn(conn)
                async with pool.connection() as conn:
                    assert await database.ask(conn, f"SELECT {turn}") == turn

    run(use())
