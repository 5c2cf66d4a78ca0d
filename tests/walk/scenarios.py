"""What is walked: clients of a pool, each one operation, and what must hold after every step and at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbpool.errors import PoolClosed, PoolError, PoolExhausted

from .explorer import Scenario
from .pool_under_walk import IGNORE, SOON, Connection, Interrupt, Opener, compiled
from .world import Step, Thread, World, run_in_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .world import Body

Client = Any  # Callable[[World, str], Body]


# ---- clients: each is one operation of the pair product --------------------------------------------------------------


def use(conn: Connection, name: str) -> Body:
    """Hold a connection: nobody else may."""
    assert not conn.holder, f"{name} was given what {conn.holder} holds"
    assert conn.open or World.active.closes_under, f"{name} was given a closed connection"
    conn.holder = name
    World.active.block.add((conn.name, True))
    yield Step("uses it", {conn.name}, writes=True)
    assert conn.holder == name, f"{conn.holder} was given what {name} holds"
    conn.holder = ""


def get_put(world: World, name: str, **how: Any) -> Body:
    """Get, use, put."""
    conn = yield from getting(world, **how)
    if conn is None:
        return
    yield from use(conn, name)
    yield from putting(world, conn)
    conn = None


def getting(world: World, **how: Any) -> Body:
    """Call getconn; None for a refusal that the scenario allows."""
    try:
        conn = yield from world.pool.getconn(**how)
        return conn
    except (PoolClosed, PoolExhausted, Interrupt):
        return None
    except RuntimeError as error:
        assert str(error) == "refused"  # noqa: PT017  (inside a generator)
        return None


def putting(world: World, conn: Connection, **how: Any) -> Body:
    """Call putconn; a pool that closeall() has closed may refuse."""
    try:
        yield from world.pool.putconn(conn, **how)
    except PoolClosed:
        assert world.pool.closed


def broken_put(world: World, name: str) -> Body:
    """The connection breaks while it is held."""
    conn = yield from getting(world)
    if conn is None:
        return
    yield from use(conn, name)
    conn.broken = True
    yield from putting(world, conn)
    conn = None


def close_put(world: World, name: str) -> Body:
    """putconn(close=True)."""
    conn = yield from getting(world)
    if conn is None:
        return
    yield from use(conn, name)
    yield from putting(world, conn, close=True)
    conn = None


def timed(world: World, name: str) -> Body:
    """A caller whose time-out may pass (or, as the scenario says, who is interrupted while it sleeps)."""
    yield from get_put(world, name, timeout=SOON)


def at_once(world: World, name: str) -> Body:
    """A caller who never waits for a return."""
    yield from get_put(world, name, timeout=0)


def keyed(world: World, name: str) -> Body:
    """A caller with a key that nobody else uses."""
    conn = yield from getting(world, key=name)
    if conn is None:
        return
    yield from use(conn, name)
    yield from putting(world, conn, key=name)
    conn = None


def dropped(world: World, name: str) -> Body:
    """A caller who forgets putconn. Afterwards somebody must come by, as a heartbeat does."""
    conn = yield from getting(world)
    yield Step("drops it", ())
    if conn is not None:
        conn.holder = ""
    conn = None
    yield from world.pool._settle()


def double_put(world: World, name: str) -> Body:
    """Puts twice. While nobody else has leased the connection again, the second put must be refused."""
    conn = yield from getting(world)
    if conn is None:
        return
    yield from use(conn, name)
    yield from putting(world, conn)
    try:
        yield from world.pool.putconn(conn)
    except PoolError:
        return
    others = [thread for thread in world.threads if thread is not world.current and thread.body is not None]
    assert others, "a second put was accepted"


def drain(world: World, name: str) -> Body:
    yield from world.pool.drain()


def shrink(world: World, name: str) -> Body:
    yield from resized(world, 1)


def grow(world: World, name: str) -> Body:
    yield from resized(world, 2)


def resized(world: World, maxconn: int) -> Body:
    world.limit[0] = max(world.limit[0], maxconn + world.overflow)
    yield from world.pool.resize(0, maxconn)


def closeall(world: World, name: str) -> Body:
    """Its users are closed under: nobody checks the connection after that."""
    world.closes_under = True
    yield from world.pool._force()


def close(world: World, name: str) -> Body:
    """Waits for the others."""
    yield from world.pool.close(timeout=None)
    assert world.open[0] == 0, "close() returned before all was closed"


def kill(world: World, name: str) -> Body:
    """The server ends the connections; only a ping can tell."""
    for entry in list(world.pool._entries.values()):
        conn = entry()
        if conn is not None:
            yield Step(f"kills {conn.name}", {conn.name}, writes=True)
            conn.dead = True
        conn = None


def lose(world: World, name: str) -> Body:
    """The watch tells that all connections are lost."""
    return world.pool._lose(list(world.pool._entries.values()))


def ping_idle(world: World, name: str) -> Body:
    """The background pings what is idle."""
    for entry in list(world.pool._entries.values()):
        yield from world.pool._ping_idle(entry)


OPERATIONS: dict[str, Client] = {
    "get": get_put,
    "broken put": broken_put,
    "put(close)": close_put,
    "timeout": timed,
    "timeout 0": at_once,
    "keyed": keyed,
    "dropped": dropped,
    "drain": drain,
    "shrink": shrink,
    "grow": grow,
    "closeall": closeall,
    "close": close,
}
# Not for the pair product: the first does harm, to itself at least; the others need pings.
EXTRA = {"double put": double_put, "kill": kill, "lose": lose, "ping": ping_idle}


# ---- scenarios -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A pool and its clients."""

    clients: tuple[str, ...]
    maxconn: int = 1
    idle: int = 1  # connections open at the start
    failures: int = 0  # so many connects fail
    options: tuple[tuple[str, Any], ...] = ()
    interrupts: bool = False  # a time-out is an interrupt
    impatient: bool = False  # heartbeats beat
    slow_threads: bool = False  # a helper thread may be late
    patch: tuple[str, str, str] | None = None

    @property
    def name(self) -> str:
        more = [f"{name}={value}" for name, value in self.options]
        more += [word for word in ("interrupts", "impatient", "slow_threads") if getattr(self, word)]
        if self.failures:
            more.append(f"{self.failures} connects fail")
        return f"{' | '.join(self.clients)} on {self.maxconn}, {self.idle} idle" + "".join(f", {word}" for word in more)

    def scenario(self) -> Scenario:
        """What the explorer takes."""
        return Scenario(self.name, self._build, invariant, final, ignore=IGNORE, ignore_locals=("began", "held"))

    def _build(self, world: World) -> None:
        world.late, world.open, world.failures = set(), [0], [0]
        world.fails = bool(self.failures)
        world.interrupts, world.impatient, world.slow_threads = self.interrupts, self.impatient, self.slow_threads
        world.closes_under = False
        options = dict(self.options)
        world.overflow = options.get("max_overflow", 0)
        world.limit = [self.maxconn + world.overflow]
        pool = world.pool = compiled(self.patch).pool_class(
            0, self.maxconn, connect=nobody, config={**CONFIG, **options}
        )
        pool._opener = Opener(world)
        world.traces.append(("lost", lambda: len(pool._state.lost), True))
        conns = [run_in_place(pool.getconn()) for _ in range(self.idle)]
        while conns:
            run_in_place(pool.putconn(conns.pop()))
        world.failures[0] = self.failures
        for name, client in zip("ABCD", self.clients):
            world.spawn(f"{name} ({client})", {**OPERATIONS, **EXTRA}[client](world, name))


# No limit that the clock is asked about, unless a setting wants it: LATE would pass all of them.
CONFIG = {
    "start": "lazy", "timeout": None, "name": "walked", "detect_deadlock": False, "idle_timeout": None,
    "max_lifetime": None, "check_after": None, "ping_after": None, "check_timeout": None,
}  # fmt: skip


def nobody(*args: Any) -> None:
    """The connect of a pool whose opener is replaced."""


def invariant(world: World) -> None:
    """Holds after every step."""
    state = world.pool._state
    allowed = world.limit[0] + state.aborted  # a connect that was left behind may still come, and is closed then
    assert world.open[0] <= allowed, f"{world.open[0]} connections are open, allowed are {allowed}"
    assert len(state.tickets) + len(state.entries) <= world.limit[0] + len(state.tickets), "more slots than there are"
    pooled = list(state.idle)
    assert len(pooled) == len({id(conn) for conn in pooled}), "a connection is idle twice"


def final(world: World) -> None:
    """Holds once all have ended, after one more look (a heartbeat, the next caller)."""
    pool, state = world.pool, world.pool._state
    world.current = Thread(0, "end", None)
    run_in_place(pool._settle())
    at_rest(world)
    if state.closed:
        return
    world.failures[0] = 0
    leased = [run_in_place(pool.getconn(timeout=0)) for _ in range(state.maxconn)]
    assert len({id(conn) for conn in leased}) == state.maxconn
    world.open = [0]  # what is dropped now is not the scenario's


def at_rest(world: World) -> None:
    """Nothing is under way in a pool that nobody uses: so nothing is left over."""
    state = world.pool._state
    assert not state.waiters, "somebody is queued who is gone"
    assert not state.tickets, "a slot is taken by a connect that has ended"
    assert not state.leases, "a lease is left over"
    assert not state.keyed, "a keyed lease is left over"
    assert not state.closing, "a close is left undone"
    assert not state.lost, "something is left to reap"
    assert len(state.entries) == len(state.idle) == world.open[0], (
        f"{len(state.entries)} slots taken, {len(state.idle)} idle, {world.open[0]} open"
    )
    if state.closed:
        assert world.open[0] == 0, "a connection outlived the pool"
        return
    assert len(state.idle) <= state.maxconn, "too many stay open"
    assert not state.drained, "a drained connection lives"
    assert not state.gate, "the gate stays shut"


def pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Each pair of operations, in alphabetical order."""
    ordered = sorted(names)
    return [(first, second) for number, first in enumerate(ordered) for second in ordered[number:]]
