"""Storms: of many lines alike, which are written; and how many were left out, to be told later."""

from __future__ import annotations

from dbpool.clock import uptime
from dbpool.locks import RLock

BURST, WINDOW = 5, 10.0  # of one event at most so many lines in so many seconds


class Storms:
    """What one pool has said of late, by event."""

    def __init__(self) -> None:
        self._lock = RLock()  # guards what is below; entered anew by a finalizer that logs
        self._said: dict[str, tuple[float, int]] = {}  # event -> since when it is counted, and the lines since then
        self._left_out: dict[str, tuple[int, int]] = {}  # event -> lines that were not written, and their level

    def admit(self, event: str, level: int) -> int | None:
        """Return None if a line of *event* is to be left out; else how many were before it, to be told with it."""
        now = uptime()
        with self._lock:
            began, lines = self._said.get(event, (now, 0))
            if now - began >= WINDOW:
                began, lines = now, 0
            self._said[event] = began, lines + 1
            if lines < BURST:
                return self._left_out.pop(event, (0, 0))[0]
            self._left_out[event] = self._left_out.get(event, (0, 0))[0] + 1, level
            return None

    def over(self, at_once: bool) -> list[tuple[str, int, int]]:
        """Return the events of which lines were left out, how many and their level: once their storm is over."""
        with self._lock:
            return self._ended(at_once, uptime())

    def _ended(self, at_once: bool, now: float) -> list[tuple[str, int, int]]:
        ended = [event for event in self._left_out if at_once or now - self._said[event][0] >= WINDOW]
        return [(event, *self._left_out.pop(event)) for event in ended]
