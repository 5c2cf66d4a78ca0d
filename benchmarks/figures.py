"""What was promised, what was measured, and whether that is met: each figure is a ratio within one run, or bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from benchmarks import freethreaded
from benchmarks.work import contention, end_to_end, hits, memory, opening

if TYPE_CHECKING:
    from benchmarks.results import Results, Series

OURS, TWIN, PSYCOPG_POOL = "dbpool Threaded", "dbpool twin Threaded", "psycopg_pool"
BARE = "psycopg2.pool Threaded"
FAIR = 0.9  # Jain's index from which on a pool is fair


@dataclass(frozen=True)
class Got:
    """A value, and what it is made of."""

    value: float
    detail: str = ""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    sign: str
    limit: float
    find: Callable[[Results], Got]
    digits: int = 2

    @property
    def must(self) -> str:
        return f"{self.sign} {self.limit:.{self.digits}f}"


@dataclass(frozen=True)
class Line:
    """A figure with what was measured; no value if it was not."""

    what: str
    must: str
    value: str
    met: bool | None
    detail: str


def lines(results: Results) -> list[Line]:
    """Return the table. A value is compared as it is shown."""
    found = []
    for figure in FIGURES:
        try:
            got = figure.find(results)
        except (KeyError, ValueError):
            found.append(Line(figure.what, figure.must, "", None, "not measured"))
            continue
        value = round(got.value, figure.digits)
        met = value <= figure.limit if figure.sign == "<=" else value >= figure.limit
        found.append(Line(figure.what, figure.must, f"{value:.{figure.digits}f}", met, got.detail))
    return found


def _hit(mine: str, their: str) -> Callable[[Results], Got]:
    def find(results: Results) -> Got:
        series = results["hits"].get(hits.one_thread("psycopg2"), hits.CPU)
        return Got(series.ratio(mine, their), f"{series.median(mine):.0f} ns / {series.median(their):.0f} ns")

    return find


def _contended(results: Results) -> list[str]:
    tape = results["contention"]
    return [case for case in tape.cases() if "nothing held" not in case]


def _peers(series: Series) -> list[str]:
    return [name for name in series.samples if not name.startswith("dbpool")]


def _against(fair: bool) -> Callable[[Results], Got]:
    """Return the worst of all cells: our throughput by that of the best peer, of the fair ones or of any."""

    def find(results: Results) -> Got:
        found = []
        for case in _contended(results):
            rate, index = (results["contention"].get(case, measure) for measure in (contention.RATE, contention.JAIN))
            for name in _peers(rate):
                if not fair or index.median(name) >= FAIR:
                    detail = f"{case}: {name}, Jain {index.median(name):.2f}"
                    found.append((rate.ratio(OURS, name), detail))
        return Got(*min(found))

    return find


def _worst(measure: str, low: bool, least_hold: bool = False) -> Callable[[Results], Got]:
    def find(results: Results) -> Got:
        cases = [case for case in _contended(results) if not (least_hold and "0.1 ms" in case)]
        found = [(results["contention"].get(case, measure).median(OURS), case) for case in cases]
        return Got(*(min(found) if low else max(found)))

    return find


def _nothing_held(cell: contention.Cell) -> Callable[[Results], Got]:
    def find(results: Results) -> Got:
        series = results["contention"].get(cell.name, contention.RATE)
        detail = f"{series.median(OURS):,.0f} / {series.median(PSYCOPG_POOL):,.0f} per second"
        return Got(series.ratio(OURS, PSYCOPG_POOL), detail)

    return find


def _burst(measure: str, ours: str = OURS, of_fewest: bool = False) -> Callable[[Results], Got]:
    """Return a burst's figure by the best peer's; *of_fewest*: by that of the peer that opened the fewest."""

    def find(results: Results) -> Got:
        series = results["opening"].get(opening.BURST, measure)
        judged = results["opening"].get(opening.BURST, opening.OPENED) if of_fewest else series
        best = min(_peers(series), key=judged.median)
        detail = f"{series.median(ours):.0f} / {series.median(best):.0f} {series.unit}, {best}"
        return Got(series.median(ours) / series.median(best), detail)

    return find


def _end_to_end(measure: str) -> Callable[[Results], Got]:
    def find(results: Results) -> Got:
        series = results["end_to_end"].get(f"{end_to_end.SELECT}, PostgreSQL", measure)
        mine, their = f"{TWIN} (psycopg2)", f"{BARE} (psycopg2)"
        return Got(series.ratio(mine, their), f"{series.median(mine):.0f} us / {series.median(their):.0f} us")

    return find


def _bytes(case: str) -> Callable[[Results], Got]:
    return lambda results: Got(results["memory"].get(case, memory.BYTES).median(OURS))


def _free_threaded(measure: str) -> Callable[[Results], Got]:
    def find(results: Results) -> Got:
        series = results["freethreaded"].get(freethreaded.WITHOUT, measure)
        return Got(series.ratio("2 threads", "1 thread"), f"{series.median('2 threads'):,.0f} per second")

    return find


FIGURES = (
    Figure("hit path, twin Threaded / psycopg2.pool's", "<=", 0.62, _hit(TWIN, BARE)),
    Figure('the same with reset="clean"', "<=", 0.75, _hit(f"{TWIN}, clean", BARE)),
    Figure("hit path, twin Simple / psycopg2.pool's", "<=", 0.95, _hit("dbpool twin Simple", "psycopg2.pool Simple")),
    Figure('the same with reset="clean"', "<=", 1.10, _hit("dbpool twin Simple, clean", "psycopg2.pool Simple")),
    Figure("contention, worst cell: throughput / the best fair peer's", ">=", 1.0, _against(fair=True)),
    Figure("contention, worst cell: throughput / any peer's", ">=", 0.85, _against(fair=False)),
    Figure("contention, worst cell: Jain's index", ">=", 0.99, _worst(contention.JAIN, low=True)),
    Figure("contention, worst cell held >= 1 ms: p99 wait / ideal", "<=", 1.3, _worst(contention.P99, False, True)),
    Figure("nothing held, 8 threads on 8: throughput / psycopg_pool's", ">=", 8, _nothing_held(contention.CELLS[0]), 1),
    Figure(
        "nothing held, 16 threads on 4: throughput / psycopg_pool's", ">=", 2, _nothing_held(contention.CELLS[1]), 1
    ),
    Figure("burst of 50: connections opened / fewest of any peer", "<=", 1.0, _burst(opening.OPENED)),
    Figure("burst of 50: time to serve all / best peer's", "<=", 1.0, _burst(opening.SERVED)),
    Figure("the same with max_connecting=1: connections opened", "<=", 1.0, _burst(opening.OPENED, opening.SAVING)),
    Figure("and time / that peer's", "<=", 1.0, _burst(opening.SERVED, opening.SAVING, of_fewest=True)),
    Figure("SELECT 1, twin / psycopg2.pool: p50", "<=", 1.02, _end_to_end(end_to_end.P50)),
    Figure("SELECT 1, twin / psycopg2.pool: p99", "<=", 1.02, _end_to_end(end_to_end.P99)),
    Figure("bytes of an idle connection beyond the driver's", "<=", 800, _bytes(memory.IDLE), 0),
    Figure("bytes of a waiting thread beyond the thread's", "<=", 400, _bytes(memory.WAITER), 0),
    Figure("free-threaded CPython, 2 threads / 1 thread", ">=", 1.2, _free_threaded(freethreaded.RATE)),
    Figure("the same with 10 us of work each", ">=", 1.2, _free_threaded(freethreaded.WORKING)),
)
