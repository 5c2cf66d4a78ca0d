"""Exploring: runs schedules, counts them, and tells how to repeat the one that fails."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from .baton import Scheduler
from .points import watch
from .programs import Program, Run, random_program
from .stand_ins import replaced
from .strategies import AtRandom, ByPlan, ByPriority, InTurn, Strategy, plans

if TYPE_CHECKING:
    from collections.abc import Iterator


SHOWN = 40  # switches of a schedule that failed


class ScheduleFailed(AssertionError):
    """A schedule did what must not be. Its *name* repeats it, with the same source on the same CPython."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass
class Figures:
    """How many schedules were run, how many of them differed, in how many seconds of the processor."""

    kind: str
    schedules: int = 0
    steps: int = 0
    switches: int = 0
    seconds: float = 0.0
    seen: set[int] = field(default_factory=set, repr=False)

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.schedules} schedules, {len(self.seen)} distinct, "
            f"{self.schedules / max(self.seconds, 1e-9):.0f} per second, "
            f"{self.steps / max(self.schedules, 1):.0f} steps and {self.switches / max(self.schedules, 1):.0f} "
            f"switches each"
        )

    def count(self, program: Program, scheduler: Scheduler) -> None:
        self.schedules += 1
        self.steps += scheduler.step
        self.switches += len(scheduler.switches)
        self.seen.add(hash((str(program), tuple(switch[:2] for switch in scheduler.switches))))


def run(program: Program, strategy: Strategy) -> Scheduler:
    """Run one schedule to its end, and then look whether all is well. To be called while watched()."""
    scheduler = Scheduler(strategy, watch)
    with replaced(scheduler):
        try:
            scheduled = Run(scheduler, program)
            scheduler.run()
            scheduler.begin_again(InTurn())
            scheduler.spawn("audit", scheduled.audit)
            scheduler.run()
        except BaseException as error:
            error.scheduler = scheduler  # type: ignore[attr-defined]
            raise
    return scheduler


STRATEGIES = {"random": AtRandom, "pct": ByPriority}


def described(name: str, program: Program, scheduler: Scheduler) -> str:
    lines = [f"schedule {name}; repeat it with DBPOOL_SCHEDULE_SEED={name}", f"  {program}"]
    names = ["time passed", *(f"{worker.name} stopped" for worker in scheduler.workers)]
    for step, number, where, line in scheduler.switches[-SHOWN:]:
        lines.append(f"  at step {step} {names[number]}" + (f" in {where}, line {line}" if where else ""))
    return "\n".join(lines)


def attempt(name: str, program: Program, strategy: Strategy, figures: Figures) -> None:
    """Run one schedule. Raises ScheduleFailed with all that is needed to repeat it."""
    try:
        figures.count(program, run(program, strategy))
    except Exception as error:
        text = described(name, program, error.scheduler)  # type: ignore[attr-defined]
        what = f"after {figures.schedules} others, {type(error).__name__}: {error}"
        raise ScheduleFailed(name, f"{what}\n{text}") from error


def explore(
    kind: str, seconds: float, first: int, named: tuple[str, Program] | None = None, most: float = float("inf")
) -> Figures:
    """Run schedules of random programs, or of one that has a name, for so long, *most* at most.

    Their seeds are counted from *first*.
    """
    figures = Figures(kind)
    began = time.process_time()
    seed = first
    with watched():
        while figures.seconds < seconds and figures.schedules < most:
            title, program = named or ("", random_program(Random(seed)))
            name = "-".join(filter(None, (kind, title, str(seed))))
            attempt(name, program, STRATEGIES[kind](Random(seed)), figures)
            figures.seconds = time.process_time() - began
            seed += 1
    return figures


def exhaust(name: str, program: Program, preemptions: int, seconds: float) -> tuple[Figures, bool]:
    """Run all schedules with so many preemptions; False if the time did not suffice."""
    figures = Figures(f"{name}, {preemptions} preemptions")
    began = time.process_time()
    with watched():
        for strategy in plans(preemptions):
            attempt(f"plan-{name}-{_spelled(strategy)}", program, strategy, figures)
            figures.seconds = time.process_time() - began
            if figures.seconds > seconds:
                return figures, False
    return figures, True


def _spelled(strategy: ByPlan) -> str:
    return ".".join(f"{count}:{number}" for count, number in strategy.plan.items())


def repeat(name: str, programs: dict[str, Program]) -> Figures:
    """Run the schedule with that name once more."""
    kind, _, rest = name.partition("-")
    figures = Figures(name)
    if kind == "plan":
        title, _, spelled = rest.rpartition("-")
        entries = [entry.split(":") for entry in spelled.split(".") if entry]
        plan = {int(count): int(number) for count, number in entries}
        program, strategy = programs[title], ByPlan(plan)
    else:
        title, _, seed = rest.rpartition("-")
        program = programs[title] if title else random_program(Random(int(seed)))
        strategy = STRATEGIES[kind](Random(int(seed)))
    with watched():
        attempt(name, program, strategy, figures)
    return figures


@contextmanager
def watched() -> Iterator[None]:
    """Find the yield points; and collect no garbage: when that is done must not depend on what was run before."""
    gc.collect()
    gc.disable()
    try:
        with watch:
            yield
    finally:
        gc.enable()
