"""The walk's own library, tried on a toy pool and on random functions before it is trusted with the real one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from . import toy
from .compiler import Rules, load, patched, walked
from .explorer import Scenario, explore, replay, shortest
from .programs import Writer, hidden, run_compiled, run_original
from .races import race
from .toy import client, dropper, scenario
from .world import Blocked, Body, Step, WalkLock, WalkSignal, World, walk_id, walk_ident

if TYPE_CHECKING:
    from types import ModuleType


NIGHTLY = os.environ.get("DBPOOL_NIGHTLY") == "1"


def compile_text(text: str, **rules: Any) -> ModuleType:
    settings = {"flags": {"gate"}, "containers": {"idle"}, "locks": {"lock"}, "calls": {"look"}, **rules}
    return load({"tried": text}, Rules(**settings))["tried"]


# Compiling


@pytest.mark.parametrize("seed", range(8))
def test_compiled_functions_do_what_the_originals_do_and_free_what_they_free(seed: int) -> None:
    compared = 0
    for number in range(seed * 1000, seed * 1000 + 25):
        text = Writer(number).text()
        try:
            compile(text, "program", "exec")
        except SyntaxError:
            continue  # not every random program is one
        for args in [(0, 1, 2), (2, 0, -1)]:
            assert run_compiled(text, args) == run_original(text, args), f"program {number}:\n{text}"
            compared += 1
    assert compared > 30


def alive_at_each_look(statements: str) -> tuple[list[bool], list[Any]]:
    """Run statements over a box whose idle list holds one item; look() tells whether it is alive."""
    lines = "\n    ".join(["def run(self):", *statements.strip().splitlines()])
    seen: list[bool] = []
    concealed: list[Any] = []

    def look(value: object = None) -> Body:
        del value
        yield Step("look")
        seen.append(bool(world.id.live))

    def forget(*values: object) -> None:
        """Something plain that values are passed to."""

    module = compile_text(lines, replace={"look": look, "forget": forget, "error": ValueError})
    world = World()
    world.idle, world.gate, world.lock = [toy.Connection()], False, WalkLock()
    world.id(world.idle[0])
    body = module.run(world)
    thread = world.spawn("runner", body)
    while thread.body is not None:
        world.advance((0, None if type(thread.pause) is Step else True))
        concealed += hidden(body) if thread.body is not None else []
    return seen, concealed


@pytest.mark.parametrize(
    ("statements", "alive"),
    [
        ("forget(self.idle.pop())\nlook()", [False]),
        ("look(self.idle.pop())", [False]),
        ("forget(self.idle.pop(), look())", [True]),
        ("if self.idle.pop(): look()", [False]),
        ("conn = self.idle.pop()\nlook()\nconn = None\nlook()", [True, False]),
        ("conn = self.idle.pop() and look()", [False]),
        ("conn = (self.idle.pop(), look())\nconn = None\nlook()", [True, False]),
        ("for each in [self.idle.pop()]: look()\nlook()\neach = None\nlook()", [True, True, False]),
        ("for each in [self.idle.pop()]:\n    each = None\n    look()\n    break\nlook()", [True, False]),
        ("try: forget(self.idle.pop(), (look(), 1 / 0))\nexcept ZeroDivisionError: look()", [True, False]),
        (
            (
                "try:\n    try: forget(self.idle.pop(), (look(), 1 / 0))\n    finally: look()\n"
                "except error: pass\nexcept ZeroDivisionError: look()"
            ),
            [True, False, False],
        ),
        ("with self.lock:\n    return self.idle.pop()", []),
        ("try:\n    return self.idle.pop()\nfinally:\n    look()", [True]),
        ("try:\n    conn = self.idle.pop()\n    return conn\nfinally:\n    conn = None\n    look()", [True]),
        ("try:\n    return self.idle.pop()\nfinally:\n    return look()", [True]),
        ("held = [self.idle.pop()]\nfor each in held:\n    held = each = None\n    look()", [True]),
    ],
)
@pytest.mark.filterwarnings("ignore:'return' in a 'finally':SyntaxWarning")  # as CPython 3.14 has it
def test_temporaries_hold_nothing_longer_than_the_value_stack(statements: str, alive: list[bool]) -> None:
    seen, concealed = alive_at_each_look(statements)
    assert seen == alive
    assert not concealed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def f(self):\n    return [x for x in self.idle]", "needs list()"),
        ("def f(self):\n    return [x.gate for x in list(self.idle)]", "within a comprehension"),
        ("def f(self):\n    return sorted(self.it, key=lambda x: x.gate)", "in a lambda"),
        ("def f(self):\n    it = enumerate(self.idle)", "read lazily"),
        ("def f(self):\n    queue = self._idle", "under another name"),
        ("def f(self):\n    take = self._idle.pop", "not in rules.bound"),
        ("def f(self):\n    while self.gate: pass\n    else: pass", "while ... else"),
        ("def f(self):\n    with open(self.gate): pass", "not on a lock"),
        ("def f(self):\n    values = self.idle.values()", "view of a shared container"),
        (
            "def f(self):\n    while True:\n        try: pass\n        finally:\n            break; self.gate",
            "break or",
        ),
        ("class A:\n    @property\n    def size(self): return len(self.idle)", "reads shared state unseen"),
        ("async def f(self):\n    self.gate = 1", "async"),
    ],
)
def test_what_cannot_be_walked_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(SyntaxError, match=rf"tried\.py:\d+ .*{why}"):
        compile_text(text)


def test_a_patch_must_meet_exactly_one_place() -> None:
    assert patched("a b", "b", "c") == "a c"
    with pytest.raises(ValueError, match="once, not 2 times"):
        patched("b b", "b", "c")


def test_each_access_is_a_step_named_by_its_line() -> None:
    module = compile_text("def f(self):\n    idle = self._idle\n    self.gate += 1\n    return idle.pop() or len(idle)")
    world = World()
    world.gate, world._idle = 0, [7]
    thread = world.spawn("a", module.f(world))
    told = []
    while thread.body:
        told.append(world.label((0, None)))
        world.advance((0, None))
    assert told == [
        "a: begins",
        "a: tried.py:3 load of self.gate += 1",
        "a: tried.py:3 store of self.gate += 1",
        "a: tried.py:4 idle.pop()",
    ]
    assert thread.result == 7
    assert world.gate == 1


def test_compiled_modules_import_each_other_and_keep_their_classes() -> None:
    module = toy.compile_toy()
    assert walked(module) == {
        f"Pool.{name}" for name in ["getconn", "putconn", "_obtain", "_settle", "_match", "_take"]
    }
    assert module.Waiter("signal") == module.Waiter("signal", None)
    assert module.Entry.__module__ == "walk.toy.entry"
    assert module.Pool[int] is not None


def test_what_is_not_walked_runs_walked_functions_within_its_callers_step() -> None:
    module = compile_text(
        "class Box:\n"
        "    def __init__(self):\n        self.idle = []\n        self.fill(2)\n"
        "    def fill(self, number):\n        for each in range(number): self.idle.append(each)\n"
        "    def __len__(self): return sum(self.weigh(each) for each in (1, 2))\n"
        "    def weigh(self, number): return number * len(self.idle)"
    )
    World()
    box = module.Box()
    assert box.idle == [0, 1]
    assert len(box) == 6


def test_what_a_lock_guards_takes_no_step_but_must_not_be_touched_without_it() -> None:
    text = "def f(self):\n    with self.lock:\n        self.idle.append(1)\n    {}\n    return len(self.out)"

    def steps(line: str) -> int:
        def build(world: World) -> None:
            world.lock, world.idle, world.out = WalkLock(), [], []
            world.spawn("a", module.f(world))

        rules = {"containers": {"idle", "out"}, "guarded": {"idle"}}
        module = compile_text(text.format(line), **rules)
        result = explore(Scenario("guarded", build))
        assert result.violation is None, result
        return result.transitions

    assert steps("pass") == 4  # begins, with, leave, len
    with pytest.raises(AssertionError, match=r"died of AssertionError: touched without a lock: tried.py:4 len"):
        steps("len(self.idle)")


# Exploring


def test_two_clients_on_one_connection_are_explored_completely() -> None:
    result = explore(scenario(toy.compile_toy(), [client, client]))
    print(result)
    assert result.verdict == "complete"
    assert result.states > 1000
    assert result.transitions > result.states


def test_depth_first_and_breadth_first_see_the_same_states() -> None:
    tried = scenario(toy.compile_toy(), [client, client], size=2)
    assert explore(tried).states == shortest(tried).states


@pytest.mark.parametrize("seed", range(12 if NIGHTLY else 4))
def test_a_reduced_exploration_reaches_every_end_that_a_full_one_reaches(seed: int) -> None:
    spared = 0
    for number in range(seed * 100, seed * 100 + (40 if NIGHTLY else 4)):
        tried = race(number)
        full, reduced = explore(tried, max_states=4000), explore(tried, reduced=True)
        assert reduced.verdict == "complete"
        if full.verdict == "complete":
            assert reduced.ends == full.ends, tried.name
            spared += full.transitions - reduced.transitions
        else:
            assert reduced.ends >= full.ends, tried.name
    assert spared > 0


@pytest.mark.parametrize("patch", [(), toy.LOOK_BEFORE_APPEND, toy.GATE_CLEARED_WHILE_ONE_WAITS, toy.SECOND_CONNECTION])
@pytest.mark.parametrize("clients", [[client, client], [client, dropper]])
def test_a_reduced_exploration_finds_what_a_full_one_finds(patch: tuple[str, ...], clients: list[Any]) -> None:
    tried = scenario(toy.compile_toy(*patch), clients)
    full, reduced = explore(tried), explore(tried, reduced=True)
    assert (full.violation is None) == (reduced.violation is None)
    assert reduced.ends == full.ends or full.violation
    assert full.violation or reduced.transitions < full.transitions


def test_a_lost_wake_up_is_found_by_a_shortest_path() -> None:
    tried = scenario(toy.compile_toy(*toy.LOOK_BEFORE_APPEND), [client, client])
    result = shortest(tried)
    print(result)
    found = result.violation
    assert found is not None
    assert found.message.startswith("deadlock")
    assert found.path.index("a: pool.py:53 self._gate") < found.path.index("a: pool.py:54 self._idle.append(conn)")
    assert list(found.path) == replay(tried, found.choices)
    longer = explore(tried).violation
    assert longer is not None
    assert len(longer.path) >= len(found.path)


@pytest.mark.parametrize("patch", [toy.GATE_CLEARED_WHILE_ONE_WAITS, toy.SECOND_CONNECTION])
def test_other_planted_bugs_are_found(patch: tuple[str, str]) -> None:
    result = shortest(scenario(toy.compile_toy(*patch), [client, client]))
    assert result.verdict == "violation", result


def test_a_dropped_lease_wakes_nobody_without_a_heartbeat() -> None:
    tried = [client, dropper]
    assert "deadlock" in str(explore(scenario(toy.compile_toy(), tried)))
    result = explore(scenario(toy.compile_toy(*toy.HEARTBEAT), tried))
    assert result.verdict == "complete", result


def test_a_deadlock_of_two_locks_is_found() -> None:
    text = "def both(lock, other_lock):\n    with lock, other_lock: pass"
    module = compile_text(text, locks={"lock", "other_lock"})

    def build(world: World) -> None:
        world.one, world.two = WalkLock(), WalkLock()
        world.spawn("a", module.both(world.one, world.two))
        world.spawn("b", module.both(world.two, world.one))

    found = shortest(Scenario("locks", build)).violation
    assert found is not None
    assert found.message.startswith("deadlock")
    assert len(found.path) == 4


def test_bounds_and_limits_are_told_in_the_verdict() -> None:
    tried = scenario(toy.compile_toy(), [client, client])
    bounded = [explore(tried, bound=bound) for bound in range(3)]
    assert [each.verdict for each in bounded] == [f"bounded k={bound}" for bound in range(3)]
    states = [each.states for each in bounded] + [explore(tried).states]
    assert states == sorted(set(states))
    assert explore(tried, max_states=100).verdict == "cut" == explore(tried, max_seconds=0).verdict


def test_an_identity_is_used_again_only_after_its_object_died() -> None:
    world = World()
    first, second = toy.Connection(), toy.Connection()
    assert (walk_id(first), walk_id(second), walk_id(first), walk_ident()) == (1, 2, 1, 0)
    del first
    third, fourth = toy.Connection(), toy.Connection()
    assert (walk_id(third), walk_id(fourth), world.id(second)) == (1, 3, 2)


def test_a_signal_may_time_out_at_any_moment() -> None:
    def sleeper(world: World) -> Body:
        signal = WalkSignal()
        yield from signal.acquire()
        world.got = yield from signal.acquire(True, 1.0)

    def build(world: World) -> None:
        world.got = None
        world.spawn("a", sleeper(world))

    def final(world: World) -> None:
        assert world.got is False

    assert explore(Scenario("timeout", build, final=final)).verdict == "complete"


def test_what_escapes_a_thread_is_a_violation_unless_it_is_expected() -> None:
    def fail() -> Body:
        yield Blocked(lambda: True, "soon")
        raise KeyError("lost")

    def build(world: World) -> None:
        world.spawn("a", fail())

    assert "a died of KeyError: 'lost' (" in str(explore(Scenario("fails", build)))
    assert explore(Scenario("fails", build, expected=(KeyError,))).verdict == "complete"


def test_what_outlives_a_run_is_noticed() -> None:
    def build(world: World) -> None:
        world.items = kept
        for name in "abc":
            world.spawn(name, append(world))

    def append(world: World) -> Body:
        for _ in range(3):
            yield Step("append")
            world.items.append(1)

    kept: list[int] = []
    with pytest.raises(RuntimeError, match="something outlives its run"):
        explore(Scenario("leaky", build), max_states=5000)
