"""The explorer itself, proven on toys: it switches where it should, repeats, counts, and notices who is stuck."""

from __future__ import annotations

import sys
from random import Random
from typing import Any, Callable

import pytest

import dbpool.abstract
import dbpool.registry
import dbpool.state

from .baton import BEGIN, Scheduler, Stuck
from .exploring import STRATEGIES, run, watched
from .planting import planted
from .points import functions_of, points_of
from .programs import SMALL, random_program
from .stand_ins import Bell, ReentrantLock
from .strategies import InTurn, plans

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def adder(scheduler: Scheduler, total: list[int]) -> Callable[[], None]:
    """Return a thread's work: an addition in two steps, with a yield point between."""

    def add() -> None:
        before = total[0]
        scheduler.point()
        total[0] = before + 1

    return add


def test_all_plans_find_a_lost_update() -> None:
    totals = []
    for strategy in plans(1):
        scheduler, total = Scheduler(strategy), [0]
        scheduler.spawn("one", adder(scheduler, total))
        scheduler.spawn("other", adder(scheduler, total))
        scheduler.run()
        totals.append(total[0])
    assert sorted(totals) == [1, 1, 2, 2]  # either begins, and is interrupted or not


@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_strategy_finds_a_lost_update(kind: str) -> None:
    found = set()
    for seed in range(300):
        scheduler, total = Scheduler(STRATEGIES[kind](Random(seed))), [0]
        for name in "abc":
            scheduler.spawn(name, adder(scheduler, total))
        scheduler.run()
        found.add(total[0])
    assert {1, 3} <= found


@pytest.mark.parametrize("kind", STRATEGIES)
def test_a_seed_repeats_its_schedule(kind: str) -> None:
    for seed in range(20):
        with watched():
            first, again = (run(random_program(Random(seed)), STRATEGIES[kind](Random(seed))) for _ in range(2))
        assert first.switches == again.switches
        assert first.now == again.now


def test_two_locks_in_two_orders_are_stuck() -> None:
    outcomes = []
    for strategy in plans(1):
        scheduler = Scheduler(strategy)
        locks = [ReentrantLock(scheduler), ReentrantLock(scheduler)]

        def both(first: Any, second: Any) -> None:
            with first, second:
                pass

        scheduler.spawn("one", both, *locks)
        scheduler.spawn("other", both, *reversed(locks))
        try:
            scheduler.run()
            outcomes.append("ended")
        except Stuck as stuck:
            outcomes.append(str(stuck))
    assert set(outcomes) == {"ended", "for ever asleep: one, other"}


def test_time_passes_when_all_sleep() -> None:
    scheduler = Scheduler(InTurn())
    bell, heard = Bell(scheduler), []
    bell.acquire()

    def listen() -> None:
        heard.extend([bell.acquire(True, 1.0), scheduler.now - BEGIN, bell.acquire(True, 5.0), scheduler.now - BEGIN])

    def ring() -> None:
        scheduler.sleep(3.0)
        bell.release()

    scheduler.spawn("listener", listen)
    scheduler.spawn("ringer", ring)
    scheduler.run()
    assert heard == [False, 1.0, True, 3.0]


def test_what_a_thread_raises_ends_the_run() -> None:
    scheduler = Scheduler(InTurn())
    ended = []

    def wait() -> None:
        try:
            scheduler.sleep(1.0)
        finally:
            ended.append("unwound")

    scheduler.spawn("sleeper", wait)
    scheduler.spawn("broken", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        scheduler.run()
    assert ended == ["unwound"]


def test_the_tracer_of_this_thread_stays() -> None:
    before = sys.gettrace()
    with watched():
        run(SMALL["turns"], InTurn())
        assert sys.gettrace() is before
    assert sys.gettrace() is before


def test_each_step_of_a_hit_is_a_yield_point() -> None:
    hits = {code.co_name: len(points_of(code)) for name in ("getconn", "putconn")
            for code in functions_of(getattr(dbpool.abstract.AbstractConnectionPool, name).__code__)}  # fmt: skip
    assert hits["getconn"] >= 15
    assert hits["putconn"] >= 8
    with watched():
        assert run(SMALL["turns"], InTurn()).step >= 2 * 23


def test_planting_is_undone() -> None:
    code = dbpool.registry.Registry.size.__code__
    with planted("dbpool.registry", ("return len(self.entries) + len(self.tickets)", "return 7")):
        assert dbpool.state.PoolState("", 0, 1).size() == 7
    assert dbpool.state.PoolState("", 0, 1).size() == 0
    assert dbpool.registry.Registry.size.__code__ is code
    with pytest.raises(AssertionError, match="not once, but 0 times"), planted("dbpool.state", ("no such text", "")):
        pass
