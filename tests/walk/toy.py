"""A toy pool, as text, to try the library on: lock-free hits, a gate, hand-over to waiters, weak leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .compiler import Rules, load, patched
from .explorer import Scenario
from .world import Body, Step, WalkLock, WalkSignal, World, walk_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

ENTRY = """
from weakref import ref


class Entry(ref):
    __slots__ = ("cid", "uses")
"""

POOL = """
from __future__ import annotations

from _thread import RLock, allocate_lock
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from .entry import Entry

if TYPE_CHECKING:
    from nowhere import Lock
T = TypeVar("T")


@dataclass
class Waiter:
    signal: Lock
    conn: object = None


class Pool(Generic[T]):
    def __init__(self, connect, size: int) -> None:
        self._connect = connect
        self._size = size
        self._lock = RLock()
        self._gate = False
        self._idle: deque[T] = deque()
        self._waiters: deque[Waiter] = deque()
        self._lost: deque[Entry] = deque()
        self._entries: dict[int, Entry] = {}
        self._leases: dict[int, Entry] = {}

    @overload
    def getconn(self) -> T: ...

    def getconn(self):
        if self._gate:
            return self._obtain()
        try:
            conn = self._idle.pop()
        except IndexError:
            return self._obtain()
        entry = self._entries[id(conn)]
        entry.uses += 1
        self._leases[id(conn)] = entry
        return conn

    def putconn(self, conn):
        entry = self._leases.pop(id(conn), None)
        if entry is None or entry() is not conn:
            raise ValueError("trying to put what is not leased")
        self._idle.append(conn)
        if self._gate:
            self._settle()

    def _obtain(self):
        waiter = Waiter(allocate_lock())
        waiter.signal.acquire()
        self._waiters.append(waiter)
        self._gate = True
        self._settle()
        waiter.signal.acquire()
        return waiter.conn

    def _settle(self):
        with self._lock:
            self._match()

    def _match(self):
        while self._lost:
            entry = self._lost.popleft()
            self._entries.pop(entry.cid, None)
            self._leases.pop(entry.cid, None)
            entry = None
        while self._waiters:
            self._gate = True
            conn = self._take()
            if conn is None:
                return
            waiter = self._waiters.popleft()
            self._leases[id(conn)] = self._entries[id(conn)]
            waiter.conn, conn = conn, None
            waiter.signal.release()
        self._gate = False

    def _take(self):
        try:
            return self._idle.popleft()
        except IndexError:
            if len(self._entries) >= self._size:
                return None
            conn = self._connect()
            entry = self._entries[id(conn)] = Entry(conn, self._lost.append)
            entry.cid = id(conn)
            entry.uses = 0
            return conn
"""

HEARTBEAT = (
    "waiter.signal.acquire()\n        return",
    ("while not waiter.signal.acquire(True, 1.0):\n            self._settle()\n        return"),
)
LOOK_BEFORE_APPEND = (
    "self._idle.append(conn)\n        if self._gate:",
    "gate = self._gate\n        self._idle.append(conn)\n        if gate:",
)
GATE_CLEARED_WHILE_ONE_WAITS = (
    "            if conn is None:\n",
    "            if conn is None:\n                self._gate = False\n",
)
SECOND_CONNECTION = ("len(self._entries) >= self._size", "len(self._leases) >= self._size")

RULES = Rules(
    flags={"gate"},
    containers={"idle", "entries", "leases", "waiters", "lost"},
    locks={"lock"},
    calls={"acquire", "release"},
    replace={"RLock": WalkLock, "allocate_lock": WalkSignal, "id": walk_id},
)


class Connection:
    """What the toy pools."""

    __slots__ = ("__weakref__", "holder")

    def __init__(self) -> None:
        self.holder = ""


def compile_toy(*patch: str) -> ModuleType:
    text = patched(POOL, *patch) if patch else POOL
    return load({"toy.entry": ENTRY, "toy.pool": text}, RULES)["toy.pool"]


def client(pool: Any, name: str, turns: int = 1) -> Body:
    """Get, use alone, put."""
    for _ in range(turns):
        conn = yield from pool.getconn()
        assert not conn.holder, f"{name} got what {conn.holder} holds"
        conn.holder = name
        yield Step("use")
        conn.holder = ""
        yield from pool.putconn(conn)
        conn = None


def dropper(pool: Any, name: str) -> Body:
    """Get and let go without a put."""
    conn = yield from pool.getconn()
    yield Step("drop")
    del conn


def slots_kept(world: World) -> None:
    assert len(world.pool._entries) <= world.pool._size, "more connections than slots"


def nobody_waits(world: World) -> None:
    assert not world.pool._waiters
    assert not world.pool._lock.count


def scenario(module: ModuleType, bodies: list[Callable[[Any, str], Body]], size: int = 1, **options: Any) -> Scenario:
    """Clients a, b, c ... on one toy pool."""

    def build(world: World) -> None:
        world.pool = module.Pool(Connection, size)
        world.traces.append(("lost", lambda: len(world.pool._lost), True))
        for name, body in zip("abcd", bodies):
            world.spawn(name, body(world.pool, name))

    settings: dict[str, Any] = {"invariant": slots_kept, "final": nobody_waits, "ignore": {"Entry": {"uses"}}}
    return Scenario("toy", build, **{**settings, **options})
