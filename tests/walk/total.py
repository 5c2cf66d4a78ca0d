"""What the walk over many endpoints knows of a total: counted from the pools themselves, not as the Limiter does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbpool import Limiter

    from .canon import Parts


def states(pool: Any) -> list[Any]:
    """The states of all endpoints."""
    return [member._state for member in list(pool._pools.values())]


def in_total(every: list[Any]) -> int:
    """How many are open, being opened or being closed."""
    return sum(len(state.entries) + len(state.tickets) for state in every)


def older_than(since: float, asking: Any, every: list[Any], now: float) -> int:
    """How many wait at other endpoints, for whom there is room there, and who came before *since*."""
    older = 0
    for state in every:
        if state is asking or not state.may_connect(now):
            continue
        line = [waiter for waiter in state.waiters if waiter.ticket is None or waiter.ticket.ref is None]
        waiting = [waiter for waiter in line if waiter.conn is None and waiter.error is None]
        room = min(state.waiters.room(state.size()), len(state.waiters) - len(state.tickets))
        older += sum(waiter.since < since for waiter in waiting[: max(0, int(room))])
    return older


def canon_of(limiter: Limiter) -> Parts:
    """What the future of a Limiter depends on; which of equal age came first, its numbers tell no more."""
    known = list(limiter._sizes)
    ages = [(known.index(member) if member in known else None, age) for age, _, member in sorted(limiter._ages)]
    ranked = [member in limiter._ranked for member in known]
    wishing = [known.index(member) for member in limiter._wishing if member in known]
    sizes = list(limiter._sizes.values())
    return "limiter", [limiter._total, limiter._counting is None, *sizes, *map(tuple, (ages, ranked, wishing)), *known]
