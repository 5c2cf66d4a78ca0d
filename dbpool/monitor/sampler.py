"""Sampler: one thread that looks at the pools each second; what it sees is made once, and shared by all who ask."""

from __future__ import annotations

# What is else imported when it is first needed: a child that is forked just then would wait for its import for ever.
import faulthandler  # noqa: F401
import os
import re  # noqa: F401
import threading
from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Callable
from weakref import WeakSet, ref

from dbpool import verdict  # noqa: F401
from dbpool.locks import RLock
from dbpool.monitor.found import Found
from dbpool.monitor.onloop import reported
from dbpool.monitor.process import helping, line
from dbpool.monitor.report import broken
from dbpool.monitor.series import columns
from dbpool.monitor.written import written

if TYPE_CHECKING:
    from collections.abc import Iterable

PERIOD = 1.0  # seconds between two looks
STALE = 1.5  # seconds after which what was made at the last look is made anew
PATIENCE = 5.0  # seconds that close() waits for the thread
VERSION = 1
Document = dict[str, Any]
_all: WeakSet[Sampler] = WeakSet()


class Sampler:
    """What is known of the pools of this process; with *workers*, which asks them, of its neighbours', too."""

    def __init__(self, pools: Iterable[Any] | None, actions: bool = False, csrf: str | None = None) -> None:
        self.found = Found(pools)
        self.workers: Any = None
        self._actions, self._csrf = actions, csrf if actions else None
        self._epoch = time() - monotonic()
        self._renew()
        _all.add(self)
        _hook()

    def _renew(self) -> None:
        self._lock = RLock()  # guards the pools that were found, the state and the rows
        self._making = threading.Lock()  # guards _made; its holder may wait for the neighbours
        self._changed = threading.Condition(threading.Lock())  # guards tick, the thread and the bells
        self._thread: threading.Thread | None = None
        self._closed = False
        self.tick = 0  # how many looks there were
        self._looked = float("-inf")  # when the last one was
        self._bells: dict[Any, Callable[[], Any]] = {}  # viewers -> what tells them of a look
        self._state: tuple[int, float, Document] | None = None
        self._rows: dict[str, Any] = {}
        self._made: dict[str, tuple[int, float, bytes]] = {}  # what was asked for -> at which look, when, the answer

    # ---- the thread -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Have the thread run: in a forked process it is not there until somebody asks."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._changed:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            thread = threading.Thread(target=_run, args=(ref(self),), name="dbpool-monitor", daemon=True)
            with suppress(RuntimeError):  # there can be none: who asks looks
                thread.start()
                self._thread = thread

    def close(self) -> None:
        """End the thread, and forget the pools. It can begin again."""
        with self._changed:
            self._closed = True
            thread, self._thread = self._thread, None
        self._tell()
        if thread is not None and thread is not threading.current_thread():
            thread.join(PATIENCE)
        with self._lock:
            self.found.leave()

    def reopen(self) -> None:
        """Begin again after close()."""
        self._closed = False
        self.begin()

    @property
    def closed(self) -> bool:
        return self._closed

    def look(self) -> None:
        """Write the rows of the histories, and keep what the streams tell of them."""
        with self._lock:
            now, rows = monotonic(), {}
            for watched, pool in self.found.now():
                with suppress(Exception):  # the others' rows are worth more than none
                    row = watched.row(pool, now, self._epoch)
                    if row is not None:
                        rows[watched.id] = row
            with self._changed:
                self._rows, self._looked, self.tick = rows, now, self.tick + 1
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            bells = list(self._bells.values())
        for bell in bells:
            with suppress(Exception):  # a loop that was closed
                bell()

    def wait(self, beyond: int, seconds: float) -> bool:
        """Wait for a look after the one of that number; False if there was none."""
        with self._changed:
            self._changed.wait_for(lambda: self.tick > beyond or self._closed, seconds)
            return self.tick > beyond

    def rest(self, seconds: float) -> None:
        """Wait until it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    def hear(self, viewer: Any, bell: Callable[[], Any] | None) -> None:
        """Have *bell* called, quickly, at each look; None: no more."""
        with self._changed:
            if bell is None:
                self._bells.pop(viewer, None)
            else:
                self._bells[viewer] = bell

    # ---- what is asked for ------------------------------------------------------------------------------------------

    def pools(self) -> list[tuple[Any, Any]]:
        """Return what is known of each pool, and the pool."""
        with self._lock:
            return self.found.now()

    def document(self, history: bool = False) -> Document:
        """Return what this process has to say, to its neighbours, too."""
        self._keep_up()
        with self._lock:
            found: Document = {"state": self._now(), "rows": self._rows}
            if history:
                found["history"] = self._histories()
        return found

    def text(self, kind: str) -> tuple[int, bytes]:
        """Return at which look it was made, and the JSON that written() makes of that *kind*."""
        with self._making:
            self._keep_up()
            made = self._made.get(kind)
            if made is None or made[0] != self.tick or monotonic() - made[1] > STALE:
                tick = self.tick  # before: told of a row twice is better than never
                document = self._all(history=kind in ("history", "first"))
                made = self._made[kind] = tick, monotonic(), written(kind, document)
        return made[0], made[2]

    def _keep_up(self) -> None:
        """Look, if the thread is not there, or does not come to it."""
        self.begin()
        if monotonic() - self._looked > 2 * PERIOD:
            self.look()

    def _all(self, history: bool) -> Document:
        """Return what all processes have to say. Takes no lock of ours: each may be asked by another just now."""
        own = self.document(history)
        if self.workers is None:
            return own
        from dbpool.monitor.workers import merged

        return merged(own, self.workers.others(history=history))

    def _now(self) -> Document:
        made = self._state
        if made is None or made[0] != self.tick or monotonic() - made[1] > STALE:
            made = self._state = self.tick, monotonic(), self._seen()
        return made[2]

    def _seen(self) -> Document:
        process = line()
        return {
            "version": VERSION,
            "now": round(time(), 3),
            "actions": self._actions,
            "csrf": self._csrf,
            "process": process,
            "processes": [{"pid": process["pid"], "uptime": process["uptime"], "stale": False}],
            "pools": [_told(watched, pool) for watched, pool in self.found.now()],
            "left_out": self.found.left_out,
        }

    def _histories(self) -> Document:
        found = {}
        for watched, pool in self.found.now():
            if watched.history is not None:
                found[watched.id] = columns(watched.history, pool.maxconn, self._epoch)
        return found

    def _renew_after_fork(self) -> None:
        closed = self._closed
        self.found.renew()
        self._renew()
        self._closed = closed

    def __del__(self) -> None:
        with suppress(Exception):
            self.found.leave()


def _told(watched: Any, pool: Any) -> Document:
    try:
        found = reported(pool, watched)
    except Exception as exc:
        found = broken(pool, exc)
    return {"id": watched.id, "pid": os.getpid(), **found, "events": watched.journal.as_json()}


def _run(known: Any) -> None:
    """What the thread does; it does not keep the sampler alive while it waits."""
    with helping():
        sampler = known()
        while sampler is not None and not sampler.closed:
            began = monotonic()
            with suppress(Exception):
                sampler.look()
            sampler.rest(max(PERIOD / 10, PERIOD - (monotonic() - began)))
            sampler = None
            sampler = known()


_hooked = False


def _hook() -> None:
    global _hooked
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(after_in_child=_renew_all)


def _renew_all() -> None:
    for sampler in list(_all):
        sampler._renew_after_fork()
