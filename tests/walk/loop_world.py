"""WalkLoop: an event loop that is advanced from outside, callback by callback.

asyncio promises that callbacks run in the order in which they came. The pool must not depend on it: any may be next;
only those who are told of the end of one future are told together, as it is there.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from gc import get_referents
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Choice = tuple[str, int]  # what happens, and to whom: "run", "ends", "fails", "cancel", "time"


class Numbered:
    """The hash is a number: the order of sets must be the same in each replay."""

    def __init__(self, *args: Any, loop: WalkLoop, **more: Any) -> None:
        loop.numbers += 1
        self.number = loop.numbers
        super().__init__(*args, loop=loop, **more)

    def __hash__(self) -> int:
        return self.number


class WalkFuture(Numbered, asyncio.Future):  # type: ignore[type-arg]
    """A future."""


class WalkTask(Numbered, asyncio.Task):  # type: ignore[type-arg]
    """A task."""


class WalkHandle(asyncio.Handle):
    """Knows what it is to be told from the others by."""

    __slots__ = ("place",)


class WalkTimer(asyncio.TimerHandle):
    """The same for a timer."""

    __slots__ = ("place",)


class WalkLoop(asyncio.AbstractEventLoop):
    """What asyncio's futures and tasks need of a loop, and nothing that runs by itself."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: list[Any] = []
        self.timers: list[WalkTimer] = []
        self.tasks: list[ref[WalkTask]] = []  # a task that has ended must not keep what it returned
        self.complaints: list[str] = []  # what nobody caught
        self.over = False  # while a world ends, nothing is begun any more
        self.numbers = 0

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.over

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = WalkHandle(callback, args, self, context or copy_context())
        handle.place = place(handle)
        if not self.over:
            self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> WalkTimer:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> WalkTimer:
        handle = WalkTimer(when, callback, args, self, context or copy_context())
        handle.place = place(handle)
        self.timers.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timers = [each for each in self.timers if each is not handle]

    def create_future(self) -> WalkFuture:
        return WalkFuture(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None) -> Any:  # type: ignore[override]
        if self.over:
            coro.close()
            return self.create_future()
        name = name or f"{getattr(coro, '__qualname__', 'a task')} {self.numbers}"
        task = WalkTask(coro, loop=self, name=name)
        self.tasks.append(ref(task))
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.over:
            self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    # ---- what the explorer does --------------------------------------------------------------------------------------

    def in_order(self) -> list[Any]:
        """What may be next, in an order that tells nothing of which came first."""
        self.ready = [handle for handle in self.ready if not handle.cancelled()]
        first: dict[Any, Any] = {}
        for handle in self.ready:
            first.setdefault(handle.place, handle)
        return [first[key] for key in sorted(first)]

    def run(self, handle: Any) -> None:
        """Run it, and who else is told of the same: nothing comes between those."""
        together = [each for each in self.ready if each.place == handle.place]
        self.ready = [each for each in self.ready if each.place != handle.place]
        asyncio._set_running_loop(self)
        try:
            for each in together:
                if not each.cancelled():
                    each._run()
        finally:
            asyncio._set_running_loop(None)

    def pass_time(self) -> None:
        """The next timer rings, and those that are due with it."""
        self.now = min(timer.when() for timer in self.timers)
        self.ready += [timer for timer in self.timers if timer.when() <= self.now]
        self.timers = [timer for timer in self.timers if timer.when() > self.now]

    def end(self) -> None:
        """Close all that runs. A coroutine may await on its way out: it is closed again."""
        self.over = True
        asyncio._set_running_loop(self)
        for task in filter(None, [known() for known in self.tasks]):
            task._log_destroy_pending = False
            for _ in range(100):
                try:
                    task.get_coro().close()  # type: ignore[union-attr]
                except BaseException:
                    continue
                break
        asyncio._set_running_loop(None)
        self.ready.clear()
        self.timers.clear()
        self.tasks.clear()


def owner(handle: asyncio.Handle) -> Any:
    """The task that *handle* steps or wakes, or the future of whose end it tells; None if it is neither."""
    candidates = (getattr(handle._callback, "__self__", None), *handle._args, *get_referents(handle._callback))
    return next((each for each in candidates if isinstance(each, (WalkTask, WalkFuture))), None)


def place(handle: asyncio.Handle) -> tuple[bool, int]:
    """What tells a task's step, and those who are told of one future, from the others."""
    whose = owner(handle)
    return not steps(handle), 0 if whose is None else whose.number


def steps(handle: asyncio.Handle) -> bool:
    """Is it a step of a task?"""
    return isinstance(getattr(handle._callback, "__self__", None), WalkTask)


def told(handle: asyncio.Handle) -> str:
    """What a violation's path tells of *handle*."""
    whose, called = owner(handle), getattr(handle._callback, "__qualname__", repr(handle._callback))
    if isinstance(whose, WalkTask):
        where = standing(whose.get_coro())
        return f"{whose.get_name()}: goes on{where}" if steps(handle) else f"{called} is told of {whose.get_name()}"
    return f"{called} runs"


def standing(coro: Any) -> str:
    """Where a suspended coroutine stands: the innermost function and line."""
    place = ""
    for _ in range(50):
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is None:
            break
        place = f" in {frame.f_code.co_name}, line {frame.f_lineno}"
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
    return place
