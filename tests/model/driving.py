"""Driver: the shipped PoolState and the reference side by side, and what a shell does with the state's decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from fakes import UNKNOWN, FakeConnection

from dbpool.entry import RETIRED, ThreadKey, ThreadRef, record
from dbpool.semaphore import Waiter
from dbpool.stats import snapshot

from .reference import Connect, Reference, Turn

if TYPE_CHECKING:
    from dbpool.state import PoolState

PATIENCE = 5.0  # seconds that a connect may take


class Caller(Waiter):
    """A waiter that counts how often it was woken, and its turn in the reference."""

    __slots__ = ("rings", "turn")

    def __init__(self, since: float, turn: Turn) -> None:
        super().__init__(turn.key, 0, since)
        self.turn = turn
        self.rings = 0

    def wake(self) -> None:
        self.rings += 1

    def given(self) -> Any:
        """What the state gave it, in the reference's words."""
        return self.conn.number if self.conn is not None else self.error and word(self.error)


def word(error: BaseException) -> str:
    """Return the name of an error's class, as it is called whatever the driver."""
    return type(error).__name__.partition("__")[0]


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call it; return the number of the connection that it returns, or the name of the error that it raises."""
    try:
        conn = function(*args, **kwargs)
    except Exception as error:
        return word(error)
    return conn and conn.number


class Driver:
    """Connections are held by nobody here but ``held``, the callers, and what is still to be closed or cleaned."""

    def __init__(self, state: PoolState, model: Reference) -> None:
        self.state, self.model = state, model
        state.unfit = lambda conn: conn.closed
        self.now = 100.0
        self.made = 0
        self.size_before = 0
        self.settled = False  # nothing has happened since the last match, and all that it said was done
        self.callers: list[Caller] = []
        self.held: dict[int, Any] = {}
        self.flights: list[tuple[Any, Connect]] = []  # connects begun
        self.to_close: list[Any] = []
        self.to_clean: list[tuple[Any, Any]] = []
        self.threads: dict[Any, Any] = {}  # key -> its thread's name, and what lives as long as the thread

    # ---- what a shell does ------------------------------------------------------------------------------------------

    def open(self, many: int) -> None:
        """Have so many connections idle, as the constructor does."""
        for _ in range(many):
            connect = Connect(None, self.now + PATIENCE, begun=True)
            self.model.connects.append(connect)
            self.flights.append((self.state.issue(self.now), connect))
            self.connected(0)

    def thread_key(self, name: Any) -> Any:
        """Return the key of a living thread, as a PersistentConnectionPool has it."""
        for key, (owner, _) in self.threads.items():
            if owner == name:
                return key
        token = ThreadKey()
        key = ThreadRef(token, self.state.lost.append)
        self.threads[key] = name, token
        return key

    def hit(self, then: str) -> bool:
        """What getconn does without the lock; False if it has to wait in line."""
        state, model = self.state, self.model
        assert not model.diverts()
        if not state.idle:
            return False
        conn = state.take()
        assert conn.number == model.idle.pop(0 if model.oldest_first else -1)
        entry = state.entries[id(conn)]
        assert self.now < entry.use_by
        if state.unfit(conn):
            self.dismiss(conn)
            self.settle(then)
            return False
        entry.uses += 1
        state.leases[id(conn)] = entry
        model.lease(conn.number, Turn())
        self.held[conn.number] = conn
        return True

    def connected(self, index: int) -> None:
        """In time, or too late."""
        ticket, connect = self.flights.pop(index)
        self.made += 1
        conn = self.new_connection()
        adopted = self.state.adopt(ticket, record(conn, self.now, None, self.state.lost.append), conn)
        assert adopted == (connect in self.model.connects)
        if adopted:
            self.model.connected(connect, conn.number)

    def new_connection(self) -> FakeConnection:
        """Not at the address of one that is gone: if the state has not noticed yet, it would now, by chance."""
        made = [FakeConnection(self.made)]
        while id(made[-1]) in self.state.entries:
            made.append(FakeConnection(self.made))
        return made[-1]

    def failed(self, index: int) -> None:
        ticket, connect = self.flights.pop(index)
        wanted = connect in self.model.connects and connect.owner in self.model.queue
        assert self.state.fail(ticket, OSError("refused")) == wanted
        if connect in self.model.connects:
            self.model.failed(connect, "OSError")

    def give(self, conn: Any, breaks: bool) -> None:
        """A lease has ended."""
        if breaks:
            conn.status = UNKNOWN
            self.dismiss(conn)
        else:
            self.model.put(conn.number)
            self.state.idle.append(conn)

    def dismiss(self, conn: Any) -> None:
        self.model.dismiss(conn.number)
        assert self.state.condemn(conn, "test")
        self.to_close.append(conn)

    def vanish(self, index: int) -> None:
        self.model.vanish(self.callers.pop(index).turn)

    def drop(self, number: int) -> None:
        self.model.drop(number)
        del self.held[number]

    def settle(self, then: str) -> None:
        """Have nothing decided yet, or have the state decide, or also act on it until there is nothing left."""
        self.settled = False
        self.miss_connects()
        while then != "nothing" and not self.settled:
            todo = self.state.match(self.now)
            close, left = self.model.settle(self.now, self.now + PATIENCE)
            assert sorted(conn.number for conn in todo.close) == close
            assert sorted(conn.number for _, conn in todo.clean) == sorted(left)
            self.to_close += todo.close
            self.to_clean += todo.clean
            del todo
            if then == "decide":
                return
            self.settled = not self.to_close and not self.to_clean
            while self.to_close:
                self.close(0)
            while self.to_clean:
                self.clean()

    def close(self, index: int) -> None:
        conn = self.to_close.pop(index)
        assert not conn.closes
        conn.close()
        self.state.lost.append(self.state.entries[id(conn)])
        self.model.gone.add(conn.number)

    def clean(self) -> None:
        """What a thread that ended has left is reset, and pooled if it may be used again."""
        entry, conn = self.to_clean.pop()
        if conn.number in self.model.closing or conn.number not in self.model.open:
            assert not self.state.condemn(conn, "test")
        elif entry.use_by == RETIRED:
            self.dismiss(conn)
        else:
            self.model.put(conn.number)
            self.state.idle.append(conn)

    def miss_connects(self) -> None:
        """A connect that nobody works on, and for whom nobody waits, ends by itself."""
        known = [connect for _, connect in self.flights] + [caller.turn.connect for caller in self.callers]
        for connect in self.model.connects:
            connect.lost = connect not in known

    # ---- what always holds ------------------------------------------------------------------------------------------

    def check(self) -> None:
        self.miss_connects()
        self.is_as_the_reference_says()
        self.a_connection_has_one_place()
        self.no_more_are_open_than_may_be()
        self.the_counts_agree()
        self.the_gate_is_open_only_if_nobody_is_passed()
        if self.settled:
            self.nobody_waits_in_vain()

    def is_as_the_reference_says(self) -> None:
        state, model = self.state, self.model
        assert [waiter.turn for waiter in state.waiters] == model.queue
        assert [caller.given() for caller in self.callers] == [caller.turn.answer for caller in self.callers]
        assert [conn.number for conn in state.idle if id(conn) not in state.closing] == model.idle
        assert len(state.entries) == len(model.open)
        assert len(state.tickets) == len(model.connects)
        assert len(state.leases) == len(model.leased)
        assert {key: conn.number for key, conn in state.keyed.items()} == model.keyed
        assert len(state.closing) == len(model.closing)
        assert len(state.drained) == len(model.retired)

    def a_connection_has_one_place(self) -> None:
        state = self.state
        places = [conn.number for conn in state.idle if id(conn) not in state.closing]
        places += [conn.number for conn in state.keyed.values()]
        places += [conn.number for conn in self.to_close]
        places += [number for number in self.held if number in self.model.leased]
        places += [caller.conn.number for caller in self.callers if caller.conn is not None and caller.key is None
                   and caller.conn.number in self.model.leased]  # fmt: skip
        assert len(places) == len(set(places))

    def no_more_are_open_than_may_be(self) -> None:
        size = self.state.size()
        assert size <= max(self.model.limit(), self.size_before)  # after a shrink it may only fall
        self.size_before = size

    def the_counts_agree(self) -> None:
        stats = snapshot(self.state)
        assert stats.opened - sum(stats.discards.values()) == len(self.state.entries)
        assert stats.size == self.state.size()
        assert stats.waiting >= len(self.model.queue)

    def the_gate_is_open_only_if_nobody_is_passed(self) -> None:
        assert self.state.gate or not self.model.diverts()
        if self.settled:
            assert self.state.gate == self.model.diverts()

    def nobody_waits_in_vain(self) -> None:
        state = self.state
        assert len(state.waiters) == len(self.model.queue)  # and no place is kept for one that is gone
        assert not (state.waiters and state.idle)
        assert len(state.waiters) <= len(state.tickets) or not state.may_connect(self.now)
        assert all(caller.rings for caller in self.callers if caller.turn not in self.model.queue)

    def leave_nothing(self) -> None:
        """When everybody is gone, all slots are free."""
        while self.callers:
            self.vanish(0)
        self.flights.clear()
        for number in list(self.held):
            self.drop(number)
        for key in list(self.model.keyed):
            self.give(self.state.keyed.pop(key), False)
        self.settle("act")
        self.check()
        assert self.state.size() == len(self.state.idle) <= self.model.maxconn
