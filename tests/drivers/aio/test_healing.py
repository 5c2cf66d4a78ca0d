"""PostgreSQL's drivers: backends that are killed or frozen, and a server that restarts under the pool."""

from __future__ import annotations

import asyncio

import pytest
from loops import in_task, soon
from pains.sessions import MARGIN, Stopwatch, is_gone, kill

from .notes import lease_all

# ---- killed ----------------------------------------------------------------------------------------------------------


async def warm(database, pool, count=1):
    """Have *count* connections idle; return their backends' processes."""
    conns = [await pool.getconn() for _ in range(count)]
    pids = [database.pid(conn) for conn in conns]
    for conn in conns:
        await pool.putconn(conn)
    return pids


async def killed(server, pids):
    """End backends, in a thread: the loop goes on."""
    await asyncio.to_thread(kill, server, pids)


def test_every_checkout_after_all_backends_were_killed_succeeds(go, postgres, tcp):
    async def use():
        async with postgres.pool(0, 5, check_after=0, background=False) as pool:
            old = await warm(postgres, pool, 5)
            await killed(tcp, old)
            conns = [await pool.getconn() for _ in range(5)]
            assert [await postgres.ask(conn, "SELECT 1") for conn in conns] == [1] * 5
            assert not {postgres.pid(conn) for conn in conns} & set(old)
            for conn in conns:
                await pool.putconn(conn)
            # asyncpg hears of it as soon as the loop runs, and says that they are closed: perhaps just before we look.
            reasons = {"unfit", "lost"} if postgres.module == "asyncpg" else {"lost"}
            assert set(pool.stats().discards) <= reasons
            assert sum(pool.stats().discards.values()) == 5

    go(use())


def test_the_loop_is_told_of_a_killed_backend_and_another_takes_its_place(go, postgres, tcp):
    async def use():
        async with postgres.pool(1, 2, check_after=None, ping_after=None) as pool:
            old = await warm(postgres, pool)
            await killed(tcp, old)
            await soon(lambda: pool.stats().discards.get("lost") == 1 and pool.stats().idle == 1)
            assert await warm(postgres, pool) != old

    go(use())


def test_putting_what_was_killed_in_a_transaction_raises_nothing_and_frees_the_slot(go, postgres, tcp):
    async def use():
        async with postgres.pool(0, 2) as pool:
            for _ in range(3):
                conns = [await pool.getconn() for _ in range(2)]
                for conn in conns:
                    await postgres.tell(conn, "SELECT 1")
                await killed(tcp, map(postgres.pid, conns))
                for conn in conns:
                    await pool.putconn(conn)
                assert pool.stats().used == 0
            del conns, conn
            await lease_all(pool)

    go(use())


def test_a_block_whose_backend_was_killed_raises_the_drivers_error(go, postgres, tcp):
    async def use():
        async with postgres.pool(0, 1) as pool:
            with pytest.raises((OSError, postgres.driver.Error if postgres.module != "asyncpg" else Exception)):
                await be_killed_in_a_block(postgres, pool, tcp)
            await lease_all(pool)

    go(use())


async def be_killed_in_a_block(database, pool, server):
    async with pool.connection() as conn:
        await database.tell(conn, "SELECT 1")
        await killed(server, [database.pid(conn)])
        await database.tell(conn, "SELECT 1")


# ---- frozen ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def freeze(tcp):
    """Freezes a backend until the test ends."""
    frozen = []

    def freeze(pid):
        frozen.append(pid)
        tcp.pause(pid)

    yield freeze
    for pid in frozen:
        if not is_gone(pid):
            tcp.resume(pid)


def test_a_frozen_backend_costs_check_timeout_and_one_connect(go, postgres, freeze):
    async def use():
        async with postgres.pool(0, 2, ping_after=0, check_timeout=0.4) as pool:
            [frozen] = await warm(postgres, pool)
            freeze(frozen)
            with Stopwatch() as watch:
                conn = await pool.getconn(timeout=20)
            assert watch.seconds < 0.4 + MARGIN
            assert postgres.pid(conn) != frozen
            assert await postgres.ask(conn, "SELECT 1") == 1
            assert pool.stats().discards == {"lost": 1}
            await pool.putconn(conn)

    go(use())


def test_a_frozen_backend_never_costs_more_than_the_callers_timeout(go, postgres, freeze):
    async def use():
        async with postgres.pool(0, 2, ping_after=0, check_timeout=30) as pool:
            [frozen] = await warm(postgres, pool)
            freeze(frozen)
            with Stopwatch() as watch:
                conn = await pool.getconn(timeout=0.6)  # half of it for the ping, half for another connection
            assert watch.seconds < 0.6 + MARGIN
            assert postgres.pid(conn) != frozen
            await pool.putconn(conn)

    go(use())


def test_a_frozen_backend_costs_check_timeout_when_it_comes_back(go, postgres, freeze):
    async def use():
        async with postgres.pool(0, 1, check_timeout=0.4) as pool:
            conn = await pool.getconn()
            await postgres.tell(conn, "SELECT 1")
            freeze(postgres.pid(conn))
            with Stopwatch() as watch:
                await pool.putconn(conn)
            assert watch.seconds < 0.4 + MARGIN
            del conn
            await lease_all(pool)

    go(use())


def test_who_is_cancelled_while_a_frozen_backend_is_pinged_leaves_at_once(go, postgres, freeze):
    async def use():
        async with postgres.pool(0, 1, ping_after=0, check_timeout=3) as pool:
            freeze((await warm(postgres, pool))[0])
            with Stopwatch() as watch, pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.getconn(timeout=None), 0.3)
            assert watch.seconds < 0.3 + MARGIN
            await lease_all(pool)

    go(use())


def test_who_is_cancelled_while_a_frozen_backend_is_rolled_back_leaves_at_once(go, postgres, freeze):
    async def use():
        async with postgres.pool(0, 1, check_timeout=3) as pool:
            conn = await pool.getconn()
            await postgres.tell(conn, "SELECT 1")
            freeze(postgres.pid(conn))
            with Stopwatch() as watch, pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.putconn(conn), 0.3)
            assert watch.seconds < 0.3 + MARGIN
            del conn
            await lease_all(pool)

    go(use())


def test_close_does_not_wait_for_a_frozen_backend(go, postgres, freeze):
    async def use():
        pool = postgres.pool(0, 2, check_timeout=0.4)
        pids = await warm(postgres, pool, 2)
        freeze(pids[0])
        with Stopwatch() as watch:
            await pool.close(timeout=1)
        assert watch.seconds < 0.4 + MARGIN
        assert pool.stats().size == 0

    go(use())


# ---- restarted -------------------------------------------------------------------------------------------------------


def test_every_checkout_after_a_restart_succeeds(go, postgres, tcp):
    async def use():
        async with postgres.pool(0, 5, check_after=0) as pool:
            await warm(postgres, pool, 5)
            await asyncio.to_thread(tcp.stop, "immediate")
            await asyncio.to_thread(tcp.start)
            conns = [await pool.getconn() for _ in range(5)]
            assert [await postgres.ask(conn, "SELECT 1") for conn in conns] == [1] * 5
            for conn in conns:
                await pool.putconn(conn)

    go(use())


def test_an_outage_ends_for_those_who_wait(go, postgres, tcp):
    async def work(pool):
        async with pool.connection() as conn:
            return await postgres.ask(conn, "SELECT 1")

    async def use():
        async with postgres.pool(0, 2, timeout=20) as pool:
            await asyncio.to_thread(tcp.stop, "immediate")
            tasks = [await in_task(work(pool)) for _ in range(4)]
            await soon(lambda: pool.stats().connect_errors >= 2)
            await asyncio.to_thread(tcp.start)
            assert await asyncio.gather(*tasks) == [1] * 4

    go(use())


def test_in_an_outage_a_timeout_has_the_refusal_as_its_cause(go, postgres, tcp):
    async def use():
        async with postgres.pool(0, 2) as pool:
            await asyncio.to_thread(tcp.stop, "immediate")
            with Stopwatch() as watch, pytest.raises(postgres.error, match="exhausted") as caught:
                await pool.getconn(timeout=0.4)
            assert watch.seconds < 0.4 + MARGIN
            cause = caught.value.__cause__
            assert isinstance(cause, (OSError, getattr(postgres.driver, "OperationalError", OSError))), repr(cause)

    go(use())
