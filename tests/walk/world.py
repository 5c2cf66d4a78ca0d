"""One run of a scenario: its threads, locks and identities, all advanced step by step from outside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from heapq import heappop, heappush
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Optional, Protocol, Union
from weakref import ref

ANYTHING = "*"  # stands for every name
Choice = tuple[int, Optional[bool]]  # which thread, and what it is told: None (a step), True (ready), False (timeout)


class Step:
    """Yielded by a thread that goes on whenever it is its turn.

    *names* are what the access that follows touches, and *writes* tells whether it may change them. Without names it
    is a step at which others may always come between.
    """

    __slots__ = ("label", "names", "writes")

    def __init__(self, label: str, names: Collection[str] | None = None, writes: bool = False) -> None:
        self.label = label
        self.names = names
        self.writes = writes

    def touches(self) -> list[tuple[str, bool]]:
        return [(ANYTHING, True)] if self.names is None else [(name, self.writes) for name in self.names]

    def __repr__(self) -> str:
        return f"Step({self.label!r})"


class Blocked:
    """Yielded by a thread that goes on once *ready*, told True; with *timeout_ok* also before, told False.

    *name* is what must be written by another thread to make it ready; a lock that it waits for has a *bit*.
    """

    __slots__ = ("bit", "label", "name", "ready", "timeout_ok")

    def __init__(
        self, ready: Callable[[], bool], label: str, timeout_ok: bool = False, name: str = ANYTHING, bit: int = 0
    ) -> None:  # fmt: skip
        self.ready = ready
        self.label = label
        self.timeout_ok = timeout_ok
        self.name = name
        self.bit = bit

    def __repr__(self) -> str:
        return f"Blocked({self.label!r})"


Pause = Union[Step, Blocked]
Body = Generator[Pause, Any, Any]
Block = set[tuple[str, bool]]  # the names that steps taken together touch, and whether they may change them
BEGIN = Step("begins", ())


class Thread:
    """A generator, what it waits for, and what it returned."""

    __slots__ = ("body", "ident", "locks", "name", "pause", "result")

    def __init__(self, ident: int, name: str, body: Body | None) -> None:
        self.ident = ident
        self.name = name
        self.body = body  # None once it has ended
        self.pause: Pause = BEGIN
        self.result: Any = None
        self.locks = 0  # those it holds, a bit for each

    def __repr__(self) -> str:
        return f"<Thread {self.name} {'ended' if self.body is None else self.pause.label}>"


class Reduction(Protocol):
    """Knows which steps nobody else could tell from later ones; see reduction.py."""

    def pauses(self, step: Step, thread: Thread) -> bool:
        """Must others be able to come between before *step*?"""

    def note(self, pause: Pause, thread: Thread, name: str, writes: bool, held: int) -> None:
        """What followed *pause* has touched *name*, of which no step told."""


Trace = tuple[str, Callable[[], int], bool]


class Ids:
    """Stands for id(): the smallest free number, free again when the object dies, so reuse is walked too."""

    def __init__(self) -> None:
        self.given = self.freed = 0  # how often
        self.live: dict[int, tuple[int, Callable[[], Any]]] = {}  # real id -> number, reference
        self.free: list[int] = []

    def __call__(self, thing: object) -> int:
        key = id(thing)
        if key not in self.live:
            self.given += 1
            number = heappop(self.free) if self.free else len(self.live) + 1
            try:
                reference: Callable[[], Any] = ref(thing, lambda _: self._forget(key))
            except TypeError:

                def reference(held: object = thing) -> object:  # cannot die, so its number is never reused
                    return held

            self.live[key] = number, reference
        return self.live[key][0]

    def _forget(self, key: int) -> None:
        self.freed += 1
        heappush(self.free, self.live.pop(key)[0])


class World:
    """What a scenario's build sets as an attribute here is shared, and part of each state's identity."""

    __slots__ = (
        "__dict__",
        "__weakref__",
        "block",
        "current",
        "expected",
        "id",
        "locks",
        "reduction",
        "threads",
        "traces",
    )
    active: World
    over = False  # while a world ends, no handler in compiled code may take another step

    def __init__(
        self, expected: tuple[type[BaseException], ...] = (), reduction: Reduction | None = None
    ) -> None:  # fmt: skip
        self.expected = expected  # what may escape from a thread
        self.reduction = reduction  # None: a thread pauses before each step
        self.locks = 0  # how many were made
        self.block: Block = set()  # what others can tell of the last advance
        # What changes without a step that tells of it: by the death of an object, or by its birth. Each has a name, a
        # number that changes, and tells whether the change counts as a write. A scenario adds its own.
        self.traces: list[Trace] = [("id", lambda: self.id.freed, True), ("id", lambda: self.id.given, False)]
        self.threads: list[Thread] = []
        self.current = Thread(0, "build", None)
        self.id = Ids()
        World.active = self

    if TYPE_CHECKING:  # what a scenario sets

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def spawn(self, name: str, body: Body) -> Thread:
        """Start a thread; it runs its first line when it is first chosen."""
        thread = Thread(len(self.threads) + 1, name, body)
        self.threads.append(thread)
        self.block.add(("threads", True))
        return thread

    def choices(self) -> list[Choice]:
        found: list[Choice] = []
        for index, thread in enumerate(self.threads):
            if thread.body is None:
                continue
            pause = thread.pause
            if type(pause) is Blocked:
                if pause.ready():
                    found.append((index, True))
                if pause.timeout_ok:
                    found.append((index, False))
            else:
                found.append((index, None))
        return found

    def costs(self, last: int | None) -> list[tuple[Choice, int]]:
        """The choices, each with what it takes of a bound: 1 for a switch away from *last*, which comes first."""
        choices = self.choices()
        goes_on = any(index == last and told is not False for index, told in choices)
        return sorted(((each, goes_on and each[0] != last) for each in choices), key=lambda each: each[0][0] != last)

    def memory(self, choice: Choice) -> Any:
        """What costs() must be told of the step that led here."""
        return choice[0]

    def begin(self) -> None:
        """Have those who are new run up to where others may come between."""
        if self.reduction is not None:
            for thread in self.threads:
                if thread.pause is BEGIN and thread.body is not None:
                    self._run(thread, None)

    def advance(self, choice: Choice) -> None:
        """Let one thread run to its next pause. What escapes from it is raised here."""
        self.block = set()
        self._run(self.threads[choice[0]], choice[1])
        self.begin()

    def _run(self, thread: Thread, told: bool | None) -> None:
        self.current = thread
        try:
            if self.reduction is None:
                thread.pause = thread.body.send(told)  # type: ignore[union-attr]
            else:
                self._run_reduced(thread, told, self.reduction)
        except StopIteration as stop:
            thread.body, thread.result = None, stop.value
        except BaseException as error:
            thread.body = None
            if not isinstance(error, self.expected):
                raise

    def _run_reduced(self, thread: Thread, told: bool | None, reduction: Reduction) -> None:
        """Take steps until one comes before which others may come between, or before which it may have to wait.

        What was acquired as the first of them might as well have been acquired later, just before the first step that
        others can tell: so that one is taken, too.
        """
        send = thread.body.send  # type: ignore[union-attr]
        unseen = type(thread.pause) is Blocked
        if isinstance(thread.pause, Step):
            self.block.update(thread.pause.touches())
        while True:
            before, pause, held = [trace() for _, trace, _ in self.traces], thread.pause, thread.locks
            try:
                thread.pause = send(told)
            finally:
                told = None
                for was, (name, trace, writes) in zip(before, self.traces):
                    if trace() != was:
                        unseen = False
                        self.block.add((name, writes))
                        reduction.note(pause, thread, name, writes, held & thread.locks)
            if type(thread.pause) is Blocked:
                return
            unseen = unseen and not held & ~thread.locks  # what was released could only have been released earlier
            if reduction.pauses(thread.pause, thread):
                if not unseen or thread.pause.names is None:
                    return
                unseen = False
                self.block.update(thread.pause.touches())

    def label(self, choice: Choice) -> str:
        thread = self.threads[choice[0]]
        return f"{thread.name}: {thread.pause.label}{' (timeout)' if choice[1] is False else ''}"

    def end(self) -> None:
        """Close the threads, and drop the shared state. A body may yield on its way out: it is closed again."""
        World.over = True
        for thread in self.threads:
            self.current = thread
            for _ in range(1000):
                if thread.body is None:
                    break
                try:
                    thread.body.close()
                    thread.body = None
                except BaseException:
                    continue
        World.over = False
        self.__dict__.clear()
        self.threads.clear()
        self.traces.clear()
        self.id.live.clear()


def commute(one: Block, other: Block) -> bool:
    """May two blocks of steps, of different threads, change places?"""
    if (ANYTHING, True) in one or (ANYTHING, True) in other:
        return False
    return not any((name, not writes) in other or (writes and (name, True) in other) for name, writes in one)


def run_in_place(result: Any) -> Any:
    """Run what a call handed back, if it is a thread's body, to its end, as part of the present step."""
    if not isinstance(result, GeneratorType):
        return result
    told: bool | None = None
    while True:
        try:
            pause = result.send(told)
        except StopIteration as stop:
            return stop.value
        if isinstance(pause, Blocked) and not pause.ready():
            raise RuntimeError(f"a function that is not walked would have to wait: {pause.label}")
        told = True if isinstance(pause, Blocked) else None


def check_guard(label: str) -> None:
    """What is guarded by a lock needs no step of its own, if it is never touched without one: that is checked."""
    thread = World.active.current
    assert thread.locks or not thread.ident, f"touched without a lock: {label}"


def walk_id(thing: object) -> int:
    """For rules.replace: what `id` is in compiled modules."""
    return World.active.id(thing)


def walk_ident() -> int:
    """For rules.replace: what `get_ident` is. 0 while the scenario is built."""
    return World.active.current.ident


class WalkLock:
    """For rules.replace: what `RLock` is. Unfair, as the real one: any thread that waits may be next."""

    __slots__ = ("__weakref__", "bit", "count", "owner")

    def __init__(self) -> None:
        self.owner = -1
        self.count = 0
        self.bit = 1 << World.active.locks
        World.active.locks += 1

    def _is_free(self) -> bool:
        return self.count == 0

    def _is_owned(self) -> bool:
        return self.count > 0 and self.owner == World.active.current.ident

    def enter(self, label: str) -> Body:
        """What `with lock:` is compiled to: one step, at which the thread may have to wait."""
        if not self._is_owned():
            yield Blocked(self._is_free, label, name=f"lock {self.bit}", bit=self.bit)
            self.owner = World.active.current.ident
            World.active.current.locks |= self.bit
            World.active.block.add((f"lock {self.bit}", True))
        self.count += 1

    def release(self) -> None:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self.count -= 1
        if not self.count:
            self.owner = -1
            World.active.current.locks &= ~self.bit
            World.active.block.add((f"lock {self.bit}", True))


class WalkSignal:
    """For rules.replace: what `allocate_lock` is: a raw lock on which a waiter sleeps, with a timeout or not.

    "acquire" and "release" must be in rules.calls.
    """

    __slots__ = ("__weakref__", "fresh", "held")

    def __init__(self) -> None:
        self.fresh = True  # not acquired yet, so nobody else knows it: no step
        self.held = False

    def _is_free(self) -> bool:
        return not self.held

    def acquire(self, blocking: bool = True, timeout: float = -1) -> Body:
        if self.fresh:
            got, self.fresh = True, False
        elif blocking:
            got = yield Blocked(self._is_free, "wait", timeout >= 0)
        else:
            yield Step("try to acquire")
            got = not self.held
        self.held = self.held or got
        return got

    def release(self) -> Body:
        yield Step("wake")
        if not self.held:
            raise RuntimeError("release unlocked lock")
        self.held = False

    def locked(self) -> bool:
        return self.held
