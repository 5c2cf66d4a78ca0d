"""Who holds connections, and who waits for one: what one asks of an exhausted pool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

from dbpool.frozen import Frozen

if TYPE_CHECKING:
    from dbpool.state import PoolState

Row = tuple[Any, Optional[int], float]  # the key, the thread, and since when
TOLD = 5  # holders that an error names


class PoolUser(Frozen):
    """One who holds a connection or waits for one."""

    __slots__ = ("key", "seconds", "thread", "thread_id")

    key: Any  # under which it was leased, or is to be
    thread_id: int | None
    thread: str | None  # its name; None: it has ended, or is not one of threading's
    seconds: float  # for how long

    def __str__(self) -> str:
        who = f"thread {self.thread!r}" if self.thread else f"thread {self.thread_id}, which has ended"
        return f"{who} for {self.seconds:.1f} s"


def leased(state: PoolState) -> list[Row]:
    """Return the leases, the longest first. Called under the lock; nothing slow is done."""
    return sorted(
        ((entry.key, entry.holder, entry.since) for entry in list(state.entries.values()) if _is_leased(state, entry)),
        key=_since,
    )


def _is_leased(state: PoolState, entry: Any) -> bool:
    return entry.cid not in state.closing and (entry.key is not None or state.leases.get(entry.cid) is entry)


def waiting(state: PoolState) -> list[Row]:
    """Return those in line, the next one first."""
    return [(waiter.key, waiter.ident, waiter.since) for waiter in state.waiters]


def _since(row: Row) -> float:
    return row[2]


def users(rows: list[Row], now: float) -> list[PoolUser]:
    """Find their names. Takes no lock: threading's own could be held by the frame below."""
    known = dict(getattr(sys.modules.get("threading"), "_active", {}))
    return [
        PoolUser(
            key=key,
            thread_id=ident,
            thread=getattr(known.get(ident), "name", None),
            seconds=max(0.0, now - since),
        )
        for key, ident, since in rows
    ]


def described(rows: list[Row], now: float) -> str:
    """Return what an error says of those who hold connections: "; held by ..."."""
    if not rows:
        return ""
    told = ", ".join(map(str, users(rows[:TOLD], now)))
    more = f", and {len(rows) - TOLD} more" if len(rows) > TOLD else ""
    return f"; held by {told}{more}"
