"""A storm over many endpoints under one total: puts, closes, drops, time-outs and interrupts, by threads and tasks."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import random
import sys
import threading
import time
from weakref import ref

import pytest
from fakes import FakeConnection, FakeConnector, OperationalError
from unit.threads import eventually

from dbpool import AsyncConnectionPool, EndpointPool, Limiter, PoolError, ThreadedConnectionPool

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
THREADS, ENDPOINTS, TOTAL, SECONDS = 16, 20, 3, 4.0


class Struck(BaseException):
    """Stands for KeyboardInterrupt."""


class Server:
    """Knows what is open, and keeps none of it; every tenth connect fails."""

    def __init__(self):
        self.lock, self.most, self.calls = threading.Lock(), 0, 0
        self.known, self.mixed = [], []

    def connect(self, endpoint="plain"):
        self.calls += 1
        if self.calls % 10 == 0:
            raise OperationalError("refused")
        conn = FakeConnection(self.calls)
        conn.endpoint = endpoint
        with self.lock:  # no callback: an interrupt in one would be told to nobody
            self.known = [*[each for each in self.known if each() is not None], ref(conn)]
            self.most = max(self.most, self.open)
        return conn

    @property
    def open(self):
        return sum(not conn.closed for conn in [each() for each in self.known] if conn is not None)


def strike(thread):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Struck))


def once(pool, plain, server, choice):
    """One use, of whatever kind."""
    endpoint = choice.randrange(ENDPOINTS)
    if choice.random() < 0.1:
        plain.putconn(plain.getconn(timeout=choice.choice([0, 0.01, 1])))
        return
    conn = pool.getconn(endpoint, timeout=choice.choice([0, 0.005, 1, 1]))
    if conn.endpoint != endpoint or conn.closed:
        server.mixed.append((endpoint, conn))
    if choice.random() < 0.9:  # else it is dropped
        pool.putconn(conn, close=choice.random() < 0.2)
    if choice.random() < 0.02:
        pool.drain()


async def in_loop(pool, ends):
    choice = random.Random(99)
    while time.monotonic() < ends:
        try:
            await pool.putconn(await pool.getconn(timeout=choice.choice([0, 0.01, 1])), close=choice.random() < 0.2)
        except (PoolError, OperationalError):
            pass
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("interrupts", [False, True], ids=["calm", "interrupted"])
def test_the_total_outlasts_a_storm(interrupts, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda told: None)  # pytest's keeps the frames, and what is in them
    monkeypatch.setattr(logging.getLogger("dbpool"), "disabled", True)  # struck, logging leaves its own locks taken
    server, limiter = Server(), Limiter(TOTAL)
    options = {"detect_deadlock": False, "idle_timeout": 0.5, "limiter": limiter}
    pool = EndpointPool(0, 2, connect=FakeConnector(server.connect), config=options)
    plain = ThreadedConnectionPool(0, 2, connect=FakeConnector(server.connect), config=options)
    tasks = AsyncConnectionPool(0, 2, connect=FakeConnector(server.connect), config=options)
    ends, errors = time.monotonic() + SECONDS, []

    def work(seed):
        choice = random.Random(seed)
        while time.monotonic() < ends:
            try:
                once(pool, plain, server, choice)
            except (PoolError, OperationalError, Struck):
                pass

    def guarded(seed):
        while time.monotonic() < ends:
            try:
                work(seed)
            except Struck:
                pass
            except BaseException as error:
                errors.append(error)
                raise

    async def loop():
        async with tasks:
            await in_loop(tasks, ends)

    threads = [threading.Thread(target=guarded, args=(seed,), daemon=True) for seed in range(THREADS)]
    extra = threading.Thread(target=asyncio.run, args=(loop(),), daemon=True)
    for thread in [*threads, extra]:
        thread.start()
    choice = random.Random(7)
    while interrupts and time.monotonic() < ends - 0.5:
        strike(choice.choice(threads))
        time.sleep(0.004)
    for thread in [*threads, extra]:
        thread.join(30)
        assert not thread.is_alive(), "somebody never came back"
    assert errors == []
    assert server.mixed == []
    assert server.most <= TOTAL
    gc.collect()
    pool.check()
    plain.check()
    settled(pool, plain, limiter, server)


def settled(pool, plain, limiter, server):
    """Every slot is there, and none is counted twice."""
    held = []
    while len(held) < TOTAL:
        try:
            held.append(pool.getconn(f"last {len(held)}", timeout=5))
        except OperationalError:
            pass
    assert limiter.used == TOTAL == server.open
    for conn in held:
        pool.putconn(conn)
    held.clear()
    conn = None
    eventually(lambda: len(pool.endpoints) <= TOTAL)  # a sweep that closed the last of one has yet to forget it
    assert not limiter._wishing
    pool.close()
    plain.close()
    eventually(lambda: (limiter.used, server.open) == (0, 0))
