"""A storm of cancels over many tasks: each is delivered, no slot is lost."""

from __future__ import annotations

import asyncio
import random

import pytest
from fakes import FakeConnector, FakeDriver
from unit.awaiting import AwaitedDriver, lease_all, rested
from unit.threads import PATIENCE

from dbpool import AsyncConnectionPool


async def use(pool, chance):
    """Use the pool in any way, for ever."""
    while True:
        way = chance.randrange(6)
        if way < 2:
            async with pool.connection() as conn:
                assert not conn.status, "it was cut off in another's hands"
                if way:
                    conn.execute()
                    await asyncio.sleep(0)
        elif way == 2:
            async with pool.connection(chance.randrange(3)) as conn:
                await asyncio.sleep(0)
        elif way == 3:
            async with await pool.connect() as conn:
                conn.execute()
                await asyncio.sleep(0)
        else:
            conn = await pool.getconn()
            try:
                await asyncio.sleep(0)
            finally:
                await pool.putconn(conn, close=chance.random() < 0.1)


async def storm(pool, tasks, cancels, seed):
    """Cancel so many times one of so many tasks; each one that has ended is replaced."""
    chance = random.Random(seed)
    running = [asyncio.ensure_future(use(pool, chance)) for _ in range(tasks)]
    struck = set()
    while cancels:
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        number = chance.randrange(tasks)
        if running[number] not in struck:
            running[number].cancel()
            struck.add(running[number])
            cancels -= 1
        elif running[number].done():
            assert running[number].cancelled(), running[number].exception()
            running[number] = asyncio.ensure_future(use(pool, chance))
    for task in running:
        task.cancel()
    await asyncio.wait({*running, *struck}, timeout=PATIENCE)
    left = [task for task in (*running, *struck) if not task.cancelled()]
    assert not left, f"a cancel was swallowed: {left}"


@pytest.mark.parametrize(
    ("options", "cancels"), [({}, 10_000), ({"ping_after": 0, "max_uses": 5}, 5000)], ids=["plain", "pinged"]
)
def test_a_storm_of_cancels_loses_nothing(options, cancels):
    """In a loop without debug mode, for it is a long one."""
    awaited, seed = AwaitedDriver(), random.randrange(2**32)

    async def scenario():
        async with awaited.pool(2, 5, timeout=None, **options) as pool:
            await storm(pool, 300, cancels, seed)
            await rested(pool)
            await asyncio.wait_for(lease_all(pool), PATIENCE)
            assert (pool.stats().waiting, pool.stats().used) == (0, 0)
        assert awaited.most <= 5
        assert awaited.open == []

    print(f"seed {seed}")
    asyncio.run(scenario())


def test_a_storm_of_cancels_loses_nothing_where_calls_are_made_in_threads():
    driver, seed = FakeDriver(), random.randrange(2**32)

    async def scenario():
        connector = FakeConnector(driver.connect)
        async with AsyncConnectionPool(2, 5, connect=connector, config={"timeout": None}) as pool:
            await storm(pool, 30, 1000, seed)
            await rested(pool)
            await asyncio.wait_for(lease_all(pool), PATIENCE)
            assert (pool.stats().waiting, pool.stats().used) == (0, 0)

    print(f"seed {seed}")
    asyncio.run(scenario())
