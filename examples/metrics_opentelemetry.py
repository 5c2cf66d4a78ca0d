"""A pool's metrics by the names of OpenTelemetry's semantic conventions, written to the terminal.

    python examples/metrics_opentelemetry.py shop.db

In place of ConsoleMetricExporter, take the exporter that leads to your collector.
"""

from __future__ import annotations

import sqlite3
import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

from dbpool import ThreadedConnectionPool
from dbpool.metrics.opentelemetry import instrument

if __name__ == "__main__":
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(), export_interval_millis=5000)
    provider = MeterProvider([reader])
    with ThreadedConnectionPool(1, 3, sys.argv[1], connect=sqlite3, config={"name": "shop"}) as pool:
        instrument(pool, meter_provider=provider, use_time=True)
        for _ in range(100):  # your program
            with pool.connection() as conn:
                conn.execute("SELECT 6 * 7").fetchone()
        provider.force_flush()
    provider.shutdown()
