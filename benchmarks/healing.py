"""What strikes, and how long it is felt: killed, restarted and frozen backends, lost transactions, expiry, exit."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable

import psycopg2
from common import Fake, FakeConnector, Report, interleaved, seconds_of
from serving import clusters

import dbpool

IDLE = 50
ROUNDS = 200  # of IDLE transactions each
PATIENCE = 30.0


def ask(conn: Any, statement: str = "SELECT 1") -> Any:
    """Execute one statement; return the first value, if there is one."""
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def use(pool: Any, errors: list[BaseException]) -> None:
    """Check one connection out, use it, put it back; note what goes wrong."""
    conn = None
    try:
        conn = pool.getconn(timeout=PATIENCE)
        ask(conn)
    except Exception as exc:
        errors.append(exc)
    if conn is not None:
        pool.putconn(conn)


def terminate(admin: Any, pids: list[int]) -> None:
    """End these backends; return once their processes are gone."""
    ask(admin, f"SELECT count(pg_terminate_backend(pid)) FROM unnest(ARRAY{pids}) AS pid")
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        time.sleep(0.001)


def filled(dsn: str, size: int, **config: Any) -> tuple[Any, list[int]]:
    """Return a pool with *size* idle connections, unused for longer than check_after, and their backends."""
    pool = dbpool.ThreadedConnectionPool(size, size, dsn, config=config)
    conns = [pool.getconn() for _ in range(size)]
    pids = [conn.get_backend_pid() for conn in conns]
    for conn in conns:
        pool.putconn(conn)
    time.sleep(2 * (pool._config.check_after or 0.0))
    return pool, pids


def killed(report: Report, cluster: Any) -> None:
    """All idle backends are ended."""
    pool, pids = filled(cluster.dsn, IDLE)
    admin = psycopg2.connect(cluster.dsn)
    admin.autocommit = True
    terminate(admin, pids)
    errors: list[BaseException] = []
    took = seconds_of(lambda: [use(pool, errors) for _ in range(IDLE)])
    report.add(f"{IDLE} idle backends killed: errors in the next {IDLE} checkouts", len(errors), "<= 0")
    report.add("... seconds until all of these were served", took, "<= 1")
    admin.close()
    pool.close()


def restarted(report: Report, cluster: Any) -> None:
    """The server goes away for a second, while 50 threads want a connection each."""
    pool, _ = filled(cluster.dsn, IDLE)
    cluster.stop("immediate")
    errors: list[BaseException] = []
    threads = [threading.Thread(target=use, args=(pool, errors)) for _ in range(IDLE)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    cluster.start()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    report.add(f"server away for 1 s: errors in {IDLE} checkouts meanwhile", len(errors), "<= 0")
    report.add("... seconds from its accepting until all were served", took, "<= 1", repr(errors[:1]))
    pool.close()


def frozen(report: Report, cluster: Any) -> None:
    """A backend stands still: at get, and at put."""
    pool, pids = filled(cluster.dsn, 1, ping_after=0.05)
    cluster.pause(pids[0])
    outcome: list[Any] = []

    def get() -> None:
        try:
            outcome.append(pool.getconn(timeout=2))
        except dbpool.PoolTimeout as exc:
            outcome.append(exc.__cause__)

    took = seconds_of(get)
    served = hasattr(outcome[0], "cursor") and ask(outcome[0]) == 1
    detail = "served" if served else f"timed out because of {outcome[0]!r}"
    report.add("frozen backend, getconn(timeout=2) with a ping due: seconds", took, "<= 2.1", detail)
    if served:
        pool.putconn(outcome[0])
    cluster.resume(pids[0])
    pool.close()
    pool = dbpool.ThreadedConnectionPool(1, 1, cluster.dsn, config={"check_timeout": 0.5})
    conn = pool.getconn()
    ask(conn)
    backend = conn.get_backend_pid()
    cluster.pause(backend)
    report.add("frozen backend, putconn in a transaction: seconds", seconds_of(lambda: pool.putconn(conn)), "<= 0.6")
    size = pool.stats().size
    cluster.resume(backend)
    report.add("... slots still taken", size, "<= 0")
    pool.close()


def lost_in_transactions(report: Report, cluster: Any) -> None:
    """Every connection is killed in a transaction and put back, again and again."""
    pool = dbpool.ThreadedConnectionPool(0, IDLE, cluster.dsn)
    admin = psycopg2.connect(cluster.dsn)
    admin.autocommit = True
    lost = 0
    for _ in range(ROUNDS):
        conns = [pool.getconn() for _ in range(IDLE)]
        for conn in conns:
            ask(conn)
        terminate(admin, [conn.get_backend_pid() for conn in conns])
        for conn in conns:
            pool.putconn(conn)
        lost += len(conns)
    conns = [pool.getconn(timeout=5) for _ in range(IDLE)]
    report.add(f"{lost} connections killed in a transaction: capacity lost", IDLE - len(conns), "<= 0")
    for conn in conns:
        pool.putconn(conn)
    admin.close()
    pool.close()


def spread(report: Report) -> None:
    """A hundred connections, opened at the same time."""
    pool = dbpool.ThreadedConnectionPool(100, 100, connect=FakeConnector(Fake.connect))
    ends = [entry.use_by for entry in pool._entries.values()]
    part = (max(ends) - min(ends)) / pool._config.max_lifetime
    report.add("100 opened at once: spread of their expiry / max_lifetime", part, ">= 0.05")
    pool.close()


def pythons() -> dict[str, str]:
    """Return each CPython from 3.9 on that is found, by its version."""
    found = {}
    for minor in range(9, 15):
        version = f"3.{minor}"
        installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        path = str(installed[0]) if installed else shutil.which(f"python{version}")
        if path and subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0:
            found[version] = path
    return found


SCRIPT = """
import sqlite3, sys, time
sys.path.insert(0, sys.argv[1])
import dbpool
from dbpool.housekeeper import housekeeper
pool = dbpool.ThreadedConnectionPool(2, 4, "file:x?mode=memory", uri=True, connect=sqlite3.connect)
conn = pool.getconn()
assert housekeeper.running
if sys.argv[2] == "closed":
    pool.putconn(conn)
    pool.close()
print(time.time())
"""


def exits(report: Report) -> None:
    """A script ends with its pool open, a connection leased and the housekeeper running."""
    here = str(Path(__file__).parent.parent)
    noise = ""

    def ending(path: str, how: str) -> Callable[[], float]:
        def run() -> float:
            nonlocal noise
            done = subprocess.run([path, "-c", SCRIPT, here, how], check=True, capture_output=True, text=True)
            ended = time.time()
            noise += done.stderr
            return ended - float(done.stdout)

        return run

    for version, path in pythons().items():
        best = interleaved({how: ending(path, how) for how in ("open", "closed")}, 5)
        extra = (best["open"] - best["closed"]) * 1000
        report.add(f"CPython {version}: ms that an open pool adds to the exit", extra, "<= 100")
    report.add("... characters on stderr", len(noise), "<= 0", noise[:60])


def main() -> None:
    """Run all, print, write."""
    report = Report("Healing")
    spread(report)
    exits(report)
    with clusters() as start:
        cluster = start()
        killed(report, cluster)
        restarted(report, cluster)
        frozen(report, cluster)
        lost_in_transactions(report, cluster)
    report.finish()


if __name__ == "__main__":
    main()
