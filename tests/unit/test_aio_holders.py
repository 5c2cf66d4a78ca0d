"""AsyncConnectionPool: which tasks hold connections or wait for one, where they stand, and who leaked one."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import warnings

import pytest
from fakes import Recorder
from loops import soon

from dbpool import PoolTimeout, dump

from .awaiting import begun, lease_all

HERE = r"test_aio_holders\.py:\d+ in "


@pytest.fixture
def dropping(awaited):
    """A driver that does not keep what it makes alive."""
    awaited.keep = False
    return awaited


async def hold(pool, go, key=None):
    conn = await pool.getconn(key)
    await stand_here(go)
    await pool.putconn(conn)


async def stand_here(go):
    await go.wait()


def named(work, name):
    task = asyncio.ensure_future(work)
    task.set_name(name)
    return task


# ---- who holds, who waits ------------------------------------------------------------------------------------------


async def test_holders_and_waiters_are_tasks_by_their_names(awaited):
    go = asyncio.Event()
    async with awaited.pool(0, 2) as pool:
        tasks = [named(hold(pool, go, key), name) for name, key in (("a", None), ("b", "key"), ("c", None))]
        await soon(lambda: (len(pool.holders()), len(pool.waiters())) == (2, 1))
        assert [(user.task, user.key, user.thread, user.thread_id) for user in pool.holders()] == [
            ("a", None, None, None),
            ("b", "key", None, None),
        ]
        assert [user.task for user in pool.waiters()] == ["c"]
        await soon(lambda: all(re.search(HERE + "stand_here$", user.at) for user in pool.holders()))
        assert re.search(HERE + "hold$", pool.waiters()[0].at)
        assert re.match(r"task 'a' for 0\.\d s, now at .*" + HERE + "stand_here$", str(pool.holders()[0]))
        go.set()
        await asyncio.gather(*tasks)
        assert pool.holders() == pool.waiters() == []


async def test_a_time_out_names_the_tasks_that_hold_and_where_they_stand(awaited):
    go = asyncio.Event()
    async with awaited.pool(0, 1) as pool:
        holding = named(hold(pool, go), "the one")
        await soon(pool.holders)
        with pytest.raises(
            PoolTimeout, match=r"; held by task 'the one' for 0\.\d s, now at .*" + HERE + "stand_here$"
        ):
            await pool.getconn(timeout=0.01)
        go.set()
        await holding


async def test_a_holder_that_has_ended_is_said_to_have(awaited):
    async with awaited.pool(0, 1) as pool:
        conn = await asyncio.ensure_future(pool.getconn())
        with pytest.raises(PoolTimeout, match="held by a task which has ended for"):
            await pool.getconn(timeout=0.01)
        await pool.putconn(conn)


async def test_what_holds_is_found_behind_the_pool_and_the_library(awaited):
    """Where a task stands is a place of the program's."""
    go = asyncio.Event()

    async def hold_in_a_block():
        async with pool.connection():
            await asyncio.wait_for(asyncio.shield(go.wait()), 5)

    async with awaited.pool(0, 1) as pool:
        task = await begun(hold_in_a_block(), 8)
        (user,) = pool.holders()
        assert re.search(HERE + "hold_in_a_block$", user.at)
        go.set()
        await task


async def test_with_trace_it_is_told_where_each_was_got(awaited):
    """Whether it came at once or had to be waited for."""
    go = asyncio.Event()

    async def wait_for_one():
        async with pool.connection():
            await go.wait()

    async with awaited.pool(0, 2, trace=True) as pool:
        await lease_all(pool)
        conn, task = await pool.getconn(), await begun(wait_for_one())
        found = [user.site.rsplit(" ", 1)[1] for user in pool.holders()]
        assert found == ["test_with_trace_it_is_told_where_each_was_got", "wait_for_one"]
        assert all(re.search(HERE, user.site) for user in pool.holders())
        later = await begun(wait_for_one())
        await pool.putconn(conn)
        await soon(lambda: [user.site.rsplit(" ", 1)[1] for user in pool.holders()] == ["wait_for_one"] * 2)
        go.set()
        await asyncio.gather(task, later)


async def test_a_dump_tells_of_tasks(awaited, tmp_path):
    go = asyncio.Event()
    async with awaited.pool(0, 1, name="dumped") as pool:
        tasks = [named(hold(pool, go), "one"), named(hold(pool, go), "two")]
        await soon(lambda: pool.holders() and pool.waiters())
        path = tmp_path / "dump"
        with path.open("w") as file:
            await asyncio.get_running_loop().run_in_executor(None, dump, file)
        text = path.read_text()
        assert re.search(
            r"AsyncConnectionPool 'dumped' 1 used.*\n  held by task 'one' .*stand_here\n  waiting: task 'two'", text
        )
        go.set()
        await asyncio.gather(*tasks)


# ---- leaks ---------------------------------------------------------------------------------------------------------


async def get_and_forget(pool):
    conn = await pool.getconn()
    conn.execute()


async def forget(pool, times):
    for _ in range(times):
        await asyncio.ensure_future(get_and_forget(pool))
    await lease_all(pool)


async def test_a_connection_that_is_dropped_frees_its_slot_with_one_warning(dropping, caplog):
    async with dropping.pool(0, 1) as pool:
        await get_and_forget(pool)
        with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING, "dbpool"):
            warnings.simplefilter("always")
            await lease_all(pool)
        assert [str(warning.message) for warning in caught if "dropped without putconn" in str(warning.message)] == [
            caplog.records[0].getMessage()
        ]
        assert re.search(r"0\.\d s after task 'Task-\d+' got it$", caplog.records[0].getMessage())
        assert pool.stats().discards == {"dropped": 1}


async def test_so_does_a_task_that_ends_with_one(dropping):
    async with dropping.pool(0, 2) as pool:
        with pytest.warns(ResourceWarning, match="after a task which has ended got it"):
            await forget(pool, 5)
        assert pool.stats().discards == {"dropped": 5}


async def test_so_does_a_task_that_fails_with_one(dropping, heartbeat, monkeypatch):
    """Its traceback holds the connection, and they may be a cycle."""
    monkeypatch.setattr("dbpool.pool.COLLECT_EVERY", 0.0)

    async def fail():
        conn = await pool.getconn()
        try:
            raise ValueError(conn)
        except ValueError as exc:
            kept = exc
            raise kept from None

    async with dropping.pool(0, 1) as pool:
        gc.disable()
        try:
            with pytest.raises(ValueError, match="FakeConnection"):
                await asyncio.ensure_future(fail())
            with pytest.warns(ResourceWarning, match="dropped without putconn"):
                conn = await pool.getconn(timeout=5)
        finally:
            gc.enable()
        assert conn.number == 2
        await pool.putconn(conn)


async def test_so_does_one_that_is_cancelled_with_one(dropping):
    async def get_and_sleep():
        conn = await pool.getconn()
        await asyncio.sleep(60)
        await pool.putconn(conn)

    async with dropping.pool(0, 1) as pool:
        task = await begun(get_and_sleep(), 8)
        task.cancel()
        await asyncio.wait({task})
        del task
        with pytest.warns(ResourceWarning, match="dropped without putconn"):
            await lease_all(pool)


async def test_who_waits_is_given_the_slot_of_a_dropped_one_within_a_heartbeat(dropping, heartbeat):
    async with dropping.pool(0, 1) as pool:
        held = [await pool.getconn()]
        waiting = await begun(pool.getconn(timeout=5))
        held.clear()
        with pytest.warns(ResourceWarning):
            assert (await waiting).number == 2
        await pool.putconn(await waiting)


async def test_a_lease_that_lasts_too_long_is_told_once_with_its_task(awaited, caplog):
    recorder, go = Recorder(), asyncio.Event()
    async with awaited.pool(0, 1, leak_threshold=0.02, listener=recorder) as pool:
        task = named(hold(pool, go), "slow")
        with caplog.at_level(logging.WARNING, "dbpool"):
            await soon(lambda: "leaked" in recorder.names)
            await asyncio.sleep(0.05)
        go.set()
        await task
    ((_, user),) = [event for event in recorder.events if event[0] == "leaked"]
    assert (user.task, user.thread) == ("slow", None)
    (record,) = [record for record in caplog.records if "leak_threshold" in record.getMessage()]
    assert re.search(r"by task 'slow' for 0\.\d s, now at .*" + HERE + "stand_here$", record.getMessage())
