"""Mounted as WSGI: under wsgiref, in Flask, under gunicorn."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.validate import validator

import pytest
from servers import import_or_skip
from unit.threads import PATIENCE, eventually

from dbpool.monitor import wsgi_app
from dbpool.monitor.messages import MOST_BODY
from dbpool.monitor.routes import MOST_VIEWERS

from .asks import TOKEN
from .mounts import Mounted, free_port, names

HERE = Path(__file__).parents[1]


@pytest.fixture
def wsgi():
    """Make WSGI applications, and close them."""
    made = []

    def make(**options):
        made.append(wsgi_app(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(app):
    """Serve a WSGI application by the standard library."""
    with make_server("127.0.0.1", 0, app, WSGIServer, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Mounted(server.server_port)
        finally:
            server.shutdown()
            thread.join()


def test_it_is_an_application_as_wsgi_wants_it(wsgi, make):
    make(name="orders")
    with served(validator(wsgi(token=TOKEN))) as mounted:
        assert mounted.get("/").status == 303
        assert mounted.get("/json").status == 401
        assert names(mounted.get("/json", Authorization=f"Bearer {TOKEN}")) == ["orders"]
        assert mounted.get("/json", "HEAD", Authorization=f"Bearer {TOKEN}").body == b""
        assert mounted.get("/nothing").status == 404
        form = {"Content_Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{mounted.port}"}
        login = mounted.get("/login", "POST", f"token={TOKEN}".encode(), **form)
        assert login.status == 303
        assert names(mounted.get("/json", Cookie=login.headers["set-cookie"].partition(";")[0])) == ["orders"]


def test_a_stream_ends_after_its_first_event_and_is_asked_for_again(wsgi, make):
    make(name="orders")
    app = wsgi()
    with served(validator(app)) as mounted:
        for _ in range(MOST_VIEWERS + 2):
            body = mounted.get("/events").body
            assert body.startswith(b"retry: 2000\n\nevent: history\ndata: {")
            assert body.endswith(b"}\n\n")
    assert app._routes._viewers._value == MOST_VIEWERS


def environ(**changes):
    return {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/json", "SERVER_NAME": "x", "SERVER_PORT": "1", "HTTP_HOST": "localhost",
        "wsgi.input": io.BytesIO(b""), "wsgi.url_scheme": "http", **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"CONTENT_LENGTH": ""}, 200),
        ({"CONTENT_LENGTH": "x"}, 400),
        ({"CONTENT_LENGTH": "-1"}, 400),
        ({"CONTENT_LENGTH": str(MOST_BODY + 1)}, 413),
        ({"HTTP_HOST": "evil.example"}, 421),
        ({"PATH_INFO": ""}, 308),
    ],
)
def test_what_a_server_hands_over(wsgi, changes, status):
    told = []
    wsgi()(environ(**changes), lambda line, headers: told.append(line))
    assert int(told[0].split()[0]) == status


def test_it_can_be_mounted_in_flask(wsgi, make):
    flask = import_or_skip("flask")
    dispatcher = import_or_skip("werkzeug.middleware.dispatcher")
    make(name="orders")
    app = flask.Flask(__name__)
    app.wsgi_app = dispatcher.DispatcherMiddleware(app.wsgi_app, {"/admin/pools": wsgi()})
    with served(app) as mounted:
        assert mounted.get("/admin/pools").headers["location"] == "./pools/"
        assert b"<!doctype html>" in mounted.get("/admin/pools/").body.lower()
        assert names(mounted.get("/admin/pools/json")) == ["orders"]
        assert mounted.get("/elsewhere").status == 404


GUNICORN = """
import sys
sys.path[:0] = {paths!r}
from fakes import FakeConnector
from dbpool import ThreadedConnectionPool
from dbpool.monitor import wsgi_app
pool = ThreadedConnectionPool(1, 2, connect=FakeConnector(), config={{"name": "orders"}})
app = wsgi_app()
"""


@pytest.mark.parametrize("preload", [["--preload"], []], ids=["preloaded", "loaded by each"])
def test_it_is_served_by_gunicorn_also_from_a_forked_worker(tmp_path, preload):
    import_or_skip("gunicorn")
    (tmp_path / "site.py").write_text(GUNICORN.format(paths=[str(HERE), str(HERE.parent)]), encoding="utf-8")
    (tmp_path / "site.py").rename(tmp_path / "pooled.py")
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--no-control-socket",
        "--log-level", "error", *preload, "pooled:app",
    ]  # fmt: skip
    if b"--no-control-socket" not in subprocess.run([*command[:3], "--help"], capture_output=True, check=False).stdout:
        command.remove("--no-control-socket")
    process = subprocess.Popen(command, cwd=tmp_path)
    try:
        mounted = Mounted(port)
        deadline = time.monotonic() + 3 * PATIENCE
        answer = None
        while answer is None and time.monotonic() < deadline:
            with suppress(OSError):
                answer = mounted.get("/json?history=1")
        told = json.loads(answer.body)
        assert [pool["name"] for pool in told["pools"]] == ["orders"]
        assert told["process"]["pid"] != process.pid
        assert told["pools"][0]["id"].startswith(f"{told['process']['pid']}-")
        number = told["pools"][0]["id"]
        eventually(lambda: len(json.loads(mounted.get("/json?history=1").body)["history"][number]["t"]) > 1)
    finally:
        process.terminate()
        process.wait(PATIENCE)
