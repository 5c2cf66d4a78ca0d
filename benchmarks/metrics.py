"""What numbers cost: hits while metrics are scraped, a scrape of many pools, and the memory of a history."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

from common import FakeConnector, Report, interleaved, seconds_of
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

import dbpool
from dbpool.metrics.prometheus import PoolCollector

ROUNDS, SECONDS = 40, 0.3  # a scrape in each: more often than any server does
POOLS, CONNECTIONS = 50, 20


def get_and_put(pool: Any, registry: CollectorRegistry | None = None) -> Callable[[], float]:
    """Return a round: nanoseconds for one getconn and putconn; with a *registry* it is scraped once.

    Counted is what the process has computed, in all its threads: so what the scrape takes is in it.
    """

    def run() -> float:
        scrape = threading.Timer(SECONDS / 2, generate_latest, [registry])
        if registry is not None:
            scrape.start()
        calls, began, ends = 0, time.process_time(), time.perf_counter() + SECONDS
        while time.perf_counter() < ends:
            for _ in range(1000):
                pool.putconn(pool.getconn())
            calls += 1000
        if registry is not None:
            scrape.join()
        return (time.process_time() - began) / calls * 1e9

    return run


def hits(report: Report) -> None:
    """Two pools alike: the metrics of one are scraped, and its history is kept."""
    plain, watched = (dbpool.ThreadedConnectionPool(1, 1, connect=FakeConnector()) for _ in range(2))
    registry = CollectorRegistry()
    registry.register(PoolCollector(watched))
    watched.history()
    best = interleaved({"with": get_and_put(watched, registry), "without": get_and_put(plain)}, ROUNDS)
    what = "getconn + putconn, scraped each 0.3 s, with a history / without"
    detail = f"{best['with']:.0f} ns / {best['without']:.0f} ns"
    report.add(what, best["with"] / best["without"], "<= 1.03", detail)
    plain.close()
    watched.close()


def scrapes(report: Report) -> None:
    """Fifty pools of twenty connections that have counted something of everything."""
    pools = [dbpool.ThreadedConnectionPool(CONNECTIONS, CONNECTIONS, connect=FakeConnector()) for _ in range(POOLS)]
    for pool in pools:
        pool.putconn(pool.getconn(), close=True)
        pool._state.tally.dead.update(("watch", "ping"))
    collector, registry = PoolCollector(*pools), CollectorRegistry()
    registry.register(collector)
    took = {
        "stats": min(seconds_of(lambda: [pool.stats() for pool in pools]) for _ in range(100)),
        "collect": min(seconds_of(lambda: list(collector.collect())) for _ in range(100)),
        "text": min(seconds_of(lambda: generate_latest(registry)) for _ in range(50)),
        "openmetrics": min(seconds_of(lambda: openmetrics.generate_latest(registry)) for _ in range(50)),
    }
    lines = generate_latest(registry).count(b"\n")
    detail = (
        f"{lines} lines; of it stats() {took['stats'] * 1000:.1f} ms, our collector {took['collect'] * 1000:.1f} ms"
    )
    detail += f"; as OpenMetrics {took['openmetrics'] * 1000:.1f} ms over all"
    report.add(f"a scrape of {POOLS} pools of {CONNECTIONS} connections, ms", took["text"] * 1000, "<= 10", detail)
    for pool in pools:
        pool.close()


def histories(report: Report) -> None:
    """The rows of the default history."""
    pool = dbpool.ThreadedConnectionPool(1, 1, connect=FakeConnector())
    report.add("the history of a pool, kB", pool.history().nbytes / 1000, "<= 500")
    pool.close()


def main() -> None:
    """Run all, print, write."""
    report = Report("Metrics")
    hits(report)
    scrapes(report)
    histories(report)
    report.finish()


if __name__ == "__main__":
    main()
