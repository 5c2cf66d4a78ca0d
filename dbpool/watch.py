"""Watch: what the operating system tells of connections without touching them, and a bell to wake who listens.

Each descriptor is registered once, for as long as it is open; closing it ends the registration by itself. (To
unregister a number after its close would silence the next connection that gets it.)
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any
from weakref import ref

from dbpool import fork

LONGEST = 3600.0  # seconds; more than some systems can count
HUNG_UP = getattr(select, "POLLRDHUP", 0) | getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0)


def is_readable(descriptor: int) -> bool:
    """True if there is something to read, the end of the stream included; no round trip, and nothing is read."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])  # pragma: no cover (Windows)


def is_hung_up(descriptor: int) -> bool:
    """True if the other side has closed it; what it sent before may still be there to read."""
    if not hasattr(select, "poll"):  # pragma: no cover (Windows)
        return False
    poll = select.poll()
    poll.register(descriptor, HUNG_UP)
    return any(events & HUNG_UP for _, events in poll.poll(0))


class Watch:
    """Tells which connections were closed by the other side: by epoll, so at no cost while nothing happens.

    Where there is no epoll only the bell works; connections are then looked at when they are handed out.
    """

    def __init__(self) -> None:
        self._watched: dict[int, tuple[ref[Any], Any]] = {}  # descriptor -> whose it is, its entry
        self._ear, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._ear, False)
        self._poller: Any = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._poller.register(self._ear, select.POLLIN)

    @property
    def descriptor(self) -> int | None:
        """What an event loop can listen to: it is readable when wait() has something to tell."""
        found: int | None = self._poller.fileno() if hasattr(self._poller, "fileno") else None
        return found

    def add(self, pool: Any, entry: Any) -> None:
        """Watch an open connection, from now until it is closed. It is known weakly, and so is *pool*."""
        is_weak = isinstance(entry, ref)  # what cannot be known weakly would be kept open
        if entry.socket is None or not is_weak or not hasattr(select, "epoll"):
            return
        descriptor, events = entry.socket[0], select.EPOLLRDHUP | select.EPOLLET
        self._watched[descriptor] = ref(pool), entry
        try:
            self._poller.register(descriptor, events)
        except FileExistsError:  # a closed one had the number, of which a forked child holds a copy
            with contextlib.suppress(OSError):
                self._poller.modify(descriptor, events)
        except OSError:  # closed already, or nothing that can be polled
            self._watched.pop(descriptor, None)

    def wait(self, seconds: float | None) -> list[tuple[Any, Any]]:
        """Sleep until the bell rings, a connection is lost, or *seconds* have passed; return (pool, entry) pairs."""
        scale = 1 if hasattr(select, "epoll") else 1000  # poll() counts in milliseconds
        lost = []
        for descriptor, _ in self._poller.poll(None if seconds is None else min(seconds, LONGEST) * scale):
            if descriptor == self._ear:
                with contextlib.suppress(OSError):
                    os.read(self._ear, 1024)
            else:
                lost += self._confirmed(descriptor)
        return lost

    def _confirmed(self, descriptor: int) -> list[tuple[Any, Any]]:
        """A number may have become another's since: ask its present owner's own descriptor."""
        known = self._watched.get(descriptor)
        pool = None if known is None else known[0]()
        if known is None or pool is None or known[1]() is None or fork.socket_of(descriptor) != known[1].socket:
            return []
        return [(pool, known[1])] if is_hung_up(descriptor) else []

    def ring(self) -> None:
        """Have wait() return. May be called from anywhere, also from a signal handler."""
        with contextlib.suppress(OSError):  # it rings already
            os.write(self._bell, b"!")

    def close(self) -> None:
        """Close the descriptors, of this process only: a forked child's parent keeps its own."""
        for descriptor in (self._ear, self._bell):
            os.close(descriptor)
        if hasattr(self._poller, "close"):
            self._poller.close()
