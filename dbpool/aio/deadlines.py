"""Deadlines for what is awaited, and calls that run in a thread."""

from __future__ import annotations

import asyncio
from _thread import start_new_thread
from contextvars import copy_context
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Callable

from dbpool.bounded import Overdue, cut, duplicated
from dbpool.connectors.aio import done

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dbpool.connectors.base import Connector

BLOCKED = 0.1  # seconds by which a timer is late if something has held up the loop: what has come is to be read first
TURNS = 10  # of the loop: what was read takes some to arrive, and the loop may be held up again between two


class _Cut:
    """Shuts a connection down at its deadline, unless it was ended before."""

    def __init__(self, copy: Any, seconds: float) -> None:
        self._copy = copy
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + seconds
        self._turns: int | None = None  # left, once it was late
        self._timer = self._loop.call_at(self._due, self._act)
        self.passed = False

    def _act(self) -> None:
        if self._turns is None and self._loop.time() - self._due > BLOCKED:  # the answer may be there, unread
            self._turns = TURNS
        if self._turns:
            self._turns -= 1
            self._timer = self._loop.call_later(BLOCKED / TURNS, self._act)
            return
        self.passed = True
        self._copy.end()

    def end(self) -> None:
        self._timer.cancel()
        if not self.passed:
            self._copy.close()


async def bounded(connector: Connector, conn: Any, seconds: float | None, call: Callable[..., Any], *args: Any) -> Any:
    """Return what ``call(*args)`` does, awaited; raise Overdue if it took longer than *seconds*."""
    if seconds is None:
        return await unbounded(connector, conn, call, *args)
    descriptor = connector.fileno(conn)
    copies = [] if descriptor is None else duplicated(descriptor)
    if copies:
        return await _cut_off(_Cut(copies[0], max(0.0, seconds)), seconds, unbounded(connector, conn, call, *args))
    if connector.hangs:
        return await within(seconds, done(call(*args)))
    return await unbounded(connector, conn, call, *args)


async def unbounded(connector: Connector, conn: Any, call: Callable[..., Any], *args: Any) -> Any:
    """Return what ``call(*args)`` does, awaited. Who is cancelled leaves at once, and *conn* is shut down."""
    called = call(*args)
    if not isawaitable(called):
        return called
    task = asyncio.ensure_future(called)
    try:
        await asyncio.wait({task})
    except BaseException:  # cancelled ourselves: of the drivers, psycopg waits for the server's answer even then
        if not task.done():
            cut(connector.fileno(conn))
        _leave(task, None)
        raise
    return task.result()


async def _cut_off(cutter: _Cut, seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    try:
        returned = await work
    except Exception as exc:
        if cutter.passed:
            raise Overdue(f"no answer within {seconds:g} s") from exc
        raise
    finally:
        cutter.end()
    if cutter.passed:
        raise Overdue(f"no answer within {seconds:g} s")
    return returned


async def within(
    seconds: float | None, work: Coroutine[Any, Any, Any], late: Callable[[Any], Any] | None = None
) -> Any:  # fmt: skip
    """Return what *work* does; after *seconds* leave it behind, cancelled, and raise Overdue.

    *late* is called with what it returns after all.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    due = loop.time() + (seconds or 0.0)
    try:
        await asyncio.wait({task}, timeout=seconds)
        turns = TURNS if loop.time() - due > BLOCKED else 0
        while turns and not task.done():
            turns -= 1
            await asyncio.wait({task}, timeout=BLOCKED / TURNS)
    except BaseException:  # cancelled ourselves
        _leave(task, late)
        raise
    if not task.done():
        _leave(task, late)
    if not task.done() or task.cancelled():
        raise Overdue(f"not done within {seconds:g} s")
    return task.result()


def _leave(task: asyncio.Future[Any], late: Callable[[Any], Any] | None) -> None:
    """Cancel what nobody waits for any more; it may have ended just now."""
    task.cancel()
    if task.done():
        _Late(late)(task)
    else:
        task.add_done_callback(_Late(late))


class _Late:
    """Takes what comes too late."""

    def __init__(self, late: Callable[[Any], Any] | None) -> None:
        self._late = late

    def __call__(self, task: asyncio.Future[Any]) -> None:
        if not task.cancelled() and task.exception() is None and self._late is not None:
            self._late(task.result())


async def in_a_thread(call: Callable[..., Any], *args: Any, late: Callable[[Any], Any] | None = None) -> Any:
    """Return what ``call(*args)`` does in a thread of its own, in a copy of the caller's context.

    Who is cancelled meanwhile leaves the thread behind; *late* is called, in a thread, with what it returns after all.
    The thread itself keeps nothing of it.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    returned: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call(*args))
        except StopIteration as exc:  # a coroutine cannot raise it
            raised.append(RuntimeError(f"{type(exc).__name__} in a thread"))
        except BaseException as exc:
            raised.append(exc)
        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed
            if returned and late is not None:
                late(returned.pop())

    def tell() -> None:
        if ended.cancelled():
            leave()
        else:
            ended.set_result(None)

    def leave() -> None:
        if returned and late is not None:
            start_new_thread(late, (returned.pop(),))

    start_new_thread(copy_context().run, (run,))  # type: ignore[arg-type,unused-ignore]
    try:
        await ended
    except BaseException:
        if ended.done() and not ended.cancelled():  # cancelled at the very moment at which it ended
            leave()
        raise
    if raised:
        raise raised.pop()
    return returned.pop()
