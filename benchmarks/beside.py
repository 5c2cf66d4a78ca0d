"""What must not be felt: a slow connect beside hits, asyncio by those who import dbpool, one waiter of ten thousand."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from common import Fake, FakeConnector, Report, seconds_of

import dbpool

CONNECT, HITS = 3.0, 200
QUEUED, CANCELLED = 10_000, 40


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


async def cancelling(report: Report) -> None:
    """One of many who wait is cancelled."""
    many, few = await seconds_to_cancel(QUEUED), await seconds_to_cancel(100)
    detail = f"{many * 1e6:.1f} / {few * 1e6:.1f} us"
    report.add(f"cancelling one waiter of {QUEUED} / of 100", many / few, "<= 3", detail)


async def seconds_to_cancel(queued: int) -> float:
    """Return what it takes to cancel one in the middle of so many."""

    async def connect() -> Any:
        return SimpleNamespace(status=0, close=closed)

    async def closed() -> None:
        pass

    connector = dbpool.AsyncConnector(connect)
    connector.unfit = connector.dirty = attrgetter("status")
    async with dbpool.AsyncConnectionPool(1, 1, connect=connector, config={"timeout": None}) as pool:
        held = await pool.getconn()
        tasks = [asyncio.ensure_future(pool.getconn()) for _ in range(queued)]
        await asyncio.sleep(0.2)
        best = []
        for task in tasks[queued // 2 : queued // 2 + CANCELLED]:
            began = time.perf_counter()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            best.append(time.perf_counter() - began)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await pool.putconn(held)
    return min(best)


def main() -> None:
    """Run all, print, write."""
    report = Report("What must not be felt")
    beside_a_connect(report)
    without_asyncio(report)
    asyncio.run(cancelling(report))
    report.finish()


if __name__ == "__main__":
    main()
