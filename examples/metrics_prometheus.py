"""All pools of a program as metrics for Prometheus: one line to register, nothing that the pools have to do.

    python examples/metrics_prometheus.py 9100 shop.db
    curl http://127.0.0.1:9100/metrics

examples/grafana.json shows them.
"""

from __future__ import annotations

import sqlite3
import sys
import time

from prometheus_client import CollectorRegistry, start_http_server

from dbpool import ThreadedConnectionPool
from dbpool.metrics.prometheus import PoolCollector

if __name__ == "__main__":
    registry = CollectorRegistry()
    registry.register(PoolCollector())  # without arguments: every pool that is open when it is scraped
    start_http_server(int(sys.argv[1]), "127.0.0.1", registry)
    with ThreadedConnectionPool(1, 3, sys.argv[2], connect=sqlite3, config={"name": "shop"}) as pool:
        while True:  # your program
            with pool.connection() as conn:
                conn.execute("SELECT 6 * 7").fetchone()
            time.sleep(0.1)
