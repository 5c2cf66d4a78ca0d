"""What threads do to each other: hogs, slow connects, dropped connections, close() and hooks that exit."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

from unit.threads import Caller

from .table import Cell, none

if TYPE_CHECKING:
    from .adapters import Pool
    from .children import Server

HOLD = 0.001  # seconds
WAITS, PATIENCE = 30, 3.0
DIAL = 1.5  # seconds that a slow connect takes
SETTLE = 0.3  # seconds after which a thread stands where it will stand


def hogged(kind: type[Pool], server: Server) -> Cell:
    """Two threads take the only connection again as soon as they have put it; a third one wants it now and then."""
    if not kind.waits:
        return none("never waits")
    pool = kind(server.dsn, 1, timeout=PATIENCE)
    pool.fill()
    over = threading.Event()
    waits: list[float] = []

    def hog() -> None:
        while not over.is_set():
            try:
                conn = pool.get()
            except Exception:  # the hogs starve each other, too
                continue
            time.sleep(HOLD)
            pool.put(conn)

    for _ in range(2):
        threading.Thread(target=hog, daemon=True).start()
    time.sleep(SETTLE)
    end = time.monotonic() + 3 * PATIENCE
    while len(waits) < WAITS and time.monotonic() < end:
        waits.append(wait_once(pool))
        time.sleep(HOLD)
    over.set()
    middle = statistics.median(waits)
    if middle >= PATIENCE:
        return Cell(f"> {PATIENCE:.0f} s", (float("inf"),))
    return Cell(f"{middle * 1000:.1f} ms" if middle < 1 else f"{middle:.2f} s", (middle,))


def wait_once(pool: Pool) -> float:
    """Return how long a get takes, PATIENCE at most."""

    def work() -> float:
        conn = pool.get()
        took = time.monotonic() - began
        pool.put(conn)
        return took

    began = time.monotonic()
    try:
        return float(Caller(work).result(PATIENCE))
    except (Exception, AssertionError):
        return PATIENCE


class Dialer:
    """What is called before each connect: it lets the next ones take *seconds*."""

    seconds = 0.0

    def __init__(self) -> None:
        self.begun = threading.Event()

    def __call__(self) -> None:
        if self.seconds:
            self.begun.set()
            time.sleep(self.seconds)


def put_while_connecting(kind: type[Pool], server: Server) -> Cell:
    """A thread waits for a slow connect; another one puts its connection."""
    dialer = Dialer()
    pool = kind(server.dsn, 2, 1, before=dialer)
    conn = pool.get()
    dialer.seconds = DIAL
    getter = Caller(pool.get)
    dialer.begun.wait()
    began = time.monotonic()
    pool.put(conn)
    took = time.monotonic() - began
    getter.result()
    return Cell(f"{took:.2f} s", (took,))


def dropped(kind: type[Pool], server: Server) -> Cell:
    """The only connection is dropped without being put."""
    pool = kind(server.dsn, 1, timeout=1.0)
    conn = pool.get()
    del conn
    gc.collect()
    try:
        Caller(pool.get).result(2.0)
    except (Exception, AssertionError):
        return Cell("lost", (1,))
    return Cell("recovered", (0,))


def closed(kind: type[Pool], server: Server) -> Cell:
    """The pool is closed while somebody waits; then again, while a connect is stuck as well."""
    if not kind.waits:
        return none("never waits")
    plain, stuck = closed_after(kind, server, 0.0), closed_after(kind, server, 3 * PATIENCE)
    shown = [f"{each:.2f} s" if each < PATIENCE else f"> {PATIENCE:.0f} s" for each in (plain, stuck)]
    return Cell("{} ({})".format(*shown), (plain, stuck))


def closed_after(kind: type[Pool], server: Server, dial: float) -> float:
    """Return the seconds until a waiter knows; with *dial*, a connect is under way that takes as long."""
    dialer = Dialer()
    pool = kind(server.dsn, 2 if dial else 1, 1, timeout=10.0, before=dialer)
    conn = pool.get()
    if dial:
        dialer.seconds = dial
        Caller(pool.get)
        dialer.begun.wait()
    waiter = Caller(pool.get)
    time.sleep(SETTLE)
    began = time.monotonic()
    Caller(pool.close)
    try:
        waiter.result(PATIENCE)
    except (Exception, AssertionError):
        pass
    took = time.monotonic() - began
    del conn
    return took if waiter.ended else float("inf")


def exiting_hook(kind: type[Pool], server: Server) -> Cell:
    """What is called with each new connection raises SystemExit, three times; then nothing is wrong with it."""
    size, raised = 3, 0

    def hook(conn: Any) -> None:
        nonlocal raised
        if raised < size:
            raised += 1
            raise SystemExit

    pool = kind(server.dsn, size, 0, timeout=1.0, hook=hook)
    conns = []
    for _ in range(2 * size):
        try:
            conns.append(Caller(pool.get).result(2.0))
        except BaseException:
            pass
    if raised < size and conns:
        raise AssertionError(f"the hook was called {raised} times only")
    return Cell(f"{len(conns)} of {size}", (size - len(conns),))
