"""What befalls tasks in the place of threads: they are cancelled, and their loop is blocked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .faults import Healed, now_healed
from .scene import within

if TYPE_CHECKING:
    from .loop import LoopScene
    from .tasks import TaskLoad

CANCELS = (50, 200)  # at a strike ...
APART = 0.01  # ... so many seconds between two, at most
BLOCKED = (0.5, 2.5)  # seconds; longer than check_timeout, so that pings and rollbacks are overdue when it goes on
QUIET = 1.0  # seconds in which what a block has cost is known
EVICTED = ("lost", "not clean")  # what the pool says of a connection that it believes to be broken


def cancel(scene: LoopScene, load: TaskLoad) -> Healed:
    """Tasks of the load are cancelled, many and wherever they stand; some a second time while they clean up."""
    times = scene.rng.randint(*CANCELS)
    for _ in range(times):
        scene.loop.call_soon_threadsafe(load.cancel, scene.rng.randrange(len(load.workers)))
        if scene.rng.random() < 0.7:
            time.sleep(scene.rng.uniform(0, APART))
    turns = scene.call_in_loop(lambda: [worker.turns for worker in load.workers])
    if not within(30, lambda: all(worker.turns > before for worker, before in zip(load.workers, turns))):
        scene.accuse("cancellation lost", "a task has not ended its turn 30 s after tasks were cancelled")
    return now_healed(f"{times} times")


def block(scene: LoopScene, load: TaskLoad) -> Healed:
    """The loop is blocked by a call that does not await, for longer than check_timeout. No connection is lost by it."""
    seconds = scene.rng.uniform(*BLOCKED)

    def stand_still() -> None:
        time.sleep(seconds)
        scene.journal.note("note", "blocked", data=seconds)

    before = evicted(scene)
    scene.call_in_loop(stand_still)
    healed = now_healed(f"for {seconds:.1f} s")
    time.sleep(QUIET)
    cost = evicted(scene) - before
    if cost:
        scene.accuse("evicted", f"{cost} connections, after the loop was blocked for {seconds:.1f} s")
    return healed


def evicted(scene: LoopScene) -> int:
    discards = scene.pool.stats().discards
    return sum(discards.get(reason, 0) for reason in EVICTED)
