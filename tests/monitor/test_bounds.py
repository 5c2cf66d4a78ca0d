"""What is kept is bounded: traces of leases, events, leaks, what viewers are sent; and a report is cheap."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest

from dbpool.monitor.feed import Feed


@pytest.mark.fault(71)
def test_a_trace_keeps_no_frame_and_none_of_its_locals(make, routes):
    pool = make(trace=True, leak_threshold=60)
    client = routes(pools=[pool])

    class Secret:
        pass

    def lease():
        secret = Secret()
        return pool.getconn(), weakref.ref(secret)

    conn, secret = lease()
    client.state()
    gc.collect()
    assert secret() is None
    assert "in lease" in client.pool()["connections"][0]["site"]
    pool.putconn(conn)


@pytest.mark.fault(71)
def test_many_leases_take_no_more_memory_than_few(make, routes):
    pool = make(trace=True, leak_threshold=60)
    client = routes(pools=[pool])
    client.state()

    def lease(times):
        for _ in range(times):
            pool.putconn(pool.getconn())
        client.sampler.look()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        lease(100)
        before = lease(100)
        assert lease(2_000) - before < 50_000
    finally:
        tracemalloc.stop()


def test_an_hour_of_looks_takes_no_more_memory_than_a_minute(make, routes):
    pool = make(1)
    client = routes(pools=[pool])

    def look(times):
        for _ in range(times):
            client.sampler.look()
            client.sampler.text("tick")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        look(50)
        before = look(50)
        assert look(200) - before < 100_000
    finally:
        tracemalloc.stop()


def test_viewers_share_what_they_are_sent(make, routes):
    make(1)
    client = routes()
    feeds = [Feed(client.sampler, lambda: None) for _ in range(4)]
    for feed in feeds:
        feed.first()
    client.sampler.look()
    parts = [client.sampler.text("tick")[1] for _ in feeds]
    assert len({id(part) for part in parts}) == 1
    assert len({feed.next() for feed in feeds}) == 1


def test_a_storm_of_pools_is_not_remembered(make, routes):
    client = routes()
    for number in range(50):
        pool = make(name=f"brief {number}")
        client.state()
        pool.close()
    client.state()
    assert client.sampler.found._known == {}


def test_bells_are_forgotten_with_their_viewers(routes):
    client = routes()
    feed = client.ask("/events").stream
    feed.hear(lambda: None)
    feed.close()
    assert client.sampler._bells == {}
