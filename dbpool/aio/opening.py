"""Openers for asyncio: one for drivers that are awaited, one that runs the others' calls in threads."""
# mypy: disable-error-code="override"
# (What returns a value in dbpool.opening returns an awaitable here.)

from __future__ import annotations

import asyncio
from _thread import start_new_thread
from inspect import isawaitable, iscoroutinefunction
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable

from dbpool import logs
from dbpool.aio.deadlines import bounded, in_a_thread, unbounded, within
from dbpool.bounded import Overdue
from dbpool.connectors import base
from dbpool.connectors.aio import AsyncConnector, by_module, done, find
from dbpool.hidden import HiddenArgs, HiddenKwargs
from dbpool.opening import FIRST_PAUSE, LONGEST_PAUSE, ROLES, Opener, jittered

if TYPE_CHECKING:
    from dbpool.config import PoolConfig


class InThread:
    """A connect whose driver is not asynchronous: all its calls are made in threads."""

    def __init__(self, connect: Any) -> None:
        self.connect = connect


def in_thread(connect: Any) -> InThread:
    """Mark *connect* (a callable, a DB-API module or a Connector) as one whose driver is not asynchronous.

    An AsyncConnectionPool then makes all its calls in threads. The drivers that dbpool knows need no mark.
    """
    return InThread(connect)


class AsyncOpener(Opener):
    """How the connections of one pool are made where connect is asynchronous."""

    _by_module = staticmethod(by_module)
    _find = staticmethod(find)

    async def dial(self) -> Any:
        """Call the driver's connect, and await it."""
        args, kwargs = await self._arguments()
        connect = self._source.connect if isinstance(self._source, (ModuleType, AsyncConnector)) else self._source
        try:
            made = connect(*args, **kwargs)
            if isawaitable(made):
                return await made
        except Exception as exc:
            from dbpool.masking import mask_error  # loads and compiles patterns, which most pools never need

            mask_error(exc, args, kwargs)
            raise
        close = getattr(made, "close", None)
        if callable(close):
            await done(close())
        raise TypeError(
            f"connect returned a {type(made).__name__}, which cannot be awaited: for a driver that is not "
            "asynchronous pass connect=in_thread(...)"
        )

    async def _arguments(self) -> tuple[HiddenArgs, HiddenKwargs]:
        if not self._has_dsn():
            return self._completed(self.args)
        (dsn,) = self.args
        return self._completed(HiddenArgs((await done(dsn()) if callable(dsn) else dsn,)))

    async def open(self, wanted: Callable[[], bool]) -> tuple[Any, Any]:
        """Return a new connection, made ready by on_connect, and its attributes as they are then.

        A failed attempt is repeated ``connect_attempts`` times in all, after growing pauses, while it is *wanted*.
        Takes connect_timeout seconds at most. Raises what the last attempt raised; nothing stays open.
        """
        opened: tuple[Any, Any] = await _in_time(self, self._config.connect_timeout, self._attempt(wanted), self._drop)
        return opened

    def _drop(self, opened: tuple[Any, Any]) -> None:
        self.abandon(opened[0])

    async def _attempt(self, wanted: Callable[[], bool]) -> tuple[Any, Any]:
        pause = FIRST_PAUSE
        for attempt in range(1, self._config.connect_attempts + 1):
            try:
                return await self._open_once()
            except Exception as exc:
                self._learn_error(exc)
                if attempt == self._config.connect_attempts or not wanted():
                    raise
                logs.info("connect attempt %d failed (%s), trying again", attempt, type(exc).__name__)
            await asyncio.sleep(jittered(pause, 0.5))
            pause = min(2 * pause, LONGEST_PAUSE)
        raise AssertionError("connect_attempts is at least 1")

    async def _open_once(self) -> tuple[Any, Any]:
        conn = await self.dial()
        if conn is None:
            raise TypeError("connect returned None, not a connection")
        try:
            connector: Any = self._learn(conn)
            connector.prepare(conn)
            if self._config.on_connect is not None:
                await done(self._config.on_connect(conn))
                if connector.dirty(conn):
                    await connector.commit(conn)
            if connector.unfit(conn):
                raise self._unusable(conn)
            if self._config.ping_on_connect or self._config.role is not None:
                await self._ping_first(conn)
            look = connector.marks_of()
            return conn, None if look is None else look(conn)
        except Exception:
            await self.close(conn)
            raise
        except BaseException:  # cancelled: there is no time to wait for anything
            self.abandon(conn)
            raise

    async def close(self, conn: Any) -> bool:
        """Close *conn*; a connection that cannot be closed is let go. False if it had to be cut off."""
        connector: Any = self.connector or self._find(conn)
        busy = False
        try:
            busy = connector.is_busy(conn)
            await bounded(connector, conn, self._limit(None), connector.close, conn)
        except Overdue:
            self.abandon(conn)
            return False
        except Exception as exc:
            logs.debug("closing a connection raised %s", type(exc).__name__)
            self.abandon(conn)
        return not busy

    def abandon(self, conn: Any) -> None:
        """Let go of *conn* at once, for whom cannot wait."""
        connector: Any = self.connector or self._find(conn)
        try:
            connector.abandon(conn)
        except Exception as exc:
            logs.debug("letting go of a connection raised %s", type(exc).__name__)

    def _limit(self, seconds: float | None) -> float | None:
        return min((limit for limit in (seconds, self._config.check_timeout) if limit is not None), default=None)

    async def bounded(self, call: Callable[..., Any], conn: Any, *args: Any) -> Any:
        """Return what ``call(conn, *args)`` does; raise Overdue if that takes longer than check_timeout."""
        assert self.connector is not None
        return await bounded(self.connector, conn, self._limit(None), call, conn, *args)

    async def call(self, call: Callable[..., Any], conn: Any) -> Any:
        """Return what ``call(conn)`` does, however long it takes."""
        assert self.connector is not None
        return await unbounded(self.connector, conn, call, conn)

    async def ping(self, conn: Any, seconds: float | None = None, writable: bool = False) -> None:
        """Ask the server for an answer, and for its role if there is one to have; raise if there is none, or another.

        Takes at most *seconds*, and at most check_timeout. *writable*: it must not be read-only, whatever the role.
        """
        connector, role, limit = self.connector, self._config.role, self._limit(seconds)
        assert connector is not None
        if role is None and not writable:
            await bounded(connector, conn, limit, connector.ping, conn)
        else:
            wanted = role or "read-write"
            found = await bounded(connector, conn, limit, connector.is_writable, conn)
            if found is not None and found != (wanted == "read-write"):
                error: Any = self.errors.PoolError(f"the server is {ROLES[found]}, and role={wanted!r}")
                error.transient = True  # it may be promoted
                raise error
        if connector.unfit(conn):
            raise self.errors.PoolError("the connection is closed, or in a transaction, after it was pinged")

    async def _ping_first(self, conn: Any) -> None:
        try:
            await self.ping(conn)
        except Overdue as exc:
            text = f"connection pool exhausted: a new connection does not answer: {exc}"
            raise self.errors.PoolTimeout(text) from exc


class ThreadOpener:
    """The opener of the other pools; its calls that may wait are made in threads."""

    def __init__(self, *args: Any) -> None:
        self._plain = Opener(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)  # what does not wait is as it is there

    async def open(self, wanted: Callable[[], bool]) -> tuple[Any, Any]:
        """Return a new connection and its attributes, as Opener.open() does, within connect_timeout seconds."""
        plain = self._plain
        opening = in_a_thread(plain.open, plain.dial, wanted, late=self._drop)
        return await _in_time(plain, plain._config.connect_timeout, opening, self._drop)  # type: ignore[no-any-return]

    def _drop(self, opened: tuple[Any, Any]) -> None:
        self.abandon(opened[0])

    async def close(self, conn: Any) -> bool:
        """Close *conn*; False if it had to be cut off."""
        closed: bool = await in_a_thread(self._plain.close, conn)
        return closed

    def abandon(self, conn: Any) -> None:
        """Let go of *conn* at once, for whom cannot wait."""
        try:
            start_new_thread(self._plain.close, (conn,))
        except RuntimeError:  # no thread to be had
            self._plain.close(conn)

    async def bounded(self, call: Callable[..., Any], conn: Any, *args: Any) -> Any:
        """Return what ``call(conn, *args)`` does; raise Overdue if that takes longer than check_timeout."""
        return await in_a_thread(self._plain.bounded, call, conn, *args)

    async def call(self, call: Callable[..., Any], conn: Any) -> Any:
        """Return what ``call(conn)`` does, however long it takes."""
        return await in_a_thread(call, conn)

    async def ping(self, conn: Any, seconds: float | None = None, writable: bool = False) -> None:
        """Ask the server for an answer, as Opener.ping() does."""
        await in_a_thread(self._plain.ping, conn, seconds, writable)


async def _in_time(opener: Opener, seconds: float | None, opening: Any, late: Callable[[Any], Any]) -> Any:
    try:
        return await within(seconds, opening, late)
    except Overdue as exc:
        text = "connection pool exhausted: opening one took longer than connect_timeout allows"
        raise opener.errors.PoolTimeout(text) from exc


def opener_for(
    connect: Any, args: tuple[Any, ...], kwargs: dict[str, Any], config: PoolConfig,
    error: type[BaseException] | None,
) -> AsyncOpener | ThreadOpener:  # fmt: skip
    """Return the opener for *connect*: a known driver that is not asynchronous, or one so marked, runs in threads."""
    if isinstance(connect, InThread):
        return ThreadOpener(connect.connect, args, kwargs, config, error)
    if isinstance(connect, base.Connector):
        plain = not isinstance(connect, AsyncConnector)
    else:
        called = connect.connect if isinstance(connect, ModuleType) and hasattr(connect, "connect") else connect
        plain = connect is None or (
            not iscoroutinefunction(called) and by_module(called) is None and base.by_module(called) is not None
        )
        if getattr(called, "__module__", "").partition(".")[0] == "psycopg":
            plain = not iscoroutinefunction(called)
    kind = ThreadOpener if plain else AsyncOpener
    return kind(connect, args, kwargs, config, error)
