"""What a pool is doing: PoolStats, a frozen snapshot, and other views, all read from the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.entry import Entry, Status
from dbpool.escaping import escaped
from dbpool.frozen import Frozen
from dbpool.masking import CANNOT_LOAD, masked

if TYPE_CHECKING:
    from dbpool.state import PoolState
    from dbpool.tally import Histogram


LONGEST = 300  # characters of an error's text


class PoolStats(Frozen):
    """A snapshot; counters only grow. ``size == used + idle + connecting + closing``."""

    __slots__ = (
        "aborted", "closed", "closing", "connect_errors", "connect_times", "connecting", "dead", "deadlocks",
        "discards", "failing_since", "held", "holds", "idle", "last_error", "leaks", "leases", "long_leases",
        "longest_hold", "maxconn", "minconn", "name", "opened", "pings", "refused", "resets", "size", "timeouts",
        "used", "wait_times", "waited", "waiting", "waits",
    )  # fmt: skip

    name: str
    minconn: int
    maxconn: int
    closed: bool
    size: int  # slots taken
    used: int  # leased, or in the pool's hands on the way
    idle: int
    connecting: int
    closing: int
    waiting: int
    leases: int  # times one was taken for a caller, also if it then was found dead: a counter never goes back
    opened: int
    aborted: int  # connects left behind after connect_timeout
    connect_errors: int
    connect_times: Histogram  # of the connects that came about
    last_error: str | None  # why the last connect failed, until one succeeds
    failing_since: float | None  # when the first failed since one succeeded; a reading of time.monotonic()
    waits: int  # callers that slept before they were served
    waited: float  # seconds, all of them together
    wait_times: Histogram  # of the same callers
    timeouts: int
    refused: int  # by max_waiting
    deadlocks: int
    holds: int  # leases whose end was timed: a put that has nothing to reset or to tell reads no clock
    held: float  # seconds, all of those together
    longest_hold: float
    resets: int  # rollbacks and the like at return
    pings: int
    dead: dict[str, int]  # connections found dead, by what found them: watch, poll, ping, return
    leaks: int  # dropped without putconn
    long_leases: int  # held for longer than leak_threshold
    discards: dict[str, int]  # connections closed, by reason


class LeaseKey:
    """The key, in ``_used``, of a lease that has none: the same at each look, and equal to no user's."""

    __slots__ = ("_lease",)

    def __init__(self, entry: Entry[Any]) -> None:
        self._lease = (entry.cid, entry.uses)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LeaseKey) and other._lease == self._lease

    def __hash__(self) -> int:
        return hash(self._lease)

    def __repr__(self) -> str:
        return "<no key>"


def snapshot(state: PoolState) -> PoolStats:
    """Count; under the pool's lock, but hits go on meanwhile."""
    entries = list(state.entries.values())
    size, idle = len(entries) + len(state.tickets), len(state.idle)
    connecting, closing = len(state.tickets), len(state.closing)
    used = max(0, size - idle - connecting - closing)
    tally, waits = state.tally, state.tally.waits.frozen()
    return PoolStats(
        name=state.name, minconn=state.minconn, maxconn=state.maxconn, closed=state.closed,
        size=used + idle + connecting + closing, used=used, idle=idle, connecting=connecting, closing=closing,
        waiting=len(state.waiters),
        leases=state.uses_of_closed + sum(entry.uses for entry in entries),
        opened=state.opened, aborted=state.aborted, connect_errors=state.connect_errors,
        connect_times=tally.connects.frozen(), last_error=said(state.last_error), failing_since=tally.failing_since,
        waits=waits.count, waited=waits.sum, wait_times=waits, timeouts=state.timeouts, refused=state.refused,
        deadlocks=tally.deadlocks, leaks=tally.leaks, long_leases=tally.long_leases,
        holds=tally.holds + sum(entry.holds for entry in entries),
        held=tally.held + sum(entry.held for entry in entries),
        longest_hold=max([tally.longest_hold, *(entry.longest_hold for entry in entries)]),
        resets=tally.resets + sum(entry.resets for entry in entries),
        pings=tally.pings + sum(entry.pings for entry in entries),
        dead=dict(tally.dead), discards=dict(state.discards),
    )  # fmt: skip


def said(error: BaseException | None) -> str | None:
    """Return what *error* says, in one line, of a length that can be shown, and without what looks like a password."""
    if error is None:
        return None
    kind = type(error).__name__
    try:
        text = masked(f"{kind}: {error}".strip())
    except CANNOT_LOAD:  # better no text than a password
        text = kind
    return escaped(text if len(text) <= LONGEST else f"{text[:LONGEST]}...")


def where(state: PoolState, entry: Entry[Any]) -> Status:
    """Tell where a connection is."""
    conn = entry()
    if conn is None or entry.cid is None or entry.cid in state.closing:
        return Status.CLOSED
    if entry.key is not None or state.leases.get(entry.cid) is entry:
        return Status.LEASED
    if any(pooled is conn for pooled in state.idle.copy()):
        return Status.IDLE
    return Status.CHECKING


def used(state: PoolState) -> dict[Any, Any]:
    """Return the leased connections by their keys; those without one by a LeaseKey."""
    leased: dict[Any, Any] = dict(state.keyed)
    for entry in list(state.leases.values()):
        conn = entry()
        if conn is not None:
            leased[LeaseKey(entry)] = conn
    return leased
