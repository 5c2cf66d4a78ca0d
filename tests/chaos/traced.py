"""Census: the connections of a pool as we see them ourselves, whatever the pool's books say."""

from __future__ import annotations

import itertools
import time
from typing import Any, Callable, NamedTuple
from weakref import ref

from psycopg2.extensions import connection

LATE = 5.0  # seconds in which a backend has to notice that its client is gone
OVERDUE = 0.8  # part of connect_timeout: the pool's clock may have begun before ours


class Session(NamedTuple):
    """An open connection: its backend, and whether the pool had given up on it before it was open."""

    pid: int
    conn: ref[Any]
    is_overdue: bool


class Census:
    """Which connections are being opened, are open, and were let go. Its steps are single ones: no lock."""

    def __init__(self, connect_timeout: float) -> None:
        self.is_closed: Callable[[Any], bool] = lambda conn: False  # if no close of ours tells
        self.numbers = itertools.count(1)
        self.connecting: dict[int, float] = {}  # serial number -> since when
        self.sessions: dict[int, Session] = {}  # those that nobody has closed yet
        self.let_go: dict[int, float] = {}  # backend -> when its connection was closed, or found dropped
        self.in_vain: list[float] = []  # when connects failed: there may be backends of which we know no number
        self.opened = 0
        self._limit = OVERDUE * connect_timeout

    def open_pids(self) -> set[int]:
        """Return the backends of all that is open at this moment and that the pool has a slot for."""
        now = time.monotonic()
        pids = set()
        for serial, session in list(self.sessions.items()):
            conn = session.conn()
            if conn is None or self.is_closed(conn):  # dropped without a close, as an interrupt may have it
                self.sessions.pop(serial, None)
                self.let_go.setdefault(session.pid, now)
            elif not session.is_overdue:
                pids.add(session.pid)
        return pids

    def count_given_up(self, seconds: float) -> int:
        """Return how many connects of the last so many seconds have no slot any more, though their backend may live."""
        now = time.monotonic()
        overdue = [began for began in list(self.connecting.values()) if now - began >= self._limit]
        late = [session for session in list(self.sessions.values()) if session.is_overdue]
        return len(overdue) + len(late) + sum(now - failed <= seconds for failed in reversed(self.in_vain[-1000:]))

    def note_open(self, conn: Any, began: float) -> None:
        """A connection is open now, with its serial number and its backend's."""
        took = time.monotonic() - began
        self.let_go.pop(conn.pid, None)  # the number of one that is gone, given anew
        self.sessions[conn.serial] = Session(conn.pid, ref(conn), took >= self._limit)
        self.opened += 1

    def factory(self) -> type[connection]:
        """Return psycopg2's connection class, but known to this census from its first step to its last."""
        census = self

        class Traced(connection):
            serial = pid = 0

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self.serial = next(census.numbers)
                census.connecting[self.serial] = began = time.monotonic()
                try:
                    super().__init__(*args, **kwargs)
                    self.pid = self.info.backend_pid
                    census.note_open(self, began)
                except BaseException:
                    census.in_vain.append(time.monotonic())
                    raise
                finally:
                    census.connecting.pop(self.serial, None)

            def close(self) -> None:
                if census.sessions.pop(self.serial, None) is not None:
                    census.let_go[self.pid] = time.monotonic()
                super().close()

        return Traced
