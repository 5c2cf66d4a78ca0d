"""AsyncConnectionPool: the queue of tasks, keys that they share, deadlocks, and a loop that is held up."""

from __future__ import annotations

import asyncio
import time

import pytest

from dbpool import PoolDeadlock, PoolError, PoolExhausted, PoolTimeout

from .awaiting import begun, lease_all, rested
from .threads import PATIENCE

# ---- first come, first served --------------------------------------------------------------------------------------


async def test_tasks_are_served_in_the_order_in_which_they_came(awaited):
    served = []

    async def work(number):
        conn = await pool.getconn()
        served.append(number)
        await asyncio.sleep(0)
        await pool.putconn(conn)

    async with awaited.pool(1, 3) as pool:
        await asyncio.gather(*map(work, range(200)))
        assert served == list(range(200))
        assert awaited.most == 3


async def test_a_newcomer_does_not_overtake_who_was_just_given_one(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        waiting = await begun(pool.getconn())
        await pool.putconn(conn)  # it is given to the task, which has not run since
        newcomer = await begun(pool.getconn())
        assert await waiting is conn
        assert not newcomer.done()
        await pool.putconn(conn)
        assert await newcomer is conn
        await pool.putconn(conn)


async def test_a_hit_needs_no_step_of_the_loop(awaited):
    async with awaited.pool(1, 1) as pool:
        await lease_all(pool)
        for _ in range(3):
            getting = pool.getconn()
            with pytest.raises(StopIteration) as ended:
                getting.send(None)
            putting = pool.putconn(ended.value.value)
            with pytest.raises(StopIteration):
                putting.send(None)


async def test_who_waits_wakes_by_itself_though_nobody_woke_it(awaited, heartbeat):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        waiting = await begun(pool.getconn(timeout=PATIENCE))
        pool._leases.pop(id(conn))
        pool._idle.append(conn)  # as if what comes after it had been cut off
        assert await waiting is conn
        await pool.putconn(conn)


async def test_many_time_outs_at_once_each_come_in_time(awaited):
    async with awaited.pool(1, 1) as pool:
        conn, began, ended = await pool.getconn(), time.monotonic(), []

        async def wait(seconds):
            with pytest.raises(PoolTimeout, match=f"within {seconds:g} s"):
                await pool.getconn(timeout=seconds)
            ended.append((seconds, time.monotonic() - began))

        await asyncio.gather(*[wait(0.02 * number) for number in (5, 1, 3, 2, 4)])
        assert all(seconds * 0.9 <= took < seconds + 1.5 for seconds, took in ended)
        await pool.putconn(conn)


# ---- keys ----------------------------------------------------------------------------------------------------------


async def test_tasks_share_the_connection_of_a_key_and_the_last_block_commits(awaited):
    async def work(key):
        async with pool.connection(key) as conn:
            conn.execute()
            await everybody.wait()
            return conn

    everybody = asyncio.Event()
    async with awaited.pool(0, 3) as pool:
        tasks = [await begun(work(key), 8) for key in ("a", "b", "a", "a")]
        everybody.set()
        conns = await asyncio.gather(*tasks)
        assert conns[0] is conns[2] is conns[3] is not conns[1]
        assert [conn.commits for conn in conns[:2]] == [1, 1]
        assert (pool.stats().used, pool.stats().leases) == (0, 2)


async def looked_at(awaited, pool):
    """Two tasks want the connection of one key; it is being pinged for the first of them."""
    await pool.open(ready=1)
    awaited.hold("ping")
    return await begun(pool.getconn("a"), 6), await begun(pool.getconn("a", timeout=0.3), 6)


async def test_who_shares_a_key_waits_while_its_connection_is_looked_at(awaited):
    async with awaited.pool(0, 2, ping_after=0) as pool:
        first, second = await looked_at(awaited, pool)
        assert not first.done()
        assert not second.done()
        awaited.release("ping")
        assert await first is await second
        await pool.putconn(first.result())
        await lease_all(pool)


async def test_or_until_its_time_is_up(awaited):
    async with awaited.pool(0, 2, ping_after=0) as pool:
        first, second = await looked_at(awaited, pool)
        with pytest.raises(PoolTimeout, match=r"within 0\.3 s"):
            await second
        awaited.release("ping")
        await pool.putconn(await first)
        await lease_all(pool)


@pytest.mark.parametrize("how", ["is dead", "was cut off"])
async def test_who_shares_a_key_is_not_given_what_was_no_good(awaited, how):
    async with awaited.pool(0, 2, ping_after=0) as pool:
        first, second = await looked_at(awaited, pool)
        (old,) = awaited.open
        if how == "is dead":
            old.mute = True
        else:
            first.cancel()
            await asyncio.wait({first})
        awaited.release("ping")
        assert (await second).number == 2
        assert not (await second).status
        if how == "is dead":
            assert await first is await second
        await rested(pool)
        assert old.closed
        await pool.putconn(await second)
        await lease_all(pool)


async def test_who_shares_a_key_is_not_given_what_was_put_before_its_task_could_run(awaited):
    """It may be another's by then."""

    async def get_and_put():
        await pool.putconn(await pool.getconn("a"), "a")

    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        first, second = await begun(get_and_put()), await begun(pool.getconn("a"))
        third = await begun(pool.getconn())
        await pool.putconn(conn)  # it is given to both who share the key; the first puts it before the second runs
        await first
        assert await third is conn
        assert not second.done()
        await pool.putconn(conn)
        assert await second is conn
        await pool.putconn(conn, "a")


async def test_nor_what_the_block_that_had_it_commits_just_then(awaited):
    """It is not idle meanwhile."""

    async def block():
        async with pool.connection("a") as conn:
            conn.execute()

    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        awaited.hold("commit")
        first, second = await begun(block()), await begun(pool.getconn("a"))
        await pool.putconn(conn)  # it is given to both; the first comes to its end before the second runs
        await begun(asyncio.sleep(0), 9)
        assert (pool.stats().idle, second.done()) == (0, False)
        awaited.release("commit")
        await first
        assert await second is conn
        await pool.putconn(conn, "a")


async def test_a_block_puts_what_no_getconn_of_its_key_has(awaited):
    """Though others to whom it was given as well were cancelled before they could run."""

    async def block():
        async with pool.connection("a"):
            await asyncio.sleep(0)

    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        others = [await begun(pool.getconn("a")), await begun(block())]
        await pool.putconn(conn)
        for other in others:
            other.cancel()
        await block()  # before they have run
        await asyncio.wait(others)
        assert pool.stats().used == 0
        await lease_all(pool)


async def test_and_leaves_what_one_has(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn("a")
        for _ in range(2):
            async with pool.connection("a") as same:
                assert same is conn
        assert pool.stats().used == 1
        async with pool.connection("a"):
            await pool.getconn("a")
        await pool.putconn(conn, "a")
        await lease_all(pool)


async def test_when_all_who_share_a_key_are_cancelled_the_lease_ends(awaited):
    async with awaited.pool(1, 1) as pool:
        conn = await pool.getconn()
        waiting = [await begun(pool.getconn("a")) for _ in range(3)]
        await pool.putconn(conn)  # all of them are given it now
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert pool.stats().idle == 1
        await lease_all(pool)


# ---- deadlock ------------------------------------------------------------------------------------------------------

TOLD = r"^connection pool exhausted: every task of the event loop waits for this pool"


def test_a_task_that_exhausts_its_pool_is_told_at_once(awaited):
    async def work():
        async with awaited.pool(0, 1, timeout=5) as pool:
            conn = await pool.getconn()
            name = asyncio.current_task().get_name()
            with pytest.raises(PoolDeadlock, match=TOLD + rf".*; held by task '{name}' .*test_aio_queue\.py"):
                await pool.getconn()
            assert pool.stats().waiting == 0
            await pool.putconn(conn)

    asyncio.run(work())


def test_so_are_nested_blocks(awaited):
    async def work():
        async with awaited.pool(0, 1, timeout=60) as pool, pool.connection():
            with pytest.raises(PoolDeadlock):
                async with pool.connection():
                    pass

    asyncio.run(work())


def test_all_tasks_are_in_line_when_the_last_one_is_told(awaited):
    async def hold_one_and_want_another(pool):
        async with pool.connection():
            await asyncio.sleep(0.01)  # until all hold one
            try:
                async with pool.connection():
                    return ""
            except PoolDeadlock as exc:
                return str(exc)

    loop, pool = asyncio.new_event_loop(), awaited.pool(0, 3, timeout=5)
    tasks = [loop.create_task(hold_one_and_want_another(pool)) for _ in range(3)]
    tasks[0].add_done_callback(lambda _: loop.call_later(0.05, loop.stop))
    loop.run_forever()  # so that there is no task but them
    told = [task.result() for task in tasks]
    assert told[:2] == ["", ""]  # for them the third one made room
    assert "each of them waits for this pool itself" in told[2]
    loop.run_until_complete(pool.close())
    loop.close()


async def test_a_task_that_does_something_else_may_put_the_connection(awaited):
    async def put_later(conn):
        await asyncio.sleep(0.02)
        await pool.putconn(conn)

    async with awaited.pool(0, 1) as pool:
        putting = asyncio.ensure_future(put_later(await pool.getconn()))
        await pool.putconn(await pool.getconn())
        await putting


def test_so_may_something_that_is_no_task(awaited):
    """A callback, or another thread that has tasks do its getconn and its putconn."""

    async def get(pool):
        return await pool.getconn(timeout=PATIENCE)

    loop, pool = asyncio.new_event_loop(), awaited.pool(0, 1)
    conn = loop.run_until_complete(get(pool))
    loop.call_later(0.02, lambda: loop.create_task(pool.putconn(conn)))
    assert loop.run_until_complete(get(pool)) is conn
    loop.run_until_complete(pool.putconn(conn))
    loop.run_until_complete(pool.close())
    loop.close()


def test_while_one_is_being_opened_or_closed_it_is_no_deadlock(awaited):
    async def work():
        async with awaited.pool(0, 1, timeout=60) as pool:
            await pool.putconn(await pool.getconn(), close=True)
            await pool.putconn(await pool.getconn())

    asyncio.run(work())


def test_it_can_be_switched_off(awaited):
    async def work():
        async with awaited.pool(0, 1, timeout=0.01, detect_deadlock=False) as pool:
            conn = await pool.getconn()
            with pytest.raises(PoolTimeout, match="each of them waits for this pool itself"):
                await pool.getconn()
            await pool.putconn(conn)

    asyncio.run(work())


def test_who_does_not_wait_is_told_that_it_is_exhausted(awaited):
    async def work():
        async with awaited.pool(0, 1) as pool:
            conn = await pool.getconn()
            with pytest.raises(PoolExhausted) as caught:
                await pool.getconn(timeout=0)
            assert not isinstance(caught.value, (PoolDeadlock, PoolTimeout))
            await pool.putconn(conn)

    asyncio.run(work())


# ---- strict --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "a key"])
@pytest.mark.parametrize("close", [False, True])
async def test_with_strict_another_task_may_not_put(awaited, key, close):
    async with awaited.pool(0, 1, strict=True) as pool:
        conn = await pool.getconn(key)
        before = pool.stats()
        with pytest.raises(PoolError, match="another task got"):
            await asyncio.ensure_future(pool.putconn(conn, key, close))
        assert pool.stats() == before
        await pool.putconn(conn, key)
        await lease_all(pool)


async def test_without_it_another_task_may(awaited):
    async with awaited.pool(0, 1) as pool:
        await asyncio.ensure_future(pool.putconn(await pool.getconn()))
        assert pool.stats().idle == 1


async def test_a_task_that_has_ended_is_not_taken_for_another_that_got_its_number(awaited):
    """An id() is given away again at once."""
    async with awaited.pool(0, 1, strict=True) as pool:
        conn = await asyncio.ensure_future(pool.getconn())
        for _ in range(20):
            with pytest.raises(PoolError, match="another task got"):
                await asyncio.ensure_future(pool.putconn(conn))
        (user,) = pool.holders()
        assert user.task is None
        assert "a task which has ended" in str(user)
        await pool.closeall()
