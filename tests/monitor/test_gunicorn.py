"""The workers of a real gunicorn: whichever answers the page shows the pools of all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from servers import import_or_skip
from unit.threads import eventually

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
APP = """
import json, os, sqlite3
from dbpool import ThreadedConnectionPool
from dbpool.monitor import neighbours, wsgi_app

neighbours.PATIENCE = 10.0  # the machine may be busy
pool = ThreadedConnectionPool(1, 3, os.environ["SHOP"], connect=sqlite3, config={"name": "shop", "timeout": 0})
monitor = wsgi_app(workers=os.environ["FOLDER"])
held = []

def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/pools"):
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/pools", environ["PATH_INFO"][len("/pools"):]
        return monitor(environ, start_response)
    if environ["PATH_INFO"] == "/hold":
        held.append(pool.getconn())
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(os.getpid()).encode()]
"""


@pytest.fixture(params=["loaded in each worker", "loaded before they are forked"])
def site(request, tmp_path):
    """The port of a gunicorn, its process, and the folder of the sockets."""
    import_or_skip("gunicorn")
    (tmp_path / "watched.py").write_text(APP, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "10"]
    options += ["--worker-class", "gthread", "--threads", "4", "--no-control-socket"]
    options += ["--preload"] if "before" in request.param else []
    command = [sys.executable, "-m", "gunicorn", *known(options), "watched:app"]
    folder = tmp_path / "w"
    environ = {
        **os.environ,
        "SHOP": str(tmp_path / "shop.db"),
        "FOLDER": str(folder),
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    with open(tmp_path / "gunicorn.log", "wb") as output:
        gunicorn = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=output, stderr=output)
    try:
        eventually(lambda: ask(port, "/") is not None or gunicorn.poll() is not None)
        assert gunicorn.poll() is None, (tmp_path / "gunicorn.log").read_text()
        yield port, gunicorn, folder
    finally:
        gunicorn.terminate()
        gunicorn.wait(20)


def known(options):
    """Leave out what this release of gunicorn does not know."""
    done = subprocess.run([sys.executable, "-m", "gunicorn", "--help"], capture_output=True, text=True, check=True)
    return [option for option in options if not option.startswith("--no-") or option in done.stdout]


def ask(port, path):
    """Return what whichever worker takes it answers; None if there is none now."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as http:
        try:
            http.request("GET", path, headers={"Connection": "close"})
            return json.loads(http.getresponse().read())
        except (OSError, HTTPException):
            return None


def workers_of(port):
    """Ask until every worker has answered; return their processes."""
    found = set()
    eventually(lambda: found.add(ask(port, "/")) or len(found - {None}) == WORKERS)
    return found - {None}


def shown(port):
    """Return the pools that the page shows, by process, those that answer."""
    state = ask(port, "/pools/json") or {"processes": [], "pools": []}
    alive = {each["pid"] for each in state["processes"] if not each["stale"]}
    return {pool["pid"]: pool for pool in state["pools"] if pool["pid"] in alive}


def test_whichever_worker_answers_all_are_shown(site):
    port, gunicorn, _ = site
    workers = workers_of(port)
    eventually(lambda: set(shown(port)) - {gunicorn.pid} == workers)
    answered = set()

    def each_has():
        state = ask(port, "/pools/json?history=1")
        answered.add(state["process"]["pid"])
        assert [pool["pid"] for pool in state["pools"]] == sorted(pool["pid"] for pool in state["pools"])
        assert set(state["history"]) == {pool["id"] for pool in state["pools"]}
        return answered == workers

    eventually(each_has)


def test_what_one_worker_holds_is_seen_through_the_others(site):
    port, _, _ = site
    workers_of(port)
    holder = ask(port, "/hold")
    seen_by = set()

    def seen():
        state = ask(port, "/pools/json")
        pool = next((pool for pool in state["pools"] if pool["pid"] == holder), None)
        if pool is not None and pool["stats"]["used"] == 1:
            seen_by.add(state["process"]["pid"])
        return len(seen_by) == WORKERS

    eventually(seen)


def test_a_worker_that_is_killed_is_replaced_on_the_page_too(site):
    port, gunicorn, folder = site
    before = workers_of(port)
    eventually(lambda: set(shown(port)) - {gunicorn.pid} == before)
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: ask(port, "/") not in (None, killed) and killed not in shown(port))
    after = workers_of(port)
    assert killed not in after
    eventually(lambda: set(shown(port)) - {gunicorn.pid} == after)
    names = {int(path.name.partition("-")[0]) for path in folder.glob("*.sock")}
    assert names - {gunicorn.pid} == after


def test_all_sockets_are_removed_when_gunicorn_ends(site):
    port, gunicorn, folder = site
    workers_of(port)
    gunicorn.terminate()
    gunicorn.wait(20)
    assert list(folder.iterdir()) == []
