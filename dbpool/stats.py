"""What a pool is doing: PoolStats, a frozen snapshot, and other views, all read from the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbpool.entry import Entry, Status
from dbpool.frozen import Frozen

if TYPE_CHECKING:
    from dbpool.state import PoolState


class PoolStats(Frozen):
    """A snapshot; counters only grow. ``size == used + idle + connecting + closing``."""

    __slots__ = (
        "aborted", "closed", "closing", "connect_errors", "connecting", "discards", "idle", "leases", "maxconn",
        "minconn", "name", "opened", "refused", "size", "timeouts", "used", "waited", "waiting", "waits",
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
    leases: int  # times a connection was handed out
    opened: int
    aborted: int  # connects left behind after connect_timeout
    connect_errors: int
    waits: int  # callers that slept before they were served
    waited: float  # seconds, all of them together
    timeouts: int
    refused: int  # by max_waiting
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
    return PoolStats(
        name=state.name, minconn=state.minconn, maxconn=state.maxconn, closed=state.closed,
        size=used + idle + connecting + closing, used=used, idle=idle, connecting=connecting, closing=closing,
        waiting=len(state.waiters),
        leases=state.uses_of_closed + sum(entry.uses for entry in entries),
        opened=state.opened, aborted=state.aborted, connect_errors=state.connect_errors,
        waits=state.waits, waited=state.waited, timeouts=state.timeouts, refused=state.refused,
        discards=dict(state.discards),
    )  # fmt: skip


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
