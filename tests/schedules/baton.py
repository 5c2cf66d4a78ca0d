"""Baton: real threads, of which one runs at a time; at every yield point a strategy says who goes on."""

from __future__ import annotations

import _thread
import sys
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from types import FrameType

    from .strategies import Strategy

BEGIN = 1000.0  # what the clock shows at first
STEPS_MAX = 200_000  # a run that takes more never ends
PATIENCE = 60.0  # real seconds


class Stuck(AssertionError):
    """Nobody can go on, or nobody comes to an end."""


class Unwound(BaseException):
    """Raised in the threads of a run that has failed, so that they end."""


class Worker:
    """A thread; while it sleeps, *ready* tells what it waits for, and *deadline* until when."""

    __slots__ = ("baton", "deadline", "ended", "name", "number", "ready")

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.baton = _thread.allocate_lock()
        self.baton.acquire()
        self.ready: Callable[[], bool] | None = None
        self.deadline: float | None = None
        self.ended = False

    def can_go_on(self, now: float) -> bool:
        if self.ended:
            return False
        return self.ready is None or self.ready() or (self.deadline is not None and now >= self.deadline)


class Scheduler:
    """Runs one schedule. All its methods but run() are called by the thread that has the baton, so it needs no lock.

    Time stands still while somebody can go on, unless the strategy lets it pass; then it goes to the next deadline.
    """

    def __init__(self, strategy: Strategy, watch: Any = None) -> None:
        self.strategy = strategy
        self.now = BEGIN
        self.step = 0
        self.alarm = 0.0  # the step at which the strategy is asked next
        self.workers: list[Worker] = []
        self.current: Worker | None = None
        self.failure: BaseException | None = None
        self.switches: list[tuple[int, int, str, int]] = []  # step, who stopped (0: time passed), function and line
        self.when_quiet: Callable[[], None] = lambda: None  # called when all sleep, before time passes
        self._watch = watch  # finds the yield points in the pool's code
        self._looking = False  # whether that code runs for when_quiet()
        self._done = _thread.allocate_lock()
        self._done.acquire()

    # ---- threads ----------------------------------------------------------------------------------------------------

    def spawn(self, name: str, work: Callable[..., Any], *args: Any) -> Worker:
        """Start a thread. It runs when it is chosen."""
        worker = Worker(len(self.workers) + 1, name)
        self.workers.append(worker)
        _thread.start_new_thread(self._run, (worker, work, args))
        self.changed()
        return worker

    def _run(self, worker: Worker, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        worker.baton.acquire()
        watch = self._watch
        if watch is not None:
            watch.begin(self.point)
        try:
            if self.failure is None:
                work(*args)
        except Unwound:
            pass
        except BaseException as error:
            self.fail(error)
        if watch is not None:
            watch.end()
        worker.ended = True
        self._leave()

    def _leave(self) -> None:
        """A thread has ended: the next, please. After a failure one by one, each to its end."""
        left = [worker for worker in self.workers if not worker.ended]
        if not left:
            self.current = None
            self._done.release()
            return
        try:
            self.current = left[0] if self.failure else self._choose()
        except Unwound:
            self.current = left[0]
        self.current.baton.release()

    def run(self) -> None:
        """Let the threads run until all have ended. Raises what went wrong first."""
        self.current = self._choose()
        self.current.baton.release()
        if not self._done.acquire(True, PATIENCE):
            raise Stuck(f"{self.current.name} does not come to a yield point")
        if self.failure is not None:
            raise self.failure

    def begin_again(self, strategy: Strategy) -> None:
        """Use another strategy from now on, and no more yield points in the pool's code."""
        self.strategy, self._watch = strategy, None

    def fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error

    # ---- yield points -----------------------------------------------------------------------------------------------

    def point(self) -> None:
        """Here another may go on."""
        if not self._looking:
            self.step += 1
            if self.step >= self.alarm:
                self.switch()

    def changed(self) -> None:
        """Somebody who could not go on now can."""
        if self.strategy.eager:
            self.alarm = 0

    def block(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Sleep until *ready*, or for so many *seconds*; tell whether it is ready."""
        if self.current is None:  # nobody runs yet, or any more
            assert ready(), "this would wait for ever"
            return True
        worker = self.current
        worker.ready, worker.deadline = ready, None if seconds is None else self.now + seconds
        try:
            if self.failure is not None:
                raise Unwound
            self.switch()
        finally:
            worker.ready = worker.deadline = None
        return ready()

    def sleep(self, seconds: float) -> None:
        self.block(lambda: False, seconds)

    def switch(self) -> None:
        """Hand the baton to whom the strategy chooses, and wait until it comes back."""
        worker = self.current
        if worker is None:
            return
        if self.failure is not None:
            if self.step > STEPS_MAX:
                raise Unwound
            return
        chosen = self._choose()
        if chosen is not worker:
            self.switches.append((self.step, worker.number, *_place(sys._getframe(1))))
            self.current = chosen
            chosen.baton.release()
            worker.baton.acquire()
            if self.failure is not None:
                raise Unwound

    def _choose(self) -> Worker:
        if self.step > STEPS_MAX:
            self._give_up(Stuck(f"no end after {STEPS_MAX} steps"))
        while True:
            able = [worker for worker in self.workers if worker.can_go_on(self.now)]
            sleeping = [worker.deadline for worker in self.workers if worker not in able]
            deadlines = [deadline for deadline in sleeping if deadline is not None]
            if not able:
                self._be_quiet(deadlines)
            chosen = self.strategy.choose(self.step, self.current, able, bool(deadlines)) if able else None
            if chosen is not None:
                self.alarm = min(self.strategy.alarm(self.step), STEPS_MAX + 1)
                return chosen
            self.now = min(deadlines)
            self.switches.append((self.step, 0, "", 0))

    def _be_quiet(self, deadlines: list[float]) -> None:
        self._looking = True
        try:
            self.when_quiet()
        except BaseException as error:
            self._give_up(error)
        finally:
            self._looking = False
        if not deadlines:
            sleepers = ", ".join(worker.name for worker in self.workers if not worker.ended)
            self._give_up(Stuck(f"for ever asleep: {sleepers}"))

    def _give_up(self, error: BaseException) -> None:
        self.fail(error)
        raise Unwound


def _place(frame: FrameType | None) -> tuple[str, int]:
    """Return the function and the line of the pool from which a yield point was reached."""
    while frame is not None and "dbpool" not in frame.f_globals.get("__name__", ""):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_name, frame.f_lineno)
