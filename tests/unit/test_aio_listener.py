"""Listeners whose methods are asynchronous: each is awaited, none is lost, and none can hold up or break the pool."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import warnings

import pytest
from fakes import OperationalError
from loops import soon

from dbpool import AsyncConnectionPool, PoolListener, SimpleConnectionPool, ThreadedConnectionPool, in_thread

from .awaiting import AwaitedDriver, lease_all, rested

EVENTS = sorted(name for name in vars(PoolListener) if not name.startswith("_"))


class Patient(PoolListener):
    """Takes some steps of the loop for each event, then remembers it."""

    def __init__(self):
        self.begun = []
        self.ended = []

    async def _hear(self, event, *args):
        self.begun.append(event)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.ended.append((event, *args))

    async def connected(self, pool, conn, seconds):
        await self._hear("connected", seconds)

    async def connect_failed(self, pool, error):
        await self._hear("connect_failed", error)

    async def acquired(self, pool, conn):
        await self._hear("acquired", conn)

    async def waited(self, pool, seconds):
        await self._hear("waited", seconds)

    async def timed_out(self, pool, seconds):
        await self._hear("timed_out", seconds)

    async def released(self, pool, conn, seconds):
        await self._hear("released", seconds)

    async def leaked(self, pool, user):
        await self._hear("leaked", user)

    async def discarded(self, pool, reason):
        await self._hear("discarded", reason)

    async def closed(self, pool):
        await self._hear("closed")

    @property
    def names(self):
        return [event for event, *_ in self.ended]


@pytest.fixture
def heard():
    """A listener that is awaited."""
    return Patient()


async def test_a_lease_is_told_from_connect_to_close(awaited, heard, loop_kind):
    pool = awaited.pool(listener=heard)
    await pool.putconn(await pool.getconn())
    await pool.close()
    assert heard.names == ["connected", "waited", "acquired", "released", "discarded", "closed"]
    assert heard.begun == heard.names


async def test_each_event_may_be_asynchronous_and_each_duration_is_told(awaited, heard, clock):
    awaited.fail_on = {1}
    pool = awaited.pool(maxconn=1, listener=heard, leak_threshold=3, timeout=100, detect_deadlock=False)
    with pytest.raises(OperationalError):
        await pool.getconn()
    conn = await pool.getconn()
    clock.leap(7)
    await pool.check()
    with pytest.raises(Exception, match="exhausted"):
        await pool.getconn(timeout=0)
    task = asyncio.ensure_future(pool.getconn())
    await soon(lambda: pool.stats().waiting)
    clock.leap(2)
    await pool.putconn(conn)
    await pool.putconn(await task, close=True)
    await pool.closeall()
    assert sorted(set(heard.names)) == EVENTS
    told = [(event[0], event[-1]) for event in heard.ended]
    assert ("waited", 2) in told
    assert ("released", 9) in told
    assert all(seconds >= 0 for event, seconds in told if event in ("connected", "timed_out"))


async def test_a_pool_over_threads_awaits_its_listener_too(heard):
    import sqlite3

    def connect():
        return sqlite3.connect(":memory:", check_same_thread=False)

    async with AsyncConnectionPool(0, 1, connect=in_thread(connect), config={"listener": heard}) as pool:
        async with pool.connection():
            pass
    assert {"connected", "acquired", "released", "closed"} <= set(heard.names)


async def test_nobody_waits_for_the_listener(awaited):
    gate = asyncio.Event()

    class Slow(PoolListener):
        async def acquired(self, pool, conn):
            await gate.wait()

    pool = awaited.pool(listener=Slow())
    for _ in range(3):
        await lease_all(pool)
    gate.set()
    await pool.close()
    assert not pool._hearings


async def test_close_waits_for_the_listener_but_not_for_ever(awaited, heard):
    class Stuck(PoolListener):
        async def closed(self, pool):
            await asyncio.Event().wait()

    pool = awaited.pool(listener=Stuck(), check_timeout=0.01)
    await lease_all(pool)
    await pool.close()
    assert pool.closed


async def test_a_listener_may_use_and_close_the_pool(awaited):
    done = []

    class User(PoolListener):
        async def discarded(self, pool, reason):
            if not pool.closed:
                async with pool.connection() as conn:
                    done.append(conn)
                await pool.close()
                done.append(pool)

    pool = awaited.pool(listener=User())
    await pool.putconn(await pool.getconn(), close=True)
    await soon(lambda: done[1:] == [pool])
    await rested(pool)


async def test_what_it_raises_is_logged_and_does_no_harm(awaited, caplog):
    class Bomb(PoolListener):
        async def connected(self, pool, conn, seconds):
            await asyncio.sleep(0)
            raise RuntimeError("the listener is broken")

    with caplog.at_level(logging.ERROR, "dbpool"):
        async with awaited.pool(listener=Bomb()) as pool:
            await lease_all(pool)
    told = [record for record in caplog.records if "connected() raised" in record.getMessage()]
    assert len(told) == 2
    assert all(record.exc_info for record in told)


def test_a_loop_that_ends_with_an_open_pool_waits_for_its_listener():
    program = """
import asyncio
from dbpool import AsyncConnectionPool, PoolListener

class Connection:
    async def close(self): pass

class Slow(PoolListener):
    async def discarded(self, pool, reason):
        await asyncio.sleep(0.01)
        print("discarded")

async def connect():
    return Connection()

async def main():
    global pool
    pool = AsyncConnectionPool(0, 1, connect=connect, config={"listener": Slow()})
    await pool.putconn(await pool.getconn())

asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert (ended.stdout, ended.stderr) == ("discarded\n", "")


# ---- pools that can await nothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind_of_pool", [SimpleConnectionPool, ThreadedConnectionPool])
def test_pools_for_threads_refuse_a_listener_that_must_be_awaited(kind_of_pool, driver, heard):
    with pytest.raises(TypeError, match=r"^listener: \w+\(\) is asynchronous, and only an AsyncConnectionPool"):
        kind_of_pool(0, 1, connect=driver.connect, config={"listener": heard})
    assert not driver.made


def test_what_only_turns_out_to_be_awaitable_is_logged_there_and_warns_of_nothing(driver, caplog):
    class Sly(PoolListener):
        def acquired(self, pool, conn):
            return self._later()

        async def _later(self):
            pass

    with warnings.catch_warnings(), caplog.at_level(logging.ERROR, "dbpool"):
        warnings.simplefilter("error")
        pool = ThreadedConnectionPool(0, 1, connect=driver.connect, config={"listener": Sly()})
        pool.putconn(pool.getconn())
        pool.close()
        gc.collect()
    assert [record for record in caplog.records if "acquired() raised" in record.getMessage()]


async def test_what_happens_when_the_loop_is_closed_is_logged_and_not_lost_silently(caplog):
    pool = AwaitedDriver().pool(listener=Patient())
    pool._loop = asyncio.new_event_loop()
    pool._loop.close()
    from dbpool.listener import tell

    with caplog.at_level(logging.ERROR, "dbpool"):
        tell(pool._config.listener, "closed", pool)
    pool._loop = None
    assert "closed() raised" in caplog.text
