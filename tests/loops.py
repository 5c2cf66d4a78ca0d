"""Event loops of both kinds, in debug mode, in which nothing may go unhandled."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Callable

from servers import import_or_skip
from unit.threads import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Coroutine

LONGEST = 40.0  # seconds that a test's coroutine may take


class Loops:
    """``run(work())`` is asyncio.run() in a loop of this kind; what no one handles in the loop fails the test."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._factory = factory

    def __call__(self, work: Coroutine[Any, Any, Any], in_order: bool = True) -> Any:
        """Return what *work* does. The loop is closed then; *in_order*: as asyncio.run() does it."""
        loop, unhandled = self._factory(), []
        loop.set_debug(True)
        loop.set_exception_handler(lambda loop, context: unhandled.append(context))
        try:
            return loop.run_until_complete(asyncio.wait_for(work, LONGEST))
        finally:
            if in_order:
                _end(loop)
            loop.close()
            assert not unhandled, unhandled


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """End what is left in the loop, as asyncio.run() does."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True) if tasks else asyncio.sleep(0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


def loops(name: str) -> Loops:
    """Return what runs coroutines in asyncio's own loop, or in uvloop's."""
    return Loops(asyncio.new_event_loop if name == "asyncio" else import_or_skip("uvloop").new_event_loop)


async def soon(is_so: Callable[[], Any]) -> None:
    """Return once *is_so*() is true; what `eventually` is to threads."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {PATIENCE:.0f} s"
        await asyncio.sleep(0.002)


async def in_task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Return the task that does *work*, which has been begun."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    return task
