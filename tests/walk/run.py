"""One exploration: a world on its way, replayed as often as needed, and what is known of the states seen so far."""

from __future__ import annotations

import gc
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .canon import Canon
from .reduction import Learned
from .routes import Routes
from .world import Choice, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLLECT_EVERY = 256  # replays; a run that was left leaves cycles behind
CHECK_EVERY = 64  # replays; is what they lead to still the same state?
Path = tuple[Choice, ...]


def nothing(world: World) -> None:
    """Checks nothing."""


@dataclass(frozen=True)
class Scenario:
    """What to build, and what must hold: after each step, and once all threads have ended."""

    name: str
    build: Callable[[World], None]
    invariant: Callable[[World], None] = nothing
    final: Callable[[World], None] = nothing
    expected: tuple[type[BaseException], ...] = ()  # may end a thread
    ignore: dict[str, Any] = field(default_factory=dict)  # see Canon
    ignore_locals: Sequence[str] = ()
    world: Callable[..., Any] = World
    canon: Callable[..., Canon] = Canon


@dataclass(frozen=True)
class Violation:
    """What broke, and the way there; `replay(scenario, choices)` goes it again."""

    message: str
    path: tuple[str, ...]
    choices: Path

    def __str__(self) -> str:
        lines = [f"{number:4} {line}" for number, line in enumerate(self.path, 1)]
        return "\n".join([self.message, *lines])


@dataclass(frozen=True)
class Result:
    """What an exploration saw. The verdict is "complete", "bounded k=...", "cut" or "violation"."""

    scenario: str
    verdict: str
    states: int
    transitions: int
    depth: int
    steps: int  # with those of the replays
    seconds: float
    ends: frozenset[bytes]  # the digests of the states in which all threads have ended
    violation: Violation | None = None

    def __str__(self) -> str:
        line = (
            f"{self.scenario}: {self.verdict}, {self.states:,} states, {self.transitions:,} transitions, "
            f"depth {self.depth}, {self.seconds:.1f} s"
        )
        return line if self.violation is None else f"{line}\n{self.violation}"


class Broken(Exception):
    """A step led to a state that must not be."""


class Stale(Exception):
    """What the exploration left out must be explored: begin again."""


class Knowledge:
    """What is learnt of one scenario, and kept when its exploration begins again."""

    def __init__(self) -> None:
        self.steps = Learned()
        self.routes = Routes()

    @property
    def stale(self) -> bool:
        return self.steps.stale or self.routes.stale

    def refresh(self) -> None:
        self.steps.refresh()
        self.routes.refresh()


class Run:
    """One world on its way, and what is known of the states seen so far by all of them."""

    def __init__(self, scenario: Scenario, bound: int | None, knowledge: Knowledge | None) -> None:
        self.scenario = scenario
        self.bound = bound
        self.knowledge = knowledge
        self.canon = scenario.canon(scenario.ignore, scenario.ignore_locals)
        self.seen: dict[Any, int] = {}  # digest and, if bounded, last thread -> most switches left there
        self.states: set[bytes] = set()
        self.ends: set[bytes] = set()
        self.transitions = self.replays = self.steps = self.depth = 0
        self.world: World | None = None

    def go(self, path: Path, digest: bytes | None = None) -> World:
        """Begin a new world and lead it along *path*."""
        if self.world is not None:
            self.world.end()
        if self.knowledge is not None and self.knowledge.stale:
            raise Stale
        self.replays += 1
        if self.replays % COLLECT_EVERY == 0:
            gc.collect(0)
        world = self.world = begun(self.scenario, self.knowledge)
        for choice in path:
            world.advance(choice)
        self.steps += len(path)
        if digest and self.replays % CHECK_EVERY == 0 and self.canon.digest(world) != digest:
            raise RuntimeError(f"{self.scenario.name}: a replay led elsewhere, so something outlives its run")
        return world

    def step(self, choice: Choice, left: int) -> bytes | None:
        """Take one step; return the digest of a state that is worth exploring, None if it is known."""
        digest = self.take(choice)
        key = digest if self.bound is None else (digest, self.world.memory(choice))  # type: ignore[union-attr]
        if self.seen.get(key, -1) >= left:
            return None
        self.seen[key] = left
        return digest

    def take(self, choice: Choice) -> bytes:
        """Take one step; return the digest of the state it leads to, which is checked if it is new."""
        world = self.world
        assert world is not None
        self.transitions += 1
        self.steps += 1
        try:
            take(world, choice, self.knowledge)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
            raise Broken(f"{world.current.name} died of {what}") from None
        digest = self.canon.digest(world)
        if digest not in self.states:
            self.check(world, digest)
        return digest

    def check(self, world: World, digest: bytes) -> None:
        """A state is seen for the first time: note it, and check that it may be."""
        self.states.add(digest)
        try:
            self.scenario.invariant(world)
            if all(thread.body is None for thread in world.threads):
                self.ends.add(digest)
                self.scenario.final(world)
            elif not world.choices():
                waiting = [repr(thread) for thread in world.threads if thread.body is not None]
                raise Broken(f"deadlock: {', '.join(waiting)}")
        except AssertionError as error:
            raise Broken(f"invariant: {error}") from None

    def options(self, world: World, last: int | None, left: int) -> list[tuple[Choice, int]]:
        """The choices, each with the switches left after it; going on with the same thread comes first."""
        if self.bound is None:
            return [(choice, 0) for choice in world.choices()]
        costs = [(choice, left - cost) for choice, cost in world.costs(last)]
        return [each for each in costs if each[1] >= 0]

    def result(self, verdict: str, started: float, violation: Violation | None = None) -> Result:
        if verdict == "complete" and self.bound is not None:
            verdict = f"bounded k={self.bound}"
        return Result(
            self.scenario.name,
            verdict,
            len(self.states),
            self.transitions,
            self.depth,
            self.steps,
            time.monotonic() - started,
            frozenset(self.ends),
            violation,
        )


def begun(scenario: Scenario, knowledge: Knowledge | None) -> World:
    """Build a new world."""
    world: World = scenario.world(scenario.expected, None if knowledge is None else knowledge.steps)
    scenario.build(world)
    world.begin()
    return world


def take(world: World, choice: Choice, knowledge: Knowledge | None) -> None:
    """Take one step, and learn from it."""
    if knowledge is None:
        world.advance(choice)
    else:
        with knowledge.routes.lesson(world, choice):
            world.advance(choice)
