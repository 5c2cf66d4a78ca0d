"""What a pool counts beside its work: how long things took, what went wrong and since when. No clock in this file."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any

from dbpool.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_PLACES = 50  # of leaks
# The upper limits of the histograms' buckets, in seconds; one more bucket is for what took longer.
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Histogram(Frozen):
    """How long something took, each time; a snapshot. ``counts`` has one number for each of BOUNDS, and one more."""

    __slots__ = ("count", "counts", "longest", "sum")

    count: int
    sum: float  # seconds, all together
    longest: float
    counts: tuple[int, ...]  # not cumulative

    def percentile(self, percent: float) -> float | None:
        """Return the seconds that so many *percent* took at most, as near as the buckets tell; None if there are none.

        Raises ValueError if *percent* is not between 0 and 100.
        """
        found = percentile(self.counts, percent)
        return None if found is None else min(found, self.longest)


def percentile(counts: Sequence[float], percent: Any) -> float | None:
    """Return the seconds below which so many *percent* of what was counted lies; None if nothing was.

    Within a bucket all are taken to be spread evenly; of the last, which has no end, the least is told.
    """
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= 100:
        raise ValueError(f"percent must be a number between 0 and 100, not {percent!r}")
    wanted: float = sum(counts) * percent / 100
    seen = least = 0.0
    if not sum(counts):
        return None
    for bound, count in zip(BOUNDS, counts):
        if count and seen + count >= wanted:
            return least + (bound - least) * (wanted - seen) / count
        seen += count
        least = bound
    return BOUNDS[-1]


class Times:
    """Adds up how long something took, each time. Written under the pool's lock."""

    __slots__ = ("count", "counts", "longest", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.longest = 0.0
        self.counts = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """It took *seconds* once more."""
        self.count += 1
        self.sum += seconds
        if seconds > self.longest:
            self.longest = seconds
        self.counts[bisect_left(BOUNDS, seconds)] += 1

    def frozen(self) -> Histogram:
        """Return what was added so far."""
        return Histogram(count=self.count, sum=self.sum, longest=self.longest, counts=tuple(self.counts))


class Tally:
    """What one pool has counted. No step of the pool's depends on it; written under the pool's lock."""

    __slots__ = (
        "connects", "cut_off_at", "dead", "deadlocks", "failed_at", "failing_since", "held", "holds", "last_leak",
        "leak_places", "leaks", "long_leases", "longest_hold", "pings", "refusal", "resets", "timed_out_at", "waits",
    )  # fmt: skip

    def __init__(self) -> None:
        self.waits = Times()  # of those who slept and were served
        self.connects = Times()  # of those that came about
        self.dead: Counter[str] = Counter()  # connections found dead, by what found them
        self.deadlocks = self.leaks = self.long_leases = 0
        # Of connections that are closed; what those that are open have counted stands on their entries.
        self.resets = self.pings = self.holds = 0
        self.held = self.longest_hold = 0.0
        self.failing_since: float | None = None  # when the first connect failed of those since the last success
        self.failed_at: float | None = None  # when the last one failed
        self.refusal: str | None = None  # what that meant: "transient", "permanent", "timeout"; None: anything else
        self.timed_out_at: float | None = None  # when the last caller got nothing
        self.cut_off_at: float | None = None  # when a call had to be ended last, for want of an answer
        self.last_leak: tuple[float, str, str | None] | None = None  # when one was told of last, what was said, where
        self.leak_places: dict[str | None, tuple[int, float]] = {}  # where -> how many, and when the last was told of

    def connected(self, seconds: float, now: float) -> float | None:
        """A connect took *seconds*. Return for how long none had come about, if the last one had failed."""
        self.connects.add(seconds)
        since, self.failing_since = self.failing_since, None
        return None if since is None else now - since

    def failed(self, now: float, refusal: str | None) -> None:
        """A connect failed, for a reason of that kind."""
        if self.failing_since is None:
            self.failing_since = now
        self.failed_at = now
        self.refusal = refusal

    def found_dead(self, found_by: str, now: float, cut_off: bool) -> None:
        """A connection was found dead; *cut_off*: because it did not answer in time."""
        self.dead[found_by] += 1
        if cut_off:
            self.cut_off_at = now

    def leaked_at(self, place: str | None, now: float) -> None:
        """A leak was told of, of a connection got at *place*. Of too many places, the one told of longest ago goes."""
        count, _ = self.leak_places.pop(place, (0, 0.0))
        self.leak_places[place] = count + 1, now
        if len(self.leak_places) > MOST_PLACES:
            self.leak_places.pop(next(iter(self.leak_places)))

    def bury(self, entry: Any) -> None:
        """Keep what the entry of a connection that is closed has counted."""
        self.resets += entry.resets
        self.pings += entry.pings
        self.holds += entry.holds
        self.held += entry.held
        self.longest_hold = max(self.longest_hold, entry.longest_hold)


def hold(entry: Any, seconds: float) -> None:
    """A lease has ended that took the slow way back, where a clock is read. Called by who has the connection."""
    entry.holds += 1
    entry.held += seconds
    entry.longest_hold = max(entry.longest_hold, seconds)
