"""Strategies: who goes on at a yield point. Random, by priorities, or by plan, to go through all plans."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from .baton import Worker

TIME = 0  # the number that stands for "time passes" where workers are numbered from 1


class Strategy(Protocol):
    """*eager*: to be asked again whenever somebody can go on who could not."""

    eager: bool

    def choose(self, step: int, current: Worker | None, able: list[Worker], waits: bool) -> Worker | None:
        """Return one of those who are *able* to go on; None, if somebody *waits* for a deadline: let time pass."""

    def alarm(self, step: int) -> float:
        """Return the step at which to be asked next."""


class InTurn:
    """Whoever runs goes on until it sleeps."""

    eager = False

    def choose(self, step: int, current: Worker | None, able: list[Worker], waits: bool) -> Worker | None:
        return current if current in able else able[0]

    def alarm(self, step: int) -> float:
        return float("inf")


class AtRandom:
    """Changes to anybody after a random number of steps, whose mean is drawn for each run."""

    eager = False

    def __init__(self, random: Random) -> None:
        self._random = random
        self._rate = 1 / random.choice((2, 8, 30, 100))

    def choose(self, step: int, current: Worker | None, able: list[Worker], waits: bool) -> Worker | None:
        if waits and self._random.random() < 0.05:
            return None
        return self._random.choice(able)

    def alarm(self, step: int) -> float:
        return step + 1 + int(self._random.expovariate(self._rate))


class ByPriority:
    """PCT: the ablest by a random order; at *depth* - 1 random steps the one who runs becomes the last.

    Finds a bug that needs *depth* ordered steps among n with a probability of 1 / (threads * n ** (depth - 1)) or more.
    """

    eager = True

    def __init__(self, random: Random, depth: int = 3) -> None:
        self._random = random
        length = random.choice((100, 400, 1500))
        self._changes = sorted(random.sample(range(length), depth - 1))
        self._ranks: dict[int, float] = {}
        self._last = 0.0

    def choose(self, step: int, current: Worker | None, able: list[Worker], waits: bool) -> Worker | None:
        if self._changes and step >= self._changes[0]:
            self._changes.pop(0)
            if current is not None:
                self._demote(current.number)
        best = max(able, key=lambda worker: self._rank(worker.number))
        if waits and self._rank(TIME) > self._rank(best.number):
            self._demote(TIME)
            return None
        return best

    def alarm(self, step: int) -> float:
        return self._changes[0] if self._changes else float("inf")

    def _rank(self, number: int) -> float:
        return self._ranks.setdefault(number, self._random.random())

    def _demote(self, number: int) -> None:
        self._last -= 1
        self._ranks[number] = self._last


Plan = dict[int, int]  # which choice (they are counted) falls on whom; all others on the one who runs


class ByPlan:
    """Follows a plan, and notes what else could have been chosen after its last entry."""

    eager = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._first = max(plan, default=-1) + 1
        self._count = 0
        self.others: list[tuple[int, int, int]] = []  # which choice, whom else, whether that would be a preemption

    def choose(self, step: int, current: Worker | None, able: list[Worker], waits: bool) -> Worker | None:
        count, self._count = self._count, self._count + 1
        default = current if current in able else able[0]
        if count in self.plan:
            number = self.plan[count]
            return None if number == TIME else next(worker for worker in able if worker.number == number)
        if count >= self._first:
            cost = int(default is current)
            self.others += [(count, worker.number, cost) for worker in able if worker is not default]
            if waits:
                self.others.append((count, TIME, 1))
        return default

    def alarm(self, step: int) -> float:
        return step + 1


def plans(preemptions: int) -> Iterator[ByPlan]:
    """Yield a strategy for each schedule with no more than so many *preemptions*. Run it before asking for the next."""
    pending: deque[tuple[Plan, int]] = deque([({}, preemptions)])
    while pending:
        plan, left = pending.popleft()
        strategy = ByPlan(plan)
        yield strategy
        for count, number, cost in strategy.others:
            if cost <= left:
                pending.append(({**plan, count: number}, left - cost))
