"""Runs a probe in a process of its own, with a time limit, so that a deadlock ends with it.

The process is forked from one that has no pool and no thread. Its server belongs to the parent, which stops, starts and
freezes it as the probe asks, and puts everything right again when the probe is over.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import time
import traceback
import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any, Callable

import psycopg2
from unit.threads import eventually

from .table import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .adapters import Pool

    Probe = Callable[[type[Pool], "Server"], Cell]

LIMIT = 90.0  # seconds for one probe


class Failed(Exception):
    """A probe itself went wrong; the text is its traceback."""


class Server:
    """The PostgreSQL of a probe, as seen from its process."""

    def __init__(self, cluster: Any, pipe: Any) -> None:
        self.dsn, self.tcp_dsn = cluster.dsn, cluster.tcp_dsn
        self._pipe = pipe

    def stop(self) -> None:
        """Stop it as a crash does, no farewell to anyone."""
        self._order("stop", "immediate")

    def start(self) -> float:
        """Start it again; return when it let in, by time.monotonic()."""
        return float(self._order("start"))

    def freeze(self, pid: int) -> None:
        """Have a backend stand still."""
        self._order("pause", pid)

    def kill(self, pids: Iterable[int]) -> None:
        """End backends as an administrator does; return once their processes are gone."""
        pids = list(pids)
        with closing(psycopg2.connect(self.dsn)) as conn:
            conn.autocommit = True
            with conn.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (pids,))
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))

    def _order(self, verb: str, *words: Any) -> Any:
        self._pipe.send((verb, words))
        return self._pipe.recv()


def run(probe: Probe, kinds: Sequence[type[Pool]], cluster: Any, together: bool = False) -> dict[str, Cell]:
    """Return what *probe* finds of each pool, of all *together* or of one after the other.

    Raises Failed if the probe itself fails.
    """
    if not together and len(kinds) > 1:
        return {kind.name: run(probe, [kind], cluster)[kind.name] for kind in kinds}
    children = [_Child(probe, kind, cluster) for kind in kinds]
    try:
        return _attend(children, cluster)
    finally:
        for child in children:
            child.process.kill()
            child.process.join()
        for pid in list(cluster._paused):
            cluster.resume(pid)
        if cluster._postmaster is None:
            cluster.start()


class _Child:
    """A probe's process, and the pipe to it."""

    def __init__(self, probe: Probe, kind: type[Pool], cluster: Any) -> None:
        self.name = kind.name
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_work, args=(probe, kind, cluster, theirs))
        self.process.start()
        theirs.close()


def _attend(children: list[_Child], cluster: Any) -> dict[str, Cell]:
    """Do what the probes ask for, until all have an outcome or their time is over."""
    found = {child.name: Cell(f"no end in {LIMIT:.0f} s", (float("inf"),)) for child in children}
    waiting = {child.pipe: child for child in children}
    deadline = time.monotonic() + LIMIT
    while waiting and time.monotonic() < deadline:
        for pipe in multiprocessing.connection.wait(list(waiting), deadline - time.monotonic()):
            try:
                verb, words = pipe.recv()
            except EOFError:
                raise Failed(f"{waiting[pipe].name}: the probe's process ended without a word") from None
            if verb == "failed":
                raise Failed(f"{waiting[pipe].name}: {words[0]}")
            if verb == "found":
                found[waiting.pop(pipe).name] = Cell(*words)
            else:
                getattr(cluster, verb)(*words)
                pipe.send(time.monotonic())
    return found


def _work(probe: Probe, kind: type[Pool], cluster: Any, pipe: Any) -> None:
    """Do the work of the child; it never returns, for a pool may have left threads that never end."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    threading.excepthook = sys.unraisablehook = lambda *_: None  # type: ignore[assignment]
    try:
        cell = probe(kind, Server(cluster, pipe))
        pipe.send(("found", (cell.shown, cell.rank)))
    except BaseException:
        pipe.send(("failed", (traceback.format_exc(),)))
    os._exit(0)
