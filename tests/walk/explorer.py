"""Explores every order of the steps of a scenario's threads, by running it again and again."""

from __future__ import annotations

import gc
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .canon import Canon
from .world import (
    Blocked,
    Body,
    Choice,
    Pause,
    Step,
    Thread,
    WalkLock,
    WalkSignal,
    World,
    walk_id,
    walk_ident,
)

__all__ = [
    "Blocked",
    "Body",
    "Choice",
    "Pause",
    "Result",
    "Scenario",
    "Step",
    "Thread",
    "Violation",
    "WalkLock",
    "WalkSignal",
    "World",
    "explore",
    "replay",
    "shortest",
    "walk_id",
    "walk_ident",
]
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
    violation: Violation | None = None

    def __str__(self) -> str:
        line = (
            f"{self.scenario}: {self.verdict}, {self.states:,} states, {self.transitions:,} transitions, "
            f"depth {self.depth}, {self.seconds:.1f} s"
        )
        return line if self.violation is None else f"{line}\n{self.violation}"


class _Broken(Exception):
    """A step led to a state that must not be."""


class _Run:
    """One world on its way, and what is known of the states seen so far by all of them."""

    def __init__(self, scenario: Scenario, bound: int | None) -> None:
        self.scenario = scenario
        self.bound = bound
        self.canon = Canon(scenario.ignore, scenario.ignore_locals)
        self.seen: dict[Any, int] = {}  # digest and, if bounded, last thread -> most switches left there
        self.states: set[bytes] = set()
        self.transitions = self.replays = self.steps = self.depth = 0
        self.world: World | None = None

    def go(self, path: Path, digest: bytes | None = None) -> World:
        """Begin a new world and lead it along *path*."""
        if self.world is not None:
            self.world.end()
        self.replays += 1
        if self.replays % COLLECT_EVERY == 0:
            gc.collect(0)
        world = self.world = World(self.scenario.expected)
        self.scenario.build(world)
        for choice in path:
            world.advance(choice)
        self.steps += len(path)
        if digest and self.replays % CHECK_EVERY == 0 and self.canon.digest(world) != digest:
            raise RuntimeError(f"{self.scenario.name}: a replay led elsewhere, so something outlives its run")
        return world

    def step(self, choice: Choice, left: int) -> bytes | None:
        """Take one step; return the digest of a state that is worth exploring, None if it is known."""
        world = self.world
        assert world is not None
        self.transitions += 1
        self.steps += 1
        try:
            world.advance(choice)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
            raise _Broken(f"{world.current.name} died of {what}") from None
        digest = self.canon.digest(world)
        key = digest if self.bound is None else (digest, choice[0])
        if self.seen.get(key, -1) >= left:
            return None
        self.seen[key] = left
        if digest not in self.states:
            self.states.add(digest)
            self.check(world)
        return digest

    def check(self, world: World) -> None:
        try:
            self.scenario.invariant(world)
            if all(thread.body is None for thread in world.threads):
                self.scenario.final(world)
            elif not world.choices():
                waiting = [repr(thread) for thread in world.threads if thread.body is not None]
                raise _Broken(f"deadlock: {', '.join(waiting)}")
        except AssertionError as error:
            raise _Broken(f"invariant: {error}") from None

    def options(self, world: World, last: int | None, left: int) -> list[tuple[Choice, int]]:
        """The choices, each with the switches left after it; going on with the same thread comes first."""
        choices = world.choices()
        if self.bound is None:
            return [(choice, 0) for choice in choices]
        goes_on = any(index == last and told is not False for index, told in choices)
        costs = [(choice, left - (goes_on and choice[0] != last)) for choice in choices]
        return sorted((each for each in costs if each[1] >= 0), key=lambda each: each[0][0] != last)

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
            violation,
        )


@dataclass
class _Limits:
    states: int | None
    seconds: float | None
    started: float = field(default_factory=time.monotonic)

    def reached(self, run: _Run) -> bool:
        if self.states is not None and len(run.states) >= self.states:
            return True
        return self.seconds is not None and time.monotonic() - self.started > self.seconds


@contextmanager
def _no_collector() -> Iterator[None]:
    """The cyclic collector would free connections at moments of its own."""
    enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def explore(
    scenario: Scenario,
    *,
    bound: int | None = None,
    max_states: int | None = None,
    max_seconds: float | None = None,
) -> Result:
    """Explore depth first, with at most *bound* switches away from a thread that could have gone on."""
    return _search(_depth_first, scenario, bound, _Limits(max_states, max_seconds))


def shortest(
    scenario: Scenario,
    *,
    bound: int | None = None,
    max_states: int | None = None,
    max_seconds: float | None = None,
) -> Result:
    """Explore breadth first: a violation is then one with the fewest steps."""
    return _search(_breadth_first, scenario, bound, _Limits(max_states, max_seconds))


def replay(scenario: Scenario, choices: Path) -> list[str]:
    """Go one way again and tell its steps; raises what the last one raises."""
    with _no_collector():
        world = World(scenario.expected)
        scenario.build(world)
        told = []
        try:
            for choice in choices:
                told.append(world.label(choice))
                world.advance(choice)
            scenario.invariant(world)
            return told
        finally:
            world.end()


Walk = Callable[[_Run, _Limits, list[Choice]], bool]


def _search(walk: Walk, scenario: Scenario, bound: int | None, limits: _Limits) -> Result:
    run = _Run(scenario, bound)
    path: list[Choice] = []
    with _no_collector():
        try:
            complete = walk(run, limits, path)
            return run.result("complete" if complete else "cut", limits.started)
        except _Broken as broken:
            message = str(broken)
        finally:
            if run.world is not None:
                run.world.end()
        violation = Violation(message, tuple(_tell(scenario, path)), tuple(path))
        return run.result("violation", limits.started, violation)


def _tell(scenario: Scenario, path: list[Choice]) -> Iterator[str]:
    """The labels along a path whose last step may break something."""
    world = World(scenario.expected)
    scenario.build(world)
    for choice in path:
        yield world.label(choice)
        try:
            world.advance(choice)
        except BaseException:
            continue
    world.end()


def _depth_first(run: _Run, limits: _Limits, path: list[Choice]) -> bool:
    """Follow one branch to its end without a replay; each branch left open costs one."""
    left = run.bound or 0
    world = run.go(())
    run.check(world)
    digests = [run.canon.digest(world)]
    run.states.add(digests[0])
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


def _breadth_first(run: _Run, limits: _Limits, path: list[Choice]) -> bool:
    left = run.bound or 0
    world = run.go(())
    run.check(world)
    run.states.add(run.canon.digest(world))
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
