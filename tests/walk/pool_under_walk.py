"""The shipped core, compiled for the walk: what counts as a step, and the harness around it."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fakes import NoHousekeeper

import dbpool
from dbpool.connectors.base import Connector
from dbpool.errors import bind

from .compiler import Rules, load, patched
from .world import Blocked, Body, Step, WalkLock, World, walk_id, walk_ident

if TYPE_CHECKING:
    from types import ModuleType

SOURCES = (
    "entry", "semaphore", "registry", "health", "state", "core", "connecting", "returning", "views", "upkeep", "shell",
    "abstract", "pool",
)  # fmt: skip
LATE = 1000.0  # what the clock shows to a thread whose time-out has passed
SOON = 0.1  # the time-out of a client that may time out


OPEN = Step("connects", {"server"})  # two of them may change places, but none with a close
FAIL = Step("connects, or fails", {"server"}, writes=True)


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt, where a waiter sleeps."""


def uptime() -> float:
    """Time stands still, but for a thread that timed out."""
    return LATE if World.active.current.ident in World.active.late else 0.0


def nothing(*args: Any, **more: Any) -> None:
    """Stands for what has no part in the walk: logs, warnings, the garbage collector."""


def forget_leaks(pool: Any, state: Any, listener: Any) -> None:
    """Stands for telling of them."""
    state.leaked.clear()


RULES = Rules(
    flags={"gate", "closed", "use_by", "look_at", "conn", "error", "ticket", "started"},
    containers={"idle", "entries", "leases", "lost", "job"},
    guarded={"cid", "closing", "keyed", "tickets", "drained", "queue", "waiters", "closers"},
    locks={"lock"},
    bound={"take": "idle", "untake": "idle"},
    calls={"sleep", "open", "close", "ping", "unfit", "_unfit", "_unclean"},
    own={"todo"},
    plain={
        "AbstractConnectionPool.closed",
        "record",
        "describe",
        "_described",
        "_timeout",
        "_refusal",
        "_is_open",
        "_know",
        "_is_busy",
        "_write_row",
        "history",
        "listen",
        "verdict",
        "_judged",
        "_no_longer_listen",
        "_pool",
    },
    replace={
        "uptime": uptime,
        "get_ident": walk_ident,
        "id": walk_id,
        "RLock": WalkLock,
        "logs": SimpleNamespace(
            **dict.fromkeys(("debug", "info", "warning", "exception", "discarded", "left_out"), nothing)
        ),
        "_collect": nothing,
        "housekeeper": NoHousekeeper(),
        "tell_leaks": forget_leaks,
    },
)

# Counters, times and constants: no step depends on them.
IGNORE: dict[str, Any] = {
    "Entry": {
        "holder", "since", "opened", "fate", "marks", "socket", "seen", "site", "told", "held", "holds",
        "longest_hold", "pings", "resets", "number", "backend_pid",
    },
    "PoolState": {
        "opened", "aborted", "connect_errors", "timeouts", "refused", "uses_of_closed", "tally",
        "discards", "errors", "last_error", "name", "unfit", "again",
    },
    "WalkWaiter": {"since", "slept", "ident"},
    "WalkPool": {
        "_config", "_opener", "_unfit", "_dirty", "_commit", "_pending", "_slept", "_backoff", "_mute", "_process",
        "_storms", "_history", "_next_row", "_listener", "_entry_numbers",
        "harness",
    },
    "Connection": {"name"},
    "Counter": None,
}  # fmt: skip


class Connection:
    """What is pooled under the walk. Knows who uses it, and tells the world when it is open no more."""

    def __init__(self, world: World, number: int) -> None:
        self.holder = ""
        self.broken = self.dead = False
        self.open = True
        self.name = f"connection {number}"
        world.open[0] += 1
        self._open = world.open

    def close(self) -> None:
        if self.open:
            self.open = False
            self._open[0] -= 1

    def __del__(self) -> None:
        self.close()


class WalkConnector(Connector):
    """Looks whether a connection is broken or closed; resetting such a one fails."""

    error = RuntimeError

    def unfit(self, conn: Any) -> Any:
        yield Step(f"looks at {conn.name}", {conn.name})
        return conn.broken or not conn.open

    dirty = unfit

    def is_clean(self, conn: Any) -> bool:
        return conn.open and not conn.broken

    def reset(self, conn: Any, level: str) -> None:
        if not self.is_clean(conn):
            raise RuntimeError("broken")


class Opener:
    """Stands for dbpool.opening.Opener: opens at once, or fails as often as the scenario says."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.connector = WalkConnector()
        self.errors = bind(None)
        self.made = 0

    def open(self, dial: Any, wanted: Any) -> Body:
        yield FAIL if self.world.fails else OPEN
        if self.world.failures[0]:
            self.world.failures[0] -= 1
            raise RuntimeError("refused")
        self.made += 1
        return Connection(self.world, self.made), None

    def bounded(self, call: Any, conn: Connection, *args: Any) -> Any:
        return call(conn, *args)

    def ping(self, conn: Connection, seconds: Any = None, writable: bool = False) -> Body:
        yield Step(f"pings {conn.name}", {conn.name})
        if conn.dead:
            raise RuntimeError("dead")

    def is_lost(self, conn: Connection) -> bool:
        return False

    def refusal(self, error: BaseException) -> None:
        return None

    def socket_of(self, conn: Connection) -> None:
        return None

    backend_pid = socket_of

    def close(self, conn: Connection) -> Body:
        yield Step(f"closes {conn.name}", {conn.name, "server"}, writes=True)
        conn.close()
        return True


@cache
def compiled(patch: tuple[str, str, str] | None = None) -> SimpleNamespace:
    """Compile the shipped sources, with a bug planted if a patch (module, old, new) is given."""
    folder = Path(dbpool.__file__).parent
    texts = {f"dbpool.{name}": (folder / f"{name}.py").read_text(encoding="utf-8") for name in SOURCES}
    if patch is not None:
        module, old, new = patch
        texts[f"dbpool.{module}"] = patched(texts[f"dbpool.{module}"], old, new)
    modules = load(texts, RULES)
    return SimpleNamespace(modules=modules, pool_class=harnessed(modules["dbpool.pool"]))


def harnessed(module: ModuleType) -> Any:
    """Return the compiled ThreadedConnectionPool with threads, sleep and connects that the world provides."""

    class WalkWaiter(module.ThreadWaiter):  # type: ignore[misc,name-defined]
        __slots__ = ("rings",)

        def __init__(self, key: Any, ident: int, since: float, limit: float | None) -> None:
            module.Waiter.__init__(self, key, ident, since, limit)
            self.rings = False

        def wake(self) -> None:
            self.rings = True
            World.active.block.add((f"bell {self.ident}", True))

        def sleep(self, seconds: float) -> Body:
            """Wait to be woken. May time out where *seconds* is a client's time-out or the scenario says so."""
            world = World.active
            ends = seconds == SOON or world.impatient or (seconds == module.SLOW_THREAD and world.slow_threads)
            bell = f"bell {self.ident}"
            woken = yield Blocked(lambda: self.rings, "sleeps", timeout_ok=ends, name=bell)
            if woken:
                self.rings = False
                World.active.block.add((bell, True))
            if not woken and seconds == SOON:
                if world.interrupts:
                    raise Interrupt
                world.late.add(world.current.ident)
            return woken

    class WalkPool(module.ThreadedConnectionPool):  # type: ignore[misc,name-defined]
        def _new_waiter(self, key: Any, limit: float | None = None) -> Any:
            return WalkWaiter(key, walk_ident(), uptime(), limit)

        def _described(self) -> str:
            return "of a pool under walk"

        def _begin_thread(self, work: Any, *args: Any) -> bool:
            world = World.active
            if world.current.ident:
                world.spawn("helper", work(*args))
            return bool(world.current.ident)  # while the scenario is built, the caller connects itself

    return WalkPool


def walked_functions() -> list[str]:
    """The names of the shipped functions that the walk takes apart."""
    return sorted(name for module in compiled().modules.values() for name in module.__walked__)


def source_of(function: Any) -> str:
    """The shipped text of a function, for planting bugs."""
    return inspect.getsource(function)
