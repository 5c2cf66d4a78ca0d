"""AsyncConnectionPool with the face of a pool for one thread: each call runs the loop until there is nothing to do."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from dbpool import AsyncConnectionPool


class InLoop:
    """Each call runs in a loop of its own, to its end and that of what the pool begins meanwhile."""

    def __init__(self, minconn: int, maxconn: int, *, connect: Any, config: dict[str, Any]) -> None:
        self.loop = asyncio.new_event_loop()
        self.complaints: list[Any] = []  # what nobody caught
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self.shell: AsyncConnectionPool[Any] = AsyncConnectionPool(minconn, maxconn, connect=connect, config=config)
        if self.shell._config.start != "lazy":
            self.do(self.shell.open())

    def do(self, work: Any) -> Any:
        """Return what *work* does, or raise it; not by its task: the two would keep each other, and a connection."""
        returned, error = self.loop.run_until_complete(self._and_rest(work))
        if error is None:
            return returned
        try:
            raise error
        finally:
            error = None

    async def _and_rest(self, work: Any) -> tuple[Any, Any]:
        returned = error = None
        try:
            returned = await work
        except Exception as exc:
            error = exc.with_traceback(None)
        while self.shell._tasks:
            await asyncio.wait(self.shell._tasks)
        return returned, error

    def connection(self, key: Any) -> Block:
        return Block(self, self.shell.connection(key))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.shell, name)
        if inspect.iscoroutinefunction(found):
            return lambda *args, **kwargs: self.do(found(*args, **kwargs))
        return found

    def end(self) -> None:
        """The loop is closed; nothing went wrong in it of which nobody was told."""
        self.leave()
        assert not self.complaints, self.complaints

    def leave(self) -> None:
        """A test has failed: the loop is closed as it is."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


class Block:
    """`with pool.connection()` over the asynchronous one."""

    def __init__(self, pool: InLoop, lease: Any) -> None:
        self._pool, self._lease = pool, lease

    def __enter__(self) -> Any:
        return self._pool.do(self._lease.__aenter__())

    def __exit__(self, *error: Any) -> Any:
        return self._pool.do(self._lease.__aexit__(*error))
