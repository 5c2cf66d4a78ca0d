"""AsyncConnectionPool beside threads that share its Limiter, beside other loops, and in a process that forks."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading

import pytest
from fakes import FakeConnector, FakeDriver
from forking import IN_CHILD
from loops import soon

from dbpool import Limiter, PoolDeadlock, PoolExhausted, PoolTimeout, ThreadedConnectionPool

from .awaiting import AwaitedDriver, begun, lease_all, rested
from .checks import adds_up
from .threads import Caller, eventually


@pytest.fixture
def limiter():
    return Limiter(2)


@pytest.fixture
def threaded(driver, limiter):
    """A pool for threads, under the limiter."""
    options = {"limiter": limiter, "timeout": 60, "detect_deadlock": False}
    pool = ThreadedConnectionPool(0, 2, connect=FakeConnector(driver.connect), config=options)
    yield pool
    pool.close(timeout=0)


# ---- a limiter that threads and tasks share ------------------------------------------------------------------------


async def test_the_limit_holds_for_threads_and_tasks_together(awaited, threaded, limiter):
    async with awaited.pool(0, 2, limiter=limiter) as pool:
        conn, other = threaded.getconn(), await pool.getconn()
        assert limiter.used == 2
        with pytest.raises(PoolExhausted, match="2 of 2 under its limiter"):
            await pool.getconn(timeout=0)
        with pytest.raises(PoolExhausted, match="2 of 2 under its limiter"):
            threaded.getconn(timeout=0)
        threaded.putconn(conn)
        await pool.putconn(other)


async def test_a_task_is_given_the_place_of_what_lies_idle_in_the_pool_of_threads(awaited, threaded, limiter, driver):
    for conn in [threaded.getconn() for _ in range(2)]:
        threaded.putconn(conn)
    async with awaited.pool(0, 2, limiter=limiter) as pool:
        conn = await pool.getconn(timeout=5)
        assert (len(driver.open), limiter.used) == (1, 2)
        assert threaded.stats().discards == {"limiter": 1}
        await pool.putconn(conn)


async def test_and_a_thread_that_of_what_lies_idle_in_the_loop(awaited, threaded, limiter):
    async with awaited.pool(2, 2, limiter=limiter) as pool:
        caller = Caller(threaded.getconn)
        await soon(lambda: caller.ended)
        assert (len(awaited.open), limiter.used, pool.stats().discards) == (1, 2, {"limiter": 1})
        threaded.putconn(caller.result())


@pytest.mark.parametrize("timeout", [0, 5])
async def test_also_who_does_not_wait_is_given_what_lies_idle_in_another_pool_of_the_loop(awaited, limiter, timeout):
    other = AwaitedDriver(steps=3)
    async with other.pool(2, 2, limiter=limiter), awaited.pool(0, 2, limiter=limiter) as pool:
        conn = await pool.getconn(timeout=timeout)
        assert (len(other.open), conn.number) == (1, 1)
        await pool.putconn(conn)


async def test_what_a_thread_puts_serves_a_task_that_waits_and_the_other_way_round(awaited, threaded, limiter):
    async with awaited.pool(0, 2, limiter=limiter) as pool:
        held = [threaded.getconn() for _ in range(2)]
        waiting = await begun(pool.getconn(timeout=5))
        threaded.putconn(held.pop())
        conn = await waiting
        caller = Caller(threaded.getconn)
        await soon(lambda: threaded.stats().waiting)
        await pool.putconn(conn)
        await soon(lambda: caller.ended)
        threaded.putconn(caller.result())
        threaded.putconn(held.pop())
        assert limiter.used <= 2


async def test_first_come_first_served_across_threads_and_tasks(awaited, threaded, limiter):
    served = []

    async def task(number):
        conn = await pool.getconn(timeout=10)
        served.append(number)
        await pool.putconn(conn)

    def thread(number):
        conn = threaded.getconn(timeout=10)
        served.append(number)
        threaded.putconn(conn)

    async with awaited.pool(0, 2, limiter=limiter) as pool:
        held = [await pool.getconn(), await pool.getconn()]
        tasks, callers = [], []
        for number in range(6):
            if number % 2:
                waiting = threaded.stats().waiting
                callers.append(Caller(thread, number))
                await soon(lambda waiting=waiting: threaded.stats().waiting > waiting)
            else:
                tasks.append(await begun(task(number)))
        await pool.putconn(held.pop())
        await asyncio.gather(*tasks)
        await soon(lambda: all(caller.ended for caller in callers))
        assert served == list(range(6))
        await pool.putconn(held.pop())


async def test_a_closed_pool_gives_way(awaited, threaded, limiter):
    pool = awaited.pool(2, 2, limiter=limiter)
    await pool.open()
    leased = await pool.getconn()
    caller = Caller(lambda: [threaded.getconn() for _ in range(2)])
    await soon(lambda: threaded.stats().waiting)
    await pool.closeall()
    await soon(lambda: caller.ended)
    assert leased.closed
    for conn in caller.result():
        threaded.putconn(conn)


def test_many_threads_and_tasks_never_open_more_and_all_are_served(awaited, driver):
    limiter = Limiter(3)
    options = {"limiter": limiter, "timeout": 30, "detect_deadlock": False}
    threaded = ThreadedConnectionPool(0, 3, connect=FakeConnector(driver.connect), config=options)
    most = []

    def count():
        most.append(len(driver.open) + len(awaited.open))

    def thread(seed):
        chance = random.Random(seed)
        for _ in range(60):
            conn = threaded.getconn()
            count()
            threaded.putconn(conn, close=chance.random() < 0.2)

    async def task(pool, seed):
        chance = random.Random(seed)
        for _ in range(60):
            conn = await pool.getconn()
            count()
            await asyncio.sleep(0)
            await pool.putconn(conn, close=chance.random() < 0.2)

    async def work():
        async with awaited.pool(0, 3, **options) as pool:
            callers = [Caller(thread, seed) for seed in range(3)]
            await asyncio.gather(*[task(pool, seed) for seed in range(8)])
            await soon(lambda: all(caller.ended for caller in callers))
            for caller in callers:
                caller.result()
            await rested(pool)
            assert adds_up(pool)

    asyncio.run(work())
    assert max(most) <= 3
    eventually(lambda: adds_up(threaded))
    threaded.close()
    assert limiter.used == 0


async def test_a_task_that_times_out_is_not_waited_for_any_more(awaited, threaded, limiter):
    held = [threaded.getconn() for _ in range(2)]
    async with awaited.pool(0, 2, limiter=limiter) as pool:
        with pytest.raises(PoolTimeout, match="2 of 2 under its limiter"):
            await pool.getconn(timeout=0.02)
        threaded.putconn(held[0])
        assert threaded.getconn() is held[0]
        for conn in held:
            threaded.putconn(conn)


def test_two_loops_share_a_limiter(limiter):
    """Each in a thread of its own."""

    async def work(driver):
        async with driver.pool(0, 2, limiter=limiter, timeout=20) as pool:
            for _ in range(100):
                conn = await pool.getconn()
                await asyncio.sleep(0)
                await pool.putconn(conn)
            return pool.stats().leases

    callers = [Caller(asyncio.run, work(AwaitedDriver())) for _ in range(2)]
    assert [caller.result(20) for caller in callers] == [100, 100]
    assert limiter.used == 0


# ---- asked from another thread --------------------------------------------------------------------------------------


async def test_stats_and_holders_may_be_asked_from_any_thread(awaited):
    async with awaited.pool(0, 2) as pool:
        conn = await pool.getconn()
        for look in (pool.stats, pool.holders, pool.waiters, lambda: repr(pool)):
            caller = Caller(look)
            await soon(lambda caller=caller: caller.ended)
            assert caller.result() is not None
        assert Caller(pool.holders).result()[0].task == asyncio.current_task().get_name()
        await pool.putconn(conn)


# ---- fork ----------------------------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

SCRIPT = (
    IN_CHILD
    + """
import asyncio
sys.path[:0] = sys.argv[1:]
from unit.awaiting import AwaitedLines, lease_all
from dbpool import Limiter, PoolError

lines, limiter = AwaitedLines(), Limiter(3)
pool = lines.pool(2, 3, check_after=0, limiter=limiter)

async def child():
    before = set(lines.lines)
    assert not before & set(await lease_all(pool))
    try:
        await pool.putconn(leased)
    except PoolError as exc:
        assert "before this process was forked" in str(exc), exc
    else:
        raise AssertionError("the parent's lease was taken")
    await pool.close()

def work():
    assert (pool.stats().size, limiter.used) == (0, 0)
    asyncio.run(child())

async def parent():
    global leased
    await pool.open()
    leased = await pool.getconn()
    idle = pool._pool
    in_child(work)
    for line in (leased, *idle):
        line.peer.setblocking(False)
        try:
            raise AssertionError(f"the child has sent {line.peer.recv(1)!r}")
        except BlockingIOError:
            pass
    assert pool.stats().discards == {}
    idle[0].peer.close()
    for _ in range(1000):  # the parent's watch is as it was
        await asyncio.sleep(0.005)
        if pool.stats().discards == {"lost": 1}:
            break
    else:
        raise AssertionError(pool.stats())
    await pool.putconn(leased)
    await pool.close()

asyncio.run(parent())
"""
)


@needs_fork
def test_a_child_begins_anew_and_does_nothing_to_what_is_its_parents():
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:This process:DeprecationWarning",
            "-W",
            "ignore::ResourceWarning",
            "-c",
            SCRIPT,
            *sys.path,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pool_of_a_closed_loop_is_renewed_after_a_fork_as_well(awaited):
    """Called here in the parent."""
    pool = awaited.pool(1, 2)
    asyncio.run(lease_all(pool))
    pool._renew_after_fork()
    assert (pool.stats().size, pool._loop, pool._keeper) == (0, None, None)
    asyncio.run(lease_all(pool))
    asyncio.run(pool.close())


# ---- deadlocks under a limiter -------------------------------------------------------------------------------------


def test_all_tasks_that_wait_for_a_limiter_in_several_pools_are_told(awaited):
    async def scenario():
        limiter = Limiter(2)
        options = {"limiter": limiter, "timeout": 60, "detect_deadlock": True}
        async with awaited.pool(0, 2, **options) as first, awaited.pool(0, 2, **options) as second:
            held = [await first.getconn(), await second.getconn()]
            with pytest.raises(PoolDeadlock, match="2 of 2 under its limiter"):
                await second.getconn()
            await first.putconn(held[0])
            await second.putconn(held[1])

    asyncio.run(scenario())


async def test_a_thread_under_the_same_limiter_may_put_its_connection(awaited):
    limiter = Limiter(1)
    threaded = ThreadedConnectionPool(0, 1, connect=FakeConnector(FakeDriver().connect), config={"limiter": limiter})
    async with awaited.pool(0, 1, limiter=limiter, timeout=60, detect_deadlock=True) as pool:
        conn = threaded.getconn()
        waiting = asyncio.ensure_future(pool.getconn())
        await soon(pool.waiters)
        threading.Timer(0.05, threaded.putconn, [conn, None, True]).start()
        await pool.putconn(await waiting)
    threaded.close()
