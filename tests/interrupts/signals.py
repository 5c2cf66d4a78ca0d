"""Interrupts from outside: SIGINT to a blocked main thread, KeyboardInterrupt at random in a worker."""

from __future__ import annotations

import ctypes
import gc
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

from .bounded import Deadlock, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 10.0  # seconds without any progress that count as a deadlock
RESEND = 0.05  # seconds until a SIGINT that fell just before the blocking system call is sent again


@contextmanager
def default_sigint() -> Iterator[None]:
    """Have Python's own SIGINT handler, written in C, in place."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def let_pending_fire() -> None:
    """Give CPython its chances to raise an interrupt that is already pending."""
    for _ in range(4):
        pass


def interrupt_while(fn: Callable[[], object], when_blocked: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Run fn() in the main thread and send it SIGINT once it stands still and when_blocked() is true.

    Returns whether KeyboardInterrupt came out of it. Raises Deadlock if when_blocked() did not come true
    within *seconds*, or fn() outlived its interrupt by as long.
    """
    sender = _Sender(when_blocked, seconds)
    interrupted = False
    with default_sigint():
        try:
            try:
                sender.thread.start()
                fn()
            finally:
                sender.ended = True  # before any call: an interrupt there must not keep the sender awake
                sender.over.set()
                sender.thread.join()
                let_pending_fire()
        except KeyboardInterrupt:
            interrupted = True
    if sender.complaint:
        raise Deadlock(sender.complaint)
    return interrupted


class _Sender:
    """The thread beside interrupt_while."""

    def __init__(self, when_blocked: Callable[[], object], seconds: float) -> None:
        self.ended = False
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.complaint = ""
        self._when_blocked = when_blocked
        self._seconds = seconds
        self._last = (0, -1)

    def _run(self) -> None:
        if not wait_until(lambda: self.ended or self._is_blocked(), self._seconds):
            self.complaint = f"not blocked as expected within {self._seconds} s"
        if self.ended:
            return
        place = _main_place()
        end = time.monotonic() + self._seconds
        _send()
        while not self.over.wait(RESEND) and not self.ended:
            if time.monotonic() > end:
                self.complaint = self.complaint or f"still blocked {self._seconds} s after the interrupt"
                _send()
            elif _main_place() == place:
                # It came between the main thread's last look and its system call. Both are one interrupt.
                _send()

    def _is_blocked(self) -> bool:
        last, self._last = self._last, _main_place()
        return bool(last == self._last and self._when_blocked())


def _send() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _main_place() -> tuple[int, int]:
    """Which instruction of which frame the main thread is at."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    return id(frame), frame.f_lasti


@dataclass
class Storm:
    """What a storm did: thrown == landed + between + swallowed."""

    seed: int
    runs: int = 0  # of the function, to their end
    thrown: int = 0
    landed: int = 0  # came out of the function as KeyboardInterrupt
    between: int = 0  # fell between two runs
    swallowed: int = 0  # never came out
    errors: Counter[str] = field(default_factory=Counter)  # what else came out of the function


def async_exc_storm(
    fn: Callable[[], object],
    *,
    seconds: float = 1.0,
    iterations: int | None = None,
    seed: int = 0,
    patience: float = PATIENCE,
) -> Storm:
    """Run fn() again and again in a worker thread and throw KeyboardInterrupt into it at random moments.

    Ends after *seconds*, or sooner after *iterations* throws. fn must not block for long: the interrupt waits
    for its next bytecode. Raises Deadlock when fn makes no progress for *patience* seconds.
    """
    storm = Storm(seed)
    worker = _Worker(fn, storm, patience)
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    interval, tracer = sys.getswitchinterval(), sys.gettrace()
    sys.settrace(None)  # a traced thread on 3.11 spins for ever beside one that cannot take its interrupt
    gc.collect()  # the garbage of others has callbacks, too, which swallow interrupts
    sys.setswitchinterval(1e-5)
    try:
        worker.thread.start()
        while time.monotonic() < end and (iterations is None or storm.thrown < iterations):
            worker.await_progress(lambda: worker.ready)
            time.sleep(chance.uniform(0, 0.001))
            worker.throw()
        worker.await_progress(lambda: worker.ready)
    finally:
        worker.over = True
        sys.setswitchinterval(interval)
        if not worker.ready:
            worker.revoke()
        sys.settrace(tracer)
    worker.thread.join(patience)
    return storm


def _throw_into(ident: int | None, exception: ctypes.py_object[type[BaseException]]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident or 0), exception)


class _Worker:
    """The thread in a storm. One interrupt at most is on its way, and only while its `try` is entered."""

    def __init__(self, fn: Callable[[], object], storm: Storm, patience: float) -> None:
        self.ready = False
        self.over = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._fn = fn
        self._storm = storm
        self._patience = patience

    def throw(self) -> None:
        """Throw one interrupt and wait until it has come out, or will not."""
        self.ready = False
        self._storm.thrown += 1
        _throw_into(self.thread.ident, ctypes.py_object(KeyboardInterrupt))
        passed = self._storm.runs + 3
        self.await_progress(lambda: self.ready or self._storm.runs >= passed)
        if not self.ready:  # a full run passed without it
            self._storm.swallowed += 1
            self.ready = True

    def revoke(self) -> None:
        """Take back an interrupt that cannot be delivered, as the worker is blocked.

        The interpreter would look for it at each check from then on, with tracing on 3.11 for ever at one. Only a
        thread that gets an interrupt clears the mark: so this one gets one, too.
        """
        _throw_into(self.thread.ident, ctypes.py_object())
        try:
            _throw_into(threading.get_ident(), ctypes.py_object(KeyboardInterrupt))
            let_pending_fire()
        except KeyboardInterrupt:
            pass

    def await_progress(self, predicate: Callable[[], bool]) -> None:
        """Wait for *predicate*. Raises Deadlock when patience ends."""
        if not wait_until(predicate, self._patience):
            raise Deadlock(f"no progress for {self._patience} s after {self._storm}")

    def _run(self) -> None:
        sys.settrace(None)  # a tracer written in Python, coverage's too, breaks when interrupted
        while True:
            try:
                self._run_until_over()
                return
            except KeyboardInterrupt as error:
                self._count(error)

    def _count(self, error: KeyboardInterrupt) -> None:
        # Its own function, so that no traceback keeps alive what the interrupted function held.
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        if trace is None:
            self._storm.between += 1
        else:
            self._storm.landed += 1

    def _run_until_over(self) -> None:
        # Its own function: on 3.13 `try` does not cover the jump back of a `while` inside it (gh-130279).
        self.ready = True
        while not self.over:
            self._once()

    def _once(self) -> None:
        try:
            self._fn()
        except Exception as error:
            self._storm.errors[type(error).__name__] += 1
        self._storm.runs += 1
