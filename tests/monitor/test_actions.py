"""What the page may do where actions are on: close a connection, drain a pool, change its sizes."""

from __future__ import annotations

import asyncio
import json

import pytest
from fakes import FakeConnector
from unit.threads import Caller, eventually

from dbpool import AsyncConnectionPool, in_thread
from dbpool.monitor import actions

from .asks import soon


@pytest.fixture
def client(routes):
    """An application that may act."""
    return routes(actions=True)


def event(client):
    return [(each["event"], each["text"]) for each in client.pool()["events"]][-2:]


def test_an_idle_connection_is_closed_at_once(client, make, driver):
    make(2)
    rows = client.pool()["connections"]
    answer = client.act("evict", pool=client.pool()["id"], connection=rows[0]["id"])
    assert (answer.status, json.loads(answer.body)["done"]) == (200, True)
    assert [row["id"] for row in client.pool()["connections"]] == [rows[1]["id"]]
    assert client.pool()["stats"]["discards"] == {"evicted": 1}
    assert ("evict", f"connection {rows[0]['id']} is not used again") in event(client)


def test_a_leased_connection_is_closed_when_it_comes_back(client, make, driver):
    pool = make()
    held = pool.getconn()
    client.act("evict", pool=client.pool()["id"], connection=client.pool()["connections"][0]["id"])
    assert not held.closed
    pool.putconn(held)
    assert held.closed
    assert pool.stats().discards == {"evicted": 1}


def test_drain_replaces_all(client, make, driver):
    make(3)
    assert client.act("drain", pool=client.pool()["id"]).status == 200
    assert [conn.closed for conn in driver.made[:3]] == [True] * 3


def test_resize_serves_who_waits(client, make):
    pool = make(maxconn=1, timeout=60)
    held = pool.getconn()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting == 1)
    assert client.act("resize", pool=client.pool()["id"], minconn=0, maxconn=2).status == 200
    pool.putconn(caller.result())
    pool.putconn(held)
    assert (pool.minconn, pool.maxconn) == (0, 2)


@pytest.mark.parametrize(
    ("name", "wanted", "status", "text"),
    [
        ("resize", {"minconn": 5, "maxconn": 2}, 400, "minconn must not be above maxconn"),
        ("resize", {"minconn": 1}, 400, "maxconn must be a whole number"),
        ("resize", {"minconn": True, "maxconn": 2}, 400, "minconn must be a whole number"),
        ("resize", {"minconn": 0, "maxconn": "9"}, 400, "maxconn must be a whole number"),
        ("resize", {"minconn": -1, "maxconn": 2}, 400, "minconn must be at least 0"),
        ("evict", {}, 400, "connection must be a whole number"),
        ("evict", {"connection": 99}, 409, "connection 99 is not open any more"),
        ("drain", {"pool": "1-1"}, 404, "this process has none with this id"),
        ("drain", {"pool": None}, 404, "this process has none with this id"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(client, make, name, wanted, status, text):
    pool = make(1)
    answer = client.act(name, **{"pool": client.pool()["id"], **wanted})
    assert (answer.status, text in answer.body.decode()) == (status, True), answer.body
    assert (pool.minconn, pool.maxconn, pool.stats().discards) == (1, 3, {})


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"text"', b"[" * 50_000, b"\xff"])
def test_a_body_that_is_no_object_is_refused(client, make, body):
    make()
    headers = {"origin": "http://127.0.0.1:8765", "content_type": "application/json"}
    answer = client.ask("/actions/drain", "POST", body, x_csrf_token=client.routes.guard.csrf, **headers)
    assert answer.status == 400


def test_a_closed_pool_is_not_changed(routes, make):
    pool = make()
    client = routes(pools=[pool], actions=True)
    number = client.pool()["id"]
    pool.close()
    assert client.act("drain", pool=number).status == 409


# ---- pools of an event loop ------------------------------------------------------------------------------------------


def test_a_pool_of_tasks_is_changed_in_its_loop(routes, driver):
    client = routes(actions=True)

    async def work():
        loop = asyncio.get_running_loop()
        async with AsyncConnectionPool(2, 3, connect=in_thread(FakeConnector(driver.connect))) as pool:
            found = await loop.run_in_executor(None, client.pool)
            number, rows = found["id"], found["connections"]

            def act(name, **wanted):
                return loop.run_in_executor(None, lambda: client.act(name, pool=number, **wanted))

            assert (await act("evict", connection=rows[0]["id"])).status == 200
            assert (await act("resize", minconn=0, maxconn=7)).status == 200
            assert (await act("drain")).status == 200
            await soon(lambda: not pool.stats().size)
            assert pool.maxconn == 7
            assert pool.stats().discards == {"evicted": 1, "drained": 1}

    asyncio.run(asyncio.wait_for(work(), 40))


def test_a_loop_that_does_not_answer_is_not_waited_for_for_ever(routes, driver, monkeypatch):

    client = routes(actions=True)
    monkeypatch.setattr(actions, "PATIENCE", 0.05)
    answers = []

    async def work():
        loop = asyncio.get_running_loop()
        async with AsyncConnectionPool(1, 3, connect=in_thread(FakeConnector(driver.connect))) as pool:
            number = (await loop.run_in_executor(None, client.pool))["id"]
            caller = Caller(lambda: answers.append(client.act("drain", pool=number).status))
            caller.result()
            await asyncio.sleep(0)
            assert pool.stats().discards == {}

    asyncio.run(asyncio.wait_for(work(), 40))
    assert answers == [504]


def test_a_pool_whose_loop_has_ended_is_not_changed(routes, driver):
    pool = AsyncConnectionPool(0, 1, connect=in_thread(FakeConnector(driver.connect)))
    client = routes(pools=[pool], actions=True)
    assert client.act("drain", pool=client.pool()["id"]).status == 409
