"""EndpointPool: which endpoints there are, whose a connection is, the limits at each and over all."""

from __future__ import annotations

import gc
import random

import pytest
from fakes import FakeConnection, OperationalError, Recorder

from dbpool import Limiter, PoolClosed, PoolError, PoolExhausted, PoolTimeout

from .places import closed_one, touch
from .threads import Caller, Peak, eventually

pytestmark = pytest.mark.usefixtures("undisturbed")


# ---- endpoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["a", ("host", 80), 7, None, frozenset("x")], ids=str)
def test_connect_gets_the_endpoint_before_all_else(many, endpoint):
    pool = many(args=(1, 2), kwargs={"color": "red"})
    conn = pool.getconn(endpoint)
    assert (conn.endpoint, conn.given) == (endpoint, ((1, 2), {"color": "red"}))
    assert pool.endpoints == [endpoint]
    pool.putconn(conn)


def test_each_endpoint_has_connections_of_its_own(many, places):
    pool = many()
    conns = [pool.getconn(endpoint) for endpoint in "abab"]
    assert [conn.endpoint for conn in conns] == list("abab")
    for conn in conns:
        pool.putconn(conn)
    again = pool.getconn("b")
    assert again in (conns[1], conns[3])
    assert places.calls == 4
    pool.putconn(again)


def test_maxconn_holds_for_each(many):
    pool = many(maxconn=1)
    held = [pool.getconn("a"), pool.getconn("b")]
    with pytest.raises(PoolExhausted, match=r"\['a'\]\" 1 used, .*max 1"):
        pool.getconn("a", timeout=0)
    for conn in held:
        pool.putconn(conn)


def test_what_cannot_be_an_endpoint_is_refused(many, places):
    with pytest.raises(TypeError, match="endpoint must be hashable, and a list is not"):
        many().getconn([])
    assert places.calls == 0


def test_a_wrong_timeout_leaves_no_endpoint_behind(many):
    pool = many()
    with pytest.raises(TypeError, match="timeout must be"):
        pool.getconn("a", timeout="soon")
    assert pool.endpoints in ([], ["a"])
    touch(pool, "a")
    assert pool.endpoints == ["a"]


def test_the_options_hold_for_each(many):
    seen = []
    pool = many(on_connect=lambda conn: seen.append(conn.endpoint), max_uses=2)
    touch(pool, "a", "b", "a", "b", "a")
    assert seen == ["a", "b", "a"]


def test_the_name_of_an_endpoint_shows_no_password(many):
    pool = many(name="tenants")
    conn = pool.getconn("host=db password=hunter2")
    assert "hunter2" not in repr(pool)
    with pytest.raises(PoolExhausted) as caught:
        [pool.getconn("host=db password=hunter2", timeout=0) for _ in range(2)]
    assert "tenants[" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    pool.putconn(conn)


# ---- endpoints with names --------------------------------------------------------------------------------------


def test_a_name_stands_for_what_connect_gets(many):
    pool = many(endpoints={"one": "dsn of one", "two": {"color": "red"}}, kwargs={"color": "blue", "size": 1})
    conn = pool.getconn("one")
    assert (conn.endpoint, conn.given) == ("dsn of one", ((), {"color": "blue", "size": 1}))
    pool.putconn(conn)
    with pytest.raises(TypeError, match="endpoint"):
        pool.getconn("two")  # keywords alone, and this connect wants an endpoint


def test_keywords_of_a_name_come_over_those_of_all(endpoints_kind):
    given = []

    def connect(**kwargs):
        given.append(kwargs)
        return FakeConnection(1)

    pool = endpoints_kind(
        0, 1, connect=connect, endpoints={"a": {"host": "a", "port": 1}}, port=2, user="u", config={"background": False}
    )
    pool.putconn(pool.getconn("a"))
    assert given == [{"host": "a", "port": 1, "user": "u"}]
    pool.close()


def test_another_name_is_refused(many, places):
    pool = many(endpoints={"one": "1"})
    with pytest.raises(ValueError, match="endpoint 'two' is not one of endpoints="):
        pool.getconn("two")
    assert (places.calls, pool.endpoints) == (0, [])


def test_minconn_is_opened_to_each_name(many, places):
    pool = many(2, 3, endpoints={name: name for name in "abc"})
    eventually(lambda: {name: stats.idle for name, stats in pool.stats().items()} == {"a": 2, "b": 2, "c": 2})
    assert places.calls == 6


def test_if_one_cannot_be_opened_none_stays_open(many, places):
    places.down = {"b"}
    with pytest.raises(OperationalError, match="b is down"):
        many(2, 3, endpoints={name: name for name in "abc"})
    assert [conn for conn in places.made if not conn.closed] == []


# ---- whose a connection is -------------------------------------------------------------------------------------


def test_what_is_not_leased_is_refused(many):
    pool, other = many(), many()
    stranger = other.getconn("a")
    for conn in (stranger, FakeConnection(9), None):
        with pytest.raises(PoolError, match="not leased"):
            pool.putconn(conn)
    conn = pool.getconn("a")
    pool.putconn(conn)
    with pytest.raises(PoolError, match="not leased"):
        pool.putconn(conn)
    other.putconn(stranger)
    assert pool.stats()["a"].idle == 1


def test_it_knows_its_connections_however_many_come_and_go(many):
    pool = many(maxconn=1, total=3)
    for round_ in range(300):
        held = [pool.getconn((round_, number)) for number in range(3)]
        for conn in held:
            pool.putconn(conn)
    assert len(pool._owners) < 200
    assert pool.total.used == 3


def test_one_that_is_not_on_the_list_is_found(many):
    pool = many()
    conn = pool.getconn("a")
    pool._owners.clear()
    pool.putconn(conn)
    assert pool.stats()["a"].idle == 1


def test_closing_it_instead(many):
    pool = many()
    conn = pool.getconn("a")
    pool.putconn(conn, close=True)
    assert conn.closed
    eventually(lambda: pool.endpoints == [])


def test_a_dropped_connection_gives_its_slot_back(many, places):
    places.keep = False
    pool = many(maxconn=1, timeout=5)

    def drop():
        pool.getconn("a")
        gc.collect()
        touch(pool, "a")

    with pytest.warns(ResourceWarning):
        drop()
    assert pool.stats()["a"].discards == {"dropped": 1}


# ---- blocks ----------------------------------------------------------------------------------------------------


def test_a_block_lends_a_connection_and_commits(many):
    pool = many()
    with pool.connection("a") as conn:
        conn.execute()
    assert (conn.endpoint, conn.commits, pool.stats()["a"].idle) == ("a", 1, 1)


def test_a_block_that_fails_rolls_back(many):
    pool, seen = many(), []

    def fail():
        with pool.connection("a") as conn:
            seen.append(conn)
            conn.execute()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (conn,) = seen
    assert (conn.rollbacks, pool.stats()["a"].idle) == (1, 1)


@pytest.mark.parametrize("way", ["getconn", "connection", "connect"])
def test_who_asks_while_the_endpoint_is_being_forgotten_gets_one_all_the_same(many, way):
    """Between finding its pool and asking that, the last connection is closed."""
    pool = many()
    touch(pool, "a")
    shell = getattr(pool, "_shell", pool)
    old, real = shell._pools["a"], shell._member

    def forgotten_meanwhile(endpoint):
        if shell._pools.get(endpoint) is not old:
            return real(endpoint)
        for entry in list(old._entries.values()):
            old._state.retire(entry)
        old._idle.clear()
        old._entries.clear()
        shell._forget(old)
        return old

    shell._member = forgotten_meanwhile
    if way == "connection":
        with pool.connection("a") as conn:
            assert conn.endpoint == "a"
    else:
        conn = getattr(pool, way)("a")
        assert conn.endpoint == "a"
    assert shell._pools["a"] is not old


# ---- the total -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "error", "text"),
    [
        (0, ValueError, "total must be at least 1"),
        (True, TypeError, "total must be"),
        ("5", TypeError, "total must be"),
    ],
)
def test_a_wrong_total_is_refused(many, total, error, text):
    with pytest.raises(error, match=text):
        many(total=total)


def test_the_total_is_a_limiter_and_may_be_shared(many):
    limiter = Limiter(3)
    pool, other = many(total=limiter), many(limiter=limiter)
    assert pool.total is other.total is limiter
    assert many(total=4).total.limit == 4
    assert many().total is None
    with pytest.raises(ValueError, match="give one of them"):
        many(total=3, limiter=limiter)


def test_the_least_recently_used_idle_one_makes_room(many, places, clock):
    pool = many(total=3, idle_timeout=None, ping_after=None, check_after=None)
    for endpoint in "abcab":
        clock.leap(1)
        touch(pool, endpoint)
    clock.leap(1)
    touch(pool, "d")
    assert closed_one(places) == ["c"]
    touch(pool, "e")
    assert closed_one(places) == ["a", "c"]
    eventually(lambda: sorted(pool.endpoints) == ["b", "d", "e"])


def test_one_in_use_does_not_make_room(many):
    pool = many(total=2)
    held = [pool.getconn("a"), pool.getconn("b")]
    with pytest.raises(PoolExhausted, match="2 of 2 under its limiter"):
        pool.getconn("c", timeout=0)
    with pytest.raises(PoolTimeout):
        pool.getconn("c", timeout=0.01)
    assert sorted(pool.endpoints) == ["a", "b"]
    for conn in held:
        pool.putconn(conn)


def test_waiters_for_the_total_are_served_first_come_first_served(many):
    pool = many(total=1, timeout=60)
    held, served, callers = pool.getconn("a"), [], []

    def ask(number, endpoint):
        conn = pool.getconn(endpoint)
        served.append(number)
        pool.putconn(conn)

    for number, endpoint in enumerate("bcabcddaeb"):
        before = sum(len(users) for users in pool.waiters().values())
        callers.append(Caller(ask, number, endpoint))
        eventually(lambda before=before: sum(len(users) for users in pool.waiters().values()) > before)
    pool.putconn(held)
    for caller in callers:
        caller.result()
    assert served == list(range(10))


def test_under_many_threads_the_total_is_kept_and_nobody_is_stranded(many, places):
    opened = Peak()

    class Counted(FakeConnection):
        def close(self):
            if not self.closed:
                opened.__exit__()
            super().close()

    def connect(endpoint):
        opened.__enter__()
        conn = Counted(endpoint)
        conn.endpoint = endpoint
        return conn

    places.connect = connect
    pool = many(maxconn=2, total=3, timeout=60)

    def work(seed):
        choice = random.Random(seed)
        for _ in range(40):
            endpoint = choice.randrange(6)
            conn = pool.getconn(endpoint)
            assert (conn.endpoint, conn.closed) == (endpoint, False)
            pool.putconn(conn, close=choice.random() < 0.2)

    for caller in [Caller(work, seed) for seed in range(8)]:
        caller.result(60)
    assert opened.most <= 3
    eventually(lambda: opened.inside == pool.total.used)
    eventually(lambda: len(pool.endpoints) <= 3)


# ---- forgetting ------------------------------------------------------------------------------------------------


def test_an_endpoint_with_no_connection_is_forgotten(many, clock):
    pool = many(idle_timeout=10)
    touch(pool, "a", "b")
    clock.leap(11)
    pool.check()
    eventually(lambda: pool.endpoints == [])
    assert pool.stats() == {}
    touch(pool, "a")
    assert pool.endpoints == ["a"]


def test_so_is_one_whose_connect_failed(many, places):
    places.down = {"a"}
    pool = many(total=1)
    for _ in range(3):
        with pytest.raises(OperationalError, match="a is down"):
            pool.getconn("a")
        eventually(lambda: pool.endpoints == [])
    assert pool.total.used == 0
    places.down.clear()
    touch(pool, "a")


def test_so_is_one_whose_callers_have_left(many):
    pool = many(total=1)
    held = pool.getconn("a")
    with pytest.raises(PoolTimeout):
        pool.getconn("b", timeout=0.01)
    eventually(lambda: pool.endpoints == ["a"])
    pool.putconn(held)


@pytest.fixture
def half_forgotten(many, clock, monkeypatch):
    """A pool that an interrupt struck when it forgot its one endpoint: that refuses everybody, and is still known."""
    pool = many(idle_timeout=10, total=2)
    touch(pool, "a")
    shell = getattr(pool, "_shell", pool)
    member = shell._pools["a"]
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(shell, "_forget", lambda member: None)
        clock.leap(11)
        pool.check()
        eventually(lambda: not member._state.size())
    assert member._end_if_empty()
    assert pool.endpoints == ["a"]
    return pool


def test_one_that_was_half_forgotten_can_be_used(half_forgotten):
    touch(half_forgotten, "a")
    assert half_forgotten.total.used == 1


def test_one_that_was_half_forgotten_is_forgotten_by_the_next_look(half_forgotten):
    half_forgotten.check()
    eventually(lambda: half_forgotten.endpoints == [])
    assert repr(half_forgotten.total) == "<Limiter 0 of 2 used, 0 pools>"


def test_one_that_is_forgotten_is_gone_from_the_limiter_too(many):
    pool = many(total=2)
    for number in range(20):
        touch(pool, number)
    eventually(lambda: len(pool.endpoints) == 2)
    assert repr(pool.total) == "<Limiter 2 of 2 used, 2 pools>"
    assert pool.total.used == 2


# ---- all of them -----------------------------------------------------------------------------------------------


def test_closing_refuses_everybody(many, places):
    pool = many(maxconn=1, timeout=60)
    held = pool.getconn("a")
    touch(pool, "b")
    caller = Caller(pool.getconn, "a")
    eventually(pool.waiters)
    pool.close(timeout=0)
    with pytest.raises(PoolClosed):
        caller.result()
    for call in (lambda: pool.getconn("a"), lambda: pool.getconn("c"), lambda: pool.putconn(held), pool.closeall):
        with pytest.raises(PoolClosed):
            call()
    assert pool.closed
    assert all(conn.closed for conn in places.made)
    pool.close()


def test_closing_waits_for_those_in_use(many, places):
    pool = many(timeout=60)
    held = pool.getconn("a")
    caller = Caller(pool.close)
    eventually(lambda: pool.closed)
    assert not held.closed
    with pytest.raises(PoolClosed):
        pool.getconn("b")
    pool.putconn(held)
    caller.result()
    assert held.closed


def test_closeall_closes_those_in_use_too(many, places):
    pool = many()
    held = pool.getconn("a")
    touch(pool, "b")
    pool.closeall()
    assert held.closed
    assert all(conn.closed for conn in places.made)


def test_with_the_pool_it_is_closed(many):
    with many() as pool:
        touch(pool, "a")
    assert pool.closed


def test_it_is_told_once_that_it_was_closed(many):
    recorder = Recorder()
    pool = many(listener=recorder)
    touch(pool, "a", "b")
    pool.close()
    pool.close()
    assert [event[0] for event in recorder.events].count("closed") == 1


def test_draining_one_or_all(many, places):
    pool = many()
    touch(pool, "a", "b")
    held = pool.getconn("c")
    pool.drain("a")
    pool.drain("unknown")
    eventually(lambda: closed_one(places) == ["a"])
    pool.drain()
    eventually(lambda: closed_one(places) == ["a", "b"])
    pool.putconn(held)
    eventually(lambda: held.closed)


def test_resizing_acts_at_once_and_on_what_comes(many):
    pool = many(maxconn=1, timeout=60)
    held = [pool.getconn("a")]
    caller = Caller(pool.getconn, "a")
    eventually(pool.waiters)
    pool.resize(0, 2)
    held.append(caller.result())
    held += [pool.getconn("b"), pool.getconn("b", timeout=0)]
    assert (pool.minconn, pool.maxconn) == (0, 2)
    with pytest.raises(ValueError, match="minconn must not be above"):
        pool.resize(3, 2)
    for conn in held:
        pool.putconn(conn)


def test_who_holds_and_who_waits_is_told_by_endpoint(many):
    pool = many(maxconn=1, timeout=60)
    held = pool.getconn("a")
    caller = Caller(pool.getconn, "a")
    eventually(pool.waiters)
    assert {endpoint: len(users) for endpoint, users in pool.holders().items()} == {"a": 1}
    assert {endpoint: len(users) for endpoint, users in pool.waiters().items()} == {"a": 1}
    pool.putconn(held)
    pool.putconn(caller.result())


def test_it_shows_what_it_has(many):
    pool = many(total=5, name="tenants")
    touch(pool, "a", "b")
    assert repr(pool).endswith("Pool 'tenants' 2 endpoints, 2 connections, max 2 each, 2 of 5 in total>")


def test_minconn_is_kept_once_an_endpoint_is_known(many, places):
    pool = many(2, 3)
    touch(pool, "a")
    eventually(lambda: pool.stats()["a"].idle == 2)
    assert pool.endpoints == ["a"]
