"""What a pool has: its connections, the rights to open more, its leases; how each of them comes and goes.

Part of the state machine, and as pure as state.py, which decides who gets which.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Callable

from dbpool.entry import FOR_EVER, RETIRED, Entry, ThreadRef, Ticket, TicketRef
from dbpool.errors import Bound, bind, copied
from dbpool.semaphore import FifoSemaphore, Place, Waiter
from dbpool.tally import Tally

if TYPE_CHECKING:
    from dbpool.limiter import Limiter


class Registry:
    """The connections of one pool, those who have them and those who wait for one, and nothing of how they meet."""

    # Slots, as more attributes than CPython keeps in the object itself would make it a dict of its own: of ten thousand
    # endpoints, each piece of memory that a hit touches is a cold one.
    __slots__ = (
        "_at_home", "_connect_limit", "_idle_limit", "_keep_surplus", "_kept", "_max_connecting", "_max_overflow",
        "_max_waiting", "aborted", "again", "closed", "closers", "closing", "connect_errors", "discards", "divert",
        "doubts", "drained", "entries", "errors", "gate", "generation", "idle", "keyed", "last_error", "leaked",
        "leases", "limiter", "look_in", "lost", "maxconn", "member", "minconn", "name", "opened", "refill_at",
        "refused", "retry_at", "take", "tally", "tickets", "timeouts", "unfit", "untake", "uses_of_closed",
        "waiters", "wishes",
    )  # fmt: skip

    def __init__(
        self, name: str, minconn: int, maxconn: int, *, max_overflow: int | None = 0, max_waiting: int | None = None,
        max_connecting: int | None = None, connect_limit: float | None = None, keep_surplus: bool = True,
        idle_limit: float = FOR_EVER, look_in: float = FOR_EVER, oldest_first: bool = False, divert: bool = False,
        at_home: bool = False, limiter: Limiter | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.idle: deque[Any] = deque()  # connections; the newest is on the right
        self.entries: dict[int, Entry[Any]] = {}  # id(connection) -> every one until its close has returned
        self.leases: dict[int, Entry[Any]] = {}  # id(connection) -> those out without a key; held weakly
        self.keyed: dict[Any, Any] = {}  # key -> connection; held strongly: the same key must find it again
        self.tickets: dict[TicketRef, None] = {}  # connections being opened, oldest first
        self.closing: dict[int, Entry[Any]] = {}  # those whose close is under way
        self.drained: dict[int, Entry[Any]] = {}  # those that must not be used again
        self.lost: deque[Any] = deque()  # weak references that died, entries that were closed: to be reaped
        self.leaked: deque[Entry[Any]] = deque()  # reaped while leased: to be told
        self.waiters = FifoSemaphore(None, self.lost.append)
        self.closers = FifoSemaphore(None, self.lost.append)  # those who wait until everything is closed
        # True while hits must not run: somebody waits, the pool is closed, a connection is drained or too many are
        # open. Who makes such a condition sets it and then has match() look; only match() clears it.
        self.gate: bool
        self.closed = False
        self.again: list[bool] = []  # that of the present match(); its Todo itself must not be kept
        self.generation = 0
        self.errors: Bound = bind(None)
        self.last_error: BaseException | None = None  # why the last connect failed, until one succeeds
        self.retry_at = RETIRED  # the server refused: no connect before then, and one at a time until one succeeds
        self.refill_at = RETIRED  # it refused, for good perhaps: the same for connects that nobody waits for
        self.doubts = 0  # how often all connections were doubted
        self.unfit: Callable[[Any], Any] = ().__contains__  # set by the shell: a local look at a connection
        self.opened = self.aborted = self.connect_errors = self.timeouts = self.refused = self.uses_of_closed = 0
        self.tally = Tally()
        self.discards: Counter[str] = Counter()
        self.limiter = limiter
        self.member: Any = None  # what stands for this state there
        self.wishes: list[float] = []  # since when those wait for whom there is room here, but not under the limiter
        self.divert = divert  # no hits at all: a listener is told of everything, uses are counted
        self._at_home = at_home
        self._max_overflow = max_overflow
        self._max_waiting = max_waiting
        self._max_connecting = FOR_EVER if max_connecting is None else max_connecting
        self._keep_surplus = keep_surplus
        self._idle_limit = idle_limit  # seconds
        self.look_in = look_in  # seconds after which a connection is looked at before it is handed out
        self._connect_limit = FOR_EVER if connect_limit is None else connect_limit
        self.take: Callable[[], Any] = self.idle.popleft if oldest_first else self.idle.pop
        self.untake: Callable[[Any], None] = self.idle.appendleft if oldest_first else self.idle.append
        self.set_limits(minconn, maxconn)

    # ---- limits -----------------------------------------------------------------------------------------------------

    def set_limits(self, minconn: int, maxconn: int) -> None:
        """Change the sizes; match() then acts on them."""
        self.gate = True
        self.minconn, self.maxconn = minconn, maxconn
        self.waiters.permits = None if self._max_overflow is None else maxconn + self._max_overflow
        self._kept = maxconn if self._keep_surplus else minconn  # hits are for pools with no more than these

    def size(self) -> int:
        """Slots taken: open, being opened and being closed."""
        return len(self.entries) + len(self.tickets)

    def _expect(self) -> None:
        if self.limiter is not None and self.member is not None:
            self.limiter.expect(self)

    def _count(self) -> None:
        if self.limiter is not None and self.member is not None:
            self.limiter.count(self)

    def idle_since(self) -> float | None:
        """Since when the idle connection that is used least was not handed out; None if none is idle."""
        try:
            entry = self.entries.get(id(self.idle[0]))
        except IndexError:
            return None
        return None if entry is None else entry.since

    def describe(self) -> str:
        """The state in one line, as repr and errors show it."""
        size, idle, connecting, closing = self.size(), len(self.idle), len(self.tickets), len(self.closing)
        used = max(0, size - idle - connecting - closing)
        words = f"{used} used, {idle} idle, {connecting} connecting, {len(self.waiters)} waiting, max {self.maxconn}"
        if self.limiter is not None:
            words += f", {self.limiter.used} of {self.limiter.limit} under its limiter"
        return f"{self.name!r} closed, {words}" if self.closed else f"{self.name!r} {words}"

    def missing(self) -> int:
        """How many must be opened to have ``minconn``."""
        return max(0, self.minconn - self.size())

    def to_open(self) -> int:
        """How many of those may be opened at a time: one, to see whether a server that refused lets us in again."""
        return min(self.missing(), 1 if self.refill_at != RETIRED else self.maxconn)

    # ---- opening ----------------------------------------------------------------------------------------------------

    def try_issue(
        self, now: float, owner: Place | None = None, patient: bool = True, since: float = FOR_EVER
    ) -> Ticket | None:  # fmt: skip
        """Return the right to open one connection for a caller who came at *since*, if there is room."""
        if not self.may_connect(now, patient):
            return None
        if self.limiter is None:
            return self.issue(now, owner)
        with self.limiter.lock:
            return self.issue(now, owner) if self.limiter.grants(self, since) else None

    def issue(self, now: float, owner: Place | None = None) -> Ticket:
        """Return the right to open one connection; it holds a slot from now on."""
        ticket = Ticket(now + self._connect_limit, self.generation, owner, now)
        ref = TicketRef(ticket, self.lost.append)
        hash(ref)  # kept by the reference: it cannot be computed any more once the ticket is gone
        ticket.ref = ref
        self._expect()
        self.tickets[ref] = None
        self._count()
        return ticket

    def under_way(self) -> bool:
        """True while something may come of itself: a connect, another attempt, a close, or what is being looked at."""
        leased = len(self.leases) + len(self.keyed) + len(self.idle)
        return bool(self.tickets or self.closing or self.is_refused() or len(self.entries) > leased)

    def is_overdue(self, now: float) -> bool:
        """True if a connect takes longer than it may: match() then leaves it behind. Asked without the lock."""
        ticket = next((ref() for ref in list(self.tickets)[:1]), None)
        return ticket is not None and now >= ticket.deadline

    def is_refused(self) -> bool:
        """True from a refusal of the server's until it has let us in again."""
        return self.retry_at != RETIRED

    def may_connect(self, now: float, patient: bool = True) -> bool:
        """True if one more may be opened now; who is not *patient* tries even if the server has just refused."""
        if self.retry_at != RETIRED and patient and (self.tickets or now < self.retry_at):
            return False
        return (
            self.waiters.room(self.size()) > 0
            and not self.closed
            and len(self.tickets) < self._max_connecting
        )  # fmt: skip

    def adopt(self, ticket: Ticket, entry: Entry[Any], conn: Any) -> bool:
        """Take in a connection that was opened under *ticket*; False: too late, close it."""
        if ticket.ref not in self.tickets:
            entry.cid = None  # it was never counted as open
            return False
        self._expect()
        # Counted twice for a moment; the other order would let one more be opened than may be.
        assert entry.cid is not None
        self.entries[entry.cid] = entry  # the same int in all tables is one piece of memory less to look at
        self.end(ticket)
        if ticket.generation != self.generation:
            self.retire(entry)
        self.opened += 1
        self.last_error = None
        self.retry_at = self.refill_at = RETIRED
        self.gate = True
        self.idle.append(conn)
        return True

    def begin(self, ticket: Ticket) -> bool:
        """Somebody is about to use *ticket*; False if it was taken back meanwhile."""
        ticket.started = ticket.ref in self.tickets
        return ticket.started

    def end(self, ticket: Ticket) -> None:
        self._expect()
        self.tickets.pop(ticket.ref, None)  # type: ignore[arg-type]
        ticket.ref = None  # dead before the ticket is, so that nothing has to be reaped
        self._count()

    def fail(
        self, ticket: Ticket, error: BaseException, kept: BaseException | None = None,
        refusal: str | None = None, retry_at: float = RETIRED,
    ) -> bool:  # fmt: skip
        """A connect failed: its slot goes to the next, its error to the waiter for whom it was made, if still there.

        *kept* is what later time-outs name as their cause: the error, but without the callers' frames. A *refusal* of
        the server's has nothing to do with that waiter: while it is "transient", or connections are open that may come
        back, those who are patient wait on, and nobody tries again before *retry_at*; else all who wait are told.
        """
        if ticket.ref not in self.tickets:
            return False
        self.last_error = kept or self.last_error
        self.connect_errors += 1
        waiter = None if ticket.owner is None else ticket.owner()
        hopeful = refusal == "transient" or (refusal is not None and len(self.entries) > len(self.closing))
        if hopeful:
            self.retry_at = retry_at
        if refusal is not None:
            self.refill_at = retry_at
        delivered = waiter is not None and not (hopeful and waiter.patient) and self._refuse(waiter, error)
        if refusal is not None and not hopeful:
            for other in list(self.waiters):
                self._refuse(other, copied(error))
        self.end(ticket)
        return delivered

    def _refuse(self, waiter: Waiter, error: BaseException) -> bool:
        if waiter.place is None:
            return False
        waiter.error = error
        waiter.wake()
        self.waiters.leave(waiter)
        return True

    # ---- taking back ------------------------------------------------------------------------------------------------

    def claim_keyed(self, conn: Any, key: Any) -> Entry[Any] | None:
        """End the lease of a keyed connection, if it is one and *key* is None or its key."""
        entry = self.entries.get(id(conn))
        if entry is None or self.keyed.get(entry.key) is not conn:
            return None
        if key is not None and key != entry.key:
            return None
        self.keyed.pop(entry.key, None)
        entry.key = None
        return entry

    def restore(self, conn: Any, entry: Entry[Any]) -> None:
        """An interrupted put: the lease is as before, unless the connection went on already."""
        if entry() is not conn or self.entries.get(id(conn)) is not entry or id(conn) in self.closing:
            return
        for pooled in self.idle.copy():
            if pooled is conn:
                return
        self.leases[id(conn)] = entry

    def replace(self, old: Entry[Any], new: Entry[Any], conn: Any) -> None:
        """Pool *conn* in the place of *old*'s connection, which its owner is about to close."""
        self._expect()
        self.entries[id(conn)] = new
        self.opened += 1
        self.lost.append(old)
        self.idle.append(conn)

    def condemn(self, conn: Any, reason: str) -> bool:
        """Mark *conn* as being closed; its slot stays taken until that is done. False if somebody else closes it."""
        cid = id(conn)
        self.leases.pop(cid, None)
        entry = self.entries.get(cid)
        if entry is None or cid in self.closing:
            return False
        if cid not in self.drained:
            entry.fate = reason
        if entry.key is not None:
            self.keyed.pop(entry.key, None)
        self._expect()
        self.closing[cid] = entry
        self._count()
        return True

    def _discard(self, conn: Any, reason: str, doomed: list[Any]) -> None:
        """Put *conn* on the list of those to be closed outside the lock."""
        if self.condemn(conn, reason):
            doomed.append(conn)

    # ---- closing ----------------------------------------------------------------------------------------------------

    def retire(self, entry: Entry[Any], reason: str = "drained") -> None:
        """Have nobody use a connection any more: closed now if it is idle, when it comes back if it is leased."""
        self.gate = True
        entry.fate = reason
        entry.use_by = entry.look_at = RETIRED
        if entry.cid is not None:
            self.drained[entry.cid] = entry

    def shut(self) -> None:
        """Refuse everybody from now on."""
        self.gate = True
        self.closed = True

    def seize(self) -> list[Any]:
        """Return all connections, also those in use, to be closed. Afterwards putting one is refused."""
        doomed: list[Any] = []
        for entry in list(self.entries.values()):
            conn = entry()
            if conn is not None:
                self._discard(conn, "closed", doomed)
        return doomed

    def renew(self) -> None:
        """Forget all that there is: this process is a child, and what it has is its parent's."""
        self._expect()
        self.gate = True
        for held in (self.idle, self.entries, self.leases, self.keyed, self.tickets, self.closing, self.drained):
            held.clear()
        for waiting in (self.waiters, self.closers):
            waiting.clear()
        self.lost.clear()
        self.leaked.clear()
        self.discards.clear()
        self.opened = self.aborted = self.connect_errors = self.timeouts = self.refused = self.uses_of_closed = 0
        self.tally = Tally()
        self.wishes = []
        self.last_error, self.retry_at, self.refill_at = None, RETIRED, RETIRED
        if self.limiter is not None and self.member is not None:
            self.limiter.wished(self)
        self._count()

    # ---- reaping -----------------------------------------------------------------------------------------------------

    def _reap(self, orphans: list[tuple[Entry[Any], Any]]) -> None:
        """Forget what is gone: closed connections, and whatever was dropped or cut off."""
        self._expect()
        while self.lost:
            gone = self.lost[0]  # peek: cut off here, it is found again
            if isinstance(gone, Place):
                self.waiters.forget(gone)
                self.closers.forget(gone)
            elif isinstance(gone, TicketRef):
                self.tickets.pop(gone, None)
            elif isinstance(gone, ThreadRef):
                self._orphan(gone, orphans)
            else:
                self._forget(gone)
            self.lost.popleft()
        self._count()

    def _orphan(self, thread: ThreadRef, orphans: list[tuple[Entry[Any], Any]]) -> None:
        """A thread ended with its connection leased."""
        conn = self.keyed.get(thread)
        entry = None if conn is None else self.claim_keyed(conn, thread)
        if entry is not None:
            orphans.append((entry, conn))

    def _forget(self, entry: Entry[Any]) -> None:
        cid = getattr(entry, "cid", None)  # not there if cut off when half made
        if cid is None:
            return
        if self.leases.get(cid) is entry:
            entry.fate = "dropped"
            self.leases.pop(cid, None)
            self.leaked.append(entry)
            self.tally.leaks += 1
        if self.closing.get(cid) is entry:
            self.closing.pop(cid, None)
        if self.drained.get(cid) is entry:
            self.drained.pop(cid, None)
        if self.entries.get(cid) is entry:
            self.entries.pop(cid, None)
        self.uses_of_closed += entry.uses
        self.tally.bury(entry)
        self.discards[entry.fate or "dropped"] += 1
        entry.cid = None

    def _expire(self, now: float) -> None:
        """A connect that takes too long is left behind, and its slot freed."""
        while self.tickets:
            ref = next(iter(self.tickets))
            ticket = ref()
            if ticket is not None and now < ticket.deadline:
                break
            if ticket is not None:
                self.aborted += 1
                text = "connection pool exhausted: opening one took longer than connect_timeout allows"
                self.fail(ticket, self.errors.PoolTimeout(text), self.errors.PoolTimeout(text))
                self.tally.failed(now, "timeout")
            self.tickets.pop(ref, None)
