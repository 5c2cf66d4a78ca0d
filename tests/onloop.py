"""AsyncConnectionPool with the face of the other pools, so that their tests run on it: each call is a loop's task."""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import suppress
from functools import partial, wraps
from types import ModuleType
from typing import Any, Callable

from dbpool import AsyncConnectionPool, AsyncConnector, AsyncEndpointPool, Connector, in_thread
from dbpool.aio.deadlines import in_a_thread

PATIENCE = 8.0  # seconds that a call may take
REST = 0.05  # seconds that a call waits for the pool's own tasks; one that a test holds up is not waited for


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its clock leaps with the test's."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = LeapingLoop()
        self.complaints: list[Any] = []  # what nobody caught
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self._thread = threading.Thread(target=self._run, name="event loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.loop.is_closed():
            try:
                self.loop.run_forever()
                self.loop.close()
            except (KeyboardInterrupt, SystemExit):  # a task ended by it; who waits for that task is told
                pass

    def do(self, work: Any) -> Any:
        """Return what a coroutine does, once the loop's thread has forgotten it."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(PATIENCE)
        finally:
            future.cancel()  # it took too long
            forgotten = threading.Event()
            self.loop.call_soon_threadsafe(forgotten.set)
            forgotten.wait(REST)

    def end(self) -> None:
        """Cancel what is left of tasks, and close the loop."""
        self.do(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        assert self.loop.is_closed(), "the loop hangs"


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_loops: list[Loop] = []


def run(work: Any) -> Any:
    """Return what a coroutine does in the loop, which is started when it is first needed."""
    if not _loops:
        _loops.append(Loop())
    return _loops[0].do(work)


def leap(seconds: float) -> None:
    """Have the loop's clock leap, if there is a loop."""
    for each in _loops:
        each.loop.ahead += seconds
        each.loop.call_soon_threadsafe(int)  # it looks at its timers


def end() -> None:
    """End the loop, if one was started; insist that nothing went wrong in it of which nobody was told."""
    while _loops:
        ended = _loops.pop()
        ended.end()
        assert not ended.complaints, ended.complaints


async def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


async def _and_rest(pool: Any, work: Any) -> Any:
    """Do *work*, and see the pool's own tasks to their end: the other pools do their work in the caller."""
    try:
        return await work
    finally:
        ended: Any = True
        while (tasks := _tasks_of(pool)) and ended:
            ended, _ = await asyncio.wait(tasks, timeout=REST)


def _tasks_of(pool: Any) -> set[Any]:
    """The pool's own tasks; those of all its endpoints, if it has such."""
    members = list(pool._pools.values()) if isinstance(pool, AsyncEndpointPool) else [pool]
    return {task for member in members for task in member._tasks}


class AwaitedConnector(AsyncConnector):
    """A connector of the other kind, whose calls are awaited: they are made in threads, so that a test may hold one up.

    What is opened for somebody who does not wait for it any more is closed, as drivers do.
    """

    LOOKS = (
        "unfit",
        "gone",
        "dirty",
        "is_clean",
        "is_lost",
        "is_spoilt",
        "is_read_only",
        "refusal",
        "fileno",
        "marks_of",
    )

    def __init__(self, plain: Connector) -> None:
        super().__init__()
        self.error, self.attributes, self.levels, self.hangs = plain.error, plain.attributes, plain.levels, plain.hangs
        self.plain = plain

    def __getattribute__(self, name: str) -> Any:
        get = object.__getattribute__
        return getattr(get(self, "plain"), name) if name in get(self, "LOOKS") else get(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self.__dict__.get("plain", self), name, value)  # a test replaces one of its calls

    def __delattr__(self, name: str) -> None:
        delattr(self.plain, name)

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        return await in_a_thread(partial(self.plain.connect, *args, **kwargs), late=self.plain.close)

    async def close(self, conn: Any) -> None:
        await in_a_thread(self.plain.close, conn)

    def abandon(self, conn: Any) -> None:
        with suppress(Exception):
            self.plain.close(conn)

    async def reset(self, conn: Any, level: str) -> Any:
        return await in_a_thread(self.plain.reset, conn, level)

    async def ping(self, conn: Any) -> None:
        await in_a_thread(self.plain.ping, conn)

    async def commit(self, conn: Any) -> None:
        await in_a_thread(self.plain.commit, conn)

    async def rollback(self, conn: Any) -> None:
        await in_a_thread(self.plain.rollback, conn)

    async def restore(self, conn: Any, marks: Any) -> None:
        await in_a_thread(self.plain.restore, conn, marks)


class AwaitedRoleConnector(AwaitedConnector):
    """One whose server has a role."""

    async def is_writable(self, conn: Any) -> Any:  # type: ignore[override]
        return await in_a_thread(self.plain.is_writable, conn)


def awaited(connect: Any) -> Any:
    """Return *connect*, a connector, a DB-API module or a function, as an asynchronous one."""
    if isinstance(connect, Connector):
        has_role = type(connect).is_writable is not Connector.is_writable
        return (AwaitedRoleConnector if has_role else AwaitedConnector)(connect)

    if isinstance(connect, ModuleType) and hasattr(connect, "connect"):
        module = ModuleType(connect.__name__)
        vars(module).update(vars(connect))
        module.connect = in_threads(lambda *args, **kwargs: connect.connect(*args, **kwargs))  # noqa: PLW0108 (at each call)
        return module
    return in_threads(connect)


def in_threads(function: Any) -> Any:
    """Return an asynchronous function that does what *function* does; anything else as it is."""
    if not callable(function) or (isinstance(function, type) and issubclass(function, Connector)):
        return function

    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await in_a_thread(partial(function, *args, **kwargs))

    return call


class Block:
    """`with pool.connection()` over the asynchronous one."""

    def __init__(self, pool: Any, lease: Any) -> None:
        self._pool, self._lease = pool, lease

    def __enter__(self) -> Any:
        return run(_and_rest(self._pool, self._lease.__aenter__()))

    def __exit__(self, *error: Any) -> Any:
        return run(_and_rest(self._pool, self._lease.__aexit__(*error)))


class OnLoop:
    """The pool over a driver whose calls are made in threads. What is to be awaited is, in the loop."""

    SHOWN: Any = AsyncConnectionPool
    IN_LOOP = ("stats", "holders", "waiters", "_settle", "_lose")

    def __init__(self, minconn: Any, maxconn: Any, *args: Any, connect: Any = None, config: Any = None, **kwargs: Any):
        connect, config = self._adapted(connect, config)
        self._shell = self.SHOWN(minconn, maxconn, *args, connect=connect, config=config, **kwargs)
        if self._shell._config.start != "lazy":
            try:
                run(_and_rest(self._shell, self._shell.open()))
            except BaseException:
                run(self._shell.close(timeout=0))
                raise

    def _adapted(self, connect: Any, config: Any) -> Any:
        return connect if connect is None or isinstance(connect, Connector) else in_thread(connect), config

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._shell, name)
        if inspect.iscoroutinefunction(found):
            return lambda *args, **kwargs: run(_and_rest(self._shell, found(*args, **kwargs)))
        if name in self.IN_LOOP:
            return lambda *args, **kwargs: run(_call(found, *args, **kwargs))
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_shell":
            object.__setattr__(self, name, value)
        else:
            setattr(self._shell, name, value)

    def connection(self, key: Any = None) -> Block:
        return Block(self._shell, self._shell.connection(key))

    def __repr__(self) -> str:
        return repr(self._shell)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AwaitedOnLoop(OnLoop):
    """The same over a driver that is asynchronous."""

    def _adapted(self, connect: Any, config: Any) -> Any:
        called = ("on_connect", "reset") if isinstance(config, dict) else ()
        config = (
            {**config, **{name: in_threads(config[name]) for name in called if name in config}} if called else config
        )
        return awaited(connect), config


class EndpointsOnLoop(OnLoop):
    """AsyncEndpointPool with the face of EndpointPool, over a driver whose calls are made in threads."""

    SHOWN = AsyncEndpointPool


class EndpointsAwaitedOnLoop(AwaitedOnLoop):
    """The same over a driver that is asynchronous."""

    SHOWN = AsyncEndpointPool
