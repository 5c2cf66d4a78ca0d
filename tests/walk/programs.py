"""Random functions, as text, to compare what a compiled function does with what the original does."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace
from gc import get_referents
from random import Random
from types import CellType, FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any
from weakref import ref

from .canon import SNAPSHOTS
from .compiler import Rules, load
from .world import Blocked, Body, Step, WalkLock, World

if TYPE_CHECKING:
    from collections.abc import Callable

RULES = Rules(
    flags={"gate", "level"},
    containers={"idle", "leases"},
    locks={"lock"},
    calls={"probe"},
    replace={"RLock": WalkLock},
)
HEAD = """
from _thread import RLock
class Box:
    def __init__(self):
        self.gate = False
        self.level = 1
        self.idle = deque([item(1), item(2), item(3)])
        self.leases = {1: item(5), 2: item(6)}
        self.lock = RLock()
        self.plain = self.turns = 0
"""


class Writer:
    """Writes one function `run(self, a, b, c)` of a Box; what a seed writes is always the same."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.lines: list[str] = []
        self.loops = 0
        self.finals = 0

    def text(self) -> str:
        self.add(0, "def run(self, a, b, c):")
        self.add(1, "idle = self.idle; d = e = f = 0")
        self.block(1, 4, depth=3)
        self.add(1, "return a, b, c, d, e, f")
        return HEAD + "\n".join(f"    {line}" for line in self.lines) + "\n"

    def add(self, level: int, line: str) -> None:
        self.lines.append("    " * level + line)

    def block(self, level: int, size: int, depth: int) -> None:
        for _ in range(self.rng.randint(1, size)):
            kinds = ["assign"] * 4 + ["store", "augment", "delete", "unpack", "bare", "leave", "check"]
            if depth:
                kinds += ["if_"] * 2 + ["while_", "for_", "try_", "try_", "with_"]
            getattr(self, self.rng.choice(kinds))(level, depth)

    def name(self) -> str:
        return self.rng.choice("abcdef")

    def expr(self, depth: int = 3) -> str:
        pick, sub = self.rng.choice, lambda: self.expr(depth - 1)
        leaves = [
            self.name,
            lambda: str(self.rng.randint(0, 3)),
            lambda: "self.gate",
            lambda: "self.level",
            lambda: "self.plain",
            lambda: "len(self.idle)",
            lambda: "idle[0]",
            lambda: "idle.pop()",
            lambda: "sum(self.leases.values())",
            lambda: "list(idle)[-1]",
            lambda: "next(iter(self.leases), 0)",
        ]
        if depth <= 0:
            return pick(leaves)()
        nodes = [
            lambda: f"probe({sub()})",
            lambda: f"probe({sub()})",
            lambda: f"({sub()} {pick('+-%')} {sub()})",
            lambda: f"({sub()} and {sub()})",
            lambda: f"({sub()} or {sub()} or {sub()})",
            lambda: f"(not {sub()})",
            lambda: f"({sub()} if {sub()} else {sub()})",
            lambda: f"({sub()} {pick(['<', '<=', '=='])} {sub()} < {sub()})",
            lambda: f"({sub()} >= {sub()})",
            lambda: f"({sub()} in self.leases)",
            lambda: f"max({sub()}, probe({sub()}), *[{sub()}], key=int)",
            lambda: f"self.leases.get({sub()}, {sub()})",
            lambda: f"({self.name()} := {sub()})",
            lambda: f"len(f'{{{sub()}}}{{{sub()}:>4}}')",
            lambda: f"sum([x for x in [{sub()}, {sub()}]])",
            lambda: f"max({{{sub()}: {sub()}, **{{{sub()}: 1}}}}.values())",
            lambda: f"[{sub()}, {sub()}][0]",
            lambda: f"sum(x for x in list(idle) if x > {self.name()})",
            lambda: "bool(self.idle and self.leases)",
        ]
        return pick(leaves + nodes * 2)()

    def assign(self, level: int, depth: int) -> None:
        self.add(level, f"{self.name()} = {self.expr()}")

    def store(self, level: int, depth: int) -> None:
        target = self.rng.choice(
            [
                "self.gate",
                "self.level",
                "self.plain",
                f"self.leases[{self.expr(1)}]",
                f"d = self.level = {self.name()}",
            ]
        )
        self.add(level, f"{target} = {self.expr()}")

    def augment(self, level: int, depth: int) -> None:
        target = self.rng.choice([self.name(), "self.level", "self.plain", f"self.leases[{self.expr(1)}]"])
        self.add(level, f"{target} += {self.expr(2)}")

    def delete(self, level: int, depth: int) -> None:
        self.add(level, f"del self.leases[{self.expr(1)}]")

    def unpack(self, level: int, depth: int) -> None:
        target = self.rng.choice(["a, b", "self.level, c", "self.gate, *e", "[self.plain, self.leases[1]]"])
        self.add(level, f"{target} = {self.expr(1)}, {self.expr(2)}")
        self.add(level, "e = 1")

    def bare(self, level: int, depth: int) -> None:
        self.add(level, self.expr())

    def leave(self, level: int, depth: int) -> None:
        kinds = [
            f"return [{self.expr()}]",
            f"raise ValueError({self.expr(1)})",
            f"raise KeyError({self.name()})",
        ]
        if self.loops and not self.finals:
            kinds += ["break", "continue"] * 2
        self.add(level, f"if {self.expr(2)}: {self.rng.choice(kinds)}")

    def check(self, level: int, depth: int) -> None:
        self.add(level, f"assert {self.expr(2)} or a != {self.expr(1)}, {self.expr(1)}")

    def if_(self, level: int, depth: int) -> None:
        self.add(level, f"if {self.rng.choice([self.expr(), 'self.idle', 'not idle'])}:")
        self.block(level + 1, 2, depth - 1)
        if self.rng.random() < 0.5:
            self.add(level, f"elif {self.expr(2)}:")
            self.block(level + 1, 2, depth - 1)
        if self.rng.random() < 0.5:
            self.add(level, "else:")
            self.block(level + 1, 2, depth - 1)

    def _loop(self, level: int, head: str, depth: int) -> None:
        self.add(level, head)
        self.add(level + 1, "self.turns += 1")
        self.add(level + 1, "if self.turns > 50: raise OverflowError")
        finals, self.finals = self.finals, 0
        self.loops += 1
        self.block(level + 1, 3, depth - 1)
        self.loops -= 1
        self.finals = finals

    def while_(self, level: int, depth: int) -> None:
        self._loop(level, f"while {self.rng.choice([self.expr(2), 'self.idle', 'True'])}:", depth)

    def for_(self, level: int, depth: int) -> None:
        source = self.rng.choice(
            [
                f"range(int({self.expr(1)}))",
                "list(idle)",
                "self.idle",
                "self.leases.values()",
                f"[{self.expr(1)}, {self.expr(2)}]",
            ]
        )
        self._loop(level, f"for {self.name()} in {source}:", depth)

    def try_(self, level: int, depth: int) -> None:
        self.add(level, "try:")
        self.block(level + 1, 3, depth - 1)
        catches = self.rng.random() < 0.7
        if catches:
            head = self.rng.choice(["(KeyError, IndexError)", "ValueError as f", "Exception", "TypeError"])
            self.add(level, f"except {head}:")
            self.block(level + 1, 2, depth - 1)
            self.add(level + 1, self.rng.choice(["raise", "pass", "f = 2"]))
            self.add(level, "except BaseException: f = 3")
            if self.rng.random() < 0.4:
                self.add(level, "else:")
                self.block(level + 1, 2, depth - 1)
        if not catches or self.rng.random() < 0.5:
            self.add(level, "finally:")
            self.finals += 1
            self.block(level + 1, 2, depth - 1)
            self.finals -= 1

    def with_(self, level: int, depth: int) -> None:
        self.add(level, "with self.lock:")
        self.block(level + 1, 3, depth - 1)


Outcome = tuple[str, list[str], str]


class Item(float):
    """A number that can be referred to weakly."""


class Log:
    """What was probed in which order, and which items were alive then."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.items: list[ref[Item]] = []

    def item(self, value: float) -> Item:
        made = Item(value)
        self.items.append(ref(made))
        return made

    def note(self, value: Any) -> Any:
        alive = [number for number, each in enumerate(self.items) if each() is not None]
        self.lines.append(f"{value!r} alive {alive}")
        return value


def run_original(text: str, args: tuple[int, ...]) -> Outcome:
    """Run the function as Python does: result or error, the log, the box afterwards."""
    log = Log()
    space: dict[str, Any] = {"probe": log.note, "item": log.item, "deque": deque}
    exec(text, space)
    box = space["Box"]()
    return _outcome(box, log, lambda: box.run(*args))


def run_compiled(text: str, args: tuple[int, ...]) -> Outcome:
    """Run its compiled form to the end."""
    log = Log()

    def probe(value: Any) -> Body:
        yield Step("probe")
        return log.note(value)

    rules = replace(RULES, replace={**RULES.replace, "probe": probe, "item": log.item, "deque": deque})
    World()
    box = load({"box": text}, rules)["box"].Box()
    return _outcome(box, log, lambda: _drive(box.run(*args)))


def _drive(body: Any) -> Any:
    if not isinstance(body, GeneratorType):
        return body  # a program without a step
    told: Any = None
    while True:
        try:
            told = type(body.send(told)) is Blocked or None
        except StopIteration as stop:
            return stop.value
        assert not hidden(body), f"not in the locals of a suspended frame: {hidden(body)}"


def hidden(body: Any) -> list[Any]:
    """What a suspended frame holds on its value stack alone, but for exceptions in flight and positions."""
    if sys.version_info < (3, 11):
        return []  # there a generator does not tell
    names = body.gi_frame.f_locals
    known = [names, *names.values(), body.gi_frame, body.gi_yieldfrom, body.gi_code, body.gi_frame.f_globals]
    if SNAPSHOTS:
        names.clear()
    found = [each for each in get_referents(body) if not any(each is other for other in known)]
    return [
        each for each in found if not isinstance(each, (BaseException, CellType, FunctionType, int, str, type(None)))
    ]


def _outcome(box: Any, log: Log, run: Callable[[], Any]) -> Outcome:
    try:
        result = repr(run())
    except Exception as error:
        result = repr(error)
    assert not box.lock._is_owned(), "the lock is still held"
    return result, log.lines, repr((list(box.idle), box.leases, box.gate, box.level, box.plain))
