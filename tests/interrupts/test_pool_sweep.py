"""KeyboardInterrupt at every point of every call of the pool: no slot is lost, no lock stays taken."""

from __future__ import annotations

import _thread
import warnings
from typing import Any

import pytest

from dbpool import PoolTimeout, SimpleConnectionPool, ThreadedConnectionPool

from .bounded import run_bounded, wait_until
from .pools import MAXCONN, PATIENCE, STEP, all_slots_back, check, leased, pool_of
from .sweep import SlotsLost, sweep

pytestmark = [
    pytest.mark.interrupts,
    pytest.mark.usefixtures("silent"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


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
    "putconn(close=True), Simple": (leased(pool_of(SimpleConnectionPool)), put_closing),
    "with connection()": (pool_of(), with_block),
    "keyed getconn + putconn": (pool_of(), keyed),
    "getconn, timing out": (leased(pool_of(), MAXCONN), time_out),
    "drain()": (leased(pool_of()), drain),
    "drain(), Simple": (leased(pool_of(SimpleConnectionPool)), drain),
    "resize()": (leased(pool_of()), resize),
}
CLOSING = {"close()": (pool_of(), close), "closeall() with leases": (leased(pool_of()), closeall)}


@pytest.mark.fault(43)
@pytest.mark.parametrize("name", UNCONTENDED)
def test_an_interrupt_anywhere_loses_no_slot(name: str) -> None:
    make, operation = UNCONTENDED[name]
    check(sweep(make, operation, all_slots_back, step=STEP, name=name))


@pytest.mark.fault(43)
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


@pytest.mark.fault(43, 44)
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

    def _sleep(self, waiter: Any, deadline: float | None = None) -> bool:
        if self.asleep.locked():
            self.asleep.release()
        return super()._sleep(waiter, deadline)


def put_to_a_waiter(pool: Any) -> None:
    try:
        pool.asleep.acquire()
        pool.putconn(pool.held.pop())
    finally:
        pool.held.clear()


@pytest.mark.fault(43)
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
