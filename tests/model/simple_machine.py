"""SimpleMachine: a real pool of either shell, used through its public methods, beside the reference."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from typing import Any, Callable

from fakes import INTRANS, UNKNOWN, FakeConnector, FakeDriver
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from unit.awaiting import AwaitedDriver

from dbpool import SimpleConnectionPool

from .driving import outcome
from .in_loop import InLoop
from .reference import Connect, Reference, Turn
from .state_machine import limits, pick

keys = st.sampled_from([None, None, "a", "b", 0])
options = st.fixed_dictionaries({}, optional={
    "max_overflow": st.sampled_from([0, 1, None]),
    "max_uses": st.just(3),
    "idle_timeout": st.just(0),
    "idle_order": st.sampled_from(["lifo", "fifo"]),
    "reset": st.sampled_from(["rollback", "commit", "clean"]),
    "start": st.sampled_from(["eager", "lazy"]),
})  # fmt: skip


@dataclass
class Block:
    """A with block that was entered. Nested ones under one key share a lease."""

    manager: Any
    conn: Any
    turn: Turn  # whose lease it is
    key: Any


class SimpleModel(Reference):
    """The reference as one thread sees it: what is decided is done at once."""

    def __init__(self, minconn: int, maxconn: int, config: dict[str, Any]) -> None:
        super().__init__(
            minconn, maxconn, max_overflow=config.get("max_overflow", 0),
            keep_surplus=config.get("idle_timeout") != 0, oldest_first=config.get("idle_order") == "fifo",
        )  # fmt: skip
        self.max_uses = config.get("max_uses")
        self.uses: dict[int, int] = {}
        self.made = 0
        self.fails = False  # connecting

    def lease(self, number: int, turn: Turn) -> None:
        super().lease(number, turn)
        self.uses[number] = self.uses.get(number, 0) + 1

    def act(self) -> None:
        close, _ = self.settle(0, 1)
        while close:
            self.gone |= set(close)
            close, _ = self.settle(0, 1)

    def connect(self, connect: Connect) -> None:
        self.made += 1
        if self.fails:
            self.failed(connect, "OperationalError")
        else:
            self.connected(connect, self.made)
        self.act()

    def fill(self) -> None:
        while self.size() < self.minconn and self.may_connect():
            self.connects.append(Connect(None, 1))
            self.connect(self.connects[-1])

    def get(self, key: Any) -> Any:
        if self.max_uses is None and key is None and not self.diverts() and self.idle:
            number = self.idle.pop(0 if self.oldest_first else -1)
            if number not in self.broken:
                self.lease(number, Turn())
                return number
            self.close_leased(number)
        turn = Turn(key)
        self.arrive(turn)
        if isinstance(turn.answer, int):
            return turn.answer  # its key has it already
        self.act()
        self.hurry(turn, 1)
        if turn.connect in self.connects:
            self.connect(turn.connect)
        if turn.answer is None:
            turn.answer = "PoolExhausted"
            self.leave(turn)
            self.act()
        return turn.answer

    def put_back(self, number: int, close: bool) -> None:
        worn = self.max_uses is not None and self.uses[number] >= self.max_uses
        if close or worn or number in self.broken or number in self.retired:
            self.close_leased(number)
        else:
            noticed = self.diverts() or self.gone or self.max_uses is not None
            self.put(number)
            if noticed:
                self.act()

    def close_leased(self, number: int) -> None:
        self.dismiss(number)
        self.gone.add(number)
        self.act()


class SimpleMachine(RuleBasedStateMachine):
    """Each rule predicts the connection or the error, and then asks the pool."""

    examples = steps = 0
    pool: Any = None

    @initialize(limits=limits, config=options)
    def begin(self, limits: tuple[int, int], config: dict[str, Any]) -> None:
        type(self).examples += 1
        self.model = SimpleModel(*limits, config)
        if config.get("start") != "lazy":
            self.model.fill()
        self.pool = self.make(limits, config)
        self.lazy = config.get("start") == "lazy"
        self.held: list[Any] = []  # without a key
        self.blocks: list[Block] = []
        self.keepers: set[Turn | None] = set()  # the keyed leases that somebody has who is in no block
        self.depths: dict[Turn, list[Any]] = {}  # of keyed blocks: how deep, and whether the first leased it

    def make(self, limits: tuple[int, int], config: dict[str, Any]) -> Any:
        """Return a pool, over a driver that keeps no connection alive."""
        self.driver = FakeDriver()
        self.driver.keep = False
        return SimpleConnectionPool(*limits, connect=FakeConnector(self.driver.connect), config=config)

    def call(self, expected: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it; it must raise the error whose name is *expected*, or return what has that number."""
        got: list[Any] = []
        assert expected == outcome(lambda: got.append(function(*args, **kwargs)) or got[0])
        return got[0] if got else None

    def failing(self, fails: bool) -> None:
        """Have the next connect fail, in the model and the driver."""
        self.model.fails = fails
        self.driver.fail_on = {self.driver.calls + 1} if fails else set()

    # ---- getconn and putconn ----------------------------------------------------------------------------------------

    @rule(key=keys, fails=st.sampled_from([False, False, True]))
    def getconn(self, key: Any, fails: bool) -> None:
        self.failing(fails)
        conn = self.call(self.model.get(key), self.pool.getconn, key)
        if key is None and conn is not None:
            self.held.append(conn)
        elif conn is not None:
            self.keepers.add(self.model.leaser(conn.number))

    def use(self, conn: Any, how: str) -> None:
        if how == "breaks":
            conn.status = UNKNOWN
            self.model.broken.add(conn.number)
        elif how == "dirty" and not conn.closed:
            conn.status = INTRANS

    def put(self, conn: Any, close: bool, **key: Any) -> None:
        """Give it back; a second time it is refused."""
        leased = conn.number in self.model.users
        refusal = "PoolClosed" if self.model.closed else "PoolError"
        if leased:
            self.model.put_back(conn.number, close)
        self.call(None if leased else refusal, self.pool.putconn, conn, close=close, **key)
        self.call(refusal, self.pool.putconn, conn)

    @rule(pick=pick, how=st.sampled_from(["clean", "dirty", "breaks"]), close=st.booleans())
    def putconn(self, pick: int, how: str, close: bool) -> None:
        if not self.held:
            self.getconn(None, False)
        if self.held:
            conn = self.held.pop(pick % len(self.held))
            self.use(conn, how)
            self.put(conn, close)

    @rule(pick=pick, how=st.sampled_from(["clean", "dirty", "breaks"]), named=st.booleans())
    def putconn_keyed(self, pick: int, how: str, named: bool) -> None:
        if not self.model.keyed:
            self.getconn("a", False)
            return
        key = list(self.model.keyed)[pick % len(self.model.keyed)]
        conn = self.call(self.model.keyed[key], self.pool.getconn, key)
        self.use(conn, how)
        self.call("PoolError", self.pool.putconn, conn, "another key")
        self.put(conn, False, **({"key": key} if named else {}))

    @rule(pick=pick, cycle=st.sampled_from([False, False, False, True]))
    def drop(self, pick: int, cycle: bool) -> None:
        """Without putconn; unless a with block knows it still, from an earlier lease."""
        index = pick % max(1, len(self.held))
        if not self.held or any(block.conn is self.held[index] for block in self.blocks):
            return
        conn = self.held.pop(index)
        self.model.drop(conn.number)
        if cycle:
            conn.myself = conn
        del conn
        if cycle:
            gc.collect()

    # ---- with blocks ------------------------------------------------------------------------------------------------

    @rule(key=keys)
    def enter(self, key: Any) -> None:
        self.failing(False)
        leased = key in self.model.keyed
        manager = self.pool.connection(key)
        conn = self.call(self.model.get(key), manager.__enter__)
        if conn is not None:
            turn = self.model.leaser(conn.number)
            self.blocks.append(Block(manager, conn, turn, key))
            if key is not None:
                depth = self.depths.setdefault(turn, [0, False])
                depth[0] += 1
                depth[1] = depth[1] or not leased

    @rule(pick=pick, how=st.sampled_from(["clean", "dirty", "dirty", "breaks"]), fails=st.booleans())
    def leave(self, pick: int, how: str, fails: bool) -> None:
        if not self.blocks:
            self.enter("b")
            return
        block = self.blocks.pop(pick % len(self.blocks))
        conn, number = block.conn, block.conn.number
        if self.model.leaser(number) is block.turn:
            self.use(conn, how)
        error = ValueError() if fails else None
        expected = self.ending(block, fails)
        raised = outcome(block.manager.__exit__, error and ValueError, error, None)
        assert raised in expected, f"{raised} is not one of {expected}"
        assert raised or number in self.model.users or conn.closed or conn.status != INTRANS

    def ending(self, block: Block, fails: bool) -> list[Any]:
        """Put the connection back in the model if the block does; return what may be raised, or None."""
        number = block.conn.number
        if self.model.leaser(number) is not block.turn:
            return [None] if fails else ["PoolError", "PoolClosed", "OperationalError"]
        commits = not fails
        if block.key is not None:
            depth = self.depths[block.turn]
            depth[0] -= 1
            depth.append(fails)
            if depth[0]:
                return [None]
            commits = not any(depth[2:])
            del self.depths[block.turn]
        raises = commits and number in self.model.broken and (block.key is not None or block.conn.status)
        if block.key is None or self.puts(block.turn, depth):
            self.model.put_back(number, False)
        return ["OperationalError"] if raises else [None]

    def puts(self, turn: Turn, depth: list[Any]) -> bool:
        """Does the last block under a key put the connection? If the first one leased it."""
        return bool(depth[1])

    # ---- changing the pool ------------------------------------------------------------------------------------------

    @rule(how=st.sampled_from(["resize", "drain", "break", "close", "closeall"]), pick=pick, limits=limits)
    def change(self, how: str, pick: int, limits: tuple[int, int]) -> None:
        model = self.model
        self.failing(False)
        if how == "resize":
            model.resize(*limits)
            model.act()
            if not self.lazy:
                model.fill()
            self.pool.resize(*limits)
        elif how == "drain":
            model.drain()
            model.act()
            self.pool.drain()
        elif how == "break":
            for conn in self.pool._pool[: pick % 3]:
                self.use(conn, "breaks")
        elif model.made > 6:
            self.close(how)

    def close(self, how: str) -> None:
        already, self.model.closed = self.model.closed, True
        self.model.gone |= set(self.model.seize())
        self.model.act()
        self.call("PoolClosed" if already and how == "closeall" else None, getattr(self.pool, how))
        assert all(conn.closed for conn in self.held)

    # ---- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        type(self).steps += 1
        stats, model = self.pool.stats(), self.model
        assert self.driver.calls == model.made
        assert [conn.number for conn in self.pool._pool] == model.idle
        assert stats.size == model.size() == len(model.idle) + stats.used
        assert stats.opened - sum(stats.discards.values()) == stats.size
        assert stats.leases == sum(model.uses.values())
        assert not stats.waiting
        assert not stats.connecting
        assert not stats.closing
        assert {key: conn.number for key, conn in self.pool._used.items() if key in ("a", "b", 0)} == model.keyed

    def teardown(self) -> None:
        if sys.exc_info()[0] is None and self.pool is not None:
            if self.model.closed:
                assert not self.model.size()
            self.close("close")
            assert self.pool.stats().size == 0
        self.end()

    def end(self) -> None:
        """Nothing is left of a SimpleConnectionPool."""


class AwaitedMachine(SimpleMachine):
    """The same, over an AsyncConnectionPool whose callers do not wait for a return."""

    examples = steps = 0
    driver: Any

    def make(self, limits: tuple[int, int], config: dict[str, Any]) -> Any:
        self.driver = AwaitedDriver()
        self.driver.keep = False
        config = {**config, "timeout": 0, "background": False}
        return InLoop(*limits, connect=self.driver, config=config)

    def puts(self, turn: Turn, depth: list[Any]) -> bool:
        """If nobody else has it: other tasks may use the key."""
        return turn not in self.keepers

    def end(self) -> None:
        if self.pool is not None:
            self.pool.leave() if sys.exc_info()[0] is not None else self.pool.end()
