"""Mounted as ASGI: called as a server would, under uvicorn, in FastAPI."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from servers import import_or_skip
from unit.threads import PATIENCE, eventually

from dbpool.monitor import asgi_app
from dbpool.monitor.messages import MOST_BODY
from dbpool.monitor.routes import MOST_VIEWERS

from .asks import TOKEN, soon, until
from .mounts import Mounted, free_port, names

HERE = Path(__file__).parents[1]


@pytest.fixture
def asgi():
    """Make ASGI applications, and close them."""
    made = []

    def make(**options):
        made.append(asgi_app(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Scope:
    """A request as an ASGI server brings it."""

    def __init__(self, path="/json", method="GET", body=b"", root_path="", **headers):
        pairs = {"host": "localhost", **headers}
        self.scope = {
            "type": "http", "method": method, "path": path, "query_string": b"", "root_path": root_path,
            "scheme": "http",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in pairs.items()],
        }  # fmt: skip
        self.parts = [
            {"type": "http.request", "body": body[:5], "more_body": True},
            {"type": "http.request", "body": body[5:]},
        ]
        self.sent = []
        self.left = asyncio.Event()

    async def receive(self):
        if self.parts:
            return self.parts.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def run(work):
    return asyncio.run(asyncio.wait_for(work, 40))


def asked(app, **request):
    async def work():
        scope = Scope(**request)
        await app(scope.scope, scope.receive, scope.send)
        return scope

    return run(work())


def test_it_is_an_application_as_asgi_wants_it(asgi, make):
    make(name="orders")
    app = asgi(token=TOKEN)
    assert asked(app).sent[0]["status"] == 401
    done = asked(app, authorization=f"Bearer {TOKEN}")
    assert done.sent[0]["type"] == "http.response.start"
    assert done.sent[0]["status"] == 200
    assert dict(done.sent[0]["headers"])[b"content-length"] == str(len(done.body)).encode()
    assert [pool["name"] for pool in json.loads(done.body)["pools"]] == ["orders"]
    assert asked(app, path="/nothing").sent[0]["status"] == 404


@pytest.mark.parametrize(("path", "root"), [("/pools/json", "/pools"), ("/json", "/pools"), ("/json", "")])
def test_it_is_found_wherever_it_is_mounted(asgi, path, root):
    assert asked(asgi(), path=path, root_path=root).sent[0]["status"] == 200


def test_a_body_that_is_too_long_is_refused(asgi):
    done = asked(asgi(), path="/login", method="POST", body=b"x" * (MOST_BODY + 10))
    assert done.sent[0]["status"] == 413


def test_a_form_comes_in_parts(asgi):
    form = {"content_type": "application/x-www-form-urlencoded", "origin": "http://localhost"}
    done = asked(asgi(token=TOKEN), path="/login", method="POST", body=f"token={TOKEN}".encode(), **form)
    assert done.sent[0]["status"] == 303


def test_a_stream_goes_on_until_the_viewer_leaves(asgi, make):
    make(name="orders")
    app = asgi()

    async def work():
        scope, before = Scope("/events"), asyncio.all_tasks()
        stream = asyncio.ensure_future(app(scope.scope, scope.receive, scope.send))
        await soon(lambda: b"event: state" in scope.body)
        assert scope.body.startswith(b"retry: 2000\n\nevent: history\n")
        assert app._routes._viewers._value == MOST_VIEWERS - 1
        scope.left.set()
        await stream
        assert app._routes._viewers._value == MOST_VIEWERS
        assert asyncio.all_tasks() == before

    run(work())


def test_a_stream_that_is_cancelled_makes_room(asgi):
    app = asgi()

    async def work():
        scope = Scope("/events")
        stream = asyncio.ensure_future(app(scope.scope, scope.receive, scope.send))
        await soon(lambda: scope.body)
        stream.cancel()
        with suppress(asyncio.CancelledError):
            await stream
        assert app._routes._viewers._value == MOST_VIEWERS

    run(work())


def test_a_client_that_is_gone_when_its_stream_begins_makes_room(asgi):
    app = asgi()

    async def work():
        scope = Scope("/events")

        async def send(message):
            raise OSError("gone")

        with suppress(OSError):
            await app(scope.scope, scope.receive, send)
        assert app._routes._viewers._value == MOST_VIEWERS

    run(work())


def test_streams_end_with_the_server(asgi):
    app = asgi()

    async def work():
        scope = Scope("/events")
        stream = asyncio.ensure_future(app(scope.scope, scope.receive, scope.send))
        await soon(lambda: scope.body)
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        told = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            told.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        await stream
        assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert scope.sent[-1] == {"type": "http.response.body", "body": b""}

    run(work())
    assert not [each for each in threading.enumerate() if each.name.startswith("dbpool-monitor")]
    assert asked(app).sent[0]["status"] == 200  # a server that begins again, as tests have it


def test_a_websocket_is_refused(asgi):
    async def work():
        told = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            told.append(message["type"])

        await asgi()({"type": "websocket"}, receive, send)
        assert told == ["websocket.close"]

    run(work())


def test_many_requests_take_few_threads(asgi, make):
    make(name="orders")
    app = asgi()

    async def work():
        scopes = [Scope() for _ in range(200)]
        most = 0
        tasks = [asyncio.ensure_future(app(each.scope, each.receive, each.send)) for each in scopes]
        while not all(task.done() for task in tasks):
            most = max(most, threading.active_count())
            await asyncio.sleep(0)
        assert {each.sent[0]["status"] for each in scopes} == {200}
        assert most < 40

    run(work())


@contextmanager
def in_uvicorn(app):
    """Serve an ASGI application by uvicorn, in a thread."""
    uvicorn = import_or_skip("uvicorn")
    port = free_port()
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="error", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield Mounted(port)
    finally:
        server.should_exit = True
        thread.join(3 * PATIENCE)
        assert not thread.is_alive()


def test_it_is_served_by_uvicorn_and_its_streams_end(asgi, make):
    make(name="orders")
    app = asgi()
    with in_uvicorn(app) as mounted:
        assert names(mounted.get("/json")) == ["orders"]
        assert mounted.get("/").status == 200
        request = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{mounted.port}\r\n\r\n".encode()
        with mounted.sends(request) as sock:
            until(sock, b"event: state")
        eventually(lambda: app._routes._viewers._value == MOST_VIEWERS)
        with mounted.sends(request) as sock:
            until(sock, b"event: history")


def test_it_can_be_mounted_in_fastapi(asgi, make):
    fastapi = import_or_skip("fastapi")
    make(name="orders")
    app = fastapi.FastAPI()
    app.mount("/admin/pools", asgi())

    @app.get("/")
    async def root():
        return {"mine": True}

    with in_uvicorn(app) as mounted:
        assert b"mine" in mounted.get("/").body
        assert b"<!doctype html>" in mounted.get("/admin/pools/").body.lower()
        assert names(mounted.get("/admin/pools/json")) == ["orders"]
        assert mounted.get("/admin/pools/static/style.css").status == 200
        assert mounted.get("/admin/pools").status in (307, 308)
