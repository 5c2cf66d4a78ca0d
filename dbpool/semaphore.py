"""FifoSemaphore: permits, and the queue of those who wait for one. Waking is the shell's; no lock in this file."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 16  # so many may have left before the others close up


class Place(weakref.ref["Waiter"]):
    """The queue's side of a waiter; hashed and compared by the waiter's identity."""

    __slots__ = ()


class Waiter:
    """A caller who waits. The queue holds it weakly: a caller that is gone, however it went, leaves by itself."""

    # As few as can be: thousands may wait.
    __slots__ = (
        "__weakref__", "conn", "error", "ident", "key", "limit", "place", "since", "slept", "terms", "ticket",
    )  # fmt: skip

    def __init__(self, key: Any, ident: int, since: float, limit: float | None = None) -> None:
        self.key = key
        self.ident = ident
        self.since = since
        self.limit = limit  # seconds it may wait, without those in which the process stood still; None: for ever
        self.slept = False
        self.terms: tuple[int, float | None] = (0, None)  # which lease it was given, and how long that was unused
        self.place: Place | None = None
        self.conn: Any = None  # what it is given: a connection ...
        self.error: BaseException | None = None  # ... or the reason why not
        self.ticket: Any = None  # the right to open a connection on the pool's behalf; it goes on waiting

    @property
    def patient(self) -> bool:
        """It waits for what may come; else it wants to know at once why it gets nothing."""
        return self.limit != 0

    @property
    def lease(self) -> int:
        """Which of the leases of its connection it was given."""
        return self.terms[0]

    @property
    def unused(self) -> float | None:
        """For how many seconds nobody had heard of the connection that it was given; None if it needs no look."""
        return self.terms[1]

    def wake(self) -> None:
        """Let the caller look again. Must bear being called more than once."""
        raise NotImplementedError


class FifoSemaphore:
    """At most ``permits`` are out; who wants one more waits in line.

    How many are out is told by the caller (what holds a permit is a connection or a ticket, and those are counted
    where they are kept). ``permits`` None: no limit.

    Who leaves from the midst of the line keeps his place, as one that has left, until that comes to the head, or until
    most of the line has left: so it takes constant time. A place is its waiter's as long as the waiter says so; an
    interrupt between any two steps leaves at worst one place too many, that is nobody's and taken off at the head.
    """

    __slots__ = ("left", "on_gone", "permits", "queue")

    def __init__(self, permits: int | None, on_gone: Callable[[Any], None]) -> None:
        self.permits = permits
        self.queue: deque[Place] = deque()  # after head(): not empty if, and only if, somebody waits
        self.left: dict[Place, None] = {}  # those in the queue whose waiters have left; no others, ever
        self.on_gone = on_gone  # a C function: called with the Place of a waiter that is gone

    def __len__(self) -> int:
        return max(0, len(self.queue) - len(self.left))  # others may change it in between

    def __iter__(self) -> Iterator[Waiter]:
        waiters = [(place, place()) for place in self.queue.copy()]
        return iter([waiter for place, waiter in waiters if waiter is not None and waiter.place is place])

    def idents(self) -> set[int]:
        """The threads that wait."""
        return {waiter.ident for waiter in self}

    def room(self, out: int) -> float:
        """How many more may go out while *out* are."""
        return float("inf") if self.permits is None else self.permits - out

    def join(self, waiter: Waiter) -> None:
        """Stand at the end of the queue."""
        place = Place(waiter, self.on_gone)
        hash(place)  # kept by the reference: it cannot be computed any more once the waiter is gone
        self.queue.append(place)
        waiter.place = place  # only now: a place that its waiter knows is in the queue

    def return_to_head(self, waiter: Waiter) -> None:
        """Stand at the head of the queue again: what it was given was no good."""
        place = Place(waiter, self.on_gone)
        hash(place)
        self.queue.appendleft(place)
        waiter.place = place

    def leave(self, waiter: Waiter) -> None:
        """Leave the queue from wherever in it *waiter* stands, in constant time; nothing if it is not there."""
        place = waiter.place
        if place is None:
            return
        waiter.place = None  # from here on it has left
        if self.queue[0] is place:
            self.queue.popleft()  # dead before the waiter is, so that nothing has to be reaped
            return
        self.left[place] = None
        if len(self.left) > FEW and len(self.left) > len(self):
            self._close_up()

    def clear(self) -> None:
        """Have nobody wait any more."""
        for waiter in self:
            waiter.place = None
        self.left.clear()
        self.queue.clear()

    def _close_up(self) -> None:
        """Most have left: keep only the others."""
        queue = deque([place for place in self.queue if place not in self.left])
        self.left = {}  # first: else, cut off between the two, these would not be in the queue
        self.queue = queue

    def forget(self, place: Place) -> None:
        """Remove the place of a waiter that is gone."""
        if place not in self.left:
            try:
                self.queue.remove(place)
            except ValueError:  # it came to the head before
                pass

    def head(self) -> Waiter | None:
        """The longest waiting one, or None. It stays where it is: peek, give, wake, and only then leave."""
        queue = self.queue
        while queue:
            place = queue[0]
            waiter: Waiter | None = place()
            if waiter is not None and waiter.place is place:
                return waiter
            self.left.pop(place, None)
            queue.popleft()
        return None
