"""Run in a network namespace of its own: measures a pool while the kernel drops every packet, and prints the figures.

Its arguments: the path of a server's Unix socket, which works from any namespace, and the commands that begin to drop
what goes through the loopback, and end it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any, Callable

import psycopg2
from faultproxy import FaultProxy

from dbpool import PoolTimeout, ThreadedConnectionPool


def shell(command: str) -> None:
    subprocess.run(command.split(), check=True)


def attempt(work: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, float]:
    """Say whether a call was answered or what ended it, and how many seconds it took."""
    began = time.monotonic()
    try:
        work(*args, **kwargs)
        end = "answered"
    except PoolTimeout:
        end = "PoolTimeout"
    except psycopg2.OperationalError:
        end = "OperationalError"
    return end, time.monotonic() - began


def use(conn: Any) -> None:
    with conn.cursor() as cursor:
        cursor.execute("SELECT 1")


def measure(path: str, cut: str, mend: str) -> dict[str, Any]:
    """Return what befell whom, and after how many seconds."""
    shell("ip link set lo up")
    with FaultProxy(path) as proxy:
        dsn = f"host=127.0.0.1 port={proxy.port} user=postgres dbname=postgres"
        config = {"ping_after": 0, "check_timeout": 0.4, "connect_timeout": 1, "detect_deadlock": False}
        pool = ThreadedConnectionPool(0, 4, dsn, config=config)
        limited = psycopg2.connect(dsn, tcp_user_timeout=1000)  # milliseconds
        control = psycopg2.connect(dsn)
        idle, leased = pool.getconn(), pool.getconn()
        use(leased)
        pool.putconn(idle)
        shell(cut)
        hung = threading.Thread(target=attempt, args=(use, control), daemon=True)
        hung.start()
        figures = {
            "getconn, timeout 0.7": attempt(pool.getconn, timeout=0.7),
            "putconn, check_timeout 0.4": attempt(pool.putconn, leased),
            "discards": pool.stats().discards,
            "statement, tcp_user_timeout 1": attempt(use, limited),
            "driver alone hangs": hung.is_alive(),
        }
        shell(mend)
        figures["getconn, mended"] = attempt(lambda: use(pool.getconn()))
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])), flush=True)
