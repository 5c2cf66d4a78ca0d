"""The helpers around the sweep: bounded calls, SIGINT while blocked, storms of interrupts at random."""

from __future__ import annotations

import threading
import weakref

import pytest

from .bounded import Deadlock, run_bounded
from .signals import async_exc_storm, interrupt_while


class Blocked:
    """Waits for a lock that nobody gives back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waiting = False

    def wait(self) -> None:
        """Block for ever, having said so."""
        self.waiting = True
        self.lock.acquire()


class Conn:
    """A toy connection."""


def test_run_bounded_returns_raises_or_finds_the_deadlock() -> None:
    assert run_bounded(lambda: 3, 5) == 3
    with pytest.raises(ZeroDivisionError):
        run_bounded(lambda: 1 // 0, 5)
    with pytest.raises(Deadlock):
        run_bounded(Blocked().wait, 0.02)


def test_a_blocked_acquire_is_interrupted() -> None:
    for _ in range(20):
        blocked = Blocked()
        assert interrupt_while(blocked.wait, lambda blocked=blocked: blocked.waiting)  # type: ignore[misc]


def test_interrupting_what_never_blocks_reports_that_it_ended() -> None:
    assert not interrupt_while(lambda: None, lambda: False)


def test_interrupting_what_blocks_elsewhere_is_a_deadlock() -> None:
    with pytest.raises(Deadlock, match="not blocked as expected"):
        interrupt_while(Blocked().wait, lambda: False, seconds=0.05)


def test_a_storm_finds_the_lock_left_taken() -> None:
    locks = [threading.Lock()]

    def get() -> None:
        if not locks[0].acquire(blocking=False):
            locks[0] = threading.Lock()
            raise Deadlock("left taken")
        for _ in range(10):
            len([])
        locks[0].release()

    storm = async_exc_storm(get, seconds=5, iterations=200, seed=7)
    assert storm.errors["Deadlock"] > 0, storm


def test_a_storm_accounts_for_each_interrupt_and_every_connection_is_collected() -> None:
    made: list[weakref.ref[Conn]] = []

    def drop() -> None:
        conn = Conn()
        made.append(weakref.ref(conn))
        len(made)

    storm = async_exc_storm(drop, seconds=5, iterations=100, seed=1)
    assert storm.thrown == 100 == storm.landed + storm.between + storm.swallowed
    assert storm.landed > 0
    assert storm.runs > 0
    assert not storm.errors
    assert all(ref() is None for ref in made)


def test_a_storm_finds_an_operation_that_never_ends() -> None:
    with pytest.raises(Deadlock, match="no progress"):
        async_exc_storm(Blocked().wait, seconds=5, patience=0.05)
