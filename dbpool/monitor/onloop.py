"""On the loop: what a pool for tasks is asked, or told to do, is done in its event loop, which may look at them."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable
from weakref import WeakKeyDictionary

from dbpool.monitor.report import Nowhere, report

if TYPE_CHECKING:
    from dbpool.monitor.found import Watched

PATIENCE = 0.2  # seconds for a loop to answer; one that does not ...
SPARED = 2.0  # ... is not waited for in the next seconds
_silent: WeakKeyDictionary[Any, float] = WeakKeyDictionary()  # loops -> until when they are not waited for


class NoAnswer(Exception):
    """The loop does not run, or is held up."""


def reported(pool: Any, watched: Watched) -> dict[str, Any]:
    """Return the report of *pool*. If its loop does not answer, nobody's place is told."""
    loop = loop_of(pool)
    if loop is None:
        return report(pool, watched)
    try:
        if monotonic() >= _silent.get(loop, 0.0):
            found: dict[str, Any] = in_loop(loop, PATIENCE, report, pool, watched)
            return found
    except NoAnswer:
        _silent[loop] = monotonic() + SPARED
    return report(pool, watched, Nowhere(pool._who))


def loop_of(pool: Any) -> Any:
    """Return the loop that *pool* belongs to now, if it does."""
    loop = getattr(pool, "_loop", None)
    return None if loop is None or loop.is_closed() else loop


def in_loop(loop: Any, seconds: float, work: Callable[..., Any], *args: Any) -> Any:
    """Return what ``work(*args)`` does, called in *loop*. Raises NoAnswer if that does not come to it in time."""
    if sys.modules["asyncio"]._get_running_loop() is loop:
        return work(*args)
    call = _Call(work, args)
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # closed just now
        raise NoAnswer from None
    return call.returned(seconds)


class _Call:
    """A call that another thread makes for us, unless it is too late."""

    def __init__(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._work, self._args = work, args
        self._left = [True]  # taken by the first: whoever makes the call, or whoever gives it up
        self._ended = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def __call__(self) -> None:
        if self._take():
            try:
                self._value = self._work(*self._args)
            except BaseException as exc:
                self._error = exc
            self._ended.set()

    def returned(self, seconds: float) -> Any:
        """Wait so long for it to begin, and until it has ended."""
        if not self._ended.wait(seconds) and self._take():
            self._work, self._args = len, ()
            raise NoAnswer
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def _take(self) -> bool:
        try:
            return self._left.pop()
        except IndexError:
            return False
