"""A world on an event loop: clients, a driver whose every call ends when the explorer says so, and the pool."""

from __future__ import annotations

import asyncio
from collections import namedtuple
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from fakes import ACTIVE, IDLE, INTRANS, UNKNOWN

from dbpool import AsyncConnector

from .loop_world import WalkLoop, told
from .pool_under_walk import Connection

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .loop_world import Choice

Call = namedtuple("Call", "name told future")


class LoopClient:
    """One client. To the explorer it is a thread: without a body once it has ended."""

    def __init__(self, name: str, task: Any) -> None:
        self.name, self.body = name, task
        self.struck = False  # it was cancelled

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def look(self) -> None:
        """Has it ended? Its task is not kept: the traceback of its end would keep what it had."""
        if self.body is None or not self.body.done():
            return
        task, self.body = self.body, None
        if task.cancelled():
            assert self.struck, f"{self.name} was cancelled, and nobody did it"
        elif task.exception() is not None:
            raise task.exception()
        else:
            assert not self.struck, f"{self.name} was cancelled, and not told"


class Background:
    """What the loop has yet to do, as one more thread: the world has ended only when there is nothing left."""

    def __init__(self, world: LoopWorld) -> None:
        self._world = world

    @property
    def body(self) -> Any:
        return self._world.under_way() or None


class LoopWorld:
    """What a World is to threads."""

    active: LoopWorld

    def __init__(self, *_: Any) -> None:
        self.loop = WalkLoop()
        self.calls: list[Call] = []
        self.clients: list[LoopClient] = []
        self.threads: list[Any] = [Background(self)]
        self.current: Any = None
        self.failures, self.open, self.limit = [0], [0], [0]
        self.fails: frozenset[str] = frozenset()  # the calls that may fail
        self.cancels = self.times = 0  # how often may somebody be cancelled, how often may time pass
        self.closes_under = self.kills = False
        self.pool: Any = None
        LoopWorld.active = self

    def begin(self) -> None:
        """Nothing runs before it is chosen."""

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        client = LoopClient(name, self.loop.create_task(work, name=name))
        self.clients.append(client)
        self.threads.insert(0, client)

    async def call(self, name: str, conn: Any = None) -> None:
        """What a driver awaits: the server's answer."""
        future = self.loop.create_future()
        self.calls.append(Call(name, "a connection" if conn is None else conn.name, future))
        await future

    def pending(self) -> list[Call]:
        self.calls = [call for call in self.calls if not call.future.done()]
        return self.calls

    def under_way(self) -> bool:
        return bool(self.loop.in_order() or self.pending())

    # ---- what the explorer asks and does -----------------------------------------------------------------------------

    def choices(self) -> list[Choice]:
        ordered = self.loop.in_order()
        found: list[Choice] = [("run", index) for index in range(len(ordered))]
        for index, call in enumerate(self.pending()):
            found.append(("ends", index))
            if self.failures[0] and call.name in self.fails:
                found.append(("fails", index))
        if self.cancels:
            found += [("cancel", index) for index, client in enumerate(self.clients) if client.body is not None]
        if self.times and self.loop.timers:
            found.append(("time", 0))
        return found

    def costs(self, last: Any) -> list[tuple[Choice, int]]:
        """Of a bound is taken whatever is not in asyncio's order: that which is ready first, then the answers."""
        choices, ordered = self.choices(), self.loop.in_order()
        first = ("run", ordered.index(self.loop.ready[0])) if ordered else None
        costs = [(each, int(first is not None and each != first and each[0] in ("run", "ends"))) for each in choices]
        return sorted(costs, key=lambda cost: cost[1])

    def memory(self, choice: Choice) -> None:
        """The state tells all."""

    def advance(self, choice: Choice) -> None:
        what, index = choice
        if what == "run":
            self.loop.run(self.loop.in_order()[index])
        elif what == "ends":
            self.pending()[index].future.set_result(None)
        elif what == "fails":
            self.failures[0] -= 1
            self.pending()[index].future.set_exception(RuntimeError("refused"))
        elif what == "cancel":
            self.cancels -= 1
            client = self.clients[index]
            client.struck = client.body.cancel()
        else:
            self.times -= 1
            self.loop.pass_time()
        for client in self.clients:
            self.current = client
            client.look()

    def label(self, choice: Choice) -> str:
        what, index = choice
        if what == "run":
            return told(self.loop.in_order()[index])
        if what in ("ends", "fails"):
            call = self.pending()[index]
            return f"the server's answer: {call.name} of {call.told} {what}"
        return f"{self.clients[index].name} is cancelled" if what == "cancel" else "time passes"

    def parts(self) -> list[Any]:
        """All that the future depends on."""
        loop = self.loop
        ready = sorted(loop.ready, key=attrgetter("place"))
        handles = [(handle._callback, handle._args) for handle in ready]
        return [
            self.pool, *[(client.body, client.struck) for client in self.clients], *handles,
            *[(call.name, call.future) for call in self.pending()],
            *[(timer.when(), timer._callback, timer._args) for timer in loop.timers],
            loop.now, self.failures[0], self.open[0], self.limit[0], self.cancels, self.times,
            self.closes_under, self.kills,
        ]  # fmt: skip

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run *work* to its end, in asyncio's order, with every answer at once."""
        task = self.loop.create_task(work)
        for _ in range(1000):
            if self.loop.in_order():
                self.loop.run(self.loop.ready[0])
            elif self.pending():
                self.calls[0].future.set_result(None)
            elif task.done():
                return task.result()
            else:
                break
        raise AssertionError(f"{task.get_name()} does not end")

    def end(self) -> None:
        self.loop.end()
        self.clients.clear()
        self.threads.clear()
        self.calls.clear()
        self.pool = None


class LoopConnection(Connection):
    """A Connection that is busy while a call on it has not ended."""

    def __init__(self, world: LoopWorld, number: int) -> None:
        super().__init__(world, number)  # type: ignore[arg-type]
        self.known = IDLE

    @property
    def status(self) -> int:
        return UNKNOWN if self.broken or not self.open else self.known

    def execute(self) -> None:
        """Begin a transaction."""
        self.known = INTRANS


class LoopConnector(AsyncConnector):
    """Each of its calls waits for the explorer. What is cut off leaves its connection busy, as drivers do."""

    error = RuntimeError
    hangs = True

    def __init__(self, world: LoopWorld) -> None:
        super().__init__()
        self.world = world
        self.made = 0

    def unfit(self, conn: Any) -> Any:
        return conn.status

    dirty = unfit

    def is_clean(self, conn: Any) -> bool:
        return not conn.status

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        await self.world.call("connect")
        self.made += 1
        return LoopConnection(self.world, self.made)

    async def close(self, conn: Any) -> None:
        await self.world.call("close", conn)
        conn.close()

    def abandon(self, conn: Any) -> None:
        conn.close()

    async def _ask(self, name: str, conn: Any, known: int) -> None:
        conn.known = ACTIVE
        try:
            await self.world.call(name, conn)
        except asyncio.CancelledError:
            raise
        except RuntimeError:
            conn.broken = True
            raise
        conn.known = known
        if conn.broken or conn.dead or not conn.open:
            raise RuntimeError("dead")

    async def ping(self, conn: Any) -> None:
        await self._ask("ping", conn, conn.known)

    async def reset(self, conn: Any, level: str) -> Any:
        if conn.status:
            await self.rollback(conn)

    async def commit(self, conn: Any) -> None:
        await self._ask("commit", conn, IDLE)

    async def rollback(self, conn: Any) -> None:
        if conn.status in (ACTIVE, UNKNOWN):
            raise RuntimeError("busy or closed")
        await self._ask("rollback", conn, IDLE)
