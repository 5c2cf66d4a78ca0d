"""AsyncConnectionProxy: an awaited close gives the connection back; so does dropping it, wherever that happens."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading

import pytest
from fakes import FakeConnection, FakeConnector, OperationalError

from dbpool import AsyncConnectionPool, PoolClosed, PoolError, PoolTimeout

from .awaiting import begun, lease_all, rested

GIVEN_BACK = "connection is closed: it was given back to the pool"


async def test_it_is_used_as_the_drivers_own_and_close_gives_it_back(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        (raw,) = awaited.open
        assert conn.raw is raw
        assert (conn.number, conn.color, conn.closed) == (1, "white", False)
        conn.color = "red"
        assert raw.color == "red"
        conn.execute()
        await conn.close()
        assert (raw.rollbacks, raw.commits, raw.color, raw.closes) == (1, 0, "white", 0)
        assert pool.stats().idle == 1
        await lease_all(pool)


async def test_closed_it_refuses_everything_but_another_close(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        await conn.close()
        await conn.close()
        await conn.invalidate()
        assert conn.closed
        for name in ("number", "raw", "execute"):
            with pytest.raises(PoolError, match=GIVEN_BACK):
                getattr(conn, name)
        for awaitable in (conn.commit, conn.rollback, conn.__aenter__):
            with pytest.raises(PoolError, match=GIVEN_BACK):
                await awaitable()
        await lease_all(pool)


async def test_closed_late_it_leaves_alone_who_has_the_connection_by_then(awaited):
    async with awaited.pool(0, 1) as pool:
        late = await pool.connect()
        await pool.putconn(late.raw)
        other = await pool.connect()
        await late.close()
        assert pool.stats().used == 1
        await other.close()


async def test_invalidate_closes_the_connection_itself(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        raw = conn.raw
        await conn.invalidate()
        await rested(pool)
        assert raw.closed
        assert pool.stats().discards == {"closed by the caller": 1}
        await lease_all(pool)


async def test_async_with_commits_and_gives_back(awaited):
    async with awaited.pool(0, 1) as pool:
        async with await pool.connect() as conn:
            conn.execute()
            raw = conn.raw
        assert (raw.commits, raw.rollbacks, conn.closed, pool.stats().idle) == (1, 0, True, 1)


async def test_async_with_rolls_back_after_an_error(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        raw = conn.raw
        with pytest.raises(ZeroDivisionError):
            async with conn:
                raise conn.execute() or ZeroDivisionError
        assert (raw.commits, raw.rollbacks, conn.closed, pool.stats().idle) == (0, 1, True, 1)


async def test_a_block_whose_proxy_was_closed_in_it_is_left_quietly(awaited):
    async with awaited.pool(0, 1) as pool, await pool.connect() as conn:
        await conn.close()


async def test_commit_and_rollback_are_awaited_where_calls_are_made_in_threads_too(driver):
    threads = []

    class Noting(FakeConnection):
        def commit(self):
            threads.append(threading.get_ident())
            super().commit()

    async with AsyncConnectionPool(0, 1, connect=FakeConnector(lambda: Noting(1))) as pool:
        conn = await pool.connect()
        conn.execute()
        await conn.commit()
        conn.execute()
        await conn.rollback()
        assert (conn.commits, conn.rollbacks) == (1, 1)
        assert threading.get_ident() not in threads
        await conn.close()


async def test_with_is_refused(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        with pytest.raises(TypeError, match="async with"):
            with conn:
                pass
        await conn.close()


async def test_it_waits_and_fails_as_getconn_does(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        with pytest.raises(PoolTimeout):
            await asyncio.ensure_future(pool.connect(timeout=0.01))
        await conn.close()
    with pytest.raises(PoolClosed):
        await pool.connect()


async def test_it_can_be_neither_copied_nor_pickled(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        for spread in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot copy or pickle"):
                spread(conn)
        await conn.close()


# ---- dropped -------------------------------------------------------------------------------------------------------


async def test_a_dropped_proxy_gives_the_connection_back_clean_and_nobody_is_warned(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        conn.execute()
        del conn
        await asyncio.sleep(0)
        await rested(pool)
        (raw,) = awaited.open
        assert (raw.rollbacks, pool.stats().idle, pool.stats().discards) == (1, 1, {})
        await lease_all(pool)


async def test_so_does_one_that_another_thread_drops(awaited):
    """As the garbage collector does, which runs in any thread."""
    async with awaited.pool(0, 1) as pool:
        held = [await pool.connect()]
        held[0].execute()
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        conn = await asyncio.wait_for(pool.getconn(), 5)
        assert (conn.number, conn.rollbacks) == (1, 1)
        await pool.putconn(conn)


async def test_so_does_one_in_a_cycle(awaited):
    async with awaited.pool(0, 1) as pool:
        gc.disable()
        try:
            cycle = [await pool.connect()]
            cycle.append(cycle)
            del cycle
            gc.collect()
        finally:
            gc.enable()
        assert (await asyncio.wait_for(pool.getconn(), 5)).number == 1
        await pool.closeall()


async def test_a_dropped_proxy_serves_who_waits(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        waiting = await begun(pool.getconn())
        del conn
        assert (await waiting).number == 1
        await pool.putconn(await waiting)


async def test_one_that_was_closed_gives_nothing_back_again_when_it_is_dropped(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await pool.connect()
        await conn.close()
        held = await pool.getconn()
        del conn
        await asyncio.sleep(0)
        assert pool.stats().used == 1
        await pool.putconn(held)


def test_one_that_outlives_its_loop_is_dropped_in_silence(awaited):
    async def work():
        pool = awaited.pool(0, 1)
        return pool, await pool.connect()

    pool, conn = asyncio.run(work())
    del conn
    asyncio.run(lease_all(pool))
    asyncio.run(pool.close())


def test_what_connect_raises_is_the_drivers(awaited):
    awaited.fail_on = {1}

    async def work():
        async with awaited.pool(0, 1) as pool:
            with pytest.raises(OperationalError, match="connect 1 refused"):
                await pool.connect()
            await lease_all(pool)

    asyncio.run(work())
