"""Who holds connections, who waits for one, and where each of them stands now: what one asks of an exhausted pool."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any, Optional

from dbpool.frozen import Frozen

if TYPE_CHECKING:
    from types import FrameType

    from dbpool.state import PoolState

Row = tuple[Any, Optional[int], float]  # the key, the thread, and since when
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep  # the standard library, and site-packages in it
TOLD = 5  # holders that an error names


class PoolUser(Frozen):
    """One who holds a connection or waits for one."""

    __slots__ = ("key", "place", "seconds", "thread", "thread_id")

    key: Any  # under which it was leased, or is to be
    thread_id: int | None
    thread: str | None  # its name; None: it has ended, or is not one of threading's
    seconds: float  # for how long
    place: str | None  # where the thread stands now: "file:line in function"; None: it has ended

    def __str__(self) -> str:
        who = f"thread {self.thread!r}" if self.thread else f"thread {self.thread_id}"
        where = f"now at {self.place}" if self.place else "which has ended"
        return f"{who} for {self.seconds:.1f} s, {where}"


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
    """Find out where they stand. Takes no lock: threading's own could be held by the frame below."""
    frames: dict[Any, FrameType] = {}
    known = dict(getattr(sys.modules.get("threading"), "_active", {}))
    try:
        frames.update(current_frames() if rows else {})
        return [
            PoolUser(
                key=key,
                thread_id=ident,
                thread=getattr(known.get(ident), "name", None) if ident in frames else None,
                seconds=max(0.0, now - since),
                place=_place(frames.get(ident)),
            )
            for key, ident, since in rows
        ]
    finally:
        frames.clear()  # our own is among them: a cycle, and all that every thread has in hand would live in it


def current_frames() -> dict[int, FrameType]:
    """Return the frame of each thread, without a garbage collection meanwhile.

    CPython up to 3.11.7 holds a lock of its own there, and a collection would run Python code under it (cpython issue
    106883): another thread that was starting one then stood still, and all with it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if enabled:
            gc.enable()


def described(rows: list[Row], now: float) -> str:
    """Return what an error says of those who hold connections: "; held by ..."."""
    if not rows:
        return ""
    told = ", ".join(map(str, users(rows[:TOLD], now)))
    more = f", and {len(rows) - TOLD} more" if len(rows) > TOLD else ""
    return f"; held by {told}{more}"


def _place(frame: FrameType | None) -> str | None:
    """Name the innermost line of the user's: not of ours, of the standard library or of a package."""
    inner, found = frame, frame
    while found is not None and found.f_code.co_filename.startswith((_OURS, _LIBRARY, "<frozen")):
        found = found.f_back
    found = found or inner
    if found is None:
        return None
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_name}"
