"""KeyboardInterrupt at every point of every call of the pool: no slot is lost, no lock stays taken."""

from __future__ import annotations

import _thread
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from fakes import FakeConnection, FakeConnector

from dbpool import PoolTimeout, SimpleConnectionPool, ThreadedConnectionPool

from .bounded import Deadlock, run_bounded, wait_until
from .sweep import SlotsLost, sweep

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.interrupts, pytest.mark.filterwarnings("ignore::ResourceWarning")]
MAXCONN = 2
PATIENCE = 10.0 if sys.version_info >= (3, 10) else 1.0  # seconds; on 3.9 many a pool is dead, and is only counted
# On 3.9 an interrupt can strike before nearly every instruction.
STEP = 1 if sys.version_info >= (3, 10) or os.environ.get("DBPOOL_NIGHTLY") == "1" else 7


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handlers of logging take their locks in Python code: an interrupt there breaks logging, not the pool."""
    monkeypatch.setattr("dbpool.logs._write", lambda *args, **more: None)
    monkeypatch.setattr("dbpool.pool.HEARTBEAT", 0.05)  # who is not woken, because the waker was cut off, looks soon


def pool_of(kind: Any = ThreadedConnectionPool, idle: int = MAXCONN, **options: Any) -> Callable[[], Any]:
    """Return a function that makes a pool with so many idle connections."""

    def make() -> Any:
        # No FakeDriver: its locks are Python code, which an interrupt can break.
        return kind(idle, MAXCONN, connect=FakeConnector(lambda: FakeConnection(1)), config=options)

    return make


def leased(make: Callable[[], Any], count: int = 1) -> Callable[[], Any]:
    """Return a function that makes a pool of which *count* connections are leased already."""

    def made() -> Any:
        pool = make()
        pool.held = [pool.getconn() for _ in range(count)]
        return pool

    return made


def all_slots_back(pool: Any) -> None:
    """As many as maxconn can be leased at once; what the interrupted caller still had counts as given up."""
    pool.held = None

    def lease_all() -> None:
        pool.resize(0, MAXCONN)  # an interrupted resize may have happened or not
        conn = pool._state.keyed.get("key")
        if conn is not None:  # a keyed lease outlives its caller: the same key finds it again
            pool.putconn(conn, "key")
            conn = None
        conns = [pool.getconn(timeout=3) for _ in range(MAXCONN)]
        if len({id(conn) for conn in conns}) != MAXCONN:
            raise SlotsLost("a connection has two holders")
        for conn in conns:
            pool.putconn(conn)

    try:
        run_bounded(lease_all, PATIENCE)
    except Deadlock:
        raise
    except Exception as exc:
        raise SlotsLost(f"{type(exc).__name__}: {exc}") from None
    state = pool._state
    if len(state.entries) > MAXCONN or state.leases or state.keyed or state.tickets or list(state.waiters):
        raise SlotsLost(f"left over: {pool!r}")


def closed_or_whole(pool: Any) -> None:
    """After an interrupted close the pool is open and whole, or closing it again ends it."""
    pool.held = None
    if not pool.closed:
        all_slots_back(pool)
        return
    run_bounded(lambda: pool.close(timeout=3), PATIENCE)
    if pool.stats().size:
        raise SlotsLost(f"left over after close: {pool!r}")


def get(pool: Any) -> None:
    pool.getconn()


def get_and_put(pool: Any) -> None:
    pool.putconn(pool.getconn())


def put(pool: Any) -> None:
    pool.putconn(pool.held[0])


def put_in_transaction(pool: Any) -> None:
    pool.held[0].execute()
    pool.putconn(pool.held[0])


def put_closing(pool: Any) -> None:
    pool.putconn(pool.held[0], close=True)


def with_block(pool: Any) -> None:
    with pool.connection() as conn:
        conn.execute()


def keyed(pool: Any) -> None:
    pool.putconn(pool.getconn("key"), "key")


def time_out(pool: Any) -> None:
    with pytest.raises(pool._opener.errors.PoolTimeout):
        pool.getconn(timeout=0.01)


def drain(pool: Any) -> None:
    pool.drain()


def resize(pool: Any) -> None:
    pool.resize(0, 1)
    pool.resize(0, MAXCONN)


def close(pool: Any) -> None:
    pool.close(timeout=1)


def closeall(pool: Any) -> None:
    pool.closeall()


UNCONTENDED = {
    "getconn, hit": (pool_of(), get),
    "getconn + putconn, hits": (pool_of(), get_and_put),
    "getconn + putconn, hits, Simple": (pool_of(SimpleConnectionPool), get_and_put),
    "getconn, connecting": (pool_of(idle=0), get),
    "getconn, connecting in the caller": (pool_of(idle=0, background=False), get),
    "getconn, connecting, Simple": (pool_of(SimpleConnectionPool, idle=0), get),
    "putconn, hit": (leased(pool_of()), put),
    "putconn in a transaction": (leased(pool_of()), put_in_transaction),
    "putconn(close=True)": (leased(pool_of()), put_closing),
    "with connection()": (pool_of(), with_block),
    "keyed getconn + putconn": (pool_of(), keyed),
    "getconn, timing out": (leased(pool_of(), MAXCONN), time_out),
    "drain()": (leased(pool_of()), drain),
    "resize()": (leased(pool_of()), resize),
}
CLOSING = {"close()": (pool_of(), close), "closeall() with leases": (leased(pool_of()), closeall)}


def check(report: Any) -> None:
    """From 3.10 on nothing may be lost. 3.9 has two unsafe points in each ``with lock``: counted and printed."""
    print(report.table())
    assert report.points > 0
    assert not report.swallowed, report.where()
    assert not report.replaced, report.where()
    if sys.version_info >= (3, 10):
        assert not report.lost, report.where()
        assert not report.deadlocks, report.where()


@pytest.mark.parametrize("name", UNCONTENDED)
def test_an_interrupt_anywhere_loses_no_slot(name: str) -> None:
    make, operation = UNCONTENDED[name]
    check(sweep(make, operation, all_slots_back, step=STEP, name=name))


@pytest.mark.parametrize("name", CLOSING)
def test_an_interrupt_anywhere_in_closing_leaves_a_pool_that_can_be_closed(name: str) -> None:
    make, operation = CLOSING[name]
    check(sweep(make, operation, closed_or_whole, step=STEP, name=name))


def give_when_waited_for(pool: Any, over: Any) -> None:
    """The partner: puts a connection once the main thread waits for one."""
    if wait_until(lambda: len(pool._state.waiters) > 0 or over.is_set()) and len(pool._state.waiters):
        conn = pool.held.pop()
        pool.putconn(conn)
        conn = None


def test_an_interrupt_anywhere_while_waiting_for_a_connection_loses_no_slot() -> None:
    make = leased(pool_of(), MAXCONN)
    check(sweep(make, get, all_slots_back, step=STEP, name="getconn, handed over", partner=give_when_waited_for))


def wait_for_a_turn(pool: Any, over: Any) -> None:
    """The partner: waits in line, then puts back what it was given."""
    try:
        pool.putconn(pool.getconn(timeout=3))
    except PoolTimeout:
        assert pool.held, "nobody served the waiter, though nobody has a connection"


class Announcing(ThreadedConnectionPool[Any]):
    """Tells when somebody sleeps: by a raw lock, on which the measured thread can wait within one instruction."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.asleep = _thread.allocate_lock()
        self.asleep.acquire()
        super().__init__(*args, **more)

    def _sleep(self, waiter: Any, deadline: float) -> bool:
        if self.asleep.locked():
            self.asleep.release()
        return super()._sleep(waiter, deadline)


def put_to_a_waiter(pool: Any) -> None:
    try:
        pool.asleep.acquire()
        pool.putconn(pool.held.pop())
    finally:
        pool.held.clear()


def test_an_interrupt_anywhere_in_putconn_lets_the_waiter_be_served() -> None:
    make = leased(pool_of(Announcing), MAXCONN)
    check(sweep(make, put_to_a_waiter, all_slots_back, step=STEP, name="putconn to a waiter", partner=wait_for_a_turn))


def test_the_interrupted_caller_gets_its_interrupt_and_not_a_warning() -> None:
    pool = pool_of()()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conn = pool.getconn()
        pool.putconn(conn)
    pool.close()
