"""Tables: the names of the metrics, what each is, and which field of stats() it has; for all who tell Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbpool.escaping import escaped
from dbpool.tally import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbpool.stats import PoolStats
    from dbpool.tally import Histogram

STATES = ("idle", "used", "connecting", "closing")
GAUGES = {  # name -> field of stats(), what it is
    "dbpool_connections_min": ("minconn", "Connections that are kept open"),
    "dbpool_connections_max": ("maxconn", "Connections that may be open"),
    "dbpool_waiting_callers": ("waiting", "Callers who wait for a connection"),
    "dbpool_connect_failing": ("failing_since", "1 from a failed connect until one succeeds"),
}
COUNTERS = {
    "dbpool_leases": ("leases", "Connections handed out"),
    "dbpool_connects": ("opened", "Connections opened"),
    "dbpool_connect_errors": ("connect_errors", "Connects that failed"),
    "dbpool_aborted": ("aborted", "Connects and calls that were ended at their deadline"),
    "dbpool_timeouts": ("timeouts", "Callers who got nothing in time"),
    "dbpool_refused": ("refused", "Callers refused by max_waiting"),
    "dbpool_deadlocks": ("deadlocks", "Waits that nothing could end"),
    "dbpool_resets": ("resets", "Connections reset at return"),
    "dbpool_pings": ("pings", "Pings"),
    "dbpool_leaks": ("leaks", "Connections dropped without putconn"),
    "dbpool_long_leases": ("long_leases", "Connections held for longer than leak_threshold"),
}
BY_WORD = {  # name -> field, label, what it is
    "dbpool_closed": ("discards", "reason", "Connections closed, and why"),
    "dbpool_dead": ("dead", "found_by", "Connections found dead, and by what"),
}
HISTOGRAMS = {
    "dbpool_wait_seconds": ("wait_times", "How long those waited who had to, and were served"),
    "dbpool_connect_seconds": ("connect_times", "How long connects took that came about"),
}
CONNECTIONS, CONNECTIONS_TEXT = "dbpool_connections", "Connections, by state"
HOLDS, HOLDS_TEXT = "dbpool_hold_seconds", "How long leases lasted whose end was timed: those with something to reset"
BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)  # of BOUNDS: each costs every pool a line in every scrape


def named(found: Iterable[PoolStats]) -> Iterator[tuple[str, PoolStats]]:
    """Return each with the name that its lines have: of pools with the same name the second is called name#2."""
    seen: dict[str, int] = {}
    for stats in found:
        name = escaped(stats.name)
        seen[name] = number = seen.get(name, 0) + 1
        yield (name if number == 1 else f"{name}#{number}"), stats


def cumulated(found: Histogram) -> Iterator[tuple[str, int]]:
    """Return each of BUCKETS, as its label has it, with how many were at most that; the last has all."""
    total = 0
    for bound, count in zip(BOUNDS, found.counts):
        total += count
        if bound in BUCKETS:
            yield str(bound), total
    yield "+Inf", found.count
