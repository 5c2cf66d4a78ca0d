"""Journal: what happened in a pool, told by its listener; storms are merged, and what is old is forgotten."""

from __future__ import annotations

from collections import deque
from time import time
from typing import Any

from dbpool.escaping import escaped
from dbpool.listener import PoolListener
from dbpool.locks import RLock
from dbpool.stats import said

MOST = 200  # events that are kept
BACK = 8  # events that are looked at for one that is the same ...
SAME = 10.0  # ... and not older than so many seconds


class Event:
    """One thing that happened, or several of a kind that came one after the other."""

    __slots__ = ("at", "kind", "n", "text", "what")

    def __init__(self, at: float, what: str, kind: str, text: str) -> None:
        self.at = at
        self.what = what
        self.kind = kind  # those of one kind are merged
        self.text = text
        self.n = 1

    def as_json(self) -> dict[str, Any]:
        """Return it as the page reads it."""
        return {"at": round(self.at, 3), "event": self.what, "text": self.text, "n": self.n}


class Journal(PoolListener):
    """Hears of nothing that would make a hit slow."""

    _hears_hits = False

    def __init__(self) -> None:
        self._lock = RLock()  # guards what is below; entered anew by a finalizer that drops a connection
        self._events: deque[Event] = deque(maxlen=MOST)
        self._failing = False

    def renew(self) -> None:
        """In a forked child: its lock may be held by a thread that is not there."""
        self._lock = RLock()

    def as_json(self) -> list[dict[str, Any]]:
        """Return the events, the newest last."""
        with self._lock:
            return [event.as_json() for event in self._events]

    def add(self, what: str, text: str, kind: str = "") -> None:
        """*what* has happened."""
        now, kind = time(), f"{what} {kind}"
        with self._lock:
            for event in list(self._events)[-BACK:]:
                if event.kind == kind and now - event.at < SAME:
                    event.n += 1
                    event.at, event.text = now, escaped(text)
                    self._events.remove(event)
                    self._events.append(event)
                    return
            self._events.append(Event(now, what, kind, escaped(text)))

    # ---- what the pool tells ----------------------------------------------------------------------------------------

    def connected(self, pool: Any, conn: Any, seconds: float) -> None:
        if self._failing:
            self._failing = False
            self.add("recovered", "connecting works again")
        self.add("connected", f"a connection was opened in {seconds:.3f} s")

    def connect_failed(self, pool: Any, error: BaseException) -> None:
        self._failing = True
        self.add("connect_failed", said(error) or "", type(error).__name__)

    def timed_out(self, pool: Any, seconds: float) -> None:
        self.add("timed_out", f"a caller got nothing within {seconds:.1f} s")

    def leaked(self, pool: Any, user: Any) -> None:
        self.add("leak", f"held for longer than leak_threshold: by {user}", str(user.site or user.at))

    def discarded(self, pool: Any, reason: str | None) -> None:
        if reason == "dropped":
            told = pool._state.tally.last_leak
            text, site = ("a connection was dropped without putconn", None) if told is None else told[1:]
            self.add("leak", text, f"dropped {site}")
        else:
            self.add("discarded", f"a connection was closed: {reason}", str(reason))

    def closed(self, pool: Any) -> None:
        self.add("closed", "the pool was closed")
