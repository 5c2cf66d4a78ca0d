"""The web examples under real servers: answers and rows agree, a full pool says 503, no connection is lost."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers import import_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import PATIENCE, Caller, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
REQUESTS, CONNECTIONS = 32, 4
Answer = tuple[int, Any, Any]  # status, headers, what its JSON says


# ---- the apps, each behind its own kind of server ----------------------------------------------------------


def load(name: str) -> ModuleType:
    """Return the example as a module, without its folder on sys.path."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Site:
    """An app that is being served: its pool, and requests to it over sockets of their own."""

    def __init__(self, pool: Any, port: int) -> None:
        self.pool = pool
        self.port = port

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Return what is answered to one request."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=2 * PATIENCE)) as http:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            http.request(method, path, None if body is None else json.dumps(body), headers)
            answer = http.getresponse()
            text = answer.read()
            if answer.getheader("Content-Type") != "application/json":  # the servers' own page for a failure
                return answer.status, answer.headers, text
            return answer.status, answer.headers, json.loads(text)


class Flask:
    """The app of web_flask, under werkzeug's server: a thread for each request."""

    needs = ("flask",)

    @contextmanager
    def serve(self, **options: Any) -> Iterator[Site]:
        from werkzeug.serving import make_server

        app = load("web_flask").create_app(**options)
        pool = app.extensions["dbpool"]
        with pool:
            http = make_server("127.0.0.1", 0, app, threaded=True)
            serving = Caller(http.serve_forever, poll_interval=0.01)
            try:
                yield Site(pool, http.server_port)
            finally:
                http.shutdown()
                serving.result()


class FastAPI:
    """The app of web_fastapi, under uvicorn: an event loop, and threads for the routes."""

    needs: tuple[str, ...] = ("fastapi", "uvicorn")
    name, loop = "web_fastapi", "asyncio"

    def pool(self, app: Any) -> Any:
        return app.state.pool

    @contextmanager
    def serve(self, **options: Any) -> Iterator[Site]:
        import uvicorn

        app = load(self.name).create_app(**options)
        # What is left out would be looked for, and might be installed: a loop, a parser, websockets.
        config = uvicorn.Config(app, loop=self.loop, http="h11", ws="none", lifespan="on", log_config=None)
        http = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = Caller(http.run, sockets=[listening])
            eventually(lambda: http.started or serving.ended)
            try:
                yield Site(self.pool(app), listening.getsockname()[1])
            finally:
                http.should_exit = True
                serving.result()
        assert app.state.pool.closed, "the end of the lifespan did not close the pool"


class FromThread:
    """A pool that lives in the loop of a server, as the test's thread sees it."""

    def __init__(self, pool: Any) -> None:
        self.maxconn, self.stats = pool.maxconn, pool.stats
        self._pool, self._loop = pool, pool._loop

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def getconn(self, **options: Any) -> Any:
        return self._run(self._pool.getconn(**options))

    def putconn(self, conn: Any) -> None:
        self._run(self._pool.putconn(conn))

    @contextmanager
    def connection(self) -> Iterator[Any]:
        conn = self.getconn()
        try:
            yield conn
        finally:
            self.putconn(conn)


class AsyncFastAPI(FastAPI):
    """The app of web_fastapi_async, whose routes wait in the loop."""

    needs = ("fastapi", "uvicorn", "psycopg")
    name = "web_fastapi_async"

    def pool(self, app: Any) -> Any:
        return FromThread(app.state.pool)


class AsyncFastAPIOnUvloop(AsyncFastAPI):
    """The same under uvloop, which uvicorn takes if it is there."""

    needs = ("fastapi", "uvicorn", "psycopg", "uvloop")
    loop = "uvloop"


@pytest.fixture(
    params=[Flask, FastAPI, AsyncFastAPI, AsyncFastAPIOnUvloop], ids=["flask", "fastapi", "async", "uvloop"]
)
def kind(request):
    """Each app."""
    for name in request.param.needs:
        import_or_skip(name)
    return request.param()


class Database:
    """The server as somebody else sees it."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def ask(self, query: str) -> list[str]:
        """Return the first column of all rows."""
        with self._conn.cursor() as cursor:
            cursor.execute(query)
            return [row[0] for row in cursor.fetchall()]

    def tell(self, statement: str) -> None:
        self._conn.cursor().execute(statement)

    def kill(self, pids: list[int]) -> None:
        """End these backends, and return once they are gone."""
        mine = f"FROM pg_stat_activity WHERE pid IN ({', '.join(map(str, pids))})"
        assert self.ask(f"SELECT pg_terminate_backend(pid) {mine}") == [True] * len(pids)
        eventually(lambda: self.ask(f"SELECT count(*) {mine}") == [0])


@pytest.fixture
def database(server, monkeypatch):
    """The database that DBPOOL_DSN names, with an empty table `note` as the example's docstring makes it."""
    psycopg2 = import_or_skip("psycopg2")
    monkeypatch.setenv("DBPOOL_DSN", server.dsn)
    with closing(psycopg2.connect(server.dsn)) as conn:
        conn.autocommit = True
        database = Database(conn)
        database.tell("DROP TABLE IF EXISTS note")
        database.tell(table_in("web_flask"))
        yield database
        database.tell("DROP TABLE note")


def table_in(name: str) -> str:
    """Return the statement in the example's docstring that makes its table."""
    return re.search(r'-c "(CREATE TABLE .*)"$', (EXAMPLES / f"{name}.py").read_text(), re.MULTILINE)[1]


@pytest.fixture
def site(kind, database):
    """Each app, served with a small pool and time enough for everybody."""
    with kind.serve(maxconn=CONNECTIONS, timeout=PATIENCE) as site:
        yield site


# ---- what is asked, and what must come of it ---------------------------------------------------------------


def work(number: int) -> tuple[str, str, Any]:
    """Return the request with that number: a note, three notes, or three of which the last is refused."""
    bodies = [f"{number}.{line}" for line in range(3)]
    if number % 4 == 1:
        return "POST", "/notes/import", {"bodies": bodies}
    if number % 4 == 3:
        return "POST", "/notes/import", {"bodies": [*bodies[:2], ""]}
    return "POST", "/notes", {"body": bodies[0]}


def stored_by(request: tuple[str, str, Any]) -> list[str]:
    """Return the bodies that a request stores if it is answered 200."""
    sent = request[2]
    return sent["bodies"] if "bodies" in sent else [sent["body"]]


def all_at_once(site: Site, requests: list[tuple[str, str, Any]]) -> list[Answer]:
    """Send all *requests* while the pool is empty; return the answers once all have stood in line."""
    held = [site.pool.getconn() for _ in range(site.pool.maxconn)]
    try:
        callers = [Caller(site.ask, *request) for request in requests]
        eventually(lambda: site.pool.stats().waiting == len(requests))
    finally:
        for conn in held:
            site.pool.putconn(conn)
    return [caller.result(2 * PATIENCE) for caller in callers]


def statuses(answers: list[Answer]) -> list[int]:
    return [status for status, _, _ in answers]


def assert_nothing_is_lost(pool: Any) -> None:
    stats = pool.stats()
    assert (stats.used, stats.waiting, stats.connecting) == (0, 0, 0)
    assert stats.size <= pool.maxconn
    assert adds_up(pool)
    lease_all(pool)


def test_the_rows_are_those_of_the_requests_that_were_answered_200(site, database):
    requests = [work(number) for number in range(REQUESTS)]
    answers = all_at_once(site, requests)
    assert sorted(set(statuses(answers))) == [200, 422]
    assert statuses(answers).count(422) == REQUESTS // 4
    expected = [
        body for request, (status, _, _) in zip(requests, answers) if status == 200 for body in stored_by(request)
    ]
    assert sorted(database.ask("SELECT body FROM note")) == sorted(expected)
    assert_nothing_is_lost(site.pool)


def test_what_was_stored_is_answered_and_listed(site, database):
    _, _, note = site.ask("POST", "/notes", {"body": "茶"})
    assert note == {"id": note["id"], "body": "茶"}
    assert site.ask("POST", "/notes/import", {"bodies": ["a", "b"]})[2] == {"imported": 2}
    status, _, notes = site.ask("GET", "/notes")
    assert (status, notes[0], [note["body"] for note in notes]) == (200, note, ["茶", "a", "b"])


def test_an_import_that_fails_half_way_stores_nothing(site, database):
    status, _, answer = site.ask("POST", "/notes/import", {"bodies": ["first", "second", "", "never reached"]})
    assert (status, answer) == (422, {"error": "a note needs a text"})
    assert database.ask("SELECT body FROM note") == []
    assert_nothing_is_lost(site.pool)


@pytest.mark.parametrize("timeout", [0.05, 0], ids=["PoolTimeout", "PoolExhausted"])
def test_an_exhausted_pool_is_answered_503_with_retry_after(kind, database, timeout):
    with kind.serve(maxconn=1, timeout=timeout) as site:
        with site.pool.connection():
            callers = [Caller(site.ask, "GET", "/notes") for _ in range(REQUESTS)]
            answers = [caller.result(2 * PATIENCE) for caller in callers]
        assert statuses(answers) == [503] * REQUESTS
        assert {headers["Retry-After"] for _, headers, _ in answers} == {"1"}
        assert {answer["error"] for _, _, answer in answers} == {"too busy, try again"}
        assert site.ask("GET", "/notes")[0] == 200
        assert_nothing_is_lost(site.pool)


# ---- the app's backends are killed -------------------------------------------------------------------------


def after_all_were_killed(site: Site, database: Database) -> list[Answer]:
    """Fill the pool, kill each of its idle connections, and return what the next requests are answered."""
    database.kill([conn.info.backend_pid for conn in lease_all(site.pool)])
    callers = [Caller(site.ask, *work(2 * number)) for number in range(REQUESTS)]
    return [caller.result(2 * PATIENCE) for caller in callers]


def test_killed_backends_fail_no_request_and_the_rows_agree(site, database):
    answers = after_all_were_killed(site, database)
    assert statuses(answers) == [200] * REQUESTS
    assert sorted(database.ask("SELECT body FROM note")) == sorted(
        answer["body"] for status, _, answer in answers if status == 200
    )
    assert_nothing_is_lost(site.pool)


# ---- the end, and the page ---------------------------------------------------------------------------------

ENDING = """
import atexit, sys
sys.path.insert(0, sys.argv[1])
import web_flask
atexit.register(lambda: print(pool.stats().size, pool.closed))  # the last registered is the first called
pool = web_flask.create_app().extensions["dbpool"]
print(pool.stats().size, pool.closed)
"""


def test_flasks_pool_is_closed_when_the_interpreter_ends(database):
    import_or_skip("flask")
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", ENDING, str(EXAMPLES)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout, ended.stderr) == ("1 False\n0 True\n", "")


@pytest.mark.parametrize("name", ["web_fastapi", "web_fastapi_async"])
def test_all_examples_make_the_same_table(name):
    assert table_in(name) == table_in("web_flask")
