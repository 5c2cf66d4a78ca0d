"""What the benchmarks share: interleaved rounds, fake connections that two pools can take, tables and --json."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from operator import attrgetter, methodcaller
from types import SimpleNamespace
from typing import Any, Callable

from dbpool import AsyncConnector, Connector


class Fake:
    """A connection that costs nothing, and that psycopg2's pools and psycopg_pool take for one of their driver's."""

    closed = False  # what psycopg2's pools look at first ...

    def __init__(self) -> None:
        self.pgconn = SimpleNamespace(transaction_status=0)  # what psycopg_pool looks at
        self.info = self.pgconn  # ... and then
        self.status = 0  # what we look at

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Fake:
        return cls()

    def cursor(self) -> None:
        return None

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass

    def close(self) -> None:
        self.status = 4
        self.pgconn.transaction_status = 4

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()


class FakeConnector(Connector):
    """Asks a Fake for its status, which costs what asking a psycopg2 connection does."""

    def __init__(self, connect: Callable[[], Any] = Fake.connect) -> None:
        super().__init__(connect)
        self.unfit = self.dirty = attrgetter("status")
        self.commit, self.rollback = methodcaller("commit"), methodcaller("rollback")


class AsyncFake:
    """A connection that costs nothing, and that psycopg_pool takes for one of psycopg's."""

    def __init__(self) -> None:
        self.pgconn = SimpleNamespace(transaction_status=0)  # what psycopg_pool looks at
        self.status = 0  # what we look at

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> AsyncFake:
        return cls()

    async def close(self) -> None:
        self.status = 4
        self.pgconn.transaction_status = 4


class AsyncFakeConnector(AsyncConnector):
    """Asks a fake for its status, which costs what asking a psycopg connection does."""

    def __init__(self, connect: Any = AsyncFake.connect) -> None:
        super().__init__(connect)
        self.unfit = self.dirty = attrgetter("status")


def interleaved(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Run all in turn, *rounds* times; return the quietest round of each: noise only ever adds."""
    results: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            results[name].append(run())
    return {name: min(values) for name, values in results.items()}


async def bytes_per_task(work: Callable[[], Any], count: int) -> float:
    """Return what each of *count* tasks takes that do *work*, which does not end."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tasks = [asyncio.ensure_future(work()) for _ in range(count)]
    await asyncio.sleep(0.2)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return (after - before) / count


def median_ratio(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Run both in turn; return the medians of ours, of theirs, and of the ratio pair by pair."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[0] / pair[1] for pair in pairs),
    )


def seconds_of(work: Callable[[], Any]) -> float:
    """Return how long *work* takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Report:
    """Figures with what they must be: a line each, and --json FILE."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.figures: dict[str, dict[str, Any]] = {}
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
        parser.add_argument(
            "--dsn", default=os.environ.get("DBPOOL_BENCH_DSN"), help="a PostgreSQL (else one is started)"
        )
        self.options = parser.parse_args()
        print(
            f"{title}\nCPython {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}\n", flush=True
        )

    def add(self, what: str, value: float, must: str, detail: str = "") -> None:
        """Note one figure; *must* is like "<= 0.7" or ">= 5"."""
        sign, limit = must.split()
        met = value <= float(limit) if sign in ("<=", "<") else value >= float(limit)
        self.figures[what] = {"value": round(value, 4), "must": must, "met": met, "detail": detail}
        print(f"{what:<66} {value:8.3f}  must be {must:<8} {'met' if met else 'MISSED'}   {detail}", flush=True)

    def finish(self) -> None:
        """Write the JSON; the exit status says whether all figures were met."""
        if self.options.json:
            with open(self.options.json, "w", encoding="utf-8") as file:
                machine = {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.platform()}
                json.dump({"title": self.title, "machine": machine, "figures": self.figures}, file, indent=2)
                file.write("\n")
        sys.exit(0 if all(figure["met"] for figure in self.figures.values()) else 1)
