"""Who a task is, and where it stands: what Threads are to the pools for threads."""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from weakref import WeakSet, ref

from dbpool.standing import is_librarys

OURS: WeakSet[Any] = WeakSet()  # the pools' own tasks: they open, close and sweep


class Tasks:
    """Tells the tasks of a loop from each other. A task is known by a weak reference: an id() is given away again."""

    def __init__(self) -> None:
        self.loop: Any = None

    def me(self) -> ref[Any] | None:
        """Return who asks; None outside the loop's tasks."""
        if self.loop is None or asyncio._get_running_loop() is not self.loop:
            return None
        task = asyncio.current_task(self.loop)
        return None if task is None else ref(task)

    def numbers(self, idents: list[Any]) -> list[int]:
        """Return a number for each that tells it from the others; 0 for those that have ended."""
        return [0 if task is None else id(task) for task in map(_unfinished, idents)]

    def named(self, ident: Any) -> str:
        """Return what one is called."""
        task = _unfinished(ident)
        return "a task which has ended" if task is None else f"task {task.get_name()!r}"

    def told(self, idents: list[Any]) -> list[dict[str, Any]]:
        """Return what a PoolUser says of each."""
        return [
            {
                "thread_id": None,
                "thread": None,
                "task": None if task is None else task.get_name(),
                "at": None if task is None else place(task),
            }
            for task in map(_unfinished, idents)
        ]


def current(loop: Any) -> ref[Any]:
    """Return what stands for the task that runs in *loop*."""
    task: Any = asyncio.current_task(loop)
    return ref(task)


def _unfinished(ident: Any) -> Any:
    task = None if ident is None else ident()
    return None if task is None or task.done() else task


def place(task: Any) -> str | None:
    """Return where *task* stands: the innermost place in the program's own code."""
    places = map(_seen, _running(task) or _awaited(task))
    return next(filter(None, places), None)


def _seen(frame: Any) -> str | None:
    file = frame.f_code.co_filename
    return None if is_librarys(file) else f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"


def _running(task: Any) -> list[Any]:
    """Return the frames of the task that asks, innermost first; a coroutine that runs does not tell what it awaits."""
    loop: Any = asyncio._get_running_loop()
    now: Any = None if loop is None else asyncio.current_task(loop)
    if now is not task:
        return []
    outermost = getattr(task.get_coro(), "cr_frame", None)
    frame: Any = sys._getframe()
    frames = [frame]
    while frame is not outermost and frame.f_back is not None:
        frame = frame.f_back
        frames.append(frame)
    return frames


def _awaited(task: Any) -> list[Any]:
    frames, coro = [], task.get_coro()
    for _ in range(1000):  # a chain of awaits
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is None:
            break
        frames.append(frame)
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)
    return frames[::-1]
