"""What must not be felt: a slow connect beside hits, and asyncio by those who import dbpool."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from common import Fake, FakeConnector, Report, seconds_of

import dbpool

CONNECT, HITS = 3.0, 200


def beside_a_connect(report: Report) -> None:
    """A slow connect is in flight; another thread uses an idle connection."""
    quick = [Fake()]

    def connect() -> Fake:
        if quick:
            return quick.pop()
        time.sleep(CONNECT)
        return Fake()

    pool = dbpool.ThreadedConnectionPool(1, 2, connect=FakeConnector(connect))
    held = pool.getconn()
    waiting = threading.Thread(target=lambda: pool.putconn(pool.getconn()))
    waiting.start()
    while not pool.stats().connecting:
        time.sleep(0.001)
    pool.putconn(held)  # goes to the one who waits; the connect goes on
    waiting.join()
    assert pool.stats().connecting == 1
    took = max(seconds_of(lambda: pool.putconn(pool.getconn())) for _ in range(HITS))
    assert pool.stats().connecting == 1, "the connect ended too early to tell"
    what = f"a {CONNECT:g} s connect in flight: slowest of {HITS} getconn + putconn, ms"
    report.add(what, took * 1000, "<= 10")
    pool.closeall()


def without_asyncio(report: Report) -> None:
    """Who uses no asyncio loads none."""
    code = "import dbpool, sys; print(int('asyncio' in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    report.add("asyncio in sys.modules after import dbpool", float(loaded), "<= 0")


def main() -> None:
    """Run all, print, write."""
    report = Report("What must not be felt")
    beside_a_connect(report)
    without_asyncio(report)
    report.finish()


if __name__ == "__main__":
    main()
