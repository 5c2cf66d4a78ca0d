"""ASGI: the monitor as an application to be mounted, in FastAPI, Starlette, or under uvicorn."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dbpool.aio.deadlines import in_a_thread
from dbpool.monitor.feed import PATIENCE
from dbpool.monitor.messages import MOST_BODY, Request, Response, refusal
from dbpool.monitor.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

AT_ONCE = 16  # threads that answer


def asgi_app(
    *, pools: Iterable[Any] | None = None, token: str | None = None, actions: bool = False,
    workers: str | PathLike[str] | None = None, hosts: Iterable[str] = (),
) -> AsgiMonitor:  # fmt: skip
    """Return the monitor as an ASGI application; the arguments are those of pool_monitor().

    *hosts*: the names by which it may be asked, beside localhost.
    """
    routes = Routes(pools, token, actions, workers, hosts)
    routes.begin()
    return AsgiMonitor(routes)


class AsgiMonitor:
    """The application."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._turns: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # loops -> who limits their threads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    def close(self) -> None:
        """Look no more, and end the streams."""
        self._routes.close()

    async def _live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._routes.begin()
                await send({"type": "lifespan.startup.complete"})
            else:
                await in_a_thread(self.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        request = await _request(scope, receive)
        if isinstance(request, Response):
            response = request
        else:
            async with self._turn():
                response = await in_a_thread(self._routes.handle, request, late=Response.close)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        try:
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            if response.stream is None:
                await send({"type": "http.response.body", "body": response.body})
            else:
                await _stream(response.stream, receive, send)
        finally:
            response.close()

    def _turn(self) -> Any:
        """Return what has so many at a time take their turn in the loop that is running."""
        loop = asyncio.get_running_loop()
        turns = self._turns.get(loop)
        if turns is None:
            turns = self._turns[loop] = asyncio.Semaphore(AT_ONCE)
        return turns


async def _stream(feed: Any, receive: Any, send: Any) -> None:
    """Send what is new until the viewer leaves."""
    loop, rung = asyncio.get_running_loop(), asyncio.Event()
    left = asyncio.ensure_future(_gone(receive, rung))
    feed.hear(lambda: loop.call_soon_threadsafe(rung.set))
    try:
        part = await in_a_thread(feed.first)
        while part is not None and not left.done():
            await send({"type": "http.response.body", "body": part, "more_body": True})
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(rung.wait(), PATIENCE)
            rung.clear()
            part = None if left.done() else await in_a_thread(feed.news)
        if not left.done():
            await send({"type": "http.response.body", "body": b""})
    finally:
        left.cancel()
        feed.hear(None)


async def _gone(receive: Any, rung: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    rung.set()


async def _request(scope: Any, receive: Any) -> Request | Response:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BODY:
            return refusal(413, "the body is too long")
    prefix = scope.get("root_path", "").rstrip("/")
    path = scope["path"]
    if prefix and path.startswith(prefix):  # newer servers leave it there
        path = path[len(prefix) :]
    query = scope.get("query_string", b"").decode("latin-1")
    return Request(scope["method"], path, query, headers, body, prefix, scope.get("scheme") == "https")
