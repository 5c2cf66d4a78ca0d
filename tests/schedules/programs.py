"""Programs: what the threads of a schedule do with a pool, and what must be so when they have done it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from fakes import INTRANS, UNKNOWN, FakeConnection, FakeConnector, OperationalError

from dbpool import PoolError, PoolExhausted, PoolTimeout, ThreadedConnectionPool

if TYPE_CHECKING:
    from random import Random

    from .baton import Scheduler

Op = tuple[Any, ...]  # the name of a method of Run, and its arguments


@dataclass
class Program:
    """The pool, and for each thread what it does."""

    maxconn: int
    threads: list[list[Op]]
    config: dict[str, Any] = field(default_factory=dict)
    opened: int = 0  # connections that are idle at first
    refused: tuple[int, ...] = ()  # connects that fail, counted from 1
    slow: tuple[int, ...] = ()  # connects that take longer than connect_timeout


class Session(FakeConnection):
    """A connection that knows who uses it, and that the server counts until it is closed or dropped."""

    def __init__(self, number: int, server: Server) -> None:
        super().__init__(number)
        self.server = server
        self.user: Any = None
        server.sessions += 1
        server.most = max(server.most, server.sessions)

    def close(self) -> None:
        self.server.scheduler.point()
        super().close()
        self.server.sessions -= 1
        if self.closes > 1:  # raised here, it would be ignored
            self.server.scheduler.fail(AssertionError(f"{self} is closed twice"))
        self.server.scheduler.point()

    def __del__(self) -> None:
        if not self.closes:
            self.server.sessions -= 1


class Server:
    """Makes sessions; some connects fail, some take long."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.refused: tuple[int, ...] = ()
        self.slow: tuple[int, ...] = ()
        self.connects = self.sessions = self.most = 0

    def connect(self) -> Session:
        self.connects += 1
        number = self.connects
        self.scheduler.point()
        if number in self.slow:
            self.scheduler.sleep(12.0)
        if number in self.refused:
            raise OperationalError(f"connect {number} refused")
        return Session(number, self)


class Run:
    """One run of a program under one scheduler. Call it within stand_ins.replaced()."""

    def __init__(self, scheduler: Scheduler, program: Program) -> None:
        self.scheduler = scheduler
        self.program = program
        self.server = Server(scheduler)
        config = {"start": "lazy", "timeout": None, "connect_timeout": 10 if program.slow else None, **program.config}
        self.pool: Any = ThreadedConnectionPool(
            0, program.maxconn, connect=FakeConnector(self.server.connect), config=config
        )
        self.most_allowed = self._limit(program.maxconn)
        self.waiters: WeakSet[Any] = WeakSet()
        self._new_waiter = self.pool._new_waiter
        self.pool._new_waiter = self.new_waiter
        scheduler.when_quiet = self.nobody_waits_in_vain
        if program.opened:
            with self.pool._lock:
                tickets = [self.pool._state.issue(scheduler.now) for _ in range(program.opened)]
            while tickets:
                self.pool._connect_for(tickets.pop())
        self.server.refused = tuple(program.opened + number for number in program.refused)
        self.server.slow = tuple(program.opened + number for number in program.slow)
        for number, ops in enumerate(program.threads, 1):
            scheduler.spawn(f"thread {number}", self.perform, number, ops)

    def _limit(self, maxconn: int) -> float:
        overflow = self.program.config.get("max_overflow", 0)
        return float("inf") if overflow is None else maxconn + overflow

    def new_waiter(self, key: Any, limit: float | None = None) -> Any:
        """Know all of them, to see whether they are woken."""
        waiter = self._new_waiter(key, limit)
        self.waiters.add(waiter)
        return waiter

    def perform(self, number: int, ops: list[Op]) -> None:
        for name, *args in ops:
            try:
                getattr(self, name)(number, *args)
            except (PoolError, OperationalError) as error:
                late = isinstance(error, PoolTimeout) and self.program.slow
                refused = isinstance(error, OperationalError) and self.program.refused
                if not (self.pool.closed or late or refused):
                    raise

    # ---- what threads do --------------------------------------------------------------------------------------------

    def turn(self, user: int, end: str = "clean", timeout: float | None = None, key: Any = None) -> None:
        """Lease a connection, write into it who uses it, read that again, and give it back in some way."""
        conn = self.lease(timeout, key)
        if conn is not None:
            self.use(conn, user)
            self.end(conn, user, end, key)

    def lease(self, timeout: float | None, key: Any = None) -> Any:
        try:
            return self.pool.getconn(key, timeout)
        except PoolExhausted as error:
            in_time = isinstance(error, PoolTimeout) if timeout else timeout == 0
            if not in_time:
                raise
        return None

    def use(self, conn: Session, user: int) -> None:
        assert conn.user is None, f"{conn} is used by {conn.user} and {user}"
        conn.user = user
        self.scheduler.point()

    def no_longer_use(self, conn: Session, user: int) -> None:
        assert conn.user == user, f"{conn} is used by {conn.user} and {user}"
        conn.user = None

    def end(self, conn: Session, user: int, end: str, key: Any) -> None:
        if end == "drop" and key is None:
            return
        if end == "break":
            conn.status = UNKNOWN
        elif end == "dirty" and not conn.closed:
            conn.status = INTRANS
        elif end == "sleep":
            self.scheduler.sleep(0.7)
        self.no_longer_use(conn, user)
        self.pool.putconn(conn, key, close=end == "close")

    def block(self, user: int, key: Any = None) -> None:
        """Two with blocks inside each other, if they have a key; else one."""
        with self.pool.connection(key) as conn:
            self.use(conn, user)
            if key is not None:
                with self.pool.connection(key) as same:
                    assert same is conn
            self.no_longer_use(conn, user)

    def drain(self, user: int) -> None:
        self.pool.drain()

    def resize(self, user: int, maxconn: int) -> None:
        self.most_allowed = max(self.most_allowed, self._limit(maxconn))
        self.pool.resize(0, maxconn)

    def close(self, user: int, timeout: float | None) -> None:
        self.pool.close(timeout)

    def closeall(self, user: int) -> None:
        self.pool.closeall()

    # ---- what must be so --------------------------------------------------------------------------------------------

    def nobody_waits_in_vain(self) -> None:
        """All sleep: whoever waits for a connection does so with reason. What was dropped, a heartbeat finds."""
        state = self.pool._state
        allowed = self.most_allowed + state.aborted  # what comes after connect_timeout comes on top
        assert self.server.most <= allowed, f"{self.server.most} sessions at once"
        if state.lost:
            return
        waiting = len(state.waiters)
        assert not (waiting and state.idle), f"{waiting} wait beside an idle connection"
        assert waiting <= len(state.tickets) or not state.may_connect(0.0), f"{waiting} wait beside a free slot"
        for waiter in list(self.waiters):
            served = waiter.conn is not None or waiter.error is not None
            assert waiter._bell.rings() or not served, "one who was served was not woken"
        for closer in state.closers:
            assert closer._bell.rings() or state.size(), "all are closed, and who waits for it was not woken"
        assert state.gate or not waiting, "those who come pass those who wait"
        assert not (state.closed and waiting), "somebody waits for a closed pool"

    def audit(self) -> None:
        """After all is over: the counts agree, and all slots can be taken."""
        pool, state = self.pool, self.pool._state
        self.nobody_waits_in_vain()
        pool._settle()
        assert not state.waiters, "somebody waits who has gone"
        assert not state.tickets, "a slot is held by a connect that is over"
        assert not state.closing, "a slot is held by a close that is over"
        assert not state.leases, "a lease is left"
        assert not state.keyed, "a key is left"
        stats = pool.stats()
        counts = stats.opened - sum(stats.discards.values()), stats.size, len(state.idle), self.server.sessions
        assert len(set(counts)) == 1, f"opened - closed, size, idle and the server's sessions are {counts}"
        if pool.closed:
            assert stats.size == 0, "a connection is open in a closed pool"
            return
        self.server.refused = self.server.slow = ()
        leased = [pool.getconn(timeout=0) for _ in range(pool.maxconn)]
        assert len({id(conn) for conn in leased}) == pool.maxconn, "not all slots can be taken"
        for conn in leased:
            assert conn.user is None
            pool.putconn(conn)
        kept = pool.maxconn if self.program.config.get("idle_timeout") is None else 0
        assert len(state.idle) == kept == self.server.sessions, f"{state.idle} are idle, not {kept}"
        assert not state.gate, "the pool is at rest, and no hit can be"


def random_program(random: Random) -> Program:
    """Three or four threads; one of them may change the pool."""
    maxconn = random.choice((1, 1, 2))
    threads = [[_random_op(random, number) for _ in range(random.randint(1, 3))]
               for number in range(random.choice((3, 3, 4)))]  # fmt: skip
    change = random.choice((None, None, ("drain",), ("resize", 1), ("resize", 2), ("close", 0.5), ("closeall",)))
    if change is not None:
        random.choice(threads).insert(0, change)
    config: dict[str, Any] = {}
    if random.random() < 0.3:
        config["max_overflow"] = 1
    if random.random() < 0.2:
        config["idle_timeout"] = 0
    return Program(
        maxconn, threads, config,
        opened=random.randint(0, maxconn),
        refused=(random.randint(1, 3),) if random.random() < 0.3 else (),
        slow=(random.randint(1, 3),) if random.random() < 0.2 else (),
    )  # fmt: skip


def _random_op(random: Random, number: int) -> Op:
    if random.random() < 0.15:
        return ("block", random.choice((None, f"key {number}")))
    end = random.choice(("clean", "clean", "clean", "dirty", "break", "close", "drop", "sleep"))
    timeout = random.choice((None, None, None, 0, 0.5, 2.5))
    return ("turn", end, timeout, random.choice((None, None, None, f"key {number}")))


# Two or three threads each, and little to do: all schedules with one preemption can be run.
SMALL = {
    "turns": Program(1, [[("turn",)], [("turn",)]], opened=1),
    "connects": Program(1, [[("turn",)], [("turn",)]]),
    "two_slots": Program(2, [[("turn",), ("turn",)], [("turn",)]], opened=1),
    "broken": Program(1, [[("turn", "break")], [("turn",)]], opened=1),
    "refused": Program(1, [[("turn",)], [("turn",)]], refused=(1,)),
    "timeout": Program(1, [[("turn", "sleep")], [("turn", "clean", 0.5)]], opened=1),
    "expiry": Program(1, [[("turn", "sleep")], [("turn", "clean", 0.7)], [("turn",)]], opened=1),
    "impatient": Program(1, [[("turn",)], [("turn", "clean", 0)]]),
    "keyed": Program(1, [[("turn", "clean", None, "a")], [("turn", "dirty", None, "b")]], opened=1),
    "dropped": Program(1, [[("turn", "drop")], [("turn",)]], opened=1),
    "overflow": Program(1, [[("turn",)], [("turn",)]], {"max_overflow": 1}, opened=1),
    "resize": Program(2, [[("turn",), ("resize", 1)], [("turn",)]], opened=2),
    "drain": Program(1, [[("turn",)], [("drain",)]], opened=1),
    "close": Program(1, [[("turn",)], [("close", 0.5)]], opened=1),
    "block": Program(1, [[("block",)], [("closeall",)]], opened=1),
    "keyed_block": Program(1, [[("block", "a")], [("closeall",)]], opened=1),
    "closeall": Program(1, [[("turn",)], [("closeall",)]], opened=1),
}
