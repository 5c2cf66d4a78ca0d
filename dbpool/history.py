"""History: what a pool did in the last minutes, a row for each second, in memory that does not grow."""

from __future__ import annotations

import math
from array import array
from operator import gt
from typing import TYPE_CHECKING, Any

from dbpool.config import seconds as as_seconds
from dbpool.locks import RLock
from dbpool.tally import BOUNDS, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbpool.stats import PoolStats

SHORTEST_PERIOD, MOST_ROWS = 0.01, 100_000
GAUGES = ("size", "used", "idle", "connecting", "waiting")
COUNTERS = ("leases", "opened", "connect_errors", "waits", "waited", "timeouts", "refused", "leaks", "dead", "discards")
FIELDS = (*GAUGES, *COUNTERS)
BUCKETS = len(BOUNDS) + 1
HISTOGRAMS = {"waits": 1 + len(FIELDS), "connects": 1 + len(FIELDS) + BUCKETS}  # in which column each begins
OTHER = "other"
REASONS = (
    "closed", "closed by the caller", "drained", "dropped", "evicted", "idle", "interrupted", "lifetime", "limiter",
    "lost", "max_uses", "not clean", "overflow", "read-only", "replaced", "reset failed", "surplus", "unfit", OTHER,
)  # fmt: skip
CHECKED = slice(1 + len(GAUGES), 1 + len(FIELDS))  # the counters: if one has fallen, all began anew
CLOSED = 1 + len(FIELDS) + len(HISTOGRAMS) * BUCKETS  # in which column the closes by reason begin
WIDTH = CLOSED + len(REASONS)


class History:
    """A ring of rows: when, the gauges and counters of stats(), the histograms of waits and of connects.

    All is written when it is made, so that it never grows. Moments are readings of time.monotonic(). Every question
    may be asked of the last *seconds* only.
    """

    def __init__(self, seconds: float = 900.0, period: float = 1.0) -> None:
        for name, value in (("seconds", seconds), ("period", period)):
            if not as_seconds(name, value):
                raise ValueError(f"{name} must be above 0")
        if period < SHORTEST_PERIOD or seconds / period > MOST_ROWS:
            raise ValueError(f"period must be at least {SHORTEST_PERIOD} s, and seconds at most {MOST_ROWS} periods")
        self.seconds, self.period = float(seconds), float(period)
        self._most = math.ceil(seconds / period) + 1
        self._rows = array("d", bytes(8 * WIDTH * self._most))
        self._written = 0
        self._fell = 0  # the number of the last row in which the counters began anew
        self._lock = RLock()  # guards what is above
        self.asked = False  # for, by the program
        self.writers = 0  # others than the pool, who write the rows

    def __len__(self) -> int:
        return min(self._written, self._most)

    def __repr__(self) -> str:
        return f"<History {len(self)} of {self._most} rows, one each {self.period:g} s>"

    @property
    def by_hand(self) -> bool:
        """True while somebody else than the pool writes the rows."""
        return self.writers > 0

    @property
    def nbytes(self) -> int:
        """Bytes that the rows take, full or not."""
        return self._rows.itemsize * len(self._rows)

    def add(self, stats: PoolStats, now: float) -> None:
        """Write a row; it takes the place of the oldest once all are written."""
        sums = {"dead": sum(stats.dead.values()), "discards": sum(stats.discards.values())}
        row = array("d", [now])
        row.extend([sums[name] if name in sums else getattr(stats, name) for name in FIELDS])
        row.extend(stats.wait_times.counts)
        row.extend(stats.connect_times.counts)
        row.extend([stats.discards.get(reason, 0) for reason in REASONS[:-1]])
        row.append(sums["discards"] - sum(row[CLOSED:]))
        with self._lock:
            at = self._written % self._most * WIDTH
            if self._written and any(map(gt, self._row(self._written - 1)[CHECKED], row[CHECKED])):
                self._fell = self._written
            self._rows[at : at + WIDTH] = row
            self._written += 1

    def flat(self) -> Any:
        """Return all rows in one array; of each the moment, FIELDS, the buckets of HISTOGRAMS, closes by REASONS."""
        with self._lock:
            if self._written <= self._most:
                return self._rows[: self._written * WIDTH]
            oldest = self._written % self._most * WIDTH
            return self._rows[oldest:] + self._rows[:oldest]

    def latest(self, count: int) -> list[Any]:
        """Return the last *count* rows, or as many as there are."""
        with self._lock:
            return self._numbered(range(self._written - min(count, len(self)), self._written))

    def newest(self) -> float | None:
        """Return when the newest row was written; None if there is none."""
        with self._lock:
            return self._moment(self._written - 1) if self._written else None

    @staticmethod
    def reasons() -> dict[str, int]:
        """Return in which column the closes of each reason are."""
        return {reason: column for column, reason in enumerate(REASONS, CLOSED)}

    # ---- what can be asked ------------------------------------------------------------------------------------------

    def series(self, field: str, seconds: float | None = None) -> list[tuple[float, float]]:
        """Return when and how much, the oldest first."""
        column = 1 + FIELDS.index(_known("field", field, FIELDS))
        return [(row[0], row[column]) for row in self._last(seconds)]

    def span(self, seconds: float | None = None) -> float:
        """Return from the oldest row to the newest."""
        rows = self._last(seconds)
        return rows[-1][0] - rows[0][0] if rows else 0.0

    def mean(self, field: str, seconds: float | None = None) -> float | None:
        """Return the mean of a gauge; None if there is no row."""
        values = [value for _, value in self.series(field, seconds)]
        return sum(values) / len(values) if values else None

    def peak(self, field: str, seconds: float | None = None) -> float | None:
        """Return the highest value of a gauge at the moments that were looked at; None if there is no row."""
        return max((value for _, value in self.series(field, seconds)), default=None)

    def growth(self, field: str, seconds: float | None = None) -> float:
        """Return by how much a counter has grown."""
        return _growth([value for _, value in self.series(field, seconds)])

    def percentile(self, percent: float, of: str = "waits", seconds: float | None = None) -> float | None:
        """Return the seconds that so many *percent* of the waits, or of the connects, took at most; None if none were.

        As near as the buckets of the histogram tell.
        """
        return percentile(self.buckets(of, seconds), percent)

    def buckets(self, of: str = "waits", seconds: float | None = None) -> list[float]:
        """Return how many of the waits, or of the connects, took so long: a number for each of BOUNDS, and one more."""
        begin = HISTOGRAMS[_known("of", of, tuple(HISTOGRAMS))]
        as_seconds("seconds", seconds)
        with self._lock:
            first, last = self._first(seconds), self._written - 1
            if last <= first:
                return [0.0] * BUCKETS
            rows = self._numbered((first, last) if self._fell <= first else range(first, last + 1))
        return [_growth([row[column] for row in rows]) for column in range(begin, begin + BUCKETS)]

    def mean_hold(self, seconds: float | None = None) -> float | None:
        """Return for how long a connection was held, in the mean: those in use, by how many were leased in a second.

        No lease is timed for it (Little's law). None if nothing was leased.
        """
        leases, used = self.growth("leases", seconds), self.mean("used", seconds)
        return None if not leases or used is None else used * self.span(seconds) / leases

    def full_since(self) -> float | None:
        """Return since when none was free and somebody waited, without a break; None: not so at the last look."""
        with self._lock:
            return self._full_since()

    def _full_since(self) -> float | None:
        since, rows = None, self._rows
        used, idle, waiting = (1 + FIELDS.index(name) for name in ("used", "idle", "waiting"))
        for number in range(self._written - 1, self._written - len(self) - 1, -1):
            at = number % self._most * WIDTH
            if rows[at + idle] or not rows[at + used] or not rows[at + waiting]:
                break
            since = rows[at]
        return since

    def _last(self, seconds: float | None) -> list[Any]:
        as_seconds("seconds", seconds)
        with self._lock:
            return self._numbered(range(self._first(seconds), self._written))

    def _first(self, seconds: float | None) -> int:
        """Return the number of the first row that is not older than the last by more than *seconds*."""
        oldest = self._written - len(self)
        if seconds is None or oldest == self._written:
            return oldest
        since, number = self._moment(self._written - 1) - seconds, self._written - 1
        while number > oldest and self._moment(number - 1) >= since:
            number -= 1
        return number

    def _moment(self, number: int) -> float:
        return self._rows[number % self._most * WIDTH]

    def _numbered(self, numbers: Iterable[int]) -> list[Any]:
        return [self._row(number) for number in numbers]

    def _row(self, number: int) -> Any:
        at = number % self._most * WIDTH
        return self._rows[at : at + WIDTH]


def _growth(values: list[float]) -> float:
    """Return what was added; a counter that has fallen began anew (in a forked child, or in a new event loop)."""
    return sum(after - before if after >= before else after for before, after in zip(values, values[1:]))


def _known(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return value
