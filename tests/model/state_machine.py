"""StateMachine: events in any order, for the shipped PoolState as a shell drives it. No rule is ever refused."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Callable

from fakes import UNKNOWN
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dbpool.state import PoolState

from .driving import PATIENCE, Caller, Driver, outcome
from .reference import Reference, Turn

pick = st.integers(0, 7)  # which of those that are there
# What the caller of a rule does next: nothing yet, have the state decide, or also do what it says.
nexts = st.sampled_from(["act", "act", "decide", "nothing"])
limits = st.tuples(st.integers(0, 2), st.integers(1, 3)).map(lambda pair: (min(pair), pair[1]))
options = st.fixed_dictionaries({}, optional={
    "max_overflow": st.sampled_from([0, 1, None]),
    "max_waiting": st.sampled_from([1, 3]),
    "max_connecting": st.sampled_from([1, 2]),
    "keep_surplus": st.booleans(),
    "oldest_first": st.booleans(),
    "at_home": st.booleans(),
})  # fmt: skip
disturbances = [
    "time out", "abandon", "vanish", "hurry", "all put", "all put",
    "resize", "drain", "break idle", "end threads", "close pool", "pass time",
]  # fmt: skip


class StateMachine(RuleBasedStateMachine):
    """What a shell does outside the lock is done at once, by a later rule, or never."""

    state_class: type[PoolState] = PoolState
    examples = steps = 0

    driver: Driver

    @initialize(limits=limits, options=options, opened=st.integers(0, 3))
    def begin(self, limits: tuple[int, int], options: dict[str, Any], opened: int) -> None:
        type(self).examples += 1
        state = self.state_class("test", *limits, connect_limit=PATIENCE, **options)
        self.driver = Driver(state, Reference(*limits, **options))
        self.driver.open(min(opened, limits[1]))
        self.driver.settle("act")

    @rule(key=st.sampled_from([None, None, "a", "b"]), then=nexts)
    def arrive(self, key: Any, then: str) -> None:
        driver = self.driver
        if driver.model.at_home:
            key = driver.thread_key(key)
        if key is None and not driver.state.gate and driver.hit(then):
            return
        turn = Turn(key)
        caller = Caller(driver.now, turn)
        driver.model.arrive(turn)
        given = outcome(driver.state.arrive, caller)
        assert given == turn.answer
        if given is None:
            driver.callers.append(caller)
            driver.settle(then)

    # ---- what is under way ------------------------------------------------------------------------------------------

    @rule(pick=st.integers(0, 15), how=pick, then=nexts)
    def go_on(self, pick: int, how: int, then: str) -> None:
        """Somebody takes the next step; which, is noted."""
        steps = self.steps_under_way()
        if steps:
            step = steps[pick % len(steps)]
            note(f"{step.func.__name__} {step.args[0]}")
            del steps
            step(how)
            del step
        self.driver.settle(then)

    @rule(pick=st.integers(0, 15), how=pick, then=nexts)
    def go_on_too(self, pick: int, how: int, then: str) -> None:
        """So that most of what is begun is ended."""
        self.go_on(pick, how, then)

    def steps_under_way(self) -> list[partial[None]]:
        driver = self.driver
        steps = [partial(self.end_connect, index) for index in range(len(driver.flights))]
        steps += [partial(self.put, number) for number in driver.held]
        steps += [partial(self.put_keyed, index) for index in range(len(driver.state.keyed))]
        for index, caller in enumerate(driver.callers):
            if caller.turn.answer is not None:
                steps.append(partial(self.collect, index))
            elif caller.turn.connect in driver.model.connects and not caller.turn.connect.begun:
                steps.append(partial(self.begin_connect, index))
        if driver.to_close or driver.to_clean:
            steps.append(partial(self.act, 0))
        return steps

    def begin_connect(self, index: int, how: int) -> None:
        caller = self.driver.callers[index]
        assert caller.rings
        assert caller.ticket.claim()
        caller.ticket.started = caller.turn.connect.begun = True
        self.driver.flights.append((caller.ticket, caller.turn.connect))

    def end_connect(self, index: int, how: int) -> None:
        if how < 5:
            self.driver.connected(index)
        elif how < 7:
            self.driver.failed(index)
        else:
            del self.driver.flights[index]

    def collect(self, index: int, how: int) -> None:
        caller = self.driver.callers.pop(index)
        assert caller.rings
        if caller.conn is not None and caller.key is None:
            self.driver.held[caller.conn.number] = caller.conn

    def put(self, number: int, how: int) -> None:
        driver = self.driver
        if how == 7:
            driver.drop(number)
            return
        conn = driver.held.pop(number)
        entry = driver.state.leases.pop(id(conn), None)
        assert (entry is not None) == (number in driver.model.leased)
        if entry is not None:
            driver.give(conn, how > 4)
        assert id(conn) not in driver.state.leases  # a second time it is refused
        assert driver.state.claim_keyed(conn, None) is None

    def put_keyed(self, index: int, how: int) -> None:
        state = self.driver.state
        key = list(state.keyed)[index]
        conn = state.keyed[key]
        # Who shared the key has no use for the connection any more.
        self.driver.callers = [caller for caller in self.driver.callers if caller.conn is not conn]
        assert state.claim_keyed(conn, "another key") is None
        assert state.claim_keyed(conn, key) is state.entries[id(conn)]
        self.driver.give(conn, how > 4)

    def act(self, index: int, how: int) -> None:
        """Do one of the things that were decided; or, interrupted before, drop a connection: that closes it."""
        driver = self.driver
        if driver.to_clean:
            driver.clean()
        elif how > 4 and self.is_in_nobodys_hands(driver.to_close[0]):
            driver.model.gone.add(driver.to_close.pop(0).number)
        else:
            driver.close(how % len(driver.to_close))

    def is_in_nobodys_hands(self, conn: Any) -> bool:
        held = any(conn is other for other in self.driver.held.values())
        return not held and all(caller.conn is not conn for caller in self.driver.callers)

    # ---- what comes between -----------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(disturbances), pick=pick, limits=limits, then=nexts)
    def disturb(self, what: str, pick: int, limits: tuple[int, int], then: str) -> None:
        driver = self.driver
        if what == "resize":
            driver.state.set_limits(*limits)
            driver.model.resize(*limits)
        elif what in ("time out", "abandon", "vanish", "hurry"):
            if driver.callers:
                self.stop_waiting(what, pick % len(driver.callers))
        else:
            disturbance: Callable[[int], None] = getattr(self, what.replace(" ", "_"))
            disturbance(pick)
        driver.settle(then)

    def stop_waiting(self, what: str, index: int) -> None:
        caller, state, model = self.driver.callers[index], self.driver.state, self.driver.model
        if what == "hurry":  # it does not wait for a connection to come back
            state.hurry(caller, self.driver.now)
            model.hurry(caller.turn, self.driver.now + PATIENCE)
            caller.wake()
        elif what == "time out":  # it leaves the line, and only then looks whether it was served
            state.depart(caller)
            model.leave(caller.turn)
            if caller.turn.answer is None:
                del self.driver.callers[index]
        elif what == "abandon":
            model.abandon(caller.turn)
            state.depart(caller)
            if caller.conn is not None:
                state.hand_back(caller)
            del self.driver.callers[index]
        else:
            del caller
            self.driver.vanish(index)

    def pass_time(self, pick: int) -> None:
        self.driver.now += PATIENCE / 4 * pick

    def all_put(self, pick: int) -> None:
        while self.driver.held:
            self.put(next(iter(self.driver.held)), 0)
        while self.driver.state.keyed:
            self.put_keyed(0, 0)

    def drain(self, pick: int) -> None:
        self.driver.state.drain()
        self.driver.model.drain()

    def break_idle(self, pick: int) -> None:
        for conn in [conn for conn in self.driver.state.idle if conn.number % 2 == pick % 2]:
            conn.status = UNKNOWN
            self.driver.model.broken.add(conn.number)

    def end_threads(self, pick: int) -> None:
        waiting = [caller.key for caller in self.driver.callers]
        for key in [key for key in self.driver.threads if key not in waiting]:
            del self.driver.threads[key]
            self.driver.model.ended.append(key)

    def close_pool(self, pick: int) -> None:
        """Not too early: little happens afterwards."""
        if self.driver.made > 6:
            self.driver.state.shut()
            self.driver.model.closed = True
            if pick % 2:
                doomed = self.driver.state.seize()
                assert sorted(conn.number for conn in doomed) == self.driver.model.seize()
                self.driver.to_close += doomed

    # ---- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        type(self).steps += 1
        self.driver.check()

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and hasattr(self, "driver"):
            self.driver.leave_nothing()
