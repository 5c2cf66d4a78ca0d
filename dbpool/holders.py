"""Who holds connections, and who waits for one: what one asks of an exhausted pool."""

from __future__ import annotations

import sys
from _thread import get_ident
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Optional

from dbpool import standing
from dbpool.frozen import Frozen

if TYPE_CHECKING:
    from dbpool.state import PoolState

Row = tuple[Any, Any, float, Optional[str]]  # the key, the thread, since when, and where it was leased
TOLD = 5  # holders that an error names


class PoolUser(Frozen):
    """One who holds a connection or waits for one."""

    __slots__ = ("at", "key", "seconds", "site", "task", "thread", "thread_id")

    key: Any  # under which it was leased, or is to be
    thread_id: int | None
    thread: str | None  # its name; None: it has ended, or is not one of threading's
    task: str | None  # asyncio: the task's name; then there is no thread
    seconds: float  # for how long
    at: str | None  # where it stands now, if it runs Python code: "file:line in function"
    site: str | None  # where it got the connection, with trace=True

    def __str__(self) -> str:
        if self.thread_id is None:
            named = f"task {self.task!r}" if self.task else "a task which has ended"
        else:
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


def oldest(state: PoolState) -> tuple[list[Any], list[Row]]:
    """Return the entries of leased connections, the longest leased first, and what is known of each lease."""
    found = sorted(entries(state), key=attrgetter("since"))
    return found, [row(entry) for entry in found]


def connecting(state: PoolState) -> list[float]:
    """Return since when each connection is being opened."""
    return [ticket.since for ticket in [known() for known in list(state.tickets)] if ticket is not None]


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


class Threads:
    """Tells threads from each other, and where they stand."""

    def me(self) -> int | None:
        """Return who asks."""
        return get_ident()

    def numbers(self, idents: list[Any]) -> list[int]:
        """Return a number for each that tells it from the others."""
        return idents

    def named(self, ident: Any) -> str:
        """Return what one is called."""
        return f"thread {ident}"

    def told(self, idents: list[Any]) -> list[dict[str, Any]]:
        """Return what a PoolUser says of each. Takes no lock: threading's own could be held by the frame below."""
        known: Any = {**getattr(sys.modules.get("threading"), "_active", {})}
        all_known = all(ident in known for ident in idents)  # else one may have ended since the last look
        places: dict[Any, str] = {**standing.now(fresh=not all_known)} if idents else {}
        return [
            {
                "thread_id": ident,
                "thread": getattr(known.get(ident), "name", None),
                "task": None,
                "at": places.get(ident),
            }
            for ident in idents
        ]


THREADS = Threads()


def users(rows: list[Row], now: float, who: Any = THREADS) -> list[PoolUser]:
    """Find their names and where they stand."""
    told = who.told([ident for _, ident, _, _ in rows])
    return [
        PoolUser(key=key, seconds=max(0.0, now - since), site=site, **words)
        for (key, _, since, site), words in zip(rows, told)
    ]


def described(rows: list[Row], waiters: list[Row], now: float, who: Any = THREADS) -> str:
    """Return what an error says of those who hold connections: "; held by ..."."""
    if not rows:
        return ""
    told = ", ".join(map(str, users(rows[:TOLD], now, who)))
    more = f", and {len(rows) - TOLD} more" if len(rows) > TOLD else ""
    in_line = set(who.numbers([who.me(), *(ident for _, ident, _, _ in waiters)]))  # who asks, too, comes from there
    nested = all(number and number in in_line for number in who.numbers([ident for _, ident, _, _ in rows]))
    return f"; held by {told}{more}{'; each of them waits for this pool itself' if nested else ''}"
