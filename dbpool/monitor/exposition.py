"""Exposition: the numbers of pools as text for Prometheus, under the names that dbpool.metrics.prometheus has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.escaping import escaped
from dbpool.metrics.tables import (
    BY_WORD,
    CONNECTIONS,
    CONNECTIONS_TEXT,
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    HOLDS,
    HOLDS_TEXT,
    STATES,
    cumulated,
    named,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbpool.stats import PoolStats
    from dbpool.tally import Histogram

Named = list[tuple[str, "PoolStats"]]


def exposed(pools: list[tuple[Any, Any]]) -> str:
    """Return the text; a pool that fails has no lines."""
    found = []
    for _, pool in pools:
        try:
            found.append(pool.stats())
        except Exception:  # the others' lines are worth more than none
            continue
    return "".join(f"{line}\n" for line in _lines(list(named(found))))


def _lines(pools: Named) -> Iterator[str]:
    yield from _head(CONNECTIONS, "gauge", CONNECTIONS_TEXT)
    for name, stats in pools:
        for state in STATES:
            yield _line(CONNECTIONS, {"pool": name, "state": state}, getattr(stats, state))
    for metric, (field, text) in GAUGES.items():
        yield from _head(metric, "gauge", text)
        for name, stats in pools:
            value = getattr(stats, field)
            yield _line(metric, {"pool": name}, value is not None if field == "failing_since" else value)
    for metric, (field, text) in COUNTERS.items():
        yield from _head(f"{metric}_total", "counter", text)
        for name, stats in pools:
            yield _line(f"{metric}_total", {"pool": name}, getattr(stats, field))
    for metric, (field, label, text) in BY_WORD.items():
        yield from _head(f"{metric}_total", "counter", text)
        for name, stats in pools:
            for word, count in getattr(stats, field).items():
                yield _line(f"{metric}_total", {"pool": name, label: escaped(word)}, count)
    for metric, (field, text) in HISTOGRAMS.items():
        yield from _head(metric, "histogram", text)
        for name, stats in pools:
            yield from _buckets(metric, name, getattr(stats, field))
    yield from _head(HOLDS, "summary", HOLDS_TEXT)
    for name, stats in pools:
        yield _line(f"{HOLDS}_count", {"pool": name}, stats.holds)
        yield _line(f"{HOLDS}_sum", {"pool": name}, stats.held)


def _buckets(metric: str, name: str, found: Histogram) -> Iterator[str]:
    for le, total in cumulated(found):
        yield _line(f"{metric}_bucket", {"pool": name, "le": le}, total)
    yield _line(f"{metric}_count", {"pool": name}, found.count)
    yield _line(f"{metric}_sum", {"pool": name}, found.sum)


def _head(metric: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {metric} {text}"
    yield f"# TYPE {metric} {kind}"


def _line(metric: str, labels: dict[str, str], value: Any) -> str:
    written = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
    return f"{metric}{{{written}}} {float(value)!r}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
