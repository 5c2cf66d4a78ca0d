"""PoolListener: what a pool tells as it happens. A listener that raises is logged and cannot break the pool."""

from __future__ import annotations

from typing import Any

from dbpool import logs

CO_COROUTINE = 0x80  # inspect's; to load that would take a third of the time that the package takes


class PoolListener:
    """Override what you want to hear of. Called without a lock held, in the thread where it happened.

    For an AsyncConnectionPool a method may be asynchronous: a task of the pool's awaits it, and nobody waits for that
    but the pool's close().
    """

    _hears_hits = True  # else no get or put needs to take the slow way for it

    def connected(self, pool: Any, conn: Any, seconds: float) -> None:
        """A connection was opened, in so many *seconds*."""

    def connect_failed(self, pool: Any, error: BaseException) -> None:
        """Opening one failed."""

    def acquired(self, pool: Any, conn: Any) -> None:
        """A caller was given *conn*."""

    def waited(self, pool: Any, seconds: float) -> None:
        """A caller had to wait for what it was given."""

    def timed_out(self, pool: Any, seconds: float) -> None:
        """A caller got nothing."""

    def released(self, pool: Any, conn: Any, seconds: float) -> None:
        """A caller gave *conn* back after so many *seconds*."""

    def leaked(self, pool: Any, user: Any) -> None:
        """A connection is held for longer than leak_threshold; *user* is the PoolUser who holds it."""

    def discarded(self, pool: Any, reason: str) -> None:
        """A connection was closed, and why."""

    def closed(self, pool: Any) -> None:
        """The pool was closed."""


class Several(PoolListener):
    """Stands for listeners of which each is told."""

    def __init__(self, *listeners: PoolListener) -> None:
        self.all = listeners


def without(listener: PoolListener | None, gone: PoolListener) -> PoolListener | None:
    """Return *listener*, or what it stands for, without *gone*."""
    left: list[Any] = [each for each in getattr(listener, "all", (listener,)) if each is not gone]
    return Several(*left) if len(left) > 1 else next(iter(left), None)


def asynchronous(listener: PoolListener) -> list[str]:
    """Return the events that *listener* has asynchronous methods for."""
    events = [name for name in vars(PoolListener) if not name.startswith("_")]
    return [name for name in events if is_asynchronous(getattr(listener, name))]


def is_asynchronous(function: Any) -> bool:
    """True if *function*, or a method, was defined by ``async def``."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & CO_COROUTINE)


def tell(listener: PoolListener | None, event: str, pool: Any, *args: Any) -> None:
    """Call *listener*'s method *event*, if there is a listener; log what it raises. *pool* sees to what it returns."""
    if listener is not None:
        for each in listener.all if type(listener) is Several else (listener,):
            try:
                returned = getattr(each, event)(pool, *args)
                if hasattr(returned, "__await__"):
                    hand_over(event, returned, pool)
            except Exception:
                logs.exception("the listener's %s() raised", event)


def hand_over(event: str, work: Any, pool: Any) -> None:
    """Have *pool* await what a listener does."""
    hearing = heard(event, work)
    try:
        pool._await_listener(hearing)
    except BaseException:  # it cannot: nobody is to be warned of what was never awaited as well
        for each in (hearing, work):
            if hasattr(each, "close"):
                each.close()
        raise


async def heard(event: str, work: Any) -> None:
    """Await what a listener does; log what it raises."""
    try:
        await work
    except Exception:
        logs.exception("the listener's %s() raised", event)
