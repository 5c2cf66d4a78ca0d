"""Gunicorn with preload_app: the pool is opened in the master and used, unchanged, in the master and each worker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from servers import import_or_skip
from unit.threads import eventually

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
APP = """
import json, os, sys, threading
import psycopg2
from dbpool import ThreadedConnectionPool

pool = ThreadedConnectionPool(3, 3, os.environ["DBPOOL_DSN"])  # opened when gunicorn's master loads the app
kept = pool.getconn()  # a lease of the master's, with a transaction open
master = os.getpid()

def backend(conn):
    with conn.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]

masters = backend(kept)

def watch_the_master():
    # The master itself goes on using what it leased, whatever its workers do.
    import time
    with open(os.environ["MASTER_LOG"], "a", buffering=1) as log:
        while True:
            with pool.connection() as conn:
                print(backend(kept) == masters, backend(conn), file=log)
            time.sleep(0.02)

threading.Thread(target=watch_the_master, daemon=True).start()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/put":
        try:
            pool.putconn(kept)
            said = "taken"
        except psycopg2.Error as exc:
            said = str(exc)
    else:
        with pool.connection() as conn:
            said = backend(conn)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid() != master, os.getpid(), said]).encode()]
"""


@pytest.fixture
def site(server, tmp_path):
    """The port of a gunicorn that has loaded the app before it forks, and the log of its master."""
    import_or_skip("gunicorn")
    import_or_skip("psycopg2")
    (tmp_path / "preloaded.py").write_text(textwrap.dedent(APP), encoding="utf-8")
    log = tmp_path / "master.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--preload", "--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "1"]
    options += ["--worker-class", "gthread", "--threads", "4", "--no-control-socket"]
    command = [sys.executable, "-m", "gunicorn", *known(options), "preloaded:app"]
    environ = {**os.environ, "DBPOOL_DSN": server.dsn, "MASTER_LOG": str(log), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with open(tmp_path / "gunicorn.log", "wb") as output:
        gunicorn = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=output, stderr=output)
    try:
        eventually(lambda: answers(port) or gunicorn.poll() is not None)
        assert gunicorn.poll() is None, (tmp_path / "gunicorn.log").read_text()
        yield port, log
    finally:
        gunicorn.terminate()
        gunicorn.wait(20)


def known(options: list[str]) -> list[str]:
    """Leave out what this release of gunicorn does not know."""
    done = subprocess.run([sys.executable, "-m", "gunicorn", "--help"], capture_output=True, text=True, check=True)
    return [option for option in options if not option.startswith("--no-") or option in done.stdout]


def answers(port: int) -> bool:
    try:
        ask(port, "/")
    except OSError:
        return False
    return True


def ask(port: int, path: str) -> list:
    """Return what is answered to one request, by whichever worker takes it."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as http:
        http.request("GET", path, headers={"Connection": "close"})
        return json.loads(http.getresponse().read())


def ask_all(port: int, path: str) -> dict:
    """Ask until every worker has answered; return the answers by worker."""
    said: dict = {}

    def each_has() -> bool:
        in_worker, pid, answer = ask(port, path)
        assert in_worker
        said.setdefault(pid, []).append(answer)
        return len(said) == WORKERS

    eventually(each_has)
    return said


def test_master_and_workers_have_connections_of_their_own(site):
    port, log = site
    said = ask_all(port, "/")
    for _ in range(40):
        _, pid, backend = ask(port, "/")
        said[pid].append(backend)
    first, second = ({*backends} for backends in said.values())
    lines = len(log.read_text().splitlines())
    eventually(lambda: len(log.read_text().splitlines()) > lines + 5)  # the master goes on after all that
    alive, masters = zip(*(line.split() for line in log.read_text().splitlines()))
    assert set(alive) == {"True"}, "the master lost its transaction"
    assert not first & second
    assert not {int(backend) for backend in masters} & (first | second)


def test_a_worker_cannot_put_what_the_master_leased(site):
    port, _ = site
    for refused in ask_all(port, "/put").values():
        assert "before this process was forked" in refused[0]
