"""Sessions of a PostgreSQL, seen from both sides: what a connection answers, what the server has and is asked."""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from asking import ask, tell
from clusters import _status
from servers import import_or_skip
from unit.threads import Caller, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MARGIN = 0.25  # seconds over a limit that two busy cores may cost
NAME = "pained"  # the application_name of the pools


def answers(conn: Any) -> bool:
    """Tell whether the server answers; a connection that hangs is left to a thread."""
    return bool(Caller(ask, conn, "SELECT 1").result() == 1)


def pid_of(conn: Any) -> int:
    """Return the process of the connection's backend; known to the driver, no round trip."""
    return int(conn.info.backend_pid)


@contextmanager
def administrator(cluster: Any) -> Iterator[Any]:
    """Yield a connection of our own, in autocommit mode."""
    with closing(import_or_skip("psycopg2").connect(cluster.dsn)) as conn:
        conn.autocommit = True
        yield conn


def order(cluster: Any, *statements: str) -> None:
    """Execute statements as the administrator."""
    with administrator(cluster) as conn:
        tell(conn, *statements)


def backends(cluster: Any, name: str = NAME) -> set[int]:
    """Return the processes of the sessions that bear *name*."""
    with administrator(cluster) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", (name,))
        return {pid for (pid,) in cursor.fetchall()}


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    return _status(pid)[0] in "ZX"


def kill(cluster: Any, pids: Iterable[int]) -> None:
    """End backends as an administrator does; return once their processes are gone."""
    pids = list(pids)
    with administrator(cluster) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (pids,))
    eventually(lambda: all(map(is_gone, pids)))


def lease(pool: Any, count: int) -> list[Any]:
    """Have *count* different connections at a time."""
    return [pool.getconn() for _ in range(count)]


def put_all(pool: Any, conns: Iterable[Any]) -> None:
    """Give them all back."""
    for conn in conns:
        pool.putconn(conn)


def warm(pool: Any, count: int = 1) -> list[int]:
    """Have *count* connections idle; return their backends' processes."""
    conns = lease(pool, count)
    pids = [pid_of(conn) for conn in conns]
    put_all(pool, conns)
    return pids


class Log:
    """The statements that the server was asked to run by sessions named NAME, since this was made."""

    MARK = f"{NAME}|LOG:"

    def __init__(self, cluster: Any) -> None:
        self._path = cluster._log
        self._begin = os.path.getsize(self._path)

    def statements(self) -> list[str]:
        """Return them in order; a statement is in the log before it is run."""
        with open(self._path, encoding="utf-8", errors="replace") as file:
            file.seek(self._begin)
            lines = [line[len(self.MARK) :].strip() for line in file if line.startswith(self.MARK)]
        return [line.partition(": ")[2] for line in lines if line.startswith(("statement:", "execute"))]


class Stopwatch:
    """Measures a block: ``with Stopwatch() as watch: ...``, then ``watch.seconds``."""

    seconds: float

    def __enter__(self) -> Stopwatch:
        self._began = time.monotonic()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.monotonic() - self._began


class Leaping:
    """A clock that runs, and leaps ahead when told."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead

    def leap(self, seconds: float) -> None:
        self.ahead += seconds


def dsn_of(cluster: Any, **changed: str) -> str:
    """Return the cluster's TCP DSN with some of its words changed."""
    words = dict(word.split("=", 1) for word in cluster.tcp_dsn.split())
    return " ".join(f"{name}={value}" for name, value in {**words, **changed}.items())
