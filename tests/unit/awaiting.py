"""Fakes for asyncio: a driver whose every call takes steps of the loop; and what tests of its pools look at."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from typing import Any

from fakes import ACTIVE, Error, FakeConnection, FakeConnector, OperationalError

from dbpool import AsyncConnectionPool, AsyncConnector

from .checks import adds_up
from .sockets import Line


class AwaitedDriver(AsyncConnector):
    """Opens FakeConnections. Each call takes some *steps* of the loop; what is held takes until it is released.

    A call that is cut off leaves its connection busy, and a connect that is cut off leaves none, as drivers do.
    """

    error = Error
    attributes = ("color",)
    hangs = True

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        self.unfit = self.dirty = attrgetter("status")  # type: ignore[method-assign]
        self.steps = steps
        self.fail_on: set[int] = set()
        self.keep = True
        self.made: list[FakeConnection] = []  # keeps them alive, unless keep is False
        self.calls = self.most = 0  # the most that were open at a time
        self._held: dict[str, asyncio.Event] = {}
        self._plain = FakeConnector()

    def pool(self, minconn: int = 0, maxconn: int = 2, **options: Any) -> AsyncConnectionPool[FakeConnection]:
        """Return a pool over this driver."""
        return AsyncConnectionPool(minconn, maxconn, connect=self, config=options)

    def hold(self, call: str) -> None:
        """Hold up every such call, "connect" for one, until it is released."""
        self._held[call] = asyncio.Event()

    def release(self, call: str) -> None:
        self._held.pop(call).set()

    @property
    def open(self) -> list[FakeConnection]:
        return [conn for conn in self.made if not conn.closed]

    async def _pass(self, call: str) -> None:
        for _ in range(self.steps):
            await asyncio.sleep(0)
        if call in self._held:
            await self._held[call].wait()

    async def _work(self, call: str, conn: Any) -> None:
        """Let *conn* be busy for a while."""
        before, conn.status = conn.status, ACTIVE
        await self._pass(call)
        conn.status = before

    async def connect(self, *args: Any, **kwargs: Any) -> FakeConnection:
        self.calls += 1
        number = self.calls
        await self._pass("connect")
        if number in self.fail_on:
            raise OperationalError(f"connect {number} refused")
        conn = FakeConnection(number)
        if self.keep:
            self.made.append(conn)
            self.most = max(self.most, len(self.open))
        try:
            await self._pass("connect")
        except asyncio.CancelledError:
            conn.close()
            raise
        return conn

    async def close(self, conn: Any) -> None:
        await self._pass("close")
        conn.close()

    def abandon(self, conn: Any) -> None:
        conn.close()

    async def reset(self, conn: Any, level: str) -> Any:
        if conn.status != ACTIVE:
            await self._work("reset", conn)
        return self._plain.reset(conn, level)

    async def ping(self, conn: Any) -> None:
        await self._work("ping", conn)
        conn.ping()

    async def commit(self, conn: Any) -> None:
        await self._work("commit", conn)
        conn.commit()

    async def rollback(self, conn: Any) -> None:
        await self._work("rollback", conn)
        conn.rollback()


async def lease_all(pool: Any) -> list[Any]:
    """Lease maxconn different connections at a time, and put them back: no slot is lost, and none is busy."""
    conns = [await pool.getconn(timeout=5) for _ in range(pool.maxconn)]
    assert len({id(conn) for conn in conns}) == pool.maxconn
    assert not any(getattr(conn, "status", 0) for conn in conns)
    for conn in conns:
        await pool.putconn(conn)
    assert adds_up(pool)
    return conns


async def rested(pool: Any) -> None:
    """Return once the pool's own tasks have ended."""
    while pool._tasks:
        await asyncio.wait(pool._tasks)


async def begun(work: Any, steps: int = 3) -> asyncio.Task[Any]:
    """Return the task that does *work*, after some steps of the loop."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    return task


class AwaitedLines(AsyncConnector):
    """Opens Lines: what LineConnector is to threads."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    async def connect(self, *args: Any, **kwargs: Any) -> Line:
        await asyncio.sleep(0)
        line = Line()
        line.socket.setblocking(False)
        self.lines.append(line)
        return line

    async def ping(self, conn: Any) -> None:
        """Wait for one byte of the server's."""
        if not await asyncio.get_running_loop().sock_recv(conn.socket, 1):
            raise ConnectionError("server closed the connection")

    async def rollback(self, conn: Any) -> None:
        conn.rollback()

    def unfit(self, conn: Any) -> Any:
        return conn.fileno() < 0

    def pool(self, minconn: int = 0, maxconn: int = 2, **options: Any) -> AsyncConnectionPool[Line]:
        """Return a pool over this driver, which never looks at what it hands out."""
        options = {"check_after": None, "ping_after": None, **options}
        return AsyncConnectionPool(minconn, maxconn, connect=self, config=options)

    @property
    def open(self) -> list[Line]:
        return [line for line in self.lines if line.fileno() >= 0]
