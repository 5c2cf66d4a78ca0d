"""Visitors: threads that come and go at a pool, in waves, so that there is something to see; nothing is checked."""

from __future__ import annotations

import math
import threading
import time
from random import Random
from typing import TYPE_CHECKING, Any, Callable

from dbpool.demo.bank import ACCOUNTS, Busy, InsufficientFunds, Order

if TYPE_CHECKING:
    from dbpool import ThreadedConnectionPool
    from dbpool.demo.bank import Bank

WAVE = 40.0  # seconds from one rush to the next
PAUSE = 0.5  # seconds after an error
PATIENCE = 5.0  # seconds that stop() waits for a thread


class Visitors:
    """Threads that do *visit* again and again, after a pause of about *pause* seconds, until stop()."""

    def __init__(self, name: str, number: int, visit: Callable[[Random], None], pause: float, error: Any) -> None:
        self.ended = threading.Event()
        self._visit, self._pause, self._error = visit, pause, error
        self._threads = [
            threading.Thread(target=self._run, args=(Random(each),), name=f"{name}-{each}", daemon=True)
            for each in range(1, number + 1)
        ]

    def start(self) -> Visitors:
        """Have them come."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Have them leave, and wait for them."""
        self.ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(PATIENCE)

    def _run(self, random: Random) -> None:
        while not self.ended.is_set():
            try:
                self._visit(random)
                pause = self._pause * (1.1 - math.sin(2 * math.pi * time.monotonic() / WAVE)) * 2 * random.random()
            except self._error:  # the pool's errors are the driver's, too
                pause = PAUSE
            self.ended.wait(pause)


def transfer(pool: ThreadedConnectionPool[Any], bank: Bank, work: float) -> Callable[[Random], None]:
    """Return a visit: some work with a connection in hand, then money is moved."""

    def visit(random: Random) -> None:
        source, target = random.sample(range(ACCOUNTS), 2)
        order = Order(source, target, random.randint(1, 50), mishap=False)
        with pool.connection() as conn:
            time.sleep(work * 2 * random.random())
            try:
                bank.begin(conn, order)
                bank.debit(conn, order)
                bank.credit(conn, order)
            except (InsufficientFunds, Busy):
                conn.rollback()

    return visit


def report(pool: ThreadedConnectionPool[Any], bank: Bank, work: float) -> Callable[[Random], None]:
    """Return a visit: the money is counted, and looked at for a while."""

    def visit(random: Random) -> None:
        with pool.connection() as conn:
            cursor = conn.cursor()
            cursor.execute(f"SELECT sum(balance) FROM {bank.prefix}account")
            cursor.fetchone()
            time.sleep(work * 2 * random.random())

    return visit
