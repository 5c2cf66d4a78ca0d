"""AsyncConnectionPool: who has no time left for a ping, and finds only connections that are in doubt."""

from __future__ import annotations

import asyncio

import pytest

from dbpool import PoolTimeout

from .awaiting import begun, lease_all, rested
from .threads import PATIENCE


@pytest.mark.parametrize("timeout", [0.02, 0.1])
async def test_who_has_no_time_to_ask_what_is_in_doubt_times_out_if_nobody_answers(awaited, timeout):
    async with awaited.pool(0, 1, check_timeout=0.3) as pool:
        await lease_all(pool)
        pool._state.doubt()
        awaited.hold("ping")
        with pytest.raises(PoolTimeout):
            await asyncio.wait_for(pool.getconn(timeout=timeout), PATIENCE)
        assert pool.stats().waiting == 0
        awaited.release("ping")
        await rested(pool)
        await lease_all(pool)


async def test_what_is_in_doubt_is_asked_for_who_has_no_time_to_ask(awaited):
    async with awaited.pool(0, 2) as pool:
        await lease_all(pool)
        for _ in range(3):
            pool._state.doubt()
            conns = [await pool.getconn(timeout=0.15) for _ in range(2)]
            for conn in conns:
                await pool.putconn(conn)
        assert pool.stats().opened == 2
        assert sum(conn.pings for conn in awaited.made) == 6


async def test_who_shares_a_key_and_has_no_time_times_out_too(awaited):
    async with awaited.pool(0, 1) as pool:
        await lease_all(pool)
        pool._state.doubt()
        awaited.hold("ping")
        patient = await begun(pool.getconn("key"))
        with pytest.raises(PoolTimeout):
            await asyncio.wait_for(pool.getconn("key", timeout=0.05), PATIENCE)
        awaited.release("ping")
        await pool.putconn(await patient, "key")
        await lease_all(pool)
