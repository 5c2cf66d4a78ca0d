"""One run of a scenario: its threads, locks and identities, all advanced step by step from outside."""

from __future__ import annotations

from collections.abc import Callable, Generator
from heapq import heappop, heappush
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Optional, Union
from weakref import ref

Choice = tuple[int, Optional[bool]]  # which thread, and what it is told: None (a step), True (ready), False (timeout)


class Step:
    """Yielded by a thread that goes on whenever it is its turn."""

    __slots__ = ("label",)

    def __init__(self, label: str) -> None:
        self.label = label

    def __repr__(self) -> str:
        return f"Step({self.label!r})"


class Blocked:
    """Yielded by a thread that goes on once *ready*, told True; with *timeout_ok* also before, told False."""

    __slots__ = ("label", "ready", "timeout_ok")

    def __init__(self, ready: Callable[[], bool], label: str, timeout_ok: bool = False) -> None:
        self.ready = ready
        self.label = label
        self.timeout_ok = timeout_ok

    def __repr__(self) -> str:
        return f"Blocked({self.label!r})"


Pause = Union[Step, Blocked]
Body = Generator[Pause, Any, Any]
BEGIN = Step("begins")


class Thread:
    """A generator, what it waits for, and what it returned."""

    __slots__ = ("body", "ident", "locks", "name", "pause", "result")

    def __init__(self, ident: int, name: str, body: Body | None) -> None:
        self.ident = ident
        self.name = name
        self.body = body  # None once it has ended
        self.pause: Pause = BEGIN
        self.result: Any = None
        self.locks = 0  # how many it holds

    def __repr__(self) -> str:
        return f"<Thread {self.name} {'ended' if self.body is None else self.pause.label}>"


class Ids:
    """Stands for id(): the smallest free number, free again when the object dies, so reuse is walked too."""

    def __init__(self) -> None:
        self.live: dict[int, tuple[int, Callable[[], Any]]] = {}  # real id -> number, reference
        self.free: list[int] = []

    def __call__(self, thing: object) -> int:
        key = id(thing)
        if key not in self.live:
            number = heappop(self.free) if self.free else len(self.live) + 1
            try:
                reference: Callable[[], Any] = ref(thing, lambda _: self._forget(key))
            except TypeError:

                def reference(held: object = thing) -> object:  # cannot die, so its number is never reused
                    return held

            self.live[key] = number, reference
        return self.live[key][0]

    def _forget(self, key: int) -> None:
        heappush(self.free, self.live.pop(key)[0])


class World:
    """What a scenario's build sets as an attribute here is shared, and part of each state's identity."""

    __slots__ = ("__dict__", "__weakref__", "current", "expected", "id", "threads")
    active: World
    over = False  # while a world ends, no handler in compiled code may take another step

    def __init__(self, expected: tuple[type[BaseException], ...] = ()) -> None:
        self.expected = expected  # what may escape from a thread
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

    def advance(self, choice: Choice) -> None:
        """Let one thread run to its next pause. What escapes from it is raised here."""
        thread = self.current = self.threads[choice[0]]
        try:
            thread.pause = thread.body.send(choice[1])  # type: ignore[union-attr]
        except StopIteration as stop:
            thread.body, thread.result = None, stop.value
        except BaseException as error:
            thread.body = None
            if not isinstance(error, self.expected):
                raise

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
        self.id.live.clear()


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

    __slots__ = ("__weakref__", "count", "owner")

    def __init__(self) -> None:
        self.owner = -1
        self.count = 0

    def _is_free(self) -> bool:
        return self.count == 0

    def _is_owned(self) -> bool:
        return self.count > 0 and self.owner == World.active.current.ident

    def enter(self, label: str) -> Body:
        """What `with lock:` is compiled to: one step, at which the thread may have to wait."""
        if not self._is_owned():
            yield Blocked(self._is_free, label)
            self.owner = World.active.current.ident
            World.active.current.locks += 1
        self.count += 1

    def release(self) -> None:
        if not self._is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        self.count -= 1
        if not self.count:
            self.owner = -1
            World.active.current.locks -= 1


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
