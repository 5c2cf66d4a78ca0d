"""What a pool shows: stats that add up, its repr, psycopg2's private views; and no secret in any of it."""

from __future__ import annotations

import logging
import pickle
import pprint
import re
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from fakes import FakeConnection, FakeConnector, OperationalError

import dbpool
from dbpool import PersistentConnectionPool, PoolStats, SimpleConnectionPool, ThreadedConnectionPool

from . import dbapi
from .checks import adds_up, lease_all
from .threads import Caller, Queue, eventually

SECRET = "hunter2"
HOME = str(Path(dbpool.__file__).parent)


def test_stats_count_what_happens(make, kind):
    pool = make(kind, 1, 3, name="orders")
    held = [pool.getconn(), pool.getconn("a")]
    pool.putconn(pool.getconn())
    stats = pool.stats()
    assert (stats.name, stats.minconn, stats.maxconn, stats.closed) == ("orders", 1, 3, False)
    assert (stats.size, stats.used, stats.idle, stats.connecting, stats.closing) == (3, 2, 1, 0, 0)
    assert (stats.leases, stats.opened, stats.waiting, stats.timeouts, stats.refused) == (3, 3, 0, 0, 0)
    assert len(held) == 2


def test_stats_add_up_whatever_happens(make, kind, driver):
    pool = make(kind, 1, 4, max_overflow=1, timeout=0)
    driver.fail_on = {4}
    steps = [
        lambda: pool.getconn("a"), lambda: pool.getconn("b"), pool.drain, lambda: pool.putconn(pool.getconn("a")),
        lambda: pool.getconn("c"), lambda: pool.getconn("d"), lambda: pool.resize(0, 2), lambda: pool.getconn("e"),
        lambda: pool.putconn(pool.getconn("b"), close=True), lambda: pool.putconn(pool.getconn("c")), pool.closeall,
    ]  # fmt: skip
    for step in steps:
        with suppress(Exception):
            step()
        assert adds_up(pool)
        assert pool.stats().idle + pool.stats().used == len(driver.open)
    assert pool.stats().opened == sum(pool.stats().discards.values())


def test_stats_see_what_is_connecting_waiting_and_closing(driver, waiting_kind):
    go = threading.Event()

    class Slow(FakeConnector):
        def close(self, conn):
            assert go.wait(20)
            super().close(conn)

    pool = waiting_kind(0, 1, connect=Slow(driver.connect))
    conn = pool.getconn()
    waiter = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting == 1)
    closer = Caller(pool.putconn, conn, close=True)
    eventually(lambda: pool.stats().closing == 1)
    assert (pool.stats().size, pool.stats().used, driver.calls) == (1, 0, 1)
    driver.gate.clear()
    go.set()
    closer.result()
    eventually(lambda: pool.stats().connecting == 1)
    driver.gate.set()
    pool.putconn(waiter.result())
    pool.close()


def test_a_slot_is_held_until_its_close_has_returned(driver, waiting_kind):
    """So that the server never sees more than maxconn."""
    go, closing = threading.Event(), threading.Event()

    class Slow(FakeConnector):
        def close(self, conn):
            closing.set()
            assert go.wait(20)
            super().close(conn)

    pool = waiting_kind(0, 1, connect=Slow(driver.connect))
    conn, queue = pool.getconn(), Queue(pool)
    closer = Caller(pool.putconn, conn, close=True)
    assert closing.wait(20)
    queue.join()
    assert driver.calls == 1
    go.set()
    closer.result()
    assert queue.finish() == [0]
    pool.close()


def test_counters_outlive_the_connections_they_count(make, kind):
    pool = make(kind, maxconn=1)
    for _ in range(3):
        pool.putconn(pool.getconn(), close=True)
    assert (pool.stats().leases, pool.stats().opened, pool.stats().discards) == (3, 3, {"closed by the caller": 3})


def test_stats_are_a_snapshot_that_nothing_changes(make, kind):
    pool = make(kind)
    before = pool.stats()
    pool.putconn(pool.getconn(), close=True)
    assert before.opened == 0
    assert before.discards == {}
    with pytest.raises(AttributeError):
        before.used = 5
    assert isinstance(before, PoolStats)
    assert pickle.loads(pickle.dumps(before)) == before


def test_waits_are_counted_with_their_time(make, clock):
    pool = make(maxconn=1, timeout=None)
    conn = pool.getconn()
    before = pool.stats()
    caller = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting)
    clock.leap(7)
    pool.putconn(conn)
    caller.result()
    after = pool.stats()
    assert (after.waits - before.waits, after.waited - before.waited) == (1, 7)


def test_repr_shows_the_state(make, kind):
    pool = make(kind, 0, 3, name="orders")
    assert re.fullmatch(r"<\w+ConnectionPool 'orders' 0 used, 0 idle, 0 connecting, 0 waiting, max 3>", repr(pool))
    conn = pool.getconn()
    assert "1 used, 0 idle" in repr(pool)
    pool.putconn(conn)
    assert "0 used, 1 idle" in repr(pool)
    pool.closeall()
    assert "closed" in repr(pool)


def test_a_pool_that_was_refused_can_be_shown(kind):
    """As an error reporter does with the locals of its constructor."""
    with pytest.raises(TypeError) as caught:
        kind("one", 2)
    frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    name = getattr(kind, "SHOWN", kind).__name__
    assert f"<{name} not made>" in {repr(shown) for shown in frames if type(shown).__name__ == name}


def test_the_plain_attributes_can_be_read(make, kind):
    pool = make(kind, 1, 3, name="orders")
    assert (pool.minconn, pool.maxconn, pool.closed, pool.name) == (1, 3, False, "orders")
    pool.closeall()
    assert pool.closed


# ---- psycopg2's private views ------------------------------------------------------------------------------


def test_the_private_views_answer_in_psycopg2s_shapes(make, kind):
    pool = make(kind, 1, 3)
    unkeyed, keyed = pool.getconn(), pool.getconn("a")
    pool.putconn(pool.getconn())
    assert [type(conn) for conn in pool._pool] == [FakeConnection]
    assert pool._used["a"] is keyed
    assert sorted(map(id, pool._used.values())) == sorted(map(id, [unkeyed, keyed]))
    assert set(pool._rused) == {id(unkeyed), id(keyed)}
    assert pool._rused[id(keyed)] == "a"
    assert isinstance(pool._keys, int)
    assert (len(pool._pool), len(pool._used), len(pool._rused)) == (1, 2, 2)


def test_the_private_views_of_a_persistent_pool_answer(make):
    pool = make(PersistentConnectionPool)
    conn = pool.getconn()
    assert list(pool._used.values()) == [conn]
    assert set(pool._rused) == {id(conn)}


def test_changing_a_view_changes_nothing(make, kind):
    pool = make(kind, 1, 3)
    conn = pool.getconn()
    pool._pool.append("x")
    pool._used.clear()
    pool._rused.clear()
    for name in ("_pool", "_used", "_rused", "_keys", "_args", "_kwargs", "minconn", "maxconn", "closed", "name"):
        with pytest.raises(AttributeError):
            setattr(pool, name, None)
    pool.putconn(conn)
    lease_all(pool)


def test_the_arguments_can_be_read_but_do_not_print(kind):
    pool = kind(0, 1, f"password={SECRET}", connect=dbapi, password=SECRET)
    assert tuple(pool._args) == (f"password={SECRET}",)
    assert dict(pool._kwargs) == {"password": SECRET}
    for shown in (pool._args, pool._kwargs):
        assert SECRET not in repr(shown) + str(shown) + f"{shown}" + pprint.pformat(shown) + ascii(shown)


# ---- no secret ---------------------------------------------------------------------------------------------


def everything_printed(thing, seen=None, depth=4):
    """Return the repr of *thing* and of the attributes of what it holds, as a debugger shows them."""
    seen = set() if seen is None else seen
    if id(thing) in seen or depth == 0 or isinstance(thing, ModuleType):
        return ""
    seen.add(id(thing))
    held = dict(getattr(thing, "__dict__", {}))
    for name in getattr(type(thing), "__slots__", ()):
        held[name] = getattr(thing, name, None)
    inner = [everything_printed(value, seen, depth - 1) for value in held.values()]
    return "".join([repr(thing), repr(held), pprint.pformat(held), *inner])


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((f"host=db password={SECRET}",), {}),
        ((f"postgresql://app:{SECRET}@db/orders",), {}),
        ((), {"password": SECRET}),
        (({"host": "db", "password": SECRET},), {}),
    ],
    ids=["dsn", "uri", "keyword", "dict"],
)
def test_no_attribute_of_a_pool_prints_a_secret(kind, args, kwargs):
    pool = kind(1, 2, *args, connect=dbapi, **kwargs)
    conn = pool.getconn()
    shown = everything_printed(pool) + repr(pool.stats()) + repr(pool._used)
    assert "hidden" in shown
    assert SECRET not in shown
    pool.putconn(conn)
    pool.close()


def test_no_log_line_of_a_pool_holds_a_secret(kind, caplog):
    failing = []

    def connect(dsn):
        if failing:
            raise OperationalError(f"cannot connect with {dsn}")
        return FakeConnection(1)

    with caplog.at_level(logging.DEBUG, "dbpool"):
        pool = kind(1, 2, f"password={SECRET}", connect=connect, config={"connect_attempts": 1})
        held = pool.getconn()
        failing.append(True)
        with pytest.raises(OperationalError):
            pool.getconn()
        pool.putconn(held, close=True)
        pool.closeall()
    assert SECRET not in caplog.text
    assert SECRET not in "".join(repr(vars(record)) for record in caplog.records)


@pytest.mark.fault(68)
@pytest.mark.parametrize("pool_kind", [SimpleConnectionPool, ThreadedConnectionPool, PersistentConnectionPool])
@pytest.mark.parametrize(("args", "kwargs"), [((f"password={SECRET}",), {}), ((), {"password": SECRET})])
def test_no_frame_of_the_packages_own_shows_a_secret(pool_kind, args, kwargs, monkeypatch):
    """An error reporter shows the locals of all frames of a traceback."""

    def connect(*args, **kwargs):
        raise OperationalError("no")

    monkeypatch.setattr(dbapi, "connect", connect)
    with pytest.raises(OperationalError) as caught:
        pool_kind(1, 2, *args, connect=dbapi, **kwargs)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    own = [frame for frame in frames if frame.f_code.co_filename.startswith(HOME)]
    assert len(own) >= 2
    shown = [(frame.f_code.co_name, name, repr(value)) for frame in own for name, value in frame.f_locals.items()]
    assert [known for known in shown if SECRET in known[2]] == []
