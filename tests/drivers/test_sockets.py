"""Sockets to servers that are processes of their own: killed, frozen, restarted; and pools that fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from forking import IN_CHILD
from onloop import OnLoop, end, run
from unit.checks import adds_up, lease_all
from unit.hosts import HERE, closed_port, papers_in
from unit.threads import Caller, eventually

import dbpool
from dbpool import PoolTimeout, ThreadedConnectionPool

ROOT = Path(__file__).resolve().parents[2]
LATE = 1.0  # seconds over a limit that a busy machine may cost
PING = (b"ping\n", b"PING\n")
SERVER = """
import socketserver, ssl, sys
kind, where, certificate, key = sys.argv[1:]

class Shouting(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())

class Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

class Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

class Tls(Tcp):
    def finish_request(self, request, client):
        super().finish_request(context.wrap_socket(request, server_side=True), client)

    def handle_error(self, request, client):
        pass

if kind == "Tls":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
address = where if kind == "Unix" else ("127.0.0.1", int(where))
with {"Tcp": Tcp, "Tls": Tls, "Unix": Unix}[kind](address, Shouting) as server:
    print("ready", flush=True)
    server.serve_forever()
"""


def _state(stat):
    """Return the letter that /proc has for the state of a thread."""
    return stat.read_text().rpartition(") ")[2][0]


class Process:
    """A server of one kind, which can be killed, frozen and started again where it was."""

    def __init__(self, kind, where, certificate):
        self.kind = kind
        self._command = [sys.executable, "-c", SERVER, kind, str(where), *map(str, certificate)]
        self._process = None

    def start(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "ready\n"

    def freeze(self):
        self._process.send_signal(signal.SIGSTOP)
        eventually(lambda: set(map(_state, Path(f"/proc/{self._process.pid}/task").glob("*/stat"))) == {"T"})

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """An authority."""
    return papers_in(tmp_path_factory.mktemp("papers"))


@pytest.fixture(params=["Tcp", "Tls", "Unix"])
def process(request, tmp_path):
    """A server that is running."""
    certificate = ("", "")
    if request.param == "Tls":
        good = request.getfixturevalue("papers").issue("good", HERE)
        certificate = (good.file, good.key)
    where = tmp_path / "socket" if request.param == "Unix" else closed_port()
    process = Process(request.param, where, certificate)
    process.where = where
    process.start()
    yield process
    process.kill()


@pytest.fixture(params=["", "Async"])
def make(request, process):
    """Make a pool that leads to the process, in either shell."""
    pools = []

    def make(maxconn=2, *, ping=PING, connect_timeout=10.0, **config):
        options = {"ping": ping, "connect_timeout": connect_timeout}
        if process.kind == "Tls":
            import ssl

            options["context"] = ssl.create_default_context(cafile=request.getfixturevalue("papers").file)
        arguments = (process.where,) if process.kind == "Unix" else (HERE, process.where)
        connector = getattr(dbpool, f"{request.param}{process.kind}Connector")(*arguments, **options)
        kind = OnLoop if request.param else ThreadedConnectionPool
        pool = kind(0, maxconn, connect=connector, config={"timeout": 5, "detect_deadlock": False, **config})
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close(timeout=0)
    end()


def ask(conn):
    """Return what the server answers."""
    if hasattr(conn, "reader"):

        async def talk():
            conn.writer.write(b"hello\n")
            return await conn.reader.readline()

        return run(talk())
    conn.sendall(b"hello\n")
    return conn.recv(100)


@contextmanager
def within(seconds):
    """Insist that the block takes no longer, and a bit."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + LATE


def test_a_server_that_is_killed_and_started_again_is_noticed_and_waited_for(process, make):
    pool = make()
    lease_all(pool)
    process.kill()
    if process.kind == "Unix":
        os.unlink(process.where)
    eventually(lambda: pool.stats().size == 0)
    waiting = Caller(pool.getconn)
    eventually(lambda: pool.stats().connect_errors)
    process.start()
    conn = waiting.result()
    assert ask(conn) == b"HELLO\n"
    pool.putconn(conn)
    assert adds_up(pool)


def test_a_frozen_server_costs_a_ping_no_more_than_check_timeout(process, make):
    pool = make(1, check_timeout=0.2)
    lease_all(pool)
    process.freeze()
    with within(0.2):
        pool.check()
    eventually(lambda: pool.stats().discards == {"lost": 1})
    process.thaw()
    lease_all(pool)


def test_a_frozen_server_costs_who_connects_no_more_than_his_patience(process, make):
    """To TCP and Unix sockets the system answers; it is the handshake of TLS, or the ping, that nobody does."""
    pool = make(1, connect_timeout=0.2, check_timeout=0.2, ping_on_connect=True)
    process.freeze()
    with within(0.5), pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.5)
    process.thaw()
    lease_all(pool)


def test_a_frozen_server_does_not_hold_up_close(process, make):
    pool = make(2, check_timeout=0.3)
    conns = [pool.getconn() for _ in range(2)]
    pool.putconn(conns.pop())
    process.freeze()
    with within(0.6):
        pool.close(timeout=0)
    assert pool.stats().size == 0
    process.thaw()


def test_who_waits_for_an_answer_is_told_when_the_pool_is_closed(process, make):
    pool = make(1)
    conn = pool.getconn()
    assert ask(conn) == b"HELLO\n"
    process.freeze()
    waiting = Caller(_outcome, conn)
    eventually(lambda: waiting.ended or pool.stats().used)
    pool.closeall()
    assert waiting.result() in (b"", OSError)
    process.thaw()


def _outcome(conn):
    """Return what is heard, or that it is an error."""
    try:
        return ask(conn)
    except OSError:
        return OSError


FORKING = """
import ssl, sys
import dbpool
from dbpool import PoolError, ThreadedConnectionPool

kind, where, authority = sys.argv[1:]
options = {"context": ssl.create_default_context(cafile=authority)} if kind == "Tls" else {}
arguments = (where,) if kind == "Unix" else ("127.0.0.1", int(where))
connector = getattr(dbpool, f"{kind}Connector")(*arguments, **options)
pool = ThreadedConnectionPool(0, 3, connect=connector, config={"timeout": 20})

def ask(conn):
    conn.sendall(b"hello\\n")
    assert conn.recv(100) == b"HELLO\\n"

idle, leased = pool.getconn(), pool.getconn()
ask(idle), ask(leased)
pool.putconn(idle)

def work():
    with pool.connection() as conn:
        ask(conn)
        assert conn is not idle
    try:
        pool.putconn(leased)
    except PoolError:
        pass
    else:
        raise AssertionError("the parent's connection was taken")
    pool.closeall()

in_child(work)
ask(leased)
pool.putconn(leased)
assert pool.getconn() is leased
assert pool.getconn() is idle
ask(leased), ask(idle)
pool.putconn(leased), pool.putconn(idle)
pool.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_child_opens_its_own_and_harms_none_of_the_parents(process, request):
    authority = request.getfixturevalue("papers").file if process.kind == "Tls" else "none"
    arguments = [process.kind, str(process.where), str(authority)]
    quiet = ("-W", "error", "-W", "ignore::DeprecationWarning", "-W", "ignore:unclosed:ResourceWarning")
    command = [sys.executable, *quiet, "-c", IN_CHILD + FORKING]  # a child keeps the parent's unclosed, on purpose
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_many_threads_hear_only_what_they_have_asked(process, make):
    pool = make(3)

    def talk(number):
        for turn in range(20):
            word = f"word {number} {turn}\n".encode()
            conn = pool.getconn()
            if hasattr(conn, "reader"):
                answer = run(_say(conn, word))
            else:
                conn.sendall(word)
                answer = conn.recv(100)
            assert answer == word.upper()
            pool.putconn(conn, close=turn % 7 == 0)

    for caller in [Caller(talk, number) for number in range(8)]:
        caller.result(30)
    assert adds_up(pool)
    lease_all(pool)


async def _say(conn, word):
    conn.writer.write(word)
    return await conn.reader.readline()
