"""The demo's work: threads that make transfers in three ways in turn, and count what they did."""

from __future__ import annotations

import itertools
from array import array
from random import Random
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from dbpool.demo.bank import ACCOUNTS, OPENING_BALANCE, Bank, Busy, InsufficientFunds, Mishap, Order

if TYPE_CHECKING:
    from collections.abc import Hashable

    from dbpool import ThreadedConnectionPool

MISHAPS = 0.1  # share of the transfers that fail on purpose
MOST = OPENING_BALANCE // 2  # largest amount: now and then an account has less


class Options(NamedTuple):
    """How much there is to do."""

    threads: int
    connections: int
    seconds: float
    transfers: int | None


class Tally:
    """What one thread did."""

    def __init__(self) -> None:
        self.commits = self.refusals = self.mishaps = self.busy = 0
        self.waits = array("d")  # seconds, one for each connection that it got

    @property
    def turns(self) -> int:
        return len(self.waits)

    @property
    def rollbacks(self) -> int:
        return self.refusals + self.mishaps


class Teller:
    """One thread's way to the bank: a connection for each transfer."""

    def __init__(self, pool: ThreadedConnectionPool[Any], bank: Bank, number: int) -> None:
        self.tally = Tally()
        self._pool, self._bank, self._key = pool, bank, f"teller {number}"
        self._random = Random(number)
        self._ways = itertools.cycle((self._unkeyed, self._keyed, self._in_block))

    def take_turn(self) -> None:
        """Make one transfer, the next way; it may fail, and then it must have changed nothing."""
        source, target = self._random.sample(range(ACCOUNTS), 2)
        amount = self._random.randint(1, MOST)
        order = Order(source, target, amount, self._random.random() < MISHAPS)
        try:
            next(self._ways)(order)
            self.tally.commits += 1
        except InsufficientFunds:
            self.tally.refusals += 1
        except Mishap:
            self.tally.mishaps += 1
        except Busy:
            self.tally.busy += 1

    def _getconn(self, key: Hashable = None) -> Any:
        began = monotonic()
        conn = self._pool.getconn(key)
        self.tally.waits.append(monotonic() - began)
        return conn

    def _unkeyed(self, order: Order) -> None:
        """As with psycopg2.pool; what a failure leaves open is rolled back by putconn."""
        conn = self._getconn()
        try:
            self._bank.begin(conn, order)
            self._bank.debit(conn, order)
            self._bank.credit(conn, order)
            conn.commit()
        finally:
            self._pool.putconn(conn)

    def _keyed(self, order: Order) -> None:
        """The same key finds the same connection again, and with it the transaction."""
        conn = self._getconn(self._key)
        try:
            self._bank.begin(conn, order)
            for step in (self._bank.debit, self._bank.credit):
                again = self._pool.getconn(self._key)
                assert again is conn, "one key, two connections"
                step(again, order)
            conn.commit()
        except Exception:
            conn.rollback()
            raise
        finally:
            self._pool.putconn(conn, self._key)

    def _in_block(self, order: Order) -> None:
        """Committed or rolled back, and put back, by the with statement."""
        began = monotonic()
        with self._pool.connection() as conn:
            self.tally.waits.append(monotonic() - began)
            self._bank.begin(conn, order)
            self._bank.debit(conn, order)
            self._bank.credit(conn, order)


class Work:
    """Threads, a teller each; they end when the time is up, all is done, one fails, or stop() is called."""

    def __init__(self, pool: ThreadedConnectionPool[Any], bank: Bank, options: Options) -> None:
        self.tellers = [Teller(pool, bank, number) for number in range(options.threads)]
        self.errors: list[BaseException] = []
        self._seconds, self._transfers = options.seconds, options.transfers
        self._numbers = itertools.count()  # next() of it is atomic
        self._stopped = False
        self._threads = [Thread(target=self._run, args=(teller,), daemon=True) for teller in self.tellers]

    def start(self) -> None:
        self._began = monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have each thread end after the transfer that it is at."""
        self._stopped = True

    def wait(self, seconds: float) -> bool:
        """Wait up to *seconds* for the threads to end; tell whether they have."""
        deadline = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def elapsed(self) -> float:
        return monotonic() - self._began

    @property
    def fraction(self) -> float:
        """How much of the work is done, from 0 to 1."""
        made = 0.0 if self._transfers is None else sum(self.turns()) / self._transfers
        return min(1.0, max(self.elapsed / self._seconds, made))

    def turns(self) -> list[int]:
        return [teller.tally.turns for teller in self.tellers]

    def count(self, what: str) -> int:
        """Return the sum of one of the numbers in all tallies."""
        return sum(getattr(teller.tally, what) for teller in self.tellers)

    def _run(self, teller: Teller) -> None:
        try:
            while not self._is_over():
                teller.take_turn()
        except Exception as exc:  # the main thread tells it
            self.errors.append(exc)
            self.stop()

    def _is_over(self) -> bool:
        if self._transfers is not None and next(self._numbers) >= self._transfers:
            return True
        return self._stopped or self.elapsed >= self._seconds
