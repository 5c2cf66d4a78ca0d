"""What a pool does when a name server moves its server, forgets it, or is slow. A script, to be run as root.

In a mount namespace of its own (`unshare -m`), where the system's resolver, and so libpq, asks a name server of ours.
Its arguments are a case, a driver, and the DSN of a server that has two addresses.
"""

from __future__ import annotations

import os
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from asking import ask
from pains.sessions import Stopwatch, lease, put_all
from unit.threads import Caller, eventually

from dbpool import PoolTimeout, ThreadedConnectionPool

HOST = "db.dbpool.test"
OLD, NEW = "127.0.0.1", "127.0.0.2"
ADDRESS = "SELECT host(inet_server_addr())"
NOT_FOUND = 3
LIFETIME = 0.8
LATE = 1.0  # seconds over a limit that a busy machine may cost; a limit that is not kept costs several


class Answering(socketserver.DatagramRequestHandler):
    """Answers one question."""

    def handle(self) -> None:
        names: Any = self.server
        names.asked += 1
        time.sleep(names.delay)
        self.wfile.write(names.answer(self.rfile.read()))


class NameServer(socketserver.ThreadingUDPServer):
    """Knows one host: its `address`, which may be None; answers after `delay` seconds; counts how often it is asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.address: str | None = OLD
        self.delay = 0.0
        self.asked = 0
        number = os.getpid()  # two of them may run at a time, and the port is given
        super().__init__((f"127.{number >> 16 & 127 | 128}.{number >> 8 & 255}.{number & 255}", 53), Answering)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, query: bytes) -> bytes:
        """Return the answer to a query with one question: there may be an IPv4 address, and nothing else."""
        question = query[12 : query.index(b"\0", 12) + 5]
        known, wanted = self.address is not None, question[-4:] == b"\0\1\0\1"
        head = struct.pack(">5H", 0x8180 | (0 if known else NOT_FOUND), 1, known and wanted, 0, 0)
        if not (known and wanted):
            return query[:2] + head + question
        record = struct.pack(">3HIH4B", 0xC00C, 1, 1, 0, 4, *map(int, str(self.address).split(".")))
        return query[:2] + head + question + record


def resolve_by(names: NameServer) -> None:
    """Have this process, and whoever shares its mount namespace, ask *names* and nobody else."""
    folder = Path(tempfile.mkdtemp())
    server = names.server_address[0]
    for name, text in {
        "resolv.conf": f"nameserver {server}\noptions timeout:20 attempts:1\n",
        "nsswitch.conf": "hosts: dns\n",
    }.items():
        (folder / name).write_text(text, encoding="ascii")
        subprocess.run(["mount", "--bind", folder / name, f"/etc/{name}"], check=True)


# ---- the cases -------------------------------------------------------------------------------------------------------


def moved(names: NameServer, make: Any) -> None:
    """All are at the new address within max_lifetime; after drain() at once."""
    pool = make(4, max_lifetime=LIFETIME)
    uses: list[tuple[float, str]] = []
    moved_at = time.monotonic()
    end = moved_at + 1.1 * LIFETIME + LATE + 0.3

    def work() -> None:
        while time.monotonic() < end:
            asked_at = time.monotonic()
            with pool.connection() as conn:
                uses.append((asked_at, ask(conn, ADDRESS)))

    put_all(pool, lease(pool, 4))
    names.address, moved_at = NEW, time.monotonic()
    for caller in [Caller(work) for _ in range(6)]:
        caller.result(20)
    assert {address for _, address in uses} == {OLD, NEW}
    assert max(when for when, address in uses if address == OLD) < moved_at + 1.1 * LIFETIME + LATE
    names.address = OLD
    pool.drain()
    conns = lease(pool, 4)
    assert {ask(conn, ADDRESS) for conn in conns} == {OLD}
    assert pool.stats().connect_errors == 0


def unknown(names: NameServer, make: Any) -> None:
    """If the name is not known, all are told at once; while a connection is open, in time. Then it is known again."""
    names.address = None
    pool = make(3, timeout=60)
    for caller in [Caller(pool.getconn) for _ in range(3)]:
        with pytest.raises(pool.driver.OperationalError, match=r"could not translate|failed to resolve|not known"):
            caller.result()
    eventually(lambda: pool.stats().connecting == 0)
    names.address = OLD
    conn = pool.getconn()
    names.address = None
    before = names.asked
    with Stopwatch() as watch, pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=1.0)
    assert 1.0 <= watch.seconds < 1.0 + LATE
    assert isinstance(caught.value.__cause__, pool.driver.OperationalError)
    assert names.asked - before <= 2 * 10  # for both kinds of address
    assert ask(conn, "SELECT 1") == 1
    waiter = Caller(pool.getconn)
    names.address = OLD
    assert ask(waiter.result(), "SELECT 1") == 1


def slow(names: NameServer, make: Any) -> None:
    """A look-up of 5 s holds up nobody but who needs it, and him no longer than his timeout."""
    pool = make(4)
    conn = pool.getconn()
    names.delay = 5.0
    with Stopwatch() as watch, pytest.raises(PoolTimeout):
        pool.getconn(timeout=0.5)
    assert 0.5 <= watch.seconds < 0.5 + LATE
    assert pool.stats().connecting == 1
    with Stopwatch() as watch:
        for _ in range(100):
            pool.putconn(conn)
            conn = pool.getconn()
    assert watch.seconds < LATE
    names.delay = 0.0
    first, second = Caller(pool.getconn), Caller(pool.getconn)
    eventually(lambda: first.ended or second.ended)
    assert (first.ended, second.ended).count(True) == 1  # for one of them the slow one is under way yet


def main(case: str, driver: str, dsn: str) -> None:
    """Run one case."""
    names = NameServer()
    resolve_by(names)

    def make(size: int, **options: Any) -> Any:
        config = {"detect_deadlock": False, **options}
        pool: Any = ThreadedConnectionPool(0, size, dsn, connect=import_module(driver), config=config)
        pool.driver = import_module(driver)
        return pool

    {"moved": moved, "unknown": unknown, "slow": slow}[case](names, make)
    print("good")


if __name__ == "__main__":
    main(*sys.argv[1:])
