"""The chaos run over AsyncConnectionPool: the same faults, history and checker; the load is tasks of one event loop."""

from __future__ import annotations

from .drivers import Asyncpg, Psycopg
from .faults import KINDS
from .loop import LoopScene
from .loopfaults import block, cancel
from .soak import Cast
from .tasks import TaskLoad

DRIVERS = (Psycopg, Psycopg, Asyncpg)  # each seed has one of them


def cast_for(seed: int) -> Cast:
    """Return who takes part in the run of a seed."""
    kind = DRIVERS[seed % len(DRIVERS)]

    class Scene(LoopScene):
        driver = kind()
        shown = f"tasks of one event loop, {kind.__name__.lower()}"

    return Cast(Scene, TaskLoad, {**KINDS, "cancel": cancel, "block": block})
