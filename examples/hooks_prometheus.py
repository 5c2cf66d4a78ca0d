"""What happens in a pool, as metrics for Prometheus: a listener that counts and times, and gauges read at each scrape.

    python examples/hooks_prometheus.py 9100 shop.db
    curl http://127.0.0.1:9100/metrics

A listener's methods are called without a lock held, in the thread where it happens: keep them short. On an
AsyncConnectionPool they may be asynchronous.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from dbpool import PoolListener, ThreadedConnectionPool

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60)  # the limits of the histograms' buckets


class PrometheusListener(PoolListener):
    """Fills metrics; each is labelled with the pool's name, so that one listener serves all pools of a program."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"dbpool_{name}", text, ("pool", *labels), registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"dbpool_{name}_seconds", text, ("pool",), buckets=SECONDS, registry=registry)

        self.connects = histogram("connect", "How long opening a connection took")
        self.waits = histogram("wait", "How long those waited who had to, and were served")
        self.leases = histogram("lease", "How long connections were held")
        self.timeouts = counter("timeouts", "Callers who got nothing in time")
        self.failures = counter("connect_failures", "Connections that could not be opened", "error")
        self.discards = counter("discards", "Connections that were closed", "reason")
        self.leaks = counter("leaks", "Connections held for longer than leak_threshold")

    def connected(self, pool: Any, conn: Any, seconds: float) -> None:
        """A connection was opened."""
        self.connects.labels(pool.name).observe(seconds)

    def connect_failed(self, pool: Any, error: BaseException) -> None:
        """Opening one failed. The class of the error is a label, not its text: there are too many of those."""
        self.failures.labels(pool.name, type(error).__name__).inc()

    def waited(self, pool: Any, seconds: float) -> None:
        """A caller had to wait."""
        self.waits.labels(pool.name).observe(seconds)

    def timed_out(self, pool: Any, seconds: float) -> None:
        """A caller got nothing."""
        self.timeouts.labels(pool.name).inc()

    def released(self, pool: Any, conn: Any, seconds: float) -> None:
        """A connection came back."""
        self.leases.labels(pool.name).observe(seconds)

    def discarded(self, pool: Any, reason: str) -> None:
        """A connection was closed."""
        self.discards.labels(pool.name, reason).inc()

    def leaked(self, pool: Any, user: Any) -> None:
        """A connection is held for too long."""
        self.leaks.labels(pool.name).inc()


class PoolGauges:
    """The state of pools at the moment of a scrape. stats() is a snapshot, and takes no time worth mentioning."""

    def __init__(self, *pools: Any) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """What the registry asks for."""
        gauge = GaugeMetricFamily("dbpool_connections", "Connections and callers, by state", labels=("pool", "state"))
        for pool in self._pools:
            stats = pool.stats()
            for state in ("idle", "used", "connecting", "waiting"):
                gauge.add_metric((pool.name, state), getattr(stats, state))
        yield gauge


def open_pool(path: str, registry: CollectorRegistry, **options: object) -> ThreadedConnectionPool[sqlite3.Connection]:
    """Return a pool whose metrics are in *registry*."""
    config = {"name": "shop", "listener": PrometheusListener(registry), "timeout": 2, **options}
    pool = ThreadedConnectionPool(1, 3, path, connect=sqlite3, config=config)
    registry.register(PoolGauges(pool))
    return pool


if __name__ == "__main__":
    metrics = CollectorRegistry()
    with open_pool(sys.argv[2], metrics) as shop:
        start_http_server(int(sys.argv[1]), "127.0.0.1", metrics)
        while True:  # your program
            with shop.connection() as conn:
                conn.execute("SELECT 6 * 7").fetchone()
            time.sleep(1)
