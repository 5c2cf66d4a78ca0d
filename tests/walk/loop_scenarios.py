"""What is walked on an event loop: clients of an AsyncConnectionPool, and what must hold after every step."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fakes import IDLE, INTRANS, clock_replaced, no_housekeeper

import dbpool.aio.core
import dbpool.aio.shell
from dbpool import AsyncConnectionPool, logs
from dbpool.errors import PoolClosed, PoolError, PoolExhausted

from .explorer import Result, Scenario, explore
from .loop_canon import LoopCanon
from .loop_driver import LoopConnector, LoopWorld
from .pool_under_walk import IGNORE, SOON, nothing
from .scenarios import CONFIG, at_rest, invariant

if TYPE_CHECKING:
    from collections.abc import Iterator

# ---- clients ---------------------------------------------------------------------------------------------------------


async def use(world: LoopWorld, conn: Any, name: str, dirty: bool = False) -> None:
    """Hold a connection: nobody else may."""
    assert not conn.holder, f"{name} was given what {conn.holder} holds"
    assert not conn.status or world.closes_under, f"{name} was given a connection that is closed or busy"
    conn.holder = name
    if dirty:
        conn.execute()
    try:
        await asyncio.sleep(0)
    finally:
        assert conn.holder == name, f"{conn.holder} was given what {name} holds"
        conn.holder = ""


async def get_put(world: LoopWorld, name: str, dirty: bool = False, close: bool = False, **how: Any) -> None:
    """Get, use, put."""
    conn = await getting(world, **how)
    if conn is None:
        return
    try:
        await use(world, conn, name, dirty)
    finally:
        await putting(world, conn, close=close, key=how.get("key"))


async def getting(world: LoopWorld, **how: Any) -> Any:
    """Call getconn; None for a refusal that the scenario allows."""
    try:
        return await world.pool.getconn(**how)
    except (PoolClosed, PoolExhausted):
        return None
    except RuntimeError as error:
        assert str(error) == "refused"  # noqa: PT017  (a client, not a test)
        return None


async def putting(world: LoopWorld, conn: Any, **how: Any) -> None:
    """Call putconn; a pool that closeall() has closed may refuse."""
    try:
        await world.pool.putconn(conn, **how)
    except PoolClosed:
        assert world.pool.closed


async def dirty_put(world: LoopWorld, name: str) -> None:
    """A transaction is left open: the put rolls it back."""
    await get_put(world, name, dirty=True)


async def close_put(world: LoopWorld, name: str) -> None:
    """putconn(close=True)."""
    await get_put(world, name, close=True)


async def timed(world: LoopWorld, name: str) -> None:
    """A caller whose time-out may pass."""
    await get_put(world, name, timeout=SOON)


async def at_once(world: LoopWorld, name: str) -> None:
    """A caller who never waits for a return."""
    await get_put(world, name, timeout=0)


async def keyed(world: LoopWorld, name: str) -> None:
    """A caller with a key that nobody else uses."""
    await get_put(world, name, key=name)


async def shared(world: LoopWorld, name: str) -> None:
    """Two blocks of different tasks under one key: who leases it puts it, when the last has left."""
    await block(world, name, key="shared", sharing=True)


async def block(world: LoopWorld, name: str, key: Any = None, sharing: bool = False) -> None:
    """`async with pool.connection()`: commits, and puts."""
    try:
        async with world.pool.connection(key) as conn:
            if sharing:
                usable = conn.status in (IDLE, INTRANS) or world.closes_under
                assert usable, f"{name} was given a connection that is closed or busy"
                conn.execute()
                await asyncio.sleep(0)
            else:
                await use(world, conn, name, dirty=True)
    except (PoolClosed, PoolExhausted, RuntimeError) as error:
        allowed = may_fail(world) or (sharing and isinstance(error, PoolError))
        assert allowed, repr(error)  # noqa: PT017


def may_fail(world: LoopWorld) -> bool:
    """May the commit of a block fail?"""
    return bool(world.closes_under or world.pool.closed or world.fails or world.kills)


async def failing_block(world: LoopWorld, name: str) -> None:
    """One that an error leaves: it rolls back, and puts."""
    try:
        async with world.pool.connection() as conn:
            await use(world, conn, name, dirty=True)
            raise ValueError(name)
    except (PoolClosed, ValueError):
        pass


async def proxy(world: LoopWorld, name: str) -> None:
    """`await pool.connect()`, closed by a block."""
    try:
        async with await world.pool.connect() as conn:
            await use(world, conn, name, dirty=True)
    except (PoolClosed, PoolExhausted, RuntimeError) as error:
        assert may_fail(world), repr(error)  # noqa: PT017


async def dropped(world: LoopWorld, name: str) -> None:
    """A caller who forgets putconn."""
    await getting(world)
    await asyncio.sleep(0)
    world.pool._settle()


async def drain(world: LoopWorld, name: str) -> None:
    await world.pool.drain()


async def resized(world: LoopWorld, maxconn: int) -> None:
    world.limit[0] = max(world.limit[0], maxconn)
    await world.pool.resize(min(world.pool.minconn, maxconn), maxconn)


async def shrink(world: LoopWorld, name: str) -> None:
    await resized(world, 1)


async def grow(world: LoopWorld, name: str) -> None:
    await resized(world, 2)


async def closeall(world: LoopWorld, name: str) -> None:
    """Its users are closed under: nobody checks the connection after that."""
    world.closes_under = True
    try:
        await world.pool.closeall()
    except PoolClosed:
        return
    assert not world.open[0], "closeall() returned before all was closed"


async def close(world: LoopWorld, name: str) -> None:
    """Waits for the others; cut off, it closes under them."""
    world.closes_under = world.closes_under or world.cancels > 0
    await world.pool.close(timeout=None)
    assert not world.open[0], "close() returned before all was closed"


async def kill(world: LoopWorld, name: str) -> None:
    """The server ends the connections; only a ping can tell."""
    world.kills = True
    for entry in list(world.pool._entries.values()):
        conn = entry()
        if conn is not None:
            conn.dead = True


async def lose(world: LoopWorld, name: str) -> None:
    """The watch tells that all connections are lost."""
    await kill(world, name)
    world.pool._lose(list(world.pool._entries.values()))


async def check(world: LoopWorld, name: str) -> None:
    """Ping what is idle, and have minconn."""
    await world.pool.check()


async def reopen(world: LoopWorld, name: str) -> None:
    """Open what is missing."""
    try:
        await world.pool.open()
    except (PoolClosed, RuntimeError):
        assert world.pool.closed or world.fails


OPERATIONS: dict[str, Any] = {
    "get": get_put,
    "dirty put": dirty_put,
    "put(close)": close_put,
    "timeout": timed,
    "timeout 0": at_once,
    "keyed": keyed,
    "block": block,
    "dropped": dropped,
    "drain": drain,
    "shrink": shrink,
    "grow": grow,
    "closeall": closeall,
    "close": close,
}
EXTRA = {
    "shared": shared, "failing block": failing_block, "proxy": proxy, "kill": kill, "lose": lose, "check": check,
    "reopen": reopen,
}  # fmt: skip


# ---- settings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoopSetting:
    """A pool and its clients; what may fail, how often somebody is cancelled, and how often time passes."""

    clients: tuple[str, ...]
    maxconn: int = 1
    idle: int = 1  # connections open at the start
    minconn: int = 0
    cancels: int = 0
    times: int = 0
    failures: int = 0
    fails: tuple[str, ...] = ("connect",)
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        more = [f"{name}={value}" for name, value in self.options]
        for many, word in ((self.cancels, "cancel"), (self.times, "ring"), (self.failures, "failed " + self.fails[0])):
            more += [f"{many} {word}{'s' * (many > 1)}"] * bool(many)
        if self.minconn:
            more.append(f"minconn={self.minconn}")
        return f"{' | '.join(self.clients)} on {self.maxconn}, {self.idle} idle" + "".join(f", {word}" for word in more)

    def scenario(self) -> Scenario:
        """What the explorer takes."""
        return Scenario(
            self.name, self._build, holds, final, ignore=IGNORED, ignore_locals=("cid", "began", "process"),
            world=LoopWorld, canon=LoopCanon,
        )  # fmt: skip

    def explored(self, bound: int | None = None, **limits: Any) -> Result:
        """Explore it, with at most *bound* steps out of asyncio's order."""
        with stilled():
            return explore(self.scenario(), bound=bound, **limits)

    def _build(self, world: LoopWorld) -> None:  # type: ignore[override]
        world.fails = frozenset(self.fails if self.failures else ())
        world.limit[0] = self.maxconn
        config = {**CONFIG, "connect_timeout": None, "background": False, **dict(self.options)}
        config["start"] = "eager" if self.minconn else "lazy"
        world.pool = AsyncConnectionPool(self.minconn, self.maxconn, connect=LoopConnector(world), config=config)
        if self.idle:
            world.run(world.pool.open(ready=self.idle))
        world.failures[0], world.cancels, world.times = self.failures, self.cancels, self.times
        for letter, client in zip("ABCD", self.clients):
            name = f"{letter} ({client})"
            world.spawn(name, {**OPERATIONS, **EXTRA}[client](world, name))


_POOLS = {"_alarm_due", "_loop", "_thread", "_keeper", "_who", "_lock", *IGNORE["WalkPool"]}
IGNORED: dict[str, Any] = {
    **IGNORE,
    "Entry": {"cid", *IGNORE["Entry"]},
    "TaskWaiter": {"since", "slept", "ident"},
    "AsyncConnectionPool": _POOLS,
    "LoopConnection": {"name", "_open"},
    "LoopConnector": None,
    "LoopWorld": None,
    "WalkLoop": None,  # its ready callbacks and timers are on the tour by themselves
    "WalkTimer": {"_context", "_loop", "_source_traceback", "_repr"},
    "WeakMethod": {"_func_ref", "_meth_type"},
    "AsyncOpener": None,
    "PoolConfig": None,
}


def holds(world: LoopWorld) -> None:  # type: ignore[override]
    """Holds after every step."""
    invariant(world)  # type: ignore[arg-type]
    assert not world.loop.complaints, world.loop.complaints
    waiting = [client.name for client in world.clients if client.body is not None]
    assert not waiting or world.under_way(), f"nothing is under way for {waiting}"


def final(world: LoopWorld) -> None:
    """Holds once all have ended, after one more look (a heartbeat, the next caller)."""
    pool, state = world.pool, world.pool._state
    world.cancels = world.times = world.failures[0] = 0
    world.run(_look(pool))
    at_rest(world)  # type: ignore[arg-type]
    assert not pool._tasks
    assert not pool._looks
    if state.closed:
        return
    assert state.waiters.head() is None
    for conn in (leased := [world.run(pool.getconn(timeout=5)) for _ in range(state.maxconn)]):
        assert not conn.status, "a connection that is closed or busy was pooled"
    assert len({id(conn) for conn in leased}) == state.maxconn
    world.run(_put_all(pool, leased))
    world.run(pool.check())
    assert len(state.entries) >= state.minconn, "minconn is not held"


async def _look(pool: Any) -> None:
    pool._settle()


async def _put_all(pool: Any, conns: list[Any]) -> None:
    while conns:
        await pool.putconn(conns.pop())


@contextmanager
def stilled() -> Iterator[None]:
    """The clock is the world's, nothing is done in the background, and no garbage is collected."""

    def uptime() -> float:
        return LoopWorld.active.loop.now

    with ExitStack() as stack:
        stack.enter_context(clock_replaced(uptime))
        stack.enter_context(no_housekeeper())
        for module in (dbpool.aio.core, dbpool.aio.shell):
            stack.enter_context(patch.object(module, "monotonic", uptime))
            stack.enter_context(patch.object(module, "_collect", nothing))
        for name in ("debug", "info", "warning"):
            stack.enter_context(patch.object(logs, name, nothing))
        yield
