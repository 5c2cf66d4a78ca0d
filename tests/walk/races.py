"""Random little threads, as text, to compare what a reduced exploration reaches with what a full one does."""

from __future__ import annotations

from random import Random
from typing import Any

from .compiler import Rules, load
from .explorer import Scenario
from .world import Blocked, Body, WalkLock, World

RULES = Rules(
    flags={"gate", "level"},
    containers={"idle", "leases"},
    locks={"lock", "other"},
    calls={"hatch", "rest", "ring"},
)
KINDS = [
    "self.gate = not self.gate",
    "self.level += 1",
    "seen.append(self.level)",
    "seen.append(self.gate)",
    "self.idle.append({name})",
    "seen.append(list(self.idle))",
    "if self.idle: seen.append(self.idle.pop())",
    "self.leases[{name}] = self.level",
    "seen.append(sorted(self.leases))",
    "if self.gate: self.level = {name}",
]


def write(rng: Random, name: int, first: bool) -> list[str]:
    """One thread: a few accesses, some of them under a lock."""
    lines = [f"def thread{name}(self):", "    seen = []"]
    for _ in range(rng.randint(2, 4)):
        accesses = [rng.choice(KINDS).format(name=name) for _ in range(rng.randint(1, 2))]
        held = rng.choice(["", "", "with self.lock:", "with self.lock:", "with self.other:"])
        if held:
            lines += [f"    {held}", *[f"        {each}" for each in accesses]]
        else:
            lines += [f"    {each}" for each in accesses]
    if rng.random() < 0.3:
        lines += ["    seen.append(rest(self))" if first else "    ring(self)"]
    if first and rng.random() < 0.3:
        lines += ["    hatch(self)"]
    return [*lines, "    return seen"]


def rest(world: World) -> Body:
    """Wait to be woken, or not."""
    woken = yield Blocked(lambda: bool(world.bell), "rests", timeout_ok=True, name="bell")
    if woken:
        world.bell = 0
        world.block.add(("bell", True))
    return woken


def ring(world: World) -> None:
    world.bell = 1
    world.block.add(("bell", True))


def race(seed: int) -> Scenario:
    """Two threads, or three, that a seed writes; one may start another."""
    rng = Random(seed)
    count = rng.choice([2, 2, 3])
    lines = [line for name in range(1, count + 2) for line in write(rng, name, name == 1)]
    space: dict[str, Any] = {}

    def hatch(world: World) -> None:
        world.spawn("hatched", getattr(module, f"thread{count + 1}")(world))

    space.update(hatch=hatch, rest=rest, ring=ring)
    module = load({"race": "\n".join(lines)}, Rules(**{**vars(RULES), "replace": space}))["race"]

    def build(world: World) -> None:
        world.gate, world.level, world.idle, world.leases, world.bell = False, 0, [7], {}, 0
        world.lock, world.other = WalkLock(), WalkLock()
        for name in range(1, count + 1):
            world.spawn(f"t{name}", getattr(module, f"thread{name}")(world))

    return Scenario("\n".join(lines), build, expected=(IndexError,))  # of a pop that came too late
