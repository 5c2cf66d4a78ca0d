"""When connections end by themselves: lifetime, idleness; and how minconn is restored. With sweeps, and without."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from fakes import FakeConnector, Recorder, no_housekeeper

from dbpool import SimpleConnectionPool, ThreadedConnectionPool
from dbpool import housekeeper as module
from dbpool.clock import uptime
from dbpool.config import LONGEST_PERIOD, SHORTEST_PERIOD, PoolConfig
from dbpool.opening import jittered

from .checks import adds_up
from .starting import Starter
from .threads import eventually


@pytest.fixture
def alone():
    """Nothing happens but what the test does."""
    with no_housekeeper():
        yield


@pytest.fixture
def keeper(monkeypatch):
    """A housekeeper of the test's own, whose threads coverage sees."""
    starter = Starter()
    monkeypatch.setattr(module, "start_new_thread", starter)
    keeper = module.Housekeeper()
    for name, user in list(sys.modules.items()):
        if name.startswith("dbpool.") and user is not module and hasattr(user, "housekeeper"):
            monkeypatch.setattr(user, "housekeeper", keeper)
    yield keeper
    keeper._due.clear()
    keeper.pause()
    eventually(lambda: not starter.alive)
    if keeper._watch is not None:
        keeper._watch.close()


def idle(pool, number):
    conns = [pool.getconn() for _ in range(number)]
    for conn in conns:
        pool.putconn(conn)
    return conns


# ---- lifetime ----------------------------------------------------------------------------------------------


def test_lifetimes_are_spread(make, alone):
    pool = make(minconn=100, maxconn=100, max_lifetime=1000.0, lifetime_jitter=0.1)
    now = uptime()
    left = [entry.use_by - now for entry in pool._entries.values()]
    assert 899.0 <= min(left) <= max(left) <= 1000.0
    assert max(left) - min(left) >= 50.0, "they end together"


@pytest.mark.parametrize(("jitter", "least"), [(0, 100.0), (0.5, 50.0), (1, 0.0)])
def test_jitter_only_shortens(jitter, least):
    found = [jittered(100.0, jitter) for _ in range(1000)]
    assert least <= min(found) <= max(found) <= 100.0
    assert (len(set(found)) > 900) is bool(jitter)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), True, "0.1", None])
def test_a_jitter_that_is_no_part_is_refused(bad):
    with pytest.raises((TypeError, ValueError), match="lifetime_jitter"):
        PoolConfig(lifetime_jitter=bad)


@pytest.mark.parametrize("when", ["get", "put", "check"])
def test_past_its_lifetime_it_is_replaced(make, kind, clock, alone, when):
    pool = make(kind, 0, 2, max_lifetime=100.0, lifetime_jitter=0)
    conn = pool.getconn()
    if when != "put":
        pool.putconn(conn)
    clock.leap(99.5)
    assert not conn.closes
    clock.leap(0.5)
    if when == "put":
        pool.putconn(conn)
        pool.check()
    if when == "check":
        pool.check()
    assert conn.closes == (when != "get")
    assert pool.getconn() is not conn
    assert conn.closes == 1
    assert adds_up(pool)


def test_a_leased_one_is_not_closed_in_its_users_hands(make, kind, clock, alone):
    pool = make(kind, 0, 2, max_lifetime=100.0)
    conn = pool.getconn()
    clock.leap(1000.0)
    pool.check()
    assert not conn.closes
    pool.putconn(conn)
    assert pool.check().discards == {"lifetime": 1}


def test_the_old_ones_in_the_midst_of_others_are_found(make, clock, alone):
    pool = make(maxconn=3, max_lifetime=100.0, lifetime_jitter=0)
    first = pool.getconn()
    clock.leap(50.0)
    second, third = pool.getconn(), pool.getconn()
    for conn in (second, first, third):
        pool.putconn(conn)
    clock.leap(50.0)
    pool._sweep()
    assert (first.closes, second.closes, third.closes) == (1, 0, 0)
    assert pool.getconn() is third
    assert pool.getconn() is second


# ---- idleness ----------------------------------------------------------------------------------------------


def test_idle_ones_are_closed_down_to_minconn(make, kind, clock, alone):
    pool = make(kind, 1, 4, idle_timeout=600.0, max_lifetime=None)
    idle(pool, 4)
    clock.leap(599.0)
    assert pool.check().idle == 4
    clock.leap(1.0)
    stats = pool.check()
    assert (stats.idle, stats.discards) == (1, {"idle": 3})


def test_none_never_closes_an_idle_one(make, kind, clock, alone):
    pool = make(kind, 0, 3, idle_timeout=None, max_lifetime=None)
    idle(pool, 3)
    clock.leap(10**6)
    assert pool.check().idle == 3


def test_those_that_are_used_stay(make, clock, alone):
    pool = make(maxconn=3, idle_timeout=600.0, max_lifetime=None)
    idle(pool, 3)
    for _ in range(3):
        clock.leap(250.0)
        pool.putconn(pool.getconn())
    assert pool.check().discards == {"idle": 2}


def test_idle_timeout_holds_beside_ping_interval(make, clock, alone):
    pool = make(maxconn=3, idle_timeout=600.0, ping_interval=60.0, max_lifetime=None)
    idle(pool, 3)
    clock.leap(500.0)
    pool.putconn(pool.getconn())  # one of them is used now and then
    clock.leap(90.0)
    pool._sweep()
    clock.leap(50.0)
    pool._sweep()
    assert pool.stats().discards == {"idle": 2}


def test_a_check_does_not_change_who_is_next(make, alone):
    pool = make(maxconn=3)
    conns = idle(pool, 3)
    pool.check()
    assert pool.getconn() is conns[2]


# ---- minconn -----------------------------------------------------------------------------------------------


def test_minconn_is_restored(make, kind, driver, clock, alone):
    pool = make(kind, 2, 3)
    pool.putconn(pool.getconn(), close=True)
    assert pool.stats().size == 1
    assert pool.check().idle == 2
    clock.leap(4000.0)
    stats = pool.check()
    assert (stats.idle, stats.discards["lifetime"]) == (2, 2)


def test_a_lazy_pool_is_not_filled(make, kind, alone):
    assert make(kind, 2, 3, start="lazy").check().size == 0


def test_a_closed_pool_is_not_filled(make, kind, alone):
    pool = make(kind, 2, 3)
    pool.closeall()
    assert pool.check().size == 0


def test_what_cannot_be_opened_is_left_for_the_next_time(make, kind, driver, alone):
    pool = make(kind, 2, 3)
    pool.putconn(pool.getconn(), close=True)
    driver.refusal = "transient"
    assert pool.check().size == 1
    driver.refusal = None
    eventually(lambda: pool.check().idle == 2)


@pytest.mark.synchronous
def test_the_old_ones_are_replaced_one_after_the_other(make, kind, driver, clock, alone):
    """Never are more than one of minconn missing."""
    pool, connect, open_then = make(kind, 8, 10, lifetime_jitter=0), driver.connect, []
    for conn in [pool.getconn() for _ in range(10)]:
        pool.putconn(conn)
    pool._opener.connector._connect = lambda: (open_then.append(len(driver.open)), connect())[1]
    clock.leap(4000.0)
    stats = pool.check()
    assert (stats.idle, stats.discards["lifetime"]) == (8, 10)
    assert open_then == [7] * 8


def test_what_nobody_can_replace_is_left_for_the_next_time(make, kind, driver, clock, alone):
    pool = make(kind, 3, 3)
    driver.refusal = "transient"
    clock.leap(4000.0)
    assert pool.check().size == 2
    assert pool.check().size == 1
    driver.refusal = None
    clock.leap(10.0)
    stats = pool.check()
    assert (stats.idle, stats.discards["lifetime"]) == (3, 3)


def test_of_a_lazy_pool_all_old_ones_are_closed(make, kind, clock, alone):
    pool = make(kind, 2, 3, start="lazy")
    idle(pool, 2)
    clock.leap(4000.0)
    assert pool.check().size == 0


# ---- sweeps ------------------------------------------------------------------------------------------------


def test_sweeps_come_by_themselves(make, keeper):
    pool = make(ThreadedConnectionPool, 0, 3, idle_timeout=0.05)
    idle(pool, 3)
    eventually(lambda: pool.stats().discards == {"idle": 3})
    assert adds_up(pool)


def test_sweeps_restore_minconn(make, keeper):
    pool = make(ThreadedConnectionPool, 2, 3, max_lifetime=0.4)
    pool.putconn(pool.getconn(), close=True)
    eventually(lambda: pool.stats().idle == 2)


def test_sweeps_go_on_after_one_that_failed(make, keeper, caplog):
    pool, failed = make(ThreadedConnectionPool, 0, 3, idle_timeout=0.3), []

    def fail():
        if not failed:
            failed.append(True)
            raise ValueError("once")
        return 0.0

    pool._notice_sleep = fail
    idle(pool, 3)
    eventually(lambda: pool.stats().discards == {"idle": 3})
    assert "work in the background failed" in caplog.text


def test_a_pool_for_one_thread_and_one_without_background_have_no_sweeps(make, keeper):
    for kind, options in ((SimpleConnectionPool, {}), (ThreadedConnectionPool, {"background": False})):
        pool = make(kind, 2, 3, idle_timeout=0.05, **options)
        pool.putconn(pool.getconn())
    assert not keeper._due
    assert keeper._watch is None


def test_a_closed_pool_is_swept_no_more(make, keeper):
    pool = make(ThreadedConnectionPool, 1, 3)
    assert id(pool) in keeper._due
    pool.close()
    pool._sweep()
    assert id(pool) not in keeper._due


def test_a_pool_that_is_dropped_is_freed_though_it_is_swept(keeper):
    pool = ThreadedConnectionPool(1, 1, connect=FakeConnector(), config={"max_lifetime": 0.5})
    gone = weakref.ref(pool)
    del pool

    def is_gone():
        gc.collect()
        return gone() is None

    eventually(is_gone)


def test_a_sweep_comes_when_a_server_that_refused_may_be_asked_again(make, driver, keeper):
    """And not after the whole period of 30 s."""
    pool = make(ThreadedConnectionPool, 2, 3, max_lifetime=None)
    driver.refusal = "transient"
    pool.putconn(pool.getconn(), close=True)
    pool.putconn(pool.getconn(), close=True)
    pool._sweep()
    assert pool.stats().size == 0
    driver.refusal = None
    eventually(lambda: pool.stats().idle == 2)


def test_a_sweep_says_when_it_wants_the_next(make, keeper, clock):
    pool = make(ThreadedConnectionPool, 0, 3, idle_timeout=200.0)
    pool._sweep()
    assert keeper._due[id(pool)][1] == clock.now + 10.0


@pytest.mark.parametrize(
    ("options", "period"),
    [
        ({}, LONGEST_PERIOD),
        ({"idle_timeout": None, "max_lifetime": None}, LONGEST_PERIOD),
        ({"idle_timeout": 0, "max_lifetime": 100.0}, 5.0),
        ({"ping_interval": 20.0}, 1.0),
        ({"leak_threshold": 0.001}, SHORTEST_PERIOD),
    ],
)
def test_the_period_is_a_part_of_the_shortest_limit(options, period):
    assert PoolConfig(**options).sweep_period() == period


def test_a_listener_hears_why_connections_end(make, clock, alone):
    recorder = Recorder()
    pool = make(maxconn=2, listener=recorder, idle_timeout=600.0)
    idle(pool, 1)
    clock.leap(700.0)
    pool.check()
    assert ("discarded", "idle") in recorder.events
