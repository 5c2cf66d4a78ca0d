"""What is done for AsyncConnectionPool by timers and by the watch; and what is left of a pool that nobody closed."""

from __future__ import annotations

import asyncio
import gc
import select
import time
import weakref

import pytest
from fakes import no_housekeeper
from loops import soon

from dbpool.aio.keeper import _keepers, keeper_of

from .awaiting import AwaitedLines, begun, lease_all, rested
from .sockets import descriptors

needs_epoll = pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")


@pytest.fixture
def lines():
    """A driver whose connections are socket pairs."""
    lines = AwaitedLines()
    yield lines
    for line in lines.lines:
        line.end()


# ---- the watch -----------------------------------------------------------------------------------------------------


@needs_epoll
async def test_an_idle_one_that_the_server_has_closed_is_noticed_by_itself(lines, loop_kind):
    async with lines.pool(0, 2) as pool:
        conn = await pool.getconn()
        await pool.putconn(conn)
        conn.peer.close()
        await soon(lambda: pool.stats().discards == {"lost": 1})
        assert conn.closes == 1
        assert await pool.getconn() is not conn
        await pool.closeall()


@needs_epoll
async def test_one_that_is_leased_is_closed_when_it_is_put_without_a_rollback(lines, loop_kind):
    async with lines.pool(0, 2) as pool:
        conn = await pool.getconn()
        conn.peer.close()
        await soon(lambda: pool._entries[id(conn)].use_by < 0)
        assert not conn.closes, "it was closed in its user's hands"
        await pool.putconn(conn)
        await rested(pool)
        assert (conn.closes, conn.rollbacks, pool.stats().discards) == (1, 0, {"lost": 1})


@needs_epoll
async def test_minconn_is_restored_when_connections_are_lost(lines, loop_kind):
    async with lines.pool(2, 2) as pool:
        for line in list(lines.lines):
            line.peer.close()
        await soon(lambda: pool.stats().opened == 4 and pool.stats().idle == 2)
        assert pool.stats().discards == {"lost": 2}


@needs_epoll
async def test_traffic_is_no_loss(lines, loop_kind):
    async with lines.pool(1, 1) as pool:
        conn = await pool.getconn()
        for _ in range(5):
            conn.peer.send(b"answer")
            await asyncio.sleep(0.002)
        await pool.putconn(conn)
        assert (pool.stats().idle, pool.stats().discards) == (1, {})


@needs_epoll
async def test_a_connection_that_a_reset_gave_in_place_of_another_is_watched_too(lines, loop_kind):
    async with lines.pool(0, 1, reset=lambda conn: lines.connect()) as pool:
        await pool.putconn(await pool.getconn())
        await rested(pool)
        assert pool.stats().discards == {"replaced": 1}
        lines.lines[-1].peer.close()
        await soon(lambda: pool.stats().discards.get("lost"))


@needs_epoll
async def test_each_pool_is_told_of_its_own(lines):
    async with lines.pool(1, 1) as first, lines.pool(1, 1) as second:
        (conn,) = second._pool
        conn.peer.close()
        await soon(lambda: second.stats().discards)
        assert first.stats().discards == {}


# ---- peers that do not answer --------------------------------------------------------------------------------------


async def test_check_timeout_ends_a_ping_of_a_frozen_peer(lines, loop_kind):
    async with lines.pool(0, 2, ping_after=0, check_timeout=0.05) as pool:
        conn = await begun(pool.getconn(timeout=5))
        lines.lines  # noqa: B018
        await soon(lambda: pool.stats().aborted)
        conn.cancel()
        await asyncio.wait({conn})


async def test_an_answer_that_came_while_the_loop_was_held_up_counts(lines, loop_kind):
    async with lines.pool(1, 1, ping_after=0, check_timeout=0.1) as pool:
        (conn,) = pool._pool
        getting = await begun(pool.getconn(timeout=5))
        conn.peer.send(b"!")
        _hold_up(0.4)
        assert await getting is conn
        assert (pool.stats().aborted, pool.stats().discards) == (0, {})
        await pool.putconn(conn)


def _hold_up(seconds):
    time.sleep(seconds)


# ---- sweeps --------------------------------------------------------------------------------------------------------


async def test_sweeps_come_by_themselves(awaited, loop_kind):
    async with awaited.pool(1, 3, idle_timeout=0.05, max_lifetime=None) as pool:
        await lease_all(pool)
        await soon(lambda: pool.stats().discards == {"idle": 2})
        await asyncio.sleep(0.02)
        assert pool.stats().idle == 1


async def test_sweeps_restore_minconn(awaited):
    async with awaited.pool(2, 3, max_lifetime=0.4) as pool:
        await pool.putconn(await pool.getconn(), close=True)
        await soon(lambda: pool.stats().idle == 2)


async def test_a_sweep_replaces_what_is_past_its_lifetime_at_once(awaited):
    async with awaited.pool(2, 2, max_lifetime=0.2, lifetime_jitter=0) as pool:
        await soon(lambda: pool.stats().discards == {"lifetime": 2})
        await soon(lambda: pool.stats().idle == 2)
        assert awaited.most == 2


async def test_a_sweep_pings_those_unheard_of(awaited):
    async with awaited.pool(1, 1, ping_interval=0.05) as pool:
        (conn,) = pool._pool
        await soon(lambda: conn.pings)
        conn.mute = True
        await soon(lambda: pool.stats().discards == {"lost": 1})
        await soon(lambda: pool.stats().idle == 1)


async def test_a_sweep_comes_when_a_server_that_refused_may_be_asked_again(awaited):
    """And not after the whole period of 30 s."""
    real = awaited.connect

    async def refuse():
        error = ConnectionError("not yet")
        error.transient = True
        raise error

    async with awaited.pool(1, 2, max_lifetime=None, idle_timeout=None) as pool:
        awaited.connect = refuse
        await pool.putconn(await pool.getconn(), close=True)
        await rested(pool)
        pool._begin_sweep()
        await soon(lambda: pool.stats().connect_errors)
        awaited.connect = real
        await soon(lambda: pool.stats().idle == 1)


async def test_a_closed_pool_is_swept_no_more(awaited):
    pool = awaited.pool(1, 1, idle_timeout=0.05)
    await pool.open()
    keeper = pool._keeper
    assert id(pool) in keeper._swept
    await pool.close()
    await pool._sweep()
    assert id(pool) not in keeper._swept


async def test_without_background_there_are_no_sweeps_and_no_watch(awaited):
    async with awaited.pool(1, 2, background=False, idle_timeout=0.02) as pool:
        await lease_all(pool)
        keeper = pool._keeper
        assert (keeper._swept, keeper._watch) == ({}, None)
        await asyncio.sleep(0.05)
        stats = await pool.check()
        assert (stats.idle, stats.discards) == (1, {"idle": 1})


# ---- what is left --------------------------------------------------------------------------------------------------


async def gone(known):
    """Return once the pool is gone: nothing keeps it but what runs out."""

    def is_gone():
        gc.collect()
        return known() is None

    await soon(is_gone)


async def test_a_pool_that_is_dropped_is_freed_with_its_connections(awaited, loop_kind):
    awaited.keep = False
    pool = awaited.pool(2, 2)
    await pool.open()
    known = [weakref.ref(pool), *[weakref.ref(conn) for conn in pool._pool]]
    del pool
    for each in known:
        await gone(each)


async def test_so_is_one_that_is_dropped_while_tasks_waited_for_it(awaited):
    awaited.keep = False
    pool = awaited.pool(1, 1)
    conn = await pool.getconn()
    waiting = await begun(pool.getconn())
    waiting.cancel()
    await asyncio.wait({waiting})
    known = weakref.ref(pool)
    del pool, conn, waiting
    await gone(known)


async def test_the_last_pool_that_goes_leaves_no_timer_no_reader_and_no_descriptor(awaited, lines, loop_kind):
    await asyncio.sleep(0)
    before = descriptors()
    keeper = keeper_of(asyncio.get_running_loop())
    first, second = lines.pool(1, 1), lines.pool(1, 1, idle_timeout=0.5)
    await first.open()
    await second.open()
    await first.close()
    assert keeper._watch is not None
    known = weakref.ref(second)
    del second
    await gone(known)
    await soon(lambda: keeper._watch is None)  # when its timer rings
    assert keeper._swept == {}
    for line in lines.lines:
        line.end()
    assert descriptors() == before


async def test_the_last_pool_that_is_closed_ends_the_watch(lines, loop_kind):
    before = descriptors()
    async with lines.pool(1, 1), lines.pool(1, 1) as pool:
        keeper = pool._keeper
        assert keeper._watch is not None
    assert keeper._watch is None
    for line in lines.lines:
        line.end()
    assert descriptors() == before


def test_a_loop_that_is_gone_takes_its_keeper_along(lines):
    async def leave():
        pool = lines.pool(1, 1)
        await pool.open()
        return pool

    gc.collect()
    others = {id(loop) for loop in _keepers}
    before = descriptors()
    for _ in range(3):
        pool = asyncio.run(leave())
        del pool
        for line in lines.lines:
            line.end()
    gc.collect()
    assert descriptors() == before
    assert {id(loop) for loop in _keepers} <= others


async def test_a_loop_that_cannot_listen_to_descriptors_is_done_without(lines, monkeypatch):
    """As Windows' own."""

    def refuse(*args):
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
    monkeypatch.setattr(asyncio.get_running_loop(), "remove_reader", refuse)
    async with lines.pool(1, 1, check_after=0) as pool:
        (conn,) = pool._pool
        conn.peer.close()
        assert await pool.getconn() is not conn
        await pool.closeall()


async def test_nothing_depends_on_the_keeper(awaited):
    with no_housekeeper():
        async with awaited.pool(1, 2) as pool:
            await lease_all(pool)
            await pool.drain()
            await lease_all(pool)
