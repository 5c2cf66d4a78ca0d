"""A loop that is held up: by time.sleep() in a task, for one. What has come meanwhile counts; nothing is evicted."""

from __future__ import annotations

import asyncio
import time

import pytest

from dbpool import PoolTimeout

from .awaiting import AwaitedLines, begun, lease_all


def hold_up(seconds):
    """Have the loop do nothing else for so long."""
    time.sleep(seconds)


async def held_up_until(is_so):
    """Hold the loop up at each of its turns, until *is_so*()."""
    for _ in range(50):
        if is_so():
            return
        hold_up(0.11)
        await asyncio.sleep(0)
    raise AssertionError("not so after 50 turns")


@pytest.fixture
def lines():
    """A driver over sockets, whose server a test is."""
    lines = AwaitedLines()
    yield lines
    for line in lines.lines:
        line.end()


async def test_who_was_served_meanwhile_wins_over_its_time_out(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        waiting = await begun(pool.getconn(timeout=0.1))
        putting = asyncio.ensure_future(pool.putconn(conn))
        hold_up(0.4)  # the time-out has passed when the put begins
        assert await waiting is conn
        await putting
        assert pool.stats().timeouts == 0
        await pool.putconn(conn)


async def test_who_puts_just_after_it_serves_who_would_have_timed_out(awaited):
    """What others do after the loop went on comes first, for a moment."""
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()

        async def use():
            await asyncio.sleep(0.05)  # as for an answer that came while the loop was held up
            await asyncio.sleep(0)
            await pool.putconn(conn)

        using, waiting = await begun(use()), await begun(pool.getconn(timeout=0.1))
        hold_up(0.4)
        assert await waiting is conn
        await using
        await pool.putconn(conn)


async def test_a_loop_that_is_held_up_again_and_again_delays_a_time_out_once(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        waiting = await begun(pool.getconn(timeout=0.1))
        times = 0
        while not waiting.done():
            hold_up(0.15)
            times += 1
            assert times < 10
            await asyncio.sleep(0)
        with pytest.raises(PoolTimeout):
            await waiting
        await pool.putconn(conn)


async def test_a_loop_that_is_held_up_costs_no_connection(awaited):
    """Neither the idle ones, nor those that are pinged or opened at that moment."""
    options = {"check_timeout": 0.1, "connect_timeout": 0.1, "max_lifetime": 60.0, "idle_timeout": 30.0}
    async with awaited.pool(4, 6, ping_after=0, **options) as pool:
        conns = set(await lease_all(pool))
        pinging = [await begun(pool.getconn()) for _ in range(3)]
        hold_up(0.4)
        for task in pinging:
            await pool.putconn(await task)
        await pool.drain()
        opening = await begun(pool.getconn(timeout=5))
        hold_up(0.4)
        conn = await opening
        assert conn not in conns
        await pool.putconn(conn)
        assert (pool.stats().aborted, pool.stats().connect_errors) == (0, 0)
        assert set(pool.stats().discards) == {"drained"}


@pytest.mark.parametrize("turns", [2, 3, 4])
async def test_a_loop_that_is_held_up_twice_costs_no_connection(awaited, turns):
    """What has come is read in one turn, and told on in the next ones: the second time may fall between."""
    awaited.steps = 10
    async with awaited.pool(1, 1, ping_after=0, check_timeout=0.1) as pool:
        (conn, *_) = await lease_all(pool)
        pinging = await begun(pool.getconn())
        hold_up(0.3)
        for _ in range(turns):
            await asyncio.sleep(0)
        hold_up(0.15)
        assert await pinging is conn
        await pool.putconn(conn)
        assert pool.stats().discards == {}


@pytest.mark.parametrize("turns", [2, 3, 4])
async def test_an_answer_that_was_read_before_it_is_held_up_again_counts(lines, turns):
    async with lines.pool(1, 1, ping_after=0, check_timeout=0.1) as pool:
        pinging = await begun(pool.getconn())
        lines.lines[0].peer.send(b"1")
        hold_up(0.3)
        for _ in range(turns):
            await asyncio.sleep(0)
        hold_up(0.15)
        assert await pinging is lines.lines[0]
        await pool.putconn(lines.lines[0])
        assert pool.stats().discards == {}


async def test_a_line_that_does_not_answer_is_cut_off_however_often_the_loop_is_held_up(lines):
    async with lines.pool(1, 1, ping_after=0, check_timeout=0.1) as pool:
        pinging = await begun(pool.getconn(timeout=1))
        await held_up_until(lambda: pool.stats().discards)
        pinging.cancel()
        await asyncio.wait({pinging})
        assert pool.stats().discards["lost"] == 1


async def test_who_does_not_answer_is_cut_off_however_often_the_loop_is_held_up(awaited):
    async with awaited.pool(1, 1, ping_after=0, check_timeout=0.1) as pool:
        await lease_all(pool)
        awaited.hold("ping")
        pinging = await begun(pool.getconn())
        await held_up_until(lambda: pool.stats().discards)
        awaited.release("ping")
        await pool.putconn(await pinging)
        assert pool.stats().discards == {"lost": 1}
