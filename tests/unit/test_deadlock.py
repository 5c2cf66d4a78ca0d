"""PoolDeadlock: raised at once when nobody can put a connection back, and never when somebody can."""

from __future__ import annotations

import _thread
import gc
import subprocess
import sys
import threading

import pytest

from dbpool import Limiter, PoolDeadlock, PoolExhausted, PoolTimeout, ThreadedConnectionPool

from .threads import Caller, eventually

pytestmark = pytest.mark.synchronous


@pytest.fixture(autouse=True)
def _threads_of_this_test_only(monkeypatch):
    """Other tests may have left threads behind that never end."""
    before = _thread._count()
    monkeypatch.setattr("dbpool.pool._count", lambda: _thread._count() - before)


@pytest.fixture
def pool(make):
    """A pool of one connection, which waits for a minute."""
    return make(maxconn=1, timeout=60, detect_deadlock=True)


def test_a_single_thread_that_exhausts_its_pool_is_told_at_once(pool):
    conn = pool.getconn()
    with pytest.raises(PoolDeadlock, match=r"^connection pool exhausted: every thread of the process waits"):
        pool.getconn()
    assert pool.stats().waiting == 0
    pool.putconn(conn)
    assert pool.getconn() is conn


def test_nested_blocks_are_told_too(pool):
    with pool.connection():
        with pytest.raises(PoolDeadlock):
            with pool.connection():
                pass


def test_it_can_be_switched_off(make):
    pool = make(maxconn=1, timeout=0.01, detect_deadlock=False)
    pool.getconn()
    with pytest.raises(PoolTimeout):
        pool.getconn()


def test_a_thread_that_does_something_else_may_put_the_connection(pool):
    conn, go = pool.getconn(), threading.Event()

    def other():
        go.wait(60)
        pool.putconn(conn)

    thread = threading.Thread(target=other)
    thread.start()
    waiter = Caller(pool.getconn)
    eventually(lambda: pool.stats().waiting == 1)
    go.set()
    assert waiter.result() is conn
    thread.join()


def test_a_connection_that_was_dropped_in_a_cycle_is_found_first(pool, driver, monkeypatch):
    monkeypatch.setattr("dbpool.pool.COLLECT_EVERY", 0.0)
    driver.keep = False
    gc.disable()
    try:
        cycle = [pool.getconn()]
        cycle.append(cycle)
        del cycle
        with pytest.warns(ResourceWarning, match="dropped without putconn"):
            pool.putconn(pool.getconn())
    finally:
        gc.enable()


def test_all_threads_of_a_process_are_told_when_the_last_one_begins_to_wait():
    script = """
import threading
from dbpool import PoolDeadlock, ThreadedConnectionPool

class Connection:
    def close(self): pass

pool = ThreadedConnectionPool(0, 2, connect=Connection, config={"timeout": 60})
both = threading.Barrier(2)
told = []

def work():
    conn = pool.getconn()
    both.wait()
    try:
        pool.getconn()
    except PoolDeadlock:
        told.append(1)
    pool.putconn(conn)

thread = threading.Thread(target=work)
thread.start()
work()
thread.join()
assert told, told
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_a_producer_may_wait_while_workers_hold_its_connections_and_put_them_back():
    script = """
import threading, queue
from dbpool import ThreadedConnectionPool

class Connection:
    def close(self): pass

pool = ThreadedConnectionPool(0, 2, connect=Connection, config={"timeout": 60})
given = queue.SimpleQueue()

def work():
    while True:
        conn = given.get()
        if conn is None:
            return
        while not pool._state.waiters and not done.is_set():
            pass  # put it only once the producer waits
        pool.putconn(conn)

done = threading.Event()
workers = [threading.Thread(target=work) for _ in range(2)]
for worker in workers:
    worker.start()
for _ in range(300):
    given.put(pool.getconn())
done.set()
for _ in workers:
    given.put(None)
for worker in workers:
    worker.join()
assert pool.stats().waits > 200, pool.stats()
assert pool.stats().used == 0, pool.stats()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_a_pool_that_never_waits_says_exhausted(make):
    pool = make(maxconn=1, timeout=0, detect_deadlock=True)
    pool.getconn()
    with pytest.raises(PoolExhausted) as caught:
        pool.getconn()
    assert not isinstance(caught.value, PoolDeadlock)
    assert isinstance(pool, ThreadedConnectionPool)


def test_threads_that_python_did_not_start_are_threads_too():
    """As those of uWSGI and mod_wsgi: _thread does not count them."""
    script = """
import ctypes, threading, time
from dbpool import ThreadedConnectionPool

class Connection:
    def close(self): pass

pool = ThreadedConnectionPool(1, 1, connect=Connection, config={"timeout": 30})
ended = []

def work(_):
    try:
        conn = pool.getconn()
        while len(pool._state.waiters) < 2 - len(ended):
            time.sleep(0.001)  # put it only once all others wait
        pool.putconn(conn)
        ended.append(None)
    except BaseException as exc:
        ended.append(repr(exc))

library = ctypes.CDLL(None)
start = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(work)
threads = [ctypes.c_ulong() for _ in range(3)]
for thread in threads:
    library.pthread_create(ctypes.byref(thread), None, start, None)
for thread in threads:
    library.pthread_join(thread, None)
assert ended == [None] * 3, ended
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


# ---- for a limit over several pools ------------------------------------------------------------------------------


def test_a_thread_that_exhausts_a_limiter_is_told_at_once(make):
    """Whichever of the pools it asks: also one that has no connection of its own."""
    limiter = Limiter(2)
    pools = [make(maxconn=2, timeout=60, detect_deadlock=True, limiter=limiter) for _ in range(3)]
    conns = [pools[0].getconn(), pools[1].getconn()]
    for pool in pools:
        with pytest.raises(PoolDeadlock, match="2 of 2 under its limiter"):
            pool.getconn()
    pools[0].putconn(conns[0])
    conn = pools[2].getconn()
    pools[2].putconn(conn)
    pools[1].putconn(conns[1])


def test_a_thread_that_exhausts_a_pool_of_which_the_limiter_has_room_is_told_at_once(make):
    pool = make(maxconn=1, timeout=60, detect_deadlock=True, limiter=Limiter(5))
    conn = pool.getconn()
    with pytest.raises(PoolDeadlock, match="1 of 5 under its limiter"):
        pool.getconn()
    pool.putconn(conn)


def test_threads_that_wait_in_several_pools_for_its_limit_are_told(make):
    limiter = Limiter(2)
    pools = [make(maxconn=2, timeout=60, detect_deadlock=True, limiter=limiter) for _ in range(2)]
    held, go = [pool.getconn() for pool in pools], threading.Event()
    first = Caller(lambda: (go.wait(60), pools[0].getconn()))
    go.set()
    eventually(lambda: pools[0].stats().waiting)
    with pytest.raises(PoolDeadlock):
        pools[1].getconn()
    pools[0].putconn(held[0])
    conn = first.result()[1]
    pools[0].putconn(conn)
    pools[1].putconn(held[1])


def test_what_another_pool_of_the_limiter_has_under_way_may_come(make, driver):
    limiter = Limiter(1)
    first, second = (make(maxconn=1, timeout=60, detect_deadlock=True, limiter=limiter) for _ in range(2))
    driver.gate.clear()
    opening = Caller(first.getconn, timeout=0.05)
    eventually(lambda: first.stats().connecting)
    with pytest.raises(PoolTimeout):
        opening.result()
    threading.Timer(0.1, driver.gate.set).start()
    second.putconn(second.getconn())
