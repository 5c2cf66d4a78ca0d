"""Scene: the server, the proxy before it, the pool under test, and what load, faults and sampler share."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Callable

import psycopg2
from clusters import _status, installed, new_cluster
from faultproxy import FaultProxy
from servers import choose_for_clusters

from dbpool import ThreadedConnectionPool

from .events import Journal
from .history import Violation
from .recovery import Tracker
from .traced import Census

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clusters import Cluster

MINCONN, MAXCONN = 2, 8
CHECK_TIMEOUT = 0.4  # seconds
# Seconds, longer than any fault lasts: who waits in line then fails only if the pool lets him down. (A connect that
# hangs for connect_timeout is told to the caller for whom it was made, however long he would have waited.)
CONNECT_TIMEOUT, TIMEOUT = 10.0, 20.0
LOOK = 0.01  # seconds between two looks
DIRECT = 4  # each so manieth connection goes by the Unix socket, the others through the proxy
CONFIG = {
    "name": "chaos",
    "timeout": TIMEOUT,
    "check_timeout": CHECK_TIMEOUT,
    "connect_timeout": CONNECT_TIMEOUT,
    "check_after": 0.05,
    "ping_after": 5.0,
}
TABLE = "CREATE TABLE token (token text, pid integer); CREATE INDEX ON token (token)"
QUIET = "options='-c client_min_messages=error'"  # libpq would write a server's farewell to stderr
# What failed is told apart from what was acknowledged: so the server must keep its word across a crash.
SETTINGS = {"synchronous_commit": "on"}


class Scene:
    """All that a run is made of."""

    def __init__(self, cluster: Cluster, proxy: FaultProxy, journal: Journal, seed: int) -> None:
        self.cluster, self.proxy, self.journal, self.seed = cluster, proxy, journal, seed
        self.rng = random.Random(f"{seed} faults")
        self.census = Census(CONNECT_TIMEOUT)
        self.tracker = Tracker()
        self.violations: list[Violation] = []
        self.leases = itertools.count(1)
        self.numbers = itertools.count(1)  # of connections, to choose their way
        self.limits: list[tuple[float, int]] = []  # since when which maxconn
        self.deaf = False  # a fault is on that keeps backends from noticing their end ...
        self.hears_since = 0.0  # ... or it ended then
        self.pool: Any = None

    def open_pool(self) -> None:
        """Make the pool under test."""
        self.journal.note("invoke", "resize", data=MAXCONN)
        self.limits.append((time.monotonic(), MAXCONN))
        self.pool = self._made_pool()
        self.journal.note("ok", "resize", data=MAXCONN)

    def _made_pool(self) -> Any:
        return ThreadedConnectionPool(
            MINCONN, MAXCONN, self.dsn, connect=psycopg2, config=CONFIG, connection_factory=self.census.factory()
        )

    # ---- what differs from a pool whose calls are awaited -----------------------------------------------------------

    shown = "threads, psycopg2"
    who: Any = staticmethod(threading.get_ident)  # who notes something
    may_drop = True  # an interrupt may strike between getconn and who has called it
    error: Any = psycopg2.Error  # what the driver and the pool raise

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing runs for threads."""

    def look(self, at: Callable[[], None]) -> None:
        """Call *at*, which looks at the pool's state, while nothing changes there."""
        with self.pool._lock:
            at()

    def number_of(self, ident: Any) -> int:
        """Return who waits, as the history has it."""
        return int(ident)

    def try_out(self, conn: Any) -> None:
        """See that a leased connection answers."""
        with conn.cursor() as cursor:
            cursor.execute("SELECT 1")

    def count_tasks(self) -> int:
        """Return how many tasks there are."""
        return 0

    # ---- what does not ----------------------------------------------------------------------------------------------

    def dsn(self) -> str:
        """Return the way for the next connection. Each process has a name of its own at the server."""
        return f"{self.way()} application_name={name()} sslmode=disable gssencmode=disable {QUIET}"

    def way(self) -> str:
        """Return the server's DSN, or the proxy's."""
        direct = next(self.numbers) % DIRECT == 0
        return (
            self.cluster.dsn if direct else self.cluster.tcp_dsn.replace(str(self.cluster.port), str(self.proxy.port))
        )

    def resize(self, minconn: int, maxconn: int) -> None:
        """Change the pool's sizes, and write it down."""
        self.journal.note("invoke", "resize", data=maxconn)
        self.limits.append((time.monotonic(), maxconn))
        self.pool.resize(minconn, maxconn)
        self.journal.note("ok", "resize", data=maxconn)

    def limit(self, seconds: float) -> int:
        """Return the largest maxconn that was in force in the last so many seconds."""
        since = time.monotonic() - seconds
        over = [limit for (_, limit), (end, _) in zip(self.limits, self.limits[1:]) if end >= since]
        return max([*over, self.limits[-1][1]])

    def accuse(self, rule: str, text: str) -> None:
        """Write down what is wrong and no history tells."""
        self.violations.append(Violation(rule, time.monotonic(), text))

    def ask(self, query: str, *parameters: Any) -> list[Any]:
        """Ask the server, as its administrator; return the rows."""
        with closing(psycopg2.connect(self.cluster.dsn, application_name="administrator")) as conn:
            conn.autocommit = True
            with conn.cursor() as cursor:
                cursor.execute(query, parameters)
                return cursor.fetchall() if cursor.description else []

    def backends(self, of: str | None = None) -> list[int]:
        """Return the backends of this process's pool, or of all whose application_name is LIKE *of*."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s ORDER BY pid"
        return [pid for (pid,) in self.ask(query, of or name())]


def name() -> str:
    """The application_name of this process's pool."""
    return f"chaos-{os.getpid()}"


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    return _status(pid)[0] in "ZX"


def within(seconds: float, is_so: Callable[[], Any]) -> bool:
    """Wait until *is_so*() is true; False if it was not so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK)
    return True


@contextmanager
def staged(folder: Path, seed: int, kind: type[Scene]) -> Iterator[tuple[Any, str]]:
    """Yield a scene of this *kind* whose server runs, and how the server was found. Its pool is not open yet."""
    found, how = choose_for_clusters(os.environ.get("DBPOOL_TEST_SERVER", "auto"))
    with ExitStack() as stack:
        installation = stack.enter_context(installed(found.binaries))
        cluster = stack.enter_context(new_cluster(installation, **SETTINGS)).start()
        proxy = stack.enter_context(FaultProxy(("127.0.0.1", cluster.port)))
        journal = stack.enter_context(Journal(folder, kind.who))
        scene = stack.enter_context(kind(cluster, proxy, journal, seed))
        scene.ask(TABLE)
        yield scene, how
