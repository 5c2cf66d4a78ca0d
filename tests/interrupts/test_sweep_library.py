"""The sweep, proven on toy pools: it finds the known faults, and none where there is none."""

from __future__ import annotations

import dis
import gc
import signal
import sys
import threading
import weakref
from collections import deque
from typing import Any, Callable

import pytest

from .bounded import Deadlock, run_bounded, wait_until
from .signals import async_exc_storm
from .sweep import Report, SlotsLost, SweepError, sweep


class Conn:
    """A toy connection."""


class SplitPool:
    """A connection neither idle nor leased is lost, though get puts back what its frame still has."""

    def __init__(self) -> None:
        self.idle: deque[Conn] = deque([Conn()])
        self.leased: list[Conn] = []

    def get(self) -> None:
        conn = None
        try:
            conn = self.idle.pop()
            self.leased.append(conn)
        except BaseException:
            if conn is not None and conn not in self.leased:
                self.idle.append(conn)
            raise

    def check(self) -> None:
        if len(self.idle) + len(self.leased) != 1:
            raise SlotsLost("neither idle nor leased")


class WeakPool:
    """Frees the slot of a lost connection by a weakref whose callback is C."""

    def __init__(self) -> None:
        self.gone: deque[Any] = deque()
        conn = Conn()
        self.idle: deque[Conn] = deque([conn])
        self.refs = [weakref.ref(conn, self.gone.append)]

    def get(self) -> Conn:
        return self.idle.pop()

    def check(self) -> None:
        if len(self.idle) + len(self.gone) != 1:
            raise SlotsLost("neither idle nor collected")


class LockedPool:
    """Takes a lock in each get."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0

    def get_acquire_first(self) -> None:
        self.lock.acquire()
        try:
            self.count += 1
        finally:
            self.lock.release()

    def get_with(self) -> None:
        with self.lock:
            self.count += 1

    def check(self) -> None:
        if not self.lock.acquire(timeout=0.05):
            raise Deadlock("the lock is left taken")


class Box:
    """Where a toy operation leaves its traces."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waiting = False
        self.value: Any = None

    def wait(self) -> None:
        self.waiting = True
        self.lock.acquire()


def nothing(_: object) -> None:
    """Accept any object."""


def line_of(function: Callable[..., object], text: str) -> int:
    """The line of *function*'s source that contains *text*."""
    code = function.__code__
    with open(__file__, encoding="utf-8") as source:
        lines = source.read().splitlines()
    first = int(code.co_firstlineno)
    return next(n for n in range(first, len(lines)) if text in lines[n - 1])


def test_finds_a_slot_lost_between_the_return_of_a_c_call_and_the_store() -> None:
    report = sweep(SplitPool, SplitPool.get, SplitPool.check, name="split get")
    pop = (__file__, line_of(SplitPool.get, "self.idle.pop()"))
    assert report.lost >= 1, report.table()
    assert {failure.place for failure in report.failures} == {pop}, report.where()


def test_finds_the_lock_left_taken_by_acquire_before_try() -> None:
    report = sweep(LockedPool, LockedPool.get_acquire_first, LockedPool.check, name="acquire before try")
    acquire = (__file__, line_of(LockedPool.get_acquire_first, "self.lock.acquire()"))
    assert report.deadlocks >= 1
    assert acquire in {failure.place for failure in report.failures}, report.table()


def test_finds_no_deadlock_with_a_lock_entered_by_with() -> None:
    report = sweep(LockedPool, LockedPool.get_with, LockedPool.check, name="with lock")
    print(report.table())
    assert report.instructions > 0
    if sys.version_info >= (3, 10):  # 3.9 leaves it locked at the exit of the block
        assert (report.lost, report.deadlocks) == (0, 0), report.where()


def test_finds_nothing_lost_when_collecting_frees_the_slot() -> None:
    report = sweep(WeakPool, WeakPool.get, WeakPool.check, name="weak get")
    assert report.points > 0
    assert (report.lost, report.deadlocks) == (0, 0), report.where()


def test_every_interrupt_is_accounted_for_and_each_instruction_gets_one() -> None:
    report = sweep(LockedPool, LockedPool.get_with, nothing, every=True)
    assert report.points > 0
    assert report.points + report.late == report.instructions
    assert sum(report.positions.values()) == report.points


def straight(box: Box) -> Any:
    """No call, no loop: nothing in it looks for signals."""
    first = box
    second = first
    third = second
    return third  # noqa: RET504


def test_no_interrupt_lands_where_cpython_does_not_look() -> None:
    report = sweep(Box, straight, nothing, every=True)
    assert report.points == 0
    assert report.late == report.instructions > 0


def test_counts_the_instructions_that_dis_lists() -> None:
    listed = [i for i in dis.get_instructions(straight) if i.opname not in ("CACHE", "RESUME")]
    assert sweep(Box, straight, nothing).instructions == len(listed)


def test_counts_instructions_of_frames_below_the_operation() -> None:
    def calls(box: Box) -> None:
        straight(box)

    alone = sweep(Box, straight, nothing).instructions
    assert sweep(Box, calls, nothing).instructions > alone


def test_other_threads_do_not_count() -> None:
    def busy(_: Box, over: threading.Event) -> None:
        while not over.is_set():
            sum([1, 2, 3])

    alone = sweep(Box, straight, nothing)
    beside = sweep(Box, straight, nothing, partner=busy)
    assert alone.instructions == beside.instructions


def test_start_stop_and_step_choose_the_instructions() -> None:
    report = sweep(Box, straight, nothing, start=2, stop=6, step=2, every=True)
    assert report.points + report.late == 2


def test_an_interrupt_in_the_caller_is_late_and_the_object_is_verified() -> None:
    seen: list[Box] = []
    report = sweep(Box, straight, seen.append)
    assert report.late == len(seen) - 2  # the run without an interrupt, and the one past the end


def test_the_exception_and_its_frames_are_gone_when_verify_runs() -> None:
    refs: set[Any] = set()

    def hold(_: Box) -> None:
        conn = Conn()
        refs.add(weakref.ref(conn))
        straight(_)
        cycle: list[Any] = [conn]
        cycle.append(cycle)

    def check(_: Box) -> None:
        if any(ref() is not None for ref in refs):
            raise SlotsLost("still held")

    assert sweep(Box, hold, check).lost == 0


def test_an_interrupt_caught_by_the_operation_is_swallowed() -> None:
    def swallow(_: Box) -> None:
        try:
            len([])
        except KeyboardInterrupt:
            pass

    report = sweep(Box, swallow, nothing, name="swallow")
    assert report.swallowed > 0
    assert "swallowed" in report.table()


def test_an_interrupt_turned_into_another_exception_is_replaced() -> None:
    def replace(_: Box) -> None:
        try:
            len([])
        except KeyboardInterrupt:
            raise KeyError("lost") from None

    report = sweep(Box, replace, nothing)
    assert report.replaced > 0
    assert set(report.replacements) == {"KeyError: 'lost'"}


def test_an_operation_that_blocks_itself_is_a_deadlock_and_not_a_hang() -> None:
    def again(box: Box) -> None:
        try:
            len([])
        except KeyboardInterrupt:
            box.lock.acquire()

    report = sweep(Box, again, nothing, patience=0.2, stop=4, every=True)
    assert report.deadlocks > 0
    first = again.__code__.co_firstlineno
    assert {failure.place for failure in report.failures} <= {(__file__, first + 1), (__file__, first + 2)}


def test_a_partner_serves_an_operation_that_waits() -> None:
    def serve(box: Box, over: threading.Event) -> None:
        if wait_until(lambda: box.waiting or over.is_set()) and box.waiting:
            box.lock.release()

    report = sweep(Box, Box.wait, nothing, partner=serve)
    assert report.points > 0
    assert report.deadlocks == 0, report.where()


def test_a_partner_that_does_not_end_is_a_deadlock() -> None:
    never = threading.Event()
    with pytest.raises(SweepError, match="partner did not end"):
        sweep(Box, straight, nothing, partner=lambda box, over: never.wait(), patience=0.2)
    never.set()


def test_what_fails_without_an_interrupt_is_an_error() -> None:
    def lost(_: Box) -> None:
        raise SlotsLost("always")

    def broken(_: Box) -> None:
        raise ZeroDivisionError

    with pytest.raises(SweepError, match="without any interrupt"):
        sweep(Box, straight, lost)
    with pytest.raises(SweepError, match="verify failed"):
        sweep(Box, straight, broken)
    with pytest.raises(ZeroDivisionError):
        sweep(Box, broken, nothing)


def test_handlers_tracers_and_the_collector_are_as_before() -> None:
    before = signal.getsignal(signal.SIGINT), sys.gettrace(), gc.isenabled(), gc.get_freeze_count()
    sweep(Box, straight, nothing)
    assert (signal.getsignal(signal.SIGINT), sys.gettrace(), gc.isenabled(), gc.get_freeze_count()) == before


def test_sweeping_outside_the_main_thread_is_refused() -> None:
    with pytest.raises(RuntimeError, match="main thread"):
        run_bounded(lambda: sweep(Box, straight, nothing), 5)


def test_table_is_one_aligned_line() -> None:
    assert Report("getconn hit", points=131).table() == "getconn hit            : 131 points / 0 lost / 0 deadlocks"


def varied(_: object) -> object:
    """A bit of everything that looks for signals."""
    lock, found = threading.Lock(), deque([3])
    with lock:
        number = found.pop()
    while number:
        number -= 1
    try:
        found.pop()
    except IndexError:
        text = str(number)
    return sorted(
        text,
        key=lambda letter: (ord(letter), letter),
    )


def test_interrupts_at_random_land_only_where_the_sweep_has_been() -> None:
    places: set[Any] = set()

    def record() -> None:
        try:
            for _ in range(30):
                varied(None)
        except KeyboardInterrupt as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code is not varied.__code__:
                trace = trace.tb_next
            if trace is not None:
                while trace.tb_next is not None:
                    trace = trace.tb_next
                places.add((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
            raise

    swept = set(sweep(object, varied, nothing).positions)
    async_exc_storm(record, seconds=5, iterations=200, seed=3)
    entry = (__file__, varied.__code__.co_firstlineno)  # on the way in, before the first instruction
    assert len(places) > 1
    assert places <= swept | {entry}


def count_in_with(pool: LockedPool) -> None:
    """On 3.13 `with` does not cover the jump back of a `while` right inside it (gh-130279)."""
    with pool.lock:
        while pool.count < 3:
            pool.count += 1


def count_below_with(pool: LockedPool) -> None:
    """The same loop in its own function: covered, as the call is."""
    with pool.lock:
        count(pool)


def count(pool: LockedPool) -> None:
    """Count to three."""
    while pool.count < 3:
        pool.count += 1


def test_a_loop_under_a_lock_is_safe_in_its_own_function() -> None:
    inside = sweep(LockedPool, count_in_with, LockedPool.check, name="while in with")
    below = sweep(LockedPool, count_below_with, LockedPool.check, name="while below with")
    print(inside.table(), below.table(), sep="\n")
    if sys.version_info >= (3, 10):
        assert below.deadlocks == 0, below.where()
    if sys.version_info[:2] in {(3, 10), (3, 11)}:
        assert inside.deadlocks == 0, inside.where()
