"""Where each thread may go from where it is, and what it may touch on the way: who may go on alone for a while."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from .world import Blocked, commute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .world import Block, Choice, Thread, World

Place = tuple[Any, ...]


class Routes:
    """Learnt while exploring, as the conflicts are.

    A place is where a thread stands, in all its frames. If what one thread does next is in conflict with nothing that
    others can do before it has moved, then only its step has to be explored. Others cannot go further than to the
    lock, if it holds that.
    """

    def __init__(self) -> None:
        self.stale = False
        self._next: dict[Place, Block] = {}  # what the next step from there touches
        self._told: dict[Place, set[bool | None]] = defaultdict(set)  # the answers after which that is known
        self._trusted: set[Place] = set()  # where that was relied on
        self._ways = (_Ways(), _Ways())  # to the end; as far as the next lock

    def refresh(self) -> None:
        """A new exploration begins, which takes nothing for granted."""
        self.stale = False
        self._trusted.clear()
        for ways in self._ways:
            ways.claims.clear()

    def learn(self, place: Place, told: bool | None, block: Block, to: Iterable[Place], stops: bool) -> None:
        """A thread at *place* took a step that touched *block*, to places *to*; *stops*: it took a lock."""
        known = self._next.setdefault(place, set())
        self.stale |= place in self._trusted and not block <= known
        known |= block
        self._told[place].add(told)
        self.stale |= self._ways[False].learn(place, block, to)
        self.stale |= self._ways[True].learn(place, set(), ()) if stops else self._ways[True].learn(place, block, to)

    @contextmanager
    def lesson(self, world: World, choice: Choice) -> Iterator[None]:
        """Learn from what the step does that is taken meanwhile."""
        thread, known = world.threads[choice[0]], len(world.threads)
        place, stops = place_of(thread), isinstance(thread.pause, Blocked) and thread.pause.bit
        yield
        went = [each for each in (thread, *world.threads[known:]) if each.body is not None]
        self.learn(place, choice[1], world.block, [place_of(each) for each in went], bool(stops))

    def alone(self, world: World, choices: list[Choice]) -> list[Choice]:
        """The choices of one thread, if it is enough to explore these; else all."""
        threads = [thread for thread in world.threads if thread.body is not None]
        indexes = {index for index, _ in choices}
        if len(indexes) == 1:
            return choices
        places = {thread: place_of(thread) for thread in threads}
        for index in indexes:
            mine = [choice for choice in choices if choice[0] == index]
            if self._is_alone(world, world.threads[index], mine, places, indexes):
                return mine
        return choices

    def _is_alone(
        self, world: World, thread: Thread, mine: list[Choice], places: dict[Thread, Place], enabled: set[int]
    ) -> bool:  # fmt: skip
        place = places[thread]
        if not self._told[place].issuperset(told for _, told in mine):
            return False
        block = self._next[place]
        if isinstance(thread.pause, Blocked):
            block = block | {(thread.pause.name, True)}
        ways = self._ways[thread.locks == (1 << world.locks) - 1]
        others = [other for other in places if other is not thread]
        for other in others:
            if other.ident - 1 not in enabled and isinstance(other.pause, Blocked):
                if other.pause.bit & thread.locks:
                    continue
                key = {(other.pause.name, True)}
                if all(ways.avoids(places[each], key) for each in others if each is not other):
                    continue
            if not ways.avoids(places[other], block):
                return False
        self._trusted.add(place)
        return True


class _Ways:
    """What may be touched from each place on; and what was taken for granted that it is not."""

    def __init__(self) -> None:
        self._later: dict[Place, Block] = defaultdict(set)
        self._before: dict[Place, set[Place]] = defaultdict(set)
        self.claims: dict[Place, Block] = defaultdict(set)

    def avoids(self, place: Place, block: Block) -> bool:
        """Is all that may come from *place* on free of conflicts with *block*?"""
        claims = self.claims[place]
        if block <= claims:
            return True
        if not commute(block, self._later[place]):
            return False
        claims |= block
        return True

    def learn(self, place: Place, block: Block, to: Iterable[Place]) -> bool:
        """True if something that was taken for granted turns out to be wrong."""
        stale = self._add(place, block)
        for each in to:
            self._before[each].add(place)
            stale |= self._add(place, self._later[each])
        return stale

    def _add(self, place: Place, block: Block) -> bool:
        stale, todo = False, [(place, block)]
        while todo:
            place, block = todo.pop()
            new = block - self._later[place]
            if new:
                self._later[place] |= new
                stale = stale or not commute(new, self.claims[place])
                todo += [(each, new) for each in self._before[place]]
        return stale


def place_of(thread: Thread) -> Place:
    """Where a thread stands, in all its frames."""
    found: list[Any] = [thread.ident]
    body: Any = thread.body
    while isinstance(body, GeneratorType):
        found.append(body.gi_frame.f_lasti)
        body = body.gi_yieldfrom
    return tuple(found)
