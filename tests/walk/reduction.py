"""Which steps commute with all that others do: learnt while exploring. They need no order of their own (Lipton)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .world import Pause, Step, Thread

Access = tuple[int, bool, int]  # which thread, whether it may change the thing, and under which locks (a bit for each)


class Learned:
    """What each thread of one scenario was seen to touch.

    Two accesses are in conflict if different threads make them, at least one may change the thing, and no lock is held
    in both. A step that is in conflict with nothing that was seen is taken together with the one before it. What was
    seen grows while one explores; if a conflict comes to light, what was explored until then is *stale*, and the
    exploration begins again. It ends with one that has seen nothing new: all that it took together commutes.
    """

    def __init__(self) -> None:
        self.stale = False
        self._accesses: dict[str, set[Access]] = defaultdict(set)
        self._traces: dict[tuple[str, int], set[tuple[str, Access]]] = defaultdict(set)
        self._known: dict[tuple[str, int, int], bool] = {}

    def refresh(self) -> None:
        """A new exploration begins."""
        self.stale = False
        self._known.clear()

    def pauses(self, step: Step, thread: Thread) -> bool:
        """Is *step* in conflict with anything that was seen, or what follows it?"""
        if step.names is None:
            return True
        key = (step.label, thread.ident, thread.locks)
        found = self._known.get(key)
        if found is None:
            access = (thread.ident, step.writes, thread.locks)
            touched = [(name, access) for name in step.names]
            for name, _ in touched:
                self._add(name, access)
            found = self._known[key] = self._clash([*touched, *self._traces[step.label, thread.ident]])
        return found

    def note(self, pause: Pause, thread: Thread, name: str, writes: bool, held: int) -> None:
        """What followed *pause* has touched *name*: an object died, or was born."""
        access = (thread.ident, writes, held)
        self._add(name, access)
        traces = self._traces[pause.label, thread.ident]
        if (name, access) not in traces:
            traces.add((name, access))
            self.stale = self.stale or self._clash([(name, access)])

    def _add(self, name: str, access: Access) -> None:
        if access not in self._accesses[name]:
            self._accesses[name].add(access)
            self.stale = self.stale or self._clash([(name, access)])

    def _clash(self, accesses: Iterable[tuple[str, Access]]) -> bool:
        return any(
            ident != other and (writes or may_write) and not held & also_held
            for name, (ident, writes, held) in accesses
            for other, may_write, also_held in self._accesses[name]
        )
