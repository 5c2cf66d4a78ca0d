"""Cancellation: wherever it strikes it is delivered, and no slot is lost; nor is what it cut off given to anybody."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from .awaiting import AwaitedDriver, begun, lease_all, rested
from .threads import PATIENCE


@pytest.fixture
def awaited():
    """Its calls take several steps, at each of which a cancel can strike."""
    return AwaitedDriver(steps=2)


async def at_each_step(prepare, work, first=0):
    """Cancel ``work(pool)`` after *first*, 1, 2 ... steps of the loop, each time with a new pool, until it ends before.

    Return how often it was cancelled.
    """
    for steps in itertools.count(first):
        pool = await prepare()
        task = await begun(work(pool), steps)
        struck = task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE)
        assert task.done(), f"the cancel after {steps} steps ended nothing"
        if struck:
            assert task.cancelled(), f"the cancel after {steps} steps was swallowed"
        else:
            task.result()
        await rested(pool)
        await asyncio.wait_for(lease_all(pool), PATIENCE)
        assert pool.stats().waiting == 0
        await pool.close(timeout=0)
        if not struck:
            return steps - first
    raise AssertionError


# ---- getconn -------------------------------------------------------------------------------------------------------


async def get_and_put(pool):
    conn = await pool.getconn()
    assert not conn.status, "it was cut off in another's hands"
    await pool.putconn(conn)


async def fresh(awaited):
    return awaited.pool(0, 1)


async def idle(awaited):
    pool = awaited.pool(1, 1)
    await pool.open()
    return pool


async def in_line(awaited):
    """The only connection comes back after some steps."""
    pool = await idle(awaited)
    conn = await pool.getconn()
    conn.execute()
    pool.helper = await begun(put_after(3, pool, conn))
    return pool


async def closed_in_the_way(awaited):
    pool = await idle(awaited)
    pool.helper = await begun(put_after(3, pool, await pool.getconn(), close=True))
    return pool


async def second_in_line(awaited):
    """Another is served before, and puts."""
    pool = await in_line(awaited)
    pool.other = await begun(get_and_put(pool))
    return pool


async def put_after(steps, pool, conn, **put):
    for _ in range(steps):
        await asyncio.sleep(0)
    await pool.putconn(conn, **put)


async def ping_due(awaited):
    pool = awaited.pool(1, 1, ping_after=0)
    await pool.open()
    return pool


async def dead(awaited):
    """It does not answer the ping that is due, and is replaced."""
    pool = await ping_due(awaited)
    awaited.made[-1].mute = True
    return pool


async def past_its_lifetime(awaited):
    pool = awaited.pool(0, 1, max_lifetime=0.001)
    await pool.open(ready=1)
    await asyncio.sleep(0.002)
    return pool


async def failing(awaited):
    awaited.fail_on = {awaited.calls + 1}
    return awaited.pool(0, 1, connect_attempts=2)


GETS = [fresh, idle, in_line, closed_in_the_way, second_in_line, ping_due, dead, past_its_lifetime, failing]


@pytest.mark.parametrize("begin", GETS, ids=lambda begin: begin.__name__)
async def test_getconn_is_cancelled_at_each_step(awaited, begin, monkeypatch):
    monkeypatch.setattr("dbpool.aio.opening.FIRST_PAUSE", 0.0)
    times = await at_each_step(lambda: begin(awaited), get_and_put)
    assert (times > 1) is (begin is not idle)
    assert awaited.most == 1
    assert awaited.open == []


async def test_a_keyed_getconn_is_cancelled_at_each_step(awaited):
    async def work(pool):
        conn = await pool.getconn("a")
        assert await pool.getconn("a") is conn
        await pool.putconn(conn, "a")

    assert await at_each_step(lambda: in_line(awaited), work) > 3


async def test_who_is_cancelled_while_its_connection_is_opened_leaves_it_to_the_next(awaited):
    pool = awaited.pool(0, 1)
    awaited.hold("connect")
    first, second = await begun(pool.getconn()), await begun(pool.getconn())
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    awaited.release("connect")
    conn = await second
    assert (conn.number, awaited.calls) == (1, 1)
    await pool.putconn(conn)
    await pool.close()


async def test_or_to_nobody_and_then_it_is_idle(awaited):
    pool = awaited.pool(0, 1)
    awaited.hold("connect")
    first = await begun(pool.getconn())
    first.cancel()
    await asyncio.wait({first})
    awaited.release("connect")
    await rested(pool)
    assert (pool.stats().idle, awaited.calls) == (1, 1)
    await pool.close()


# ---- putconn -------------------------------------------------------------------------------------------------------


def putting(dirty=True, **put):
    async def work(pool):
        conn = pool.conn
        conn.color = "red" if dirty else "white"
        if dirty:
            conn.execute()
        await pool.putconn(conn, **put)

    return work


PUTS = {
    "clean": ({}, putting(dirty=False)),
    "dirty": ({}, putting()),
    "closed": ({}, putting(close=True)),
    "used up": ({"max_uses": 1}, putting()),
    "pinged": ({"ping_on_return": True}, putting(dirty=False)),
    "a reset of the user's": ({"reset": lambda conn: asyncio.sleep(0)}, putting()),
}


@pytest.mark.parametrize("how", PUTS)
async def test_putconn_is_cancelled_at_each_step(awaited, how):
    options, work = PUTS[how]

    async def leased():
        pool = awaited.pool(1, 1, **options)
        pool.conn = await pool.getconn()
        return pool

    times = await at_each_step(leased, work, first=1)  # cancelled before, it would never begin
    assert times == 0 if how in ("clean", "closed", "used up") else times > 1
    assert awaited.most == 1


async def test_a_put_that_is_cancelled_has_the_connection_closed(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        conn.execute()
        awaited.hold("reset")
        putting = await begun(pool.putconn(conn), 6)
        putting.cancel()
        await asyncio.wait({putting})
        awaited.release("reset")
        await rested(pool)
        assert conn.closed
        assert pool.stats().discards == {"interrupted": 1}


# ---- blocks, proxies and the rest ----------------------------------------------------------------------------------


async def block(pool, key=None, error=None):
    async with pool.connection(key) as conn:
        conn.execute()
        await asyncio.sleep(0)
        if error is not None:
            raise error


async def failing_block(pool):
    try:
        await block(pool, error=ValueError("the block's own"))
    except ValueError:
        await asyncio.sleep(0)


async def nested_block(pool):
    async with pool.connection("a"):
        await block(pool, "a")
        await block(pool, "a")


async def proxy(pool):
    async with await pool.connect() as conn:
        conn.execute()
        await asyncio.sleep(0)


async def proxy_that_is_closed(pool):
    conn = await pool.connect()
    try:
        conn.execute()
        await asyncio.sleep(0)
    finally:
        await conn.close()


async def everything_else(pool):
    await pool.drain()
    await pool.resize(1, 1)
    await pool.check()
    await pool.open()


WORKS = {
    "block": block, "keyed": lambda pool: block(pool, "a"), "failing": failing_block, "nested": nested_block,
    "proxy": proxy, "closed proxy": proxy_that_is_closed, "the rest": everything_else,
}  # fmt: skip


@pytest.mark.parametrize("begin", [idle, ping_due, in_line], ids=["idle", "ping due", "in line"])
@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
async def test_a_block_is_cancelled_at_each_step(awaited, begin, work):
    assert await at_each_step(lambda: begin(awaited), work) > (0 if work is everything_else else 4)
    assert awaited.most == 1


async def test_a_commit_that_is_cancelled_has_the_connection_closed_and_not_committed_again(awaited):
    async with awaited.pool(1, 1) as pool:
        awaited.hold("commit")
        task = await begun(block(pool), 12)
        (conn,) = awaited.open
        task.cancel()
        await asyncio.wait({task})
        awaited.release("commit")
        await rested(pool)
        assert (conn.closed, conn.commits) == (True, 0)
        await lease_all(pool)


@pytest.mark.parametrize("key", [None, "a"])
@pytest.mark.parametrize("error", [None, ValueError("the block's own")], ids=["commits", "rolls back"])
async def test_a_block_is_cancelled_at_its_end_while_its_connection_is_closed_under_it(awaited, key, error):
    call = "rollback" if error else "commit"
    pool = awaited.pool(1, 1)
    awaited.hold(call)
    task = await begun(block(pool, key, error), 12)
    await pool.closeall()
    task.cancel()
    await asyncio.wait({task}, timeout=PATIENCE)
    assert task.cancelled(), "the cancel was swallowed"
    awaited.release(call)
    assert awaited.open == []


async def test_the_error_of_a_block_whose_connection_is_closed_under_it_is_told(awaited):
    pool = awaited.pool(1, 1)
    awaited.hold("rollback")
    task = await begun(block(pool, error=ValueError("the block's own")), 12)
    await pool.closeall()
    awaited.release("rollback")
    with pytest.raises(ValueError, match="own"):
        await task


@pytest.mark.parametrize("how", ["close", "closeall"])
async def test_close_that_is_cancelled_closes_all_the_same(awaited, how):
    for steps in range(12):
        pool = awaited.pool(2, 3)
        await pool.open()
        held = await pool.getconn()
        closing = await begun(getattr(pool, how)(), steps)
        closing.cancel()
        await asyncio.wait({closing})
        if steps:
            await rested(pool)
            assert held.closed
            assert awaited.open == []
        await pool.close(timeout=0)
