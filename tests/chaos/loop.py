"""LoopScene: the scene with an AsyncConnectionPool, whose event loop runs in a thread of its own.

Faults, sampler and the last checks stay in other threads, and have the loop do what is to be done there: nothing but
the fault that is meant to block the loop does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from contextvars import ContextVar
from typing import Any, Callable
from weakref import WeakKeyDictionary

from dbpool import AsyncConnectionPool

from .scene import CONFIG, MAXCONN, MINCONN, Scene, name

PATIENCE = 60.0  # seconds for what the loop is asked to do
GLANCE = 0.2  # seconds that the sampler waits for a look; the loop may be blocked
WORKER: ContextVar[int] = ContextVar("WORKER", default=0)  # whose task this is; wait_for() makes others for it


class Face:
    """The pool as other threads see it: what is awaited is awaited in the loop."""

    def __init__(self, pool: AsyncConnectionPool[Any], scene: LoopScene) -> None:
        self._pool, self._scene = pool, scene

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._pool, attribute)
        if inspect.iscoroutinefunction(found):
            return lambda *args, **kwargs: self._scene.await_in_loop(found(*args, **kwargs))
        if attribute == "stats":
            return lambda: self._scene.call_in_loop(found)
        return found

    def __repr__(self) -> str:
        return str(self._scene.call_in_loop(repr, self._pool))


class LoopScene(Scene):
    """All that a run over an event loop is made of."""

    driver: Any
    who = staticmethod(WORKER.get)
    may_drop = False  # no task can be disturbed there

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.awaited: Any = None  # the pool under test itself
        self.workers_of: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._complain)
        self._thread = threading.Thread(target=self.loop.run_forever, name="event loop", daemon=True)
        self._look: concurrent.futures.Future[Any] | None = None

    @property
    def error(self) -> Any:  # type: ignore[override]
        return self.driver.error

    def __enter__(self) -> Scene:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.accuse("unhandled", f"{context.get('message')}: {context.get('exception')!r}")

    # ---- from other threads -----------------------------------------------------------------------------------------

    def call_in_loop(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a plain function returns in the loop, where no task is made for it."""
        return self._asked(function, *args).result(PATIENCE)

    def await_in_loop(self, work: Any) -> Any:
        """Return what a coroutine returns in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def _asked(self, function: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def answer() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as exc:
                future.set_exception(exc)

        self.loop.call_soon_threadsafe(answer)
        return future

    # ---- what differs from a pool for threads -----------------------------------------------------------------------

    def _made_pool(self) -> Any:
        connect = self.driver.connect(self.census)
        self.awaited = AsyncConnectionPool(MINCONN, MAXCONN, self.dsn, connect=connect, config=CONFIG)
        face = Face(self.awaited, self)
        face.open()
        return face

    def dsn(self) -> str:
        return str(self.driver.dsn(self.way(), name()))

    def look(self, at: Callable[[], None]) -> None:
        """Call *at* in the loop, between two steps of its tasks; not at all while it has not made the last look."""
        if self._look is None or self._look.done():
            self._look = self._asked(at)
        concurrent.futures.wait([self._look], GLANCE)

    def number_of(self, ident: Any) -> int:
        task = ident()
        return 0 if task is None else self.workers_of.get(task, 0)

    def try_out(self, conn: Any) -> None:
        self.await_in_loop(conn.execute("SELECT 1"))

    def count_tasks(self) -> int:
        return int(self.call_in_loop(lambda: len(asyncio.all_tasks(self.loop))))
