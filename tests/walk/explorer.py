"""Explores every order of the steps of a scenario's threads, by running it again and again."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from collector import no_collector

from .run import Broken, Knowledge, Result, Run, Scenario, Stale, Violation, begun, take
from .search import Limits, Search, breadth_first, depth_first, with_sleep_sets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .run import Path
    from .world import Choice

__all__ = ["Result", "Scenario", "Violation", "explore", "replay", "shortest"]
LESSONS = 300  # random ways, to learn which steps are in conflict
LONGEST = 1000  # steps of such a way


def explore(
    scenario: Scenario,
    *,
    bound: int | None = None,
    max_states: int | None = None,
    max_seconds: float | None = None,
    reduced: bool = False,
) -> Result:
    """Explore depth first, with at most *bound* switches away from a thread that could have gone on.

    *reduced*: steps that commute with all that others do are taken together with the one before them.
    """
    search = with_sleep_sets if reduced and bound is None else depth_first
    return _search(search, scenario, bound, Limits(max_states, max_seconds), reduced)


def shortest(
    scenario: Scenario,
    *,
    bound: int | None = None,
    max_states: int | None = None,
    max_seconds: float | None = None,
    reduced: bool = False,
) -> Result:
    """Explore breadth first: a violation is then one with the fewest steps."""
    return _search(breadth_first, scenario, bound, Limits(max_states, max_seconds), reduced)


def replay(scenario: Scenario, choices: Path) -> list[str]:
    """Go one way, found without reduction, again and tell its steps; raises what the last one raises."""
    with no_collector():
        world = begun(scenario, None)
        told = []
        try:
            for choice in choices:
                told.append(world.label(choice))
                world.advance(choice)
            scenario.invariant(world)
            return told
        finally:
            world.end()


def _search(search: Search, scenario: Scenario, bound: int | None, limits: Limits, reduced: bool) -> Result:
    knowledge = Knowledge() if reduced else None
    with no_collector():
        if knowledge is not None:
            _learn(scenario, knowledge)
        while True:
            run, path = Run(scenario, bound, knowledge), []
            try:
                complete = search(run, limits, path)
                if knowledge is None or not knowledge.stale:
                    return run.result("complete" if complete else "cut", limits.started)
            except Stale:
                pass
            except Broken as broken:
                message = str(broken)
                break
            finally:
                if run.world is not None:
                    run.world.end()
            knowledge.refresh()  # type: ignore[union-attr]
        violation = Violation(message, tuple(_tell(scenario, path, knowledge)), tuple(path))
        return run.result("violation", limits.started, violation)


def _learn(scenario: Scenario, knowledge: Knowledge) -> None:
    """Go some ways at random, to see what the threads touch: most conflicts come to light."""
    rng = Random(1)
    for _ in range(LESSONS):
        world = begun(scenario, knowledge)
        for _ in range(LONGEST):
            choices = world.choices()
            if not choices:
                break
            try:
                take(world, rng.choice(choices), knowledge)
            except BaseException:
                break  # it will be found again
        world.end()
        knowledge.refresh()


def _tell(scenario: Scenario, path: list[Choice], knowledge: Knowledge | None) -> Iterator[str]:
    """The labels along a path whose last step may break something."""
    world = begun(scenario, knowledge)
    for choice in path:
        yield world.label(choice)
        try:
            world.advance(choice)
        except BaseException:
            continue
    world.end()
