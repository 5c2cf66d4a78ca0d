"""AsyncConnectionPool: how it begins and ends, which loops it lives in, and what it has in common with the others."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys

import pytest
from fakes import OperationalError

from dbpool import AsyncConnectionPool, PoolClosed, PoolTimeout, ThreadedConnectionPool

from .awaiting import begun, lease_all, rested
from .threads import Caller

# ---- the constructor -----------------------------------------------------------------------------------------------


def test_the_constructor_needs_no_loop_and_opens_nothing(awaited):
    pool = awaited.pool(3, 3)
    assert (awaited.calls, pool.stats().size, pool.closed) == (0, 0, False)
    assert repr(pool).startswith("<AsyncConnectionPool ")


async def test_a_pool_made_outside_the_loop_is_used_in_it(awaited):
    pool = Caller(awaited.pool, 1, 2).result()
    await lease_all(pool)
    await pool.close()


async def test_the_first_use_opens_minconn(awaited):
    pool = awaited.pool(3, 4)
    conn = await pool.getconn()
    await rested(pool)
    assert (awaited.calls, pool.stats().idle) == (3, 2)
    await pool.putconn(conn)
    await pool.close()


async def test_the_first_use_of_a_lazy_pool_opens_one(awaited):
    async with awaited.pool(2, 3, start="lazy") as pool:
        assert awaited.calls == 0
        await pool.putconn(await pool.getconn())
        await rested(pool)
        assert awaited.calls == 1


# ---- open ----------------------------------------------------------------------------------------------------------


async def test_async_with_opens_minconn_and_closes(awaited):
    async with awaited.pool(2, 3) as pool:
        assert (awaited.calls, pool.stats().idle) == (2, 2)
    assert pool.closed
    assert awaited.open == []


async def test_async_with_closes_after_an_error_too(awaited):
    with pytest.raises(ZeroDivisionError):
        async with awaited.pool(2, 3):
            1 / 0  # noqa: B018
    assert awaited.open == []


@pytest.mark.parametrize("start", ["eager", "lazy", "background"])
@pytest.mark.parametrize("ready", [0, 1, 3])
async def test_open_waits_for_as_many_as_are_to_be_ready(awaited, start, ready):
    pool = awaited.pool(2, 4, start=start)
    await pool.open(ready)
    assert len(awaited.open) >= ready
    await rested(pool)
    assert len(awaited.open) == (ready if start == "lazy" else max(ready, 2))
    await pool.close()


@pytest.mark.parametrize("start", ["lazy", "background"])
async def test_open_waits_for_nothing_where_minconn_is_opened_otherwise(awaited, start):
    pool = awaited.pool(2, 4, start=start)
    awaited.hold("connect")
    await begun(pool.open())
    assert pool.stats().connecting == (0 if start == "lazy" else 2)
    awaited.release("connect")
    await rested(pool)
    await pool.close()


async def test_open_waits_for_what_is_being_opened_already(awaited):
    pool = awaited.pool(2, 4, start="background")
    await begun(pool.open())
    assert pool.stats().connecting == 2
    await pool.open(ready=2)
    assert pool.stats().idle == 2
    await pool.close()


async def test_open_does_not_wait_for_a_connect_that_hangs_once_enough_are_open(awaited):
    async with awaited.pool(1, 4) as pool:
        conn = await pool.getconn()
        awaited.hold("connect")
        slow = await begun(pool.getconn())
        await pool.open(ready=1)
        assert pool.stats().connecting == 1
        await pool.putconn(conn)
        await pool.putconn(await slow)
        awaited.release("connect")


async def test_open_raises_what_connect_raised_and_keeps_the_others(awaited):
    awaited.fail_on = {2}
    pool = awaited.pool(3, 3)
    with pytest.raises(OperationalError, match="connect 2 refused"):
        await pool.open()
    await rested(pool)
    assert [conn.number for conn in awaited.open] == [1, 3]
    await pool.open()
    assert pool.stats().idle == 3
    await pool.close()


async def test_open_raises_at_once_though_another_connect_hangs(awaited):
    real, hung = awaited.connect, asyncio.Event()

    async def connect():
        if awaited.calls == 1:
            awaited.calls += 1
            await hung.wait()
        return await real()

    awaited.connect, awaited.fail_on = connect, {1}
    pool = awaited.pool(2, 2)
    with pytest.raises(OperationalError):
        await pool.open()
    await pool.close(timeout=0)
    assert (pool.stats().size, pool._tasks) == (0, set())


async def test_open_that_is_cancelled_leaves_the_connections_to_the_pool(awaited):
    pool = awaited.pool(2, 2)
    awaited.hold("connect")
    opening = await begun(pool.open())
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    awaited.release("connect")
    await rested(pool)
    assert pool.stats().idle == 2
    await pool.close()


async def test_open_refuses_what_cannot_be(awaited):
    pool = awaited.pool(0, 2)
    for bad in (-1, 3, 1.0, "1", True):
        with pytest.raises((TypeError, ValueError), match="ready"):
            await pool.open(bad)
    assert awaited.calls == 0
    await pool.close()
    with pytest.raises(PoolClosed):
        await pool.open()


async def test_a_connect_that_hangs_fails_open_in_time(awaited):
    awaited.hold("connect")
    pool = awaited.pool(1, 1, connect_timeout=0.02)
    with pytest.raises(PoolTimeout, match="connect_timeout"):
        await pool.open()
    assert (pool.stats().size, pool.stats().aborted) == (0, 1)
    await pool.close()


async def test_close_ends_what_is_being_opened(awaited):
    pool = awaited.pool(2, 2, start="background")
    awaited.hold("connect")
    await pool.open()
    await pool.close(timeout=0)
    assert (pool.stats().size, pool._tasks) == (0, set())
    assert awaited.open == []


# ---- the interface -------------------------------------------------------------------------------------------------

AWAITED = {"getconn", "putconn", "connect", "open", "closeall", "close", "drain", "resize", "check"}
DIFFERENT = {"connect": {"key"}, "open": {"ready"}}  # a proxy has no key; a constructor that opens nothing needs open()
MORE = {"run"}  # what only it has


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_has_the_methods_of_the_threaded_pool():
    assert public(AsyncConnectionPool) == public(ThreadedConnectionPool) | MORE


@pytest.mark.parametrize("name", sorted(public(ThreadedConnectionPool) | {"__init__"}))
def test_its_methods_have_the_same_parameters(name):
    theirs, ours = getattr(ThreadedConnectionPool, name), getattr(AsyncConnectionPool, name)
    assert callable(theirs) == callable(ours)
    if callable(theirs):
        leave = DIFFERENT.get(name, set())
        expected, found = (
            {p.name: (p.kind, p.default) for p in inspect.signature(kind).parameters.values() if p.name not in leave}
            for kind in (theirs, ours)
        )
        assert list(found.items()) == list(expected.items())
        assert inspect.iscoroutinefunction(ours) is (name in AWAITED)


def test_its_views_are_the_same():
    for name in ("name", "minconn", "maxconn", "closed", "_pool", "_used", "_rused", "_keys", "_args", "_kwargs"):
        assert isinstance(getattr(AsyncConnectionPool, name), property)


async def test_with_is_refused_by_python_itself(awaited):
    with pytest.raises((TypeError, AttributeError)):
        with awaited.pool():
            pass
    with pytest.raises((TypeError, AttributeError)):
        with awaited.pool().connection():
            pass


# ---- by itself -----------------------------------------------------------------------------------------------------


def test_with_warnings_as_errors_and_asyncios_debug_mode_a_script_is_silent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import asyncio
from dbpool import AsyncConnectionPool

class Connection:
    async def close(self): await asyncio.sleep(0)

async def connect():
    await asyncio.sleep(0)
    return Connection()

async def work(pool):
    async with pool.connection():
        await asyncio.sleep(0)

async def main():
    async with AsyncConnectionPool(1, 2, connect=connect) as pool:
        await asyncio.gather(*[work(pool) for _ in range(20)])
    left_open = AsyncConnectionPool(1, 2, connect=connect)
    await left_open.putconn(await left_open.getconn())

asyncio.run(main())
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", str(script)],
        env={"PYTHONASYNCIODEBUG": "1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
