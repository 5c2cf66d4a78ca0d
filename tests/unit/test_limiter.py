"""Limiter: one limit over several pools, first come, first served across them."""

from __future__ import annotations

import gc
import random
import threading

import pytest
from fakes import FakeConnection, FakeConnector, FakeDriver, OperationalError

from dbpool import (
    Limiter,
    PersistentConnectionPool,
    PoolExhausted,
    PoolTimeout,
    SimpleConnectionPool,
)
from dbpool.config import PoolConfig
from dbpool.state import PoolState

from .checks import adds_up
from .pure import opened
from .threads import Caller, Peak, eventually

pytestmark = pytest.mark.usefixtures("undisturbed")


@pytest.fixture
def limiter():
    return Limiter(2)


@pytest.fixture
def pools(make, limiter):
    """Three pools, each of which could have as many connections as the limiter allows to all of them."""
    return [make(maxconn=2, limiter=limiter, timeout=60, name=f"pool {number}") for number in range(3)]


def queue(pool, served, name):
    """Have one more caller stand in line at *pool*; it notes *name* when it is served, and puts at once."""
    waiting = pool.stats().waiting

    def work():
        conn = pool.getconn()
        served.append(name)
        pool.putconn(conn)

    caller = Caller(work)
    eventually(lambda: pool.stats().waiting > waiting)
    return caller


# ---- the limit ---------------------------------------------------------------------------------------------


def test_the_limit_holds_for_all_pools_together(pools, driver, limiter):
    conns = [pools[0].getconn(), pools[1].getconn()]
    with pytest.raises(PoolExhausted, match="2 of 2 under its limiter"):
        pools[2].getconn(timeout=0)
    assert (limiter.used, driver.calls) == (2, 2)
    assert repr(limiter) == "<Limiter 2 of 2 used, 3 pools>"
    for pool, conn in zip(pools, conns):
        pool.putconn(conn)


def test_minconn_is_opened_as_far_as_the_limit_allows(make, limiter, driver):
    first, second = make(minconn=2, limiter=limiter), make(minconn=2, limiter=limiter)
    assert (first.stats().size, second.stats().size) == (2, 0)
    first.close()
    assert second.check().size == 2


def test_many_threads_on_many_pools_never_open_more(waiting_kind):
    class Connection(FakeConnection):
        def close(self):
            if not self.closed:
                opened.__exit__()
            super().close()

    opened, made = Peak(), []

    def connect():
        opened.__enter__()
        made.append(Connection(len(made)))
        return made[-1]

    limiter = Limiter(3)
    options = {"limiter": limiter, "timeout": 60, "detect_deadlock": False}
    pools = [waiting_kind(0, 3, connect=FakeConnector(connect), config=options) for _ in range(3)]

    def work(seed):
        choice = random.Random(seed)
        for _ in range(60):
            pool = choice.choice(pools)
            conn = pool.getconn()
            assert not conn.closed
            pool.putconn(conn, close=choice.random() < 0.2)

    try:
        for caller in [Caller(work, seed) for seed in range(8)]:
            caller.result(60)
        assert opened.most <= 3
        eventually(lambda: opened.inside == limiter.used)  # connects may be under way for callers who were served
        eventually(lambda: all(adds_up(pool) for pool in pools))
    finally:
        for pool in pools:
            pool.close(timeout=0)
    eventually(lambda: (limiter.used, opened.inside) == (0, 0))  # what was being opened is closed then


def test_who_waits_for_a_connect_of_another_wakes_nobody_without_end(make, driver):
    """In each pool somebody waits for the connection that is being opened for a caller who was served otherwise."""
    limiter, held = Limiter(9), []
    pools = [make(maxconn=3, limiter=limiter, timeout=60) for _ in range(2)]
    conns = [pool.getconn() for pool in pools]
    driver.gate.clear()
    for pool, conn in zip(pools, conns):
        calls = driver.calls
        served = Caller(pool.getconn)
        eventually(lambda calls=calls: driver.calls > calls)
        pool.putconn(conn)
        held.append(served.result())
        assert pool.stats().connecting == 1
    callers = [Caller(pool.getconn) for pool in pools]
    try:
        eventually(lambda: all(pool.stats().waiting for pool in pools) or any(caller.ended for caller in callers))
        for pool in pools:
            pool._settle()
    finally:
        driver.gate.set()
        got = [caller.result() for caller in callers]
    for pool, first, second in zip(pools, held, got):
        pool.putconn(first)
        pool.putconn(second)


def test_what_is_being_opened_and_being_closed_counts(pools, driver, limiter):
    driver.gate.clear()
    callers = [Caller(pools[0].getconn) for _ in range(2)]
    eventually(lambda: driver.calls == 2)
    assert limiter.used == 2
    with pytest.raises(PoolExhausted):
        pools[1].getconn(timeout=0)
    driver.gate.set()
    conn, other = (caller.result() for caller in callers)
    closing = []
    real = conn.close
    conn.close = lambda: (closing.append(limiter.used), real())
    pools[0].putconn(conn, close=True)
    assert closing == [2]
    assert limiter.used == 1
    pools[0].putconn(other)


def test_a_connect_that_fails_gives_its_place_back(pools, driver, limiter):
    driver.fail_on = {1}
    with pytest.raises(OperationalError):
        pools[0].getconn()
    assert limiter.used == 0
    assert pools[1].getconn().number == 2


# ---- who waits ---------------------------------------------------------------------------------------------


def test_an_idle_one_of_another_pool_is_closed_for_who_waits(pools, driver, limiter):
    for pool in pools[:2]:
        pool.putconn(pool.getconn())
    conn = pools[2].getconn()
    assert conn.number == 3
    assert sum(old.closes for old in driver.made) == 1
    assert limiter.used == 2
    assert pools[0].stats().discards.get("limiter", 0) + pools[1].stats().discards.get("limiter", 0) == 1
    pools[2].putconn(conn)


def test_so_it_is_for_who_does_not_wait(pools, driver):
    pools[0].putconn(pools[0].getconn())
    leased = pools[1].getconn()
    assert pools[2].getconn(timeout=0).number == 3
    pools[1].putconn(leased)


def test_one_that_comes_back_to_another_pool_is_closed_for_who_waits(pools, driver):
    conns = [pools[0].getconn() for _ in range(2)]
    served = []
    caller = queue(pools[1], served, "there")
    pools[0].putconn(conns[0])
    caller.result()
    assert served == ["there"]
    assert conns[0].closes == 1
    pools[0].putconn(conns[1])
    assert conns[1].closes == 0, "nobody waits any more"


def test_first_come_first_served_across_the_pools(pools, driver):
    held = [pools[0].getconn() for _ in range(2)]
    served, callers = [], []
    for number, pool in enumerate([1, 2, 0, 1, 0, 2, 2, 1]):
        callers.append(queue(pools[pool], served, number))
    pools[0].putconn(held.pop())
    for caller in callers:
        caller.result()
    assert served == sorted(served)
    pools[0].putconn(held.pop())


def test_who_came_later_does_not_get_ones_own_pools_connection_first(pools):
    held = [pools[0].getconn() for _ in range(2)]
    served = []
    callers = [queue(pools[1], served, "first"), queue(pools[0], served, "second")]
    pools[0].putconn(held[0])
    for caller in callers:
        caller.result()
    assert served == ["first", "second"]
    pools[0].putconn(held[1])


def test_a_new_caller_does_not_overtake_those_who_wait_elsewhere(pools):
    held = [pools[0].getconn() for _ in range(2)]
    served = []
    caller = queue(pools[1], served, "first")
    with pytest.raises(PoolExhausted):
        pools[0].getconn(timeout=0)
    pools[0].putconn(held[0])
    caller.result()
    pools[0].putconn(held[1])


def test_who_times_out_is_not_waited_for_any_more(pools, clock):
    held = [pools[0].getconn() for _ in range(2)]
    caller = Caller(pools[1].getconn, timeout=5)
    eventually(lambda: pools[1]._state.wishes)
    clock.leap(6.0)
    with pytest.raises(PoolTimeout, match="2 of 2 under its limiter"):
        caller.result()
    pools[0].putconn(held[0])
    assert held[0].closes == 0
    assert pools[0].getconn() is held[0]
    for conn in held:
        pools[0].putconn(conn)


def test_a_pool_that_is_closed_gives_way(pools):
    for _ in range(2):
        pools[0].getconn()
    served = []
    caller = queue(pools[1], served, "there")
    pools[0].closeall()
    caller.result()
    assert served == ["there"]


def test_a_pool_that_is_dropped_gives_way(limiter, driver, make, heartbeat, waiting_kind):
    driver.keep = False
    pool = waiting_kind(2, 2, connect=FakeConnector(driver.connect), config={"limiter": limiter})
    other = make(limiter=limiter, timeout=60)
    assert limiter.used == 2
    del pool
    gc.collect()
    assert limiter.used == 0
    conn = other.getconn()
    assert conn.number == 3
    other.putconn(conn)


def test_a_pool_for_one_thread_counts_but_is_not_asked(make, limiter, driver):
    single, shared = make(SimpleConnectionPool, 2, 2, limiter=limiter), make(limiter=limiter)
    with pytest.raises(PoolExhausted):
        shared.getconn(timeout=0)
    assert single.stats().idle == 2
    conn = single.getconn()
    single.putconn(conn, close=True)
    assert shared.getconn(timeout=0).number == 3
    with pytest.raises(PoolExhausted):
        single.getconn(), single.getconn()


def test_threads_with_connections_of_their_own_share_it_too(make, limiter):
    pool, other = make(PersistentConnectionPool, maxconn=2, limiter=limiter), make(limiter=limiter, timeout=60)
    conn, held = pool.getconn(), other.getconn()
    caller = Caller(other.getconn)
    eventually(lambda: other.stats().waiting)
    pool.putconn(conn)
    assert caller.result().number == 3
    other.putconn(held)


# ---- many pools ---------------------------------------------------------------------------------------------


def test_the_one_used_least_recently_makes_room(make, driver, clock):
    """Whatever the order in which the pools were made, and whoever else has some that lie idle."""
    limiter = Limiter(6)
    pools = [make(maxconn=2, limiter=limiter, idle_timeout=None, ping_after=None) for _ in range(4)]
    for number in (2, 0, 1, 2, 0):  # used last: pool 1 at 3, pool 2 at 4, pool 0 at 5
        clock.leap(1)
        pools[number].putconn(pools[number].getconn())
    held = [pools[3].getconn(timeout=0) for _ in range(2)]  # there is room
    clock.leap(1)
    busy = pools[1].getconn()  # in use: so it is not its turn
    extra = make(maxconn=4, limiter=limiter)
    held += [extra.getconn(timeout=0)]  # there is room
    for expected in ("pool 2", "pool 0"):
        held.append(extra.getconn(timeout=0))
        gone = [f"pool {number}" for number in range(4) if pools[number].stats().discards.get("limiter")]
        assert expected in gone
        assert len(gone) == len(held) - 3
    with pytest.raises(PoolExhausted):
        extra.getconn(timeout=0)
    pools[1].putconn(busy)
    assert extra.getconn(timeout=0)
    assert busy.closed


def test_it_does_not_look_at_each_pool(make, limiter, monkeypatch):
    """There may be thousands: neither when there is room, nor when an idle one must be closed."""
    limiter = Limiter(40)
    pools = [make(maxconn=2, limiter=limiter) for _ in range(40)]
    for pool in pools:
        pool.putconn(pool.getconn())
    looks = []
    size = PoolState.size
    monkeypatch.setattr(PoolState, "size", lambda state: looks.append(state) or size(state))
    other = make(limiter=limiter)
    other.putconn(other.getconn())
    assert len(set(map(id, looks))) == 2, "only the one that wants it and the one that gives way"


def test_a_count_that_was_cut_off_is_made_anew(pools, limiter):
    conn = pools[0].getconn()
    limiter._total, limiter._counting = (7, 3), object()  # as an interrupt may leave them
    assert (limiter.used, limiter.closing) == (1, 0)
    pools[0].putconn(conn, close=True)
    assert (limiter.used, limiter._counting) == (0, None)


# ---- by itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None, "5"])
def test_a_limit_that_is_no_number_of_connections_is_refused(bad):
    with pytest.raises((TypeError, ValueError), match="limit must be"):
        Limiter(bad)


@pytest.mark.parametrize("bad", [5, "five", object()])
def test_what_is_no_limiter_is_refused(bad):
    with pytest.raises(TypeError, match="limiter must be a Limiter"):
        PoolConfig(limiter=bad)


def test_a_child_process_begins_with_nothing_under_it(pools, limiter):
    """Called here in the parent. Its lock may have been held by a thread that the child does not have."""
    pools[0].getconn(), pools[1].getconn()
    limiter.lock.acquire()
    limiter._renew_after_fork()
    for pool in pools:
        pool._renew_after_fork()
    assert limiter.used == 0
    assert Caller(pools[2].getconn).result().number == 3


def test_pools_with_different_drivers_share_it(make, limiter):
    pool = make(limiter=limiter)
    other_driver = FakeDriver()
    other = SimpleConnectionPool(0, 2, connect=FakeConnector(other_driver.connect), config={"limiter": limiter})
    pool.getconn(), other.getconn()
    with pytest.raises(PoolExhausted):
        other.getconn()
    assert (limiter.used, other_driver.calls) == (2, 1)
    other.close()


def test_who_is_gone_in_the_meantime_is_not_called(limiter):
    owner, waiting = PoolState("owner", 0, 2, limiter=limiter), PoolState("waiting", 0, 2, limiter=limiter)
    limiter.join(owner, lambda: None)  # a WeakMethod whose pool is gone
    limiter.join(waiting, None)
    opened(owner, 2)
    owner.gate = False
    waiting.wishes = [1.0]
    limiter.wished(waiting)
    limiter.wake_others()
    assert owner.gate, "it would not look when it is next used"


@pytest.mark.synchronous
def test_a_proxy_that_is_collected_under_the_limiters_lock_waits_for_no_pools_lock(make, driver, monkeypatch):
    """Of two threads, each with a lock, both would wait for the other's."""
    limiter = Limiter(8)
    first, second = (make(maxconn=4, limiter=limiter, timeout=30) for _ in range(2))
    cycle = [second.connect()]
    cycle.append(cycle)
    del cycle
    under_way, real = threading.Event(), limiter.grants

    def is_seconds_lock_taken():
        if second._lock.acquire(False):
            second._lock.release()
            return False
        return True

    def grants(state, since):
        if state is first._state and not under_way.is_set():
            under_way.set()
            eventually(is_seconds_lock_taken)
            gc.collect()
        return real(state, since)

    monkeypatch.setattr(limiter, "grants", grants)
    gc.disable()
    try:
        caller = Caller(first.getconn)
        under_way.wait(30)
        other = Caller(second.getconn)
        first.putconn(caller.result())
        second.putconn(other.result())
    finally:
        gc.enable()
