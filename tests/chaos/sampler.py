"""Sampler: looks again and again at what the server lists, and at who stands in line.

The bound on the backends: at any moment no more than maxconn that hold a slot of the pool's. The server lists others
for some time yet, and those are told apart by our own knowledge, not by the pool's:

- let go: their connection was closed here, or dropped, and they have not noticed. A frozen one does not before it
  thaws, one behind a black hole not before the network is back; any other has LATE seconds.
- strange: of a connect that is under way, which holds a slot; or that has failed or was given up meanwhile, which
  does not. Within the time for connecting, and LATE seconds, each has become known or is gone.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2

from dbpool.clock import uptime
from dbpool.pool import HEARTBEAT

from .history import SLACK
from .scene import CONNECT_TIMEOUT, MAXCONN, name
from .traced import LATE

if TYPE_CHECKING:
    from .scene import Scene

PERIOD = 0.015  # seconds between two looks
SETTLED = 3.0  # seconds after a resize until the old limit counts no more
REMEMBERED = 15.0  # seconds for which a failed connect may explain a backend that nobody knows
QUERY = "SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE 'chaos-%'"


class Count(NamedTuple):
    """The backends that were listed at one moment: all, and the kinds of them."""

    seen: int
    held: int
    strange: int
    let_go: int


class Sampler:
    """A thread with a connection of its own, by the Unix socket."""

    def __init__(self, scene: Scene) -> None:
        self.looks = 0
        self.longest_stall = 0.0  # seconds
        self.most = Count(0, 0, 0, 0)
        self.most_held = 0
        self._scene, self._census = scene, scene.census
        self._strangers: dict[int, float] = {}  # since when they are seen
        self._accused: set[int] = set()
        self._stalled: tuple[Any, float] = (None, 0.0)  # the place in line, and since when
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        dsn = f"{self._scene.cluster.dsn} application_name=sampler connect_timeout=2"
        while not self._stopped.is_set():
            with suppress(psycopg2.Error):  # the server is away
                with closing(psycopg2.connect(dsn)) as conn:
                    conn.autocommit = True
                    with conn.cursor() as cursor:
                        self._look_on(cursor)
            self._stopped.wait(PERIOD)

    def _look_on(self, cursor: Any) -> None:
        while not self._stopped.wait(PERIOD):
            self._scene.look(self._look_at_line)
            asked = time.monotonic()
            cursor.execute(QUERY)
            mine: set[int] = set()
            others: dict[str, int] = {}
            for pid, of in cursor.fetchall():
                if of == name():
                    mine.add(pid)
                else:
                    others[of] = others.get(of, 0) + 1
            self._judge(mine, asked)
            for of, count in others.items():  # children's pools, which close nothing as long as they are used
                if count > MAXCONN:
                    self._scene.accuse("over maxconn", f"{count} backends of the forked {of}")

    def _look_at_line(self) -> None:
        scene, began = self._scene, time.monotonic()
        state = scene.pool._state
        line = [scene.number_of(waiter.ident) for waiter in state.waiters]
        first = next((waiter.place for waiter in state.waiters), None)
        is_room = state.idle or (len(line) > len(state.tickets) and state.may_connect(uptime()))
        # What was closed counts among the discards as soon as it is not being closed any more.
        calm = None if state.closing else [sum(state.discards.values()), state.connect_errors]
        scene.journal.note("note", "line", data={"began": began, "line": line, "calm": calm})
        self._watch_for_stalls(first if is_room else None, began)

    def _watch_for_stalls(self, first: Any, now: float) -> None:
        """*first* in line could be served: for a moment that is as it should be, and if it lasts he was forgotten."""
        if first is None or first is not self._stalled[0]:
            self._stalled = first, now
        stalled = now - self._stalled[1]
        self.longest_stall = max(self.longest_stall, stalled)
        if stalled > HEARTBEAT + SLACK:
            self._stalled = None, now
            self._scene.accuse("forgotten", f"who is first in line has waited beside a free slot for {stalled:.1f} s")

    def _judge(self, seen: set[int], asked: float) -> None:
        """Asked after the server was: what is open now, and was listed then, was open all the time between."""
        census, now = self._census, time.monotonic()
        held = seen & census.open_pids()
        let_go = {pid for pid in seen - held if pid in census.let_go}
        strange = seen - held - let_go
        count = Count(len(seen), len(held), len(strange), len(let_go))
        self.looks += 1
        self.most = max(self.most, count)
        self.most_held = max(self.most_held, count.held)
        limit, given_up = self._scene.limit(SETTLED), census.count_given_up(REMEMBERED)
        if count.held + max(0, count.strange - given_up) > limit:
            text = f"{count.held} backends are held, {count.strange} strange ({given_up} given up), maxconn is {limit}"
            self._scene.accuse("over maxconn", text)
        self._strangers = {pid: self._strangers.get(pid, now) for pid in strange}
        for pid, since in self._strangers.items():
            self._expect_end(pid, since, CONNECT_TIMEOUT + LATE, now, "that nobody knows")
        for pid in set(census.let_go) - seen:  # it is gone, and its number may be given to another
            if census.let_go.get(pid, now) < asked:
                census.let_go.pop(pid, None)
        for pid in let_go:
            self._expect_end(pid, census.let_go.get(pid, now), LATE, now, "whose connection was closed")

    def _expect_end(self, pid: int, since: float, seconds: float, now: float, which: str) -> None:
        since = max(since, self._scene.hears_since)
        if not self._scene.deaf and now - since > seconds and pid not in self._accused:
            self._accused.add(pid)
            self._scene.accuse("backend left", f"backend {pid}, {which}, is listed {now - since:.1f} s later")
