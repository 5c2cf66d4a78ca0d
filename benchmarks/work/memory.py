"""Memory: an empty pool, each idle connection beyond the connection itself, each thread that waits; and time to import.

Each figure is of a process of its own, `python -m benchmarks.work.memory PEER KIND ARGUMENTS`, which prints it as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from benchmarks.peers import SYNC, Source, is_installed
from benchmarks.results import interleaved

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.results import Workload

TITLE = "Memory and import"
POOL, IDLE, WAITER, IMPORT = "an empty pool", "an idle connection", "a waiting thread", "import"
BYTES, CPU = "memory beyond the driver's", "CPU beyond an empty process"
CONNECTIONS, WAITERS = 40, 200
KEPT: list[Any] = []
DRIVERS = ("*/psycopg2/[!p]*", "*/psycopg/*", "*/psycopg_binary/*")  # but for psycopg2/pool.py
NOT_OURS = [
    tracemalloc.Filter(False, pattern) for pattern in (tracemalloc.__file__, f"{Path(__file__).parents[1]}/*", *DRIVERS)
]
MODULES = {
    "dbpool": "dbpool",
    "psycopg2.pool": "psycopg2.pool",
    "psycopg_pool": "psycopg_pool",
    "SQLAlchemy QueuePool": "sqlalchemy.pool",
    "DBUtils PooledDB": "dbutils.pooled_db",
    "generic-connection-pool": "generic_connection_pool.threading",
    "pooling": "pooling",
    "peewee PooledDatabase": "playhouse.pool",
    "mysql.connector.pooling": "mysql.connector.pooling",
    "asyncpg": "asyncpg",
    "aiopg": "aiopg",
}
ROOT = str(Path(__file__).resolve().parents[2])


def traced(make: Callable[[], Any]) -> tuple[float, Any]:
    """Return what *make* took and keeps, in bytes, but for what the drivers' own lines took; and what it returned."""
    gc.collect()
    before = tracemalloc.take_snapshot()
    made = make()
    gc.collect()
    after = tracemalloc.take_snapshot()
    first, second = before.filter_traces(NOT_OURS), after.filter_traces(NOT_OURS)
    return sum(each.size_diff for each in second.compare_to(first, "filename")), made


def of_peer(name: str, kind: str, arguments: dict[str, Any]) -> dict[str, float]:
    """Return the figures of one peer, in this process."""
    peer = next(peer for peer in SYNC if peer.name == name)
    peer.open(Source(kind, arguments), 2).close()  # what it imports and makes once
    tracemalloc.start()
    pool_bytes, empty = traced(lambda: peer.open(Source(kind, arguments), CONNECTIONS, 0))
    found = {POOL: pool_bytes}
    empty.close()
    if peer.fills:
        full_bytes, full = traced(lambda: peer.open(Source(kind, arguments), CONNECTIONS))
        found[IDLE] = (full_bytes - pool_bytes) / CONNECTIONS
        full.close()
    if peer.waits:
        found[WAITER] = of_waiters(peer.open(Source("fake"), 1).get) - of_waiters(threading.Lock().acquire)
    return found


def of_waiters(get: Callable[[], Any]) -> float:
    """Return what each of many threads takes that wait in *get*, where as many wait already."""
    held = get()
    taken = []
    for _ in range(2):
        threads = [threading.Thread(target=get, daemon=True) for _ in range(WAITERS)]
        before, _ = tracemalloc.get_traced_memory()
        for thread in threads:
            thread.start()
        time.sleep(0.2)  # until all wait; nobody tells when
        taken.append(tracemalloc.get_traced_memory()[0] - before)
    KEPT.append(held)
    return taken[1] / WAITERS


def in_process(name: str, source: Source) -> dict[str, float]:
    """Return the figures of one peer, from a process of its own, in which nothing else was done."""
    command = [sys.executable, "-m", "benchmarks.work.memory", name, source.kind, json.dumps(source.arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def importing(module: str) -> Callable[[], dict[str, float]]:
    """Return a round: the CPU that a process takes which imports *module*."""
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = f"import {module}" if module else "pass"

    def run() -> dict[str, float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env=compiled, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {CPU: (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000}

    return run


def imports(bench: Bench, tape: Workload) -> None:
    """Measure whole processes in turn, less an empty one."""
    there = {name: module for name, module in MODULES.items() if is_installed(module) and bench.wants(name)}
    runs = {"": importing(""), **{name: importing(module) for name, module in there.items()}}
    samples = interleaved(runs, bench.rounds(9))[CPU]
    empty = samples.pop("")
    tape.add(
        IMPORT, CPU, "ms",
        {name: [each - none for each, none in zip(values, empty)] for name, values in samples.items()},
    )  # fmt: skip


def run(bench: Bench, tape: Workload) -> None:
    """Measure all."""
    found: dict[str, dict[str, list[float]]] = {POOL: {}, IDLE: {}, WAITER: {}}
    for kind in ("psycopg2", "psycopg"):
        for peer in bench.pooling(kind):
            if "twin" in peer.name or peer.name in found[POOL] or (bench.quick and not peer.waits):
                continue
            for case, value in in_process(peer.name, bench.source(kind)).items():
                found[case][peer.name] = [value]
    for case, samples in found.items():
        tape.add(case, BYTES, "B", samples)
    imports(bench, tape)


if __name__ == "__main__":
    print(json.dumps(of_peer(*sys.argv[1:3], json.loads(sys.argv[3]))), flush=True)
    os._exit(0)  # those who wait, wait for ever
