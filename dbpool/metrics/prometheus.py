"""PoolCollector: the numbers of pools for Prometheus, read from stats() at each scrape; no pool does anything for it.

from prometheus_client import REGISTRY
REGISTRY.register(PoolCollector())  # all pools of the process; PoolCollector(pool, other): these
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.samples import Sample

from dbpool import fork
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


class PoolCollector:
    """What a registry asks at each scrape. Without *pools*: all that are open in the process.

    Of pools with the same name the second is called name#2, so that no line is there twice. An EndpointPool has a
    line for each endpoint.
    """

    def __init__(self, *pools: Any) -> None:
        for pool in pools:
            if not callable(getattr(pool, "stats", None)):
                raise TypeError(f"pools must have stats(), and a {type(pool).__name__} has none")
        self._pools = pools

    def describe(self) -> list[Metric]:
        """Return the metrics without their samples: so nothing is read when the collector is registered."""
        return _families()

    def collect(self) -> Iterator[Metric]:
        """Return all metrics of all pools, as they are now."""
        families = _families()
        samples = {family.name: family.samples for family in families}
        for name, stats in self._named():
            _fill(samples, name, stats)
        return iter(families)

    def _named(self) -> Iterator[tuple[str, PoolStats]]:
        pools = self._pools or sorted((pool for pool in fork.watched() if not pool.closed), key=_name_of)
        all_stats: list[PoolStats] = []
        for pool in pools:
            found = pool.stats()
            all_stats += found.values() if isinstance(found, dict) else (found,)
        return named(all_stats)


def _name_of(pool: Any) -> str:
    return str(pool.name)


def _families() -> list[Metric]:
    return [
        GaugeMetricFamily(CONNECTIONS, CONNECTIONS_TEXT),
        *(GaugeMetricFamily(name, text) for name, (_, text) in GAUGES.items()),
        *(CounterMetricFamily(name, text) for name, (_, text) in COUNTERS.items()),
        *(CounterMetricFamily(name, text) for name, (_, _, text) in BY_WORD.items()),
        *(HistogramMetricFamily(name, text) for name, (_, text) in HISTOGRAMS.items()),
        SummaryMetricFamily(HOLDS, HOLDS_TEXT),
    ]


def _fill(samples: dict[str, list[Sample]], name: str, stats: PoolStats) -> None:
    """Add the samples of one pool."""
    pool = {"pool": name}  # shared by its samples: nobody changes it
    for state in STATES:
        samples[CONNECTIONS].append(Sample(CONNECTIONS, {"pool": name, "state": state}, getattr(stats, state)))
    for metric, (field, _) in GAUGES.items():
        value = getattr(stats, field)
        samples[metric].append(Sample(metric, pool, value is not None if field == "failing_since" else value))
    for metric, (field, _) in COUNTERS.items():
        samples[metric].append(Sample(f"{metric}_total", pool, getattr(stats, field)))
    for metric, (field, label, _) in BY_WORD.items():
        for word, count in getattr(stats, field).items():
            samples[metric].append(Sample(f"{metric}_total", {"pool": name, label: escaped(word)}, count))
    for metric, (field, _) in HISTOGRAMS.items():
        _add_buckets(samples[metric], metric, name, getattr(stats, field))
    samples[HOLDS] += [Sample(f"{HOLDS}_count", pool, stats.holds), Sample(f"{HOLDS}_sum", pool, stats.held)]


def _add_buckets(samples: list[Sample], metric: str, name: str, found: Histogram) -> None:
    for le, total in cumulated(found):
        samples.append(Sample(f"{metric}_bucket", {"pool": name, "le": le}, total))
    samples += [
        Sample(f"{metric}_count", {"pool": name}, found.count),
        Sample(f"{metric}_sum", {"pool": name}, found.sum),
    ]
