"""What a workload is given: how thorough to be, the servers, and the peers for each kind of connection."""

from __future__ import annotations

import contextlib
import gc
import logging
import tempfile
import time
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Callable

from benchmarks.peers import SYNC, Peer, Source, installed
from benchmarks.results import Results, Workload
from benchmarks.serving import clusters, mariadb

if TYPE_CHECKING:
    from collections.abc import Iterator

# A quick run has the peers that the figures name, and the best of the others.
QUICK = frozenset((
    "dbpool Threaded", "dbpool twin Threaded", "dbpool twin Threaded, clean", "dbpool twin Simple",
    "dbpool twin Simple, clean",
    "dbpool with-block", "psycopg2.pool Threaded", "psycopg2.pool Simple", "psycopg2.pool + Semaphore", "psycopg_pool",
    "psycopg_pool with-block", "SQLAlchemy QueuePool", "dbpool Async", "psycopg_pool async", "dbpool Async (asyncpg)",
    "asyncpg's pool", "psycopg2.pool", "psycopg_pool", "SQLAlchemy", "dbpool",
))  # fmt: skip


class Bench:
    """One run. *quick*: a minute of it, with fewer rounds and peers."""

    def __init__(self, quick: bool = False) -> None:
        self.quick = quick
        self.results: Results = {}
        self.seconds: dict[str, float] = {}
        self.peers, self.notes = installed(SYNC)
        self.cluster: Any = None  # a PostgreSQL of our own
        self.start: Callable[[], Any] = _no_cluster  # starts one more
        self.mysql: dict[str, Any] | None = None
        self.folder = Path()

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Have the servers run."""
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbpool-bench-")))
            self.start = stack.enter_context(clusters())
            self.cluster = self.start()
            self.mysql = stack.enter_context(mariadb())
            if self.mysql is None:
                self.notes.append("MySQL: left out, no mariadbd on this machine")
            yield

    def rounds(self, full: int) -> int:
        """Return how many rounds to run of what has *full* when it is thorough."""
        return max(3, full // 8) if self.quick else full

    def source(self, kind: str, delay: float = 0.0) -> Source:
        """Return where connections of a kind come from."""
        if kind == "fake":
            return Source(kind, delay=delay)
        if kind == "sqlite":
            return Source(kind, {"database": str(self.folder / "bench.db")})
        if kind == "mysql":
            return Source(kind, dict(self.mysql or {}))
        dsn = self.cluster.tcp_dsn if kind == "ksycopg2" else self.cluster.dsn
        return Source(kind, dict(word.split("=", 1) for word in dsn.split()))

    def pooling(self, kind: str, fits: Callable[[Peer], bool] = lambda _: True) -> list[Peer]:
        """Return the peers that can pool such connections."""
        if kind == "mysql" and self.mysql is None:
            return []
        return [peer for peer in self.peers if kind in peer.kinds and fits(peer) and self.wants(peer.name)]

    def wants(self, name: str) -> bool:
        """Tell whether a peer takes part."""
        return not self.quick or name in QUICK

    def run(self, name: str, title: str, work: Callable[[Bench, Workload], None]) -> Workload:
        """Run one workload."""
        workload = self.results[name] = Workload(name, title)
        began = time.perf_counter()
        with quiet():
            work(self, workload)
        self.seconds[name] = round(time.perf_counter() - began, 1)
        return workload


def _no_cluster() -> Any:
    raise RuntimeError("no server runs: call within serving()")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log lines, and what there is is no garbage of the work's."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        logging.disable(logging.NOTSET)


def afresh(function: Any) -> Any:
    """Return a copy with a code object of its own: what CPython learns about one peer's calls, no other inherits."""
    copied = FunctionType(
        function.__code__.replace(co_name=function.__name__),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied
