"""What a session carries over: to the next user of its connection, and to a forked process."""

from __future__ import annotations

import gc
import os
import time
from typing import TYPE_CHECKING

from asking import ask, tell

from .table import Cell

if TYPE_CHECKING:
    from .adapters import Pool
    from .children import Server

PATIENCE = 5.0

# What is told to a session, and how to ask whether it still knows.
MARKS = {
    "SET search_path TO pg_catalog": "SELECT current_setting('search_path') = 'pg_catalog'",
    "SET statement_timeout TO '59s'": "SELECT current_setting('statement_timeout') = '59s'",
    "CREATE TEMP TABLE leaving (x int)": "SELECT to_regclass('pg_temp.leaving') IS NOT NULL",
    "SELECT pg_advisory_lock(59)": "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 59",
    "PREPARE leaving AS SELECT 59": "SELECT count(*) > 0 FROM pg_prepared_statements WHERE name = 'leaving'",
    "LISTEN leaving": "SELECT count(*) > 0 FROM pg_listening_channels()",
}


def leaked(kind: type[Pool], server: Server) -> Cell:
    """Six things are told to a session, and committed; how many does the next user of the pool find?"""
    default = leaks(kind(server.dsn, 1))
    if not kind.forgets:
        return Cell(f"{default} (no such option)", (default, default))
    best = leaks(kind(server.dsn, 1, forget=True))
    return Cell(f"{best} (default: {default})", (best, default))


def leaks(pool: Pool) -> int:
    """Return how many of the six are found after put and get."""
    conn = pool.get()
    tell(conn, *MARKS)
    conn.commit()
    pool.put(conn)
    conn = pool.get()
    found = sum(bool(ask(conn, question)) for question in MARKS.values())
    pool.put(conn)
    pool.close()
    return found


def forked(kind: type[Pool], server: Server) -> Cell:
    """A child process uses the pool of its parent and ends; then the parent uses it."""
    pool = kind(server.dsn, 1, timeout=2.0)
    pids = pool.fill()
    childs = in_child(pool)
    words = {0: "cannot use it", pids[0]: "shares the parent's backend"}.get(childs, "own backend")
    try:
        conn = pool.get()
        unharmed = ask(conn, "SELECT 59") == 59 and pool.pid(conn) == pids[0]
    except Exception:
        unharmed = False
    harm = "parent unharmed" if unharmed else "parent's breaks"
    return Cell(f"{words}, {harm}", (not unharmed, words != "own backend"))


def in_child(pool: Pool) -> int:
    """Return the process of the backend that a child gets; 0 if it gets none."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            conn = pool.get()
            os.write(writing, str(ask(conn, "SELECT pg_backend_pid()")).encode())
            pool.put(conn)
            conn = pool.pool = None
            gc.collect()  # what an interpreter does at its end
        finally:
            os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + PATIENCE
    while os.waitpid(process, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(process, 9)
            os.waitpid(process, 0)
            break
        time.sleep(0.005)
    with os.fdopen(reading) as file:
        return int(file.read() or 0)
