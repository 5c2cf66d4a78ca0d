"""Stress: threads get, put, drop, drain, resize and run out of time; nobody shares, and no slot is lost.

Fakes only, so that it runs without the GIL too. DBPOOL_STRESS_SECONDS says how long each pool is run.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
import warnings
from typing import Any

import pytest
from fakes import FakeConnection, FakeConnector, FakeDriver
from unit.checks import adds_up, lease_all
from unit.threads import Caller, Peak, eventually

from dbpool import PersistentConnectionPool, PoolExhausted, ThreadedConnectionPool

pytestmark = pytest.mark.stress
SECONDS = float(os.environ.get("DBPOOL_STRESS_SECONDS", "2.5"))
THREADS = 8


class Token(FakeConnection):
    """Notices two holders: who gets it takes its only token, and lays it back before the put."""

    def __init__(self, number: int, gone: Any) -> None:
        super().__init__(number)
        self.tokens = [number]
        self._gone = [gone]

    def take(self) -> int:
        return self.tokens.pop()  # IndexError: somebody has it

    def lay_back(self, token: int) -> None:
        self.tokens.append(token)

    def close(self) -> None:
        super().close()
        self.__del__()

    def __del__(self) -> None:
        if self._gone:
            self._gone.pop()()


class TokenDriver(FakeDriver):
    """Makes Tokens, keeps none, refuses now and then, and counts those that are there or on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.keep = False
        self.census = Peak()
        self.moody = True

    def connect(self, *args: Any, **kwargs: Any) -> FakeConnection:
        self.census.__enter__()
        number = super().connect().number
        if number % 50 == 7 and self.moody:
            self.census.__exit__()
            raise RefusedNow
        return Token(number, self.census.__exit__)


class RefusedNow(Exception):
    """The server has its moments."""


@pytest.fixture
def switch_often():
    """Let threads take turns every microsecond, and keep drops quiet."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
    sys.setswitchinterval(interval)


class Worker:
    """One thread's part: random acts, whose counts it keeps."""

    def __init__(self, pool: Any, seed: int) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.done: dict[str, int] = {}
        weights = {
            self.use: 50, self.use_key: 15, self.use_block: 10, self.drop: 4, self.close: 4, self.break_it: 4,
            self.leave_transaction: 8, self.drain: 1, self.resize: 1,
        }  # fmt: skip
        self.acts = [act for act, weight in weights.items() for _ in range(weight)]

    def run(self, until: float) -> dict[str, int]:
        while time.monotonic() < until:
            act = self.chance.choice(self.acts)
            try:
                act()
                self._count(act.__name__)
            except (PoolExhausted, RefusedNow) as error:
                self._count(type(error).__name__.partition("__")[0])
        return self.done

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    def _timeout(self) -> float:
        return self.chance.choice((0, 0.0005, 0.002, 5))

    def _get(self) -> Any:
        return self.pool.getconn(timeout=self._timeout())

    def use(self) -> None:
        conn = self._get()
        conn.lay_back(conn.take())
        self.pool.putconn(conn)

    def use_key(self) -> None:
        key = (self.chance.random(), id(self))
        conn = self.pool.getconn(key, timeout=self._timeout())
        token = conn.take()
        assert self.pool.getconn(key) is conn
        conn.lay_back(token)
        self.pool.putconn(conn, key)

    def use_block(self) -> None:
        with self.pool.connection() as conn:
            conn.lay_back(conn.take())

    def drop(self) -> None:
        self._get().take()

    def close(self) -> None:
        conn = self._get()
        conn.take()
        self.pool.putconn(conn, close=True)

    def break_it(self) -> None:
        conn = self._get()
        conn.take()
        conn.close()
        self.pool.putconn(conn)

    def leave_transaction(self) -> None:
        conn = self._get()
        token = conn.take()
        conn.execute()
        conn.lay_back(token)
        self.pool.putconn(conn)

    def drain(self) -> None:
        self.pool.drain()

    def resize(self) -> None:
        self.pool.resize(0, self.chance.randint(2, 5))


class PersistentWorker(Worker):
    """The same where the thread is the key: nothing can be dropped, and there are no other keys."""

    def use_key(self) -> None:
        conn = self._get()
        token = conn.take()
        assert self.pool.getconn() is conn
        conn.lay_back(token)
        self.pool.putconn()

    drop = use_key


OPTIONS = [{}, {"max_overflow": 2}, {"idle_timeout": 0, "max_uses": 7}, {"idle_order": "fifo", "max_connecting": 1}]


@pytest.mark.parametrize("options", OPTIONS[:1] if SECONDS < 10 else OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("kind", "worker"), [(ThreadedConnectionPool, Worker), (PersistentConnectionPool, PersistentWorker)]
)
def test_whatever_threads_do_at_once_nobody_shares_and_no_slot_is_lost(switch_often, kind, worker, options):
    driver = TokenDriver()
    pool = kind(0, 3, connect=FakeConnector(driver.connect), config=options)
    until = time.monotonic() + SECONDS
    workers = [worker(pool, seed) for seed in range(THREADS)]
    done: dict[str, int] = {}
    for caller in [Caller(each.run, until) for each in workers]:
        for what, times in caller.result(SECONDS + 30).items():
            done[what] = done.get(what, 0) + times
    driver.moody = False
    gc.collect()
    print(f"{kind.__name__}: {sum(done.values())} acts, {done}, {pool.stats()}")
    assert driver.census.most <= 5 + options.get("max_overflow", 0)
    assert set(done) >= {"use", "use_key", "use_block", "close", "break_it", "drain", "resize", "PoolExhausted"}
    eventually(lambda: pool.stats().waiting == pool.stats().connecting == 0)
    pool.resize(0, 4)
    lease_all(pool)
    eventually(lambda: adds_up(pool) and pool.stats().used == 0)
    pool.close()
    assert pool.stats().size == 0
