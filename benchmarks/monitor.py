"""What the monitor costs the pool it shows: hits beside a page with four viewers, and beside 1,000 parallel requests.

A process has pools, and now the page, now none, round by round: two processes would differ by more than that. Who
looks is another one, so that only what the page itself takes is measured.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from common import FakeConnector, Report

import dbpool

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS, SECONDS = 15, 1.5  # in each round at least one look at the pools
BURSTS, REQUESTS, VIEWERS = 10, 1000, 4
POOLS, CONNECTIONS = 3, 10
PATIENCE = 60  # seconds for all answers


# ---- the process that has pools -----------------------------------------------------------------------------------


def hits(seconds: float) -> dict[str, float]:
    """Return nanoseconds for one getconn and putconn: by the clock, as computed by this thread, and by the process."""
    pool, calls = HAS[0], 0
    clocks = {"wall": time.perf_counter, "thread": time.thread_time, "process": time.process_time}
    began = {name: clock() for name, clock in clocks.items()}
    while time.perf_counter() - began["wall"] < seconds:
        for _ in range(1000):
            pool.putconn(pool.getconn())
        calls += 1000
    return {name: (clock() - began[name]) / calls * 1e9 for name, clock in clocks.items()}


def memory(_: Any = None) -> dict[str, float]:
    """Return the resident megabytes of this process, and its threads."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {"megabytes": pages * resource.getpagesize() / 1e6, "threads": threading.active_count()}


def page(_: Any = None) -> str:
    """Start the monitor; return where it is."""
    from dbpool.monitor import pool_monitor

    SHOWS.append(pool_monitor(0, pools=HAS))
    return SHOWS[-1].url


def no_page(_: Any = None) -> str:
    """End it."""
    SHOWS.pop().close()
    return "closed"


HAS: list[Any] = []  # the pools
KEPT: list[Any] = []  # connections that are in use meanwhile
SHOWS: list[Any] = []  # the monitor, while there is one


def begin_pools() -> None:
    """Make pools that are in use as in a program."""
    for number in range(POOLS):
        config = {"name": f"pool {number}"}
        pool = dbpool.ThreadedConnectionPool(1, CONNECTIONS, connect=FakeConnector(), config=config)
        HAS.append(pool)
    KEPT.extend(pool.getconn() for pool in HAS for _ in range(CONNECTIONS - 1))


# ---- the process that looks ---------------------------------------------------------------------------------------


def look(url: str) -> str:
    """Have viewers listen to the events from now on."""
    threading.Thread(target=lambda: asyncio.run(_look(*_address(url))), daemon=True).start()
    return "looking"


async def _look(host: str, port: int) -> None:
    async def listen() -> None:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
        writer.write(f"GET /events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        while await reader.read(1 << 16):
            pass

    await asyncio.gather(*(listen() for _ in range(VIEWERS)))


def busy(seconds: float) -> str:
    """Compute as long as a burst would, on the other core."""
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        json.loads(json.dumps([*range(1000)]))
    return "was busy"


def burst(url: str) -> dict[str, float]:
    """Ask for the state so many times at once; return how many answers came, and in which time."""
    return asyncio.run(_burst(*_address(url)))


async def _burst(host: str, port: int) -> dict[str, float]:
    async def ask() -> bool:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), PATIENCE)
            writer.write(f"GET /json HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(-1), PATIENCE)
            writer.close()
        except (OSError, asyncio.TimeoutError):
            return False
        return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"}")

    began = time.perf_counter()
    answered = await asyncio.gather(*(ask() for _ in range(REQUESTS)))
    return {"answered": sum(answered), "seconds": time.perf_counter() - began}


def _address(url: str) -> tuple[str, int]:
    host, port = url.split("//")[1].rstrip("/").split(":")
    return host, int(port)


# ---- the measurement ----------------------------------------------------------------------------------------------


class Helper:
    """A process that does what it is told to."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def tell(self, order: str, argument: Any = None) -> None:
        """Have it begin."""
        self._process.stdin.write(json.dumps([order, argument]) + "\n")
        self._process.stdin.flush()

    def said(self) -> Any:
        """Wait for the result."""
        return json.loads(self._process.stdout.readline())

    def do(self, order: str, argument: Any = None) -> Any:
        """Have it done."""
        self.tell(order, argument)
        return self.said()


@contextmanager
def helper(*arguments: str) -> Iterator[Helper]:
    """Start a process of this file's."""
    command = [sys.executable, __file__, "helper", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Helper(process)
        finally:
            process.kill()


def help_out(has_pools: bool) -> None:
    """What a helper does: an order a line, until its input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * REQUESTS)), hard))
    if has_pools:
        begin_pools()
    orders = {order.__name__: order for order in (hits, memory, page, no_page, look, burst, busy)}
    for line in sys.stdin:
        order, argument = json.loads(line)
        print(json.dumps(orders[order](argument)), flush=True)


def compared(rounds: list[tuple[dict[str, float], dict[str, float]]], clock: str) -> tuple[float, str]:
    """Return the median of the ratios, and both medians in words."""
    ratio = statistics.median(ours[clock] / theirs[clock] for ours, theirs in rounds)
    with_page, without = (statistics.median(each[side][clock] for each in rounds) for side in (0, 1))
    return ratio, f"{with_page:.0f} ns / {without:.0f} ns"


def with_viewers(report: Report, pools: Helper, looks: Helper) -> None:
    """Rounds with and without the page in turn, now the one first and now the other."""

    def watched() -> dict[str, float]:
        looks.do("look", pools.do("page"))
        pools.do("hits", 0.5)
        found = pools.do("hits", SECONDS)
        pools.do("no_page")
        return found

    def alone() -> dict[str, float]:
        pools.do("hits", 0.5)
        return pools.do("hits", SECONDS)

    rounds = []
    for number in range(ROUNDS):
        if number % 2:
            rounds.append((watched(), alone()))
        else:
            theirs = alone()
            rounds.append((watched(), theirs))
    for clock, words in (("wall", "by the clock"), ("process", "computing of the whole process")):
        ratio, detail = compared(rounds, clock)
        report.add(f"getconn + putconn, {VIEWERS} viewers / no page, {words}", ratio, "<= 1.05", detail)


def with_requests(report: Report, pools: Helper, looks: Helper) -> None:
    """Bursts of requests, hits meanwhile."""
    rounds, quiet, answers, sizes = [], [], [], []
    for _ in range(BURSTS):
        looks.tell("burst", pools.do("page"))
        ours = pools.do("hits", SECONDS)
        answers.append(looks.said())
        pools.do("no_page")
        looks.tell("busy", SECONDS)  # as with a burst, the other core is not free
        rounds.append((ours, pools.do("hits", SECONDS)))
        looks.said()
        quiet.append((ours, pools.do("hits", SECONDS)))
        sizes.append(pools.do("memory")["megabytes"])
    ratio, detail = compared(rounds, "thread")
    wall, _ = compared(quiet, "wall")
    what = f"getconn + putconn, beside {REQUESTS} requests / no page, its own computing"
    report.add(what, ratio, "<= 1.05", f"{detail}; by the clock {wall:.2f}, for the interpreter is shared")
    took = statistics.median(each["seconds"] for each in answers)
    least = min(each["answered"] for each in answers)
    report.add(f"answers to {REQUESTS} requests at once", least, f">= {REQUESTS}", f"in {took:.1f} s, hits meanwhile")
    report.add("megabytes more after the last burst than after the first", sizes[-1] - sizes[0], "<= 5")


def main() -> None:
    """Run all, print, write."""
    report = Report("The monitor")
    with helper("pools") as pools, helper("looks") as looks:
        before = pools.do("memory")
        with_viewers(report, pools, looks)
        after = pools.do("memory")
        report.add(f"megabytes for the page of {POOLS} pools", after["megabytes"] - before["megabytes"], "<= 15")
        with_requests(report, pools, looks)
        time.sleep(2.0)
        threads = pools.do("memory")["threads"] - before["threads"]
        report.add("threads left behind", threads, "<= 1", "the pools' housekeeper, which writes the histories")
    report.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["helper"]:
        help_out(sys.argv[2] == "pools")
    else:
        main()
