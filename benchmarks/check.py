"""Compares a quick run's ratios with those of the committed results: `make bench-check` fails if one is > 20 % worse.

On a machine that is busy with other things, too: only ratios within a run are compared, whose sides are measured in
turn; CPU time wherever that is what is meant, which another process does not add to; bytes. What seems worse is
measured again, up to twice: it fails only if it is worse each time. What a millisecond of somebody else's changes
(percentiles, waits, the throughput of many threads with nothing held) is not compared.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from benchmarks import tables
from benchmarks.bench import Bench
from benchmarks.results import FOLDER, load
from benchmarks.work import contention, hits, memory, opening, tasks

if TYPE_CHECKING:
    from benchmarks.results import Results

TOLERANCE, ATTEMPTS = 0.20, 3
OURS = "dbpool Threaded"


@dataclass(frozen=True)
class Ratio:
    """One that is compared: ours by a peer's, of one series."""

    title: str
    workload: str
    case: str
    measure: str
    mine: str
    their: str

    @property
    def what(self) -> str:
        return f"{self.title}{self.mine} / {self.their}"

    def of(self, results: Results) -> float | None:
        """Return it, the higher the worse; None if it was not measured."""
        try:
            series = results[self.workload].get(self.case, self.measure)
            ratio = series.ratio(self.mine, self.their)
        except (KeyError, ValueError, ZeroDivisionError):
            return None
        return ratio if series.lower else 1 / ratio


def _hit(mine: str, their: str, kind: str = "psycopg2") -> Ratio:
    return Ratio(f"hit, {kind}: ", "hits", hits.one_thread(kind), hits.CPU, mine, their)


def _contended(number: int, measure: str) -> Ratio:
    cell = contention.QUICK[number]
    return Ratio(f"{cell.name}, {measure}: ", "contention", cell.name, measure, OURS, "psycopg_pool")


RATIOS = (
    _hit("dbpool twin Threaded", "psycopg2.pool Threaded"),
    _hit("dbpool twin Threaded, clean", "psycopg2.pool Threaded"),
    _hit("dbpool twin Simple", "psycopg2.pool Simple"),
    _hit("dbpool Threaded", "psycopg2.pool Threaded", "fake"),
    _hit("dbpool with-block", "psycopg_pool with-block", "fake"),
    _contended(2, contention.RATE),
    _contended(2, contention.CPU),
    _contended(2, contention.JAIN),
    Ratio("growth: ", "opening", opening.GROWTH, opening.SERVED, OURS, "SQLAlchemy QueuePool"),
    Ratio("burst: ", "opening", opening.BURST, opening.SERVED, OURS, "psycopg_pool"),
    Ratio("waiter: ", "memory", memory.WAITER, memory.BYTES, OURS, "psycopg_pool"),
    Ratio("connection: ", "memory", memory.IDLE, memory.BYTES, OURS, "SQLAlchemy QueuePool"),
    Ratio("import: ", "memory", memory.IMPORT, memory.CPU, "dbpool", "psycopg2.pool"),
    Ratio("hit, fake: ", "tasks", tasks.HITS, tasks.CPU_OF_HIT, "dbpool Async", "psycopg_pool async"),
    Ratio("hit: ", "tasks", tasks.REAL_HITS, tasks.CPU_OF_HIT, "dbpool Async (asyncpg)", "asyncpg's pool"),
)


@dataclass
class Compared:
    """A ratio as committed, and the best of those measured now."""

    ratio: Ratio
    committed: float
    fresh: float | None

    @property
    def worse(self) -> float:
        """By which part it is worse; negative if it is better."""
        return float("inf") if self.fresh is None else self.fresh / self.committed - 1

    @property
    def failed(self) -> bool:
        return self.worse > TOLERANCE


def compare(committed: Results, fresh: list[Results], names: list[str]) -> list[Compared]:
    """Compare the best of some *fresh* runs of these workloads with the *committed* one."""
    found = []
    for ratio in RATIOS:
        before = ratio.of(committed)
        if before is not None and ratio.workload in names:
            now = [value for value in map(ratio.of, fresh) if value is not None]
            found.append(Compared(ratio, before, min(now, default=None)))
    return found


def measured(bench: Bench, committed: Results, names: list[str]) -> list[Compared]:
    """Measure until nothing seems worse, or ATTEMPTS times."""
    fresh: list[Results] = []
    compared: list[Compared] = []
    again = names
    for attempt in range(ATTEMPTS):
        bench.results = {}
        for name in again:
            work = importlib.import_module(f"benchmarks.work.{name}")
            bench.run(name, work.TITLE, work.run)
        fresh.append(bench.results)
        compared = compare(committed, fresh, names)
        again = sorted({each.ratio.workload for each in compared if each.failed})
        if not again:
            break
        if attempt + 1 < ATTEMPTS:
            print(f"seems worse, so measured again: {', '.join(again)}", flush=True)
    return compared


def show(compared: list[Compared]) -> None:
    """Print the table."""
    table = Table(title="Ratios, the lower the better", box=box.SIMPLE, title_justify="left")
    for head in ("what", "committed", "now", "worse by", ""):
        table.add_column(head, justify="left" if head == "what" else "right")
    for each in compared:
        now = "not measured" if each.fresh is None else f"{each.fresh:.3f}"
        word = "[red]REGRESSION[/red]" if each.failed else "ok"
        table.add_row(each.ratio.what, f"{each.committed:.3f}", now, f"{each.worse:+.0%}", word)
    tables.console.print(table)


def main() -> None:
    """Run, compare, print; the exit status is 1 on a regression."""
    names = list(dict.fromkeys(ratio.workload for ratio in RATIOS))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME,NAME", default=",".join(names), help=f"only these of {', '.join(names)}"
    )
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=FOLDER, help="what is compared with")
    options = parser.parse_args()
    committed, _ = load(options.results)
    bench = Bench(quick=True)
    with bench.serving():
        compared = measured(bench, committed, options.only.split(","))
    show(compared)
    if not compared:
        sys.exit(f"nothing to compare with in {options.results}")
    sys.exit(1 if any(each.failed for each in compared) else 0)


if __name__ == "__main__":
    main()
