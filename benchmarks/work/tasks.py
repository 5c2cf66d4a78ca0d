"""The same for asyncio: hits, many tasks on few connections, a burst, memory of a task that waits, SELECT 1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Callable

from benchmarks.bench import Bench, afresh
from benchmarks.common import bytes_per_task
from benchmarks.peers import installed
from benchmarks.peers.tasks import ALL, FAKES, REAL
from benchmarks.work.contention import CPU, HELD, JAIN, MOST, P50, P99, RATE, jain

if TYPE_CHECKING:
    from benchmarks.peers.tasks import AsyncPeer, AsyncPool
    from benchmarks.results import Workload

TITLE = "asyncio"
CPU_OF_HIT = "CPU per get and put"
HITS, REAL_HITS, SELECT = "1 task, fake", "1 task, PostgreSQL", "8 tasks on 4, SELECT 1, PostgreSQL"
CROWD, WAITER, BYTES = "1000 tasks on 10, 1 ms held", "a waiting task", "memory beyond a bare task's"
CALLS, TASKS, SIZE, HOLD, SECONDS, QUEUED = 1_000, 1_000, 10, 0.001, 1.2, 2_000
ASKING = 0.3  # seconds

Run = Callable[[], Awaitable[dict[str, float]]]


async def in_turn(runs: dict[str, Run], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Run all in turn; return measure -> peer -> samples."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            for measure, value in (await run()).items():
                found.setdefault(measure, {}).setdefault(name, []).append(value)
    return found


def hits(pool: AsyncPool) -> Run:
    """Return a round: one get and put after the other."""

    async def work(get: Any, put: Any) -> None:
        for _ in range(CALLS):
            await put(await get())

    work = afresh(work)

    async def run() -> dict[str, float]:
        began = time.process_time()
        await work(pool.get, pool.put)
        return {CPU_OF_HIT: (time.process_time() - began) / CALLS * 1e9}

    return run


def crowd(pool: AsyncPool) -> Run:
    """Return a round: a thousand tasks take turns."""

    async def run() -> dict[str, float]:
        waits: list[float] = []
        turns, held = [0] * TASKS, 0.0
        clock = time.perf_counter
        began, spent = clock(), time.process_time()
        until = began + SECONDS

        async def work(number: int) -> None:
            nonlocal held
            now = clock()
            while now < until:
                conn = await pool.get()
                got = clock()
                await asyncio.sleep(HOLD)
                done = clock()
                await pool.put(conn)
                waits.append(got - now)
                held += done - got
                turns[number] += 1
                now = clock()

        await asyncio.gather(*(work(number) for number in range(TASKS)))
        took, spent = clock() - began, time.process_time() - spent
        count = len(waits)
        ideal = (TASKS - SIZE) * held / count / SIZE
        waits = sorted(waits[TASKS:])  # the first turns find a queue that only forms
        found = {RATE: count / took, JAIN: jain(turns), CPU: spent / count * 1e6, HELD: held / took / SIZE}
        for name, part in ((P50, 0.5), (P99, 0.99), (MOST, 1.0)):
            found[name] = waits[min(len(waits) - 1, int(part * len(waits)))] / ideal
        return found

    return run


def asking(pool: AsyncPool) -> Run:
    """Return a round: eight tasks on four connections."""

    async def run() -> dict[str, float]:
        until, counts = time.perf_counter() + ASKING, [0] * 8

        async def work(number: int) -> None:
            while time.perf_counter() < until:
                conn = await pool.get()
                await pool.select(conn)
                await pool.put(conn)
                counts[number] += 1

        began = time.perf_counter()
        await asyncio.gather(*map(work, range(8)))
        return {RATE: sum(counts) / (time.perf_counter() - began)}

    return run


async def bytes_per_waiter(get: Callable[[], Awaitable[Any]]) -> float:
    """Return what each of many waiting tasks takes, beyond a task that waits for a bare future."""
    nobody = asyncio.get_running_loop().create_future()

    async def bare() -> None:
        await nobody

    async def wait() -> None:
        await get()

    return await bytes_per_task(wait, QUEUED) - await bytes_per_task(bare, QUEUED)


class Opened:
    """Pools that are open for a while."""

    def __init__(self, peers: tuple[AsyncPeer, ...], bench: Bench, size: int) -> None:
        there = installed(peers)[0]  # type: ignore[arg-type]  # both kinds say what they need
        self.peers: Any = [peer for peer in there if bench.wants(peer.name)]
        self.arguments, self.size = bench.source("psycopg2").arguments if bench.cluster else {}, size
        self.pools: dict[str, AsyncPool] = {}

    async def __aenter__(self) -> dict[str, AsyncPool]:
        for peer in self.peers:
            self.pools[peer.name] = await peer.open(self.arguments, self.size)
        return self.pools

    async def __aexit__(self, *error: object) -> None:
        for pool in self.pools.values():
            await pool.close()


async def measure(bench: Bench, tape: Workload) -> None:
    """Measure all."""
    for case, peers in ((HITS, FAKES), (REAL_HITS, REAL)):
        async with Opened(peers, bench, 1) as pools:
            found = await in_turn({name: hits(pool) for name, pool in pools.items()}, bench.rounds(16))
            tape.add(case, CPU_OF_HIT, "ns", found[CPU_OF_HIT])
    async with Opened(FAKES, bench, SIZE) as pools:
        found = await in_turn({name: crowd(pool) for name, pool in pools.items()}, 1 if bench.quick else 3)
        for measure, samples in found.items():
            unit = {RATE: "1/s", CPU: "us"}.get(measure, "")
            tape.add(CROWD, measure, unit, samples, lower=measure not in (RATE, JAIN, HELD))
    async with Opened(REAL, bench, 4) as pools:
        found = await in_turn({name: asking(pool) for name, pool in pools.items()}, bench.rounds(5))
        tape.add(SELECT, RATE, "1/s", found[RATE], lower=False)
    async with Opened(ALL, bench, 1) as pools:
        samples = {}
        for name, pool in pools.items():
            held = await pool.get()
            samples[name] = [await bytes_per_waiter(pool.get)]
            await pool.put(held)
        tape.add(WAITER, BYTES, "B", samples)


def run(bench: Bench, tape: Workload) -> None:
    """Measure all, in a loop of its own."""
    asyncio.run(measure(bench, tape))
