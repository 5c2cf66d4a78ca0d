"""Who holds connections, and who waits for one: what one asks of an exhausted pool."""

from __future__ import annotations

import sys
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Optional

from dbpool import standing
from dbpool.frozen import Frozen

if TYPE_CHECKING:
    from dbpool.state import PoolState

Row = tuple[Any, Any, float, Optional[str]]  # the key, the thread, since when, and where it was leased
TOLD = 5  # holders that an error names


class PoolUser(Frozen):
    """One who holds a connection or waits for one."""

    __slots__ = ("at", "key", "seconds", "site", "thread", "thread_id")

    key: Any  # under which it was leased, or is to be
    thread_id: int | None
    thread: str | None  # its name; None: it has ended, or is not one of threading's
    seconds: float  # for how long
    at: str | None  # where it stands now, if it runs Python code: "file:line in function"
    site: str | None  # where it got the connection, with trace=True

    def __str__(self) -> str:
        named = f"thread {self.thread!r}" if self.thread else f"thread {self.thread_id}"
        if self.at is None and not self.thread:
            named += ", which has ended"
        return f"{named} for {self.seconds:.1f} s{traced(self.site)}{f', now at {self.at}' if self.at else ''}"


def traced(site: str | None) -> str:
    """Return what is said of the place where a connection was got."""
    return f" (got it at {site})" if site else ""


def row(entry: Any) -> Row:
    """Return what is known of a lease."""
    return entry.key, entry.holder, entry.since, entry.site


def leased(state: PoolState) -> list[Row]:
    """Return the leases, the longest first. Takes no lock."""
    return sorted(map(row, entries(state)), key=_since)


def entries(state: PoolState) -> list[Any]:
    """Return the entries of leased connections."""
    return [
        entry
        for entry in list(state.entries.values())
        if entry.cid is not None
        and entry.cid not in state.closing
        and (entry.key is not None or state.leases.get(entry.cid) is entry)
    ]


def waiting(state: PoolState) -> list[Row]:
    """Return those in line, the next one first."""
    return [(waiter.key, waiter.ident, waiter.since, None) for waiter in state.waiters]


def _since(known: Row) -> float:
    return known[2]


def users(rows: list[Row], now: float) -> list[PoolUser]:
    """Find their names and where they stand. Takes no lock: threading's own could be held by the frame below."""
    known: Any = {**getattr(sys.modules.get("threading"), "_active", {})}
    all_known = all(ident in known for _, ident, _, _ in rows)  # else one may have ended since the last look
    places: dict[Any, str] = {**standing.now(fresh=not all_known)} if rows else {}
    return [
        PoolUser(
            key=key,
            thread_id=ident,
            thread=getattr(known.get(ident), "name", None),
            seconds=max(0.0, now - since),
            at=places.get(ident),
            site=site,
        )
        for key, ident, since, site in rows
    ]


def described(rows: list[Row], waiters: list[Row], now: float) -> str:
    """Return what an error says of those who hold connections: "; held by ..."."""
    if not rows:
        return ""
    told = ", ".join(map(str, users(rows[:TOLD], now)))
    more = f", and {len(rows) - TOLD} more" if len(rows) > TOLD else ""
    in_line = {get_ident(), *(ident for _, ident, _, _ in waiters)}  # this thread, too, comes from there
    nested = "; each of them waits for this pool itself" if all(ident in in_line for _, ident, _, _ in rows) else ""
    return f"; held by {told}{more}{nested}"
