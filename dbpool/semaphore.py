"""FifoSemaphore: permits, and the queue of those who wait for one. Waking is the shell's; no lock in this file."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Place(weakref.ref["Waiter"]):
    """The queue's side of a waiter; hashed and compared by the waiter's identity."""

    __slots__ = ()


class Waiter:
    """A caller who waits. The queue holds it weakly: a caller that is gone, however it went, leaves by itself."""

    __slots__ = (
        "__weakref__", "conn", "error", "ident", "key", "lease", "look", "patient", "place", "since", "slept",
        "ticket", "unused",
    )  # fmt: skip

    # Of the connection that it is given:
    lease: int  # which of its leases that is ...
    look: bool  # ... whether it needs a closer look first ...
    unused: float  # ... and for how many seconds nobody heard of it before

    stood = 0.0  # seconds in which the process stood still: they are not taken off its time-out

    def __init__(self, key: Any, ident: int, since: float) -> None:
        self.key = key
        self.ident = ident
        self.since = since
        self.slept = False
        self.patient = True  # it waits for what may come; else it wants to know at once why it gets nothing
        self.place: Place | None = None
        self.conn: Any = None  # what it is given: a connection ...
        self.error: BaseException | None = None  # ... or the reason why not
        self.ticket: Any = None  # the right to open a connection on the pool's behalf; it goes on waiting

    def wake(self) -> None:
        """Let the caller look again. Must bear being called more than once."""
        raise NotImplementedError


class FifoSemaphore:
    """At most ``permits`` are out; who wants one more waits in line.

    How many are out is told by the caller (what holds a permit is a connection or a ticket, and those are counted
    where they are kept). ``permits`` None: no limit.
    """

    __slots__ = ("on_gone", "permits", "queue")

    def __init__(self, permits: int | None, on_gone: Callable[[Any], None]) -> None:
        self.permits = permits
        self.queue: OrderedDict[Place, None] = OrderedDict()
        self.on_gone = on_gone  # a C function: called with the Place of a waiter that is gone

    def __len__(self) -> int:
        return len(self.queue)

    def __contains__(self, place: Place | None) -> bool:
        return place in self.queue

    def __iter__(self) -> Iterator[Waiter]:
        return iter([waiter for waiter in [place() for place in self.queue] if waiter is not None])

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
        waiter.place = place
        self.queue[place] = None

    def return_to_head(self, waiter: Waiter) -> None:
        """Stand at the head of the queue again: what it was given was no good."""
        self.join(waiter)
        self.queue.move_to_end(waiter.place, last=False)  # type: ignore[arg-type]

    def leave(self, waiter: Waiter) -> None:
        """Leave the queue from wherever in it *waiter* stands, in constant time; nothing if it is not there."""
        if waiter.place is not None:
            self.queue.pop(waiter.place, None)
            waiter.place = None  # dead before the waiter is, so that nothing has to be reaped

    def forget(self, place: Place) -> None:
        """Remove the place of a waiter that is gone."""
        self.queue.pop(place, None)

    def head(self) -> Waiter | None:
        """The longest waiting one, or None. It stays where it is: peek, give, wake, and only then leave."""
        while self.queue:
            place = next(iter(self.queue))
            waiter: Waiter | None = place()
            if waiter is not None:
                return waiter
            self.forget(place)
        return None
