"""Cancellation from outside: wait_for, and time-outs. No slot is lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from dbpool import PoolTimeout

from .awaiting import lease_all

# ---- wait_for ------------------------------------------------------------------------------------------------------


async def test_wait_for_ends_in_its_time_and_leaves_nothing_behind(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await asyncio.ensure_future(pool.getconn())  # whose task has ended: it is no deadlock
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.getconn(), 0.1)
            assert 0.09 < time.monotonic() - began < 1.5
        assert (pool.stats().waiting, pool.stats().timeouts) == (0, 0)
        await pool.putconn(conn)
        await lease_all(pool)


async def test_wait_for_ends_in_its_time_though_the_server_does_not_answer(awaited):
    async with awaited.pool(1, 1, ping_after=0, connect_timeout=None, check_timeout=None) as pool:
        for call in ("ping", "connect"):
            awaited.hold(call)
            began = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.getconn(), 0.1)
            assert time.monotonic() - began < 1.5
        for call in ("ping", "connect"):
            awaited.release(call)
        await lease_all(pool)


async def test_what_comes_at_the_very_moment_of_the_time_out_is_not_lost(awaited):
    async with awaited.pool(1, 1) as pool:
        for number in range(40):
            conn = await pool.getconn()
            getting = asyncio.ensure_future(asyncio.wait_for(pool.getconn(), 0.002))
            await asyncio.sleep(0.001 + number / 20_000)
            await pool.putconn(conn)
            try:
                await pool.putconn(await getting)
            except asyncio.TimeoutError:
                pass
            assert pool.stats().used == 0
        await lease_all(pool)


async def test_a_time_out_of_the_pools_own_leaves_nothing_behind(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        results = await asyncio.gather(*[pool.getconn(timeout=0.02) for _ in range(50)], return_exceptions=True)
        assert {isinstance(result, PoolTimeout) for result in results} == {True}
        assert (pool.stats().timeouts, pool.stats().waiting) == (50, 0)
        await pool.putconn(conn)
