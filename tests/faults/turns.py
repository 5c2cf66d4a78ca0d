"""Records who came to a pool's queue and who was served, in which order. Under the pool's lock, so it is exact."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Turn:
    """One wait that ended well: whose it was, how many others were served meanwhile, how long it took."""

    ident: int
    others: int
    seconds: float


class Turns:
    """The turns of a pool's waiters since this was made. Only for pools whose connections need no closer look."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.turns: list[Turn] = []
        self.inversions = 0
        self._came: deque[tuple[Any, int, float]] = deque()
        self._arrive, self._give = pool._state.arrive, pool._state._give
        pool._state.arrive, pool._state._give = self._arriving, self._giving

    def _arriving(self, waiter: Any) -> Any:
        conn = self._arrive(waiter)
        if waiter.place is not None:
            self._came.append((waiter.place, len(self.turns), time.monotonic()))
        return conn

    def _giving(self, waiter: Any, now: float, doomed: list[Any]) -> bool:
        place = waiter.place
        given = self._give(waiter, now, doomed)
        if given:
            self._count(place, waiter.ident)
        return given

    def _count(self, place: Any, ident: int) -> None:
        number = next(number for number, came in enumerate(self._came) if came[0] is place)
        self.inversions += number  # so many came before, and wait still
        _, before, since = self._came[number]
        del self._came[number]
        self.turns.append(Turn(ident, len(self.turns) - before, time.monotonic() - since))

    def mark(self) -> tuple[int, int]:
        """Return how many turns there were, and how many leases that took no turn: what nobody waited for."""
        with self.pool._lock:
            turns = len(self.turns)
            state = self.pool._state
            leases = state.uses_of_closed + sum(entry.uses for entry in state.entries.values())
        return turns, leases - turns


def p99(values: list[float]) -> float:
    """Return the value that one in a hundred exceeds."""
    return sorted(values)[int(0.99 * (len(values) - 1))]


def mean(values: list[float]) -> float:
    """Return the average."""
    return sum(values) / len(values)
