"""Process: what is told of it: number, age, versions; and which of its threads are the monitor's own."""

from __future__ import annotations

import os
import platform
import sys
from _thread import get_ident
from contextlib import contextmanager, suppress
from importlib import metadata
from time import monotonic
from typing import TYPE_CHECKING, Any

from dbpool.clock import slept
from dbpool.housekeeper import housekeeper

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADED = monotonic()
START = 19  # of /proc/PID/stat, counted from behind the name: when the process began, in ticks since the machine did
DRIVERS = ("psycopg2", "psycopg", "ksycopg2", "asyncpg", "pymysql", "MySQLdb", "aiomysql", "aiosqlite", "sqlite3")


def _version() -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version("dbapi-pool")
    return "unknown"


VERSION = _version()  # read now: it imports, and a fork while a thread imports locks that module in the child for ever


@contextmanager
def helping() -> Iterator[None]:
    """Count this thread as one that never puts a connection back: it is no hope for those who wait for one."""
    ident, helpers = get_ident(), housekeeper.helpers
    again = ident in helpers
    helpers.add(ident)
    try:
        yield
    finally:
        if not again:
            helpers.discard(ident)


def age() -> float:
    """Return for how many seconds the process has been there; where the system does not tell, since this was loaded."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        with open("/proc/self/stat", "rb") as file:  # text would import its codec: a fork meanwhile locks it for ever
            ticks = int(file.read().rpartition(b")")[2].split()[START])
        return monotonic() + slept() - ticks / os.sysconf("SC_CLK_TCK")
    return monotonic() - LOADED


def line() -> dict[str, Any]:
    """Return what the state says of the process."""
    return {
        "pid": os.getpid(),
        "uptime": round(max(0.0, age()), 1),
        "python": platform.python_version(),
        "dbpool": VERSION,
    }


def versions() -> dict[str, Any]:
    """Return all that is running here, of the drivers those that are loaded."""
    loaded = [(name, sys.modules.get(name)) for name in DRIVERS]
    drivers = {name: str(getattr(module, "__version__", "loaded")) for name, module in loaded if module is not None}
    return {
        "dbpool": VERSION,
        "python": " ".join(sys.version.split()),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "drivers": drivers,
    }
