"""Who holds what: holders(), waiters(), and what an error says of them."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from dbpool import PoolDeadlock, PoolExhausted, PoolTimeout, SimpleConnectionPool

from .threads import Caller, eventually

HERE = r", now at .*test_holders.py:\d+ in test_\w+"
HELD = rf"; held by thread 'MainThread' for \d+\.\d s{HERE}; each of them waits for this pool itself$"


@pytest.mark.synchronous
def test_holders_are_named_the_longest_first(make, kind, clock):
    pool = make(kind, 0, 2)
    assert pool.holders() == []
    conn = pool.getconn()
    clock.leap(3)
    pool.getconn("a key")
    first, second = pool.holders()
    assert (first.key, first.seconds, first.thread) == (None, 3.0, "MainThread")
    assert (second.key, second.seconds) == ("a key", 0.0)
    assert first.thread_id == threading.get_ident()
    pool.putconn(conn)
    assert [user.key for user in pool.holders()] == ["a key"]


@pytest.mark.synchronous
def test_a_holder_whose_thread_has_ended_is_still_named(make):
    pool, held = make(maxconn=1), []
    thread = threading.Thread(target=lambda: held.append(pool.getconn()), name="gone")
    thread.start()
    thread.join()
    (user,) = pool.holders()
    assert user.thread is None
    assert "which has ended" in str(user)


def test_waiters_are_named_in_their_order(make):
    pool = make(maxconn=1, timeout=60)
    conn = pool.getconn()
    assert pool.waiters() == []
    callers = []
    for number in range(3):
        callers.append(Caller(lambda number=number: pool.getconn(f"key {number}")))
        eventually(lambda number=number: len(pool.waiters()) == number + 1)
    assert [user.key for user in pool.waiters()] == ["key 0", "key 1", "key 2"]
    assert all(user.thread or user.task for user in pool.waiters())
    pool.putconn(conn)
    for number, caller in enumerate(callers):
        pool.putconn(caller.result(), f"key {number}")


@pytest.mark.synchronous
def test_a_timeout_says_who_holds_the_connections(make, monkeypatch):
    monkeypatch.setattr("dbpool.standing._last", (0.0, {}))  # what another test has just seen
    pool = make(maxconn=1, timeout=0.01)
    pool.getconn()
    with pytest.raises(PoolTimeout, match=HELD):
        pool.getconn()


@pytest.mark.synchronous
@pytest.mark.parametrize("error", [PoolExhausted, PoolDeadlock])
def test_so_do_the_other_errors(make, error, monkeypatch):
    monkeypatch.setattr("dbpool.pool._count", lambda: 0)  # other tests may have left threads behind
    options = {"timeout": 0} if error is PoolExhausted else {"timeout": 60, "detect_deadlock": True}
    pool = make(maxconn=1, **options)
    pool.getconn()
    with pytest.raises(error, match="; held by thread 'MainThread'"):
        pool.getconn()


def test_not_more_than_five_are_told(make):
    pool = make(SimpleConnectionPool, 0, 7)
    for _ in range(7):
        pool.getconn()
    with pytest.raises(PoolExhausted, match=r", and 2 more; ") as caught:
        pool.getconn()
    assert str(caught.value).count("MainThread") == 5


def test_an_error_of_a_pool_that_nobody_holds_names_nobody(make, driver, clock):
    pool = make(maxconn=1, timeout=2, connect_timeout=50)
    driver.gate.clear()
    caller = Caller(pool.getconn)
    eventually(lambda: driver.calls == 1)
    clock.leap(3)
    with pytest.raises(PoolTimeout) as caught:
        caller.result()
    assert "held by" not in str(caught.value)


def test_looking_keeps_nothing_alive(make, driver):
    driver.keep = False
    pool = make(maxconn=1)

    def lease_and_look():
        conn = pool.getconn()
        assert pool.holders()
        return weakref.ref(conn)  # the connection is dropped with this frame, unless somebody keeps the frame

    gc.disable()
    try:
        assert lease_and_look()() is None
    finally:
        gc.enable()
    with pytest.warns(ResourceWarning, match="dropped without putconn"):
        pool.putconn(pool.getconn())
