"""Pools of tasks: told of in their loop; from outside, if the loop does not answer."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fakes import FakeConnector
from unit.threads import Caller, eventually

from dbpool import AsyncConnectionPool, AsyncEndpointPool, in_thread
from dbpool.monitor import onloop

from .asks import soon


@pytest.fixture
def pool(driver):
    """A pool that belongs to no loop yet."""
    return AsyncConnectionPool(0, 2, connect=in_thread(FakeConnector(driver.connect)), config={"name": "tasks"})


def run(work):
    return asyncio.run(asyncio.wait_for(work, 40))


def aside(call, *args):
    """Await what *call* does in another thread."""
    return asyncio.get_running_loop().run_in_executor(None, call, *args)


async def standing_here(pool, go):
    async with pool.connection():
        await go.wait()


def test_a_pool_that_has_no_loop_is_told_of(pool, routes):
    found = routes().pool()
    assert (found["kind"], found["verdict"]["code"]) == ("AsyncConnectionPool", "healthy")


def test_tasks_are_named_with_where_they_stand(pool, routes):
    client = routes()

    async def work():
        go = asyncio.Event()
        tasks = [asyncio.create_task(standing_here(pool, go), name=f"job {number}") for number in range(3)]
        await soon(lambda: len(pool.holders()) == 2 and pool.stats().waiting == 1)
        found = await aside(client.pool)
        assert [row["holder"] for row in found["connections"]] == ["task 'job 0'", "task 'job 1'"]
        assert all("in standing_here" in row["at"] for row in found["connections"])
        assert [row["who"] for row in found["waiters"]] == ["task 'job 2'"]
        assert found["verdict"]["code"] == "exhausted"
        assert client.pool()["verdict"]["code"] == "exhausted"  # asked in the loop itself
        go.set()
        await asyncio.gather(*tasks)
        await pool.close()

    run(work())


def test_a_loop_that_is_held_up_is_told_of_without_the_places(pool, routes, monkeypatch):
    monkeypatch.setattr(onloop, "PATIENCE", 0.01)
    client = routes()

    async def work():
        go = asyncio.Event()
        task = asyncio.create_task(standing_here(pool, go), name="job")
        await soon(lambda: pool.stats().used)
        (row,) = Caller(client.pool).result()["connections"]  # which holds the loop up
        assert (row["holder"], row["at"], row["state"]) == ("task 'job'", None, "leased")
        monkeypatch.setattr(onloop, "in_loop", None)
        assert Caller(client.pool).result()["verdict"]["code"] == "healthy"  # and the loop was not asked again
        go.set()
        await task
        await pool.close()

    run(work())


def test_a_call_that_was_given_up_is_not_made_later(pool):
    made = []

    async def work():
        loop, given_up = asyncio.get_running_loop(), []

        def ask():
            with pytest.raises(onloop.NoAnswer):
                onloop.in_loop(loop, 0.01, made.append, 1)
            given_up.append(True)

        caller = Caller(ask)
        caller.result()
        await asyncio.sleep(0.01)

    run(work())
    assert made == []


def test_its_history_is_written_by_the_monitor_alone(pool, routes):
    client = routes()

    async def work():
        async with pool:
            for _ in range(3):
                await aside(client.sampler.look)
            assert len(pool._history) == 3
            pool.history()
            await asyncio.sleep(0)
            assert len(pool._history) == 3

    run(work())


def test_its_event_log_is_heard_in_its_loop(pool, routes):
    client = routes(pools=[pool])

    async def work():
        await aside(client.state)
        async with pool.connection():
            pass
        await pool.close()

    run(work())
    assert [event["event"] for event in client.pool()["events"]] == ["connected", "discarded", "closed"]


def test_each_endpoint_is_a_pool_of_its_own(driver, routes):
    async def work():
        pool = AsyncEndpointPool(0, 1, connect=in_thread(FakeConnector(driver.connect)), config={"name": "shards"})
        client = routes(pools=[pool])
        async with pool.connection("a"), pool.connection("b"):
            assert [each["endpoint"] for each in (await aside(client.state))["pools"]] == ["'a'", "'b'"]
        await pool.close()

    run(work())


def test_a_loop_of_another_thread_goes_on_while_it_is_looked_at(pool, routes):
    client, go = routes(), threading.Event()

    async def work():
        while not go.is_set():
            async with pool.connection():
                await asyncio.sleep(0)
        await pool.close()

    caller = Caller(asyncio.run, work())
    eventually(lambda: pool.stats().leases > 100)
    for _ in range(50):
        assert client.pool()["verdict"]["code"] == "healthy"
    go.set()
    caller.result()
