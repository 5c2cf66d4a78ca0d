"""A run: warm up, load and faults, quiet, the last checks; and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .events import read
from .faults import KINDS, Healed, interrupt
from .history import Story, Violation, judge
from .leftovers import Belongings, backends_left, balance, settled, take_all, warm_up
from .load import Load
from .noise import Noise
from .sampler import Sampler
from .scene import MAXCONN, TIMEOUT, Scene, staged

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from .recovery import Recovery
    from .sampler import Count

FIRST_CALM, CALM = (0.3, 1.2), (1.0, 4.0)  # seconds between two faults: while each kind strikes once, and later
RECOVERS = 20.0  # seconds in which the pool must serve again with all it has


class Cast(NamedTuple):
    """Who takes part: with threads, or with the tasks of an event loop."""

    scene: type[Scene]
    load: Callable[[Any], Load]
    faults: dict[str, Callable[[Any, Any], Healed]]


THREADS = Cast(Scene, Load, {**KINDS, "interrupt": interrupt})


class Strike(NamedTuple):
    """A fault that has struck."""

    kind: str
    at: float  # seconds since the load began
    text: str
    recovery: Recovery | None


@dataclass
class Result:
    """What came of a run."""

    seed: int
    shown: str = ""  # what the load is made of
    how: str = ""
    seconds: float = 0.0
    strikes: list[Strike] = field(default_factory=list)
    errors: Counter[str] | None = None
    logged: Counter[str] | None = None  # the pool's warnings
    story: Story | None = None
    violations: list[Violation] = field(default_factory=list)
    interrupts: int = 0
    most: Count | None = None
    most_held: int = 0
    looks: int = 0
    longest_stall: float = 0.0
    gave: int = 0  # leases that could be taken at the end
    stats: Any = None
    left: dict[str, float] = field(default_factory=dict)  # what may not be: slots, threads, tasks, descriptors ...
    grown: float = 0.0  # megabytes

    @property
    def is_good(self) -> bool:
        return not self.violations and not any(self.left.values())


def soak(seconds: float, seed: int, folder: Path, cast: Cast = THREADS) -> Result:
    """Run for so many *seconds*, or until each kind of fault has struck; leave the history in *folder*."""
    result = Result(seed, cast.scene.shown)
    with Noise() as noise, staged(folder, seed, cast.scene) as (scene, result.how):
        before = warm_up(scene)
        scene.open_pool()
        load, sampler = cast.load(scene), Sampler(scene)
        scene.tracker.arm()
        began = time.monotonic()
        load.start()
        sampler.start()
        if scene.tracker.recovery(began, MAXCONN, RECOVERS) is None:
            raise RuntimeError("the pool does not serve: there is nothing to disturb")
        at_first = Belongings.now(scene)
        result.strikes = strike(scene, load, cast.faults, began + seconds)
        load.stop(2 * TIMEOUT)
        result.seconds = time.monotonic() - began
        finish(scene, sampler, result)
        measure_leftovers(scene, before, at_first, result)
        result.errors, result.interrupts = load.errors(), sum(worker.interrupts for worker in load.workers)
        tokens = [token for (token,) in scene.ask("SELECT token FROM token")]
        result.violations += scene.violations
        result.violations += [Violation("not raised", 0.0, text) for text in noise.defects]
        result.logged = noise.logged
    result.story = Story(read(folder))
    result.violations += judge(result.story, tokens)
    for lease in result.story.leases:
        if lease.refused is not None and lease.timeout >= TIMEOUT:
            result.violations.append(Violation("getconn failed", lease.answered, f"{lease}: {lease.refused}"))
    return result


def strike(scene: Scene, load: Load, kinds: dict[str, Any], end: float) -> list[Strike]:
    """Have each kind strike once, in an order that the seed says, and then any, until the *end*."""
    strikes: list[Strike] = []
    began = time.monotonic()
    waiting = scene.rng.sample(list(kinds), len(kinds))
    while waiting or time.monotonic() < end:
        time.sleep(scene.rng.uniform(*(FIRST_CALM if waiting else CALM)))
        kind = waiting.pop() if waiting else scene.rng.choice(list(kinds))
        scene.tracker.arm()
        at = time.monotonic() - began
        healed: Healed = kinds[kind](scene, load)
        recovery = scene.tracker.recovery(healed.at, MAXCONN, RECOVERS)
        if recovery is None:
            scene.accuse("no recovery", f"{RECOVERS:g} s after {kind} ({healed.text}): {scene.pool!r}")
        strikes.append(Strike(kind, at, healed.text, recovery))
    return strikes


def finish(scene: Scene, sampler: Sampler, result: Result) -> None:
    """All is quiet and whole: the pool must be so, too, and then end."""
    result.gave = take_all(scene)
    result.stats = balance(scene)
    sampler.stop()
    result.most, result.most_held, result.looks = sampler.most, sampler.most_held, sampler.looks
    result.longest_stall = sampler.longest_stall
    scene.pool.close(timeout=5)


def measure_leftovers(scene: Scene, before: Belongings, at_first: Belongings, result: Result) -> None:
    backends = backends_left(scene)
    after = settled(scene, before)
    result.left = {
        "slots": MAXCONN - result.gave,
        "threads": max(0, after.threads - before.threads),
        "tasks": after.tasks,
        "descriptors": max(0, after.descriptors - before.descriptors),
        "backends": backends,
    }
    result.grown = after.megabytes - at_first.megabytes
