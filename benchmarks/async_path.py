"""What the asynchronous pool costs beside psycopg_pool's and asyncpg's: hits, many tasks, memory, cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import asyncpg
import psycopg_pool
from common import AsyncFake, AsyncFakeConnector, Report, bytes_per_task

import dbpool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

ROUNDS, CALLS = 40, 2_000
TASKS, SIZE, HELD = 10_000, 10, 0.001  # tasks on connections, each held for so many seconds
QUEUED = 10_000


def ours(size: int, **config: Any) -> Any:
    """Return our pool over fakes."""
    return dbpool.AsyncConnectionPool(size, size, connect=AsyncFakeConnector(), config=config)


@contextlib.contextmanager
def postgres(dsn: str | None) -> Iterator[str]:
    """The server that was named, or one from the tests' chooser."""
    if dsn:
        yield dsn
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from servers import choose

    found, how = choose("auto")
    print(f"PostgreSQL: {how}\n")
    with found.serve() as served:
        yield served


async def nanoseconds(cycle: Callable[[], Awaitable[None]]) -> float:
    """Return what one of CALLS cycles takes."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await cycle()
    return (time.perf_counter() - began) / CALLS * 1e9


async def ratio(mine: Any, theirs: Any) -> tuple[float, float]:
    """Return the quietest round of each, measured in turn: noise only ever adds."""
    rounds = [(await nanoseconds(mine), await nanoseconds(theirs)) for _ in range(ROUNDS)]
    return min(pair[0] for pair in rounds), min(pair[1] for pair in rounds)


def cycle(get: Any, put: Any) -> Callable[[], Awaitable[None]]:
    """Return one get and put."""

    async def run() -> None:
        await put(await get())

    return run


async def fakes(report: Report) -> None:
    """One getconn and putconn, beside psycopg_pool's."""
    theirs = psycopg_pool.AsyncConnectionPool(connection_class=AsyncFake, min_size=1, max_size=1, open=False)
    async with ours(1) as pool:
        await theirs.open(wait=True)
        mine, their = await ratio(cycle(pool.getconn, pool.putconn), cycle(theirs.getconn, theirs.putconn))
        await theirs.close()
    detail = f"{mine:.0f} ns / {their:.0f} ns"
    report.add("getconn + putconn, fakes: ours / psycopg_pool", mine / their, "<= 0.25", detail)


async def real(report: Report, dsn: str) -> None:
    """The same on asyncpg's own connections, beside asyncpg's pool, without a reset in both."""
    words = dict(word.split("=", 1) for word in dsn.split())
    arguments = {"host": words["host"], "port": int(words["port"]), "user": words["user"], "database": words["dbname"]}
    theirs = await asyncpg.create_pool(**arguments, min_size=1, max_size=1, reset=_no_reset)
    async with dbpool.AsyncConnectionPool(1, 1, connect=asyncpg.connect, **arguments) as pool:
        mine, their = await ratio(cycle(pool.getconn, pool.putconn), cycle(theirs.acquire, theirs.release))
    await theirs.close()
    detail = f"{mine:.0f} ns / {their:.0f} ns"
    report.add("getconn + putconn, asyncpg's connections: ours / asyncpg's pool", mine / their, "<= 0.10", detail)


async def _no_reset(conn: Any) -> None:
    pass


async def crowd(report: Report) -> None:
    """Ten thousand tasks share ten connections."""
    waits: list[float] = []
    holds: list[float] = []

    async def work(pool: Any) -> None:
        began = time.perf_counter()
        async with pool.connection():
            got = time.perf_counter()
            await asyncio.sleep(HELD)
            holds.append(time.perf_counter() - got)
        waits.append(got - began)

    async with ours(SIZE, timeout=None) as pool:
        began = time.perf_counter()
        await asyncio.gather(*(work(pool) for _ in range(TASKS)))
        took = time.perf_counter() - began
    share = sum(holds) / (took * SIZE)
    fair = TASKS * statistics.mean(holds) / SIZE
    detail = f"{took:.2f} s, held for {statistics.mean(holds) * 1000:.2f} ms each"
    report.add(f"{TASKS} tasks on {SIZE}: held share", share, ">= 0.90", detail)
    report.add("... longest wait / (queue x mean hold / connections)", max(waits) / fair, "<= 1.3")


async def memory(report: Report, dsn: str) -> None:
    """What a task that waits takes."""
    words = dict(word.split("=", 1) for word in dsn.split())
    arguments = {"host": words["host"], "port": int(words["port"]), "user": words["user"], "database": words["dbname"]}
    async with ours(1) as pool:
        held = await pool.getconn()
        mine = await bytes_per_waiter(lambda: pool.getconn(timeout=10.0))
        await pool.putconn(held)
    theirs = await asyncpg.create_pool(**arguments, min_size=1, max_size=1)
    held = await theirs.acquire()
    their = await bytes_per_waiter(theirs.acquire)
    await theirs.release(held)
    await theirs.close()
    report.add("memory per waiting task: ours / asyncpg", mine / their, "<= 0.85", f"{mine:.0f} / {their:.0f} bytes")


async def bytes_per_waiter(get: Callable[[], Any]) -> float:
    """Return what each of QUEUED waiting tasks takes; acquire() makes no coroutine, so both are awaited in one."""

    async def wait() -> None:
        await get()

    return await bytes_per_task(wait, QUEUED)


async def cancelling(report: Report) -> None:
    """One of many who wait is cancelled."""

    async def seconds(queued: int) -> float:
        async with ours(1, timeout=None) as pool:
            held = await pool.getconn()
            tasks = [asyncio.ensure_future(pool.getconn()) for _ in range(queued)]
            await asyncio.sleep(0.2)
            best = []
            for task in tasks[queued // 2 : queued // 2 + 40]:
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

    many, few = await seconds(QUEUED), await seconds(100)
    detail = f"{many * 1e6:.1f} / {few * 1e6:.1f} us"
    report.add(f"cancelling one waiter of {QUEUED} / of 100", many / few, "<= 3", detail)


async def measure(report: Report, dsn: str) -> None:
    """Run all."""
    await fakes(report)
    await real(report, dsn)
    await crowd(report)
    await memory(report, dsn)
    await cancelling(report)


def main() -> None:
    """Run all, print, write."""
    report = Report("The asynchronous pool")
    with postgres(report.options.dsn) as dsn:
        asyncio.run(measure(report, dsn))
    report.finish()


if __name__ == "__main__":
    main()
