"""The server: what it starts it ends, what is too long or too slow it refuses, and a forked child has none of it."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes import FakeConnector
from forking import IN_CHILD
from unit.threads import Caller, eventually

from dbpool import PoolDeadlock, ThreadedConnectionPool
from dbpool.housekeeper import housekeeper
from dbpool.monitor import handler, messages, pool_monitor, server
from dbpool.monitor.routes import MOST_VIEWERS

from .asks import answered, connected, get, said, until

HERE = Path(__file__).parents[1]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def ours():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dbpool-monitor")]


def test_it_serves_the_page_on_loopback(serve, make):
    make(name="orders")
    monitor = serve()
    assert monitor.url == f"http://127.0.0.1:{monitor.port}/"
    assert get(monitor, "/").headers["content-type"] == "text/html; charset=utf-8"
    assert [pool["name"] for pool in json.loads(get(monitor, "/json").body)["pools"]] == ["orders"]
    assert "PoolMonitor http://127.0.0.1:" in repr(monitor)


def test_to_import_it_starts_nothing():
    program = "import sys, threading, dbpool.monitor; print(threading.active_count(), 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=HERE.parent)
    assert done.stdout.split() == ["1", "False"]


def test_its_threads_are_daemons(serve):
    monitor = serve()
    with connected(monitor):
        eventually(lambda: len(ours()) == 3)
        assert all(each.daemon for each in threading.enumerate() if each.name.startswith("dbpool-monitor"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not tell of descriptors")
def test_closed_it_leaves_no_thread_and_no_descriptor(make):
    make(name="orders")
    gc.collect()
    before = descriptors()
    with pool_monitor(0) as monitor, ExitStack() as stack:
        stack.enter_context(connected(monitor))
        stream = stack.enter_context(connected(monitor))
        stream.sendall(f"GET /events HTTP/1.1\r\nHost: localhost:{monitor.port}\r\n\r\n".encode())
        until(stream, b"event: history")
        get(monitor, "/json")
        monitor.close()
        assert ours() == []
        said(stream)
    gc.collect()
    assert descriptors() == before
    assert housekeeper.helpers == set()


def test_it_can_be_closed_again_and_another_takes_its_port(serve):
    first = serve()
    first.close()
    first.close()
    assert "closed" in repr(first)
    again = serve(first.port)
    assert get(again, "/json").status == 200


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing(serve):
    monitor = serve()
    before = ours()
    with pytest.raises(OSError, match="ddress already in use"):
        pool_monitor(monitor.port)
    assert ours() == before


@pytest.mark.parametrize(
    ("port", "error"), [(-1, ValueError), (65536, ValueError), ("8765", TypeError), (True, TypeError)]
)
def test_a_port_is_a_number(port, error):
    with pytest.raises(error, match="port"):
        pool_monitor(port)


def test_it_can_be_bound_to_loopback_of_ipv6(serve):
    if not socket.has_ipv6:
        pytest.skip("this system has no IPv6")
    try:
        monitor = serve(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert monitor.url == f"http://[::1]:{monitor.port}/"
    with socket.create_connection(("::1", monitor.port), 10) as sock:
        sock.sendall(f"GET /json HTTP/1.0\r\nHost: [::1]:{monitor.port}\r\n\r\n".encode())
        assert answered(said(sock)).status == 200


# ---- limits ----------------------------------------------------------------------------------------------------------


def exchange(monitor, data):
    """Send *data* and return the answer; it may be given up before all was read."""
    with connected(monitor) as sock:
        try:
            sock.sendall(data)
        except OSError:
            pass
        return answered(said(sock))


HEAD = "GET /json HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.fault(69, 72)
@pytest.mark.parametrize(
    ("data", "status"),
    [
        ("GET /" + "x" * 60_000 + " HTTP/1.1\r\n", 431),
        (HEAD + "X-Long: " + "x" * 60_000 + "\r\n\r\n", 431),
        (HEAD + "".join(f"X-{number}: 1\r\n" for number in range(200)) + "\r\n", 431),
        ("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", 413),
        ("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        ("POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        ("GET /json HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        ("DELETE /json HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET json HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET http://localhost/json HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("GET /json HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
    ],
)  # fmt: skip
def test_what_is_too_long_or_no_request_is_refused_in_a_line(serve, data, status):
    monitor = serve()
    answer = exchange(monitor, data.encode())
    assert answer.status == status
    assert len(answer.body) < 100
    assert answer.headers["content-security-policy"] == messages.POLICY
    assert get(monitor, "/json").status == 200


def test_several_requests_come_over_one_connection(serve):
    monitor = serve()
    with connected(monitor) as sock:
        reader = sock.makefile("rb")
        for _ in range(3):
            sock.sendall(f"GET /json HTTP/1.1\r\nHost: localhost:{monitor.port}\r\n\r\n".encode())
            assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length"):
                    length = int(line.split()[1])
            assert json.loads(reader.read(length))["version"] == 1
        reader.close()


@pytest.mark.fault(69)
def test_who_is_too_slow_is_left(serve, monkeypatch):
    monkeypatch.setattr(handler, "READ_WITHIN", 0.1)
    monkeypatch.setattr(handler, "STAY", 0.1)
    monitor = serve()
    with connected(monitor) as silent, connected(monitor) as slow:
        slow.sendall(b"GET /json HTTP/1.1\r\nHost: loc")
        assert said(silent) == said(slow) == b""
    eventually(lambda: len(ours()) == 2)


def test_who_does_not_read_is_left(serve, monkeypatch, make):
    monkeypatch.setattr(handler, "WRITE_WITHIN", 0.1)
    make(name="x" * 200)
    monitor = serve()
    monkeypatch.setattr("dbpool.monitor.sampler.PERIOD", 0.01)
    monkeypatch.setattr("dbpool.monitor.feed.RETRY", b":" + b" " * 8_000_000 + b"\n\n")
    with connected(monitor) as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: localhost:{monitor.port}\r\n\r\n".encode())
        eventually(lambda: monitor._server.routes._viewers._value == MOST_VIEWERS - 1 or len(ours()) == 2)
        eventually(lambda: len(ours()) == 2)
    assert monitor._server.routes._viewers._value == MOST_VIEWERS


def test_a_viewer_who_leaves_makes_room(serve, monkeypatch):
    monkeypatch.setattr("dbpool.monitor.feed.PATIENCE", 0.05)
    monitor = serve()
    viewers = monitor._server.routes._viewers
    with connected(monitor) as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: localhost:{monitor.port}\r\n\r\n".encode())
        assert sock.recv(100)
        assert viewers._value == MOST_VIEWERS - 1
    eventually(lambda: viewers._value == MOST_VIEWERS)


def test_many_requests_at_once_are_all_answered(serve, make):
    make(name="orders")
    monitor = serve()

    def ask():
        return [get(monitor, "/json").status for _ in range(10)]

    callers = [Caller(ask) for _ in range(30)]
    assert {status for caller in callers for status in caller.result()} == {200}
    eventually(lambda: len(ours()) == 2)


def test_more_connections_than_can_be_served_wait(serve, monkeypatch):
    monkeypatch.setattr(server, "MOST_AT_ONCE", 2)
    monitor = serve()
    with connected(monitor), connected(monitor):
        eventually(lambda: len(ours()) == 4)
        waiting = Caller(get, monitor, "/json")
        assert len(ours()) == 4
    assert waiting.result().status == 200


# ---- what it is to the pools -----------------------------------------------------------------------------------------


def test_its_threads_are_no_hope_for_a_deadlock():
    program = """
import sys
sys.path[:0] = {paths!r}
from fakes import FakeConnector
from dbpool import PoolDeadlock, ThreadedConnectionPool
from dbpool.monitor import pool_monitor
from monitor.asks import connected
pool = ThreadedConnectionPool(0, 1, connect=FakeConnector(), config={{"timeout": 60}})
with pool_monitor(0) as monitor, connected(monitor) as sock:
    sock.sendall(b"GET /events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    sock.recv(100)
    pool.getconn()
    try:
        pool.getconn()
    except PoolDeadlock:
        print("told")
"""
    command = [sys.executable, "-c", program.format(paths=[str(HERE), str(HERE.parent)])]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout == "told\n"


IMPORTS = """
import sys, threading
sys.path[:0] = {paths!r}
from fakes import FakeConnector
from dbpool import ThreadedConnectionPool
from dbpool.monitor import pool_monitor
from monitor.asks import connected, get, until
imported = []

def hook(event, arguments):
    if event == "import" and threading.current_thread() is not threading.main_thread():
        imported.append((threading.current_thread().name, arguments[0]))

pool = ThreadedConnectionPool(1, 2, connect=FakeConnector(), config={{"name": "orders"}})
workers = {workers!r}
with pool_monitor(0, workers=workers, actions=True) as monitor, pool_monitor(0, workers=workers):
    sys.addaudithook(hook)
    with connected(monitor) as viewer:
        viewer.sendall(b"GET /events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        until(viewer, b"event: state")
        for path in ("/", "/json", "/json?history=1", "/metrics", "/bundle", "/login", "/nothing"):
            print(get(monitor, path).status, end=" ")
        print(get(monitor, "/actions/shrink", "POST", b"{{}}").status)
    pool.putconn(pool.getconn())
print(imported)
"""


def test_nothing_is_imported_on_its_threads(tmp_path):
    """A fork while a thread imports leaves the module's lock taken in the child, for ever (CPython)."""
    program = IMPORTS.format(paths=[str(HERE), str(HERE.parent)], workers=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["200 200 200 200 200 200 404 403", "[]"], done.stdout + done.stderr


FORK = """
import json, sys, threading
sys.path[:0] = {paths!r}
from fakes import FakeConnector
from dbpool import ThreadedConnectionPool
from dbpool.monitor import pool_monitor
from monitor.asks import connected, get
import socket
pool = ThreadedConnectionPool(1, 2, connect=FakeConnector(), config={{"name": "orders"}})
monitor = pool_monitor(0)
viewer = connected(monitor)
viewer.sendall(b"GET /events HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
viewer.recv(100)

def child():
    names = [thread.name for thread in threading.enumerate()]
    assert names == ["MainThread"], names
    assert monitor._server.socket.fileno() == -1
    assert not monitor._server.clients or all(each.fileno() == -1 for each in monitor._server.clients)
    pool.putconn(pool.getconn())
    monitor.close()
    with pool_monitor(0) as own:
        state = json.loads(get(own, "/json").body)
        assert state["process"]["pid"] == os.getpid()
        assert [each["id"].partition("-")[0] for each in state["pools"]] == [str(os.getpid())]
        assert state["pools"][0]["stats"]["opened"] == 1

in_child(child)
assert get(monitor, "/json").status == 200
port = monitor.port
monitor.close()
pid = os.fork()
if not pid:
    import time
    time.sleep(30)
    os._exit(0)
again = pool_monitor(port)
print(get(again, "/json").status)
os.kill(pid, 9)
os.waitpid(pid, 0)
"""


@pytest.mark.fault(55)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_serves_nothing_and_holds_no_port():
    command = [sys.executable, "-c", IN_CHILD + FORK.format(paths=[str(HERE), str(HERE.parent)])]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("200\n", 0), done.stderr


def test_a_pool_may_be_closed_while_it_is_looked_at(serve, driver):
    monitor, go = serve(), threading.Event()

    def come_and_go():
        while not go.is_set():
            pool = ThreadedConnectionPool(1, 2, connect=FakeConnector(driver.connect), config={"name": "brief"})
            pool.putconn(pool.getconn())
            pool.close()

    driver.keep = False
    caller = Caller(come_and_go)
    answers = [get(monitor, "/json?history=1") for _ in range(30)]
    go.set()
    caller.result()
    assert {answer.status for answer in answers} == {200}
    codes = {pool["verdict"]["code"] for answer in answers for pool in json.loads(answer.body)["pools"]}
    assert "unknown" not in codes


def test_a_thread_that_waits_for_nothing_is_told_at_once_again_after_the_monitor(make):
    with pool_monitor(0):
        pass
    pool = make(maxconn=1, detect_deadlock=True, timeout=0.01)
    held = pool.getconn(timeout=10)
    with pytest.raises((PoolDeadlock, TimeoutError)):
        pool.getconn()
    pool.putconn(held)
