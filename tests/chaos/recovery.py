"""Tracker: how long after a fault the pool serves again, and how long until all of its capacity does."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

LOOK = 0.002  # seconds between two looks


class Recovery(NamedTuple):
    """Seconds from the moment when service was possible again."""

    first: float  # until the first operation that began after it had succeeded
    full: float  # until that many connections as the pool may have did so, each for a lease that began after it


class Tracker:
    """Is told of each success by the threads of the load, without a lock: they may be interrupted."""

    def __init__(self) -> None:
        self._served: deque[tuple[int, float, float]] = deque(maxlen=10_000)
        self._armed = False

    def served(self, conn: int, leased: float, now: float) -> None:
        """An operation on a connection, leased at that time, has succeeded."""
        if self._armed:
            self._served.append((conn, leased, now))

    def arm(self) -> None:
        """Listen from now on: a fault is about to strike."""
        self._served.clear()
        self._armed = True

    def recovery(self, healed: float, capacity: int, patience: float) -> Recovery | None:
        """Wait until the pool has served with all of its capacity since *healed*; None if it did not in time."""
        conns: set[int] = set()
        times: list[float] = []
        while time.monotonic() < healed + patience:
            while self._served:
                conn, leased, now = self._served.popleft()
                if leased >= healed:
                    times.append(now - healed)
                    conns.add(conn)
                if len(conns) >= capacity:
                    self._armed = False
                    return Recovery(min(times), times[-1])
            time.sleep(LOOK)
        self._armed = False
        return None
