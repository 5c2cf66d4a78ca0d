"""The pool's record of one connection, and of the right to open one. Neither keeps the thing it records alive."""

from __future__ import annotations

import enum
import weakref
from collections import deque
from typing import Any, Callable, Generic, TypeVar, cast

C = TypeVar("C")
FOR_EVER = float("inf")
RETIRED = -1.0  # a time that has always passed
ALIVE, WRITABLE = 1, 2  # what may no longer be so of a suspect


class Status(enum.Enum):
    """Where a connection is. Not a field that somebody must write: it follows from who has the connection."""

    CONNECTING = "connecting"  # a ticket:          -> IDLE, LEASED, CLOSED
    IDLE = "idle"  # the idle deque:                -> LEASED, CHECKING, CLOSED
    CHECKING = "checking"  # in the pool's own hands -> IDLE, LEASED, CLOSED
    LEASED = "leased"  # a caller or a key has it   -> IDLE, LEASED (handed over), CHECKING, CLOSED
    CLOSED = "closed"  # final

    @property
    def successors(self) -> tuple[Status, ...]:
        return _SUCCESSORS[self]


_SUCCESSORS = {
    Status.CONNECTING: (Status.IDLE, Status.LEASED, Status.CLOSED),
    Status.IDLE: (Status.LEASED, Status.CHECKING, Status.CLOSED),
    Status.CHECKING: (Status.IDLE, Status.LEASED, Status.CLOSED),
    Status.LEASED: (Status.IDLE, Status.LEASED, Status.CHECKING, Status.CLOSED),
    Status.CLOSED: (),
}


class Entry(weakref.ref[C]):
    """One open connection, from its adoption until its close has returned.

    A weak reference: called, it gives the connection, or None once nobody has it. What the callback of a dead one
    runs must be a C function (``lost.append``), because an interrupt inside a Python one would be swallowed there.
    ``==`` and ``hash`` are the connection's: compare entries by ``is``.
    """

    __slots__ = (
        "aborted",
        "backend_pid",
        "by_block",
        "cid",
        "depth",
        "doomed",
        "fate",
        "held",
        "holder",
        "holds",
        "home",
        "kept",
        "key",
        "longest_hold",
        "look_at",
        "marks",
        "number",
        "opened",
        "pings",
        "resets",
        "seen",
        "shared",
        "since",
        "site",
        "socket",
        "suspect",
        "told",
        "use_by",
        "uses",
    )

    cid: int | None  # id(connection) while registered; None once forgotten
    number: int  # of the pool's connections, the first is 1
    backend_pid: int | None  # the server's process, or session, that serves it, if the driver tells
    fate: str | None  # why it was closed
    depth: int  # with blocks inside each other on its key ...
    by_block: bool  # ... the first of which leased it ...
    shared: int  # callers whom its key has come to serve
    doomed: bool  # ... and one of which failed
    kept: int  # asyncio: how many getconn(key) have it, whose holders put it
    key: Any  # the key it is leased under, or None
    home: Any  # whose it was last, for a pool that gives a thread its own again
    holder: Any  # thread that leased it last, or a weak reference to the task
    since: float  # when it was leased last
    uses: int  # leases so far: the number of the current one
    use_by: float  # not handed out from then on; written at opening and by drain, never by a put
    look_at: float  # handed out without a closer look before then; written by such looks and by doubt, never by a hit
    suspect: int  # 0, or why the next look must ask the server: ALIVE or WRITABLE
    seen: float  # when it was last known to be alive, but for its being handed out
    opened: float
    site: str | None  # where in the program it was leased, if that is traced
    holds: int  # leases that took the slow way back, where a clock is read ...
    held: float  # ... the seconds of them all ...
    longest_hold: float  # ... and of the longest
    resets: int
    pings: int
    aborted: bool  # it had to be cut off, or a call on it was left behind
    told: int  # the lease that was told of as a leak
    marks: Any  # the driver's attributes as they were after on_connect
    socket: Any  # how a forked child knows its descriptor


class StrongEntry(Generic[C]):
    """The entry of a connection that cannot be weakly referenced: dropped without putconn, it is not noticed."""

    __slots__ = (*Entry.__slots__, "conn")

    def __init__(self, conn: C) -> None:
        self.conn: C | None = conn

    def __call__(self) -> C | None:
        return self.conn


def record(
    conn: C, now: float, marks: Any, on_lost: Callable[[Any], None],
    lifetime: float = FOR_EVER, look_in: float = FOR_EVER,
) -> Entry[C]:  # fmt: skip
    """Return a new entry for *conn*; *on_lost* (a C function) is called with it when nobody has *conn* any more."""
    entry: Entry[C]
    try:
        entry = Entry(conn, on_lost)
    except TypeError:
        entry = cast("Entry[C]", StrongEntry(conn))  # the same but for being weak
    entry.cid = id(conn)
    entry.fate = entry.key = entry.home = entry.holder = entry.backend_pid = None
    entry.site = None
    entry.since = entry.opened = entry.seen = now
    entry.depth = entry.shared = entry.kept = 0
    entry.by_block = entry.doomed = entry.aborted = False
    entry.uses = entry.told = entry.suspect = entry.number = 0
    entry.holds = entry.resets = entry.pings = 0
    entry.held = entry.longest_hold = 0.0
    entry.use_by = now + lifetime
    entry.look_at = now + min(lifetime, look_in)
    entry.marks = marks
    entry.socket = None
    return entry


def lease_of(entries: dict[int, Entry[Any]], conn: Any) -> tuple[int, int] | None:
    """Return what tells the present lease of *conn* from all others, past and to come; None if it is not open."""
    entry = None if conn is None else entries.get(id(conn))
    return None if entry is None else (id(conn), entry.uses)


class TicketRef(weakref.ref["Ticket"]):
    """The registry's side of a ticket; hashed and compared by the ticket's identity."""

    __slots__ = ()


class Ticket:
    """The right to open one connection. It holds a slot until it is ended or dropped."""

    __slots__ = ("__weakref__", "deadline", "generation", "job", "owner", "ref", "since", "started")

    def __init__(self, deadline: float, generation: int, owner: Any, since: float = 0.0) -> None:
        self.deadline = deadline
        self.since = since
        self.generation = generation
        self.owner = owner  # weak reference to the waiter for whom it was issued, or None
        self.started = False
        self.job: deque[None] = deque((None,))
        self.ref: TicketRef | None = None

    def claim(self) -> bool:
        """Take the work; True for the first who asks, the helper thread or the caller who gave up on it."""
        try:
            self.job.pop()
        except IndexError:
            return False
        return True


class ThreadKey:
    """Lives in a thread's local storage; its death tells that the thread has ended. (An ident is given away again.)"""

    __slots__ = ("__weakref__",)


class ThreadRef(weakref.ref[ThreadKey]):
    """The key under which a thread's connection is leased; hashed and compared by the ThreadKey's identity."""

    __slots__ = ()
