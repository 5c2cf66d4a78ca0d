"""What is walked over many endpoints: clients of an AsyncEndpointPool with a total, and what must hold then."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from dbpool import AsyncEndpointPool, Limiter
from dbpool.entry import FOR_EVER
from dbpool.errors import PoolClosed, PoolExhausted
from dbpool.state import PoolState

from .explorer import Result, Scenario, explore
from .loop_canon import LoopCanon, _callbacks
from .loop_driver import LoopConnector, LoopWorld
from .loop_scenarios import _POOLS, IGNORED, stilled, use
from .loop_world import WalkLoop
from .pool_under_walk import SOON
from .scenarios import CONFIG
from .total import canon_of, in_total, older_than, states

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TICK = 0.001  # between two arrivals: so the order in which they came is known

# ---- clients ---------------------------------------------------------------------------------------------------------


async def get_put(world: LoopWorld, name: str, endpoint: str, close: bool = False, **how: Any) -> None:
    """Get, use, put."""
    conn = await getting(world, endpoint, **how)
    if conn is None:
        return
    assert conn.endpoint == endpoint, f"{name} wanted {endpoint} and was given {conn.endpoint}"
    try:
        await use(world, conn, name)
    finally:
        try:
            await world.pool.putconn(conn, close=close)
        except PoolClosed:
            assert world.pool.closed


async def getting(world: LoopWorld, endpoint: str, **how: Any) -> Any:
    """Call getconn; None for a refusal that the scenario allows."""
    world.loop.now += TICK
    try:
        return await world.pool.getconn(endpoint, **how)
    except PoolClosed:
        assert world.pool.closed, "it was refused because its endpoint was forgotten"
    except PoolExhausted:
        assert how, "it was refused although it waits for ever"
    except RuntimeError as error:
        assert str(error) == "refused"  # noqa: PT017  (a client, not a test)
    return None


async def close_put(world: LoopWorld, name: str, endpoint: str) -> None:
    """putconn(close=True)."""
    await get_put(world, name, endpoint, close=True)


async def timed(world: LoopWorld, name: str, endpoint: str) -> None:
    """A caller whose time-out may pass."""
    await get_put(world, name, endpoint, timeout=SOON)


async def at_once(world: LoopWorld, name: str, endpoint: str) -> None:
    """A caller who never waits for a return."""
    await get_put(world, name, endpoint, timeout=0)


async def dropped(world: LoopWorld, name: str, endpoint: str) -> None:
    """A caller who forgets putconn. Afterwards somebody must come by, at whichever endpoint."""
    await getting(world, endpoint)
    for state in states(world.pool):
        if state.lost:
            world.pool.total._reap()
    world.pool.total.wake_others()


async def block(world: LoopWorld, name: str, endpoint: str) -> None:
    """`async with pool.connection(endpoint)`."""
    world.loop.now += TICK
    try:
        async with world.pool.connection(endpoint) as conn:
            await use(world, conn, name, dirty=True)
    except PoolClosed:
        assert world.pool.closed
    except RuntimeError:
        assert world.fails


async def drain(world: LoopWorld, name: str, endpoint: str) -> None:
    await world.pool.drain(endpoint)


async def shrink(world: LoopWorld, name: str, endpoint: str) -> None:
    await world.pool.resize(0, 1)


async def check(world: LoopWorld, name: str, endpoint: str) -> None:
    """What is else done in the background, at each endpoint."""
    await world.pool.check()


async def close(world: LoopWorld, name: str, endpoint: str) -> None:
    """Waits for the others; cut off, it closes under them."""
    world.closes_under = world.closes_under or world.cancels > 0
    await world.pool.close(timeout=None)
    assert not world.open[0], "close() returned before all was closed"


OPERATIONS: dict[str, Any] = {
    "get": get_put,
    "put(close)": close_put,
    "timeout": timed,
    "timeout 0": at_once,
    "dropped": dropped,
    "block": block,
    "drain": drain,
    "shrink": shrink,
    "check": check,
    "close": close,
}


# ---- settings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EndpointSetting:
    """An AsyncEndpointPool and its clients, each of which names an endpoint: "get a"."""

    clients: tuple[str, ...]
    total: int = 1
    maxconn: int = 1
    idle: str = "a"  # endpoints to which connections are open at the start
    cancels: int = 0
    times: int = 0
    failures: int = 0
    fails: tuple[str, ...] = ("connect",)

    @property
    def name(self) -> str:
        more = [f"idle {self.idle or 'none'}"]
        for many, word in ((self.cancels, "cancel"), (self.times, "ring"), (self.failures, "failed " + self.fails[0])):
            more += [f"{many} {word}{'s' * (many > 1)}"] * bool(many)
        return f"{' | '.join(self.clients)} on {self.maxconn} of {self.total}, {', '.join(more)}"

    def scenario(self) -> Scenario:
        """What the explorer takes."""
        return Scenario(
            self.name, self._build, holds, final, ignore=ENDPOINTS_IGNORED,
            ignore_locals=("cid", "began", "process", "many"), world=LoopWorld, canon=TotalCanon,
        )  # fmt: skip

    def explored(self, bound: int | None = None, **limits: Any) -> Result:
        """Explore it, with at most *bound* steps out of asyncio's order."""
        with stilled(), in_order():
            return explore(self.scenario(), bound=bound, **limits)

    def _build(self, world: LoopWorld) -> None:  # type: ignore[override]
        world.fails = frozenset(self.fails if self.failures else ())
        world.limit[0] = self.total
        config = {**CONFIG, "connect_timeout": None, "background": False}
        world.pool = AsyncEndpointPool(
            0, self.maxconn, connect=EndpointConnector(world), total=self.total, config=config
        )
        world.run(_warm(world, self.idle))
        world.failures[0], world.cancels, world.times = self.failures, self.cancels, self.times
        for letter, client in zip("ABCD", self.clients):
            operation, _, endpoint = client.rpartition(" ")
            world.spawn(f"{letter} ({client})", OPERATIONS[operation](world, letter, endpoint))


class EndpointConnector(LoopConnector):
    """A connection knows its endpoint."""

    async def connect(self, endpoint: Any, *args: Any, **kwargs: Any) -> Any:
        conn = await super().connect()
        conn.endpoint = endpoint
        return conn


class TotalCanon(LoopCanon):
    """A Limiter's references have no order of their own."""

    def __init__(self, ignore: Mapping[str, Iterable[str] | None], ignore_locals: Iterable[str] = ()) -> None:
        super().__init__(ignore, ignore_locals)
        self.handlers[Limiter] = canon_of
        self.handlers[type(_gathering())] = lambda future: (f"gathered {future._state}", _callbacks(future))


ENDPOINTS_IGNORED: dict[str, Any] = {
    **IGNORED,
    "Entry": IGNORED["Entry"] - {"since"},  # the least recently used one is the first to go
    "AwaitedMember": _POOLS,
    "AsyncEndpointPool": {"_lock", "_config", "_errors", "_connect", "_args", "_kwargs", "_owners", "_most", "_total"},
    "EndpointConnector": None,
}


def _gathering() -> Any:
    loop = WalkLoop()
    future = asyncio.gather(loop.create_future())
    loop.end()
    return future


async def _warm(world: LoopWorld, endpoints: str) -> None:
    conns = [await getting(world, endpoint) for endpoint in endpoints]
    while conns:
        await world.pool.putconn(conns.pop())


@contextmanager
def in_order() -> Iterator[None]:
    """Whenever one may be opened, nobody who came before goes without."""
    real = PoolState.try_issue

    def try_issue(
        state: Any, now: float, owner: Any = None, patient: bool = True, since: float = FOR_EVER
    ) -> Any:  # fmt: skip
        ticket = real(state, now, owner, patient, since)
        if ticket is not None:
            every = states(LoopWorld.active.pool)
            left = state.limiter.limit - in_total(every)
            assert left >= older_than(since, state, every, now), "who came later was let in first"
        return ticket

    with patch.object(PoolState, "try_issue", try_issue):
        yield


# ---- what must hold --------------------------------------------------------------------------------------------------


def holds(world: LoopWorld) -> None:  # type: ignore[override]
    """Holds after every step."""
    every = states(world.pool)
    aborted = sum(state.aborted for state in every)
    assert world.open[0] <= world.limit[0] + aborted, f"{world.open[0]} are open, allowed are {world.limit[0]}"
    assert in_total(every) <= world.limit[0], "more slots than there are"
    assert world.pool.total.used == in_total(every), "the total is miscounted"
    for state in every:
        pooled = list(state.idle)
        assert len(pooled) == len({id(conn) for conn in pooled}), "a connection is idle twice"
    assert not world.loop.complaints, world.loop.complaints
    waiting = [client.name for client in world.clients if client.body is not None]
    assert not waiting or world.under_way(), f"nothing is under way for {waiting}"


def final(world: LoopWorld) -> None:
    """Holds once all have ended: nothing is left over, and each slot serves each endpoint."""
    pool, total = world.pool, world.pool.total
    world.cancels = world.times = world.failures[0] = 0
    for member in list(pool._pools.values()):
        world.run(_look(member))
    every = states(pool)
    for state in every:
        for left in (state.waiters.queue, state.tickets, state.leases, state.closing, state.lost):
            assert not left, f"something is left over at {state.name}: {left}"
        assert len(state.entries) == len(state.idle), "a slot is lost"
    assert not total._wishing, "somebody is wished for who is gone"
    assert in_total(every) == world.open[0] == total.used
    if pool.closed:
        assert not world.open[0]
        return
    assert all(state.size() for state in every), "an endpoint with nothing is not forgotten"
    for endpoint in "abc":
        leased = [world.run(pool.getconn(endpoint, timeout=0)) for _ in range(min(pool.maxconn, total.limit))]
        assert all(not conn.status and conn.endpoint == endpoint for conn in leased)
        world.run(_put_all(pool, leased))


async def _look(pool: Any) -> None:
    pool._settle()


async def _put_all(pool: Any, conns: list[Any]) -> None:
    while conns:
        await pool.putconn(conns.pop())
