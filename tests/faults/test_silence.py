"""Rows 6, 7, 9, 10: the other side says nothing any more: lost packets, frozen processes, deaf and silent servers.

Row 8, a backend that is frozen when its connection comes back, is proven by tests of pains 6 and 11.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from asking import tell
from drivers.test_unreachable import deaf
from pains.processes import ROOT
from pains.sessions import MARGIN, Stopwatch, answers, dsn_of, lease, pid_of, put_all
from servers import import_or_skip, require_or_skip
from unit.checks import adds_up, lease_all
from unit.threads import Caller, eventually

from dbpool import PoolTimeout

psycopg2 = import_or_skip("psycopg2")


# ---- 6: half-open TCP, packets dropped -------------------------------------------------------------------------------

# How to drop all that goes through a namespace's loopback, and how to end it. The second is a bucket without room.
CUTS = [
    ("iptables -A INPUT -i lo -j DROP", "iptables -F INPUT"),
    ("tc qdisc add dev lo root tbf rate 8bit burst 1 limit 1", "tc qdisc del dev lo root"),
]


@pytest.fixture(scope="module")
def cut():
    """The first of CUTS that works here; it takes root."""
    if shutil.which("unshare") is None:
        require_or_skip("netns", "there is no unshare")
    complaints = []
    for begin, end in CUTS:
        commands = f"ip link set lo up && {begin} && {end}"
        done = subprocess.run(["unshare", "-n", "sh", "-c", commands], check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return begin, end
        complaints.append(done.stderr.strip())
    return require_or_skip("netns", "; ".join(complaints))


@pytest.mark.fault(6)
def test_while_the_kernel_drops_all_packets_no_call_outlasts_its_limit(town, cut):
    socket_of_town = town.data.parent / f".s.PGSQL.{town.port}"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = ["unshare", "-n", sys.executable, ROOT / "tests" / "faults" / "dropping.py", socket_of_town, *cut]
    done = subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, timeout=60)
    found = json.loads(done.stdout)
    assert found["driver alone hangs"]
    end, seconds = found["getconn, timeout 0.7"]  # a ping and a connect that are not answered
    assert end == "PoolTimeout"
    assert 0.7 <= seconds < 0.7 + 0.1 + MARGIN
    end, seconds = found["putconn, check_timeout 0.4"]  # which rolls back
    assert end == "answered"
    assert seconds < 0.4 + 0.1 + MARGIN
    assert found["discards"] == {"lost": 2}
    end, seconds = found["statement, tcp_user_timeout 1"]
    assert end == "OperationalError"
    assert seconds < 10
    assert found["getconn, mended"][0] == "answered"


@pytest.mark.fault(6)
def test_on_a_line_that_swallows_everything_no_call_outlasts_its_limit(town, through, make):
    proxy, dsn = through(town)
    pool = make(dsn, 0, 3, ping_after=0, check_timeout=0.4, connect_timeout=1)
    idle, leased = lease(pool, 2)
    tell(leased, "SELECT 1")
    pool.putconn(idle)
    proxy.black_hole()
    with Stopwatch() as watch, pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.7)
    assert 0.7 <= watch.seconds < 0.7 + 0.1 + MARGIN
    with Stopwatch() as watch:
        pool.putconn(leased)
    assert watch.seconds < 0.4 + 0.1 + MARGIN
    assert pool.stats().discards == {"lost": 2}
    proxy.heal()
    lease_all(pool)
    assert adds_up(pool)


# ---- 7: the peer's kernel is alive, its process frozen ---------------------------------------------------------------


def is_shut_down(sock):
    """Tell whether the socket was shut down, which closing another descriptor of it does not do."""
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


@pytest.mark.fault(7)
def test_a_frozen_backend_is_cut_off_and_replaced_in_time(town, make, freeze, driver):
    pool = make(town.tcp_dsn, 0, 1, driver=driver, ping_after=0)
    conn = pool.getconn()
    frozen = pid_of(conn)
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        pool.putconn(conn)
        freeze(town, frozen)
        assert not is_shut_down(sock)
        with Stopwatch() as watch:
            conn = pool.getconn(timeout=0.8)  # half of it for the ping, half for another connection
        assert watch.seconds < 0.8 + 0.1 + MARGIN
        assert is_shut_down(sock)
    assert answers(conn)
    assert pid_of(conn) != frozen
    assert pool.stats().discards == {"lost": 1}
    pool.putconn(conn)


# ---- 9, 10: a deaf listener; a handshake that is accepted but silent -------------------------------------------------


class Host:
    """A server that talks until it is told to hush: from then on whoever connects hears nothing."""

    def __init__(self, dsn, hush):
        self.dsn, self.hush = dsn, hush

    @property
    def port(self):
        return int(dict(word.split("=") for word in self.dsn().split())["port"])


@pytest.fixture
def host(request, town, inn, through):
    """Each way not to answer: nobody accepts and the queue is full; a proxy is silent; the postmaster is frozen."""
    dsns = [town.tcp_dsn]
    with ExitStack() as stack:
        if request.param == "deaf":
            port = stack.enter_context(deaf())
            yield Host(lambda: dsns[-1], lambda: dsns.append(dsn_of(town, port=str(port))))
        elif request.param == "silent":
            proxy, dsn = through(town)
            yield Host(lambda: dsn, lambda: setattr(proxy, "silent", True))
        else:
            stack.callback(inn.resume)
            yield Host(lambda: inn.tcp_dsn, inn.pause)


def sockets_to(port):
    """Count this process's own TCP sockets that are connected, or connecting, to *port*."""
    mine = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            mine.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # that of the folder itself
            continue
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(int(row[2].partition(":")[2], 16) == port and f"socket:[{row[9]}]" in mine for row in rows)


DEAF = pytest.param("deaf", marks=pytest.mark.fault(9))
MUTE = [pytest.param(way, marks=pytest.mark.fault(10)) for way in ("silent", "stopped")]


@pytest.mark.parametrize("host", [DEAF, *MUTE], indirect=True)
@pytest.mark.parametrize(("timeout", "connect_timeout"), [(0.3, 20), (20, 0.3)], ids=["timeout", "connect_timeout"])
def test_a_connect_without_an_answer_takes_the_shorter_of_two_limits(host, make, timeout, connect_timeout):
    pool = make(host.dsn, 0, 3, connect_timeout=connect_timeout)
    conns = lease(pool, 2)
    host.hush()
    with Stopwatch() as watch, pytest.raises(PoolTimeout):
        pool.getconn(timeout=timeout)
    assert 0.3 <= watch.seconds < 0.3 + 0.1 + MARGIN
    put_all(pool, conns)
    assert pool.stats().idle == 2


@pytest.mark.parametrize("host", [DEAF, *MUTE], indirect=True)
def test_a_connect_without_an_answer_delays_nobody_else(host, make):
    pool = make(host.dsn, 0, 3, connect_timeout=20)
    first, second = lease(pool, 2)
    host.hush()
    others = sockets_to(host.port)
    waiter = Caller(pool.getconn)
    eventually(lambda: sockets_to(host.port) > others)
    pool.putconn(first)
    assert waiter.result() is first  # whatever comes first
    took = []
    for _ in range(200):
        with Stopwatch() as watch:
            pool.putconn(second)
            second = pool.getconn()
        took.append(watch.seconds)
    assert pool.stats().connecting == 1
    assert statistics.median(took) < 0.01
    assert max(took) < 0.01 + MARGIN
    put_all(pool, [first, second])


@pytest.mark.parametrize("host", MUTE, indirect=True)
def test_a_connect_that_was_left_behind_is_aborted(host, make):
    pool = make(host.dsn, 0, 2, connect_timeout=0.3)
    host.hush()
    for _ in range(2):
        with pytest.raises(PoolTimeout, match="connect_timeout"):
            pool.getconn(timeout=20)
    assert pool.stats().aborted == 2
    eventually(lambda: sockets_to(host.port) == 0)


@pytest.mark.parametrize("host", MUTE, indirect=True)
def test_a_connect_without_an_answer_is_aborted_by_the_drivers_own_limit(host, make):
    pool = make(lambda: f"{host.dsn()} connect_timeout=2", 0, 2, connect_timeout=0.3)
    host.hush()
    for _ in range(2):
        with pytest.raises(PoolTimeout, match="connect_timeout"):
            pool.getconn(timeout=20)
    assert pool.stats().size == 0
    assert 0 < sockets_to(host.port) <= pool.stats().aborted == 2
    eventually(lambda: sockets_to(host.port) == 0)
