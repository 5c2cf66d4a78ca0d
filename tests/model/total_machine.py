"""TotalMachine: several PoolStates under one Limiter; what their shells do is done at once. It counts for itself."""

from __future__ import annotations

import gc
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from unit.pure import Caller, Conn

from dbpool import Limiter
from dbpool.entry import Entry, record
from dbpool.state import PoolState

pools = st.integers(0, 2)
picks = st.integers(0, 9)


class Member:
    """One pool: its state, and what a shell does for it, all of it at once."""

    def __init__(self, machine: TotalMachine, maxconn: int) -> None:
        self.machine, self.busy = machine, False
        self.state = PoolState("one", 0, maxconn, limiter=machine.limiter, look_in=1e9)
        machine.limiter.join(self.state, lambda: self.settle)

    def settle(self) -> None:
        again = True
        while again:
            todo = self.state.match(self.machine.now)
            again = bool(todo.close) or bool(todo.again)
            while todo.close:
                self.close(todo.close.pop())
            self.machine.limiter.wake_others()

    def close(self, conn: Any) -> None:
        entry = self.state.entries[id(conn)]
        if entry.fate == "limiter":
            self.machine.gives_way(entry, conn)
        self.machine.within()
        self.state.lost.append(entry)


class TotalMachine(RuleBasedStateMachine):
    """Callers come and go at three pools, which have a total of one to three."""

    limiter_class: Any = Limiter
    examples = steps = 0

    @initialize(limit=st.integers(1, 3), maxconn=st.integers(1, 3))
    def make(self, limit: int, maxconn: int) -> None:
        type(self).examples += 1
        self.now, self.maxconn = 100.0, maxconn
        self.limiter = self.limiter_class(limit)
        self.members = [Member(self, maxconn) for _ in range(3)]
        self.waiting: list[tuple[Member, Caller]] = []
        self.opening: list[tuple[Member, Any]] = []
        self.held: list[tuple[Member, Any]] = []
        self.put_at: dict[int, float] = {}

    # ---- what happens ------------------------------------------------------------------------------------------------

    @rule(pool=pools, at_once=st.booleans())
    def arrive(self, pool: int, at_once: bool) -> None:
        """*at_once*: what is opened for it is open then."""
        member, caller = self.members[pool], Caller(since=self.now)
        member.state.arrive(caller)
        self.waiting.append((member, caller))
        caller = None
        self.settled(member)
        if at_once and self.opening:
            self.connected(len(self.opening) - 1, fails=False)

    @rule(pool=pools)
    def hit(self, pool: int) -> None:
        """What getconn does without the lock."""
        member = self.members[pool]
        if member.state.gate or not member.state.idle:
            return
        conn = member.state.take()
        entry = member.state.entries[id(conn)]
        entry.since, entry.uses = self.now, entry.uses + 1
        member.state.leases[id(conn)] = entry
        self.held.append((member, conn))

    @precondition(lambda self: self.opening)
    @rule(pick=picks, fails=st.booleans())
    def connected(self, pick: int, fails: bool) -> None:
        member, ticket = self.opening.pop(pick % len(self.opening))
        conn = Conn()
        if fails:
            member.state.fail(ticket, OSError("refused"))
        else:
            entry = record(conn, self.now, None, member.state.lost.append, 1e9, 1e9)
            self.put_at[id(conn)] = self.now
            assert member.state.adopt(ticket, entry, conn)
        conn = None
        self.settled(member)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def put(self, pick: int) -> None:
        """What putconn does without the lock: it looks only if the gate is shut."""
        member, conn = self.held.pop(pick % len(self.held))
        self.put_at[id(conn)] = self.now
        member.state.leases.pop(id(conn))
        member.state.idle.append(conn)
        conn = None
        if member.state.gate:
            self.settled(member)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def put_close(self, pick: int) -> None:
        member, conn = self.held.pop(pick % len(self.held))
        assert member.state.condemn(conn, "closed by the caller")
        self.within()
        member.state.lost.append(member.state.entries[id(conn)])
        conn = None
        self.settled(member)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def drop(self, pick: int) -> None:
        """Nobody settles its pool; so somebody who waits comes by."""
        self.held.pop(pick % len(self.held))
        self.limiter.wake_others()

    @precondition(lambda self: self.waiting)
    @rule(pick=picks, vanishes=st.booleans())
    def leave(self, pick: int, vanishes: bool) -> None:
        member, caller = self.waiting.pop(pick % len(self.waiting))
        if not vanishes:
            member.state.depart(caller)
        caller = None
        self.settled(member)

    @rule(pool=pools)
    def drain(self, pool: int) -> None:
        self.members[pool].state.drain()
        self.settled(self.members[pool])

    @rule(pool=pools, maxconn=st.integers(1, 3))
    def resize(self, pool: int, maxconn: int) -> None:
        self.members[pool].state.set_limits(0, maxconn)
        self.settled(self.members[pool])

    @rule(pool=pools)
    def forget(self, pool: int) -> None:
        """As an EndpointPool does with one that has nothing; the next who asks makes another."""
        state = self.members[pool].state
        if state.size() or state.waiters:
            return
        state.shut()
        self.limiter.leave(state)
        self.members[pool] = Member(self, self.maxconn)

    @rule()
    def look_anew(self) -> None:
        """A count that was cut off."""
        self.limiter._counting = object()

    def settled(self, member: Member) -> None:
        self.now += 1
        member.settle()
        self.collect()

    def collect(self) -> None:
        """Those who were given something go on."""
        for each in list(self.waiting):
            member, caller = each
            ticket = caller.ticket
            if caller.conn is not None or caller.error is not None:
                self.waiting.remove(each)
                if caller.conn is not None:
                    self.is_their_turn(member, caller.since)
                    self.held.append((member, caller.conn))
            elif ticket is not None and ticket.ref is not None and not ticket.started:
                self.is_their_turn(member, caller.since)
                member.state.begin(ticket)
                self.opening.append((member, ticket))

    # ---- what must hold ----------------------------------------------------------------------------------------------

    def used(self) -> int:
        return sum(len(each.state.entries) + len(each.state.tickets) for each in self.members)

    def within(self) -> None:
        assert self.used() <= self.limiter.limit, "more than the total"

    def in_want(self) -> list[tuple[Member, Caller]]:
        """Those who wait only because of the total."""
        found = []
        for member in self.members:
            state = member.state
            line = [each for each in state.waiters if each.ticket is None or each.ticket.ref is None]
            room = min(state.maxconn - state.size(), len(state.waiters) - len(state.tickets))
            found += [(member, each) for each in line[: max(0, room)] if each.conn is None]
        return found

    def is_their_turn(self, member: Member, since: float) -> None:
        older = [each for other, each in self.in_want() if other is not member and each.since < since]
        assert not older, "who came later was served first"

    def gives_way(self, entry: Any, conn: Any) -> None:
        idle = [each for member in self.members for each in member.state.idle]
        assert all(entry.since <= self.put_at[id(each)] for each in idle), "one that was used later had to give way"

    @invariant()
    def holds(self) -> None:
        type(self).steps += 1
        self.collect()
        self.within()
        assert self.limiter.used == self.used()
        assert self.limiter.closing == 0
        if self.in_want():
            assert self.used() == self.limiter.limit, "somebody waits beside a free slot"
            assert not any(member.state.idle for member in self.members), "somebody waits beside an idle connection"
            lost = [each for member in self.members for each in member.state.lost if isinstance(each, Entry)]
            assert not lost, "somebody waits beside one that was dropped"
        assert set(self.limiter._known) == {member.state.member for member in self.members}
        assert len(self.limiter._ages) <= 64

    def teardown(self) -> None:
        self.opening.clear()
        while self.waiting:
            self.leave(0, vanishes=False)
            self.opening.clear()
        self.held.clear()
        for member in self.members:
            member.settle()
        assert self.used() == sum(len(member.state.idle) for member in self.members)
        assert self.limiter.used == self.used()
        gc.collect(0)
