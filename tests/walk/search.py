"""In which order an exploration goes on: depth first, with sleep sets or within a bound, or breadth first."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .run import Path, Run
from .world import Block, Choice, World, commute

if TYPE_CHECKING:
    from .routes import Routes

Search = Callable[[Run, "Limits", list[Choice]], bool]


@dataclass
class Limits:
    """When to give up."""

    states: int | None
    seconds: float | None
    started: float = field(default_factory=time.monotonic)

    def reached(self, run: Run) -> bool:
        if self.states is not None and len(run.states) >= self.states:
            return True
        return self.seconds is not None and time.monotonic() - self.started > self.seconds


def depth_first(run: Run, limits: Limits, path: list[Choice]) -> bool:
    """Follow one branch to its end without a replay; each branch left open costs one."""
    left = run.bound or 0
    world = run.go(())
    digests = [run.canon.digest(world)]
    run.check(world, digests[0])
    open_ends = [run.options(world, None, left)[::-1]]
    stands = True  # the world is where the path ends
    while open_ends:
        if limits.reached(run):
            return False
        if not open_ends[-1]:
            open_ends.pop(), digests.pop()
            if path:
                path.pop()
            stands = False
            continue
        choice, left = open_ends[-1].pop()
        if not stands:
            world = run.go(tuple(path), digests[-1])
        path.append(choice)
        digest = run.step(choice, left)
        run.depth = max(run.depth, len(path))
        stands = digest is not None
        if digest is None:
            path.pop()
        else:
            digests.append(digest)
            open_ends.append(run.options(world, choice[0], left)[::-1])
    return True


def with_sleep_sets(run: Run, limits: Limits, path: list[Choice]) -> bool:
    """The same, without what leads to a state that another order of steps that commute led to already.

    A choice is put to sleep once it was explored, and wakes as soon as a step is taken that does not commute with it
    (Godefroid's sleep sets). Every state is met all the same.
    """
    assert run.knowledge is not None
    routes = run.knowledge.routes
    world = run.go(())
    digests = [run.canon.digest(world)]
    run.check(world, digests[0])
    slept: dict[bytes, frozenset[Choice]] = {digests[0]: frozenset()}  # the choices not taken there
    ends = [_End(routes, world, {})]
    stands = True
    while ends:
        if limits.reached(run):
            return False
        end = ends[-1]
        if not end.choices:
            ends.pop(), digests.pop()
            if path:
                path.pop()
            stands = False
            continue
        choice = end.choices.pop()
        if not stands:
            world = run.go(tuple(path), digests[-1])
        path.append(choice)
        digest = run.take(choice)
        run.depth = max(run.depth, len(path))
        asleep = {
            other: its for other, its in end.asleep.items() if other[0] != choice[0] and commute(its, world.block)
        }  # fmt: skip
        end.asleep[choice] = world.block
        if digest in digests:
            end.open_all()
        after = _End(routes, world, asleep)
        if digest in slept:
            after.choices = [each for each in slept[digest] if each not in asleep]
            slept[digest] &= asleep.keys()
        else:
            slept[digest] = frozenset(after.slept)
        stands = bool(after.choices)
        if stands:
            digests.append(digest)
            ends.append(after)
        else:
            path.pop()
    return True


class _End:
    """Where an exploration stands: what is to be explored from there, and what another way has covered."""

    def __init__(self, routes: Routes, world: World, asleep: dict[Choice, Block]) -> None:
        every = world.choices()
        wanted = routes.alone(world, every)
        self.asleep = asleep
        self.choices = [choice for choice in wanted[::-1] if choice not in asleep]
        self.slept = [choice for choice in wanted if choice in asleep]
        self._others = [choice for choice in every if choice not in wanted and choice not in asleep]

    def open_all(self) -> None:
        """A way that leads back to itself: what others can do must not be put off for ever."""
        self.choices += self._others
        self._others = []


def breadth_first(run: Run, limits: Limits, path: list[Choice]) -> bool:
    left = run.bound or 0
    world = run.go(())
    run.check(world, run.canon.digest(world))
    todo: deque[tuple[Path, int]] = deque([((), left)])
    while todo:
        way, left = todo.popleft()
        world = run.go(way)
        options = run.options(world, way[-1][0] if way else None, left)
        for number, (choice, left_then) in enumerate(options):
            if limits.reached(run):
                return False
            if number:
                run.go(way)
            path[:] = [*way, choice]
            if run.step(choice, left_then) is not None:
                run.depth = len(path)
                todo.append((tuple(path), left_then))
    return True
