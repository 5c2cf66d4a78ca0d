"""Re-entry: a finalizer or signal handler that uses the pool while its lock is held neither hangs nor harms."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from dbpool import PoolClosed, PoolExhausted, ThreadedConnectionPool
from dbpool.pool import ThreadWaiter

from .checks import adds_up, lease_all
from .threads import Caller, Queue, eventually

pytestmark = pytest.mark.synchronous


class Key:
    """A key whose hash is asked for while the lock is held; it then runs *work*, as a finalizer would."""

    def __init__(self, work):
        self.work = work
        self.owned = []  # whether the lock was held when work ran

    def __hash__(self):
        work, self.work = self.work, None
        if work is not None:
            work()
        return 1


class Garbage:
    """Runs *work* when it is collected."""

    def __init__(self, work):
        self.work = work

    def __del__(self):
        self.work()


def by_finalizer(work):
    Garbage(work)


def by_signal(work):
    before = signal.signal(signal.SIGUSR1, lambda *_: work())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture(params=[by_finalizer, by_signal], ids=["finalizer", "signal"])
def interrupt(request, kind, monkeypatch):
    """Run a function as a finalizer, or a signal handler, while a getconn of the pool holds its lock."""

    def run(pool, work):
        def sleep(waiter, seconds):
            assert not pool._lock._is_owned(), "asleep with the lock held: nobody can wake it"
            return sleep_of_old(waiter, seconds)

        sleep_of_old = ThreadWaiter.sleep
        monkeypatch.setattr(ThreadWaiter, "sleep", sleep)
        owned, errors = [], []

        def inside():
            owned.append(pool._lock._is_owned())
            try:
                work()
            except Exception as error:
                errors.append(error)

        with suppress(PoolExhausted, PoolClosed):
            pool.putconn(pool.getconn(Key(lambda: request.param(inside)), timeout=0))
        assert owned == [True], "the lock was not held: the test proves nothing"
        return errors

    return run


@pytest.mark.fault(45)
@pytest.mark.parametrize("key", [None, "a"])
def test_putconn_inside_gives_the_connection_back(make, kind, interrupt, key):
    pool = make(kind, maxconn=2)
    conn = pool.getconn(key)
    assert interrupt(pool, lambda: pool.putconn(conn)) == []
    assert pool.stats().used == 0
    lease_all(pool)
    assert adds_up(pool)


def test_putconn_inside_of_a_connection_that_must_be_closed_frees_the_slot(make, kind, interrupt):
    pool = make(kind, maxconn=2)
    conn = pool.getconn()
    assert interrupt(pool, lambda: pool.putconn(conn, close=True)) == []
    assert conn.closed
    lease_all(pool)


@pytest.mark.fault(45)
def test_putconn_inside_serves_who_asked(make, kind, interrupt):
    pool = make(kind, maxconn=1)
    conn = pool.getconn()
    assert interrupt(pool, lambda: pool.putconn(conn)) == []
    assert pool.stats().leases == 2
    lease_all(pool)


@pytest.mark.fault(45)
def test_getconn_inside_takes_what_is_idle_or_says_exhausted(make, kind, interrupt):
    pool, got = make(kind, minconn=2, maxconn=2), []
    errors = interrupt(pool, lambda: got.append(pool.getconn(timeout=5)))
    assert len(got) + len(errors) == 1
    assert all(isinstance(error, PoolExhausted) for error in errors)
    for conn in got:
        pool.putconn(conn)
    lease_all(pool)


def test_getconn_inside_with_none_idle_is_refused_at_once(make, kind, interrupt, driver):
    pool = make(kind, maxconn=2)
    conns = [pool.getconn(), pool.getconn()]
    [error] = interrupt(pool, lambda: pool.getconn(timeout=None))
    assert isinstance(error, PoolExhausted)
    assert str(error).startswith("connection pool exhausted")
    for conn in conns:
        pool.putconn(conn)
    lease_all(pool)
    assert driver.calls == 2


@pytest.mark.parametrize("name", ["stats", "drain", "__repr__", "open"])
def test_whatever_is_called_inside_it_comes_back(make, kind, interrupt, name):
    pool = make(kind, minconn=1, maxconn=2)
    assert interrupt(pool, getattr(pool, name)) == []
    lease_all(pool)


@pytest.mark.parametrize("name", ["close", "closeall"])
def test_closing_inside_does_not_wait(make, kind, interrupt, name):
    """As a handler of SIGTERM does."""
    pool = make(kind, minconn=2, maxconn=3)
    conn = pool.getconn()
    assert interrupt(pool, getattr(pool, name)) == []
    assert pool.closed
    assert conn.closed
    assert pool.stats().size == 0


def test_resize_inside_takes_effect(make, kind, interrupt):
    pool = make(kind, minconn=0, maxconn=1)
    assert interrupt(pool, lambda: pool.resize(1, 3)) == []
    lease_all(pool)
    assert pool.maxconn == 3


@pytest.mark.fault(45)
def test_putconn_inside_another_threads_wait_wakes_it(make):
    pool = make(ThreadedConnectionPool, maxconn=1)
    conn, queue = pool.getconn(), Queue(pool)
    queue.join()
    waiter = Caller(pool.getconn, Key(lambda: by_finalizer(lambda: pool.putconn(conn))), timeout=10)
    assert queue.finish() == [0]
    pool.putconn(waiter.result())
    lease_all(pool)


@pytest.mark.fault(45)
def test_a_finalizer_that_puts_its_connection_back_is_a_put(make, kind):
    """As an object that leases a connection for its lifetime does."""
    pool = make(kind, maxconn=1)

    class Session:
        def __init__(self):
            self.conn = pool.getconn(timeout=5)

        def __del__(self):
            pool.putconn(self.conn)

    for _ in range(20):
        Session()
    eventually(lambda: pool.stats().idle == 1)
    assert pool.stats().leases == 20
    lease_all(pool)
