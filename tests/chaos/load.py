"""Load: threads that lease, write and read back a token, commit, and give back, in all the ways that people do."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg2

from .scene import CHECK_TIMEOUT, TIMEOUT

if TYPE_CHECKING:
    from .scene import Scene

THREADS = 12
FRAMES = 6  # that are told of a thread that stands still
HOLD = 0.03  # seconds, at most, between the write and the read, or after both
IMPATIENT = (0.05, 0.2, 0.5)  # seconds; who gives up that early is no failure
WRITE = (
    "WITH written AS (INSERT INTO token VALUES (%s, pg_backend_pid()) RETURNING token)"
    " SELECT set_config('chaos.holder', token, false) FROM written"
)
READ = "SELECT token, current_setting('chaos.holder'), pid FROM token WHERE token = %s"
# How a lease is used, and how often. "abandon" and "error" leave nothing behind, the others commit.
MANNERS = {"commit": 50, "block": 15, "abandon": 15, "error": 5, "close": 3, "autocommit": 4, "impatient": 8}
TRANSACTION_STATUS = {1: "busy", 2: "in a transaction", 3: "in a failed transaction"}


class Worker:
    """One thread's work. KeyboardInterrupt may strike anywhere in it: nothing here takes a lock."""

    manners = MANNERS

    def __init__(self, scene: Scene, seed: str) -> None:
        self.scene, self.journal = scene, scene.journal
        self.rng = random.Random(seed)
        self.errors: Counter[str] = Counter()
        self.interrupts = 0  # caught ...
        self.acknowledged = 0  # ... and gone on after them

    def turn(self) -> None:
        """Lease a connection, use it, give it back."""
        self.acknowledged = self.interrupts
        call, manner = next(self.scene.leases), self.choose()
        if manner == "block":
            self._block(call)
            return
        timeout = self.rng.choice(IMPATIENT) if manner == "impatient" else TIMEOUT
        self.journal.note("invoke", "get", call, data=timeout)
        try:
            conn = self.scene.pool.getconn(timeout=timeout)
        except Exception as error:
            self.journal.note("fail", "get", call, data=text_of(error))
            return
        try:
            leased = self._leased(call, conn)
            self._transaction(call, conn, manner, leased)
        finally:
            self._put(call, conn, manner == "close")

    def choose(self) -> str:
        (manner,) = self.rng.choices(list(self.manners), self.manners.values())
        return manner

    def _leased(self, call: int, conn: Any) -> float:
        return self.journal.note("ok", "get", call, conn.serial, conn.pid, self.left(conn))

    def left(self, conn: Any) -> str | None:
        """Return what the last holder has left behind, if anything."""
        status = TRANSACTION_STATUS.get(conn.get_transaction_status(), "")
        return status or ("in autocommit mode" if not conn.closed and conn.autocommit else None)

    def _tell(self, call: int, conn: Any, outcome: str, leased: float) -> None:
        """A turn has ended."""
        now = self.journal.note(outcome, "write", call)
        if outcome == "ok":
            self.scene.tracker.served(conn.serial, leased, now)

    def _put(self, call: int, conn: Any, close: bool) -> None:
        # A rollback, perhaps after it another connection's close: each is cut off after check_timeout.
        self.journal.note("invoke", "put", call, data=2 * CHECK_TIMEOUT)
        try:
            self.scene.pool.putconn(conn, close=close)
        except Exception as error:
            self.journal.note("fail", "put", call, data=text_of(error))
        else:
            self.journal.note("ok", "put", call)

    def _transaction(self, call: int, conn: Any, manner: str, leased: float) -> None:
        """What was not told to commit has failed, whatever becomes of it; what was, and gave no answer, is unknown."""
        outcome = "fail"
        try:
            self._write(call, conn)
            if manner == "error":
                self._fail_on_purpose(conn)
            elif manner != "abandon":
                outcome = "unknown"
                conn.commit()
                outcome = "ok"
                if manner == "autocommit":
                    conn.autocommit = True  # for the pool to set back
        except psycopg2.Error as error:
            self.errors[text_of(error)] += 1
        self._tell(call, conn, outcome, leased)

    def _write(self, call: int, conn: Any) -> None:
        token = f"{os.getpid()}.{conn.pid}.{call}"
        with conn.cursor() as cursor:
            self.journal.note("invoke", "write", call, data=token)
            cursor.execute(WRITE, (token,))
            work, idle = sorted((0, HOLD), key=lambda _: self.rng.random())
            time.sleep(self.rng.uniform(0, work))
            cursor.execute(READ, (token,))
            self.journal.note("ok", "read", call, data=list(cursor.fetchone() or ()))
            time.sleep(self.rng.uniform(0, idle))

    def _fail_on_purpose(self, conn: Any) -> None:
        try:
            with conn.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
        except psycopg2.errors.DivisionByZero:
            pass

    def _block(self, call: int) -> None:
        """The same in a with block, which commits and gives back by itself."""
        conn, leased, outcome = None, 0.0, "fail"
        self.journal.note("invoke", "get", call, data=TIMEOUT)
        try:
            with self.scene.pool.connection() as conn:
                leased = self._leased(call, conn)
                try:
                    self._write(call, conn)
                finally:
                    # It commits first, which may take as long as the server likes.
                    self.journal.note("invoke", "put", call)
                outcome = "unknown"
            outcome = "ok"
        except psycopg2.Error as error:
            if conn is None:
                self.journal.note("fail", "get", call, data=text_of(error))
                return
            self.errors[text_of(error)] += 1
        self.journal.note("ok", "put", call)
        self._tell(call, conn, outcome, leased)


class Load:
    """The threads, each with a worker; they go on until they are told to stop."""

    def __init__(self, scene: Scene) -> None:
        self.workers: list[Any] = [Worker(scene, f"{scene.seed} worker {number}") for number in range(THREADS)]
        self._scene = scene
        self._stopped = False
        self.threads = [threading.Thread(target=self._run, args=(worker,), daemon=True) for worker in self.workers]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self, patience: float) -> None:
        """Have each end its turn."""
        self._stopped = True
        deadline = time.monotonic() + patience
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                stack = traceback.extract_stack(sys._current_frames().get(thread.ident))
                where = " <- ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(stack[-FRAMES:]))
                self._scene.accuse("call never ended", f"{thread.name} did not stop within {patience:g} s: {where}")

    def use_in_child(self, seed: str, turns: int, closes: bool) -> None:
        """Do what the load does in a forked child, whose only thread this is; close the pool, if it *closes* it."""
        worker = Worker(self._scene, seed)
        for _ in range(turns):
            worker.turn()
        if closes:
            self._scene.pool.close(timeout=5)

    def errors(self) -> Counter[str]:
        """Return what went wrong in use, by its text."""
        return sum((worker.errors for worker in self.workers), Counter())

    def _run(self, worker: Worker) -> None:
        while not self._stopped:
            try:
                while not self._stopped:
                    worker.turn()
            except KeyboardInterrupt:
                worker.journal.note("note", "interrupt")
                worker.interrupts += 1
            except Exception as error:
                worker.journal.note("note", "crash", data=text_of(error))


def text_of(error: BaseException) -> str:
    """Return the kind of an error and its first line, without what differs from one to the next."""
    first = (str(error).strip().splitlines() or [""])[0]
    words = first.partition("(pool ")[0].rpartition(" failed: ")[2]
    return f"{type(error).__name__.partition('__')[0]}: {words[:100].strip()}"
