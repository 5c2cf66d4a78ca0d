"""TaskMachine: tasks that wait in line at an AsyncConnectionPool, are cancelled, get and put, beside the reference."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from fakes import UNKNOWN
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from unit.awaiting import AwaitedDriver

from dbpool.clock import uptime

from .driving import word
from .in_loop import InLoop
from .reference import Turn
from .simple_machine import SimpleModel
from .state_machine import limits, pick

options = st.fixed_dictionaries({}, optional={
    "max_overflow": st.sampled_from([0, 1, None]),
    "idle_timeout": st.just(0),
    "idle_order": st.sampled_from(["lifo", "fifo"]),
})  # fmt: skip


async def some_steps() -> None:
    """Let the callers go on, each of whom is woken by what the pool's own tasks have done."""
    for _ in range(4):
        await asyncio.sleep(0)


class TaskModel(SimpleModel):
    """What is decided is done at once, connects too; but callers wait."""

    def act(self) -> None:
        before: Any = None
        while before != (before := (self.made, len(self.queue), sorted(self.open), list(self.idle))):
            super().act()
            for connect in self.connects:
                connect.begun = True  # all at a time
            for connect in self.connects[:1]:
                self.made += 1
                if self.fails:
                    self.fails = False
                    self.failed(connect, "OperationalError")
                else:
                    self.connected(connect, self.made)

    def connect(self, connect: Any) -> None:
        raise NotImplementedError

    def arrive_and_act(self, turn: Turn) -> None:
        if turn.key is None and not self.diverts() and self.idle:
            number = self.idle.pop(0 if self.oldest_first else -1)
            if number not in self.broken:
                self.lease(number, turn)
                turn.answer = number
                return
            self.close_leased(number)
        self.arrive(turn)
        self.act()


class TaskMachine(RuleBasedStateMachine):
    """Each rule is something that happens; then the loop runs until nothing is left to do."""

    examples = steps = 0
    pool: Any = None

    @initialize(limits=limits, config=options)
    def begin(self, limits: tuple[int, int], config: dict[str, Any]) -> None:
        type(self).examples += 1
        self.driver = AwaitedDriver()
        self.driver.keep = False
        self.model = TaskModel(*limits, config)
        config = {**config, "timeout": None, "background": False, "start": "lazy", "detect_deadlock": False}
        self.pool = InLoop(*limits, connect=self.driver, config=config)
        self.tasks: list[tuple[Turn, Any]] = []  # those who wait
        self.held: dict[int, tuple[Any, Any]] = {}  # number -> connection, key

    def run(self, work: Any = None) -> None:
        """Run the loop until all that can be done is done; take what the tasks were given."""
        for each in (work, None, None):
            self.pool.do(each or some_steps())
        for turn, task in list(self.tasks):
            if turn.answer is not None:
                assert task.done(), f"{turn.answer} does not come"
                self.tasks.remove((turn, task))
                error = task.exception()
                assert turn.answer == (task.result().number if error is None else word(error))
                if error is None:
                    self.held[turn.answer] = task.result(), turn.key
            else:
                assert not task.done(), "served out of turn"

    @rule(key=st.sampled_from([None, None, None, "a", "b"]), fails=st.sampled_from([False, False, False, True]))
    def get(self, key: Any, fails: bool) -> None:
        self.driver.fail_on = {self.driver.calls + 1} if fails else set()
        self.model.fails = fails
        turn = Turn(key)
        self.model.arrive_and_act(turn)
        self.tasks.append((turn, self.pool.loop.create_task(self.pool.shell.getconn(key, 1000))))
        self.run()
        self.driver.fail_on, self.model.fails = set(), False

    @rule(pick=pick)
    def cancel(self, pick: int) -> None:
        """Somebody who waits."""
        if self.tasks:
            turn, task = self.tasks.pop(pick % len(self.tasks))
            self.model.abandon(turn)
            self.model.act()
            task.cancel()
            self.run()
            assert task.cancelled()

    @rule(pick=pick)
    def time_out(self, pick: int) -> None:
        """The time of somebody who waits is up."""
        if self.tasks:
            turn, _ = self.tasks[pick % len(self.tasks)]
            waiter: Any = list(self.pool.shell._state.waiters)[self.model.queue.index(turn)]
            waiter.deadline = uptime()
            self.model.leave(turn)
            turn.answer = "PoolTimeout"
            self.model.act()
            self.run(self._ring())

    async def _ring(self) -> None:
        self.pool.shell._rang()

    @rule(pick=pick, how=st.sampled_from(["clean", "clean", "dirty", "breaks"]), close=st.booleans())
    def put(self, pick: int, how: str, close: bool) -> None:
        if self.held:
            number = list(self.held)[pick % len(self.held)]
            conn, key = self.held.pop(number)
            if how == "breaks":
                conn.status = UNKNOWN
                self.model.broken.add(number)
            elif how == "dirty" and not conn.closed:
                conn.execute()
            if number in self.model.users:
                self.model.put_back(number, close)
                self.run(self.pool.shell.putconn(conn, key, close))

    @rule(pick=pick)
    def drop(self, pick: int) -> None:
        """Without putconn; then somebody comes by."""
        free = [number for number, (_, key) in self.held.items() if key is None]
        if free:
            number = free[pick % len(free)]
            self.model.drop(number)
            self.model.act()
            del self.held[number]
            self.pool.do(self._come_by())
            self.run()

    async def _come_by(self) -> None:
        self.pool.shell._settle()

    @rule(how=st.sampled_from(["resize", "drain", "break"]), limits=limits, pick=pick)
    def change(self, how: str, limits: tuple[int, int], pick: int) -> None:
        if how == "resize":
            self.model.resize(*limits)
            self.model.act()
            self.run(self.pool.shell.resize(*limits))
        elif how == "drain":
            self.model.drain()
            self.model.act()
            self.run(self.pool.shell.drain())
        else:
            for conn in list(self.pool.shell._idle)[: pick % 3]:
                conn.status = UNKNOWN
                self.model.broken.add(conn.number)

    # ---- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if self.pool is None:
            return
        type(self).steps += 1
        stats, model, state = self.pool.stats(), self.model, self.pool.shell._state
        assert self.driver.calls == model.made
        assert stats.waiting == len(model.queue) == len(self.tasks)
        assert [conn.number for conn in state.idle] == model.idle
        assert stats.size == model.size() == len(model.idle) + stats.used
        assert {key: conn.number for key, conn in state.keyed.items()} == model.keyed
        assert stats.opened - sum(stats.discards.values()) == stats.size
        assert not stats.connecting
        assert not stats.closing

    def teardown(self) -> None:
        if self.pool is not None and sys.exc_info()[0] is not None:
            self.pool.leave()
        elif self.pool is not None:
            while self.tasks:
                self.cancel(0)
            self.held.clear()
            self.pool.close(timeout=0)
            assert self.pool.stats().size == 0
            self.pool.end()
