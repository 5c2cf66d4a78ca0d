"""Which pools are told of: those that were given, or all that are open; none is kept alive, none hides another."""

from __future__ import annotations

import pytest
from fakes import FakeConnector

from dbpool import EndpointPool, ThreadedConnectionPool

from .asks import only


def test_without_pools_all_that_are_open_are_found_anew_each_time(routes, make):
    client = routes()
    first = make(name="a")
    assert [pool["name"] for pool in client.state()["pools"]] == ["a"]
    make(name="b")
    assert [pool["name"] for pool in client.state()["pools"]] == ["a", "b"]
    first.close()
    assert [pool["name"] for pool in client.state()["pools"]] == ["b"]


def test_an_id_stays_and_is_not_given_again(routes, make):
    client = routes()
    first = make(name="a")
    ids = [pool["id"] for pool in client.state()["pools"]]
    make(name="b")
    assert client.pool("a")["id"] == ids[0]
    first.close()
    assert client.pool("b")["id"] != ids[0]


def test_a_pool_that_was_given_is_told_of_as_closed(seen):
    pool, client = seen()
    pool.close()
    assert only(client, "verdict", "code") == "closed"


def test_a_monitor_keeps_no_pool_alive(routes, driver):
    import gc
    import weakref

    client = routes()
    pool = ThreadedConnectionPool(0, 1, connect=FakeConnector(driver.connect))
    given = routes(pools=[pool])
    known = weakref.ref(pool)
    assert len(client.state()["pools"]) == len(given.state()["pools"]) == 1
    client.ask("/json", query="history=1")
    pool.close()
    del pool
    gc.collect()
    assert known() is None
    assert client.state()["pools"] == given.state()["pools"] == []


def test_each_endpoint_is_a_pool_of_its_own(routes, driver):
    pool = EndpointPool(0, 2, connect=FakeConnector(driver.connect), config={"name": "shards"})
    client = routes(pools=[pool])
    assert client.state()["pools"] == []
    with pool.connection("one"), pool.connection("postgresql://u:hunter22@two/"):
        found = client.state()["pools"]
        assert [each["endpoint"] for each in found] == ["'one'", "'postgresql://u:***@two/'"]
        assert [each["stats"]["used"] for each in found] == [1, 1]
        assert len(routes().state()["pools"]) == 2
    pool.close()


def test_of_too_many_pools_the_rest_is_counted(routes, make, monkeypatch):
    monkeypatch.setattr("dbpool.monitor.found.MOST", 2)
    for number in range(5):
        make(name=f"pool {number}")
    state = routes().state()
    assert ([pool["name"] for pool in state["pools"]], state["left_out"]) == (["pool 0", "pool 1"], 3)


def test_what_is_no_pool_is_refused(routes):
    with pytest.raises(TypeError, match="pools must be connection pools"):
        routes(pools=[object()])


def test_a_pool_of_which_nothing_can_be_told_does_not_hide_the_others(routes, make, monkeypatch):
    bad, _ = make(name="bad"), make(name="good")

    def judged(who):
        raise RuntimeError("password=hunter22 \x1b[31m")

    monkeypatch.setattr(bad, "_judged", judged, raising=False)
    found = {pool["name"]: pool for pool in routes().state()["pools"]}
    assert found["bad"]["verdict"]["code"] == "unknown"
    assert found["bad"]["verdict"]["text"] == r"no report: RuntimeError: password=*** \x1b[31m"
    assert found["good"]["verdict"]["code"] == "healthy"
    assert set(found["bad"]) == set(found["good"])


def test_a_pool_that_cannot_be_watched_does_not_hide_the_others(routes, make, monkeypatch):
    bad, _ = make(name="bad"), make(name="good")

    def listen(listener):
        raise RuntimeError

    monkeypatch.setattr(bad, "listen", listen, raising=False)
    state = routes().state()
    assert ([pool["name"] for pool in state["pools"]], state["left_out"]) == (["good"], 1)
