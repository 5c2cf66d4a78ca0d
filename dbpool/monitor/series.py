"""Series: what the charts draw: the rows of a pool's History as columns, counters by the second. No clock, no I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dbpool.history import BUCKETS, FIELDS, HISTOGRAMS, WIDTH
from dbpool.tally import percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbpool.history import History

GAUGES = ("used", "idle", "connecting", "waiting")
RATES = {"opened": "opened", "errors": "connect_errors", "timeouts": "timeouts"}
PERCENTS = {"wait_p50": 50, "wait_p95": 95, "wait_p99": 99}
COLUMN = {name: number for number, name in enumerate(FIELDS, 1)}
WAITS = HISTOGRAMS["waits"]
Row = Any  # an array of doubles, as History keeps it


def columns(history: History, maxconn: int, epoch: float) -> dict[str, Any]:
    """Return the whole history. *epoch*: what makes its moments times of day."""
    rows = history.flat()
    times = _column(rows, 0)
    steps = [0.0, *(after - before for before, after in zip(times, times[1:]))][: len(times)]
    found: dict[str, Any] = {"t": [_time(moment, epoch) for moment in times]}
    for name in GAUGES:
        found[name] = [int(value) for value in _column(rows, COLUMN[name])]
    for name, field in RATES.items():
        found[name] = _rates(_column(rows, COLUMN[field]), steps)
    found.update(_waits(rows, len(times)))
    found["closed"] = {}
    for reason, column in history.reasons().items():
        values = _column(rows, column)
        if values and values.count(values[0]) < len(values):
            found["closed"][reason] = _rates(values, steps)
    return {**found, "max": maxconn}


def point(before: Row | None, row: Row, history: History, epoch: float) -> dict[str, Any]:
    """Return one row of it, of which the rates are those since the row *before*."""
    seconds = 0.0 if before is None else row[0] - before[0]
    before = row if before is None else before
    found: dict[str, Any] = {"t": _time(row[0], epoch)}
    for name in GAUGES:
        found[name] = int(row[COLUMN[name]])
    for name, field in RATES.items():
        found[name] = _rate(before[COLUMN[field]], row[COLUMN[field]], seconds)
    found.update(zip(PERCENTS, _percentiles(before[WAITS : WAITS + BUCKETS], row[WAITS : WAITS + BUCKETS])))
    rates = {reason: _rate(before[column], row[column], seconds) for reason, column in history.reasons().items()}
    found["closed"] = {reason: rate for reason, rate in rates.items() if rate}
    return found


def _column(rows: Row, number: int) -> list[float]:
    return rows[number::WIDTH].tolist()  # type: ignore[no-any-return]


def _time(moment: float, epoch: float) -> float:
    return round(moment + epoch, 3)


def _rates(values: list[float], steps: list[float]) -> list[float]:
    return [
        0 if before == after else _rate(before, after, seconds)
        for before, after, seconds in zip([*values[:1], *values], values, steps)
    ]


def _rate(before: float, after: float, seconds: float) -> float:
    if seconds <= 0 or before == after:
        return 0
    return round((after - before if after > before else after) / seconds, 3)  # one that has fallen began anew


def _waits(rows: Row, count: int) -> dict[str, list[float | None]]:
    """Return the percentiles of the waits that ended in each row: of most rows there are none."""
    waits = _column(rows, COLUMN["waits"])
    found: list[Sequence[float | None]] = [(None, None, None)] * count
    for number in range(1, count):
        if waits[number] != waits[number - 1]:
            at = number * WIDTH + WAITS
            found[number] = _percentiles(rows[at - WIDTH : at - WIDTH + BUCKETS], rows[at : at + BUCKETS])
    return {name: [each[place] for each in found] for place, name in enumerate(PERCENTS)}


def _percentiles(before: Sequence[float], after: Sequence[float]) -> list[float | None]:
    counts = [new - old if new >= old else new for old, new in zip(before, after)]
    return [_rounded(percentile(counts, percent)) for percent in PERCENTS.values()]


def _rounded(seconds: float | None) -> float | None:
    """Return three digits of it: that is more than the buckets tell."""
    return round(seconds, max(0, 2 - math.floor(math.log10(seconds)))) if seconds else seconds
