"""What befalls the server: killed, frozen and restarted backends, refusals; and a wall clock that is set."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from asking import ask
from unit.threads import Caller

from .table import Cell, none

if TYPE_CHECKING:
    from .adapters import Pool
    from .children import Server

IDLE = 0.2  # seconds that idle connections have been idle
FREEZE, OUTAGE, TRIES = 6.0, 2.0, 3
PAUSE = 0.02  # seconds between two calls of a thread
DAY = 86400.0
PATIENCE, MARGIN = 2.0, 0.25  # a caller's timeout, and by how much it may be exceeded


def use(pool: Pool, errors: list[BaseException]) -> bool:
    """Check one connection out, use it, put it back; note what goes wrong, and tell whether it went well."""
    conn = None
    before = len(errors)
    try:
        conn = pool.get()
        ask(conn, "SELECT 1")
    except Exception as exc:
        errors.append(exc)
    if conn is not None:
        try:
            pool.put(conn)
        except Exception as exc:
            errors.append(exc)
    return len(errors) == before


def killed(kind: type[Pool], server: Server) -> Cell:
    """Five idle backends are ended; then ten uses."""
    pool = kind(server.dsn, 5, timeout=2.0)
    pids = pool.fill()
    time.sleep(IDLE)
    server.kill(pids)
    failed = sum(not use(pool, []) for _ in range(10))
    return Cell(str(failed), (failed,))


def killed_in_transaction(kind: type[Pool], server: Server) -> Cell:
    """The backend of a transaction is ended; its connection is put, untouched."""
    pool = kind(server.dsn, 1, timeout=1.0)
    conn = pool.get()
    ask(conn, "SELECT 1")
    server.kill([pool.pid(conn)])
    raised = lost = False
    try:
        pool.put(conn)
    except Exception:
        raised = True
    conn = None
    caller = Caller(pool.get)
    try:
        conn = caller.result(3.0)
    except (Exception, AssertionError):
        lost = True
    words = [word for word, so in (("raises", raised), ("slot lost", lost)) if so]
    return Cell(", ".join(words) or "ok", (lost, raised))


def frozen(kind: type[Pool], server: Server) -> Cell:
    """The only idle backend stands still; get(timeout=2) with a check."""
    if not kind.checks:
        return none("no check")
    pool = kind(server.dsn, 1, timeout=2.0, always=True)
    pids = pool.fill()
    time.sleep(IDLE)
    server.freeze(pids[0])
    began = time.monotonic()
    caller = Caller(pool.get)
    try:
        conn = caller.result(FREEZE)
    except Exception as exc:
        ended = "no connection" if not isinstance(exc, AssertionError) else ""
    else:
        ended = "served" if pool.pid(conn) != pids[0] else ""
    took = time.monotonic() - began
    return Cell(f"{took:.2f} s, {ended}", (took,)) if ended else Cell(f"> {FREEZE:.0f} s", (float("inf"),))


class Load:
    """Eight threads that use a pool again and again; what failed, and when something first went well."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.errors: list[BaseException] = []
        self.calls: list[tuple[float, bool]] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def _work(self) -> None:
        while not self.over.wait(PAUSE):
            well = use(self.pool, [])
            self.calls.append((time.monotonic(), well))

    def first_success(self, since: float) -> float:
        """Return the seconds until a call went well."""
        while time.monotonic() < since + 5 * PATIENCE:
            ended = [when for when, well in self.calls if well]
            if ended:
                return max(0.0, min(ended) - since)
            time.sleep(0.005)
        return float("inf")


def restarted(kind: type[Pool], server: Server) -> Cell:
    """The server crashes, and is back after two seconds; eight threads want its four connections all the time."""
    failed, waits = [], []
    for _ in range(TRIES):
        pool = kind(server.dsn, 4, timeout=10.0)
        pool.fill()
        time.sleep(IDLE)
        server.stop()
        load = Load(pool)
        time.sleep(OUTAGE)
        up = server.start()
        waits.append(load.first_success(up))
        time.sleep(5 * PAUSE)
        load.over.set()
        for thread in load.threads:
            thread.join(10.0)
        failed.append(sum(not well for _, well in load.calls))
        pool.close()
    middle = sorted(waits)[TRIES // 2]
    most = sorted(failed)[TRIES // 2]
    return Cell(f"{most}; {middle:.2f} s", (most, middle))


def refused(kind: type[Pool], server: Server) -> Cell:
    """The server is down; then the password is wrong. What get(timeout=2) raises, and when."""
    pool = kind(server.dsn, 1, 0, timeout=PATIENCE)
    server.stop()
    down, down_rank = refusal(pool)
    server.start()
    words = [word for word in server.tcp_dsn.split() if not word.startswith("password=")]
    pool = kind(" ".join([*words, "password=wrong"]), 1, 0, timeout=PATIENCE)
    wrong, wrong_rank = refusal(pool)
    return Cell(f"{down}; {wrong}", (*down_rank, *wrong_rank))


def refusal(pool: Pool) -> tuple[str, tuple[float, ...]]:
    """Return what a get shows of the driver's error, and whether it does, and on time."""
    began = time.monotonic()
    caller = Caller(pool.get)
    try:
        caller.result(3 * PATIENCE)
    except Exception as exc:
        took = time.monotonic() - began
        bare = not any("connection to server" in str(each) for each in shown(exc))
        word = "bare timeout" if bare else "cause"
        return f"{word}, {took:.1f} s", (bare, took > PATIENCE + MARGIN)
    raise AssertionError("a connection to a server that refuses")


def shown(error: BaseException | None) -> list[BaseException]:
    """Return the errors that a traceback shows."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


def set_clock(kind: type[Pool], server: Server) -> Cell:
    """The wall clock is set to tomorrow: connections whose lifetime is an hour are seconds old all the same."""
    pool = kind(server.dsn, 3)
    before = set(pool.fill())
    clock = time.time
    time.time = lambda: clock() + DAY
    after = {*pool.fill(), *pool.fill()}  # some look when a connection comes back
    time.time = clock
    needless = len(after - before)
    return Cell(str(needless), (needless,))
