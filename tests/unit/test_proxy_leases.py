"""Proxies that are dropped, that share a key, or that are a thread's own: each gives its connection back, once."""

from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import closing, suppress
from functools import partial

import pytest
from fakes import INTRANS, OperationalError

from dbpool import PersistentConnectionPool, PoolError, PoolExhausted, SimpleConnectionPool
from dbpool.proxy import CLOSED

from .checks import adds_up, lease_all, unchanged
from .test_reentry import Garbage, Key
from .threads import Caller, eventually

pytestmark = pytest.mark.synchronous


@pytest.fixture(params=[None, "a"], ids=["unkeyed", "keyed"])
def key(request):
    """Without a key, and with one."""
    return request.param


# ---- dropped ---------------------------------------------------------------------------------------------------------


def test_a_dropped_proxy_gives_the_connection_back_clean(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    proxy = pool.connect(key)
    proxy.execute()
    del proxy
    [conn] = driver.made
    assert (conn.rollbacks, conn.closes, pool.stats().idle) == (1, 0, 1)
    assert pool.getconn() is conn
    pool.putconn(conn)
    assert adds_up(pool)


def test_a_proxy_in_a_cycle_is_given_back_by_the_garbage_collector(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    cycle = [pool.connect(key)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert (driver.made[0].closes, pool.stats().idle) == (0, 1)
    lease_all(pool)


def test_a_dropped_proxy_serves_who_waits(make, key):
    pool = make(maxconn=1)
    proxies = [pool.connect(key)]
    caller = Caller(pool.connect, timeout=5)
    eventually(lambda: pool.stats().waiting)
    proxies.clear()
    caller.result().close()
    lease_all(pool)


def test_a_closed_proxy_that_is_dropped_gives_nothing_back_again(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    proxy = pool.connect(key)
    proxy.close()
    other = pool.getconn()
    with unchanged(pool, driver):
        del proxy
    pool.putconn(other)


@pytest.mark.parametrize("status", [0, INTRANS], ids=["clean", "in a transaction"])
def test_a_proxy_dropped_while_the_lock_is_held_is_cleaned_outside_it(make, kind, driver, key, status):
    pool = make(kind, maxconn=2)
    held, owned = [pool.connect(key)], []
    [conn] = driver.made
    conn.status = status
    rollback = conn.rollback
    conn.rollback = lambda: (owned.append(pool._lock._is_owned()), rollback())
    at_drop = []

    def drop():
        at_drop.append(pool._lock._is_owned())
        held.clear()

    with suppress(PoolExhausted):
        pool.putconn(pool.getconn(Key(lambda: Garbage(drop)), timeout=0))
    assert at_drop == [True], "the lock was not held: the test proves nothing"
    assert owned == ([False] if status else [])
    assert (pool.stats().used, conn.closes, conn.status) == (0, 0, 0)
    assert not pool._state.keyed
    assert adds_up(pool)
    lease_all(pool)


def test_a_proxy_dropped_while_the_lock_is_held_serves_who_asked(make, kind, driver, key):
    pool = make(kind, maxconn=1)
    held = [pool.connect(key)]
    held[0].execute()
    conn = pool.getconn(Key(lambda: Garbage(held.clear)), timeout=0 if kind is SimpleConnectionPool else 5)
    assert conn is driver.made[0]
    assert conn.rollbacks == 1
    pool.putconn(conn)
    lease_all(pool)


def test_an_interrupt_in_the_finalizer_loses_no_slot(make, driver, monkeypatch):
    driver.keep = False
    pool = make(maxconn=1)
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: ignored.append(args.exc_type))
    proxy = pool.connect()

    def put(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "putconn", put)
    del proxy
    monkeypatch.undo()
    gc.collect()
    assert ignored == [KeyboardInterrupt]
    with pytest.warns(ResourceWarning, match="dropped"):
        lease_all(pool)


def test_a_proxy_that_is_left_at_exit_prints_nothing():
    program = """
import sqlite3, sys, threading
import dbpool
class Cycle: pass
pools = [kind(1, 2, ":memory:", connect=sqlite3) for kind in
         (dbpool.SimpleConnectionPool, dbpool.ThreadedConnectionPool, dbpool.PersistentConnectionPool)]
left = [pool.connect() for pool in pools]
for proxy in left: proxy.execute("CREATE TABLE t (a)"); proxy.execute("INSERT INTO t VALUES (1)")
cycle = Cycle(); cycle.me = cycle; cycle.proxy = pools[1].connect()
sys.modules["kept"] = pools[0].connect()
inside = threading.Event()
def hold():
    with pools[1]._lock: inside.set(); threading.Event().wait()
threading.Thread(target=hold, daemon=True).start(); inside.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_of_many_threads_that_close_one_proxy_one_gives_it_back(make, key):
    pool = make(maxconn=1)
    for _ in range(20):
        proxy = pool.connect(key, timeout=5)
        for caller in [Caller(proxy.close) for _ in range(4)]:
            caller.result()
    assert pool.stats().leases == 20
    lease_all(pool)


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_the_proxies_of_one_key_share_and_the_last_gives_back(make, kind, driver):
    pool = make(kind)
    first, second = pool.connect("a"), pool.connect("a")
    assert first.raw is second.raw
    first.close()
    assert pool.stats().used == 1
    second.execute()
    with pytest.raises(PoolError, match=CLOSED):
        first.cursor()
    del second
    assert (pool.stats().used, driver.made[0].rollbacks) == (0, 1)
    lease_all(pool)


def test_another_key_has_another_connection(make, kind):
    pool = make(kind)
    with closing(pool.connect("a")) as first, closing(pool.connect("b")) as second:
        assert first.raw is not second.raw


@pytest.mark.parametrize("drop", [False, True])
def test_what_getconn_leased_under_the_key_is_left_to_it(make, kind, drop):
    pool = make(kind)
    conn = pool.getconn("a")
    proxy = pool.connect("a")
    assert proxy.raw is conn
    if drop:
        del proxy
    else:
        proxy.close()
    assert pool._used == {"a": conn}
    pool.putconn(conn, "a")
    lease_all(pool)


def test_a_block_within_the_proxy_of_its_key_leaves_it_open(make, kind):
    pool = make(kind)
    proxy = pool.connect("a")
    with pool.connection("a") as conn:
        assert conn is proxy.raw
    assert not proxy.closed
    assert pool.stats().used == 1
    proxy.close()
    lease_all(pool)


def test_invalidate_closes_what_the_proxies_of_a_key_share(make, kind, driver):
    pool = make(kind, maxconn=1)
    first, second = pool.connect("a"), pool.connect("a")
    first.invalidate()
    assert driver.made[0].closed
    with pytest.raises(OperationalError):
        second.execute()
    third = pool.connect("a")
    second.close()
    assert pool.stats().used == 1
    third.close()
    lease_all(pool)


def test_threads_that_share_a_key_never_lose_its_connection(make, request):
    pool = make(maxconn=2)
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)

    def work():
        for _ in range(200):
            proxy = pool.connect("a", timeout=10)
            assert pool._state.keyed["a"] is proxy.raw
            proxy.close()

    for caller in [Caller(work) for _ in range(4)]:
        caller.result(60)
    assert pool.stats().used == 0
    assert not pool._proxy_shares
    lease_all(pool)


# ---- a thread's own --------------------------------------------------------------------------------------------------


def test_a_threads_proxies_share_its_connection(make):
    pool = make(PersistentConnectionPool)
    first, second = pool.connect(), pool.connect(timeout=1)
    assert first.raw is second.raw
    with closing(Caller(pool.connect).result()) as other:
        assert other.raw is not first.raw
    first.close()
    assert pool.stats().used == 1
    second.close()
    assert pool.stats().used == 0
    lease_all(pool)


def test_a_thread_is_its_own_key(make):
    pool = make(PersistentConnectionPool)
    with pytest.raises(TypeError, match="key"):
        pool.connect("a")


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_threads_proxy_may_be_closed_or_dropped_by_another(make, driver, how):
    pool = make(PersistentConnectionPool, maxconn=1)
    proxies = [pool.connect()]
    proxies[0].execute()
    Caller(lambda: proxies.pop().close() if how == "close" else proxies.clear()).result()
    assert (pool.stats().used, driver.made[0].rollbacks, driver.made[0].closes) == (0, 1, 0)
    lease_all(pool)


def test_what_a_thread_got_by_getconn_is_left_to_it(make):
    pool = make(PersistentConnectionPool)
    conn = pool.getconn()
    with closing(pool.connect()) as proxy:
        assert proxy.raw is conn
    assert pool.stats().used == 1
    pool.putconn()
    lease_all(pool)


def test_a_thread_that_ended_leaves_its_proxy_without_a_lease(make, driver):
    pool = make(PersistentConnectionPool, maxconn=1)
    proxy = Caller(pool.connect).result()
    own = pool.getconn(timeout=5)
    with unchanged(pool, driver):
        proxy.close()
    pool.putconn(own)
    lease_all(pool)
