"""Stand-ins for what the threaded pool takes from the system: locks, threads, a queue and the clock."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from queue import Empty
from typing import TYPE_CHECKING, Any, Callable
from unittest.mock import patch

from fakes import clock_replaced, no_housekeeper

import dbpool.pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .baton import Scheduler


class ReentrantLock:
    """_thread.RLock, as the pool uses it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._owner: Any = None
        self._depth = 0

    def __enter__(self) -> None:
        scheduler = self._scheduler
        scheduler.point()
        if self._depth and not self._is_owned():
            if scheduler.failure is None:
                scheduler.block(self._is_free)
            else:
                self._depth = 0  # nobody else runs any more
        self._owner = scheduler.current
        self._depth += 1

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._scheduler.changed()
            self._scheduler.point()

    def _is_free(self) -> bool:
        return not self._depth

    def _is_owned(self) -> bool:
        return self._depth > 0 and self._owner is self._scheduler.current


class Bell:
    """_thread.lock, as a waiter sleeps on it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._free = True

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._scheduler.block(self._is_free, None if timeout < 0 else timeout):
            self._free = False
            return True
        return False

    def release(self) -> None:
        self._scheduler.point()
        if self._free:
            raise RuntimeError("release unlocked lock")
        self._free = True
        self._scheduler.changed()

    def _is_free(self) -> bool:
        return self._free

    rings = _is_free


class Queue:
    """queue.SimpleQueue, as the constructor waits for its helpers."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._scheduler.changed()
        self._scheduler.point()

    def get(self, timeout: float | None = None) -> Any:
        if self._scheduler.block(lambda: bool(self._items), timeout):
            return self._items.popleft()
        raise Empty


class QueueType:
    """What SimpleQueue[None] and SimpleQueue() are."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __call__(self) -> Queue:
        return Queue(self._scheduler)


@contextmanager
def replaced(scheduler: Scheduler) -> Iterator[None]:
    """Have the pool use the stand-ins, and never wait for the garbage collector."""

    def start_new_thread(work: Callable[..., Any], args: tuple[Any, ...]) -> int:
        return scheduler.spawn(f"helper {len(scheduler.workers) + 1}", work, *args).number

    def uptime() -> float:
        return scheduler.now

    stand_ins = {
        "RLock": lambda: ReentrantLock(scheduler),
        "allocate_lock": lambda: Bell(scheduler),
        "start_new_thread": start_new_thread,
        "SimpleQueue": QueueType(scheduler),
        "_collect": lambda now: None,
    }
    with patch.multiple(dbpool.pool, **stand_ins), clock_replaced(uptime), no_housekeeper():
        yield
